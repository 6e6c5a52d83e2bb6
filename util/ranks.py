"""Ranks of the values in maps of ids."""
import numpy as np


def ranked(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of ``ids``, ascending, and the rank among them of every pixel's: uint8 for up to 256 values, else
    uint16, or int32 above 65536.

    As ``np.unique``, and faster: maps have long runs of equal pixels, of which one is enough to sort.
    """
    pixels, new = ids.ravel(), np.ones(ids.size, dtype=bool)
    new[1:] = pixels[1:] != pixels[:-1]
    starts = np.flatnonzero(new)
    values, ranks = np.unique(pixels[starts], return_inverse=True)
    ranks = ranks.astype(np.uint8 if values.size <= 2**8 else np.uint16 if values.size <= 2**16 else np.int32)
    return values, np.repeat(ranks, np.diff(starts, append=ids.size)).reshape(ids.shape)


def renumber(ids: np.ndarray) -> np.ndarray:
    """``ids`` replaced by their ranks, as :func:`ranked` gives them: 7 26001 26000 7 becomes 0 2 1 0."""
    return ranked(ids)[1]
