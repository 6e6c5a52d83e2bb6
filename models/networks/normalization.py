"""All norms: the modulations, which are the method (INADE, Section 3.2 of the paper; SPADE for comparison), batch and
instance norm under them, and the normalised convolutions of discriminators and encoders.

Both modulations are called as ``norm(features, condition, slope, gain)``: residual blocks need not know which one they
hold.
"""
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layout import Layout
from models.networks.spectral import SpectralConv2d
from models.ops.instance_norm import instance_norm
from models.ops.modulation import Features, modulate, region_table
from models.ops.plain import rows_at
from models.ops.upsampled_convolution import Upsampled
from util import distributed
from util.errors import UserError
from util.precision import full_precision, no_autocast

LEAKY_SLOPE = 0.2  # of every leaky ReLU


@dataclass(frozen=True)
class Condition:
    """What a modulation layer is conditioned on."""

    layout: Layout
    # [B, K, 2, noise_nc], one style per instance, shared by every layer; index 0 of axis 2 drives the scale, 1 the
    # shift. None where the modulation draws no styles (SPADE)
    noise: Tensor | None = None
    styles: Tensor | None = field(init=False, default=None)  # [T, 2, noise_nc], of the regions, for all layers

    def __post_init__(self) -> None:
        if self.noise is not None:
            sample, _, instance = self.layout.class_regions.ids
            rows = rows_at(sample * self.noise.shape[1] + instance, self.noise.flatten(0, 1))
            object.__setattr__(self, "styles", rows)  # frozen for everyone else


MakeNorm = Callable[[int], nn.Module]  # channels -> a modulation


class INADE(nn.Module):
    """Instance-adaptive modulation (Section 3.2): a pixel of class y in instance i becomes

        scale = weight[y,:,0] * fc_noise(noise[i,0]) + bias[y,:,0]
        shift = weight[y,:,1] * fc_noise(noise[i,1]) + bias[y,:,1]
        out   = scale * batchnorm(x) + shift

    Scale and shift are the same all over a region (one class in one instance), so they are computed once per region
    and spread over the pixels: :mod:`models.ops.plain` has both.
    """

    def __init__(self, channels: int, num_classes: int, noise_nc: int):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(num_classes, channels, 2))
        self.bias = nn.Parameter(torch.zeros(num_classes, channels, 2))
        self.param_free_norm = BatchNorm(channels)
        self.fc_noise = nn.Linear(noise_nc, channels)

    def forward(self, features: Features, condition: Condition, slope: float = 1.0,
                gain: Tensor | None = None) -> Tensor | Upsampled:
        """-> [B, c, h, w], at least float32, or what the convolution that follows works in.

        :param slope: negative slope of the leaky ReLU that follows; 1 leaves it out.
        :param gain: a positive factor [] on the result.
        """
        regions, norm = condition.layout.class_regions, self.param_free_norm
        table = self.table(condition.styles, regions.ids[1], gain)
        return modulate(features, table, *norm.statistics(features), norm.eps, regions, slope)

    def table(self, styles: Tensor, label: Tensor, gain: Tensor | None = None) -> Tensor:
        """Scale and shift of every region, [T, c, 2], from its style [T, 2, noise_nc] and its class [T]."""
        with no_autocast(styles.device):
            styles = self.fc_noise(styles)  # [T, 2, c]
        return region_table(styles, self.weight, self.bias, label, gain)


class SPADE(nn.Module):
    """Spatially-adaptive modulation (Equation 1 of Park et al., CVPR 2019): out = norm(x) * (1 + gamma) + beta, both
    convolved from the semantic input."""

    hidden = 128

    def __init__(self, channels: int, semantic_nc: int, param_free_norm: nn.Module, kernel_size: int):
        super().__init__()
        self.param_free_norm = param_free_norm
        padding = kernel_size // 2
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_nc, self.hidden, kernel_size, padding=padding), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(self.hidden, channels, kernel_size, padding=padding)
        self.mlp_beta = nn.Conv2d(self.hidden, channels, kernel_size, padding=padding)

    def forward(self, features: Features, condition: Condition, slope: float = 1.0,
                gain: Tensor | None = None) -> Tensor:
        """-> [B, c, h, w]; ``slope`` and ``gain`` as in :class:`INADE`."""
        x = features.full
        semantics = condition.layout.semantics.to(self.mlp_gamma.weight.dtype)
        semantics = F.interpolate(semantics, size=x.shape[2:], mode="nearest")
        hidden = self.mlp_shared(semantics)
        normalized = self.param_free_norm(full_precision(x))
        out = F.leaky_relu(normalized * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden), slope)
        return out if gain is None else out * gain


