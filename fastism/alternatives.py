"""Runs edits and alternative sequences of any kind on what is made from a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastism import kinds
from fastism.mutations import Edits
from fastism.prepared import Prepared

#: Changed stretches wider than this share of a sequence are left to a prediction of the whole.
WIDEST = 1 / 8

#: What makes alternatives: number of a cell -> (L, A).
Make = Callable[[int], np.ndarray]


def predict_edits(
    prepared: Prepared, arrays: list[np.ndarray], edits: Edits, owner: np.ndarray, progress: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """References (N, *output), and results (cells, *output): references of their owners, overwritten by edits."""
    n = len(arrays[0])
    references: list[np.ndarray] = []
    results: list[np.ndarray] = []

    def receive(first: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        if not references:
            references.extend(np.empty((n, *o.shape[1:]), o.dtype) for o in outputs)
            results.extend(np.empty((len(owner), *o.shape[1:]), o.dtype) for o in outputs)
        mine = np.flatnonzero((owner >= first) & (owner < first + len(outputs[0])))
        for reference, result, output in zip(references, results, outputs, strict=True):
            reference[first : first + len(output)] = output
            result[mine] = output[owner[mine] - first]
        return results

    prepared.engine.run(arrays, edits, receive, progress)
    return references, results


def predict_alternatives(
    prepared: Prepared,
    arrays: list[np.ndarray],
    owner: np.ndarray,
    make: Make,
    channels: np.ndarray | None,
    progress: Callable[[int], Any],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predict sequences that differ from some others: by windows where they differ shortly, else whole.

    Args:
        prepared: What is made from the model.
        arrays: Its inputs, (N, ...) each.
        owner: (V,) which of the N sequences each alternative is to be compared with.
        make: Gives an alternative's letters by its number.
        channels: Which channels of the mutated input letters are; None for all.
        progress: Called with the number of alternatives done since the last call.

    Returns:
        References (N, *output) and mutants (V, *output).
    """
    engine, mutated = prepared.engine, prepared.graph.inputs.index(prepared.engine.program.mutated)
    sequences = arrays[mutated] if channels is None else arrays[mutated][..., channels]
    widest = max(1, int(WIDEST * sequences.shape[1]))
    references = engine.predict(arrays)
    mutants = [r[owner] for r in references]

    def put(rows: np.ndarray, found: list[np.ndarray]) -> None:
        for mutant, result in zip(mutants, found, strict=True):
            mutant[rows] = result

    for rows in kinds.pieces(len(owner), sequences[0].nbytes):
        other = np.stack([make(i) for i in range(rows.start, rows.stop)])
        mine, known = owner[rows], np.unique(owner[rows])
        groups, whole = kinds.stretches(sequences[mine], other, widest)
        for group in groups:
            of, cells = np.searchsorted(known, mine[group.rows]), np.arange(len(group.rows))
            edits = Edits(of, group.start, cells, cells, group.contents, channels)
            put(rows.start + group.rows, predict_edits(prepared, [a[known] for a in arrays], edits, of, None)[1])
        if len(whole):
            taken = [a[mine[whole]] for a in arrays]
            taken[mutated] = with_letters(taken[mutated], other[whole], channels)
            put(rows.start + whole, engine.predict(taken))
        progress(len(other))
    return references, mutants


def with_letters(x: np.ndarray, letters: np.ndarray, channels: np.ndarray | None) -> np.ndarray:
    """``x`` (..., C) with other letters (..., A) in the channels that hold them."""
    if channels is None:
        return letters
    x = x.copy()
    x[..., channels] = letters
    return x
