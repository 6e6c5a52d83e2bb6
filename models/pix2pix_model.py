"""The model: generator, encoder, discriminators and losses behind the modes that trainers and testers call."""
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.modes import mode_of
from models.networks import (
    Layout,
    VGGLoss,
    build_discriminator,
    build_generator,
    feature_matching_loss,
    gan_loss,
)
from models.networks.loss import Scores
from util.checkpoints import load_network, network_path, save_network
from util.errors import UserError


class Pix2PixModel(nn.Module):
    """``netG``, ``netE`` (None without ``use_vae``) and, for training, ``netD`` and the losses.

    Networks start from their initial weights; :meth:`load` reads a checkpoint.

    :raises UserError: the perceptual loss is asked for and VGG19's weights are not there.
    """

    def __init__(self, opt: Any):
        super().__init__()
        self.opt = opt
        self.mode = mode_of(opt)
        self.netG = build_generator(opt, self.mode.start_is_map)
        self.netD = build_discriminator(opt) if opt.isTrain else None
        self.netE = self.mode.build_encoder(opt) if opt.use_vae else None
        self.vgg_loss = None
        self._layout_of: tuple[Tensor, Tensor, tuple[int, int], Layout] | None = None
        if opt.isTrain and not opt.no_vgg_loss:
            self.vgg_loss = VGGLoss(self.mode.vgg_layer_weights, opt.vgg_weights)
        # the fast convolutions of CPU and GPU work on channels-last tensors
        self.to(opt.device, memory_format=torch.channels_last)
        self.train(opt.isTrain)

    def forward(self, data: Mapping[str, Any], mode: str, **draws: Tensor) -> Any:
        """Run one mode on a batch.

        :param data: ``label`` and ``instance`` [B, 1, H, W] integers, ``image`` [B, 3, H, W] in [-1, 1] (not needed
            for inference from the prior).
        :param mode: ``generator`` -> (dict of named losses, fake images); ``discriminator`` -> dict of named losses;
            ``inference`` -> images [B, 3, H, W] in [-1, 1].
        :param draws: ``noise_ins`` [B, z_dim] and ``noise`` [B, K, 2, noise_nc] instead of new random numbers.
        """
        modes = {"generator": self.generator_losses, "discriminator": self.discriminator_losses,
                 "inference": self.infer}
        return modes[mode](data, **draws)

    def layout(self, data: Mapping[str, Any]) -> Layout:
        """The layout of a batch, on the model's device; the two steps on one batch share it."""
        label, instance = data["label"], data["instance"]
        versions = label._version, instance._version  # they count changes in place
        if self._layout_of is None or not (self._layout_of[0] is label and self._layout_of[1] is instance
                                           and self._layout_of[2] == versions):
            device = self.opt.device
            layout = Layout(label.to(device), instance.to(device), self.opt.num_classes,
                            with_edges=not self.opt.no_instance)
            if (size := tuple(layout.label.shape[1:])) != self.netG.output_size:
                raise UserError("layouts come as {}x{}, but the generator makes {}x{}: change --preprocess_mode, "
                                "--crop_size or --aspect_ratio".format(*size[::-1], *self.netG.output_size[::-1]))
            self._layout_of = label, instance, versions, layout
        return self._layout_of[3]

    def image(self, data: Mapping[str, Any]) -> Tensor:
        return data["image"].to(self.opt.device, memory_format=torch.channels_last)

    def generator_losses(self, data: Mapping[str, Any], **draws: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        layout, real = self.layout(data), self.image(data)
        draw = self.mode.draw(layout, self.netE, real, **draws)
        fake = self.netG(draw.start, draw.condition)
        losses = {}
        if draw.kld is not None:
            losses["KLD"] = draw.kld * self.opt.lambda_kld
        with frozen(self.netD):  # gradients flow through it, not to it
            fake_scores, real_scores = self.judge(layout, fake, real, real_gradient=False)
        losses["GAN"] = gan_loss(fake_scores, self.opt.gan_mode, real=True, for_discriminator=False)
        if not self.opt.no_ganFeat_loss:
            matching = feature_matching_loss(fake_scores, real_scores, self.mode.first_matched_layer)
            losses["GAN_Feat"] = matching * self.opt.lambda_feat
        if self.vgg_loss:
            losses["VGG"] = self.vgg_loss(fake, real) * self.opt.lambda_vgg
        return losses, fake

    def discriminator_losses(self, data: Mapping[str, Any], **draws: Tensor) -> dict[str, Tensor]:
        layout, real = self.layout(data), self.image(data)
        with torch.no_grad():
            draw = self.mode.draw(layout, self.netE, real, **draws)
            fake = self.netG(draw.start, draw.condition)
        fake_scores, real_scores = self.judge(layout, fake, real)
        return {
            "D_Fake": gan_loss(fake_scores, self.opt.gan_mode, real=False, for_discriminator=True),
            "D_real": gan_loss(real_scores, self.opt.gan_mode, real=True, for_discriminator=True),
        }

    @torch.no_grad()
    def infer(self, data: Mapping[str, Any], **draws: Tensor) -> Tensor:
        """Images in the styles of the batch's own images with ``netE``, else of the prior."""
        image = self.image(data) if self.netE is not None else None
        draw = self.mode.draw(self.layout(data), self.netE, image, **draws)
        return self.netG(draw.start, draw.condition)

    @torch.no_grad()
    def sample(self, data: Mapping[str, Any], **draws: Tensor) -> Tensor:
        """Images in styles of the prior, whether there is an encoder or not."""
        draw = self.mode.draw(self.layout(data), None, None, **draws)
        return self.netG(draw.start, draw.condition)

    def judge(self, layout: Layout, fake: Tensor, real: Tensor, real_gradient: bool = True) -> tuple[Scores, Scores]:
        """The discriminators' outputs for fake and real images, with one power iteration for both."""
        responses = self.netD.class_responses(layout)
        fake_scores = self.netD.judge(responses, layout, fake)
        training = self.netD.training
        self.netD.eval()  # no second power iteration; nothing else in it depends on the mode
        with torch.set_grad_enabled(real_gradient and torch.is_grad_enabled()):
            real_scores = self.netD.judge(responses, layout, real)
        self.netD.train(training)
        return fake_scores, real_scores

    def create_optimizers(self, opt: Any) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """Adam for (generator and encoder, discriminators); learning rates as of the first epoch."""
        generator = [*self.netG.parameters(), *(self.netE.parameters() if self.netE is not None else ())]
        rates = learning_rates(opt, opt.lr)
        return tuple(torch.optim.Adam(parameters, lr=rate, betas=(opt.beta1, opt.beta2), fused=True)
                     for parameters, rate in zip((generator, list(self.netD.parameters())), rates, strict=True))

    def networks(self) -> dict[str, nn.Module]:
        """File label -> network, of those there are."""
        found = {"G": self.netG, "D": self.netD, self.mode.encoder_label: self.netE}
        return {label: network for label, network in found.items() if network is not None}

    def save(self, epoch: str | int) -> None:
        """Write ``<epoch>_net_*.pth``."""
        for label, network in self.networks().items():
            save_network(network, network_path(self.opt, label, epoch))

    def load(self, epoch: str | int) -> None:
        """Read ``<epoch>_net_*.pth``.

        :raises UserError: a file is missing or belongs to another architecture.
        """
        for label, network in self.networks().items():
            labels = ["IE", "E"] if label == "IE" else [label]
            load_network(network, [network_path(self.opt, name, epoch) for name in labels])


def learning_rates(opt: Any, lr: float) -> tuple[float, float]:
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
