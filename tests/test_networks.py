"""Every network against the plain formulas of tests/reference.py, in float64."""
import copy
import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.networks import build_discriminator, build_generator, resnet_block
from models.networks.encoder import ImageEncoder, InstanceEncoder
from models.networks.layout import Layout
from models.networks.normalization import (
    INADE,
    SPADE,
    Condition,
    InstanceNorm,
    NormName,
    normalized_conv,
    parse_norm_name,
)
from models.networks.spectral import SpectralConv2d
from models.networks.styles import Styles
from models.norm_modes import norm_mode
from models.ops import backend, instance_convolution, modulation
from models.ops.instance_convolution import InstanceConv2d
from models.ops.modulation import Features
from models.ops.upsampled_convolution import Upsampled, convolve
from options import TrainOptions
from tests import reference
from tests.conftest import ROOT
from tests.fill import fill_
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.errors import UserError

TOLERANCE = 1e-9
CLASSES = 5
KEYS = ROOT / "tests" / "golden" / "published_keys.txt"


@pytest.fixture(autouse=True)
def float64():
    """Double precision, and one thread: small parallel regions take many times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def options(*args: str):
    return TrainOptions().parse(["--gpu_ids", "-1", "--no_html", "--no_vgg_loss", *args])


def generator_of(opt):
    mode = norm_mode(opt)
    return build_generator(opt, mode.modulation, mode.start_is_map)


SMALL = ("--dataset_mode", "custom", "--label_nc", str(CLASSES), "--ngf", "2", "--ndf", "4", "--z_dim", "7",
         "--noise_nc", "6", "--use_vae")
UPSAMPLING = {  # start maps of 2x2, 1x2 (cityscapes) and 1x1
    "normal": ("--crop_size", "64", "--load_size", "64"),
    "more": ("--crop_size", "128", "--load_size", "128", "--num_upsampling_layers", "more", "--aspect_ratio", "2",
             "--preprocess_mode", "fixed"),
    "most": ("--crop_size", "128", "--load_size", "128", "--num_upsampling_layers", "most"),
}


def maps(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and instances [4, 1, height, width]: 10 ids, of which every sample lacks some; 0 and 3 of the classes
    0..4 are rare or absent."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    label, instance = torch.zeros(2, 4, height, width, dtype=torch.long)
    label[0], instance[0] = 2, 0  # one instance covers all
    label[1], instance[1] = 1 + 3 * (x > width // 3), 4 * y // height * 2  # every instance of both classes
    label[2], instance[2] = 4, 1 + (x > width // 2)  # a class of two things,
    instance[2, 0, 0], instance[2, height // 2, width - 2] = 3, 9  # and two of one pixel
    label[2, height // 2, width - 2] = 1
    instance[3] = torch.randint(0, 3, (height, width)) * 3  # hardly a neighbour of the same instance
    label[3] = torch.randint(1, 3, (height, width))
    return label[:, None], instance[:, None]


def layout_of(height: int, width: int) -> Layout:
    return Layout(*maps(height, width), CLASSES, with_edges=True)


def plain(layout: Layout):
    """What the reference takes: semantic input, classes, instances (one-hot)."""
    label, instance = layout.label[:, None], layout.instance[:, None]
    classes = reference.one_hot(label, layout.num_classes)
    semantics = torch.cat([classes, reference.edges(instance)], 1) if layout.with_edges else classes
    return semantics, classes, reference.one_hot(instance, int(instance.max()) + 1)


def same(actual, expected, name="", floor=1e-300):
    """The largest difference, relative to the largest expected value (or ``floor`` if that is larger)."""
    assert actual.shape == expected.shape, name
    assert actual.dtype == expected.dtype == torch.float64, name
    error = (actual - expected).abs().max() / expected.abs().max().clamp(min=floor)
    assert error <= TOLERANCE, f"{name}: {float(error):.1e}"  # fails for nan too


def same_named(actual: dict, expected: dict, share: float = 0.0):
    """Every tensor is the same; ``share`` of the largest of all is a floor of the scale, for gradients that are 0 but
    for rounding: those of biases in front of a normalisation."""
    assert actual.keys() == expected.keys() and expected
    floor = max(float(value.abs().max()) for value in expected.values()) * share
    for name, value in expected.items():
        same(actual[name], value, name, max(floor, 1e-300))


def states(module: nn.Module) -> dict:
    return {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}


def gradients(module: nn.Module) -> dict:
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def copies(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def backward(*outputs):
    """From fixed random weights of all the outputs' values."""
    generator = torch.Generator().manual_seed(1)
    sum((y * torch.randn(y.shape, generator=generator)).sum() for y in outputs).backward()


# ---- the layout


