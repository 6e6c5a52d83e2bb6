"""Diversity of the pictures of one layout: between whole samples, and where the styles of one class or one instance
alone are drawn anew. docs/evaluation.md has the definitions.
"""
import contextlib
import functools
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.label_colors import read_label_colors
from models.pix2pix_model import Pix2PixModel
from util.errors import UserError
from util.perceptual import PairDistance
from util.precision import autocast
from util.styles import Styles, draw_styles, encode_styles, exchange, instance_classes

Data = dict[str, Any]


class Resampled(NamedTuple):
    """What other styles of one class or one instance change."""

    label: int  # the class, or that of the instance
    inside: float  # mean distance in the region
    outside: float | None  # and in the rest; None where there is no rest


class LayoutDistances(NamedTuple):
    """The distances measured on one layout."""

    whole: float
    classes: list[Resampled]
    instances: list[Resampled]


def measure_layout(opt: Any, model: Pix2PixModel, distance: PairDistance, data: Data, seed: int) -> LayoutDistances:
    """The distances on one layout; they depend on it and the seed, not on other layouts.

    :param opt: ``num_samples``, ``region_samples`` (from 2 to ``num_samples``), ``max_regions``, ``styles`` (prior or
        encoder), ``batchSize`` and ``use_amp`` are read.
    :param data: a batch of one layout, as the data loader gives it.
    :param seed: of PyTorch's default generators, from which styles and the choice of regions are drawn.
    :raises UserError: the generator makes numbers that are not finite.
    """
    torch.manual_seed(seed)
    styles = draw_styles(model, _copies(data, opt.num_samples))
    if opt.styles == "encoder":
        styles = encode_styles(model, data, styles)
    parts = Parts(data) if "noise" in styles else None
    if parts:
        data, styles = parts.data, {**styles, "noise": styles["noise"][:, parts.instances]}
    paint = Painter(opt, model, data)
    images = paint(styles)
    if not images.isfinite().all():
        raise UserError(f"{data['path'][0]}: the generator's picture of it has values that are not finite; choose "
                        "other networks with --name and --which_epoch")
    whole, _ = distance(images)
    if not parts:
        return LayoutDistances(whole, [], [])
    first = {name: value[:1] for name, value in styles.items()}
    others = {name: value[1:opt.region_samples] for name, value in styles.items()}

    @functools.cache  # the only instance of a class need not be measured twice
    def change(region: tuple[int, ...]) -> tuple[float, float | None]:
        _, local = distance(torch.cat([images[:1], paint(exchange(first, others, region))]))
        inside = parts.mask(region).to(local.device)
        return local[inside].mean().item(), None if inside.all() else local[~inside].mean().item()

    return LayoutDistances(
        whole,
        [Resampled(c, *change(parts.of_class(c))) for c in _some(np.unique(parts.classes), opt.max_regions)],
        [Resampled(parts.owner[i], *change(parts.of_instance(i)))
         for i in _some(np.unique(parts.instances), opt.max_regions)],
    )


def _some(items: np.ndarray, most: int) -> list[int]:
    """At most so many of ``items``, chosen at random."""
    return items[torch.randperm(len(items))[:most].numpy()].tolist()


class Parts:
    """The parts of a layout, each one class in one instance. Noise that has a row for each of them instead of each
    instance lets a class change alone where an instance is of several (in COCO, all stuff is one).

    ``classes`` and ``instances`` [P] are those of the parts, ``owner`` the class of most pixels of an instance, and
    ``data`` the layout with its parts for instances.
    """

    def __init__(self, data: Data):
        label, instance = (data[name][0, 0].numpy().astype(np.int64) for name in ("label", "instance"))
        self.owner = instance_classes(label, instance)
        keys, parts = np.unique(instance * (label.max() + 1) + label, return_inverse=True)
        self.instances, self.classes = np.divmod(keys, label.max() + 1)
        self._map = torch.from_numpy(parts.reshape(label.shape))
        self.data = {**data, "instance": self._map[None, None]}

    def of_class(self, label: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.classes == label).tolist())

    def of_instance(self, instance: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.instances == instance).tolist())

    def mask(self, parts: Sequence[int]) -> Tensor:
        """[H, W] bool: the pixels of these parts."""
        return torch.isin(self._map, torch.tensor(parts))


class Painter:
    """Pictures of one layout: ``paint(styles)`` for styles [N, ...] gives images [N, 3, H, W] in [-1, 1]."""

    def __init__(self, opt: Any, model: Pix2PixModel, data: Data):
        self._opt, self._model = opt, model
        # the same object for the same count, so that the model knows the layout again
        self._copies = functools.cache(functools.partial(_copies, data))

    def __call__(self, styles: Styles) -> Tensor:
        images = []
        for part in zip(*(value.split(self._opt.batchSize) for value in styles.values()), strict=True):
            with autocast(self._opt):
                images.append(self._model.sample(self._copies(len(part[0])), **dict(zip(styles, part, strict=True))))
        return torch.cat(images)


