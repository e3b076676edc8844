"""The self-check: fast against the model itself, and which call is to blame if they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.calls import Call, losses_kept
from fastism.engine import Engine
from fastism.errors import MismatchError, ModelError
from fastism.functions import Cache, reference_function, trace
from fastism.graph import Graph, rowless
from fastism.mutations import Edits
from fastism.rules import RULES
from fastism.rules.user import FAMILY
from fastism.runtime import Window

Predictor = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

#: Largest difference that counts as equal: share of the effect of the edits, and of the size of the output.
TOLERANCE = {"float64": (1e-4, 1e-9), "float32": (1e-3, 1e-5)}
#: The same where some layer computes in half precision.
HALF = (0.1, 2e-2)


def self_check(engine: Engine, model: Any, width: int, edits_wanted: int = 8, *, channels: Any = None) -> None:
    """Compare with the model on edits at both ends, in the middle and at random places of one one-hot sequence.

    Args:
        engine: The fast path.
        model: The user's model.
        width: Positions in an edit.
        edits_wanted: About how many edits to try.
        channels: Indices of the channels that are letters; all by default.

    Raises:
        ModelError: If the model gives other numbers for the same sequence, each time or by what else is in its batch.
        MismatchError: If they differ, naming the first call that does.
    """
    graph, mutated = engine.program.graph, engine.program.mutated
    arrays = random_inputs(graph, mutated, 1, seed=0)
    at = graph.inputs.index(mutated)
    edits = _handful(arrays[at], width, edits_wanted, channels)
    ask = predictor(model, graph)
    references = _references(model, graph, mutated, ask, arrays)
    fast, naive = _run(engine, arrays, edits), in_pairs(ask, _mutants(arrays, at, edits))
    for name, f, n, reference in zip(graph.output_names, fast, naive, references, strict=True):
        if not _close(f, n, reference, graph):
            worst = float(np.abs(f.astype("float64") - n).max())
            raise MismatchError(
                f"Fast and naive differ by {worst:.3g} in output {name!r} (effect of the edits: "
                f"{float(np.abs(n - reference).max()):.3g}). {_blame(engine, graph, arrays, at, edits)}"
            )


def _references(
    model: Any, graph: Graph, mutated: int, ask: Predictor, arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The model's outputs for one sequence, if they depend on that sequence alone.

    Raises:
        ModelError: If an output has not one row for each sequence, or there are other numbers the next time, or with
            another sequence in the batch.
    """
    pair = [np.concatenate(both) for both in zip(random_inputs(graph, mutated, 1, seed=2), arrays, strict=True)]
    alone, together = ask(arrays), ask(pair)
    for name, one, two in zip(graph.output_names, alone, together, strict=True):
        if not one.ndim or not two.ndim or len(one) != 1 or len(two) not in (1, 2):
            raise rowless(name, f"{two.shape} for 2 sequences")
    if all(_same(a, b, graph) for a, b in zip(alone, together, strict=True)):
        return alone
    again = ask(arrays)
    if all(_same(a, b, graph) for a, b in zip(alone, again, strict=True)):
        second, batch = together, pair
        said = "for a sequence when another is in its batch: it mixes the sequences of a batch"
    else:
        second, batch = again, arrays
        said = "each time it is called on the same sequence"
    name, worst = next(
        (name, float(np.abs(a[-1:].astype("float64") - b[-1:]).max()))
        for name, a, b in zip(graph.output_names, alone, second, strict=True)
        if not _same(a, b, graph)
    )
    raise ModelError(
        f"Model {model.name!r} gives other numbers {said} (by up to {worst:.3g} in output "
        f"{name!r}). In-silico mutagenesis of it is not defined.{_first_apart(graph, arrays, batch)}"
    )


def _same(alone: np.ndarray, other: np.ndarray, graph: Graph) -> bool:
    """Whether the last rows are equal to rounding, which is measured by the size and by how far the first row is."""
    of_effect, of_size = _tolerance(graph, alone)
    a, b, far = (v.astype("float64") for v in (alone[-1:], other[-1:], other[:1]))
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
        effect = np.abs(a - far)
    largest = [np.max(v[np.isfinite(v)], initial=0) for v in (effect, np.abs(a))]
    return bool(gap.max(initial=0) <= of_effect * largest[0] + of_size * largest[1])


