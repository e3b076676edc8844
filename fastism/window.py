"""Where a change goes: integer geometry of windows. NumPy only, no framework.

Positions are 0-based and intervals half-open. All functions take and return integer arrays over *edit starts*:
element ``s`` answers the question for an edit that begins at input position ``s``. So a whole model's geometry is
computed at once for every place an edit can be, and widths are found by looking rather than by theory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Ints = np.ndarray


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


Geometry = Slide | Spread | Identity


def same_padding(length: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Zeros that ``padding="same"`` puts before the first position of a layer of this input length."""
    reach = (kernel - 1) * dilation
    total = max((-(-length // stride) - 1) * stride + reach + 1 - length, 0)
    return total // 2


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

    @property
    def hangs(self) -> bool:
        """Whether any window lies partly outside the tensor."""
        return bool(self.start.min() < 0 or (self.start + self.width).max() > self.length)

    def changed(self) -> Ints:
        """(S,) how many positions can differ."""
        return self.hi - self.lo


def edit_span(length: int, width: int) -> Span:
    """The span of the input itself, for an edit of ``width`` positions at each of ``length - width + 1`` starts."""
    start = np.arange(length - width + 1)
    return Span(start, width, start, start + width, length)


def through(geometry: Geometry, span: Span, length: int, *, align: tuple[int, int] | None = None) -> Span:
    """The span of a layer's output.

    Args:
        geometry: The layer's map of positions.
        span: The span of its input.
        length: Positions of its output.
        align: ``(stride, pad)``: put the window on the grid on which a following strided layer reads its input:
            start = -pad modulo stride, and a whole number of strides wide.
    """
    start, end = geometry.forward(span.start, span.start + span.width)
    lo, hi = clip(*geometry.forward(span.lo, span.hi), empty=span.hi <= span.lo, length=length)
    return frame(start, end, lo, hi, length, align=align)


def frame(start: Ints, end: Ints, lo: Ints, hi: Ints, length: int, *, align: tuple[int, int] | None = None) -> Span:
    """A span with one width for all edits that holds ``[start, end)``, aligned if asked."""
    if align is not None:
        stride, pad = align
        start = (start + pad) // stride * stride - pad
        width = max(int((-(-(end - start) // stride) * stride).max()), stride)
    else:
        width = max(int((end - start).max()), 1)
        if width >= length:
            start, width = np.zeros_like(start), length
    return Span(start, width, lo, hi, length)


def clip(lo: Ints, hi: Ints, *, empty: Ints, length: int) -> tuple[Ints, Ints]:
    """``[lo, hi)`` within ``[0, length)``; empty intervals stay empty."""
    lo = np.clip(lo, 0, length)
    hi = np.clip(np.where(empty, lo, hi), lo, length)
    return lo, hi


def union(spans: Sequence[Span], *, align: tuple[int, int] | None = None) -> Span:
    """The span that holds several spans of tensors of equal length."""
    first = spans[0]
    if len(spans) == 1 and align is None:
        return first
    start = np.min([s.start for s in spans], axis=0)
    end = np.max([s.start + s.width for s in spans], axis=0)
    empty = [s.hi <= s.lo for s in spans]
    lo = np.min([np.where(e, s.length, s.lo) for s, e in zip(spans, empty, strict=True)], axis=0)
    hi = np.max([np.where(e, 0, s.hi) for s, e in zip(spans, empty, strict=True)], axis=0)
    nothing = np.all(empty, axis=0)
    lo, hi = np.where(nothing, 0, lo), np.where(nothing, 0, hi)
    return frame(start, end, lo, hi, first.length, align=align)


def constant(values: Ints) -> int | None:
    """The one number that all of ``values`` are, else None."""
    return int(values.flat[0]) if values.size and (values == values.flat[0]).all() else None


def grain(*values: Ints | int) -> int:
    """The largest number that divides all of ``values``."""
    return int(np.gcd.reduce([int(np.gcd.reduce(np.ravel(np.asarray(v)))) for v in values])) or 1


def _ceil_div(a: Ints, b: int) -> Ints:
    return -(-a // b)
