"""The generator's residual block, and VGG19 for the perceptual loss."""

import torch
from torch import Tensor, nn

from models.networks.doubled import convolve
from models.networks.normalization import Condition, Features, MakeNorm
from models.networks.spectral import SpectralConv2d
from util.errors import UserError
from util.weights import find_weights

LEAKY_SLOPE = 0.2


class ResnetBlock(nn.Module):
    """out = shortcut(x) + conv_1(lrelu(norm_1(conv_0(lrelu(norm_0(x)))))), every norm a modulation.

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

    def forward(self, x: Tensor, condition: Condition, double: bool = False) -> Tensor:
        """[B, fin, h, w] -> [B, fout, h, w], or [B, fout, 2h, 2w] where ``x`` is to be doubled first."""
        features = Features(x, double)
        if self.learned_shortcut:
            shortcut = modulated(self.conv_s, self.norm_s, features, condition, slope=1.0)
        else:
            shortcut = features.full
        dx = modulated(self.conv_0, self.norm_0, features, condition)
        dx = modulated(self.conv_1, self.norm_1, Features(dx), condition)
        return shortcut + dx


def modulated(conv: nn.Module, norm: nn.Module, features: Features, condition: Condition,
              slope: float = LEAKY_SLOPE) -> Tensor:
    """conv(lrelu(norm(features))).

    Spectral norm divides the weight by sigma; dividing what goes in does the same, and a modulation can do that for
    nothing, since a leaky ReLU passes positive factors on. So no copy of the weight is made.
    """
    gain = conv.gain() if isinstance(conv, SpectralConv2d) else None
    return convolve(norm(features, condition, slope, gain), conv.weight, conv.bias)


class VGG19(nn.Module):
    """Activations relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of torchvision's VGG19; parameters are frozen.

    :param weights: file of torchvision's weights; None looks in the torch hub cache.
    :raises UserError: no weights there, or not those of VGG19.
    """

    url = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    slice_ends = (2, 7, 12, 21, 30)  # after each of the five ReLUs in `features`

    def __init__(self, weights: str | None = None):
        super().__init__()
        import torchvision  # takes more than a second, and only training with this loss needs it

        with torch.device("meta"):  # no random weights for the file's to replace
            self.features = torchvision.models.vgg19(weights=None).features[: self.slice_ends[-1]]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the activations are outputs
        self.features.load_state_dict(self._read(weights), assign=True)
        self.requires_grad_(False)
        self.eval()

    def _read(self, weights: str | None) -> dict[str, Tensor]:
        path = find_weights(weights, "VGG19", self.url,
                            "name its place with --vgg_weights FILE, or train with --no_vgg_loss")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = {key.removeprefix("features."): value for key, value in state.items()}
            expected = self.features.state_dict()
            state = {key: state[key] for key in expected}
            if any(state[key].shape != expected[key].shape for key in expected):
                raise ValueError
        except Exception as error:
            raise UserError(f"{path}: not the weights of torchvision's VGG19; download {self.url} again") from error
        return state

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> five activations."""
        outputs, start = [], 0
        for end in self.slice_ends:
            x = self.features[start:end](x)
            outputs.append(x)
            start = end
        return outputs
