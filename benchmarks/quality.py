r"""An offline yardstick: how good are a checkpoint's pictures?

    python -m benchmarks.quality --name scenes --checkpoints_dir quickstart/checkpoints --dataset_mode custom \
        --dataroot quickstart/world --label_nc 11 --load_size 64 --crop_size 64 --ngf 16 --noise_nc 16 --z_dim 64

Run it from the project's root. It needs no downloads. docs/evaluation.md says what the figures mean. Every one stands
beside what real pictures get. It works for every norm mode and data set; --lite0, --lite2 and --faces are meant for
photographs.
"""
import argparse
import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.judges import Lite2Judge, check_face_detector, evenly, faces_found
from benchmarks.looks import Pairs, look_distances
from benchmarks.segmenter import faithfulness, segment, trained_segmenter
from data import class_names, create_dataloader, create_dataset
from metrics.distances import fid
from metrics.diversity import Diversity, measure_layout
from metrics.extractors import LiteExtractor
from metrics.lite0_segmenter import trained_lite0
from metrics.perceptual import Lite0Distance, rgb_distance
from metrics.segmentation_scores import confusion
from metrics.statistics import FeatureStatistics
from models.batches import Batch, load_batches
from models.networks.efficientnet_lite import LITE2, packaged_weights
from models.networks.styles import Styles
from models.synthesis import Synthesizer
from options import Options
from options.groups import Loading
from options.test_options import NetworkOptions
from util.arguments import count, integer
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.images import to_uint8
from util.progress import progress
from util.seed import seed_everything

# pictures [N, 3, H, W], bytes -> classes of their pixels [N, H, W], and features [N, d]
Observer = Callable[[Tensor], tuple[Tensor, Tensor]]


class QualityOptions(NetworkOptions):
    one_process = True
    groups = (*NetworkOptions.groups, Loading)
    defaults = {**NetworkOptions.defaults, "seed": 0, "batchSize": 8,  # noqa: RUF012 (read only)
                "serial_batches": True, "no_flip": True}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("yardstick").add_argument
        add("--how_many", type=count, default=math.inf, help="number of layouts")
        add("--lite0", action="store_true", help="judge with EfficientNet-Lite0, which knows photographs")
        add("--lite2", action="store_true",
            help="also measure distances on EfficientNet-Lite2, which no loss is on, and how near training pictures "
                 "are")
        add("--nearest", metavar="FILE", default=None,
            help="with --lite2: also write a picture of the samples that are nearest to training pictures, with these")
        add("--faces", action="store_true",
            help="also count the pictures in which a detector finds a face (package facenet-pytorch)")
        add("--segmenter_epochs", type=integer(1), default=4,
            help="epochs that the segmentation network is trained for, once")
        add("--cache", metavar="DIR", default=os.path.join("~", ".cache", "inade-benchmark"),
            help="folder that keeps the trained segmentation network")
        add("--locality_layouts", type=integer(1), default=24,
            help="layouts of which several samples are made, and in which single instances are resampled")
        add("--json", metavar="FILE", default=None, help="also write the figures to this file")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.label_dir and "dataroot" not in given:
            raise UserError("--dataroot is missing: its training split is what the judge is trained on")
        if opt.lite0:
            packaged_weights()  # missing ones are reported before the data are read
        if opt.lite2:
            packaged_weights(LITE2)
        elif opt.nearest:
            raise UserError("--nearest: is of --lite2; give that, too")
        if opt.faces:
            check_face_detector()
        opt.cache = os.path.expanduser(opt.cache)
        for path in filter(None, (opt.json, opt.nearest)):
            check_writable(path)


