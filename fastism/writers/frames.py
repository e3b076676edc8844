"""Scores as objects of xarray, pandas and AnnData."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.result import ISMScores
from fastism.writers.files import as_json, library
from fastism.writers.values import about_attributions, check, complement, metadata, mutated_positions

if TYPE_CHECKING:
    import anndata
    import pandas
    import xarray


def to_xarray(scores: ISMScores, *, rule: str | None = None) -> xarray.Dataset:
    """Scores with named axes and coordinates, in memory.

    Args:
        scores: Scores of N sequences; take ``scores[i:j]`` of many.
        rule: Add attributions by this rule, ``"mean4"`` or ``"mean3"``.

    Returns:
        A dataset with ``differences`` (sequence, position, letter, target), ``reference`` (sequence, target),
        ``sequences`` (sequence, base, letter), ``mask`` (sequence, position), False at an N, and with ``rule``
        ``hypothetical`` like the differences. ``position`` and ``base`` count from 0 at the sequence's start, so that
        ``data.sequences.sel(base=data.position)`` is the mutated stretch. ``chrom``, ``start``, ``end`` and ``strand``
        go along the sequences where there are regions, ``name`` where there are names. Attributes say what was done.

    Raises:
        ImportError: If xarray is missing.
    """
    check(scores, rule=rule)
    xr = library("xarray", "to_xarray")
    data: dict[str, Any] = {
        "differences": (("sequence", "position", "letter", "target"), np.asarray(scores.differences[:])),
        "reference": (("sequence", "target"), np.asarray(scores.reference[:])),
        "sequences": (("sequence", "base", "letter"), np.asarray(scores.sequences[:])),
        "mask": (("sequence", "position"), scores.mask),
    }
    if rule is not None:
        each = [scores.attributions(t, rule=rule, hypothetical=True) for t in range(len(scores.targets))]
        data["hypothetical"] = (("sequence", "position", "letter", "target"), np.stack(each, -1))
    along = {name: ("sequence", column) for name, column in _about_sequences(scores).items()}
    axes = {
        "sequence": np.arange(len(scores)),
        "position": scores.start + np.arange(scores.positions),
        "base": np.arange(scores.length),
        "letter": list(scores.alphabet),
        "target": list(scores.targets),
    }
    about = {**metadata(scores, **({"rule": rule} if rule else {}))}
    plain = {key: value for key, value in about.items() if isinstance(value, int | float | str)}
    return xr.Dataset(data, coords={**axes, **along}, attrs={**plain, "metadata": as_json(about)})


def to_anndata(scores: ISMScores, *, target: int | str = 0, rule: str = "mean4") -> anndata.AnnData:
    """Scores as a matrix of sequences by substitutions, to cluster or embed sequences by what mutations do to them.

    Args:
        scores: Scores of N sequences; take ``scores[i:j]`` of many.
        target: Index or name.
        rule: Of the attributions in the layers.

    Returns:
        An AnnData whose observations are the N sequences (``chrom``, ``start``, ``end``, ``strand``, ``name``) and
        whose variables are the P * A pairs of ``position``, from 0 at the sequence's start, and ``letter``, named as
        ``"12:G"``. ``X`` are the target's differences, the layers ``hypothetical`` and ``projected`` its
        attributions; ``obsm["reference"]`` (N, T) the values of all targets for the sequences as they are, and
        ``uns["fastism"]`` what was done, as JSON.

    Raises:
        ImportError: If anndata is missing.
    """
    check(scores, rule=rule)
    module, pd = library("anndata", "to_anndata"), library("pandas", "to_anndata")
    index = scores.target(target)
    n, positions, letters = scores.differences.shape[:3]
    flat = (n, positions * letters)
    variables = pd.DataFrame(
        {
            "position": np.repeat(scores.start + np.arange(positions), letters),
            "letter": np.tile(list(scores.alphabet), positions),
        },
        index=[f"{scores.start + p}:{letter}" for p in range(positions) for letter in scores.alphabet],
    )
    observations = pd.DataFrame(_about_sequences(scores), index=[str(i) for i in range(n)])
    layers = {
        "hypothetical": scores.attributions(index, rule=rule, hypothetical=True).reshape(flat),
        "projected": scores.attributions(index, rule=rule).reshape(flat),
    }
    return module.AnnData(
        X=np.asarray(scores.differences[..., index]).reshape(flat),
        obs=observations,
        var=variables,
        layers=layers,
        obsm={"reference": np.asarray(scores.reference[:])},
        uns={"fastism": as_json(about_attributions(scores, index, rule))},
    )


def to_pandas(scores: ISMScores, *, orientation: str = "model") -> pandas.DataFrame:
    """A long table, one row for each sequence, position, alternative and target.

    Args:
        scores: Scores of N sequences; take ``scores[i:j]`` of many, or write :func:`long_table` to a file.
        orientation: ``"model"``: ``ref`` and ``alt`` as the model read them, on the strand in column ``strand``;
            ``"genome"``: on the plus strand, as in a VCF.

    Returns:
        Columns ``sequence`` (name, or number from 0), ``chrom``, ``pos`` (on the chromosome, 1-based as in a VCF),
        ``strand``, ``position`` (in the sequence, 0-based), ``ref``, ``alt``, ``target``, ``difference``. The letters
        that are there have no row, positions without one neither. Without regions there is no ``chrom``, ``pos`` and
        ``strand``.

    Raises:
        ImportError: If pandas is missing.
    """
    pd = library("pandas", "to_pandas")
    batches = list(long_table(scores, orientation=orientation))
    return pd.DataFrame({key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]})


def long_table(
    scores: ISMScores, *, orientation: str = "model", batch_size: int = 64
) -> Iterator[dict[str, np.ndarray]]:
    """The rows of :func:`to_pandas` in batches, as columns of equal length, for files.

    Args:
        scores: Scores of N sequences.
        orientation: As in :func:`to_pandas`.
        batch_size: Sequences at a time.

    Yields:
        Column name to values; one batch without rows if there are no sequences.

    Example:
        ::

            write_parquet("ism.parquet", long_table(open_scores("ctcf.zarr")))
    """
    check(scores, orientation=orientation, batch_size=batch_size)
    first = 0
    for batch in scores.batches(batch_size) if len(scores) else [scores[:0]]:
        yield _rows(batch, first, orientation)
        first += len(batch)


def _rows(batch: ISMScores, first: int, orientation: str) -> dict[str, np.ndarray]:
    hot = batch.mutated == 1  # (n, P, A)
    n, p, alt = np.nonzero(~hot & batch.mask[..., None])
    ref = hot.argmax(-1)[n, p]
    columns: dict[str, np.ndarray] = {"sequence": np.array(_names(batch, first), object)[n]}
    if batch.regions is not None:
        where = np.array([mutated_positions(region, batch) for region in batch.regions], np.int64)
        columns["chrom"] = np.array([region.chrom for region in batch.regions], object)[n]
        columns["pos"] = where.reshape(len(batch), batch.positions)[n, p] + 1
        columns["strand"] = np.array([region.strand for region in batch.regions], object)[n]
        if orientation == "genome":
            other = np.array(complement(batch.alphabet))
            minus = columns["strand"] == "-"
            shown = [np.where(minus, other[letter], letter) for letter in (ref, alt)]
        else:
            shown = [ref, alt]
    else:
        shown = [ref, alt]
    letters = np.array(list(batch.alphabet), object)
    columns |= {"position": batch.start + p, "ref": letters[shown[0]], "alt": letters[shown[1]]}
    targets = len(batch.targets)
    table = {key: np.repeat(column, targets) for key, column in columns.items()}
    table["target"] = np.tile(np.array(list(batch.targets), object), len(n))
    table["difference"] = np.asarray(batch.differences)[n, p, alt].reshape(-1)
    return table


def _names(batch: ISMScores, first: int) -> list[Any]:
    if batch.names:
        return list(batch.names)
    regions = [region.name for region in batch.regions or ()]
    return [name or str(first + i) for i, name in enumerate(regions or [""] * len(batch))]


def _about_sequences(scores: ISMScores) -> dict[str, Any]:
    """Columns that describe the sequences."""
    columns: dict[str, Any] = {}
    if scores.regions is not None:
        regions = list(scores.regions)
        for key, kind in (("chrom", object), ("start", np.int64), ("end", np.int64), ("strand", object)):
            columns[key] = np.array([getattr(region, key) for region in regions], kind)
    if scores.names or scores.regions is not None:
        columns["name"] = np.array(_names(scores, 0), object)
    return columns
