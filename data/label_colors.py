"""Label maps that are drawn in colours, and the table that says which class a colour stands for."""
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from util.errors import UserError
from util.files import table_rows

_HIGHEST_ID = 2**16 - 1


@dataclass(frozen=True)
class LabelColors:
    """The table of --label_colors, as :func:`read_label_colors` reads it."""

    path: str
    colors: np.ndarray  # [n] int32, ascending: red * 65536 + green * 256 + blue
    ids: np.ndarray  # [n] int32
    names: dict[int, str]  # of the classes that have one
    color_of: dict[int, tuple[int, int, int]]  # of each class: the first that the table gives it

    def lists_greys(self, image: Image.Image) -> bool:
        """Whether all greys of an image of mode L or 1 are colours of the table."""
        greys = {grey for _, grey in image.convert("L").getcolors()}
        return greys <= {color & 255 for color in self.colors.tolist() if color % 0x010101 == 0}

    def to_ids(self, pixels: np.ndarray, image_path: str) -> np.ndarray:
        """Class ids [H, W] int32 of colours [H, W, 3] uint8. :raises UserError: one that the table does not list."""
        red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
        wanted = red << 16 | green << 8 | blue
        place = np.searchsorted(self.colors, wanted).clip(max=len(self.colors) - 1)
        unknown = wanted[self.colors[place] != wanted]
        if unknown.size:
            colors = [f"{color >> 16} {color >> 8 & 255} {color & 255}" for color in np.unique(unknown).tolist()]
            more = f" and {len(colors) - 1} more" if len(colors) > 1 else ""
            raise UserError(f"{image_path}: has the colour {colors[0]}{more} ({unknown.size} pixels in all), which "
                            f"{self.path} does not list; add a line `{colors[0]} ID` there, or fix the image")
        return self.ids[place]


def read_label_colors(path: str, option: str = "--label_colors") -> LabelColors:
    """Read a text table with a line ``r g b id [name]`` for every colour. What follows a ``#`` is a comment.
    Several colours may have one id. 255 means "don't care", as it does in label maps.

    :raises UserError: the file cannot be read, a line is not of that form, or a colour has two ids.
    """
    id_of: dict[int, int] = {}
    names: dict[int, str] = {}
    color_of: dict[int, tuple[int, int, int]] = {}
    for place, line, words in table_rows(path, option, "give a text file of lines `r g b id name`", 5):
        numbers = [int(word) for word in words[:4] if re.fullmatch("[0-9]{1,5}", word)]
        if len(numbers) < 4 or max(numbers[:3]) > 255 or numbers[3] > _HIGHEST_ID:
            raise UserError(f"{place}: `{line}` is not `r g b id [name]`, with colours 0..255 and an id "
                            f"0..{_HIGHEST_ID}; fix the line")
        red, green, blue, class_id = numbers
        color = red << 16 | green << 8 | blue
        if id_of.setdefault(color, class_id) != class_id:
            raise UserError(f"{place}: the colour {red} {green} {blue} has the id {id_of[color]} already; remove one "
                            "of the lines")
        color_of.setdefault(class_id, (red, green, blue))
        if len(words) == 5:
            names[class_id] = words[4]
    if not id_of:
        raise UserError(f"{option} {path}: has no colours; write lines `r g b id name`")
    colors = np.array(sorted(id_of), np.int32)
    return LabelColors(path, colors, np.array([id_of[color] for color in colors.tolist()], np.int32), names,
                       color_of)
