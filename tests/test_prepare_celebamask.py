"""CelebAMask-HQ: label maps drawn from part masks, splits, files that are up to date, wrong archives."""
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import class_colors, create_dataset
from datasets import prepare_celebamask
from datasets.prepare_celebamask import PARTS
from options import TestOptions

COMMAND = "-m datasets.prepare_celebamask"
NUMBERS = (0, 1, 27999, 28000)


def write_face(root: Path, number: int, parts: dict[str, np.ndarray]) -> None:
    """A photo of 32x32 and masks, as the archive has them."""
    photo = root / f"CelebA-HQ-img/{number}.jpg"
    photo.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)).save(photo)
    for part, mask in parts.items():
        path = root / f"CelebAMask-HQ-mask-anno/{number // 2000}/{number:05}_{part}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).convert("RGB" if number % 2 else "L").save(path)


def random_parts(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    some = ["skin", *random.permutation(PARTS[1:])[:8].tolist()]
    return {part: (random.random((16, 16)) < 0.3).astype(np.uint8) * 255 for part in some}


@pytest.fixture
def archive(tmp_path) -> Path:
    for number in NUMBERS:
        write_face(tmp_path / "CelebAMask-HQ", number, random_parts(number))
    return tmp_path / "CelebAMask-HQ"


def call(monkeypatch, archive: Path, *options: object) -> Path:
    out = archive.parent / "out"
    monkeypatch.setattr(sys, "argv", ["prepare_celebamask.py", "--path", str(archive), "--out", str(out),
                                      *map(str, options)])
    prepare_celebamask.main()
    return out


def expected_label(parts: dict[str, np.ndarray]) -> list[list[int]]:
    order = ["skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
             "hair", "hat", "ear_r", "neck_l", "neck", "cloth"]
    return [[max((order.index(part) + 1 for part, mask in parts.items() if mask[y, x]), default=0) for x in range(16)]
            for y in range(16)]


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file()}


def test_as_a_command_with_the_split_by_number(archive, tmp_path, run):
    out = tmp_path / "out"
    done = run(COMMAND, "--path", archive, "--out", out, "--workers", 2)
    assert done.returncode == 0 and not done.stderr and "3 train, 1 test; 4 made, 0 up to date" in done.stdout
    splits = {number: "test" if number >= 28000 else "train" for number in NUMBERS}
    assert files(out).keys() == {"classes.txt", *(f"{split}/{file}" for n, split in splits.items()
                                                  for file in (f"images/{n}.jpg", f"labels/{n}.png"))}
    shown = class_colors(TestOptions().parse(["--dataset_mode", "celeba", "--dataroot", str(out), "--gpu_ids", "-1"]))
    assert (shown @ [0.3, 0.59, 0.11]).min() > 80 and len(np.unique(shown, axis=0)) == 19  # light, and all different
    for number in NUMBERS:
        split = out / splits[number]
        with Image.open(split / f"labels/{number}.png") as label:
            assert label.mode == "L" and np.asarray(label).tolist() == expected_label(random_parts(number))
        copied = (split / f"images/{number}.jpg").read_bytes()
        assert copied == (archive / f"CelebA-HQ-img/{number}.jpg").read_bytes()

    assert run("make_instances.py", "--path", out, "--dataset", "celeba").returncode == 0
    opt = TestOptions().parse(["--dataset_mode", "celeba", "--dataroot", str(out), "--gpu_ids", "-1", "--use_vae"])
    sample = create_dataset(opt)[0]
    assert sample["label"].shape == (1, 256, 256) and "image" in sample and sample["path"].endswith("28000.jpg")


