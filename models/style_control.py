"""Which styles the pictures of test.py take: --num_samples, --styles, --truncation, --reference, --style_file, --vary.

docs/styles.md says what they mean together.
"""
import difflib
import functools
import itertools
import json
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from data import DATASETS, class_names
from data.listing import find_files
from data.sample import Files
from models.batches import Batch
from models.layout_styles import LayoutStyles, numpy_styles, of_posterior, style_files
from models.networks.styles import InstancePosterior, Styles
from models.synthesis import Synthesizer
from options.options import Options
from util.errors import UserError
from util.files import read_text
from util.seed import seed_of

Which = tuple[str, int, int]  # a sample: the path of its layout, its number, and the seed of everything


class Samples(NamedTuple):
    """The samples of a batch of layouts, in drawing order."""

    styles: list[Styles]  # of every sample, [B, ...] each
    start: Styles | None  # the first sample of the prior; None where ``styles`` are of the prior themselves
    saved: list[LayoutStyles]  # what --save_styles writes, of each layout; nothing without it

    def path(self, frames: int) -> list[Styles]:
        """``frames`` styles from each sample to the next, both included: from the prior's first where there is
        another, through all samples."""
        stations = [*([] if self.start is None else [self.start]), *self.styles]
        steps = [start.between(end, step / (frames - 1)) for start, end in itertools.pairwise(stations)
                 for step in range(frames - 1)]
        return [*steps, stations[-1]]


class StyleControl:
    """Draws the styles of layouts as the options say, in any order and in any batch: those of a sample depend on the
    seed, the layout's name, the ids of its instances and the sample's number alone.

    :raises UserError: a reference, a file of styles or a table of pairs that cannot be used.
    """

    def __init__(self, synthesizer: Synthesizer):
        self.synthesizer, self.opt = synthesizer, synthesizer.opt
        self.kind, self.numbers = varied_numbers(self.opt)
        self.sources = StyleSources(synthesizer) if self.opt.reference or self.opt.style_file else None

    def check_layouts(self, paths: Sequence[str]) -> None:
        """:raises UserError: --reference_map lists a layout that is not among these, of the whole data set."""
        if self.sources and self.sources.table:
            known = {self.sources.kind.pairing_key(path) for path in paths}
            if unknown := sorted(self.sources.table.keys() - known):
                raise UserError(f"--reference_map {self.opt.reference_map}: there is no layout {unknown[0]}; correct "
                                "the name, or remove the entry")

    def draw(self, batch: Batch, paths: Sequence[str], seed: int) -> Samples:
        """The samples of a batch of layouts, which ``paths`` name."""
        opt, size = self.opt, batch.layout.batch_size
        priors = [self.synthesizer.draw_styles(batch, self.synthesizer.seeds(seed, paths, sample), opt.truncation)
                  for sample in range(opt.num_samples)]
        own = self.synthesizer.posterior(batch) if opt.styles == "encoder" else None
        noises = [self.synthesizer.noise_of(batch, prior) for prior in priors]
        drawn = priors if own is None else [own.remap(noise) for noise in noises]
        known = self.sources or opt.save_styles or self.numbers
        layouts = [LayoutStyles.of(batch.layout, row) for row in range(size)] if known else [None] * size
        if self.sources:
            drawn = [Styles.cat([self._given(layout, (path, sample, seed), styles[i:i + 1], noise[i:i + 1])
                                 for i, (layout, path) in enumerate(zip(layouts, paths, strict=True))])
                     for sample, (styles, noise) in enumerate(zip(drawn, noises, strict=True))]
        first, *others = drawn
        styles = [first, *(self._varied(layouts, first, other) for other in others)]
        saved = [self._saved(layout, (path, 0, seed), row, styles, own)
                 for row, (layout, path) in enumerate(zip(layouts, paths, strict=True))] if opt.save_styles else []
        return Samples(styles, priors[0] if own or self.sources else None, saved)

    # ---- --reference, --style_file ----

    def _given(self, layout: LayoutStyles, which: Which, styles: Styles, noise: Styles) -> Styles:
        """``styles`` of a sample of one layout, with what a reference or file gives to it."""
        if (found := self.sources.partner(layout, which)) is None:
            return styles
        (_, sample, _), (source, partners) = which, found
        if source.noise is not None and (sample == 0 or self.kind == "all"):
            return source.give(styles, noise, partners, sample)
        return source.give(styles, noise, partners)

    # ---- --vary ----

    def chosen(self, owners: dict[int, int]) -> list[int]:
        """The ids of the instances that ``classes:`` or ``instances:`` name.

        :param owners: instance id -> class, of a layout.
        """
        return [i for i, label in owners.items() if (label if self.kind == "classes" else i) in self.numbers]

    def _varied(self, layouts: Sequence[LayoutStyles | None], first: Styles, other: Styles) -> Styles:
        """``first`` with what --vary names from ``other``."""
        if self.kind == "all":
            return other
        if self.kind == "global":
            return Styles(other.z, first.noise)
        return Styles.cat([first[i:i + 1].exchange(other[i:i + 1], self.chosen(layout.instances))
                           for i, layout in enumerate(layouts)])

    # ---- --save_styles ----

    def _saved(self, layout: LayoutStyles, which: Which, row: int, styles: Sequence[Styles],
               own: InstancePosterior | None) -> LayoutStyles:
        parts = [numpy_styles(sample, row) for sample in styles]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        posterior = of_posterior(own, row) if own else {}
        if self.sources and (found := self.sources.partner(layout, which)) and found[0].mu is not None:
            source, partners = found
            posterior = posterior or {name: np.zeros_like(arrays["noise"][0]) for name in ("mu", "logvar")}
            for name, array in posterior.items():
                array[list(partners)] = getattr(source, name)[list(partners.values())]
        return LayoutStyles(layout.digest, layout.classes, layout.sizes, **arrays, **posterior)


