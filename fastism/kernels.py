"""The few tensor operations that windows need: gather, place, mask, multiply. ``keras.ops`` only.

Shapes: G groups of M variants each share a window start; a window tensor is (G, M, W, ...), its reference
(G, 1, W, ...). ``start`` and ``offset`` are (G,) int32 tensors, or NumPy arrays on torch; where they are one number for
all, a Python int.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism import backend, inplace
from fastism.window import constant

Tensor = Any
Ints = Any

#: Terms of one sum of windows from which XLA takes too long to compile them apart for each stretch of the frame.
MANY_TERMS = 512


def cast(x: Tensor, dtype: str) -> Tensor:
    """``x`` in a dtype: itself, without more ado, if it has it."""
    return x if backend.has_dtype(x, dtype) else ops.cast(x, dtype)


def like(x: Tensor, other: Tensor) -> Tensor:
    """``x`` in the dtype of another tensor."""
    return x if x.dtype == other.dtype else ops.cast(x, other.dtype)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` of another shape."""
    return x.reshape(shape) if backend.in_place() else ops.reshape(x, shape)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger of two tensors of one dtype, element by element."""
    return x.maximum(y) if backend.in_place() else ops.maximum(x, y)


def positions(start: Ints, width: int) -> Tensor:
    """(G, W) absolute positions of windows that begin at ``start``."""
    return ops.expand_dims(start, 1) + ops.arange(width, dtype="int32")


def gather(reference: Tensor, sequence: Tensor, start: Ints, width: int, unit: int = 1) -> Tensor:
    """Windows of cached reference activations.

    Args:
        reference: (N, T, ...) activations of N sequences, or (1, T, ...) of something all sequences share.
        sequence: (G,) index of the sequence of each group.
        start: (G,) first position; positions outside ``[0, T)`` give the value at the nearest end.
        width: Positions in a window.
        unit: A number that divides T, ``width`` and every start, so that rows of ``unit`` positions can be read.

    Returns:
        (G, 1, W, ...).
    """
    if isinstance(start, np.ndarray):
        return inplace.gather(reference, sequence, start, width, unit)
    n, length, *rest = reference.shape
    rows, wide, size = length // unit, width // unit, unit * math.prod(rest)
    where = ops.clip(positions(start // unit if unit > 1 else start, wide), 0, rows - 1)  # (G, W)
    if n > 1:
        where = where + ops.expand_dims(sequence * rows, 1)
    taken = backend.take_rows(ops.reshape(reference, (n * rows, size)), where)
    return ops.reshape(taken, (-1, 1, width, *rest))


def kept(x: Tensor, where: Ints) -> Tensor:
    """``x``, computed once and stored, on a CPU.

    XLA puts what comes before a gather or a broadcast into it, and computes it anew for every value that is read. It
    gives up its own barrier before it fuses, but it cannot see through a loop, here one that never runs.

    Args:
        x: Any tensor of numbers.
        where: Window starts, or distances between them: none is as low as the loop would have it.
    """
    if backend.in_place() or backend.on_gpu():
        return x
    turns = ops.cast(ops.reshape(where, (-1,))[0] == np.iinfo("int32").min, "int32")
    return ops.while_loop(lambda turn, _: turn < turns, lambda turn, y: (turn + 1, ops.zeros_like(y)), (0, x))[1]


def place(delta: Tensor, offset: Ints | int, width: int, unit: int = 1) -> Tensor:
    """Put windows into wider or shifted frames, zeros around them; what falls outside the frame is dropped.

    Args:
        delta: (G, M, W, ...).
        offset: Position in the frame of the window's first row.
        width: Positions in the frame.
        unit: A number that divides W, ``width`` and every offset.

    Returns:
        (G, M, ``width``, ...).
    """
    groups, members, w, *rest = delta.shape
    if isinstance(offset, np.ndarray):
        known = constant(offset)
        if known is None:
            return inplace.place(delta, offset, width, unit)
        offset = known
    if isinstance(offset, int):
        if offset == 0 and w == width:
            return delta
        if backend.in_place():
            return inplace.put(delta, offset, width)
        before, after = max(offset, 0), max(width - offset - w, 0)
        cut = delta[:, :, max(-offset, 0) : max(min(w, width - offset), 0)]
        pads = [(0, 0), (0, 0), (before, after)] + [(0, 0)] * len(rest)
        if cut.shape[2] == 0:
            return ops.zeros((groups, members, width, *rest), dtype=delta.dtype)
        return ops.pad(cut, pads)
    rows, wide = w // unit, width // unit
    source = ops.arange(wide, dtype="int32") - ops.expand_dims(offset // unit if unit > 1 else offset, 1)  # (G, F)
    taken = pick(ops.reshape(delta, (groups, members, rows, unit * math.prod(rest))), source)
    return ops.reshape(taken, (groups, members, width, *rest))


def pick(delta: Tensor, source: Tensor) -> Tensor:
    """Rows of windows in any order, zeros where there is none.

    Args:
        delta: (G, M, W, ...).
        source: (G, F) row for each output position; outside ``[0, W)`` for none.

    Returns:
        (G, M, F, ...).
    """
    if isinstance(source, np.ndarray):
        return inplace.pick(delta, source)
    groups, members, rows, *rest = delta.shape
    wide, size = source.shape[1], math.prod(rest)
    delta = kept(delta, source)
    inside = ops.logical_and(source >= 0, source < rows)
    base = ops.reshape(ops.arange(groups * members, dtype="int32") * rows, (groups, members, 1))
    where = base + ops.expand_dims(ops.clip(source, 0, rows - 1), 1)  # (G, M, F)
    taken = backend.take_rows(ops.reshape(delta, (groups * members * rows, size)), where)
    taken = ops.where(ops.reshape(inside, (groups, 1, wide, 1)), taken, ops.zeros((), dtype=delta.dtype))
    return ops.reshape(taken, (groups, members, wide, *rest))


def inside(start: Ints, width: int, length: int, rank: int) -> Tensor:
    """(G, 1, W, 1, ...) of ``rank`` axes: whether each position of the windows is one of the tensor's."""
    where = positions(ops.convert_to_tensor(start, dtype="int32"), width)
    ok = ops.logical_and(where >= 0, where < length)
    return ops.reshape(ok, (where.shape[0], 1, width) + (1,) * (rank - 3))


