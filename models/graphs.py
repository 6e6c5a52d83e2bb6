"""CUDA graphs (``--cuda_graphs``) of training steps and of synthesis.

Networks launch hundreds of kernels, and most of them take less time than launching them does. A graph is recorded once
and then launched as a whole. It works on fixed memory: what goes in is copied to where it lay when it was recorded. And
it has fixed shapes, so there is one for every form of inputs; tables are padded so that only a few forms occur.

    first inputs of a form    the function as it is, which also sets up what must not be set up while recording
    then                      the function is recorded (it does not run), and replayed
    from there on             the inputs are copied, and the function replayed

What a function changes, such as weights, moments and running statistics, it changes in place. Its random numbers come
from PyTorch's default generator, which goes on with every replay.
"""
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.batches import Batch
from models.ops.tables import mapped

_RUNS_BEFORE = 2  # as they are
MOST_FORMS = 12  # of inputs; others run as they are: graphs share their memory, but each takes time to record


class Graphs:
    """The graphs of what runs again and again on one CUDA device."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # that records; what runs before does so there too
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: Counter[Hashable] = Counter()
        self._inputs: dict[Hashable, Inputs] = {}
        self._recorded: dict[Hashable, Callable[[], Any]] = {}  # what replays a graph

    def run(self, name: str, function: Callable, batches: Sequence[Batch], *tensors: Tensor) -> Any:
        """``function(batches, *tensors)``: tensors, in dictionaries, tuples and dataclasses, or None.

        :param name: of the function, always the same for the same one.
        """
        form = (*(batch.form for batch in batches), *((tensor.shape, tensor.dtype) for tensor in tensors))
        if form not in self._inputs and len(self._inputs) == MOST_FORMS:
            return function(batches, *tensors)
        self._seen[name, form] += 1
        if self._seen[name, form] <= _RUNS_BEFORE:
            return self._on_the_side(function, batches, *tensors)
        if form not in self._inputs:
            self._inputs[form] = Inputs(batches, tensors)
        inputs = self._inputs[form]
        inputs.take(batches, tensors)
        if (name, form) not in self._recorded:
            self._recorded[name, form] = self._record(function, inputs)
        return self._recorded[name, form]()

    def _record(self, function: Callable, inputs: "Inputs") -> Callable[[], Any]:
        graph = torch.cuda.CUDAGraph()
        # only this thread is kept from what recording does not allow: another one pins the loader's batches
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results = function(inputs.untouched(), *inputs.tensors)

        def replay() -> Any:
            graph.replay()
            return mapped(results, Tensor, Tensor.clone)  # their memory is that of other graphs, too

        return replay

    def _on_the_side(self, function: Callable, *args: Any) -> Any:
        """The function as it is, on the stream that will record."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            results = function(*args)
        current.wait_stream(self._stream)
        return results


class Inputs:
    """The memory that inputs of one form are copied to."""

    def __init__(self, batches: Sequence[Batch], tensors: Sequence[Tensor]):
        self._batches = [batch.clone() for batch in batches]
        self.tensors = [tensor.clone() for tensor in tensors]
        self._taken: Sequence[Batch] = ()  # what was copied last: both steps of a batch have the same

    def take(self, batches: Sequence[Batch], tensors: Sequence[Tensor]) -> None:
        if len(self._taken) != len(batches) or any(a is not b for a, b in zip(self._taken, batches, strict=True)):
            for own, batch in zip(self._batches, batches, strict=True):
                own.copy_(batch)
            self._taken = batches
        for own, tensor in zip(self.tensors, tensors, strict=True):
            own.copy_(tensor)

    def untouched(self) -> list[Batch]:
        """The batches, without what functions have derived from them and kept: every recording is to derive it anew,
        since what is kept would be of the batch that another one ran on last."""
        return [batch.untouched() for batch in self._batches]


class StepGraphs(Graphs):
    """The graphs of a training run with these fused optimisers. A number would become part of a recording, so learning
    rates are tensors here."""

    def __init__(self, device: torch.device, *optimizers: torch.optim.Optimizer):
        super().__init__(device)
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group in self._groups:
            group["lr"] = torch.tensor(group["lr"], device=device)

    def _record(self, function: Callable, inputs: Inputs) -> Callable[[], Any]:
        """PyTorch asks for a setting which says that optimisers can be recorded, as fused ones can, and warns of it
        elsewhere."""
        self._set_capturable(True)
        try:
            return super()._record(function, inputs)
        finally:
            self._set_capturable(False)

    def _set_capturable(self, capturable: bool) -> None:
        for group in self._groups:
            group["capturable"] = capturable
