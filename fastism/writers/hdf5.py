"""HDF5 with the names that modisco-lite, bpnet, chrombpnet, BPReveal and basenji read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fastism.result import ISMScores
from fastism.writers.bed import regions_path, stage_regions
from fastism.writers.files import as_json, atomic, library
from fastism.writers.values import (
    Ready,
    about_attributions,
    acgt,
    base_order,
    check,
    fit,
    metadata,
    mutated_positions,
    placed,
    ready,
)

Layout = Literal["bpnet", "chrombpnet", "both", "bpreveal"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
CHUNK_BYTES = 1 << 20
RESERVED = ("seqs", "chr", "start", "end", "strand", "mask", "targets", "names")


def write_hdf5(
    path: str | os.PathLike[str],
    scores: ISMScores,
    *,
    target: int | str = 0,
    rule: str = "mean4",
    layout: str = "bpnet",
    orientation: str = "model",
    dtype: str = "float32",
    compression: str | None = "gzip",
    batch_size: int = 64,
) -> Path:
    """Write attributions for one target as HDF5 that modisco-lite and its neighbours read.

    ``modisco motifs -i scores.h5`` reads every layout. Give it an even window (``-w``) no longer than the sequences.

    Args:
        path: Name of the file. ``*_regions.bed`` with the rows is written beside it where the scores have regions.
        scores: Scores of N sequences, in memory or on disk.
        target: Index or name.
        rule: ``"mean4"`` or ``"mean3"``, see :func:`fastism.scores.attribution`.
        layout: ``"bpnet"``: at the root ``hyp_scores`` (N, L, 4), ``input_seqs`` (N, L, 4) int8,
            ``input_predictions`` (N,), ``coords_chrom`` text, ``coords_start``, ``coords_end``, ``coords_strand``.
            ``"bpreveal"``: the same with ``coords_chrom`` as an index into ``chrom_names``.
            ``"chrombpnet"``: ``raw/seq`` int8, ``shap/seq`` (hypothetical) and ``projected_shap/seq``, all (N, 4, L).
            ``"both"``: bpnet and chrombpnet. All have ``mask`` (N, L), True where a score is a measured one; the scores
            are 0, never NaN, elsewhere. ``descriptions`` are the sequences' names.
        orientation: ``"model"``: as the model read them, so that a row on the minus strand is a reverse complement.
            ``"genome"``: such rows turned to the plus strand, for readers that know no strand (FiNeMo, bigWig scripts).
        dtype: ``"float32"``, ``"float64"``, or ``"float16"``, which is refused where a value does not fit.
        compression: ``"gzip"`` or None: h5py alone reads both.
        batch_size: Sequences in memory at a time.

    Returns:
        The path. The letters of DNA are in the order ACGT, whatever the model's order. The root's attributes say what
        was done, one by one and all together as JSON in ``metadata``: the metric's ``formula``, the rule's
        ``attribution_formula``, the ``sign`` of a difference d, and so on.

    Raises:
        ValueError: If an argument is unknown, or a value does not fit ``dtype``.

    Example:
        Two rules, two files::

            write_hdf5("ctcf.h5", scores, target="CTCF")
            write_hdf5("ctcf_mean3.h5", scores, target="CTCF", rule="mean3", layout="both")
    """
    check(scores, rule=rule, orientation=orientation, dtype=dtype, batch_size=batch_size)
    index = scores.target(target)
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; {', '.join(map(repr, LAYOUTS))} are accepted.")
    about = about_attributions(
        scores,
        index,
        rule,
        orientation=orientation,
        base_order=base_order(scores.alphabet),
        axes="hyp_scores, input_seqs (sequence, position, base); raw, shap, projected_shap (sequence, base, position)",
        stored=dtype,
    )
    with ExitStack() as stack:
        stage_regions(stack, regions_path(path), scores)
        file = stack.enter_context(_create(stack.enter_context(atomic(path)), compression))
        sheet = _Sheet(file, len(scores), compression)
        _describe(file, about)
        chroms: dict[str, int] = {}
        for first, batch in _counted(scores, batch_size):
            columns = _attributions(ready(batch, index, rule, dtype=dtype, orientation=orientation), layout)
            columns |= _coordinates(batch, chroms if layout == "bpreveal" else None)
            for name, values in columns.items():
                sheet.write(name, first, values)
        if layout == "bpreveal" and scores.regions is not None:
            file.create_dataset("chrom_names", data=list(chroms), dtype=library("h5py", "HDF5").string_dtype())
    return Path(path)


def _attributions(found: Ready, layout: str) -> dict[str, Any]:
    """Columns of what was computed, under the names and with the axes of a layout."""
    columns: dict[str, Any] = {"input_predictions": found.reference, "mask": found.mask}
    if layout != "chrombpnet":
        columns["hyp_scores"] = found.hypothetical
        columns["input_seqs"] = found.sequences.astype(np.uint8 if layout == "bpreveal" else np.int8)
    if layout in ("chrombpnet", "both"):
        parts = {"raw": found.sequences, "shap": found.hypothetical, "projected_shap": found.projected}
        columns |= {f"{name}/seq": values.transpose(0, 2, 1) for name, values in parts.items()}
    return columns


def write_basenji(
    path: str | os.PathLike[str],
    scores: ISMScores | Mapping[str, ISMScores],
    *,
    stat: str | None = None,
    dtype: str = "float32",
    compression: str | None = "gzip",
    batch_size: int = 64,
) -> Path:
    """Write differences, not attributions, as the ``scores.h5`` of basenji and baskerville.

    Args:
        path: Name of the file.
        scores: Scores of N sequences; or several, one for each stat, of the same sequences.
        stat: Name of the dataset of differences, such as ``"logSUM"``; by default the metric that the scores name.
        dtype: ``"float32"``, ``"float64"``, or ``"float16"``, which is refused where a value does not fit.
        compression: ``"gzip"`` or None.
        batch_size: Sequences in memory at a time.

    Returns:
        The path. Over the P mutated positions: ``seqs`` (N, P, 4) boolean; each stat (N, P, 4, T); ``chr``, ``start``,
        ``end`` and ``strand`` of the mutated stretch on the chromosome (of named sequences, where there are no
        regions: the name, and positions within it); ``mask`` (N, P); ``targets``. A position on the minus strand is
        the reverse complement's. Differences are 0, never NaN, where the mask is False.

    Raises:
        ValueError: If no stat is named, or the scores of several stats are not of the same sequences.
    """
    several = {_stat(scores, stat): scores} if isinstance(scores, ISMScores) else dict(scores)
    _check_stats(several, dtype, batch_size)
    one = next(iter(several.values()))
    about = {
        name: metadata(s, base_order=base_order(s.alphabet), stat=name, stored=dtype) for name, s in several.items()
    }
    with ExitStack() as stack:
        file = stack.enter_context(_create(stack.enter_context(atomic(path)), compression))
        sheet = _Sheet(file, len(one), compression)
        _describe(file, {**about[next(iter(about))], "axes": "stats (sequence, position, base, target)"})
        file.attrs["stats"] = as_json(about)
        file.create_dataset("targets", data=list(one.targets), dtype=library("h5py", "HDF5").string_dtype())
        for first in range(
            0, max(len(one), 1), batch_size
        ):  # once where there are no rows, for the datasets to be made
            batches = {name: s[first : first + batch_size] for name, s in several.items()}
            _write_stats(sheet, first, batches, dtype)
    return Path(path)


def _write_stats(sheet: _Sheet, first: int, batches: Mapping[str, ISMScores], dtype: str) -> None:
    one = next(iter(batches.values()))
    columns = acgt(one.alphabet)
    mask = one.mask.copy()  # (n, P)
    for name, batch in batches.items():
        if not np.array_equal(batch.mutated, one.mutated):
            raise ValueError(
                f"The scores of {name!r} are of other sequences; stats of the same sequences are accepted."
            )
        mask &= np.isfinite(batch.differences).all((2, 3))
    for name, batch in batches.items():
        values = np.where(mask[..., None, None], batch.differences, 0)[:, :, columns]
        sheet.write(name, first, fit(values, dtype, "differences"))
    sheet.write("seqs", first, (one.mutated == 1)[..., columns] & one.mask[..., None])
    sheet.write("mask", first, mask)
    chroms, starts, ends, strands = [], [], [], []
    for i in range(len(one)):
        region = one.regions[i] if one.regions is not None else None
        where = mutated_positions(region, one) if region else one.start + np.arange(one.positions)
        chroms.append(region.chrom if region else one.names[i] if one.names else str(first + i))
        starts.append(int(where.min()))
        ends.append(int(where.max()) + 1)
        strands.append("-" if region and region.strand == "-" else "+")
    for name, column in (("chr", chroms), ("strand", strands)):
        sheet.write(name, first, column)
    for name, column in (("start", starts), ("end", ends)):
        sheet.write(name, first, np.array(column, np.int64))


def _stat(scores: ISMScores, stat: str | None) -> str:
    found = stat or scores.attributes.get("metric")
    if not found:
        raise ValueError('The scores name no metric; give stat, the name of the dataset, such as stat="logSUM".')
    return str(found)


def _check_stats(several: Mapping[str, ISMScores], dtype: str, batch_size: int) -> None:
    if not several:
        raise ValueError("scores is an empty mapping; one ISMScores for each stat is accepted.")
    shapes = {}
    for name, scores in several.items():
        check(scores, dtype=dtype, batch_size=batch_size)
        if name in RESERVED or "/" in name:
            raise ValueError(f"stat is {name!r}; a name without '/' other than {', '.join(RESERVED)} is accepted.")
        if not scores.positions:
            raise ValueError("The scores have no mutated positions; one or more are accepted.")
        shapes[name] = (len(scores), scores.start, scores.positions, scores.alphabet, tuple(scores.targets))
    if len(set(shapes.values())) > 1:
        listed = "; ".join(f"{name}: {s[0]} sequences, {s[2]} positions from {s[1]}" for name, s in shapes.items())
        raise ValueError(f"The stats differ in sequences, positions or targets ({listed}); equal ones are accepted.")


class _Sheet:
    """Datasets of N rows that are written a few rows at a time; each is made when its first rows come."""

    def __init__(self, file: Any, rows: int, compression: str | None) -> None:
        self.file, self.rows, self.compression = file, rows, compression
        self.text = library("h5py", "HDF5").string_dtype()

    def write(self, name: str, first: int, values: np.ndarray | Sequence[str]) -> None:
        text = not isinstance(values, np.ndarray)
        shape = (self.rows,) if text else (self.rows, *values.shape[1:])
        if name not in self.file:
            dtype = self.text if text else values.dtype
            each = max(1, int(np.prod(shape[1:]))) * np.dtype("S16" if text else values.dtype).itemsize
            chunk = (max(1, min(self.rows, CHUNK_BYTES // each)), *(max(1, n) for n in shape[1:]))
            self.file.create_dataset(
                name, shape, dtype, chunks=chunk, maxshape=(None, *shape[1:]), compression=self.compression
            )
        if len(values):
            self.file[name][first : first + len(values)] = list(values) if text else values


def _create(part: Path, compression: str | None) -> Any:
    if compression not in ("gzip", None):
        raise ValueError(
            f"compression is {compression!r}; 'gzip' or None is accepted: readers need no plugin for these."
        )
    return library("h5py", "HDF5").File(part, "w")


def _counted(scores: ISMScores, size: int) -> Any:
    """Batches and the row that each begins at; one empty batch if there are no rows, for the datasets to be made."""
    first = 0
    for batch in scores.batches(size) if len(scores) else [scores[:0]]:
        yield first, batch
        first += len(batch)


def _coordinates(batch: ISMScores, chroms: dict[str, int] | None) -> dict[str, Any]:
    """Columns that say where the rows come from; chromosomes by number where ``chroms``, the numbers, is given."""
    columns: dict[str, Any] = {}
    if batch.regions is not None:
        regions = [placed(region, batch.length) for region in batch.regions]
        names = [region.chrom for region in regions]
        if chroms is None:
            columns["coords_chrom"] = names
        else:
            numbers = [chroms.setdefault(name, len(chroms)) for name in names]
            columns["coords_chrom"] = np.array(numbers, np.int32)
        columns["coords_start"] = np.array([region.start for region in regions], np.int64)
        columns["coords_end"] = np.array([region.end for region in regions], np.int64)
        columns["coords_strand"] = [region.strand for region in regions]
    if batch.names:
        columns["descriptions"] = list(batch.names)
    return columns


def _describe(file: Any, about: Mapping[str, Any]) -> None:
    """Attributes of the root: plain values by name, and all as JSON."""
    for key, value in about.items():
        if isinstance(value, bool | int | float | str):
            file.attrs[key] = value
    file.attrs["metadata"] = as_json(about)
