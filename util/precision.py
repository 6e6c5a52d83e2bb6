"""Mixed precision, the same way for every command."""
from typing import Any

import torch


def autocast(opt: Any) -> torch.autocast:
    """The context of ``--use_amp``: float16 on CUDA, bfloat16 on the CPU; without it, a context that does nothing."""
    dtype = torch.float16 if opt.device.type == "cuda" else torch.bfloat16
    return torch.autocast(opt.device.type, dtype=dtype, enabled=opt.use_amp)


def gradient_scaler(opt: Any) -> torch.amp.GradScaler:
    """Scales losses where gradients are float16; bfloat16 has the range of float32 and needs none."""
    return torch.amp.GradScaler(opt.device.type, enabled=opt.use_amp and opt.device.type == "cuda")
