"""Options of ``test.py``, and of commands that look at trained networks."""
import argparse
import math

from options.command_options import CommandOptions
from options.groups import Architecture, Data, Device, Display, Experiment, Loading, Published
from options.options import Options
from util.arguments import count


class NetworkOptions(CommandOptions):
    """Trained networks on a device, and layouts to try them on."""

    groups = (Experiment, Device, Architecture, Data)
    defaults = {"phase": "test"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--which_epoch", default="latest", help="networks to load: a number, latest or best")
        parser.add_argument("--use_ema", action="store_true", help="load the averaged networks of train.py --ema")

    def finish(self, opt: Options, given: set[str]) -> None:
        if "load_size" not in given:  # so that nothing is cropped, see options/dataset_defaults.py
            opt.load_size = opt.crop_size


class TestOptions(NetworkOptions):
    __test__ = False  # not a test case, whatever pytest thinks of the name
    groups = (*NetworkOptions.groups, Loading, Display, Published)
    defaults = {"phase": "test", "serial_batches": True, "no_flip": True}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--how_many", type=count, default=math.inf, help="number of images to synthesize")
        parser.add_argument("--results_dir", default="./results/", help="folder for test results")
