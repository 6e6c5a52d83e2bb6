"""The Python API: pictures from layouts with trained networks.

    synthesizer = Synthesizer.load("checkpoints/EXP")
    layout = synthesizer.read("label.png", "instances.png")
    styles = synthesizer.draw_styles(layout)
    picture = synthesizer.pictures(layout, styles)[0]
"""
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data import DATASETS, collate
from data.instance_maps import main_classes
from data.sample import Files, SampleReader
from models.batches import Batch
from models.graphs import Graphs
from models.layout_styles import LayoutStyles, of_posterior
from models.networks.styles import Posterior, Styles, noise_of_samples
from models.pix2pix_model import Pix2PixModel
from options import Options, TestOptions
from util.device import use_device
from util.errors import UserError
from util.images import to_pictures
from util.memory import keep_freed_memory, limit_memory
from util.precision import autocast
from util.seed import seed_of


class Synthesizer:
    """Draws pictures of layouts, in styles that are drawn from the prior, taken from photos, or exchanged for some
    instances. Nothing is recorded for gradients; mixed precision, device and memory settings are those of the options.

    Layouts come as a :class:`~models.batches.Batch` of one or more; :meth:`layout`, :meth:`read` and
    :meth:`prepare` make one. All pictures are made with the networks in evaluation mode; with ``--cuda_graphs`` as
    graphs, by one thread at a time.
    """

    def __init__(self, model: Pix2PixModel):
        self.model, self.opt = model, model.opt
        self.graphs = Graphs(self.opt.device) if self.opt.cuda_graphs else None
        self._reader: SampleReader | None = None

    @classmethod
    def from_options(cls, opt: Options) -> "Synthesizer":
        """The networks of ``--which_epoch``, with ``--use_ema`` the averaged ones.

        :raises UserError: a file is missing or belongs to another architecture.
        """
        use_device(opt.device, opt.tf32, opt.deterministic)
        keep_freed_memory()
        limit_memory(opt.device)
        model = Pix2PixModel(opt)
        model.load(opt.which_epoch, opt.use_ema)
        return cls(model)

    @classmethod
    def load(cls, folder: str, epoch: str | int = "latest", gpu_ids: str = "-1",
             use_amp: bool = False, use_ema: bool = False, cuda_graphs: bool = False) -> "Synthesizer":
        """The networks of a folder of train.py, e.g. ``checkpoints/EXP``, built as its ``opt.txt`` says.

        :param epoch: a number, latest or best.
        :param gpu_ids: a CUDA device; -1 is the CPU.
        :param use_ema: the averaged networks of a run with ``--ema``.
        :param cuda_graphs: launch networks as a whole, once they ran twice on layouts of a form.
        :raises UserError: a file is missing, or they do not belong together.
        """
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder; name that of a run of train.py")
        if not os.path.isfile(os.path.join(folder, "opt.txt")):
            raise UserError(f"{folder}: has no opt.txt; give the options of the networks with Synthesizer.from_options")
        parent, name = os.path.split(os.path.abspath(folder))
        args = [f"--checkpoints_dir={parent}", f"--name={name}", "--load_from_opt_file", f"--which_epoch={epoch}",
                f"--gpu_ids={gpu_ids}"]
        switches = {"--use_amp": use_amp, "--cuda_graphs": cuda_graphs}
        opt = TestOptions().parse([*args, *(name for name, on in switches.items() if on)])
        return cls.from_options(opt.for_evaluation().replace(use_amp=use_amp, use_ema=use_ema))

    # ---- layouts ----

    def prepare(self, data) -> Batch:
        """A layout of a batch of the data loader."""
        return self.model.prepare(data)

    def layouts(self, dataset, most: float = math.inf, first: int = 0, step: int = 1) -> Iterator[tuple[str, Batch]]:
        """The layouts of a data set of :func:`data.create_dataset` one by one, below number ``most``, from ``first`` in
        steps: the path of each, and a batch of it alone."""
        for index in range(first, int(min(most, len(dataset))), step):
            sample = dataset[index]
            yield sample["path"], self.prepare(collate([sample]))

    def read(self, label: str, instance: str | None = None, photo: str | None = None) -> Batch:
        """A layout from files, brought to the network's size by ``--preprocess_mode`` as test.py does.

        :param label: label map.
        :param instance: instance map; without one, the label map serves.
        :param photo: the photo that belongs to it, for :meth:`encode_styles`.
        :raises UserError: a file that cannot be used.
        """
        return self.read_files(Files(label, photo, instance))

    def read_files(self, files: Files) -> Batch:
        """:meth:`read` of the files of one sample."""
        return self.prepare(collate([self._sample_reader().read(files)]))

    def layout(self, label: np.ndarray, instance: np.ndarray | None = None, photo: np.ndarray | None = None) -> Batch:
        """A layout from arrays, as :meth:`read` makes it from files.

        :param label: [H, W] class ids as in label files; 255 is "don't care" where the networks know it.
        :param instance: [H, W] instance ids; if one is above 255, they become 0..n-1 in ascending order.
        :param photo: [H, W, 3] uint8.
        :raises UserError: arrays that are no such maps.
        """
        return self.prepare(collate([self._sample_reader().assemble(label, instance, photo)]))

    def _sample_reader(self) -> SampleReader:
        if self._reader is None:
            self._reader = SampleReader(self.opt)
        return self._reader

    # ---- styles ----

    def seeds(self, seed: int, paths: Sequence[str], sample: int = 0) -> list[int]:
        """Seeds for :meth:`draw_styles` that belong to the name of the layout and the number of the sample.

        :param paths: of the layouts: photos, label or instance maps, which all have one name.
        """
        kind = DATASETS[self.opt.dataset_mode]
        return [seed_of(seed, kind.pairing_key(path), sample) for path in paths]

    def draw_styles(self, batch: Batch, seeds: Sequence[int] | None = None, truncation: float = 1.0) -> Styles:
        """Styles of the prior, newly drawn for every layout of the batch.

        :param seeds: one for each layout, on which alone its styles then depend, and every instance's on its id;
            without them, PyTorch's default generator draws. A fitted prior also looks at its class.
        :param truncation: factor on the spread of the prior; 0 gives its mean.
        """
        normal = None if seeds is None else noise_of_samples(batch.layout, seeds)
        styles = self.model.mode.prior(batch.layout, normal)
        prior = self.model.netG.prior
        return (styles if prior is None else prior(styles, batch.layout)).scaled(truncation)

    def noise_of(self, batch: Batch, styles: Styles) -> Styles:
        """What a posterior is to remap, for styles of :meth:`draw_styles`: they themselves, or what the fitted prior
        made them of."""
        prior = self.model.netG.prior
        return styles if prior is None else prior.undone(styles, batch.layout)

    @torch.no_grad()
    def posterior(self, batch: Batch) -> Posterior:
        """What the encoder sees in the photos of ``batch``. :raises UserError: no encoder, or no photos."""
        if self.model.netE is None:
            raise UserError("the network has no encoder, so it cannot take styles from a photo; use one that was "
                            "trained with --use_vae")
        if batch.image is None:
            raise UserError("the layout has no photo to take styles from; give it with the layout")
        if self.graphs is None:
            return self._encoded([batch])
        return self.graphs.run("posterior", self._encoded, [batch.rounded()]).of_first(batch.layout.num_instances)

    def encode_styles(self, batch: Batch, prior: Styles | None = None) -> Styles:
        """Styles of the posterior that the encoder sees in the photos of ``batch``.

        :param prior: styles [N, ...] of the prior to be remapped, for one layout or for N; drawn if None;
            ``prior.zeros()`` gives the mean.
        :raises UserError: no encoder, or no photos.
        """
        posterior = self.posterior(batch)
        return posterior.remap(self.noise_of(batch, self.draw_styles(batch) if prior is None else prior))

    def mean_styles(self, batch: Batch, prior: Styles | None = None) -> Styles:
        """Styles for reconstructions: the means that the encoder sees in the photos of ``batch``. INADE's encoder sees
        no z, which is that of ``prior``, or drawn if None.

        :raises UserError: no encoder, or no photos.
        """
        prior = prior or self.draw_styles(batch)
        zeros = prior.zeros()
        return self.posterior(batch).remap(zeros if prior.noise is None else Styles(prior.z, zeros.noise))

    def reference(self, batch: Batch) -> LayoutStyles:
        """What :meth:`transfer` takes: the styles that the encoder sees in the photo of ``batch`` (one layout).

        :raises UserError: no encoder, or no photo, or the networks know no styles of instances.
        """
        self._check_instance_styles()
        return LayoutStyles.of(batch.layout, **of_posterior(self.posterior(batch)))

    def transfer(self, batch: Batch, styles: Styles, source: LayoutStyles, sample: int | None = None) -> Styles:
        """``styles`` with those of ``source`` for the instances of ``batch`` (one layout) that have a partner there,
        see :meth:`~models.layout_styles.LayoutStyles.partners`; the others keep theirs.

        :param styles: of the prior; the posterior of ``source`` remaps them.
        :param sample: of a file of styles, the sample to take as it is instead.
        :raises UserError: the networks know no styles of instances, or there is no such sample.
        """
        self._check_instance_styles()
        return source.give(styles, self.noise_of(batch, styles), LayoutStyles.of(batch.layout).partners(source), sample)

    def _check_instance_styles(self) -> None:
        if self.opt.norm_mode != "inade":
            raise UserError(f"--norm_mode {self.opt.norm_mode}: instances have no styles of their own; use inade")

    def exchange(self, batch: Batch, styles: Styles, others: Styles, instances: Sequence[int] = (),
                 classes: Sequence[int] = ()) -> Styles:
        """``styles`` with those of ``others`` for these instances of ``batch`` (one layout), and for all instances
        that are mostly of these classes.

        :raises UserError: the networks know no styles of instances, or the layout has no such instance.
        """
        self._check_instance_styles()
        owners = instance_classes(batch)
        missing = sorted(set(instances) - owners.keys())
        if missing:
            raise UserError(f"the layout has no instance {missing[0]}; its instances are {', '.join(map(str, owners))}")
        chosen = {*instances, *(i for i, label in owners.items() if label in set(classes))}
        return styles.exchange(others, sorted(chosen))

    # ---- pictures ----

    @torch.no_grad()
    def images(self, batch: Batch, styles: Styles | None = None) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1], on the device; in newly drawn styles of the prior if None."""
        styles = self.draw_styles(batch) if styles is None else styles
        if self.graphs is not None:
            batch = dataclasses.replace(batch.rounded(), image=None)
            styles = styles.padded(batch.layout.num_instances)
            return self.graphs.run("images", self._synthesized, [batch], *styles.tensors())
        return self._synthesized([batch], *styles.tensors())

    def pictures(self, batch: Batch, styles: Styles | None = None) -> np.ndarray:
        """Pictures [B, H, W, 3] of RGB bytes, as test.py writes them.

        :raises UserError: the networks compute no numbers (NaN).
        """
        images = self.images(batch, styles)
        if not images.isfinite().all():
            raise UserError("the networks' picture has values that are not finite; check --style_file, or use another "
                            "checkpoint")
        return to_pictures(images)

    def _synthesized(self, batches: Sequence[Batch], *tensors: Tensor) -> Tensor:
        with self._settings():
            return self.model.synthesize(batches[0], Styles(*tensors))

    def _encoded(self, batches: Sequence[Batch]) -> Posterior:
        with self._settings():
            return self.model.netE(batches[0].image, batches[0].layout)

    def _settings(self) -> torch.autocast:
        self.model.eval()
        return autocast(self.opt.device, self.opt.use_amp, self.opt.amp_dtype)


def instance_classes(batch: Batch) -> dict[int, int]:
    """Instance id -> the class of most of its pixels, for one layout; ids in ascending order."""
    return main_classes(*(ids[0].cpu().numpy() for ids in (batch.layout.label, batch.layout.instance)))
