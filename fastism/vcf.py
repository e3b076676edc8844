"""Variants from VCF, BCF and plain tables, the windows around them, and the two sequences of each: row by row.

pysam (htslib) reads VCF and BCF; it comes with the `genome` extra and is imported when a file is first opened.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from fastism.bed import Edge, check_edge, found, lines
from fastism.genome import Genome, UnknownChromosome, compression, need, quiet
from fastism.regions import Region, Report
from fastism.sequences import reverse_complement

Side = Literal["left", "right"]

_LETTERS = re.compile(r"[ACGTRYSWKMBDHVN]+")
_NUMBER = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True)
class Variant:
    """One alternative of one site.

    Attributes:
        chrom: Name of the chromosome, as the file of variants spells it.
        position: First position of ``ref``, 0-based; files and :meth:`__str__` count from 1.
        ref, alt: The two alleles, in upper case; empty where the file has ``-``.
        id: What the file calls it; empty if it has no name.
        row: Which row of the file it was, counted from 0 over variants' rows.
        allele: Which alternative of that row, counted from 0.
        ref_match: Whether ``ref`` is what the genome has there; None if nobody has looked.

    Example:
        >>> variant = Variant("chr1", 99, "A", "ATT")
        >>> str(variant), variant.end, variant.kind
        ('chr1:100:A>ATT', 100, 'insertion')
    """

    chrom: str
    position: int
    ref: str
    alt: str
    id: str = ""
    row: int = 0
    allele: int = 0
    ref_match: bool | None = None

    @property
    def end(self) -> int:
        """The position behind ``ref``."""
        return self.position + len(self.ref)

    @property
    def kind(self) -> str:
        """``"snv"``, ``"mnv"`` (several letters for as many), ``"insertion"``, ``"deletion"`` or ``"complex"``.

        What the alleles share at their ends does not count: AC>AT is an SNV, A>ATT an insertion.
        """
        ref, alt = self.ref, self.alt
        shared = _shared(ref, alt)
        ref, alt = ref[shared:], alt[shared:]
        shared = _shared(ref[::-1], alt[::-1])
        ref, alt = ref[: len(ref) - shared], alt[: len(alt) - shared]
        if not ref or not alt:
            return "insertion" if alt else "deletion"
        return "complex" if len(ref) != len(alt) else "snv" if len(ref) == 1 else "mnv"

    def __str__(self) -> str:
        return f"{self.chrom}:{self.position + 1}:{_short(self.ref)}>{_short(self.alt)}"


class Alleles(NamedTuple):
    """The two sequences of a variant.

    Attributes:
        ref, alt: The sequences, of one length, in upper case.
        ref_span, alt_span: Where the allele lies within each: (first position, position behind the last).
    """

    ref: str
    alt: str
    ref_span: tuple[int, int]
    alt_span: tuple[int, int]


def read_variants(
    path: str | os.PathLike[str], *, report: Report | None = None, strict: bool = False
) -> Iterator[Variant]:
    """The variants of a file, one after the other; a site of several alternatives gives one for each.

    Accepted are VCF, plain or bgzip, BCF, and tables as chrombpnet's variant-scorer takes them: columns chromosome,
    position (from 1), ref, alt and, if there is one, a name; plain, gzip or bgzip, with or without a line of column
    names. An allele of ``-`` is empty: an empty ref inserts before the position, an empty alt deletes ref. Letters may
    be of either case, IUPAC letters too.

    Skipped and counted are alleles without letters: symbolic ones (``<DEL>``), breakends, ``*``, a missing alternative,
    and an alternative that is the reference.

    Args:
        path: The file; its contents say which it is. A pipe, or ``"-"``, is taken for a table.
        report: Counts all alternatives. With it a malformed row of a table is skipped and counted; without it, it is
            an error, as is a malformed row of a VCF or BCF file always.
        strict: A malformed row is an error even with a report.

    Yields:
        Variants; ``ref_match`` is None, see :func:`select_variants`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind or truncated, or a row is malformed.
        ImportError: If pysam is missing, for VCF and BCF.

    Example:
        ::

            report = Report("variants")
            with Genome("hg38.fa.gz") as genome:
                variants = read_variants("variants.vcf.gz", report=report)
                for variant, window in select_variants(variants, 2114, genome, report=report):
                    ref, alt, *_ = alleles(variant, window, genome)
            print(report)
    """
    found(path)
    account = Report() if report is None else report
    if is_vcf(path):
        if compression(path) == "gzip":
            raise ValueError(
                f"{path} is compressed with gzip; VCF that is plain or compressed with bgzip, and BCF, are accepted. "
                f"Run: gunzip -c {Path(path).name} | bgzip > variants.vcf.gz"
            )
        rows = _vcf_rows(str(path), need("pysam"))
    else:
        rows = _table_rows(path, account, strict or report is None)
    return _variants(rows, account)


def is_vcf(path: str | os.PathLike[str]) -> bool:
    """Whether a file is VCF or BCF, plain or compressed, by its first bytes and whatever its name.

    :func:`read_variants` takes what is not for a table. A pipe and ``"-"`` are not looked into: False.

    Raises:
        ValueError: If the file is compressed and damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = Path(f"{folder}/variants.csv").write_text("chr1 100 A G")
        ...     is_vcf(f"{folder}/variants.csv")
        False
    """
    return _head(path).startswith((b"BCF", b"##fileformat=VCF", b"#CHROM\tPOS\tID"))


def unusable(ref: str, alt: str) -> str:
    """Why an alternative cannot be scored in any genome, or nothing if it can.

    Args:
        ref, alt: The alleles as the file spells them.

    Example:
        >>> unusable("A", "<DEL>"), unusable("A", "g")
        ('symbolic allele', '')
    """
    return _unusable(_letters(ref), _letters(alt), alt)


def check_reference(variant: Variant, genome: Genome, *, report: Report | None = None, strict: bool = False) -> bool:
    """Whether a variant's reference allele is what the genome has there, in either case of letters.

    An empty allele always matches; one that runs over the chromosome's end never does.

    Args:
        variant: The variant.
        genome: The genome.
        report: A mismatch is counted in it as ``"reference mismatch"``, or ``"reference mismatch, N in the genome"``.
        strict: A mismatch is an error.

    Raises:
        UnknownChromosome: If the genome does not have the chromosome.
        ValueError: If ``strict`` and they differ.
    """
    if not variant.ref:
        return True
    place = Region(variant.chrom, variant.position, variant.end)
    there = genome.text(place).upper()
    if there == variant.ref and genome.overhang(place) == (0, 0):
        return True
    if strict:
        raise ValueError(
            f"The variant {variant} (row {variant.row}) has the reference {_short(variant.ref)} where the genome "
            f"{genome.path.name} has {_short(there)}. Check that both are of one assembly and position 1 is the first, "
            "or do without strict to keep such variants and flag them."
        )
    if report is not None:
        report.flag("reference mismatch" + (", N in the genome" if "N" in there else ""), variant)
    return False


def place(variant: Variant, length: int, *, shift: int = 0) -> Region:
    """The window in which a variant lies in the middle.

    The variant's first position (that of an indel's shared first letter, in VCF) lies ``length // 2`` positions behind
    the window's start, as the centre of :func:`fastism.bed.fit` does.

    Args:
        variant: The variant.
        length: Length of the window in bp.
        shift: Move the window so many bp to the right along the genome, so that the variant lies further left in it.

    Raises:
        ValueError: If the length is below 1.

    Example:
        >>> str(place(Variant("chr1", 1000, "A", "G"), 100)), str(place(Variant("chr1", 1000, "A", "G"), 101, shift=3))
        ('chr1:950-1050', 'chr1:953-1054')
    """
    if isinstance(length, bool) or length < 1:
        raise ValueError(f"length is {length!r}; a number of bp of at least 1 is accepted.")
    start = variant.position - length // 2 + shift
    return Region(variant.chrom, start, start + length, name=variant.id, row=variant.row)


def alleles(variant: Variant, window: Region, genome: Genome, *, side: Side = "right") -> Alleles:
    """The sequences of a window with a variant's reference allele and with its alternative, of the window's length.

    Around the alleles stands the genome; N stands only beyond the chromosome's ends. Where the alleles are not equally
    long, the alternative's sequence takes more of the genome, or less, at one side: all that lies on the other side
    stays at its place.

    The reference's sequence holds the allele that the variant states, even where the genome has another one (a
    reference mismatch), as in selene: the two sequences differ by the variant and nothing else.

    Args:
        variant: The variant.
        window: Where the model looks; if it is on ``"-"``, both sequences are reverse complemented in the end.
        genome: The genome.
        side: The end, along the genome, at which the alternative's sequence is filled up or cut: ``"right"``, as in
            variant-scorer, or ``"left"``.

    Returns:
        The two texts and where the alleles lie in them.

    Raises:
        UnknownChromosome: If the genome does not have the chromosome.
        ValueError: If the window does not hold both alleles whole, or ``side`` is another.
    """
    if genome.resolve(variant.chrom) != genome.resolve(window.chrom):
        raise ValueError(
            f"The variant {variant} is not on the chromosome of the window {window}; the same is accepted."
        )
    if not _fits(variant, window, side):
        raise ValueError(
            f"The variant {variant} (ref {len(variant.ref)} bp, alt {len(variant.alt)} bp) does not lie whole within "
            f"the window {window} of {len(window)} bp when the {side} side gives way; place(variant, length) makes a "
            "window around it, and a longer one holds longer alleles."
        )
    needed = _needed(variant, window, side)
    first = min(needed.start, window.start)
    around = genome.text(Region(window.chrom, first, max(needed.end, window.end))).upper()
    left, right = variant.position - first, variant.end - first
    before, behind = around[:left], around[right:]
    ref = before[window.start - first :] + variant.ref + behind[: window.end - variant.end]
    alt = before[needed.start - first :] + variant.alt + behind[: needed.end - variant.end]
    at, alt_at = variant.position - window.start, variant.position - needed.start
    spans = (at, at + len(variant.ref)), (alt_at, alt_at + len(variant.alt))
    if window.strand == "-":
        turned = [(len(window) - end, len(window) - start) for start, end in spans]
        return Alleles(reverse_complement(ref), reverse_complement(alt), turned[0], turned[1])
    return Alleles(ref, alt, *spans)


def select_variants(
    variants: Iterable[Variant],
    length: int,
    genome: Genome,
    *,
    edge: Edge = "pad",
    side: Side = "right",
    shift: int = 0,
    report: Report | None = None,
    strict: bool = False,
) -> Iterator[tuple[Variant, Region]]:
    """The variants that a model can be asked about, in order, each with its window.

    A reference mismatch is kept and flagged: in ``ref_match``, and in the report. It touches no other variant.

    Args:
        variants: The variants.
        length: The model's length in bp.
        genome: The genome.
        edge: What is done where a window, or what an indel needs besides, hangs over an end of its chromosome:
            ``"pad"`` keeps the variant, to be padded with N, and flags it; ``"drop"`` skips it.
        side, shift: As for :func:`alleles` and :func:`place`.
        report: Counts all variants; the one of the reader or another. With it a variant on an unknown chromosome,
            outside its chromosome, or with an allele too long for the window, is skipped and counted; without it, it is
            an error.
        strict: These are errors even with a report, and so is a reference mismatch.

    Yields:
        (variant, window), with ``variant.ref_match`` set.

    Raises:
        UnknownChromosome: If the genome does not have the chromosome.
        ValueError: As said above, or for other arguments.
    """
    check_edge(edge)
    _check_side(side)
    place(Variant("", 0, "", ""), length)
    return _selected(variants, length, genome, edge, side, shift, report, strict)


def _selected(
    variants: Iterable[Variant],
    length: int,
    genome: Genome,
    edge: Edge,
    side: Side,
    shift: int,
    report: Report | None,
    strict: bool,
) -> Iterator[tuple[Variant, Region]]:
    account = Report() if report is None else report
    stop = strict or report is None
    for seen, variant in enumerate(variants, 1):
        account.at_least(seen)
        window = place(variant, length, shift=shift)
        needed = _needed(variant, window, side)
        try:
            size = genome.length(variant.chrom)
        except UnknownChromosome:
            if stop:
                raise
            account.skip("unknown chromosome", variant)
            continue
        problem = _problem(variant, window, side, size)
        if not problem:
            over = min(window.start, needed.start) < 0 or max(window.end, needed.end) > size
            if over and edge == "drop":
                account.skip("over the chromosome's end", variant)
                continue
            match = check_reference(variant, genome, report=account, strict=strict)
            if over:
                account.flag("padded with N over the chromosome's end", variant)
            yield replace(variant, ref_match=match), window
            continue
        if stop:
            raise ValueError(
                f"The variant {variant} (row {variant.row}) cannot be used: {problem} ({size} bp, window {window}). "
                "Leave it out, or give report=Report() to skip and count such variants."
            )
        account.skip(problem, variant)


def unplaceable(variant: Variant, length: int, genome: Genome, *, side: Side = "right", shift: int = 0) -> str:
    """Why :func:`select_variants` skips a variant, ends of chromosomes being padded, or nothing if it does not.

    Args:
        variant: The variant.
        length: The model's length in bp.
        genome: The genome.
        side, shift: As for :func:`alleles` and :func:`place`.

    Raises:
        ValueError: If the length is below 1, or ``side`` is another.
    """
    window = place(variant, length, shift=shift)
    try:
        size = genome.length(variant.chrom)
    except UnknownChromosome:
        return "unknown chromosome"
    return _problem(variant, window, side, size)


def _problem(variant: Variant, window: Region, side: Side, size: int) -> str:
    if not 0 <= variant.position <= variant.end <= size:
        return "outside the chromosome"
    return "" if _fits(variant, window, side) else "alleles too long for the window"


def _fits(variant: Variant, window: Region, side: Side) -> bool:
    _check_side(side)
    needed = _needed(variant, window, side)
    return (
        window.start <= variant.position
        and variant.end <= window.end
        and needed.start <= variant.position
        and variant.end <= needed.end
    )


def _needed(variant: Variant, window: Region, side: Side) -> Region:
    """The stretch of the genome that the alternative's sequence is made of."""
    more = len(variant.ref) - len(variant.alt)
    if side == "right":
        return replace(window, end=window.end + more)
    return replace(window, start=window.start - more)


