"""Multiscale PatchGAN discriminators (pix2pixHD)."""
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import LEAKY_SLOPE
from models.networks.normalization import InstanceNorm
from models.networks.spectral import SpectralConv2d


def norm_layer(norm: str, fin: int, fout: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """A convolution with the normalisation that ``norm`` (e.g. ``spectralinstance``) names.

    The bias is dropped in front of an instance norm, which would remove it again.
    """
    kind = norm.removeprefix("spectral")
    conv = SpectralConv2d if norm.startswith("spectral") else nn.Conv2d
    instance = kind == "instance"
    layers = [conv(fin, fout, kernel_size, stride=stride, padding=padding, bias=not instance)]
    if instance:
        layers.append(InstanceNorm())
    return nn.Sequential(*layers)


class NLayerDiscriminator(nn.Module):
    """PatchGAN of ``n_layers`` convolutions and a last one to a map of scores."""

    def __init__(self, channels: int, ndf: int, n_layers: int, norm: str):
        super().__init__()
        self.n_layers = n_layers
        self.model0 = nn.Sequential(nn.Conv2d(channels, ndf, 4, stride=2, padding=2), nn.LeakyReLU(LEAKY_SLOPE))
        width = ndf
        for n in range(1, n_layers):
            previous, width = width, min(width * 2, 512)
            stride = 1 if n == n_layers - 1 else 2
            layer = nn.Sequential(norm_layer(norm, previous, width, 4, stride, 2), nn.LeakyReLU(LEAKY_SLOPE))
            self.add_module(f"model{n}", layer)
        self.add_module(f"model{n_layers}", nn.Sequential(nn.Conv2d(width, 1, 4, stride=1, padding=2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, channels, H, W] -> the output of every layer; the last is the score map [B, 1, h, w]."""
        outputs = []
        for n in range(self.n_layers + 1):
            x = self.get_submodule(f"model{n}")(x)
            outputs.append(x)
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """``num_D`` PatchGANs, each on the input of the last at half its resolution."""

    def __init__(self, channels: int, ndf: int, n_layers: int, num_D: int, norm: str):
        super().__init__()
        self.num_D = num_D
        for i in range(num_D):
            self.add_module(f"discriminator_{i}", NLayerDiscriminator(channels, ndf, n_layers, norm))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """[B, semantic_nc + 3, H, W] -> per discriminator the outputs of its layers."""
        outputs = []
        for i in range(self.num_D):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(self.get_submodule(f"discriminator_{i}")(x))
        return outputs
