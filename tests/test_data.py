"""Data sets: what they read, how they transform it, in which order, and what they refuse."""
import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data.pix2pix_dataset
from data import DATASETS, EpochSampler, create_dataloader, create_dataset
from data.image_files import read_ids, read_photo, renumber
from data.transforms import SCALED_SIZE, choose_geometry
from options import TestOptions, TrainOptions
from util.errors import UserError

# paths of label map, photo and instance map, for a split ("train" or "val") and a number
TREES: dict[str, Callable[[str, int], tuple[str, str, str]]] = {
    "ade20k": lambda split, n: tuple(
        f"{kind}/{'training' if split == 'train' else 'validation'}/ADE_{split}_{n:08}.{suffix}"
        for kind, suffix in (("annotations", "png"), ("images", "jpg"), ("instances", "png"))),
    "cityscapes": lambda split, n: (f"gtFine/{split}/ulm/ulm_00_{n:02}_gtFine_labelIds.png",
                                    f"leftImg8bit/{split}/ulm/ulm_00_{n:02}_leftImg8bit.png",
                                    f"gtFine/{split}/ulm/ulm_00_{n:02}_gtFine_instanceReIds.png"),
    "celeba": lambda split, n: tuple(
        f"{split.replace('val', 'test')}/{kind}/{n}.{suffix}"
        for kind, suffix in (("labels", "png"), ("images", "jpg"), ("instances", "png"))),
    "deepfashion": lambda split, n: tuple(
        f"{split.replace('val', 'test')}_{kind}/{n}.{suffix}"
        for kind, suffix in (("label", "png"), ("img", "jpg"), ("inst", "png"))),
    "coco": lambda split, n: tuple(
        f"{split}_{kind}/{n:012}.{suffix}" for kind, suffix in (("label", "png"), ("img", "jpg"), ("inst", "png"))),
    "custom": lambda split, n: tuple(
        f"{split}_{kind}/scene {n} ä.{suffix}" for kind, suffix in (("label", "png"), ("img", "png"), ("inst", "png"))),
}
BASE_OPTIONS = {
    "no_instance": False, "norm_mode": "inade", "no_flip": False, "no_pairing_check": False, "aspect_ratio": 1.0,
    "max_dataset_size": sys.maxsize, "batchSize": 2, "nThreads": 0, "use_vae": False, "contain_dontcare_label": False,
    "cache_filelist_read": False, "cache_filelist_write": False, "seed": 0, "device": torch.device("cpu"),
    "label_colors": None,
}


