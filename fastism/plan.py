"""Graph + rules -> frozen :class:`Plan`: which calls move windows, which run densely, what is cached, what it costs.

A tensor is in one of three states while a plan runs. *Reference*: the mutation cannot reach it. *Window*: it differs
from the reference within a window. *Dense*: it is computed whole for every mutant. Maximal runs of window steps are
the perturbed blocks, the rest are dense blocks; branches segment on their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fastism.calls import Call
from fastism.graph import Graph
from fastism.rules import lower
from fastism.rules.operations import register_operations
from fastism.rules.pointwise import Affine, Pointwise, casting
from fastism.rules.step import DELTA, VALUE, WHOLE, Given, Local, Refuse, Shape, Step
from fastism.turned import turned
from fastism.window import Ints, Span, edit_span, trimmed

REFERENCE, WINDOW, DENSE = "reference", "window", "dense"
#: How many times the products of the whole layer a window may take before the layer is computed whole instead.
DEARER = 3.0


@dataclass(frozen=True, eq=False)
class Wired:
    """A step with the tensors it connects.

    Attributes:
        call: Where it comes from.
        step: None where the call has no rule and must run whole.
        inputs, outputs: Tensor ids, aliases resolved.
        alone: Whether the step is the whole call, which then can be run in its place.
        reason: Why there is no step.
    """

    call: Call
    step: Step | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    alone: bool = True
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Planned:
    """A step with its state.

    Attributes:
        wired: The step and its tensors.
        state: ``"reference"``, ``"window"`` or ``"dense"``.
        given, local: What its rule was told and what it decided; None unless the state is ``"window"``.
        reason: Why it is dense.
        gap: Whether a window ends here that a rule could have carried on, had there been one.
    """

    wired: Wired
    state: str
    given: Given | None = None
    local: Local | None = None
    reason: str = ""
    gap: bool = False

    @cached_property
    def prepared_for(self) -> Hashable:
        """What the step's preparations depend on; None where there are none."""
        step = self.wired.step
        return None if self.state != WINDOW or step is None or self.given is None else step.prepared_for(self.given)


@dataclass(frozen=True, eq=False)
class Program:
    """A graph in steps, before it is known where an edit is. Made once per model.

    Attributes:
        graph: As read.
        mutated: Id of the mutated input.
        steps: In execution order.
        shapes: Shape of every tensor without batch axis, those between the steps of one call included.
        alias: Tensors that are another tensor at inference.
        stop: Names of layers that the user wants computed whole.
    """

    graph: Graph
    mutated: int
    steps: tuple[Wired, ...]
    shapes: Mapping[int, Shape]
    alias: Mapping[int, int]
    stop: tuple[str, ...] = ()

    def dtype(self, wired: Wired) -> str:
        """Dtype of what a step gives: its call's own."""
        return self.graph.tensors[wired.call.outputs[0]].dtype

    def find(self, tensor: int) -> int:
        """The tensor that ``tensor`` is at inference."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    @property
    def outputs(self) -> tuple[int, ...]:
        """Ids of the model's outputs, aliases resolved."""
        return tuple(self.find(t) for t in self.graph.outputs)

    def given(self, wired: Wired) -> Given:
        """What is known of a step before any edit: shapes alone."""
        return Given(
            inputs=wired.inputs,
            output=wired.outputs[0],
            shapes=tuple(self.shapes[t] for t in wired.inputs),
            out_shape=self.shapes[wired.outputs[0]],
            dtype=self.dtype(wired),
            spans=(None,) * len(wired.inputs),
            native=(None,) * len(wired.inputs),
            align=None,
            reach=0,
        )

    @cached_property
    def needed(self) -> Mapping[int, tuple[int, int]]:
        """``(start, end)`` of the positions of every tensor that some output depends on."""
        need: dict[int, tuple[int, int]] = {t: (0, _positions(self.shapes[t])) for t in self.outputs}
        for wired in reversed(self.steps):
            if wired.step is None or len(wired.outputs) != 1:
                reads = [(0, _positions(self.shapes[t])) for t in wired.inputs]
            else:
                given = self.given(wired)
                lo, hi = need.get(wired.outputs[0], (0, 0))
                reads = [wired.step.reads(i, lo, hi, given) if hi > lo else (0, 0) for i in range(len(wired.inputs))]
            for tensor, (lo, hi) in zip(wired.inputs, reads, strict=True):
                first, end = need.get(tensor, (lo, hi))
                if hi > lo:
                    need[tensor] = (min(first, lo), max(end, hi)) if end > first else (lo, hi)
                else:
                    need.setdefault(tensor, (0, 0))
        return need

    @cached_property
    def aligned(self) -> Mapping[int, tuple[int, int]]:
        """Tensors that only a strided step reads, in the end: the grid on which their windows should lie."""
        readers: dict[int, list[Wired]] = defaultdict(list)
        for wired in self.steps:
            for tensor in wired.inputs:
                readers[tensor].append(wired)
        outputs, wish = set(self.outputs), {}
        for wired in reversed(self.steps):
            tensor = wired.outputs[0]
            if len(readers[tensor]) != 1 or tensor in outputs:
                continue
            (reader,) = readers[tensor]
            wants = reader.step.wants() if reader.step is not None else None
            if wants is not None and wants[0] > 1:
                wish[tensor] = wants
            elif isinstance(reader.step, Pointwise | Affine) and reader.outputs[0] in wish:
                wish[tensor] = wish[reader.outputs[0]]
        return wish


