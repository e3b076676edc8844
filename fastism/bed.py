"""Regions from BED and narrowPeak files, fitted to a model's length and sorted out, row by row."""

from __future__ import annotations

import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from fastism.genome import Genome, UnknownChromosome, compression
from fastism.regions import Region, Report

Centre = Literal["auto", "middle", "summit"]
Edge = Literal["pad", "drop"]

_NUMBER = re.compile(r"-?\d+", re.ASCII)
_HEADERS = {"start", "chromstart", "chrom_start", "end", "stop", "chromend", "chrom_end"}


def read_regions(
    path: str | os.PathLike[str],
    length: int | None = None,
    *,
    centre: Centre = "auto",
    report: Report | None = None,
    strict: bool = False,
) -> Iterator[Region]:
    """The regions of a BED file (3 to 12 columns) or narrowPeak file (10 columns), one after the other.

    Columns are separated by tabs, or by spaces in a line without tabs. Lines that are empty or start with ``#``,
    ``track`` or ``browser``, and a first line of column names, are passed over. A start below 0 is accepted, since
    windows may hang over a chromosome's end. The text is UTF-8; what is not, such as a name in Latin-1, becomes U+FFFD.

    Args:
        path: The file, plain or compressed with gzip or bgzip; ``"-"`` is the standard input.
        length: Bring each region to this many bp, as :func:`fit` does; None leaves them as they are.
        centre: What the window is laid around; see :func:`fit`.
        report: Counts all rows. With it a malformed row is skipped and counted; without it, it is an error.
        strict: A malformed row is an error even with a report.

    Yields:
        Regions with the strand and name of their row, its number and its columns as they were read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row is malformed, naming file and line; if the file is truncated; or for other arguments.

    Example:
        ::

            report = Report("regions")
            with Genome("hg38.fa.gz") as genome:
                for region in select(read_regions("peaks.narrowPeak", 2114, report=report), genome, report=report):
                    x = genome.one_hot(region)
            print(report)
    """
    _check_fit(length, centre)
    found(path)
    return _regions(path, length, centre, report, strict or report is None)


def fit(region: Region, length: int, centre: Centre = "auto") -> Region:
    """The window of a length around a region's centre.

    With c the centre, the window starts at ``c - length // 2``: an even length has as many positions before c as from
    it on, an odd length has c in its middle. The middle of a region is ``(start + end) // 2``, as in basenji, and its
    summit ``start +`` the tenth column of a narrowPeak row, as in chrombpnet. The strand does not matter.

    Args:
        region: The region, which may be shorter or longer than the window.
        length: Length of the window in bp.
        centre: ``"middle"``, ``"summit"``, or ``"auto"``: the summit for a row of ten columns that states one (0 or
            more, and within the region), else the middle.

    Returns:
        The region with another start and end, and all else as it was: the columns that were read too.

    Raises:
        ValueError: If a summit is asked for and the region has none, or for other arguments.

    Example:
        >>> str(fit(Region("chr1", 100, 201), 10))
        'chr1:145-155'
        >>> peak = Region("chr1", 100, 200, fields=("chr1", "100", "200", "a", "0", ".", "9", "-1", "-1", "20"))
        >>> str(fit(peak, 11)), str(fit(peak, 11, "middle"))
        ('chr1:115-126', 'chr1:145-156')
    """
    _check_fit(length, centre)
    middle = (region.start + region.end) // 2
    if centre != "middle":
        summit = _summit(region)
        if summit is not None:
            middle = region.start + summit
        elif centre == "summit":
            received = repr(region.fields[9]) if len(region.fields) > 9 else f"{len(region.fields)} columns"
            raise ValueError(
                f"The region {region} has no summit ({received}); centre='summit' accepts narrowPeak rows, whose tenth "
                "column is the summit's distance from the start, within the peak. Use centre='middle' for others."
            )
    start = middle - length // 2
    return replace(region, start=start, end=start + length)


def select(
    regions: Iterable[Region],
    genome: Genome,
    *,
    edge: Edge = "pad",
    report: Report | None = None,
    strict: bool = False,
) -> Iterator[Region]:
    """The regions of which the genome has a sequence, in order.

    Args:
        regions: Regions at the length at which they will be read.
        genome: Where they will be read from.
        edge: What is done where a region hangs over an end of its chromosome: ``"pad"`` keeps it, to be padded with N,
            and flags it; ``"drop"`` skips it.
        report: Counts all rows; the one of the reader or another. With it a region on an unknown chromosome, or wholly
            outside its chromosome, is skipped and counted; without it, it is an error.
        strict: These are errors even with a report.

    Yields:
        The regions kept.

    Raises:
        UnknownChromosome: If the genome does not have the chromosome.
        ValueError: If a region lies wholly outside its chromosome, or ``edge`` is another.
    """
    check_edge(edge)
    return _selected(regions, genome, edge, report, strict or report is None)


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a text file, plain or compressed with gzip or bgzip, each with its number from 1.

    Raises:
        ValueError: If the file is truncated or damaged.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}). Fetch or compress it again.") from error


