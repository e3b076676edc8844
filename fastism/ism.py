"""FastISM: what users call."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from keras import tree
from tqdm.auto import tqdm

from fastism import backend, check, inputs, keras2, sizes
from fastism.draw import plot_graph, plot_plan
from fastism.engine import Engine
from fastism.errors import ModelError, UnsupportedLayerError
from fastism.explain import Explanation, explain
from fastism.graph import Graph, layers_of
from fastism.inside import read
from fastism.mutagenesis import Mutagenesis
from fastism.mutate import Mutate
from fastism.mutations import Edits, replacements, substitutions
from fastism.naive import Saturation, shapes_shown
from fastism.prepared import Prepared, Request, prepare


class CompactSaturation(NamedTuple):
    """Predictions for all substitutions, of which only the stretches that can change are kept.

    Attributes:
        reference: (N, *output) predictions of the sequences as they are.
        window: (N, P, A, W, ...) the mutants' predictions in the output positions ``start[p]`` to ``start[p] + W``;
            outside these they are the reference's. Whole outputs (N, P, A, *output) where an edit changes everything.
        start: (P,) first output position of each window; zeros where the output is whole.

    Each is a list or dict for a model with several outputs.
    """

    reference: Any
    window: Any
    start: Any

    def __repr__(self) -> str:
        return shapes_shown(self)

    def expanded(self) -> Saturation:
        """The same with whole outputs."""
        shapes = [tree.flatten(part) for part in self]
        full = []
        for reference, window, start in zip(*shapes, strict=True):
            n, p, a = window.shape[:3]
            whole = np.broadcast_to(reference[:, None, None], (n, p, a, *reference.shape[1:])).copy()
            if window.shape[3:] == reference.shape[1:]:
                whole[:] = window
            else:
                for i, first in enumerate(start):
                    whole[:, i, :, first : first + window.shape[3]] = window[:, i]
            full.append(whole)
        return Saturation(self.reference, tree.pack_sequence_as(self.reference, full))


class FastISM(Mutate):
    """Fast, exact in-silico saturation mutagenesis of a Keras sequence model.

    Gives what predicting every mutated sequence with the model would give, but computes only the short windows of
    each layer that a mutation changes and takes the rest from the reference sequence's cached activations.

    Args:
        model: A Keras 3 model: functional, Sequential, or subclassed if its ``call`` is made of layers and operations
            of Keras; or a Keras 2 model (``tf_keras``), on the TensorFlow backend. It is not modified, and weights that
            change later are respected. If it takes sequences of any length, a plan is made for each length when it
            first comes.
        seq_input_idx: Which of ``model.inputs`` is mutated; it has shape (length, alphabet).
        change_ranges: ``(start, end)`` pairs of one width W to mutate, 0-based and half-open; by default every single
            position. They may overlap.
        early_stop_layers: Names of layers from which on everything is recomputed whole.
        test_correctness: Compare with the model itself on a handful of edits now, and raise if they differ.
        batch_size: Mutated sequences that are computed at once, or ``"auto"``.
        memory: What reference activations and chunks may take beside the model, the results and the framework itself:
            bytes, or a text such as ``"4GB"``; ``"auto"`` for half of what is free (no more than 4 GiB on a CPU). Less
            makes smaller chunks. Where memory runs out all the same, chunks are halved, and what is done is kept.
        jit: False runs chunks op by op: no compiling, slower chunks. True compiles with XLA, on TensorFlow and JAX;
            ``"auto"`` too, but on TensorFlow not the first four chunks of a size. torch always runs op by op.
        strict: Raise if any call has no rule and would be computed whole.
        channels: Which channels of the mutated input are letters, as indices or a slice; all by default. The others
            keep their values.
        outputs: Which outputs to give, as an index or name or a list of these; all by default. The entries of a dict go
            by their keys, and are counted in the order of the results, in which the keys of a plain dict are sorted.
            What only others need is not computed.
        reduce: A function of the outputs, as the model gives them, written in ``keras.ops``. It becomes part of the
            model, so only its results leave the device.

    Raises:
        ModelError: If the model is of a kind that cannot be treated; the message says what to do.
        UnsupportedLayerError: With ``strict``, listing every call without a rule and the reason.
        MismatchError: If the self-check fails, naming the first call that differs.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> from fastism import FastISM
        >>> x = keras.Input((50, 4))
        >>> y = keras.layers.Conv1D(8, 5, padding="same", activation="relu")(x)
        >>> y = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling1D()(y))
        >>> ism = FastISM(keras.Model(x, y))
        >>> sequences = np.eye(4)[np.random.default_rng(0).integers(0, 4, (2, 50))]
        >>> ism(sequences).shape                      # every position set to zeros
        (2, 50, 1)
        >>> ism.saturate(sequences).mutant.shape      # every letter at every position
        (2, 50, 4, 1)
    """

    def __init__(
        self,
        model: Any,
        seq_input_idx: int = 0,
        change_ranges: Any = None,
        early_stop_layers: Any = None,
        test_correctness: bool = True,
        *,
        batch_size: int | str = "auto",
        jit: bool | str = "auto",
        memory: int | float | str = "auto",
        strict: bool = False,
        channels: Any = None,
        outputs: Any = None,
        reduce: Callable[..., Any] | None = None,
    ):
        self.model = model
        self._read()
        self._mutated = inputs.check_input_index(self._graph, seq_input_idx)
        length, size = self._graph.shape(self._mutated)
        self._length = None if length is None else int(length)
        self._channels = inputs.read_channels(channels, int(size or 0))
        self._alphabet = int(size or 0) if self._channels is None else len(self._channels)
        ranges = inputs.read_ranges(change_ranges, self._length)
        self._change_ranges = None if change_ranges is None else ranges
        self._width = 1 if ranges is None else ranges[0][1] - ranges[0][0]
        self._stop = inputs.read_names(early_stop_layers, self._graph)
        self._outputs = inputs.read_outputs(outputs, self._graph, model)
        self._reduce = inputs.read_reduce(reduce)
        self._options: dict[str, Any] = {"batch_size": _batch_size(batch_size), "jit": _jit(jit)}
        self._options["memory"] = sizes.budget(memory)
        self._strict = inputs.read_flag(strict, "strict")
        self._test = inputs.read_flag(test_correctness, "test_correctness")
        if all(None not in self._graph.shape(t) for t in self._graph.inputs):
            self._at(self._graph)

    def __repr__(self) -> str:
        name, ranges = self._graph.tensors[self._mutated].name, inputs.read_ranges(self._change_ranges, self._length)
        count = "every position" if ranges is None else f"{len(ranges)} range{'s' * (len(ranges) > 1)}"
        mode = backend.choose_mode(self._options["jit"])
        return (
            f"<FastISM of model {self.model.name!r}: input {name!r} ({self._length}, {self._alphabet}), "
            f"{count} of width {self._width}, {backend.name()} ({mode})>"
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made from the model, and compiled, which is made again for a copy."""
        return {k: v for k, v in vars(self).items() if k not in ("_converted", "_graph", "_layers", "_prepared")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._read()

    def _read(self) -> None:
        """Read the model's graph; a Keras 2 model is converted first."""
        self._converted = keras2.convert(self.model) if keras2.is_keras2(self.model) else None
        self._layers = layers_of(self.model)
        self._graph = read(self._keras3)
        self._prepared: dict[tuple[tuple[int | None, ...], ...], Prepared] = {}

    @property
    def _keras3(self) -> Any:
        """The model, or the Keras 3 model that stands for it."""
        return self.model if self._converted is None else self._converted.model

    def __call__(self, x: Any = None, replace_with: Any = 0, *, inp_batch: Any = None) -> Any:
        """Predict each sequence with each of the ranges overwritten.

        Args:
            x: (N, L, A) sequences, or a list, tuple or dict of arrays for a model with several inputs; NumPy arrays or
                tensors of the backend.
            replace_with: What is written: 0 for zeros, or a row (A,) for single positions, or (W, A) for ranges.
            inp_batch: The name that ``x`` had in fastISM 0.5.

        Returns:
            NumPy array (N, P, *output) with P ranges (positions); a list of them for several outputs, a dict for a
            model with a dict of outputs. Where the sequence already equals the replacement, the reference output.

        Raises:
            ValueError, TypeError: If ``x`` or ``replace_with`` do not fit the model; the message says what does.
        """
        arrays = inputs.read_inputs(inp_batch if x is None else x, self._graph, self._mutated)
        prepared = self._at(self._graph, arrays)
        sequences = self._letters(arrays)
        ranges = inputs.read_ranges(self._change_ranges, sequences.shape[1]) or []
        replacement = inputs.read_replacement(replace_with, self._width, self._alphabet, sequences.dtype)
        edits = replacements(sequences, ranges, replacement)
        _, mutant = self._run(prepared, arrays, edits, (len(ranges),), progress=False)
        return prepared.graph.restore_outputs(mutant)

    @overload
    def saturate(
        self, x: Any, start: int = ..., end: int | None = ..., progress: bool = ..., *, compact: Literal[False] = ...
    ) -> Mutagenesis: ...

    @overload
    def saturate(
        self, x: Any, start: int = ..., end: int | None = ..., progress: bool = ..., *, compact: Literal[True]
    ) -> CompactSaturation: ...

    def saturate(
        self, x: Any, start: int = 0, end: int | None = None, progress: bool = False, *, compact: bool = False
    ) -> Mutagenesis | CompactSaturation:
        """Predict each sequence with every letter at every position of ``[start, end)``.

        Args:
            x: As for a call.
            start, end: Stretch of positions, 0-based and half-open; the whole sequence by default.
            progress: Show a progress bar.
            compact: Of outputs along the sequence, such as profiles, give only the stretch that each edit can change.

        Returns:
            :class:`~fastism.mutagenesis.Mutagenesis`: ``reference`` (N, *output) and ``mutant`` (N, P, A, *output). The
            cell of a letter that is there already holds the reference. With ``compact``, :class:`CompactSaturation`.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        compact, progress = inputs.read_flag(compact, "compact"), inputs.read_flag(progress, "progress")
        arrays = inputs.read_inputs(x, self._graph, self._mutated)
        prepared = self._at(self._graph, arrays)
        sequences = self._letters(arrays)
        first, last = inputs.read_positions(start, end, sequences.shape[1])
        edits = substitutions(sequences, first, last)
        restore, cells = prepared.graph.restore_outputs, (last - first, self._alphabet)
        if compact:
            windows = self._windows(prepared, np.arange(first, last))
            reference, window = self._run(prepared, arrays, edits, cells, progress=progress, windows=windows)
            return CompactSaturation(restore(reference), restore(window), restore([s for s, _ in windows]))
        reference, mutant = self._run(prepared, arrays, edits, cells, progress=progress)
        return Mutagenesis(restore(reference), restore(mutant), start=np.arange(first, last))

    def test_correctness(self, batch_size: int = 10, replace_with: Any = 0, atol: float = 1e-6) -> bool:
        """Compare with the model itself on random one-hot sequences, all ranges.

        Args:
            batch_size: Number of random sequences.
            replace_with: As for a call.
            atol: Largest difference that counts as equal, beyond one part in 10,000 of the effect of the edits.

        Returns:
            Whether all outputs agree.

        Raises:
            ValueError: If ``batch_size`` is no positive integer.
        """
        n = _positive(batch_size)
        if n is None:
            raise ValueError(f"batch_size is {batch_size!r}; a positive integer, of random sequences, is accepted.")
        graph = self._at(self._graph).graph
        ranges = inputs.read_ranges(self._change_ranges, graph.shape(self._mutated)[0]) or []
        return check.agrees_with_naive(self, graph, ranges, n, replace_with, atol)

    def time_batch(self, seq_batch: Any) -> float:
        """Seconds that one call on a batch takes, compiling not counted; kept from fastISM 0.5.

        Args:
            seq_batch: As ``x`` of a call.
        """
        self(seq_batch)
        begin = time.perf_counter()
        self(seq_batch)
        return time.perf_counter() - begin

    def explain(self, position: int | None = None, *, length: int | None = None) -> Explanation:
        """What happens to each call of the model when one position (or range) is edited, and what that costs.

        Args:
            position: Where the edit begins; by default the worst case over all positions, for each call.
            length: Of the sequences, for a model that takes any.

        Returns:
            :class:`~fastism.explain.Explanation`: prints as a table; ``rows`` holds the numbers.

        Raises:
            ValueError: If the position is out of range, or the length is needed and missing.
        """
        engine = self._at(self._graph, length=length).engine
        plan = engine.plan(self._width)
        last = len(plan.spans[self._mutated].start) - 1
        at = None if position is None else inputs.read_position(position, last)
        chunk = engine.sizing.variants_in_chunk(self._width)
        return explain(plan, at, chunk=chunk, mode=engine.mode, memory=chunk * sizes.variant_bytes(plan))

    def plot(self, path: Any, position: int | None = None, *, length: int | None = None) -> None:
        """Draw the plan: layers as bars, changed positions red, contributing flanks yellow, computations beside.

        The three counts are those of :meth:`explain`: naive, minimal and this plan's own.

        Args:
            path: File to write; its ending chooses the format (.png, .svg, .pdf).
            position: Where the edit begins; by default the middle.
            length: Of the sequences, for a model that takes any.

        Raises:
            ValueError: If the position is out of range, or the ending unknown.
            TypeError: If ``path`` is no file.
            ImportError: If matplotlib is missing.
        """
        if position is None:
            starts = self._at(self._graph, length=length).engine.plan(self._width).spans[self._mutated].start
            position = (len(starts) - 1) // 2
        plan = self.explain(position, length=length)
        plot_plan(plan, path, title=f"{self.model.name}: one edit at position {plan.position}")

    def plot_graph(self, path: Any, *, length: int | None = None) -> None:
        """Draw the model's graph, each call coloured by its state.

        Args:
            path: File to write: .dot, or with Graphviz installed .png, .svg or .pdf.
            length: Of the sequences, for a model that takes any.

        Raises:
            ValueError: If the file has another ending.
            TypeError: If ``path`` is no file name.
            RuntimeError: If another format than .dot is asked for and Graphviz is missing.
        """
        engine = self._at(self._graph, length=length).engine
        plot_graph(engine.plan(self._width), self.explain(length=length), path)

    @property
    def _engine(self) -> Engine:
        return self._at(self._graph).engine

    def _at(self, graph: Graph, arrays: Sequence[np.ndarray] = (), *, length: int | None = None) -> Prepared:
        """What is made for inputs of these lengths, made once and again where a layer was changed."""
        if (self._converted is not None and not self._converted.sync()) or self._layers != layers_of(self.model):
            self._read()
            graph = self._graph
        shapes = [graph.shape(t) for t in graph.inputs]
        if arrays:
            shapes = [tuple(a.shape[1:]) for a in arrays]
        elif any(None in s for s in shapes):
            n = inputs.read_length(length)
            shapes = [tuple(n if d is None else d for d in s) for s in shapes]
        key = tuple(shapes)
        prepared = self._prepared.get(key)
        if prepared is None or not prepared.current:
            fresh = prepared is None
            prepared = self._prepare(key)
            if fresh:
                self._inspect(prepared)  # a plan that fails is not kept
            self._prepared[key] = prepared
        return prepared

    def _prepare(self, shapes: Sequence[tuple[int | None, ...]]) -> Prepared:
        """Make, or find, program and engine for the layers as they now are."""
        inputs.check_length(self._change_ranges, shapes[self._graph.inputs.index(self._mutated)][0])
        request = Request(
            tuple(shapes), self._mutated, self._width, self._stop, self._outputs, self._reduce, **self._options
        )
        return prepare(self._keras3, request)

    def _inspect(self, prepared: Prepared) -> None:
        """What users are told at once: an output that nothing changes, layers without a rule, a mismatch."""
        plan = prepared.engine.plan(self._width)
        if not any(t in plan.reached for t in plan.program.outputs):
            raise ModelError(
                f"No output of model {self.model.name!r} depends on input "
                f"{self._graph.tensors[self._mutated].name!r}, the mutated one; choose another with seq_input_idx."
            )
        if self._strict and plan.gaps:
            listed = "\n".join(f"  {g.wired.call.name} ({g.wired.call.kind}): {g.reason}" for g in plan.gaps)
            raise UnsupportedLayerError(
                f"Model {self.model.name!r} has {len(plan.gaps)} call(s) that would be computed whole:\n{listed}\n"
                "Results are exact without strict=True too, only slower from there on."
            )
        if self._test:
            check.self_check(prepared.checking(), self._keras3, self._width, channels=self._channels)

    def _open(self, x: Any) -> tuple[Prepared, list[np.ndarray]]:
        """What is made for inputs like these, and the inputs as arrays."""
        arrays = inputs.read_inputs(x, self._graph, self._mutated)
        return self._at(self._graph, arrays), arrays

    def _windows(self, prepared: Prepared, starts: np.ndarray) -> list[tuple[np.ndarray, int | None]]:
        """For each output, (P,) where the window begins for single edits at ``starts``, and its positions or None."""
        found = [prepared.engine.window(1, i) for i in range(len(prepared.graph.outputs))]
        return [(np.zeros_like(starts), None) if w is None else (w[0][starts], w[1]) for w in found]

    def _letters(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """(N, L, A) the channels that are mutated."""
        x = arrays[self._graph.inputs.index(self._mutated)]
        return x if self._channels is None else x[..., self._channels]

    def _run(
        self,
        prepared: Prepared,
        arrays: list[np.ndarray],
        edits: Edits,
        cells: tuple[int, ...],
        *,
        progress: bool,
        windows: Sequence[tuple[np.ndarray, int | None]] = (),
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """References (N, *output) and results (N, *cells, *output) for each output, or windows of these."""
        edits = replace(edits, channels=self._channels)
        n, each = len(arrays[0]), int(np.prod(cells))
        references: list[np.ndarray] = []
        results: list[np.ndarray] = []

        def receive(first: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
            if not references:
                references.extend(np.empty((n, *o.shape[1:]), o.dtype) for o in outputs)
                sizes = [w for _, w in windows] or [None] * len(outputs)
                results.extend(
                    np.empty((n * each, *o.shape[1:]) if w is None else (n * each, w, *o.shape[2:]), o.dtype)
                    for o, w in zip(outputs, sizes, strict=True)
                )
            for i, (reference, result, output) in enumerate(zip(references, results, outputs, strict=True)):
                reference[first : first + len(output)] = output
                part = result[first * each : (first + len(output)) * each].reshape(len(output), each, *result.shape[1:])
                size = windows[i][1] if windows else None
                if size is not None:
                    at = windows[i][0][:, None] + np.arange(size)  # (P, W)
                    part = part.reshape(len(output), len(at), -1, *result.shape[1:])
                    part[:] = output[:, at][:, :, None]
                else:
                    part[:] = output[:, None]
            return results

        with tqdm(total=len(edits), unit="variants", desc="FastISM", disable=not progress) as bar:
            prepared.engine.run(arrays, edits, receive, bar.update, compact=bool(windows))
        return references, [r.reshape(n, *cells, *r.shape[1:]) for r in results]


def _batch_size(value: Any) -> int | str:
    number = value if isinstance(value, str) and value == "auto" else _positive(value)
    if number is None:
        raise ValueError(f"batch_size is {value!r}; 'auto' or a positive integer is accepted.")
    return number


def _positive(value: Any) -> int | None:
    """A positive integer, or None if it is not one."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if number > 0 and not isinstance(value, bool) else None


def _jit(value: Any) -> bool | str:
    if isinstance(value, str) and value == "auto":
        return value
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"jit is {value!r}; 'auto', True or False is accepted.")
