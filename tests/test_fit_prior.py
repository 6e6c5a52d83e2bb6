"""The prior as photos have it: ``python -m models.fit_prior``."""
import dataclasses

import numpy as np
import pytest
import torch

from data import create_dataset
from models import export, fit_prior
from models.class_match import ClassMatch
from models.fit_prior import Seen
from models.networks.layout import Layout
from models.networks.styles import Styles
from models.synthesis import Synthesizer, instance_classes
from options import TestOptions
from tests.conftest import run_command
from tests.worlds import CLASSES, NETWORK, TRAIN, build_model, draw_world, succeed
from util.errors import UserError


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A world, and a folder of runs: exp, and exp_fitted that the command made of it."""
    root = tmp_path_factory.mktemp("fitted")
    model = build_model("--checkpoints_dir", root, "--name", "exp", "--use_vae", "--styles", "encoder")
    model.save("latest")
    model.opt.save()
    (root / "exp" / "latest_net_D.pth").write_bytes(b"as it is")
    args = ["--dataroot", draw_world(root / "world"), "--checkpoints_dir", root, "--name", "exp", "--gpu_ids", "-1"]
    said = succeed(run_command("-m models.fit_prior", *args)).stdout
    assert (root / "exp_fitted" / "latest_net_D.pth").read_bytes() == b"as it is"
    before, after = ((root / name / "opt.txt").read_text().splitlines() for name in ("exp", "exp_fitted"))
    assert {line.split(":")[0].strip() for line in set(before) ^ set(after)} == {"fitted_prior"}
    assert said.endswith(f"exp_fitted: networks whose prior is fitted to {CLASSES} classes in 6 photos\n")
    return root


def layouts(root, name, phase):
    args = ["--dataroot", root / "world", "--checkpoints_dir", root, "--name", name, "--use_vae", "--phase", phase,
            "--styles", "encoder", *NETWORK]
    opt = TestOptions().parse([str(arg) for arg in args])
    synthesizer = Synthesizer.from_options(opt)
    synthesizer.model.double()
    return synthesizer, [exact(batch) for _, batch in synthesizer.layouts(create_dataset(opt))]


def exact(batch):
    return dataclasses.replace(batch, image=batch.image.double())


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_means_move(fitted, double):
    """Classes have the mean 0 afterwards. Pictures in styles of photos stay; those of the prior are those that the old
    networks draw around the means."""
    (old, batches), (new, _) = layouts(fitted, "exp", "train"), layouts(fitted, "exp_fitted", "train")
    means = {label: [] for label in range(CLASSES)}
    for batch in batches:
        mu = old.posterior(batch).mu[0]
        for instance, label in instance_classes(batch).items():
            means[label].append(mu[instance])
    means = torch.stack([torch.stack(found).mean(0) for found in means.values()])  # [C, 2, noise_nc]
    assert means.abs().max() > 0.1
    assert (new.model.netE.class_means - means).abs().max() < 1e-6  # as float32 in the file
    moved = [new.posterior(batch).mu[0, instance] for batch in batches
             for instance, label in instance_classes(batch).items() if label == 2]
    assert torch.stack(moved).mean(0).abs().max() < 1e-6
    for batch in layouts(fitted, "exp", "val")[1]:
        styles = old.draw_styles(batch)
        around = styles.noise.clone()
        for instance, label in instance_classes(batch).items():
            around[0, instance] += means[label]
        prior = new.model.netG.prior(styles, batch.layout)
        for ours, theirs in ((new.images(batch, styles), old.images(batch, Styles(styles.z, around))),
                             (new.images(batch, new.encode_styles(batch, prior)),
                              old.images(batch, old.encode_styles(batch, styles))),
                             (new.images(batch, new.mean_styles(batch, prior)),
                              old.images(batch, old.mean_styles(batch, styles)))):
            assert (ours - theirs).abs().max() < 1e-5 < 1e-2 < theirs.std()
        assert (new.images(batch, styles) - old.images(batch, styles)).abs().max() > 1e-3


def test_components_of_styles_that_are_known():
    """Photos' styles m_y + u a_y with one number u per photo, seen with the variance 1/2; no photo has class 2."""
    generator = torch.Generator().manual_seed(0)
    u, a, m = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (50, (3, 2, 2), (3, 2, 2)))
    u, number = (u - u.mean())[:, None, None, None], torch.tensor([50.0, 50, 0])
    mu = m + u * a
    mu[:, 2] = 0
    squares = (mu**2 + 0.5).sum(0) * (number > 0)[:, None, None]
    seen = Seen(mu.sum(0), squares, number, [(one, (number > 0).double()[:, None, None]) for one in mu])
    opt = TestOptions().parse(["--dataset_mode", "custom", "--label_nc", "3", "--noise_nc", "2", "--gpu_ids", "-1"])
    prior = fit_prior.fitted(seen, opt)
    right = u.square().mean().sqrt() * a
    right[2] = 0
    *others, first = prior.factors.unbind(-1)
    assert torch.stack(others).abs().max() < 1e-6
    assert min((first - right).abs().max(), (first + right).abs().max()) < 1e-6 < right.abs().max()
    assert (prior.deviations**2 - torch.tensor([0.5, 0.5, 1.0])[:, None, None]).abs().max() < 1e-6


