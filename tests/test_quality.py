"""The offline yardstick: its measures against known answers, and the command."""
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import judges, segmenter
from benchmarks.judges import Lite2Judge, evenly, faces_found
from benchmarks.looks import Pairs, look_distances, looks, sliced_wasserstein
from benchmarks.quality import layout_figures
from benchmarks.segmenter import faithfulness, segment, trained_segmenter
from metrics.looks import ColourSpread
from metrics.segmentation_scores import confusion
from tests.worlds import CLASSES, NETWORK, build_model, draw_world, succeed
from util.errors import UserError


def test_faithfulness():
    truth = torch.tensor([[[0, 0, 1], [1, 1, 2]]])
    found = torch.tensor([[[0, 1, 1], [1, 2, 2]]])
    counts = confusion(truth, found, 4)  # class 3 occurs nowhere and does not count
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    scores = faithfulness(counts)
    assert scores == {"mIoU": pytest.approx((1 / 2 + 2 / 4 + 1 / 2) / 3), "accuracy": pytest.approx(4 / 6)}


def test_sliced_wasserstein_of_a_shift():
    """A shift by v moves every projection by its part along the direction: |v| · E|cos|, 1/2 in three dimensions."""
    random = np.random.default_rng(0)
    x, v = random.normal(size=(200, 3)), np.array([3.0, 0, 4.0])
    assert sliced_wasserstein(x, x + v, directions=20_000) == pytest.approx(5 / 2, rel=0.02)
    assert sliced_wasserstein(x, x[::-1]) == 0


@pytest.mark.parametrize(("n", "m"), [(4, 6), (5, 5), (7, 3), (1, 9)])
def test_sliced_wasserstein_of_unequal_numbers(n, m):
    """In one dimension: what scipy computes from the same samples."""
    from scipy.stats import wasserstein_distance

    random = np.random.default_rng(n)
    x, y = random.normal(size=(n, 1)), random.normal(size=(m, 1))
    assert sliced_wasserstein(x, y) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))


def painted(colors):
    """Pictures of an instance of class 1 above one of class 2, in ``colors`` [N, 2, 3]; a third has a single pixel."""
    count = len(colors)
    instances = torch.zeros(count, 8, 8, dtype=torch.int32)
    instances[:, 4:] = 1
    pictures = torch.as_tensor(colors, dtype=torch.uint8)[:, :, :, None, None].expand(-1, -1, -1, 4, 8)
    pictures = torch.cat([pictures[:, 0], pictures[:, 1]], dim=2).clone()
    instances[:, 0, 0] = 2
    return Pairs(pictures, (instances.clamp(max=1) + 1).to(torch.uint8), instances)


def test_looks():
    pairs = painted([[[10, 20, 30], [200, 100, 0]], [[11, 20, 30], [40, 40, 40]]])
    pairs.pictures[0, :, 4:, :4] = torch.tensor([100, 0, 100], dtype=torch.uint8)[:, None, None]
    found = looks(pairs)
    assert found.keys() == {1, 2}
    assert found[1].tolist() == [[10, 20, 30, pytest.approx(0)], [11, 20, 30, pytest.approx(0)]]
    halves = 0.299 * 200 + 0.587 * 100, 0.299 * 100 + 0.114 * 100  # half of the pixels each
    assert found[2][0].tolist() == pytest.approx([150, 50, 50, abs(halves[0] - halves[1]) / 2])


def test_styles_of_the_same_distribution_are_near():
    random = np.random.default_rng(0)
    train, val, same = (painted(random.integers(0, 200, (n, 2, 3))) for n in (400, 100, 100))
    other = painted(random.integers(50, 250, (100, 2, 3)))
    near, far = (look_distances(train, val, fake, 0, {1: "upper"}) for fake in (same, other))
    assert near["classes"]["1"]["name"] == "upper" and near["classes"]["2"]["instances"] == 100
    assert near["synthesized"] < 2.5 * near["real"] and far["synthesized"] > 3 * near["synthesized"]
    assert near["real"] == far["real"]
    train.labels[train.labels == 2] = 3  # a class that training does not have stands beside no real figure
    assert look_distances(train, val, same, 0, {})["classes"].keys() == {"1"}


