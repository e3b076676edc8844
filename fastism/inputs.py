"""The door: whatever users pass becomes arrays of one form, or a clear error."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.errors import ModelError
from fastism.graph import Graph
from fastism.sequences import one_hot

_ENCODE = "Encode letters first, with fastism.sequences.one_hot(texts)."


def check_input_index(graph: Graph, index: Any) -> int:
    """The tensor id of the mutated input.

    Raises:
        ValueError: If ``index`` is no index of the model's inputs.
        ModelError: If that input has not the shape (length, alphabet).
    """
    n = len(graph.inputs)
    try:
        i = operator.index(index)
    except TypeError:
        raise ValueError(f"seq_input_idx is {index!r}; an integer from 0 to {n - 1} is accepted.") from None
    if not 0 <= i < n:
        names = [graph.tensors[t].name for t in graph.inputs]
        raise ValueError(
            f"seq_input_idx is {i}, but the model has {n} input{'s' * (n > 1)} ({', '.join(names)}); a number from 0 "
            f"to {n - 1} is accepted."
        )
    tensor = graph.tensors[graph.inputs[i]]
    if len(tensor.shape) != 2:
        raise ModelError(
            f"Input {tensor.name!r} has shape {_with_batch(tensor.shape)}; the mutated input must be (batch, length, "
            "alphabet). For a model with several inputs choose the sequence with seq_input_idx."
        )
    if tensor.shape[1] is None:
        raise ModelError(
            f"Input {tensor.name!r} has shape {_with_batch(tensor.shape)}, with an unknown number of letters; wrap the "
            "model: x = keras.Input((None, 4)); FastISM(keras.Model(x, model(x)))."
        )
    if "float" not in tensor.dtype:
        raise ModelError(
            f"Input {tensor.name!r} has dtype {tensor.dtype}; the mutated input must be of a float type, so that a "
            "change can be added to it. Wrap the model: x = keras.Input(shape); FastISM(keras.Model(x, model(x)))."
        )
    return graph.inputs[i]


def read_inputs(x: Any, graph: Graph, mutated: int) -> list[np.ndarray]:
    """One array (N, ...) for each of the model's inputs.

    Args:
        x: An array or tensor, or a list, tuple or dict of them; nested as the model nests its inputs, too.
        graph: The model.
        mutated: Tensor id of the mutated input.

    Raises:
        ValueError: On a wrong number of inputs, rank, length, alphabet or batch, or values that are not finite or do
            not fit the input's dtype.
        TypeError: If an input is not numeric.
        RuntimeError: Within a ``tf.function``.
    """
    if backend.in_graph():
        raise RuntimeError(
            "FastISM was called while TensorFlow traces a function (tf.function, or the map of a dataset), where "
            "tensors have no values; it takes and gives arrays. Call it outside, with the sequences themselves."
        )
    parts = _parts(x, graph)
    arrays = [_array(p, graph, t, t == mutated) for p, t in zip(parts, graph.inputs, strict=True)]
    sizes = [len(a) for a in arrays]
    if len(set(sizes)) > 1:
        names = [graph.tensors[t].name for t in graph.inputs]
        raise ValueError(
            "The inputs have different numbers of sequences ("
            + ", ".join(f"{n}: {s}" for n, s in zip(names, sizes, strict=True))
            + "); all must have the same. Repeat the rows of an input that is the same for every sequence."
        )
    if sizes[0] == 0:
        raise ValueError("x holds no sequence (its first axis is 0); at least one is needed.")
    return arrays


def _parts(x: Any, graph: Graph) -> list[Any]:
    names = [graph.tensors[t].name for t in graph.inputs]
    n = len(names)
    if graph.input_structure is not None:
        placed = _placed(graph.pack_inputs(range(n)), x)
        if placed is not None:
            return [placed[i] for i in range(n)]
    if isinstance(x, Mapping):
        keys = graph.input_keys or tuple(names)
        missing, unknown = [k for k in keys if k not in x], [k for k in x if k not in keys]
        if missing or unknown:
            raise ValueError(
                f"x is a dict with keys {sorted(map(str, x))}; the model's inputs are {list(keys)}. "
                f"Missing: {missing or 'none'}; unknown: {unknown or 'none'}.{_own_form(graph, names)}"
            )
        return [x[k] for k in keys]
    if n == 1 and isinstance(x, list | tuple) and x and all(_is_array(a) and len(a.shape) == 2 for a in x):
        raise ValueError(
            f"x is a {type(x).__name__} of {len(x)} sequence{'s' * (len(x) > 1)}, not stacked; one array "
            f"{_with_batch(graph.tensors[graph.inputs[0]].shape)} is accepted: pass np.stack(x)."
        )
    if isinstance(x, list | tuple) and len(x) == n and (n > 1 or _is_array(x[0])):
        return list(x)
    if n == 1 and not (isinstance(x, list | tuple) and len(x) and _is_array(x[0])):
        return [x]
    got = f"a list of {len(x)}" if isinstance(x, list | tuple) else f"one {type(x).__name__}"
    raise ValueError(
        f"x is {got}, but the model has {n} input{'s' * (n > 1)} ({', '.join(names)}); pass "
        + ("one array." if n == 1 else "a list with one array for each, in this order.")
        + _own_form(graph, names)
    )


def _placed(structure: Any, x: Any) -> dict[int, Any] | None:
    """The parts of ``x`` by the model's input, where it is nested as ``structure`` of their numbers; else None."""
    if isinstance(structure, int):
        return {structure: x}
    if isinstance(structure, Mapping):
        if not isinstance(x, Mapping) or set(x) != set(structure):
            return None
        pairs = [(structure[key], x[key]) for key in structure]
    else:
        if not isinstance(x, list | tuple) or len(x) != len(structure):
            return None
        pairs = list(zip(structure, x, strict=True))
    parts = [_placed(part, value) for part, value in pairs]
    found: dict[int, Any] = {}
    for part in parts:
        if part is None:
            return None
        found.update(part)
    return found


