"""Train INADE (or SPADE): ``python train.py --name EXP --dataset_mode cityscapes --use_vae --dataroot DATA``.

With ``torchrun`` in place of ``python``, or several ``--gpu_ids``, in several processes: docs/scaling.md.
"""
import contextlib
import os

from data.command_line import refuse_mistakes
from options import Options, TrainOptions
from util.errors import command
from util.launch import launch, restarts

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(TrainOptions())

from data import EpochDataLoader
from models.batches import load_batches
from models.ops import backend
from trainers import run_state
from trainers.evaluation import Evaluator
from trainers.pix2pix_trainer import Pix2PixTrainer
from trainers.run import Run
from util import distributed
from util.device import use_device
from util.files import exclusive, remove_leftovers
from util.memory import keep_freed_memory, limit_memory
from util.progress import counted
from util.seed import seed_everything
from util.signals import StopRequest

_DRY_RUN_READS = 200  # label maps, which takes a few seconds


@command
def main() -> None:
    opt = TrainOptions().parse()
    launch(opt.num_processes)
    with distributed.processes(opt.device, opt.wait_minutes):
        work(opt)


def work(opt: Options) -> None:
    """What each process does."""
    print(opt.changes())
    seed_everything(opt.seed)
    use_device(opt.device, opt.tf32, opt.deterministic, search=opt.seed is None)
    opt = opt.replace(impl=backend.use(opt.impl, opt.device))
    keep_freed_memory()
    limit_memory(opt.device)
    loader = load_batches(opt)
    evaluator = Evaluator(opt) if opt.train_eval else None
    if opt.dry_run:
        found = loader.dataset.check_labels(_DRY_RUN_READS)
        print(summary(opt, Pix2PixTrainer(opt), loader), found, "dry run: nothing was trained or written", sep="\n")
        return
    alone = exclusive(opt.folder, remedy="give another --name") if distributed.is_main() else contextlib.nullcontext()
    with alone, StopRequest() as stop:
        if distributed.is_main():
            remove_leftovers(os.path.join(opt.folder, part) for part in ("", "web", os.path.join("web", "images")))
        if restarts() and run_state.saved_in_this_launch(opt.folder):
            opt = opt.replace(continue_train=True, which_epoch="latest")
        trainer = Pix2PixTrainer(opt)
        Run(opt, trainer, loader, evaluator, stop).train()


def summary(opt: Options, trainer: Pix2PixTrainer, loader: EpochDataLoader) -> str:
    """What was built and found."""
    networks = {label: sum(parameter.numel() for parameter in network.parameters())
                for label, network in trainer.model.networks().items()}
    height, width = opt.image_size
    return "\n".join([
        *(f"net{label}: {count:,} parameters" for label, count in networks.items()),
        f"device: {opt.device}, operations: {opt.impl}",
        f"{width}x{height} pixels, {opt.num_classes} classes",
        f"{counted(len(loader) // opt.accumulate, 'step')} of {counted(opt.batchSize, 'image')} per epoch, "
        f"{counted(opt.niter + opt.niter_decay, 'epoch')}",
    ])


if __name__ == "__main__":
    main()
