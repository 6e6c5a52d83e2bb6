"""Options of ``gallery.py``."""
import argparse

from options.groups import Display
from options.options import Options
from options.test_options import NetworkOptions
from util.arguments import integer
from util.errors import UserError


class GalleryOptions(NetworkOptions):
    one_process = True
    groups = (*NetworkOptions.groups, Display)
    defaults = {**NetworkOptions.defaults, "seed": 0}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("gallery").add_argument
        add("--gallery_dir", default="./gallery", help="folder of the page and its pictures")
        add("--layouts", type=integer(1), default=8, help="layouts on the page")
        add("--samples", type=integer(1), default=5, help="samples of each layout")
        add("--without_photos", action="store_true",
            help="do not show real photos, for instance if their licence forbids it; the encoder still uses them")
        add("--measured", type=integer(1), default=48, help="layouts on which diversity is measured")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: the gallery changes styles of instances; use inade")
