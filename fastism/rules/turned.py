"""Layers on tensors (1, L, C): the rules of the same layers on (L, 1, C)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras import layers, ops, tree

from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules import conv, merge, operations, pointwise, reduce, registry, shape
from fastism.rules.select import select, select_layer
from fastism.rules.step import Lowered, Refuse
from fastism.turned import TurnedCall

#: Rules that treat all axes but the last alike.
_ALIKE = {
    pointwise.identity,
    pointwise.activation,
    pointwise.elementwise_layer,
    pointwise.rescaling,
    pointwise.batch_normalization,
    pointwise.layer_normalization,
    pointwise.unit_normalization,
    pointwise.softmax,
    merge.add,
    merge.subtract,
    merge.average,
    merge.elementwise_merge,
    merge.concatenate,
    reduce.global_2d,
    conv.dense,
    operations.elementwise,
    operations.cast,
    operations.power,
    operations.along,
    operations.concatenate,
}
#: Layers with settings for each of the two axes.
_TWO_AXES = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.Conv2DTranspose,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
)
_PAIRS = ("kernel_size", "strides", "dilation_rate", "pool_size")
_KERNELS = ("kernel", "depthwise_kernel")


class Exchanged:
    """A layer of two axes with its settings for the first given for the second, and the other way round."""

    def __init__(self, layer: Any):
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._layer, name)
        if name in _PAIRS and isinstance(value, tuple | list):
            return tuple(reversed(value))
        return ops.swapaxes(ops.convert_to_tensor(value), 0, 1) if name in _KERNELS else value


def lower(call: Call, graph: Graph) -> Lowered:
    """The steps of a call.

    Raises:
        Refuse: If no rule treats it, with the reason.
    """
    found = registry.checked(call, graph)
    if not isinstance(call, TurnedCall):
        return found.fn(call, graph)
    if isinstance(call.op, _TWO_AXES):
        if not call.turned.issuperset((*call.inputs, *call.outputs)):
            raise Refuse("positions run along the second axis of some of its tensors only, or of the output")
        return found.fn(replace(call, op=Exchanged(call.op)), graph)
    if found.fn in (select, select_layer, shape.permute, shape.reshape):
        return select(call, graph)
    if found.fn not in _ALIKE or not all(_fits(call, graph, t) for t in (*call.inputs, *call.outputs)):
        raise Refuse("positions run along the second axis of its tensors, or of some of them")
    rank = 1 + max(len(graph.shape(t)) for t in (*call.inputs, *call.outputs))
    axis = getattr(call.op, "axis", call.kwargs.get("axis", rank - 1))
    axes = list(axis) if isinstance(axis, list | tuple) else [axis]
    if any(a is None or a % rank != rank - 1 for a in axes):
        raise Refuse(f"positions run along the second axis of its tensors, and its axis is {axis}")
    if any(len(getattr(leaf, "shape", ())) > 1 for leaf in tree.flatten((call.args, call.kwargs))):
        raise Refuse("positions run along the second axis of its tensors, and an array is among its arguments")
    return found.fn(call, graph)


def _fits(call: TurnedCall, graph: Graph, tensor: int) -> bool:
    """Whether a tensor is turned, looks the same turned, or is what a pooling over both axes gives."""
    pooled = isinstance(call.op, layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D)
    return tensor in call.turned or graph.shape(tensor)[:2] == (1, 1) or (pooled and tensor in call.outputs)
