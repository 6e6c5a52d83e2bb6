"""The styles of one layout with what it takes to give them to another one: a photo's, or those of a file.

docs/styles.md describes the files.
"""
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass, fields
from typing import BinaryIO

import numpy as np
import torch

from data.instance_maps import main_classes
from models.networks.layout import Layout
from models.networks.styles import InstancePosterior, Styles
from util.errors import UserError
from util.files import atomic_path, regular

SUFFIX = ".npz"
_LARGEST, _LARGEST_LOGVAR = 1e6, 80.0  # of numbers in a file: beyond, networks compute no finite pictures
_MOST_BYTES = 2**30  # of a file's arrays, so that a small file cannot fill the memory


@dataclass(frozen=True)
class LayoutStyles:
    """Styles of the instances of one layout, on the CPU. Ids without pixels have the class -1.

    Either N samples, or the posterior of every instance, or both.
    """

    digest: np.ndarray  # [16] uint8, a checksum of the maps: equal for equal layouts
    classes: np.ndarray  # [K] int64, the class of most pixels of every instance
    sizes: np.ndarray  # [K] int64, its pixels
    z: np.ndarray | None = None  # [N, z_dim] float32
    noise: np.ndarray | None = None  # [N, K, 2, noise_nc] float32
    mu: np.ndarray | None = None  # [K, 2, noise_nc] float32
    logvar: np.ndarray | None = None  # [K, 2, noise_nc] float32

    @classmethod
    def of(cls, layout: Layout, row: int = 0, **styles: np.ndarray | None) -> "LayoutStyles":
        """Those of one sample of a batch."""
        label, instance = (ids[row].cpu().numpy() for ids in (layout.label, layout.instance))
        owners, classes = main_classes(label, instance), np.full(layout.num_instances, -1)
        classes[list(owners)] = list(owners.values())
        digest = hashlib.blake2b(digest_size=16)
        for part in (np.array(label.shape), label, instance):
            digest.update(part.astype("<i8").tobytes())
        sizes = np.bincount(instance.ravel(), minlength=layout.num_instances)
        return cls(np.frombuffer(digest.digest(), np.uint8), classes, sizes, **styles)

    @property
    def instances(self) -> dict[int, int]:
        """Instance id -> class, of those that have pixels; ids ascending."""
        return {int(i): int(self.classes[i]) for i in np.flatnonzero(self.sizes)}

    def partners(self, others: "LayoutStyles") -> dict[int, int]:
        """Instance id here -> there, of those that take styles from ``others``. In equal layouts every instance has
        itself. Otherwise the largest of a class takes from the largest of that class, the second from the second, and
        so on; where there are fewer over there, they start again. An instance whose class is not there has no
        partner."""
        if np.array_equal(self.digest, others.digest) and np.array_equal(self.classes, others.classes):
            return {i: i for i in self.instances}
        there = others._by_class()
        return {i: there[kind][rank % len(there[kind])] for kind, ids in self._by_class().items() if kind in there
                for rank, i in enumerate(ids)}

    def _by_class(self) -> dict[int, list[int]]:
        """Class -> its instances, from the largest to the smallest."""
        found: dict[int, list[int]] = {}
        for i in sorted(self.instances, key=lambda i: (-self.sizes[i], i)):
            found.setdefault(int(self.classes[i]), []).append(i)
        return found

    def give(self, styles: Styles, remapped: Styles, partners: dict[int, int], sample: int | None = None) -> Styles:
        """``styles`` [1, ...], where instances with partners take theirs from here.

        :param remapped: what is remapped by the posterior.
        :param sample: which of the samples to take as it is, z included; None draws from the posterior.
        :raises UserError: there is no such sample.
        """
        count = 0 if self.noise is None else len(self.noise)
        if sample is not None and not 0 <= sample < count:
            raise UserError(f"there is no sample {sample}: these styles have {count} samples, numbered from 0"
                            + ("; leave it out to take those of the photo" if self.mu is not None else ""))
        if not partners or (sample is None and self.mu is None):
            return styles
        ids, there = list(partners), list(partners.values())
        noise = styles.noise.clone()
        if sample is None:
            mu, logvar = (torch.from_numpy(array[there]).to(noise.device) for array in (self.mu, self.logvar))
            noise[0, ids] = remapped.noise[0, ids] * torch.exp(0.5 * logvar) + mu
            return Styles(styles.z, noise)
        noise[0, ids] = torch.from_numpy(self.noise[sample, there]).to(noise.device)
        return Styles(torch.from_numpy(self.z[sample:sample + 1]).to(noise.device), noise)

    # ---- files ----

    def write(self, path: str) -> None:
        """Write a NumPy archive, as a whole."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            self.write_to(file)

    def write_to(self, file: BinaryIO) -> None:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez(file, **{name: array for name, array in arrays.items() if array is not None})

    @classmethod
    def read(cls, path: str, z_dim: int, noise_nc: int) -> "LayoutStyles":
        """Read what :meth:`write` wrote; nothing in the file runs.

        :param z_dim: the length of z, and ``noise_nc`` that of an instance's noise, in the networks at hand.
        :raises UserError: the file cannot be read, is of another form, or belongs to other networks.
        """
        try:
            with open(path, "rb", opener=regular) as file:
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
        return cls.parse(content, path, z_dim, noise_nc)

    @classmethod
    def parse(cls, content: bytes, path: str, z_dim: int, noise_nc: int,
              most_bytes: int | None = None) -> "LayoutStyles":
        """:meth:`read` for a file in memory, whose arrays take at most ``most_bytes``."""
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                most_bytes = _MOST_BYTES if most_bytes is None else most_bytes
                if sum(entry.file_size for entry in archive.infolist()) > most_bytes:
                    raise ValueError(f"more than {most_bytes} bytes")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                found = cls(**{name: arrays[name] for name in arrays.files})
            found._check()
        except Exception as error:  # archives fail in many ways, which all mean that the file cannot be used
            raise _unreadable(path, error) from error
        for name, length in (("z", z_dim), ("noise", noise_nc), ("mu", noise_nc)):
            array = getattr(found, name)
            if array is not None and array.shape[-1] != length:
                raise UserError(f"{path}: {name} has {array.shape[-1]} numbers, but the networks use {length} "
                                "(--z_dim, --noise_nc); name styles that were saved with these networks")
        return found

    def _check(self) -> None:
        """:raises ValueError: arrays that do not go together."""
        count = len(self.classes)
        shapes = {"digest": (16,), "classes": (count,), "sizes": (count,)}
        if (self.noise is None) != (self.z is None) or (self.mu is None) != (self.logvar is None):
            raise ValueError("z and noise must come together, as must mu and logvar")
        if self.noise is None and self.mu is None:
            raise ValueError("neither noise nor mu")
        if self.noise is not None:
            samples = max(len(self.noise), 1)
            shapes |= {"z": (samples, self.z.shape[-1]), "noise": (samples, count, 2, self.noise.shape[-1])}
        if self.mu is not None:
            shapes |= {"mu": (count, 2, self.mu.shape[-1]), "logvar": (count, 2, self.mu.shape[-1])}
        for name, shape in shapes.items():
            array = getattr(self, name)
            dtype = {"digest": np.uint8, "classes": np.int64, "sizes": np.int64}.get(name, np.float32)
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, not {np.dtype(dtype)} {list(shape)}")
            if dtype == np.float32 and not (np.abs(array) <= _LARGEST).all():
                raise ValueError(f"{name} is not finite, or far larger than styles are")
        if self.logvar is not None and (self.logvar > _LARGEST_LOGVAR).any():
            raise ValueError("logvar is far larger than that of styles")


def _unreadable(path: str, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"{path}: cannot be read as styles ({reason[:160]}); name a file of --save_styles, or a folder of "
                     "them")


def numpy_styles(styles: Styles, row: int = 0) -> dict[str, np.ndarray]:
    """``z`` [1, ...] and ``noise`` [1, ...] of one sample of a batch."""
    return {name: getattr(styles, name)[row:row + 1].float().cpu().numpy() for name in ("z", "noise")}


def of_posterior(posterior: InstancePosterior, row: int = 0) -> dict[str, np.ndarray]:
    """``mu`` and ``logvar`` of one sample of a batch."""
    return {name: getattr(posterior, name)[row].float().cpu().numpy() for name in ("mu", "logvar")}


def style_files(path: str) -> dict[str, str]:
    """Name -> path, of the files of styles in a folder, or of one file. :raises UserError: there are none."""
    if not os.path.isdir(path):
        return {os.path.splitext(os.path.basename(path))[0]: path}
    names = sorted(name for name in os.listdir(path) if name.endswith(SUFFIX) and not name.startswith("."))
    if not names:
        raise UserError(f"--style_file {path}: the folder has no {SUFFIX} files; name a file of --save_styles, or a "
                        "folder of them")
    return {name.removesuffix(SUFFIX): os.path.join(path, name) for name in names}