def test_the_official_split(archive, monkeypatch, capsys):
    originals = dict(zip(NUMBERS, (119613, 99094, 121128, 81059), strict=True))
    (archive / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx     orig_idx    orig_file\n" +
        "".join(f"{n}       {other}      {other + 1:06}.jpg\n" for n, other in originals.items()))
    (archive / "list_eval_partition.txt").write_text(
        "".join(f"{other + 1:06}.jpg {split}\n" for other, split in zip(originals.values(), (2, 1, 0, 0), strict=True)))
    out = call(monkeypatch, archive)
    assert "2 train, 1 val, 1 test" in capsys.readouterr().out
    assert {name for name in files(out) if "labels" in name} == {
        "test/labels/0.png", "val/labels/1.png", "train/labels/27999.png", "train/labels/28000.png"}

    (archive / "list_eval_partition.txt").unlink()  # another split would leave faces in both
    assert "train/labels/28000.png: belongs to test" in refused(monkeypatch, capsys, archive)


def test_photos_resized(archive, monkeypatch):
    out = call(monkeypatch, archive, "--size", 20)
    with Image.open(out / "train/images/0.jpg") as image, Image.open(out / "train/labels/0.png") as label:
        assert image.size == (20, 20) and label.size == (16, 16)
        with Image.open(archive / "CelebA-HQ-img/0.jpg") as photo:
            expected = np.asarray(photo.resize((20, 20), Image.Resampling.BICUBIC), np.int16)
        assert np.abs(np.asarray(image, np.int16) - expected).mean() < 25  # noise: JPEG halves its colours' resolution


def test_what_is_up_to_date_is_left_as_it_is(archive, monkeypatch):
    out = call(monkeypatch, archive)
    before = files(out)

    def remade(*options: object) -> set[str]:
        nonlocal before
        call(monkeypatch, archive, *options)
        now, old = files(out), before
        before = now
        return {name for name in now if now[name] != old.get(name)}

    face = {"train/labels/1.png", "train/images/1.jpg"}
    assert remade() == set()
    assert remade("--overwrite") == before.keys() - {"classes.txt"}
    write_face(archive, 1, {"cloth": np.full((16, 16), 255, np.uint8)})
    assert remade() == face
    with Image.open(out / "train/labels/1.png") as label:
        assert (np.asarray(label) == 18).all()
    (out / "train/images/1.jpg").unlink()
    assert remade() == face and remade() == set()
    assert remade("--size", 16) == before.keys() - {"classes.txt"} and remade("--size", 16) == set()


def refused(monkeypatch, capsys, archive: Path, *options: object) -> str:
    """The line with which the command is refused; it must end with status 2."""
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, archive, *options)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


ANNOTATIONS = "CelebAMask-HQ-mask-anno"


@pytest.mark.parametrize(("spoil", "named"), [
    (lambda root: (root / "CelebA-HQ-img/1.jpg").unlink(), ["00001_", "photo"]),
    (lambda root: [path.unlink() for path in root.glob(f"{ANNOTATIONS}/0/00001_*")], ["1.jpg", "no masks"]),
    (lambda root: (root / "CelebA-HQ-img/1.jpg").write_bytes(b""), ["1.jpg", "cannot read"]),
    (lambda root: (root / f"{ANNOTATIONS}/0/00001_skin.png").write_text("hello"), ["00001_skin.png", "cannot read"]),
    (lambda root: (root / f"{ANNOTATIONS}/0/00001_chin.png").write_text(""), ["00001_chin.png"]),
    (lambda root: (root / "CelebA-HQ-img/me.jpg").write_bytes(b""), ["me.jpg"]),
    (lambda root: write_face(root, 1, {"skin": np.zeros((8, 8), np.uint8)}), ["00001_", "8x8"]),
    (lambda root: Image.new("RGB", (32, 24)).save(root / "CelebA-HQ-img/1.jpg"), ["1.jpg", "32x24"]),
    (lambda root: (root / "list_eval_partition.txt").write_text("000001.jpg 0\n"), ["CelebA-HQ-to-CelebA-mapping.txt"]),
    (lambda root: (root / "list_eval_partition.txt").write_text("image_id,partition\n"), ["list_eval_partition.txt"]),
    (lambda root: (root / "CelebA-HQ-img").rename(root / "images"), ["CelebA-HQ-img/*.jpg"]),
    (lambda root: (root / ANNOTATIONS).rename(root / "masks"), [ANNOTATIONS]),
])
def test_wrong_archives(archive, monkeypatch, capsys, spoil, named):
    spoil(archive)
    line = refused(monkeypatch, capsys, archive)
    assert all(name in line for name in named)
    for path in archive.parent.glob("out/*/*/*"):
        with Image.open(path) as image:
            image.load()


