"""Recurrent layers: what comes before the change, in reading order, is the reference's, and is not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from fastism import kernels
from fastism.calls import Call, Ref
from fastism.graph import Graph
from fastism.rules.reduce import Reduce
from fastism.rules.registry import rule
from fastism.rules.step import DELTA, WHOLE, At, Cost, Given, Local, Lowered, Refuse, Tensor, only
from fastism.window import Ints

FAMILY = "recurrent"


def _lstm(cell: Any, z: Tensor, states: Sequence[Tensor], recur: Sequence[Tensor]) -> list[Tensor]:
    """The next states from (rows, 4 U) projected inputs; gates input, forget, candidate, output."""
    (kernel, *_), (hidden, memory) = recur, states
    i, f, c, o = ops.split(z + ops.matmul(hidden, kernel), 4, axis=-1)
    gate = cell.recurrent_activation
    memory = gate(f) * memory + gate(i) * cell.activation(c)
    return [gate(o) * cell.activation(memory), memory]


def _gru(cell: Any, z: Tensor, states: Sequence[Tensor], recur: Sequence[Tensor]) -> list[Tensor]:
    """The next state from (rows, 3 U) projected inputs; gates update, reset, candidate."""
    (kernel, *bias), (hidden,) = recur, states
    units = hidden.shape[-1]
    update, reset, candidate = ops.split(z, 3, axis=-1)
    if cell.reset_after:
        own = ops.matmul(hidden, kernel)
        u, r, c = ops.split(own + bias[0] if bias else own, 3, axis=-1)
        update, reset = cell.recurrent_activation(update + u), cell.recurrent_activation(reset + r)
        candidate = cell.activation(candidate + reset * c)
    else:
        u, r = ops.split(ops.matmul(hidden, kernel[:, : 2 * units]), 2, axis=-1)
        update, reset = cell.recurrent_activation(update + u), cell.recurrent_activation(reset + r)
        candidate = cell.activation(candidate + ops.matmul(reset * hidden, kernel[:, 2 * units :]))
    return [update * hidden + (1 - update) * candidate]


def _simple(cell: Any, z: Tensor, states: Sequence[Tensor], recur: Sequence[Tensor]) -> list[Tensor]:
    """The next state from (rows, U) projected inputs."""
    (kernel, *_), (hidden,) = recur, states
    return [cell.activation(z + ops.matmul(hidden, kernel))]


_CELLS = {layers.LSTM: _lstm, layers.GRU: _gru, layers.SimpleRNN: _simple}


class Direction:
    """One reading direction of a recurrent layer.

    What the inputs add to the gates, ``x W + b``, is computed once for the reference; for a mutant, only the product of
    its change with ``W``.

    Args:
        layer: LSTM, GRU or SimpleRNN.
        backwards: Whether it reads from the end.
        flip: Whether its outputs are handed on in the order of the positions rather than as read.
    """

    def __init__(self, layer: Any, backwards: bool, flip: bool):
        self.layer, self.backwards, self.flip = layer, backwards, flip
        self.sequences = bool(layer.return_sequences)

    @property
    def input_macs(self) -> float:
        """Multiply-accumulates of one step that the inputs take part in."""
        return float(np.prod(self.layer.cell.kernel.shape))

    @property
    def state_macs(self) -> float:
        """Multiply-accumulates of one step that the states take part in."""
        return float(np.prod(self.layer.cell.recurrent_kernel.shape))

    def weights(self) -> dict[str, Tensor]:
        """Input kernel, bias of the inputs and what a step needs, in the layer's precision."""
        cell, dtype = self.layer.cell, self.layer.compute_dtype
        found = {"kernel": cell.kernel, "recur0": cell.recurrent_kernel}
        if cell.use_bias:
            found["bias"] = cell.bias
            if len(cell.bias.shape) == 2:  # of a GRU with reset_after: one for the inputs, one for the states
                found["bias"], found["recur1"] = cell.bias[0], cell.bias[1]
        return {k: ops.cast(ops.convert_to_tensor(v), dtype) for k, v in found.items()}

    def step(self, z: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]) -> list[Tensor]:
        """(rows, gates) projected inputs and (rows, U) states -> the next states, the first of which is the output."""
        recur = [weights[k] for k in ("recur0", "recur1") if k in weights]
        follow = next(f for kind, f in _CELLS.items() if isinstance(self.layer, kind))
        return follow(self.layer.cell, z, states, recur)

    def prepare(self, x: Tensor) -> dict[str, Tensor]:
        """Weights, (N, T, gates) projected reference inputs, and (N, T + 1, U) states of the reference.

        Entry k of the states is what they are after k steps.
        """
        weights = self.weights()
        x = ops.cast(x, self.layer.compute_dtype)
        projected = ops.matmul(x, weights["kernel"])
        projected = projected + weights["bias"] if "bias" in weights else projected
        first = [ops.cast(s, self.layer.compute_dtype) for s in self.layer.get_initial_state(ops.shape(x)[0])]
        read = ops.flip(projected, axis=1) if self.backwards else projected

        def follow(states, z):
            after = self.step(z, states, weights)
            return after, after

        _, later = ops.scan(follow, first, ops.swapaxes(read, 0, 1))
        states = [
            ops.concatenate([ops.expand_dims(f, 1), ops.swapaxes(s, 0, 1)], axis=1)
            for f, s in zip(first, later, strict=True)
        ]
        return {**weights, "projected": projected, **{f"state{i}": s for i, s in enumerate(states)}}

    def run(self, at: At, kept: Mapping[str, Tensor], outputs: Tensor | None) -> Tensor:
        """(V, U) the last output, or (V, T, U) all of them.

        Args:
            at: Where the change is.
            kept: As :meth:`prepare` gives it.
            outputs: (V, T, U) the reference's own outputs, for a layer that gives them all.
        """
        window, runtime, projected = at.window, at.runtime, kept["projected"]
        length = projected.shape[1]
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

        memory = [kept[k] for k in sorted(kept) if k.startswith("state")]
        states = [each(ops.take(m, begin, axis=1)) for m in memory]
        delta = kernels.matmul(ops.cast(window.delta, projected.dtype), kept["kernel"])

        def body(k, *carried):
            position = length - 1 - k if self.backwards else k
            reference = each(ops.take(projected, position, axis=1))
            offset = ops.reshape(position - runtime.start(window.span), (runtime.groups, 1))
            changed = ops.reshape(kernels.pick(delta, offset), (rows, -1))
            after = self.step(reference + changed, carried[: len(states)], kept)
            if outputs is None:
                return (k + 1, *after)
            place = position if self.flip or not self.backwards else k
            where, output = (place * 0, place, place * 0), ops.expand_dims(ops.cast(after[0], outputs.dtype), 1)
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

    prepares_by_shape = True

    def __init__(self, directions: Sequence[Direction], merge: str = "concat"):
        self.directions, self.merge = directions, merge

    def prepare(self, tap, given: Given) -> dict[str, Tensor]:
        x, kept = tap(given.inputs[0]), {}
        for i, direction in enumerate(self.directions):
            kept.update({f"{i}.{k}": v for k, v in direction.prepare(x).items()})
        return kept

    def place(self, given: Given) -> Local:
        if len(given.shapes[0]) != 2:
            raise Refuse("its input has no positions")
        return Local(None, (DELTA,), WHOLE)

    def run(self, at: At):
        parts = []
        for i, direction in enumerate(self.directions):
            kept = {k.partition(".")[2]: v for k, v in at.prepared.items() if k.startswith(f"{i}.")}
            parts.append(direction.run(at, kept, self._known(at, direction, kept["state0"])))
        if len(parts) == 1:
            return parts[0]
        if self.merge == "concat":
            return ops.concatenate(parts, axis=-1)
        total = parts[0] * parts[1] if self.merge == "mul" else parts[0] + parts[1]
        return total / 2 if self.merge == "ave" else total

    def _known(self, at: At, direction: Direction, states: Tensor) -> Tensor | None:
        """(V, T, U) the reference's outputs, which are its first states."""
        if not direction.sequences:
            return None
        outputs = states[:, 1:]
        if direction.backwards and direction.flip:
            outputs = ops.flip(outputs, axis=1)
        runtime = at.runtime
        taken = ops.expand_dims(ops.take(outputs, runtime.sequence, axis=0), 1)
        return kernels.flat(ops.broadcast_to(taken, (runtime.groups, runtime.members, *taken.shape[2:])))

    def cost(self, given: Given) -> Cost:
        return Cost(sum(d.input_macs + d.state_macs for d in self.directions) * given.shapes[0][0])

    def work(self, given: Given) -> Ints | None:
        span, total = only(given.spans), np.zeros(len(given.windows[0].lo))
        for direction in self.directions:
            total += direction.state_macs * direction.steps(span.lo, span.hi, span.length)
            total += direction.input_macs * span.changed()
        return total


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
        if type(layer) not in _CELLS:
            raise Refuse(f"it wraps a {type(layer).__name__}")
        _single(layer)
    if call.op.merge_mode not in ("concat", "sum", "mul", "ave"):
        raise Refuse(f"its merge_mode is {call.op.merge_mode!r}")
    forward, backward = both
    if forward.go_backwards or not backward.go_backwards:
        raise Refuse("its layers read in unusual directions")
    return Lowered([Recurrent([Direction(forward, False, False), Direction(backward, True, True)], call.op.merge_mode)])
