"""Instance maps: renumbering against the loop that says what is meant, components, runs that are killed, wrong uses."""
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import make_instances
from data.instance_maps import split_components
from tests.conftest import ROOT
from tests.processes import end_by, start, wait_until_gone
from util.errors import UserError
from util.parallel import run_parallel
from util.ranks import renumber


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
    ("coco", "train_label/1.png", "train_inst/1.png"),
    ("custom", "val_label/1.bmp", "val_inst/1.png"),
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
    for _ in range(2):  # once more: results are not taken for sources
        call(monkeypatch, "--path", tmp_path, "--dataset", "cityscapes")
        check(folder / "ulm_0_0_gtFine_instanceReIds.png", instance)
        check(folder / "ulm_0_1_gtFine_instanceReIds.png", crowded, mode="I;16")
        assert len(list(folder.iterdir())) == 5
        assert "2 instance maps" in capsys.readouterr().out


def test_own_folders(tmp_path, monkeypatch):
    label = ids(0, 12, 150, np.uint8)
    write(tmp_path / "my labels/a.tif", label)
    folders = "--label_dir", tmp_path / "my labels", "--instance_dir", tmp_path / "made/inst"
    call(monkeypatch, "--dataset", "custom", *folders)
    check(tmp_path / "made/inst/a.png", label)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 400)])
def test_renumbering(dtype, shape):
    random = np.random.default_rng(0)
    coarse = random.integers(0, np.iinfo(dtype).max, (-(-shape[0] // 7), -(-shape[1] // 7)), dtype, endpoint=True)
    for map_ in (np.kron(coarse, np.ones((7, 7), dtype))[:shape[0], :shape[1]], np.full(shape, np.iinfo(dtype).max),
                 np.asfortranarray(random.integers(0, 200, shape).astype(dtype))):
        assert np.array_equal(renumber(map_), np.unique(map_, return_inverse=True)[1].reshape(shape))


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


# --- components ------------------------------------------------------------------------------------------------------

SCENE = np.array([[5, 5, 0, 7, 7, 0],
                  [5, 0, 0, 0, 7, 0],
                  [0, 5, 0, 7, 0, 7],
                  [0, 0, 0, 0, 0, 0],
                  [7, 7, 0, 5, 0, 5]])


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, [[1, 1, 0, 4, 4, 0], [1, 0, 0, 0, 4, 0], [0, 1, 0, 4, 0, 4], [0, 0, 0, 0, 0, 0], [5, 5, 0, 2, 0, 3]]),
    ({"min_area": 2}, [[1, 1, 0, 3, 3, 0], [1, 0, 0, 0, 3, 0], [0, 1, 0, 3, 0, 3], [0] * 6, [4, 4, 0, 2, 0, 2]]),
    ({"min_area": 5}, [[1, 1, 0, 2, 2, 0], [1, 0, 0, 0, 2, 0], [0, 1, 0, 2, 0, 2], [0] * 6, [3, 3, 0, 1, 0, 1]]),
    ({"only": [7]}, [[1, 1, 0, 2, 2, 0], [1, 0, 0, 0, 2, 0], [0, 1, 0, 2, 0, 2], [0] * 6, [3, 3, 0, 1, 0, 1]]),
    ({"only": [5], "min_area": 3}, [[1, 1, 0, 3, 3, 0], [1, 0, 0, 0, 3, 0], [0, 1, 0, 3, 0, 3], [0] * 6,
                                    [3, 3, 0, 2, 0, 2]]),
])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_components(settings, expected, dtype):
    assert split_components(SCENE.astype(dtype), **settings).tolist() == expected


def flooded(classes: np.ndarray) -> np.ndarray:
    """The components, in the order in which they are first met, by filling each from its first pixel."""
    out = np.full(classes.shape, -1)
    for first in np.ndindex(classes.shape):
        if out[first] < 0:
            number, edge = out.max() + 1, [first]
            while edge:
                y, x = edge.pop()
                inside = 0 <= y < classes.shape[0] and 0 <= x < classes.shape[1]
                if inside and out[y, x] < 0 and classes[y, x] == classes[first]:
                    out[y, x] = number
                    edge += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return out


