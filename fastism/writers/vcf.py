"""Scores of variants in the INFO fields of a VCF."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from fastism.genome import quiet
from fastism.vcf import Variant, unusable
from fastism.writers.files import as_json, atomic, library
from fastism.writers.tables import VARIANT_COLUMNS, Batch, checked

STATUS, SKIPPED, MISMATCH = "FASTISM_STATUS", "FASTISM_SKIPPED", "FASTISM_REF_MISMATCH"
NOT_SCORED = "not_scored"
#: Status of what has scores.
SCORED = ("ok", "padded")
OURS, PREFIX = "Score of fastism: ", "fastism_"
UNDECLARED = "Not declared in the file that fastism read"
MODES = {".vcf": "w", ".gz": "wz", ".bgz": "wz", ".bcf": "wb"}


def write_vcf(
    path: str | os.PathLike[str],
    batches: Iterable[Batch],
    *,
    template: str | os.PathLike[str] | None = None,
    contigs: Mapping[str, int | None] | None = None,
    metadata: Mapping[str, Any] | None = None,
    reason: Callable[[Variant], str] | None = None,
) -> Path:
    """Write scores of variants as INFO fields, one value for each alternative allele.

    Args:
        path: Name of the file: ``.vcf``, ``.vcf.gz`` (bgzip) or ``.bcf``.
        batches: As in :func:`fastism.writers.write_tsv`, one row for each alternative allele, in the order of the
            template if there is one.
        template: The VCF or BCF that the variants were read from. All its records are kept, with what they say; what
            they use and its header does not declare (chromosomes, filters, fields) is declared, fields as text. A row
            belongs to an allele of equal position, alleles (in either case) and chromosome (with or without ``chr``).
        contigs: Chromosomes and their lengths (None: not known) for the header; needed without a template.
        metadata: What was done, written into the header: for each key a line ``##fastism_{key}=`` with the value as
            JSON. Such lines of an earlier run are left out.
        reason: Says why a variant of the template without a row has no scores, or nothing if it cannot; such as
            :func:`fastism.vcf.unplaceable` for a genome and a length.

    Returns:
        The path. A column of scores becomes an INFO field of that name, in which characters that a VCF does not allow
        are ``_`` and a field of that name that the template has already is left alone (ours begins with ``fastism_``
        then). A variant without scores is kept: it has the flag ``FASTISM_SKIPPED`` and in ``FASTISM_STATUS`` a word
        for each allele: ``ok``, or the row's own ``status``; for an allele without a row why no reader takes it
        (``symbolic_allele``, ``breakend`` ...), else what ``reason`` says, else ``not_scored``. One whose reference
        allele is not the genome's has ``FASTISM_REF_MISMATCH``.
        pysam adds ``END`` to records of symbolic alleles such as ``<DEL>`` that lack it.

    Raises:
        ImportError: If pysam is missing.
        ValueError: If there is neither template nor contigs, a chromosome is not among them, a row is not in the
            template or not in its order, or batches have different columns.
    """
    final = Path(path)
    if final.suffix not in MODES:
        raise ValueError(f"{final} ends in {final.suffix!r}; .vcf, .vcf.gz and .bcf are accepted.")
    if template is None and contigs is None:
        raise ValueError("write_vcf needs template, the VCF that was read, or contigs, the genome's chromosomes.")
    pysam = library("pysam", "write_vcf")
    rows = _Rows(batches)
    with ExitStack() as stack:
        part = stack.enter_context(atomic(final))
        source = None if template is None else stack.enter_context(_opened(template, pysam))
        header = pysam.VariantHeader() if source is None else source.header
        _add_contigs(header, contigs or {})
        if template is not None:
            _add_undeclared(header, template, pysam)
        fields = _fields(rows.scores, header)
        for name, field in fields.items():
            if field not in header.info:
                header.info.add(field, "A", "Float", f"{OURS}{name}".replace('"', "'"))
        _add_flags(header)
        if metadata is not None:
            _add_metadata(header, metadata)
        out = stack.enter_context(pysam.VariantFile(str(part), MODES[final.suffix], header=header))
        records = _new_records(header, rows) if source is None else _template_records(source, rows, str(template))
        for record, found in records:
            _annotate(record, found, fields, reason)
            with quiet():
                out.write(record)
    return final


class _Rows:
    """Rows of the batches, one at a time, with a look at the next."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = checked(batches)
        first = next(self._batches, None)
        missing = [name for name in VARIANT_COLUMNS if first is not None and name not in first]
        if missing:
            raise ValueError(f"The batches lack {', '.join(missing)}; {', '.join(VARIANT_COLUMNS)} are needed.")
        self.scores = [name for name in first or () if name not in VARIANT_COLUMNS]
        self._rows = self._each(first)
        self.next = next(self._rows, None)

    def _each(self, batch: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        while batch is not None:
            columns = [values.tolist() if hasattr(values, "tolist") else list(values) for values in batch.values()]
            for row in zip(*columns, strict=True):
                yield dict(zip(batch, row, strict=True))
            batch = next(self._batches, None)

    def take(self) -> dict[str, Any]:
        row = self.next
        self.next = next(self._rows, None)
        return row or {}


def _new_records(header: Any, rows: _Rows) -> Iterator[tuple[Any, list[dict[str, Any] | None]]]:
    while rows.next is not None:
        row = rows.take()
        chrom, ref, alt = row["chrom"], row["ref"] or "", row["alt"] or ""
        if chrom not in header.contigs:
            known = ", ".join(list(header.contigs)[:5])
            raise ValueError(f"Chromosome {chrom!r} is not among the contigs ({known}, ...); give it with its length.")
        if not re.fullmatch(r"[A-Za-z]+", ref) or not re.fullmatch(r"[A-Za-z*.]+|<[^<>\s,]+>", alt):
            raise ValueError(
                f"{chrom}:{row['pos']} has the alleles {ref!r} and {alt!r}, which a VCF cannot hold; write TSV or "
                "Parquet, or begin both alleles with the base before."
            )
        alleles = (ref,) if alt == "." else (ref, alt)
        start = int(row["pos"]) - 1
        yield header.new_record(contig=chrom, start=start, stop=start + len(ref), alleles=alleles, id=row["id"]), [row]


def _template_records(source: Any, rows: _Rows, name: str) -> Iterator[tuple[Any, list[dict[str, Any] | None]]]:
    for record in _records(source):
        found: list[dict[str, Any] | None] = []
        for alt in record.alts or (".",):
            found.append(rows.take() if rows.next is not None and _same(rows.next, record, alt) else None)
        yield record, found
    if rows.next is not None:
        row = rows.next
        raise ValueError(
            f"The variant {row['chrom']}:{row['pos']} {row['ref']}>{row['alt']} is not in {name}, or not in its order; "
            "give the rows in the order of the template."
        )


def _opened(path: str | os.PathLike[str], pysam: Any) -> Any:
    """A file to read, without what htslib says of missing indices and headers."""
    with quiet():
        return pysam.VariantFile(os.fspath(path))


def _records(source: Any) -> Iterator[Any]:
    while True:
        with quiet():  # for each record, so that others' messages come through between them
            record = next(source, None)
        if record is None:
            return
        yield record


def _same(row: Mapping[str, Any], record: Any, alt: str) -> bool:
    alike = [(row["ref"], record.ref), (row["alt"] or ".", alt)]
    return (
        int(row["pos"]) == record.pos
        and all(_letters(a) == _letters(b) for a, b in alike)
        and _bare(row["chrom"]) == _bare(record.chrom)
    )


def _letters(allele: str | None) -> str:
    """An allele as the reader spells it, whatever the case, and U for T."""
    return (allele or "").upper().replace("U", "T")


def _bare(chrom: str) -> str:
    name = chrom.removeprefix("chr")
    return "MT" if name == "M" else name


def _annotate(
    record: Any,
    found: Sequence[Mapping[str, Any] | None],
    fields: Mapping[str, str],
    reason: Callable[[Variant], str] | None,
) -> None:
    """Put scores and flags of a record's alleles into it."""
    alleles = len(record.alts or ())
    if alleles:
        for name, field in fields.items():
            values = tuple(_number(row[name]) if row else None for row in found)
            if any(value is not None for value in values):
                record.info[field] = values
            elif field in record.info:
                del record.info[field]  # of an earlier run
    alts = record.alts or (".",)
    states = [str(row["status"]) if row else _why(record, alt, reason) for row, alt in zip(found, alts, strict=True)]
    for key in (STATUS, SKIPPED, MISMATCH):
        if key in record.info:
            del record.info[key]
    if any(state != "ok" for state in states):
        record.info[STATUS] = tuple(re.sub(r"[\s,;=]+", "_", state) for state in states)
    if any(state not in SCORED for state in states):
        record.info[SKIPPED] = True
    if any(row is not None and row["ref_match"] is not None and not row["ref_match"] for row in found):
        record.info[MISMATCH] = True


def _why(record: Any, alt: str, reason: Callable[[Variant], str] | None) -> str:
    """Why an alternative has no row."""
    found = unusable(record.ref or "", alt)
    if not found and reason is not None:
        found = reason(Variant(record.chrom, record.pos - 1, _letters(record.ref), _letters(alt)))
    return found or NOT_SCORED


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _fields(names: Sequence[str], header: Any) -> dict[str, str]:
    """For each column the INFO field: allowed characters, no two alike, none of somebody else's."""
    fields: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^0-9A-Za-z_.]", "_", name)
        base = base if re.match(r"[A-Za-z_]", base) else f"_{base}"
        if base in header.info and not _ours(header.info[base]):
            base = f"fastism_{base}"
        field, number = base, 2
        while field in fields.values() or (field in header.info and not _ours(header.info[field])):
            field, number = f"{base}_{number}", number + 1
        fields[name] = field
    return fields


