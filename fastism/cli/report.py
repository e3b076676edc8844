"""`fastism report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastism.cli import outputs, shared


@click.command(cls=shared.Command)
@click.argument("result", type=click.Path(exists=True))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="HTML file; the result's name with .html.")
@click.option("--title", help="Of the page.")
@click.option("--max-sequences", type=click.IntRange(1), help="The strongest so many, where a page would be too large.")
@click.option(
    "--max-targets",
    type=click.IntRange(1),
    help="The strongest so many; 50 where a page of all exceeds 20 MB, else all.",
)
@outputs.overwrite
def report(result: str, output: str | None, overwrite: bool, **given: Any) -> None:
    """Write a result as one HTML page to browse: it needs no network and no server.

    \b
    fastism report peaks.zarr
    """
    from fastism.report import write_report
    from fastism.store import open_scores

    target = Path(output) if output else Path(result.rstrip("/")).with_suffix(".html")
    outputs.check_free([target], overwrite)
    done = write_report(target, open_scores(result), **{k: v for k, v in given.items() if v is not None})
    click.echo(f"wrote {target} ({shared.size(target.stat().st_size)})")
    for what, shown, total in (("sequences", done.shown, done.total), ("targets", done.targets, done.asked)):
        if shown < total:
            click.echo(f"  the {shown:,} strongest of {total:,} {what}; --max-{what} for more or fewer")
