"""A few layouts whose pictures are drawn again and again during training, always in the same styles."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from data import collate
from data.pix2pix_dataset import Pix2pixDataset
from data.sample import SampleReader
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options.options import Options

_LAYOUTS = 4
_MOMENTS = 50  # most epochs after which they are drawn
_SEED = 0  # of their styles


class Followed:
    """Layouts that lie evenly in the data set of training, as test.py reads them, in styles of the prior."""

    def __init__(self, opt: Options, dataset: Pix2pixDataset):
        step = -(-len(dataset) // _LAYOUTS)
        self._files = dataset.files[::step]
        self._reader = SampleReader(opt.for_evaluation(dataset.opt.phase))
        self._last = opt.niter + opt.niter_decay

    def due(self, epoch: int) -> bool:
        """Whether they are to be drawn after ``epoch``: the first one, the last, and evenly between."""
        return epoch in (1, self._last) or epoch % -(-self._last // _MOMENTS) == 0

    def draw(self, model: Pix2PixModel) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each layout, as the data set gives it, and its picture [H, W, 3]. The networks are left in the mode that they
        were in; the random state of training is not touched."""
        training, synthesizer = model.training, Synthesizer(model)
        try:
            for files in self._files:
                sample = self._reader.read(files)
                layout = synthesizer.prepare(collate([sample]))
                styles = synthesizer.draw_styles(layout, synthesizer.seeds(_SEED, [sample["path"]]))
                yield sample, synthesizer.pictures(layout, styles)[0]
        finally:
            model.train(training)
