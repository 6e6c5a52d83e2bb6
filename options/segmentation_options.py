"""Options of ``segmentation_score.py``."""
import argparse
import math
import os

from options.command_options import CommandOptions, names_of
from options.groups import Data, Device, Layouts
from options.options import Options
from options.test_options import LAYOUTS
from util.arguments import count, integer, number
from util.errors import UserError, say_once
from util.files import check_writable


class SegmentationOptions(CommandOptions):
    one_process = True
    groups = (Layouts, Data, Device)
    defaults = {"phase": "test"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument_group("segmentation scores").add_argument
        add("--name", default=None, metavar="EXP",
            help="run that drew the pictures: layouts are read as opt.txt in its folder says, unless options say "
                 "otherwise")
        add("--checkpoints_dir", default="./checkpoints", help="folder of --name")
        add("--synthesized", metavar="DIR", default=None,
            help="folder of pictures written by test.py, .../images/synthesized_image")
        add("--segmenter", default="lite0",
            help="network that segments the pictures: a TorchScript file; transformers:MODEL or smp:MODEL (a folder, "
                 "or NAME@REVISION), if that package is installed; or lite0, which is first trained on the data "
                 "set's training split. TorchScript files are programs: use only those that you trust")
        add("--predictions", nargs=2, metavar=("SYNTHESIZED", "REAL"), default=None,
            help="folders of maps that another program predicted for the synthesized and the real pictures, instead "
                 "of --synthesized and --segmenter")
        add("--prediction_ids", default="labels", choices=["classes", "labels"],
            help="what ids mean in --predictions, and in the output of networks that return ids. labels: the same as "
                 "in label maps; classes: the scored classes, numbered from 0 (Cityscapes: train ids)")
        add("--ignore_ids", type=integer(0), nargs="+", default=[], metavar="ID",
            help="ids of label maps to leave out of the scores, in addition to those that the data set leaves out")
        add("--segmenter_mean", type=number(-math.inf), nargs=3, default=[0.485, 0.456, 0.406], metavar=("R", "G", "B"),
            help="mean of colours in 0..1 that TorchScript and smp networks expect to be subtracted; default: "
                 "ImageNet's")
        add("--segmenter_std", type=number(0, exclusive=True), nargs=3, default=[0.229, 0.224, 0.225],
            metavar=("R", "G", "B"), help="standard deviation that they expect to be divided by; default: ImageNet's")
        add("--cache", metavar="DIR", default=os.path.join("~", ".cache", "inade-benchmark"),
            help="folder to keep the trained lite0 in")
        add("--how_many", type=count, default=math.inf, help="number of layouts")
        add("--confusion", metavar="FILE", default=None, help="also draw the confusion matrices to this PNG file")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")

    def arguments(self, args: list[str]) -> list[str]:
        if self.parser_for(args).parse_known_args(args)[0].name is None:
            return args
        saved = self._saved_arguments(args, names_of([Layouts]) | LAYOUTS)
        say_once(path := self.opt_file(args), f"layouts as {path} says: {' '.join(saved)}")
        return [*saved, *args]

    def finish(self, opt: Options, given: set[str]) -> None:
        if opt.predictions and {"synthesized", "segmenter"} & given:
            raise UserError("--predictions: has maps of another program, so that --synthesized and --segmenter have no "
                            "effect; leave them out")
        if not opt.predictions and not opt.synthesized:
            raise UserError("--synthesized is missing: name the folder of the pictures to score")
        if not opt.predictions and opt.segmenter == "lite0" and opt.label_dir and "dataroot" not in given:
            raise UserError("--segmenter lite0: is trained on the training split of --dataroot; give --dataroot, or "
                            "another network")
        if "load_size" not in given:  # as in test.py: nothing is cropped
            opt.load_size = opt.crop_size
        opt.norm_mode, opt.no_instance = "spade", True  # instance maps are not read
        opt.use_vae = not opt.predictions  # photos are
        opt.cache = os.path.expanduser(opt.cache)
        for path in (opt.json, opt.confusion):
            if path:
                check_writable(path)
        if opt.confusion and not opt.confusion.lower().endswith(".png"):
            raise UserError(f"--confusion {opt.confusion}: must be a PNG file; give a name that ends in .png")
