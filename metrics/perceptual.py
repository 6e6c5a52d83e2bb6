"""Distances between images, as means over all pairs of some images: perceptual (LPIPS, or on EfficientNet-Lite0) or in
colour.

A distance is called with images [N, 3, H, W] in [-1, 1], N at least 2, and returns the mean over their N(N-1)/2 pairs:
a number for the whole picture, and a map [H, W] of how much every pixel has to do with it.
"""
import os
import warnings
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.efficientnet_lite import Lite0Loss
from util.checkpoints import load_tensors
from util.errors import UserError
from util.weights import find_weights

PairDistance = Callable[[Tensor], tuple[float, Tensor]]

WEIGHTS_FILE = "alexnet-owt-7be5be79.pth"
WEIGHTS_URL = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"


@torch.no_grad()
def rgb_distance(images: Tensor) -> tuple[float, Tensor]:
    """Mean absolute difference of the colours, in 0..1; the number is the mean of the map."""
    count = len(images)
    gaps = images.sort(0).values.diff(dim=0) / 2  # [N-1, 3, H, W], in the range 0..1
    below = torch.arange(1, count, device=images.device)
    apart = below * (count - below) / (count * (count - 1) / 2)  # share of the pairs that have the gap between them
    local = (gaps * apart.view(-1, 1, 1, 1)).sum(0).mean(0)  # [H, W]
    return local.mean().item(), local


class LPIPS:
    """Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018): the package
    ``lpips``, version 0.1 of its weights on AlexNet.

    The number is LPIPS as usual, every layer averaged over its own pixels. The map is what the package calls spatial:
    every layer enlarged bilinearly to the image's size, and summed. Its mean is close to the number, not equal.

    :param weights: file of torchvision's AlexNet weights; None looks in the torch hub cache. Nothing is downloaded.
    :raises UserError: no weights there, or not those of AlexNet; or the package is not installed.
    """

    def __init__(self, weights: str | None = None, device: str | torch.device = "cpu"):
        remedy = "give the file with --perceptual_weights FILE, or measure with --distance lite0 or rgb"
        self._network = _load(find_weights(weights, "AlexNet", WEIGHTS_URL, remedy)).to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[float, Tensor]:
        network = self._network
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            activations = network.net(network.scaling_layer(images.float()))
        return _sum_of_layers((weigh(_squared_difference(activation))
                               for weigh, activation in zip(network.lins, activations, strict=True)), images.shape[2:])


class Lite0Distance:
    """Squared distance of unit features of EfficientNet-Lite0: 0 in one direction, 2 at right angles, 4 in opposite
    directions. They are those of its perceptual loss, for which small pictures are doubled. The number is the mean over
    the pixels of a layer, and over layers; the map is made as that of :class:`LPIPS`.

    No layer on top was trained on judgements of people, and so this is not LPIPS.

    :raises UserError: the package with the network's weights is not installed.
    """

    def __init__(self, device: str | torch.device = "cpu"):
        self._loss = Lite0Loss().to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[float, Tensor]:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            activations = self._loss.activations(images.float())
        return _sum_of_layers((_squared_difference(activation).sum(1, keepdim=True) / len(activations)
                               for activation in activations), images.shape[2:])


def _squared_difference(activation: Tensor) -> Tensor:
    """Of features [N, c, h, w], made unit vectors, by channel [1, c, h, w]: the mean over all pairs. It is twice the
    (unbiased) variance, and so every image goes through the network once, and no pair is ever formed."""
    return 2 * F.normalize(activation, dim=1, eps=1e-10).var(0, keepdim=True)


def _sum_of_layers(layers: Iterable[Tensor], size: torch.Size) -> tuple[float, Tensor]:
    """The sum of maps [1, 1, h, w]: of their means, and of the maps enlarged to ``size``."""
    whole, local = 0.0, 0.0
    for layer in layers:
        whole += layer.mean().item()
        local = local + F.interpolate(layer, size=size, mode="bilinear", align_corners=False)[0, 0]
    return whole, local


def _load(path: str) -> nn.Module:
    """The package's network: the linear layers that it brings along, on the AlexNet of ``path``."""
    try:
        import lpips
    except ImportError as error:
        raise UserError(f"--distance lpips: the package lpips cannot be imported ({error}); install it with pip "
                        "install lpips, or measure with --distance lite0 or rgb") from error
    # its own way to the weights would download AlexNet's, and draw random ones first
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # it calls torchvision in an old-fashioned way
        network = lpips.LPIPS(net="alex", version="0.1", pretrained=False, pnet_rand=True, verbose=False)
    linear = torch.load(os.path.join(os.path.dirname(lpips.__file__), "weights", "v0.1", "alex.pth"),
                        map_location="cpu", weights_only=True)
    network.load_state_dict(linear, strict=False, assign=True)
    try:
        state = load_tensors(path)
        # slice1.0.weight of the package is features.0.weight of torchvision
        backbone = {key: state["features." + key.partition(".")[2]].float() for key in network.net.state_dict()}
        network.net.load_state_dict(backbone, assign=True)
    except Exception as error:
        raise UserError(f"{path}: these are not the weights of torchvision's AlexNet; download "
                        f"{WEIGHTS_URL} again") from error
    return network.eval().requires_grad_(False)
