"""Spectral normalisation (Miyato et al. 2018) with the state-dict keys of published checkpoints."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralConv2d(nn.Conv2d):
    """A convolution with weight / sigma, sigma the largest singular value of the weight as a matrix [out, in*kh*kw].

    Sigma is estimated by power iteration: in training, one iteration for each pass through a network, which the network
    asks for (:func:`power_iteration`); none in evaluation. The state dict holds ``weight_orig`` and the singular
    vectors ``weight_u`` [out] and ``weight_v`` [in*kh*kw].
    """

    eps = 1e-12

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        weight = self._parameters.pop("weight")
        self.register_parameter("weight_orig", weight)
        rows, columns = weight.flatten(1).shape
        self.register_buffer("weight_u", F.normalize(torch.randn(rows), dim=0, eps=self.eps))
        self.register_buffer("weight_v", F.normalize(torch.randn(columns), dim=0, eps=self.eps))
        self.power_iteration()

    @property
    def weight(self) -> Tensor:
        """The weight that is not normalised: who convolves with it multiplies by :meth:`gain`, as
        :func:`models.networks.resnet_block.modulated` does."""
        return self.weight_orig

    @torch.no_grad()
    def power_iteration(self) -> None:
        """Improve the singular vectors by one step, in place; not under autocast."""
        matrix = self._matrix()
        v = F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=self.eps)
        F.normalize(torch.mv(matrix, v), dim=0, eps=self.eps, out=self.weight_u)
        self.weight_v.copy_(v.view(*self.kernel_size, -1).permute(2, 0, 1).flatten())

    def _matrix(self) -> Tensor:
        """[out, kh*kw*in]: the weight in the order in which channels-last tensors lie in memory, so without a copy."""
        return self.weight_orig.permute(0, 2, 3, 1).flatten(1)

    def gain(self) -> Tensor:
        """1 / sigma = 1 / (u' W v), differentiable in W alone: the vectors count as constants.

        Positive, since u points along W v as of the last power iteration, of which there was one at the start.
        """
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            # copies, so that a later power iteration does not touch what this forward pass saved
            v = self.weight_v.view(-1, *self.kernel_size).permute(1, 2, 0).flatten().clone()
            return torch.dot(self.weight_u.clone(), torch.mv(self._matrix(), v)).reciprocal()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight_orig * self.gain(), self.bias)


def power_iteration(network: nn.Module) -> None:
    """One power iteration of every spectral norm in ``network``."""
    layers = [layer for layer in network.modules() if isinstance(layer, SpectralConv2d)]
    if layers:
        with torch.autocast(layers[0].weight_orig.device.type, enabled=False):
            for layer in layers:
                layer.power_iteration()
