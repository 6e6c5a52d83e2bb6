"""Read a whole data set and tell what is in it, what is wrong with it, and which options it needs.

    python check_data.py --dataset_mode cityscapes --dataroot DATA

takes the options of train.py. Both splits are read unless --phase chooses one. The exit status is 0 if training would
run with these options (with --phase test: if testing would), and 2 if not. With --train_eval the test split counts too.
"""
import argparse
import json

from data.report import build_report, print_report
from options import Options, TrainOptions
from options.groups import Device, NamedDevice
from util.arguments import integer
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.parallel import available_cores


class CheckOptions(TrainOptions):
    """Those of train.py, ``phases``: the splits to read, and ``given``: the options of training that the user gave."""

    groups = tuple(NamedDevice if group is Device else group for group in TrainOptions.groups)
    defaults = {"gpu_ids": "-1"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--json", metavar="FILE", default=None, help="also write the report there, in full")
        parser.add_argument("--workers", type=integer(1), default=available_cores(), help="processes that read")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        one_split = "phase" in given or opt.label_dir  # --label_dir is read whatever the split
        opt.phases = (opt.phase,) if one_split else ("train", "test")
        opt.given = sorted(given - {"json", "workers", "phase"})


@command
def main() -> None:
    opt = CheckOptions().parse()
    if opt.json:
        check_writable(opt.json)
    report = build_report(opt)
    print_report(report)
    if opt.json:
        write_atomically(opt.json, json.dumps(report, indent=1) + "\n")
    if not report["runs"]:
        what = "training" if opt.phases[0] == "train" else "testing"
        others = report["num_problems"] - 1
        more = f" ({others} more above)" if others > 0 else ""
        raise UserError(f"{what} would stop: {report['stops_at']}{more}")


if __name__ == "__main__":
    main()
