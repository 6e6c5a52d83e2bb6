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
import sys
from dataclasses import asdict
from typing import Any

from options.fid_options import parse, pick_size
from util.errors import UserError, beforehand, command
from util.launch import device_ids, launch

if __name__ == "__main__":  # before the long imports
    beforehand(lambda: parse(__doc__))

import torch

from metrics.distances import KID_MIN_IMAGES, fid, kid
from metrics.extractors import KINDS, Extractor, feature_dims, load_extractor
from metrics.images import ImageFolder
from metrics.protocol import Measured, Protocol, check_comparable, measure_folder
from metrics.statistics_files import load_statistics, save_statistics, statistics_path
from util import distributed
from util.device import find_device, use_device
from util.files import check_writable, write_atomically


@command
def main() -> None:
    args = parse(__doc__)
    device = find_device("--gpu", args.gpu)
    launch(len(device_ids("--gpu", args.gpu)))
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
    if args.load_np_name and distributed.is_main():
        print(f"{args.path_real} is not read: --load_np_name {args.load_np_name} stands for it", file=sys.stderr)
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


def plan(side: ImageFolder | Measured, extractor: Extractor | None) -> Protocol | None:
    """How a side was measured, or will be."""
    if isinstance(side, Measured):
        return side.protocol
    return Protocol.of(side.size, side.resize, len(side.files), extractor, side.orientation)


if __name__ == "__main__":
    main()
