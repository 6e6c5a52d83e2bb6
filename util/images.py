"""From the generator's range to the pixels that are written and scored."""
import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from util.files import atomic_path

# of the formats that lose something
_QUALITY = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"quality": 90}}


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """The 8-bit pixels of generated images: what the PNG writer stores and what FID is measured on.

    :param images: floating point in [-1, 1], any shape, e.g. [B,3,H,W]; finite. Values outside are clamped.
    :returns: uint8 in 0..255, same shape and device. Fractions are cut off, not rounded, as in the published code;
        a pixel v stored as v/127.5 - 1 can therefore come back as v - 1.
    """
    return ((images.float() + 1) / 2.0 * 255.0).clamp(0, 255).to(torch.uint8)


def to_pictures(images: torch.Tensor) -> np.ndarray:
    """The pixels of :func:`to_uint8` as pictures [B, H, W, 3], for images [B, 3, H, W]."""
    return to_uint8(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def save_image(picture: np.ndarray, path: str, comment: str = "") -> None:
    """Write RGB or grey bytes [H, W(, 3)] as a whole file; its suffix says the format.

    :param comment: of a PNG, which :func:`~data.derived_files.read_note` reads.
    """
    settings = _QUALITY.get(os.path.splitext(path)[1], {})
    if comment:
        settings = {"pnginfo": PngInfo()}
        settings["pnginfo"].add_text("comment", comment)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, **settings)


def save_animation(pictures: Sequence[np.ndarray], path: str, milliseconds: int = 80) -> None:
    """Write RGB pictures [H, W, 3], each shown for ``milliseconds``, as an animated WebP that starts over for ever."""
    first, *others = map(Image.fromarray, pictures)
    with atomic_path(path) as temporary:
        first.save(temporary, "WEBP", save_all=True, append_images=others, duration=milliseconds, loop=0, quality=90)
