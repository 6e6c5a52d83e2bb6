"""The semantic layout of a batch: classes, instances, and the regions that they make."""
import copy
import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.instance_convolution import InstanceGrid
from models.ops.regions import Regions
from models.ops.tables import Packed, Tables

Sizes = tuple[tuple[int, int], ...]  # heights and widths


@dataclass(frozen=True)
class Part:
    """Which part of a batch a layout is, where several processes share one."""

    index: int = 0
    count: int = 1  # of equal parts
    num_instances: int | None = None  # K of the whole batch; None where the layout is the whole


WHOLE = Part()


@dataclass(frozen=True)
class Needs:
    """Which tables of a layout networks ask for. On the CPU they are made when that happens; for a device, before."""

    class_regions: Sizes = ()  # at which a generator modulates by region
    class_sums: bool = False  # whether there will be a backward pass, which sums over those
    instance_regions: Sizes = ()  # at which an encoder needs the instances, the largest first: there it sums over them
    multiple: int = 32  # of which the number of regions is one, so that few different shapes occur
    instances_multiple: int = 1  # the same for instances in tables; K itself is rounded by :meth:`Layout.rounded`


class Layout(Tables):
    """What the networks are conditioned on: the classes and instances of every pixel. What is derived from them is
    made when it is first asked for. For a GPU, :meth:`packed` makes the tables on the CPU before, because counting
    pixels there would wait for the device.

    :param label: [B, 1, H, W] or [B, H, W], class ids in 0..num_classes-1, any integer type.
    :param instance: the same shape, instance ids from 0.
    :param num_classes: C.
    :param with_edges: whether the semantic input has the instance edges as its last channel.
    :param part: which part of a batch this is.
    :param ids: type of ids and region numbers: int32 makes packing quick.
    :raises ValueError: a class id outside the classes, or a negative instance id.
    """

    def __init__(self, label: Tensor, instance: Tensor, num_classes: int, with_edges: bool,
                 part: Part = WHOLE, ids: torch.dtype = torch.int64):
        self.label = label.reshape(-1, *label.shape[-2:]).to(ids)  # [B, H, W]
        self.instance = instance.reshape(-1, *instance.shape[-2:]).to(ids)  # [B, H, W]
        self.num_classes = num_classes
        self.with_edges = with_edges
        self.part = part
        self.needs: Needs | None = None  # of the networks whose tables it has
        low, high = map(int, self.label.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"class ids {low}..{high} in labels, but the classes are 0..{num_classes - 1}")
        low, high = map(int, self.instance.aminmax())
        if low < 0:
            raise ValueError(f"instance id {low}, but ids start at 0")
        self._num_instances = high + 1

    def packed(self, needs: Needs) -> Packed:
        """This layout, on the CPU, with the tables that networks need: to be moved to a device and unpacked there."""
        layout = copy.copy(self)
        layout.needs = needs
        if needs.class_regions:
            sums_at = needs.class_regions if needs.class_sums else ()
            layout.class_regions = self._class_regions(needs.multiple).tabulate(needs.class_regions, sums_at)
        if needs.instance_regions:
            # all [B*K], which is few: a shape that depends on K alone
            regions = self._instance_regions((self.batch_size, layout.instance_rows))
            layout.instance_regions = regions.tabulate(needs.instance_regions, needs.instance_regions[:1])
        return Packed.of(layout)

    def as_part(self, part: Part) -> "Layout":
        """The same layout as a part of a batch."""
        layout = copy.copy(self)
        layout.part = part
        return layout

    def rounded(self) -> "Layout":
        """The same layout with :attr:`instance_rows` for K, so that few different K occur."""
        layout = copy.copy(self)
        layout._num_instances = self.instance_rows
        return layout

    @property
    def batch_size(self) -> int:
        return self.label.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.label.shape[1:])

    @property
    def num_instances(self) -> int:
        """K: the largest instance id of the batch, plus one."""
        return self._num_instances if self.part.num_instances is None else self.part.num_instances

    @property
    def instance_rows(self) -> int:
        """K as tables have it, rounded up."""
        multiple = self.needs.instances_multiple if self.needs else 1
        return self.num_instances + -self.num_instances % multiple

    @cached_property
    def edges(self) -> Tensor:
        """[B, H, W] bool: pixels whose instance differs from that of a direct neighbour."""
        return instance_edges(self.instance)

    @cached_property
    def semantics(self) -> Tensor:
        """[B, C (+1), H, W] float: the one-hot classes, then the instance edges."""
        return self.semantics_in(torch.get_default_dtype())

    def semantics_in(self, dtype: torch.dtype) -> Tensor:
        """The :attr:`semantics` as numbers of another type; not kept."""
        channels = self.num_classes + int(self.with_edges)
        semantics = torch.zeros(*self.label.shape, channels, dtype=dtype, device=self.label.device)
        semantics.scatter_(3, self.label[..., None].long(), 1.0)
        if self.with_edges:
            semantics[..., -1] = self.edges
        return semantics.permute(0, 3, 1, 2)  # channels-last

    def class_shares(self, size: tuple[int, int]) -> Tensor:
        """[B, C, h, w] float: which share of each cell of a grid of ``size`` (h, w) every class covers. A cell has the
        pixels that ``interpolate(mode="nearest")`` would spread it over."""
        (height, width), whole = size, self.size
        rows, columns = (torch.arange(old, device=self.label.device) * new // old
                         for old, new in zip(whole, size, strict=True))
        cells = (self._samples * height + rows[:, None]) * width + columns
        flat = (cells * self.num_classes + self.label.long()).flatten()
        counts = torch.zeros(self.batch_size * height * width * self.num_classes, device=flat.device)
        counts.scatter_add_(0, flat, counts.new_ones(()).expand(len(flat)))
        counts = counts.view(self.batch_size, height, width, self.num_classes)
        return (counts / counts.sum(-1, keepdim=True)).permute(0, 3, 1, 2)  # channels-last

    def halved_classes(self, times: int) -> Tensor:
        """[B, C, h, w] float: the one-hot classes, ``times`` times averaged over 3x3 pixels with stride 2. They are
        counted from the ids: one-hot maps at full resolution are never made."""
        maps = self._halved_classes
        for _ in range(times - 1):
            maps = halve(maps)
        return maps

    @cached_property
    def _halved_classes(self) -> Tensor:
        batch, height, width = self.label.shape
        height, width = (height + 1) // 2, (width + 1) // 2
        outside = self.num_classes
        padded = F.pad(self.label.long(), (1, 1, 1, 1), value=outside)
        near = torch.stack([padded[:, dy:dy + 2 * height - 1:2, dx:dx + 2 * width - 1:2]
                            for dy in range(3) for dx in range(3)], dim=-1)  # [B, h, w, 9]
        inside = (near != outside).to(torch.get_default_dtype())
        maps = torch.zeros(batch, height, width, self.num_classes + 1, device=near.device)
        maps.scatter_add_(3, near, inside / inside.sum(-1, keepdim=True))
        return maps[..., :-1].permute(0, 3, 1, 2)

    @property
    def main_classes(self) -> Tensor:
        """[B, K]: the class of most pixels of every instance; 0 for ids that no pixel has."""
        shape = (self.batch_size, self.num_instances, self.num_classes)
        flat = ((self._samples * shape[1] + self.instance) * shape[2] + self.label).flatten()
        counts = torch.zeros(math.prod(shape), device=flat.device)
        return counts.scatter_add_(0, flat, counts.new_ones(()).expand(len(flat))).view(shape).argmax(2)

    @cached_property
    def class_regions(self) -> Regions:
        """Regions of one class in one instance; ids are (sample, class, instance)."""
        return self._class_regions()

    @cached_property
    def instance_regions(self) -> Regions:
        """Regions of one instance, whatever its classes; ids are (sample, instance)."""
        return self._instance_regions()

    @cached_property
    def instance_grid(self) -> InstanceGrid:
        """The instance regions and their borders."""
        return InstanceGrid(self.instance_regions)

    def _class_regions(self, multiple: int = 1) -> Regions:
        return Regions((self._samples, self.label, self.instance), multiple)

    def _instance_regions(self, extents: tuple[int, int] | None = None) -> Regions:
        return Regions((self._samples, self.instance), extents=extents)

    @property
    def _samples(self) -> Tensor:
        return torch.arange(self.batch_size, device=self.label.device)[:, None, None]


def halve(x: Tensor) -> Tensor:
    """[B, c, H, W] -> [B, c, ceil(H/2), ceil(W/2)]: means of 3x3 pixels, of those that lie in the image."""
    if x.requires_grad and x.device.type != "cpu":
        # with padding, PyTorch's gradient of channels-last tensors is wrong on CUDA (its issue 188344, mended in 2026)
        means = F.avg_pool2d(x.contiguous(), 3, stride=2, padding=1, count_include_pad=False)
        return means.contiguous(memory_format=torch.channels_last)
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
