"""Adversarial, feature matching and colour losses. (KL: styles.py; perceptual: vgg.py, efficientnet_lite.py.)"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.layout import Layout
from models.ops.regions import rows_of
from util.precision import full_precision

Outputs = list[list[Tensor]]  # per discriminator, the outputs of its layers; the last is a map of scores


class Loss(NamedTuple):
    """A term of what networks minimise."""

    value: Tensor  # [], weighted
    reduction: str = "mean"  # or "sum", over the samples of a batch

    def share(self, parts: int, processes: int) -> Tensor:
        """What the loss of one part of a process's samples contributes to that of the whole batch, which is the sum of
        the shares over parts and their mean over processes."""
        factor = processes if self.reduction == "sum" else 1 / parts
        return self.value if factor == 1 else self.value * factor


Losses = dict[str, Loss]  # by name; they are added up


class Judgement(NamedTuple):
    """What discriminators say of a batch of pictures."""

    scores: Sequence[Tensor]  # a map [B, 1, h, w] of each: the higher, the more real
    weights: Sequence[float]  # of their adversarial losses
    # what feature matching compares, of the discriminators that take part: a list of activations each. INADE compares
    # from the fourth on (``NormMode.first_matched_layer``); of fewer, nothing is compared
    features: Sequence[Sequence[Tensor]] = ()

    @classmethod
    def of_outputs(cls, outputs: Outputs) -> "Judgement":
        """Of discriminators that count the same."""
        return cls([layers[-1] for layers in outputs], [1 / len(outputs)] * len(outputs),
                   [layers[:-1] for layers in outputs])


# --gan_mode: the loss of a map of scores, by whether it should be real, and whether the discriminator learns
GAN_MODES: dict[str, Callable[[Tensor, bool, bool], Tensor]] = {
    "hinge": lambda score, real, judge: F.relu(1 - score if real else 1 + score).mean() if judge else -score.mean(),
    "ls": lambda score, real, _: F.mse_loss(score, torch.full_like(score, float(real))),
    "original": lambda score, real, _: F.binary_cross_entropy_with_logits(score, torch.full_like(score, float(real))),
    "w": lambda score, real, _: -score.mean() if real else score.mean(),
}


def gan_loss(judgement: Judgement, mode: str, *, real: bool, for_discriminator: bool) -> Tensor:
    """The weighted sum of the losses of all score maps; ``real`` is what they should say."""
    return sum(weight * GAN_MODES[mode](full_precision(score), real, for_discriminator)
               for score, weight in zip(judgement.scores, judgement.weights, strict=True))


def feature_matching_loss(fake: Judgement, real: Judgement, first: int,
                          rows: slice = slice(None)) -> Tensor:
    """L1 between the activations for fake and real images, of the samples ``rows`` and from layer ``first`` on
    (Equation 4 of pix2pixHD), summed over layers and averaged over the discriminators."""
    losses = [F.l1_loss(full_precision(f[rows]), full_precision(r[rows].detach()))
              for fakes, reals in zip(fake.features, real.features, strict=True)
              for f, r in list(zip(fakes, reals, strict=True))[first:]]
    return torch.stack(losses).sum() / len(fake.features) if losses else fake.scores[0].new_zeros(())


def color_loss(fake: Tensor, real: Tensor, layout: Layout, rows: slice = slice(None)) -> Tensor:
    """L1 between the mean colours that every instance has in two batches of images [B, 3, H, W], summed over the
    instances of the samples ``rows``."""
    regions = layout.instance_regions
    pixels = regions.at(layout.size)
    means = pixels.sum(rows_of(full_precision(fake - real))) / pixels.sizes.clamp(min=1)[:, None]  # [T, 3]
    counts = torch.zeros(layout.batch_size, device=fake.device)
    counts[rows] = 1
    return (means.abs().mean(1) * counts[regions.ids[0]]).sum()


def only_through(loss: Tensor, x: Tensor) -> Tensor:
    """The same loss, whose gradients reach only what made ``x``, not what lies between ``x`` and the loss."""
    large = 2.0 ** 12  # so that small gradients are no zeros in half precision
    gradient, = torch.autograd.grad(loss * large, x, retain_graph=True)
    pull = (x * gradient / large).sum()
    return loss.detach() + pull - pull.detach()
