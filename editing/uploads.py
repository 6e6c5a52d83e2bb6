"""Files that visitors of the demo upload: decoded by the reader of all image files, in memory."""
import os
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.image_files import read_image, to_instances, to_rgb, turned
from data.sample import SampleReader
from data.transforms import choose_geometry
from models.batches import Batch
from models.layout_styles import LayoutStyles
from models.synthesis import Synthesizer
from util.errors import UserError

KINDS = ("photo", "label", "instance", "styles")
MOST_BYTES = 16 * 2**20
MOST_PIXELS = 2**24  # they take 50 MB while they are decoded
MOST_INSTANCES = 256  # the data sets' 8 bits; each has styles, in every step of every visitor
MOST_LETTERS = 80  # of a name that is shown


class Upload(NamedTuple):
    """An image at the network's size: a photo [H, W, 3] uint8, or ids [H, W]; with its file's name and size (width,
    height). Of styles, the file's bytes [N] instead."""

    name: str
    size: tuple[int, int]
    pixels: np.ndarray


def take_upload(content: bytes, name: str, kind: str, reader: SampleReader) -> Upload:
    """Read a file of one of ``KINDS`` that was uploaded as ``name``, by a reader with the options of the network.

    :raises UserError: it is too large, or no such file; in words for people who see the page, not the command line.
    """
    name = os.path.basename(name)[-MOST_LETTERS:] or "file"
    if kind not in KINDS:
        raise UserError(f"{name}: there are no uploads of the kind {kind[:MOST_LETTERS]}")
    if len(content) > MOST_BYTES:
        raise UserError(f"{name}: more than {MOST_BYTES >> 20} MB; make it smaller")
    if kind == "styles":
        read_styles(content, name, reader)
        return Upload(name, (0, 0), np.frombuffer(content, np.uint8))
    try:
        image = turned(read_image(name, MOST_PIXELS, content))
        if kind == "photo":
            pixels = to_rgb(image, name)
        else:
            ids = (reader.to_classes(reader.label_ids(image, name), name) if kind == "label"
                   else to_instances(image, name))
            pixels = ids.astype(np.int32)
    except UserError as error:  # whose remedies are a command line's
        problem = re.split(r"; |: (?:replace|fix) |, or if its colours", str(error), maxsplit=1)[0]
        raise UserError(f"{problem}; {_NEEDED[kind]}") from error
    geometry = choose_geometry(image.size, reader.opt, None, name)
    height, width = reader.opt.image_size
    left, upper, right, lower = geometry.box
    if (right - left, lower - upper) != (width, height):  # such networks draw one size
        raise UserError(f"{name}: would become {right - left}x{lower - upper}, but pictures here are {width}x{height}; "
                        "crop it to this shape")
    if kind == "photo":
        return Upload(name, image.size, np.asarray(geometry.apply(pixels, Image.Resampling.BICUBIC)))
    pixels = geometry.apply_to_ids(pixels)[0].numpy()
    if kind == "instance":
        check_instances(pixels, name)
    return Upload(name, image.size, pixels)


_NEEDED = {"photo": "give a photo as PNG, JPEG or WebP of 8 bits",
           "label": "give a PNG with one channel, whose values are the ids of this model's classes",
           "instance": "give a PNG with one channel, where every instance has a number of its own"}


def read_styles(content: bytes, name: str, reader: SampleReader) -> LayoutStyles:
    """The styles of a download. :raises UserError: it is no such file, or of other networks."""
    try:
        return LayoutStyles.parse(content, name, reader.opt.z_dim, reader.opt.noise_nc, MOST_BYTES)
    except UserError as error:
        raise UserError(f"{name}: these looks are not from this model; give the styles.npz of a download") from error


def check_instances(ids: np.ndarray, name: str, most: int = MOST_INSTANCES) -> None:
    """Refuse a layout [H, W] of more instances than the page takes. :raises UserError: there are more."""
    if (count := len(np.unique(ids))) > most:
        raise UserError(f"{name}: has {count} instances, but the page takes at most {most}; join some of them")


def layout_of(uploads: dict[str, Upload], synthesizer: Synthesizer, with_photo: bool) -> Batch:
    """The layout that was uploaded, maybe with its photo. :raises UserError: no label map, or files of other sizes."""
    files = {kind: uploads[kind] for kind in KINDS if kind in uploads and (with_photo or kind != "photo")}
    if "label" not in files:
        raise UserError("there is no label map: drop one first")
    for upload in files.values():
        if upload.size != files["label"].size:
            raise UserError("{}: {}x{}, but its label map {} is {}x{}; bring both to one size".format(
                upload.name, *upload.size, files["label"].name, *files["label"].size))
    label, instance, photo = (files[kind].pixels if kind in files else None for kind in ("label", "instance", "photo"))
    return synthesizer.layout(label, instance, photo)
