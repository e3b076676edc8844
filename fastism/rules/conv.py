"""Convolutions and position-wise matrix products: linear, so they take the change alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import kernels
from fastism.graph import Call, Graph
from fastism.rules.pointwise import with_activation
from fastism.rules.reduce import Rows
from fastism.rules.registry import rule
from fastism.rules.step import (
    DELTA,
    At,
    Cost,
    Given,
    Local,
    Lowered,
    Refuse,
    Step,
    Tensor,
    channels,
    only,
)
from fastism.window import Ints, Slide, Span, Spread, same_padding, through

FAMILY = "convolution"
LAST = "channels_last"


class Convolve(Step):
    """A convolution along positions, without its activation.

    Args:
        kernel: Gives (K, Cin / groups, Cout).
        full: The convolution with bias, on full tensors.
        slide: Its map of positions.
        groups: Of a grouped convolution.
    """

    def __init__(self, kernel: Callable[[], Tensor], full: Callable[[Tensor], Tensor], slide: Slide, groups: int = 1):
        self.kernel, self.full, self.slide, self.groups = kernel, full, slide, groups

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(values[0])

    def wants(self) -> tuple[int, int] | None:
        return (self.slide.stride, self.slide.pad) if self.slide.stride > 1 else None

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        """Taps in the layout of :func:`fastism.kernels.spread`: tap 0 goes to the first output an input reaches."""
        kernel, stride = self.kernel(), self.slide.stride
        if stride == 1:
            return {"taps": _grouped(ops.flip(kernel, axis=0), self.groups)}
        if self.groups > 1:
            return {"kernel": kernel}
        k, cin, cout = kernel.shape
        q = -(-k // stride)
        kernel = ops.reshape(ops.pad(kernel, ((0, q * stride - k), (0, 0), (0, 0))), (q, stride * cin, cout))
        return {"taps": _grouped(ops.flip(kernel, axis=0), 1)}

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        out = through(self.slide, span, given.out_shape[0], align=given.align)
        frames = () if self.slide.stride == 1 else (self._frame(out),)
        return Local(out, (DELTA,), DELTA, frames=frames)

    def _frame(self, out: Span) -> Span:
        """The input positions under the output window, a whole number of strides."""
        stride = self.slide.stride
        blocks = out.width + -(-self.slide.kernel // stride) - 1
        start = out.start * stride - self.slide.pad
        return Span(start, blocks * stride, out.lo, out.hi, out.length)

    def run(self, at: At):
        window, out = at.window, only([at.local.span])
        delta = self._strided(at, window, out) if self.slide.stride > 1 else self._direct(at, window, out)
        return at.out(delta=at.runtime.keep_inside(_as(delta, at.given.out_shape), out))

    def _direct(self, at: At, window, out: Span) -> Tensor:
        first = window.span.start + self.slide.pad - self.slide.reach
        offset = kernels_offset(at, first, window.span, self.slide.pad - self.slide.reach, out)
        return kernels.spread(
            _as_lines(window.delta), at.prepared["taps"], self.slide.dilation, offset, out.width, self.groups
        )

    def _strided(self, at: At, window, out: Span) -> Tensor:
        """Blocks of ``stride`` positions become channels; then it is a convolution of stride 1."""
        (frame,) = at.local.frames
        delta = _as_lines(at.runtime.move(window.delta, window.span, frame))
        g, m, w, cin = delta.shape
        stride = self.slide.stride
        if self.groups > 1:
            kernel = at.prepared["kernel"]
            cut = kernels.flat(delta[:, :, : (out.width - 1) * stride + kernel.shape[0]])
            y = ops.conv(ops.cast(cut, kernel.dtype), kernel, strides=stride, padding="valid", data_format=LAST)
            return kernels.unflat(y, g, m)
        taps = at.prepared["taps"]
        blocks = ops.reshape(delta, (g, m, w // stride, stride * cin))
        return kernels.spread(blocks, taps, 1, 1 - taps.shape[2], out.width)

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.slide.backward(lo, hi)

    def cost(self, given: Given) -> Cost:
        cin, cout = channels(given.shapes[0]), channels(given.out_shape)
        each = self.slide.kernel * cin * cout / self.groups
        return Cost(each * given.out_shape[0], each, each / self.slide.stride)


class ConvolveTransposed(Step):
    """A transposed convolution along positions, without its activation.

    Args:
        kernel: Gives (K, Cin, Cout).
        full: The layer without activation, on full tensors.
        way: Its map of positions.
    """

    def __init__(self, kernel: Callable[[], Tensor], full: Callable[[Tensor], Tensor], way: Spread):
        self.kernel, self.full, self.way = kernel, full, way

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(values[0])

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        kernel, stride = self.kernel(), self.way.stride
        k, cin, cout = kernel.shape
        q = -(-k // stride)
        kernel = ops.reshape(ops.pad(kernel, ((0, q * stride - k), (0, 0), (0, 0))), (q, stride, cin, cout))
        kernel = ops.reshape(ops.transpose(kernel, (0, 2, 1, 3)), (q, cin, stride * cout))
        return {"taps": _grouped(kernel, 1)}

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        stride = self.way.stride
        taps = -(-self.way.kernel // stride)
        out = through(self.way, span, given.out_shape[0], align=given.align)
        natural = Span(
            span.start * stride - self.way.crop, (span.width + taps - 1) * stride, out.lo, out.hi, out.length
        )
        return Local(out, (DELTA,), DELTA, frames=(natural,))

    def run(self, at: At):
        window, out = at.window, only([at.local.span])
        (natural,) = at.local.frames
        delta = _as_lines(window.delta)
        taps, stride = at.prepared["taps"], self.way.stride
        blocks = kernels.spread(delta, taps, 1, 0, delta.shape[2] + taps.shape[2] - 1)
        g, m, w, wide = blocks.shape
        spread = ops.reshape(blocks, (g, m, w * stride, wide // stride))
        moved = at.runtime.move(spread, natural, out)
        return at.out(delta=at.runtime.keep_inside(_as(moved, at.given.out_shape), out))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.way.backward(lo, hi)

    def cost(self, given: Given) -> Cost:
        each = self.way.kernel * channels(given.shapes[0]) * channels(given.out_shape)
        return Cost(each * given.shapes[0][0], each / self.way.stride, each)


class Matmul(Step):
    """A matrix product along the last axis at every position: Dense on tensors with positions."""

    def __init__(self, kernel: Callable[[], Tensor], full: Callable[[Tensor], Tensor]):
        self.kernel, self.full = kernel, full

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(values[0])

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        return {"kernel": self.kernel()}

    def place(self, given: Given) -> Local:
        return Local(only(given.spans), (DELTA,), DELTA)

    def run(self, at: At):
        window = at.window
        return at.out(delta=kernels.matmul(window.delta, at.prepared["kernel"]))

    def cost(self, given: Given) -> Cost:
        each = float(np.prod(given.shapes[0][1:], dtype=np.int64)) * channels(given.out_shape)
        return Cost(each * given.out_shape[0], each, each)


def kernels_offset(at: At, first: Ints, source: Span, add: int, out: Span) -> Any:
    """Where, in the output window, tap 0 of the first input position lands."""
    difference = first - out.start
    if (difference == difference.flat[0]).all():
        return int(difference.flat[0])
    return at.runtime.start(source) + add - at.runtime.start(out)


def _grouped(taps: Tensor, groups: int) -> Tensor:
    """(K, Cin / groups, Cout) -> (groups, Cin / groups, K, Cout / groups)."""
    k, cin, cout = taps.shape
    return ops.transpose(ops.reshape(taps, (k, cin, groups, cout // groups)), (2, 1, 0, 3))


def _as_lines(delta: Tensor) -> Tensor:
    """(G, M, W, ..., C) with axes of size 1 between -> (G, M, W, C)."""
    g, m, w, *rest = delta.shape
    return delta if len(rest) == 1 else ops.reshape(delta, (g, m, w, rest[-1]))


def _as(delta: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(G, M, W, C) -> (G, M, W, 1, C) where the layer's own tensors have that rank."""
    g, m, w, c = delta.shape
    return delta if len(shape) == 2 else ops.reshape(delta, (g, m, w, *shape[1:-1], c))


