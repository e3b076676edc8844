"""Tables of variants or of anything else that comes as columns, written as it comes: TSV and Parquet."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fastism.writers.files import as_json, atomic, library

#: Columns of every table of variants, before those of the scores.
VARIANT_COLUMNS: dict[str, type] = {
    "chrom": str,
    "pos": int,
    "id": str,
    "ref": str,
    "alt": str,
    "ref_match": bool,
    "status": str,
}

Batch = Mapping[str, Any]
Metadata = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


def write_tsv(
    path: str | os.PathLike[str],
    batches: Iterable[Batch],
    *,
    columns: Sequence[str] = tuple(VARIANT_COLUMNS),
    metadata: Metadata | None = None,
) -> Path:
    """Write columns as text separated by tabs, batch by batch.

    Args:
        path: Name of the file; one that ends in ``.gz`` is compressed.
        batches: Column name to values of one length; for variants ``chrom``, ``pos`` (1-based), ``id``, ``ref``,
            ``alt``, ``ref_match``, ``status`` (``"ok"``, or why there is no score) and the scores. The first batch
            says which columns there are.
        columns: The header of a file for which no batch comes.
        metadata: What was done, written as JSON to ``{path}.json``, because readers of tables take the first line for
            the header. A function without arguments is called when the last batch is written, so that it can count.

    Returns:
        The path. Floats have as many digits as tell them apart; NaN and None are ``NA``; booleans ``True`` and
        ``False``.

    Raises:
        ValueError: If batches have different columns, or columns different lengths.
    """
    with ExitStack() as stack:
        note = None if metadata is None else stack.enter_context(atomic(f"{os.fspath(path)}.json"))
        part = stack.enter_context(atomic(path))
        opener: Any = gzip.open if os.fspath(path).endswith(".gz") else open
        file = stack.enter_context(opener(part, "wt", encoding="utf-8", newline=""))
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        header: list[str] | None = None
        for batch in checked(batches):
            if header is None:
                header = list(batch)
                table.writerow(header)
            table.writerows(zip(*(_text(batch[name]) for name in header), strict=True))
        if header is None:
            table.writerow(columns)
        if note is not None:
            note.write_text(as_json(_said(metadata)) + "\n", encoding="utf-8")
    return Path(path)


def write_parquet(
    path: str | os.PathLike[str],
    batches: Iterable[Batch],
    *,
    columns: Sequence[str] = tuple(VARIANT_COLUMNS),
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write columns as Parquet, a row group for each batch.

    Args:
        path: Name of the file.
        batches: As in :func:`write_tsv`. The first batch says which columns there are, and of which types those of
            them are that are not columns of variants.
        columns: The columns of a file for which no batch comes.
        metadata: Written into the schema's metadata as JSON under ``fastism``.

    Returns:
        The path. NaN and None are null.

    Raises:
        ImportError: If pyarrow is missing.
        ValueError: If batches have different columns, or columns different lengths.
    """
    pa, parquet = library("pyarrow", "write_parquet"), library("pyarrow.parquet", "write_parquet")
    about = {"fastism": as_json(metadata)} if metadata is not None else None
    with ExitStack() as stack:
        part = stack.enter_context(atomic(path))
        writer: Any = None
        for batch in checked(batches):
            if writer is None:
                fields = [pa.field(name, _arrow_type(name, values)) for name, values in batch.items()]
                writer = stack.enter_context(parquet.ParquetWriter(part, pa.schema(fields, metadata=about)))
            arrays = [pa.array(_missing(batch[f.name]), type=f.type, from_pandas=True) for f in writer.schema]
            writer.write_table(pa.table(arrays, schema=writer.schema))
        if writer is None:
            fields = [pa.field(name, _arrow_type(name, np.zeros(0, np.float32))) for name in columns]
            stack.enter_context(parquet.ParquetWriter(part, pa.schema(fields, metadata=about)))
    return Path(path)


def _said(metadata: Metadata | None) -> Mapping[str, Any] | None:
    return metadata() if callable(metadata) else metadata


def checked(batches: Iterable[Batch]) -> Iterator[dict[str, Any]]:
    """Batches whose columns are the first batch's, and of one length each.

    Raises:
        ValueError: If one is not.
    """
    names: list[str] = []
    for number, batch in enumerate(batches):
        names = names or list(batch)
        if set(batch) != set(names):
            raise ValueError(
                f"Batch {number} has the columns {', '.join(batch)}; those of the first are accepted, "
                f"{', '.join(names)}."
            )
        lengths = {name: len(batch[name]) for name in names}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"The columns of batch {number} have {lengths} values; columns of one length are accepted."
            )
        yield {name: batch[name] for name in names}


def _text(values: Any) -> list[str]:
    """Values as text: the shortest that gives a float back."""
    array = values if isinstance(values, np.ndarray) else np.array(values, object)
    if array.dtype.kind == "f":
        return ["NA" if text == "nan" else text for text in array.astype(str).tolist()]
    return ["NA" if value is None or value != value else str(value) for value in array.tolist()]


def _missing(values: Any) -> Any:
    """Values as pyarrow takes them; NumPy's fixed-width text is no type of its."""
    return values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind in "UST" else values


def _arrow_type(name: str, values: Any) -> Any:
    pa = library("pyarrow", "write_parquet")
    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    if name in VARIANT_COLUMNS:
        return kinds[VARIANT_COLUMNS[name]]
    array = values if isinstance(values, np.ndarray) else np.array(values)
    if array.dtype.kind in "fiub":
        return pa.from_numpy_dtype(array.dtype)
    return pa.string()
