"""Convolutions and position-wise matrix products: linear, so they take the change alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import backend, kernels
from fastism.graph import Call, Graph
from fastism.rules.pointwise import Linear, with_activation
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
from fastism.window import Ints, Slide, Span, Spread, same_padding, through, trimmed

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
            taps = _grouped(ops.flip(kernel, axis=0), self.groups)
            way, block = self._way(given)
            if way == kernels.LIBRARY:
                return {"kernel": kernel}
            if (way, block) == (kernels.SPREAD, 1):
                return {"taps": taps}
            band = kernels.band(taps, block)
            return {"band": band if way == kernels.SPREAD else kernels.collected(band, block, self.slide.kernel)}
        if self.groups > 1:
            return {"kernel": kernel}
        k, cin, cout = kernel.shape
        q = -(-k // stride)
        kernel = ops.reshape(ops.pad(kernel, ((0, q * stride - k), (0, 0), (0, 0))), (q, stride * cin, cout))
        return {"taps": _grouped(ops.flip(kernel, axis=0), 1)}

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        out = through(self.slide, span, given.out_shape[0], align=given.align, need=given.need)
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
        return at.out(delta=at.runtime.keep_inside(_as(delta, at.given.out_shape), out, over=True), fresh=True)

    def _direct(self, at: At, window, out: Span) -> Tensor:
        offset = at.runtime.distance(window.span, out, self.slide.pad - self.slide.reach)
        delta, dilation = _as_lines(window.delta), self.slide.dilation
        if "kernel" in at.prepared:
            return kernels.convolve(delta, at.prepared["kernel"], dilation, offset, out.width)
        if "band" in at.prepared:
            way, block = self._way(at.given)
            blocks = kernels.spread_in_blocks if way == kernels.SPREAD else kernels.collect_in_blocks
            return blocks(delta, at.prepared["band"], block, self.slide.kernel, dilation, offset, out.width)
        return kernels.spread(delta, at.prepared["taps"], dilation, offset, out.width, self.groups)

    def _way(self, given: Given) -> tuple[str, int]:
        """How to convolve, and how many neighbours are taken at once."""
        if self.groups > 1 or backend.in_place():
            return kernels.SPREAD, 1
        out = trimmed(only([self.place(given).span]), given.need)
        cin, cout = math.prod(given.shapes[0][1:]), channels(given.out_shape)
        width = only(given.spans).width
        return kernels.way_to_convolve(width, out.width, cin, cout, self.slide.kernel, self.slide.dilation)

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
        cin, cout = math.prod(given.shapes[0][1:]), channels(given.out_shape)
        pair = cin * cout / self.groups
        each = self.slide.kernel * pair
        return Cost(each * given.out_shape[0], each, each / self.slide.stride, pair)

    def readers(self, given: Given) -> Ints | None:
        return self.slide.readers(given.shapes[0][0], given.need or (0, given.out_shape[0]))

    def between(self, given: Given) -> float:
        cin = math.prod(given.shapes[0][1:])
        return self.cost(given).per_input / cin * only(given.spans).width


class Depthwise(Step):
    """A convolution of each channel by itself, without its activation.

    Args:
        kernel: Gives (K, C, multiplier).
        full: The convolution with bias, on full tensors.
        slide: Its map of positions.
    """

    def __init__(self, kernel: Callable[[], Tensor], full: Callable[[Tensor], Tensor], slide: Slide):
        self.kernel, self.full, self.slide = kernel, full, slide

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(values[0])

    def wants(self) -> tuple[int, int] | None:
        return (self.slide.stride, self.slide.pad) if self.slide.stride > 1 else None

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        return {"kernel": self.kernel()}

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        out = through(self.slide, span, given.out_shape[0], align=given.align, need=given.need)
        start = out.start * self.slide.stride - self.slide.pad
        width = (out.width - 1) * self.slide.stride + self.slide.reach + 1
        return Local(out, (DELTA,), DELTA, frames=(Span(start, width, span.lo, span.hi, span.length),))

    def run(self, at: At):
        out, kernel, slide = only([at.local.span]), at.prepared["kernel"], self.slide
        delta = ops.cast(_as_lines(at.window.delta_in(at.local.frames[0])), kernel.dtype)
        k, channels_in, multiplier = kernel.shape
        total = None
        for j in range(k):
            first = j * slide.dilation
            part = delta[:, :, first : first + (out.width - 1) * slide.stride + 1 : slide.stride]
            part = ops.expand_dims(part, -1) * kernel[j]  # (G, M, W, C, multiplier)
            total = part if total is None else total + part
        g, m, w = (at.runtime.groups, at.runtime.members, out.width)
        total = ops.reshape(total, (g, m, w, channels_in * multiplier))
        return at.out(delta=at.runtime.keep_inside(_as(total, at.given.out_shape), out))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.slide.backward(lo, hi)

    def cost(self, given: Given) -> Cost:
        pair = float(channels(given.out_shape))
        each = self.slide.kernel * pair
        return Cost(each * given.out_shape[0], each, each / self.slide.stride, pair)

    def readers(self, given: Given) -> Ints | None:
        return self.slide.readers(given.shapes[0][0], given.need or (0, given.out_shape[0]))


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
        out = through(self.way, span, given.out_shape[0], align=given.align, need=given.need)
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
        pair = channels(given.shapes[0]) * channels(given.out_shape)
        each = self.way.kernel * pair
        return Cost(each * given.shapes[0][0], each / self.way.stride, each, pair)

    def readers(self, given: Given) -> Ints | None:
        return self.way.readers(given.shapes[0][0], given.need or (0, given.out_shape[0]))

    def between(self, given: Given) -> float:
        return self.cost(given).per_input / channels(given.shapes[0]) * only(given.spans).width


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
        return at.out(delta=kernels.matmul(window.delta, at.prepared["kernel"]), fresh=True)

    def cost(self, given: Given) -> Cost:
        each = float(np.prod(given.shapes[0][1:], dtype=np.int64)) * channels(given.out_shape)
        return Cost(each * given.out_shape[0], each, each)


def _grouped(taps: Tensor, groups: int) -> Tensor:
    """(K, Cin / groups, Cout) -> (groups, Cin / groups, K, Cout / groups)."""
    k, cin, cout = taps.shape
    return ops.transpose(ops.reshape(taps, (k, cin, groups, cout // groups)), (2, 1, 0, 3))


def _as_lines(delta: Tensor) -> Tensor:
    """(G, M, W, ..., C) -> (G, M, W, all that lies at one position)."""
    g, m, w, *rest = delta.shape
    return delta if len(rest) == 1 else kernels.reshape(delta, (g, m, w, math.prod(rest)))


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


def _sizes(value: Any, n: int) -> tuple[int, ...]:
    """A setting that is one number for all axes, or one for each."""
    return (int(value),) * n if isinstance(value, int) else tuple(int(v) for v in value)


@dataclass(frozen=True)
class Geometry1D:
    """The settings of a convolution along positions.

    Attributes:
        slide: Map of positions.
        row: Which taps of a second axis count, where that axis has size 1; None where there is no such axis.
        whole: Whether the kernel spans the second axis, which thereby goes.
    """

    slide: Slide
    row: int | None = None
    whole: bool = False

    def along(self, kernel: Tensor) -> Tensor:
        """(K, Q, Cin, Cout) -> (K, C, Cout): the taps that count, along positions."""
        if self.whole:
            k, q, cin, cout = kernel.shape
            return ops.reshape(kernel, (k, q * cin, cout))
        return kernel if self.row is None else kernel[:, self.row]


def geometry(call: Call, graph: Graph, kernel: tuple[int, ...]) -> Geometry1D:
    """Read strides, dilation and padding of a convolution, 1-D or 2-D along an axis of positions.

    Raises:
        Refuse: If it convolves along two axes.
    """
    op, n = call.op, len(kernel)
    strides, dilations = _sizes(op.strides, n), _sizes(op.dilation_rate, n)
    shape, out = graph.shape(call.inputs[0]), graph.shape(call.outputs[0])
    length, k, stride, dilation = shape[0] or 0, kernel[0], strides[0], dilations[0]
    pads = {"valid": 0, "causal": dilation * (k - 1), "same": same_padding(length, k, stride, dilation)}
    slide = Slide(k, stride, dilation, pads[op.padding])
    if n == 1:
        return Geometry1D(slide)
    if n != 2 or out[1] != 1:
        raise Refuse("it convolves along two axes")
    if shape[1] == 1:
        row, between = divmod(same_padding(1, kernel[1], 1, dilations[1]), dilations[1])
        if between:
            raise Refuse("no tap of its kernel meets the second axis")
        return Geometry1D(slide, row=row)
    if op.padding != "valid" or kernel[1] != shape[1]:
        raise Refuse("it convolves along two axes")
    return Geometry1D(slide, whole=True)


def convolution(call: Call, graph: Graph, kernel: Callable[[], Tensor], shape: Any, full: Any) -> Step:
    """The step of a convolution whose kernel is (K, [Q,] Cin / groups, Cout)."""
    at = geometry(call, graph, tuple(shape[:-2]))
    groups = (graph.shape(call.inputs[0])[-1] or 1) // shape[-2]
    if at.whole and groups > 1:
        raise Refuse("it convolves along two axes in groups")
    return Convolve(lambda: at.along(kernel()), full, at.slide, groups)


def depthwise(call: Call, graph: Graph, kernel: Callable[[], Tensor], shape: Any, full: Any) -> Step:
    """The step of a depthwise convolution whose kernel is (K, [Q,] C, multiplier)."""
    at = geometry(call, graph, tuple(shape[:-2]))
    if at.whole:
        raise Refuse("it convolves along two axes")
    return Depthwise(lambda: at.along(kernel()), full, at.slide)


def transposed(call: Call, graph: Graph, kernel: Callable[[], Tensor], shape: Any, full: Any) -> Step:
    """The step of a transposed convolution whose kernel is (K, [1,] Cout, Cin)."""
    op, n = call.op, len(shape) - 2
    strides, dilations = _sizes(op.strides, n), _sizes(op.dilation_rate, n)
    out = graph.shape(call.outputs[0])
    if n == 2 and (graph.shape(call.inputs[0])[1], shape[1], strides[1], out[1]) != (1, 1, 1, 1):
        raise Refuse("it convolves along two axes")
    if op.output_padding is not None:
        raise Refuse("its output_padding is set")
    if dilations[0] != 1:
        raise Refuse("it is transposed and dilated")
    k, stride = shape[0], strides[0]
    crop = same_padding(out[0] or 0, k, stride) if op.padding == "same" else 0

    def taps():
        value = kernel()
        return ops.transpose(value if n == 1 else value[:, 0], (0, 2, 1))

    return ConvolveTransposed(taps, full, Spread(k, stride, 1, crop))


def _run(layer: Any, function: Callable[..., Tensor], kernel: str = "kernel") -> Callable[[Tensor], Tensor]:
    """A layer's convolution with bias, without activation, on full tensors."""

    def full(x):
        x, padding = ops.cast(x, layer.compute_dtype), layer.padding
        if padding == "causal":
            before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            x, padding = ops.pad(x, ((0, 0), (before, 0), (0, 0))), "valid"
        y = function(
            x,
            _weight(layer, getattr(layer, kernel)),
            strides=layer.strides,
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=LAST,
        )
        return _plus_bias(layer, y)

    return full


