"""Options that training and testing share, and how they are parsed, checked, frozen, written and read."""
import argparse
import math
import os
import re
import sys
from typing import Any

import torch

from data import DATASETS
from models.networks import (
    CROP_DIVISOR,
    ENCODER_STRIDE,
    GENERATORS,
    INIT_TYPES,
    NORM_MODES,
    output_size,
    parse_norm_name,
)
from util.arguments import ArgumentParser
from util.errors import UserError
from util.files import write_atomically

PREPROCESS_MODES = (
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside",
    "scale_shortside_and_crop", "fixed", "none",
)
COMPATIBILITY = "accepted for compatibility"


class Options(argparse.Namespace):
    """Parsed options, read-only once :meth:`freeze` was called."""

    _frozen = False
    _defaults: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._frozen:
            raise AttributeError(f"options are frozen: use opt.replace({name}=...) for an altered copy")
        super().__setattr__(name, value)

    def freeze(self, defaults: dict[str, Any]) -> "Options":
        self.__dict__.update(_defaults=defaults, _frozen=True)
        return self

    def replace(self, **changes: Any) -> "Options":
        """A frozen copy with ``changes`` applied; every name must exist already."""
        unknown = changes.keys() - vars(self).keys()
        if unknown:
            raise AttributeError(f"no such options: {', '.join(sorted(unknown))}")
        return Options(**{**vars(self), "_frozen": False, **changes}).freeze(self._defaults)

    @property
    def folder(self) -> str:
        """Where the experiment's networks and logs lie."""
        return os.path.join(self.checkpoints_dir, self.name)

    def save(self) -> None:
        """Write ``opt.txt`` into the experiment's folder: a line per option, with the default where it differs."""
        lines = []
        for name, value in sorted(vars(self).items()):
            if name.startswith("_"):
                continue
            default = self._defaults.get(name, value)
            note = f"\t[default: {default}]" if value != default else ""
            lines.append(f"{name:>25}: {value!s:<30}{note}\n")
        write_atomically(os.path.join(self.folder, "opt.txt"), "".join(lines))

    @property
    def num_classes(self) -> int:
        """C: ``label_nc``, plus one for "don't care"."""
        return self.label_nc + int(self.contain_dontcare_label)

    @property
    def semantic_nc(self) -> int:
        """Channels of the semantic input: C, plus one for the instance edges."""
        return self.num_classes + int(not self.no_instance)


