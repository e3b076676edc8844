"""Where the time of `FastISM` goes: step by step in a chunk, and beside the chunks.

The plan of a chunk is cut off after each of its steps in turn, and each of these functions is compiled and timed: what
a step adds is its time. A compiler treats a part otherwise than the whole, so the times of single steps are estimates.
All are the least of some runs, in turns.

Run from the repository root::

    python -m benchmarks.profile basset bpnet           # measure, write benchmarks/results/profile.json
    python -m benchmarks.profile basset --backends jax  # results of other models and backends stay in the file
    python -m benchmarks.profile --table                # print the tables of an existing file
    python -m benchmarks.profile --update-docs          # put the summary into the documentation
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from benchmarks import devices, profile_table
from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.harness import one_hot, settle, substitutions, timed
from benchmarks.machine import load, machine, now, versions
from benchmarks.processes import fresh
from benchmarks.report import PERFORMANCE, write_json

NAME = "profile"
#: Rows and columns of the matrices whose product is the machine's own rate.
SQUARE = 1024
#: Changed steps of a plan from which on those without products are timed together: each cut is compiled.
LONG = 60


# ---------------------------------------------------------------------- in the child: one model, one backend


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Time one model by steps.

    Args:
        request: ``model``, ``length`` (None for the model's own), ``repeats``, ``seed``, ``device`` and ``tf32``.

    Returns:
        A record for the JSON file. Times are in seconds: ``total_s`` of a `saturate`, of which are ``reference_s``,
        ``chunks`` times ``chunk_s``, and on the host the rest.
    """
    begun = now()
    from keras import ops

    import fastism
    from fastism import testing

    devices.demand(request["device"])
    devices.set_tf32(request["tf32"])
    case, repeats = CASES[request["model"]], request["repeats"]
    length = request["length"] or case.length
    start, end = case.positions(length)
    x = one_hot(1, length, request["seed"])
    ism = fastism.FastISM(testing.randomize(case.build(length)), test_correctness=False)
    settle(ism, x, start, end)
    engine = ism._engine
    with _calls(engine, "_reference_function") as references, _calls(engine, "_chunk_function") as chunks:
        ism.saturate(x, start, end)
    (plan, shape, *_), run, args = chunks[len(chunks) // 2]
    matrix = _square()
    parts = cuts(engine, plan, shape, args)
    total, rate, reference, chunk, *times = least(
        [
            lambda: ism.saturate(x, start, end),
            lambda: devices.wait(ops.matmul(matrix, matrix)),
            lambda: devices.wait([reference(*given) for _, reference, given in references]),
            lambda: devices.wait(run(*args)),
            *(part for _, part in parts),
        ],
        repeats,
    )
    steps = by_step(plan, shape.groups * shape.members, [together for together, _ in parts], times)
    return {
        "date": begun,
        "load": load(),
        "device": devices.name(),
        "versions": {"fastism": fastism.__version__, **versions()},
        "error": None,
        "length": length,
        "positions": end - start,
        "variants": len(substitutions(x, start, end)),
        "mode": engine.mode,
        "chunks": len(chunks),
        "variants_in_chunk": shape.groups * shape.members,
        "total_s": total,
        "reference_s": reference,
        "chunk_s": chunk,
        "matrix_gflops": 2 * SQUARE**3 / 1e9 / rate,
        "groups": grouped(total, reference, len(chunks), chunk, steps),
        "steps": steps,
    }


@contextmanager
def _calls(engine: Any, maker: str) -> Any:
    """While it lasts, note every call of the functions that a method of the engine makes."""
    noted: list[tuple[tuple[Any, ...], Callable[..., Any], tuple[Any, ...]]] = []
    make = getattr(engine, maker)

    def watched(*key: Any) -> Callable[..., Any]:
        run = make(*key)

        def call(*args: Any) -> Any:
            noted.append((key, run, args))
            return run(*args)

        return call

    setattr(engine, maker, watched)
    try:
        yield noted
    finally:
        delattr(engine, maker)


def least(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """The least seconds that each takes, once compiled. They run in turns, so that a busy moment hits all alike."""
    for call in calls:
        call()
    rounds = [[timed(call)[1] for call in calls] for _ in range(repeats)]
    return [min(times) for times in zip(*rounds, strict=True)]


def runs(plan: Any, long: int = LONG) -> list[list[int]]:
    """The changed steps of a plan, by their numbers; where they are more than ``long``, passes in a row together."""
    from fastism.plan import REFERENCE

    changed = [k for k, planned in enumerate(plan.steps) if planned.state != REFERENCE]
    found: list[list[int]] = []
    for k in changed:
        multiplies = products(plan, plan.steps[k]) > 0
        if found and len(changed) > long and not multiplies and not products(plan, plan.steps[found[-1][-1]]):
            found[-1].append(k)
        else:
            found.append([k])
    return found


def cuts(engine: Any, plan: Any, shape: Any, args: Sequence[Any]) -> list[tuple[list[Any], Callable[[], Any]]]:
    """The changed steps of a chunk, and a call of the chunk up to them, in execution order."""
    from fastism import backend

    cache, sequence, slots, delta = args
    starts, found = _columns(plan.slot_table, slots), []
    for numbers in runs(plan):
        part = replace(plan, steps=plan.steps[: numbers[-1] + 1])
        run = backend.compile_function(_cut(part, plan, shape), plan.graph.variables, engine.mode)
        given = (cache, sequence, part.slot_table[:, starts], delta)
        steps = [plan.steps[k] for k in numbers]
        found.append((steps, lambda run=run, given=given: devices.wait(run(*given))))
    return found


def by_step(plan: Any, variants: int, steps: Sequence[Sequence[Any]], times: Sequence[float]) -> list[dict[str, Any]]:
    """What each step adds to the time up to the one before."""
    found, before = [], 0.0
    for together, seconds in zip(steps, times, strict=True):
        wired, span = together[-1].wired, plan.spans.get(together[-1].wired.outputs[0])
        kinds = [p.wired.call.kind if p.wired.step is None else type(p.wired.step).__name__ for p in together]
        calls = dict.fromkeys(p.wired.call.name for p in together)
        found.append(
            {
                "call": " ... ".join(dict.fromkeys((next(iter(calls)), wired.call.name))),
                "step": ", ".join(dict.fromkeys(kinds)),
                "state": together[-1].state,
                "window": None if span is None else span.width,
                "shape": list(plan.program.shapes[wired.outputs[0]]),
                "up_to_s": seconds,
                "adds_s": seconds - before,
                "gflop": 2 * sum(products(plan, p) for p in together) * variants / 1e9,
            }
        )
        before = seconds
    return found


def _columns(table: Any, slots: Any) -> Any:
    """(G,) edit starts whose window starts are these."""
    import numpy as np

    where = {column.tobytes(): i for i, column in enumerate(np.ascontiguousarray(table.T))}
    return np.array([where[column.tobytes()] for column in np.ascontiguousarray(slots.T)])


def _cut(part: Any, plan: Any, shape: Any) -> Callable[..., Any]:
    """A chunk function that ends after the steps of ``part``, and gives all that later steps of ``plan`` read."""
    from fastism.functions import trace
    from fastism.runtime import Window

    live = {t for p in plan.steps[len(part.steps) :] for t in p.wired.inputs} | set(plan.program.outputs)
    live |= set(part.steps[-1].wired.outputs)

    def chunk(cache: Any, sequence: Any, slots: Any, delta: Any) -> list[Any]:
        answers = []
        for tensor, state in trace(part, cache, sequence, slots, delta, shape.groups, shape.members).items():
            if tensor in live:
                forms = (state._delta, state._value) if isinstance(state, Window) else (state,)
                answers += [form for form in forms if form is not None]
        return answers

    return chunk


def products(plan: Any, planned: Any) -> float:
    """Multiply-accumulates of a step, for one mutant."""
    from fastism.explain import explain

    return explain(replace(plan, steps=(planned,))).plan


def _square() -> Any:
    from keras import ops

    return ops.convert_to_tensor(one_hot(1, SQUARE * SQUARE // 4, 0).reshape(SQUARE, SQUARE))


def grouped(
    total: float, reference: float, chunks: int, chunk: float, steps: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Seconds of a `saturate` by what takes them; all add up to ``total``.

    The steps' times are scaled to the chunk's own, of which the last cut may differ by a little.
    """
    multiply = sum(s["adds_s"] for s in steps if s["gflop"])
    every = steps[-1]["up_to_s"] if steps else 0.0
    share = multiply / every if every else 0.0
    operations = chunks * sum(s["gflop"] for s in steps)
    seconds = {"products": chunks * chunk * share, "passes": chunks * chunk * (1 - share), "reference": reference}
    return {
        **seconds,
        "host": total - chunks * chunk - reference,
        "products_gflops": operations / seconds["products"] if seconds["products"] > 0 else None,
    }


# ---------------------------------------------------------------------- in the parent


@click.command()
@click.argument("models", nargs=-1, type=click.Choice(list(CASES)), metavar="MODEL...")
@shared.backends
@shared.device
@click.option("--length", type=click.IntRange(1), help="Of the sequence, in bp; each model's own.")
@click.option("--repeats", default=9, type=click.IntRange(1), help="Of each timed run; 9.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for a process; 3600.")
@shared.files(NAME)
def main(models: Sequence[str], **options: Any) -> None:
    """Say where the time of FastISM goes on these models."""
    output = shared.place(options, NAME)
    if shared.shown(options, output, profile_table.tables, {(PERFORMANCE, NAME): profile_table.summary}):
        return
    if not models:
        raise click.UsageError(f"Name one or more models of {', '.join(CASES)}.")
    report = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {"results": []}
    kept = {(r["model"], r["backend"]): r for r in report["results"]}
    asked = {"length": options["length"], "repeats": options["repeats"], "seed": 0, "device": options["device"]}
    asked["tf32"] = devices.precisions(options["device"])[0]
    click.echo(f"On the {options['device']}.", err=True)
    here, failed, new = machine(), 0, []
    for model in models:
        for backend in shared.chosen_backends(options["backends"]):
            click.echo(f"{model}, {backend} ...", err=True, nl=False)
            begun = time.perf_counter()
            found = fresh("benchmarks.profile:measure", backend, {**asked, "model": model}, options["timeout"])
            new.append({"model": model, "backend": backend, "machine": here, "request": asked, **found})
            kept[model, backend] = new[-1]
            failed += found["error"] is not None
            click.echo(f" {found['error'] or 'done'} ({time.perf_counter() - begun:.0f} s)", err=True)
            order = list(CASES)
            write_json(output, {"results": sorted(kept.values(), key=lambda r: order.index(r["model"]))})
    click.echo(profile_table.tables({"results": new}))
    if failed:
        raise click.ClickException(f"{failed} of {len(new)} measurements failed; see the tables.")


if __name__ == "__main__":
    main()
