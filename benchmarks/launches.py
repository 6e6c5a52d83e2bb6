"""How many operations a step launches on a GPU, and how many bytes they move, counted where there is none.

    python -m benchmarks.launches                                        # ADE20K's published size, 20 instances
    python -m benchmarks.launches --no_kernels                           # without the fused kernels
    python -m benchmarks.launches --precision bfloat16 --top 20 --by place --sort bytes

Everything runs on PyTorch's device "meta", which has shapes and no numbers, so that what would make the host wait for
a GPU fails. A fused kernel counts as one launch, every other operation of PyTorch that is no view as one too (some
launch several kernels). The optimisers' steps, which are few launches, are left out. Time is what ``benchmarks.gpu``
measures.

Bytes are what operations read and write, each tensor once for every operation; of tables that are indexed, the rows
that are taken. Convolutions and products of matrices do not count, since there arithmetic decides; products of a matrix
and a vector do. From batches of one and of two pictures follow the bytes for every picture and those that are moved
whatever their number: weights, above all in spectral norms, gradients, and last Adam's step, computed from the number
of parameters.
"""
import argparse
import contextlib
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.simulated_autocast import simulated_autocast
from benchmarks.speed import batch, random_vgg
from models.batches import BatchMaker
from models.ops import backend, proof
from models.ops.regions import SegmentSums
from options import Options, TrainOptions
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.errors import command

CONVOLUTION = torch.ops.aten.convolution.default
META = torch.device("meta")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# make or name memory and launch nothing
_NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh",
            "_unsafe_view", "is_pinned", "set_", "promote_types", "_record_function_enter_new", "_record_function_exit"}
_PRODUCTS = {"convolution", "convolution_backward", "mm", "addmm", "bmm"}  # whose bytes do not count
_TAKEN_FROM = {"embedding", "index", "index_select", "gather"}  # read of their first tensor what they give
_OVERWRITTEN = {"copy_", "fill_", "zero_"}  # do not read what they write
_ADAM = 7 * 4  # bytes that Adam moves for a parameter: reads it, its gradient and moments, writes it and the moments


class Launches(TorchDispatchMode):
    """Counts operations on the device, and the bytes that they move, by name and place."""

    def __init__(self):
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, result = func.overloadpacket.__name__, func(*args, **(kwargs or {}))
        view = any(returned.alias_info and not returned.alias_info.is_write for returned in func._schema.returns)
        if not view and name not in _NOTHING:
            self.note(name, moved(name, tensors_in((args, kwargs)), tensors_in(result)))
        return result

    def note(self, name: str, moved_bytes: int) -> None:
        key = name, place()
        self.counts[key] += 1
        self.bytes[key] += moved_bytes

    def kernel(self, name: str, *results: Tensor | None, read: Sequence[Tensor] = ()) -> Any:
        """A fused kernel of that name, and the large tensors that it reads."""
        self.note(f"fused {name}", sum(map(nbytes, tensors_in((results, read)))))
        return results[0] if len(results) == 1 else results

    def clear(self) -> None:
        self.counts.clear()
        self.bytes.clear()


