"""What a mutagenesis gives: predictions of sequences as they are and mutated, and what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from fastism.naive import Saturation, shapes_shown


class Mutagenesis(Saturation):
    """Predictions of a mutagenesis of any kind; unpacks as ``(reference, mutant)``.

    Both are arrays, or lists or dicts of arrays for a model with several outputs.

    Attributes:
        reference: (N, *output) predictions of the sequences as they are.
        mutant: (N, *axes, *output) predictions of the mutants; that of a mutation that changes nothing is the
            reference.
        kind: What was done, such as ``"substitutions"``, ``"blocks"`` or ``"deletions"``.
        axes: Names of the axes between those of the sequences and of the output, such as ``("position", "letter")``.
        start: (P,) where the mutation of each cell along the axis ``"position"`` begins, 0-based; None without it.
        width: Positions that are changed; 0 for insertions.

    Example:
        >>> found = Mutagenesis(np.array([[1.0]]), np.array([[[[2.0], [4.0]]]]), "shuffles", ("position", "replicate"))
        >>> found.differences.shape, found.mean("replicate"), found.spread("replicate")
        ((1, 1, 2, 1), array([[[2.]]]), array([[[1.]]]))
    """

    kind: str
    axes: tuple[str, ...]
    start: np.ndarray | None
    width: int

    def __new__(
        cls,
        reference: Any,
        mutant: Any,
        kind: str = "substitutions",
        axes: Sequence[str] = ("position", "letter"),
        start: np.ndarray | None = None,
        width: int = 1,
    ) -> Mutagenesis:
        """A tuple of two, with what it is beside."""
        self = super().__new__(cls, reference, mutant)
        self.kind, self.axes, self.start, self.width = kind, tuple(axes), start, width
        return self

    def __repr__(self) -> str:
        return shapes_shown(self, self.kind)

    @property
    def differences(self) -> Any:
        """Mutant - reference, (N, *axes, *output), for each output."""
        added = tuple(range(1, 1 + len(self.axes)))
        return self._each(lambda reference, mutant: mutant - np.expand_dims(reference, added))

    def mean(self, axis: str = "replicate") -> Any:
        """Differences, averaged over an axis that is given by name."""
        at = self._axis(axis)
        return tree.map_structure(lambda d: d.mean(at), self.differences)

    def spread(self, axis: str = "replicate") -> Any:
        """Standard deviation of the mutants over an axis that is given by name (of the population: ddof is 0)."""
        at = self._axis(axis)
        return tree.map_structure(lambda m: m.std(at), self.mutant)

    def _axis(self, name: str) -> int:
        if name not in self.axes:
            raise ValueError(f"axis is {name!r}; {' or '.join(map(repr, self.axes))} is accepted.")
        return 1 + self.axes.index(name)

    def _each(self, function: Any) -> Any:
        pairs = zip(tree.flatten(self.reference), tree.flatten(self.mutant), strict=True)
        return tree.pack_sequence_as(self.reference, [function(r, m) for r, m in pairs])
