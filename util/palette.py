"""Colours in which label maps are shown."""
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

_XYZ = np.array([(0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
                 (0.0193339, 0.1191920, 0.9503041)])  # of linear sRGB


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


def cielab(colors: np.ndarray) -> np.ndarray:
    """[..., 3] CIELAB (D65) of sRGB colours [..., 3] 0..255: their distances are about as large as they look."""
    linear = np.asarray(colors) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ.T / _XYZ.sum(1)
    x, y, z = np.moveaxis(np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def soft_palette(names: Sequence[str], first: Sequence[str] = ()) -> np.ndarray:
    """[len(names), 3] uint8 for people, neither dark nor glaring: light grey for class 0, a colour of skin for the next
    one in turn, and then each time what looks farthest from all before.

    :param first: names whose turn comes first, and whose colours so differ most.
    """
    steps = np.arange(0, 256, 6)
    found = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab, lightest = cielab(found), found.max(1)
    is_soft = (lightest >= 180) & (found.min(1) >= 0.4 * lightest) & (lab[:, 0] >= 56) & (np.hypot(*lab.T[1:]) <= 54)
    found, lab = found[is_soft], lab[is_soft]
    colors = np.full((len(names), 3), (214, 219, 227), np.uint8)
    distance = np.full(len(found), np.inf)
    turns = sorted(range(1, len(names)), key=lambda k: first.index(names[k]) if names[k] in first else len(first) + k)
    color = np.array((240, 190, 160))
    for k in turns:
        colors[k] = color
        for taken in (color, colors[0], (255, 255, 255)):
            distance = np.minimum(distance, np.linalg.norm(lab - cielab(taken), axis=1))
        color = found[distance.round(6).argmax()]  # rounded, so that it is the same one on every machine
    return colors


def class_table(names: Sequence[str], first: Sequence[str] = ()) -> str:
    """The text of a ``classes.txt``: lines ``r g b id name`` with soft colours, see :func:`soft_palette`."""
    colors = soft_palette(names, first).tolist()
    return "".join(f"{red} {green} {blue} {k} {names[k]}\n" for k, (red, green, blue) in enumerate(colors))
