"""One painter per class. Each returns a mask [h, w] and a picture [h, w, 3] in 0..1 of an instance.

Stuff is painted from x [1, w] and y [h, 1], both in 0..1, y down. Things are painted from u [1, w] in -1..1 across and
v [h, 1] in 0..1 upwards; ``a`` is their width / height.
"""
import numpy as np

from datasets.example_world.palette import HAZE, between, curve, fill, noise, over, smooth

# --- stuff ---


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


# --- things ---


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
