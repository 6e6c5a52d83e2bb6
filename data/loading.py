"""The loader that feeds the networks: batches, and the order of the samples."""
import atexit
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from data.kinds import DATASETS
from data.pix2pix_dataset import Pix2pixDataset
from data.transforms import check_sizes
from options.options import Options
from util import distributed
from util.errors import UserError
from util.signals import leave_signals_to_the_parent

Indices = Sequence[int]
Data = Mapping[str, Any]


def create_dataset(opt: Options) -> Pix2pixDataset:
    """The data set of --dataset_mode, for ``opt.phase``.

    :raises UserError: unknown mode, sizes that do not go together, or files that are missing or do not pair up.
    """
    if opt.dataset_mode not in DATASETS:
        raise UserError(f"--dataset_mode {opt.dataset_mode}: unknown; choose from {', '.join(DATASETS)}")
    check_sizes(opt)
    return Pix2pixDataset(opt)


def create_dataloader(opt: Options, finish: Callable[[Data], Data] | None = None,
                      dataset: Pix2pixDataset | None = None) -> "EpochDataLoader":
    """Batches of --batchSize, shuffled unless --serial_batches. Training leaves out the last incomplete one, and splits
    batches into --accumulate parts.

    Several processes share the batches. In training each gets its rows of every one; elsewhere every N-th batch, so
    that batches are the same however many there are.

    :param finish: what becomes of every batch in the process that loads it, for what networks on a GPU want to have
        ready; it must be picklable.
    :param dataset: what to load; default: :func:`create_dataset`.
    :raises UserError: as :func:`create_dataset`, or fewer images than --batchSize in training. While loading, in this
        process or in a worker: a bad file, or images of different sizes in one batch.
    """
    dataset = create_dataset(opt) if dataset is None else dataset
    if opt.isTrain and len(dataset) < opt.batchSize:
        raise UserError(f"--batchSize {opt.batchSize}: there are only {len(dataset)} images; give at most that many")
    batch, step = opt.batchSize, 1
    if opt.isTrain:
        batch, step = batch // (opt.accumulate * distributed.world_size()), batch
    share = functools.partial(own_share, count=batch, step=step)
    loader = EpochDataLoader(
        dataset,
        batch_size=batch,
        sampler=EpochSampler(len(dataset), dataset.seed, shuffle=not opt.serial_batches, share=share),
        drop_last=opt.isTrain,
        num_workers=opt.num_workers,
        persistent_workers=opt.num_workers > 0,
        pin_memory=opt.device.type == "cuda",
        collate_fn=functools.partial(collate, finish=finish),
        worker_init_fn=leave_signals_to_the_parent,
        # its draws are for workers' seeds; left to the default generator, they would shift the networks' noise
        generator=torch.Generator(),
    )
    atexit.register(loader.close)
    return loader


def own_share(order: Indices, count: int, step: int = 1) -> Indices:
    """This process's samples: of every N times ``count`` its ``count``, which are rows of a batch in training, and
    elsewhere every N-th batch. What is left after whole steps of ``step`` samples is left out."""
    starts = range(distributed.rank() * count, len(order) // step * step, distributed.world_size() * count)
    return [index for start in starts for index in order[start:start + count]]


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` of every sample, in an order that only ``seed`` and ``epoch`` determine.

    :param share: what this process takes of an order; all of it by default.

    The epoch travels with the index, so that workers, persistent or not, augment for the right one. It advances with
    every pass. Assign ``epoch`` to start elsewhere, and ``start`` to leave out that many samples of the next pass.
    """

    def __init__(self, length: int, seed: int, shuffle: bool, share: Callable[[Indices], Indices] = list):
        self.length, self.seed, self.shuffle, self.share = length, seed, shuffle, share
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self.share(range(self.length)))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, indices = self.epoch, self.next_pass()
        self.epoch, self.start = epoch + 1, 0
        return iter([(epoch, index) for index in indices])

    def next_pass(self) -> Indices:
        """What the next pass will yield, without the epoch."""
        order = range(self.length)
        if self.shuffle:
            seed = np.random.SeedSequence((self.seed, self.epoch)).generate_state(2).view(np.int64)[0]
            order = torch.randperm(self.length, generator=torch.Generator().manual_seed(int(seed))).tolist()
        return self.share(order[self.start:])


class EpochDataLoader(DataLoader):
    """A loader whose next pass can be that of any epoch."""

    @property
    def seed(self) -> int:
        """What order, crops and flips are drawn from. Set it before the first pass."""
        return self.dataset.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self.dataset.seed = self.sampler.seed = seed

    def close(self) -> None:
        """End the data-loading processes. Python would send them SIGTERM in the end and wait for them, but they leave
        signals to this process."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()
            self._iterator = None

    def numbered(self) -> Iterator[tuple[Indices, Data]]:
        """Batches, each with the indices of its samples in the data set."""
        indices = self.sampler.next_pass()
        for start, data in zip(range(0, len(indices), self.batch_size), self, strict=True):
            yield indices[start:start + self.batch_size], data

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Make the next pass draw the order, crops and flips of ``epoch`` (≥ 0), from its sample ``start`` on, counted
        over all processes. Later passes go on from there."""
        self.sampler.epoch, self.sampler.start = epoch, start


def collate(samples: list[dict[str, Any]], finish: Callable[[Data], Data] | None = None) -> Data:
    """Stack samples to a batch: tensors [B, ...], and a list of paths.

    :param finish: what becomes of the batch.
    :raises UserError: the samples differ in size.
    """
    first = samples[0]
    for sample in samples[1:]:
        if sample["label"].shape != first["label"].shape:
            (_, height, width), (_, other_height, other_width) = first["label"].shape, sample["label"].shape
            raise UserError(f"{first['path']} becomes {width}x{height}, {sample['path']} {other_width}x{other_height}: "
                            "a batch must have one size; give --batchSize 1, or a --preprocess_mode that crops")
    batch = default_collate(samples)
    return finish(batch) if finish else batch
