"""The networks, and how options choose and build them."""
from collections.abc import Callable
from typing import Any

from torch import nn

from models.networks.discriminator import MultiscaleDiscriminator
from models.networks.encoder import ENCODER_STRIDE, ImageEncoder, InstanceEncoder, InstanceStyles
from models.networks.generator import CROP_DIVISOR, Generator, output_size, start_size
from models.networks.init import INIT_TYPES, init_weights
from models.networks.layout import Layout
from models.networks.loss import GAN_MODES, VGGLoss, feature_matching_loss, gan_loss, kl_divergence
from models.networks.normalization import INADE, SPADE, Condition, parse_norm_name

__all__ = [
    "CROP_DIVISOR",
    "DISCRIMINATORS",
    "ENCODER_STRIDE",
    "GAN_MODES",
    "GENERATORS",
    "INIT_TYPES",
    "NORM_MODES",
    "Condition",
    "ImageEncoder",
    "InstanceEncoder",
    "InstanceStyles",
    "Layout",
    "VGGLoss",
    "build_discriminator",
    "build_generator",
    "build_image_encoder",
    "build_instance_encoder",
    "feature_matching_loss",
    "gan_loss",
    "kl_divergence",
    "output_size",
    "parse_norm_name",
]


def _make_inade(opt: Any) -> Callable[[int], nn.Module]:
    return lambda channels: INADE(channels, opt.num_classes, opt.noise_nc)


def _make_spade(opt: Any) -> Callable[[int], nn.Module]:
    name = parse_norm_name(opt.norm_G, "spade")
    return lambda channels: SPADE(channels, opt.semantic_nc, name.param_free_norm(channels), name.kernel_size)


NORM_MODES = {"inade": _make_inade, "spade": _make_spade}


def _spade_generator(opt: Any, start_is_map: bool) -> Generator:
    return Generator(
        start_channels=opt.semantic_nc if start_is_map else opt.z_dim,
        start_is_map=start_is_map,
        size=start_size(opt.crop_size, opt.aspect_ratio, opt.num_upsampling_layers),
        ngf=opt.ngf,
        num_upsampling_layers=opt.num_upsampling_layers,
        make_norm=NORM_MODES[opt.norm_mode](opt),
        spectral=parse_norm_name(opt.norm_G, opt.norm_mode).spectral,
    )


def _multiscale_discriminator(opt: Any) -> MultiscaleDiscriminator:
    return MultiscaleDiscriminator(opt.semantic_nc + 3, opt.ndf, opt.n_layers_D, opt.num_D, opt.norm_D)


GENERATORS = {"spade": _spade_generator}
DISCRIMINATORS = {"multiscale": _multiscale_discriminator}


def build_generator(opt: Any, start_is_map: bool = False) -> nn.Module:
    """``netG``; with ``start_is_map`` it starts from the semantic input instead of a vector."""
    return init_weights(GENERATORS[opt.netG](opt, start_is_map), opt.init_type, opt.init_variance)


def build_discriminator(opt: Any) -> nn.Module:
    """``netD``."""
    return init_weights(DISCRIMINATORS[opt.netD](opt), opt.init_type, opt.init_variance)


def build_instance_encoder(opt: Any) -> nn.Module:
    """``netE`` of INADE."""
    return init_weights(InstanceEncoder(opt.ngf, opt.noise_nc), opt.init_type, opt.init_variance)


def build_image_encoder(opt: Any) -> nn.Module:
    """``netE`` of SPADE."""
    return init_weights(ImageEncoder(opt.ngf, opt.z_dim, opt.norm_E), opt.init_type, opt.init_variance)
