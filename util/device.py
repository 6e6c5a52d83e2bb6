"""The device that a command computes on."""
import torch

from util.errors import UserError


def find_device(option: str, text: str) -> torch.device:
    """The device that the ``text`` of ``option`` (``--gpu_ids``, ``--gpu``) names: one CUDA device, or the CPU for
    nothing and for -1.

    :raises UserError: no such device.
    """
    try:
        ids = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"{option} {text}: not the number of a CUDA device; use e.g. 0, or -1 for the CPU") from error
    ids = [i for i in ids if i >= 0]
    if not ids:
        return torch.device("cpu")
    if len(ids) > 1:
        raise UserError(f"{option} {text}: one device per run is supported; name one of them")
    if not torch.cuda.is_available():
        raise UserError(f"{option} {text}: no CUDA device was found; use {option} -1 for the CPU")
    if ids[0] >= torch.cuda.device_count():
        raise UserError(f"{option} {text}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return torch.device("cuda", ids[0])
