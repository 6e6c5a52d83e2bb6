"""Draw the built-in example world: outdoor scenes with label maps, instance maps and the true style of every instance.

    python datasets/make_scenes.py --out datasets/scenes --num 1000 --size 64 --seed 0

Writes, under --out (NAME is scene_00000, scene_00001, ...):

==========================  =========================================================================
``{train,val}_img/``        NAME.png: the picture, RGB
``{train,val}_label/``      NAME.png: class ids, 8 bits
``{train,val}_inst/``       NAME.png: instance ids 0..n-1, 8 bits; every instance belongs to one class
``styles_{train,val}.csv``  a line per instance: its class, the style it was drawn with, its size
``classes.txt``             a line per class: the colour that stands for it, id, name; fits --label_colors
==========================  =========================================================================

Every instance, thing or stuff, takes its looks from the distribution of its class in :data:`CLASSES`, independently of
all others. Geometry is in units of the picture's side: a larger --size shows the same scenes in more detail. A scene
depends on --seed, its split and its number alone, not on --num or --workers. Scenes of an earlier world in the same
folder are replaced; those beyond --num and --num_val are removed.
"""
import argparse
import csv
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from util.arguments import ArgumentParser
from util.errors import UserError, command
from util.files import atomic_path, write_atomically

Array = np.ndarray
Rng = np.random.Generator
Color = tuple[int, int, int]
SAMPLES = 3  # per pixel and axis; odd, so that one of them lies in the pixel's centre and says what the pixel is
MIN_AREA = 6 / 64**2  # of the picture; instances of which less is seen are left out
HAZE = (0.74, 0.79, 0.85)
SPLITS = ("train", "val")

# --- the painters' tools. Arrays broadcast to [h, w], pictures are [h, w, 3] in 0..1 ---------------------------------


