"""Training steps as CUDA graphs (``--cuda_graphs``): :mod:`models.graphs`, and what optimisers need for it."""
from collections.abc import Callable

import torch

from models.graphs import Graphs, Inputs, Recorded


class StepGraphs(Graphs):
    """The graphs of a training run.

    A number would become part of a recording, so learning rates are tensors here.

    :param optimizers: that the steps use; fused ones.
    """

    def __init__(self, device: torch.device, *optimizers: torch.optim.Optimizer):
        super().__init__(device)
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group in self._groups:
            group["lr"] = torch.tensor(group["lr"], device=device)

    def _record(self, function: Callable, inputs: Inputs) -> Recorded:
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
