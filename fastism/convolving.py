"""The kernels of convolutions: what a changed window does to the outputs that it reaches, in several ways.

Shapes as in :mod:`fastism.kernels`: a window tensor is (G, M, W, C).
"""

from __future__ import annotations

import functools
import operator

import numpy as np
from keras import ops

from fastism import backend, inplace
from fastism.kernels import Ints, Tensor, flat, like, matmul, overlay, place, unflat
from fastism.window import constant


def spread(delta: Tensor, taps: Tensor, dilation: int, offset: Ints | int, width: int, groups: int = 1) -> Tensor:
    """Send every input position to the outputs it reaches: ``out[offset + w + k * dilation] += delta[w] @ taps[k]``.

    This is a convolution's whole effect on a change: it costs input positions times taps.

    Args:
        delta: (G, M, W, Cin).
        taps: (groups, Cin / groups, K, Cout / groups).
        dilation: Distance of the taps.
        offset: Position in the output frame of tap 0 of input position 0.
        width: Positions in the output frame; what falls outside is dropped.
        groups: Of a grouped convolution.

    Returns:
        (G, M, ``width``, Cout).
    """
    delta = like(delta, taps)
    g, m, w, _ = delta.shape
    _, cin, k, cout = taps.shape
    channels = groups * cout
    natural = w + (k - 1) * dilation
    if backend.in_place() and groups == 1:
        if isinstance(offset, np.ndarray):
            offset = offset if (at := constant(offset)) is None else at
        if isinstance(offset, int):
            return inplace.spread(delta, taps, dilation, offset, width)
        return place(inplace.spread(delta, taps, dilation, 0, natural), offset, width)
    if groups == 1 and dilation == 1 and w * cin <= 128 and w > 1:
        return place(_banded(delta, taps), offset, width)
    y = _products(delta, taps, groups)  # (G, M, W, K, Cout)
    if w == 1 and dilation == 1:
        return place(ops.reshape(y, (g, m, k, channels)), offset, width)
    if dilation == 1 and w < k:  # all taps of an input lie side by side: fewer and longer pieces
        parts = [(y[:, :, i], i) for i in range(w)]
    else:
        parts = [(y[:, :, :, j], j * dilation) for j in range(k)]
    if isinstance(offset, int):
        return overlay([(piece, at + offset) for piece, at in parts], width)
    return place(overlay(parts, natural), offset, width)


