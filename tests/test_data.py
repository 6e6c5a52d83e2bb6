"""Data sets: what they read, how they transform it, in which order, and what they refuse."""
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import DATASETS, EpochSampler, class_names, collate, create_dataloader, create_dataset
from data.image_files import Source, read_ids, read_image, read_photo
from data.sample import Files, SampleReader
from data.transforms import SCALED_SIZE, choose_geometry
from options import Options, TestOptions, TrainOptions
from options.dataset_defaults import DATASET_DEFAULTS
from tests.data_helpers import BAD_FILES, TREES, WHOLE, build, made_up, options, painted, refusal, same, truncate, write
from util.ranks import renumber

# ---- what is read ----

def test_every_mode_has_its_defaults():
    assert DATASETS.keys() == DATASET_DEFAULTS.keys()


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("mode", DATASETS)
def test_every_mode_reads_its_tree(tmp_path, capsys, mode, phase):
    split = "train" if phase == "train" else "val"
    paths = build(tmp_path, mode, split)
    build(tmp_path, mode, "val" if split == "train" else "train", count=2)
    opt = options(mode, tmp_path, phase, **WHOLE)
    dataset = create_dataset(opt)
    assert len(dataset) == 3
    assert capsys.readouterr().out == f"{mode}, {phase} split: 3 images (with photos, with instance maps)\n"
    for n, (_, photo_path, _) in enumerate(paths):
        label, _, instance = made_up(n)
        sample = dataset[n]
        assert sample.keys() == {"label", "instance", "image", "path"}
        assert sample["path"] == str(photo_path)
        assert sample["label"].dtype == torch.uint8 and sample["label"].shape == (1, 32, 64)
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
    sample = create_dataset(options("coco", tmp_path, label_nc=7, **WHOLE))[0]
    assert np.array_equal(sample["label"][0], np.where(label == 255, 7, label))
    line = refusal(lambda: create_dataset(options("coco", tmp_path, contain_dontcare_label=False))[0])
    assert str(path) in line and "255" in line and "--contain_dontcare_label" in line and "--label_nc 256" in line


@pytest.mark.parametrize(("label_nc", "dtype"), [(255, torch.uint8), (256, torch.int32), (300, torch.int32)])
def test_label_type_holds_all_classes(tmp_path, label_nc, dtype):
    ((path, _, _),) = build(tmp_path, "coco", count=1)
    label = np.full((32, 64), 255, np.uint16)
    label[0, 0] = label_nc - 1
    write(path, label)
    sample = create_dataset(options("coco", tmp_path, label_nc=label_nc, dont_care_id=255, **WHOLE))[0]
    assert sample["label"].dtype == dtype
    assert sample["label"].max() == label_nc
    assert sample["label"][0, 0, 0] == (label_nc if label_nc - 1 == 255 else label_nc - 1)


def test_instance_ids_above_255_are_renumbered(tmp_path):
    ((_, _, path),) = build(tmp_path, "coco", count=1)
    ids = np.full((32, 64), 26001, np.uint16)
    ids[3:9], ids[15:] = 7, 256
    write(path, ids)
    assert np.array_equal(create_dataset(options("coco", tmp_path, **WHOLE))[0]["instance"][0],
                          np.select([ids == 7, ids == 256], [0, 1], 2))
    ids[ids > 255] = 255
    write(path, ids)
    assert np.array_equal(create_dataset(options("coco", tmp_path, **WHOLE))[0]["instance"][0], ids)


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
    opt = Options(preprocess_mode=mode, load_size=40, crop_size=32, aspect_ratio=2.0, no_flip=False)
    assert mode in SCALED_SIZE
    for random in (None, np.random.default_rng(0)):
        geometry = choose_geometry((60, 45), opt, random, "x.png")
        left, upper, right, lower = geometry.box
        assert geometry.size == scaled
        assert (right - left, lower - upper) == cropped
        assert min(left, upper) >= 0 and right <= scaled[0] and lower <= scaled[1]
    tall = Options(**{**vars(opt), "preprocess_mode": "scale_width_and_crop"})
    assert choose_geometry((45, 60), tall, None, "x.png").size == (40, 53)


