"""Runs of equal pixels in maps of ids. There are far fewer of them than pixels."""
import numpy as np


def run_starts(*maps: np.ndarray) -> np.ndarray:
    """Where runs start, in the order of pixels: at the first, and at every one that differs from the one before it in
    one of the maps, all of the same number of pixels."""
    size = maps[0].size
    changed = np.zeros(-(-size // 8) * 8, dtype=bool)
    changed[0] = True
    for pixels in map(np.ravel, maps):
        changed[1:size] |= pixels[1:] != pixels[:-1]
    eights = changed.view(np.uint64)  # most are 0: maps are even
    places = np.flatnonzero(eights != 0)
    within = np.flatnonzero(eights[places].view(bool))
    return (places[within >> 3] << 3) + (within & 7)
