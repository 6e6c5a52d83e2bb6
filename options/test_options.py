"""Options of ``test.py``, and of commands that look at trained networks."""
import argparse
import math
import os
from typing import NamedTuple

from options.command_options import CommandOptions, given_names, names_of
from options.groups import Architecture, Data, Device, Display, Experiment, Loading, Published, Recording
from options.options import Options
from util import launch
from util.arguments import count, integer, number
from util.errors import UserError, say_once

# of the options of networks, those that do not decide what a checkpoint fits
_NO_MATTER = frozenset({"netG", "nef", "output_nc", "init_type", "init_variance"})
# of the options of data, those that say what layouts are
LAYOUTS = frozenset({"preprocess_mode", "label_colors", "label_map", "dont_care_id", "orientation"})


class NetworkOptions(CommandOptions):
    """Trained networks on a device, and layouts to try them on.

    Where the run's ``opt.txt`` is there, networks are built and layouts are read as it says, also without
    --load_from_opt_file. That takes the other options of the file, too.
    """

    groups = (Experiment, Device, Recording, Architecture, Data)
    defaults = {"phase": "test"}  # noqa: RUF012 (read only)
    not_from_file = frozenset({"load_size"})  # what training crops from

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--which_epoch", default="latest", help="checkpoint to load: a number, latest or best")
        parser.add_argument("--use_ema", action="store_true", help="load the averaged networks of train.py --ema")

    def arguments(self, args: list[str]) -> list[str]:
        return super().arguments(args) if "--load_from_opt_file" in args else [*self._networks_as_saved(args), *args]

    def _networks_as_saved(self, args: list[str]) -> list[str]:
        """Arguments for what the run's ``opt.txt`` says of networks and layouts; none where it cannot be used.

        :raises UserError: ``args`` contradict it.
        """
        path = self.opt_file(args)
        if not os.path.isfile(path):
            return []
        names = names_of([Architecture]) - _NO_MATTER
        try:
            saved = self._saved_arguments(args, names | LAYOUTS)
        except UserError as error:
            say_once(path, f"{error}. The file is not used")
            return []
        parser = self.parser_for(args)
        theirs, ours = (self.parser_for(words).parse_known_args(words)[0] for words in (saved, args))
        if theirs.norm_mode == "inade":
            names -= {"use_vae"}  # whether the encoder is used, not what a checkpoint fits
        elif not theirs.use_vae:
            names -= {"crop_size", "aspect_ratio"}  # such networks take any size
        given = given_names(parser, args)
        if other := sorted(name for name in names & given if getattr(theirs, name) != getattr(ours, name)):
            name = other[0]
            raise UserError(f"{in_words(name, getattr(ours, name))}: the networks have "
                            f"{in_words(name, getattr(theirs, name))}, as {path} says; leave the option out, or check "
                            "--name")
        names |= LAYOUTS if "dataset_mode" not in given or theirs.dataset_mode == ours.dataset_mode else set()
        taken = {name for name in names - given if getattr(theirs, name) != getattr(ours, name)}
        if "dataset_mode" not in given:
            taken |= {"dataset_mode"} if theirs.dataset_mode != ours.dataset_mode else set()
        if taken and launch.number() == 0:
            words = ", ".join(in_words(name, getattr(theirs, name)) for name in sorted(taken))
            say_once(f"{path} {words}", f"as {path} says: {words}")
        switch = {option: action.dest for action in parser._actions for option in action.option_strings}
        return [word for word in saved if switch[word.partition("=")[0]] in names | {"dataset_mode"}]

    def finish(self, opt: Options, given: set[str]) -> None:
        if "load_size" not in given:  # so that nothing is cropped, see options/dataset_defaults.py
            opt.load_size = opt.crop_size


def in_words(name: str, value: object) -> str:
    """An option as users give it; of a switch, whether they do."""
    return f"{'' if value else 'no '}--{name}" if isinstance(value, bool) else f"--{name} {value}"


