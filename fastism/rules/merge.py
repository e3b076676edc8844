"""Layers that join several tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np
from keras import layers, ops, tree

from fastism import kernels
from fastism.calls import Call, Ref
from fastism.graph import Graph
from fastism.rules.pointwise import Pointwise
from fastism.rules.registry import rule
from fastism.rules.select import select
from fastism.rules.step import DELTA, At, Given, Local, Lowered, Refuse, Step, only
from fastism.window import union

FAMILY = "merge"


class Combine(Step):
    """A weighted sum of tensors: linear, so inputs that do not change drop out."""

    def __init__(self, weights: Sequence[float]):
        self.weights = tuple(weights)

    def place(self, given: Given) -> Local:
        _check_shapes(given)
        uses = tuple(None if s is None else DELTA for s in given.spans)
        return Local(union(given.windows, need=given.need), uses, DELTA)

    def reads(self, index: int, lo: int, hi: int, given: Given) -> tuple[int, int]:
        shape = given.shapes[index]
        if shape and len(shape) != len(given.out_shape):
            return 0, shape[0]  # its first axis is not that of the output's positions
        return super().reads(index, lo, hi, given)

    def run(self, at: At):
        span, runtime, rest = only([at.local.span]), at.runtime, at.given.out_shape[1:]
        parts, fixed, over = [], [], []
        for weight, window in zip(self.weights, at.windows, strict=True):
            if window is not None:
                delta = kernels.cast(window.delta, at.given.dtype)
                parts.append((delta if weight == 1 else delta * weight, window.span))
                fixed.append(window.span.beyond(span).fixed)
                fills = window.span.width == span.width and fixed[-1] == 0
                over.append(fills and weight == 1 and delta is window.delta and window.spare)
        fresh = None not in fixed and len({tuple(delta.shape[3:]) for delta, _ in parts}) == 1
        if fresh:
            placed = [(delta, offset) for (delta, _), offset in zip(parts, fixed, strict=True)]
            first = over.index(True) if True in over else 0
            placed.insert(0, placed.pop(first))
            total = kernels.overlay(placed, span.width, over=over[first])
        else:
            total = functools.reduce(operator.add, [runtime.move(delta, of, span) for delta, of in parts])
        if tuple(total.shape[3:]) != rest:
            fresh = False  # a value in many places
            total = ops.broadcast_to(total, (runtime.groups, runtime.members, span.width, *rest))
        return at.out(delta=total, fresh=fresh)


class Concatenate(Step):
    """Tensors side by side along an axis that is not the positions."""

    def __init__(self, axis: int):
        self.axis = axis

    def place(self, given: Given) -> Local:
        if self.axis < 1:
            raise Refuse("it concatenates along the positions")
        uses = tuple(None if s is None else DELTA for s in given.spans)
        return Local(union(given.windows, need=given.need), uses, DELTA)

    def run(self, at: At):
        span, runtime, parts = at.local.span, at.runtime, []
        if span is None:
            raise Refuse("its inputs are not windows")
        dtype = at.given.dtype
        for shape, window in zip(at.given.shapes, at.windows, strict=True):
            if window is None:
                parts.append(ops.zeros((runtime.groups, runtime.members, span.width, *shape[1:]), dtype=dtype))
            else:
                parts.append(ops.cast(window.delta_in(span), dtype))
        return at.out(delta=ops.concatenate(parts, axis=2 + self.axis))


def _check_shapes(given: Given) -> None:
    length = given.out_shape[0]
    if any(len(shape) != len(given.out_shape) for shape in given.shapes):
        raise Refuse("its inputs have different ranks")
    if any(span.length != length for span in given.windows):
        raise Refuse("it broadcasts a changed tensor along the positions")


def _inputs(call: Call) -> tuple[int, ...]:
    """The tensors in the order of the list argument, one that is given twice counted twice."""
    return tuple(leaf.id for leaf in tree.flatten((call.args, call.kwargs)) if isinstance(leaf, Ref))


def _linear(weights, call: Call) -> Lowered:
    return Lowered([Combine(weights)], inputs=_inputs(call))


@rule(layers.Add, family=FAMILY)
def add(call: Call, graph: Graph) -> Lowered:
    """Sum."""
    return _linear([1.0] * len(_inputs(call)), call)


@rule(layers.Subtract, family=FAMILY)
def subtract(call: Call, graph: Graph) -> Lowered:
    """First minus second."""
    return _linear([1.0, -1.0], call)


@rule(layers.Average, family=FAMILY)
def average(call: Call, graph: Graph) -> Lowered:
    """Mean."""
    n = len(_inputs(call))
    return _linear([1.0 / n] * n, call)


@rule(layers.Multiply, layers.Maximum, layers.Minimum, family=FAMILY)
def elementwise_merge(call: Call, graph: Graph) -> Lowered:
    """Product, maximum or minimum, element by element."""
    op = next(f for c, f in _ELEMENTWISE.items() if isinstance(call.op, c))

    def f(*values):
        total = values[0]
        for value in values[1:]:
            total = op(total, value)
        return total

    return Lowered([Pointwise(f)], inputs=_inputs(call))


_ELEMENTWISE = {layers.Multiply: ops.multiply, layers.Maximum: ops.maximum, layers.Minimum: ops.minimum}


@rule(layers.Concatenate, family=FAMILY, note="along channels or positions")
def concatenate(call: Call, graph: Graph) -> Lowered:
    """Concatenation: along channels, or along positions."""
    rank = len(graph.shape(call.outputs[0])) + 1
    axis = int(np.mod(call.op.axis, rank))
    if axis == 1:
        return select(call, graph)
    return Lowered([Concatenate(axis - 1)], inputs=_inputs(call))
