"""Data sets, and the loader that feeds the networks. Read :mod:`data.pix2pix_dataset` first.

Every data set has a file that knows all about it, e.g. :mod:`data.cityscapes_dataset`; only the defaults of its
options are elsewhere, in :mod:`options.dataset_defaults`.
"""
from data.kinds import DATASETS, class_colors, class_names

__all__ = ["DATASETS", "EpochDataLoader", "EpochSampler", "class_colors", "class_names", "collate",
           "create_dataloader", "create_dataset"]


def __getattr__(name: str) -> object:
    """What needs PyTorch, which takes seconds to import, and what only reads and writes files does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from data import loading

    return getattr(loading, name)
