"""The example world: ids, styles and files of its scenes, and wrong uses of the command."""
import csv
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from datasets import make_scenes
from datasets.example_world.classes import (
    BALLOON,
    BUSH,
    CAR,
    CLASS_NAMES,
    CLASSES,
    HOUSE,
    PINE,
    TREE,
    draw_style,
)
from datasets.example_world.rendering import Scene, draw_scene
from tests.processes import end_by, start
from util.errors import UserError

COMMAND = "-m datasets.make_scenes"
THINGS = (HOUSE, TREE, PINE, BUSH, CAR, BALLOON)


def draw(index: int, size: int = 64) -> Scene:
    return draw_scene(np.random.default_rng([5, index]), size)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw(index) for index in range(80)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == mode
        return np.array(image)


@pytest.mark.parametrize("size", [64, 80, 128])
def test_maps(size):
    for index in range(6):
        scene = draw(index, size)
        assert scene.image.shape == (size, size, 3) and scene.label.shape == scene.instance.shape == (size, size)
        assert {scene.image.dtype, scene.label.dtype, scene.instance.dtype} == {np.dtype(np.uint8)}
        areas = np.bincount(scene.instance.ravel())
        assert areas.min() >= 6 * (size / 64) ** 2
        assert [row["instance"] for row in scene.styles] == list(range(len(areas)))
        assert [row["pixels"] for row in scene.styles] == areas.tolist()
        for row in scene.styles:  # one class per instance, and the right one
            assert set(scene.label[scene.instance == row["instance"]].tolist()) == {row["class_id"]}
            assert row["class"] == CLASS_NAMES[row["class_id"]]


def test_a_larger_size_shows_the_same_scene():
    for index in range(6):
        small, large = draw(index, 64), draw(index, 192)  # every third pixel's centre is a centre of the small picture
        assert np.mean(small.label == large.label[1::3, 1::3]) > 0.97
        blurred = large.image.reshape(64, 3, 64, 3, 3).mean((1, 3))
        assert np.abs(blurred - small.image).mean() < 6  # the sensors' noise, and grains of a pixel


def test_classes(scenes):
    assert len(CLASSES) == len(set(CLASS_NAMES)) == len({c.color for c in CLASSES}) >= 9
    pictures = Counter(k for scene in scenes for k in set(scene.label.ravel().tolist()))
    assert set(pictures) == set(range(len(CLASSES)))
    assert min(pictures.values()) >= 0.3 * len(scenes)


def test_things_are_many_and_hide_each_other(scenes):
    several, touching = Counter(), Counter()
    for scene in scenes:
        count = Counter(row["class_id"] for row in scene.styles)
        several.update(k for k in THINGS if count[k] > 1)
        for label, instance in ((scene.label, scene.instance), (scene.label.T, scene.instance.T)):
            border = (label[1:] == label[:-1]) & (instance[1:] != instance[:-1])
            touching.update(set(label[1:][border].tolist()))
    assert all(several[k] >= 8 for k in THINGS)
    assert all(touching[k] > 0 for k in THINGS)  # two of one class, which the label map does not separate


def test_nearer_things_are_larger(scenes):
    """Houses that are whole: the lower in the picture they stand, the taller they are."""
    foot, height = [], []
    for scene in scenes:
        for row, (rows, cols) in zip(scene.styles, ndimage.find_objects(scene.instance.astype(int) + 1), strict=True):
            if row["class_id"] == HOUSE and row["pixels"] > 0.6 * (rows.stop - rows.start) * (cols.stop - cols.start):
                foot.append(rows.stop)
                height.append(rows.stop - rows.start)
    assert len(foot) > 20 and np.corrcoef(foot, height)[0, 1] > 0.6


