"""One generator step and one discriminator step, the schedule, and everything a run needs to go on."""
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.pix2pix_model import Batch, Pix2PixModel, learning_rates
from options.options import Options
from util.checkpoints import load_tensors, save_tensors
from util.errors import UserError
from util.precision import autocast, gradient_scaler


class Pix2PixTrainer:
    """Model, optimisers and mixed precision of a training run.

    :raises UserError: missing pretrained weights, or a checkpoint that cannot be continued.
    """

    def __init__(self, opt: Options):
        self.opt = opt
        self.model = Pix2PixModel(opt)
        self.optimizer_G, self.optimizer_D = self.model.create_optimizers(opt)
        self.autocast, self.scaler = autocast(opt.device, opt.use_amp), gradient_scaler(opt.device, opt.use_amp)
        self.epoch, self.epoch_iter = 1, 0  # where the run stands: epoch from 1, images of it that are done
        self.best_fid = None
        self.data_seed: int | None = None  # of the loader's order, crops and flips
        self._losses_G: dict[str, Tensor] = {}
        self._losses_D: dict[str, Tensor] = {}
        self._generated: Tensor | None = None
        if opt.continue_train:
            self._resume(opt.which_epoch)

    def prepare(self, data: Mapping[str, Any]) -> Batch:
        """A batch for both steps, see :meth:`Pix2PixModel.prepare`."""
        return self.model.prepare(data)

    def run_generator_one_step(self, data: Mapping[str, Any] | Batch) -> None:
        """Update generator and encoder on a batch; ``data`` as the loader gives it, or prepared."""
        batch = self.prepare(data)
        self.optimizer_G.zero_grad(set_to_none=True)
        with self.autocast:
            losses, generated = self.model.generator_losses(batch)
        self._step(sum(losses.values()), self.optimizer_G)
        self._losses_G = {name: loss.detach() for name, loss in losses.items()}
        self._generated = generated.detach()

    def run_discriminator_one_step(self, data: Mapping[str, Any] | Batch) -> None:
        """Update the discriminators on a batch and newly drawn fakes; ``data`` as for the generator's step."""
        batch = self.prepare(data)
        self.optimizer_D.zero_grad(set_to_none=True)
        with self.autocast:
            losses = self.model.discriminator_losses(batch)
        self._step(sum(losses.values()), self.optimizer_D)
        self._losses_D = {name: loss.detach() for name, loss in losses.items()}

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()

    def get_latest_losses(self) -> dict[str, Tensor]:
        """Name -> scalar, of the last generator and the last discriminator step."""
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
                group["lr"] = rate

    def save(self, epoch: str | int) -> None:
        """Write the networks as ``<epoch>_net_*.pth`` and, beside them, the state of the run."""
        self.model.save(epoch)
        save_tensors({
            "optimizer_G": self.optimizer_G.state_dict(),
            "optimizer_D": self.optimizer_D.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "epoch_iter": self.epoch_iter,
            "best_fid": self.best_fid,
            "data_seed": self.data_seed,
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.opt.device) if self.opt.device.type == "cuda" else None,
        }, self._state_path(epoch))

    def _state_path(self, epoch: str | int) -> str:
        return os.path.join(self.opt.folder, f"{epoch}_state.pth")

    def _resume(self, epoch: str | int) -> None:
        self.model.load(epoch)
        path = self._state_path(epoch)
        if not os.path.exists(path):
            self._resume_from_networks_alone(epoch, path)
            return
        state = load_tensors(path)
        try:
            self.optimizer_G.load_state_dict(state["optimizer_G"])
            self.optimizer_D.load_state_dict(state["optimizer_D"])
            if state["scaler"]:  # empty when that run had none
                self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.epoch_iter = state["epoch"], state["epoch_iter"]
            self.best_fid, self.data_seed = state["best_fid"], state["data_seed"]
            torch.set_rng_state(state["rng"])
            if self.opt.device.type == "cuda" and state["rng_cuda"] is not None:
                torch.cuda.set_rng_state(state["rng_cuda"], self.opt.device)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"{path}: not the state of a run of these networks ({error!r}); give that run's options, "
                            "or remove the file to continue from the networks alone") from error
        self.update_learning_rate(self.epoch - 1)

    def _resume_from_networks_alone(self, epoch: str | int, path: str) -> None:
        if str(epoch).isdigit():
            self.epoch = int(epoch) + 1
        print(f"{path} not found: continuing at epoch {self.epoch} with new optimisers")
        self.update_learning_rate(self.epoch - 1)
