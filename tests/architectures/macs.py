"""Multiply-accumulates of a model and of an edit, counted by brute force from the live graph.

Shares nothing with ``fastism``. For every tensor it keeps a boolean array of what an edit can change, and for every
layer it lists the pairs of changed input and kernel tap. *edit* is that number of products: what a machine would do
that pushes the change through and knows the rest. Recurrent and attention layers are computed whole again, and
everything behind them is changed, so their counts are those of the full pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import keras
import numpy as np
from keras import layers, tree

from . import custom

Bools = np.ndarray


@dataclass(frozen=True)
class Macs:
    """Products of each call and in all: ``full`` of a forward pass, ``edit`` of an edit."""

    calls: dict[str, tuple[float, float]]

    @property
    def full(self) -> float:
        return sum(full for full, _ in self.calls.values())

    @property
    def edit(self) -> float:
        return sum(edit for _, edit in self.calls.values())


class MacCounter:
    """Counts the products of convolutions, dense layers and other matrix products of a model.

    Args:
        model: A functional or Sequential model.
        index: Which input is edited.
        falling_off: Whether to count products with padding in the full pass, and in the edit those of taps that would
            land beyond the ends of the output.
        whole_positions: Whether all channels count as changed where one is. Otherwise only those that are.
        only_needed: Whether a change counts for nothing at positions on which no output depends, because of crops, say.
            Takes an edit at every position of every tensor to find out, so it is for small models.

    Raises:
        TypeError: At a layer that is not covered.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        index: int = 0,
        falling_off: bool = True,
        whole_positions: bool = True,
        only_needed: bool = False,
    ):
        self.falling_off, self.whole_positions = falling_off, whole_positions
        self.calls: list[_Recorded] = []
        self.shapes: list[tuple[int, ...]] = []
        self.names: set[str] = set()
        inputs = [self._new(tensor) for tensor in model.inputs]
        self.edited = inputs[index]
        self.outputs = self._record(model, inputs, "")
        self.needed = self._find_needed() if only_needed else None

    def count(self, position: int, width: int = 1) -> Macs:
        """The products for an edit of ``width`` positions that starts at ``position``."""
        changed = [np.zeros([1] * len(shape), bool) for shape in self.shapes]
        changed[self.edited] = np.zeros((self.shapes[self.edited][0], 1), bool)
        changed[self.edited][position : position + width] = True
        if self.needed:
            changed[self.edited] &= self.needed[self.edited]
        counts = {}
        for recorded in self.calls:
            (out, *_), given = recorded.outputs, [changed[t] for t in recorded.inputs]
            changed[out], full, edit = self._apply(recorded, given)
            if self.needed:
                changed[out] = changed[out] & self.needed[out]
            counts[recorded.name] = (float(full), float(edit))
        return Macs(counts)

    def ideal_speedup(self, positions: Iterable[int] | None = None, width: int = 1) -> float:
        """Full products over those of an edit, averaged over the positions given, or over all."""
        if positions is None:
            positions = range(self.shapes[self.edited][0] - width + 1)
        counts = [self.count(p, width) for p in positions]
        return counts[0].full / float(np.mean([c.edit for c in counts]))

    def _apply(self, recorded: _Recorded, changed: list[Bools]) -> Result:
        shapes = [self.shapes[t] for t in recorded.inputs]
        out = self.shapes[recorded.outputs[0]]
        mask, full, edit = recorded.handler(_Call(recorded.op, recorded.args, shapes, changed, out, self.falling_off))
        if self.whole_positions and mask.ndim > 1:
            mask = mask.any(axis=tuple(range(1, mask.ndim)), keepdims=True)
        return mask, full, edit

    def _find_needed(self) -> list[Bools]:
        """For each tensor, the positions on which some output depends, found by editing one after the other."""
        needed = [np.zeros([shape[0], *[1] * (len(shape) - 1)] if shape else (), bool) for shape in self.shapes]
        for tensor in self.outputs:
            needed[tensor][...] = True
        for recorded in reversed(self.calls):
            wanted = needed[recorded.outputs[0]]
            if not wanted.any():
                continue
            for i, tensor in enumerate(recorded.inputs):
                if not self.shapes[tensor]:
                    continue  # a scalar has no positions
                for at in np.flatnonzero(~needed[tensor]):
                    changed = [np.zeros([1] * len(self.shapes[t]), bool) for t in recorded.inputs]
                    changed[i] = np.zeros(needed[tensor].shape, bool)
                    changed[i][at] = True
                    needed[tensor][at] = (self._apply(recorded, changed)[0] & wanted).any()
        return needed

    def _new(self, tensor: Any) -> int:
        shape = tuple(tensor.shape[1:])
        if None in shape:
            raise TypeError(f"{tensor.name}: a length is unknown")
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def _record(self, model: keras.Model, inputs: Sequence[int], prefix: str) -> list[int]:
        """Note the calls of a model, from its outputs back through the history of their tensors."""
        known = {id(tensor): number for tensor, number in zip(model.inputs, inputs, strict=True)}
        pending = list(model.outputs)
        while pending:
            tensor = pending[-1]
            if id(tensor) in known:
                pending.pop()
                continue
            operation, node_index, _ = tensor._keras_history
            node = operation._inbound_nodes[node_index]
            leaves = tree.flatten((node.arguments.args, node.arguments.kwargs))
            given = [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]
            missing = [t for t in given if id(t) not in known]
            if missing:
                pending += missing
                continue
            name = prefix + operation.name
            while name in self.names:
                name += "'"
            self.names.add(name)
            numbers = [known[id(t)] for t in given]
            if isinstance(operation, keras.Model):
                outputs = self._record(operation, numbers, f"{name}/")
            else:
                outputs = [self._new(t) for t in node.outputs]
                handler = _handler(operation, name)
                self.calls.append(_Recorded(name, operation, node.arguments.args, handler, numbers, outputs))
            known.update({id(t): number for t, number in zip(node.outputs, outputs, strict=True)})
        return [known[id(tensor)] for tensor in model.outputs]


