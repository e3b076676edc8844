"""Runs a program: references are predicted and cached, edits run in chunks. Knows no layer type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from fastism import answers, backend, sizes
from fastism.chunks import Batch, Chunks
from fastism.compiled import Functions, Plans
from fastism.functions import caches_of
from fastism.mutations import Edits, group
from fastism.plan import Plan, Program
from fastism.sizing import Sizing

Tensor = Any


class Engine:
    """Runs edits of sequences through a model by windows of change.

    Args:
        program: The model in steps.
        batch_size: Variants in a chunk, or ``"auto"``.
        jit: True, False or ``"auto"``.
        memory: Bytes that references and chunks may take, or ``"auto"``.
        plans: Of the program, where another engine has some.

    Attributes:
        functions, sizing: What runs, and how much of it at once.
    """

    def __init__(
        self,
        program: Program,
        *,
        batch_size: int | str = "auto",
        jit: bool | str = "auto",
        memory: int | str = "auto",
        plans: Plans | None = None,
    ):
        self.program, self.memory = program, sizes.automatic() if memory == "auto" else int(memory)
        self.plans = plans or Plans(program)
        self.functions = Functions(self.plans, jit)
        self.sizing = Sizing(self.plans, batch_size=batch_size, mode=self.mode, memory=self.memory)

    def plan(self, width: int) -> Plan:
        """The plan for edits of so many positions, made once."""
        return self.plans.of(width)

    @property
    def mode(self) -> str:
        """How chunks run: ``"eager"`` or ``"xla"``."""
        return self.functions.mode

    def run(
        self,
        inputs: Sequence[np.ndarray],
        edits: Edits,
        results: Callable[[int, list[np.ndarray]], list[np.ndarray]],
        progress: Callable[[int], Any] | None = None,
        *,
        compact: bool = False,
    ) -> None:
        """Predict every edit.

        Args:
            inputs: One array (N, ...) for each of the model's inputs.
            edits: What is changed in the mutated one.
            results: Called with the number of sequences done and the reference outputs (n, *output) of the next n;
                gives the arrays, (cells, *output) over all sequences, already holding the reference, to write into.
            progress: Called with the number of variants done since the last call.
            compact: The arrays hold windows of :meth:`window` only, for outputs of which a window changes.
        """
        n, first, width, sizing = len(inputs[0]), 0, edits.width, self.sizing
        while first < n:
            count = sizing.sequences_at_once(n, width)
            end = min(first + count, n)
            part = edits.of_sequences(first, end)
            taken = [_padded(x[first:end], count) for x in inputs]
            groups = group(part)
            stretches = sizing.stretches(width, groups, int((edits.sequence >= first).sum()))
            try:
                kept, references = self.functions.reference(width, stretches)(self._tensors(taken))
            except Exception as error:
                sizing.most_sequences = sizing.fewer_sequences(count, error)
                continue
            out = results(first, [backend.to_numpy(r)[: end - first] for r in references])
            within = [groups if s is None else groups.between(*s) for s in stretches]
            most = max(map(len, within))
            caches = caches_of(kept, [self.plans.of(width, None, s) for s in stretches])
            for stretch, some, cache in zip(stretches, within, caches, strict=True):
                if len(some):
                    batch = Batch(taken, part, some, stretch, len(some) == most, cache, out, compact)
                    Chunks(self.functions, sizing, batch, progress).run()
            first = end

    def predict(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs (N, *output) for sequences as they are, computed whole.

        Args:
            inputs: One array (N, ...) for each of the model's inputs.
        """
        n, first, found = len(inputs[0]), 0, []
        count = self.sizing.whole_at_once(n)
        while first < n:
            end = min(first + count, n)
            tensors = self._tensors([_padded(x[first:end], count) for x in inputs])
            try:
                outputs = [backend.to_numpy(o)[: end - first] for o in self.functions.whole(tensors)]
            except Exception as error:
                count = self.sizing.fewer_sequences(count, error)
                continue
            found.append(outputs)
            first = end
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def window(self, width: int, output: int) -> tuple[np.ndarray, int] | None:
        """Of output number ``output``, see :func:`fastism.answers.window`."""
        return answers.window(self.plan(width), output)

    def _tensors(self, inputs: Sequence[np.ndarray]) -> list[Tensor]:
        return [ops.convert_to_tensor(x, dtype=d) for x, d in zip(inputs, self.functions.dtypes(), strict=True)]


def _padded(x: np.ndarray, n: int) -> np.ndarray:
    """``x`` with its last row repeated up to ``n`` rows."""
    return x if len(x) == n else np.concatenate([x, np.repeat(x[-1:], n - len(x), axis=0)])
