"""What a training run shows: losses and FIDs in logs, their curves and pictures on a web page, all in TensorBoard if
asked."""
import contextlib
import glob
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from data import class_colors, class_names
from data.derived_files import read_note
from metrics.extractors import KINDS
from options.options import Options
from util.errors import UserError
from util.files import append_line, fsync, read_text, write_atomically
from util.html import Outlines, Picture, PicturePage
from util.images import save_image, to_pictures
from util.progress import counted

_ROWS = 50  # newest pictures on the page; older ones stay in the folder
_POINTS = 200  # most of a curve of losses
_PAUSE = 10  # seconds between writings of the page, so that they take no time to speak of
_MEANINGS = {  # of the losses
    "KLD": "how far the encoder's styles are from the prior",
    "Color": "error of the mean colours of instances",
    "GAN": "how unreal the discriminators find the pictures",
    "GAN_Feat": "distance from the photos in features of the discriminators",
    "VGG": "distance from the photos in features of VGG19",
    "Lite0": "distance from the photos in features of EfficientNet-Lite0",
    "D_Fake": "error of the discriminators on synthesized pictures",
    "D_real": "error of the discriminators on photos",
    "skipped_steps": "steps left out, because numbers became too large",
}
_KINDS = {"input_label": "layout", "synthesized_image": "sample", "real_image": "real photo"}


