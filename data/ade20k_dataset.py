"""ADE20K, scene parsing archive: ``{images,annotations,instances}/``, split by ``_train_`` or ``_val_`` in the name."""
import os
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored
from data.image_files import Source
from options.options import Options


class ADE20K(DatasetKind):
    """The class is the stored value: 0 other, 1..150. Published networks were trained without a shift."""

    instance_remedy = "run python make_instances.py --path DATA --dataset ade20k"
    instances_made_from = "annotations/*/*.png"

    def sources(self, opt: Options) -> Sources:
        part = "_train_" if opt.phase == "train" else "_val_"
        return Sources(*(Source(os.path.join(opt.dataroot, kind), part=part, recursive=True)
                         for kind in ("annotations", "images", "instances")))

    def ignored_ids(self, opt: Options) -> set[int]:
        return {0}  # 150 is a class, also where --contain_dontcare_label counts it as the last

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        return mirrored(Source(os.path.join(root, "annotations"), recursive=True), os.path.join(root, "instances"))
