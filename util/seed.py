"""Repeatable runs."""
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


def seed_of(seed: int, index: int) -> int:
    """The seed of one sample, so that what is drawn for it does not depend on the others."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))
