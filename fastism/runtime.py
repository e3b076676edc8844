"""What a step sees while a chunk runs: windows, reference activations, window starts. Knows no layer type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism import backend, inplace, kernels
from fastism.calls import set_keras_mask
from fastism.window import Span

Tensor = Any


def change_dtype(dtype: str) -> str:
    """Of the difference of two tensors: that of floats is one of their kind, that of others a signed integer."""
    if "float" in dtype:
        return dtype
    return "int64" if dtype in ("int64", "uint64", "uint32") else "int32"


def add(reference: Tensor, delta: Tensor, *, over: bool = False) -> Tensor:
    """Mutant values, in the reference's own dtype; ``over`` says that they may take the memory of ``delta``."""
    dtype = keras.backend.standardize_dtype(reference.dtype)
    if over and delta.dtype == reference.dtype and "float" in dtype:
        return delta.add_(reference)
    wide = change_dtype(dtype)
    return ops.cast(ops.cast(delta, wide) + ops.cast(reference, wide), dtype)


def subtract(value: Tensor, reference: Tensor, *, over: bool = False) -> Tensor:
    """The change; ``over`` says that it may take the memory of ``value``."""
    wide = change_dtype(keras.backend.standardize_dtype(value.dtype))
    if over and value.dtype == reference.dtype and "float" in wide:
        return value.sub_(reference)
    return ops.cast(value, wide) - ops.cast(reference, wide)


class Window:
    """One tensor's values in the windows of a chunk, as delta, as mutant value, or both.

    Linear steps work on :attr:`delta`, all others on :attr:`value`; whichever is missing is made from the other and
    the reference when it is first asked for. Outside the tensor's positions ``delta`` is zero.

    Attributes:
        fresh: Whether nothing else holds the memory of ``delta`` or ``value``.
        last: Whether the step that runs now is the last to read this window.
    """

    def __init__(
        self,
        runtime: Runtime,
        tensor: int,
        span: Span,
        *,
        delta: Tensor = None,
        value: Tensor = None,
        reference: Tensor = None,
        fresh: bool = False,
    ):
        self._runtime, self.tensor, self.span = runtime, tensor, span
        self._delta, self._value, self._reference = delta, value, reference
        self.fresh, self.last = fresh, False

    @property
    def spare(self) -> bool:
        """Whether the step that runs now may write its result over this window."""
        return self.fresh and self.last and backend.in_place()

    @property
    def comes_as_delta(self) -> bool:
        """Whether the delta is at hand, and the value is not."""
        return self._delta is not None and self._value is None

    @property
    def delta(self) -> Tensor:
        """(G, M, W, ...) mutant - reference."""
        if self._delta is None:
            value, over = self._value, self.spare
            reference = self._runtime.kept(kernels.like(self.reference, value))
            self._delta = subtract(value, reference, over=over)
            self._value = None if over else value
        return self._delta

    @property
    def value(self) -> Tensor:
        """(G, M, W, ...) mutant activations."""
        if self._value is None:
            delta, over = self._delta, self.spare
            self._value = add(self.reference, delta, over=over)
            self._delta = None if over else delta
        return self._value

    @property
    def reference(self) -> Tensor:
        """(G, 1, W, ...) reference activations."""
        if self._reference is None:
            self._reference = self._runtime.gather(self.tensor, self.span)
        return self._reference

    def delta_in(self, span: Span) -> Tensor:
        """The delta in another frame of the same tensor, zeros where the window does not reach."""
        return self._runtime.move(self.delta, self.span, span)

    def whole(self) -> Tensor:
        """(G * M, T, ...) the whole mutant tensor."""
        return self._runtime.dense(self)


class Rectified(Window):
    """What ``relu`` makes of a window that comes as delta: as delta or as value, whichever is asked for first.

    With r the reference, ``relu(r + d) - relu(r) = max(d, -r) + min(r, 0)``. That is half the passes over memory that
    the difference of two values takes, and exact where r and r + d are positive.
    """

    def __init__(self, source: Window, tensor: int):
        self._over = source.spare
        super().__init__(source._runtime, tensor, source.span, fresh=self._over)
        self._before, self._source = source.reference, source.delta

    @property
    def comes_as_delta(self) -> bool:
        """Whether the delta is at hand, or as soon made as the value."""
        return self._value is None

    @property
    def delta(self) -> Tensor:
        """(G, M, W, ...) mutant - reference."""
        if self._source is not None:
            self._delta = kernels.rectified(self._source, self._before, over=self._over)
            self._made()
        return super().delta

    @property
    def value(self) -> Tensor:
        """(G, M, W, ...) mutant activations."""
        if self._source is not None:
            value = add(self._before, self._source, over=self._over)
            self._value = value.relu_() if backend.in_place() else ops.relu(value)
            self._made()
        return super().value

    @property
    def reference(self) -> Tensor:
        """(G, 1, W, ...) reference activations."""
        if self._reference is None:
            self._reference = ops.relu(self._before)
        return self._reference

    def _made(self) -> None:
        self._source, self.fresh = None, True


