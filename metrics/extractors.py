"""The networks that features of images come from: the Inception of FID, or EfficientNet-Lite0, whose weights a package
brings along.

An extractor takes images uint8 [B, 3, H, W] to features [B, dims] float32. Its numbers depend on ``kind``, ``dims``,
``precision`` and ``weights``, the SHA-256 of the file; ``device`` is where it computes.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.inception import PRECISIONS, FIDInception, load_inception
from models.networks.efficientnet_lite import FEATURES_NC, EfficientNetLite0, packaged_weights
from util.weights import sha256

_INPUT_SIZE = 224  # of the pictures that EfficientNet-Lite0 was trained on


class Kind(NamedTuple):
    """What the distances between features of one network are called: as they are printed, and as keys of JSON."""

    frechet: str
    kernel: str
    frechet_key: str
    kernel_key: str


KINDS = {
    "inception": Kind("FID", "KID", "fid", "kid"),
    "lite0": Kind("Fréchet distance (EfficientNet-Lite0)", "Kernel distance (EfficientNet-Lite0)",
                  "frechet_distance_lite0", "kernel_distance_lite0"),
}


class Lite0Extractor(nn.Module):
    """The features that EfficientNet-Lite0 classifies by; [B, 1280].

    Images of any size are brought to the one that the network was trained with, by a bilinear filter that averages
    when it shrinks. Their aspect is not kept, as it is not by FID's Inception.
    """

    kind, dims = "lite0", FEATURES_NC

    def __init__(self, device: str | torch.device = "cpu", precision: str = "float32"):
        super().__init__()
        file = packaged_weights()
        self.network = EfficientNetLite0(file)
        self.precision, self.weights = precision, sha256(file)
        self.to(device=device, dtype=PRECISIONS[precision]).to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        return self.network.stem.weight.device

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of RGB images, uint8 [B, 3, H, W] on any device. Convolutions of float32 are true
        float32, never TF32."""
        x = images.to(self.device).float() / 127.5 - 1
        x = F.interpolate(x, size=(_INPUT_SIZE, _INPUT_SIZE), mode="bilinear", align_corners=False, antialias=True)
        x = x.to(self.network.stem.weight.dtype, memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.network.pooled(x)


Extractor = FIDInception | Lite0Extractor


def load_extractor(kind: str, dims: int, device: str | torch.device, inception_weights: str | None,
                   precision: str) -> Extractor:
    """The network called ``kind``, ready for use; nothing is downloaded.

    :param dims: which features of Inception; those of EfficientNet-Lite0 are 1280.
    :param inception_weights: Inception's file; None looks in the torch hub cache.
    :raises UserError: its weights are not there, or not its own.
    """
    if kind == "lite0":
        return Lite0Extractor(device, precision)
    return load_inception(dims, device, inception_weights, precision)


def feature_dims(kind: str, of_inception: int) -> int:
    """Length of the features of a network, for Inception the one that was asked for."""
    return FEATURES_NC if kind == "lite0" else of_inception