@pytest.mark.parametrize("count", [2, 5])
def test_components_against_filling(count):
    classes = np.random.default_rng(count).integers(0, count, (30, 40)).astype(np.uint8)
    found, expected = split_components(classes), flooded(classes)
    assert found.max() == expected.max()
    assert len({*zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True)}) == expected.max() + 1


def test_components_by_the_command(tmp_path, monkeypatch):
    dots = np.zeros((60, 60), np.uint8)
    dots[::2, ::2] = 3  # 900 regions of a pixel
    write(tmp_path / "annotations/a.png", dots)
    write(tmp_path / "annotations/b.png", SCENE.astype(np.uint8))
    options = "--path", tmp_path, "--dataset", "ade20k", "--split_components"
    made = tmp_path / "instances/a.png"

    call(monkeypatch, *options)
    with Image.open(made) as image:
        assert image.mode == "I;16" and np.asarray(image).max() == 900
    with Image.open(tmp_path / "instances/b.png") as image:
        assert np.array_equal(image, split_components(SCENE))
    call(monkeypatch, *options, "--min_area", 2)
    check(made, dots)
    call(monkeypatch, *options, "--split_classes", 0)
    check(made, dots)


# --- files that are there already ------------------------------------------------------------------------------------


def test_what_is_up_to_date_is_left_as_it_is(tmp_path, monkeypatch, capsys):
    source, made = tmp_path / "train/labels/0.png", tmp_path / "train/instances/0.png"
    for name in "0", "1":
        write(source.with_stem(name), ids(0, 12, 150, np.uint8))

    def remade(*options: str) -> bool:
        before = made.stat().st_ino, made.stat().st_mtime_ns
        call(monkeypatch, "--path", tmp_path, "--dataset", "celeba", *options)
        line = capsys.readouterr().out
        again = before != (made.stat().st_ino, made.stat().st_mtime_ns)
        assert ("0 made, 2 up to date" not in line) == again
        return again

    call(monkeypatch, "--path", tmp_path, "--dataset", "celeba")
    assert "2 made, 0 up to date" in capsys.readouterr().out
    assert not remade()
    assert remade("--overwrite")
    assert remade("--split_components") and not remade("--split_components")
    assert remade("--split_components", "--min_area", "3") and not remade("--split_components", "--min_area", "3")
    assert remade() and not remade()
    made.write_bytes(made.read_bytes()[:-20])
    assert remade() and not remade()
    made.write_bytes(b"")
    assert remade() and not remade()
    label = ids(1, 12, 150, np.uint8)
    write(source, label)
    os.utime(source, (1e9, 1e9))  # other content, but older than what was made: as unpacked from an archive
    assert remade() and not remade()
    check(made, label)


def test_a_missing_label_is_made_again(tmp_path, monkeypatch):
    mask = ids(4, 6, 7, np.uint8)
    write(tmp_path / "test_mask/a.png", mask)
    for _ in range(2):
        call(monkeypatch, "--path", tmp_path, "--dataset", "deepfashion")
        with Image.open(tmp_path / "test_label/a.png") as label:
            assert np.array_equal(label, mask)
        (tmp_path / "test_label/a.png").unlink()


