"""Fréchet Inception distance: features of image sets, their Gaussian statistics, and the distance between two.

The protocol, the same for images from disk and from the generator: 8-bit RGB pixels, all of them counted, to
:class:`util.inception.FIDInception`; mean and unbiased covariance of its features in float64;

    FID = |mu1 - mu2|² + tr(S1) + tr(S2) - 2 tr((S1 S2)^½)

(Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017, eq. 6).

The last trace is computed without a matrix square root of the product. For any R1, R2 with R1ᵀR1 = S1 and R2ᵀR2 = S2 it
is the sum of the singular values of R1 R2ᵀ. R may be the centred features themselves (over √(n-1)), which is exact and
quick for few images, or comes from the eigenvalues of S. Either way the result is real, finite and not negative.
"""
import os
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from util.errors import UserError
from util.files import atomic_path
from util.inception import FIDInception

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
STATISTICS_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "datasets", "train_mu_si")


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Statistics of features: ``mean`` [d] and ``covariance`` [d,d], float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @cached_property
    def root(self) -> np.ndarray:
        """R [r,d] with RᵀR = covariance, r its numerical rank; computed once."""
        values, vectors = torch.linalg.eigh(torch.from_numpy(self.covariance))
        floor = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
        kept = values > floor  # the rest is rounding error around zero, on either side
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
        """How many features have been taken in."""
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
            raise UserError("Inception gave features that are not finite; check the images and the Inception weights")
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
            raise UserError(f"statistics of {self.count} images: a mean needs 1, a covariance 2 of them")


def _join(first: tuple, second: tuple) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and centred scatter of two disjoint sets together (Chan et al., 1979)."""
    (n1, mean1, scatter1), (n2, mean2, scatter2) = first, second
    if not n1 or not n2:
        return second if n2 else first
    n, shift = n1 + n2, mean2 - mean1
    return n, mean1 + shift * (n2 / n), scatter1 + scatter2 + np.outer(shift, shift) * (n1 * n2 / n)


def fid(real: Gaussian | FeatureStatistics, fake: Gaussian | FeatureStatistics) -> float:
    """The Fréchet distance between two sets of statistics of the same dims; at least 0."""
    difference = real.mean - fake.mean
    singular_values = torch.linalg.svdvals(torch.from_numpy(real.root @ fake.root.T))
    spread = np.trace(real.covariance) + np.trace(fake.covariance)
    return max(0.0, float(difference @ difference + spread - 2 * singular_values.sum().item()))


def frechet_distance(mu1: np.ndarray, s1: np.ndarray, mu2: np.ndarray, s2: np.ndarray) -> float:
    """The Fréchet distance between N(mu1, s1) and N(mu2, s2); means [d], covariances [d,d]; at least 0.

    :raises UserError: shapes that do not fit, values that are not finite, or a matrix that is no covariance.
    """
    dims = np.size(mu1)
    return fid(_checked(mu1, s1, dims, "first statistics"), _checked(mu2, s2, dims, "second statistics"))


# ---- statistics on disk


def statistics_path(name_or_path: str) -> str:
    """A plain NAME means datasets/train_mu_si/NAME; whatever has a slash or ends in .npz is a path already."""
    is_path = name_or_path.endswith(".npz") or "/" in name_or_path or os.sep in name_or_path
    return name_or_path if is_path else os.path.join(STATISTICS_DIR, name_or_path)


def load_statistics(name_or_path: str, dims: int) -> Gaussian:
    """Read statistics: a folder with ``m.npy`` [dims] and ``s.npy`` [dims,dims], or an .npz with ``mu``, ``sigma``.

    :param name_or_path: see :func:`statistics_path`.
    :raises UserError: missing or unreadable files, other dims, values that are not finite.
    """
    path = statistics_path(name_or_path)
    try:
        if path.endswith(".npz"):
            with np.load(path, allow_pickle=False) as file:
                mean, covariance = file["mu"], file["sigma"]
        else:
            mean, covariance = (np.load(os.path.join(path, name), allow_pickle=False) for name in ("m.npy", "s.npy"))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; make the statistics of an image folder with python "
                        "fid_score.py FOLDER --save_np_name NAME (see datasets/train_mu_si/README.md)") from error
    except KeyError as error:
        raise UserError(f"{path}: has no arrays mu and sigma; make it with pytorch-fid or --save_np_name") from error
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as FID statistics; make them anew with --save_np_name") from error
    return _checked(mean, covariance, dims, path)


def save_statistics(name_or_path: str, statistics: Gaussian | FeatureStatistics) -> str:
    """Write statistics in the form that :func:`load_statistics` reads from the same name; return the path.

    The files are replaced as a whole, or not at all. :raises UserError: the place cannot be written to.
    """
    path = statistics_path(name_or_path)
    if path.endswith(".npz"):
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, mu=statistics.mean, sigma=statistics.covariance)
        return path
    with ExitStack() as both:  # both files are complete before either is put in place
        mean, covariance = (both.enter_context(atomic_path(os.path.join(path, n))) for n in ("m.npy", "s.npy"))
        np.save(mean, statistics.mean)
        np.save(covariance, statistics.covariance)
    return path


def _checked(mean: np.ndarray, covariance: np.ndarray, dims: int, source: str) -> Gaussian:
    mean, covariance = np.asarray(mean), np.asarray(covariance)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise UserError(f"{source}: a mean of shape {mean.shape} and a covariance of shape {covariance.shape} do not "
                        "fit; expected [d] and [d, d]")
    if len(mean) != dims:
        raise UserError(f"{source}: statistics of {len(mean)} dimensions where {dims} are needed; use --dims "
                        f"{len(mean)} for both sides, or make them anew with --dims {dims}")
    if not all(array.dtype.kind in "fiu" and np.isfinite(array).all() for array in (mean, covariance)):
        raise UserError(f"{source}: values that are not finite numbers; make the statistics anew")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    slack = 1e-4 * np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > slack or (np.diagonal(covariance) < -slack).any():
        raise UserError(f"{source}: the matrix is not a covariance; make the statistics anew")
    return Gaussian(mean, (covariance + covariance.T) / 2)


# ---- statistics of images


def list_images(folder: str) -> list[str]:
    """Paths of all images in ``folder`` and its subfolders, sorted; hidden files are left out.

    :raises UserError: not a folder, or fewer than two images in it.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: not a folder of images (nor .npz statistics)")
    found = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder, onerror=_refuse_folder, followlinks=True)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
    )
    if len(found) < 2:
        raise UserError(f"{folder}: {len(found) or 'no'} images there, FID needs at least 2 "
                        f"(file names in {' '.join(IMAGE_SUFFIXES)})")
    return found


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be searched for images ({error.strerror})") from error


