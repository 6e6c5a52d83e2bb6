"""The parsed options: read-only, with what follows from them. Every layer may name this type; it needs none of them."""
import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from util.files import write_atomically
from util.launch import device_ids, local_world_size
from util.parallel import available_cores

if TYPE_CHECKING:
    import torch

# --num_upsampling_layers: how often the generator doubles the resolution
UPSAMPLINGS = {"normal": 5, "more": 6, "most": 7}
MOST_WORKERS = 8  # for a GPU, unless the user asks for more
# set by the parser, not by the user
DERIVED = ("isTrain", "needs_photos", "device")


class Options(argparse.Namespace):
    """Options of one command, read-only once :meth:`freeze` was called; :meth:`replace` makes altered copies."""

    # besides an attribute for every option:
    isTrain: bool  # whether the command trains: augmentation, discriminators and losses depend on it
    needs_photos: bool  # whether every layout must come with its photo
    device: "torch.device"  # that of ``--gpu_ids``
    _frozen = False
    _defaults: Mapping[str, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if self._frozen:
            raise AttributeError(f"options are frozen: use opt.replace({name}=...) for an altered copy")
        super().__setattr__(name, value)

    def freeze(self, defaults: Mapping[str, Any]) -> "Options":
        self.__dict__.update(_defaults=defaults, _frozen=True)
        return self

    def replace(self, **changes: Any) -> "Options":
        """A frozen copy with ``changes`` applied; every name must exist already."""
        unknown = changes.keys() - vars(self).keys()
        if unknown:
            raise AttributeError(f"no such options: {', '.join(sorted(unknown))}")
        return Options(**{**vars(self), "_frozen": False, **changes}).freeze(self._defaults)

    def for_evaluation(self, phase: str = "test") -> "Options":
        """A copy to read the whole split ``phase`` as test.py does: in order, without flips or random crops, and
        without need of photos."""
        return self.replace(phase=phase, isTrain=False, needs_photos=False, serial_batches=True, no_flip=True,
                            load_size=self.crop_size)

    # ---- what follows from the options ----

    @property
    def num_processes(self) -> int:
        """How many processes ``--gpu_ids`` asks for, one for each device."""
        return len(device_ids("--gpu_ids", self.gpu_ids))

    @property
    def num_workers(self) -> int:
        """How many processes load data: ``nThreads``, or else none for the CPU, and for a GPU what keeps it busy."""
        if self.nThreads is not None:
            return self.nThreads
        if self.device.type == "cpu":
            return 0
        return min(MOST_WORKERS, max(1, available_cores() // local_world_size()))

    @property
    def folder(self) -> str:
        """Where the experiment's networks and logs lie."""
        return os.path.join(self.checkpoints_dir, self.name)

    @property
    def num_classes(self) -> int:
        """C: ``label_nc``, plus one for "don't care"."""
        return self.label_nc + int(self.contain_dontcare_label)

    @property
    def dont_care(self) -> int:
        """The value in label maps that means "don't care"."""
        return 255 if self.dont_care_id is None else self.dont_care_id

    @property
    def semantic_nc(self) -> int:
        """Channels of the semantic input: C, plus one for the instance edges."""
        return self.num_classes + int(not self.no_instance)

    @property
    def start_size(self) -> tuple[int, int]:
        """Height and width of the generator's first feature map."""
        width = self.crop_size // 2 ** UPSAMPLINGS[self.num_upsampling_layers]
        return round(width / self.aspect_ratio), width

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the generator's images."""
        height, width = self.start_size
        factor = 2 ** UPSAMPLINGS[self.num_upsampling_layers]
        return height * factor, width * factor

    # ---- what is shown and saved ----

    def _rows(self) -> list[tuple[str, Any, Any]]:
        """Name, value and default of every option, by name."""
        return [(name, value, self._defaults.get(name, value)) for name, value in sorted(vars(self).items())
                if not name.startswith("_") and name not in DERIVED]

    def changes(self) -> str:
        """The options that differ from their defaults, as a block of text."""
        lines = [f"{name:>25}: {typed(value):<30} [default: {typed(default)}]" for name, value, default in self._rows()
                 if value != default]
        return "\n".join(["Options that differ from their defaults:", *(lines or ["none".rjust(25)])])

    def save(self) -> None:
        """Write ``opt.txt`` into the experiment's folder: a line per option, with the default where it differs."""
        lines = []
        for name, value, default in self._rows():
            note = f"\t[default: {default}]" if value != default else ""
            lines.append(f"{name:>25}: {value!s:<30}{note}\n")
        write_atomically(os.path.join(self.folder, "opt.txt"), "".join(lines))


def typed(value: Any) -> str:
    """The value of an option as the user types it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