def test_draws_are_those_of_the_prior(fitted, double):
    """Against a loop, and with truncation; every sample is drawn from its own seed."""
    (old, batches), (new, _) = layouts(fitted, "exp", "val"), layouts(fitted, "exp_fitted", "val")
    factors, deviations = new.model.netG.prior.factors, new.model.netG.prior.deviations
    batch = dataclasses.replace(batches[0], layout=Layout(torch.cat([one.layout.label for one in batches]), torch.cat(
        [one.layout.instance for one in batches]), CLASSES, with_edges=True))
    plain, drawn = (one.draw_styles(batch, range(len(batches)), truncation=0.7) for one in (old, new))
    assert torch.equal(plain.z, drawn.z)
    for number, one in enumerate(batches):
        for instance, label in instance_classes(one).items():
            right = deviations[label] * plain.noise[number, instance]
            for component in range(factors.shape[-1]):
                right = right + factors[label, ..., component] * plain.z[number, component]
            assert (drawn.noise[number, instance] - right).abs().max() < 1e-9
    assert (drawn.noise - plain.noise).abs().max() > 0.1
    assert (new.noise_of(batch, drawn).noise - plain.noise).abs().max() < 1e-9


def test_rows_count_instances():
    """Photos of many instances count as many, and no dimension gets more than its variance."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.tensor([1.0, 30, 0, 7] * 10, dtype=torch.float64)[:, None, None, None]
    mu = [torch.randn(int(n), 1, 2, 2, generator=generator, dtype=torch.float64) + 9 / max(int(n), 1)
          for n in numbers.flatten()]
    every = torch.cat(mu)
    seen = Seen(every.sum(0), (every**2 + 0.25).sum(0), numbers.sum().reshape(1), list(zip(
        (one.sum(0) for one in mu), numbers, strict=True)))
    opt = TestOptions().parse(["--dataset_mode", "custom", "--label_nc", "1", "--noise_nc", "2", "--gpu_ids", "-1"])
    prior = fit_prior.fitted(seen, opt)
    means = torch.stack([one.mean(0) for one in mu if len(one)])
    between = ((means - every.mean(0))**2 * numbers[numbers > 0][:, None, None, None]).sum(0) / len(every)
    assert (prior.factors.square().sum(-1) - between).abs().max() < 1e-5 < 0.1 < between.min()
    whole = prior.factors.square().sum(-1) + prior.deviations**2
    assert (whole - every.var(0, correction=0) - 0.25).abs().max() < 1e-5


def test_an_instance_of_several_classes_loses_their_mean(fitted, double):
    (old, batches), (new, _) = layouts(fitted, "exp", "train"), layouts(fitted, "exp_fitted", "train")
    label, instance = batches[0].layout.label[0].clone(), batches[0].layout.instance[0] // 3
    photo = np.random.default_rng(0).integers(0, 256, (*label.shape, 3), dtype=np.uint8)
    first, second = (one.posterior(exact(one.layout(label.numpy(), instance.numpy(), photo))) for one in (old, new))
    for number in instance.unique().tolist():
        inside = label[instance == number]
        assert inside.unique().numel() > 1
        lost = first.mu[0, number] - second.mu[0, number]
        assert (lost - new.model.netE.class_means[inside].mean(0)).abs().max() < 1e-9
    assert torch.equal(first.logvar, second.logvar)


def test_other_commands_take_them(fitted, tmp_path):
    args = ["--dataroot", fitted / "world", "--checkpoints_dir", fitted, "--name", "exp_fitted", "--gpu_ids", "-1"]
    said = succeed(run_command("test.py", *args, "--use_vae", "--results_dir", tmp_path)).stdout
    assert "--fitted_prior" in said and len(list(tmp_path.rglob("synthesized_image/*.png"))) == 3
    (fitted / "exp_fitted" / "latest_net_D.pth").unlink(missing_ok=True)  # others have other sizes
    train = ["train.py", *TRAIN, "--use_vae", "--debug", "--dataroot", fitted / "world", "--checkpoints_dir", fitted,
             "--name", "on", "--init_from", fitted / "exp_fitted"]
    assert run_command(*train).stderr == (
        f"error: {fitted}/exp_fitted/latest_net_G.pth: its prior was fitted; give --fitted_prior\n")
    succeed(run_command(*train, "--fitted_prior"))
    for file, key in (("IE", "class_means"), ("G", "prior.factors"), ("G", "prior.deviations")):
        after, before = (torch.load(fitted / name / f"latest_net_{file}.pth", weights_only=True)[key]
                         for name in ("on", "exp_fitted"))
        assert torch.equal(after, before) and before.std() > 0


def test_exported_encoders_ask_for_the_label(fitted, tmp_path):
    pytest.importorskip("onnxscript", reason="needs ONNX: pip install -r requirements-export.txt")
    synthesizer = Synthesizer.load(str(fitted / "exp_fitted"))
    assert export.export(synthesizer, str(tmp_path / "encoder.onnx"), encoder=True) < 1e-4
    assert export.Exported(synthesizer.model, encoder=True).inputs == ("label", "instance", "photo")


@pytest.mark.parametrize(("args", "line"), [
    (["--out", "{root}/exp"], "{root}/exp: exists already; remove it, or choose another folder"),
    (["--norm_mode", "spade", "--name", "other"], "--norm_mode spade: classes have no styles of their own; use inade"),
    (["--norm_mode", "spade", "--fitted_prior", "--name", "other"],
     "--fitted_prior: --norm_mode spade has no styles of classes; leave it out"),
])
def test_refused(fitted, args, line):
    args = [arg.format(root=fitted) for arg in args]
    done = run_command("-m models.fit_prior", "--name", "exp", "--checkpoints_dir", fitted, "--dataroot",
                       fitted / "world", "--gpu_ids", "-1", *args)
    assert done.returncode == 2 and done.stderr == f"error: {line.format(root=fitted)}\n"


def test_classes_take_their_means_along():
    """As they take their biases: what a class is called decides in --init_from, not its number."""
    match = ClassMatch.of({0: "sky", 1: "sea"}, {0: "sea", 1: "ship", 2: "sky"}, 2, 3)
    old, new = torch.randn(2, 2, 4), torch.zeros(3, 2, 4)
    aligned = []
    found = match.align("class_means", old, new, aligned)
    assert torch.equal(found, torch.stack([old[1], new[1], old[0]])) and aligned


def test_encoders_that_see_no_numbers(fitted):
    synthesizer, _ = layouts(fitted, "exp", "train")
    synthesizer.model.netE.float().bias_conv_mu.bias.data.fill_(torch.nan)
    with pytest.raises(UserError, match="exp: its encoder sees styles that are not finite"):
        fit_prior.look(synthesizer, create_dataset(synthesizer.opt))