def _own_form(graph: Graph, names: Sequence[str]) -> str:
    """For messages: how the model itself nests its inputs, where it does."""
    nested = graph.input_structure is not None and graph.input_keys is None
    return f" The model's own form {graph.pack_inputs(names)} is accepted, too." if nested else ""


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and len(value.shape) > 0


def _array(value: Any, graph: Graph, tensor: int, mutated: bool) -> np.ndarray:
    info = graph.tensors[tensor]
    name = f"Input {info.name!r}" if len(graph.inputs) > 1 else "x"
    array = as_numbers(value, name)
    if mutated and array.ndim != 3:
        hint = " For a single sequence pass x[None]." if array.ndim == 2 else ""
        raise ValueError(
            f"{name} has shape {array.shape}; (N, {info.shape[0]}, {info.shape[1]}) is accepted: sequences, length, "
            f"alphabet.{hint}"
        )
    if mutated and any(e is not None and e != g for e, g in zip(info.shape, array.shape[1:], strict=True)):
        _wrong_shape(name, array.shape, info.shape)
    expected = (None, *info.shape)
    if array.ndim != len(expected) or any(
        e is not None and e != g for e, g in zip(expected[1:], array.shape[1:], strict=True)
    ):
        raise ValueError(f"{name} has shape {array.shape}; {_with_batch(info.shape)} is accepted.")
    dtype = np.dtype(info.dtype if info.dtype != "bfloat16" else "float32")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype, copy=False)
    if dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} holds NaN or infinite values (first at index {_first(~np.isfinite(array))}); finite numbers "
                "are accepted. Encode unknown bases as zeros or 0.25."
            )
        if not np.isfinite(cast).all():
            raise _does_not_fit(
                name, array, ~np.isfinite(cast), dtype, f"numbers up to {np.finfo(dtype).max:.3g} are accepted"
            )
    elif not np.array_equal(cast, array):
        raise _does_not_fit(name, array, cast != array, dtype, "give whole numbers in its range")
    return cast


def _first(where: np.ndarray) -> tuple[int, ...]:
    """The first index at which an array is true."""
    return tuple(int(i) for i in np.argwhere(where)[0])


def _does_not_fit(name: str, array: np.ndarray, where: np.ndarray, dtype: np.dtype, accepted: str) -> ValueError:
    at = _first(where)
    return ValueError(
        f"{name} has values that the model's input dtype {dtype} cannot hold (first {array[at]} at index {at}); "
        f"{accepted}."
    )


def as_numbers(value: Any, name: str) -> np.ndarray:
    """An array of numbers; of tensors, those of any framework, on any device.

    Args:
        value: What a user passed.
        name: What it is called in messages.

    Raises:
        TypeError: If it is no array, or not of numbers.
    """
    array = _to_array(value, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} has dtype {array.dtype}; numbers are accepted: one-hot or soft encodings (N, length, alphabet). "
            f"{_ENCODE}"
        )
    return array


