"""Let the prior of every class have the mean of what the encoder sees in photos:

    python -m models.fit_prior --name EXP --dataroot DATA

The encoder does not know which class an instance is of. So what the instances of a class have in common, such as
bright skin, ends up in their styles, whose mean m_y is then not 0, as in the prior. The smaller ``--lambda_kld`` is,
the larger m_y is, and the less samples of the prior look like photos.

Here the mean of every class moves from the encoder to the generator: the encoder subtracts m_y, and the generator's
bias of the class takes in what m_y adds. Pictures in styles of photos stay the same where each instance is of one
class; the prior becomes N(m_y, 1) in terms of the old networks. (Ghosh et al., ICLR 2020, fit the prior of an
autoencoder after its training as well.)
"""
import os

from data.command_line import refuse_mistakes
from options.fit_options import FitOptions
from util.errors import command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(FitOptions())

import torch
import torch.nn.functional as F
from torch import Tensor

from data import create_dataset
from data.kinds import save_class_names, saved_class_names
from models.networks.normalization import INADE
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer, instance_classes
from util.checkpoints import network_path
from util.files import copy_atomically, new_folder, read_text, write_atomically
from util.progress import counted, progress


@command
def main() -> None:
    opt = FitOptions().parse()
    dataset = create_dataset(opt)
    synthesizer = Synthesizer.from_options(opt)
    with new_folder(opt.out) as folder:
        means, count = class_means(synthesizer, dataset)
        move_means(synthesizer.model, means)
        save(synthesizer.model, folder)
    print(f"{opt.out}: networks whose prior has the means of {count} classes in {counted(len(dataset), 'photo')}")


def save(model: Pix2PixModel, folder: str) -> None:
    """Write the networks, with what a run has beside them: its options, names of classes and discriminators."""
    before = model.opt.folder
    fitted = model.opt.replace(checkpoints_dir=os.path.dirname(folder), name=os.path.basename(folder), class_means=True)
    model.opt = fitted
    model.save("latest")
    if os.path.isfile(options := os.path.join(before, "opt.txt")):
        lines = [line for line in read_text(options).splitlines() if not line.strip().startswith("class_means:")]
        lines.append(f"{'class_means':>25}: {True!s:<30}\t[default: False]")
        write_atomically(os.path.join(folder, "opt.txt"), "\n".join(lines) + "\n")
    else:
        fitted.save()
    save_class_names(fitted, saved_class_names(before))
    discriminators = network_path(before, "D", fitted.which_epoch)
    if os.path.exists(discriminators):  # for training that goes on from here
        copy_atomically(discriminators, network_path(folder, "D", "latest"))


@torch.no_grad()
def class_means(synthesizer: Synthesizer, dataset) -> tuple[Tensor, int]:
    """The mean over all instances of a class of the posteriors' means, [C, 2, noise_nc], 0 for a class that has none;
    and how many classes have some. An instance is of the class of most of its pixels."""
    opt = synthesizer.opt
    sums = torch.zeros(opt.num_classes, 2, opt.noise_nc, dtype=torch.float64)
    counts = torch.zeros(opt.num_classes)
    for _, batch in progress(synthesizer.layouts(dataset), doing="encoding", unit="photo", total=len(dataset)):
        mu = synthesizer.posterior(batch).mu[0].double().cpu()
        for instance, label in instance_classes(batch).items():
            sums[label] += mu[instance]
            counts[label] += 1
    means = sums / counts.clamp(min=1)[:, None, None]
    return means.to(torch.get_default_dtype()), int((counts > 0).sum())


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