class TestOptions(NetworkOptions):
    __test__ = False  # not a test case, whatever pytest thinks of the name
    groups = (*NetworkOptions.groups, Loading, Display, Published)
    defaults = {"phase": "test", "serial_batches": True, "no_flip": True}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("styles (docs/styles.md)").add_argument
        add("--num_samples", type=integer(1, 1000), default=1, metavar="N", help="samples of each layout")
        add("--styles", default=None, choices=["prior", "encoder"],
            help="where styles are drawn from: the prior, or the encoder's distribution for the layout's own photo. "
                 "Default: encoder with --use_vae, unless --reference or --style_file is given")
        add("--truncation", type=number(0), default=1.0, metavar="T",
            help="factor on the distance of drawn styles from the mean: less variety below 1; 0 gives the mean")
        add("--vary", type=Varied.parse, default=Varied("all"), metavar="WHAT",
            help="what differs between the samples: all, global (only z), classes:ID|NAME,... or instances:ID,...")
        add("--reference", nargs="+", default=None, metavar="PATH",
            help="take styles from a photo of the data set; from PHOTO LABEL [INSTANCE], a photo and its maps; or "
                 "from a folder with the same subfolders as --dataroot")
        add("--style_file", default=None, metavar="PATH",
            help="take styles from a file that --save_styles wrote, or from a folder of such files")
        add("--reference_map", default=None, metavar="FILE",
            help="JSON file that says which layout takes styles from which --reference or --style_file")
        add("--interpolate", type=integer(2, 1000), default=None, metavar="N",
            help="also write a strip and an animated WebP that lead in N pictures from each sample to the next; with "
                 "other styles than the prior's, they begin with a sample of the prior")
        add("--save_styles", action="store_true", help="also write the styles to files, for --style_file")
        add = parser.add_argument_group("results").add_argument
        add("--how_many", type=count, default=math.inf, help="number of layouts to draw; default: all")
        add("--results_dir", default="./results/", help="folder for results")
        add("--format", default="png", choices=["png", "jpg", "webp"],
            help="file format of the pictures; jpg and webp lose some detail. Layouts are always png")
        add("--no_html", action="store_true", help="do not write the page")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        others = "reference" if opt.reference else "style_file" if opt.style_file else None
        if opt.styles is None:
            opt.styles = "encoder" if opt.use_vae and not others else "prior"
        if opt.styles == "encoder" and not opt.use_vae:
            raise UserError("--styles encoder: needs --use_vae; give both, or --styles prior")
        if opt.norm_mode == "spade":
            _check_spade(opt, given)
        else:
            opt.use_vae = opt.styles == "encoder" or bool(opt.reference)  # else the encoder's file is not needed
        if opt.reference and opt.style_file:
            raise UserError("--reference and --style_file: both say where styles come from; leave out one")
        if opt.reference and len(opt.reference) > 3:
            raise UserError(f"--reference: {len(opt.reference)} paths; give PHOTO LABEL [INSTANCE], or one photo or "
                            "folder of the data set")
        if opt.reference_map and not others:
            raise UserError(f"--reference_map {opt.reference_map}: has no effect without --reference or --style_file; "
                            "give one of them")
        if opt.vary.kind != "all" and opt.num_samples == 1:
            raise UserError(f"--vary {opt.vary}: says what differs between samples, but there is only one; give "
                            "--num_samples 2 or more")
        if opt.truncation == 0 and opt.num_samples > 1 and not others:
            raise UserError(f"--truncation 0: all --num_samples {opt.num_samples} would be equal; give a larger "
                            "--truncation, or --num_samples 1")
        if opt.interpolate:
            _check_interpolation(opt)

    def reads_photos(self, opt: Options) -> bool:
        return opt.styles == "encoder"


class Varied(NamedTuple):
    """--vary: what it names, and the words after the colon."""

    kind: str
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Varied":
        kind, colon, rest = text.partition(":")
        words = tuple(word.strip() for word in rest.split(",")) if colon else ()
        if kind not in ("all", "global", "classes", "instances") or bool(colon) != (kind in ("classes", "instances")):
            raise argparse.ArgumentTypeError(
                f"{text!r} is none of all, global, classes:ID|NAME,... and instances:ID,...")
        if colon and not all(words):
            raise argparse.ArgumentTypeError(f"{text!r} has nothing after a colon or comma")
        if kind == "instances" and not all(word.isascii() and word.isdigit() for word in words):
            raise argparse.ArgumentTypeError(
                f"{text!r}: instances are given by number; use the ids of the instance map")
        return cls(kind, words)

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.words)}" if self.words else self.kind


def _check_spade(opt: Options, given: set[str]) -> None:
    """SPADE has one style for the whole picture, or none."""
    of_instances = sorted(given & {"vary", "reference", "style_file", "save_styles"})
    if of_instances:
        raise UserError(f"--{of_instances[0]}: with --norm_mode spade, instances have no styles of their own; leave it "
                        "out, or use inade")
    drawn = sorted(given & {"num_samples", "styles", "truncation", "interpolate"})
    if drawn and not opt.use_vae:
        raise UserError(f"--{drawn[0]}: without an encoder, SPADE makes only one picture of a layout; leave it out, or "
                        "give --use_vae if the network was trained with it")


# how wide pictures may be in each format
_WIDEST = {"png": 2**20, "jpg": 65500, "webp": 16383}


def _check_interpolation(opt: Options) -> None:
    stations = opt.num_samples + int(opt.styles == "encoder" or bool(opt.reference or opt.style_file))
    if stations == 1:
        raise UserError(f"--interpolate {opt.interpolate}: there is only one sample; give --num_samples 2 or more, or "
                        "other styles to end with (--reference, --style_file, --styles encoder)")
    width = opt.image_size[1] * ((stations - 1) * (opt.interpolate - 1) + 1)
    if width > _WIDEST[opt.format]:
        raise UserError(f"--interpolate {opt.interpolate}: the strip would be {width} pixels wide, but --format "
                        f"{opt.format} allows {_WIDEST[opt.format]}; ask for fewer pictures or samples")
