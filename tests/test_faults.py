"""Faults of every kind. Each ends within seconds, with status 2 and one line that says what is wrong and what to do;
whatever was saved before is still there, whole."""
import itertools
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import check_data
import fid_score
import make_instances
import test as test_command
import train as train_command
from metrics.inception import FIDInception
from options import TestOptions, TrainOptions
from tests import faults
from tests.conftest import ROOT, run_command
from tests.faults import NASTY, attempt
from tests.fill import fill_
from tests.forked import Command
from tests.worlds import NETWORK, TRAIN, draw_world
from trainers import run
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.checkpoints import load_tensors
from util.errors import UserError, in_one_line
from util.files import atomic_path, check_writable
from util.precision import SkippedSteps

GIB = 2**30


@pytest.fixture(scope="module", autouse=True)
def little_memory():
    """Options that ask for terabytes are not to take what the machine has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4 * GIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Where relative paths lead."""
    monkeypatch.chdir(tmp_path)


class World(NamedTuple):
    root: Path  # folder of the data
    checkpoints: Path  # of a run of one epoch, called exp
    weights: Path  # Inception's
    statistics: Path

    def train(self, checkpoints: Path, *options: object) -> list:
        return [*TRAIN, "--dataroot", self.root, "--name", "exp", "--checkpoints_dir", checkpoints, "--use_vae",
                "--niter", 1, "--print_freq", 2, "--display_freq", 2, *options]

    def test(self, checkpoints: Path, results: Path, *options: object) -> list:
        return [*NETWORK, "--dataroot", self.root, "--name", "exp", "--checkpoints_dir", checkpoints, "--results_dir",
                results, *options]

    def copy(self, target: Path) -> Path:
        """The checkpoints once more; the folder of the run."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.checkpoints, target)
        return target / "exp"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("faults")
    made = World(draw_world(folder / "data", train=4, val=2), folder / "checkpoints", folder / "inception.pth",
                 folder / "statistics.npz")
    assert attempt(train_command, *made.train(made.checkpoints)).status == 0
    (made.checkpoints / "exp" / "fid.txt").write_text("epoch 1: FID 12.3456\n")
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), made.weights)
    attempt(fid_score, made.root / "train_img", "--save_np_name", made.statistics, *fid_options(made))
    return made


def fid_options(world: World) -> list:
    return ["--dims", 64, "--inception_weights", world.weights, "--gpu", "-1"]


def contents(folder: Path, ending: str = "") -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(f"*{ending}"))
            if path.is_file()}


# ---- random tries ----

@pytest.mark.parametrize("seed", range(3))
def test_options_of_any_value(world, tmp_path, seed):
    rng = random.Random(seed)
    commands = {
        train_command: (TrainOptions, lambda out: world.train(out, "--dry_run")),
        test_command: (TestOptions, lambda out: world.test(world.checkpoints, out)),
        check_data: (check_data.CheckOptions, lambda out: [*NETWORK, "--dataroot", world.root, "--workers", 1]),
    }
    before = contents(world.checkpoints)
    for _ in range(70):
        command = rng.choice(list(commands))
        options, arguments = commands[command]
        given = []
        actions = [action for action in options().parser_for([])._actions if action.dest not in ("help", "nThreads")]
        for action in rng.sample(actions, rng.choice((1, 2))):
            value = rng.choice(list(action.choices)) if action.choices and rng.random() < 0.6 else rng.choice(NASTY)
            given.append(action.option_strings[0] + (f"={value}" if action.nargs != 0 else ""))
        attempt(command, *arguments(tmp_path / "out"), *given)
    assert contents(world.checkpoints) == before


@pytest.mark.parametrize("seed", range(3))
def test_values_of_an_options_file(world, tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(40):
        folder = world.copy(tmp_path / "copy")
        lines = (folder / "opt.txt").read_text().splitlines()
        for _ in range(rng.choice((1, 1, 3))):
            n = rng.randrange(len(lines))
            lines[n] = f"{lines[n].split(':')[0]}: {rng.choice(NASTY)}" + rng.choice(("", "\t[default: 0]"))
        (folder / "opt.txt").write_text("\n".join(lines), errors="surrogateescape")
        before = contents(folder, ".pth")
        common = ["--load_from_opt_file", "--gpu_ids", "-1", "--nThreads", 0, "--dataroot", world.root, "--name", "exp",
                  "--checkpoints_dir", tmp_path / "copy"]
        if rng.random() < 0.5:
            outcome = attempt(test_command, *common, "--results_dir", tmp_path / "out")
        else:
            outcome = attempt(train_command, *common, "--continue_train", "--niter", 1, "--niter_decay", 0)
        assert contents(folder, ".pth") == before, outcome
    assert {path.name for path in tmp_path.iterdir()} <= {"copy", "out"}


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_of_a_run(world, tmp_path, seed):
    rng = random.Random(seed)
    whole = {name: content for name, content in contents(world.checkpoints / "exp").items()
             if "/" not in name and content}
    attempt(test_command, *world.test(world.checkpoints, tmp_path / "expected"))
    expected = contents(tmp_path / "expected", ".png")
    for _ in range(15):
        folder = world.copy(tmp_path / "copy")
        for name in rng.sample(sorted(whole), rng.choice((1, 1, 2))):
            (folder / name).write_bytes(faults.damaged(whole[name], list(whole.values()), rng))
        before = contents(folder, ".pth")
        if rng.random() < 0.5:
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            outcome = attempt(test_command, *world.test(tmp_path / "copy", tmp_path / "out"))
            assert contents(folder, ".pth") == before
            if outcome.status == 0 and before["latest_net_G.pth"] not in whole.values():
                assert contents(tmp_path / "out", ".png") == expected  # those of the state: the damage was noticed
        else:
            outcome = attempt(train_command, *world.train(tmp_path / "copy", "--niter", 2, "--continue_train"))
            after = contents(folder, ".pth")
            if outcome.status == 2:
                assert all(after[name] == content for name, content in whole.items() if before.get(name) == content)
            else:
                assert load_tensors(str(folder / "latest_state.pth"))["epoch"] == 3


@pytest.mark.parametrize("seed", range(2))
def test_files_that_hold_something_else(world, tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(20):
        folder = world.copy(tmp_path / "copy")
        name = rng.choice(("latest_state.pth", "latest_state.pth", "latest_net_G.pth", "latest_net_D.pth"))
        for path in folder.glob("*_state.pth"):  # nothing else to go on from
            path.unlink()
        torch.save(faults.senseless(load_tensors(str(world.checkpoints / "exp" / name)), rng), folder / name)
        attempt(test_command, *world.test(tmp_path / "copy", tmp_path / "out"))
        attempt(train_command, *world.train(tmp_path / "copy", "--niter", 2, "--continue_train", "--no_html"))


@pytest.mark.parametrize("name", ["latest_state", "latest_net_G", "latest_net_D", "latest_net_IE"])
def test_flipped_bits_are_noticed_or_harmless(world, tmp_path, name):
    rng, path = random.Random(name), tmp_path / f"{name}.pth"
    content = (world.checkpoints / "exp" / path.name).read_bytes()
    expected = load_tensors(str(world.checkpoints / "exp" / path.name))
    noticed = 0
    for _ in range(100):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert faults.equal(load_tensors(str(path)), expected)
        except UserError:
            noticed += 1
    assert noticed > 30  # the rest hit names and padding


# ---- other things in the place of files ----

def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def linked(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target or path.name)

    return make


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def holding(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def endless(path: Path) -> None:
    """A terabyte of nothing that takes no room."""
    with open(path, "wb") as file:
        file.truncate(2**40)


INSTEAD = {"pipe": pipe, "device without end": linked("/dev/zero"), "link to itself": linked(""), "folder": folder,
           "no UTF-8": holding(b"\xff\xfe\x80\n"), "NUL bytes": holding(b"\0" * 99), "no bytes": holding(b""),
           "terabyte": endless}


@pytest.mark.parametrize("instead", INSTEAD)
def test_something_else_in_the_place_of_a_file(world, tmp_path, instead):
    make = INSTEAD[instead]

    def trying(name: str, command, arguments: Callable[[], list], refused: bool = True) -> None:
        run = world.copy(tmp_path / "copy")
        path = run / name
        make(path)
        before = {path.name: path.read_bytes() for path in run.glob("1_*.pth")}
        outcome = attempt(command, *arguments(), "--gpu_ids", "-1")
        assert not refused or (outcome.status == 2 and path.name in outcome.lines[0]), outcome
        assert {path.name: path.read_bytes() for path in run.glob("1_*.pth")} == before

    def going_on() -> list:
        return world.train(tmp_path / "copy", "--continue_train")

    from_file = ["--load_from_opt_file", "--name", "exp", "--checkpoints_dir", tmp_path / "copy"]
    text = instead not in ("NUL bytes", "no bytes")  # these are text
    trying("opt.txt", train_command, lambda: [*from_file, "--dataroot", world.root, "--continue_train"], text)
    trying("loss_log.txt", train_command, lambda: [*going_on(), "--niter", 2], False)
    trying("fid.txt", train_command, lambda: [*going_on(), "--niter", 2], False)
    trying("latest_state.pth", train_command, going_on, False)  # the one before serves
    trying("latest_net_G.pth", test_command, lambda: world.test(tmp_path / "copy", tmp_path / "out"), False)
    trying("colors.txt", train_command, lambda: [*going_on(), "--label_colors", tmp_path / "copy/exp/colors.txt"])
    with_vgg = ["--vgg_weights", tmp_path / "copy/exp/vgg.pth"]
    trying("vgg.pth", train_command, lambda: [word for word in [*going_on(), *with_vgg] if word != "--no_vgg_loss"])


@pytest.mark.parametrize("instead", INSTEAD)
def test_something_else_in_the_place_of_statistics(world, tmp_path, instead):
    shutil.copy(world.statistics, tmp_path / "whole.npz")
    with np.load(world.statistics) as file:
        mean, covariance, record = file["mu"], file["sigma"], str(file["protocol"])
    for name in ("s.npz", "m.npy", "s.npy", "protocol.json", "inception.pth"):
        spoilt = tmp_path / f"{name}-spoilt"
        spoilt.mkdir()
        np.save(spoilt / "m.npy", mean)
        np.save(spoilt / "s.npy", covariance)
        (spoilt / "protocol.json").write_text(record)
        INSTEAD[instead](spoilt / name)
        source = spoilt / name if name == "s.npz" else spoilt
        options = [*fid_options(world), *(["--inception_weights", spoilt / name] if name == "inception.pth" else [])]
        outcome = attempt(fid_score, tmp_path / "whole.npz" if name == "inception.pth" else source,
                          world.root / "train_img", *options)
        assert outcome.status == 2, name


def test_headers_that_claim_terabytes(world, tmp_path):
    for dims in (64, 2**20, 2**31, 2**62):
        for name, shape in (("m.npy", (dims,)), ("s.npy", (dims, dims))):
            with open(tmp_path / name, "wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        outcome = attempt(fid_score, f"{tmp_path}/", world.root / "train_img", *fid_options(world))
        assert outcome.status == 2 and str(tmp_path) in outcome.lines[0]


def test_pipes_among_images(world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world.root, data)
    pipe(data / "train_img" / "p1.png")
    pipe(data / "train_label" / "p1.png")
    for command, args in ((train_command, [*world.train(tmp_path / "out"), "--dataroot", data]),
                          (check_data, [*NETWORK, "--dataroot", data, "--workers", 1]),
                          (fid_score, [data / "train_img", data / "val_img", *fid_options(world)]),
                          (make_instances, ["--dataset", "custom", "--label_dir", data / "train_label",
                                            "--instance_dir", tmp_path / "made", "--workers", 1])):
        outcome = attempt(command, *args)
        assert outcome.status == 2 and "p1.png" in outcome.lines[0] and "regular" in outcome.lines[0]
    (tmp_path / "made2").mkdir()
    pipe(tmp_path / "made2" / "p0.png")  # where a map is to be written
    outcome = attempt(make_instances, "--dataset", "custom", "--label_dir", world.root / "train_label",
                      "--instance_dir", tmp_path / "made2", "--workers", 1)
    assert outcome.status == 2 and "p0.png" in outcome.lines[0]


def test_devices_are_not_replaced(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    for path in ("/dev/null", "/dev/full", str(tmp_path / "null")):
        with pytest.raises(UserError, match="device"), atomic_path(path):
            pass
        with pytest.raises(UserError, match="device"):
            check_writable(path)
    assert (tmp_path / "null").is_symlink()


# ---- what a run notices, and what it makes sure of ----

@pytest.mark.parametrize("step", [2, 5])
def test_the_first_losses_that_are_not_finite_are_named(world, tmp_path, monkeypatch, step):
    """Of six steps in three epochs, which are neither printed nor saved, the last is in order again."""
    train_discriminator, steps = Pix2PixTrainer.run_discriminator_one_step, itertools.count(1)

    def spoiling(self, parts):
        train_discriminator(self, parts)
        if step <= next(steps) < 6:
            self._losses_D["D_real"] = torch.tensor(float("nan"))

    monkeypatch.setattr(Pix2PixTrainer, "run_discriminator_one_step", spoiling)
    monkeypatch.setattr(run, "_CHECK_STEPS", 6)
    outcome = attempt(train_command, *world.train(tmp_path, "--niter", 3, "--print_freq", 999, "--display_freq", 999,
                                                  "--serial_batches", "--no_html"))
    epoch, images = (step + 1) // 2, 4 - 2 * (step % 2)
    assert f"loss D_real is nan in epoch {epoch} at image {images}, in a step on " in outcome.lines[0]
    assert re.findall(r"p\d\.png", outcome.lines[0]) == [f"p{images - 2}.png", f"p{images - 1}.png"]
    assert not list(tmp_path.rglob("*.pth"))


def test_steps_that_a_gradient_scaler_leaves_out():
    losses = [(math.nan, 1.0), (1.0, 2.0), (3.0, math.inf), (-math.inf, math.nan)]
    steps = [run.UncheckedStep(1, n, [], {"GAN": torch.tensor(one), "KLD": torch.tensor(other).half()})
             for n, (one, other) in enumerate(losses)]
    every, last = ([(step.images, name) for step, name in run.broken_steps(steps, skipped)]
                   for skipped in (False, True))
    assert every == [(0, "GAN"), (2, "KLD"), (3, "GAN")] and last == every[1:]
    assert run.broken_steps(steps[:2], skipped=True) == run.broken_steps([], skipped=False) == []


def test_logs_are_on_the_disk_before_a_checkpoint_counts(world, tmp_path, monkeypatch):
    on_disk, checkpoints, fsync, replace = {}, [], os.fsync, os.replace

    def noting(handle: int) -> None:
        fsync(handle)
        on_disk[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def committing(source: str, target: str) -> None:
        if target.endswith("_state.pth"):
            logs = [path.stat() for path in tmp_path.glob("exp/*.txt") if path.name in ("loss_log.txt", "fid.txt")]
            checkpoints.append([on_disk.get(log.st_ino) == log.st_size for log in logs])
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "replace", committing)
    evaluation = ["--train_eval", "--eval_dims", 64, "--eval_statistics", world.statistics, "--inception_weights",
                  world.weights]
    assert attempt(train_command, *world.train(tmp_path, *evaluation)).status == 0
    assert checkpoints == [[True, True]] * 3  # best, 1, latest


# ---- processes: streams, disks, memory, workers ----

def shell(text: str, **options) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, errors="replace", timeout=90,
                          **options)


def words(args: list) -> str:
    return " ".join(f"'{word}'" for word in args)


class Fault(NamedTuple):
    line: str | list  # for the shell, where $E tests; or options after those of a training
    status: int
    error: str | None = None  # what the line says
    limit: tuple[int, int] | None = None  # of the system


DATA = resource.RLIMIT_DATA, 4_096_000_000
FAULTS = {
    "closed stdout": Fault("$E >&-", 0),
    "closed stdout and stderr": Fault("$E >&- 2>&-", 0),
    "reader that leaves": Fault("set -o pipefail; $E | head -c 1 >/dev/null", 2, "standard output was closed"),
    "full stdout": Fault("$E > /dev/full", 2, "No space left on device.*where standard output goes"),
    "files that may not grow": Fault([], 2, "latest_state.pth|1_state.pth", (resource.RLIMIT_FSIZE, 102_400)),
    "layers of terabytes": Fault(["--ngf", 16384, "--ndf", 16384, "--num_D", 16, "--n_layers_D", 16], 2,
                                 "out of memory.*--ngf", DATA),
    "classes without end": Fault(["--label_nc", 65536, "--noise_nc", 16384], 2, "out of memory", DATA),
    "read-only folder": Fault(["--checkpoints_dir", "/proc/nowhere"], 2, "/proc/nowhere"),
    "losses that are not finite": Fault(["--lr", 1e30, "--niter", 3], 2,
                                        r"loss \w+ is .*in a step on .*p\d\.png.*lower --lr"),
}
LIMITED = """
import resource, runpy, sys
resource.setrlimit({0}, ({1}, {1}))
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.parametrize("name", FAULTS)
def test_process(world, tmp_path, name):
    fault = FAULTS[name]
    if isinstance(fault.line, str):
        test = f"{sys.executable} {ROOT}/test.py {words(world.test(world.checkpoints, tmp_path))}"
        process = shell(fault.line.replace("$E", test))
    else:
        command = ["-c", LIMITED.format(*fault.limit)] if fault.limit else ["train.py"]
        process = run_command(*command, *world.train(tmp_path, "--no_html"), *fault.line)
    assert process.returncode == fault.status, process.stderr
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in process.stderr and len(lines) == (fault.error is not None), process.stderr
    assert not lines or re.search(fault.error, lines[0]), lines
    for path in tmp_path.rglob("*.pth"):
        load_tensors(str(path))
    assert not list(tmp_path.rglob(".writing-*"))


