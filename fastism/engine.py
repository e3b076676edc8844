"""Runs a plan: reference cache, chunks of variants, results. Knows no layer type."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from fastism import backend, sizes
from fastism.graph import keras_mask
from fastism.mutations import Edits, Groups, group
from fastism.plan import DENSE, WINDOW, Plan, Planned, Program, Wired, make_plan
from fastism.rules.step import At
from fastism.runtime import Runtime, Window
from fastism.tuning import Tuner

Tensor = Any

#: Variants in a chunk: at most, and the fewest that are tried where any number may be chosen.
MOST_VARIANTS, LEAST_VARIANTS = 2048, 6
#: Chunks that TensorFlow runs op by op sooner than it compiles them.
FEW = 4


@dataclass(frozen=True)
class Shape:
    """The static sizes for which a chunk function is compiled."""

    sequences: int
    groups: int
    members: int
    width: int
    reach: int


@dataclass(frozen=True, eq=False)
class _Setting:
    """How the next chunks run: their size in variants, and the cache that their plan asks for."""

    size: int
    shape: Shape
    plan: Plan
    cache: Any


class Engine:
    """Runs edits of sequences through a model by windows of change.

    Args:
        program: The model in steps.
        batch_size: Variants in a chunk, or ``"auto"``.
        jit: True, False or ``"auto"``.
        memory: Bytes that references and chunks may take, or ``"auto"``.

    Attributes:
        most_sequences, most_variants: How many at once are known to fit into memory, where more were found not to.
    """

    def __init__(
        self,
        program: Program,
        *,
        batch_size: int | str = "auto",
        jit: bool | str = "auto",
        memory: int | str = "auto",
    ):
        self.program, self.batch_size, self.jit = program, batch_size, jit
        self.memory = sizes.automatic() if memory == "auto" else int(memory)
        self.most_sequences: int | None = None
        self.most_variants: dict[int, int] = {}
        self._tuners: dict[int, Tuner] = {}
        self._few: Counter[Shape] = Counter()
        self._plans: dict[tuple[int, int | None], Plan] = {}
        self._chunks: dict[Shape, Callable[..., Any]] = {}
        self._references: dict[tuple[int, Shape], Callable[..., Any]] = {}

    def plan(self, width: int, reach: int | None = None) -> Plan:
        """The plan for edits of a width, made once."""
        key = (width, reach)
        if key not in self._plans:
            plan = make_plan(self.program, width) if reach is None else self.plan(width).with_reach(reach)
            self._plans[key] = plan
        return self._plans[key]

    def run(
        self,
        inputs: Sequence[np.ndarray],
        edits: Edits,
        results: Callable[[int, list[np.ndarray]], list[np.ndarray]],
        progress: Callable[[int], Any] | None = None,
        *,
        compact: bool = False,
    ) -> None:
        """Predict every edit.

        Args:
            inputs: One array (N, ...) for each of the model's inputs.
            edits: What is changed in the mutated one.
            results: Called with the number of sequences done and the reference outputs (n, *output) of the next n;
                gives the arrays, (cells, *output) over all sequences, already holding the reference, to write into.
            progress: Called with the number of variants done since the last call.
            compact: The arrays hold windows of :meth:`window` only, for outputs of which a window changes.
        """
        n, first = len(inputs[0]), 0
        while first < n:
            batch = self._sequences_at_once(n, edits.width)
            end = min(first + batch, n)
            part = edits.of_sequences(first, end)
            taken, groups = [_padded(x[first:end], batch) for x in inputs], group(part)
            try:
                size = self._proposed(groups, 0, edits.width)
                setting, references = self._setting(taken, groups, edits.width, size)
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                if batch == 1:
                    raise MemoryError(_too_large("Predicting one sequence", self.memory)) from error
                self.most_sequences = batch // 2
                continue
            out = results(first, [backend.to_numpy(r)[: end - first] for r in references])
            if len(part):
                self._run_batch(taken, part, groups, setting, out, progress, compact)
            first = end

    def _setting(self, inputs, groups: Groups, width: int, size: int) -> tuple[_Setting, Any]:
        """How to run the edits of these groups in chunks of a size, with the reference outputs."""
        shape = self._shape(len(inputs[0]), groups, width, size)
        plan = self.plan(width, shape.reach)
        tensors = [ops.convert_to_tensor(x, dtype=d) for x, d in zip(inputs, self._dtypes(), strict=True)]
        cache, references = self._reference_function(plan, shape)(tensors)
        return _Setting(size, shape, plan, cache), references

    def _resized(self, setting: _Setting, size: int, inputs, groups: Groups) -> _Setting:
        """The same for chunks of another size; cached anew only if that makes another plan."""
        width = setting.shape.width
        shape = self._shape(len(inputs[0]), groups, width, size)
        if self.plan(width, shape.reach) is setting.plan:
            return _Setting(size, shape, setting.plan, setting.cache)
        setting.cache.clear()  # before the new one comes
        return self._setting(inputs, groups, width, size)[0]

    def _proposed(self, groups: Groups, begin: int, width: int) -> int:
        """Variants in the chunk that begins with group ``begin``."""
        if self.batch_size != "auto":
            return self.variants_in_chunk(width)
        return self._tuner(width).propose(int((groups.edit[begin:] >= 0).sum()))

    def _run_batch(self, inputs, edits: Edits, groups: Groups, setting: _Setting, out, progress, compact: bool) -> None:
        begin = 0
        mutated = inputs[self.program.graph.inputs.index(self.program.mutated)]
        while begin < len(groups):
            size = self._proposed(groups, begin, edits.width)
            if size != setting.size:
                setting = self._resized(setting, size, inputs, groups)
            plan, shape = setting.plan, setting.shape
            run = self._chunk_function(plan, shape, -(-(len(groups) - begin) // shape.groups))
            rows = np.minimum(np.arange(begin, begin + shape.groups), len(groups) - 1)
            edit = np.where((np.arange(begin, begin + shape.groups) < len(groups))[:, None], groups.edit[rows], -1)
            sequence, start = groups.sequence[rows], groups.start[rows]
            began = time.perf_counter()
            delta = _deltas(mutated, edits, sequence, start, edit)
            slots = plan.slot_table[:, start]
            try:
                answers = [backend.to_numpy(a) for a in run(setting.cache, sequence.astype(np.int32), slots, delta)]
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                self._back_off(shape, error)
                continue
            self._write(plan, answers, edit, start, edits, out, compact)
            begin += shape.groups
            done = int((edit >= 0).sum())
            if self.batch_size == "auto" and shape in self._chunks and done > edit.size // 2:
                self._tuner(edits.width).note(size, done, time.perf_counter() - began)
            if progress is not None:
                progress(done)

    def _back_off(self, shape: Shape, error: Exception) -> None:
        """Take chunks of half the size, after one did not fit into memory; what is done stays done."""
        if shape.groups == 1:
            raise MemoryError(_too_large(f"A chunk of {shape.members} mutants", self.memory)) from error
        most = self._free(shape.groups // 2, shape.members, most=shape.groups - 1) * shape.members
        self.most_variants[shape.width] = most
        self._tuner(shape.width).limit(most)

    def _tuner(self, width: int) -> Tuner:
        """What chooses the size of chunks for edits of a width."""
        if width not in self._tuners:
            self._tuners[width] = Tuner(*self._sizes(width))
        return self._tuners[width]

    def _dtypes(self) -> list[str]:
        graph = self.program.graph
        return [graph.tensors[t].dtype for t in graph.inputs]

    # ------------------------------------------------------------------ sizes

    def _sequences_at_once(self, n: int, width: int) -> int:
        """A power of two of sequences whose cached activations fit into the budget."""
        most = max(1, int(sizes.CACHE_SHARE * self.memory) // sizes.cached_bytes(self.plan(width)))
        most = min(most, self.most_sequences or most)
        return min(_power_of_two_above(n), _power_of_two_above(most + 1) // 2 if most > 1 else 1)

    def _shape(self, sequences: int, groups: Groups, width: int, variants: int) -> Shape:
        members = groups.members
        count = self._free(max(1, min(variants // members, _power_of_two_above(max(len(groups), 1)))), members)
        starts = groups.start
        ends = np.minimum(np.arange(len(starts)) + count, len(starts)) - 1  # a chunk may begin anywhere
        spread = int((starts[ends] - starts).max()) if len(starts) else 0
        length = self.program.shapes[self.program.mutated][0]
        reach = min(_power_of_two_above(spread + 1), length)
        return Shape(sequences, count, members, width, reach)

    def _free(self, groups: int, members: int, most: int | None = None) -> int:
        """A number of groups near ``groups`` for which neither it nor the number of variants is the size of an axis.

        TensorFlow's Keras takes an addend whose only long axis is as long as the channels for a bias.
        """
        axes = {n for shape in self.program.shapes.values() for n in shape} | {1}
        near = (g for d in range(groups + max(axes)) for g in (groups - d, groups + d) if 0 < g <= (most or g))
        return next((g for g in near if g not in axes - {1} and g * members not in axes), groups)

    def variants_in_chunk(self, width: int) -> int:
        """How many variants make a chunk: as many as asked for, or as many as were fastest so far."""
        if self.batch_size == "auto":
            return self._tuner(width).best
        return min(int(self.batch_size), self.most_variants.get(width, int(self.batch_size)))

    def _sizes(self, width: int) -> tuple[int, int, int]:
        """How many variants to begin with: within the budget and, on a CPU, the processor's cache. Least and most."""
        plan = self.plan(width)
        most = max(1, min(int(sizes.CHUNK_SHARE * self.memory) // sizes.variant_bytes(plan), MOST_VARIANTS))
        start = most
        if backend.free_device_memory() is None:
            # op by op, small chunks lose more in calls than they gain in cache; JAX asks for all its memory at once
            cache = sizes.CHUNK_BYTES * (2 if self.mode == backend.EAGER else 1)
            start = max(cache // sizes.largest_window(plan), 12 if backend.name() == "jax" else 24)
        return min(start, most), min(LEAST_VARIANTS, most), most

    @property
    def mode(self) -> str:
        """How chunks run: ``"eager"`` or ``"xla"``."""
        return backend.choose_mode(self.jit)

    # ------------------------------------------------------------------ compiled functions

    def _reference_function(self, plan: Plan, shape: Shape) -> Callable[..., Any]:
        key = (id(plan), shape)
        if key not in self._references:
            fn, graph = reference_function(plan), self.program.graph
            if backend.name() == "tensorflow":  # runs once a batch: not worth the longer compilation of XLA
                shapes = [graph.shape(t) for t in graph.inputs]
                self._references[key] = backend.any_batch(fn, shapes, self._dtypes())
            else:
                self._references[key] = backend.compile_function(fn, graph.variables, self.mode)
        return self._references[key]

    def _chunk_function(self, plan: Plan, shape: Shape, chunks: int) -> Callable[..., Any]:
        """What runs the next ``chunks`` chunks of a shape: compiled, unless there are and were few on TensorFlow."""
        if shape not in self._chunks:
            fn = chunk_function(plan, shape.groups, shape.members)
            patient = self.jit == "auto" and self.mode == backend.XLA and backend.name() == "tensorflow"
            if patient and self._few[shape] + chunks <= FEW:
                self._few[shape] += 1
                return fn
            self._chunks[shape] = backend.compile_function(fn, self.program.graph.variables, self.mode)
        return self._chunks[shape]

    # ------------------------------------------------------------------ results

    def window(self, width: int, output: int) -> tuple[np.ndarray, int] | None:
        """For every place of an edit, where the window of output number ``output`` begins, and its positions.

        None where the whole output changes. The window lies within the output.
        """
        plan, tensor = self.plan(width), self.program.outputs[output]
        if tensor not in plan.spans:
            return None
        span = plan.spans[tensor]
        size = min(span.width, span.length)
        return np.clip(span.start, 0, span.length - size).astype(np.int64), size

    def _write(self, plan: Plan, answers, edit, start, edits: Edits, out: list[np.ndarray], compact: bool) -> None:
        """Put a chunk's answers into the results, at the positions that can differ from the reference only."""
        member = edit.ravel()
        starts = np.repeat(start, edit.shape[1])
        for i, (tensor, answer, target) in enumerate(zip(self.program.outputs, answers, out, strict=True)):
            if tensor not in plan.reached:
                continue
            keep = np.flatnonzero((member >= 0) & plan.reached[tensor][starts])
            if not len(keep):
                continue
            cells = edits.cell[member[keep]]
            values = answer[keep]
            if tensor in plan.dense:
                target[cells] = values
                continue
            span, at = plan.spans[tensor], starts[keep]
            where = span.start[at][:, None] + np.arange(span.width)  # (V, W)
            changed = (where >= span.lo[at][:, None]) & (where < span.hi[at][:, None])
            row, column = np.nonzero(changed)
            place = where[row, column]
            begin = self.window(plan.width, i) if compact else None
            if begin is not None:
                place = place - begin[0][at[row]]
            there = (cells[row], place)
            wide = np.int64 if target.dtype.kind in "iub" else target.dtype
            target[there] = (target[there].astype(wide) + values[row, column].astype(wide)).astype(target.dtype)


def evaluate(wired: Wired, program: Program, whole: Callable[[int], Tensor]) -> dict[int, Tensor]:
    """Run a step on whole tensors, as the model itself would."""
    if wired.alone or wired.step is None:
        values = wired.call.evaluate([whole(program.find(t)) for t in wired.call.inputs])
        return dict(zip(wired.outputs, values, strict=True))
    return {wired.outputs[0]: wired.step.evaluate(*[whole(t) for t in wired.inputs])}


def reference_function(plan: Plan, taps: Collection[int] | None = None) -> Callable[..., Any]:
    """A function of the model's inputs: (cache, outputs) of the reference sequences.

    ``taps`` are the tensors to cache, those that the plan needs by default.
    """

    def reference(inputs):
        values = dict(zip(plan.graph.inputs, inputs, strict=True))
        masks = {}  # as they are when a call comes: some layers take them off their inputs
        for i, planned in enumerate(plan.steps):
            if planned.state == DENSE:
                read = {plan.program.find(t) for t in planned.wired.call.inputs}
                masks.update({f"mask:{i}:{t}": keras_mask(values[t]) for t in read})
            found = evaluate(planned.wired, plan.program, values.__getitem__)
            values.update((t, backend.with_shape(value, plan.program.shapes[t])) for t, value in found.items())
        cache = {}
        for t in plan.taps if taps is None else taps:
            cache[str(t)] = _every_row(values[t], inputs[0])
        cache.update({name: mask for name, mask in masks.items() if mask is not None})
        for i, planned in enumerate(plan.steps):
            step = planned.wired.step
            if planned.state == WINDOW and step is not None and planned.given is not None:
                for name, array in step.prepare(values.__getitem__, planned.given).items():
                    cache[f"{i}:{name}"] = array
        return cache, [_every_row(values[t], inputs[0]) for t in plan.program.outputs]

    return reference


def _every_row(value: Tensor, like: Tensor) -> Tensor:
    """A value that a layer made without a batch axis of its own, repeated for every sequence."""
    if value.shape[0] != 1 or like.shape[0] == 1:
        return value
    return ops.broadcast_to(value, (ops.shape(like)[0], *value.shape[1:]))


def chunk_function(plan: Plan, groups: int, members: int) -> Callable[..., Any]:
    """A function of (cache, sequence, slots, delta) that gives each output for every variant of a chunk.

    Outputs in state window come as (V, W, ...) deltas, dense ones as (V, ...) values, others as None.
    """

    def chunk(cache, sequence, slots, delta):
        states = trace(plan, cache, sequence, slots, delta, groups, members)
        answers = []
        for tensor in plan.program.outputs:
            state = states.get(tensor)
            if isinstance(state, Window):
                g, m, *rest = state.delta.shape
                answers.append(ops.reshape(state.delta, (g * m, *rest)))
            else:
                answers.append(ops.zeros((1,)) if state is None else state)
        return answers

    return chunk


def trace(plan: Plan, cache, sequence, slots, delta, groups: int, members: int) -> dict[int, Any]:
    """Run a plan's changed steps: every changed tensor as a :class:`Window` or as whole values (V, ...)."""
    program = plan.program
    runtime = Runtime(
        cache={int(k): v for k, v in cache.items() if ":" not in k},
        masks={k.removeprefix("mask:"): v for k, v in cache.items() if k.startswith("mask:")},
        sequence=ops.convert_to_tensor(sequence, dtype="int32"),
        slots=ops.convert_to_tensor(slots, dtype="int32"),
        slot_of=plan.slot_of,
        groups=groups,
        members=members,
    )
    delta = ops.convert_to_tensor(delta)
    states: dict[int, Any] = {
        program.mutated: Window(runtime, program.mutated, plan.spans[program.mutated], delta=delta)
    }

    def whole(step: int, tensor: int) -> Tensor:
        state = states.get(tensor)
        if state is None:
            return runtime.repeat(tensor, f"{step}:{tensor}")
        return state.whole() if isinstance(state, Window) else state

    for i, planned in enumerate(plan.steps):
        if planned.state == WINDOW:
            prefix = f"{i}:"
            prepared = {k[len(prefix) :]: v for k, v in cache.items() if k.startswith(prefix)}
            states[planned.wired.outputs[0]] = _run_window(planned, runtime, states, prepared)
        elif planned.state == DENSE:
            states.update(evaluate(planned.wired, program, functools.partial(whole, i)))
    return states


def _run_window(planned: Planned, runtime: Runtime, states, prepared) -> Any:
    given, local, step = planned.given, planned.local, planned.wired.step
    if given is None or local is None or step is None:
        raise RuntimeError(f"step of {planned.wired.call.name!r} has no plan")
    windows = tuple(states.get(t) for t in given.inputs)
    out = step.run(At(runtime, given, local, windows, prepared))
    return out if isinstance(out, Window) else ops.cast(out, given.dtype)


def _deltas(x: np.ndarray, edits: Edits, sequence, start, edit) -> np.ndarray:
    """(G, M, width, C) mutant - reference at the input; zeros where a group has no member."""
    window = start[:, None] + np.arange(edits.width)
    reference = edits.letters(x[sequence[:, None], window])  # (G, width, A)
    written = edits.contents[edits.content[np.maximum(edit, 0)]]  # (G, M, width, A)
    delta = written - reference[:, None]
    delta[edit < 0] = 0
    return np.ascontiguousarray(edits.among(delta, x.shape[2]))


def _padded(x: np.ndarray, n: int) -> np.ndarray:
    """``x`` with its last row repeated up to ``n`` rows."""
    return x if len(x) == n else np.concatenate([x, np.repeat(x[-1:], n - len(x), axis=0)])


def _too_large(what: str, memory: int) -> str:
    return (
        f"{what} does not fit into memory (the budget is {memory / 1e9:.3g} GB). Free memory, use a shorter sequence, "
        "or change fewer positions at once."
    )


def _power_of_two_above(n: int) -> int:
    return 1 << max(0, int(n - 1).bit_length())
