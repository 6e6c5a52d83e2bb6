"""Multiscale PatchGAN discriminators, as in SPADE."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layout import Layout, halve
from models.networks.loss import Judgement, Outputs
from models.networks.normalization import LEAKY_SLOPE, normalized_conv, with_leaky_relu
from models.networks.spectral import power_iteration
from models.ops import backend
from util.precision import working_dtype


class NLayerDiscriminator(nn.Module):
    """PatchGAN (Isola et al., CVPR 2017, Section 3.2.2) of ``n_layers`` convolutions and one to a map of scores."""

    def __init__(self, channels: int, ndf: int, n_layers: int, norm: str):
        super().__init__()
        self.n_layers = n_layers
        self.model0 = nn.Sequential(nn.Conv2d(channels, ndf, 4, stride=2, padding=2), nn.LeakyReLU(LEAKY_SLOPE))
        width = ndf
        for n in range(1, n_layers):
            previous, width = width, min(width * 2, 512)
            stride = 1 if n == n_layers - 1 else 2
            self.add_module(f"model{n}", with_leaky_relu(normalized_conv(norm, previous, width, 4, stride, 2)))
        self.add_module(f"model{n_layers}", nn.Sequential(nn.Conv2d(width, 1, 4, stride=1, padding=2)))

    def forward(self, first: Tensor) -> list[Tensor]:
        """What the first layer makes of the input [B, ndf, h, w] -> the output of every layer, from this one to the
        score map [B, 1, h', w']."""
        outputs = [first]
        for n in range(1, self.n_layers + 1):
            outputs.append(self.get_submodule(f"model{n}")(outputs[-1]))
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """``num_D`` PatchGANs, each on the input of the last at half its resolution (pix2pixHD, Wang et al., CVPR 2018,
    Section 3.2).

    They see [semantic input, image]: the one-hot classes, the instance edges, and the picture. The first layer is
    linear, so what it makes of the layout is the same for every picture: it is computed once, and added to what the
    layer makes of the picture.

    :param judges_together: take fake and real pictures as one batch where gradients flow to the discriminators, which
        is quicker on a GPU.
    """

    def __init__(self, channels: int, ndf: int, n_layers: int, num_D: int, norm: str, judges_together: bool = False):
        super().__init__()
        self.num_D, self.judges_together = num_D, judges_together
        for i in range(num_D):
            self.add_module(f"discriminator_{i}", NLayerDiscriminator(channels, ndf, n_layers, norm))

    @property
    def discriminators(self) -> list[NLayerDiscriminator]:
        return [self.get_submodule(f"discriminator_{i}") for i in range(self.num_D)]

    def forward(self, layout: Layout, fake: Tensor, real: Tensor) -> tuple[Judgement, Judgement]:
        """What they say of fake and of real pictures [B, 3, H, W]; in training with one power iteration for both, as
        in published training."""
        responses = self._respond(layout)
        if self.training:
            power_iteration(self)
        if self.judges_together and not fake.requires_grad:
            outputs = self._outputs(responses, layout, torch.cat([fake, real]))
            halves = [[y.chunk(2) for y in layers] for layers in outputs]
            return tuple(Judgement.of_outputs([[y[half] for y in layers] for layers in halves]) for half in (0, 1))
        return tuple(Judgement.of_outputs(self._outputs(responses, layout, image)) for image in (fake, real))

    def _respond(self, layout: Layout) -> tuple[list[Tensor], int]:
        """The share of the layout in the first layers' outputs, whatever the image: [B, ndf, h, w] for each
        discriminator; and how many of the input's channels are in it, from the first."""
        return self._looked_up(layout) if backend.form(layout.label, "look_up") == "fast" else self._convolved(layout)

    def _looked_up(self, layout: Layout) -> tuple[list[Tensor], int]:
        """The share of the classes alone.

        At full resolution, convolving one-hot classes is looking up a row of the weight for each of the 16 taps. The
        classes at lower resolutions are mixtures, and convolved.
        """
        maps = []
        for i, discriminator in enumerate(self.discriminators):
            weight = discriminator.model0[0].weight[:, :layout.num_classes]
            if i == 0:
                maps.append(_look_up(layout.label, weight))
            else:
                mixtures = layout.halved_classes(i).to(weight.dtype)
                maps.append(F.conv2d(mixtures, weight, stride=2, padding=2))
        return maps, layout.num_classes

    def _convolved(self, layout: Layout) -> tuple[list[Tensor], int]:
        """The share of the whole semantic input, which is made for this."""
        weights = [discriminator.model0[0].weight for discriminator in self.discriminators]
        semantics = layout.semantics_in(working_dtype(weights[0]))
        channels, maps = semantics.shape[1], []
        for i, weight in enumerate(weights):
            semantics = halve(semantics) if i else semantics
            maps.append(F.conv2d(semantics, weight[:, :channels], stride=2, padding=2))
        return maps, channels

    def _outputs(self, responses: tuple[list[Tensor], int], layout: Layout, image: Tensor) -> Outputs:
        """The outputs for layout and ``image`` [n*B, 3, H, W], n pictures for each layout: the first for each, then
        the second for each, and so on."""
        (maps, channels), x, times = responses, image, len(image) // layout.batch_size
        if layout.with_edges and channels == layout.num_classes:
            edges = layout.edges[:, None].to(image.dtype).repeat(times, 1, 1, 1)
            x = torch.cat([edges, image], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        outputs = []
        for i, (discriminator, response) in enumerate(zip(self.discriminators, maps, strict=True)):
            x = halve(x) if i else x
            conv, activation = discriminator.model0
            own = F.conv2d(x, conv.weight[:, channels:], conv.bias, stride=2, padding=2)
            first = own + response if times == 1 else (own.unflatten(0, (times, -1)) + response).flatten(0, 1)
            outputs.append(discriminator(activation(first)))
        return outputs


def _look_up(label: Tensor, weight: Tensor) -> Tensor:
    """conv2d(one_hot(label), weight, stride=2, padding=2) for ``label`` [B, H, W] and ``weight`` [ndf, C, 4, 4]."""
    ndf, classes = weight.shape[:2]
    beyond = classes * 16  # row for taps beyond the image, which count nothing
    table = F.pad(weight.permute(1, 2, 3, 0).reshape(beyond, ndf), (0, 0, 0, 1))
    rows = F.pad(label * 16, (2, 2, 2, 2), value=beyond)
    height, width = (side // 2 + 1 for side in label.shape[1:])
    taps = torch.stack([rows[:, ky:ky + 2 * height - 1:2, kx:kx + 2 * width - 1:2] + (4 * ky + kx)
                        for ky in range(4) for kx in range(4)], dim=-1).clamp_(max=beyond)  # [B, h, w, 16]
    summed = F.embedding_bag(taps.view(-1, 16), table, mode="sum", padding_idx=beyond)
    return summed.view(len(label), height, width, ndf).permute(0, 3, 1, 2)
