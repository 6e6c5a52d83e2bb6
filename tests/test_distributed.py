"""Several processes are one run: the numbers of one process, restarts, signals, errors, and who writes."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from metrics.inception import FIDInception
from tests.conftest import ROOT, free_port, run_command
from tests.distributed_steps import take_steps
from tests.fill import fill_
from tests.forked import Command
from tests.worlds import NETWORK, TRAIN, assert_equal_networks, draw_world, networks, succeed

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), train=12, val=5)


def torchrun(*args, options=()):
    """Start a script of the project in two processes."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *options, *map(str, args)]
    return subprocess.Popen(line, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, timeout=300):
    process.stdout_text, process.stderr_text = process.communicate(timeout=timeout)
    return process


def start_both(*args):
    """Start a script of the project in two processes as torchrun does, of which the numbers need no more than this."""
    port = free_port()
    return [Command(*args, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
                    MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)) for rank in range(2)]


def finish_both(processes):
    for process in processes:
        assert finish(process).returncode == 0, process.stderr_text


def train(world, folder, *args):
    return ["train.py", *TRAIN, "--dataroot", world, "--checkpoints_dir", folder, "--name", "exp", "--batchSize", 4,
            "--use_vae", "--no_html", "--print_freq", 4, *args]


# ---- the numbers ----

def in_double_precision(steps, args):
    """As :func:`take_steps`, here; the defaults of before are put back."""
    state = torch.get_rng_state()
    try:
        return take_steps(steps, [str(arg) for arg in args])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_rng_state(state)


def largest_difference(one, other, scale):
    return max(((one[key] - other[key]).abs().max() / scale(key)).item() for key in one)


@pytest.mark.parametrize(("mode", "only_in_two"), [
    (["--use_vae", "--ema", 16], ["--checkpoint_activations"]),
    (["--use_vae", "--norm_mode", "spade"], []),
    (["--use_vae", "--accumulate", 2], []),
    (["--use_vae", "--netD", "projected", "--mix_prior", "--lambda_color", 0.5], []),
    (["--stranger", "--use_vae", "--accumulate", 2], []),
], ids=["inade", "spade", "accumulated", "projected", "stranger"])
def test_two_processes_are_one(world, tmp_path, mode, only_in_two):
    steps = 1 if "--accumulate" in mode else 8  # of three an epoch
    strange, mode = [arg for arg in mode if arg == "--stranger"], [arg for arg in mode if arg != "--stranger"]
    args = [*strange, *TRAIN, "--dataroot", world, "--batchSize", 4, *mode]
    processes = start_both("tests/distributed_steps.py", tmp_path / "two.pth", steps, *args, *only_in_two)
    one = in_double_precision(steps, args)
    finish_both(processes)
    two = torch.load(tmp_path / "two.pth", weights_only=True)

    assert torch.equal(one["rng"], two["rng"])
    assert ("Bright" in one["losses"]) == bool(strange)
    assert all(torch.equal(one["start"][key], two["start"][key]) for key in one["start"])
    gradients = one["gradients"]
    top = {label: max(value.abs().max() for key, value in gradients.items() if key.startswith(label))
           for label in {key.split(".")[0] for key in gradients}}
    assert largest_difference(gradients, two["gradients"], lambda key: top[key.split(".")[0]]) < 1e-12
    assert all(one["losses"][name].item() == pytest.approx(two["losses"][name].item(), rel=1e-12, abs=1e-15)
               for name in one["losses"])
    # gradients that are rounding alone, such as those of biases in front of a norm: Adam makes steps of them, too
    idle = {key for key, value in gradients.items() if value.abs().max() < 1e-9 * top[key.split(".")[0]]}
    end = {key: value for key, value in one["end"].items()
           if key.replace("_ema.", ".") not in idle and value.is_floating_point()}
    assert any(key.startswith("G_ema.") for key in end) == ("--ema" in mode)
    assert largest_difference(end, two["end"], lambda key: one["end"][key].abs().max().clamp(min=1e-30)) < 1e-7


def test_recomputed_activations_change_nothing(world):
    args = [*TRAIN, "--dataroot", world, "--batchSize", 2, "--use_vae"]
    kept, recomputed = in_double_precision(2, args), in_double_precision(2, [*args, "--checkpoint_activations"])
    for part in ("gradients", "end"):
        for key, value in kept[part].items():
            assert torch.equal(value, recomputed[part][key]), key


def test_parts_of_a_batch_add_up(world):
    """Without batch statistics and power iterations, and with nothing drawn, parts make no difference."""
    args = [*TRAIN, "--dataroot", world, "--batchSize", 4, "--norm_mode", "spade", "--norm_G", "spadeinstance3x3",
            "--norm_D", "instance", "--crop_size", 64, "--load_size", 64]
    whole, parts = in_double_precision(1, args), in_double_precision(1, [*args, "--accumulate", 4])
    top = max(value.abs().max() for value in whole["gradients"].values())
    generator = {key: value for key, value in whole["gradients"].items() if key.startswith("G.")}
    assert largest_difference(generator, parts["gradients"], lambda key: top) < 1e-12


