"""Layers that bring all positions together, of which a change needs only its window and what is cached of the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import layers, ops

from fastism import kernels
from fastism.graph import Call, Graph
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
    Step,
    Tensor,
    only,
)
from fastism.window import Span

FAMILY = "reduction"


class Rows(Step):
    """A matrix product over all positions at once, Flatten then Dense: only the kernel rows under the window count.

    The rows are read once for a whole chunk, so the windows of a chunk are first put into one frame that holds them
    all; chunks are sorted by position to keep it narrow.
    """

    def __init__(self, kernel: Callable[[], Tensor], full: Callable[[Tensor], Tensor]):
        self.kernel, self.full = kernel, full

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(values[0])

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        return {"kernel": self.kernel()}

    def place(self, given: Given) -> Local:
        return Local(None, (DELTA,), WHOLE, taps=(given.output,))

    def run(self, at: At):
        window = at.window
        span, runtime = window.span, at.runtime
        width = chunk_width(span, at.given.reach)
        first = ops.clip(ops.min(runtime.start(span)), 0, span.length - width)
        unit = int(np.gcd.reduce([*span.start.tolist(), span.width, width, span.length])) or 1
        delta = kernels.place(window.delta, runtime.start(span) - first, width, unit)
        kernel = at.prepared["kernel"]
        if width < span.length:
            rows = first + ops.arange(width, dtype="int32")
            kernel = ops.take(kernel, rows, axis=0)
        change = kernels.matmul(kernels.flat(delta), kernel)  # (V, F)
        reference = runtime.per_group(at.given.output)  # (G, 1, F)
        change = ops.cast(change, reference.dtype)
        return kernels.flat(reference + kernels.unflat(change, runtime.groups, runtime.members))

    def cost(self, given: Given) -> Cost:
        each = float(given.out_shape[-1])
        return Cost(each * given.shapes[0][0], each * given.shapes[0][0], each)


def chunk_width(span: Span, reach: int) -> int:
    """Positions that hold the windows of all edits that begin within ``reach`` of one another."""
    start = span.start
    later = start[np.minimum(np.arange(len(start)) + reach, len(start) - 1)]
    wide = int(np.abs(later - start).max()) + span.width
    unit = int(np.gcd.reduce([*start.tolist(), span.width, span.length])) or 1
    wide = -(-wide // unit) * unit
    return span.length if 4 * wide > 3 * span.length else wide


class MeanAll(Step):
    """Mean over positions: the reference's mean plus the mean of the change."""

    def __init__(self, keepdims: bool):
        self.keepdims = keepdims

    def place(self, given: Given) -> Local:
        return Local(None, (DELTA,), WHOLE, taps=(given.output,))

    def run(self, at: At):
        window = at.window
        change = ops.sum(window.delta, axis=2, keepdims=self.keepdims) / window.span.length
        reference = at.runtime.per_group(at.given.output)
        return kernels.flat(reference + ops.cast(change, reference.dtype))


class MaxAll(Step):
    """Maximum over positions: of the window, of what lies before it and of what lies after it."""

    def __init__(self, keepdims: bool):
        self.keepdims = keepdims

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        """Running maxima of the reference from the left and from the right, shifted to exclude the window."""
        x = tap(given.inputs[0])  # (N, T, C)
        low = ops.full_like(x[:, :1], kernels.lowest(x.dtype))
        left, right = _running_maximum(x, backwards=False), _running_maximum(x, backwards=True)
        return {"left": ops.concatenate([low, left], axis=1), "right": ops.concatenate([right, low], axis=1)}

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        before = Span(np.clip(span.start, 0, span.length), 1, span.lo, span.hi, span.length + 1)
        after = Span(np.clip(span.start + span.width, 0, span.length), 1, span.lo, span.hi, span.length + 1)
        return Local(None, (VALUE,), WHOLE, frames=(before, after), taps=given.inputs)

    def run(self, at: At):
        window = at.window
        before, after = at.local.frames
        runtime, span, value = at.runtime, window.span, window.value
        if span.hangs:
            ok = kernels.inside(runtime.start(span), span.width, span.length, len(value.shape))
            value = ops.where(ok, value, kernels.lowest(value.dtype))
        outside = ops.maximum(runtime.read(at.prepared["left"], before), runtime.read(at.prepared["right"], after))
        top = ops.maximum(ops.max(value, axis=2, keepdims=True), outside)  # (G, M, 1, ...)
        return kernels.flat(top if self.keepdims else ops.squeeze(top, axis=2))


def _running_maximum(x: Tensor, *, backwards: bool) -> Tensor:
    """(N, T, ...) maximum of each position and all before it (after it if ``backwards``), in log2(T) passes."""
    step, length = 1, x.shape[1]
    while step < length:
        further = ops.maximum(x[:, step:], x[:, :-step])
        x = ops.concatenate([further, x[:, -step:]] if backwards else [x[:, :step], further], axis=1)
        step *= 2
    return x


@rule(layers.GlobalAveragePooling1D, family=FAMILY, note="incremental")
def global_average(call: Call, graph: Graph) -> Lowered:
    """Mean over positions."""
    _check(call)
    return Lowered([MeanAll(call.op.keepdims)])


@rule(layers.GlobalMaxPooling1D, family=FAMILY, note="incremental")
def global_max(call: Call, graph: Graph) -> Lowered:
    """Maximum over positions."""
    _check(call)
    return Lowered([MaxAll(call.op.keepdims)])


def _check(call: Call) -> None:
    if call.op.data_format != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
