"""What a step sees while a chunk runs: windows, reference activations, window starts. Knows no layer type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from fastism import kernels
from fastism.graph import set_keras_mask
from fastism.window import Span, constant, grain

Tensor = Any


def change_dtype(dtype: str) -> str:
    """Of the difference of two tensors: that of floats is one of their kind, that of others a signed integer."""
    if "float" in dtype:
        return dtype
    return "int64" if dtype in ("int64", "uint64", "uint32") else "int32"


def add(reference: Tensor, delta: Tensor) -> Tensor:
    """Mutant values, in the reference's own dtype."""
    dtype = keras.backend.standardize_dtype(reference.dtype)
    wide = change_dtype(dtype)
    return ops.cast(ops.cast(delta, wide) + ops.cast(reference, wide), dtype)


def subtract(value: Tensor, reference: Tensor) -> Tensor:
    """The change."""
    wide = change_dtype(keras.backend.standardize_dtype(value.dtype))
    return ops.cast(value, wide) - ops.cast(reference, wide)


class Window:
    """One tensor's values in the windows of a chunk, as delta, as mutant value, or both.

    Linear steps work on :attr:`delta`, all others on :attr:`value`; whichever is missing is made from the other and
    the reference when it is first asked for. Outside the tensor's positions ``delta`` is zero.
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
    ):
        self._runtime, self.tensor, self.span = runtime, tensor, span
        self._delta, self._value, self._reference = delta, value, reference

    @property
    def delta(self) -> Tensor:
        """(G, M, W, ...) mutant - reference."""
        if self._delta is None:
            self._delta = subtract(self._value, ops.cast(self.reference, self._value.dtype))
        return self._delta

    @property
    def value(self) -> Tensor:
        """(G, M, W, ...) mutant activations."""
        if self._value is None:
            self._value = add(self.reference, self._delta)
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


class Runtime:
    """Everything that one chunk's steps share.

    Args:
        cache: Reference activations (N, ...) by tensor id, and what steps prepared, by (step, name).
        masks: Keras masks (N, ...) that a step's inputs had, by "step:tensor".
        sequence: (G,) which of the N sequences each group belongs to.
        slots: (S, G) window starts, one row for each distinct table of starts.
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
        self.cache, self.masks, self.sequence = cache, masks, sequence
        self.groups, self.members = groups, members
        self._slots, self._slot_of = slots, slot_of

    def start(self, span: Span) -> Tensor:
        """(G,) where each group's window begins."""
        row, add = self._slot_of[id(span)]
        return self._slots[row] + add

    def gather(self, tensor: int, span: Span) -> Tensor:
        """(G, 1, W, ...) reference activations of a tensor in a window."""
        return self.read(self.cache[tensor], span)

    def read(self, array: Tensor, span: Span) -> Tensor:
        """(G, 1, W, ...) rows of an (N, T, ...) array, or of a (1, T, ...) one that sequences share."""
        if span.width == array.shape[1] and constant(span.start) == 0:
            return ops.expand_dims(array if array.shape[0] == 1 else ops.take(array, self.sequence, axis=0), 1)
        unit = grain(span.start, span.width, array.shape[1])
        return kernels.gather(array, self.sequence, self.start(span), span.width, unit)

    def per_group(self, tensor: int) -> Tensor:
        """(G, 1, ...) the whole reference of a tensor, for each group's sequence."""
        return ops.expand_dims(ops.take(self.cache[tensor], self.sequence, axis=0), 1)

    def move(self, delta: Tensor, source: Span, target: Span) -> Tensor:
        """A delta in window ``source``, put into window ``target`` of the same tensor."""
        fixed = constant(source.start - target.start)
        offset = self.start(source) - self.start(target) if fixed is None else fixed
        unit = grain(source.start - target.start, source.width, target.width)
        return kernels.place(delta, offset, target.width, unit)

    def keep_inside(self, delta: Tensor, span: Span) -> Tensor:
        """Zero the delta where the window hangs over the tensor's ends."""
        return kernels.mask(delta, self.start(span), span.length) if span.hangs else delta

    def dense(self, window: Window) -> Tensor:
        """(G * M, T, ...) the whole mutant tensor: reference + delta."""
        full = Span(window.span.start * 0, window.span.length, window.span.lo, window.span.hi, window.span.length)
        fixed = constant(window.span.start)
        offset = self.start(window.span) if fixed is None else fixed
        unit = grain(window.span.start, window.span.width, full.width)
        delta = kernels.place(window.delta, offset, full.width, unit)
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
