"""Speed and memory against the plain formulas (tests/reference.py) and against the bare convolutions.

    python -m benchmarks.speed                                   # ADE20K's published size, 20 instances, one thread
    python -m benchmarks.speed --dataset_mode cityscapes --instances 8 64 256
    python -m benchmarks.speed --classes 35 151 500 --what inference

Both sides have the same weights and inputs and run alternately in one process. Times are CPU seconds with one thread
(wall-clock seconds with more): small parallel regions say more about what else the machine does. A ratio above 1 means
that this project is faster, or needs less memory, than what it is compared with.

It measures on the CPU; ``python -m benchmarks.gpu`` does on CUDA.
"""
import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from options import Options, TrainOptions
from tests.reference import ReferenceTrainer
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.checkpoints import save_tensors
from util.errors import UserError, command
from util.memory import keep_freed_memory

DATASETS = ("ade20k", "cityscapes", "celeba", "deepfashion")
CASES = ("encoder", "generator", "inference", "generator_step", "discriminator_step", "memory")


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_mode", default="ade20k", choices=DATASETS, help="whose published size")
    parser.add_argument("--instances", type=integer(1), nargs="+", default=[20], help="instances per picture")
    parser.add_argument("--classes", type=integer(1), nargs="+", help="classes (default: the data set's)")
    parser.add_argument("--what", nargs="+", default=CASES, choices=CASES, help="what to measure (default: all)")
    parser.add_argument("--batch", type=integer(1), default=1, help="pictures per batch (default 1)")
    parser.add_argument("--ngf", type=integer(1), default=64, help="first width of all networks (default 64)")
    parser.add_argument("--crop_size", type=integer(1), help="pixels (default: as published)")
    parser.add_argument("--repeats", type=integer(1), default=3, help="runs of each side after one more (default 3)")
    parser.add_argument("--threads", type=integer(0), default=1, help="threads (default 1; 0: all cores)")
    parser.add_argument("--keep_freed_memory", action="store_true",
                        help="do what train.py and test.py do for both sides, see util/memory.py")
    parser.add_argument("--use_amp", action="store_true", help="this project's steps in mixed precision")
    parser.add_argument("--no_vgg_loss", action="store_true", help="the generator step without VGG")
    parser.add_argument("--memory_of", choices=("reference", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.threads = args.threads or os.cpu_count()
    return args


@command
def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    if args.keep_freed_memory:
        keep_freed_memory()
    if args.memory_of:
        print(peak_memory_here(args))
        return
    print(f"torch {torch.__version__}, python {platform.python_version()}, threads {args.threads}, {clock_name()}")
    print(f"{'case':<20}{'K':>5}{'C':>5}{'plain s':>11}{'ours s':>11}{'ratio min':>11}{'median':>9}")
    for classes in args.classes or [None]:
        for instances in args.instances:
            measure(args, classes, instances)


def measure(args: argparse.Namespace, classes: int | None, instances: int) -> None:
    """Print a row for each of the cases, for one number of classes and instances."""

    def report(case: str, plain: list[float], ours: list[float], form: str = "11.3f") -> None:
        ratios = min(plain) / min(ours), statistics.median(plain) / statistics.median(ours)
        print(f"{case:<20}{instances:>5}{opt.num_classes:>5}{min(plain):>{form}}{min(ours):>{form}}"
              f"{ratios[0]:>10.2f}x{ratios[1]:>8.2f}x", flush=True)

    opt = options(args, classes)
    trainer, reference = build(opt)
    data = batch(opt, args.batch, instances)
    for case, (plain, ours) in cases(trainer, reference, data).items():
        if case in args.what:
            report(case, *alternately(plain, ours, args.repeats))
    if "inference" in args.what:
        plain, ours = cases(trainer, reference, data)["inference"]
        convolutions = bare_convolutions((reference.netG, reference.netE), (), plain)
        report("inference/bare convs", *alternately(convolutions, ours, args.repeats))
    del trainer, reference
    if "memory" in args.what:
        line = ["benchmarks.speed", *sys.argv[1:], "--instances", instances]
        line += ["--classes", classes] if classes else []
        peaks = [[peak_of(*line, "--memory_of", side)] for side in ("reference", "ours")]
        report("peak memory, MiB", *peaks, form="11.0f")


def options(args: argparse.Namespace, classes: int | None) -> Any:
    line = ["--dataset_mode", args.dataset_mode, "--use_vae", "--gpu_ids", "-1", "--ngf", args.ngf, "--ndf", args.ngf,
            "--batchSize", args.batch]
    if args.crop_size:
        line += ["--crop_size", args.crop_size]
    if classes:  # ade20k counts don't care on top
        line += ["--label_nc", classes - (args.dataset_mode == "ade20k")]
    line += ["--use_amp"] if args.use_amp else []
    line += ["--no_vgg_loss"] if args.no_vgg_loss else ["--vgg_weights", random_vgg()]
    return TrainOptions().parse([str(word) for word in line])


def random_vgg() -> str:
    """A file of VGG19-shaped weights: times do not depend on the values."""
    import torchvision

    path = os.path.join(os.path.expanduser("~"), ".cache", "inade-benchmark", "vgg19-random.pth")
    if not os.path.exists(path):
        torch.manual_seed(0)
        save_tensors(torchvision.models.vgg19(weights=None).features.state_dict(), path)
    return path


def build(opt: Options) -> tuple[Pix2PixTrainer, ReferenceTrainer]:
    torch.manual_seed(0)
    trainer, reference = Pix2PixTrainer(opt), ReferenceTrainer(opt)
    reference.copy(trainer.model)
    return trainer, reference


def batch(opt: Options, size: int, instances: int) -> dict[str, torch.Tensor]:
    """Layouts whose instances are the cells around random points, each of a random class."""
    torch.manual_seed(0)
    height, width = opt.image_size
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).float()
    points = torch.rand(size, instances, 2) * torch.tensor([height, width])
    instance = torch.cdist(grid.view(-1, 2).expand(size, -1, -1), points).argmin(2).view(size, 1, height, width)
    kind = torch.randint(opt.num_classes, (size, instances))
    label = torch.stack([kind[b][instance[b]] for b in range(size)])
    return {"label": label, "instance": instance, "image": torch.rand(size, 3, height, width) * 2 - 1}


Case = tuple[Callable[[], Any], Callable[[], Any]]


def cases(trainer: Pix2PixTrainer, reference: ReferenceTrainer, data: dict[str, torch.Tensor]) -> dict[str, Case]:
    """Name -> (the plain formulas, this project)."""
    model = trainer.model

    def evaluating(module: torch.nn.Module, function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            module.eval()
            with torch.no_grad():
                function()
            module.train()

        return run

    def encode() -> Any:
        batch = model.prepare(data)
        return model.netE(batch.image, batch.layout)

    return {
        "encoder": (evaluating(reference, lambda: reference.netE(data["image"], data["instance"])),
                    evaluating(model, encode)),
        "generator": (evaluating(reference, lambda: reference.infer(data, encode=False)),
                      evaluating(model, lambda: model.sample(model.prepare(data)))),
        "inference": (evaluating(reference, lambda: reference.infer(data, encode=True)),
                      evaluating(model, lambda: model.infer(model.prepare(data)))),
        "generator_step": (lambda: reference.generator_step(data),
                           lambda: trainer.run_generator_one_step(data)),
        "discriminator_step": (lambda: reference.discriminator_step(data),
                               lambda: trainer.run_discriminator_one_step(data)),
    }


def bare_convolutions(networks: Sequence[nn.Module], learning: Sequence[nn.Module], plain: Callable[[], Any],
                      dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """The convolutions and linear layers of some networks in ``plain``, forward and, where it records gradients,
    backward, and nothing else: dense, channels-last, spectral norm folded in.

    :param learning: the networks whose weights have gradients.
    """
    calls = []

    def record(network: nn.Module) -> Callable:
        def hook(module: nn.Module, inputs: tuple) -> None:
            backward = torch.is_grad_enabled()
            x, weight = torch.randn_like(inputs[0], dtype=dtype), module.weight.detach().to(dtype)
            if isinstance(module, nn.Conv2d):
                x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
            x.requires_grad_(backward and inputs[0].requires_grad)
            calls.append((module, x, weight.requires_grad_(backward and network in learning)))

        return hook

    hooks = [layer.register_forward_pre_hook(record(network)) for network in networks for layer in network.modules()
             if isinstance(layer, nn.Conv2d | nn.Linear)]
    plain()
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for module, x, weight in calls:
            if isinstance(module, nn.Conv2d):
                out = F.conv2d(x, weight, None, module.stride, module.padding)
            else:
                out = F.linear(x, weight)
            wanted = [tensor for tensor in (x, weight) if tensor.requires_grad]
            if wanted:
                torch.autograd.grad(out, wanted, out.detach())

    return run


def clock_name() -> str:
    return "CPU time" if torch.get_num_threads() == 1 else "wall clock"


def alternately(plain: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each side's runs."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(repeats + 1):
        for function, seconds in zip((plain, ours), times, strict=True):
            start = clock()
            function()
            if n:
                seconds.append(clock() - start)
    return times


def peak_of(*words: object) -> float:
    """MiB that ``python -m`` with these words has at most resident, which it prints last."""
    done = subprocess.run([sys.executable, "-m", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the process that measures memory failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout.split()[-1])


def own_peak() -> float:
    """MiB that this process had at most resident."""
    with open("/proc/self/status", encoding="utf-8") as file:  # getrusage would count the parent's peak in
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1024


def peak_memory_here(args: argparse.Namespace) -> float:
    opt = options(args, (args.classes or [None])[0])
    data = batch(opt, args.batch, args.instances[0])
    if args.memory_of == "ours":
        trainer = Pix2PixTrainer(opt)
        steps = trainer.run_generator_one_step, trainer.run_discriminator_one_step
    else:
        reference = ReferenceTrainer(opt)
        steps = reference.generator_step, reference.discriminator_step
    for step in (*steps, *steps):
        step(data)
    return own_peak()


if __name__ == "__main__":
    main()
