"""Throughput of fid_score.py against the published loop and against pytorch-fid.

    python -m benchmarks.fid                          # 500 images of 256x256, half of them real, half synthesized
    python -m benchmarks.fid --num 60 --what scores   # a quick look

Run it from the project's root. Every side is a process of its own on the same image files with the same weights (filled
by a rule, so nothing is downloaded), from start to printed FID; the sides take turns. The published loop is written
here the obvious way: one image at a time, all of them in memory, the matrix square root of scipy. Seconds are CPU
seconds (user and system) and, beside them, wall-clock seconds: on a machine that does other things too, only the former
say much. A ratio above 1 means that fid_score.py takes less.
"""
import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

import numpy as np
import torch
from PIL import Image

from metrics.distances import fid
from metrics.images import list_images
from metrics.inception import PRECISIONS, WEIGHTS_FILE, FIDInception, load_inception
from metrics.protocol import Meter
from tests.fill import fill_
from util.arguments import ArgumentParser, integer
from util.errors import command

SIZE = 256
CASES = ("features", "scores")


@command
def main() -> None:
    args = parse()
    if args.published:
        print(f"FID: {published_fid(*args.published)}")
        return
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes
    print(f"torch {torch.__version__}, python {platform.python_version()}, threads {args.threads}, "
          f"{args.num} images of {SIZE}x{SIZE}")
    with tempfile.TemporaryDirectory() as folder:
        weights = write_weights(folder)
        folders = [write_images(f"{folder}/{name}", args.num // 2, seed) for seed, name in enumerate("ab")]
        if "features" in args.what:
            precision_error(weights, folders)
        if "scores" in args.what:
            compare_scores(args.repeats, folder, weights, folders)


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=integer(4), default=500, help="images, of both sides together (default 500)")
    parser.add_argument("--repeats", type=integer(1), default=1, help="turns of every side (default 1)")
    parser.add_argument("--threads", type=integer(1), default=1, help="threads of every side (default 1)")
    parser.add_argument("--what", nargs="+", default=CASES, choices=CASES, help="what to measure (default: all)")
    parser.add_argument("--published", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- the published loop


def published_fid(weights: str, real: str, fake: str) -> float:
    """FID as it is usually computed: batches of one, whole arrays, a matrix square root."""
    from scipy.linalg import sqrtm

    network = FIDInception().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    moments = []
    for folder in (real, fake):
        images = np.stack([np.asarray(Image.open(path).convert("RGB"), np.float32) for path in list_images(folder)])
        features = np.empty((len(images), 2048))
        for number, image in enumerate(images):
            with torch.no_grad():
                features[number] = network(torch.from_numpy(image.transpose(2, 0, 1)[None].copy() / 255)).numpy()
        moments += [features.mean(0), np.cov(features, rowvar=False)]
    mean1, s1, mean2, s2 = moments
    root = sqrtm(s1 @ s2)
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(s1))
        root = sqrtm((s1 + offset) @ (s2 + offset))
    # its imaginary part, for which the published code stops, is left out
    return float(((mean1 - mean2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


# ---- what is measured


def write_weights(folder: str) -> str:
    """Filled weights, where pytorch-fid looks for the published ones with TORCH_HOME=folder."""
    path = os.path.join(folder, "hub", "checkpoints", WEIGHTS_FILE)
    os.makedirs(os.path.dirname(path))
    torch.save(fill_(FIDInception(), "inception.", 1.7).state_dict(), path)
    return path


def write_images(folder: str, number: int, seed: int) -> str:
    """PNGs of smooth noise with grain: as much to decode as in photos."""
    os.makedirs(folder)
    rng = np.random.default_rng(seed)
    for n in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 6, (SIZE, SIZE, 1)).astype(np.int16)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(f"{folder}/{n:05}.png")
    return folder


def precision_error(weights: str, folders: list[str]) -> None:
    """What bfloat16 does to features, and to the FID if both sides, or only one, use it; on up to 64 images a side."""
    sets, features = {}, {}
    for precision in PRECISIONS:
        network = load_inception(2048, path=weights, precision=precision)
        for side, folder in enumerate(folders):
            meter = Meter(network, keep_features=True)
            for path in list_images(folder)[:64]:
                meter.add(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None], [path])
            sets[precision, side], features[precision, side] = meter.finish()
    exact, half = (features[precision, 0] for precision in ("float32", "bfloat16"))
    true = fid(sets["float32", 0], sets["float32", 1])
    off, mixed, both = (float(np.linalg.norm(half - exact) / np.linalg.norm(exact)),
                        *(abs(fid(sets[precision, 0], sets["bfloat16", 1]) / true - 1) for precision in PRECISIONS))
    print(f"bfloat16 against float32: features {off:.1e}, FID {both:.2%} with it on both sides, {mixed:.2%} with it on "
          "one side (which fid_score.py refuses)", flush=True)


def compare_scores(repeats: int, folder: str, weights: str, folders: list[str]) -> None:
    ours = ["fid_score.py", *folders, "--inception_weights", weights, "--num-workers", "1"]
    commands = {
        "published loop": ["-m", "benchmarks.fid", "--published", weights, *folders],
        "fid_score.py": ours,
        "fid_score.py bfloat16": [*ours, "--precision", "bfloat16"],
    }
    if find_spec("pytorch_fid"):
        commands["pytorch-fid"] = ["-m", "pytorch_fid", *folders, "--num-workers", "1", "--device", "cpu"]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    printed = {}
    for _ in range(repeats):
        for name, line in list(commands.items()):
            done = process_seconds(line, {"TORCH_HOME": folder})
            if done is None:
                print(f"{name}: does not run with the libraries installed here")
                commands.pop(name)
                continue
            printed[name] = done[2]
            times[name].append(done[:2])
    print(f"{'ratio of time':<42}{'CPU s':>18}{'ratio':>8}{'wall s':>18}{'ratio':>8}")
    for ours_name in ("fid_score.py", "fid_score.py bfloat16"):
        for other in ("published loop", "pytorch-fid"):
            if times.get(other):
                report(f"{other} / {ours_name}", times[other], times[ours_name])
    print("FID printed: " + ", ".join(f"{name} {value:.4f}" for name, value in printed.items()))


def process_seconds(line: list[str], environment: dict[str, str]) -> tuple[float, float, float] | None:
    """CPU seconds, wall-clock seconds and the last number printed of a Python process; None if it failed."""
    import resource  # which Windows lacks
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *line], env={**os.environ, **environment}, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return None
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, seconds, float(done.stdout.split()[-1])


def report(case: str, other: list[tuple[float, float]], ours: list[tuple[float, float]]) -> None:
    """Print a row; times are (CPU, wall) seconds."""
    text = f"{case:<42}"
    for theirs, mine in zip(zip(*other, strict=True), zip(*ours, strict=True), strict=True):
        text += f"{min(theirs):>9.2f}{min(mine):>9.2f}{min(theirs) / min(mine):>7.2f}x"
    print(text, flush=True)


if __name__ == "__main__":
    main()