def _to_array(value: Any, name: str) -> np.ndarray:
    if isinstance(value, str | bytes) or value is None:
        raise TypeError(
            f"{name} is a {type(value).__name__}; an array (N, length, alphabet) of numbers is accepted. {_ENCODE}"
        )
    try:
        if hasattr(value, "detach"):  # a torch tensor, which other backends do not read from a GPU or with a gradient
            value = value.detach().cpu()
        if hasattr(value, "shape") and not isinstance(value, np.ndarray):
            return np.asarray(ops.convert_to_numpy(value))
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name} is a {type(value).__name__} that is no array: {error}.") from error


def _wrong_shape(name: str, got: tuple[int, ...], want: tuple[int | None, ...]) -> None:
    if got[1:] == want[::-1]:
        why = "its last two axes look swapped, pass x.transpose(0, 2, 1)"
    elif got[2] != want[1]:
        why = f"the alphabet has {got[2]} letters where the model has {want[1]}"
    else:
        why = f"the length is {got[1]} where the model has {want[0]}: crop or pad the sequences"
    raise ValueError(f"{name} has shape {got}; (N, {want[0]}, {want[1]}) is accepted: {why}.")


def read_ranges(ranges: Any, length: int | None) -> list[tuple[int, int]] | None:
    """``(start, end)`` pairs of one width within ``[0, length)``; every single position for None.

    Where the length is not known, None for every position.

    Raises:
        ValueError: If there is none, one is empty, out of range or no pair, or widths differ.
    """
    if ranges is None:
        return None if length is None else [(i, i + 1) for i in range(length)]
    within = "" if length is None else f", within 0 to {length}"
    accepted = f"a list of (start, end) pairs of one width, 0-based and half-open{within}, is accepted"
    try:
        pairs = [(operator.index(s), operator.index(e)) for s, e in ranges]
    except (TypeError, ValueError):
        raise ValueError(f"change_ranges is {_short(ranges)}; {accepted}.{_wrap(ranges)}") from None
    if not pairs:
        raise ValueError(f"change_ranges is empty; {accepted}. Leave it out to mutate every position.")
    for s, e in pairs:
        if e <= s:
            raise ValueError(f"change_ranges has the empty range ({s}, {e}); {accepted}.")
        if s < 0 or (length is not None and e > length):
            raise ValueError(f"change_ranges has ({s}, {e}), out of range for length {length}; {accepted}.")
    widths = sorted({e - s for s, e in pairs})
    if len(widths) > 1:
        raise ValueError(
            f"change_ranges has ranges of unequal widths {widths}; {accepted}. Make one FastISM for each width."
        )
    return pairs


def _wrap(ranges: Any) -> str:
    """What to do where a single pair was passed for a list of them."""
    try:
        start, end = map(operator.index, ranges)
    except (TypeError, ValueError):
        return ""
    return f" For one range wrap it in a list: [({start}, {end})]."


def check_length(ranges: Any, length: int | None) -> None:
    """Raise if a sequence of this length cannot hold the ranges."""
    if length is None or length < 1:
        raise ValueError(f"x has sequences of length {length}; at least one position is needed.")
    read_ranges(ranges, length)


def read_length(length: Any) -> int:
    """The length for which to plan a model that takes any.

    Raises:
        ValueError: If it is missing, or no positive integer.
    """
    if length is None:
        raise ValueError("The model takes sequences of any length; say for which with length= (--sequence-length).")
    try:
        n = operator.index(length)
    except TypeError:
        n = 0
    if n < 1:
        raise ValueError(f"length is {length!r}; a positive integer is accepted.")
    return n


def read_channels(channels: Any, size: int) -> np.ndarray | None:
    """Indices of the channels that are letters; None for all.

    Raises:
        ValueError: If there is none, one is out of range or given twice.
    """
    if channels is None:
        return None
    accepted = f"a slice or a list of different numbers from 0 to {size - 1} is accepted"
    try:
        listed = list(range(size)[channels]) if isinstance(channels, slice) else [operator.index(c) for c in channels]
    except TypeError:
        raise ValueError(f"channels is {_short(channels)}; {accepted}.") from None
    if not listed or len(set(listed)) < len(listed) or min(listed) < 0 or max(listed) >= size:
        raise ValueError(f"channels is {_short(channels)}; {accepted}.")
    return None if listed == list(range(size)) else np.array(listed)


def output_names(graph: Graph, model: Any) -> list[str]:
    """What outputs are called, in the order in which they are counted; a key of a dict may hold several."""
    return list(_output_entries(graph)) or _own_output_names(graph, model)


def _output_entries(graph: Graph) -> dict[str, Any]:
    """The entries of a dict of outputs, the number of each output where it stands; none for other structures."""
    numbered = graph.restore_outputs(range(len(graph.outputs)))
    return numbered if isinstance(numbered, dict) else {}


