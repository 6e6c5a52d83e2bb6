"""Instance-aware convolution (Section 3.3 of the paper): a pixel sees only neighbours of its own instance.

    instances   0 0 1      taps of the centre that take part   x x .      the slow line, [m] 1 where m holds:
                0 0 1                                          x x .        out(p) = sum over taps k of
                0 1 1                                          x . .                 W_k x(p+k) [i(p+k) = i(p)]

Most pixels have no neighbour in another instance, and an ordinary convolution is right there. For the few others

    out(p) = conv2d(x, W)(p) - sum over taps k with i(p+k) != i(p) of W_k x(p+k):

what they must not see is gathered, multiplied by the same weights, and subtracted.

A GPU would have to wait until the host knows how many these are. There kernels make all patches, with zeros for what
lies in other instances, and one product follows:   out [N', c'] = patches [N', 9c] @ W [9c, c'].
With stride 1 the product comes first, and every pixel then adds up what it sees:   x [N, c] @ W [c, 9c'], summed.
"""
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.ops import backend, plain
from models.ops.plain import taps
from models.ops.regions import RegionMap, Regions, SegmentSums, image_of, rows_of
from util.precision import full_precision, no_autocast, working_dtype

WIDE = 64  # channels, see _excess
_OUTSIDE = -1  # region number of what lies beyond the image


class InstanceGrid:
    """The instances of a batch, regions of one each, at the resolutions that the encoder's layers work on."""

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
        """[N', 9]: the regions at the taps."""
        return taps(self.regions.index[..., None], self._stride, _OUTSIDE)[..., 0]

    @cached_property
    def _crossing(self) -> Tensor:
        """[N', 9] bool: taps in another instance than their centre's. Those beyond the image are 0 anyway."""
        return (self._seen != self._seen[:, 4:5]) & (self._seen != _OUTSIDE)

    @cached_property
    def _pixels(self) -> Tensor:
        """[N', 9]: the numbers of the pixels at the taps; any number where there is none."""
        index = self.regions.index
        return taps(torch.arange(index.numel(), device=index.device).view_as(index)[..., None], self._stride, 0)[..., 0]

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
    def unseen(self) -> SegmentSums:
        """Pixels that no centre of their instance has as its tap k, by (region, k). The centre that would is the
        pixel's own neighbour at the opposite tap, 8 - k."""
        lost = (self._seen != self._seen[:, 4:5]).flip(1)  # [N, 9]: no such centre
        pixel, tap = lost.nonzero(as_tuple=True)
        segment = self.regions.flat[pixel] * 9 + tap
        return SegmentSums(pixel[torch.argsort(segment, stable=True)],
                           torch.bincount(segment, minlength=self.regions.count * 9))


class InstanceConv2d(nn.Conv2d):
    """3x3 convolution, zero padding 1, in which other instances count as zero (no renormalisation)."""

    def __init__(self, fin: int, fout: int, stride: int = 1):
        super().__init__(fin, fout, 3, stride=stride, padding=1)

    def forward(self, x: Tensor, grid: InstanceGrid) -> Tensor:
        """[B, fin, h, w] -> [B, fout, ceil(h/stride), ceil(w/stride)]; stride 2 has its centres at pixels (2i, 2j)."""
        return instance_convolution(x, self.weight, self.bias, grid, self.stride[0])


def instance_convolution(x: Tensor, weight: Tensor, bias: Tensor, grid: InstanceGrid, stride: int,
                         impl: str | None = None) -> Tensor:
    """See :func:`models.ops.plain.instance_convolution`."""
    neighbourhoods, impl = grid.neighbourhoods(x.shape[2:], stride), backend.form(x, "instance_convolution", impl)
    index = neighbourhoods.regions.index
    if impl == "plain":
        return plain.instance_convolution(x, weight, bias, index, stride)
    if impl == "fast":
        out = F.conv2d(x, weight, bias, stride, padding=1)
        centre, excess = _excess(rows_of(x), weight, neighbourhoods)
        return image_of(rows_of(out).index_add(0, centre, excess.to(out.dtype), alpha=-1), out.shape)
    (batch, _, height, width), pixels = x.shape, x.permute(0, 2, 3, 1)
    exact = working_dtype(x).itemsize > 2  # else nine products, each rounded, are less exact than one
    if stride == 1 and exact:
        weight = weight.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)  # [9c', c], opposite taps first
        bias = F.pad(bias, (4 * len(bias), 4 * len(bias)))  # with the centre's own tap
        return _SumOfSeen.apply(F.linear(pixels, weight, bias), index).permute(0, 3, 1, 2)
    rows = _PatchProduct.apply(pixels, weight.permute(0, 2, 3, 1).flatten(1), bias, index, stride)
    return image_of(rows, torch.Size((batch, len(weight), -(-height // stride), -(-width // stride))))


def _excess(rows: Tensor, weight: Tensor, neighbourhoods: Neighbourhoods) -> tuple[Tensor, Tensor]:
    """What centres must not see: their numbers, maybe several times, and rows of as many [., c'].

    A third or so of a border pixel's taps cross. From ``WIDE`` channels on these alone are multiplied; for fewer,
    one large product with zeros for the others is faster than nine small ones.
    """
    if weight.shape[1] < WIDE:
        centres, pixels, elsewhere = neighbourhoods.crossings
        patches = F.embedding(pixels, rows) * elsewhere[..., None]  # [P, 9, c]
        return centres, patches.flatten(1) @ weight.permute(2, 3, 1, 0).flatten(0, 2)
    centre, pixel, counts = neighbourhoods.crossings_by_tap
    seen = F.embedding(pixel, rows).split(counts)  # [M, c] in all
    each = weight.permute(2, 3, 0, 1).flatten(0, 1)  # [9, c', c]
    return centre, torch.cat([F.linear(part, tap) for part, tap in zip(seen, each, strict=True)])


def patch_sums(rows: Tensor, neighbourhoods: Neighbourhoods, impl: str | None = None) -> Tensor:
    """See :func:`models.ops.plain.patch_sums`. For tap k they are the sums of all the region's pixels except those that
    no centre sees at k, which lie along the borders of the region and of the image."""
    impl, regions = backend.form(rows, "patch_sums", impl), neighbourhoods.regions
    if impl == "triton":
        return _PatchSums.apply(rows, regions)
    if impl == "plain":
        return plain.patch_sums(rows, regions)
    rows = full_precision(rows)
    return regions.sum(rows)[:, None] - neighbourhoods.unseen.sum(rows).view(-1, 9, rows.shape[1])


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
            return F.linear(backend.kernels().patches(x, index, stride, dtype), weight, bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, index = ctx.saved_tensors
        kernels, grad_x = backend.kernels(), None
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
        return backend.kernels().patches_grad(x.flatten(0, 2).contiguous(), index, 1, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        index, = ctx.saved_tensors
        patches = backend.kernels().patches(grad.contiguous(), index, 1, grad.dtype)
        return patches.view(*index.shape, -1), None


class _PatchSums(torch.autograd.Function):
    """:func:`patch_sums` by kernels."""

    @staticmethod
    def forward(ctx, rows, regions: RegionMap):
        ctx.regions, ctx.dtype = regions, rows.dtype
        return backend.kernels().patch_sums(rows.contiguous(), regions.index, regions.segments)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return backend.kernels().patch_sums_grad(grad.contiguous(), ctx.regions.index, ctx.dtype), None
