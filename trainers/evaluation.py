"""FID of the test split during training."""
import sys
from typing import Any

import torch
from tqdm import tqdm

from data import create_dataloader
from models.pix2pix_model import Pix2PixModel
from util.errors import UserError
from util.fid import FeatureStatistics, fid, load_statistics
from util.images import to_uint8
from util.inception import load_inception
from util.precision import autocast

NOISE_SEED = 0  # every evaluation draws the same styles


class Evaluator:
    """Synthesizes the whole test split from prior noise and compares it with ``datasets/train_mu_si/<dataset_mode>``.

    The images are the ones test.py makes: no flips, no random crops, networks in evaluation mode.

    :raises UserError: missing Inception weights, statistics or test split.
    """

    def __init__(self, opt: Any):
        if getattr(opt, "label_dir", None):
            raise UserError("--train_eval: --label_dir names one folder of layouts, but evaluation needs a test split; "
                            "give --dataroot with train_* and val_* folders instead")
        self.opt = opt.replace(phase="test", isTrain=False, use_vae=False, serial_batches=True, no_flip=True,
                               load_size=opt.crop_size, max_dataset_size=sys.maxsize)
        self.real = load_statistics(opt.dataset_mode, opt.eval_dims)
        self.inception = load_inception(opt.eval_dims, opt.device, opt.inception_weights)
        self.loader = create_dataloader(self.opt)

    def fid(self, model: Pix2PixModel) -> float:
        """The FID of ``model``, which is put back into training mode; the random state of training is not touched."""
        statistics = FeatureStatistics(self.opt.eval_dims)
        devices = [self.opt.device] if self.opt.device.type == "cuda" else []
        model.eval()
        with torch.random.fork_rng(devices):
            torch.manual_seed(NOISE_SEED)
            for data in tqdm(self.loader, desc="evaluating", unit="batch"):
                with autocast(self.opt):
                    fake = model.sample(data)
                statistics.update(self.inception(to_uint8(fake)))
        model.train()
        return fid(self.real, statistics)
