"""Diversity: distances against pair by pair, a generator that paints its noise, and the command.

AlexNet is filled by name (tests/fill.py); the package lpips, called directly, is the oracle.
"""
import itertools
import json
import re
import sys
import types
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import diversity_score
from data import create_dataset
from metrics.diversity import (
    Change,
    Diversity,
    LayoutDistances,
    Painter,
    Parts,
    Sides,
    copies,
    describe,
    draw_pairs,
    masked_distance,
    measure_layout,
    style_change,
)
from metrics.perceptual import LPIPS, WEIGHTS_FILE, rgb_distance
from models import synthesis
from models.batches import Batch
from models.networks.layout import Layout
from models.networks.styles import Styles
from models.norm_modes import InadeMode
from models.synthesis import Synthesizer
from options import Options
from tests.fill import fill_
from tests.worlds import CLASSES, NETWORK, SIZE, build_model, draw_world, succeed
from util.errors import UserError
from util.seed import seed_of


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
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: the weights of AlexNet are not there.*download https://.*--perceptual_weights"):
        LPIPS()
    (tmp_path / "checkpoints").mkdir()
    place = tmp_path / "checkpoints" / WEIGHTS_FILE
    state = torch.load(alexnet, weights_only=True)
    for content in (b"nonsense", {}, {**state, "features.0.bias": torch.zeros(3)}):
        place.write_bytes(content) if isinstance(content, bytes) else torch.save(content, place)
        with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: these are not the weights of torchvision's AlexNet"):
            LPIPS()
    torch.save(state, place)
    LPIPS()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError, match=r"pip install lpips, or .*--distance lite0 or rgb"):
        LPIPS()


# ---- one layout

# instance 5 is of classes 1 and 3, mostly 3; instances 0 and 2 are of class 0
INSTANCE = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 5], [4, 4, 5, 5], [4, 4, 5, 5]], dtype=torch.int32)
LABEL = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [2, 2, 3, 3], [2, 2, 3, 3]], dtype=torch.uint8)
LAYOUT = Batch(Layout(LABEL[None], INSTANCE[None], num_classes=4, with_edges=False))
SETTINGS = {"num_samples": 5, "region_samples": 3, "max_regions": 99, "batch_size": 2}


class NoisePainter:
    """A model whose colour at every pixel is the noise of the pixel's instance."""

    netE, netG = None, types.SimpleNamespace(prior=None)

    def __init__(self):
        self.opt = Options(use_amp=False, amp_dtype=None, cuda_graphs=False, device=torch.device("cpu"), z_dim=4,
                           noise_nc=3, norm_G="spectralinadesyncbatch3x3")
        self.mode = InadeMode(self.opt)
        self.seen = []

    def eval(self):
        pass

    def synthesize(self, layout, styles):
        self.seen.append(styles.count)
        assert len(styles.z) == len(styles.noise) == layout.layout.batch_size
        colours = [n[instance, 0] for n, instance in zip(styles.noise, layout.layout.instance, strict=True)]
        return torch.stack(colours).permute(0, 3, 1, 2)


def measured(seed=7, layout=LAYOUT, model=None, **changes):
    synthesizer = Synthesizer(model or NoisePainter())
    return measure_layout(synthesizer, layout, rgb_distance, seed, **{**SETTINGS, **changes})


