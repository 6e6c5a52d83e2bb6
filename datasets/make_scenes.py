"""Draw the built-in example world: outdoor scenes with label maps, instance maps and the true style of every instance.

    python datasets/make_scenes.py --out datasets/scenes --num 1000 --size 64 --seed 0

Writes, under --out (NAME is scene_00000, scene_00001, ...):

==========================  =======================================================================================
``{train,val}_img/``        NAME.png: the picture, RGB
``{train,val}_label/``      NAME.png: class ids, 8 bits
``{train,val}_inst/``       NAME.png: instance ids 0..n-1, 8 bits; every instance belongs to one class
``styles_{train,val}.csv``  a line per instance: its class, the style it was drawn with, its size
``classes.txt``             a line per class: id, colour in which to show it, name
==========================  =======================================================================================

Every instance, thing or stuff, takes its looks from the distribution of its class in :data:`CLASSES`, independently of
all others. Geometry is in units of the picture's side, so that a larger --size draws the same scenes in more detail.
A scene depends on --seed, its split and its number alone, not on --num or --workers.
"""
import argparse
import csv
import io
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates
from tqdm import tqdm

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from util.errors import UserError, command
from util.files import atomic_path, write_atomically

Array = np.ndarray
Color = tuple[int, int, int]
SAMPLES = 3  # per pixel and axis; odd, so that one of them lies in the pixel's centre and says what the pixel is
MIN_AREA = 6 / 64**2  # of the picture; instances of which less is seen are left out
LATTICE = np.random.default_rng(2021).uniform(-1, 1, (256, 256)).astype(np.float32)
SPLITS = ("train", "val")


# --- classes and their styles ---------------------------------------------------------------------------------------

class Mode(NamedTuple):
    """One way an instance of a class can look: a name, its base colour, and second colours to choose from."""

    name: str
    base: Color
    accents: tuple[Color, ...]


class Class(NamedTuple):
    """A class: name, colour in label maps, modes of its distribution; a ramp has all colours between its modes too."""

    name: str
    color: Color
    modes: tuple[Mode, ...]
    ramp: bool = False


ROOFS = ((168, 74, 50), (92, 98, 112), (104, 66, 48))
BARK = ((92, 68, 50), (118, 104, 90))
LEAVES = ((58, 98, 40), (84, 118, 44))
LINES = ((236, 232, 220), (238, 196, 70))
GLASS = ((38, 50, 66),)

