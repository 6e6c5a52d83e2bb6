"""A gallery that shows what a trained INADE model does, and measures it:

    python -m util.gallery --name EXP --dataset_mode custom --dataroot DATA --use_vae --gallery_dir DIR

Rows of layout | samples of it | reconstruction by the encoder | real photo; and rows in which one instance alone gets
new styles while everything else keeps its own.
"""
import argparse
import json
import os
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data import collate, create_dataset
from models.pix2pix_model import Pix2PixModel
from options import Options, TestOptions
from util.errors import UserError, command
from util.files import write_atomically
from util.html import Page, Picture
from util.images import save_image, to_pictures
from util.label_colors import colorize
from util.memory import keep_freed_memory
from util.seed import seed_everything
from util.styles import draw_styles, exchange, instance_classes

Data = dict[str, Any]


class GalleryOptions(TestOptions):
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--gallery_dir", default="./gallery", help="folder of the page and its pictures")
        parser.add_argument("--layouts", type=int, default=8, help="layouts on the page")
        parser.add_argument("--samples", type=int, default=5, help="samples of each layout")
        parser.add_argument("--measured", type=int, default=48, help="layouts that are measured")
        parser.set_defaults(seed=0)

    def finish(self, opt: Options, given: set[str]) -> None:
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: the gallery shows styles of instances; use inade")
        if min(opt.layouts, opt.samples, opt.measured) < 1:
            raise UserError("--layouts, --samples and --measured must be at least 1")


@command
def main() -> None:
    opt = GalleryOptions().parse()
    seed_everything(opt.seed)
    keep_freed_memory()
    dataset = create_dataset(opt)
    model = Pix2PixModel(opt)
    model.load(opt.which_epoch)
    gallery = Gallery(opt, model)
    shown = [collate([dataset[i]]) for i in range(min(opt.layouts, len(dataset)))]
    for data in shown:
        gallery.add_samples(data)
    for data in shown:
        gallery.add_single_instance(data)
    figures = measure(model, [collate([dataset[i]]) for i in range(min(opt.measured, len(dataset)))], opt.samples)
    gallery.add_figures(figures)
    print(f"gallery: {gallery.save(figures)}")


class Gallery:
    """The page: made row by row, then saved."""

    def __init__(self, opt: Options, model: Pix2PixModel):
        self.opt, self.model = opt, model
        self.page = Page(f"{opt.name}: one layout, many pictures", max(opt.display_winsize, 96))
        self._rows: list[list[np.ndarray]] = []

    def add_samples(self, data: Data) -> None:
        name = _name(data)
        pictures = {"layout": colorize(data["label"][0, 0].numpy(), self.opt.num_classes)}
        for n in range(self.opt.samples):
            pictures[f"sample {n + 1}"] = to_pictures(self.model.sample(data))[0]
        if self.model.netE is not None:
            pictures["reconstruction"] = reconstruct(self.model, data)
        if "image" in data:
            pictures["real"] = to_pictures(data["image"])[0]
        self._add_row(name, name, pictures)

    def add_single_instance(self, data: Data) -> None:
        """Resample one instance, see :func:`foreground_instance`."""
        instance = data["instance"][0, 0]
        chosen = foreground_instance(instance)
        if chosen is None:
            return
        styles = draw_styles(self.model, data)
        inside = (instance == chosen).numpy()
        layout = colorize(data["label"][0, 0].numpy(), self.opt.num_classes)
        layout[~inside] = layout[~inside] // 3
        pictures = {"resampled instance": layout}
        first = None
        for n in range(self.opt.samples):
            picture = to_pictures(self.model.sample(data, **styles))[0]
            pictures[f"style {n + 1}"] = picture
            first = picture if first is None else first
            styles = exchange(styles, draw_styles(self.model, data), [chosen])
        change = np.abs(picture.astype(int) - first).mean(2)
        pictures["change, first to last"] = (255 * change / max(change.max(), 1)).astype(np.uint8)
        self._add_row(f"{_name(data)}: instance {chosen} alone resampled", f"{_name(data)}_instance", pictures)

    def add_figures(self, figures: dict[str, Any]) -> None:
        self.page.add_text("Measured: " + describe(figures))

    def save(self, figures: dict[str, Any]) -> str:
        """Write the page, all of it as one picture, and ``figures.json``; return the page's path."""
        print(describe(figures))
        save_image(contact_sheet(self._rows), os.path.join(self.opt.gallery_dir, "gallery.png"))
        write_atomically(os.path.join(self.opt.gallery_dir, "figures.json"), json.dumps(figures, indent=1) + "\n")
        path = os.path.join(self.opt.gallery_dir, "index.html")
        self.page.save(path)
        return path

    def _add_row(self, heading: str, stem: str, pictures: dict[str, np.ndarray]) -> None:
        row = []
        for caption, picture in pictures.items():
            path = f"images/{stem}_{caption.replace(' ', '_').replace(',', '')}.png"
            save_image(picture, os.path.join(self.opt.gallery_dir, path))
            row.append(Picture(path, caption))
        self.page.add_row(heading, row)
        self._rows.append(list(pictures.values()))


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


