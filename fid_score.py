"""Fréchet Inception distance between two sets of images.

    python fid_score.py REAL FAKE --gpu 0 --resize_size 256
    python fid_score.py REAL FAKE --batch-size 1 --gpu 0 --load_np_name cityscapes --resize_size 256
    python fid_score.py REAL --save_np_name cityscapes --resize_size 256

The protocol and the formula are described in util/fid.py.
"""
import argparse

import torch

from util.arguments import ArgumentParser
from util.errors import UserError, command
from util.fid import FeatureStatistics, Gaussian, fid, image_statistics, list_images, load_statistics, save_statistics
from util.inception import FEATURE_DIMS, load_inception


@command
def main() -> None:
    args = parse()
    device = pick_device(args.gpu)
    size = pick_size(args)

    real = load_statistics(args.load_np_name, args.dims) if args.load_np_name else find(args.path_real, args.dims)
    fake = find(args.path_fake, args.dims) if args.path_fake is not None else None
    inception = None
    if isinstance(real, list) or isinstance(fake, list):
        inception = load_inception(args.dims, device, args.inception_weights)

    def measure(images: list[str] | Gaussian, title: str) -> FeatureStatistics | Gaussian:
        if isinstance(images, Gaussian):
            return images
        return image_statistics(images, inception, args.batch_size, size, title)

    real = measure(real, args.path_real)
    if args.save_np_name:
        print(f"statistics saved in {save_statistics(args.save_np_name, real)}")
    if fake is not None:
        print(f"FID: {fid(real, measure(fake, args.path_fake)):.6f}")


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path_real", metavar="PATH_REAL",
                        help="folder of real images (searched with its subfolders), or .npz statistics of pytorch-fid; "
                             "not read with --load_np_name")
    parser.add_argument("path_fake", metavar="PATH_FAKE", nargs="?",
                        help="the same of synthesized images; may be left out with --save_np_name")
    parser.add_argument("--batch-size", type=int, default=50, help="images that Inception sees at once")
    parser.add_argument("--dims", type=int, default=2048, choices=FEATURE_DIMS,
                        help="length of the features; 2048 is the usual FID")
    parser.add_argument("-c", "--gpu", default="", help="CUDA device to use, e.g. 0; '' or -1 uses the CPU")
    parser.add_argument("--load_np_name", metavar="NAME", default="",
                        help="real statistics from datasets/train_mu_si/NAME/{m,s}.npy (or a path, also of an .npz)")
    parser.add_argument("--save_np_name", metavar="NAME", default="",
                        help="save the real statistics there")
    parser.add_argument("--resize_size", type=int, metavar="S", default=-1,
                        help="resize images to S×S pixels (bicubic), S high and 2S wide where NAME has 'cityscapes' "
                             "in it; -1 leaves them as they are")
    parser.add_argument("--inception_weights", metavar="FILE",
                        help="weights of the FID Inception instead of those in the torch hub cache")
    args = parser.parse_args()
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be at least 1")
    if args.path_fake is None and not args.save_np_name:
        raise UserError("PATH_FAKE is missing: give the folder of synthesized images after PATH_REAL")
    return args


def pick_device(gpu: str) -> torch.device:
    """The device of ``--gpu``. :raises UserError: it does not exist."""
    if gpu.strip() in ("", "-1"):
        return torch.device("cpu")
    if not gpu.strip().isdecimal():
        raise UserError(f"--gpu {gpu}: not the number of one CUDA device; use e.g. 0, or '' for the CPU")
    if not torch.cuda.is_available():
        raise UserError(f"--gpu {gpu}: no CUDA device was found; leave --gpu out to use the CPU")
    if int(gpu) >= torch.cuda.device_count():
        raise UserError(f"--gpu {gpu}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return torch.device("cuda", int(gpu))


def pick_size(args: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width) of ``--resize_size``; None to leave images as they are."""
    if args.resize_size == -1:
        return None
    if args.resize_size < 1:
        raise UserError(f"--resize_size {args.resize_size}: must be at least 1, or -1 to leave images as they are")
    is_wide = "cityscapes" in (args.load_np_name + args.save_np_name).lower()
    return args.resize_size, args.resize_size * (2 if is_wide else 1)


def find(path: str, dims: int) -> list[str] | Gaussian:
    """The images of a folder, or the statistics of an .npz file."""
    return load_statistics(path, dims) if path.endswith(".npz") else list_images(path)


if __name__ == "__main__":
    main()
