"""Naive in-silico mutagenesis: the whole model run again for every edit.

This is the oracle that the fast path is compared with, and the baseline it is timed against. It shares no
code with the rest of the package, so a mistake on one side cannot hide the same mistake on the other.

Letters: N sequences, L input length, A alphabet size, P edited ranges or positions, W width of an edit, R
replacements tried at each place, E edits that change something.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from tqdm import tqdm

_CHUNK_BYTES = 256 * 2**20  # mutated inputs held at once
_BATCHES_PER_PROGRESS_STEP = 16


class Saturation(NamedTuple):
    """Predictions of a saturation mutagenesis.

    Both fields are arrays, or lists or dicts of arrays for a model with several outputs.

    Attributes:
        reference: Predictions of the unmodified sequences, ``(N, *output_shape)``.
        mutant: Predictions with letter ``a`` written at position ``start + p``, ``(N, P, A, *output_shape)``.
            The cell of the letter that already stands there is a copy of ``reference``.
    """

    reference: Any
    mutant: Any

    @property
    def differences(self) -> Any:
        """Mutant - reference, ``(N, P, A, *output_shape)``, for each output."""
        return keras.tree.map_structure(lambda m, r: m - r[:, None, None], self.mutant, self.reference)

    def __repr__(self) -> str:
        return shapes_shown(self)


def shapes_shown(found: Any, *said: str) -> str:
    """A named tuple of arrays, or of lists or dicts of arrays, on one line: the shapes instead of the numbers.

    Args:
        found: The tuple.
        said: What to say before the shapes.

    Example:
        >>> Saturation(np.zeros((2, 1)), {"a": np.zeros((2, 5, 4, 1))})
        Saturation(reference (2, 1), mutant {'a': (2, 5, 4, 1)})
    """
    shapes = [f"{name} {keras.tree.map_structure(np.shape, value)}" for name, value in found._asdict().items()]
    return f"{type(found).__name__}({', '.join([*said, *shapes])})"


class _Edits(NamedTuple):
    """The edits that change something, and where each cell of the result is found among the predicted rows.

    Attributes:
        sequence: Index of the edited sequence, ``(E,)``.
        start: First edited position, ``(E,)``.
        choice: Index into ``replacements``, ``(E,)``.
        replacements: What is written, ``(R, W, A)``.
        source: Row of each cell, ``(N, P, R)``: rows ``0 .. N-1`` are the references, row ``N + e`` is edit
            ``e``.
    """

    sequence: np.ndarray
    start: np.ndarray
    choice: np.ndarray
    replacements: np.ndarray
    source: np.ndarray


class NaiveISM:
    """In-silico mutagenesis by predicting every mutated sequence from scratch.

    Exact by definition, and slow. Use it to check another implementation, or for a model that nothing faster
    supports. Edits that leave a sequence as it was are not predicted; they take the reference prediction.

    Args:
        model: A built Keras model with symbolic inputs (Functional or Sequential). It is not modified.
        seq_input_idx: Which of ``model.inputs`` is mutated. That input has shape ``(N, L, A)``.
        change_ranges: Half-open ``(start, end)`` ranges, all of one width W, each edited on its own. ``None``
            edits every single position.
        batch_size: Mutated sequences in one batch of ``model.predict``.
        channels: Which channels of the mutated input are letters; all by default. The others keep their values.

    Raises:
        TypeError: If the model has no ``predict`` method or no symbolic inputs.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> inputs = keras.Input((10, 4))
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
        >>> x = np.eye(4)[np.random.default_rng(0).integers(4, size=(3, 10))]
        >>> NaiveISM(model)(x).shape
        (3, 10, 2)
        >>> NaiveISM(model, change_ranges=[(0, 5), (5, 10)])(x).shape
        (3, 2, 2)
        >>> NaiveISM(model).saturate(x, start=2, end=6).mutant.shape
        (3, 4, 4, 2)
    """

    def __init__(
        self,
        model: Any,
        seq_input_idx: int = 0,
        change_ranges: Sequence[tuple[int, int]] | None = None,
        *,
        batch_size: int = 128,
        channels: Sequence[int] | slice | None = None,
    ) -> None:
        self.model = model
        self._struct = _input_struct(model)
        self._inputs = keras.tree.flatten(self._struct)
        self.seq_input_idx = _checked_input_index(seq_input_idx, len(self._inputs))
        shape = tuple(self._inputs[self.seq_input_idx].shape)
        if len(shape) != 3:
            raise ValueError(
                f"Input {self.seq_input_idx} of the model has shape {shape}; sequences of shape "
                "(N, length, alphabet) are mutated. Point seq_input_idx at another input."
            )
        self._channels = _checked_channels(channels, shape[2])
        self.change_ranges = None if change_ranges is None else _checked_ranges(change_ranges, shape[1])
        fixed_batch, wanted = shape[0], _checked_batch_size(batch_size)
        self.batch_size = wanted if fixed_batch is None else int(fixed_batch)
        self._pads_every_batch = fixed_batch is not None

    def __call__(self, x: Any = None, replace_with: Any = 0, *, inp_batch: Any = None) -> Any:
        """Predict every sequence with each of the ranges replaced, one range at a time.

        Args:
            x: Sequences ``(N, L, A)``; for a model with several inputs a list or tuple of arrays in the order
                of ``model.inputs``, or a dict of arrays by input name. Tensors of the Keras backend are
                accepted.
            replace_with: What is written over a range: ``0`` for zeros, a vector ``(A,)`` when the ranges are
                one position wide, or an array ``(W, A)``.
            inp_batch: The name that ``x`` had in fastISM 0.5.

        Returns:
            Predictions ``(N, P, *output_shape)`` in the order of ``change_ranges``; a list or a dict of such
            arrays for a model with several outputs.

        Raises:
            TypeError: If an input is not numeric.
            ValueError: If shapes do not fit the model, or the sequences hold NaN.
        """
        arrays = self._checked_inputs(inp_batch if x is None else x)
        sequences = arrays[self.seq_input_idx][..., self._channels]
        _, length, alphabet = sequences.shape
        if self.change_ranges is None:
            starts, width = np.arange(length), 1
        else:
            ranges = _checked_ranges(self.change_ranges, length)
            starts, width = np.array([start for start, _ in ranges]), ranges[0][1] - ranges[0][0]
        replacement = _checked_replacement(replace_with, width, alphabet, sequences.dtype)
        edits = _plan_edits(sequences, starts, replacement[None])
        predicted = self._predict_rows(arrays, edits, progress=False)
        return _restore(predicted, lambda rows: rows[edits.source[:, :, 0]])

    def reference(self, x: Any) -> Any:
        """Predict the unmodified sequences.

        Args:
            x: As for calling the object.

        Returns:
            Predictions ``(N, *output_shape)``; a list or a dict of arrays for a model with several outputs.

        Raises:
            TypeError: If an input is not numeric.
            ValueError: If shapes do not fit the model, or the sequences hold NaN.
        """
        arrays = self._checked_inputs(x)
        sequences = arrays[self.seq_input_idx][..., self._channels]
        nothing = _plan_edits(sequences, np.empty(0, int), np.empty((1, 1, sequences.shape[2]), sequences.dtype))
        return _restore(self._predict_rows(arrays, nothing, progress=False), lambda rows: rows)

    def saturate(self, x: Any, start: int = 0, end: int | None = None, progress: bool = False) -> Saturation:
        """Predict every one-letter substitution at every position of ``[start, end)``.

        ``change_ranges`` plays no part here.

        Args:
            x: As for calling the object.
            start: First position, 0-based.
            end: Position after the last one; ``None`` for the end of the sequence.
            progress: Whether to show a progress bar that counts variants.

        Returns:
            The reference predictions ``(N, *output_shape)`` and the mutants'
            ``(N, end - start, A, *output_shape)``.

        Raises:
            TypeError: If an input is not numeric.
            ValueError: If shapes do not fit the model, the interval is not inside the sequences, or they hold
                NaN.
        """
        arrays = self._checked_inputs(x)
        sequences = arrays[self.seq_input_idx][..., self._channels]
        count, length, alphabet = sequences.shape
        first, stop = _checked_interval(start, end, length)
        letters = np.eye(alphabet, dtype=sequences.dtype)[:, None, :]  # (A, 1, A)
        edits = _plan_edits(sequences, np.arange(first, stop), letters)
        predicted = self._predict_rows(arrays, edits, progress=progress)
        return Saturation(
            reference=_restore(predicted, lambda rows: rows[:count].copy()),
            mutant=_restore(predicted, lambda rows: rows[edits.source]),
        )

    def _checked_inputs(self, x: Any) -> list[np.ndarray]:
        """Put the user's inputs in the order of ``model.inputs``, as NumPy arrays of the declared types."""
        values = _ordered_inputs(x, self._inputs, self._struct)
        arrays = []
        for index, (value, declared) in enumerate(zip(values, self._inputs, strict=True)):
            array = value if isinstance(value, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(value))
            arrays.append(_cast(array, _numpy_dtype(declared.dtype), f"Input {index}"))
        sequences = arrays[self.seq_input_idx]
        _check_sequences(sequences, tuple(self._inputs[self.seq_input_idx].shape))
        for index, array in enumerate(arrays):
            if array.ndim == 0 or len(array) != len(sequences):
                raise ValueError(
                    f"Input {index} has shape {array.shape}, but there are {len(sequences)} sequences; "
                    "every input needs one row for each sequence."
                )
        return arrays

    def _predict_rows(self, arrays: list[np.ndarray], edits: _Edits, *, progress: bool) -> Any:
        """Predict the references, then every edit: ``(N + E, *output_shape)``, structured as the outputs."""
        count = len(arrays[0])
        total = count + len(edits.sequence)
        step = self._rows_per_chunk(arrays, progress)
        whole: list[np.ndarray] = []
        structure: Any = None
        with tqdm(total=len(edits.sequence), unit="variants", desc="NaiveISM", disable=not progress) as bar:
            for first in range(0, total, step):
                rows = np.arange(first, min(first + step, total))
                structure = self._predict_chunk(
                    _build_inputs(arrays, self.seq_input_idx, edits, self._padded(rows, total), self._channels)
                )
                leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(structure)]
                if not whole:
                    whole = [np.empty((total, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
                for target, leaf in zip(whole, leaves, strict=True):
                    target[rows] = leaf[: len(rows)]
                bar.update(int(np.count_nonzero(rows >= count)))
        return keras.tree.pack_sequence_as(structure, whole)

    def _rows_per_chunk(self, arrays: list[np.ndarray], progress: bool) -> int:
        """Number of rows built at once: whole batches, within the memory limit."""
        row_bytes = max(1, sum(array.nbytes // len(array) for array in arrays))
        batches = max(1, _CHUNK_BYTES // row_bytes // self.batch_size)
        return self.batch_size * (min(batches, _BATCHES_PER_PROGRESS_STEP) if progress else batches)

    def _padded(self, rows: np.ndarray, total: int) -> np.ndarray:
        """Fill the last batch up with copies of its last row, where another size would be compiled anew."""
        recompiles = total > self.batch_size and keras.backend.backend() != "torch"
        missing = -len(rows) % self.batch_size
        if missing and (recompiles or self._pads_every_batch):
            return np.concatenate([rows, np.repeat(rows[-1:], missing)])
        return rows

    def _predict_chunk(self, arrays: list[np.ndarray]) -> Any:
        structured = keras.tree.pack_sequence_as(self._struct, arrays)
        predicted = self.model.predict(structured, batch_size=self.batch_size, verbose=0)
        for leaf in keras.tree.flatten(predicted):
            if np.ndim(leaf) == 0 or len(leaf) != len(arrays[0]):
                raise ValueError(
                    f"An output of the model has shape {np.shape(leaf)} for {len(arrays[0])} sequences; "
                    "every output needs one row for each sequence."
                )
        return predicted


def _plan_edits(sequences: np.ndarray, starts: np.ndarray, replacements: np.ndarray) -> _Edits:
    """List the edits that change something: every replacement at every start of every sequence.

    Args:
        sequences: ``(N, L, A)``.
        starts: First position of each edited range, ``(P,)``.
        replacements: What is written there, ``(R, W, A)``.
    """
    width = replacements.shape[1]
    changed = np.empty((len(sequences), len(starts), len(replacements)), bool)
    for index, sequence in enumerate(sequences):
        windows = np.lib.stride_tricks.sliding_window_view(sequence, width, axis=0)[starts]  # (P, A, W)
        for choice, replacement in enumerate(replacements):
            changed[index, :, choice] = (windows != replacement.T).any(axis=(1, 2))
    sequence_of, place_of, choice_of = np.nonzero(changed)
    source = np.broadcast_to(np.arange(len(sequences))[:, None, None], changed.shape).copy()
    source[changed] = len(sequences) + np.arange(len(sequence_of))
    return _Edits(sequence_of, starts[place_of], choice_of, replacements, source)


def _build_inputs(
    arrays: list[np.ndarray], seq_input_idx: int, edits: _Edits, rows: np.ndarray, channels: np.ndarray
) -> list[np.ndarray]:
    """Copy the inputs of the given rows (references first, then edits) and write the edits in."""
    count = len(arrays[0])
    mutated = np.flatnonzero(rows >= count)
    edit = rows[mutated] - count
    sequence_of = rows.copy()
    sequence_of[mutated] = edits.sequence[edit]
    built = [array[sequence_of] for array in arrays]
    positions = edits.start[edit][:, None] + np.arange(edits.replacements.shape[1])  # (rows, W)
    where = (mutated[:, None, None], positions[:, :, None], channels)
    built[seq_input_idx][where] = edits.replacements[edits.choice[edit]]
    return built


def _restore(predicted: Any, take: Any) -> Any:
    """Apply ``take`` to every output; a tuple of outputs becomes a list, and dicts list theirs in flat order."""
    leaves = keras.tree.flatten(predicted)
    taken = keras.tree.pack_sequence_as(predicted, [take(rows) for rows in leaves])
    _sort_entries(taken, keras.tree.pack_sequence_as(predicted, list(range(len(leaves)))))
    return list(taken) if isinstance(taken, tuple) else taken


def _sort_entries(outputs: Any, places: Any) -> None:
    """Sort every dict in ``outputs``, in place, by the ``places`` of what it holds among the flat outputs."""
    if isinstance(outputs, dict):
        for key in sorted(outputs, key=lambda name: min(keras.tree.flatten(places[name]), default=0)):
            outputs[key] = outputs.pop(key)  # to the end
            _sort_entries(outputs[key], places[key])
    elif isinstance(outputs, (list, tuple)):
        for part, place in zip(outputs, places, strict=True):
            _sort_entries(part, place)


def _input_struct(model: Any) -> Any:
    """The structure (tensor, list, tuple or dict) of symbolic tensors in which the model takes its inputs."""
    struct, inputs = None, getattr(model, "inputs", None)
    if inputs:
        struct = inputs[0] if isinstance(model, keras.Sequential) else model.input
    elif hasattr(model, "predict"):  # a subclassed model knows the shapes that it was called with
        shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
        struct = _symbols(shapes[0], "x") if len(shapes) == 1 else None
    if not hasattr(model, "predict") or struct is None:
        raise TypeError(
            f"The model is a {type(model).__name__} without symbolic inputs; a built Functional or "
            "Sequential Keras model, or a subclassed one that was called on a batch, is accepted. Call a subclassed "
            "model on keras.Input tensors and wrap the result in keras.Model."
        )
    return struct


def _symbols(shapes: Any, name: str) -> Any:
    """Symbolic tensors for the shapes, nested in lists and dicts, that a model was called with."""
    if isinstance(shapes, dict):
        return {key: _symbols(shape, str(key)) for key, shape in shapes.items()}
    if any(isinstance(size, (tuple, list, dict)) for size in shapes):  # not in one shape, a list in models from files
        return [_symbols(shape, f"{name}_{i}") for i, shape in enumerate(shapes)]
    return keras.KerasTensor((None, *shapes[1:]), name=name)


def _input_names(inputs: Sequence[Any], struct: Any) -> list[str]:
    if isinstance(struct, dict) and not any(isinstance(part, (dict, list, tuple)) for part in struct.values()):
        name_of = {id(tensor): str(name) for name, tensor in struct.items()}
        return [name_of.get(id(tensor), str(tensor.name)) for tensor in inputs]
    return [str(tensor.name) for tensor in inputs]


def _ordered_inputs(x: Any, inputs: Sequence[Any], struct: Any) -> list[Any]:
    names = _input_names(inputs, struct)
    own = _nested_alike(struct, x) if isinstance(struct, (dict, list, tuple)) else None
    if own is not None:
        return [own[id(tensor)] for tensor in inputs]
    if isinstance(x, dict):
        if set(x) != set(names):
            raise ValueError(
                f"The inputs are named {sorted(map(str, x))}; the model takes a dict with the names {names}."
            )
        return [x[name] for name in names]
    values = list(x) if isinstance(x, (list, tuple)) else [x]
    if len(inputs) == 1 and isinstance(x, (list, tuple)) and _are_unstacked(values):
        raise ValueError(
            f"x is a {type(x).__name__} of {len(values)} sequence(s), not stacked; one array (N, length, alphabet) is "
            "accepted: pass np.stack(x)."
        )
    if len(values) != len(inputs):
        raise ValueError(
            f"{len(values)} input array(s) were given, but the model has {len(inputs)} input(s), named "
            f"{names}; give one array for each, as a list or tuple in that order or as a dict by name."
        )
    return values


def _nested_alike(struct: Any, x: Any) -> dict[int, Any] | None:
    """The values in ``x`` by the id of their symbolic tensor, if ``x`` is nested as ``struct``; else None."""
    if isinstance(struct, dict):
        if not isinstance(x, dict) or set(x) != set(struct):
            return None
        pairs = [(part, x[key]) for key, part in struct.items()]
    elif isinstance(struct, (list, tuple)):
        if not isinstance(x, (list, tuple)) or len(x) != len(struct):
            return None
        pairs = list(zip(struct, x, strict=True))
    else:
        return {id(struct): x}
    parts = [_nested_alike(part, value) for part, value in pairs]
    return None if None in parts else {key: value for part in parts if part for key, value in part.items()}


def _are_unstacked(values: list[Any]) -> bool:
    """Whether a list is one of sequences, each ``(L, A)``, rather than of inputs."""
    try:
        return len(values) > 0 and all(np.ndim(value) == 2 for value in values)
    except ValueError:  # of unequal lengths inside
        return False


def _numpy_dtype(declared: Any) -> np.dtype:
    try:
        return np.dtype(getattr(declared, "name", declared))
    except TypeError:  # bfloat16 and the like: Keras casts on entry
        return np.dtype("float32")


def _cast(array: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    if array.dtype.kind not in "biuf" and array.dtype.name not in ("bfloat16", "float16"):
        raise TypeError(
            f"{what} has dtype {array.dtype}; numbers are accepted. One-hot encode sequences of letters first."
        )
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype, copy=False)
    if dtype.kind in "biu" and not np.array_equal(cast, array):
        raise ValueError(
            f"{what} has values that the model's input dtype {dtype} cannot hold; give whole numbers in its range."
        )
    return cast


def _check_sequences(sequences: np.ndarray, declared: tuple[int | None, ...]) -> None:
    _, length, alphabet = declared
    wanted = f"(N, {'L' if length is None else length}, {'A' if alphabet is None else alphabet})"
    if sequences.ndim != 3:
        hint = " Add the batch axis: x[None]." if sequences.ndim == 2 else ""
        raise ValueError(f"The sequences have shape {sequences.shape}; {wanted} is accepted.{hint}")
    if 0 in sequences.shape:
        raise ValueError(
            f"The sequences have shape {sequences.shape}, which is empty; give at least one sequence {wanted}."
        )
    for axis, (name, size) in enumerate((("length", length), ("alphabet", alphabet)), start=1):
        if size is not None and sequences.shape[axis] != size:
            raise ValueError(
                f"The sequences have shape {sequences.shape}: {name} {sequences.shape[axis]}, but the model "
                f"takes {name} {size}. Axes are {wanted}."
            )
    if sequences.dtype.kind == "f" and np.isnan(sequences).any():
        first = tuple(int(i) for i in np.argwhere(np.isnan(sequences))[0])
        raise ValueError(f"The sequences hold NaN, first at {first}; encode unknown letters as zeros or as 1/alphabet.")


def _checked_input_index(seq_input_idx: int, count: int) -> int:
    index = _integer(seq_input_idx)
    if index is None or not 0 <= index < count:
        raise ValueError(
            f"seq_input_idx is {seq_input_idx!r}; the model has {count} input(s), so 0 to {count - 1} is accepted."
        )
    return index


def _checked_batch_size(batch_size: Any) -> int:
    size = None if isinstance(batch_size, bool) else _integer(batch_size)
    if size is None or size < 1:
        auto = " Only FastISM chooses it by itself; leave it out for 128." if isinstance(batch_size, str) else ""
        raise ValueError(f"batch_size is {batch_size!r}; the number of sequences in a batch, at least 1.{auto}")
    return size


def _checked_channels(channels: Any, size: int) -> np.ndarray:
    """Indices of the channels that are letters."""
    every = list(range(size))
    if channels is None:
        return np.array(every)
    try:
        listed = every[channels] if isinstance(channels, slice) else [operator.index(c) for c in channels]
    except TypeError:
        listed = []
    if not listed or not set(listed) <= set(every) or len(set(listed)) < len(listed):
        raise ValueError(f"channels is {channels!r}; a slice or a list of different numbers below {size} is accepted.")
    return np.array(listed)


def _checked_interval(start: Any, end: Any, length: int) -> tuple[int, int]:
    first, stop = _integer(start), length if end is None else _integer(end)
    if first is None or stop is None or not 0 <= first < stop <= length:
        raise ValueError(
            f"start={start!r}, end={length if end is None else end!r} is not an interval of a sequence of length "
            f"{length}; give integers 0 <= start < end <= length."
        )
    return first, stop


def _integer(value: Any) -> int | None:
    """The value as an integer, None if it is not one."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def _checked_ranges(change_ranges: Sequence[tuple[int, int]], length: int | None) -> list[tuple[int, int]]:
    try:
        ranges = [(operator.index(start), operator.index(end)) for start, end in change_ranges]
    except (TypeError, ValueError):
        bounds = [_integer(bound) for bound in change_ranges] if isinstance(change_ranges, (list, tuple)) else []
        alone = len(bounds) == 2 and None not in bounds
        hint = f" For one range wrap it in a list: [({bounds[0]}, {bounds[1]})]." if alone else ""
        raise ValueError(
            f"change_ranges is {change_ranges!r}; a list of (start, end) pairs of integers is accepted.{hint}"
        ) from None
    if not ranges:
        raise ValueError("change_ranges is empty; give at least one (start, end), or None for every single position.")
    for start, end in ranges:
        if start < 0 or end <= start or (length is not None and end > length):
            inside = "" if length is None else f" <= {length}"
            raise ValueError(
                f"change_ranges holds ({start}, {end}); half-open ranges with 0 <= start < end{inside} are accepted."
            )
    widths = sorted({end - start for start, end in ranges})
    if len(widths) > 1:
        raise ValueError(
            f"change_ranges holds ranges of widths {widths}; all must have the same width. "
            "Use one object for each width."
        )
    return ranges


def _checked_replacement(replace_with: Any, width: int, alphabet: int, dtype: np.dtype) -> np.ndarray:
    """What is written over a range, ``(W, A)``."""
    value = replace_with if isinstance(replace_with, (np.ndarray, list, tuple, int, float, np.generic)) else None
    value = np.asarray(keras.ops.convert_to_numpy(replace_with) if value is None else value)
    if value.ndim == 0 and value.dtype.kind in "biuf" and value == 0:
        return np.zeros((width, alphabet), dtype)
    accepted = f"({width}, {alphabet})" + (f" or ({alphabet},)" if width == 1 else "")
    if value.shape != (width, alphabet) and not (width == 1 and value.shape == (alphabet,)):
        raise ValueError(
            f"replace_with has shape {value.shape}; 0, or an array of shape {accepted}, is accepted "
            f"for ranges of width {width}."
        )
    value = _cast(value, dtype, "replace_with")
    if value.dtype.kind == "f" and np.isnan(value).any():
        raise ValueError("replace_with holds NaN; give numbers, such as a one-hot row or 0.")
    return value.reshape(width, alphabet)
