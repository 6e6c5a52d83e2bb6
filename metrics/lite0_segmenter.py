"""A segmentation network for photographs that is trained in minutes: frozen features of EfficientNet-Lite0, and a light
head on top of them."""
import hashlib
import os
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.efficientnet_lite import EfficientNetLite, enlarged
from util.checkpoints import load_network, save_tensors, tensors_of
from util.errors import UserError
from util.files import check_writable
from util.progress import progress

_VERSION = 1  # of network and training: other ones do not share cached weights
_LAYERS = (3, 5, 11, 16)  # blocks whose activations are used: the last at 1/4, 1/8, 1/16 and 1/32 of the size
MOST_PAIRS = 2000  # whose features are kept in memory
_CHANNELS = (24, 40, 112, 320)  # of these


def trained_lite0(pictures: Tensor, classes: Tensor, num_classes: int, cache: str, device: torch.device,
                  use_amp: bool = False, steps: int = 500) -> "Lite0Segmenter":
    """A network trained on pairs of pictures [N, 3, H, W], bytes, and classes [N, H, W], ``num_classes`` where there is
    none; at most 2000 of them, evenly chosen. On the CPU it is always the same for the same pairs. What was trained
    once is read from the folder ``cache``.

    :raises UserError: the package of EfficientNet-Lite0 is not installed; the cached file is damaged, or cannot be
        written.
    """
    step = -(-len(pictures) // MOST_PAIRS)
    pictures, classes = pictures[::step], classes[::step]
    head = trained_once(
        lambda: Head(num_classes).to(device, memory_format=torch.channels_last),
        lambda head: _train(Lite0Segmenter(head, use_amp).to(device), pictures, classes, num_classes, steps),
        (_VERSION, "lite0", num_classes, steps, use_amp, tuple(classes.shape)), (pictures, classes), cache)
    return Lite0Segmenter(head, use_amp).to(device).eval()


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


class Lite0Segmenter(nn.Module):
    """Class maps of pictures, by a head of :func:`trained_lite0`; with ``use_amp``, convolutions are in bfloat16."""

    def __init__(self, head: "Head", use_amp: bool = False):
        super().__init__()
        self.backbone = EfficientNetLite().to(memory_format=torch.channels_last)
        self.head, self.use_amp = head, use_amp

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3, H, W] bytes -> classes [B, H, W]."""
        with torch.autocast(pictures.device.type, torch.bfloat16, self.use_amp):
            scores = self.head(self.features(pictures))
        return F.interpolate(scores.float(), pictures.shape[2:], mode="bilinear").argmax(1)

    @torch.no_grad()
    def features(self, pictures: Tensor) -> list[Tensor]:
        """Of the backbone, for pictures [B, 3, H, W]; the largest [B, 24, h, w]."""
        x = enlarged(pictures.float() / 127.5 - 1)
        return self.backbone(x.contiguous(memory_format=torch.channels_last), _LAYERS)


class Head(nn.Module):
    """Scores of classes from features, at the size of the largest: from the coarsest on, features are projected to one
    width, added to what lies above, and mixed."""

    def __init__(self, num_classes: int, width: int = 64):
        super().__init__()
        self.project = nn.ModuleList(_convolution(channels, width, 1) for channels in _CHANNELS)
        self.mix = nn.ModuleList(nn.Sequential(nn.ReLU(), _convolution(width, width, 3), nn.ReLU()) for _ in _CHANNELS)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = None
        for project, mix, feature in reversed(list(zip(self.project, self.mix, features, strict=True))):
            y = project(feature)
            x = mix(y if x is None else y + F.interpolate(x, y.shape[2:], mode="bilinear"))
        return self.classify(x)


def _convolution(fin: int, fout: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fin, fout, kernel_size, padding=kernel_size // 2, bias=False), nn.BatchNorm2d(fout))


def _train(network: Lite0Segmenter, pictures: Tensor, classes: Tensor, num_classes: int, steps: int,
           batch_size: int = 16) -> None:
    """Train the head, at the size of the largest features. These are computed once; flips are flips of features."""
    device = next(network.head.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, network.use_amp):
        parts = [[x.bfloat16() for x in network.features(part.to(device))] for part in progress(
            pictures.split(batch_size), doing="features of the segmentation network", unit="batch")]
    features = [torch.cat(layer) for layer in zip(*parts, strict=True)]
    size = features[0].shape[2:]
    targets = torch.cat([F.interpolate(part[:, None].float(), size, mode="nearest-exact")[:, 0].to(classes.dtype)
                         for part in classes.split(batch_size)]).to(device)
    weights = _class_weights(targets, num_classes)
    optimizer = torch.optim.AdamW(network.head.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    order = []
    for _ in progress(range(steps), doing="training the segmentation network", unit="step"):
        order = order or list(torch.randperm(len(targets)).split(batch_size))
        indices = order.pop().to(device)
        batch, truth = [layer[indices] for layer in features], targets[indices].long()
        if torch.rand(()) < 0.5:
            batch, truth = [layer.flip(3) for layer in batch], truth.flip(2)
        with torch.autocast(device.type, torch.bfloat16, network.use_amp):
            scores = network.head([layer if network.use_amp else layer.float() for layer in batch])
        loss = F.cross_entropy(scores.float(), truth, weights, ignore_index=num_classes, reduction="sum")
        loss = loss / truth.numel()  # a mean over the pixels with a class fails where a batch has none
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _class_weights(classes: Tensor, num_classes: int) -> Tensor:
    """1/sqrt of each class's share of the pixels, the mean over pixels 1: rare classes count for more in the mean
    intersection over union than in a mean over pixels."""
    share = torch.bincount(classes.flatten().long(), minlength=num_classes)[:num_classes].float()
    share /= share.sum().clamp_min(1)
    weights = share.clamp_min(1e-4).rsqrt()
    return weights / (weights * share).sum().clamp_min(1e-4)
