"""A gallery that shows what a trained INADE model does, and measures it:

    python gallery.py --name EXP --dataset_mode custom --dataroot DATA --use_vae --gallery_dir DIR

Rows of layout | samples of it | reconstruction by the encoder | real photo; and rows in which one instance alone gets
new styles while everything else keeps its own.
"""
import json
import os
from collections.abc import Iterable
from typing import Any

from data.command_line import refuse_mistakes
from options import Options
from options.gallery_options import GalleryOptions
from util.errors import command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(GalleryOptions())

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from data import class_colors, class_names, create_dataset
from data.image_files import stem
from metrics.diversity import Change, Painter, style_change
from metrics.looks import ColourSpread
from metrics.perceptual import rgb_distance
from models.batches import Batch
from models.synthesis import Synthesizer, instance_classes
from util.files import exclusive, write_atomically
from util.html import Outlines, Picture, PicturePage
from util.images import save_image, to_pictures
from util.progress import progress
from util.seed import seed_everything

WHITE = 64  # the change, of 255, that is white in the maps of change


@command
def main() -> None:
    opt = GalleryOptions().parse()
    seed_everything(opt.seed)
    dataset = create_dataset(opt)
    synthesizer = Synthesizer.from_options(opt)
    with exclusive(opt.gallery_dir, remedy="give another --gallery_dir"):
        make(opt, dataset, synthesizer)


def make(opt: Options, dataset: Dataset, synthesizer: Synthesizer) -> None:
    gallery = Gallery(synthesizer)
    shown = [(stem(path), batch) for path, batch in synthesizer.layouts(dataset, opt.layouts)]
    for name, batch in progress(shown, doing="samples", unit="layout"):
        gallery.add_samples(name, batch)
    for name, batch in progress(shown, doing="single instances", unit="layout"):
        gallery.add_single_instance(name, batch)
    layouts = progress(synthesizer.layouts(dataset, opt.measured), doing="measuring", unit="layout",
                       total=min(opt.measured, len(dataset)))
    figures = measure(synthesizer, (batch for _, batch in layouts), opt.samples)
    print(describe(figures))
    print(f"gallery: {gallery.save(figures)}")


class Gallery:
    """The page: made row by row, then saved in ``--gallery_dir``."""

    def __init__(self, synthesizer: Synthesizer):
        self.synthesizer, self.opt = synthesizer, synthesizer.opt
        self.colors, self.names = class_colors(self.opt), class_names(self.opt)
        self.page = PicturePage(f"{self.opt.name}: one layout, many pictures", max(self.opt.display_winsize, 96),
                                self.names, self.colors)
        self._rows: list[list[np.ndarray]] = []

    def add_samples(self, name: str, batch: Batch) -> None:
        """A row of ``--samples`` pictures of a layout (a batch of one), between the layout and the real picture."""
        pictures = {"layout": self._label_picture(batch)}
        for n in range(self.opt.samples):
            pictures[f"sample {n + 1}"] = self.synthesizer.pictures(batch)[0]
        if self.synthesizer.model.netE is not None:
            pictures["reconstruction"] = self.synthesizer.pictures(batch, self.synthesizer.mean_styles(batch))[0]
        if batch.image is not None and not self.opt.without_photos:
            pictures["real photo"] = to_pictures(batch.image)[0]
        self._add_row(name, name, pictures, batch)

    def add_single_instance(self, name: str, batch: Batch) -> None:
        """A row in which one instance alone is resampled, see :func:`foreground_instance`; nothing if there is none."""
        instance = batch.layout.instance[0]
        chosen = foreground_instance(instance)
        if chosen is None:
            return
        dimmed = self._label_picture(batch)
        dimmed[(instance != chosen).cpu().numpy()] //= 3
        pictures = {"resampled instance": dimmed}
        styles, drawn = self.synthesizer.draw_styles(batch), []
        for n in range(self.opt.samples):
            drawn.append(self.synthesizer.pictures(batch, styles)[0])
            pictures[f"sample {n + 1}"] = drawn[-1]
            styles = styles.exchange(self.synthesizer.draw_styles(batch), [chosen])
        pictures["change, first to last"] = change_map(drawn[0], drawn[-1])
        label = instance_classes(batch)[chosen]
        what = f"{self.names.get(label, f'class {label}')} (instance {chosen})"
        self._add_row(f"{name}: only {what} resampled", f"{name}_instance", pictures, batch)

    def save(self, figures: dict[str, Any]) -> str:
        """Write the page with the figures of :func:`measure`, its pictures as one, and ``figures.json``.

        :returns: the page's path.
        """
        opt = self.opt
        averaged = ", averaged (--use_ema)" if opt.use_ema else ""
        self.page.add_text(f"Networks: {opt.which_epoch}{averaged}, of {opt.folder}. Layouts: of "
                           f"{opt.label_dir or opt.dataroot}, {opt.phase} split. Styles: of the prior; "
                           f"seed {opt.seed}.")
        self.page.add_text(describe(figures))
        self.page.add_text(f"Maps of change: black is no change; white is a change of {WHITE} of 255 or more (mean of "
                           "red, green and blue).")
        save_image(contact_sheet(self._rows), os.path.join(self.opt.gallery_dir, "gallery.png"))
        write_atomically(os.path.join(self.opt.gallery_dir, "figures.json"), json.dumps(figures, indent=1) + "\n")
        path = os.path.join(self.opt.gallery_dir, "index.html")
        self.page.save(path)
        return path

    def _label_picture(self, batch: Batch) -> np.ndarray:
        return self.colors[batch.layout.label[0].cpu().numpy()]

    def _add_row(self, heading: str, stem: str, pictures: dict[str, np.ndarray], batch: Batch) -> None:
        row = []
        for caption, picture in pictures.items():
            path = f"images/{stem}_{caption.replace(' ', '_').replace(',', '')}.png"
            save_image(picture, os.path.join(self.opt.gallery_dir, path))
            row.append(Picture(path, caption))
        regions = Outlines.of(*(ids[0].cpu().numpy() for ids in (batch.layout.label, batch.layout.instance)))
        self.page.add_row(heading, row, regions)
        self._rows.append(list(pictures.values()))


