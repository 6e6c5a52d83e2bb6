"""Synthesize images for layouts: ``python test.py --name EXP --dataset_mode cityscapes --dataroot DATA``."""
import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from data.command_line import refuse_mistakes
from options import Options, TestOptions
from util.errors import Interrupted, UserError, command
from util.launch import launch

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(TestOptions())

import numpy as np
import torch

from data import class_colors, class_names, create_dataset
from data.derived_files import read_note
from data.image_files import stem
from data.instance_maps import main_classes
from data.pix2pix_dataset import Pix2pixDataset
from models.batches import load_batches
from models.layout_styles import SUFFIX
from models.networks.styles import Styles
from models.style_control import Samples, StyleControl, source_files
from models.synthesis import Synthesizer
from util import distributed
from util.files import exclusive, remove_leftovers
from util.html import Outlines, Picture, PicturePage
from util.images import save_animation, save_image, to_pictures
from util.parallel import available_cores, run_ahead
from util.progress import counted, progress
from util.results import Results, stamps
from util.seed import seed_everything
from util.signals import StopRequest

# options that make no difference to what is in the files
_NEUTRAL = frozenset({"batchSize", "nThreads", "gpu_ids", "how_many", "max_dataset_size", "results_dir", "no_html",
                      "display_winsize", "cache_filelist_read", "cache_filelist_write", "load_from_opt_file", "seed",
                      "device"})


@command
def main() -> None:
    opt = TestOptions().parse()
    launch(opt.num_processes)
    with distributed.processes(opt.device):
        work(opt)


def work(opt: Options) -> None:
    """What each process does: its share of the pictures. The first one also writes the page."""
    print(opt.changes())
    dataset = create_dataset(opt)
    layouts = [sample.photo or sample.label for sample in dataset.files]
    dataset.files = dataset.files[:int(min(len(dataset), opt.how_many))]
    files = OutputFiles(opt)
    names = files.names(dataset)
    print("pictures of {}x{} pixels; {}".format(*opt.image_size[::-1], sizes(opt)))
    synthesizer = Synthesizer.from_options(opt)
    control = StyleControl(synthesizer)
    control.check_layouts(layouts)
    folder = os.path.join(opt.results_dir, opt.name, f"{opt.phase}_{epoch_of(opt)}")
    with exclusive(folder, remedy="give another --results_dir") if distributed.is_main() else contextlib.nullcontext():
        make(opt, folder, files, names, dataset, synthesizer, control)


def make(opt: Options, folder: str, files: "OutputFiles", names: list[str], dataset: Pix2pixDataset,
         synthesizer: Synthesizer, control: StyleControl) -> None:
    """Write what is not there yet."""
    results, dataset.files = prepare(opt, folder, files, dataset)
    seed_everything(results.seed)
    Drawing(synthesizer, control, files, results).run(dataset, len(names))
    distributed.wait()
    if distributed.is_main():
        layouts = {name: Outlines.parse(read_note(results.path(files.picture("input_label", name)))) for name in names}
        alike = {name for name in names if have_equal_samples(opt, control, layouts[name])}
        if alike:
            print(f"--vary {opt.vary}: none of these in {counted(len(alike), 'layout')} of {len(names)}; samples there "
                  "are all equal")
        where = results.folder
        if not opt.no_html:
            where = show(opt, files, layouts, alike, results, control)
        print(f"{counted(len(names), 'layout')}: {where}")


def have_equal_samples(opt: Options, control: StyleControl, layout: Outlines | None) -> bool:
    """Whether a layout has nothing of what --vary names."""
    return bool(opt.vary.words and layout) and not control.chosen(main_classes(*layout.maps()))


def sizes(opt: Options) -> str:
    """Which sizes there are, in words."""
    if opt.norm_mode == "inade" or opt.use_vae:
        return "networks that start from a vector z have the one size that they were trained for"
    return "--crop_size may be any size that can be halved as often as --num_upsampling_layers says"


def epoch_of(opt: Options) -> str:
    """What to call the networks that draw."""
    return f"{opt.which_epoch}_ema" if opt.use_ema else opt.which_epoch


def heading(opt: Options, count: int, seed: int) -> list[str]:
    """What the pictures were made with, in words."""
    source = {"reference": opt.reference, "style_file": opt.style_file and [opt.style_file]}
    given = [f"--{name} {' '.join(paths)}" for name, paths in source.items() if paths]
    styles = "each layout's own photo (--styles encoder)" if opt.styles == "encoder" else "the prior"
    if given:
        styles = f"{given[0]}; where an instance has no partner there, of {styles}"
    if opt.reference_map:
        styles += f"; who takes from whom: --reference_map {opt.reference_map}"
    vary = f", which differ only in {opt.vary}" if opt.vary.kind != "all" else ""
    return [f"Networks: {opt.which_epoch}{', averaged (--use_ema)' if opt.use_ema else ''}, of {opt.folder}. "
            f"Layouts: {count}, of {opt.label_dir or opt.dataroot}, {opt.phase} split.",
            f"Samples of each: {opt.num_samples}{vary}; seed {seed}. Styles: of {styles}"
            f"{f'; --truncation {opt.truncation:g}' if opt.truncation != 1 else ''}."]


