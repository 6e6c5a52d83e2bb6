"""Averaged networks: the average itself, what is estimated for it, and that the run goes on as without it."""
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.inception import FIDInception
from models.networks.normalization import INADE, SPADE
from models.networks.spectral import SpectralConv2d
from models.synthesis import Synthesizer
from options import TrainOptions
from tests.conftest import run_command
from tests.fill import fill_
from tests.interruptions import contents
from tests.worlds import NETWORK, TRAIN, draw_world, succeed
from trainers.ema import SEED
from trainers.pix2pix_trainer import Pix2PixTrainer
from trainers.visualizer import Visualizer
from util.errors import UserError
from util.seed import seed_of

HALF_LIFE = 4  # two steps of two images


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """The folder of all experiments, of which ``exp`` is a run of one epoch with averages and ``raw`` one without."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, extra in (("exp", ["--ema", HALF_LIFE]), ("raw", [])):
        succeed(run_command("train.py", *train_args(world, folder), "--name", name, "--niter", 1, *extra))
    return folder


def train_args(world, folder):
    return [*TRAIN, "--dataroot", world, "--checkpoints_dir", folder, "--use_vae", "--no_html", "--print_freq", 2,
            "--init_variance", 1, "--lr", 0.02]  # whose pictures differ


def trainer_of(world, folder, *args):
    args = [*train_args(world, folder), "--name", "exp", *args]
    return Pix2PixTrainer(TrainOptions().parse([str(arg) for arg in args]))


def weights(model):
    """Name -> parameter, of the networks that are averaged."""
    return {f"{label}.{key}": value.detach().clone() for label, network in model.networks().items() if label != "D"
            for key, value in network.named_parameters()}


@pytest.fixture
def stepped(request, world, tmp_path):
    """A trainer after three generator steps, and the weights at the start and after each."""
    torch.manual_seed(0)
    extra = getattr(request, "param", "").split()
    trainer = trainer_of(world, tmp_path, "--ema", HALF_LIFE, *extra)
    data, history = next(trainer.average._batches()), [weights(trainer.model)]
    for _ in range(3):
        trainer.run_generator_one_step(data)
        history.append(weights(trainer.model))
        trainer.run_discriminator_one_step(data)
    return trainer, history


def test_the_average_is_that_of_its_formula(stepped):
    trainer, history = stepped
    decay = 0.5 ** (2 / HALF_LIFE)
    shares = [decay**3, (1 - decay) * decay**2, (1 - decay) * decay, 1 - decay]
    averaged = weights(trainer.average.model)
    assert averaged.keys() == history[0].keys()
    for key, value in averaged.items():
        expected = sum(share * then[key].double() for share, then in zip(shares, history, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(averaged["G.conv_img.weight"], history[-1]["G.conv_img.weight"])


def test_the_half_life_counts_all_images(world, tmp_path):
    """With several steps of the discriminators for one of the generator, also theirs."""
    trainer = trainer_of(world, tmp_path, "--ema", 6, "--D_steps_per_G", 3)  # 3 batches of 2: one half-life
    before = weights(trainer.model)
    trainer.run_generator_one_step(next(trainer.average._batches()))
    after, averaged = weights(trainer.model), weights(trainer.average.model)
    for key, value in averaged.items():
        torch.testing.assert_close(value, (before[key] + after[key]) / 2, rtol=1e-5, atol=1e-7)


def test_a_file_that_became_unusable_does_not_prevent_a_save(stepped, monkeypatch, capsys):
    trainer, _ = stepped

    def batches():
        yield next(good)
        raise UserError("p1.png: cannot be read")

    good = trainer.average._batches()
    monkeypatch.setattr(trainer.average, "_batches", batches)
    trainer.data_seed, trainer.data_digest = 0, ""
    trainer.save("latest")
    assert "p1.png: cannot be read. The averaged networks are saved with the run's batch" in capsys.readouterr().err
    saved = trainer.average.state()["G"]
    raw = trainer.model.netG.state_dict()
    assert all(torch.equal(value, raw[key]) for key, value in saved.items() if "running_" in key)


@pytest.mark.parametrize("stepped", ["", "--norm_mode spade", "--mix_prior"], indirect=True)
def test_batch_statistics_are_the_means_over_batches(stepped):
    """Over batches as in training: with --mix_prior, half of every batch is in styles of the prior."""
    average = stepped[0].average
    average.estimate()
    layers = [layer for layer in average.model.modules() if isinstance(layer, INADE | SPADE)]
    found = [(layer.param_free_norm.running_mean.clone(), layer.param_free_norm.running_var.clone())
             for layer in layers]
    seen = {layer: [] for layer in layers}
    for layer in layers:
        layer.param_free_norm.train()
        layer.register_forward_pre_hook(
            lambda layer, inputs: seen[layer].append(getattr(inputs[0], "full", inputs[0]).double()))
    torch.manual_seed(SEED)
    paths = []
    for batch in average._batches():
        paths += batch["path"]
        layouts = average.model.prepare(batch)
        styles = average.model.mode.prior(layouts.layout)
        encoded = average.model.netE(layouts.image, layouts.layout).remap(styles)
        if average.opt.mix_prior:
            encoded.noise[1::2], encoded.z[1::2] = styles.noise[1::2], styles.z[1::2]
        average.model.synthesize(layouts, encoded)
    assert len(set(paths)) == 6  # each layout of the train split once
    for (mean, var), values in zip(found, seen.values(), strict=True):
        assert len(values) == 3
        expected = torch.stack([x.mean((0, 2, 3)) for x in values]).mean(0)
        torch.testing.assert_close(mean.double(), expected, rtol=1e-4, atol=1e-5)
        expected = torch.stack([x.var((0, 2, 3)) for x in values]).mean(0)
        torch.testing.assert_close(var.double(), expected, rtol=1e-4, atol=1e-6)


def test_singular_vectors_are_those_of_the_averaged_weights(stepped):
    average = stepped[0].average
    layers = [layer for layer in average.model.modules() if isinstance(layer, SpectralConv2d)]

    @torch.no_grad()
    def norms():
        """Spectral norm of every weight / sigma."""
        return torch.stack([torch.linalg.matrix_norm(layer.weight_orig.flatten(1), 2) * layer.gain()
                            for layer in layers])

    before = norms()  # of the raw weights' vectors
    average.estimate()
    assert len(layers) == 18 and (norms() <= before + 1e-5).all()
    assert norms().max() < 1.05 < before.max()


def test_estimates_do_not_depend_on_when_they_are_made(stepped):
    """Nor do they touch the run's random state, or its networks."""
    trainer, history = stepped
    rng = torch.get_rng_state()
    buffers = {key: value.clone() for key, value in trainer.model.named_buffers()}
    first = trainer.average.state()
    torch.randn(3)
    trainer.average.load(first, "state")
    trainer.average._estimated = False
    for own, raw in trainer.average._pairs():  # as after the last step
        for buffer, value in zip(own.buffers(), raw.buffers(), strict=True):
            buffer.copy_(value)
    torch.set_rng_state(rng)
    second = trainer.average.state()
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, second[label][key]) for label, state in first.items() for key, value in state.items())
    assert all(torch.equal(value, history[-1][key]) for key, value in weights(trainer.model).items())
    assert all(torch.equal(value, buffers[key]) for key, value in trainer.model.named_buffers())


