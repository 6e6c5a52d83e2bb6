"""Batches: from what the data loader gives to what the networks take."""
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data import EpochDataLoader, create_dataloader
from data.pix2pix_dataset import Pix2pixDataset
from models.networks.layout import WHOLE, Layout, Needs, Part
from models.norm_modes import norm_mode
from models.ops.tables import Packed, sent
from options.options import Options


@dataclass(frozen=True)
class Batch:
    """Layouts and photos on the model's device; made by :meth:`Pix2PixModel.prepare`."""

    layout: Layout
    image: Tensor | None = None  # the photos [B, 3, H, W] in [-1, 1]; None if there are none
    packed: Packed | None = None  # the tensor that the layout's are views of; None on the CPU

    @classmethod
    def of(cls, packed: Packed, image: Tensor | None, part: Part) -> "Batch":
        return cls(packed.unpack().as_part(part), image, packed)

    def with_maps(self, label: Tensor, instance: Tensor) -> "Batch":
        """Other layouts for the same networks, on the same device, without photos."""
        one = self.layout
        if self.packed is None:
            return Batch(Layout(label, instance, one.num_classes, one.with_edges))
        layout = Layout(label.cpu(), instance.cpu(), one.num_classes, one.with_edges, ids=torch.int32)
        return Batch.of(layout.packed(one.needs).to(one.label.device), None, WHOLE)

    @property
    def form(self) -> Hashable:
        """Equal for batches of equal shapes and numbers, such as K; not on the CPU."""
        image = None if self.image is None else (self.image.shape, self.image.dtype)
        return self.packed.form, image, self.layout.part

    def rounded(self) -> "Batch":
        """The same with K rounded up, see :meth:`Layout.rounded`; not on the CPU."""
        packed = Packed(self.packed.tables.rounded(), self.packed.numbers)
        return Batch.of(packed, self.image, self.layout.part)

    def clone(self) -> "Batch":
        """A copy with memory of its own; not on the CPU."""
        image = None if self.image is None else self.image.clone()
        return Batch.of(self.packed.clone(), image, self.layout.part)

    def untouched(self) -> "Batch":
        """The same in the same memory, without what was derived from the layout since; not on the CPU."""
        return Batch.of(self.packed, self.image, self.layout.part)

    def copy_(self, other: "Batch") -> None:
        """Become a copy of another batch of the same form."""
        self.packed.numbers.copy_(other.packed.numbers)
        if self.image is not None:
            self.image.copy_(other.image)


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches for networks on ``device``, in two steps: :meth:`tabulated` is for the loader's worker processes,
    :meth:`batch` for the process that has the device."""

    device: torch.device
    num_classes: int
    with_edges: bool
    needs: Needs

    @classmethod
    def of(cls, opt: Options) -> "BatchMaker":
        return cls(opt.device, opt.num_classes, not opt.no_instance, norm_mode(opt).needs())

    def tabulated(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the loader gives; for networks on a GPU with ``layout``: packed, with all the tables for which the host
        would wait if they were made there. On the CPU they are made when asked for."""
        if self.device.type == "cpu":
            return data
        return {**data, "layout": self._layout(data).packed(self.needs)}

    def batch(self, data: Mapping[str, Any], part: Part = WHOLE) -> Batch:
        """The batch on the device, of what the loader gives, tabulated or not. Nothing here waits for the device."""
        if "layout" not in data:
            data = self.tabulated(data)
        image = data.get("image")
        if image is not None:
            image = sent(image, self.device).contiguous(memory_format=torch.channels_last)
        if "layout" in data:
            return Batch.of(data["layout"].to(self.device), image, part)
        return Batch(self._layout(data).as_part(part), image)

    def _layout(self, data: Mapping[str, Any]) -> Layout:
        ids = torch.int64 if self.device.type == "cpu" else torch.int32
        return Layout(data["label"].cpu(), data["instance"].cpu(), self.num_classes, self.with_edges, ids=ids)


def load_batches(opt: Options, dataset: Pix2pixDataset | None = None) -> EpochDataLoader:
    """:func:`data.create_dataloader` for networks: with the tables that those on a GPU want to have ready."""
    return create_dataloader(opt, BatchMaker.of(opt).tabulated, dataset)


def num_instances(data: Mapping[str, Any]) -> int:
    """K of a batch that the loader gave, tabulated or not."""
    return data["layout"].tables.num_instances if "layout" in data else int(data["instance"].max()) + 1
