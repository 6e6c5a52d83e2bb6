"""Networks as others save them: opt.txt used by itself, foreign prefixes, no discriminator, other classes."""
import os
import re

import pytest
import torch

from data.kinds import save_class_names
from models.class_match import ClassMatch
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options import TestOptions, TrainOptions
from tests.fill import fill_
from tests.worlds import TRAIN
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.checkpoints import load_network, network_path, tensors_of
from util.errors import UserError


def options(root, *args, name="exp"):
    return TrainOptions().parse([str(arg) for arg in (*TRAIN, "--checkpoints_dir", root, "--name", name, *args)])


def saved(opt, *labels):
    """A run's folder with filled networks; of ``labels`` alone, if there are any."""
    model = Pix2PixModel(opt)
    for label, network in model.networks().items():
        fill_(network, f"net{label}.")
    model.save("latest")
    opt.save()
    for label in model.networks():
        if labels and label not in labels:
            os.remove(network_path(opt.folder, label, "latest"))
    return model


# ---- opt.txt ----

def parsed(root, *args):
    return TestOptions().parse(["--checkpoints_dir", str(root), "--name", "exp", "--gpu_ids", "-1", *map(str, args)])


def test_opt_file_is_used_by_itself(tmp_path, capsys):
    saved(options(tmp_path, "--use_vae", "--preprocess_mode", "fixed", "--batchSize", 4, "--no_instance"))
    opt = parsed(tmp_path)
    assert (opt.dataset_mode, opt.label_nc, opt.crop_size, opt.ngf, opt.no_instance) == ("custom", 5, 32, 4, True)
    assert opt.preprocess_mode == "fixed"
    assert (opt.use_vae, opt.batchSize, opt.seed) == (False, 1, None)  # these are no matter of networks or layouts
    said = capsys.readouterr().out
    assert f"as {tmp_path}/exp/opt.txt says: " in said and "--ngf 4" in said and "--label_nc 5" in said
    assert ", --no_instance, " in said and " no --contain_dontcare_label, " in said
    assert "--noise_nc" not in said  # it is what it would have been
    Synthesizer.from_options(opt)
    own = parsed(tmp_path, "--dataset_mode", "custom", "--ngf", 4, "--preprocess_mode", "none")
    assert own.preprocess_mode == "none"
    loaded = parsed(tmp_path, "--load_from_opt_file")
    assert (loaded.use_vae, loaded.ngf) == (True, 4)


def test_what_contradicts_the_opt_file(tmp_path, capsys):
    saved(options(tmp_path))
    for args, expected in ((["--ngf", 8], "--ngf 8: the networks have --ngf 4"),
                           (["--no_instance"], "^--no_instance: the networks have no --no_instance, as"),
                           (["--label_nc", 9], "--label_nc 9: the networks have --label_nc 5")):
        with pytest.raises(UserError, match=expected):
            parsed(tmp_path, *args)
    path = tmp_path / "exp" / "opt.txt"
    path.write_text(re.sub(r"norm_mode: inade", "norm_mode: clade", path.read_text()))
    capsys.readouterr()
    assert parsed(tmp_path, "--ngf", 8).ngf == 8  # a file of others, with what is not known here
    assert "norm_mode" in (said := capsys.readouterr().out) and "The file is not used" in said
    path.unlink()
    assert parsed(tmp_path, "--ngf", 8).label_nc == 182


def test_spade_without_encoder_takes_any_size(tmp_path):
    saved(options(tmp_path, "--norm_mode", "spade"))
    assert parsed(tmp_path, "--crop_size", 64).crop_size == 64
    assert parsed(tmp_path).norm_mode == "spade"
    saved(options(tmp_path, "--norm_mode", "spade", "--use_vae"))
    assert parsed(tmp_path).use_vae
    with pytest.raises(UserError, match="--crop_size 64"):
        parsed(tmp_path, "--crop_size", 64)


def test_a_missing_epoch(tmp_path):
    model = saved(options(tmp_path))
    for epoch in (10, 9):
        model.save(epoch)
    with pytest.raises(UserError, match=r"latest_net_G|11_net_G\.pth: no such .*the epochs 9, 10, latest\)"):
        Synthesizer.from_options(parsed(tmp_path, "--which_epoch", 11))


# ---- files of other tools ----

@pytest.mark.parametrize(("wrap", "said"), [
    (lambda state: {f"module.{key}": value for key, value in state.items()}, ""),
    (lambda state: {f"_orig_mod.{key}": value for key, value in state.items()}, "the prefix _orig_mod."),
    (lambda state: {f"netG.{key}": value for key, value in state.items()}, "the prefix netG."),
    (lambda state: {f"netG.module.{key}": value for key, value in state.items()}, "the prefix netG."),
    (lambda state: {"state_dict": dict(state), "epoch": 3}, "a dict around its part state_dict"),
    (lambda state: {"netG": dict(state), "netD": {"a": torch.ones(1)}}, "a dict around its part netG"),
    (lambda state: {"model": {"netG": {f"module.{key}": value for key, value in state.items()}}}, "part model and"),
    (lambda state: {**{f"netG.{key}": value for key, value in state.items()}, "netD.a": torch.ones(1)}, "netG."),
])
def test_foreign_wrappings(tmp_path, capsys, wrap, said):
    model = saved(options(tmp_path))
    path = network_path(str(tmp_path / "exp"), "G", "latest")
    state = tensors_of(model.netG)
    torch.save(wrap(state), path)
    other = Pix2PixModel(model.opt).netG
    load_network(other, path)
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())
    out = capsys.readouterr().out
    assert said in out and bool(out) == bool(said)
    torch.save(wrap({key: value for key, value in state.items() if key != "fc.bias"}), path)
    with pytest.raises(UserError, match=r"fc\.bias is missing"):
        load_network(other, path)


