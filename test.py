"""Synthesize images for layouts: ``python test.py --name EXP --dataset_mode cityscapes --dataroot DATA``."""
import os

from tqdm import tqdm

from data import create_dataloader
from models.synthesis import Synthesizer
from options import TestOptions
from util.errors import command
from util.html import Page, Picture
from util.images import save_image
from util.palette import colorize
from util.seed import seed_everything


@command
def main() -> None:
    opt = TestOptions().parse()
    print(opt.changes())
    seed_everything(opt.seed)
    loader = create_dataloader(opt)
    synthesizer = Synthesizer.from_options(opt)
    draw = synthesizer.encode_styles if opt.use_vae else synthesizer.draw_styles
    folder = os.path.join(opt.results_dir, opt.name, f"{opt.phase}_{opt.which_epoch}")
    page = Page(f"{opt.name}, {opt.phase} split, epoch {opt.which_epoch}", opt.display_winsize)
    total = int(min(len(loader.dataset), opt.how_many))
    with tqdm(total=total, unit="img") as bar:
        for data in loader:
            layout = synthesizer.prepare(data)
            synthesized = synthesizer.pictures(layout, draw(layout))
            for i, path in enumerate(data["path"][:total - bar.n]):
                name = os.path.splitext(os.path.basename(path))[0]
                pictures = {"input_label": colorize(data["label"][i, 0].numpy(), opt.num_classes),
                            "synthesized_image": synthesized[i]}
                for kind, picture in pictures.items():
                    save_image(picture, os.path.join(folder, "images", kind, f"{name}.png"))
                page.add_row(name, [Picture(f"images/{kind}/{name}.png", kind.replace("_", " ")) for kind in pictures])
                bar.update()
            if bar.n >= total:
                break
    page.save(os.path.join(folder, "index.html"))
    print(f"{total} images: {os.path.join(folder, 'index.html')}")


if __name__ == "__main__":
    main()