@command
def main() -> None:
    opt = QualityOptions().parse()
    seed_everything(opt.seed)
    synthesizer = Synthesizer.from_options(opt)
    train = read_split(opt, "train")
    opt = opt.replace(max_dataset_size=int(min(opt.max_dataset_size, opt.how_many)))
    val = read_split(opt, opt.phase)
    look = observer(opt, train)
    fake = val._replace(pictures=synthesize(opt, synthesizer, synthesizer.draw_styles))
    made = {"synthesized": fake.pictures}
    if synthesizer.model.netE is not None:
        made["encoded"] = synthesize(opt, synthesizer, synthesizer.encode_styles)
    figures = {
        "name": opt.name, "which_epoch": opt.which_epoch, "use_ema": opt.use_ema, "seed": opt.seed,
        "layouts": len(val.labels), "judge": "lite0" if opt.lite0 else "small",
        **layout_figures(look, train, val, made, opt.num_classes),
        "lite2": Lite2Judge(train, val, opt.device, opt.batchSize).figures(made, opt.nearest) if opt.lite2 else None,
        "faces": faces_found({**made, "real": val.pictures}) if opt.faces else None,
        "styles": look_distances(train, val, fake, opt.seed, class_names(opt)),
        "diversity": diversity(opt, synthesizer),
        "reconstruction": reconstruction(opt, synthesizer),
    }
    print(describe(figures))
    if opt.json:
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")


def read_split(opt: Options, phase: str) -> Pairs:
    """All pairs of a split, at the size that the model makes, without flips or random crops."""
    if phase == "train":  # single folders are those of the split that is tested on
        opt = opt.replace(label_dir=None, image_dir=None, instance_dir=None)
    loader = create_dataloader(opt.replace(phase=phase, needs_photos=True))
    narrow = torch.uint8 if opt.num_classes <= 256 else torch.int32
    parts = [(to_uint8(batch["image"]), batch["label"].to(narrow), batch["instance"]) for batch in loader]
    pictures, labels, instances = (torch.cat(arrays) for arrays in zip(*parts, strict=True))
    return Pairs(pictures, labels[:, 0], instances[:, 0])


def observer(opt: Options, train: Pairs) -> Observer:
    """The networks that judge pictures: the small segmentation network, or with ``--lite0`` two on EfficientNet-Lite0.
    What must be trained is trained on real pairs."""
    if not opt.lite0:
        segmenter = trained_segmenter(train.pictures, train.labels, opt.num_classes, opt.segmenter_epochs, opt.cache)
        return functools.partial(segment, segmenter)
    network = trained_lite0(train.pictures, train.labels, opt.num_classes, opt.cache, opt.device, opt.use_amp)
    extractor = LiteExtractor("lite0", opt.device)

    def look(pictures: Tensor) -> tuple[Tensor, Tensor]:
        parts = [(network(part.to(opt.device)), extractor(part)) for part in pictures.split(opt.batchSize)]
        classes, features = (torch.cat(found).cpu() for found in zip(*parts, strict=True))
        return classes, features

    return look


def synthesize(opt: Options, synthesizer: Synthesizer, styles_of: Callable[[Batch], Styles]) -> Tensor:
    """One picture [N, 3, H, W] of every layout, in bytes."""
    layouts = map(synthesizer.prepare, progress(load_batches(opt), doing="synthesizing", unit="batch"))
    return torch.cat([to_uint8(synthesizer.images(layout, styles_of(layout))).cpu() for layout in layouts])


def layout_figures(look: Observer, train: Pairs, val: Pairs, made: dict[str, Tensor], num_classes: int
                   ) -> dict[str, Any]:
    """Does a segmentation network see what was asked for, and how far are features from those of real pictures?

    :param train: as many of its pictures as ``val`` has, from all over it, stand for real ones beside those of ``val``.
    :param made: synthesized pictures of the layouts of ``val``, by the origin of their styles.
    """
    others = evenly(train.pictures, min(len(train.pictures), len(val.pictures)))
    scores, statistics = {}, {}
    for name, pictures in {"real": val.pictures, **made, "train": others}.items():
        found, features = look(pictures)
        statistics[name] = FeatureStatistics(features.shape[1])
        statistics[name].update(features)
        if name != "train":
            scores[name] = faithfulness(confusion(val.labels, found, num_classes))
    return {"faithfulness": scores, "frechet": {name: fid(statistics[name], statistics["real"])
                                                for name in ("train", *made)}}


def diversity(opt: Options, synthesizer: Synthesizer) -> dict[str, Any] | None:
    """How far samples of a layout are apart, and whether a resampled instance changes alone: mean absolute differences
    of colour, as :meth:`Diversity.figures`. None where the layout alone decides the picture."""
    if opt.norm_mode != "inade" and not opt.use_vae:
        return None
    measured = Diversity()
    for index, (path, layout) in enumerate(first_layouts(opt, synthesizer, "resampling")):
        measured.add(measure_layout(synthesizer, layout, rgb_distance, opt.seed + index, num_samples=4,
                                    region_samples=2, batch_size=opt.batchSize, name=path))
    figures = measured.figures({})
    return {name: figures[name] for name in ("diversity", "mCSD", "mOCD", "mISD", "mOISD")}


