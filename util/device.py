"""The device that a command computes on, and how it computes."""
import os

import torch

from util.errors import UserError
from util.launch import device_ids, local_rank


def find_device(option: str, text: str) -> torch.device:
    """The device of this process among those that the ``text`` of ``option`` (``--gpu_ids``, ``--gpu``) names; "mps" is
    the GPU of an Apple machine, on which nothing here was tried.

    :raises UserError: no such device.
    """
    if text == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(f"{option} mps: PyTorch finds no Apple GPU on this machine; use {option} -1 for the CPU")
        return torch.device("mps")
    ids = device_ids(option, text)
    number = local_rank()
    if len(ids) == 1 and ids[0] == 0:  # under torchrun: as many as there are processes
        ids = list(range(number + 1))
    if max(ids) < 0:
        return torch.device("cpu")
    if number >= len(ids):
        raise UserError(f"{option} {text}: there are more processes on this machine than devices; name a device for "
                        "each")
    if not torch.cuda.is_available():
        raise UserError(f"{option} {text}: no CUDA device was found; use {option} -1 for the CPU")
    if max(ids) >= torch.cuda.device_count():
        raise UserError(f"{option} {text}: there are only {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return torch.device("cuda", ids[number])


def use_device(device: torch.device, tf32: str | None = None, deterministic: bool = False,
               search: bool = False) -> None:
    """Let this process compute on a device, and on no other: without this, CUDA also takes memory of device 0.

    :param tf32: ``--tf32``: whether products of float32 numbers are those of TF32, which has 10 binary digits; None
        leaves PyTorch's choice, which is: in convolutions, and not in products of matrices.
    :param deterministic: ``--deterministic``: what sums in any order is replaced where PyTorch can, else it warns.
    :param search: let cuDNN try which of its algorithms is quickest for a shape, which pays where shapes repeat; not
        if ``deterministic``, since it may choose another one every time.
    """
    if device.type != "cuda":
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it
        torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = search and not deterministic
    if tf32 is not None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32 == "on"
    torch.cuda.set_device(device)
