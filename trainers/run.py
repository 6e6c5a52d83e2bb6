"""A training run from where it stands to its last epoch, or until a signal asks it to stop."""
import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from data import EpochDataLoader
from data.kinds import save_class_names
from options.options import Options
from trainers import run_state
from trainers.evaluation import Evaluator
from trainers.followed import Followed
from trainers.pix2pix_trainer import Pix2PixTrainer
from trainers.visualizer import Visualizer
from util import distributed
from util.errors import Interrupted, UserError
from util.files import write_atomically
from util.progress import counted, progress
from util.signals import StopRequest

_CHECK_STEPS = 100  # steps after which losses are looked at, if they are neither printed nor saved before


class UncheckedStep(NamedTuple):
    """A step whose losses were not read yet, because reading them waits for the device."""

    epoch: int
    images: int  # of the epoch, with those of the step
    files: list[str]  # of this process
    losses: Mapping[str, Tensor]


class Run:
    """A training run: steps, logs, evaluation and checkpoints until its last epoch, or until a signal asks it to stop.

    What is saved when: ``latest`` every --save_latest_freq images, with every number, and when a signal, a bad file
    (one that the first process reads) or a failed evaluation ends the run; the number of the epoch every
    --save_epoch_freq epochs, and after the last; with --train_eval ``best`` after every evaluation that is the best
    so far.

    Its state is the trainer's; everything else follows from that and the options. Of several processes all do the
    same, except that the first alone logs and saves: the others have no ``visualizer``.
    """

    def __init__(self, opt: Options, trainer: Pix2PixTrainer, loader: EpochDataLoader, evaluator: Evaluator | None,
                 stop: StopRequest):
        self.opt, self.trainer, self.loader, self.evaluator, self.stop = opt, trainer, loader, evaluator, stop
        seed = loader.seed if trainer.data_seed is None else trainer.data_seed
        loader.seed = trainer.data_seed = distributed.from_main(seed)
        self._unchecked: list[UncheckedStep] = []
        run_state.check_data(loader.dataset.digest, trainer.data_digest, opt.folder)
        trainer.data_digest = loader.dataset.digest
        self._saved_step = -1  # the step of the latest save
        self.last_epoch = opt.niter + opt.niter_decay
        self.images_per_epoch = len(loader) // opt.accumulate * opt.batchSize
        self.visualizer: Visualizer | None = None

    @property
    def step(self) -> int:
        """Images since the start of the run."""
        return (self.trainer.epoch - 1) * self.images_per_epoch + self.trainer.epoch_iter

    def train(self) -> None:
        """:raises Interrupted: a signal; everything is saved."""
        opt, trainer = self.opt, self.trainer
        if trainer.resumed_from and distributed.is_main():
            averaged = trainer.average.state() if trainer.resumed_average else {}
            run_state.mend(trainer.model, averaged, trainer.resumed_from)
            self.note_place()
        if trainer.epoch > self.last_epoch:
            print(f"{counted(self.last_epoch, 'epoch')} done: nothing to do (to continue, raise --niter or "
                  "--niter_decay)")
            return
        if distributed.is_main():
            if not opt.continue_train and (moved := run_state.set_aside(opt.folder)):
                print(f"{opt.folder} had an earlier run, which is now in {moved} (use --continue_train to continue a "
                      "run)")
            if trainer.average:
                trainer.average.estimate()  # a file that it cannot use is found now, not by the first save
            self.visualizer = Visualizer(opt, trainer.epoch, trainer.epoch_iter, self.step, self.images_per_epoch)
            opt.save()
            save_class_names(opt)
        followed = Followed(opt, self.loader.dataset) if self.visualizer and not opt.no_html else None
        try:
            for epoch in range(trainer.epoch, self.last_epoch + 1):
                self.train_epoch()
                if followed and followed.due(epoch):
                    for number, (sample, picture) in enumerate(followed.draw(trainer.model), 1):
                        self.visualizer.show_followed(number, epoch, sample, picture)
                due = self.evaluator and (epoch % opt.eval_epoch_freq == 0 or epoch == self.last_epoch)
                if due:
                    self.evaluate()
                trainer.update_learning_rate(epoch)
                trainer.epoch, trainer.epoch_iter = epoch + 1, 0
                if epoch % opt.save_epoch_freq == 0 or epoch == self.last_epoch:
                    self.save(epoch)  # all of it before "latest", after which a run that is killed goes on
                    if distributed.is_main():
                        run_state.save_again(opt.folder, epoch, "latest")
                        if opt.keep_last:
                            run_state.prune(opt.folder, opt.keep_last)
            if self.visualizer:
                self.visualizer.finish()
                print(f"{counted(self.last_epoch, 'epoch')} done; networks: {opt.folder}/latest_net_*.pth")
                if not opt.no_html:
                    print(f"training page: {self.visualizer.page_path}")
        except (Interrupted, UserError) as error:
            if self.visualizer:
                interrupted = isinstance(error, Interrupted)
                why = f"Interrupted by {signal.Signals(error.signum).name}" if interrupted else "Stopped by an error"
                with contextlib.suppress(UserError):  # it may be that nothing can be written any more
                    self.visualizer.stop(why, trainer.epoch, trainer.epoch_iter)
            raise
        finally:
            if self.visualizer:
                self.visualizer.close()

    def train_epoch(self) -> None:
        """The rest of the epoch in which the run stands, from the image at which it stands."""
        opt, trainer, batch_size = self.opt, self.trainer, self.opt.batchSize
        started, images_before = time.perf_counter(), trainer.epoch_iter
        generated_for = None
        for i, data in self.batches():
            parts = [trainer.prepare(part) for part in data]
            if i % opt.D_steps_per_G == 0:
                trainer.run_generator_one_step(parts)
                generated_for = data[-1]
            trainer.run_discriminator_one_step(parts)
            trainer.epoch_iter += batch_size
            files = [path for part in data for path in part["path"]]
            self._unchecked.append(UncheckedStep(trainer.epoch, trainer.epoch_iter, files, trainer.get_latest_losses()))

            if len(self._unchecked) >= _CHECK_STEPS:
                self.check_losses()
            if self.step % opt.print_freq < batch_size:
                losses, seconds = self.finite_losses(), time.perf_counter() - started
                if self.visualizer:
                    self.visualizer.log_losses(trainer.epoch, trainer.epoch_iter,
                                               seconds / (trainer.epoch_iter - images_before), losses, self.step)
            if self.step % opt.display_freq < batch_size and generated_for and self.visualizer:
                self.visualizer.show(trainer.epoch, trainer.epoch_iter, generated_for, trainer.get_latest_generated(),
                                     self.step)
            if self.step % opt.save_latest_freq < batch_size:
                self.save("latest")
            self.end_if_asked()

    def batches(self) -> Iterator[tuple[int, tuple[dict, ...]]]:
        """Number in the epoch and data, in parts of --accumulate, of the batches that remain, with a progress bar."""
        done = self.trainer.epoch_iter
        if done >= self.images_per_epoch:  # the run was stopped between the last step and the epoch's end
            return
        self.loader.set_epoch(self.trainer.epoch - 1, done)
        with progress(doing=f"epoch {self.trainer.epoch} of {self.last_epoch}", total=self.images_per_epoch,
                      initial=done, unit="img", quiet=not distributed.is_main()) as bar:
            parts = zip(*[iter(self.loader)] * self.opt.accumulate, strict=True)
            for i in itertools.count(done // self.opt.batchSize):
                try:
                    data = next(parts, None)
                except Exception:  # a bad file does not take with it what was trained since the latest save
                    if self.step > max(self._saved_step, 0):
                        self.save("latest")
                    raise
                if data is None:
                    return
                yield i, data
                if self.visualizer and (left := self.visualizer.time_left(self.step)):
                    bar.set_postfix_str(f"{left} left in all", refresh=False)
                bar.update(self.opt.batchSize)

    def evaluate(self) -> None:
        """FID on the test split, also of the averaged networks, which then decide; the best networks so far are kept as
        ``best``."""
        trainer, averaged = self.trainer, None
        try:
            fid = self.evaluator.fid(trainer.model, self.end_if_asked)
            if trainer.average:
                trainer.average.share()
                averaged = self.evaluator.fid(trainer.average.model, self.end_if_asked)
        except Interrupted:  # saved already
            raise
        except Exception:
            self.save("latest")  # the epoch is not lost
            raise
        if self.visualizer:
            self.visualizer.log_fid(trainer.epoch, fid, averaged)
        print(f"epoch {trainer.epoch}: {self.evaluator.distance_name} {fid:.4f}"
              + ("" if averaged is None else f", averaged {averaged:.4f}"))
        decisive = fid if averaged is None else averaged
        if trainer.best_fid is None or decisive < trainer.best_fid:
            trainer.best_fid = decisive
            self.save("best")

    def check_losses(self) -> None:
        """Look at the losses of all steps since the last check.

        :raises UserError: some are not finite, so that training on would only spoil what was saved. A gradient scaler
            leaves out such steps, unless none is left that it does not.
        """
        scaled = self.trainer.scaler_G.is_enabled()
        broken = broken_steps(self._unchecked, scaled)
        self._unchecked = [step for step, _ in broken]
        if broken and (not scaled or self.trainer.lowest_scale() < 1):
            (epoch, images, files, losses), name = broken[0]
            raise UserError(f"loss {name} is {float(losses[name])} in epoch {epoch} at image {images}, in a step on "
                            f"{', '.join(files[:8])}{', …' if files[8:] else ''}; training has stopped, and the saved "
                            "networks are kept. Try a lower --lr, or leave out --use_amp")

    def finite_losses(self) -> dict[str, float]:
        """The latest losses as numbers. :raises UserError: see :meth:`check_losses`."""
        self.check_losses()
        losses = {name: float(value) for name, value in self.trainer.get_latest_losses().items()}
        if self.trainer.scaler_G.is_enabled():
            losses["skipped_steps"] = int(self.trainer.skipped)
        return losses

    def save(self, epoch: str | int) -> None:
        """The run as ``epoch``, by the first process. :raises UserError: losses or networks are not finite."""
        self.check_losses()
        if not distributed.is_main():
            return
        self.visualizer.sync()
        self.trainer.save(epoch)
        self._saved_step = self.step
        self.note_place()

    def note_place(self) -> None:
        """``iter.txt``: the epoch and how many images of it are done, as published."""
        place = f"{self.trainer.epoch}\n{self.trainer.epoch_iter}\n"
        write_atomically(os.path.join(self.opt.folder, "iter.txt"), place)

    def end_if_asked(self) -> None:
        """:raises Interrupted: a signal asked one of the processes for it; the run is saved."""
        if signum := distributed.largest(self.stop.signum or 0):
            self.save("latest")
            distributed.wait()
            raise Interrupted(signum, f"saved as latest in {self.opt.folder}; continue with --continue_train")


def broken_steps(steps: Sequence[UncheckedStep], skipped: bool) -> list[tuple[UncheckedStep, str]]:
    """Steps with a loss that is not finite, and its name.

    :param skipped: a gradient scaler leaves such steps out: only those after the last whose losses are finite count.
    """
    values = [value.reshape(1) for step in steps for value in step.losses.values()]
    finite = iter(torch.cat(values).isfinite().tolist() if values else [])
    broken = []
    for step in steps:
        names = [name for name in step.losses if not next(finite)]
        if names:
            broken.append((step, names[0]))
        elif skipped:
            broken = []
    return broken
