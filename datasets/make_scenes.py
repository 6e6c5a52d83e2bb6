"""Draw the built-in example world: small photographs of outdoor scenes with their layouts.

    python datasets/make_scenes.py --out datasets/scenes --num 1000 --size 64 --seed 0

Writes ``{train,val}_{img,label,inst}/scene_00000.png`` (``--dataset_mode custom``), the true looks of every instance in
``styles_{train,val}.csv``, and the classes in ``classes.txt``. Every instance draws its looks from its class's own
distribution: some have several modes (paint, masonry), some are continuous (foliage, grass). The same arguments give
the same files, whatever the number of workers; a larger --size draws the same scenes in more detail.
"""
import argparse
import colorsys
import csv
import io
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from util.arguments import ArgumentParser
from util.errors import UserError, command
from util.files import atomic_path, write_atomically

CLASS_NAMES = ("sky", "hill", "meadow", "road", "lake", "house", "tree", "car", "person", "balloon")
SKY, HILL, MEADOW, ROAD, LAKE, HOUSE, TREE, CAR, PERSON, BALLOON = range(len(CLASS_NAMES))
CLASS_COLORS = ((112, 178, 232), (138, 124, 166), (126, 184, 92), (128, 122, 120), (60, 110, 190), (206, 122, 78),
                (38, 110, 58), (214, 52, 60), (240, 188, 44), (176, 88, 190))
SUPERSAMPLING = 2
SIZES = (64, 512)
MIN_PIXELS = 6  # of an instance at 64x64; smaller ones are painted over in the layout

Array = np.ndarray


class Style(NamedTuple):
    """The looks of one instance: colours in 0..1, and the mode of the distribution they came from."""

    mode: str
    color: Array
    accent: Array  # roof, trousers, stripes, clouds, ...
    texture: float  # strength, 0..1


@dataclass
class Scene:
    """``image`` [S, S, 3] uint8 RGB; ``label``, ``instance`` [S, S] uint8; ``styles[i]``: class, looks."""

    image: Array
    label: Array
    instance: Array
    styles: list[tuple[int, Style]]


# ---- what the classes look like: one function per class, from random numbers to a style

CAR_PAINTS = {"red": (0.78, 0.10, 0.10), "blue": (0.12, 0.27, 0.72), "white": (0.92, 0.92, 0.90),
              "black": (0.10, 0.10, 0.12), "yellow": (0.93, 0.76, 0.12), "green": (0.12, 0.48, 0.30)}
MASONRY = {"brick": (0.66, 0.30, 0.22), "white": (0.92, 0.90, 0.85), "ochre": (0.87, 0.68, 0.32),
           "blue": (0.48, 0.60, 0.74)}
ROOFS = ((0.58, 0.24, 0.17), (0.25, 0.26, 0.30))
SKIES = {"noon": ((0.30, 0.56, 0.90), (0.97, 0.98, 1.00)), "sunset": ((0.96, 0.58, 0.36), (0.99, 0.83, 0.62)),
         "overcast": ((0.64, 0.67, 0.72), (0.84, 0.85, 0.87))}
SURFACES = {"asphalt": (0.36, 0.36, 0.39), "sand": (0.78, 0.66, 0.47)}
FABRICS = {"crimson": ((0.85, 0.15, 0.20), (0.98, 0.88, 0.40)), "azure": ((0.16, 0.46, 0.86), (0.97, 0.97, 0.97)),
           "violet": ((0.52, 0.22, 0.68), (0.98, 0.66, 0.22))}


def _hsv(hue: float, saturation: float, value: float) -> Array:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _vary(rng: np.random.Generator, color: Any, amount: float = 0.03) -> Array:
    return np.clip(np.asarray(color) + rng.normal(0, amount, 3), 0.02, 0.98)


def _modal(palette: dict[str, Any]) -> Callable[[np.random.Generator], tuple[str, Any]]:
    names = tuple(palette)

    def draw(rng: np.random.Generator) -> tuple[str, Any]:
        name = names[rng.integers(len(names))]
        return name, palette[name]

    return draw


