"""Layers that bring all positions together, of which a change needs only its window and what is cached of the rest."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import inplace, kernels
from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules.pointwise import Pointwise
from fastism.rules.registry import rule
from fastism.rules.step import (
    DELTA,
    VALUE,
    WHOLE,
    At,
    Cost,
    Given,
    Local,
    Lowered,
    Refuse,
    Shape,
    Step,
    Tensor,
    only,
)
from fastism.window import Ranges, Span

FAMILY = "reduction"


class Reduce(Step):
    """A step whose output depends on every position."""

    def keeps_positions(self, given: Given) -> bool:
        return False


class Rows(Reduce):
    """A matrix product over all positions at once, Flatten then Dense: only the kernel rows under the window count.

    The rows are read once for a whole chunk, so the windows of a chunk are first put into one frame that holds them
    all; chunks are sorted by position to keep it narrow.
    """

    def __init__(self, kernel: Callable[[], Tensor], full: Callable[[Tensor], Tensor]):
        self.kernel, self.full = kernel, full

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(values[0])

    def place(self, given: Given) -> Local:
        return Local(None, (DELTA,), WHOLE, taps=(given.output,))

    def run(self, at: At):
        window = at.window
        span, runtime = window.span, at.runtime
        start, kernel = runtime.where(span), self.kernel()  # not prepared: a copy of all rows
        if isinstance(start, np.ndarray):
            change = inplace.rows_product(kernels.like(window.delta, kernel), kernel, start, span.length)
        else:
            width = chunk_width(span, at.given.reach)
            first = ops.clip(ops.min(start), 0, span.length - width)
            delta = kernels.place(window.delta, start - first, width, math.gcd(span.grain, width, span.length))
            change = kernels.matmul(kernels.flat(delta), kernels.rows(kernel, first, width))  # (V, F)
        reference = runtime.per_group(at.given.output)  # (G, 1, F)
        change = ops.cast(change, reference.dtype)
        return kernels.flat(reference + kernels.unflat(change, runtime.groups, runtime.members))

    def cost(self, given: Given) -> Cost:
        each = float(given.out_shape[-1])
        return Cost(each * given.shapes[0][0], each * given.shapes[0][0], each)

    def shared(self, given: Given) -> float:
        return float(only(given.spans).width * given.out_shape[-1])


def chunk_width(span: Span, reach: int) -> int:
    """Positions that hold the windows of all edits that begin within ``reach`` of one another."""
    known = _WIDTHS.setdefault(span, {})
    if reach not in known:
        known[reach] = _chunk_width(span, reach)
    return known[reach]


#: What :func:`chunk_width` gave, by span and reach.
_WIDTHS: MutableMapping[Span, dict[int, int]] = weakref.WeakKeyDictionary()


def _chunk_width(span: Span, reach: int) -> int:
    start, places = span.start - span.start.min(), np.arange(len(span.start))  # windows may begin before position 0
    first, end = Ranges(start, start).hull(places, places + reach + 1)  # windows need not follow the edits' order
    wide = int((end - 1 - first).max()) + span.width
    unit = math.gcd(span.grain, span.length)
    wide = -(-wide // unit) * unit
    return span.length if 4 * wide > 3 * span.length else wide


class SumAll(Reduce):
    """Sum or mean over positions: the reference's plus that of the change."""

    def __init__(self, shape: Shape, *, mean: bool):
        self.out, self.mean = shape, mean

    def evaluate(self, *values: Tensor) -> Tensor:
        return ops.reshape((ops.mean if self.mean else ops.sum)(values[0], axis=1), (-1, *self.out))

    def place(self, given: Given) -> Local:
        return Local(None, (DELTA,), WHOLE, taps=(given.output,))

    def run(self, at: At):
        window, runtime = at.window, at.runtime
        change = ops.sum(window.delta, axis=2)
        change = change / window.span.length if self.mean else change
        reference = runtime.per_group(at.given.output)
        change = ops.reshape(change, (runtime.groups, runtime.members, *self.out))
        return kernels.flat(reference + ops.cast(change, reference.dtype))


