"""Styles of layouts: drawn from the prior or by the encoder, and exchanged for some instances alone."""
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.modes import Draw
from models.pix2pix_model import Pix2PixModel

# what ``model.sample`` takes: noise_ins [B, z_dim] and, with INADE, noise [B, K, 2, noise_nc]
Styles = dict[str, Tensor]


def draw_styles(model: Pix2PixModel, data: dict[str, Any]) -> Styles:
    """One draw from the prior for every layout of a batch."""
    return _styles(model.mode.draw(model.layout(data), None, None))


@torch.no_grad()
def encode_styles(model: Pix2PixModel, data: dict[str, Any], prior: Styles) -> Styles:
    """Draws from the prior, [N, ...], turned into draws from what the encoder gives for the photo of one layout."""
    return _styles(model.mode.draw(model.layout(data), model.netE, model.image(data), **prior))


def _styles(draw: Draw) -> Styles:
    noise = draw.condition.noise
    return {"noise_ins": draw.start} if noise is None else {"noise_ins": draw.start, "noise": noise}


def exchange(styles: Styles, others: Styles, instances: Sequence[int]) -> Styles:
    """``styles`` but for the instances of these ids, which take theirs from ``others`` [B, ...].

    :param styles: [B, ...], or [1, ...] for the same in the whole batch.
    """
    ids = list(instances)
    batch = {name: value.expand_as(others[name]) for name, value in styles.items()}
    noise = batch["noise"].clone()
    noise[:, ids] = others["noise"][:, ids]
    return {**batch, "noise": noise}


def instance_classes(label: np.ndarray, instance: np.ndarray) -> dict[int, int]:
    """Instance id -> the class of most of its pixels, for maps [H, W]; ids in ascending order."""
    return {int(i): int(np.bincount(label[instance == i]).argmax()) for i in np.unique(instance)}