def _check_side(side: str) -> None:
    if side not in get_args(Side):
        raise ValueError(f"side is {side!r}; 'left' or 'right' is accepted.")


class _Row(NamedTuple):
    """A row of a file of variants, before its alternatives are told apart."""

    chrom: str
    position: int
    ref: str
    alts: tuple[str, ...]
    id: str


def _variants(rows: Iterator[_Row | None], report: Report) -> Iterator[Variant]:
    """One variant for each alternative that has letters; None stands for a malformed row, which has been counted."""
    for number, row in enumerate(rows):
        if row is None:
            continue
        ref = _letters(row.ref)
        for i, text in enumerate(row.alts or (".",)):
            report.rows += 1
            alt = _letters(text)
            shown = f"{row.chrom}:{row.position + 1}:{_short(row.ref)}>{text}"
            reason = _unusable(ref, alt, text)
            if ref is None or alt is None or reason:
                report.skip(reason, shown)
            else:
                yield Variant(row.chrom, row.position, ref, alt, row.id, number, i)


def _letters(allele: str) -> str | None:
    """An allele in upper case, without letters for ``-``; None if it is no sequence."""
    if allele == "-":
        return ""
    letters = allele.upper().replace("U", "T")
    return letters if _LETTERS.fullmatch(letters) else None


