"""Spectral normalisation (Miyato et al. 2018) with the state-dict keys of published checkpoints."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.ops import backend, plain
from util.precision import no_autocast


class SpectralConv2d(nn.Conv2d):
    """A convolution with weight / sigma, sigma the largest singular value of the weight as a matrix [out, in*kh*kw].

    Sigma is estimated by power iteration: in training, one iteration for each pass through a network, which the network
    asks for all layers at once (:func:`power_iteration`); a layer whose weight may have moved makes one by itself.
    None in evaluation. The state dict holds ``weight_orig`` and the singular vectors ``weight_u`` [out] and
    ``weight_v`` [in*kh*kw].

    There is no ``weight``. To convolve with ``weight_orig``, multiply the result by :meth:`gain`, as
    :func:`models.networks.resnet_block.modulated` does.
    """

    eps = 1e-12

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        weight = self._parameters.pop("weight")
        self.register_parameter("weight_orig", weight)
        rows, columns = weight.flatten(1).shape
        self.register_buffer("weight_u", F.normalize(torch.randn(rows), dim=0, eps=self.eps))
        self.register_buffer("weight_v", F.normalize(torch.randn(columns), dim=0, eps=self.eps))
        self.iterated: tuple[Tensor, Tensor, Tensor] | None = None  # 1/sigma, u and v of the last iteration
        self.iterated_at = -1  # the version of the weight then; -1: it may have moved since
        self.power_iteration()

    def power_iteration(self) -> None:
        """Improve the singular vectors by one step, in place."""
        _iterate([self])

    def matrix(self) -> Tensor:
        """[out, kh*kw*in]: the weight in the order in which channels-last tensors lie in memory, so without a copy."""
        return self.weight_orig.permute(0, 2, 3, 1).flatten(1)

    def v_of_matrix(self) -> Tensor:
        """[kh, kw, in]: ``weight_v`` in the order of :meth:`matrix`, a view."""
        return self.weight_v.view(-1, *self.kernel_size).permute(1, 2, 0)

    def gain(self) -> Tensor:
        """1 / sigma = 1 / (u' W v), differentiable in W alone: the vectors count as constants.

        Positive, since u points along W v as of the last power iteration, of which there was one at the start. In
        training, the |W v| of the last iteration is sigma already.
        """
        if self.training and self.iterated:
            if self.weight_orig._version != self.iterated_at:
                self.power_iteration()
            return _Gain.apply(self.weight_orig, *self.iterated, self)
        with torch.no_grad(), no_autocast(self.weight_orig.device):
            u, v = self.weight_u, self.v_of_matrix().flatten()
            gain = torch.dot(u, torch.mv(self.matrix(), v)).reciprocal()
        if torch.is_grad_enabled():  # copies, so that a later power iteration does not touch what this pass saves
            u, v = u.clone(), v.clone()
        return _Gain.apply(self.weight_orig, gain, u, v, self)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.iterated_at = self.weight_orig._version  # of a copy: its weight counts its changes anew

    def _load_from_state_dict(self, *args) -> None:
        self.iterated = None  # of another weight
        super()._load_from_state_dict(*args)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight_orig * self.gain(), self.bias)


def power_iteration(network: nn.Module) -> None:
    """One power iteration of every spectral norm in ``network``."""
    layers = [layer for layer in network.modules() if isinstance(layer, SpectralConv2d)]
    if layers:
        _iterate(layers)


@torch.no_grad()
def _iterate(layers: Sequence[SpectralConv2d]) -> None:
    """One power iteration of several layers together, which takes fewer launches on CUDA. The vectors are new tensors,
    copied into the buffers: what earlier passes saved stays as it is."""
    device = layers[0].weight_orig.device
    with no_autocast(device):
        matrices = [layer.matrix() for layer in layers]
        v, _ = _normalized([torch.mv(matrix.t(), layer.weight_u)
                            for matrix, layer in zip(matrices, layers, strict=True)])
        u, sigma = _normalized([torch.mv(*pair) for pair in zip(matrices, v, strict=True)])
        gain = torch._foreach_reciprocal(sigma)
    torch._foreach_copy_([layer.weight_u for layer in layers], u)
    views = [layer.v_of_matrix() for layer in layers]
    torch._foreach_copy_(views, [vector.view_as(view) for vector, view in zip(v, views, strict=True)])
    for layer, *iterated in zip(layers, gain, u, v, strict=True):
        layer.iterated, layer.iterated_at = tuple(iterated), layer.weight_orig._version


def _normalized(vectors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The vectors brought to length 1, and the lengths that they had."""
    lengths = torch._foreach_norm(vectors)
    return torch._foreach_div(vectors, torch._foreach_clamp_min(lengths, SpectralConv2d.eps)), lengths


class _Gain(torch.autograd.Function):
    """1 / sigma as it is given, with its gradient: d sigma / d W = u v', so d (1 / sigma) / d W = -u v' / sigma^2."""

    @staticmethod
    def forward(ctx, weight, gain, u, v, layer: SpectralConv2d):
        ctx.save_for_backward(gain, u, v)
        ctx.shape, ctx.layer = weight.shape, layer
        return gain.view_as(gain)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        ctx.layer.iterated_at = -1  # an optimiser may follow, and fused ones count no version
        gain, u, v = ctx.saved_tensors
        out, fin, *kernel = ctx.shape
        form = backend.kernels() if backend.form(u, "gain_grad") == "triton" else plain
        matrix = form.gain_grad(grad, gain, u, v)  # [out, kh*kw*in]
        return matrix.view(out, *kernel, fin).permute(0, 3, 1, 2), *[None] * 4
