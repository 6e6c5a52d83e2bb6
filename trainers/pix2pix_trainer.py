"""One generator step and one discriminator step, the schedule, and where a run stands."""
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.batches import Batch, num_instances
from models.graphs import StepGraphs
from models.networks.layout import Part
from models.networks.loss import Losses
from models.pix2pix_model import Pix2PixModel, learning_rates
from options.options import Options
from trainers import run_state
from trainers.ema import Average
from util import distributed
from util.checkpoints import network_path, state_path
from util.errors import UserError
from util.launch import launch_id
from util.precision import SkippedSteps, autocast, gradient_scaler

Data = Mapping[str, Any] | Batch


class Pix2PixTrainer:
    """Model, optimisers and mixed precision of a training run; with ``--continue_train`` as it was saved.

    :raises UserError: missing pretrained weights, or a checkpoint that cannot be continued.
    """

    def __init__(self, opt: Options):
        self.opt = opt
        self.model = Pix2PixModel(opt)
        if opt.n_layers_D <= (first := self.model.mode.first_matched_layer) and not opt.no_ganFeat_loss:
            print(f"--n_layers_D {opt.n_layers_D}: the feature matching loss is 0, because --norm_mode {opt.norm_mode} "
                  f"compares the layers after the first {first}; choose more, or --no_ganFeat_loss")
        self.optimizer_G, self.optimizer_D = self.model.create_optimizers(opt)
        self.autocast = autocast(opt.device, opt.use_amp, opt.amp_dtype)
        # one for each optimiser: where the gradients of one overflow, the other's keep their scale
        self.scaler_G, self.scaler_D = (gradient_scaler(opt.device, opt.use_amp, opt.amp_dtype) for _ in "GD")
        self.skipped = SkippedSteps(self.optimizer_G, self.optimizer_D)  # by the scaler, since the command began
        self.epoch, self.epoch_iter = 1, 0  # where the run stands: epoch from 1, images of it that are done
        self.best_fid: float | None = None
        self.data_seed: int | None = None  # of the loader's order, crops and flips
        self.data_digest: str | None = None  # of the names of the data set's files
        self._losses_G: dict[str, Tensor] = {}
        self._losses_D: dict[str, Tensor] = {}
        self._generated: Tensor | None = None
        self.graphs: StepGraphs | None = None
        self.goes_on = False  # with what --continue_train found
        self.resumed_from: str | None = None  # the checkpoint, e.g. latest
        self.average = Average(self.model) if opt.ema else None
        self.resumed_average = False  # whether it goes on from what was saved
        if opt.continue_train:
            print(self._resume(opt.which_epoch))
        if opt.init_from and not self.goes_on:
            print(*self.model.init_from(opt.init_from), sep="\n")
            if self.average:
                self.average.restart()
        if opt.cuda_graphs:
            self.graphs = StepGraphs(opt.device, self.optimizer_G, self.optimizer_D)
        averaged = self.average.model.networks() if self.average else {}
        distributed.copy_from_main(tensor for network in (*self.model.networks().values(), *averaged.values())
                                   for tensor in network.state_dict().values())

    def prepare(self, data: Data) -> Batch:
        """A batch for both steps, see :meth:`Pix2PixModel.prepare`; of several processes, each prepares its part."""
        if isinstance(data, Batch):
            return data
        if distributed.world_size() == 1:
            batch = self.model.prepare(data)
            return batch.rounded() if self.opt.cuda_graphs else batch
        part = Part(distributed.rank(), distributed.world_size(), distributed.largest(num_instances(data)))
        return self.model.prepare(data, part)

    def run_generator_one_step(self, data: Data | Sequence[Data]) -> None:
        """Update generator and encoder on a batch; ``data`` as the loader gives it, or prepared, or the parts of a
        batch."""
        results = self._step("generator", self.optimizer_G, self.scaler_G, self.model.generator_losses, data)
        self._losses_G, self._generated = results
        if self.average:
            self.average.update()

    def run_discriminator_one_step(self, data: Data | Sequence[Data]) -> None:
        """Update the discriminators on a batch and newly drawn fakes; ``data`` as for the generator's step."""
        self._losses_D, _ = self._step("discriminator", self.optimizer_D, self.scaler_D,
                                       lambda batch: (self.model.discriminator_losses(batch), None), data)

    def _step(self, name: str, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
              losses_of: Callable[[Batch], tuple[Losses, Tensor | None]],
              data: Data | Sequence[Data]) -> tuple[dict[str, Tensor], Tensor | None]:
        """One step on the whole batch, of all parts and processes; its losses, and what comes with the last part's."""
        parts = [self.prepare(part) for part in (data if isinstance(data, Sequence) else [data])]
        if scaler.is_enabled():
            self.skipped.note(optimizer)

        def step(parts: Sequence[Batch]) -> tuple[dict[str, Tensor], Tensor | None]:
            optimizer.zero_grad(set_to_none=True)
            total: dict[str, Tensor] = {}
            for part in parts:
                with self.autocast:
                    losses, more = losses_of(part)
                    losses = {name: loss.share(len(parts), distributed.world_size()) for name, loss in losses.items()}
                scaler.scale(sum(losses.values())).backward()
                total = {name: total[name] + loss.detach() if total else loss.detach() for name, loss in losses.items()}
            # while the gradients are scaled: what is not finite anywhere makes all processes skip the step
            gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]
                         if parameter.grad is not None]
            distributed.average_([*gradients, *total.values()])
            scaler.step(optimizer)
            scaler.update()
            return total, None if more is None else more.detach()

        return self.graphs.run(name, step, parts) if self.graphs else step(parts)

    def lowest_scale(self) -> float | None:
        """Of the gradient scalers; None without them. It waits for the device."""
        scalers = [scaler for scaler in (self.scaler_G, self.scaler_D) if scaler.is_enabled()]
        return min((scaler.get_scale() for scaler in scalers), default=None)

    def get_latest_losses(self) -> dict[str, Tensor]:
        """Name -> scalar, of the last generator and the last discriminator step, in all processes the same."""
        return {**self._losses_G, **self._losses_D}

    def get_latest_generated(self) -> Tensor:
        """Images [B, 3, H, W] of the last generator step."""
        return self._generated

    def learning_rate(self, finished_epochs: int) -> float:
        """Base rate once so many epochs are done: constant for ``niter``, then linear to 0 over ``niter_decay``."""
        over = max(0, finished_epochs - self.opt.niter)
        return self.opt.lr * max(0.0, 1 - over / max(self.opt.niter_decay, 1))

    def update_learning_rate(self, epoch: int) -> None:
        """Set the rates for the epoch after ``epoch``."""
        rates = learning_rates(self.opt, self.learning_rate(epoch))
        for optimizer, rate in zip((self.optimizer_G, self.optimizer_D), rates, strict=True):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    # ---- saving and going on ----

    def save(self, epoch: str | int) -> None:
        """Write ``<epoch>_state.pth`` and ``<epoch>_net_*.pth``, see :func:`trainers.run_state.save`."""
        run_state.save(self.model, {
            "average": self.average and self.average.state(),
            "optimizer_G": _state_of(self.optimizer_G),
            "optimizer_D": _state_of(self.optimizer_D),
            "scaler": {"G": self.scaler_G.state_dict(), "D": self.scaler_D.state_dict()},
            "launch": launch_id(),
            "epoch": self.epoch,
            "epoch_iter": self.epoch_iter,
            "best_fid": self.best_fid,
            "data_seed": self.data_seed,
            "data_digest": self.data_digest,
            "losses": {side: {name: value.cpu() for name, value in losses.items()}
                       for side, losses in (("G", self._losses_G), ("D", self._losses_D))},
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.opt.device) if self.opt.device.type == "cuda" else None,
        }, epoch)

    def _resume(self, epoch: str) -> str:
        """Go on from what was saved as ``epoch`` ("latest": the newest whole checkpoint). Says what was done."""
        found = self._find(epoch)
        if found is None:
            return self._start_from_networks(epoch, state_path(self.opt.folder, epoch))
        name, state = found
        path = state_path(self.opt.folder, name)
        self._apply(state, path)
        self.goes_on, self.resumed_from = True, name
        note = ""
        if bool(state.get("average")) != bool(self.average):
            note = "; --ema: the average begins with these networks" if self.average else "; without --ema from here on"
        return f"continuing from {path}: epoch {self.epoch}, image {self.epoch_iter}{note}"

    def _find(self, epoch: str) -> tuple[str, dict[str, Any]] | None:
        """The checkpoint, which the first process chooses for all, and its state."""
        folder, found = self.opt.folder, None
        if distributed.is_main():
            if epoch == "latest":
                found = run_state.newest_whole(folder)
            elif os.path.exists(path := state_path(folder, epoch)):
                found = epoch, run_state.load(path)
        chosen = distributed.from_main(found and found[0])
        return found if found or not chosen else (chosen, run_state.load(state_path(folder, chosen)))

    def _apply(self, state: dict[str, Any], path: str) -> None:
        """Put everything into a saved state."""
        run_state.check_options(self.opt, state["options"], path)
        run_state.apply(self.model, {"optimizer_G": self.optimizer_G, "optimizer_D": self.optimizer_D}, state, path)
        try:
            for label, scaler in (("G", self.scaler_G), ("D", self.scaler_D)):
                if "scale" in (saved := state["scaler"][label]):  # else that run had none
                    scaler.load_state_dict(saved)
            self.epoch, self.epoch_iter = int(state["epoch"]), int(state["epoch_iter"])
            self.best_fid, self.data_seed = state["best_fid"], int(state["data_seed"])
            self.data_digest = state["data_digest"]
            self._losses_G, self._losses_D = ({name: value.to(self.opt.device) for name, value in
                                               state["losses"].get(side, {}).items()} for side in "GD")
            torch.set_rng_state(state["rng"])
            if self.opt.device.type == "cuda" and state["rng_cuda"] is not None:
                torch.cuda.set_rng_state(state["rng_cuda"], self.opt.device)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path}: not the state of a run of this project ({error}); to continue from the networks "
                            "only, remove the file") from error
        average = state.get("average")
        self.resumed_average = bool(self.average and average)
        if self.resumed_average:
            self.average.load(average, path)
        elif self.average:
            self.average.restart()
        if bool(average) != bool(self.average) or any(state["options"].get(name) != getattr(self.opt, name)
                                                      for name in run_state.FID_OPTIONS):
            self.best_fid = None  # of other networks, or of another scale
        self.update_learning_rate(self.epoch - 1)

    def _start_from_networks(self, epoch: str, path: str) -> str:
        """Networks without a state, such as published ones: new optimisers. Nothing at all: a new run."""
        if not any(os.path.exists(network_path(self.opt.folder, label, epoch)) for label in "GD"):
            if epoch != "latest":
                raise UserError(f"--continue_train --which_epoch {epoch}: {path} is not there; name a checkpoint of "
                                f"{self.opt.folder}, or leave out --which_epoch")
            return f"--continue_train: nothing was saved in {self.opt.folder} yet; starting"
        discriminators = network_path(self.opt.folder, "D", epoch)
        without = "" if os.path.exists(discriminators) else "D"
        self.model.load(epoch, without=without)
        self.goes_on = True
        if self.average:
            self.average.restart()
        if epoch.isdecimal():
            self.epoch = int(epoch) + 1
        self.update_learning_rate(self.epoch - 1)
        new = f" and new discriminators, since {discriminators} is not there" if without else ""
        return f"{path} not found: continuing from the networks only, at epoch {self.epoch}, with new optimisers{new}"


def _state_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state dict, with a number for the learning rate where graphs have a tensor."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}
