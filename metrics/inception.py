"""The Inception network that FID is defined by, and its features.

FID compares features of one particular network: the Inception that TensorFlow published on 2015-12-05, ported to
PyTorch as ``pt_inception-2015-12-05-6726825d.pth``. It is torchvision's Inception v3 apart from its pooling branches:
average pools leave the zero padding out of the mean, and the last block takes a maximum instead. There are 1008
classes, whose scores FID does not use.
"""
import functools
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import inception as tv

from util.checkpoints import differences, is_state_dict, load_tensors
from util.errors import UserError
from util.weights import find_weights, sha256

# length of features -> the layers that lead to them; "" is a max pooling
_LAYERS = {
    64: ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", ""),  # [B,64,73,73]
    192: ("Conv2d_3b_1x1", "Conv2d_4a_3x3", ""),  # [B,192,35,35]
    768: ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),  # 17x17
    2048: ("Mixed_7a", "Mixed_7b", "Mixed_7c"),  # [B,2048,8,8]
}
FEATURE_DIMS = tuple(_LAYERS)
WEIGHTS_FILE = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_FILE}"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_HASH_START = "6726825d"
_INPUT_SIZE = 299


# 3×3, at the same size; in means, the padding does not count
_mean_pool = functools.partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_max_pool = functools.partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)


class _BlockA(tv.InceptionA):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_mean_pool(x)),
        ], 1)


class _BlockC(tv.InceptionC):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return torch.cat([
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_mean_pool(x)),
        ], 1)


class _BlockE(tv.InceptionE):
    def __init__(self, in_channels: int, pool):
        super().__init__(in_channels)
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat([
            self.branch1x1(x),
            self.branch3x3_2a(single), self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ], 1)


class FIDInception(nn.Module):
    """Images to spatially averaged features; state-dict keys are those of the weights file.

    :param dims: which features: 64 (after the first pooling), 192 (after the second), 768 (before the auxiliary
        classifier) or 2048 (before the final one).

    Use it in eval mode. :func:`load_inception` builds one that is ready for use.
    """

    kind = "inception"

    def __init__(self, dims: int = 2048):
        super().__init__()
        if dims not in FEATURE_DIMS:
            raise UserError(f"{dims} feature dimensions: Inception has layers of {', '.join(map(str, FEATURE_DIMS))}")
        self.dims = dims
        self.precision = "float32"
        self.weights = ""  # SHA-256 of the weights file
        self.Conv2d_1a_3x3 = tv.BasicConv2d(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = tv.BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = tv.BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = tv.BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = tv.BasicConv2d(80, 192, kernel_size=3)
        self.Mixed_5b = _BlockA(192, pool_features=32)
        self.Mixed_5c = _BlockA(256, pool_features=64)
        self.Mixed_5d = _BlockA(288, pool_features=64)
        self.Mixed_6a = tv.InceptionB(288)
        self.Mixed_6b = _BlockC(768, channels_7x7=128)
        self.Mixed_6c = _BlockC(768, channels_7x7=160)
        self.Mixed_6d = _BlockC(768, channels_7x7=160)
        self.Mixed_6e = _BlockC(768, channels_7x7=192)
        self.Mixed_7a = tv.InceptionD(768)
        self.Mixed_7b = _BlockE(1280, _mean_pool)
        self.Mixed_7c = _BlockE(2048, _max_pool)
        self.fc = nn.Linear(2048, 1008)  # in the weights file, never evaluated

    @property
    def device(self) -> torch.device:
        return self.Conv2d_1a_3x3.conv.weight.device

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of a batch of RGB images.

        :param images: [B,3,H,W] on any device; uint8 in 0..255, or floating point in [0, 1].
        :returns: [B, dims] float32 on the network's device. Convolutions of float32 are true float32, never TF32.
        """
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._features(self._network_input(images))

    def _network_input(self, images: torch.Tensor) -> torch.Tensor:
        weight = self.Conv2d_1a_3x3.conv.weight
        x = images.to(weight.device)
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        x = F.interpolate(x, size=(_INPUT_SIZE, _INPUT_SIZE), mode="bilinear", align_corners=False)
        return (2 * x - 1).to(weight.dtype, memory_format=torch.channels_last)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        for dims, layers in _LAYERS.items():
            for layer in layers:
                x = self.get_submodule(layer)(x) if layer else F.max_pool2d(x, kernel_size=3, stride=2)
            if dims == self.dims:
                return x.mean((2, 3), dtype=torch.float32)

    def fold_batch_norm(self) -> "FIDInception":
        """Merge every batch norm (eval mode) into the convolution before it: same features, less work."""
        for layer in self.modules():
            if isinstance(layer, tv.BasicConv2d) and not isinstance(layer.bn, nn.Identity):
                layer.conv = fuse_conv_bn_eval(layer.conv, layer.bn)
                layer.bn = nn.Identity()
        return self


def load_inception(dims: int = 2048, device: str | torch.device = "cpu", path: str | None = None,
                   precision: str = "float32") -> FIDInception:
    """The FID network with its weights, in eval mode on ``device``, batch norms folded, without gradients. Nothing is
    downloaded, and no random numbers are drawn.

    :param path: weights file; by default :data:`WEIGHTS_FILE` in the torch hub cache.
    :param precision: of the convolutions, one of :data:`PRECISIONS`; bfloat16 moves the features by some 1e-2.
    :raises UserError: the file is missing, damaged, or of another network.
    """
    file = find_weights(path, "Inception", WEIGHTS_URL, "give the file with --inception_weights FILE")
    with torch.device("meta"):  # the weights come from the file; do not draw any here
        network = FIDInception(dims)
    network.load_state_dict(_read_weights(file, network), strict=True, assign=True)
    digest = sha256(file)
    if path is None and not digest.startswith(_HASH_START):
        print(f"warning: {file} is not the published file (its SHA-256 does not begin with {_HASH_START}); FID will "
              "not be comparable with published figures", file=sys.stderr)
    network.eval().requires_grad_(False).fold_batch_norm()
    network.weights, network.precision = digest, precision
    return network.to(device=device, dtype=PRECISIONS[precision]).to(memory_format=torch.channels_last)


def _read_weights(path: str, network: FIDInception) -> dict[str, torch.Tensor]:
    """A state dict that fits ``network`` exactly: float32, batch counters (unused, not in all files) put in."""
    remedy = f"use {WEIGHTS_FILE} from {WEIGHTS_URL}"
    try:
        state = load_tensors(path)
    except UserError as error:
        raise UserError(f"{path}: cannot be read as PyTorch weights; {remedy}") from error
    if not is_state_dict(state):
        raise UserError(f"{path}: contains no state dict; {remedy}")
    expected = network.state_dict()
    state = {**state, **{key: torch.zeros((), dtype=torch.long) for key in expected if key.endswith("_tracked")}}
    if found := differences(state, expected):
        lines = "; ".join(line for _, line in (*found[:2], *found[2:][-1:]))  # missing keys come before unknown ones
        raise UserError(f"{path}: these are not the weights of the FID Inception: {lines}; {remedy}")
    broken = next((key for key, tensor in state.items() if not tensor.isfinite().all()), None)
    if broken:
        raise UserError(f"{path}: {broken} has values that are not finite; {remedy}")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
