"""Adversarial and feature matching losses. (KL: styles.py; perceptual: vgg.py.)"""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from util.precision import full_precision

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
