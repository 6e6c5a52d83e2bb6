"""Diversity of the pictures of one layout: between whole samples, and where one class or one instance alone takes other
styles. docs/evaluation.md has the definitions.
"""
import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.perceptual import PairDistance
from models.batches import Batch
from models.networks.styles import Styles
from models.synthesis import Synthesizer, instance_classes
from util.errors import UserError
from util.progress import counted


class Sides(NamedTuple):
    """A distance in a region, and in the rest of the picture: None if there is no rest."""

    inside: float
    outside: float | None


class Change(NamedTuple):
    """What other styles of a region change."""

    inside: float  # mean distance of the pictures in the region
    outside: float | None  # and in the rest; None if there is no rest
    area: float  # the part of the picture that the region covers, in 0..1
    masked: Sides | None = None  # mean distance of the pictures with the rest, or the region, blanked out

    @property
    def inside_share(self) -> float:
        """The part of the whole change that lies in the region, in 0..1."""
        inside = self.inside * self.area
        return inside / max(inside + (self.outside or 0) * (1 - self.area), 1e-12)


class LayoutDistances(NamedTuple):
    """The distances measured on one layout."""

    whole: float
    classes: list[tuple[int, Change]]  # of each class that was measured
    instances: list[tuple[int, Change]]  # of each instance, by its class


class Painter:
    """Pictures of the layout of a batch of one, ``batch_size`` at once: ``paint(styles)`` makes images [N, 3, H, W] in
    [-1, 1] in styles [N, ...]."""

    def __init__(self, synthesizer: Synthesizer, batch: Batch, batch_size: int = 1):
        self.layout = batch
        self._synthesizer, self._batch_size = synthesizer, batch_size
        # one batch for each count, because a batch keeps what was derived from its layout
        self._copies = functools.cache(functools.partial(copies, batch))

    def __call__(self, styles: Styles) -> Tensor:
        if styles.count is None:  # the layout alone decides
            return self._synthesizer.images(self.layout, styles)
        parts = [styles[start:start + self._batch_size] for start in range(0, styles.count, self._batch_size)]
        return torch.cat([self._synthesizer.images(self._copies(part.count), part) for part in parts])


def copies(batch: Batch, count: int) -> Batch:
    """A batch of ``count`` times the one layout, without its photo."""
    one = batch.layout
    label, instance = (ids.expand(count, -1, -1) for ids in (one.label, one.instance))
    return batch.with_maps(label, instance)


def style_change(paint: Painter, distance: PairDistance, before: Tensor, styles: Styles, others: Styles,
                 instances: Sequence[int], pairs: Sequence[tuple[int, int]] = ()) -> Change:
    """What it changes in a picture if some instances take other styles and everything else keeps its own.

    :param paint: the painter of the layout.
    :param distance: over all pairs of the picture before and the M after.
    :param before: the picture [1, 3, H, W] in ``styles``.
    :param styles: one sample of styles, [1, ...].
    :param others: [M, ...]; the instances take theirs from these.
    :param instances: their ids in the painter's layout.
    :param pairs: of the 1 + M pictures, those whose masked pictures are compared too.
    """
    pictures = torch.cat([before, paint(styles.exchange(others, instances))])
    _, local = distance(pictures)
    ids = paint.layout.layout.instance[0]
    inside = torch.isin(ids, torch.tensor(instances, device=ids.device))  # [H, W]
    everything = bool(inside.all())
    outside = None if everything else local[~inside].mean().item()
    masked = pairs and Sides(masked_distance(distance, pictures, inside, pairs),
                             None if everything else masked_distance(distance, pictures, ~inside, pairs))
    area = inside.sum().item() / inside.numel()  # not every device has float64
    return Change(local[inside].mean().item(), outside, area, masked or None)


def masked_distance(distance: PairDistance, pictures: Tensor, mask: Tensor, pairs: Sequence[tuple[int, int]]) -> float:
    """Mean over pairs of the distance between whole pictures [N, 3, H, W] times a mask [H, W]."""
    masked = pictures * mask
    return float(np.mean([distance(masked[list(pair)])[0] for pair in pairs]))


def draw_pairs(count: int, num_pairs: int, seed: int) -> list[tuple[int, int]]:
    """``num_pairs`` different pairs of ``count`` things, at most all of them; any is as likely as another."""
    pairs = list(itertools.combinations(range(count), 2))
    return [pairs[i] for i in np.random.default_rng(seed).choice(len(pairs), num_pairs, replace=False)]


def measure_layout(synthesizer: Synthesizer, batch: Batch, distance: PairDistance, seed: int, *,
                   num_samples: int = 10, region_samples: int = 4, max_regions: int = 8, masked_pairs: int = 0,
                   from_photo: bool = False, batch_size: int = 8, name: str = "layout") -> LayoutDistances:
    """The distances on one layout. They depend on it and the seed, not on other layouts or the batch size.

    :param batch: a batch of one; with its photo if styles are taken from there.
    :param seed: of PyTorch's default generators, from which styles and the choice of regions are drawn.
    :param num_samples: samples of the layout, 2 or more.
    :param region_samples: pictures for each region, from 2 to ``num_samples``.
    :param max_regions: classes, and also instances, that are resampled; chosen at random where there are more.
    :param masked_pairs: pairs of a region's pictures, the same ones for all regions, whose masked pictures are compared
        too.
    :param from_photo: draw styles from what the encoder sees in the photo instead of the prior.
    :param batch_size: pictures that are made at once.
    :param name: what to call the layout in errors.
    :raises UserError: the generator makes numbers that are not finite.
    """
    torch.manual_seed(seed)
    styles = synthesizer.draw_styles(copies(batch, num_samples))
    if from_photo:
        styles = synthesizer.encode_styles(batch, styles)
    parts = None if styles.noise is None else Parts(batch)
    if parts:
        batch, styles = parts.layout, Styles(styles.z, styles.noise[:, parts.instances])
    paint = Painter(synthesizer, batch, batch_size)
    images = paint(styles)
    if not images.isfinite().all():
        raise UserError(f"{name}: the generator's picture of it has values that are not finite; choose another "
                        "checkpoint with --name and --which_epoch")
    whole, _ = distance(images)
    if not parts:
        return LayoutDistances(whole, [], [])

    pairs = draw_pairs(region_samples, masked_pairs, seed)

    @functools.cache  # the only instance of a class need not be measured twice
    def change(region: tuple[int, ...]) -> Change:
        return style_change(paint, distance, images[:1], styles[:1], styles[1:region_samples], region, pairs)

    return LayoutDistances(
        whole,
        [(c, change(parts.of_class(c))) for c in _some(np.unique(parts.classes), max_regions)],
        [(parts.owner[i], change(parts.of_instance(i))) for i in _some(np.unique(parts.instances), max_regions)],
    )


