"""How the project is installed: the environment that ``make`` sets up, and the package for other programs."""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def make_environment(place: Path, python: Path | str) -> subprocess.CompletedProcess:
    """Let ``make`` set up a virtual environment, without what is installed there."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", f"VENV={place}", f"PYTHON={python}", f"{place}/.made"], cwd=ROOT, env=env, text=True,
                          capture_output=True)


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


# as Debian's Python without python3-venv: it leaves an environment without pip
NO_VENV = ('[ "$2" = venv ] || exit 0', 'for place; do :; done', 'mkdir -p "$place/bin"',
           'printf "#!/bin/sh\\nexit 1\\n" > "$place/bin/python"; chmod +x "$place/bin/python"', "exit 1")


@needs_make
def test_an_environment_that_could_not_be_made_is_removed(tmp_path):
    python = program(tmp_path / "python", *NO_VENV)
    process = make_environment(tmp_path / "venv", python)
    assert process.returncode and "apt-get install python3-venv" in process.stderr
    assert not (tmp_path / "venv").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    assert make_environment(tmp_path / "mine", python).returncode
    assert (tmp_path / "mine" / "notes").exists()  # what was there before is the user's


@needs_make
@pytest.mark.skipif(importlib.util.find_spec("ensurepip") is None, reason="needs ensurepip, of python3-venv")
def test_a_broken_environment_is_completed(tmp_path):
    program(tmp_path / "python", *NO_VENV)
    subprocess.run([tmp_path / "python", "-m", "venv", tmp_path / "venv"])
    assert (tmp_path / "venv" / "bin" / "python").exists()
    (tmp_path / "venv" / "bin" / "python").unlink()
    base = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    process = make_environment(tmp_path / "venv", base)
    assert process.returncode == 0, process.stderr
    found = subprocess.run([tmp_path / "venv" / "bin" / "python", "-m", "pip", "--version"], capture_output=True)
    assert found.returncode == 0 and str(tmp_path).encode() in found.stdout


@needs_make
@pytest.mark.parametrize(("prefixes", "found", "lent"), [
    (("/usr", "/usr"), ["torch", "torchvision"], True), (("/usr", "/usr"), ["torch"], False),
    (("/venv", "/usr"), ["torch", "torchvision"], False),
])
def test_a_python_lends_the_pytorch_that_it_has(tmp_path, prefixes, found, lent):
    """The real Python asks itself, with these prefixes and packages."""
    pretend = ("import sys, importlib.util; sys.prefix, sys.base_prefix = {!r}, {!r};"
               "importlib.util.find_spec = lambda name: name in {!r}; exec(sys.argv[1])").format(*prefixes, found)
    (tmp_path / "pretend.py").write_text(pretend)
    python = program(tmp_path / "python", f'[ "$1" = -c ] && exec {sys.executable} {tmp_path}/pretend.py "$2"',
                     f'echo "$@" > {tmp_path}/asked')
    assert make_environment(tmp_path / "venv", python).returncode == 0 or not (tmp_path / "venv").exists()
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["-m", "venv", *(["--system-site-packages"] if lent else []), str(tmp_path / "venv")]


@needs_make
def test_an_environment_that_is_there_is_used(tmp_path):
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "python", "exit 0")
    process = make_environment(tmp_path, "/nowhere/python")
    assert process.returncode == 0 and not (tmp_path / "pyvenv.cfg").exists()


@needs_make
@pytest.mark.parametrize("there", [True, False])
def test_what_is_installed_is_not_listed(tmp_path, there):
    """pip is loud only if it has something to do."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "python", f'case "$*" in *--no-index*) echo noise >&2; exit {int(not there)};;',
            '*"pip install -r"*) echo "installing $5";; esac')
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    process = subprocess.run(["make", f"VENV={tmp_path}", f"{tmp_path}/.installed-lite"], cwd=ROOT, env=env, text=True,
                             capture_output=True)
    assert process.returncode == 0 and not process.stderr
    files = [] if there else ["requirements.txt", "requirements-lite.txt"]
    assert process.stdout.splitlines() == [f"installing {name}" for name in files]


# ---- pip install -e . ----

def elsewhere(folder: Path, code: str) -> subprocess.CompletedProcess:
    """Run Python in another folder, where ``inade`` alone is importable, as after ``pip install -e .``."""
    (folder / "site").mkdir(exist_ok=True)
    if not (folder / "site" / "inade").exists():
        (folder / "site" / "inade").symlink_to(ROOT / "inade")
    env = {**os.environ, "PYTHONPATH": str(folder / "site")}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, text=True, capture_output=True)


def test_other_programs_import_one_name(tmp_path):
    process = elsewhere(tmp_path, f"""if True:
        import importlib.util
        assert not any(map(importlib.util.find_spec, ("models", "data", "options", "util", "metrics")))
        from inade import Synthesizer
        synthesizer = Synthesizer.load({str(ROOT / "checkpoints" / "ccp")!r})
        print(synthesizer.opt.label_nc)""")
    assert process.returncode == 0 and process.stdout == "59\n", process.stderr


def test_another_folder_of_the_same_name_is_pointed_out(tmp_path):
    (tmp_path / "util").mkdir()
    (tmp_path / "util" / "__init__.py").touch()
    process = elsewhere(tmp_path, "import inade")
    assert process.returncode and process.stderr.splitlines()[-1].startswith(
        f"ImportError: inade needs {ROOT / 'util'}, but another util comes first on the path")


def test_the_package_claims_one_name():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"] == ["inade"]
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