def found(path: str | os.PathLike[str]) -> None:
    """Check that a file is there before the first row is asked for.

    Raises:
        FileNotFoundError: If it is not.
        ValueError: If it is a bgzip file without its end.
    """
    if str(path) != "-":
        if not Path(path).exists():
            raise FileNotFoundError(f"There is no file {str(path)!r}; a file, or '-' for standard input, is accepted.")
        compression(path)


def check_edge(edge: str) -> None:
    """Raise ValueError if this is no way to treat ends of chromosomes."""
    if edge not in get_args(Edge):
        raise ValueError(f"edge is {edge!r}; 'pad' (with N) or 'drop' is accepted.")


def _regions(path: Any, length: int | None, centre: Centre, report: Report | None, strict: bool) -> Iterator[Region]:
    row, account = 0, Report() if report is None else report
    for number, line in lines(path):
        columns = line.split("\t") if "\t" in line else line.split()
        if _is_comment(line, columns) or (row == 0 and len(columns) > 2 and _lower(columns[1:3]) <= _HEADERS):
            continue
        account.rows += 1
        try:
            region = _region(columns, row, empty=length is not None)
            region = region if length is None else fit(region, length, centre)
        except ValueError as error:
            if strict:
                raise ValueError(f"{path}, line {number}: {error}") from None
            account.skip("malformed row", f"line {number}: {line[:60]}")
        else:
            yield region
        row += 1


def _as_read(region: Region) -> str:
    """What its row says, by which it is found in the file."""
    return " ".join(region.fields[:4]) or str(region)


def _selected(
    regions: Iterable[Region], genome: Genome, edge: Edge, report: Report | None, strict: bool
) -> Iterator[Region]:
    account = Report() if report is None else report
    for seen, region in enumerate(regions, 1):
        account.at_least(seen)
        try:
            left, right = genome.overhang(region)
        except UnknownChromosome:
            if strict:
                raise
            account.skip("unknown chromosome", _as_read(region))
            continue
        if left + right >= len(region):
            if strict:
                size = genome.length(region.chrom)
                raise ValueError(f"The region {region} lies outside its chromosome, which has {size} positions.")
            account.skip("outside the chromosome", _as_read(region))
        elif left + right and edge == "drop":
            account.skip("over the chromosome's end", _as_read(region))
        else:
            if left + right:
                account.flag("padded with N over the chromosome's end", _as_read(region))
            yield region


def _region(columns: list[str], row: int, *, empty: bool) -> Region:
    """The region of a row; the message of an error lacks the place."""
    if len(columns) < 3:
        raise ValueError(
            f"received {len(columns)} columns, {' '.join(columns)[:60]!r}; a BED row of at least chromosome, start and "
            "end, separated by tabs, is accepted."
        )
    if not columns[0] or not all(_NUMBER.fullmatch(column) for column in columns[1:3]):
        raise ValueError(
            f"received {columns[:3]!r}; a chromosome, a start and an end, the latter two whole numbers, are accepted."
        )
    start, end = int(columns[1]), int(columns[2])
    if end < start or (end == start and not empty):
        raise ValueError(
            f"received start {start} and end {end}; start < end is accepted, 0-based and half-open"
            + ("." if end < start else ", or a length for the window around an empty region.")
        )
    strand = columns[5] if len(columns) > 5 else "."
    if strand not in ("+", "-", "."):
        raise ValueError(f"received the strand {strand!r} in column 6; '+', '-' or '.' is accepted.")
    name = columns[3] if len(columns) > 3 else ""
    return Region(columns[0], start, end, strand, "" if name == "." else name, row, tuple(columns))


def _summit(region: Region) -> int | None:
    """The distance of a narrowPeak row's summit from its start, or None if the row states none.

    It belongs to the row's own start and end, which the region may have left.
    """
    fields = region.fields
    if len(fields) != 10 or not all(_NUMBER.fullmatch(fields[i]) for i in (1, 2, 9)):
        return None
    summit, start, end = int(fields[9]), int(fields[1]), int(fields[2])
    return summit + start - region.start if 0 <= summit < max(1, end - start) else None


def _is_comment(line: str, columns: list[str]) -> bool:
    # "track name=..." may have tabs further on
    return not line.strip() or line.startswith("#") or columns[0].split()[:1] in (["track"], ["browser"])


def _lower(columns: list[str]) -> set[str]:
    return {column.strip().lower() for column in columns}


def _check_fit(length: int | None, centre: str) -> None:
    if length is not None and (isinstance(length, bool) or length < 1):
        raise ValueError(f"length is {length!r}; a number of bp of at least 1 is accepted.")
    if centre not in get_args(Centre):
        raise ValueError(f"centre is {centre!r}; 'auto', 'middle' or 'summit' is accepted.")


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A text file by its contents, whatever its name; bytes that are no UTF-8 become the sign for unknown letters."""
    if str(path) == "-":
        raw = getattr(sys.stdin, "buffer", None)
        if raw is None:
            yield sys.stdin
            return
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace")
        try:
            yield text
        finally:
            text.detach()  # or the standard input would be closed with it
        return
    with open(path, "rb") as raw:
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        opened: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(opened, encoding="utf-8-sig", errors="replace") as text:
            yield text
