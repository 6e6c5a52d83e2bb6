"""Options of ``models/fit_prior.py``."""
import argparse

from options.options import Options
from options.test_options import NetworkOptions
from util.errors import UserError


class FitOptions(NetworkOptions):
    one_process = True
    defaults = {"phase": "train"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument_group("result").add_argument(
            "--out", default=None, metavar="FOLDER", help="folder to write; default: checkpoints_dir/name_fitted")

    def reads_photos(self, opt: Options) -> bool:
        return True

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: classes have no styles of their own; use inade")
        opt.use_vae, opt.out = True, opt.out or f"{opt.folder}_fitted"
