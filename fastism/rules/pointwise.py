"""Layers whose output at a position depends on that position alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import activations, layers, ops

from fastism import backend, kernels
from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules.registry import rule
from fastism.rules.step import (
    DELTA,
    VALUE,
    At,
    Cost,
    Given,
    Local,
    Lowered,
    Refuse,
    Same,
    Shape,
    Step,
    Tensor,
    only,
)
from fastism.runtime import Rectified, add
from fastism.window import Span, union

FAMILY = "pointwise"

#: Activation functions that act on each number alone.
ELEMENTWISE = tuple(
    getattr(activations, name)
    for name in (
        "relu leaky_relu relu6 elu selu celu gelu silu sigmoid hard_sigmoid hard_silu tanh hard_tanh tanh_shrink "
        "softplus softsign exponential linear mish log_sigmoid hard_shrink soft_shrink squareplus sparse_plus "
        "sparse_sigmoid threshold"
    ).split()
    if hasattr(activations, name)
)
#: Activation functions that mix the channels of one position.
ALONG_CHANNELS = tuple(
    getattr(activations, name) for name in ["softmax", "log_softmax", "sparsemax"] if hasattr(activations, name)
)


class Pointwise(Step):
    """``f`` of one or several tensors, position by position.

    Args:
        f: Function of full tensors (B, T, ...), which must not depend on T.
        elementwise: Whether ``f`` acts on each number alone, so that axes may be folded.
        positional: Give arrays (T, ...) that ``f`` takes as last arguments, cut to the window's own positions.
        channel_axis: Whether ``f`` mixes the last axis, so that it must not be the axis of positions.
        rectifies: Whether ``f`` is ``relu``.
        shape: Of what it gives, if it is not the last step of its call and changes the shape.
        macs: Multiply-accumulates for each position.
    """

    prepares_by_shape = True

    def __init__(
        self,
        f: Callable[..., Tensor],
        *,
        elementwise: bool = True,
        positional: Sequence[Callable[[], Tensor]] = (),
        channel_axis: bool = False,
        rectifies: bool = False,
        shape: Shape | None = None,
        macs: float = 0.0,
    ):
        self.f, self.elementwise, self.positional, self.rectifies = f, elementwise, tuple(positional), rectifies
        self.channel_axis, self.shape, self.macs = channel_axis, shape, macs

    def cost(self, given: Given) -> Cost:
        positions = given.out_shape[0] if given.out_shape else 1
        return Cost(self.macs * positions, self.macs, self.macs)

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.f(*values, *[ops.expand_dims(p(), 0) for p in self.positional])

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        return {str(i): ops.expand_dims(p(), 0) for i, p in enumerate(self.positional)}

    def place(self, given: Given) -> Local:
        if self.channel_axis and len(given.shapes[0]) == 1:
            raise Refuse("it mixes the axis along which positions run")
        if not given.out_shape:
            raise Refuse("its output has no positions")
        length = given.out_shape[0]
        if any(s.length != length for s in given.windows):
            raise Refuse("it broadcasts a changed tensor along the positions")
        for shape, span in zip(given.shapes, given.spans, strict=True):
            if len(given.shapes) > 1 and len(shape) != len(given.out_shape) and self.elementwise:
                raise Refuse("its inputs have different ranks")
            if not shape or (span is None and shape[0] not in (1, length)):
                raise Refuse("its inputs have different lengths")
        span = union(given.windows, need=given.need)
        moved = [s is not None and not _same_frame(s, span) for s in given.spans]
        uses = tuple(None if s is None else DELTA if m else VALUE for s, m in zip(given.spans, moved, strict=True))
        taps = tuple(t for t, s, m in zip(given.inputs, given.spans, moved, strict=True) if m or s is None)
        return Local(span, uses, VALUE, taps=taps)

    def reads(self, index: int, lo: int, hi: int, given: Given) -> tuple[int, int]:
        shape = given.shapes[index]
        mixes = self.channel_axis and len(shape) == 1
        if shape and (mixes or (self.elementwise and len(shape) != len(given.out_shape))):
            return 0, shape[0]  # its first axis is not that of the output's positions
        return super().reads(index, lo, hi, given)

    def run(self, at: At):
        span = only([at.local.span])
        as_delta = self.rectifies and at.window.comes_as_delta and _same_frame(at.window.span, span)
        if as_delta and backend.has_dtype(at.window.delta, at.given.dtype):
            return Rectified(at.window, at.given.output)
        pairs = [self._input(at, i, span) for i in range(len(at.windows))]
        extra = tuple(at.runtime.read(at.prepared[str(i)], span) for i in range(len(self.positional)))
        value = self._apply([v for v, _ in pairs], extra)
        reference = self._apply([r for _, r in pairs], extra)
        return at.out(value=value, reference=reference)

    def _input(self, at: At, i: int, span: Span) -> tuple[Tensor, Tensor]:
        """(mutant, reference) values of input ``i`` in the output's window."""
        window, tensor = at.windows[i], at.given.inputs[i]
        if window is None:
            single = at.given.shapes[i][0] == 1 and span.length != 1
            reference = at.runtime.per_group(tensor) if single else at.runtime.gather(tensor, span)
            return reference, reference
        if _same_frame(window.span, span):
            return window.value, window.reference
        reference = at.runtime.gather(tensor, span)
        return add(reference, window.delta_in(span)), reference

    def _apply(self, values: list[Tensor], extra: tuple[Tensor, ...]) -> Tensor:
        if self.elementwise:
            return self.f(*values, *extra)
        groups, members = max(v.shape[0] for v in values), max(v.shape[1] for v in values)
        if len(values) > 1:
            values = [ops.broadcast_to(v, (groups, members, *v.shape[2:])) for v in values]
        return kernels.unflat(self.f(*[kernels.flat(v) for v in values]), groups, members)