def test_pictures_show_the_styles(scenes):
    """The mean colour of instances goes with the base colour of their style, class by class."""
    seen, meant = defaultdict(list), defaultdict(list)
    for scene in scenes:
        for row in scene.styles:
            if row["pixels"] >= 25:
                seen[row["class"]].append(scene.image[scene.instance == row["instance"]].mean(0))
                meant[row["class"]].append([row["r"], row["g"], row["b"]])
    for name in CLASS_NAMES:
        correlation = np.corrcoef(np.ravel(seen[name]), np.ravel(meant[name]))[0, 1]
        assert correlation > 0.6, (name, correlation)
    for name in ("car", "meadow", "bush"):
        assert np.corrcoef(np.ravel(seen[name]), np.ravel(meant[name]))[0, 1] > 0.9, name


def test_styles_are_diverse(scenes):
    """All modes occur about equally often; modes lie farther apart than their samples; a ramp fills what is between."""
    rng = np.random.default_rng(0)
    for class_id, c in enumerate(CLASSES):
        styles = [draw_style(rng, class_id) for _ in range(400)]
        bases = np.array([style.base for style in styles])
        assert bases.min() >= 0 and bases.max() <= 1 and len(np.unique(bases, axis=0)) > 0.98 * len(styles)
        count = Counter(style.mode for style in styles)
        assert set(count) == {mode.name for mode in c.modes} and min(count.values()) > 0.4 * 400 / len(c.modes)
        centres = np.array([mode.base for mode in c.modes]) / 255
        nearest = np.linalg.norm(bases[:, None] - centres, axis=2).argmin(1)
        right = np.mean([c.modes[k].name == style.mode for k, style in zip(nearest, styles, strict=True)])
        halfway = (centres[1:] + centres[:-1]) / 2
        gaps = np.linalg.norm(bases[:, None] - halfway, axis=2).min(0)  # from there to the nearest sample
        assert gaps.max() < 0.05 if c.ramp else right > 0.9, (c.name, right, gaps)
    modes = defaultdict(set)
    for scene in scenes:
        for row in scene.styles:
            modes[row["class"]].add(row["mode"])
    assert all(len(modes[c.name]) == len(c.modes) for c in CLASSES)


def test_instances_of_a_picture_differ(scenes):
    """Styles are drawn per instance: things of one class in one picture often have different modes."""
    pairs = [len({row["mode"] for row in scene.styles if row["class_id"] == CAR})
             for scene in scenes if sum(row["class_id"] == CAR for row in scene.styles) == 2]
    assert len(pairs) > 5 and np.mean(pairs) > 1.5  # expected: 11/6