# ---- runs ----

@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """Five epochs in two processes, started by ``--gpu_ids``."""
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(run_command(*train(world, folder, "--niter", 5, "--gpu_ids=-1,-1")))
    return folder / "exp"


def until_epoch(process, folder, epoch):
    """Wait until a run has saved in this epoch."""
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if (folder / "iter.txt").exists() and int((folder / "iter.txt").read_text().split()[0]) >= epoch:
            return
        time.sleep(0.02)
    raise AssertionError(finish(process).stderr_text)


def worker(process, rank):
    """The process id of one of torchrun's processes."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    for pid in map(int, children.split()):
        with open(f"/proc/{pid}/environ", encoding="utf-8") as file:
            if f"RANK={rank}" in file.read().split("\0"):
                return pid
    raise AssertionError(f"no process {rank} among {children}")


def test_a_killed_process_is_replaced(world, tmp_path, undisturbed):
    args = train(world, tmp_path, "--niter", 5, "--save_latest_freq", 4)
    process = torchrun(*args, options=["--max-restarts=1"])  # goes on without --continue_train
    until_epoch(process, tmp_path / "exp", 2)
    os.kill(worker(process, 1), signal.SIGKILL)
    assert finish(process).returncode == 0, process.stderr_text
    assert "lost contact" in process.stderr_text and "Traceback" not in process.stderr_text
    assert "continuing from" in process.stdout_text
    assert_equal_networks(networks(tmp_path / "exp"), networks(undisturbed))
    assert not list((tmp_path / "exp").glob("earlier_*"))


def test_a_signal_saves_and_ends_all(world, tmp_path, undisturbed):
    args = train(world, tmp_path, "--niter", 5)
    process = torchrun(*args, "--save_latest_freq", 4)
    until_epoch(process, tmp_path / "exp", 2)
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode != 0
    assert process.stderr_text.count("interrupted by SIGTERM: saved as latest") == 1
    assert int((tmp_path / "exp" / "iter.txt").read_text().split()[0]) < 6
    finish_both(start_both(*args, "--continue_train", "--save_latest_freq", 4))
    assert_equal_networks(networks(tmp_path / "exp"), networks(undisturbed))


def test_a_signal_comes_through_to_who_waits(world, tmp_path):
    """A process is frozen: the other one waits for it, and a second signal ends that all the same."""
    script = ("import runpy; from util import signals; signals._SAME_SIGNAL = 1\n"  # within which torchrun passes it on
              "runpy.run_path('train.py', run_name='__main__')")
    waiting, frozen = start_both("-c", script, *train(world, tmp_path, "--niter", 1000, "--save_latest_freq", 4)[1:])
    until_epoch(waiting, tmp_path / "exp", 1)
    frozen.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1)
        waiting.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(5) == 128 + signal.SIGTERM
    finally:
        for process in frozen, waiting:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    assert "stopping after this step" in finish(waiting).stderr_text


def test_a_frozen_process_is_not_waited_for_longer_than_asked(world, tmp_path, monkeypatch):
    (tmp_path / "waiting.py").write_text(WAITING)
    start = time.monotonic()
    process = finish(torchrun(tmp_path / "waiting.py"))
    assert time.monotonic() - start < 50 and "lost contact with the other processes" in process.stderr_text


WAITING = """
import time, torch
from datetime import timedelta
from util import distributed
from util.errors import command

distributed.timedelta = lambda minutes=0, seconds=0: timedelta(seconds=minutes * 2 + seconds)

@command
def main():
    with distributed.processes(torch.device("cpu"), 1):
        if distributed.rank():
            time.sleep(15)
        distributed.wait()

main()
"""


def test_any_number_of_processes_goes_on(world, tmp_path, undisturbed, run):
    finish_both(start_both(*train(world, tmp_path, "--niter", 1)))
    succeed(run(*train(world, tmp_path, "--niter", 2, "--continue_train")))
    finish_both(start_both(*train(world, tmp_path, "--niter", 3, "--continue_train")))
    ends = ((folder / "loss_log.txt").read_text().splitlines()[1:10] for folder in (tmp_path / "exp", undisturbed))
    for here, there in zip(*ends, strict=True):
        assert re.match(r"\(epoch: \d, iters: \d+", here)[0] == re.match(r"\(epoch: \d, iters: \d+", there)[0]
        numbers = ([float(number) for number in re.findall(r": (-?[\d.]+)(?= |$)", line.split(") ")[1])]
                   for line in (here, there))
        assert next(numbers) == pytest.approx(next(numbers), abs=0.03)


# ---- errors ----

def test_errors_end_all_processes_with_one_line(world, tmp_path, run):
    cases = {
        r"--batchSize 3: must be a multiple of 2": train(world, tmp_path, "--batchSize", 3),
        r"--colour": train(world, tmp_path, "--colour", "red"),
    }
    processes = {expected: torchrun(*args) for expected, args in cases.items()}
    for expected, process in processes.items():
        assert finish(process).returncode != 0
        lines = [line for line in process.stderr_text.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and re.search(expected, lines[0]), process.stderr_text
        assert process.stderr_text.count("Traceback") == 1, process.stderr_text  # torchrun's

    broken = draw_world(tmp_path / "broken", train=12)  # one process alone meets the file
    (broken / "train_img" / "p7.png").write_text("not an image")
    process = run(*train(broken, tmp_path, "--gpu_ids=-1,-1"))
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert len(re.findall(r"^error: ", process.stderr, re.MULTILINE)) == 1
    assert re.search(r"^error: .*p7\.png", process.stderr, re.MULTILINE)


# which threads are left at exit, after all else: what is registered first comes last
FAILING = """
import atexit
from tests.distributed_steps import threads
atexit.register(lambda: print("threads left:", *threads()))