# ---- runs ----

def test_the_run_is_that_without_averages(finished):
    with_averages, without = contents(finished / "exp"), contents(finished / "raw")
    extra = with_averages.keys() - without.keys()
    assert {key.split("/")[0] for key in extra} == {
        *(f"{epoch}_net_{label}_ema.pth" for epoch in ("1", "latest") for label in ("G", "IE")),
        *(f"{epoch}_state.pth" for epoch in ("1", "latest"))}
    assert all("/average/" in key for key in extra if "_state.pth" in key)
    for key, value in without.items():
        assert key.endswith("/average") or with_averages[key] == value, key


def test_interrupted_runs_end_alike(tmp_path):
    """With evaluation of both networks: killed between the files of a save, and stopped by a signal."""
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), tmp_path / "inception.pth")
    inception = ["--inception_weights", tmp_path / "inception.pth"]
    photos = draw_world(tmp_path / "real") / "train_img"
    succeed(run_command("fid_score.py", photos, "--save_np_name", tmp_path / "real", "--dims", 64, *inception))
    (tmp_path / "runs").mkdir()
    extra = ["--ema", HALF_LIFE, "--train_eval", "--eval_dims", 64, "--eval_epoch_freq", 1, "--eval_statistics",
             tmp_path / "real", *inception, "--init_variance", 1, "--lr", 0.02]  # whose pictures differ
    script = ("import sys\nfrom pathlib import Path\nfrom tests.interruptions import Experiment, run_all\n"
              "experiment = Experiment(Path(sys.argv[1]), sys.argv[2:])\n"
              "run_all(experiment, [16, 29], kills=0, signals=1, seed=0)\n")  # in the saves of latest and best
    process = run_command("-c", script, tmp_path / "runs", *extra)
    assert process.returncode == 0, process.stdout + process.stderr

    folder = tmp_path / "runs" / "reference"
    lines = (folder / "fid.txt").read_text().splitlines()
    found = re.findall(r"^epoch (\d): (averaged )?FID ([\d.]+)$", "\n".join(lines), re.MULTILINE)
    assert [(epoch, bool(kind)) for epoch, kind, _ in found] == [("1", False), ("1", True), ("2", False), ("2", True)]
    assert len({fid for *_, fid in found}) == len(lines) == 4
    page = (folder / "web" / "index.html").read_text()
    assert "FID of the test split</h2>" in page and "averaged FID of the test split</h2>" in page
    assert page.count("<circle") == 4
    # the averaged networks decide what is best
    averaged = {epoch: float(fid) for epoch, kind, fid in found if kind}
    state = torch.load(folder / "best_state.pth", weights_only=True)
    assert state["best_fid"] == pytest.approx(min(averaged.values()), abs=1e-4)
    assert state["epoch"] == int(min(averaged, key=averaged.get))