def _unusable(ref: str | None, alt: str | None, text: str) -> str:
    """Why an alternative is skipped, or nothing."""
    if text in (".", ""):
        return "no alternative allele"
    if text == "*":
        return "spanning deletion (*)"
    if "[" in text or "]" in text or text.startswith(".") or text.endswith("."):
        return "breakend"
    if text.startswith("<"):
        return "symbolic allele"
    if ref is None or alt is None:
        return "allele that is no sequence"
    return "alternative that is the reference" if ref == alt else ""


def _vcf_rows(path: str, pysam: Any) -> Iterator[_Row]:
    try:
        with quiet():
            file = pysam.VariantFile(path)
    except (OSError, ValueError) as error:
        if _head(path).startswith(b"#CHROM"):
            raise ValueError(
                f"{path} cannot be read: its first line is #CHROM..., before which a VCF has ##fileformat=VCFv4.2 or "
                "another version. Add that line."
            ) from error
        raise ValueError(f"{path} cannot be read ({error}); VCF, plain or bgzip, and BCF are accepted.") from error
    last = "its header"
    with file:
        while True:
            try:
                with quiet():  # for each row, so that others' messages come through between them
                    record = next(file, None)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{path}: the row behind {last} cannot be read ({error}); rows of 8 columns or more, separated by "
                    "tabs, are accepted: CHROM POS ID REF ALT QUAL FILTER INFO. Is it damaged or truncated?"
                ) from error
            if record is None:
                return
            last = f"{record.chrom}:{record.pos}"
            yield _Row(record.chrom, record.pos - 1, record.ref or "", record.alts or (), record.id or "")


