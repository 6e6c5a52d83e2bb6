"""Options of ``train.py``."""
from options.command_options import CommandOptions
from options.groups import TRAINING


class TrainOptions(CommandOptions):
    is_train = True
    groups = TRAINING
