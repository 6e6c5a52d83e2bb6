"""From the generator's range to the pixels that are written and scored."""
import numpy as np
import torch
from PIL import Image

from util.files import atomic_path


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


def save_image(picture: np.ndarray, path: str) -> None:
    """Write RGB or grey bytes [H, W(, 3)] as a whole file; its suffix says the format."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary)
