"""Do synthesized pictures show what their layouts say? A segmentation network looks at them, and at the real ones:

    python segmentation_score.py --dataset_mode cityscapes --dataroot DATA --segmenter drn.pt \
        --synthesized results/EXP/test_latest/images/synthesized_image
    python segmentation_score.py --dataset_mode cityscapes --dataroot DATA --predictions SYNTHESIZED REAL

takes the options of test.py that concern data, and scores pictures at the size that test.py makes. docs/evaluation.md
says how.
"""
import argparse
import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import create_dataset
from data.image_files import Source, read_ids
from data.kinds import DATASETS
from data.label_space import LabelSpace
from data.listing import one_by_key
from data.pix2pix_dataset import Pix2pixDataset
from metrics.images import read_image
from metrics.lite0_segmenter import MOST_PAIRS, trained_lite0
from metrics.segmentation_scores import confusion, confusion_picture, describe, segmentation_scores
from metrics.segmenters import Segment, load_segmenter
from models.networks.efficientnet_lite import packaged_weights
from options import Options
from options.command_options import CommandOptions
from options.groups import Data, Device, Layouts
from util.arguments import count, integer, number
from util.device import use_device
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.images import save_image, to_uint8
from util.progress import progress

Side = Callable[[int, dict[str, Any]], Tensor]  # a sample's number and the sample -> class numbers [H, W] found


