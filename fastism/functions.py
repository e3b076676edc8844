"""The two functions that a plan becomes: the reference pass, and a chunk of variants. Knows no layer type."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from fastism import backend, kernels
from fastism.calls import keras_mask
from fastism.plan import DENSE, WINDOW, Plan, Planned, Program, Wired
from fastism.rules.step import At
from fastism.runtime import Runtime, Window

Tensor = Any


def evaluate(wired: Wired, program: Program, whole: Callable[[int], Tensor]) -> dict[int, Tensor]:
    """Run a step on whole tensors, as the model itself would."""
    if wired.alone or wired.step is None:
        values = wired.call.evaluate([whole(program.find(t)) for t in wired.call.inputs])
        return dict(zip(wired.outputs, values, strict=True))
    return {wired.outputs[0]: wired.step.evaluate(*[whole(t) for t in wired.inputs])}


@dataclass(frozen=True)
class Cache:
    """What the reference pass leaves for the chunks of one plan. Tensors by name, for compiled functions to take.

    Attributes:
        taps: Reference activations (N, ...) by tensor id.
        masks: Keras masks (N, ...) that a step's inputs had, by "step:tensor".
        prepared: What steps prepared, by "step:name".
    """

    taps: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    prepared: Mapping[str, Tensor]


def reference_function(plans: Sequence[Plan], taps: Collection[int] | None = None) -> Callable[..., Any]:
    """A function of the model's inputs: (taps, masks, prepared of each plan), and outputs of the reference sequences.

    Args:
        plans: Of one program.
        taps: The tensors to cache, those that the plans need by default.
    """
    program = plans[0].program
    wanted = set().union(*[plan.taps for plan in plans]) if taps is None else taps
    own = [[i for i, by in enumerate(preparers) if by == k] for k, preparers in enumerate(_preparers(plans))]
    dense = [any(plan.steps[i].state == DENSE for plan in plans) for i in range(len(program.steps))]

    def reference(inputs):
        values = dict(zip(program.graph.inputs, inputs, strict=True))
        masks = {}  # as they are when a call comes: some layers take them off their inputs
        for i, wired in enumerate(program.steps):
            if dense[i]:
                read = {program.find(t) for t in wired.call.inputs}
                masks.update({f"{i}:{t}": keras_mask(values[t]) for t in read})
            found = evaluate(wired, program, values.__getitem__)
            values.update((t, backend.with_shape(value, program.shapes[t])) for t, value in found.items())
        kept = {str(t): backend.contiguous(_every_row(values[t], inputs[0])) for t in wanted}
        masks = {name: mask for name, mask in masks.items() if mask is not None}
        prepared = [_prepared(plan, steps, values) for plan, steps in zip(plans, own, strict=True)]
        return (kept, masks, prepared), [_every_row(values[t], inputs[0]) for t in program.outputs]

    return reference


def _preparers(plans: Sequence[Plan]) -> list[list[int]]:
    """For each plan, the number of the plan that prepares for each of its steps: the first that needs the same."""
    first: dict[Any, int] = {}
    return [
        [first.setdefault((i, s.state, s.prepared_for), k) for i, s in enumerate(plan.steps)]
        for k, plan in enumerate(plans)
    ]


def _prepared(plan: Plan, steps: Iterable[int], values: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """What some steps of a plan prepare, by "step:name"."""
    found = {}
    for i in steps:
        planned = plan.steps[i]
        step = planned.wired.step
        if planned.state == WINDOW and step is not None and planned.given is not None:
            for name, array in step.prepare(values.__getitem__, planned.given).items():
                found[f"{i}:{name}"] = array
    return found


def caches_of(kept: Any, plans: Sequence[Plan]) -> list[Cache]:
    """For each plan, what it needs of what the reference pass for all of them left."""
    taps, masks, prepared = kept
    caches = []
    for plan, by in zip(plans, _preparers(plans), strict=True):
        own = {key: array for k in set(by) for key, array in prepared[k].items() if by[int(key.partition(":")[0])] == k}
        caches.append(Cache({str(t): taps[str(t)] for t in plan.taps}, masks, own))
    return caches


def whole_function(program: Program) -> Callable[..., Any]:
    """A function of the model's inputs: its outputs, and nothing else."""

    def predicted(inputs):
        values = dict(zip(program.graph.inputs, inputs, strict=True))
        for wired in program.steps:
            found = evaluate(wired, program, values.__getitem__)
            values.update((t, backend.with_shape(value, program.shapes[t])) for t, value in found.items())
        return [_every_row(values[t], inputs[0]) for t in program.outputs]

    return predicted