def test_an_average_begins_and_ends_with_its_option(world, finished, tmp_path, capsys):
    folder = shutil.copytree(finished / "exp", tmp_path / "exp")
    begun = trainer_of(world, tmp_path, "--ema", HALF_LIFE, "--continue_train")
    with pytest.raises(UserError, match=r"--ema 7\.0 \(it was 4\.0\)"):
        trainer_of(world, tmp_path, "--ema", 7, "--continue_train")
    ended = trainer_of(world, tmp_path, "--continue_train")
    assert "without --ema from here on" in capsys.readouterr().out
    assert ended.average is None
    ended.data_seed, ended.best_fid = 0, 1.0
    ended.save("latest")
    with pytest.raises(UserError, match=r"latest_state\.pth: has no averaged networks"):
        Synthesizer.load(str(folder), use_ema=True)
    anew = trainer_of(world, tmp_path, "--ema", 7, "--continue_train")
    assert "the average begins with these networks" in capsys.readouterr().out
    present, averaged = weights(anew.model), weights(anew.average.model)
    assert all(torch.equal(value, present[key]) for key, value in averaged.items())
    assert not torch.equal(weights(begun.average.model)["G.fc.weight"], present["G.fc.weight"])
    assert anew.best_fid is None  # of other networks


# ---- testing ----

def test_averaged_networks_are_tested_on_request(world, finished, tmp_path):
    args = ["test.py", *NETWORK, "--dataroot", world, "--checkpoints_dir", finished, "--results_dir", tmp_path]
    succeed(run_command(*args, "--name", "exp", "--use_ema"))
    picture = np.asarray(Image.open(tmp_path / "exp" / "test_latest_ema" / "images" / "synthesized_image" / "p0.png"))
    pictures = {}
    for use_ema in (True, False):
        synthesizer = Synthesizer.load(str(finished / "exp"), use_ema=use_ema)
        files = (world / f"val_{kind}" / "p0.png" for kind in ("label", "inst", "img"))
        layout = synthesizer.read(*map(str, files))
        pictures[use_ema] = synthesizer.pictures(layout, synthesizer.draw_styles(layout, [seed_of(3, "p0", 0)]))[0]
    assert np.array_equal(picture, pictures[True]) and not np.array_equal(picture, pictures[False])

    process = run_command(*args, "--name", "raw", "--use_ema")
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert re.search(r"^error: .*latest_state\.pth: has no averaged networks; .*--ema$", process.stderr, re.MULTILINE)


def test_raw_networks_do_not_pass_for_averages(world, tmp_path):
    """Without encoder, the generator is all that there is."""
    args = [arg for arg in train_args(world, tmp_path) if arg != "--use_vae"]
    succeed(run_command("train.py", *args, "--name", "exp", "--niter", 1, "--ema", HALF_LIFE))
    expected = weights(Synthesizer.load(str(tmp_path / "exp"), use_ema=True).model)
    shutil.copy(tmp_path / "exp" / "latest_net_G.pth", tmp_path / "exp" / "latest_net_G_ema.pth")
    found = weights(Synthesizer.load(str(tmp_path / "exp"), use_ema=True).model)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("damage", ["missing", "of another moment", "half"])
def test_averages_beside_a_state_are_those_of_the_state(finished, tmp_path, capsys, damage):
    folder = shutil.copytree(finished / "exp", tmp_path / "exp")
    expected = weights(Synthesizer.load(str(folder), use_ema=True).model)
    path = folder / "latest_net_G_ema.pth"
    if damage == "missing":
        path.unlink()
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        shutil.copy(folder / "latest_net_G.pth", path)
    capsys.readouterr()
    found = weights(Synthesizer.load(str(folder), use_ema=True).model)
    assert "using the networks in it" in capsys.readouterr().out
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    (folder / "latest_state.pth").unlink()
    if damage == "missing":
        with pytest.raises(UserError, match=r"latest_net_G_ema\.pth: no averaged networks there"):
            Synthesizer.load(str(folder), use_ema=True)


def test_fids_of_an_epoch_that_is_repeated_are_removed(tmp_path):
    args = [*TRAIN, "--checkpoints_dir", tmp_path, "--name", "exp", "--no_html"]
    opt = TrainOptions().parse([str(arg) for arg in args])
    (tmp_path / "exp").mkdir()
    for epoch in (1, 2):
        Visualizer(opt, epoch).log_fid(epoch, 50.0 + epoch, 40.0 + epoch)
    Visualizer(opt, 2)
    assert (tmp_path / "exp" / "fid.txt").read_text() == "epoch 1: FID 51.0000\nepoch 1: averaged FID 41.0000\n"