def smooth(low: float, high: float, value: Array) -> Array:
    """0 up to ``low``, 1 from ``high`` on, an S in between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def between(low: float | Array, value: Array, high: float | Array) -> Array:
    return (low < value) & (value < high)


def fill(color: Array, shade: Array) -> Array:
    return color * shade[..., None]


def over(picture: Array, where: Array, color: Array | tuple[float, ...]) -> None:
    """Blend ``color`` into ``picture`` with the weights ``where`` (bool or 0..1)."""
    picture += np.asarray(where, np.float32)[..., None] * (np.asarray(color, np.float32) - picture)


@cache
def _noise_tile() -> Array:
    """Four octaves of value noise, [2048, 2048] and periodic; the coarsest has 16 x 16 cells. Mean 0, deviation 0.5."""
    rng, tile = np.random.default_rng(2021), np.zeros((2048, 2048), np.float32)
    for octave in range(4):
        cells = 16 * 2**octave
        values = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        at = np.arange(2048, dtype=np.float32) * cells / 2048
        low, t = at.astype(int), smooth(0, 1, at % 1)
        high = (low + 1) % cells
        values = values[low] + (values[high] - values[low]) * t[:, None]
        tile += 0.62**octave * (values[:, low] + (values[:, high] - values[:, low]) * t)
    return (tile - tile.mean()) / (2 * tile.std())


def noise(u: Array, v: Array, rng: Rng) -> Array:
    """Noise in about -1..1 over the plane of ``u`` and ``v``; features of size 1, and of 1/2, 1/4 and 1/8 upon them."""
    du, dv = rng.integers(0, 2048, 2)
    return _noise_tile()[((v * 128).astype(int) + dv) & 2047, ((u * 128).astype(int) + du) & 2047]


def curve(x: Array, knots: Array) -> Array:
    """A smooth curve through ``knots``, evenly spaced in 0..1, with small bumps."""
    at = np.clip(x, 0, 1) * np.float32(len(knots) - 1)
    cell = np.minimum(at.astype(int), len(knots) - 2)
    bumps = 0.006 * np.sin(x * 41 + knots[0] * 99) + 0.004 * np.sin(x * 77 + knots[1] * 99)
    return knots[cell] + (knots[cell + 1] - knots[cell]) * smooth(0, 1, at - cell) + bumps


# --- stuff: from x [1, w] and y [h, 1] in 0..1, y down, to a mask and a picture --------------------------------------


def sky(x, y, style, rng, *, horizon):
    clouds = smooth(0.05, 1.0, noise(x * 3, y * 7, rng))
    t = np.clip(y / horizon, 0, 1) ** 1.3 + 0 * clouds
    picture = style.base + fill(style.accent - style.base, t)
    over(picture, clouds * (0.75 - 0.4 * t), 0.35 * style.accent + 0.62)
    return np.ones(t.shape, bool), picture


def hill(x, y, style, rng, *, ridge, far):
    below = y - curve(x, ridge)
    folds = noise(x * 9 + below * 6, below * 9, rng)
    picture = fill(style.base, 1 + 0.28 * folds - 0.4 * below)
    cap = smooth(0, 1, (0.075 - below) / 0.05 + 0.8 * folds)
    over(picture, cap * (0.85 if style.mode == "rock" else 0.4), fill(style.accent, 0.95 + 0.05 * folds))
    over(picture, 0.45 * far + 0 * folds, HAZE)
    return below > 0, picture


def meadow(x, y, style, rng, *, horizon, edge, side=None):
    depth = np.clip((y - horizon + 0.02) / (1 - horizon), 0.03, None)
    tufts = noise(x / depth**0.6 * 16, depth**0.5 * 40, rng)
    patches = noise(x * 4, depth**0.5 * 8, rng)
    picture = fill(style.base, 0.88 + 0.16 * tufts + 0.1 * patches + 0.12 * depth)
    rows = smooth(0.35, 0.9, 0.5 + 0.5 * np.sin((x - 0.5) / depth * 22)) * smooth(0.02, 0.3, depth)
    weight = np.clip(0.35 + 0.35 * patches, 0, 1) if style.mode == "grass" else 0.75 * rows
    over(picture, weight, fill(style.accent, 1 + 0.16 * tufts))
    over(picture, 0.35 * smooth(0.3, 0, depth) + 0 * x, HAZE)
    return (y > curve(x, edge)) & (True if side is None else side(x, y) > 0), picture


def water(x, y, style, rng, *, lake):
    shore, t = lake.depth(x, y), (y - lake.y) / lake.ry
    ripples = noise(x * 7, y * 75, rng)
    picture = style.accent + fill(style.base - style.accent, np.clip(0.65 + 0.45 * t + 0.15 * ripples, 0, 1))
    over(picture, 0.6 * smooth(0.25, 0, shore), style.base * 0.6)
    over(picture, 0.7 * smooth(0.9, 1.4, ripples), (1, 1, 1))
    return shore > 0, picture


def road(x, y, style, rng, *, way):
    across, along = way.across(x, y), way.along(x, y)
    picture = fill(style.base, 1 + 0.1 * noise(x * 60, y * 60, rng) + 0.06 * np.cos(across * 6))
    lines = ((abs(across) < 0.05) & (along % 1 < 0.55)) | between(0.86, abs(across), 0.94)
    over(picture, lines * (0.25 if style.mode == "earth" else 0.85), style.accent)
    return abs(across) < 1, picture


# --- things: from u [1, w] in -1..1 across and v [h, 1] in 0..1 upwards; a = width / height --------------------------


def house(u, v, style, rng, *, a):
    gable, storeys, columns = rng.random() < 0.5, 1 + (a < 1.25), 2 + (a > 1.05)
    eaves = 0.5 if gable else 0.58
    t = (v - eaves) / (0.93 - eaves)
    roof = between(0, t, 1) & (abs(u) < 1.02 - (0.95 if gable else 0.3) * t)
    wall = (v <= eaves) & (abs(u) < 0.86)
    chimney = between(0.36, u, 0.56) & between(eaves, v, 0.99)
    picture = fill(style.base, 1.02 - 0.35 * smooth(eaves - 0.1, eaves, v) + 0.07 * noise(u * 9, v * 18, rng))
    column = (u / 0.86 + 1) / 2 * columns
    cell, row = abs(column % 1 - 0.5), abs((v / eaves * storeys) % 1 - 0.52)
    over(picture, (cell < 0.31) & (row < 0.31), (0.93, 0.92, 0.88))
    over(picture, (cell < 0.22) & (row < 0.23), (0.16, 0.2, 0.27))
    over(picture, (cell < 0.24) & (v < eaves / storeys * 0.8) & between(1, column, 2), style.accent * 0.55)
    tiles = 0.9 + 0.15 * t + 0.08 * np.sin(v * 90) + 0.08 * noise(u * 12, v * 20, rng)
    over(picture, roof, fill(style.accent, tiles))
    over(picture, chimney & ~roof, style.base * 0.62)
    return wall | roof | chimney, picture


def balls(x, y, rng, count, width, low, high):
    """``count`` balls that fill a crown of ``width`` between ``low`` and ``high``: their mask, and light from above."""
    tall, angle = (high - low) / 2, np.arange(count) * 2.4 + rng.uniform(0, 6)
    reach = np.sqrt(np.arange(count) / count) * rng.uniform(0.5, 0.68)
    radii = (min(width / 2, tall) * rng.uniform(0.42, 0.6, count)).tolist()
    nearest, light = np.float32(0), np.float32(0)
    for cx, cy, radius in zip(width / 2 * reach * np.cos(angle), low + tall * (1 + reach * np.sin(angle)), radii,
                              strict=True):
        height = radius**2 - (x - float(cx)) ** 2 - (y - float(cy)) ** 2
        light = np.where(height > nearest, (y - float(cy)) / radius, light)
        nearest = np.maximum(nearest, height)
    return nearest > 0, light


def tree(u, v, style, rng, *, a):
    x = u * (a / 2)
    crown, light = balls(x, v, rng, 12, a, 0.24, 1.0)
    picture = fill(style.base, 0.67 + 0.26 * light + 0.24 * noise(x * 16, v * 16, rng) + 0.28 * v - 0.08 * u)
    trunk = (abs(x) < 0.045 + 0.04 * smooth(0.12, 0, v)) & (v < 0.45)
    over(picture, trunk & ~crown, fill(style.accent, 0.95 - 5 * x))
    return crown | trunk, picture


def pine(u, v, style, rng, *, a):
    t = (v - 0.1) / 0.9
    tier, needles = (t * 4.5) % 1, noise(u * 8, v * 22, rng)
    branches = (t > 0) & (abs(u) < 0.03 + (1 - t) * (1.08 - 0.36 * tier) + 0.05 * needles)
    trunk = (abs(u) < 0.13) & (v < 0.14)
    picture = fill(style.base, 1.05 - 0.4 * tier - 0.12 * u + 0.2 * needles)
    over(picture, 0.65 * smooth(0.5, 0.1, tier + 0.25 * needles), style.accent)
    over(picture, trunk & (t < 0), (0.3, 0.22, 0.17))
    return branches | trunk, picture


def bush(u, v, style, rng, *, a):
    x = u * (a / 2)
    crown, light = balls(x, v, rng, 9, a, -0.5, 1.0)
    picture = fill(style.accent, 0.7 + 0.25 * light + 0.2 * noise(x * 8, v * 8, rng) + 0.3 * v)
    blossoms = smooth(-0.5, 0.1, noise(x * 7, v * 7, rng) + 0.5 * (v - 0.4))
    over(picture, blossoms, fill(style.base, 0.9 + 0.22 * light))
    return crown & (v > 0), picture


def car(u, v, style, rng, *, a):
    """Seen from its side if it is long, from behind if not."""
    view = _car_side if a > 1.7 else _car_rear
    shade = 0.75 + 0.3 * v + 0.33 * smooth(0.5, 0.58, v) * smooth(0.66, 0.58, v) + 0.25 * smooth(0.9, 1, v)
    return view(u, v, style, rng, a, fill(style.base, shade - 0.2 * smooth(0.34, 0.18, v) + 0.04 * noise(u, v, rng)))


def _car_side(u, v, style, rng, a, picture):
    back, front, slope = ((-0.8, 0.42, 0.3), (-0.96, 0.46, 0.2), (-0.98, 0.68, 0.12))[rng.integers(3)]
    t = (v - 0.56) / 0.44
    body = between(0.15, v, 0.6 - 0.07 * u**2) & (abs(u) < 1 - 0.1 * abs((v - 0.36) / 0.22) ** 3)
    left, right = back + slope * 0.6 * t, front - (slope + 0.12) * t
    cabin = between(0, t, 1) & between(left, u, right)
    pillar = abs(u - (left + right) / 2) < 0.035
    panes = between(0.08, t, 0.78) & between(left + 0.07, u, right - 0.07) & ~pillar
    over(picture, panes, style.accent + 0.22 * smooth(0.3, 0.8, t + 0.4 * u)[..., None])
    over(picture, body & (u > 0.9) & between(0.4, v, 0.52), (1, 0.95, 0.75))
    over(picture, body & (u < -0.92) & between(0.4, v, 0.54), (0.75, 0.08, 0.08))
    wheel = np.hypot((abs(u) - 0.6) * (a / 2), v - 0.19)
    over(picture, wheel < 0.19, (0.09, 0.09, 0.1))
    over(picture, wheel < 0.095, (0.62, 0.63, 0.66))
    return body | cabin | (wheel < 0.19), picture


def _car_rear(u, v, style, rng, a, picture):
    t = (v - 0.55) / 0.45
    body = between(0.1, v, 0.62) & (abs(u) < 1 - 0.16 * abs((v - 0.34) / 0.28) ** 3)
    cabin = between(0, t, 1) & (abs(u) < 0.86 - 0.2 * t - 0.1 * t**6)
    tyres = between(0.56, abs(u), 0.9) & (v < 0.2)
    pane = between(0.12, t, 0.8) & (abs(u) < 0.72 - 0.2 * t)
    over(picture, pane, style.accent + 0.2 * smooth(0.2, 0.9, t - 0.3 * u)[..., None])
    over(picture, body & (v < 0.25), (0.15, 0.15, 0.16))
    over(picture, between(0.68, abs(u), 0.95) & between(0.38, v, 0.54), (0.85, 0.08, 0.07))
    over(picture, (abs(u) < 0.22) & between(0.28, v, 0.38), (0.92, 0.9, 0.8))
    over(picture, tyres & ~body, (0.08, 0.08, 0.09))
    return body | cabin | tyres, picture


def balloon(u, v, style, rng, *, a):
    x, radius = u * (a / 2), a / 2
    centre = 1 - radius
    bulb = np.sqrt(np.maximum(radius**2 - (v - centre) ** 2, 0))
    cone = 0.07 + (radius - 0.07) * np.sin(np.clip((v - 0.18) / (centre - 0.18), 0, 1) * (np.pi / 2))
    half = np.where(v > centre, bulb, cone)
    envelope = (abs(x) < half) & (v > 0.18)
    ropes, basket = (abs(x) < 0.06) & between(0.12, v, 0.19), (abs(x) < 0.065) & (v < 0.13)
    around = np.arcsin(np.clip(x / np.maximum(half, 1e-3), -1, 1)) / np.pi  # -1/2..1/2 along the visible half
    picture = fill(style.base, 1 + 0 * around)
    over(picture, (around * 4 + 0.3) % 1 > 0.62, style.accent)
    picture *= (0.9 - 0.3 * u**2 - 0.12 * u + 0.2 * v)[..., None]
    over(picture, ropes & ~envelope, (0.35, 0.3, 0.28))
    over(picture, basket, (0.42, 0.27, 0.15))
    return envelope | ropes | basket, picture


# --- classes and their styles ----------------------------------------------------------------------------------------


class Mode(NamedTuple):
    """One way an instance of a class can look: a name, its base colour, and accent colours of which it gets one."""

    name: str
    base: Color
    accents: tuple[Color, ...]


class Class(NamedTuple):
    """A class: name, the colour that stands for it, how it is painted and the modes of its distribution.

    :ivar ramp: all mixtures of neighbouring modes are in the distribution as well.
    """

    name: str
    color: Color
    paint: Callable[..., tuple[Array, Array]]
    modes: tuple[Mode, ...]
    ramp: bool = False


ROOFS = ((168, 74, 50), (92, 98, 112), (104, 66, 48))
BARK = ((92, 68, 50), (118, 104, 90))
LEAVES = ((58, 98, 40), (84, 118, 44))
LINES = ((236, 232, 220), (238, 196, 70))
GLASS = ((38, 50, 66),)

CLASSES = (
    Class("sky", (70, 130, 200), sky, (
        Mode("noon", (44, 112, 208), ((176, 212, 240), (206, 224, 236))),
        Mode("sunset", (112, 96, 168), ((255, 176, 96), (255, 140, 110))),
        Mode("dawn", (142, 168, 220), ((255, 206, 200),)),
        Mode("overcast", (150, 160, 172), ((208, 212, 214),)))),
    Class("hill", (110, 90, 130), hill, (
        Mode("forest", (54, 88, 58), ((84, 112, 66),)), Mode("rock", (104, 112, 130), ((240, 244, 250),)),
        Mode("heather", (122, 84, 132), ((160, 120, 150),)), Mode("ochre", (172, 112, 66), ((214, 160, 104),)))),
    Class("meadow", (120, 200, 80), meadow, (
        Mode("grass", (88, 142, 52), ((122, 172, 66), (70, 122, 48))), Mode("wheat", (214, 176, 84), ((188, 146, 66),)),
        Mode("lavender", (136, 104, 178), ((96, 122, 82),)), Mode("rapeseed", (226, 206, 46), ((150, 168, 50),)))),
    Class("water", (40, 90, 230), water, (
        Mode("deep", (32, 78, 140), ((130, 176, 214),)), Mode("turquoise", (40, 156, 164), ((150, 222, 216),)),
        Mode("green", (62, 98, 78), ((140, 168, 140),)))),
    Class("road", (110, 110, 110), road, (
        Mode("asphalt", (78, 80, 86), LINES), Mode("concrete", (164, 160, 152), LINES),
        Mode("earth", (158, 116, 80), ((184, 146, 106),)))),
    Class("house", (200, 80, 40), house, (
        Mode("brick", (170, 82, 62), ROOFS), Mode("white", (232, 230, 222), ROOFS),
        Mode("ochre", (226, 180, 96), ROOFS), Mode("blue", (112, 148, 186), ROOFS))),
    Class("tree", (30, 130, 50), tree, (
        Mode("spring", (138, 178, 62), BARK), Mode("summer", (62, 118, 48), BARK), Mode("gold", (222, 176, 44), BARK),
        Mode("orange", (222, 116, 38), BARK), Mode("crimson", (168, 46, 40), BARK)), ramp=True),
    Class("pine", (10, 80, 70), pine, (
        Mode("green", (38, 88, 56), ((62, 116, 66),)), Mode("blue", (70, 120, 128), ((120, 166, 170),)),
        Mode("snowy", (134, 160, 168), ((244, 248, 252),)))),
    Class("bush", (200, 120, 200), bush, (
        Mode("pink", (226, 92, 142), LEAVES), Mode("white", (238, 234, 226), LEAVES),
        Mode("violet", (126, 84, 190), LEAVES), Mode("yellow", (240, 206, 54), LEAVES),
        Mode("leaves", (96, 146, 58), LEAVES))),
    Class("car", (220, 20, 60), car, (
        Mode("red", (196, 30, 36), GLASS), Mode("blue", (36, 84, 176), GLASS), Mode("white", (232, 234, 236), GLASS),
        Mode("black", (42, 44, 50), GLASS), Mode("yellow", (240, 190, 30), GLASS),
        Mode("green", (34, 122, 84), GLASS))),
    Class("balloon", (255, 200, 0), balloon, (
        Mode("red", (214, 42, 46), ((248, 226, 180), (250, 196, 50))),
        Mode("blue", (38, 92, 196), ((244, 244, 240), (246, 204, 60))),
        Mode("orange", (244, 140, 32), ((120, 52, 140), (250, 236, 200))),
        Mode("green", (44, 150, 92), ((246, 240, 200), (240, 214, 60))),
        Mode("violet", (136, 62, 168), ((250, 180, 200), (250, 220, 90))))),
)
CLASS_NAMES = tuple(c.name for c in CLASSES)
CLASS_COLORS = tuple(c.color for c in CLASSES)
SKY, HILL, MEADOW, WATER, ROAD, HOUSE, TREE, PINE, BUSH, CAR, BALLOON = range(len(CLASSES))


@dataclass(frozen=True)
class Style:
    """What an instance looks like.

    :ivar mode: name of its class's mode; on a ramp, of the nearest.
    :ivar base: [3] in 0..1, RGB of most of it.
    :ivar accent: [3] in 0..1, RGB of roofs, horizons, stripes, leaves, ...
    """

    mode: str
    base: Array
    accent: Array


def draw_style(rng: Rng, class_id: int) -> Style:
    """A sample of the class's distribution: a mode, or a place on the ramp, and variation of colour and brightness."""
    modes, ramp = CLASSES[class_id].modes, CLASSES[class_id].ramp
    place = rng.uniform(0, len(modes) - 1) if ramp else rng.integers(len(modes))
    mode = modes[round(place)]
    base = [np.interp(place, range(len(modes)), channel) for channel in zip(*(m.base for m in modes), strict=True)]
    accent = mode.accents[rng.integers(len(mode.accents))]
    colors = np.array([base, accent]) / 255 * rng.normal(1, 0.08, (2, 1)) + rng.normal(0, 0.02, (2, 3))
    return Style(mode.name, *colors.clip(0.02, 0.98).astype(np.float32))


