"""One attribution for each base of the genome, as bigWig."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fastism.regions import Region
from fastism.result import ISMScores
from fastism.writers.files import as_json, atomic, library
from fastism.writers.values import about_attributions, check, fit, mutated_positions, placed, ready

Overlap = Literal["centre", "mean", "max", "first", "error"]
OVERLAPS: tuple[str, ...] = get_args(Overlap)
BLOCK, BLOCKS = 64, 32  # sequences read at a time, and how many such blocks are kept for regions out of order

Interval = tuple[str, int, int, float]


def write_bigwig(
    path: str | os.PathLike[str],
    scores: ISMScores,
    chrom_sizes: Mapping[str, int] | str | os.PathLike[str],
    *,
    target: int | str = 0,
    rule: str = "mean4",
    overlap: str = "centre",
) -> Path:
    """Write the projected attributions for one target along the genome.

    Regions on the minus strand are turned back to the genome's direction. Positions beyond the chromosome's ends,
    without a letter or not mutated have no value. Memory holds some regions at a time, never a chromosome.

    Args:
        path: Name of the file. Beside it ``{path}.json`` says what was done, because a bigWig has no room for it.
        scores: Scores with regions, in any order.
        chrom_sizes: Chromosomes and their lengths; or a file of two columns with them, such as ``.chrom.sizes`` or
            ``.fai``.
        target: Index or name.
        rule: ``"mean4"`` or ``"mean3"``, see :func:`fastism.scores.attribution`.
        overlap: What a base that several regions cover gets. ``"centre"``: the value of the region whose centre is
            nearest, of the leftmost such region at equal distance; ``"mean"``: the mean; ``"max"``: the value furthest
            from 0, with its sign; ``"first"``: that of the region that comes first in ``scores``; ``"error"``: none,
            the file is refused.

    Returns:
        The path.

    Raises:
        ValueError: If the scores have no regions or no value lies on a chromosome, a chromosome has no length, or
            regions overlap where that is to be an error.
        OSError: If the file that was written does not hold what it should.

    Example:
        From the index of the genome::

            write_bigwig("ctcf.bw", open_scores("ctcf.zarr"), "genome.fa.fai", target="CTCF")
    """
    check(scores, rule=rule)
    index = scores.target(target)
    overlap = {"center": "centre"}.get(overlap, overlap)
    if overlap not in OVERLAPS:
        raise ValueError(f"overlap is {overlap!r}; {', '.join(map(repr, OVERLAPS))} are accepted.")
    if scores.regions is None:
        raise ValueError("The scores have no regions, which a bigWig needs; score regions of a genome, or write HDF5.")
    sizes = chrom_sizes if isinstance(chrom_sizes, Mapping) else read_chrom_sizes(chrom_sizes)
    sweep = _Sweep(scores, index, rule, overlap, sizes)
    values = "projected attributions, on the plus strand's positions"
    about = about_attributions(scores, index, rule, overlap=overlap, values=values)
    with ExitStack() as stack:
        note = stack.enter_context(atomic(f"{os.fspath(path)}.json"))
        note.write_text(as_json(about) + "\n", encoding="utf-8")
        part = stack.enter_context(atomic(path))
        _write(part, {chrom: sizes[chrom] for chrom in sweep.chroms}, sweep)
    return Path(path)


def read_chrom_sizes(path: str | os.PathLike[str]) -> dict[str, int]:
    """Lengths of chromosomes from the first two columns of a file.

    Raises:
        ValueError: If a row has no number in its second column.
    """
    sizes: dict[str, int] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            columns = line.split()
            if not columns or line.startswith("#"):
                continue
            if len(columns) < 2 or not columns[1].isdigit():
                raise ValueError(f"{path}, line {number}: {line.strip()!r}; a chromosome and its length are accepted.")
            sizes[columns[0]] = int(columns[1])
    return sizes


class _Sweep:
    """The values along the genome, chromosome by chromosome, from left to right."""

    def __init__(self, scores: ISMScores, target: int, rule: str, overlap: str, sizes: Mapping[str, int]) -> None:
        self.scores, self.overlap, self.sizes = scores, overlap, sizes
        regions: Iterable[Region] = scores.regions or ()
        names = {region.chrom for region in regions}
        _known(names, sizes)
        self.chroms = sorted(names)  # browsers look chromosomes up in the order of their names' bytes
        number = {name: i for i, name in enumerate(self.chroms)}
        keys = [(number[region.chrom], _left(region, scores), region.start) for region in regions]
        self.chrom_of, self.left, starts = np.array(keys, np.int64).reshape(-1, 3).T
        self.order = np.lexsort((self.left, self.chrom_of))
        self.rank = np.argsort(np.argsort(starts, kind="stable"))  # from left to right: who wins at equal cost
        self.block = lru_cache(BLOCKS)(lambda first: self._read(first, target, rule))
        self.covered = 0

    def __iter__(self) -> Iterator[Interval]:
        open_: _Window | None = None
        for row in map(int, self.order):
            chrom, left = self.chroms[self.chrom_of[row]], max(int(self.left[row]), 0)
            positions, values, half = self._row(row)
            if open_ is not None and open_.chrom != chrom:
                yield from self._close(open_, None)
                open_ = None
            if not len(positions):
                continue
            if open_ is None:
                open_ = _Window(chrom, left)
            yield from self._close(open_, left)
            cost = {"centre": np.abs(2 * positions + 1 - half), "max": -np.abs(values)}.get(self.overlap, row)
            open_.add(positions, values, np.broadcast_to(cost, positions.shape), int(self.rank[row]), self.overlap)
        if open_ is not None:
            yield from self._close(open_, None)

    def _row(self, row: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Positions in ascending order and values of one sequence, and start + end of its region."""
        regions, values, mask = self.block(row - row % BLOCK)
        region, at = regions[row % BLOCK], row % BLOCK
        positions = mutated_positions(region, self.scores)
        keep = mask[at] & (positions >= 0) & (positions < self.sizes[region.chrom])
        order = slice(None, None, -1) if region.strand == "-" else slice(None)
        return positions[keep][order], values[at, keep].astype(np.float64)[order], region.start + region.end

    def _read(self, first: int, target: int, rule: str) -> tuple[list[Region], np.ndarray, np.ndarray]:
        """Regions, values (n, P) and mask (n, P) of some sequences."""
        batch = self.scores[first : first + BLOCK]
        found = ready(batch, target, rule, order=False)
        stretch = slice(batch.start, batch.start + batch.positions)
        return list(batch.regions or ()), found.projected.sum(-1)[:, stretch], found.mask[:, stretch]

    def _close(self, window: _Window, end: int | None) -> Iterator[Interval]:
        """Values of the positions before ``end``, which no later region reaches."""
        for interval in window.flush(end):
            self.covered += interval[2] - interval[1]
            yield interval


