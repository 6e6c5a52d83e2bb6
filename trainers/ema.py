"""Averaged networks: an exponential moving average of generator and encoder over the steps of a run."""
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from data import EpochDataLoader
from models.batches import load_batches
from models.networks.normalization import BatchNorm
from models.networks.spectral import power_iteration
from models.pix2pix_model import Pix2PixModel
from util import distributed
from util.checkpoints import load_state_dict, tensors_of
from util.errors import UserError
from util.precision import autocast

BATCHES = 50  # of the train split, or all if it has fewer: what batch statistics are estimated on
POWER_ITERATIONS = 20  # from the raw weights' singular vectors to the averaged weights'
SEED = 0  # of the estimate's order of the data and noise


class Average:
    """The average of the networks G and E of ``raw``, after every generator step

        average <- average * d + weights * (1 - d),  d = 0.5 ** (images / half-life)

    as a ``model`` of its own, in evaluation mode. Parameters alone are averaged. Batch statistics of averaged weights
    are not the average of batch statistics, and neither are singular vectors: :meth:`estimate` finds both anew. They
    follow from weights and singular vectors as of the last step, and from data and noise that are always the same, so
    that neither how often nor when they are estimated makes a difference. Nothing of the run is changed by it.
    """

    def __init__(self, raw: Pix2PixModel):
        self.raw, self.opt = raw, raw.opt
        self._devices = [self.opt.device] if self.opt.device.type == "cuda" else []
        with torch.random.fork_rng(self._devices):  # initial weights are drawn
            self.model = Pix2PixModel(self.opt.replace(isTrain=False))
        images = self.opt.batchSize * self.opt.D_steps_per_G  # between two generator steps
        self._update = get_ema_multi_avg_fn(0.5 ** (images / self.opt.ema))
        self._loader: EpochDataLoader | None = None
        self.restart()

    def restart(self) -> None:
        """Begin with the present weights."""
        for network, raw in self._pairs():
            network.load_state_dict(raw.state_dict())
        self._estimated = False

    def update(self) -> None:
        """Take in the weights that a generator step made."""
        for network, raw in self._pairs():
            self._update(list(network.parameters()), list(raw.parameters()), None)
        self._copy_buffers()

    def _copy_buffers(self) -> None:
        for network, raw in self._pairs():
            if own := list(network.buffers()):
                torch._foreach_copy_(own, list(raw.buffers()))
        self._estimated = False

    def _pairs(self) -> Iterator[tuple[torch.nn.Module, torch.nn.Module]]:
        raw = self.raw.networks()
        return ((network, raw[label]) for label, network in self.model.networks().items())

    # ---- what is not averaged ----

    def estimate(self) -> None:
        """Bring singular vectors and batch statistics up to date, in this process alone.

        :raises UserError: a file of the train split that cannot be used.
        """
        if self._estimated:
            return
        for network in self.model.networks().values():
            for _ in range(POWER_ITERATIONS):
                power_iteration(network)
        norms = [layer for layer in self.model.modules() if isinstance(layer, BatchNorm)]
        if norms:
            half = autocast(self.opt.device, self.opt.use_amp, self.opt.amp_dtype)
            with distributed.alone(), torch.random.fork_rng(self._devices), half:
                torch.manual_seed(SEED)
                for n, data in enumerate(self._batches()):
                    for norm in norms:  # the networks stay in evaluation mode: singular vectors do not move
                        norm.train()
                        norm.momentum = 1 / (n + 1)  # running statistics become the mean over batches
                    self.model.infer_as_trained(self.model.prepare(data))
            self.model.eval()
        self._estimated = True

    def share(self) -> None:
        """Estimate in the first process, and give the result to the others; all of them call this."""
        if distributed.is_main():
            self.estimate()
        distributed.copy_from_main(self.model.buffers())
        self._estimated = True

    def _batches(self) -> Iterator[Mapping[str, Any]]:
        """As large as those that batch statistics are of in training, of layouts as test.py reads them."""
        if self._loader is None:
            opt = self.opt.for_evaluation("train").replace(
                batchSize=self.opt.batchSize // self.opt.accumulate, needs_photos=True, seed=SEED,
                serial_batches=False)
            self._loader = load_batches(opt)
        loader = self._loader
        loader.set_epoch(0)
        try:
            yield from itertools.islice(loader, min(BATCHES, len(loader.dataset) // loader.batch_size))
        finally:
            loader.close()  # workers would wait for the next time

    # ---- saving and going on ----

    def state(self) -> dict[str, dict[str, Tensor]]:
        """File label -> state dict, with statistics that are up to date; or, where a file of the train split that they
        need has become unusable, with the run's: a save must not fail for it."""
        try:
            self.estimate()
        except UserError as error:
            print(f"{error}. The averaged networks are saved with the run's batch statistics", file=sys.stderr)
            self._copy_buffers()
        return {label: tensors_of(network) for label, network in self.model.networks().items()}

    def load(self, state: Mapping[str, Any], path: str) -> None:
        """Go on from what :meth:`state` gave.

        :param path: where it was found, for messages.
        :raises UserError: it is of other networks, or has values that are not finite.
        """
        networks = self.model.networks()
        if set(state) != set(networks):
            raise UserError(f"{path}: has averages of {', '.join(sorted(map(str, state)))}, but the options ask for "
                            f"{', '.join(sorted(networks))}; check --use_vae and --norm_mode")
        for label, network in networks.items():
            load_state_dict(network, state[label], path)
        self._estimated = True
