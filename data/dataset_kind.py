"""What there is to know about a kind of data set. Each kind has a file, with a subclass of :class:`DatasetKind`."""
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data.image_files import Source, stem
from options.options import Options
from util.errors import shortened


class Sources(NamedTuple):
    """Where a data set keeps its files; None for a kind of file that it does not have."""

    label: Source
    photo: Source | None
    instance: Source | None

    @classmethod
    def of_split(cls, root: str, split: str) -> "Sources":
        """``root/{split}_{label,img,inst}/``."""
        return cls(*(Source(os.path.join(root, f"{split}_{kind}")) for kind in ("label", "img", "inst")))


class InstanceJob(NamedTuple):
    """A map to read, and the files to make from it."""

    source: str
    instance: str
    label: str | None = None  # where to copy the map to, or its first channel


class DatasetKind:
    """Base of all kinds of data sets."""

    class_names: tuple[str, ...] = ()  # of the ids from 0 on, where they are known
    photos_may_be_larger = False  # than their label maps, in the same shape
    instance_remedy: str  # what to do if instance maps are missing
    instances_made_from: str  # the files of instance_jobs, as a pattern
    instances_may_be_foreign = False  # made by other tools, so that they must not be replaced unasked
    has_objects = False  # it comes with instance ids of its own
    turns_photos = False  # by orientation tags, also where they fit their label maps as they are
    never: frozenset[int] = frozenset()  # ids that its label maps do not have ...
    never_because = ""  # ... unless this is so
    last_id_is_class = False  # the id --label_nc, though --contain_dontcare_label counts it as don't care

    def sources(self, opt: Options) -> Sources:
        """Where the files of ``opt.phase`` lie."""
        raise NotImplementedError

    def pairing_key(self, path: str) -> str:
        """What a label map, its photo and its instance map have in common."""
        return stem(path)

    def doubts(self, shares: dict[int, float]) -> list[str]:
        """What the ids of a split, with their shares of its pixels, say against their being those of this data set."""
        wrong = sorted(shares.keys() & self.never)
        return [f"has the ids {shortened([*map(str, wrong)], 5)}: {self.never_because}"] if wrong else []

    def ignored_ids(self, opt: Options) -> set[int]:
        """Of the ids 0..C-1, those that segmentation scores leave out."""
        return {opt.label_nc} if opt.contain_dontcare_label else set()

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        """What make_instances.py makes in the data set's folder."""
        raise NotImplementedError


def mirrored(source: Source, target: str) -> Iterator[InstanceJob]:
    """A PNG in the folder ``target``, or its subfolders, for every image of ``source``."""
    for path in source.files():
        name = os.path.relpath(path, source.folder)
        yield InstanceJob(path, os.path.join(target, os.path.splitext(name)[0] + ".png"))


def mirrored_splits(root: str, splits: Iterable[str], kind: str = "label") -> Iterator[InstanceJob]:
    """``root/{split}_inst/`` for every ``root/{split}_{kind}/``."""
    for split in splits:
        yield from mirrored(Source(os.path.join(root, f"{split}_{kind}")), os.path.join(root, f"{split}_inst"))
