"""Where in a genome a sequence comes from."""

from __future__ import annotations

from dataclasses import dataclass


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
