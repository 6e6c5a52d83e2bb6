"""Applying a table of factors and offsets to the pixels, forward and backward, in few passes over memory."""
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.networks.doubled import Doubled, double
from models.networks.layout import RegionMap, Regions, image_of, rows_of

# when activations stay halved until the convolution, see doubled.py
LEAST_PIXELS = 1024  # in a batch; for fewer, preparing the kernels takes longer than what they save
LEAST_CHANNELS = 128  # for fewer, taking the strays apart does
MOST_STRAYS = 0.3  # of the pixels
PIECE = 2**19  # numbers that the modulation works on at a time on the CPU


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 where autocast made it narrower: normalisations and losses are not computed in half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Features:
    """What goes into a modulation: activations ``x`` [B, c, h, w], at least float32, to be doubled in
    size if ``to_double``.

    A doubling by nearest changes neither mean nor variance.
    """

    def __init__(self, x: Tensor, double: bool = False):
        self.x, self.to_double = full_precision(x), double

    @cached_property
    def full(self) -> Tensor:
        """The activations at their final size."""
        return double(self.x) if self.to_double else self.x

    @property
    def count(self) -> int:
        """Values per channel, at their final size."""
        return self.x.numel() // self.x.shape[1] * (4 if self.to_double else 1)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (over n) of every channel, [c] float32 each."""
        return _Moments.apply(self.x)


def modulate(features: Features, factor: Tensor, offset: Tensor, regions: Regions, slope: float) -> Tensor | Doubled:
    """lrelu(x * factor[t] + offset[t]) for every pixel x of the features at their final size, t its region.

    :param factor: [T, c], a row for every region, and
    :param offset: [T, c].
    :param slope: of the leaky ReLU; 1: none.
    """
    if not stays_halved(features, regions):
        x = features.full
        return _Modulate.apply(x, factor, offset, regions.at(x.shape[2:]), slope)
    x, size = features.x, features.x.shape[2:]
    out, strays = _Modulate.apply(x, factor, offset, regions.at(size), slope), regions.strays(size)
    own = torch.addcmul(F.embedding(strays.region, offset), F.embedding(strays.parent, rows_of(x)),
                        F.embedding(strays.region, factor))  # [P, c]
    if slope != 1:
        own = F.leaky_relu(own, slope)
    return Doubled(out, strays, own - F.embedding(strays.parent, rows_of(out)))


def stays_halved(features: Features, regions: Regions) -> bool:
    """Whether the doubling waits for the convolution, see doubled.py."""
    batch, channels, *size = features.x.shape
    return (features.to_double and channels >= LEAST_CHANNELS and batch * size[0] * size[1] >= LEAST_PIXELS
            and regions.strays(size).share <= MOST_STRAYS)


class _Moments(torch.autograd.Function):
    """Mean and variance of every channel."""

    @staticmethod
    def forward(ctx, x):
        if x.device.type == "cpu":  # the quick way for channels-last tensors there
            mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
        else:
            var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_mean, grad_var):
        x, mean = ctx.saved_tensors
        count = x.numel() / len(mean)
        steepness = grad_var * (2 / count)  # d var / d x = 2 (x - mean) / n
        return image_of(torch.addcmul(grad_mean / count - steepness * mean, rows_of(x), steepness), x.shape)


class _Modulate(torch.autograd.Function):
    """out = lrelu(factor[t] * x + offset[t]), t the pixel's region; works on rows of pixels [N, c]."""

    @staticmethod
    def forward(ctx, x, factor, offset, regions: RegionMap, slope: float):
        out = image_of(_affine(rows_of(x), factor, offset, regions.flat, slope), x.shape)
        ctx.save_for_backward(x, factor, out)
        ctx.regions, ctx.slope = regions, slope
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, factor, out = ctx.saved_tensors
        if ctx.slope != 1:  # the output has the sign of what went into the leaky ReLU
            grad = torch.ops.aten.leaky_relu_backward(grad, out, ctx.slope, True)
        grad_rows = rows_of(grad)
        grad_offset = ctx.regions.sum(grad_rows)
        grad_factor = ctx.regions.sum(grad_rows * rows_of(x))
        grad_x = ctx.regions.spread(factor).mul_(grad_rows) if ctx.needs_input_grad[0] else None
        return grad_x if grad_x is None else image_of(grad_x, x.shape), grad_factor, grad_offset, None, None


def _affine(rows: Tensor, factor: Tensor, offset: Tensor, region: Tensor, slope: float) -> Tensor:
    """lrelu(rows * factor[region] + offset[region]), [N, c], from tables [T, c].

    On the CPU in pieces that stay in the cache, so that memory is passed through once.
    """
    piece = len(rows) if rows.is_cuda else max(1, PIECE // rows.shape[1])
    out = torch.empty_like(rows)
    factors = torch.empty_like(rows[:piece])
    for part, x, t in zip(out.split(piece), rows.split(piece), region.split(piece), strict=True):
        torch.index_select(offset, 0, t, out=part)
        part.addcmul_(torch.index_select(factor, 0, t, out=factors[:len(t)]), x)
        if slope != 1:
            F.leaky_relu_(part, slope)
    return out
