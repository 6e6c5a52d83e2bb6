"""VGG19 and the perceptual loss on it."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.checkpoints import load_tensors
from util.errors import UserError
from util.precision import full_precision
from util.weights import find_weights


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
        for n, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d):  # first, since the ReLU keeps order: a quarter of the numbers
                self.features[n - 1], self.features[n] = layer, self.features[n - 1]
        path = self.find(weights)
        try:
            state = {key.removeprefix("features."): value for key, value in load_tensors(path).items()}
            self.features.load_state_dict({key: state[key] for key in self.features.state_dict()}, assign=True)
        except Exception as error:
            raise UserError(f"{path}: these are not the weights of torchvision's VGG19; download {self.url} "
                            "again") from error
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def find(cls, weights: str | None = None) -> str:
        """The file of the weights. :raises UserError: it is not there."""
        return find_weights(weights, "VGG19", cls.url, "name its place with --vgg_weights FILE, or train with "
                            "--perceptual lite0 or --no_vgg_loss, which is not the published loss")

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> five activations."""
        outputs, start = [], 0
        for end in self.slice_ends:
            x = self.features[start:end](x)
            outputs.append(x)
            start = end
        return outputs


class VGGLoss(nn.Module):
    """Weighted L1 between VGG19 activations; images [B, 3, H, W] go in as they are, in [-1, 1].

    :param layer_weights: weights of relu1_1, relu2_1, relu3_1, relu4_1, relu5_1; those of weight 0 are skipped.
    """

    def __init__(self, layer_weights: Sequence[float], weights_file: str | None = None):
        super().__init__()
        self.vgg = VGG19(weights_file)
        self.layer_weights = tuple(layer_weights)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self.vgg(real)
        return sum(weight * F.l1_loss(full_precision(activation), full_precision(target))
                   for weight, activation, target in zip(self.layer_weights, self.vgg(fake), targets, strict=True)
                   if weight)
