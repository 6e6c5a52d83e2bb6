"""What averaged networks (``--ema``) cost: seconds of a step with and without, and of one batch of an estimate.

    python -m benchmarks.ema                                  # ADE20K's published size, one thread
    python -m benchmarks.ema --ngf 16 --crop_size 64 --batch 8 --repeats 5 --no_vgg_loss

Both sides run alternately in one process; a step is one of the generator and one of the discriminators. Times are CPU
seconds with one thread (wall-clock seconds with more). An estimate of batch statistics, for every save and evaluation,
goes through at most ``trainers.ema.BATCHES`` batches. ``python -m benchmarks.memory`` measures the memory.
"""
import argparse
import statistics

import torch

from benchmarks.speed import DATASETS, alternately, batch, clock_name, options
from trainers.ema import Average
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.errors import command
from util.memory import keep_freed_memory


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_mode", default="ade20k", choices=DATASETS, help="whose published size")
    parser.add_argument("--instances", type=integer(1), default=20, help="instances per picture")
    parser.add_argument("--batch", type=integer(1), default=1, help="pictures per batch (default 1)")
    parser.add_argument("--ngf", type=integer(1), default=64, help="first width of all networks (default 64)")
    parser.add_argument("--crop_size", type=integer(1), help="pixels (default: as published)")
    parser.add_argument("--repeats", type=integer(1), default=3, help="runs of each side (default 3)")
    parser.add_argument("--threads", type=integer(1), default=1, help="threads (default 1)")
    parser.add_argument("--use_amp", action="store_true", help="mixed precision")
    parser.add_argument("--no_vgg_loss", action="store_true", help="the generator step without VGG")
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    opt = options(args, None).replace(ema=1000.0)
    data, trainer = batch(opt, args.batch, args.instances), Pix2PixTrainer(opt)
    average = trainer.average

    def step(kept: Average | None) -> None:
        trainer.average = kept
        trainer.run_generator_one_step(data)
        trainer.run_discriminator_one_step(data)

    without, with_average = alternately(lambda: step(None), lambda: step(average), args.repeats)
    update, of_estimate = alternately(average.update, lambda: average.model.infer(average.model.prepare(data)),
                                      args.repeats)
    size = sum(value.numel() * value.element_size() for value in average.model.state_dict().values())
    print(f"torch {torch.__version__}, {args.dataset_mode}, {clock_name()} in s: least (median) of {args.repeats}")
    for name, seconds in (("step without", without), ("step with", with_average), ("the update in it", update),
                          ("a batch of an estimate", of_estimate)):
        print(f"{name:<24}{min(seconds):8.3f} ({statistics.median(seconds):.3f})")
    print(f"averaged networks: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
