"""Draw the built-in example world: outdoor scenes with label maps, instance maps and the true style of every instance.

    python -m datasets.make_scenes --out datasets/scenes --num 1000 --size 64 --seed 0

Writes, under --out (NAME is scene_00000, scene_00001, ...):

==========================  =========================================================================
``{train,val}_img/``        NAME.png: the picture, RGB
``{train,val}_label/``      NAME.png: class ids, 8 bits
``{train,val}_inst/``       NAME.png: instance ids 0..n-1, 8 bits; every instance belongs to one class
``styles_{train,val}.csv``  a line per instance: its class, the style it was drawn with, its size
``classes.txt``             a line per class: the colour that stands for it, id, name; fits --label_colors
==========================  =========================================================================

Every instance, thing or stuff, takes its looks from the distribution of its class in
:data:`datasets.example_world.classes.CLASSES`, independently of all others. Geometry is in units of the picture's side:
a larger --size shows the same scenes in more detail. A scene depends on --seed, its split and its number alone, not on
--num or --workers. Scenes of an earlier world in the same folder are replaced; those beyond --num and --num_val are
removed.
"""
import argparse
import csv
import functools
import io
import os
import re

import numpy as np
from PIL import Image

from datasets.example_world.classes import CLASSES
from datasets.example_world.rendering import COLUMNS, draw_scene
from util.arguments import ArgumentParser, integer
from util.errors import UserError, command
from util.files import atomic_path, exclusive, remove_leftovers, write_atomically
from util.parallel import available_cores, run_parallel

SPLITS = ("train", "val")
KINDS = ("img", "label", "inst")


def make(index: int, out: str, split: str, size: int, seed: int) -> list[dict[str, object]]:
    """Draw and write one scene; its lines of ``styles_*.csv``."""
    scene = draw_scene(np.random.default_rng([seed, SPLITS.index(split), index]), size)
    name = f"scene_{index:05d}"
    for kind, array in zip(KINDS, (scene.image, scene.label, scene.instance), strict=True):
        with atomic_path(os.path.join(out, f"{split}_{kind}", f"{name}.png")) as temporary:
            Image.fromarray(array).save(temporary, "PNG")
    return [{"scene": name, **row} for row in scene.styles]


def make_split(out: str, split: str, count: int, size: int, seed: int, workers: int) -> None:
    """Draw and write the scenes of a split and its ``styles_*.csv``."""
    folders = [os.path.join(out, f"{split}_{kind}") for kind in KINDS]
    remove_leftovers(folders)
    work = functools.partial(make, out=out, split=split, size=size, seed=seed)
    scenes = run_parallel(work, range(count), workers, split, "scene")
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for rows in scenes:
        writer.writerows(rows)
    write_atomically(os.path.join(out, f"styles_{split}.csv"), table.getvalue())
    for folder in folders:
        for name in os.listdir(folder):
            if (old := re.fullmatch(r"scene_(\d{5,})\.png", name)) and int(old[1]) >= count:
                os.remove(os.path.join(folder, name))


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description="Draw the built-in example world: pictures, label maps, instance maps, styles.",
                            formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--num", type=integer(1), default=1000, help="training scenes")
    parser.add_argument("--num_val", type=integer(1), help="validation scenes; default: a tenth of --num, at least 16")
    parser.add_argument("--size", type=int, default=64,
                        help="pixels: width and height of the scenes, a multiple of 16 from 64 to 512")
    parser.add_argument("--seed", type=integer(0), default=0, help="another seed draws other scenes")
    parser.add_argument("--workers", type=integer(1), default=available_cores(), help="number of processes")
    args = parser.parse_args()
    if args.num_val is None:
        args.num_val = max(16, args.num // 10)
    if not 64 <= args.size <= 512 or args.size % 16:
        raise UserError(f"--size {args.size}: choose a multiple of 16 from 64 to 512")
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise UserError(f"--out {args.out}: is a file; choose a folder")
    return args


@command
def main() -> None:
    args = parse()
    with exclusive(args.out):
        for split, count in zip(SPLITS, (args.num, args.num_val), strict=True):
            make_split(args.out, split, count, args.size, args.seed, args.workers)
        lines = (" ".join(map(str, (*c.color, k, c.name))) for k, c in enumerate(CLASSES))
        write_atomically(os.path.join(args.out, "classes.txt"), "\n".join(lines) + "\n")
    print(f"{args.num} + {args.num_val} scenes of {len(CLASSES)} classes drawn in {args.out}")


if __name__ == "__main__":
    main()
