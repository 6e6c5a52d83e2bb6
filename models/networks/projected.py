"""Discriminators on the features of a frozen network, beside the published ones (``--netD projected``).

Projected GANs (Sauer et al., NeurIPS 2021) judge pictures by the features of a network that was trained to recognise
things: it knows what cloth, hair or a street looks like, which a discriminator from scratch has to find out first.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.discriminator import MultiscaleDiscriminator
from models.networks.efficientnet_lite import Lite0Features
from models.networks.layout import Layout
from models.networks.loss import Judgement
from models.networks.normalization import LEAKY_SLOPE, normalized_conv

# block of EfficientNet-Lite0 -> its channels, width and stride of the head, root mean square of its activations:
# averages over photographs of persons, faces, streets and things at 64x64 to 256x256, which differ by a tenth
BLOCKS = {3: (24, 32, 2, 8.0), 5: (40, 64, 1, 7.2), 8: (80, 64, 1, 6.3), 11: (112, 64, 1, 6.3)}


class Head(nn.Module):
    """Scores of one block's activations, given which share of each of their cells every class covers."""

    def __init__(self, channels: int, num_classes: int, width: int, stride: int, rms: float):
        super().__init__()
        self.register_buffer("rms", torch.tensor(rms))
        self.features = normalized_conv("spectralnone", channels, width, 1, 1, 0)
        self.classes = nn.Conv2d(num_classes, width, 1, bias=False)
        self.conv_0 = normalized_conv("spectralnone", width, width, 3, stride, 1)
        self.conv_1 = normalized_conv("spectralnone", width, width, 3, 1, 1)
        self.score = normalized_conv("spectralnone", width, 1, 3, 1, 1)

    def forward(self, activations: Tensor, classes: Tensor) -> Tensor:
        """Activations [n*B, c, h, w] and what :attr:`classes` makes of the shares, [B, width, h, w], for n pictures of
        each layout -> scores [n*B, 1, h, w], at half the size with a stride of 2."""
        x = self.features(activations / self.rms)
        x = F.leaky_relu(x.unflatten(0, (-1, len(classes))) + classes, LEAKY_SLOPE).flatten(0, 1)
        x = F.leaky_relu(self.conv_0(x), LEAKY_SLOPE)
        return self.score(F.leaky_relu(self.conv_1(x), LEAKY_SLOPE))


class ProjectedDiscriminator(MultiscaleDiscriminator):
    """The published discriminators, and a :class:`Head` on each of four blocks of EfficientNet-Lite0.

    The heads judge; features are matched on the published discriminators alone.

    :param features: activations of the frozen network, which belongs to the model: it is neither trained nor saved.
    :param weight: of the mean over the heads' losses, beside the mean over the published discriminators'.
    """

    def __init__(self, *args, num_classes: int, features: Lite0Features, weight: float, **kwargs):
        super().__init__(*args, **kwargs)
        self.heads = nn.ModuleDict({str(block): Head(channels, num_classes, *rest)
                                    for block, (channels, *rest) in BLOCKS.items()})
        self._features = (features,)  # in a tuple, so that it is no part of this network
        self.weight = weight

    def forward(self, layout: Layout, fake: Tensor, real: Tensor) -> tuple[Judgement, Judgement]:
        """See :meth:`MultiscaleDiscriminator.forward`. For a step of the generator, which does not ask for them, the
        heads do not score real pictures."""
        judged = super().forward(layout, fake, real)
        pictures = (fake,) if fake.requires_grad else (fake, real)
        scores = self._scores(layout, pictures)
        weights = [self.weight / len(self.heads)] * len(self.heads)
        more = [(found, weights) for found in scores] + [((), ())] * (2 - len(pictures))
        return tuple(Judgement([*own.scores, *found], [*own.weights, *counts], own.features)
                     for own, (found, counts) in zip(judged, more, strict=True))

    def _scores(self, layout: Layout, pictures: tuple[Tensor, ...]) -> list[list[Tensor]]:
        """Of each of the pictures [B, 3, H, W] the scores of all heads."""
        seen, scores = [self._features[0](images) for images in pictures], [[] for _ in pictures]
        for block, head in self.heads.items():
            activations = [found[int(block)] for found in seen]
            shares = layout.class_shares(activations[0].shape[2:]).to(head.rms.dtype)
            classes = head.classes(shares)
            if self.judges_together:
                found = head(torch.cat(activations), classes).chunk(len(pictures))
            else:
                found = [head(one, classes) for one in activations]
            for own, score in zip(scores, found, strict=True):
                own.append(score)
        return scores
