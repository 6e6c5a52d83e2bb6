"""Diversity of the pictures that a trained model makes of one layout:

    python diversity_score.py --name EXP --dataset_mode cityscapes --dataroot DATA
    python diversity_score.py --name EXP --dataset_mode cityscapes --dataroot DATA --distance rgb --json diversity.json

Between whole samples, and with INADE where one class or one instance alone gets new styles: how much its region
changes, and how much the rest. docs/evaluation.md has the definitions.
"""
import json

from data.command_line import refuse_mistakes
from options import Options
from options.diversity_options import DiversityOptions
from util.errors import command
from util.launch import launch

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(DiversityOptions())

from data import class_names, create_dataset
from metrics.diversity import Diversity, LayoutDistances, describe, measure_layout
from metrics.perceptual import LPIPS, Lite0Distance, PairDistance, rgb_distance
from models.synthesis import Synthesizer
from util import distributed
from util.files import write_atomically
from util.progress import progress
from util.seed import seed_everything, seed_of

# what the figures depend on, besides the networks and the data
_PROTOCOL = ("name", "which_epoch", "use_ema", "norm_mode", "dataset_mode", "phase", "crop_size", "distance", "styles",
             "num_samples", "region_samples", "max_regions", "masked_pairs", "seed", "use_amp")


@command
def main() -> None:
    opt = DiversityOptions().parse()
    launch(opt.num_processes)
    with distributed.processes(opt.device):
        work(opt)


def work(opt: Options) -> None:
    """What each process does: its share of the layouts. The first one also puts all figures together."""
    seed_everything(opt.seed)
    distance = load_distance(opt)
    dataset = create_dataset(opt)
    synthesizer = Synthesizer.from_options(opt)
    own = range(distributed.rank(), int(min(len(dataset), opt.how_many)), distributed.world_size())
    layouts = synthesizer.layouts(dataset, own.stop, own.start, own.step)
    found: dict[int, LayoutDistances] = {}
    for index, (path, layout) in zip(own, progress(layouts, doing="measuring", total=len(own), unit="layout",
                                                   quiet=not distributed.is_main()), strict=True):
        found[index] = measure_layout(
            synthesizer, layout, distance, seed_of(opt.seed, index), num_samples=opt.num_samples,
            region_samples=opt.region_samples, max_regions=opt.max_regions, masked_pairs=opt.masked_pairs,
            from_photo=opt.styles == "encoder", batch_size=opt.batchSize, name=path)
    if parts := distributed.gather(found):
        report(opt, [distances for _, distances in sorted(item for part in parts for item in part.items())])


def load_distance(opt: Options) -> PairDistance:
    if opt.distance == "lpips":
        return LPIPS(opt.perceptual_weights, opt.device)
    return Lite0Distance(opt.device) if opt.distance == "lite0" else rgb_distance


def report(opt: Options, found: list[LayoutDistances]) -> None:
    diversity = Diversity()
    for distances in found:
        diversity.add(distances)
    figures = {**{name: getattr(opt, name) for name in _PROTOCOL}, **diversity.figures(class_names(opt))}
    print(describe(figures))
    if opt.json:
        write_atomically(opt.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
