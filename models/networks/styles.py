"""Styles: what a layout leaves open. Drawn from the prior, or from the posterior that an encoder sees in a photo."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layout import Layout
from models.ops.tables import sent

# a source of noise: standard normal numbers [B, *shape] for the shape of one sample's
Normal = Callable[..., Tensor]


def noise_of_batch(layout: Layout) -> Normal:
    """Noise from PyTorch's default generator. Processes that share a batch all draw the noise of the whole one, from
    equal generators, and keep their rows: so it does not depend on how many they are."""

    def normal(*shape: int) -> Tensor:
        rows = torch.randn(layout.part.count * layout.batch_size, *shape, device=layout.label.device)
        return rows.chunk(layout.part.count)[layout.part.index]

    return normal


def noise_of_samples(layout: Layout, seeds: Sequence[int]) -> Normal:
    """Noise that belongs to the sample: each has a generator of its own, and every row of its shape is drawn by itself,
    so that neither the rest of the batch nor its K makes a difference."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(*shape: int) -> Tensor:
        count, *row = shape if len(shape) > 1 else (1, *shape)
        drawn = [torch.randn(row, generator=generator) for generator in generators for _ in range(count)]
        return sent(torch.stack(drawn).reshape(-1, *shape), layout.label.device)

    return normal


@dataclass(frozen=True)
class Styles:
    """The random numbers of a batch of pictures. None where the norm mode draws none."""

    z: Tensor | None = None  # [B, z_dim], what the generator starts from (published name: ``noise_ins``)
    noise: Tensor | None = None  # [B, K, 2, noise_nc], of every instance (INADE): [:, :, 0] for scales, 1 for shifts

    def tensors(self) -> tuple[Tensor, ...]:
        """Those that there are."""
        return tuple(value for value in (self.z, self.noise) if value is not None)

    def map(self, function) -> "Styles":
        return Styles(*(None if value is None else function(value) for value in (self.z, self.noise)))

    @property
    def count(self) -> int | None:
        """B; None where nothing is drawn."""
        return None if self.z is None else len(self.z)

    def __getitem__(self, rows: slice) -> "Styles":
        """The styles of some samples of the batch."""
        return self.map(lambda value: value[rows])

    @staticmethod
    def cat(parts: Sequence["Styles"]) -> "Styles":
        """The styles of several batches as one; their K may differ."""
        count = max((part.noise.shape[1] for part in parts if part.noise is not None), default=0)
        noise = [part.padded(count).noise for part in parts if part.noise is not None]
        z = [part.z for part in parts if part.z is not None]
        return Styles(torch.cat(z) if z else None, torch.cat(noise) if noise else None)

    def padded(self, count: int) -> "Styles":
        """With zeros for further instances, ``count`` in all."""
        noise = self.noise
        return self if noise is None else Styles(self.z, F.pad(noise, (0, 0, 0, 0, 0, count - noise.shape[1])))

    def alternating(self, others: "Styles") -> "Styles":
        """These styles for the samples 0, 2, 4, ... and ``others`` for the samples 1, 3, 5, ..."""
        pairs = ((self.z, others.z), (self.noise, others.noise))
        return Styles(*(None if a is None else torch.stack([a[::2], b[1::2]], 1).flatten(0, 1) for a, b in pairs))

    def scaled(self, factor: float) -> "Styles":
        """Styles of the prior with ``factor`` times its spread (truncation)."""
        return self if factor == 1 else self.map(lambda value: value * factor)

    def between(self, others: "Styles", part: float) -> "Styles":
        """``part`` of the way from these styles (0) to ``others`` (1).

        z and every noise vector go along the arc between them: their directions turn at a constant rate, and their
        lengths change in proportion. On the straight line between two samples styles would be short, and pictures flat.
        """
        pairs = ((self.z, others.z), (self.noise, others.noise))
        return Styles(*(None if a is None else _along_arc(a, b, part) for a, b in pairs))

    def zeros(self) -> "Styles":
        """The mean of the prior; remapped by a posterior, its mean."""
        return self.map(torch.zeros_like)

    def exchange(self, others: "Styles", instances: Sequence[int]) -> "Styles":
        """These styles, with those of ``others`` for the instances of these ids alone. Where these are of one sample
        and the others of B, the result is of B."""
        ids = list(instances)
        count = others.count
        noise = self.noise.expand(count, -1, -1, -1).clone()
        noise[:, ids] = others.noise[:, ids]
        return Styles(self.z.expand(count, -1), noise)


