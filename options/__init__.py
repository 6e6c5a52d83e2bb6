"""Command-line options: one argparse class per command, parsed once and then frozen."""
from options.base_options import Options
from options.test_options import TestOptions
from options.train_options import TrainOptions

__all__ = ["Options", "TestOptions", "TrainOptions"]
