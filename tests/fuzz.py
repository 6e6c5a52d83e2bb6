"""Commands with options, files and folders that are drawn at random, wrong ones among them:

    python -m tests.fuzz --tries 2000 --seed 0

Every try is a process. It must end with status 0, 1, 2 or 128 + n within 60 seconds, without a traceback, and change
nothing outside of its own folder. Prints what did not; --first N --tries 1 repeats a try.
"""
import argparse
import os
import shutil
import string
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import run_command
from tests.worlds import NETWORK, SIZE, TRAIN, build_model, draw_world
from util.arguments import ArgumentParser, integer
from util.errors import command
from util.progress import progress

SECONDS = 60
NUMBERS = ("0", "1", "-1", "2", "3", "7", "16", "255", "256", "1e-320", "1e999", "nan", "inf", "-inf", "1e10", "0.5",
           "", "99999999999999999999", "0x10", "1_0", "½")
WORDS = ("", "a", "../x", "/dev/null", "/proc/nowhere/x", "a b", "ä", "${x}", "<b>", "\n", "-", "--", "x" * 300, "a,b",
         "all", "classes:1", "instances:0", "global", "none", "test", "latest", "best")
# command lines as they should be, and options that may be drawn for them
DRAW = ["--dataroot", "{root}/world", "--checkpoints_dir", "{root}/checkpoints", "--name", "exp"]
DATA = ("--dataroot", "--label_dir", "--image_dir", "--instance_dir", "--label_nc", "--load_size", "--crop_size",
        "--aspect_ratio", "--preprocess_mode", "--phase", "--max_dataset_size", "--label_colors", "--dataset_mode")
COMMANDS = {
    "train": (["train.py", *TRAIN, *DRAW, "--niter", "1", "--dry_run"],
              (*DATA, "--batchSize", "--lr", "--ngf", "--ndf", "--gan_mode", "--ema", "--accumulate", "--seed",
               "--noise_nc", "--z_dim", "--lambda_kld", "--gpu_ids", "--niter_decay", "--no_instance", "--use_vae")),
    "test": (["test.py", *NETWORK, *DRAW, "--results_dir", "{root}/results", "--how_many", "1"],
             (*DATA, "--styles", "--vary", "--truncation", "--reference", "--reference_map", "--style_file", "--seed",
              "--interpolate", "--num_samples", "--format", "--which_epoch", "--save_styles", "--name",
              "--results_dir")),
    "gallery": (["gallery.py", *NETWORK, *DRAW, "--gallery_dir", "{root}/gallery", "--layouts", "1", "--samples", "1",
                 "--measured", "1"], (*DATA, "--layouts", "--samples", "--which_epoch", "--gallery_dir")),
    "check": (["check_data.py", *TRAIN, *DRAW], (*DATA, "--batchSize", "--nThreads")),
    "make_instances": (["make_instances.py", "--path", "{root}/world", "--dataset", "custom"],
                       ("--path", "--dataset", "--split_components", "--min_area", "--split_classes", "--workers",
                        "--overwrite", "--label_dir", "--instance_dir")),
    "make_scenes": (["-m datasets.make_scenes", "--out", "{root}/scenes", "--num", "1", "--num_val", "1"],
                    ("--out", "--num_val", "--size", "--seed", "--workers")),
    "fid": (["fid_score.py", "{root}/world/val_img", "{root}/world/train_img"],
            ("--batch-size", "--dims", "--gpu", "--resize_size", "--extractor", "--metrics", "--load_np_name")),
    "diversity": (["diversity_score.py", *NETWORK, *DRAW, "--distance", "rgb", "--how_many", "1", "--num_samples", "2"],
                  (*DATA, "--num_samples", "--region_samples", "--max_regions", "--truncation", "--distance")),
    "segmentation": (["segmentation_score.py", *NETWORK[:-2], "--dataroot", "{root}/world", "--synthesized",
                      "{root}/world/val_img", "--segmenter", "none.pt"],
                     (*DATA, "--synthesized", "--segmenter", "--confusion", "--json", "--predictions", "--ignore_ids")),
    **{name: ([f"-m datasets.prepare_{name}", "--path", "{root}/world", "--out", "{root}/out"],
              ("--path", "--out", "--workers", "--height", "--size", "--aspect_ratio", "--photo", "--colors"))
       for name in ("ccp", "camvid", "aligned", "celebamask")},
    **{name: ([f"-m datasets.prepare_{name}", "--path", "{root}/world", "--annotations", "{root}/world"],
              ("--path", "--annotations", "--workers", "--overwrite")) for name in ("coco_stuff", "ade20k")},
    "demo": (["demo.py", *DRAW, "--dataset_mode", "custom", "--host", "192.0.2.1"],
             ("--port", "--names", "--dataroot", "--name", "--norm_mode", "--which_epoch", "--gpu_ids")),
}


