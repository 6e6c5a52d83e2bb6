"""An offline yardstick: how good are a checkpoint's pictures of the example world?

    python benchmarks/quality.py --name scenes --checkpoints_dir quickstart/checkpoints --dataset_mode custom \
        --dataroot quickstart/world --label_nc 11 --load_size 64 --crop_size 64 --ngf 16 --noise_nc 16 --z_dim 64

Takes the options of test.py and needs no downloads. docs/evaluation.md says what the figures mean. Every one stands
beside what real pictures get, so that other data sets whose photos are at hand can be measured too.
"""
import argparse
import json
import os
import sys
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from data import create_dataloader
from metrics.distances import fid
from metrics.segmentation import confusion, faithfulness, segment, trained_segmenter
from metrics.statistics import FeatureStatistics
from models.pix2pix_model import Pix2PixModel
from options import Options, TestOptions
from util.diversity import Diversity, class_names, measure_layout
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.images import to_uint8
from util.memory import keep_freed_memory
from util.perceptual import rgb_distance
from util.precision import autocast
from util.seed import seed_everything

LEAST_PIXELS = 16  # of an instance whose looks are measured
LEAST_INSTANCES = 8  # of a class whose looks are compared
LUMINANCE = np.array([0.299, 0.587, 0.114])


class QualityOptions(TestOptions):
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument
        add("--segmenter_epochs", type=int, default=4, help="epochs that the segmentation network is trained for, once")
        add("--cache", metavar="DIR", default=os.path.join("~", ".cache", "inade-benchmark"),
            help="folder that keeps the trained segmentation network")
        add("--locality_layouts", type=int, default=24, help="layouts in which single instances are resampled")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")
        parser.set_defaults(seed=0, batchSize=8, use_vae=False)

    def finish(self, opt: Options, given: set[str]) -> None:
        if opt.segmenter_epochs < 1 or opt.locality_layouts < 1:
            raise UserError("--segmenter_epochs and --locality_layouts must be at least 1")
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: the yardstick resamples instances; use inade")
        opt.cache = os.path.expanduser(opt.cache)
        opt.num_samples, opt.region_samples, opt.max_regions, opt.styles = 2, 2, 8, "prior"  # of measure_layout
        if opt.json:
            check_writable(opt.json)


class Pairs(NamedTuple):
    """A split in memory, as bytes: pictures [N, 3, H, W], labels [N, H, W]; instances [N, H, W] are integers."""

    pictures: Tensor
    labels: Tensor
    instances: Tensor


@command
def main() -> None:
    opt = QualityOptions().parse()
    seed_everything(opt.seed)
    keep_freed_memory()
    model = Pix2PixModel(opt)
    model.load(opt.which_epoch)
    train = read_split(opt, "train")
    opt = opt.replace(max_dataset_size=int(min(opt.max_dataset_size, opt.how_many)))
    val = read_split(opt, opt.phase)
    network = trained_segmenter(train.pictures, train.labels, opt.num_classes, opt.segmenter_epochs, opt.cache)
    fake = val._replace(pictures=synthesize(opt, model))
    figures = {
        "name": opt.name, "which_epoch": opt.which_epoch, "seed": opt.seed, "layouts": len(val.labels),
        **layout_figures(network, train, val, fake, opt.num_classes),
        **style_figures(train, val, fake, opt.seed, class_names(opt.dataroot)),
        **locality(opt, model),
    }
    print(describe(figures))
    if opt.json:
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")


def read_split(opt: Options, phase: str) -> Pairs:
    """All pairs of a split, at the size that the model makes, without flips or random crops."""
    loader = create_dataloader(opt.replace(phase=phase, use_vae=True))  # so that photos are read
    parts = [(to_uint8(batch["image"]), batch["label"].to(torch.uint8), batch["instance"]) for batch in loader]
    pictures, labels, instances = (torch.cat(arrays) for arrays in zip(*parts, strict=True))
    return Pairs(pictures, labels[:, 0], instances[:, 0])


def synthesize(opt: Options, model: Pix2PixModel) -> Tensor:
    """One picture [N, 3, H, W] of every layout, in bytes, in styles of the prior."""
    pictures = []
    for batch in tqdm(create_dataloader(opt), desc="synthesizing", unit="batch", disable=None):
        with autocast(opt):
            pictures.append(to_uint8(model.sample(batch)).cpu())
    return torch.cat(pictures)


# ---- layouts: does a segmentation network see what was asked for? ----

