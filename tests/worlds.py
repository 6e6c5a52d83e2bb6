"""A small world, networks filled by name, and options that fit both, for tests of several commands."""
import numpy as np
import torch
from PIL import Image

from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from tests.fill import fill_

SIZE, CLASSES = 32, 5
NETWORK = ["--dataset_mode", "custom", "--label_nc", CLASSES, "--load_size", SIZE, "--crop_size", SIZE, "--ngf", 4,
           "--gpu_ids", "-1", "--seed", 3]
TRAIN = [*NETWORK, "--ndf", 4, "--no_vgg_loss", "--batchSize", 2]


def draw_world(root, train=6, val=3):
    rng = np.random.default_rng(0)
    for split, number in (("train", train), ("val", val)):
        for kind in ("label", "inst", "img"):
            (root / f"{split}_{kind}").mkdir(parents=True)
        for n in range(number):
            blocks = rng.integers(0, 9, (4, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            photo = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(blocks).save(root / f"{split}_inst" / f"p{n}.png")
            Image.fromarray(blocks % CLASSES).save(root / f"{split}_label" / f"p{n}.png")
            Image.fromarray(photo).save(root / f"{split}_img" / f"p{n}.png")
    return root


def succeed(process):
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    return process


def build_model(*args):
    opt = TestOptions().parse([str(arg) for arg in (*NETWORK, *args)])
    model = Pix2PixModel(opt)
    for label, network in model.networks().items():
        fill_(network, f"net{label}.")
    return model


def networks(folder, epoch="latest"):
    return {path.name: torch.load(path, weights_only=True) for path in sorted(folder.glob(f"{epoch}_net_*.pth"))}


def assert_equal_networks(first, second):
    assert first.keys() == second.keys() and first
    for name in first:
        assert first[name].keys() == second[name].keys()
        for key in first[name]:
            assert torch.equal(first[name][key], second[name][key]), (name, key)
