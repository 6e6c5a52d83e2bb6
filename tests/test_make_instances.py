"""Renumbering of instance ids, against the loop that says what is meant; and its wrong uses."""
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import make_instances


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def ids(seed: int, count: int, highest: int, dtype: type) -> np.ndarray:
    """A map [40, 60] that has ``count`` ids, all of them up to ``highest``."""
    random = np.random.default_rng(seed)
    values = random.choice(highest + 1, count, replace=False)
    return values[np.r_[:count, random.integers(0, count, 2400 - count)]].reshape(40, 60).astype(dtype)


def renumbered(map_: np.ndarray) -> np.ndarray:
    out = np.zeros(map_.shape, np.int64)
    for rank, value in enumerate(sorted(set(map_.ravel().tolist()))):
        out[map_ == value] = rank
    return out


def call(monkeypatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_instances.py", *map(str, args)])
    make_instances.main()


def check(path: Path, source: np.ndarray, mode: str = "L") -> None:
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(image, renumbered(source))


@pytest.mark.parametrize(("dataset", "source", "target"), [
    ("ade20k", "annotations/training/ADE_train_1.png", "instances/training/ADE_train_1.png"),
    ("ade20k", "annotations/validation/ADE_val_1.PNG", "instances/validation/ADE_val_1.png"),
    ("celeba", "train/labels/0.png", "train/instances/0.png"),
    ("celeba", "test/labels/ä b.png", "test/instances/ä b.png"),
])
def test_label_maps(tmp_path, monkeypatch, dataset, source, target):
    label = ids(0, 12, 150, np.uint8)
    write(tmp_path / source, label)
    call(monkeypatch, "--path", tmp_path, "--dataset", dataset)
    check(tmp_path / target, label)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {source, target}


def test_cityscapes(tmp_path, monkeypatch, capsys):
    instance = ids(1, 40, 33001, np.uint16)
    crowded = ids(2, 300, 33001, np.uint16)
    folder = tmp_path / "gtFine/val/ulm"
    write(folder / "ulm_0_0_gtFine_instanceIds.png", instance)
    write(folder / "ulm_0_1_gtFine_instanceIds.png", crowded)
    write(folder / "ulm_0_0_gtFine_labelIds.png", ids(3, 9, 33, np.uint8))
    for _ in range(2):  # once more: results are overwritten, and not taken for sources
        call(monkeypatch, "--path", tmp_path, "--dataset", "cityscapes")
        check(folder / "ulm_0_0_gtFine_instanceReIds.png", instance)
        check(folder / "ulm_0_1_gtFine_instanceReIds.png", crowded, mode="I;16")
        assert len(list(folder.iterdir())) == 5
        assert "2 instance maps" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [0, 3, 4])
def test_deepfashion(tmp_path, monkeypatch, channels):
    mask = ids(4, 6, 7, np.uint8)
    image = np.stack([mask, *[mask * 20 + 9] * (channels - 1)], -1) if channels else mask
    for split in ("train", "test"):
        write(tmp_path / f"{split}_mask/a.png", image)
    call(monkeypatch, "--path", tmp_path, "--dataset", "deepfashion")
    for split in ("train", "test"):
        with Image.open(tmp_path / f"{split}_label/a.png") as label:
            assert label.mode == "L" and np.array_equal(label, mask)
        check(tmp_path / f"{split}_inst/a.png", mask)


def refused(monkeypatch, capsys, *args: object) -> str:
    """The line with which the command is refused; it must end with status 2."""
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, *args)
    assert end.value.code == 2
    return capsys.readouterr().err.rstrip("\n").splitlines()[-1]


def test_wrong_arguments(tmp_path, monkeypatch, capsys):
    missing = tmp_path / "nowhere"
    assert str(missing) in refused(monkeypatch, capsys, "--path", missing, "--dataset", "celeba")
    assert "city" in refused(monkeypatch, capsys, "--path", tmp_path, "--dataset", "city")
    assert "--path" in refused(monkeypatch, capsys, "--dataset", "celeba")


@pytest.mark.parametrize(("dataset", "expected"), [
    ("ade20k", "annotations"), ("celeba", "labels"), ("cityscapes", "_instanceIds.png"), ("deepfashion", "_mask")])
def test_nothing_to_read(tmp_path, monkeypatch, capsys, dataset, expected):
    line = refused(monkeypatch, capsys, "--path", tmp_path, "--dataset", dataset)
    assert str(tmp_path) in line and expected in line


def test_bad_maps_are_named_and_leave_nothing_behind(tmp_path, monkeypatch, capsys):
    path = tmp_path / "annotations/ADE_train_1.png"
    for spoil, expected in (
        (lambda: path.write_bytes(path.read_bytes()[:200]), "cannot read"),
        (lambda: path.write_text("hello"), "cannot read"),
        (lambda: write(path, np.zeros((4, 4, 3), np.uint8)), "colour image"),
    ):
        write(path, ids(0, 12, 150, np.uint8))
        spoil()
        line = refused(monkeypatch, capsys, "--path", tmp_path, "--dataset", "ade20k")
        assert line.startswith("error: ") and str(path) in line and expected in line
        assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


def test_a_target_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    write(tmp_path / "annotations/ADE_train_1.png", ids(0, 12, 150, np.uint8))
    (tmp_path / "instances").write_text("a file where the folder should be")
    line = refused(monkeypatch, capsys, "--path", tmp_path, "--dataset", "ade20k")
    assert "instances" in line and "cannot write" in line


def test_as_a_command(tmp_path, run):
    label = ids(0, 12, 18, np.uint8)
    write(tmp_path / "train/labels/0.png", label)
    done = run("make_instances.py", "--path", tmp_path, "--dataset", "celeba")
    assert done.returncode == 0, done.stderr
    check(tmp_path / "train/instances/0.png", label)
    done = run("make_instances.py", "--path", tmp_path, "--dataset", "faces")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "faces" in done.stderr and not done.stdout
