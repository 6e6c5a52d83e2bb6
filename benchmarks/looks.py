"""How far the looks of instances in two sets of pictures are apart."""
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from data.instance_maps import main_classes

LEAST_PIXELS = 16  # of an instance whose looks are compared
LEAST_INSTANCES = 8  # of a class whose looks are compared
LUMINANCE = np.array([0.299, 0.587, 0.114])


class Pairs(NamedTuple):
    """A split in memory, as bytes: pictures [N, 3, H, W], labels [N, H, W]. Instances [N, H, W] are integers."""

    pictures: Tensor
    labels: Tensor
    instances: Tensor


def looks(pairs: Pairs) -> dict[int, np.ndarray]:
    """Class -> the looks of its instances [n, 4]: mean colour, and standard deviation of the luminance, in 0..255."""
    found = defaultdict(list)
    for picture, label, instance in zip(*(array.numpy() for array in pairs), strict=True):
        picture = picture.transpose(1, 2, 0).astype(np.float64)
        for i, kind in main_classes(label, instance).items():
            pixels = picture[instance == i]
            if len(pixels) >= LEAST_PIXELS:
                found[kind].append([*pixels.mean(0), (pixels @ LUMINANCE).std()])
    return {kind: np.array(rows) for kind, rows in sorted(found.items())}


def look_distances(train: Pairs, real: Pairs, synthesized: Pairs, seed: int, names: dict[int, str]) -> dict[str, Any]:
    """Distances of looks, by class and as means over classes: of synthesized to real instances, and between random
    parts of the training split that are as large.

    :param synthesized: pictures of the layouts of ``real``.
    :param seed: of the choice of parts.
    :param names: class id -> name, of the classes that have one.
    """
    rows_of, other_rows_of, pool = looks(real), looks(synthesized), looks(train)
    random = np.random.default_rng(seed)
    classes = {}
    for kind, rows in rows_of.items():
        halves = np.array_split(random.permutation(pool.get(kind, rows[:0])), 2)
        if len(rows) < LEAST_INSTANCES or len(halves[1]) < LEAST_INSTANCES:
            continue
        classes[str(kind)] = {
            "name": names.get(kind), "instances": len(rows),
            "synthesized": sliced_wasserstein(rows, other_rows_of[kind]),
            "real": sliced_wasserstein(*(half[:len(rows)] for half in halves)),
        }
    return {**{side: float(np.mean([entry[side] for entry in classes.values()])) if classes else None
               for side in ("synthesized", "real")}, "classes": classes}


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, directions: int = 64, seed: int = 0) -> float:
    """Mean over random directions of the 1-Wasserstein distance of the projections of x [n, d] and y [m, d].

    Rabin et al., "Wasserstein Barycenter and its Application to Texture Mixing", 2011. In one dimension it is the area
    between the quantile functions.
    """
    axes = np.random.default_rng(seed).normal(size=(x.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    first, second = np.sort(x @ axes, axis=0), np.sort(y @ axes, axis=0)
    edges = np.union1d(np.arange(1, len(x) + 1) / len(x), np.arange(1, len(y) + 1) / len(y))
    widths, middles = np.diff(edges, prepend=0), edges - np.diff(edges, prepend=0) / 2
    rows = [np.minimum((middles * len(values)).astype(int), len(values) - 1) for values in (first, second)]
    return float((widths[:, None] * np.abs(first[rows[0]] - second[rows[1]])).sum(0).mean())
