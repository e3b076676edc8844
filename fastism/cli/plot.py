"""`fastism plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastism.cli import outputs, shared


@click.command(cls=shared.Command)
@click.argument("result", type=click.Path(exists=True))
@click.option(
    "-i", "--sequence", help="Which: a name, a number from 0, or chrom:start-end within a region, 0-based; the first."
)
@click.option("-t", "--target", help="Name or index of the target; the first.")
@click.option("--start", type=int, help="First position to show, within the sequence, from 0.")
@click.option("--end", type=int, help="Position behind the last.")
@click.option("--whole", is_flag=True, help="All that was mutated, not the strongest 100 positions.")
@click.option("--palette", type=click.Choice(["default", "colourblind"]), default="default", help="Colours of letters.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help=".png, .svg or .pdf.")
@outputs.overwrite
def plot(**given: Any) -> None:
    """Draw the map of one sequence: logo above heatmap.

    Of a long one, the 100 positions around the largest attribution, unless you say which.

    \b
    fastism plot peaks.zarr -i 3 -o peak3.png
    fastism plot peaks.zarr -i chr1:17500-17600 -o place.png
    fastism plot peaks.zarr -i 3 --start 450 --end 560 -o stretch.png
    """
    from fastism.plot import plot_scores
    from fastism.store import open_scores
    from fastism.writers.files import atomic

    if given["whole"] and not given["start"] is given["end"] is None:
        raise click.UsageError("--whole shows all; --start and --end choose a stretch: give either.")
    outputs.check_free([Path(given["output"])], given["overwrite"])
    scores = open_scores(given["result"])
    target = 0 if given["target"] is None else given["target"]
    row, start, end, shown = _chosen(scores, target, given)
    axes = plot_scores(scores, row, target=target, start=start, end=end, palette=given["palette"])
    figure: Any = axes[0].figure
    with atomic(given["output"]) as part:
        figure.savefig(part, dpi=200, bbox_inches="tight")
    click.echo(f"wrote {given['output']}: {shown}")


def _chosen(scores: Any, target: int | str, given: dict[str, Any]) -> tuple[int, int, int, str]:
    """The row, start and end to draw, and what they are in words."""
    from fastism.plot.result import WIDTH, chosen_stretch, locate, place_of, strongest_stretch

    name, which = "-i/--sequence", 0 if given["sequence"] is None else given["sequence"]
    row, start, end = chosen_stretch(scores, which, given["start"], given["end"], name=name)
    if given["whole"]:
        start, end = scores.start, scores.start + scores.positions
    free = given["start"] is given["end"] is None and not given["whole"] and not locate(scores, which)[1]
    strongest = free and end - start > 1.5 * WIDTH  # a little more than that is drawn with letters, too
    if strongest:
        start, end = strongest_stretch(scores, row, target)
    region = scores.regions[row] if scores.regions is not None else None
    title = (scores.names[row] if scores.names else "") or (region.name if region else "") or f"sequence {row}"
    place = f" ({place_of(region, start, end)})" if region else ""
    part = f"the strongest {end - start} of {scores.positions:,} positions" if strongest else "positions"
    said = f"{title}, {part} {start} to {end}{place}"
    return row, start, end, f"{said}; --whole shows all" if strongest else said