class BaseOptions:
    """Build with the class of the command, then :meth:`parse`."""

    is_train = False

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        # experiment
        add("--name", default="label2coco", help="name of the experiment: a folder under --checkpoints_dir")
        add("--gpu_ids", default="0", help="CUDA device to use, e.g. 0; -1 uses the CPU")
        add("--checkpoints_dir", default="./checkpoints", help="folder of all experiments")
        add("--model", default="pix2pix", choices=["pix2pix"], help=COMPATIBILITY)
        add("--phase", default="train", choices=["train", "val", "test"],
            help="split to read: train, or the one to test on (val and test mean the same)")
        add("--seed", type=int, default=None, help="seed of all random draws; makes a run repeatable")
        add("--use_amp", action="store_true",
            help="mixed precision: float16 with gradient scaling on CUDA, bfloat16 on the CPU")
        # networks
        add("--norm_mode", default="inade", choices=sorted(NORM_MODES), help="modulation of the generator")
        add("--norm_G", default="spectralspadesyncbatch3x3",
            help="[spectral]{spade,inade}{syncbatch,batch,instance}KxK: spectral norm of the generator's convolutions, "
                 "normalisation under the modulation, kernel size of SPADE's modulation")
        add("--norm_D", default="spectralinstance", choices=["spectralinstance", "instance", "spectralnone", "none"],
            help="normalisation of the discriminators")
        add("--norm_E", default="spectralinstance", choices=["spectralinstance", "instance", "spectralnone", "none"],
            help="normalisation of SPADE's image encoder")
        add("--netG", default="spade", choices=sorted(GENERATORS), help="generator architecture")
        add("--ngf", type=int, default=64, help="channels of the generator's and encoder's first width")
        add("--nef", type=int, default=16, help=COMPATIBILITY + "; the encoder's width is --ngf")
        add("--init_type", default="xavier", choices=sorted(INIT_TYPES), help="initial distribution of weights")
        add("--init_variance", type=float, default=0.02, help="gain (std for normal) of the initial distribution")
        add("--z_dim", type=int, default=256, help="length of the noise vector in front of the generator")
        add("--noise_nc", type=int, default=64, help="length of an instance's noise vector (inade)")
        add("--num_upsampling_layers", default="normal", choices=sorted(CROP_DIVISOR),
            help="doublings of resolution: normal 5, more 6, most 7")
        add("--use_vae", action="store_true", help="use the (instance) encoder")
        add("--no_instance", action="store_true", help="no instance edge channel in the semantic input")
        # data
        add("--dataset_mode", default="coco", choices=sorted(DATASETS), help="kind of data set")
        add("--dataroot", default="./datasets/cityscapes", help="folder of the data set")
        add("--label_nc", type=int, default=182, help="number of classes, without don't care")
        add("--contain_dontcare_label", action="store_true", help="value 255 of a label map is one more class")
        add("--label_colors", default=None, metavar="FILE",
            help="text table of label maps that are drawn in colours: lines `r g b id [name]`")
        add("--output_nc", type=int, default=3, choices=[3], help=COMPATIBILITY + ": images are RGB")
        add("--batchSize", type=int, default=1, help="images per step")
        add("--preprocess_mode", default="scale_width_and_crop", choices=PREPROCESS_MODES,
            help="how images are brought to size")
        add("--load_size", type=int, default=1024, help="pixels: size that images are scaled to")
        add("--crop_size", type=int, default=512, help="pixels: width that images are cropped to")
        add("--aspect_ratio", type=float, default=1.0, help="width / height of the images")
        add("--serial_batches", action="store_true", help="take images in order instead of at random")
        add("--no_flip", action="store_true", help="no random horizontal flips in training")
        add("--no_pairing_check", action="store_true", help="do not check that file names pair up")
        add("--nThreads", type=int, default=0, help="data-loading processes; 0 loads in the main process")
        add("--max_dataset_size", type=int, default=sys.maxsize, help="use only this many images")
        add("--cache_filelist_write", action="store_true", help="save the list of files for --cache_filelist_read")
        add("--cache_filelist_read", action="store_true", help="read the saved list of files instead of the folders")
        # files and display
        add("--load_from_opt_file", action="store_true",
            help="take options from checkpoints_dir/name/opt.txt unless they are given here")
        add("--results_dir", default="./results/", help="folder for test results")
        add("--display_winsize", type=int, default=400, help="pixels: width of images on the web pages")
        add("--train_eval", action="store_true", help="evaluate FID on the test split during training")
        add("--eval_dims", type=int, default=2048, choices=[64, 192, 768, 2048], help="Inception features for FID")
        add("--eval_epoch_freq", type=int, default=10, help="epochs between evaluations")
        add("--eval_statistics", default="",
            help="statistics of real images, as fid_score.py's --load_np_name; '': those of --dataset_mode")
        add("--eval_precision", default="float32", choices=["bfloat16", "float32"],
            help="precision of Inception: the one that the statistics were made in")
        add("--inception_weights", default=None, help="file of the FID Inception's weights; default: torch hub cache")

    def parser_for(self, args: list[str]) -> argparse.ArgumentParser:
        """The parser with the data set's own options and defaults, as ``args`` select it."""
        parser = ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        self.add_options(parser)
        choice = ArgumentParser(add_help=False)
        choice.add_argument("--dataset_mode", default=parser.get_default("dataset_mode"))
        mode = choice.parse_known_args(args)[0].dataset_mode
        if mode in DATASETS:  # an unknown one is refused by the parser itself
            DATASETS[mode].modify_commandline_options(parser, self.is_train)
        return parser

    def parse(self, args: list[str] | None = None) -> Options:
        """Parse ``args`` (default: the command line) into frozen options.

        :raises UserError: values that do not go together, or a device that does not exist.
        :raises SystemExit: status 2 with one line, for options that argparse refuses.
        """
        args = sys.argv[1:] if args is None else list(args)
        if "--load_from_opt_file" in args:
            args = self._saved_arguments(args) + args
        parser = self.parser_for(args)
        given = _given_names(parser, args)
        opt = parser.parse_args(args, Options())
        opt.isTrain = self.is_train
        self.finish(opt, given)
        opt.device = _device(opt, "gpu_ids" in given)
        _check(opt)
        return opt.freeze({action.dest: action.default for action in parser._actions})

    def _saved_arguments(self, args: list[str]) -> list[str]:
        """Arguments for the options in which a run's ``opt.txt`` (text; nothing in it runs) left the defaults."""
        known = self.parser_for(args).parse_known_args(args)[0]
        path = os.path.join(known.checkpoints_dir, known.name, "opt.txt")
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise UserError(f"--load_from_opt_file: cannot read {path} ({error.strerror}); check --name") from error
        matches = [re.fullmatch(r"\s*(\w+): (.*?)\s*(\t\[default: .*)?", line) for line in lines]
        mode = [f"--dataset_mode={match[2]}" for match in matches if match and match[1] == "dataset_mode"]
        values = {match[1]: match[2] for match in matches if match and match[3]}
        skip = {"name", "checkpoints_dir", "load_from_opt_file", "phase", "gpu_ids", "continue_train", "which_epoch",
                "dataset_mode"}
        arguments = mode
        for action in self.parser_for(mode + args)._actions:
            value = values.get(action.dest)
            if value in (None, "None") or action.dest in skip or not action.option_strings:
                continue
            if action.nargs == 0:  # a switch
                arguments += [action.option_strings[0]] if value == "True" else []
            else:
                arguments.append(f"{action.option_strings[0]}={value}")
        return arguments

    def finish(self, opt: Options, given: set[str]) -> None:
        """Derive options that depend on others; ``given`` are the names the user set."""


