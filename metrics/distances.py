"""Distances between two sets of features: Fréchet (FID) and kernel (KID) Inception distance.

    FID = |mu1 - mu2|² + tr(S1) + tr(S2) - 2 tr((S1 S2)^½)

(Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017, eq. 6). The
last trace is computed without a matrix square root of the product. For any R1, R2 with R1ᵀR1 = S1 and R2ᵀR2 = S2 it is
the sum of the singular values of R1 R2ᵀ. R may be the centred features themselves (over √(n-1)), which is exact and
quick for few images, or a factor of S (Cholesky, eigenvalues). Either way the result is real, finite and not negative.

    KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(x, y) = (x·y/d + 1)³

over pairs of different images x, x' of one set, y, y' of the other, and one of each (Bińkowski et al., "Demystifying
MMD GANs", 2018, section 4): an unbiased estimate, which may therefore be negative.
"""
from typing import NamedTuple

import numpy as np

from metrics.statistics import FeatureStatistics, Gaussian
from util.errors import UserError

KID_MIN_IMAGES = 4  # two subsets of two


def fid(real: Gaussian | FeatureStatistics, fake: Gaussian | FeatureStatistics) -> float:
    """The Fréchet distance between two sets of statistics of the same dims; at least 0."""
    difference, (root1, root2) = real.mean - fake.mean, (real.root, fake.root)
    singular_values = np.linalg.svd(root1 @ root2.T, compute_uv=False)
    spread = np.square(root1).sum() + np.square(root2).sum()  # tr(RᵀR), without making the covariances
    return max(0.0, float(difference @ difference + spread - 2 * singular_values.sum()))


class KID(NamedTuple):
    """The kernel distance with its standard error, and the subsets that it was taken over."""

    value: float
    error: float
    subsets: int
    subset_size: int


def kid(real: np.ndarray, fake: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> KID:
    """The kernel distance between features [n, d] and [m, d]: the mean over random subsets of both.

    A subset has ``subset_size`` images, at most half of the smaller set. How much the subsets differ then also tells
    the standard error of the mean as an estimate for all possible images, not these alone (the delete-d jackknife:
    Shao & Wu, "A General Theory for Jackknife Variance Estimation", 1989); where the sets are of unequal size it is an
    upper bound.

    :param seed: of the choice of subsets.
    :raises UserError: fewer than four images in a set.
    """
    smaller = min(len(real), len(fake))
    if smaller < KID_MIN_IMAGES:
        raise UserError(f"KID of {len(real)} and {len(fake)} images: it needs at least {KID_MIN_IMAGES} on each side")
    size = min(subset_size, smaller // 2)
    rng = np.random.default_rng(seed)
    estimates = [unbiased_mmd(*(features[rng.choice(len(features), size, replace=False)] for features in (real, fake)))
                 for _ in range(subsets)]
    # two variances: of the mean over all subsets about the truth, and of the drawn subsets about that mean
    error = np.std(estimates, ddof=1) * np.sqrt(size / (smaller - size) + 1 / subsets)
    return KID(float(np.mean(estimates)), float(error), subsets, size)


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The squared maximum mean discrepancy of features [n, d] and [m, d] under the cubic kernel, without bias."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    within = [(kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1))
              for kernel in (_cubic_kernel(x, x), _cubic_kernel(y, y))]
    return sum(within) - 2 * _cubic_kernel(x, y).mean()


def _cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