@pytest.mark.parametrize("dataset", ["coco", "custom"])
def test_instance_maps_from_elsewhere_are_not_replaced_unasked(tmp_path, monkeypatch, capsys, dataset):
    label = ids(0, 12, 150, np.uint8)
    write(tmp_path / "val_label/1.png", label)
    theirs = write(tmp_path / "val_inst/1.png", label // 2)
    before = theirs.read_bytes()
    line = refused(monkeypatch, capsys, "--path", tmp_path, "--dataset", dataset)
    assert str(theirs) in line and "--overwrite" in line and theirs.read_bytes() == before
    call(monkeypatch, "--path", tmp_path, "--dataset", dataset, "--overwrite")
    check(theirs, label)


def test_temporary_files_of_killed_runs(tmp_path, monkeypatch):
    write(tmp_path / "train/labels/0.png", ids(0, 12, 150, np.uint8))
    folder = tmp_path / "train/instances"
    folder.mkdir()
    for name in (".writing-abc.png", ".keep"):
        (folder / name).write_text("x")
    call(monkeypatch, "--path", tmp_path, "--dataset", "celeba")
    assert sorted(path.name for path in folder.iterdir()) == [".keep", "0.png"]


def test_killed_at_several_points(tmp_path, run):
    maps = {f"{n}.png": ids(n, 300, 40000, np.uint16).repeat(12, 0).repeat(10, 1) for n in range(24)}
    for name, map_ in maps.items():
        write(tmp_path / "annotations" / name, map_)
    folder, options = tmp_path / "instances", ["--path", str(tmp_path), "--dataset", "ade20k", "--workers", "2"]
    expected = {name: renumbered(map_[::12, ::10]).repeat(12, 0).repeat(10, 1) for name, map_ in maps.items()}

    def whole_maps() -> dict[str, int]:
        """Time of change of every map; none may be half-written."""
        for path in folder.glob("[!.]*"):
            with Image.open(path) as image:
                assert np.array_equal(image, expected[path.name])
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}

    finished = {}
    for enough, kill in ((2, os.kill), (6, os.killpg), (12, os.killpg)):  # with its workers, or alone
        process = subprocess.Popen([sys.executable, str(ROOT / "make_instances.py"), *options], cwd=ROOT,
                                   start_new_session=True, stdout=subprocess.DEVNULL)
        while (not folder.exists() or len(list(folder.iterdir())) < enough) and process.poll() is None:
            time.sleep(0.002)
        kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wait_until_gone(process.pid)
        before, finished = finished, whole_maps()
        assert before.items() <= finished.items() and len(finished) < len(maps)
    done = run("make_instances.py", *options)
    assert done.returncode == 0 and f"{24 - len(finished)} made, {len(finished)} up to date" in done.stdout
    assert finished.items() <= whole_maps().items() and whole_maps().keys() == maps.keys()


# --- wrong uses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "expected"), [
    (["--dataset", "ade20k"], "--path"),
    (["--dataset", "custom", "--label_dir", "."], "--instance_dir"),
    (["--dataset", "custom", "--label_dir", ".", "--instance_dir", "./"], "--instance_dir ./"),
    (["--dataset", "custom", "--label_dir", ".", "--instance_dir", "i", "--path", "."], "--path"),
    (["--dataset", "coco", "--label_dir", ".", "--instance_dir", "i"], "custom"),
    (["--dataset", "custom", "--label_dir", "no such", "--instance_dir", "i"], "--label_dir no such"),
    (["--dataset", "cityscapes", "--path", ".", "--split_components"], "--split_components"),
    (["--dataset", "celeba", "--path", ".", "--min_area", "9"], "--split_components"),
    (["--dataset", "celeba", "--path", ".", "--split_classes", "9"], "--split_components"),
    (["--dataset", "celeba", "--path", ".", "--split_components", "--min_area", "0"], "--min_area: 0"),
    (["--dataset", "celeba", "--path", ".", "--workers", "0"], "--workers: 0"),
])
def test_options_that_do_not_go_together(monkeypatch, capsys, options, expected):
    assert expected in refused(monkeypatch, capsys, *options)


def test_two_maps_of_one_name(tmp_path, monkeypatch, capsys):
    for name in "a.png", "a.bmp":
        write(tmp_path / "annotations" / name, ids(0, 12, 150, np.uint8))
    line = refused(monkeypatch, capsys, "--path", tmp_path, "--dataset", "ade20k")
    assert "a.png" in line and "a.bmp" in line and not (tmp_path / "instances").exists()


def test_a_bad_file_in_a_worker(tmp_path, run):
    label = ids(0, 12, 150, np.uint8)
    for n in range(12):
        write(tmp_path / f"annotations/{n:02}.png", label)
    bad = tmp_path / "annotations/05.png"
    bad.write_bytes(bad.read_bytes()[:150])
    done = run("make_instances.py", "--path", tmp_path, "--dataset", "ade20k", "--workers", 3, timeout=60)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: cannot read {bad}")
    for path in (tmp_path / "instances").iterdir():
        check(path, label)


# --- processes -------------------------------------------------------------------------------------------------------


def test_results_come_in_order():
    for workers in 1, 3:
        powers = run_parallel(functools.partial(pow, 2), range(20), workers, "powers", "power")
        assert powers == [2**n for n in range(20)]