CLASSES = (
    Class("sky", (70, 130, 200), (
        Mode("noon", (44, 112, 208), ((176, 212, 240), (206, 224, 236))),
        Mode("sunset", (112, 96, 168), ((255, 176, 96), (255, 140, 110))),
        Mode("dawn", (142, 168, 220), ((255, 206, 200),)),
        Mode("overcast", (150, 160, 172), ((208, 212, 214),)))),
    Class("hill", (110, 90, 130), (
        Mode("forest", (54, 88, 58), ((84, 112, 66),)),
        Mode("rock", (104, 112, 130), ((240, 244, 250),)),
        Mode("heather", (122, 84, 132), ((160, 120, 150),)),
        Mode("ochre", (172, 112, 66), ((214, 160, 104),)))),
    Class("meadow", (120, 200, 80), (
        Mode("grass", (88, 142, 52), ((122, 172, 66), (70, 122, 48))),
        Mode("wheat", (214, 176, 84), ((188, 146, 66),)),
        Mode("lavender", (136, 104, 178), ((96, 122, 82),)),
        Mode("rapeseed", (226, 206, 46), ((150, 168, 50),)))),
    Class("water", (40, 90, 230), (
        Mode("deep", (32, 78, 140), ((130, 176, 214),)),
        Mode("turquoise", (40, 156, 164), ((150, 222, 216),)),
        Mode("green", (62, 98, 78), ((140, 168, 140),)))),
    Class("road", (110, 110, 110), (
        Mode("asphalt", (78, 80, 86), LINES),
        Mode("concrete", (164, 160, 152), LINES),
        Mode("earth", (158, 116, 80), ((184, 146, 106),)))),
    Class("house", (200, 80, 40), (
        Mode("brick", (170, 82, 62), ROOFS),
        Mode("white", (232, 230, 222), ROOFS),
        Mode("ochre", (226, 180, 96), ROOFS),
        Mode("blue", (112, 148, 186), ROOFS))),
    Class("tree", (30, 130, 50), (
        Mode("spring", (138, 178, 62), BARK), Mode("summer", (62, 118, 48), BARK),
        Mode("gold", (222, 176, 44), BARK), Mode("orange", (222, 116, 38), BARK),
        Mode("crimson", (168, 46, 40), BARK)), ramp=True),
    Class("pine", (10, 80, 70), (
        Mode("green", (38, 88, 56), ((62, 116, 66),)),
        Mode("blue", (70, 120, 128), ((120, 166, 170),)),
        Mode("snowy", (186, 204, 214), ((244, 248, 252),)))),
    Class("bush", (200, 120, 200), (
        Mode("pink", (226, 92, 142), LEAVES), Mode("white", (238, 234, 226), LEAVES),
        Mode("violet", (126, 84, 190), LEAVES), Mode("yellow", (240, 206, 54), LEAVES),
        Mode("leaves", (96, 146, 58), LEAVES))),
    Class("car", (220, 20, 60), (
        Mode("red", (196, 30, 36), GLASS), Mode("blue", (36, 84, 176), GLASS),
        Mode("white", (232, 234, 236), GLASS), Mode("black", (42, 44, 50), GLASS),
        Mode("yellow", (240, 190, 30), GLASS), Mode("green", (34, 122, 84), GLASS))),
    Class("balloon", (255, 200, 0), (
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

    :ivar mode: name of the mode of its class; of the nearest one if the class is a ramp.
    :ivar base: RGB in 0..1, the colour of most of it; ``accent``: RGB in 0..1, of roofs, horizons, stripes, leaves, ...
    """

    mode: str
    base: Array
    accent: Array


def draw_style(rng: np.random.Generator, class_id: int) -> Style:
    """A sample of the class's distribution."""
    _, _, modes, ramp = CLASSES[class_id]
    place = rng.uniform(0, len(modes) - 1) if ramp else float(rng.integers(len(modes)))
    nearest = modes[round(place)]
    low, high = modes[int(place)], modes[min(int(place) + 1, len(modes) - 1)]
    base = np.array(low.base) * (1 - place % 1) + np.array(high.base) * (place % 1)
    accent = np.array(nearest.accents[rng.integers(len(nearest.accents))])

    def vary(color: Array) -> Array:
        return np.clip(color / 255 * rng.normal(1, 0.08) + rng.normal(0, 0.02, 3), 0.02, 0.98).astype(np.float32)

    return Style(nearest.name, vary(base), vary(accent))


# --- tools of the painters: all arrays are [h, w] (or broadcast to it), colours [h, w, 3] in 0..1 --------------------

def noise(u: Array, v: Array, rng: np.random.Generator, octaves: int = 3) -> Array:
    """Value noise in about -1..1; its coarsest octave changes over distances of 1 in ``u`` and ``v``."""
    u, v = np.broadcast_arrays(u, v)
    total, norm = np.zeros(u.shape, np.float32), 0.0
    for octave in range(octaves):
        gain, (du, dv) = 0.62**octave, rng.uniform(0, 256, 2)
        at = np.stack([v * 2**octave + dv, u * 2**octave + du])
        cell = np.floor(at)
        part = at - cell
        total += gain * map_coordinates(LATTICE, cell + part * part * (3 - 2 * part), order=1, mode="grid-wrap")
        norm += gain**2
    return total / np.float32(norm**0.5) * np.float32(1.3)


def smooth(low: float, high: float, value: Array) -> Array:
    """0 below ``low``, 1 above ``high``, an S in between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def fill(color: Array, shade: Array) -> Array:
    return color * shade[..., None]


def over(image: Array, where: Array, color: Array | tuple[float, ...]) -> None:
    """Blend ``color`` into ``image`` with the weights ``where`` (bool or 0..1)."""
    where = np.asarray(where, np.float32)[..., None]
    image += where * (np.asarray(color, np.float32) - image)


def between(low: float, value: Array, high: float) -> Array:
    return (low < value) & (value < high)


# --- stuff: painters of (x, y) in 0..1, y down ------------------------------------------------------------------------

def sky(x, y, style, rng, *, horizon):
    t = np.clip(y / horizon, 0, 1) ** 1.3
    image = style.base + (style.accent - style.base) * (t + 0 * x)[..., None]
    clouds = smooth(0.05, 1.0, noise(x * 3, y * 7, rng, 4)) * (0.75 - 0.4 * t)
    over(image, clouds, 0.35 * style.accent + 0.62)
    return np.ones(clouds.shape, bool), image


def hill(x, y, style, rng, *, ridge, far):
    top = ridge(x)
    below = y - top
    folds = noise(x * 9 + below * 6, below * 9, rng, 4)
    image = fill(style.base, 1 + 0.28 * folds - 0.4 * below)
    cap = smooth(0.0, 1.0, (0.075 - below) / 0.05 + 0.8 * folds)
    over(image, cap * (0.85 if style.mode == "rock" else 0.4), style.accent * (0.95 + 0.05 * folds[..., None]))
    over(image, np.full(folds.shape, far * 0.45), (0.72, 0.78, 0.86))
    return below > 0, image


def meadow(x, y, style, rng, *, edge, horizon):
    depth = np.clip((y - horizon + 0.02) / (1 - horizon), 0.03, None)
    rows = 0.5 + 0.5 * np.sin((x - 0.5) / depth * 22)
    tufts = noise(x / depth**0.6 * 16, depth**0.5 * 40, rng, 3)
    patches = noise(x * 4, depth**0.5 * 8, rng, 2)
    image = fill(style.base, 1 + 0.16 * tufts + 0.1 * patches - 0.12 * (1 - depth))
    weight = 0.35 + 0.35 * patches if style.mode == "grass" else 0.75 * smooth(0.35, 0.9, rows) * smooth(0.02, 0.3, depth)
    over(image, np.clip(weight, 0, 1), style.accent * (1 + 0.16 * tufts[..., None]))
    over(image, 0.35 * smooth(0.3, 0.0, depth) + 0 * x, (0.74, 0.79, 0.82))
    return edge(x, y), image


def water(x, y, style, rng, *, inside, top, bottom):
    t = (y - top) / (bottom - top)
    ripples = noise(x * 7, y * 75, rng, 3)
    image = style.accent + (style.base - style.accent) * np.clip(0.2 + 0.9 * t + 0.15 * ripples, 0, 1)[..., None]
    shore = inside(x, y)
    over(image, 0.6 * smooth(0.25, 0.0, shore), style.base * 0.6)
    over(image, 0.7 * smooth(0.9, 1.4, ripples), (1, 1, 1))
    return shore > 0, image


def road(x, y, style, rng, *, across, along):
    side, run = across(x, y), along(x, y)
    grain = noise(x * 60, y * 60, rng, 3)
    image = fill(style.base, 1 + 0.1 * grain + 0.06 * np.cos(side * 6))
    lines = (between(-0.05, side, 0.05) & (run % 1 < 0.55)) | between(0.86, abs(side), 0.94)
    over(image, lines * (0.25 if style.mode == "earth" else 0.85), style.accent)
    return abs(side) < 1, image


# --- things: painters of u in -1..1 across and v in 0..1 upwards; a = width / height -----------------------------------

def house(u, v, style, rng, *, a):
    gable, storeys = rng.random() < 0.5, 1 + (a < 1.25)
    eaves = 0.5 if gable else 0.58
    t = (v - eaves) / (0.93 - eaves)
    roof = between(0, t, 1) & (abs(u) < 1.02 - (0.95 if gable else 0.3) * t)
    wall = (v <= eaves) & (abs(u) < 0.86)
    stack = between(0.36, u, 0.56) & between(eaves, v, 0.99)
    columns = 3 if a > 1.05 else 2
    image = fill(style.base, 1.02 - 0.14 * u - 0.35 * smooth(eaves - 0.1, eaves, v) + 0.07 * noise(u * 9, v * 18, rng))
    column = (u / 0.86 + 1) / 2 * columns
    cell, row = column % 1 - 0.5, (v / eaves * storeys) % 1 - 0.52
    over(image, (abs(cell) < 0.31) & (abs(row) < 0.31), (0.93, 0.92, 0.88))
    over(image, (abs(cell) < 0.22) & (abs(row) < 0.23), (0.16, 0.2, 0.27))
    door = (abs(cell) < 0.24) & (v < eaves / storeys * 0.8) & between(1, column, 2)
    over(image, door, style.accent * 0.55)
    tiles = 1.05 - 0.12 * u - 0.15 * (1 - t) + 0.08 * np.sin(v * 90) + 0.08 * noise(u * 12, v * 20, rng)
    over(image, roof, fill(style.accent, tiles))
    over(image, stack & ~roof, style.base * 0.62)
    return wall | roof | stack, image


def discs(x, y, centres, radii):
    """Overlapping balls: [h, w] height over the picture's plane (0 outside), and light on them in about -1..1."""
    dx, dy = x[None] - centres[:, 0, None, None], y[None] - centres[:, 1, None, None]
    square = radii[:, None, None] ** 2 - dx**2 - dy**2
    best = square.argmax(0)[None]
    pick = partial(np.take_along_axis, indices=best, axis=0)
    light = (0.75 * pick(np.broadcast_to(dy, square.shape)) - 0.5 * pick(np.broadcast_to(dx, square.shape)))[0]
    return np.sqrt(np.maximum(pick(square)[0], 0)), light / radii[best[0]]


def crown(rng, count, width, low, high):
    """Centres [count, 2] and radii [count] of balls that fill a crown of ``width`` between ``low`` and ``high``."""
    tall = (high - low) / 2
    angle = np.arange(count) * 2.4 + rng.uniform(0, 6)
    reach = np.sqrt(np.arange(count) / count) * rng.uniform(0.5, 0.68)
    centres = np.stack([width / 2 * reach * np.cos(angle), low + tall * (1 + reach * np.sin(angle))], 1)
    return centres, min(width / 2, tall) * rng.uniform(0.42, 0.6, count)


def tree(u, v, style, rng, *, a):
    x = u * a / 2
    height, light = discs(x, v, *crown(rng, 12, a, 0.24, 1.0))
    leaves = noise(x * 16, v * 16, rng, 4)
    image = fill(style.base, 0.84 + 0.3 * light + 0.24 * leaves + 0.28 * (v - 0.6) - 0.18 * u)
    trunk = (abs(x) < 0.045 + 0.04 * smooth(0.12, 0, v)) & (v < 0.45)
    over(image, trunk & (height == 0), style.accent * (0.95 - 0.35 * u[..., None] * 8 * a / 2))
    return (height > 0) | trunk, image


def pine(u, v, style, rng, *, a):
    t = (v - 0.1) / 0.9
    tier = (t * 4.5) % 1
    needles = noise(u * 8, v * 22, rng, 3)
    half = (1 - t) * (0.72 + 0.36 * (1 - tier)) + 0.03 + 0.05 * needles
    image = fill(style.base, 1.05 - 0.35 * tier - 0.22 * u + 0.2 * needles)
    over(image, 0.6 * smooth(0.55, 0.1, tier + 0.2 * needles), style.accent)
    trunk = (abs(u) < 0.13) & (v < 0.14)
    over(image, (t < 0) & trunk, (0.3, 0.22, 0.17))
    return ((t > 0) & (abs(u) < half)) | trunk, image


def bush(u, v, style, rng, *, a):
    x = u * a / 2
    height, light = discs(x, v, *crown(rng, 9, a, -0.35, 1.0))
    leaves = noise(x * 8, v * 8, rng, 3)
    image = fill(style.accent, 0.85 + 0.3 * light + 0.2 * leaves + 0.3 * (v - 0.5))
    over(image, smooth(-0.5, 0.1, noise(x * 7, v * 7, rng, 2) + 0.5 * (v - 0.4)), fill(style.base, 0.9 + 0.25 * light))
    return (height > 0) & (v > 0), image


def car_side(u, v, style, rng, *, a):
    back, front, slope = ((-0.8, 0.42, 0.3), (-0.96, 0.46, 0.2), (-0.98, 0.68, 0.12))[rng.integers(3)]
    t = (v - 0.56) / 0.44
    body = between(0.15, v, 0.6 - 0.07 * u**2) & (abs(u) < 1 - 0.1 * abs((v - 0.36) / 0.22) ** 3)
    left, right = back + slope * 0.6 * t, front - (slope + 0.12) * t
    cabin = between(0, t, 1) & between(left, u, right)
    image = fill(style.base, 0.72 + 0.3 * v + 0.35 * smooth(0.5, 0.58, v) * smooth(0.66, 0.58, v) - 0.25 * smooth(0.34, 0.18, v)
                 + 0.3 * smooth(0.9, 1.0, v))
    middle = (left + right) / 2
    glass = between(0.08, t, 0.78) & between(left + 0.07, u, right - 0.07) & (abs(u - middle) > 0.035)
    over(image, glass, style.accent + 0.22 * smooth(0.3, 0.8, t + 0.4 * u)[..., None])
    over(image, body & (u > 0.9) & between(0.4, v, 0.52), (1, 0.95, 0.75))
    over(image, body & (u < -0.92) & between(0.4, v, 0.54), (0.75, 0.08, 0.08))
    wheel = np.minimum(np.hypot((u - 0.6) * a / 2, v - 0.19), np.hypot((u + 0.6) * a / 2, v - 0.19))
    over(image, wheel < 0.19, (0.09, 0.09, 0.1))
    over(image, wheel < 0.095, (0.62, 0.63, 0.66))
    return body | cabin | (wheel < 0.19), image


def car_rear(u, v, style, rng, *, a):
    t = (v - 0.55) / 0.45
    body = between(0.1, v, 0.62) & (abs(u) < 1 - 0.16 * abs((v - 0.34) / 0.28) ** 3)
    cabin = between(0, t, 1) & (abs(u) < 0.86 - 0.2 * t - 0.1 * t**6)
    tyres = between(0.56, abs(u), 0.9) & (v < 0.2)
    image = fill(style.base, 0.75 + 0.3 * v - 0.1 * u + 0.3 * smooth(0.5, 0.58, v) * smooth(0.66, 0.58, v) + 0.2 * smooth(0.9, 1, v))
    over(image, between(0.12, t, 0.8) & (abs(u) < 0.72 - 0.2 * t), style.accent + 0.2 * smooth(0.2, 0.9, t - 0.3 * u)[..., None])
    over(image, (v < 0.25) & body, (0.15, 0.15, 0.16))
    over(image, between(0.68, abs(u), 0.95) & between(0.38, v, 0.54), (0.85, 0.08, 0.07))
    over(image, (abs(u) < 0.22) & between(0.28, v, 0.38), (0.92, 0.9, 0.8))
    over(image, tyres & ~body, (0.08, 0.08, 0.09))
    return body | cabin | tyres, image


def balloon(u, v, style, rng, *, a):
    x, radius = u * a / 2, a / 2
    centre = 1 - radius
    t = np.clip((v - 0.18) / (centre - 0.18), 0, 1)
    half = np.where(v > centre, np.sqrt(np.maximum(radius**2 - (v - centre) ** 2, 0)), 0.07 + (radius - 0.07) * np.sin(t * 1.571))
    around = np.arcsin(np.clip(x / np.maximum(half, 1e-3), -1, 1))
    envelope = (abs(x) < half) & (v > 0.18)
    image = fill(style.base, np.ones(around.shape, np.float32))
    over(image, (around / np.pi * 4 + 0.3) % 1 > 0.62, style.accent)
    image *= (1.02 - 0.3 * (u + 0.3) ** 2 - 0.25 * u + 0.2 * (v - 0.6))[..., None]
    basket = (abs(x) < 0.065) & (v < 0.13)
    ropes = (abs(x) < 0.06) & between(0.12, v, 0.19)
    over(image, ropes & ~envelope, (0.35, 0.3, 0.28))
    over(image, basket, (0.42, 0.27, 0.15))
    return envelope | ropes | basket, image


# --- scenes ---------------------------------------------------------------------------------------------------------

Painter = Callable[[Array, Array, Style, np.random.Generator], tuple[Array, Array]]


@dataclass
class Item:
    """An instance that waits to be drawn.

    :ivar box: left, right, top, bottom in 0..1 (things can reach out of it). Things have their own coordinates in it.
    """

    class_id: int
    style: Style
    rng: np.random.Generator
    paint: Painter
    box: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)
    thing: bool = False
    mirrored: bool = False

    def draw(self, n: int) -> tuple[tuple[slice, slice], Array, Array]:
        """On a grid of ``n`` x ``n`` samples: window of the grid, mask [h, w], colour [h, w, 3]."""
        left, right, top, bottom = self.box
        rows, cols = _window(top, bottom, n), _window(left, right, n)
        x = ((np.arange(cols.start, cols.stop, dtype=np.float32) + 0.5) / n)[None]
        y = ((np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / n)[:, None]
        if self.thing:
            x, y = (2 * x - left - right) / (right - left) * (-1 if self.mirrored else 1), (bottom - y) / (bottom - top)
        mask, image = self.paint(*np.broadcast_arrays(x, y), self.style, self.rng)
        return (rows, cols), mask, image


def _window(low: float, high: float, n: int) -> slice:
    return slice(max(int(low * n), 0), max(min(int(np.ceil(high * n)), n), 0))


@dataclass
class Scene:
    """A drawn scene.

    :ivar image: uint8 [size, size, 3]; ``label``: uint8 [size, size], ids of :data:`CLASSES`;
        ``instance``: uint8 [size, size], ids 0..n-1, all of which occur.
    :ivar styles: n rows of :data:`COLUMNS` without "scene", in the order of the instance ids.
    """

    image: Array
    label: Array
    instance: Array
    styles: list[dict[str, object]] = field(default_factory=list)


COLUMNS = ("scene", "instance", "class_id", "class", "mode", "r", "g", "b", "accent_r", "accent_g", "accent_b", "pixels")


def lay_out(rng: np.random.Generator) -> list[Item]:
    """What is in a scene, from far to near."""
    items: list[Item] = []

    def add(class_id: int, paint: Callable, box: tuple = (0.0, 1.0, 0.0, 1.0), thing: bool = False, **shape) -> None:
        style, child = draw_style(rng, class_id), rng.spawn(1)[0]
        items.append(Item(class_id, style, child, partial(paint, **shape), box, thing, rng.random() < 0.5))

    horizon = rng.uniform(0.36, 0.48)
    add(SKY, sky, (0, 1, 0, horizon + 0.1), horizon=horizon)
    hills = rng.integers(1, 4)
    for k in range(hills):
        far = 1 - (k + 1) / (hills + 1)
        knots = horizon - rng.uniform(0.02, 0.1 + 0.16 * far, 6)
        ridge = partial(_curve, knots=knots)
        add(HILL, hill, (0, 1, 0, horizon + 0.1), ridge=ridge, far=far)
    kind = rng.choice(["cross", "lead", "none"], p=[0.6, 0.3, 0.1])
    far_edge = partial(_curve, knots=horizon + rng.uniform(-0.02, 0.02, 5))
    add(MEADOW, meadow, (0, 1, horizon - 0.05, 1), edge=lambda x, y: y > far_edge(x), horizon=horizon)

    middle, tilt, bend = rng.uniform(0.78, 0.88), rng.uniform(-0.08, 0.08), rng.uniform(-0.15, 0.15)
    half = rng.uniform(0.075, 0.1)
    start, sway = rng.uniform(0.2, 0.8), rng.uniform(-0.25, 0.25)
    end = 0.5 + rng.uniform(-0.25, 0.25)

    def centre(x):
        return middle + tilt * (x - 0.5) + bend * ((x - 0.5) ** 2 - 0.08)

    def nearness(y):
        return np.clip((y - horizon) / (1 - horizon), 0, 1.2)

    def lead_x(y):
        t = nearness(y)
        return end + (start - end) * t + sway * t * (1 - t) * 2

    def lead_half(y):
        return 0.008 + 0.19 * nearness(y)

    def scale(y):
        return 0.35 + 0.65 * nearness(y)

    if kind == "lead":
        add(MEADOW, meadow, (0, 1, horizon - 0.05, 1), edge=lambda x, y: (y > far_edge(x)) & (x > lead_x(y)), horizon=horizon)
    else:
        add(MEADOW, meadow, (0, 1, horizon, 1), edge=lambda x, y: y > centre(x), horizon=horizon)
    lake = None
    if rng.random() < 0.5:
        lake = (rng.uniform(0.1, 0.9), horizon + rng.uniform(0.1, 0.16), rng.uniform(0.22, 0.45), rng.uniform(0.05, 0.08))
        cx, cy, rx, ry = lake

        def inside(x, y):
            return 1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2

        add(WATER, water, (max(cx - rx, 0), min(cx + rx, 1), cy - ry, cy + ry), inside=inside, top=cy - ry, bottom=cy + ry)
    if kind == "cross":
        add(ROAD, road, (0, 1, 0.5, 1), across=lambda x, y: (y - centre(x)) / half, along=lambda x, y: x * 6 + 0 * y)
    elif kind == "lead":
        add(ROAD, road, (0, 1, horizon, 1), across=lambda x, y: (x - lead_x(y)) / lead_half(y),
            along=lambda x, y: 0 * x + 2.2 * np.log(nearness(y) + 0.05) )

    spots: list[tuple[float, Callable[[], None]]] = []

    def free(x: float, y: float, w: float) -> bool:
        if lake and ((x - lake[0]) / (lake[2] + w / 3)) ** 2 + ((y - lake[1]) / (lake[3] + 0.015)) ** 2 < 1:
            return False
        if kind == "cross":
            return not centre(x) - half - 0.01 < y < centre(x) + half + 0.03
        return kind == "none" or abs(x - lead_x(y)) > lead_half(y) + w / 2

    def stand(class_id, paint, count, low, high, wide, tall, nearest):
        for _ in range(count):
            for _ in range(8):
                x, y = rng.uniform(0.02, 0.98), horizon + (nearest - horizon) * rng.uniform(low, high)
                h = rng.uniform(*tall) * scale(y)
                w = h * rng.uniform(*wide)
                if free(x, y, w):
                    spots.append((y, class_id, paint, (x - w / 2, x + w / 2, y - h, y), w / h))
                    break

    fore = centre(0.5) - half if kind == "cross" else 0.95
    stand(HOUSE, house, rng.integers(1, 4), 0.2, 0.9 if kind == "cross" else 0.6, (0.95, 1.5), (0.36, 0.46), fore)
    stand(TREE, tree, rng.integers(1, 5), 0.1, 1.0, (0.6, 0.95), (0.5, 0.72), fore)
    stand(PINE, pine, rng.integers(0, 4), 0.1, 1.0, (0.42, 0.6), (0.5, 0.75), fore)
    stand(BUSH, bush, rng.integers(1, 4), 0.2, 1.0, (1.3, 2.0), (0.15, 0.22), fore)
    stand(BUSH, bush, rng.integers(0, 3), 0.8, 1.0, (1.3, 2.0), (0.15, 0.22), 1.03)
    if kind == "cross":
        for lane in (-0.35, 0.45):
            x = rng.uniform(-0.1, 0.3)
            for _ in range(rng.integers(0, 3)):
                y = centre(x) + lane * half
                w = rng.uniform(0.33, 0.4) * scale(y)
                h = w / rng.uniform(2.1, 2.5)
                spots.append((y, CAR, car_side, (x - w / 2, x + w / 2, y - h, y), w / h))
                x += w * rng.uniform(0.8, 2.0)
    elif kind == "lead":
        for _ in range(rng.integers(0, 4)):
            y = horizon + (1 - horizon) * rng.uniform(0.3, 0.95)
            side = rng.choice([-0.48, 0.48])
            w = 0.8 * lead_half(y)
            x, h = lead_x(y) + side * lead_half(y), w / rng.uniform(1.1, 1.3)
            spots.append((y, CAR, car_rear, (x - w / 2, x + w / 2, y - h, y), w / h))
    for _ in range(rng.integers(0, 4)):
        h, x = rng.uniform(0.14, 0.34), rng.uniform(0.08, 0.92)
        y = rng.uniform(h * 0.8, max(horizon - 0.06, h))
        spots.append((h - 1, BALLOON, balloon, (x - 0.36 * h, x + 0.36 * h, y - h, y), 0.72))
    for _, class_id, paint, box, a in sorted(spots, key=lambda s: s[0]):
        add(class_id, paint, box, True, a=a)
    return items


def _curve(x: Array, knots: Array) -> Array:
    """A smooth curve through ``knots``, evenly spaced in 0..1, with small bumps."""
    at = np.clip(x, 0, 1) * (len(knots) - 1)
    cell = np.minimum(at.astype(int), len(knots) - 2)
    part = at - cell
    part = part * part * (3 - 2 * part)
    bumps = 0.006 * np.sin(x * 41 + knots[0] * 99) + 0.004 * np.sin(x * 77 + knots[1] * 99)
    return knots[cell] * (1 - part) + knots[cell + 1] * part + bumps


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draw a scene of ``size`` x ``size`` pixels; the state of ``rng`` decides which."""
    n = size * SAMPLES
    items = lay_out(rng)
    drawn = [item.draw(n) for item in items]
    seen = list(range(len(items)))
    while True:
        owner = np.zeros((n, n), np.int16)
        for k in seen:
            window, mask, _ = drawn[k]
            owner[window][mask] = k
        area = np.bincount(owner[SAMPLES // 2::SAMPLES, SAMPLES // 2::SAMPLES].ravel(), minlength=len(items))
        hidden = [k for k in seen if area[k] < MIN_AREA * size**2]
        if not hidden:
            break
        seen = [k for k in seen if k not in hidden]

    canvas = np.zeros((n, n, 3), np.float32)
    for k in seen:
        window, mask, image = drawn[k]
        if items[k].thing and items[k].class_id != BALLOON:
            _cast_shadow(canvas, items[k].box)
        canvas[window][mask] = image[mask]
    pixels = canvas.reshape(size, SAMPLES, size, SAMPLES, 3).mean((1, 3))
    pixels += rng.normal(0, 0.012, pixels.shape)
    number = np.zeros(len(items), np.uint8)
    number[seen] = np.arange(len(seen))
    owner = owner[SAMPLES // 2::SAMPLES, SAMPLES // 2::SAMPLES]
    classes = np.array([item.class_id for item in items], np.uint8)
    styles = [_row(items[k], int(number[k]), int(area[k])) for k in seen]
    return Scene((pixels.clip(0, 1) * 255).round().astype(np.uint8), classes[owner], number[owner], styles)


def _cast_shadow(canvas: Array, box: tuple[float, float, float, float]) -> None:
    """Darken the ground around the foot of a thing."""
    n = len(canvas)
    left, right, _, bottom = box
    wide, flat = (right - left) * 0.62, (right - left) * 0.12 + 0.008
    rows, cols = _window(bottom - flat, bottom + flat, n), _window((left + right) / 2 - wide, (left + right) / 2 + wide, n)
    x = ((np.arange(cols.start, cols.stop) + 0.5) / n - (left + right) / 2)[None] / wide
    y = ((np.arange(rows.start, rows.stop) + 0.5) / n - bottom)[:, None] / flat
    canvas[rows, cols] *= (1 - 0.55 * smooth(1, 0.3, np.hypot(x, y)))[..., None].astype(np.float32)


def _row(item: Item, number: int, pixels: int) -> dict[str, object]:
    colors = np.concatenate([item.style.base, item.style.accent])
    values = (number, item.class_id, CLASS_NAMES[item.class_id], item.style.mode,
              *(colors * 255).round().astype(int).tolist(), pixels)
    return dict(zip(COLUMNS[1:], values, strict=True))


# --- files ----------------------------------------------------------------------------------------------------------

class Job(NamedTuple):
    out: str
    split: str
    index: int
    size: int
    seed: int

    @property
    def name(self) -> str:
        return f"scene_{self.index:05d}"


def make(job: Job) -> list[dict[str, object]]:
    """Draw and write one scene; the rows of its table of styles."""
    scene = draw_scene(np.random.default_rng([job.seed, SPLITS.index(job.split), job.index]), job.size)
    for kind, array in (("img", scene.image), ("label", scene.label), ("inst", scene.instance)):
        with atomic_path(os.path.join(job.out, f"{job.split}_{kind}", f"{job.name}.png")) as temporary:
            Image.fromarray(array).save(temporary, "PNG")
    return [{"scene": job.name, **row} for row in scene.styles]


def make_split(jobs: list[Job], workers: int) -> Iterator[list[dict[str, object]]]:
    if workers == 1:
        yield from map(make, jobs)
        return
    with multiprocessing.Pool(workers) as pool:
        yield from pool.imap(make, jobs, chunksize=4)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def parse() -> argparse.Namespace:
    parser = _Parser(description="Draw the built-in example world: pictures, label maps, instance maps, styles.")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--num", type=int, default=1000, help="training scenes (default: 1000)")
    parser.add_argument("--num_val", type=int, help="validation scenes (default: a tenth of --num, at least 16)")
    parser.add_argument("--size", type=int, default=64, help="pixels: sides of the scenes, a multiple of 16 (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other scenes (default: 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
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
        jobs = [Job(args.out, split, index, args.size, args.seed) for index in range(count)]
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        with tqdm(make_split(jobs, args.workers), total=count, desc=split, unit="scene") as bar:
            for rows in bar:
                writer.writerows(rows)
        write_atomically(os.path.join(args.out, f"styles_{split}.csv"), table.getvalue())
    lines = (" ".join(map(str, (k, *c.color, c.name))) for k, c in enumerate(CLASSES))
    write_atomically(os.path.join(args.out, "classes.txt"), "\n".join(lines) + "\n")
    print(f"{args.num} + {args.num_val} scenes with {len(CLASSES)} classes drawn in {args.out}")


if __name__ == "__main__":
    main()
