"""Let the prior of every class be like what the encoder sees in photos:

    python -m models.fit_prior --name EXP --dataroot DATA

The encoder does not know which class an instance is of. So what the instances of a class have in common, such as
bright skin, ends up in their styles, whose mean m_y is then not 0, as in the prior. And what the instances of a photo
have in common, such as its light, makes their styles go together, which independent samples do not. The smaller
``--lambda_kld`` is, the larger both are, and the less samples of the prior look like photos.

Here the mean of every class moves from the encoder to the generator: the encoder subtracts m_y, and the generator's
bias of the class takes in what m_y adds. Pictures in styles of photos stay the same where each instance is of one
class. Around the means, samples of the prior get the variance of the photos' styles in each dimension, and z moves all
classes together, along the leading principal components of these styles. (Ghosh et al., ICLR 2020, fit the prior of an
autoencoder after its training as well.)
"""
import math
import os
from dataclasses import dataclass

from data.command_line import refuse_mistakes
from options.fit_options import FitOptions
from util.errors import UserError, command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(FitOptions())

import torch
import torch.nn.functional as F
from torch import Tensor

from data import create_dataset
from data.kinds import save_class_names, saved_class_names
from models.networks.normalization import INADE
from models.networks.styles import FittedPrior
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer, instance_classes
from options import Options
from util.checkpoints import network_path
from util.files import copy_atomically, new_folder, read_text, write_atomically
from util.progress import counted, progress

MOST = 2000  # photos, from which factors are taken
FEW = 20  # instances: a class that has fewer shall not make a factor of its own


@command
def main() -> None:
    opt = FitOptions().parse()
    dataset = create_dataset(opt)
    synthesizer = Synthesizer.from_options(opt)
    with new_folder(opt.out) as folder:
        seen = look(synthesizer, dataset)
        move_means(synthesizer.model, seen.means())
        synthesizer.model.netG.prior = fitted(seen, opt)
        save(synthesizer.model, folder)
    count = int((seen.counts > 0).sum())
    print(f"{opt.out}: networks whose prior is fitted to {count} classes in {counted(len(dataset), 'photo')}")


def save(model: Pix2PixModel, folder: str) -> None:
    """Write the networks, with what a run has beside them: its options, names of classes and discriminators."""
    before = model.opt.folder
    parent, name = os.path.split(folder)
    opt = model.opt = model.opt.replace(checkpoints_dir=parent, name=name, fitted_prior=True)
    model.save("latest")
    if os.path.isfile(options := os.path.join(before, "opt.txt")):
        lines = [line for line in read_text(options).splitlines() if not line.strip().startswith("fitted_prior:")]
        lines.append(f"{'fitted_prior':>25}: {True!s:<30}\t[default: False]")
        write_atomically(os.path.join(folder, "opt.txt"), "\n".join(lines) + "\n")
    else:
        opt.save()
    save_class_names(opt, saved_class_names(before))
    discriminators = network_path(before, "D", opt.which_epoch)
    if os.path.exists(discriminators):  # for training that goes on from here
        copy_atomically(discriminators, network_path(folder, "D", "latest"))


@dataclass
class Seen:
    """Sums over the posteriors of all instances of a class, [C, 2, noise_nc] and [C], in float64."""

    sums: Tensor  # of mu
    squares: Tensor  # of mu^2 + sigma^2
    counts: Tensor
    photos: list[tuple[Tensor, Tensor]]  # of MOST photos at most: sums and counts of each

    def means(self) -> Tensor:
        """Of classes; 0 for those without instances."""
        return (self.sums / self.counts[:, None, None]).nan_to_num(0)


@torch.no_grad()
def look(synthesizer: Synthesizer, dataset) -> Seen:
    """What the encoder sees in the photos. An instance is of the class of most of its pixels."""
    opt = synthesizer.opt
    zeros = torch.zeros(opt.num_classes, 2, opt.noise_nc, dtype=torch.float64)
    seen = Seen(zeros.clone(), zeros.clone(), zeros[:, 0, 0].clone(), [])
    step = math.ceil(len(dataset) / MOST)
    layouts = progress(synthesizer.layouts(dataset), doing="encoding", unit="photo", total=len(dataset))
    for number, (_, batch) in enumerate(layouts):
        posterior = synthesizer.posterior(batch)
        mu, variance = posterior.mu[0].double().cpu(), posterior.logvar[0].double().exp().cpu()
        sums, counts = zeros.clone(), zeros[:, 0, 0].clone()
        for instance, label in instance_classes(batch).items():
            sums[label] += mu[instance]
            counts[label] += 1
            seen.squares[label] += mu[instance] ** 2 + variance[instance]
        seen.sums += sums
        seen.counts += counts
        if number % step == 0:
            seen.photos.append((sums, counts[:, None, None]))
    if not (seen.sums + seen.squares).isfinite().all():
        raise UserError(f"{opt.folder}: its encoder sees styles that are not finite; use another checkpoint")
    return seen


def fitted(seen: Seen, opt: Options) -> FittedPrior:
    """The factors are principal components of the photos' styles, scaled by their deviations; in each dimension, the
    deviation of instances adds the rest of the variance. Where a photo lacks a class, it says nothing of it."""
    prior, means = FittedPrior(opt.num_classes, opt.noise_nc, opt.z_dim), seen.means()
    sums, counts = (torch.stack(part) for part in zip(*seen.photos, strict=True))  # [N, C, 2, noise_nc], [N, C, 1, 1]
    # (a photo's mean - mean) * sqrt(its part of the instances): rows' * rows is the covariance of photos' means
    rows = (sums - counts * means) / (counts * counts.sum(0).clamp(min=FEW)).sqrt()
    rows = rows.nan_to_num(0).flatten(1)  # [N, C*2*noise_nc]
    _, vectors = torch.linalg.eigh(rows @ rows.T)  # of N photos, which are fewer than dimensions in large networks
    count = min(len(rows), prior.factors.shape[-1])
    factors = (rows.T @ vectors[:, -count:]).view(*means.shape, count)
    variance = (seen.squares / seen.counts[:, None, None] - means**2).nan_to_num(1)
    prior.factors[..., :count] = factors
    prior.deviations.copy_((variance - factors.square().sum(-1)).clamp(min=0.01).sqrt())
    return prior.to(opt.device)


@torch.no_grad()
def move_means(model: Pix2PixModel, means: Tensor) -> None:
    """Let the encoder subtract ``means`` [C, 2, noise_nc], and the generator's biases take in what they add."""
    means = means.to(model.netG.conv_img.weight)
    before = model.netE.class_means
    model.netE.class_means = means if before is None else before + means
    for layer in model.netG.modules():
        if isinstance(layer, INADE):
            layer.bias += layer.weight * F.linear(means, layer.fc_noise.weight).transpose(1, 2)


if __name__ == "__main__":
    main()
