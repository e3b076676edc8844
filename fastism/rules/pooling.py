"""Pooling over short stretches of positions."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import backend, kernels
from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules.registry import rule
from fastism.rules.step import DELTA, VALUE, At, Given, Local, Lowered, Refuse, Step, Tensor, only
from fastism.window import Ints, Slide, Span, Ways, same_padding, through

FAMILY = "pooling"


class Pool(Step):
    """What maximum and average pooling share: the frame of inputs under the output window."""

    def __init__(self, slide: Slide):
        self.slide = slide

    def wants(self) -> tuple[int, int] | None:
        return (self.slide.stride, self.slide.pad)

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.slide.backward(lo, hi)

    def _spans(self, given: Given) -> tuple[Span, Span]:
        """(output window, the input positions it reads)."""
        span = only(given.spans)
        out = through(self.slide, span, given.out_shape[0], align=given.align, need=given.need)
        start = out.start * self.slide.stride - self.slide.pad
        width = (out.width - 1) * self.slide.stride + self.slide.reach + 1
        frame = Span(start, width, span.lo, span.hi, span.length)
        same = span.width == width and bool(np.array_equal(span.start, start))
        return out, span if same else frame

    def _fold(self, x: Tensor, width: int, op: Any) -> Tensor:
        """Combine the ``kernel`` inputs of each of ``width`` outputs along axis 2 with ``op`` (maximum, add)."""
        k, stride = self.slide.kernel, self.slide.stride
        total = None
        for j in range(k):
            part = x[:, :, j : j + (width - 1) * stride + 1 : stride]
            total = part if total is None else op(total, part)
        return total


class MaxPool(Pool):
    """Maximum of ``pool_size`` neighbours; padding never wins."""

    def place(self, given: Given) -> Local:
        out, frame = self._spans(given)
        if frame is given.spans[0]:
            return Local(out, (VALUE,), VALUE)
        return Local(out, (DELTA,), VALUE, frames=(frame,), taps=given.inputs)

    def run(self, at: At):
        window, out, runtime = at.window, only([at.local.span]), at.runtime
        if at.local.frames:
            (frame,) = at.local.frames
            reference = runtime.gather(window.tensor, frame)
            value, over = window.delta_in(frame) + reference, True
        else:
            frame, reference, value, over = window.span, window.reference, window.value, window.spare
        low = kernels.lowest(value.dtype)
        value = runtime.fill_outside(value, frame, low, over=over)
        reference = runtime.fill_outside(reference, frame, low)
        value = self._fold(value, out.width, kernels.maximum)
        reference = self._fold(reference, out.width, kernels.maximum)
        # what is not there becomes 0: the filling is finite, but what a later layer makes of it is not
        made = self.slide.kernel > 1
        value = runtime.fill_outside(value, out, 0, over=made)
        reference = runtime.fill_outside(reference, out, 0, over=made)
        return at.out(value=value, reference=reference, fresh=made)


class AveragePool(Pool):
    """Mean of ``pool_size`` neighbours; with padding, of those that exist. Linear."""

    prepares_by_shape = True

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        if not self._counted(given):
            return {}
        first, end = self.slide.backward(np.arange(given.out_shape[0]), np.arange(given.out_shape[0]) + 1)
        count = np.minimum(end, given.shapes[0][0]) - np.maximum(first, 0)
        return {"share": ops.convert_to_tensor((1.0 / count)[None, :, None])}

    def _counted(self, given: Given) -> bool:
        """Whether some output has fewer than ``pool_size`` inputs."""
        last = (given.out_shape[0] - 1) * self.slide.stride - self.slide.pad + self.slide.kernel
        return self.slide.pad > 0 or last > given.shapes[0][0]

    def place(self, given: Given) -> Local:
        out, frame = self._spans(given)
        return Local(out, (DELTA,), DELTA, frames=(frame,))

    def run(self, at: At):
        window, out, runtime = at.window, only([at.local.span]), at.runtime
        total = self._fold(window.delta_in(at.local.frames[0]), out.width, operator.add)
        if "share" in at.prepared:
            share = ops.cast(runtime.read(at.prepared["share"], out), total.dtype)
            mean = total * ops.reshape(share, (*share.shape[:3], *[1] * (len(total.shape) - 3)))
        else:
            mean = total / self.slide.kernel
        return at.out(delta=runtime.keep_inside(mean, out, over=True), fresh=True)


def pooling(call: Call, graph: Graph, mode: str) -> Step:
    """The step of a pooling layer or operation, 1-D or 2-D along an axis of positions."""
    op = call.op
    if getattr(op, "pool_mode", mode) != mode:
        raise Refuse(f"its pool_mode was set to {op.pool_mode!r}")
    if op.data_format != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
    shape, out = graph.shape(call.inputs[0]), graph.shape(call.outputs[0])
    n = len(shape) - 1
    sizes = _each(op.pool_size, n)
    strides = sizes if op.strides is None else _each(op.strides, n)
    if n == 2 and (shape[1], out[1]) != (1, 1):
        raise Refuse("it pools along two axes")
    length, k, stride = shape[0] or 0, sizes[0], strides[0]
    pad = same_padding(length, k, stride) if op.padding == "same" else 0
    if mode == "max":
        return MaxPool(Slide(k, stride, 1, pad))
    after = max(((out[0] or 1) - 1) * stride - pad + k - length, 0)
    if backend.name() == "torch" and op.padding == "same" and after != pad:
        raise Refuse("on torch, Keras pads it unevenly by repeating the last position")
    return AveragePool(Slide(k, stride, 1, pad))


def _each(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


class AdaptivePool(Step):
    """Pooling to a number of outputs, over stretches of nearly equal size: output o takes [oL / n, (o + 1)L / n)."""

    def __init__(self, length: int, outputs: int, mode: str):
        where = np.arange(outputs)
        self.first = where * length // outputs
        self.size = -(-(where + 1) * length // outputs) - self.first
        self.mode, self.length = mode, length

    def forward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The outputs that read any input of ``[lo, hi)``."""
        first = np.searchsorted(self.first + self.size, lo, side="right")
        return first, np.maximum(np.searchsorted(self.first, hi, side="left"), first)

    def backward(self, lo: Ints, hi: Ints, given: Given | None = None) -> tuple[Ints, Ints]:
        last = len(self.first) - 1
        first = self.first[np.clip(lo, 0, last)]
        end = (self.first + self.size)[np.clip(hi - 1, 0, last)]
        return first, np.where(hi > lo, end, first)

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        out = through(Ways(self.forward, self.backward), span, given.out_shape[0], need=given.need)
        start = np.clip(out.start, 0, len(self.first) - out.width)
        out = Span(start, out.width, out.lo, out.hi, out.length)
        first, end = self.backward(start, start + out.width)
        frame = Span(first, int((end - first).max()), span.lo, span.hi, span.length)
        uses, taps = (DELTA,), (given.inputs if self.mode == "max" else ())
        return Local(out, uses, VALUE if self.mode == "max" else DELTA, frames=(frame,), taps=taps)

    def run(self, at: At):
        out, runtime, (frame,) = only([at.local.span]), at.runtime, at.local.frames
        where = kernels.positions(runtime.start(out), out.width)  # (G, W)
        first = ops.take(ops.convert_to_tensor(self.first.astype("int32")), where, axis=0)
        size = ops.take(ops.convert_to_tensor(self.size.astype("int32")), where, axis=0)
        first = first - ops.expand_dims(runtime.start(frame), 1)
        delta = at.window.delta_in(frame)
        if self.mode == "average":
            total = self._combined(delta, first, size, ops.zeros((), delta.dtype), operator.add)
            count = ops.reshape(ops.cast(size, total.dtype), (-1, 1, out.width) + (1,) * (len(total.shape) - 3))
            return at.out(delta=total / count)
        reference = runtime.gather(at.given.inputs[0], frame)
        reference = ops.broadcast_to(reference, (runtime.groups, *reference.shape[1:]))  # one row if it is whole
        low = kernels.number(kernels.lowest(reference.dtype), reference.dtype)
        value = self._combined(delta + reference, first, size, low, ops.maximum)
        return at.out(value=value, reference=self._combined(reference, first, size, low, ops.maximum))

    def _combined(self, x: Tensor, first: Tensor, size: Tensor, nothing: Tensor, op: Any) -> Tensor:
        total, rank = None, len(x.shape)
        for j in range(int(self.size.max())):
            ok = ops.reshape(size > j, (size.shape[0], 1, size.shape[1]) + (1,) * (rank - 3))
            part = ops.where(ok, kernels.pick(x, first + j), nothing)
            total = part if total is None else op(total, part)
        return total


