"""`FastISM` beside what a PyTorch user has: tangermeme on the same networks in torch, weights and sequences.

tangermeme gets a virtual environment of its own, made on the first run. It computes every mutant with the whole
network, or, where that takes long, only what changes (its ``fast``); both are timed. Its networks are written in
``peer_torch_child.py``. On the processor.

Run from the repository root::

    python -m benchmarks.peer_torch                                # Basset, Factorized Basset, BPNet
    python -m benchmarks.peer_torch --models basset --sequences 16
    python -m benchmarks.peer_torch --update-docs                  # put the table into the documentation
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import devices
from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.environments import ask, python_in
from benchmarks.harness import leaves, one_hot, settle, timed
from benchmarks.machine import installed_backends, load, machine, now, versions
from benchmarks.processes import fresh
from benchmarks.report import PERFORMANCE, ROOT, days, escaped, joined, markdown, number, short, write_json

NAME = "peer_torch"
MARKER = "peer-torch"
ENVIRONMENT = ROOT / ".tangermeme"
#: torch first: what tangermeme would fetch is another build on some machines.
INSTALLS = (("torch==2.13.0",), ("tangermeme==1.6.0",))
MODELS = ("basset", "factorized_basset", "bpnet")
#: Of ours.
BACKENDS = ("torch", "tensorflow")


def ours(request: Mapping[str, Any]) -> dict[str, Any]:
    """In a process of its own: time `FastISM`, and write what it gives.

    Args:
        request: ``model``, ``length`` (None for the model's own), ``sequences``, ``repeats``; ``given``, the file with
            sequences and weights, written if it is not there; ``outputs``, the file for the predictions.
    """
    import numpy as np

    from fastism import FastISM, testing

    devices.demand(devices.CPU)
    case, given = CASES[request["model"]], Path(request["given"])
    length = request["length"] or case.length
    model = testing.randomize(case.build(length))
    if not given.exists():
        x = one_hot(request["sequences"], length, 0)
        np.savez(given, x=x, **{f"w{i}": w for i, w in enumerate(model.get_weights())})
    with np.load(given) as file:
        x = file["x"]
        model.set_weights([file[f"w{i}"] for i in range(len(file.files) - 1)])
    ism, construct = timed(FastISM, model)
    saturation, first = timed(ism.saturate, x)
    settle(ism, x)
    times = [timed(ism.saturate, x)[1] for _ in range(request["repeats"])]
    arrays = {f"{k}{i}": y for k, part in zip("rm", saturation, strict=True) for i, y in enumerate(leaves(part))}
    np.savez(request["outputs"], **arrays)
    seconds = {"construct_s": construct, "first_s": first, "times_s": times, "median_s": median(times)}
    return {**seconds, "versions": versions(), "error": None}


def compare(python: Path, name: str, backends: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Time both on one network, and compare what they give.

    Args:
        python: Of tangermeme's environment.
        name: Key in ``CASES``.
        backends: Of `FastISM`.
        options: ``length``, ``sequences``, ``repeats``, ``batches`` (for tangermeme to choose from), ``timeout``.

    Returns:
        A record for the JSON file; times in seconds for all sequences.
    """
    count, timeout = options["sequences"], options["timeout"]
    record = {"date": now(), "load": load(), "sequences": count, "length": options["length"], "error": None}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = {k: options[k] for k in ("length", "sequences", "repeats", "batches")}
        asked |= {"model": name, "given": str(folder / "given.npz"), "device": devices.CPU}
        found: dict[str, dict[str, Any]] = {}
        for backend in backends:
            request = {**asked, "outputs": str(folder / f"{backend}.npz")}
            found[backend] = fresh("benchmarks.peer_torch:ours", backend, request, timeout)
            if found[backend]["error"]:
                raise RuntimeError(f"FastISM on {backend}: {found[backend]['error']}")
        theirs = ask(python, ROOT / "benchmarks" / "peer_torch_child.py", asked, folder, timeout)
        for backend, record_of in found.items():
            record_of["difference_share"] = difference(folder / f"{backend}.npz", folder / "outputs.npz")
            record_of["ratio"] = theirs["plain"]["median_s"] / record_of["median_s"]
            record_of["ratio_fast"] = theirs["fast"]["median_s"] / record_of["median_s"]
    return {**record, "ours": found, "theirs": theirs}


def difference(ours: Path, theirs: Path) -> float:
    """Largest difference as a share of the largest effect, of the worst output."""
    import numpy as np

    shares = []
    with np.load(ours) as mine, np.load(theirs) as other:
        if set(mine.files) != set(other.files):
            raise RuntimeError(f"other outputs: {sorted(mine.files)}, {sorted(other.files)}")
        for i in range(len(mine.files) // 2):
            mutant, reference = mine[f"m{i}"], mine[f"r{i}"]
            effect = np.abs(mutant - reference[:, None, None]).max()
            shares.append(float(np.abs(mutant - other[f"m{i}"].reshape(mutant.shape)).max() / effect))
    return max(shares)


def table(report: Mapping[str, Any]) -> str:
    """The results as a Markdown table, seconds for each sequence."""
    head = (
        "model",
        "sequences",
        "tangermeme, s",
        "tangermeme fast, s",
        "FastISM on",
        "FastISM, s",
        "ratio",
        "ratio to fast",
        "difference / effect",
    )
    rows = []
    for r in report["results"]:
        title, n = CASES[r["model"]].title, r["sequences"]
        if r["error"]:
            rows.append((title, f"{n}", f"failed: {escaped(r['error'])}", *[""] * (len(head) - 3)))
            continue
        for backend, mine in r["ours"].items():
            plain, fast = r["theirs"]["plain"], r["theirs"]["fast"]
            said = "not taken" if fast["not_fast"] else number(fast["median_s"] / n)
            times = (f"{number(plain['median_s'] / n)} (batch {plain['batch_size']})", said)
            ratios = (f"{number(mine['ratio'])}x", "" if fast["not_fast"] else f"{number(mine['ratio_fast'])}x")
            own = (backend, number(mine["median_s"] / n), *ratios, f"{mine['difference_share']:.0e}")
            rows.append((title, f"{n}", *times, *own))
    good = [r for r in report["results"] if not r["error"]]
    packages = {f"{n} {r['theirs'][n]}": None for r in good for n in ("tangermeme", "torch")}
    where = f"float32; {report['machine']['processor']}, {report['machine']['cores']} cores"
    caption = joined([where, ", ".join(packages), days(report, (r["date"] for r in good))])
    return "\n".join([caption, "", markdown(head, rows, (h for h in head if h not in ("model", "FastISM on")))])


@click.command()
@shared.models(MODELS)
@click.option("--backends", callback=shared.parse_names(BACKENDS), help="Of FastISM; torch, tensorflow.")
@click.option("--sequences", default=1, type=click.IntRange(1), help="How many; 1.")
@click.option("--length", type=click.IntRange(1), help="In bp; each model's own.")
@click.option(
    "--batches", default="32,128,512", callback=shared.parse_numbers, help="tangermeme takes the best of these."
)
@click.option("--repeats", default=3, type=click.IntRange(1), help="Of each; 3.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for each process; 3600.")
@click.option("--environment", "folder", default=ENVIRONMENT, type=click.Path(path_type=Path), help="tangermeme's own.")
@shared.files(NAME)
def main(**options: Any) -> None:
    """Time FastISM and tangermeme on the same networks, weights and sequences."""
    output = shared.place(options, NAME)
    if shared.shown(options, output, table, {(PERFORMANCE, MARKER): table}):
        return
    python = python_in(options["folder"], *INSTALLS)
    backends = options["backends"] or [b for b in BACKENDS if b in installed_backends()]
    results: list[dict[str, Any]] = []
    report = {"machine": machine(), "started": now(), "finished": None, "results": results}
    for name in options["models"] or MODELS:
        click.echo(f"{name} ...", err=True)
        try:
            found = compare(python, name, backends, options)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found = {"sequences": options["sequences"], "error": short(str(error))}
        results.append({"model": name, **found})
        report["finished"] = now()
        write_json(output, report)
    click.echo(table(report))
    bad = [r for r in results if r["error"]]
    if bad:
        raise click.ClickException(f"{len(bad)} of {len(results)} comparisons failed; see the table.")


if __name__ == "__main__":
    main()
