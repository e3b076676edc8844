"""`fastism plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastism.cli import outputs, shared


@click.command(cls=shared.Command)
@click.argument("result", type=click.Path(exists=True))
@click.option("-i", "--sequence", help="Which: a name, chrom:start-end, or a number from 0; the first.")
@click.option("-t", "--target", help="Name or index of the target; the first.")
@click.option("--start", type=int, help="First position to show, within the sequence.")
@click.option("--end", type=int, help="Position behind the last.")
@click.option("--palette", type=click.Choice(["default", "colourblind"]), default="default", help="Colours of letters.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help=".png, .svg or .pdf.")
@outputs.overwrite
def plot(**given: Any) -> None:
    """Draw the map of one sequence: logo above heatmap.

    \b
    fastism plot peaks.zarr -i 3 --start 450 --end 560 -o peak3.png
    """
    from fastism.plot import plot_scores
    from fastism.store import open_scores
    from fastism.writers.files import atomic

    outputs.check_free([Path(given["output"])], given["overwrite"])
    scores = open_scores(given["result"])
    which, target = (0 if given[key] is None else given[key] for key in ("sequence", "target"))
    axes = plot_scores(scores, which, target=target, start=given["start"], end=given["end"], palette=given["palette"])
    figure: Any = axes[0].figure
    with atomic(given["output"]) as part:
        figure.savefig(part, dpi=200, bbox_inches="tight")
    click.echo(f"wrote {given['output']}")