def count_macs(model: keras.Model, position: int, *, width: int = 1, **options: Any) -> Macs:
    """Count the products of a model and of one edit; options as for :class:`MacCounter`."""
    return MacCounter(model, **options).count(position, width)


def ideal_speedup(
    model: keras.Model, positions: Iterable[int] | None = None, *, width: int = 1, **options: Any
) -> float:
    """Full products over those of an edit, averaged over positions; options as for :class:`MacCounter`."""
    return MacCounter(model, **options).ideal_speedup(positions, width)


@dataclass
class _Call:
    """A layer or operation, how it was called, and what of its inputs is changed (broadcastable to their shapes)."""

    op: Any
    args: Sequence[Any]
    shapes: list[tuple[int, ...]]
    changed: list[Bools]
    out: tuple[int, ...]
    falling_off: bool

    def size(self, i: int = 0) -> Bools:
        """How many values of the last axis are changed, for each place along the others."""
        return self.whole(i).sum(axis=-1)

    def whole(self, i: int = 0) -> Bools:
        """Input ``i`` itself, not broadcast."""
        return np.broadcast_to(self.changed[i], self.shapes[i])

    def along(self, i: int = 0) -> Bools:
        """Input ``i`` with its axis of positions not broadcast."""
        return np.broadcast_to(self.changed[i], (self.shapes[i][0], *self.changed[i].shape[1:]))


Result = tuple[Bools, float, float]  # what of the output is changed; products of the full pass; of the edit
_HANDLERS: dict[type, Callable[[_Call], Result]] = {}
_OPERATIONS: dict[str, Callable[[_Call], Result]] = {}


@dataclass(frozen=True)
class _Recorded:
    """A call in the order of execution; tensors are numbers. What comes beside its first output is a constant."""

    name: str
    op: Any
    args: Sequence[Any]
    handler: Callable[[_Call], Result]
    inputs: list[int]
    outputs: list[int]


def _handler(op: Any, name: str) -> Callable[[_Call], Result]:
    handler = _HANDLERS.get(type(op))
    if handler is None and not isinstance(op, keras.Layer):
        handler = _OPERATIONS.get(type(op).__name__)
    if handler is None:
        raise TypeError(f"{name}: {type(op).__name__} is not covered")
    return handler


def _on(*classes: type) -> Callable[[Callable[[_Call], Result]], Callable[[_Call], Result]]:
    def register(handler: Callable[[_Call], Result]) -> Callable[[_Call], Result]:
        _HANDLERS.update(dict.fromkeys(classes, handler))
        return handler

    return register


def _on_operation(names: str) -> Callable[[Callable[[_Call], Result]], Callable[[_Call], Result]]:
    def register(handler: Callable[[_Call], Result]) -> Callable[[_Call], Result]:
        _OPERATIONS.update(dict.fromkeys(names.split(), handler))
        return handler

    return register


