"""From files to scores, batch by batch: regions of a genome or a FASTA file to a store, a VCF to a table of scores."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from fastism.bed import Centre, Edge, read_regions, select
from fastism.genome import Genome, read_fasta
from fastism.regions import Region, Report
from fastism.result import ISMScores
from fastism.scorer import Scorer
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


class Batch(NamedTuple):
    """Sequences that are scored at once.

    Attributes:
        x: (n, L, 4) one-hot.
        regions: Where they come from, or None.
        names: A name for each.
    """

    x: np.ndarray
    regions: Sequence[Region] | None
    names: Sequence[str]


class Rows:
    """Counts what is to be scored, and tells it from other rows, so that a run goes on with its own only."""

    def __init__(self) -> None:
        self.count, self._seen = 0, hashlib.sha256()

    def add(self, *parts: str) -> None:
        """One row, by what sets it apart."""
        self.count += 1
        for part in parts:
            self._seen.update(part.encode("utf-8", "surrogateescape") + b"\0")

    @property
    def digest(self) -> str:
        """Half of a SHA-256 of all rows in order."""
        return self._seen.hexdigest()[:32]


def _check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse pipes: files are read twice, to count and to score."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is no regular file; it is read twice, so save it as a file first.")


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
    for path in (genome, regions):
        _check_regular(path)
    if scorer.alphabet != "ACGT":
        raise ValueError(f"The model's letters are {scorer.alphabet}; a genome is read as ACGT.")
    with Genome(genome) as opened:

        def kept(report: Report) -> Iterator[Region]:
            read = read_regions(regions, scorer.length, centre=centre, report=report, strict=strict)
            return select(read, opened, edge=edge, report=report, strict=strict)

        report, rows = Report("regions"), Rows()
        for region in kept(report):
            rows.add(str(region), region.name)
        if not rows.count:
            raise NothingLeft(report)

        def batches(skip: int, size: int) -> Iterator[Batch]:
            left = islice(kept(Report("regions")), skip, None)
            while part := list(islice(left, size)):
                x = opened.one_hot(part, unknown=unknown)
                yield Batch(x, part, [r.name or str(r) for r in part])

        made = {
            "genome": os.path.basename(genome),
            "genome_bytes": os.path.getsize(genome),
            "regions": os.path.basename(regions),
            "rows": rows.digest,
            "edge": edge,
            "centre": centre,
            "unknown": unknown,
        }
        made |= attributes or {}
        scores = _stored(scorer, batches, rows.count, output, made, unknown != 0, resume, overwrite, progress)
    return scores, report


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
    _check_regular(fasta)

    def kept(report: Report) -> Iterator[tuple[str, str]]:
        for name, text in read_fasta(fasta):
            report.rows += 1
            if len(text) == scorer.length:
                try:
                    one_hot(text, alphabet=scorer.alphabet, names=name)
                except ValueError as error:
                    if strict:
                        raise
                    report.skip("holds what is no letter", name)
                    logger.info("%s", error)
                else:
                    yield name, text
            elif strict:
                raise ValueError(f"Sequence {name!r} of {fasta} has {len(text)} bp; {scorer.length} are accepted.")
            else:
                report.skip(f"not {scorer.length} bp long", f"{name}: {len(text)} bp")

    def batches(skip: int, size: int) -> Iterator[Batch]:
        rows = islice(kept(Report("sequences")), skip, None)
        while part := list(islice(rows, size)):
            x = one_hot([t for _, t in part], alphabet=scorer.alphabet, unknown=unknown)
            yield Batch(x, None, [n for n, _ in part])

    report, rows = Report("sequences"), Rows()
    for name, text in kept(report):
        rows.add(name, text)
    if not rows.count:
        raise NothingLeft(report)
    made = {"fasta": os.path.basename(fasta), "rows": rows.digest, "unknown": unknown, **(attributes or {})}
    scores = _stored(scorer, batches, rows.count, output, made, unknown != 0, resume, overwrite, progress)
    return scores, report


def _stored(
    scorer: Scorer,
    batches: Callable[[int, int], Iterable[Batch]],
    count: int,
    output: str | os.PathLike[str],
    attributes: dict[str, Any],
    soft: bool,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> ISMScores:
    """Score batches into a store, from the beginning or where it stopped."""
    about = scorer.attributes(**attributes)
    settings = {
        "sequences": count,
        "length": scorer.length,
        "positions": scorer.positions,
        "start": scorer.start,
        "alphabet": scorer.alphabet,
        "soft": soft,
        "attributes": about,
    }
    store = Store.resume(output, **settings) if resume and os.path.exists(output) else None
    done = store.complete if store is not None else 0
    if store is None and os.path.exists(output) and not overwrite:
        raise FileExistsError(
            f"{output} is there already; go on with it (resume=True, --resume), replace it (overwrite=True, "
            "--overwrite), or choose another name."
        )
    with tqdm(total=count, initial=done, unit="sequences", desc="FastISM", disable=not progress) as bar:
        size = 1  # the first says how many targets there are
        skip = done
        while skip < count:
            for batch in batches(skip, size):
                scores = scorer(batch.x, regions=batch.regions, names=batch.names, attributes=about)
                if store is None:
                    store = Store.create(output, **settings, targets=scores.targets, overwrite=overwrite)
                store.append(scores)
                bar.update(len(scores))
                skip += len(scores)
                if size == 1:
                    size = max(1, min(MOST_SEQUENCES, BATCH_BYTES // max(1, scores.differences.nbytes)))
                    break
            else:
                break
    if store is None:
        raise ValueError("No sequence was scored.")
    if not store.finished:
        store.finish()
    return open_scores(output)