def test_edges_against_loops():
    layout = layout_of(9, 7)
    assert layout.edges.any(2).any(1).tolist() == [False, True, True, True] and not layout.edges.all()
    for b in range(4):
        ids = layout.instance[b].tolist()
        for y in range(9):
            for x in range(7):
                around = [ids[v][u] for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
                          if 0 <= v < 9 and 0 <= u < 7]
                assert bool(layout.edges[b, y, x]) == any(other != ids[y][x] for other in around)


def test_semantic_input():
    label, instance = maps(9, 7)
    with_edges = Layout(label.to(torch.uint8), instance.to(torch.uint8)[:, 0], CLASSES, with_edges=True)
    assert with_edges.semantics.equal(plain(with_edges)[0])
    assert with_edges.num_instances == 10
    assert Layout(label, instance, CLASSES, with_edges=False).semantics.equal(plain(with_edges)[1])
    for wrong in (CLASSES, -1):
        label[1, 0, 3, 4] = wrong
        with pytest.raises(ValueError, match=rf"{wrong}\b.*0\.\.4"):
            Layout(label, instance, CLASSES, with_edges=True)


@pytest.mark.parametrize("size", [(9, 7), (5, 4), (2, 3)])
def test_regions_against_loops(size):
    layout = layout_of(9, 7)
    rows = torch.randn(4 * size[0] * size[1], 3)
    for regions, kinds in ((layout.class_regions, (layout.label, layout.instance)),
                           (layout.instance_grid.regions, (layout.instance,))):
        pixels = [(b, *(int(kind[b, y, x]) for kind in kinds)) for b in range(4) for y in range(9) for x in range(7)]
        ids = list(zip(*(column.tolist() for column in regions.ids), strict=True))
        assert sorted(ids) == sorted(set(pixels))  # every one once
        small = [reference.resize(kind[:, None].double(), size)[:, 0] for kind in kinds]
        expected = [(b, *(int(kind[b, y, x]) for kind in small))
                    for b in range(4) for y in range(size[0]) for x in range(size[1])]
        found = regions.at(size)
        assert found.count == len(ids) and found.index.shape == (4, *size)
        assert [ids[t] for t in found.flat.tolist()] == expected
        assert found.sizes.tolist() == [expected.count(region) for region in ids]
        same(found.sum(rows), torch.stack([
            sum((rows[n] for n, region in enumerate(expected) if region == ids[t]), torch.zeros(3))
            for t in range(len(ids))]))
        table = torch.randn(len(ids), 3)
        assert found.spread(table).equal(torch.stack([table[ids.index(region)] for region in expected]))


def test_sums_over_large_regions_keep_their_digits():
    """In float32, where adding 65536 numbers one by one would be off by 6e-4."""
    rows = torch.full((65536 + 300, 2), 0.1, dtype=torch.float32)
    label = torch.zeros(1, 1, 65836).long()
    label[..., 65536:] = 3
    found = Layout(label, label, 4, with_edges=False).class_regions.at((1, 65836)).sum(rows)
    torch.testing.assert_close(found.double(), torch.tensor([65536 * 0.1, 30.0])[:, None].expand(2, 2).double(),
                               rtol=1e-5, atol=0)


def test_negative_instances_are_refused():
    with pytest.raises(ValueError, match="instance id -1"):
        Layout(torch.zeros(1, 2, 2).long(), torch.tensor([[[0, 1], [-1, 0]]]), 3, with_edges=True)


# ---- modulations


def inade_pair(channels=6):
    layer = INADE(channels, CLASSES, noise_nc=4)
    nn.init.normal_(layer.bias)
    layer.param_free_norm.running_mean.normal_()
    layer.param_free_norm.running_var.uniform_(0.5, 2)
    plain_layer = reference.ReferenceINADE(channels, CLASSES, 4)
    plain_layer.load_state_dict(layer.state_dict())
    return layer, plain_layer


@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(12, 20), (6, 10), (3, 5), (24, 40), (7, 9)])
def test_inade(size, training, slope):
    layout = layout_of(12, 20)
    layer, plain_layer = (module.train(training) for module in inade_pair())
    for step in range(3):  # the running statistics move on
        memory_format = (torch.contiguous_format, torch.channels_last)[step % 2]
        x = (3 + 2 * torch.randn(4, 6, *size)).to(memory_format=memory_format)
        noise = torch.randn(4, 10, 2, 4)
        inputs, plain_inputs = copies(x, noise), copies(x, noise)
        out = layer(Features(inputs[0]), Condition(layout, inputs[1]), slope)
        expected = F.leaky_relu(plain_layer(plain_inputs[0], *plain(layout), plain_inputs[1]), slope)
        same(out, expected)
        backward(out)
        backward(expected)
        for actual, gradient in zip(inputs, plain_inputs, strict=True):
            same(actual.grad, gradient.grad)
        same_named(gradients(layer), gradients(plain_layer))
        same_named(states(layer), states(plain_layer))