class Linear(Step):
    """A linear map of each position by itself, without constant term: what it does to values it does to the change.

    Args:
        f: The map of the change, as (V, W, ...).
        full: The whole operation, on full tensors; ``f`` by default.
        positional: As for :class:`Pointwise`; ``f`` then takes (G, M, W, ...).
        macs: Multiply-accumulates for each position.
    """

    prepares_by_shape = True

    def __init__(
        self,
        f: Callable[..., Tensor],
        full: Callable[..., Tensor] | None = None,
        *,
        positional: Sequence[Callable[[], Tensor]] = (),
        macs: float = 0.0,
    ):
        self.f, self.full, self.positional, self.macs = f, full or f, tuple(positional), macs

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.full(*values)

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        return {str(i): ops.expand_dims(p(), 0) for i, p in enumerate(self.positional)}

    def place(self, given: Given) -> Local:
        if not given.out_shape or given.out_shape[0] != given.shapes[0][0]:
            raise Refuse("its output has other positions")
        return Local(only(given.spans), (DELTA,), DELTA)

    def run(self, at: At):
        delta, span = at.window.delta, only([at.local.span])
        if self.positional:
            extra = (at.runtime.read(at.prepared[str(i)], span) for i in range(len(self.positional)))
            return at.out(delta=self.f(delta, *extra))
        groups, members = delta.shape[:2]
        return at.out(delta=kernels.unflat(self.f(kernels.flat(delta)), groups, members))

    def cost(self, given: Given) -> Cost:
        return Cost(self.macs * given.out_shape[0], self.macs, self.macs)


def casting(dtype: str) -> Linear:
    """A change of precision: the change is cast as it is."""

    def cast(x: Tensor) -> Tensor:
        return ops.cast(x, dtype)

    return Linear(cast, cast)


class Affine(Step):
    """A scale and a shift for each channel, or for each position: BatchNormalization at inference.

    Args:
        coefficients: Gives scale and shift, 1-D arrays.
        axis: Axis (batch not counted) along which they run; 0 is the axis of positions.
    """

    prepares_by_shape = True

    def __init__(self, coefficients: Callable[[], tuple[Tensor, Tensor]], axis: int):
        self.coefficients, self.axis = coefficients, axis

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        shape = [1] * (1 + len(given.out_shape))
        shape[1 + self.axis] = -1
        scale, shift = self.coefficients()
        return {"scale": kernels.reshape(scale, shape), "shift": kernels.reshape(shift, shape)}

    def place(self, given: Given) -> Local:
        form = given.native[0]
        return Local(only(given.spans), (form,), form or DELTA)

    def run(self, at: At):
        window, span = at.window, only([at.local.span])
        if self.axis == 0:
            scale, shift = (at.runtime.read(at.prepared[k], span) for k in ("scale", "shift"))
        else:
            scale, shift = (at.prepared[k][:, None] for k in ("scale", "shift"))
        over = window.spare
        if at.local.gives == DELTA:
            return at.out(delta=kernels.scaled(window.delta, scale, over=over), fresh=True)
        value = kernels.scaled(window.value, scale, shift, over=over)
        return at.out(value=value, reference=kernels.scaled(window.reference, scale, shift), fresh=True)


def _same_frame(a: Span, b: Span) -> bool:
    return a is b or (a.width == b.width and a.beyond(b).fixed == 0)


def activation_step(function: Callable[..., Any] | None) -> Step:
    """The step of an activation function, as layers carry it in ``activation=``."""
    if function is None or function is activations.linear:
        return Same()
    if function in ELEMENTWISE:
        return Pointwise(function, rectifies=function is activations.relu)
    if function in ALONG_CHANNELS:
        return Pointwise(function, elementwise=False, channel_axis=True)
    if isinstance(function, keras.Layer):
        raise Refuse(f"its activation is a layer, {type(function).__name__}")
    name = getattr(function, "__name__", type(function).__name__)
    raise Refuse(f"its activation {name!r} is not known to act on each position alone")


