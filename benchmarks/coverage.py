"""Which published architectures `FastISM` covers: exact or not, how much stays local, ideal and measured speed-up.

The architectures are those of ``tests/architectures``. Each backend has a process of its own. ``docs/coverage.md``
holds the table and says how to read it.

Run from the repository root::

    python -m benchmarks.coverage                                # all, write benchmarks/results/coverage.json
    python -m benchmarks.coverage --no-measure --backends jax    # no times: a few minutes for a backend
    python -m benchmarks.coverage --architectures bpnet,legnet --output /tmp/two.json
    python -m benchmarks.coverage --table                        # print the table of an existing file
    python -m benchmarks.coverage --update-docs                  # put that table into the documentation

Letters: N sequences, L input length, A letters, V mutated sequences (one substitution each).
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import devices
from benchmarks import options as shared
from benchmarks.cases import MEDIUM, architectures
from benchmarks.coverage_table import table
from benchmarks.harness import TOLERANCE, Naive, compare, in_turns, leaves, mutants, settle, timed, worst
from benchmarks.machine import load, machine, now
from benchmarks.processes import run_jobs
from benchmarks.report import FOLDER, ROOT, write_json

RESULTS = FOLDER / "coverage.json"
DOCUMENT, MARKER = ROOT / "docs" / "coverage.md", "coverage"

#: In the reason of a call of which all changes, but which reads a window only.
ALONE = "computed from the window alone"

#: Effects below this share of the output, in float32, are noise.
ROUNDING = 1e-5

#: Input lengths at which models of any length are planned.
LENGTHS = {"spliceai_any_length": 15000}

# ---------------------------------------------------------------------- in the child: one backend


def assess(name: str, part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One part, of ``PARTS``, for an architecture. Imports Keras."""
    import keras

    try:
        return PARTS[part](architectures()[name], settings)
    finally:
        keras.backend.clear_session()
        gc.collect()


