"""All pairs of substitutions, and how much each output position depends on each input position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from keras import tree

from fastism.mutations import Edits, substitutions
from fastism.naive import shapes_shown


class Pairs(NamedTuple):
    """Predictions of all pairs of substitutions in a stretch of P positions.

    Each is an array, or a list or dict of arrays for a model with several outputs.

    Attributes:
        reference: (N, *output) the sequences as they are.
        single: (N, P, A, *output) with one letter written.
        double: (N, P, A, P, A, *output) with letter ``a`` written at position ``i`` and ``b`` at ``j``: ``double[n, i,
            a, j, b]``. It is symmetric, but where both are one position: there, the letter written last stands.
    """

    reference: Any
    single: Any
    double: Any

    def __repr__(self) -> str:
        return shapes_shown(self)

    @property
    def interaction(self) -> Any:
        """(N, P, A, P, A, *output) ``d_ij - d_i - d_j``, with d the difference from the reference.

        Zero where two substitutions add up, where one of them changes nothing, and for both at one position.
        """
        parts = zip(*(tree.flatten(p) for p in self), strict=True)
        return tree.pack_sequence_as(self.reference, [_interaction(*p) for p in parts])


def _interaction(reference: np.ndarray, single: np.ndarray, double: np.ndarray) -> np.ndarray:
    first = single[:, :, :, None, None] - reference[:, None, None, None, None]
    found = double - single[:, None, None] - first
    at = np.arange(single.shape[1])
    found[:, at, :, at] = 0
    return found


def second(rows: np.ndarray, singles: Edits, first: int, last: int) -> Edits:
    """Substitutions to the right of the one that each row has; row 0 is the reference and has none."""
    everywhere = substitutions(rows, first, last)
    has = np.append(last, singles.start)  # row 0: none to the right
    keep = everywhere.start > has[everywhere.sequence]
    return replace(
        everywhere,
        sequence=everywhere.sequence[keep],
        start=everywhere.start[keep],
        content=everywhere.content[keep],
        cell=everywhere.cell[keep],
    )


def paired(
    references: np.ndarray, doubles: np.ndarray, singles: Edits, p: int, a: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(reference, single, double) of one sequence, from rows of which the first is the sequence itself."""
    output = references.shape[1:]
    single = np.repeat(references[:1], p * a, axis=0)
    single[singles.cell] = references[1:]
    single = single.reshape(p, a, *output)
    double = np.broadcast_to(single, (p * a, p, a, *output)).copy()
    double[singles.cell] = doubles[1:]
    double = double.reshape(p, a, p, a, *output)
    i, j = np.triu_indices(p, 1)
    double[j, :, i] = np.swapaxes(double[i, :, j], 1, 2)
    at = np.arange(p)
    double[at, :, at] = single[:, None]
    return references[0], single, double


def strongest(reference: np.ndarray, window: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(P, *output) largest absolute difference over letters, from windows (P, A, W, ...) or whole outputs."""
    if window.shape[2:] == reference.shape:
        return np.abs(window - reference).max(1)
    out = np.zeros((len(window), *reference.shape), window.dtype)
    at = start[:, None] + np.arange(window.shape[2])  # (P, W)
    out[np.arange(len(at))[:, None], at] = np.abs(window - reference[at][:, None]).max(1)
    return out
