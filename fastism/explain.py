"""What a plan does to each call, and what it saves: a table, and rows to compute with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from fastism.calls import Call
from fastism.plan import DENSE, REFERENCE, WINDOW, Plan, Planned, Wired
from fastism.rules.step import WHOLE, Cost, Given, Step
from fastism.window import Ints


@dataclass(frozen=True)
class Row:
    """What happens to one call when one edit is made.

    Attributes:
        call: Name of the call.
        kind: Class of the layer or operation.
        state: ``"window"``: only a window of the output is computed. ``"dense"``: all of it may change and is computed,
            by the layer itself or from the window alone; :attr:`reason` says which. ``"reference"``: the edit does not
            reach it.
        changed: Output positions that can differ from the reference.
        length: Output positions in all.
        span: ``(start, end)`` of the changed positions; None in the worst case over all edits.
        inputs: Positions of the call's input that the changed outputs are a function of: changed ones and flanks.
        source: ``(start, end)`` of these, None in the worst case over all edits.
        naive: Multiply-accumulates of the whole call.
        minimal: Of the changed outputs, each with all its inputs; of the whole call where the state is dense.
        plan: Of what this plan computes, per mutant.
        reason: Why the call is dense; empty otherwise.
        reads: The calls whose outputs it reads; ``"input"`` for the mutated input.
    """

    call: str
    kind: str
    state: str
    changed: int
    length: int
    span: tuple[int, int] | None
    inputs: int
    source: tuple[int, int] | None
    naive: float
    minimal: float
    plan: float
    reason: str = ""
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """A plan in rows. Prints as a table.

    Attributes:
        rows: One for each call, in execution order.
        position: Of the edit; None for the worst case over all positions.
        width: Positions that are edited.
        length: Positions of the input.
        ideal: Least that pushing the change through needs, averaged over all edits: the products of changed inputs with
            the outputs that read them and that anything reads in turn.
        chunk: Mutants that are computed at once.
        mode: How they run: ``"eager"`` or ``"xla"``.
        memory: Bytes that these take, about.
    """

    rows: tuple[Row, ...]
    position: int | None
    width: int
    length: int
    ideal: float
    chunk: int = 0
    mode: str = ""
    memory: int = 0

    @property
    def naive(self) -> float:
        """Multiply-accumulates of the whole model."""
        return math.fsum(r.naive for r in self.rows)

    @property
    def minimal(self) -> float:
        """Multiply-accumulates of the changed outputs."""
        return math.fsum(r.minimal for r in self.rows)

    @property
    def plan(self) -> float:
        """Multiply-accumulates that the plan performs."""
        return math.fsum(r.plan for r in self.rows)

    @property
    def ideal_speedup(self) -> float:
        """Naive over ideal: how many times faster a machine could be that only multiplies and accumulates."""
        return self.naive / self.ideal if self.ideal else math.inf

    def row(self, call: str) -> Row:
        """The row of a call.

        Raises:
            KeyError: If there is no such call; the message lists them.
        """
        for row in self.rows:
            if row.call == call:
                return row
        raise KeyError(f"no call {call!r}; the calls are {[r.call for r in self.rows]}")

    def __str__(self) -> str:
        head = ("call", "layer", "state", "changed", "of", "from", "naive", "minimal", "plan", "")
        body = [
            (
                r.call,
                r.kind,
                r.state,
                f"{r.changed}",
                f"{r.length}",
                f"{r.inputs}" if r.changed else "",
                *(human(v) for v in (r.naive, r.minimal, r.plan)),
                r.reason,
            )
            for r in self.rows
        ]
        total = ("total", "", "", "", "", "", *(human(v) for v in (self.naive, self.minimal, self.plan)), "")
        widths = [max(len(line[i]) for line in (head, *body, total)) for i in range(len(head))]

        def show(line: Sequence[str]) -> str:
            cells = [
                c.rjust(w) if 3 <= i <= 8 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        rule = "-" * min(sum(widths[:-1]) + 2 * (len(widths) - 1), 140)
        where = f"position {self.position}" if self.position is not None else "any position (the worst case)"
        what = f"One edit of {self.width} position{'s' * (self.width > 1)} at {where}."
        last = (
            f"Multiply-accumulates per mutant: naive {human(self.naive)}, this plan {human(self.plan)}; ideal "
            f"{human(self.ideal)}, averaged over all edits. Ideal speed-up {self.ideal_speedup:.3g}x."
        )
        how = f"{self.chunk} mutants at once, {self.mode}, in about {human(self.memory)}B." if self.chunk else ""
        return "\n".join([what, show(head), rule, *map(show, body), rule, show(total), last, how]).rstrip()

    __repr__ = __str__


def explain(plan: Plan, position: int | None = None, *, chunk: int = 0, mode: str = "", memory: int = 0) -> Explanation:
    """Say what a plan does for an edit at ``position``, or at the worst position for each call."""
    by_call: dict[int, list[Planned]] = {}
    for planned in plan.steps:
        by_call.setdefault(planned.wired.call.index, []).append(planned)
    rows, ideal = [], 0.0
    for call in plan.graph.calls:
        counts = _Counts(plan, call, by_call.get(call.index, []))
        rows.append(counts.row(position))
        ideal += float(np.mean(counts.ideal))
    length = plan.spans[plan.program.mutated].length
    return Explanation(tuple(rows), position, plan.width, length, ideal, chunk, mode, memory)


class _Counts:
    """All numbers of one call, for every edit start at once."""

    def __init__(self, plan: Plan, call: Call, steps: Sequence[Planned]):
        self.plan, self.call, self.steps = plan, call, steps
        self.find = plan.program.find
        self.out = self.find(call.outputs[0])
        self.starts = len(plan.spans[plan.program.mutated].start)
        self.shape = plan.program.shapes[self.out]
        self.length = self.shape[0] if self.shape else 1
        self.state, self.reason = self._state()
        self.lo, self.hi = self._changed()
        self.from_lo, self.from_hi = self._source()
        self.naive = math.fsum(_cost(plan, s.wired).full for s in steps)
        self.minimal, self.performed, self.ideal = self._work()

    def _state(self) -> tuple[str, str]:
        if self.out not in self.plan.reached:
            return REFERENCE, ""
        if self.out in self.plan.spans:
            return WINDOW, ""
        for planned in self.steps:
            if planned.state == DENSE:
                return DENSE, planned.reason
            if planned.local is not None and planned.local.gives == WHOLE:
                return DENSE, "all of it changes; computed from the window alone"
        made_by = {t: c.name for c in self.plan.graph.calls for t in c.outputs}
        return DENSE, f"its input is computed whole ({made_by.get(self.out, 'input')})"

    def _changed(self) -> tuple[Ints, Ints]:
        zero = np.zeros(self.starts, dtype=np.int64)
        if self.state == REFERENCE:
            return zero, zero
        if self.state == WINDOW:
            span = self.plan.spans[self.out]
            return span.lo, span.hi
        return zero, np.where(self.plan.reached[self.out], self.length, 0)

    def _source(self) -> tuple[Ints, Ints]:
        """The positions of the call's changed inputs that the changed outputs are a function of."""
        length = self._input_length()
        lo, hi = self.lo, self.hi
        if self.state == DENSE:
            return np.zeros_like(lo), np.where(hi > lo, length, 0)
        for planned in reversed(self.steps):
            if planned.wired.step is not None and planned.given is not None:
                first, end = planned.wired.step.backward(lo, hi, planned.given)
                lo, hi = first, np.where(hi > lo, end, first)
        return np.clip(lo, 0, length), np.clip(hi, 0, length)

    def _input_length(self) -> int:
        inputs = [self.find(t) for t in self.call.inputs]
        shapes = [self.plan.program.shapes[t] for t in inputs if t in self.plan.reached]
        return max((s[0] for s in shapes if s), default=1)

    def _work(self) -> tuple[Ints, Ints, Ints]:
        """(minimal, performed, ideal) multiply-accumulates for every edit start."""
        minimal, performed, ideal = (np.zeros(self.starts) for _ in range(3))
        for planned in self.steps:
            cost = _cost(self.plan, planned.wired)
            reached = self.plan.reached.get(planned.wired.outputs[0])
            if reached is None:
                continue
            if planned.state == DENSE or planned.given is None or planned.local is None:
                minimal += np.where(reached, cost.full, 0)
                ideal += np.where(reached, cost.full, 0)
                performed += cost.full
                continue
            work = planned.wired.step.work(planned.given) if planned.wired.step is not None else None
            if work is not None:
                minimal, performed, ideal = minimal + work, performed + work, ideal + work
                continue
            into = planned.given.windows
            ideal += _least(cost, planned.wired.step, planned.given)
            performed += cost.per_input * max(s.width for s in into)
            if planned.local.span is None:
                minimal += np.where(reached, cost.full, 0)
            else:
                minimal += cost.per_output * planned.local.span.changed()
        return minimal, performed, ideal

    def row(self, position: int | None) -> Row:
        """The numbers at a position, or the largest over all."""

        def pick(values: Ints) -> float:
            return float(values.max() if position is None else values[position])

        def interval(lo: Ints, hi: Ints) -> tuple[int, int] | None:
            return None if position is None else (int(lo[position]), int(hi[position]))

        return Row(
            call=self.call.name,
            kind=self.call.kind,
            state=self.state,
            changed=int(pick(self.hi - self.lo)),
            length=self.length,
            span=interval(self.lo, self.hi),
            inputs=int(pick(self.from_hi - self.from_lo)),
            source=interval(self.from_lo, self.from_hi),
            naive=self.naive,
            minimal=pick(self.minimal),
            plan=pick(self.performed),
            reason=self.reason,
            reads=self._reads(),
        )

    def _reads(self) -> tuple[str, ...]:
        made_by = {t: c.name for c in self.plan.graph.calls for t in c.outputs}
        made_by[self.plan.program.mutated] = "input"
        return tuple(made_by[t] for t in self.call.inputs if t in made_by)


