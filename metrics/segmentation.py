"""A small segmentation network: what it sees in synthesized pictures tells how well they follow their layouts."""
import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.checkpoints import load_network, save_tensors, tensors_of
from util.errors import UserError
from util.files import check_writable
from util.progress import progress

_VERSION = 1  # of network and training: other ones do not share cached weights


class Segmenter(nn.Module):
    """Classes of pixels from pictures: three scales down and up again, with skips."""

    features_nc = 96

    def __init__(self, num_classes: int, width: int = 24):
        super().__init__()
        self.down1 = _layer(3, width)
        self.down2 = _layer(width, 2 * width, stride=2)
        self.down3 = _layer(2 * width, 4 * width, stride=2)
        self.middle = _layer(4 * width, self.features_nc)
        self.up2 = _layer(self.features_nc + 2 * width, 2 * width)
        self.up1 = _layer(3 * width, width)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] bytes -> scores of the classes [B, C, H, W], and features of the pictures [B, 96]: the means
        of the middle layer. Sides are multiples of 4."""
        x1 = self.down1((pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last))
        x2 = self.down2(x1)
        middle = self.middle(self.down3(x2))  # [B, 96, H/4, W/4]
        y = self.up2(torch.cat([F.interpolate(middle, scale_factor=2.0), x2], 1))
        y = self.up1(torch.cat([F.interpolate(y, scale_factor=2.0), x1], 1))
        return self.classify(y), middle.mean((2, 3))


def _layer(fin: int, fout: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fin, fout, 3, stride, padding=1, bias=False), nn.BatchNorm2d(fout), nn.ReLU())


def trained_segmenter(pictures: Tensor, labels: Tensor, num_classes: int, epochs: int, cache: str,
                      batch_size: int = 16) -> Segmenter:
    """A network trained on pairs of pictures [N, 3, H, W] and labels [N, H, W], bytes both; always the same for the
    same pairs. What was trained once is read from the folder ``cache``, by a name made of the pairs' content.

    :raises UserError: the cached file is damaged, or cannot be written.
    """
    return trained_once(lambda: Segmenter(num_classes).to(memory_format=torch.channels_last),
                        lambda network: _train(network, pictures, labels, epochs, batch_size),
                        (_VERSION, num_classes, epochs, batch_size, tuple(labels.shape)), (pictures, labels), cache)


def trained_once(build: Callable[[], nn.Module], train: Callable[[nn.Module], None], recipe: tuple,
                 pairs: Sequence[Tensor], cache: str) -> nn.Module:
    """What ``train`` makes of the network that ``build`` returns, always from the same random numbers; read from the
    folder ``cache`` where it was made before.

    :param recipe: what the result depends on besides the content of ``pairs``; both make the file's name.
    :raises UserError: the cached file is damaged, or cannot be written.
    """
    content = hashlib.sha256(repr(recipe).encode())
    for array in pairs:
        content.update(array.numpy().tobytes())
    path = os.path.join(cache, f"segmenter-{content.hexdigest()[:16]}.pth")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build()
        if os.path.isfile(path):
            try:
                load_network(network, path)
            except UserError as error:
                raise UserError(f"{path}: the file is damaged; delete it, so that the network is trained "
                                "again") from error
        else:
            check_writable(path)
            train(network)
            save_tensors(tensors_of(network), path)
    return network.eval()


def _train(network: Segmenter, pictures: Tensor, labels: Tensor, epochs: int, batch_size: int) -> None:
    steps = epochs * -(-len(pictures) // batch_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    with progress(total=steps, doing="training the segmentation network", unit="step") as bar:
        for _ in range(epochs):
            for part in torch.randperm(len(pictures)).split(batch_size):
                scores, _ = network(pictures[part])
                loss = F.cross_entropy(scores, labels[part].long())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()


@torch.no_grad()
def segment(network: Segmenter, pictures: Tensor, batch_size: int = 50) -> tuple[Tensor, Tensor]:
    """Classes [N, H, W] and features [N, 96] of pictures [N, 3, H, W], bytes."""
    classes, features = zip(*((scores.argmax(1), means) for scores, means in map(network, pictures.split(batch_size))),
                            strict=True)
    return torch.cat(classes), torch.cat(features)


def confusion(truth: Tensor, found: Tensor, num_classes: int) -> np.ndarray:
    """[C, C] counts of pixels: rows by their true class, columns by the class found."""
    pairs = truth.flatten().long() * num_classes + found.flatten()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes).numpy()


def faithfulness(counts: np.ndarray) -> dict[str, float]:
    """Mean intersection over union of the classes that occur, and the share of pixels that are right."""
    right, truth, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    occurs = truth > 0
    iou = right[occurs] / (truth + found - right)[occurs]
    return {"mIoU": float(iou.mean()), "accuracy": float(right.sum() / counts.sum())}
