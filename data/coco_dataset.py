"""COCO-Stuff: ``{train,val}_{img,label,inst}/``."""
import argparse

from data.pix2pix_dataset import Pix2pixDataset, Sources


class CocoDataset(Pix2pixDataset):
    instance_remedy = ("run python make_instances.py --path DATA --dataset coco --split_components, or give "
                       "--no_instance to use the label maps")

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        parser.set_defaults(preprocess_mode="resize_and_crop", load_size=286 if is_train else 256, crop_size=256,
                            display_winsize=256, label_nc=182, contain_dontcare_label=True)

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        return Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "val")
