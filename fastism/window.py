"""Where a change goes: integer geometry of windows. NumPy only, no framework.

Positions are 0-based and intervals half-open. All functions take and return integer arrays over *edit starts*:
element ``s`` answers the question for an edit that begins at input position ``s``. So a whole model's geometry is
computed at once for every place an edit can be, and widths are found by looking rather than by theory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Ints = np.ndarray

#: Times a tensor's length from which on a window becomes all of it. One that is a little wider keeps its even distance
#: from the windows before it, so placing it costs less than what hangs over.
WHOLE = 1.25


@dataclass(frozen=True)
class Slide:
    """A layer whose output ``o`` reads the inputs ``o * stride - pad + k * dilation`` for ``k < kernel``.

    Convolutions and poolings; with ``kernel=1`` a shift: cropping (negative ``pad``) and zero padding.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    @property
    def reach(self) -> int:
        """Distance between the first and the last input that one output reads."""
        return (self.kernel - 1) * self.dilation

    def forward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The outputs that read any input of ``[lo, hi)``."""
        first = _ceil_div(lo + self.pad - self.reach, self.stride)
        last = (hi - 1 + self.pad) // self.stride
        return first, np.maximum(last + 1, first)

    def backward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The inputs that the outputs ``[lo, hi)`` read, from the first to the last."""
        first = lo * self.stride - self.pad
        last = (hi - 1) * self.stride - self.pad + self.reach
        return first, np.where(hi > lo, last + 1, first)

    def readers(self, length: int, outputs: tuple[int, int]) -> Ints:
        """(length,) how many outputs of an interval read each input."""
        count = np.zeros(length, np.int64)
        lo, hi = outputs
        for tap in range(self.kernel):
            at = np.arange(lo, hi) * self.stride - self.pad + tap * self.dilation
            count[at[(at >= 0) & (at < length)]] += 1
        return count