def _copies(data: Data, count: int) -> Data:
    """A batch of ``count`` times the one layout."""
    return {name: data[name].expand(count, *data[name].shape[1:]) for name in ("label", "instance")}


class Mean:
    """A mean that numbers are added to, with its standard error."""

    def __init__(self):
        self.count, self._total, self._squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self._total += value
        self._squares += value * value

    @property
    def value(self) -> float | None:
        return self._total / self.count if self.count else None

    @property
    def standard_error(self) -> float | None:
        if self.count < 2:
            return None
        spread = max(self._squares - self._total**2 / self.count, 0)
        return math.sqrt(spread / (self.count - 1) / self.count)


class Diversity:
    """Means over layouts; memory grows with the classes, not with the layouts."""

    def __init__(self):
        self._whole = Mean()
        self._inside, self._outside = defaultdict(Mean), defaultdict(Mean)  # by (kind, class)

    def add(self, distances: LayoutDistances) -> None:
        self._whole.add(distances.whole)
        for kind, found in (("class", distances.classes), ("instance", distances.instances)):
            for label, inside, outside in found:
                self._inside[kind, label].add(inside)
                if outside is not None:
                    self._outside[kind, label].add(outside)

    def figures(self, names: dict[int, str]) -> dict[str, Any]:
        """All figures, as plain numbers; None where nothing was measured."""
        labels = sorted({label for _, label in self._inside})
        return {
            "layouts": self._whole.count,
            "diversity": self._whole.value,
            "standard_error": self._whole.standard_error,
            "mCSD": _over_classes(self._inside, labels), "mOCD": _over_classes(self._outside, labels),
            "mISD": _over_instances(self._inside, labels), "mOISD": _over_instances(self._outside, labels),
            "classes": {str(label): {"name": names.get(label), **self._figures_of(label)} for label in labels},
        }

    def _figures_of(self, label: int) -> dict[str, Any]:
        return {kind: {"inside": self._inside[kind, label].value, "outside": self._outside[kind, label].value,
                       "count": self._inside[kind, label].count} for kind in ("class", "instance")}


def _over_classes(means: dict[tuple[str, int], Mean], labels: list[int]) -> float | None:
    """Every class counts once, however many layouts have it."""
    values = [means["class", label].value for label in labels if means["class", label].count]
    return float(np.mean(values)) if values else None


def _over_instances(means: dict[tuple[str, int], Mean], labels: list[int]) -> float | None:
    """Every instance counts once."""
    found = [means["instance", label] for label in labels if means["instance", label].count]
    return sum(mean.value * mean.count for mean in found) / sum(mean.count for mean in found) if found else None


def describe(figures: dict[str, Any]) -> str:
    """The figures of :meth:`Diversity.figures`, with the options ``distance`` and ``num_samples``, in words."""
    error = "" if figures["standard_error"] is None else f" ± {figures['standard_error']:.4f} (standard error)"
    lines = [f"{figures['distance']} diversity: {figures['diversity']:.4f}{error}; {figures['layouts']} layouts, "
             f"{figures['num_samples']} samples each"]
    if not figures["classes"]:
        return lines[0]
    lines += [f"one class resampled:     mCSD {_text(figures['mCSD'])}   mOCD {_text(figures['mOCD'])}",
              f"one instance resampled:  mISD {_text(figures['mISD'])}   mOISD {_text(figures['mOISD'])}", ""]
    names = {label: f"{label} {entry['name'] or ''}".rstrip() for label, entry in figures["classes"].items()}
    width = max(len("class"), *map(len, names.values()))
    heading = f"{'inside':>8} {'outside':>8} {'count':>6}"
    lines += [f"{'':{width}} | {'one class resampled':24} | {'one instance resampled'}",
              f"{'class':{width}} | {heading} | {heading}"]
    for label, entry in figures["classes"].items():
        cells = [f"{_text(cell['inside']):>8} {_text(cell['outside']):>8} {cell['count']:>6}"
                 for cell in (entry["class"], entry["instance"])]
        lines.append(f"{names[label]:{width}} | {' | '.join(cells)}")
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def class_names(folder: str) -> dict[int, str]:
    """Class id -> name, from a table ``classes.txt`` like that of the example world; none where there is none."""
    path = os.path.join(folder, "classes.txt")
    with contextlib.suppress(UserError):
        return read_label_colors(path).names if os.path.isfile(path) else {}
    return {}
