"""How many operations a step launches on a GPU, counted where there is none.

    python -m benchmarks.launches                   # ADE20K's published size, 20 instances, one picture
    python -m benchmarks.launches --no_kernels      # without the fused kernels

Everything runs on PyTorch's device "meta", which has shapes and no numbers, so that what would make the host wait for
a GPU fails. A fused kernel counts as one launch, every other operation of PyTorch that is no view as one too (some
launch several kernels). The optimisers' steps, which are few launches, are left out. Time is what ``benchmarks.gpu``
measures.
"""
import argparse
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed import batch, random_vgg
from models.batches import BatchMaker
from models.ops import backend
from models.ops.regions import SegmentSums
from options import TrainOptions
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser
from util.errors import command

META = torch.device("meta")
# make or name memory and launch nothing
_NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh",
            "_unsafe_view", "is_pinned", "set_", "promote_types"}


class Launches(TorchDispatchMode):
    """Counts operations on the device by name."""

    def __init__(self):
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        view = any(returned.alias_info and not returned.alias_info.is_write for returned in func._schema.returns)
        if not view and name not in _NOTHING:
            self.names[name] += 1
        return func(*args, **(kwargs or {}))

    def kernel(self, name: str, *results: Tensor) -> Any:
        """A fused kernel of that name."""
        self.names[f"fused {name}"] += 1
        return results[0] if len(results) == 1 else results


def kernels(launches: Launches) -> SimpleNamespace:
    """What stands in for :mod:`models.ops.kernels`: results of the same shapes."""

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=META)

    def summed(name: str, segments: SegmentSums, parts: int, channels: int) -> Tensor:
        launches.kernel(f"{name}, pieces")
        return launches.kernel(f"{name}, segments", empty(segments.count, parts, channels, dtype=torch.float32))

    return SimpleNamespace(
        modulate=lambda x, scale, shift, mean, rstd, region, slope, dtype:
            launches.kernel("modulate", empty(*region.shape, x.shape[-1], dtype=dtype)),
        modulate_sums=lambda x, grad, scale, shift, mean, rstd, region, segments, slope:
            summed("modulate_sums", segments, 2, x.shape[-1]),
        modulate_grad=lambda x, *_: launches.kernel("modulate_grad", torch.empty_like(x)),
        patches=lambda x, index, stride, dtype: launches.kernel("patches", empty(
            len(x) * -(-x.shape[1] // stride) * -(-x.shape[2] // stride), 9 * x.shape[3], dtype=dtype)),
        patches_grad=lambda grad, index, stride, dtype:
            launches.kernel("patches_grad", empty(*index.shape, grad.shape[1] // 9, dtype=dtype)),
        patch_sums=lambda rows, index, segments: summed("patch_sums", segments, 9, rows.shape[1]),
        patch_sums_grad=lambda grad, index, dtype:
            launches.kernel("patch_sums_grad", empty(index.numel(), grad.shape[2], dtype=dtype)),
    )


@contextlib.contextmanager
def on_meta(launches: Launches, fused: bool) -> Iterator[None]:
    """Training on "meta", which neither optimisers nor autocast know."""
    stand_in = kernels(launches)
    with (mock.patch.object(torch.optim, "Adam", lambda groups, lr, **_: torch.optim.SGD(groups, lr)),
          mock.patch.object(torch.optim.SGD, "step", lambda *_, **__: None),
          mock.patch.object(torch, "autocast", lambda *_, **__: contextlib.nullcontext()),
          mock.patch.object(torch, "is_autocast_enabled", lambda *_: False),
          mock.patch.object(torch, "batch_norm_update_stats",
                            lambda x, *_: torch.var_mean(x, (0, 2, 3), correction=0)[::-1]),
          mock.patch.object(backend, "kernels_for", lambda x: stand_in if fused else None)):
        yield


@command
def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no_kernels", action="store_true", help="as on a GPU where Triton does not work")
    parser.add_argument("--top", type=int, default=0, help="also list so many of the most frequent operations")
    args = parser.parse_args()
    line = f"--dataset_mode ade20k --use_vae --gpu_ids -1 --vgg_weights {random_vgg()}"
    opt = TrainOptions().parse(line.split()).replace(device=META)
    data = BatchMaker.of(opt).tabulated(batch(opt, 1, 20))
    launches = Launches()
    with on_meta(launches, not args.no_kernels):
        trainer = Pix2PixTrainer(opt)
        model, prepared = trainer.model, trainer.prepare(data)
        cases: dict[str, Callable[[], Any]] = {
            "generator step, with VGG": lambda: trainer.run_generator_one_step(prepared),
            "discriminator step": lambda: trainer.run_discriminator_one_step(prepared),
            "inference with encoder": lambda: model.eval().infer(prepared),
            "sample from the prior": lambda: model.eval().sample(prepared),
        }
        for case, run in cases.items():
            launches.names.clear()
            with launches:
                run()
            print(f"{case:<26}{launches.names.total():>6}")
            for name, count in launches.names.most_common(args.top):
                print(f"    {count:>5} {name}")


if __name__ == "__main__":
    main()
