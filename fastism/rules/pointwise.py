"""Layers whose output at a position depends on that position alone."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops

from fastism import kernels
from fastism.graph import Call, Graph, Ref
from fastism.rules.registry import RULES, Rule, operation_class, rule
from fastism.rules.step import DELTA, VALUE, At, Given, Local, Lowered, Refuse, Same, Step, Tensor, only
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
#: ``keras.ops`` that act on each number alone. Not those that give infinities, such as log: they have no difference.
UNARY = (
    "relu relu6 sigmoid silu softplus softsign tanh gelu elu selu celu leaky_relu hard_sigmoid hard_silu hard_tanh "
    "hard_shrink soft_shrink tanh_shrink log_sigmoid squareplus sparse_plus sparse_sigmoid threshold exp expm1 sqrt "
    "square abs negative sign sin cos floor ceil round erf exp2 tan arctan sinh cosh arcsinh"
)
BINARY = "add subtract multiply divide true_divide maximum minimum"
#: Activation functions that mix the channels of one position.
ALONG_CHANNELS = tuple(
    getattr(activations, name) for name in ["softmax", "log_softmax", "sparsemax"] if hasattr(activations, name)
)


class Pointwise(Step):
    """``f`` of one or several tensors, position by position.

    Args:
        f: Function of full tensors (B, T, ...), which must not depend on T.
        elementwise: Whether ``f`` acts on each number alone, so that axes may be folded.
        positional: Gives an array (T, ...) that ``f`` takes as last argument, cut to the window's own positions.
        channel_axis: Whether ``f`` mixes the last axis, so that it must not be the axis of positions.
    """

    def __init__(
        self,
        f: Callable[..., Tensor],
        *,
        elementwise: bool = True,
        positional: Callable[[], Tensor] | None = None,
        channel_axis: bool = False,
    ):
        self.f, self.elementwise, self.positional, self.channel_axis = (
            f,
            elementwise,
            positional,
            channel_axis,
        )

    def evaluate(self, *values: Tensor) -> Tensor:
        extra = () if self.positional is None else (ops.expand_dims(self.positional(), 0),)
        return self.f(*values, *extra)

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        return {} if self.positional is None else {"positional": ops.expand_dims(self.positional(), 0)}

    def place(self, given: Given) -> Local:
        if self.channel_axis and len(given.out_shape) == 1:
            raise Refuse("it mixes the axis along which positions run")
        length = given.out_shape[0]
        if any(s.length != length for s in given.windows):
            raise Refuse("it broadcasts a changed tensor along the positions")
        for shape, span in zip(given.shapes, given.spans, strict=True):
            if len(shape) != len(given.out_shape) or (span is None and shape[0] not in (1, length)):
                raise Refuse("its inputs have different ranks")
        span = union(given.windows)
        moved = [s is not None and not _same_frame(s, span) for s in given.spans]
        uses = tuple(None if s is None else DELTA if m else VALUE for s, m in zip(given.spans, moved, strict=True))
        taps = tuple(t for t, s, m in zip(given.inputs, given.spans, moved, strict=True) if m or s is None)
        return Local(span, uses, VALUE, taps=taps)

    def run(self, at: At):
        span = only([at.local.span])
        pairs = [self._input(at, i, span) for i in range(len(at.windows))]
        extra = () if self.positional is None else (at.runtime.read(at.prepared["positional"], span),)
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
        return ops.cast(window.delta_in(span), reference.dtype) + reference, reference

    def _apply(self, values: list[Tensor], extra: tuple[Tensor, ...]) -> Tensor:
        if self.elementwise:
            return self.f(*values, *extra)
        (value,) = values
        groups, members = value.shape[:2]
        return kernels.unflat(self.f(kernels.flat(value)), groups, members)


class Affine(Step):
    """A scale and a shift for each channel, or for each position: BatchNormalization at inference.

    Args:
        scale, shift: Give 1-D arrays.
        axis: Axis (batch not counted) along which they run; 0 is the axis of positions.
        call: What to run on full tensors.
    """

    def __init__(self, scale: Callable[[], Tensor], shift: Callable[[], Tensor], axis: int):
        self.scale, self.shift, self.axis = scale, shift, axis

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        shape = [1] * (1 + len(given.out_shape))
        shape[1 + self.axis] = -1
        return {"scale": ops.reshape(self.scale(), shape), "shift": ops.reshape(self.shift(), shape)}

    def place(self, given: Given) -> Local:
        form = given.native[0]
        return Local(only(given.spans), (form,), form or DELTA)

    def run(self, at: At):
        window, span = at.window, only([at.local.span])
        if self.axis == 0:
            scale, shift = (at.runtime.read(at.prepared[k], span) for k in ("scale", "shift"))
        else:
            scale, shift = (ops.expand_dims(at.prepared[k], 1) for k in ("scale", "shift"))
        if at.local.gives == DELTA:
            return at.out(delta=ops.cast(window.delta, scale.dtype) * scale)

        def apply(x: Tensor) -> Tensor:
            return ops.cast(x, scale.dtype) * scale + shift

        return at.out(value=apply(window.value), reference=apply(window.reference))


def _same_frame(a: Span, b: Span) -> bool:
    return a is b or (a.width == b.width and bool(np.array_equal(a.start, b.start)))


def activation_step(function: Callable[..., Any] | None) -> Step:
    """The step of an activation function, as layers carry it in ``activation=``."""
    if function is None or function is activations.linear:
        return Same()
    if function in ELEMENTWISE:
        return Pointwise(function)
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
    return Lowered([Pointwise(call.op)])


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
        return Lowered([Pointwise(f, positional=alpha)])
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

    def scale():
        factor = 1.0 / ops.sqrt(ops.convert_to_tensor(layer.moving_variance) + layer.epsilon)
        factor = factor * layer.gamma if layer.scale else factor
        return ops.cast(factor, layer.compute_dtype)

    def shift():
        moved = -ops.convert_to_tensor(layer.moving_mean) * ops.cast(scale(), layer.moving_mean.dtype)
        moved = moved + layer.beta if layer.center else moved
        return ops.cast(moved, layer.compute_dtype)

    return Lowered([Affine(scale, shift, layer.axis % rank - 1)])


@rule(layers.LayerNormalization, family=FAMILY, note="axis=-1")
def layer_normalization(call: Call, graph: Graph) -> Lowered:
    """Normalisation over the channels of one position."""
    rank = len(graph.shape(call.inputs[0])) + 1
    axes = call.op.axis if isinstance(call.op.axis, list | tuple) else [call.op.axis]
    if any(a % rank != rank - 1 for a in axes):
        raise Refuse(f"it normalises over axis {call.op.axis}, which includes the positions")
    return Lowered([Pointwise(call.op, elementwise=False, channel_axis=True)])


def _operation(call: Call, graph: Graph) -> Lowered:
    """A ``keras.ops`` call on each number alone: all its tensors are whole arguments, the rest numbers."""
    arguments = [*call.args, *call.kwargs.values()]
    refs = [a for a in arguments if isinstance(a, Ref)]
    settings = [v for k, v in vars(call.op).items() if not k.startswith("_")]
    if any(getattr(v, "shape", None) for v in [*arguments, *settings]):
        raise Refuse("an array is among its arguments, and may differ by position")
    if isinstance(call.op, _dividing()) and isinstance(arguments[1], Ref):
        raise Refuse("it divides by activations, and what is infinite has no difference")
    # Keras's own addition may take an addend for a bias where batch and channels are of one size
    run = operator.add if isinstance(call.op, _adding()) else call.op

    def f(*values):
        feed = iter(values)
        args = [next(feed) if isinstance(a, Ref) else a for a in call.args]
        kwargs = {k: next(feed) if isinstance(a, Ref) else a for k, a in call.kwargs.items()}
        return run(*args, **kwargs)

    return Lowered([Pointwise(f)], inputs=tuple(r.id for r in refs))


@functools.cache
def _adding() -> tuple[type, ...]:
    return tuple(c for c in [operation_class(ops.add, (3, 2), (3, 2))] if c is not None)


@functools.cache
def _dividing() -> tuple[type, ...]:
    found = (operation_class(f, (3, 2), (3, 2)) for f in (ops.divide, ops.true_divide))
    return tuple(c for c in found if c is not None)


@functools.cache
def register_operations() -> None:
    """Enter the element-wise ``keras.ops`` into the table; their classes are found by calling them."""
    functions = [(getattr(ops, n), 1) for n in UNARY.split() if hasattr(ops, n)]
    functions += [(f, 1) for f in ELEMENTWISE]
    functions += [(getattr(ops, n), 2) for n in BINARY.split() if hasattr(ops, n)]
    functions += [(lambda x: ops.clip(x, 0, 1), 1), (lambda x: ops.cast(x, "float32"), 1)]
    for fn, arity in functions:
        cls = operation_class(fn, *[(3, 2)] * arity)
        if cls is not None and cls not in RULES:
            RULES[cls] = Rule(_operation, "operations", "element by element")
