"""From files to scores, batch by batch: regions of a genome or a FASTA file to a store, a VCF to a table of scores."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fastism.bed import Centre, Edge, read_regions, select
from fastism.genome import Genome, read_fasta
from fastism.inputs import read_flag
from fastism.regions import Region, Report
from fastism.result import ISMScores
from fastism.scorer import Scorer
from fastism.scores import has_letter
from fastism.sequences import one_hot
from fastism.store import Store, open_scores

logger = logging.getLogger(__name__)

#: Bytes of differences that a batch should hold, and sequences at most.
BATCH_BYTES, MOST_SEQUENCES = 64 << 20, 16


class NothingLeft(ValueError):
    """No sequence is left to score; ``report`` says why."""

    def __init__(self, report: Report):
        super().__init__("No sequence is left to score: all were left out, or there were none.")
        self.report = report


# A row to score, behind a text that sets it apart from all others.
_Keyed = tuple[str, Any]
# What a scorer takes: (n, L, A) one-hot sequences, the regions that they come from or None, and a name for each.
_Encoded = tuple[np.ndarray, Sequence[Region] | None, Sequence[str]]


def _check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse pipes: files are read twice, to count and to score."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is no regular file; it is read twice, so save it as a file first.")


def _check_settings(scorer: Scorer, unknown: Any, attributes: Any, **flags: Any) -> None:
    """Refuse settings before a file is read."""
    if isinstance(unknown, bool) or not isinstance(unknown, int | float | np.number) or unknown not in (0, 0.25):
        raise ValueError(f"unknown is {unknown!r}; 0 or 0.25 is accepted, what stands in all columns at an N.")
    if not isinstance(attributes, Mapping | None):
        raise TypeError(f"attributes is {attributes!r}; a dict, for the store's metadata, is accepted.")
    for name, value in flags.items():
        read_flag(value, name)
    scorer.check_one_input("a map of regions or of a FASTA file")


def map_regions(
    scorer: Scorer,
    genome: str | os.PathLike[str],
    regions: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    centre: Centre = "auto",
    edge: Edge = "pad",
    strict: bool = False,
    unknown: float = 0.0,
    resume: bool = False,
    overwrite: bool = False,
    attributes: dict[str, Any] | None = None,
    progress: bool = False,
) -> tuple[ISMScores, Report]:
    """Score all substitutions of regions of a genome, into a store.

    Args:
        scorer: The model or models and the metric.
        genome: FASTA, plain or bgzipped.
        regions: BED or narrowPeak; each is cut or widened to the model's length around its centre.
        output: The store to write, by custom ending in ``.zarr``.
        centre: As in :func:`fastism.bed.read_regions`.
        edge: ``"pad"`` reads N beyond the ends of a chromosome, ``"drop"`` leaves such regions out.
        strict: Raise at the first region that cannot be read instead of leaving it out.
        unknown: What stands in all columns at an N: 0, or 0.25.
        resume: Go on where a store with the same settings stopped.
        overwrite: Replace a store that is there.
        attributes: More for the store's metadata, such as the model's hash.
        progress: Show a progress bar.

    Returns:
        The scores, read from disk when they are sliced, and an account of every row.

    Raises:
        ValueError: If an argument or a file is not accepted.
        FileExistsError: If there is something at ``output``.

    Example::

        scorer = Scorer(keras.models.load_model("model.keras"))
        scores, report = map_regions(scorer, "hg38.fa", "peaks.bed", "peaks.zarr", progress=True)
        print(report)
    """
    _check_settings(scorer, unknown, attributes, strict=strict, resume=resume, overwrite=overwrite, progress=progress)
    for path in (genome, regions):
        _check_regular(path)
    if scorer.alphabet != "ACGT":
        raise ValueError(f"The model's letters are {scorer.alphabet}; a genome is read as ACGT.")
    with Genome(genome) as opened:

        def kept(report: Report) -> Iterator[_Keyed]:
            read = read_regions(regions, scorer.length, centre=centre, report=report, strict=strict)
            for region in select(read, opened, edge=edge, report=report, strict=strict):
                yield f"{region}\0{region.name}", region

        def flag(region: Region, report: Report) -> None:
            inside = len(region) - sum(opened.overhang(region))
            _flag_unknown(report, opened.one_hot(region), inside, " ".join(region.fields[:4]))

        def encode(part: list[Region]) -> _Encoded:
            return opened.one_hot(part, unknown=unknown), part, [r.name or str(r) for r in part]

        made = {
            "genome": os.path.basename(genome),
            "genome_bytes": os.path.getsize(genome),
            "regions": os.path.basename(regions),
            "edge": edge,
            "centre": centre,
            "unknown": unknown,
            **(attributes or {}),
        }
        return _mapped(scorer, "regions", kept, flag, encode, output, made, unknown != 0, resume, overwrite, progress)


def map_fasta(
    scorer: Scorer,
    fasta: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    strict: bool = False,
    unknown: float = 0.0,
    resume: bool = False,
    overwrite: bool = False,
    attributes: dict[str, Any] | None = None,
    progress: bool = False,
) -> tuple[ISMScores, Report]:
    """Score all substitutions of the sequences of a FASTA file, into a store.

    Args:
        scorer, output, unknown, resume, overwrite, attributes, progress: As for :func:`map_regions`.
        fasta: Sequences of the model's length, plain or gzipped; those of other lengths, or with characters that are no
            letters, are left out and counted.
        strict: Raise at the first of another length, or with characters that are no letters, instead.

    Returns:
        The scores and an account of every sequence.

    Raises:
        ValueError: If an argument or the file is not accepted.
    """
    _check_settings(scorer, unknown, attributes, strict=strict, resume=resume, overwrite=overwrite, progress=progress)
    _check_regular(fasta)
    hot = partial(one_hot, alphabet=scorer.alphabet, unknown=unknown)

    def kept(report: Report) -> Iterator[_Keyed]:
        for name, text in read_fasta(fasta):
            report.rows += 1
            if len(text) == scorer.length:
                try:
                    x = hot(text, names=name)
                except ValueError as error:
                    if strict:
                        raise
                    report.skip("holds what is no letter", name)
                    logger.info("%s", error)
                else:
                    yield f"{name}\0{text}", (name, x)
            elif strict:
                raise ValueError(f"Sequence {name!r} of {fasta} has {len(text)} bp; {scorer.length} are accepted.")
            else:
                report.skip(f"not {scorer.length} bp long", f"{name}: {len(text)} bp")

    def flag(row: tuple[str, np.ndarray], report: Report) -> None:
        _flag_unknown(report, row[1], len(row[1]), row[0])

    def encode(part: list[tuple[str, np.ndarray]]) -> _Encoded:
        return np.stack([x for _, x in part]), None, [name for name, _ in part]

    made = {"fasta": os.path.basename(fasta), "unknown": unknown, **(attributes or {})}
    return _mapped(scorer, "sequences", kept, flag, encode, output, made, unknown != 0, resume, overwrite, progress)


def _flag_unknown(report: Report, x: np.ndarray, letters: int, row: str) -> None:
    """Flag a row whose sequence (L, A), of which so many positions are not padding, lacks letters."""
    known = int(has_letter(x).sum())
    if not known:
        report.flag("unknown letters (N) only", row)
    elif known < letters:
        report.flag("some unknown letters (N)", row)


def _mapped(
    scorer: Scorer,
    noun: str,
    kept: Callable[[Report], Iterator[_Keyed]],
    flag: Callable[[Any, Report], None],
    encode: Callable[[list[Any]], _Encoded],
    output: str | os.PathLike[str],
    attributes: dict[str, Any],
    soft: bool,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> tuple[ISMScores, Report]:
    """Score rows into a store, from the beginning or where it stopped; they are read once to count and once to score.

    Args:
        noun: What the rows are, for the report.
        kept: Reads the rows that can be scored, one by one, and counts in a report those that cannot.
        flag: Notes in a report what is special about one of these; asked once for each.
        encode: Makes sequences of a few of them.
        attributes: For the store's metadata; ``rows``, which tells these rows from others, is added.
        soft: Whether an N is stored as shares of letters.
    """
    report = Report(noun)
    count, digest = _counted(kept(report), lambda row: flag(row, report))
    if not count:
        raise NothingLeft(report)
    about = scorer.attributes(**{"rows": digest, **attributes})
    settings = {
        "sequences": count,
        "length": scorer.length,
        "positions": scorer.positions,
        "start": scorer.start,
        "alphabet": scorer.alphabet,
        "soft": soft,
        "attributes": about,
    }
    store = _begun(output, settings, resume, overwrite)
    done = store.complete if store is not None else 0
    rows = islice((row for _, row in kept(Report(noun))), done, None)
    size = 1  # the first says how many targets there are
    with tqdm(total=count, initial=done, unit="sequences", desc="FastISM", disable=not progress) as bar:
        while done < count and (part := list(islice(rows, size))):
            x, regions, names = encode(part)
            scores = scorer(x, regions=regions, names=names, attributes=about)
            if store is None:
                store = Store.create(output, **settings, targets=scores.targets, overwrite=overwrite)
            store.append(scores)
            bar.update(len(part))
            done += len(part)
            each = scores.differences.nbytes // len(part)
            size = max(1, min(MOST_SEQUENCES, BATCH_BYTES // max(1, each)))
    if store is None:
        raise ValueError("No sequence was scored.")
    if not store.finished:
        store.finish()
    return open_scores(output), report


def _begun(output: str | os.PathLike[str], settings: dict[str, Any], resume: bool, overwrite: bool) -> Store | None:
    """The store to go on with, or None where one is to be made."""
    there = os.path.exists(output)
    if there and resume:
        return Store.resume(output, **settings)
    if there and not overwrite:
        raise FileExistsError(
            f"{output} is there already; go on with it (resume=True, --resume), replace it (overwrite=True, "
            "--overwrite), or choose another name."
        )
    return None


def _counted(rows: Iterable[_Keyed], look: Callable[[Any], None]) -> tuple[int, str]:
    """How many rows there are, and half of a SHA-256 of all in order, so that a run goes on with its own rows only."""
    count, seen = 0, hashlib.sha256()
    for key, row in rows:
        look(row)
        count += 1
        seen.update(key.encode("utf-8", "surrogateescape") + b"\0")
    return count, seen.hexdigest()[:32]
