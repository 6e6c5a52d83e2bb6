"""One's own data: three folders, or ``{train,val}_{img,label,inst}/`` under --dataroot."""
import os
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored_splits
from data.image_files import Source
from options.options import Options
from util.errors import UserError


class Custom(DatasetKind):
    """Instance maps are optional. Where there are none, the label maps serve."""

    instance_remedy = "give --no_instance to use the label maps as instance maps"
    instances_made_from = "{train,val}_label/*.png"
    instances_may_be_foreign = True
    turns_photos = True

    def sources(self, opt: Options) -> Sources:
        if opt.label_dir:
            return Sources(*(Source(folder) if folder else None
                             for folder in (opt.label_dir, opt.image_dir, opt.instance_dir)))
        if opt.image_dir or opt.instance_dir:
            raise UserError("--image_dir and --instance_dir need --label_dir")
        sources = Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "val")
        return sources if os.path.isdir(sources.instance.folder) else sources._replace(instance=None)

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        return mirrored_splits(root, ("train", "val"))
