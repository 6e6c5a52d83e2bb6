"""Instance norm with a leaky ReLU behind it (:func:`models.ops.plain.instance_norm`).

``F.instance_norm`` copies channels-last tensors to and fro on every device. On the CPU the samples are taken one by
one, as batches of their own. Elsewhere sums are taken as numbers lie in memory, and the backward pass starts from the
output, which the next convolution keeps anyway.
"""
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.ops import backend, plain
from models.ops.modulation import channels_last
from util.precision import full_precision


def instance_norm(x: Tensor, eps: float, slope: float, impl: str | None = None) -> Tensor:
    """[B, c, h, w] -> [B, c, h, w], in the type of x on a device."""
    impl = backend.form(x, "instance_norm", impl)
    if impl == "plain":
        return plain.instance_norm(x, eps, slope)
    if impl == "triton" or not backend.on_host(x):
        return _InstanceNorm.apply(x, eps, slope, impl == "triton")
    samples = [F.batch_norm(sample, None, None, training=True, eps=eps) for sample in full_precision(x).split(1)]
    return torch.cat(samples) if slope == 1 else F.leaky_relu(torch.cat(samples), slope)


class _InstanceNorm(torch.autograd.Function):
    """lrelu(y) for y = (x - mean) * rstd, in the type of x, but computed in float32; channels-last stays so."""

    @staticmethod
    def forward(ctx, x, eps: float, slope: float, by_kernels: bool):
        ctx.slope, ctx.by_kernels = slope, by_kernels
        if by_kernels:
            out, rstd = backend.kernels().instance_norm(channels_last(x), eps, slope)
            ctx.save_for_backward(out, rstd)
            return out.permute(0, 3, 1, 2)
        wide = full_precision(x)
        var, mean = torch.var_mean(wide, dim=(2, 3), correction=0, keepdim=True)  # [B, c, 1, 1]
        rstd = var.add_(eps).rsqrt_()
        out = torch.addcmul(mean.mul_(rstd).neg_(), wide, rstd)
        out = (out if slope == 1 else F.leaky_relu_(out, slope)).to(x.dtype)
        ctx.save_for_backward(out, rstd)  # the next convolution keeps the output anyway
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        out, rstd = ctx.saved_tensors
        if ctx.by_kernels:
            grad_x = backend.kernels().instance_norm_grad(channels_last(grad), out, rstd, ctx.slope)
            return grad_x.permute(0, 3, 1, 2), None, None, None
        y, wide = full_precision(out), full_precision(grad)
        if ctx.slope != 1:
            wide = torch.ops.aten.leaky_relu_backward(wide, y, ctx.slope, True)
            y = F.leaky_relu(y, 1 / ctx.slope)
        # d x = rstd * (g - mean(g) - y * mean(g * y))
        mean = wide.mean((2, 3), keepdim=True).mul_(rstd).neg_()
        steepness = (wide * y).mean((2, 3), keepdim=True).mul_(rstd)
        return torch.addcmul(mean, wide, rstd).addcmul_(y, steepness, value=-1).to(out.dtype), None, None, None
