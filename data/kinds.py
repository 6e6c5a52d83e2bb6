"""The kinds of data sets by the name of --dataset_mode, and the names of their classes."""
import contextlib
import os

from data.ade20k_dataset import ADE20K
from data.celeba_dataset import CelebAMaskHQ
from data.cityscapes_dataset import Cityscapes
from data.coco_dataset import COCOStuff
from data.custom_dataset import Custom
from data.dataset_kind import DatasetKind
from data.deepfashion_dataset import DeepFashion
from data.label_colors import read_label_colors
from options.options import Options
from util.errors import UserError

DATASETS: dict[str, DatasetKind] = {
    "ade20k": ADE20K(),
    "celeba": CelebAMaskHQ(),
    "cityscapes": Cityscapes(),
    "coco": COCOStuff(),
    "custom": Custom(),
    "deepfashion": DeepFashion(),
}


def class_names(opt: Options) -> dict[int, str]:
    """Class id -> name, where it is known. The later of these has the last word: the data set's own names, a table
    ``classes.txt`` under --dataroot (left out if it is of another form), and the table of --label_colors.

    :raises UserError: the table of --label_colors cannot be read.
    """
    names = dict(enumerate(DATASETS[opt.dataset_mode].class_names))
    table = os.path.join(opt.dataroot, "classes.txt")
    if os.path.isfile(table):
        with contextlib.suppress(UserError):
            names |= read_label_colors(table).names
    return names | (read_label_colors(opt.label_colors).names if opt.label_colors else {})
