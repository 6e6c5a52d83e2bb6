"""How far long work is: a bar on a terminal, now and then a line elsewhere."""
import ast
import io
import re
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT, run_command
from tests.data_helpers import write
from util import progress as module
from util.errors import command
from util.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(monkeypatch):
    """What a command that works on several things, one after the other, writes to standard error."""
    def run(pause: float, bars: int, items: int, seconds: float, **settings: object) -> list[str]:
        monkeypatch.setattr(module, "PAUSE", pause)

        @command
        def main() -> None:
            for n in range(bars):
                for _ in progress(range(items), doing=f"work {n}", unit="img", **settings):
                    time.sleep(seconds)

        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", log := io.StringIO())
            main()
        return log.getvalue().splitlines()

    return run


def test_lines_of_a_log(log):
    lines = log(pause=0, bars=2, items=3, seconds=0.002)
    for n in range(2):
        for done in range(4):
            assert any(re.fullmatch(rf"work {n}: {done}/3 img, 00:00 elapsed, \S+ left, +\S+", line) for line in lines)
    assert len(lines) <= 10


def test_lines_are_a_pause_apart_also_those_of_short_bars(log):
    started = time.monotonic()
    lines = log(pause=0.2, bars=10, items=4, seconds=0.02)
    assert 2 <= len(lines) <= (time.monotonic() - started) / 0.2
    assert len({line.split(":")[0] for line in lines}) == len(lines)  # a bar takes less than the pause


def test_short_work_leaves_no_lines(log):
    assert log(pause=30, bars=3, items=3, seconds=0) == []


def test_nothing_is_said_where_another_process_does(log):
    assert log(pause=0, bars=2, items=3, seconds=0, quiet=True) == []


def test_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for _ in progress(range(4), doing="work", unit="img"):
        pass
    assert re.search(r"\rwork: 100%\|.*\| 4/4 \[", terminal.getvalue())


def test_all_commands_show_progress_in_this_way():
    """What calls tqdm itself is silent in logs, or fills them."""
    files = [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith(".")]
    callers = {path for path in files for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("tqdm", "trange")}
    assert callers == {ROOT / "util" / "progress.py"}


def test_segmentation_score_says_how_far_it_is(tmp_path):
    for n in range(3):
        write(tmp_path / "val_label" / f"{n}.png", np.full((32, 32), n, np.uint8))
    args = ["--dataset_mode", "custom", "--dataroot", tmp_path, "--label_nc", 3, "--crop_size", 32, "--gpu_ids", "-1",
            "--predictions", tmp_path / "val_label", tmp_path / "val_label"]
    program = ("import runpy, util.progress; util.progress.PAUSE = 0;"
               "runpy.run_path('segmentation_score.py', run_name='__main__')")
    process = run_command("-c", program, *args)
    assert process.returncode == 0, process.stderr
    assert re.search(r"^scoring: 2/3 layout, ", process.stderr, re.MULTILINE)
