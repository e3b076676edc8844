"""Speed of `FastISM` against the model's own `predict`, on every installed backend.

Each model is timed on each backend in a process of its own. ``docs/performance.md`` says how, and what the
numbers mean.

Run from the repository root::

    python -m benchmarks.speed                  # measure, write benchmarks/results/speed.json, print a table
    python -m benchmarks.speed --quick          # a small setting: does it work?
    python -m benchmarks.speed --output benchmarks/results/speed_epyc.json    # of another computer: a table of its own
    python -m benchmarks.speed --merge --models bpnet    # measure BPNet anew, keep the file's other results
    python -m benchmarks.speed --device gpu     # on a GPU, without and with TF32; benchmarks/results/speed_gpu.json
    python -m benchmarks.speed --table          # print the table of an existing file
    python -m benchmarks.speed --update-docs    # put that table into the documentation

Letters: N sequences, L input length, A alphabet size, V mutated sequences (one substitution each).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import devices
from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.harness import (
    TOLERANCE,
    TOLERANCE_TF32,
    Naive,
    compare,
    in_turns,
    one_hot,
    settle,
    substitutions,
    timed,
    worst,
)
from benchmarks.machine import BACKENDS, load, machine, now, peak_memory, versions
from benchmarks.processes import fresh
from benchmarks.report import FOLDER, PERFORMANCE, README, write_json
from benchmarks.speed_table import label, rates, table

NAME = "speed"
RESULTS = FOLDER / f"{NAME}.json"
MODELS = tuple(CASES)
#: The backends that the README shows.
SHORT = ("tensorflow",)
QUICK = ("basset", "factorized_basset", "bpnet")
#: Settings, and facts on the machine, that all results of a file have in common; what files of before mean by none.
SHOWN = ("device", "length", "sequences", "seed", "batch_size", "jit", "memory")
PLACE = ("processor", "cores")
UNSAID = {"device": devices.CPU, "memory": "auto"}
#: Seconds in which further turns of quick runs begin.
SECONDS = 40.0
#: Positions in a naive batch beyond which no batch size is tried.
BIG = 1 << 22

# ---------------------------------------------------------------------- in the child: one model, one backend


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Time one model on the backend of this process, which must be fresh.

    Args:
        request: ``model``, ``length`` (None for the model's own) and ``sequences``; ``seed`` of the sequences;
            ``repeats``, and ``seconds`` in which more begin; ``sample``, how many mutants are predicted naively (None
            for all), and ``naive_seconds``, for how long at most; ``naive_batches`` to choose from; ``batch_size``,
            ``jit`` and ``memory`` of `FastISM`;
            ``device`` and ``tf32``, None where that is no setting; ``spawned``, the value of ``time.perf_counter``
            before the process started.

    Returns:
        A record for the JSON file. All times are in seconds, memory is in MiB.
    """
    begun = now()
    import fastism
    from fastism import testing

    imported = time.perf_counter() - request["spawned"]
    devices.demand(request["device"])
    devices.set_tf32(request["tf32"])
    tolerance = TOLERANCE_TF32 if request["tf32"] else TOLERANCE
    case = CASES[request["model"]]
    length = request["length"] or case.length
    start, end = case.positions(length)
    x = one_hot(request["sequences"], length, request["seed"])
    model, build = timed(lambda: testing.randomize(case.build(length)))
    memory, on_device = {"model": peak_memory()}, {"model": devices.peak_memory()}
    options = {"batch_size": request["batch_size"], "jit": request["jit"], "memory": request["memory"]}
    checked = not request["tf32"]  # the self-check knows float32 only
    ism, construct = timed(fastism.FastISM, model, test_correctness=checked, **options)
    _, first = timed(ism.saturate, x, start, end)
    memory["fast"], on_device["fast"] = peak_memory(), devices.peak_memory()
    settle(ism, x, start, end, long=True)

    cells = substitutions(x, start, end)
    batches = [b for b in request["naive_batches"] if b * length <= BIG] or request["naive_batches"][:1]
    naive = Naive(model, x, cells, batches, request["sample"], request["naive_seconds"])
    (saturation, fast_times), (predicted, naive_times) = in_turns(
        lambda: ism.saturate(x, start, end), naive.predict, request["repeats"], request.get("seconds", 0)
    )

    memory["fast_and_naive"], on_device["fast_and_naive"] = peak_memory(), devices.peak_memory()
    scaled = naive.scaled(median(naive_times))
    outputs = compare(getattr(model, "output_names", ["output"]), saturation, predicted, naive.cells - [0, start, 0])
    off = worst(outputs)
    explained = ism.explain()
    speedup = scaled / median(fast_times)
    return {
        "date": begun,
        "load": load(),
        "device": devices.name(),
        "versions": {"fastism": fastism.__version__, **versions()},
        "length": length,
        "positions": end - start,
        "variants": len(cells),
        "import_s": imported,
        "build_s": build,
        "fast": {
            "construct_s": construct,
            "first_s": first,
            "fresh_s": imported + construct + first,
            "times_s": fast_times,
            "median_s": median(fast_times),
            "self_check": checked,
            "chunk": explained.chunk,
            "mode": explained.mode,
        },
        "naive": {
            "batch_size": naive.batch_size,
            "candidates": naive.candidates,
            "jit_compile": bool(model.jit_compile),
            "measured_variants": len(naive.cells),
            "times_s": naive_times,
            "overhead_s": naive.overhead,
            "scaled_s": scaled,
        },
        "speedup": speedup,
        "naive_macs": explained.naive,
        "ideal_speedup": explained.ideal_speedup,
        "share_of_ideal": speedup / explained.ideal_speedup,
        "outputs": outputs,
        "error": None,
        "max_error": off["error"],
        "effect": off["effect"],
        "error_share": off["share"],
        "tolerance": tolerance,
        "agrees": off["share"] is not None and off["share"] <= tolerance,
        "peak_memory_mib": memory,
        "peak_device_memory_mib": on_device,
    }


