"""The classes that segmentation scores count, and what the ids of label maps and of networks have to do with them."""
from collections.abc import Collection

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.kinds import DATASETS, class_names
from data.label_map import read_label_map
from options.options import Options
from util.errors import UserError

NONE = 255  # in maps that networks found: no class


class LabelSpace:
    """K scored classes, numbered in the order of their ids in label maps: of Cityscapes' 35 the 19 "train ids", of
    ADE20K's 151 the 150 from 1 on, of COCO-Stuff's 182 the 171 that occur. Ids without a class become K.

    :param num_ids: ids of label maps, 0..num_ids-1.
    :param ignored: those that are not scored.
    :param names: of ids, where they are known.
    :param has_dont_care: whether the last id is "don't care", which networks need not know.
    :raises UserError: no class is left.
    """

    def __init__(self, num_ids: int, ignored: Collection[int], names: dict[int, str], has_dont_care: bool = False):
        ids = [number for number in range(num_ids) if number not in ignored]
        if not ids:
            raise UserError(f"--ignore_ids: leaves none of the {num_ids} ids to be scored; give fewer")
        self.num_ids, self.num_classes = num_ids, len(ids)
        self.num_labels = num_ids - has_dont_care
        self.names = [names.get(number, str(number)) for number in ids]
        self._class_of = torch.full((num_ids,), len(ids))
        self._class_of[ids] = torch.arange(len(ids))

    @classmethod
    def of(cls, opt: Options) -> "LabelSpace":
        """That of the data set, without the ids of --ignore_ids.

        :raises UserError: an id of --ignore_ids that label maps cannot have, or no class is left.
        """
        if wrong := [number for number in opt.ignore_ids if number >= opt.num_classes]:
            raise UserError(f"--ignore_ids {wrong[0]}: label maps have the ids 0..{opt.num_classes - 1}; leave it out, "
                            "or give --label_nc")
        ignored = DATASETS[opt.dataset_mode].ignored_ids(opt)
        if opt.label_map:
            ignored = read_label_map(opt.label_map).all_of(ignored) | ({opt.label_nc} & ignored)
        return cls(opt.num_classes, ignored | set(opt.ignore_ids), class_names(opt), opt.contain_dontcare_label)

    def classes(self, ids: Tensor) -> Tensor:
        """Class numbers, int64, K for none, of ids 0..num_ids-1 of label maps, any shape."""
        return self._class_of.to(ids.device)[ids.long()]

    def predicted(self, ids: np.ndarray | Tensor, numbering: str, source: str) -> Tensor:
        """Class numbers of a map that was found in a picture; 255 is none, unless it is an id.

        :param numbering: ``labels``: as in the label maps; ``classes``: 0..K-1.
        :param source: where the map comes from, for the error.
        :raises UserError: an id outside of that numbering.
        """
        ids = torch.as_tensor(ids).long()
        table = self._class_of if numbering == "labels" else torch.arange(self.num_classes)
        count = len(table)
        if count <= NONE:  # -1: no id at all
            table = F.pad(table, (0, NONE + 1 - count), value=-1)
            table[NONE] = self.num_classes
        outside = (ids < 0) | (ids >= len(table))
        classes = table.to(ids.device)[ids.masked_fill(outside, 0)]
        wrong = ids[outside | (classes < 0)]
        if wrong.numel():
            other = "classes" if numbering == "labels" else "labels"
            raise UserError(f"{source}: has the id {wrong[0]}, but with --prediction_ids {numbering} ids are "
                            f"0..{count - 1}, and 255 for none; give --prediction_ids {other}, or fix the prediction")
        return classes

    def found(self, scores: Tensor, source: str) -> Tensor:
        """Class numbers [B, H, W] where scores [B, C, H, W] are highest, of the K classes or of all ids, don't care
        among them or not.

        :param source: the network, for the error.
        :raises UserError: C is neither.
        """
        channels = scores.shape[1]
        if channels == self.num_classes:
            return scores.argmax(1)
        if channels in (self.num_ids, self.num_labels):
            return self.classes(scores.argmax(1))
        raise UserError(f"{source}: distinguishes {channels} classes, but the data set has {self.num_classes} scored "
                        f"classes among {self.num_ids} ids; name a network of this data set, or check --dataset_mode, "
                        "--label_nc and --ignore_ids")