# ------------------------------------------------------------------------------------- sliding windows


def _slide(
    call: _Call, changed: Bools, kernel: int, stride: int = 1, dilation: int = 1, padding: str = "valid"
) -> tuple[Bools, float, float]:
    """What a sliding window changes, and pairs of input and tap: all, and weighted by ``changed``, a number each.

    Input ``o * stride - left + tap * dilation`` goes through ``tap`` to output ``o``.
    """
    length, outputs = len(changed), call.out[0]
    reach = (kernel - 1) * dilation
    if padding == "same":
        left = max((ceil(length / stride) - 1) * stride + reach + 1 - length, 0) // 2
    else:
        left = reach if padding == "causal" else 0
    out, pairs, edit = np.zeros(outputs, bool), 0, 0.0
    o, i = np.arange(outputs), np.arange(length)
    for tap in range(kernel):
        source = o * stride - left + tap * dilation
        real = (source >= 0) & (source < length)
        out[real] |= changed[source[real]] > 0
        if call.falling_off:
            pairs += outputs
            edit += float(changed[(i + left - tap * dilation) % stride == 0].sum())
        else:
            pairs += int(real.sum())
            edit += float(changed[source[real]].sum())
    return out[:, None], pairs, edit


@_on(layers.Conv1D)
def _conv(call: _Call) -> Result:
    op = call.op
    out, pairs, edit = _slide(call, call.size(), op.kernel_size[0], op.strides[0], op.dilation_rate[0], op.padding)
    each = op.filters / op.groups
    return out, pairs * each * call.shapes[0][-1], edit * each


@_on(layers.SeparableConv1D, layers.DepthwiseConv1D)
def _depthwise(call: _Call) -> Result:
    op, channels = call.op, call.shapes[0][-1]
    out, pairs, edit = _slide(call, call.size(), op.kernel_size[0], op.strides[0], op.dilation_rate[0], op.padding)
    wide = channels * op.depth_multiplier
    full, edit = pairs * wide, edit * op.depth_multiplier
    if isinstance(op, layers.SeparableConv1D):
        full += len(out) * wide * op.filters
        edit += out.sum() * wide * op.filters
    return out, full, edit


@_on(layers.Conv2DTranspose)
def _conv_transposed(call: _Call) -> Result:
    op, (length, wide, channels) = call.op, call.shapes[0]
    (kernel, across), changed = op.kernel_size, call.size()[:, 0]
    if op.padding != "same" or wide != 1 or across != 1 or {*op.strides, *op.dilation_rate} != {1}:
        raise TypeError(f"{op.name}: this Conv2DTranspose is not covered")
    out, pairs, edit = np.zeros(length, bool), 0, 0.0
    for tap in range(kernel):
        target = np.arange(length) - (kernel - 1) // 2 + tap
        real = (target >= 0) & (target < length)
        out[target[real]] |= changed[real] > 0
        pairs += length if call.falling_off else int(real.sum())
        edit += float(changed.sum() if call.falling_off else changed[real].sum())
    return out[:, None, None], pairs * channels * op.filters, edit * op.filters


@_on(layers.MaxPooling1D, layers.AveragePooling1D)
def _pool(call: _Call) -> Result:
    out, _, _ = _slide(call, call.size(), call.op.pool_size[0], call.op.strides[0], padding=call.op.padding)
    return out, 0, 0


@_on(custom.AttentionPool1D)
def _attention_pool(call: _Call) -> Result:
    length, channels = call.shapes[0]
    out, _, _ = _slide(call, call.size(), call.op.size, call.op.size)
    return out, length * channels**2, call.size().sum() * channels


# ------------------------------------------------------------------------------------- matrix products


@_on(layers.Dense)
def _dense(call: _Call) -> Result:
    out = call.changed[0].any(axis=-1, keepdims=True)
    return out, prod(call.shapes[0]) * call.op.units, call.size().sum() * call.op.units


@_on(layers.TimeDistributed)
def _time_distributed(call: _Call) -> Result:
    if type(call.op.layer) is not layers.Dense:
        raise TypeError(f"{call.op.name}: only TimeDistributed(Dense) is covered")
    out = call.changed[0].any(axis=-1, keepdims=True)
    return out, prod(call.shapes[0]) * call.op.layer.units, call.size().sum() * call.op.layer.units


@_on(custom.PointwiseResidual)
def _pointwise_residual(call: _Call) -> Result:
    length, channels = call.shapes[0]
    return call.changed[0].any(axis=-1, keepdims=True), length * channels**2, call.size().sum() * channels


