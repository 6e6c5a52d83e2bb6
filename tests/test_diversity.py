"""Diversity: distances against pair by pair, a generator that paints its noise, and the command.

AlexNet is filled by name (tests/fill.py); the package lpips, called directly, is the oracle.
"""
import argparse
import itertools
import json
import re
import sys
import warnings

import numpy as np
import pytest
import torch
import torchvision

import diversity_score
from data import create_dataloader
from diversity_score import layout_seed
from models.modes import InadeMode
from models.networks import Layout
from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from tests.fill import fill_
from tests.test_commands import CLASSES, NETWORK, SIZE, draw_world, succeed
from util.diversity import (
    Diversity,
    LayoutDistances,
    Parts,
    Resampled,
    class_names,
    describe,
    measure_layout,
)
from util.errors import UserError
from util.perceptual import LPIPS, WEIGHTS_FILE, rgb_distance
from util.styles import draw_styles, encode_styles, exchange


def pairs(items):
    return list(itertools.combinations(items, 2))


@pytest.fixture(scope="module")
def images():
    """Five smooth pictures [5, 3, 48, 64] in [-1, 1]."""
    coarse = torch.randn(5, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(48, 64), mode="bilinear").tanh()


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """A file of AlexNet weights, without the classifier that LPIPS has no use for."""
    features = fill_(torchvision.models.alexnet(weights=None).features, "alexnet.features.")
    path = tmp_path_factory.mktemp("hub") / WEIGHTS_FILE
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, path)
    return str(path)


# ---- distances


@pytest.mark.parametrize("count", [2, 3, 5])
def test_rgb_is_the_mean_over_pairs(images, count):
    value, local = rgb_distance(images[:count])
    expected = torch.stack([((a - b).abs() / 2).mean(0) for a, b in pairs(images[:count])]).mean(0)
    torch.testing.assert_close(local, expected)
    assert value == pytest.approx(expected.mean().item())


def test_rgb_of_black_and_white_is_one():
    black = -torch.ones(3, 8, 8)
    assert rgb_distance(torch.stack([black, -black]))[0] == 1
    assert rgb_distance(torch.stack([black, -black, black, black]))[0] == pytest.approx(0.5)  # 3 pairs of 6
    value, local = rgb_distance(torch.rand(1, 3, 8, 8).expand(4, -1, -1, -1))
    assert value == 0 and not local.any()


@pytest.fixture
def no_downloads(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download was tried")

    for name in ("load_state_dict_from_url", "download_url_to_file"):
        monkeypatch.setattr(torch.hub, name, refuse)


def test_lpips_is_that_of_the_package(images, alexnet, no_downloads):
    package = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = package.LPIPS(net="alex", pnet_rand=True, verbose=False)  # pretrained linear layers
    features = torch.load(alexnet, weights_only=True)
    oracle.net.load_state_dict({key: features["features." + key.split(".", 1)[1]] for key in oracle.net.state_dict()})

    state = torch.get_rng_state()
    distance = LPIPS(alexnet)
    assert torch.equal(torch.get_rng_state(), state)
    value, local = distance(images)
    with torch.no_grad():
        expected = np.mean([oracle(a[None], b[None]).item() for a, b in pairs(images)])
        oracle.spatial = True
        expected_map = torch.stack([oracle(a[None], b[None])[0, 0] for a, b in pairs(images)]).mean(0)
    assert expected > 1e-3
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(local, expected_map, rtol=1e-4, atol=1e-6)
    assert distance(images[:1].expand(4, -1, -1, -1))[0] == pytest.approx(0, abs=1e-9)


def test_unusable_weights(alexnet, tmp_path, monkeypatch, no_downloads):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: no AlexNet weights.*download https://.*--perceptual_weights"):
        LPIPS()
    (tmp_path / "checkpoints").mkdir()
    place = tmp_path / "checkpoints" / WEIGHTS_FILE
    state = torch.load(alexnet, weights_only=True)
    for content in (b"nonsense", {}, {**state, "features.0.bias": torch.zeros(3)}):
        place.write_bytes(content) if isinstance(content, bytes) else torch.save(content, place)
        with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: not the weights of torchvision's AlexNet"):
            LPIPS()
    torch.save(state, place)
    LPIPS()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError, match=r"pip install lpips, or .*--distance rgb"):
        LPIPS()