def test_a_dict_of_two_is_no_network(tmp_path):
    model = saved(options(tmp_path))
    path = network_path(str(tmp_path / "exp"), "G", "latest")
    state = tensors_of(model.netG)
    torch.save({"first": state, "second": state}, path)
    with pytest.raises(UserError, match="not a state dict"):
        load_network(model.netG, path)


# ---- going on ----

def test_published_networks_continue_without_a_discriminator(tmp_path, capsys):
    model = saved(options(tmp_path, "--use_vae"), "G", "IE")
    opt = options(tmp_path, "--use_vae", "--continue_train")
    torch.manual_seed(4)
    trainer = Pix2PixTrainer(opt)
    assert "new discriminators, since" in capsys.readouterr().out and trainer.goes_on
    torch.manual_seed(4)
    new = Pix2PixModel(opt)
    for label, expected in (("netG", model), ("netE", model), ("netD", new)):
        for key, value in getattr(trainer.model, label).state_dict().items():
            assert torch.equal(value, getattr(expected, label).state_dict()[key]), (label, key)
    trainer.save("latest")
    with pytest.raises(UserError, match=r"IE\.pth: no such checkpoint"):  # an encoder cannot be made up
        saved(options(tmp_path, "--use_vae", name="bare"), "G")
        Pix2PixTrainer(options(tmp_path, "--use_vae", "--continue_train", name="bare"))


# ---- starting from other classes ----

OLD, NEW = ["sky", "tree", "road", "car", "person"], ["ground", "Car", "sky", "road"]


def table(folder, names):
    folder.mkdir(exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{n} 0 0 {n} {name}\n" for n, name in enumerate(names)))
    return ["--dataroot", folder, "--label_nc", len(names)]


@pytest.mark.parametrize("heads", [[], ["--netD", "projected"]])
@pytest.mark.parametrize("no_instance", [[], ["--no_instance"]])
@pytest.mark.parametrize("names", [NEW, [*NEW, "sea"]])  # another number of classes, and the same in another order
def test_classes_go_by_name(tmp_path, capsys, heads, no_instance, names):
    first_opt = options(tmp_path, *table(tmp_path / "old", OLD), *heads, name="first")
    first = saved(first_opt)
    save_class_names(first_opt)
    opt = options(tmp_path, *table(tmp_path / "new", names), *heads, *no_instance, name="second")
    torch.manual_seed(0)
    model = Pix2PixModel(opt)
    initial = {label: {key: value.clone() for key, value in network.state_dict().items()}
               for label, network in model.networks().items()}
    lines = "\n".join(model.init_from(first_opt.folder))
    assert f"classes: 3 of {len(names)} by name; new: ground" in lines and "class by class" in lines
    old_of = {1: 3, 2: 0, 3: 2}
    for label, network in model.networks().items():
        theirs = first.networks()[label].state_dict()
        for key, value in network.state_dict().items():
            found, start = theirs[key], initial[label][key]
            if re.search(r"\.norm_\w\.(weight|bias)$", key):
                for number in range(len(names)):
                    assert torch.equal(value[number], found[old_of[number]] if number in old_of else start[number])
            elif re.search(r"model0\.0\.weight|classes\.weight", key):
                channels = {**old_of, **{value.shape[1] - n: found.shape[1] - n for n in (1, 2, 3)}}
                if "classes" in key:
                    channels = old_of
                elif not no_instance:  # both have edges
                    channels[len(names)] = len(OLD)
                for number in range(value.shape[1]):
                    expected = found[:, channels[number]] if number in channels else start[:, number]
                    assert torch.equal(value[:, number], expected), (key, number)
            else:
                assert torch.equal(value, found), key


def test_without_names_shapes_decide(tmp_path):
    first = saved(options(tmp_path, *table(tmp_path / "old", OLD), name="first"))  # its names were not saved
    model = Pix2PixModel(options(tmp_path, *table(tmp_path / "new", [*NEW, "sea"]), name="second"))
    assert "names are not known on both sides; those of one number count as the same" \
        in model.init_from(str(tmp_path / "first"))[-1]
    assert torch.equal(model.netG.head_0.norm_0.weight, first.netG.head_0.norm_0.weight)
    model = Pix2PixModel(options(tmp_path, *table(tmp_path / "new", NEW), name="second"))
    start = model.netG.head_0.norm_0.weight.clone()
    assert "their numbers differ: all are new" in model.init_from(str(tmp_path / "first"))[-1]
    assert torch.equal(model.netG.head_0.norm_0.weight, start)


def test_names_match_whatever_their_case():
    match = ClassMatch.of({0: "Sky", 1: "sky", 2: "car"}, {0: "CAR", 1: "boat", 2: "sky "}, 3, 3)
    assert match.old_of == {0: 2, 2: 0}
