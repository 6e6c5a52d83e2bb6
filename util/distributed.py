"""One to N processes: who this one is among them, and all that they tell each other.

``torchrun --nproc_per_node=N train.py ...`` starts the same command N times, and :mod:`util.launch` does so for
``--gpu_ids 0,1``. Each process holds all networks and works on its share of every batch. What makes one run of them:

- samples: rows of every batch in training, every N-th batch elsewhere; ``data/loading.py``
- noise: all draw that of the whole batch from equal generators and keep their rows; ``models/networks/styles.py``
- batch statistics are those of all processes; ``models/ops/modulation.py``
- gradients and losses are averaged between backward pass and optimiser; ``trainers/pix2pix_trainer.py``
- when to stop is agreed on after every step, and process 0 alone writes; ``train.py``

Tensors go over NCCL on GPUs and over gloo on the CPU; numbers and objects always over gloo, so that none of them waits
for a GPU. With one process every function gives back at once what it was given.
"""
import atexit
import contextlib
import functools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before there is a group: defaults of its functions would keep that alive
from torch import Tensor

from util.errors import UserError, let_report
from util.launch import WAIT_MINUTES, launched, restarts

Value = TypeVar("Value")

BUCKET = 25 * 2**20  # bytes that go in one message: large enough to fill a network, small beside the networks

_store: dist.Store | None = None
_alone = False


# ---- who is who ----

def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def world_size() -> int:
    """N: how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def is_main() -> bool:
    """Whether this is process 0, which alone writes and prints."""
    return rank() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """For this block, this process is the only one: it does work that the others have no part in."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


# ---- starting and ending ----

@contextlib.contextmanager
def processes(device: torch.device, minutes: int = WAIT_MINUTES) -> Iterator[None]:
    """Join the other processes for this block; all but the first are silent in it, except for errors.

    :param minutes: the longest that this one waits for the others.
    :raises UserError: they do not find each other.
    """
    global _store
    if (launched() or 1) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _exchange():
        timeout = timedelta(minutes=minutes)
        _store, number, count = _meet(timeout)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", store=_store, rank=number,
                                world_size=count, timeout=timeout)
    if device.type == "cpu":  # NCCL might wait for what the others never finish
        atexit.register(_leave)
    with contextlib.redirect_stdout(sys.stdout if number == 0 else None):
        yield
    _leave()  # after an error at exit only: the others would see this before they can know whose error it is


def _leave() -> None:
    """End the threads that exchange tensors. A thread that lets go of a tensor when Python is already ending aborts the
    process, whatever its work came to."""
    if dist.is_initialized():
        dist.destroy_process_group()


@functools.cache
def first_to_fail() -> bool:
    """Whether this process is the first of its run that ends with an error, and so the one to report it: what the
    others meet afterwards is that it is gone."""
    try:
        store = _store or _meet(timedelta(seconds=10))[0]
        return store.add("failed", 1) == 1
    except Exception:  # nobody to ask
        return True


let_report(first_to_fail)


def _meet(timeout: timedelta) -> tuple[dist.Store, int, int]:
    """Where the processes leave each other notes, the number of this one, and how many they are."""
    store, number, count = next(dist.rendezvous("env://", timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # then torchrun keeps the notes when it starts anew
        store = dist.PrefixStore(f"{count} processes, restart {restarts()}", store)
    return store, number, count


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if world_size() == 1 or "DataLoader worker" in str(error):  # PyTorch reports dead workers wherever it is
            raise
        raise UserError(f"process {os.environ.get('RANK', 0)} lost contact with the other processes of this run; find "
                        f"out why they ended, and go on with --continue_train ({str(error)[:160]})") from error


# ---- numbers and objects ----

@_exchange()
def largest(value: int) -> int:
    """The largest of all processes' values."""
    if world_size() == 1:
        return value
    result = torch.tensor(value)
    dist.all_reduce(result, dist.ReduceOp.MAX)
    return int(result)


@_exchange()
def from_main(value: Value) -> Value:
    """What process 0 calls this with."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


@_exchange()
def gather(value: Value) -> list[Value]:
    """For process 0: all processes' values, in their order. For the others: nothing."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size() if is_main() else []
    dist.gather_object(value, values or None, 0)
    return values


def wait() -> None:
    """Until all processes are here."""
    largest(0)


# ---- tensors ----

@_exchange()
@torch.no_grad()
def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Let the tensors be those of process 0, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dense = tensor.contiguous()
            dist.broadcast(dense, 0)
            tensor.copy_(dense)


@_exchange()
@torch.no_grad()
def average_(tensors: Iterable[Tensor]) -> None:
    """Let the tensors be the means over all processes, in place. What is not finite in one process becomes so in all,
    so that gradient scalers and checks of losses stay in step."""
    if world_size() == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket, size = [], 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


@_exchange()
def pooled_moments(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over all processes, of means and variances [c] of equally many values each; from the means'
    distances, not from mean squares, which would cancel."""
    if world_size() == 1:
        return mean, var
    own = torch.stack([mean, var])
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own)
    means, variances = torch.stack(parts, dim=1)
    mean = means.mean(0)
    return mean, (variances + (means - mean).square()).mean(0)


@_exchange()
def summed(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The sums over all processes of tensors of one shape."""
    if world_size() == 1:
        return tensors
    result = torch.stack(list(tensors))
    dist.all_reduce(result)
    return result.unbind()
