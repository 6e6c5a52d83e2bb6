"""The fused kernels against the plain forms: on a GPU where there is one, and on the CPU in Triton's interpreter.

The interpreter is chosen for a whole process (``TRITON_INTERPRET=1``), so another one runs this file with it.
"""
import copy
import itertools
import os
import re
import subprocess
import sys

import numpy
import pytest
import torch
from torch import Tensor

from benchmarks import gpu
from models.networks.encoder import InstanceEncoder
from models.networks.layout import Layout
from models.networks.normalization import INADE, Condition, InstanceNorm
from models.networks.resnet_block import ResnetBlock
from models.ops import backend, modulation, plain, proof
from models.ops.instance_convolution import InstanceConv2d, InstanceGrid, instance_convolution, patch_sums
from models.ops.modulation import Features
from models.ops.regions import RegionMap, Regions, SegmentSums
from models.ops.tables import Packed
from tests.conftest import ROOT
from util.errors import UserError

triton = pytest.importorskip("triton", reason="Triton is not installed")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
DTYPES = [torch.float64, torch.float16] if INTERPRETED else list(TOLERANCE)  # what takes the interpreter seconds


def version(package) -> tuple[int, int]:
    major, minor = package.__version__.split(".")[:2]
    return int(major), int(minor)


def on_gpu(*values):
    """Parameters that would take the interpreter too long."""
    return pytest.param(*values, marks=pytest.mark.skipif(INTERPRETED, reason="slow in the interpreter"))


@pytest.fixture
def device(monkeypatch) -> torch.device:
    """Where kernels run: the GPU, or the CPU with them forced upon it."""
    torch.manual_seed(0)
    if not INTERPRETED:
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device; test_interpreted runs this")
        return torch.device("cuda", 0)
    monkeypatch.setattr(backend, "kernels_for", lambda x: frozenset(proof.OPERATIONS))
    monkeypatch.setattr(backend, "on_host", lambda x: False)
    return torch.device("cpu")


@pytest.mark.skipif(INTERPRETED, reason="would run itself")
@pytest.mark.skipif(version(triton) < (3, 8) and version(numpy) >= (2, 4),
                    reason="the interpreter of this Triton takes its loops' ends from arrays, which this NumPy forbids")
