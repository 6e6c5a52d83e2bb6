"""What a training run shows: losses and FIDs in logs, pictures on a web page, all in TensorBoard if asked."""
import contextlib
import glob
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from options.options import Options
from util.errors import UserError
from util.html import Page, Picture
from util.images import save_image, to_pictures
from util.palette import colorize

_ROWS = 200  # newest pictures on the page; older ones stay in the folder
_KINDS = ("input_label", "synthesized_image", "real_image")


class Visualizer:
    """Writes ``loss_log.txt``, ``fid.txt`` and ``web/index.html`` into the experiment's folder.

    :raises UserError: ``--tf_log`` without TensorBoard.
    """

    def __init__(self, opt: Options):
        self.opt = opt
        self._log_path = os.path.join(opt.folder, "loss_log.txt")
        self._fid_path = os.path.join(opt.folder, "fid.txt")
        self._web = os.path.join(opt.folder, "web")
        try:
            os.makedirs(opt.folder, exist_ok=True)
            self._board = _summary_writer(os.path.join(opt.folder, "logs")) if opt.tf_log else None
        except OSError as error:
            raise UserError(f"{opt.folder}: cannot be written to ({error.strerror}); check --checkpoints_dir and its "
                            "permissions") from error
        self._log(f"================ Training Loss ({time.strftime('%c')}) ================")

    def log_losses(self, epoch: int, images: int, seconds: float, losses: Mapping[str, float], step: int) -> None:
        """One line of losses.

        :param images: images of this epoch so far.
        :param seconds: per image.
        :param step: images since the start.
        """
        values = " ".join(f"{name}: {value:.3f}" for name, value in losses.items())
        self._log(f"(epoch: {epoch}, iters: {images}, time: {seconds:.3f}) {values}")
        if self._board:
            for name, value in losses.items():
                self._board.add_scalar(name, value, step)

    def log_fid(self, epoch: int, fid: float) -> None:
        """A line of ``fid.txt``, and the curve of all its lines on the page."""
        with open(self._fid_path, "a", encoding="utf-8") as file:
            file.write(f"epoch {epoch}: FID {fid:.4f}\n")
        if self._board:
            self._board.add_scalar("FID", fid, epoch)
        if not self.opt.no_html:
            self._write_page()

    def log_text(self, text: str) -> None:
        self._log(text)

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
        names = sorted(map(os.path.basename, glob.glob(os.path.join(self._web, "images", "epoch*_*.png"))))
        moments = {tuple(map(int, re.findall(r"\d+", name))): name.removesuffix(f"_{_KINDS[0]}.png")
                   for name in names if name.endswith(f"_{_KINDS[0]}.png")}
        page = Page(f"Training of {self.opt.name}", self.opt.display_winsize, refresh=60)
        if fids := self._logged_fids():
            page.add_curve("FID of the test split", "epoch", fids)
        for (epoch, images), moment in sorted(moments.items(), reverse=True)[:_ROWS]:
            page.add_row(f"epoch {epoch}, image {images}",
                         [Picture(f"images/{moment}_{kind}.png", kind.replace("_", " ")) for kind in _KINDS])
        page.save(os.path.join(self._web, "index.html"))

    def _logged_fids(self) -> list[tuple[float, float]]:
        """(epoch, FID) of ``fid.txt``, of earlier parts of the run too; of an epoch that was repeated, the last."""
        if not os.path.exists(self._fid_path):
            return []
        with open(self._fid_path, encoding="utf-8") as file:
            lines = re.findall(r"^epoch (\d+): FID (\d[\d.]*)$", file.read(), re.MULTILINE)
        return sorted({float(epoch): float(fid) for epoch, fid in lines}.items())

    def _log(self, line: str) -> None:
        with open(self._log_path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self) -> None:
        if self._board:
            self._board.close()


def _summary_writer(folder: str) -> Any:
    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(folder)
    raise UserError("--tf_log: TensorBoard is not installed; run `pip install tensorboard`, or leave the option out")
