"""Options of ``models/export.py``."""
import argparse
import os

from options.options import Options
from options.test_options import NetworkOptions
from util.errors import UserError
from util.launch import device_ids

NEEDED = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}  # packages for each format


class ExportOptions(NetworkOptions):
    one_process = True
    not_from_file = NetworkOptions.not_from_file | {"use_amp"}
    defaults = {**NetworkOptions.defaults, "gpu_ids": "-1"}  # noqa: RUF012 (read only)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        add = parser.add_argument_group("file").add_argument
        add("--out", default="model.onnx", metavar="FILE", help="file to write; .pt2 instead of .onnx is for "
            "torch.export.load")
        add("--encoder", action="store_true", help="write the encoder instead of the generator")

    def needs_layouts(self, opt: Options) -> bool:
        return False  # it makes them up

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if os.path.splitext(opt.out)[1] not in NEEDED:
            raise UserError(f"--out {opt.out}: the format goes by the ending; name a file that ends with .onnx or .pt2")
        device = opt.gpu_ids == "mps" or device_ids("--gpu_ids", opt.gpu_ids) != [-1]
        for name, wrong in (("gpu_ids", device), ("use_amp", opt.use_amp), ("impl", opt.impl)):
            if wrong:
                raise UserError(f"--{name}: the file is written on the CPU, in float32 and from the plain operations; "
                                "leave it out")
        if opt.norm_mode == "inade":
            opt.use_vae = opt.encoder
        elif opt.encoder and not opt.use_vae:
            raise UserError("--encoder: the networks have none; a SPADE has one if it was trained with --use_vae")
