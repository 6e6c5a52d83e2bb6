"""Options of ``test.py``."""
import argparse
import contextlib
import math

from options.base_options import BaseOptions


def _count(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (number := float(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text} is not a number of images")


class TestOptions(BaseOptions):
    __test__ = False  # not a test case, whatever pytest thinks of the name

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--which_epoch", default="latest", help="networks to load: a number, latest or best")
        parser.add_argument("--how_many", type=_count, default=math.inf, help="number of images to synthesize")
        parser.set_defaults(phase="test", load_size=256, crop_size=256, display_winsize=256,
                            serial_batches=True, no_flip=True)
