"""Do synthesized pictures show what their layouts say? A segmentation network looks at them, and at the real ones:

    python segmentation_score.py --name EXP --dataroot DATA --segmenter drn.pt \
        --synthesized results/EXP/test_latest/images/synthesized_image
    python segmentation_score.py --dataset_mode cityscapes --dataroot DATA --predictions SYNTHESIZED REAL

takes the options of test.py that concern data, with --name from the opt.txt of a run, and scores pictures at the size
that test.py makes. docs/evaluation.md says how.
"""
import json
import os
from collections.abc import Callable
from typing import Any

from data.command_line import refuse_mistakes
from options import Options
from options.segmentation_options import SegmentationOptions
from util.errors import UserError, command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(SegmentationOptions())

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
from util.device import use_device
from util.files import write_atomically
from util.images import save_image, to_uint8
from util.progress import progress

Side = Callable[[int, dict[str, Any]], Tensor]  # a sample's number and the sample -> class numbers [H, W] found


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