def test_interpreted():
    """All of this file in Triton's interpreter."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    result = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    assert result.returncode == 0, result.stdout


def blobs(batch: int, height: int, width: int) -> Tensor:
    """Instance ids [B, H, W]: coarse blocks, single pixels, and in the last sample one instance alone."""
    coarse = torch.randint(0, 4, (batch, -(-height // 5), -(-width // 5))).repeat_interleave(5, 1)
    ids = coarse.repeat_interleave(5, 2)[:, :height, :width].contiguous()
    ids[torch.rand(ids.shape) < 0.1] = 9
    ids[-1] = 2
    return ids


def regions_of(size: tuple[int, int], device: torch.device, batch: int = 3) -> Regions:
    """Of a map of which ``size`` shows every other pixel, so that some regions may have none."""
    ids = blobs(batch, 2 * size[0], 2 * size[1])
    sample = torch.arange(batch)[:, None, None].expand_as(ids)
    return Regions(torch.stack([sample, ids]).to(device))


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype, name: str = ""):
    """Up to roundings of ``dtype``, relative to the largest."""
    assert actual.shape == expected.shape, name
    actual, expected = actual.detach().double(), expected.detach().double()
    error = (actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    assert error <= TOLERANCE[dtype], f"{name}: {float(error):.1e}"


def leaf(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return tensor.to(device, dtype).requires_grad_()


def table_type(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


# ---- modulation


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels, upsampled, slope, of_x, size", [
    (64, True, 0.2, True, (1, 1)), (200, False, 1.0, True, (5, 3)), (24, True, 1.0, False, (5, 3)),
    (3, False, 0.2, True, (17, 10)), (24, True, 0.2, True, (17, 10)), on_gpu(128, True, 0.2, True, (64, 96)),
    on_gpu(64, False, 1.0, True, (256, 256)), on_gpu(1024, False, 0.2, True, (16, 16))])
def test_modulation(size, channels, upsampled, slope, of_x, dtype, device):
    regions = regions_of(size, device)
    count = len(regions.ids[0])
    x = leaf((2 + torch.randn(3, channels, *size)).contiguous(memory_format=torch.channels_last), dtype, device)
    inputs = [x, leaf(torch.randn(count, channels, 2), table_type(dtype), device)]
    if of_x:
        mean, var = Features(x.to(table_type(dtype))).moments  # of half precision see test_moments
    else:
        mean, var = torch.randn(2, channels, dtype=table_type(dtype), device=device).abs()
    out = modulation.modulate(Features(x, upsampled), inputs[1], mean, var, 1e-2, regions, slope)
    grad = torch.randn(out.shape, dtype=out.dtype, device=device)
    found = torch.autograd.grad(out, inputs, grad)

    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    mean, var = plain.moments(exact[0]) if of_x else (mean.double(), var.double())
    expected = modulation.modulate(Features(exact[0], upsampled), exact[1], mean, var, 1e-2, regions, slope, "plain")
    assert out.dtype == table_type(dtype) and out.shape == expected.shape
    close(out, expected, table_type(dtype), "out")
    for name, actual, ours, theirs in zip(("x", "table"), inputs, found,
                                          torch.autograd.grad(expected, exact, grad.double()), strict=True):
        assert ours.dtype == actual.dtype
        close(ours, theirs, actual.dtype, name)


@pytest.mark.skipif(INTERPRETED, reason="a matter of PyTorch on CUDA")
@pytest.mark.parametrize("dtype", DTYPES)
def test_moments(dtype, device):
    x = leaf((2 + torch.randn(3, 24, 9, 14)).contiguous(memory_format=torch.channels_last), dtype, device)
    exact = x.detach().double().requires_grad_()
    moments, expected = Features(x).moments, plain.moments(exact)
    grads = torch.randn(2, 24, dtype=table_type(dtype), device=device)
    for ours, theirs in zip(moments, expected, strict=True):
        assert ours.dtype == table_type(dtype)
        close(ours, theirs, table_type(dtype))
    theirs = torch.autograd.grad(expected, exact, list(grads.double()))
    close(*torch.autograd.grad(moments, x, list(grads)), *theirs, dtype)


def test_modulation_writes_what_the_convolution_reads(device):
    regions = regions_of((4, 6), device)
    x = torch.randn(3, 8, 4, 6, device=device)
    table = torch.randn(len(regions.ids[0]), 8, 2, device=device)
    mean, var = torch.rand(2, 8, device=device)
    whole = modulation.modulate(Features(x), table, mean, var, 1e-5, regions, 0.2)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        half = modulation.modulate(Features(x), table, mean, var, 1e-5, regions, 0.2)
    assert half.dtype == torch.bfloat16
    close(half, whole, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("gained", [True, False])
@pytest.mark.parametrize("count, classes, channels", [(1, 2, 3), (40, 7, 200), on_gpu(1000, 151, 1024)])
def test_tables_of_regions(count, classes, channels, gained, dtype, device):
    """Some classes have no region, some have many."""
    label = (torch.rand(count) ** 2 * (classes - 1)).int().to(device)
    inputs = [leaf(torch.randn(shape), dtype, device)
              for shape in ((count, 2, channels), *[(classes, channels, 2)] * 2, *[()] * gained)]
    styles, weight, bias, *gain = inputs
    out = modulation.region_table(styles, weight, bias, label, *gain)
    grad = torch.randn_like(out)
    found = torch.autograd.grad(out, inputs, grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    styles, weight, bias, *gain = exact
    expected = plain.region_table(styles, weight, bias, label, *gain)
    close(out, expected, dtype, "out")
    for ours, theirs in zip(found, torch.autograd.grad(expected, exact, grad.double()), strict=True):
        close(ours, theirs, dtype)


# ---- norms


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [0.2, 1.0])
@pytest.mark.parametrize("channels, size", [(3, (2, 3)), (72, (9, 33)), on_gpu(64, (256, 256)), on_gpu(512, (31, 31))])
def test_instance_norm(size, channels, slope, dtype, device):
    """Of channels whose mean is far from 0, and one of which is the same all over."""
    x = 5 + torch.randn(3, channels, *size)
    x[0, 0] = 1
    x = leaf(x.contiguous(memory_format=torch.channels_last), dtype, device)
    out = InstanceNorm(slope)(x)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(out)
    exact = x.detach().double().requires_grad_()
    expected = plain.instance_norm(exact, InstanceNorm.eps, slope)
    close(out, expected, dtype, "out")
    found, theirs = torch.autograd.grad(out, x, grad)[0], torch.autograd.grad(expected, exact, grad.double())[0]
    close(found, theirs, dtype, "x")
    close(found[1:], theirs[1:], dtype, "x, where it varies")  # gradients are not as large there


@pytest.mark.parametrize("rows, columns", [(1, 1), (24, 300), on_gpu(1024, 9216)])
def test_gradient_of_gains(rows, columns, device):
    from models.ops import kernels

    grad, gain, u, v = (torch.randn(shape, dtype=torch.float64, device=device) for shape in ((), (), rows, columns))
    close(kernels.gain_grad(grad, gain, u, v), plain.gain_grad(grad, gain, u, v), torch.float64)


@pytest.mark.parametrize("sizes", [[0, 0, 5], [256, 0, 257, 1, 0], [1], [1000, 3]])
def test_sums_of_pieces(sizes, device):
    from models.ops import kernels

    members = torch.randperm(sum(sizes))
    segments = Packed.of(SegmentSums(members, torch.tensor(sizes))).to(device).unpack()
    assert int(segments.piece_start[-1]) == sum(sizes)
    assert len(segments.piece_segment) == sum(sizes) // SegmentSums.piece + len(sizes)
    rows = torch.randn(sum(sizes), 7, dtype=torch.float64, device=device)
    expected = torch.stack([rows[part.to(device)].sum(0) for part in members.split(sizes)])
    close(segments.sum(rows), expected, torch.float64)
    starts = segments.piece_start.tolist()
    pieces = [rows[segments.members[a:b].long()].sum(0) for a, b in itertools.pairwise(starts)]
    close(kernels._pieces_summed(torch.stack(pieces)[:, None], segments)[:, 0], expected, torch.float64)


# ---- instance-aware convolution


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels, stride, size", [
    (3, 1, (1, 1)), (136, 2, (1, 1)), (64, 1, (5, 3)), (3, 2, (17, 10)), on_gpu(128, 1, (128, 96)),
    on_gpu(512, 2, (32, 32)), on_gpu(3, 2, (256, 256))])
def test_patches(size, channels, stride, dtype, device):
    from models.ops import kernels

    index = regions_of(size, device).at(size).index
    x = leaf(torch.randn(3, *size, channels), dtype, device)
    expected = plain.patches(x, index, stride).flatten(1)
    assert kernels.patches(x.detach(), index, stride, dtype).equal(expected)
    grad = torch.randn_like(expected)
    exact = x.detach().double().requires_grad_()
    theirs, = torch.autograd.grad(plain.patches(exact, index, stride).flatten(1), exact, grad.double())
    close(kernels.patches_grad(grad, index, stride, dtype), theirs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels, size", [(3, (1, 1)), (72, (5, 3)), (24, (17, 10)), on_gpu(64, (256, 256))])
def test_patch_sums(size, channels, dtype, device):
    neighbourhoods = InstanceGrid(regions_of(size, device)).neighbourhoods(size, 1)
    rows = leaf(torch.randn(neighbourhoods.regions.index.numel(), channels), dtype, device)
    sums = patch_sums(rows, neighbourhoods)
    assert sums.dtype == table_type(dtype)
    exact = rows.detach().double().requires_grad_()
    expected = plain.patch_sums(exact, neighbourhoods.regions)
    close(sums, expected, table_type(dtype), "sums")
    grad = torch.randn_like(sums)
    close(*torch.autograd.grad(sums, rows, grad), *torch.autograd.grad(expected, exact, grad.double()), dtype, "grad")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_instance_convolution(dtype, stride, device):
    """Under autocast where half; weights stay float32."""
    grid = InstanceGrid(regions_of((9, 14), device))
    layer = InstanceConv2d(5, 6, stride).to(device, table_type(dtype))
    x = leaf(torch.randn(3, 5, 9, 14), table_type(dtype), device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = layer(x, grid)
    assert out.dtype == dtype
    grad = torch.randn_like(out)
    found = torch.autograd.grad(out, [x, layer.weight, layer.bias], grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, layer.weight, layer.bias)]
    expected = instance_convolution(*exact, grid, stride, "plain")
    close(out, expected, dtype, "out")
    theirs = torch.autograd.grad(expected, exact, grad.double())
    for name, ours, other in zip(("x", "weight", "bias"), found, theirs, strict=True):
        close(ours, other, dtype, name)


# ---- networks, with kernels and without


def layout_of(batch: int, size: tuple[int, int], device: torch.device) -> Layout:
    label = blobs(batch, *size) % 3
    return Layout(label.to(device), blobs(batch, *size).to(device), 3, with_edges=False)


def on_cpu(network, *tensors: Tensor):
    """Copies for the plain forms, tensors with gradients where they have any."""
    return copy.deepcopy(network).cpu(), *(tensor.detach().cpu().requires_grad_(tensor.requires_grad)
                                           for tensor in tensors)


def compared(network, run, inputs: list[Tensor], layout: Layout, monkeypatch) -> None:
    """Outputs, gradients and states of ``run(network, layout, *inputs)`` and of the same in plain PyTorch."""
    plain_network, *plain_inputs = on_cpu(network, *inputs)
    results = []
    for module, tensors, where in ((network, inputs, layout), (plain_network, plain_inputs, None)):
        if where is None:
            monkeypatch.undo()
            where = Layout(layout.label.cpu(), layout.instance.cpu(), layout.num_classes, layout.with_edges)
        out = run(module, where, *tensors)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        (out * weights.to(out.device)).sum().backward()
        gradients = [tensor.grad for tensor in (*tensors, *module.parameters()) if tensor.requires_grad]
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        results.append([out.detach(), *gradients, *buffers])
    scale = max(float(value.abs().max()) for value in results[1])
    for ours, theirs in zip(*results, strict=True):
        assert (ours.cpu() - theirs).abs().max() <= 1e-10 * scale


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("upsampled", [True, False])
def test_residual_block(upsampled, training, device, monkeypatch):
    """In float64, with the batch's statistics and with the running ones."""
    block = ResnetBlock(6, 4, lambda channels: INADE(channels, 3, 5), spectral=True).double().to(device).train(training)
    x = leaf(torch.randn(2, 6, 7, 10), torch.float64, device)
    noise = leaf(torch.randn(2, 10, 2, 5), torch.float64, device)
    layout = layout_of(2, (14, 20), device)
    compared(block, lambda block, layout, x, noise: block(x, Condition(layout, noise), upsampled), [x, noise], layout,
             monkeypatch)