@rule(layers.Conv1D, family=FAMILY, note="valid, same, causal; dilation; stride; groups")
@rule(layers.Conv2D, family=FAMILY, note="along an axis of positions, the other of size 1 or spanned by the kernel")
def conv_layer(call: Call, graph: Graph) -> Lowered:
    """Convolution."""
    layer = call.op
    _check(layer)
    step = convolution(call, graph, lambda: _weight(layer, layer.kernel), layer.kernel.shape, _run(layer, ops.conv))
    return with_activation(step, layer)


@rule(layers.DepthwiseConv1D, family=FAMILY, note="any padding, stride, dilation, multiplier")
@rule(layers.DepthwiseConv2D, family=FAMILY, note="along an axis of positions, the other of size 1")
def depthwise_layer(call: Call, graph: Graph) -> Lowered:
    """Depthwise convolution."""
    layer = call.op
    _check(layer)
    step = depthwise(
        call, graph, lambda: _weight(layer, layer.kernel), layer.kernel.shape, _run(layer, ops.depthwise_conv)
    )
    return with_activation(step, layer)


@rule(layers.SeparableConv1D, family=FAMILY, note="any padding, stride, dilation, multiplier")
@rule(layers.SeparableConv2D, family=FAMILY, note="along an axis of positions, the other of size 1")
def separable_layer(call: Call, graph: Graph) -> Lowered:
    """Depthwise convolution, then a matrix product at every position."""
    layer = call.op
    _check(layer)

    def first(x):
        return ops.depthwise_conv(
            ops.cast(x, layer.compute_dtype),
            _weight(layer, layer.depthwise_kernel),
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=LAST,
        )

    def kernel():
        return ops.reshape(_weight(layer, layer.pointwise_kernel), (-1, layer.filters))

    def second(x):
        return _plus_bias(layer, ops.matmul(x, kernel()))

    shape = layer.depthwise_kernel.shape
    step = depthwise(call, graph, lambda: _weight(layer, layer.depthwise_kernel), shape, first)
    step.shape = (*[int(n or 0) for n in graph.shape(call.outputs[0])[:-1]], shape[-2] * shape[-1])
    after = with_activation(Matmul(kernel, second), layer)
    return Lowered([step, *after.steps])