def test_a_picture_without_styles():
    """SPADE without encoder: no styles is not no picture."""
    synthesizer = Synthesizer(build_model("--norm_mode", "spade"))
    batch = synthesizer.layout(np.tile(np.arange(SIZE, dtype=np.uint8) // 8, (SIZE, 1)))
    styles = synthesizer.draw_styles(batch)
    assert styles and styles.count is None
    assert Painter(synthesizer, batch)(styles).equal(synthesizer.images(batch))


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
    changes = {round(change.inside, 6): (label, change.outside) for label, change in found.instances}
    assert changes == {round(few[i], 6): (label, 0) for i, label in ((0, 0), (2, 0), (4, 2), (5, 3))}
    assert sorted(change.area for _, change in found.instances) == pytest.approx(sorted(area.values()))
    classes = dict(found.classes)
    both = (4 * few[0] + 3 * few[2]) / 7
    for label, expected in ((0, both), (1, few[5]), (2, few[4]), (3, few[5])):
        assert classes[label].inside == pytest.approx(expected, rel=1e-5) and classes[label].outside == 0
        assert classes[label].area == (label == LABEL).float().mean() and classes[label].inside_share == 1


def test_share_of_the_change_is_that_of_its_pixels():
    model = NoisePainter()
    synthesize, left = model.synthesize, torch.arange(4) < 2
    # what is left of the middle takes half of the noise of instance 5, wherever it is
    model.synthesize = lambda layout, styles: torch.where(
        left, synthesize(layout, styles) + styles.noise[:, 5, 0, :, None, None] / 2, synthesize(layout, styles))
    synthesizer = Synthesizer(model)
    styles, others = synthesizer.draw_styles(LAYOUT), synthesizer.draw_styles(LAYOUT)
    paint = Painter(synthesizer, LAYOUT)
    before, after = paint(styles), paint(styles.exchange(others, [5]))
    change = style_change(paint, rgb_distance, before, styles, others, [5])
    pixels = (after - before).abs().sum(1)[0]
    inside = INSTANCE == 5
    assert change.inside_share == pytest.approx((pixels[inside].sum() / pixels.sum()).item())
    assert 0.3 < change.inside_share < 0.8 and change.area == inside.float().mean()
    assert change.outside == pytest.approx(pixels[~inside].mean().item() / 6)
    nothing = style_change(paint, rgb_distance, before, styles, styles, [5])
    assert nothing.inside == nothing.outside == nothing.inside_share == 0


def test_everything_in_one_instance_has_no_outside():
    whole = Batch(Layout(torch.full((1, 4, 4), 2), torch.full((1, 4, 4), 3), 4, with_edges=False))
    found = measured(layout=whole)
    assert found.classes == found.instances and len(found.classes) == 1
    label, change = found.classes[0]
    assert label == 2 and change.inside > 0 and change.outside is None and change.area == change.inside_share == 1


def test_batches_and_other_layouts_do_not_matter():
    found = measured()
    assert measured(batch_size=1) == measured(batch_size=64) == found
    assert measured(seed=8) != found
    assert measured(max_regions=0) == LayoutDistances(found.whole, [], [])
    few = measured(max_regions=2)
    assert few.whole == found.whole and len(few.classes) == len(few.instances) == 2
    assert set(few.classes) < set(found.classes) and set(few.instances) < set(found.instances)
    chosen = {frozenset(label for label, _ in measured(seed, max_regions=2).classes) for seed in range(20)}
    assert len(chosen) > 2  # at random


class WithoutFloat64(TorchDispatchMode):
    """As a GPU of Apple, which has no such numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert not any(leaf.dtype == torch.float64 for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)), func
        return out


def test_without_float64():
    found = measured()
    with WithoutFloat64():
        assert measured() == found
        with pytest.raises(AssertionError):
            torch.ones(1).double()


def test_a_region_that_is_measured_already_is_not_painted_again():
    model = NoisePainter()
    measured(model=model, batch_size=99)
    # class 2 is instance 4; classes 1 and 3 are parts of instance 5
    assert model.seen == [5] + [2] * 7


def test_numbers_that_are_not_finite_are_refused(monkeypatch):
    monkeypatch.setattr(NoisePainter, "synthesize", lambda self, *_: torch.full((2, 3, 4, 4), torch.nan))
    with pytest.raises(UserError, match=r"layout.png.*not finite"):
        measured(name="layout.png")


# ---- masked pictures


def test_masked_distance_is_that_of_whole_pictures_with_the_rest_blanked_out():
    values = torch.tensor([0.0, 0.2, 0.6, 1.0])
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1, :3] = True  # 3 pixels of 16
    pictures = torch.where(mask, values.view(4, 1, 1, 1), torch.rand(4, 3, 4, 4))
    for chosen, apart in (([(0, 1)], 0.2), ([(0, 3), (1, 2)], (1 + 0.4) / 2), (pairs(range(4)), 3.4 / 6)):
        found = masked_distance(rgb_distance, pictures, mask, chosen)
        assert found == pytest.approx(apart / 2 * 3 / 16)  # colours are of the range 2


def test_pairs_are_as_many_as_asked_for_and_drawn_at_random():
    assert sorted(draw_pairs(5, 10, seed=3)) == pairs(range(5)) and draw_pairs(5, 0, seed=3) == []
    drawn = [draw_pairs(5, 4, seed) for seed in range(2000)]
    assert all(len(set(chosen)) == 4 and set(chosen) <= set(pairs(range(5))) for chosen in drawn)
    counts = [sum(pair in chosen for chosen in drawn) for pair in pairs(range(5))]
    assert 690 < min(counts) <= max(counts) < 910  # 800 of each, give or take 22


@pytest.mark.parametrize("masked_pairs", [1, 2, 3])
def test_masked_pictures_are_those_of_the_other_figures(masked_pairs):
    found, plain, noise = measured(masked_pairs=masked_pairs), measured(), drawn_noise()
    for before, after in ((plain.classes, found.classes), (plain.instances, found.instances)):
        assert [(label, change._replace(masked=None)) for label, change in after] == before
    chosen = draw_pairs(3, masked_pairs, 7)
    expected = [np.mean([spread(noise[list(pair), i]) for pair in chosen]) * (i == INSTANCE).double().mean().item()
                for i in (0, 2, 4, 5)]
    masked = [change.masked for _, change in found.instances]
    assert sorted(sides.inside for sides in masked) == pytest.approx(sorted(expected), rel=1e-5)
    assert not any(sides.outside for sides in masked)
    if masked_pairs == 3:  # all pairs: the mean over the region, spread over the picture
        for _, change in found.classes:
            assert change.masked.inside == pytest.approx(change.inside * change.area, rel=1e-5)


def test_a_masked_picture_without_a_rest():
    whole = Batch(Layout(torch.full((1, 4, 4), 2), torch.full((1, 4, 4), 3), 4, with_edges=False))
    _, change = measured(layout=whole, masked_pairs=3).classes[0]
    assert change.masked == Sides(pytest.approx(change.inside), None)


def test_figures_of_masked_pictures():
    diversity = Diversity()
    for inside, outside in ((0.1, 0.5), (0.3, None)):
        masked = Change(0.9, 0.8, 0.5, Sides(inside, outside))
        other = Change(0.9, 0.8, 0.5, Sides(4 * inside, 0.0))
        diversity.add(LayoutDistances(0.7, [(1, masked), (2, other)], [(1, masked), (1, masked), (2, other)]))
    figures = diversity.figures({})
    assert figures["mCSD"] == figures["mISD"] == pytest.approx(0.9)
    assert figures["masked"] == pytest.approx({
        "mCSD": (0.2 + 0.8) / 2, "mOCD": (0.5 + 0) / 2,  # every class once
        "mISD": (4 * 0.2 + 2 * 0.8) / 6, "mOISD": (2 * 0.5 + 2 * 0) / 4})  # every instance once
    text = describe({**figures, "distance": "rgb", "num_samples": 10, "masked_pairs": 19})
    assert ("masked pictures, 19 pairs of each region (a reconstruction from the papers' text):\n"
            "one class resampled:     mCSD 0.5000   mOCD 0.2500\n"
            "one instance resampled:  mISD 0.4000   mOISD 0.2500\n") in text


def test_layout_seeds_differ():
    assert len({seed_of(seed, index) for seed in (0, 1, 2**63 - 1) for index in range(50)}) == 150


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


def photo_layout(model):
    rng = np.random.default_rng(0)
    blocks = torch.from_numpy(rng.integers(0, 9, (4, 4)).repeat(8, 0).repeat(8, 1))[None, None]
    label = blocks % CLASSES
    label[..., :20] = 1  # several classes in an instance
    image = torch.from_numpy(rng.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)).tanh()
    return model.prepare({"label": label, "instance": blocks, "image": image})


def test_parts_paint_the_same_picture():
    synthesizer = Synthesizer(build_model())
    layout = photo_layout(synthesizer)
    label, instance = layout.layout.label[0], layout.layout.instance[0]
    parts = Parts(layout)
    assert len(parts.classes) > len(instance.unique())
    styles = synthesizer.draw_styles(layout)
    expected = synthesizer.images(layout, styles)
    by_part = Styles(styles.z, styles.noise[:, parts.instances])
    torch.testing.assert_close(synthesizer.images(parts.layout, by_part), expected)
    ids = parts.layout.layout.instance[0]
    for c in np.unique(parts.classes):
        assert torch.equal(torch.isin(ids, torch.tensor(parts.of_class(c))), label == c)
    for i in np.unique(parts.instances):
        assert torch.equal(torch.isin(ids, torch.tensor(parts.of_instance(i))), instance == i)


def test_exchanged_styles():
    styles = Styles(torch.zeros(1, 2), torch.zeros(1, 5, 2, 3))
    others = Styles(torch.ones(4, 2), torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 5, 2, 3))
    mixed = styles.exchange(others, [1, 3])
    assert mixed.z.shape == (4, 2) and not mixed.z.any()
    assert not mixed.noise[:, [0, 2, 4]].any() and not styles.noise.any()
    assert torch.equal(mixed.noise[:, [1, 3]], others.noise[:, [1, 3]])


@pytest.mark.parametrize("mode", ["inade", "spade"])
def test_encoder_styles_are_those_of_inference(mode):
    synthesizer = Synthesizer(build_model("--norm_mode", mode, "--use_vae"))
    layout = photo_layout(synthesizer)
    three = Batch(copies(layout, 3).layout, layout.image.expand(3, -1, -1, -1))
    torch.manual_seed(1)
    expected = synthesizer.model.infer(three)
    torch.manual_seed(1)
    prior = synthesizer.draw_styles(three)
    encoded = synthesizer.encode_styles(layout, prior)
    torch.testing.assert_close(synthesizer.images(three, encoded), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, synthesizer.images(three, prior), atol=1e-2)


# ---- figures


def test_figures_are_means_of_what_was_added():
    rng, diversity = np.random.default_rng(0), Diversity()
    layouts = [LayoutDistances(rng.random(), *([(int(c), Change(rng.random(), None if c == 7 else rng.random(), 0.5))
                                                for c in rng.choice(8, 4, replace=False)] for _ in range(2)))
               for _ in range(30)]
    for layout in layouts:
        diversity.add(layout)
    figures = diversity.figures({3: "tree"})
    wholes = [layout.whole for layout in layouts]
    assert figures["layouts"] == 30 and figures["diversity"] == pytest.approx(np.mean(wholes))
    assert figures["standard_error"] == pytest.approx(np.std(wholes, ddof=1) / np.sqrt(30))

    by_class = [[change for layout in layouts for label, change in layout.classes if label == c] for c in range(8)]
    assert figures["mCSD"] == pytest.approx(np.mean([np.mean([e.inside for e in found]) for found in by_class]))
    assert figures["mOCD"] == pytest.approx(np.mean([np.mean([e.outside for e in found]) for found in by_class[:7]]))
    instances = [change for layout in layouts for _, change in layout.instances]
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
    assert text == "rgb diversity: 0.2500; 1 layout, 2 samples each"


# ---- the command


NUMBERS = ("layouts", "diversity", "standard_error", "mCSD", "mOCD", "mISD", "mOISD")


def test_command(world, checkpoints, tmp_path, run, monkeypatch):
    monkeypatch.setattr(synthesis, "keep_freed_memory", lambda: None)  # it would last for all tests
    (world / "classes.txt").write_text("0 0 0 1 tree\n")
    args = ["diversity_score.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", checkpoints, "--name", "exp",
            "--distance", "rgb", "--num_samples", 4, "--region_samples", 3, "--masked_pairs", 2]
    process = succeed(run(*args, "--json", tmp_path / "a" / "figures.json"))
    figures = json.loads((tmp_path / "a" / "figures.json").read_text())
    assert process.stdout.strip().endswith(describe(figures))
    assert figures["layouts"] == 3 and figures["distance"] == "rgb" and figures["seed"] == 3
    assert set(figures["classes"]) == {str(c) for c in range(CLASSES)}
    assert figures["classes"]["1"]["name"] == "tree"
    assert 0 < figures["masked"]["mISD"] < figures["mISD"] and 0 < figures["masked"]["mCSD"] < figures["mCSD"]
    assert figures["masked_pairs"] == 2 and "a reconstruction from the papers' text" in process.stdout
    assert 0 < figures["mOCD"] < figures["mCSD"] and 0 < figures["mOISD"] < figures["mISD"]

    # a part of the split, painted in other batches, with an encoder that is not asked
    succeed(run(*args, "--json", tmp_path / "first.json", "--how_many", 2, "--batchSize", 3, "--use_vae"))
    succeed(run(*args, "--json", tmp_path / "all.json", "--batchSize", 1))
    first, again = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("first", "all"))
    opt = diversity_score.DiversityOptions().parse([str(arg) for arg in args[1:]])
    synthesizer = Synthesizer.from_options(opt)
    alone, together = Diversity(), Diversity()
    for index, (_, layout) in enumerate(synthesizer.layouts(create_dataset(opt))):
        found = measure_layout(synthesizer, layout, rgb_distance, seed_of(3, index), num_samples=4,
                               region_samples=3)
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
    monkeypatch.setattr(synthesis, "keep_freed_memory", lambda: None)  # it would last for all tests
    for wrong, expected in (
        ([*args, "--perceptual_weights", tmp_path / "absent.pth"],
         r"absent.pth: the weights of AlexNet are not there.*download"),
        ([*rgb, "--num_samples", 1], "--num_samples: 1 is too small"),
        ([*rgb, "--region_samples", 1], "--region_samples: 1 is too small"),
        ([*rgb, "--region_samples", 11], "--region_samples 11.*--num_samples 10"),
        ([*rgb, "--max_regions", -1], "--max_regions: -1 is too small"),
        ([*rgb, "--masked_pairs", 7], "--masked_pairs 7: --region_samples 4 pictures have 6 pairs"),
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
    for folder in ("val_label", "label2coco"):  # empty: whoever reads them complains of that
        (tmp_path / folder).mkdir()
    process = run("diversity_score.py", *NETWORK, "--dataroot", tmp_path, "--checkpoints_dir", tmp_path,
                  "--perceptual_weights", "absent")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: absent: the weights of AlexNet are not there")
    assert process.stderr.count("\n") == 1