@rule(layers.MaxPooling1D, family=FAMILY, note="any pool size, stride, padding")
@rule(layers.MaxPooling2D, family=FAMILY, note="along an axis of positions, the other of size 1")
def max_pooling(call: Call, graph: Graph) -> Lowered:
    """Maximum pooling."""
    return Lowered([pooling(call, graph, "max")])


@rule(layers.AveragePooling1D, family=FAMILY, note="any pool size, stride, padding")
@rule(layers.AveragePooling2D, family=FAMILY, note="along an axis of positions, the other of size 1")
def average_pooling(call: Call, graph: Graph) -> Lowered:
    """Average pooling."""
    return Lowered([pooling(call, graph, "average")])


def adaptive_pooling(call: Call, graph: Graph) -> Lowered:
    """Pooling to a given number of positions."""
    if call.op.data_format != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
    mode = "max" if "Max" in type(call.op).__name__ else "average"
    if mode == "max" and backend.name() == "jax":
        raise Refuse("on JAX, Keras gives NaN for it")
    length, outputs = graph.shape(call.inputs[0])[0] or 0, graph.shape(call.outputs[0])[0] or 1
    return Lowered([AdaptivePool(length, outputs, mode)])


for _name in ("AdaptiveAveragePooling1D", "AdaptiveMaxPooling1D"):
    if hasattr(layers, _name):  # Keras 3.13 and later
        rule(getattr(layers, _name), family=FAMILY, note="any number of outputs")(adaptive_pooling)
