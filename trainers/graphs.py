"""Training steps as CUDA graphs (``--cuda_graphs``).

A step launches thousands of kernels, and most of them take less time than launching them does. A graph is recorded once
and then launched as a whole. It works on fixed memory: batches are copied to where the recorded one lies. And it has
fixed shapes, so there is one for every form of batches; tables are padded so that only a few forms occur.

    first batches of a form    steps as they are, which also set up what must not be set up while recording
    then                       the step is recorded (it does not run), and replayed
    from there on              the batch is copied, and the step replayed

What a step changes, such as weights, moments and running statistics, it changes in place. Its random numbers come from
PyTorch's default generator, which goes on with every replay.
"""
import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor

from models.batches import Batch

_STEPS_BEFORE = 2  # that run as they are
MOST_FORMS = 12  # of batches; the others run as they are: graphs share their memory, but each takes time to record

Result = tuple[dict[str, Tensor], Tensor | None]  # losses [] by name, and maybe images
Step = Callable[[Sequence[Batch]], Result]


class StepGraphs:
    """The graphs of a training run on one CUDA device.

    :param optimizers: that the steps use; fused ones.
    """

    def __init__(self, device: torch.device, *optimizers: torch.optim.Optimizer):
        self._optimizers = optimizers
        self._stream = torch.cuda.Stream(device)  # that records; steps before it run there too
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: Counter[Hashable] = Counter()
        self._inputs: dict[Hashable, Inputs] = {}
        self._recorded: dict[Hashable, Recorded] = {}
        self._taken: Sequence[Batch] = ()  # what was copied last: both steps of a batch have the same

    def forget(self) -> None:
        """Record again: numbers such as learning rates are part of a recording."""
        self._recorded.clear()
        self._pool = torch.cuda.graph_pool_handle()  # PyTorch refuses one whose graphs are all gone

    def run(self, name: str, step: Step, parts: Sequence[Batch]) -> Result:
        """What ``step`` returns for the parts of a batch.

        :param name: of the step, always the same for the same one.
        """
        form = tuple(part.form for part in parts)
        if form not in self._inputs and len(self._inputs) == MOST_FORMS:
            return step(parts)
        self._seen[name, form] += 1
        if self._seen[name, form] <= _STEPS_BEFORE:
            return self._on_the_side(step, parts)
        if form not in self._inputs:
            self._inputs[form] = Inputs(parts)
        inputs = self._inputs[form]
        if len(self._taken) != len(parts) or any(a is not b for a, b in zip(self._taken, parts, strict=True)):
            inputs.take(parts)
            self._taken = parts
        if (name, form) not in self._recorded:
            with self._capturable():
                self._recorded[name, form] = Recorded(step, inputs.untouched(), self._pool, self._stream)
        return self._recorded[name, form].replay()

    @contextlib.contextmanager
    def _capturable(self) -> Iterator[None]:
        """Say that optimizers can be recorded, as fused ones can. PyTorch asks for that, and warns of it elsewhere."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        for group in groups:
            group["capturable"] = True
        try:
            yield
        finally:
            for group in groups:
                group["capturable"] = False

    def _on_the_side(self, step: Step, parts: Sequence[Batch]) -> Result:
        """The step as it is, on the stream that will record."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            results = step(parts)
        torch.cuda.current_stream().wait_stream(self._stream)
        return results


class Inputs:
    """The memory that the batches of one form are copied to."""

    def __init__(self, parts: Sequence[Batch]):
        self._parts = [part.clone() for part in parts]

    def take(self, parts: Sequence[Batch]) -> None:
        """Copy a batch here."""
        for own, part in zip(self._parts, parts, strict=True):
            own.copy_(part)

    def untouched(self) -> list[Batch]:
        """The parts, without what steps have derived from them and kept: every recording is to derive it anew, since
        what is kept would be of the batch that another step ran on last."""
        return [part.untouched() for part in self._parts]


class Recorded:
    """A step as a graph."""

    def __init__(self, step: Step, parts: Sequence[Batch], pool: tuple[int, int], stream: torch.cuda.Stream):
        self._graph = torch.cuda.CUDAGraph()
        # only this thread is kept from what recording does not allow: another one pins the loader's batches
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            losses, self._images = step(parts)  # in memory that other graphs use, too
            self._losses = torch.stack(list(losses.values()))
        self._names = tuple(losses)

    def replay(self) -> Result:
        self._graph.replay()
        images = None if self._images is None else self._images.clone()
        return dict(zip(self._names, self._losses.clone().unbind(), strict=True)), images
