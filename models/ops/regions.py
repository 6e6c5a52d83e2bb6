"""Regions: one class in one instance of one sample. What the method computes per pixel is the same all over a region.

A batch has T regions, numbered 0..T-1, far fewer than its N pixels. With t(n) the region of pixel n, a layer computes
a table of T rows and *spreads* it over the pixels; backwards, pixels are *summed* into rows:

    label   instance        region t        table [T, c]         spread [N, c]
    1 1 2   0 0 1           0 0 2           0: row of (1, 0)     row 0, row 0, row 2,
    1 2 2   0 1 1     ->    0 2 2     ->    1: row of (2, 0)  -> row 0, row 2, row 2,
    2 2 2   0 0 1           1 1 2           2: row of (2, 1)     row 1, row 1, row 2

    spread(table)[n] = table[t(n)]                       = one_hot(t) @ table
    sum(rows)[t]     = sum of rows[n] over t(n) = t      = one_hot(t).T @ rows
"""
import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.tables import Tables

_MOST_KEYS = 2**24  # of distinct id tuples that are looked for in a table of all; beyond, they are sorted


class Regions(Tables):
    """The distinct id tuples of a batch, numbered 0..T-1, and which pixel belongs to which.

    ``ids`` are n tensors [T], in ascending order of the tuples; rows at the end that no pixel has are all 0.

    :param maps: the n ids of every pixel, not negative; integers [B, H, W] or what broadcasts to that.
    :param multiple: T is one of this, so that few different T occur.
    :param extents: n numbers that the ids are below: number all tuples of such ids, also those that no pixel has.
    """

    def __init__(self, maps: Sequence[Tensor], multiple: int = 1,
                 extents: Sequence[int] | None = None):
        all_tuples = extents is not None
        extents = extents or [int(ids.max()) + 1 for ids in maps]
        key = _keys(maps, extents)
        if all_tuples:
            keys, index = torch.arange(math.prod(extents)), key.to(maps[-1].dtype)
        else:
            keys, index = _numbered(key, math.prod(extents), maps[-1].dtype)
        keys = F.pad(keys, (0, -len(keys) % multiple))
        self.ids = tuple(ids.contiguous() for ids in torch.unravel_index(keys, tuple(extents)))  # n tensors [T]
        self._size = tuple(index.shape[1:])
        self._maps = {self._size: RegionMap(index, len(keys))}
        self._boundaries: dict[tuple[int, int], BoundaryPixels] = {}

    def tabulate(self, sizes: Iterable[tuple[int, int]], sums_at: Iterable[tuple[int, int]]) -> "Regions":
        """Make the maps of these sizes now, and what sums over regions need at those."""
        for size in sizes:
            self.at(size)
        for size in sums_at:
            self.at(size).segments  # noqa: B018 (is kept)
        return self

    def at(self, size: tuple[int, int]) -> "RegionMap":
        """The region of every pixel at ``size`` (height, width), resized by nearest."""
        size = tuple(size)
        if size not in self._maps:
            full = self._maps[self._size]
            self._maps[size] = RegionMap(_resized(full.index, size), full.count)
        return self._maps[size]

    def boundary(self, size: tuple[int, int]) -> "BoundaryPixels":
        """Where upsampling from ``size`` (height, width) gives pixels a region that is not their own."""
        size = tuple(size)
        if size not in self._boundaries:
            upsampled = self.at((2 * size[0], 2 * size[1]))
            self._boundaries[size] = BoundaryPixels(self.at(size).index, upsampled.index)
        return self._boundaries[size]


def _keys(maps: Sequence[Tensor], extents: Sequence[int]) -> Tensor:
    """[B, H, W]: a number for every id tuple, in the order of the tuples."""
    short = math.prod(extents) <= _MOST_KEYS
    key, *others = (ids.to(torch.int32 if short else torch.int64) for ids in maps)
    for ids, extent in zip(others, extents[1:], strict=True):
        key = key * extent + ids
    return key