# --- where things are, in units of the picture's side, y down --------------------------------------------------------


@dataclass(frozen=True)
class CrossRoad:
    """A road from left to right. Seen from it, ``across`` is -1..1 from its far to its near edge."""

    middle: float
    tilt: float
    bend: float
    half: float

    def centre(self, x: Array) -> Array:
        return self.middle + self.tilt * (x - 0.5) + self.bend * ((x - 0.5) ** 2 - 0.08)

    def across(self, x: Array, y: Array) -> Array:
        return (y - self.centre(x)) / self.half

    def along(self, x: Array, y: Array) -> Array:
        return 6 * x

    def cars(self, rng: Rng) -> Iterator["Spot"]:
        for lane, heading in ((-0.35, -1), (0.5, 1)):
            count = rng.integers(0, 3)
            for k in range(count):
                x, width = (k + rng.uniform(0.3, 0.7)) / count, rng.uniform(0.27, 0.33) * (1 + 0.12 * lane)
                yield Spot(CAR, x, self.centre(x) + lane * self.half, width, width / rng.uniform(2.1, 2.5), heading)


@dataclass(frozen=True)
class LeadRoad:
    """A road from the picture's bottom to the horizon; ``across`` is -1..1 from its left to its right edge."""

    horizon: float
    start: float
    end: float
    sway: float

    def near(self, y: Array) -> Array:
        return np.clip((y - self.horizon) / (1 - self.horizon), 0, None)

    def centre(self, y: Array) -> Array:
        t = self.near(y)
        return self.end + (self.start - self.end) * t + 2 * self.sway * t * (1 - t)

    def half(self, y: Array) -> Array:
        return 0.008 + 0.19 * self.near(y)

    def across(self, x: Array, y: Array) -> Array:
        return (x - self.centre(y)) / self.half(y)

    def along(self, x: Array, y: Array) -> Array:
        return 2.2 * np.log(self.near(y) + 0.05)

    def cars(self, rng: Rng) -> Iterator["Spot"]:
        for _ in range(rng.integers(0, 4)):
            y = float(self.horizon + (1 - self.horizon) * rng.uniform(0.35, 0.98))
            width, lane = 0.8 * self.half(y), rng.choice([-0.48, 0.48])
            yield Spot(CAR, self.centre(y) + lane * self.half(y), y, width, width / rng.uniform(1.1, 1.3))


