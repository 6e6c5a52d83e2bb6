"""What several tests share."""
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# small parallel regions take many times longer on a busy machine: one thread, here and in the commands that are run
os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torchvision

from tests.fill import fill_

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory) -> str:
    """A file of VGG19 weights (the convolutions alone), filled by name."""
    features = fill_(torchvision.models.vgg19(weights=None).features, "vgg19.features.")
    path = tmp_path_factory.mktemp("hub") / "vgg19-dcbb9e9d.pth"
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, path)
    return str(path)


def run_command(*args: object, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run one of the project's commands as a process: ``run_command("train.py", "--name", ...)`` or ``"-m module"``."""
    script, *rest = map(str, args)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = ["-m", script[3:]] if script.startswith("-m ") else [str(ROOT / script)]
    return subprocess.run([sys.executable, *program, *rest], cwd=cwd, env=env, capture_output=True, text=True,
                          timeout=timeout)


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess]:
    return run_command
