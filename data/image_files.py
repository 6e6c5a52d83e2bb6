"""Finding and reading image files. Every error names the file and the remedy."""
import io
import math
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.label_colors import LabelColors
from util.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # whatever a file's suffix: no other decoder runs
MOST_PIXELS = 2**26  # of an image that is made of another one
_LOSSY = ("JPEG", "MPO")  # MPO: a JPEG file of several pictures


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
        """Sorted paths, without hidden files. Empty if the folder does not exist.

        :raises UserError: a path that is not text, so that no other file can be named after it.
        """
        paths = sorted(os.path.join(folder, name) for folder, name in walk(self.folder, self.recursive)
                       if self._takes(name))
        for path in paths:
            try:
                path.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{path!a}: the name is not UTF-8; rename the file or folder") from error
        return paths

    def names(self) -> Iterator[str]:
        """Names of the files that are there, images or not."""
        return (name for _, name in walk(self.folder, self.recursive))

    def _takes(self, name: str) -> bool:
        lower = name.lower()
        return (os.path.splitext(lower)[1] in IMAGE_SUFFIXES and self.part in name
                and lower.endswith(self.ending.lower()))


def walk(folder: str, recursive: bool = True,
         onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, str]]:
    """Folder and name of every file; hidden files and folders are left out. Links are followed, but no folder is read
    twice.

    :param onerror: what to do about a folder that cannot be listed, instead of passing over it.
    """
    seen = set()
    for parent, subfolders, names in os.walk(folder, onerror=onerror, followlinks=True):
        real = os.path.realpath(parent)
        new = real not in seen
        seen.add(real)
        subfolders[:] = sorted(sub for sub in subfolders if new and recursive and not sub.startswith("."))
        yield from ((parent, name) for name in names if new and not name.startswith("."))


def read_image(path: str, most_pixels: float = math.inf, content: bytes | None = None) -> Image.Image:
    """The decoded image.

    :param most_pixels: larger ones are not decoded.
    :param content: of the file, if it is in memory; ``path`` is then what to call it.
    :raises UserError: the file is missing, unreadable, truncated, too large or not an image.
    """
    try:
        if content is None and not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise ValueError("not a regular file")
        with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > most_pixels:
                raise ValueError(f"{image.width}x{image.height}: more than {most_pixels / 1e6:.0f} million pixels")
            image.load()
            return image
    except MemoryError:  # of the machine, not the file
        raise
    except Exception as error:  # decoders fail in many ways, which all mean that the file cannot be used
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else reason
        raise UserError(f"cannot read {path} ({reason}): replace the file, or remove it with its partners") from error


def check_size(width: float, height: float, name: str, how: str) -> tuple[int, int]:
    """The size, in whole pixels, to which an image is to be brought; it is checked before that costs memory.

    :param name: what to call the image in errors, and ``how``, what asks for this size.
    :raises UserError: it has no pixels, or more than ``MOST_PIXELS``.
    """
    size = round(width), round(height)
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise UserError(f"{name}: would be {size[0]}x{size[1]} with {how}, which is nothing, or more than "
                        f"{MOST_PIXELS >> 20} million pixels; crop it to another shape, or remove it")
    return size


def read_photo(path: str) -> Image.Image:
    """The photo as RGB.

    :raises UserError: the file cannot be read, or has more than 8 bits per channel.
    """
    return to_rgb(read_image(path), path)


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A photo as RGB.

    :param name: what to call the photo in errors.
    :raises UserError: it has more than 8 bits per channel.
    """
    if image.mode.startswith(("I", "F")):  # brought to 8 bits it would be all white
        raise UserError(f"{name}: a photo of 16 or 32 bits (mode {image.mode}); convert it to 8 bits")
    return image.convert("RGB")


def read_ids(path: str, first_channel: bool = False) -> np.ndarray:
    """A label or instance map [H, W] as :func:`check_ids` returns it. Of a palette image, the indices.

    :param first_channel: take the first channel of a colour image instead of refusing it.
    :raises UserError: the file cannot be read, is lossy, has several channels, or has negative ids.
    """
    return to_ids(read_image(path), path, first_channel=first_channel)


def to_ids(image: Image.Image, path: str, colors: LabelColors | None = None, first_channel: bool = False) -> np.ndarray:
    """The ids of the image in ``path``, as :func:`read_ids` returns them.

    :param colors: the meaning of the colours of a colour image. Without it colour images are refused.
    :raises UserError: as :func:`read_ids`, or a colour that ``colors`` does not list.
    """
    if image.format in _LOSSY:
        raise UserError(f"{path}: JPEG compression alters ids; store label and instance maps as PNG")
    if first_channel and len(image.getbands()) > 1:
        image = image.getchannel(0)
    if image.mode in ("RGB", "RGBA") and colors:
        return colors.to_ids(np.asarray(image)[..., :3], path)
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        kind = "an image of fractions" if image.mode == "F" else "a colour image"
        raise UserError(f"{path}: {kind} (mode {image.mode}), not a map of ids; convert it to ids in a PNG with one "
                        "channel, or for colours of classes give --label_colors FILE with lines `r g b id`")
    return check_ids(np.asarray(image), path)


def check_ids(ids: np.ndarray, name: str) -> np.ndarray:
    """``ids`` as uint8, uint16 or int32, by the size of their own type.

    :param name: what to call the map in errors.
    :raises UserError: not whole numbers [H, W], or negative or very high ones.
    """
    if ids.dtype.kind not in "biu":
        raise UserError(f"{name}: an array of {ids.dtype}, not a map of ids; convert it to whole numbers")
    if ids.ndim != 2 or not ids.size:
        raise UserError(f"{name}: an array of the shape {list(ids.shape)}; a map of ids has the shape [height, width]")
    if ids.dtype.kind == "i" and ids.min() < 0:
        raise UserError(f"{name}: has the id {ids.min()}; ids must not be negative: mend the map")
    dtype = {1: np.uint8, 2: np.uint16}.get(ids.dtype.itemsize, np.int32)
    if ids.dtype.itemsize >= 4 and ids.max() > np.iinfo(dtype).max:
        raise UserError(f"{name}: has the id {ids.max()}; ids must be below 2**31: mend the map")
    return ids.astype(dtype, copy=False)


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