class SegmentationOptions(CommandOptions):
    one_process = True
    groups = (Layouts, Data, Device)
    defaults = {"phase": "test"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument_group("segmentation scores").add_argument
        add("--synthesized", metavar="DIR", default=None,
            help="folder of pictures written by test.py, .../images/synthesized_image")
        add("--segmenter", default="lite0",
            help="network that segments the pictures: a TorchScript file; transformers:MODEL or smp:MODEL (a folder, "
                 "or NAME@REVISION), if that package is installed; or lite0, which is first trained on the data "
                 "set's training split. TorchScript files are programs: use only those that you trust")
        add("--predictions", nargs=2, metavar=("SYNTHESIZED", "REAL"), default=None,
            help="folders of maps that another program predicted for the synthesized and the real pictures, instead "
                 "of --synthesized and --segmenter")
        add("--prediction_ids", default="labels", choices=["classes", "labels"],
            help="what ids mean in --predictions, and in the output of networks that return ids. labels: the same as "
                 "in label maps; classes: the scored classes, numbered from 0 (Cityscapes: train ids)")
        add("--ignore_ids", type=integer(0), nargs="+", default=[], metavar="ID",
            help="ids of label maps to leave out of the scores, in addition to those that the data set leaves out")
        add("--segmenter_mean", type=number(-math.inf), nargs=3, default=[0.485, 0.456, 0.406], metavar=("R", "G", "B"),
            help="mean of colours in 0..1 that TorchScript and smp networks expect to be subtracted; default: "
                 "ImageNet's")
        add("--segmenter_std", type=number(0, exclusive=True), nargs=3, default=[0.229, 0.224, 0.225],
            metavar=("R", "G", "B"), help="standard deviation that they expect to be divided by; default: ImageNet's")
        add("--cache", metavar="DIR", default=os.path.join("~", ".cache", "inade-benchmark"),
            help="folder to keep the trained lite0 in")
        add("--how_many", type=count, default=math.inf, help="number of layouts")
        add("--confusion", metavar="FILE", default=None, help="also draw the confusion matrices to this PNG file")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")

    def finish(self, opt: Options, given: set[str]) -> None:
        if opt.predictions and {"synthesized", "segmenter"} & given:
            raise UserError("--predictions: has maps of another program, so that --synthesized and --segmenter have no "
                            "effect; leave them out")
        if not opt.predictions and not opt.synthesized:
            raise UserError("--synthesized is missing: name the folder of the pictures to score")
        if not opt.predictions and opt.segmenter == "lite0" and opt.label_dir and "dataroot" not in given:
            raise UserError("--segmenter lite0: is trained on the training split of --dataroot; give --dataroot, or "
                            "another network")
        if "load_size" not in given:  # as in test.py: nothing is cropped
            opt.load_size = opt.crop_size
        opt.norm_mode, opt.no_instance = "spade", True  # instance maps are not read
        opt.use_vae = not opt.predictions  # photos are
        opt.cache = os.path.expanduser(opt.cache)
        for path in (opt.json, opt.confusion):
            if path:
                check_writable(path)
        if opt.confusion and not opt.confusion.lower().endswith(".png"):
            raise UserError(f"--confusion {opt.confusion}: must be a PNG file; give a name that ends in .png")


@command
def main() -> None:
    opt = SegmentationOptions().parse()
    use_device(opt.device, opt.tf32, opt.deterministic)
    space = LabelSpace.of(opt)
    dataset = create_dataset(opt)
    total = int(min(len(dataset), opt.how_many))
    sides = (from_predictions if opt.predictions else from_pictures)(opt, dataset, space, total)
    counts = {name: np.zeros([space.num_classes + 1] * 2, np.int64) for name in sides}
    for index in progress(range(total), doing="scoring", unit="layout"):
        sample = dataset[index]
        truth = space.classes(sample["label"][0])
        for name, side in sides.items():
            counts[name] += confusion(truth, side(index, sample).cpu(), space.num_classes + 1)
    report(opt, space, counts, total)


def from_pictures(opt: Options, dataset: Pix2pixDataset, space: LabelSpace, total: int) -> dict[str, Side]:
    """What a network finds in the synthesized and in the real pictures."""
    paths = partners(dataset, opt.synthesized, "synthesized picture", total)

    def synthesized(index: int, sample: dict[str, Any]) -> Tensor:
        picture = torch.from_numpy(read_image(paths[index])).permute(2, 0, 1)
        check_size(paths[index], picture.shape[1:], sample)
        return segment(picture[None])[0]

    def real(index: int, sample: dict[str, Any]) -> Tensor:
        return segment(to_uint8(sample["image"])[None])[0]

    check_size(paths[0], read_image(paths[0]).shape[:2], dataset[0])  # before a network is trained
    segment = lite0(opt, space) if opt.segmenter == "lite0" else load_segmenter(opt, space)
    return {"synthesized": synthesized, "real": real}


def from_predictions(opt: Options, dataset: Pix2pixDataset, space: LabelSpace, total: int) -> dict[str, Side]:
    """What another program has found in them."""
    def side(folder: str) -> Side:
        paths = partners(dataset, folder, "prediction", total)

        def read(index: int, sample: dict[str, Any]) -> Tensor:
            ids = read_ids(paths[index])
            check_size(paths[index], ids.shape, sample)
            return space.predicted(ids.astype(np.int64), opt.prediction_ids, paths[index])

        return read

    return dict(zip(("synthesized", "real"), map(side, opt.predictions), strict=True))


def partners(dataset: Pix2pixDataset, folder: str, kind: str, total: int) -> list[str]:
    """The files of ``folder`` that belong to the first ``total`` samples, by name.

    :raises UserError: one is missing, a file belongs to no sample, or two to the same.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: not a folder of {kind}s; check the path")
    key = DATASETS[dataset.opt.dataset_mode].pairing_key
    found = one_by_key(Source(folder, recursive=True).files(), key)
    wanted = [key(files.photo or files.label) for files in dataset.files]
    if missing := [name for name in wanted[:total] if name not in found]:
        raise UserError(f"{folder}: no {kind} for {len(missing)} of {total} layouts, such as {missing[0]}; draw all of "
                        "them, or give --how_many")
    if extra := sorted(found.keys() - set(wanted)):
        raise UserError(f"{found[extra[0]]}: belongs to no layout of the {dataset.opt.phase} split ({len(extra)} such "
                        "files); check --dataset_mode, --dataroot and --phase, or remove them")
    return [found[name] for name in wanted[:total]]


def check_size(path: str, size: tuple[int, int], sample: dict[str, Any]) -> None:
    """:raises UserError: a file is not (height, width) as large as the sample's label map becomes."""
    height, width = sample["label"].shape[1:]
    if tuple(size) != (height, width):
        raise UserError(f"{path}: is {size[1]}x{size[0]}, but its label map becomes {width}x{height} with these "
                        "options; give --crop_size, --aspect_ratio and --preprocess_mode as for test.py")


def lite0(opt: Options, space: LabelSpace) -> Segment:
    """The network that is trained on the real pairs of the training split."""
    packaged_weights()  # missing ones are reported before the split is read
    train = create_dataset(opt.replace(phase="train", label_dir=None, image_dir=None, instance_dir=None))
    chosen = range(0, len(train), -(-len(train) // MOST_PAIRS))
    samples = [train[index] for index in progress(chosen, doing="reading the training split", unit="pair")]
    for sample in samples:
        if sample["label"].shape != samples[0]["label"].shape:
            raise UserError(f"{sample['path']}: gets another size than {samples[0]['path']}, but lite0 needs pictures "
                            "of one size; give another --preprocess_mode")
    narrow = torch.uint8 if space.num_classes < 256 else torch.int32
    network = trained_lite0(torch.stack([to_uint8(sample["image"]) for sample in samples]),
                            torch.stack([space.classes(sample["label"][0]).to(narrow) for sample in samples]),
                            space.num_classes, opt.cache, opt.device, opt.use_amp)
    return lambda pictures: network(pictures.to(opt.device))


def report(opt: Options, space: LabelSpace, counts: dict[str, np.ndarray], total: int) -> None:
    """Print, and write, the figures of all pictures."""
    scores = {name: segmentation_scores(matrix) for name, matrix in counts.items()}
    print(describe(scores, space.names))
    if opt.json:
        figures = {"segmenter": opt.predictions or opt.segmenter, "pictures": opt.synthesized, "use_amp": opt.use_amp,
                   "dataset_mode": opt.dataset_mode, "phase": opt.phase, "size": opt.image_size, "layouts": total,
                   "ignore_ids": opt.ignore_ids, "classes": space.names, **scores,
                   "confusion": {name: matrix.tolist() for name, matrix in counts.items()}}
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")
    if opt.confusion:
        save_image(confusion_picture(counts, space.names), opt.confusion)


if __name__ == "__main__":
    main()
