"""The generator's residual block."""
import torch
from torch import Tensor, nn

from models.networks.normalization import LEAKY_SLOPE, Condition, MakeNorm
from models.networks.spectral import SpectralConv2d
from models.ops.modulation import Features
from models.ops.upsampled_convolution import convolve
from util.precision import working_dtype


class ResnetBlock(nn.Module):
    """out = shortcut(x) + conv_1(lrelu(norm_1(conv_0(lrelu(norm_0(x)))))), every norm a modulation (Figure 4 of SPADE).

    The shortcut is x itself, or conv_s(norm_s(x)) where the number of channels changes.
    """

    def __init__(self, fin: int, fout: int, make_norm: MakeNorm, spectral: bool):
        super().__init__()
        middle = min(fin, fout)
        conv = SpectralConv2d if spectral else nn.Conv2d
        self.learned_shortcut = fin != fout
        self.conv_0 = conv(fin, middle, 3, padding=1)
        self.conv_1 = conv(middle, fout, 3, padding=1)
        self.norm_0 = make_norm(fin)
        self.norm_1 = make_norm(middle)
        if self.learned_shortcut:
            self.conv_s = conv(fin, fout, 1, bias=False)
            self.norm_s = make_norm(fin)

    def forward(self, x: Tensor, condition: Condition, upsample: bool = False) -> Tensor:
        """[B, fin, h, w] -> [B, fout, h, w], or [B, fout, 2h, 2w] where ``x`` is to be upsampled first."""
        features = Features(x, upsample)
        if self.learned_shortcut:
            shortcut = modulated(self.conv_s, self.norm_s, features, condition, slope=1.0)
        else:
            shortcut = features.full
        dx = modulated(self.conv_0, self.norm_0, features, condition)
        dx = modulated(self.conv_1, self.norm_1, Features(dx), condition)
        return shortcut + dx


def modulated(conv: nn.Module, norm: nn.Module, features: Features, condition: Condition,
              slope: float = LEAKY_SLOPE) -> Tensor:
    """conv(lrelu(norm(features))). Spectral norm divides the weight by sigma; dividing what goes in does the same, and
    a modulation can do that for nothing, since a leaky ReLU passes positive factors on. So no copy of the weight is
    made. Not so in float16: its numbers end at 65504, and sigma is mostly far below 1."""
    weight, gain = (conv.weight_orig, conv.gain()) if isinstance(conv, SpectralConv2d) else (conv.weight, None)
    if gain is not None and working_dtype(weight) == torch.float16:
        weight, gain = weight * gain, None
    return convolve(norm(features, condition, slope, gain), weight, conv.bias)
