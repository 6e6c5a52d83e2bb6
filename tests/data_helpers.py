"""Made-up data sets of every kind, options to read them, and ways to spoil them."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from options import Options, TestOptions, TrainOptions
from util.errors import UserError

# paths of label map, photo and instance map, for a split ("train" or "val") and a number
TREES: dict[str, Callable[[str, int], tuple[str, str, str]]] = {
    "ade20k": lambda split, n: tuple(
        f"{kind}/{'training' if split == 'train' else 'validation'}/ADE_{split}_{n:08}.{suffix}"
        for kind, suffix in (("annotations", "png"), ("images", "jpg"), ("instances", "png"))),
    "cityscapes": lambda split, n: (f"gtFine/{split}/ulm/ulm_00_{n:02}_gtFine_labelIds.png",
                                    f"leftImg8bit/{split}/ulm/ulm_00_{n:02}_leftImg8bit.png",
                                    f"gtFine/{split}/ulm/ulm_00_{n:02}_gtFine_instanceReIds.png"),
    "celeba": lambda split, n: tuple(
        f"{split.replace('val', 'test')}/{kind}/{n}.{suffix}"
        for kind, suffix in (("labels", "png"), ("images", "jpg"), ("instances", "png"))),
    "deepfashion": lambda split, n: tuple(
        f"{split.replace('val', 'test')}_{kind}/{n}.{suffix}"
        for kind, suffix in (("label", "png"), ("img", "jpg"), ("inst", "png"))),
    "coco": lambda split, n: tuple(
        f"{split}_{kind}/{n:012}.{suffix}" for kind, suffix in (("label", "png"), ("img", "jpg"), ("inst", "png"))),
    "custom": lambda split, n: tuple(
        f"{split}_{kind}/scene {n} ä.{suffix}" for kind, suffix in (("label", "png"), ("img", "png"), ("inst", "png"))),
}
WHOLE = {"preprocess_mode": "none", "no_flip": True}  # made-up samples stay as they are


def options(mode: str, root: Path, phase: str = "train", **changes: object) -> Options:
    """Of train.py or test.py, with small sizes."""
    command = TrainOptions() if phase == "train" else TestOptions()
    opt = command.parse(["--dataset_mode", mode, "--dataroot", str(root), "--phase", phase, "--gpu_ids", "-1",
                         "--seed", "0", "--batchSize", "2"])
    opt = opt.replace(**{"preprocess_mode": "resize_and_crop", "load_size": 40, "crop_size": 32, "aspect_ratio": 1.0,
                         "num_upsampling_layers": "normal", **changes})
    return opt.replace(needs_photos=opt.isTrain or opt.use_vae)


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def made_up(n: int, height: int = 32, width: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label map of ids 0..6, a photo that is a function of label and instance, and an instance map."""
    random = np.random.default_rng(n)
    label = random.integers(0, 7, (height, width)).astype(np.uint8)
    instance = random.integers(0, 40, (height, width)).astype(np.uint8)
    return label, painted(label, instance), instance


def painted(label: np.ndarray, instance: np.ndarray) -> np.ndarray:
    return np.stack([label * 30, instance * 6, 255 - label], axis=-1).astype(np.uint8)


def build(root: Path, mode: str, split: str = "train", count: int = 3, **size) -> list[tuple[Path, Path, Path]]:
    """A data set of ``count`` made-up samples; their paths."""
    paths = []
    for n in range(count):
        paths.append(tuple(write(root / path, array)
                           for path, array in zip(TREES[mode](split, n), made_up(n, **size), strict=True)))
    return paths


def refusal(action: Callable) -> str:
    """The line with which ``action`` is refused."""
    try:
        action()
    except UserError as error:
        error.__traceback__ = None  # it keeps loaders alive, whose workers are slow to end in a garbage collection
        line = str(error)
    else:
        pytest.fail("not refused")
    assert "\n" not in line
    return line


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key] for key in a)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


RGB = np.zeros((32, 64, 3), np.uint8)
BAD_FILES = {  # which of label map, photo, instance map; what happens to it; what the line must say
    "truncated label": (0, truncate, "cannot read"),
    "truncated photo": (1, truncate, "cannot read"),
    "empty photo": (1, lambda path: path.write_bytes(b""), "cannot read"),
    "text as instance map": (2, lambda path: path.write_text("hello"), "cannot read"),
    "colour label": (0, lambda path: write(path, RGB), "colour image (mode RGB)"),
    "instance map that is transparent in part": (2, lambda path: write(path, np.dstack([RGB, made_up(0)[0]])),
                                                 "is partly transparent (mode RGBA)"),
    "JPEG label": (0, lambda path: Image.fromarray(RGB[..., 0]).save(path, "JPEG"), "JPEG compression alters ids"),
    "id of no class": (0, lambda path: write(path, RGB[..., 0] + 200), "label id 200"),
    "16-bit id of no class": (0, lambda path: write(path, RGB[..., 0] + np.uint16(256)), "label id 256"),
    "instance map of another size": (2, lambda path: write(path, RGB[:20, :, 0]), "64x20"),
    "photo of another size": (1, lambda path: write(path, RGB[:16, :32]), "32x16"),
    "negative id": (2, lambda path: Image.fromarray(RGB[..., 0] - np.int32(1)).save(path, "TIFF"), "has the id -1"),
}