def _along_arc(a: Tensor, b: Tensor, part: float) -> Tensor:
    """From vectors ``a`` [..., n] to ``b``; exactly they themselves at the ends. Where a direction does not say how to
    turn (a zero vector, or opposite ones), along the line."""
    if part in (0, 1):
        return b if part else a
    lengths = [vectors.norm(dim=-1, keepdim=True) for vectors in (a, b)]
    units = [vectors / length.clamp(min=1e-12) for vectors, length in zip((a, b), lengths, strict=True)]
    angle = (units[0] * units[1]).sum(-1, keepdim=True).clamp(-1, 1).acos()
    turned = (torch.sin((1 - part) * angle) * units[0] + torch.sin(part * angle) * units[1]) / torch.sin(angle)
    arc = turned * torch.lerp(*lengths, part)
    bent = (lengths[0] > 1e-6) & (lengths[1] > 1e-6) & (torch.sin(angle) > 1e-3)
    return torch.where(bent, arc, torch.lerp(a, b, part))


class FittedPrior(nn.Module):
    """What ``models.fit_prior`` finds in photos: styles of a picture's instances go together, and have spreads of their
    own. ``factors`` [C, 2, noise_nc, F]: how z, of which the first F numbers count, moves the styles of every class;
    ``deviations`` [C, 2, noise_nc]: the spread that an instance has for itself. An instance is of the class of most of
    its pixels."""

    def __init__(self, num_classes: int, noise_nc: int, z_dim: int):
        super().__init__()
        self.register_buffer("factors", torch.zeros(num_classes, 2, noise_nc, min(z_dim, 16)))
        self.register_buffer("deviations", torch.ones(num_classes, 2, noise_nc))

    def forward(self, styles: Styles, layout: Layout) -> Styles:
        """Styles of the paper's prior N(0, 1) to styles of this one."""
        shared, deviations = self._parts(styles.z, layout)
        return Styles(styles.z, styles.noise * deviations + shared)

    def undone(self, styles: Styles, layout: Layout) -> Styles:
        """The inverse: the noise that a posterior remaps."""
        shared, deviations = self._parts(styles.z, layout)
        return Styles(styles.z, (styles.noise - shared) / deviations)

    def _parts(self, z: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        classes = layout.main_classes
        shared = torch.einsum("bkscf,bf->bksc", self.factors[classes], z[:, :self.factors.shape[-1]])
        return shared, self.deviations[classes]


class Posterior(Protocol):
    """What an encoder sees in photos: Gaussians of styles."""

    def remap(self, styles: Styles) -> Styles:
        """Styles of the prior to styles of this posterior: noise * exp(logvar / 2) + mu (Section 3.3)."""

    def kl_divergence(self) -> Tensor:
        """The KL divergence from the prior, [] summed over samples."""

    def of_first(self, count: int) -> "Posterior":
        """Without what comes after the first ``count`` instances."""

    def __getitem__(self, rows: slice) -> "Posterior":
        """Of some samples of the batch."""


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)), summed over everything."""
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


@dataclass(frozen=True)
class InstancePosterior:
    """INADE's: of every instance's noise, [B, K, noise_nc] each. Ids that no pixel has are 0."""

    scale_mu: Tensor
    scale_logvar: Tensor
    bias_mu: Tensor
    bias_logvar: Tensor

    @property
    def mu(self) -> Tensor:
        """[B, K, 2, noise_nc]: of scale and shift."""
        return torch.stack([self.scale_mu, self.bias_mu], dim=2)

    @property
    def logvar(self) -> Tensor:
        """[B, K, 2, noise_nc]: of scale and shift."""
        return torch.stack([self.scale_logvar, self.bias_logvar], dim=2)

    def remap(self, styles: Styles) -> Styles:
        return Styles(styles.z, styles.noise * torch.exp(0.5 * self.logvar) + self.mu)

    def kl_divergence(self) -> Tensor:
        """(KL_scale + KL_bias) / 2, summed over samples, instances and channels."""
        return (kl_divergence(self.scale_mu, self.scale_logvar) + kl_divergence(self.bias_mu, self.bias_logvar)) / 2

    def of_first(self, count: int) -> "InstancePosterior":
        return InstancePosterior(*(value[:, :count] for value in vars(self).values()))

    def __getitem__(self, rows: slice) -> "InstancePosterior":
        return InstancePosterior(*(value[rows] for value in vars(self).values()))


@dataclass(frozen=True)
class ImagePosterior:
    """SPADE's: of the image-level vector, [B, z_dim] each."""

    mu: Tensor
    logvar: Tensor

    def remap(self, styles: Styles) -> Styles:
        return Styles(self.mu + torch.exp(0.5 * self.logvar) * styles.z)

    def kl_divergence(self) -> Tensor:
        return kl_divergence(self.mu, self.logvar)

    def of_first(self, count: int) -> "ImagePosterior":
        return self

    def __getitem__(self, rows: slice) -> "ImagePosterior":
        return ImagePosterior(self.mu[rows], self.logvar[rows])