# ---------------------------------------------------------------------- in the parent: which runs, what machine


def measure_fresh(backend: str, request: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
    """Run `measure` in a new process on a backend. A failure comes back as a record with its ``error``."""
    found = fresh("benchmarks.speed:measure", backend, request, timeout)
    return {"model": request["model"], "backend": backend, "tf32": request.get("tf32"), **found}


def measure_all(
    models: Iterable[str],
    backends: Iterable[str],
    settings: Mapping[str, Any],
    *,
    timeout: float | None = None,
    output: Path | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure every model on every backend, one process after the other; on a GPU without and with TF32.

    Args:
        models, backends: Names.
        settings: As for `measure`, without ``model``, ``tf32`` and ``spawned``.
        timeout: Seconds for each process.
        output: JSON file that is written anew after every process, so that an interrupted run leaves what it has.
        before: A report whose other results stay.

    Returns:
        What the JSON file holds: ``machine``, ``settings`` and ``results``, each with its own date and settings.
    """
    kept = {_key(r): r for r in before["results"]} if before else {}
    report = {
        "machine": machine(),
        "settings": dict(settings),
        "started": before["started"] if before else now(),
        "finished": None,
        "results": list(kept.values()),
    }
    for model, backend, tf32 in itertools.product(models, backends, devices.precisions(settings["device"])):
        click.echo(f"{model}, {label(backend, tf32)} ...", err=True, nl=False)
        begun, date = time.perf_counter(), now()
        found = {"date": date, "settings": dict(settings)}
        found |= measure_fresh(backend, {**settings, "model": model, "tf32": tf32}, timeout)
        kept[_key(found)] = found
        report["results"] = sorted(kept.values(), key=_place)
        click.echo(f" {found['error'] or 'done'} ({time.perf_counter() - begun:.0f} s)", err=True)
        report["finished"] = now()
        if output is not None:
            write_json(output, report)
    return report


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Results with the same key replace each other."""
    return record["model"], record["backend"], record.get("tf32")


def _place(record: Mapping[str, Any]) -> tuple[int, ...]:
    """Where a result stands: by model, backend, precision."""
    return MODELS.index(record["model"]), BACKENDS.index(record["backend"]), bool(record.get("tf32"))


def _mergeable(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report that new results go into; None if there is none yet."""
    if not path.exists():
        return None
    report = shared.read(path)
    ours, theirs = ({**{n: UNSAID.get(n) for n in SHOWN}, **s} for s in (settings, report["settings"]))
    differ = [f"{name} is {theirs[name]!r}, not {ours[name]!r}" for name in SHOWN if theirs[name] != ours[name]]
    here = machine()
    differ += [f"{n} is {report['machine'][n]!r}, not {here[n]!r}" for n in PLACE if report["machine"][n] != here[n]]
    if differ:
        raise click.ClickException(
            f"{path} cannot take these results: {'; '.join(differ)}. Name another with --output."
        )
    return report


# ---------------------------------------------------------------------- command line


def _parse_batch(_: click.Context, __: click.Parameter, value: str) -> int | str:
    if value == "auto" or (value.isdecimal() and int(value) > 0):
        return value if value == "auto" else int(value)
    raise click.BadParameter(f"{value!r} is neither 'auto' nor a positive number.")


def _places(output: Path, device: str) -> dict[tuple[Path, str], shared.Table]:
    """Where tables of a file belong: of ``speed_NAME.json``, of another computer, into a table of that name."""
    name, _, other = output.stem.partition("_")
    if name == NAME and other and device == devices.CPU:
        return {(PERFORMANCE, f"{NAME}-{other}"): table}
    return {
        (PERFORMANCE, NAME): table,
        (PERFORMANCE, "rates"): rates,
        (README, NAME): lambda report: table(report, SHORT),
    }


@click.command()
@shared.models(MODELS)
@shared.backends
@shared.device
@click.option("--length", type=click.IntRange(1), help="Of a sequence, in bp; each model's own.")
@click.option("--sequences", default=1, type=click.IntRange(1), help="How many are mutated in one call; 1.")
@click.option("--repeats", type=click.IntRange(1), help="Of the fast and the naive run; 3, more if quick.")
@click.option("--sample", type=click.IntRange(1), help="Mutants predicted naively, their time is scaled; 1024.")
@click.option("--full", is_flag=True, help="Predict all mutants naively.")
@click.option(
    "--naive-seconds", default=30.0, type=click.FloatRange(0, min_open=True), help="For one naive run, at most; 30."
)
@click.option("--batch-size", default="auto", callback=_parse_batch, help="Of FastISM; auto.")
@click.option("--jit", default="auto", type=click.Choice(["auto", "true", "false"]), help="Of FastISM; auto.")
@click.option("--memory", default="auto", help="Budget of FastISM, such as 1GB; auto.")
@click.option("--quick", is_flag=True, help="Does it work? 200 bp, 1 repeat, 64 mutants; no file but --output.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for a model on a backend; 3600.")
@click.option("--merge", is_flag=True, help="Replace the results of these models and backends, keep all others.")
@shared.files(NAME)
def main(**options: Any) -> None:
    """Time FastISM against the model's own predict, on every installed backend."""
    output, device = shared.place(options, NAME), options["device"]
    if shared.shown(options, output, table, _places(output, device)):
        return
    quick = options["quick"]
    defaults = {"length": 200, "repeats": 1, "sample": 64} if quick else {"length": None, "repeats": 3, "sample": 1024}
    chosen = {name: options[name] or value for name, value in defaults.items()}
    settings = {
        "device": device,
        **chosen,
        "seconds": 0 if quick or options["repeats"] else SECONDS,
        "sample": None if options["full"] else chosen["sample"],
        "sequences": options["sequences"],
        "seed": 0,
        "naive_batches": [32] if quick else [8, 32, 128, 512],
        "naive_seconds": options["naive_seconds"],
        "batch_size": options["batch_size"],
        "memory": options["memory"],
        "jit": {"auto": "auto", "true": True, "false": False}[options["jit"]],
    }
    backends = shared.chosen_backends(options["backends"])
    click.echo(f"On the {device}.", err=True)
    keep = options["output"] if quick else output
    models = options["models"] or (QUICK if quick else MODELS)
    before = _mergeable(keep, settings) if options["merge"] and keep else None
    report = measure_all(models, backends, settings, timeout=options["timeout"], output=keep, before=before)
    click.echo(table(report))
    new = [r for r in report["results"] if r["model"] in models and r["backend"] in backends]
    bad = [r for r in new if r["error"] is not None or not r["agrees"]]
    if bad:
        raise click.ClickException(f"{len(bad)} of {len(new)} runs failed or disagreed; see the table.")


if __name__ == "__main__":
    main()
