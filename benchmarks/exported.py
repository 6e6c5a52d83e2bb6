"""A file of models.export beside this project: the largest difference, and CPU seconds of a picture, alternately.

    python -m benchmarks.exported --name ccp --out generator.onnx --dataroot DATA
    python -m benchmarks.exported --name ccp --out encoder.onnx --encoder --dataroot DATA

One layout of the data set at a time, in one thread.
"""
import argparse
import os
import statistics

import torch

from benchmarks.speed import alternately
from data import create_dataset
from models.export import Exported, expected, runner
from models.synthesis import Synthesizer
from options import Options
from options.export_options import ExportOptions
from util.arguments import integer
from util.errors import UserError, command


class ExportedOptions(ExportOptions):
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--how_many", type=integer(1), default=10, help="layouts")

    def reads_photos(self, opt: Options) -> bool:
        return opt.encoder


@command
def main() -> None:
    opt = ExportedOptions().parse()
    if not os.path.isfile(opt.out):
        raise UserError(f"--out {opt.out}: no such file; python -m models.export writes it")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    synthesizer, run = Synthesizer.from_options(opt), runner(opt.out)
    names = Exported(synthesizer.model, opt.encoder).inputs
    differences, ours, theirs = [], [], []
    for _, batch in synthesizer.layouts(create_dataset(opt), opt.how_many):
        styles = synthesizer.draw_styles(batch)
        given = {"label": batch.layout.label, "instance": batch.layout.instance, "photo": batch.image, "z": styles.z,
                 "noise": styles.noise}
        tensors = {name: given[name].contiguous() for name in names}
        pairs = zip(run(tensors), expected(synthesizer, tensors), strict=True)
        differences.append(max((found - right).abs().max().item() for found, right in pairs))
        for seconds, found in zip((ours, theirs), alternately(lambda given=tensors: expected(synthesizer, given),
                                                              lambda given=tensors: run(given), 1), strict=True):
            seconds += found
    print(f"{opt.out}: {os.path.getsize(opt.out) / 2**20:.1f} MiB; largest difference on {len(differences)} layouts "
          f"{max(differences):.1e}; s per layout: file {statistics.median(theirs):.3f}, this project "
          f"{statistics.median(ours):.3f}, ratio "
          f"{statistics.median(a / b for a, b in zip(theirs, ours, strict=True)):.2f}")


if __name__ == "__main__":
    main()
