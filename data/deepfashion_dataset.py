"""DeepFashion: ``{train,test}_{img,label,inst}/``."""
import argparse

from data.pix2pix_dataset import Pix2pixDataset, Sources


class DeepFashionDataset(Pix2pixDataset):
    instance_remedy = "run python make_instances.py --path DATA --dataset deepfashion"

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        parser.set_defaults(preprocess_mode="resize_and_crop", load_size=256, crop_size=256, display_winsize=256,
                            label_nc=8, noise_nc=8)

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        return Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "test")
