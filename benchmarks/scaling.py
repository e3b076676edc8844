"""How `FastISM` grows with the length of a sequence and with their number, and what it makes of a budget of memory.

Each measurement has a process of its own. ``docs/performance.md`` holds the tables and says how to read them.

Run from the repository root::

    python -m benchmarks.scaling                                # all parts, write benchmarks/results/scaling.json
    python -m benchmarks.scaling --parts length --backends jax  # other parts of the file stay
    python -m benchmarks.scaling --parts memory --over          # also with more sequences than the budget could cache
    python -m benchmarks.scaling --table                        # print the tables of an existing file
    python -m benchmarks.scaling --update-docs                  # put them, and a plot, into the documentation

Letters: N sequences, L input length.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

import click

from benchmarks import devices, scaling_table
from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.harness import one_hot, settle, timed
from benchmarks.machine import forget_peak, load, machine, now, peak_memory, resident_memory, versions
from benchmarks.processes import fresh
from benchmarks.report import PERFORMANCE, write_json

NAME = "scaling"
#: Parts, and the function that measures one.
PARTS = {
    "length": "benchmarks.speed:measure",
    "sequences": "benchmarks.scaling:sequences",
    "memory": "benchmarks.scaling:memory",
}
#: Networks that pool, of which a mutation changes a stretch as short in a long sequence as in a short one.
POOLED = ("basset", "factorized_basset")
MODELS: Mapping[str, tuple[str, ...]] = {
    "length": POOLED,
    "sequences": (*POOLED, "bpnet"),
    "memory": tuple(CASES),
}
#: Drawn from the file by ``--update-docs``.
PLOT = PERFORMANCE.parent / "images" / "scaling_length.png"
#: Runs of few sequences for each run of many, at most.
MOST_OF_FEW = 8
#: More than a budget could cache, by this factor.
OVER = 1.25


# ---------------------------------------------------------------------- in the child: one model, one backend


def sequences(request: Mapping[str, Any]) -> dict[str, Any]:
    """Time `saturate` of all positions for several numbers of sequences.

    Args:
        request: ``model``, ``length`` (None for the model's own), ``counts``, ``repeats``, ``seed``, ``device`` and
            ``tf32``.

    Returns:
        A record with the seconds for one sequence at each number.
    """
    import fastism
    from fastism import testing

    _prepare(request)
    case = CASES[request["model"]]
    length = request["length"] or case.length
    start, end = case.positions(length)
    ism = fastism.FastISM(testing.randomize(case.build(length)), test_correctness=False)
    inputs = {count: one_hot(count, length, request["seed"]) for count in request["counts"]}
    first, times = {}, {count: [] for count in inputs}
    for count, x in inputs.items():
        _, first[count] = timed(ism.saturate, x, start, end)
        settle(ism, x, start, end, long=True)
    for count, x in itertools.chain.from_iterable(itertools.repeat(inputs.items(), request["repeats"])):
        for _ in range(min(MOST_OF_FEW, max(inputs) // count)):  # in turns, so that a busy minute hits all alike
            times[count].append(timed(ism.saturate, x, start, end)[1])
    found = [{"sequences": n, "first_s": first[n], "times_s": times[n], "each_s": median(times[n]) / n} for n in inputs]
    return {**_circumstances(), "length": length, "counts": found, "ratio": found[0]["each_s"] / found[-1]["each_s"]}


def memory(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what `FastISM` takes beside a model that is built and warm, its inputs and its results; and its speed.

    Args:
        request: ``model``, ``length`` (None for the model's own), ``budget``, ``positions`` (central ones), ``over``
            (more sequences than the budget could cache at once, instead of one), ``repeats``, ``seed``, ``device`` and
            ``tf32``.

    Returns:
        A record with memory in MiB. The increase is that from the memory held just before `FastISM` is made to the
        most held until `saturate` compiles nothing more.
    """
    import fastism
    from fastism import sizes, testing

    _prepare(request)
    case = CASES[request["model"]]
    length = request["length"] or case.length
    middle = length // 2
    start, end = max(0, middle - request["positions"] // 2), min(length, middle + -(-request["positions"] // 2))
    model = testing.randomize(case.build(length))
    model.predict(one_hot(1, length, request["seed"]), verbose=0)
    forget_peak()  # making and randomising weights takes several times what they do
    before, highest, on_device = resident_memory(), peak_memory(), devices.peak_memory()
    ism, construct = timed(fastism.FastISM, model, memory=request["budget"])
    cached = sizes.cached_bytes(ism._engine.plan(1)) / 2**20
    budget = int(sizes.budget(request["budget"])) / 2**20
    count = math.ceil(OVER * budget / cached) if request["over"] else 1
    x = one_hot(count, length, request["seed"])
    saturation, first = timed(ism.saturate, x, start, end)
    given, results = x.nbytes / 2**20, _mib(saturation)
    del saturation  # else two results are held at a time
    settle(ism, x, start, end)
    after, on_device_after = peak_memory(), devices.peak_memory()
    times = [timed(ism.saturate, x, start, end)[1] for _ in range(request["repeats"])]
    increase = None if before is None or after is None else max(after - before - given - results, 0)
    variants = int((x[:, start:end] == 0).sum())
    return {
        **_circumstances(),
        "length": length,
        "positions": end - start,
        "sequences": count,
        "over": bool(request["over"]),
        "budget": request["budget"],
        "budget_mib": budget,
        "cached_mib": cached * count,
        "chunk": ism.explain().chunk,
        "resident_before_mib": before,
        "peak_before_mib": highest,
        "peak_mib": after,
        "peak_device_before_mib": on_device,
        "peak_device_mib": on_device_after,
        "inputs_mib": given,
        "results_mib": results,
        "increase_mib": increase,
        "of_budget": None if increase is None else increase / budget,
        "construct_s": construct,
        "first_s": first,
        "times_s": times,
        "per_second": variants / median(times),
    }


def _prepare(request: Mapping[str, Any]) -> None:
    devices.demand(request["device"])
    devices.set_tf32(request["tf32"])


def _circumstances() -> dict[str, Any]:
    import fastism

    said = {"fastism": fastism.__version__, **versions()}
    return {"date": now(), "load": load(), "device": devices.name(), "versions": said, "error": None}


def _mib(saturation: Any) -> float:
    from keras import tree

    return sum(y.nbytes for part in saturation for y in tree.flatten(part)) / 2**20


# ---------------------------------------------------------------------- in the parent


def requests(part: str, models: Iterable[str], options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is asked of one backend, in turn."""
    device = options["device"]
    same = {"device": device, "tf32": devices.precisions(device)[0], "seed": 0, "repeats": options["repeats"]}
    for model in models:
        asked = {"model": model, "length": options["length"], **same}
        if part == "length":
            naive = {"sample": 1024, "naive_batches": [8, 32, 128, 512], "naive_seconds": options["naive_seconds"]}
            fast = {"sequences": 1, "batch_size": "auto", "jit": "auto", "memory": "auto"}
            for length in options["lengths"]:
                yield {**asked, **naive, **fast, "length": length}
        elif part == "sequences":
            yield {**asked, "counts": options["counts"]}
        else:
            for over, budget in itertools.product((False, True) if options["over"] else (False,), options["budgets"]):
                each = {"budget": budget, "over": over}
                yield {**asked, **each, "positions": options["over_positions" if over else "positions"]}


def run(
    part: str, models: Iterable[str], backends: Iterable[str], options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Measure a part; what its results are after each measurement."""
    results: list[dict[str, Any]] = []
    report = {"machine": machine(), "started": now(), "finished": None, "results": results}
    asked = itertools.product(requests(part, models, options), list(backends))
    for request, backend in asked:
        told = ("model", "length", "budget", "over")
        named = ", ".join(f"{k} {request[k]}" for k in told if request.get(k))
        click.echo(f"{part}: {backend}, {named} ...", err=True, nl=False)
        begun = time.perf_counter()
        found = fresh(PARTS[part], backend, request, options["timeout"])
        results.append({"model": request["model"], "backend": backend, "request": request, **found})
        click.echo(f" {found['error'] or 'done'} ({time.perf_counter() - begun:.0f} s)", err=True)
        report["finished"] = now()
        yield report


def _texts(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    return [v.strip() for v in value.split(",") if v.strip()]


@click.command()
@click.option("--parts", callback=shared.parse_names(tuple(PARTS)), help=f"Of {', '.join(PARTS)}; all.")
@shared.models(tuple(CASES))
@shared.backends
@shared.device
@click.option("--lengths", default="500,1000,2000,4000,8000,16000", callback=shared.parse_numbers, help="In bp.")
@click.option("--counts", default="1,64", callback=shared.parse_numbers, help="Numbers of sequences; 1,64.")
@click.option("--budgets", default="1GB,4GB", callback=_texts, help="Of memory; 1GB,4GB.")
@click.option("--over", is_flag=True, help="Memory: also with more sequences than the budget could cache at once.")
@click.option("--positions", default=200, type=click.IntRange(1), help="Memory: central ones to mutate; 200.")
@click.option("--over-positions", default=2, type=click.IntRange(1), help="The same with --over; 2.")
@click.option("--length", type=click.IntRange(1), help="Sequences and memory: in bp; each model's own.")
@click.option("--repeats", default=3, type=click.IntRange(1), help="Of timed runs; 3.")
@click.option("--naive-seconds", default=10.0, type=click.FloatRange(0, min_open=True), help="For a naive run; 10.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for a process; 3600.")
@shared.files(NAME)
def main(**options: Any) -> None:
    """Measure how FastISM grows with length and number of sequences, and what memory it takes."""
    output = shared.place(options, NAME)
    places = {(PERFORMANCE, f"{NAME}-{part}"): scaling_table.for_page(part, PLOT.name) for part in PARTS}
    if shared.shown(options, output, scaling_table.tables, places):
        if (
            options["update_docs"]
            and options["device"] == devices.CPU
            and scaling_table.plot(shared.read(output), PLOT)
        ):
            click.echo(f"{PLOT}: drawn", err=True)
        return
    report = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    backends = shared.chosen_backends(options["backends"])
    click.echo(f"On the {options['device']}.", err=True)
    parts = options["parts"] or list(PARTS)
    for part in parts:
        for results in run(part, options["models"] or MODELS[part], backends, options):
            report[part] = results
            write_json(output, {p: report[p] for p in PARTS if p in report})
    click.echo(scaling_table.tables(report))
    bad = [r for part in parts for r in report[part]["results"] if r["error"] is not None or not r.get("agrees", True)]
    if bad:
        raise click.ClickException(f"{len(bad)} measurements failed or disagreed; see the tables.")


if __name__ == "__main__":
    main()
