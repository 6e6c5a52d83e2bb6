"""A page in the browser on which a trained INADE is tried out:

    pip install -r requirements-demo.txt
    python demo.py                                          # the model of photographs that ships
    python demo.py --name EXP --dataset_mode cityscapes --dataroot DATA

Click an instance to resample its style; lock, paint, blend, and take styles from a photo.
"""
import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from data import class_names, create_dataset
from data.image_files import stem
from editing.session import Canvas, Editor
from models.synthesis import Synthesizer
from options import Options
from options.test_options import NetworkOptions
from util.arguments import integer
from util.errors import UserError, command
from util.seed import seed_everything

MOST_LAYOUTS = 24  # of the data set, on the page


class DemoOptions(NetworkOptions):
    one_process = True
    defaults = {**NetworkOptions.defaults, "name": "ccp", "gpu_ids": "-1"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("page").add_argument
        add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
        add("--port", type=integer(1, 65535), default=7860, help="port to listen on")

    def parse(self, args: Sequence[str] | None = None) -> Options:
        """As every command; but what the checkpoint's ``opt.txt`` says, if it has one, need not be given."""
        args = list(sys.argv[1:] if args is None else args)
        saved = os.path.isfile(self.opt_file(args))
        return super().parse([*args, "--load_from_opt_file"] if saved else args)

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {opt.norm_mode}: the demo shows styles of instances; use inade")
        examples = os.path.join(opt.folder, "examples")
        if not given & {"dataroot", "label_dir"} and os.path.isdir(examples):
            opt.dataroot = examples


@command
def main() -> None:
    opt = DemoOptions().parse()
    # Gradio reads these when it is imported: nothing is reported, and uploads lie in a folder that goes when this ends
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="inade-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        serve(opt)


def serve(opt: Options) -> None:
    """Show the page until the process is asked to stop."""
    check_port(opt.host, opt.port)
    dataset = find_layouts(opt)
    try:
        from editing.page import Example, Page
    except ModuleNotFoundError as error:
        raise UserError(f"the page needs the package {error.name}: pip install -r requirements-demo.txt") from error
    seed_everything(opt.seed)
    synthesizer = Synthesizer.from_options(opt)
    editor = Editor(synthesizer, class_names(opt))
    layouts = synthesizer.layouts(dataset, MOST_LAYOUTS) if dataset else []
    page = Page(editor, [Example(stem(path), batch) for path, batch in layouts])
    threads, seconds = choose_threads(editor, editor.blank())
    print(f"a picture takes about {seconds:.2f} s ({opt.device}, {threads} thread{'s' * (threads > 1)})", flush=True)
    print(f"open {page.launch(opt.host, opt.port)} in a browser; Ctrl-C ends the demo", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    while True:
        time.sleep(3600)  # a signal ends it


def check_port(host: str, port: int) -> None:
    """Refuse, before long work starts, to listen where that cannot be.

    :raises UserError: it cannot.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); give another --port, or an "
                        "address of this machine") from error


def find_layouts(opt: Options) -> Dataset | None:
    """The data set; None where none was named and the default is not there: then there is the brush.

    :raises UserError: what was named cannot be used.
    """
    named = opt.label_dir or opt.dataroot != DemoOptions().parser_for([]).get_default("dataroot")
    if not named and not os.path.isdir(opt.dataroot):
        print("no --dataroot: there are no layouts to choose from; paint one")
        return None
    return create_dataset(opt.replace(needs_photos=False))


def choose_threads(editor: Editor, canvas: Canvas) -> tuple[int, float]:
    """Let PyTorch use one thread where that is faster: small networks gain little from more, and lose much on a busy
    machine.

    :returns: the number of threads, and the seconds that a picture takes.
    """

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        session = editor.start(canvas)  # the first picture takes longer
        start = time.perf_counter()
        editor.resample(session)
        return time.perf_counter() - start

    found = {threads: seconds(threads) for threads in {torch.get_num_threads(), 1}}
    threads = min(found, key=found.get)
    torch.set_num_threads(threads)
    return threads, found[threads]


if __name__ == "__main__":
    main()
