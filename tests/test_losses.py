"""Losses, learning rates and Adam's settings with answers worked out by hand."""
import math

import pytest
import torch
import torch.nn.functional as F

from models.networks.layout import Layout
from models.networks.loss import GAN_MODES, Judgement, Loss, color_loss, feature_matching_loss, gan_loss
from models.networks.styles import kl_divergence
from models.networks.vgg import VGGLoss
from options import TrainOptions
from tests import reference
from tests.fill import fill_
from trainers.pix2pix_trainer import Pix2PixTrainer

E = math.e


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small parallel regions take many times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scores(*maps):
    """Of discriminators with one hidden layer, whose output must not matter."""
    return Judgement.of_outputs([[torch.full((2, 3), 77.0), torch.tensor(values)] for values in maps])


# ---- adversarial


@pytest.mark.parametrize(("mode", "real", "for_discriminator", "expected"), [
    # of the score maps [-2, 0.5] and [3, 0, 0]: the mean of the two maps' means, not of all scores
    ("hinge", True, True, ((3 + 0.5) / 2 + (0 + 1 + 1) / 3) / 2),
    ("hinge", False, True, ((0 + 1.5) / 2 + (4 + 1 + 1) / 3) / 2),
    ("hinge", True, False, -(-0.75 + 1) / 2),
    ("ls", True, True, ((9 + 0.25) / 2 + (4 + 1 + 1) / 3) / 2),
    ("ls", False, True, ((4 + 0.25) / 2 + 9 / 3) / 2),
    ("ls", True, False, ((9 + 0.25) / 2 + (4 + 1 + 1) / 3) / 2),
    ("original", True, True, ((math.log(1 + E**2) + math.log(1 + E**-0.5)) / 2
                              + (math.log(1 + E**-3) + 2 * math.log(2)) / 3) / 2),
    ("original", False, True, ((math.log(1 + E**-2) + math.log(1 + E**0.5)) / 2
                               + (math.log(1 + E**3) + 2 * math.log(2)) / 3) / 2),
    ("original", True, False, ((math.log(1 + E**2) + math.log(1 + E**-0.5)) / 2
                               + (math.log(1 + E**-3) + 2 * math.log(2)) / 3) / 2),
    ("w", True, True, -(-0.75 + 1) / 2),
    ("w", False, True, (-0.75 + 1) / 2),
    ("w", True, False, -(-0.75 + 1) / 2),
])
def test_gan_loss(mode, real, for_discriminator, expected):
    outputs = scores([-2.0, 0.5], [3.0, 0.0, 0.0])
    loss = gan_loss(outputs, mode, real=real, for_discriminator=for_discriminator)
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    plain = reference.gan_loss(outputs.scores, mode, real, for_discriminator)
    assert float(plain) == pytest.approx(expected, rel=1e-6)


def test_every_gan_mode_is_tested():
    assert set(GAN_MODES) == {"hinge", "ls", "original", "w"}


def test_hinge_does_not_push_what_is_far_enough():
    values = torch.tensor([2.0, 0.5, -3.0], requires_grad=True)
    gan_loss(Judgement([values], [1]), "hinge", real=True, for_discriminator=True).backward()
    assert values.grad.tolist() == pytest.approx([0, -1 / 3, -1 / 3])


def test_discriminators_count_by_their_weights():
    judgement = Judgement([torch.tensor([1.0, 3.0]), torch.tensor([-4.0])], [0.5, 0.25])
    assert gan_loss(judgement, "hinge", real=True, for_discriminator=False) == -(0.5 * 2 - 0.25 * 4)


# ---- feature matching


def test_feature_matching():
    """Two discriminators of five layers; fake differs from real by 1, 2, 4, 8, 16 in the first, 10 times as much in
    the second."""
    real = [[torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(5)] for _ in range(2)]
    fake = [[(layer + (-1) ** n * 10**i * 2**n).detach().requires_grad_() for n, layer in enumerate(layers)]
            for i, layers in enumerate(real)]
    for first, expected in ((3, 11 * 8), (0, 11 * 15), (2, 11 * 12), (4, 0)):
        loss = feature_matching_loss(*map(Judgement.of_outputs, (fake, real)), first)
        assert loss.item() == pytest.approx(expected / 2, rel=1e-5)
    feature_matching_loss(*map(Judgement.of_outputs, (fake, real)), 3).backward()
    for layers in fake:  # every value of a layer counts the same, whatever its channel
        assert [layer.grad is not None for layer in layers] == [False, False, False, True, False]
        assert layers[3].grad.tolist() == torch.full((2, 3, 4, 4), -1 / 96 / 2).tolist()
    assert all(layer.grad is None for layers in real for layer in layers)