def _table_rows(path: Any, report: Report, strict: bool) -> Iterator[_Row | None]:
    first = True
    for number, line in lines(path):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [column.strip() for column in (line.split("\t") if "\t" in line else line.split())]
        named, first = first and len(columns) > 1 and columns[1].lower() in ("pos", "position"), False
        if named:
            continue
        if len(columns) >= 4 and columns[0] and _NUMBER.fullmatch(columns[1]) and _letters(columns[2]) is not None:
            name = columns[4] if len(columns) > 4 and columns[4] != "." else ""
            yield _Row(columns[0], int(columns[1]) - 1, columns[2], tuple(columns[3].split(",")), name)
        elif strict:
            raise ValueError(
                f"{path}, line {number}: received {columns[:5]!r}; a VCF file, or columns chromosome, position (from "
                "1), ref, alt and a name, separated by tabs, are accepted."
            )
        else:
            report.rows += 1
            report.skip("malformed row", f"line {number}: {line[:60]}")
            yield None


def _head(path: Any) -> bytes:
    """The first bytes of a file, uncompressed."""
    if str(path) == "-" or not Path(path).is_file():
        return b""
    try:
        with open(path, "rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            return (gzip.open(raw) if packed else raw).read(32)
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}). Fetch or compress it again.") from error


def _shared(one: str, other: str) -> int:
    """How many letters two texts share at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _short(allele: str) -> str:
    return (allele if len(allele) <= 20 else f"{allele[:8]}...({len(allele)} bp)") or "-"
