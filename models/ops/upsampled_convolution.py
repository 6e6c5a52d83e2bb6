"""Convolution of upsampled activations at half the size.

After nearest upsampling, activations are blocks of 2x2 equal pixels. A 3x3 kernel on them sees 2x2 different values,
so that four 2x2 kernels of summed taps, one for each pixel of a block, do at half the size what the 3x3 kernel does at
full size, in 4/9 of the products. A 1x1 kernel takes 1/4. Along one axis, with taps a, b, c:

    upsampled   x0 x0 x1 x1 x2 x2        even pixels of the result: a x0 + (b + c) x1
    taps           a  b  c               odd pixels:                (a + b) x1 + c x2

    conv2d(interpolate(x, scale_factor=2), W, padding=1)  =  weave(conv2d(x, [W_even,even, ..., W_odd,odd], padding=1))

A modulation keeps the blocks, since it is the same all over a region, except at the *boundary pixels* of
:mod:`models.ops.regions`. Convolution is linear: what these few differ by is convolved by itself and added.
"""
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.ops import plain
from models.ops.plain import upsample
from models.ops.regions import BoundaryPixels, image_of, rows_of


def convolve(x: "Tensor | Upsampled", weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution with a 1x1 or 3x3 kernel that keeps the size."""
    if isinstance(x, Upsampled):
        return x.convolve(weight, bias)
    if weight.shape[2:] == (1, 1):  # a product of rows of pixels, which keeps channels-last tensors as they are
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return plain.convolve(x, weight, bias)


class Upsampled:
    """Activations [B, c, 2h, 2w] that are not made: ``upsample(x)`` for ``x`` [B, c, h, w], except that the
    ``boundary`` pixels differ from it by ``change`` [P, c]."""

    def __init__(self, x: Tensor, boundary: BoundaryPixels, change: Tensor):
        self.x, self.boundary, self.change = x, boundary, change

    @property
    def shape(self) -> torch.Size:
        batch, channels, height, width = self.x.shape
        return torch.Size((batch, channels, 2 * height, 2 * width))

    def convolve(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        kernel = weight.permute(2, 3, 0, 1).flatten(0, 2)  # [taps * c', c]
        changes = F.linear(self.change, kernel).view(-1, len(weight))  # [P * taps, c']
        if weight.shape[2:] == (1, 1):
            out, target = upsample(convolve(self.x, weight, bias)), self.boundary.pixel
        else:
            out = _convolve_upsampled(self.x, weight, bias)
            source, target = self.boundary.reach
            changes = F.embedding(source, changes)
        return image_of(rows_of(out).index_add(0, target, changes.to(out.dtype)), out.shape)


def _convolve_upsampled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv2d(upsample(x), weight, bias, padding=1) for a 3x3 kernel: four convolutions with 2x2 kernels, as one."""
    kernel = weight.permute(0, 2, 3, 1)  # [c', 3, 3, c], as it lies in memory
    kernels = torch.cat([part for rows in _summed_taps(kernel, 1) for part in _summed_taps(rows, 2)])  # [4c', 2, 2, c]
    return _Weave.apply(F.conv2d(x, kernels.permute(0, 3, 1, 2), None if bias is None else bias.repeat(4), padding=1))


def _summed_taps(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The kernels along ``dim`` of even and of odd pixels: taps that fall on equal pixels are added."""
    first, middle, last = kernel.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)


class _Weave(torch.autograd.Function):
    """[B, 4c, h+1, w+1] -> [B, c, 2h, 2w], channels-last: channels (2a+b)c.. at (i+a, j+b) go to pixel (2i+a, 2j+b)."""

    @staticmethod
    def forward(ctx, x):
        batch, channels, height, width = x.shape
        ctx.sizes = sizes = batch, height, width, 4, channels // 4
        parts = x.permute(0, 2, 3, 1).reshape(sizes)
        out = x.new_empty(batch, height - 1, 2, width - 1, 2, channels // 4)
        for a in (0, 1):
            for b in (0, 1):
                out[:, :, a, :, b] = parts[:, a:height - 1 + a, b:width - 1 + b, 2 * a + b]
        return out.view(batch, 2 * height - 2, 2 * width - 2, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        batch, height, width, _, channels = ctx.sizes
        rows = grad.permute(0, 2, 3, 1).reshape(batch, height - 1, 2, width - 1, 2, channels)
        parts = grad.new_zeros(ctx.sizes)
        for a in (0, 1):
            for b in (0, 1):
                parts[:, a:height - 1 + a, b:width - 1 + b, 2 * a + b] = rows[:, :, a, :, b]
        return parts.flatten(3).permute(0, 3, 1, 2)
