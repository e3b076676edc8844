"""What goes into a chunk, and what comes out of it: deltas of edits, and answers put into the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastism.mutations import Edits
from fastism.plan import Plan

#: Values in a window from which on it is cheaper to write it by itself.
LONG_WINDOW = 64

#: For an output: where its windows begin for every place of an edit, and their positions.
Origins = Callable[[int], tuple[np.ndarray, int] | None]


def deltas(x: np.ndarray, edits: Edits, sequence: np.ndarray, start: np.ndarray, edit: np.ndarray) -> np.ndarray:
    """(G, M, width, C) mutant - reference at the input; zeros where a group has no member.

    Args:
        x: (N, L, C) sequences.
        edits: What is written.
        sequence, start: (G,) of each group.
        edit: (G, M) which edit each member is; -1 for none.
    """
    window = start[:, None] + np.arange(edits.width)
    reference = edits.letters(x[sequence[:, None], window])  # (G, width, A)
    written = edits.contents[edits.content[np.maximum(edit, 0)]]  # (G, M, width, A)
    delta = written - reference[:, None]
    delta[edit < 0] = 0
    return np.ascontiguousarray(edits.among(delta, x.shape[2]))


def window(plan: Plan, output: int) -> tuple[np.ndarray, int] | None:
    """For every place of an edit, where the window of output number ``output`` begins, and its positions.

    None where the whole output changes. The window lies within the output.
    """
    span = plan.spans.get(plan.program.outputs[output])
    if span is None:
        return None
    size = min(span.width, span.length)
    return np.clip(span.start, 0, span.length - size).astype(np.int64), size


def write(
    plan: Plan,
    answers: Sequence[np.ndarray],
    edit: np.ndarray,
    start: np.ndarray,
    edits: Edits,
    out: Sequence[np.ndarray],
    origins: Origins | None = None,
) -> None:
    """Put a chunk's answers into the results, at the positions that can differ from the reference only.

    Args:
        plan: That the chunk ran.
        answers: (V, ...) for each output.
        edit: (G, M) which edit each member is; -1 for none.
        start: (G,) edit start of each group.
        edits: Say where each answer goes.
        out: (cells, *output) for each output, to write into.
        origins: Given if these hold windows only: which.
    """
    member = edit.ravel()
    starts = np.repeat(start, edit.shape[1])
    places = starts - plan.stretch[0]
    for i, (tensor, answer, target) in enumerate(zip(plan.program.outputs, answers, out, strict=True)):
        if tensor not in plan.reached:
            continue
        keep = np.flatnonzero((member >= 0) & plan.reached[tensor][places])
        if not len(keep):
            continue
        cells = edits.cell[member[keep]]
        values = answer[keep]
        if tensor in plan.dense:
            target[cells] = values
            continue
        span, at = plan.spans[tensor], places[keep]
        origin = origins(i) if origins is not None else None
        first = np.zeros_like(at) if origin is None else origin[0][starts[keep]]
        lo, hi = (np.clip(edge[at], span.start[at], span.start[at] + span.width) for edge in (span.lo, span.hi))
        _add(target, cells, lo - first, hi - first, values, lo - span.start[at])


def _add(target: np.ndarray, cells, lo, hi, deltas: np.ndarray, begin) -> None:
    """Add to the positions ``[lo, hi)`` of rows ``cells`` as many of ``deltas`` (V, W, ...), from ``begin`` on."""
    wide = np.int64 if target.dtype.kind in "iub" else target.dtype

    def added(there: Any, here: Any) -> None:
        target[there] = (target[there].astype(wide) + deltas[here].astype(wide)).astype(target.dtype)

    if math.prod(deltas.shape[1:]) >= LONG_WINDOW:  # a stretch for each mutant, rather than an index for each value
        for v, (cell, first, end, at) in enumerate(zip(cells, lo, hi, begin, strict=True)):
            added((cell, slice(first, end)), (v, slice(at, at + end - first)))
        return
    columns = np.arange(deltas.shape[1])
    row, column = np.nonzero((columns >= begin[:, None]) & (columns < (begin + hi - lo)[:, None]))
    added((cells[row], (lo - begin)[row] + column), (row, column))