# ---- one layout

# instance 5 is of classes 1 and 3, mostly 3; instances 0 and 2 are of class 0
INSTANCE = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 5], [4, 4, 5, 5], [4, 4, 5, 5]], dtype=torch.int32)
LABEL = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [2, 2, 3, 3], [2, 2, 3, 3]], dtype=torch.uint8)
DATA = {"label": LABEL[None, None], "instance": INSTANCE[None, None], "path": ["layout.png"]}
SETTINGS = {"num_samples": 5, "region_samples": 3, "max_regions": 99, "styles": "prior", "batchSize": 2,
            "use_amp": False, "device": torch.device("cpu"), "z_dim": 4, "noise_nc": 3}


class NoisePainter:
    """A generator whose colour at every pixel is the noise of the pixel's instance."""

    def __init__(self, opt):
        self.mode = InadeMode(opt)
        self.seen = []

    def layout(self, data):
        return Layout(data["label"], data["instance"], 4, with_edges=False)

    def sample(self, data, noise_ins, noise):
        self.seen.append(len(noise))
        assert len(noise_ins) == len(noise) == len(data["label"])
        colours = [n[instance[0].long(), 0] for n, instance in zip(noise, data["instance"], strict=True)]
        return torch.stack(colours).permute(0, 3, 1, 2)


def measured(seed=7, data=DATA, **changes):
    opt = argparse.Namespace(**{**SETTINGS, **changes})
    return measure_layout(opt, NoisePainter(opt), rgb_distance, data, seed)


def drawn_noise(seed=7, samples=5):
    """What the draws must be: [samples, 6 ids, 3] colours."""
    torch.manual_seed(seed)
    torch.randn(samples, 4)
    return torch.randn(samples, 6, 2, 3)[:, :, 0]


def spread(noise):
    """Mean absolute difference of colours [N, 3] over pairs, in 0..1."""
    return np.mean([(a - b).abs().mean().item() / 2 for a, b in pairs(noise)])


def test_painted_noise_is_measured_inside_alone():
    noise, found = drawn_noise(), measured()
    area = {i: (i == INSTANCE).float().mean().item() for i in (0, 2, 4, 5)}
    assert found.whole == pytest.approx(sum(area[i] * spread(noise[:, i]) for i in area), rel=1e-5)
    few = {i: spread(noise[:3, i]) for i in area}  # region_samples
    instances = {round(inside, 6): (label, outside) for label, inside, outside in found.instances}
    assert instances == {round(few[i], 6): (label, 0) for i, label in ((0, 0), (2, 0), (4, 2), (5, 3))}
    classes = {label: (inside, outside) for label, inside, outside in found.classes}
    both = (4 * few[0] + 3 * few[2]) / 7
    for label, expected in ((0, both), (1, few[5]), (2, few[4]), (3, few[5])):
        assert classes[label] == (pytest.approx(expected, rel=1e-5), 0)


def test_everything_in_one_instance_has_no_outside():
    data = {**DATA, "label": torch.full((1, 1, 4, 4), 2), "instance": torch.full((1, 1, 4, 4), 3)}
    found = measured(data=data)
    assert found.classes == found.instances and len(found.classes) == 1
    assert found.classes[0].label == 2 and found.classes[0].inside > 0 and found.classes[0].outside is None


def test_batches_and_other_layouts_do_not_matter():
    found = measured()
    assert measured(batchSize=1) == measured(batchSize=64) == found
    assert measured(seed=8) != found
    assert measured(max_regions=0) == LayoutDistances(found.whole, [], [])
    few = measured(max_regions=2)
    assert few.whole == found.whole and len(few.classes) == len(few.instances) == 2
    assert set(few.classes) < set(found.classes) and set(few.instances) < set(found.instances)
    chosen = {frozenset(entry.label for entry in measured(seed, max_regions=2).classes) for seed in range(20)}
    assert len(chosen) > 2  # at random