def reconstruction(opt: Options, synthesizer: Synthesizer) -> dict[str, Any] | None:
    """Distances of a real picture to its reconstruction, in the mean styles that the encoder sees in it, and to a
    picture in random styles; None without encoder."""
    if synthesizer.model.netE is None:
        return None
    distances = {"L1": rgb_distance, **({"Lite0 distance": Lite0Distance(opt.device)} if opt.lite0 else {})}
    totals = {name: {"encoded": [], "random": []} for name in distances}
    for _, layout in first_layouts(opt, synthesizer, "reconstructing"):
        prior = synthesizer.draw_styles(layout)
        for kind, styles in (("encoded", synthesizer.mean_styles(layout, prior)), ("random", prior)):
            pair = torch.cat([synthesizer.images(layout, styles), layout.image])
            for name, distance in distances.items():
                totals[name][kind].append(distance(pair)[0])
    return {name: {kind: sum(values) / len(values) for kind, values in found.items()}
            for name, found in totals.items()}


def first_layouts(opt: Options, synthesizer: Synthesizer, doing: str) -> Iterator[tuple[str, Batch]]:
    """The first ``--locality_layouts``, with a progress bar."""
    dataset = create_dataset(opt)
    layouts = synthesizer.layouts(dataset, opt.locality_layouts)
    return progress(layouts, doing=doing, total=min(opt.locality_layouts, len(dataset)), unit="layout")


def describe(figures: dict[str, Any]) -> str:
    """The figures as a table, in words."""
    scores, frechet, styles = figures["faithfulness"], figures["frechet"], figures["styles"]
    kind = "EfficientNet-Lite0" if figures["judge"] == "lite0" else "segmenter"
    made = [name for name in ("synthesized", "encoded") if name in scores]
    rows = [("", *made, "real"),
            *((f"layout: {name}", *(f"{scores[side][name]:.3f}" for side in (*made, "real")))
              for name in ("mIoU", "accuracy")),
            (f"Fréchet distance ({kind})", *(f"{frechet[side]:.3f}" for side in (*made, "train")))]
    if judged := figures["lite2"]:
        rows += [("Fréchet distance (EfficientNet-Lite2)", *(f"{judged['frechet'][side]:.1f}"
                                                             for side in (*made, "train"))),
                 ("1000 x kernel distance (Lite2)", *(f"{judged['kernel'][side]:.1f}" for side in (*made, "train"))),
                 *((f"nearest training picture: {name}", *(f"{judged['nearest'][side][name]:.3f}"
                                                           for side in (*made, "real")))
                   for name in ("median", "smallest"))]
    if figures["faces"]:
        rows.append(("pictures with a face", *(f"{figures['faces'][side]:.2f}" for side in (*made, "real"))))
    blank = [""] * (len(made) - 1)
    if styles["real"] is not None:
        rows.append(("styles of instances: distance", f"{styles['synthesized']:.2f}", *blank, f"{styles['real']:.2f}"))
    rows += [(f"    {row['name'] or kind} ({row['instances']})", f"{row['synthesized']:.2f}", *blank,
              f"{row['real']:.2f}") for kind, row in styles["classes"].items()]
    lines = [f"{name:<38}" + "".join(f"{value:>12}" for value in values) for name, *values in rows]
    found = figures["diversity"]
    if found:
        lines.append(f"samples of a layout differ by {255 * found['diversity']:.1f} of 255")
    if found and found["mOISD"]:
        inside, outside = 255 * found["mISD"], 255 * found["mOISD"]
        lines.append(f"change of a resampled instance: {inside:.1f} of 255 inside, {outside:.2f} outside: "
                     f"{inside / outside:.1f} times")
    lines += [f"{name} to the real picture: reconstructed {kinds['encoded']:.4f}, at random {kinds['random']:.4f}"
              for name, kinds in (figures["reconstruction"] or {}).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
