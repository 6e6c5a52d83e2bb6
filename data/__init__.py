"""Data sets, and the loader that feeds the networks. Read :mod:`data.pix2pix_dataset` first.

Every data set has a file that knows all about it, e.g. :mod:`data.cityscapes_dataset`; only the defaults of its
options are elsewhere, in :mod:`options.dataset_defaults`.
"""
from data.kinds import DATASETS, class_colors, class_names
from data.loading import EpochDataLoader, EpochSampler, collate, create_dataloader, create_dataset

__all__ = ["DATASETS", "EpochDataLoader", "EpochSampler", "class_colors", "class_names", "collate",
           "create_dataloader", "create_dataset"]
