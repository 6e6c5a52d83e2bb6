"""From a file's size to the network's: scaling, cropping and flipping, chosen once for photo, label and instances."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from data.image_files import check_size
from options.options import UPSAMPLINGS, Options
from util.errors import UserError

Size = tuple[int, int]  # width, height, as in PIL

_MULTIPLE = 32  # of the sides with --preprocess_mode none, so that they can be halved five times


def _scale_width(width: int, height: int, opt: Options) -> Size:
    return opt.load_size, max(1, opt.load_size * height // width)


def _scale_shortside(width: int, height: int, opt: Options) -> Size:
    short = min(width, height)
    return opt.load_size * width // short, opt.load_size * height // short


# --preprocess_mode: the size that an image of width x height is scaled to. Names that end in "crop" crop afterwards.
SCALED_SIZE: dict[str, Callable[[int, int, Options], Size]] = {
    "resize_and_crop": lambda width, height, opt: (opt.load_size, opt.load_size),
    "crop": lambda width, height, opt: (width, height),
    "scale_width": _scale_width,
    "scale_width_and_crop": _scale_width,
    "scale_shortside": _scale_shortside,
    "scale_shortside_and_crop": _scale_shortside,
    "fixed": lambda width, height, opt: (opt.crop_size, round(opt.crop_size / opt.aspect_ratio)),
    "none": lambda width, height, opt: tuple(max(1, round(side / _MULTIPLE)) * _MULTIPLE for side in (width, height)),
}


@dataclass(frozen=True)
class Geometry:
    """Scale to ``size``, then crop to ``box`` (left, upper, right, lower), then flip left to right."""

    size: Size
    box: tuple[int, int, int, int]
    flip: bool

    def apply(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        if image.size != self.size:
            image = image.resize(self.size, resample)
        if self.box != (0, 0, *self.size):
            image = image.crop(self.box)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else image

    def apply_to_photo(self, photo: Image.Image) -> torch.Tensor:
        """RGB photo to float32 [3, H, W] in [-1, 1]; bicubic."""
        pixels = np.array(self.apply(photo, Image.Resampling.BICUBIC))
        channels = torch.from_numpy(pixels).permute(2, 0, 1)
        return channels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)

    def apply_to_ids(self, ids: np.ndarray) -> torch.Tensor:
        """Ids [h, w] (uint8 or int32) to a tensor [1, H, W] of the same type; nearest neighbour."""
        return torch.from_numpy(np.array(self.apply(Image.fromarray(ids), Image.Resampling.NEAREST)))[None]


def check_sizes(opt: Options) -> None:
    """Refuse sizes that do not go together, whatever the images are.

    :raises UserError: scaled images are smaller than the crop, or crops are not of the generator's size.
    """
    mode = opt.preprocess_mode
    if mode.endswith("crop") and mode != "crop" and opt.load_size < opt.crop_size:
        raise UserError(f"--load_size {opt.load_size} is smaller than --crop_size {opt.crop_size}: give a larger one")
    height, width = opt.image_size
    expected = SCALED_SIZE[mode](0, 0, opt)[1] if mode == "fixed" else opt.crop_size
    if mode != "none" and height != expected:
        raise UserError(f"--aspect_ratio {opt.aspect_ratio}: the generator makes images of {width}x{height}, but "
                        f"images are scaled to {opt.crop_size}x{expected} with --preprocess_mode {mode}; change one of "
                        "--aspect_ratio, --crop_size, --preprocess_mode: "
                        f"{nearest_size((opt.crop_size, expected), opt)}")


def nearest_size(size: Size, opt: Options) -> str:
    """The options that give the generator's size nearest to ``size``, in words."""
    multiple = 2 ** UPSAMPLINGS[opt.num_upsampling_layers]
    width, height = (max(1, round(side / multiple)) * multiple for side in size)
    exact = width / height
    ratio = next((short for digits in range(1, 16)
                  if _makes((short := round(exact, digits)), width, height, multiple)), exact)
    mode = "" if opt.preprocess_mode == "fixed" or width == height else "--preprocess_mode fixed "
    return f"{mode}--crop_size {width} --aspect_ratio {ratio} give {width}x{height}"


def _makes(ratio: float, width: int, height: int, multiple: int) -> bool:
    """Whether --aspect_ratio ``ratio`` is exact enough for data and generator."""
    return ratio > 0 and round(width / ratio) == height == round(width // multiple / ratio) * multiple


def choose_geometry(size: Size, opt: Options, random: np.random.Generator | None, name: str) -> Geometry:
    """The geometry for a label map of ``size`` by --preprocess_mode, --load_size, --crop_size, --aspect_ratio.

    :param random: chooses crop and flip (unless --no_flip). None crops the centre and never flips.
    :raises UserError: the image is smaller than the crop, or far too large when it is scaled.
    """
    mode = opt.preprocess_mode
    scaled = check_size(*SCALED_SIZE[mode](*size, opt), name, f"--preprocess_mode {mode}")
    cropped = (opt.crop_size, opt.crop_size) if mode.endswith("crop") else scaled
    room = (scaled[0] - cropped[0], scaled[1] - cropped[1])
    if min(room) < 0:
        remedy = "give a smaller --crop_size" if mode == "crop" else "give a larger --load_size"
        raise UserError(f"{name}: becomes {scaled[0]}x{scaled[1]} with --preprocess_mode {mode}, smaller than the crop "
                        f"of {cropped[0]}x{cropped[1]}; {remedy} or --preprocess_mode resize_and_crop")
    if random is None:
        left, upper, flip = room[0] // 2, room[1] // 2, False
    else:
        left, upper, flip = (int(random.integers(room[0] + 1)), int(random.integers(room[1] + 1)),
                             bool(random.random() < 0.5) and not opt.no_flip)
    return Geometry(scaled, (left, upper, left + cropped[0], upper + cropped[1]), flip)