@dataclass(frozen=True)
class Lake:
    x: float
    y: float
    rx: float
    ry: float

    def depth(self, x: Array, y: Array) -> Array:
        """1 in the middle, 0 at the shore, negative on land."""
        return 1 - ((x - self.x) / self.rx) ** 2 - ((y - self.y) / self.ry) ** 2


class Spot(NamedTuple):
    """A place for a thing: the middle of its foot, its width and height; mirrored if it heads for -1."""

    class_id: int
    x: float
    y: float
    width: float
    height: float
    heading: int = 1


class Stand(NamedTuple):
    """How things stand in the meadows. Ranges: their number; how far down from the horizon (0) to the road (1);
    height, if they stood at the picture's bottom; width / height.
    """

    class_id: int
    count: tuple[int, int]
    down: tuple[float, float]
    height: tuple[float, float]
    aspect: tuple[float, float]


STANDS = (
    Stand(HOUSE, (1, 3), (0.2, 0.85), (0.36, 0.46), (0.95, 1.5)),
    Stand(TREE, (1, 4), (0.1, 1.0), (0.5, 0.72), (0.6, 0.95)),
    Stand(PINE, (0, 3), (0.1, 1.0), (0.5, 0.75), (0.42, 0.6)),
    Stand(BUSH, (1, 3), (0.2, 1.0), (0.15, 0.22), (1.3, 2.0)),
    Stand(BUSH, (0, 2), (1.4, 1.75), (0.15, 0.22), (1.3, 2.0)),
)


