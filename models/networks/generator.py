"""The generator: a start at low resolution, then modulated residual blocks with upsampling between them."""
import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.networks.normalization import LEAKY_SLOPE, BatchNorm, Condition, MakeNorm
from models.networks.resnet_block import ResnetBlock
from models.networks.spectral import power_iteration
from models.networks.styles import FittedPrior
from util.precision import full_precision


class Generator(nn.Module):
    """Image from a start and a condition (Figure 2 of the paper; the backbone is SPADE's).

    :param start_channels: length z_dim of the start vector, or channels of the start map with ``start_is_map``.
    :param size: height and width of the first feature map.
    :param upsamplings: how often the resolution is doubled, 5 to 7.
    :param make_norm: channels -> modulation layer.
    :param prior: what turns samples of the paper's prior into those that this generator knows; None: nothing.

    With ``recomputes``, the backward pass computes the blocks' activations once more instead of keeping them.
    """

    def __init__(self, *, start_channels: int, start_is_map: bool, size: tuple[int, int], ngf: int,
                 upsamplings: int, make_norm: MakeNorm, spectral: bool, prior: FittedPrior | None = None):
        super().__init__()
        self.prior = prior
        self.size = size
        self.recomputes = False
        self.output_size = tuple(side * 2**upsamplings for side in size)
        self.up_after_first_middle = upsamplings >= 6

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
        self.up_4 = block(ngf, ngf // 2) if upsamplings == 7 else None
        self.conv_img = nn.Conv2d(ngf // 2 if self.up_4 else ngf, 3, 3, padding=1)

    def _start_from_vector(self, start: Tensor) -> Tensor:
        x = self.fc(start).view(start.shape[0], -1, *self.size)
        return x.contiguous(memory_format=torch.channels_last)  # what the start has, all residual blocks keep

    def _start_from_map(self, start: Tensor) -> Tensor:
        return self.fc(F.interpolate(start, size=self.size, mode="nearest"))

    def forward(self, start: Tensor, condition: Condition) -> Tensor:
        """In training, this makes a power iteration of every spectral norm.

        :param start: z [B, z_dim], or the semantic input [B, semantic_nc, H, W] (SPADE without encoder).
        :return: images [B, 3, H, W] in [-1, 1].
        """
        if self.training:
            power_iteration(self)
        run = _recomputed if self.recomputes and torch.is_grad_enabled() else ResnetBlock.__call__
        x = self._start(start)  # [B, 16nf, sh, sw]
        x = run(self.head_0, x, condition)
        x = run(self.G_middle_0, x, condition, upsample=True)  # [B, 16nf, 2sh, 2sw]
        x = run(self.G_middle_1, x, condition, upsample=self.up_after_first_middle)
        x = run(self.up_0, x, condition, upsample=True)  # [B, 8nf, ...]
        x = run(self.up_1, x, condition, upsample=True)  # [B, 4nf, ...]
        x = run(self.up_2, x, condition, upsample=True)  # [B, 2nf, ...]
        x = run(self.up_3, x, condition, upsample=True)  # [B, nf, H, W]; H/2, W/2 where up_4 follows
        if self.up_4:
            x = run(self.up_4, x, condition, upsample=True)  # [B, nf/2, H, W]
        x = self.conv_img(F.leaky_relu(x, LEAKY_SLOPE))  # [B, 3, H, W]
        return full_precision(x).tanh()


def _recomputed(block: ResnetBlock, x: Tensor, condition: Condition, upsample: bool = False) -> Tensor:
    # nothing in a block is random, and power iterations happen outside of it: the second time gives the same numbers
    return checkpoint(block, x, condition, upsample, use_reentrant=False, preserve_rng_state=False,
                      context_fn=lambda: (contextlib.nullcontext(), _RunningStatisticsKept(block)))


class _RunningStatisticsKept:
    """In this context the batch norms of ``block`` do not count what they see. It is entered in every backward pass."""

    def __init__(self, block: ResnetBlock):
        self.norms = [layer for layer in block.modules() if isinstance(layer, BatchNorm)]
        self.momenta = [norm.momentum for norm in self.norms]

    def __enter__(self) -> None:
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, momentum in zip(self.norms, self.momenta, strict=True):
            norm.momentum = momentum