def check(architecture: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The small model against plain calls of itself: every substitution at both ends and in the middle."""
    import numpy as np
    from oracle import predict  # pyright: ignore[reportMissingImports]

    from fastism import testing

    model = testing.randomize(architecture.small())
    whole = Whole(model, architecture, settings["seed"])
    length, each = whole.bases.shape[1], settings["ends"]
    starts = sorted({0, (length - each) // 2, length - each})
    ism = whole.fast()
    found = [ism.saturate(whole.given, start, start + each) for start in starts]
    mutant = [np.concatenate(parts, axis=1) for parts in zip(*[leaves(s.mutant) for s in found], strict=True)]
    positions = np.concatenate([np.arange(start, start + each) for start in starts])
    cells = _cells(whole.bases, positions)
    predicted = predict(model, whole.inputs(mutants(whole.bases, cells)))
    cells[:, 1] = np.searchsorted(positions, cells[:, 1])  # where a position is among those that were mutated
    explained = ism.explain(length=architecture.length)
    return {
        "length": length,
        "edits": len(cells),
        "mode": explained.mode,
        "ideal_speedup": explained.ideal_speedup,
        "local_share": local_share(explained.rows),
        "first_dense": first_dense(explained.rows),
        **_agreement((leaves(found[0].reference), mutant), predicted, cells),
    }


def plan(architecture: Any, _: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan of the full-size model says. The model is never run."""
    from fastism import FastISM

    model = architecture.build()
    ism = FastISM(model, architecture.index, test_correctness=False)
    explained = ism.explain(length=LENGTHS.get(architecture.name))
    published = architecture.in_speedup
    return {
        "length": explained.length,
        "naive": explained.naive,
        "ideal": explained.ideal,
        "ideal_speedup": explained.ideal_speedup,
        "published": published,
        "of_published": None if published is None else explained.ideal_speedup / published,
        "local_share": local_share(explained.rows),
        "first_dense": first_dense(explained.rows),
    }


def measure(architecture: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Time ``saturate`` over the central positions of one sequence against the model's own `predict`."""
    from fastism import testing

    changed = MEDIUM.get(architecture.name, {})
    model = testing.randomize(architecture.build(**changed))
    whole = Whole(model, architecture, settings["seed"], LENGTHS.get(architecture.name))
    length = whole.bases.shape[1]
    start = max(0, (length - settings["positions"]) // 2)
    end = min(length, start + settings["positions"])
    ism, construct = timed(whole.fast)
    _, first = timed(ism.saturate, whole.given, start, end)
    settle(ism, whole.given, start, end)
    cells = _cells(whole.bases, range(start, end))
    naive = Naive(whole, whole.bases, cells, settings["naive_batches"], None)
    (saturation, fast_times), (predicted, naive_times) = in_turns(
        lambda: ism.saturate(whole.given, start, end), naive.predict, settings["repeats"]
    )
    explained = ism.explain(length=length)
    return {
        "full_size": not changed,
        "changed": dict(changed),
        "length": length,
        "variants": len(cells),
        "device": devices.name(),
        "load": load(),
        "naive_macs": explained.naive,
        "ideal_speedup": explained.ideal_speedup,
        "chunk": explained.chunk,
        "mode": explained.mode,
        "construct_s": construct,
        "first_s": first,
        "fast_s": fast_times,
        "naive_s": naive_times,
        "naive_batch_size": naive.batch_size,
        "speedup": median(naive_times) / median(fast_times),
        **_agreement(saturation, predicted, cells - [0, start, 0]),
    }


PARTS = {"exact": check, "plan": plan, "measured": measure}


class Whole:
    """A model as a function of its bases alone: further inputs, and further channels of that input, stay as they are.

    Attributes:
        bases: (1, L, 4) one-hot sequence.
        given: What the unmutated model takes.

    Args:
        model: The model.
        architecture: Where it comes from.
        seed: Of its inputs.
        length: For a model that takes any; that of the architecture by default.
    """

    def __init__(self, model: Any, architecture: Any, seed: int, length: int | None = None):
        from dataclasses import replace

        self._model, self._index = model, architecture.index
        sized = architecture if length is None else replace(architecture, length=length)
        self._arrays = sized.inputs(model, 1, seed)
        mutated = self._arrays[self._index]
        self.bases, self._marks = mutated[..., :4], mutated[..., 4:]
        self.given = self._arrays if len(self._arrays) > 1 else self._arrays[0]

    def fast(self) -> Any:
        """A `FastISM` that mutates the bases; it is not checked against the model yet."""
        from fastism import FastISM

        channels = slice(4) if self._marks.shape[2] else None
        return FastISM(self._model, self._index, channels=channels, test_correctness=False)

    def inputs(self, bases: Any) -> list[Any]:
        """All inputs of the model for bases (V, L, 4)."""
        import numpy as np

        arrays = [np.repeat(a, len(bases), axis=0) for a in self._arrays]
        arrays[self._index] = np.concatenate([bases, arrays[self._index][..., 4:]], axis=2)
        return arrays

    def predict(self, bases: Any, **options: Any) -> Any:
        """The model's own `predict`."""
        arrays = self.inputs(bases)
        return self._model.predict(arrays if len(arrays) > 1 else arrays[0], **options)


def local_share(rows: Iterable[Any]) -> float:
    """Share of a model's multiply-accumulates in calls of which windows are computed, or which need one alone."""
    rows = list(rows)
    every = math.fsum(r.naive for r in rows)
    local = math.fsum(r.naive for r in rows if r.state == "window" or ALONE in r.reason)
    return local / every if every else math.nan


def first_dense(rows: Iterable[Any]) -> dict[str, str] | None:
    """The first call that is computed whole for every mutant, and why; None if there is none.

    Calls that read no window, such as what follows a mean over all positions, count from 1 % of the work on.
    """
    rows = list(rows)
    much = 0.01 * math.fsum(r.naive for r in rows)
    windows = {"input", *(r.call for r in rows if r.state == "window")}
    for row in rows:
        if row.state == "dense" and ALONE not in row.reason and (windows & set(row.reads) or row.naive > much > 0):
            return {"call": row.call, "kind": row.kind, "reason": row.reason}
    return None


def _agreement(saturation: Any, predicted: Any, cells: Any) -> dict[str, Any]:
    """Error and effect of the worst output, and whether it is exact to rounding.

    That is not known, None, where the effect itself is lost in rounding.
    """
    import numpy as np

    sizes = [float(np.abs(y).max()) for y in leaves(predicted)]
    outputs = compare([str(i) for i in range(len(sizes))], saturation, predicted, cells)
    lost = {o["output"] for o, size in zip(outputs, sizes, strict=True) if _within(ROUNDING * size, o)}
    telling = [o for o in outputs if o["output"] not in lost]
    found = worst(telling or outputs)
    return {
        "max_error": found["error"],
        "effect": found["effect"],
        "error_share": found["share"],
        "tolerance": TOLERANCE,
        "exact": (found["share"] is not None and found["share"] <= TOLERANCE) if telling else None,
    }


def _within(limit: float, output: Mapping[str, Any]) -> bool:
    """Whether both error and effect of an output are numbers below a limit."""
    return all(output[k] is not None and output[k] <= limit for k in ("error", "effect"))


def _cells(bases: Any, positions: Any) -> Any:
    """(V, 3) sequence, position and letter of every substitution at these positions."""
    import numpy as np

    cells = np.argwhere(bases == 0)
    return cells[np.isin(cells[:, 1], positions)]


# ---------------------------------------------------------------------- in the parent


def cover(
    names: Sequence[str],
    backends: Iterable[str],
    settings: Mapping[str, Any],
    *,
    memory: float = math.inf,
    timeout: float = math.inf,
    output: Path | None = None,
) -> dict[str, Any]:
    """Assess architectures on backends.

    Args:
        names: Of the architectures.
        backends: For ``KERAS_BACKEND``.
        settings: ``parts`` of ``PARTS``; ``seed``, ``ends``, ``positions``, ``repeats`` and ``naive_batches``.
        memory: MiB at which a job is ended.
        timeout: Seconds after which a job is ended.
        output: JSON file that is written anew after every job, so that an interrupted run leaves what it has.

    Returns:
        What the JSON file holds: ``machine``, ``settings`` and ``results``, one for each architecture and backend.
    """
    results: list[dict[str, Any]] = []
    report = {"machine": machine(), "settings": dict(settings), "started": now(), "finished": None, "results": results}
    jobs = [(name, part) for name in names for part in settings["parts"]]
    for backend in backends:
        records = {name: {"architecture": name, "backend": backend, "versions": {}} for name in names}
        results += records.values()
        answers = run_jobs("benchmarks.coverage:assess", backend, jobs, settings, memory=memory, timeout=timeout)
        for (name, part), found in zip(jobs, answers, strict=True):
            records[name]["versions"] = found.pop("versions", records[name]["versions"])
            records[name][part] = found
            seconds = f" ({found['seconds']:.0f} s)" if "seconds" in found else ""
            click.echo(f"{backend}, {name}, {part}: {found['error'] or 'done'}{seconds}", err=True)
            report["finished"] = now()
            if output is not None:
                write_json(output, report)
    return report


# ---------------------------------------------------------------------- command line


@click.command()
@click.option("--architectures", help="Separated by commas; all.")
@shared.backends
@click.option("--measure/--no-measure", "timed", default=True, help="Time each architecture; yes.")
@click.option("--positions", default=40, type=click.IntRange(1), help="Central positions to time; 40.")
@click.option("--repeats", default=3, type=click.IntRange(1), help="Of the fast and the naive run, in turns; 3.")
@click.option("--memory", default=6.0, type=click.FloatRange(0), help="GiB above which a model is skipped; 6.")
@click.option("--timeout", default=900.0, type=click.FloatRange(1), help="Seconds for a part of an architecture; 900.")
@shared.files("coverage")
def main(**options: Any) -> None:
    """Say which published architectures FastISM covers, and what it saves, on every installed backend."""
    output = options["output"] or RESULTS
    if shared.shown(options, output, table, {(DOCUMENT, MARKER): table}):
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    backends = shared.chosen_backends(options["backends"])
    os.environ.setdefault("KERAS_BACKEND", backends[0])
    names = list(architectures())
    chosen = shared.parse_names(names)(click.get_current_context(), None, options["architectures"]) or names
    settings = {
        "parts": ["exact", "plan", *(["measured"] if options["timed"] else [])],
        "seed": 0,
        "ends": 3,
        "positions": options["positions"],
        "repeats": options["repeats"],
        "naive_batches": [8, 32, 120],
    }
    report = cover(
        chosen, backends, settings, memory=options["memory"] * 2**10, timeout=options["timeout"], output=output
    )
    click.echo(table(report))
    bad = [r for r in report["results"] for p in ("exact", "measured") if p in r and not _is_good(r[p], p)]
    if bad:
        raise click.ClickException(f"{len(bad)} comparisons failed or disagreed; see the table.")


def _is_good(found: Mapping[str, Any], part: str) -> bool:
    """Whether a comparison was made and did not disagree; only where times count may it show nothing."""
    return found["error"] is None and (found["exact"] is True or (part == "measured" and found["exact"] is None))


if __name__ == "__main__":
    main()