@dataclass
class Item:
    """An instance that waits to be painted.

    :ivar rng: for its shape and texture.
    :ivar paint: its class's painter, which lacks only coordinates, style and rng.
    :ivar box: left, right, top, bottom in 0..1; things can reach out of it.
    :ivar spot: None for stuff.
    :ivar haze: 0..1, how much of it the air hides.
    """

    class_id: int
    style: Style
    rng: Rng
    paint: Callable[..., tuple[Array, Array]]
    box: tuple[float, float, float, float]
    spot: Spot | None = None
    haze: float = 0.0


def lay_out(rng: Rng) -> list[Item]:
    """What is in a scene, from far to near."""
    items: list[Item] = []

    def add(class_id: int, top: float, bottom: float, **shape: object) -> None:
        paint = partial(CLASSES[class_id].paint, **shape)
        items.append(Item(class_id, draw_style(rng, class_id), rng.spawn(1)[0], paint, (0, 1, top, bottom)))

    horizon = rng.uniform(0.36, 0.48)
    add(SKY, 0, horizon + 0.1, horizon=horizon)
    hills = rng.integers(1, 4)
    for far in 1 - np.arange(1, hills + 1, dtype=np.float32) / (hills + 1):
        ridge = horizon - rng.uniform(0.02, 0.1 + 0.16 * far, 6)
        add(HILL, 0, horizon + 0.1, ridge=ridge.astype(np.float32), far=far)

    leads = rng.random() < 0.3
    way = (LeadRoad(horizon, *rng.uniform((0.2, 0.25, -0.25), (0.8, 0.75, 0.25)).tolist()) if leads else
           CrossRoad(*rng.uniform((0.78, -0.08, -0.15, 0.075), (0.88, 0.08, 0.15, 0.1)).tolist()))
    edge = (horizon + rng.uniform(-0.02, 0.02, 5)).astype(np.float32)
    add(MEADOW, horizon - 0.05, 1, horizon=horizon, edge=edge)
    add(MEADOW, horizon - 0.05 if leads else 0.6, 1, horizon=horizon, edge=edge, side=way.across)
    lake = None
    if rng.random() < 0.5:
        lake = Lake(*rng.uniform((0.1, horizon + 0.1, 0.22, 0.05), (0.9, horizon + 0.16, 0.45, 0.08)).tolist())
        add(WATER, lake.y - lake.ry, lake.y + lake.ry, lake=lake)
    add(ROAD, horizon if leads else 0.6, 1, way=way)

    spots = [*way.cars(rng), *_standing(rng, horizon, way, lake)]
    for spot in [*_flying(rng, horizon), *sorted(spots, key=lambda s: s.y)]:
        add(spot.class_id, spot.y - spot.height, spot.y, a=spot.width / spot.height)
        thing, half = items[-1], spot.width / 2
        thing.spot, thing.box = spot, (spot.x - half, spot.x + half, *thing.box[2:])
        if spot.class_id != BALLOON:
            thing.haze = 0.35 * (1 - min((spot.y - horizon) / (1 - horizon), 1)) ** 3
    return items


