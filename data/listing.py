"""Finding a data set's files and pairing them to samples, or reading a saved list of them."""
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from data.image_files import UNREAD_SUFFIXES, Source
from data.kinds import DATASETS
from options.options import Options
from util.errors import UserError
from util.files import read_text, write_atomically

# what a saved list of files depends on, besides the split
_LIST_OPTIONS = ("norm_mode", "no_instance", "needs_photos", "no_pairing_check", "image_dir", "instance_dir")


class Files(NamedTuple):
    """Paths of one sample; None for what it does not have."""

    label: str
    photo: str | None = None
    instance: str | None = None


def find_files(opt: Options) -> list[Files]:
    """The files of ``opt.phase``, by way of --cache_filelist_read and --cache_filelist_write.

    The list is a text file in the data set's folder. Its first line says which options it depends on. Then comes a
    line of paths, relative to that folder, for every sample. Each line is JSON.

    :raises UserError: files are missing or do not pair up, or the saved list cannot be read.
    """
    folder = opt.label_dir or opt.dataroot
    path = os.path.join(folder, f"{opt.dataset_mode}_{opt.phase}_filelist.txt")
    options = {name: getattr(opt, name) for name in _LIST_OPTIONS}
    if opt.cache_filelist_read and os.path.isfile(path):
        files = _read_list(path, folder, options)
        if files:
            return files
        print(f"--cache_filelist_read: {path} was written with other options; reading the folders")
    files = _list_files(opt)
    if opt.cache_filelist_write:
        rows = [options, *([name and os.path.relpath(name, folder) for name in sample] for sample in files)]
        try:
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
        except UserError as error:  # a data set on a read-only disk is still good for training
            print(f"--cache_filelist_write: {error}; going on without")
    return files


def check_folder(opt: Options) -> None:
    """Refuse a data set whose label maps cannot be where they should: a look at one folder, before long imports."""
    source = DATASETS[opt.dataset_mode].sources(opt).label
    if not opt.cache_filelist_read and not os.path.isdir(source.folder):
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


def _list_files(opt: Options) -> list[Files]:
    kind = DATASETS[opt.dataset_mode]
    sources = kind.sources(opt)
    for source in filter(None, sources):
        unread = Counter(suffix for name in source.names() if (suffix := os.path.splitext(name)[1].lower())
                         in UNREAD_SUFFIXES)
        for suffix, number in unread.items():
            print(f"note: {source.folder}: {number} files {suffix} are not read; convert those that belong to the data")
    labels = sources.label.files()
    if not labels:
        raise _no_labels(sources.label)
    photos = sources.photo.files() if sources.photo else []
    if not photos and opt.needs_photos:
        remedy = f"{_missing(sources.photo)}; check --dataroot" if sources.photo else "give --image_dir"
        raise UserError(f"no photos, which training, --use_vae and scores of real pictures need: {remedy}")
    wanted = sources.instance if wants_instances(opt) else None
    instances = wanted.files() if wanted else []
    if wanted and not instances and not opt.no_instance:
        raise UserError(f"no instance maps: {_missing(wanted)}; {kind.instance_remedy}")
    partners = [
        _partners(opt, labels, photos, "photo", "mend the names, or add or remove files, so that all pair up"),
        _partners(opt, labels, instances, "instance map", kind.instance_remedy),
    ]
    return [Files(*paths) for paths in zip(labels, *partners, strict=True)]


def _partners(opt: Options, labels: list[str], found: list[str], kind: str, remedy: str) -> list[str] | list[None]:
    """What of ``found`` belongs to each of the label maps: None if there is nothing at all."""
    if not found:
        return [None] * len(labels)
    if not opt.no_pairing_check:
        return _pair(labels, found, kind, DATASETS[opt.dataset_mode].pairing_key, remedy)
    if len(found) != len(labels):
        folder = os.path.dirname(found[0])
        raise UserError(f"{len(labels)} label maps, but {len(found)} {kind}s in {folder}; {remedy}")
    return found


def _pair(labels: list[str], partners: list[str], kind: str, key: Callable[[str], str], remedy: str) -> list[str]:
    """``partners`` in the order of their ``labels``: those of equal ``key``.

    :param kind: what the partners are, in the singular, for the message.
    :raises UserError: a file of either list has no partner, or two of one list have the same key.
    """
    label_of, partner_of = one_by_key(labels, key), one_by_key(partners, key)
    _check_all_paired(label_of, partner_of, f"label maps without {kind}", remedy)
    _check_all_paired(partner_of, label_of, f"{kind}s without label map", remedy)
    return [partner_of[name] for name in label_of]


def one_by_key(paths: list[str], key: Callable[[str], str]) -> dict[str, str]:
    """The path of every key.

    :raises UserError: two have the same.
    """
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


def _read_list(path: str, folder: str, options: dict[str, Any]) -> list[Files]:
    """The files of a saved list. empty if it was written with other options."""
    try:
        written_for, *rows = map(json.loads, read_text(path, "--cache_filelist_read", "remove it").splitlines())
        files = [Files._make(name and os.path.join(folder, name) for name in row) for row in rows]
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"--cache_filelist_read: cannot read {path} ({error}); remove it") from error
    return files if written_for == options else []


def _no_labels(source: Source) -> UserError:
    return UserError(f"no label maps: {_missing(source)}; check --dataroot and --dataset_mode")


def _missing(source: Source) -> str:
    if not os.path.isdir(source.folder):
        return f"folder {source.folder} does not exist"
    names = f"*{source.part}*{source.ending}".replace("**", "*") if source.part or source.ending else "images"
    other = next(source.names(), None)
    return f"{names} not found in {source.folder}" + (f" (there are other files, such as {other})" if other else "")
