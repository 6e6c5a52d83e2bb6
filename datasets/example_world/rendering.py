"""A scene's picture, label map, instance map and table of styles."""
from dataclasses import dataclass

import numpy as np

from datasets.example_world.classes import BALLOON, CLASS_NAMES
from datasets.example_world.layout import Item, Spot, lay_out
from datasets.example_world.palette import HAZE, Array, Rng, over, smooth

SAMPLES = 3  # per pixel and axis; odd, so that one of them lies in the pixel's centre and says what the pixel is
MIN_AREA = 6 / 64**2  # of the picture; instances of which less is seen are left out
COLUMNS = ("scene", "instance", "class_id", "class", "mode", "r", "g", "b", "accent_r", "accent_g", "accent_b",
           "pixels")


@dataclass
class Scene:
    """A drawn scene."""

    image: Array  # uint8 [size, size, 3], RGB
    label: Array  # uint8 [size, size], indices of :data:`CLASSES`
    instance: Array  # uint8 [size, size], ids 0..n-1, all of which occur
    styles: list[dict[str, object]]  # by id: the lines of ``styles_*.csv``, :data:`COLUMNS` without "scene"


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