def test_a_name_that_is_no_utf_8(world, tmp_path):
    args = ["train.py", *world.train(tmp_path, "--no_html"), "--name", os.fsdecode(b"\xff")]
    for more in [], ["--load_from_opt_file", "--continue_train", "--niter", 2]:
        process = run_command(*args, *more)
        assert process.returncode == 0 and "error: " not in process.stderr, process.stderr
    assert load_tensors(str(tmp_path / os.fsdecode(b"\xff") / "latest_state.pth"))["epoch"] == 3


def test_a_full_disk_keeps_what_was_saved(world, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can make a small disk")
    try:
        shutil.copytree(world.checkpoints, disk / "c")
        before = contents(disk / "c", ".pth")
        measure = [world.root / "train_img", "--save_np_name", disk / "f.npz", *fid_options(world)]
        going_on = world.train(disk / "c", "--niter", 2, "--continue_train", "--no_html")
        for room, command, args in (
            (100_000, train_command, going_on),  # enough for the logs
            (0, train_command, going_on),
            (0, test_command, world.test(world.checkpoints, disk / "results")),
            (0, fid_score, measure),
        ):
            with open(disk / "filler", "ab") as file:
                file.write(bytes(shutil.disk_usage(disk).free - room))
            outcome = attempt(command, *args)
            assert outcome.status == 2 and "disk" in outcome.lines[0] and "cannot write" in outcome.lines[0]
        assert contents(disk / "c", ".pth") == before
        assert not list(disk.rglob(".writing-*"))
    finally:
        subprocess.run(["umount", disk], check=False)


def test_a_folder_that_vanishes(world, tmp_path, monkeypatch):
    monkeypatch.setattr(train_command.Run, "end_if_asked", lambda run: shutil.rmtree(tmp_path / "out", True))
    outcome = attempt(train_command, *world.train(tmp_path / "out", "--niter", 2))
    assert outcome.status == 0 or "out" in outcome.lines[0]  # it is made anew, or named


def start_with_worker(world: World, out: Path) -> tuple[Command, list[int]]:
    """A training run without end, and its data-loading processes."""
    process = Command("train.py", *world.train(out, "--niter", 10**6, "--nThreads", 1, "--no_html"))
    children, deadline = Path(f"/proc/{process.pid}/task/{process.pid}/children"), time.monotonic() + 60
    while not ((out / "exp" / "loss_log.txt").exists() and "epoch: 2" in (out / "exp" / "loss_log.txt").read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process, [int(pid) for pid in children.read_text().split()]


def test_a_data_worker_that_dies(world, tmp_path):
    process, workers = start_with_worker(world, tmp_path)
    os.kill(workers[-1], signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "Traceback" not in errors
    assert re.search("error: a data-loading process was killed.*--nThreads", errors)  # it may follow a progress bar


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_stop_the_run_alone(world, tmp_path, number):
    process, _ = start_with_worker(world, tmp_path)
    os.killpg(process.pid, number)  # as a terminal and Slurm do
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and "Traceback" not in errors and "error:" not in errors
    assert load_tensors(str(tmp_path / "exp" / "latest_state.pth"))["epoch"] > 1


# ---- what the system and PyTorch say ----

@pytest.mark.parametrize(("error", "expected"), [
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory.*--batchSize"),
    (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "out of memory"),
    (MemoryError(), "out of memory"),
    (RuntimeError("Caught _ArrayMemoryError in DataLoader worker process 0.\nOriginal Traceback:\n  File \"x\"\n"
                  "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8. EiB"), r"out of memory \(Unable"),
    (MemoryError("Caught MemoryError in DataLoader worker process 0.\nTraceback:\n  File \"x\"\nMemoryError\n"),
     r"out of memory \(MemoryError\)"),
    (OSError("Caught OSError in DataLoader worker process 0.\nTraceback:\n  File \"x\"\nOSError: [Errno 5] bad"),
     r"^\[Errno 5\] bad;"),
    (RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"), "/dev/shm.*--nThreads"),
    (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "disk full"),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "data-loading process was killed"),
    (RuntimeError("can't start new thread"), "ulimit"),
    (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit"),
    (PermissionError(13, "Permission denied", b"\xff/x"), r"^.*/x: Permission denied; check"),
    (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), "--gpu_ids"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
    (KeyError("x"), None),
], ids=lambda value: repr(value)[:30])
def test_in_one_line(error, expected):
    line = in_one_line(error)
    assert line is None if expected is None else re.search(expected, line) and "Traceback" not in line, line


def test_skipped_steps_are_counted():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], fused=True)
    skipped = SkippedSteps(optimizer)
    assert int(skipped) == 0
    for overflow in (0, 1, 0, 1, 1):
        skipped.note(optimizer)
        weight.grad = torch.ones(3)
        optimizer.found_inf, optimizer.grad_scale = torch.tensor(float(overflow)), None  # as GradScaler sets them
        optimizer.step()
    assert int(skipped) == 3
