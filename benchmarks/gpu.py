"""Speed, launches, waits and memory on a CUDA device, and whether what it computes is right.

    python -m benchmarks.gpu --check                            # is all right? A line for everything, and a status
    python -m benchmarks.gpu                                    # ADE20K's published size, 20 instances
    python -m benchmarks.gpu --batch 8 --precision bfloat16 --what generator_step
    python -m benchmarks.gpu --device cpu --ngf 8 --crop_size 64 --batch 1     # tries the program where there is no GPU

``--check`` compares every operation with its plain form, losses and gradients of a step in every precision with float64
on the CPU, graphs with steps as they are, and a run that goes on with one that was not interrupted.

Without it, every row is measured: images
per second of this project, of the plain formulas (``tests/reference.py``) and of the bare convolutions of the same
networks (dense, channels-last, nothing else), in one process and in turns; how many kernels are launched; how often the
host waits for the device; and the most memory allocated by a run, and reserved, which graphs keep too. Plain formulas
and bare convolutions have the same precision. Batches are as the loader's workers hand them over: pinned, with the
tables of their layouts. ``training`` is both steps in turn, fed by the loader from files of an example world, against
the same on a batch that is there already.
"""
import argparse
import contextlib
import functools
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.loader import draw_world
from benchmarks.speed import DATASETS, bare_convolutions, batch, random_vgg
from models.batches import BatchMaker, load_batches
from models.ops import backend, proof
from models.synthesis import Synthesizer
from options import Options, TrainOptions
from tests.reference import ReferenceTrainer
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.arguments import ArgumentParser, integer
from util.errors import command
from util.precision import float32_products

# of --check: relative errors of losses and of gradients; TF32 and bfloat16 have 10 and 7 binary digits
LIMITS = {"float64": (1e-8, 1e-6), "float32": (1e-4, 1e-3), "tf32": (1e-2, 0.1), "float16": (1e-3, 0.1),
          "bfloat16": (1e-2, 0.4)}
SMALL = {"ngf": 16, "ndf": 16, "crop_size": 64, "aspect_ratio": 1.0}  # of the checks
CASES = ("sample", "inference", "generator_step", "discriminator_step", "training")
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")  # of convolutions and products; the last two by autocast
HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# how the profiler's names of what launches something on the device begin
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only check that all is right; status 1 if it is not")
    parser.add_argument("--dataset_mode", default="ade20k", choices=DATASETS, help="whose published size")
    parser.add_argument("--batch", type=integer(1), nargs="+", default=[1, 8, 32], help="pictures (default 1 8 32)")
    parser.add_argument("--precision", nargs="+", default=PRECISIONS, choices=PRECISIONS, help="default: all")
    parser.add_argument("--what", nargs="+", default=CASES, choices=CASES, help="what to measure (default: all)")
    parser.add_argument("--instances", type=integer(1), default=20, help="instances per picture (default 20)")
    parser.add_argument("--ngf", type=integer(1), default=64, help="first width of all networks (default 64)")
    parser.add_argument("--crop_size", type=integer(1), help="pixels (default: as published)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of measuring each side of a row (default 0.5)")
    parser.add_argument("--ours_alone", action="store_true",
                        help="neither plain formulas nor bare convolutions, whose networks count as memory otherwise")
    parser.add_argument("--cudnn_benchmark", action="store_true", help="let cuDNN choose its algorithms by trying them")
    parser.add_argument("--cuda_graphs", action="store_true", help="this project's steps and pictures as CUDA graphs")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    torch.backends.cudnn.benchmark = args.cudnn_benchmark
    options(args, 1)  # refuses a device that is not there
    card = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    print(f"{card}, torch {torch.__version__}")
    if args.check:
        failed = check_all(args)
        print(f"{failed} checks failed" if failed else "all is right")
        sys.exit(1 if failed else 0)
    for precision, size in itertools.product(args.precision, args.batch):
        measure(args, precision, size)


def options(args: argparse.Namespace, size: int, precision: str = "float32", **changes: Any) -> Options:
    given = {"dataset_mode": args.dataset_mode, "ngf": args.ngf, "ndf": args.ngf,
             "batchSize": size, "gpu_ids": 0 if args.device == "cuda" else -1, "vgg_weights": random_vgg(),
             "crop_size": args.crop_size, "amp_dtype": precision if precision in HALF else None, **changes}
    line = [f"--{name}={value}" for name, value in given.items() if value is not None]
    line += [f"--{name}" for name, on in {"use_vae": True, "use_amp": precision in HALF,
                                          "cuda_graphs": args.cuda_graphs}.items() if on]
    return TrainOptions().parse(line)