def reconstruct(model: Pix2PixModel, data: Data) -> np.ndarray:
    """The picture in the mean styles that the encoder sees in the real one: RGB bytes [H, W, 3]."""
    noise = torch.zeros_like(draw_styles(model, data)["noise"])
    return to_pictures(model(data, mode="inference", noise=noise))[0]


def foreground_instance(instance: torch.Tensor) -> int | None:
    """The largest id in the map [H, W] of those that touch the fewest of its sides; None if all touch three or more."""
    sides = [set(side.tolist()) for side in (instance[0], instance[-1], instance[:, 0], instance[:, -1])]
    sizes = torch.bincount(instance.flatten())
    touched = {i: sum(i in side for side in sides) for i in sizes.nonzero()[:, 0].tolist()}
    fewest = min(touched.values())
    return max((i for i in touched if touched[i] == fewest <= 2), key=lambda i: sizes[i].item(), default=None)


def measure(model: Pix2PixModel, batches: list[Data], samples: int) -> dict[str, Any]:
    """How far apart the colours of instances lie, in samples and in real pictures, and how local a resampling is.

    Colour: an instance's mean RGB in 0..255. ``sample_spread`` of a class: the deviation of that colour between samples
    of the same instance (root mean square over instances and channels); ``real_spread``: between its instances in the
    real pictures, each standardised the same way. ``inside_share``: the part of the absolute change that lies in the
    one resampled instance (mean over layouts), with ``area_share``, the part of the picture it covers, beside it.
    """
    real, within = defaultdict(list), defaultdict(list)
    inside_shares, area_shares = [], []
    for data in tqdm(batches, desc="measuring", unit="layout"):
        instance, label = data["instance"][0, 0].numpy(), data["label"][0, 0].numpy()
        classes = instance_classes(label, instance)
        pictures = np.stack([to_pictures(model.sample(data))[0] for _ in range(max(samples, 2))])
        for i, c in classes.items():
            where = instance == i
            within[c].append(pictures[:, where].mean(1).var(0, ddof=1))
            if "image" in data:
                real[c].append(to_pictures(data["image"])[0][where].mean(0))
        chosen = foreground_instance(data["instance"][0, 0])
        if chosen is not None:
            styles, others = draw_styles(model, data), draw_styles(model, data)
            before, after = (model.sample(data, **s) for s in (styles, exchange(styles, others, [chosen])))
            change = (after - before).abs().sum(1)[0].cpu().numpy()
            inside_shares.append(float(change[instance == chosen].sum() / max(change.sum(), 1e-12)))
            area_shares.append(float((instance == chosen).mean()))
    classes = sorted(c for c in within if len(real[c]) > 1) or sorted(within)
    per_class = {str(c): {"sample_spread": _rms(within[c]),
                          "real_spread": _rms(np.var(real[c], axis=0, ddof=1)) if len(real[c]) > 1 else None,
                          "instances": len(within[c])} for c in classes}
    spreads = [entry for entry in per_class.values() if entry["real_spread"] is not None]
    return {
        "sample_spread": float(np.mean([entry["sample_spread"] for entry in per_class.values()])),
        "real_spread": float(np.mean([entry["real_spread"] for entry in spreads])) if spreads else None,
        "inside_share": float(np.mean(inside_shares)) if inside_shares else None,
        "area_share": float(np.mean(area_shares)) if area_shares else None,
        "classes": per_class,
    }


def describe(figures: dict[str, Any]) -> str:
    """The figures of :func:`measure` in words."""
    text = f"colour of an instance between samples: spread {figures['sample_spread']:.1f} of 255"
    if figures["real_spread"] is not None:
        text += f", between real instances of a class {figures['real_spread']:.1f} (means over classes)"
    if figures["inside_share"] is not None:
        text += (f"; {figures['inside_share']:.0%} of the change lies inside the one resampled instance, which covers "
                 f"{figures['area_share']:.0%} of the picture")
    return text + "."


def _rms(variances: Any) -> float:
    return float(np.sqrt(np.mean(variances)))


def _name(data: Data) -> str:
    return os.path.splitext(os.path.basename(data["path"][0]))[0]


if __name__ == "__main__":
    main()
