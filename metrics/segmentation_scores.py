"""Segmentation scores of pictures: intersection over union, pixel accuracies, the confusion matrix as a picture.

Everything follows from counts of pixels [K + 1, K + 1], rows by true class and columns by the class found, both with
"none" as the last.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

COMMON = 0.01  # share of the pixels from which on a class is called common

_TEXT_CELL = 12  # pixels that a row of text takes
_CELLS = 900  # pixels that a large matrix may take


def confusion(truth: Tensor, found: Tensor, num_classes: int) -> np.ndarray:
    """[C, C] counts of pixels: rows by their true class, columns by the class found."""
    pairs = truth.flatten().long() * num_classes + found.flatten()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes).numpy()


def segmentation_scores(counts: np.ndarray) -> dict[str, Any]:
    """Figures of counts [K + 1, K + 1]; None where there is nothing to count.

    ``iou`` of each class, over the pixels that have a true class; None for a class that does not occur. ``mIoU`` is the
    mean of the others; ``mIoU_common`` that of the classes with a :data:`COMMON` share of the pixels, or more.
    ``accuracy``: the part of the pixels with a true class that is right. ``accuracy_of_all``: right ones as a part of
    all pixels, as if those without a class were wrong.
    """
    right = counts.diagonal()[:-1]
    truth, found = counts[:-1].sum(1), counts[:-1, :-1].sum(0)
    share = truth / max(truth.sum(), 1)
    iou = [float(a / b) if there else None for a, b, there in zip(right, truth + found - right, truth > 0, strict=True)]
    return {
        "mIoU": _mean(iou),
        "mIoU_common": _mean([value for value, part in zip(iou, share, strict=True) if part >= COMMON]),
        "accuracy": float(right.sum() / truth.sum()) if truth.any() else None,
        "accuracy_of_all": float(right.sum() / counts.sum()) if counts.any() else None,
        "iou": iou,
        "share": share.tolist(),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def describe(scores: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """The figures of ``synthesized`` and ``real`` pictures beside each other, with a row for each class that occurs."""
    titles = {"mIoU": "mIoU", "mIoU_common": f"mIoU, classes of {COMMON:.0%} or more", "accuracy": "pixel accuracy",
              "accuracy_of_all": "pixel accuracy, ignored pixels wrong"}
    sides = [scores["synthesized"], scores["real"]]
    lines = [f"{'':<38}{'synthesized':>12}{'real':>8}{'pixels':>9}"]
    lines += [f"{title:<38}{_figure(sides[0][key]):>12}{_figure(sides[1][key]):>8}" for key, title in titles.items()]
    lines += [f"  {name[:34]:<36}{_figure(fake):>12}{_figure(real):>8}{share:>9.2%}" for name, fake, real, share in
              zip(names, sides[0]["iou"], sides[1]["iou"], sides[1]["share"], strict=True) if share > 0]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def confusion_picture(counts: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """The matrices of several sets of pictures beside each other, [H, W, 3] bytes. A row is a true class that occurs,
    a column a class found; the darker, the larger the part of the row."""
    total = sum(counts.values())
    occurs = np.flatnonzero(total.sum(1)[:-1])
    columns = [*names, "none"]
    shown = [*np.flatnonzero((total.sum(0) + total.sum(1))[:-1]), len(names)]
    cell = max(4, min(24, _CELLS // len(shown)))
    font = ImageFont.load_default(_TEXT_CELL - 2)
    rows = [names[i] for i in occurs]
    words = [columns[i] for i in shown]
    text = max(int(font.getlength(word)) for word in words) + 6 if cell >= _TEXT_CELL else 6
    width, height = cell * len(shown), cell * len(rows)
    titles = {name: f"{name}: true class (row), found (column)" for name in counts}
    panel = max(text + width, *(int(font.getlength(title)) + text + 6 for title in titles.values()))
    sheet = Image.new("RGB", (panel * len(counts) + 6, _TEXT_CELL + 6 + height + text), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, matrix) in enumerate(counts.items()):
        left, top = panel * number + text, _TEXT_CELL + 6
        draw.text((left, 2), titles[name], "black", font)
        part = matrix[np.ix_(occurs, shown)] / np.maximum(matrix[occurs].sum(1, keepdims=True), 1)
        shades = np.stack([255 * (1 - part), 255 * (1 - part), 255 - 120 * part], -1).round().astype(np.uint8)
        if height:
            sheet.paste(Image.fromarray(shades).resize((width, height), Image.Resampling.NEAREST), (left, top))
        draw.rectangle((left - 1, top - 1, left + width, top + height), outline="grey")
        if cell >= _TEXT_CELL:
            for i, row in enumerate(rows):
                draw.text((left - 4, top + cell * i + cell // 2), row, "black", font, anchor="rm")
            sheet.paste(_turned(words, cell, text, font), (left, top + height + 2))
    return np.asarray(sheet)


def _turned(words: Sequence[str], cell: int, length: int, font: Any) -> Image.Image:
    """Words that end below columns of ``cell`` pixels, read from the bottom up."""
    strip = Image.new("RGB", (length, cell * len(words)), "white")
    draw = ImageDraw.Draw(strip)
    for i, word in enumerate(words):
        draw.text((length - 2, cell * i + cell // 2), word, "black", font, anchor="rm")
    return strip.transpose(Image.Transpose.ROTATE_90)
