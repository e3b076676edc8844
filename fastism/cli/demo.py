"""`fastism demo`."""

from __future__ import annotations

import click

from fastism.cli.shared import Command


@click.command(cls=Command, context_settings={"show_default": True})
@click.option("-o", "--output", default="fastism-demo", type=click.Path(file_okay=False), help="Folder to write to.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), help="Seed of the sequences and of the weights.")
@click.option("--sequences", default=3, type=click.IntRange(1), help="Held-out sequences to map.")
@click.option("--length", default=1000, type=click.IntRange(100), help="Length of a sequence, in bp.")
@click.option("--epochs", default=5, type=click.IntRange(1), help="Passes over the training sequences.")
@click.option("--filters", default=128, type=click.IntRange(1), help="Channels of each convolution.")
@click.option("--training-sequences", default=1600, type=click.IntRange(10), help="Sequences to train on.")
@click.option("--progress/--no-progress", default=True, help="Show progress bars.")
def demo(
    output: str,
    seed: int,
    sequences: int,
    length: int,
    epochs: int,
    filters: int,
    training_sequences: int,
    progress: bool,
) -> None:
    """Train a small CNN on planted motifs, map it naively and fast, compare, and draw the map."""
    from fastism.demo import run_demo

    run_demo(
        output,
        seed=seed,
        sequences=sequences,
        length=length,
        epochs=epochs,
        filters=filters,
        training_sequences=training_sequences,
        progress=progress,
        echo=click.echo,
    )