def test_a_region_that_is_measured_already_is_not_painted_again():
    opt = argparse.Namespace(**{**SETTINGS, "batchSize": 99})
    painter = NoisePainter(opt)
    measure_layout(opt, painter, rgb_distance, DATA, 0)
    # class 2 is instance 4; classes 1 and 3 are parts of instance 5
    assert painter.seen == [5] + [2] * 7


def test_numbers_that_are_not_finite_are_refused(monkeypatch):
    monkeypatch.setattr(NoisePainter, "sample", lambda self, data, **styles: torch.full((2, 3, 4, 4), torch.nan))
    with pytest.raises(UserError, match=r"layout.png.*not finite"):
        measured()


def test_layout_seeds_differ():
    assert len({layout_seed(seed, index) for seed in (0, 1, 2**63 - 1) for index in range(50)}) == 150


# ---- a model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Networks filled by name: INADE with its encoder as ``exp``, SPADE with its encoder as ``spade``."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, mode in (("exp", "inade"), ("spade", "spade")):
        build_model("--checkpoints_dir", folder, "--name", name, "--norm_mode", mode, "--use_vae").save("latest")
    return folder


def build_model(*args):
    opt = TestOptions().parse([str(arg) for arg in (*NETWORK, *args)])
    model = Pix2PixModel(opt)
    for label, network in model.networks().items():
        fill_(network, f"net{label}.")
    return model


def photo_data():
    rng = np.random.default_rng(0)
    blocks = torch.from_numpy(rng.integers(0, 9, (4, 4)).repeat(8, 0).repeat(8, 1))[None, None]
    label = blocks % CLASSES
    label[..., :20] = 1  # several classes in an instance
    image = torch.from_numpy(rng.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)).tanh()
    return {"label": label, "instance": blocks.int(), "image": image, "path": ["p"]}


def test_parts_paint_the_same_picture():
    model, data = build_model(), photo_data()
    parts = Parts(data)
    assert len(parts.classes) > len(np.unique(data["instance"]))
    styles = draw_styles(model, data)
    expected = model.sample(data, **styles)
    torch.testing.assert_close(model.sample(parts.data, noise_ins=styles["noise_ins"],
                                            noise=styles["noise"][:, parts.instances]), expected)
    for label in np.unique(parts.classes):
        mask = parts.mask(parts.of_class(label))
        assert torch.equal(mask, data["label"][0, 0] == label)
    for instance in np.unique(parts.instances):
        assert torch.equal(parts.mask(parts.of_instance(instance)), data["instance"][0, 0] == instance)


def test_exchanged_styles():
    styles = {"noise_ins": torch.zeros(1, 2), "noise": torch.zeros(1, 5, 2, 3)}
    others = {"noise_ins": torch.ones(4, 2), "noise": torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 5, 2, 3)}
    mixed = exchange(styles, others, [1, 3])
    assert mixed["noise_ins"].shape == (4, 2) and not mixed["noise_ins"].any()
    assert not mixed["noise"][:, [0, 2, 4]].any() and not styles["noise"].any()
    assert torch.equal(mixed["noise"][:, [1, 3]], others["noise"][:, [1, 3]])


@pytest.mark.parametrize("mode", ["inade", "spade"])
def test_encoder_styles_are_those_of_inference(mode):
    model, data = build_model("--norm_mode", mode, "--use_vae"), photo_data()
    copies = {name: value.expand(3, *value.shape[1:]) for name, value in data.items() if name != "path"}
    torch.manual_seed(1)
    prior = draw_styles(model, copies)
    expected = model.infer(copies, **prior)
    encoded = encode_styles(model, data, prior)
    torch.testing.assert_close(model.sample(copies, **encoded), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, model.sample(copies, **prior), atol=1e-2)


# ---- figures


