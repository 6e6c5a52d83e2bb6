"""Bring CelebAMask-HQ, as it is distributed, into the folders that --dataset_mode celeba reads.

    python -m datasets.prepare_celebamask --path CelebAMask-HQ --out datasets/celeba
    python make_instances.py --path datasets/celeba --dataset celeba

Reads, under --path:

    CelebA-HQ-img/N.jpg                              photos, 1024x1024
    CelebAMask-HQ-mask-anno/0..14/NNNNN_PART.png     masks, 512x512, one for each part of a face that is seen
    CelebA-HQ-to-CelebA-mapping.txt                  of which photo of CelebA each photo was made
    list_eval_partition.txt                          CelebA's official split, if you put it there; it comes with CelebA

and writes {train,test}/images/N.jpg and {train,test}/labels/N.png. Without list_eval_partition.txt, photos 0..27999 are
for training and 28000..29999 for testing. With it, a photo goes where CelebA has the photo that it was made of: its
partition 0 is train, 1 is val (written, but read by nothing here), 2 is test.

Ready-made label maps are taken as they are: where --path has folders images and masks, it reads

    images/NAME.jpg                                  photos
    masks/NAME.png                                   the ids of a label map, 0..18, also with a palette

and the last tenth of the names (at least one), or --num_test of them, is for testing.

A label is 1 + the part's place in the list PARTS, 0 where there is no part; later parts are drawn over earlier ones.
classes.txt gets their names and colours, unless it is there.
Files that are up to date are left as they are; so a run that was stopped, however it was, goes on from there.
"""
import functools
import os
import re
import shutil
from collections import Counter
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.celeba_dataset import CelebAMaskHQ
from data.derived_files import make_note, read_note, write_ids
from data.image_files import Source, check_size, read_ids, read_image, read_photo, stem
from datasets.preparation import OVERWRITE, options
from util.arguments import integer
from util.errors import UserError, command
from util.files import atomic_path, exclusive, read_text, remove_leftovers, write_atomically
from util.palette import class_table
from util.parallel import run_parallel
from util.progress import counted

PARTS = CelebAMaskHQ.class_names[1:]
SPLITS = ("train", "val", "test")  # the position is the number in list_eval_partition.txt
FIRST_TEST = 28000  # without that file
PHOTOS, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
MAPPING, PARTITION = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"


class Job(NamedTuple):
    """A face: its photo and masks, and the files to make of them."""

    split: str
    photo: str
    masks: tuple[tuple[int | None, str], ...]  # (label, path), in the order of labels; a label map: (None, path) alone
    image: str
    label: str


def find_jobs(path: str, out: str, num_test: int | None = None) -> list[Job]:
    """A job for every photo under ``path``.

    :param num_test: of the photos, the last by name, are for testing, where label maps are ready-made.
    :raises UserError: folders, photos, masks or places in the split are missing, or ``out`` has another split.
    """
    if all(os.path.isdir(os.path.join(path, folder)) for folder in ("images", "masks")):
        return _find_ready(path, out, num_test)
    if num_test is not None:
        raise UserError(f"--num_test {num_test}: has an effect only on ready-made label maps, but --path {path} has no "
                        "folders images and masks; leave it out")
    photos = {_number(photo): photo for photo in Source(os.path.join(path, PHOTOS), ending=".jpg").files()}
    masks = _find_masks(path)
    for found, kind in ((photos, f"{PHOTOS}/*.jpg"), (masks, f"{MASKS}/*/*_skin.png")):
        if not found:
            raise UserError(f"--path {path}: there is no {kind}; name the folder CelebAMask-HQ, unpacked")
    for number in sorted(photos.keys() ^ masks.keys()):
        if number in photos:
            raise UserError(f"{photos[number]}: has no masks in {os.path.join(path, MASKS)}; unpack the archive again")
        raise UserError(f"{masks[number][0][1]}: has no photo in {os.path.join(path, PHOTOS)}; unpack the archive "
                        "again")
    split_of = _read_splits(path, sorted(photos))
    _refuse_other_split(out, {str(number): split for number, split in split_of.items()})
    return [_job(out, split_of[number], str(number), photo, masks[number]) for number, photo in sorted(photos.items())]


