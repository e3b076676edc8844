"""The kinds of mutation beside saturation, as methods of FastISM."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from keras import tree
from tqdm.auto import tqdm

from fastism import inputs, kinds
from fastism.alternatives import Make, predict_alternatives, predict_edits, with_letters
from fastism.kinds import Change
from fastism.mutagenesis import Mutagenesis
from fastism.mutations import Edits, substitutions
from fastism.pairs import Pairs, paired, second, strongest
from fastism.prepared import Prepared


class Mutate:
    """Methods that write blocks, shuffle, delete, insert, and pair mutations; :class:`FastISM` has them.

    In all of them ``x`` is what a call takes, ``start`` and ``end`` bound the positions where mutations begin (0-based
    and half-open; all by default), and ``progress`` shows a bar that counts mutants.
    """

    # what FastISM provides
    _channels: np.ndarray | None
    _letters: Callable[[Sequence[np.ndarray]], np.ndarray]
    _open: Callable[[Any], tuple[Prepared, list[np.ndarray]]]
    saturate: Callable[..., Any]

    # ------------------------------------------------------------------ blocks

    def scan(
        self, x: Any, content: Any, start: int = 0, end: int | None = None, *, step: int = 1, progress: bool = False
    ) -> Mutagenesis:
        """Write a motif, or each of several of one width, over every block: a motif insertion scan.

        Args:
            x: (N, L, A) sequences.
            content: What is written: (W, A), or (K, W, A) for K contents, or a text, or a list of texts (A, C, G, T).
            start, end: Where blocks may begin, and where they must end.
            step: Positions from one block to the next.
            progress: Show a progress bar.

        Returns:
            ``mutant`` (N, P, K, *output), axes ``("position", "content")``; ``start`` says where the blocks begin.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        contents = inputs.read_contents(content, sequences.shape[2], sequences.dtype)
        starts = _starts(start, end, step, contents.shape[1], sequences.shape[1])
        edits = kinds.blocks(sequences, starts, contents)
        found = self._edited(prepared, arrays, edits, (len(starts), len(contents)), progress)
        return Mutagenesis(*found, "blocks", ("position", "content"), starts, contents.shape[1])

    def shuffle(
        self,
        x: Any,
        width: int,
        start: int = 0,
        end: int | None = None,
        *,
        k: int = 1,
        replicates: int = 10,
        step: int = 1,
        seed: int = 0,
        progress: bool = False,
    ) -> Mutagenesis:
        """Shuffle the letters of every block, keeping its k-mers.

        Args:
            x: (N, L, A) sequences.
            width: Positions of a block.
            start, end: Where blocks may begin, and where they must end.
            k: How long the words are whose numbers stay: 1 for letters, 2 for pairs of neighbours.
            replicates: R shuffles of each block.
            step: Positions from one block to the next.
            seed: Of the shuffles. Those of a block do not depend on which other blocks are asked for.
            progress: Show a progress bar.

        Returns:
            ``mutant`` (N, P, R, *output), axes ``("position", "replicate")``: ``mean()`` and ``spread()`` sum it up.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        k = _count(k, "k")
        return self._random(
            x,
            (width, start, end, step, replicates, seed),
            lambda part, first, starts, w, r, s: kinds.shuffled(part, first, starts, w, k, r, s),
            "shuffles",
            progress,
        )

    def randomize(
        self,
        x: Any,
        width: int = 1,
        start: int = 0,
        end: int | None = None,
        *,
        replicates: int = 10,
        step: int = 1,
        seed: int = 0,
        probabilities: Any = None,
        progress: bool = False,
    ) -> Mutagenesis:
        """Write random letters over every block.

        Args:
            x: (N, L, A) sequences.
            width: Positions of a block.
            start, end, replicates, step, seed, progress: As for :meth:`shuffle`.
            probabilities: (A,) how likely each letter is; equally likely by default.

        Returns:
            ``mutant`` (N, P, R, *output), axes ``("position", "replicate")``.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """

        def draw(part: np.ndarray, first: int, starts: np.ndarray, w: int, r: int, s: int) -> np.ndarray:
            shares = inputs.read_shares(probabilities, part.shape[2])
            return kinds.random_letters(part, first, starts, w, shares, r, s)

        return self._random(x, (width, start, end, step, replicates, seed), draw, "random", progress)

    def _random(self, x: Any, asked: tuple[Any, ...], draw: Any, kind: str, progress: bool) -> Mutagenesis:
        width, start, end, step, count, seed = asked
        prepared, arrays, sequences = self._opened(x)
        w, r, s = _count(width, "width"), _count(count, "replicates"), _seed(seed)
        starts = _starts(start, end, step, w, sequences.shape[1])
        each = len(starts) * r * w * sequences.shape[2] * sequences.itemsize
        parts = []
        with _bar(progress, len(sequences) * len(starts) * r) as bar:
            for rows in kinds.pieces(len(sequences), each):
                contents = draw(sequences[rows], rows.start, starts, w, r, s)
                edits = kinds.replicates(sequences[rows], starts, contents)
                parts.append(self._edited(prepared, [a[rows] for a in arrays], edits, (len(starts), r), bar.update))
        return Mutagenesis(*_joined(parts), kind, ("position", "replicate"), starts, w)

    # ------------------------------------------------------------------ changes of length

    def delete(
        self,
        x: Any,
        width: int = 1,
        start: int = 0,
        end: int | None = None,
        *,
        side: str = "right",
        flank: Any = None,
        step: int = 1,
        progress: bool = False,
    ) -> Mutagenesis:
        """Delete every block; the sequence keeps its length.

        Args:
            x: (N, L, A) sequences.
            width: Positions to delete.
            start, end: Where blocks may begin, and where they must end.
            side: The side that moves up: ``"right"``, and letters come in at the right end, or ``"left"``.
            flank: (N, F, A), F at least ``width``, the letters next to the sequence on that side; zeros by default.
            step: Positions from one block to the next.
            progress: Show a progress bar.

        Returns:
            ``mutant`` (N, P, *output), axis ``("position",)``.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        w = _count(width, "width")
        starts = _starts(start, end, step, w, sequences.shape[1])
        nothing = np.zeros((0, sequences.shape[2]), sequences.dtype)
        changes = [Change(n, int(s), int(s) + w, nothing) for n in range(len(sequences)) for s in starts]
        found = self._changed(prepared, arrays, changes, side, flank, progress)
        return _regular(found, len(sequences), "deletions", starts, w)

    def insert(
        self,
        x: Any,
        content: Any,
        start: int = 0,
        end: int | None = None,
        *,
        side: str = "right",
        step: int = 1,
        progress: bool = False,
    ) -> Mutagenesis:
        """Insert letters before every position; the sequence keeps its length.

        Args:
            x: (N, L, A) sequences.
            content: (W, A) or a text.
            start, end: Positions before which letters are inserted.
            side: The side that gives way, and loses as many letters at its end: ``"right"`` or ``"left"``.
            step: From one position to the next.
            progress: Show a progress bar.

        Returns:
            ``mutant`` (N, P, *output), axis ``("position",)``.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        letters = _one_content(content, sequences, "content")
        starts = _starts(start, end, step, 1, sequences.shape[1])
        changes = [Change(n, int(s), int(s), letters) for n in range(len(sequences)) for s in starts]
        found = self._changed(prepared, arrays, changes, side, None, progress)
        return _regular(found, len(sequences), "insertions", starts, 0)

    def variants(
        self, x: Any, changes: Sequence[Any], *, side: str = "right", flank: Any = None, progress: bool = False
    ) -> Mutagenesis:
        """Predict explicit variants.

        Args:
            x: (N, L, A) sequences.
            changes: V tuples ``(sequence, start, end, content)``: number of the sequence, the stretch that is replaced
                (0-based, half-open, empty for an insertion), and a text or (W, A) instead, empty for a deletion.
            side: Which side moves where the length changes.
            flank: (N, F, A) the letters next to each sequence on that side; zeros by default.
            progress: Show a progress bar.

        Returns:
            ``reference`` (V, *output) of the sequence of each variant and ``mutant`` (V, *output); no axes.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        read = [_change(c, i, sequences) for i, c in enumerate(changes)]
        if not read:
            raise ValueError("There are no changes; tuples (sequence, start, end, content) are accepted.")
        references, mutants = self._changed(prepared, arrays, read, side, flank, progress)
        owner = np.array([c.sequence for c in read])
        references = tree.map_structure(lambda r: r[owner], references)
        return Mutagenesis(references, mutants, "variants", (), np.array([c.start for c in read]), 0)

    def compare(self, x: Any, alternatives: Any, *, progress: bool = False) -> Mutagenesis:
        """Predict pairs of sequences that differ in a few places, such as the alleles of variants in their windows.

        Args:
            x: (V, L, A) sequences, one for each alternative, and whatever other inputs the model has.
            alternatives: (V, L, A).
            progress: Show a progress bar.

        Returns:
            ``reference`` (V, *output) and ``mutant`` (V, *output); no axes.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        other = np.asarray(alternatives)
        if other.shape != sequences.shape or other.dtype.kind not in "fiub":
            raise ValueError(
                f"alternatives have shape {other.shape} and dtype {other.dtype}; numbers of shape {sequences.shape}, "
                "one for each sequence, are accepted."
            )
        other = other.astype(sequences.dtype)
        if not np.isfinite(other).all():
            raise ValueError("alternatives hold NaN or infinite values; finite numbers are accepted.")
        found = self._alternatives(prepared, arrays, np.arange(len(other)), other.__getitem__, progress)
        return Mutagenesis(*found, "variants", (), None, 0)

    # ------------------------------------------------------------------ pairs and dependencies

    def pairs(self, x: Any, start: int = 0, end: int | None = None, *, progress: bool = False) -> Pairs:
        """Predict all pairs of substitutions in ``[start, end)``.

        Every single mutant serves as a reference, whose own mutants are computed by windows, so a pair costs what a
        single substitution does.

        Args:
            x: (N, L, A) sequences.
            start, end: Stretch of P positions; the result has (P x A)² cells for each sequence.
            progress: Show a progress bar.

        Returns:
            :class:`Pairs`: ``reference``, ``single`` and ``double``; ``interaction`` is ``d_ij - d_i - d_j``.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        first, last = inputs.read_positions(start, end, sequences.shape[1])
        p, a = last - first, sequences.shape[2]
        each = [substitutions(s[None], first, last) for s in sequences]
        total = sum(int((a - 1) * (last - 1 - e.start).sum()) for e in each)
        found = []
        with _bar(progress, total) as bar:
            for n, singles in enumerate(each):
                rows = [np.repeat(array[n : n + 1], 1 + len(singles), axis=0) for array in arrays]
                letters = self._letters(rows).copy()
                letters[np.arange(1, len(letters)), singles.start] = singles.contents[singles.content, 0]
                at = prepared.graph.inputs.index(prepared.engine.program.mutated)
                rows[at] = with_letters(rows[at], letters, self._channels)
                edits = second(self._letters(rows), singles, first, last)
                references, doubles = self._edited(prepared, rows, edits, (p, a), bar.update, restore=False)
                found.append([paired(r, d, singles, p, a) for r, d in zip(references, doubles, strict=True)])
        restore = prepared.graph.restore_outputs
        parts = [[np.stack(arrays) for arrays in zip(*outputs, strict=True)] for outputs in zip(*found, strict=True)]
        return Pairs(*(restore([part[i] for part in parts]) for i in range(3)))

    def dependency(self, x: Any, start: int = 0, end: int | None = None, *, progress: bool = False) -> Any:
        """How strongly each position of the output depends on each position of the sequence.

        Args:
            x: (N, L, A) sequences.
            start, end: Stretch of P positions; the whole sequence by default.
            progress: Show a progress bar.

        Returns:
            (N, P, *output) for each output: the largest absolute difference that a substitution at the position makes
            there.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        prepared, arrays, sequences = self._opened(x)
        first, last = inputs.read_positions(start, end, sequences.shape[1])
        found = []
        with _bar(progress, len(sequences)) as bar:
            for n in range(len(sequences)):
                part = prepared.graph.pack_inputs([array[n : n + 1] for array in arrays])
                one = self.saturate(part, first, last, compact=True)
                flat = zip(*(tree.flatten(p) for p in one), strict=True)
                found.append([strongest(r[0], w[0], s) for r, w, s in flat])
                bar.update(1)
        return prepared.graph.restore_outputs([np.stack(arrays) for arrays in zip(*found, strict=True)])

    # ------------------------------------------------------------------ running

    def _opened(self, x: Any) -> tuple[Prepared, list[np.ndarray], np.ndarray]:
        prepared, arrays = self._open(x)
        return prepared, arrays, self._letters(arrays)

    def _edited(
        self,
        prepared: Prepared,
        arrays: list[np.ndarray],
        edits: Edits,
        cells: tuple[int, ...],
        progress: Any,
        restore: bool = True,
    ) -> tuple[Any, Any]:
        """(references, mutants (N, *cells, *output)), as the model nests its outputs if ``restore``."""
        n, each = len(arrays[0]), int(np.prod(cells))
        edits, owner = replace(edits, channels=self._channels), np.repeat(np.arange(n), each)
        with _bar(False if callable(progress) else progress, len(edits)) as bar:
            update = progress if callable(progress) else bar.update
            references, flat = predict_edits(prepared, arrays, edits, owner, update)
        mutants = [m.reshape(n, *cells, *m.shape[1:]) for m in flat]
        if not restore:
            return references, mutants
        return prepared.graph.restore_outputs(references), prepared.graph.restore_outputs(mutants)

    def _alternatives(
        self, prepared: Prepared, arrays: list[np.ndarray], owner: np.ndarray, make: Make, progress: bool
    ) -> tuple[Any, Any]:
        """(references (N, ...), mutants (V, ...)), as the model nests its outputs."""
        with _bar(progress, len(owner)) as bar:
            found = predict_alternatives(prepared, arrays, owner, make, self._channels, bar.update)
        return prepared.graph.restore_outputs(found[0]), prepared.graph.restore_outputs(found[1])

    def _changed(
        self,
        prepared: Prepared,
        arrays: list[np.ndarray],
        changes: Sequence[Change],
        side: str,
        flank: Any,
        progress: Any,
    ) -> tuple[Any, Any]:
        """(references (N, ...), mutants (V, ...)) of changes of any length."""
        sequences = self._letters(arrays)
        if side not in ("left", "right"):
            raise ValueError(f"side is {side!r}; 'left' or 'right', the side that moves, is accepted.")
        missing = max(c.end - c.start - len(c.content) for c in changes)
        beside = inputs.read_flank(flank, sequences, max(missing, 0))

        def make(i: int) -> np.ndarray:
            change = changes[i]
            return kinds.changed(
                sequences[change.sequence], change, side, None if beside is None else beside[change[0]]
            )

        owner = np.array([c.sequence for c in changes])
        return self._alternatives(prepared, arrays, owner, make, progress)


# ---------------------------------------------------------------------- arguments


def _count(value: Any, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; a positive integer is accepted.")
    return number


def _seed(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise ValueError(f"seed is {value!r}; an integer that is not negative is accepted.")
    return number


def _starts(start: Any, end: Any, step: Any, width: int, length: int) -> np.ndarray:
    """Where blocks begin that lie within [start, end)."""
    first, last = inputs.read_positions(start, end, length)
    if last - first < width:
        raise ValueError(f"Blocks of {width} do not fit into positions {first} to {last}; choose a longer stretch.")
    return np.arange(first, last - width + 1, _count(step, "step"))


def _change(value: Any, i: int, sequences: np.ndarray) -> Change:
    accepted = "(sequence, start, end, content) is accepted"
    try:
        sequence, start, end = (operator.index(v) for v in tuple(value)[:3])
        content = tuple(value)[3]
    except (TypeError, ValueError, IndexError):
        raise ValueError(f"changes[{i}] is {value!r}; {accepted}, three integers and a text or letters.") from None
    n, length, alphabet = sequences.shape
    if not 0 <= sequence < n or not 0 <= start <= end <= length:
        raise ValueError(
            f"changes[{i}] is of sequence {sequence}, positions {start} to {end}; {accepted} with a sequence from 0 to "
            f"{n - 1} and 0 <= start <= end <= {length}."
        )
    if len(content) == 0 or (isinstance(content, str) and content == "-"):
        return Change(sequence, start, end, np.zeros((0, alphabet), sequences.dtype))
    return Change(sequence, start, end, _one_content(content, sequences, f"the content of changes[{i}]"))


def _one_content(content: Any, sequences: np.ndarray, what: str) -> np.ndarray:
    """(W, A) the letters of one content."""
    contents = inputs.read_contents(content, sequences.shape[2], sequences.dtype)
    if len(contents) != 1:
        raise ValueError(
            f"{what} holds {len(contents)} contents; one, a text or (W, {sequences.shape[2]}), is accepted. Call "
            "again, or give another change, for each."
        )
    return contents[0]


def _bar(progress: bool, total: int) -> Any:
    return tqdm(total=total, unit="variants", desc="FastISM", disable=not inputs.read_flag(progress, "progress"))


# ---------------------------------------------------------------------- results


def _joined(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Parts of a job, one after the other."""
    if len(parts) == 1:
        return parts[0]
    references, mutants = zip(*parts, strict=True)
    joined = [tree.map_structure(lambda *arrays: np.concatenate(arrays), *p) for p in (references, mutants)]
    return joined[0], joined[1]


def _regular(found: tuple[Any, Any], n: int, kind: str, starts: np.ndarray, width: int) -> Mutagenesis:
    references, mutants = found
    mutants = tree.map_structure(lambda m: m.reshape(n, len(starts), *m.shape[1:]), mutants)
    return Mutagenesis(references, mutants, kind, ("position",), starts, width)
