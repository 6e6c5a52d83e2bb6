"""What is wrong with a command line, said before PyTorch is imported, which takes seconds."""
import os

from data.listing import check_folder
from options.command_options import CommandOptions
from options.test_options import NetworkOptions
from util.errors import UserError, beforehand


def refuse_mistakes(options: CommandOptions) -> None:
    """End the command if its options are wrong, or name networks or label maps whose folder is not there, or if they
    ask for help."""
    beforehand(lambda: _check(options))


def _check(options: CommandOptions) -> None:
    opt = options.parse(device=False)
    if isinstance(options, NetworkOptions) and not os.path.isdir(opt.folder):
        raise UserError(f"{opt.folder}: no such checkpoint; check --checkpoints_dir and --name, or train first")
    if options.needs_layouts(opt):
        check_folder(opt)
