"""The steps of convolutions and of matrix products at every position: linear, so they take the change alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from fastism import backend, convolving, karatsuba, kernels, ways
from fastism.rules.step import DELTA, At, Cost, Given, Local, Step, Tensor, channels, only
from fastism.window import Ints, Slide, Span, Spread, through, trimmed

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

    def prepared_for(self, given: Given) -> Any:
        return self._way(given) if self.slide.stride == 1 else None

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        """Taps in the layout of :func:`fastism.convolving.spread`, or what another way to convolve takes.

        Tap 0 goes to the first output that an input reaches.
        """
        kernel, stride = self.kernel(), self.slide.stride
        if stride == 1:
            taps = _grouped(ops.flip(kernel, axis=0), self.groups)
            way, block = self._way(given)
            if way == ways.LIBRARY:
                return {"kernel": kernel}
            if (way, block) == (ways.SPREAD, 1):
                return {"taps": taps}
            if way == ways.HALVES:
                return {f"part{i}": part for i, part in enumerate(karatsuba.parts(taps, block))}
            band = convolving.band(taps, block)
            return {"band": band if way == ways.SPREAD else convolving.collected(band, block, self.slide.kernel)}
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
            return convolving.convolve(delta, at.prepared["kernel"], dilation, offset, out.width)
        way, block = self._way(at.given)
        if way == ways.HALVES:
            parts = [at.prepared[f"part{i}"] for i in range(len(at.prepared))]
            return karatsuba.spread_by_halves(at.runtime.kept(delta), parts, self.slide.kernel, offset, out.width)
        if "band" in at.prepared:
            blocks = convolving.spread_in_blocks if way == ways.SPREAD else convolving.collect_in_blocks
            return blocks(delta, at.prepared["band"], block, self.slide.kernel, dilation, offset, out.width)
        return convolving.spread(delta, at.prepared["taps"], dilation, offset, out.width, self.groups)

    def _way(self, given: Given) -> tuple[str, int]:
        """How to convolve, and how many neighbours are taken at once, or how often it is halved."""
        if self.groups > 1 or backend.in_place():
            return ways.SPREAD, 1
        out = trimmed(only([self.place(given).span]), given.need)
        cin, cout = math.prod(given.shapes[0][1:]), channels(given.out_shape)
        width = only(given.spans).width
        halves = given.dtype in ("float32", "float64") and not backend.on_gpu()  # differences lose digits
        return ways.cheapest(width, out.width, cin, cout, self.slide.kernel, self.slide.dilation, halves=halves)

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
        return convolving.spread(blocks, taps, 1, 1 - taps.shape[2], out.width)

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

    prepares_by_shape = True

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

    prepares_by_shape = True

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
        blocks = convolving.spread(delta, taps, 1, 0, delta.shape[2] + taps.shape[2] - 1)
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

    prepares_by_shape = True

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
    return ops.transpose(kernels.reshape(taps, (k, cin, groups, cout // groups)), (2, 1, 0, 3))


def _as_lines(delta: Tensor) -> Tensor:
    """(G, M, W, ..., C) -> (G, M, W, all that lies at one position)."""
    g, m, w, *rest = delta.shape
    return delta if len(rest) == 1 else kernels.reshape(delta, (g, m, w, math.prod(rest)))


def _as(delta: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(G, M, W, C) -> (G, M, W, 1, C) where the layer's own tensors have that rank."""
    g, m, w, c = delta.shape
    return delta if len(shape) == 2 else ops.reshape(delta, (g, m, w, *shape[1:-1], c))
