"""The model: generator, encoder, discriminators and losses behind what trainers and testers call."""
import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.kinds import class_names, saved_class_names
from models.batches import Batch, BatchMaker
from models.class_match import ClassMatch, class_count
from models.networks import build_discriminator, build_generator
from models.networks.efficientnet_lite import Lite0Features, Lite0Loss
from models.networks.layout import WHOLE, Part
from models.networks.loss import Loss, Losses, color_loss, feature_matching_loss, gan_loss, only_through
from models.networks.projected import BLOCKS
from models.networks.styles import Posterior, Styles
from models.networks.vgg import VGGLoss
from models.norm_modes import norm_mode
from models.ops import backend
from options.options import Options
from util import checkpoints
from util.errors import UserError, shortened

ALL, EVERY_SECOND = slice(None), slice(None, None, 2)  # samples of a batch


class Pix2PixModel(nn.Module):
    """``netG``, ``netE`` (None without ``use_vae``) and, for training, ``netD`` and the losses.

    Networks start from their initial weights; :meth:`load` reads a checkpoint. Random numbers come from PyTorch's
    default generator: z, then the instances' noise.

    :raises UserError: options that the networks cannot have; or the perceptual loss is asked for and its network's
        weights are not there.
    """

    def __init__(self, opt: Options):
        super().__init__()
        backend.use(opt.impl, opt.device)  # for all that this process computes
        self.opt = opt
        self.mode = norm_mode(opt)
        self._batches = BatchMaker.of(opt)
        self.netG = build_generator(opt, self.mode.modulation, self.mode.start_is_map)
        self.netG.recomputes = opt.isTrain and opt.checkpoint_activations
        self.lite0 = _lite0_features(opt) if opt.isTrain else None
        self.netD = build_discriminator(opt, self.lite0) if opt.isTrain else None
        self.netE = self.mode.build_encoder() if opt.use_vae else None
        self.vgg_loss = self.lite0_loss = None
        if opt.isTrain and opt.perceptual == "lite0":
            self.lite0_loss = Lite0Loss(self.lite0)
        elif opt.isTrain and not opt.no_vgg_loss:
            self.vgg_loss = VGGLoss(self.mode.vgg_layer_weights, opt.vgg_weights)
        # the fast convolutions of CPU and GPU work on channels-last tensors
        self.to(opt.device, memory_format=torch.channels_last)
        self.train(opt.isTrain)

    # ---- batches ----

    def prepare(self, data: "Mapping[str, Any] | Batch", part: Part = WHOLE) -> Batch:
        """What the other methods take. Prepare a batch once and use it for as many steps as you like.

        :param data: as the data loader gives it: ``label`` and ``instance`` [B, 1, H, W] integers, ``image``
            [B, 3, H, W] in [-1, 1] (where photos are needed). For a GPU its tables are made now, unless the loader
            made them. A batch that is prepared already comes back as it is.
        :param part: which part of a batch it is, where several processes share one.
        :raises UserError: layouts of another size than the generator's.
        """
        if isinstance(data, Batch):
            return data
        batch = self._batches.batch(data, part)
        if batch.layout.size != self.netG.output_size:
            raise UserError("layouts have {}x{} pixels, but the generator makes {}x{}: change --preprocess_mode, "
                            "--crop_size or --aspect_ratio".format(*batch.layout.size[::-1],
                                                                   *self.netG.output_size[::-1]))
        return batch

    # ---- training ----

    def generator_losses(self, batch: Batch) -> tuple[Losses, Tensor]:
        """The losses of generator and encoder, and the fake images [B, 3, H, W] in [-1, 1].

        A new loss is an entry here: a :class:`~models.networks.loss.Loss`, which says whether it is a mean or a sum.
        """
        rows = self._encoded_rows  # the others have no photo to be like
        fake, styles, posterior = self._fake(batch, rows)
        losses: Losses = {}
        if posterior is not None:
            losses["KLD"] = Loss(posterior[rows].kl_divergence() * self.opt.lambda_kld, "sum")
        if self.opt.lambda_color:
            colors = color_loss(fake, batch.image, batch.layout, rows) * self.opt.lambda_color
            losses["Color"] = Loss(only_through(colors, styles.noise), "sum")  # the encoder alone learns from it
        with frozen(self.netD), self.lite0.while_shared() if self.lite0 else contextlib.nullcontext():
            judged, target = self.netD(batch.layout, fake, batch.image)  # gradients flow through it, not to it
            losses["GAN"] = Loss(gan_loss(judged, self.opt.gan_mode, real=True, for_discriminator=False))
            if not self.opt.no_ganFeat_loss:
                matching = feature_matching_loss(judged, target, self.mode.first_matched_layer, rows)
                losses["GAN_Feat"] = Loss(matching * self.opt.lambda_feat)
            if self.vgg_loss:
                losses["VGG"] = Loss(self.vgg_loss(fake[rows], batch.image[rows]) * self.opt.lambda_vgg)
            if self.lite0_loss:
                losses["Lite0"] = Loss(self.lite0_loss(fake, batch.image, rows) * self.opt.lambda_lite0)
        return losses, fake

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The losses of the discriminators, on newly drawn fakes. A regulariser belongs here; gradients of gradients
        are not supported."""
        fake = self.infer_as_trained(batch)
        judged_fake, judged_real = self.netD(batch.layout, fake, batch.image)
        return {
            "D_Fake": Loss(gan_loss(judged_fake, self.opt.gan_mode, real=False, for_discriminator=True)),
            "D_real": Loss(gan_loss(judged_real, self.opt.gan_mode, real=True, for_discriminator=True)),
        }

    def _fake(self, batch: Batch, rows: slice = ALL) -> tuple[Tensor, Styles, Posterior | None]:
        """Images in newly drawn styles, and the styles: of the photos with ``netE``, whose posterior comes along, else
        of the prior. Samples outside of ``rows`` are of the prior in any case."""
        styles = self.mode.prior(batch.layout)
        if self.netE is None:
            return self.synthesize(batch, styles), styles, None
        posterior = self.netE(batch.image, batch.layout)
        encoded = posterior.remap(styles)
        if rows != ALL:
            encoded = encoded.alternating(styles)
        return self.synthesize(batch, encoded), encoded, posterior

    @property
    def _encoded_rows(self) -> slice:
        """Which samples of a training batch are in the styles of their photos, where there is an encoder."""
        return EVERY_SECOND if self.opt.mix_prior else ALL

    def create_optimizers(self, opt: Options) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """Adam for (generator and encoder, discriminators); learning rates as of the first epoch."""
        generator = [*self.netG.parameters(), *(self.netE.parameters() if self.netE is not None else ())]
        rates = learning_rates(opt, opt.lr)
        return tuple(torch.optim.Adam(parameters, lr=rate, betas=(opt.beta1, opt.beta2), fused=True)
                     for parameters, rate in zip((generator, list(self.netD.parameters())), rates, strict=True))

    # ---- synthesis ----

    def synthesize(self, batch: Batch, styles: Styles) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] of the layouts in these styles."""
        return self.netG(*self.mode.inputs(batch.layout, styles))

    @torch.no_grad()
    def infer(self, batch: Batch) -> Tensor:
        """Images in newly drawn styles: of the photos with ``netE``, else of the prior."""
        return self._fake(batch)[0]

    @torch.no_grad()
    def infer_as_trained(self, batch: Batch) -> Tensor:
        """Images in newly drawn styles as in training: with ``--mix_prior``, every second one is of the prior."""
        return self._fake(batch, self._encoded_rows)[0]

    @torch.no_grad()
    def sample(self, batch: Batch) -> Tensor:
        """Images in newly drawn styles of the prior, whether there is an encoder or not."""
        return self.synthesize(batch, self.mode.prior(batch.layout))

    # ---- checkpoints ----

    def networks(self) -> dict[str, nn.Module]:
        """File label -> network, of the networks that exist; those that test.py needs come first."""
        found = {"G": self.netG, self.mode.encoder_files[0]: self.netE, "D": self.netD}
        return {label: network for label, network in found.items() if network is not None}

    def save(self, epoch: str | int) -> None:
        """Write ``<epoch>_net_*.pth``, state dicts in the published layout."""
        states = {label: checkpoints.tensors_of(network) for label, network in self.networks().items()}
        checkpoints.save_networks(states, self.opt.folder, epoch)

    def load(self, epoch: str | int, averaged: bool = False, without: str = "") -> None:
        """Read ``<epoch>_net_*.pth``, or the averages ``<epoch>_net_*_ema.pth`` (of G and E).

        :param without: the label of a network that stays as it is.
        :raises UserError: a file is missing, damaged, or belongs to another architecture.
        """
        networks = self.networks()
        names = {label: self.mode.encoder_files if network is self.netE else (label,)
                 for label, network in networks.items() if label != without}
        for label, (path, tensors) in checkpoints.read_networks(self.opt.folder, epoch, names, averaged).items():
            checkpoints.load_state_dict(networks[label], tensors, path)

    def init_from(self, folder: str) -> list[str]:
        """Take from the newest networks of another run every tensor whose name and shape agree: to go on at another
        size, or on other data. What has no counterpart there keeps its initial weights. Where both runs have names of
        classes, what belongs to a class goes to the one of that name.

        :return: a table of what was taken and what is new, in lines.
        :raises UserError: there is no generator, or a file is damaged.
        """
        state = checkpoints.read_state(checkpoints.network_path(folder, "G", "latest"))
        match = ClassMatch.of(saved_class_names(folder), class_names(self.opt), class_count(state),
                              self.opt.num_classes)
        lines = []
        for label, network in self.networks().items():
            names = self.mode.encoder_files if network is self.netE else (label,)
            paths = [checkpoints.network_path(folder, name, "latest") for name in names]
            path = checkpoints.first_existing(paths)
            if label != "G" and not os.path.exists(path):
                lines.append(f"net{label}: new ({path} is not there)")
                continue
            aligned: list[str] = []
            found = state if label == "G" else checkpoints.read_state(path)
            fitted = self.opt.norm_mode == "inade" and {"class_means", "prior.factors"} & found.keys()
            if fitted and not self.opt.fitted_prior:
                raise UserError(f"{path}: its prior was fitted; give --fitted_prior")
            new = checkpoints.load_agreeing(network, found, path, functools.partial(match.align, aligned=aligned))
            count = len(network.state_dict())
            lines.append(f"net{label}: {count - len(new)} of {count} tensors from {path}"
                         + (f", {len(aligned)} of them class by class" if aligned else "")
                         + (f"; new: {shortened(new, 6, ',')}" if new else ""))
        return [*lines, *match.lines()]


def _lite0_features(opt: Options) -> Lite0Features | None:
    """The frozen network, where the discriminators or the perceptual loss look at its activations."""
    layers = [*(BLOCKS if opt.netD == "projected" else ()), *(Lite0Loss.layers if opt.perceptual == "lite0" else ())]
    return Lite0Features(layers) if layers else None


def learning_rates(opt: Options, lr: float) -> tuple[float, float]:
    """Learning rates of generator and discriminators (TTUR, Heusel et al. 2017) for a base rate."""
    return (lr, lr) if opt.no_TTUR else (lr / 2, lr * 2)


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of ``network`` in this block; they still flow through it."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