class Extreme(Reduce):
    """Maximum, minimum or log-sum-exp over positions: of the window, of what lies before it and of what lies after it.

    Args:
        shape: Of the result, without batch axis.
        join: The function of two values, associative, that brings positions together.
        reduce: The same over an axis.
        sign: Of the infinity that changes nothing: -1 for a maximum.
    """

    prepares_by_shape = True

    def __init__(self, shape: Shape, join: Callable[..., Tensor], reduce: Callable[..., Tensor], sign: int = -1):
        self.out, self.join, self.reduce, self.sign = shape, join, reduce, sign

    def evaluate(self, *values: Tensor) -> Tensor:
        return ops.reshape(self.reduce(values[0], axis=1), (-1, *self.out))

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        """The reference joined from the left and from the right, shifted to exclude the window."""
        x = tap(given.inputs[0])  # (N, T, ...)
        nothing = ops.ones_like(x[:, :1]) * self._nothing(x.dtype)
        left, right = _running(x, self.join, backwards=False), _running(x, self.join, backwards=True)
        return {
            "left": ops.concatenate([nothing, left], axis=1),
            "right": ops.concatenate([right, nothing], axis=1),
        }

    def _nothing(self, dtype: Any) -> Tensor:
        return kernels.number(-self.sign * kernels.lowest(dtype), dtype)

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        before = Span(np.clip(span.start, 0, span.length), 1, span.lo, span.hi, span.length + 1)
        after = Span(np.clip(span.start + span.width, 0, span.length), 1, span.lo, span.hi, span.length + 1)
        return Local(None, (VALUE,), WHOLE, frames=(before, after), taps=given.inputs)

    def run(self, at: At):
        window = at.window
        before, after = at.local.frames
        runtime, span, value = at.runtime, window.span, window.value
        if runtime.hangs(span):
            ok = kernels.inside(runtime.start(span), span.width, span.length, len(value.shape))
            value = ops.where(ok, value, self._nothing(value.dtype))
        outside = self.join(runtime.read(at.prepared["left"], before), runtime.read(at.prepared["right"], after))
        top = self.join(self.reduce(value, axis=2, keepdims=True), outside)  # (G, M, 1, ...)
        return ops.reshape(top, (runtime.groups * runtime.members, *self.out))


def _running(x: Tensor, join: Callable[..., Tensor], *, backwards: bool) -> Tensor:
    """(N, T, ...) each position joined with all before it (after it if ``backwards``), in log2(T) passes."""
    step, length = 1, x.shape[1]
    while step < length:
        further = join(x[:, step:], x[:, :-step])
        x = ops.concatenate([further, x[:, -step:]] if backwards else [x[:, :step], further], axis=1)
        step *= 2
    return x


def _log_add(a: Tensor, b: Tensor) -> Tensor:
    """``log(exp(a) + exp(b))``; Keras's own takes float64 to float32 on some backends."""
    return ops.maximum(a, b) + ops.log1p(ops.exp(-ops.abs(a - b)))


def _log_sum(x: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    top = ops.max(x, axis=axis, keepdims=True)
    total = top + ops.log(ops.sum(ops.exp(x - top), axis=axis, keepdims=True))
    return total if keepdims else ops.squeeze(total, axis=axis)


#: Reductions over positions by the name of their ``keras.ops`` function; each takes the shape of the result.
REDUCERS: dict[str, Callable[[Shape], Step]] = {
    "mean": lambda shape: SumAll(shape, mean=True),
    "sum": lambda shape: SumAll(shape, mean=False),
    "max": lambda shape: Extreme(shape, ops.maximum, ops.max),
    "amax": lambda shape: Extreme(shape, ops.maximum, ops.max),
    "min": lambda shape: Extreme(shape, ops.minimum, ops.min, sign=1),
    "amin": lambda shape: Extreme(shape, ops.minimum, ops.min, sign=1),
    "logsumexp": lambda shape: Extreme(shape, _log_add, _log_sum),
}


@rule(layers.GlobalAveragePooling1D, family=FAMILY, note="incremental")
def global_average(call: Call, graph: Graph) -> Lowered:
    """Mean over positions."""
    return Lowered([REDUCERS["mean"](_result(call, graph))])


@rule(layers.GlobalMaxPooling1D, family=FAMILY, note="incremental")
def global_max(call: Call, graph: Graph) -> Lowered:
    """Maximum over positions."""
    return Lowered([REDUCERS["max"](_result(call, graph))])


@rule(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, family=FAMILY, note="incremental")
def global_2d(call: Call, graph: Graph) -> Lowered:
    """Mean or maximum over positions and a second axis."""
    name = "mean" if isinstance(call.op, layers.GlobalAveragePooling2D) else "max"
    function = getattr(ops, name)
    out, shape = _result(call, graph), graph.shape(call.inputs[0])
    middle = (int(shape[0] or 0), int(shape[2] or 0))
    first = Pointwise(lambda x: function(x, axis=2), elementwise=False, shape=middle)
    return Lowered([first, REDUCERS[name](out)])


def _result(call: Call, graph: Graph) -> Shape:
    if call.op.data_format != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
    return tuple(int(n or 0) for n in graph.shape(call.outputs[0]))
