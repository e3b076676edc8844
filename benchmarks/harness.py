"""What the benchmarks share in a measuring process: sequences, mutants, the naive side, clocks, comparison.

Letters: N sequences, L input length, A alphabet size, V mutated sequences (one substitution each).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

#: Largest max|fast - naive|, as a share of max|naive - reference|, that counts as equal in float32.
TOLERANCE = 1e-3
#: The same where a GPU multiplies in TF32, which keeps 11 bits: both sides are rounded, each in its own way.
TOLERANCE_TF32 = 5e-2
#: Runs until nothing more is compiled, at most, and seconds from which one that compiled nothing is enough.
MOST_RUNS, LONG = 16, 5
#: Turns of fast and naive runs, at most.
MOST_TURNS = 25
#: Seconds of work after which all is compiled that thousands of sequences would repay.
LONG_WORK = 3600.0


def timed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """What a call gives, and the seconds it takes."""
    begun = time.perf_counter()
    result = call(*args, **kwargs)
    return result, time.perf_counter() - begun


def settle(ism: Any, *args: Any, long: bool = False) -> None:
    """Repeat ``ism.saturate`` until it compiles nothing more, three times running, or once where it takes long.

    A handful of chunks is not compiled at first, and long work tries chunks of other sizes, and stretches.

    Args:
        ism: That has run once.
        args: Of ``saturate``.
        long: Whether to compile what only thousands of sequences repay.
    """
    engine, quiet = ism._engine, 0
    functions = engine.functions
    if long:
        for tuner in engine.sizing.tuners.values():
            tuner.worked(LONG_WORK)
    for _ in range(MOST_RUNS):
        before = set(functions.chunks), dict(functions.few)
        _, seconds = timed(ism.saturate, *args)
        quiet = quiet + 1 if (set(functions.chunks), dict(functions.few)) == before else 0
        if quiet == (1 if seconds > LONG else 3):
            return


def one_hot(count: int, length: int, seed: int) -> Any:
    """(N, L, 4) random one-hot sequences."""
    import numpy as np

    letters = np.random.default_rng(seed).integers(0, 4, (count, length))
    return np.eye(4, dtype="float32")[letters]


def substitutions(x: Any, start: int, end: int) -> Any:
    """(V, 3) sequence, position and letter of every substitution in ``[start, end)``."""
    import numpy as np

    return np.add(np.argwhere(x[:, start:end] == 0), [0, start, 0])


def spread(cells: Any, count: int) -> Any:
    """About evenly spaced ``count`` of the cells, or all of them."""
    import numpy as np

    count = min(count, len(cells))
    return cells[np.arange(count) * len(cells) // count]


def mutants(x: Any, cells: Any) -> Any:
    """(V, L, A) a mutated copy of its sequence for each cell."""
    import numpy as np

    sequence, position, letter = cells.T
    copies = x[sequence]
    copies[np.arange(len(cells)), position] = np.eye(x.shape[2], dtype=x.dtype)[letter]
    return copies


class Naive:
    """The model's own `predict` on mutated copies, at the fastest of several batch sizes, compiled and warm.

    Making the copies is not timed.

    Args:
        model: The model.
        x: (N, L, A) sequences.
        cells: (V, 3) sequence, position and letter of every mutant.
        batches: Batch sizes to choose from.
        sample: How many mutants are predicted, rounded up to full batches; None for all.
        seconds: How long one run over the sample may take, about; fewer mutants are predicted if need be.
    """

    def __init__(
        self, model: Any, x: Any, cells: Any, batches: Sequence[int], sample: int | None, seconds: float | None = None
    ):
        self._model, self._total = model, len(cells)
        self.candidates: list[dict[str, Any]] = []
        probes: dict[int, Any] = {}
        for batch in sorted(batches):
            probe = probes[batch] = mutants(x, spread(cells, min(4 * batch, max(batches))))
            _, first = timed(self._run, probe[:batch], batch)
            self._warm(probe, batch)
            rate = self._rate(probe, batch)
            self.candidates.append({"batch_size": batch, "first_s": first, "seconds_per_variant": rate})
            if rate > 1.3 * min(c["seconds_per_variant"] for c in self.candidates):
                break  # larger ones do no better
        for candidate in self.candidates:  # once more, so that a busy moment does not choose
            rate = self._rate(probes[candidate["batch_size"]], candidate["batch_size"])
            candidate["seconds_per_variant"] = min(candidate["seconds_per_variant"], rate)
        best = min(self.candidates, key=lambda c: c["seconds_per_variant"])
        self.batch_size = int(best["batch_size"])
        if sample is not None and seconds is not None:
            sample = min(sample, math.ceil(seconds / best["seconds_per_variant"]))
        wanted = self._total if sample is None else math.ceil(sample / self.batch_size) * self.batch_size
        self.cells = spread(cells, wanted)
        self._mutants = mutants(x, self.cells)
        self._warm(self._mutants, self.batch_size)
        self._run(self._mutants[:1], 1)
        self.overhead = median(timed(self._run, self._mutants[:1], 1)[1] for _ in range(3))

    def predict(self) -> Any:
        """Predict the sample."""
        return self._run(self._mutants, self.batch_size)

    def scaled(self, seconds: float) -> float:
        """Time for all mutants, from that for the sample: what a call costs by itself counts once."""
        each = max(seconds - self.overhead, 0) / len(self.cells)
        return seconds + each * (self._total - len(self.cells))

    def _run(self, batch: Any, size: int) -> Any:
        return self._model.predict(batch, batch_size=size, verbose=0)

    def _rate(self, probe: Any, batch: int) -> float:
        """Seconds for each mutant."""
        return timed(self._run, probe, batch)[1] / len(probe)

    def _warm(self, mutated: Any, batch: int) -> None:
        """Compile for a last batch that is not full, so that no timed run does."""
        if len(mutated) % batch:
            self._run(mutated[-(len(mutated) % batch) :], batch)


def in_turns(
    fast: Callable[[], Any], naive: Callable[[], Any], repeats: int, seconds: float = 0.0
) -> tuple[tuple[Any, list[float]], tuple[Any, list[float]]]:
    """Run both in turns: what the last run of each gives, with the seconds of all.

    Args:
        fast, naive: Run one after the other.
        repeats: Turns, at least.
        seconds: Until which further turns begin, `MOST_TURNS` at most.
    """
    times: tuple[list[float], list[float]] = [], []
    results: list[Any] = [None, None]
    begun = time.perf_counter()
    for turn in range(max(repeats, MOST_TURNS)):
        if turn >= repeats and time.perf_counter() - begun >= seconds:
            break
        for i, call in enumerate((fast, naive)):
            results[i], took = timed(call)
            times[i].append(took)
    return (results[0], times[0]), (results[1], times[1])


def leaves(outputs: Any) -> list[Any]:
    """One or many outputs as a list."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def compare(names: Sequence[str], saturation: Any, predicted: Any, cells: Any) -> list[dict[str, Any]]:
    """Error and effect of each output, over the mutants that were predicted naively.

    Args:
        names: Of the outputs.
        saturation: Reference (N, ...) and mutant (N, P, A, ...) predictions of the fast side.
        predicted: (V, ...) those of the naive side.
        cells: (V, 3) where these are in ``mutant``.

    Returns:
        For each output ``error``, ``effect`` and ``share`` of one in the other; None where not finite.
    """
    import numpy as np

    found = []
    for name, reference, mutant, naive in zip(names, *map(leaves, (*saturation, predicted)), strict=True):
        naive = naive.astype("float64")
        error = float(np.abs(mutant[tuple(cells.T)] - naive).max())
        effect = float(np.abs(naive - reference[cells[:, 0]]).max())
        share = error / effect if effect else math.nan
        numbers = {"error": error, "effect": effect, "share": share}
        found.append({"output": name, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}})
    return found


def worst(outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The output with the largest error as a share of its effect; one without a share is worst of all."""
    return max(outputs, key=lambda o: math.inf if o["share"] is None else o["share"])
