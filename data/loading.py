"""The loader that feeds the networks: batches, and the order of the samples."""
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from data.kinds import DATASETS
from data.pix2pix_dataset import Pix2pixDataset
from data.transforms import check_sizes
from options.options import Options
from util.errors import UserError


def create_dataset(opt: Options) -> Pix2pixDataset:
    """The data set of --dataset_mode, for ``opt.phase``.

    :raises UserError: unknown mode, sizes that do not go together, or files that are missing or do not pair up.
    """
    if opt.dataset_mode not in DATASETS:
        raise UserError(f"--dataset_mode {opt.dataset_mode}: unknown; choose from {', '.join(DATASETS)}")
    check_sizes(opt)
    return Pix2pixDataset(opt)


def create_dataloader(opt: Options) -> "EpochDataLoader":
    """Batches of --batchSize, shuffled unless --serial_batches. Training leaves out the last incomplete one.

    :raises UserError: as :func:`create_dataset`, or fewer images than --batchSize in training. While loading, in this
        process or in a worker: a bad file, or images of different sizes in one batch.
    """
    dataset = create_dataset(opt)
    if opt.isTrain and len(dataset) < opt.batchSize:
        raise UserError(f"--batchSize {opt.batchSize}: there are only {len(dataset)} images; give at most that many")
    return EpochDataLoader(
        dataset,
        batch_size=opt.batchSize,
        sampler=EpochSampler(len(dataset), dataset.seed, shuffle=not opt.serial_batches),
        drop_last=opt.isTrain,
        num_workers=opt.nThreads,
        persistent_workers=opt.nThreads > 0,
        pin_memory=opt.device.type == "cuda",
        collate_fn=collate,
        # its draws are for workers' seeds; left to the default generator, they would shift the networks' noise
        generator=torch.Generator(),
    )


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` of every sample, in an order that only ``seed`` and ``epoch`` determine.

    The epoch travels with the index, so that workers, persistent or not, augment for the right one. It advances with
    every pass. Assign ``epoch`` to start elsewhere, and ``start`` to leave out that many samples of the next pass.
    """

    def __init__(self, length: int, seed: int, shuffle: bool):
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        start, self.start = self.start, 0
        order = range(self.length)
        if self.shuffle:
            seed = np.random.SeedSequence((self.seed, epoch)).generate_state(2).view(np.int64)[0]
            order = torch.randperm(self.length, generator=torch.Generator().manual_seed(int(seed))).tolist()
        return iter([(epoch, index) for index in order[start:]])


class EpochDataLoader(DataLoader):
    """A loader whose next pass can be that of any epoch."""

    @property
    def seed(self) -> int:
        """What order, crops and flips are drawn from. Set it before the first pass."""
        return self.dataset.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self.dataset.seed = self.sampler.seed = seed

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Make the next pass draw the order, crops and flips of ``epoch`` (≥ 0), from its sample ``start`` on. Later
        passes go on from there."""
        self.sampler.epoch, self.sampler.start = epoch, start


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch: tensors [B, ...], and a list of paths.

    :raises UserError: the samples differ in size.
    """
    first = samples[0]
    for sample in samples[1:]:
        if sample["label"].shape != first["label"].shape:
            (_, height, width), (_, other_height, other_width) = first["label"].shape, sample["label"].shape
            raise UserError(f"{first['path']} becomes {width}x{height}, {sample['path']} {other_width}x{other_height}: "
                            "a batch must have one size; give --batchSize 1, or a --preprocess_mode that crops")
    return default_collate(samples)
