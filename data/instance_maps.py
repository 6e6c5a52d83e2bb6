"""Instance maps made from other maps: their ids renumbered, or their connected regions."""
import os
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from data.dataset_kind import InstanceJob
from data.derived_files import make_note, read_note, write_ids
from data.image_files import orientation, read_image, to_ids
from data.label_colors import LabelColors
from data.label_map import LabelMap
from util.errors import UserError
from util.ranks import renumber

_NEIGHBOURS = np.ones((3, 3))  # 8: pixels that touch at a corner are connected


class InstanceRecipe(Protocol):
    """How to make an instance map from another map. Its text says when a map must be made anew."""

    def instances(self, ids: np.ndarray) -> np.ndarray:
        """Ids 0..n-1 of the instances in a map [H, W]."""


@dataclass(frozen=True)
class Recipe:
    """What is an instance: the pixels of one id or, with ``components``, each of their connected regions, see
    :func:`split_components`."""

    components: bool = False
    min_area: int = 1
    split_classes: Collection[int] | None = None

    def __str__(self) -> str:
        return f"components {self.min_area} {self.split_classes or 'all'}" if self.components else "classes"

    def instances(self, ids: np.ndarray) -> np.ndarray:
        return split_components(ids, self.min_area, self.split_classes) if self.components else renumber(ids)


@dataclass(frozen=True)
class Tables:
    """What the colours and ids of the maps stand for: --label_colors, --label_map and --dont_care_id."""

    colors: LabelColors | None = None
    label_map: LabelMap | None = None
    dont_care: int = 255

    def __str__(self) -> str:
        """Changes with what the tables say, so that maps are made anew."""
        text = repr((self.colors and (self.colors.colors.tolist(), self.colors.ids.tolist()),
                     self.label_map and (sorted(self.label_map.new_of.items()), self.label_map.others)))
        return f" tables {zlib.crc32(text.encode()):08x}" if self.colors or self.label_map else ""


def check_targets(jobs: Iterable[InstanceJob]) -> None:
    """Refuse to make one file from two maps."""
    source_of: dict[str, str] = {}
    for job in jobs:
        other = source_of.setdefault(job.instance, job.source)
        if other != job.source:
            raise UserError(f"{other} and {job.source} would both become {job.instance}: remove or rename one")


def make_instance_map(job: InstanceJob, recipe: InstanceRecipe, overwrite: bool = False,
                      keep_foreign: bool = False, tables: Tables = Tables()) -> bool:
    """Write the files of ``job``, each as a whole or not at all. False if they are up to date already.

    :param overwrite: replace whatever is there.
    :param keep_foreign: refuse to replace a file that was not made by this function.
    :raises UserError: the map cannot be read, or a file cannot be written or must not be replaced.
    """
    note = make_note(f"make_instances: {recipe}{tables},", [job.source])
    if not overwrite and os.path.lexists(job.instance):
        found = read_note(job.instance)
        if found == note and (job.label is None or os.path.exists(job.label)):
            return False
        if found is None and keep_foreign:
            raise UserError(f"{job.instance}: was not made by this command; to replace all maps, give --overwrite")
    image = read_image(job.source)
    first_channel = job.label is not None and not tables.colors
    ids = to_ids(image, job.source, tables.colors, first_channel, min(0, tables.dont_care))
    classes = tables.label_map.apply(ids, tables.dont_care, job.source) if tables.label_map else ids
    instances = recipe.instances(classes)
    if instances.dtype.itemsize > 2:
        raise UserError(f"{job.source}: has more than 65536 ids, too many for a 16-bit PNG; check that it is a map of "
                        "ids")
    if job.label:
        write_ids(ids, job.label, note, orientation(image))
    write_ids(instances, job.instance, note, orientation(image))  # the last: it says that all is done
    return True


def split_components(classes: np.ndarray, min_area: int = 1, only: Collection[int] | None = None) -> np.ndarray:
    """Ids [H, W] 0..n-1 of the connected regions (8 neighbours) of equal class: by class, then by their first pixel.

    :param classes: [H, W], ids ≥ 0.
    :param min_area: pixels. All smaller regions of a class become one instance, the last of that class.
    :param only: split these classes. Every other one is one instance as a whole. Default: split all.
    """
    ranks = renumber(classes).astype(np.int32)
    instances = np.empty(ranks.shape, np.int32)
    count = 0
    for rank, window in enumerate(ndimage.find_objects(ranks + 1)):
        mask = ranks[window] == rank
        regions, number = ndimage.label(mask, _NEIGHBOURS)
        large = np.bincount(regions[mask], minlength=number + 1)[1:] >= min_area
        if only is not None and classes[window][mask][0] not in only:
            large[:] = False
        ids = np.where(large, np.cumsum(large) - 1, large.sum())
        instances[window][mask] = count + ids[regions[mask] - 1]
        count += ids.max() + 1
    return renumber(instances)


def main_classes(label: np.ndarray, instance: np.ndarray) -> dict[int, int]:
    """Instance id -> the class of most of its pixels, for maps [H, W] of class and instance ids; ids ascending."""
    classes = int(label.max()) + 1
    numbers = instance.astype(np.int64) * classes + label
    counts = np.bincount(numbers.ravel(), minlength=(int(instance.max()) + 1) * classes).reshape(-1, classes)
    return {int(i): int(counts[i].argmax()) for i in np.flatnonzero(counts.any(1))}
