"""Command-line options, parsed once and then frozen. Read :mod:`options.options` first, then :mod:`options.groups`."""
from options.command_options import CommandOptions
from options.options import Options
from options.test_options import TestOptions
from options.train_options import TrainOptions

__all__ = ["CommandOptions", "Options", "TestOptions", "TrainOptions"]
