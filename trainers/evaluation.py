"""FID of the test split during training."""
import sys

import torch
from tqdm import tqdm

from data import create_dataloader
from metrics.distances import fid
from metrics.inception import load_inception
from metrics.protocol import Meter, Protocol, check_comparable
from metrics.statistics_files import load_statistics
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options.options import Options
from util.errors import UserError
from util.images import to_uint8

NOISE_SEED = 0  # every evaluation draws the same styles


class Evaluator:
    """Synthesizes the whole test split from prior noise and compares it with statistics of real images.

    The images are the ones test.py makes: no flips, no random crops, networks in evaluation mode. They are measured as
    ``fid_score.py`` measures files. What keeps the FID from comparing, such as statistics of another image size, is
    pointed out here, before training.

    :raises UserError: missing Inception weights, statistics or test split, or statistics of another network.
    """

    def __init__(self, opt: Options):
        if opt.label_dir:
            raise UserError("--train_eval: --label_dir names one folder of layouts, but evaluation needs a test split; "
                            "give --dataroot with train_* and val_* folders instead")
        self.device = opt.device
        real = load_statistics(opt.eval_statistics or opt.dataset_mode, opt.eval_dims)
        self.real = real.statistics
        self.inception = load_inception(opt.eval_dims, opt.device, opt.inception_weights, opt.eval_precision)
        self.loader = create_dataloader(opt.for_evaluation().replace(max_dataset_size=sys.maxsize))
        generated = Protocol.of(opt.image_size, None, len(self.loader.dataset), self.inception)
        check_comparable((real.source, real.protocol), ("--train_eval", generated))

    def fid(self, model: Pix2PixModel) -> float:
        """The FID of ``model``, which is put back into training mode; the random state of training is not touched."""
        meter = Meter(self.inception)
        devices = [self.device] if self.device.type == "cuda" else []
        synthesizer = Synthesizer(model)
        with torch.random.fork_rng(devices):
            torch.manual_seed(NOISE_SEED)
            for data in tqdm(self.loader, desc="evaluating", unit="batch"):
                images = synthesizer.images(synthesizer.prepare(data))
                meter.add(to_uint8(images), data["path"])
        model.train()
        return fid(self.real, meter.finish()[0])
