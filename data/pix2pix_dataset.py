"""What all data sets share: triples of label map, photo and instance map, found, checked, read and transformed."""
import argparse
import json
import os
import secrets
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from data.image_files import Source, pair, read_ids, read_image, read_photo, renumber, stem, to_ids
from data.label_colors import read_label_colors
from data.transforms import Size, choose_geometry
from util.errors import UserError
from util.files import write_atomically

DONT_CARE = 255  # value in label files
# what a saved list of files depends on, besides the split
_LIST_OPTIONS = ("norm_mode", "no_instance", "isTrain", "use_vae", "no_pairing_check", "image_dir", "instance_dir")


class Sources(NamedTuple):
    """Where a data set keeps its files; None for a kind that it has not."""

    label: Source
    photo: Source | None
    instance: Source | None

    @classmethod
    def of_split(cls, root: str, split: str) -> "Sources":
        """``root/{split}_{label,img,inst}/``."""
        return cls(*(Source(os.path.join(root, f"{split}_{kind}")) for kind in ("label", "img", "inst")))


class Files(NamedTuple):
    """Paths of one sample."""

    label: str
    photo: str | None
    instance: str | None


class Pix2pixDataset(torch.utils.data.Dataset):
    """Base of all data sets; a subclass says where its files lie (:meth:`sources`).

    A sample is a dict of
    ``label`` [1, H, W] class ids below C, uint8 (int32 if C > 256); 255 became ``label_nc`` with
    --contain_dontcare_label,
    ``instance`` [1, H, W] int32 instance ids; if the file has ids above 255, they are renumbered 0..n-1; where there
    are no instance maps, the label map,
    ``image`` [3, H, W] float32 in [-1, 1]; missing if there are no photos and none are needed, and
    ``path`` of the photo, or else of the label map.

    Photos are needed for training and for --use_vae.

    :param opt: the options; only read.
    :raises UserError: a folder or partner of a file is missing; from ``__getitem__``: a file is unusable.
    """

    instance_remedy = "give --no_instance to use the label maps as instance maps"
    photos_may_be_larger = False
    class_names: tuple[str, ...] = ()  # of the ids from 0 on, where they are known

    def __init__(self, opt: argparse.Namespace):
        self.opt = opt
        self.num_classes = opt.label_nc + int(opt.contain_dontcare_label)
        # crop and flip of a sample depend on this, the epoch and the index only, whichever process loads it
        self.seed = secrets.randbits(63) if opt.seed is None else opt.seed % 2**63
        self.label_colors = read_label_colors(opt.label_colors) if opt.label_colors else None
        self.files = self._cached_or_listed_files()[:opt.max_dataset_size]
        photos = "with photos" if self.files[0].photo else "no photos"
        instances = "with instance maps" if self.files[0].instance else "label maps serve as instance maps"
        print(f"{opt.dataset_mode}, {opt.phase} split: {len(self.files)} images ({photos}, {instances})")

    @staticmethod
    def modify_commandline_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
        """Set the data set's defaults, and add the options that only it has."""
        raise NotImplementedError

    @staticmethod
    def sources(opt: argparse.Namespace) -> Sources:
        """Where the files of ``opt.phase`` lie."""
        raise NotImplementedError

    @staticmethod
    def pairing_key(path: str) -> str:
        """What a label map, its photo and its instance map have in common."""
        return stem(path)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Sample ``index`` or, with the augmentation of that epoch, ``(epoch, index)``."""
        epoch, index = item if isinstance(item, tuple) else (0, item)
        files = self.files[index]
        random = np.random.default_rng((self.seed, epoch, index)) if self.opt.isTrain else None

        label = self._read_label(files.label)
        size = label.shape[1], label.shape[0]
        geometry = choose_geometry(size, self.opt, random, files.label)
        sample = {"label": geometry.apply_to_ids(label), "path": files.photo or files.label}
        instance = self._read_instance(files.instance, size, files.label) if files.instance else _compact(label)
        sample["instance"] = geometry.apply_to_ids(instance).to(torch.int32)
        if files.photo:
            sample["image"] = geometry.apply_to_photo(self._read_photo(files.photo, size, files.label))
        return sample

    # ---- reading ----

    def _read_label(self, path: str) -> np.ndarray:
        """Class ids [H, W], all below the number of classes; uint8, or int32 for more than 256 classes."""
        ids = to_ids(read_image(path), path, self.label_colors)
        if self.num_classes > 256:
            ids = ids.astype(np.int32)
        if self.opt.contain_dontcare_label:
            ids = np.where(ids == DONT_CARE, ids.dtype.type(self.opt.label_nc), ids)
        if ids.max() >= self.num_classes:
            raise UserError(outside_problem(path, np.unique(ids[ids >= self.num_classes]).tolist(), self.opt))
        return ids if self.num_classes > 256 else ids.astype(np.uint8, copy=False)

    def _read_instance(self, path: str, size: Size, label_path: str) -> np.ndarray:
        ids = read_ids(path)
        if problem := self.instance_size_problem(path, ids.shape[::-1], label_path, size):
            raise UserError(problem)
        return _compact(ids)

    def _read_photo(self, path: str, size: Size, label_path: str) -> Image.Image:
        photo = read_photo(path)
        if problem := self.photo_size_problem(path, photo.size, label_path, size):
            raise UserError(problem)
        return photo

    @staticmethod
    def instance_size_problem(path: str, size: Size, label_path: str, label_size: Size) -> str | None:
        """What is wrong with the size of an instance map, if anything."""
        if size == label_size:
            return None
        return (f"{path}: {size[0]}x{size[1]}, but its label map {label_path} is {label_size[0]}x{label_size[1]}; "
                "make the instance map anew")

    @classmethod
    def photo_size_problem(cls, path: str, size: Size, label_path: str, label_size: Size) -> str | None:
        """What is wrong with the size of a photo, if anything."""
        same_shape = size[0] * label_size[1] == size[1] * label_size[0]
        if size == label_size or (cls.photos_may_be_larger and same_shape):
            return None
        return (f"{path}: {size[0]}x{size[1]}, but its label map {label_path} is {label_size[0]}x{label_size[1]}; "
                "bring both to one size")

    # ---- finding ----

    def _list_files(self) -> list[Files]:
        opt = self.opt
        sources = self.sources(opt)
        labels = sources.label.files()
        if not labels:
            raise UserError(f"no label maps: {_lack(sources.label)}; check --dataroot and --dataset_mode")
        photos = self._photos_for(labels, sources.photo)
        instances = self._instances_for(labels, sources.instance)
        return [Files(*paths) for paths in zip(labels, photos, instances, strict=True)]

    def _photos_for(self, labels: list[str], source: Source | None) -> list[str] | list[None]:
        found = source.files() if source else []
        if not found and not needs_photos(self.opt):
            return [None] * len(labels)
        if not found:
            lack = f"{_lack(source)}; check --dataroot" if source else "give --image_dir"
            raise UserError(f"no photos, which training and --use_vae need: {lack}")
        return self._partners(labels, found, "photo", "mend the names, or add or remove files, so that all pair up")

    def _instances_for(self, labels: list[str], source: Source | None) -> list[str] | list[None]:
        wanted = source and wants_instances(self.opt)
        found = source.files() if wanted else []
        if not found and (not wanted or self.opt.no_instance):
            return [None] * len(labels)
        if not found:
            raise UserError(f"no instance maps: {_lack(source)}; {self.instance_remedy}")
        return self._partners(labels, found, "instance map", self.instance_remedy)

    def _partners(self, labels: list[str], found: list[str], kind: str, remedy: str) -> list[str]:
        if not self.opt.no_pairing_check:
            return pair(labels, found, kind, self.pairing_key, remedy)
        if len(found) != len(labels):
            folder = os.path.dirname(found[0])
            raise UserError(f"{len(labels)} label maps, but {len(found)} {kind}s in {folder}; {remedy}")
        return found

    # ---- list of files ----

    def _cached_or_listed_files(self) -> list[Files]:
        """The files, by way of --cache_filelist_read and --cache_filelist_write.

        The list is a text file in the data set's folder: a line with the options it depends on, then a line of paths,
        relative to that folder, for every sample; each in JSON.
        """
        opt = self.opt
        folder = getattr(opt, "label_dir", None) or opt.dataroot
        path = os.path.join(folder, f"{opt.dataset_mode}_{opt.phase}_filelist.txt")
        options = {name: getattr(opt, name) for name in _LIST_OPTIONS if hasattr(opt, name)}
        if opt.cache_filelist_read and os.path.isfile(path):
            files = _read_list(path, folder, options)
            if files:
                return files
            print(f"--cache_filelist_read: {path} was written with other options; reading the folders")
        files = self._list_files()
        if opt.cache_filelist_write:
            rows = [options, *([name and os.path.relpath(name, folder) for name in sample] for sample in files)]
            try:
                write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
            except UserError as error:  # a data set on a read-only disk is still good for training
                print(f"--cache_filelist_write: {error}; going on without")
        return files


def needs_photos(opt: argparse.Namespace) -> bool:
    """Whether photos must be there."""
    return opt.isTrain or opt.use_vae


def wants_instances(opt: argparse.Namespace) -> bool:
    """Whether instance maps are used where they are: without the edge channel, only INADE has a use for them."""
    return opt.norm_mode == "inade" or not opt.no_instance


def outside_problem(path: str, ids: list[int], opt: argparse.Namespace) -> str:
    """What is wrong with a label map that has ``ids``, ascending, outside the classes."""
    shown = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    classes = opt.label_nc + int(opt.contain_dontcare_label)
    remedy = f"--label_nc {ids[-1] + 1}"
    if ids[-1] == DONT_CARE:
        others = f" --label_nc {ids[-2] + 1}" if len(ids) > 1 else ""
        remedy = f"--contain_dontcare_label{others} if 255 means don't care, or {remedy}"
    return (f"{path}: has the label id{'s' if len(ids) > 1 else ''} {shown}, but the {classes} classes are "
            f"0..{classes - 1}; mend the file, or give {remedy}")


def _read_list(path: str, folder: str, options: dict[str, Any]) -> list[Files]:
    """The files of a saved list; none if it was written with other options."""
    try:
        with open(path, encoding="utf-8") as file:
            written_for, *rows = [json.loads(line) for line in file]
        files = [Files(*(name and os.path.join(folder, name) for name in row)) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--cache_filelist_read: cannot read {path} ({error}); remove it") from error
    return files if written_for == options else []


def _lack(source: Source) -> str:
    if not os.path.isdir(source.folder):
        return f"folder {source.folder} does not exist"
    names = f"*{source.part}*{source.ending}".replace("**", "*") if source.part or source.ending else "images"
    other = next(source.names(), None)
    return f"{names} not found in {source.folder}" + (f" (there are other files, as {other})" if other else "")


def _compact(ids: np.ndarray) -> np.ndarray:
    """Ids for networks: renumbered where there are some above 255; uint8 or int32."""
    if ids.dtype == np.uint8:
        return ids
    return (renumber(ids) if ids.max() > 255 else ids).astype(np.int32)