def test_figures_are_means_of_what_was_added():
    rng, diversity = np.random.default_rng(0), Diversity()
    layouts = [LayoutDistances(rng.random(), *([Resampled(int(c), rng.random(), None if c == 7 else rng.random())
                                                for c in rng.choice(8, 4, replace=False)] for _ in range(2)))
               for _ in range(30)]
    for layout in layouts:
        diversity.add(layout)
    figures = diversity.figures({3: "tree"})
    wholes = [layout.whole for layout in layouts]
    assert figures["layouts"] == 30 and figures["diversity"] == pytest.approx(np.mean(wholes))
    assert figures["standard_error"] == pytest.approx(np.std(wholes, ddof=1) / np.sqrt(30))

    by_class = [[entry for layout in layouts for entry in layout.classes if entry.label == c] for c in range(8)]
    assert figures["mCSD"] == pytest.approx(np.mean([np.mean([e.inside for e in found]) for found in by_class]))
    assert figures["mOCD"] == pytest.approx(np.mean([np.mean([e.outside for e in found]) for found in by_class[:7]]))
    instances = [entry for layout in layouts for entry in layout.instances]
    assert figures["mISD"] == pytest.approx(np.mean([e.inside for e in instances]))
    assert figures["mOISD"] == pytest.approx(np.mean([e.outside for e in instances if e.outside is not None]))
    assert figures["classes"]["3"]["name"] == "tree" and figures["classes"]["4"]["name"] is None
    assert figures["classes"]["3"]["class"] == {"inside": pytest.approx(np.mean([e.inside for e in by_class[3]])),
                                                "outside": pytest.approx(np.mean([e.outside for e in by_class[3]])),
                                                "count": len(by_class[3])}
    assert figures["classes"]["7"]["instance"]["outside"] is None
    assert diversity.figures({3: "tree"}) == figures

    lines = describe({**figures, "distance": "rgb", "num_samples": 10}).splitlines()
    assert f"{figures['diversity']:.4f} ± " in lines[0] and "30 layouts" in lines[0]
    assert len(lines) == 4 + 2 + 8 and len({len(line) for line in lines[-8:]}) == 1
    assert re.match(rf"3 tree +\| +{figures['classes']['3']['class']['inside']:.4f} ", lines[-5])


def test_figures_of_one_layout_without_regions():
    diversity = Diversity()
    diversity.add(LayoutDistances(0.25, [], []))
    figures = diversity.figures({})
    assert figures["mCSD"] is figures["mOISD"] is figures["standard_error"] is None and figures["classes"] == {}
    text = describe({**figures, "distance": "rgb", "num_samples": 2})
    assert text == "rgb diversity: 0.2500; 1 layouts, 2 samples each"


def test_class_names(tmp_path):
    assert class_names(str(tmp_path)) == {}
    (tmp_path / "classes.txt").write_text("1 2 3 0 sky\n1 2 4 12 traffic light\n\n1 2 5 7\n")
    assert class_names(str(tmp_path)) == {0: "sky", 12: "traffic light"}
    (tmp_path / "classes.txt").write_text("of another kind")
    assert class_names(str(tmp_path)) == {}


# ---- the command


NUMBERS = ("layouts", "diversity", "standard_error", "mCSD", "mOCD", "mISD", "mOISD")


