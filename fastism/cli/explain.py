"""`fastism explain`."""

from __future__ import annotations

import time
from typing import Any

import click

from fastism.cli import shared

#: Runs until all is compiled, seconds of one that is long enough, and those that a run of all positions may take.
SETTLE, ENOUGH, PATIENCE = 4, 5.0, 20.0


@click.command(cls=shared.Command)
@shared.model
@click.option("--position", type=int, help="Where one base is changed; the worst case of all positions.")
@click.option("--sequence-length", type=click.IntRange(1), help="For a model that takes any length.")
@click.option("--head", help="Which output of a model with several, by index or name; all.")
@click.option("-n", "--sequences", default=1, type=click.IntRange(1), help="How many are to be mapped.  [1]")
@click.option("-l", "--mutated-length", type=click.IntRange(1), help="Central positions to mutate; all.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False), help="Draw the plan: .png, .svg or .pdf.")
@shared.running
def explain(**given: Any) -> None:
    """Say what a map would cost before anything starts.

    \b
    fastism explain -m model.keras
    fastism explain -m model.keras -n 30000 -l 500 --plot plan.png

    Lists every layer with what of it is computed anew, then memory, size of the result, and the time it takes here,
    from timing a few mutants.
    """
    import numpy as np

    from fastism.chosen import graph_of
    from fastism.ism import FastISM
    from fastism.keras2 import as_keras3
    from fastism.scorer import central, input_length

    (network, *_), (path, *_) = shared.load(given["models"], given["custom"], given["unsafe_lambda"]), given["models"]
    network = as_keras3(network)
    length = input_length(graph_of(network), given["sequence_length"])
    ism = FastISM(
        network, outputs=shared.head(given["head"]), **shared.engine_options(given["batch_size"], given["memory"])
    )
    plan = ism.explain(given["position"], length=length)
    click.echo(str(plan))
    first, last = central(network, given["mutated_length"], None, None, length)
    x, alphabet = shared.example(ism, length)
    result, each = _timed(ism, x, first, last)
    from keras import tree

    numbers = sum(int(np.prod(r.shape[1:])) for r in tree.flatten(result.reference))
    n, positions = given["sequences"] * len(given["models"]), last - first
    click.echo(
        f"\n{path}: {n} x {positions} positions x {alphabet} letters x {numbers} numbers"
        f"\n  result  {shared.size(4.0 * given['sequences'] * positions * alphabet * numbers)} in float32"
        f"\n  time    about {shared.duration(each * positions * n)} on this machine ({each * 1000:.3g} ms a position), "
        "and some seconds to compile"
    )
    if given["picture"]:
        ism.plot(given["picture"], given["position"], length=length)
        click.echo(f"  plan    drawn in {given['picture']}")


def _timed(ism: Any, x: Any, first: int, last: int) -> tuple[Any, float]:
    """What some mutants give, and the seconds for a position once all is compiled."""
    end, seconds = min(last, first + max(8, (last - first) // 20)), 0.0
    result = ism.saturate(x, first, end)
    for _ in range(SETTLE):
        begun = time.perf_counter()
        ism.saturate(x, first, end)
        seconds = time.perf_counter() - begun
        if seconds > ENOUGH:
            break
        if seconds * (last - first) < PATIENCE * (end - first):
            end = last
    return result, seconds / (end - first)
