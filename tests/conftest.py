"""What several tests share."""
import os
import random
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# small parallel regions take many times longer on a busy machine: one thread, here and in the commands that are run
os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torchvision

from tests.fill import fill_
from tests.forked import ROOT, Command

SLOWEST = ("distributed", "runs", "export", "kernels", "faults", "bad_input", "demo", "commands")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files come first, so that at the end no worker is busy with one while others have nothing to do."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in SLOWEST)


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory) -> str:
    """A file of VGG19 weights (the convolutions alone), filled by name."""
    features = fill_(torchvision.models.vgg19(weights=None).features, "vgg19.features.")
    path = tmp_path_factory.mktemp("hub") / "vgg19-dcbb9e9d.pth"
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, path)
    return str(path)


def free_port() -> int:
    """A port that nobody listens at, drawn from below those that systems give to whoever connects."""
    while True:
        port = random.SystemRandom().randrange(10240, 30720)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def run_command(*args: object, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run one of the project's commands to its end: ``run_command("train.py", "--name", ...)`` or ``"-m module"``."""
    command = Command(*args, cwd=cwd, timeout=timeout)
    out, err = command.communicate()
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess]:
    return run_command


@pytest.fixture(scope="module")
def editor():
    """Small networks that nobody trained, for what visitors of the demo do."""
    from tests.test_demo import make_editor
    return make_editor("--use_vae")


@pytest.fixture
def session(editor):
    """What a visitor sees first."""
    from tests.test_demo import INSTANCE, LABEL, Canvas
    torch.manual_seed(1)
    return editor.start(Canvas(LABEL, INSTANCE))
