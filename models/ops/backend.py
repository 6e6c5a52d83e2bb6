"""Which form of an operation computes: ``plain`` (:mod:`models.ops.plain`), ``fast`` (the algebra of the other files)
or ``triton`` (fused kernels on CUDA).

:func:`use` chooses for the whole process (``--impl``). Where the chosen form does not exist, the next simpler one is
taken:

    on                            --impl triton, or none     --impl fast         --impl plain
    CUDA, capability 8.0 or more  kernels that passed their  as below            plain
                                  check, the rest as below
    other devices than the CPU    as --impl fast             fast; plain for     plain
                                                             ``_FAST_ON_HOST``
    the CPU                       fast                       fast                plain

An operation that is called with ``impl`` takes that form, and nothing replaces it.
"""
import functools
import os
import warnings
from types import ModuleType

import torch
from torch import Tensor, nn

from util.errors import UserError

IMPLS = ("plain", "fast", "triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton then runs kernels on any device, very slowly
# their fast forms count and sort out pixels, for which a device would make the host wait, or are made for the CPU
_FAST_ON_HOST = frozenset({"moments", "upsampled_convolution", "instance_convolution", "patch_sums", "look_up"})

_chosen = IMPLS[-1]


def use(impl: str | None, device: torch.device) -> str:
    """Let this process compute in a form, or with None in the fastest that the device has. Which one that is.

    :raises UserError: there are no kernels for the device.
    """
    global _chosen
    works = bool(working_kernels(device))
    if impl == "triton" and not works:
        raise UserError(f"--impl triton: the kernels do not work on the device {device}; leave it out, or use fast")
    _chosen = impl or IMPLS[-1]
    return impl or ("triton" if works else "fast")


def form(x: Tensor, operation: str, impl: str | None = None) -> str:
    """The form of an operation on ``x``: ``impl`` if it is given, else the chosen one or what replaces it.

    :raises UserError: ``impl`` is triton, and there are no kernels for the device.
    """
    if impl == "triton" and not (INTERPRETED or has_kernels(x.device)):
        raise UserError(f"{operation}: impl triton has no kernels for the device {x.device}; leave it out, or use fast")
    if impl:
        return impl
    found = _chosen
    if found == "triton" and operation not in kernels_for(x):
        found = "fast"
    return "plain" if found == "fast" and operation in _FAST_ON_HOST and not on_host(x) else found


def on_host(x: Tensor) -> bool:
    """Whether ``x`` lies where counting and sorting out pixels is quick."""
    return x.device.type == "cpu"


def kernels_for(x: Tensor) -> frozenset[str]:
    """The operations that have kernels for ``x``."""
    if not x.is_cuda or type(x) not in (Tensor, nn.Parameter):  # a subclass, e.g. a fake tensor, may have no memory
        return frozenset()
    return working_kernels(x.device)


def kernels() -> ModuleType:
    """:mod:`models.ops.kernels`, which needs Triton."""
    from models.ops import kernels

    return kernels


def has_kernels(device: torch.device) -> bool:
    """Whether Triton supports the device."""
    return (device.type == "cuda" and torch.cuda.is_available()
            and torch.cuda.get_device_capability(device) >= (8, 0))


@functools.cache
def working_kernels(device: torch.device) -> frozenset[str]:
    """The operations whose kernels do on this device what they should. A line names those that do not."""
    if not has_kernels(device):
        return frozenset()
    from models.ops import proof

    failed = proof.failures(device)
    if failed:
        each = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        warnings.warn(f"fused kernels that do not work on {device} and are not used, which is slower: {each}",
                      stacklevel=2)
    return frozenset(proof.OPERATIONS) - failed.keys()