def sky_style(rng: np.random.Generator) -> Style:
    mode, (color, clouds) = _modal(SKIES)(rng)
    return Style(mode, _vary(rng, color), _vary(rng, clouds, 0.02), rng.uniform(0.2, 1.0))


def hill_style(rng: np.random.Generator) -> Style:
    return Style("", _hsv(rng.uniform(0.30, 0.78), rng.uniform(0.18, 0.42), rng.uniform(0.38, 0.62)), np.ones(3),
                 rng.uniform(0.4, 0.9))


def meadow_style(rng: np.random.Generator) -> Style:
    dryness = rng.uniform()  # from spring green to straw
    color = _hsv(0.29 - 0.15 * dryness, 0.62 - 0.12 * dryness, 0.55 + 0.22 * dryness)
    return Style("", _vary(rng, color, 0.02), np.ones(3), rng.uniform(0.4, 1.0))


def road_style(rng: np.random.Generator) -> Style:
    mode, color = _modal(SURFACES)(rng)
    return Style(mode, _vary(rng, color), np.array([0.93, 0.92, 0.86]), rng.uniform(0.3, 0.8))


def lake_style(rng: np.random.Generator) -> Style:
    return Style("", _hsv(rng.uniform(0.48, 0.62), rng.uniform(0.35, 0.65), rng.uniform(0.42, 0.72)), np.ones(3),
                 rng.uniform(0.4, 1.0))


def house_style(rng: np.random.Generator) -> Style:
    mode, color = _modal(MASONRY)(rng)
    return Style(mode, _vary(rng, color), _vary(rng, ROOFS[rng.integers(2)], 0.02), rng.uniform(0.3, 1.0))


def tree_style(rng: np.random.Generator) -> Style:
    season = rng.uniform()  # from spring green over summer to autumn red
    color = _hsv(0.34 - 0.32 * season, 0.62 + 0.18 * season, 0.42 + 0.38 * season)
    return Style("", _vary(rng, color, 0.02), np.array([0.33, 0.23, 0.15]), rng.uniform(0.5, 1.0))


def car_style(rng: np.random.Generator) -> Style:
    mode, color = _modal(CAR_PAINTS)(rng)
    return Style(mode, _vary(rng, color, 0.02), np.array([0.13, 0.17, 0.22]), 0.1)


def person_style(rng: np.random.Generator) -> Style:
    return Style("", _hsv(rng.uniform(), rng.uniform(0.6, 0.9), rng.uniform(0.55, 0.9)),
                 _hsv(rng.uniform(0.55, 0.7), 0.4, rng.uniform(0.15, 0.4)), 0.2)


def balloon_style(rng: np.random.Generator) -> Style:
    mode, (color, stripes) = _modal(FABRICS)(rng)
    return Style(mode, _vary(rng, color), _vary(rng, stripes), 0.1)


STYLES = (sky_style, hill_style, meadow_style, road_style, lake_style, house_style, tree_style, car_style, person_style,
          balloon_style)


# ---- drawing; coordinates are x to the right and y down, both 0..1 over the picture