def varied_numbers(opt: Options) -> tuple[str, frozenset[int]]:
    """What --vary says, with the ids of classes for their names. :raises UserError: there is no such class."""
    kind, words = opt.vary
    if kind != "classes":
        return kind, frozenset(map(int, words))
    names = {name.casefold(): number for number, name in class_names(opt).items()}
    numbers = [int(word) if word.isascii() and word.isdigit() else names.get(word.casefold(), -1) for word in words]
    for word, number in zip(words, numbers, strict=True):
        if not 0 <= number < opt.num_classes:
            near = [name for name in names if word.casefold() in name][:3]
            near = near or difflib.get_close_matches(word.casefold(), names, 3)
            hint = f"; similar: {', '.join(near)}" if near else "" if names else "; no names are known"
            raise UserError(f"--vary classes: there is no class {word} among the {opt.num_classes}{hint}; give an id "
                            f"0..{opt.num_classes - 1} or a name")
    return kind, frozenset(numbers)


class StyleSources:
    """Where layouts take styles from other than their own: by name.

    A layout takes from the source of its own name. Where there is none, the seed chooses one for each sample. With
    --reference_map, only the layouts that it lists take anything, from the sources that it names.

    ``photos`` are the files of --reference by name; ``table`` is that of :func:`read_table`, None without.
    """

    def __init__(self, synthesizer: Synthesizer):
        opt, self.kind = synthesizer.opt, DATASETS[synthesizer.opt.dataset_mode]
        key = self.kind.pairing_key
        self.photos = reference_files(opt) if opt.reference else {}
        files = {} if opt.reference else {key(name): path for name, path in style_files(opt.style_file).items()}
        self.names, self._known = sorted(self.photos or files), frozenset(self.photos or files)
        self.table = read_table(opt.reference_map, self._known, key) if opt.reference_map else None

        @functools.lru_cache(maxsize=256)
        def load(name: str) -> LayoutStyles:
            if name in self.photos:
                return synthesizer.reference(synthesizer.read_files(self.photos[name]))
            return LayoutStyles.read(files[name], opt.z_dim, opt.noise_nc)

        self._load = load
        if files or len(self.photos) == 1:  # a bad one is found before the work
            for name in self.names if self.table is None else {pair.source for pair in self.table.values()}:
                samples = load(name).noise
                if samples is not None and opt.vary.kind == "all" and len(samples) < opt.num_samples:
                    raise UserError(f"--num_samples {opt.num_samples}: {files[name]} has {len(samples)} samples; ask "
                                    "for that many, or say with --vary what else is to be drawn")

    def name_for(self, which: Which) -> str | None:
        """The name of the source of a sample; None if it has none."""
        path, sample, seed = which
        key = self.kind.pairing_key(path)
        if self.table is not None:
            return self.table[key].source if key in self.table else None
        if key in self._known:
            return key
        return self.names[seed_of(seed, "source", key, sample) % len(self.names)]

    def partner(self, layout: LayoutStyles, which: Which) -> tuple[LayoutStyles, dict[int, int]] | None:
        """The source of a sample of a layout, and which instance takes from which; None if it has no source."""
        if (name := self.name_for(which)) is None:
            return None
        source, key = self._load(name), self.kind.pairing_key(which[0])
        pairs = self.table and self.table[key].instances
        if pairs is None:
            return source, layout.partners(source)
        for ids, owner, whose in ((pairs, layout, key), (pairs.values(), source, name)):
            if missing := sorted(set(ids) - owner.instances.keys()):
                raise UserError(f"--reference_map: {whose} has no instance {missing[0]}; its instances are "
                                f"{', '.join(map(str, owner.instances))}")
        return source, pairs


