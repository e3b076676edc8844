"""`fastism plot`."""

from __future__ import annotations

from typing import Any

import click

from fastism.cli import shared


@click.command(cls=shared.Command)
@click.argument("result", type=click.Path(exists=True))
@click.option("-i", "--sequence", default="0", help="Which: a number from 0, a name, or chrom:start-end.  [0]")
@click.option("-t", "--target", default="0", help="Index or name of the target.  [0]")
@click.option("--start", type=int, help="First position to show, within the sequence.")
@click.option("--end", type=int, help="Position behind the last.")
@click.option("--palette", type=click.Choice(["default", "colourblind"]), default="default", help="Colours of letters.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help=".png, .svg or .pdf.")
def plot(**given: Any) -> None:
    """Draw the map of one sequence: logo above heatmap.

    \b
    fastism plot peaks.zarr -i 3 --start 450 --end 560 -o peak3.png
    """
    from fastism.plot import plot_scores
    from fastism.store import open_scores

    scores = open_scores(given["result"])
    target = int(given["target"]) if given["target"].isdecimal() else given["target"]
    which = int(given["sequence"]) if given["sequence"].isdecimal() else given["sequence"]
    axes = plot_scores(scores, which, target=target, start=given["start"], end=given["end"], palette=given["palette"])
    figure: Any = axes[0].figure
    figure.savefig(given["output"], dpi=200, bbox_inches="tight")
    click.echo(f"wrote {given['output']}")