def _own_output_names(graph: Graph, model: Any) -> list[str]:
    names = [] if graph.traced else list(getattr(model, "output_names", []))  # those of its own call() have none
    return names if len(names) == len(graph.outputs) else list(graph.output_names)


def read_outputs(outputs: Any, graph: Graph, model: Any) -> tuple[int, ...] | None:
    """Which outputs are wanted, as indices; None for all. A name of several outputs gives all of them.

    Raises:
        ValueError: If one is no index or name of an output.
    """
    if outputs is None:
        return None
    n = len(graph.outputs)
    names, entries = _own_output_names(graph, model), _output_entries(graph)
    accepted = f"an index from 0 to {n - 1}, a name of {list(entries) or names}, or a list of these is accepted"
    wanted = [outputs] if isinstance(outputs, str) or not isinstance(outputs, list | tuple) else list(outputs)
    found = []
    for one in wanted:
        if isinstance(one, str):
            lists = [names_ for names_ in (names, list(graph.output_names)) if one in names_]
            if one not in entries and not lists:
                raise ValueError(f"outputs names {one!r}; {accepted}.")
            found.extend(tree.flatten(entries[one]) if one in entries else [lists[0].index(one)])
        else:
            try:
                i = operator.index(one)
            except TypeError:
                raise ValueError(f"outputs is {_short(outputs)}; {accepted}.") from None
            if not -n <= i < n:
                raise ValueError(f"outputs has {i}; {accepted}.")
            found.append(i % n)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"outputs is {_short(outputs)}; {accepted}, each once.")
    return tuple(found)


def read_reduce(reduce: Any) -> Any:
    """A function of the outputs, or None.

    Raises:
        TypeError: If it is no function.
    """
    if reduce is None or callable(reduce):
        return reduce
    raise TypeError(f"reduce is {_short(reduce)}; a function of the model's outputs, in keras.ops, is accepted.")


def read_replacement(replacement: Any, width: int, alphabet: int, dtype: Any) -> np.ndarray:
    """What is written into each range, as (width, alphabet).

    Raises:
        ValueError: If the shape does not fit, or values are not finite.
        TypeError: If it is not numeric.
    """
    shapes = f"({width}, {alphabet})" if width > 1 else f"({alphabet},) or (1, {alphabet})"
    accepted = f"0 for all zeros, or numbers of shape {shapes}, are accepted"
    if isinstance(replacement, str | bytes):
        raise TypeError(f"replace_with is {replacement!r}; {accepted}. Encode the letter as a one-hot row.")
    try:
        value = np.asarray(replacement if not hasattr(replacement, "device") else ops.convert_to_numpy(replacement))
    except (ValueError, TypeError):
        raise ValueError(f"replace_with is {_short(replacement)}; {accepted}.") from None
    if value.dtype.kind not in "fiub":
        raise TypeError(f"replace_with has dtype {value.dtype}; {accepted}.")
    if value.ndim == 0:
        if value != 0:
            raise ValueError(f"replace_with is the number {value}; {accepted}.")
        return np.zeros((width, alphabet), dtype=dtype)
    if value.shape == (alphabet,) and width == 1:
        value = value[None]
    if value.shape != (width, alphabet):
        repeat = (
            f" To write one letter all along, pass np.tile(row, ({width}, 1))." if value.shape == (alphabet,) else ""
        )
        raise ValueError(
            f"replace_with has shape {value.shape}, but the ranges are {width} wide and the alphabet has {alphabet} "
            f"letters; {accepted}.{repeat}"
        )
    if not np.isfinite(value).all():
        raise ValueError(f"replace_with holds NaN or infinite values; {accepted}.")
    with np.errstate(over="ignore"):
        cast = value.astype(dtype)
    if not np.isfinite(cast).all():
        raise ValueError(f"replace_with has values that the model's input dtype {cast.dtype} cannot hold; {accepted}.")
    return cast