def _find_ready(path: str, out: str, num_test: int | None) -> list[Job]:
    """Jobs for photos with label maps."""
    photos, maps = ({stem(file): file for file in Source(os.path.join(path, folder), ending=ending).files()}
                    for folder, ending in (("images", ".jpg"), ("masks", ".png")))
    for name in sorted(photos.keys() ^ maps.keys()):
        raise UserError(f"{photos.get(name) or maps[name]}: has no partner with the same name in images (.jpg) or "
                        "masks (.png); get the files again")
    if not photos:
        raise UserError(f"--path {path}: there is no images/*.jpg; name the folder of images and masks")
    num_test = min(max(len(photos) // 10, 1), len(photos) - 1) if num_test is None else num_test
    if num_test >= len(photos):
        raise UserError(f"--num_test {num_test}: there are {len(photos)} photos; leave some for training")
    names = sorted(photos)
    split_of = {name: "test" if n >= len(names) - num_test else "train" for n, name in enumerate(names)}
    _refuse_other_split(out, split_of)
    return [_job(out, split_of[name], name, photos[name], [(None, maps[name])]) for name in names]


def _job(out: str, split: str, name: str, photo: str, masks: list[tuple[int | None, str]]) -> Job:
    return Job(split, photo, tuple(masks), os.path.join(out, split, "images", f"{name}.jpg"),
               os.path.join(out, split, "labels", f"{name}.png"))


def _number(path: str) -> int:
    if not re.fullmatch(r"[0-9]+", stem(path)):
        raise UserError(f"{path}: photos have names like 12.jpg; remove the file")
    return int(stem(path))


def _find_masks(path: str) -> dict[int, list[tuple[int, str]]]:
    """The masks of each face: (label, path), in the order of labels."""
    found: dict[int, dict[int, str]] = {}
    for mask in Source(os.path.join(path, MASKS), ending=".png", recursive=True).files():
        name = re.fullmatch(r"([0-9]+)_(\w+)", stem(mask))
        if not name or name[2] not in PARTS:
            raise UserError(f"{mask}: masks have names like 00012_hair.png, for a part of {', '.join(PARTS)}; "
                            "remove the file")
        label = 1 + PARTS.index(name[2])
        other = found.setdefault(int(name[1]), {}).setdefault(label, mask)
        if other != mask:
            raise UserError(f"{other} and {mask} are masks of the same part; remove one")
    return {number: sorted(masks.items()) for number, masks in found.items()}


def _read_splits(path: str, numbers: list[int]) -> dict[int, str]:
    partition, mapping = os.path.join(path, PARTITION), os.path.join(path, MAPPING)
    if not os.path.exists(partition):
        return {number: "train" if number < FIRST_TEST else "test" for number in numbers}
    split_of_file = {name: SPLITS[int(split)] for name, split in _rows(partition, r"(\S+)\s+([012])")}
    file_of = {int(number): name for number, name in _rows(mapping, r"([0-9]+)\s+[0-9]+\s+(\S+)", header=True)}
    for number in numbers:
        if file_of.get(number) not in split_of_file:
            lacking = partition if number in file_of else mapping
            raise UserError(f"{lacking}: has no line for photo {number} ({file_of.get(number, 'unknown in CelebA')}); "
                            "get the file again")
    return {number: split_of_file[file_of[number]] for number in numbers}


def _rows(path: str, form: str, header: bool = False) -> list[tuple[str, ...]]:
    """The groups of ``form`` in every line of a text file."""
    lines = read_text(path, remedy=f"get the file again, or remove {PARTITION} to split by number").splitlines()
    rows = [(line, re.fullmatch(form, line.strip())) for line in lines[int(header):] if line.strip()]
    for line, match in rows:
        if not match:
            raise UserError(f"{path}: cannot read the line {line[:60]!r}; get the file again")
    return [match.groups() for _, match in rows]


def _refuse_other_split(out: str, split_of: dict[str, str]) -> None:
    for split in SPLITS:
        for path in Source(os.path.join(out, split, "labels")).files():
            name = stem(path)
            if split_of.get(name, split) != split:
                raise UserError(f"{path}: belongs to {split_of[name]} now, because the split has changed; empty --out "
                                "first, or choose another")


def prepare(job: Job, size: int | None, overwrite: bool) -> bool:
    """Write photo and label map of ``job``, each as a whole or not at all; False if they are up to date already.

    :raises UserError: a file cannot be read or written, or sizes do not go together.
    """
    paths = [path for _, path in job.masks]
    note = make_note(f"prepare_celebamask: {size or 'whole'},", [job.photo, *paths])
    if not overwrite and read_note(job.label) == note and os.path.exists(job.image):
        return False
    label = draw_label(job.masks)
    photo = read_photo(job.photo)
    if photo.width * label.shape[0] != photo.height * label.shape[1]:
        raise UserError(f"{job.photo}: {photo.width}x{photo.height}, but its masks are {label.shape[1]}x"
                        f"{label.shape[0]}, of another shape; get the file again")
    target = size and check_size(size, size * photo.height / photo.width, job.photo, f"--size {size}")
    with atomic_path(job.image) as temporary:
        if target:
            photo.resize(target, Image.Resampling.BICUBIC).save(temporary, "JPEG", quality=95)
        else:
            shutil.copyfile(job.photo, temporary)
    write_ids(label, job.label, note)  # the last: it says that all is done
    return True


def draw_label(masks: tuple[tuple[int | None, str], ...]) -> np.ndarray:
    """Label map [H, W] uint8 of ``masks`` (label, path): later ones over earlier ones, where they are not 0; or that of
    a file.

    :raises UserError: a mask cannot be read, or is not of the size of the first; a label map has other ids.
    """
    if masks[0][0] is None:
        label = read_ids(masks[0][1])
        if label.max() > len(PARTS):
            raise UserError(f"{masks[0][1]}: has the id {label.max()}, but those of CelebAMask-HQ are 0..{len(PARTS)}; "
                            "remove the file, or use --dataset_mode custom, which allows all ids")
        return label.astype(np.uint8)
    drawn = None
    for label, path in masks:
        mask = np.asarray(read_image(path).convert("L"))
        if drawn is None:
            drawn = np.zeros(mask.shape, np.uint8)
        if mask.shape != drawn.shape:
            raise UserError(f"{path}: {mask.shape[1]}x{mask.shape[0]}, but {masks[0][1]} is {drawn.shape[1]}x"
                            f"{drawn.shape[0]}; get the file again")
        drawn[mask != 0] = label
    return drawn


@command
def main() -> None:
    parser = options(__doc__, path="folder CelebAMask-HQ, unpacked", out="folder to write, --dataroot for training")
    parser.add_argument("--size", type=integer(16),
                        help="pixels: width of the photos that are written (default: copies of the files); label "
                             "maps keep their size")
    parser.add_argument("--num_test", type=integer(0),
                        help="for ready-made label maps: number of test pictures, the last by name (default: a tenth, "
                             "at least one)")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    args = parser.parse_args()
    for option, value in (("path", args.path), ("out", args.out)):
        if (option == "path" or os.path.exists(value)) and not os.path.isdir(value):
            raise UserError(f"--{option} {value}: is not a folder")
    jobs = find_jobs(args.path, args.out, args.num_test)
    with exclusive(args.out):
        remove_leftovers({os.path.dirname(path) for job in jobs for path in (job.image, job.label)})
        made = run_parallel(functools.partial(prepare, size=args.size, overwrite=args.overwrite), jobs, args.workers,
                            "faces", "face")
        if not os.path.exists(table := os.path.join(args.out, "classes.txt")):
            write_atomically(table, class_table(CelebAMaskHQ.class_names))
    counts = Counter(job.split for job in jobs)
    by = PARTITION if os.path.exists(os.path.join(args.path, PARTITION)) else f"number, tests from {FIRST_TEST}"
    by = "name" if jobs[0].masks[0][0] is None else by
    print(f"{counted(len(jobs), 'face')} in {args.out} (split by {by}): "
          + ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split] or split != "val")
          + f"; {sum(made)} made, {len(jobs) - sum(made)} up to date")


if __name__ == "__main__":
    main()
