"""Make the instance maps that INADE needs, by renumbering the ids of each map 0..n-1 in ascending order.

    python make_instances.py --path DATA --dataset cityscapes

Reads and writes, under --path:

===========  ======================================  ====================================================
ade20k       ``annotations/**``                      ``instances/**``
celeba       ``{train,test}/labels/``                ``{train,test}/instances/``
cityscapes   ``gtFine/**/*_instanceIds.png``         ``gtFine/**/*_instanceReIds.png``
deepfashion  ``{train,test}_mask/``, first channel   ``{train,test}_label/`` as it is, ``{train,test}_inst/``
===========  ======================================  ====================================================

Maps are written as PNG: 8 bits, or 16 bits where a map has more than 256 ids.
"""
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.image_files import Source, read_ids, renumber
from util.arguments import ArgumentParser
from util.errors import UserError, command
from util.files import atomic_path


class Job(NamedTuple):
    """A map to read, and the files to make of it."""

    source: str
    instance: str
    label: str | None = None  # where to put the map, its first channel, as it is


def ade20k(root: str) -> Iterator[Job]:
    return _mirrored(Source(os.path.join(root, "annotations"), recursive=True), os.path.join(root, "instances"))


def celeba(root: str) -> Iterator[Job]:
    for split in ("train", "test"):
        yield from _mirrored(Source(os.path.join(root, split, "labels")), os.path.join(root, split, "instances"))


def cityscapes(root: str) -> Iterator[Job]:
    ending = "_instanceIds.png"
    for path in Source(os.path.join(root, "gtFine"), ending=ending, recursive=True).files():
        yield Job(path, path[:-len(ending)] + "_instanceReIds.png")


def deepfashion(root: str) -> Iterator[Job]:
    for split in ("train", "test"):
        masks = Source(os.path.join(root, f"{split}_mask"))
        for job in _mirrored(masks, os.path.join(root, f"{split}_inst")):
            yield job._replace(label=os.path.join(root, f"{split}_label", os.path.basename(job.instance)))


def _mirrored(source: Source, target: str) -> Iterator[Job]:
    """A PNG in the folder ``target``, and in its subfolders, for every image of ``source``."""
    for path in source.files():
        name = os.path.relpath(path, source.folder)
        yield Job(path, os.path.join(target, os.path.splitext(name)[0] + ".png"))


# --dataset: how its maps are found, and what they are, for the message when there are none
DATASETS: dict[str, tuple[Callable[[str], Iterator[Job]], str]] = {
    "ade20k": (ade20k, "annotations/*/*.png"),
    "celeba": (celeba, "{train,test}/labels/*.png"),
    "cityscapes": (cityscapes, "gtFine/*/*/*_instanceIds.png"),
    "deepfashion": (deepfashion, "{train,test}_mask/*.png"),
}


def find_jobs(root: str, dataset: str) -> list[Job]:
    """What is to be done for ``dataset`` under ``root``.

    :raises UserError: the folder or the maps are missing.
    """
    if not os.path.isdir(root):
        raise UserError(f"--path {root}: no such folder")
    find, files = DATASETS[dataset]
    jobs = list(find(root))
    if not jobs:
        raise UserError(f"--path {root}: there is no {files}; check --path and --dataset {dataset}")
    return jobs


def make(job: Job) -> None:
    """Write the files of ``job``, each as a whole or not at all.

    :raises UserError: the map cannot be read, or a file cannot be written.
    """
    ids = read_ids(job.source, first_channel=job.label is not None)
    if job.label:
        _save(ids, job.label)
    instances = renumber(ids)
    if instances.dtype.itemsize > 2:
        raise UserError(f"{job.source}: has more than 65536 ids, too many for a 16-bit PNG; is it a map of ids?")
    _save(instances, job.instance)


def _save(ids: np.ndarray, path: str) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(ids).save(temporary, "PNG")


@command
def main() -> None:
    parser = ArgumentParser(description="Make instance maps: the ids of each map renumbered 0..n-1 in ascending order.")
    parser.add_argument("--path", required=True, help="folder of the data set")
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS), help="kind of data set")
    args = parser.parse_args()
    jobs = find_jobs(args.path, args.dataset)
    with tqdm(jobs, desc="instance maps", unit="map") as bar:  # closed before an error is reported
        for job in bar:
            make(job)
    print(f"{len(jobs)} instance maps made under {args.path}")


if __name__ == "__main__":
    main()
