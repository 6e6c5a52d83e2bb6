"""Mixed precision, the same way for every command."""
import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from util.errors import UserError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}  # of --amp_dtype


def amp_dtype(device: torch.device, name: str | None) -> torch.dtype:
    """The type of ``--use_amp`` that ``--amp_dtype`` names; None: bfloat16 where the device has it, else float16.

    :raises UserError: float16 on the CPU, which has no gradient scaling here.
    """
    if device.type == "cpu":
        if name == "float16":
            raise UserError("--amp_dtype float16: is for CUDA devices only; leave it out for bfloat16 on the CPU")
        return torch.bfloat16
    if device.type == "mps":
        if name == "bfloat16":
            raise UserError("--amp_dtype bfloat16: works on the CPU and on CUDA only; leave it out")
        return torch.float16
    if name is None:
        name = "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    return DTYPES[name]


def autocast(device: torch.device, enabled: bool, name: str | None = None) -> torch.autocast:
    """The context of ``--use_amp``, with the type that ``--amp_dtype`` names; does nothing unless enabled."""
    return torch.autocast(device.type, dtype=amp_dtype(device, name) if enabled else None, enabled=enabled)


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Within it, everything is computed in the type of its inputs."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


@contextlib.contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Whether CUDA may round float32 numbers to TF32 within it where it multiplies them."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = tf32
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def gradient_scaler(device: torch.device, enabled: bool, name: str | None = None) -> torch.amp.GradScaler:
    """Scales losses where gradients are float16; bfloat16 has the range of float32 and needs none."""
    return torch.amp.GradScaler(device.type, enabled=enabled and amp_dtype(device, name) == torch.float16)


def working_dtype(x: Tensor) -> torch.dtype:
    """What convolutions of ``x`` work in: the narrow type under autocast, else at least float32."""
    kind = x.device.type
    if x.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return torch.promote_types(x.dtype, torch.float32)


class SkippedSteps:
    """How many steps of fused optimisers a gradient scaler left out, because gradients were not finite. Optimisers
    count their steps on the device; so nothing waits for it until it is asked."""

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self._before: dict[torch.optim.Optimizer, int] = {}  # steps that were made when this began to look
        self._asked = dict.fromkeys(optimizers, 0)

    def note(self, optimizer: torch.optim.Optimizer) -> None:
        """A step is to be made now."""
        if optimizer not in self._before:  # looking waits for the device: once, before its first step
            self._before[optimizer] = _steps(optimizer)
        self._asked[optimizer] += 1

    def __int__(self) -> int:
        return sum(self._before[optimizer] + self._asked[optimizer] - _steps(optimizer) for optimizer in self._before)


def _steps(optimizer: torch.optim.Optimizer) -> int:
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 where autocast made it narrower: normalisations and losses are not computed in half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
