"""The Python API, and the README's lines that show it."""
import dataclasses
import re

import numpy as np
import pytest
import torch
from PIL import Image

from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer, instance_classes
from options import TestOptions, TrainOptions
from tests.conftest import ROOT
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.errors import UserError

SIZE = 64
NETWORK = ["--gpu_ids", "-1", "--dataset_mode", "custom", "--label_nc", "5", "--ngf", "4", "--noise_nc", "8",
           "--z_dim", "16", "--load_size", str(SIZE), "--crop_size", str(SIZE)]


def maps(size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and instances [size, size]: 9 instances, which are 3x3 blocks, of 5 classes; a photo of noise."""
    rows = np.arange(size) * 3 // size
    instance = (3 * rows[:, None] + rows).astype(np.uint8)
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return instance % 5, instance, photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``checkpoints/EXP`` of an untrained INADE whose styles show, and the three files of a layout beside it."""
    root = tmp_path_factory.mktemp("api")
    opt = TrainOptions().parse([*NETWORK, "--use_vae", "--ndf", "4", "--no_vgg_loss", "--name", "EXP",
                                "--checkpoints_dir", str(root / "checkpoints"), "--init_variance", "1"])
    torch.manual_seed(0)
    trainer = Pix2PixTrainer(opt)
    opt.save()
    trainer.data_seed = 0
    trainer.save("latest")
    for name, pixels in zip(("label", "instances", "photo"), maps(), strict=True):
        Image.fromarray(pixels).save(root / f"{name}.png")
    return root


@pytest.fixture
def synthesizer(folder):
    torch.manual_seed(1)
    return Synthesizer.load(str(folder / "checkpoints" / "EXP"))


def test_the_lines_of_the_readme(folder, monkeypatch):
    monkeypatch.chdir(folder)
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {}
    exec(code, names)
    picture, resampled, reconstruction = (names[name] for name in ("picture", "resampled", "reconstruction"))
    assert picture.shape == reconstruction.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
    change = np.abs(resampled.astype(int) - picture).sum(2)
    inside = maps()[1] == 3
    assert change[inside].mean() > 2 * change[~inside].mean() > 0
    assert not np.array_equal(reconstruction, picture)


def test_arrays_and_files_are_the_same_layout(folder, synthesizer):
    label, instance, photo = maps()
    from_arrays = synthesizer.layout(label, instance, photo)
    from_files = synthesizer.read(*(str(folder / f"{name}.png") for name in ("label", "instances", "photo")))
    assert torch.equal(from_arrays.layout.label, from_files.layout.label)
    assert torch.equal(from_arrays.layout.instance, from_files.layout.instance)
    assert torch.equal(from_arrays.image, from_files.image)
    assert instance_classes(from_arrays) == {i: i % 5 for i in range(9)}
    larger = synthesizer.layout(*(array.repeat(2, 0).repeat(2, 1) for array in (label, instance)))
    assert torch.equal(larger.layout.label, from_arrays.layout.label)  # scaled as test.py does


def test_pictures_are_those_of_the_model(synthesizer):
    layout = synthesizer.layout(*maps())
    styles = synthesizer.draw_styles(layout)
    assert styles.z.shape == (1, 16) and styles.noise.shape == (1, 9, 2, 8)
    images = synthesizer.images(layout, styles)
    assert images.shape == (1, 3, SIZE, SIZE) and not images.requires_grad and images.abs().max() <= 1
    with torch.no_grad():
        assert torch.equal(images, synthesizer.model.synthesize(layout, styles))
    assert torch.equal(images, synthesizer.images(layout, styles))
    assert not torch.equal(images, synthesizer.images(layout))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_pictures_that_are_not_finite(synthesizer, value):
    """Bytes would show them as black."""
    layout = synthesizer.layout(*maps()[:2])
    styles = synthesizer.draw_styles(layout)
    assert not synthesizer.images(layout, dataclasses.replace(styles, noise=styles.noise + value)).isfinite().all()
    with pytest.raises(UserError, match="values that are not finite; check --style_file, or use another checkpoint"):
        synthesizer.pictures(layout, dataclasses.replace(styles, noise=styles.noise + value))


def test_exchange(synthesizer):
    layout = synthesizer.layout(*maps())
    styles, others = synthesizer.draw_styles(layout), synthesizer.draw_styles(layout)
    changed = synthesizer.exchange(layout, styles, others, instances=[2], classes=[0])  # class 0: instances 0 and 5
    differs = (changed.noise != styles.noise).flatten(2).any(2)[0]
    assert differs.nonzero()[:, 0].tolist() == [0, 2, 5]
    assert torch.equal(changed.noise[:, [0, 2, 5]], others.noise[:, [0, 2, 5]]) and torch.equal(changed.z, styles.z)
    with pytest.raises(UserError, match="no instance 9"):
        synthesizer.exchange(layout, styles, others, instances=[9])


def test_styles_of_a_photo(synthesizer):
    layout = synthesizer.layout(*maps())
    posterior = synthesizer.model.netE(layout.image, layout.layout)
    mean = synthesizer.encode_styles(layout, synthesizer.draw_styles(layout).zeros())
    assert torch.equal(mean.noise[:, :, 0], posterior.scale_mu) and torch.equal(mean.noise[:, :, 1], posterior.bias_mu)
    with pytest.raises(UserError, match="photo"):
        synthesizer.encode_styles(synthesizer.layout(*maps()[:2]))


def test_mixed_precision_is_inside(folder, synthesizer):
    layout = synthesizer.layout(*maps())
    styles = synthesizer.draw_styles(layout)
    half = Synthesizer.load(str(folder / "checkpoints" / "EXP"), use_amp=True)
    full, narrow = synthesizer.images(layout, styles), half.images(layout, styles)
    assert narrow.dtype == torch.float32 and not torch.equal(full, narrow)
    assert (full - narrow).abs().mean() < 0.05


@pytest.mark.parametrize("vae", [[], ["--use_vae"]])
def test_spade_has_no_styles_of_instances(vae):
    synthesizer = Synthesizer(Pix2PixModel(TestOptions().parse([*NETWORK, "--norm_mode", "spade", *vae])))
    layout = synthesizer.layout(*maps())
    styles = synthesizer.draw_styles(layout)
    assert (styles.z is not None) == bool(vae) and styles.noise is None
    assert synthesizer.pictures(layout, styles).shape == (1, SIZE, SIZE, 3)
    with pytest.raises(UserError, match="inade"):
        synthesizer.exchange(layout, styles, styles, instances=[1])


@pytest.mark.parametrize(("arrays", "expected"), [
    ((np.full((64, 64), 9, np.uint8),), "label id 9"),
    ((np.zeros((64, 64), np.float32),), "layout"),
    ((np.zeros((64, 64, 3), np.uint8),), "layout"),
    ((np.zeros((64, 64), np.uint8), np.zeros((32, 32), np.uint8)), "instance map"),
    ((np.zeros((64, 64), np.uint8), None, np.zeros((32, 32, 3), np.uint8)), "photo"),
])
def test_arrays_that_are_no_layout(synthesizer, arrays, expected):
    with pytest.raises(UserError, match=expected):
        synthesizer.layout(*arrays)


def test_the_folder_may_be_this_one(folder, monkeypatch):
    monkeypatch.chdir(folder / "checkpoints" / "EXP")
    assert Synthesizer.load(".").opt.name == "EXP"


@pytest.mark.parametrize(("place", "problem"), [("nothing", "no such folder"), (".", r"has no opt\.txt")])
def test_folders_without_networks(tmp_path, monkeypatch, place, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^{re.escape(place)}: {problem}; "):
        Synthesizer.load(place)


@pytest.mark.parametrize(("line", "expected"), [
    ("ngf: wide", r"opt\.txt: .*--ngf: 'wide' is not a whole number"), ("label_nc: 0", r"opt\.txt: .*--label_nc"),
    ("norm_mode: batch", r"opt\.txt: .*--norm_mode"), ("dataset_mode: faces", r"opt\.txt: .*--dataset_mode"),
    ("z_dim: \0", r"opt\.txt: .*NUL"), ("crop_size: 3", "--crop_size"),
])
def test_a_file_of_options_that_cannot_be(tmp_path, line, expected):
    (tmp_path / "opt.txt").write_text(f"dataset_mode: custom\t[default: coco]\n{line}\t[default: 1]\n")
    with pytest.raises(UserError, match=expected):
        Synthesizer.load(str(tmp_path))
