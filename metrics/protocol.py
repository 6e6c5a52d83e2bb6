"""One way of measuring images, wherever they come from, and the record of it.

8-bit RGB pixels, all images, at one size (Pillow's bicubic filter where they have another), through an extractor to
features, whose mean and covariance are gathered in float64. ``fid_score.py`` and ``train.py --train_eval`` differ only
in where the pixels come from.
"""
import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from data.loading import own_share
from metrics.extractors import Extractor
from metrics.images import ImageFolder
from metrics.statistics import FeatureStatistics, Gaussian, joined
from util import distributed
from util.errors import UserError
from util.progress import progress

_CPU_BATCH = 8  # where the network is fastest on a CPU: activations stay in its caches


@dataclass(frozen=True)
class Protocol:
    """What was measured, and how: the numbers of two sets compare if all but ``count`` are equal."""

    height: int
    width: int
    resize: str | None  # filter that brought images to this size; None: they had it
    count: int
    dims: int
    precision: str
    weights: str  # SHA-256 of the network's weights file
    extractor: str = "inception"  # kind of the network
    orientation: str | None = "apply"  # what was done about orientation tags, apply or ignore; None: there are none

    @classmethod
    def of(cls, size: tuple[int, int], resize: str | None, count: int, extractor: Extractor,
           orientation: str | None) -> "Protocol":
        return cls(*size, resize, count, extractor.dims, extractor.precision, extractor.weights, extractor.kind,
                   orientation)

    @classmethod
    def from_record(cls, record: Any) -> "Protocol":
        """The reverse of ``asdict``; entries it does not know are left out, and a record of an earlier version may lack
        what has a default. :raises ValueError: no such record."""
        kinds = {"resize": str | None, "precision": str, "weights": str, "extractor": str, "orientation": str | None}
        try:
            values = {field.name: record[field.name] for field in fields(cls)
                      if field.default is MISSING or field.name in record}
        except (TypeError, KeyError) as error:
            raise ValueError("not a record of a protocol") from error
        if not all(isinstance(value, kinds.get(name, int)) for name, value in values.items()):
            raise ValueError("a record with values of the wrong type")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Measured:
    """A set of images after measuring: ``source`` is what messages call it, ``protocol`` is None where unknown, and
    ``features`` [n, dims] float32 are there if they were asked for."""

    source: str
    statistics: Gaussian | FeatureStatistics
    protocol: Protocol | None
    features: np.ndarray | None = None


class Meter:
    """Pixels in, statistics out.

    Images arrive in any portions and are regrouped to batches of one size, so that the numbers do not depend on the
    portions. Memory does not grow with their number, unless ``keep_features``.
    """

    def __init__(self, extractor: Extractor, batch_size: int = 50, keep_features: bool = False):
        self.extractor = extractor
        self.statistics = FeatureStatistics(extractor.dims)
        on_cpu = extractor.device.type == "cpu"
        self.batch_size = min(batch_size, _CPU_BATCH) if on_cpu else batch_size
        self._waiting: list[tuple[torch.Tensor, str]] = []
        self._features: list[np.ndarray] | None = [] if keep_features else None

    def add(self, pixels: torch.Tensor, names: Sequence[str]) -> None:
        """Take in images uint8 [B,3,H,W], ``names`` in messages. :raises UserError: features that are not finite."""
        if pixels.dtype != torch.uint8:
            raise ValueError(f"pixels of type {pixels.dtype}: the protocol is defined for 8-bit images")
        self._waiting += zip(pixels, names, strict=True)
        while len(self._waiting) >= self.batch_size:
            self._measure(self.batch_size)

    def finish(self) -> tuple[FeatureStatistics, np.ndarray | None]:
        """Statistics of all images, and their features if they were to be kept."""
        if self._waiting:
            self._measure(len(self._waiting))
        none = np.empty((0, self.extractor.dims), np.float32)
        return self.statistics, None if self._features is None else np.concatenate([none, *self._features])

    def _measure(self, count: int) -> None:
        (pixels, names), self._waiting = zip(*self._waiting[:count], strict=True), self._waiting[count:]
        features = self.extractor(torch.stack(pixels)).cpu()
        finite = features.isfinite().all(1).tolist()
        if not all(finite):
            raise UserError(f"{names[finite.index(False)]}: has features that are not finite; check the image, the "
                            "network's weights and the precision")
        self.statistics.update(features)
        if self._features is not None:
            self._features.append(features.numpy())