def _standing(rng: Rng, horizon: float, way: CrossRoad | LeadRoad, lake: Lake | None) -> Iterator[Spot]:
    """Things in the meadows, not in the water or on the road; the nearer, the larger."""
    reach = (0.97 if isinstance(way, LeadRoad) else way.middle - way.half) - horizon
    for stand in STANDS:
        for _ in range(rng.integers(stand.count[0], stand.count[1] + 1)):
            for _ in range(8):  # places tried
                x, y = rng.uniform(0.02, 0.98), horizon + reach * rng.uniform(*stand.down)
                height = rng.uniform(*stand.height) * (0.35 + 0.65 * (y - horizon) / (1 - horizon))
                width = height * rng.uniform(*stand.aspect)
                foot = x + np.array([-0.5, 0, 0.5]) * width
                dry = lake is None or (lake.depth(foot, y) < -0.4).all()
                if dry and y < 1.05 and abs(way.across(foot, y).clip(-1.1, 1.1).sum()) > 3.29:  # all on one side
                    yield Spot(stand.class_id, x, y, width, height, rng.choice([-1, 1]))
                    break


def _flying(rng: Rng, horizon: float) -> Iterator[Spot]:
    """Balloons, the smaller ones farther."""
    for height in sorted(rng.uniform(0.14, 0.34, rng.integers(0, 4))):
        y = rng.uniform(height * 0.8, max(horizon - 0.06, height))
        yield Spot(BALLOON, rng.uniform(0.08, 0.92), y, 0.72 * height, height)


