"""Peak memory of training on the CPU, by pictures per process, with ``--checkpoint_activations``, and with ``--ema``.

    python -m benchmarks.memory --dataset_mode ade20k --batch 1 2
    python -m benchmarks.memory --dataset_mode cityscapes --batch 1 2

Each figure is the peak of a process of its own that takes two generator and two discriminator steps. The difference
between two batch sizes is what a picture needs; the rest are networks, gradients, Adam's moments and PyTorch itself.
"""
import argparse
import subprocess
import sys

import torch

from benchmarks.speed import DATASETS, batch, random_vgg
from options import TrainOptions
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.errors import UserError, command

WAYS = {"as it is": [], "recomputed activations": ["--checkpoint_activations"], "averaged networks": ["--ema", "1000"]}


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_mode", default="ade20k", choices=DATASETS, help="whose published size")
    parser.add_argument("--batch", type=integer(1), nargs="+", default=[1, 2], help="pictures per process")
    parser.add_argument("--instances", type=integer(1), default=20, help="instances per picture")
    parser.add_argument("--here", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    if args.here:
        print(peak_here(args))
        return
    print(f"torch {torch.__version__}, {args.dataset_mode}, peak MiB")
    for how in WAYS:
        peaks = [peak(args, how, number) for number in args.batch]
        figures = (f"{number}: {value:6.0f}" for number, value in zip(args.batch, peaks, strict=True))
        print(f"{how:<22}", *figures, flush=True)


def peak(args: argparse.Namespace, how: str, number: int) -> float:
    line = [sys.executable, "-m", "benchmarks.memory", "--here", how, "--batch", number, "--dataset_mode",
            args.dataset_mode, "--instances", args.instances]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the process that measures memory failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout.split()[-1])


def peak_here(args: argparse.Namespace) -> float:
    number = args.batch[0]
    line = ["--dataset_mode", args.dataset_mode, "--use_vae", "--gpu_ids", "-1", "--batchSize", str(number),
            "--vgg_weights", random_vgg(), *WAYS[args.here]]
    opt = TrainOptions().parse(line)
    data, trainer = batch(opt, number, args.instances), Pix2PixTrainer(opt)
    for _ in range(2):
        trainer.run_generator_one_step(data)
        trainer.run_discriminator_one_step(data)
    with open("/proc/self/status", encoding="utf-8") as file:  # getrusage would count the parent's peak in
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
