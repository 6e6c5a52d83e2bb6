"""Layouts that are drawn by hand, of shapes of a few lines each: for the examples of the models that ship."""
import os
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from data.derived_files import write_ids
from util.arguments import ArgumentParser
from util.files import exclusive, write_atomically
from util.palette import class_table

Point = tuple[float, float]


class Canvas:
    """A label map to draw on. Points are (x, y) in heights of the picture, x from the middle to the right. What is
    drawn later lies in front.

    :param classes: their names, by id; the canvas begins with 0.
    """

    def __init__(self, width: int, height: int, classes: Sequence[str]):
        self.image, self.classes = Image.new("L", (width, height), 0), classes
        self.draw = ImageDraw.Draw(self.image)
        self._height, self._middle = height, width / height / 2

    @property
    def label(self) -> np.ndarray:
        """The class ids [H, W], uint8."""
        return np.array(self.image)

    # ---- shapes ----

    def limb(self, kind: str, *joints: tuple[float, float, float], end: float = 1.0) -> None:
        """A tube through joints (x, y, radius), up to the part ``end`` of them."""
        steps = np.linspace(0, end * (len(joints) - 1), 40 * len(joints))
        x, y, radius = (np.interp(steps, range(len(joints)), values) for values in zip(*joints, strict=True))
        for disc in zip(x, y, radius, strict=True):
            self.disc(kind, *disc)

    def disc(self, kind: str, x: float, y: float, radius: float, height: float | None = None) -> None:
        height = radius if height is None else height
        box = (x - radius, y - height, x + radius, y + height)
        self.draw.ellipse([self._height * (side + self._middle * (i % 2 == 0)) for i, side in enumerate(box)],
                          self.classes.index(kind))

    def area(self, kind: str, *outline: Point) -> None:
        """A smooth area inside of an outline."""
        points = np.array(outline)
        for _ in range(2):  # cuts the corners
            after = np.roll(points, -1, 0)
            points = np.stack([0.8 * points + 0.2 * after, 0.2 * points + 0.8 * after], 1).reshape(-1, 2)
        self.draw.polygon([(self._height * (x + self._middle), self._height * y) for x, y in points],
                          self.classes.index(kind))

    def both_sides(self, kind: str, *right: Point) -> None:
        """An area whose left half mirrors the right one, from top to bottom."""
        self.area(kind, *right, *((-x, y) for x, y in reversed(right)))


def draw_examples(description: str, drawings: Sequence[Callable[[], Canvas]], classes: Sequence[str],
                  first: Sequence[str] = ()) -> None:
    """What the commands that draw do: ``val_label/NAME.png`` of every drawing, and ``classes.txt``, in ``--out``.

    :param first: of the classes, those whose colours are to differ most.
    """
    parser = ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder to write")
    out = parser.parse_args().out
    with exclusive(out):
        for drawing in drawings:
            write_ids(drawing().label, os.path.join(out, "val_label", f"{drawing.__name__}.png"), "")
        write_atomically(os.path.join(out, "classes.txt"), class_table(classes, first))
    print(f"{len(drawings)} layouts drawn in {out}")