def _weight(layer: Any, tensor: Any) -> Tensor:
    return ops.cast(ops.convert_to_tensor(tensor), layer.compute_dtype)


def _plus_bias(layer: Any, y: Tensor) -> Tensor:
    return y + _weight(layer, layer.bias) if layer.use_bias else y


def _check(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Refuse("its data_format is 'channels_first'")
    if getattr(layer, "quantization_mode", None) is not None:
        raise Refuse(f"it is quantised ({layer.quantization_mode})")


@rule(layers.Conv1D, family=FAMILY, note="valid, same, causal; dilation; stride; groups")
def conv1d(call: Call, graph: Graph) -> Lowered:
    """1-D convolution."""
    layer = call.op
    _check(layer)
    (k,), (stride,), (dilation,) = layer.kernel_size, layer.strides, layer.dilation_rate
    length = graph.shape(call.inputs[0])[0] or 0
    pads = {"valid": 0, "causal": dilation * (k - 1), "same": same_padding(length, k, stride, dilation)}
    slide = Slide(k, stride, dilation, pads[layer.padding])

    def full(x):
        x, padding = ops.cast(x, layer.compute_dtype), layer.padding
        if padding == "causal":
            x, padding = ops.pad(x, ((0, 0), (slide.pad, 0), (0, 0))), "valid"
        kernel = _weight(layer, layer.kernel)
        y = ops.conv(x, kernel, strides=stride, padding=padding, dilation_rate=dilation, data_format=LAST)
        return _plus_bias(layer, y)

    return with_activation(Convolve(lambda: _weight(layer, layer.kernel), full, slide, layer.groups), layer)


@rule(layers.Conv2DTranspose, family=FAMILY, note="along an axis of positions, the other of size 1")
def conv2d_transpose(call: Call, graph: Graph) -> Lowered:
    """2-D transposed convolution used as 1-D, as the profile head of BPNet has it."""
    layer = call.op
    _check(layer)
    (k, other), (stride, other_stride) = layer.kernel_size, layer.strides
    width = graph.shape(call.inputs[0])[1]
    if (width, other, other_stride) != (1, 1, 1) or graph.shape(call.outputs[0])[1] != 1:
        raise Refuse("it convolves along two axes")
    if tuple(layer.dilation_rate) != (1, 1) or layer.output_padding is not None:
        raise Refuse("its dilation_rate or output_padding is set")
    out_length = graph.shape(call.outputs[0])[0] or 0
    crop = same_padding(out_length, k, stride) if layer.padding == "same" else 0

    def full(x):
        x = ops.cast(x, layer.compute_dtype)
        kernel = _weight(layer, layer.kernel)
        y = ops.conv_transpose(x, kernel, strides=layer.strides, padding=layer.padding, data_format=LAST)
        return _plus_bias(layer, y)

    def kernel():
        return ops.transpose(ops.reshape(_weight(layer, layer.kernel), (k, layer.filters, -1)), (0, 2, 1))

    return with_activation(ConvolveTransposed(kernel, full, Spread(k, stride, 1, crop)), layer)


@rule(layers.Dense, family=FAMILY, note="per position; after Flatten only the kernel rows under the window")
def dense(call: Call, graph: Graph) -> Lowered:
    """Dense on (T, ..., C), or on a flattened (F,) of which a window changes."""
    layer = call.op
    _check(layer)

    def full(x):
        y = ops.matmul(ops.cast(x, layer.compute_dtype), _weight(layer, layer.kernel))
        return _plus_bias(layer, y)

    def kernel():
        return _weight(layer, layer.kernel)

    rank = len(graph.shape(call.inputs[0]))
    return with_activation(Rows(kernel, full) if rank == 1 else Matmul(kernel, full), layer)
