"""The networks of ``--segmenter``: each takes pictures and returns maps of scored classes."""
import importlib
import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.label_space import LabelSpace
from options.options import Options
from util.errors import UserError, in_one_line
from util.precision import autocast

Segment = Callable[[Tensor], Tensor]  # pictures [B, 3, H, W], bytes -> class numbers [B, H, W]
PACKAGES = {"transformers": "transformers", "smp": "segmentation-models-pytorch"}  # by what precedes the colon


def load_segmenter(opt: Options, space: LabelSpace) -> Segment:
    """The network of --segmenter: a TorchScript file, ``transformers:MODEL`` or ``smp:MODEL``.

    :raises UserError: it cannot be loaded; when called: it cannot take the pictures, or it is of other classes.
    """
    kind, _, model = opt.segmenter.partition(":")
    scores = {"transformers": _from_transformers, "smp": _from_smp}.get(kind, _from_torchscript)(opt, model)

    @torch.no_grad()
    def segment(pictures: Tensor) -> Tensor:
        try:
            with autocast(opt.device, opt.use_amp, opt.amp_dtype):
                output = scores(pictures.to(opt.device))
        except Exception as error:  # packages and programs fail in many ways
            if in_one_line(error):  # memory, or the device
                raise
            size = f"{pictures.shape[3]}x{pictures.shape[2]}"
            raise UserError(f"--segmenter {opt.segmenter}: fails on a picture of {size} ({_last_line(error)}); check "
                            "which sizes it takes") from error
        return _classes(output, pictures.shape, opt, space)

    return segment


def _classes(output: Any, shape: torch.Size, opt: Options, space: LabelSpace) -> Tensor:
    """Class numbers [B, H, W] of what a network gives for pictures [B, 3, H, W]: scores [B, C, h, w], or ids [B, H, W].
    """
    source, size = f"--segmenter {opt.segmenter}", shape[2:]
    fits = isinstance(output, Tensor) and output.numel() and output.shape[0] == shape[0]
    if fits and output.ndim == 4 and output.is_floating_point():
        if not output.isfinite().all():
            raise UserError(f"{source}: returns scores that are not finite (NaN or infinite); use another network")
        return space.found(F.interpolate(output.float(), size, mode="bilinear"), source)
    if fits and output.ndim == 3 and not output.is_floating_point() and output.shape[1:] == size:
        return space.predicted(output, opt.prediction_ids, source)
    what = f"{output.dtype} {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise UserError(f"{source}: returns {what} for a picture of {size[1]}x{size[0]}; it must return scores [B, C, h, "
                    "w], or ids [B, H, W] as whole numbers, for B pictures")


def _from_torchscript(opt: Options, _: str) -> Callable[[Tensor], Any]:
    path = opt.segmenter
    if not os.path.isfile(path):
        raise UserError(f"--segmenter {path}: no such file; give lite0, a TorchScript file, transformers:MODEL or "
                        "smp:MODEL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch would have other formats written
            network = torch.jit.load(path, map_location=opt.device).eval()
    except Exception as error:
        raise UserError(f"--segmenter {path}: not a TorchScript file ({_last_line(error)}); write one with "
                        "torch.jit.save") from error
    return lambda pictures: network(_normalized(pictures, opt))


def _from_smp(opt: Options, model: str) -> Callable[[Tensor], Any]:
    package = _package(opt, "smp", "segmentation_models_pytorch")
    network = _loaded(opt, package, model).to(opt.device).eval()
    return lambda pictures: network(_normalized(pictures, opt))


def _from_transformers(opt: Options, model: str) -> Callable[[Tensor], Any]:
    package = _package(opt, "transformers", "transformers")
    network = _loaded(opt, package.AutoModelForSemanticSegmentation, model).to(opt.device).eval()
    prepare = _loaded(opt, package.AutoImageProcessor, model)  # which knows sizes and normalisation

    def scores(pictures: Tensor) -> Tensor:
        inputs = prepare(images=list(pictures.permute(0, 2, 3, 1).cpu().numpy()), return_tensors="pt")
        return network(pixel_values=inputs["pixel_values"].to(opt.device)).logits

    return scores


def _package(opt: Options, kind: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"--segmenter {opt.segmenter}: needs a package that cannot be imported; pip install "
                        f"{PACKAGES[kind]}") from error


def _loaded(opt: Options, loader: Any, model: str) -> Any:
    """What ``from_pretrained`` makes of ``FOLDER`` or ``NAME@REVISION``."""
    name, _, revision = (model, "", "") if os.path.isdir(model) else model.partition("@")
    if not os.path.isdir(name) and not revision:
        raise UserError(f"--segmenter {opt.segmenter}: needs a revision, because its authors may replace it; give "
                        f"{opt.segmenter}@REVISION, a commit or tag of its page, or name a folder")
    try:
        return loader.from_pretrained(name, **({"revision": revision} if revision else {}))
    except Exception as error:
        raise UserError(f"--segmenter {opt.segmenter}: cannot be loaded ({_last_line(error)}); give the name or the "
                        "folder of a model for semantic segmentation") from error


def _normalized(pictures: Tensor, opt: Options) -> Tensor:
    mean, std = (torch.tensor(values, device=opt.device).view(3, 1, 1)
                 for values in (opt.segmenter_mean, opt.segmenter_std))
    return (pictures.float() / 255 - mean) / std


def _last_line(error: Exception) -> str:
    """What an error says: TorchScript puts it below a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
