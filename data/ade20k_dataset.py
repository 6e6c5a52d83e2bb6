"""ADE20K, scene parsing archive: ``{images,annotations,instances}/``, split by ``_train_`` or ``_val_`` in the name."""
import argparse
import os

from data.image_files import Source
from data.pix2pix_dataset import Pix2pixDataset, Sources


class ADE20KDataset(Pix2pixDataset):
    """Class = stored value: 0 other, 1..150; published networks were trained without a shift."""

    instance_remedy = "run python make_instances.py --path DATA --dataset ade20k"

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        parser.set_defaults(preprocess_mode="resize_and_crop", load_size=286 if is_train else 256, crop_size=256,
                            display_winsize=256, label_nc=150, contain_dontcare_label=True)

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        part = "_train_" if opt.phase == "train" else "_val_"
        return Sources(*(Source(os.path.join(opt.dataroot, kind), part=part, recursive=True)
                        for kind in ("annotations", "images", "instances")))
