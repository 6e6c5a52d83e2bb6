"""Options of ``train.py``."""
from options.command_options import CommandOptions
from options.groups import (
    Architecture,
    Data,
    Device,
    Display,
    Evaluation,
    Experiment,
    Loading,
    Logging,
    Losses,
    Schedule,
)


class TrainOptions(CommandOptions):
    is_train = True
    groups = (Experiment, Device, Architecture, Data, Loading, Schedule, Losses, Logging, Display, Evaluation)
