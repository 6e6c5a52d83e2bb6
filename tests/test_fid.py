"""FID: the network, the statistics, the distance, the files and the command.

The network is filled by name (tests/fill.py), so that no test needs the published weights. Slow reference formulas
(numpy.cov, scipy's matrix square root, pytorch-fid where it is installed) stand against the project's own.
"""
import io
import itertools
import json
import pickle
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

import fid_score
from metrics import statistics_files
from metrics.distances import fid, kid, unbiased_mmd
from metrics.images import ImageFolder, list_images, read_image
from metrics.inception import FEATURE_DIMS, WEIGHTS_FILE, FIDInception, load_inception
from metrics.protocol import Measured, Meter, Protocol, check_comparable, measure_folder
from metrics.statistics import FeatureStatistics, checked_gaussian
from metrics.statistics_files import load_statistics, save_statistics
from tests.fill import fill_
from util.device import find_device
from util.errors import UserError
from util.images import to_uint8

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
GOLDEN = SHARED / "parity" / "fid_coco256.npz"
COCO = SHARED / "data" / "coco_stuff"
GAIN = 1.7


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> str:
    """A weights file with every key of the published one."""
    path = tmp_path_factory.mktemp("inception") / "filled.pth"
    torch.save(fill_(FIDInception(), "inception.", GAIN).state_dict(), path)
    return str(path)


@pytest.fixture(scope="session")
def small(weights) -> FIDInception:
    """The network up to 64 features: quick."""
    return load_inception(64, path=weights)


def photo(seed: int, height: int = 40, width: int = 48) -> Image.Image:
    """A smooth coloured picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folders(tmp_path) -> tuple[str, str]:
    """Two folders of images, the first with subfolders."""
    for number in range(5):
        for folder, seed in ((tmp_path / "real" / f"city{number % 2}", number), (tmp_path / "fake", 50 + number)):
            folder.mkdir(parents=True, exist_ok=True)
            photo(seed).save(folder / f"{number}.png")
    return str(tmp_path / "real"), str(tmp_path / "fake")


def random_covariance(seed: int, dims: int, rank: int | None = None) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((rank or 2 * dims, dims))
    return rows.T @ rows / len(rows)


def reference_distance(mu1, s1, mu2, s2) -> float:
    """Through the square root of the product, as FID is usually computed."""
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((mu1 - mu2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root.real))


# ---- network


@pytest.mark.skipif(not (GOLDEN.exists() and COCO.exists()), reason="recordings of real photos are not here")
@pytest.mark.parametrize("dims", FEATURE_DIMS)
def test_golden(weights, dims):
    golden = np.load(GOLDEN)
    inception = load_inception(dims, path=weights)
    sets = {}
    for split in ("train", "val"):
        files = [str(COCO / f"{split}_img" / name) for name in golden[f"{split}_files"]]
        pixels = np.stack([read_image(file, (256, 256)) for file in files])
        features = inception(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        if f"{split}_feat_{dims}" in golden:
            expected = golden[f"{split}_feat_{dims}"]
            assert np.abs(features[:4].numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
        sets[split] = FeatureStatistics(dims)
        sets[split].update(features)
    assert fid(sets["train"], sets["val"]) == pytest.approx(float(golden[f"fid_{dims}"]), rel=1e-4)


@pytest.fixture(scope="session")
def oracle(weights):
    """pytorch-fid's own network with the same weights, giving all four features."""
    module = pytest.importorskip("pytorch_fid.inception")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: torch.load(weights, weights_only=True))
        return module.InceptionV3([0, 1, 2, 3]).eval()