def fill_outside(window: Tensor, start: Tensor, length: int, filling: Any) -> Tensor:
    """Put a number where windows hang over the ends.

    Args:
        window: (G, M, W, ...).
        start: (G,) first position of each window.
        length: Positions of the tensor.
        filling: The number.
    """
    ok = inside(start, window.shape[2], length, len(window.shape))
    return ops.where(ok, window, number(filling, window.dtype))


def rectified(delta: Tensor, reference: Tensor, *, over: bool = False) -> Tensor:
    """``relu(reference + delta) - relu(reference)``; ``over``: ``delta`` may be written into."""
    if backend.in_place():
        return inplace.rectified(delta, reference, over=over)
    return ops.maximum(delta, -reference) + ops.minimum(reference, ops.zeros((), reference.dtype))


def number(value: float, dtype: Any) -> Tensor:
    """A number as a tensor without axes, which takes part in arithmetic in its own dtype."""
    return ops.convert_to_tensor(value, dtype=keras.backend.standardize_dtype(dtype))


def scaled(x: Tensor, scale: Tensor, shift: Tensor | None = None, *, over: bool = False) -> Tensor:
    """``x * scale``, and ``+ shift`` if there is one; ``over``: ``x`` may be written into."""
    if over and x.dtype == scale.dtype:
        x = x.mul_(scale)
        return x if shift is None else x.add_(shift)
    x = ops.cast(x, scale.dtype) * scale
    return x if shift is None else x + shift


def lowest(dtype: Any) -> float:
    """The lowest finite number of a dtype: a filling that no maximum takes, whose difference with itself is 0."""
    name = keras.backend.standardize_dtype(dtype)
    return -3.38e38 if name == "bfloat16" else float(np.finfo(name).min)


def rows(matrix: Tensor, first: Tensor, count: int) -> Tensor:
    """``count`` rows of a matrix from row ``first`` on, an int32 scalar."""
    if count == matrix.shape[0]:
        return matrix
    return backend.slice_rows(matrix, first, count)


def flat(window: Tensor) -> Tensor:
    """(G, M, W, ...) -> (G * M, W, ...)."""
    groups, members, *rest = window.shape
    return reshape(window, (groups * members, *rest))


def unflat(window: Tensor, groups: int, members: int) -> Tensor:
    """(G * M, W, ...) -> (G, M, W, ...)."""
    return reshape(window, (groups, members, *window.shape[1:]))


def matmul(delta: Tensor, matrix: Tensor) -> Tensor:
    """(..., C) times (C, D) as one matrix product."""
    *lead, channels = delta.shape
    if backend.in_place() and len(lead) == 3:
        groups, members, w = lead
        rows = backend.matmul(inplace.lines(like(delta, matrix)), matrix)
        return inplace.by_variant(rows.reshape(w, groups, members, -1))
    out = backend.matmul(ops.reshape(ops.cast(delta, matrix.dtype), (-1, channels)), matrix)
    return ops.reshape(out, (*lead, matrix.shape[-1]))


def overlay(parts: Sequence[tuple[Tensor, int]], width: int, *, over: bool = False) -> Tensor:
    """The sum of windows, each at its own place in one frame; what falls outside the frame is dropped.

    Args:
        parts: Windows (G, M, W, ...) and where in the frame they begin.
        width: Positions in the frame.
        over: The first one fills the frame and may be written into.

    Returns:
        (G, M, ``width``, ...).
    """
    if backend.in_place():
        return inplace.overlay(parts, width, over=over)
    cut = [(piece, at, max(at, 0), min(at + piece.shape[2], width)) for piece, at in parts]
    edges = sorted({0, width} | {edge for _, _, begin, end in cut if begin < end for edge in (begin, end)})
    if len(parts) * len(edges) > MANY_TERMS:
        return functools.reduce(operator.add, [place(piece, at, width) for piece, at in parts])
    sums = []  # stretch by stretch: no zeros are added
    for low, high in itertools.pairwise(edges):
        here = [piece[:, :, low - at : high - at] for piece, at, begin, end in cut if begin <= low and high <= end]
        sums.append(functools.reduce(operator.add, here) if here else None)
    if len(sums) == 1 and sums[0] is not None:
        return sums[0]
    first = parts[0][0]
    blank = [(*first.shape[:2], high - low, *first.shape[3:]) for low, high in itertools.pairwise(edges)]
    filled = [ops.zeros(b, dtype=first.dtype) if s is None else s for s, b in zip(sums, blank, strict=True)]
    return ops.concatenate(filled, axis=2)