def write_program(
    graph: Graph, mutated: int, stop: Collection[str] = (), closed: Mapping[str, str] | None = None
) -> Program:
    """Lower every call of a graph into steps.

    Args:
        graph: As read from the model.
        mutated: Id of the input that is mutated.
        stop: Names of layers to run densely whatever the rules say.
        closed: For calls that could not be looked into, why.
    """
    register_operations()
    graph = turned(graph)
    shapes: dict[int, Shape] = {t.id: tuple(n or 0 for n in t.shape) for t in graph.tensors}
    alias: dict[int, int] = {}
    steps: list[Wired] = []

    def find(tensor: int) -> int:
        while tensor in alias:
            tensor = alias[tensor]
        return tensor

    for call in graph.calls:
        try:
            if call.op.name in stop or call.name in stop:
                raise Refuse("named in early_stop_layers")
            lowered = lower(call, graph)
            chains = lowered.branches or [lowered.steps]
            if len(call.outputs) != len(chains):
                raise Refuse("it has several outputs")
        except Refuse as refusal:
            inputs = tuple(find(t) for t in call.inputs)
            note, reason = (closed or {}).get(call.name), str(refusal)
            if note and ("has no rule" in reason or "overrides" in reason):
                reason += f"; {note}"
            steps.append(Wired(call, None, inputs, call.outputs, reason=reason))
            continue
        first = tuple(find(t) for t in (call.inputs if lowered.inputs is None else lowered.inputs))
        for output, chain in zip(call.outputs, chains, strict=True):
            inputs, real = first, [s for s in chain if not s.alias]
            if not real and graph.tensors[inputs[0]].dtype != graph.tensors[output].dtype:
                real = [casting(graph.tensors[output].dtype)]  # does nothing, but in another precision
            if not real:
                alias[output] = inputs[0]
            for i, step in enumerate(real):
                last = i == len(real) - 1
                out = output if last else len(shapes)
                shapes.setdefault(out, shapes[output] if step.shape is None else step.shape)
                steps.append(Wired(call, step, inputs, (out,), alone=len(real) == len(chains) == 1))
                inputs = (out,)
    return Program(graph, mutated, tuple(steps), shapes, alias, tuple(stop))


def _positions(shape: Shape) -> int:
    return shape[0] if shape else 1


