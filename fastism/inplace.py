"""Kernels for torch, which runs op by op on tensors that can be written into. By tensor methods: no framework imported.

Without a compiler every operation is a pass over memory, so what counts is to make few of them. Three things help.
Windows lie in memory position by position, (W, G, M, C), although their axes are (G, M, W, C): the rows that one tap of
a convolution reads, and those that it writes, are then one stretch each, and a product adds to its sum directly. Where
windows start is known on the host, so nothing is masked that does not hang over. And results are written where they
belong, not made and copied.

Letters and shapes as in :mod:`fastism.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastism import backend

Tensor = Any
Ints = np.ndarray

#: Fewest output channels for which each tap has a product of its own; with fewer, all taps have one together.
FEW_CHANNELS = 8
#: Multiply-accumulates that take as long as reading a value of a matrix.
ROWS_READ = 30


def by_position(window: Tensor) -> Tensor:
    """(G, M, W, ...) -> (W, G, M, ...), no copy."""
    return window.permute(2, 0, 1, *range(3, window.dim()))


def by_variant(window: Tensor) -> Tensor:
    """(W, G, M, ...) -> (G, M, W, ...), no copy: the axes of a window, in memory position by position."""
    return window.permute(1, 2, 0, *range(3, window.dim()))


def lines(window: Tensor) -> Tensor:
    """(G, M, W, C) -> (W * G * M, C): a row for each position of each variant; no copy where these lie so in memory."""
    return by_position(window).reshape(-1, window.shape[-1])


def empty(like: Tensor, width: int) -> Tensor:
    """A window (G, M, ``width``, ...) of the other axes of ``like``, not filled."""
    groups, members, _, *rest = like.shape
    return by_variant(like.new_empty((width, groups, members, *rest)))


def index(like: Tensor, rows: Ints) -> Tensor:
    """Row numbers as a tensor on the device of ``like``."""
    return backend.to_tensor(np.ascontiguousarray(rows, np.int64).ravel(), like)


def gather(reference: Tensor, sequence: Ints, start: Ints, width: int, unit: int) -> Tensor:
    """What :func:`fastism.kernels.gather` gives, of starts that are known."""
    n, length, *rest = reference.shape
    if not rest:  # one number for each position: whole rows of ``unit`` of them
        rows, wide = length // unit, width // unit
        where = np.clip(start[:, None] // unit + np.arange(wide), 0, rows - 1) + (
            sequence[:, None] * rows if n > 1 else 0
        )
        return reference.reshape(n * rows, unit)[index(reference, where)].reshape(-1, 1, width)
    where = np.clip(start + np.arange(width)[:, None], 0, length - 1)  # (W, G)
    where = where + sequence * length if n > 1 else where
    taken = reference.reshape(n * length, -1).index_select(0, index(reference, where))
    return by_variant(taken.reshape(width, len(start), 1, *rest))


def place(delta: Tensor, offset: Ints, width: int, unit: int) -> Tensor:
    """What :func:`fastism.kernels.place` gives, of an offset for each group that is known."""
    rest = delta.shape[3:]
    unit = 1 if rest else unit
    rows = delta.shape[2] // unit
    source = np.arange(width // unit) - (offset // unit)[:, None]  # (G, F)
    return pick(delta, np.where(source < rows, source, -1), unit)


def pick(delta: Tensor, source: Ints, unit: int = 1) -> Tensor:
    """What :func:`fastism.kernels.pick` gives, of rows that are known; rows of ``unit`` positions."""
    groups, members, wide, *rest = delta.shape
    rows, variants = wide // unit, groups * members
    variant = np.arange(variants).reshape(groups, members)
    absent = np.broadcast_to((source < 0) | (source >= rows), source.shape)
    source = np.clip(source, 0, rows - 1)
    if rest:
        numbers = source.T[:, :, None] * variants + variant  # (F, G, M)
        absent = np.broadcast_to(absent.T[:, :, None], numbers.shape)
        taken = by_position(delta).reshape(rows * variants, -1).index_select(0, index(delta, numbers))
    else:
        numbers = variant[:, :, None] * rows + source[:, None]  # (G, M, F)
        absent = np.broadcast_to(absent[:, None], numbers.shape)
        taken = delta.reshape(variants * rows, unit).index_select(0, index(delta, numbers))
    nothing = np.flatnonzero(absent)
    if len(nothing):
        taken.index_fill_(0, index(delta, nothing), 0)
    if rest:
        return by_variant(taken.reshape(source.shape[1], groups, members, *rest))
    return taken.reshape(groups, members, source.shape[1] * unit)


def put(delta: Tensor, offset: int, width: int) -> Tensor:
    """What :func:`fastism.kernels.place` gives, of one offset for all."""
    w = delta.shape[2]
    if offset <= 0 and offset + w >= width:
        return delta[:, :, -offset : width - offset]
    return overlay([(delta, offset)], width)


def overlay(parts: Sequence[tuple[Tensor, int]], width: int, *, over: bool = False) -> Tensor:
    """What :func:`fastism.kernels.overlay` gives."""
    (total, offset), *parts = parts
    if not over:
        first, total = total, empty(total, width)
        begin, end = _within(offset, first.shape[2], width)
        total[:, :, :begin] = 0
        total[:, :, begin:end] = first[:, :, begin - offset : end - offset]
        total[:, :, end:] = 0
    for part, offset in parts:
        begin, end = _within(offset, part.shape[2], width)
        if begin < end:
            total[:, :, begin:end] += part[:, :, begin - offset : end - offset]
    return total


def _within(offset: int, length: int, width: int) -> tuple[int, int]:
    """``[offset, offset + length)`` within ``[0, width)``."""
    begin = min(max(offset, 0), width)
    return begin, max(min(offset + length, width), begin)


#: Groups and positions of windows, and which of these (G, W) lie outside of the tensor.
Overhang = tuple[slice, slice, Tensor]


def overhangs(start: Ints, width: int, length: int, like: Tensor) -> list[Overhang]:
    """Where windows of known starts hang over the ends of a tensor.

    Only the groups that hang over are looked at, and of them only the stretch of positions where any does.

    Args:
        start, width: Of the windows.
        length: Positions of the tensor.
        like: A tensor on the device where the masks shall be.
    """
    before, after, found = np.maximum(-start, 0), np.maximum(start + width - length, 0), []
    for hangs, first, last in (
        (before, 0, min(int(before.max()), width)),
        (after, max(width - int(after.max()), 0), width),
    ):
        groups = np.flatnonzero(hangs)
        if len(groups):
            low, high = int(groups[0]), int(groups[-1]) + 1
            where = start[low:high, None] + np.arange(first, last)
            outside = backend.to_tensor((where < 0) | (where >= length), like)
            found.append((slice(low, high), slice(first, last), outside))
    return found


def fill(window: Tensor, overhanging: Sequence[Overhang], filling: float) -> Tensor:
    """Write a number wherever windows hang over."""
    for groups, positions, outside in overhanging:
        part = window[groups, :, positions]
        part.masked_fill_(outside[(slice(None), None, slice(None), *[None] * (window.dim() - 3))], filling)
    return window


def rectified(delta: Tensor, reference: Tensor, *, over: bool) -> Tensor:
    """What :func:`fastism.kernels.rectified` gives."""
    change = delta.clamp_(min=-reference) if over else delta.clamp(min=-reference)
    return change.add_(reference.clamp(max=0))


def spread(delta: Tensor, taps: Tensor, dilation: int, offset: int, width: int) -> Tensor:
    """What :func:`fastism.convolving.spread` gives, ungrouped and of one offset for all.

    Every tap adds its product to the stretch of outputs that it reaches, and only what lands in the frame is computed.
    """
    groups, members, w, _ = delta.shape
    _, _, k, cout = taps.shape
    variants, rows = groups * members, lines(delta)
    if cout < FEW_CHANNELS:
        return _few(rows, taps[0], (groups, members, w), dilation, offset, width)
    out = rows.new_empty((width * variants, cout))
    done = 0  # how many positions of the frame hold something
    for j in range(k):
        first = offset + j * dilation
        begin, end = _within(first, w, width)
        if begin == end:
            continue
        if 2 * (end - max(begin, done)) <= end - begin:  # most of it is there: begin the rest with zeros
            out[done * variants : end * variants] = 0
            done = max(done, end)
        elif begin > done:
            out[done * variants : begin * variants] = 0
            done = begin
        middle = min(max(begin, done), end)
        for low, high, add in ((begin, middle, True), (middle, end, False)):
            if low < high:
                x = rows[(low - first) * variants : (high - first) * variants]
                backend.multiply_into(out[low * variants : high * variants], x, taps[0, :, j], add=add)
        done = max(done, end)
    out[done * variants :] = 0
    return by_variant(out.reshape(width, groups, members, cout))


def _few(rows: Tensor, taps: Tensor, shape: tuple[int, int, int], dilation: int, offset: int, width: int) -> Tensor:
    """The same for few output channels: one product for all taps, whose rows are then added up."""
    cin, k, cout = taps.shape
    groups, members, w = shape
    variants = groups * members
    y = (taps.reshape(cin, k * cout).t() @ rows.t()).reshape(k, cout, w * variants)
    out = y.new_zeros((cout, width * variants))
    for j in range(k):
        first = offset + j * dilation
        begin, end = _within(first, w, width)
        if begin < end:
            out[:, begin * variants : end * variants] += y[j, :, (begin - first) * variants : (end - first) * variants]
    return out.reshape(cout, width, groups, members).permute(2, 3, 1, 0)


def rows_product(delta: Tensor, matrix: Tensor, start: Ints, length: int) -> Tensor:
    """(G * M, D): the change of each position times its row of a matrix.

    Variants whose windows start alike, which lie side by side, need the same rows, and have a product of their own.
    Where these are few, one frame holds all windows, and there is one product.

    Args:
        delta: (G, M, W) window that lies within ``length`` positions, or is zero outside.
        matrix: (``length``, D).
        start: (G,) where windows begin.
        length: Positions.
    """
    groups, members, width = delta.shape
    first, end = int(np.clip(start.min(), 0, length)), int(np.clip(start.max() + width, 0, length))
    runs = np.flatnonzero(np.diff(start)) + 1
    if (len(runs) + 1) * width * ROWS_READ >= groups * members * (end - first - width):
        unit = int(np.gcd.reduce([first, end, width, *start.tolist()])) or 1
        frame = place(delta, start - first, end - first, unit)
        return backend.matmul(frame.reshape(groups * members, -1), matrix[first:end])
    out = delta.new_empty((groups * members, matrix.shape[1]))
    for low, high in zip([0, *runs], [*runs, groups], strict=True):
        at = int(start[low])
        begin, stop = max(at, 0), min(at + width, length)
        x = delta[low:high, :, begin - at : max(stop - at, begin - at)].reshape((high - low) * members, -1)
        target = out[low * members : high * members]
        backend.multiply_into(target, x, matrix[begin : max(stop, begin)], add=False)
    return out
