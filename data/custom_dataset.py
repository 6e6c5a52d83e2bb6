"""One's own data: three folders, or ``{train,val}_{img,label,inst}/`` under --dataroot."""
import argparse
import os

from data.image_files import Source
from data.pix2pix_dataset import Pix2pixDataset, Sources
from util.errors import UserError


class CustomDataset(Pix2pixDataset):
    """Instance maps are optional: the label maps serve where there are none."""

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        parser.add_argument("--label_dir", help="folder of label maps; default: {train,val}_label under --dataroot")
        parser.add_argument("--image_dir", help="folder of photos that belong to --label_dir")
        parser.add_argument("--instance_dir", help="folder of instance maps that belong to --label_dir")
        parser.set_defaults(preprocess_mode="resize_and_crop", load_size=286 if is_train else 256, crop_size=256,
                            display_winsize=256, label_nc=13)

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        if opt.label_dir:
            return Sources(*(Source(folder) if folder else None
                            for folder in (opt.label_dir, opt.image_dir, opt.instance_dir)))
        if opt.image_dir or opt.instance_dir:
            raise UserError("--image_dir and --instance_dir need --label_dir")
        sources = Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "val")
        return sources if os.path.isdir(sources.instance.folder) else sources._replace(instance=None)
