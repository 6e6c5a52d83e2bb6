"""Finding and reading image files. Every error names the file and the remedy."""
import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.label_colors import LabelColors
from util.errors import UserError, say_once

IMAGE_SUFFIXES = frozenset({".bmp", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
                            ".webp"})
UNREAD_SUFFIXES = frozenset({".avif", ".exr", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".npy", ".svg", ".tga"})
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # whatever a file's suffix: no other decoder runs
MOST_PIXELS = 2**26  # of an image that is made of another one
_LOSSY = ("JPEG", "MPO")  # MPO: a JPEG file of several pictures
Image.MAX_IMAGE_PIXELS = None  # remote sensing has more; uploads have a limit of their own
_MANY, _MOST_COMPRESSED = 2**27, 10_000  # pixels; pixels of a byte, above which so large a file claims too much
ORIENTATION = 0x0112  # tag of EXIF and TIFF
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
_BACK = {**_TURNS, 6: _TURNS[8], 8: _TURNS[6]}
_TAG, _STORED, _DEEP = "inade orientation", "inade stored", "inade deep"  # keys of Image.info


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
        """Sorted paths, without hidden files. Empty if the folder does not exist. A folder that has images in
        subfolders alone is read with them.

        :raises UserError: a path that is not text, so that no other file can be named after it.
        """
        paths = self._found(self.recursive) or self._found(recursive=True)
        for path in paths:
            try:
                path.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{path!a}: the name is not UTF-8; rename the file or folder") from error
        return paths

    def names(self) -> Iterator[str]:
        """Names of the files that are there, images or not."""
        return (name for _, name in walk(self.folder, self.recursive))

    def _found(self, recursive: bool) -> list[str]:
        return sorted(os.path.join(folder, name) for folder, name in walk(self.folder, recursive)
                      if os.path.splitext(name.lower())[1] in IMAGE_SUFFIXES and self.part in name
                      and name.lower().endswith(self.ending.lower()))


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
    """The decoded image, its pixels as the file has them: see :func:`orientation` and :func:`turned`.

    :param most_pixels: larger ones are not decoded.
    :param content: of the file, if it is in memory; ``path`` is then what to call it.
    :raises UserError: the file is missing, unreadable, truncated, too large or not an image.
    """
    try:
        if content is None and not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise ValueError("not a regular file")
        # by its content, not its name: where Pillow 12 maps a TIFF into memory, its tag scrambles it
        with (open(path, "rb") if content is None else io.BytesIO(content)) as file, \
                Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > most_pixels:
                raise ValueError(f"{image.width}x{image.height}: more than {most_pixels / 1e6:.0f} million pixels")
            size = os.fstat(file.fileno()).st_size if content is None else len(content)
            if image.width * image.height > max(_MANY, _MOST_COMPRESSED * size):
                raise ValueError(f"{image.width}x{image.height} pixels are more than a file of this size can hold")
            tag = image.getexif().get(ORIENTATION) if image.format == "TIFF" else None
            stored, deep = _stored(image), len(image.getbands()) > 1 and ";16" in str(image.tile[:1])
            image.load()
            if tag in _TURNS:  # Pillow turns TIFF by itself
                raw = image.transpose(_BACK[tag])
                raw.format, image = image.format, raw
            elif image.format != "TIFF":
                tag = image.getexif().get(ORIENTATION)
            image.info |= {_TAG: tag, _STORED: stored, _DEEP: deep}
            return image
    except MemoryError:  # of the machine, not the file
        raise
    except Exception as error:  # decoders fail in many ways, which all mean that the file cannot be used
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else reason
        raise UserError(f"cannot read {path} ({reason}): replace the file, or remove it with its partners") from error


def orientation(image: Image.Image) -> int | None:
    """The orientation tag 2..8 of what :func:`read_image` returned, by which viewers turn it; None if it has none."""
    tag = image.info.get(_TAG)
    return tag if tag in _TURNS else None


def turned(image: Image.Image) -> Image.Image:
    """``image`` as viewers show it: turned by its orientation tag."""
    tag = orientation(image)
    if tag is None:
        return image
    upright = image.transpose(_TURNS[tag])
    upright.info = {**image.info, _TAG: None}
    upright.format = image.format
    return upright


