"""Where the time of `FastISM` goes: by the operations of a chunk, and beside the chunks.

The frameworks' own profilers watch the function that runs a chunk, once for each stretch of the sequence that has a
plan of its own. What share of its time an operation takes there, it takes of the time of all chunks of the stretch.

Run from the repository root::

    python -m benchmarks.profile basset bpnet           # measure, write benchmarks/results/profile.json
    python -m benchmarks.profile basset --backends jax  # results of other models and backends stay in the file
    python -m benchmarks.profile --table                # print the tables of an existing file
    python -m benchmarks.profile --update-docs          # put the summary into the documentation
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from benchmarks import devices, profile_table, traces
from benchmarks import options as shared
from benchmarks.cases import CASES
from benchmarks.harness import one_hot, settle, substitutions, timed
from benchmarks.machine import load, machine, now, versions
from benchmarks.processes import fresh
from benchmarks.report import PERFORMANCE, write_json

NAME = "profile"
#: Rows and columns of the matrices whose product is the machine's own rate.
SQUARE = 1024
#: Operations that a record lists by name.
LISTED = 40


# ---------------------------------------------------------------------- in the child: one model, one backend


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a function that was compiled.

    Attributes:
        key: What the function was made for; of a chunk, its shape comes first.
        run, args: The function, and what it was given.
        seconds: Until its results were there.
    """

    key: tuple[Any, ...]
    run: Callable[..., Any]
    args: tuple[Any, ...]
    seconds: float

    @property
    def variants(self) -> int:
        """Mutants in a chunk."""
        return self.key[0].groups * self.key[0].members

    def again(self) -> Any:
        """Run it once more."""
        return devices.wait(self.run(*self.args))


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Say where the time of one model goes.

    Args:
        request: ``model``, ``length`` (None for the model's own), ``repeats``, ``seed``, ``device`` and ``tf32``.

    Returns:
        A record for the JSON file. Times are in seconds: ``total_s`` of a `saturate`, of which are ``reference_s``,
        ``chunks`` times ``chunk_s``, and on the host the rest.
    """
    begun = now()
    import fastism
    from fastism import testing

    devices.demand(request["device"])
    devices.set_tf32(request["tf32"])
    case, repeats = CASES[request["model"]], request["repeats"]
    length = request["length"] or case.length
    start, end = case.positions(length)
    x = one_hot(1, length, request["seed"])
    ism = fastism.FastISM(testing.randomize(case.build(length)), test_correctness=False)
    ism.saturate(x, start, end)
    settle(ism, x, start, end, long=True)
    functions = ism._engine.functions
    total, references, chunks, rate = quickest(functions, lambda: ism.saturate(x, start, end), repeats)
    reference, chunk = (sum(call.seconds for call in found) for found in (references, chunks))
    # waiting for each call keeps the host from working meanwhile, as it may; so the calls may add up to more than all
    fits = min(1.0, total / (reference + chunk))
    seconds = {name: fits * value for name, value in operations(chunks, repeats).items()}
    return {
        "date": begun,
        "load": load(),
        "device": devices.name(),
        "versions": {"fastism": fastism.__version__, **versions()},
        "error": None,
        "length": length,
        "positions": end - start,
        "variants": len(substitutions(x, start, end)),
        "mode": ism._engine.mode,
        "chunks": len(chunks),
        "variants_in_chunk": max(call.variants for call in chunks),
        "total_s": total,
        "reference_s": fits * reference,
        "chunk_s": fits * chunk / len(chunks),
        "matrix_gflops": 2 * SQUARE**3 / 1e9 / rate,
        "groups": grouped(total, fits * reference, fits * chunk, seconds, gflop(functions.plans.of_shape, chunks)),
        "operations": listed({name: value / len(chunks) for name, value in seconds.items()}),
    }


def quickest(functions: Any, saturate: Callable[[], Any], repeats: int) -> tuple[float, list[Call], list[Call], float]:
    """Of some turns, each a `saturate` and one whose calls are watched, the one that takes least.

    Both are of one turn, so that what else the computer does at times hits both or none.

    Returns:
        Seconds of the `saturate`; the watched calls, of the reference pass and of chunks; least seconds of a product of
        matrices.
    """
    from keras import ops

    matrix = _square()
    least = rate = math.inf
    found: tuple[float, list[Call], list[Call]] = math.inf, [], []
    for turn in range(1 + repeats):
        whole = timed(saturate)[1]
        with calls(functions, "reference") as references, calls(functions, "chunk") as chunks:
            saturate()
        product = timed(lambda: devices.wait(ops.matmul(matrix, matrix)))[1]
        if turn == 0:  # what was not compiled yet is so now
            continue
        rate = min(rate, product)
        both = whole + sum(call.seconds for call in (*references, *chunks))
        if both < least:
            least, found = both, (whole, references, chunks)
    return *found, rate


@contextmanager
def calls(functions: Any, maker: str) -> Iterator[list[Call]]:
    """While it lasts, note every call of what a method of an engine's functions makes."""
    noted: list[Call] = []
    make = getattr(functions, maker)

    def watched(*key: Any) -> Callable[..., Any]:
        run = make(*key)

        def call(*args: Any) -> Any:
            result, seconds = timed(lambda: devices.wait(run(*args)))
            noted.append(Call(key, run, args, seconds))
            return result

        return call

    setattr(functions, maker, watched)
    try:
        yield noted
    finally:
        delattr(functions, maker)


def stretches(chunks: Sequence[Call]) -> list[list[Call]]:
    """The chunks of each stretch of the sequence that is planned apart."""
    found: dict[Any, list[Call]] = defaultdict(list)
    for call in chunks:
        found[call.key[0].stretch].append(call)
    return list(found.values())


def operations(chunks: Sequence[Call], repeats: int) -> dict[str, float]:
    """Seconds that each operation takes in all chunks, by the shares that it has in the middle one of each stretch."""
    found: dict[str, float] = defaultdict(float)
    for together in stretches(chunks):
        seconds = sum(call.seconds for call in together)
        for name, share in traces.shares(together[len(together) // 2].again, repeats).items():
            found[name] += share * seconds
    return found


def gflop(plan_of: Callable[[Any], Any], chunks: Sequence[Call]) -> float:
    """The work of all chunks in products, by the plan of each shape: two operations for each multiply-accumulate."""
    from fastism.explain import explain

    return sum(
        2 * explain(plan_of(together[0].key[0])).plan * sum(call.variants for call in together) / 1e9
        for together in stretches(chunks)
    )


def listed(seconds: Mapping[str, float], most: int = LISTED) -> list[dict[str, Any]]:
    """The operations that take most, the longest first, and what the others take together."""
    order = sorted(seconds, key=lambda name: -seconds[name])
    found = [{"name": name, "seconds": seconds[name], "kind": traces.kind(name)} for name in order[:most]]
    if order[most:]:
        rest = sum(seconds[name] for name in order[most:])
        found.append({"name": f"{len(order) - most} others", "seconds": rest, "kind": "various"})
    return found


def grouped(
    total: float, reference: float, chunk: float, operations: Mapping[str, float], work: float
) -> dict[str, float | None]:
    """Seconds of a `saturate` by what takes them; all add up to ``total``.

    Args:
        total, reference, chunk: Seconds in all, in the reference pass, and in all chunks.
        operations: Seconds of each operation in all chunks.
        work: In products, in billions of operations.
    """
    kernels = {"products": 0.0, "moves": 0.0, "passes": 0.0}
    for name, seconds in operations.items():
        if (kind := traces.kind(name)) in kernels:
            kernels[kind] += seconds
    return {
        **kernels,
        "calls": max(0.0, chunk - sum(kernels.values())),
        "host": max(0.0, total - chunk - reference),
        "reference": reference,
        "products_gflops": work / kernels["products"] if kernels["products"] > 0 else None,
    }


def _square() -> Any:
    from keras import ops

    return ops.convert_to_tensor(one_hot(1, SQUARE * SQUARE // 4, 0).reshape(SQUARE, SQUARE))


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