@dataclass(frozen=True, eq=False)
class Plan:
    """How to carry an edit of ``width`` positions through a model, exactly.

    Attributes:
        program: The model in steps.
        width: Positions in the edit window at the input.
        stretch: ``(first, end)`` of the S edit starts that it is for.
        reach: Largest distance of the edit starts in one chunk.
        steps: With their states.
        spans: Of every tensor in state window; arrays (S,) begin with edit start ``stretch[0]``.
        native: Form, ``"delta"`` or ``"value"``, in which each of these comes.
        dense: Tensors in state dense.
        reached: For every changed tensor, (S,) whether an edit at each start changes it at all.
        taps: Tensors whose reference is cached whole.
    """

    program: Program
    width: int
    stretch: tuple[int, int]
    reach: int
    steps: tuple[Planned, ...]
    spans: Mapping[int, Span]
    native: Mapping[int, str]
    dense: frozenset[int]
    reached: Mapping[int, Ints]
    taps: frozenset[int]

    @property
    def graph(self) -> Graph:
        """The model's graph."""
        return self.program.graph

    def slots(self, starts: Ints) -> Ints:
        """(slots, G) int32 window starts for edits at ``starts``."""
        return self.slot_table[:, starts - self.stretch[0]]

    @cached_property
    def slot_table(self) -> Ints:
        """(slots, S) int32 window starts for every edit start."""
        return np.stack(self._numbered[0]).astype(np.int32)

    @cached_property
    def slot_of(self) -> dict[int, tuple[int, int]]:
        """Row of the slot table and number to add, for each span, by id."""
        return self._numbered[1]

    @cached_property
    def _numbered(self) -> tuple[list[Ints], dict[int, tuple[int, int]]]:
        rows: dict[bytes, int] = {}
        tables: list[Ints] = []
        where: dict[int, tuple[int, int]] = {}
        spans = list(self.spans.values()) + [f for s in self.steps if s.local for f in s.local.frames]
        for span in spans:
            first = int(span.start[0])
            key = (span.start - first).tobytes()
            if key not in rows:
                rows[key] = len(tables)
                tables.append(span.start)
            row = rows[key]
            where[id(span)] = (row, first - int(tables[row][0]))
        return tables, where

    def with_reach(self, reach: int) -> Plan:
        """The same plan for chunks whose edits lie so near each other; where windows go does not depend on it."""
        steps = [replace(s, given=s.given and replace(s.given, reach=reach)) for s in self.steps]
        plan = replace(self, reach=reach, steps=tuple(steps))
        plan.__dict__["_numbered"], plan.__dict__["slot_table"] = self._numbered, self.slot_table
        return plan

    @property
    def gaps(self) -> list[Planned]:
        """The calls that a window reaches but no rule carries on, with reasons."""
        return [s for s in self.steps if s.gap]


def make_plan(program: Program, width: int, stretch: tuple[int, int] | None = None) -> Plan:
    """Decide the state of every step.

    Args:
        program: The model in steps.
        width: Positions in the edit window at the input.
        stretch: ``(first, end)`` of the edit starts to plan for; all by default.
    """
    maker = _Maker(program, width, stretch)
    for wired in program.steps:
        maker.add(wired)
    return maker.finish()


