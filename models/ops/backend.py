"""Which form of the algebra a tensor gets: fused kernels on CUDA where Triton works, else plain PyTorch."""
import functools
import warnings
from types import ModuleType

import torch
from torch import Tensor, nn


def kernels_for(x: Tensor) -> ModuleType | None:
    """:mod:`models.ops.kernels` if it can work on ``x``; None if plain PyTorch has to."""
    if not x.is_cuda or type(x) not in (Tensor, nn.Parameter):  # a subclass, e.g. a fake tensor, may have no memory
        return None
    return _kernels(x.device)


def on_host(x: Tensor) -> bool:
    """Whether ``x`` lies where counting and sorting out pixels is quick. A device would make the host wait for it."""
    return x.device.type == "cpu"


@functools.cache
def _kernels(device: torch.device) -> ModuleType | None:
    if torch.cuda.get_device_capability(device) < (8, 0):  # what Triton supports
        return None
    try:
        from models.ops import kernels

        kernels.try_out(device)
    except Exception as error:  # no Triton, no compiler, a driver too old: many kinds
        warnings.warn(f"no fused kernels on {device}, training is slower: {error}", stacklevel=2)
        return None
    return kernels
