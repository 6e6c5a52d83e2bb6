"""train.py and test.py as users run them: as processes, on a small world of their own."""
import json
import os
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.inception import FIDInception
from tests.conftest import ROOT
from tests.fill import fill_
from tests.worlds import NETWORK, SIZE, TRAIN, assert_equal_networks, draw_world, networks, succeed
from util.html import PicturePage


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Two epochs of INADE with the encoder: the folder of all experiments, of which this is ``exp``."""
    from tests.conftest import run_command

    checkpoints = tmp_path_factory.mktemp("checkpoints")
    process = succeed(run_command("train.py", *TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir",
                                  checkpoints, "--use_vae", "--niter", 2, "--print_freq", 2, "--display_freq", 2,
                                  "--tf_log"))
    assert process.stdout.endswith(f"2 epochs done; networks: {checkpoints}/exp/latest_net_*.pth\n"
                                   f"training page: {checkpoints}/exp/web/index.html\n")
    return checkpoints


def test_training_leaves_what_users_look_for(trained):
    folder = trained / "exp"
    assert set(networks(folder)) == {"latest_net_G.pth", "latest_net_D.pth", "latest_net_IE.pth"}
    assert set(networks(folder, "2")) == {"2_net_G.pth", "2_net_D.pth", "2_net_IE.pth"}
    log = (folder / "loss_log.txt").read_text()
    assert len(re.findall(r"^\(epoch: \d, iters: \d, time: [\d.]+\) KLD: \S+ GAN: \S+ GAN_Feat: \S+ D_Fake: \S+ "
                          r"D_real: \S+$", log, re.MULTILINE)) == 6
    assert (folder / "iter.txt").read_text() == "3\n0\n"
    for line in (r"crop_size: 32 +\t\[default: 256\]", r"impl: fast +\t\[default: None\]"):
        assert re.search(rf"^ +{line}$", (folder / "opt.txt").read_text(), re.MULTILINE)
    page = (folder / "web" / "index.html").read_text()
    pictures = re.findall(r'<img[^>]*src="([^"]+)"', page)
    assert len(pictures) == 27  # of two times three moments, and of three layouts that are followed
    for picture in pictures:
        assert Image.open(folder / "web" / picture).size == (SIZE, SIZE)
    last = re.findall(r"(\w+): (-?[\d.]+)(?= |$)", log.splitlines()[-1].split(") ")[1])
    assert re.findall(r"<h2>(\w+)</h2>.*?<polyline", page) == [name for name, _ in last]  # a curve of each loss
    assert [float(value) for value in re.findall(r"Last: (\S+?)<", page)] == pytest.approx(
        [float(value) for _, value in last], rel=1e-2, abs=1e-3)
    assert "2 epochs done" in page and "data-refresh" not in page
    assert list((folder / "logs").iterdir())


def test_the_form_of_operations_is_chosen_by_a_word(world, trained, tmp_path, run):
    """A run goes on in another form, and says in which."""
    args = ["train.py", *TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--use_vae",
            "--no_html", "--print_freq", 2]
    succeed(run(*args, "--niter", 1, "--impl", "plain"))
    assert "impl: plain" in (tmp_path / "exp" / "opt.txt").read_text()
    assert "operations: fast" in succeed(run(*args, "--niter", 2, "--continue_train", "--dry_run")).stdout
    succeed(run(*args, "--niter", 2, "--continue_train"))
    plain, fast = logged_losses(tmp_path / "exp"), logged_losses(trained / "exp")
    assert len(plain) == len(fast) == 6
    for ours, theirs in zip(plain, fast, strict=True):
        assert ours == pytest.approx(theirs, abs=0.02)
    process = run(*args, "--impl", "triton")
    assert process.returncode == 2 and "--impl triton: the kernels do not work on the device cpu" in process.stderr


def test_resuming_continues_as_if_never_stopped(world, trained, tmp_path, run):
    args = ["train.py", *TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--use_vae"]
    succeed(run(*args, "--niter", 1))
    succeed(run(*args, "--niter", 2, "--continue_train"))
    assert_equal_networks(networks(tmp_path / "exp"), networks(trained / "exp"))
    done = run(*args, "--niter", 2, "--continue_train")
    assert done.returncode == 0 and "2 epochs done" in done.stdout


def test_resuming_restores_rate_and_optimiser(world, trained, tmp_path):
    from options import TrainOptions
    from trainers.pix2pix_trainer import Pix2PixTrainer

    args = [*TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir", trained, "--use_vae", "--niter", 1,
            "--niter_decay", 4, "--continue_train"]
    trainer = Pix2PixTrainer(TrainOptions().parse([str(arg) for arg in args]))
    assert trainer.epoch == 3 and trainer.epoch_iter == 0
    # two epochs are done, one of the four of the decay among them
    assert trainer.optimizer_G.param_groups[0]["lr"] == pytest.approx(0.0002 * 3 / 4 / 2)
    assert trainer.optimizer_D.param_groups[0]["lr"] == pytest.approx(0.0002 * 3 / 4 * 2)
    steps = {int(state["step"]) for state in trainer.optimizer_D.state_dict()["state"].values()}
    assert steps == {6}


@pytest.mark.parametrize("encoder", [[], ["--use_vae"]], ids=["prior", "encoder"])
def test_test_writes_a_gallery(world, trained, tmp_path, run, encoder):
    args = ["test.py", *NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", trained, "--batchSize", 2,
            "--results_dir", tmp_path, *encoder]
    succeed(run(*args))
    folder = tmp_path / "exp" / "test_latest"
    page = (folder / "index.html").read_text()
    for kind in ("input_label", "synthesized_image"):
        for n in range(3):
            assert Image.open(folder / "images" / kind / f"p{n}.png").size == (SIZE, SIZE)
            assert f"images/{kind}/p{n}.png" in page
    first = np.asarray(Image.open(folder / "images" / "synthesized_image" / "p0.png"))
    succeed(run(*args, "--how_many", 1))  # the same seed gives the same picture
    assert np.array_equal(np.asarray(Image.open(folder / "images" / "synthesized_image" / "p0.png")), first)


@pytest.mark.parametrize("encoder", [[], ["--use_vae"]], ids=["plain", "vae"])
def test_spade(world, tmp_path, run, encoder):
    common = ["--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--norm_mode", "spade", *encoder]
    succeed(run("train.py", *TRAIN, *common, "--niter", 1, "--no_html"))
    assert ("latest_net_E.pth" in networks(tmp_path / "exp")) == bool(encoder)
    succeed(run("test.py", *NETWORK, *common, "--results_dir", tmp_path))
    assert len(list((tmp_path / "exp" / "test_latest" / "images" / "synthesized_image").iterdir())) == 3


def test_mixed_precision_on_the_cpu(world, trained, tmp_path, run):
    succeed(run("train.py", *TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--use_vae",
                "--niter", 1, "--use_amp", "--no_html", "--print_freq", 2))
    half = networks(tmp_path / "exp")["latest_net_G.pth"]
    assert all(value.dtype in (torch.float32, torch.int64) for value in half.values())
    (first_half, *_), (first_full, *_) = logged_losses(tmp_path / "exp"), logged_losses(trained / "exp")
    assert first_half != first_full  # bfloat16 has 8 bits
    assert first_half == pytest.approx(first_full, rel=0.05, abs=0.05)


def logged_losses(folder):
    lines = [line for line in (folder / "loss_log.txt").read_text().splitlines() if line.startswith("(")]
    return [{name: float(value) for name, value in re.findall(r"(\w+): (-?[\d.]+)(?= |$)", line.split(") ")[1])}
            for line in lines]


def test_evaluation_keeps_the_best_and_disturbs_nothing(world, trained, tmp_path, run):
    weights, statistics = tmp_path / "inception.pth", f"{tmp_path}/statistics"
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), weights)
    succeed(run("fid_score.py", world / "train_img", "--save_np_name", statistics, "--dims", 64,
                "--inception_weights", weights))
    args = ["train.py", *TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--use_vae",
            "--train_eval", "--eval_dims", 64, "--eval_epoch_freq", 1, "--inception_weights", weights,
            "--eval_statistics", statistics]
    refused = run(*args, "--eval_precision", "bfloat16")
    assert refused.returncode == 2 and "error: " in refused.stderr and "bfloat16" in refused.stderr
    assert not networks(tmp_path / "exp")

    process = succeed(run(*args, "--niter", 1))
    assert "--train_eval: 3 images give" in process.stderr and "was measured at" not in process.stderr
    best = torch.load(tmp_path / "exp" / "latest_state.pth", weights_only=True)["best_fid"]
    succeed(run(*args, "--niter", 2, "--continue_train"))  # stops and goes on: the curve has both epochs
    fids = re.findall(r"epoch (\d): FID ([\d.]+)", (tmp_path / "exp" / "fid.txt").read_text())
    assert [epoch for epoch, _ in fids] == ["1", "2"] and best == pytest.approx(float(fids[0][1]), abs=1e-4)
    page = (tmp_path / "exp" / "web" / "index.html").read_text()
    assert "FID of the test split" in page and page.count("<circle") == 2 and "epoch 2: " in page
    assert set(networks(tmp_path / "exp", "best")) == {"best_net_G.pth", "best_net_D.pth", "best_net_IE.pth"}
    assert_equal_networks(networks(tmp_path / "exp"), networks(trained / "exp"))


@pytest.mark.parametrize("points", [[(1, 50.0)], [(1, 50.0), (3, 40.0), (7, 45.5)], [(1, 2.0), (2, 2.0)]])
def test_curve_on_a_page(points, tmp_path):
    page = PicturePage("run <1>", 300)
    page.add_curve("FID <of> it", "epoch", points)
    page.save(str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert "FID &lt;of&gt; it" in text and "<of>" not in text and text.count("<circle") == len(points)
    line = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', text)[1].split()]
    assert [x for x, _ in line] == sorted({x for x, _ in line})
    assert sorted(range(len(points)), key=lambda n: (line[n][1], -n)) == sorted(
        range(len(points)), key=lambda n: (-points[n][1], -n))  # lower values lie further down
    best = min(points, key=lambda point: point[1])
    assert f"Lowest: {best[1]:.4g} at epoch {best[0]}" in text


def test_evaluation_is_fid_score_on_the_pictures_of_test(world, trained, tmp_path, run):
    from options import TrainOptions
    from trainers.evaluation import NOISE_SEED, Evaluator
    from trainers.pix2pix_trainer import Pix2PixTrainer

    weights, statistics = tmp_path / "inception.pth", f"{tmp_path}/statistics.npz"
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), weights)
    common = ["--dims", 64, "--inception_weights", weights]
    succeed(run("fid_score.py", world / "train_img", "--save_np_name", statistics, *common))
    args = [*TRAIN, "--dataroot", world, "--name", "exp", "--checkpoints_dir", trained, "--use_vae", "--continue_train",
            "--eval_dims", 64, "--inception_weights", weights, "--eval_statistics", statistics]
    opt = TrainOptions().parse([str(arg) for arg in args])
    trainer = Pix2PixTrainer(opt)
    before = torch.get_rng_state()
    measured = Evaluator(opt).fid(trainer.model)
    assert torch.equal(torch.get_rng_state(), before) and trainer.model.training

    succeed(run("test.py", *NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", trained, "--batchSize",
                2, "--results_dir", tmp_path, "--seed", NOISE_SEED))
    process = succeed(run("fid_score.py", statistics, tmp_path / "exp/test_latest/images/synthesized_image",
                          "--json", tmp_path / "fid.json", *common))
    assert json.loads((tmp_path / "fid.json").read_text())["fid"] == pytest.approx(measured, rel=1e-6)
    assert process.stdout == f"FID: {measured:.6f}\n"


def wrong_uses(world, trained, tmp_path):
    """Name -> (arguments, what the message must name)."""
    train = ["train.py", *TRAIN, "--name", "wrong", "--checkpoints_dir", tmp_path]
    test = ["test.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", trained, "--results_dir", tmp_path]
    high_label = draw_world(tmp_path / "high")
    Image.fromarray(np.full((SIZE, SIZE), 77, np.uint8)).save(high_label / "train_label" / "p0.png")
    missing_photo = draw_world(tmp_path / "missing")
    (missing_photo / "train_img" / "p3.png").unlink()
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "latest_net_G.pth").write_bytes(b"PK\x03\x04 torn")
    shutil.copytree(trained / "exp", trained / "bare", ignore=shutil.ignore_patterns("opt.txt"))
    ade = tmp_path / "ade"
    for folder, suffix in (("images/training", "jpg"), ("annotations/training", "png")):
        (ade / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(ade / folder / f"ADE_train_0.{suffix}")
    return {
        "unknown dataset": ([*train, "--dataset_mode", "nowhere"], "--dataset_mode"),
        "unknown option": ([*train, "--colour", "red"], "--colour"),
        "missing folder": ([*train, "--dataroot", tmp_path / "nothing"], "nothing"),
        "label outside the classes": ([*train, "--dataroot", high_label], r"train_label/p0.png.* 77"),
        "label outside the classes, in a worker": ([*train, "--dataroot", high_label, "--nThreads", 1], "p0.png.* 77"),
        "count mismatch": ([*train, "--dataroot", missing_photo], "p3"),
        "missing instance maps": (["train.py", "--dataset_mode", "ade20k", "--dataroot", ade, "--gpu_ids", "-1",
                                   "--checkpoints_dir", tmp_path, "--no_vgg_loss"], "make_instances.py"),
        "missing VGG weights": ([*(arg for arg in train if arg != "--no_vgg_loss"), "--dataroot", world,
                                 "--vgg_weights", tmp_path / "vgg.pth"], r"vgg.pth.*download"),
        "missing statistics": ([*train, "--dataroot", world, "--train_eval"], "custom"),
        "missing checkpoint": ([*test, "--name", "nobody"], "nobody"),
        "torn checkpoint": (["test.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "torn"],
                            "latest_net_G.pth"),
        "other width": ([*test, "--name", "exp", "--ngf", 8], "--ngf 8: the networks have --ngf 4"),
        "other width, without opt.txt": ([*test, "--name", "bare", "--ngf", 8], r"conv_0.*--ngf"),
        "other classes": ([*test, "--name", "exp", "--label_nc", 9], "--label_nc 9: the networks have --label_nc 5"),
        "other mode": ([*test, "--name", "exp", "--norm_mode", "spade"], r"--norm_mode"),
        "several GPUs": ([*train, "--dataroot", world, "--gpu_ids", "0,1,2"], "--batchSize 2: must be a multiple of 3"),
        "batch too large": ([*train, "--dataroot", world, "--batchSize", 7], "--batchSize"),
        "crop size": ([*train, "--dataroot", world, "--crop_size", 40, "--load_size", 40], "--crop_size"),
        "no epochs": ([*train, "--dataroot", world, "--niter", 0], "--niter"),
        "nothing to resume": ([*train, "--dataroot", world, "--continue_train", "--which_epoch", 7], "7_state.pth"),
        **({} if torch.cuda.is_available() else {
            "no CUDA": ([*train, "--dataroot", world, "--gpu_ids", "0"], "--gpu_ids 0"),
        }),
    }


def test_wrong_use_gets_one_line(world, trained, tmp_path, run):
    for name, (args, expected) in wrong_uses(world, trained, tmp_path).items():
        process = run(*args)
        assert process.returncode == 2, (name, process.stderr)
        lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in process.stderr, (name, process.stderr)
        assert re.search(expected, lines[0]), (name, lines[0])
    for path in (tmp_path / "wrong").glob("*_state.pth"):  # what was trained before a bad file was met
        assert torch.load(path, weights_only=True)["epoch_iter"] > 0


def test_quickstart_does_the_whole_job(tmp_path, run):
    process = succeed(run("quickstart.py", "--out", "my folder", "--scenes", 16, "--epochs", 1, "--width", 2,
                          cwd=tmp_path, timeout=600))
    assert "between instances of one class" in process.stdout and "index.html" in process.stdout
    out = tmp_path / "my folder"
    assert Image.open(out / "gallery" / "gallery.png").size[0] > 128
    assert (out / "checkpoints" / "scenes" / "latest_net_IE.pth").exists()
    assert process.stdout.startswith("export OMP_NUM_THREADS=")
    lines = [shlex.split(line) for line in process.stdout.splitlines()]
    lines = [line[1:] for line in lines if line[:1] == [os.path.relpath(sys.executable, ROOT)]]
    assert [line[0] for line in lines] == ["-m", "train.py", "gallery.py"]
    assert lines[2][lines[2].index("--gallery_dir") + 1] == str(out / "gallery")
    (out / "gallery" / "gallery.png").unlink()
    succeed(run(*lines[2]))  # as printed, in the project's root
    assert (out / "gallery" / "gallery.png").exists()


def test_networks_that_are_not_finite_are_not_saved(world, tmp_path, run):
    process = run("train.py", *TRAIN, "--dataroot", world, "--name", "nan", "--checkpoints_dir", tmp_path, "--niter", 2,
                  "--lr", 1e30, "--no_html")
    assert process.returncode == 2 and re.search(r"^error: loss \w+ is (nan|-?inf)", process.stderr, re.MULTILINE)
    assert not networks(tmp_path / "nan")


def test_layouts_of_another_size_are_refused(world, trained, tmp_path, run):
    process = run("test.py", *NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", trained,
                  "--results_dir", tmp_path, "--preprocess_mode", "scale_width", "--load_size", 64)
    assert process.returncode == 2 and "64x64" in process.stderr and "Traceback" not in process.stderr
