"""Seconds that a click of demo.py takes:

    python -m benchmarks.click                        # the model that ships, on the layouts that ship
    python -m benchmarks.click --sizes 16 32 64       # untrained networks of these widths, 256x256

Wall-clock, least (median) of --repeats, with one thread.
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
        _, batch = next(editor.synthesizer.layouts(find_layouts(opt)))
        print(f"128x256, width {opt.ngf}: {clicks(editor, editor.canvas(batch), args.repeats)}")


def clicks(editor: Editor, canvas: Canvas, repeats: int) -> str:
    """Seconds of clicks on one instance."""
    session, instance, seconds = editor.start(canvas), int(canvas.instance[-1, -1]), []
    for _ in range(repeats):
        start = time.perf_counter()
        editor.resample(session, instance)
        seconds.append(time.perf_counter() - start)
    return f"{min(seconds):.3f} ({statistics.median(seconds):.3f}) s"


if __name__ == "__main__":
    main()
