"""The networks that features of images come from: the Inception of FID, or EfficientNet-Lite0 and Lite2, whose weights
packages bring along.

An extractor takes images uint8 [B, 3, H, W] to features [B, dims] float32. Its numbers depend on ``kind``, ``dims``,
``precision`` and ``weights``, the SHA-256 of the file; ``device`` is where it computes.
"""
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.inception import PRECISIONS, FIDInception, load_inception
from models.networks.efficientnet_lite import FEATURES_NC, LITE0, LITE2, EfficientNetLite, packaged_weights
from util.weights import sha256


class Kind(NamedTuple):
    """What the distances between features of one network are called: as they are printed, and as keys of JSON."""

    frechet: str
    kernel: str
    frechet_key: str
    kernel_key: str


LITE = {"lite0": LITE0, "lite2": LITE2}
KINDS = {"inception": Kind("FID", "KID", "fid", "kid"),
         **{key: Kind(f"Fréchet distance ({variant.name})", f"Kernel distance ({variant.name})",
                      f"frechet_distance_{key}", f"kernel_distance_{key}") for key, variant in LITE.items()}}


class LiteExtractor(nn.Module):
    """The features that an EfficientNet-Lite classifies by; [B, 1280].

    Images of any size are brought to that of the pictures that the network was trained on. On Lite0 they become square,
    as for FID's Inception, by a bilinear filter; on Lite2 they get as many pixels and keep their aspect, by a bicubic
    one. Both filters average where they shrink.
    """

    dims = FEATURES_NC

    def __init__(self, kind: str, device: str | torch.device = "cpu", precision: str = "float32"):
        super().__init__()
        self.kind, self._variant = kind, LITE[kind]
        file = packaged_weights(self._variant)
        self.network = EfficientNetLite(self._variant, file)
        self.precision, self.weights = precision, sha256(file)
        self.to(device=device, dtype=PRECISIONS[precision]).to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        return self.network.stem.weight.device

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """That images of this size are brought to."""
        side = self._variant.side
        if self.kind == "lite0":
            return side, side
        factor = math.sqrt(side * side / (height * width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of RGB images, uint8 [B, 3, H, W] on any device. Convolutions of float32 are true
        float32, never TF32."""
        x = images.to(self.device).float() / 127.5 - 1
        filter_name = "bilinear" if self.kind == "lite0" else "bicubic"
        x = F.interpolate(x, self.input_size(*x.shape[2:]), mode=filter_name, align_corners=False, antialias=True)
        x = x.clamp(-1, 1).to(self.network.stem.weight.dtype, memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.network.pooled(x)


Extractor = FIDInception | LiteExtractor


def load_extractor(kind: str, dims: int, device: str | torch.device, inception_weights: str | None,
                   precision: str) -> Extractor:
    """The network called ``kind``, ready for use; nothing is downloaded.

    :param dims: which features of Inception; those of EfficientNet-Lite are 1280.
    :param inception_weights: Inception's file; None looks in the torch hub cache.
    :raises UserError: its weights are not there, or not its own.
    """
    if kind in LITE:
        return LiteExtractor(kind, device, precision)
    return load_inception(dims, device, inception_weights, precision)


def feature_dims(kind: str, of_inception: int) -> int:
    """Length of the features of a network, for Inception the one that was asked for."""
    return FEATURES_NC if kind in LITE else of_inception
