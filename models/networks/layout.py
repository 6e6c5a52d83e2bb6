"""The semantic layout of a batch: classes, instances, and the regions that they make."""
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.instance_convolution import InstanceGrid
from models.ops.regions import Regions


@dataclass(frozen=True)
class Part:
    """Which part of a batch a layout is, where several processes share one.

    :param index: it holds the ``index``-th of ...
    :param count: ... so many equal parts.
    :param num_instances: K of the whole batch; None where the layout is the whole.
    """

    index: int = 0
    count: int = 1
    num_instances: int | None = None


WHOLE = Part()


class Layout:
    """What the networks are conditioned on: the classes and instances of every pixel. What is derived from them is
    made when it is first asked for.

    :param label: [B, 1, H, W] or [B, H, W], class ids in 0..num_classes-1, any integer type.
    :param instance: the same shape, instance ids from 0.
    :param num_classes: C.
    :param with_edges: whether the semantic input has the instance edges as its last channel.
    :param part: which part of a batch this is.
    :raises ValueError: a class id outside the classes, or a negative instance id.
    """

    def __init__(self, label: Tensor, instance: Tensor, num_classes: int, with_edges: bool,
                 part: Part = WHOLE):
        self.label = label.reshape(-1, *label.shape[-2:]).long()  # [B, H, W]
        self.instance = instance.reshape(-1, *instance.shape[-2:]).long()  # [B, H, W]
        self.num_classes = num_classes
        self.with_edges = with_edges
        self.part = part
        low, high = self.label.aminmax()
        if low < 0 or high >= num_classes:
            raise ValueError(f"class ids {int(low)}..{int(high)} in labels, but the classes are 0..{num_classes - 1}")
        if self.instance.min() < 0:
            raise ValueError(f"instance id {int(self.instance.min())}, but ids start from 0")

    @property
    def batch_size(self) -> int:
        return len(self.label)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.label.shape[1:])

    @cached_property
    def num_instances(self) -> int:
        """K: the largest instance id of the batch, plus one."""
        return int(self.instance.max()) + 1 if self.part.num_instances is None else self.part.num_instances

    @cached_property
    def edges(self) -> Tensor:
        """[B, H, W] bool: pixels whose instance differs from that of a direct neighbour."""
        return instance_edges(self.instance)

    @cached_property
    def semantics(self) -> Tensor:
        """[B, C (+1), H, W] float: the one-hot classes, then the instance edges."""
        channels = self.num_classes + int(self.with_edges)
        semantics = torch.zeros(*self.label.shape, channels, device=self.label.device)
        semantics.scatter_(3, self.label[..., None], 1.0)
        if self.with_edges:
            semantics[..., -1] = self.edges
        return semantics.permute(0, 3, 1, 2)  # channels-last

    def halved_classes(self, times: int) -> Tensor:
        """[B, C, h, w] float: the one-hot classes, ``times`` times averaged over 3x3 pixels with stride 2.

        Averaged while counting, so that the one-hot maps at full resolution are never made.
        """
        maps = self._halved_classes
        for _ in range(times - 1):
            maps = halve(maps)
        return maps

    @cached_property
    def _halved_classes(self) -> Tensor:
        batch, height, width = self.label.shape
        height, width = (height + 1) // 2, (width + 1) // 2
        outside = self.num_classes
        padded = F.pad(self.label, (1, 1, 1, 1), value=outside)
        near = torch.stack([padded[:, dy:dy + 2 * height - 1:2, dx:dx + 2 * width - 1:2]
                            for dy in range(3) for dx in range(3)], dim=-1)  # [B, h, w, 9]
        inside = (near != outside).to(torch.get_default_dtype())
        maps = torch.zeros(batch, height, width, self.num_classes + 1, device=near.device)
        maps.scatter_add_(3, near, inside / inside.sum(-1, keepdim=True))
        return maps[..., :-1].permute(0, 3, 1, 2)

    @cached_property
    def class_regions(self) -> Regions:
        """Regions of one class in one instance; ids are (sample, class, instance)."""
        return Regions(torch.stack([self._samples, self.label, self.instance]))

    @cached_property
    def instance_grid(self) -> InstanceGrid:
        """Regions of one instance, whatever its classes, and their borders; ids are (sample, instance)."""
        return InstanceGrid(Regions(torch.stack([self._samples, self.instance])))

    @property
    def _samples(self) -> Tensor:
        return torch.arange(self.batch_size, device=self.label.device)[:, None, None].expand_as(self.label)


def halve(x: Tensor) -> Tensor:
    """[B, c, H, W] -> [B, c, ceil(H/2), ceil(W/2)]: means of 3x3 pixels, of those that lie in the image."""
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def instance_edges(instance: Tensor) -> Tensor:
    """Where ``instance`` [B, H, W] differs from its left, right, upper or lower neighbour: [B, H, W] bool."""
    edges = torch.zeros_like(instance, dtype=torch.bool)
    across = instance[:, :, 1:] != instance[:, :, :-1]
    down = instance[:, 1:] != instance[:, :-1]
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return edges
