"""The semantic layout of a batch: classes, instances, and the regions that they make."""
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Made = TypeVar("Made")


class Layout:
    """What the networks are conditioned on: the classes and instances of every pixel.

    :param label: [B, 1, H, W] or [B, H, W], class ids in 0..num_classes-1, any integer type.
    :param instance: the same shape, instance ids from 0.
    :param num_classes: C.
    :param with_edges: whether the semantic input has the instance edges as its last channel.
    :raises ValueError: a class id outside the classes, or a negative instance id.
    """

    def __init__(self, label: Tensor, instance: Tensor, num_classes: int, with_edges: bool):
        self.label = label.reshape(-1, *label.shape[-2:]).long()  # [B, H, W]
        self.instance = instance.reshape(-1, *instance.shape[-2:]).long()  # [B, H, W]
        self.num_classes = num_classes
        self.with_edges = with_edges
        self._made: dict[Callable, Any] = {}
        low, high = self.label.aminmax()
        if low < 0 or high >= num_classes:
            raise ValueError(f"class ids {int(low)}..{int(high)} in labels, but the classes are 0..{num_classes - 1}")
        if self.instance.min() < 0:
            raise ValueError(f"instance id {int(self.instance.min())}, but ids start from 0")

    @property
    def batch_size(self) -> int:
        return len(self.label)

    @cached_property
    def num_instances(self) -> int:
        """K: the largest instance id of the batch, plus one."""
        return int(self.instance.max()) + 1

    @cached_property
    def edges(self) -> Tensor:
        """[B, H, W] bool: pixels whose instance differs from that of a direct neighbour."""
        return instance_edges(self.instance)

    @cached_property
    def semantics(self) -> Tensor:
        """[B, C (+1), H, W] float: the one-hot classes, then the instance edges."""
        channels = self.num_classes + int(self.with_edges)
        semantics = torch.zeros(*self.label.shape, channels, device=self.label.device)
        semantics.scatter_(3, self.label[..., None], 1.0)
        if self.with_edges:
            semantics[..., -1] = self.edges
        return semantics.permute(0, 3, 1, 2)  # channels-last

    def halved_classes(self, times: int) -> Tensor:
        """[B, C, h, w] float: the one-hot classes, ``times`` times averaged over 3x3 pixels with stride 2.

        Averaged while counting, so that the one-hot maps at full resolution are never made.
        """
        maps = self._halved_classes
        for _ in range(times - 1):
            maps = F.avg_pool2d(maps, 3, stride=2, padding=1, count_include_pad=False)
        return maps

    @cached_property
    def _halved_classes(self) -> Tensor:
        batch, height, width = self.label.shape
        height, width = (height + 1) // 2, (width + 1) // 2
        outside = self.num_classes
        padded = F.pad(self.label, (1, 1, 1, 1), value=outside)
        near = torch.stack([padded[:, dy:dy + 2 * height - 1:2, dx:dx + 2 * width - 1:2]
                            for dy in range(3) for dx in range(3)], dim=-1)  # [B, h, w, 9]
        inside = (near != outside).to(torch.get_default_dtype())
        maps = torch.zeros(batch, height, width, self.num_classes + 1, device=near.device)
        maps.scatter_add_(3, near, inside / inside.sum(-1, keepdim=True))
        return maps[..., :-1].permute(0, 3, 1, 2)

    def once(self, make: Callable[["Layout"], Made]) -> Made:
        """``make(self)``, made at the first call."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    @cached_property
    def class_regions(self) -> "Regions":
        """Regions of one class in one instance; ids are (sample, class, instance)."""
        return Regions(torch.stack([self._samples, self.label, self.instance]))

    @cached_property
    def instance_regions(self) -> "Regions":
        """Regions of one instance, whatever its classes; ids are (sample, instance)."""
        return Regions(torch.stack([self._samples, self.instance]))

    @property
    def _samples(self) -> Tensor:
        return torch.arange(self.batch_size, device=self.label.device)[:, None, None].expand_as(self.label)


def instance_edges(instance: Tensor) -> Tensor:
    """Where ``instance`` [B, H, W] differs from its left, right, upper or lower neighbour: [B, H, W] bool."""
    edges = torch.zeros_like(instance, dtype=torch.bool)
    across = instance[:, :, 1:] != instance[:, :, :-1]
    down = instance[:, 1:] != instance[:, :-1]
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return edges


class Regions:
    """The distinct id tuples of a batch, numbered 0..T-1, and which pixel belongs to which.

    A network layer computes one row per region and spreads the rows over the pixels (or sums pixels into rows), so
    that its cost does not depend on how many classes and instances there might be.

    :param maps: [n, B, H, W] int64, the n ids of every pixel, not negative.
    """

    def __init__(self, maps: Tensor):
        extents = [int(m) + 1 for m in maps.flatten(1).amax(1)]
        key = torch.zeros_like(maps[0])
        for ids, extent in zip(maps, extents, strict=True):
            key = key * extent + ids
        keys, index = torch.unique(key, return_inverse=True)
        ids = []
        for extent in reversed(extents):
            ids.append(keys % extent)
            keys = keys // extent
        self.ids = tuple(reversed(ids))  # n tensors [T]
        self._maps = {tuple(index.shape[1:]): RegionMap(index, len(ids[0]))}
        self._strays: dict[tuple[int, int], Strays] = {}
        self._full = index

    def at(self, size: tuple[int, int]) -> "RegionMap":
        """The region of every pixel at ``size`` (height, width), resized by nearest."""
        size = tuple(size)
        if size not in self._maps:
            # float32 carries region numbers exactly up to 2**24
            index = F.interpolate(self._full[:, None].float(), size=size, mode="nearest")[:, 0].long()
            self._maps[size] = RegionMap(index, len(self.ids[0]))
        return self._maps[size]

    def strays(self, size: tuple[int, int]) -> "Strays":
        """Where doubling ``size`` (height, width) gives pixels a region that is not their own."""
        size = tuple(size)
        if size not in self._strays:
            self._strays[size] = Strays(self.at(size).index, self.at((2 * size[0], 2 * size[1])).index)
        return self._strays[size]


class Strays:
    """The P pixels that are of another region than the pixel of half the resolution which they were doubled from.

    :param half: [B, h, w], regions before the doubling.
    :param full: [B, 2h, 2w], the true regions.
    """

    def __init__(self, half: Tensor, full: Tensor):
        self._size = full.shape
        numbers = torch.arange(half.numel(), device=half.device).view_as(half)
        half, numbers = (maps.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten() for maps in (half, numbers))
        full = full.flatten()
        self.pixel = (full != half).nonzero()[:, 0]  # [P] their numbers among the 4Bhw pixels
        self.parent = numbers[self.pixel]  # [P] numbers of the pixels, among Bhw, that they were doubled from
        self.region = full[self.pixel]  # [P] their own regions
        self.share = len(self.pixel) / len(full)

    @cached_property
    def reach(self) -> tuple[Tensor, Tensor]:
        """Which pixels of a 3x3 convolution they are seen by: ``9p + k`` for stray p under tap k, and the pixel's
        number; [M] each."""
        _, height, width = self._size
        tap = torch.arange(9, device=self.pixel.device)
        down, right = 1 - tap // 3, 1 - tap % 3  # from a pixel to the one whose tap k it is
        y = (self.pixel // width % height)[:, None] + down
        x = (self.pixel % width)[:, None] + right
        inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).flatten()
        target = (self.pixel[:, None] + down * width + right).flatten()
        source = inside.nonzero()[:, 0]
        return source, target[source]


class RegionMap:
    """Region numbers 0..count-1 of the pixels at one resolution: ``index`` [B, h, w] int64."""

    def __init__(self, index: Tensor, count: int):
        self.index = index
        self.count = count

    @cached_property
    def flat(self) -> Tensor:
        """[N] int64, N = B*h*w."""
        return self.index.flatten()

    @cached_property
    def sizes(self) -> Tensor:
        """[T] int64: pixels per region."""
        return torch.bincount(self.flat, minlength=self.count)

    @cached_property
    def _bags(self) -> "Bags":
        return Bags(torch.argsort(self.flat, stable=True), self.sizes)

    def spread(self, table: Tensor) -> Tensor:
        """[T, c] -> [N, c]: every pixel gets its region's row."""
        return F.embedding(self.flat, table)

    def sum(self, rows: Tensor) -> Tensor:
        """[N, c] -> [T, c]: the sum over each region's pixels (0 where it has none)."""
        return self._bags.sum(rows)