class _Maker:
    def __init__(self, program: Program, width: int, stretch: tuple[int, int] | None):
        length = program.shapes[program.mutated][0]
        self.program, self.width, self.reach = program, width, length
        self.stretch = stretch or (0, length - width + 1)
        self.span: dict[int, Span] = {program.mutated: edit_span(length, width, *self.stretch)}
        self.native: dict[int, str] = {program.mutated: DELTA}
        self.dense: set[int] = set()
        self.reached: dict[int, Ints] = {program.mutated: np.ones(len(self.span[program.mutated].start), bool)}
        self.taps: set[int] = set()
        self.origin: dict[int, str] = {}
        self.steps: list[Planned] = []

    def add(self, wired: Wired) -> None:
        changed = [t for t in wired.inputs if t in self.span or t in self.dense]
        if not changed:
            if any(self.program.graph.tensors[t].moved for t in wired.call.outputs):
                # rows of these belong to no sequence, so they are computed for every mutant
                self._dense(wired, np.zeros_like(self.reached[self.program.mutated]), "", gap=False)
            else:
                self.steps.append(Planned(wired, REFERENCE))
            return
        arrived = np.any([self.reached[t] for t in changed], axis=0)
        try:
            if not any(t in self.span for t in wired.inputs):
                raise _InputIsWhole(self._behind(changed[0]))
            if wired.step is None:
                raise Refuse(wired.reason)
            given = self._given(wired)
            self._check_numbers(wired)
            local = wired.step.place(given)
            if local.span is not None:
                local = replace(local, span=trimmed(local.span, given.need))
            if _dearer_than_whole(wired.step, given, local):
                raise Refuse("all of it changes, and pushing the change through takes more than computing it")
        except Refuse as refusal:
            self._dense(wired, arrived, str(refusal), gap=True)
        except _InputIsWhole as because:
            self._dense(wired, arrived, str(because), gap=False)
        else:
            self._window(wired, arrived, given, local)

    def _any_dense(self, wired: Wired) -> bool:
        return any(t in self.dense for t in wired.inputs)

    def _given(self, wired: Wired) -> Given:
        if self._any_dense(wired):
            whole = [t for t in wired.inputs if t in self.dense]
            raise _InputIsWhole(self._behind(whole[0]))
        out = wired.outputs[0]
        return replace(
            self.program.given(wired),
            spans=tuple(self.span.get(t) for t in wired.inputs),
            native=tuple(self.native[t] if t in self.span else None for t in wired.inputs),
            align=self.program.aligned.get(out),
            reach=self.reach,
            need=self.program.needed.get(out),
        )

    def _behind(self, tensor: int) -> str:
        """Why a step is dense whose input is: the call that gives it, and the one from which on all is whole."""
        near, first = self._producer(tensor), self.origin.get(tensor, "")
        since = f", as is all from {first} on" if first not in ("", near) else ""
        return f"its input is computed whole ({near}{since})"

    def _check_numbers(self, wired: Wired) -> None:
        """Refuse what does arithmetic with integers or booleans: their changes have no floats to be carried in."""
        kinds = {self.program.graph.tensors[t].dtype for t in (*wired.call.inputs, *wired.call.outputs)}
        if not isinstance(wired.step, Pointwise) and any("float" not in k for k in kinds):
            raise Refuse(f"its tensors are {' and '.join(sorted(kinds))}")

    def _producer(self, tensor: int) -> str:
        for planned in self.steps:
            if tensor in planned.wired.outputs:
                return planned.wired.call.name
        return "input"

    def _window(self, wired: Wired, arrived: Ints, given: Given, local: Local) -> None:
        (out,) = wired.outputs
        for tensor, use in zip(given.inputs, local.uses, strict=True):
            if use == VALUE and self.native[tensor] == DELTA:
                self.taps.add(tensor)
        self.taps.update(local.taps)
        if local.gives == WHOLE:
            self.origin[out] = wired.call.name
            self.dense.add(out)
            self.reached[out] = arrived
        elif local.span is not None:
            self.span[out] = local.span
            self.native[out] = local.gives
            self.reached[out] = local.span.hi > local.span.lo
        self.steps.append(Planned(wired, WINDOW, given, local))

    def _dense(self, wired: Wired, arrived: Ints, reason: str, *, gap: bool) -> None:
        self.taps.update(t for t in wired.inputs if t not in self.dense)
        behind = [self.origin[t] for t in wired.inputs if t in self.origin]
        for out in wired.outputs:
            self.origin[out] = behind[0] if behind and not gap else wired.call.name
            self.dense.add(out)
            self.reached[out] = arrived
        self.steps.append(Planned(wired, DENSE, reason=reason, gap=gap))

    def finish(self) -> Plan:
        return Plan(
            program=self.program,
            width=self.width,
            stretch=self.stretch,
            reach=self.reach,
            steps=tuple(self.steps),
            spans=self.span,
            native=self.native,
            dense=frozenset(self.dense),
            reached=self.reached,
            taps=frozenset(self.taps),
        )


def _dearer_than_whole(step: Step, given: Given, local: Local) -> bool:
    """Whether the window is the whole output and takes clearly more products than the layer itself.

    So it is with few outputs of a long kernel. Where it takes as many, the window is the faster way: see
    docs/performance.md.
    """
    if local.span is None or local.span.width < given.out_shape[0]:
        return False
    cost = step.cost(given)
    return cost.per_input * max(s.width for s in given.windows) > DEARER * cost.full > 0


class _InputIsWhole(Exception):
    """A step runs densely because its input does, not for want of a rule."""
