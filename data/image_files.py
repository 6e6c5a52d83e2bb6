"""Finding, pairing and reading image files; every failure names the file and the remedy."""
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from util.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def stem(path: str) -> str:
    """File name without folder and suffix: what pairs a photo with its label map."""
    return os.path.splitext(os.path.basename(path))[0]


@dataclass(frozen=True)
class Source:
    """Where the files of one kind lie: the images of ``folder`` whose names have ``part`` and end with ``ending``."""

    folder: str
    part: str = ""
    ending: str = ""
    recursive: bool = False

    def files(self) -> list[str]:
        """Sorted paths, without hidden files; empty if the folder does not exist."""
        return sorted(os.path.join(folder, name) for folder, name in self._walk() if self._takes(name))

    def _takes(self, name: str) -> bool:
        lower = name.lower()
        return (not name.startswith(".") and os.path.splitext(lower)[1] in IMAGE_SUFFIXES
                and self.part in name and lower.endswith(self.ending.lower()))

    def _walk(self) -> Iterator[tuple[str, str]]:
        seen = set()  # real folders: symbolic links are followed, but not in circles
        for folder, subfolders, names in os.walk(self.folder, followlinks=True):
            seen.add(os.path.realpath(folder))
            subfolders[:] = [sub for sub in subfolders if self.recursive and not sub.startswith(".")
                             and os.path.realpath(os.path.join(folder, sub)) not in seen]
            yield from ((folder, name) for name in names)


def pair(labels: list[str], partners: list[str], kind: str, key: Callable[[str], str], remedy: str) -> list[str]:
    """``partners`` in the order of their ``labels``: those of equal ``key``.

    :param kind: what the partners are, in the singular, for the message.
    :raises UserError: a file of either list has no partner, or two of one list have the same key.
    """
    label_of, partner_of = _by_key(labels, key), _by_key(partners, key)
    _check_all_paired(label_of, partner_of, f"label maps without {kind}", remedy)
    _check_all_paired(partner_of, label_of, f"{kind}s without label map", remedy)
    return [partner_of[name] for name in label_of]


def _by_key(paths: list[str], key: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        other = found.setdefault(key(path), path)
        if other != path:
            raise UserError(f"{other} and {path} have the same name for pairing, {key(path)}: remove or rename one")
    return found


def _check_all_paired(files: dict[str, str], others: Collection[str], problem: str, remedy: str) -> None:
    alone = [path for name, path in files.items() if name not in others]
    if alone:
        more = ", …" if len(alone) > 3 else ""
        raise UserError(f"{len(alone)} {problem}: {', '.join(alone[:3])}{more}; {remedy}")


def read_image(path: str) -> Image.Image:
    """The decoded image.

    :raises UserError: the file is missing, unreadable, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # decoders fail in many ways; all of them mean that this file is no good
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cannot read {path} ({reason}): replace the file, or remove it with its partners") from error


def read_photo(path: str) -> Image.Image:
    """The photo as RGB."""
    return read_image(path).convert("RGB")


def read_ids(path: str, first_channel: bool = False) -> np.ndarray:
    """A label or instance map [H, W] of ids ≥ 0: uint8, uint16 or int32. Of a palette image, the indices.

    :param first_channel: of a colour image, take the first channel instead of refusing it.
    :raises UserError: unreadable file, lossy file, more than one channel, or negative ids.
    """
    image = read_image(path)
    if image.format == "JPEG":
        raise UserError(f"{path}: JPEG compression alters ids; store label and instance maps as PNG")
    if first_channel and len(image.getbands()) > 1:
        image = image.getchannel(0)
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise UserError(f"{path}: a colour image (mode {image.mode}), not a map of ids; "
                        "convert its colours to ids in a PNG with one channel")
    ids = np.asarray(image)
    if ids.dtype == bool:
        return ids.astype(np.uint8)
    if ids.min() < 0:
        raise UserError(f"{path}: has the id {ids.min()}; ids must not be negative")
    return ids.astype(ids.dtype.newbyteorder("="), copy=False)


def renumber(ids: np.ndarray) -> np.ndarray:
    """``ids`` replaced by their ranks: 0..n-1 in ascending order; uint8 if n ≤ 256, else uint16 (int32 above 65536).

    >>> renumber(np.array([7, 26001, 26000, 7])).tolist()
    [0, 2, 1, 0]
    """
    pixels = ids.ravel()
    starts = _run_starts(pixels)
    found = pixels[starts]  # one pixel of each run is enough
    if ids.dtype.itemsize <= 2:  # a table over all possible ids is faster than sorting
        present = np.zeros(np.iinfo(ids.dtype).max + 1, dtype=bool)
        present[found] = True
        values = np.flatnonzero(present)
        table = np.empty(present.size, _dtype_for(values.size))
        table[values] = np.arange(values.size)
        ranks = table[found]
    else:
        values, ranks = np.unique(found, return_inverse=True)
        ranks = ranks.astype(_dtype_for(values.size))
    return np.repeat(ranks, np.diff(starts, append=pixels.size)).reshape(ids.shape)


def _run_starts(pixels: np.ndarray) -> np.ndarray:
    """Positions in ``pixels`` [N], N ≥ 1, of the first and of every one that differs from the one before it."""
    changed = np.zeros(-(-pixels.size // 8) * 8, dtype=bool)
    changed[0] = True
    np.not_equal(pixels[1:], pixels[:-1], out=changed[1:pixels.size])
    eights = changed.view(np.uint64)  # most are 0: maps are even
    places = np.flatnonzero(eights != 0)
    within = np.flatnonzero(eights[places].view(bool))
    return (places[within >> 3] << 3) + (within & 7)


def _dtype_for(count: int) -> type[np.integer]:
    return np.uint8 if count <= 2**8 else np.uint16 if count <= 2**16 else np.int32
