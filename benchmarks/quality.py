r"""An offline yardstick: how good are a checkpoint's pictures of the example world?

    python -m benchmarks.quality --name scenes --checkpoints_dir quickstart/checkpoints --dataset_mode custom \
        --dataroot quickstart/world --label_nc 11 --load_size 64 --crop_size 64 --ngf 16 --noise_nc 16 --z_dim 64

Run it from the project's root. It needs no downloads. docs/evaluation.md says what the figures mean. Every one stands
beside what real pictures get, so that other data sets whose photos are at hand can be measured too.
"""
import argparse
import json
import math
import os
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from data import class_names, create_dataloader, create_dataset
from metrics.distances import fid
from metrics.diversity import Diversity, measure_layout
from metrics.looks import Pairs, look_distances
from metrics.perceptual import rgb_distance
from metrics.segmentation import Segmenter, confusion, faithfulness, segment, trained_segmenter
from metrics.statistics import FeatureStatistics
from models.synthesis import Synthesizer
from options import Options
from options.groups import Loading
from options.test_options import NetworkOptions
from util.arguments import count, integer
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.images import to_uint8
from util.seed import seed_everything


class QualityOptions(NetworkOptions):
    groups = (*NetworkOptions.groups, Loading)
    defaults = {**NetworkOptions.defaults, "seed": 0, "batchSize": 8,  # noqa: RUF012 (read only)
                "serial_batches": True, "no_flip": True}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("yardstick").add_argument
        add("--how_many", type=count, default=math.inf, help="number of layouts")
        add("--segmenter_epochs", type=integer(1), default=4,
            help="epochs that the segmentation network is trained for, once")
        add("--cache", metavar="DIR", default=os.path.join("~", ".cache", "inade-benchmark"),
            help="folder that keeps the trained segmentation network")
        add("--locality_layouts", type=integer(1), default=24, help="layouts in which single instances are resampled")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: the yardstick resamples instances; use inade")
        opt.use_vae = False  # styles are those of the prior
        opt.cache = os.path.expanduser(opt.cache)
        if opt.json:
            check_writable(opt.json)


@command
def main() -> None:
    opt = QualityOptions().parse()
    seed_everything(opt.seed)
    synthesizer = Synthesizer.from_options(opt)
    train = read_split(opt, "train")
    opt = opt.replace(max_dataset_size=int(min(opt.max_dataset_size, opt.how_many)))
    val = read_split(opt, opt.phase)
    segmenter = trained_segmenter(train.pictures, train.labels, opt.num_classes, opt.segmenter_epochs, opt.cache)
    fake = val._replace(pictures=synthesize(opt, synthesizer))
    figures = {
        "name": opt.name, "which_epoch": opt.which_epoch, "seed": opt.seed, "layouts": len(val.labels),
        **layout_figures(segmenter, train, val, fake, opt.num_classes),
        "styles": look_distances(train, val, fake, opt.seed, class_names(opt)),
        "locality": locality(opt, synthesizer),
    }
    print(describe(figures))
    if opt.json:
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")


def read_split(opt: Options, phase: str) -> Pairs:
    """All pairs of a split, at the size that the model makes, without flips or random crops."""
    loader = create_dataloader(opt.replace(phase=phase, needs_photos=True))
    parts = [(to_uint8(batch["image"]), batch["label"].to(torch.uint8), batch["instance"]) for batch in loader]
    pictures, labels, instances = (torch.cat(arrays) for arrays in zip(*parts, strict=True))
    return Pairs(pictures, labels[:, 0], instances[:, 0])


def synthesize(opt: Options, synthesizer: Synthesizer) -> Tensor:
    """One picture [N, 3, H, W] of every layout, in bytes, in styles of the prior."""
    batches = tqdm(create_dataloader(opt), desc="synthesizing", unit="batch", disable=None)
    return torch.cat([to_uint8(synthesizer.images(synthesizer.prepare(batch))).cpu() for batch in batches])


def layout_figures(segmenter: Segmenter, train: Pairs, val: Pairs, fake: Pairs, num_classes: int) -> dict[str, Any]:
    """Does the segmentation network see what was asked for, and how far are its features from those of real pictures?

    :param train: pictures that stand for real ones beside those of ``val``.
    :param fake: synthesized pictures of the layouts of ``val``.
    """
    scores, features = {}, {}
    for name, pairs in (("real", val), ("synthesized", fake)):
        found, features[name] = segment(segmenter, pairs.pictures)
        scores[name] = faithfulness(confusion(pairs.labels, found, num_classes))
    _, features["train"] = segment(segmenter, train.pictures[:len(val.pictures)])
    statistics = {name: FeatureStatistics(rows.shape[1]) for name, rows in features.items()}
    for name, rows in features.items():
        statistics[name].update(rows)
    return {"faithfulness": scores,
            "frechet": {name: fid(statistics[name], statistics["real"]) for name in ("train", "synthesized")}}


def locality(opt: Options, synthesizer: Synthesizer) -> dict[str, Any] | None:
    """Does a resampled instance change alone? Mean absolute change of colour, of 255, inside resampled instances and
    outside; None if no instance has an outside."""
    diversity, dataset = Diversity(), create_dataset(opt)
    layouts = tqdm(synthesizer.layouts(dataset, opt.locality_layouts), total=min(opt.locality_layouts, len(dataset)),
                   desc="resampling", unit="layout", disable=None)
    for index, (path, layout) in enumerate(layouts):
        diversity.add(measure_layout(synthesizer, layout, rgb_distance, opt.seed + index, num_samples=2,
                                     region_samples=2, batch_size=opt.batchSize, name=path))
    figures = diversity.figures({})
    inside, outside = figures["mISD"], figures["mOISD"]
    if outside is None:
        return None
    return {"inside": inside * 255, "outside": outside * 255, "ratio": inside / max(outside, 1e-12)}


def describe(figures: dict[str, Any]) -> str:
    """The figures as a table, in words."""
    scores, frechet, styles = figures["faithfulness"], figures["frechet"], figures["styles"]
    rows = [("", "synthesized", "real"),
            *((f"layout: {name}", f"{scores['synthesized'][name]:.3f}", f"{scores['real'][name]:.3f}")
              for name in ("mIoU", "accuracy")),
            ("Fréchet distance of features", f"{frechet['synthesized']:.3f}", f"{frechet['train']:.3f}")]
    if styles["real"] is not None:
        rows.append(("styles of instances: distance", f"{styles['synthesized']:.2f}", f"{styles['real']:.2f}"))
    rows += [(f"    {row['name'] or kind} ({row['instances']})", f"{row['synthesized']:.2f}", f"{row['real']:.2f}")
             for kind, row in styles["classes"].items()]
    lines = [f"{name:<34}{left:>12}{right:>8}" for name, left, right in rows]
    change = figures["locality"]
    if change:
        lines.append(f"change of a resampled instance: {change['inside']:.1f} of 255 inside, {change['outside']:.2f} "
                     f"outside: {change['ratio']:.1f} times")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
