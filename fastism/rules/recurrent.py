"""Recurrent layers: what comes before the change, in reading order, is the reference's, and is not run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import kernels
from fastism.graph import Call, Graph, Ref
from fastism.rules.reduce import Reduce
from fastism.rules.registry import rule
from fastism.rules.step import DELTA, WHOLE, At, Cost, Given, Local, Lowered, Refuse, Tensor, only
from fastism.window import Ints

FAMILY = "recurrent"
_GATES = {layers.LSTM: 4, layers.GRU: 3, layers.SimpleRNN: 1}


class Direction:
    """One reading direction of a recurrent layer.

    Args:
        layer: LSTM, GRU or SimpleRNN.
        backwards: Whether it reads from the end.
        flip: Whether its outputs are handed on in the order of the positions rather than as read.
    """

    def __init__(self, layer: Any, backwards: bool, flip: bool):
        self.layer, self.backwards, self.flip = layer, backwards, flip
        self.sequences = bool(layer.return_sequences)

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one step."""
        return float(sum(np.prod(w.shape) for w in (self.layer.cell.kernel, self.layer.cell.recurrent_kernel)))

    def step(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(rows, C) and states (rows, U) -> output (rows, U) and the next states."""
        output, after = self.layer.cell(x, list(states), training=False)
        return output, list(after) if isinstance(after, list | tuple) else [after]

    def remembered(self, x: Tensor) -> list[Tensor]:
        """States (N, T + 1, U) of the reference: entry k is the state after k steps."""
        x = ops.cast(x, self.layer.compute_dtype)
        first = [ops.cast(s, self.layer.compute_dtype) for s in self.layer.get_initial_state(ops.shape(x)[0])]
        read = ops.flip(x, axis=1) if self.backwards else x
        _, later = ops.scan(lambda s, xt: (lambda s2: (s2, s2))(self.step(xt, s)[1]), first, ops.swapaxes(read, 0, 1))
        return [
            ops.concatenate([ops.expand_dims(f, 1), ops.swapaxes(s, 0, 1)], axis=1)
            for f, s in zip(first, later, strict=True)
        ]

    def run(self, at: At, x: Tensor, memory: Sequence[Tensor], outputs: Tensor | None) -> Tensor:
        """(V, U) the last output, or (V, T, U) all of them.

        Args:
            at: Where the change is.
            x: (N, T, C) reference inputs.
            memory: As :meth:`remembered`.
            outputs: (V, T, U) the reference's own outputs, for a layer that gives them all.
        """
        window, runtime, length = at.window, at.runtime, x.shape[1]
        dtype = self.layer.compute_dtype
        start = ops.clip(runtime.start(window.span), 0, length)
        if self.backwards:
            end = ops.clip(runtime.start(window.span) + window.span.width, 0, length)
            begin = length - ops.max(end)  # steps that no variant of the chunk changes
        else:
            begin = ops.min(start)
        rows = runtime.groups * runtime.members

        def each(tensor):  # (N, U) -> (V, U)
            taken = ops.expand_dims(ops.take(tensor, runtime.sequence, axis=0), 1)
            return ops.reshape(ops.broadcast_to(taken, (runtime.groups, runtime.members, taken.shape[-1])), (rows, -1))

        states = [each(ops.take(m, begin, axis=1)) for m in memory]
        delta = ops.cast(window.delta, dtype)

        def body(k, *carried):
            position = length - 1 - k if self.backwards else k
            reference = each(ops.cast(ops.take(x, position, axis=1), dtype))
            offset = ops.reshape(position - runtime.start(window.span), (runtime.groups, 1))
            changed = ops.reshape(kernels.pick(delta, offset), (rows, -1))
            output, after = self.step(reference + changed, carried[: len(states)])
            if outputs is None:
                return (k + 1, *after)
            place = position if self.flip or not self.backwards else k
            where, output = (place * 0, place, place * 0), ops.expand_dims(ops.cast(output, outputs.dtype), 1)
            return (k + 1, *after, ops.slice_update(carried[-1], where, output))

        carried = (begin, *states) if outputs is None else (begin, *states, outputs)
        done = ops.while_loop(lambda k, *_: k < length, body, carried)
        return done[1] if outputs is None else done[-1]

    def steps(self, start: Ints, end: Ints, length: int) -> Ints:
        """How many steps follow the first changed position, for every place of the change."""
        return np.where(end > start, end if self.backwards else length - start, 0)


class Recurrent(Reduce):
    """A recurrent layer, or two that read in opposite directions.

    Args:
        directions: One or two.
        merge: How two are put together: ``"concat"``, ``"sum"``, ``"mul"`` or ``"ave"``.
    """

    def __init__(self, directions: Sequence[Direction], merge: str = "concat"):
        self.directions, self.merge = directions, merge

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        x, kept = tap(given.inputs[0]), {}
        for i, direction in enumerate(self.directions):
            for j, states in enumerate(direction.remembered(x)):
                kept[f"{i}.{j}"] = states
        return kept

    def place(self, given: Given) -> Local:
        if len(given.shapes[0]) != 2:
            raise Refuse("its input has no positions")
        return Local(None, (DELTA,), WHOLE, taps=given.inputs)

    def run(self, at: At):
        x, parts = at.runtime.cache[at.given.inputs[0]], []
        for i, direction in enumerate(self.directions):
            memory = [at.prepared[k] for k in sorted(at.prepared) if k.startswith(f"{i}.")]
            parts.append(direction.run(at, x, memory, self._known(at, direction, memory)))
        if len(parts) == 1:
            return parts[0]
        if self.merge == "concat":
            return ops.concatenate(parts, axis=-1)
        total = parts[0] * parts[1] if self.merge == "mul" else parts[0] + parts[1]
        return total / 2 if self.merge == "ave" else total

    def _known(self, at: At, direction: Direction, memory: Sequence[Tensor]) -> Tensor | None:
        """(V, T, U) the reference's outputs, which are its first states."""
        if not direction.sequences:
            return None
        outputs = memory[0][:, 1:]
        if direction.backwards and direction.flip:
            outputs = ops.flip(outputs, axis=1)
        runtime = at.runtime
        taken = ops.expand_dims(ops.take(outputs, runtime.sequence, axis=0), 1)
        return kernels.flat(ops.broadcast_to(taken, (runtime.groups, runtime.members, *taken.shape[2:])))

    def cost(self, given: Given) -> Cost:
        return Cost(sum(d.macs for d in self.directions) * given.shapes[0][0])

    def work(self, given: Given) -> Ints | None:
        span = only(given.spans)
        return sum((d.macs * d.steps(span.lo, span.hi, span.length) for d in self.directions), np.zeros(len(span.lo)))


def _single(layer: Any) -> None:
    if layer.stateful:
        raise Refuse("it is stateful")
    if layer.return_state:
        raise Refuse("it gives its state too")


def _check(call: Call) -> None:
    if len(call.inputs) != 1 or not call.args or not isinstance(call.args[0], Ref):
        raise Refuse("it is given an initial state")


@rule(layers.LSTM, layers.GRU, layers.SimpleRNN, family=FAMILY, note="resumed at the change")
def recurrent(call: Call, graph: Graph) -> Lowered:
    """A recurrent layer."""
    _check(call)
    _single(call.op)
    return Lowered([Recurrent([Direction(call.op, bool(call.op.go_backwards), flip=False)])])


@rule(layers.Bidirectional, family=FAMILY, note="both ways, each resumed at the change")
def bidirectional(call: Call, graph: Graph) -> Lowered:
    """Two recurrent layers that read in opposite directions."""
    _check(call)
    both = (call.op.forward_layer, call.op.backward_layer)
    for layer in both:
        if type(layer) not in _GATES:
            raise Refuse(f"it wraps a {type(layer).__name__}")
        _single(layer)
    if call.op.merge_mode not in ("concat", "sum", "mul", "ave"):
        raise Refuse(f"its merge_mode is {call.op.merge_mode!r}")
    forward, backward = both
    if forward.go_backwards or not backward.go_backwards:
        raise Refuse("its layers read in unusual directions")
    return Lowered([Recurrent([Direction(forward, False, False), Direction(backward, True, True)], call.op.merge_mode)])
