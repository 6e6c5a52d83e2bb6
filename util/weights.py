"""Pretrained weights, which are never downloaded without being asked for."""
import hashlib
import os

import torch

from util.errors import UserError


def find_weights(path: str | None, network: str, url: str, remedy: str) -> str:
    """Where a network's weights are: ``path``, or else the place of the ``url``'s file in the torch hub cache.

    :param remedy: what else the user can do, e.g. "give the file with --vgg_weights FILE".
    :raises UserError: there is no such file; the line says what to download and where to put it.
    """
    cached = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    found = path or cached
    if not os.path.isfile(found):
        raise UserError(f"{found}: the weights of {network} are not there; download {url} to {cached}, or {remedy}")
    return found


def sha256(path: str) -> str:
    """The SHA-256 of a file of weights. :raises UserError: it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check its permissions") from error
    return digest.hexdigest()
