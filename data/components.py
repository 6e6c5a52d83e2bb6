"""Instances where there are only classes: connected regions."""
from collections.abc import Collection

import numpy as np
from scipy import ndimage

from data.image_files import renumber

_NEIGHBOURS = np.ones((3, 3))  # 8: pixels that touch at a corner are connected


def split_components(classes: np.ndarray, min_area: int = 1, only: Collection[int] | None = None) -> np.ndarray:
    """Ids [H, W] 0..n-1 of the connected regions (8 neighbours) of equal class; by class, then by their first pixel.

    :param classes: [H, W], ids ≥ 0.
    :param min_area: pixels; all regions of a class that have fewer become one instance, the last of that class.
    :param only: split these classes; every other one is one instance as a whole. Default: split all.
    """
    ranks = renumber(classes).astype(np.int32)
    instances = np.empty(ranks.shape, np.int32)
    count = 0
    for rank, window in enumerate(ndimage.find_objects(ranks + 1)):
        mask = ranks[window] == rank
        regions, number = ndimage.label(mask, _NEIGHBOURS)
        large = np.bincount(regions[mask], minlength=number + 1)[1:] >= min_area
        if only is not None and classes[window][mask][0] not in only:
            large[:] = False
        ids = np.where(large, np.cumsum(large) - 1, large.sum())
        instances[window][mask] = count + ids[regions[mask] - 1]
        count += ids.max() + 1
    return renumber(instances)