def test_a_photo_unknown_to_the_split(archive, monkeypatch, capsys):
    (archive / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n0 5 000006.jpg\n")
    (archive / "list_eval_partition.txt").write_text("000006.jpg 0\n")
    line = refused(monkeypatch, capsys, archive)
    assert "mapping.txt" in line and "photo 1 " in line


@pytest.mark.parametrize("options", [("--size", 0), ("--workers", 0), ("--path", "nowhere")])
def test_wrong_options(archive, monkeypatch, capsys, options):
    line = refused(monkeypatch, capsys, archive, *options)
    assert all(str(word) in line for word in options)


# ---- ready-made label maps


@pytest.fixture
def ready(tmp_path) -> Path:
    """Photos and palette PNGs of ids; names are no numbers."""
    root = tmp_path / "ready"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for n in range(12):
        random = np.random.default_rng(n)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(root / f"images/face{n:02}.jpg")
        mask = Image.fromarray(random.integers(0, 19, (32, 32), np.uint8), "P")
        mask.putpalette(random.integers(0, 256, 768, np.uint8).tobytes())
        mask.save(root / f"masks/face{n:02}.png")
    return root


def test_ready_made_maps_are_taken_as_they_are(ready, monkeypatch, capsys):
    out = call(monkeypatch, ready)
    assert "12 faces" in (printed := capsys.readouterr().out) and "split by name): 11 train, 1 test" in printed
    for n in range(12):
        split = out / ("test" if n == 11 else "train")
        ids = np.random.default_rng(n)
        ids.integers(0, 256, (32, 32, 3), np.uint8)
        with Image.open(split / f"labels/face{n:02}.png") as label:
            assert label.mode == "L" and np.array_equal(np.asarray(label), ids.integers(0, 19, (32, 32), np.uint8))
        assert (split / f"images/face{n:02}.jpg").read_bytes() == (ready / f"images/face{n:02}.jpg").read_bytes()
    before = files(out)
    call(monkeypatch, ready)
    assert files(out) == before
    assert "train/labels/face10.png: belongs to test" in refused(monkeypatch, capsys, ready, "--num_test", 2)
    for n in range(4, 12):
        for path in (ready / f"images/face{n:02}.jpg", ready / f"masks/face{n:02}.png"):
            path.unlink()
    shutil.rmtree(out)
    call(monkeypatch, ready)
    assert "3 train, 1 test" in capsys.readouterr().out  # of few faces, too, one is for testing


@pytest.mark.parametrize("size", [(1, 20000), (1000, 1)])
def test_thin_photos(ready, monkeypatch, capsys, size):
    Image.new("RGB", size).save(ready / "images/face03.jpg")
    Image.new("L", size).save(ready / "masks/face03.png")
    assert "face03.jpg: would be" in refused(monkeypatch, capsys, ready, "--size", 4096 if size[0] == 1 else 16)


@pytest.mark.parametrize(("spoil", "options", "named"), [
    (lambda root: (root / "masks/face03.png").unlink(), [], ["face03.jpg", "no partner"]),
    (lambda root: Image.new("L", (32, 32), 19).save(root / "masks/face03.png"), [], ["face03.png", "the id 19"]),
    (lambda root: None, ["--num_test", 12], ["--num_test 12", "12 photos"]),
    (lambda root: [path.unlink() for path in root.glob("*/*")], [], ["images/*.jpg"]),
])
def test_wrong_ready_made_maps(ready, monkeypatch, capsys, spoil, options, named):
    spoil(ready)
    line = refused(monkeypatch, capsys, ready, *options)
    assert all(name in line for name in named)


def test_the_number_of_tests_is_for_ready_made_maps(archive, monkeypatch, capsys):
    assert "--num_test 1: has an effect only on ready-made" in refused(monkeypatch, capsys, archive, "--num_test", 1)