class Bags:
    """Sums over groups of rows, which may be large.

    Groups are summed in pieces, and then the pieces: adding many thousand float32 numbers one by one would lose digits.

    :param members: [M], numbers of the rows of the first group, then those of the second, and so on.
    :param sizes: [T], how many each group has.
    """

    piece = 256

    def __init__(self, members: Tensor, sizes: Tensor):
        self._members = members
        pieces = (sizes + self.piece - 1) // self.piece  # [T]
        self._first_piece = F.pad(pieces.cumsum(0)[:-1], (1, 0))
        self._numbers = torch.arange(int(pieces.sum()), device=sizes.device)  # of the pieces [Q]
        group = torch.repeat_interleave(pieces)  # [Q]
        start = F.pad(sizes.cumsum(0)[:-1], (1, 0))[group]
        self._piece_start = start + self.piece * (self._numbers - self._first_piece[group])

    def sum(self, rows: Tensor) -> Tensor:
        """[N, c] -> [T, c]; 0 for groups without rows."""
        pieces = F.embedding_bag(self._members, rows, self._piece_start, mode="sum")
        return F.embedding_bag(self._numbers, pieces, self._first_piece, mode="sum")


def rows_of(x: Tensor) -> Tensor:
    """[B, c, h, w] -> [B*h*w, c]; a view for channels-last tensors."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def image_of(rows: Tensor, shape: torch.Size) -> Tensor:
    """[B*h*w, c] -> [B, c, h, w], a channels-last view."""
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
