"""Instance-aware convolution (Section 3.3 of the paper): a pixel sees only neighbours of its own instance.

    instances   0 0 1      taps of the centre that take part   x x .      the slow line, [m] 1 where m holds:
                0 0 1                                          x x .        out(p) = sum over taps k of
                0 1 1                                          x . .                 W_k x(p+k) [i(p+k) = i(p)]

Most pixels have no neighbour in another instance, and an ordinary convolution is right there. For the few others

    out(p) = conv2d(x, W)(p) - sum over taps k with i(p+k) != i(p) of W_k x(p+k):

what they must not see is gathered, multiplied by the same weights, and subtracted.

A GPU would have to wait until the host knows how many these are. There all patches are made, with zeros for what lies
in other instances, and one product follows:   out [N', c'] = patches [N', 9c] @ W [9c, c'].
With stride 1 the product comes first, and every pixel then adds up what it sees:   x [N, c] @ W [c, 9c'], summed.
"""
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.ops import backend
from models.ops.regions import RegionMap, Regions, SegmentSums, image_of, rows_of
from util.precision import full_precision, no_autocast, working_dtype

WIDE = 64  # channels, see InstanceConv2d
_OUTSIDE = -1  # region number of what lies beyond the image


def _taps(maps: Tensor, stride: int, fill: int) -> Tensor:
    """[B, h, w] -> [B*h'*w', 9]: what each centre sees at the nine taps, in the order of a 3x3 weight."""
    _, height, width = maps.shape
    padded = F.pad(maps, (1, 1, 1, 1), value=fill)
    shifted = [padded[:, dy:dy + height:stride, dx:dx + width:stride] for dy in range(3) for dx in range(3)]
    return torch.stack(shifted, dim=-1).flatten(0, 2)


class InstanceGrid:
    """The instances of a batch at the resolutions that the encoder's layers work on.

    :param regions: of one instance each, whatever its classes.
    """

    def __init__(self, regions: Regions):
        self.regions = regions
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
    def _crossing(self) -> Tensor:
        """[N', 9] bool: taps in another instance than their centre's. Those beyond the image are 0 anyway."""
        return (self._seen != self._seen[:, 4:5]) & (self._seen != _OUTSIDE)

    @cached_property
    def _pixels(self) -> Tensor:
        """[N', 9]: the numbers of the pixels at the taps; any number where there is none."""
        index = self.regions.index
        return _taps(torch.arange(index.numel(), device=index.device).view_as(index), self._stride, 0)

    @cached_property
    def crossings(self) -> tuple[Tensor, Tensor, Tensor]:
        """The centres [P] with a tap in another instance, their taps' pixels [P, 9], and which of them cross [P, 9]."""
        centres = self._crossing.any(1).nonzero()[:, 0]
        return centres, self._pixels[centres], self._crossing[centres]

    @cached_property
    def crossings_by_tap(self) -> tuple[Tensor, Tensor, list[int]]:
        """Every crossing by itself, tap by tap: the centres [M], the pixels there [M], and how many each tap has."""
        tap, centre = self._crossing.t().nonzero(as_tuple=True)
        return centre, self._pixels[centre, tap], torch.bincount(tap, minlength=9).tolist()

    @cached_property
    def _unseen(self) -> SegmentSums:
        """Pixels that no centre of their instance has as its tap k, by (region, k).

        The centre that would is the pixel's own neighbour at the opposite tap, 8 - k.
        """
        lost = (self._seen != self._seen[:, 4:5]).flip(1)  # [N, 9]: no such centre
        pixel, tap = lost.nonzero(as_tuple=True)
        segment = self.regions.flat[pixel] * 9 + tap
        return SegmentSums(pixel[torch.argsort(segment, stable=True)],
                           torch.bincount(segment, minlength=self.regions.count * 9))

    def patches(self, x: Tensor) -> Tensor:
        """[B, h, w, c] -> [N', 9, c]: the 3x3 pixels around every centre, 0 where they lie in another instance or
        beyond the image."""
        _, height, width, _ = x.shape
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        shifted = [padded[:, dy:dy + height:self._stride, dx:dx + width:self._stride]
                   for dy in range(3) for dx in range(3)]
        own = self._seen == self._seen[:, 4:5]
        return torch.where(own[..., None], torch.stack(shifted, dim=3).flatten(0, 2), 0)

    def patch_sums(self, rows: Tensor) -> Tensor:
        """Sum over each region's centres of their patches, without what lies in other instances (stride 1).

        :param rows: [N, c], the pixels.
        :return: [T, 9, c], at least float32: for tap k all the region's pixels except those that no centre sees at k,
            which lie along the borders of the region and of the image.
        """
        if backend.kernels_for(rows):
            return _PatchSums.apply(rows, self.regions)
        rows = full_precision(rows)
        if not backend.on_host(rows):
            patches = self.patches(rows.view(*self.regions.index.shape, -1))
            return self.regions.sum(patches.flatten(1)).view(-1, 9, rows.shape[1])
        return self.regions.sum(rows)[:, None] - self._unseen.sum(rows).view(-1, 9, rows.shape[1])


