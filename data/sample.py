"""One sample: from a label map, a photo and an instance map to the tensors that the networks take."""
import itertools
from typing import Any

import numpy as np
from PIL import Image

from data.image_files import check_ids, orientation, palette_of, read_image, to_ids, to_instances, to_rgb, turned
from data.kinds import DATASETS
from data.label_colors import read_label_colors
from data.label_map import read_label_map
from data.listing import Files
from data.transforms import Size, choose_geometry
from options.options import Options
from util.errors import UserError, say_once, shortened
from util.ranks import renumber

_STRETCHED = 2  # one side against the other: more is told


class SampleReader:
    """Makes samples of files or arrays, as the options of the data say. A sample is a dict of

    ``label`` [1, H, W] class ids below C, uint8 (int32 if C > 256), as --label_map has them. 255, or --dont_care_id,
    became ``label_nc`` with --contain_dontcare_label.
    ``instance`` [1, H, W] int32 instance ids. If the map has ids above 255, they are renumbered 0..n-1. Without an
    instance map, the label map serves.
    ``image`` [3, H, W] float32 in [-1, 1]: the photo. Missing if there is none.
    ``path`` of the photo, or else of the label map.

    :raises UserError: the table of --label_colors or --label_map cannot be read, or an id would have two meanings.
    """

    def __init__(self, opt: Options):
        self.opt = opt
        self.kind = DATASETS[opt.dataset_mode]
        self.label_colors = read_label_colors(opt.label_colors) if opt.label_colors else None
        self.label_map = read_label_map(opt.label_map) if opt.label_map else None
        self._shown_as: dict[int, tuple[tuple[int, int, int], str]] = {}  # id -> a palette's colour, and its file
        if opt.contain_dontcare_label and opt.label_nc > 255 and opt.dont_care_id is None:
            raise UserError(f"--label_nc {opt.label_nc} --contain_dontcare_label: 255 would be a class as well as "
                            "don't care; give another --dont_care_id, such as 65535, or --dont_care_id 255 if it is no "
                            "class")
        if self.label_map and self.label_map.drops and not opt.contain_dontcare_label:
            raise UserError(f"--label_map {opt.label_map}: drops ids, that is, turns them into don't care; give "
                            "--contain_dontcare_label, or other ids in these lines")

    def read(self, files: Files, random: np.random.Generator | None = None) -> dict[str, Any]:
        """The sample of ``files``.

        :param random: chooses crop and flip. None crops the centre and never flips.
        :raises UserError: a file cannot be used.
        """
        images = {kind: read_image(path) for kind, path in files._asdict().items() if path}
        images, remark = self.upright(images, files)
        if remark:
            say_once("orientation", f"{remark}; this applies to others like it, too")
        label = self.label_ids(images["label"], files.label)
        self._note_doubts(images["label"], label, files.label)
        instance = to_instances(images["instance"], files.instance) if files.instance else None
        photo = to_rgb(images["photo"], files.photo) if files.photo else None
        return {**self._sample(label, instance, photo, random, files), "path": files.photo or files.label}

    def assemble(self, label: np.ndarray, instance: np.ndarray | None = None,
                 photo: Image.Image | np.ndarray | None = None, random: np.random.Generator | None = None,
                 name: str = "layout") -> dict[str, Any]:
        """The sample of a layout in memory.

        :param label: whole numbers [H, W] as a label file holds them, or as --label_map has made them.
        :param instance: whole numbers [H, W].
        :param photo: an image, or uint8 RGB [H, W, 3].
        :param random: as for :meth:`read`.
        :param name: what to call the layout in errors; the sample's ``path``.
        :raises UserError: an array of another form, ids that are not classes, or sizes that differ.
        """
        names = Files(name, f"{name} (photo)", f"{name} (instance map)")
        label = check_ids(np.asarray(label), name, min(0, self.opt.dont_care))
        instance = None if instance is None else check_ids(np.asarray(instance), names.instance)
        photo = None if photo is None else _rgb(photo, names.photo)
        return {**self._sample(label, instance, photo, random, names), "path": name}

    # ---- the steps, which the check of a data set takes one by one ----

    def upright(self, images: dict[str, Image.Image], files: Files) -> tuple[dict[str, Image.Image], str]:
        """The images of a sample, by the fields of :class:`Files`, turned by their orientation tags as --orientation
        says; and what to say of it, if anything has a tag."""
        tagged = [kind for kind, image in images.items() if orientation(image)]
        if not tagged:
            return images, ""
        as_shown = self.opt.orientation == "apply" or (self.opt.orientation == "auto" and self.kind.turns_photos)
        choices = [dict.fromkeys(tagged, as_shown)]
        if self.opt.orientation == "auto":
            choices += [dict(zip(tagged, turns, strict=True))
                        for turns in itertools.product((as_shown, not as_shown), repeat=len(tagged))]
        found = [{kind: turned(image) if turn.get(kind) else image for kind, image in images.items()}
                 for turn in choices]
        best = next((n for n, sample in enumerate(found) if self._fit(sample)), 0)
        fits = sum(self._fit(sample) for sample in found[1:])
        why = f"as is the rule with --dataset_mode {self.opt.dataset_mode}"
        if self.opt.orientation != "auto" or fits == 1:
            why = "because its size fits then" if self.opt.orientation == "auto" else "as --orientation says"
        kind = tagged[-1]
        how = "turned by its orientation tag (EXIF)" if choices[best][kind] else \
            "read as it is stored, without its orientation tag (EXIF)"
        return found[best], f"{getattr(files, kind)}: is {how}, {why}; see --orientation"

    def _fit(self, images: dict[str, Image.Image]) -> bool:
        label, photo, instance = (images[kind].size if kind in images else None for kind in Files._fields)
        return (label is None or photo is None or self._photo_fits(photo, label)) and instance in (None, label)

    def _note_doubts(self, image: Image.Image, ids: np.ndarray, path: str) -> None:
        """Say what is strange about a label map that can be read."""
        if self.label_map is None and self.kind.never:
            found = np.flatnonzero(np.bincount(ids[ids >= 0], minlength=256)[:256])
            if wrong := self.kind.never & set(found.tolist()):
                say_once("ids", f"{path}: has the id {min(wrong)}; {self.kind.never_because}")
        last = self.opt.label_nc
        if self.opt.contain_dontcare_label and not self.kind.last_id_is_class and self.opt.dont_care != last \
                and (ids == last).any():
            say_once("last", f"{path}: has the id {last}, which counts as don't care with --label_nc {last} "
                             "--contain_dontcare_label; if it is a class, give a larger --label_nc")
        if self.label_colors is None:
            for number, color in palette_of(image).items():
                other, before = self._shown_as.setdefault(number, (color, path))
                if other != color:
                    say_once("palettes", f"{path}: has another palette than {before}: the id {number} has the colours "
                                         f"{color} and {other}. Ids are positions in the palette; if the colours are "
                                         "what counts, give --label_colors")

    def label_ids(self, image: Image.Image, path: str) -> np.ndarray:
        """The ids [H, W] of a label file, as --label_map has them, before they become classes."""
        ids = to_ids(image, path, self.label_colors, least=min(0, self.opt.dont_care))
        return self.label_map.apply(ids, self.opt.dont_care, path) if self.label_map else ids

    def to_classes(self, ids: np.ndarray, name: str) -> np.ndarray:
        """Class ids [H, W], all below the number of classes; uint8, or int32 for more than 256 classes.

        :raises UserError: ids that are not classes.
        """
        num_classes = self.opt.num_classes
        if num_classes > 256:
            ids = ids.astype(np.int32)
        if self.opt.contain_dontcare_label:
            ids = np.where(ids == self.opt.dont_care, ids.dtype.type(self.opt.label_nc), ids)
        if ids.max() >= num_classes or ids.min() < 0:
            outside = np.unique(ids[(ids >= num_classes) | (ids < 0)]).tolist()
            raise UserError(_outside_problem(name, outside, num_classes))
        return ids if num_classes > 256 else ids.astype(np.uint8, copy=False)

    def check_photo_size(self, size: Size, label_size: Size, names: Files) -> None:
        """Refuse a photo that differs in size from its label map, or in shape where it may be larger."""
        if not self._photo_fits(size, label_size):
            raise UserError(_size_problem(names.photo, size, names.label, label_size) + "bring both to one size")

    def _photo_fits(self, size: Size, label_size: Size) -> bool:
        same_shape = size[0] * label_size[1] == size[1] * label_size[0]
        return size == label_size or (self.kind.photos_may_be_larger and same_shape)

    def check_instance_size(self, size: Size, label_size: Size, names: Files) -> None:
        """Refuse an instance map that differs in size from its label map."""
        if size != label_size:
            raise UserError(_size_problem(names.instance, size, names.label, label_size)
                            + "make the instance map again")

    def _sample(self, label: np.ndarray, instance: np.ndarray | None, photo: Image.Image | None,
                random: np.random.Generator | None, names: Files) -> dict[str, Any]:
        size = label.shape[::-1]  # as in PIL
        label = self.to_classes(label, names.label)
        geometry = choose_geometry(size, self.opt, random, names.label)
        if instance is not None:
            self.check_instance_size(instance.shape[::-1], size, names)
        stretch = geometry.size[0] * size[1] / (geometry.size[1] * size[0])
        if max(stretch, 1 / stretch) >= _STRETCHED:
            how = f"{max(stretch, 1 / stretch):.1f} times as {'wide' if stretch > 1 else 'high'} as it was"
            width, height = geometry.size
            say_once("stretch", f"{names.label}: {size[0]}x{size[1]} becomes {width}x{height} with --preprocess_mode "
                                f"{self.opt.preprocess_mode}: {how}, against the other side")
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
        raise UserError(f"{name}: is an array of {pixels.dtype} of shape {list(pixels.shape)}; give RGB as uint8 "
                        "[height, width, 3]")
    return Image.fromarray(pixels)