def make_root(folder: Path) -> None:
    """A world, networks, and a folder of files that are none of what they are called."""
    draw_world(folder / "world", train=2, val=2)
    build_model("--checkpoints_dir", folder / "checkpoints", "--name", "exp").save("latest")


def spoil(root: Path, random: np.random.Generator) -> None:
    """Change a file of the world, or none."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = files[random.integers(len(files))]
    content = path.read_bytes()
    match random.integers(8):
        case 0:
            path.write_bytes(content[:random.integers(len(content) + 1)])
        case 1:
            changed = bytearray(content)
            for place in random.integers(len(content), size=9):
                changed[place] = random.integers(256)
            path.write_bytes(changed)
        case 2:
            width, height = (int(random.choice([1, 2, SIZE, 1000])) for _ in range(2))
            mode = str(random.choice(["1", "L", "P", "RGB", "RGBA", "I;16", "LA"]))
            Image.new(mode, (width, height)).save(path, "PNG")
        case 3:
            path.unlink()
        case 4:
            path.unlink()
            path.mkdir()


def draw(number: int, seed: int, root: Path) -> list[str]:
    """The command line of a try; files of its folder are spoiled as well."""
    random = np.random.default_rng([seed, number])
    words, options = COMMANDS[list(COMMANDS)[random.integers(len(COMMANDS))]]
    spoil(root, random)
    line = [str(word).format(root=root) if "{root}" in str(word) else str(word) for word in words]
    files = [str(path) for path in sorted(root.rglob("*"))]
    for option in random.choice(options, random.integers(4)):
        values = [NUMBERS, WORDS, files][random.integers(3)]
        line.append(str(option))
        line += [str(values[random.integers(len(values))]) for _ in range(random.choice([0, 1, 1, 1, 1, 2]))]
    if random.random() < 0.1:
        line.append("".join(random.choice(list(string.printable), 5)))
    return [word.replace("\0", "") for word in line]


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def attempt(number: int, seed: int, template: Path) -> tuple[str, str]:
    """Do a try. The command's words, and what is wrong with how it ended; nothing if it ended well."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        inside, beside = Path(place) / "inside", Path(place) / "beside"
        shutil.copytree(template, inside)
        beside.mkdir()
        before = contents(template)
        line = draw(number, seed, inside)
        process = run_command(*line, cwd=beside, timeout=SECONDS)
        said, status = process.stdout + process.stderr, process.returncode
        wrong = ""
        if status == -14:
            wrong = f"took longer than {SECONDS} s"
        elif status not in (0, 1, 2) and status < 128:
            wrong = f"status {status}"
        elif "Traceback" in said:
            wrong = "traceback: " + " / ".join(said.strip().splitlines()[-2:])
        elif status == 2 and len(process.stderr.strip().splitlines()) > 12:
            wrong = "many words: " + process.stderr[:200]
        elif contents(template) != before:
            wrong = "wrote outside"
    return " ".join(map(repr, line)).replace(str(inside), "ROOT"), wrong


def fuzz(numbers: range, seed: int) -> list[str]:
    """What went wrong in these tries."""
    found, done = [], Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        template = Path(folder) / "template"
        make_root(template)
        for number in progress(numbers, doing="trying", unit="try"):
            line, wrong = attempt(number, seed, template)
            done[line.split()[0]] += 1
            if wrong:
                found.append(f"{number}: {wrong}\n   {line}")
                print(found[-1], flush=True)
    return found


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=integer(1), default=100)
    parser.add_argument("--first", type=integer(0), default=0, help="number of the first try")
    parser.add_argument("--seed", type=integer(0), default=0)
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    found = fuzz(range(args.first, args.first + args.tries), args.seed)
    print(f"{args.tries} tries, {len(found)} ended badly")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
