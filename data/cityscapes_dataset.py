"""Cityscapes, fine annotations: ``leftImg8bit/{train,val}/CITY/`` and ``gtFine/{train,val}/CITY/``."""
import argparse
import os

from data.image_files import Source
from data.pix2pix_dataset import Pix2pixDataset, Sources


class CityscapesDataset(Pix2pixDataset):
    """Instances: the renumbered ``_instanceReIds.png`` for INADE, the data set's own ``_instanceIds.png`` for SPADE."""

    instance_remedy = "run python make_instances.py --path DATA --dataset cityscapes"
    class_names = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
                   "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge",
                   "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky",
                   "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        parser.set_defaults(preprocess_mode="fixed", load_size=512, crop_size=512, aspect_ratio=2.0,
                            display_winsize=512, num_upsampling_layers="more", label_nc=35)

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        split = "train" if opt.phase == "train" else "val"
        annotations = os.path.join(opt.dataroot, "gtFine", split)
        photos = os.path.join(opt.dataroot, "leftImg8bit", split)
        ids = "_instanceReIds.png" if opt.norm_mode == "inade" else "_instanceIds.png"
        return Sources(Source(annotations, ending="_labelIds.png", recursive=True),
                      Source(photos, ending="_leftImg8bit.png", recursive=True),
                      Source(annotations, ending=ids, recursive=True))

    @staticmethod
    def pairing_key(path: str) -> str:
        return "_".join(os.path.basename(path).split("_")[:3])  # city, sequence, frame
