"""Layers that only move values: crops, padding, repetition, reshapes. Linear maps of positions."""

from __future__ import annotations

from keras import layers, ops

from fastism import kernels
from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules.registry import rule
from fastism.rules.step import DELTA, At, Given, Local, Lowered, Refuse, Same, Shape, Step, Tensor, only, per_position
from fastism.window import Ints, Slide, Span, Spread, through

FAMILY = "shape"


class Shift(Step):
    """Positions renumbered: cropping and zero padding."""

    def __init__(self, left: int):
        self.slide = Slide(1, pad=left)

    def place(self, given: Given) -> Local:
        out = through(self.slide, only(given.spans), given.out_shape[0], need=given.need)
        moved = Span(only(given.spans).start + self.slide.pad, only(given.spans).width, out.lo, out.hi, out.length)
        return Local(out, (DELTA,), DELTA, frames=(moved,))

    def run(self, at: At):
        window, out = at.window, only([at.local.span])
        delta = at.runtime.move(window.delta, at.local.frames[0], out)
        return at.out(delta=at.runtime.keep_inside(delta, out))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.slide.backward(lo, hi)


class Repeat(Step):
    """Every position repeated ``size`` times in place."""

    def __init__(self, size: int):
        self.size, self.way = size, Spread(size, size)

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        out = through(self.way, span, given.out_shape[0], need=given.need)
        natural = Span(span.start * self.size, span.width * self.size, out.lo, out.hi, out.length)
        return Local(out, (DELTA,), DELTA, frames=(natural,))

    def run(self, at: At):
        window, out = at.window, only([at.local.span])
        delta = ops.repeat(window.delta, self.size, axis=2)
        return at.out(delta=at.runtime.move(delta, at.local.frames[0], out))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.way.backward(lo, hi)


class Regroup(Step):
    """A reshape in which positions stay in order: split into finer ones, joined into coarser ones, or kept.

    Args:
        source, target: Shapes without batch axis.
    """

    def __init__(self, source: Shape, target: Shape):
        fine, coarse = per_position(source), per_position(target)
        if fine % coarse and coarse % fine:
            raise Refuse(f"reshaping {source} to {target} does not keep positions together")
        self.split = max(fine // coarse, 1)
        self.join = max(coarse // fine, 1)
        self.target = target

    def evaluate(self, *values: Tensor) -> Tensor:
        return ops.reshape(values[0], (-1, *self.target))

    def wants(self) -> tuple[int, int] | None:
        return (self.join, 0) if self.join > 1 else None

    @property
    def _way(self):
        return Spread(self.split, self.split) if self.join == 1 else Slide(self.join, self.join)

    def place(self, given: Given) -> Local:
        span = only(given.spans)
        out = through(self._way, span, given.out_shape[0], need=given.need)
        if self.join == 1:
            inner = Span(span.start * self.split, span.width * self.split, out.lo, out.hi, out.length)
        else:
            inner = Span(out.start * self.join, out.width * self.join, span.lo, span.hi, span.length)
        return Local(out, (DELTA,), DELTA, frames=(inner,))

    def run(self, at: At):
        window, out = at.window, only([at.local.span])
        g, m = at.runtime.groups, at.runtime.members
        (inner,) = at.local.frames
        if self.join > 1:
            delta = at.runtime.move(window.delta, window.span, inner)
            return at.out(delta=kernels.reshape(delta, (g, m, out.width, *self.target[1:])))
        delta = kernels.reshape(window.delta, (g, m, inner.width, *self.target[1:]))
        return at.out(delta=at.runtime.move(delta, inner, out))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self._way.backward(lo, hi)


class PermuteRest(Step):
    """Axes behind the positions exchanged."""

    def __init__(self, dims: tuple[int, ...]):
        self.dims = dims

    def place(self, given: Given) -> Local:
        return Local(only(given.spans), (DELTA,), DELTA)

    def run(self, at: At):
        window = at.window
        return at.out(delta=ops.transpose(window.delta, (0, 1, *[1 + d for d in self.dims])))


def _checked(call: Call) -> None:
    if getattr(call.op, "data_format", "channels_last") != "channels_last":
        raise Refuse("its data_format is 'channels_first'")


@rule(layers.Cropping1D, family=FAMILY)
def cropping(call: Call, graph: Graph) -> Lowered:
    """Positions cut from both ends."""
    _checked(call)
    return Lowered([Shift(-call.op.cropping[0])])


@rule(layers.ZeroPadding1D, family=FAMILY)
def zero_padding(call: Call, graph: Graph) -> Lowered:
    """Zeros added at both ends."""
    _checked(call)
    return Lowered([Shift(call.op.padding[0])])


@rule(layers.UpSampling1D, family=FAMILY)
def upsampling(call: Call, graph: Graph) -> Lowered:
    """Repetition of every position."""
    return Lowered([Repeat(int(call.op.size))])


@rule(layers.Flatten, layers.Reshape, family=FAMILY, note="where positions stay in order")
def reshape(call: Call, graph: Graph) -> Lowered:
    """Flatten and Reshape as index maps."""
    _checked(call)
    source, target = graph.shape(call.inputs[0]), graph.shape(call.outputs[0])
    source = tuple(int(n or 0) for n in source)
    target = tuple(int(n or 0) for n in target)
    if source == target:
        return Lowered([Same()])
    if len(target) == 0 or len(source) == 0:
        raise Refuse("a tensor without positions is reshaped")
    return Lowered([Regroup(source, target)])


@rule(layers.Permute, family=FAMILY, note="where the positions stay first")
def permute(call: Call, graph: Graph) -> Lowered:
    """Exchange of axes behind the positions."""
    if call.op.dims[0] != 1:
        raise Refuse(f"dims={tuple(call.op.dims)} moves the axis of positions")
    if list(call.op.dims) == sorted(call.op.dims):
        return Lowered([Same()])
    return Lowered([PermuteRest(tuple(int(d) for d in call.op.dims))])
