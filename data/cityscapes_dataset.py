"""Cityscapes, fine annotations: ``leftImg8bit/{train,val}/CITY/`` and ``gtFine/{train,val}/CITY/``."""
import os
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources
from data.image_files import Source
from options.options import Options

_OWN_IDS = "_instanceIds.png"
_RENUMBERED_IDS = "_instanceReIds.png"
_NOT_EVALUATED = frozenset({*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 34})  # what is left are the 19 train ids


class Cityscapes(DatasetKind):
    """INADE reads the renumbered ``_instanceReIds.png``, SPADE the data set's own ``_instanceIds.png``."""

    class_names = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
                   "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge",
                   "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky",
                   "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")
    instance_remedy = "run python make_instances.py --path DATA --dataset cityscapes"
    instances_made_from = f"gtFine/*/*/*{_OWN_IDS}"
    has_objects = True

    def sources(self, opt: Options) -> Sources:
        split = "train" if opt.phase == "train" else "val"
        annotations = os.path.join(opt.dataroot, "gtFine", split)
        photos = os.path.join(opt.dataroot, "leftImg8bit", split)
        ids = _RENUMBERED_IDS if opt.norm_mode == "inade" else _OWN_IDS
        return Sources(Source(annotations, ending="_labelIds.png", recursive=True),
                       Source(photos, ending="_leftImg8bit.png", recursive=True),
                       Source(annotations, ending=ids, recursive=True))

    def pairing_key(self, path: str) -> str:
        return "_".join(os.path.basename(path).split("_")[:3])  # city, sequence, frame

    def doubts(self, shares: dict[int, float]) -> list[str]:
        return ["no id is above 19, besides 255: these seem to be train ids (0..18), not the data set's own (0..33), "
                "in which the sky is 23 and a car 26; take *_labelIds.png as distributed, or give --label_map"
                ] if shares and all(i <= 19 or i == 255 for i in shares) else []

    def ignored_ids(self, opt: Options) -> set[int]:
        return super().ignored_ids(opt) | _NOT_EVALUATED

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        for path in Source(os.path.join(root, "gtFine"), ending=_OWN_IDS, recursive=True).files():
            yield InstanceJob(path, path[:-len(_OWN_IDS)] + _RENUMBERED_IDS)
