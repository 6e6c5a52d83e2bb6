"""Peak memory of training, by pictures per process, with ``--checkpoint_activations``, and with ``--ema``.

    python -m benchmarks.memory --dataset_mode ade20k --batch 1 2           # measured on the CPU
    python -m benchmarks.memory --dataset_mode ade20k --computed --top 20   # computed for a GPU

Each measured figure is the peak of a process of its own that takes two generator and two discriminator steps. The
difference between two batch sizes is what a picture needs; the rest are networks, gradients, Adam's moments and PyTorch
itself.

Computed figures follow every tensor of the same steps on PyTorch's device "meta", from where it is made to where it is
dropped, for two batch sizes. With ``RESERVED`` left free they say how many pictures fit a card.
"""
import argparse
import os
import re
import sys
import weakref
from collections import Counter

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.launches import Launches, on_meta, options
from benchmarks.speed import DATASETS, batch, own_peak, peak_of, random_vgg
from models.batches import BatchMaker
from options import TrainOptions
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.errors import command

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WAYS = {"as it is": [], "recomputed activations": ["--checkpoint_activations"], "averaged networks": ["--ema", "1000"]}
CARDS = (8, 12, 24, 80)  # GiB
SIZES = 4, 8  # of the batches; for fewer pictures, gradients may make the peak
RESERVED = 1.5, 0.1  # GiB for CUDA, cuDNN and its workspaces, and the share that is lost between tensors


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_mode", default="ade20k", choices=DATASETS, help="whose published size")
    parser.add_argument("--batch", type=integer(1), nargs="+", default=[1, 2], help="pictures per process")
    parser.add_argument("--instances", type=integer(1), default=20, help="instances per picture")
    parser.add_argument("--computed", action="store_true", help="compute for a GPU, in float32 and bfloat16")
    parser.add_argument("--top", type=integer(0), default=0,
                        help="of what is computed, also list so many lines that made what is there at the peak")
    parser.add_argument("--here", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    if args.here:
        print(peak_here(args))
        return
    if args.computed:
        compute(args)
        return
    print(f"torch {torch.__version__}, {args.dataset_mode}, peak MiB")
    for how in WAYS:
        peaks = [peak_of("benchmarks.memory", *sys.argv[1:], "--batch", number, "--here", how) for number in args.batch]
        figures = (f"{number}: {value:6.0f}" for number, value in zip(args.batch, peaks, strict=True))
        print(f"{how:<22}", *figures, flush=True)


def peak_here(args: argparse.Namespace) -> float:
    number = args.batch[0]
    line = ["--dataset_mode", args.dataset_mode, "--use_vae", "--gpu_ids", "-1", "--batchSize", str(number),
            "--vgg_weights", random_vgg(), *WAYS[args.here]]
    opt = TrainOptions().parse(line)
    data, trainer = batch(opt, number, args.instances), Pix2PixTrainer(opt)
    for _ in range(2):
        trainer.run_generator_one_step(data)
        trainer.run_discriminator_one_step(data)
    return own_peak()


def compute(args: argparse.Namespace) -> None:
    """Print the bytes for networks and for every picture, and how many pictures fit."""
    print(f"{args.dataset_mode}, MiB computed{'whatever':>17}{'a picture':>11}  pictures in", *CARDS, "GiB")
    for precision in ("float32", "bfloat16"):
        for how in list(WAYS)[:2]:
            few, many = (peak_computed(args, how, precision, number) for number in SIZES)
            each = (many.total() - few.total()) / (SIZES[1] - SIZES[0])
            fixed = few.total() - SIZES[0] * each
            fit = [int(((card - RESERVED[0]) * (1 - RESERVED[1]) * 2**30 - fixed) // each) for card in CARDS]
            print(f"{precision:<9}{how:<26}{fixed / 2**20:>10.0f}{each / 2**20:>11.0f}  {'':<11}", *fit, flush=True)
            for name, there in (many - few).most_common(args.top):
                print(f"    {there / (SIZES[1] - SIZES[0]) / 2**20:>8.1f} {name}")


def peak_computed(args: argparse.Namespace, how: str, precision: str, number: int) -> Counter[str]:
    """Bytes, by what made them, at the moment of two iterations when they are most."""
    opt = options(args.dataset_mode, number, precision, *WAYS[how])
    data = BatchMaker.of(opt).tabulated(batch(opt, number, args.instances))
    with on_meta(Launches(), True), torch.autograd.detect_anomaly(check_nan=False), Live() as live:
        trainer = Pix2PixTrainer(opt)
        moments = 2 * sum(parameter.nbytes for network in trainer.model.networks().values()
                          for parameter in network.parameters())
        prepared = trainer.prepare(data)
        for _ in range(2):
            trainer.run_generator_one_step(prepared)
            trainer.run_discriminator_one_step(prepared)
    return live.at_peak + Counter({"Adam's moments": moments})


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


class Live(TorchDispatchMode):
    """Follows the memory of tensors on "meta"."""

    def __init__(self):
        super().__init__()
        self.now: Counter[str] = Counter()  # bytes by what made them
        self.at_peak: Counter[str] = Counter()
        self._places: dict[int, tuple[str, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(func.overloadpacket.__name__, tensor)
        return result

    def _see(self, name: str, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.device.type != "meta" or storage._cdata in self._places:
            return
        maker = f"{name}, {place()}"
        self._places[storage._cdata] = maker, storage.nbytes()
        weakref.finalize(storage, self._gone, storage._cdata)
        self.now[maker] += storage.nbytes()
        if self.now.total() > self.at_peak.total():
            self.at_peak = self.now.copy()

    def _gone(self, key: int) -> None:
        maker, size = self._places.pop(key)
        self.now[maker] -= size


if __name__ == "__main__":
    main()
