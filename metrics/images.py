"""Images on disk, as the 8-bit RGB pixels that are measured."""
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data import image_files
from util import distributed
from util.errors import UserError, shortened
from util.parallel import run_ahead
from util.results import PICTURES, SAMPLES, listed

IMAGE_SUFFIXES = tuple(sorted(image_files.IMAGE_SUFFIXES))
# of subfolders of data sets and results that hold no pictures but maps
_MAPS = re.compile(r"(.*_)?(label|labels|inst|instance|instances|mask|masks|annotations|gtFine)")
_AHEAD = 4  # images that each thread decodes before they are needed
RESIZE_FILTER = "bicubic"  # of Pillow, which averages over all pixels when it shrinks


@dataclass(frozen=True)
class ImageFolder:
    """Image files that are measured at one size; build it with :meth:`find`."""

    source: str
    files: list[str]
    size: tuple[int, int]  # height, width
    resize: str | None  # the filter that brings images there; None if they have the size already
    as_shown: bool = True  # turned by their orientation tags

    @classmethod
    def find(cls, folder: str, size: tuple[int, int] | None = None, as_shown: bool = True) -> "ImageFolder":
        """All images of ``folder``, resized to ``size``; without it all must have the size of the first.

        :raises UserError: no folder, or too few images in it; without ``size``: the first cannot be read.
        """
        files = list_images(folder)
        if size is None:
            return cls(folder, files, read_image(files[0], None, as_shown).shape[:2], None, as_shown)
        return cls(folder, files, size, RESIZE_FILTER, as_shown)

    @property
    def orientation(self) -> str:
        """``as_shown`` in the words of --orientation."""
        return "apply" if self.as_shown else "ignore"

    def pixels(self, threads: int) -> Iterator[np.ndarray]:
        """The images in order, uint8 [H,W,3], decoded ahead in ``threads``.

        :raises UserError: an image that cannot be read, or that has another size.
        """
        return run_ahead(self._read, self.files, threads, _AHEAD)

    def _read(self, path: str) -> np.ndarray:
        image = read_image(path, self.size if self.resize else None, self.as_shown)
        if image.shape[:2] != self.size:
            raise UserError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels, but {self.files[0]} has "
                            f"{self.size[1]}x{self.size[0]}; resize all of them with --resize_size")
        return image


def list_images(folder: str) -> list[str]:
    """Paths of all images in ``folder`` and its subfolders, sorted. Hidden files and folders are left out. Links are
    followed, but no folder is read twice. Of a folder of results, the synthesized pictures that its ``run.json`` lists.
    Where it is several folders, a line on stderr says which, and how many images each has.

    :raises UserError: not a folder, fewer than two images in it, or maps among pictures.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: not a folder of images (nor .npz statistics)")
    found = [os.path.join(parent, name) for parent, name in image_files.walk(folder, onerror=_refuse_folder)
             if name.lower().endswith(IMAGE_SUFFIXES)]
    places = [os.path.relpath(os.path.dirname(path), folder) for path in found]
    names = listed(folder)
    if names is not None:
        found = [path for path, place in zip(found, places, strict=True)
                 if re.fullmatch(f"{PICTURES}/{SAMPLES}", place) and image_files.stem(path) in names]
        places = [os.path.relpath(os.path.dirname(path), folder) for path in found]
    counts = Counter(places)
    maps = sorted(place for place in counts if any(map(_MAPS.fullmatch, place.split(os.sep))))
    if pictures := sorted(counts.keys() - maps) if maps else []:
        raise UserError(f"{folder}: has maps of ids in {maps[0]} ({counts[maps[0]]}) as well as pictures in "
                        f"{pictures[0]} ({counts[pictures[0]]}); name the folder of the pictures to measure")
    if len(found) < 2:
        raise UserError(f"{folder}: has {'1 image' if found else 'no images'}, but a covariance needs at least 2 (file "
                        f"names end in {' '.join(IMAGE_SUFFIXES)})")
    if (len(counts) > 1 or names is not None) and distributed.is_main():
        shown = [f"{place} ({number})" for place, number in sorted(counts.items())]
        print(f"{folder}: {len(found)} images, in {shortened(shown, 6, what=' folders')}", file=sys.stderr)
    return sorted(found)


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def read_image(path: str, size: tuple[int, int] | None = None, as_shown: bool = True) -> np.ndarray:
    """An image file as 8-bit RGB [H,W,3]: grey and palette converted, transparency dropped.

    :param size: (height, width) to resize to, bicubic; None leaves the image as it is.
    :raises UserError: the file cannot be decoded, or is grey with more than 8 bits.
    """
    image = image_files.read_photo(path, as_shown)
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(image)
