"""Synthesize images for layouts: ``python test.py --name EXP --dataset_mode cityscapes --dataroot DATA``."""
import os

from tqdm import tqdm

from data import create_dataloader
from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from util.errors import command
from util.html import Page, Picture
from util.images import save_image, to_pictures
from util.label_colors import colorize
from util.memory import keep_freed_memory
from util.precision import autocast
from util.seed import seed_everything


@command
def main() -> None:
    opt = TestOptions().parse()
    seed_everything(opt.seed)
    keep_freed_memory()
    loader = create_dataloader(opt)
    model = Pix2PixModel(opt)
    model.load(opt.which_epoch)
    folder = os.path.join(opt.results_dir, opt.name, f"{opt.phase}_{opt.which_epoch}")
    page = Page(f"{opt.name}, {opt.phase} split, epoch {opt.which_epoch}", opt.display_winsize)
    total = int(min(len(loader.dataset), opt.how_many))
    with tqdm(total=total, unit="img") as bar:
        for data in loader:
            with autocast(opt):
                fake = to_pictures(model(data, mode="inference"))
            for i, path in enumerate(data["path"][:total - bar.n]):
                name = os.path.splitext(os.path.basename(path))[0]
                pictures = {"input_label": colorize(data["label"][i, 0].numpy(), opt.num_classes),
                            "synthesized_image": fake[i]}
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
