"""The networks, and how options choose and build them. Read :mod:`models.networks.generator` first."""
from torch import nn

from models.networks.discriminator import MultiscaleDiscriminator
from models.networks.efficientnet_lite import Lite0Features
from models.networks.encoder import ImageEncoder, InstanceEncoder
from models.networks.generator import Generator
from models.networks.init import init_weights
from models.networks.normalization import MakeNorm, parse_norm_name
from models.networks.projected import ProjectedDiscriminator
from models.networks.styles import FittedPrior
from options.options import UPSAMPLINGS, Options
from util.errors import UserError


def build_generator(opt: Options, make_norm: MakeNorm, start_is_map: bool) -> Generator:
    """``netG``, from the semantic input (``start_is_map``) or a vector; ``make_norm`` makes its modulations.

    :raises UserError: sizes that it cannot have.
    """
    upsamplings = UPSAMPLINGS[opt.num_upsampling_layers]
    if opt.crop_size % 2**upsamplings:
        raise UserError(f"--crop_size {opt.crop_size}: must be a multiple of {2**upsamplings} with "
                        f"--num_upsampling_layers {opt.num_upsampling_layers}")
    if not opt.start_size[0]:
        raise UserError(f"--aspect_ratio {opt.aspect_ratio}: too wide for --crop_size {opt.crop_size}")
    if upsamplings == 7 and opt.ngf % 2:
        raise UserError(f"--ngf {opt.ngf}: must be even with --num_upsampling_layers {opt.num_upsampling_layers}")
    prior = FittedPrior(opt.num_classes, opt.noise_nc, opt.z_dim) if opt.fitted_prior else None
    return _initialized(opt, Generator(
        start_channels=opt.semantic_nc if start_is_map else opt.z_dim,
        start_is_map=start_is_map,
        size=opt.start_size,
        ngf=opt.ngf,
        upsamplings=upsamplings,
        make_norm=make_norm,
        spectral=parse_norm_name(opt.norm_G, opt.norm_mode).spectral,
        prior=prior,
    ))


def build_discriminator(opt: Options, features: Lite0Features | None = None) -> nn.Module:
    """``netD``: a module that is called as ``netD(layout, fake, real)`` and returns a
    :class:`~models.networks.loss.Judgement` of either. To put in one of your own, return it here, and add a choice to
    ``--netD`` in options/groups.py; optimiser, checkpoints and freezing need no change.

    :param features: the frozen network of the model; for ``--netD projected``.
    """
    sizes = (opt.semantic_nc + 3, opt.ndf, opt.n_layers_D, opt.num_D, opt.norm_D, opt.device.type != "cpu")
    if opt.netD == "projected":
        return _initialized(opt, ProjectedDiscriminator(*sizes, num_classes=opt.num_classes, features=features,
                                                        weight=opt.lambda_projected))
    return _initialized(opt, MultiscaleDiscriminator(*sizes))


def build_instance_encoder(opt: Options) -> InstanceEncoder:
    """``netE`` of INADE. (It needs sides that are multiples of 16; the generator's are multiples of 32.)"""
    num_classes = opt.num_classes if opt.fitted_prior else 0
    return _initialized(opt, InstanceEncoder(opt.ngf, opt.noise_nc, num_classes))


def build_image_encoder(opt: Options) -> ImageEncoder:
    """``netE`` of SPADE."""
    return _initialized(opt, ImageEncoder(opt.ngf, opt.z_dim, opt.norm_E))


def _initialized(opt: Options, network: nn.Module) -> nn.Module:
    return init_weights(network, opt.init_type, opt.init_variance)
