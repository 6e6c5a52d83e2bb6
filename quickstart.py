"""The whole job in one go, on a CPU and without downloads: draw the example world, train on it, render a gallery.

Every command is printed before it runs, as it can be given from the project's root.
"""
import argparse
import os
import shlex
import subprocess
import sys
import time

from util.arguments import ArgumentParser, integer
from util.errors import command

ROOT = os.path.dirname(os.path.abspath(__file__))


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", default="quickstart", help="folder for all files")
    parser.add_argument("--scenes", type=integer(2), default=1600, help="training scenes")
    parser.add_argument("--size", type=integer(1), default=64, help="pixels: sides of the scenes")
    parser.add_argument("--epochs", type=integer(1), default=4,
                        help="epochs; the learning rate falls during the second half")
    parser.add_argument("--width", type=integer(1), default=16,
                        help="base number of channels of the networks (--ngf and --ndf)")
    parser.add_argument("--seed", type=integer(0, 2**63 - 1), default=0, help="seed of the world and of training")
    return parser.parse_args()


@command
def main() -> None:
    args, start = parse(), time.perf_counter()
    # commands run in the project's root: a path that is relative to another folder would mean another place there
    out = args.out if os.path.samefile(os.getcwd(), ROOT) else os.path.abspath(args.out)
    world, gallery = os.path.join(out, "world"), os.path.join(out, "gallery")
    # such small networks gain little from a second thread, and lose all of it when another program wants the core
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"export OMP_NUM_THREADS={threads}")
    run("-m", "datasets.make_scenes", "--out", world, "--num", args.scenes, "--size", args.size, "--seed", args.seed)
    with open(os.path.join(ROOT, world, "classes.txt"), encoding="utf-8") as file:
        classes = sum(1 for line in file if line.strip())
    say_elapsed(start)
    print("training takes most of the time, and says how much is left in all", flush=True)
    network = [
        "--name", "scenes", "--checkpoints_dir", os.path.join(out, "checkpoints"), "--dataset_mode", "custom",
        "--dataroot", world, "--label_nc", classes, "--load_size", args.size, "--crop_size", args.size,
        "--ngf", args.width, "--noise_nc", 16, "--z_dim", 64, "--use_vae", "--gpu_ids", "-1", "--seed", args.seed,
    ]
    decay = args.epochs // 2
    # few steps want a high rate; why heads on frozen features, and what they bring: docs/results.md
    run("train.py", *network, *mixed_precision(), "--ndf", args.width, "--netD", "projected", "--perceptual", "lite0",
        "--lambda_kld", 0.02, "--lr", 0.001, "--batchSize", 8, "--nThreads", 1,
        "--niter", args.epochs - decay, "--niter_decay", decay,
        "--display_freq", args.scenes // 2, "--print_freq", 400, "--save_epoch_freq", args.epochs)
    say_elapsed(start)
    run("gallery.py", *network, "--gallery_dir", gallery, "--display_winsize", 128)
    print(f"done in {(time.perf_counter() - start) / 60:.1f} minutes; look at {os.path.join(gallery, 'index.html')}")


def say_elapsed(start: float) -> None:
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes so far", flush=True)


def mixed_precision() -> list[str]:
    """``--use_amp`` where the processor has bfloat16 arithmetic, which about doubles the speed; elsewhere it costs."""
    import torch  # which takes seconds

    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return ["--use_amp"] if supported() else []


def run(*arguments: object) -> None:
    """Run ``python`` with these arguments in the project's root; end with its status if it fails."""
    words = [str(argument) for argument in arguments]
    print(shlex.join([os.path.relpath(sys.executable, ROOT), *words]), flush=True)
    status = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
