"""What the commands share that bring a data set, as it is distributed, into the layout of --dataset_mode custom."""
import argparse
import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from util.arguments import ArgumentParser, integer
from util.errors import UserError
from util.files import atomic_path, new_folder, write_atomically
from util.parallel import available_cores, run_parallel

JPEG_QUALITY = 86
OUT = "folder to make, --dataroot for training"
OVERWRITE = "make all files again, even if they are up to date"


class Sample(NamedTuple):
    """A photo and its annotation, and what to call the files that are made of them."""

    split: str
    name: str
    photo: str
    annotation: str


# photo and label map [H, W] of a sample, as they are to be written; None if it is to be left out
Pair = tuple[Image.Image, np.ndarray] | None


def options(description: str, **required: str) -> ArgumentParser:
    """A parser with the options of every command of preparation, and ``required`` ones: what they are, by name."""
    parser = ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in required.items():
        parser.add_argument(f"--{name}", required=True, help=what)
    parser.add_argument("--workers", type=integer(1), default=available_cores(),
                        help="number of processes (default: one for each core)")
    return parser


def make_data_set(args: argparse.Namespace, samples: Sequence[Sample], read: Callable[[Sample], Pair],
                  classes: Sequence[tuple[tuple[int, int, int], str]]) -> None:
    """Make the folder ``args.out``, whole or not at all, and print what is in it.

    :param read: a function of a module, or a :func:`functools.partial` of one.
    :param classes: colour and name of the classes 0, 1, 2, ..., for ``classes.txt``.
    :raises UserError: the folder is there already, a file cannot be read or written, or an id is that of no class.
    """
    if len(classes) > 2**16:
        raise UserError(f"--path {args.path}: {len(classes)} classes, but label maps have at most {2**16}")
    with new_folder(args.out) as folder:
        make = functools.partial(_make, read=read, num_classes=len(classes), folder=folder)
        sizes = run_parallel(make, samples, args.workers, "photos", "photo")
        lines = (f"{red} {green} {blue} {k} {name}" for k, ((red, green, blue), name) in enumerate(classes))
        write_atomically(os.path.join(folder, "classes.txt"), "\n".join(lines) + "\n")
    made = Counter(sample.split for sample, size in zip(samples, sizes, strict=True) if size)
    print(f"{args.out}: {', '.join(f'{count} {split}' for split, count in made.items())} photos of "
          f"{' and '.join(sorted({f'{width}x{height}' for width, height in filter(None, sizes)}))}, "
          f"{len(classes)} classes")
    for sample, size in zip(samples, sizes, strict=True):
        if not size:
            print(f"left out {sample.name}: {sample.annotation} has only background")


def _make(sample: Sample, read: Callable[[Sample], Pair], num_classes: int, folder: str) -> tuple[int, int] | None:
    """Write a photo and its label map; their (width, height)."""
    pair = read(sample)
    if pair is None:
        return None
    photo, label = pair
    if label.max() >= num_classes:
        raise UserError(f"{sample.annotation}: has the class {label.max()}, but classes are 0..{num_classes - 1}; get "
                        "the file again")
    dtype = np.uint8 if num_classes <= 2**8 else np.uint16
    for kind, image, suffix in (("img", photo, "jpg"), ("label", Image.fromarray(label.astype(dtype)), "png")):
        path = os.path.join(folder, f"{sample.split}_{kind}", f"{sample.name}.{suffix}")
        with atomic_path(path) as temporary:
            image.save(temporary, quality=JPEG_QUALITY)  # PNG has no use for the quality
    return photo.size


def check_pair(sample: Sample, photo: Image.Image, label: np.ndarray) -> None:
    """Refuse a photo and an annotation, as read, that differ in size."""
    if photo.size != label.shape[::-1]:
        raise UserError(f"{sample.photo}: {photo.width}x{photo.height}, but {sample.annotation} is {label.shape[1]}x"
                        f"{label.shape[0]}; get the files again")
