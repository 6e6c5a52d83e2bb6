"""Runs that are interrupted and go on; checkpoints that are damaged, of another run, or of no use."""
import io
import os
import re
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
import torch

from models.batches import Batch
from models.networks.loss import Loss
from models.pix2pix_model import Pix2PixModel
from options import TestOptions, TrainOptions
from tests.conftest import run_command
from tests.forked import Command
from tests.interruptions import contents
from tests.worlds import CLASSES, SIZE, draw_world
from trainers import pix2pix_trainer, run_state
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.checkpoints import load_tensors, save_tensors
from util.errors import UserError
from util.files import exclusive

NETWORK = ["--dataset_mode", "custom", "--label_nc", CLASSES, "--load_size", SIZE, "--crop_size", SIZE, "--ngf", 2,
           "--noise_nc", 4, "--z_dim", 8, "--gpu_ids", "-1", "--use_vae", "--seed", 3]
TRAIN = ["train.py", *NETWORK, "--ndf", 2, "--no_vgg_loss", "--batchSize", 2, "--print_freq", 2,
         "--save_latest_freq", 2, "--save_epoch_freq", 1, "--no_html"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A run of two epochs: the folder of all experiments, of which it is ``exp``."""
    folder = tmp_path_factory.mktemp("checkpoints")
    process = run_command(*TRAIN, "--dataroot", world, "--checkpoints_dir", folder, "--name", "exp", "--niter", 2)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it to spoil: the folder of the run."""
    subprocess.run(["cp", "-rp", str(finished / "exp"), str(tmp_path / "exp")], check=True)
    return tmp_path / "exp"


def trainer_of(folder: Path, *args: object) -> Pix2PixTrainer:
    """A trainer that goes on with the run in ``folder``."""
    args = [*TRAIN[1:], "--checkpoints_dir", folder.parent, "--name", folder.name, "--continue_train", *args]
    return Pix2PixTrainer(TrainOptions().parse([str(arg) for arg in args]))


def model_of(folder: Path, epoch: str = "latest") -> Pix2PixModel:
    args = [*NETWORK, "--checkpoints_dir", folder.parent, "--name", folder.name]
    model = Pix2PixModel(TestOptions().parse([str(arg) for arg in args]))
    model.load(epoch)
    return model


def test_interrupted_runs_end_alike():
    """kill -9 after renames of files and at random moments, and signals: see tests/interruptions.py."""
    process = run_command("-m tests.interruptions", "--renames", 14, "--kills", 6, "--signals", 6, timeout=600)
    assert process.returncode == 0 and "ended alike" in process.stdout, process.stdout + process.stderr


@pytest.mark.parametrize("extra", [
    ["--nThreads", 2], ["--use_amp", "--D_steps_per_G", 2],
    ["--netD", "projected", "--use_vae", "--mix_prior", "--lambda_color", 0.5, "--ema", 8]], ids=str)
def test_going_on_in_the_middle_of_an_epoch(world, tmp_path, extra):
    args = [*TRAIN, "--dataroot", world, "--checkpoints_dir", tmp_path, *extra]
    assert run_command(*args, "--name", "whole", "--niter", 2).returncode == 0
    # the state after the second of three steps, which a run of the same options saved on its way
    script = ("import sys, os, signal, train\nfrom trainers import run_state\nsave = run_state.save\n"
              "def once(model, state, epoch):\n    save(model, state, epoch)\n"
              "    state['epoch_iter'] == 4 and os.kill(os.getpid(), signal.SIGKILL)\n"
              "run_state.save = once\nsys.argv = ['train.py', *sys.argv[1:]]\ntrain.main()\n")
    process = run_command("-c", script, *args[1:], "--name", "cut", "--niter", 2)
    assert process.returncode == -signal.SIGKILL, process.stderr
    process = run_command(*args, "--name", "cut", "--niter", 2, "--continue_train")
    assert process.returncode == 0 and "epoch 1, image 4" in process.stdout, process.stderr
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_the_same_line_again_and_again(world, tmp_path):
    args = [*TRAIN, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp", "--continue_train", "--niter",
            1]
    first = run_command(*args)
    assert first.returncode == 0 and "nothing was saved" in first.stdout, first.stderr
    before = contents(tmp_path / "exp")
    again = run_command(*args)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert contents(tmp_path / "exp") == before


def test_a_new_run_does_not_lose_the_one_before(world, copied):
    before = {path.name: path.read_bytes() for path in copied.glob("*.pth")}
    process = run_command(*TRAIN, "--dataroot", world, "--checkpoints_dir", copied.parent, "--name", "exp", "--niter",
                          1)
    assert process.returncode == 0 and "earlier_1" in process.stdout
    assert {path.name: path.read_bytes() for path in (copied / "earlier_1").glob("*.pth")} == before
    assert not (copied / "2_state.pth").exists()


def test_a_restart_goes_on_with_what_its_own_launch_saved(world, copied, monkeypatch):
    """As torchrun starts it again, once before the earlier run was set aside, and once after all was saved."""
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this one")
    args = [*TRAIN, "--dataroot", world, "--checkpoints_dir", copied.parent, "--name", "exp", "--niter"]
    process = run_command(*args, 1)
    assert process.returncode == 0 and "earlier_1" in process.stdout and "continuing" not in process.stdout
    process = run_command(*args, 2)
    assert process.returncode == 0 and "epoch 2, image 0" in process.stdout, process.stderr
    assert not (copied / "earlier_2").exists()


@pytest.mark.parametrize(("args", "named"), [
    (["--lr", 0.1], "--lr 0.1"), (["--batchSize", 3], "--batchSize 3"), (["--lambda_kld", 1, "--seed", 4], "--seed 4"),
])
def test_options_that_would_change_the_run_are_refused(copied, args, named):
    with pytest.raises(UserError, match=re.escape(named)):
        trainer_of(copied, *args)


def test_options_that_may_change(copied):
    assert trainer_of(copied, "--niter", 7, "--print_freq", 50, "--nThreads", 1, "--dataroot", "elsewhere").epoch == 3


def test_every_option_is_one_that_may_change_or_not(copied):
    """What a saved run remembers is all options; and those that may change exist."""
    saved = torch.load(copied / "latest_state.pth", weights_only=True)["options"]
    assert saved.keys() >= run_state.MAY_CHANGE and {"lr", "batchSize", "seed", "ngf", "use_amp"} <= saved.keys()


def scaled_trainer(folder, monkeypatch) -> Pix2PixTrainer:
    """As with float16 on CUDA, where losses are scaled."""
    monkeypatch.setattr(pix2pix_trainer, "gradient_scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=256.0))
    return trainer_of(folder)


def test_each_optimiser_has_a_gradient_scaler(copied, monkeypatch):
    trainer = scaled_trainer(copied, monkeypatch)
    assert trainer.lowest_scale() == 256  # that run had none
    losses = {"GAN": Loss(trainer.model.netG.fc.bias.sum() * float("inf"))}
    trainer._step("generator", trainer.optimizer_G, trainer.scaler_G, lambda batch: (losses, None), Batch(None))
    losses = {"D_real": Loss(next(trainer.model.netD.parameters()).sum())}
    trainer._step("discriminator", trainer.optimizer_D, trainer.scaler_D, lambda batch: (losses, None), Batch(None))
    assert [scaler.get_scale() for scaler in (trainer.scaler_G, trainer.scaler_D)] == [128, 256]
    assert int(trainer.skipped) == 1
    trainer.save("latest")
    trainer = scaled_trainer(copied, monkeypatch)
    assert [scaler.get_scale() for scaler in (trainer.scaler_G, trainer.scaler_D)] == [128, 256]


def test_states_of_older_versions(copied, monkeypatch):
    """Losses without sides are not needed; one gradient scaler for both optimisers was another run's arithmetic."""
    path = copied / "latest_state.pth"
    state = load_tensors(str(path))
    assert state["losses"].keys() == {"G", "D"} and "GAN" in state["losses"]["G"] and "D_real" in state["losses"]["D"]
    save_tensors({**state, "losses": {**state["losses"]["G"], **state["losses"]["D"]}}, str(path))
    assert trainer_of(copied).resumed_from == "latest"
    save_tensors({**state, "scaler": torch.amp.GradScaler("cpu", init_scale=32.0).state_dict()}, str(path))
    with pytest.raises(UserError, match=r"latest_state\.pth: not the state of a run of .* remove the file"):
        trainer_of(copied)


# ---- damage


def inside_a_tensor(data: bytes) -> int:
    """A place in the bytes of a checkpoint that holds a number: in between there is padding, which nobody reads."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
    name, extra = (int.from_bytes(data[record.header_offset + at:][:2], "little") for at in (26, 28))
    return record.header_offset + 30 + name + extra + record.file_size // 2


def damaged(data: bytes, damage: str) -> bytes:
    place, third = inside_a_tensor(data), len(data) // 3
    return {"bit": data[:place] + bytes([data[place] ^ 4]) + data[place + 1:],
            "zeroed": data[:third] + bytes(512) + data[third + 512:], "truncated": data[:-100],
            "half": data[:len(data) // 2], "empty": b"", "text": b"not a checkpoint\n" * 50}[damage]


@pytest.mark.parametrize("damage", ["bit", "zeroed", "truncated", "half", "empty", "text"])
def test_the_checkpoint_before_a_damaged_one_is_used(copied, capsys, damage):
    path = copied / "latest_state.pth"
    path.write_bytes(damaged(path.read_bytes(), damage))
    trainer = trainer_of(copied)
    assert trainer.resumed_from == "2" and trainer.epoch == 3
    assert "latest_state.pth" in capsys.readouterr().out


def test_nothing_is_loaded_where_all_is_damaged(copied):
    for path in copied.glob("*_state.pth"):
        path.write_bytes(damaged(path.read_bytes(), "bit"))
    with pytest.raises(UserError, match=r"latest_state\.pth"):
        trainer_of(copied)


@pytest.mark.parametrize("name", ["latest_net_G.pth", "latest_net_IE.pth"])
@pytest.mark.parametrize("damage", ["bit", "truncated", "empty", "missing", "of another epoch"])
def test_networks_beside_a_state_are_those_of_the_state(copied, capsys, name, damage):
    expected = {label: network.state_dict() for label, network in model_of(copied).networks().items()}
    path = copied / name
    if damage == "missing":
        path.unlink()
    elif damage == "of another epoch":
        os.replace(copied / name.replace("latest", "1"), path)
    else:
        path.write_bytes(damaged(path.read_bytes(), damage))
    capsys.readouterr()
    found = {label: network.state_dict() for label, network in model_of(copied).networks().items()}
    assert "latest_state.pth" in capsys.readouterr().out
    for label, tensors in expected.items():
        assert all(torch.equal(found[label][key], value) for key, value in tensors.items())


@pytest.mark.parametrize("damage", ["bit", "zeroed", "truncated", "half", "empty", "text"])
def test_damaged_networks_without_a_state_are_refused(copied, damage):
    for path in copied.glob("*_state.pth"):
        path.unlink()
    path = copied / "latest_net_G.pth"
    path.write_bytes(damaged(path.read_bytes(), damage))
    with pytest.raises(UserError, match=r"latest_net_G\.pth"):
        model_of(copied)


def spoil(path: Path, change) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def narrower(state) -> None:
    state["optimizer_G"]["state"][0]["exp_avg"] = torch.zeros(1)


def not_finite(state) -> None:
    state["networks"]["G"]["conv_img.weight"][0, 0] = float("nan")


def not_finite_moment(state) -> None:
    state["optimizer_D"]["state"][0]["exp_avg_sq"][0] = float("inf")


@pytest.mark.parametrize(("change", "expected"), [
    (narrower, "optimisers"), (not_finite, r"conv_img\.weight .*not finite"), (not_finite_moment, "not finite"),
    (lambda state: state["networks"]["G"].pop("fc.bias"), r"fc\.bias is missing"),
    (lambda state: state["networks"].pop("IE"), "IE"), (lambda state: state.pop("rng"), "not the state of a run"),
    (lambda state: state.update(epoch="x"), "not the state of a run"),
    (lambda state: state.update(optimizer_G=[]), "optimisers"),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_states_that_do_not_fit_are_refused(copied, change, expected):
    spoil(copied / "2_state.pth", change)
    with pytest.raises(UserError, match=expected):
        trainer_of(copied, "--which_epoch", "2")


def test_states_of_another_width_are_refused(copied):
    for args in (["--ngf", 4], ["--ndf", 4], ["--noise_nc", 5]):
        with pytest.raises(UserError, match=args[0]):
            trainer_of(copied, *args)


def test_networks_that_are_not_finite_replace_nothing(copied):
    trainer = trainer_of(copied)
    before = {path: path.read_bytes() for path in copied.glob("*.pth")}
    with torch.no_grad():
        trainer.model.netG.conv_img.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"conv_img\.weight"):
        trainer.save("latest")
    assert {path: path.read_bytes() for path in copied.glob("*.pth")} == before


def test_moments_that_are_not_finite_replace_nothing(copied):
    """A large gradient can spoil the optimiser alone, and such a checkpoint would never load again."""
    trainer = trainer_of(copied)
    before = {path: path.read_bytes() for path in copied.glob("*.pth")}
    next(iter(trainer.optimizer_D.state.values()))["exp_avg_sq"][0] = float("inf")
    with pytest.raises(UserError, match=r"optimizer_D.*not finite"):
        trainer.save("latest")
    assert {path: path.read_bytes() for path in copied.glob("*.pth")} == before


def test_another_data_set_is_refused(copied, tmp_path):
    other = draw_world(tmp_path / "other", train=8)
    args = [*TRAIN, "--checkpoints_dir", copied.parent, "--name", "exp", "--continue_train", "--niter", 3]
    process = run_command(*args, "--dataroot", other)
    assert process.returncode == 2 and "another data set" in process.stderr
    again = draw_world(tmp_path / "again")  # the same names elsewhere
    assert run_command(*args, "--dataroot", again).returncode == 0


def test_a_bad_file_takes_nothing_with_it(world, tmp_path):
    spoilt = draw_world(tmp_path / "spoilt")
    (spoilt / "train_img" / "p0.png").write_bytes(b"no picture")
    args = ["train.py", *NETWORK, "--ndf", 2, "--no_vgg_loss", "--batchSize", 2, "--no_html", "--serial_batches",
            "--dataroot", spoilt, "--checkpoints_dir", tmp_path, "--name", "exp"]
    (spoilt / "train_img" / "p0.png").rename(spoilt / "train_img" / "p5.png")
    (spoilt / "train_img" / "p0.png").write_bytes((world / "train_img" / "p0.png").read_bytes())
    process = run_command(*args)
    assert process.returncode == 2 and "p5.png" in process.stderr
    assert torch.load(tmp_path / "exp" / "latest_state.pth", weights_only=True)["epoch_iter"] == 4


def test_published_networks_without_a_state_get_new_optimisers(copied, capsys):
    for path in copied.glob("*_state.pth"):
        path.unlink()
    assert trainer_of(copied).epoch == 1 and "networks only" in capsys.readouterr().out
    assert trainer_of(copied, "--which_epoch", "1").epoch == 2


# ---- housekeeping


def test_keep_last(world, tmp_path):
    process = run_command(*TRAIN, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp", "--niter", 4,
                          "--keep_last", 2)
    assert process.returncode == 0, process.stderr
    assert {path.name.split("_")[0] for path in (tmp_path / "exp").glob("*.pth")} == {"3", "4", "latest"}


def test_left_over_files_go_at_the_next_start(world, copied):
    (copied / ".writing-abc.pth").write_bytes(b"half of a checkpoint")
    process = run_command(*TRAIN, "--dataroot", world, "--checkpoints_dir", copied.parent, "--name", "exp", "--niter",
                          2, "--continue_train")
    assert process.returncode == 0 and not list(copied.glob(".writing-*"))


def test_two_runs_in_one_folder(world, copied):
    args = [*TRAIN, "--dataroot", world, "--checkpoints_dir", copied.parent, "--name", "exp", "--continue_train"]
    before = {path: path.read_bytes() for path in copied.glob("*.pth")}
    with exclusive(str(copied)):
        process = run_command(*args, "--niter", 3)
    assert process.returncode == 2 and "another command" in process.stderr
    assert {path: path.read_bytes() for path in copied.glob("*.pth")} == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_run_with_its_number(world, tmp_path, signum):
    args = [*TRAIN, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp", "--niter", 10000]
    process = Command(*args)
    deadline = time.monotonic() + 60
    while not (tmp_path / "exp" / "latest_state.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, errors
    assert "--continue_train" in errors.splitlines()[-1] and "Traceback" not in errors
    state = torch.load(tmp_path / "exp" / "latest_state.pth", weights_only=True)
    steps = 3 * (state["epoch"] - 1) + state["epoch_iter"] // 2
    assert {int(entry["step"]) for entry in state["optimizer_D"]["state"].values()} == {steps}
