"""`FastISM` beside the published fastISM 0.5.1, in one run: same architectures, weights, sequences and machine.

The published package needs Keras 2, so it gets a virtual environment of its own, made on the first run. It writes one
replacement in a call, so all substitutions of a sequence take it a call for each letter: one is timed, and counted
three times, once for each letter that is not there.

Run from the repository root::

    python -m benchmarks.peer                       # Basset, Factorized Basset, BPNet; 1, 16 and 128 sequences
    python -m benchmarks.peer --models basset --batches 1,16
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.environments import ask, python_in
from benchmarks.harness import leaves, one_hot, settle, timed
from benchmarks.machine import load, machine, now, versions
from benchmarks.report import PERFORMANCE, ROOT, days, joined, markdown, short, write_json

NAME = "peer"
ENVIRONMENT = ROOT / ".peer"
PACKAGES = ("fastism==0.5.1", "tensorflow", "tf_keras")
MODELS = ("basset", "factorized_basset", "bpnet")
#: Substitutions of a position.
LETTERS = 3


def compare(python: Path, name: str, batch: int, repeats: int, timeout: float) -> dict[str, Any]:
    """Time both on one architecture and number of sequences, and compare what they give.

    Args:
        python: Of the published package's environment.
        name: Key in ``CASES``.
        batch: Sequences in a call.
        repeats: Of each side.
        timeout: Seconds for the published package.

    Returns:
        A record for the JSON file; times in seconds for all substitutions of one sequence.
    """
    import numpy as np

    from fastism import FastISM, testing

    case, letter = CASES[name], 0
    model = testing.randomize(case.build())
    x = one_hot(batch, case.length, 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.savez(folder / "given.npz", x=x, **{f"w{i}": w for i, w in enumerate(model.get_weights())})
        request = {"model": name, "letter": letter, "repeats": repeats, "given": str(folder / "given.npz")}
        answer = ask(python, ROOT / "benchmarks" / "peer_child.py", request, folder, timeout)
        with np.load(folder / "outputs.npz") as file:
            theirs = [file[k] for k in file.files]
    ism = FastISM(model, test_correctness=False)
    saturation = ism.saturate(x)
    settle(ism, x)
    times = [timed(ism.saturate, x)[1] for _ in range(repeats)]
    shares = []
    for mine, their, reference in zip(leaves(saturation.mutant), theirs, leaves(saturation.reference), strict=True):
        effect = np.abs(mine[:, :, letter] - reference[:, None]).max()
        shares.append(float(np.abs(mine[:, :, letter] - their.reshape(mine[:, :, letter].shape)).max() / effect))
    fast, peer = median(times) / batch, LETTERS * median(answer["times_s"]) / batch
    return {
        "sequences": batch,
        "fast_s": fast,
        "peer_s": peer,
        "ratio": peer / fast,
        "fast_times_s": times,
        "peer_times_s": answer["times_s"],
        "difference_share": max(shares),
        "error": None,
    }


def table(report: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    head = ("model", "sequences in a call", "fastISM 0.5.1, s", "FastISM, s", "ratio", "difference / effect")
    rows = []
    for r in report["results"]:
        title, count = CASES[r["model"]].title, f"{r['sequences']}"
        if r["error"]:
            rows.append((title, count, f"failed: {r['error']}", "", "", ""))
            continue
        peer, fast, ratio = f"{r['peer_s']:.3g}", f"{r['fast_s']:.3g}", f"{r['ratio']:.3g}x"
        rows.append((title, count, peer, fast, ratio, f"{r['difference_share']:.0e}"))
    good = [r for r in report["results"] if not r["error"]]
    which = ", ".join(
        f"{n} {report['versions'][n]}" for n in ("fastism", "keras", "tensorflow") if n in report["versions"]
    )
    where = f"float32, TensorFlow; {report['machine']['processor']}, {report['machine']['cores']} cores"
    caption = joined([where, which, days(report, (r["date"] for r in good))])
    return "\n".join([caption, "", markdown(head, rows, head[1:])])


@click.command()
@shared.models(MODELS)
@click.option("--batches", default="1,16,128", callback=shared.parse_numbers, help="Sequences in a call; 1,16,128.")
@click.option("--repeats", default=1, type=click.IntRange(1), help="Of each side, after a first run; 1.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for each run of the other; 3600.")
@click.option("--environment", "folder", default=ENVIRONMENT, type=click.Path(path_type=Path), help="Its environment.")
@shared.files(NAME)
def main(**options: Any) -> None:
    """Time FastISM and the published fastISM 0.5.1 on the same models, weights and sequences."""
    output = shared.place(options, NAME)
    if shared.shown(options, output, table, {(PERFORMANCE, NAME): table}):
        return
    python = python_in(options["folder"], PACKAGES)
    results: list[dict[str, Any]] = []
    report = {"machine": machine(), "versions": versions(), "started": now(), "finished": None, "results": results}
    for name in options["models"] or MODELS:
        for batch in options["batches"]:
            click.echo(f"{name}, {batch} sequences ...", err=True)
            try:
                found = compare(python, name, batch, options["repeats"], options["timeout"])
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                found = {"sequences": batch, "error": short(str(error))}
            results.append({"model": name, "date": now(), "load": load(), **found})
            report["finished"] = now()
            write_json(output, report)
    click.echo(table(report))
    bad = [r for r in results if r["error"]]
    if bad:
        raise click.ClickException(f"{len(bad)} of {len(results)} comparisons failed; see the table.")


if __name__ == "__main__":
    main()
