"""What several tests share."""
import functools
import json
import os
import subprocess
import sys
import tempfile
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


@functools.cache
def forked() -> subprocess.Popen:
    """The process that runs commands: ``tests/forked.py``."""
    return subprocess.Popen([sys.executable, "-m", "tests.forked"], cwd=ROOT, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


def run_command(*args: object, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run one of the project's commands as a process: ``run_command("train.py", "--name", ...)`` or ``"-m module"``."""
    script, *rest = map(str, args)
    args = [*(["-m", script[3:]] if script.startswith("-m ") else [str(ROOT / script)]), *rest]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        request = {"args": args, "cwd": str(cwd), "env": env, "output": [out.name, err.name], "timeout": timeout}
        print(json.dumps(request), file=forked().stdin, flush=True)
        return subprocess.CompletedProcess(args, int(forked().stdout.readline()), out.read(), err.read())


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