def _numbered(key: Tensor, extent: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The distinct values [T] of ``key``, all below ``extent``, in ascending order, and the number among them of every
    element: ``torch.unique(key, return_inverse=True)``, and on the CPU faster."""
    if key.device.type != "cpu" or extent > _MOST_KEYS:
        keys, index = torch.unique(key, return_inverse=True)
        return keys, index.to(dtype)
    occurs = torch.zeros(extent, dtype=torch.bool)
    occurs.numpy()[key.numpy()] = True
    numbers = occurs.cumsum(0).sub_(1).to(dtype)
    return occurs.nonzero()[:, 0], torch.from_numpy(numbers.numpy().take(key.numpy()))


def _resized(index: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, H, W] -> [B, h, w] by nearest."""
    (height, width), (new_height, new_width) = index.shape[1:], size
    if height % new_height == width % new_width == 0:
        return index[:, ::height // new_height, ::width // new_width].contiguous()
    # float32 carries region numbers exactly up to 2**24
    return F.interpolate(index[:, None].float(), size=size, mode="nearest")[:, 0].to(index.dtype)


class RegionMap(Tables):
    """Region numbers 0..count-1 of the pixels at one resolution: ``index`` [B, h, w], int64 where it is made and int32
    on a device that it was moved to."""

    def __init__(self, index: Tensor, count: int):
        self.index = index
        self.count = count

    @property
    def flat(self) -> Tensor:
        """[N], N = B*h*w."""
        return self.index.flatten()

    @cached_property
    def sizes(self) -> Tensor:
        """[T]: pixels per region."""
        return torch.bincount(self.flat, minlength=self.count)

    @cached_property
    def segments(self) -> "SegmentSums":
        """The pixels region by region."""
        return SegmentSums(_sorted(self.flat, self.count), self.sizes)

    def spread(self, table: Tensor) -> Tensor:
        """[T, c] -> [N, c]: every pixel gets its region's row."""
        return F.embedding(self.flat, table)

    def sum(self, rows: Tensor) -> Tensor:
        """[N, c] -> [T, c]: the sum over each region's pixels (0 where it has none)."""
        return self.segments.sum(rows)


def _sorted(numbers: Tensor, count: int) -> Tensor:
    """``torch.argsort(numbers, stable=True)`` of numbers below ``count``, and on the CPU faster: NumPy sorts short
    integers by counting."""
    if numbers.device.type != "cpu" or count > 2**16:
        return torch.argsort(numbers, stable=True)
    return torch.from_numpy(np.argsort(numbers.numpy().astype(np.uint16), kind="stable"))


class BoundaryPixels:
    """The P pixels whose region is not that of the pixel, at half the resolution, that they are upsampled from.

        half    0 1     upsampled  0 0 1 1     full  0 0 1 1     boundary  . . . .
                2 1                0 0 1 1           0 1 1 1               . x . .
                                   2 2 1 1           2 2 1 1               . . . .
                                   2 2 1 1           2 2 2 1               . . x .

    :param half: [B, h, w], regions before upsampling.
    :param full: [B, 2h, 2w], the true regions.
    """

    def __init__(self, half: Tensor, full: Tensor):
        self._size = full.shape
        numbers = torch.arange(half.numel(), device=half.device).view_as(half)
        half, numbers = (maps.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten() for maps in (half, numbers))
        full = full.flatten()
        self.pixel = (full != half).nonzero()[:, 0]  # [P] their numbers among the 4Bhw pixels
        self.parent = numbers[self.pixel]  # [P] numbers, among Bhw, of the pixels that they are upsampled from
        self.region = full[self.pixel]  # [P] their own regions
        self.share = len(self.pixel) / len(full)

    @cached_property
    def reach(self) -> tuple[Tensor, Tensor]:
        """The pixels of a 3x3 convolution that see them: ``9p + k`` for boundary pixel p under tap k, and the number
        of the pixel that sees it; [M] each."""
        _, height, width = self._size
        tap = torch.arange(9, device=self.pixel.device)
        down, right = 1 - tap // 3, 1 - tap % 3  # from a pixel to the one whose tap k it is
        y = (self.pixel // width % height)[:, None] + down
        x = (self.pixel % width)[:, None] + right
        inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).flatten()
        target = (self.pixel[:, None] + down * width + right).flatten()
        source = inside.nonzero()[:, 0]
        return source, target[source]


class SegmentSums(Tables):
    """Sums over segments of rows, which may be long.

    A segment is summed in pieces, and then the pieces: adding many thousand float32 numbers one by one would lose
    digits.

        members      4 5 6 9 | 0 1 2 3 7 8 |      the rows of T = 2 segments
        piece_start  0   2     4   6   8   10     Q + 1 places in members, for pieces of 2 rows
        piece_segment  0   0     1   1   1        [Q]
        first_piece    0         2             5  T + 1 pieces

    There are as many pieces as so many rows and segments can have at most, so that nothing waits for the number; those
    that are left over are empty, and belong to nobody.

    :param members: [M], numbers of the rows of the first segment, then those of the second, and so on.
    :param sizes: [T], how many rows each segment has.
    """

    piece = 256

    def __init__(self, members: Tensor, sizes: Tensor):
        self.count = len(sizes)  # T
        most = len(members) // self.piece + len(sizes)  # Q
        pieces = (sizes + self.piece - 1) // self.piece  # [T]
        start, first_piece = (F.pad(numbers.cumsum(0), (1, 0)) for numbers in (sizes, pieces))  # [T + 1]
        numbers = torch.arange(most, device=sizes.device)
        segment = torch.repeat_interleave(torch.cat([pieces, most - first_piece[-1:]]), output_size=most)
        piece_start = start[segment] + self.piece * (numbers - first_piece[segment])
        # on a GPU, reading half as much matters more than what PyTorch prefers
        narrow = torch.int32 if sizes.is_cuda else torch.int64
        self.members = members.to(narrow)
        self.first_piece = first_piece.to(narrow)
        self.piece_start = F.pad(piece_start.clamp_(max=len(members)), (0, 1), value=len(members)).to(narrow)
        self.piece_segment = segment.clamp_(max=self.count - 1).to(narrow)  # of the spare ones: any that exists
        self.numbers = numbers.to(narrow)  # of the pieces

    def sum(self, rows: Tensor) -> Tensor:
        """[N, c] -> [T, c]; 0 for segments without rows."""
        pieces = F.embedding_bag(self.members, rows, self.piece_start, mode="sum", include_last_offset=True)
        return F.embedding_bag(self.numbers, pieces, self.first_piece, mode="sum", include_last_offset=True)


def rows_of(x: Tensor) -> Tensor:
    """[B, c, h, w] -> [B*h*w, c]; a view for channels-last tensors."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def image_of(rows: Tensor, shape: torch.Size) -> Tensor:
    """[B*h*w, c] -> [B, c, h, w], a channels-last view."""
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