def read_image(path: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """An image file as 8-bit RGB [H,W,3]: grey and palette converted, transparency dropped.

    :param size: (height, width) to resize to, bicubic; None leaves the image as it is.
    :raises UserError: the file cannot be decoded, or is grey with more than 8 bits.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise UserError(f"{path}: more than 8 bits per pixel (mode {image.mode}); convert it to 8-bit RGB")
            image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image; remove or replace it") from error
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image)


def image_statistics(
    files: list[str],
    inception: FIDInception,
    batch_size: int = 50,
    size: tuple[int, int] | None = None,
    title: str = "",
) -> FeatureStatistics:
    """Feature statistics of image files, with a progress bar (on a terminal) and a warning where they are too few.

    :param size: (height, width) that every image is resized to; without it all must have one size already.
    :raises UserError: an image that cannot be read, or is of another size than the first.
    """
    statistics = FeatureStatistics(inception.dims)
    threads = 1 if inception.fc.weight.device.type == "cpu" else min(8, os.cpu_count() or 1)
    pixels = _ahead(lambda path: read_image(path, size), files, threads, 2 * batch_size)
    expected = None
    batch = []
    with tqdm(total=len(files), desc=title, unit="img", disable=None) as progress:
        for done, (path, image) in enumerate(zip(files, pixels, strict=True), start=1):
            expected = expected or image.shape
            if image.shape != expected:
                raise UserError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels, but {files[0]} has "
                                f"{expected[1]}x{expected[0]}; give one size to all with --resize_size")
            batch.append(image)
            if len(batch) == batch_size or done == len(files):
                statistics.update(inception(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)))
                progress.update(len(batch))
                batch = []
    if statistics.count <= statistics.dims:
        print(f"warning: {title or 'FID'}: {statistics.count} images give a covariance of rank "
              f"{statistics.count - 1} at most in {statistics.dims} dimensions, which raises the FID; compare it only "
              "with figures from as many images, or use fewer --dims", file=sys.stderr)
    return statistics


def _ahead(function: Callable, items: Iterable, threads: int, ahead: int) -> Iterator:
    """``map(function, items)`` in threads, at most ``ahead`` results before they are asked for."""
    pool = ThreadPoolExecutor(threads)
    pending: deque = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
