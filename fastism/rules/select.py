"""Operations that only choose and move values: slices, flips, repeats, joins along positions, transposed channels.

What such an operation does is read off by running it on numbered values, so one step serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import layers, ops, tree

from fastism import backend, kernels
from fastism.calls import Call, Ref
from fastism.graph import Graph
from fastism.rules.registry import rule
from fastism.rules.shape import Regroup
from fastism.rules.step import DELTA, WHOLE, At, Given, Local, Lowered, Refuse, Same, Shape, Step, Tensor
from fastism.window import Geometry, Index, Ints, Slide, Span, through, union

FAMILY = "selection"


@dataclass(frozen=True, eq=False)
class Move:
    """Where the values of an output come from in one input.

    Attributes:
        source: (T_out,) input position that each output position reads; negative where none.
        channels: Value at that position, counted over all axes behind the positions, that each output channel reads,
            negative where none; None where all are kept in order.
        length: Positions of the input.
    """

    source: Ints
    channels: Ints | None
    length: int

    @cached_property
    def affine(self) -> tuple[int, int] | None:
        """``(stride, first)`` if output ``o`` reads input ``first + o * stride``, wherever there is one."""
        read = np.flatnonzero(self.source >= 0)
        if not len(read):
            return None
        steps = np.unique(np.diff(self.source[read])) if len(read) > 1 else np.array([1])
        if len(steps) > 1 or steps[0] < 1:
            return None
        stride = int(steps[0])
        first = int(self.source[read[0]] - stride * read[0])
        expected = first + stride * np.arange(len(self.source))
        expected = np.where((expected >= 0) & (expected < self.length), expected, -1)
        return (stride, first) if np.array_equal(expected, self.source) else None

    @cached_property
    def geometry(self) -> Geometry:
        """The map of positions."""
        if self.affine is None:
            return Index(self.source, self.length)
        stride, first = self.affine
        return Slide(1, stride, 1, -first)


class Select(Step):
    """Every output value is one value of one input, or constant: linear, so inputs that do not change drop out.

    Args:
        moves: One for each input.
        full: The operation on full tensors.
    """

    def __init__(self, moves: Sequence[Move], full: Any):
        self.moves, self.full = moves, full

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(*values)

    def place(self, given: Given) -> Local:
        changed = [(m, s) for m, s in zip(self.moves, given.spans, strict=True) if s is not None]
        spans = [through(m.geometry, s, given.out_shape[0], need=given.need) for m, s in changed]
        out = union(spans, need=given.need)
        frames = [self._frame(m, s, out) for m, s in changed]
        uses = tuple(None if s is None else DELTA for s in given.spans)
        return Local(out, uses, DELTA, frames=tuple(frames))

    def _frame(self, move: Move, span: Span, out: Span) -> Span:
        """The input positions under the output window, where these are evenly spaced."""
        if move.affine is None:
            return span
        stride, first = move.affine
        return Span(out.start * stride + first, (out.width - 1) * stride + 1, span.lo, span.hi, span.length)

    def run(self, at: At):
        out, runtime, total = at.local.span, at.runtime, None
        frames = iter(at.local.frames)
        if out is None:
            raise Refuse("its inputs are not windows")
        for move, window in zip(self.moves, at.windows, strict=True):
            if window is None:
                continue
            frame = next(frames)
            if move.affine is not None:
                delta = runtime.move(window.delta, window.span, frame)[:, :, :: move.affine[0]]
            else:
                delta = self._gathered(at, move, window, out)
            part = ops.cast(_chosen(delta, move.channels, at.given.out_shape[1:]), at.given.dtype)
            total = part if total is None else total + part
        return at.out(delta=runtime.keep_inside(total, out))

    def _gathered(self, at: At, move: Move, window: Any, out: Span) -> Tensor:
        where = kernels.positions(at.runtime.start(out), out.width)
        table = ops.convert_to_tensor(move.source.astype("int32"))
        source = ops.take(table, ops.clip(where, 0, len(move.source) - 1), axis=0)  # (G, W)
        offset = source - ops.expand_dims(at.runtime.start(window.span), 1)
        return kernels.pick(window.delta, ops.where(source >= 0, offset, -1))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.moves[0].geometry.backward(lo, hi)

    def reads(self, index: int, lo: int, hi: int, given: Given) -> tuple[int, int]:
        first, end = self.moves[index].geometry.backward(np.asarray([lo]), np.asarray([hi]))
        first, end = max(int(first[0]), 0), min(int(end[0]), self.moves[index].length)
        return (first, end) if end > first else (0, 0)


class PickPosition(Step):
    """One position of a tensor, which thereby loses its axis of positions."""

    def __init__(self, position: int, channels: Ints | None, full: Any):
        self.position, self.channels, self.full = position, channels, full

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(*values)

    def place(self, given: Given) -> Local:
        (span,) = given.spans
        if span is None:
            raise Refuse("its input is not a window")
        place = Span(np.full_like(span.start, self.position), 1, span.lo, span.hi, span.length)
        return Local(None, (DELTA,), WHOLE, frames=(place,), taps=(given.output,))

    def run(self, at: At):
        window, runtime = at.window, at.runtime
        delta = runtime.move(window.delta, window.span, at.local.frames[0])  # (G, M, 1, ...)
        delta = _chosen(delta, self.channels, at.given.out_shape)[:, :, 0]
        reference = runtime.per_group(at.given.output)
        return kernels.flat(reference + ops.cast(delta, reference.dtype))

    def reads(self, index: int, lo: int, hi: int, given: Given) -> tuple[int, int]:
        return self.position, self.position + 1


def _chosen(delta: Tensor, channels: Ints | None, shape: Shape) -> Tensor:
    """(G, M, W, ...) -> (G, M, W, *shape) with the values of each position chosen."""
    g, m, w, *rest = delta.shape
    if channels is None:
        return delta if tuple(rest) == tuple(shape) else ops.reshape(delta, (g, m, w, *shape))
    delta = ops.reshape(delta, (g, m, w, math.prod(rest)))
    first, n = int(channels[0]), len(channels)
    if first >= 0 and np.array_equal(channels, np.arange(first, first + n)):
        taken = delta[..., first : first + n]
    else:
        taken = ops.take(delta, np.maximum(channels, 0).astype("int32"), axis=-1)
        if (channels < 0).any():
            taken = taken * ops.convert_to_tensor((channels >= 0).astype("float32"), dtype=taken.dtype)
    return ops.reshape(taken, (g, m, w, *shape))


def select(call: Call, graph: Graph) -> Lowered:
    """The steps of an operation that only moves values, found by running it on numbered ones."""
    if any(isinstance(leaf, Ref) for leaf in tree.flatten(call.args[1:])):
        raise Refuse("an argument that says what it moves changes")
    shapes = [_known(graph.shape(t)) for t in call.inputs]
    sources = [_numbered(call, shapes, i) for i in range(len(shapes))]
    branches = []
    for j, out in enumerate(call.outputs):
        shape = _known(graph.shape(out))
        maps = [s[j] for s in sources]
        for number in maps:
            if number.shape != (1, *shape):
                raise Refuse("it moves values across the batch axis")

        def full(*values, j=j):
            return call.evaluate(values)[j]

        branches.append([_step(maps, shapes, shape, full)])
    return Lowered(branches[0]) if len(branches) == 1 else Lowered([], branches=branches)


def _known(shape: Sequence[int | None]) -> Shape:
    return tuple(int(n or 0) for n in shape)


def _numbered(call: Call, shapes: Sequence[Shape], which: int) -> list[Ints]:
    """For every output: which value of input ``which``, counted from 1, each value is; 0 where none."""
    for dtype in ("int32", "float32"):  # an operation may take only one kind
        if dtype == "float32" and math.prod(shapes[which]) >= 1 << 24:
            continue
        try:
            return [
                a - b for a, b in zip(*[_run_on(call, shapes, which, dtype, n) for n in (True, False)], strict=True)
            ]
        except Exception:  # each backend has its own for what an operation does not take
            continue
    raise Refuse("it does not run on numbered values")


def _run_on(call: Call, shapes: Sequence[Shape], which: int, dtype: str, numbered: bool) -> list[Ints]:
    values = [np.zeros((1, *s), dtype) for s in shapes]
    if numbered:
        values[which] = np.arange(1, values[which].size + 1, dtype=dtype).reshape(values[which].shape)
    outputs = call.evaluate([ops.convert_to_tensor(v) for v in values])
    return [np.rint(backend.to_numpy(y)).astype(np.int64) for y in outputs]


def _step(numbers: Sequence[Ints], shapes: Sequence[Shape], out: Shape, full: Any) -> Step:
    if len(shapes) == 1 and np.array_equal(numbers[0].ravel(), np.arange(1, math.prod(shapes[0]) + 1)):
        return Same() if shapes[0] == out else Regroup(shapes[0], out)
    if not out or any(not s for s in shapes):
        raise Refuse("a tensor without positions is among its tensors")
    if len(shapes) == 1:
        picked = _picked(numbers[0], shapes[0])
        if picked is not None:
            return PickPosition(*picked, full)
    return Select([_move(n[0], s) for n, s in zip(numbers, shapes, strict=True)], full)


def _picked(number: Ints, shape: Shape) -> tuple[int, Ints] | None:
    """``(position, values)`` if all output values come from one of several positions and positions are dropped."""
    each = math.prod(shape[1:])
    flat = number.ravel()
    if shape[0] == 1 or (flat <= 0).any() or number.ndim != len(shape):
        return None
    position = np.unique((flat - 1) // each)
    return (int(position[0]), (flat - 1) % each) if len(position) == 1 else None


def _move(number: Ints, shape: Shape) -> Move:
    """Positions and values apart; refused where which position is read depends on the channel."""
    length, each = shape[0], math.prod(shape[1:])
    number = number.reshape(len(number), -1)  # (T_out, values)
    read = number > 0
    rows, columns = np.asarray(read.any(axis=1)), np.asarray(read.any(axis=0))
    source, channels = np.full(len(rows), -1), np.full(len(columns), -1)
    if rows.any():
        inner = number[np.ix_(rows, columns)] - 1
        position, value = inner // each, inner % each
        if (inner < 0).any() or (position != position[:, :1]).any() or (value != value[:1]).any():
            raise Refuse("it mixes positions with channels")
        source[rows], channels[columns] = position[:, 0], value[0]
    if len(channels) == each and np.array_equal(channels, np.arange(each)):
        return Move(source, None, length)
    return Move(source, channels, length)


@rule(layers.Cropping2D, layers.ZeroPadding2D, layers.UpSampling2D, family=FAMILY, note="where positions stay apart")
def select_layer(call: Call, graph: Graph) -> Lowered:
    """Layers that only move values."""
    if call.op.data_format != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
    if getattr(call.op, "interpolation", "nearest") != "nearest":
        raise Refuse(f"it interpolates ({call.op.interpolation})")
    return select(call, graph)
