"""Styles: what a layout leaves open. Drawn from the prior, or from the posterior that an encoder sees in a photo."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.networks.layout import Layout

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

    def of_sample(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        rows = [torch.randn(shape[1:], generator=generator) for _ in range(shape[0])]
        return torch.stack(rows)

    def normal(*shape: int) -> Tensor:
        rows = shape if len(shape) > 1 else (1, *shape)
        drawn = torch.stack([of_sample(generator, rows) for generator in generators])
        return drawn.reshape(-1, *shape).to(layout.label.device)

    return normal


@dataclass(frozen=True)
class Styles:
    """The random numbers of a batch of pictures. None where the norm mode draws none.

    :param z: [B, z_dim], the image-level vector that the generator starts from (published name: ``noise_ins``).
    :param noise: [B, K, 2, noise_nc], a style for every instance (INADE); index 0 of axis 2 drives the scale, index 1
        the shift.
    """

    z: Tensor | None = None
    noise: Tensor | None = None

    def map(self, function) -> "Styles":
        """``function`` of every tensor that there is."""
        return Styles(*(None if value is None else function(value) for value in (self.z, self.noise)))

    def __len__(self) -> int:
        return len(self.z) if self.z is not None else 0

    def __getitem__(self, rows: slice) -> "Styles":
        """The styles of some samples of the batch."""
        return self.map(lambda value: value[rows])

    def zeros(self) -> "Styles":
        """The mean of the prior; remapped by a posterior, its mean."""
        return self.map(torch.zeros_like)

    def exchange(self, others: "Styles", instances: Sequence[int]) -> "Styles":
        """These styles, with those of ``others`` for the instances of these ids alone.

        Where these are of one sample and the others of B, the result is of B.
        """
        ids = list(instances)
        count = len(others)
        noise = self.noise.expand(count, -1, -1, -1).clone()
        noise[:, ids] = others.noise[:, ids]
        return Styles(self.z.expand(count, -1), noise)


class Posterior(Protocol):
    """What an encoder sees in photos: Gaussians of styles."""

    def remap(self, styles: Styles) -> Styles:
        """Styles of the prior to styles of this posterior: noise * exp(logvar / 2) + mu (Section 3.3)."""

    def kl_divergence(self) -> Tensor:
        """The KL divergence from the prior, [] summed over samples."""


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

    def remap(self, styles: Styles) -> Styles:
        mu = torch.stack([self.scale_mu, self.bias_mu], dim=2)
        logvar = torch.stack([self.scale_logvar, self.bias_logvar], dim=2)
        return Styles(styles.z, styles.noise * torch.exp(0.5 * logvar) + mu)

    def kl_divergence(self) -> Tensor:
        """(KL_scale + KL_bias) / 2, summed over samples, instances and channels."""
        return (kl_divergence(self.scale_mu, self.scale_logvar) + kl_divergence(self.bias_mu, self.bias_logvar)) / 2


@dataclass(frozen=True)
class ImagePosterior:
    """SPADE's: of the image-level vector, [B, z_dim] each."""

    mu: Tensor
    logvar: Tensor

    def remap(self, styles: Styles) -> Styles:
        return Styles(self.mu + torch.exp(0.5 * self.logvar) * styles.z)

    def kl_divergence(self) -> Tensor:
        return kl_divergence(self.mu, self.logvar)
