"""Seconds that a checkpoint takes to write and to go on from.

    python -m benchmarks.checkpoint                            # ADE20K's published size
    python -m benchmarks.checkpoint --dataset_mode celeba --repeats 5

Files are on the disk when the clock stops. They go to a temporary folder, whose place TMPDIR chooses.
"""
import argparse
import os
import tempfile
import time

import torch

from options import TrainOptions
from options.dataset_defaults import DATASET_DEFAULTS
from trainers import run_state
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.errors import command


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_mode", default="ade20k", choices=sorted(DATASET_DEFAULTS),
                        help="whose published size")
    parser.add_argument("--repeats", type=integer(1), default=3, help="checkpoints that are written (default 3)")
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        line = ["--dataset_mode", args.dataset_mode, "--use_vae", "--no_vgg_loss", "--gpu_ids", "-1", "--name", "run",
                "--checkpoints_dir", folder]
        trainer = Pix2PixTrainer(TrainOptions().parse(line))
        trainer.data_seed, trainer.data_digest = 0, "0"
        for optimizer in (trainer.optimizer_G, trainer.optimizer_D):  # moments as after a step
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": torch.randn_like(parameter),
                                                  "exp_avg_sq": torch.rand_like(parameter)}
        for _ in range(args.repeats):
            latest = seconds(lambda: trainer.save(1))
            copies = seconds(lambda: run_state.save_again(trainer.opt.folder, 1, "latest"))
            print(f"save {latest:.2f} s, the same under another name {copies:.2f} s")
        size = sum(entry.stat().st_size for entry in os.scandir(trainer.opt.folder) if entry.name.startswith("1_"))
        resume = seconds(lambda: Pix2PixTrainer(TrainOptions().parse([*line, "--continue_train"])))
        print(f"{size / 1e9:.2f} GB; building the networks and going on from it: {resume:.2f} s")


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
