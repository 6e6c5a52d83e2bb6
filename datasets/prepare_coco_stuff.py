"""Draw COCO-Stuff's instance maps from COCO's own objects, which part people who touch.

    python -m datasets.prepare_coco_stuff --path DATA --annotations annotations

Reads DATA/{train,val}_label/*.png, the label maps of stuffthingmaps_trainval2017.zip, and
instances_{train,val}2017.json under --annotations, from annotations_trainval2017.zip. Writes
DATA/{train,val}_inst/*.png: ids 0..n-1, first of the classes that have no objects, then of the objects.

An instance lies within one class of the label map. Polygons are coarser than the label maps: pixels of a class that
none of its objects covers go to the nearest one. Where objects overlap, the smaller one is in front.

Maps that are up to date are left as they are; so a run that was stopped, however it was, goes on from there.
"""
import json
import os
import zlib
from typing import Any, NamedTuple

import numpy as np

from data.dataset_kind import InstanceJob, mirrored_splits
from data.image_files import stem
from datasets.objects import FIRST_OBJECT, give_rest_to_nearest, make_maps
from util.errors import UserError, command
from util.files import read_text
from util.ranks import renumber

SPLITS = ("train", "val")


class Object(NamedTuple):
    """A thing, or a crowd of them."""

    category: int  # 1..90; the label maps have the category - 1
    area: float  # pixels
    segmentation: list[list[float]] | dict[str, Any]  # polygons x, y, x, y, ...; or runs

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """[H, W] bool. :raises ValueError: runs that do not fit the shape, or compressed ones (not official)."""
        if isinstance(self.segmentation, dict):
            # lengths of runs of 0, 1, 0, ... along the columns
            size, counts = self.segmentation["size"], self.segmentation["counts"]
            if isinstance(counts, str) or list(shape) != size or sum(counts) != shape[0] * shape[1]:
                raise ValueError(f"runs of the size {size}, for a label map of {list(shape)}")
            return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape[::-1]).T
        return np.any([inside(polygon, shape) for polygon in self.segmentation], axis=0)


def inside(polygon: list[float], shape: tuple[int, int]) -> np.ndarray:
    """[H, W] bool: the pixels whose centre is inside of a polygon x, y, x, y, ..., in which 0, 0 is the image's corner:
    an odd number of edges cross its row to the left of it. :raises ValueError: not pairs of numbers."""
    x, y = np.array(polygon, dtype=float).reshape(-1, 2).T
    if not (np.abs([x, y]) < 2**31).all():
        raise ValueError("a corner at no place of a picture")
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    centres = np.arange(shape[0])[:, None] + 0.5
    row, edge = np.nonzero((y <= centres) != (next_y <= centres))
    share = (row + 0.5 - y[edge]) / (next_y - y)[edge]
    crossing = x[edge] + share * (next_x - x)[edge]
    crossings = np.zeros((shape[0], shape[1] + 1), np.int32)
    np.add.at(crossings, (row, np.ceil(crossing - 0.5).clip(0, shape[1]).astype(int)), 1)
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


class Objects(NamedTuple):
    """What a picture's instance map is made of besides its label map: a recipe for ``make_instance_map``."""

    name: str
    shape: tuple[int, int]  # height and width of the picture
    objects: tuple[Object, ...]

    def __str__(self) -> str:
        return f"objects {zlib.crc32(repr(self.objects).encode()):08x}"

    def instances(self, label: np.ndarray) -> np.ndarray:
        """Ids 0..n-1 [H, W] of a label map's instances. :raises UserError: the objects do not fit the label map."""
        if label.shape != self.shape:
            raise UserError(f"{self.name}: its objects are of {self.shape[1]}x{self.shape[0]} pixels, but its label "
                            f"map is {label.shape[1]}x{label.shape[0]}; use both as they are distributed")
        ids = label.astype(np.int32)
        try:
            for number, thing in enumerate(sorted(self.objects, key=lambda thing: -thing.area)):
                ids[thing.mask(label.shape) & (label == thing.category - 1)] = FIRST_OBJECT + number
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{self.name}: its objects cannot be drawn ({error}); get the annotations again") from error
        give_rest_to_nearest(ids, label, {thing.category - 1 for thing in self.objects})
        return renumber(ids)


def read_objects(path: str) -> dict[str, Objects]:
    """The objects of every picture, by its stem. :raises UserError: the file cannot be read, or is not of that form."""
    text = read_text(path, remedy="unpack annotations_trainval2017.zip there")
    try:
        content = json.loads(text)
        objects: dict[int, list[Object]] = {image["id"]: [] for image in content["images"]}
        for thing in content["annotations"]:
            objects[thing["image_id"]].append(
                Object(int(thing["category_id"]), float(thing["area"]), thing["segmentation"]))
        return {stem(image["file_name"]): Objects(image["file_name"], (int(image["height"]), int(image["width"])),
                                                  tuple(objects[image["id"]]))
                for image in content["images"]}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: not COCO's instances ({type(error).__name__}: {error}); unpack "
                        "annotations_trainval2017.zip again") from error


def find_work(path: str, annotations: str) -> list[tuple[InstanceJob, Objects]]:
    """The maps to make, and of what. :raises UserError: there are no label maps, or they are of other pictures."""
    found = []
    for split in SPLITS:
        jobs = list(mirrored_splits(path, [split]))
        file = os.path.join(annotations, f"instances_{split}2017.json")
        objects = read_objects(file) if jobs else {}
        for job in jobs:
            if stem(job.source) not in objects:
                raise UserError(f"{job.source}: {file} has no picture of this name; check that the file is in the "
                                "right folder")
            found.append((job, objects[stem(job.source)]))
    if not found:
        raise UserError(f"--path {path}: there is no {{train,val}}_label/*.png; docs/data.md says what goes where")
    return found


@command
def main() -> None:
    make_maps(__doc__, "folder of instances_{train,val}2017.json", find_work)


if __name__ == "__main__":
    main()
