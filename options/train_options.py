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
    Recording,
    Schedule,
)


class TrainOptions(CommandOptions):
    is_train = True
    groups = (Experiment, Device, Recording, Architecture, Data, Loading, Schedule, Losses, Logging, Display,
              Evaluation)
