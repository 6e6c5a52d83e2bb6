"""What anyone may add: a discriminator of another kind, and a loss that is a sum over samples."""
import torch
from torch import nn

from models.networks.loss import Judgement, Loss
from models.pix2pix_model import Pix2PixModel
from tests.worlds import CLASSES


class Stranger(nn.Module):
    """One score for each picture, and a feature to match."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3 + CLASSES, 8, 4, 2), nn.Linear(8, 1)

    def forward(self, layout, fake, real):
        return self.judge(layout, fake), self.judge(layout, real)

    def judge(self, layout, picture):
        hidden = self.first(torch.cat([layout.semantics[:, :CLASSES], picture], 1)).relu()
        score = self.last(hidden.mean((2, 3)))[..., None, None]
        return Judgement([score], [1.0], [[hidden] * 4])


class WithBrightness(Pix2PixModel):
    """Pictures shall not be bright: summed over samples."""

    def generator_losses(self, batch):
        losses, fake = super().generator_losses(batch)
        return {**losses, "Bright": Loss(1e-3 * fake.square().sum(), "sum")}, fake
