"""Pictures and label maps as other tools write them: read as they were meant, or with a line that says what is done."""
import os
import struct
import sys
import unicodedata
import zlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import make_instances
from data import class_colors, class_names, create_dataset
from data.image_files import orientation, read_ids, read_image, read_photo, to_instances, turned
from data.inspection import check_geometry, in_between
from data.kinds import save_class_names
from data.label_map import read_label_map
from data.label_space import LabelSpace
from data.sample import Files, SampleReader
from data.transforms import check_sizes
from metrics.images import ImageFolder
from options import TrainOptions
from tests.data_helpers import WHOLE, build, options, refusal, write
from tests.test_check import check  # noqa: F401 (a fixture)
from util import errors
from util.arguments import ArgumentParser
from util.errors import UserError


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch):
    monkeypatch.setattr(errors, "_said", set())


def grey_png(path: Path, ids: np.ndarray, bits: int) -> None:
    """Write a grey PNG of few bits, which Pillow cannot."""
    rows = b"".join(b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits:]).tobytes() for row in ids)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", *ids.shape[::-1], bits, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


# ---- stored numbers ----

@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_png_of_few_bits(tmp_path, bits):
    ids = (np.arange(64).reshape(8, 8) % 2**bits).astype(np.uint8)
    grey_png(tmp_path / "a.png", ids, bits)
    assert np.array_equal(read_ids(str(tmp_path / "a.png")), ids)
    assert np.asarray(read_photo(str(tmp_path / "a.png")))[..., 0].max() == (63 if bits == 8 else 255)


@pytest.mark.parametrize("most", [1, 3, 18, 255, 300, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_pgm_of_every_range(tmp_path, most, plain):
    ids = np.linspace(0, most, 64).astype(int).reshape(8, 8)
    body = " ".join(map(str, ids.ravel())).encode() if plain else ids.astype(">u2" if most > 255 else "u1").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P%d 8 8 %d\n" % (2 if plain else 5, most) + body)
    assert np.array_equal(read_ids(str(tmp_path / "a.pgm")), ids)


def test_white_is_zero(tmp_path):
    """Where 0 is the brightest, ids are still the numbers that the file has."""
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(255 - ids).save(tmp_path / "a.tif", tiffinfo={262: 1})
    content = bytearray((tmp_path / "a.tif").read_bytes())
    place = content.index(struct.pack("<HHII", 262, 3, 1, 1))
    content[place + 8] = 0
    (tmp_path / "a.tif").write_bytes(content)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.tif")), ids)  # for the eye
    assert np.array_equal(read_ids(str(tmp_path / "a.tif")), 255 - ids)
    (tmp_path / "a.pbm").write_bytes(b"P1 3 1\n0 1 1\n")
    assert read_ids(str(tmp_path / "a.pbm")).tolist() == [[0, 1, 1]]


def test_what_alters_ids_is_refused(tmp_path):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.save(tmp_path / "a.tif", compression="jpeg")
    assert "JPEG compression alters ids" in refusal(lambda: read_ids(str(tmp_path / "a.tif")))
    alpha = grey.copy()
    alpha.putalpha(grey)
    alpha.save(tmp_path / "a.png")
    assert "transparent" in refusal(lambda: read_ids(str(tmp_path / "a.png")))
    grey.putalpha(255)
    grey.save(tmp_path / "b.png")
    assert np.array_equal(read_ids(str(tmp_path / "b.png")), np.arange(64).reshape(8, 8))
    rows = b"".join(b"\0" + (np.arange(12) * 1000).astype(">u2").tobytes() for _ in range(2))  # 16 bits a channel
    grey_png(tmp_path / "c.png", np.zeros((2, 4), np.uint8), 8)
    content = (tmp_path / "c.png").read_bytes()
    head = b"IHDR" + struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(rows)
    (tmp_path / "c.png").write_bytes(content[:12] + head + struct.pack(">I", zlib.crc32(head))
                                     + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
                                     + content[-12:])
    assert "16 bits" in refusal(lambda: to_instances(read_image(str(tmp_path / "c.png")), "c.png"))


def test_many_pixels(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (20000, 10000)).save(path)  # 200 million
    assert read_image(str(path)).size == (20000, 10000)
    assert "million pixels" in refusal(lambda: read_image(str(path), 2**24))


# ---- colours ----

TABLE = "0 0 0 0 nothing\n200 0 0 3 roof\n0 200 0 5\n90 90 90 4\n"
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [90, 90, 90]], np.uint8)
IDS = np.array([0, 3, 5, 4])