class OutputFiles:
    """What is written for each layout, below the folder of results."""

    real = "real_image"  # for the page alone

    def __init__(self, opt: Options):
        self.opt = opt
        self.samples = ["synthesized_image", *(f"synthesized_image_{n}" for n in range(2, opt.num_samples + 1))]
        self.suffixes = {"input_label": "png", **dict.fromkeys(self.samples, opt.format)}
        if opt.interpolate:
            self.suffixes |= {"interpolation": opt.format, "animation": "webp"}

    def names(self, dataset: Pix2pixDataset) -> list[str]:
        """What the layouts are called, in their order.

        :raises UserError: two would have the same files.
        """
        first: dict[str, str] = {}
        for files in dataset.files:
            path = files.photo or files.label
            if first.setdefault(stem(path), path) != path:
                raise UserError(f"{first[stem(path)]} and {path} have the same name, so that their pictures would "
                                "overwrite each other; rename one")
        return list(first)

    def pictures(self, name: str) -> dict[str, str]:
        """Kind -> path, of the pictures of a layout."""
        return {kind: self.picture(kind, name) for kind in self.suffixes}

    def picture(self, kind: str, name: str) -> str:
        return f"images/{kind}/{name}.{self.suffixes.get(kind, self.opt.format)}"

    def styles(self, name: str) -> str:
        return f"styles/{name}{SUFFIX}"

    def all(self, name: str) -> list[str]:
        return [*self.pictures(name).values(), *([self.styles(name)] if self.opt.save_styles else [])]


def prepare(opt: Options, folder: str, files: OutputFiles, dataset: Pix2pixDataset) -> tuple[Results, list]:
    """The folder of results, and the files of the layouts that are left to do. One process looks for all."""
    if distributed.is_main():
        settings = {name: value if isinstance(value, int | float | str | None) else str(value)
                    for name, value in sorted(vars(opt).items()) if not name.startswith("_") and name not in _NEUTRAL}
        networks = (entry.path for entry in os.scandir(opt.folder) if entry.name.startswith(f"{opt.which_epoch}_"))
        settings["files"] = stamps([*sorted(networks), *source_files(opt)])
        results = Results(folder, settings, opt.seed, files.names(dataset), files.all)
        of_the_page = [files.picture(kind, "any") for kind in (files.real, References.kind)]
        remove_leftovers({os.path.dirname(results.path(name)) for name in (*files.all("any"), *of_the_page)})
        left = [sample for sample in dataset.files
                if not results.are_made(files.all(stem(sample.photo or sample.label)), filter(None, sample))]
        if made := len(dataset.files) - len(left):
            print(f"{made} of {len(dataset.files)} layouts are already done with seed {results.seed}, and are kept; "
                  "use another --seed for other pictures")
    else:
        results = left = None
    return distributed.from_main((results, left))


class DrawnLayouts(NamedTuple):
    """Some layouts, and what is written of them."""

    data: dict[str, Any]
    samples: Samples
    pictures: list[np.ndarray]  # of every sample, [B, H, W, 3] each
    frames: list[np.ndarray]  # of --interpolate