def check_size(width: float, height: float, name: str, how: str) -> tuple[int, int]:
    """The size, in whole pixels, to which an image is to be brought; it is checked before that costs memory.

    :param name: what to call the image in errors, and ``how``, what asks for this size.
    :raises UserError: it has no pixels, or more than ``MOST_PIXELS``.
    """
    size = round(width), round(height)
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise UserError(f"{name}: would be {size[0]}x{size[1]} with {how}, which has no pixels, or more than "
                        f"{MOST_PIXELS >> 20} million; crop it to another shape, or remove it")
    return size


def read_photo(path: str, as_shown: bool = True) -> Image.Image:
    """The photo as RGB, as viewers show it, or as its pixels lie.

    :raises UserError: the file cannot be read, or has more than 8 bits per channel.
    """
    image = read_image(path)
    if orientation(image):
        how = "turned by its orientation tag (EXIF), as viewers show it" if as_shown else \
            "read as its pixels lie, whatever its orientation tag (EXIF) says"
        say_once("photo", f"{path}: is {how}; so are other photos with such a tag")
    return to_rgb(turned(image) if as_shown else image, path)


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A photo, called ``name`` in errors, as RGB. :raises UserError: it has more than 8 bits per channel."""
    if image.mode.startswith(("I", "F")):  # brought to 8 bits it would be all white
        raise UserError(f"{name}: has 16 or 32 bits per channel (mode {image.mode}); convert it to 8 bits")
    return image.convert("RGB")


def read_ids(path: str) -> np.ndarray:
    """A label map [H, W] as :func:`to_ids` returns it, and raises, with its pixels as the file has them."""
    return to_ids(read_image(path), path)


def to_ids(image: Image.Image, path: str, colors: LabelColors | None = None, first_channel: bool = False,
           least: int = 0) -> np.ndarray:
    """The ids [H, W] of the label map in ``path``: the numbers that the file stores, whatever grey they stand for; of a
    palette image, the positions in the palette. As :func:`check_ids` returns them.

    :param colors: the meaning of colours: of colour images, which are refused without it, of palettes, and of grey
        images whose greys it lists, all of them.
    :param first_channel: take the first channel of a colour image instead of refusing it.
    :param least: the lowest id that is allowed.
    :raises UserError: the image is lossy, has several channels, transparency or ids that are too low or high, or a
        colour that ``colors`` does not list.
    """
    _check_exact(image, path)
    mode = image.mode
    if first_channel and len(image.getbands()) > 1:
        image = image.getchannel(0)
    elif "A" in image.getbands():
        image = _opaque(image, path)
    if colors and image.mode in ("RGB", "P"):
        return colors.to_ids(np.asarray(image.convert("RGB")), path)
    if colors and image.mode in ("1", "L") and colors.lists_greys(image):
        say_once("greys", f"{path}: all its greys are colours that {colors.path} lists, so it is read as a map of "
                          "colours; so are other maps like it")
        return colors.to_ids(np.asarray(image.convert("RGB")), path)
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        kind = "an image of fractions" if image.mode == "F" else "a colour image"
        or_colors = "RGB for --label_colors" if colors else "if its colours stand for classes, give --label_colors " \
            "FILE with lines `r g b id`"
        raise UserError(f"{path}: {kind} (mode {mode}), not a map of ids; convert it to ids in a PNG with one "
                        f"channel, or {or_colors}")
    return check_ids(_stored_numbers(image), path, least)


def to_instances(image: Image.Image, path: str) -> np.ndarray:
    """The ids [H, W] of the instance map in ``path``, as :func:`to_ids` returns those of a label map. A colour is the
    id red + 256 green + 65536 blue, as in COCO's panoptic maps.

    :raises UserError: as :func:`to_ids`.
    """
    _check_exact(image, path)
    if "A" in image.getbands():
        image = _opaque(image, path)
    if image.mode != "RGB":
        return to_ids(image, path)
    red, green, blue = np.moveaxis(np.asarray(image).astype(np.int32), -1, 0)
    return red | green << 8 | blue << 16


def palette_of(image: Image.Image) -> dict[int, tuple[int, int, int]]:
    """Id -> the colour that shows it, of the ids that a palette image has; empty for other images."""
    if image.mode != "P":
        return {}
    colors = np.array(image.getpalette("RGB")).reshape(-1, 3).tolist()
    used = np.flatnonzero(np.bincount(np.asarray(image).ravel(), minlength=256)).tolist()
    return {number: tuple(colors[number]) for number in used if number < len(colors)}


def _stored(image: Image.Image) -> tuple[int, int, bool] | None:
    """How Pillow, which decodes for the eye, will show the numbers that a grey image stores: the highest number, what
    it becomes, and whether 0 becomes the brightest. None where it keeps them."""
    if image.mode not in ("1", "L", "I") or not image.tile:
        return None
    decoder, _, _, args = image.tile[0]
    args = args if isinstance(args, tuple) else (args,)
    if image.format == "PPM":
        if decoder.startswith("ppm") and len(args) == 2 and isinstance(args[1], int):
            shown = 255 if image.mode == "L" else 65535
            return None if args[1] == shown else (args[1], shown, False)
        return (1, 1, True) if image.mode == "1" else None
    match = re.fullmatch("([1L])(?:;([24]?)(I?)R?)?", str(args[0]))
    if not match or not (match[2] or match[3]):
        return None
    most = 1 if match[1] == "1" else 2 ** int(match[2] or 8) - 1
    return most, 1 if match[1] == "1" else 255, bool(match[3])


def _stored_numbers(image: Image.Image) -> np.ndarray:
    numbers = np.asarray(image)
    stored: Any = image.info.get(_STORED)
    if stored is None:
        return numbers
    most, shown, inverted = stored
    found = np.rint(numbers.astype(np.float64) * (most / shown)).astype(np.uint8 if most < 256 else np.int32)
    return (most - found).astype(found.dtype) if inverted else found


def _check_exact(image: Image.Image, path: str) -> None:
    """Refuse a map of ids that was decoded to other numbers than were meant."""
    compression = str(image.info.get("compression")) if image.format == "TIFF" else ""
    if image.format in _LOSSY or "jpeg" in compression or "webp" in compression:
        raise UserError(f"{path}: JPEG compression alters ids; store label and instance maps as PNG")
    if image.info.get(_DEEP):
        raise UserError(f"{path}: has colours or transparency of 16 bits, of which only 8 are read; store ids in one "
                        "channel, or colours with 8 bits")


def _opaque(image: Image.Image, path: str) -> Image.Image:
    """A map of ids without the transparency that it has, where that says nothing."""
    low, high = image.getchannel("A").getextrema()
    if low != high:
        raise UserError(f"{path}: is partly transparent (mode {image.mode}), so that its ids there are unclear; store "
                        "the map without transparency")
    return image.convert("L" if image.mode == "LA" else "RGB")


def check_ids(ids: np.ndarray, name: str, least: int = 0) -> np.ndarray:
    """``ids`` as uint8, uint16 or int32, by the size of their own type.

    :param least: the lowest id that is allowed; if it is negative, the result is int32.
    :raises UserError: not whole numbers [H, W], or low or very high ones.
    """
    if ids.dtype.kind not in "biu":
        raise UserError(f"{name}: is an array of {ids.dtype}, not a map of ids; convert it to whole numbers")
    if ids.ndim != 2 or not ids.size:
        raise UserError(f"{name}: is an array of shape {list(ids.shape)}, but a map of ids has the shape [height, "
                        "width]")
    if ids.dtype.kind == "i" and ids.min() < least:
        raise UserError(f"{name}: has the id {ids.min()}; ids must not be negative: fix the map, or if it means don't "
                        f"care in a label map, give --contain_dontcare_label --dont_care_id {ids.min()}")
    dtype = np.int32 if least < 0 else {1: np.uint8, 2: np.uint16}.get(ids.dtype.itemsize, np.int32)
    if ids.dtype.itemsize >= 4 and ids.max() > np.iinfo(dtype).max:
        raise UserError(f"{name}: has the id {ids.max()}; ids must be below 2**31: fix the map")
    return ids.astype(dtype, copy=False)