@pytest.mark.parametrize("most_boundary", [0, 1])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("size", [(12, 20), (6, 10), (1, 5), (7, 9)])
def test_inade_and_convolution_of_upsampled_activations(size, kernel_size, training, most_boundary, monkeypatch):
    monkeypatch.setattr(modulation, "MOST_BOUNDARY", most_boundary)
    for limit in ("LEAST_PIXELS", "LEAST_CHANNELS"):
        monkeypatch.setattr(modulation, limit, 1)
    layout = layout_of(24, 40)
    layer, plain_layer = (module.train(training) for module in inade_pair())
    conv = nn.Conv2d(6, 5, kernel_size, padding=kernel_size // 2, bias=kernel_size == 3)
    plain_conv = copy.deepcopy(conv)
    x, noise = 3 + 2 * torch.randn(4, 6, *size), torch.randn(4, 10, 2, 4)
    inputs, plain_inputs = copies(x, noise), copies(x, noise)
    modulated = layer(Features(inputs[0], upsampled=True), Condition(layout, inputs[1]), 0.2, torch.tensor(0.7))
    assert isinstance(modulated, Upsampled if most_boundary else torch.Tensor)
    assert modulated.shape == (4, 6, 2 * size[0], 2 * size[1])
    out = convolve(modulated, conv.weight, conv.bias)
    upsampled = F.interpolate(plain_inputs[0], scale_factor=2)
    expected = plain_conv(0.7 * F.leaky_relu(plain_layer(upsampled, *plain(layout), plain_inputs[1]), 0.2))
    same(out, expected)
    backward(out)
    backward(expected)
    for actual, gradient in zip(inputs, plain_inputs, strict=True):
        same(actual.grad, gradient.grad)
    for module, plain_module in ((layer, plain_layer), (conv, plain_conv)):
        same_named(gradients(module), gradients(plain_module))
        same_named(states(module), states(plain_module))


def test_upsampled_activations_without_boundary(monkeypatch):
    for limit in ("LEAST_PIXELS", "LEAST_CHANNELS"):
        monkeypatch.setattr(modulation, limit, 1)
    layout = Layout(torch.zeros(1, 8, 8).long(), torch.zeros(1, 8, 8).long(), CLASSES, with_edges=False)
    layer, plain_layer = inade_pair()
    x, noise, weight = torch.randn(1, 6, 4, 4), torch.randn(1, 1, 2, 4), torch.randn(5, 6, 3, 3)
    modulated = layer(Features(x, upsampled=True), Condition(layout, noise))
    assert modulated.change.shape == (0, 6)
    expected = plain_layer(F.interpolate(x, scale_factor=2), *plain(layout), noise)
    same(convolve(modulated, weight), F.conv2d(expected, weight, padding=1))


def test_inade_layout_of_another_resolution():
    """Odd sides: nearest picks pixels unevenly, and the pixel-sized instances may be gone."""
    layout = layout_of(13, 9)
    for size in ((7, 5), (4, 3), (13, 9), (2, 1)):
        layer, plain_layer = inade_pair()
        x, noise = torch.randn(4, 6, *size), torch.randn(4, 10, 2, 4)
        same(layer(Features(x), Condition(layout, noise)), plain_layer(x, *plain(layout), noise))


@pytest.mark.parametrize("training", [True, False])
def test_an_instances_noise_changes_its_pixels_alone(training):
    layout = layout_of(12, 20)
    layer = inade_pair()[0].train(training)
    x, noise = torch.randn(4, 6, 12, 20), torch.randn(4, 10, 2, 4)
    before = layer(Features(x), Condition(layout, noise))
    for sample, instance in ((0, 0), (1, 4), (2, 9), (3, 6)):
        other = noise.clone()
        other[sample, instance] += 1
        changed = (layer(Features(x), Condition(layout, other)) != before).any(1)
        inside = torch.zeros_like(changed)
        inside[sample] = layout.instance[sample] == instance
        assert inside.any() and changed.equal(inside)


def test_names_of_norms():
    for spectral, word, kind, size in itertools.product(("", "spectral"), ("spade", "inade"),
                                                        ("syncbatch", "batch", "instance"), (1, 3, 5, 7, 9)):
        name = f"{spectral}{word}{kind}{size}x{size}"
        for mode in "spade", "inade":
            if kind == "instance" if mode == "inade" else word == "inade":  # what this mode cannot be
                with pytest.raises(UserError, match=f"^--norm_G {name}: "):
                    parse_norm_name(name, mode)
            else:
                expected = (bool(spectral), "instance" if kind == "instance" else "batch", size)
                assert parse_norm_name(name, mode) == NormName(*expected)
    for name in ("", "spade", "spade3x3", "spadebatch", "spadebatch3", "spadebatch3x5", "spadebatch4x4",
                 "spadebatch0x0", "spadebatch11x11", "spadebatch٣x٣", "spadebatch3x3 ", " spadebatch3x3",
                 "spadebatch3x3\n", "spadebatch3X3", "Spadebatch3x3", "spadbatch3x3", "spadeBatch3x3",
                 "spadesynchbatch3x3", "spadesync_batch3x3", "spectral_spadebatch3x3", "spectralspectralspadebatch3x3",
                 "spectrlspadebatch3x3", "spadespadebatch3x3", "spadebatchinstance3x3", "xspadebatch3x3",
                 "spadebatch3x3x"):
        for mode in "spade", "inade":
            with pytest.raises(UserError, match=r"^--norm_G .*: expected .*spectralspadesyncbatch3x3$") as error:
                parse_norm_name(name, mode)
            assert str(error.value).startswith(" ".join(f"--norm_G {name}: expected".split()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["syncbatch", "batch", "instance"])
def test_spade(kind, training):
    layout = layout_of(12, 20)
    norm = parse_norm_name(f"spectralspade{kind}3x3", "spade").param_free_norm(6)
    layer = SPADE(6, CLASSES + 1, norm, kernel_size=3).train(training)
    plain_layer = reference.ReferenceSPADE(6, CLASSES + 1).train(training)
    if kind == "instance":
        plain_layer.param_free_norm = nn.InstanceNorm2d(6)
    plain_layer.load_state_dict(layer.state_dict())
    for size, slope in (((6, 10), 1.0), ((12, 20), 0.2), ((7, 9), 0.2)):
        x, plain_x = copies(*[3 + 2 * torch.randn(4, 6, *size)] * 2)
        out = layer(Features(x), Condition(layout), slope)
        expected = F.leaky_relu(plain_layer(plain_x, *plain(layout), None), slope)
        same(out, expected)
        backward(out)
        backward(expected)
        same(x.grad, plain_x.grad)
        same_named(gradients(layer), gradients(plain_layer))
        same_named(states(layer), states(plain_layer))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_instance_norm_as_on_cuda(slope, memory_format, monkeypatch):
    as_on_cuda(monkeypatch)
    x, plain_x = copies(*[(3 + 2 * torch.randn(4, 6, 7, 9)).to(memory_format=memory_format)] * 2)
    out, expected = InstanceNorm(slope)(x), F.leaky_relu(F.instance_norm(plain_x), slope)
    assert out.is_contiguous(memory_format=memory_format)
    same(out, expected)
    backward(out)
    backward(expected)
    same(x.grad, plain_x.grad)
    assert x.grad.is_contiguous(memory_format=memory_format)
    half = InstanceNorm(slope)(x.detach().bfloat16())
    assert half.dtype == torch.bfloat16 and (half - expected).abs().max() < 0.02


def test_spectral_norm():
    """Several steps of a changing weight, two passes each as with fake and real images, and then evaluation."""
    for shape in ((4, 6, 3), (6, 4, 1)):
        layer = SpectralConv2d(*shape)
        plain_layer = nn.utils.spectral_norm(nn.Conv2d(*shape))
        plain_layer.load_state_dict(layer.state_dict())
        layers = layer, plain_layer
        optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in layers]
        for _ in range(4):
            x = torch.randn(2, shape[0], 8, 8)
            for module, optimizer in zip(layers, optimizers, strict=True):
                optimizer.zero_grad()
                outputs = []
                for factor in (1, 2):
                    if module is layer:
                        layer.power_iteration()
                    outputs.append(module(factor * x))
                backward(*outputs)
                optimizer.step()
            same_named(gradients(layer), gradients(plain_layer))
            same_named(states(layer), states(plain_layer))
        vectors = copy.deepcopy(states(layer))
        other = SpectralConv2d(*shape)
        other.load_state_dict(layer.state_dict())
        same(other.gain(), copy.deepcopy(layer).eval().gain())  # not that of the weights before
        layer.eval()
        plain_layer.eval()
        same(layer(x), plain_layer(x))
        same_named(states(layer), vectors)


def test_spectral_norm_of_a_network_that_asks_for_nothing():
    """Whoever builds on normalized_conv need not know of power iterations: sigma stays 1 while the weights move."""
    network = nn.Sequential(*(normalized_conv("spectralnone", 4, 4, 3, 1, 1) for _ in range(3)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, fused=True)
    before = [layer.weight_orig.detach().clone() for layer in network]
    for _ in range(200):
        optimizer.zero_grad()
        (network(torch.randn(2, 4, 6, 6)) - 3).square().mean().backward()
        optimizer.step()
    network(torch.randn(2, 4, 6, 6))
    for layer, start in zip(network, before, strict=True):
        sigma = torch.linalg.matrix_norm((layer.weight_orig * layer.gain()).detach().flatten(1), 2)
        assert float(sigma) == pytest.approx(1, abs=0.02)
        assert (layer.weight_orig - start).norm() > start.norm()
        vectors = layer.weight_u.clone()
        layer.gain()  # of the same weight: no further iteration
        assert layer.weight_u.equal(vectors) and not hasattr(layer, "weight")


# ---- instance-aware convolutions and encoders


@pytest.mark.parametrize("wide", [3, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(12, 20), (6, 10), (3, 5), (7, 9), (1, 1)])
def test_instance_convolution(size, stride, wide, monkeypatch):
    monkeypatch.setattr(instance_convolution, "WIDE", wide)
    layout = layout_of(12, 20)
    layer = InstanceConv2d(3, 5, stride=stride)
    plain_layer = reference.ReferenceInstanceConv(3, 5, stride)
    plain_layer.load_state_dict(layer.state_dict())
    x, plain_x = copies(*[torch.randn(4, 3, *size)] * 2)
    out, expected = layer(x, layout.instance_grid), plain_layer(plain_x, layout.instance[:, None])
    same(out, expected)
    backward(out)
    backward(expected)
    same(x.grad, plain_x.grad)
    same_named(gradients(layer), gradients(plain_layer))


@pytest.mark.parametrize("stride", [1, 2])
def test_instance_convolution_against_loops(stride):
    layout = layout_of(5, 6)
    layer = InstanceConv2d(2, 3, stride=stride)
    x = torch.randn(4, 2, 5, 6)
    out = layer(x, layout.instance_grid)
    assert out.shape == (4, 3, -(-5 // stride), 6 // stride)
    ids = layout.instance.tolist()
    for b in range(4):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                y, x0, value = i * stride, j * stride, layer.bias.clone()
                for v in range(max(y - 1, 0), min(y + 2, 5)):
                    for u in range(max(x0 - 1, 0), min(x0 + 2, 6)):
                        if ids[b][v][u] == ids[b][y][x0]:
                            value = value + layer.weight[:, :, v - y + 1, u - x0 + 1] @ x[b, :, v, u]
                same(out[b, :, i, j], value)


def test_one_instance_is_an_ordinary_convolution():
    whole = Layout(torch.zeros(2, 6, 8, dtype=torch.long), torch.full((2, 6, 8), 3), CLASSES, with_edges=True)
    layer, x = InstanceConv2d(3, 4), torch.randn(2, 3, 6, 8)
    same(layer(x, whole.instance_grid), F.conv2d(x, layer.weight, layer.bias, padding=1))


@pytest.mark.parametrize("size", [(32, 48), (48, 32)])
def test_instance_encoder(size):
    layout = layout_of(*size)
    network = fill_(InstanceEncoder(ngf=3, noise_nc=4), "netE.")
    plain_network = reference.ReferenceInstanceEncoder(3, 4)
    plain_network.load_state_dict(network.state_dict())
    image, plain_image = copies(*[torch.rand(4, 3, *size) * 2 - 1] * 2)
    posterior = network(image, layout)
    outputs = [posterior.scale_mu, posterior.scale_logvar, posterior.bias_mu, posterior.bias_logvar]
    expected = plain_network(plain_image, layout.instance[:, None])
    for actual, output in zip(outputs, expected, strict=True):
        assert actual.shape == (4, 10, 4)
        same(actual, output)
        for b in range(4):  # absent ids are exactly 0
            absent = sorted(set(range(10)) - set(layout.instance[b].flatten().tolist()))
            assert absent and not actual[b, absent].any()
    same(posterior.kl_divergence(), sum(reference.kl_divergence(*expected[j:j + 2]) for j in (0, 2)) / 2)
    noise = torch.randn(4, 10, 2, 4)
    remapped = posterior.remap(Styles(None, noise)).noise
    for j in (0, 1):
        mu, logvar = expected[2 * j:2 * j + 2]
        same(remapped[:, :, j], noise[:, :, j] * torch.exp(logvar / 2) + mu)
    backward(*outputs)
    backward(*expected)
    same(image.grad, plain_image.grad)
    same_named(gradients(network), gradients(plain_network), share=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_image_encoder(training):
    network = fill_(ImageEncoder(ngf=2, z_dim=5, norm="spectralinstance"), "netE.").train(training)
    plain_network = reference.ReferenceImageEncoder(2, 5).train(training)
    plain_network.load_state_dict(network.state_dict())
    for size in ((32, 48), (256, 256)):
        image, plain_image = copies(*[torch.rand(2, 3, *size) * 2 - 1] * 2)
        posterior, expected = network(image), plain_network(plain_image)
        outputs = posterior.mu, posterior.logvar
        for actual, output in zip(outputs, expected, strict=True):
            same(actual, output)
        backward(*outputs)
        backward(*expected)
        same(image.grad, plain_image.grad)
        same_named(gradients(network), gradients(plain_network))
        same_named(states(network), states(plain_network))


# ---- generator and discriminator


def halve_all(monkeypatch):
    """Let all upsampled activations stay halved until their convolution, small as they are."""
    for limit in ("LEAST_PIXELS", "LEAST_CHANNELS", "MOST_BOUNDARY"):
        monkeypatch.setattr(modulation, limit, 1)


@pytest.mark.parametrize(("halved", "float16"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_generator(upsampling, training, halved, float16, monkeypatch):
    if halved:
        halve_all(monkeypatch)
    if float16:  # as there, 1 / sigma goes to the weights
        monkeypatch.setattr(resnet_block, "working_dtype", lambda x: torch.float16)
    opt = options(*SMALL, *UPSAMPLING[upsampling])
    network = fill_(generator_of(opt), "netG.").train(training)
    plain_network = reference.ReferenceGenerator(opt).train(training)
    plain_network.load_state_dict(network.state_dict())
    layout = layout_of(*network.output_size)
    assert network.output_size == {"normal": (64, 64), "more": (64, 128), "most": (128, 128)}[upsampling]
    z, noise = torch.randn(4, 7), torch.randn(4, 10, 2, 6)
    inputs, plain_inputs = copies(z, noise), copies(z, noise)
    out = network(inputs[0], Condition(layout, inputs[1]))
    expected = plain_network(plain_inputs[0], *plain(layout), plain_inputs[1])
    assert out.shape == (4, 3, *network.output_size)
    same(out, expected)
    backward(out)
    backward(expected)
    for actual, gradient in zip(inputs, plain_inputs, strict=True):
        same(actual.grad, gradient.grad)
    same_named(gradients(network), gradients(plain_network), share=1e-3)
    same_named(states(network), states(plain_network))


def test_names_of_instances_do_not_matter():
    """Other ids for the same instances, with the noise to match: the same picture; the encoder's styles move along."""
    opt = options(*SMALL, *UPSAMPLING["normal"])
    netG = fill_(generator_of(opt), "netG.").eval()
    netE = fill_(InstanceEncoder(2, 6), "netE.")
    label, instance = maps(64, 64)
    permutation = torch.randperm(10)
    layout = Layout(label, instance, CLASSES, with_edges=True)
    renamed = Layout(label, permutation[instance], CLASSES, with_edges=True)
    z, noise, image = torch.randn(4, 7), torch.randn(4, 10, 2, 6), torch.rand(4, 3, 64, 64) * 2 - 1
    other_noise = torch.zeros_like(noise)
    other_noise[:, permutation] = noise
    with torch.no_grad():
        before = netG(z, Condition(layout, noise))
        same(netG(z, Condition(renamed, other_noise)), before)
        assert not torch.allclose(netG(z, Condition(renamed, noise)), before)
        styles, other_styles = (netE(image, maps).remap(Styles(None, draws)).noise
                                for maps, draws in ((layout, noise), (renamed, other_noise)))
        same(other_styles[:, permutation], styles)


@pytest.mark.parametrize(("num_D", "n_layers_D"), [("2", "4"), ("1", "3"), ("3", "4")])
def test_discriminator(num_D, n_layers_D):
    opt = options(*SMALL, "--num_D", num_D, "--n_layers_D", n_layers_D)
    network = fill_(build_discriminator(opt), "netD.")
    plain_network = reference.ReferenceDiscriminator(opt)
    plain_network.load_state_dict(network.state_dict())
    for size in ((64, 64), (33, 50)):
        layout = layout_of(*size)
        (fake, plain_fake), (real, plain_real) = (copies(*[torch.randn(4, 3, *size)] * 2) for _ in range(2))
        judged, semantics = network(layout, fake, real), plain(layout)[0].repeat(2, 1, 1, 1)
        expected = plain_network(torch.cat([semantics, torch.cat([plain_fake, plain_real])], 1))
        assert [len(layers) for layers in expected] == [opt.n_layers_D + 1] * opt.num_D
        actual = [y for said in judged for features, score in zip(said.features, said.scores, strict=True)
                  for y in (*features, score)]
        expected = [y.chunk(2)[half] for half in range(2) for layers in expected for y in layers]
        for output, right in zip(actual, expected, strict=True):
            same(output, right)
        backward(*actual)
        backward(*expected)
        same(fake.grad, plain_fake.grad)
        same(real.grad, plain_real.grad)
        same_named(gradients(network), gradients(plain_network))
        same_named(states(network), states(plain_network))


# ---- training


RUNS = {
    "published": ("--crop_size", "32"),
    "cityscapes without encoder": (*UPSAMPLING["more"], "--gan_mode", "ls", "--no_TTUR"),
    "most without edges": (*UPSAMPLING["most"], "--gan_mode", "original", "--no_instance", "--contain_dontcare_label"),
    "no matching": ("--crop_size", "64", "--gan_mode", "w", "--no_ganFeat_loss", "--lambda_kld", "0.5"),
    "three discriminators": ("--crop_size", "64", "--num_D", "3", "--n_layers_D", "5", "--lambda_feat", "3"),
    "spade with encoder": ("--crop_size", "32", "--norm_mode", "spade"),
    "spade": ("--crop_size", "32", "--norm_mode", "spade", "--no_instance", "--gan_mode", "ls"),
}
WITH_VGG = ("published", "spade with encoder")
WITHOUT_ENCODER = ("cityscapes without encoder", "spade")


def rounding(gradients: dict) -> set[str]:
    """Which have no true gradient: biases in front of a normalisation."""
    sizes = {name: 0.0 if gradient is None else float(gradient.abs().max()) for name, gradient in gradients.items()}
    return {name for name, size in sizes.items() if name.endswith("bias") and size < 1e-12 * max(sizes.values())}


def same_states(module: nn.Module, plain_module: nn.Module, unstable: set[str]) -> None:
    """``unstable`` may differ a little: Adam makes steps of any gradient, and theirs is rounding."""
    actual, expected = states(module), states(plain_module)
    for name in unstable:
        assert (actual.pop(name) - expected.pop(name)).abs().max() < 1e-7, name
    same_named(actual, expected)


def as_on_cuda(monkeypatch):
    """Take the ways that are taken there without kernels."""
    monkeypatch.setattr(backend, "on_host", lambda x: False)


@pytest.mark.parametrize(("way", "run"), [*itertools.product(["host", "cuda"], RUNS),
                                          *itertools.product(["plain"], WITH_VGG)])
def test_training(run, way, vgg_weights, tmp_path, monkeypatch):
    """Two generator and two discriminator steps: losses, gradients, and every parameter and buffer after them."""
    halve_all(monkeypatch)
    monkeypatch.setattr(backend, "_chosen", None)  # to be put back
    if way == "cuda":
        as_on_cuda(monkeypatch)
    small = [arg for arg in SMALL if arg != "--use_vae" or run not in WITHOUT_ENCODER]
    vgg = ("--vgg_weights", vgg_weights)
    opt = options(*small, "--load_size", "128", "--checkpoints_dir", str(tmp_path), *vgg, *RUNS[run])
    opt = opt.replace(no_vgg_loss=run not in WITH_VGG, impl="plain" if way == "plain" else None)
    torch.set_default_dtype(torch.float32)  # VGG19 is large
    trainer = Pix2PixTrainer(opt)
    torch.set_default_dtype(torch.float64)
    model = trainer.model.double()
    model.netD.judges_together = way == "cuda"
    networks = [name for name in ("netG", "netD", "netE") if getattr(model, name) is not None]
    assert ("netE" in networks) == (run not in WITHOUT_ENCODER)
    for name in networks:
        fill_(getattr(model, name), f"{name}.")
    plain_trainer = reference.ReferenceTrainer(opt).double()
    plain_trainer.copy(model)
    start = copy.deepcopy(states(model))

    for step in range(2):
        label, instance = maps(*model.netG.output_size)
        data = {"label": label, "instance": instance, "image": torch.rand(4, 3, *label.shape[2:]) * 2 - 1}
        steps = ((trainer.run_generator_one_step, plain_trainer.generator_step, {"netG", "netE"}),
                 (trainer.run_discriminator_one_step, plain_trainer.discriminator_step, {"netD"}))
        expected = {}
        for run_step, run_plain_step, changing in steps:
            torch.manual_seed(step)
            run_step(data)
            torch.manual_seed(step)
            expected |= run_plain_step(data)
            for name in networks:
                expected_gradients = gradients(getattr(plain_trainer, name))
                if name in changing:
                    same_named(gradients(getattr(model, name)), expected_gradients, share=1e-3)
                same_states(getattr(model, name), getattr(plain_trainer, name), rounding(expected_gradients))
        losses = trainer.get_latest_losses()
        assert list(losses) == list(expected)
        for name, value in expected.items():
            same(losses[name], value, name)
    for name, value in states(model).items():  # the comparison was not one of networks at rest
        if name.endswith(("weight", "weight_orig", "running_mean")) and not name.startswith("vgg_loss"):
            assert not value.equal(start[name]), name
    assert all(int(value) == 0 for key, value in model.state_dict().items() if key.endswith("num_batches_tracked"))

    model.eval()
    plain_trainer.eval()
    batch = model.prepare(data)
    for run_model, encode in ((model.infer, model.netE is not None), (model.sample, False)):
        torch.manual_seed(9)
        actual = run_model(batch)
        torch.manual_seed(9)
        same(actual, plain_trainer.infer(data, encode))


# ---- state dicts and initial weights


def shapes(module: nn.Module) -> dict:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def networks_of(opt) -> dict:
    with torch.device("meta"):
        return {"G": generator_of(opt), "D": build_discriminator(opt), "E": norm_mode(opt).build_encoder()}


@pytest.mark.parametrize("dataset", ["ade20k", "cityscapes", "celeba", "deepfashion"])
def test_published_keys(dataset):
    published = {}
    for line in KEYS.read_text().splitlines():
        if line.startswith("##"):
            _, name, network, count, _ = line.split()
            section = published.setdefault((name, network), {"count": int(count)})
        else:
            key, shape, dtype = re.fullmatch(r"(\S+) \(([\d, ]*)\) (\w+)", line).groups()
            section[key] = (tuple(int(side) for side in re.findall(r"\d+", shape)), dtype)
    torch.set_default_dtype(torch.float32)
    for name, network in networks_of(options("--dataset_mode", dataset, "--use_vae")).items():
        section = published[dataset, name]
        assert section.pop("count") == len(section)
        assert section == {key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
                           for key, value in network.state_dict().items()}


def test_keys():
    networks = networks_of(options(*SMALL, *UPSAMPLING["most"]))
    found = {name: shapes(network) for name, network in networks.items()}

    def norm(name, channels):
        return {f"{name}.weight": (5, channels, 2), f"{name}.bias": (5, channels, 2),
                f"{name}.param_free_norm.running_mean": (channels,),
                f"{name}.param_free_norm.running_var": (channels,), f"{name}.param_free_norm.num_batches_tracked": (),
                f"{name}.fc_noise.weight": (channels, 6), f"{name}.fc_noise.bias": (channels,)}

    def conv(name, *shape, bias=True):
        return {f"{name}.weight_orig": shape, f"{name}.weight_u": shape[:1],
                f"{name}.weight_v": (shape[1] * shape[2] * shape[3],), **({f"{name}.bias": shape[:1]} if bias else {})}

    generator = {"fc.weight": (32, 7), "fc.bias": (32,), "conv_img.weight": (3, 1, 3, 3), "conv_img.bias": (3,)}
    for name, fin, fout in (("head_0", 32, 32), ("G_middle_0", 32, 32), ("G_middle_1", 32, 32), ("up_0", 32, 16),
                            ("up_1", 16, 8), ("up_2", 8, 4), ("up_3", 4, 2), ("up_4", 2, 1)):
        generator |= conv(f"{name}.conv_0", fout, fin, 3, 3) | conv(f"{name}.conv_1", fout, fout, 3, 3)
        generator |= norm(f"{name}.norm_0", fin) | norm(f"{name}.norm_1", fout)
        if fin != fout:
            generator |= conv(f"{name}.conv_s", fout, fin, 1, 1, bias=False) | norm(f"{name}.norm_s", fin)
    assert found["G"] == generator

    discriminator = {}
    for i in (0, 1):
        prefix = f"discriminator_{i}.model"
        discriminator |= {f"{prefix}0.0.weight": (4, 9, 4, 4), f"{prefix}0.0.bias": (4,),
                          f"{prefix}4.0.weight": (1, 32, 4, 4), f"{prefix}4.0.bias": (1,)}
        for n in (1, 2, 3):
            discriminator |= conv(f"{prefix}{n}.0.0", 4 * 2**n, 2 * 2**n, 4, 4, bias=False)
    assert found["D"] == discriminator

    encoder = {}
    for name, fin, fout in (("layer1", 3, 2), ("layer2", 2, 4), ("layer3", 4, 8), ("layer4", 8, 16), ("middle", 16, 8),
                            ("up1", 16, 4), ("up2", 8, 2), ("up3", 4, 2), ("scale_conv_mu", 2, 6),
                            ("scale_conv_var", 2, 6), ("bias_conv_mu", 2, 6), ("bias_conv_var", 2, 6)):
        encoder |= {f"{name}.weight": (fout, fin, 3, 3), f"{name}.bias": (fout,)}
    assert found["E"] == encoder


def test_initial_weights():
    opt = options(*SMALL, "--crop_size", "64", "--load_size", "64", "--ngf", "8")
    torch.set_default_dtype(torch.float32)
    for network in (generator_of(opt), build_discriminator(opt), norm_mode(opt).build_encoder()):
        values = network.state_dict()
        for key, value in values.items():
            if re.search(r"norm_\w\.weight$", key):
                assert 0 <= value.min() < 0.05 and 0.95 < value.max() < 1, key
            elif key.endswith("bias"):
                assert not value.any(), key
            elif key.endswith((".weight", ".weight_orig")):
                receptive = value[0, 0].numel()
                std = 0.02 * (2 / ((value.shape[0] + value.shape[1]) * receptive)) ** 0.5
                if value.numel() > 5000:
                    assert float(value.std()) == pytest.approx(std, rel=0.1), key
                assert 0 < value.abs().max() < 7 * std, key
            elif key.endswith(("weight_u", "weight_v")):
                assert float(value.norm()) == pytest.approx(1), key