def with_activation(step: Step, layer: Any) -> Lowered:
    """A linear step followed by the layer's activation."""
    follow = activation_step(layer.activation)
    return Lowered([step] if follow.alias else [step, follow])


@rule(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
    family=FAMILY,
    note="identity at inference",
)
def identity(call: Call, graph: Graph) -> Lowered:
    """Layers that do nothing at inference."""
    return Lowered([Same()])


@rule(layers.Activation, family=FAMILY, note="element by element; softmax along channels")
def activation(call: Call, graph: Graph) -> Lowered:
    """``Activation(f)``."""
    return Lowered([activation_step(call.op.activation)])


@rule(layers.ReLU, layers.LeakyReLU, layers.ELU, family=FAMILY)
def elementwise_layer(call: Call, graph: Graph) -> Lowered:
    """Activation layers without parameters."""
    op = call.op
    plain = isinstance(op, layers.ReLU) and (op.max_value, op.negative_slope, op.threshold) == (None, 0, 0)
    return Lowered([Pointwise(op, rectifies=plain)])


@rule(layers.PReLU, family=FAMILY, note="alpha may differ by position")
def prelu(call: Call, graph: Graph) -> Lowered:
    """``max(x, 0) + alpha * min(x, 0)``, alpha read at the window's own positions."""
    layer = call.op

    def alpha():
        return ops.cast(ops.convert_to_tensor(layer.alpha), layer.compute_dtype)

    def f(x, a):
        x = ops.cast(x, a.dtype)
        return ops.relu(x) - a * ops.relu(-x)

    if layer.alpha.shape[0] == graph.shape(call.inputs[0])[0]:
        return Lowered([Pointwise(f, positional=[alpha])])
    return Lowered([Pointwise(lambda x: f(x, alpha()))])


@rule(layers.Softmax, family=FAMILY, note="along channels only")
def softmax(call: Call, graph: Graph) -> Lowered:
    """Softmax over the last axis."""
    rank = len(graph.shape(call.inputs[0])) + 1
    axes = call.op.axis if isinstance(call.op.axis, list | tuple) else [call.op.axis]
    if any(a % rank < 2 for a in axes) and rank > 2:
        raise Refuse(f"its softmax runs over axis {call.op.axis}, the positions")
    return Lowered([Pointwise(call.op, elementwise=False, channel_axis=True)])


@rule(layers.BatchNormalization, family=FAMILY, note="inference; axis of channels or of positions")
def batch_normalization(call: Call, graph: Graph) -> Lowered:
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` with the moving moments."""
    layer = call.op
    rank = len(graph.shape(call.inputs[0])) + 1

    def coefficients():
        mean, variance = (ops.convert_to_tensor(v) for v in (layer.moving_mean, layer.moving_variance))
        factor = 1.0 / ops.sqrt(variance + layer.epsilon)
        scale = kernels.cast(factor * layer.gamma if layer.scale else factor, layer.compute_dtype)
        moved = -mean * kernels.like(scale, mean)
        return scale, kernels.cast(moved + layer.beta if layer.center else moved, layer.compute_dtype)

    return Lowered([Affine(coefficients, layer.axis % rank - 1)])


@rule(layers.LayerNormalization, family=FAMILY, note="axis=-1")
def layer_normalization(call: Call, graph: Graph) -> Lowered:
    """Normalisation over the channels of one position."""
    rank = len(graph.shape(call.inputs[0])) + 1
    axes = call.op.axis if isinstance(call.op.axis, list | tuple) else [call.op.axis]
    if any(a % rank != rank - 1 for a in axes):
        raise Refuse(f"it normalises over axis {call.op.axis}, which includes the positions")
    return Lowered([Pointwise(call.op, elementwise=False, channel_axis=True)])


@rule(layers.UnitNormalization, family=FAMILY, note="along channels")
def unit_normalization(call: Call, graph: Graph) -> Lowered:
    """Vectors of unit length over the channels of one position."""
    return layer_normalization(call, graph)


@rule(layers.Rescaling, family=FAMILY)
def rescaling(call: Call, graph: Graph) -> Lowered:
    """A scale and an offset."""
    return Lowered([Pointwise(call.op)])


@rule(layers.TimeDistributed, family=FAMILY, note="any layer inside, applied to each position")
def time_distributed(call: Call, graph: Graph) -> Lowered:
    """One layer at every position."""
    inner = call.op.layer

    def f(x):
        y = inner(ops.reshape(x, (-1, *x.shape[2:])))
        return ops.reshape(y, (-1, x.shape[1], *y.shape[1:]))

    matrices = [w.shape for w in inner.weights if len(w.shape) > 1]
    return Lowered([Pointwise(f, elementwise=False, macs=float(sum(math.prod(m) for m in matrices)))])


if hasattr(layers, "RMSNormalization"):  # Keras 3.9 and later
    rule(layers.RMSNormalization, family=FAMILY, note="along channels")(unit_normalization)
