"""The two functions that a plan becomes: the reference pass, and a chunk of variants. Knows no layer type."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

from keras import ops

from fastism import backend
from fastism.graph import keras_mask
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
