"""Images per second of the loader against a plain pipeline of PIL and torchvision.

    python -m benchmarks.loader                                     # the example world at 256x256, drawn anew
    python -m benchmarks.loader --dataset_mode coco --dataroot DATA --workers 0 2 4

The plain pipeline is the usual one. PIL reads photo, label and instance map; torchvision resizes, crops and flips them,
all as float32; torch's DataLoader makes the batches. Before anything is measured, all batches of both are compared: ids
must be equal, photos to 1e-6. Both run alternately over whole epochs, with the same number of workers, which are
started before. A ratio above 1 means that this project is faster.
"""
import argparse
import copy
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from data import DATASETS, EpochDataLoader, create_dataloader
from data.pix2pix_dataset import Pix2pixDataset
from data.transforms import Geometry, choose_geometry
from models.batches import BatchMaker
from options import Options, TrainOptions
from util.arguments import ArgumentParser, integer
from util.errors import command

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_mode", default="custom", choices=sorted(DATASETS), help="kind of data set")
    parser.add_argument("--dataroot", help="folder of the data set (default: an example world drawn for this run)")
    parser.add_argument("--scenes", type=integer(1), default=64, help="pictures of the example world (default 64)")
    parser.add_argument("--batch", type=integer(1), default=4, help="pictures per batch (default 4)")
    parser.add_argument("--workers", type=integer(0), nargs="+", default=[0, 1, 2],
                        help="data-loading processes (default 0 1 2)")
    parser.add_argument("--repeats", type=integer(1), default=3,
                        help="epochs of each side, after one to warm up (default 3)")
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = args.dataroot or draw_world(folder, args.scenes)
        for workers in args.workers:
            measure(args, root, workers)


def draw_world(folder: str, scenes: int) -> str:
    subprocess.run([sys.executable, "-m", "datasets.make_scenes", "--out", folder, "--num", str(scenes),
                    "--num_val", "1", "--size", "256"], cwd=ROOT, check=True, capture_output=True)
    return folder


def measure(args: argparse.Namespace, root: str, workers: int) -> None:
    """Print a row: both sides with that many workers."""
    opt = TrainOptions().parse(["--dataset_mode", args.dataset_mode, "--dataroot", root, "--batchSize", str(args.batch),
                                "--nThreads", str(workers), "--gpu_ids", "-1", "--seed", "0", "--label_nc", "255",
                                "--contain_dontcare_label", "--use_vae"])
    ours = create_dataloader(opt)
    for_gpu = create_dataloader(opt, BatchMaker.of(opt.replace(device=torch.device("cuda"))).tabulated)
    images = len(ours) * args.batch
    plain = PlainLoader(ours, opt)
    compare(ours, plain)
    runs = {"plain": plain.epoch, "ours": functools.partial(set_and_pass, ours),
            "ours with tables": functools.partial(set_and_pass, for_gpu)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for n in range(args.repeats + 1):
        for name, run in runs.items():
            taken = timed(run, n)
            if n:
                seconds[name].append(taken)
    rates = {name: images / min(times) for name, times in seconds.items()}
    ratios = (least(seconds["plain"]) / least(seconds["ours"]) for least in (min, statistics.median))
    print(f"workers {workers}: plain {rates['plain']:.0f} images/s, this project {rates['ours']:.0f} images/s, "
          "ratio min {:.2f}x median {:.2f}x; with tables for a GPU ".format(*ratios)
          + f"{rates['ours with tables']:.0f} images/s", flush=True)
    for loader in (ours, for_gpu):
        loader.close()


def timed(run: Callable[[int], Iterable], epoch: int) -> float:
    start = time.perf_counter()
    for _ in run(epoch):
        pass
    return time.perf_counter() - start


def set_and_pass(loader: EpochDataLoader, epoch: int) -> Iterable[dict[str, Any]]:
    loader.set_epoch(epoch)
    return loader


class PlainLoader:
    """The same batches as ``loader`` gives, made plainly."""

    def __init__(self, loader: EpochDataLoader, opt: Options):
        self.sampler = copy.copy(loader.sampler)
        self.loader = DataLoader(PlainDataset(loader.dataset, opt), batch_size=opt.batchSize, sampler=self.sampler,
                                 drop_last=True, num_workers=opt.num_workers, persistent_workers=opt.num_workers > 0)

    def epoch(self, epoch: int) -> Iterable[dict[str, Any]]:
        self.sampler.epoch = epoch
        return self.loader


class PlainDataset(Dataset):
    def __init__(self, dataset: Pix2pixDataset, opt: Options):
        self.files, self.seed, self.opt = dataset.files, dataset.seed, opt

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        epoch, index = item
        files = self.files[index]
        label, photo = Image.open(files.label), Image.open(files.photo).convert("RGB")
        instance = Image.open(files.instance or files.label)
        random = np.random.default_rng((self.seed, epoch, index))
        geometry = choose_geometry(label.size, self.opt, random, files.label)  # of both sides
        ids = [TF.pil_to_tensor(transformed(image, geometry, InterpolationMode.NEAREST)).float()
               for image in (label, instance)]
        photo = TF.to_tensor(transformed(photo, geometry, InterpolationMode.BICUBIC))
        image = TF.normalize(photo, [0.5] * 3, [0.5] * 3)
        return {"label": ids[0], "instance": ids[1], "image": image, "path": files.photo}


def transformed(image: Image.Image, geometry: Geometry, interpolation: InterpolationMode) -> Image.Image:
    left, upper, right, lower = geometry.box
    image = TF.resize(image, geometry.size[::-1], interpolation)
    image = TF.crop(image, upper, left, lower - upper, right - left)
    return TF.hflip(image) if geometry.flip else image


def compare(ours: EpochDataLoader, plain: PlainLoader) -> None:
    """Refuse to measure what is not the same."""
    for one, other in zip(set_and_pass(ours, 0), plain.epoch(0), strict=True):
        torch.testing.assert_close(one["image"], other["image"], rtol=0, atol=1e-6)
        assert torch.equal(one["label"].float(), other["label"]) and one["path"] == other["path"]
        assert torch.equal(one["instance"].float(), other["instance"])


if __name__ == "__main__":
    main()
