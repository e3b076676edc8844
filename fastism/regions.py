"""Where in a genome a sequence comes from, and an account of the rows that were read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Region:
    """A stretch of a chromosome that is, or will be, one input of a model.

    Attributes:
        chrom: Name of the chromosome, as the file of regions spells it.
        start, end: 0-based, half-open. They may hang over the ends of the chromosome; what hangs over is read as N.
        strand: ``"+"``, ``"-"`` or ``"."``; the sequence of a region on ``"-"`` is the reverse complement.
        name: What the file calls it; empty if it has no name.
        row: Which row of the file it was, counted from 0 over regions, not over comments.
        fields: The columns of that row as they were read; empty for a region made otherwise.

    Example:
        >>> region = Region("chr1", 100, 1100, strand="-")
        >>> len(region), str(region)
        (1000, 'chr1:100-1100(-)')
    """

    chrom: str
    start: int
    end: int
    strand: str = "."
    name: str = ""
    row: int = 0
    fields: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}" + (f"({self.strand})" if self.strand != "." else "")


@dataclass
class Report:
    """An account of every row of one stream: how many there were, which were left out and why, which are special.

    Readers and the steps behind them write into the same report, each what it leaves out; what nobody left out was
    kept, so the numbers always add up. It holds a few examples of each reason, never all rows.

    Attributes:
        noun: What the rows are, for :meth:`__str__`.
        rows: Rows so far.
        skipped: For each reason, how many rows were left out.
        flagged: For each remark, how many rows have it; these were kept, unless they are counted as skipped too.
        examples: For each reason and remark, the first few rows.

    Example:
        >>> report = Report("regions", rows=3)
        >>> report.skip("unknown chromosome", "chr7:0-10")
        >>> print(report)
        3 regions: 2 kept, 1 skipped
          skipped, unknown chromosome: 1 (chr7:0-10)
    """

    noun: str = "rows"
    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Rows that nobody left out."""
        return self.rows - sum(self.skipped.values())

    def skip(self, reason: str, row: object = "") -> None:
        """One row is left out for this reason."""
        self._add(self.skipped, reason, row)

    def flag(self, remark: str, row: object = "") -> None:
        """One row is special in this way."""
        self._add(self.flagged, remark, row)

    def at_least(self, rows: int) -> None:
        """So many rows have come by: counts them where no reader has."""
        self.rows = max(self.rows, rows)

    def __str__(self) -> str:
        lines = [f"{self.rows} {self.noun}: {self.kept} kept, {self.rows - self.kept} skipped"]
        for what, counts in (("skipped", self.skipped), ("flagged", self.flagged)):
            for reason, count in counts.items():
                shown = ", ".join(self.examples.get(reason, ()))
                more = ", ..." if count > len(self.examples.get(reason, ())) else ""
                lines.append(f"  {what}, {reason}: {count}" + (f" ({shown}{more})" if shown else ""))
        return "\n".join(lines)

    def _add(self, counts: dict[str, int], reason: str, row: object) -> None:
        counts[reason] = counts.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < 3 and str(row):
            shown.append(str(row))