class InstanceConv2d(nn.Conv2d):
    """3x3 convolution, zero padding 1, in which other instances count as zero (no renormalisation)."""

    def __init__(self, fin: int, fout: int, stride: int = 1):
        super().__init__(fin, fout, 3, stride=stride, padding=1)

    def forward(self, x: Tensor, grid: InstanceGrid) -> Tensor:
        """[B, fin, h, w] -> [B, fout, ceil(h/stride), ceil(w/stride)]; stride 2 has its centres at pixels (2i, 2j)."""
        neighbourhoods = grid.neighbourhoods(x.shape[2:], self.stride[0])
        if not backend.on_host(x):
            return self._by_patches(x, neighbourhoods)
        out = super().forward(x)
        centre, excess = self._excess(rows_of(x), neighbourhoods)
        return image_of(rows_of(out).index_add(0, centre, excess.to(out.dtype), alpha=-1), out.shape)

    def _by_patches(self, x: Tensor, neighbourhoods: Neighbourhoods) -> Tensor:
        """The same as one product, without the host's counting anything."""
        batch, _, height, width = x.shape
        stride, pixels, index = self.stride[0], x.permute(0, 2, 3, 1), neighbourhoods.regions.index
        exact = working_dtype(x).itemsize > 2  # else nine products, each rounded, are less exact than one
        if backend.kernels_for(x) and stride == 1 and exact:
            weight = self.weight.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)  # [9c', c], opposite taps first
            bias = F.pad(self.bias, (4 * self.out_channels, 4 * self.out_channels))  # with the centre's own tap
            rows = _SumOfSeen.apply(F.linear(pixels, weight, bias), index)
            return rows.permute(0, 3, 1, 2)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        if backend.kernels_for(x):
            rows = _PatchProduct.apply(pixels, weight, self.bias, index, stride)
        else:
            rows = F.linear(neighbourhoods.patches(pixels).flatten(1), weight, self.bias)
        return image_of(rows, torch.Size((batch, self.out_channels, -(-height // stride), -(-width // stride))))

    def _excess(self, rows: Tensor, neighbourhoods: Neighbourhoods) -> tuple[Tensor, Tensor]:
        """What centres must not see: their numbers, maybe several times, and rows of as many [., fout].

        A third or so of a border pixel's taps cross. From ``WIDE`` channels on these alone are multiplied; for fewer,
        one large product with zeros for the others is faster than nine small ones.
        """
        if self.in_channels < WIDE:
            centres, pixels, elsewhere = neighbourhoods.crossings
            patches = F.embedding(pixels, rows) * elsewhere[..., None]  # [P, 9, fin]
            return centres, patches.flatten(1) @ self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        centre, pixel, counts = neighbourhoods.crossings_by_tap
        taps = self.weight.permute(2, 3, 0, 1).flatten(0, 1)  # [9, fout, fin]
        seen = F.embedding(pixel, rows).split(counts)  # [M, fin] in all
        return centre, torch.cat([F.linear(part, tap) for part, tap in zip(seen, taps, strict=True)])


class _PatchProduct(torch.autograd.Function):
    """bias + patches @ W' by kernels; patches [N', 9c] of pixels [B, h, w, c], W' [c', 9c]. The backward pass makes the
    patches once more: they take nine times the memory of the pixels."""

    @staticmethod
    def forward(ctx, x, weight, bias, index, stride: int):
        dtype = working_dtype(x)
        x, weight = x.contiguous(), weight.to(dtype)
        ctx.save_for_backward(x, weight, index)
        ctx.stride = stride
        with no_autocast(x.device):
            return F.linear(backend.kernels_for(x).patches(x, index, stride, dtype), weight, bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, index = ctx.saved_tensors
        kernels, grad_x = backend.kernels_for(x), None
        grad = grad.contiguous()
        if ctx.needs_input_grad[0]:
            grad_x = kernels.patches_grad(grad @ weight, index, ctx.stride, x.dtype)
        grad_weight = grad.t() @ kernels.patches(x, index, ctx.stride, grad.dtype)
        return grad_x, grad_weight, grad.sum(0), None, None


class _SumOfSeen(torch.autograd.Function):
    """[B, h, w, 9c] -> [B, h, w, c]: out(p) = sum over taps k with i(p+k) = i(p) of x(p+k) at the tap opposite to k; by
    kernels. It is the transpose of the patches.

    Where layers have fewer channels than they take in, which those of stride 1 do, multiplying first moves less than
    patches do.
    """

    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        return backend.kernels_for(x).patches_grad(x.flatten(0, 2).contiguous(), index, 1, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        index, = ctx.saved_tensors
        patches = backend.kernels_for(grad).patches(grad.contiguous(), index, 1, grad.dtype)
        return patches.view(*index.shape, -1), None


class _PatchSums(torch.autograd.Function):
    """:meth:`Neighbourhoods.patch_sums` by kernels."""

    @staticmethod
    def forward(ctx, rows, regions: RegionMap):
        ctx.regions, ctx.dtype = regions, rows.dtype
        return backend.kernels_for(rows).patch_sums(rows.contiguous(), regions.index, regions.segments)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return backend.kernels_for(grad).patch_sums_grad(grad.contiguous(), ctx.regions.index, ctx.dtype), None
