"""Modulation by region (:func:`models.ops.plain.modulate`), with the batch norm and the leaky ReLU folded in.

For pixel n of region t, mean and rstd those of the batch norm:

    lrelu(scale[t] * (x[n] - mean) * rstd + shift[t])  =  lrelu(factor[t] * x[n] + offset[t])
    factor = scale * rstd        offset = shift - factor * mean

    x [N, c]  --- times factor[t(n)], plus offset[t(n)], leaky ReLU --->  out [N, c]      one pass over memory

Backward, the gradients of factor and offset are sums over regions:

    d offset[t] = sum of g[n]        d factor[t] = sum of g[n] * x[n]

Where there are kernels (:mod:`models.ops.kernels`), one pass forward upsamples as well, and two backward go through the
batch norm too. With g the gradient before the leaky ReLU and v[n] = (x[n] - mean) * rstd, of N values:

    d shift[t] = sum over n in t of g[n]         d scale[t] = sum over n in t of g[n] * v[n]
    d x[n] = rstd * (scale[t] * g[n]  -  1/N * sum over t of scale[t] * (d shift[t] + v[n] * d scale[t]))
"""
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.ops import backend, plain
from models.ops.regions import RegionMap, Regions, image_of, rows_of
from models.ops.upsampled_convolution import Upsampled
from util import distributed
from util.precision import full_precision, working_dtype

# when upsampling waits for the convolution, see upsampled_convolution.py; measured on a CPU
LEAST_PIXELS = 1024  # in a batch; for fewer, preparing the kernels takes longer than what they save
LEAST_CHANNELS = 128  # for fewer, treating the boundary pixels apart does
MOST_BOUNDARY = 0.3  # share of boundary pixels
PIECE = 2**19  # numbers that the modulation works on at a time on the CPU, so that they stay in the cache


