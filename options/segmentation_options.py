"""Options of ``segmentation_score.py``."""
import argparse
import math
import os

from options.command_options import CommandOptions
from options.groups import Data, Device, Layouts
from options.options import Options
from util.arguments import count, integer, number
from util.errors import UserError
from util.files import check_writable


class SegmentationOptions(CommandOptions):
    one_process = True
    groups = (Layouts, Data, Device)
    defaults = {"phase": "test"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument_group("segmentation scores").add_argument
        add("--synthesized", metavar="DIR", default=None,
            help="folder of pictures as test.py writes them, .../images/synthesized_image")
        add("--segmenter", default="lite0",
            help="network that looks at the pictures: a TorchScript file, transformers:MODEL, smp:MODEL (a folder, or "
                 "NAME@REVISION, where that package is installed), or lite0, which is trained on the data set's "
                 "training split. TorchScript files are programs: take them from those you trust")
        add("--predictions", nargs=2, metavar=("SYNTHESIZED", "REAL"), default=None,
            help="folders of maps that another program has found in synthesized and in real pictures, instead of "
                 "--synthesized and --segmenter")
        add("--prediction_ids", default="labels", choices=["classes", "labels"],
            help="ids in --predictions, or that a network gives instead of scores: those of the label maps, or numbers "
                 "of the scored classes from 0 on (of Cityscapes: train ids)")
        add("--ignore_ids", type=integer(0), nargs="+", default=[], metavar="ID",
            help="ids of label maps that are not scored, besides those that the data set is known to leave out")
        add("--segmenter_mean", type=number(-math.inf), nargs=3, default=[0.485, 0.456, 0.406], metavar=("R", "G", "B"),
            help="what TorchScript files and smp want subtracted from colours in 0..1; default: ImageNet's")
        add("--segmenter_std", type=number(0, exclusive=True), nargs=3, default=[0.229, 0.224, 0.225],
            metavar=("R", "G", "B"), help="and what they want these then divided by")
        add("--cache", metavar="DIR", default=os.path.join("~", ".cache", "inade-benchmark"),
            help="folder that keeps the trained lite0")
        add("--how_many", type=count, default=math.inf, help="number of layouts")
        add("--confusion", metavar="FILE", default=None, help="also draw the confusion matrices there (PNG)")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")

    def finish(self, opt: Options, given: set[str]) -> None:
        if opt.predictions and {"synthesized", "segmenter"} & given:
            raise UserError("--predictions: the maps were made by another program; leave out --synthesized and "
                            "--segmenter")
        if not opt.predictions and not opt.synthesized:
            raise UserError("--synthesized is missing: name the folder of the pictures to score")
        if not opt.predictions and opt.segmenter == "lite0" and opt.label_dir and "dataroot" not in given:
            raise UserError("--segmenter lite0: is trained on the training split of --dataroot, which is missing; give "
                            "it, or another network")
        if "load_size" not in given:  # as in test.py: nothing is cropped
            opt.load_size = opt.crop_size
        opt.norm_mode, opt.no_instance = "spade", True  # instance maps are not read
        opt.use_vae = not opt.predictions  # photos are
        opt.cache = os.path.expanduser(opt.cache)
        for path in (opt.json, opt.confusion):
            if path:
                check_writable(path)
        if opt.confusion and not opt.confusion.lower().endswith(".png"):
            raise UserError(f"--confusion {opt.confusion}: is a picture; give a name that ends in .png")
