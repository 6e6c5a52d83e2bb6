"""Fused kernels for CUDA, in Triton. What they compute is :mod:`models.ops.plain`, where names are the same; their
tables are [T, 2, c], and images [B, h, w, c].

All is memory-bound, so a kernel reads and writes every large tensor once. Such tensors are rows of pixels [N, c], in
float32 or half; tables are [T, c], and what is computed has their precision (float32; float64 in tests). A program
works on a tile of ROWS x COLS numbers. Nothing is autotuned and nothing is added atomically: every run gives the same
numbers, and starts quickly.

    x   image or activations        region, index   number of every pixel's region
    n   numbers of pixels [ROWS]    k               channels [COLS]
"""
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
PIECE = 256  # pixels of a sample that an instance norm's program sums


# ---- modulation


@triton.jit
def _modulate(x, table, mean, var, region, out, pixels, channels, width,
              EPS: tl.constexpr, SLOPE: tl.constexpr, UPSAMPLED: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (n < pixels)[:, None] & (k < channels)[None, :]
    t = tl.load(region + n, mask=n < pixels, other=0)
    value = _normalized(x, mean, var, EPS, _source(n, width, UPSAMPLED), k, channels, inside, table.dtype.element_ty)
    factor = tl.load(table + _at(t, k, 2 * channels), mask=inside, other=0)
    offset = tl.load(table + _at(t, k, 2 * channels) + channels, mask=inside, other=0)
    value = value * factor + offset
    tl.store(out + _at(n, k, channels), tl.where(value > 0, value, value * SLOPE), mask=inside)


@triton.jit
def _modulate_sums(x, grad, table, mean, var, members, piece_start, piece_segment, sums, channels, width,
                   EPS: tl.constexpr, SLOPE: tl.constexpr, UPSAMPLED: tl.constexpr,
                   ROWS: tl.constexpr, COLS: tl.constexpr):
    """What the pixels of a piece contribute to the gradients of scale and shift; ``sums`` [Q, 2, c]. What went into the
    leaky ReLU is computed once more, so that the output need not be kept."""
    piece = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    start = tl.load(piece_start + piece)
    end = tl.load(piece_start + piece + 1)
    row = table + tl.load(piece_segment + piece).to(tl.int64) * 2 * channels + k
    factor = tl.load(row, mask=k < channels, other=0)[None, :]
    offset = tl.load(row + channels, mask=k < channels, other=0)[None, :]
    grad_scale = tl.zeros([ROWS, COLS], table.dtype.element_ty)
    grad_shift = tl.zeros([ROWS, COLS], table.dtype.element_ty)
    for first in range(start, end, ROWS):
        m = first + tl.arange(0, ROWS)
        n = tl.load(members + m, mask=m < end, other=0)
        inside = (m < end)[:, None] & (k < channels)[None, :]
        value = _normalized(x, mean, var, EPS, _source(n, width, UPSAMPLED), k, channels, inside,
                            table.dtype.element_ty)
        g = tl.load(grad + _at(n, k, channels), mask=inside, other=0).to(value.dtype)
        g = tl.where(value * factor + offset > 0, g, g * SLOPE)
        grad_shift += g
        grad_scale += g * value
    share = sums + piece.to(tl.int64) * 2 * channels + k
    tl.store(share, tl.sum(grad_scale, 0), mask=k < channels)
    tl.store(share + channels, tl.sum(grad_shift, 0), mask=k < channels)


@triton.jit
def _modulate_grad(x, grad, table, mean, var, by_moments, region, grad_x, pixels, channels, width,
                   EPS: tl.constexpr, SLOPE: tl.constexpr, UPSAMPLED: tl.constexpr, BY_MOMENTS: tl.constexpr,
                   ROWS: tl.constexpr, COLS: tl.constexpr):
    """The gradient of x; ``pixels`` counts those of x, and ``width`` is that of the output."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (n < pixels)[:, None] & (k < channels)[None, :]
    value = _normalized(x, mean, var, EPS, n, k, channels, inside, table.dtype.element_ty)
    total = tl.zeros([ROWS, COLS], table.dtype.element_ty)
    for part in tl.static_range(4 if UPSAMPLED else 1):
        to = n  # a pixel that n was upsampled to
        if UPSAMPLED:
            half = width // 2
            to = (n // half * 2 + part // 2) * width + n % half * 2 + part % 2
        t = tl.load(region + to, mask=n < pixels, other=0)
        factor = tl.load(table + _at(t, k, 2 * channels), mask=inside, other=0)
        offset = tl.load(table + _at(t, k, 2 * channels) + channels, mask=inside, other=0)
        g = tl.load(grad + _at(to, k, channels), mask=inside, other=0).to(value.dtype)
        total += tl.where(value * factor + offset > 0, g, g * SLOPE) * factor
    if BY_MOMENTS:
        total -= tl.load(by_moments + channels + k, mask=k < channels, other=0)[None, :]
        total -= tl.load(by_moments + k, mask=k < channels, other=0)[None, :] * value
    total *= _rstd(var, EPS, k, channels)
    tl.store(grad_x + _at(n, k, channels), total, mask=inside)


@triton.jit
def _moments_grad(sums, table, by_moments, segments, channels, count, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``by_moments`` [2, c]: the sum over t of scale[t] * ``sums`` [T, 2, c], divided by ``count``."""
    part = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    total = tl.zeros([ROWS, COLS], sums.dtype.element_ty)
    for first in range(0, segments, ROWS):
        t = first + tl.arange(0, ROWS)
        inside = (t < segments)[:, None] & (k < channels)[None, :]
        at = _at(t, k, 2 * channels)
        total += tl.load(table + at, mask=inside, other=0) * tl.load(sums + at + part * channels, mask=inside, other=0)
    tl.store(by_moments + part * channels + k, tl.sum(total, 0) / count, mask=k < channels)


@triton.jit
def _normalized(x, mean, var, EPS: tl.constexpr, n, k, channels, inside, dtype: tl.constexpr):
    value = tl.load(x + _at(n, k, channels), mask=inside, other=0).to(dtype)
    return (value - tl.load(mean + k, mask=k < channels, other=0)[None, :]) * _rstd(var, EPS, k, channels)


@triton.jit
def _rstd(var, EPS: tl.constexpr, k, channels):
    return tl.rsqrt(tl.load(var + k, mask=k < channels, other=1) + EPS)[None, :]


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


def modulate(x: Tensor, table: Tensor, mean: Tensor, var: Tensor, eps: float, region: Tensor, slope: float,
             dtype: torch.dtype) -> Tensor:
    """Of the given dtype. For a region [B, 2h, 2w] instead of [B, h, w], x is upsampled."""
    channels, width = x.shape[-1], region.shape[-1]
    out = torch.empty(*region.shape, channels, dtype=dtype, device=x.device)
    _in_tiles(_modulate, region.numel(), channels, TILE, x, table, mean, var, region, out, region.numel(), channels,
              width, EPS=eps, SLOPE=slope, UPSAMPLED=_upsampled(x, region))
    return out


def modulate_sums(x: Tensor, grad: Tensor, table: Tensor, mean: Tensor, var: Tensor, eps: float, region: Tensor,
                  segments: SegmentSums, slope: float) -> Tensor:
    """The gradient [T, 2, c] of the table, for ``grad`` of what :func:`modulate` gives and the regions' pixels."""
    channels, pieces = x.shape[-1], len(segments.piece_segment)
    sums = torch.empty(pieces, 2, channels, dtype=table.dtype, device=x.device)
    _summing(_modulate_sums, pieces, channels, x, grad, table, mean, var, segments.members, segments.piece_start,
             segments.piece_segment, sums, channels, region.shape[-1], EPS=eps, SLOPE=slope,
             UPSAMPLED=_upsampled(x, region))
    return _pieces_summed(sums, segments)


def moments_grad(sums: Tensor, table: Tensor, count: int) -> Tensor:
    """What goes through rstd and through the mean of ``count`` values, [2, c], for ``sums`` of
    :func:`modulate_sums`."""
    segments, _, channels = sums.shape
    by_moments = torch.empty(2, channels, dtype=sums.dtype, device=sums.device)
    _summing(_moments_grad, 2, channels, sums, table, by_moments, segments, channels, count)
    return by_moments


def modulate_grad(x: Tensor, grad: Tensor, table: Tensor, mean: Tensor, var: Tensor, eps: float,
                  by_moments: Tensor | None, region: Tensor, slope: float) -> Tensor:
    """The gradient of x, of its shape and dtype.

    :param by_moments: see :func:`moments_grad`; None where mean and variance are constants.
    """
    grad_x = torch.empty_like(x)
    channels = x.shape[-1]
    pixels = x.numel() // channels
    upsampled = _upsampled(x, region)
    _in_tiles(_modulate_grad, pixels, channels, SMALL_TILE if upsampled else TILE, x, grad, table, mean, var,
              var if by_moments is None else by_moments, region, grad_x, pixels, channels, region.shape[-1],
              EPS=eps, SLOPE=slope, UPSAMPLED=upsampled, BY_MOMENTS=by_moments is not None)
    return grad_x


def _upsampled(x: Tensor, region: Tensor) -> bool:
    return x.shape[:3] != region.shape


# ---- tables of regions


@triton.jit
def _region_table(styles, weight, bias, label, gain, table, channels, GAIN: tl.constexpr, COLS: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    of_class = (tl.load(label + t).to(tl.int64) * channels + k) * 2
    factor = tl.load(gain) if GAIN else 1
    for part in tl.static_range(2):
        at = (2 * t + part) * channels + k
        value = tl.load(weight + of_class + part, mask=k < channels, other=0)
        value = value * tl.load(styles + at, mask=k < channels, other=0)
        value += tl.load(bias + of_class + part, mask=k < channels, other=0)
        tl.store(table + at, value * factor, mask=k < channels)


@triton.jit
def _region_table_grad(grad, styles, weight, bias, label, gain, grad_styles, by_gain, channels,
                       GAIN: tl.constexpr, COLS: tl.constexpr):
    """The gradient of the styles, and what each program has seen of the gain's."""
    t = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    of_class = (tl.load(label + t).to(tl.int64) * channels + k) * 2
    factor = tl.load(gain) if GAIN else 1
    total = tl.zeros([COLS], grad.dtype.element_ty)
    for part in tl.static_range(2):
        at = (2 * t + part) * channels + k
        g = tl.load(grad + at, mask=k < channels, other=0)
        slope = tl.load(weight + of_class + part, mask=k < channels, other=0)
        tl.store(grad_styles + at, g * factor * slope, mask=k < channels)
        if GAIN:
            value = slope * tl.load(styles + at, mask=k < channels, other=0)
            total += g * (value + tl.load(bias + of_class + part, mask=k < channels, other=0))
    if GAIN:
        tl.store(by_gain + t * tl.num_programs(1) + tl.program_id(1), tl.sum(total, 0))


@triton.jit
def _class_sums(grad, styles, label, gain, grad_weight, grad_bias, segments, channels,
                GAIN: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """The gradients of a class, over the regions that have it."""
    y = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    factor = tl.load(gain) if GAIN else 1
    for part in tl.static_range(2):
        by_weight = tl.zeros([ROWS, COLS], grad.dtype.element_ty)
        by_bias = tl.zeros([ROWS, COLS], grad.dtype.element_ty)
        for first in range(0, segments, ROWS):
            t = first + tl.arange(0, ROWS)
            of_class = tl.load(label + t, mask=t < segments, other=-1) == y
            inside = of_class[:, None] & (k < channels)[None, :]
            at = _at(t, k, 2 * channels) + part * channels
            g = tl.load(grad + at, mask=inside, other=0)
            by_bias += g
            by_weight += g * tl.load(styles + at, mask=inside, other=0)
        to = (y.to(tl.int64) * channels + k) * 2 + part
        tl.store(grad_weight + to, tl.sum(by_weight, 0) * factor, mask=k < channels)
        tl.store(grad_bias + to, tl.sum(by_bias, 0) * factor, mask=k < channels)


def region_table(styles: Tensor, weight: Tensor, bias: Tensor, label: Tensor, gain: Tensor | None) -> Tensor:
    """The table [T, 2, c]."""
    segments, _, channels = styles.shape
    table = torch.empty_like(styles)
    columns = _columns(channels, COLUMNS)
    _launch(_region_table, (segments, triton.cdiv(channels, columns)),
            styles, weight, bias, label, weight if gain is None else gain, table, channels,
            GAIN=gain is not None, COLS=columns)
    return table


def region_table_grad(grad: Tensor, styles: Tensor, weight: Tensor, bias: Tensor, label: Tensor, gain: Tensor | None
                      ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of styles, weight, bias and gain, for ``grad`` of what :func:`region_table` gives."""
    segments, _, channels = styles.shape
    columns = _columns(channels, COLUMNS)
    blocks, factor = triton.cdiv(channels, columns), weight if gain is None else gain
    grad_styles, grad_weight, grad_bias = map(torch.empty_like, (styles, weight, bias))
    by_gain = torch.empty(segments, blocks, dtype=grad.dtype, device=grad.device)
    _launch(_region_table_grad, (segments, blocks), grad, styles, weight, bias, label, factor, grad_styles, by_gain,
            channels, GAIN=gain is not None, COLS=columns)
    _launch(_class_sums, (len(weight), blocks), grad, styles, label, factor, grad_weight, grad_bias, segments, channels,
            GAIN=gain is not None, ROWS=SUMMED_ROWS // 2, COLS=columns)
    return grad_styles, grad_weight, grad_bias, None if gain is None else by_gain.sum()


# ---- instance norm


@triton.jit
def _piece_moments(x, moments, pixels, channels, pieces, PIECE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``moments`` [B, pieces, 2, c]: the mean of a piece of a sample, and the sum of squared distances from it."""
    piece = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    start = piece % pieces * PIECE
    end = tl.minimum(start + PIECE, pixels)
    top = (piece // pieces).to(tl.int64) * pixels  # where the sample begins
    total = tl.zeros([ROWS, COLS], moments.dtype.element_ty)
    for first in range(start, end, ROWS):
        n = first + tl.arange(0, ROWS)
        inside = (n < end)[:, None] & (k < channels)[None, :]
        total += tl.load(x + _at(top + n, k, channels), mask=inside, other=0).to(total.dtype)
    mean = tl.sum(total, 0) / (end - start)
    total = tl.zeros([ROWS, COLS], moments.dtype.element_ty)
    for first in range(start, end, ROWS):
        n = first + tl.arange(0, ROWS)
        inside = (n < end)[:, None] & (k < channels)[None, :]
        value = tl.load(x + _at(top + n, k, channels), mask=inside, other=0).to(total.dtype) - mean[None, :]
        total += tl.where(inside, value * value, 0)
    share = moments + piece.to(tl.int64) * 2 * channels + k
    tl.store(share, mean, mask=k < channels)
    tl.store(share + channels, tl.sum(total, 0), mask=k < channels)


@triton.jit
def _joined_moments(moments, mean, rstd, pixels, channels, pieces,
                    EPS: tl.constexpr, PIECE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``mean`` and ``rstd`` [B, c] of the pieces together."""
    sample = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    top = moments + sample * pieces * 2 * channels
    total = tl.zeros([ROWS, COLS], moments.dtype.element_ty)
    for first in range(0, pieces, ROWS):
        q = first + tl.arange(0, ROWS)
        count = tl.minimum(pixels - q * PIECE, PIECE).to(total.dtype)[:, None]
        inside = (q < pieces)[:, None] & (k < channels)[None, :]
        total += tl.load(top + _at(q, k, 2 * channels), mask=inside, other=0) * count
    centre = tl.sum(total, 0) / pixels
    total = tl.zeros([ROWS, COLS], moments.dtype.element_ty)
    for first in range(0, pieces, ROWS):
        q = first + tl.arange(0, ROWS)
        count = tl.minimum(pixels - q * PIECE, PIECE).to(total.dtype)[:, None]
        inside = (q < pieces)[:, None] & (k < channels)[None, :]
        distance = tl.load(top + _at(q, k, 2 * channels), mask=inside, other=0) - centre[None, :]
        squares = tl.load(top + _at(q, k, 2 * channels) + channels, mask=inside, other=0)
        total += tl.where(inside, squares + distance * distance * count, 0)
    tl.store(mean + sample * channels + k, centre, mask=k < channels)
    tl.store(rstd + sample * channels + k, tl.rsqrt(tl.sum(total, 0) / pixels + EPS), mask=k < channels)


@triton.jit
def _instance_norm(x, mean, rstd, out, rows, pixels, channels,
                   SLOPE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (n < rows)[:, None] & (k < channels)[None, :]
    of_sample = _at(n // pixels, k, channels)
    value = tl.load(x + _at(n, k, channels), mask=inside, other=0).to(mean.dtype.element_ty)
    value = (value - tl.load(mean + of_sample, mask=inside, other=0)) * tl.load(rstd + of_sample, mask=inside, other=0)
    tl.store(out + _at(n, k, channels), tl.where(value > 0, value, value * SLOPE), mask=inside)


@triton.jit
def _before_slope(grad, out, n, k, channels, inside, SLOPE: tl.constexpr, dtype: tl.constexpr):
    """What went into the leaky ReLU, and its gradient, by what came out."""
    value = tl.load(out + _at(n, k, channels), mask=inside, other=0).to(dtype)
    g = tl.load(grad + _at(n, k, channels), mask=inside, other=0).to(dtype)
    return tl.where(value > 0, value, value / SLOPE), tl.where(value > 0, g, g * SLOPE)


@triton.jit
def _piece_grads(grad, out, sums, pixels, channels, pieces,
                 SLOPE: tl.constexpr, PIECE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``sums`` [B, pieces, 2, c]: of a piece's gradients g before the leaky ReLU, and of g times what went into it."""
    piece = tl.program_id(0)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    start = piece % pieces * PIECE
    end = tl.minimum(start + PIECE, pixels)
    top = (piece // pieces).to(tl.int64) * pixels
    total = tl.zeros([ROWS, COLS], sums.dtype.element_ty)
    products = tl.zeros([ROWS, COLS], sums.dtype.element_ty)
    for first in range(start, end, ROWS):
        n = first + tl.arange(0, ROWS)
        inside = (n < end)[:, None] & (k < channels)[None, :]
        value, g = _before_slope(grad, out, top + n, k, channels, inside, SLOPE, sums.dtype.element_ty)
        total += g
        products += g * value
    share = sums + piece.to(tl.int64) * 2 * channels + k
    tl.store(share, tl.sum(total, 0), mask=k < channels)
    tl.store(share + channels, tl.sum(products, 0), mask=k < channels)


@triton.jit
def _instance_norm_grad(grad, out, rstd, sums, grad_x, rows, pixels, channels,
                        SLOPE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (n < rows)[:, None] & (k < channels)[None, :]
    value, g = _before_slope(grad, out, n, k, channels, inside, SLOPE, rstd.dtype.element_ty)
    of_sample = _at(n // pixels, k, 2 * channels)
    g -= tl.load(sums + of_sample, mask=inside, other=0) / pixels
    g -= tl.load(sums + of_sample + channels, mask=inside, other=0) / pixels * value
    g *= tl.load(rstd + _at(n // pixels, k, channels), mask=inside, other=0)
    tl.store(grad_x + _at(n, k, channels), g, mask=inside)


def instance_norm(x: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor]:
    """The result, of the shape and dtype of x, and rstd [B, c]."""
    batch, height, width, channels = x.shape
    pixels, dtype = height * width, torch.promote_types(x.dtype, torch.float32)
    pieces = triton.cdiv(pixels, PIECE)
    moments = torch.empty(batch, pieces, 2, channels, dtype=dtype, device=x.device)
    mean, rstd = torch.empty(2, batch, channels, dtype=dtype, device=x.device)
    out = torch.empty_like(x)
    _summing(_piece_moments, batch * pieces, channels, x, moments, pixels, channels, pieces, PIECE=PIECE)
    _summing(_joined_moments, batch, channels, moments, mean, rstd, pixels, channels, pieces, EPS=eps, PIECE=PIECE)
    _in_tiles(_instance_norm, batch * pixels, channels, TILE, x, mean, rstd, out, batch * pixels, pixels, channels,
              SLOPE=slope)
    return out, rstd


def instance_norm_grad(grad: Tensor, out: Tensor, rstd: Tensor, slope: float) -> Tensor:
    """The gradient of x, for ``grad`` of what :func:`instance_norm` gives, which is ``out``."""
    batch, height, width, channels = out.shape
    pixels = height * width
    pieces = triton.cdiv(pixels, PIECE)
    sums = torch.empty(batch, pieces, 2, channels, dtype=rstd.dtype, device=out.device)
    _summing(_piece_grads, batch * pieces, channels, grad, out, sums, pixels, channels, pieces, SLOPE=slope,
             PIECE=PIECE)
    grad_x = torch.empty_like(out)
    _in_tiles(_instance_norm_grad, batch * pixels, channels, TILE, grad, out, rstd, sums.sum(1), grad_x, batch * pixels,
              pixels, channels, SLOPE=slope)
    return grad_x


# ---- spectral norm


@triton.jit
def _gain_grad(grad, gain, u, v, grad_weight, rows, columns, ROWS: tl.constexpr, COLS: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)
    factor = tl.load(gain)
    factor = -tl.load(grad) * factor * factor
    value = tl.load(u + n, mask=n < rows, other=0)[:, None] * factor
    value *= tl.load(v + k, mask=k < columns, other=0)[None, :]
    tl.store(grad_weight + _at(n, k, columns), value, mask=(n < rows)[:, None] & (k < columns)[None, :])


def gain_grad(grad: Tensor, gain: Tensor, u: Tensor, v: Tensor) -> Tensor:
    out = torch.empty(len(u), len(v), dtype=u.dtype, device=u.device)
    _in_tiles(_gain_grad, len(u), len(v), TILE, grad, gain, u, v, out, len(u), len(v))
    return out


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
    """[N', 9c] of the given dtype."""
    batch, height, width, channels = x.shape
    centres = batch * triton.cdiv(height, stride) * triton.cdiv(width, stride)
    out = torch.empty(centres, 9 * channels, dtype=dtype, device=x.device)
    _in_tiles(_patches, centres, channels, SMALL_TILE, x, index, out, centres, channels, height, width, STRIDE=stride)
    return out


def patches_grad(grad: Tensor, index: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
    """The gradient [B, h, w, c] of x, for ``grad`` [N', 9c] of what :func:`patches` gives."""
    channels = grad.shape[1] // 9
    grad_x = torch.empty(*index.shape, channels, dtype=dtype, device=grad.device)
    _in_tiles(_patches_grad, index.numel(), channels, SMALL_TILE, grad, index, grad_x, index.numel(), channels,
              *index.shape[1:], STRIDE=stride, DTYPE=tl.float64 if dtype == torch.float64 else tl.float32)
    return grad_x


def patch_sums(rows: Tensor, index: Tensor, segments: SegmentSums) -> Tensor:
    """[T, 9, c], over the regions' pixels that ``segments`` has."""
    channels, pieces = rows.shape[1], len(segments.piece_segment)
    dtype = torch.promote_types(rows.dtype, torch.float32)
    sums = torch.empty(pieces, 9, channels, dtype=dtype, device=rows.device)
    _summing(_patch_sums, pieces, max(16, channels), rows, index, segments.members, segments.piece_start,
             segments.piece_segment, sums, channels, *index.shape[1:])  # a product has at least 16 columns
    return _pieces_summed(sums, segments)


def patch_sums_grad(grad: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient [N, c] of the rows, for ``grad`` [T, 9, c] of what :func:`patch_sums` gives."""
    channels = grad.shape[2]
    grad_x = torch.empty(index.numel(), channels, dtype=dtype, device=grad.device)
    _in_tiles(_patch_sums_grad, index.numel(), channels, SMALL_TILE, grad, index, grad_x, index.numel(), channels,
              *index.shape[1:])
    return grad_x


# ---- what they share


def _pieces_summed(pieces: Tensor, segments: SegmentSums) -> Tensor:
    """[Q, a, c] -> [T, a, c]."""
    _, parts, channels = pieces.shape
    out = torch.empty(segments.count, parts, channels, dtype=pieces.dtype, device=pieces.device)
    _summing(_sum_pieces, segments.count, parts * channels, pieces, segments.first_piece, out, parts * channels)
    return out


def _in_tiles(kernel, rows: int, channels: int, tile: int, *args, **constants) -> None:
    """A program for every tile of so many rows of channels."""
    columns = _columns(channels, COLUMNS)
    height = (SMALL_TILE if rows * channels < FEW else tile) // columns
    _launch(kernel, (triton.cdiv(rows, height), triton.cdiv(channels, columns)), *args, ROWS=height, COLS=columns,
            **constants)


def _summing(kernel, programs: int, channels: int, *args, **constants) -> None:
    """So many programs for every few channels, each of which sums rows."""
    columns = _columns(channels, COLUMNS // 2)
    _launch(kernel, (programs, triton.cdiv(channels, columns)), *args, ROWS=SUMMED_ROWS, COLS=columns, **constants)


def _columns(channels: int, most: int) -> int:
    return min(triton.next_power_of_2(channels), most)


def _launch(kernel, grid: tuple[int, int], *args, **constants) -> None:
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    assert all(tensor.is_contiguous() for tensor in tensors)
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*args, **constants)