class _ChannelsLast(TorchDispatchMode):
    """Convolutions give channels-last tensors, as they do on CUDA where what they take is so."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result.contiguous(memory_format=torch.channels_last) if func is CONVOLUTION else result


def tensors_in(thing: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(thing) if isinstance(leaf, Tensor)]


def nbytes(x: Tensor) -> int:
    """In memory: what is expanded lies there once."""
    return math.prod(side for side, stride in zip(x.shape, x.stride(), strict=True) if stride) * x.element_size()


def moved(name: str, read: list[Tensor], written: list[Tensor]) -> int:
    """Bytes that an operation of PyTorch reads and writes."""
    if name in _PRODUCTS:
        return 0
    out = sum(map(nbytes, written))
    if name in _OVERWRITTEN:
        return out + sum(map(nbytes, read[1:]))
    if name in _TAKEN_FROM:
        return 2 * out + sum(map(nbytes, read[1:]))
    if name.startswith("scatter"):  # touches as much as it has indices
        return sum(map(nbytes, read[1:])) + read[1].numel() * written[0].element_size()
    return sum(map(nbytes, read)) + out


def place() -> str:
    """The line of the project that asks for an operation; of one in the backward pass, the line that it goes back to
    (which anomaly detection knows)."""
    frame = sys._getframe(1)
    while frame:
        file = _ours(frame.f_code.co_filename)
        if file and file.startswith("trainers") and (node := torch._C._current_autograd_node()):
            lines = [re.search(r'File "(.*)", line (\d+)', text) for text in node.metadata.get("traceback_", ())]
            files = [(_ours(match[1]), match[2]) for match in lines if match and _ours(match[1])]
            return "backward of {}:{}".format(*files[-1]) if files else "backward"
        if file:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _ours(file: str) -> str | None:
    """The name, seen from the root, of a file of what is measured."""
    name = os.path.relpath(file, ROOT)
    return name if name.split(os.sep)[0] in ("models", "trainers") else None


def kernels(launches: Launches) -> SimpleNamespace:
    """What stands in for :mod:`models.ops.kernels`: results of the same shapes."""

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=META)

    def summed(name: str, segments: SegmentSums, parts: int, channels: int, read: Sequence[Tensor]) -> Tensor:
        pieces = empty(len(segments.piece_segment), parts, channels, dtype=torch.float32)
        launches.kernel(f"{name}, pieces", pieces, read=(segments.members, *read))
        return launches.kernel(f"{name}, segments", empty(segments.count, parts, channels, dtype=torch.float32),
                               read=[pieces])

    def region_table_grad(grad: Tensor, styles: Tensor, weight: Tensor, bias: Tensor, label: Tensor,
                          gain: Tensor | None) -> tuple[Tensor | None, ...]:
        results = [torch.empty_like(tensor) for tensor in (styles, weight, bias)]
        launches.kernel("region_table_grad", results[0], read=(grad, styles, styles))
        launches.kernel("class_sums", *results[1:], read=(grad, styles))
        return *results, None if gain is None else grad[:, 0, 0].sum()

    def instance_norm(x: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor]:
        launches.kernel("instance_norm, pieces", None, read=[x])
        launches.kernel("instance_norm, moments", None)
        rstd = empty(len(x), x.shape[3], dtype=torch.float32)
        return launches.kernel("instance_norm", torch.empty_like(x), rstd, read=[x])

    def instance_norm_grad(grad: Tensor, out: Tensor, rstd: Tensor, slope: float) -> Tensor:
        launches.kernel("instance_norm_grad, pieces", None, read=(grad, out))
        rstd.sum()  # stands for the sum of the pieces
        return launches.kernel("instance_norm_grad", torch.empty_like(out), read=(grad, out))

    return SimpleNamespace(
        modulate=lambda x, table, mean, var, eps, region, slope, dtype: launches.kernel(
            "modulate", empty(*region.shape, x.shape[-1], dtype=dtype), read=(x, table, region)),
        modulate_sums=lambda x, grad, table, mean, var, eps, region, segments, slope:
            summed("modulate_sums", segments, 2, x.shape[-1], (x, grad, table)),
        moments_grad=lambda sums, table, count: launches.kernel(
            "moments_grad", torch.empty_like(sums[0]), read=(sums, table)),
        modulate_grad=lambda x, grad, table, mean, var, eps, by_moments, region, slope: launches.kernel(
            "modulate_grad", torch.empty_like(x), read=(x, grad, table, region)),
        region_table=lambda styles, weight, bias, label, gain: launches.kernel(
            "region_table", torch.empty_like(styles), read=(styles, styles)),  # rows of weight and bias, as large
        region_table_grad=region_table_grad,
        instance_norm=instance_norm,
        instance_norm_grad=instance_norm_grad,
        gain_grad=lambda grad, gain, u, v: launches.kernel("gain_grad", empty(len(u), len(v), dtype=u.dtype)),
        patches=lambda x, index, stride, dtype: launches.kernel("patches", empty(
            len(x) * -(-x.shape[1] // stride) * -(-x.shape[2] // stride), 9 * x.shape[3], dtype=dtype),
            read=(x, index)),
        patches_grad=lambda grad, index, stride, dtype: launches.kernel(
            "patches_grad", empty(*index.shape, grad.shape[1] // 9, dtype=dtype), read=(grad, index)),
        patch_sums=lambda rows, index, segments: summed("patch_sums", segments, 9, rows.shape[1], (rows, index)),
        patch_sums_grad=lambda grad, index, dtype: launches.kernel(
            "patch_sums_grad", empty(index.numel(), grad.shape[2], dtype=dtype), read=(grad, index)),
    )


@contextlib.contextmanager
def on_meta(launches: Launches, fused: bool) -> Iterator[None]:
    """Training on "meta" as on a GPU. Neither optimisers nor autocast know it."""
    stand_in = kernels(launches)
    with contextlib.ExitStack() as stack:
        for thing, name, replacement in (
                (torch.optim, "Adam", lambda groups, lr, **_: torch.optim.SGD(groups, lr)),
                (torch.optim.SGD, "step", lambda *_, **__: None),
                (torch, "batch_norm_update_stats", lambda x, *_: launches.kernel(
                    "statistics", *torch.empty(2, x.shape[1], device=META), read=[x])),
                (backend, "kernels", lambda: stand_in),
                (backend, "kernels_for", lambda x: frozenset(proof.OPERATIONS if fused else ()))):
            stack.enter_context(mock.patch.object(thing, name, replacement))
        stack.enter_context(simulated_autocast())
        stack.enter_context(_ChannelsLast())
        yield


def options(dataset_mode: str, size: int, precision: str, *more: str) -> Options:
    """Of training on "meta" with batches of so many pictures."""
    line = ["--dataset_mode", dataset_mode, "--batchSize", str(size), "--use_vae", "--gpu_ids", "-1", *more,
            "--vgg_weights", random_vgg(), *(["--use_amp", "--amp_dtype", precision] if precision != "float32" else [])]
    return TrainOptions().parse(line).replace(device=META)


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no_kernels", action="store_true", help="as on a GPU where Triton does not work")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="default float32")
    parser.add_argument("--top", type=integer(0), default=0, help="also list so many operations")
    parser.add_argument("--by", default="operation", choices=("operation", "place"), help="list them by name, or also "
                        "by the line that asks for them (default: by name)")
    parser.add_argument("--sort", default="launches", choices=("launches", "bytes"),
                        help="the most of which come first")
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    one, two = (count(args, size) for size in (1, 2))
    print(f"{'':<28}{'launches':>10}{'MB a picture':>14}{'MB fixed':>10}")
    for case, (launches, moved_by_one) in one.items():
        moved_by_two = two[case][1]

        def line(text: str, names: Iterable[str], launches=launches, by_one=moved_by_one, by_two=moved_by_two) -> None:
            number, first, both = (sum(counter[name] for name in names) for counter in (launches, by_one, by_two))
            print(f"{text:<28}{number:>10}{(both - first) / 1e6:>14.1f}{(2 * first - both) / 1e6:>10.1f}")

        line(case, launches)
        order = launches if args.sort == "launches" else moved_by_one
        for name, _ in order.most_common(args.top):
            line(f"    {name}", [name])


def count(args: argparse.Namespace, size: int) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """Launches and bytes of every case, for so many pictures."""
    opt = options("ade20k", size, args.precision)
    data = BatchMaker.of(opt).tabulated(batch(opt, size, 20))
    launches, found = Launches(), {}
    with on_meta(launches, not args.no_kernels):
        trainer = Pix2PixTrainer(opt)
        model, prepared = trainer.model, trainer.prepare(data)

        def synthesis(run: Callable[[Any], Any]) -> None:
            model.eval()
            with trainer.autocast:
                run(prepared)

        cases: dict[str, Callable[[], Any]] = {
            "generator step, with VGG": lambda: trainer.run_generator_one_step(prepared),
            "discriminator step": lambda: trainer.run_discriminator_one_step(prepared),
            "inference with encoder": lambda: synthesis(model.infer),
            "sample from the prior": lambda: synthesis(model.sample),
        }
        for case, run in cases.items():
            launches.clear()
            with launches, torch.autograd.detect_anomaly(check_nan=False):
                run()
            found[case] = tuple(grouped(counter, args.by) for counter in (launches.counts, launches.bytes))
    return found


def grouped(counter: Counter[tuple[str, str]], by: str) -> Counter[str]:
    """By operation, or by operation and place."""
    result: Counter[str] = Counter()
    for (name, where), value in counter.items():
        result[name if by == "operation" else f"{name}, {where}"] += value
    return result


if __name__ == "__main__":
    main()