def _every_row(value: Tensor, like: Tensor) -> Tensor:
    """A value that a layer made without a batch axis of its own, repeated for every sequence."""
    if value.shape[0] != 1 or like.shape[0] == 1:
        return value
    return ops.broadcast_to(value, (ops.shape(like)[0], *value.shape[1:]))


def chunk_function(plan: Plan, groups: int, members: int) -> Callable[..., Any]:
    """A function of (taps, masks, prepared, sequence, slots, delta): each output for every variant of a chunk.

    Outputs in state window come as (V, W, ...) deltas, dense ones as (V, ...) values, others as None.
    """

    def chunk(taps, masks, prepared, sequence, slots, delta):
        states = trace(plan, Cache(taps, masks, prepared), sequence, slots, delta, groups, members)
        answers = []
        for tensor in plan.program.outputs:
            state = states.get(tensor)
            if isinstance(state, Window):
                g, m, *rest = state.delta.shape
                answers.append(kernels.reshape(state.delta, (g * m, *rest)))
            else:
                answers.append(ops.zeros((1,)) if state is None else state)
        return answers

    return chunk


def trace(
    plan: Plan, cache: Cache, sequence, slots, delta, groups: int, members: int, *, keep: bool = False
) -> dict[int, Any]:
    """Run a plan's changed steps: changed tensors as a :class:`Window` or as whole values (V, ...).

    What nothing reads any more is dropped, unless ``keep``; outputs stay.
    """
    program = plan.program
    prepared: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, value in cache.prepared.items():
        step, _, name = key.partition(":")
        prepared[int(step)][name] = value
    runtime = Runtime(
        cache={int(t): value for t, value in cache.taps.items()},
        masks=cache.masks,
        sequence=sequence,
        slots=slots,
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

    readers = Counter(t for p in plan.steps if p.state in (WINDOW, DENSE) for t in p.wired.inputs)
    kept = set(readers) if keep else set(program.outputs)
    for i, planned in enumerate(plan.steps):
        if planned.state not in (WINDOW, DENSE):
            continue
        read = Counter(planned.wired.inputs)
        readers -= read
        if planned.state == WINDOW:
            for tensor, times in read.items():
                if isinstance(state := states.get(tensor), Window):
                    state.last = times == 1 and not readers[tensor] and tensor not in kept
            states[planned.wired.outputs[0]] = _run_window(planned, runtime, states, prepared[i])
        else:
            states.update(evaluate(planned.wired, program, functools.partial(whole, i)))
        for tensor in read:
            if not readers[tensor] and tensor not in kept:
                states.pop(tensor, None)
    return states


def _run_window(planned: Planned, runtime: Runtime, states, prepared) -> Any:
    given, local, step = planned.given, planned.local, planned.wired.step
    if given is None or local is None or step is None:
        raise RuntimeError(f"step of {planned.wired.call.name!r} has no plan")
    windows = tuple(states.get(t) for t in given.inputs)
    out = step.run(At(runtime, given, local, windows, prepared))
    if not (isinstance(out, Window) and out.fresh):  # it may be another look at the same memory
        for window in windows:
            if window is not None:
                window.fresh = False
    return out if isinstance(out, Window) else ops.cast(out, given.dtype)