def change_map(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """How much the colour of each pixel differs between two pictures [H, W, 3]: [H, W] uint8, 255 for ``WHITE`` or
    more."""
    change = np.abs(last.astype(int) - first).mean(2)
    return (255 * np.minimum(change / WHITE, 1)).round().astype(np.uint8)


def contact_sheet(rows: list[list[np.ndarray]], width: int = 128, gap: int = 4) -> np.ndarray:
    """Rows of pictures [H, W(, 3)] on white, every picture ``width`` pixels wide: [h, w, 3] uint8."""
    height = round(width * rows[0][0].shape[0] / rows[0][0].shape[1])
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * (width + gap) - gap, len(rows) * (height + gap) - gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
            sheet.paste(scaled, (x * (width + gap), y * (height + gap)))
    return np.asarray(sheet)


def foreground_instance(instance: torch.Tensor) -> int | None:
    """The largest id in the map [H, W] of those that touch the fewest of its sides; None if all touch three or more."""
    sides = [set(side.tolist()) for side in (instance[0], instance[-1], instance[:, 0], instance[:, -1])]
    sizes = torch.bincount(instance.flatten())
    touched = {i: sum(i in side for side in sides) for i in sizes.nonzero()[:, 0].tolist()}
    fewest = min(touched.values())
    return max((i for i in touched if touched[i] == fewest <= 2), key=lambda i: sizes[i].item(), default=None)


def measure(synthesizer: Synthesizer, layouts: Iterable[Batch], samples: int) -> dict[str, Any]:
    """How far apart the colours of instances lie (:class:`~metrics.looks.ColourSpread`, of at least two samples), and
    how local a resampling is.

    ``inside_share``: the part of the absolute change of colour that lies in the one resampled instance.
    ``area_share``: the part of the picture that the instance covers. Both are means over layouts.
    """
    spread, changes = ColourSpread(), []
    for batch in layouts:
        label, instance = (ids[0].cpu().numpy() for ids in (batch.layout.label, batch.layout.instance))
        pictures = np.concatenate([synthesizer.pictures(batch) for _ in range(max(samples, 2))])
        spread.add(label, instance, pictures, None if batch.image is None else to_pictures(batch.image)[0])
        chosen = foreground_instance(batch.layout.instance[0])
        if chosen is not None:
            changes.append(resample(synthesizer, batch, chosen))
    return {**spread.figures(),
            "inside_share": float(np.mean([change.inside_share for change in changes])) if changes else None,
            "area_share": float(np.mean([change.area for change in changes])) if changes else None}


def resample(synthesizer: Synthesizer, batch: Batch, instance: int) -> Change:
    """What other styles of one instance change, from one sample to another."""
    paint, styles, others = Painter(synthesizer, batch), *(synthesizer.draw_styles(batch) for _ in range(2))
    return style_change(paint, rgb_distance, paint(styles), styles, others, [instance])


def describe(figures: dict[str, Any]) -> str:
    """The figures of :func:`measure` in words."""
    text = ("Diversity: from sample to sample, the mean colour of an instance varies by "
            f"{figures['sample_spread']:.1f} of 255 (standard deviation)")
    if figures["real_spread"] is not None:
        text += f"; in the real photos, it varies by {figures['real_spread']:.1f} between instances of one class"
    if figures["inside_share"] is not None:
        text += (f". Locality: when one instance alone gets a new style, {figures['inside_share']:.0%} of the whole "
                 f"change lies inside it; it covers {figures['area_share']:.0%} of the picture")
    return text + "."


if __name__ == "__main__":
    main()
