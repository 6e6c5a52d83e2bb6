"""Instance-aware convolution (Section 3.3 of the paper): a pixel sees only neighbours of its own instance.

Most pixels have no neighbour in another instance, so an ordinary convolution is right there. What the few others
must not have seen is gathered, multiplied by the same weights, and taken away again.
"""
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layout import Layout, RegionMap

_OUTSIDE = -1  # region number of what lies beyond the image


def _taps(maps: Tensor, stride: int, fill: int) -> Tensor:
    """[B, h, w] -> [B*h'*w', 9]: what each centre sees at the nine taps, in the order of a 3x3 weight."""
    _, height, width = maps.shape
    padded = F.pad(maps, (1, 1, 1, 1), value=fill)
    shifted = [padded[:, dy:dy + height:stride, dx:dx + width:stride] for dy in range(3) for dx in range(3)]
    return torch.stack(shifted, dim=-1).flatten(0, 2)


class InstanceGrid:
    """The instances of a batch at the resolutions that the encoder's layers work on."""

    def __init__(self, layout: Layout):
        self.regions = layout.instance_regions
        self._neighbourhoods: dict[tuple, Neighbourhoods] = {}

    def neighbourhoods(self, size: tuple[int, int], stride: int) -> "Neighbourhoods":
        """Of a 3x3 convolution of an input of ``size`` (height, width)."""
        key = (*size, stride)
        if key not in self._neighbourhoods:
            self._neighbourhoods[key] = Neighbourhoods(self.regions.at(size), stride)
        return self._neighbourhoods[key]


class Neighbourhoods:
    """Which of their nine taps the pixels of an image share an instance with."""

    def __init__(self, regions: RegionMap, stride: int):
        self.regions = regions
        self._stride = stride

    @cached_property
    def _seen(self) -> Tensor:
        return _taps(self.regions.index, self._stride, _OUTSIDE)  # [N', 9]

    @cached_property
    def crossings(self) -> tuple[Tensor, Tensor, list[int]]:
        """Taps in another instance than their centre's, tap by tap: the centres [M], the pixels there [M], and how
        many of them each of the nine taps has. Taps beyond the image are none (it is 0 there anyway)."""
        crossing = (self._seen != self._seen[:, 4:5]) & (self._seen != _OUTSIDE)
        tap, centre = crossing.t().nonzero(as_tuple=True)
        position = torch.arange(self.regions.index.numel(), device=tap.device).view_as(self.regions.index)
        pixel = _taps(position, self._stride, 0)[centre, tap]
        return centre, pixel, torch.bincount(tap, minlength=9).tolist()

    @cached_property
    def _unseen(self) -> tuple[Tensor, Tensor]:
        """Pixels that no centre of their instance has as its tap k, grouped by (region, k) as bags.

        The centre that would is the pixel's own neighbour at the opposite tap, 8 - k.
        """
        lost = (self._seen != self._seen[:, 4:5]).flip(1)  # [N, 9]: no such centre
        pixel, tap = lost.nonzero(as_tuple=True)
        bag = self.regions.flat[pixel] * 9 + tap
        counts = torch.bincount(bag, minlength=self.regions.count * 9)
        return pixel[torch.argsort(bag, stable=True)], F.pad(counts.cumsum(0)[:-1], (1, 0))

    def patch_sums(self, rows: Tensor) -> Tensor:
        """Sum over each region's centres of their patches, without what lies in other instances (stride 1).

        :param rows: [N, c], the pixels.
        :return: [T, 9, c]: for tap k all the region's pixels but for those that no centre sees at k, which lie along
            the borders of the region and of the image.
        """
        pixels, offsets = self._unseen
        unseen = F.embedding_bag(pixels, rows, offsets, mode="sum").view(-1, 9, rows.shape[1])
        return self.regions.sum(rows)[:, None] - unseen


class InstanceConv2d(nn.Conv2d):
    """3x3 convolution, zero padding 1, in which other instances count as zero (no renormalisation)."""

    def __init__(self, fin: int, fout: int, stride: int = 1):
        super().__init__(fin, fout, 3, stride=stride, padding=1)

    def forward(self, x: Tensor, grid: InstanceGrid) -> Tensor:
        """[B, fin, h, w] -> [B, fout, ceil(h/stride), ceil(w/stride)]; stride 2 has its centres at pixels (2i, 2j)."""
        out = super().forward(x)
        centre, pixel, counts = grid.neighbourhoods(x.shape[2:], self.stride[0]).crossings
        if not len(centre):
            return out
        rows = F.embedding(pixel, x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]))  # [M, fin]
        taps = self.weight.flatten(2).unbind(2)
        excess = torch.cat([F.linear(part, tap) for part, tap in zip(rows.split(counts), taps, strict=True)])
        batch, channels, height, width = out.shape
        out_rows = out.permute(0, 2, 3, 1).reshape(-1, channels)
        out_rows = out_rows.index_add(0, centre, excess.to(out.dtype), alpha=-1)  # [M, fout]
        return out_rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
