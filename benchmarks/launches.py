"""How many operations a step launches on a GPU, counted where there is none.

    python -m benchmarks.launches                                        # ADE20K's published size, 20 instances
    python -m benchmarks.launches --no_kernels                           # without the fused kernels

Everything runs on PyTorch's device "meta", which has shapes and no numbers, so that what would make the host wait for
a GPU fails. A fused kernel counts as one launch, every other operation of PyTorch that is no view as one too (some
launch several kernels). The optimisers' steps, which are few launches, are left out. Time is what ``benchmarks.gpu``
measures.
"""
import argparse
import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.simulated_autocast import simulated_autocast
from benchmarks.speed import batch, random_vgg
from models.batches import BatchMaker
from models.ops import backend, proof
from models.ops.regions import SegmentSums
from options import Options, TrainOptions
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser
from util.errors import command

CONVOLUTION = torch.ops.aten.convolution.default
META = torch.device("meta")
# make or name memory and launch nothing
_NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh",
            "_unsafe_view", "is_pinned", "set_", "promote_types", "_record_function_enter_new", "_record_function_exit"}


class Launches(TorchDispatchMode):
    """Counts operations on the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        view = any(returned.alias_info and not returned.alias_info.is_write for returned in func._schema.returns)
        self.count += not view and func.overloadpacket.__name__ not in _NOTHING
        return result

    def fused(self, result: Any, kernels: int = 1) -> Any:
        """What so many fused kernels give."""
        self.count += kernels
        return result


class _ChannelsLast(TorchDispatchMode):
    """Convolutions give channels-last tensors, as they do on CUDA where what they take is so."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result.contiguous(memory_format=torch.channels_last) if func is CONVOLUTION else result


def kernels(launches: Launches) -> SimpleNamespace:
    """What stands in for :mod:`models.ops.kernels`: results of the same shapes."""
    fused = launches.fused

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=META)

    def summed(segments: SegmentSums, parts: int, channels: int) -> Tensor:
        pieces = empty(len(segments.piece_segment), parts, channels)
        return fused(empty(segments.count, *pieces.shape[1:]), 2)

    def region_table_grad(grad: Tensor, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        *others, gain = tensors
        return *fused([torch.empty_like(tensor) for tensor in others[:3]], 2), None if gain is None else grad.sum()

    return SimpleNamespace(
        modulate=lambda x, table, mean, var, eps, region, slope, dtype:
            fused(empty(*region.shape, x.shape[-1], dtype=dtype)),
        modulate_sums=lambda x, grad, table, mean, var, eps, region, segments, slope:
            summed(segments, 2, x.shape[-1]),
        moments_grad=lambda sums, table, count: fused(torch.empty_like(sums[0])),
        modulate_grad=lambda x, *_: fused(torch.empty_like(x)),
        region_table=lambda styles, *_: fused(torch.empty_like(styles)),
        region_table_grad=region_table_grad,
        instance_norm=lambda x, eps, slope: fused((torch.empty_like(x), empty(len(x), x.shape[3])), 3),
        instance_norm_grad=lambda grad, out, rstd, slope: fused(torch.empty_like(out), 3),  # and a sum
        gain_grad=lambda grad, gain, u, v: fused(empty(len(u), len(v), dtype=u.dtype)),
        patches=lambda x, index, stride, dtype: fused(
            empty(len(x) * -(-x.shape[1] // stride) * -(-x.shape[2] // stride), 9 * x.shape[3], dtype=dtype)),
        patches_grad=lambda grad, index, stride, dtype: fused(
            empty(*index.shape, grad.shape[1] // 9, dtype=dtype)),
        patch_sums=lambda rows, index, segments: summed(segments, 9, rows.shape[1]),
        patch_sums_grad=lambda grad, index, dtype: fused(empty(index.numel(), grad.shape[2], dtype=dtype)),
    )


@contextlib.contextmanager
def on_meta(launches: Launches, fused: bool) -> Iterator[None]:
    """Training on "meta" as on a GPU. Neither optimisers nor autocast know it."""
    stand_in = kernels(launches)
    with contextlib.ExitStack() as stack:
        for thing, name, replacement in (
                (torch.optim, "Adam", lambda groups, lr, **_: torch.optim.SGD(groups, lr)),
                (torch.optim.SGD, "step", lambda *_, **__: None),
                (torch, "batch_norm_update_stats", lambda x, *_: launches.fused(
                    torch.empty(2, x.shape[1], device=META).unbind())),
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
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    opt = options("ade20k", 1, args.precision)
    data, launches = BatchMaker.of(opt).tabulated(batch(opt, 1, 20)), Launches()
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
            launches.count = 0
            with launches:
                run()
            print(f"{case:<28}{launches.count:>6} launches")


if __name__ == "__main__":
    main()
