"""What the commands share that draw instance maps from a data set's own objects."""
import argparse
import functools
import os
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from data.dataset_kind import InstanceJob
from data.derived_files import remove_leftovers
from data.instance_maps import InstanceRecipe, make_instance_map
from util.arguments import ArgumentParser, integer
from util.files import exclusive
from util.parallel import available_cores, run_parallel

FIRST_OBJECT = 2**8  # ids below it are classes


def options(description: str, annotations: str) -> ArgumentParser:
    """A parser with the options that these commands have.

    :param annotations: what --annotations is.
    """
    parser = ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="folder of the data set, --dataroot for training")
    parser.add_argument("--annotations", required=True, help=annotations)
    parser.add_argument("--overwrite", action="store_true", help="make all maps again, even if they are up to date")
    parser.add_argument("--workers", type=integer(1), default=available_cores(),
                        help="number of processes (default: one for each core)")
    return parser


def make_maps(args: argparse.Namespace, work: Sequence[tuple[InstanceJob, InstanceRecipe]]) -> None:
    """Make the instance maps that are not up to date.

    :raises UserError: a file cannot be read or written, or was made by another tool.
    """
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
