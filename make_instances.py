"""Make the instance maps that INADE needs, by renumbering the ids of each map 0..n-1.

    python make_instances.py --path DATA --dataset cityscapes

Reads and writes, under --path:

=============  ===========================================  =====================================================
ade20k         ``annotations/**``                           ``instances/**``
celeba         ``{train,test}/labels/``                     ``{train,test}/instances/``
cityscapes     ``gtFine/**/*_instanceIds.png``              ``gtFine/**/*_instanceReIds.png``
deepfashion    ``{train,test}_mask/`` (first channel)       ``{train,test}_label/`` (as it is), ``{train,test}_inst/``
=============  ===========================================  =====================================================
"""
import os
from collections.abc import Iterator
from typing import NamedTuple

from data.image_files import Source


class Job(NamedTuple):
    """One map to read, and the files to make of it."""

    source: str
    instance: str
    label: str | None = None  # where to put the mask's first channel as it is


def ade20k(root: str) -> Iterator[Job]:
    return _mirrored(os.path.join(root, "annotations"), os.path.join(root, "instances"))


def celeba(root: str) -> Iterator[Job]:
    for split in _present(root, "train", "test"):
        yield from _mirrored(os.path.join(root, split, "labels"), os.path.join(root, split, "instances"))


def cityscapes(root: str) -> Iterator[Job]:
    ending = "_instanceIds.png"
    for path in Source(os.path.join(root, "gtFine"), ending=ending, recursive=True).files():
        yield Job(path, path[:-len(ending)] + "_instanceReIds.png")


def deepfashion(root: str) -> Iterator[Job]:
    for split in ("train", "test"):
        for path in Source(os.path.join(root, f"{split}_mask")).files():
            name = _png_name(os.path.basename(path))
            yield Job(path, os.path.join(root, f"{split}_inst", name), os.path.join(root, f"{split}_label", name))