def band(taps: Tensor, block: int) -> Tensor:
    """A kernel laid out so that one product takes ``block`` neighbours to all outputs that they reach.

    Args:
        taps: (1, Cin, K, Cout).
        block: Neighbours in a block.

    Returns:
        (block * Cin, R * block * Cout), R blocks of outputs; zeros where an input and an output are too far apart.
    """
    _, cin, k, cout = taps.shape
    rows = -(-(block + k - 1) // block)
    row = ops.reshape(taps, (cin, k * cout))
    free = rows * block - k
    parts = [ops.pad(row, ((0, 0), (i * cout, (free - i) * cout))) for i in range(block)]
    return ops.concatenate(parts, axis=0)


def spread_in_blocks(
    delta: Tensor, matrix: Tensor, block: int, kernel: int, dilation: int, offset: Ints | int, width: int
) -> Tensor:
    """What :func:`spread` gives, by products of ``block`` neighbours at once: wide windows, long kernels.

    One product for each block gives a whole stretch of outputs, so far fewer values lie between the product and the
    sum over taps than with a product for each tap.

    Args:
        delta: (G, M, W, Cin).
        matrix: As :func:`band` gives it.
        block: Neighbours in a block.
        kernel: Number of taps, K.
        dilation, offset, width: As for :func:`spread`. Neighbours are ``dilation`` apart.

    Returns:
        (G, M, ``width``, Cout).
    """
    delta = ops.cast(delta, matrix.dtype)
    g, m, w, cin = delta.shape
    rows = -(-(block + kernel - 1) // block)
    cout = matrix.shape[1] // (rows * block)
    blocks = -(-w // (block * dilation))
    x = ops.pad(delta, ((0, 0), (0, 0), (0, blocks * block * dilation - w), (0, 0)))
    if dilation > 1:
        x = ops.transpose(ops.reshape(x, (g * m, blocks, block, dilation, cin)), (0, 1, 3, 2, 4))
    y = backend.matmul(ops.reshape(x, (g * m * blocks * dilation, block * cin)), matrix)
    y = ops.reshape(y, (g * m, blocks, dilation, rows, block, cout))
    parts = [ops.pad(y[:, :, :, r], ((0, 0), (r, rows - 1 - r), (0, 0), (0, 0), (0, 0))) for r in range(rows)]
    total = functools.reduce(operator.add, parts)  # (V, blocks + R - 1, dilation, block, Cout)
    if dilation > 1:
        total = ops.transpose(total, (0, 1, 3, 2, 4))
    total = ops.reshape(total, (g, m, (blocks + rows - 1) * block * dilation, cout))
    return place(total[:, :, : w + (kernel - 1) * dilation], offset, width)


def collected(matrix: Tensor, block: int, kernel: int) -> Tensor:
    """What :func:`band` gives, laid out for :func:`collect_in_blocks`: (R * block * Cin, block * Cout)."""
    rows = -(-(block + kernel - 1) // block)
    wide, cout = matrix.shape[0], matrix.shape[1] // rows
    return ops.reshape(ops.transpose(ops.reshape(matrix, (wide, rows, cout)), (1, 0, 2)), (rows * wide, cout))


def collect_in_blocks(
    delta: Tensor, matrix: Tensor, block: int, kernel: int, dilation: int, offset: Ints | int, width: int
) -> Tensor:
    """What :func:`spread_in_blocks` gives, by the inputs that each block of outputs reads.

    Where fewer outputs are wanted than there are inputs, as at the end of a network whose ends are cropped, it takes
    that many fewer products.

    Args:
        delta: (G, M, W, Cin).
        matrix: As :func:`collected` gives it.
        block, kernel, dilation, offset, width: As for :func:`spread_in_blocks`; neighbours are outputs.

    Returns:
        (G, M, ``width``, Cout).
    """
    delta = ops.cast(delta, matrix.dtype)
    g, m, _, cin = delta.shape
    rows = -(-(block + kernel - 1) // block)
    cout, step = matrix.shape[1] // block, block * dilation
    blocks = -(-width // step)
    x = place(delta, offset + (rows - 1) * step, (blocks + rows - 1) * step)
    x = ops.reshape(x, (g * m, blocks + rows - 1, block, dilation, cin))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (g * m, blocks + rows - 1, dilation, block * cin))
    read = [x[:, rows - 1 - r : rows - 1 - r + blocks] for r in range(rows)]
    read = read[0] if rows == 1 else ops.concatenate(read, axis=3)
    y = backend.matmul(ops.reshape(read, (g * m * blocks * dilation, rows * block * cin)), matrix)
    y = ops.transpose(ops.reshape(y, (g * m, blocks, dilation, block, cout)), (0, 1, 3, 2, 4))
    return ops.reshape(y, (g, m, blocks * step, cout))[:, :, :width]


def convolve(delta: Tensor, kernel: Tensor, dilation: int, offset: Ints | int, width: int) -> Tensor:
    """What :func:`spread` gives, by the backend's own convolution: wide windows of few channels, long kernels.

    Args:
        delta: (G, M, W, Cin).
        kernel: (K, Cin, Cout), as the layer has it; the last tap meets the first output that an input reaches.
        dilation, offset, width: As for :func:`spread`.

    Returns:
        (G, M, ``width``, Cout).
    """
    groups, members = delta.shape[:2]
    reach = (kernel.shape[0] - 1) * dilation
    x = flat(place(ops.cast(delta, kernel.dtype), offset + reach, width + reach))
    y = ops.conv(x, kernel, padding="valid", dilation_rate=dilation, data_format="channels_last")
    return unflat(y, groups, members)


def _products(delta: Tensor, taps: Tensor, groups: int) -> Tensor:
    """All products of window positions with taps: (G, M, W, K, Cout)."""
    g, m, w, _ = delta.shape
    _, cin, k, cout = taps.shape
    if groups == 1:
        return ops.reshape(matmul(delta, ops.reshape(taps, (cin, k * cout))), (g, m, w, k, cout))
    by_group = ops.transpose(ops.reshape(delta, (g * m * w, groups, cin)), (1, 0, 2))
    y = ops.matmul(by_group, ops.reshape(taps, (groups, cin, k * cout)))  # (groups, V * W, K * Cout)
    y = ops.transpose(ops.reshape(y, (groups, g * m * w, k, cout)), (1, 2, 0, 3))
    return ops.reshape(y, (g, m, w, k, groups * cout))


def _banded(delta: Tensor, taps: Tensor) -> Tensor:
    """Few input values: one product with the kernel laid out as a band, (W * Cin, (W + K - 1) * Cout)."""
    g, m, w, cin = delta.shape
    k, cout = taps.shape[2:]
    row = ops.reshape(taps, (cin, k * cout))
    band = ops.concatenate([ops.pad(row, ((0, 0), (i * cout, (w - 1 - i) * cout))) for i in range(w)], axis=0)
    return ops.reshape(matmul(ops.reshape(delta, (g, m, w * cin)), band), (g, m, w + k - 1, cout))
