"""Kernels that prove themselves: each operation on a tiny layout, forward and backward, against its plain form.

A card, driver, PyTorch or Triton that nobody has tried is then no risk: what does not compile, or differs, is named and
not used. That all is well is kept in a file, so that only the first program on a machine takes these seconds.
"""
import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from models.ops import backend, plain
from models.ops.instance_convolution import InstanceGrid, instance_convolution, patch_sums
from models.ops.instance_norm import instance_norm
from models.ops.modulation import Features, modulate, region_table
from models.ops.regions import Regions
from models.ops.tables import Packed
from util import distributed
from util.errors import UserError
from util.files import write_atomically
from util.precision import float32_products, full_precision, no_autocast

# of the largest number; what computes in half rounds its results to that
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
_SIZE, _HALF, _CHANNELS, _CLASSES = (10, 14), (5, 7), 20, 3


class Trial:
    """Inputs of one operation, the same for every form: random leaves, and a layout in which instances have single
    pixels, long borders, or a whole sample.

    :param dtype: that the inputs are rounded to; ``exact`` ones are then float64.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, impl: str, exact: bool = False):
        self.device, self.impl, self._dtype, self._exact = device, impl, dtype, exact
        self._generator = torch.Generator().manual_seed(0)  # nobody else's draws change
        ids = torch.zeros(2, *_SIZE, dtype=torch.int32)
        ids[0, 2:7, 3:] = 1
        ids[0, 4, 5] = ids[0, 9, 13] = 2
        regions = Regions((torch.arange(2, dtype=torch.int32)[:, None, None], ids))
        self.regions: Regions = Packed.of(regions.tabulate((_SIZE, _HALF), (_SIZE, _HALF))).to(device).unpack()
        self.leaves: list[Tensor] = []

    def draw(self, *shape: int, wide: bool = False) -> Tensor:
        """A leaf; ``wide`` ones, such as weights, are at least float32."""
        dtype = torch.promote_types(self._dtype, torch.float32) if wide else self._dtype
        leaf = torch.randn(*shape, generator=self._generator).to(dtype)
        leaf = leaf.to(self.device, torch.float64 if self._exact else dtype)
        if len(shape) == 4:
            leaf = leaf.contiguous(memory_format=torch.channels_last)
        self.leaves.append(leaf.requires_grad_())
        return leaf

    def results(self, *outputs: Tensor) -> list[Tensor]:
        """The outputs, and the gradients of all leaves."""
        if not self.leaves:
            return list(outputs)
        weights = [torch.randn(out.shape, generator=self._generator).to(self._dtype).to(out) for out in outputs]
        return [*outputs, *torch.autograd.grad(outputs, self.leaves, weights)]


def _modulate(trial: Trial) -> Iterator[Tensor]:
    """With the statistics of what is modulated, and with constants."""
    count = len(trial.regions.ids[0])
    features = Features(trial.draw(2, _CHANNELS, *_HALF), upsampled=True, impl=trial.impl)
    moments = plain.moments(full_precision(features.x))
    yield modulate(features, trial.draw(count, _CHANNELS, 2, wide=True), *moments, 1e-2, trial.regions, 0.2, trial.impl)
    features = Features(trial.draw(2, _CHANNELS, *_SIZE), impl=trial.impl)
    constant = torch.full_like(moments[0], 0.7, requires_grad=False)
    yield modulate(features, trial.draw(count, _CHANNELS, 2, wide=True), constant, constant, 1e-2, trial.regions, 1.0,
                   trial.impl)


def _moments(trial: Trial) -> Iterator[Tensor]:
    yield from Features(trial.draw(2, _CHANNELS, *_SIZE), impl=trial.impl).moments


def _region_table(trial: Trial) -> Iterator[Tensor]:
    weight, bias = (trial.draw(_CLASSES, _CHANNELS, 2, wide=True) for _ in range(2))
    label = torch.tensor([0, 2, 2, 0], device=trial.device, dtype=torch.int32)
    for gain in (None, trial.draw(1, wide=True).squeeze()):
        yield region_table(trial.draw(4, 2, _CHANNELS, wide=True), weight, bias, label, gain, trial.impl)


def _instance_norm(trial: Trial) -> Iterator[Tensor]:
    yield instance_norm(trial.draw(2, _CHANNELS, *_SIZE), 1e-5, 0.2, trial.impl)


def _instance_convolution(trial: Trial) -> Iterator[Tensor]:
    grid = InstanceGrid(trial.regions)
    for stride in (1, 2):
        x, weight, bias = trial.draw(2, 5, *_SIZE), trial.draw(6, 5, 3, 3, wide=True), trial.draw(6, wide=True)
        yield instance_convolution(x, weight, bias, grid, stride, trial.impl)


def _patch_sums(trial: Trial) -> Iterator[Tensor]:
    neighbourhoods = InstanceGrid(trial.regions).neighbourhoods(_SIZE, 1)
    yield patch_sums(trial.draw(2 * _SIZE[0] * _SIZE[1], _CHANNELS), neighbourhoods, trial.impl)


def _gain_grad(trial: Trial) -> Iterator[Tensor]:
    form = backend.kernels() if trial.impl == "triton" else plain
    grad, gain, u, v = (trial.draw(count, wide=True).detach() for count in (1, 1, 24, 300))
    trial.leaves.clear()
    yield form.gain_grad(grad.squeeze(), gain.squeeze(), u, v)


OPERATIONS: dict[str, Callable[[Trial], Iterator[Tensor]]] = {
    "modulate": _modulate, "moments": _moments, "region_table": _region_table, "instance_norm": _instance_norm,
    "instance_convolution": _instance_convolution, "patch_sums": _patch_sums, "gain_grad": _gain_grad,
}


def error(operation: str, device: torch.device, dtype: torch.dtype = torch.float32, impl: str = "triton") -> float:
    """By how much outputs and gradients of a form differ from those of the plain one in float64, of the largest."""
    def results(trial: Trial) -> list[Tensor]:
        return [tensor.detach().double() for tensor in trial.results(*OPERATIONS[operation](trial))]

    half = dtype.itemsize == 2
    with (torch.inference_mode(False), torch.enable_grad(), distributed.alone(), no_autocast(device),
          float32_products(tf32=False)):
        expected = results(Trial(device, dtype, "plain", exact=True))
        with torch.autocast(device.type, dtype) if half else contextlib.nullcontext():
            found = results(Trial(device, dtype, impl))
    return max(float((ours - theirs).abs().max() / theirs.abs().max())
               for ours, theirs in zip(found, expected, strict=True))


def failures(device: torch.device) -> dict[str, str]:
    """Why kernels cannot be used on a device: operation -> reason. Where all can, that is kept."""
    place, about, proven = os.path.join(torch.hub.get_dir(), "inade_kernels.txt"), _about(device), ""
    with contextlib.suppress(OSError, ValueError), open(place, encoding="utf-8") as file:
        proven = file.read()
    if about and about in proven.splitlines():
        return {}
    found = {}
    for operation in OPERATIONS:
        try:
            differs = error(operation, device)
        except Exception as reason:  # no Triton, no compiler, a driver too old: many kinds
            found[operation] = f"{type(reason).__name__}: {' '.join(str(reason).split())[:200]}"
        else:
            if not differs <= TOLERANCE[torch.float32]:
                found[operation] = f"differs from the plain form by {differs:.0e}"
    if about and not found:
        with contextlib.suppress(UserError):
            write_atomically(place, f"{proven}{about}\n")
    return found


def _about(device: torch.device) -> str:
    """All that the results depend on; nothing without Triton."""
    try:
        import triton

        code = hashlib.sha256(inspect.getsource(backend.kernels()).encode()).hexdigest()[:16]
    except ImportError:
        return ""
    driver = ""
    with contextlib.suppress(OSError), open("/proc/driver/nvidia/version", encoding="utf-8") as file:
        driver = file.readline().strip()
    return f"{torch.cuda.get_device_name(device)}, {driver}, torch {torch.__version__}, triton {triton.__version__}, " \
           f"kernels {code}"
