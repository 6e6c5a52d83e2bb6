"""Finding a data set's files and pairing them to samples."""
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple

from data.image_files import UNREAD_SUFFIXES, Source
from data.kinds import DATASETS
from options.options import Options
from util.errors import UserError


class Files(NamedTuple):
    """Paths of one sample; None for what it does not have."""

    label: str
    photo: str | None = None
    instance: str | None = None


def check_folder(opt: Options) -> None:
    """Refuse a data set whose label maps cannot be where they should: a look at one folder, before long imports."""
    source = DATASETS[opt.dataset_mode].sources(opt).label
    if not os.path.isdir(source.folder):
        raise _no_labels(source)


def wants_instances(opt: Options) -> bool:
    """Whether instance maps are used where they are. Without the edge channel, only INADE has a use for them."""
    return opt.norm_mode == "inade" or not opt.no_instance


def by_key(paths: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """The paths of every key, in their order. Two Unicode forms of a name, such as a letter and its accent as one
    character or as two, are one key."""
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(unicodedata.normalize("NFC", key(path)), []).append(path)
    return found


def same_name_problem(paths: list[str], name: str) -> str:
    """What is wrong with several files of one key."""
    return f"{' and '.join(paths)} have the same name for pairing, {name}: remove or rename one"


def find_files(opt: Options) -> list[Files]:
    """The files of ``opt.phase``. :raises UserError: files are missing or do not pair up."""
    kind = DATASETS[opt.dataset_mode]
    sources = kind.sources(opt)
    for source in filter(None, sources):
        unread = Counter(suffix for name in source.names() if (suffix := os.path.splitext(name)[1].lower())
                         in UNREAD_SUFFIXES)
        for suffix, number in unread.items():
            what, those = ("file", "it if it belongs") if number == 1 else ("files", "those that belong")
            print(f"note: {source.folder}: {number} {suffix} {what} cannot be read; convert {those} to the data")
    labels = sources.label.files()
    if not labels:
        raise _no_labels(sources.label)
    photos = sources.photo.files() if sources.photo else []
    if not photos and opt.needs_photos:
        remedy = f"{_missing(sources.photo)}; check --dataroot" if sources.photo else "give --image_dir"
        raise UserError(f"no photos, but training, --use_vae and scores of real pictures need them: {remedy}")
    wanted = sources.instance if wants_instances(opt) else None
    instances = wanted.files() if wanted else []
    if wanted and not instances and not opt.no_instance:
        raise UserError(f"no instance maps: {_missing(wanted)}; {kind.instance_remedy}")
    partners = [
        _pair(labels, photos, "photo", kind.pairing_key, "rename, add or remove files so that each has its partner"),
        _pair(labels, instances, "instance map", kind.pairing_key, kind.instance_remedy),
    ]
    return [Files(*paths) for paths in zip(labels, *partners, strict=True)]


def _pair(labels: list[str], partners: list[str], kind: str, key: Callable[[str], str],
          remedy: str) -> list[str] | list[None]:
    """``partners`` in the order of their ``labels``: those of equal ``key``; None if there are none at all.

    :param kind: what the partners are, in the singular, for the message.
    :raises UserError: a file of either list has no partner, or two of one list have the same key.
    """
    if not partners:
        return [None] * len(labels)
    label_of, partner_of = one_by_key(labels, key), one_by_key(partners, key)
    _check_all_paired(label_of, partner_of, f"label maps without {kind}", remedy)
    _check_all_paired(partner_of, label_of, f"{kind}s without label map", remedy)
    return [partner_of[name] for name in label_of]


def one_by_key(paths: list[str], key: Callable[[str], str]) -> dict[str, str]:
    """The path of every key. :raises UserError: two have the same."""
    found = by_key(paths, key)
    for name, same in found.items():
        if len(same) > 1:
            raise UserError(same_name_problem(same, name))
    return {name: path for name, (path,) in found.items()}


def _check_all_paired(files: dict[str, str], others: Collection[str], problem: str, remedy: str) -> None:
    alone = [path for name, path in files.items() if name not in others]
    if alone:
        more = ", …" if len(alone) > 3 else ""
        raise UserError(f"{len(alone)} {problem}: {', '.join(alone[:3])}{more}; {remedy}")


def _no_labels(source: Source) -> UserError:
    return UserError(f"no label maps: {_missing(source)}; check --dataroot and --dataset_mode")


def _missing(source: Source) -> str:
    if not os.path.isdir(source.folder):
        return f"folder {source.folder} does not exist"
    names = f"*{source.part}*{source.ending}".replace("**", "*") if source.part or source.ending else "images"
    other = next(source.names(), None)
    return f"{names} not found in {source.folder}" + (f" (there are other files, such as {other})" if other else "")