def _least(cost: Cost, step: Step | None, given: Given) -> Ints:
    """(S,) the products of what changes with what reads it."""
    readers = step.readers(given) if step is not None else None
    if readers is None:
        return cost.per_input * np.max([s.changed() for s in given.windows], axis=0)
    (span,) = given.windows
    before = np.concatenate([[0], np.cumsum(readers)])
    return cost.per_pair * (before[span.hi] - before[span.lo])


def _cost(plan: Plan, wired: Wired) -> Cost:
    """Multiply-accumulates of a step; of a call without a rule, estimated from its weights."""
    shapes = plan.program.shapes
    if wired.step is not None:
        return wired.step.cost(plan.program.given(wired))
    return Cost(_estimate(wired.call, [shapes[t] for t in wired.inputs], [shapes[t] for t in wired.outputs]))


def _estimate(call: Call, inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]) -> float:
    """Multiply-accumulates of a call without a rule: its matrices times its positions, and products of activations."""
    if isinstance(call.op, layers.MultiHeadAttention):
        op, (query, *rest) = call.op, inputs
        value = rest[0] if rest else query
        maps = op.num_heads * (op.key_dim + (op.value_dim or op.key_dim)) * query[0] * value[0]
        return _of_weights(call.op, query[0]) + maps
    if not isinstance(call.op, keras.Layer):
        if type(call.op).__name__ == "Matmul":
            return float(math.prod(outputs[0]) * inputs[0][-1])
        if type(call.op).__name__ == "DotProductAttention":
            (queries, heads, size), (keys, _, _), (_, _, value) = inputs[0], inputs[1], inputs[-1]
            return float(queries * keys * heads * (size + value))
        if len(inputs) == 2 and type(call.op).__name__ == "Einsum":
            return _of_einsum(call.op.subscripts, inputs)
        return 0.0
    return _of_weights(call.op, max((s[0] for s in inputs if len(s) > 1), default=1))


def _of_weights(layer: Any, positions: int) -> float:
    matrices = [w for w in layer.weights if len(w.shape) >= 2 and "bias" not in w.name]
    return float(sum(math.prod(w.shape) for w in matrices) * positions)


def _of_einsum(subscripts: str, inputs: Sequence[tuple[int, ...]]) -> float:
    terms = subscripts.replace(" ", "").partition("->")[0].split(",")
    if "." in subscripts or any(len(t) != 1 + len(s) for t, s in zip(terms, inputs, strict=True)):
        return 0.0
    sizes = {c: n for t, s in zip(terms, inputs, strict=True) for c, n in zip(t[1:], s, strict=True)}
    return float(math.prod(sizes.values()))


def human(value: float) -> str:
    """A count with a metric prefix: ``12.3 M``."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g}" if value else "0"