def indexed(chosen: np.ndarray, order: list[int]) -> Image.Image:
    """A palette image of ``COLORS[chosen]``, its palette in this order."""
    image = Image.fromarray(np.argsort(order)[chosen].astype(np.uint8), "L").convert("P")
    image.putdata(np.argsort(order)[chosen].ravel().tolist())
    image.putpalette(COLORS[order].ravel().tolist())
    return image


@pytest.mark.parametrize("transparency", [None, 0])
def test_palettes_are_looked_up_in_the_table(tmp_path, transparency):
    (tmp_path / "table.txt").write_text(TABLE)
    opt = options("custom", tmp_path, label_nc=6, label_colors=str(tmp_path / "table.txt"), **WHOLE)
    paths = build(tmp_path, "custom", count=3)
    chosen = np.random.default_rng(0).integers(0, 4, (32, 64))
    for (label, _, _), order in zip(paths, ([0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 1, 0]), strict=True):
        extra = {} if transparency is None else {"transparency": transparency}
        indexed(chosen, order).save(label, **extra)
    for n in range(3):
        assert np.array_equal(create_dataset(opt)[n]["label"][0], IDS[chosen])
    two = np.where(chosen > 1, 90, 0).astype(np.uint8)  # what a packer makes of a picture without other colours
    write(paths[0][0], two)
    assert np.array_equal(create_dataset(opt)[0]["label"][0], np.where(two, 4, 0))
    write(paths[0][0], (chosen % 4).astype(np.uint8))  # greys that are no colours of the table: ids
    assert np.array_equal(create_dataset(opt)[0]["label"][0], chosen % 4)
    Image.fromarray(COLORS[chosen]).convert("CMYK").save(paths[0][0], "TIFF")
    assert refusal(lambda: create_dataset(opt)[0]).endswith("in a PNG with one channel, or RGB for --label_colors")


def test_palettes_that_differ(tmp_path, check, capsys):  # noqa: F811
    paths = build(tmp_path, "custom", count=2)
    chosen = np.tile(np.arange(64) // 16, (32, 1))
    for (label, _, _), order in zip(paths, ([0, 1, 2, 3], [0, 2, 1, 3]), strict=True):
        indexed(chosen, order).save(label)
    dataset = create_dataset(options("custom", tmp_path))
    assert list(dataset) and "has another palette than" in capsys.readouterr().out
    status, out, _, report = check("custom")
    assert status == 0 and "palettes differ: 2 ids are shown in several colours, such as 1 in (200, 0, 0)" in out
    assert "see DOUBT above" in out and report["splits"][0]["doubts"]
    indexed(chosen, [0, 1, 2, 3]).save(paths[1][0])
    assert "DOUBT" not in check("custom")[1]


def test_instance_maps_in_colours(tmp_path):
    ids = np.random.default_rng(0).choice([0, 7, 300, 70000, 2**24 - 1], (32, 64))
    ((_, _, path),) = build(tmp_path, "custom", count=1)
    write(path, np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8))
    assert np.array_equal(to_instances(read_image(str(path)), "x"), ids)
    sample = create_dataset(options("custom", tmp_path, **WHOLE))[0]
    assert np.array_equal(sample["instance"][0], np.searchsorted([0, 7, 300, 70000, 2**24 - 1], ids))


# ---- orientation tags ----