def _left(region: Region, scores: ISMScores) -> int:
    """The leftmost mutated position: regions in the order of their starts need not be in that of these."""
    placed(region, scores.length)
    return region.end - scores.start - scores.positions if region.strand == "-" else region.start + scores.start


class _Window:
    """Values of the positions that the regions now at hand cover."""

    def __init__(self, chrom: str, start: int) -> None:
        self.chrom, self.start = chrom, start
        self.value, self.count, self.cost, self.rank = (np.zeros(0) for _ in range(4))
        self.mean = False

    def add(self, positions: np.ndarray, values: np.ndarray, cost: np.ndarray, rank: int, overlap: str) -> None:
        """Settle who gives the value of each position; none of them lies before the window."""
        more = max(0, int(positions[-1]) + 1 - self.start - len(self.value))
        self.value, self.count, self.rank = (np.pad(a, (0, more)) for a in (self.value, self.count, self.rank))
        self.cost = np.pad(self.cost, (0, more), constant_values=np.inf)
        at = positions - self.start
        if overlap == "error" and self.count[at].any():
            where = int(positions[self.count[at] > 0][0])
            raise ValueError(
                f"Regions overlap at {self.chrom}:{where}-{where + 1}, which overlap='error' refuses; choose one of "
                f"{', '.join(map(repr, OVERLAPS[:-1]))}."
            )
        if overlap == "mean":
            self.value[at] += values
        else:
            better = (cost < self.cost[at]) | ((cost == self.cost[at]) & (rank < self.rank[at]))
            self.value[at[better]], self.cost[at[better]], self.rank[at[better]] = values[better], cost[better], rank
        self.count[at] += 1
        self.mean = overlap == "mean"

    def flush(self, end: int | None) -> Iterator[Interval]:
        """Intervals of equal value before ``end``, which leave the window; all of them for None."""
        size = len(self.value) if end is None else min(max(end - self.start, 0), len(self.value))
        value, count = self.value[:size], self.count[:size]
        if size and self.mean:
            value = value / np.maximum(count, 1)
        value = fit(value, "float32", "attributions")
        there = count > 0
        changed = np.ones(size, bool)
        changed[1:] = (value[1:] != value[:-1]) | (there[1:] != there[:-1])
        first = np.flatnonzero(changed)
        last = np.append(first[1:], size)
        for a, b in zip(first[there[first]], last[there[first]], strict=True):
            yield self.chrom, self.start + int(a), self.start + int(b), float(value[a])
        self.value, self.count, self.cost, self.rank = (
            a[size:] for a in (self.value, self.count, self.cost, self.rank)
        )
        self.start = self.start + size if end is None else max(end, self.start)


def _write(path: Path, sizes: dict[str, int], sweep: _Sweep) -> None:
    """Write and look: the library prints what goes wrong, also in our iterator, and returns as if all were well."""
    pybigtools = library("pybigtools", "write_bigwig")
    failed: list[BaseException] = []

    def watched() -> Iterator[Interval]:
        try:
            yield from sweep
        except GeneratorExit:  # the library has given up: what it wrote is looked at below
            raise
        except BaseException as error:  # even an interrupt must not pass for the end of the values
            failed.append(error)
            return

    values = watched()
    first = next(values, None)
    if failed:
        raise failed[0]
    if first is None:
        raise ValueError(
            "There is no value to write, and a bigWig cannot be empty: no region has a mutated letter on its "
            "chromosome."
        )
    pybigtools.open(str(path), "w").write(sizes, _chain(first, values))
    if failed:
        raise failed[0]
    try:
        covered = pybigtools.open(str(path)).info()["summary"]["basesCovered"]
    except Exception as error:
        raise OSError(f"pybigtools wrote no readable bigWig ({error}); its message stands above.") from error
    if covered != sweep.covered:
        raise OSError(f"The bigWig holds {covered} bases of {sweep.covered}; pybigtools's message stands above.")


def _chain(first: Interval, rest: Iterator[Interval]) -> Iterator[Interval]:
    yield first
    yield from rest


def _known(names: set[str], sizes: Mapping[str, int]) -> None:
    missing = sorted(names - set(sizes))
    if missing:
        listed: Any = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        has = ", ".join(list(sizes)[:5]) or "none"
        raise ValueError(
            f"chrom_sizes has no length for {listed}; it has {has}, ... Give the sizes of the genome that was scored: "
            "chromosomes must be spelt alike ('chr1' is not '1')."
        )
