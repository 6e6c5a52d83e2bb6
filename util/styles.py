"""Styles of layouts: a draw from the prior, and the same draw with those of some instances drawn anew."""
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.pix2pix_model import Pix2PixModel

Styles = dict[str, Tensor]


def draw_styles(model: Pix2PixModel, data: dict[str, Any]) -> Styles:
    """One draw from the prior for a batch, to be passed to ``model.sample`` or ``model.infer``: ``noise_ins``
    [B, z_dim] and, with INADE, ``noise`` [B, K, 2, noise_nc]."""
    draw = model.mode.draw(model.layout(data), None, None)
    noise = draw.condition.noise
    return {"noise_ins": draw.start} if noise is None else {"noise_ins": draw.start, "noise": noise}


def resample(styles: Styles, instances: Sequence[int]) -> Styles:
    """The same styles but for those of ``instances`` (ids), which are drawn anew for every sample of the batch."""
    noise, ids = styles["noise"].clone(), list(instances)
    noise[:, ids] = torch.randn_like(noise[:, ids])
    return {**styles, "noise": noise}


def instance_classes(label: np.ndarray, instance: np.ndarray) -> dict[int, int]:
    """Instance id -> the class of most of its pixels, for maps [H, W]; ids in ascending order."""
    return {int(i): int(np.bincount(label[instance == i]).argmax()) for i in np.unique(instance)}
