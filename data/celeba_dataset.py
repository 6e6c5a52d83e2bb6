"""CelebAMask-HQ: ``{train,test}/{images,labels,instances}/``."""
import os
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored
from data.image_files import Source
from options.options import Options

# what names of classes mean
IN_WORDS = {"eye_g": "glasses", "l_eye": "left eye", "r_eye": "right eye", "l_brow": "left brow",
            "r_brow": "right brow", "l_ear": "left ear", "r_ear": "right ear", "u_lip": "upper lip",
            "l_lip": "lower lip", "ear_r": "earring", "neck_l": "necklace", "cloth": "clothes"}


class CelebAMaskHQ(DatasetKind):
    class_names = ("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
                   "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth")
    photos_may_be_larger = True  # as distributed, photos are 1024x1024 and masks 512x512
    instance_remedy = "run python make_instances.py --path DATA --dataset celeba"
    instances_made_from = "{train,test}/labels/*.png"

    def doubts(self, shares: dict[int, float]) -> list[str]:
        return ["there is less of class 13, the hair, than of class 17, the neck: the parts seem to be numbered in "
                "another order (some tools have hair as 17); make the maps with python -m datasets.prepare_celebamask, "
                "or give --label_map"] if shares.get(13, 0) < shares.get(17, 0) else []

    def sources(self, opt: Options) -> Sources:
        split = os.path.join(opt.dataroot, "train" if opt.phase == "train" else "test")
        return Sources(*(Source(os.path.join(split, kind)) for kind in ("labels", "images", "instances")))

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        for split in ("train", "test"):
            yield from mirrored(Source(os.path.join(root, split, "labels")), os.path.join(root, split, "instances"))
