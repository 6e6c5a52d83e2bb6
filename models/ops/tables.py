"""Tables that are made on the CPU and travel to the device as one tensor.

What a GPU would have to wait for, such as finding the distinct regions of a batch, the CPU does beforehand. All that it
finds is packed, so that processes hand over, pin and copy a single tensor:

    tables    {index: [B, h, w], ids: ([T], [T])}                            made on the CPU
    packed    {index: Slot(0, ...), ids: (Slot(n, ...), Slot(m, ...))}       and one int32 tensor, which moves
    unpacked  {index: [B, h, w], ids: ([T], [T])}                            views of it, on the device
"""
import copy
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import is_dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

_ALIGNMENT = 32  # numbers, 128 bytes: where a view may start so that it loads as well as a tensor of its own


class Slot(NamedTuple):
    """Where a tensor lies in the packed one."""

    start: int
    shape: tuple[int, ...]


class Tables:
    """An object that can be packed: its attributes are integer tensors, other tables, dictionaries and tuples of these,
    and what never is on a device, such as numbers."""


class Packed:
    """Tables as one tensor: a copy with slots for tensors, and ``numbers`` [n] int32, all that the slots stand for."""

    def __init__(self, tables: Tables, numbers: Tensor):
        self.tables, self.numbers = tables, numbers

    @classmethod
    def of(cls, tables: Tables) -> "Packed":
        """Of tables on the CPU; int64 becomes int32."""
        tensors, slots, end = [], [], 0

        def place(tensor: Tensor) -> Slot:
            nonlocal end
            tensors.append(tensor)
            slots.append(Slot(end, tuple(tensor.shape)))
            end += math.ceil(tensor.numel() / _ALIGNMENT) * _ALIGNMENT
            return slots[-1]

        skeleton = mapped(tables, Tensor, place)
        packed = cls(skeleton, torch.empty(end, dtype=torch.int32))
        for tensor, slot in zip(tensors, slots, strict=True):
            packed._view(slot).copy_(tensor)
        return packed

    @cached_property
    def form(self) -> Hashable:
        """Equal for tables of equal shapes and numbers."""
        return tuple(_described(self.tables))

    def clone(self) -> "Packed":
        return Packed(self.tables, self.numbers.clone())

    def pin_memory(self) -> "Packed":
        """In memory from which a GPU copies while the host goes on; the data loader calls this."""
        return Packed(self.tables, self.numbers.pin_memory())

    def to(self, device: torch.device) -> "Packed":
        """On the device; nothing waits for it."""
        return Packed(self.tables, sent(self.numbers, device))

    def unpack(self) -> Tables:
        """The tables again, their tensors views of the packed one."""
        return mapped(self.tables, Slot, self._view)

    def _view(self, slot: Slot) -> Tensor:
        return self.numbers[slot.start:slot.start + math.prod(slot.shape)].view(slot.shape)


def _described(thing: Any) -> Iterator[Hashable]:
    """All that is in tables, in order."""
    if isinstance(thing, Tables):
        thing = vars(thing)
    if isinstance(thing, dict):
        thing = tuple(thing.items())
    if type(thing) is tuple:
        for part in thing:
            yield from _described(part)
    else:
        yield thing


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``. Nothing waits for a GPU, whose copies are made from pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # itself if it is that already, as the data loader gives it
    return tensor.to(device, non_blocking=True)


def mapped(thing: Any, kind: type, function: Callable) -> Any:
    """A copy of ``thing``, with the function of everything of the ``kind`` in it: in tables, dataclasses, dictionaries
    and tuples."""
    if isinstance(thing, kind):
        return function(thing)
    if isinstance(thing, Tables):
        thing = copy.copy(thing)
        vars(thing).update({name: mapped(value, kind, function) for name, value in vars(thing).items()})
    elif is_dataclass(thing):
        return replace(thing, **{name: mapped(value, kind, function) for name, value in vars(thing).items()})
    elif isinstance(thing, dict):
        return {name: mapped(value, kind, function) for name, value in thing.items()}
    elif type(thing) is tuple:
        return tuple(mapped(value, kind, function) for value in thing)
    return thing