def test_command(world, checkpoints, tmp_path, run):
    (world / "classes.txt").write_text("0 0 0 1 tree\n")
    args = ["diversity_score.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", checkpoints, "--name", "exp",
            "--distance", "rgb", "--num_samples", 4, "--region_samples", 3]
    process = succeed(run(*args, "--json", tmp_path / "a" / "figures.json"))
    figures = json.loads((tmp_path / "a" / "figures.json").read_text())
    assert process.stdout.strip().endswith(describe(figures))
    assert figures["layouts"] == 3 and figures["distance"] == "rgb" and figures["seed"] == 3
    assert set(figures["classes"]) == {str(c) for c in range(CLASSES)}
    assert figures["classes"]["1"]["name"] == "tree"
    assert 0 < figures["mOCD"] < figures["mCSD"] and 0 < figures["mOISD"] < figures["mISD"]

    # a part of the split, painted in other batches, with other options of test.py
    succeed(run(*args, "--json", tmp_path / "first.json", "--how_many", 2, "--batchSize", 3, "--use_vae"))
    succeed(run(*args, "--json", tmp_path / "all.json", "--batchSize", 1, "--nThreads", 1))
    first, again = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("first", "all"))
    opt = diversity_score.DiversityOptions().parse([str(arg) for arg in args[1:]])
    model = Pix2PixModel(opt)
    model.load("latest")
    alone, together = Diversity(), Diversity()
    for index, data in enumerate(create_dataloader(opt.replace(batchSize=1))):
        found = measure_layout(opt, model, rgb_distance, data, layout_seed(3, index))
        for diversity in (alone, together)[index > 1:]:
            diversity.add(found)
    for diversity, printed in ((alone, first), (together, figures)):
        expected = {name: value for name, value in diversity.figures({}).items() if name in NUMBERS}
        assert {name: printed[name] for name in NUMBERS} == pytest.approx(expected, rel=1e-4)
    assert again.keys() == figures.keys()
    assert {name: again[name] for name in NUMBERS} == pytest.approx({name: figures[name] for name in NUMBERS}, rel=1e-4)


def test_command_with_lpips_and_encoder(world, checkpoints, alexnet, tmp_path, run):
    args = ["diversity_score.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", checkpoints, "--use_vae",
            "--perceptual_weights", alexnet, "--how_many", 2, "--num_samples", 3, "--region_samples", 2,
            "--max_regions", 1]
    process = succeed(run(*args, "--name", "exp", "--styles", "encoder"))
    assert re.search(r"^lpips diversity: 0\.\d{4} ± .*2 layouts, 3 samples each$", process.stdout, re.MULTILINE)
    assert "mCSD" in process.stdout and "warn" not in process.stderr.lower()
    process = succeed(run(*args, "--name", "spade", "--norm_mode", "spade", "--json", tmp_path / "f.json"))
    assert "mCSD" not in process.stdout
    assert json.loads((tmp_path / "f.json").read_text())["diversity"] > 0


def test_wrong_use_gets_one_line(world, checkpoints, tmp_path, monkeypatch, capsys):
    args = [*NETWORK, "--dataroot", world, "--checkpoints_dir", checkpoints, "--name", "exp"]
    rgb = [*args, "--distance", "rgb"]
    monkeypatch.setattr(diversity_score, "keep_freed_memory", lambda: None)  # it would last for all tests
    for wrong, expected in (
        ([*args, "--perceptual_weights", tmp_path / "absent.pth"], r"absent.pth: no AlexNet weights.*download"),
        ([*rgb, "--num_samples", 1], "--num_samples 1"),
        ([*rgb, "--region_samples", 1], "--region_samples 1"),
        ([*rgb, "--region_samples", 11], "--region_samples 11.*--num_samples 10"),
        ([*rgb, "--max_regions", -1], "--max_regions -1"),
        ([*rgb, "--norm_mode", "spade"], "--norm_mode spade without --use_vae"),
        ([*rgb, "--styles", "encoder"], "--styles encoder.*--use_vae"),
        ([*args, "--distance", "l2"], "--distance"),
        ([*rgb, "--json", tmp_path], f"cannot write {tmp_path}: it is a folder"),
        ([*rgb, "--json", world / "val_img" / "p0.png" / "x" / "figures.json"], "cannot write .*p0.png/x/figures.json"),
        ([*rgb, "--name", "nobody"], "nobody.*no such checkpoint"),
    ):
        monkeypatch.setattr(sys, "argv", ["diversity_score.py", *map(str, wrong)])
        with pytest.raises(SystemExit) as stop:
            diversity_score.main()
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
        assert re.search(expected, error), error
    assert not list(tmp_path.iterdir())


def test_missing_weights_end_the_command_before_it_reads_anything(tmp_path, run):
    process = run("diversity_score.py", *NETWORK, "--dataroot", tmp_path / "absent", "--perceptual_weights", "absent")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: absent: no AlexNet weights") and process.stderr.count("\n") == 1