# --- pictures --------------------------------------------------------------------------------------------------------

COLUMNS = ("scene", "instance", "class_id", "class", "mode", "r", "g", "b", "accent_r", "accent_g", "accent_b",
           "pixels")


@dataclass
class Scene:
    """A drawn scene.

    :ivar image: uint8 [size, size, 3], RGB.
    :ivar label: uint8 [size, size], indices of :data:`CLASSES`.
    :ivar instance: uint8 [size, size], ids 0..n-1, all of which occur.
    :ivar styles: per instance, in the order of the ids: its line of ``styles_*.csv``, :data:`COLUMNS` without "scene".
    """

    image: Array
    label: Array
    instance: Array
    styles: list[dict[str, object]]


def draw_scene(rng: Rng, size: int) -> Scene:
    """Draw a scene of ``size`` x ``size`` pixels; the state of ``rng`` decides which."""
    n = size * SAMPLES
    items = lay_out(rng)
    painted = [_paint(item, n) for item in items]
    owner, area = _visible([(window, mask) for window, mask, _ in painted], n)
    canvas = np.zeros((n, n, 3), np.float32)
    for item, (window, mask, picture), pixels in zip(items, painted, area, strict=True):
        if pixels:
            if item.spot and item.class_id != BALLOON:
                _cast_shadow(canvas, item.spot)
            canvas[window][mask] = picture[mask]
    image = canvas.reshape(size, SAMPLES, size, SAMPLES, 3).mean((1, 3))
    image += rng.normal(0, 0.012, image.shape)  # the sensor's noise
    number = np.cumsum(area > 0, dtype=np.uint8) - np.uint8(1)
    classes = np.array([item.class_id for item in items], np.uint8)
    styles = [_row(items[k], int(number[k]), int(area[k])) for k in np.flatnonzero(area)]
    return Scene((image.clip(0, 1) * 255).round().astype(np.uint8), classes[owner], number[owner], styles)


def _paint(item: Item, n: int) -> tuple[tuple[slice, slice], Array, Array]:
    """Window of the grid of ``n`` x ``n`` samples, and in it the item's mask [h, w] and picture [h, w, 3]."""
    left, right, top, bottom = item.box
    window, x, y = _grid(left, right, top, bottom, n)
    if item.spot:
        x, y = (2 * x - left - right) / (right - left) * item.spot.heading, (bottom - y) / (bottom - top)
    mask, picture = item.paint(x, y, item.style, item.rng)
    if item.spot:  # the sun is on the left
        picture *= 1.04 - 0.13 * item.spot.heading * x[..., None]
        over(picture, np.float32(item.haze), HAZE)
    return window, mask, picture


def _grid(left: float, right: float, top: float, bottom: float, n: int) -> tuple[tuple[slice, slice], Array, Array]:
    """The samples in a box: their window of the grid, x [1, w] and y [h, 1] in 0..1."""
    rows, cols = (slice(max(int(low * n), 0), max(min(int(np.ceil(high * n)), n), 0))
                  for low, high in ((top, bottom), (left, right)))
    x, y = ((np.arange(axis.start, axis.stop, dtype=np.float32) + 0.5) / n for axis in (cols, rows))
    return (rows, cols), x[None], y[:, None]


