"""FastISM: what users call."""

from __future__ import annotations

import operator
import time
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fastism import backend, check, inputs
from fastism.draw import plot_graph, plot_plan
from fastism.engine import Engine
from fastism.errors import ModelError, UnsupportedLayerError
from fastism.explain import Explanation, explain
from fastism.graph import read_model
from fastism.mutations import Edits, replacements, substitutions
from fastism.naive import Saturation
from fastism.plan import write_program


class FastISM:
    """Fast, exact in-silico saturation mutagenesis of a Keras sequence model.

    Gives what predicting every mutated sequence with the model would give, but computes only the short windows of
    each layer that a mutation changes and takes the rest from the reference sequence's cached activations.

    Args:
        model: A functional or Sequential Keras 3 model of known input length. It is not modified, and weights that
            change later are respected.
        seq_input_idx: Which of ``model.inputs`` is mutated; it has shape (length, alphabet).
        change_ranges: ``(start, end)`` pairs of one width W to mutate, 0-based and half-open; by default every single
            position. They may overlap.
        early_stop_layers: Names of layers from which on everything is recomputed whole.
        test_correctness: Compare with the model itself on a handful of edits now, and raise if they differ.
        batch_size: Mutated sequences that are computed at once, or ``"auto"``.
        jit: False runs chunks op by op: no compiling, slower chunks. ``"auto"`` and True compile, with XLA on
            TensorFlow and JAX; torch always runs op by op.
        strict: Raise if any call has no rule and would be computed whole.

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
        strict: bool = False,
    ):
        self.model = model
        self._graph = read_model(model)
        self._mutated = inputs.check_input_index(self._graph, seq_input_idx)
        self._length, self._alphabet = (int(n or 0) for n in self._graph.shape(self._mutated))
        self._ranges = inputs.read_ranges(change_ranges, self._length)
        self._width = self._ranges[0][1] - self._ranges[0][0]
        self._stop = inputs.read_names(early_stop_layers, self._graph)
        self._options: dict[str, Any] = {"batch_size": _batch_size(batch_size), "jit": _jit(jit)}
        self._prepare()
        plan = self._engine.plan(self._width)
        if not any(t in plan.reached for t in plan.program.outputs):
            raise ModelError(
                f"No output of model {model.name!r} depends on input "
                f"{self._graph.tensors[self._mutated].name!r}, the mutated one; choose another with seq_input_idx."
            )
        if strict and plan.gaps:
            listed = "\n".join(f"  {g.wired.call.name} ({g.wired.call.kind}): {g.reason}" for g in plan.gaps)
            raise UnsupportedLayerError(
                f"Model {model.name!r} has {len(plan.gaps)} call(s) that would be computed whole:\n{listed}\n"
                "Results are exact without strict=True too, only slower from there on."
            )
        if test_correctness:
            check.self_check(self._engine, model, self._width)

    def __repr__(self) -> str:
        name, n = self._graph.tensors[self._mutated].name, len(self._ranges)
        return (
            f"<FastISM of model {self.model.name!r}: input {name!r} ({self._length}, {self._alphabet}), "
            f"{n} range{'s' * (n > 1)} of width {self._width}, {backend.name()} ({self._engine.mode})>"
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made from the model, and compiled, which is made again for a copy."""
        return {k: v for k, v in vars(self).items() if k not in ("_graph", "_layers_were", "_engine")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

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
        sequences = self._sequences(arrays)
        replacement = inputs.read_replacement(replace_with, self._width, self._alphabet, sequences.dtype)
        edits = replacements(sequences, self._ranges, replacement)
        _, mutant = self._run(arrays, edits, (len(self._ranges),), progress=False)
        return self._graph.restore_outputs(mutant)

    def saturate(self, x: Any, start: int = 0, end: int | None = None, progress: bool = False) -> Saturation:
        """Predict each sequence with every letter at every position of ``[start, end)``.

        Args:
            x: As for a call.
            start, end: Stretch of positions, 0-based and half-open; the whole sequence by default.
            progress: Show a progress bar.

        Returns:
            :class:`Saturation`: ``reference`` (N, *output) and ``mutant`` (N, P, A, *output). The cell of a letter that
            is there already holds the reference.

        Raises:
            ValueError, TypeError: If an argument does not fit the model.
        """
        arrays = inputs.read_inputs(x, self._graph, self._mutated)
        first, last = inputs.read_positions(start, end, self._length)
        edits = substitutions(self._sequences(arrays), first, last)
        reference, mutant = self._run(arrays, edits, (last - first, self._alphabet), progress=progress)
        restore = self._graph.restore_outputs
        return Saturation(restore(reference), restore(mutant))

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
        return check.agrees_with_naive(self, self._ranges, n, replace_with, atol)

    def time_batch(self, seq_batch: Any) -> float:
        """Seconds that one call on a batch takes, compiling not counted; kept from fastISM 0.5.

        Args:
            seq_batch: As ``x`` of a call.
        """
        self(seq_batch)
        begin = time.perf_counter()
        self(seq_batch)
        return time.perf_counter() - begin

    def explain(self, position: int | None = None) -> Explanation:
        """What happens to each call of the model when one position (or range) is edited, and what that costs.

        Args:
            position: Where the edit begins; by default the worst case over all positions, for each call.

        Returns:
            :class:`~fastism.explain.Explanation`: prints as a table; ``rows`` holds the numbers.

        Raises:
            ValueError: If the position is out of range.
        """
        plan = self._engine.plan(self._width)
        at = None if position is None else inputs.read_position(position, self._length - self._width)
        chunk = self._engine.batch_size
        chunk = self._engine.variants_in_chunk(self._width) if isinstance(chunk, str) else chunk
        return explain(plan, at, chunk=chunk, mode=self._engine.mode)

    def plot(self, path: Any, position: int | None = None) -> None:
        """Draw the plan: layers as bars, changed positions red, contributing flanks yellow, computations beside.

        The three counts are those of :meth:`explain`: naive, minimal and this plan's own.

        Args:
            path: File to write; its ending chooses the format (.png, .svg, .pdf).
            position: Where the edit begins; by default the middle.

        Raises:
            ValueError: If the position is out of range, or the ending unknown.
            TypeError: If ``path`` is no file.
            ImportError: If matplotlib is missing.
        """
        plan = self.explain((self._length - self._width) // 2 if position is None else position)
        plot_plan(plan, path, title=f"{self.model.name}: one edit at position {plan.position}")

    def plot_graph(self, path: Any) -> None:
        """Draw the model's graph, each call coloured by its state.

        Args:
            path: File to write: .dot, or with Graphviz installed .png, .svg or .pdf.

        Raises:
            ValueError: If the file has another ending.
            TypeError: If ``path`` is no file name.
            RuntimeError: If another format than .dot is asked for and Graphviz is missing.
        """
        plot_graph(self._engine.plan(self._width), self.explain(), path)

    def _prepare(self) -> None:
        """Make program and engine for the layers as they now are."""
        self._graph = read_model(self.model)
        self._layers_were = self._graph.fingerprint()
        self._engine = Engine(write_program(self._graph, self._mutated, self._stop), **self._options)

    def _sequences(self, arrays: list[np.ndarray]) -> np.ndarray:
        return arrays[self._graph.inputs.index(self._mutated)]

    def _run(
        self, arrays: list[np.ndarray], edits: Edits, cells: tuple[int, ...], *, progress: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """References (N, *output) and results (N, *cells, *output) for each output."""
        if self._graph.fingerprint() != self._layers_were:
            self._prepare()
        n, each = len(arrays[0]), int(np.prod(cells))
        references: list[np.ndarray] = []
        results: list[np.ndarray] = []

        def receive(first: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
            if not references:
                references.extend(np.empty((n, *o.shape[1:]), o.dtype) for o in outputs)
                results.extend(np.empty((n * each, *o.shape[1:]), o.dtype) for o in outputs)
            for reference, result, output in zip(references, results, outputs, strict=True):
                reference[first : first + len(output)] = output
                result[first * each : (first + len(output)) * each] = np.repeat(output, each, axis=0)
            return results

        with tqdm(total=len(edits), unit="variants", desc="FastISM", disable=not progress) as bar:
            self._engine.run(arrays, edits, receive, bar.update)
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
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError(f"jit is {value!r}; 'auto', True or False is accepted.")