@dataclass
class Canvas:
    """A picture in the making, ``SUPERSAMPLING`` times as large as the scene."""

    rng: np.random.Generator
    size: int
    styles: list[tuple[int, Style]] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = self.size * SUPERSAMPLING
        self.y, self.x = (np.mgrid[:n, :n] + 0.5) / n
        self.color = np.zeros((n, n, 3))
        self.label = np.zeros((n, n), np.uint8)
        self.instance = np.zeros((n, n), np.uint8)
        # two fields of fractal noise, read at changing offsets; the finest grain is that of the pixels
        self._noise = [fractal_noise(self.rng, n, cells) for cells in (5, 24)]

    def noise(self, fine: bool, like: tuple[slice, slice]) -> Array:
        """A piece of noise, about -1..1, for a window."""
        shift = self.rng.integers(0, 10**6, 2) % len(self.y)
        rows = (np.arange(len(self.y))[like[0]] + shift[0]) % len(self.y)
        columns = (np.arange(len(self.y))[like[1]] + shift[1]) % len(self.y)
        return self._noise[fine][np.ix_(rows, columns)]

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        n = len(self.y)
        ends = [int(np.clip(np.floor(side * n), 0, n)) for side in (top, bottom + 2 / n, left, right + 2 / n)]
        return slice(*ends[:2]), slice(*ends[2:])

    def paint(self, where: tuple[slice, slice], mask: Array, color: Array, kind: int, style: Style) -> None:
        """A new instance of class ``kind`` on the pixels of ``mask`` [h, w] in the window ``where``."""
        self.color[where][mask] = color[mask]
        self.label[where][mask] = kind
        self.instance[where][mask] = len(self.styles)
        self.styles.append((kind, style))

    def shade(self, x: float, y: float, radius: float) -> None:
        """A soft contact shadow on the ground at (x, y)."""
        where = self.window(x - 1.5 * radius, y - 0.5 * radius, x + 1.5 * radius, y + 0.5 * radius)
        distance = ((self.x[where] - x) / radius) ** 2 + ((self.y[where] - y) / (0.3 * radius)) ** 2
        self.color[where] *= (1 - 0.45 * np.exp(-distance))[..., None]

    def finish(self) -> Scene:
        """Average the samples to pixels and drop instances that hardly show."""
        n, s = self.size, SUPERSAMPLING
        color = self.color.reshape(n, s, n, s, 3).mean((1, 3))
        color += self.rng.normal(0, 0.014, color.shape)  # sensor noise
        instance = self.instance[s // 2::s, s // 2::s]
        counts = np.bincount(instance.flat, minlength=len(self.styles))
        hidden = counts < MIN_PIXELS * (n // SIZES[0]) ** 2
        if hidden[instance].any():  # the nearest visible instance takes the pixels over
            nearest = ndimage.distance_transform_edt(hidden[instance], return_distances=False, return_indices=True)
            instance = instance[tuple(nearest)]
        kept, instance = np.unique(instance, return_inverse=True)
        styles = [self.styles[i] for i in kept]
        instance = instance.reshape(n, n).astype(np.uint8)
        label = np.array([kind for kind, _ in styles], np.uint8)[instance]
        return Scene((np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8), label, instance, styles)


def fractal_noise(rng: np.random.Generator, n: int, cells: int) -> Array:
    """[n, n] periodic noise, about -1..1: octaves of smooth random values, the coarsest with ``cells`` across."""
    total, strength = np.zeros((n, n)), 1.0
    while cells <= 96:
        lattice = np.pad(rng.normal(size=(cells, cells)).astype(np.float32), 2, mode="wrap")
        box = (2, 2, 2 + cells, 2 + cells)
        total += strength * np.asarray(Image.fromarray(lattice).resize((n, n), Image.Resampling.BICUBIC, box))
        cells, strength = cells * 2, strength * 0.6
    return total / (2 * total.std())


def mix(first: Any, second: Any, share: Array) -> Array:
    """Colours from ``first`` to ``second`` as ``share`` [h, w] goes from 0 to 1: [h, w, 3]."""
    share = np.clip(share, 0, 1)[..., None]
    return first * (1 - share) + second * share


# ---- stuff


def draw_sky(canvas: Canvas, horizon: float, style: Style) -> Array:
    """Paint the sky and return the colour of its haze [3]."""
    everywhere = (slice(None), slice(None))
    haze = 0.45 * style.color + 0.55 * style.accent
    color = mix(style.color, haze, canvas.y / horizon)
    stretched = canvas.noise(False, everywhere) + 0.4 * canvas.noise(True, everywhere)
    color = mix(color, style.accent, style.texture * np.clip(1.6 * stretched - 0.3, 0, 0.9))
    canvas.paint(everywhere, np.ones(canvas.label.shape, bool), color, SKY, style)
    return haze


def draw_hills(canvas: Canvas, horizon: float, haze: Array) -> None:
    everywhere = (slice(None), slice(None))
    for distance in range(canvas.rng.integers(0, 3), 0, -1):  # far to near
        style = hill_style(canvas.rng)
        phase, peak, width = canvas.rng.uniform(0, 6.3), canvas.rng.uniform(0, 1), canvas.rng.uniform(0.25, 0.6)
        height = 0.05 + 0.05 * distance + canvas.rng.uniform(0, 0.12)
        ridge = horizon - height * (np.exp(-((canvas.x - peak) / width) ** 2) + 0.12 * np.sin(9 * canvas.x + phase))
        slope = np.gradient(ridge, axis=1) * len(canvas.x)  # the light comes from the left
        light = 0.95 - 0.5 * slope + 0.25 * style.texture * canvas.noise(True, everywhere)
        color = mix(style.color * light[..., None], haze, np.full_like(light, 0.12 + 0.22 * distance))
        canvas.paint(everywhere, (canvas.y > ridge) & (canvas.y < horizon + 0.02), color, HILL, style)


def draw_ground(canvas: Canvas, horizon: float, haze: Array) -> tuple[float, float]:
    """Meadow, perhaps a lake, a road; returns the road's vanishing point and its x at the lower edge."""
    where = canvas.window(0, horizon, 1, 1)
    x, depth = canvas.x[where], (canvas.y[where] - horizon) / (1 - horizon)
    far = 0.45 * np.exp(-5 * np.clip(depth, 0, 1))  # haze
    style = meadow_style(canvas.rng)
    grass = canvas.noise(True, where) + 0.5 * canvas.noise(False, where)
    color = style.color * (0.92 + 0.22 * depth + 0.22 * style.texture * grass * (0.4 + depth))[..., None]
    canvas.paint(where, depth > 0, mix(color, haze, far), MEADOW, style)

    vanishing, foot = canvas.rng.uniform(0.2, 0.8), canvas.rng.uniform(0.1, 0.9)
    if canvas.rng.uniform() < 0.6:
        style = lake_style(canvas.rng)
        middle = 0.12 if vanishing + foot > 1 else 0.88
        across = (x - middle) / canvas.rng.uniform(0.25, 0.5)
        shore = across**2 + ((depth - 0.25) / 0.13) ** 2 + 0.15 * canvas.noise(False, where)
        waves = 0.1 * style.texture * np.sin(80 * depth / (0.3 + depth) + 3 * canvas.noise(False, where))
        color = mix(style.color * (1 + waves)[..., None], haze, 0.55 - 0.9 * depth)
        canvas.paint(where, (shore < 1) & (depth > 0), color, LAKE, style)

    style = road_style(canvas.rng)
    offset = x - (vanishing + (foot - vanishing) * depth)
    half = 0.015 + 0.17 * depth
    grain = 1 + 0.16 * style.texture * canvas.noise(True, where) - 0.12 * np.abs(offset) / half
    color = style.color * grain[..., None]
    dashes = (np.abs(offset) < 0.06 * half) & (np.sin(9 / (0.12 + depth)) > 0)
    if style.mode == "asphalt":
        color[dashes] = style.accent
    canvas.paint(where, (np.abs(offset) < half) & (depth > 0), mix(color, haze, far), ROAD, style)
    return vanishing, foot


# ---- things: (u, v) are measured in the thing's own height, u from its middle, v from the ground up.
# Each returns its mask and its colours [h, w, 3]; `bump` is fine noise.


def house(u: Array, v: Array, style: Style, bump: Array, shape: Array) -> tuple[Array, Array]:
    half, eaves = 0.36 + 0.3 * shape[0], 0.56
    walls = (np.abs(u) < half) & (v > 0) & (v < eaves)
    slope = (v - eaves) / (0.96 - eaves)
    roof = (v >= eaves) & (np.abs(u) < (half + 0.1) * (1 - 0.85 * slope)) & (slope < 1)
    chimney = (np.abs(u - 0.5 * half) < 0.06) & (v > eaves) & (v < 1)
    courses = 0.06 * np.sign(np.sin(38 * v)) * style.texture
    light = 1.06 - 0.16 * (u / half) + courses + 0.06 * bump
    color = style.color * light[..., None]
    pane = (np.abs(np.abs(u) - 0.55 * half) < 0.16 * half) & (np.abs(v - 0.36) < 0.085)
    frame = (np.abs(np.abs(u) - 0.55 * half) < 0.22 * half) & (np.abs(v - 0.36) < 0.115)
    color[frame] = 0.93
    color[pane] = (0.22, 0.27, 0.35)
    color[(np.abs(u) < 0.17 * half) & (v < 0.33)] = (0.34, 0.22, 0.15)
    tiles = 0.95 - 0.25 * np.sign(u) * 0.5 + 0.1 * np.sin(60 * v)
    color = np.where(roof[..., None], style.accent * tiles[..., None], color)
    color[chimney & ~roof] = style.accent * 0.8
    return walls | roof | chimney, color


def tree(u: Array, v: Array, style: Style, bump: Array, shape: Array) -> tuple[Array, Array]:
    trunk = (np.abs(u) < 0.05) & (v > 0) & (v < 0.5)
    if shape[0] < 0.3:  # a conifer
        reach = np.where(v > 0.14, 0.34 * (1 - v) * (1 + 0.25 * ((v * 5) % 1 < 0.5)), 0)
        crown, side, up = np.abs(u) < reach, u / 0.3, v - 0.5
    else:
        centres = [(0, 0.66, 0.32), (-0.2 - 0.1 * shape[1], 0.55, 0.22), (0.2 + 0.1 * shape[2], 0.58, 0.23)]
        crown = np.any([np.hypot(u - a, v - b) < r * (1 + 0.12 * bump) for a, b, r in centres], axis=0)
        side, up = u / 0.45, (v - 0.6) / 0.4
    light = 0.92 - 0.28 * side + 0.3 * up + 0.26 * style.texture * bump
    color = style.color * np.clip(light, 0.35, 1.6)[..., None]
    bark = style.accent * (1 - 4 * u[..., None])
    return crown | trunk, np.where(crown[..., None], color, bark)


def car(u: Array, v: Array, style: Style, bump: Array, shape: Array) -> tuple[Array, Array]:
    half = 1.25
    body = (np.abs(u) < half - 0.25 * np.clip(v - 0.4, 0, 1)) & (v > 0.14) & (v < 0.6)
    cabin = (np.abs(u + 0.1) < 0.8 - 0.75 * (v - 0.55)) & (v >= 0.55) & (v < 1)
    wheels = np.hypot(np.abs(u) - 0.74, v - 0.2) < 0.24
    glass = (np.abs(u + 0.1) < 0.7 - 0.75 * (v - 0.55)) & (v > 0.6) & (v < 0.92) & (np.abs(u + 0.1) > 0.05)
    light = 0.78 + 0.5 * np.clip(v, 0, 1) - 0.08 * u + 0.35 * np.exp(-((v - 0.52) / 0.05) ** 2)
    color = style.color * light[..., None]
    color[glass] = style.accent + 0.25 * np.clip(0.3 - u, 0, 1)[glass][..., None]
    color[(np.abs(u - 1.14) < 0.09) & (np.abs(v - 0.42) < 0.08)] = (1.0, 0.95, 0.7)
    color[(np.abs(u + 1.16) < 0.08) & (np.abs(v - 0.42) < 0.08)] = (0.75, 0.1, 0.08)
    color[wheels] = 0.07
    color[np.hypot(np.abs(u) - 0.74, v - 0.2) < 0.1] = 0.55
    return body | cabin | wheels, color


def person(u: Array, v: Array, style: Style, bump: Array, shape: Array) -> tuple[Array, Array]:
    head = np.hypot(u, v - 0.89) < 0.1
    torso = (np.abs(u) < 0.15) & (v > 0.42) & (v < 0.8)
    arms = (np.abs(np.abs(u) - 0.19) < 0.05) & (v > 0.45) & (v < 0.76)
    legs = (np.abs(np.abs(u) - 0.08) < 0.065) & (v > 0) & (v <= 0.44)
    light = 1.0 - 1.2 * u + 0.08 * bump
    color = np.where(legs[..., None], style.accent, style.color) * light[..., None]
    color[head] = np.array([0.87, 0.68, 0.55]) * light[head][..., None]
    color[head & (v > 0.93)] = (0.22, 0.14, 0.09)
    return head | torso | arms | legs, color


def balloon(u: Array, v: Array, style: Style, bump: Array, shape: Array) -> tuple[Array, Array]:
    height = v - 0.62
    radius = np.where(height > -0.1, np.sqrt(np.clip(0.38**2 - height**2, 0, None)),
                      np.clip(0.366 - 0.9 * (-0.1 - height), 0, 1))
    envelope = (np.abs(u) < radius) & (v > 0.2)
    basket = (np.abs(u) < 0.07) & (v > 0) & (v < 0.12)
    ropes = (np.abs(np.abs(u) - 0.06) < 0.018) & (v >= 0.12) & (v <= 0.24)
    across = np.arcsin(np.clip(u / np.maximum(radius, 1e-3), -1, 1))
    stripes = np.where((np.sin(4.5 * across + 0.8) > 0)[..., None], style.color, style.accent)
    light = 1.0 - 0.38 * u / 0.38 + 0.25 * height
    color = stripes * light[..., None]
    color[basket | (ropes & ~envelope)] = (0.35, 0.24, 0.15)
    return envelope | basket | ropes, color


class Kind(NamedTuple):
    """How a class of things is drawn and placed; sizes at the lower edge of the picture, in its height."""

    draw: Callable[..., tuple[Array, Array]]
    height: float
    reach: float  # half its width, in its own height
    number: tuple[int, int]
    depth: tuple[float, float]  # 0 at the horizon, 1 at the lower edge


THINGS = {
    HOUSE: Kind(house, 0.60, 0.8, (0, 4), (0.06, 0.42)),
    TREE: Kind(tree, 0.62, 0.62, (1, 6), (0.05, 0.75)),
    CAR: Kind(car, 0.20, 1.4, (0, 5), (0.12, 0.92)),
    PERSON: Kind(person, 0.34, 0.3, (0, 4), (0.15, 0.85)),
}


def draw_things(canvas: Canvas, horizon: float, haze: Array, road: tuple[float, float]) -> None:
    """Things on the ground, far to near; cars keep to the road, houses and trees off it."""
    rng = canvas.rng
    placed = sorted((rng.uniform(*kind.depth), name) for name, kind in THINGS.items()
                    for _ in range(rng.integers(kind.number[0], kind.number[1] + 1)))
    for depth, name in placed:
        kind = THINGS[name]
        height = kind.height * (0.26 + 0.74 * depth) * rng.uniform(0.85, 1.15)
        middle, half = road[0] + (road[1] - road[0]) * depth, 0.015 + 0.17 * depth
        if name == CAR:
            x = middle + rng.uniform(-0.7, 0.7) * half
        elif name == PERSON:
            x = rng.uniform(0.05, 0.95)
        else:  # beside the road, as far as the picture reaches
            clear = half + 0.5 * kind.reach * height
            sides = [(0.0, middle - clear), (middle + clear, 1.0)]
            low, high = max(sides, key=lambda side: (side[1] - side[0]) * rng.uniform(0.3, 1))
            x = rng.uniform(low, high) if high > low else rng.choice([0.0, 1.0])
        ground = horizon + (1 - horizon) * depth
        canvas.shade(x, ground, kind.reach * height)
        draw_thing(canvas, name, kind.draw, x, ground, height, kind.reach, haze, 0.4 * np.exp(-5 * depth))


def draw_balloons(canvas: Canvas, horizon: float, haze: Array) -> None:
    for _ in range(canvas.rng.choice([0, 0, 1, 1, 2])):
        height = canvas.rng.uniform(0.16, 0.32)
        foot = canvas.rng.uniform(0.6, 0.95) * horizon
        draw_thing(canvas, BALLOON, balloon, canvas.rng.uniform(0.1, 0.9), foot, height, 0.42, haze, 0.08)


def draw_thing(canvas: Canvas, name: int, draw: Callable[..., tuple[Array, Array]], x: float, ground: float,
               height: float, reach: float, haze: Array, distance: float) -> None:
    style, shape = STYLES[name](canvas.rng), canvas.rng.uniform(size=3)
    where = canvas.window(x - reach * height, ground - 1.05 * height, x + reach * height, ground)
    if canvas.x[where].size:
        u, v = (canvas.x[where] - x) / height, (ground - canvas.y[where]) / height
        mask, color = draw(u, v, style, canvas.noise(True, where), shape)
        canvas.paint(where, mask, mix(color, haze, np.full(mask.shape, distance)), name, style)


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """One scene of ``size`` x ``size`` pixels, ``size`` a multiple of 16 in 64..512."""
    canvas = Canvas(rng, size)
    horizon = rng.uniform(0.34, 0.52)
    haze = draw_sky(canvas, horizon, sky_style(rng))
    draw_hills(canvas, horizon, haze)
    draw_balloons(canvas, horizon, haze)
    road = draw_ground(canvas, horizon, haze)
    draw_things(canvas, horizon, haze, road)
    return canvas.finish()


# ---- files

COLUMNS = ("scene", "instance", "class", "name", "mode", "red", "green", "blue", "accent_red", "accent_green",
           "accent_blue", "texture", "pixels")


class Task(NamedTuple):
    out: str
    split: str
    index: int
    size: int
    seed: int


def write_scene(task: Task) -> list[tuple]:
    """Draw and write one scene; return its rows of the table of styles."""
    rng = np.random.default_rng([task.seed, int(task.split == "val"), task.index])
    scene = draw_scene(rng, task.size)
    name = f"scene_{task.index:05d}"
    for kind, array in (("img", scene.image), ("label", scene.label), ("inst", scene.instance)):
        with atomic_path(os.path.join(task.out, f"{task.split}_{kind}", f"{name}.png")) as temporary:
            Image.fromarray(array).save(temporary)
    pixels = np.bincount(scene.instance.flat)
    return [(name, i, kind, CLASS_NAMES[kind], style.mode, *(f"{255 * c:.1f}" for c in (*style.color, *style.accent)),
             f"{style.texture:.3f}", pixels[i]) for i, (kind, style) in enumerate(scene.styles)]


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--num", type=int, default=1000, help="training scenes (default 1000)")
    parser.add_argument("--num_val", type=int, default=None, help="validation scenes (default: num / 10, at least 16)")
    parser.add_argument("--size", type=int, default=64, help="pixels: sides of the pictures (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another world (default 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: all cores)")
    args = parser.parse_args()
    if args.num_val is None:
        args.num_val = max(16, args.num // 10)
    if not SIZES[0] <= args.size <= SIZES[1] or args.size % 16:
        raise UserError(f"--size {args.size}: must be a multiple of 16 from {SIZES[0]} to {SIZES[1]}")
    for name, least in (("num", 1), ("num_val", 1), ("workers", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least {least}")
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise UserError(f"--out {args.out}: is a file; name a folder")
    return args


@command
def main() -> None:
    args = parse()
    write_atomically(os.path.join(args.out, "classes.txt"), "".join(
        f"{i} {r} {g} {b} {name}\n" for i, (name, (r, g, b)) in enumerate(zip(CLASS_NAMES, CLASS_COLORS, strict=True))))
    with multiprocessing.Pool(args.workers) as pool:
        for split, number in (("train", args.num), ("val", args.num_val)):
            tasks = [Task(args.out, split, i, args.size, args.seed) for i in range(number)]
            table = io.StringIO()
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(COLUMNS)
            for rows in tqdm(pool.imap(write_scene, tasks, chunksize=8), total=number, desc=split, unit="scene"):
                writer.writerows(rows)
            write_atomically(os.path.join(args.out, f"styles_{split}.csv"), table.getvalue())


if __name__ == "__main__":
    main()
