"""Repeatable runs."""
import hashlib

import numpy as np
import torch

from util import distributed


def seed_everything(seed: int | None) -> None:
    """Seed PyTorch's generators on every device; None leaves them random, but equal in all processes. (Data loading
    seeds its own.)"""
    if seed is None:
        if distributed.world_size() > 1:
            torch.manual_seed(distributed.from_main(torch.initial_seed()))
    else:
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def seed_of(seed: int, *keys: int | str) -> int:
    """The seed of what ``keys`` name, e.g. one sample of one image, so that what is drawn for it does not depend on the
    others."""

    def number(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")

    numbers = (key if isinstance(key, int) else number(key) for key in keys)
    return int(np.random.SeedSequence((seed, *numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