def test_colour_spread():
    """Class 1 varies between samples alone, class 2 between its real instances alone, class 3 not at all."""
    label = np.array([[1, 1, 2, 2, 3]])
    instance = np.array([[0, 0, 1, 2, 3]])
    samples = np.zeros((2, 1, 5, 3), np.uint8)
    samples[1, :, 0], samples[1, :, 1] = 20, 40  # the instance's mean goes from 0 to 30: variance 450
    real = np.zeros((1, 5, 3), np.uint8)
    real[0, 3] = 10  # of 0 and 10: variance 50
    spread = ColourSpread()
    spread.add(label, instance, samples)
    alone = spread.figures()
    assert alone["real_spread"] is None and set(alone["classes"]) == {"1", "2", "3"}
    assert alone["sample_spread"] == pytest.approx(np.sqrt(450) / 3)
    spread.add(label, instance, samples, real)
    spread.add(label, instance, samples, real)
    figures = spread.figures()
    assert figures["classes"]["1"] == {"sample_spread": pytest.approx(np.sqrt(450)), "real_spread": 0, "instances": 3}
    assert figures["classes"]["2"] == {"sample_spread": 0, "instances": 6,
                                       "real_spread": pytest.approx(np.std([0, 10, 0, 10], ddof=1))}
    assert figures["real_spread"] == pytest.approx(np.mean([entry["real_spread"] for entry in
                                                            figures["classes"].values()]))


def test_segmenter_learns_and_is_kept(tmp_path, monkeypatch):
    labels = torch.randint(3, (32, 4, 4), generator=torch.Generator().manual_seed(0))
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    pictures = (labels * 100)[:, None].expand(-1, 3, -1, -1).contiguous()
    state = torch.get_rng_state()
    network = trained_segmenter(pictures, labels, 3, epochs=8, cache=str(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    found, features = segment(network, pictures, batch_size=7)
    assert faithfulness(confusion(labels, found, 3))["mIoU"] > 0.95 and features.shape == (32, 96)
    monkeypatch.setattr(segmenter, "_train", None)  # cannot be called again
    again, _ = segment(trained_segmenter(pictures, labels, 3, epochs=8, cache=str(tmp_path)), pictures)
    assert torch.equal(again, found)
    pictures[0, 0, 0, 0] += 1
    with pytest.raises(TypeError):  # other content, which would have to be trained on
        trained_segmenter(pictures, labels, 3, epochs=8, cache=str(tmp_path))
    with pytest.raises(UserError, match="cannot write"):  # found out before the training
        trained_segmenter(pictures, labels, 3, epochs=8, cache=str(next(tmp_path.iterdir())))


def test_damaged_segmenter_is_refused(tmp_path):
    pictures, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8)
    trained_segmenter(pictures, labels, 3, epochs=1, cache=str(tmp_path))
    path, = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"{path}: .* delete it"):
        trained_segmenter(pictures, labels, 3, epochs=1, cache=str(tmp_path))


def test_training_pictures_come_from_all_of_the_split():
    """Half of the pictures are dark and half are bright in both splits, in training the dark ones first: as many from
    all over it have the test split's statistics."""
    dark, bright = torch.rand(2, 40, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 20
    train = torch.cat([dark, bright + 200]).byte()
    val = train[::2]
    labels = torch.zeros(80, 4, 4, dtype=torch.uint8)

    def look(pictures):
        return torch.zeros(len(pictures), 4, 4, dtype=torch.long), pictures.float().mean((2, 3))

    found = layout_figures(look, Pairs(train, labels, labels), Pairs(val, labels[:40], labels[:40]), {}, 2)
    assert found["frechet"]["train"] < 1 and found["faithfulness"]["real"]["accuracy"] == 1
    few = layout_figures(look, Pairs(val[:8], labels[:8], labels[:8]), Pairs(val, labels[:40], labels[:40]), {}, 2)
    assert few["frechet"]["train"] > 1000  # all that there are


def smooth(count, seed):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, size=(32, 48), mode="bicubic").clamp(0, 255).to(torch.uint8)