def test_files_do_not_depend_on_workers_or_number(tmp_path, run):
    common = ("--num_val", 2, "--seed", 3)
    for name, num, workers in (("one", 9, 1), ("two", 9, 2), ("fewer", 2, 2)):
        done = run(COMMAND, "--out", tmp_path / name, "--num", num, "--workers", workers, *common)
        assert done.returncode == 0, done.stderr
        assert f"{num} + 2 scenes of {len(CLASSES)} classes" in done.stdout
    one, fewer = files(tmp_path / "one"), files(tmp_path / "fewer")
    assert one == files(tmp_path / "two")
    assert all(one[name] == data for name, data in fewer.items() if name != "styles_train.csv")
    kinds = ("img", "label", "inst")
    assert set(one) == {"classes.txt", "styles_train.csv", "styles_val.csv",
                        *(f"train_{kind}/scene_{k:05d}.png" for kind in kinds for k in range(9)),
                        *(f"val_{kind}/scene_{k:05d}.png" for kind in kinds for k in range(2))}
    assert len({one[f"train_img/scene_{k:05d}.png"] for k in range(9)} | {one["val_img/scene_00000.png"]}) == 10

    lines = [line.split(" ") for line in one["classes.txt"].decode().splitlines()]
    assert lines == [[*map(str, c.color), str(k), c.name] for k, c in enumerate(CLASSES)]
    for split, count in (("train", 9), ("val", 2)):
        with open(tmp_path / "one" / f"styles_{split}.csv", newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert sorted({row["scene"] for row in table}) == [f"scene_{k:05d}" for k in range(count)]
        for scene in {row["scene"] for row in table}:
            image, label, instance = (read(tmp_path / "one" / f"{split}_{kind}" / f"{scene}.png", mode)
                                      for kind, mode in zip(kinds, ("RGB", "L", "L"), strict=True))
            assert image.shape == (64, 64, 3) and label.shape == (64, 64)
            rows = [row for row in table if row["scene"] == scene]
            assert [int(row["instance"]) for row in rows] == np.unique(instance).tolist() == list(range(len(rows)))
            for k, row in enumerate(rows):
                assert int(row["pixels"]) == (instance == k).sum()
                assert (label[instance == k] == CLASS_NAMES.index(row["class"])).all()


def test_replaces_an_earlier_world(tmp_path, monkeypatch):
    def call(*args: object) -> None:
        monkeypatch.setattr("sys.argv", [COMMAND, "--out", str(tmp_path / "a"), "--workers", "1", *map(str, args)])
        args = make_scenes.parse()
        for split, count in (("train", args.num), ("val", args.num_val)):
            make_scenes.make_split(args.out, split, count, args.size, args.seed, args.workers)

    call("--num", 3, "--num_val", 2)
    (tmp_path / "a" / "train_img" / "mine.png").write_bytes(b"mine")
    old = files(tmp_path / "a")
    call("--num", 2, "--num_val", 1, "--seed", 1)
    new = files(tmp_path / "a")
    assert set(old) - set(new) == {f"{split}_{kind}/scene_{k:05d}.png" for split, k in (("train", 2), ("val", 1))
                                   for kind in ("img", "label", "inst")}
    assert new.pop("train_img/mine.png") == b"mine"
    assert all(new[name] != old[name] for name in new)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, run, number):
    options = ["--out", tmp_path, "--num", 100, "--num_val", 1, "--workers", 2]
    process = start("-m", "datasets.make_scenes", *options)
    while len(list(tmp_path.glob("train_inst/scene_*"))) < 4 and process.poll() is None:
        time.sleep(0.005)
    said = end_by(process, number, 2, True, np.random.default_rng(number))
    assert said == "interrupted\n" and process.returncode == 128 + number
    drawn = files(tmp_path)
    assert 12 <= len(drawn) < 300 and not [name for name in drawn if ".writing-" in name]
    assert run(COMMAND, *options).returncode == 0
    complete = files(tmp_path)
    assert len(complete) == 3 * 101 + 3 and drawn.items() <= complete.items()


def test_default_number_of_validation_scenes(monkeypatch):
    for num, expected in ((1, 16), (160, 16), (1000, 100)):
        monkeypatch.setattr("sys.argv", [COMMAND, "--out", "x", "--num", str(num)])
        assert make_scenes.parse().num_val == expected


@pytest.mark.parametrize(("option", "value", "message"), [
    ("--size", 65, "--size 65: choose a multiple of 16 from 64 to 512"),
    ("--size", 48, "--size 48: choose a multiple of 16 from 64 to 512"),
    ("--size", 528, "--size 528: choose a multiple of 16 from 64 to 512"),
    ("--num", 0, "--num: 0 is too small: it must be at least 1"),
    ("--num_val", 0, "--num_val: 0 is too small: it must be at least 1"),
    ("--workers", -1, "--workers: -1 is too small: it must be at least 1"),
    ("--seed", -1, "--seed: -1 is too small: it must be at least 0"),
])
def test_bad_values(tmp_path, monkeypatch, option, value, message):
    monkeypatch.setattr("sys.argv", [COMMAND, "--out", str(tmp_path / "a"), option, str(value)])
    with pytest.raises(UserError, match=message):
        make_scenes.parse()


@pytest.mark.parametrize("args", [
    ("--size", "65"), ("--num", "many"), ("--num", "0"), ("--out", "FILE"), ("--out", "FILE/a"), ("--nun", "3"),
])
def test_errors_are_one_line(tmp_path, run, args):
    (tmp_path / "file").write_text("text")
    args = [arg.replace("FILE", str(tmp_path / "file")) for arg in args]
    done = run(COMMAND, "--out", tmp_path / "a", "--num_val", 1, *(("--num", 1) if "--num" not in args else ()), *args)
    assert done.returncode == 2 and done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in done.stderr
    assert args[1] in line or args[0] in line
    assert not (tmp_path / "a").exists()