@pytest.mark.parametrize("dims", FEATURE_DIMS)
def test_features_are_those_of_pytorch_fid(oracle, weights, dims):
    images = torch.from_numpy(np.stack([np.asarray(photo(seed, 130, 170)) for seed in (1, 2)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = oracle(images / 255)[FEATURE_DIMS.index(dims)].mean((2, 3))
    features = load_inception(dims, path=weights)(images)
    assert features.shape == (2, dims) and features.dtype == torch.float32
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_keys_are_those_of_pytorch_fid(weights):
    module = pytest.importorskip("pytorch_fid.inception")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: torch.load(weights, weights_only=True))
        theirs = module.fid_inception_v3().state_dict()
    ours = FIDInception().state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert ours["fc.weight"].shape == (1008, 2048)


def test_folded_batch_norm_changes_nothing(weights):
    network = FIDInception().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    plain, folded = network(image), load_inception(path=weights)(image)
    assert (plain - folded).abs().max() <= 1e-5 * plain.abs().max()


def test_bytes_and_unit_range_give_the_same_features(small):
    pixels = torch.randint(0, 256, (2, 3, 30, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small(pixels), small(pixels.float() / 255))


def test_loading_draws_no_random_numbers(weights):
    before = torch.get_rng_state()
    network = load_inception(64, path=weights)
    assert torch.equal(before, torch.get_rng_state())
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_weights_without_batch_counters(weights, tmp_path, small):
    state = torch.load(weights, weights_only=True)
    torch.save({k: v for k, v in state.items() if "num_batches_tracked" not in k}, tmp_path / "old.pth")
    image = torch.rand(1, 3, 20, 20)
    assert torch.equal(load_inception(64, path=str(tmp_path / "old.pth"))(image), small(image))


def test_absent_weights_say_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for path in (None, str(tmp_path / "mine.pth")):
        with pytest.raises(UserError) as caught:
            load_inception(64, path=path)
        line = str(caught.value)
        assert str(tmp_path / "checkpoints" / WEIGHTS_FILE) in line and line.startswith(path or str(tmp_path))
        assert "github.com/mseitzer/pytorch-fid" in line and "fid_weights" in line and "\n" not in line


def test_weights_in_the_cache_are_used_whatever_their_hash(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / WEIGHTS_FILE).symlink_to(weights)
    load_inception(64)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and "warning" in warning and "6726825d" in warning


def broken_weights():
    fc = {"fc.weight": torch.zeros(1000, 2048)}
    return {
        "is missing": {"fc.bias": torch.zeros(1008)},
        r"fc.weight is \[1000, 2048\], not \[1008": fc,
        "AuxLogits.fc.bias is unknown": {"AuxLogits.fc.bias": torch.zeros(3)},
        "no state dict": {"epoch": 3},
        "cannot be read": b"not weights at all",
    }


@pytest.mark.parametrize("problem", broken_weights())
def test_wrong_weights(problem, tmp_path):
    content, path = broken_weights()[problem], tmp_path / "wrong.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=problem) as caught:
        load_inception(64, path=str(path))
    assert str(path) in str(caught.value) and WEIGHTS_FILE in str(caught.value)


def test_damaged_weights(weights, tmp_path):
    (tmp_path / "half.pth").write_bytes(Path(weights).read_bytes()[:1 << 20])
    with pytest.raises(UserError, match="cannot be read"):
        load_inception(64, path=str(tmp_path / "half.pth"))
    state = torch.load(weights, weights_only=True)
    state["Mixed_7c.branch1x1.bn.bias"][3] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"nan\.pth: Mixed_7c\.branch1x1\.bn\.bias has values that are not finite"):
        load_inception(64, path=str(tmp_path / "nan.pth"))


# ---- statistics


@pytest.mark.parametrize("count", [2, 7, 8, 9, 16, 100])
def test_streaming_is_numpy_cov(count):
    features = 1e4 + np.random.default_rng(count).standard_normal((count, 8)) * np.arange(1, 9)
    statistics = FeatureStatistics(8)
    for batch in np.array_split(features, [1, 4, 4, 15, 40]):
        statistics.update(torch.from_numpy(batch))
    assert statistics.count == count
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-13)
    np.testing.assert_allclose(statistics.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(statistics.root.T @ statistics.root, statistics.covariance, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("first", "second"), [(0, 30), (30, 0), (3, 4), (7, 30), (30, 7), (20, 20)])
def test_merged_statistics_are_those_of_all(first, second):
    features = np.random.default_rng(0).standard_normal((first + second, 6)) + 3
    parts = FeatureStatistics(6), FeatureStatistics(6)
    parts[0].update(features[:first])
    parts[1].update(features[first:])
    parts[0].merge(parts[1])
    assert parts[0].count == first + second and parts[1].count == second
    np.testing.assert_allclose(parts[0].mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts[0].covariance, np.cov(features, rowvar=False), rtol=1e-10, atol=1e-12)


def test_memory_does_not_grow_with_images():
    statistics = FeatureStatistics(16)
    sizes = []
    for _ in range(2):
        statistics.update(np.random.default_rng(0).standard_normal((1000, 16)))
        sizes.append(len(pickle.dumps(statistics)))
    assert sizes[1] <= sizes[0] + 16


def test_reading_statistics_does_not_change_them():
    statistics = FeatureStatistics(4)
    rows = np.random.default_rng(0).standard_normal((20, 4))
    for row in rows:
        statistics.update(row[None])
        if statistics.count > 1:
            _ = statistics.mean, statistics.covariance, statistics.root
    np.testing.assert_allclose(statistics.covariance, np.cov(rows, rowvar=False))


def test_statistics_refuse():
    statistics = FeatureStatistics(4)
    with pytest.raises(UserError, match="0 images"):
        _ = statistics.mean
    statistics.update(np.zeros((1, 4)))
    with pytest.raises(UserError, match="1 images"):
        _ = statistics.covariance
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match="not finite"):
            statistics.update(np.full((1, 4), bad))
    assert statistics.count == 1
    with pytest.raises(ValueError, match="expected"):
        statistics.update(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="dimensions"):
        statistics.merge(FeatureStatistics(5))


# ---- distance


def frechet_distance(mu1: np.ndarray, s1: np.ndarray, mu2: np.ndarray, s2: np.ndarray) -> float:
    """Of N(mu1, s1) and N(mu2, s2)."""
    return fid(*(checked_gaussian(mean, s, np.size(mu1), "statistics") for mean, s in ((mu1, s1), (mu2, s2))))


def test_distance_in_closed_form():
    rng = np.random.default_rng(0)
    a, b, shift = rng.uniform(0.1, 5, 20), rng.uniform(0.1, 5, 20), rng.standard_normal(20)
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    expected = shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    for basis in (np.eye(20), turn):
        s1, s2 = (basis * a) @ basis.T, (basis * b) @ basis.T
        assert frechet_distance(np.zeros(20), s1, shift, s2) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(np.ones(1), np.eye(1) * 4, np.zeros(1), np.eye(1) * 9) == pytest.approx(2)


@pytest.mark.parametrize("rank", [64, 5, 1])
def test_distance_to_itself_is_zero(rank):
    mean, covariance = np.arange(64.0), random_covariance(0, 64, rank)
    assert 0 <= frechet_distance(mean, covariance, mean, covariance) <= 1e-9 * np.trace(covariance)


def test_rank_deficient_distances():
    u, v = np.random.default_rng(0).standard_normal((2, 30))
    zero, mean = np.zeros((30, 30)), np.zeros(30)
    line_u, line_v = np.outer(u, u), np.outer(v, v)
    assert frechet_distance(mean, line_u, mean, line_v) == pytest.approx(u @ u + v @ v - 2 * abs(u @ v), rel=1e-10)
    assert frechet_distance(mean, line_u, mean, zero) == pytest.approx(u @ u)
    assert frechet_distance(mean, zero, mean + 2, zero) == pytest.approx(120)


@pytest.mark.parametrize("dims", [3, 40, 150])
def test_distance_is_that_of_the_matrix_square_root(dims):
    means = np.random.default_rng(dims).standard_normal((2, dims))
    s1, s2 = random_covariance(1, dims), 2 * random_covariance(2, dims)
    distance = frechet_distance(means[0], s1, means[1], s2)
    assert distance == pytest.approx(reference_distance(means[0], s1, means[1], s2), rel=1e-8)
    assert distance == pytest.approx(frechet_distance(means[1], s2, means[0], s1), rel=1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_distance_is_that_of_pytorch_fid():
    module = pytest.importorskip("pytorch_fid.fid_score")
    mean, s1, s2 = np.linspace(-1, 1, 50), random_covariance(1, 50), random_covariance(2, 50)
    try:
        expected = module.calculate_frechet_distance(mean, s1, -mean, s2)
    except (TypeError, ValueError) as error:
        pytest.skip(f"pytorch-fid does not work with this scipy: {error}")
    assert frechet_distance(mean, s1, -mean, s2) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("real_count", "fake_count"), [(5, 9), (9, 200), (200, 9), (32, 33), (150, 200)])
def test_features_and_covariances_give_the_same_distance(real_count, fake_count):
    rng = np.random.default_rng(real_count)
    features = rng.standard_normal((real_count, 32)), 1.5 * rng.standard_normal((fake_count, 32)) + 0.2
    real, fake = FeatureStatistics(32), FeatureStatistics(32)
    real.update(features[0])
    fake.update(features[1])
    s1, s2 = (np.cov(f, rowvar=False) for f in features)
    expected = reference_distance(features[0].mean(0), s1, features[1].mean(0), s2)
    assert fid(real, fake) == pytest.approx(expected, rel=1e-4)  # the reference errs where rank is lacking
    assert fid(real, fake) == pytest.approx(frechet_distance(real.mean, s1, fake.mean, s2), rel=1e-8)


def test_distance_refuses():
    mean, s = np.zeros(3), np.eye(3)
    crooked = s + np.triu(np.ones((3, 3)), 1)
    for second, problem in (((np.zeros(4), np.eye(4)), "4 dimensions, but 3"), ((mean, np.eye(2)), "do not fit"),
                            ((mean * np.nan, s), "not finite"), ((mean, s + np.inf), "not finite"),
                            ((mean, crooked), "not a covariance"), ((mean, -s), "not a covariance")):
        with pytest.raises(UserError, match=problem):
            frechet_distance(mean, s, *second)


def reference_kid(x, y) -> float:
    """The unbiased estimate term by term."""
    def k(a, b):
        return (sum(i * j for i, j in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(rows):
        values = [k(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return sum(values) / len(values)

    across = [k(a, b) for a in x for b in y]
    return within(x) + within(y) - 2 * sum(across) / len(across)


def test_kernel_distance_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((9, 4)) + 1
    assert unbiased_mmd(x, y) == pytest.approx(reference_kid(x, y), rel=1e-12)
    assert unbiased_mmd(np.ones((2, 1)), np.zeros((3, 1))) == pytest.approx(8 + 1 - 2)


def test_subsets_of_the_kernel_distance():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((11, 4)) + 1
    halves = [reference_kid(x[list(i)], y[list(j)])
              for i in itertools.combinations(range(7), 3) for j in itertools.combinations(range(11), 3)]
    result = kid(x, y, subsets=4000, seed=1)
    assert (result.subsets, result.subset_size) == (4000, 3)
    spread = np.std(halves)
    assert result.value == pytest.approx(np.mean(halves), abs=5 * spread / np.sqrt(4000))
    assert result.error == pytest.approx(spread * np.sqrt(3 / 4), rel=0.1)
    assert kid(x, y, seed=1) == kid(x, y, seed=1) != kid(x, y, seed=2)
    assert kid(x, y, subset_size=2).subset_size == 2
    with pytest.raises(UserError, match="at least 4"):
        kid(x[:3], y)


def test_standard_error_of_the_kernel_distance_is_how_much_it_varies():
    rng = np.random.default_rng(0)
    results = [kid(rng.standard_normal((40, 8)), rng.standard_normal((40, 8)) + 0.7, subsets=50) for _ in range(200)]
    spread = np.std([result.value for result in results])
    assert np.mean([result.error for result in results]) == pytest.approx(spread, rel=0.3)
    same = [kid(rng.standard_normal((40, 8)), rng.standard_normal((40, 8)), subsets=50) for _ in range(200)]
    mean = np.mean([result.value for result in same])
    assert abs(mean) < 4 * np.std([result.value for result in same]) / np.sqrt(200)  # without bias


# ---- statistics on disk


@pytest.fixture
def statistics_dir(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(statistics_files, "STATISTICS_DIR", str(tmp_path / "train_mu_si"))
    return tmp_path / "train_mu_si"


PROTOCOL = Protocol(256, 512, "bicubic", 100, 64, "float32", "ab" * 32)


@pytest.mark.parametrize("protocol", [PROTOCOL, None], ids=["recorded", "unrecorded"])
def test_statistics_go_both_ways(protocol, statistics_dir, tmp_path):
    statistics = FeatureStatistics(64)
    statistics.update(np.random.default_rng(0).standard_normal((100, 64)))
    for name, place in (("scenes", statistics_dir / "scenes"), (f"{tmp_path}/elsewhere", tmp_path / "elsewhere"),
                        (f"{tmp_path}/one.npz", tmp_path / "one.npz")):
        assert save_statistics(name, Measured("somewhere", statistics, protocol)) == str(place)
        loaded = load_statistics(name, 64)
        assert (loaded.source, loaded.protocol) == (str(place), protocol)
        assert np.array_equal(loaded.statistics.mean, statistics.mean)
        assert np.array_equal(loaded.statistics.covariance, statistics.covariance)
        assert 0 <= fid(loaded.statistics, statistics) < 1e-8
    record = {"protocol.json"} if protocol else set()
    assert {p.name for p in (statistics_dir / "scenes").iterdir()} == {"m.npy", "s.npy"} | record
    assert np.load(statistics_dir / "scenes" / "s.npy").dtype == np.float64
    with np.load(tmp_path / "one.npz") as file:
        assert set(file) == {"mu", "sigma"} | ({"protocol"} if protocol else set())
    module = pytest.importorskip("pytorch_fid.fid_score")  # reads .npz without a look at the record
    mean, _ = module.compute_statistics_of_path(str(tmp_path / "one.npz"), None, 1, 64, "cpu")
    assert np.array_equal(mean, statistics.mean)


def test_records_of_earlier_versions_lack_what_has_a_default(tmp_path):
    statistics = FeatureStatistics(64)
    statistics.update(np.eye(64))
    save_statistics(f"{tmp_path}/s", Measured("a", statistics, PROTOCOL))
    record = asdict(PROTOCOL)
    for name in ("extractor", "orientation"):
        record.pop(name, None)
    (tmp_path / "s" / "protocol.json").write_text(json.dumps({**record, "of a later one": 1}))
    assert load_statistics(f"{tmp_path}/s", 64).protocol == PROTOCOL
    (tmp_path / "s" / "protocol.json").write_text(json.dumps({**record, "extractor": 1}))
    with pytest.raises(UserError, match="cannot be read as statistics"):
        load_statistics(f"{tmp_path}/s", 64)


def test_a_record_does_not_outlive_its_statistics(tmp_path):
    statistics = FeatureStatistics(64)
    statistics.update(np.eye(64))
    save_statistics(f"{tmp_path}/s", Measured("a", statistics, PROTOCOL))
    save_statistics(f"{tmp_path}/s", Measured("b", statistics, None))
    assert load_statistics(f"{tmp_path}/s", 64).protocol is None


def test_failed_save_leaves_the_old_files(tmp_path):
    class Broken:
        mean = np.ones(2)

        @property
        def covariance(self):
            raise RuntimeError

    good = FeatureStatistics(2)
    good.update(np.eye(2))
    for name in (f"{tmp_path}/folder/", f"{tmp_path}/file.npz"):
        save_statistics(name, Measured("good", good, None))
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(RuntimeError):
            save_statistics(name, Measured("broken", Broken(), PROTOCOL))
        assert sorted(tmp_path.rglob("*")) == before
        assert np.array_equal(load_statistics(name, 2).statistics.mean, good.mean)


def test_unusable_statistics(statistics_dir, tmp_path):
    def refused(problem: str, name: str, dims: int = 64) -> None:
        with pytest.raises(UserError, match=problem) as caught:
            load_statistics(name, dims)
        assert name.removesuffix("/") in str(caught.value)

    refused("no such file", "nothing")
    refused("no such file", f"{tmp_path}/nothing.npz")
    file = tmp_path / "a.npz"
    file.write_bytes(b"PK\x03\x04 nonsense")
    refused("cannot be read", str(file))
    np.savez(file, mean=np.zeros(64))
    refused("no arrays mu and sigma", str(file))
    np.savez(file, mu=np.zeros(64), sigma=np.eye(64))
    refused("--dims 64", str(file), 2048)
    np.savez(file, mu=np.full(64, np.nan), sigma=np.eye(64))
    refused("not finite", str(file))
    np.savez(file, mu=np.zeros(64), sigma=np.eye(63))
    refused("do not fit", str(file))
    np.savez(file, mu=np.array([object()]), sigma=np.eye(1))
    refused("cannot be read", str(file))
    folder = statistics_dir / "half"
    folder.mkdir(parents=True)
    np.save(folder / "m.npy", np.zeros(64))
    refused("s.npy: no such file", "half")
    (folder / "s.npy").write_bytes(b"")
    refused("cannot be read", "half")
    np.save(folder / "s.npy", np.eye(64))
    for record in ("{", "[]", "{}", json.dumps({**asdict(PROTOCOL), "height": "tall"})):
        (folder / "protocol.json").write_text(record)
        refused("cannot be read", "half")
    (folder / "protocol.json").write_text(json.dumps({**asdict(PROTOCOL), "dims": 2048}))
    refused("protocol has 2048 dimensions", "half")


# ---- images


def test_to_uint8_is_what_the_png_writer_stores():
    images = torch.linspace(-1.2, 1.2, 10001).reshape(1, 1, 73, 137)
    published = np.clip((images.numpy() + 1) / 2.0 * 255.0, 0, 255).astype(np.uint8)
    assert np.array_equal(to_uint8(images).numpy(), published)
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 127, 255]
    assert to_uint8(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.uint8


def test_disk_and_generator_give_the_same_numbers(small, tmp_path):
    fakes = torch.rand(11, 3, 32, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    meter = Meter(small)
    for batch in fakes.split([1, 2, 5, 3]):  # the generator's batches are not Inception's
        meter.add(to_uint8(batch), ["fake"] * len(batch))
    direct = meter.finish()[0]
    for number, image in enumerate(to_uint8(fakes)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:02}.png")
    for threads in (1, 3):
        stored = measure_folder(ImageFolder.find(str(tmp_path)), small, threads=threads)
        assert stored.statistics.count == direct.count == 11
        assert np.array_equal(stored.statistics.mean, direct.mean)
        assert np.array_equal(stored.statistics.covariance, direct.covariance)
        assert stored.protocol == Protocol(32, 24, None, 11, 64, "float32", small.weights)
    single = measure_folder(ImageFolder.find(str(tmp_path)), small, batch_size=1)
    np.testing.assert_allclose(single.statistics.mean, direct.mean, rtol=1e-6)


def test_kept_features_are_those_of_the_statistics(small, folders):
    measured = measure_folder(ImageFolder.find(folders[0]), small, batch_size=2, keep_features=True)
    assert measured.features.shape == (5, 64)
    np.testing.assert_allclose(measured.features.mean(0), measured.statistics.mean, rtol=1e-6)


def test_features_that_are_not_finite_name_the_image(small):
    class Broken:
        dims, device = 4, small.device

        def __call__(self, images):
            return torch.where(images[:, 0, 0, :4] == 7, torch.nan, 1.0)

    meter = Meter(Broken(), batch_size=2)
    images = torch.zeros(4, 3, 5, 5, dtype=torch.uint8)
    images[2] = 7
    with pytest.raises(UserError, match=r"^third: .*not finite"):
        meter.add(images, ["first", "second", "third", "fourth"])
    with pytest.raises(ValueError, match="8-bit"):
        meter.add(torch.zeros(1, 3, 5, 5), ["float"])


def test_what_does_not_compare_is_pointed_out(capsys):
    def said(first: Protocol | None, second: Protocol | None) -> str:
        check_comparable(("one", first), ("two", second))
        return capsys.readouterr().err

    enough = replace(PROTOCOL, count=65)
    assert said(PROTOCOL, enough) == said(PROTOCOL, replace(enough, resize=None)) == ""
    assert "two: 64 images" in said(PROTOCOL, replace(PROTOCOL, count=64))
    assert "one was measured at 512x256, two at 256x256" in said(PROTOCOL, replace(PROTOCOL, width=256))
    assert "bicubic filter, two by a box one" in said(PROTOCOL, replace(PROTOCOL, resize="box"))
    ignored = replace(PROTOCOL, orientation="ignore")
    assert "one was measured with --orientation apply, two with ignore" in said(PROTOCOL, ignored)
    assert said(ignored, ignored) == said(ignored, replace(PROTOCOL, orientation=None)) == ""
    note = said(None, PROTOCOL)
    assert note.startswith("note: one: no protocol is recorded") and "512x256" in note and note.count("\n") == 1
    assert said(None, None).count("note: ") == 2
    for change in ({"precision": "bfloat16"}, {"weights": "cd" * 32}):
        with pytest.raises(UserError, match=r"^one: .*two.*measure both sides"):
            check_comparable(("one", PROTOCOL), ("two", replace(PROTOCOL, **change)))


def test_bfloat16_is_near_float32_and_kept_apart(weights, folders, tmp_path, monkeypatch, capsys):
    images = torch.from_numpy(np.stack([np.asarray(photo(seed)) for seed in range(3)])).permute(0, 3, 1, 2)
    full, half = (load_inception(192, path=weights, precision=p)(images) for p in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert 1e-5 < (half - full).norm() / full.norm() < 3e-2

    statistics = f"{tmp_path}/half"
    common = ("--dims", "64", "--inception_weights", weights)
    assert run(monkeypatch, capsys, *folders, "--save_np_name", statistics, *common, "--precision", "bfloat16")[0] == 0
    status, out, err = run(monkeypatch, capsys, "-", folders[1], "--load_np_name", statistics, *common)
    assert (status, out) == (2, "") and f"error: {statistics}: features of bfloat16" in err
    assert run(monkeypatch, capsys, "-", folders[1], "--load_np_name", statistics, *common,
               "--precision", "bfloat16")[0] == 0


def test_images_are_found_in_subfolders_in_order(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a/z.jpeg", "c.PNG", ".hidden.png", "notes.txt", ".thumbnails/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(p).relative_to(tmp_path)) for p in list_images(str(tmp_path))]
    assert found == ["a/z.jpeg", "b/1.png", "b/2.JPG", "c.PNG"]


def test_every_folder_is_read_once(tmp_path):
    """Links are followed, but neither in circles nor to a folder that is read already."""
    for name in ("set/a/1.png", "set/b/2.png", "elsewhere/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = tmp_path / "set"
    for link, target in (("a/loop", folder), ("b/itself", folder / "b"), ("copy_of_b", folder / "b"),
                         ("elsewhere", tmp_path / "elsewhere"), ("3.png", tmp_path / "elsewhere" / "3.png")):
        (folder / link).symlink_to(target)
    found = [str(Path(path).relative_to(folder)) for path in list_images(str(folder))]
    assert found == ["3.png", "a/1.png", "b/2.png", "elsewhere/3.png"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_every_usual_mode_becomes_rgb(mode, tmp_path):
    path = str(tmp_path / ("a.tif" if mode == "CMYK" else "a.PNG"))
    image = photo(0, 10, 12).convert(mode)
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (10, 12, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_resizing_is_bicubic_height_by_width(tmp_path):
    photo(0, 50, 30).save(tmp_path / "a.png")
    expected = np.asarray(photo(0, 50, 30).resize((64, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(read_image(str(tmp_path / "a.png"), (32, 64)), expected)


def test_unusable_images_are_named(small, tmp_path):
    for number in range(3):
        photo(number).save(tmp_path / f"{number}.png")
    bad = tmp_path / "1.png"
    encoded = io.BytesIO()
    photo(1).save(encoded, "png")
    deep = io.BytesIO()
    Image.fromarray(np.full((40, 48), 3000, np.uint16)).save(deep, "png")
    other = io.BytesIO()
    photo(1, 41, 48).save(other, "png")
    for content, problem in ((b"no image", "cannot read"), (b"", "cannot read"),
                             (encoded.getvalue()[:-400], "cannot read"), (deep.getvalue(), "16 or 32 bits"),
                             (other.getvalue(), "48x41 pixels, but .*0.png has 48x40.*--resize_size")):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=problem) as caught:
            measure_folder(ImageFolder.find(str(tmp_path)), small, 2)
        assert str(bad) in str(caught.value)
    resized = measure_folder(ImageFolder.find(str(tmp_path), (40, 40)), small)  # one size for all
    assert resized.protocol == Protocol(40, 40, "bicubic", 3, 64, "float32", small.weights)


@pytest.mark.parametrize("colour_type", [2, 6], ids=["RGB", "RGBA"])
def test_colours_of_16_bits_keep_their_high_bytes(colour_type, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3 if colour_type == 2 else 4), dtype=np.uint16)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, colour_type, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert np.array_equal(read_image(str(tmp_path / "deep.png")), pixels[..., :3] >> 8)


# ---- command


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["fid_score.py", *arguments])
    status = 0
    try:
        fid_score.main()
    except SystemExit as stop:
        status = stop.code
    output = capsys.readouterr()
    return status, output.out, output.err


def test_command_prints_the_distance(folders, weights, oracle):
    command = [sys.executable, "fid_score.py", *folders, "--dims", "64", "--inception_weights", weights]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    features = []
    for folder in folders:
        pixels = np.stack([np.asarray(Image.open(path)) for path in list_images(folder)])
        with torch.no_grad():
            features.append(oracle(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)[0].mean((2, 3)).double().numpy())
    statistics = [value for f in features for value in (f.mean(0), np.cov(f, rowvar=False))]
    assert done.stdout.startswith("FID: ")
    assert float(done.stdout.removeprefix("FID: ")) == pytest.approx(reference_distance(*statistics), rel=1e-4)
    assert done.stderr.count("warning") == 2 and "5 images" in done.stderr and "64 dimensions" in done.stderr


def test_command_as_a_process_refuses_in_one_line(tmp_path):
    done = subprocess.run([sys.executable, "fid_score.py", str(tmp_path), str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"error: {tmp_path}: has no images") and done.stderr.count("\n") == 1


def test_command_saves_and_loads_statistics(folders, weights, statistics_dir, tmp_path, monkeypatch, capsys):
    real, fake = folders
    common = ("--dims", "64", "--resize_size", "32", "--inception_weights", weights)
    sizes = []
    monkeypatch.setattr(fid_score, "measure_folder", lambda folder, *rest, **options: (
        sizes.append(folder.size) or measure_folder(folder, *rest, **options)))

    status, direct, _ = run(monkeypatch, capsys, real, fake, *common)
    assert status == 0 and sizes == [(32, 32)] * 2
    status, out, _ = run(monkeypatch, capsys, real, fake, "--save_np_name", "scenes", *common)
    assert status == 0 and out.splitlines() == [f"statistics saved in {statistics_dir}/scenes", direct.strip()]
    loaded = fake, "--batch-size", "1", "--load_np_name", "scenes", *common
    status, out, err = run(monkeypatch, capsys, "absent", *loaded)  # as published
    assert status == 0 and "absent is not read: --load_np_name scenes stands for it" in err
    assert float(out.removeprefix("FID: ")) == pytest.approx(float(direct.removeprefix("FID: ")), rel=1e-5)

    sizes.clear()
    assert run(monkeypatch, capsys, real, "--save_np_name", "cityscapes", *common)[0] == 0
    assert run(monkeypatch, capsys, real, fake, "--load_np_name", "cityscapes", *common)[0] == 0
    assert sizes == [(32, 64)] * 2

    # from a folder to .npz and back; statistics on both sides need no network; a set has no distance to itself
    npz = str(tmp_path / "scenes.npz")
    assert run(monkeypatch, capsys, "-", "--load_np_name", "scenes", "--save_np_name", npz, "--dims", "64")[0] == 0
    status, out, _ = run(monkeypatch, capsys, npz, npz, "--dims", "64", "--inception_weights", "absent")
    assert status == 0 and float(out.removeprefix("FID: ")) == pytest.approx(0, abs=1e-6)
    assert run(monkeypatch, capsys, npz, "--save_np_name", "copy", "--dims", "64")[0] == 0
    copy, scenes = load_statistics("copy", 64), load_statistics("scenes", 64)
    assert np.array_equal(copy.statistics.mean, scenes.statistics.mean) and copy.protocol == scenes.protocol

    # statistics of another size, or turned otherwise, are pointed out; those of another network are refused, as is KID
    other = ("-", fake, "--load_np_name", "scenes", "--dims", "64", "--inception_weights")
    status, _, err = run(monkeypatch, capsys, *other, weights, "--resize_size", "40")
    assert status == 0 and f"{statistics_dir}/scenes was measured at 32x32, {fake} at 40x40" in err
    status, _, err = run(monkeypatch, capsys, *other, weights, "--orientation", "ignore")
    assert status == 0 and f"{statistics_dir}/scenes was measured with --orientation apply, {fake} with ignore" in err
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "fc.bias": state["fc.bias"] + 1}, tmp_path / "other.pth")
    status, out, err = run(monkeypatch, capsys, *other, str(tmp_path / "other.pth"))
    assert (status, out) == (2, "") and err.splitlines()[-1].startswith(f"error: {statistics_dir}/scenes: features of")
    status, out, err = run(monkeypatch, capsys, *other, weights, "--metrics", "kid")
    assert (status, out) == (2, "") and err.startswith("error: --metrics kid: scenes")


def test_command_writes_kid_and_json(folders, weights, tmp_path, monkeypatch, capsys):
    common = (*folders, "--dims", "64", "--inception_weights", weights, "--metrics", "fid", "kid", "--kid_subsets", "7")
    results = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        status, out, _ = run(monkeypatch, capsys, *common, "--seed", seed, "--json", f"{tmp_path}/{name}.json")
        results.append(json.loads((tmp_path / f"{name}.json").read_text()))
        assert status == 0 and re.fullmatch(
            r"FID: [\d.]+\nKID: -?[\d.]+ ± [\d.]+ \(7 subsets of 2 images\)\n", out), out
        assert float(out.split()[1]) == pytest.approx(results[-1]["fid"], abs=1e-6)
    assert results[0] == results[1] and results[0]["kid"] != results[2]["kid"]
    assert results[0]["real"]["path"] == folders[0] and results[0]["fake"]["protocol"]["count"] == 5
    assert list(results[0]) == ["fid", "kid", "kid_standard_error", "kid_subsets", "kid_subset_size", "seed", "real",
                                "fake"]


def test_wrong_use_ends_with_status_2_and_one_line(folders, weights, statistics_dir, tmp_path, monkeypatch, capsys):
    real, fake = folders
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "single").mkdir()
    photo(0).save(tmp_path / "single" / "0.png")
    single = str(tmp_path / "single")
    (tmp_path / "three").mkdir()
    for number in range(3):
        photo(number).save(tmp_path / "three" / f"{number}.png")
    for arguments, mention in (
        ((), "PATH_REAL"),
        ((real,), "PATH_FAKE"),
        ((real, fake), WEIGHTS_FILE),
        ((real, fake, "--inception_weights", "absent.pth"), "absent.pth"),
        ((real, fake, "--dims", "100"), "100"),
        ((real, fake, "--gpu", "0"), "no CUDA device"),
        ((real, fake, "--gpu", "zero"), "--gpu zero"),
        ((real, fake, "-c", "0,1"), "--gpu 0,1"),
        ((real, fake, "--batch-size", "0"), "--batch-size: 0 is too small"),
        ((real, fake, "--resize_size", "0"), "--resize_size: 0 is too small"),
        ((real, fake, "--num-workers", "0"), "--num-workers: 0 is too small"),
        ((real, fake, "--metrics", "kid", "--kid_subsets", "1"), "--kid_subsets: 1 is too small"),
        ((real, fake, "--metrics", "is"), "--metrics"),
        ((real, str(tmp_path / "three"), "--metrics", "kid", "--inception_weights", weights), "three: has 3 images"),
        ((real, fake, "--precision", "float16"), "--precision"),
        ((real, fake, "--json", real), "cannot write"),
        ((real, "--save_np_name", f"{real}/city0/0.png/statistics"), "cannot write"),
        ((real, fake, "--load_np_name", "nothing"), "nothing/m.npy"),
        (("absent", fake), "absent: not a folder"),
        ((real, "absent"), "absent: not a folder"),
        ((real, "absent.npz"), "absent.npz"),
        ((real, single), f"{single}: has 1 image, but a covariance needs at least 2"),
    ):
        status, out, err = run(monkeypatch, capsys, *arguments)
        assert (status, out) == (2, ""), arguments
        *counted, line = err.splitlines()  # what is read is said before
        assert line.startswith("error: ") and mention in line and all(" images, in " in note for note in counted), err


def test_gpu_is_chosen_by_number(monkeypatch):
    assert find_device("--gpu", "") == find_device("--gpu", "-1") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("--gpu", "1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match=r"--gpu 2: .*numbered from 0"):
        find_device("--gpu", "2")