def autocast(args: argparse.Namespace, precision: str) -> torch.autocast:
    return torch.autocast(args.device, dtype=HALF.get(precision), enabled=precision in HALF)


def trainer_of(opt: Options) -> Pix2PixTrainer:
    torch.manual_seed(0)
    return Pix2PixTrainer(opt)


# ---- are the numbers right ----


def check_all(args: argparse.Namespace) -> int:
    """A line for each check, with the error that it found; how many failed."""
    failed = 0
    for name, found, limit in (*check_operations(args), *check_steps(args), *check_runs(args)):
        try:
            error = found()
            reason, right = f"{error:.0e} (at most {limit:.0e})", error <= limit
        except Exception as problem:  # a kernel that does not compile, a step that runs out of memory: many kinds
            reason, right = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}", False
        failed += not right
        print(f"{'ok' if right else 'FAILED':<7}{name:<48}{reason}", flush=True)
    return failed


Check = tuple[str, Callable[[], float], float]  # name, what gives its error, and the largest that is right


def check_operations(args: argparse.Namespace) -> Iterator[Check]:
    """The form that computes here against the plain one, forward and backward."""
    device = options(args, 1).device
    impl = "triton" if backend.INTERPRETED or backend.has_kernels(device) else "fast"
    for dtype in (torch.float32, torch.float16, torch.bfloat16)[:2 if backend.INTERPRETED else 3]:
        for operation in proof.OPERATIONS:
            yield (f"{operation}, {impl}, {str(dtype).removeprefix('torch.')}",
                   functools.partial(proof.error, operation, device, dtype, impl), proof.TOLERANCE[dtype])


def check_steps(args: argparse.Namespace) -> Iterator[Check]:
    for precision in ("float64", *args.precision):
        errors = functools.cache(functools.partial(errors_of_steps, args, precision))
        for n, side in enumerate(("generator", "discriminator")):
            for kind, limit in enumerate(LIMITS[precision]):
                yield (f"{('losses', 'gradients')[kind]} of the {side}'s step, {precision}",
                       lambda errors=errors, n=n, kind=kind: errors()[n][kind], limit)


def check_runs(args: argparse.Namespace) -> Iterator[Check]:
    if args.device == "cuda":
        args = argparse.Namespace(**{**vars(args), "cuda_graphs": True})
        yield "graphs against steps as they are", lambda: apart(*check_graphs(args)), 1e-3
    yield "going on with a run", lambda: apart(*check_resume(args)), 1e-3


def apart(ours: dict[str, float], others: dict[str, float]) -> float:
    """The largest relative difference of losses."""
    return max(abs(ours[name] - value) / max(abs(value), 0.1) for name, value in others.items())