def _all_again(call: _Call, full: float) -> Result:
    reached = any(c.any() for c in call.changed)
    return np.full([1] * len(call.out), reached), full, full * reached


@_on(layers.GRU, layers.LSTM)
def _recurrent(call: _Call) -> Result:
    steps, channels = call.shapes[0]
    gates = 3 if isinstance(call.op, layers.GRU) else 4
    return _all_again(call, steps * gates * call.op.units * (channels + call.op.units))


@_on(layers.Bidirectional)
def _bidirectional(call: _Call) -> Result:
    inner = _Call(call.op.forward_layer, (), call.shapes, call.changed, call.out, call.falling_off)
    _, full, _ = _recurrent(inner)
    return _all_again(call, 2 * full)


@_on(custom.RelativeAttention)
def _relative_attention(call: _Call) -> Result:
    op, (length, channels) = call.op, call.shapes[0]
    keys, values = op.heads * op.key_size, op.heads * op.value_size
    projections = length * channels * (2 * keys + 2 * values)
    return _all_again(call, projections + length**2 * (keys + values) + length * (2 * length - 1) * keys)


@_on(layers.MultiHeadAttention)
def _attention(call: _Call) -> Result:
    op, (length, channels) = call.op, call.shapes[0]
    keys, values = op.num_heads * op.key_dim, op.num_heads * op.value_dim
    return _all_again(call, length * channels * (2 * keys + 2 * values) + length**2 * (keys + values))


# -------------------------------------------------------------------------------------- no products


@_on(
    layers.InputLayer,
    layers.BatchNormalization,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.ReLU,
    layers.LeakyReLU,
    custom.Scale,
    custom.StochasticReverseComplement,
    custom.StochasticShift,
    custom.SwitchReverse,  # not reversed at inference
)
@_on_operation("Gelu Relu ReLU Sigmoid Silu Softplus Exp")
def _each(call: _Call) -> Result:
    return call.changed[0], 0, 0


@_on(layers.Activation)
def _activation(call: _Call) -> Result:
    if call.op.activation is keras.activations.softmax:
        return call.changed[0].any(axis=-1, keepdims=True), 0, 0
    return call.changed[0], 0, 0


@_on(layers.LayerNormalization)
def _normalize(call: _Call) -> Result:
    return call.changed[0].any(axis=-1, keepdims=True), 0, 0


@_on(layers.Add, layers.Average, layers.Multiply, custom.CountsLogSumExp)
def _merge(call: _Call) -> Result:
    rank, out = len(call.out), np.zeros([1] * len(call.out), bool)
    for mask in call.changed:
        out = out | mask.reshape(*[1] * (rank - mask.ndim), *mask.shape)
    return out, 0, 0


_on_operation("Add Multiply Subtract")(_merge)


@_on(layers.Concatenate)
def _concatenate(call: _Call) -> Result:
    axis = call.op.axis % (len(call.out) + 1) - 1
    return np.concatenate([call.whole(i) for i in range(len(call.shapes))], axis=axis), 0, 0


@_on(layers.Flatten, layers.Reshape)
def _reshape(call: _Call) -> Result:
    return call.whole().reshape(call.out), 0, 0


@_on(layers.Cropping1D)
def _crop(call: _Call) -> Result:
    first = call.op.cropping[0]
    return call.along()[first : first + call.out[0]], 0, 0


@_on(layers.ZeroPadding1D)
def _zero_pad(call: _Call) -> Result:
    return np.pad(call.along(), (call.op.padding, (0, 0))), 0, 0


@_on(layers.UpSampling1D)
def _upsample(call: _Call) -> Result:
    return np.repeat(call.along(), call.op.size, axis=0), 0, 0


@_on(layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D)
def _global(call: _Call) -> Result:
    return call.changed[0].any(axis=0, keepdims=call.op.keepdims), 0, 0


@_on_operation("Mean Max Logsumexp")
def _reduce(call: _Call) -> Result:
    axes = call.op.axis if isinstance(call.op.axis, list | tuple) else [call.op.axis]
    rank = len(call.shapes[0]) + 1
    return call.changed[0].any(axis=tuple(a % rank - 1 for a in axes), keepdims=call.op.keepdims), 0, 0


@_on_operation("GetItem")
def _get_item(call: _Call) -> Result:
    return call.whole()[None][call.args[1]][0], 0, 0