def _some(items: np.ndarray, most: int) -> list[int]:
    """At most ``most`` of ``items``, chosen at random."""
    return items[torch.randperm(len(items))[:most].numpy()].tolist()


class Parts:
    """The parts of a layout, each one class in one instance. Noise that has a row for each of them instead of each
    instance lets a class change alone where an instance is of several (in COCO, all stuff is one).

    ``classes`` and ``instances`` [P] are those of the parts, ``owner`` the class of most pixels of an instance, and
    ``layout`` the layout with its parts for instances.
    """

    def __init__(self, batch: Batch):
        one = batch.layout
        label, instance = (ids[0].cpu().numpy() for ids in (one.label, one.instance))
        self.owner = instance_classes(batch)
        keys, parts = np.unique(instance * one.num_classes + label, return_inverse=True)
        self.instances, self.classes = np.divmod(keys, one.num_classes)
        ids = torch.from_numpy(parts.reshape(1, *label.shape))
        self.layout = batch.with_maps(one.label, ids)

    def of_class(self, label: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.classes == label).tolist())

    def of_instance(self, instance: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.instances == instance).tolist())


class Diversity:
    """The distances of all layouts, and means over them."""

    def __init__(self):
        self._whole: list[float] = []
        self._found = defaultdict(list)  # (kind, side) -> class and distance, of every class or instance measured

    def add(self, distances: LayoutDistances) -> None:
        self._whole.append(distances.whole)
        for kind, found in (("class", distances.classes), ("instance", distances.instances)):
            for label, change in found:
                for name, sides in ((kind, change), (f"masked {kind}", change.masked)):
                    for side in Sides._fields:
                        if sides and (value := getattr(sides, side)) is not None:
                            self._found[name, side].append((label, value))

    def figures(self, names: dict[int, str]) -> dict[str, Any]:
        """All figures, as plain numbers; None where nothing was measured.

        :param names: class id -> name, of the classes that have one.
        """
        count = len(self._whole)
        labels = sorted({label for found in self._found.values() for label, _ in found})
        return {
            "layouts": count,
            "diversity": _mean(self._whole),
            "standard_error": float(np.std(self._whole, ddof=1) / math.sqrt(count)) if count > 1 else None,
            **self._means(),
            **({"masked": self._means("masked ")} if ("masked class", "inside") in self._found else {}),
            "classes": {str(label): {"name": names.get(label), **self._figures_of(label)} for label in labels},
        }

    def _means(self, prefix: str = "") -> dict[str, float | None]:
        """Every class counts once, however many layouts have it; and so does every instance."""
        by_class = [_mean([_mean(values) for values in self._by_class(f"{prefix}class", side).values()])
                    for side in Sides._fields]
        by_instance = [_mean([value for _, value in self._found.get((f"{prefix}instance", side), ())])
                       for side in Sides._fields]
        return dict(zip(("mCSD", "mOCD", "mISD", "mOISD"), (*by_class, *by_instance), strict=True))

    def _by_class(self, kind: str, side: str) -> dict[int, list[float]]:
        values = defaultdict(list)
        for label, value in self._found.get((kind, side), ()):
            values[label].append(value)
        return values

    def _figures_of(self, label: int) -> dict[str, Any]:
        values = {(kind, side): self._by_class(kind, side).get(label, []) for kind in ("class", "instance")
                  for side in Sides._fields}
        return {kind: {**{side: _mean(values[kind, side]) for side in Sides._fields},
                       "count": len(values[kind, "inside"])} for kind in ("class", "instance")}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def describe(figures: dict[str, Any]) -> str:
    """The figures of :meth:`Diversity.figures`, with options of ``diversity_score.py``, in words."""
    distance = "Lite0 distance" if figures["distance"] == "lite0" else figures["distance"]
    error = "" if figures["standard_error"] is None else f" ± {figures['standard_error']:.4f} (standard error)"
    lines = [f"{distance} diversity: {figures['diversity']:.4f}{error}; {counted(figures['layouts'], 'layout')}, "
             f"{figures['num_samples']} samples each"]
    if not figures["classes"]:
        return lines[0]
    lines += _describe_means(figures)
    if "masked" in figures:
        lines += [f"masked pictures, {figures['masked_pairs']} pairs of each region (a reconstruction from the papers' "
                  "text):", *_describe_means(figures["masked"])]
    lines.append("")
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


def _describe_means(means: dict[str, Any]) -> list[str]:
    return [f"one class resampled:     mCSD {_text(means['mCSD'])}   mOCD {_text(means['mOCD'])}",
            f"one instance resampled:  mISD {_text(means['mISD'])}   mOISD {_text(means['mOISD'])}"]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