def layout_figures(network: Any, train: Pairs, val: Pairs, fake: Pairs, num_classes: int) -> dict[str, Any]:
    scores, features = {}, {}
    for name, pairs in (("real", val), ("synthesized", fake)):
        found, features[name] = segment(network, pairs.pictures)
        scores[name] = faithfulness(confusion(pairs.labels, found, num_classes))
    _, features["train"] = segment(network, train.pictures[:len(val.pictures)])
    return {"faithfulness": scores,
            "frechet": {name: fid(statistics(features[name]), statistics(features["real"]))
                        for name in ("train", "synthesized")}}


def statistics(features: Tensor) -> FeatureStatistics:
    gathered = FeatureStatistics(features.shape[1])
    gathered.update(features)
    return gathered


# ---- styles: do the instances of a class look as varied, and varied in the same way? ----

def looks(pairs: Pairs) -> dict[int, np.ndarray]:
    """Class -> the looks of its instances [n, 4]: mean colour, and standard deviation of the luminance, in 0..255."""
    found = defaultdict(list)
    for picture, label, instance in zip(*(array.numpy() for array in pairs), strict=True):
        picture = picture.transpose(1, 2, 0).astype(np.float64)
        for i in np.unique(instance):
            where = instance == i
            if where.sum() >= LEAST_PIXELS:
                pixels = picture[where]
                kind = np.bincount(label[where]).argmax()
                found[int(kind)].append([*pixels.mean(0), (pixels @ LUMINANCE).std()])
    return {kind: np.array(rows) for kind, rows in sorted(found.items())}


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, directions: int = 64, seed: int = 0) -> float:
    """Mean over random directions of the 1-Wasserstein distance of the projections of x [n, d] and y [m, d].

    Rabin et al., "Wasserstein Barycenter and its Application to Texture Mixing", 2011. In one dimension it is the area
    between the quantile functions.
    """
    axes = np.random.default_rng(seed).normal(size=(x.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    first, second = np.sort(x @ axes, axis=0), np.sort(y @ axes, axis=0)
    edges = np.union1d(np.arange(1, len(x) + 1) / len(x), np.arange(1, len(y) + 1) / len(y))
    widths, middles = np.diff(edges, prepend=0), edges - np.diff(edges, prepend=0) / 2
    rows = [np.minimum((middles * len(values)).astype(int), len(values) - 1) for values in (first, second)]
    return float((widths[:, None] * np.abs(first[rows[0]] - second[rows[1]])).sum(0).mean())


def style_figures(train: Pairs, val: Pairs, fake: Pairs, seed: int, names: dict[int, str]) -> dict[str, Any]:
    """Distances of looks, by class: synthesized to real, and between random parts of the training split as large."""
    real, synthesized, pool = looks(val), looks(fake), looks(train)
    random = np.random.default_rng(seed)
    classes = {}
    for kind, rows in real.items():
        halves = np.array_split(random.permutation(pool.get(kind, rows)), 2)
        if len(rows) < LEAST_INSTANCES or len(halves[1]) < LEAST_INSTANCES:
            continue
        classes[str(kind)] = {
            "name": names.get(kind), "instances": len(rows),
            "synthesized": sliced_wasserstein(rows, synthesized[kind]),
            "real": sliced_wasserstein(*(half[:len(rows)] for half in halves)),
        }
    means = {side: float(np.mean([row[side] for row in classes.values()])) if classes else None
             for side in ("synthesized", "real")}
    return {"styles": {**means, "classes": classes}}


# ---- locality: does a resampled instance change alone? ----

def locality(opt: Options, model: Pix2PixModel) -> dict[str, Any]:
    """Mean absolute change of colour, of 255, inside resampled instances and outside; None if none has an outside."""
    diversity = Diversity()
    loader = create_dataloader(opt.replace(batchSize=1))
    total = min(len(loader.dataset), opt.locality_layouts)
    for index, batch in zip(range(total), tqdm(loader, desc="resampling", unit="layout", total=total, disable=None),
                            strict=False):
        diversity.add(measure_layout(opt, model, rgb_distance, batch, opt.seed + index))
    figures = diversity.figures({})
    inside, outside = figures["mISD"], figures["mOISD"]
    if outside is None:
        return {"locality": None}
    return {"locality": {"inside": inside * 255, "outside": outside * 255, "ratio": inside / max(outside, 1e-12)}}


def describe(figures: dict[str, Any]) -> str:
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
