"""Everything that differs between the norm modes: modulation, encoder, where a picture's styles come from, and which
losses see what. One class each; :class:`NormMode` says what a mode must have."""
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from models.networks import build_image_encoder, build_instance_encoder
from models.networks.layout import Layout, Needs
from models.networks.normalization import INADE, SPADE, Condition, parse_norm_name
from models.networks.styles import Normal, Styles, noise_of_batch
from options.options import UPSAMPLINGS, Options


class NormMode(Protocol):
    """What the model asks of a norm mode."""

    encoder_files: tuple[str, ...]  # names of netE's file: the first is written, any is read
    start_is_map: bool  # the generator starts from the semantic input instead of z
    first_matched_layer: int  # of the discriminators, for feature matching
    vgg_layer_weights: tuple[float, ...]  # of relu1_1 ... relu5_1

    def modulation(self, channels: int) -> nn.Module:
        """A modulation layer for ``channels`` channels."""

    def build_encoder(self) -> nn.Module:
        """``netE``, called as ``netE(image, layout)`` for a :class:`~models.networks.styles.Posterior`."""

    def prior(self, layout: Layout, normal: Normal | None = None) -> Styles:
        """Styles of the prior for a batch: z, then the instances' noise.

        :param normal: where they are drawn from; None: PyTorch's default generator.
        """

    def inputs(self, layout: Layout, styles: Styles) -> tuple[Tensor, Condition]:
        """What the generator is called with."""

    def needs(self) -> Needs:
        """The tables of layouts that its networks ask for."""


class InadeMode:
    """One style per instance, from the prior or remapped by the instance encoder (Sections 3.2 and 3.3)."""

    encoder_files = ("IE", "E")  # published ones go by either
    start_is_map = False
    first_matched_layer = 3
    vgg_layer_weights = (0.0, 0.0, 0.0, 1 / 4, 1.0)

    def __init__(self, opt: Options):
        parse_norm_name(opt.norm_G, "inade")
        self._opt = opt

    def modulation(self, channels: int) -> INADE:
        return INADE(channels, self._opt.num_classes, self._opt.noise_nc)

    def build_encoder(self) -> nn.Module:
        return build_instance_encoder(self._opt)

    def prior(self, layout: Layout, normal: Normal | None = None) -> Styles:
        normal = normal or noise_of_batch(layout)
        z = normal(self._opt.z_dim)
        return Styles(z, normal(layout.num_instances, 2, self._opt.noise_nc))

    def inputs(self, layout: Layout, styles: Styles) -> tuple[Tensor, Condition]:
        return styles.z, Condition(layout, styles.noise)

    def needs(self) -> Needs:
        opt = self._opt
        (height, width), doublings = opt.start_size, range(UPSAMPLINGS[opt.num_upsampling_layers] + 1)
        modulated = tuple((height * 2**n, width * 2**n) for n in doublings)
        height, width = opt.image_size
        encoded = tuple((height // n, width // n) for n in (1, 2, 4, 8, 16)) if opt.use_vae else ()
        return _of_few_forms(opt, Needs(modulated, opt.isTrain, encoded))


class SpadeMode:
    """SPADE without encoder: the layout alone decides the picture."""

    encoder_files = ("E",)
    start_is_map = True
    first_matched_layer = 0
    vgg_layer_weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

    def __init__(self, opt: Options):
        self._opt = opt
        self._norm = parse_norm_name(opt.norm_G, "spade")

    def modulation(self, channels: int) -> SPADE:
        return SPADE(channels, self._opt.semantic_nc, self._norm.param_free_norm(channels), self._norm.kernel_size)

    def build_encoder(self) -> nn.Module:
        return build_image_encoder(self._opt)

    def prior(self, layout: Layout, normal: Normal | None = None) -> Styles:
        return Styles()

    def inputs(self, layout: Layout, styles: Styles) -> tuple[Tensor, Condition]:
        return layout.semantics, Condition(layout)

    def needs(self) -> Needs:
        return _of_few_forms(self._opt, Needs())


class SpadeVaeMode(SpadeMode):
    """SPADE with one style vector per image, from the prior or the image encoder."""

    start_is_map = False

    def prior(self, layout: Layout, normal: Normal | None = None) -> Styles:
        return Styles((normal or noise_of_batch(layout))(self._opt.z_dim))

    def inputs(self, layout: Layout, styles: Styles) -> tuple[Tensor, Condition]:
        return styles.z, Condition(layout)


def _of_few_forms(opt: Options, needs: Needs) -> Needs:
    """A graph is for one form of batches: few of them shall occur."""
    return replace(needs, multiple=128, instances_multiple=64) if opt.cuda_graphs else needs


def norm_mode(opt: Options) -> NormMode:
    """The norm mode that ``--norm_mode`` and ``--use_vae`` choose."""
    if opt.norm_mode == "inade":
        return InadeMode(opt)
    return SpadeVaeMode(opt) if opt.use_vae else SpadeMode(opt)
