"""Styles under control: test.py's options of styles, what they mean, its files of styles, and runs that go on."""
import json
import os
import pickle
import re
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_command
from benchmarks import styles as styles_benchmark
from data import create_dataset
from models.layout_styles import LayoutStyles, numpy_styles
from models.networks.layout import Layout
from models.networks.styles import Styles
from models.style_control import StyleControl
from models.synthesis import Synthesizer
from options import TestOptions
from tests.conftest import ROOT
from tests.forked import Command
from tests.processes import end_by
from tests.worlds import CLASSES, NETWORK, SIZE, build_model, draw_world, succeed
from util.errors import UserError
from util.images import to_pictures
from util.parallel import run_ahead
from util.results import Results

COUNT = 4
NAMES = [f"p{n}" for n in range(COUNT)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), train=1, val=COUNT)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    build_model("--use_vae", "--name", "exp", "--checkpoints_dir", folder).save("latest")
    return folder


@pytest.fixture
def args(world, checkpoints):
    return ["test.py", *NETWORK, "--name", "exp", "--checkpoints_dir", checkpoints, "--dataroot", world]


@pytest.fixture
def control(args):
    """Makes a control of some options, and the batch of all layouts with their paths."""

    def make(*more):
        opt = TestOptions().parse([str(arg) for arg in (*args[1:], *more)])
        synthesizer = Synthesizer.from_options(opt)
        dataset = create_dataset(opt)
        data = [dataset[index] for index in range(COUNT)]
        batch = synthesizer.prepare({key: torch.stack([sample[key] for sample in data])
                                     for key in ("label", "instance", "image")})
        return StyleControl(synthesizer), batch, [sample["path"] for sample in data]

    return make


def pictures(folder, suffix="png"):
    """Path below images/ -> bytes."""
    root = folder / "exp" / "test_latest" / "images"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob(f"*.{suffix}")
            if path.parent.name not in ("real_image", "reference_image")}


# ---- the same pictures however they are made ----

def test_neither_batches_nor_workers_matter(args, tmp_path, run):
    args = [*args, "--use_vae", "--num_samples", 2]
    succeed(run(*args, "--results_dir", tmp_path / "one"))
    succeed(run(*args, "--results_dir", tmp_path / "batch", "--batchSize", 3, "--nThreads", 1))
    succeed(run(*args, "--results_dir", tmp_path / "part", "--how_many", 2, "--num_samples", 3))
    one, batch, part = (pictures(tmp_path / name) for name in ("one", "batch", "part"))
    assert one == batch and len(one) == 3 * COUNT
    first = {f"{kind}/{name}.png" for kind in ("synthesized_image", "synthesized_image_2") for name in NAMES[:2]}
    assert first <= one.keys() & part.keys() and all(one[path] == part[path] for path in first)
    assert len({one[path] for path in one if path.startswith("synth")}) == 2 * COUNT
    page = (tmp_path / "one" / "exp" / "test_latest" / "index.html").read_text()
    assert all(path in page for path in one)


def test_on_the_cpu_layouts_are_drawn_one_by_one(args, tmp_path, monkeypatch):
    """Sums depend on the number of threads that share them, and on the batch."""
    seen = set()
    images = Synthesizer.images

    def noted(self, batch, styles):
        seen.add((batch.layout.batch_size, torch.get_num_threads()))
        return images(self, batch, styles)

    monkeypatch.setattr(Synthesizer, "images", noted)
    monkeypatch.setattr(sys, "argv", [str(arg) for arg in [*args, "--batchSize", 3, "--results_dir", tmp_path]])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        test_command.main()
    finally:
        torch.set_num_threads(before)
    assert seen == {(1, 1)}