def _outside_problem(name: str, ids: list[int], num_classes: int) -> str:
    """What is wrong with a label map that has ``ids``, ascending, outside the classes."""
    remedy = f"--label_nc {ids[-1] + 1}"
    if ids[-1] == 255 or ids[-1] > num_classes:  # far from the others
        others = f" --label_nc {ids[-2] + 1}" if len(ids) > 1 else ""
        named = "" if ids[-1] == 255 else f" --dont_care_id {ids[-1]}"
        remedy = f"--contain_dontcare_label{named}{others} if {ids[-1]} means don't care, or {remedy}"
    return (f"{name}: has the label id{'s' if len(ids) > 1 else ''} {shortened([*map(str, ids)], 5)}, but the "
            f"{num_classes} classes are 0..{num_classes - 1}; fix the label map, or give {remedy}")


def _size_problem(name: str, size: Size, label_name: str, label_size: Size) -> str:
    return f"{name}: {size[0]}x{size[1]}, but its label map {label_name} is {label_size[0]}x{label_size[1]}; "


def _compact(ids: np.ndarray) -> np.ndarray:
    """Ids for networks: renumbered where there are some above 255; uint8 or int32."""
    if ids.dtype == np.uint8:
        return ids
    return (renumber(ids) if ids.max() > 255 else ids).astype(np.int32)