def test_a_process_that_is_killed():
    with pytest.raises(UserError, match=r"--workers 2: .*try --workers 1"):
        run_parallel(os._exit, [1, 1], 2, "ends", "end")


def _fail_at_three(folder: Path, number: int) -> None:
    if number == 3:
        raise UserError("three")
    (folder / str(number)).touch()
    time.sleep(0.05)


def test_a_failure_ends_it_all(tmp_path):
    with pytest.raises(UserError, match=r"^three$"):
        run_parallel(functools.partial(_fail_at_three, tmp_path), range(1000), 2, "numbers", "number")
    assert len(list(tmp_path.iterdir())) < 20


def test_a_defect_in_a_worker_is_told():
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError"):
        run_parallel(functools.partial(divmod, 1), [1, 0, 1], 2, "numbers", "number")


def _interrupted(folder: Path, number: int) -> None:
    (folder / str(number)).touch()
    if number == 1:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_are_handled_as_before_in_the_end(workers, tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs in the background ignore it
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        run_parallel(functools.partial(pow, 2), range(9), workers, "powers", "power")
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        if workers == 1:
            with pytest.raises(KeyboardInterrupt):
                run_parallel(functools.partial(_interrupted, tmp_path), range(9), workers, "numbers", "number")
            assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}
        else:  # a worker leaves it to the parent
            run_parallel(functools.partial(_interrupted, tmp_path), range(9), workers, "numbers", "number")
            assert len(list(tmp_path.iterdir())) == 9
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_end_the_command(tmp_path, run, workers):
    map_ = ids(0, 300, 40000, np.uint16).repeat(12, 0).repeat(10, 1)
    first = write(tmp_path / "annotations/0.png", map_)
    for n in range(1, 1500):
        os.link(first, first.with_stem(str(n)))
    folder, random = tmp_path / "instances", np.random.default_rng(workers)
    options = ["--path", tmp_path, "--dataset", "ade20k", "--workers", workers]

    finished: set[str] = set()
    for number, times, group in ((signal.SIGINT, 1, True), (signal.SIGINT, 1, False), (signal.SIGTERM, 1, False),
                                 (signal.SIGTERM, 3, True), (signal.SIGKILL, 1, False),
                                 *((signal.SIGINT, times, times % 2 == 0) for times in (2, 3, 5, 8, 20))):
        process = start("make_instances.py", *options)
        while len(list(folder.glob("[!.]*"))) < len(finished) + 3 and process.poll() is None:
            time.sleep(0.002)
        time.sleep(0.1 * random.random())
        said = end_by(process, number, times, group, random)
        killed = number == signal.SIGKILL
        assert process.returncode == (-number if killed else 128 + number), said
        assert said == ("" if killed else "interrupted\n")
        before, finished = finished, {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        assert before < finished and len(finished) < 1500
        half_written = list(folder.glob(".writing-*"))
        assert len(half_written) <= (killed and workers == 1)  # a worker of a killed parent finishes its map
        for path in half_written:
            path.unlink()
    for label_map in [path for path in first.parent.iterdir() if path.name not in finished][20:]:
        label_map.unlink()
    done = run("make_instances.py", *options)
    assert done.returncode == 0 and f"20 made, {len(finished)} up to date" in done.stdout
    for path in folder.glob("[!.]*"):
        with Image.open(path) as image:
            assert image.size == map_.shape[::-1]


@pytest.mark.parametrize("workers", [1, 2])
def test_work_that_takes_long_is_broken_off(tmp_path, workers):
    process = start("-c", f"""
import time
from pathlib import Path
from util.errors import command
from util.parallel import run_parallel

def work(number):
    Path({str(tmp_path)!r}, str(number)).touch()
    time.sleep(60)

command(lambda: run_parallel(work, range(4), {workers}, "naps", "nap"))()
""")
    while len(list(tmp_path.iterdir())) < workers:
        time.sleep(0.02)
    assert end_by(process, signal.SIGINT, 3, True, np.random.default_rng(0)) == "interrupted\n"
    assert process.returncode == 130 and len(list(tmp_path.iterdir())) == workers