class Drawing:
    """Draws and writes layouts. Encoding a file takes longer than drawing a picture on a GPU, so that it is left to
    threads.

    On a CPU each thread draws as well, one layout at a time: sums depend on how many threads share them and on how
    many pictures are in a batch, and pictures must not. It is faster, too.
    """

    def __init__(self, synthesizer: Synthesizer, control: StyleControl, files: OutputFiles, results: Results):
        self.synthesizer, self.control, self.opt = synthesizer, control, synthesizer.opt
        self.files, self.results, self.colors = files, results, class_colors(self.opt)
        self.one_by_one = self.opt.device.type == "cpu"
        self._stop: StopRequest | None = None

    def run(self, dataset: Pix2pixDataset, total: int) -> None:
        """Draw this process's share of a data set.

        :param total: layouts of the whole run, with those that are done.
        :raises Interrupted: a signal came.
        """
        if not dataset.files:
            return
        loader = load_batches(self.opt, dataset)
        if self.one_by_one:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            written = run_ahead(lambda data: self.write(self.draw(data)), rows_of(loader), threads)
        else:
            written = run_ahead(self.write, map(self.draw, loader), min(8, available_cores()))
        done = total - len(dataset.files)
        with StopRequest() as self._stop, progress(
                doing="drawing", total=done + len(loader.sampler), initial=done, unit="layout",
                quiet=not distributed.is_main()) as bar:
            for count in written:
                bar.update(count)
                self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self._stop and self._stop.signum:
            raise Interrupted(self._stop.signum, "what is drawn is written; the same command goes on from there")

    def draw(self, data: dict[str, Any]) -> DrawnLayouts:
        batch = self.synthesizer.prepare(data)
        samples = self.control.draw(batch, data["path"], self.results.seed)
        frames = samples.path(self.opt.interpolate) if self.opt.interpolate else []

        def picture(styles: Styles) -> np.ndarray:
            self._end_if_asked()
            return self.synthesizer.pictures(batch, styles)

        pictures, frames = ([picture(styles) for styles in many] for many in (samples.styles, frames))
        return DrawnLayouts(data, samples, pictures, frames)

    def write(self, drawn: DrawnLayouts) -> int:
        """Write all files of some layouts; how many they are."""
        for row, path in enumerate(drawn.data["path"]):
            paths = {kind: self.results.path(name) for kind, name in self.files.pictures(stem(path)).items()}
            label, instance = (drawn.data[kind][row, 0].numpy() for kind in ("label", "instance"))
            save_image(self.colors[label], paths["input_label"], Outlines.of(label, instance).text())
            if "image" in drawn.data and not self.opt.no_html:
                save_image(to_pictures(drawn.data["image"][row:row + 1])[0],
                           self.results.path(self.files.picture(self.files.real, stem(path))))
            for kind, pictures in zip(self.files.samples, drawn.pictures, strict=True):
                save_image(pictures[row], paths[kind])
            if drawn.frames:
                frames = [frame[row] for frame in drawn.frames]
                save_image(np.concatenate(frames, axis=1), paths["interpolation"])
                save_animation(frames, paths["animation"])
            if drawn.samples.saved:
                drawn.samples.saved[row].write(self.results.path(self.files.styles(stem(path))))
        return len(drawn.data["path"])


def rows_of(batches) -> Iterator[dict[str, Any]]:
    """The layouts of batches as batches of one."""
    for data in batches:
        for row in range(len(data["path"])):
            yield {key: values[row:row + 1] for key, values in data.items()}


def show(opt: Options, files: OutputFiles, layouts: dict[str, Outlines | None], alike: set[str], results: Results,
         control: StyleControl) -> str:
    """Write the page of all pictures.

    :param layouts: by name, in the order of the data set.
    :param alike: those whose samples are all equal, so that the first one is enough.
    :returns: the page's path.
    """
    page = PicturePage(f"{opt.name}, {opt.phase} split, epoch {epoch_of(opt)}", opt.display_winsize, class_names(opt),
                       class_colors(opt))
    for text in heading(opt, len(layouts), results.seed):
        page.add_text(text)
    references = References(files, results, control)
    missing = ("instance " if opt.vary.kind == "instances" else "") + " or ".join(opt.vary.words)
    for name, outlines in layouts.items():
        paths = files.pictures(name)
        layout, *samples = (paths.pop(kind) for kind in ("input_label", *files.samples))
        row = [Picture(layout, "layout"), *references.among(name, samples[:1] if name in alike else samples)]
        real = files.picture(files.real, name)
        if os.path.exists(results.path(real)):
            row.append(Picture(real, "real photo"))
        row += [Picture(path, kind, wide=kind == "interpolation") for kind, path in paths.items()]
        note = f" (no {missing} here: all samples are equal)" if name in alike else ""
        page.add_row(name + note, row, outlines)
    path = results.path("index.html")
    page.save(path)
    return path


class References:
    """The photos of --reference, as the networks see them, beside what was made with them."""

    kind = "reference_image"

    def __init__(self, files: OutputFiles, results: Results, control: StyleControl):
        self.files, self.results, self.control = files, results, control
        self._written: set[str] = set()

    def among(self, name: str, samples: list[str]) -> list[Picture]:
        """The pictures of a row: the samples of a layout, after the reference of them all or each after its own."""
        pictures = [Picture(path, f"sample {number}") for number, path in enumerate(samples, 1)]
        sources = self.control.sources
        if not sources or not sources.photos:
            return pictures
        found = [sources.name_for((f"{name}.png", number, self.results.seed)) for number in range(len(samples))]
        if len(set(found)) == 1:
            return [*self._reference(found[0]), *pictures]
        return [shown for source, picture in zip(found, pictures, strict=True)
                for shown in (*self._reference(source), picture)]

    def _reference(self, name: str | None) -> list[Picture]:
        if name is None:
            return []
        path = self.files.picture(self.kind, name.replace("/", "_"))
        if name not in self._written:
            self._written.add(name)
            photo = self.control.synthesizer.read_files(self.control.sources.photos[name]).image
            save_image(to_pictures(photo)[0], self.results.path(path))
        return [Picture(path, f"reference {name}")]


if __name__ == "__main__":
    main()