def test_encoder(device, monkeypatch):
    encoder = InstanceEncoder(3, 4).double().to(device)
    image = leaf(torch.rand(2, 3, 32, 48), torch.float64, device)

    def run(encoder, layout, image):
        posterior = encoder(image, layout)
        return torch.cat([posterior.scale_mu, posterior.scale_logvar, posterior.bias_mu, posterior.bias_logvar])

    compared(encoder, run, [image], layout_of(2, (32, 48), device), monkeypatch)


# ---- kernels prove themselves


@pytest.mark.parametrize("operation", proof.OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_operation_passes_its_proof(operation, dtype, device):
    assert proof.error(operation, device, dtype) < proof.TOLERANCE[dtype] / 2


def test_broken_kernels_are_found_and_named_and_not_used(device, monkeypatch, tmp_path):
    """One gives wrong gradients, one does not compile. What is proven is remembered; what is broken is tried again."""
    from models.ops import kernels

    def fails(*args):
        raise RuntimeError("does not\ncompile")

    intact = kernels.patch_sums_grad
    monkeypatch.setattr(kernels, "patch_sums_grad", lambda *args: 1.01 * intact(*args))
    monkeypatch.setattr(kernels, "patches", fails)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(backend, "has_kernels", lambda device: True)
    broken = {"instance_convolution", "patch_sums"}
    for _ in range(2):
        backend.working_kernels.cache_clear()
        with pytest.warns(UserWarning, match="fused kernels .* not used, .*: instance_convolution: RuntimeError: does "
                                             "not compile; patch_sums: differs from the plain form by 1e-02$"):
            assert backend.working_kernels(device) == set(proof.OPERATIONS) - broken
    works = backend.working_kernels(device)
    backend.working_kernels.cache_clear()

    calls = []
    monkeypatch.setattr(proof, "error", lambda *args: calls.append(args) or 0.0)
    for _ in range(2):
        assert proof.failures(device) == {}
    assert len(calls) == len(proof.OPERATIONS)

    monkeypatch.setattr(backend, "kernels_for", lambda x: works)
    x = torch.zeros((), device=device)
    assert all((backend.form(x, name) == "triton") == (name not in broken) for name in proof.OPERATIONS)
    test_encoder(device, monkeypatch)


def test_the_long_check_names_a_broken_kernel(device, monkeypatch, capsys):
    from models.ops import kernels

    intact = kernels.patch_sums_grad
    monkeypatch.setattr(kernels, "patch_sums_grad", lambda *args: 1.01 * intact(*args))
    monkeypatch.setattr(gpu, "check_steps", lambda args: ())
    monkeypatch.setattr(gpu, "check_runs", lambda args: ())
    monkeypatch.setattr(sys, "argv", ["gpu", "--check", "--device", device.type])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    assert end.value.code == 1 and lines[-1] == f"{len(failed)} checks failed"
    assert len(failed) == sum(line.startswith(("FAILED", "ok")) for line in lines) / len(proof.OPERATIONS) > 1
    assert all(re.match(r"FAILED patch_sums, triton, \w+ +1e-02 \(at most", line) for line in failed)


@pytest.mark.skipif(INTERPRETED, reason="needs no kernels")
def test_the_long_check_where_there_is_no_gpu(run):
    process = run("-m benchmarks.gpu", "--check", "--device", "cpu", "--precision", "float32")
    lines = process.stdout.splitlines()
    assert process.returncode == 0 and lines[-1] == "all is right", process.stdout + process.stderr
    names = [line[7:].split("  ")[0] for line in lines if line.startswith("ok ")]
    assert {"modulate, fast, bfloat16", "gradients of the generator's step, float32", "going on with a run"} <= {*names}


@pytest.mark.skipif(INTERPRETED, reason="needs no kernels")
def test_without_kernels_the_next_simpler_form_is_taken(monkeypatch):
    cpu, elsewhere = torch.zeros(()), torch.zeros((), device="meta")
    assert [backend.form(cpu, name) for name in ("modulate", "patch_sums")] == ["fast", "fast"]
    assert [backend.form(elsewhere, name) for name in ("modulate", "patch_sums")] == ["fast", "plain"]
    monkeypatch.setattr(backend, "_chosen", None)  # to be put back
    assert backend.use("plain", cpu.device) == "plain" == backend.form(cpu, "modulate")
    assert backend.use(None, cpu.device) == "fast" == backend.form(cpu, "modulate")
    with pytest.raises(UserError, match="--impl triton: the kernels do not work on the device cpu"):
        backend.use("triton", cpu.device)
    with pytest.raises(UserError, match="modulate: impl triton has no kernels for the device cpu; leave it"):
        backend.form(cpu, "modulate", "triton")


@pytest.mark.skipif(INTERPRETED, reason="needs no kernels")
@pytest.mark.parametrize("operation", proof.OPERATIONS)
def test_the_fast_forms_pass_the_proof_too(operation):
    assert proof.error(operation, torch.device("cpu"), torch.float64, "fast") < 1e-12


@pytest.mark.skipif(INTERPRETED, reason="needs no kernels")
def test_encoder_on_a_device_without_kernels(monkeypatch):
    monkeypatch.setattr(backend, "on_host", lambda x: False)
    test_encoder(torch.device("cpu"), monkeypatch)


# ---- compilation


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.skipif(tuple(map(int, triton.__version__.split(".")[:2])) < (3, 6), reason="made for Triton 3.6 and later")
@pytest.mark.parametrize("capability, dtype", [(80, torch.float32), (90, torch.float16), (90, torch.bfloat16)])
def test_compiles(capability, dtype, monkeypatch):
    """Every launch, for GPUs that need not be here."""
    from models.ops import kernels

    launches = []
    monkeypatch.setattr(kernels, "_launch",
                        lambda kernel, grid, *args, **constants: launches.append((kernel, args, constants)))
    batch, channels, size = 2, 64, (8, 8)
    index = torch.zeros(batch, 16, 16, dtype=torch.int32)
    regions = RegionMap(index, 4)
    segments = SegmentSums(regions.flat, torch.tensor([regions.flat.numel(), 0, 0, 0]))
    for name in ("members", "piece_start", "piece_segment", "first_piece"):
        setattr(segments, name, getattr(segments, name).int())
    x, grad = torch.zeros(batch, *size, channels, dtype=dtype), torch.zeros(batch, 16, 16, channels, dtype=dtype)
    table, moments, weight = torch.zeros(4, 2, channels), torch.zeros(2, channels), torch.zeros(3, channels, 2)
    args = table, *moments, 1e-5
    for pixels in (x, grad):  # upsampled, and not
        kernels.modulate(pixels, *args, index, 0.2, dtype)
        kernels.modulate_sums(pixels, grad, *args, index, segments, 0.2)
        kernels.modulate_grad(pixels, grad, *args, moments, index, 0.2)
    kernels.moments_grad(table, table, 256)
    label, gain = torch.zeros(4, dtype=torch.int32), torch.zeros(())
    for factor in (None, gain):
        kernels.region_table(table, weight, weight, label, factor)
        kernels.region_table_grad(table, table, weight, weight, label, factor)
    kernels.instance_norm(x, 1e-5, 0.2)
    kernels.instance_norm_grad(x, x, moments, 0.2)
    kernels.gain_grad(gain, gain, *torch.zeros(2, 96))
    for stride in (1, 2):
        patches = kernels.patches(grad, index, stride, dtype)
        kernels.patches_grad(patches, index, stride, dtype)
    kernels.patch_sums(grad.flatten(0, 2), index, segments)
    kernels.patch_sums_grad(torch.zeros(4, 9, channels), index, dtype)
    assert {kernel.fn.__name__ for kernel, *_ in launches} == {
        "_modulate", "_modulate_sums", "_modulate_grad", "_moments_grad", "_region_table", "_region_table_grad",
        "_class_sums", "_piece_moments", "_joined_moments", "_instance_norm", "_piece_grads", "_instance_norm_grad",
        "_gain_grad", "_patches", "_patches_grad", "_patch_sums", "_patch_sums_grad", "_sum_pieces"}
    for kernel, args, constants in launches:
        compiled(kernel, args, constants, capability)


def compiled(kernel, args, constants, capability: int):
    """A launch of the kernel, compiled as for tensors that begin at multiples of 16 bytes."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int32: "*i32",
             torch.int64: "*i64"}
    kinds = [names[arg.dtype] if isinstance(arg, Tensor) else "i32" for arg in args]
    signature = dict(zip(kernel.arg_names, [*kinds, *["constexpr"] * len(constants)], strict=True))
    divisible = {(i,): [["tt.divisibility", 16]] for i, arg in enumerate(args)
                 if isinstance(arg, Tensor) or arg % 16 == 0}
    return triton.compile(ASTSource(kernel, signature, constants, divisible), target=GPUTarget("cuda", capability, 32))