def _ours(field: Any) -> bool:
    return (field.number, field.type) == ("A", "Float") and (field.description or "").startswith(OURS)


def _add_flags(header: Any) -> None:
    for key, number, kind, text in (
        (STATUS, ".", "String", "Why fastism has no score, for each alternative allele; ok where it has"),
        (SKIPPED, 0, "Flag", "fastism has no score for an alternative allele"),
        (MISMATCH, 0, "Flag", "The reference allele is not that of the genome that fastism read"),
        ("END", 1, "Integer", "Last position of the variant"),  # pysam puts it into every record of <DEL> and the like
    ):
        if key not in header.info:
            header.info.add(key, number, kind, text)


def _add_metadata(header: Any, metadata: Mapping[str, Any]) -> None:
    for line in [r for r in header.records if r.key is not None and r.key.startswith(PREFIX)]:
        line.remove()
    for key, value in metadata.items():
        header.add_line(f"##{PREFIX}{re.sub(r'[^0-9A-Za-z_.]', '_', str(key))}={as_json(value)}")


def _add_contigs(header: Any, contigs: Mapping[str, int | None]) -> None:
    for name, length in contigs.items():
        if name not in header.contigs:
            header.contigs.add(name, **({} if length is None else {"length": length}))


def _add_undeclared(header: Any, template: str | os.PathLike[str], pysam: Any) -> None:
    """What rows use and the header does not declare; the template is read once for it.

    htslib declares such names by itself while it reads, which is too late for a header that was written before.
    """
    with _opened(template, pysam) as source:
        if source.is_bcf:  # whose rows can name nothing else
            return
        with suppress(OSError, ValueError):  # a damaged row, of which the reader of the variants tells
            for _ in _records(source):
                pass
        _add_contigs(header, dict.fromkeys(source.header.contigs))
        for name in source.header.filters:
            if name not in header.filters:
                header.filters.add(name, None, None, UNDECLARED)
        for known, used in ((header.info, source.header.info), (header.formats, source.header.formats)):
            for name in used:
                if name not in known:
                    known.add(name, ".", "String", UNDECLARED)
