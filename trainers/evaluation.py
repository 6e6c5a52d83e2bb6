"""FID of the test split during training."""
import sys
from typing import Any

import torch
from tqdm import tqdm

from data import create_dataloader
from metrics.distances import fid
from metrics.inception import load_inception
from metrics.protocol import Meter, Protocol, check_comparable
from metrics.statistics_files import load_statistics
from models.networks import output_size
from models.pix2pix_model import Pix2PixModel
from util.errors import UserError
from util.images import to_uint8
from util.precision import autocast

NOISE_SEED = 0  # every evaluation draws the same styles


class Evaluator:
    """Synthesizes the whole test split from prior noise and compares it with statistics of real images.

    The images are the ones test.py makes: no flips, no random crops, networks in evaluation mode. They are measured as
    ``fid_score.py`` measures files. What keeps the FID from comparing, such as statistics of another image size, is
    pointed out here, before training.

    :raises UserError: missing Inception weights, statistics or test split, or statistics of another network.
    """

    def __init__(self, opt: Any):
        if getattr(opt, "label_dir", None):
            raise UserError("--train_eval: --label_dir names one folder of layouts, but evaluation needs a test split; "
                            "give --dataroot with train_* and val_* folders instead")
        self.opt = opt.replace(phase="test", isTrain=False, use_vae=False, serial_batches=True, no_flip=True,
                               load_size=opt.crop_size, max_dataset_size=sys.maxsize)
        real = load_statistics(opt.eval_statistics or opt.dataset_mode, opt.eval_dims)
        self.real = real.statistics
        self.inception = load_inception(opt.eval_dims, opt.device, opt.inception_weights, opt.eval_precision)
        self.loader = create_dataloader(self.opt)
        generated = Protocol.of(output_size(opt), None, len(self.loader.dataset), self.inception)
        check_comparable((real.source, real.protocol), ("--train_eval", generated))

    def fid(self, model: Pix2PixModel) -> float:
        """The FID of ``model``, which is put back into training mode; the random state of training is not touched."""
        meter = Meter(self.inception)
        devices = [self.opt.device] if self.opt.device.type == "cuda" else []
        model.eval()
        with torch.random.fork_rng(devices):
            torch.manual_seed(NOISE_SEED)
            for data in tqdm(self.loader, desc="evaluating", unit="batch"):
                with autocast(self.opt):
                    fake = model.sample(data)
                meter.add(to_uint8(fake), data["path"])
        model.train()
        return fid(self.real, meter.finish()[0])
