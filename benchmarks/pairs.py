"""All pairs of substitutions in a window: `FastISM.pairs` and the model's own `predict`, in turns in one process.

Run from the repository root::

    python -m benchmarks.pairs                            # Basset, 1000 bp, a window of 100
    python -m benchmarks.pairs --models bpnet --window 30
    python -m benchmarks.pairs --update-docs              # put the table of an existing file into docs/performance.md
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import click

from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.harness import TOLERANCE, Naive, in_turns, one_hot, substitutions
from benchmarks.machine import machine, now, versions
from benchmarks.processes import fresh
from benchmarks.report import PERFORMANCE, write_json

NAME = "pairs"


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Time one model on this backend.

    Args:
        request: ``model``, ``window``, ``repeats``, ``naive_seconds`` and ``seed``.

    Returns:
        A record for the JSON file; times in seconds.
    """
    import numpy as np

    from fastism import FastISM
    from fastism.testing import randomize

    case = CASES[request["model"]]
    start = (case.length - request["window"]) // 2
    end = start + request["window"]
    x = one_hot(1, case.length, request["seed"])
    model = randomize(case.build(case.length))
    ism = FastISM(model, test_correctness=False)
    found = ism.pairs(x, start, end)
    # every single mutant, and what is written to the right of its change
    singles = substitutions(x, start, end)
    rows = np.repeat(x, len(singles), axis=0)
    rows[np.arange(len(rows)), singles[:, 1]] = np.eye(4, dtype=x.dtype)[singles[:, 2]]
    cells = substitutions(rows, start, end)
    cells = cells[cells[:, 1] > singles[cells[:, 0], 1]]
    naive = Naive(model, rows, cells, (32, 128, 512), 2048, request["naive_seconds"])
    (found, fast), (predicted, slow) = in_turns(lambda: ism.pairs(x, start, end), naive.predict, request["repeats"])
    row, second, letter = naive.cells.T
    _, first, written = singles[row].T
    ours = found.double[0, first - start, written, second - start, letter]
    error = np.abs(ours - predicted).max() / np.abs(predicted - found.reference).max()
    scaled, seconds = naive.scaled(median(slow)), median(fast)
    return {
        "error": None if error <= TOLERANCE else f"differs by {error:.1e} of the effect",
        "pairs": len(cells),
        "naive_s": scaled,
        "naive_batch": naive.batch_size,
        "sample": len(naive.cells),
        "fast_s": seconds,
        "speedup": scaled / seconds,
        "error_share": float(error),
        "versions": versions(),
        "date": now(),
    }


@click.command()
@shared.models(list(CASES))
@shared.backends
@click.option("--window", default=100, type=click.IntRange(2), help="Positions; 100.")
@click.option("--repeats", default=3, type=click.IntRange(1), help="Of both, in turns; 3.")
@click.option("--naive-seconds", default=8.0, type=click.FloatRange(0, min_open=True), help="For a naive run; 8.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for a process; 3600.")
@shared.files(NAME)
def main(**options: Any) -> None:
    """Time all pairs of substitutions in a window against predicting them."""
    output = shared.place({"device": "cpu", **options}, NAME)
    if shared.shown(options, output, table, {(PERFORMANCE, NAME): table}):
        return
    asked = {k: options[k] for k in ("window", "repeats", "naive_seconds")} | {"seed": 0}
    here, results = machine(), []
    for model in options["models"] or ["basset"]:
        for backend in shared.chosen_backends(options["backends"]):
            found = fresh("benchmarks.pairs:measure", backend, {**asked, "model": model}, options["timeout"])
            results.append({"model": model, "backend": backend, "machine": here, "request": asked, **found})
            write_json(output, {"results": results})
    click.echo(table({"results": results}))
    if any(r["error"] for r in results):
        raise click.ClickException("a measurement failed; see the table.")


def table(report: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| model | backend | pairs | naive, s | fast, s | speed-up | error / effect |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in report["results"]:
        if r["error"]:
            lines.append(f"| {CASES[r['model']].title} | {r['backend']} | {r['error']} |")
            continue
        lines.append(
            f"| {CASES[r['model']].title} | {r['backend']} | {r['pairs']:,} | {r['naive_s']:.3g} (batch "
            f"{r['naive_batch']}) | {r['fast_s']:.3g} | {r['speedup']:.1f}x | {r['error_share']:.0e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
