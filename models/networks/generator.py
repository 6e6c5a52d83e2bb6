"""The generator: a start at low resolution, then modulated residual blocks with doublings between them."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import LEAKY_SLOPE, ResnetBlock
from models.networks.normalization import Condition, MakeNorm, full_precision

DOUBLINGS = {"normal": 5, "more": 6, "most": 7}
CROP_DIVISOR = {name: 2**k for name, k in DOUBLINGS.items()}


def start_size(crop_size: int, aspect_ratio: float, num_upsampling_layers: str) -> tuple[int, int]:
    """Height and width of the generator's first feature map."""
    width = crop_size // CROP_DIVISOR[num_upsampling_layers]
    return round(width / aspect_ratio), width


def output_size(opt: Any) -> tuple[int, int]:
    """Height and width of the images that the generator of ``opt`` makes."""
    height, width = start_size(opt.crop_size, opt.aspect_ratio, opt.num_upsampling_layers)
    factor = CROP_DIVISOR[opt.num_upsampling_layers]
    return height * factor, width * factor


class Generator(nn.Module):
    """Image from a start and a condition (Figure 2 of the paper; the backbone is SPADE's).

    :param start_channels: length z_dim of the start vector, or channels of the start map with ``start_is_map``.
    :param size: height and width of the first feature map.
    :param make_norm: channels -> modulation layer.
    """

    def __init__(self, *, start_channels: int, start_is_map: bool, size: tuple[int, int], ngf: int,
                 num_upsampling_layers: str, make_norm: MakeNorm, spectral: bool):
        super().__init__()
        if num_upsampling_layers == "most" and ngf % 2:
            raise ValueError(f"ngf {ngf} must be even with 'most' upsampling layers")
        self.size = size
        self.output_size = tuple(side * CROP_DIVISOR[num_upsampling_layers] for side in size)
        self.up_after_first_middle = num_upsampling_layers in ("more", "most")

        def block(fin: int, fout: int) -> ResnetBlock:
            return ResnetBlock(fin, fout, make_norm, spectral)

        if start_is_map:
            self.fc = nn.Conv2d(start_channels, 16 * ngf, 3, padding=1)
        else:
            self.fc = nn.Linear(start_channels, 16 * ngf * size[0] * size[1])
        self._start = self._start_from_map if start_is_map else self._start_from_vector
        self.head_0 = block(16 * ngf, 16 * ngf)
        self.G_middle_0 = block(16 * ngf, 16 * ngf)
        self.G_middle_1 = block(16 * ngf, 16 * ngf)
        self.up_0 = block(16 * ngf, 8 * ngf)
        self.up_1 = block(8 * ngf, 4 * ngf)
        self.up_2 = block(4 * ngf, 2 * ngf)
        self.up_3 = block(2 * ngf, ngf)
        self.up_4 = block(ngf, ngf // 2) if num_upsampling_layers == "most" else None
        self.conv_img = nn.Conv2d(ngf // 2 if self.up_4 else ngf, 3, 3, padding=1)

    def _start_from_vector(self, start: Tensor) -> Tensor:
        x = self.fc(start).view(len(start), -1, *self.size)
        return x.contiguous(memory_format=torch.channels_last)  # what the start has, all residual blocks keep

    def _start_from_map(self, start: Tensor) -> Tensor:
        return self.fc(F.interpolate(start, size=self.size, mode="nearest"))

    def forward(self, start: Tensor, condition: Condition) -> Tensor:
        """
        :param start: noise [B, z_dim], or the semantic input [B, semantic_nc, H, W] (SPADE without encoder).
        :return: images [B, 3, H, W] in [-1, 1].
        """
        x = self._start(start)  # [B, 16nf, sh, sw]
        x = self.head_0(x, condition)
        x = self.G_middle_0(x, condition, double=True)  # [B, 16nf, 2sh, 2sw]
        x = self.G_middle_1(x, condition, double=self.up_after_first_middle)
        x = self.up_0(x, condition, double=True)  # [B, 8nf, ...]
        x = self.up_1(x, condition, double=True)  # [B, 4nf, ...]
        x = self.up_2(x, condition, double=True)  # [B, 2nf, ...]
        x = self.up_3(x, condition, double=True)  # [B, nf, H, W]; H/2, W/2 with `most`
        if self.up_4:
            x = self.up_4(x, condition, double=True)  # [B, nf/2, H, W]
        x = self.conv_img(F.leaky_relu(x, LEAKY_SLOPE))  # [B, 3, H, W]
        return full_precision(x).tanh()
