"""Bring Clothing Co-Parsing (Yang et al., CVPR 2014) into the folders that --dataset_mode custom reads.

    git clone https://github.com/bearpaw/clothing-co-parsing
    python -m datasets.prepare_ccp --path clothing-co-parsing --out datasets/ccp

Reads, under --path:

    photos/NNNN.jpg                      photos of persons, 550 pixels wide
    annotations/pixel-level/NNNN.mat     the matrix `groundtruth` of the first 1004 photos: ids of 59 classes
    label_list.mat                       the classes' names; class 0, `null`, is the background

and writes {train,val}_img/NNNN.jpg, {train,val}_label/NNNN.png and classes.txt. Each photo is cropped to its person, in
the shape of --aspect_ratio. Every tenth photo, by its number, is for validation.

--out appears when all of it is made.
"""
import functools
import os
import re

import numpy as np
from PIL import Image
from scipy.io import loadmat

from data.image_files import check_ids, read_photo, stem
from datasets.draw_people import DRAWN
from datasets.preparation import OUT, Pair, Sample, check_pair, make_data_set, options
from util.arguments import integer, number
from util.errors import UserError, command
from util.palette import soft_palette

ANNOTATIONS = os.path.join("annotations", "pixel-level")
MARGIN = 1.08  # height of a crop that a standing person fills, in heights of the person
VAL_STEP = 10  # photos whose number is a multiple of it are for validation


def find_samples(path: str) -> list[Sample]:
    """What is annotated under ``path``. :raises UserError: there is nothing."""
    folder = os.path.join(path, ANNOTATIONS)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    names = [stem(name) for name in names if re.fullmatch(r"[0-9]{4}\.mat", name)]
    if not names:
        raise UserError(f"--path {path}: there is no {ANNOTATIONS}/*.mat; name a clone of clothing-co-parsing")
    return [Sample("train" if int(name) % VAL_STEP else "val", name, os.path.join(path, "photos", f"{name}.jpg"),
                   os.path.join(folder, f"{name}.mat")) for name in names]


def read_matrix(path: str, name: str) -> np.ndarray:
    """The matrix ``name`` of a MATLAB file. :raises UserError: the file cannot be read or has no such matrix."""
    try:
        return loadmat(path)[name]
    except Exception as error:  # damaged files make the reader fail in many ways
        reason = f"no matrix `{name}`" if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path} ({reason or type(error).__name__}); get the file again") from error


def read_classes(path: str) -> list[str]:
    """Names of the classes 0, 1, 2, ... :raises UserError: there are none, or one is empty."""
    cells = read_matrix(path, "label_list")
    names = [" ".join(map(str, np.ravel(cell)[:1])) for cell in cells.flat] if isinstance(cells, np.ndarray) else []
    names = [" ".join(name.split()) for name in names]  # each is one line of classes.txt
    if not names or not all(names):
        raise UserError(f"{path}: label_list is not a list of names, or lacks the name of a class; get the file again")
    return ["background", *names[1:]]  # where the file says null


def read(sample: Sample, height: int, aspect_ratio: float) -> Pair:
    """Photo and label map, cropped to the person. :raises UserError: a file cannot be read, or their sizes differ."""
    label = check_ids(read_matrix(sample.annotation, "groundtruth"), sample.annotation)
    photo = read_photo(sample.photo)
    check_pair(sample, photo, label)
    if not label.any():
        return None
    box = person_box(label > 0, aspect_ratio)
    size = round(height * aspect_ratio), height
    return (photo.crop(box).resize(size, Image.Resampling.LANCZOS),
            np.asarray(Image.fromarray(label).crop(box).resize(size, Image.Resampling.NEAREST)))


def person_box(person: np.ndarray, aspect_ratio: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop around the person [H, W] bool: centred, with a margin, of width / height
    ``aspect_ratio``; moved, and where need be shrunk, to lie within the photo."""
    rows, columns = np.flatnonzero(person.any(axis=1)), np.flatnonzero(person.any(axis=0))
    (top, bottom), (left, right) = ((ends[0], ends[-1] + 1) for ends in (rows, columns))
    height = MARGIN * max(bottom - top, (right - left) / aspect_ratio)
    height = min(height, person.shape[0], person.shape[1] / aspect_ratio)
    width = height * aspect_ratio
    top = np.clip((top + bottom - height) / 2, 0, person.shape[0] - height)
    left = np.clip((left + right - width) / 2, 0, person.shape[1] - width)
    return int(left), int(top), int(left) + max(1, int(width)), int(top) + max(1, int(height))


@command
def main() -> None:
    parser = options(__doc__, path="clone of clothing-co-parsing", out=OUT)
    parser.add_argument("--height", type=integer(16, 2**12), default=320,
                        help="pixels: height of the photos that are written (default 320)")
    parser.add_argument("--aspect_ratio", type=number(0.1, 10), default=0.5,
                        help="width / height of the photos that are written (default 0.5)")
    args = parser.parse_args()
    samples = find_samples(args.path)
    names = read_classes(os.path.join(args.path, "label_list.mat"))
    read_sample = functools.partial(read, height=args.height, aspect_ratio=args.aspect_ratio)
    make_data_set(args, samples, read_sample, list(zip(soft_palette(names, DRAWN), names, strict=True)))


if __name__ == "__main__":
    main()
