"""Draw ADE20K's instance maps from its own objects, as the Places Challenge 2017 distributes them.

    python -m datasets.prepare_ade20k --path ADEChallengeData2016 --annotations annotations_instance

Reads PATH/annotations/{training,validation}/*.png, the label maps of scene parsing, and the files of the same names in
annotations_instance/{training,validation}/, from annotations_instance.tar: images whose first channel is a category
(0 where there is no object) and whose second is the number of the object. Writes PATH/instances/ with ids 0..n-1,
first of the classes that have no objects, then of the objects.

An instance lies within one class of the label map: the one that most of its object's pixels have. Pixels of such a
class that are in none of its objects go to the nearest one.

Maps that are up to date are left as they are; so a run that was stopped, however it was, goes on from there.
"""
import os
from typing import NamedTuple

import numpy as np

from data.ade20k_dataset import ADE20K
from data.dataset_kind import InstanceJob
from data.derived_files import make_note
from data.image_files import read_image
from datasets.objects import FIRST_OBJECT, give_rest_to_nearest, make_maps
from util.errors import UserError, command
from util.ranks import renumber


class Objects(NamedTuple):
    """The file that says which pixels are an object's: a recipe for ``make_instance_map``."""

    path: str

    def __str__(self) -> str:
        return make_note("objects", [self.path])

    def instances(self, label: np.ndarray) -> np.ndarray:
        """Ids 0..n-1 [H, W] of the instances of a label map.

        :raises UserError: the file cannot be read, is no map of objects, or is not of this picture.
        """
        return instances(label, self.numbers(label.shape))

    def numbers(self, shape: tuple[int, int]) -> np.ndarray:
        """[H, W]: a number for the object that a pixel is in, 0 where there is none."""
        image = read_image(self.path)
        if image.mode != "RGB":
            raise UserError(f"{self.path}: an image of the mode {image.mode}, not RGB; --annotations is the folder of "
                            "annotations_instance.tar")
        if image.size != shape[::-1]:
            raise UserError(f"{self.path}: {image.width}x{image.height}, but the label map is {shape[1]}x{shape[0]}; "
                            "get both archives again")
        category, number, _ = np.moveaxis(np.array(image).astype(np.int32), 2, 0)
        # whether numbers begin at 0 or 1, and anew for each category, does not matter
        return np.where(category > 0, category * 2**8 + number, 0)


def instances(label: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Ids 0..n-1 [H, W] of a label map's classes, 0..150, and of objects by ``numbers`` [H, W], 0 for none."""
    ids = label.astype(np.int32)
    classes = set()
    for number in np.unique(numbers[numbers > 0]):
        mask = numbers == number
        its_class = int(np.bincount(label[mask]).argmax())
        classes.add(its_class)
        ids[mask & (label == its_class)] = FIRST_OBJECT + number
    give_rest_to_nearest(ids, label, classes)
    return renumber(ids)


def find_work(path: str, annotations: str) -> list[tuple[InstanceJob, Objects]]:
    """The maps to make, and of what. :raises UserError: there are no label maps, or one has no file of objects."""
    folder = os.path.join(path, "annotations")
    work = [(job, Objects(os.path.join(annotations, os.path.relpath(job.source, folder))))
            for job in ADE20K().instance_jobs(path)]
    if not work:
        raise UserError(f"--path {path}: there is no {ADE20K.instances_made_from}; docs/data.md says what goes where")
    for job, objects in work:
        if not os.path.isfile(objects.path):
            raise UserError(f"{job.source}: there is no {objects.path}; --annotations is the folder of "
                            "annotations_instance.tar, with training/ and validation/")
    return work


@command
def main() -> None:
    make_maps(__doc__, "folder annotations_instance", find_work)


if __name__ == "__main__":
    main()