def test_whole_batches_differ_by_rounding_alone(args, tmp_path, run):
    """As a GPU draws them, with threads that only write."""
    args = [str(arg) for arg in [*args, "--num_samples", 2]]
    succeed(run(*args, "--results_dir", tmp_path / "one"))
    opt = TestOptions().parse([*args[1:], "--batchSize", "3"])
    dataset, synthesizer = create_dataset(opt), Synthesizer.from_options(opt)
    results = Results(str(tmp_path / "whole" / "exp" / "test_latest"), {}, 3)
    drawing = test_command.Drawing(synthesizer, StyleControl(synthesizer), test_command.OutputFiles(opt), results)
    drawing.one_by_one = False
    drawing.run(dataset, COUNT)
    one, whole = (tmp_path / name / "exp" / "test_latest" / "images" for name in ("one", "whole"))
    assert pictures(tmp_path / "one").keys() == pictures(tmp_path / "whole").keys()
    for path in pictures(tmp_path / "one"):
        first, second = (np.asarray(Image.open(folder / path)).astype(int) for folder in (one, whole))
        assert np.abs(first - second).max() <= 1, path


def test_names_decide_not_positions(control):
    styles, batch, paths = control("--num_samples", 2)
    drawn = styles.draw(batch, paths, seed=5).styles
    last = Layout(batch.layout.label[-1:], batch.layout.instance[-1:], CLASSES, True)
    alone = styles.draw(type(batch)(last), [f"/elsewhere/{NAMES[-1]}.jpg"], seed=5).styles
    count = last.num_instances
    for sample in range(2):
        assert torch.equal(drawn[sample].z[-1:], alone[sample].z)
        assert torch.equal(drawn[sample].noise[-1:, :count], alone[sample].noise)
    assert not torch.equal(drawn[0].z, drawn[1].z)
    assert not torch.equal(styles.draw(batch, paths, seed=6).styles[0].z, drawn[0].z)


def test_working_ahead_keeps_the_order_and_ends_at_the_first_error():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.02 * (number % 3 == 0))
        if number == 5:
            raise UserError("five")
        return number * number

    results = run_ahead(work, iter(range(100)), threads=3)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(UserError, match="five"):
        next(results)
    assert len(begun) < 20


# ---- what varies ----

@pytest.mark.parametrize(("vary", "changes"), [
    ("all", lambda label, instance: True), ("global", lambda label, instance: False),
    ("classes:1,3", lambda label, instance: label in (1, 3)),
    ("instances:0,7", lambda label, instance: instance in (0, 7)),
    ("instances:99", lambda label, instance: False),
])
def test_vary(control, vary, changes):
    styles, batch, paths = control("--num_samples", 3, "--vary", vary)
    first, *others = styles.draw(batch, paths, seed=5).styles
    free = control("--num_samples", 3)[0].draw(batch, paths, seed=5).styles
    assert torch.equal(first.noise, free[0].noise) and torch.equal(first.z, free[0].z)
    for other, drawn in zip(others, free[1:], strict=True):
        assert torch.equal(other.z, drawn.z if vary in ("all", "global") else first.z)
        for row in range(COUNT):
            for i in batch.layout.instance[row].unique().tolist():  # of a class each: the world's label is i % CLASSES
                expected = drawn if changes(i % CLASSES, i) else first
                assert torch.equal(other.noise[row, i], expected.noise[row, i])


