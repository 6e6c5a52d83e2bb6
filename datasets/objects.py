"""What the commands share that draw instance maps from a data set's own objects."""
import functools
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import ndimage

from data.dataset_kind import InstanceJob
from data.instance_maps import InstanceRecipe, make_instance_map
from datasets.preparation import OVERWRITE, options
from util.files import exclusive, remove_leftovers
from util.parallel import run_parallel

FIRST_OBJECT = 2**8  # ids below it are classes


def make_maps(description: str, annotations: str,
              find_work: Callable[[str, str], Sequence[tuple[InstanceJob, InstanceRecipe]]]) -> None:
    """What these commands do: make the instance maps that are not up to date.

    :param find_work: of --path and --annotations, the maps to make, and what to make them from.
    :raises UserError: a file cannot be read or written, or was made by another tool.
    """
    parser = options(description, path="folder of the data set, --dataroot for training", annotations=annotations)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    args = parser.parse_args()
    work = find_work(args.path, args.annotations)
    with exclusive(args.path):
        remove_leftovers({os.path.dirname(job.instance) for job, _ in work})
        made = run_parallel(functools.partial(_make, overwrite=args.overwrite), work, args.workers, "instance maps",
                            "map")
    print(f"{len(work)} instance maps under {args.path}: {sum(made)} made, {len(work) - sum(made)} up to date")


def _make(work: tuple[InstanceJob, InstanceRecipe], overwrite: bool) -> bool:
    return make_instance_map(*work, overwrite, keep_foreign=True)


def give_rest_to_nearest(ids: np.ndarray, label: np.ndarray, classes: Iterable[int]) -> None:
    """Give the pixels of a class that are in none of its objects to the nearest one, if there is one.

    :param ids: [H, W], those of objects from FIRST_OBJECT on; changed in place.
    :param label: [H, W].
    """
    for k in classes:
        of_class = label == k
        for window in ndimage.find_objects(of_class.astype(np.uint8)):
            inside, found = of_class[window], ids[window]
            objects = inside & (found >= FIRST_OBJECT)
            if objects.any():
                rows, columns = ndimage.distance_transform_edt(~objects, return_distances=False, return_indices=True)
                found[inside] = found[rows[inside], columns[inside]]