def check_resume(args: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Losses of a third step: after two and a checkpoint, and after two without."""
    with tempfile.TemporaryDirectory() as folder:
        opt = options(args, 2, checkpoints_dir=folder, **SMALL).replace(cuda_graphs=False)
        trainer, data, found = trainer_of(opt), batch(opt, 2, 6), []
        trainer.data_seed, trainer.data_digest = 0, ""
        for step in range(3):
            if step == 2:
                trainer.save("latest")
                found.append(trainer_of(opt.replace(continue_train=True)))
            for one in (trainer, *found):
                torch.manual_seed(step)
                one.run_generator_one_step(data)
                one.run_discriminator_one_step(data)
        return tuple({name: loss.item() for name, loss in one.get_latest_losses().items()} for one in (*found, trainer))


def errors_of_steps(args: argparse.Namespace, precision: str) -> list[tuple[float, float]]:
    """The largest relative errors of losses and of gradients, of one step of each side, in width 16 at 64x64 pixels,
    against float64 on the CPU."""
    opt = options(args, 2, **SMALL).replace(cuda_graphs=False)
    exact = trainer_of(opt.replace(device=torch.device("cpu"), gpu_ids="-1"))
    exact.model.double()
    ours = trainer_of(opt)
    ours.autocast = autocast(args, precision)
    for network, other in zip(ours.model.networks().values(), exact.model.networks().values(), strict=True):
        network.load_state_dict(other.state_dict())
    if ours.model.vgg_loss:
        exact.model.vgg_loss.load_state_dict(ours.model.vgg_loss.state_dict())
    kind = torch.float64 if precision == "float64" else torch.float32
    ours.model.to(kind)
    data = batch(opt, 2, 6)
    styles = exact.model.mode.prior(exact.prepare(data).layout)
    rows = []
    for side in ("generator", "discriminator"):
        found = []
        for trainer, dtype in ((exact, torch.float64), (ours, kind)):
            device = trainer.opt.device
            drawn = styles.map(lambda value, device=device, dtype=dtype: value.to(device, dtype))
            trainer.model.mode.prior = lambda *_, drawn=drawn: drawn
            found.append(one_step(trainer, precision, side, {**data, "image": data["image"].to(dtype)}))
        (losses64, gradients64), (losses, gradients) = found
        rows.append((apart(losses, losses64), max(float((gradients[name] - value).norm() / value.norm())
                                                  for name, value in gradients64.items())))
    return rows


def check_graphs(args: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Losses of the last of some steps as graphs, and of the same steps as they are: on different layouts of one form,
    with two of the discriminator for one of the generator, and another learning rate for the last ones."""
    opt = options(args, 2, niter=1, niter_decay=3, **SMALL)
    layouts = batch(opt, 2, 6)
    batches = [BatchMaker.of(opt).tabulated({name: value.roll(5 * n, -1) for name, value in layouts.items()})
               for n in range(14)]
    found = []
    for graphs in (True, False):
        trainer = trainer_of(opt)
        if not graphs:
            trainer.graphs = None
        torch.manual_seed(1)
        for n, data in enumerate(batches):
            prepared = trainer.prepare(data)
            if n % 2 == 0:
                trainer.run_generator_one_step(prepared)
            trainer.run_discriminator_one_step(prepared)
            if n == 8:
                trainer.update_learning_rate(2)
        found.append({name: loss.item() for name, loss in trainer.get_latest_losses().items()})
    return tuple(found)


def one_step(trainer: Pix2PixTrainer, precision: str, side: str,
             data: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Losses, and the gradients of each network in a row, both float64 on the CPU."""
    model, prepared = trainer.model, trainer.prepare(data)
    model.zero_grad(set_to_none=True)
    scale = 1024.0 if precision == "float16" else 1.0  # with which no gradient of this step leaves float16
    with float32_products(tf32=precision != "float32"):
        with trainer.autocast:
            found = (model.generator_losses(prepared)[0] if side == "generator"
                     else model.discriminator_losses(prepared))
            losses = {name: loss.value for name, loss in found.items()}
        (sum(losses.values()) * scale).backward()
    gradients = {label: torch.cat([parameter.grad.double().cpu().flatten() / scale for parameter in network.parameters()
                                   if parameter.grad is not None])
                 for label, network in model.networks().items()
                 if any(parameter.grad is not None for parameter in network.parameters())}
    return {name: loss.item() for name, loss in losses.items()}, gradients


# ---- how fast ----


def measure(args: argparse.Namespace, precision: str, size: int) -> None:
    """Print a row for each of the cases."""
    opt = options(args, size, precision)
    data = batch(opt, size, args.instances)
    with float32_products(tf32=precision != "float32"):
        trainer = trainer_of(opt)
        reference = None
        if not args.ours_alone:
            reference = ReferenceTrainer(opt).to(memory_format=torch.channels_last)
            reference.copy(trainer.model)
        for case in args.what:
            row = {"case": case, "precision": precision, "batch": size}
            try:
                if case == "training":
                    row |= fed(args, precision, size)
                else:
                    row |= compared(args, case, trainer, reference, data, precision)
            except torch.cuda.OutOfMemoryError:
                row["out_of_memory"] = True
                torch.cuda.empty_cache()
            print(described(row), flush=True)


def compared(args: argparse.Namespace, case: str, trainer: Pix2PixTrainer, reference: ReferenceTrainer | None,
             data: dict[str, Tensor], precision: str) -> dict[str, Any]:
    """What ours launches and needs, and the seconds of all sides."""
    ours, plain = sides(args, case, trainer, reference, data, precision)
    row, runs = counted(args, ours), {"ours": ours}
    if reference:
        learning = (reference.netD,) if case == "discriminator_step" else (reference.netG, reference.netE)
        networks = [network for network in (reference.netG, reference.netE, reference.netD, reference.vgg) if network]
        bare = bare_convolutions(networks, learning, plain, HALF.get(precision, torch.float32))
        runs |= {"plain": plain, "bare": bare}
    return row | {f"{name}_seconds": seconds for name, seconds in in_turns(args, runs).items()}


def described(row: dict[str, Any]) -> str:
    text = f"{row['precision']:<9}{row['case']:<20} batch {row['batch']:<3}"
    if "out_of_memory" in row:
        return text + " does not fit"
    ours = row["ours_seconds"]
    text += f" {row['batch'] / ours:9.1f} images/s {ours * 1000:8.2f} ms"
    if "plain_seconds" in row:
        text += f"  plain {row['plain_seconds'] / ours:5.2f}x  bare {ours / row['bare_seconds']:5.2f}x"
    if "ready_seconds" in row:
        return text + f"  {row['workers']} workers, {row['ready_seconds'] / ours:.2f} times as fast as without loading"
    text += f"  {row['launches']} launches {row['waits']} waits {row['peak_bytes'] / 2**30:.2f} GiB"
    return text + f" ({row['reserved_bytes'] / 2**30:.2f} reserved)"


Run = Callable[[], Any]


def sides(args: argparse.Namespace, case: str, trainer: Pix2PixTrainer, reference: ReferenceTrainer | None,
          data: dict[str, Tensor], precision: str) -> tuple[Run, Run]:
    """What ours and the plain formulas do in a row: everything from a batch of the loader on."""
    model, synthesizer = trainer.model, Synthesizer(trainer.model)
    loaded = BatchMaker.of(trainer.opt).tabulated(data)
    if args.device == "cuda":
        loaded, data = ({name: value.pin_memory() for name, value in whole.items() if name != "path"}
                        for whole in (loaded, data))
    encode = case == "inference"

    def synthesize() -> None:
        prepared = model.prepare(loaded)
        synthesizer.images(prepared, synthesizer.encode_styles(prepared) if encode else None)
        model.train()

    def plain_synthesis() -> None:
        reference.eval()
        with autocast(args, precision):
            reference.infer(data, encode)
        reference.train()

    def plain_step() -> None:
        step = reference.generator_step if case == "generator_step" else reference.discriminator_step
        with autocast(args, precision):  # covers the backward pass too, which it leaves as it is
            step(data)

    if case in ("sample", "inference"):
        return synthesize, plain_synthesis
    step = trainer.run_generator_one_step if case == "generator_step" else trainer.run_discriminator_one_step
    return lambda: step(loaded), plain_step


def fed(args: argparse.Namespace, precision: str, size: int) -> dict[str, Any]:
    """Seconds of an iteration of training with the loader and without."""
    with tempfile.TemporaryDirectory() as folder:
        root = draw_world(folder, 4 * max(size, 4))
        side = args.crop_size or 256
        opt = options(args, size, precision, dataset_mode="custom", dataroot=root, label_nc=150, crop_size=side,
                      load_size=side).replace(contain_dontcare_label=True)
        trainer, loader = trainer_of(opt), load_batches(opt)

        def iterations(batches: Iterable[dict[str, Any]]) -> float:
            """Seconds of one."""
            start = time.perf_counter()
            for count, data in enumerate(batches, 1):  # noqa: B007
                prepared = trainer.prepare(data)
                trainer.run_generator_one_step(prepared)
                trainer.run_discriminator_one_step(prepared)
            synchronize(args)
            return (time.perf_counter() - start) / count

        with contextlib.closing(loader):
            for ready in loader:  # noqa: B007
                pass
            seconds: dict[str, list[float]] = {"ours_seconds": [], "ready_seconds": []}
            for epoch in range(1 + max(3, round(args.seconds))):
                loader.set_epoch(epoch)
                seconds["ours_seconds"].append(iterations(loader))
                seconds["ready_seconds"].append(iterations([ready] * len(loader)))
    return {name: statistics.median(times[1:]) for name, times in seconds.items()} | {"workers": opt.num_workers}


def in_turns(args: argparse.Namespace, runs: dict[str, Run]) -> dict[str, float]:
    """The median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3):
        for run in runs.values():
            run()
    synchronize(args)
    while max(sum(seconds) for seconds in times.values()) < args.seconds * len(runs) or len(times["ours"]) < 5:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            synchronize(args)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def synchronize(args: argparse.Namespace) -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()


def counted(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    """Launches, waits (and where), and the most memory allocated by one run."""
    for _ in range(2):
        run()
    if args.device == "cpu":
        return {"launches": 0, "waits": 0, "wait_places": {}, "peak_bytes": 0, "reserved_bytes": 0}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    places = waits_of(run)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        run()
    launches = sum(event.name.startswith(LAUNCHES) for event in profile.events())
    return {"launches": launches, "waits": sum(places.values()), "wait_places": places, "peak_bytes": peak,
            "reserved_bytes": torch.cuda.memory_reserved()}


def waits_of(run: Run) -> dict[str, int]:
    """Where the host waits for the device, and how often."""
    places: dict[str, int] = {}

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            frames = [f"{os.path.relpath(frame.filename)}:{frame.lineno}" for frame in traceback.extract_stack()
                      if frame.filename.startswith(os.getcwd()) and frame.filename != __file__]
            place = frames[-1] if frames else "autograd or optimiser"
            places[place] = places.get(place, 0) + 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return places


if __name__ == "__main__":
    main()
