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
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class Regions:
    """The distinct id tuples of a batch, numbered 0..T-1, and which pixel belongs to which.

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
        self._boundaries: dict[tuple[int, int], BoundaryPixels] = {}
        self._full = index

    def at(self, size: tuple[int, int]) -> "RegionMap":
        """The region of every pixel at ``size`` (height, width), resized by nearest."""
        size = tuple(size)
        if size not in self._maps:
            # float32 carries region numbers exactly up to 2**24
            index = F.interpolate(self._full[:, None].float(), size=size, mode="nearest")[:, 0].long()
            self._maps[size] = RegionMap(index, len(self.ids[0]))
        return self._maps[size]

    def boundary(self, size: tuple[int, int]) -> "BoundaryPixels":
        """Where upsampling from ``size`` (height, width) gives pixels a region that is not their own."""
        size = tuple(size)
        if size not in self._boundaries:
            upsampled = self.at((2 * size[0], 2 * size[1]))
            self._boundaries[size] = BoundaryPixels(self.at(size).index, upsampled.index)
        return self._boundaries[size]


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
    def _segments(self) -> "SegmentSums":
        return SegmentSums(torch.argsort(self.flat, stable=True), self.sizes)

    def spread(self, table: Tensor) -> Tensor:
        """[T, c] -> [N, c]: every pixel gets its region's row."""
        return F.embedding(self.flat, table)

    def sum(self, rows: Tensor) -> Tensor:
        """[N, c] -> [T, c]: the sum over each region's pixels (0 where it has none)."""
        return self._segments.sum(rows)


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


class SegmentSums:
    """Sums over segments of rows, which may be long.

    A segment is summed in pieces, and then the pieces: adding many thousand float32 numbers one by one would lose
    digits.

    :param members: [M], numbers of the rows of the first segment, then those of the second, and so on.
    :param sizes: [T], how many rows each segment has.
    """

    piece = 256

    def __init__(self, members: Tensor, sizes: Tensor):
        self._members = members
        pieces = (sizes + self.piece - 1) // self.piece  # [T]
        self._first_piece = F.pad(pieces.cumsum(0)[:-1], (1, 0))
        self._numbers = torch.arange(int(pieces.sum()), device=sizes.device)  # of the pieces [Q]
        segment = torch.repeat_interleave(pieces)  # [Q]
        start = F.pad(sizes.cumsum(0)[:-1], (1, 0))[segment]
        self._piece_start = start + self.piece * (self._numbers - self._first_piece[segment])

    def sum(self, rows: Tensor) -> Tensor:
        """[N, c] -> [T, c]; 0 for segments without rows."""
        pieces = F.embedding_bag(self._members, rows, self._piece_start, mode="sum")
        return F.embedding_bag(self._numbers, pieces, self._first_piece, mode="sum")


def rows_of(x: Tensor) -> Tensor:
    """[B, c, h, w] -> [B*h*w, c]; a view for channels-last tensors."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def image_of(rows: Tensor, shape: torch.Size) -> Tensor:
    """[B*h*w, c] -> [B, c, h, w], a channels-last view."""
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
