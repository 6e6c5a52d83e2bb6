r"""One picture that shows what a model does, as in README.md:

    python -m benchmarks.pictures --load_from_opt_file --name faces --dataroot DATA --gpu_ids -1 --seed 0 \
        --layouts 3 14 --reconstruct --restyled 5 --classes hair u_lip,l_lip skin --out docs/faces.jpg

A row for each of --layouts: the layout, samples of it, and with --reconstruct a picture in the mean styles of its
photo, which itself is not shown. A row for each of --restyled: the layout, a picture, and then one group of --classes after
the other gets new styles, while every other style stays.
"""
import argparse

import numpy as np

from data import class_colors, class_names, create_dataset
from gallery import contact_sheet
from models.batches import Batch
from models.synthesis import Synthesizer
from options import Options
from options.test_options import NetworkOptions
from util.arguments import integer
from util.errors import UserError, command
from util.files import check_writable
from util.images import save_image


class PicturesOptions(NetworkOptions):
    one_process = True
    defaults = {**NetworkOptions.defaults, "seed": 0}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("picture").add_argument
        add("--out", default="pictures.jpg", metavar="FILE", help="picture to write: .jpg, .png or .webp")
        add("--layouts", type=integer(0), nargs="*", default=[], help="places in the split of layouts to sample")
        add("--samples", type=integer(1), default=5, help="samples of each")
        add("--reconstruct", action="store_true", help="also show each of them in the styles of its photo")
        add("--restyled", type=integer(0), nargs="*", default=[], help="places of layouts to restyle")
        add("--classes", nargs="*", default=[], metavar="NAME,NAME", help="groups of classes, restyled one by one")
        add("--width", type=integer(1), default=128, help="pixels: of each picture (default 128)")

    def reads_photos(self, opt: Options) -> bool:
        return opt.reconstruct

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        check_writable(opt.out)


@command
def main() -> None:
    opt = PicturesOptions().parse()
    dataset, colors = create_dataset(opt), class_colors(opt)
    synthesizer, groups = Synthesizer.from_options(opt), find_groups(opt)
    rows = []
    for place, of_layout in (*((n, samples) for n in opt.layouts), *((n, restyled) for n in opt.restyled)):
        if place >= len(dataset):
            raise UserError(f"--layouts, --restyled {place}: the split has {len(dataset)} layouts")
        (path, batch), = synthesizer.layouts(dataset, place + 1, place)
        rows.append([colors[batch.layout.label[0].numpy()], *of_layout(synthesizer, batch, path, groups)])
    save_image(contact_sheet(rows, opt.width), opt.out)


def find_groups(opt: Options) -> list[list[int]]:
    """Class ids of each of ``--classes``. :raises UserError: a name that no class has."""
    ids = {name: k for k, name in class_names(opt).items()}
    for name in (name for group in opt.classes for name in group.split(",")):
        if name not in ids:
            raise UserError(f"--classes {name}: no such class; choose from {', '.join(ids)}")
    return [[ids[name] for name in group.split(",")] for group in opt.classes]


def samples(synthesizer: Synthesizer, batch: Batch, path: str, groups: list[list[int]]) -> list[np.ndarray]:
    drawn = [styles_of(synthesizer, batch, path, n) for n in range(synthesizer.opt.samples)]
    if synthesizer.opt.reconstruct:
        drawn.append(synthesizer.mean_styles(batch, drawn[0]))
    return [synthesizer.pictures(batch, styles)[0] for styles in drawn]


def restyled(synthesizer: Synthesizer, batch: Batch, path: str, groups: list[list[int]]) -> list[np.ndarray]:
    styles = styles_of(synthesizer, batch, path, 0)
    pictures = [synthesizer.pictures(batch, styles)[0]]
    for n, group in enumerate(groups, 1):
        styles = synthesizer.exchange(batch, styles, styles_of(synthesizer, batch, path, n), classes=group)
        pictures.append(synthesizer.pictures(batch, styles)[0])
    return pictures


def styles_of(synthesizer: Synthesizer, batch: Batch, path: str, sample: int):
    return synthesizer.draw_styles(batch, synthesizer.seeds(synthesizer.opt.seed, [path], sample))


if __name__ == "__main__":
    main()
