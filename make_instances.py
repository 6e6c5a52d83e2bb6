"""Make the instance maps that INADE needs: the ids of each map renumbered 0..n-1 in ascending order, or its components.

    python make_instances.py --path DATA --dataset cityscapes
    python make_instances.py --path DATA --dataset ade20k --split_components --min_area 64
    python make_instances.py --dataset custom --label_dir LABELS --instance_dir INSTANCES

Reads and writes, under --path:

============  ======================================  ====================================================
ade20k        ``annotations/**``                      ``instances/**``
celeba        ``{train,test}/labels/``                ``{train,test}/instances/``
cityscapes    ``gtFine/**/*_instanceIds.png``         ``gtFine/**/*_instanceReIds.png``
coco, custom  ``{train,val}_label/``                  ``{train,val}_inst/``
deepfashion   ``{train,test}_mask/``, first channel   ``{train,test}_label/`` as it is, ``{train,test}_inst/``
============  ======================================  ====================================================

Maps are written as PNG: 8 bits, or 16 bits where a map has more than 256 ids. A map that was made with the same options
from a file that has not changed since is left as it is; so a run that was stopped, however it was, goes on from there.
"""
import argparse
import functools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data.components import split_components
from data.derived_files import make_note, read_note, remove_leftovers, write_ids
from data.image_files import Source, read_ids, renumber
from util.arguments import ArgumentParser
from util.errors import UserError, command
from util.parallel import available_cores, run_parallel


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


def coco(root: str) -> Iterator[Job]:
    for split in ("train", "val"):
        yield from _mirrored(Source(os.path.join(root, f"{split}_label")), os.path.join(root, f"{split}_inst"))


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
    "coco": (coco, "{train,val}_label/*.png"),
    "custom": (coco, "{train,val}_label/*.png"),
    "deepfashion": (deepfashion, "{train,test}_mask/*.png"),
}
# whose instance maps may come from elsewhere: those are not replaced unasked
WITH_FOREIGN_MAPS = ("coco", "custom")


def find_jobs(args: argparse.Namespace) -> list[Job]:
    """What is to be done.

    :raises UserError: the folder or the maps are missing, or one file would be made of two.
    """
    option, folder = ("label_dir", args.label_dir) if args.label_dir else ("path", args.path)
    if not os.path.isdir(folder):
        raise UserError(f"--{option} {folder}: no such folder")
    if args.label_dir:
        jobs, files = list(_mirrored(Source(folder), args.instance_dir)), "image in it"
    else:
        find, files = DATASETS[args.dataset]
        jobs = list(find(folder))
    if not jobs:
        raise UserError(f"--{option} {folder}: there is no {files}; check --{option} and --dataset {args.dataset}")
    source_of: dict[str, str] = {}
    for job in jobs:
        other = source_of.setdefault(job.instance, job.source)
        if other != job.source:
            raise UserError(f"{other} and {job.source} would both become {job.instance}: remove or rename one")
    return jobs


def make(job: Job, args: argparse.Namespace) -> bool:
    """Write the files of ``job``, each as a whole or not at all; False if they are up to date already.

    :raises UserError: the map cannot be read, or a file cannot be written or must not be replaced.
    """
    recipe = f"components {args.min_area} {args.split_classes or 'all'}" if args.split_components else "classes"
    note = make_note(f"make_instances: {recipe},", [job.source])
    if not args.overwrite and os.path.lexists(job.instance):
        found = read_note(job.instance)
        if found == note and (job.label is None or os.path.exists(job.label)):
            return False
        if found is None and args.dataset in WITH_FOREIGN_MAPS:
            raise UserError(f"{job.instance}: was not made by this command; keep it, or give --overwrite to replace "
                            "all maps")
    ids = read_ids(job.source, first_channel=job.label is not None)
    instances = (split_components(ids, args.min_area, args.split_classes) if args.split_components
                 else renumber(ids))
    if instances.dtype.itemsize > 2:
        raise UserError(f"{job.source}: has more than 65536 ids, too many for a 16-bit PNG; is it a map of ids?")
    if job.label:
        write_ids(ids, job.label, note)
    write_ids(instances, job.instance, note)  # the last: it says that all is done
    return True


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description="Make instance maps: the ids of each map renumbered 0..n-1 in ascending order.")
    add = parser.add_argument
    add("--dataset", required=True, choices=sorted(DATASETS), help="kind of data set")
    add("--path", help="folder of the data set")
    add("--label_dir", help="custom: folder of label maps, instead of --path")
    add("--instance_dir", help="custom: folder for the instance maps of --label_dir")
    add("--split_components", action="store_true",
        help="every connected region of a class (pixels that touch, also at a corner) is an instance; not for "
             "cityscapes, whose objects have ids already, and may be in several pieces")
    add("--min_area", type=int, default=1, metavar="N",
        help="with --split_components: all regions of a class that have fewer pixels are one instance (default 1)")
    add("--split_classes", type=int, nargs="+", metavar="ID",
        help="with --split_components: split these classes alone, as stored in the maps (default: all)")
    add("--overwrite", action="store_true", help="make all maps anew, also those that are up to date")
    add("--workers", type=int, default=available_cores(), help="processes (default: one for each core)")
    args = parser.parse_args()
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    if bool(args.label_dir) != bool(args.instance_dir) or (args.label_dir and args.dataset != "custom"):
        raise UserError("--label_dir and --instance_dir go together, with --dataset custom")
    if bool(args.path) == bool(args.label_dir):
        raise UserError("give --path, or with --dataset custom --label_dir and --instance_dir instead")
    if args.label_dir and os.path.realpath(args.label_dir) == os.path.realpath(args.instance_dir):
        raise UserError(f"--instance_dir {args.instance_dir}: is --label_dir; choose another folder")
    if args.split_components and args.dataset == "cityscapes":
        raise UserError("--split_components: Cityscapes has instances already, which may be in several pieces; leave "
                        "the option out")
    if not args.split_components and (args.min_area != 1 or args.split_classes):
        raise UserError("--min_area and --split_classes need --split_components")
    for option in ("min_area", "workers"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option} {getattr(args, option)}: choose 1 or more")


@command
def main() -> None:
    args = parse()
    jobs = find_jobs(args)
    remove_leftovers({os.path.dirname(path) for job in jobs for path in (job.instance, job.label) if path})
    made = run_parallel(functools.partial(make, args=args), jobs, args.workers, "instance maps", "map")
    print(f"{len(jobs)} instance maps under {args.instance_dir or args.path}: {sum(made)} made, "
          f"{len(jobs) - sum(made)} up to date")


if __name__ == "__main__":
    main()
