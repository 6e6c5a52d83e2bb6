"""Options of ``train.py``."""
import argparse
import math

from models.networks import DISCRIMINATORS, GAN_MODES
from options.base_options import COMPATIBILITY, BaseOptions, Options
from util.errors import UserError


class TrainOptions(BaseOptions):
    is_train = True

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument
        # display and saving: frequencies count training images, as published
        add("--display_freq", type=int, default=100, help="images between pictures on the training page")
        add("--print_freq", type=int, default=100, help="images between lines of loss_log.txt")
        add("--save_latest_freq", type=int, default=5000, help="images between savings of the latest networks")
        add("--save_epoch_freq", type=int, default=10, help="epochs between savings of numbered networks")
        add("--no_html", action="store_true", help="do not write the training page")
        add("--debug", action="store_true", help="one epoch of at most 10 images, all of it displayed and printed")
        add("--tf_log", action="store_true", help="also log to TensorBoard")
        # schedule
        add("--continue_train", action="store_true", help="resume from the networks of --which_epoch")
        add("--which_epoch", default="latest", help="what to resume from: a number, latest or best")
        add("--niter", type=int, default=50, help="epochs at the full learning rate")
        add("--niter_decay", type=int, default=0, help="further epochs, in which the learning rate falls to 0")
        add("--optimizer", default="adam", choices=["adam"], help=COMPATIBILITY + ": Adam")
        add("--beta1", type=float, default=0.0, help="first momentum of Adam (0.5 with --no_TTUR)")
        add("--beta2", type=float, default=0.9, help="second momentum of Adam (0.999 with --no_TTUR)")
        add("--no_TTUR", action="store_true", help="the same learning rate for both sides, instead of lr/2 and 2*lr")
        add("--lr", type=float, default=0.0002, help="learning rate of Adam")
        add("--D_steps_per_G", type=int, default=1, help="discriminator steps per generator step")
        # losses and discriminator
        add("--ndf", type=int, default=64, help="channels of the discriminators' first layer")
        add("--lambda_feat", type=float, default=10.0, help="weight of the feature matching loss")
        add("--lambda_vgg", type=float, default=10.0, help="weight of the VGG perceptual loss")
        add("--lambda_kld", type=float, default=0.05, help="weight of the KL divergence")
        add("--no_ganFeat_loss", action="store_true", help="no feature matching loss")
        add("--no_vgg_loss", action="store_true", help="no VGG perceptual loss")
        add("--vgg_weights", default=None, help="file of torchvision's VGG19 weights; default: torch hub cache")
        add("--gan_mode", default="hinge", choices=sorted(GAN_MODES), help="adversarial loss")
        add("--netD", default="multiscale", choices=sorted(DISCRIMINATORS), help="discriminator architecture")
        add("--netD_subarch", default="n_layer", choices=["n_layer"], help=COMPATIBILITY + ": PatchGAN")
        add("--num_D", type=int, default=2, help="number of discriminators, each at half the resolution of the last")
        add("--n_layers_D", type=int, default=4, help="layers of each discriminator, without the last")

    def finish(self, opt: Options, given: set[str]) -> None:
        if opt.no_TTUR:
            opt.beta1 = opt.beta1 if "beta1" in given else 0.5
            opt.beta2 = opt.beta2 if "beta2" in given else 0.999
        if opt.debug:
            opt.niter, opt.niter_decay, opt.display_freq, opt.print_freq = 1, 0, 1, 1
            opt.max_dataset_size = min(opt.max_dataset_size, 10)
        for name in ("display_freq", "print_freq", "save_latest_freq", "save_epoch_freq", "D_steps_per_G", "ndf",
                     "num_D", "n_layers_D"):
            if getattr(opt, name) < 1:
                raise UserError(f"--{name} {getattr(opt, name)}: must be at least 1")
        if min(opt.niter, opt.niter_decay) < 0 or opt.niter + opt.niter_decay < 1:
            raise UserError(f"--niter {opt.niter} --niter_decay {opt.niter_decay}: there must be at least one epoch")
        if not 0 < opt.lr < math.inf:
            raise UserError(f"--lr {opt.lr}: must be a number above 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(opt, name) < 1:
                raise UserError(f"--{name} {getattr(opt, name)}: must be from 0 to below 1")
