"""Averages of mutagenesis over models, strands and shifts, with their spread."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastism.inputs import as_numbers, read_flag, read_positions
from fastism.naive import Saturation
from fastism.scores import map_outputs, select_target


class EnsembleSaturation(Saturation):
    """Predictions averaged over an ensemble; unpacks as ``reference, mutant`` like any :class:`Saturation`.

    Attributes:
        reference: (N, *output) mean over the members, float64.
        mutant: (N, P, A, *output) mean over the members, float64.
        spread: A :class:`Saturation` of the standard deviations of these over the members, with ``ddof`` as the
            ensemble was told.
        difference_spread: (N, P, A, *output) the standard deviation of mutant - reference over the members. What
            members disagree about is often the level of both, which leaves the difference; so this is not what the
            two of ``spread`` would suggest.
        members: How many predictions were averaged: models times strands times shifts.

    Each is a list or dict for a model with several outputs.
    """

    spread: Saturation
    difference_spread: Any
    members: int

    def __new__(
        cls, reference: Any, mutant: Any, *, spread: Saturation, difference_spread: Any, members: int
    ) -> EnsembleSaturation:
        """As any :class:`Saturation`, and what only averages have beside it."""
        made = super().__new__(cls, reference, mutant)
        made.spread, made.difference_spread, made.members = spread, difference_spread, members
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (tuple(self), self.spread, self.difference_spread, self.members)

    def select_target(self, target: Any, names: Sequence[str] | None = None) -> EnsembleSaturation:
        """The same of some targets: see :func:`fastism.scores.select_target`."""
        parts = (self.reference, self.mutant, *self.spread, self.difference_spread)
        return _restored_from(*[select_target(part, target, names) for part in parts], members=self.members)


def _restored(means: tuple[Any, Any], spread: Saturation, difference_spread: Any, members: int) -> EnsembleSaturation:
    return EnsembleSaturation(*means, spread=spread, difference_spread=difference_spread, members=members)


def _restored_from(f: Any, b: Any, f_std: Any, b_std: Any, d_std: Any, members: int) -> EnsembleSaturation:
    return EnsembleSaturation(f, b, spread=Saturation(f_std, b_std), difference_spread=d_std, members=members)


class Ensemble:
    """Mutagenesis by several models, on both strands, and at shifts, averaged.

    A member predicts f(t(x)): model f, of the sequence moved by a shift and then, for half of the members if ``rc``,
    reverse-complemented. All results are in the frame of the input: position p and letter a of the mutant are what
    writing a at p of ``x`` does, whatever the member saw.

    A shift of s moves the sequence s positions to the right, with zeros (N) moved in on the left; a negative one to the
    left. A position that is moved out of the window is not seen by that member, for which writing there changes
    nothing: its mutants are its reference, and the mean over members says what the average prediction does. Outputs
    along the sequence are not moved back by shifts, which are meant to be small beside an output's bin.

    Args:
        models: Keras models, or objects that have ``saturate`` such as :class:`~fastism.FastISM`; their outputs are of
            one shape.
        rc: Average over the sequence and its reverse complement.
        shifts: Average over these shifts, in positions; 0 for the sequence as it is has to be among them to count.
        flip_outputs: Which outputs run along the sequence, and are turned around where the sequence was: True for all,
            or a list of indices or names of a model's several outputs. An output (O, T) is turned around over O.
        strand_pairs: (T,) for each target, the index of the target on the other strand (itself if it has none); applied
            to the last axis of each output of that size where the sequence was reverse-complemented. Outputs of one
            number for each sequence, (N,), have no targets to exchange.
        complement: For each channel of the input, the channel of its complement, letters first; ``(3, 2, 1, 0)`` for
            ACGT by default.
        seq_input: Which part of ``x`` is the sequence, where ``x`` is a list (index) or dict (key) of several inputs.
        ddof: The standard deviation divides by members - ddof: 0 for the spread of these members, 1 to estimate that
            of all models like them.
        **options: For :class:`~fastism.FastISM`, which is made of each Keras model.

    Raises:
        ValueError: If an argument is out of range.

    Example::

        folds = Ensemble([keras.models.load_model(f"fold{i}.keras") for i in range(5)], rc=True, shifts=(-1, 0, 1))
        result = folds.saturate(x)                       # 5 models x 2 strands x 3 shifts
        differences = difference(*result)                # (N, L, 4, T)
        sure = abs(differences) > 2 * result.difference_spread
    """

    def __init__(
        self,
        models: Sequence[Any],
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        *,
        flip_outputs: bool | Sequence[int | str] = False,
        strand_pairs: Sequence[int] | None = None,
        complement: Sequence[int] | None = None,
        seq_input: int | str = 0,
        ddof: int = 0,
        **options: Any,
    ):
        self.models = [_mutagenesis(model, options) for model in _listed(models)]
        self.rc, self.shifts = read_flag(rc, "rc"), _shifts(shifts)
        listed = isinstance(flip_outputs, list | tuple)
        self.flip_outputs = list(flip_outputs) if listed else read_flag(flip_outputs, "flip_outputs")
        self.strand_pairs = None if strand_pairs is None else _pairing(strand_pairs, "strand_pairs")
        self.complement = None if complement is None else _pairing(complement, "complement")
        self.seq_input, self.ddof = seq_input, ddof
        if not isinstance(ddof, int) or not 0 <= ddof < max(len(self), 2):
            raise ValueError(f"ddof is {ddof!r}; 0 or 1 is accepted.")
        if ddof >= len(self):
            raise ValueError(f"ddof is {ddof}, but there is one member only, of which no spread can be told; 0 is.")

    def __len__(self) -> int:
        """How many predictions are averaged: models times strands times shifts."""
        return len(self.models) * len(self.shifts) * (1 + self.rc)

    def saturate(self, x: Any, start: int = 0, end: int | None = None, progress: bool = False) -> EnsembleSaturation:
        """Predict each sequence with every letter at every position of ``[start, end)``, averaged over the members.

        Args:
            x: (N, L, A) sequences, or what else the models take; the sequences one-hot.
            start, end: Stretch of positions, 0-based and half-open; the whole sequence by default; negative ones count
                from the end.
            progress: Show a progress bar for each member.

        Returns:
            :class:`EnsembleSaturation`.

        Raises:
            ValueError: If an argument does not fit, or members give outputs of different shapes.
        """
        moments: list[Any] = []
        shapes: Any = None
        for reference, mutant in self.members(x, start, end, progress):
            parts, shape = (reference, mutant, map_outputs(_minus, mutant, reference)), map_outputs(np.shape, reference)
            if not moments:
                moments, shapes = [map_outputs(_Moments, part) for part in parts], shape
            if shape != shapes:
                raise ValueError(
                    f"The models give outputs of different shapes, {shapes} and {shape}; equal ones are averaged."
                )
            for moment, part in zip(moments, parts, strict=True):
                map_outputs(_Moments.add, moment, part)
        f, b = (map_outputs(lambda m: m.mean, moment) for moment in moments[:2])
        f_std, b_std, d_std = (map_outputs(lambda m: m.std(self.ddof), moment) for moment in moments)
        return _restored_from(f, b, f_std, b_std, d_std, members=len(self))

    def members(
        self, x: Any, start: int = 0, end: int | None = None, progress: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """What each member predicts, one after the other: reference and mutant, in the frame of ``x``.

        Args:
            x, start, end, progress: As for :meth:`saturate`.

        Yields:
            (N, *output) and (N, P, A, *output) for each model, strand and shift.

        Raises:
            ValueError: If an argument does not fit.
        """
        length = self.sequence(x).shape[1]
        first, last = read_positions(start, end, length)
        far = [s for s in self.shifts if abs(s) >= length]
        if far:
            raise ValueError(f"shifts holds {far[0]}, which moves sequences of {length} out of sight.")
        for shift in self.shifts:
            for turned in (False, True)[: 1 + self.rc]:
                seen = self.seen(self.sequence(x), shift, turned)
                for model in self.models:
                    yield self._member(model, self._with(x, seen), first, last, shift, turned, progress)

    def _member(
        self, model: Any, x: Any, first: int, last: int, shift: int, turned: bool, progress: bool
    ) -> tuple[Any, Any]:
        """Reference and mutant of positions ``first`` to ``last`` of the input, by one member."""
        length = self.sequence(x).shape[1]
        low, high = max(first + shift, 0), min(last + shift, length)  # where the stretch is after the shift
        if low >= high:  # none of it is seen: one position, for the reference
            low, high, seen = 0, 1, slice(0, 0)
        else:
            seen = slice(low - shift - first, high - shift - first)
        begin, stop = (length - high, length - low) if turned else (low, high)
        reference, mutant = model.saturate(x, begin, stop, progress)
        if turned:
            reference, mutant = self._outputs_back(reference, 1), self._outputs_back(mutant, 3)
        size = last - first

        def back(f: np.ndarray, b: np.ndarray) -> np.ndarray:
            if turned:
                b = b[:, ::-1][:, :, self._letters(b.shape[2])]
            if seen == slice(0, size):
                return b
            whole = np.repeat(np.repeat(f[:, None, None], size, axis=1), b.shape[2], axis=2)
            whole[:, seen] = b[:, : seen.stop - seen.start]
            return whole

        return reference, map_outputs(back, reference, mutant)

    def _outputs_back(self, outputs: Any, axis: int) -> Any:
        """Outputs of turned sequences on the input's strand: positions (``axis``) turned back, targets exchanged."""
        pairs = self.strand_pairs
        sizes: list[int] = []  # numbers of targets, where there are any: one number for each sequence has no strand

        def back(array: np.ndarray, flip: bool) -> np.ndarray:
            if flip and axis < array.ndim:
                array = np.flip(array, axis)
            if pairs is not None and axis < array.ndim:
                sizes.append(array.shape[-1])
                return array[..., pairs] if array.shape[-1] == len(pairs) else array
            return array

        found = map_outputs(back, outputs, self._flips(outputs))
        if pairs is not None and sizes and len(pairs) not in sizes:
            raise ValueError(f"strand_pairs is for {len(pairs)} targets, but no output of the models has as many.")
        return found

    def _flips(self, outputs: Any) -> Any:
        """For each output, whether it is turned around with the sequence."""
        everything: Any = map_outputs(lambda array: self.flip_outputs is True, outputs)
        if isinstance(self.flip_outputs, bool):
            return everything
        if not isinstance(outputs, (Mapping, list)):
            raise ValueError(
                f"flip_outputs is {self.flip_outputs!r}, but the models have one output; True or False is accepted."
            )
        parts: dict[Any, Any] = dict(outputs) if isinstance(outputs, Mapping) else dict(enumerate(outputs))
        unknown = [key for key in self.flip_outputs if key not in parts]
        if unknown:
            raise ValueError(f"flip_outputs holds {unknown[0]!r}; the outputs are {list(parts)}.")
        for key in self.flip_outputs:
            everything[key] = map_outputs(lambda array: True, parts[key])
        return everything

    def _letters(self, size: int) -> list[int]:
        """The complement of each of the letters, which are the first channels."""
        letters = self._channels(size) if self.complement is None else self.complement[:size]
        if sorted(letters) != list(range(size)):
            raise ValueError(
                f"complement is {self.complement}, by which the {size} letters are not each other's complements; "
                "letters first, and then the other channels, is accepted."
            )
        return letters

    def _channels(self, size: int) -> list[int]:
        """The complement of each channel of the input."""
        complement = [3, 2, 1, 0] if self.complement is None else self.complement
        if len(complement) != size:
            raise ValueError(
                f"The sequences have {size} channels and complement is for {len(complement)}; give complement=, for "
                "each channel the channel of its complement, such as (3, 2, 1, 0) for ACGT."
            )
        return complement

    def seen(self, sequence: np.ndarray, shift: int, turned: bool) -> np.ndarray:
        """(N, L, A) what a member sees of sequences."""
        there = moved(sequence, shift)
        return self._turned(there) if turned else there

    def back(self, outputs: Any) -> Any:
        """Outputs (N, *output) of turned sequences, on the strand of the sequences that were given."""
        return self._outputs_back(outputs, 1)

    def _turned(self, sequence: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(sequence[:, ::-1][:, :, self._channels(sequence.shape[2])])

    def sequence(self, x: Any) -> np.ndarray:
        """(N, L, A) the part of ``x`` that is the sequence."""
        part: Any = x
        if isinstance(x, (Mapping, list, tuple)):
            held: dict[Any, Any] = dict(x) if isinstance(x, Mapping) else dict(enumerate(x))
            if self.seq_input not in held:
                raise ValueError(f"seq_input is {self.seq_input!r}; x holds {list(held)}, one of which is accepted.")
            part = held[self.seq_input]
        sequence = as_numbers(part, "x")
        if sequence.ndim != 3:
            raise ValueError(f"The sequences have shape {sequence.shape}; (N, L, A) is accepted.")
        return sequence

    def _with(self, x: Any, sequence: np.ndarray) -> Any:
        """``x`` with another sequence."""
        if isinstance(x, Mapping):
            return {key: sequence if key == self.seq_input else part for key, part in x.items()}
        if isinstance(x, (list, tuple)):
            return [sequence if i == self.seq_input else part for i, part in enumerate(x)]
        return sequence


class _Moments:
    """Mean and squared deviations, updated with one array after the other (Welford), in float64."""

    def __init__(self, like: np.ndarray):
        self.count, self.mean, self._squares = 0, np.zeros(like.shape), np.zeros(like.shape)

    def add(self, array: np.ndarray) -> None:
        self.count += 1
        change = array.astype(np.float64) - self.mean
        self.mean += change / self.count
        self._squares += change * (array - self.mean)

    def std(self, ddof: int) -> np.ndarray:
        return np.sqrt(self._squares / (self.count - ddof))


def _minus(mutant: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return mutant.astype(np.float64) - reference[:, None, None]


def moved(sequence: np.ndarray, shift: int) -> np.ndarray:
    """Moved to the right by ``shift``, zeros moved in."""
    moved, length = np.zeros_like(sequence), sequence.shape[1]
    moved[:, max(shift, 0) : length + min(shift, 0)] = sequence[:, max(-shift, 0) : length - max(shift, 0)]
    return moved


def _mutagenesis(model: Any, options: Mapping[str, Any]) -> Any:
    """An object with ``saturate``."""
    if hasattr(model, "saturate"):
        if options:
            raise ValueError(
                f"{sorted(options)} are for making a FastISM; a {type(model).__name__} was given, made already."
            )
        return model
    from fastism.ism import FastISM

    return FastISM(model, **options)


def _listed(models: Any) -> list[Any]:
    if not isinstance(models, (list, tuple)) or not models:
        raise ValueError(f"models is {models!r}; a list of at least one model is accepted.")
    return list(models)


def _shifts(shifts: Any) -> list[int]:
    try:
        found = [operator.index(s) for s in shifts]
    except TypeError:
        found = []
    if not found or len(set(found)) < len(found):
        raise ValueError(f"shifts is {shifts!r}; a list of different integers, such as (0, 1, -1), is accepted.")
    return found


def _pairing(indices: Sequence[int], name: str) -> list[int]:
    """A permutation that undoes itself."""
    found = [operator.index(i) for i in indices]
    if sorted(found) != list(range(len(found))) or any(found[j] != i for i, j in enumerate(found)):
        raise ValueError(f"{name} is {found}; each index with its partner's, which leads back to it, is accepted.")
    return found
