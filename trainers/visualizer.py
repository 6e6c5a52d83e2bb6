"""What a training run shows: losses and FIDs in logs, pictures on a web page, all in TensorBoard if asked."""
import contextlib
import glob
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from metrics.extractors import KINDS
from options.options import Options
from util.errors import UserError
from util.files import append_line, fsync, read_text, write_atomically
from util.html import Page, Picture
from util.images import save_image, to_pictures
from util.palette import colorize

_ROWS = 200  # newest pictures on the page; older ones stay in the folder
_KINDS = ("input_label", "synthesized_image", "real_image")


class Visualizer:
    """Writes ``loss_log.txt``, ``fid.txt`` and ``web/index.html`` into the experiment's folder.

    A run that goes on from ``epoch``, after ``images`` of it (and ``step`` since the start), writes once more what it
    wrote after that: those lines are removed first.

    :raises UserError: ``--tf_log`` without TensorBoard.
    """

    def __init__(self, opt: Options, epoch: int = 1, images: int = 0, step: int = 0):
        self.opt = opt
        self._log_path = os.path.join(opt.folder, "loss_log.txt")
        self._fid_path = os.path.join(opt.folder, "fid.txt")
        self._fid_name = KINDS[opt.eval_extractor].frechet
        self._web = os.path.join(opt.folder, "web")
        self._board = _summary_writer(os.path.join(opt.folder, "logs"), step) if opt.tf_log else None
        _keep_lines(self._log_path, r"\(epoch: (\d{1,15}), iters: (\d{1,15}),", (epoch, images))
        _keep_lines(self._fid_path, r"epoch (\d{1,15}): ", (epoch - 1,))
        if not os.path.exists(self._log_path):
            append_line(self._log_path, f"================ Training Loss ({time.strftime('%c')}) ================")

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

    def log_fid(self, epoch: int, fid: float, averaged: float | None = None) -> None:
        """A line of ``fid.txt``, another for averaged networks, and the curves of all its lines on the page."""
        for name, value in {self._fid_name: fid, f"averaged {self._fid_name}": averaged}.items():
            if value is not None:
                append_line(self._fid_path, f"epoch {epoch}: {name} {value:.4f}")
                if self._board:
                    self._board.add_scalar(name, value, epoch)
        if not self.opt.no_html:
            self._write_page()

    def show(self, epoch: int, images: int, data: Mapping[str, Any], generated: Tensor, step: int) -> None:
        """Put the first picture of a batch on the page: layout, synthesized, real."""
        pictures = dict(zip(_KINDS, (
            colorize(data["label"][0, 0].cpu().numpy(), self.opt.num_classes),
            to_pictures(generated[:1])[0],
            to_pictures(data["image"][:1])[0],
        ), strict=True))
        if self._board:
            for kind, picture in pictures.items():
                self._board.add_image(kind, picture, step, dataformats="HWC")
        if self.opt.no_html:
            return
        for kind, picture in pictures.items():
            save_image(picture, os.path.join(self._web, "images", f"epoch{epoch:03d}_iter{images:06d}_{kind}.png"))
        self._write_page()

    def _write_page(self) -> None:
        names = glob.glob("epoch*_*.png", root_dir=os.path.join(self._web, "images"))
        moments = {(int(match[2]), int(match[3])): match[1] for name in names
                   if (match := re.fullmatch(rf"(epoch(\d+)_iter(\d+))_{_KINDS[0]}\.png", name))}
        page = Page(f"Training of {self.opt.name}", self.opt.display_winsize, refresh=60)
        for name in (self._fid_name, f"averaged {self._fid_name}"):
            if fids := self._logged_fids(name):
                page.add_curve(f"{name} of the test split", "epoch", fids)
        for (epoch, images), moment in sorted(moments.items(), reverse=True)[:_ROWS]:
            page.add_row(f"epoch {epoch}, image {images}",
                         [Picture(f"images/{moment}_{kind}.png", kind.replace("_", " ")) for kind in _KINDS])
        page.save(os.path.join(self._web, "index.html"))

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
