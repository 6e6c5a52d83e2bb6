"""Mixed precision, the same way for every command."""
from typing import Any

import torch
from torch import Tensor


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """The context of ``--use_amp``: float16 on CUDA, bfloat16 on the CPU; does nothing unless enabled."""
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=enabled)


def gradient_scaler(device: torch.device, enabled: bool) -> torch.amp.GradScaler:
    """Scales losses where gradients are float16; bfloat16 has the range of float32 and needs none."""
    return torch.amp.GradScaler(device.type, enabled=enabled and device.type == "cuda")


class SkippedSteps:
    """How many steps of fused optimisers a gradient scaler left out, because gradients were not finite.

    Optimisers count their steps on the device; so nothing waits for it until it is asked.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self._before: dict[torch.optim.Optimizer, int] = {}  # steps that were made when this began to look
        self._asked = dict.fromkeys(optimizers, 0)
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(self._count)

    def _count(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._before.setdefault(optimizer, _steps(optimizer))
        self._asked[optimizer] += 1

    def __int__(self) -> int:
        return sum(self._before[optimizer] + self._asked[optimizer] - _steps(optimizer) for optimizer in self._before)


def _steps(optimizer: torch.optim.Optimizer) -> int:
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 where autocast made it narrower: normalisations and losses are not computed in half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
