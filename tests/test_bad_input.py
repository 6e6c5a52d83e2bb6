"""Bad input of every kind, and odd input that is good, tried on the commands as users run them.

Whatever is wrong ends with one line that names the file and status 2: no traceback, no half-written file. The check
lists everything that is wrong in one go.
"""
import io
import json
import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from tests.conftest import run_command
from tests.worlds import NETWORK, SIZE, TRAIN, draw_world

GREY = np.zeros((SIZE, SIZE), np.uint8)
BLOCKS = np.arange(64, dtype=np.uint8).reshape(8, 8).repeat(SIZE // 8, 0).repeat(SIZE // 8, 1)
RGB = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def image(array: np.ndarray, form: str = "PNG", mode: str | None = None) -> Callable[[Path], None]:
    """Writes an image of that form, whatever the suffix says."""
    def write(path: Path) -> None:
        picture = Image.fromarray(array)
        (picture.convert(mode) if mode else picture).save(path, form)

    return write


def torn(array: np.ndarray, form: str = "PNG") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        file = io.BytesIO()
        Image.fromarray(array).save(file, form)
        path.write_bytes(file.getvalue()[:-len(file.getvalue()) // 3])

    return write


def damaged(path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)


def bomb(path: Path) -> None:
    """A few bytes that claim to be 3.6 gigapixels."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
                     + chunk(b"IEND", b""))


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else that has the file's name."""
    def write(path: Path) -> None:
        path.unlink()
        make(path)

    return write


# ---- what the check finds in one go: which file of a sample, what becomes of it, what its line must say ----

FILES = {
    "truncated PNG as label map": ("label", torn(RGB[..., 0]), r"cannot read FILE \(.*truncated"),
    "truncated PNG as photo": ("img", torn(RGB), r"cannot read FILE \(.*truncated"),
    "truncated JPEG": ("img", torn(RGB, "JPEG"), r"cannot read FILE \(.*truncated"),
    "truncated instance map": ("inst", torn(RGB[..., 0]), r"cannot read FILE \(.*truncated"),
    "damaged pixels": ("img", damaged, r"cannot read FILE \(.*broken"),
    "label map of no bytes": ("label", text(""), r"cannot read FILE \(not an image\)"),
    "photo of no bytes": ("img", text(""), r"cannot read FILE \(not an image\)"),
    "text named .png": ("label", text("hello"), r"cannot read FILE \(not an image\)"),
    "web page named .png": ("img", text("<html>404</html>"), r"cannot read FILE \(not an image\).*replace"),
    "decompression bomb": ("img", bomb, r"cannot read FILE \(60000x60000 pixels are more than"),
    "decompression bomb as label map": ("label", bomb, r"cannot read FILE \(60000x60000 pixels"),
    "link to nowhere": ("img", instead(lambda path: path.symlink_to("nowhere")), r"cannot read FILE \(No such file"),
    "link to itself": ("label", instead(lambda path: path.symlink_to(path.name)), r"cannot read FILE \(Too many"),
    "pipe": ("img", instead(os.mkfifo), r"cannot read FILE \(not a regular file\)"),
    "folder where a label map should be": ("label", instead(Path.mkdir), r"has no label map"),
    "folder where a photo should be": ("img", instead(Path.mkdir), r"has no photo"),
    "missing label map": ("label", Path.unlink, r"has no label map"),
    "missing photo": ("img", Path.unlink, r"has no photo"),
    "missing instance map": ("inst", Path.unlink, r"has no instance map"),
    "two photos of one name": ("img", lambda path: image(RGB, "JPEG")(path.with_suffix(".jpg")),
                               r"FILE have the same name for pairing"),
    "RGB label map": ("label", image(RGB), r"FILE: a colour image \(mode RGB\).*--label_colors FILE"),
    "RGBA label map": ("label", image(RGB, mode="RGBA"), r"FILE: a colour image \(mode RGBA\)"),
    "label map with alpha": ("label", image(np.dstack([GREY, BLOCKS])), r"FILE: is partly transparent"),
    "label map of fractions": ("label", image(GREY.astype(np.float32), "TIFF"), r"FILE: an image of fractions"),
    "JPEG as label map": ("label", image(GREY, "JPEG"), r"FILE: JPEG compression alters ids"),
    "RGB JPEG as instance map": ("inst", image(RGB, "JPEG"), r"FILE: JPEG compression alters ids"),
    "label 255 without don't care": ("label", image(GREY + np.uint8(255)), r"FILE: has the label id 255.*"
                                     "--contain_dontcare_label if 255 means don't care"),
    "id that is no class": ("label", image(GREY + np.uint8(7)), r"FILE: has the label id 7, but.* are 0\.\.4"),
    "16-bit id that is no class": ("label", image(GREY + np.uint16(26001)), r"FILE: has the label id 26001, but"),
    "negative 32-bit label": ("label", image(GREY - np.int32(1), "TIFF"), r"FILE: has the id -1"),
    "negative 32-bit instance": ("inst", image(GREY - np.int32(9), "TIFF"), r"FILE: has the id -9"),
    "instance map of another size": ("inst", image(GREY[:9]), rf"FILE: {SIZE}x9, but its label map .* {SIZE}x{SIZE}"),
    "photo of another size": ("img", image(RGB[:, :9]), rf"FILE: 9x{SIZE}, but its label map .* is {SIZE}x{SIZE}"),
    "16-bit photo": ("img", image(GREY + np.uint16(999)), r"FILE: has 16 or 32 bits .* convert it to 8 bits"),
}


def spoil_files(root: Path) -> dict[str, Path]:
    """A data set in which a sample suffers each of :data:`FILES`: the spoilt files."""
    draw_world(root, train=len(FILES), val=1)
    spoilt = {name: root / f"train_{kind}" / f"p{n}.png" for n, (name, (kind, _, _)) in enumerate(FILES.items())}
    for name, (_, spoil, _) in FILES.items():
        spoil(spoilt[name])
    return spoilt


# ---- odd, but good ----

ODD = {
    "grey photo": ("img", image(GREY)),
    "CMYK photo": ("img", image(RGB, "JPEG", "CMYK")),
    "RGBA photo": ("img", image(RGB, mode="RGBA")),
    "palette photo": ("img", image(RGB, mode="P")),
    "JPEG named .png": ("img", image(RGB, "JPEG")),
    "palette label map": ("label", image(GREY + np.uint8(3), mode="P")),
    "16-bit label map": ("label", image(GREY + np.uint16(4))),
    "32-bit label map": ("label", image(GREY + np.int32(4), "TIFF")),
    "label map of two colours": ("label", image(GREY > 0)),
    "label map with alpha that says nothing": ("label", image(GREY, mode="LA")),
    "RGB instance map": ("inst", image(RGB)),
    "16-bit instance map": ("inst", image(BLOCKS.astype(np.uint16) * 1000)),
    "32-bit instance map": ("inst", image(BLOCKS.astype(np.int32) * 100000, "TIFF")),
    "palette instance map": ("inst", image(BLOCKS, mode="P")),
    "spaces and letters of all kinds": ("img", lambda path: rename(path, "ein Bild, schön (1) 猫.png")),
    "hidden and other files": ("label", lambda path: [path.with_name(name).write_text("x") for name in
                                                      (".hidden.png", "Thumbs.db", "notes.txt", "p0.npy")]),
    "link to a file": ("img", lambda path: path.symlink_to(path.rename(path.parent.parent / "elsewhere.png"))),
    "loop of links": ("label", lambda path: (path.parent / "loop").symlink_to(path.parent)),
    "big letters": ("label", lambda path: path.rename(path.with_suffix(".PNG"))),
}


def rename(photo: Path, name: str) -> None:
    for kind in ("label", "img", "inst"):
        path = photo.parent.parent / f"train_{kind}" / photo.name
        path.rename(path.with_name(name))


def draw_odd(root: Path) -> None:
    draw_world(root, train=len(ODD), val=1)
    for n, (kind, write) in enumerate(ODD.values()):
        write(root / f"train_{kind}" / f"p{n}.png")


# ---- cases of their own: what becomes of a data set, and which line a command answers with (none: it works) ----

class Case(NamedTuple):
    command: str
    spoil: Callable[[Path], object]
    expected: str | None  # "ROOT" stands for the data set's folder
    options: tuple = ()


def train(file: str, write: Callable[[Path], object], expected: str, *options: object) -> Case:
    return Case("train", lambda root: write(root / file), expected, options)


def make(file: str, write: Callable[[Path], object], expected: str, *options: object) -> Case:
    return Case("make", lambda root: write(root / file), expected, options)


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def a_file(folder: Path) -> None:
    if folder.exists():
        move_away(folder)
    folder.write_text("not a folder")


def only_npy(folder: Path) -> None:
    remove(folder)
    np.save(folder / "p0.npy", GREY.astype(np.int8) - 1)


def nothing(path: Path) -> None:
    pass


HIDE = (lambda path: path.chmod(0)) if os.geteuid() else None  # root reads everything
CASES = {
    "check: all that is wrong": Case("check", spoil_files, "would stop: .*same name for pairing",
                                    ("--json", "ROOT/all.json")),
    "check: odd, but good": Case("check", draw_odd, None),
    "check: missing folder": Case("check", lambda root: move_away(root / "train_label"),
                                  "no label maps: folder ROOT/train_label does not exist"),
    "check: label maps as .npy": Case("check", lambda root: only_npy(root / "train_label"),
                                      r"images not found in ROOT/train_label \(.* files, such as p0.npy\)"),
    "check: a folder for the report": Case("check", nothing, "cannot write ROOT.*is a folder", ("--json", "ROOT")),
    "train: odd, but good": Case("train", draw_odd, None, ("--nThreads", 1)),
    "train: empty folder of label maps": train("train_label", remove, "not found in ROOT/train_label; check"),
    "train: file for a data set": train("x", a_file, "folder ROOT/x/train_label does not exist", "--dataroot",
                                        "ROOT/x"),
    "train: truncated JPEG, in a worker": train("train_img/p1.png", torn(RGB, "JPEG"),
                                                "cannot read ROOT/train_img/p1.png .*truncated", "--nThreads", 1),
    "train: RGB label map": train("train_label/p1.png", image(RGB), "ROOT/train_label/p1.png: a colour image"),
    "train: bad table of colours": train("c.txt", text("0 0 0 0 a\nred 0 0 1\n"), "--label_colors ROOT/c.txt, line 2",
                                         "--label_colors", "ROOT/c.txt"),
    "train: colour that is not in the table": train(
        "c.txt", lambda path: (text("0 0 0 0\n")(path), image(RGB)(path.parent / "train_label/p0.png")),
        r"ROOT/train_label/p0.png: has the colour \d+ \d+ \d+ and \d+ more", "--label_colors", "ROOT/c.txt"),
    "train: file where experiments should go": train("out", a_file, "ROOT/out.*check"),
    "train: read-only disk": train(".", nothing, "/proc/none", "--checkpoints_dir", "/proc/none"),
    "test: photos are not needed": Case("test", lambda root: move_away(root / "val_img"), None),
    "test: photos are needed": Case("test", lambda root: move_away(root / "val_img"),
                                    "no photos, .* need them: folder ROOT/val_img does not exist", ("--use_vae",)),
    "test: truncated label map": Case("test", lambda root: torn(RGB[..., 0])(root / "val_label/p1.png"),
                                      "cannot read ROOT/val_label/p1.png"),
    "test: id that is no class": Case("test", lambda root: image(GREY + np.uint8(9))(root / "val_label/p1.png"),
                                      "ROOT/val_label/p1.png: has the label id 9"),
    "test: file where results should go": Case("test", lambda root: a_file(root / "out"), "ROOT/out"),
    "make: odd, but good": Case("make", draw_odd, None),
    "make: missing folder": make("train_label", move_away, "ROOT/train_label"),
    "make: empty folder": make("train_label", remove, "ROOT/train_label"),
    "make: truncated map": make("train_label/p1.png", torn(RGB[..., 0]), "cannot read ROOT/train_label/p1.png"),
    "make: text named .png": make("train_label/p1.png", text("x"), "cannot read ROOT/train_label/p1.png"),
    "make: RGB map": make("train_label/p1.png", image(RGB), "ROOT/train_label/p1.png: a colour image"),
    "make: negative id": make("train_label/p1.png", image(GREY - np.int32(2), "TIFF"), "p1.png: has the id -2"),
    "make: decompression bomb": make("train_label/p1.png", bomb, "cannot read ROOT/train_label/p1.png"),
    "make: two maps of one name": make("train_label/p1.tif", image(GREY, "TIFF"), "ROOT/train_label/p1.png"),
    "make: name that is no text": make("train_label/p1.png", lambda path: os.rename(
        path, os.fsencode(path.parent) + b"/\xff.png"), r"train_label/.udcff.png': the name is not UTF-8; rename"),
    "make: file where maps should go": make("out", a_file, "ROOT/out"),
    "make: read-only disk": make(".", nothing, "/proc/none", "--instance_dir", "/proc/none"),
    **({"check: folder that must not be read": Case("check", lambda root: HIDE(root / "train_label"), "train_label"),
        "train: file that must not be read": train("train_img/p1.png", HIDE, "cannot read ROOT/train_img/p1.png"),
        } if HIDE else {}),
}


def command_of(case: Case, root: Path, checkpoints: Path) -> list:
    common = {
        "check": ["check_data.py", *NETWORK, "--workers", 2, "--dataroot", root],
        "train": ["train.py", *TRAIN, "--dataroot", root, "--checkpoints_dir", root / "out", "--niter", 1, "--no_html"],
        "test": ["test.py", *NETWORK, "--dataroot", root, "--name", "exp", "--checkpoints_dir", checkpoints,
                 "--results_dir", root / "out"],
        "make": ["make_instances.py", "--dataset", "custom", "--label_dir", root / "train_label", "--instance_dir",
                 root / "out"],
    }
    return [*common[case.command], *(str(word).replace("ROOT", str(root)) for word in case.options)]


class Outcome(NamedTuple):
    root: Path
    process: subprocess.CompletedProcess
    before: set[Path]  # files of the data set


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, Outcome]:
    """All commands, run."""
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    opt = TestOptions().parse([str(word) for word in [*NETWORK, "--name", "exp", "--checkpoints_dir", checkpoints,
                                                      "--use_vae"]])
    Pix2PixModel(opt).save("latest")

    def run(item: tuple[str, Case]) -> tuple[str, Outcome]:
        name, case = item
        root = tmp_path_factory.mktemp("data") / "set"
        if case.spoil not in (spoil_files, draw_odd):
            draw_world(root, train=3, val=2)
        case.spoil(root)
        before = files_in(root)
        return name, Outcome(root, run_command(*command_of(case, root, checkpoints), timeout=100), before)

    return dict(map(run, CASES.items()))


def files_in(root: Path) -> set[Path]:
    return {Path(folder, name) for folder, _, names in os.walk(root) for name in names}


@pytest.mark.parametrize("name", CASES)
def test_command(outcomes, name):
    case, (root, process, before) = CASES[name], outcomes[name]
    assert "Traceback" not in process.stderr + process.stdout
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    if case.expected is None:
        assert process.returncode == 0 and not lines, process.stderr
    else:
        assert process.returncode == 2 and len(lines) == 1, process.stderr
        assert re.search(case.expected.replace("ROOT", re.escape(str(root))), lines[0]), lines[0]
    for path in files_in(root) - before:  # whole files, and no others but the lock of a run
        if path.name == ".lock":
            continue
        assert not path.name.startswith("."), path
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        assert path.suffix in (".png", ".json", ".txt", ".html", ".pth"), path
    assert before <= files_in(root)


@pytest.mark.parametrize("name", FILES)
def test_check_names_every_bad_file(outcomes, name):
    root = outcomes["check: all that is wrong"].root
    kind, _, expected = FILES[name]
    file = root / f"train_{kind}" / f"p{list(FILES).index(name)}.png"
    problems = json.loads((root / "all.json").read_text())["splits"][0]["problems"]
    lines = [entry["message"] for entries in problems.values() for entry in entries]
    if expected.startswith("has no"):  # of the files that are there
        pattern = rf"train_\w+/{file.name}: {expected}"
    else:
        pattern = expected.replace("FILE", re.escape(str(file)), 1)
    assert any(re.search(pattern, line) for line in lines), lines


def test_check_prints_what_it_finds(outcomes):
    root, process, _ = outcomes["check: all that is wrong"]
    train = process.stdout.split("== test split")[0]
    for kind, entries in json.loads((root / "all.json").read_text())["splits"][0]["problems"].items():
        shown = train.split(f"PROBLEM: {len(entries)} {kind}\n")[1].split("PROBLEM:")[0].split("\n\n")[0].splitlines()
        assert [line.strip() for line in shown[:10]] == [entry["message"] for entry in entries[:10]]
        assert len(shown) == min(len(entries), 11)
