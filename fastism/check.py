"""The self-check: fast against the model itself, and which call is to blame if they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.engine import Engine, reference_function, trace
from fastism.errors import MismatchError
from fastism.graph import Graph
from fastism.mutations import Edits
from fastism.runtime import Window

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
        MismatchError: If they differ, naming the first call that does.
    """
    graph, mutated = engine.program.graph, engine.program.mutated
    arrays = random_inputs(graph, mutated, 1, seed=0)
    at = graph.inputs.index(mutated)
    edits = _handful(arrays[at], width, edits_wanted, channels)
    quick = Engine(engine.program, batch_size=len(edits), jit=backend.name() == "jax")
    fast = _run(quick, arrays, edits)
    naive = _naive(model, graph, arrays, at, edits)
    for name, f, n, reference in zip(graph.output_names, fast, naive[1], naive[0], strict=True):
        if not _close(f, n, reference, graph):
            worst = float(np.abs(f.astype("float64") - n).max())
            raise MismatchError(
                f"Fast and naive differ by {worst:.3g} in output {name!r} (effect of the edits: "
                f"{float(np.abs(n - reference).max()):.3g}). {_blame(quick, graph, arrays, at, edits)}"
            )


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
    references = predict(ism._keras3, graph, arrays)
    for p, (start, end) in enumerate(ranges):
        changed = [a.copy() for a in arrays]
        changed[at][:, start:end, channels] = content
        for f, n, r in zip(fast, predict(ism._keras3, graph, changed), references, strict=True):
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


def predict(model: Any, graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The graph's outputs, by calling the model."""

    def call(tensors):
        if graph.input_keys:
            given: Any = dict(zip(graph.input_keys, tensors, strict=True))
        else:
            given = tensors[0] if len(tensors) == 1 else list(tensors)
        return graph.finish(tree.flatten(model(given, training=False)))

    shapes, dtypes = zip(*[(graph.shape(t), graph.tensors[t].dtype) for t in graph.inputs], strict=True)
    tensors = [ops.convert_to_tensor(a, dtype=d) for a, d in zip(arrays, dtypes, strict=True)]
    return [backend.to_numpy(y) for y in backend.any_batch(call, shapes, dtypes)(tensors)]


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


def _naive(model, graph, arrays, at, edits) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(references, mutants) of each output."""
    return predict(model, graph, arrays), predict(model, graph, _mutants(arrays, at, edits))


def _close(fast: np.ndarray, naive: np.ndarray, reference: np.ndarray, graph: Graph) -> bool:
    half = any("float16" in t.dtype for t in graph.tensors)
    of_effect, of_size = HALF if half else TOLERANCE.get(str(naive.dtype), HALF)
    fast, naive, reference = (a.astype("float64") for a in (fast, naive, reference))
    allowed = of_effect * np.abs(naive - reference).max() + of_size * np.abs(naive).max()
    return bool(np.abs(fast - naive).max() <= allowed)


def _blame(engine: Engine, graph: Graph, arrays: Sequence[np.ndarray], at: int, edits: Edits) -> str:
    """Which call differs first, found by rebuilding every tensor from its window."""
    program = engine.program
    plan = engine.plan(edits.width)
    everything = {t for p in plan.steps for t in (*p.wired.inputs, *p.wired.outputs)}
    reference, true = (_every_tensor(graph, a) for a in (arrays, _mutants(arrays, at, edits)))
    cache, _ = reference_function(plan, everything)([reference[t] for t in graph.inputs])
    written = edits.contents[edits.content]
    before = arrays[at][0][edits.start[:, None] + np.arange(edits.width)]
    delta = edits.among(written - edits.letters(before), before.shape[-1])[:, None]
    n = len(edits)
    states = trace(plan, cache, np.zeros(n, np.int32), plan.slot_table[:, edits.start], delta, groups=n, members=1)
    for call in graph.calls:
        for tensor in call.outputs:
            state = states.get(program.find(tensor))
            if state is None:
                continue
            lo, hi = program.needed[program.find(tensor)]
            value = state.whole() if isinstance(state, Window) else state
            values = (backend.to_numpy(v) for v in (value, true[tensor], reference[tensor]))
            value, want, before = (v[:, lo:hi] if v.ndim > 1 else v for v in values)
            if not _close(value, want, before, graph):
                return (
                    f"The first call that differs is {call.name!r} ({call.kind}). Name it in early_stop_layers to have "
                    "it computed whole, and please report the model."
                )
    return "No single call differs by itself; pass test_correctness=False only if the difference is acceptable."


def _every_tensor(graph: Graph, arrays: Sequence[np.ndarray]) -> dict[int, Any]:
    """What every call gives, run one by one as the model would."""
    dtypes = [graph.tensors[t].dtype for t in graph.inputs]
    tensors = [ops.convert_to_tensor(a, dtype=d) for a, d in zip(arrays, dtypes, strict=True)]
    values = dict(zip(graph.inputs, tensors, strict=True))
    for call in graph.calls:
        values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
    return values
