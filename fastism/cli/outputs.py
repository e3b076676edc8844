"""Files that commands write: what is there is not replaced unasked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

overwrite = click.option("--overwrite", is_flag=True, help="Replace files that are there.")


def check_free(paths: Iterable[Path], allowed: bool) -> None:
    """Stop where files would be replaced and that was not allowed.

    Raises:
        click.ClickException: If so; the message names the files.
    """
    there = [str(path) for path in paths if path.exists()]
    if there and not allowed:
        raise click.ClickException(
            f"{', '.join(there)} would be replaced; allow it (--overwrite), or choose another name (--output)."
        )
