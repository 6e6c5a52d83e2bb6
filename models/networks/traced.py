"""Layouts for :mod:`models.export`: their maps have no values while a network is traced, so that everything that
depends on these becomes part of the graph."""
import torch
from torch import Tensor

from models.networks.layout import WHOLE, Layout
from models.ops.regions import RegionMap, Regions

MOST_INSTANCES = 2**20
_BEYOND = 2**40  # an id that no table has: looking it up fails, instead of giving what belongs to another id


class TracedLayout(Layout):
    """A layout of maps [B, H, W] whose K is given."""

    def __init__(self, label: Tensor, instance: Tensor, num_classes: int, with_edges: bool,
                 num_instances: int = MOST_INSTANCES):
        self.label = torch.where((label >= 0) & (label < num_classes), label, _BEYOND)
        self.instance = torch.where((instance >= 0) & (instance < num_instances), instance, _BEYOND)
        self.num_classes, self.with_edges, self._num_instances = num_classes, with_edges, num_instances
        self.part, self.needs = WHOLE, None

    def _class_regions(self, multiple: int = 1) -> Regions:
        classes, known = self.num_classes, (self.label < _BEYOND) & (self.instance < _BEYOND)
        keys = (self._samples * classes + self.label) * MOST_INSTANCES + self.instance
        keys, index = torch.unique(torch.where(known, keys, 2**62), return_inverse=True)
        rest = keys // MOST_INSTANCES
        return TracedRegions((rest // classes, rest % classes, keys % MOST_INSTANCES), index)

    def _instance_regions(self, extents: tuple[int, int] | None = None) -> Regions:
        shape = self.batch_size, self.num_instances
        ids = torch.arange(shape[0])[:, None].expand(shape).flatten(), torch.arange(shape[1]).expand(shape).flatten()
        return TracedRegions(ids, self._samples * shape[1] + self.instance)


class TracedRegions(Regions):
    """Regions of these ids at the pixels of ``index`` [B, H, W]. Sums are for instances: all samples have as many."""

    def __init__(self, ids: tuple[Tensor, ...], index: Tensor):
        self.ids, self._size = ids, tuple(index.shape[1:])
        self._maps = {self._size: _FullSize(index, ids[0].shape[0])}


class _FullSize(RegionMap):
    """Sums as products with one-hot rows."""

    @property
    def _members(self) -> Tensor:
        """[B, HW, K]: 1 where a pixel belongs to an instance, else 0."""
        batch = self.index.shape[0]
        ids = self.index.flatten(1) - torch.arange(batch)[:, None] * (self.count // batch)
        return torch.zeros(*ids.shape, self.count // batch).scatter(2, ids[..., None], 1.0)

    @property
    def sizes(self) -> Tensor:
        return self._members.sum(1).flatten()

    def sum(self, rows: Tensor) -> Tensor:
        members = self._members
        return torch.bmm(members.transpose(1, 2), rows.view(*members.shape[:2], -1)).flatten(0, 1)