@dataclass(frozen=True)
class Spread:
    """A layer whose input ``i`` goes to the outputs ``i * stride - crop + k * dilation`` for ``k < kernel``.

    Transposed convolution; with ``kernel == stride`` upsampling by repetition.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    crop: int = 0

    def forward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The outputs that any input of ``[lo, hi)`` goes to."""
        return self._transposed.backward(lo, hi)

    def backward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The inputs that the outputs ``[lo, hi)`` are made of."""
        return self._transposed.forward(lo, hi)

    def readers(self, length: int, outputs: tuple[int, int]) -> Ints:
        """(length,) how many outputs of an interval each input goes to."""
        count = np.zeros(length, np.int64)
        lo, hi = outputs
        for tap in range(self.kernel):
            to = np.arange(length) * self.stride - self.crop + tap * self.dilation
            count += (to >= lo) & (to < hi)
        return count

    @property
    def _transposed(self) -> Slide:
        return Slide(self.kernel, self.stride, self.dilation, self.crop)


@dataclass(frozen=True)
class Identity:
    """A layer whose output ``o`` reads the input ``o`` only."""

    def forward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The same positions."""
        return lo, hi

    def backward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The same positions."""
        return lo, hi


class Index:
    """A layer whose output ``o`` reads the one input ``source[o]``, or none where that is negative.

    Reversal, rolling, gathering: any choice and order of positions.
    """

    def __init__(self, source: Ints, length: int):
        self.source = np.asarray(source)
        outputs = np.arange(len(self.source))
        read = self.source >= 0
        first, last = np.full(length, len(self.source)), np.full(length, -1)
        np.minimum.at(first, self.source[read], outputs[read])
        np.maximum.at(last, self.source[read], outputs[read])
        self._outputs = Ranges(first, last)
        self._inputs = Ranges(np.where(read, self.source, length), np.where(read, self.source, -1))

    def forward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The outputs that read any input of ``[lo, hi)``, from the first to the last."""
        return self._outputs.hull(lo, hi)

    def backward(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """The inputs that the outputs ``[lo, hi)`` read, from the first to the last."""
        return self._inputs.hull(lo, hi)


class Ranges:
    """Smallest ``first`` and largest ``last`` over intervals, by tables over stretches of 1, 2, 4, ..."""

    def __init__(self, first: Ints, last: Ints):
        self.size = len(first)
        self.first, self.last = [first], [last]
        while 2 ** len(self.first) <= self.size:
            half = 2 ** (len(self.first) - 1)
            self.first.append(np.minimum(self.first[-1][:-half], self.first[-1][half:]))
            self.last.append(np.maximum(self.last[-1][:-half], self.last[-1][half:]))

    def hull(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
        """``[smallest, largest + 1)`` over each ``[lo, hi)``; an empty interval where there is nothing."""
        lo, hi = np.clip(lo, 0, self.size), np.clip(hi, 0, self.size)
        some = hi > lo
        level = np.floor(np.log2(np.maximum(hi - lo, 1))).astype(int)
        first, end = np.zeros_like(lo), np.zeros_like(lo)
        for k in np.unique(level[some]):
            at = some & (level == k)
            a, b = lo[at], hi[at] - 2**k
            first[at] = np.minimum(self.first[k][a], self.first[k][b])
            end[at] = np.maximum(self.last[k][a], self.last[k][b]) + 1
        return np.minimum(first, np.maximum(end, 0)), np.maximum(end, 0)


@dataclass(frozen=True)
class Ways:
    """A map of positions made of two functions of intervals."""

    forward: Callable[[Ints, Ints], tuple[Ints, Ints]]
    backward: Callable[[Ints, Ints], tuple[Ints, Ints]]


Geometry = Slide | Spread | Identity | Index | Ways


def same_padding(length: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Zeros that ``padding="same"`` puts before the first position of a layer of this input length."""
    reach = (kernel - 1) * dilation
    total = max((-(-length // stride) - 1) * stride + reach + 1 - length, 0)
    return total // 2


@dataclass(frozen=True)
class Distance:
    """How far the windows of one span start behind those of another.

    Attributes:
        fixed: The one number that it is for all edits; None where it differs.
        grain: The largest number that divides it for every edit.
    """

    fixed: int | None
    grain: int


@dataclass(frozen=True, eq=False)
class Span:
    """Where one tensor may differ from the reference, for an edit at every input position.

    Attributes:
        start: (S,) first position of the window, which may lie before 0 or hang over the end.
        width: Number of positions in the window, the same for every edit.
        lo: (S,) first position that can differ, within ``[0, length]``.
        hi: (S,) end of the positions that can differ; ``hi == lo`` where none can.
        length: Positions of the tensor.
    """

    start: Ints
    width: int
    lo: Ints
    hi: Ints
    length: int

    @cached_property
    def hangs(self) -> bool:
        """Whether any window lies partly outside the tensor."""
        return bool(self.start.min() < 0 or (self.start + self.width).max() > self.length)

    @cached_property
    def fixed(self) -> int | None:
        """Where all windows start, if that is one position."""
        return constant(self.start)

    @cached_property
    def grain(self) -> int:
        """The largest number that divides the width and every start."""
        return grain(self.start, self.width)

    def beyond(self, other: Span) -> Distance:
        """How far the windows start behind those of another span."""
        known = self._distances.get(id(other))
        if known is None:
            far = self.start - other.start
            known = self._distances[id(other)] = (other, Distance(constant(far), grain(far)))
        return known[1]

    @cached_property
    def _distances(self) -> dict[int, tuple[Span, Distance]]:
        return {}  # the span is kept with what is known of it, so that no other takes its id

    def changed(self) -> Ints:
        """(S,) how many positions can differ."""
        return (self.hi - self.lo).astype(np.int64)


def edit_span(length: int, width: int, first: int = 0, end: int | None = None) -> Span:
    """The span of the input itself, for an edit of ``width`` positions at each of ``length - width + 1`` starts.

    With ``first`` and ``end``, at the starts ``[first, end)`` only.
    """
    # half the memory, of which long sequences take much; positions times channels still fit
    kind = np.int32 if length < 1 << 20 else np.int64
    start = np.arange(first, length - width + 1 if end is None else end, dtype=kind)
    return Span(start, width, start, start + width, length)


def through(
    geometry: Geometry,
    span: Span,
    length: int,
    *,
    align: tuple[int, int] | None = None,
    need: tuple[int, int] | None = None,
) -> Span:
    """The span of a layer's output.

    Args:
        geometry: The layer's map of positions.
        span: The span of its input.
        length: Positions of its output.
        align: ``(stride, pad)``: put the window on the grid on which a following strided layer reads its input:
            start = -pad modulo stride, and a whole number of strides wide.
        need: Output positions that anything reads; changes elsewhere are dropped.
    """
    start, end = geometry.forward(span.start, span.start + span.width)
    lo, hi = clip(*geometry.forward(span.lo, span.hi), empty=span.hi <= span.lo, length=length)
    return frame(start, end, lo, hi, length, align=align, need=need)


def frame(
    start: Ints,
    end: Ints,
    lo: Ints,
    hi: Ints,
    length: int,
    *,
    align: tuple[int, int] | None = None,
    need: tuple[int, int] | None = None,
) -> Span:
    """A span with one width for all edits that holds ``[start, end)``, as far as it is needed; aligned if asked."""
    bottom, top = need or (0, length)
    lo = np.clip(lo, bottom, top)
    hi = np.clip(hi, lo, top)
    # what lies outside for every edit, as near an end of the sequence; the even spacing stays
    start = start + max(int((bottom - start).min()), 0)
    end = np.maximum(end - max(int((end - top).min()), 0), start)
    if _clipping_pays(start, end, bottom, top):
        start, end = _within(start, end, bottom, top, unit=align)
    if align is not None:
        stride, pad = align
        start = (start + pad) // stride * stride - pad
        width = max(int((-(-(end - start) // stride) * stride).max()), stride)
    else:
        width = max(int((end - start).max()), 1)
        if width >= WHOLE * length:
            start, width = np.zeros_like(start), length
    return Span(start, width, lo, hi, length)


def _clipping_pays(start: Ints, end: Ints, bottom: int, top: int) -> bool:
    """Whether windows that stay within ``[bottom, top)`` are much narrower; it costs them their even spacing."""
    wide = int((end - start).max())
    inside = int((np.clip(end, bottom, top) - np.clip(start, bottom, top)).max())
    return inside < 0.85 * wide and wide > 8


def _within(start: Ints, end: Ints, bottom: int, top: int, unit: tuple[int, int] | None) -> tuple[Ints, Ints]:
    """``[start, end)`` cut to ``[bottom, top)`` and moved so that a window of the largest width stays inside."""
    start, end = np.clip(start, bottom, top), np.clip(end, bottom, top)
    stride, pad = unit or (1, 0)
    first = (start + pad) // stride
    last = np.maximum(-(-(end + pad) // stride), first)
    width = max(int((last - first).max()), 1)
    first = np.maximum(np.minimum(first, -(-(top + pad) // stride) - width), (bottom + pad) // stride)
    return first * stride - pad, (first + width) * stride - pad


def clip(lo: Ints, hi: Ints, *, empty: Ints, length: int) -> tuple[Ints, Ints]:
    """``[lo, hi)`` within ``[0, length)``; empty intervals stay empty."""
    lo = np.clip(lo, 0, length)
    hi = np.clip(np.where(empty, lo, hi), lo, length)
    return lo, hi


def union(spans: Sequence[Span], *, need: tuple[int, int] | None = None) -> Span:
    """The span that holds several spans of tensors of equal length, as far as it is needed."""
    first = spans[0]
    if len(spans) == 1 and not _clipping_pays(first.start, first.start + first.width, *(need or (0, first.length))):
        return first
    start = np.min([s.start for s in spans], axis=0)
    end = np.max([s.start + s.width for s in spans], axis=0)
    empty = [s.hi <= s.lo for s in spans]
    lo = np.min([np.where(e, s.length, s.lo) for s, e in zip(spans, empty, strict=True)], axis=0)
    hi = np.max([np.where(e, 0, s.hi) for s, e in zip(spans, empty, strict=True)], axis=0)
    nothing = np.all(empty, axis=0)
    lo, hi = np.where(nothing, 0, lo), np.where(nothing, 0, hi)
    return frame(start, end, lo, hi, first.length, need=need)


def trimmed(span: Span, need: tuple[int, int] | None) -> Span:
    """The same window with the changes that nothing reads left out of ``lo`` and ``hi``."""
    bottom, top = need or (0, span.length)
    lo = np.clip(span.lo, bottom, top)
    hi = np.clip(span.hi, lo, top)
    if np.array_equal(lo, span.lo) and np.array_equal(hi, span.hi):
        return span
    return Span(span.start, span.width, lo, hi, span.length)


def constant(values: Ints) -> int | None:
    """The one number that all of ``values`` are, else None."""
    return int(values.flat[0]) if values.size and (values == values.flat[0]).all() else None


def grain(*values: Ints | int) -> int:
    """The largest number that divides all of ``values``."""
    return int(np.gcd.reduce([int(np.gcd.reduce(np.ravel(np.asarray(v)))) for v in values])) or 1


def _ceil_div(a: Ints, b: int) -> Ints:
    return -(-a // b)
