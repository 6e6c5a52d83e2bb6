"""CelebAMask-HQ: ``{train,test}/{images,labels,instances}/``."""
import argparse
import os

from data.image_files import Source
from data.pix2pix_dataset import Pix2pixDataset, Sources


class CelebADataset(Pix2pixDataset):
    instance_remedy = "run python make_instances.py --path DATA --dataset celeba"
    class_names = ("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
                   "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth")
    photos_may_be_larger = True  # as distributed, photos are 1024x1024 and masks 512x512

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        parser.set_defaults(preprocess_mode="resize_and_crop", load_size=286 if is_train else 256, crop_size=256,
                            display_winsize=256, label_nc=19)

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        split = os.path.join(opt.dataroot, "train" if opt.phase == "train" else "test")
        return Sources(*(Source(os.path.join(split, kind)) for kind in ("labels", "images", "instances")))