def options(mode: str, root: Path, phase: str = "train", **changes) -> argparse.Namespace:
    """The data set's own defaults over those above, with small sizes."""
    parser = argparse.ArgumentParser()
    parser.set_defaults(**BASE_OPTIONS)
    DATASETS[mode].modify_commandline_options(parser, phase == "train")
    small = {"load_size": 20, "crop_size": 16, "dataset_mode": mode, "dataroot": str(root), "phase": phase,
             "isTrain": phase == "train", "serial_batches": phase != "train"}
    return argparse.Namespace(**{**vars(parser.parse_args([])), **small, **changes})


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def made_up(n: int, height: int = 24, width: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label map of ids 0..6, a photo that is a function of label and instance, and an instance map."""
    random = np.random.default_rng(n)
    label = random.integers(0, 7, (height, width)).astype(np.uint8)
    instance = random.integers(0, 40, (height, width)).astype(np.uint8)
    return label, painted(label, instance), instance


def painted(label: np.ndarray, instance: np.ndarray) -> np.ndarray:
    return np.stack([label * 30, instance * 6, 255 - label], axis=-1).astype(np.uint8)


def build(root: Path, mode: str, split: str = "train", count: int = 3, **size) -> list[tuple[Path, Path, Path]]:
    """A data set of ``count`` made-up samples; their paths."""
    paths = []
    for n in range(count):
        paths.append(tuple(write(root / path, array)
                           for path, array in zip(TREES[mode](split, n), made_up(n, **size), strict=True)))
    return paths


def refusal(action: Callable) -> str:
    """The line with which ``action`` is refused."""
    try:
        action()
    except UserError as error:
        error.__traceback__ = None  # it keeps loaders alive, whose workers are slow to end in a garbage collection
        line = str(error)
    else:
        pytest.fail("not refused")
    assert "\n" not in line
    return line


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key] for key in a)


# ---- what is read ----

@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("mode", DATASETS)
def test_every_mode_reads_its_tree(tmp_path, capsys, mode, phase):
    split = "train" if phase == "train" else "val"
    paths = build(tmp_path, mode, split)
    build(tmp_path, mode, "val" if split == "train" else "train", count=2)
    opt = options(mode, tmp_path, phase, preprocess_mode="fixed", crop_size=30, aspect_ratio=30 / 24, no_flip=True)
    dataset = create_dataset(opt)
    assert len(dataset) == 3
    assert capsys.readouterr().out == f"{mode}, {phase} split: 3 images (with photos, with instance maps)\n"
    for n, (_, photo_path, _) in enumerate(paths):
        label, _, instance = made_up(n)
        sample = dataset[n]
        assert sample.keys() == {"label", "instance", "image", "path"}
        assert sample["path"] == str(photo_path)
        assert sample["label"].dtype == torch.uint8 and sample["label"].shape == (1, 24, 30)
        assert sample["instance"].dtype == torch.int32
        assert sample["image"].dtype == torch.float32 and sample["image"].is_contiguous()
        assert np.array_equal(sample["label"][0], label)
        assert np.array_equal(sample["instance"][0], instance)
        photo = np.asarray(Image.open(photo_path)).transpose(2, 0, 1)
        torch.testing.assert_close(sample["image"], torch.tensor(photo / 127.5 - 1, dtype=torch.float32))


@pytest.mark.parametrize(("mode", "expected"), [
    ("ade20k", {"label_nc": 150, "contain_dontcare_label": True, "load_size": (286, 256), "crop_size": 256}),
    ("cityscapes", {"label_nc": 35, "contain_dontcare_label": False, "preprocess_mode": "fixed", "crop_size": 512,
                    "load_size": (512, 512), "aspect_ratio": 2.0, "num_upsampling_layers": "more"}),
    ("celeba", {"label_nc": 19, "contain_dontcare_label": False, "load_size": (286, 256), "crop_size": 256}),
    ("deepfashion", {"label_nc": 8, "noise_nc": 8, "load_size": (256, 256), "crop_size": 256}),
    ("coco", {"label_nc": 182, "contain_dontcare_label": True, "load_size": (286, 256), "crop_size": 256}),
    ("custom", {"label_nc": 13, "contain_dontcare_label": False, "load_size": (286, 256), "crop_size": 256}),
])
def test_defaults_of_every_mode(mode, expected):
    expected = {"preprocess_mode": "resize_and_crop", "aspect_ratio": 1.0, "noise_nc": 64,
                "num_upsampling_layers": "normal", **expected}
    for command, load_size in zip((TrainOptions, TestOptions), expected.pop("load_size"), strict=True):
        found = vars(command().parse(["--dataset_mode", mode, "--gpu_ids", "-1"]))
        assert {name: found[name] for name in expected} == expected
        assert found["load_size"] == load_size
    given = TrainOptions().parse(["--dataset_mode", mode, "--gpu_ids", "-1", "--load_size", "600", "--label_nc", "7"])
    assert (given.load_size, given.label_nc) == (600, 7)


def test_custom_reads_given_folders_whatever_the_phase(tmp_path):
    for kind, array in zip(("a", "b", "c"), made_up(0), strict=True):
        write(tmp_path / kind / "x.png", array)
    folders = {"label_dir": str(tmp_path / "a"), "image_dir": str(tmp_path / "b"), "instance_dir": str(tmp_path / "c")}
    for phase in ("train", "test"):
        (files,) = create_dataset(options("custom", tmp_path / "none", phase, **folders)).files
        assert files == tuple(str(tmp_path / kind / "x.png") for kind in "abc")
    without_instances = create_dataset(options("custom", tmp_path, **{**folders, "instance_dir": None}))
    assert without_instances.files[0].instance is None
    assert "need --label_dir" in refusal(lambda: create_dataset(
        options("custom", tmp_path, **{**folders, "label_dir": None})))


def test_cityscapes_takes_the_ids_of_the_norm_mode(tmp_path):
    for label, _, instance in build(tmp_path, "cityscapes"):
        renumbered = read_ids(str(instance))
        raw = np.where(renumbered == 5, 26001, renumbered).astype(np.uint16)
        write(label.with_name(label.name.replace("labelIds", "instanceIds")), raw)
    inade = create_dataset(options("cityscapes", tmp_path))
    spade = create_dataset(options("cityscapes", tmp_path, norm_mode="spade"))
    assert inade.files[0].instance.endswith("_instanceReIds.png")
    assert spade.files[0].instance.endswith("_instanceIds.png")
    for files in inade.files:
        Path(files.instance).unlink()
    assert "python make_instances.py --path DATA --dataset cityscapes" in refusal(
        lambda: create_dataset(options("cityscapes", tmp_path)))


def test_without_instance_maps_the_label_map_serves(tmp_path, capsys):
    for _, _, instance in build(tmp_path, "custom"):
        instance.unlink()
    instance.parent.rmdir()
    dataset = create_dataset(options("custom", tmp_path))
    assert "label maps serve as instance maps" in capsys.readouterr().out
    sample = dataset[0]
    assert sample["instance"].dtype == torch.int32
    assert torch.equal(sample["label"].int(), sample["instance"])


@pytest.mark.parametrize("mode", ["ade20k", "cityscapes", "celeba", "deepfashion", "coco"])
def test_missing_instance_maps(tmp_path, mode):
    for _, _, instance in build(tmp_path, mode):
        instance.unlink()
    remedy = "--no_instance" if mode == "coco" else f"run python make_instances.py --path DATA --dataset {mode}"
    line = refusal(lambda: create_dataset(options(mode, tmp_path)))
    assert "no instance maps" in line and remedy in line
    assert create_dataset(options(mode, tmp_path, no_instance=True)).files[0].instance is None
    some = build(tmp_path, mode)
    some[1][2].unlink()
    line = refusal(lambda: create_dataset(options(mode, tmp_path)))
    assert line.startswith("1 label maps without instance map") and some[1][0].name in line and remedy in line


def test_no_instance_keeps_the_instance_maps_that_inade_needs(tmp_path):
    build(tmp_path, "coco")
    assert create_dataset(options("coco", tmp_path, no_instance=True)).files[0].instance
    assert not create_dataset(options("coco", tmp_path, no_instance=True, norm_mode="spade")).files[0].instance


def test_photos_are_optional_where_nothing_needs_them(tmp_path):
    paths = build(tmp_path, "coco", "val")
    for _, photo, _ in paths:
        photo.unlink()
    sample = create_dataset(options("coco", tmp_path, "test"))[0]
    assert sample.keys() == {"label", "instance", "path"} and sample["path"] == str(paths[0][0])
    assert "use_vae" in refusal(lambda: create_dataset(options("coco", tmp_path, "test", use_vae=True)))
    paths[0][1].parent.rmdir()
    assert len(create_dataset(options("coco", tmp_path, "test"))) == 3
    assert "training" in refusal(lambda: create_dataset(options("coco", tmp_path, "test", isTrain=True)))


def test_dont_care_becomes_the_last_class(tmp_path):
    ((path, _, _),) = build(tmp_path, "coco", count=1)
    label = read_ids(str(path)).copy()
    label[:12] = 255
    write(path, label)
    sample = create_dataset(options("coco", tmp_path, "train", preprocess_mode="fixed", crop_size=30,
                                    aspect_ratio=30 / 24, no_flip=True, label_nc=7))[0]
    assert np.array_equal(sample["label"][0], np.where(label == 255, 7, label))
    line = refusal(lambda: create_dataset(options("coco", tmp_path, contain_dontcare_label=False))[0])
    assert str(path) in line and "255" in line and "--contain_dontcare_label" in line and "--label_nc 256" in line


@pytest.mark.parametrize(("label_nc", "dtype"), [(255, torch.uint8), (256, torch.int32), (300, torch.int32)])
def test_label_type_holds_all_classes(tmp_path, label_nc, dtype):
    ((path, _, _),) = build(tmp_path, "coco", count=1)
    label = np.full((24, 30), 255, np.uint16)
    label[0, 0] = label_nc - 1
    write(path, label)
    sample = create_dataset(options("coco", tmp_path, "train", preprocess_mode="fixed", crop_size=30,
                                    aspect_ratio=30 / 24, no_flip=True, label_nc=label_nc))[0]
    assert sample["label"].dtype == dtype
    assert sample["label"].max() == label_nc
    assert sample["label"][0, 0, 0] == (label_nc if label_nc - 1 == 255 else label_nc - 1)


def test_instance_ids_above_255_are_renumbered(tmp_path):
    ((_, _, path),) = build(tmp_path, "coco", count=1)
    whole = {"preprocess_mode": "fixed", "crop_size": 30, "aspect_ratio": 30 / 24, "no_flip": True}
    ids = np.full((24, 30), 26001, np.uint16)
    ids[3:9], ids[15:] = 7, 256
    write(path, ids)
    assert np.array_equal(create_dataset(options("coco", tmp_path, **whole))[0]["instance"][0],
                          np.select([ids == 7, ids == 256], [0, 1], 2))
    ids[ids > 255] = 255
    write(path, ids)
    assert np.array_equal(create_dataset(options("coco", tmp_path, **whole))[0]["instance"][0], ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("count", [1, 5, 256, 257, 3000])
def test_renumber(dtype, count):
    random = np.random.default_rng(count)
    count = min(count, 256) if dtype == np.uint8 else count
    values = random.choice(min(np.iinfo(dtype).max, 10**6) + 1, count, replace=False).astype(dtype)
    ids = values[np.r_[:count, random.integers(0, count, 4000 - count)]].reshape(40, 100)
    expected = np.zeros_like(ids, dtype=np.int64)
    for rank, value in enumerate(sorted(values)):
        expected[ids == value] = rank
    found = renumber(ids)
    assert found.dtype == (np.uint8 if count <= 256 else np.uint16)
    assert np.array_equal(found, expected)


def test_ids_of_every_kind_of_file(tmp_path):
    ids = np.array([[0, 3], [2, 1]], np.uint8)
    palette = Image.fromarray(ids).convert("P")
    palette.putdata(ids.ravel().tolist())
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    palette.save(tmp_path / "palette.png")
    write(tmp_path / "sixteen.png", ids.astype(np.uint16) * 20000)
    write(tmp_path / "thirtytwo.tif", ids.astype(np.int32) * 100000)
    write(tmp_path / "one.png", ids > 1)
    assert read_ids(str(tmp_path / "palette.png")).tolist() == ids.tolist()
    assert read_ids(str(tmp_path / "sixteen.png")).tolist() == (ids.astype(int) * 20000).tolist()
    assert read_ids(str(tmp_path / "thirtytwo.tif")).tolist() == (ids.astype(int) * 100000).tolist()
    assert read_ids(str(tmp_path / "one.png")).tolist() == (ids > 1).astype(int).tolist()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA"])
def test_photos_of_every_kind_become_rgb(tmp_path, mode):
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    Image.new("RGB", (4, 2), (102, 102, 102)).convert(mode).save(path)
    photo = read_photo(str(path))
    assert (photo.mode, photo.size, photo.getpixel((0, 0))) == ("RGB", (4, 2), (102, 102, 102))


# ---- transforms ----

@pytest.mark.parametrize(("mode", "scaled", "cropped"), [
    ("resize_and_crop", (40, 40), (32, 32)),
    ("crop", (60, 45), (32, 32)),
    ("scale_width", (40, 30), (40, 30)),
    ("scale_shortside", (53, 40), (53, 40)),
    ("scale_shortside_and_crop", (53, 40), (32, 32)),
    ("fixed", (32, 16), (32, 16)),
    ("none", (64, 32), (64, 32)),
])
def test_sizes_of_every_preprocess_mode(mode, scaled, cropped):
    opt = argparse.Namespace(preprocess_mode=mode, load_size=40, crop_size=32, aspect_ratio=2.0, no_flip=False)
    assert mode in SCALED_SIZE
    for random in (None, np.random.default_rng(0)):
        geometry = choose_geometry((60, 45), opt, random, "x.png")
        left, upper, right, lower = geometry.box
        assert geometry.size == scaled
        assert (right - left, lower - upper) == cropped
        assert min(left, upper) >= 0 and right <= scaled[0] and lower <= scaled[1]
    tall = argparse.Namespace(**{**vars(opt), "preprocess_mode": "scale_width_and_crop"})
    assert choose_geometry((45, 60), tall, None, "x.png").size == (40, 53)


def test_preprocess_modes_are_the_options(tmp_path):
    for mode in SCALED_SIZE:
        opt = TrainOptions().parse(["--preprocess_mode", mode, "--gpu_ids", "-1"])
        assert opt.preprocess_mode == mode


def test_scaling_is_bicubic_for_photos_and_nearest_for_ids(tmp_path):
    ((_, photo_path, _),) = build(tmp_path, "custom", count=1)
    opt = options("custom", tmp_path, no_flip=True, load_size=20, crop_size=20)
    sample = create_dataset(opt)[0]
    label, _, instance = made_up(0)
    for ids, key in ((label, "label"), (instance, "instance")):
        expected = Image.fromarray(ids).resize((20, 20), Image.Resampling.NEAREST)
        assert np.array_equal(sample[key][0], np.asarray(expected))
    expected = np.asarray(Image.open(photo_path).resize((20, 20), Image.Resampling.BICUBIC)) / 127.5 - 1
    np.testing.assert_allclose(sample["image"].permute(1, 2, 0), expected, atol=1e-6)


def test_crop_and_flip_are_the_same_for_all_three(tmp_path):
    build(tmp_path, "custom")
    dataset = create_dataset(options("custom", tmp_path, preprocess_mode="crop"))
    places = set()
    for epoch, n in itertools.product(range(40), range(3)):
        sample = dataset[epoch, n]
        label, instance = sample["label"][0].numpy(), sample["instance"][0].numpy().astype(np.uint8)
        photo = ((sample["image"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(photo, painted(label, instance))
        places.add(place_of(label, made_up(n)[0]))
    lefts, uppers, flips = (set(values) for values in zip(*places, strict=True))
    assert lefts == set(range(15)) and uppers == set(range(9)) and flips == {False, True}


def place_of(crop: np.ndarray, whole: np.ndarray) -> tuple[int, int, bool]:
    """Where ``crop`` was cut from ``whole``, and whether it was flipped: by trying."""
    height, width = crop.shape
    for left, upper in itertools.product(range(whole.shape[1] - width + 1), range(whole.shape[0] - height + 1)):
        window = whole[upper:upper + height, left:left + width]
        for flip in (False, True):
            if np.array_equal(crop, window[:, ::-1] if flip else window):
                return left, upper, flip
    raise AssertionError("not a crop of the image")


def test_no_flip_and_no_training(tmp_path):
    build(tmp_path, "custom")
    label = made_up(0)[0]
    dataset = create_dataset(options("custom", tmp_path, preprocess_mode="crop", no_flip=True))
    places = {place_of(dataset[epoch, 0]["label"][0].numpy(), label) for epoch in range(20)}
    assert len(places) > 5 and not any(flip for _, _, flip in places)
    dataset = create_dataset(options("custom", tmp_path, preprocess_mode="crop", isTrain=False))
    places = {place_of(dataset[epoch, 0]["label"][0].numpy(), label) for epoch in range(20)}
    assert places == {((30 - 16) // 2, (24 - 16) // 2, False)}


# ---- order, epochs and workers ----

def passes(loader, *epochs: int) -> list[dict]:
    batches = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_samples_depend_on_seed_and_epoch_alone(tmp_path):
    build(tmp_path, "custom", count=5)
    state = torch.get_rng_state()
    alone = passes(create_dataloader(options("custom", tmp_path)), 0, 1, 2)
    with_workers = create_dataloader(options("custom", tmp_path, nThreads=2))
    assert all(map(same, alone, passes(with_workers, 0, 1, 2)))
    assert all(map(same, alone[2:4], passes(with_workers, 1)))  # back to an earlier epoch
    next(iter(with_workers))  # broken off
    assert all(map(same, alone[4:6], passes(with_workers, 2)))
    assert torch.equal(state, torch.get_rng_state())  # the draws of the networks are not touched

    by_itself = create_dataloader(options("custom", tmp_path))  # without set_epoch, epochs follow one another
    assert all(map(same, alone, [batch for _ in range(3) for batch in by_itself]))
    assert not same(alone[0], alone[2]) and not same(alone[2], alone[4])
    other = passes(create_dataloader(options("custom", tmp_path, seed=1)), 0)
    assert not all(map(same, alone, other))
    unseeded = [passes(create_dataloader(options("custom", tmp_path, seed=None)), 0, 1) for _ in range(2)]
    assert not all(map(same, *unseeded))


def test_an_epoch_can_be_entered_in_its_middle(tmp_path):
    build(tmp_path, "custom", count=6)
    whole = passes(create_dataloader(options("custom", tmp_path)), 3, 4)
    loader = create_dataloader(options("custom", tmp_path))
    loader.set_epoch(3, start=2)
    assert all(map(same, whole[1:], [*loader, *loader]))


def test_order(tmp_path):
    build(tmp_path, "custom", "val", count=5)
    sampler = EpochSampler(50, seed=3, shuffle=True)
    orders = [list(sampler) for _ in range(3)]
    for epoch, order in enumerate(orders):
        assert [at for at, _ in order] == [epoch] * 50
        assert sorted(index for _, index in order) == list(range(50))
    assert len({tuple(index for _, index in order) for order in orders}) == 3
    for seed in (-1, 2**63 + 5, 0):
        paths = [path for batch in create_dataloader(options("custom", tmp_path, "test", seed=seed))
                 for path in batch["path"]]
        assert paths == sorted(paths) and len(paths) == 5  # in order, and with the incomplete batch


def test_batches(tmp_path):
    build(tmp_path, "custom", count=5)
    loader = create_dataloader(options("custom", tmp_path))
    batches = list(loader)
    assert len(loader) == len(batches) == 2  # the incomplete one is dropped
    assert batches[0]["label"].shape == batches[0]["instance"].shape == (2, 1, 16, 16)
    assert batches[0]["image"].shape == (2, 3, 16, 16)
    assert batches[0]["label"].dtype == torch.uint8 and len(batches[0]["path"]) == 2
    assert len(create_dataset(options("custom", tmp_path, max_dataset_size=4))) == 4
    line = refusal(lambda: create_dataloader(options("custom", tmp_path, batchSize=6)))
    assert line.startswith("--batchSize 6") and "5 images" in line


def test_a_batch_has_one_size(tmp_path):
    build(tmp_path, "custom", count=1)
    for path, array in zip(TREES["custom"]("train", 1), made_up(1, 64, 64), strict=True):
        write(tmp_path / path, array)
    loader = create_dataloader(options("custom", tmp_path, preprocess_mode="none", serial_batches=True))
    line = refusal(lambda: list(loader))
    assert "32x32" in line and "64x64" in line and "--batchSize 1" in line
    one_by_one = options("custom", tmp_path, preprocess_mode="none", batchSize=1, serial_batches=True)
    assert [batch["label"].shape[-1] for batch in create_dataloader(one_by_one)] == [32, 64]


# ---- pairing ----

def test_names_that_pair(tmp_path):
    label, photo, instance = made_up(0)
    write(tmp_path / "train_label" / "B.PNG", label)
    write(tmp_path / "train_img" / "B.JPEG", photo)
    write(tmp_path / "train_inst" / "B.Tif", instance)
    write(tmp_path / "train_label" / ".hidden.png", label)
    (tmp_path / "train_img" / "Thumbs.db").write_text("not a picture")
    (files,) = create_dataset(options("coco", tmp_path)).files
    assert [Path(path).name for path in files] == ["B.PNG", "B.JPEG", "B.Tif"]


def test_files_without_partner(tmp_path):
    paths = build(tmp_path, "coco", count=6)
    for _, photo, _ in paths[1:]:
        photo.rename(photo.with_name(f"x{photo.name}"))
    line = refusal(lambda: create_dataset(options("coco", tmp_path)))
    assert line.startswith("5 label maps without photo: ")
    assert [path[0].name in line for path in paths] == [False, True, True, True, False, False]
    assert len(create_dataset(options("coco", tmp_path, no_pairing_check=True))) == 6
    for label, _, instance in paths[1:]:
        label.unlink()
        instance.unlink()
    line = refusal(lambda: create_dataset(options("coco", tmp_path)))
    assert line.startswith("5 photos without label map: ")
    line = refusal(lambda: create_dataset(options("coco", tmp_path, no_pairing_check=True)))
    assert "1 label maps, but 6 photos" in line


def test_two_files_of_one_name(tmp_path):
    build(tmp_path, "coco")
    first, second = tmp_path / "train_img/000000000001.jpg", tmp_path / "train_img/000000000001.png"
    write(second, made_up(0)[1])
    line = refusal(lambda: create_dataset(options("coco", tmp_path)))
    assert str(first) in line and str(second) in line


def test_links_are_followed_but_not_in_circles(tmp_path):
    build(tmp_path / "elsewhere", "cityscapes")
    (tmp_path / "gtFine").mkdir()
    (tmp_path / "gtFine/train").symlink_to(tmp_path / "elsewhere/gtFine/train")
    (tmp_path / "leftImg8bit/train").mkdir(parents=True)
    (tmp_path / "leftImg8bit/train/ulm").symlink_to(tmp_path / "elsewhere/leftImg8bit/train/ulm")
    (tmp_path / "elsewhere/leftImg8bit/train/ulm/loop").symlink_to(tmp_path / "leftImg8bit/train")
    assert len(create_dataset(options("cityscapes", tmp_path))) == 3


# ---- lists of files ----

def test_list_of_files_is_kept(tmp_path):
    root = tmp_path / "here"
    build(root, "coco")
    dataset = create_dataset(options("coco", root, cache_filelist_write=True))
    root = root.rename(tmp_path / "there")  # the list is relative
    build(root, "coco", count=4)  # a file that the list has not
    cached = create_dataset(options("coco", root, cache_filelist_read=True))
    assert [Path(files.label).name for files in cached.files] == [Path(files.label).name for files in dataset.files]
    assert same(cached[1], create_dataset(options("coco", root))[1])
    assert len(create_dataset(options("coco", root, cache_filelist_read=True, max_dataset_size=2))) == 2


@pytest.mark.parametrize("mode", DATASETS)
def test_list_of_files_of_every_mode(tmp_path, mode):
    build(tmp_path, mode)
    listed = create_dataset(options(mode, tmp_path, cache_filelist_read=True, cache_filelist_write=True))
    assert create_dataset(options(mode, tmp_path, cache_filelist_read=True)).files == listed.files


def test_list_of_files_that_does_not_fit(tmp_path, capsys):
    build(tmp_path, "coco")
    create_dataset(options("coco", tmp_path, cache_filelist_write=True, no_instance=True, norm_mode="spade"))
    dataset = create_dataset(options("coco", tmp_path, cache_filelist_read=True))
    assert "written with other options" in capsys.readouterr().out and dataset.files[0].instance
    (list_file,) = tmp_path.glob("*_filelist.txt")
    for text in ("{", "", '{}\n["a"]\n', "7\n8\n"):
        list_file.write_text(text)
        line = refusal(lambda: create_dataset(options("coco", tmp_path, cache_filelist_read=True)))
        assert str(list_file) in line and "remove it" in line


def test_list_of_files_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    def fail(path: str, text: str) -> None:
        raise UserError(f"cannot write {path}")

    monkeypatch.setattr(data.pix2pix_dataset, "write_atomically", fail)
    build(tmp_path, "coco")
    assert len(create_dataset(options("coco", tmp_path, cache_filelist_write=True))) == 3
    assert "going on without" in capsys.readouterr().out


# ---- refusals ----

def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


RGB = np.zeros((24, 30, 3), np.uint8)
BAD_FILES = {  # which of label map, photo, instance map; what happens to it; what the line must say
    "truncated label": (0, truncate, "cannot read"),
    "truncated photo": (1, truncate, "cannot read"),
    "empty photo": (1, lambda path: path.write_bytes(b""), "cannot read"),
    "text as instance map": (2, lambda path: path.write_text("hello"), "cannot read"),
    "colour label": (0, lambda path: write(path, RGB), "colour image (mode RGB)"),
    "colour instance map": (2, lambda path: write(path, RGB), "colour image (mode RGB)"),
    "JPEG label": (0, lambda path: Image.fromarray(RGB[..., 0]).save(path, "JPEG"), "JPEG compression alters ids"),
    "id of no class": (0, lambda path: write(path, RGB[..., 0] + 200), "label id 200"),
    "16-bit id of no class": (0, lambda path: write(path, RGB[..., 0] + np.uint16(256)), "label id 256"),
    "instance map of another size": (2, lambda path: write(path, RGB[:20, :, 0]), "30x20"),
    "photo of another size": (1, lambda path: write(path, RGB[:12, :15]), "15x12"),
    "negative id": (2, lambda path: Image.fromarray(RGB[..., 0] - np.int32(1)).save(path, "TIFF"), "has the id -1"),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_bad_files_are_named(tmp_path, problem):
    which, spoil, expected = BAD_FILES[problem]
    paths = build(tmp_path, "coco")
    spoil(paths[1][which])
    line = refusal(lambda: list(create_dataloader(options("coco", tmp_path))))
    assert str(paths[1][which]) in line and expected in line


def test_bad_files_are_named_by_workers(tmp_path):
    paths = build(tmp_path, "coco")
    truncate(paths[1][1])
    line = refusal(lambda: list(create_dataloader(options("coco", tmp_path, nThreads=1))))
    assert line.startswith(f"cannot read {paths[1][1]}")


def test_larger_photos_of_celebamask(tmp_path):
    paths = build(tmp_path, "celeba")
    write(paths[0][1], np.zeros((48, 60, 3), np.uint8))
    write(paths[1][1], np.zeros((48, 48, 3), np.uint8))
    dataset = create_dataset(options("celeba", tmp_path))
    assert dataset[0]["image"].shape == (3, 16, 16)
    assert "48x48" in refusal(lambda: dataset[1])


@pytest.mark.parametrize("mode", ["crop", "scale_width_and_crop"])
def test_images_smaller_than_the_crop(tmp_path, mode):
    ((path, _, _),) = build(tmp_path, "coco", count=1)
    dataset = create_dataset(options("coco", tmp_path, preprocess_mode=mode, crop_size=40, load_size=40))
    line = refusal(lambda: dataset[0])
    assert str(path) in line and "40x40" in line and "--preprocess_mode resize_and_crop" in line


@pytest.mark.parametrize("mode", DATASETS)
def test_missing_folders(tmp_path, mode):
    line = refusal(lambda: create_dataset(options(mode, tmp_path / "nowhere")))
    assert str(tmp_path / "nowhere") in line and "does not exist" in line and "--dataroot" in line
    for path in TREES[mode]("train", 0):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    line = refusal(lambda: create_dataset(options(mode, tmp_path)))
    assert "not found in" in line


def test_unknown_mode(tmp_path):
    build(tmp_path, "coco")
    opt = options("coco", tmp_path)
    opt.dataset_mode = "cocoa"
    assert "--dataset_mode cocoa" in refusal(lambda: create_dataset(opt))
