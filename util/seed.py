"""Repeatable runs."""
import torch


def seed_everything(seed: int | None) -> None:
    """Seed PyTorch's generators on every device; None leaves them random. (Data loading seeds its own.)"""
    if seed is not None:
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