class Runtime:
    """Everything that one chunk's steps share.

    Args:
        cache: Reference activations (N, ...) by tensor id.
        masks: Keras masks (N, ...) that a step's inputs had, by "step:tensor".
        sequence: (G,) which of the N sequences each group belongs to; a tensor or a NumPy array.
        slots: (S, G) window starts, one row for each distinct table of starts; likewise.
        slot_of: Row of ``slots`` and number to add, for each span, by id.
        groups, members: G and M.
    """

    def __init__(
        self,
        *,
        cache: Mapping[Any, Tensor],
        masks: Mapping[str, Tensor],
        sequence: Tensor,
        slots: Tensor,
        slot_of: Mapping[int, tuple[int, int]],
        groups: int,
        members: int,
    ):
        self.cache, self.masks, self.groups, self.members = cache, masks, groups, members
        self.sequence = ops.convert_to_tensor(sequence, dtype="int32")
        self._slots, self._slot_of = ops.convert_to_tensor(slots, dtype="int32"), slot_of
        known = backend.in_place() and isinstance(slots, np.ndarray)
        self._known = (np.asarray(sequence, np.int64), np.asarray(slots, np.int64)) if known else None
        self._overhangs: dict[int, list[inplace.Overhang]] = {}

    def start(self, span: Span) -> Tensor:
        """(G,) where each group's window begins."""
        row, add = self._slot_of[id(span)]
        return self._slots[row] + add

    def where(self, span: Span) -> Any:
        """What :meth:`start` gives; as NumPy array where it is known before anything runs, as it is on torch."""
        row, add = self._slot_of[id(span)]
        return self.start(span) if self._known is None else self._known[1][row] + add

    def distance(self, source: Span, target: Span, add: int = 0) -> Any:
        """How far behind windows of ``target`` those of ``source`` start, plus ``add``; an int if it is one number."""
        fixed = source.beyond(target).fixed
        return self.where(source) - self.where(target) + add if fixed is None else fixed + add

    def gather(self, tensor: int, span: Span) -> Tensor:
        """(G, 1, W, ...) reference activations of a tensor in a window."""
        return self.read(self.cache[tensor], span)

    def read(self, array: Tensor, span: Span) -> Tensor:
        """(G, 1, W, ...) rows of an (N, T, ...) array, or of a (1, T, ...) one that sequences share."""
        if span.width == array.shape[1] and span.fixed == 0:
            return ops.expand_dims(array if array.shape[0] == 1 else ops.take(array, self.sequence, axis=0), 1)
        unit = math.gcd(span.grain, array.shape[1])
        sequence = self.sequence if self._known is None else self._known[0]
        return kernels.gather(array, sequence, self.where(span), span.width, unit)

    def kept(self, reference: Tensor) -> Tensor:
        """A reference in windows that is computed once for each group, and not once for each variant."""
        return kernels.kept(reference, self._slots) if self._known is None and self.members > 1 else reference

    def per_group(self, tensor: int) -> Tensor:
        """(G, 1, ...) the whole reference of a tensor, for each group's sequence."""
        return ops.expand_dims(ops.take(self.cache[tensor], self.sequence, axis=0), 1)

    def move(self, delta: Tensor, source: Span, target: Span) -> Tensor:
        """A delta in window ``source``, put into window ``target`` of the same tensor."""
        unit = math.gcd(source.beyond(target).grain, source.width, target.width)
        return kernels.place(delta, self.distance(source, target), target.width, unit)

    def hangs(self, span: Span) -> bool:
        """Whether any window of the chunk may lie partly outside the tensor."""
        if self._known is None or not span.hangs:
            return span.hangs
        start = self.where(span)
        return bool(start.min() < 0 or start.max() + span.width > span.length)

    def fill_outside(self, window: Tensor, span: Span, filling: Any, *, over: bool = False) -> Tensor:
        """Put a number where windows hang over the tensor's ends; ``over``: ``window`` may be written into."""
        if not span.hangs:
            return window
        if self._known is None:
            return kernels.fill_outside(window, self.start(span), span.length, filling)
        overhanging = self._overhanging(span, window)
        return inplace.fill(window if over else window.clone(), overhanging, filling) if overhanging else window

    def _overhanging(self, span: Span, like: Tensor) -> list[inplace.Overhang]:
        """Where windows of known starts hang over; worked out once for all that lies in them."""
        if id(span) not in self._overhangs:
            self._overhangs[id(span)] = inplace.overhangs(self.where(span), span.width, span.length, like)
        return self._overhangs[id(span)]

    def keep_inside(self, delta: Tensor, span: Span, *, over: bool = False) -> Tensor:
        """Zero the delta where the window hangs over the tensor's ends; ``over``: it may be written into."""
        return self.fill_outside(delta, span, 0, over=over)

    def dense(self, window: Window) -> Tensor:
        """(G * M, T, ...) the whole mutant tensor: reference + delta."""
        span = window.span
        offset = self.where(span) if span.fixed is None else span.fixed
        delta = kernels.place(window.delta, offset, span.length, math.gcd(span.grain, span.length))
        reference = self.per_group(window.tensor)
        return kernels.flat(add(reference, delta))

    def repeat(self, tensor: int, mask: str = "") -> Tensor:
        """(G * M, ...) a tensor's whole reference for every variant, with the mask of that name if there is one."""
        whole = self._for_every_variant(self.cache[tensor])
        if mask in self.masks:
            set_keras_mask(whole, self._for_every_variant(self.masks[mask]))
        return whole

    def _for_every_variant(self, array: Tensor) -> Tensor:
        """(N, ...) -> (G * M, ...)."""
        taken = ops.expand_dims(ops.take(array, self.sequence, axis=0), 1)
        groups, _, *rest = taken.shape
        return kernels.flat(ops.broadcast_to(taken, (groups, self.members, *rest)))
