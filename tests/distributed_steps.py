"""Steps of a trainer in this process, which torchrun may have started several times: gradients of the first steps and
networks and averages after the last, in float64, written by process 0.

    torchrun --nproc_per_node=2 tests/distributed_steps.py RESULT.pth STEPS [--stranger] OPTIONS_OF_TRAIN...

With ``--stranger``, what ``tests/strangers.py`` has is in the run.
"""
import contextlib
import os
import sys
from pathlib import Path
from unittest import mock

import torch

from data import create_dataloader
from options import TrainOptions
from tests.strangers import Stranger, WithBrightness
from trainers.pix2pix_trainer import Pix2PixTrainer
from util import distributed
from util.seed import seed_everything


def take_steps(steps: int, args: list[str]) -> dict:
    strange = args[:1] == ["--stranger"]
    if strange:
        args = args[1:]
    opt = TrainOptions().parse(args)
    torch.set_default_dtype(torch.float64)
    with distributed.processes(opt.device):
        seed_everything(opt.seed)
        with strangers() if strange else contextlib.nullcontext():
            loader, trainer = create_dataloader(opt), Pix2PixTrainer(opt)
        start = {label: network.state_dict() for label, network in trainer.model.networks().items()}
        start = {f"{label}.{key}": value.clone() for label, state in start.items() for key, value in state.items()}
        gradients, batches = {}, iter(loader)
        for step in range(steps):
            data = []
            for _ in range(opt.accumulate):
                try:
                    part = next(batches)
                except StopIteration:
                    batches = iter(loader)
                    part = next(batches)
                data.append({**part, "image": part["image"].double()})
            data = [trainer.prepare(part) for part in data]
            for name, update in (("G", trainer.run_generator_one_step), ("D", trainer.run_discriminator_one_step)):
                update(data)
                if step == 0:
                    networks = trainer.model.networks().items()
                    learning = [(f"{label}.{key}", parameter.grad) for label, network in networks
                                if (label == "D") == (name == "D") for key, parameter in network.named_parameters()]
                    gradients |= {key: value.clone() for key, value in learning if value is not None}
                    losses = {**trainer.get_latest_losses()}
        end = {f"{label}.{key}": value for label, network in trainer.model.networks().items()
               for key, value in network.state_dict().items()}
        if trainer.average:
            batches = trainer.average._batches
            trainer.average._batches = lambda: ({**data, "image": data["image"].double()} for data in batches())
            trainer.average.share()
            averages = {f"{label}_ema.{key}": value for label, state in trainer.average.state().items()
                        for key, value in state.items()}
            for other in distributed.gather(averages):
                assert all(torch.equal(value, averages[key]) for key, value in other.items())
            end |= averages
        return {"gradients": gradients, "losses": losses, "start": start, "end": end, "main": distributed.is_main(),
                "rng": torch.get_rng_state()}


@contextlib.contextmanager
def strangers():
    with mock.patch("models.pix2pix_model.build_discriminator", lambda opt, features: Stranger()), \
            mock.patch("trainers.pix2pix_trainer.Pix2PixModel", WithBrightness):
        yield


def threads() -> list[str]:
    """Names of the threads of this process."""
    return [Path(f"/proc/self/task/{number}/comm").read_text().strip() for number in os.listdir("/proc/self/task")]


if __name__ == "__main__":
    result = take_steps(int(sys.argv[2]), sys.argv[3:])
    assert not [name for name in threads() if "gloo" in name]  # one that is left can abort the process at its end
    if result["main"]:
        torch.save(result, sys.argv[1])