def _visible(masks: list[tuple[tuple[slice, slice], Array]], n: int) -> tuple[Array, Array]:
    """Which mask is seen in each pixel [size, size], and in how many pixels each is seen: 0, or at least MIN_AREA."""
    centres, shown = slice(SAMPLES // 2, None, SAMPLES), np.ones(len(masks), bool)
    while True:
        samples = np.zeros((n, n), np.uint8)
        for k in np.flatnonzero(shown):
            window, mask = masks[k]
            samples[window][mask] = k
        owner = samples[centres, centres]
        area = np.bincount(owner.ravel(), minlength=len(masks))
        if (area[shown] >= MIN_AREA * owner.size).all():
            return owner, area
        shown &= area >= MIN_AREA * owner.size


def _cast_shadow(canvas: Array, spot: Spot) -> None:
    """Darken the ground around the foot of a thing, more so to the right of it."""
    x0, wide, flat = spot.x + 0.12 * spot.width, 0.64 * spot.width, 0.12 * spot.width + 0.008
    window, x, y = _grid(x0 - wide, x0 + wide, spot.y - flat, spot.y + flat, len(canvas))
    canvas[window] *= 1 - 0.55 * smooth(1, 0.3, np.hypot((x - x0) / wide, (y - spot.y) / flat))[..., None]


def _row(item: Item, number: int, pixels: int) -> dict[str, object]:
    colors = np.concatenate([item.style.base, item.style.accent])
    values = (number, item.class_id, CLASS_NAMES[item.class_id], item.style.mode,
              *(colors * 255).round().astype(int).tolist(), pixels)
    return dict(zip(COLUMNS[1:], values, strict=True))


# --- files -----------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    out: str
    split: str
    index: int
    size: int
    seed: int


def make(job: Job) -> list[dict[str, object]]:
    """Draw and write one scene; its lines of ``styles_*.csv``."""
    scene = draw_scene(np.random.default_rng([job.seed, SPLITS.index(job.split), job.index]), job.size)
    name = f"scene_{job.index:05d}"
    for kind, array in (("img", scene.image), ("label", scene.label), ("inst", scene.instance)):
        with atomic_path(os.path.join(job.out, f"{job.split}_{kind}", f"{name}.png")) as temporary:
            Image.fromarray(array).save(temporary, "PNG")
    return [{"scene": name, **row} for row in scene.styles]


def make_split(out: str, split: str, count: int, size: int, seed: int, workers: int) -> None:
    """Draw and write the scenes of a split and its ``styles_*.csv``."""
    jobs = [Job(out, split, index, size, seed) for index in range(count)]
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    with (ProcessPoolExecutor(min(workers, count), initializer=_leave_interrupts_to_the_parent) as pool,
          tqdm(pool.map(make, jobs, chunksize=4), total=count, desc=split, unit="scene") as bar):
        for rows in bar:
            writer.writerows(rows)
    write_atomically(os.path.join(out, f"styles_{split}.csv"), table.getvalue())
    for kind in ("img", "label", "inst"):
        folder = os.path.join(out, f"{split}_{kind}")
        for name in os.listdir(folder):
            if (old := re.fullmatch(r"scene_(\d{5,})\.png", name)) and int(old[1]) >= count:
                os.remove(os.path.join(folder, name))


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it cancels what is not begun, and reports


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description="Draw the built-in example world: pictures, label maps, instance maps, styles.",
                            formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--num", type=int, default=1000, help="training scenes")
    parser.add_argument("--num_val", type=int, help="validation scenes; if not given, a tenth of --num, at least 16")
    parser.add_argument("--size", type=int, default=64, help="pixels: sides of the scenes; a multiple of 16, 64 to 512")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other scenes")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    args = parser.parse_args()
    if args.num_val is None:
        args.num_val = max(16, args.num // 10)
    if not 64 <= args.size <= 512 or args.size % 16:
        raise UserError(f"--size {args.size}: choose a multiple of 16 from 64 to 512")
    for option, lowest in (("num", 1), ("num_val", 1), ("workers", 1), ("seed", 0)):
        if getattr(args, option) < lowest:
            raise UserError(f"--{option} {getattr(args, option)}: choose {lowest} or more")
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise UserError(f"--out {args.out}: is a file; choose a folder")
    return args


@command
def main() -> None:
    args = parse()
    for split, count in zip(SPLITS, (args.num, args.num_val), strict=True):
        make_split(args.out, split, count, args.size, args.seed, args.workers)
    lines = (" ".join(map(str, (*c.color, k, c.name))) for k, c in enumerate(CLASSES))
    write_atomically(os.path.join(args.out, "classes.txt"), "\n".join(lines) + "\n")
    print(f"{args.num} + {args.num_val} scenes of {len(CLASSES)} classes drawn in {args.out}")


if __name__ == "__main__":
    main()
