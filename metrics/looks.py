"""How instances look: how widely the colours of a class spread."""
from collections import defaultdict
from typing import Any

import numpy as np

from data.instance_maps import main_classes


class ColourSpread:
    """How far apart the colours of instances lie, in samples of one layout and in real pictures, over many layouts.

    Colour: an instance's mean RGB in 0..255. ``sample_spread`` of a class: the deviation of that colour between samples
    of the same instance (root mean square over instances and channels). ``real_spread``: between its instances in the
    real pictures, standardised the same way.
    """

    def __init__(self):
        self._samples, self._real = defaultdict(list), defaultdict(list)

    def add(self, label: np.ndarray, instance: np.ndarray, samples: np.ndarray, real: np.ndarray | None = None) -> None:
        """Take in a layout.

        :param label: class ids [H, W]; ``instance`` ids [H, W].
        :param samples: pictures of the layout [S, H, W, 3] in 0..255, two or more.
        :param real: its real picture [H, W, 3] in 0..255, if there is one.
        """
        for i, kind in main_classes(label, instance).items():
            where = instance == i
            self._samples[kind].append(samples[:, where].mean(1).var(0, ddof=1))
            if real is not None:
                self._real[kind].append(real[where].mean(0))

    def figures(self) -> dict[str, Any]:
        """Both spreads as means over classes, and by class. Where two real instances of some class are known, classes
        without are left out; elsewhere ``real_spread`` is None."""
        kinds = sorted(kind for kind in self._samples if len(self._real[kind]) > 1) or sorted(self._samples)
        classes = {str(kind): {
            "sample_spread": _root_mean(self._samples[kind]),
            "real_spread": _root_mean(np.var(self._real[kind], axis=0, ddof=1)) if len(self._real[kind]) > 1 else None,
            "instances": len(self._samples[kind]),
        } for kind in kinds}
        return {**{name: _mean([entry[name] for entry in classes.values() if entry[name] is not None])
                   for name in ("sample_spread", "real_spread")}, "classes": classes}


def _root_mean(variances: Any) -> float:
    return float(np.sqrt(np.mean(variances)))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
