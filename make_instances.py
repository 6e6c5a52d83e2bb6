"""Make the instance maps that INADE needs: the ids of each map renumbered 0..n-1 in ascending order, or its components.

    python make_instances.py --path DATA --dataset cityscapes
    python make_instances.py --path DATA --dataset ade20k --split_components --min_area 64
    python make_instances.py --dataset custom --label_dir LABELS --instance_dir INSTANCES

The file of each data set in data/ says which maps are read and where the results go; docs/data.md lists them.

Maps are written as PNG: 8 bits, or 16 bits where a map has more than 256 ids. A map that was made with the same options
from a file that has not changed since is left as it is. So a run that was stopped, however it was, goes on from there.
"""
import argparse
import functools
import os

from data import DATASETS
from data.dataset_kind import InstanceJob, mirrored
from data.image_files import Source
from data.instance_maps import Recipe, Tables, check_targets, make_instance_map
from data.label_colors import read_label_colors
from data.label_map import read_label_map
from util.arguments import ArgumentParser, integer
from util.errors import UserError, command
from util.files import exclusive, remove_leftovers
from util.parallel import available_cores, run_parallel
from util.progress import counted


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description="Make instance maps: the ids of each map renumbered 0..n-1 in ascending order.")
    add = parser.add_argument
    add("--dataset", required=True, choices=sorted(DATASETS), help="kind of data set")
    add("--path", help="folder of the data set")
    add("--label_dir", help="custom: folder of label maps, instead of --path")
    add("--instance_dir", help="custom: folder for the instance maps of --label_dir")
    add("--split_components", action="store_true",
        help="make every connected region of a class an instance (pixels that touch at a corner are connected). Not "
             "for cityscapes, whose objects have ids and may consist of several regions")
    add("--min_area", type=integer(1), default=1, metavar="N",
        help="with --split_components: regions of a class with fewer pixels are one instance together (default 1)")
    add("--split_classes", type=integer(0), nargs="+", metavar="ID",
        help="with --split_components: split only these classes (default: all). Ids are those of the maps, or those "
             "that --label_colors and --label_map give")
    add("--label_colors", metavar="FILE", help="classes of the colours of label maps, as for train.py")
    add("--label_map", metavar="FILE", help="new ids for the ids of label maps, as for train.py")
    add("--dont_care_id", type=integer(-2**31), default=255, metavar="ID", help="as for train.py (default 255)")
    add("--overwrite", action="store_true", help="make all maps again, even if they are up to date")
    add("--workers", type=integer(1), default=available_cores(),
        help="number of processes (default: one for each core)")
    args = parser.parse_args()
    if bool(args.label_dir) != bool(args.instance_dir) or (args.label_dir and args.dataset != "custom"):
        raise UserError("--label_dir and --instance_dir go together, with --dataset custom")
    if bool(args.path) == bool(args.label_dir):
        raise UserError("give --path; or, with --dataset custom, --label_dir and --instance_dir")
    if args.label_dir and os.path.realpath(args.label_dir) == os.path.realpath(args.instance_dir):
        raise UserError(f"--instance_dir {args.instance_dir}: is the same folder as --label_dir; choose another")
    if args.split_components and DATASETS[args.dataset].has_objects:
        raise UserError(f"--split_components: {args.dataset} has ids of instances already, which may consist of "
                        "several regions; leave the option out")
    for option in ("label_colors", "label_map"):
        if getattr(args, option) and DATASETS[args.dataset].has_objects:
            raise UserError(f"--{option}: {args.dataset} has ids of instances already, which are not classes; leave it "
                            "out")
    if not args.split_components and (args.min_area != 1 or args.split_classes):
        raise UserError("--min_area and --split_classes need --split_components")
    return args


def find_jobs(args: argparse.Namespace) -> list[InstanceJob]:
    """What is to be done. :raises UserError: the folder or the maps are missing, or one file would be made from two."""
    option, folder = ("label_dir", args.label_dir) if args.label_dir else ("path", args.path)
    if not os.path.isdir(folder):
        raise UserError(f"--{option} {folder}: no such folder")
    if args.label_dir:
        jobs, files = list(mirrored(Source(folder), args.instance_dir)), "image in it"
    else:
        kind = DATASETS[args.dataset]
        jobs, files = list(kind.instance_jobs(folder)), kind.instances_made_from
    if not jobs:
        raise UserError(f"--{option} {folder}: there is no {files}; check --{option} and --dataset {args.dataset}")
    check_targets(jobs)
    return jobs


@command
def main() -> None:
    args = parse()
    tables = Tables(args.label_colors and read_label_colors(args.label_colors),
                    args.label_map and read_label_map(args.label_map), args.dont_care_id)
    jobs = find_jobs(args)
    recipe = Recipe(args.split_components, args.min_area, args.split_classes)
    make = functools.partial(make_instance_map, recipe=recipe, overwrite=args.overwrite, tables=tables,
                             keep_foreign=DATASETS[args.dataset].instances_may_be_foreign)
    with exclusive(args.instance_dir or args.path):
        remove_leftovers({os.path.dirname(path) for job in jobs for path in (job.instance, job.label) if path})
        made = run_parallel(make, jobs, args.workers, "instance maps", "map")
    print(f"{counted(len(jobs), 'instance map')} under {args.instance_dir or args.path}: {sum(made)} made, "
          f"{len(jobs) - sum(made)} up to date")


if __name__ == "__main__":
    main()
