"""Interrupts training at many moments, lets it go on, and compares the end with an uninterrupted run, to the bit.

    python -m tests.interruptions --renames 30 --kills 100 --signals 30

``tests/test_runs.py`` does less of the same. Runs are forked from one process that has imported everything, so that a
run takes a second. After every interruption, what ``test.py`` would load must be one whole checkpoint.
"""
import argparse
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import train
from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from tests.worlds import CLASSES, SIZE, draw_world
from trainers import run_state
from util.errors import UserError

EPOCHS = 2  # of three steps
NETWORK = ["--dataset_mode", "custom", "--label_nc", CLASSES, "--load_size", SIZE, "--crop_size", SIZE, "--ngf", 2,
           "--noise_nc", 4, "--z_dim", 8, "--gpu_ids", "-1", "--use_vae"]
TRAIN = ["--seed", 3, "--ndf", 2, "--no_vgg_loss", "--batchSize", 2, "--niter", EPOCHS, "--print_freq", 2,
         "--save_latest_freq", 2, "--save_epoch_freq", 1, "--display_freq", 4, "--continue_train"]


def fork(work: Callable[[], None], log: Path) -> int:
    """Do ``work`` in a process of its own, whose output goes to ``log``; the process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.setpgid(0, 0)
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def status_of(pid: int) -> int:
    """Exit status of a process, or minus the signal that ended it; and end what it left running."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return status


class Experiment:
    """Runs with the same options, compared with one that was never interrupted."""

    def __init__(self, folder: Path, extra: Sequence[object] = ()):
        self.folder = folder
        self.world = draw_world(folder / "world")
        self.network = [str(arg) for arg in (*NETWORK, "--dataroot", self.world, "--checkpoints_dir", folder)]
        self.training = [str(arg) for arg in (*TRAIN, *extra)]
        self.log = folder / "log.txt"
        self._moments = folder / "moments.txt"
        self.seconds = -time.perf_counter()
        if status := status_of(fork(self._reference, self.log)):
            raise RuntimeError(f"the uninterrupted run ended with {status}: {self.log.read_text()[-2000:]}")
        self.seconds += time.perf_counter()
        self.moments = set(self._moments.read_text().split())
        self.expected = contents(folder / "reference")

    def train(self, name: str) -> None:
        sys.argv = ["train.py", *self.network, *self.training, "--name", name]
        train.main()

    def _reference(self) -> None:
        save = run_state.save

        def noting(model: Pix2PixModel, state: dict, epoch: str | int) -> None:
            with open(self._moments, "a") as file:
                file.write(digest({label: model.networks()[label].state_dict() for label in ("G", "IE")}) + "\n")
            save(model, state, epoch)

        run_state.save = noting
        self.train("reference")

    def check_whole(self, name: str) -> None:
        """What test.py would load is nothing, or the networks of one moment."""
        model = Pix2PixModel(TestOptions().parse([*self.network, "--name", name]))
        try:
            model.load("latest")
        except UserError as error:
            assert "no such checkpoint" in str(error), error
            return
        assert digest({label: network.state_dict() for label, network in model.networks().items()}) in self.moments

    def interrupted(self, name: str, interruptions: Sequence[Callable[[str], int]]) -> None:
        """A run that is interrupted that often, and then goes on to its end.

        :raises AssertionError: it does not end as the uninterrupted run did.
        """
        for interrupt in interruptions:
            interrupt(name)
            assert status_of(fork(lambda: self.check_whole(name), self.log)) == 0, self.log.read_text()[-3000:]
        status = status_of(fork(lambda: self.train(name), self.log))
        assert status == 0, (status, self.log.read_text()[-3000:])
        found = contents(self.folder / name)
        for key, value in self.expected.items():
            assert found.get(key) == value, (name, key)
        assert found.keys() == self.expected.keys()
        shutil.rmtree(self.folder / name)

    # ---- interruptions: each runs a training and returns its status ----

    def killed_after_rename(self, number: int) -> Callable[[str], int]:
        """kill -9 right after the file that is the ``number``-th to get its name."""

        def run(name: str) -> None:
            renames, replace = 0, os.replace

            def counting(*args, **kwargs) -> None:
                nonlocal renames
                replace(*args, **kwargs)
                renames += 1
                if renames == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.replace = counting
            self.train(name)

        return lambda name: status_of(fork(lambda: run(name), self.log))

    def signalled_after(self, seconds: float, signum: int) -> Callable[[str], int]:
        def run(name: str) -> int:
            pid = fork(lambda: self.train(name), self.log)
            time.sleep(seconds)
            os.kill(pid, signum)
            status = status_of(pid)
            # it had not begun to train, was killed, or has saved and says so; or it was at its end
            assert status in (-signum, 128 + signum, 0), (status, self.log.read_text()[-3000:])
            return status

        return run


