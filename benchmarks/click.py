"""Seconds that clicks, alternatives and strokes of demo.py take:

    python -m benchmarks.click                        # the models that ship, each on its first layout
    python -m benchmarks.click --sizes 16 32 64       # untrained networks of these widths, 256x256

Seconds are those of the processor, with one thread: median of --repeats. Beside those of six alternatives stand the
seconds of their convolutions alone.
"""
import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from demo import DemoOptions, find_layouts, find_models
from editing.session import Canvas, Editor
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from util.arguments import ArgumentParser, integer
from util.errors import command


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=integer(1), nargs="*", default=[], help="widths (--ngf) of untrained networks")
    parser.add_argument("--repeats", type=integer(1), default=9, help="how often each thing is timed (default 9)")
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
        print(f"256x256, width {width}, 16 instances: {costs(editor, Canvas(label, label), args.repeats)}")
    for opt in [] if args.sizes else find_models([]):
        editor = Editor(Synthesizer.from_options(opt), {})
        _, batch = next(editor.synthesizer.layouts(find_layouts(opt)))
        print(f"{opt.name}, {opt.image_size[1]}x{opt.image_size[0]}, width {opt.ngf}: "
              f"{costs(editor, editor.canvas(batch), args.repeats)}")


def costs(editor: Editor, canvas: Canvas, repeats: int) -> str:
    """Seconds of what visitors do to a layout."""
    session, instance = editor.start(canvas), int(canvas.instance[-1, -1])
    height, width = canvas.label.shape
    line = [(width / 3, height / 3), (width / 2, height / 2)]
    actions = {"a click": lambda: editor.resample(session, instance),
               "six looks": lambda: editor.offer(session, instance),
               "a stroke": lambda: editor.paint(session, 1, width / 18, line),
               "a fill": lambda: editor.fill(session, 1, line[1])}
    found = {name: seconds(action, repeats) for name, action in actions.items()}
    found["convolutions of six looks"] = convolutions(actions["six looks"], repeats)
    return ", ".join(f"{name} {value:.3f} s" for name, value in found.items())


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Of the processor, median; the first time is not counted."""
    times = [time.process_time()]
    for _ in range(repeats + 1):
        action()
        times.append(time.process_time())
    return statistics.median(np.diff(times)[1:])


@torch.inference_mode()
def convolutions(action: Callable[[], object], repeats: int) -> float:
    """Seconds of the convolutions of an action."""
    calls, convolve = [], F.conv2d

    def note(x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        calls.append((x.clone(), *args, kwargs))
        return convolve(x, *args, **kwargs)

    with mock.patch.object(F, "conv2d", note):
        action()
    return sum(seconds(lambda call=call: convolve(*call[:-1], **call[-1]), repeats) for call in calls)


if __name__ == "__main__":
    main()
