"""Where things are, in units of the picture's side, y down."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from datasets.example_world import classes
from datasets.example_world.palette import Array, Rng


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
                y, height = self.centre(x) + lane * self.half, width / rng.uniform(2.1, 2.5)
                yield Spot(classes.CAR, x, y, width, height, heading)


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
            yield Spot(classes.CAR, self.centre(y) + lane * self.half(y), y, width, width / rng.uniform(1.1, 1.3))


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
    Stand(classes.HOUSE, (1, 3), (0.2, 0.85), (0.36, 0.46), (0.95, 1.5)),
    Stand(classes.TREE, (1, 4), (0.1, 1.0), (0.5, 0.72), (0.6, 0.95)),
    Stand(classes.PINE, (0, 3), (0.1, 1.0), (0.5, 0.75), (0.42, 0.6)),
    Stand(classes.BUSH, (1, 3), (0.2, 1.0), (0.15, 0.22), (1.3, 2.0)),
    Stand(classes.BUSH, (0, 2), (1.4, 1.75), (0.15, 0.22), (1.3, 2.0)),
)


@dataclass
class Item:
    """An instance that waits to be painted."""

    class_id: int
    style: classes.Style
    rng: Rng  # for its shape and texture
    paint: Callable[..., tuple[Array, Array]]  # its class's painter, which lacks only coordinates, style and rng
    box: tuple[float, float, float, float]  # left, right, top, bottom in 0..1; things can reach out of it
    spot: Spot | None = None  # None for stuff
    haze: float = 0.0  # 0..1, how much of it the air hides


def lay_out(rng: Rng) -> list[Item]:
    """What is in a scene, from far to near."""
    items: list[Item] = []

    def add(class_id: int, top: float, bottom: float, **shape: object) -> None:
        paint = partial(classes.CLASSES[class_id].paint, **shape)
        items.append(Item(class_id, classes.draw_style(rng, class_id), rng.spawn(1)[0], paint, (0, 1, top, bottom)))

    horizon = rng.uniform(0.36, 0.48)
    add(classes.SKY, 0, horizon + 0.1, horizon=horizon)
    hills = rng.integers(1, 4)
    for far in 1 - np.arange(1, hills + 1, dtype=np.float32) / (hills + 1):
        ridge = horizon - rng.uniform(0.02, 0.1 + 0.16 * far, 6)
        add(classes.HILL, 0, horizon + 0.1, ridge=ridge.astype(np.float32), far=far)

    leads = rng.random() < 0.3
    way = (LeadRoad(horizon, *rng.uniform((0.2, 0.25, -0.25), (0.8, 0.75, 0.25)).tolist()) if leads else
           CrossRoad(*rng.uniform((0.78, -0.08, -0.15, 0.075), (0.88, 0.08, 0.15, 0.1)).tolist()))
    edge = (horizon + rng.uniform(-0.02, 0.02, 5)).astype(np.float32)
    add(classes.MEADOW, horizon - 0.05, 1, horizon=horizon, edge=edge)
    add(classes.MEADOW, horizon - 0.05 if leads else 0.6, 1, horizon=horizon, edge=edge, side=way.across)
    lake = None
    if rng.random() < 0.5:
        lake = Lake(*rng.uniform((0.1, horizon + 0.1, 0.22, 0.05), (0.9, horizon + 0.16, 0.45, 0.08)).tolist())
        add(classes.WATER, lake.y - lake.ry, lake.y + lake.ry, lake=lake)
    add(classes.ROAD, horizon if leads else 0.6, 1, way=way)

    spots = [*way.cars(rng), *_standing(rng, horizon, way, lake)]
    for spot in [*_flying(rng, horizon), *sorted(spots, key=lambda s: s.y)]:
        add(spot.class_id, spot.y - spot.height, spot.y, a=spot.width / spot.height)
        thing, half = items[-1], spot.width / 2
        thing.spot, thing.box = spot, (spot.x - half, spot.x + half, *thing.box[2:])
        if spot.class_id != classes.BALLOON:
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
        yield Spot(classes.BALLOON, rng.uniform(0.08, 0.92), y, 0.72 * height, height)
