"""Gaussian statistics of features: mean and unbiased covariance in float64, gathered batch by batch."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from util.errors import UserError


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Statistics of features: ``mean`` [d] and ``covariance`` [d,d], float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @cached_property
    def root(self) -> np.ndarray:
        """R [r,d] with RᵀR = covariance, r its numerical rank; computed once: of full rank from Cholesky's factor, else
        from the eigenvalues, which take eight times as long."""
        covariance = torch.from_numpy(self.covariance)
        rounding = len(covariance) * torch.finfo(covariance.dtype).eps
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed and factor.diagonal().min() ** 2 > rounding * covariance.diagonal().max():
            return factor.T.numpy()
        values, vectors = torch.linalg.eigh(covariance)
        kept = values > rounding * values.abs().max()  # the rest is rounding error around zero, on either side
        return (vectors[:, kept] * values[kept].sqrt()).T.numpy()


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches; memory does not grow with their number.

    Up to ``dims`` features are held as they are, whose distances are then exact; beyond that they are folded into
    running sums, [dims, dims] in size. All in float64 on the CPU. Two of them can be :meth:`merge`-d.
    """

    def __init__(self, dims: int):
        self.dims = dims
        self._sums = (0, np.zeros(dims), np.zeros((dims, dims)))  # count, mean, centred scatter of the folded rows
        self._rows = np.empty((dims, dims))
        self._held = 0

    @property
    def count(self) -> int:
        return self._sums[0] + self._held

    def update(self, features: torch.Tensor | np.ndarray) -> None:
        """Take in ``features`` [B, dims], B ≥ 0, of any floating-point type and device.

        :raises UserError: a feature is NaN or infinite.
        """
        if isinstance(features, torch.Tensor):
            features = features.detach().cpu().double().numpy()
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != self.dims:
            raise ValueError(f"features of shape {features.shape}, expected [B, {self.dims}]")
        if not np.isfinite(features).all():
            raise UserError("the network's features are not finite; check the images and the network's weights")
        while len(features):
            if self._held == self.dims:
                self._sums, self._held = self._all_sums(), 0
            taken = features[:self.dims - self._held]
            self._rows[self._held:self._held + len(taken)] = taken
            self._held += len(taken)
            features = features[len(taken):]

    def merge(self, other: "FeatureStatistics") -> None:
        """Take in all that ``other`` holds, which stays as it is."""
        if other.dims != self.dims:
            raise ValueError(f"statistics of {other.dims} dimensions cannot join those of {self.dims}")
        self._sums = _join(self._sums, other._sums)
        self.update(other._rows[:other._held])

    @property
    def mean(self) -> np.ndarray:
        """[dims] float64. :raises UserError: nothing was taken in."""
        self._require(1)
        return self._all_sums()[1]

    @property
    def covariance(self) -> np.ndarray:
        """[dims, dims] float64, unbiased (over n - 1). :raises UserError: fewer than two features."""
        self._require(2)
        return self._all_sums()[2] / (self.count - 1)

    @property
    def root(self) -> np.ndarray:
        """R [r, dims] with RᵀR = covariance: the centred features over √(n-1) while all of them are held."""
        self._require(2)
        if self._sums[0]:
            return Gaussian(self.mean, self.covariance).root
        rows = self._rows[:self._held]
        return (rows - rows.mean(0)) / np.sqrt(self._held - 1)

    def _all_sums(self) -> tuple[int, np.ndarray, np.ndarray]:
        if not self._held:
            return self._sums
        rows = self._rows[:self._held]
        mean = rows.mean(0)
        centred = rows - mean
        return _join(self._sums, (self._held, mean, centred.T @ centred))

    def _require(self, least: int) -> None:
        if self.count < least:
            raise UserError(f"statistics of {self.count} images: a mean needs at least 1, a covariance at least 2")


def joined(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    """The statistics of all parts together; the first takes in the others."""
    whole, *others = parts
    for part in others:
        whole.merge(part)
    return whole


def _join(first: tuple, second: tuple) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and centred scatter of two disjoint sets together (Chan et al., 1979)."""
    (n1, mean1, scatter1), (n2, mean2, scatter2) = first, second
    if not n1 or not n2:
        return second if n2 else first
    n, shift = n1 + n2, mean2 - mean1
    return n, mean1 + shift * (n2 / n), scatter1 + scatter2 + np.outer(shift, shift) * (n1 * n2 / n)


def checked_gaussian(mean: np.ndarray, covariance: np.ndarray, dims: int, source: str) -> Gaussian:
    """Arrays of any origin as float64 statistics of ``dims`` dimensions.

    :raises UserError: shapes that do not fit, values that are not finite, or a matrix that is no covariance; the line
        begins with ``source``.
    """
    mean, covariance = np.asarray(mean), np.asarray(covariance)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise UserError(f"{source}: a mean of shape {mean.shape} and a covariance of shape {covariance.shape} do not "
                        "fit; expected [d] and [d, d]")
    if len(mean) != dims:
        raise UserError(f"{source}: has statistics of {len(mean)} dimensions, but {dims} are needed; use --dims "
                        f"{len(mean)} for both sides, or make them again with --dims {dims}")
    if not all(array.dtype.kind in "fiu" and np.isfinite(array).all() for array in (mean, covariance)):
        raise UserError(f"{source}: has values that are not finite; make the statistics again")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    slack = 1e-4 * np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > slack or (np.diagonal(covariance) < -slack).any():
        raise UserError(f"{source}: its matrix is not a covariance; make the statistics again")
    return Gaussian(mean, (covariance + covariance.T) / 2)
