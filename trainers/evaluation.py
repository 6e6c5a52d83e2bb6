"""FID of the test split during training, or the Fréchet distance on features of another network."""
import sys
from collections.abc import Callable

from metrics.distances import fid
from metrics.extractors import KINDS, feature_dims, load_extractor
from metrics.protocol import Meter, Protocol, check_comparable
from metrics.statistics import joined
from metrics.statistics_files import load_statistics
from models.batches import load_batches
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options.options import Options
from util import distributed
from util.errors import UserError
from util.images import to_uint8
from util.progress import progress

NOISE_SEED = 0  # every evaluation gives every layout the same styles


class Evaluator:
    """Synthesizes the whole test split from prior noise and compares it with statistics of real images.

    The images are the ones test.py makes: no flips, no random crops, networks in evaluation mode. They are measured as
    ``fid_score.py`` measures files. What keeps the FID from comparing, such as statistics of another image size, is
    pointed out here, before training.

    :raises UserError: missing weights, statistics or test split, or statistics of another network.
    """

    def __init__(self, opt: Options):
        if opt.label_dir:
            raise UserError("--train_eval: --label_dir has no test split, which evaluation needs; give --dataroot with "
                            "train_* and val_* folders instead")
        dims = feature_dims(opt.eval_extractor, opt.eval_dims)
        real = load_statistics(opt.eval_statistics or opt.dataset_mode, dims, opt.eval_extractor)
        self.real, self.distance_name = real.statistics, KINDS[opt.eval_extractor].frechet
        self.extractor = load_extractor(opt.eval_extractor, dims, opt.device, opt.inception_weights, opt.eval_precision)
        opt = opt.for_evaluation().replace(max_dataset_size=sys.maxsize)
        self.loader = load_batches(opt)
        generated = Protocol.of(opt.image_size, None, len(self.loader.dataset), self.extractor, None)
        check_comparable((real.source, real.protocol), ("--train_eval", generated))

    def fid(self, model: Pix2PixModel, after_batch: Callable[[], None] = lambda: None) -> float:
        """The FID of ``model``, which is left in the mode that it was in; the random state of training is not touched.
        Several processes share the split, and get the same number.

        :param after_batch: called after every batch, in all processes equally often; it may end the evaluation with an
            exception.
        """
        training = model.training
        meter = Meter(self.extractor)
        synthesizer = Synthesizer(model)
        batches = self.loader.numbered()
        rounds = distributed.largest(len(self.loader))  # the last one may have no batch for some
        try:
            for _ in progress(range(rounds), doing="evaluating", unit="batch", quiet=not distributed.is_main()):
                if batch := next(batches, None):
                    _, data = batch
                    layout = synthesizer.prepare(data)
                    seeds = synthesizer.seeds(NOISE_SEED, data["path"])
                    images = synthesizer.images(layout, synthesizer.draw_styles(layout, seeds))
                    meter.add(to_uint8(images), data["path"])
                after_batch()
        finally:
            model.train(training)
        parts = distributed.gather(meter.finish()[0])
        return distributed.from_main(fid(self.real, joined(parts)) if parts else None)