def test_judge_that_no_loss_is_on(tmp_path):
    """Copies of training pictures are at distance 0 from them, other pictures are not; and in the Fréchet distance the
    real pictures are nearest to themselves."""
    train, val, other = smooth(12, 0), smooth(6, 1), smooth(6, 2)
    maps = torch.zeros(12, 32, 48, dtype=torch.uint8)
    judge = Lite2Judge(Pairs(train, maps, maps), Pairs(val, maps[:6], maps[:6]), torch.device("cpu"), batch_size=4)
    copied = torch.cat([train[3:6], other[:3]])
    figures = judge.figures({"copied": copied, "same": val, "other": other}, str(tmp_path / "nearest.png"))
    nearest = figures["nearest"]
    assert abs(nearest["copied"]["smallest"]) < 1e-5
    assert nearest["same"] == nearest["real"] and nearest["real"]["smallest"] > 1e-3
    assert figures["frechet"]["same"] == pytest.approx(0, abs=1e-6) and figures["frechet"]["other"] > 1
    assert figures["frechet"].keys() == figures["kernel"].keys() == {"train", "copied", "same", "other"}
    sheet = np.asarray(Image.open(tmp_path / "nearest.png"))
    assert sheet.shape == (64, 6 * 48, 3)
    assert np.array_equal(sheet[:32, :3 * 48], sheet[32:, :3 * 48])  # the copies, each above its original
    assert not np.array_equal(sheet[:32, 3 * 48:], sheet[32:, 3 * 48:])


def test_evenly_chosen():
    assert evenly(torch.arange(10), 4).tolist() == [0, 2, 5, 7] and evenly(torch.arange(3), 3).tolist() == [0, 1, 2]