class Features:
    """What goes into a modulation: activations ``x`` [B, c, h, w], which are upsampled before it if ``upsampled``.

    At least float32, except where kernels read half precision and compute in float32. Nearest upsampling changes
    neither mean nor variance.
    """

    def __init__(self, x: Tensor, upsampled: bool = False, impl: str | None = None):
        wide = backend.form(x, "modulate", impl) != "triton"
        self.x, self.upsampled, self._impl = full_precision(x) if wide else x, upsampled, impl

    @cached_property
    def full(self) -> Tensor:
        """The activations at their final size."""
        return plain.upsample(self.x) if self.upsampled else self.x

    @property
    def count(self) -> int:
        """Values per channel, at their final size."""
        return self.x.numel() // self.x.shape[1] * (4 if self.upsampled else 1)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (over n) of every channel, [c] float32 each; over all processes, which have equally many
        values."""
        return _Moments.apply(self.x, self._impl)


def region_table(styles: Tensor, weight: Tensor, bias: Tensor, label: Tensor, gain: Tensor | None = None,
                 impl: str | None = None) -> Tensor:
    """See :func:`models.ops.plain.region_table`."""
    if backend.form(styles, "region_table", impl) == "triton":
        return _RegionTable.apply(styles, weight, bias, label, gain)
    return plain.region_table(styles, weight, bias, label, gain)


def modulate(features: Features, table: Tensor, mean: Tensor, var: Tensor, eps: float, regions: Regions,
             slope: float, impl: str | None = None) -> Tensor | Upsampled:
    """:func:`models.ops.plain.modulate` of the features at their final size.

    :param mean: [c]; with ``var`` the features' :attr:`~Features.moments`, or constants.
    """
    impl = backend.form(features.x, "modulate", impl)
    if impl == "triton":
        height, width = features.x.shape[2:]
        size = (2 * height, 2 * width) if features.upsampled else (height, width)
        return _NormModulate.apply(features.x, table, mean.detach(), var.detach(), eps, mean.requires_grad,
                                   regions.at(size), slope, working_dtype(features.x))
    if impl == "plain":
        return plain.modulate(features.full, table, mean, var, eps, regions.at(features.full.shape[2:]), slope)
    scale, shift = table.unbind(-1)  # [T, c] each
    factor = scale * torch.rsqrt(var + eps)
    offset = shift - factor * mean
    if not upsamples_later(features, regions):
        x = features.full
        return _Modulate.apply(x, factor, offset, regions.at(x.shape[2:]), slope)
    x, size = features.x, features.x.shape[2:]
    out, boundary = _Modulate.apply(x, factor, offset, regions.at(size), slope), regions.boundary(size)
    own = torch.addcmul(F.embedding(boundary.region, offset), F.embedding(boundary.parent, rows_of(x)),
                        F.embedding(boundary.region, factor))  # [P, c]
    if slope != 1:
        own = F.leaky_relu(own, slope)
    return Upsampled(out, boundary, own - F.embedding(boundary.parent, rows_of(out)))


def upsamples_later(features: Features, regions: Regions) -> bool:
    """Whether upsampling waits for the convolution.

    Never on a GPU: there it takes hundreds of small launches and tables whose sizes no one knows beforehand, to save a
    quarter of the products of large batches.
    """
    batch, channels, *size = features.x.shape
    return (features.upsampled and backend.form(features.x, "upsampled_convolution") == "fast"
            and channels >= LEAST_CHANNELS and batch * size[0] * size[1] >= LEAST_PIXELS
            and regions.boundary(size).share <= MOST_BOUNDARY)


class _Moments(torch.autograd.Function):
    """Mean and variance of every channel, over all processes."""

    @staticmethod
    def forward(ctx, x, impl: str | None):
        if backend.form(x, "moments", impl) == "plain":
            mean, var = plain.moments(x)
        else:  # one pass over channels-last tensors, also of half precision
            mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
        mean, var = distributed.pooled_moments(mean, var)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_mean, grad_var):
        x, mean = ctx.saved_tensors
        grad_mean, grad_var = distributed.summed([grad_mean, grad_var])
        count = x.numel() / len(mean) * distributed.world_size()
        steepness = grad_var * (2 / count)  # d var / d x = 2 (x - mean) / n
        grad_x = torch.addcmul(grad_mean / count - steepness * mean, rows_of(x), steepness)
        return image_of(grad_x, x.shape), None


class _RegionTable(torch.autograd.Function):
    """:func:`region_table` by kernels, whose tables lie in memory as [T, 2, c]."""

    @staticmethod
    def forward(ctx, styles, weight, bias, label, gain):
        tensors = styles.contiguous(), weight, bias, label, gain
        ctx.save_for_backward(*tensors)
        return backend.kernels().region_table(*tensors).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.transpose(1, 2).contiguous()
        styles, weight, bias, gain = backend.kernels().region_table_grad(grad, *ctx.saved_tensors)
        return styles, weight, bias, None, gain


class _NormModulate(torch.autograd.Function):
    """lrelu(scale[t] * (x - mean) / sqrt(var + eps) + shift[t]) by kernels, with x upsampled where the regions are
    twice as large.

    If ``of_x``, mean and variance are those of x, and the gradient of x is the whole one.
    """

    @staticmethod
    def forward(ctx, x, table, mean, var, eps: float, of_x: bool, regions: RegionMap, slope: float, dtype: torch.dtype):
        pixels, table = channels_last(x), table.transpose(1, 2).contiguous()
        ctx.save_for_backward(pixels, table, mean, var)
        ctx.eps, ctx.of_x, ctx.regions, ctx.slope = eps, of_x, regions, slope
        out = backend.kernels().modulate(pixels, table, mean, var, eps, regions.index, slope, dtype)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, table, mean, var = ctx.saved_tensors
        args, index = (x, channels_last(grad), table, mean, var, ctx.eps), ctx.regions.index
        kernels = backend.kernels()
        grad_table = kernels.modulate_sums(*args, index, ctx.regions.segments, ctx.slope)
        grad_x = by_moments = None
        if ctx.of_x:
            count = x.numel() // len(mean) * distributed.world_size()
            by_moments, = distributed.summed([kernels.moments_grad(grad_table, table, count)])
        if ctx.needs_input_grad[0]:
            grad_x = kernels.modulate_grad(*args, by_moments, index, ctx.slope).permute(0, 3, 1, 2)
        return grad_x, grad_table.transpose(1, 2), *[None] * 7


def channels_last(x: Tensor) -> Tensor:
    """[B, c, h, w] -> [B, h, w, c], contiguous; a view for channels-last tensors."""
    return x.permute(0, 2, 3, 1).contiguous()


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
    """lrelu(rows * factor[region] + offset[region]), [N, c], from tables [T, c]; on the CPU in pieces of ``PIECE``."""
    piece = len(rows) if rows.is_cuda else max(1, PIECE // rows.shape[1])
    out = torch.empty_like(rows)
    factors = torch.empty_like(rows[:piece])
    for part, x, t in zip(out.split(piece), rows.split(piece), region.split(piece), strict=True):
        torch.index_select(offset, 0, t, out=part)
        part.addcmul_(torch.index_select(factor, 0, t, out=factors[:len(t)]), x)
        if slope != 1:
            F.leaky_relu_(part, slope)
    return out