@rule(layers.Conv1DTranspose, family=FAMILY, note="valid, same; stride")
@rule(layers.Conv2DTranspose, family=FAMILY, note="along an axis of positions, the other of size 1")
def transposed_layer(call: Call, graph: Graph) -> Lowered:
    """Transposed convolution; 2-D used as 1-D, as the profile head of BPNet has it."""
    layer = call.op
    _check(layer)

    def full(x):
        x = ops.cast(x, layer.compute_dtype)
        kernel = _weight(layer, layer.kernel)
        y = ops.conv_transpose(x, kernel, strides=layer.strides, padding=layer.padding, data_format=LAST)
        return _plus_bias(layer, y)

    step = transposed(call, graph, lambda: _weight(layer, layer.kernel), layer.kernel.shape, full)
    return with_activation(step, layer)


@rule(layers.EinsumDense, family=FAMILY, note="where the equation keeps positions apart")
def einsum_dense(call: Call, graph: Graph) -> Lowered:
    """A product of every position with a kernel of any number of axes."""
    layer = call.op
    _check(layer)
    shape = tuple(int(n or 0) for n in graph.shape(call.inputs[0]))
    left, _, result = layer.equation.replace(" ", "").partition("->")
    term, kernel = left.split(",")
    if term.startswith("..."):
        stays = result.startswith("...") and len(term) - 3 < len(shape)
    else:
        stays = len(term) > 1 and term[:2] == result[:2] and not set(term[:2]) & set(kernel)
    if not stays:
        raise Refuse(f"its equation {layer.equation!r} mixes positions")
    if layer.bias is not None and len(layer.bias.shape) >= len(graph.shape(call.outputs[0])):
        raise Refuse("its bias differs by position")

    def linear(x):
        return ops.einsum(layer.equation, ops.cast(x, layer.compute_dtype), _weight(layer, layer.kernel))

    def full(x):
        y = linear(x)
        return y if layer.bias is None else y + _weight(layer, layer.bias)

    macs = float(math.prod(layer.kernel.shape))
    if term.startswith("...") and len(shape) > 1:
        macs *= math.prod(shape[1 : len(shape) - (len(term) - 3)])
    return with_activation(Linear(linear, full, macs=macs), layer)


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
