"""Where the system lacks what Linux has: commands still import and work; data-loading processes that are not forked."""
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from tests.conftest import ROOT, run_command
from tests.worlds import TRAIN, assert_equal_networks, draw_world, networks, succeed
from util.device import find_device
from util.errors import UserError
from util.launch import device_ids

COMMANDS = ["train", "test", "fid_score", "diversity_score", "segmentation_score", "gallery", "make_instances",
            "check_data", "quickstart", "demo"]
FOLDERS = ["benchmarks", "data", "datasets", "editing", "metrics", "models", "options", "trainers", "util"]
UVICORN = "import uvicorn.protocols.http.h11_impl\n"
# what Windows does not have, taken away before anything of the project is imported
BARE = """
import os, signal, sys
import torch, torch.utils.data, multiprocessing, subprocess, tempfile, asyncio  # the libraries' own use is their matter
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for module, names in ((signal, ("SIGHUP", "SIGUSR1", "SIGALRM", "setitimer", "pause")),
                      (os, ("register_at_fork", "O_NONBLOCK", "O_CLOEXEC", "sysconf", "sched_getaffinity"))):
    for name in names:
        delattr(module, name)
sys.path.insert(0, %r)
""" % str(ROOT)  # noqa: UP031 (the text has braces)


def bare(code, *args, first=""):
    return succeed(run_command("-c", first + BARE + code, *args)).stdout


def test_every_module_imports():
    assert set(COMMANDS) == {path.stem for path in ROOT.glob("*.py")}
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for folder in FOLDERS
             for path in (ROOT / folder).rglob("*.py")]
    assert {"models.export", "datasets.make_scenes", "benchmarks.fid", "editing.visitors"} < set(names)
    if not find_spec("gradio"):
        names = [name for name in names if name not in ("editing.page", "editing.server")]
    code = f"import importlib\nfor name in {COMMANDS + names!r}:\n    importlib.import_module(name)\nprint('all')"
    found = bare(code, first="import gradio\n" + UVICORN if find_spec("gradio") else "")
    assert found.strip().endswith("all")


def test_the_demo_listens_and_ends_without_limits_of_files_and_sighup():
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    found = bare("from editing.server import most_connections, stopped_by_signals\n"
                 "from util.errors import Interrupted\n"
                 "try:\n    with stopped_by_signals([]):\n        signal.raise_signal(signal.SIGTERM)\n"
                 "except Interrupted as ended:\n    print(most_connections(), ended.signum)", first=UVICORN)
    assert found.split() == ["512", str(int(signal.SIGTERM))]


def train(run, root, name, *args):
    words = ["train", *TRAIN, "--dataroot", root, "--checkpoints_dir", root, "--name", name, "--niter", 1, "--use_vae",
             "--no_html", *args]
    return run("import sys, train\nif __name__ == '__main__':\n    train.main()", *words[1:])


def test_a_run_without_locks_limits_and_signals_is_the_same(tmp_path):
    root = draw_world(tmp_path, train=4)
    said = train(bare, root, "bare", "--nThreads", 0)
    assert "this file system has no locks" in said and "cannot limit memory" in said
    # the same on Linux as it is, with loading processes that are started anew instead of forked
    code = "import multiprocessing, sys\nsys.argv[0] = 'train.py'\nimport train\nif __name__ == '__main__':\n" \
           "    multiprocessing.set_start_method('spawn')\n    train.main()\n"
    (tmp_path / "spawned.py").write_text(code)
    succeed(run_command(tmp_path / "spawned.py", *TRAIN, "--dataroot", root, "--checkpoints_dir", root, "--name",
                        "spawned", "--niter", 1, "--use_vae", "--no_html", "--nThreads", 2))
    assert_equal_networks(networks(root / "bare"), networks(root / "spawned"))


def test_parallel_work_in_processes_that_are_not_forked(tmp_path):
    root = draw_world(tmp_path, train=4)
    for folder in ("train_inst", "val_inst"):
        for path in (root / folder).iterdir():
            path.unlink()
    (tmp_path / "spawned.py").write_text(
        BARE.replace("import torch, torch.utils.data, multiprocessing", "import multiprocessing")  # it needs no PyTorch
        .replace("for name in", "multiprocessing.set_start_method('spawn', force=True)\nfor name in", 1)
        + "import make_instances\nif __name__ == '__main__':\n    make_instances.main()\n")
    done = subprocess.run([sys.executable, tmp_path / "spawned.py", "--path", str(root), "--dataset", "custom",
                           "--workers", "2"], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((root / "train_inst").iterdir())) == 4


def test_apple_devices(monkeypatch):
    assert device_ids("--gpu_ids", "mps") == [-1]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--gpu_ids mps: PyTorch finds no Apple GPU"):
        find_device("--gpu_ids", "mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    opt = TestOptions().parse(["--gpu_ids", "mps", "--dataset_mode", "custom", "--ngf", "4"])
    assert opt.device == torch.device("mps") and opt.num_processes == 1
    # no kernels are asked for where there is no CUDA: the networks are built as for the CPU
    assert Pix2PixModel(opt.replace(device=torch.device("cpu"))).netG
