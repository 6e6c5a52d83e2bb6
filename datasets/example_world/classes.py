"""What a scene is made of: the classes, and the distribution from which each instance draws its style."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from datasets.example_world import painters
from datasets.example_world.palette import Array, Rng

Color = tuple[int, int, int]


class Mode(NamedTuple):
    """One way an instance of a class can look: a name, its base colour, and accent colours of which it gets one."""

    name: str
    base: Color
    accents: tuple[Color, ...]


class Class(NamedTuple):
    """A class: name, the colour that stands for it, how it is painted and the modes of its distribution."""

    name: str
    color: Color
    paint: Callable[..., tuple[Array, Array]]
    modes: tuple[Mode, ...]
    ramp: bool = False  # all mixtures of neighbouring modes are in the distribution as well


ROOFS = ((168, 74, 50), (92, 98, 112), (104, 66, 48))
BARK = ((92, 68, 50), (118, 104, 90))
LEAVES = ((58, 98, 40), (84, 118, 44))
LINES = ((236, 232, 220), (238, 196, 70))
GLASS = ((38, 50, 66),)

CLASSES = (
    Class("sky", (70, 130, 200), painters.sky, (
        Mode("noon", (44, 112, 208), ((176, 212, 240), (206, 224, 236))),
        Mode("sunset", (112, 96, 168), ((255, 176, 96), (255, 140, 110))),
        Mode("dawn", (142, 168, 220), ((255, 206, 200),)),
        Mode("overcast", (150, 160, 172), ((208, 212, 214),)))),
    Class("hill", (110, 90, 130), painters.hill, (
        Mode("forest", (54, 88, 58), ((84, 112, 66),)), Mode("rock", (104, 112, 130), ((240, 244, 250),)),
        Mode("heather", (122, 84, 132), ((160, 120, 150),)), Mode("ochre", (172, 112, 66), ((214, 160, 104),)))),
    Class("meadow", (120, 200, 80), painters.meadow, (
        Mode("grass", (88, 142, 52), ((122, 172, 66), (70, 122, 48))), Mode("wheat", (214, 176, 84), ((188, 146, 66),)),
        Mode("lavender", (136, 104, 178), ((96, 122, 82),)), Mode("rapeseed", (226, 206, 46), ((150, 168, 50),)))),
    Class("water", (40, 90, 230), painters.water, (
        Mode("deep", (32, 78, 140), ((130, 176, 214),)), Mode("turquoise", (40, 156, 164), ((150, 222, 216),)),
        Mode("green", (62, 98, 78), ((140, 168, 140),)))),
    Class("road", (110, 110, 110), painters.road, (
        Mode("asphalt", (78, 80, 86), LINES), Mode("concrete", (164, 160, 152), LINES),
        Mode("earth", (158, 116, 80), ((184, 146, 106),)))),
    Class("house", (200, 80, 40), painters.house, (
        Mode("brick", (170, 82, 62), ROOFS), Mode("white", (232, 230, 222), ROOFS),
        Mode("ochre", (226, 180, 96), ROOFS), Mode("blue", (112, 148, 186), ROOFS))),
    Class("tree", (30, 130, 50), painters.tree, (
        Mode("spring", (138, 178, 62), BARK), Mode("summer", (62, 118, 48), BARK), Mode("gold", (222, 176, 44), BARK),
        Mode("orange", (222, 116, 38), BARK), Mode("crimson", (168, 46, 40), BARK)), ramp=True),
    Class("pine", (10, 80, 70), painters.pine, (
        Mode("green", (38, 88, 56), ((62, 116, 66),)), Mode("blue", (70, 120, 128), ((120, 166, 170),)),
        Mode("snowy", (134, 160, 168), ((244, 248, 252),)))),
    Class("bush", (200, 120, 200), painters.bush, (
        Mode("pink", (226, 92, 142), LEAVES), Mode("white", (238, 234, 226), LEAVES),
        Mode("violet", (126, 84, 190), LEAVES), Mode("yellow", (240, 206, 54), LEAVES),
        Mode("leaves", (96, 146, 58), LEAVES))),
    Class("car", (220, 20, 60), painters.car, (
        Mode("red", (196, 30, 36), GLASS), Mode("blue", (36, 84, 176), GLASS), Mode("white", (232, 234, 236), GLASS),
        Mode("black", (42, 44, 50), GLASS), Mode("yellow", (240, 190, 30), GLASS),
        Mode("green", (34, 122, 84), GLASS))),
    Class("balloon", (255, 200, 0), painters.balloon, (
        Mode("red", (214, 42, 46), ((248, 226, 180), (250, 196, 50))),
        Mode("blue", (38, 92, 196), ((244, 244, 240), (246, 204, 60))),
        Mode("orange", (244, 140, 32), ((120, 52, 140), (250, 236, 200))),
        Mode("green", (44, 150, 92), ((246, 240, 200), (240, 214, 60))),
        Mode("violet", (136, 62, 168), ((250, 180, 200), (250, 220, 90))))),
)
CLASS_NAMES = tuple(c.name for c in CLASSES)
SKY, HILL, MEADOW, WATER, ROAD, HOUSE, TREE, PINE, BUSH, CAR, BALLOON = range(len(CLASSES))


@dataclass(frozen=True)
class Style:
    """What an instance looks like."""

    mode: str  # name of its class's mode; on a ramp, of the nearest
    base: Array  # [3] in 0..1, RGB of most of it
    accent: Array  # [3] in 0..1, RGB of roofs, horizons, stripes, leaves, ...


def draw_style(rng: Rng, class_id: int) -> Style:
    """A sample of the class's distribution: a mode, or a place on the ramp, and variation of colour and brightness."""
    modes, ramp = CLASSES[class_id].modes, CLASSES[class_id].ramp
    place = rng.uniform(0, len(modes) - 1) if ramp else rng.integers(len(modes))
    mode = modes[round(place)]
    base = [np.interp(place, range(len(modes)), channel) for channel in zip(*(m.base for m in modes), strict=True)]
    accent = mode.accents[rng.integers(len(mode.accents))]
    colors = np.array([base, accent]) / 255 * rng.normal(1, 0.08, (2, 1)) + rng.normal(0, 0.02, (2, 3))
    return Style(mode.name, *colors.clip(0.02, 0.98).astype(np.float32))
