"""The method's operations in plain PyTorch, as the paper says them. Read this to know what is computed.
(Where the styles of an instance come from: ``INADE`` in models/networks/normalization.py.)

The other files of this folder compute the same with less work or in fused kernels; :mod:`models.ops.backend` chooses,
and tests hold every other form to this one. T regions (one class in one instance), N pixels, N' centres of
a convolution, C classes, c channels.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.regions import RegionMap, image_of
from util.precision import full_precision

# ---- INADE (Section 3.2)


def region_table(styles: Tensor, weight: Tensor, bias: Tensor, label: Tensor, gain: Tensor | None = None) -> Tensor:
    """Scale and shift of every region t of class y: gain * (weight[y] * styles[t] + bias[y]), [T, c, 2].

    :param styles: [T, 2, c], of scale and shift: the noise of each region's instance, projected to the channels.
    :param weight: [C, c, 2].
    :param bias: [C, c, 2].
    :param label: [T], the regions' classes.
    :param gain: a factor []; None leaves it out.
    """
    table = torch.addcmul(rows_at(label, bias), rows_at(label, weight), styles.transpose(1, 2))
    return table if gain is None else table * gain


def modulate(x: Tensor, table: Tensor, mean: Tensor, var: Tensor, eps: float, regions: RegionMap,
             slope: float) -> Tensor:
    """lrelu(scale * batchnorm(x) + shift), with the scale and shift of every pixel's region.

    :param x: [B, c, h, w], as the result.
    :param table: [T, c, 2].
    :param mean: [c], as is ``var``.
    :param slope: of the leaky ReLU.
    """
    normalized = (x - mean[:, None, None]) * torch.rsqrt(var + eps)[:, None, None]
    scale, shift = (image_of(regions.spread(part), x.shape) for part in table.unbind(-1))  # [B, c, h, w] each
    return F.leaky_relu(scale * normalized + shift, slope)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (over n) of every channel of [B, c, h, w]."""
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return mean, var


# ---- convolutions


def upsample(x: Tensor) -> Tensor:
    """[B, c, h, w] -> [B, c, 2h, 2w] by nearest."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution with a 1x1 or 3x3 kernel that keeps the size."""
    return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)


def instance_convolution(x: Tensor, weight: Tensor, bias: Tensor, index: Tensor, stride: int) -> Tensor:
    """Instance-aware 3x3 convolution (Section 3.3): a centre sees only pixels of its own instance, the rest as 0.

    :param x: [B, c, h, w]; the result is [B, c', ceil(h/stride), ceil(w/stride)].
    :param index: [B, h, w], the number of every pixel's instance.
    """
    batch, _, height, width = x.shape
    seen = patches(x.permute(0, 2, 3, 1), index, stride).flatten(1)  # [N', 9c]
    rows = F.linear(seen, weight.permute(0, 2, 3, 1).flatten(1), bias)
    return image_of(rows, torch.Size((batch, len(weight), -(-height // stride), -(-width // stride))))


def patches(x: Tensor, index: Tensor, stride: int) -> Tensor:
    """[B, h, w, c] -> [N', 9, c]: the 3x3 pixels around every centre, 0 where they lie in another instance or beyond
    the image."""
    seen = taps(index[..., None], stride, -1)  # [N', 9, 1]
    return torch.where(seen == seen[:, 4:5], taps(x, stride, 0), 0)


def taps(x: Tensor, stride: int, fill: int) -> Tensor:
    """[B, h, w, c] -> [N', 9, c]: what every centre has at its nine taps, in the order of a 3x3 weight; ``fill`` beyond
    the image."""
    _, height, width, _ = x.shape
    padded = F.pad(x, (0, 0, 1, 1, 1, 1), value=fill)
    shifted = [padded[:, dy:dy + height:stride, dx:dx + width:stride] for dy in range(3) for dx in range(3)]
    return torch.stack(shifted, dim=3).flatten(0, 2)


def patch_sums(rows: Tensor, regions: RegionMap) -> Tensor:
    """[N, c] -> [T, 9, c]: the sums over each region's pixels of their :func:`patches`. Divided by the number of pixels
    and multiplied by a weight, they are the averages of an instance-aware convolution."""
    around = patches(full_precision(rows).view(*regions.index.shape, -1), regions.index, 1)
    return regions.sum(around.flatten(1)).view(-1, 9, rows.shape[1])


# ---- norms


def instance_norm(x: Tensor, eps: float, slope: float) -> Tensor:
    """lrelu of every channel of every sample brought to mean 0 and variance 1, at least float32."""
    return F.leaky_relu(F.instance_norm(full_precision(x), eps=eps), slope)


def gain_grad(grad: Tensor, gain: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The gradient [n, m] of a weight W through gain = 1 / (u' W v): -grad * gain^2 * u v'."""
    return torch.outer(u * (-grad * gain * gain), v)


# ---- what they share


def rows_at(index: Tensor, table: Tensor) -> Tensor:
    """``table[index]`` [T, ...] for ``index`` [T] and a table [n, ...]. Backward, indexing sorts on CUDA, and
    ``F.embedding`` does not where rows are few."""
    return F.embedding(index, table.flatten(1)).view(-1, *table.shape[1:])
