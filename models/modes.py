"""What differs between the norm modes: where a picture's styles come from, and which losses see what."""
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.networks import (
    Condition,
    Layout,
    build_image_encoder,
    build_instance_encoder,
    kl_divergence,
)


@dataclass
class Draw:
    """One draw of styles for a batch: the generator's two inputs, and the encoder's KL where there was one."""

    start: Tensor
    condition: Condition
    kld: Tensor | None = None


class InadeMode:
    """One style per instance, from the prior or remapped by the instance encoder (Sections 3.2 and 3.3)."""

    encoder_label = "IE"
    start_is_map = False
    first_matched_layer = 3  # of the discriminators, for feature matching
    vgg_layer_weights = (0.0, 0.0, 0.0, 1 / 4, 1.0)

    def __init__(self, opt: Any):
        self.z_dim, self.noise_nc = opt.z_dim, opt.noise_nc

    def build_encoder(self, opt: Any) -> nn.Module:
        return build_instance_encoder(opt)

    def draw(self, layout: Layout, encoder: nn.Module | None, image: Tensor | None,
             noise_ins: Tensor | None = None, noise: Tensor | None = None) -> Draw:
        """
        :param encoder: None draws from the prior alone; else ``image`` [B, 3, H, W] gives the styles.
        :param noise_ins: [B, z_dim], drawn if None; and then
        :param noise: [B, K, 2, noise_nc], drawn if None.
        """
        device, batch = layout.label.device, layout.batch_size
        if noise_ins is None:
            noise_ins = torch.randn(batch, self.z_dim, device=device)
        if noise is None:
            noise = torch.randn(batch, layout.num_instances, 2, self.noise_nc, device=device)
        if encoder is None:
            return Draw(noise_ins, Condition(layout, noise))
        styles = encoder(image, layout)
        return Draw(noise_ins, Condition(layout, styles.remap(noise)), styles.kl_divergence())


class SpadeMode:
    """SPADE without encoder: the layout alone decides the picture."""

    encoder_label = "E"
    start_is_map = True
    first_matched_layer = 0
    vgg_layer_weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

    def __init__(self, opt: Any):
        self.z_dim = opt.z_dim

    def build_encoder(self, opt: Any) -> nn.Module:
        return build_image_encoder(opt)

    def draw(self, layout: Layout, encoder: nn.Module | None, image: Tensor | None,
             noise_ins: Tensor | None = None, noise: Tensor | None = None) -> Draw:
        return Draw(layout.semantics, Condition(layout))


class SpadeVaeMode(SpadeMode):
    """SPADE with one style vector per image, from the prior or the image encoder."""

    start_is_map = False

    def draw(self, layout: Layout, encoder: nn.Module | None, image: Tensor | None,
             noise_ins: Tensor | None = None, noise: Tensor | None = None) -> Draw:
        """``noise_ins`` [B, z_dim]: the standard normal numbers of the style, drawn if None."""
        if encoder is not None:
            mu, logvar = encoder(image)
        if noise_ins is None:
            noise_ins = torch.randn(layout.batch_size, self.z_dim, device=layout.label.device)
        if encoder is None:
            return Draw(noise_ins, Condition(layout))
        return Draw(mu + torch.exp(0.5 * logvar) * noise_ins, Condition(layout), kl_divergence(mu, logvar))


def mode_of(opt: Any) -> InadeMode | SpadeMode:
    """The norm mode that ``opt.norm_mode`` and ``opt.use_vae`` choose."""
    if opt.norm_mode == "inade":
        return InadeMode(opt)
    return SpadeVaeMode(opt) if opt.use_vae else SpadeMode(opt)
