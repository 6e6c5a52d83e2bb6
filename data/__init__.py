"""Data sets by the name of --dataset_mode, and the loader that feeds the networks; see :mod:`data.loading`."""
from typing import Any

_LOADING = ("DATASETS", "EpochDataLoader", "EpochSampler", "collate", "create_dataloader", "create_dataset")


def __getattr__(name: str) -> Any:
    """Import :mod:`data.loading`, and PyTorch with it, only when needed: what merely reads files starts faster."""
    if name not in _LOADING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from data import loading

    return getattr(loading, name)
