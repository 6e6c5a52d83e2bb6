"""The data set that the loader reads: samples of label map, photo and instance map, whatever kind it is."""
import os
import secrets
import zlib
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from data.image_files import read_image
from data.kinds import check_class_names
from data.listing import find_files
from data.sample import SampleReader
from options.options import Options
from util.progress import counted


class Pix2pixDataset(Dataset):
    """The samples of ``opt.phase``; see :class:`data.sample.SampleReader` for what a sample is.

    Where files lie is said by the :class:`data.dataset_kind.DatasetKind` of --dataset_mode, how they pair up by
    :mod:`data.listing`, and how they are scaled and cropped by :mod:`data.transforms`.

    :raises UserError: a folder or partner of a file is missing; from ``__getitem__``: a file cannot be used.
    """

    def __init__(self, opt: Options):
        self.opt = opt
        # crop and flip of a sample depend on this, the epoch and the index only, whichever process loads it
        self.seed = secrets.randbits(63) if opt.seed is None else opt.seed % 2**63
        self.reader = SampleReader(opt)
        if "use_ema" in opt and not opt.isTrain:  # a command that loads networks, which training is not
            check_class_names(opt)
        self.files = find_files(opt)[:opt.max_dataset_size]
        photos = "with photos" if self.files[0].photo else "no photos"
        instances = "with instance maps" if self.files[0].instance else "label maps serve as instance maps"
        print(f"{opt.dataset_mode}, {opt.phase} split: {counted(len(self.files), 'image')} ({photos}, {instances})")

    def check_labels(self, most: int) -> str:
        """Read label maps, evenly spread over the data set, no more than about ``most``; what was found.

        :raises UserError: one cannot be read, or has ids that are no classes.
        """
        files = self.files[::-(-len(self.files) // most)]
        for sample in files:
            label = self.reader.label_ids(read_image(sample.label), sample.label)
            self.reader.to_classes(label, sample.label)
        return f"{len(files)} of {len(self.files)} label maps read: their ids are classes (check_data.py reads all)"

    @property
    def digest(self) -> str:
        """What identifies the files by their names, wherever they lie."""
        names = [[path and os.path.basename(path) for path in files] for files in self.files]
        return f"{len(names)} {zlib.crc32(repr(names).encode('utf-8', 'surrogateescape')):08x}"

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Sample ``index`` or, with the augmentation of that epoch, ``(epoch, index)``."""
        epoch, index = item if isinstance(item, tuple) else (0, item)
        random = np.random.default_rng((self.seed, epoch, index)) if self.opt.isTrain else None
        return self.reader.read(self.files[index], random)
