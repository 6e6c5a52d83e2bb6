"""Folders that two commands would write at once."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, run_command
from tests.forked import Command
from tests.test_prepare import person, write_ccp
from tests.worlds import NETWORK, build_model, draw_world, succeed
from util.errors import UserError
from util.files import exclusive, new_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A world, a network for it, and a raw data set."""
    root = tmp_path_factory.mktemp("folders")
    draw_world(root / "world")
    build_model("--checkpoints_dir", root / "checkpoints", "--name", "exp").save("latest")
    write_ccp(root / "ccp", 1, person())
    return root


@pytest.fixture
def holder():
    """``holder(folder)``: another process that holds its lock, until it is killed."""
    started = []

    def hold(folder):
        code = ("import sys, time; from util.files import exclusive\n"
                "with exclusive(sys.argv[1]): print(1, flush=True); time.sleep(100)")
        started.append(subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE))
        assert started[-1].stdout.readline()
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def drawing(root, *more):
    return [*NETWORK, "--dataroot", root / "world", "--checkpoints_dir", root / "checkpoints", "--name", "exp", *more]


# command, and the folder below root that it writes
COMMANDS = {
    "test": ("results/exp/test_latest", lambda root: ["test.py", *drawing(root, "--results_dir", root / "results",
                                                                          "--styles", "prior")]),
    "gallery": ("gallery", lambda root: ["gallery.py", *drawing(root, "--gallery_dir", root / "gallery", "--layouts", 1,
                                                                "--measured", 1)]),
    "make_instances": ("world", lambda root: ["make_instances.py", "--path", root / "world", "--dataset", "custom",
                                                  "--overwrite"]),
    "make_scenes": ("scenes", lambda root: ["-m datasets.make_scenes", "--out", root / "scenes", "--num", 1]),
    "draw_people": ("people", lambda root: ["-m datasets.draw_people", "--out", root / "people"]),
    "prepare_ccp": (".writing-clothes", lambda root: ["-m datasets.prepare_ccp", "--path", root / "ccp", "--out",
                                                      root / "clothes", "--height", 16]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_command_is_refused(name, root, holder):
    folder, args = COMMANDS[name]
    process = holder(root / folder)
    before = sorted((root / folder).rglob("*"))
    refused = run_command(*args(root))
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "another command is writing to it" in refused.stderr and sorted((root / folder).rglob("*")) == before
    process.kill()  # a crash lets go
    process.wait()
    succeed(run_command(*args(root)))
    assert not list(root.rglob(".lock")) and not list(root.rglob(".writing-*"))


def test_pictures_are_of_the_run_that_is_noted(root):
    """Two runs with other seeds begin at once: what is there then is of one of them."""
    args = ["test.py", *drawing(root, "--styles", "prior", "--num_samples", 2)]
    succeed(run_command(*args, "--seed", 5, "--results_dir", root / "alone"))
    both = [Command(*args, "--seed", seed, "--results_dir", root / "both") for seed in (5, 6)]
    said = [process.communicate()[1] for process in both]
    statuses = [process.returncode for process in both]
    assert statuses in ([0, 0], [0, 2], [2, 0]) and "Traceback" not in "".join(said)  # or one after the other
    pictures, noted = (root / folder / "exp/test_latest" for folder in ("alone", "both"))
    seed = json.loads((noted / "run.json").read_text())["seed"]
    same = [np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(noted / path.relative_to(pictures))))
            for path in sorted(pictures.rglob("synthesized_image*/*.png"))]
    assert len(same) == 6 and set(same) == {seed == 5}


def test_nobody_comes_between_the_last_file_and_the_name(tmp_path, monkeypatch):
    rename = os.rename

    def late(source, target):
        with pytest.raises(UserError, match="another command is writing to it"), new_folder(str(tmp_path / "made")):
            pass
        rename(source, target)

    monkeypatch.setattr("util.files.os.rename", late)
    with new_folder(str(tmp_path / "made")) as folder:
        Path(folder, "a").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "a"]


def test_new_folders(tmp_path, holder):
    leftover = tmp_path / ".writing-made"
    (leftover / "deep").mkdir(parents=True)
    (leftover / "deep" / "file").write_text("of a run that was killed")
    with new_folder(str(tmp_path / "made")) as folder:
        assert list((tmp_path / ".writing-made").iterdir()) == [leftover / ".lock"]
        (leftover / "file").write_text("whole")
        with pytest.raises(UserError, match="made: another command is writing to it"), \
                new_folder(str(tmp_path / "made")):
            pass
        assert folder == str(leftover) and (leftover / "file").exists()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["file"] and not leftover.exists()
    with pytest.raises(UserError, match="exists already"), new_folder(str(tmp_path / "made")):
        pass
    with exclusive(str(tmp_path / "made")):
        assert (tmp_path / "made" / ".lock").exists()
    assert not (tmp_path / "made" / ".lock").exists()
