"""The working store: scores on disk as Zarr 3, written batch by batch, resumed after a stop, read without loading."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fastism.regions import Region
from fastism.result import ISMScores
from fastism.scores import has_letter
from fastism.writers.columns import BLOCK, Checked, FirstRows, LazyRows
from fastism.writers.files import library, plain
from fastism.writers.values import check_dtype, fit

__all__ = ["Store", "UnfinishedStoreError", "open_scores", "save_scores"]

FORMAT = 1
KEY = "fastism"
CHUNK_BYTES = 4 << 20
_BROKEN = "is broken, as after a copy that was cut short"
REGION_COLUMNS = {"chrom": "str", "start": "int64", "end": "int64", "strand": "str", "name": "str", "row": "int64"}


class UnfinishedStoreError(ValueError):
    """The store lacks sequences that were to be scored; the message says how to go on."""


class Store:
    """Scores on disk, written in batches of sequences.

    A batch counts once all its arrays are written: after a crash at any time :meth:`resume` goes on behind the last
    batch that counts. Make one with :meth:`create` or :meth:`resume`.

    The Zarr group holds ``sequences`` (N, L, A), ``differences`` (N, P, A, T) and ``reference`` (N, T), chunked along
    the sequences; ``regions/chrom``, ``start``, ``end``, ``strand``, ``name``, ``row``, ``fields`` and ``names`` where
    they are known; what was done is in its attribute ``fastism``.

    Attributes:
        path: The folder.
        complete: How many sequences are written and count.
        expected: How many there will be; None if that is not known beforehand.
        finished: Whether it holds all.

    Example:
        ::

            store = Store.create("ctcf.zarr", sequences=len(regions), length=1000, positions=1000, targets=["CTCF"],
                                 start=0, alphabet="ACGT", attributes={"metric": "subtract", "model_hash": "..."})
            for batch in batches:                   # each an ISMScores
                store.append(batch)
            store.finish()
            scores = open_scores("ctcf.zarr")       # reads from disk when sliced
    """

    def __init__(self, path: Path, group: Any, head: dict[str, Any]) -> None:
        self.path, self._group, self._head = path, group, head
        self._arrays: dict[str, Any] = {}

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        sequences: int | None,
        length: int,
        positions: int,
        targets: Sequence[str],
        start: int,
        alphabet: str,
        attributes: Mapping[str, Any],
        dtype: str = "float32",
        soft: bool = False,
        overwrite: bool = False,
    ) -> Store:
        """Begin a store.

        Args:
            path: The folder, by custom ending in ``.zarr``.
            sequences: N, how many there will be; None if that is not known.
            length: L, positions of a sequence.
            positions: P, mutated positions.
            targets: Names of the T targets.
            start: First mutated position, 0-based.
            alphabet: The A letters.
            attributes: What is done, see :class:`ISMScores`; :meth:`resume` compares them.
            dtype: Float type of differences and reference: ``"float32"``, ``"float64"``, or ``"float16"``, which
                halves the file, keeps 3 digits, and is refused where a value does not fit.
            soft: Keep sequences as float32, for mixtures of letters or N as 0.25, instead of int8.
            overwrite: Replace a store that is there. Another folder is never replaced.

        Raises:
            FileExistsError: If there is something at ``path``.
            ValueError: If an argument is not accepted.
        """
        folder = Path(path)
        check_dtype(dtype)
        if not 0 <= start <= start + positions <= length:
            raise ValueError(f"{positions} positions from {start} on do not lie within sequences of {length}.")
        _check_free(folder, overwrite)
        head = plain(
            {
                "format": FORMAT,
                "sequences": sequences,
                "complete": 0,
                "finished": False,
                "length": length,
                "positions": positions,
                "targets": list(targets),
                "start": start,
                "alphabet": alphabet,
                "dtype": dtype,
                "soft": soft,
                "regions": None,
                "names": None,
                "attributes": attributes,
            }
        )
        zarr = library("zarr", "Store")
        group = zarr.create_group(str(folder), attributes={KEY: head}, overwrite=overwrite, zarr_format=3)
        return cls(folder, group, head)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], *, ignore: Collection[str] = (), **expected: Any) -> Store:
        """Open a store to go on where it stopped: behind its ``complete`` first sequences.

        Args:
            path: The folder.
            ignore: Keys of ``attributes`` that may differ, such as a date.
            expected: What :meth:`create` would be called with, as far as it is to be compared: ``attributes``,
                ``targets``, ``sequences``, ``length``, ``positions``, ``start``, ``alphabet``, ``dtype``, ``soft``.

        Returns:
            The store. One that is finished is returned too; it takes no more batches.

        Raises:
            FileNotFoundError: If there is no store.
            ValueError: If what is expected differs from what the store was made for; the message lists it.
        """
        group, head = _open(Path(path), "r+")
        unknown = sorted(set(expected) - {"attributes", *_MADE_FOR})
        if unknown:
            raise TypeError(f"Store.resume got {', '.join(unknown)}; attributes, {', '.join(_MADE_FOR)} are accepted.")
        wanted = plain(expected)
        pairs = [(key, head[key], wanted[key]) for key in _MADE_FOR if key in wanted]
        pairs = [pair for pair in pairs if pair[0] != "sequences" or None not in pair]  # None: not known beforehand
        if "attributes" in wanted:
            old, new = head["attributes"], wanted["attributes"]
            pairs += [(key, old.get(key), new.get(key)) for key in sorted({*old, *new} - set(ignore))]
        differing = [f"{key} was {_short(old)}, is {_short(new)}" for key, old, new in pairs if old != new]
        if differing:
            raise ValueError(
                f"{path} was begun with other settings: {'; '.join(differing)}. Resume with the settings it was begun "
                "with, or write to a new path, or replace it (overwrite)."
            )
        return cls(Path(path), group, head)

    @property
    def complete(self) -> int:
        """Sequences that are written and count."""
        return self._head["complete"]

    @property
    def expected(self) -> int | None:
        """Sequences that there will be; None if that is not known."""
        return self._head["sequences"]

    @property
    def finished(self) -> bool:
        """Whether all sequences are there."""
        return self._head["finished"]

    def append(self, batch: ISMScores) -> None:
        """Write a batch behind those that are there; when this returns, it counts.

        Raises:
            ValueError: If the batch does not fit the store, or the store is full; nothing counts then.
        """
        self._check(batch)
        if len(batch):
            self._write(batch)

    def _write(self, batch: ISMScores) -> None:
        first, last = self.complete, self.complete + len(batch)
        for name, values in self._columns(batch):
            array = self._array(name, values)
            array.resize((last, *array.shape[1:]))  # what a batch that was cut short has left is dropped or replaced
            if len(values):
                array[first:last] = values
        self._save(complete=last, regions=batch.regions is not None, names=bool(batch.names))

    def finish(self) -> None:
        """Say that all sequences are there; :func:`open_scores` reads the store from now on.

        Raises:
            ValueError: If fewer are there than were announced.
        """
        if self.expected is not None and self.complete != self.expected:
            raise ValueError(
                f"{self.path} holds {self.complete} of {self.expected} sequences; append the rest before finish()."
            )
        if not self._head["finished"] and not self.complete:
            self._empty()
        self._save(sequences=self.complete, finished=True)

    def __len__(self) -> int:
        return self.complete

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.finished:
            self.finish()

    def _empty(self) -> None:
        """Arrays of no rows, so that a store of no sequences opens like any other."""
        head, letters = self._head, len(self._head["alphabet"])
        targets = len(head["targets"])
        self._write(
            ISMScores(
                np.zeros((0, head["length"], letters), np.int8),
                np.zeros((0, head["positions"], letters, targets), head["dtype"]),
                np.zeros((0, targets), head["dtype"]),
                **{key: head[key] for key in ("start", "targets", "alphabet")},
            )
        )

    def _check(self, batch: ISMScores) -> None:
        head = self._head
        if not isinstance(batch, ISMScores):
            raise TypeError(f"batch is of type {type(batch).__name__}; an ISMScores is accepted.")
        if self.finished:
            raise ValueError(f"{self.path} is finished; write more sequences to a new store.")
        found = {
            **{key: plain(getattr(batch, key)) for key in ("length", "positions", "targets", "start", "alphabet")},
            "regions": batch.regions is not None if head["regions"] is not None else None,
            "names": bool(batch.names) if head["names"] is not None else None,
        }
        differing = [
            f"{key} is {_short(value)}, not {_short(head[key])}" for key, value in found.items() if value != head[key]
        ]
        if differing:
            raise ValueError(f"A batch does not fit {self.path}: {'; '.join(differing)}.")
        if self.expected is not None and self.complete + len(batch) > self.expected:
            raise ValueError(
                f"{self.path} has room for {self.expected} sequences, of which {self.complete} are there; a batch of "
                f"{len(batch)} is too many."
            )

    def _columns(self, batch: ISMScores) -> Iterator[tuple[str, np.ndarray]]:
        """Names of arrays and what a batch adds to them; all checks are done before the first is written."""
        sequences = np.asarray(batch.sequences)
        if not self._head["soft"]:
            if not (has_letter(sequences) | (sequences == 0).all(-1)).all():
                raise ValueError(
                    f"The sequences are not one-hot (mixtures of letters, or N as equal shares), and {self.path} keeps "
                    "int8; create it with soft=True."
                )
            sequences = sequences.astype(np.int8)
        dtype = self._head["dtype"]
        columns = [
            ("sequences", sequences.astype(np.float32) if self._head["soft"] else sequences),
            ("differences", fit(batch.differences, dtype, "differences")),
            ("reference", fit(batch.reference, dtype, "reference predictions")),
        ]
        if batch.regions is not None:
            regions = list(batch.regions)
            for key, kind in REGION_COLUMNS.items():
                values = [getattr(region, key) for region in regions]
                columns.append((f"regions/{key}", np.array(values, np.int64 if kind == "int64" else object)))
            columns.append(("regions/fields", np.array(["\t".join(region.fields) for region in regions], object)))
        if batch.names:
            columns.append(("names", np.array(list(batch.names), object)))
        for name, values in columns:
            _check_text(name, values)
        yield from columns

    def _array(self, name: str, values: np.ndarray) -> Any:
        """The array of that name, made if it is not there yet."""
        if name not in self._arrays:
            if name not in self._group:
                text = values.dtype == object
                codec = library("zarr.codecs", "Store").ZstdCodec(level=3, checksum=True)
                dimensions = _DIMENSIONS.get(name, ("sequence",))
                self._group.create_array(
                    name,
                    shape=(0, *values.shape[1:]),
                    chunks=(BLOCK,) if values.ndim == 1 else _chunks(values),
                    dtype=str if text else values.dtype,
                    fill_value=np.nan if values.dtype.kind == "f" else None,
                    dimension_names=dimensions,
                    compressors=codec,
                )
            # a chunk of zeros is written too: one that is missing is then known to be lost
            self._arrays[name] = self._group[name].with_config({"write_empty_chunks": True})
        return self._arrays[name]

    def _save(self, **changed: Any) -> None:
        head = {**self._head, **changed}
        self._group.attrs[KEY] = head  # one small file, replaced in one go
        self._head = head


_MADE_FOR = ("sequences", "length", "positions", "targets", "start", "alphabet", "dtype", "soft")
_DIMENSIONS = {
    "sequences": ("sequence", "base", "letter"),
    "differences": ("sequence", "position", "letter", "target"),
    "reference": ("sequence", "target"),
}


def open_scores(path: str | os.PathLike[str], *, partial: bool = False) -> ISMScores:
    """Scores of a finished store, read from disk when they are sliced.

    Args:
        path: The folder that a :class:`Store` has written.
        partial: Take what is there of an unfinished store.

    Raises:
        FileNotFoundError: If there is no store.
        UnfinishedStoreError: If the store lacks sequences that were to be scored.
        ValueError: If a part of it is missing, as after a copy that was cut short.
    """
    folder = Path(path)
    group, head = _open(folder, "r")
    if not (head["finished"] or partial):
        raise UnfinishedStoreError(
            f"{folder} is not finished: it holds {head['complete']} of {head['sequences'] or 'unknown'} sequences. Run "
            f"the same command again with --resume, or Store.resume({str(folder)!r}) and append the rest; "
            "open_scores(path, partial=True) reads what is there."
        )
    n = head["complete"]
    if not n and not head["finished"]:
        raise UnfinishedStoreError(f"{folder} holds no sequences yet; run the same command again with --resume.")
    arrays = {name: _whole(folder, group, name, n, head["finished"]) for name in _DIMENSIONS}
    regions = names = None
    if head["regions"]:
        columns = [_whole(folder, group, f"regions/{key}", n, head["finished"]) for key in (*REGION_COLUMNS, "fields")]
        regions = LazyRows(n, columns, _region)
    if head["names"]:
        names = LazyRows(n, [_whole(folder, group, "names", n, head["finished"])], str)
    if not head["finished"]:
        arrays = {name: FirstRows(array, n) for name, array in arrays.items()}
    return ISMScores(
        **arrays,
        start=head["start"],
        targets=head["targets"],
        regions=regions,
        names=names if names is not None else (),
        alphabet=head["alphabet"],
        attributes=head["attributes"],
    )


def save_scores(
    path: str | os.PathLike[str],
    scores: ISMScores,
    *,
    dtype: str = "float32",
    batch_size: int = 64,
    overwrite: bool = False,
) -> Path:
    """Write scores that are at hand to a store, finished.

    Args:
        path: The folder, by custom ending in ``.zarr``.
        scores: Scores of N sequences.
        dtype: As in :meth:`Store.create`.
        batch_size: Sequences in memory at a time.
        overwrite: Replace a store that is there.

    Returns:
        The path.
    """
    hard = all((has_letter(b.sequences) | (b.sequences == 0).all(-1)).all() for b in scores.batches(batch_size))
    store = Store.create(
        path,
        sequences=len(scores),
        length=scores.length,
        positions=scores.positions,
        targets=scores.targets,
        start=scores.start,
        alphabet=scores.alphabet,
        attributes=scores.attributes,
        dtype=dtype,
        soft=not hard,
        overwrite=overwrite,
    )
    for batch in scores.batches(batch_size):
        store.append(batch)
    store.finish()
    return store.path


def _region(chrom: str, start: int, end: int, strand: str, name: str, row: int, fields: str) -> Region:
    return Region(chrom, start, end, strand, name, row, tuple(fields.split("\t")) if fields else ())


_MADE = "a .zarr folder that 'fastism ism' (or map_regions, map_fasta, Store.create in Python) has made"


def _open(folder: Path, mode: str) -> tuple[Any, dict[str, Any]]:
    """The group and what it says of itself."""
    if not (folder / "zarr.json").is_file():
        raise FileNotFoundError(f"{folder} is no store of scores; {_MADE} is accepted.")
    zarr = library("zarr", "open_scores")
    try:
        group = zarr.open_group(str(folder), mode=mode, zarr_format=3)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'zarr.json'} {_BROKEN} ({error}); copy or score it again.") from error
    head = group.attrs.get(KEY)
    if not isinstance(head, dict) or "complete" not in head:
        raise ValueError(f"{folder} is a Zarr group, but not of fastism; {_MADE} is accepted.")
    if head["format"] != FORMAT:
        raise ValueError(f"{folder} is of format {head['format']}; this version reads {FORMAT}. Update fastism.")
    return group, head


def _whole(folder: Path, group: Any, name: str, n: int, finished: bool) -> Any:
    """An array with all its rows and chunks, or an error: Zarr would read zeros where a file is missing."""
    try:
        array: Any = group.get(name)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / name / 'zarr.json'} {_BROKEN} ({error}); copy or score it again.") from error
    if array is None:
        whole = False
    elif finished:
        whole = array.shape[0] == n and array.nchunks_initialized == array.nchunks
    else:
        whole = array.shape[0] >= n
    if whole:
        return Checked(array, f"{name} of {folder}")
    raise ValueError(f"{folder} lacks a part of {name}, as after a copy that was cut short; copy or score it again.")


def _check_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        _, head = _open(folder, "r")
    except (FileNotFoundError, ValueError) as error:
        raise FileExistsError(
            f"{folder} exists and is no store of scores, so it is not replaced; choose another."
        ) from error
    if not overwrite:
        state = "finished" if head["finished"] else f"unfinished, with {head['complete']} sequences"
        raise FileExistsError(
            f"{folder} exists ({state}). Go on with it by Store.resume (--resume), or replace it with overwrite=True."
        )


def _check_text(name: str, values: np.ndarray) -> None:
    """Refuse text that no file can hold, as from a file that was read with other bytes escaped."""
    for text in values if values.dtype == object else ():
        try:
            str(text).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"{name} holds {text!r}, which is no valid Unicode; text that UTF-8 holds is accepted."
            ) from None


def _chunks(values: np.ndarray) -> tuple[int, ...]:
    """Chunks of some whole sequences; of a share of the last axis where one sequence is too large for that."""
    each = max(1, int(np.prod(values.shape[1:])) * values.dtype.itemsize)
    last = max(1, min(values.shape[-1], values.shape[-1] * CHUNK_BYTES * 16 // each))
    return (max(1, min(64, CHUNK_BYTES // each)), *(max(1, n) for n in values.shape[1:-1]), last)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
