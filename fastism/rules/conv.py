"""The layers that convolve, or multiply every position by a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import layers, ops

from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules.conv_steps import LAST, Convolve, ConvolveTransposed, Depthwise, Matmul
from fastism.rules.pointwise import Linear, with_activation
from fastism.rules.reduce import Rows
from fastism.rules.registry import rule
from fastism.rules.step import Lowered, Refuse, Step, Tensor
from fastism.window import Slide, Spread, same_padding

FAMILY = "convolution"


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
        return y if layer.bias is None else y + _weight(layer, layer.bias)  # whatever use_bias says by now

    def kernel():
        return _weight(layer, layer.kernel)

    rank = len(graph.shape(call.inputs[0]))
    return with_activation(Rows(kernel, full) if rank == 1 else Matmul(kernel, full), layer)
