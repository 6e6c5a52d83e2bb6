"""One sample: from a label map, a photo and an instance map to the tensors that the networks take."""
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data.image_files import check_ids, read_ids, read_image, read_photo, renumber, to_ids, to_rgb
from data.kinds import DATASETS
from data.label_colors import DONT_CARE, read_label_colors
from data.transforms import Size, choose_geometry
from options.options import Options
from util.errors import UserError


class Files(NamedTuple):
    """Paths of one sample; None for what it does not have."""

    label: str
    photo: str | None = None
    instance: str | None = None


class SampleReader:
    """Makes samples of files or arrays, as the options of the data say. A sample is a dict of

    ``label`` [1, H, W] class ids below C, uint8 (int32 if C > 256). 255 became ``label_nc`` with
    --contain_dontcare_label.
    ``instance`` [1, H, W] int32 instance ids. If the map has ids above 255, they are renumbered 0..n-1. Without an
    instance map, the label map serves.
    ``image`` [3, H, W] float32 in [-1, 1]: the photo. Missing if there is none.
    ``path`` of the photo, or else of the label map.

    :raises UserError: the table of --label_colors cannot be read.
    """

    def __init__(self, opt: Options):
        self.opt = opt
        self.kind = DATASETS[opt.dataset_mode]
        self.label_colors = read_label_colors(opt.label_colors) if opt.label_colors else None

    def read(self, files: Files, random: np.random.Generator | None = None) -> dict[str, Any]:
        """The sample of ``files``.

        :param random: chooses crop and flip. None crops the centre and never flips.
        :raises UserError: a file cannot be used.
        """
        label = self.label_ids(read_image(files.label), files.label)
        instance = read_ids(files.instance) if files.instance else None
        photo = read_photo(files.photo) if files.photo else None
        return {**self._sample(label, instance, photo, random, files), "path": files.photo or files.label}

    def assemble(self, label: np.ndarray, instance: np.ndarray | None = None,
                 photo: Image.Image | np.ndarray | None = None, random: np.random.Generator | None = None,
                 name: str = "layout") -> dict[str, Any]:
        """The sample of a layout in memory.

        :param label: whole numbers [H, W] as a label file holds them.
        :param instance: whole numbers [H, W].
        :param photo: an image, or uint8 RGB [H, W, 3].
        :param random: as for :meth:`read`.
        :param name: what to call the layout in errors; the sample's ``path``.
        :raises UserError: an array of another form, ids that are not classes, or sizes that differ.
        """
        names = Files(name, f"{name} (photo)", f"{name} (instance map)")
        label = check_ids(np.asarray(label), name)
        instance = None if instance is None else check_ids(np.asarray(instance), names.instance)
        photo = None if photo is None else _rgb(photo, names.photo)
        return {**self._sample(label, instance, photo, random, names), "path": name}

    # ---- the steps, which the check of a data set takes one by one ----

    def label_ids(self, image: Image.Image, path: str) -> np.ndarray:
        """The ids [H, W] of a label file, before they become classes."""
        return to_ids(image, path, self.label_colors)

    def to_classes(self, ids: np.ndarray, name: str) -> np.ndarray:
        """Class ids [H, W], all below the number of classes; uint8, or int32 for more than 256 classes.

        :raises UserError: ids that are not classes.
        """
        num_classes = self.opt.num_classes
        if num_classes > 256:
            ids = ids.astype(np.int32)
        if self.opt.contain_dontcare_label:
            ids = np.where(ids == DONT_CARE, ids.dtype.type(self.opt.label_nc), ids)
        if ids.max() >= num_classes:
            raise UserError(_outside_problem(name, np.unique(ids[ids >= num_classes]).tolist(), num_classes))
        return ids if num_classes > 256 else ids.astype(np.uint8, copy=False)

    def check_photo_size(self, size: Size, label_size: Size, names: Files) -> None:
        """Refuse a photo that differs in size from its label map, or in shape where it may be larger."""
        same_shape = size[0] * label_size[1] == size[1] * label_size[0]
        if size != label_size and not (self.kind.photos_may_be_larger and same_shape):
            raise UserError(_size_problem(names.photo, size, names.label, label_size) + "bring both to one size")

    def check_instance_size(self, size: Size, label_size: Size, names: Files) -> None:
        """Refuse an instance map that differs in size from its label map."""
        if size != label_size:
            raise UserError(_size_problem(names.instance, size, names.label, label_size)
                            + "make the instance map anew")

    def _sample(self, label: np.ndarray, instance: np.ndarray | None, photo: Image.Image | None,
                random: np.random.Generator | None, names: Files) -> dict[str, Any]:
        size = label.shape[::-1]  # as in PIL
        label = self.to_classes(label, names.label)
        geometry = choose_geometry(size, self.opt, random, names.label)
        if instance is not None:
            self.check_instance_size(instance.shape[::-1], size, names)
        sample = {"label": geometry.apply_to_ids(label),
                  "instance": geometry.apply_to_ids(_compact(label if instance is None else instance)).int()}
        if photo is not None:
            self.check_photo_size(photo.size, size, names)
            sample["image"] = geometry.apply_to_photo(photo)
        return sample


def _rgb(photo: Image.Image | np.ndarray, name: str) -> Image.Image:
    if isinstance(photo, Image.Image):
        return to_rgb(photo, name)
    pixels = np.asarray(photo)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UserError(f"{name}: an array of {pixels.dtype} of the shape {list(pixels.shape)}; give RGB as uint8 "
                        "[height, width, 3]")
    return Image.fromarray(pixels)


def _outside_problem(name: str, ids: list[int], num_classes: int) -> str:
    """What is wrong with a label map that has ``ids``, ascending, outside the classes."""
    shown = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    remedy = f"--label_nc {ids[-1] + 1}"
    if ids[-1] == DONT_CARE:
        others = f" --label_nc {ids[-2] + 1}" if len(ids) > 1 else ""
        remedy = f"--contain_dontcare_label{others} if 255 means don't care, or {remedy}"
    return (f"{name}: has the label id{'s' if len(ids) > 1 else ''} {shown}, but the {num_classes} classes are "
            f"0..{num_classes - 1}; mend the label map, or give {remedy}")


def _size_problem(name: str, size: Size, label_name: str, label_size: Size) -> str:
    return f"{name}: {size[0]}x{size[1]}, but its label map {label_name} is {label_size[0]}x{label_size[1]}; "


def _compact(ids: np.ndarray) -> np.ndarray:
    """Ids for networks: renumbered where there are some above 255; uint8 or int32."""
    if ids.dtype == np.uint8:
        return ids
    return (renumber(ids) if ids.max() > 255 else ids).astype(np.int32)