def _first_apart(graph: Graph, arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> str:
    """The first call whose last row differs between two runs, in words."""
    first, then = _every_tensor(graph, arrays), _every_tensor(graph, others)
    for call in graph.calls:
        for tensor in call.outputs:
            a, b = (np.atleast_1d(backend.to_numpy(v[tensor])) for v in (first, then))
            if a.shape[1:] != b.shape[1:] or not _same(a, b, graph):
                return f" The first call that does is {call.name!r} ({call.kind})."
    return ""


def agrees_with_naive(
    ism: Any, graph: Graph, ranges: Sequence[tuple[int, int]], batch_size: int, replace_with: Any, atol: float
) -> bool:
    """Whether calling ``ism`` on random one-hot sequences gives what overwriting and predicting one by one does."""
    mutated, channels = ism._mutated, slice(None) if ism._channels is None else ism._channels
    arrays = random_inputs(graph, mutated, batch_size, seed=None)
    at = graph.inputs.index(mutated)
    fast = tree.flatten(ism(graph.pack_inputs(arrays), replace_with))
    width = ranges[0][1] - ranges[0][0]
    content = np.broadcast_to(np.asarray(replace_with, arrays[at].dtype), arrays[at][0, :width, channels].shape)
    ask = predictor(ism._keras3, graph)
    references = ask(arrays)
    for p, (start, end) in enumerate(ranges):
        changed = [a.copy() for a in arrays]
        changed[at][:, start:end, channels] = content
        for f, n, r in zip(fast, ask(changed), references, strict=True):
            if not np.abs(f[:, p] - n).max() <= atol + 1e-4 * np.abs(n - r).max() + 1e-6 * np.abs(r).max():
                return False  # also for NaN
    return True


def random_inputs(graph: Graph, mutated: int, n: int, seed: int | None) -> list[np.ndarray]:
    """One-hot sequences for the mutated input; for the others normal numbers and zeros, or 0 and 1."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in graph.inputs:
        shape = (n, *[int(s or 1) for s in graph.shape(tensor)])
        dtype = graph.tensors[tensor].dtype.replace("bfloat16", "float32")
        if tensor == mutated:
            arrays.append(np.eye(shape[2], dtype=dtype)[rng.integers(0, shape[2], shape[:2])])
        elif "float" in dtype:
            array = rng.normal(size=shape).astype(dtype)
            if len(shape) > 2:
                array[:, 2 * shape[1] // 3 :] = 0  # padding, which a layer may mask
            arrays.append(array)
        else:
            arrays.append(rng.integers(0, 2, shape).astype(dtype))
    return arrays


def predictor(model: Any, graph: Graph) -> Predictor:
    """A function of arrays that gives the graph's outputs by calling the model."""

    def call(tensors):
        with losses_kept(model):
            return graph.finish(tree.flatten(model(graph.pack_inputs(tensors), training=False)))

    shapes, dtypes = zip(*[(graph.shape(t), graph.tensors[t].dtype) for t in graph.inputs], strict=True)
    run = backend.as_predicted(call, model.variables, shapes, dtypes)

    def ask(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        tensors = [ops.convert_to_tensor(a, dtype=d) for a, d in zip(arrays, dtypes, strict=True)]
        return [backend.to_numpy(y) for y in run(tensors)]

    return ask


def in_pairs(ask: Predictor, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What ``ask`` gives, for two rows at a time: little memory, and JAX has compiled every operation for two."""
    starts = range(0, len(arrays[0]), 2)
    found = [ask([np.take(a, (i, min(i + 1, len(a) - 1)), axis=0) for a in arrays]) for i in starts]
    return [np.concatenate(parts)[: len(arrays[0])] for parts in zip(*found, strict=True)]


def _handful(x: np.ndarray, width: int, wanted: int, channels: np.ndarray | None) -> Edits:
    """Edits at both ends, in the middle and at random places, each writing letters that are not there."""
    x = x if channels is None else x[..., channels]
    _, length, alphabet = x.shape
    rng = np.random.default_rng(1)
    last = length - width
    starts = np.unique([0, last, last // 2, min(1, last), *rng.integers(0, last + 1, wanted)])[: wanted + 1]
    starts = np.unique(np.append(starts, last))
    there = x[0].argmax(-1)[starts[:, None] + np.arange(width)]
    letters = (there + rng.integers(1, max(alphabet, 2), there.shape)) % alphabet
    contents = np.eye(alphabet, dtype=x.dtype)[letters]
    index = np.arange(len(starts))
    return Edits(np.zeros_like(starts), starts, index, index, contents, channels)


def _run(engine: Engine, arrays: Sequence[np.ndarray], edits: Edits) -> list[np.ndarray]:
    """(edits, *output) for each output."""
    out: list[np.ndarray] = []

    def receive(_: int, references: list[np.ndarray]) -> list[np.ndarray]:
        out.extend(np.repeat(r, len(edits), axis=0) for r in references)
        return out

    engine.run(arrays, edits, receive)
    return out


def _mutants(arrays: Sequence[np.ndarray], at: int, edits: Edits) -> list[np.ndarray]:
    copies = [np.repeat(a, len(edits), axis=0) for a in arrays]
    for i, (start, content) in enumerate(zip(edits.start, edits.content, strict=True)):
        window = copies[at][i, start : start + edits.width]
        window[..., slice(None) if edits.channels is None else edits.channels] = edits.contents[content]
    return copies


def _close(fast: np.ndarray, naive: np.ndarray, reference: np.ndarray, graph: Graph) -> bool:
    of_effect, of_size = _tolerance(graph, naive)
    fast, naive, reference = (a.astype("float64") for a in (fast, naive, reference))
    numbers = ~np.isnan(naive)  # where the model gives none, neither must the fast path
    if (np.isnan(fast) == numbers).any():
        return False
    with np.errstate(invalid="ignore"):
        gap = np.where(numbers & (fast != naive), np.abs(fast - naive), 0)
        effect, size = (np.abs(a)[np.isfinite(a)].max(initial=0) for a in (naive - reference, naive))
    return bool(gap.max(initial=0) <= of_effect * effect + of_size * size)


def _tolerance(graph: Graph, output: np.ndarray) -> tuple[float, float]:
    """Shares of the effect and of the size that are rounding."""
    kinds = [t.dtype for t in graph.tensors] + [str(getattr(c.op, "compute_dtype", "")) for c in graph.calls]
    half = any("float16" in kind for kind in kinds)
    return HALF if half else TOLERANCE.get(str(output.dtype), HALF)


def _blame(engine: Engine, graph: Graph, arrays: Sequence[np.ndarray], at: int, edits: Edits) -> str:
    """Which call differs first, found by rebuilding every tensor from its window."""
    program = engine.program
    plan = engine.plan(edits.width)
    everything = {t for p in plan.steps for t in (*p.wired.inputs, *p.wired.outputs)}
    reference, true = (_every_tensor(graph, a) for a in (arrays, _mutants(arrays, at, edits)))
    (taps, masks, prepared), _ = reference_function([plan], everything)([reference[t] for t in graph.inputs])
    cache = Cache(taps, masks, prepared[0])
    written = edits.contents[edits.content]
    before = arrays[at][0][edits.start[:, None] + np.arange(edits.width)]
    delta = edits.among(written - edits.letters(before), before.shape[-1])[:, None]
    n = len(edits)
    slots = plan.slots(edits.start)
    states = trace(plan, cache, np.zeros(n, np.int32), slots, delta, groups=n, members=1, keep=True)
    for call in graph.calls:
        for tensor in call.outputs:
            state, positions = states.get(program.find(tensor)), program.needed.get(program.find(tensor))
            if state is None or positions is None:  # no output depends on it, such as what only another head gives
                continue
            lo, hi = positions
            value = state.whole() if isinstance(state, Window) else state
            values = (backend.to_numpy(v) for v in (value, true[tensor], reference[tensor]))
            value, want, before = (v[:, lo:hi] if v.ndim > 1 else v for v in values)
            reached = plan.reached[program.find(tensor)][edits.start]  # elsewhere the reference stands for the mutant
            value = np.where(reached.reshape(-1, *[1] * (value.ndim - 1)), value, before)
            if not _close(value, want, before, graph):
                return f"The first call that differs is {call.name!r} ({call.kind}). {_remedy(call)}"
    return "No single call differs by itself; pass test_correctness=False only if the difference is acceptable."


def _remedy(call: Call) -> str:
    """What to do about a call whose rule is wrong."""
    rule = next((RULES[cls] for cls in type(call.op).__mro__ if cls in RULES), None)
    if rule is not None and rule.family == FAMILY:
        return (
            f"What register_rule was told of it ({rule.note}) is wrong: mend that, or have it computed whole by "
            f"fastism.unregister_rule({call.kind})."
        )
    return "Name it in early_stop_layers to have it computed whole, and please report the model."


def _every_tensor(graph: Graph, arrays: Sequence[np.ndarray]) -> dict[int, Any]:
    """What every call gives, run one by one as the model would."""
    dtypes = [graph.tensors[t].dtype for t in graph.inputs]
    tensors = [ops.convert_to_tensor(a, dtype=d) for a, d in zip(arrays, dtypes, strict=True)]
    values = dict(zip(graph.inputs, tensors, strict=True))
    for call in graph.calls:
        values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
    return values