def read_contents(content: Any, alphabet: int, dtype: Any) -> np.ndarray:
    """Letters to write, as (K, W, alphabet).

    Args:
        content: (W, A), (K, W, A), a text, or a sequence of K texts of one length.
        alphabet: A.
        dtype: Of the mutated input.

    Raises:
        ValueError: If the shape does not fit, a letter is unknown, or values are not finite.
        TypeError: If it is neither numeric nor text.
    """
    accepted = f"numbers of shape (width, {alphabet}) or (number, width, {alphabet}), or texts of one length,"
    texts = [content] if isinstance(content, str) else content
    if isinstance(texts, list | tuple) and texts and all(isinstance(t, str) for t in texts):
        if alphabet != 4:
            raise ValueError(
                f"content is a text, but the alphabet has {alphabet} letters; {accepted} are accepted, texts for four "
                "letters only."
            )
        if len({len(t) for t in texts}) != 1 or not texts[0]:
            lengths = sorted({len(t) for t in texts})
            raise ValueError(f"content has texts of {lengths} letters; {accepted} are accepted.")
        value = np.stack([one_hot(t, dtype=dtype) for t in texts])
    else:
        value = _to_array(content, "content")
    value = value[None] if value.ndim == 2 else value
    if value.ndim != 3 or value.shape[2] != alphabet or 0 in value.shape:
        raise ValueError(f"content has shape {np.shape(content)}; {accepted} are accepted.")
    if not np.isfinite(value.astype(dtype)).all():
        raise ValueError(f"content holds values that are not finite; {accepted} are accepted.")
    return value.astype(dtype)


def read_shares(shares: Any, alphabet: int) -> np.ndarray:
    """How likely each letter is, adding up to 1; equally likely by default.

    Raises:
        ValueError: If these are not as many numbers that are not negative, and not all zero.
    """
    if shares is None:
        return np.full(alphabet, 1 / alphabet)
    value = _to_array(shares, "probabilities").astype("float64")
    if value.shape != (alphabet,) or not np.isfinite(value).all() or (value < 0).any() or not value.sum() > 0:
        raise ValueError(f"probabilities are {_short(shares)}; {alphabet} numbers that are not negative are accepted.")
    return value / value.sum()


def read_flank(flank: Any, sequences: np.ndarray, missing: int) -> np.ndarray | None:
    """The letters beside each sequence (N, F, A), with F at least ``missing``; None for zeros.

    Raises:
        ValueError: If the shape does not fit, or values are not finite.
    """
    if flank is None:
        return None
    n, _, alphabet = sequences.shape
    value = _to_array(flank, "flank")
    if value.ndim != 3 or value.shape[::2] != (n, alphabet) or value.shape[1] < missing:
        raise ValueError(
            f"flank has shape {value.shape}; ({n}, {missing}, {alphabet}), or longer in the middle, is accepted: the "
            "letters beside each sequence, in the order of the sequence."
        )
    if not np.isfinite(value).all():
        raise ValueError("flank holds NaN or infinite values; finite numbers are accepted.")
    return value.astype(sequences.dtype)


def read_flag(value: Any, name: str) -> bool:
    """True or False.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"{name} is {_short(value)}; True or False is accepted.")


def read_positions(start: Any, end: Any, length: int) -> tuple[int, int]:
    """A half-open stretch ``[start, end)`` of positions; ``end=None`` is the length, negatives count from the end.

    Raises:
        ValueError: If it is empty or out of range.
    """
    accepted = f"0 <= start < end <= {length} is accepted (end=None for {length}; negatives count from the end)"
    try:
        s = operator.index(start)
        e = length if end is None else operator.index(end)
    except TypeError:
        raise ValueError(f"start={start!r}, end={end!r} are not integers; {accepted}.") from None
    s, e = (s + length if s < 0 else s), (e + length if e < 0 else e)
    if not 0 <= s < e <= length:
        raise ValueError(f"start={start}, end={end} is empty or out of range; {accepted}.")
    return s, e


def read_position(position: Any, last: int) -> int:
    """A position at which an edit can begin; negatives count from the end.

    Raises:
        ValueError: If it is out of range.
    """
    try:
        at = operator.index(position)
    except TypeError:
        raise ValueError(f"position is {position!r}; an integer from 0 to {last} is accepted.") from None
    at = at + last + 1 if at < 0 else at
    if not 0 <= at <= last:
        raise ValueError(f"position is {position}; an integer from 0 to {last} is accepted.")
    return at


def read_names(names: Any, graph: Graph) -> tuple[str, ...]:
    """``early_stop_layers`` as a tuple of names.

    Raises:
        ValueError: If a name is no layer of the model.
    """
    if names is None:
        return ()
    known = {n for c in graph.calls for n in (c.op.name, c.name)}
    try:
        listed: Sequence[Any] = [names] if isinstance(names, str) else list(names)
    except TypeError:
        listed = [names]
    unknown = [n for n in listed if not isinstance(n, str) or n not in known]
    if unknown:
        raise ValueError(
            f"early_stop_layers names {unknown}, which the model does not have; its layers are {sorted(known)}."
        )
    return tuple(listed)


def _with_batch(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join(["N", *[str(s) for s in shape]]) + ")"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
