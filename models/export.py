"""Networks as files for programs that know nothing of this project: for ONNX Runtime, or for PyTorch alone.

    pip install -r requirements-export.txt
    python -m models.export --name EXP --out generator.onnx               # or .pt2, for torch.export.load
    python -m models.export --name EXP --out encoder.onnx --encoder

docs/styles.md says what goes in and what comes out. What was written is compared with this project before it is kept.
"""
import copy
import importlib
import os
from collections.abc import Callable

from data.command_line import refuse_mistakes
from options.export_options import NEEDED, ExportOptions
from util.errors import UserError, command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(ExportOptions())

import torch
from torch import Tensor, nn
from torch.export import Dim

from models.networks.spectral import SpectralConv2d
from models.networks.styles import Styles
from models.networks.traced import TracedLayout
from models.ops import backend
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from util.files import atomic_path, check_writable

CHECKED = ((1, 1), (1, 30), (3, 8))  # layouts and instances of the batches that are compared
MOST = 1e-3  # difference, where numbers exceed 1 as a part of the largest: an eighth of a grey level


@command
def main() -> None:
    opt = ExportOptions().parse()
    check_writable(opt.out)
    for name in NEEDED[os.path.splitext(opt.out)[1]]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(f"--out {opt.out}: needs the package {error.name}: pip install -r requirements-export.txt"
                            ) from error
    synthesizer = Synthesizer.from_options(opt)
    print(f"writing {opt.out} takes about a minute", flush=True)
    difference = export(synthesizer, opt.out, opt.encoder)
    print(f"{opt.out}: {os.path.getsize(opt.out) / 2**20:.1f} MiB; largest difference on "
          f"{sum(size for size, _ in CHECKED)} made-up layouts: {difference:.1e}")


@torch.no_grad()
def export(synthesizer: Synthesizer, path: str, encoder: bool = False) -> float:
    """Write the generator, or the encoder, compare it with this project, and return the largest difference.

    :raises UserError: it is above ``MOST``, and nothing was kept; or the file cannot be written.
    """
    exported, differences = Exported(synthesizer.model, encoder), []
    with atomic_path(path) as temporary:
        exported.write(temporary)
        run = runner(temporary)
        for size, instances in CHECKED:
            tensors = exported.example(size, instances)
            for found, right in zip(run(tensors), expected(synthesizer, tensors), strict=True):
                difference = (found - right).abs().max() / right.abs().max().clamp(min=1)
                differences.append(difference.nan_to_num(torch.inf).item())
        if max(differences) > MOST:
            raise UserError(f"--out {path}: what was written differs from the networks by {max(differences):.1e} and "
                            f"was not kept; try other versions of {', '.join(NEEDED['.onnx'])} or PyTorch")
    return max(differences)


class Exported(nn.Module):
    """The generator, or the encoder, as a function of tensors; ``inputs`` and ``outputs`` are their names."""

    def __init__(self, model: Pix2PixModel, encoder: bool):
        super().__init__()
        self.opt, self.mode, inade = model.opt, model.mode, model.opt.norm_mode == "inade"
        network = copy.deepcopy(model.netE if encoder else model.netG).eval().requires_grad_(False)
        self.network = network.to(memory_format=torch.contiguous_format)
        for conv in self.network.modules():
            if isinstance(conv, SpectralConv2d):  # becomes an ordinary one
                weight = nn.Parameter(conv.weight_orig * conv.gain(), requires_grad=False)
                del conv.weight_orig, conv.weight_u, conv.weight_v
                conv.__class__, conv.weight = nn.Conv2d, weight
        uses = {"label": not encoder or (inade and self.opt.fitted_prior),
                "instance": inade or not (encoder or self.opt.no_instance), "photo": encoder,
                "z": not encoder and (inade or self.opt.use_vae), "noise": not encoder and inade}
        self.inputs = tuple(name for name, used in uses.items() if used)
        self.outputs = ("mu", "logvar") if encoder else ("picture",)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.inputs, tensors, strict=True))
        maps = [given[name] for name in ("label", "instance") if name in given]
        layout = maps and [maps[0], maps[-1], self.opt.num_classes, not self.opt.no_instance]
        if "photo" not in given:
            noise = given.get("noise")
            layout = TracedLayout(*layout) if noise is None else TracedLayout(*layout, noise.shape[1])
            return (self.network(*self.mode.inputs(layout, Styles(given.get("z"), noise))),)
        posterior = self.network(given["photo"], TracedLayout(*layout, maps[-1].max().item() + 1) if maps else None)
        return posterior.mu, posterior.logvar

    def write(self, path: str) -> None:
        """Trace the plain form of the operations, and write the graph."""
        batch, instances = Dim("batch", min=1), Dim("instances", min=1)
        axes = [{0: batch, 1: instances} if name == "noise" else {0: batch} for name in self.inputs]
        backend.use("plain", self.opt.device)
        try:
            program = torch.export.export(self, tuple(self.example(2, 5).values()), dynamic_shapes=(tuple(axes),))
            if path.endswith(".onnx"):
                program = torch.onnx.export(program, input_names=self.inputs, output_names=self.outputs, dynamo=True,
                                            external_data=False, verbose=False)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # other versions know other operations, and fail in many ways
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise UserError(f"PyTorch {torch.__version__} could not write the networks ({reason}); try another version "
                            "of it or of onnxscript, see requirements-export.txt") from error
        finally:
            backend.use(self.opt.impl, self.opt.device)
        program.save(path) if path.endswith(".onnx") else torch.export.save(program, path)

    def example(self, size: int, instances: int) -> dict[str, Tensor]:
        """Made-up inputs: layouts of blocks, whose classes and instances cross."""
        opt, (height, width) = self.opt, self.opt.image_size

        def blocks(count: int, side: int) -> Tensor:
            small = torch.randint(count, (size, height // side, width // side))
            return small.repeat_interleave(side, 1).repeat_interleave(side, 2)

        make = {"label": lambda: blocks(opt.num_classes, 16), "instance": lambda: blocks(instances, 8),
                "photo": lambda: torch.rand(size, 3, height, width) * 2 - 1, "z": lambda: torch.randn(size, opt.z_dim),
                "noise": lambda: torch.randn(size, instances, 2, opt.noise_nc)}
        return {name: make[name]() for name in self.inputs}


def runner(path: str) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """The network in a file, as a function of named tensors."""
    if path.endswith(".pt2"):
        program = torch.export.load(path).module()
        return lambda tensors: list(program(*tensors.values()))
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda tensors: [torch.from_numpy(found) for found in
                            session.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})]


def expected(synthesizer: Synthesizer, tensors: dict[str, Tensor]) -> list[Tensor]:
    """What this project makes of the same."""
    size = next(iter(tensors.values())).shape[0]
    blank = torch.zeros(size, *synthesizer.opt.image_size, dtype=torch.int64)
    label, instance = (tensors.get(name, blank)[:, None] for name in ("label", "instance"))
    batch = synthesizer.prepare({"label": label, "instance": instance, "image": tensors.get("photo")})
    if batch.image is None:
        return [synthesizer.images(batch, Styles(tensors.get("z"), tensors.get("noise")))]
    posterior = synthesizer.posterior(batch)
    return [posterior.mu, posterior.logvar]


if __name__ == "__main__":
    main()
