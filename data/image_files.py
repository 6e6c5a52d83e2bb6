"""Finding, pairing and reading image files; every failure names the file and the remedy."""
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.label_colors import LabelColors
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
        """Sorted paths, without hidden files; empty if the folder does not exist.

        :raises UserError: a path that is no text, so that nothing could be named after it.
        """
        paths = sorted(os.path.join(folder, name) for folder, name in self._walk() if self._takes(name))
        for path in paths:
            try:
                path.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{path!a}: the name is not UTF-8; rename the file or folder") from error
        return paths

    def names(self) -> Iterator[str]:
        """Names of the files that are there, whatever they are."""
        return (name for _, name in self._walk() if not name.startswith("."))

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
    label_of, partner_of = _one_by_key(labels, key), _one_by_key(partners, key)
    _check_all_paired(label_of, partner_of, f"label maps without {kind}", remedy)
    _check_all_paired(partner_of, label_of, f"{kind}s without label map", remedy)
    return [partner_of[name] for name in label_of]


def by_key(paths: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """The paths of every key, in their order."""
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(key(path), []).append(path)
    return found


def same_name_problem(paths: list[str], name: str) -> str:
    """What is wrong with several files of one key."""
    return f"{' and '.join(paths)} have the same name for pairing, {name}: remove or rename one"


def _one_by_key(paths: list[str], key: Callable[[str], str]) -> dict[str, str]:
    found = by_key(paths, key)
    for name, same in found.items():
        if len(same) > 1:
            raise UserError(same_name_problem(same, name))
    return {name: path for name, (path,) in found.items()}


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
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise ValueError("not a regular file")
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # decoders fail in many ways; all of them mean that this file is no good
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else reason
        raise UserError(f"cannot read {path} ({reason}): replace the file, or remove it with its partners") from error


def read_photo(path: str) -> Image.Image:
    """The photo as RGB.

    :raises UserError: unreadable file, or more than 8 bits per channel.
    """
    return to_rgb(read_image(path), path)


def to_rgb(image: Image.Image, path: str) -> Image.Image:
    """The photo read from ``path`` as RGB.

    :raises UserError: it has more than 8 bits per channel.
    """
    if image.mode.startswith(("I", "F")):  # brought to 8 bits it would be all white
        raise UserError(f"{path}: a photo of 16 or 32 bits (mode {image.mode}); convert it to 8 bits")
    return image.convert("RGB")


def read_ids(path: str, first_channel: bool = False) -> np.ndarray:
    """A label or instance map [H, W] of ids ≥ 0: uint8, uint16 or int32. Of a palette image, the indices.

    :param first_channel: of a colour image, take the first channel instead of refusing it.
    :raises UserError: unreadable file, lossy file, more than one channel, or negative ids.
    """
    return to_ids(read_image(path), path, first_channel=first_channel)


def to_ids(image: Image.Image, path: str, colors: LabelColors | None = None, first_channel: bool = False) -> np.ndarray:
    """The ids [H, W] of the map read from ``path``, as :func:`read_ids` gives them.

    :param colors: what the colours of a colour image stand for; without it, colour images are refused.
    :raises UserError: as :func:`read_ids`; a colour that ``colors`` has not.
    """
    if image.format == "JPEG":
        raise UserError(f"{path}: JPEG compression alters ids; store label and instance maps as PNG")
    if first_channel and len(image.getbands()) > 1:
        image = image.getchannel(0)
    if image.mode in ("RGB", "RGBA") and colors:
        return colors.to_ids(np.asarray(image)[..., :3], path)
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        kind = "an image of fractions" if image.mode == "F" else "a colour image"
        raise UserError(f"{path}: {kind} (mode {image.mode}), not a map of ids; convert it to ids in a PNG with one "
                        "channel, or for colours of classes give --label_colors FILE with lines `r g b id`")
    ids = np.asarray(image)
    if ids.dtype == bool:
        return ids.astype(np.uint8)
    if ids.min() < 0:
        raise UserError(f"{path}: has the id {ids.min()}; ids must not be negative: mend the file")
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
