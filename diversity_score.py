"""Diversity of the pictures that a trained model makes of one layout:

    python diversity_score.py --name EXP --dataset_mode cityscapes --dataroot DATA
    python diversity_score.py --name EXP --dataset_mode cityscapes --dataroot DATA --distance rgb --json diversity.json

Between whole samples, and with INADE where one class or one instance alone gets new styles: how much its region
changes, and how much the rest. docs/evaluation.md has the definitions.
"""
import argparse
import itertools
import json

import numpy as np
from tqdm import tqdm

from data import create_dataloader
from models.pix2pix_model import Pix2PixModel
from options import Options, TestOptions
from util.diversity import Diversity, class_names, describe, measure_layout
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.memory import keep_freed_memory
from util.perceptual import LPIPS, rgb_distance
from util.seed import seed_everything

# what the figures depend on, besides the networks and the data
_PROTOCOL = ("name", "which_epoch", "norm_mode", "dataset_mode", "phase", "crop_size", "distance", "styles",
             "num_samples", "region_samples", "max_regions", "seed", "use_amp")


class DiversityOptions(TestOptions):
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument
        add("--num_samples", type=int, default=10, help="samples of each layout; all their pairs are compared")
        add("--region_samples", type=int, default=4,
            help="pictures of each layout in which one class or one instance alone takes its styles from as many of "
                 "the samples; all their pairs are compared")
        add("--max_regions", type=int, default=8,
            help="classes, and also instances, of each layout that get such pictures, chosen at random where there are "
                 "more; 0 compares whole samples alone")
        add("--distance", default="lpips", choices=["lpips", "rgb"],
            help="perceptual, or mean absolute difference of colours in 0..1, which needs no weights")
        add("--perceptual_weights", metavar="FILE", default=None,
            help="file of torchvision's AlexNet weights for LPIPS; default: torch hub cache")
        add("--styles", default="prior", choices=["prior", "encoder"],
            help="where samples take their styles from: the prior, or what the encoder of --use_vae gives for the "
                 "layout's photo")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")
        parser.set_defaults(seed=0, batchSize=8)

    def finish(self, opt: Options, given: set[str]) -> None:
        for name, least in (("num_samples", 2), ("region_samples", 2), ("max_regions", 0)):
            if getattr(opt, name) < least:
                raise UserError(f"--{name} {getattr(opt, name)}: must be at least {least}")
        if opt.region_samples > opt.num_samples:
            raise UserError(f"--region_samples {opt.region_samples}: must be at most --num_samples {opt.num_samples}, "
                            "whose styles they take")
        if opt.norm_mode == "spade" and not opt.use_vae:
            raise UserError("--norm_mode spade without --use_vae: the layout alone decides the picture, so that there "
                            "is no diversity to measure; give --use_vae for a SPADE that was trained with it")
        if opt.styles == "encoder" and not opt.use_vae:
            raise UserError("--styles encoder: the encoder is that of --use_vae; give it, or --styles prior")
        if opt.norm_mode == "inade" and opt.styles == "prior":
            opt.use_vae = False  # then neither photos nor the encoder's file are needed
        if opt.json:
            check_writable(opt.json)


@command
def main() -> None:
    opt = DiversityOptions().parse()
    seed_everything(opt.seed)
    keep_freed_memory()
    distance = LPIPS(opt.perceptual_weights, opt.device) if opt.distance == "lpips" else rgb_distance
    loader = create_dataloader(opt.replace(batchSize=1))
    model = Pix2PixModel(opt)
    model.load(opt.which_epoch)
    diversity = Diversity()
    total = int(min(len(loader.dataset), opt.how_many))
    for index, data in enumerate(tqdm(itertools.islice(loader, total), total=total, unit="layout")):
        diversity.add(measure_layout(opt, model, distance, data, layout_seed(opt.seed, index)))
    figures = {**{name: getattr(opt, name) for name in _PROTOCOL}, **diversity.figures(class_names(opt.dataroot))}
    print(describe(figures))
    if opt.json:
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")


def layout_seed(seed: int, index: int) -> int:
    """The seed of one layout, so that its figures do not depend on how many there are."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


if __name__ == "__main__":
    main()
