"""The example world: deterministic, consistent, and as diverse as its tables say."""
import csv
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from datasets import make_scenes
from datasets.make_scenes import CLASS_NAMES, THINGS, draw_scene

STUFF = {"sky", "hill", "meadow", "road", "lake"}


def scenes(number, size=64):
    return [draw_scene(np.random.default_rng([7, n]), size) for n in range(number)]


@pytest.fixture(scope="module")
def world():
    return scenes(60)


@pytest.mark.parametrize("size", [64, 128])
def test_a_scene_is_consistent(size):
    for scene in scenes(8, size):
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        assert scene.label.shape == scene.instance.shape == (size, size)
        ids, counts = np.unique(scene.instance, return_counts=True)
        assert ids.tolist() == list(range(len(scene.styles)))
        assert counts.min() >= 6 * (size // 64) ** 2 // 2
        for i, (kind, _) in enumerate(scene.styles):
            assert set(np.unique(scene.label[scene.instance == i])) == {kind}


def test_the_world_has_classes_whose_things_occur_often_and_overlap(world):
    assert len(CLASS_NAMES) >= 8 and len(THINGS) >= 4
    several, touching = defaultdict(int), 0
    for scene in world:
        kinds = np.array([kind for kind, _ in scene.styles])
        for kind in THINGS:
            several[kind] += (kinds == kind).sum() > 1
        beside = scene.instance[:, 1:] != scene.instance[:, :-1]
        things = np.isin(scene.label, list(THINGS))
        touching += (beside & things[:, 1:] & things[:, :-1]).any()
    assert all(several[kind] > 5 for kind in THINGS)
    assert touching > 30
    assert len({kind for scene in world for kind, _ in scene.styles}) == len(CLASS_NAMES)


def test_looks_follow_the_styles(world):
    """The colour an instance was given shows in the picture, and some classes have several modes."""
    given, seen, modes = defaultdict(list), defaultdict(list), defaultdict(set)
    for scene in world:
        for i, (kind, style) in enumerate(scene.styles):
            name = CLASS_NAMES[kind]
            modes[name].add(style.mode)
            where = scene.instance == i
            if where.sum() > 60:
                given[name].append(style.color)
                seen[name].append(scene.image[where].mean(0))
    for name in ("sky", "meadow", "tree", "car", "person", "balloon"):
        red = np.array(given[name])[:, 0], np.array(seen[name])[:, 0]
        assert np.corrcoef(*red)[0, 1] > 0.9, name
    assert {name: len(modes[name]) for name in ("sky", "car", "house", "balloon", "road")} == {
        "sky": 3, "car": 6, "house": 4, "balloon": 3, "road": 2}


def read(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_are_the_same_whatever_the_workers(tmp_path, run):
    args = ["datasets/make_scenes.py", "--num", 9, "--num_val", 2, "--seed", 5]
    for name, workers in (("one", 1), ("two", 2)):
        process = run(*args, "--out", tmp_path / name, "--workers", workers)
        assert process.returncode == 0, process.stderr
    first = read(tmp_path / "one")
    assert first == read(tmp_path / "two")
    assert len(first) == 3 * 11 + 3

    with open(tmp_path / "one" / "styles_train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    instance = np.asarray(Image.open(tmp_path / "one" / "train_inst" / "scene_00003.png"))
    label = np.asarray(Image.open(tmp_path / "one" / "train_label" / "scene_00003.png"))
    table = [row for row in rows if row["scene"] == "scene_00003"]
    assert [int(row["pixels"]) for row in table] == np.bincount(instance.flat).tolist()
    assert [int(row["class"]) for row in table] == [label[instance == i][0] for i in range(len(table))]


def test_larger_pictures_show_the_same_scene():
    small, large = (draw_scene(np.random.default_rng(3), size) for size in (64, 128))
    assert (large.label[::2, ::2] == small.label).mean() > 0.9


@pytest.mark.parametrize(("args", "named"), [
    (["--size", 60], "--size"), (["--size", 72], "--size"), (["--size", 1024], "--size"), (["--num", 0], "--num"),
    (["--num", "many"], "--num"), (["--seed", -1], "--seed"),
], ids=str)
def test_wrong_use_gets_one_line(tmp_path, args, named, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make_scenes.py", "--out", str(tmp_path / "out"), *map(str, args)])
    with pytest.raises(SystemExit) as error:
        make_scenes.main()
    lines = capsys.readouterr().err.splitlines()
    assert error.value.code == 2 and len(lines) == 1 and named in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_refused(tmp_path, run):
    (tmp_path / "out").write_text("mine")
    process = run("datasets/make_scenes.py", "--out", tmp_path / "out")
    assert process.returncode == 2 and "--out" in process.stderr and "Traceback" not in process.stderr
    assert (tmp_path / "out").read_text() == "mine"