def reference_files(opt: Options) -> dict[str, Files]:
    """Name -> files, of what --reference names: a folder laid out as the data set, a photo of the data set, or a photo
    with its label map and perhaps its instance map.

    :raises UserError: they are not there.
    """
    key = DATASETS[opt.dataset_mode].pairing_key
    path, *maps = opt.reference
    if maps:
        return {key(path): Files(maps[0], path, *maps[1:])}
    if os.path.isdir(path):
        try:
            found = find_files(opt.replace(dataroot=path, label_dir=None, image_dir=None, instance_dir=None,
                                           needs_photos=True))
        except UserError as error:
            raise UserError(f"--reference {path}: {error}") from error
        return {key(files.label): files for files in found}
    if not os.path.isfile(path):
        raise UserError(f"--reference {path}: no such file or folder; name a photo, or a folder with the same "
                        "subfolders as --dataroot")
    for phase in ("test", "train"):
        try:
            found = find_files(opt.replace(phase=phase, needs_photos=True))
        except UserError:  # the data set has no such split, or no photos in it
            continue
        for files in found:
            if files.photo and os.path.samefile(files.photo, path):
                return {key(path): files}
    raise UserError(f"--reference {path}: is not one of the data set's photos; give its label map as well, as in "
                    "--reference PHOTO LABEL [INSTANCE]")


def source_files(opt: Options) -> list[str]:
    """All files that styles are taken from, and the table of pairs. :raises UserError: they are not there."""
    paths = list(style_files(opt.style_file).values()) if opt.style_file else []
    if opt.reference:
        paths = [path for files in reference_files(opt).values() for path in files if path]
    paths += [opt.reference_map] if opt.reference_map else []
    if missing := [path for path in paths if not os.path.isfile(path)]:
        raise UserError(f"{missing[0]}: no such file; name a photo, or a file of --save_styles")
    return paths


class Pair(NamedTuple):
    """An entry of --reference_map: the source of a layout, and instance there -> instance here; None: by class."""

    source: str
    instances: dict[int, int] | None

    @classmethod
    def read(cls, entry: Any, key: Callable[[str], str]) -> "Pair":
        """:raises ValueError: or another error: it is of another form."""
        if isinstance(entry, str):
            return cls(key(entry), None)
        if unknown := entry.keys() - {"source", "instances"}:
            raise ValueError(f"unknown key {min(unknown)}")
        pairs = entry.get("instances")
        return cls(key(entry["source"]),
                   None if pairs is None else {int(own): int(there) for own, there in pairs.items()})


def read_table(path: str, names: Collection[str], key: Callable[[str], str]) -> dict[str, Pair]:
    """--reference_map: JSON, ``{"layout": "source"}`` or ``{"layout": {"source": "name", "instances": {"3": 7}}}``.

    :param names: of the sources that there are.
    :param key: from a file name to what identifies a layout.
    :raises UserError: it is of another form, or names a source that is not there.
    """
    try:
        content = json.loads(read_text(path, "--reference_map", "name a JSON file"))
        table = {key(layout): Pair.read(entry, key) for layout, entry in content.items()}
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(f'--reference_map {path}: is not of the form {{"layout": "source"}} or {{"layout": {{"source": '
                        f'"name", "instances": {{"3": 7}}}}}} ({type(error).__name__}: {error}); fix it') from error
    for layout, pair in table.items():
        if pair.source not in names:
            raise UserError(f"--reference_map {path}: {layout} takes styles from {pair.source}, which is not among the "
                            f"sources ({', '.join(sorted(names)[:3])}, …); correct the name")
    return table
