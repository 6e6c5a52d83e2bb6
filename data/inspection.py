"""Looking at every file of a data set and collecting all that is wrong, where training would stop at the first."""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from data.image_files import palette_of, read_image, to_instances, to_rgb
from data.kinds import DATASETS
from data.listing import by_key, same_name_problem, wants_instances
from data.sample import Files, SampleReader
from data.transforms import Size, choose_geometry, nearest_size
from options.options import Options
from util.errors import UserError
from util.ranks import ranked

UNPAIRED = "files without partner"
SAME_NAME = "files of one name"
UNREADABLE = "unreadable files"
NOT_IDS = "label and instance maps that are not maps of ids"
NOT_PHOTO = "photos that cannot be used"
OUTSIDE = "label maps with ids outside the classes"
SIZES = "files that differ in size from their label map"
GEOMETRY = "sizes that do not suit the options"


class Problem(NamedTuple):
    """Something at which training or testing would stop."""

    kind: str
    file: str
    message: str  # one line that names the file and the remedy


class Form(NamedTuple):
    """Mode (as Pillow names it) and size of an image."""

    mode: str
    size: Size


@dataclass
class Findings:
    """What was found in the files of one sample."""

    files: Files
    problems: list[Problem] = field(default_factory=list)
    forms: dict[str, Form] = field(default_factory=dict)  # by the fields of Files
    ids: list[int] = field(default_factory=list)  # in the label map, ascending
    pixels: list[int] = field(default_factory=list)  # of each of the ids
    instances: int | None = None
    spanning: int = 0  # instances that have pixels of several classes
    same_as_label: bool = False  # the instance map divides the image as the label map does
    thin: list[int] = field(default_factory=list)  # ids that lie on borders between lower and higher ones alone
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # id -> the colour that shows it
    turned: str = ""  # what was done about orientation tags

    def attempt(self, kind: str, file: str, function: Callable, *args: Any) -> Any:
        """The result of a function. None if it fails, which becomes a problem."""
        try:
            return function(*args)
        except UserError as error:
            self.problems.append(Problem(kind, file, str(error)))


def find(opt: Options) -> tuple[list[Files], list[Problem]]:
    """What there is of a data set whose files do not pair up: samples, some of them with parts missing.

    :raises UserError: the options do not say where the files are.
    """
    dataset_kind = DATASETS[opt.dataset_mode]
    sources = dataset_kind.sources(opt)
    if not wants_instances(opt):
        sources = sources._replace(instance=None)
    found = [source.files() if source else [] for source in sources]
    problems, groups = [], [by_key(paths, dataset_kind.pairing_key) for paths in found]
    for group in groups:
        for name, paths in group.items():
            if len(paths) > 1:
                problems.append(Problem(SAME_NAME, paths[0], same_name_problem(paths, name)))
    labels = groups[0]
    for kind, group in zip(("photo", "instance map"), groups[1:], strict=True):
        if group:  # where there are none at all, one line says so
            lonely = [(paths[0], kind) for name, paths in labels.items() if name not in group]
            lonely += [(paths[0], "label map") for name, paths in group.items() if name not in labels]
            problems += [Problem(UNPAIRED, path, f"{path}: has no {lack}; add or remove files so that each has its "
                                                 "partner")
                         for path, lack in lonely]
    names = dict.fromkeys(name for group in groups for name in group)
    return [Files(*(group.get(name, [None])[0] for group in groups)) for name in names], problems


def inspect(files: Files, reader: SampleReader) -> Findings:
    """Read the files of a sample, decoding all of them to the last pixel."""
    found = Findings(files)
    images = {kind: found.attempt(UNREADABLE, path, read_image, path)
              for kind, path in files._asdict().items() if path}
    images = {kind: image for kind, image in images.items() if image is not None}
    images, found.turned = reader.upright(images, files)
    found.forms = {kind: Form(image.mode, image.size) for kind, image in images.items()}
    label = instance = None
    if "label" in images:
        label = found.attempt(NOT_IDS, files.label, reader.label_ids, images["label"], files.label)
        found.attempt(GEOMETRY, files.label, check_geometry, images["label"].size, reader.opt, files.label)
    if "photo" in images:
        found.attempt(NOT_PHOTO, files.photo, to_rgb, images["photo"], files.photo)
    if "instance" in images:
        instance = found.attempt(NOT_IDS, files.instance, to_instances, images["instance"], files.instance)
    if label is not None:
        found.ids, found.pixels = count(label)
        found.thin = in_between(label)
        found.palette = {} if reader.label_colors else palette_of(images["label"])
        found.attempt(OUTSIDE, files.label, reader.to_classes, label, files.label)
    if "label" in images:
        for kind, check in (("photo", reader.check_photo_size), ("instance", reader.check_instance_size)):
            if kind in images:
                found.attempt(SIZES, getattr(files, kind), check, images[kind].size, images["label"].size, files)
    if instance is not None:
        found.instances = len(count(instance)[0])
        if label is not None and label.shape == instance.shape:
            found.spanning, found.same_as_label = compare(label, instance)
    return found


def in_between(ids: np.ndarray) -> list[int]:
    """The ids of a map that have no pixel all of whose eight neighbours are like it, and nine of ten of whose pixels
    have lower as well as higher neighbours: what interpolation and compression make of borders."""
    if min(ids.shape) < 3:
        return []
    centre, height, width = ids[1:-1, 1:-1], *ids.shape
    shifted = [ids[y:height - 2 + y, x:width - 2 + x] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    inside = np.logical_and.reduce([centre == other for other in shifted])
    thin = ~np.isin(centre, np.unique(centre[inside]))
    pixels = centre[thin]
    if not pixels.size:
        return []
    around = np.stack([other[thin] for other in shifted])
    between = (around < pixels).any(0) & (around > pixels).any(0)
    values, which = np.unique(pixels, return_inverse=True)
    return values[np.bincount(which, weights=between) >= 0.9 * np.bincount(which)].tolist()


def check_geometry(size: Size, opt: Options, path: str) -> None:
    """Refuse a label map of ``size`` that cannot become an input of the generator."""
    left, upper, right, lower = choose_geometry(size, opt, None, path).box
    height, width = opt.image_size
    if (right - left, lower - upper) != (width, height):
        raise UserError(f"{path}: {size[0]}x{size[1]} becomes {right - left}x{lower - upper} with --preprocess_mode "
                        f"{opt.preprocess_mode}, but the generator makes {width}x{height}; change --preprocess_mode, "
                        f"--crop_size or --aspect_ratio: {nearest_size((right - left, lower - upper), opt)}")


def count(ids: np.ndarray) -> tuple[list[int], list[int]]:
    """The values in a map, ascending, and how many pixels have each."""
    values, ranks = ranked(ids)
    return values.tolist(), np.bincount(ranks.ravel()).tolist()


def compare(label: np.ndarray, instance: np.ndarray) -> tuple[int, bool]:
    """How many instances have pixels of several classes, and whether both maps divide the image alike."""
    (classes, class_of), (instances, instance_of) = ranked(label), ranked(instance)
    pairs, _ = ranked(class_of.astype(np.int64) * instances.size + instance_of)
    spanning = np.count_nonzero(np.bincount(pairs % instances.size) > 1)
    return spanning, pairs.size == classes.size == instances.size