class BatchNorm(nn.BatchNorm2d):
    """Batch norm without affine parameters that does not count its batches; in training over all processes.

    Nothing depends on ``num_batches_tracked``; published checkpoints hold 0 there or nothing.
    """

    def __init__(self, channels: int):
        super().__init__(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and distributed.world_size() > 1:
            mean, var = self.statistics(Features(x))
            return (x - mean[:, None, None]) * torch.rsqrt(var + self.eps)[:, None, None]
        self._check(x.numel() // x.shape[1])
        return F.batch_norm(x, self.running_mean, self.running_var, None, None, self.training, self.momentum, self.eps)

    def statistics(self, features: Features) -> tuple[Tensor, Tensor]:
        """Mean and variance [c] to normalise with; updates the running ones in training.

        :raises UserError: a single value per channel in training, which has no variance.
        """
        count = features.count * distributed.world_size()
        self._check(count)
        if not self.training:
            running = self.running_mean, self.running_var
            return tuple(value.clone() for value in running) if torch.is_grad_enabled() else running  # may be saved
        mean, var = features.moments
        with torch.no_grad():
            torch._foreach_lerp_([self.running_mean, self.running_var], [mean, var * (count / (count - 1))],
                                 self.momentum)
        return mean, var

    def _check(self, count: int) -> None:
        if self.training and count == 1:
            raise UserError("a batch norm got only one value per channel (feature maps of 1x1 pixels): give "
                            "--batchSize 2 or a larger --crop_size")


class InstanceNorm(nn.Module):
    """Instance norm without affine parameters: every channel of every sample to mean 0 and variance 1; then a leaky
    ReLU of negative slope ``slope``, which 1 leaves out."""

    eps = 1e-5

    def __init__(self, slope: float = 1.0):
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, h, w] -> [B, c, h, w]; on the CPU at least float32."""
        if x.shape[2:].numel() == 1:
            raise UserError("an instance norm got feature maps of 1x1 pixels: give a larger --crop_size, a smaller "
                            "--num_D, or no instance norm")
        return instance_norm(x, self.eps, self.slope)


def normalized_conv(norm: str, fin: int, fout: int, kernel_size: int, stride: int, padding: int) -> nn.Module:
    """A convolution with the normalisation that ``norm`` (``--norm_D``, ``--norm_E``) names.

    The bias is dropped in front of an instance norm, which would remove it again.
    """
    conv = SpectralConv2d if norm.startswith("spectral") else nn.Conv2d
    instance = norm.removeprefix("spectral") == "instance"
    layer = conv(fin, fout, kernel_size, stride=stride, padding=padding, bias=not instance)
    return nn.Sequential(layer, InstanceNorm()) if instance else layer


def with_leaky_relu(layer: nn.Module) -> nn.Sequential:
    """A layer of :func:`normalized_conv` with a leaky ReLU behind it, which an instance norm takes over."""
    if isinstance(layer, nn.Sequential):
        layer[-1].slope = LEAKY_SLOPE
        return nn.Sequential(layer)
    return nn.Sequential(layer, nn.LeakyReLU(LEAKY_SLOPE))


@dataclass(frozen=True)
class NormName:
    """What a ``--norm_G`` text says."""

    spectral: bool
    kind: str  # batch | instance
    kernel_size: int

    def param_free_norm(self, channels: int) -> nn.Module:
        return BatchNorm(channels) if self.kind == "batch" else InstanceNorm()


def parse_norm_name(text: str, norm_mode: str) -> NormName:
    """Read e.g. ``spectralspadesyncbatch3x3``.

    :raises UserError: the text is not of that form, or not possible with ``norm_mode``.
    """
    named = "(spade|inade)" if norm_mode == "inade" else "(spade)"  # published networks of either have the first
    match = re.fullmatch(rf"(spectral)?{named}(syncbatch|batch|instance)([13579])x\4", text)
    if not match:
        raise UserError(f"--norm_G {text}: expected [spectral]{named}(syncbatch|batch|instance)KxK with odd K, e.g. "
                        "spectralspadesyncbatch3x3")
    kind = "instance" if match[3] == "instance" else "batch"
    if norm_mode == "inade" and kind == "instance":
        raise UserError(f"--norm_G {text}: INADE needs batch norm; use --norm_G spectralspadesyncbatch3x3")
    return NormName(match[1] is not None, kind, int(match[4]))