class Visualizer:
    """Writes ``loss_log.txt``, ``fid.txt`` and ``web/index.html`` into the experiment's folder.

    A run that goes on from ``epoch``, after ``images`` of it (and ``step`` since the start), writes once more what it
    wrote after that: those lines are removed first.

    :param images_per_epoch: of all epochs, for the time that is left.
    :raises UserError: ``--tf_log`` without TensorBoard.
    """

    def __init__(self, opt: Options, epoch: int = 1, images: int = 0, step: int = 0, images_per_epoch: int = 1):
        self.opt, self.images_per_epoch = opt, max(images_per_epoch, 1)
        self.colors, self.names = class_colors(opt), class_names(opt)
        self._log_path = os.path.join(opt.folder, "loss_log.txt")
        self._fid_path = os.path.join(opt.folder, "fid.txt")
        self._fid_name = KINDS[opt.eval_extractor].frechet
        self._web = os.path.join(opt.folder, "web")
        self.page_path = os.path.join(self._web, "index.html")
        self._board = _summary_writer(os.path.join(opt.folder, "logs"), step) if opt.tf_log else None
        _keep_lines(self._log_path, r"\(epoch: (\d{1,15}), iters: (\d{1,15}),", (epoch, images))
        _keep_lines(self._fid_path, r"epoch (\d{1,15}): ", (epoch - 1,))
        if not os.path.exists(self._log_path):
            append_line(self._log_path, f"================ Training Loss ({time.strftime('%c')}) ================")
        self._losses: dict[str, list[tuple[float, float]]] = {}  # epoch and value, by name
        if not opt.no_html:
            for line in re.finditer(r"^\(epoch: (\d{1,15}), iters: (\d{1,15}),.*?\) (.*)$", read_text(self._log_path),
                                    re.MULTILINE):
                values = {name: float(value) for name, value in re.findall(r"(\w+): (-?\d+\.\d+)", line[3])}
                self._add_losses(int(line[1]), int(line[2]), values)
        self._started, self._step_before, self._step = time.monotonic(), step, step
        self._place = epoch, images
        self._write_page(at_once=True)
        self._page_due = time.monotonic()

    def log_losses(self, epoch: int, images: int, seconds: float, losses: Mapping[str, float], step: int) -> None:
        """One line of losses.

        :param images: images of this epoch so far.
        :param seconds: per image.
        :param step: images since the start.
        """
        values = " ".join(f"{name}: {value:.3f}" for name, value in losses.items())
        append_line(self._log_path, f"(epoch: {epoch}, iters: {images}, time: {seconds:.3f}) {values}")
        if self._board:
            for name, value in losses.items():
                self._board.add_scalar(name, value, step)
        self._add_losses(epoch, images, losses)
        self._step, self._place = step, (epoch, images)
        self._write_page()

    def _add_losses(self, epoch: int, images: int, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            if math.isfinite(value):
                self._losses.setdefault(name, []).append((epoch - 1 + images / self.images_per_epoch, value))

    def log_fid(self, epoch: int, fid: float, averaged: float | None = None) -> None:
        """A line of ``fid.txt``, another for averaged networks, and the curves of all its lines on the page."""
        for name, value in {self._fid_name: fid, f"averaged {self._fid_name}": averaged}.items():
            if value is not None:
                append_line(self._fid_path, f"epoch {epoch}: {name} {value:.4f}")
                if self._board:
                    self._board.add_scalar(name, value, epoch)
        self._write_page(at_once=True)

    def show(self, epoch: int, images: int, data: Mapping[str, Any], generated: Tensor, step: int) -> None:
        """Put the first picture of a batch on the page: layout, synthesized, real."""
        label, instance = (data[kind][0, 0].cpu().numpy() for kind in ("label", "instance"))
        pictures = dict(zip(_KINDS, (
            self.colors[label],
            to_pictures(generated[:1])[0],
            to_pictures(data["image"][:1])[0],
        ), strict=True))
        if self._board:
            for kind, picture in pictures.items():
                self._board.add_image(kind, picture, step, dataformats="HWC")
        if self.opt.no_html:
            return
        moment = f"epoch{epoch:03d}_iter{images:06d}"
        for kind, picture in pictures.items():
            comment = Outlines.of(label, instance).text() if kind == "input_label" else ""
            save_image(picture, os.path.join(self._web, "images", f"{moment}_{kind}.png"), comment)
        self._step, self._place = step, (epoch, images)
        self._write_page()

    def show_followed(self, number: int, epoch: int, sample: Mapping[str, Any], picture: np.ndarray) -> None:
        """Put the picture that a layout has after an epoch on the page, beside those of other epochs.

        :param number: of the layout.
        :param sample: the layout, as the data set gives it.
        """
        if self.opt.no_html:
            return
        path = os.path.join(self._web, "images", f"followed{number}_{{}}.png").format
        label, instance = (sample[kind][0].cpu().numpy() for kind in ("label", "instance"))
        save_image(self.colors[label], path("input_label"), Outlines.of(label, instance).text())
        save_image(to_pictures(sample["image"][None])[0], path("real_image"))
        save_image(picture, path(f"epoch{epoch:03d}"))

    def finish(self) -> None:
        """The page as it is after the last epoch."""
        epochs = self.opt.niter + self.opt.niter_decay
        self._write_page(at_once=True, end=f"{counted(epochs, 'epoch')} done", refresh=0)

    def stop(self, why: str, epoch: int, images: int) -> None:
        """The page of a run that ends before its time, after ``images`` of ``epoch``, until it goes on."""
        self._write_page(at_once=True, end=f"{why} in epoch {epoch} at image {images}; go on with --continue_train")

    def _write_page(self, at_once: bool = False, end: str = "", refresh: int = 60) -> None:
        if self.opt.no_html or (not at_once and time.monotonic() < self._page_due):
            return
        names = glob.glob("epoch*_*.png", root_dir=os.path.join(self._web, "images"))
        moments = {(int(match[2]), int(match[3])): match[1] for name in names
                   if (match := re.fullmatch(r"(epoch(\d+)_iter(\d+))_input_label\.png", name))}
        page = PicturePage(f"Training of {self.opt.name}", self.opt.display_winsize, self.names, self.colors,
                           refresh=refresh)
        page.add_text(f"{end or self._progress()} ({time.strftime('%Y-%m-%d %H:%M')}).")
        for name in (self._fid_name, f"averaged {self._fid_name}"):
            if fids := self._logged_fids(name):
                page.add_curve(f"{name} of the test split", "epoch", fids, hint="distance from real pictures")
        for name, points in self._losses.items():
            page.add_curve(name, "epoch", thinned(points), marked=False, hint=_MEANINGS.get(name, ""))
        self._add_followed(page)
        if moments:
            page.add_section("The newest pictures of training")
        else:
            first = counted(min(self.opt.display_freq, self.images_per_epoch), "image")
            page.add_text(f"No pictures yet; the first come after about {first}.")
        for (epoch, images), moment in sorted(moments.items(), reverse=True)[:_ROWS]:
            regions = Outlines.parse(read_note(os.path.join(self._web, "images", f"{moment}_input_label.png")))
            page.add_row(f"epoch {epoch}, image {images}",
                         [Picture(f"images/{moment}_{kind}.png", word) for kind, word in _KINDS.items()], regions)
        page.save(self.page_path)
        self._page_due = time.monotonic() + _PAUSE

    def _add_followed(self, page: PicturePage) -> None:
        """The layouts of :meth:`show_followed`, with a slider through the epochs."""
        found: dict[int, dict[int, str]] = {}  # layout -> epoch -> file
        for name in glob.glob("followed*_epoch*.png", root_dir=os.path.join(self._web, "images")):
            if match := re.fullmatch(r"followed(\d+)_epoch(\d+)\.png", name):
                found.setdefault(int(match[1]), {})[int(match[2])] = f"images/{name}"
        epochs = sorted(set.intersection(*map(set, found.values()))) if found else []
        if not epochs:
            return
        page.add_slider("The same layouts after epoch", [str(epoch) for epoch in epochs])
        for number, files in sorted(found.items()):
            layout, real = (f"images/followed{number}_{kind}.png" for kind in ("input_label", "real_image"))
            page.add_row(f"layout {number}", [
                Picture(layout, "layout"),
                Picture(files[epochs[-1]], "sample", frames=[files[epoch] for epoch in epochs]),
                Picture(real, "real photo")], Outlines.parse(read_note(os.path.join(self._web, layout))))

    def _progress(self) -> str:
        """Where the run stands, and how long it will take at the pace that it had since it was started."""
        epochs, (epoch, images) = self.opt.niter + self.opt.niter_decay, self._place
        text = f"Epoch {epoch} of {epochs}, image {images} of {self.images_per_epoch}"
        if left := self.time_left(self._step):
            pace = (self._step - self._step_before) / (time.monotonic() - self._started)
            text += f": {pace:.3g} images/s, about {left} left"
        return text

    def time_left(self, step: int) -> str:
        """How long a run that stands at ``step`` will take, at the pace that it had since it was started, in words;
        "" if that is not known yet."""
        if step <= self._step_before:
            return ""
        seconds = (time.monotonic() - self._started) / (step - self._step_before)
        return duration(((self.opt.niter + self.opt.niter_decay) * self.images_per_epoch - step) * seconds)

    def _logged_fids(self, name: str) -> list[tuple[float, float]]:
        """(epoch, FID) of ``fid.txt``, of earlier parts of the run too; of an epoch that was repeated, the last."""
        if not os.path.exists(self._fid_path):
            return []
        pattern = rf"^epoch (\d{{1,15}}): {re.escape(name)} (\d{{1,15}}\.\d+)$"
        lines = re.findall(pattern, read_text(self._fid_path), re.MULTILINE)
        return sorted({float(epoch): float(fid) for epoch, fid in lines}.items())

    def sync(self) -> None:
        """Wait until the disk has all lines of the logs: a checkpoint will not write them again."""
        for path in filter(os.path.exists, (self._log_path, self._fid_path)):
            fsync(path)

    def close(self) -> None:
        if self._board:
            self._board.close()


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve in at most ``_POINTS`` points: means of equally many of ``points`` (x, y) that follow one another."""
    each = -(-len(points) // _POINTS)
    return [tuple(np.mean(points[start:start + each], axis=0).tolist()) for start in range(0, len(points), each)]


def duration(seconds: float) -> str:
    """In words, e.g. ``2 h 5 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "a minute"
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = {"d": days, "h": hours, "min": 0 if days else minutes}
    return " ".join(f"{value} {unit}" for unit, value in parts.items() if value)


def _keep_lines(path: str, pattern: str, last: tuple[int, ...]) -> None:
    """Remove the lines of a log whose numbers, as ``pattern`` finds them, come after ``last``; and a line that was
    cut short."""
    if not os.path.exists(path):
        return
    whole = [line for line in read_text(path).splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in whole
            if not (match := re.match(pattern, line)) or tuple(map(int, match.groups())) <= last]
    write_atomically(path, "".join(kept), sync=True)


def _summary_writer(folder: str, step: int) -> Any:
    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(folder, purge_step=step + 1)
    raise UserError("--tf_log: TensorBoard is not installed; run `pip install tensorboard`, or leave out the option")