def test_pixels_that_change_where_no_style_does(world, checkpoints, monkeypatch, capsys):
    before = np.full((2, 3, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0, 1], after[0, 1], after[1, 2, 0] = 111, 90, 255  # by 11, by 10 everywhere, by 155
    inside = np.array([[1, 1, 0], [0, 0, 0]], bool)
    assert styles_benchmark.changed_shares(before, after, inside) == (0.5, 0.25)
    monkeypatch.setattr("sys.argv", [str(word) for word in (
        "styles", *NETWORK, "--name", "exp", "--checkpoints_dir", checkpoints, "--dataroot", world, "--what", "leak")])
    styles_benchmark.main()
    instances = sum(len(np.unique(Image.open(path))) for path in (world / "val_inst").iterdir())
    shares = re.search(rf"^{instances} instances of 1%.* inside, (\d+)% change .* outside, (\d+)% \(median (\d+)%; .* "
                       r"(\d+)% to (\d+)%\)$", capsys.readouterr().out, re.MULTILINE).groups()
    within, outside, median, low, high = map(int, shares)
    assert 0 <= low <= median <= high <= 100 and within > outside >= 0


def test_classes_go_by_name(args, world, control):
    (world / "classes.txt").write_text("1 2 3 0 sky\n4 5 6 3 Tall Tree\n")
    try:
        by_name, batch, paths = control("--num_samples", 2, "--vary", "classes:tall tree,0")
        by_id = control("--num_samples", 2, "--vary", "classes:3,0")[0]
        one, other = (styles.draw(batch, paths, 5).styles[1].noise for styles in (by_name, by_id))
        assert torch.equal(one, other)
        for word, expected in (("tall trees", "similar: tall tree"), ("tree", "similar: tall tree"), ("5", "0..4"),
                               ("x", "no class x")):
            with pytest.raises(UserError, match=expected):
                control("--num_samples", 2, "--vary", f"classes:{word}")
    finally:
        (world / "classes.txt").unlink()


def test_truncation_scales_the_spread(control):
    full, batch, paths = control("--use_vae")
    half, none = (control("--use_vae", "--truncation", t)[0].draw(batch, paths, 5).styles[0] for t in (0.5, 0))
    styles = full.draw(batch, paths, 5).styles[0]
    mean = full.synthesizer.posterior(batch).mu
    assert torch.equal(none.noise, mean) and not none.z.any()
    assert torch.allclose(half.noise - mean, (styles.noise - mean) / 2, atol=1e-5)


# ---- between styles ----

def test_between_styles():
    across, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    middle = Styles(across).between(Styles(up), 0.5).z
    assert torch.allclose(middle, torch.tensor([[2.0, 2.0]]) / 2**0.5)  # half the angle, half-way in length
    a, b = (Styles(torch.randn(2, 5), torch.randn(2, 3, 2, 4)) for _ in range(2))
    assert torch.equal(a.between(b, 0).noise, a.noise) and torch.equal(a.between(b, 1).noise, b.noise)
    assert torch.allclose(a.between(b, 0.3).z, b.between(a, 0.7).z, atol=1e-5)
    for end in (torch.zeros(1, 2), -2 * across):  # no arc: the line
        assert torch.allclose(Styles(across).between(Styles(end), 0.25).z, 0.75 * across + 0.25 * end)
    assert Styles(across).between(Styles(up), 0.5).noise is None


def test_interpolation_is_shown(args, tmp_path, run):
    args = [*args, "--results_dir", tmp_path, "--how_many", 1, "--interpolate", 4, "--num_samples", 3, "--styles"]
    succeed(run(*args, "prior"))
    folder = tmp_path / "exp" / "test_latest" / "images"
    strip = np.asarray(Image.open(folder / "interpolation" / "p0.png"))
    assert strip.shape == (SIZE, 7 * SIZE, 3)
    for n, kind in ((0, "synthesized_image"), (3, "synthesized_image_2"), (6, "synthesized_image_3")):
        assert np.array_equal(strip[:, n * SIZE:][:, :SIZE], np.asarray(Image.open(folder / kind / "p0.png")))
    assert Image.open(folder / "animation" / "p0.webp").n_frames == 7
    succeed(run(*args, "encoder", "--use_vae", "--num_samples", 1, "--no_html"))
    longer = np.asarray(Image.open(folder / "interpolation" / "p0.png"))
    assert longer.shape == (SIZE, 4 * SIZE, 3) and np.array_equal(longer[:, :SIZE], strip[:, :SIZE])  # from the prior
    assert not np.array_equal(longer[:, -SIZE:], strip[:, :SIZE])


# ---- partners, references, files of styles ----

def layout_styles(rows, **styles):
    """Of a layout [1, n] of (class, instance) pairs."""
    label, instance = (torch.tensor([[column]]) for column in zip(*rows, strict=True))
    return LayoutStyles.of(Layout(label, instance, 9, False), **styles)


def test_partners():
    here = layout_styles([(1, 0)] * 2 + [(1, 4)] * 5 + [(1, 2)] * 3 + [(2, 1)] + [(7, 3)])
    assert here.instances == {0: 1, 1: 2, 2: 1, 3: 7, 4: 1}
    there = layout_styles([(1, 1)] * 2 + [(1, 0)] * 4 + [(2, 2)] + [(3, 3)])
    assert here.partners(there) == {4: 0, 2: 1, 0: 0, 1: 2}  # by size in each class, from the start again; 7 has none
    assert here.partners(here) == {i: i for i in range(5)}
    mixed = layout_styles([(5, 0), (5, 0), (1, 0)])
    assert mixed.instances == {0: 5}


def test_the_reference_of_a_layout_is_its_own_photo(args, world, tmp_path, run):
    succeed(run(*args, "--use_vae", "--results_dir", tmp_path / "own"))
    succeed(run(*args, "--reference", world, "--results_dir", tmp_path / "folder"))
    files = [world / f"val_{kind}" / "p1.png" for kind in ("img", "label", "inst")]
    succeed(run(*args, "--reference", *files, "--results_dir", tmp_path / "files"))
    succeed(run(*args, "--reference", files[0], "--results_dir", tmp_path / "photo"))
    own, folder, named, photo = (pictures(tmp_path / name) for name in ("own", "folder", "files", "photo"))
    assert own == folder and named == photo
    same = {path for path in own if own[path] == named[path] and path.startswith("synth")}
    assert same == {"synthesized_image/p1.png"}


def test_reference(control, world, tmp_path):
    """Whoever has a partner takes the reference's posterior; the others keep the prior."""
    label = np.full((SIZE, SIZE), 3, np.uint8)
    photo = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    for pixels, name in ((label, "label"), (photo, "photo")):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    styles, batch, paths = control("--reference", tmp_path / "photo.png", tmp_path / "label.png")
    prior = control("--styles", "prior")[0].draw(batch, paths, 5).styles[0]
    found = styles.draw(batch, paths, 5).styles[0]
    synthesizer = styles.synthesizer
    layout = synthesizer.layout(label, None, photo)
    source = synthesizer.model.netE(layout.image, layout.layout)
    for row in range(COUNT):
        for i in batch.layout.instance[row].unique().tolist():
            expected = prior.noise[row, i]
            if i % CLASSES == 3:
                expected = expected * torch.exp(source.logvar[0, 3] / 2) + source.mu[0, 3]
            assert torch.allclose(found.noise[row, i], expected, atol=1e-6)
    assert torch.equal(found.z, prior.z)
    api = synthesizer.transfer(first_of(batch), prior[:1], synthesizer.reference(layout))
    assert torch.allclose(api.noise, found.noise[:1])
    with pytest.raises(UserError, match="sample 0: these styles have 0 samples, numbered from 0; leave it out"):
        synthesizer.transfer(first_of(batch), prior[:1], synthesizer.reference(layout), sample=0)


def first_of(batch):
    layout = Layout(batch.layout.label[:1], batch.layout.instance[:1], CLASSES, True)
    return type(batch)(layout, batch.image[:1])


def test_a_table_says_who_takes_from_whom(control, world, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"p0": "p2", "p1": {"source": "p2", "instances": {"5": 5}}}))
    styles, batch, paths = control("--reference", world, "--reference_map", table)
    prior = control("--styles", "prior")[0].draw(batch, paths, 5).styles[0]
    found = styles.draw(batch, paths, 5).styles[0]
    changed = (found.noise != prior.noise).flatten(2).any(2)
    assert changed[1].nonzero().flatten().tolist() == [5] and changed[0].sum() > 1 and not changed[2:].any()
    for content, expected in (
        ('{"p0": "p9"}', "p9"), ("[1]", "not of the form .*fix it$"),
        ('{"p0": 3}', "not of the form"), ("{", "not of the form"),
        ('{"p0": {"source": "p1", "instances": {"a": 1}}}', "not of the form"),
        ('{"p0": {"source": "p1", "instances": {"1": 1e999}}}', "not of the form"),
        ('{"p0": {"source": "p1", "instances": 0}}', "not of the form"),
        ('{"p0": {"source": "p1", "colour": 1}}', "unknown key colour"),
    ):
        table.write_text(content)
        with pytest.raises(UserError, match=f"--reference_map .*{expected}"):
            control("--reference", world, "--reference_map", table)
    table.write_text('{"p1": {"source": "p2", "instances": {"77": 4}}}')
    with pytest.raises(UserError, match="p1 has no instance 77"):
        control("--reference", world, "--reference_map", table)[0].draw(batch, paths, 5)
    table.write_text('{"p0": "p2", "p17": "p2"}')
    with pytest.raises(UserError, match="there is no layout p17"):
        control("--reference", world, "--reference_map", table)[0].check_layouts(paths)


