"""What is changed: edits of the input, and how they are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Edits:
    """E edits, each of one sequence, all of one width.

    Attributes:
        sequence: (E,) index of the sequence.
        start: (E,) first edited position.
        content: (E,) row of ``contents`` that is written there.
        cell: (E,) where the answer goes: index into the results, flattened over all but the output's axes.
        contents: (K, width, A) what may be written.
        channels: (A,) which channels of the input these letters are; None for all.
    """

    sequence: np.ndarray
    start: np.ndarray
    content: np.ndarray
    cell: np.ndarray
    contents: np.ndarray
    channels: np.ndarray | None = None

    @property
    def width(self) -> int:
        """Positions that each edit covers."""
        return self.contents.shape[1]

    def __len__(self) -> int:
        return len(self.sequence)

    def of_sequences(self, first: int, end: int) -> Edits:
        """The edits of sequences ``first`` to ``end``, renumbered from 0."""
        keep = (self.sequence >= first) & (self.sequence < end)
        sequence = self.sequence[keep] - first
        return replace(
            self, sequence=sequence, start=self.start[keep], content=self.content[keep], cell=self.cell[keep]
        )

    def letters(self, x: np.ndarray) -> np.ndarray:
        """The channels of ``x`` (..., C) that edits write to: (..., A)."""
        return x if self.channels is None else x[..., self.channels]

    def among(self, letters: np.ndarray, size: int) -> np.ndarray:
        """(..., A) over all ``size`` channels of the input, zeros in those that no edit writes to."""
        if self.channels is None:
            return letters
        full = np.zeros((*letters.shape[:-1], size), letters.dtype)
        full[..., self.channels] = letters
        return full


def substitutions(x: np.ndarray, start: int, end: int) -> Edits:
    """Every letter at every position of ``[start, end)``, but for those that are there already.

    Args:
        x: (N, L, A) sequences.
        start, end: Positions, 0-based and half-open.

    Returns:
        Edits whose cells index (N, P, A).
    """
    letters = np.eye(x.shape[2], dtype=x.dtype)
    there = (x[:, start:end, None, :] == letters).all(-1)  # (N, P, A)
    sequence, position, letter = np.nonzero(~there)
    return Edits(sequence, position + start, letter, np.flatnonzero(~there), letters[:, None, :])


def replacements(x: np.ndarray, ranges: Sequence[tuple[int, int]], replacement: np.ndarray) -> Edits:
    """One content in each of several ranges, but where it is there already.

    Args:
        x: (N, L, A) sequences.
        ranges: ``(start, end)`` pairs of one width W.
        replacement: (W, A).

    Returns:
        Edits whose cells index (N, P).
    """
    starts = np.array([s for s, _ in ranges], dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(x, replacement.shape[0], axis=1)  # (N, S, A, W)
    there = (windows[:, starts] == replacement.T).all((-2, -1))  # (N, P)
    sequence, position = np.nonzero(~there)
    zeros = np.zeros(len(sequence), dtype=np.int64)
    return Edits(sequence, starts[position], zeros, np.flatnonzero(~there), replacement[None].astype(x.dtype))


@dataclass(frozen=True, eq=False)
class Groups:
    """Edits in groups that share sequence and start, sorted by start.

    Attributes:
        sequence, start: (Q,) of each group.
        edit: (Q, M) index of each member's edit, -1 where a group has fewer.
    """

    sequence: np.ndarray
    start: np.ndarray
    edit: np.ndarray

    @property
    def members(self) -> int:
        """M, the number of edits a group has room for."""
        return self.edit.shape[1]

    def __len__(self) -> int:
        return len(self.start)

    def between(self, first: int, end: int) -> Groups:
        """Those that start in ``[first, end)``."""
        low, high = np.searchsorted(self.start, [first, end])
        return Groups(self.sequence[low:high], self.start[low:high], self.edit[low:high])


def group(edits: Edits) -> Groups:
    """Put edits with the same sequence and start side by side: they share one reference window."""
    order = np.lexsort((edits.sequence, edits.start))
    sequence, start = edits.sequence[order], edits.start[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (sequence[1:] != sequence[:-1]) | (start[1:] != start[:-1])
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, len(order)))
    members = int(np.bincount(counts).argmax()) if len(counts) else 1
    rank = np.arange(len(order)) - np.repeat(first, counts)
    needed = -(-counts // members)  # groups for each (sequence, start)
    base = np.cumsum(needed) - needed
    row = np.repeat(base, counts) + rank // members
    edit = np.full((int(needed.sum()), members), -1, dtype=np.int64)
    edit[row, rank % members] = order
    which = np.repeat(first, needed)
    return Groups(sequence[which], start[which], edit)