def digest(tensors: dict) -> str:
    found = hashlib.sha256()
    for label in sorted(tensors):
        for key, value in sorted(tensors[label].items()):
            found.update(f"{label}.{key}".encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def flattened(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {key: found for name, item in value.items()
                for key, found in flattened(item, f"{prefix}/{name}").items()}
    if isinstance(value, list | tuple):
        return flattened(dict(enumerate(value)), prefix)
    if isinstance(value, torch.Tensor):
        return {prefix: (tuple(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest())}
    return {prefix: value}


def contents(folder: Path) -> dict[str, object]:
    """All that must be equal: tensors and numbers of every .pth file, and the lines of the logs, without times."""
    found = {}
    for path in sorted(folder.glob("*.pth")):
        state = torch.load(path, weights_only=True)
        if isinstance(state, dict):
            state.pop("options", None)
        found |= {f"{path.name}{key}": value for key, value in flattened(state).items()}
    for name in ("loss_log.txt", "fid.txt", "iter.txt"):
        if (folder / name).exists():
            lines = (folder / name).read_text().splitlines()
            found[name] = [re.sub(r"time: [\d.]+", "", line) for line in lines if not line.startswith("=")]
    found["pictures"] = sorted(path.name for path in (folder / "web").rglob("*.png"))
    found["left over"] = sorted(path.name for path in folder.rglob(".writing-*"))
    return found


def run_all(experiment: Experiment, renames: Sequence[int], kills: int, signals: int, seed: int,
            progress: Callable[[str], None] = lambda text: None) -> None:
    """Every kind of interruption, that often."""
    chance = random.Random(seed)
    span = experiment.seconds * 1.1
    for number in renames:
        experiment.interrupted(f"rename{number}", [experiment.killed_after_rename(number)])
        progress(f"kill -9 after rename {number}: same end")
    for number in range(kills):
        moments = [chance.uniform(0, span) for _ in range(1 + number % 3)]
        experiment.interrupted(f"kill{number}", [experiment.signalled_after(moment, signal.SIGKILL)
                                                 for moment in moments])
        progress(f"kill -9 after {', '.join(f'{moment:.2f}' for moment in moments)} s: same end")
    for number in range(signals):
        signum = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)[number % 3]
        moments = [chance.uniform(0, span) for _ in range(1 + number % 2)]
        experiment.interrupted(f"signal{number}", [experiment.signalled_after(moment, signum) for moment in moments])
        progress(f"{signum.name} after {', '.join(f'{moment:.2f}' for moment in moments)} s: same end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renames", type=int, default=30, help="kill -9 after each of so many renames of files")
    parser.add_argument("--kills", type=int, default=100, help="runs killed at random moments, up to three times")
    parser.add_argument("--signals", type=int, default=30, help="runs that get SIGINT, SIGTERM or SIGUSR1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("extra", nargs="*", help="further options of train.py, after --")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(Path(folder), args.extra)
        print(f"the uninterrupted run: {experiment.seconds:.1f} s, {len(experiment.moments)} moments saved")
        run_all(experiment, range(1, args.renames + 1), args.kills, args.signals, args.seed,
                lambda text: print(text, flush=True))
    print("all runs ended alike, to the bit")


if __name__ == "__main__":
    main()
