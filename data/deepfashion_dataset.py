"""DeepFashion: ``{train,test}_{img,label,inst}/``; label and instance maps are made from ``{train,test}_mask/``."""
import os
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored_splits
from options.options import Options


class DeepFashion(DatasetKind):
    """The class is the first channel of a mask."""

    instance_remedy = "run python make_instances.py --path DATA --dataset deepfashion"
    instances_made_from = "{train,test}_mask/*.png"

    def sources(self, opt: Options) -> Sources:
        return Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "test")

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        for split in ("train", "test"):
            for job in mirrored_splits(root, [split], "mask"):
                yield job._replace(label=os.path.join(root, f"{split}_label", os.path.basename(job.instance)))