def test_preprocess_modes_are_the_options(tmp_path):
    for mode in SCALED_SIZE:
        opt = TrainOptions().parse(["--preprocess_mode", mode, "--gpu_ids", "-1"])
        assert opt.preprocess_mode == mode


def test_scaling_is_bicubic_for_photos_and_nearest_for_ids(tmp_path):
    ((_, photo_path, _),) = build(tmp_path, "custom", count=1)
    opt = options("custom", tmp_path, no_flip=True, load_size=32)
    sample = create_dataset(opt)[0]
    label, _, instance = made_up(0)
    for ids, key in ((label, "label"), (instance, "instance")):
        expected = Image.fromarray(ids).resize((32, 32), Image.Resampling.NEAREST)
        assert np.array_equal(sample[key][0], np.asarray(expected))
    expected = np.asarray(Image.open(photo_path).resize((32, 32), Image.Resampling.BICUBIC)) / 127.5 - 1
    np.testing.assert_allclose(sample["image"].permute(1, 2, 0), expected, atol=1e-6)


def test_crop_and_flip_are_the_same_for_all_three(tmp_path):
    build(tmp_path, "custom", height=40, width=46)
    dataset = create_dataset(options("custom", tmp_path, preprocess_mode="crop"))
    places = set()
    for epoch, n in itertools.product(range(40), range(3)):
        sample = dataset[epoch, n]
        label, instance = sample["label"][0].numpy(), sample["instance"][0].numpy().astype(np.uint8)
        photo = ((sample["image"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(photo, painted(label, instance))
        places.add(place_of(label, made_up(n, 40, 46)[0]))
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
    build(tmp_path, "custom", height=40, width=46)
    label = made_up(0, 40, 46)[0]
    dataset = create_dataset(options("custom", tmp_path, preprocess_mode="crop", no_flip=True))
    places = {place_of(dataset[epoch, 0]["label"][0].numpy(), label) for epoch in range(20)}
    assert len(places) > 5 and not any(flip for _, _, flip in places)
    dataset = create_dataset(options("custom", tmp_path, preprocess_mode="crop", isTrain=False))
    places = {place_of(dataset[epoch, 0]["label"][0].numpy(), label) for epoch in range(20)}
    assert places == {((46 - 32) // 2, (40 - 32) // 2, False)}


@pytest.mark.parametrize(("changes", "expected"), [
    ({"load_size": 31}, "--load_size 31 is smaller than --crop_size 32"),
    ({"aspect_ratio": 0.5},
     "--aspect_ratio 0.5: the generator makes images of 32x64, but images are scaled to 32x32 with"),
    ({"crop_size": 64, "load_size": 64, "aspect_ratio": 1.5, "preprocess_mode": "fixed"},
     "--aspect_ratio 1.5: the generator makes images of 64x32, but images are scaled to 64x43 with"),
])
def test_sizes_that_do_not_go_together(tmp_path, changes, expected):
    line = refusal(lambda: create_dataset(options("custom", tmp_path / "nowhere", **changes)))
    assert line.startswith(expected)


# ---- one sample, of files or arrays ----

@pytest.mark.parametrize("changes", [{}, {"preprocess_mode": "scale_shortside_and_crop"}, WHOLE])
@pytest.mark.parametrize("parts", [(), ("photo",), ("instance",), ("photo", "instance")])
def test_arrays_become_the_sample_that_files_do(tmp_path, changes, parts):
    label, photo, instance = made_up(0)
    label[:5], instance = 255, instance.astype(np.uint16) * 1000
    arrays = {"label": label, "photo": photo, "instance": instance}
    arrays = {kind: array for kind, array in arrays.items() if kind == "label" or kind in parts}
    files = Files(**{kind: str(write(tmp_path / f"{kind}.png", array)) for kind, array in arrays.items()})
    reader = SampleReader(options("coco", tmp_path, label_nc=7, **changes))
    for random in (None, 5):
        def sample(make, *args, random=random, **kwargs):
            return make(*args, **kwargs, random=random and np.random.default_rng(random))

        expected = sample(reader.read, files)
        assert ("image" in expected) == ("photo" in parts) and expected["path"] == (files.photo or files.label)
        variants = [arrays, {**arrays, "label": label.astype(np.int64)}]
        if "photo" in parts:
            variants.append({**arrays, "photo": Image.fromarray(photo)})
        for variant in variants:
            assert same({**expected, "path": "a"}, sample(reader.assemble, **variant, name="a"))
    batch = collate([reader.assemble(label)])
    assert batch["label"].ndim == 4 and batch["path"] == ["layout"]


IDS = np.zeros((32, 64), np.int64)


@pytest.mark.parametrize(("arrays", "expected"), [
    ({"label": IDS / 2}, "layout: is an array of float64"),
    ({"label": IDS[None]}, "layout: is an array of shape [1, 32, 64]"),
    ({"label": IDS[:0]}, "layout: is an array of shape [0, 64]"),
    ({"label": IDS - 1}, "layout: has the id -1"),
    ({"label": IDS + 2**40}, "layout: has the id 1099511627776"),
    ({"label": IDS + 7}, "layout: has the label id 7, but the 7 classes are 0..6"),
    ({"instance": IDS - 1}, "layout (instance map): has the id -1"),
    ({"instance": IDS[1:]}, "layout (instance map): 64x31, but its label map layout is 64x32"),
    ({"photo": np.zeros((16, 32, 3), np.uint8)}, "layout (photo): 32x16, but its label map layout is 64x32"),
    ({"photo": np.zeros((32, 64, 3))}, "layout (photo): is an array of float64 of shape [32, 64, 3]"),
    ({"photo": np.zeros((3, 32, 64), np.uint8)}, "layout (photo): is an array of uint8 of shape [3, 32, 64]"),
    ({"photo": Image.new("I", (64, 32))}, "layout (photo): has 16 or 32 bits"),
])
def test_arrays_that_cannot_be_used(tmp_path, arrays, expected):
    reader = SampleReader(options("custom", tmp_path, label_nc=7))
    assert refusal(lambda: reader.assemble(**{"label": IDS, **arrays})).startswith(expected)


def test_larger_photos_in_memory(tmp_path):
    photo = np.zeros((64, 128, 3), np.uint8)
    assert SampleReader(options("celeba", tmp_path)).assemble(IDS, photo=photo)["image"].shape == (3, 32, 32)


def test_class_names(tmp_path):
    assert class_names(options("custom", tmp_path)) == {}
    assert class_names(options("celeba", tmp_path))[13] == "hair"
    (tmp_path / "classes.txt").write_text("1 2 3 0 sky\n1 2 4 12 traffic light\n\n1 2 5 7\n")
    assert class_names(options("custom", tmp_path)) == {0: "sky", 12: "traffic light"}
    (tmp_path / "table.txt").write_text("1 2 3 0 heaven\n")
    opt = options("celeba", tmp_path, label_colors=str(tmp_path / "table.txt"))
    assert [class_names(opt)[i] for i in (0, 1, 12)] == ["heaven", "skin", "traffic light"]
    (tmp_path / "classes.txt").write_text("of another kind")
    assert class_names(options("custom", tmp_path)) == {}


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
    assert batches[0]["label"].shape == batches[0]["instance"].shape == (2, 1, 32, 32)
    assert batches[0]["image"].shape == (2, 3, 32, 32)
    assert batches[0]["label"].dtype == torch.uint8 and len(batches[0]["path"]) == 2
    assert len(create_dataset(options("custom", tmp_path, max_dataset_size=4))) == 4
    line = refusal(lambda: create_dataloader(options("custom", tmp_path, batchSize=6)))
    assert line.startswith("--batchSize 6") and "5 images" in line


def test_a_batch_has_one_size(tmp_path):
    build(tmp_path, "custom", count=1)
    for path, array in zip(TREES["custom"]("train", 1), made_up(1, 64, 96), strict=True):
        write(tmp_path / path, array)
    loader = create_dataloader(options("custom", tmp_path, preprocess_mode="none", serial_batches=True))
    line = refusal(lambda: list(loader))
    assert "64x32" in line and "96x64" in line and "--batchSize 1" in line
    one_by_one = options("custom", tmp_path, preprocess_mode="none", batchSize=1, serial_batches=True)
    assert [batch["label"].shape[-1] for batch in create_dataloader(one_by_one)] == [64, 96]


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
    for label, _, instance in paths[1:]:
        label.unlink()
        instance.unlink()
    line = refusal(lambda: create_dataset(options("coco", tmp_path)))
    assert line.startswith("5 photos without label map: ")


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


def test_links_between_neighbours_are_read_once(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        write(tmp_path / name / f"{name}.png", made_up(0)[0])
        (tmp_path / name / "link").symlink_to(tmp_path / other)
    assert sorted(Path(path).name for path in Source(str(tmp_path), recursive=True).files()) == ["a.png", "b.png"]


# ---- refusals ----

@pytest.mark.parametrize("problem", BAD_FILES)
def test_bad_files_are_named(tmp_path, problem):
    which, spoil, expected = BAD_FILES[problem]
    paths = build(tmp_path, "coco")
    spoil(paths[1][which])
    line = refusal(lambda: list(create_dataloader(options("coco", tmp_path))))
    assert str(paths[1][which]) in line and expected in line


def test_only_the_decoders_of_images_run(tmp_path, monkeypatch):
    image = Image.new("RGB", (8, 8))
    for name in ("EPS", "GIF", "PDF"):
        path = tmp_path / f"{name}.png"
        image.save(path, name)
        assert refusal(lambda path=path: read_image(str(path))).startswith(f"cannot read {path} (not an image)")
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(lambda: read_image(str(tmp_path / "pipe.png")))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    image.save(tmp_path / "bomb.png")
    assert refusal(lambda: read_image(str(tmp_path / "bomb.png"))).startswith(f"cannot read {tmp_path / 'bomb.png'}")


def test_jpeg_files_of_several_pictures_are_no_maps(tmp_path):
    image = Image.new("L", (8, 8))
    image.save(tmp_path / "map.jpg", "MPO", save_all=True, append_images=[image])
    assert "JPEG compression" in refusal(lambda: read_ids(str(tmp_path / "map.jpg")))


def test_bad_files_are_named_by_workers(tmp_path):
    paths = build(tmp_path, "coco")
    truncate(paths[1][1])
    line = refusal(lambda: list(create_dataloader(options("coco", tmp_path, nThreads=1))))
    assert line.startswith(f"cannot read {paths[1][1]}")


def test_larger_photos_of_celebamask(tmp_path):
    paths = build(tmp_path, "celeba")
    write(paths[0][1], np.zeros((64, 128, 3), np.uint8))
    write(paths[1][1], np.zeros((64, 64, 3), np.uint8))
    dataset = create_dataset(options("celeba", tmp_path))
    assert dataset[0]["image"].shape == (3, 32, 32)
    assert "64x64" in refusal(lambda: dataset[1])


@pytest.mark.parametrize("mode", ["crop", "scale_width_and_crop"])
def test_images_smaller_than_the_crop(tmp_path, mode):
    ((path, _, _),) = build(tmp_path, "coco", count=1)
    dataset = create_dataset(options("coco", tmp_path, preprocess_mode=mode, crop_size=64, load_size=64))
    line = refusal(lambda: dataset[0])
    assert str(path) in line and "64x64" in line and "--preprocess_mode resize_and_crop" in line


@pytest.mark.parametrize(("mode", "size"), [("scale_width", (1, 100000)), ("scale_shortside", (100000, 1)),
                                            ("none", (10000, 10000)), ("scale_width_and_crop", (1, 100000))])
def test_no_picture_becomes_huge(tmp_path, mode, size):
    """468 bytes of 1x100,000 pixels would be brought to 26 million rows; it is known before that is done."""
    opt = options("coco", tmp_path, preprocess_mode=mode, crop_size=256, load_size=1024)
    line = refusal(lambda: choose_geometry(size, opt, None, "x.png"))
    assert line.startswith("x.png: would be") and "67" not in line and mode in line and "million" in line


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
    opt = options("coco", tmp_path).replace(dataset_mode="cocoa")
    assert "--dataset_mode cocoa" in refusal(lambda: create_dataset(opt))