def test_styles_are_kept_and_come_back(args, tmp_path, run):
    save = [*args, "--use_vae", "--num_samples", 2, "--save_styles", "--results_dir", tmp_path / "save"]
    succeed(run(*save))
    files = tmp_path / "save" / "exp" / "test_latest" / "styles"
    assert sorted(path.name for path in files.iterdir()) == [f"{name}.npz" for name in NAMES]
    load = [*args, "--style_file", files, "--seed", 77, "--results_dir"]
    succeed(run(*load, tmp_path / "load", "--num_samples", 2))
    assert pictures(tmp_path / "save") == pictures(tmp_path / "load")
    succeed(run(*load, tmp_path / "vary", "--num_samples", 3, "--vary", "instances:0,1,2"))
    vary, kept = pictures(tmp_path / "vary"), pictures(tmp_path / "save")
    for name in NAMES:
        first, *others = (vary[f"synthesized_image{n}/{name}.png"] for n in ("", "_2", "_3"))
        assert first == kept[f"synthesized_image/{name}.png"] and len({first, *others}) == 3
    process = run(*load, tmp_path / "more", "--num_samples", 3)
    assert process.returncode == 2 and re.search("^error: --num_samples 3: .* 2 samples", process.stderr, re.MULTILINE)
    assert not (tmp_path / "more").exists()


