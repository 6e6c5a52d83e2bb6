"""Let the prior of every class have the mean of what the encoder sees in photos:

    python -m models.fit_prior --name EXP --dataroot DATA

The encoder does not know of which class an instance is. What the instances of a class have in common, such as bright
skin, therefore ends up in its styles, whose mean m_y is not that of the prior, 0. The smaller ``--lambda_kld``, the
larger is m_y, and the less do samples of the prior look like photos.

Here the mean of every class moves from the encoder to the generator: the encoder subtracts m_y, and the generator's
bias of the class takes in what m_y adds. Pictures in styles of photos stay the same where each instance is of one
class; the prior becomes N(m_y, 1) in terms of the old networks. (Ghosh et al., ICLR 2020, fit the prior of an
autoencoder after its training as well.)
"""
import os

from data.command_line import refuse_mistakes
from options.fit_options import FitOptions
from util.errors import UserError, command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(FitOptions())

import torch
import torch.nn.functional as F
from torch import Tensor

from data import create_dataset
from data.kinds import save_class_names
from models.networks.normalization import INADE
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer, instance_classes
from util.checkpoints import network_path
from util.files import copy_atomically, exclusive
from util.progress import counted, progress


@command
def main() -> None:
    opt = FitOptions().parse()
    place = os.path.abspath(opt.out)
    fitted = opt.replace(checkpoints_dir=os.path.dirname(place), name=os.path.basename(place), class_means=True)
    if os.path.exists(network_path(place, "G", "latest")):
        raise UserError(f"--out {opt.out}: has networks already; name another folder")
    dataset = create_dataset(opt)
    synthesizer = Synthesizer.from_options(opt)
    model = synthesizer.model
    with exclusive(place, opt.out, remedy="give another --out"):
        means, counts = class_means(synthesizer, dataset)
        move_means(model, means)
        fitted.save()
        save_class_names(fitted)
        model.opt = fitted
        model.save("latest")
        discriminators = network_path(opt.folder, "D", opt.which_epoch)
        if os.path.exists(discriminators):  # for training that goes on from here
            copy_atomically(discriminators, network_path(place, "D", "latest"))
    print(f"{opt.out}: networks whose prior has the means of {int((counts > 0).sum())} classes in "
          f"{counted(len(dataset), 'photo')}")


@torch.no_grad()
def class_means(synthesizer: Synthesizer, dataset) -> tuple[Tensor, Tensor]:
    """The mean over all instances of a class of the posteriors' means, [C, 2, noise_nc], 0 for a class that has none;
    and how many instances those are, [C]. An instance is of the class of most of its pixels."""
    opt = synthesizer.opt
    sums = torch.zeros(opt.num_classes, 2, opt.noise_nc, dtype=torch.float64)
    counts = torch.zeros(opt.num_classes)
    for _, batch in progress(synthesizer.layouts(dataset), doing="encoding", unit="photo", total=len(dataset)):
        mu = synthesizer.posterior(batch).mu[0].double().cpu()
        for instance, label in instance_classes(batch).items():
            sums[label] += mu[instance]
            counts[label] += 1
    return (sums / counts.clamp(min=1)[:, None, None]).to(torch.get_default_dtype()), counts


@torch.no_grad()
def move_means(model: Pix2PixModel, means: Tensor) -> None:
    """Let the encoder subtract ``means`` [C, 2, noise_nc], and the generator's biases take in what they add."""
    means = means.to(model.opt.device)
    before = model.netE.class_means
    model.netE.class_means = means if before is None else before + means
    for layer in model.netG.modules():
        if isinstance(layer, INADE):
            layer.bias += layer.weight * F.linear(means, layer.fc_noise.weight).transpose(1, 2)


if __name__ == "__main__":
    main()
