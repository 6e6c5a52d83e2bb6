"""Train INADE (or SPADE): ``python train.py --name EXP --dataset_mode cityscapes --use_vae --dataroot DATA``."""
import math
import os
import time

from tqdm import tqdm

from data import EpochDataLoader, create_dataloader
from options import Options, TrainOptions
from trainers.evaluation import Evaluator
from trainers.pix2pix_trainer import Pix2PixTrainer
from trainers.visualizer import Visualizer
from util.errors import UserError, command
from util.files import write_atomically
from util.memory import keep_freed_memory
from util.seed import seed_everything


@command
def main() -> None:
    opt = TrainOptions().parse()
    print(opt.changes())
    seed_everything(opt.seed)
    keep_freed_memory()
    loader = create_dataloader(opt)
    evaluator = Evaluator(opt) if opt.train_eval else None
    trainer = Pix2PixTrainer(opt)
    loader.seed = trainer.data_seed = loader.seed if trainer.data_seed is None else trainer.data_seed
    if opt.dry_run:
        print(summary(opt, trainer, loader))
        return
    visualizer = Visualizer(opt)
    opt.save()
    last_epoch = opt.niter + opt.niter_decay
    if trainer.epoch > last_epoch:
        raise UserError(f"--continue_train: all {last_epoch} epochs are done; raise --niter or --niter_decay")
    if opt.continue_train:
        visualizer.log_text(f"resumed from {opt.which_epoch} at epoch {trainer.epoch}, image {trainer.epoch_iter}")
    try:
        for epoch in range(trainer.epoch, last_epoch + 1):
            train_epoch(opt, trainer, loader, visualizer)
            trainer.update_learning_rate(epoch)
            trainer.epoch, trainer.epoch_iter = epoch + 1, 0
            try:  # evaluation comes first: what is saved knows the best FID so far
                if evaluator and (epoch % opt.eval_epoch_freq == 0 or epoch == last_epoch):
                    evaluate(opt, trainer, evaluator, visualizer, epoch)
            finally:  # and if it fails, the epoch is not lost
                if epoch % opt.save_epoch_freq == 0 or epoch == last_epoch:
                    save(opt, trainer, epoch)
                    save(opt, trainer, "latest")
    except KeyboardInterrupt:
        save(opt, trainer, "latest")
        print(f"interrupted: saved as latest in {opt.folder}; go on with --continue_train")
        raise
    finally:
        visualizer.close()


def train_epoch(opt: Options, trainer: Pix2PixTrainer, loader: EpochDataLoader, visualizer: Visualizer) -> None:
    """The rest of the epoch in which ``trainer`` stands, from the image at which it stands."""
    epoch = trainer.epoch
    loader.set_epoch(epoch - 1, trainer.epoch_iter)
    images_per_epoch = len(loader) * opt.batchSize
    with tqdm(total=images_per_epoch, initial=trainer.epoch_iter, desc=f"epoch {epoch}", unit="img") as bar:
        first, start, start_iter = trainer.epoch_iter // opt.batchSize, time.perf_counter(), trainer.epoch_iter
        generated_for = None
        for i, data in enumerate(loader, first):
            batch = trainer.prepare(data)
            if i % opt.D_steps_per_G == 0:
                trainer.run_generator_one_step(batch)
                generated_for = data
            trainer.run_discriminator_one_step(batch)
            trainer.epoch_iter += opt.batchSize
            bar.update(opt.batchSize)

            step = (epoch - 1) * images_per_epoch + trainer.epoch_iter
            if step % opt.print_freq < opt.batchSize:
                losses = finite_losses(trainer)
                seconds = (time.perf_counter() - start) / (trainer.epoch_iter - start_iter)
                visualizer.log_losses(epoch, trainer.epoch_iter, seconds, losses, step)
                bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            if step % opt.display_freq < opt.batchSize and generated_for:
                visualizer.show(epoch, trainer.epoch_iter, generated_for, trainer.get_latest_generated(), step)
            if step % opt.save_latest_freq < opt.batchSize:
                save(opt, trainer, "latest")


def summary(opt: Options, trainer: Pix2PixTrainer, loader: EpochDataLoader) -> str:
    """What was built and found."""
    networks = {label: sum(parameter.numel() for parameter in network.parameters())
                for label, network in trainer.model.networks().items()}
    steps = len(loader)
    height, width = opt.image_size
    return "\n".join([
        *(f"net{label}: {count:,} parameters" for label, count in networks.items()),
        f"device: {opt.device}",
        f"{width}x{height} pixels, {opt.num_classes} classes",
        f"{steps} steps of {opt.batchSize} images per epoch, {opt.niter + opt.niter_decay} epochs",
        "dry run: nothing was trained or written",
    ])


def finite_losses(trainer: Pix2PixTrainer) -> dict[str, float]:
    """The latest losses as numbers.

    :raises UserError: one is not finite, so that training on would only spoil what was saved.
    """
    losses = {name: float(value) for name, value in trainer.get_latest_losses().items()}
    for name, value in losses.items():
        if not math.isfinite(value):
            raise UserError(f"loss {name} is {value} in epoch {trainer.epoch}: stopped, and the networks saved before "
                            "are kept; try a lower --lr, or leave out --use_amp")
    return losses


def evaluate(opt: Options, trainer: Pix2PixTrainer, evaluator: Evaluator, visualizer: Visualizer, epoch: int) -> None:
    """FID on the test split; the best networks so far are kept as ``best``."""
    fid = evaluator.fid(trainer.model)
    visualizer.log_fid(epoch, fid)
    print(f"epoch {epoch}: FID {fid:.4f}")
    if trainer.best_fid is None or fid < trainer.best_fid:
        trainer.best_fid = fid
        save(opt, trainer, "best")


def save(opt: Options, trainer: Pix2PixTrainer, epoch: str | int) -> None:
    """Networks and state of the run as ``epoch``; and ``iter.txt``: the epoch and how many images of it are done.

    :raises UserError: the latest losses are not finite: the files of before are better.
    """
    finite_losses(trainer)
    trainer.save(epoch)
    write_atomically(os.path.join(opt.folder, "iter.txt"), f"{trainer.epoch}\n{trainer.epoch_iter}\n")


if __name__ == "__main__":
    main()
