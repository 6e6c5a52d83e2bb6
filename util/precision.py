"""Mixed precision, the same way for every command."""
import torch
from torch import Tensor


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """The context of ``--use_amp``: float16 on CUDA, bfloat16 on the CPU; does nothing unless enabled."""
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=enabled)


def gradient_scaler(device: torch.device, enabled: bool) -> torch.amp.GradScaler:
    """Scales losses where gradients are float16; bfloat16 has the range of float32 and needs none."""
    return torch.amp.GradScaler(device.type, enabled=enabled and device.type == "cuda")


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 where autocast made it narrower: normalisations and losses are not computed in half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