def test_faces_are_counted_on_enlarged_pictures(monkeypatch):
    class Detector:
        def detect(self, image):
            assert min(image.size) >= 256 and image.size[0] * 2 == image.size[1] * 3
            value = image.getpixel((0, 0))[0]
            return (None, [None]) if value == 0 else (None, [value / 100, 0.1])

    monkeypatch.setitem(sys.modules, "facenet_pytorch", SimpleNamespace(MTCNN=Detector))
    pictures = torch.tensor([0, 50, 95, 100], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 48)
    assert faces_found({"some": pictures, "none": pictures[:2]}) == {"some": 0.5, "none": 0.0}
    monkeypatch.setattr(judges.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--faces: .*pip install --no-deps facenet-pytorch"):
        judges.check_face_detector()


def test_command(tmp_path, run):
    world = draw_world(tmp_path / "world", train=16, val=8)
    build_model("--checkpoints_dir", tmp_path, "--name", "exp").save("latest")
    args = ["-m benchmarks.quality", *NETWORK, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp",
            "--cache", tmp_path / "cache", "--segmenter_epochs", 1, "--locality_layouts", 2]
    first = succeed(run(*args, "--json", tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["layouts"] == 8 and 0 <= figures["faithfulness"]["synthesized"]["mIoU"] <= 1
    assert figures["frechet"]["synthesized"] > 0 and 0 < len(figures["styles"]["classes"]) <= CLASSES
    assert figures["diversity"]["mISD"] > figures["diversity"]["mOISD"] > 0 and figures["reconstruction"] is None
    assert "Fréchet" in first.stdout and "Lite0" not in first.stdout
    assert succeed(run(*args)).stdout == first.stdout
    fewer = succeed(run(*args, "--how_many", 5, "--json", tmp_path / "fewer.json"))
    assert json.loads((tmp_path / "fewer.json").read_text())["layouts"] == 5 and fewer.stdout != first.stdout
    for path in world.glob("val_inst/*"):  # one instance is all there is: nothing outside of it
        Image.new("L", Image.open(path).size).save(path)
    assert "resampled" not in succeed(run(*args)).stdout
    for wrong, named in ((["--locality_layouts", 0], "--locality_layouts"), (["--json", tmp_path], "cannot write")):
        process = run(*args, *wrong)
        assert process.returncode == 2 and named in process.stderr and len(process.stderr.splitlines()) <= 2


@pytest.mark.parametrize("encoder", [["--use_vae"], []])
def test_command_with_spade(tmp_path, run, encoder):
    """Without encoder the layout decides the picture; with it there is one style for all of a picture."""
    world = draw_world(tmp_path / "world", train=4, val=2)
    build_model("--checkpoints_dir", tmp_path, "--name", "exp", "--norm_mode", "spade", *encoder).save("latest")
    succeed(run("-m benchmarks.quality", *NETWORK, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp",
                "--norm_mode", "spade", *encoder, "--lite0", "--lite2", "--cache", tmp_path / "cache",
                "--segmenter_epochs", 1, "--json", tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    made = {"synthesized", "encoded"} if encoder else {"synthesized"}
    assert figures["judge"] == "lite0" and set(figures["frechet"]) == {"train", *made}
    assert set(figures["lite2"]["kernel"]) == {"train", *made} and set(figures["lite2"]["nearest"]) == {"real", *made}
    assert all(value > 0 for value in figures["frechet"].values())
    if not encoder:
        assert figures["diversity"] is None and figures["reconstruction"] is None
        return
    assert figures["diversity"]["diversity"] > 0 and figures["diversity"]["mISD"] is None
    assert figures["reconstruction"].keys() == {"L1", "Lite0 distance"}
    for found in figures["reconstruction"].values():
        assert 0 < found["encoded"] < 4 and found["encoded"] != found["random"]


def test_picture_of_a_model(tmp_path, run):
    """Rows of layouts, of samples as test.py draws them, and of restyled classes, outside of which styles stay."""
    world, size = draw_world(tmp_path / "world", train=2, val=3), 32
    (world / "classes.txt").write_text("".join(f"{9 * k} 0 {k} {k} class{k}\n" for k in range(CLASSES)))
    build_model("--checkpoints_dir", tmp_path, "--name", "exp", "--use_vae").save("latest")
    common = [*NETWORK, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp", "--use_vae"]
    args = ["-m benchmarks.pictures", *common, "--layouts", 0, 2, "--reconstruct", "--restyled", 1, "--samples", 2,
            "--classes", "class1,class2", "class0", "--width", size, "--out", tmp_path / "out.png"]
    succeed(run(*args))
    sheet = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    step = size + 4
    tiles = [[sheet[y:y + size, x:x + size] for x in range(0, 4 * step, step)] for y in range(0, 3 * step, step)]
    labels = [np.asarray(Image.open(world / f"val_label/p{n}.png")) for n in (0, 2, 1)]
    for row, label in zip(tiles, labels, strict=True):
        assert np.array_equal(row[0], np.stack([9 * label, 0 * label, label], -1))
    succeed(run("test.py", *common, "--styles", "prior", "--num_samples", 2, "--no_html", "--results_dir", tmp_path))
    for row, name in zip(tiles, ("p0", "p2"), strict=False):
        for n, folder in ((1, "synthesized_image"), (2, "synthesized_image_2")):
            path = tmp_path / "exp" / "test_latest" / "images" / folder / f"{name}.png"
            assert np.array_equal(row[n], np.asarray(Image.open(path)))
        assert not np.array_equal(row[3], row[2])  # of the photo
    first, second = tiles[2][1:3]
    assert not np.array_equal(first, second) and not np.array_equal(second, tiles[2][3])
    for wrong, named in ((["--layouts", 3], "the split has 3"), (["--classes", "cat"], "--classes cat")):
        process = run(*args, *wrong)
        assert process.returncode == 2 and named in process.stderr
