"""The rows that were scored, as BED: whoever reads the scores by row needs them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastism.regions import Region
from fastism.result import ISMScores
from fastism.writers.files import atomic


def write_regions_bed(
    path: str | os.PathLike[str], scores: ISMScores | Iterable[Region], *, narrowpeak: bool = False
) -> Path:
    """Write the regions of the scores, one row for each sequence in their order.

    Args:
        path: Name of the file; one that ends in ``.gz`` is compressed.
        scores: Scores with regions; or regions, such as :func:`fastism.bed.select` yields, which are taken one by one.
        narrowpeak: Write ten columns of the windows themselves instead of the columns as they were read: the peak is
            the window's centre, so that ``start + peak`` and the length of the model's input give the window.

    Returns:
        The path. Rows have the columns of the file that they were read from (``Region.fields``); without those, six
        columns of the window: chrom, start, end, name (``.`` for none), 0 and the strand. A window that hangs over
        the chromosome's start begins at 0 there, because BED has no negative numbers.

    Raises:
        ValueError: If the scores have no regions.
    """
    regions = scores.regions if isinstance(scores, ISMScores) else scores
    if regions is None:
        raise ValueError("The scores have no regions, so there is no BED file to write; score regions of a genome.")
    with atomic(path) as part:
        _write(part, regions, narrowpeak)
    return Path(path)


def stage_regions(stack: ExitStack, path: str | os.PathLike[str], scores: ISMScores) -> None:
    """Write the rows that belong to a file of scores, to appear together with it when ``stack`` closes.

    Where the scores have no regions, nothing is written.
    """
    if scores.regions is not None:
        _write(stack.enter_context(atomic(path)), scores.regions, narrowpeak=False)


def regions_path(path: str | os.PathLike[str]) -> Path:
    """Where the regions of a file of scores are written: ``scores.h5`` has ``scores_regions.bed`` beside it.

    Example:
        >>> regions_path("out/ctcf.h5").as_posix()
        'out/ctcf_regions.bed'
    """
    file = Path(path)
    return file.with_name(f"{file.stem if file.suffix in ('.h5', '.hdf5', '.npz') else file.name}_regions.bed")


def _write(path: Path, regions: Iterable[Region], narrowpeak: bool) -> None:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="\n") as file:
        for region in regions:
            file.write("\t".join(_columns(region, narrowpeak)) + "\n")


def _columns(region: Region, narrowpeak: bool) -> list[str]:
    if region.fields and not narrowpeak:
        return list(region.fields)
    start = max(region.start, 0)
    six = [region.chrom, str(start), str(max(region.end, start)), region.name or ".", "0", region.strand]
    centre = region.start + len(region) // 2
    return [*six, "0", "-1", "-1", str(centre - start)] if narrowpeak else six
