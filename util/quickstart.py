"""The whole job in one go, on a CPU and without downloads: draw the example world, train on it, render a gallery."""
import argparse
import os
import subprocess
import sys
import time

import torch

from util.arguments import ArgumentParser
from util.errors import command

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", default="quickstart", help="folder for everything that is made")
    parser.add_argument("--scenes", type=int, default=1600, help="training scenes")
    parser.add_argument("--size", type=int, default=64, help="pixels: sides of the scenes")
    parser.add_argument("--epochs", type=int, default=7, help="epochs, in the last half with falling learning rate")
    parser.add_argument("--width", type=int, default=16, help="channels of the networks' first width (ngf and ndf)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world and of training")
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    world, seed = os.path.join(args.out, "world"), str(args.seed)
    start = time.perf_counter()
    run("datasets/make_scenes.py", "--out", world, "--num", args.scenes, "--size", args.size, "--seed", seed)
    with open(os.path.join(world, "classes.txt"), encoding="utf-8") as file:
        classes = sum(1 for line in file if line.strip())
    network = [
        "--name", "scenes", "--checkpoints_dir", os.path.join(args.out, "checkpoints"), "--dataset_mode", "custom",
        "--dataroot", world, "--label_nc", classes, "--load_size", args.size, "--crop_size", args.size,
        "--ngf", args.width, "--noise_nc", 16, "--z_dim", 64, "--use_vae", "--gpu_ids", "-1", "--seed", seed,
    ]
    decay = args.epochs // 2
    # the KL divergence is a sum over instances, so few steps want a small weight; and a high rate: docs/results.md
    run("train.py", *network, *mixed_precision(), "--ndf", args.width, "--no_vgg_loss", "--lambda_kld", 0.002,
        "--lr", 0.001, "--batchSize", 8, "--nThreads", 1, "--niter", args.epochs - decay, "--niter_decay", decay,
        "--display_freq", args.scenes // 2, "--print_freq", 400, "--save_epoch_freq", args.epochs)
    gallery = os.path.join(args.out, "gallery")
    run("util/gallery.py", *network, "--gallery_dir", gallery, "--display_winsize", 128)
    print(f"done in {(time.perf_counter() - start) / 60:.1f} minutes; look at {os.path.join(gallery, 'index.html')}")


def mixed_precision() -> list[str]:
    """``--use_amp`` where the processor has bfloat16 arithmetic, which about doubles the speed; elsewhere it costs."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return ["--use_amp"] if supported() else []


def run(script: str, *args: object) -> None:
    """Run one of the project's commands; end with its status if it fails."""
    line = [script, *map(str, args)]
    print("$ python", " ".join(line), flush=True)
    module = script.removesuffix(".py").replace("/", ".")
    program = ["-m", module] if script.startswith("util/") else [os.path.join(ROOT, script)]
    # such small networks gain little from a second thread, and lose all of it when another program wants the core
    env = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": ROOT}
    status = subprocess.run([sys.executable, *program, *line[1:]], env=env).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