def test_bad_files_of_styles(tmp_path, control):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    good = layout_styles([(1, 0), (2, 1)], **numpy_styles(Styles(torch.ones(1, 256), torch.ones(1, 2, 2, 64))))
    good.write(str(tmp_path / "good.npz"))
    arrays = dict(np.load(tmp_path / "good.npz"))
    found = LayoutStyles.read(str(tmp_path / "good.npz"), 256, 64)
    assert np.array_equal(found.noise, good.noise) and found.mu is None and found.partners(good) == {0: 0, 1: 1}
    for change, expected in (
        ({"noise": np.array([Evil()], dtype=object)}, "pickle"), ({"z": None}, "come together"),
        ({"noise": arrays["noise"][:, :1]}, "noise is"), ({"noise": arrays["noise"] * np.nan}, "not finite"),
        ({"noise": arrays["noise"] + np.float32(3e38)}, "far larger"),
        ({"mu": arrays["noise"][0], "logvar": arrays["noise"][0] + np.float32(1e4)}, "logvar is far larger"),
        ({"sizes": arrays["sizes"].astype(float)}, "sizes is float64"), ({"colour": np.ones(3)}, "colour"),
        ({"z": arrays["z"][:, :9]}, "--z_dim"), ({"z": None, "noise": None}, "neither"), ({"classes": None}, "classes"),
    ):
        content = {name: array for name, array in {**arrays, **change}.items() if array is not None}
        np.savez(tmp_path / "bad.npz", **content)
        with pytest.raises(UserError, match=rf"bad\.npz: .*{expected}"):
            control("--style_file", tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"bad\.npz: cannot be read"):
        control("--style_file", tmp_path / "bad.npz")
    assert not marker.exists()


