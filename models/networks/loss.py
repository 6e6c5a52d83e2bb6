"""Adversarial, feature matching, perceptual and KL losses."""
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import VGG19
from models.networks.normalization import full_precision

Scores = list[list[Tensor]]  # per discriminator, the outputs of its layers


def _hinge(score: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    if not for_discriminator:
        return -score.mean()
    return F.relu(1 - score if real else 1 + score).mean()


def _least_squares(score: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    return F.mse_loss(score, torch.full_like(score, float(real)))


def _original(score: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(score, torch.full_like(score, float(real)))


def _wasserstein(score: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    return -score.mean() if real else score.mean()


GAN_MODES: dict[str, Callable[[Tensor, bool, bool], Tensor]] = {
    "hinge": _hinge, "ls": _least_squares, "original": _original, "w": _wasserstein,
}


def gan_loss(outputs: Scores, mode: str, *, real: bool, for_discriminator: bool) -> Tensor:
    """Mean over the discriminators of the loss of their score maps; ``real`` is what they should say."""
    losses = [GAN_MODES[mode](full_precision(layers[-1]), real, for_discriminator) for layers in outputs]
    return torch.stack(losses).mean()


def feature_matching_loss(fake: Scores, real: Scores, first: int) -> Tensor:
    """L1 between the layers' outputs for fake and real images, from layer ``first``, without the score maps.

    Summed over layers and averaged over the discriminators.
    """
    losses = [F.l1_loss(full_precision(f), full_precision(r.detach()))
              for fakes, reals in zip(fake, real, strict=True)
              for f, r in list(zip(fakes, reals, strict=True))[first:-1]]
    return torch.stack(losses).sum() / len(fake) if losses else fake[0][-1].new_zeros(())


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)), summed over everything."""
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


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
