"""What a mutagenesis of many sequences leaves: one object for plots, writers and reports, in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastism.regions import Region
from fastism.scores import attribution, has_letter


@dataclass(frozen=True, eq=False)
class ISMScores:
    """Scores of all substitutions in a stretch of each of N sequences, with what is needed to read them.

    The arrays may be NumPy arrays or anything that is sliced like one along the first axis, such as Zarr arrays: read
    them through :meth:`batches` or ``scores[i:j]``, so that a file need not fit into memory.

    Attributes:
        sequences: (N, L, A) one-hot; zeros (or equal shares) at an N.
        differences: (N, P, A, T) what each letter does at each of P positions to each of T targets, alternative -
            reference under the metric that ``attributes["metric"]`` names; 0 at the letter that is there.
        reference: (N, T) the metric's value for the sequences as they are.
        start: First mutated position within the sequence, 0-based.
        targets: Names of the T targets.
        regions: Where the sequences come from; None if that is not known.
        names: A name for each sequence, such as that in the FASTA file; empty for none.
        alphabet: The A letters, in order.
        attributes: What was done, for a file's metadata, as JSON can hold it: ``metric``, ``model``, ``model_hash``,
            ``fastism``, ``precision``, ``seed``, ``ensemble`` and so on.
    """

    sequences: Any
    differences: Any
    reference: Any
    start: int = 0
    targets: Sequence[str] = ("0",)
    regions: Sequence[Region] | None = None
    names: Sequence[str] = ()
    alphabet: str = "ACGT"
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, length, letters = _shape(self.sequences, 3, "sequences (N, L, A)")
        found = _shape(self.differences, 4, "differences (N, P, A, T)")
        counts = _shape(self.reference, 2, "reference (N, T)")
        if found[0] != n or found[2] != letters or counts != (n, found[3]) or len(self.alphabet) != letters:
            raise ValueError(
                f"sequences {(n, length, letters)}, differences {found}, reference {counts} and the alphabet "
                f"{self.alphabet!r} do not fit together; (N, L, A), (N, P, A, T), (N, T) and A letters are accepted."
            )
        if not 0 <= self.start <= self.start + found[1] <= length:
            raise ValueError(f"{found[1]} positions from {self.start} on do not lie within sequences of {length}.")
        for what, items, wanted in (
            ("targets", self.targets, found[3]),
            ("regions", n if self.regions is None else self.regions, n),
            ("names", self.names or n, n),
        ):
            if not isinstance(items, int) and len(items) != wanted:
                raise ValueError(f"There are {len(items)} {what}; {wanted} are accepted, one for each.")

    def __len__(self) -> int:
        return self.sequences.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> ISMScores:
        """Some of the sequences, read into memory.

        Args:
            rows: A slice, row numbers, (N,) booleans, or one row number, which gives a result of one sequence.

        Raises:
            IndexError: If there is no such row.
            TypeError: If it is none of these.
            ValueError: If the booleans are not N.
        """
        if not isinstance(rows, slice):
            rows = _row_numbers(rows, len(self))
        chosen = range(len(self))[rows] if isinstance(rows, slice) else [int(i) for i in rows]
        arrays = {k: _rows(getattr(self, k), rows) for k in ("sequences", "differences", "reference")}
        regions = None if self.regions is None else [self.regions[i] for i in chosen]
        return replace(self, **arrays, regions=regions, names=[self.names[i] for i in chosen] if self.names else ())

    @property
    def length(self) -> int:
        """L, positions of a sequence."""
        return self.sequences.shape[1]

    @property
    def positions(self) -> int:
        """P, the positions that were mutated: ``start`` to ``start + positions``."""
        return self.differences.shape[1]

    @property
    def mutated(self) -> np.ndarray:
        """(N, P, A) the mutated stretch of the sequences."""
        return np.asarray(self.sequences[:, self.start : self.start + self.positions])

    @cached_property
    def mask(self) -> np.ndarray:
        """(N, P) boolean, which of the mutated positions have a letter: False at an N."""
        return has_letter(self.mutated)

    def target(self, target: int | str) -> int:
        """The index of a target that is given by index or name.

        Args:
            target: An index, or a text: a name, or, where no target has that name, an index as digits.

        Raises:
            ValueError: If there is none.

        Example:
            >>> arrays = np.zeros((1, 5, 4)), np.zeros((1, 5, 4, 3)), np.zeros((1, 3))
            >>> scores = ISMScores(*arrays, targets=("3", "0", "K562"))
            >>> scores.target("0"), scores.target(0), scores.target("2")
            (1, 0, 2)
        """
        names = list(self.targets)
        if isinstance(target, str) and target in names:
            return names.index(target)
        if isinstance(target, str) and target.isdecimal():
            target = int(target)
        if isinstance(target, str) or not -len(names) <= target < len(names):
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise ValueError(f"target is {target!r}; an index below {len(names)} or a name of {shown} is accepted.")
        return target % len(names)

    @property
    def direction(self) -> int:
        """-1 where differences are distances, as of jsd (``attributes["signed"]`` is False), else 1.

        A distance is large where the prediction changes, in whichever direction; an attribution, positive where the
        letter is needed, is then minus that of a difference.
        """
        return -1 if self.attributes.get("signed") is False else 1

    def __repr__(self) -> str:
        n, length, letters = self.sequences.shape
        stretch = f"positions {self.start}-{self.start + self.positions} of {length}"
        metric = f", metric {self.attributes['metric']}" if "metric" in self.attributes else ""
        return f"ISMScores({n} sequences, {stretch}, {letters} letters, {len(self.targets)} targets{metric})"

    def attributions(
        self, target: int | str = 0, *, rule: str = "mean4", hypothetical: bool = False, whole: bool = False
    ) -> np.ndarray:
        """Attributions for one target, as :func:`fastism.scores.attribution` defines them.

        For distances such as jsd, which have no sign, they are how much the prediction changes: positive too.

        Args:
            target: Index or name.
            rule: ``"mean4"`` or ``"mean3"``.
            hypothetical: For all letters, not only for those that are there.
            whole: Over all L positions, zeros where nothing was mutated, instead of P.

        Returns:
            (N, P, A), or (N, L, A); zeros at an N.
        """
        delta = self.direction * np.asarray(self.differences[..., self.target(target)])
        found = attribution(self.mutated, delta, rule=rule, hypothetical=hypothetical, mask=self.mask)
        if not whole:
            return found
        room = np.zeros((len(self), self.length, found.shape[2]), found.dtype)
        room[:, self.start : self.start + self.positions] = found
        return room

    def batches(self, size: int = 64) -> Iterator[ISMScores]:
        """The sequences in turn, ``size`` at a time, in memory."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def _row_numbers(rows: Any, count: int) -> np.ndarray:
    """The rows that an index other than a slice asks for."""
    found = np.asarray(rows)
    accepted = "iu" if found.ndim == 0 else "biu"
    if found.ndim > 1 or (found.size and found.dtype.kind not in accepted):
        raise TypeError(f"rows are {rows!r}; a row number, a slice, row numbers or {count} booleans are accepted.")
    found = np.atleast_1d(found)
    if found.dtype == bool and len(found) != count:
        raise ValueError(f"There are {len(found)} booleans for {count} sequences; one for each is accepted.")
    found = np.flatnonzero(found) if found.dtype == bool or not found.size else found.astype(np.int64)
    wrong = found[(found < -count) | (found >= count)]
    if len(wrong):
        raise IndexError(
            f"There is no row {wrong[0]}; the result has {count} sequences, rows below {count} are accepted."
        )
    return found


def _rows(array: Any, rows: Any) -> np.ndarray:
    """Rows of an array; arrays on disk that take slices only are read one by one."""
    if isinstance(array, np.ndarray) or isinstance(rows, slice):
        return np.asarray(array[rows])
    return np.stack([np.asarray(array[int(i)]) for i in rows]) if len(rows) else np.asarray(array[:0])


def _shape(array: Any, rank: int, what: str) -> tuple[int, ...]:
    shape = tuple(int(n) for n in getattr(array, "shape", ()))
    if len(shape) != rank:
        raise ValueError(f"{what} has shape {shape}; {rank} axes are accepted.")
    return shape
