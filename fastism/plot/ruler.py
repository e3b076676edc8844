"""Where the positions of a sequence stand on an axis: counted from a start, or as coordinates of a genome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.style import FAINT, INK, Highlight, as_ranges, plotting, size_in_points
from fastism.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER_ROOM = 6.0  # points that a letter under the axis needs


@dataclass(frozen=True)
class Ruler:
    """An axis along `length` positions of a sequence.

    What is drawn at position i stands at `x[i]`, one apart and growing to the right. Without a region that is `start` +
    i; with one on the plus strand, the genome's coordinate; with one on the minus strand minus the coordinate, which is
    then written without the sign, so that labels run down.

    Attributes:
        length: How many positions.
        start: Of the first position: what the axis shows there or, with a region, how far it is into the region.
        region: The region the whole sequence comes from.

    Example:
        >>> Ruler(3, start=10, region=Region("chr1", 100, 200, "-")).coordinates.tolist()
        [189, 188, 187]
    """

    length: int
    start: int = 0
    region: Region | None = None

    def __post_init__(self) -> None:
        if self.region is not None and not 0 <= self.start <= self.start + self.length <= len(self.region):
            raise ValueError(
                f"region {self.region} holds {len(self.region)} positions; {self.length} positions from {self.start} "
                "on do not lie within it. With a region, start counts from its first position as it is read."
            )

    @property
    def minus(self) -> bool:
        """Whether coordinates run down from left to right."""
        return self.region is not None and self.region.strand == "-"

    @property
    def first(self) -> int:
        """The x of the first position."""
        if self.region is None:
            return self.start
        return self.start - self.region.end + 1 if self.minus else self.region.start + self.start

    @property
    def x(self) -> np.ndarray:
        """(L,) where each position stands."""
        return self.first + np.arange(self.length)

    @property
    def coordinates(self) -> np.ndarray:
        """(L,) what the axis says at each position."""
        return -self.x if self.minus else self.x

    @property
    def limits(self) -> tuple[float, float]:
        """The left and right end of the axis."""
        return self.first - 0.5, self.first + self.length - 0.5

    @property
    def label(self) -> str:
        """What the axis counts."""
        if self.region is None:
            return "position (bp)"
        return f"{self.region.chrom} (bp{', minus strand' if self.minus else ''})"

    def ranges(self, highlight: Highlight | Iterable[Highlight] | None) -> list[tuple[float, float, str]]:
        """Highlights, given in what the axis says, as edges on x."""
        found = as_ranges(highlight)
        if self.minus:
            return [(0.5 - end, 0.5 - start, text) for start, end, text in found]
        return [(start - 0.5, end - 0.5, text) for start, end, text in found]

    def mark(self, axis: Axes, *, along: str = "x", label: str | None = None) -> None:
        """Set the ends, the ticks at round coordinates and the label of an axis."""
        ticker = plotting("matplotlib.ticker")
        one: Any = axis.xaxis if along == "x" else axis.yaxis
        wide, tall = size_in_points(axis)
        widest = max(len(f"{abs(int(c)):,}") for c in (self.first, self.first + self.length))
        bins = wide / (5.2 * widest + 18) if along == "x" else tall / 24
        one.set_major_locator(ticker.MaxNLocator(nbins=max(2, min(int(bins), 10)), integer=True, steps=[1, 2, 5, 10]))
        sign = -1 if self.minus else 1
        one.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{sign * round(x):,}"))
        one.set_label_text(self.label if label is None else label, fontsize=9, color=INK)
        (axis.set_xlim if along == "x" else axis.set_ylim)(*self.limits)

    def letters(self, axis: Axes, letters: Sequence[str], colours: Mapping[str, str]) -> bool:
        """Write the sequence under the axis, between it and the coordinates, if there is room for each letter."""
        if size_in_points(axis)[0] < LETTER_ROOM * self.length:
            return False
        axis.xaxis.remove_overlapping_locs = False  # a letter stands where a coordinate's tick is, too
        axis.set_xticks(self.x, list(letters), minor=True)
        axis.tick_params(axis="x", which="minor", length=0, pad=2, labelsize=7)
        axis.tick_params(axis="x", which="major", length=0, pad=11)
        for tick, letter in zip(axis.get_xticklabels(minor=True), letters, strict=True):
            tick.set_color(colours.get(letter, FAINT if letter == "N" else INK))
            tick.set_fontweight("bold")
        return True
