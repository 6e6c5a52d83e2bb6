"""A page in the browser on which a trained INADE is tried out:

    pip install -r requirements-demo.txt
    python demo.py                                          # the models that ship
    python demo.py --name EXP --dataset_mode cityscapes --dataroot DATA

Click an instance to resample its style; compare alternatives, lock, paint, blend, and take styles from a picture.
"""
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.command_line import refuse_mistakes
from options import Options
from options.demo_options import DemoOptions, named
from util.errors import UserError, command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(DemoOptions())

import torch
from torch.utils.data import Dataset

from data import class_names, create_dataset
from data.image_files import stem
from editing.session import Canvas, Editor
from models.synthesis import Synthesizer
from util.files import read_text
from util.memory import share_one_heap
from util.seed import seed_everything

if TYPE_CHECKING:
    from editing.limits import LimitedRequests
    from editing.page import Studio

MOST_LAYOUTS = 24  # of the data set, on the page


@command
def main() -> None:
    serve(find_models())


def find_models(args: Sequence[str] | None = None) -> list[Options]:
    """The options of every model that the page shows: the one that ``args`` (default: the command line) name; or else,
    if they name no data either, all under --checkpoints_dir that bring their options, networks and layouts.

    :raises UserError: as :meth:`DemoOptions.parse`.
    """
    args = list(sys.argv[1:] if args is None else args)
    opts = [DemoOptions().parse(args)]
    if not named(args) & {"--name", "--dataroot", "--label_dir"}:
        first = opts[0]
        names = sorted(os.listdir(first.checkpoints_dir)) if os.path.isdir(first.checkpoints_dir) else []
        for name in names:
            if name != first.name and _is_whole(os.path.join(first.checkpoints_dir, name), first.which_epoch):
                try:
                    opts.append(DemoOptions().parse([*args, f"--name={name}"]))
                except UserError as error:  # of another kind: nobody asked for it
                    print(f"{name} is left out: {error}")
    return opts


def _is_whole(folder: str, epoch: str) -> bool:
    return all(os.path.exists(os.path.join(folder, name)) for name in ("opt.txt", f"{epoch}_net_G.pth", "examples"))


def serve(opts: Sequence[Options]) -> None:
    """Show the page of these models until the process is asked to stop.

    :raises Interrupted: it was, before the page was there.
    """
    try:
        from editing.server import BriefLog, Server, addresses, is_for_all, listen, names_of, stopped_by_signals
    except ModuleNotFoundError as error:
        raise _without(error) from error
    servers, opt = [], opts[0]
    share_one_heap()
    with stopped_by_signals(servers), listen(opt.host, opt.port) as listener:
        # Gradio makes folders when it starts, in a place that is gone before the first visitor comes
        folder = os.path.join(tempfile.gettempdir(), f"inade-demo-{secrets.token_hex(8)}")
        try:
            os.mkdir(folder, 0o700)
            os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
            app = build(opts, names_of(opt.host))
        finally:  # whatever the moment at which a signal comes
            shutil.rmtree(folder, ignore_errors=True)
        for address in addresses(opt.host):
            print(f"open http://{address}:{opt.port}/ in a browser; Ctrl-C ends the demo")
        if is_for_all(opt.host):
            print("everybody who can reach this machine can use the demo: there is no password")
        sys.stdout.flush()
        sys.stderr = BriefLog(sys.stderr)
        servers.append(Server(app))
        servers[0].run([listener])


def build(opts: Sequence[Options], names: set[str]) -> "LimitedRequests":
    """The application that serves the page under these host names and ``--names``."""
    try:
        from editing.limits import LimitedRequests
        from editing.page import Page
    except ModuleNotFoundError as error:
        raise _without(error) from error
    opt = opts[0]
    seed_everything(opt.seed)
    studios = [make_studio(each) for each in opts]
    editor = studios[0].editor
    threads, seconds = choose_threads(editor, editor.blank())
    page = Page(studios)
    unit = "thread" if threads == 1 else "threads"
    print(f"a picture takes about {seconds:.2f} s ({opt.device}, {threads} {unit})", flush=True)
    return LimitedRequests(page.app(), names, opt.names)


def make_studio(opt: Options) -> "Studio":
    """The networks of a model, with its layouts; its title is that of its card, if it has one."""
    from editing.page import Example, Studio
    dataset = find_layouts(opt)
    synthesizer = Synthesizer.from_options(opt)
    layouts = synthesizer.layouts(dataset, MOST_LAYOUTS) if dataset else []
    card = os.path.join(opt.folder, "README.md")
    heading = read_text(card, "", "").partition("\n")[0] if os.path.isfile(card) else ""
    title = heading.removeprefix("# Model card: ") if heading.startswith("# Model card: ") else opt.name
    return Studio(title, Editor(synthesizer, class_names(opt)), [Example(stem(path), batch) for path, batch in layouts])


def _without(error: ModuleNotFoundError) -> UserError:
    return UserError(f"the page needs the package {error.name}: pip install -r requirements-demo.txt")


def find_layouts(opt: Options) -> Dataset | None:
    """The data set; None where none was named and the default is not there: then there is the brush.

    :raises UserError: what was named cannot be used.
    """
    if not DemoOptions().needs_layouts(opt):
        print("no --dataroot, so there are no layouts to choose from; paint one")
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
