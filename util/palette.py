"""Colours in which label maps are shown."""
import colorsys
from collections.abc import Sequence

import numpy as np

# the colours of the Cityscapes labels 0..34
CITYSCAPES = np.array([
    (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (111, 74, 0), (81, 0, 81), (128, 64, 128), (244, 35, 232),
    (250, 170, 160), (230, 150, 140), (70, 70, 70), (102, 102, 156), (190, 153, 153), (180, 165, 180), (150, 100, 100),
    (150, 120, 90), (153, 153, 153), (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 90), (0, 0, 110),
    (0, 80, 100), (0, 0, 230), (119, 11, 32), (0, 0, 142),
], dtype=np.uint8)


def label_palette(num_classes: int) -> np.ndarray:
    """[num_classes, 3] uint8: Cityscapes' own for its 35 classes; else ids whose bits are spread over the channels."""
    if num_classes == len(CITYSCAPES):
        return CITYSCAPES
    ids = np.arange(num_classes)
    colors = np.zeros((num_classes, 3), dtype=np.uint8)
    for bit in range(8):  # bits 0, 1, 2 of an id are the highest of red, green, blue; 3, 4, 5 the next; ...
        for channel in range(3):
            colors[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def soft_palette(num_classes: int) -> np.ndarray:
    """[num_classes, 3] uint8 for people: light grey for class 0, then hues far from each other, none dark."""
    golden, looks = 0.618034, ((0.5, 0.88), (0.36, 0.95), (0.6, 0.74))
    colors = [colorsys.hsv_to_rgb(k * golden % 1, *looks[k % 3]) for k in range(1, num_classes)]
    return np.round(255 * np.array([(0.84, 0.86, 0.89), *colors])).astype(np.uint8)


def class_table(names: Sequence[str]) -> str:
    """The text of a ``classes.txt``: lines ``r g b id name`` with soft colours."""
    colors = soft_palette(len(names)).tolist()
    return "".join(f"{red} {green} {blue} {k} {names[k]}\n" for k, (red, green, blue) in enumerate(colors))
