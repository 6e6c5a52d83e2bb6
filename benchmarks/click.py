"""What a click of demo.py costs, and how much of a picture it leaves as it was:

    python -m benchmarks.click                        # the model that ships, on the layouts that ship
    python -m benchmarks.click --sizes 16 32 64       # untrained networks of these widths, 256x256

Seconds are wall-clock, least (median) of --repeats, with one thread. For every instance of every layout: the share of
positions whose features are not bit for bit what they were, after each block of the generator.
"""
import argparse
import statistics
import time

import numpy as np
import torch

from demo import DemoOptions, find_layouts
from editing.session import Canvas, Editor
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from util.arguments import ArgumentParser, integer
from util.errors import command

BLOCKS = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=integer(1), nargs="*", default=[], help="widths (--ngf) of untrained networks")
    parser.add_argument("--repeats", type=integer(1), default=9, help="clicks that are timed (default 9)")
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for width in args.sizes:
        opt = DemoOptions().parse(["--name", "none", "--dataset_mode", "coco", "--ngf", str(width)])
        label = np.arange(16, dtype=np.int32).reshape(4, 4).repeat(64, 0).repeat(64, 1)
        editor = Editor(Synthesizer(Pix2PixModel(opt)), {})
        print(f"256x256, width {width}, 16 instances: {clicks(editor, Canvas(label, label), args.repeats)}")
    if not args.sizes:
        opt = DemoOptions().parse([])
        editor = Editor(Synthesizer.from_options(opt), {})
        layouts = [editor.canvas(batch) for _, batch in editor.synthesizer.layouts(find_layouts(opt))]
        print(f"128x256, width {opt.ngf}: {clicks(editor, layouts[0], args.repeats)}")
        print(changes(editor, layouts))


def clicks(editor: Editor, canvas: Canvas, repeats: int) -> str:
    """Seconds of clicks on one instance."""
    session, instance, seconds = editor.start(canvas), int(canvas.instance[-1, -1]), []
    for _ in range(repeats):
        start = time.perf_counter()
        editor.resample(session, instance)
        seconds.append(time.perf_counter() - start)
    return f"{min(seconds):.3f} ({statistics.median(seconds):.3f}) s"


def changes(editor: Editor, layouts: list[Canvas]) -> str:
    """Means over all instances of what a click on one changes."""
    rows, features = [], {}
    for name in BLOCKS:
        def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor, name: str = name) -> None:
            features[name] = output.clone()
        getattr(editor.synthesizer.model.netG, name).register_forward_hook(keep)
    for canvas in layouts:
        for instance in canvas.instances():
            before = editor.start(canvas)
            old = dict(features)
            after = editor.resample(before, instance)
            different = np.abs(after.step.picture.astype(int) - before.step.picture).mean(2)
            inside = canvas.instance == instance
            rows.append([inside.mean(), different[inside].mean(), different[~inside].mean(),
                         *((features[name] != old[name]).any(1).float().mean().item() for name in BLOCKS),
                         (different > 0).mean()])
    area, within, outside, *shares = np.mean(rows, 0)
    names = (*BLOCKS, "bytes of the picture")
    places = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True))
    return (f"{len(rows)} instances that cover {area:.1%} on average; change of 255: {within:.1f} inside, "
            f"{outside:.1f} outside\npositions that change: {places}")


if __name__ == "__main__":
    main()
