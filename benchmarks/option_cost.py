"""What options of train.py cost: CPU seconds of training steps with and without them, measured alternately.

    python -m benchmarks.option_cost "--netD projected" --dataset_mode custom --label_nc 59 --crop_size 64 \\
        --aspect_ratio 0.5 --ngf 16 --ndf 16 --noise_nc 16 --z_dim 64 --use_vae --batchSize 8 --perceptual lite0
    python -m benchmarks.option_cost "--ema 1000" --dataset_mode ade20k --use_vae --no_vgg_loss

A step is one of the generator and one of the discriminators, on made-up layouts; one thread. The ratios are of the
least and of the median times. Of averaged networks (``--ema``), there are also the update in a step, and one batch of
an estimate, of which every save and evaluation has at most ``trainers.ema.BATCHES``.
"""
import shlex
import statistics
import sys

import torch

from benchmarks.speed import alternately, batch
from options import TrainOptions
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.errors import UserError, command
from util.memory import keep_freed_memory

REPEATS, INSTANCES = 5, 12


@command
def main() -> None:
    if len(sys.argv) < 2 or not sys.argv[1].startswith("--"):
        raise UserError('give the options to measure as one argument, e.g. "--netD projected", and then others of '
                        "train.py")
    measured, line = shlex.split(sys.argv[1]), [*sys.argv[2:], "--gpu_ids", "-1"]
    torch.set_num_threads(1)
    keep_freed_memory()
    trainers = [Pix2PixTrainer(TrainOptions().parse([*line, *more])) for more in ([], measured)]
    data = batch(trainers[0].opt, trainers[0].opt.batchSize, INSTANCES)
    photos = iter(lambda: torch.rand_like(data["image"]) * 2 - 1, None)  # new ones for every step, as in training

    def step(trainer: Pix2PixTrainer) -> None:
        prepared = trainer.prepare({**data, "image": next(photos)})
        trainer.run_generator_one_step(prepared)
        trainer.run_discriminator_one_step(prepared)

    without, with_options = alternately(lambda: step(trainers[0]), lambda: step(trainers[1]), REPEATS)
    print(f"torch {torch.__version__}, {REPEATS} steps of {trainers[0].opt.batchSize} pictures, one thread")
    rows = {"without": without, "with " + sys.argv[1]: with_options}
    if average := trainers[1].average:
        parts = alternately(average.update, lambda: average.model.infer(average.model.prepare(data)), REPEATS)
        rows |= zip(("the update in it", "a batch of an estimate"), parts, strict=True)
    for name, seconds in rows.items():
        print(f"{name:<28}{min(seconds):8.3f} s (median {statistics.median(seconds):.3f})")
    print(f"{'ratio':<28}{min(with_options) / min(without):8.2f}   (median "
          f"{statistics.median(with_options) / statistics.median(without):.2f})")


if __name__ == "__main__":
    main()
