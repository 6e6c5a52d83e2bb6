"""Options of ``check_data.py``."""
import argparse

from options.groups import Device, NamedDevice
from options.options import Options
from options.train_options import TrainOptions
from util.arguments import integer
from util.parallel import available_cores


class CheckOptions(TrainOptions):
    """Those of train.py, ``phases``: the splits to read, and ``given``: the options of training that the user gave."""

    groups = tuple(NamedDevice if group is Device else group for group in TrainOptions.groups)
    defaults = {"gpu_ids": "-1"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--json", metavar="FILE", default=None, help="also write the complete report to this file")
        parser.add_argument("--workers", type=integer(1), default=available_cores(),
                            help="number of processes that read files")

    def needs_layouts(self, opt: Options) -> bool:
        return False  # it reports what is missing

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        one_split = "phase" in given or opt.label_dir  # --label_dir is read whatever the split
        opt.phases = (opt.phase,) if one_split else ("train", "test")
        opt.given = sorted(given - {"json", "workers", "phase"})
