"""The painters' tools: shapes, colours and noise. Arrays broadcast to [h, w]; pictures are [h, w, 3] in 0..1."""
from functools import cache

import numpy as np

Array = np.ndarray
Rng = np.random.Generator
HAZE = (0.74, 0.79, 0.85)


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
