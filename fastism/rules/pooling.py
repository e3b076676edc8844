"""Pooling over short stretches of positions."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import backend, kernels
from fastism.graph import Call, Graph
from fastism.rules.registry import rule
from fastism.rules.step import DELTA, VALUE, At, Given, Local, Lowered, Refuse, Step, Tensor, only
from fastism.window import Ints, Slide, Span, same_padding, through

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
        out = through(self.slide, span, given.out_shape[0], align=given.align)
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
            value = window.delta_in(frame) + reference
        else:
            frame, reference, value = window.span, window.reference, window.value
        if frame.hangs:
            ok = kernels.inside(runtime.start(frame), frame.width, frame.length, len(value.shape))
            low = kernels.lowest(value.dtype)
            value, reference = ops.where(ok, value, low), ops.where(ok, reference, low)
        value = self._fold(value, out.width, ops.maximum)
        reference = self._fold(reference, out.width, ops.maximum)
        if out.hangs:
            ok = kernels.inside(runtime.start(out), out.width, out.length, len(value.shape))
            value = ops.where(ok, value, reference)
        return at.out(value=value, reference=reference)


class AveragePool(Pool):
    """Mean of ``pool_size`` neighbours; with padding, of those that exist. Linear."""

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
        return at.out(delta=runtime.keep_inside(mean, out))


def _slide(call: Call, graph: Graph, mode: str) -> Slide:
    layer = call.op
    if layer.pool_mode != mode:
        raise Refuse(f"its pool_mode was set to {layer.pool_mode!r}")
    if layer.data_format != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
    (k,), (stride,) = _one(layer.pool_size), _one(layer.strides)
    length = graph.shape(call.inputs[0])[0] or 0
    return Slide(k, stride, 1, same_padding(length, k, stride) if layer.padding == "same" else 0)


def _one(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


@rule(layers.MaxPooling1D, family=FAMILY, note="any pool size, stride, padding")
def max_pooling(call: Call, graph: Graph) -> Lowered:
    """Maximum pooling."""
    return Lowered([MaxPool(_slide(call, graph, "max"))])


@rule(layers.AveragePooling1D, family=FAMILY, note="any pool size, stride, padding")
def average_pooling(call: Call, graph: Graph) -> Lowered:
    """Average pooling."""
    slide = _slide(call, graph, "average")
    last = ((graph.shape(call.outputs[0])[0] or 1) - 1) * slide.stride - slide.pad + slide.kernel
    after = max(last - (graph.shape(call.inputs[0])[0] or 0), 0)
    if backend.name() == "torch" and call.op.padding == "same" and after != slide.pad:
        raise Refuse("on torch, Keras pads it unevenly by repeating the last position")
    return Lowered([AveragePool(slide)])
