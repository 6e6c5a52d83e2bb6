"""COCO-Stuff: ``{train,val}_{img,label,inst}/``."""
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored_splits
from options.options import Options

_UNUSED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})  # of the 182 ids, those that no annotation has


class COCOStuff(DatasetKind):
    instance_remedy = ("run python make_instances.py --path DATA --dataset coco --split_components, or give "
                       "--no_instance to use the label maps")
    instances_made_from = "{train,val}_label/*.png"
    instances_may_be_foreign = True

    def sources(self, opt: Options) -> Sources:
        return Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "val")

    def ignored_ids(self, opt: Options) -> set[int]:
        return super().ignored_ids(opt) | _UNUSED

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        return mirrored_splits(root, ("train", "val"))
