"""Fused kernels for CUDA, in Triton. What they compute, and the plain PyTorch forms that they replace, is described in
:mod:`models.ops.modulation` and :mod:`models.ops.instance_convolution`, which alone call them.

All is memory-bound, so a kernel reads and writes every large tensor once. Such tensors are rows of pixels [N, c], in
float32 or half; tables are [T, c], and what is computed has their precision (float32; float64 in tests). A program
works on a tile of ROWS x COLS numbers. Nothing is autotuned and nothing is added atomically: every run gives the same
numbers, and starts quickly.

    x   image or activations        region, index   number of every pixel's region
    n   numbers of pixels [ROWS]    k               channels [COLS]
"""
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.ops.regions import SegmentSums

TILE = 2048  # numbers that a program works on, ...
SMALL_TILE = 1024  # ... where it reads several for each, or where there are few: all of the device is to be busy
FEW = 2**20  # numbers
COLUMNS = 128  # a row of a tile, at most: 256 bytes in half
SUMMED_ROWS = 32  # rows of a tile that is summed


# ---- modulation


@triton.jit
def _modulate(x, scale, shift, mean, rstd, region, out, pixels, channels, width,
              SLOPE: tl.constexpr, UPSAMPLED: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (n < pixels)[:, None] & (k < channels)[None, :]
    t = tl.load(region + n, mask=n < pixels, other=0)
    value = _normalized(x, mean, rstd, _source(n, width, UPSAMPLED), k, channels, inside, scale.dtype.element_ty)
    factor = tl.load(scale + _at(t, k, channels), mask=inside, other=0)
    offset = tl.load(shift + _at(t, k, channels), mask=inside, other=0)
    value = value * factor + offset
    tl.store(out + _at(n, k, channels), tl.where(value > 0, value, value * SLOPE), mask=inside)


@triton.jit
def _modulate_sums(x, grad, scale, shift, mean, rstd, members, piece_start, piece_segment, sums, channels, width,
                   SLOPE: tl.constexpr, UPSAMPLED: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """What the pixels of a piece contribute to the gradients of scale and shift; ``sums`` [Q, 2, c].

    What went into the leaky ReLU is computed once more, so that the output need not be kept.
    """
    piece = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    start = tl.load(piece_start + piece)
    end = tl.load(piece_start + piece + 1)
    row = tl.load(piece_segment + piece).to(tl.int64) * channels + k
    factor = tl.load(scale + row, mask=k < channels, other=0)[None, :]
    offset = tl.load(shift + row, mask=k < channels, other=0)[None, :]
    grad_scale = tl.zeros([ROWS, COLS], scale.dtype.element_ty)
    grad_shift = tl.zeros([ROWS, COLS], scale.dtype.element_ty)
    for first in range(start, end, ROWS):
        m = first + tl.arange(0, ROWS)
        n = tl.load(members + m, mask=m < end, other=0)
        inside = (m < end)[:, None] & (k < channels)[None, :]
        value = _normalized(x, mean, rstd, _source(n, width, UPSAMPLED), k, channels, inside, scale.dtype.element_ty)
        g = tl.load(grad + _at(n, k, channels), mask=inside, other=0).to(value.dtype)
        g = tl.where(value * factor + offset > 0, g, g * SLOPE)
        grad_shift += g
        grad_scale += g * value
    share = sums + piece.to(tl.int64) * 2 * channels + k
    tl.store(share, tl.sum(grad_scale, 0), mask=k < channels)
    tl.store(share + channels, tl.sum(grad_shift, 0), mask=k < channels)


@triton.jit
def _modulate_grad(x, grad, scale, shift, mean, rstd, by_rstd, by_mean, region, grad_x, pixels, channels, width,
                   SLOPE: tl.constexpr, UPSAMPLED: tl.constexpr, BY_MOMENTS: tl.constexpr,
                   ROWS: tl.constexpr, COLS: tl.constexpr):
    """The gradient of x; ``pixels`` counts those of x, and ``width`` is that of the output."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (n < pixels)[:, None] & (k < channels)[None, :]
    value = _normalized(x, mean, rstd, n, k, channels, inside, scale.dtype.element_ty)
    total = tl.zeros([ROWS, COLS], scale.dtype.element_ty)
    for part in tl.static_range(4 if UPSAMPLED else 1):
        to = n  # a pixel that n was upsampled to
        if UPSAMPLED:
            half = width // 2
            to = (n // half * 2 + part // 2) * width + n % half * 2 + part % 2
        t = tl.load(region + to, mask=n < pixels, other=0)
        factor = tl.load(scale + _at(t, k, channels), mask=inside, other=0)
        offset = tl.load(shift + _at(t, k, channels), mask=inside, other=0)
        g = tl.load(grad + _at(to, k, channels), mask=inside, other=0).to(value.dtype)
        total += tl.where(value * factor + offset > 0, g, g * SLOPE) * factor
    if BY_MOMENTS:
        total -= tl.load(by_mean + k, mask=k < channels, other=0)[None, :]
        total -= tl.load(by_rstd + k, mask=k < channels, other=0)[None, :] * value
    total *= tl.load(rstd + k, mask=k < channels, other=0)[None, :]
    tl.store(grad_x + _at(n, k, channels), total, mask=inside)


@triton.jit
def _normalized(x, mean, rstd, n, k, channels, inside, dtype: tl.constexpr):
    value = tl.load(x + _at(n, k, channels), mask=inside, other=0).to(dtype)
    centre = tl.load(mean + k, mask=k < channels, other=0)[None, :]
    return (value - centre) * tl.load(rstd + k, mask=k < channels, other=0)[None, :]


@triton.jit
def _source(n, width, UPSAMPLED: tl.constexpr):
    """The pixels, at half the size, that pixels ``n`` are upsampled from. All images below each other are one, since
    heights are even."""
    if UPSAMPLED:
        n = n // width // 2 * (width // 2) + n % width // 2
    return n


@triton.jit
def _at(n, k, channels):
    """Where the channels ``k`` of rows ``n`` lie: may be more than 2**31 numbers away."""
    return n.to(tl.int64)[:, None] * channels + k[None, :]


@triton.jit
def _sum_pieces(pieces, first_piece, out, columns, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``out`` [T, columns]: the sums of each segment's rows of ``pieces`` [Q, columns]."""
    segment = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    total = tl.zeros([ROWS, COLS], pieces.dtype.element_ty)
    end = tl.load(first_piece + segment + 1)
    for first in range(tl.load(first_piece + segment), end, ROWS):
        q = first + tl.arange(0, ROWS)
        total += tl.load(pieces + _at(q, k, columns), mask=(q < end)[:, None] & (k < columns)[None, :], other=0)
    tl.store(out + segment.to(tl.int64) * columns + k, tl.sum(total, 0), mask=k < columns)


def modulate(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor, region: Tensor, slope: float,
             dtype: torch.dtype) -> Tensor:
    """lrelu(scale[t] * (x - mean) * rstd + shift[t]) for all pixels, t their region.

    :param x: [B, h, w, c].
    :param scale: [T, c], as ``shift``; ``mean`` and ``rstd`` are [c].
    :param region: [B, h, w], or [B, 2h, 2w]: then x is upsampled.
    :return: [B, h, w, c] or [B, 2h, 2w, c] of the given dtype.
    """
    channels, width = x.shape[-1], region.shape[-1]
    out = torch.empty(*region.shape, channels, dtype=dtype, device=x.device)
    rows, columns = _tile(region.numel(), channels, TILE)
    _launch(_modulate, (triton.cdiv(region.numel(), rows), triton.cdiv(channels, columns)),
            x, scale, shift, mean, rstd, region, out, region.numel(), channels, width,
            SLOPE=slope, UPSAMPLED=_upsampled(x, region), ROWS=rows, COLS=columns)
    return out


def modulate_sums(x: Tensor, grad: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor, region: Tensor,
                  segments: SegmentSums, slope: float) -> Tensor:
    """The gradients [T, 2, c] of scale and shift, for ``grad`` of what :func:`modulate` gives.

    :param segments: the regions' pixels.
    """
    channels, pieces = x.shape[-1], len(segments.piece_segment)
    sums = torch.empty(pieces, 2, channels, dtype=scale.dtype, device=x.device)
    columns = _columns(channels, COLUMNS // 2)
    _launch(_modulate_sums, (pieces, triton.cdiv(channels, columns)),
            x, grad, scale, shift, mean, rstd, segments.members, segments.piece_start, segments.piece_segment, sums,
            channels, region.shape[-1],
            SLOPE=slope, UPSAMPLED=_upsampled(x, region), ROWS=SUMMED_ROWS, COLS=columns)
    return _pieces_summed(sums, segments)


def modulate_grad(x: Tensor, grad: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor,
                  by_moments: Sequence[Tensor] | None, region: Tensor, slope: float) -> Tensor:
    """The gradient of x, of its shape and dtype.

    :param by_moments: what goes through rstd, and what through the mean, [c] each; None where these are constants.
    """
    grad_x = torch.empty_like(x)
    channels = x.shape[-1]
    pixels = x.numel() // channels
    upsampled = _upsampled(x, region)
    rows, columns = _tile(pixels, channels, SMALL_TILE if upsampled else TILE)
    _launch(_modulate_grad, (triton.cdiv(pixels, rows), triton.cdiv(channels, columns)),
            x, grad, scale, shift, mean, rstd, *(by_moments or (rstd, mean)), region, grad_x,
            pixels, channels, region.shape[-1],
            SLOPE=slope, UPSAMPLED=upsampled, BY_MOMENTS=by_moments is not None, ROWS=rows, COLS=columns)
    return grad_x


def _upsampled(x: Tensor, region: Tensor) -> bool:
    return x.shape[:3] != region.shape


# ---- instance-aware convolution


@triton.jit
def _patches(x, index, patches, centres, channels, height, width,
             STRIDE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``patches`` [N', 9, c]: what every centre sees at its nine taps."""
    p = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (p < centres)[:, None] & (k < channels)[None, :]
    columns = (width + STRIDE - 1) // STRIDE
    row = p // columns
    rows = (height + STRIDE - 1) // STRIDE
    top = row // rows * height  # where the sample begins
    y = row % rows * STRIDE
    u = p % columns * STRIDE
    own = tl.load(index + (top + y) * width + u, mask=p < centres, other=0)
    for tap in tl.static_range(9):
        v = y + tap // 3 - 1
        w = u + tap % 3 - 1
        n = (top + v) * width + w
        seen = (p < centres) & (v >= 0) & (v < height) & (w >= 0) & (w < width)
        seen = seen & (tl.load(index + n, mask=seen, other=-1) == own)
        value = tl.load(x + _at(n, k, channels), mask=seen[:, None] & (k < channels)[None, :], other=0)
        tl.store(patches + _at(p, k, 9 * channels) + tap * channels, value, mask=inside)


@triton.jit
def _patches_grad(grad, index, grad_x, pixels, channels, height, width,
                  STRIDE: tl.constexpr, DTYPE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """The gradient of x: for every pixel the sum over the centres that see it, of ``grad`` [N', 9, c]."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    columns = (width + STRIDE - 1) // STRIDE
    rows = (height + STRIDE - 1) // STRIDE
    sample = n // width // height
    y = n // width % height
    u = n % width
    own = tl.load(index + n, mask=n < pixels, other=0)
    total = tl.zeros([ROWS, COLS], DTYPE)
    for tap in tl.static_range(9):
        v = y + 1 - tap // 3  # the centre that has the pixel at this tap
        w = u + 1 - tap % 3
        seen = (n < pixels) & (v >= 0) & (v < height) & (w >= 0) & (w < width)
        if STRIDE > 1:
            seen = seen & (v % STRIDE == 0) & (w % STRIDE == 0)
        seen = seen & (tl.load(index + (sample * height + v) * width + w, mask=seen, other=-1) == own)
        p = (sample * rows + v // STRIDE) * columns + w // STRIDE
        total += tl.load(grad + _at(p, k, 9 * channels) + tap * channels,
                         mask=seen[:, None] & (k < channels)[None, :], other=0).to(DTYPE)
    tl.store(grad_x + _at(n, k, channels), total, mask=(n < pixels)[:, None] & (k < channels)[None, :])


@triton.jit
def _patch_sums(x, index, members, piece_start, piece_segment, sums, channels, height, width,
                ROWS: tl.constexpr, COLS: tl.constexpr):
    """``sums`` [Q, 9, c]: over the pixels of a piece, each counted at tap k where a centre of its region has it."""
    piece = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    tap = tl.arange(0, 16)  # of which nine
    start = tl.load(piece_start + piece)
    end = tl.load(piece_start + piece + 1)
    t = tl.load(piece_segment + piece)
    total = tl.zeros([16, COLS], sums.dtype.element_ty)
    for first in range(start, end, ROWS):
        m = first + tl.arange(0, ROWS)
        n = tl.load(members + m, mask=m < end, other=0)
        v = (n // width % height)[:, None] + 1 - (tap // 3)[None, :]  # the centre that has the pixel at this tap
        w = (n % width)[:, None] + 1 - (tap % 3)[None, :]
        counts = (m < end)[:, None] & (tap < 9)[None, :] & (v >= 0) & (v < height) & (w >= 0) & (w < width)
        at = (n // width // height * height)[:, None] * width + v * width + w
        counts = counts & (tl.load(index + at, mask=counts, other=-1) == t)
        value = tl.load(x + _at(n, k, channels), mask=(m < end)[:, None] & (k < channels)[None, :], other=0)
        # a product with zeros and ones, in the full precision of what is added up
        total = tl.dot(tl.trans(counts.to(value.dtype)), value, total, input_precision="ieee",
                       out_dtype=sums.dtype.element_ty)
    at = piece.to(tl.int64) * 9 * channels + (tap * channels)[:, None] + k[None, :]
    tl.store(sums + at, total, mask=(tap < 9)[:, None] & (k < channels)[None, :])


@triton.jit
def _patch_sums_grad(grad, index, grad_x, pixels, channels, height, width, ROWS: tl.constexpr, COLS: tl.constexpr):
    """The gradient of x: the rows of ``grad`` [T, 9, c] of a pixel's region, at the taps where it is counted."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    y = n // width % height
    u = n % width
    t = tl.load(index + n, mask=n < pixels, other=0)
    total = tl.zeros([ROWS, COLS], grad.dtype.element_ty)
    for tap in tl.static_range(9):
        v = y + 1 - tap // 3
        w = u + 1 - tap % 3
        counts = (n < pixels) & (v >= 0) & (v < height) & (w >= 0) & (w < width)
        at = n + (1 - tap // 3) * width + 1 - tap % 3
        counts = counts & (tl.load(index + at, mask=counts, other=-1) == t)
        total += tl.load(grad + _at(t, k, 9 * channels) + tap * channels,
                         mask=counts[:, None] & (k < channels)[None, :], other=0)
    tl.store(grad_x + _at(n, k, channels), total, mask=(n < pixels)[:, None] & (k < channels)[None, :])


def patches(x: Tensor, index: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
    """[B, h, w, c] -> [N', 9c] of the given dtype: the 3x3 pixels around every centre, 0 where they lie in another
    instance or beyond the image.

    :param index: [B, h, w], the number of every pixel's instance.
    """
    batch, height, width, channels = x.shape
    centres = batch * triton.cdiv(height, stride) * triton.cdiv(width, stride)
    out = torch.empty(centres, 9 * channels, dtype=dtype, device=x.device)
    rows, columns = _tile(centres, channels, SMALL_TILE)
    _launch(_patches, (triton.cdiv(centres, rows), triton.cdiv(channels, columns)),
            x, index, out, centres, channels, height, width, STRIDE=stride, ROWS=rows, COLS=columns)
    return out


def patches_grad(grad: Tensor, index: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
    """The gradient [B, h, w, c] of x, for ``grad`` [N', 9c] of what :func:`patches` gives."""
    channels = grad.shape[1] // 9
    grad_x = torch.empty(*index.shape, channels, dtype=dtype, device=grad.device)
    rows, columns = _tile(index.numel(), channels, SMALL_TILE)
    _launch(_patches_grad, (triton.cdiv(index.numel(), rows), triton.cdiv(channels, columns)),
            grad, index, grad_x, index.numel(), channels, *index.shape[1:],
            STRIDE=stride, DTYPE=tl.float64 if dtype == torch.float64 else tl.float32, ROWS=rows, COLS=columns)
    return grad_x


def patch_sums(rows: Tensor, index: Tensor, segments: SegmentSums) -> Tensor:
    """[N, c] -> [T, 9, c]: the sums of :func:`patches` (stride 1) over the centres of each region.

    :param segments: the regions' pixels.
    """
    channels, pieces = rows.shape[1], len(segments.piece_segment)
    dtype = torch.promote_types(rows.dtype, torch.float32)
    sums = torch.empty(pieces, 9, channels, dtype=dtype, device=rows.device)
    columns = max(16, _columns(channels, COLUMNS // 2))  # a product has at least 16
    _launch(_patch_sums, (pieces, triton.cdiv(channels, columns)),
            rows, index, segments.members, segments.piece_start, segments.piece_segment, sums,
            channels, *index.shape[1:], ROWS=SUMMED_ROWS, COLS=columns)
    return _pieces_summed(sums, segments)


def patch_sums_grad(grad: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient [N, c] of the rows, for ``grad`` [T, 9, c] of what :func:`patch_sums` gives."""
    channels = grad.shape[2]
    grad_x = torch.empty(index.numel(), channels, dtype=dtype, device=grad.device)
    rows, columns = _tile(index.numel(), channels, SMALL_TILE)
    _launch(_patch_sums_grad, (triton.cdiv(index.numel(), rows), triton.cdiv(channels, columns)),
            grad, index, grad_x, index.numel(), channels, *index.shape[1:], ROWS=rows, COLS=columns)
    return grad_x


# ---- what they share


def _pieces_summed(pieces: Tensor, segments: SegmentSums) -> Tensor:
    """[Q, a, c] -> [T, a, c]."""
    _, parts, channels = pieces.shape
    out = torch.empty(segments.count, parts, channels, dtype=pieces.dtype, device=pieces.device)
    columns = _columns(parts * channels, COLUMNS // 2)
    _launch(_sum_pieces, (segments.count, triton.cdiv(parts * channels, columns)),
            pieces, segments.first_piece, out, parts * channels, ROWS=SUMMED_ROWS, COLS=columns)
    return out


def _tile(rows: int, channels: int, tile: int) -> tuple[int, int]:
    """Rows and columns of the tiles of so many rows of channels."""
    columns = _columns(channels, COLUMNS)
    return (SMALL_TILE if rows * channels < FEW else tile) // columns, columns


def _columns(channels: int, most: int) -> int:
    return min(triton.next_power_of_2(channels), most)


def _launch(kernel, grid: tuple[int, int], *args, **constants) -> None:
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    assert all(tensor.is_contiguous() for tensor in tensors)
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*args, **constants)


def try_out(device: torch.device) -> None:
    """:raises Exception: of many kinds, if kernels cannot be compiled or started here."""
    one = torch.ones(1, 1, device=device)
    pieces = torch.arange(2, dtype=torch.int32, device=device)
    _launch(_sum_pieces, (1, 1), one, pieces, torch.empty_like(one), 1, ROWS=1, COLS=1)
