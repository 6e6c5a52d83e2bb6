"""The kinds of data sets by the name of --dataset_mode, and the names of their classes."""
import contextlib
import os

import numpy as np

from data.ade20k_dataset import ADE20K
from data.celeba_dataset import CelebAMaskHQ
from data.cityscapes_dataset import Cityscapes
from data.coco_dataset import COCOStuff
from data.custom_dataset import Custom
from data.dataset_kind import DatasetKind
from data.deepfashion_dataset import DeepFashion
from data.label_colors import LabelColors, read_label_colors
from data.label_map import read_label_map
from options.options import Options
from util.errors import UserError
from util.files import read_text, write_atomically
from util.palette import label_palette

DATASETS: dict[str, DatasetKind] = {
    "ade20k": ADE20K(),
    "celeba": CelebAMaskHQ(),
    "cityscapes": Cityscapes(),
    "coco": COCOStuff(),
    "custom": Custom(),
    "deepfashion": DeepFashion(),
}

_NAMES = "class_names.txt"  # in the folder of an experiment


def class_names(opt: Options) -> dict[int, str]:
    """Class id -> name, where it is known. The later of these has the last word: the data set's own names, a table
    ``classes.txt`` under --dataroot (left out if it is of another form), and the table of --label_colors. --label_map
    has names for what it makes of these; else those of merged classes are joined.

    :raises UserError: a table cannot be read.
    """
    names = dict(enumerate(DATASETS[opt.dataset_mode].class_names))
    for table in _tables(opt):
        names |= table.names
    if opt.label_map:
        table = read_label_map(opt.label_map)
        names = table.merged(names) | table.names
    if opt.contain_dontcare_label:
        names.setdefault(opt.label_nc, "don't care")
    return names


def save_class_names(opt: Options, names: dict[int, str] | None = None) -> None:
    """Write the names of the classes (those of the data, if ``names`` has none) beside the networks, with which they
    are then compared."""
    names = names or class_names(opt)
    lines = [f"{number} {name}\n" for number, name in sorted(names.items()) if number < opt.num_classes]
    write_atomically(os.path.join(opt.folder, _NAMES), "".join(lines))


def saved_class_names(folder: str) -> dict[int, str]:
    """What :func:`save_class_names` wrote into ``folder``; empty if there is nothing."""
    path = os.path.join(folder, _NAMES)
    rows = [line.strip().partition(" ") for line in read_text(path).splitlines()] if os.path.isfile(path) else []
    return {int(number): name for number, _, name in rows if number.isdecimal() and name}


def check_class_names(opt: Options) -> None:
    """Refuse classes most of whose names are not those that the networks of --name were trained on; note a few."""
    trained, found = saved_class_names(opt.folder), class_names(opt)
    both = sorted(trained.keys() & found.keys() - ({opt.label_nc} if opt.contain_dontcare_label else set()))
    other = [number for number in both if trained[number] != found[number]]
    if not other:
        return
    shown = "; ".join(f"{number} is {trained[number]} there, {found[number]} here" for number in other[:3])
    line = f"{os.path.join(opt.folder, _NAMES)}: {len(other)} of {len(both)} classes of the networks have other " \
           f"names than those of the layouts: {shown}"
    if 2 * len(other) > len(both):
        raise UserError(f"{line}. Give layouts of the data set that the networks were trained on, or --label_map; if "
                        "the ids mean the same in spite of that, remove this file")
    print(f"note: {line}")


def class_colors(opt: Options) -> np.ndarray:
    """[C, 3] uint8: the colours in which layouts are shown. Those of the tables that :func:`class_names` reads, and of
    :func:`~util.palette.label_palette` where they have none.

    :raises UserError: the table of --label_colors cannot be read.
    """
    colors = label_palette(opt.num_classes).copy()
    new_of = read_label_map(opt.label_map).new_id if opt.label_map else lambda label: label
    for table in _tables(opt):
        for label, color in reversed(table.color_of.items()):  # of merged classes, the first shows
            number = opt.label_nc if label == opt.dont_care and opt.contain_dontcare_label else new_of(label)
            if number is not None and 0 <= number < len(colors):
                colors[number] = color
    return colors


def _tables(opt: Options) -> list[LabelColors]:
    tables = []
    path = os.path.join(opt.dataroot, "classes.txt")
    if os.path.isfile(path):
        with contextlib.suppress(UserError):
            tables.append(read_label_colors(path))
    return [*tables, read_label_colors(opt.label_colors)] if opt.label_colors else tables
