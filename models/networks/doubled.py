"""Convolutions of activations that were doubled in size and modulated since.

A modulation is the same all over a region. After a nearest doubling, the modulated activations are therefore blocks of
2x2 equal pixels, but for the few blocks in which regions meet. The blocks are convolved at half the size, which takes
4/9 of the work for a 3x3 kernel and 1/4 for a 1x1 one; what the other pixels differ by is added: both are linear.
"""
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.networks.layout import Strays, image_of, rows_of


def convolve(x: "Tensor | Doubled", weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution with a 1x1 or 3x3 kernel that keeps the size."""
    if isinstance(x, Doubled):
        return x.convolve(weight, bias)
    if weight.shape[2:] == (1, 1):  # a product of rows of pixels, which keeps channels-last tensors as they are
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, padding=1)


def double(x: Tensor) -> Tensor:
    """[B, c, h, w] -> [B, c, 2h, 2w] by nearest."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Doubled:
    """Activations [B, c, 2h, 2w] whose pixels are those of ``x`` [B, c, h, w], twice in each direction, but for the
    ``strays``, which differ from that by ``change`` [P, c]."""

    def __init__(self, x: Tensor, strays: Strays, change: Tensor):
        self.x, self.strays, self.change = x, strays, change

    @property
    def shape(self) -> torch.Size:
        batch, channels, height, width = self.x.shape
        return torch.Size((batch, channels, 2 * height, 2 * width))

    def convolve(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As :func:`convolve`."""
        kernel = weight.permute(2, 3, 0, 1).flatten(0, 2)  # [taps * c', c]
        changes = F.linear(self.change, kernel).view(-1, len(weight))  # [P * taps, c']
        if weight.shape[2:] == (1, 1):
            out, target = double(convolve(self.x, weight, bias)), self.strays.pixel
        else:
            out = _convolve_doubled(self.x, weight, bias)
            source, target = self.strays.reach
            changes = F.embedding(source, changes)
        return image_of(rows_of(out).index_add(0, target, changes.to(out.dtype)), out.shape)


def _convolve_doubled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv2d(double(x), weight, bias, padding=1) for a 3x3 kernel.

    Rows 2i and 2i+1 of the result see rows i-1, i, i and i, i, i+1 of ``x``: two rows each, and so for columns. These
    are four convolutions with 2x2 kernels, done as one.
    """
    kernel = weight.permute(0, 2, 3, 1)  # [c', 3, 3, c], as it lies in memory
    kernels = torch.cat([part for rows in _meeting(kernel, 1) for part in _meeting(rows, 2)])  # [4c', 2, 2, c]
    return _Weave.apply(F.conv2d(x, kernels.permute(0, 3, 1, 2), None if bias is None else bias.repeat(4), padding=1))


def _meeting(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The taps along ``dim`` that meet in one pixel, added: for even pixels and for odd ones."""
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