def tagged(path: Path, pixels: np.ndarray, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "lzw.tif", "raw.tif"])
def test_tags_of_every_format(tmp_path, tag, suffix):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    if suffix.endswith("tif"):
        Image.fromarray(pixels).save(path, tiffinfo={0x0112: tag}, compression={"lzw": "tiff_lzw"}.get(suffix[:3]))
    else:
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(pixels).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(str(path))
    assert np.array_equal(np.asarray(image.convert("RGB")), pixels)  # as they lie
    assert orientation(image) == (tag if tag > 1 else None)
    tagged(tmp_path / "b.png", pixels, tag)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "b.png")))
    assert np.array_equal(np.asarray(turned(image).convert("RGB")), upright)
    assert np.array_equal(np.asarray(read_photo(str(path))), upright)


@pytest.mark.parametrize(("as_shown", "said"), [(True, "turned by its"), (False, "read as its pixels lie, whatever")])
def test_measured_pictures(tmp_path, capsys, as_shown, said):
    """fid_score.py --orientation; without a size, all must have the one that the first has when it is read so."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    for name in "ab":
        tagged(tmp_path / f"{name}.png", pixels, 6)
    folder = ImageFolder.find(str(tmp_path), None, as_shown)
    expected = np.rot90(pixels, -1) if as_shown else pixels
    assert folder.size == expected.shape[:2]
    assert all(np.array_equal(image, expected) for image in folder.pixels(1))
    out = capsys.readouterr().out
    assert f"a.png: is {said}" in out and out.count("\n") == 1


@pytest.mark.parametrize("tag", [2, 3, 6, 8])
@pytest.mark.parametrize("mode", ["custom", "coco"])
@pytest.mark.parametrize("choice", ["auto", "apply", "ignore"])
def test_photo_and_label_map_fit(tmp_path, capsys, tag, mode, choice):
    """Only where both sizes fit there is a choice: pictures drawn on the turned photo with custom, else on the raw."""
    ((label, photo, instance),) = build(tmp_path, mode, count=1)
    pixels = np.random.default_rng(1).integers(0, 255, (32, 64, 3), np.uint8)
    photo.unlink()
    photo = photo.with_suffix(".png")
    tagged(photo, pixels, tag)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(photo)))
    opt = options(mode, tmp_path, orientation=choice, **WHOLE)
    turns_sides = tag in (6, 8)
    if choice == "apply" and turns_sides:
        assert "32x64" in refusal(lambda: create_dataset(opt)[0])  # the label map was drawn on the raw photo
        return
    expected = upright if choice == "apply" or (choice == "auto" and mode == "custom" and not turns_sides) else pixels
    sample = create_dataset(opt)[0]
    found = ((sample["image"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)
    if choice != "ignore":
        said = capsys.readouterr().out
        assert f"{photo}: is " in said and "see --orientation" in said
    if turns_sides and choice == "auto":  # and label maps that were drawn on the turned photo
        for path in (label, instance):
            write(path, np.asarray(Image.open(path)).T.copy())
        sample = create_dataset(options(mode, tmp_path, orientation=choice, **WHOLE))[0]
        assert np.array_equal(((sample["image"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), upright)


def test_tags_of_label_maps_are_kept_by_made_instances(tmp_path, monkeypatch, check):  # noqa: F811
    paths = build(tmp_path, "custom", count=2)
    for label, _, instance in paths:
        tagged(label, read_ids(str(label)), 3)
        instance.unlink()
    run_make_instances(monkeypatch, "--path", tmp_path, "--dataset", "custom")
    sample = create_dataset(options("custom", tmp_path, **WHOLE))[0]
    assert np.array_equal(sample["label"], sample["instance"])
    assert np.array_equal(sample["label"][0], read_ids(str(paths[0][0]))[::-1, ::-1])
    _, out, _, _ = check("custom")
    assert "2 files have an orientation tag; each is turned by its orientation tag" in out


def run_make_instances(monkeypatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_instances", "--workers", "1", *map(str, args)])
    make_instances.main()


# ---- ids ----

@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 65535), (np.uint8, 0), (np.int32, -1), (np.uint8, 254)])
def test_another_dont_care(tmp_path, check, dtype, value):  # noqa: F811
    ((path, _, _),) = build(tmp_path, "custom", count=1)
    ids = (read_ids(str(path)) + (1 if value == 0 else 0)).astype(dtype)
    ids[:5] = value
    path.unlink()
    path = path.with_suffix(".tif")
    Image.fromarray(ids).save(path)
    if value:
        assert "--dont_care_id" in refusal(lambda: create_dataset(options("custom", tmp_path, label_nc=8))[0])
    opt = options("custom", tmp_path, label_nc=8, contain_dontcare_label=True, dont_care_id=value, **WHOLE)
    assert np.array_equal(create_dataset(opt)[0]["label"][0], np.where(ids == value, 8, ids))
    status, _, _, report = check("custom", "--contain_dontcare_label", f"--dont_care_id={value}", "--label_nc", 8)
    names = {row["id"]: row["name"] for row in report["splits"][0]["classes"]}
    assert status == 0 and names[value] == "don't care"
    if value == 65535:
        assert "--dont_care_id 65535" in check("custom")[3]["command"]


def test_255_is_no_two_things(tmp_path):
    build(tmp_path, "custom", count=1)
    opt = options("custom", tmp_path, label_nc=300, contain_dontcare_label=True)
    assert "--dont_care_id" in refusal(lambda: create_dataset(opt))
    assert create_dataset(opt.replace(dont_care_id=65535))
    with pytest.raises(UserError, match="--contain_dontcare_label"):
        TrainOptions().parse(["--dataset_mode", "custom", "--gpu_ids", "-1", "--dont_care_id", "65535"])


def test_interpolated_and_compressed_maps_are_in_doubt(tmp_path, check):  # noqa: F811
    paths = build(tmp_path, "custom", count=2, height=96, width=96)
    clean = np.zeros((96, 96), np.uint8)
    clean[20:60, 30:70], clean[70:90, 10:40], clean[5, 5:90] = 9, 4, 2
    for label, _, _ in paths:
        write(label, clean)
    assert "DOUBT" not in check("custom", "--label_nc", 10)[1]  # a line of one pixel is thin, not in between
    smooth = Image.fromarray(clean).resize((64, 64), Image.Resampling.BILINEAR).resize((96, 96))
    smooth.save(paths[1][0])
    _, out, _, report = check("custom", "--label_nc", 10)
    assert "occur only on borders between lower and higher ids" in out
    assert set(in_between(np.asarray(smooth))) & {1, 3, 5, 6, 7, 8} and not in_between(clean)
    assert str(paths[1][0]) in report["splits"][0]["doubts"][0]


def test_classes_of_the_test_split_alone(tmp_path, check):  # noqa: F811
    build(tmp_path, "custom")
    ((label, _, _),) = build(tmp_path, "custom", "val", count=1)
    write(label, read_ids(str(label)) + np.uint8(2))
    assert "2 classes are in this split only, so that training never sees them: 7, 8" in check("custom")[1]


@pytest.mark.parametrize(("mode", "change", "expected"), [
    ("coco", {6: 182, 5: 11}, "categories themselves"),
    ("cityscapes", {6: 18}, "train ids"),
    ("ade20k", {0: 255}, "shifted by one"),
    ("celeba", {1: 17, 2: 13, 3: 17}, "another order"),
])
def test_ids_that_a_data_set_cannot_have(tmp_path, check, capsys, mode, change, expected):  # noqa: F811
    for label, _, _ in build(tmp_path, mode):
        ids = read_ids(str(label)).copy()
        for old, new in change.items():
            ids[ids == old] = new
        write(label, ids)
    out = check(mode)[1]
    assert f"DOUBT: {expected}" in out or expected in out.split("DOUBT: ")[1].splitlines()[0]
    if mode == "coco":
        assert "the id 182 counts as don't care" in out
        list(create_dataset(options(mode, tmp_path)))
        assert "has the id 11; COCO-Stuff's maps" in capsys.readouterr().out


def test_right_ids_are_in_no_doubt(tmp_path, check):  # noqa: F811
    for mode, ids in (("coco", [0, 181, 255]), ("cityscapes", [0, 7, 23, 26]), ("ade20k", [0, 1, 150]),
                      ("celeba", [0, 13, 13, 17])):
        for label, _, _ in build(tmp_path / mode, mode):
            write(label, np.tile(np.array(ids, np.uint8)[np.arange(64) * len(ids) // 64], (32, 1)))
        assert "DOUBT" not in check(mode, "--dataroot", tmp_path / mode)[1]


# ---- label maps that are remapped ----

MAP = "0 drop\n1 0 ground  # what one stands on\n2 0\n* same\n6 4 sky\n5 4\n255 drop\n"


def test_label_map(tmp_path, check, monkeypatch):  # noqa: F811
    (tmp_path / "map.txt").write_text(MAP)
    (tmp_path / "classes.txt").write_text("1 1 1 1 grass\n2 2 2 2 sand\n3 3 3 3 tree\n6 6 6 6 cloud\n")
    paths = build(tmp_path, "custom")
    opt = options("custom", tmp_path, label_map=str(tmp_path / "map.txt"), label_nc=5, contain_dontcare_label=True,
                  **WHOLE)
    expected = np.array([5, 0, 0, 3, 4, 4, 4])  # 0..6
    for n, (label, _, _) in enumerate(paths):
        assert np.array_equal(create_dataset(opt)[n]["label"][0], expected[read_ids(str(label))])
    names = class_names(opt)
    assert (names[0], names[3], names[4], names[5]) == ("ground", "tree", "sky", "don't care")
    assert class_colors(opt)[[0, 3, 4]].tolist() == [[1, 1, 1], [3, 3, 3], [6, 6, 6]]
    status, _, _, report = check("custom", "--label_map", tmp_path / "map.txt", "--label_nc", 5,
                                 "--contain_dontcare_label")
    assert status == 0 and [row["id"] for row in report["splits"][0]["classes"]] == [0, 3, 4, 255]
    scored = Namespace(**vars(opt), ignore_ids=[], num_classes=opt.num_classes)
    assert LabelSpace.of(scored).names == ["ground", "1", "2", "tree", "sky"]
    for _, _, instance in paths:
        instance.unlink()
    run_make_instances(monkeypatch, "--path", tmp_path, "--dataset", "custom", "--label_map", tmp_path / "map.txt")
    for label, _, instance in paths:
        merged = np.array([9, 0, 0, 1, 2, 2, 2])[read_ids(str(label))]
        assert np.array_equal(read_ids(str(instance)), np.searchsorted(np.unique(merged), merged))


@pytest.mark.parametrize(("text", "expected"), [
    ("", "has no ids"), ("1 2\nx 3\n", "line 2"), ("1 -3\n", "line 1"), ("1 2\n1 3\n", "line 2: 1 has a line already"),
    ("1\n", "line 1"), ("1 99999999\n", "line 1"),
    ("128 0 0 3 car\n", "line 1: `128 0 0 3 car` looks like a colour; --label_colors FILE reads lines `r g b id`"),
])
def test_bad_label_map(tmp_path, text, expected):
    (tmp_path / "map.txt").write_text(text)
    assert expected in refusal(lambda: read_label_map(str(tmp_path / "map.txt")))


def test_what_a_label_map_refuses(tmp_path):
    build(tmp_path, "custom")
    (tmp_path / "map.txt").write_text("0 0\n1 drop\n")
    opt = options("custom", tmp_path, label_map=str(tmp_path / "map.txt"))
    assert "drops ids" in refusal(lambda: create_dataset(opt))
    line = refusal(lambda: create_dataset(opt.replace(contain_dontcare_label=True))[0])
    assert "does not list; add a line `2 NEW`" in line


def test_instances_of_colour_layouts(tmp_path, monkeypatch):
    (tmp_path / "table.txt").write_text(TABLE)
    chosen = np.repeat(np.array([[0, 1, 0, 1, 2, 3]]), 3, 0)
    write(tmp_path / "train_label" / "a.png", COLORS[chosen])
    arguments = ["--path", tmp_path, "--dataset", "custom", "--split_components", "--label_colors",
                 tmp_path / "table.txt"]
    run_make_instances(monkeypatch, *arguments)
    assert read_ids(str(tmp_path / "train_inst" / "a.png"))[0].tolist() == [0, 2, 1, 3, 5, 4]
    (tmp_path / "table.txt").write_text(TABLE.replace(" 5", " 3"))  # another table: made anew
    run_make_instances(monkeypatch, *arguments)
    assert read_ids(str(tmp_path / "train_inst" / "a.png"))[0].tolist() == [0, 2, 1, 3, 3, 4]


# ---- names and sizes ----

def test_names_in_two_unicode_forms(tmp_path):
    paths = build(tmp_path, "custom")
    for n, (label, photo, _) in enumerate(paths):
        os.rename(label, label.with_name(unicodedata.normalize("NFD", f"Grüße {n}.png")))
        os.rename(photo, photo.with_name(unicodedata.normalize("NFC", f"Grüße {n}.png")))
    assert len(create_dataset(options("custom", tmp_path, no_instance=True, norm_mode="spade")).files) == 3


def test_jfif_subfolders_and_what_is_not_read(tmp_path, capsys):
    for n, (label, photo, instance) in enumerate(build(tmp_path, "custom", count=3)):
        Image.open(photo).save(photo.with_suffix(".jfif"), "JPEG")
        photo.unlink()
        for path in (label, photo.with_suffix(".jfif"), instance):
            (path.parent / f"day {n}").mkdir()
            path.rename(path.parent / f"day {n}" / path.name)
    for name in ("b.HEIC", "c.gif", "d.gif"):
        (photo.parent / name).touch()
    files = create_dataset(options("custom", tmp_path)).files
    assert [os.path.basename(file.photo) for file in files] == [f"scene {n} ä.jfif" for n in range(3)]
    out = capsys.readouterr().out
    assert "1 .heic file cannot be read; convert it if it belongs to the data\n" in out
    assert "2 .gif files cannot be read; convert those that belong to the data\n" in out


def test_home_folder_in_values(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = ArgumentParser()
    parser.add_argument("--folder")
    parser.add_argument("path", nargs="?")
    for words, folder, path in ((["--folder=~/ck"], "/home/me/ck", None), (["--folder", "~/ck"], "/home/me/ck", None),
                                (["~"], None, "/home/me"), (["--folder=a~/b", "x~"], "a~/b", "x~")):
        found = parser.parse_args(words)
        assert (found.folder, found.path) == (folder, path)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (1920, 1080), (300, 300), (100, 33), (33, 900)])
@pytest.mark.parametrize("layers", ["normal", "more"])
def test_sizes_that_work_are_named(tmp_path, width, height, layers):
    opt = options("custom", tmp_path, preprocess_mode="fixed", crop_size=width, aspect_ratio=width / height,
                  num_upsampling_layers=layers)
    line = refusal(lambda: check_sizes(opt))
    words = line.split("--preprocess_mode: ")[1].split()
    named = dict(zip(words[0:4:2], words[1:4:2], strict=True))
    better = opt.replace(crop_size=int(named["--crop_size"]), aspect_ratio=float(named["--aspect_ratio"]))
    check_sizes(better)
    multiple = 32 if layers == "normal" else 64
    assert better.image_size == tuple(max(1, round(side / multiple)) * multiple for side in (height, width))
    assert abs(better.image_size[0] - height) <= multiple and abs(better.image_size[1] - width) <= multiple
    other = refusal(lambda: check_geometry((width, height), opt.replace(preprocess_mode="scale_width", crop_size=256,
                                                                        aspect_ratio=2.0, load_size=width), "x.png"))
    assert "--preprocess_mode fixed --crop_size" in other or "--crop_size" in other


def test_a_sample_of_files_says_each_thing_once(tmp_path, capsys):
    paths = build(tmp_path, "custom", count=3)
    reader = SampleReader(options("custom", tmp_path, **WHOLE))
    for label, photo, _ in paths:
        tagged(photo, np.asarray(Image.open(photo)), 3)
        reader.read(Files(str(label), str(photo)))
    assert capsys.readouterr().out.count("orientation tag") == 1


# ---- networks and layouts that do not belong together ----

def test_dry_run_reads_label_maps(tmp_path, monkeypatch, capsys):
    import train
    build(tmp_path, "custom")
    line = ["train", "--dataset_mode", "custom", "--dataroot", tmp_path, "--gpu_ids", "-1", "--dry_run",
            "--no_vgg_loss", "--ngf", 4, "--ndf", 4, "--crop_size", 32, "--load_size", 32]
    for label_nc, expected in ((7, "3 of 3 label maps read"), (6, "has the label id 6, but the 6 classes")):
        monkeypatch.setattr(sys, "argv", [*map(str, line), "--label_nc", str(label_nc)])
        try:
            train.main()
        except SystemExit as end:
            assert label_nc == 6 and end.code == 2
        assert expected in "".join(capsys.readouterr())


def test_label_maps_that_are_read_are_spread_over_the_data_set(tmp_path):
    paths = build(tmp_path, "custom", count=5)
    dataset = create_dataset(options("custom", tmp_path, label_nc=7))
    Image.new("L", (40, 32), 9).save(paths[1][0])
    assert dataset.check_labels(3).startswith("3 of 5 label maps read")  # 0, 2 and 4
    Image.new("L", (40, 32), 9).save(paths[4][0])
    assert "label id 9" in refusal(lambda: dataset.check_labels(3))


def test_layouts_of_other_classes(tmp_path, capsys):
    opt = options("custom", tmp_path, "test", checkpoints_dir=str(tmp_path), name="exp", label_nc=4)
    build(tmp_path, "custom", "val")
    (tmp_path / "classes.txt").write_text("0 0 0 0 sky\n1 1 1 1 tree\n2 2 2 2 road\n")
    (tmp_path / "exp").mkdir()
    create_dataset(opt)  # nothing is known
    save_class_names(opt)
    create_dataset(opt)
    assert "note" not in capsys.readouterr().out
    (tmp_path / "classes.txt").write_text("0 0 0 0 sky\n1 1 1 1 tree\n2 2 2 2 street\n")
    create_dataset(opt)
    assert "1 of 3 classes of the networks have other names than those of the layouts: 2 is road there, street here" \
        in capsys.readouterr().out
    (tmp_path / "classes.txt").write_text("0 0 0 0 skin\n1 1 1 1 hair\n2 2 2 2 road\n")
    line = refusal(lambda: create_dataset(opt))
    assert "2 of 3" in line and "0 is sky there, skin here" in line
    create_dataset(opt.replace(isTrain=True, phase="test", needs_photos=False))  # new networks are to learn them


def test_layouts_that_are_squashed(tmp_path, capsys):
    build(tmp_path, "custom", height=48, width=64)
    for width, ratio, said in ((64, 0.5, True), (64, 1.0, False), (64, 2.0, False)):
        opt = options("custom", tmp_path, preprocess_mode="fixed", crop_size=width, aspect_ratio=ratio)
        assert create_dataset(opt)[0]
        line = "64x48 becomes 64x128 with --preprocess_mode fixed: 2.7 times as high"
        assert (line in capsys.readouterr().out) is said


def test_other_classes_do_not_hinder_training_or_checks(tmp_path, monkeypatch, check):  # noqa: F811
    """What an earlier run left in the folder is no matter of a new one, nor of its evaluation."""
    build(tmp_path, "custom", "val")
    build(tmp_path, "custom")
    (tmp_path / "classes.txt").write_text("0 0 0 0 sky\n1 1 1 1 tree\n")
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "class_names.txt").write_text("0 skin\n1 hair\n")
    where = ["--checkpoints_dir", tmp_path, "--name", "exp"]
    assert check("custom", *where)[0] == 0
    opt = TrainOptions().parse([str(arg) for arg in ("--dataset_mode", "custom", "--dataroot", tmp_path, "--gpu_ids",
                                                     "-1", *where)])
    assert len(create_dataset(opt.for_evaluation()).files) == 3


def test_uploads_are_turned(tmp_path):
    from editing.uploads import take_upload
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    tagged(tmp_path / "a.png", pixels, 6)
    reader = SampleReader(options("custom", tmp_path, **WHOLE))
    upload = take_upload((tmp_path / "a.png").read_bytes(), "a.png", "photo", reader)
    assert np.array_equal(upload.pixels, np.rot90(pixels, -1))
    assert "a.png" in refusal(lambda: take_upload(b"text", "a.png", "photo", reader))
