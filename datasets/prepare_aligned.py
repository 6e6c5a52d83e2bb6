"""Bring photos and coloured layouts that pix2pix joins, side by side in one JPEG, into the folders that --dataset_mode
custom reads.

    python -m datasets.prepare_aligned --path facades --out datasets/facades

Reads {train,val,test}/*.jpg under --path. The photo is the left half, the layout the right one (--photo right: the
other way round). JPEG changes the layout's colours, most at the borders of regions. So every pixel gets the class of
the nearest colour, and then the class that most pixels around it have. The colours are those of the CMP facades
(Tylecek and Sara, GCPR 2013), or of --colors FILE: lines `r g b id name` with the ids 0, 1, 2, ...

Writes {train,val,test}_img/, {train,val,test}_label/ and classes.txt. --out appears when all of it is made.
"""
import argparse
import functools
import os

import numpy as np
from scipy.ndimage import uniform_filter

from data.image_files import Source, read_photo, stem
from data.label_colors import read_label_colors
from datasets.preparation import OUT, Pair, Sample, make_data_set, options
from util.arguments import integer
from util.errors import UserError, command

SPLITS = ("train", "val", "test")
FACADES = (
    ((0, 0, 222), "background"), ((0, 48, 252), "facade"), ((0, 126, 252), "window"), ((0, 204, 252), "door"),
    ((30, 252, 222), "cornice"), ((114, 252, 144), "sill"), ((192, 252, 66), "balcony"), ((252, 240, 0), "blind"),
    ((252, 162, 0), "deco"), ((252, 78, 0), "molding"), ((252, 0, 0), "pillar"), ((174, 0, 0), "shop"),
)
_FARTHEST = 40  # of a colour from the nearest of the table, in the median over a layout: else it is another table
Classes = tuple[tuple[tuple[int, int, int], str], ...]


def find_samples(path: str) -> list[Sample]:
    """The pairs under ``path``. :raises UserError: there are none."""
    samples = [Sample(split, stem(file), file, file) for split in SPLITS
               for file in Source(os.path.join(path, split)).files()]
    if not samples:
        raise UserError(f"--path {path}: there is no {{{','.join(SPLITS)}}}/*.jpg; name a folder of joined pictures")
    return samples


def read_classes(path: str) -> Classes:
    """Colours and names of the classes in a table. :raises UserError: their ids are not 0, 1, 2, ..."""
    table = read_label_colors(path, "--colors")
    if sorted(table.color_of) != list(range(len(table.color_of))):
        raise UserError(f"--colors {path}: the ids must be 0, 1, 2, ... without gaps; fix the table")
    return tuple((color, table.names.get(k, f"class {k}")) for k, color in sorted(table.color_of.items()))


def read(sample: Sample, classes: Classes, photo_is_left: bool, window: int) -> Pair:
    """Photo and label map of a joined picture.

    :param window: side of the square around a pixel whose most frequent class it gets, in pixels.
    :raises UserError: the file cannot be read, is of odd width, or has other colours.
    """
    joined = read_photo(sample.photo)
    if joined.width % 2:
        raise UserError(f"{sample.photo}: is {joined.width} pixels wide, which is odd; remove the file")
    middle = joined.width // 2
    halves = [joined.crop((left, 0, left + middle, joined.height)) for left in (0, middle)]
    photo, layout = halves if photo_is_left else halves[::-1]
    label, distance = nearest_class(np.asarray(layout), np.array([color for color, _ in classes]))
    if np.median(distance) > _FARTHEST:
        raise UserError(f"{sample.photo}: the colours of its layout are not in the table; check --photo (which half "
                        "the photo is) and --colors")
    return photo, majority(label, len(classes), window)


def nearest_class(pixels: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every pixel [H, W, 3] the place of the nearest of ``colors`` [C, 3], and its distance; [H, W] each."""
    distances = np.stack([np.linalg.norm(pixels - color.astype(float), axis=-1) for color in colors])
    return distances.argmin(0), distances.min(0)


def majority(label: np.ndarray, num_classes: int, window: int) -> np.ndarray:
    """The class [H, W] that most pixels have in a square of ``window`` pixels around each pixel, of equal ones the
    lowest; beyond the border the picture is mirrored."""
    if window == 1:
        return label
    shares = np.stack([uniform_filter((label == k).astype(np.float32), window) for k in range(num_classes)])
    return (shares.round(4)).argmax(0)  # rounded: sums that move along differ in the last digits


def odd(text: str) -> int:
    """The type of --majority."""
    value = integer(1, 99)(text)
    if value % 2 == 0:
        raise argparse.ArgumentTypeError(f"{text} is even: the square has a pixel at its centre; give an odd number")
    return value


@command
def main() -> None:
    parser = options(__doc__, path="folder with train, val and test", out=OUT)
    parser.add_argument("--photo", choices=["left", "right"], default="left",
                        help="which half is the photo (default: left)")
    parser.add_argument("--colors", metavar="FILE",
                        help="text file with the class of each colour of the layouts (default: those of CMP facades)")
    parser.add_argument("--majority", type=odd, default=3, metavar="N",
                        help="pixels: give each pixel the most frequent class in a square of this size around it; 1: "
                             "off (default 3)")
    args = parser.parse_args()
    classes = read_classes(args.colors) if args.colors else FACADES
    samples = find_samples(args.path)
    read_sample = functools.partial(read, classes=classes, photo_is_left=args.photo == "left", window=args.majority)
    make_data_set(args, samples, read_sample, classes)


if __name__ == "__main__":
    main()