import torch
from util import distributed
from util.errors import UserError, command

@command
def main():
    with distributed.processes(torch.device("cpu")):
        distributed.average_([torch.ones(3)])
        raise UserError("as asked")

main()
"""


def test_no_thread_outlives_an_error(tmp_path):
    """A thread of gloo that lets go of a tensor while Python ends aborts the process, now and then."""
    (tmp_path / "failing.py").write_text(FAILING)
    process = finish(torchrun(tmp_path / "failing.py"))
    assert process.returncode == 1 and "exitcode  : 2" in process.stderr_text, process.stderr_text
    assert "threads left: python\n" in process.stdout_text and "gloo" not in process.stdout_text
    assert process.stderr_text.count("error: as asked") == 1


# ---- testing and evaluation ----

def test_pictures_are_those_of_one_process(world, tmp_path, undisturbed, run):
    args = ["test.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", undisturbed.parent, "--name", "exp",
            "--use_vae", "--batchSize", 2]
    processes = start_both(*args, "--results_dir", tmp_path / "two")
    succeed(run(*args, "--results_dir", tmp_path / "one"))
    finish_both(processes)
    one, two = (tmp_path / number / "exp" / "test_latest" for number in ("one", "two"))
    assert (one / "index.html").read_bytes() == (two / "index.html").read_bytes()
    pictures = sorted(path.relative_to(one) for path in one.glob("images/*/*.png"))
    assert len(pictures) == 15  # with the real ones of the page
    for picture in pictures:
        assert (one / picture).read_bytes() == (two / picture).read_bytes(), picture
    assert Image.open(two / pictures[0]).size == (32, 32)


def test_scores_are_those_of_one_process(world, tmp_path, undisturbed, run):
    weights = tmp_path / "inception.pth"
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), weights)
    fid = ["fid_score.py", world / "train_img", world / "val_img", "--dims", 64, "--inception_weights", weights,
           "--batch-size", 2, "--metrics", "fid", "kid"]
    diversity = ["diversity_score.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", undisturbed.parent, "--name",
                 "exp", "--distance", "rgb", "--num_samples", 3, "--region_samples", 2]
    for args in (fid, diversity):
        succeed(run(*args, "--json", tmp_path / "one.json"))
        finish_both(start_both(*args, "--json", tmp_path / "two.json"))
        one, two = (json.loads((tmp_path / f"{number}.json").read_text()) for number in ("one", "two"))
        if args is diversity:
            assert one == two
        else:
            assert two["kid"] == one["kid"] and two["fid"] == pytest.approx(one["fid"], rel=1e-9)


def test_evaluation_in_training_measures_what_one_process_does(world, tmp_path, run):
    weights, statistics = tmp_path / "inception.pth", tmp_path / "real"
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), weights)
    inception = ["--dims", 64, "--inception_weights", weights]
    succeed(run("fid_score.py", world / "train_img", "--save_np_name", statistics, *inception))
    finish_both(start_both(*train(
        world, tmp_path, "--niter", 1, "--ema", 8, "--train_eval", "--eval_dims", 64, "--eval_epoch_freq", 1,
        "--eval_statistics", statistics, "--inception_weights", weights, "--init_variance", 1)))
    logged = re.findall(r"FID ([\d.]+)$", (tmp_path / "exp/fid.txt").read_text(), re.MULTILINE)
    assert len(logged) == 2
    for fid, folder, average in zip(logged, ("test_latest", "test_latest_ema"), ([], ["--use_ema"]), strict=True):
        succeed(run("test.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", tmp_path, "--results_dir", tmp_path,
                    "--name", "exp", "--seed", 0, *average))
        pictures = tmp_path / "exp" / folder / "images/synthesized_image"
        succeed(run("fid_score.py", world / "train_img", pictures, *inception, "--json", tmp_path / "fid.json"))
        assert json.loads((tmp_path / "fid.json").read_text())["fid"] == pytest.approx(float(fid), abs=1e-4)