# ---- KL divergence


@pytest.mark.parametrize("rows", [slice(None), slice(None, None, 2)], ids=["all", "every second"])
def test_color_loss(rows):
    """Differences of mean colours, instance by instance."""
    generator = torch.Generator().manual_seed(0)
    instance = torch.randint(0, 5, (4, 8, 6), generator=generator)
    instance[0, :4] = 9  # ids with gaps
    fake, real = (torch.rand(4, 3, 8, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = 0
    for sample in range(4)[rows]:
        for number in instance[sample].unique():
            inside = instance[sample] == number
            expected += (fake[sample][:, inside].mean(1) - real[sample][:, inside].mean(1)).abs().mean().item()
    layout = Layout(torch.zeros_like(instance), instance, 1, with_edges=False)
    assert color_loss(fake, real, layout, rows).item() == pytest.approx(expected)


@pytest.mark.parametrize(("mu", "logvar", "expected"), [
    (0.0, 0.0, 0.0),
    (1.5, 0.0, 1.125),  # mu^2 / 2
    (0.0, math.log(4.0), (3 - math.log(4)) / 2),
    (-1.0, -2.0, (2 + E**-2) / 2),  # (-1 + 2 + 1 + e^-2) / 2
])
def test_kl_divergence(mu, logvar, expected):
    shape = (2, 3, 4)
    value = kl_divergence(torch.full(shape, mu), torch.full(shape, logvar))
    assert value.shape == () and float(value) == pytest.approx(24 * expected, rel=1e-6, abs=0)


def test_kl_divergence_is_an_expectation():
    """Of log q/p under q, drawn often."""
    mu, logvar = torch.tensor([0.3, -1.0]), torch.tensor([0.5, -0.7])
    p = torch.distributions.Normal(0.0, 1.0)
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    torch.manual_seed(0)
    draws = q.sample((200_000,))
    estimate = (q.log_prob(draws) - p.log_prob(draws)).mean(0).sum()
    assert float(kl_divergence(mu, logvar)) == pytest.approx(float(estimate), rel=0.01)


# ---- perceptual


INADE_WEIGHTS = (0.0, 0.0, 0.0, 0.25, 1.0)
SPADE_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


@pytest.fixture(scope="module")
def vgg(vgg_weights):
    """The loss, and five activations of each of two batches by torchvision's layers one after another."""
    loss = VGGLoss(SPADE_WEIGHTS, vgg_weights).eval()
    torch.manual_seed(0)
    images = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    plain = fill_(reference.ReferenceVGGLoss(SPADE_WEIGHTS).features, "vgg19.features.")
    activations = []
    with torch.no_grad():
        for x in images:
            found = []
            for layer in plain:
                x = layer(x)
                found.append(x.clone())
            activations.append([found[index] for index in (1, 6, 11, 20, 29)])
    return loss, images, activations


def test_vgg_activations(vgg):
    loss, images, activations = vgg
    found = loss.vgg(images[0])
    assert [tuple(y.shape[1:]) for y in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    for actual, expected in zip(found, activations[0], strict=True):
        assert expected.min() == 0 < expected.max()  # behind a ReLU
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [INADE_WEIGHTS, SPADE_WEIGHTS, (1.0, 0, 0, 0, 0), (0, 0, 3.0, 0, 0)])
def test_vgg_loss(vgg, weights, monkeypatch):
    loss, (fake, real), activations = vgg
    monkeypatch.setattr(loss, "layer_weights", weights)
    expected = sum(weight * float(F.l1_loss(a, b)) for weight, a, b in zip(weights, *activations, strict=True))
    fake, real = fake.clone().requires_grad_(), real.clone().requires_grad_()
    value = loss(fake, real)
    assert value.item() == pytest.approx(expected, rel=1e-4) and expected > 0
    value.backward()
    assert fake.grad.any() and real.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert loss(real, real).item() == 0


# ---- learning rates


SMALL = ("--dataset_mode", "custom", "--label_nc", "3", "--ngf", "1", "--ndf", "1", "--z_dim", "4", "--noise_nc", "2",
         "--crop_size", "32", "--batchSize", "2", "--load_size", "32", "--no_vgg_loss", "--gpu_ids", "-1")


@pytest.fixture
def trainer(request, tmp_path):
    return Pix2PixTrainer(TrainOptions().parse([*SMALL, "--checkpoints_dir", str(tmp_path), *request.param]))


def rates(trainer) -> tuple[float, float]:
    optimizers = trainer.optimizer_G, trainer.optimizer_D
    assert all(len(optimizer.param_groups) == 1 for optimizer in optimizers)
    return tuple(optimizer.param_groups[0]["lr"] for optimizer in optimizers)


@pytest.mark.parametrize(("trainer", "factors", "betas"), [
    (("--lr", "0.001"), (0.5, 2), (0.0, 0.9)),
    (("--lr", "0.001", "--no_TTUR"), (1, 1), (0.5, 0.999)),
    (("--lr", "0.001", "--beta1", "0.2", "--beta2", "0.8"), (0.5, 2), (0.2, 0.8)),
    (("--lr", "0.001", "--no_TTUR", "--beta1", "0.2"), (1, 1), (0.2, 0.999)),
], indirect=["trainer"])
def test_two_time_scales(trainer, factors, betas):
    assert rates(trainer) == pytest.approx([0.001 * factor for factor in factors])
    for optimizer in (trainer.optimizer_G, trainer.optimizer_D):
        assert isinstance(optimizer, torch.optim.Adam)
        group = optimizer.param_groups[0]
        assert (group["betas"], group["eps"], group["weight_decay"], group["amsgrad"]) == (betas, 1e-8, 0, False)


@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_shares_of_a_loss(parts, processes):
    """Added over the parts of each process and averaged over the processes, they are the loss of the whole batch."""
    samples = torch.arange(12.0).double()
    pieces = [share.chunk(parts) for share in samples.chunk(processes)]
    for reduction in ("mean", "sum"):
        shares = [sum(Loss(getattr(piece, reduction)(), reduction).share(parts, processes) for piece in own)
                  for own in pieces]
        assert float(sum(shares) / processes) == pytest.approx(float(getattr(samples, reduction)()))


@pytest.mark.parametrize("trainer", [("--use_vae",), ()], indirect=True)
def test_who_trains_what(trainer):
    model = trainer.model
    networks = [model.netG] if model.netE is None else [model.netG, model.netE]
    assert (model.netE is not None) == model.opt.use_vae
    for optimizer, own in ((trainer.optimizer_G, networks), (trainer.optimizer_D, [model.netD])):
        held = [id(parameter) for parameter in optimizer.param_groups[0]["params"]]
        assert sorted(held) == sorted(id(parameter) for network in own for parameter in network.parameters())


@pytest.mark.parametrize(("args", "matches"), [
    (("--n_layers_D", "3"), False), (("--n_layers_D", "4"), True),
    (("--n_layers_D", "3", "--norm_mode", "spade"), True), (("--n_layers_D", "3", "--no_ganFeat_loss"), None),
])
def test_a_run_that_matches_no_features_says_so(tmp_path, capsys, args, matches):
    trainer = Pix2PixTrainer(TrainOptions().parse([*SMALL, "--checkpoints_dir", str(tmp_path), *args]))
    assert ("--n_layers_D 3: the feature matching loss is 0" in capsys.readouterr().out) == (matches is False)
    maps = torch.randint(3, (2, 1, 32, 32))
    trainer.run_generator_one_step({"label": maps, "instance": maps, "image": torch.rand(2, 3, 32, 32)})
    loss = trainer.get_latest_losses().get("GAN_Feat")
    assert loss is None if matches is None else (loss > 0) == matches


@pytest.mark.parametrize("trainer", [("--lr", "0.01", "--niter", "3", "--niter_decay", "4")], indirect=True)
def test_schedule(trainer):
    used = []
    for epoch in range(1, 8):
        used.append(rates(trainer))
        trainer.update_learning_rate(epoch)
    # epochs 1 to 4 at the full rate (the first step down follows the fourth), then down by a quarter of it each
    assert [rate / 0.005 for rate, _ in used] == pytest.approx([1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert [d / g for g, d in used] == pytest.approx([4] * 7)
    assert rates(trainer) == pytest.approx((0, 0), abs=1e-12)
    trainer.update_learning_rate(5)  # a function of the epoch alone
    assert rates(trainer)[0] == pytest.approx(0.0025)


@pytest.mark.parametrize("trainer", [("--lr", "0.01", "--niter", "2", "--no_TTUR")], indirect=True)
def test_schedule_without_decay(trainer):
    for epoch in (0, 1, 2):
        trainer.update_learning_rate(epoch)
        assert rates(trainer) == (0.01, 0.01)
