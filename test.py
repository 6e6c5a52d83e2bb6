"""Synthesize images for layouts: ``python test.py --name EXP --dataset_mode cityscapes --dataroot DATA``."""
import os

import torch
from tqdm import tqdm

from data import create_dataloader
from models.synthesis import Synthesizer
from options import Options, TestOptions
from util import distributed
from util.errors import command
from util.html import Page, Picture
from util.images import save_image
from util.palette import colorize
from util.seed import seed_everything, seed_of

KINDS = ("input_label", "synthesized_image")


@command
def main() -> None:
    opt = TestOptions().parse()
    distributed.launch(opt.num_processes)
    with distributed.processes(opt.device):
        work(opt)


def work(opt: Options) -> None:
    """What each process does: its share of the pictures. The first one also writes the page."""
    print(opt.changes())
    seed_everything(opt.seed)
    loader = create_dataloader(opt)
    synthesizer = Synthesizer.from_options(opt)
    folder = os.path.join(opt.results_dir, opt.name, f"{opt.phase}_{epoch_of(opt)}")
    total = int(min(len(loader.dataset), opt.how_many))
    written: dict[int, str] = {}
    for indices, data in tqdm(loader.numbered(), total=len(loader), unit="batch", disable=not distributed.is_main()):
        if indices[0] >= total:
            break
        layout = synthesizer.prepare(data)
        # styles belong to the image: neither --batchSize nor the number of processes makes a difference
        styles = synthesizer.draw_styles(layout, [seed_of(torch.initial_seed(), index) for index in indices])
        synthesized = synthesizer.pictures(layout, synthesizer.encode_styles(layout, styles) if opt.use_vae else styles)
        for i, index in enumerate(index for index in indices if index < total):
            name = os.path.splitext(os.path.basename(data["path"][i]))[0]
            pictures = {"input_label": colorize(data["label"][i, 0].numpy(), opt.num_classes),
                        "synthesized_image": synthesized[i]}
            for kind in KINDS:
                save_image(pictures[kind], os.path.join(folder, "images", kind, f"{name}.png"))
            written[index] = name
    if parts := distributed.gather(written):
        show(opt, [name for _, name in sorted(item for part in parts for item in part.items())], folder)


def epoch_of(opt: Options) -> str:
    """What to call the networks that draw."""
    return f"{opt.which_epoch}_ema" if opt.use_ema else opt.which_epoch


def show(opt: Options, names: list[str], folder: str) -> None:
    """Write the page of all pictures, in the order of the data set."""
    page = Page(f"{opt.name}, {opt.phase} split, epoch {epoch_of(opt)}", opt.display_winsize)
    for name in names:
        page.add_row(name, [Picture(f"images/{kind}/{name}.png", kind.replace("_", " ")) for kind in KINDS])
    page.save(os.path.join(folder, "index.html"))
    print(f"{len(names)} images: {os.path.join(folder, 'index.html')}")


if __name__ == "__main__":
    main()
