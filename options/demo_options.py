"""Options of ``demo.py``."""
import argparse
import os
from collections.abc import Sequence

from options.options import Options
from options.test_options import NetworkOptions
from util.arguments import integer
from util.errors import UserError


class DemoOptions(NetworkOptions):
    one_process = True
    defaults = {**NetworkOptions.defaults, "name": "faces", "gpu_ids": "-1"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("page").add_argument
        add("--host", default="127.0.0.1", help="address to listen on; with 0.0.0.0, other machines can connect")
        add("--port", type=integer(1, 65535), default=7860, help="port to listen on")
        add("--names", nargs="+", default=[], metavar="NAME",
            help="further host names that browsers may use, such as that of a web server in front of the demo")

    def arguments(self, args: list[str]) -> list[str]:
        """As for every command; but what the checkpoint's ``opt.txt`` says, if it has one, need not be given. Its
        layouts, if it has some, are taken rather than the data set that it was trained on."""
        saved = self.opt_file(args)
        examples = os.path.join(os.path.dirname(saved), "examples")
        if not named(args) & {"--dataroot", "--label_dir"} and os.path.isdir(examples):
            args = [*args, f"--dataroot={examples}", "--dataset_mode=custom"]
        return super().arguments([*args, "--load_from_opt_file"] if os.path.isfile(saved) else args)

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: the demo changes styles of instances; use inade")

    def needs_layouts(self, opt: Options) -> bool:
        """Not where none were named and the default is not there: then there is the brush."""
        default = self.parser_for([]).get_default("dataroot")
        return bool(opt.label_dir) or opt.dataroot != default or os.path.isdir(default)


def named(args: Sequence[str]) -> set[str]:
    """The words of ``args`` that may be options, without values."""
    return {arg.partition("=")[0] for arg in args}
