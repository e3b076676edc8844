"""`fastism bench`."""

from __future__ import annotations

import statistics
import time
from typing import Any

import click

from fastism.cli import shared


@click.command(cls=shared.Command)
@shared.model
@click.option("--sequence-length", type=click.IntRange(1), help="For a model that takes any length.")
@click.option("-l", "--mutated-length", type=click.IntRange(1), help="Central positions to mutate; all.")
@click.option(
    "--sample", default=512, type=click.IntRange(1), help="Mutants predicted naively; their time is scaled.  [512]"
)
@click.option("--repeats", default=3, type=click.IntRange(1), help="Of both, in turns; the median counts.  [3]")
@shared.running
def bench(**given: Any) -> None:
    """Time a model on this machine: every mutant predicted, and the fast way.

    \b
    fastism bench -m model.keras
    """
    import numpy as np
    from keras import tree

    from fastism.chosen import graph_of
    from fastism.ism import FastISM
    from fastism.keras2 import as_keras3
    from fastism.naive import NaiveISM
    from fastism.scorer import central, input_length

    network = shared.load(given["models"][:1], given["custom"], given["unsafe_lambda"])[0]
    converted = as_keras3(network)
    length = input_length(graph_of(converted), given["sequence_length"])
    first, last = central(converted, given["mutated_length"], None, None, length)
    begun = time.perf_counter()
    fast = FastISM(network, **shared.engine_options(given["batch_size"], given["memory"]))
    x, alphabet = shared.example(fast, length)
    naive = NaiveISM(network)
    few = min(last, first + max(1, given["sample"] // max(1, alphabet - 1)))
    found, truth = fast.saturate(x, first, last), naive.saturate(x, first, few)
    start_up = time.perf_counter() - begun
    ours, theirs = [], []
    for _ in range(given["repeats"]):
        for run, end, times in ((fast, last, ours), (naive, few, theirs)):
            begun = time.perf_counter()
            run.saturate(x, first, end)
            times.append(time.perf_counter() - begun)
    scaled = statistics.median(theirs) * (last - first) / (few - first)
    seconds = statistics.median(ours)
    pairs = zip(*(tree.flatten(v) for v in (found.mutant, truth.mutant, truth.reference)), strict=True)
    error = max(
        float(np.abs(f[:, : few - first] - t).max() / max(np.abs(t - r[:, None, None]).max(), 1e-30))
        for f, t, r in pairs
    )
    click.echo(
        f"{network.name}: all substitutions at {last - first} of {length} positions of one sequence\n"
        f"  naive     {shared.duration(scaled)} (from {few - first} positions)\n"
        f"  fast      {shared.duration(seconds)}, the first time {shared.duration(start_up)} with start-up\n"
        f"  speed-up  {scaled / seconds:.1f}x, largest difference {error:.0e} of the largest effect"
    )