def measure_folder(folder: ImageFolder, extractor: Extractor, batch_size: int = 50, threads: int | None = None,
                   keep_features: bool = False) -> Measured:
    """Measure image files, with a progress bar. Several processes share the batches; what the first one returns
    is of all images.

    :param threads: that decode images; None: one beside a network on the CPU, else up to eight.
    :raises UserError: an image that cannot be read, has another size, or whose features are not finite.
    """
    if threads is None:
        threads = 1 if extractor.device.type == "cpu" else min(8, os.cpu_count() or 1)
    meter = Meter(extractor, batch_size, keep_features)
    indices = own_share(range(len(folder.files)), meter.batch_size)
    own = replace(folder, files=[folder.files[index] for index in indices])
    with progress(doing=folder.source, total=len(own.files), unit="img", quiet=not distributed.is_main()) as bar:
        for path, image in zip(own.files, own.pixels(threads), strict=True):
            meter.add(torch.from_numpy(image).permute(2, 0, 1)[None], [path])
            bar.update()
    statistics, features = meter.finish()
    if parts := distributed.gather((indices, statistics, features)):
        statistics = joined([part[1] for part in parts])
        if keep_features:
            order = np.argsort(np.concatenate([part[0] for part in parts]).astype(int))
            features = np.concatenate([part[2] for part in parts])[order]
    protocol = Protocol.of(folder.size, folder.resize, statistics.count, extractor, folder.orientation)
    return Measured(folder.source, statistics, protocol, features)


def check_comparable(first: tuple[str, Protocol | None], second: tuple[str, Protocol | None]) -> None:
    """Print what keeps the numbers of two sets, given as (name, protocol), from comparing; a line for each thing.

    :raises UserError: their features come from different networks, or in different precision.
    """
    for name, protocol in (first, second):
        if protocol is None:
            other = (second if name == first[0] else first)[1]
            size = f" (here {_size(other)})" if other else ""
            print(f"note: {name}: no protocol is recorded there; the distance is comparable only if the size{size} and "
                  "the network's weights are the same", file=sys.stderr)
        elif protocol.count <= protocol.dims:
            fewer = ", or use fewer dims" if protocol.extractor == "inception" else ""
            print(f"warning: {name}: {protocol.count} images give a covariance of rank {protocol.count - 1} at most in "
                  f"{protocol.dims} dimensions, which raises the distance; compare it only with figures from as many "
                  f"images{fewer}", file=sys.stderr)
    if first[1] is None or second[1] is None:
        return
    (name1, one), (name2, two) = first, second
    if one.precision != two.precision:
        raise UserError(f"{name1}: features of {one.precision}, but those of {name2} are of {two.precision}, which "
                        "changes the distance by some percent; measure both sides with the same precision")
    if one.weights != two.weights:
        raise UserError(f"{name1}: features of the weights {one.weights[:8]}…, but those of {name2} are of "
                        f"{two.weights[:8]}…; measure both sides with the same weights file")
    if (one.height, one.width) != (two.height, two.width):
        print(f"warning: {name1} was measured at {_size(one)}, {name2} at {_size(two)} (width x height); distances are "
              "comparable only at the same size: give --resize_size, or make the statistics at the other "
              "size", file=sys.stderr)
    if one.resize and two.resize and one.resize != two.resize:
        print(f"warning: {name1} was resized by a {one.resize} filter, {name2} by a {two.resize} one; the distance is "
              "comparable only with the same filter", file=sys.stderr)
    if one.orientation and two.orientation and one.orientation != two.orientation:
        print(f"warning: {name1} was measured with --orientation {one.orientation}, {name2} with {two.orientation}; if "
              "there are orientation tags, the distance is comparable only with the same", file=sys.stderr)


def _size(protocol: Protocol) -> str:
    return f"{protocol.width}x{protocol.height}"