def test_files_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("models.layout_styles._MOST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "bomb.npz", noise=np.zeros(10**6, np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 10**4
    with pytest.raises(UserError, match="more than 1000000 bytes"):
        LayoutStyles.read(str(tmp_path / "bomb.npz"), 256, 64)


def test_the_lines_of_the_document(control, world, tmp_path, monkeypatch):
    for kind, name in (("label", "label"), ("inst", "instances"), ("img", "photo")):
        shutil.copy(world / f"val_{kind}" / "p1.png", tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    styles, batch, _ = control("--use_vae")
    names = {"synthesizer": styles.synthesizer, "layout": first_of(batch)}
    exec(re.search(r"```python\n(.*?)```", (ROOT / "docs" / "styles.md").read_text(), re.DOTALL)[1], names)
    assert np.array_equal(names["again"].mu, names["reference"].mu) and names["half_way"].z.shape == (1, 256)


# ---- results ----

def test_runs_go_on(args, tmp_path, run):
    args = [*args, "--results_dir", tmp_path, "--how_many"]

    def times():
        folder = tmp_path / "exp" / "test_latest" / "images"
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.png")}

    succeed(run(*args, 3))
    before, kept = times(), pictures(tmp_path)
    (tmp_path / "exp" / "test_latest" / "images" / "input_label" / "p1.png").unlink()
    process = succeed(run(*args, 4))
    assert "2 of 4 layouts are already done with seed 3" in process.stdout
    after = times()
    assert {name for name in after if before.get(name) == after[name]} == {
        f"{kind}/{name}.png" for kind in ("input_label", "real_image", "synthesized_image") for name in ("p0", "p2")}
    assert {name: pictures(tmp_path)[name] for name in kept} == kept
    succeed(run(*args, 3, "--truncation", 0.5))  # other pictures, so that none counts
    assert all(times()[name] > after[name] for name in before)
    other = pictures(tmp_path)
    succeed(run(*args, 4))  # nor do those of before count again
    assert pictures(tmp_path)["synthesized_image/p0.png"] == kept["synthesized_image/p0.png"]
    assert other["synthesized_image/p0.png"] != kept["synthesized_image/p0.png"]


def test_without_a_seed_a_run_keeps_the_one_it_has(args, tmp_path, run):
    args = [arg for i, arg in enumerate(args) if arg != "--seed" and args[i - 1] != "--seed"]
    succeed(run(*args, "--results_dir", tmp_path, "--how_many", 1))
    first = pictures(tmp_path)
    process = succeed(run(*args, "--results_dir", tmp_path, "--how_many", 2))
    assert "1 of 2 layouts are already done" in process.stdout
    assert first.items() <= pictures(tmp_path).items()


def test_an_interrupted_run_goes_on(args, tmp_path, run):
    args = [*args, "--num_samples", 100, "--no_html", "--how_many", 4]
    process = Command(*args, "--results_dir", tmp_path / "torn")
    folder = tmp_path / "torn" / "exp" / "test_latest" / "images" / "input_label"
    end = time.monotonic() + 60
    while not (folder.is_dir() and any(folder.glob("*.png"))) and time.monotonic() < end:
        time.sleep(0.02)
    said = end_by(process, signal.SIGTERM, 1, False, np.random.default_rng(0))
    assert process.returncode == 128 + signal.SIGTERM and "goes on from there" in said, said
    there = len(pictures(tmp_path / "torn"))
    assert 1 <= there < 4 * 101 and not list(tmp_path.rglob(".writing-*"))
    process = succeed(run(*args, "--results_dir", tmp_path / "torn", "--how_many", 2))
    assert ("layouts are already done" in process.stdout) == (there >= 101)
    succeed(run(*args, "--results_dir", tmp_path / "whole", "--how_many", 2))
    whole, torn = (pictures(tmp_path / name) for name in ("whole", "torn"))
    assert whole.items() <= torn.items() and len(whole) == 2 * 101


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_formats_and_folders_of_layouts_alone(args, world, tmp_path, run, suffix):
    (tmp_path / "labels").mkdir()
    label = Image.open(world / "val_label" / "p0.png")
    label.save(tmp_path / "labels" / "a b#%.png")
    process = succeed(run(*args, "--label_dir", tmp_path / "labels", "--format", suffix, "--no_html", "--results_dir",
                          tmp_path))
    assert "no photos, label maps serve" in process.stdout and f"{SIZE}x{SIZE} pixels; " in process.stdout
    folder = tmp_path / "exp" / "test_latest"
    found = Image.open(folder / "images" / "synthesized_image" / f"a b#%.{suffix}")
    assert found.format == {"jpg": "JPEG", "webp": "WEBP"}[suffix] and found.size == (SIZE, SIZE)
    assert (folder / "images" / "input_label" / "a b#%.png").exists() and not (folder / "index.html").exists()


# ---- what does not go together ----

WRONG = {
    "--styles encoder": "--use_vae", "--styles photo": "--styles", "--num_samples 0": "--num_samples",
    "--truncation -1": "--truncation", "--truncation 0 --num_samples 2": "equal", "--vary global": "--num_samples 2",
    "--num_samples 2 --vary hair": "classes:ID", "--num_samples 2 --vary classes": "classes:ID",
    "--num_samples 2 --vary global:3": "classes:ID", "--num_samples 2 --vary classes:": "has nothing",
    "--num_samples 2 --vary classes:1,,2": "has nothing", "--num_samples 2 --vary instances:car": "by number",
    "--reference a --style_file b": "leave out one", "--reference a b c d": "4 paths",
    "--reference_map a": "--style_file", "--interpolate 1": "--interpolate", "--interpolate 5": "--num_samples 2",
    "--interpolate 999 --num_samples 9 --format webp": "16383", "--format gif": "--format",
    "--norm_mode spade --num_samples 2": "only one picture", "--norm_mode spade --interpolate 4": "only one picture",
    "--norm_mode spade --truncation 0.5": "only one picture", "--norm_mode spade --use_vae --save_styles": "inade",
    "--norm_mode spade --use_vae --num_samples 2 --vary classes:1": "inade", "--norm_mode spade --reference a": "inade",
    "--norm_mode spade --style_file a": "inade",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_go_together(words):
    with pytest.raises(UserError, match=WRONG[words]):
        TestOptions().parse([*map(str, NETWORK), *words.split()])


@pytest.mark.parametrize(("words", "expected"), [
    (["--reference", "nowhere.png"], "--reference nowhere.png: no such"),
    (["--reference", "test.py"], "--reference test.py: is not one of the data set.*PHOTO LABEL"),
    (["--reference", "docs"], "--reference docs: no label maps"),
    (["--reference", "nowhere.png", "label.png"], "cannot read label.png"),
    (["--style_file", "nowhere.npz"], "nowhere.npz: cannot be read as styles"),
    (["--style_file", "docs"], "--style_file docs: the folder has no .npz files"),
], ids=" ".join)
def test_sources_that_are_not_there(control, words, expected):
    with pytest.raises(UserError, match=expected):
        control(*words)


def test_spade_has_samples_of_the_whole_picture(world, tmp_path, run):
    spade = ["--norm_mode", "spade", "--use_vae", "--name", "exp", "--checkpoints_dir", tmp_path]
    build_model(*spade).save("latest")
    succeed(run("test.py", *NETWORK, *spade, "--dataroot", world, "--styles", "prior", "--num_samples", 2,
                "--truncation", 0.9, "--interpolate", 2, "--how_many", 1, "--results_dir", tmp_path))
    found = pictures(tmp_path)
    assert found["synthesized_image/p0.png"] != found["synthesized_image_2/p0.png"] and len(found) == 4


def test_pictures_of_the_python_api_are_those_of_the_command(args, control, tmp_path, run):
    succeed(run(*args, "--results_dir", tmp_path, "--num_samples", 2, "--how_many", 1))
    synthesizer, (_, batch, paths) = control()[0].synthesizer, control()
    one = first_of(batch)
    for sample, kind in enumerate(("synthesized_image", "synthesized_image_2")):
        images = synthesizer.images(one, synthesizer.draw_styles(one, synthesizer.seeds(3, paths[:1], sample)))
        path = tmp_path / "exp" / "test_latest" / "images" / kind / "p0.png"
        assert np.array_equal(np.asarray(Image.open(path)), to_pictures(images)[0])
