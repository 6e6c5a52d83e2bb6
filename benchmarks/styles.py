"""What a reference's styles do, what a new style changes elsewhere, and how fast test.py is:

    python -m benchmarks.styles --name ccp --use_vae --dataroot DATA --how_many 100

Takes the options of test.py. ``transfer``: every layout takes styles from the photo of the next one; how far the mean
colours of its instances move towards those of their partners in that photo, beside what other styles of the prior do.
``leak``: how many pixels inside and outside of an instance change visibly if it alone gets another style of the prior.
``speed``: layouts a second of test.py, from files to files, beside drawing alone.
"""
import argparse
import tempfile
import time

import numpy as np
import torch

import test as test_command
from data import collate, create_dataset
from models.batches import Batch
from models.layout_styles import LayoutStyles
from models.style_control import StyleControl
from models.synthesis import Synthesizer
from options import Options, TestOptions
from util.errors import command
from util.images import to_pictures
from util.parallel import run_ahead
from util.progress import progress
from util.results import Results

LEAST = 0.01  # of the picture: smaller instances are not compared
VISIBLE = 10  # a pixel has changed if one of its colours has by more than this, of 255


class StylesOptions(TestOptions):
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--what", nargs="+", choices=["transfer", "leak", "speed"],
                            default=["transfer", "leak", "speed"], help="what to measure")

    def reads_photos(self, opt: Options) -> bool:
        return True


@command
def main() -> None:
    opt = StylesOptions().parse()
    dataset = create_dataset(opt)
    dataset.files = dataset.files[:int(min(len(dataset), opt.how_many))]
    synthesizer = Synthesizer.from_options(opt)
    if "transfer" in opt.what:
        transfer(synthesizer, dataset)
    if "leak" in opt.what:
        leak(synthesizer, dataset)
    if "speed" in opt.what:
        speed(synthesizer, dataset)


def transfer(synthesizer: Synthesizer, dataset) -> None:
    before, moved, random = [], [], []
    layouts = list(synthesizer.layouts(dataset))
    for (path, batch), (_, reference) in progress(
            list(zip(layouts, [*layouts[1:], layouts[0]], strict=True)), doing="transferring", unit="layout"):
        source, layout = synthesizer.reference(reference), LayoutStyles.of(batch.layout)
        pairs = [(i, there) for i, there in layout.partners(source).items()
                 if min(layout.sizes[i], source.sizes[there]) >= LEAST * layout.sizes.sum()]
        first, other = (synthesizer.draw_styles(batch, synthesizer.seeds(0, [path], sample)) for sample in range(2))
        goal = colours(reference, to_pictures(reference.image)[0])
        for found, styles in ((before, first), (moved, synthesizer.transfer(batch, first, source)),
                              (random, first.exchange(other, list(layout.instances)))):
            mean = colours(batch, synthesizer.pictures(batch, styles)[0])
            found += [np.linalg.norm(mean[i] - goal[there]) for i, there in pairs]
    print(f"{len(before)} pairs of instances of {LEAST:.0%} of the picture or more; distance of mean colours (of 255) "
          f"from the reference's: {np.mean(before):.1f} in a sample")
    for name, found in (("the reference's styles", moved), ("other styles of the prior", random)):
        ratio = 1 - np.mean(found) / np.mean(before)
        print(f"  with {name}: {np.mean(found):.1f}, so {ratio:+.0%} of the way; nearer in "
              f"{np.mean(np.less(found, before)):.0%} of the pairs")


def colours(batch: Batch, picture: np.ndarray) -> dict[int, np.ndarray]:
    """Instance id -> mean colour [3] in 0..255, for one layout."""
    ids = batch.layout.instance[0].cpu().numpy()
    return {int(i): picture[ids == i].mean(0) for i in np.unique(ids)}


def leak(synthesizer: Synthesizer, dataset) -> None:
    shares = []
    for path, batch in progress(synthesizer.layouts(dataset), doing="restyling", unit="layout", total=len(dataset)):
        ids = batch.layout.instance[0].cpu().numpy()
        styles, others = (synthesizer.draw_styles(batch, synthesizer.seeds(0, [path], sample)) for sample in range(2))
        before = synthesizer.pictures(batch, styles)[0]
        for i in np.unique(ids):
            if LEAST <= (ids == i).mean() < 1:
                after = synthesizer.pictures(batch, styles.exchange(others, [int(i)]))[0]
                shares.append(changed_shares(before, after, ids == i))
    inside, outside = np.transpose(shares)
    low, high = np.quantile(outside, (0.05, 0.95))
    print(f"{len(shares)} instances of {LEAST:.0%} of the picture or more, each in another style of the prior: of the "
          f"pixels inside, {inside.mean():.0%} change by more than {VISIBLE} of 255; of those outside, "
          f"{outside.mean():.0%} (median {np.median(outside):.0%}; of nine in ten instances, {low:.0%} to {high:.0%})")


def changed_shares(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """The parts of the pixels inside and outside of a mask [H, W] that differ visibly between pictures [H, W, 3]."""
    changed = np.abs(after.astype(int) - before).max(2) > VISIBLE
    return changed[inside].mean(), changed[~inside].mean()


def speed(synthesizer: Synthesizer, dataset, rounds: int = 3) -> None:
    opt, threads = synthesizer.opt, torch.get_num_threads()
    control, files = StyleControl(synthesizer), test_command.OutputFiles(synthesizer.opt)
    size = 1 if opt.device.type == "cpu" else opt.batchSize
    batches = [collate([dataset[i] for i in range(first, min(first + size, len(dataset)))])
               for first in range(0, len(dataset), size)]
    seconds = {"drawing alone": [], "test.py, from files to files": []}
    for number in range(rounds + 1):  # the first one warms up
        with tempfile.TemporaryDirectory() as folder:
            drawing = test_command.Drawing(synthesizer, control, files, Results(folder, {}, 0))
            begun = time.perf_counter()
            if drawing.one_by_one:
                torch.set_num_threads(1)
                for _ in run_ahead(drawing.draw, batches, threads):
                    pass
            else:
                for batch in batches:
                    drawing.draw(batch)
            middle = time.perf_counter()
            torch.set_num_threads(threads)
            drawing.run(dataset, len(dataset))
            torch.set_num_threads(threads)
            if number:
                seconds["drawing alone"].append(middle - begun)
                seconds["test.py, from files to files"].append(time.perf_counter() - middle)
    for name, found in seconds.items():
        print(f"{name}: {len(dataset) * opt.num_samples / np.median(found):.2f} pictures/s")


if __name__ == "__main__":
    main()