def _given_names(parser: argparse.ArgumentParser, args: list[str]) -> set[str]:
    options = {arg.split("=", 1)[0] for arg in args if arg.startswith("--")}
    return {action.dest for action in parser._actions if options & set(action.option_strings)}


def _device(opt: Options, asked: bool) -> torch.device:
    try:
        ids = [int(i) for i in opt.gpu_ids.split(",") if i.strip()]
    except ValueError as error:
        raise UserError(f"--gpu_ids {opt.gpu_ids}: not device numbers; use e.g. 0, or -1 for the CPU") from error
    ids = [i for i in ids if i >= 0]
    if not ids:
        return torch.device("cpu")
    if opt.batchSize % len(ids):
        raise UserError(f"--batchSize {opt.batchSize} is not divisible by the {len(ids)} devices of --gpu_ids "
                        f"{opt.gpu_ids}: choose a multiple of {len(ids)}")
    if not torch.cuda.is_available():
        if asked:
            raise UserError(f"--gpu_ids {opt.gpu_ids}: no CUDA device was found; use --gpu_ids -1 for the CPU")
        print("no CUDA device found: using the CPU (--gpu_ids -1)", file=sys.stderr)
        return torch.device("cpu")
    if len(ids) > 1:
        raise UserError(f"--gpu_ids {opt.gpu_ids}: one device per run is supported; name one of them")
    if ids[0] >= torch.cuda.device_count():
        raise UserError(f"--gpu_ids {ids[0]}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return torch.device("cuda", ids[0])


def _check(opt: Options) -> None:
    for name in ("batchSize", "ngf", "label_nc", "load_size", "crop_size", "z_dim", "noise_nc", "max_dataset_size",
                 "display_winsize", "eval_epoch_freq"):
        if getattr(opt, name) < 1:
            raise UserError(f"--{name} {getattr(opt, name)}: must be at least 1")
    if opt.nThreads < 0:
        raise UserError(f"--nThreads {opt.nThreads}: must be 0 or more")
    for name in ("aspect_ratio", "init_variance"):
        if not 0 < getattr(opt, name) < math.inf:
            raise UserError(f"--{name} {getattr(opt, name)}: must be a number above 0")
    if opt.seed is not None and not 0 <= opt.seed < 2**63:
        raise UserError(f"--seed {opt.seed}: must be from 0 to 2**63 - 1")
    if os.path.isabs(opt.name) or ".." in opt.name.split("/"):
        raise UserError(f"--name {opt.name}: must be a folder name under --checkpoints_dir")
    if opt.preprocess_mode.endswith("crop") and opt.preprocess_mode != "crop" and opt.load_size < opt.crop_size:
        raise UserError(f"--load_size {opt.load_size} is smaller than --crop_size {opt.crop_size}: enlarge it")
    parse_norm_name(opt.norm_G, opt.norm_mode)
    divisor = CROP_DIVISOR[opt.num_upsampling_layers]
    if opt.crop_size % divisor:
        raise UserError(f"--crop_size {opt.crop_size}: must be a multiple of {divisor} with "
                        f"--num_upsampling_layers {opt.num_upsampling_layers}")
    if opt.num_upsampling_layers == "most" and opt.ngf % 2:
        raise UserError(f"--ngf {opt.ngf}: must be even with --num_upsampling_layers most")
    height, width = output_size(opt)
    if not height:
        raise UserError(f"--aspect_ratio {opt.aspect_ratio}: too wide for --crop_size {opt.crop_size}")
    expected = round(opt.crop_size / opt.aspect_ratio) if opt.preprocess_mode == "fixed" else opt.crop_size
    if opt.preprocess_mode != "none" and height != expected:
        raise UserError(f"--aspect_ratio {opt.aspect_ratio}: the generator makes images of {width}x{height}, the data "
                        f"are {opt.crop_size}x{expected} with --preprocess_mode {opt.preprocess_mode}; "
                        "change one of --aspect_ratio, --crop_size, --preprocess_mode")
    if opt.norm_mode == "inade" and opt.use_vae and (height % ENCODER_STRIDE or width % ENCODER_STRIDE):
        raise UserError(f"--use_vae: the encoder needs sides that are multiples of {ENCODER_STRIDE}, "
                        f"not {width}x{height}; change --crop_size or --aspect_ratio")
