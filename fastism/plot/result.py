"""The logo and heatmap of one sequence of many, found by its number, its name or its place in the genome."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.logo import plot_ism
from fastism.plot.style import Highlight, finite, region_title
from fastism.regions import Region
from fastism.result import ISMScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 100  # positions of the strongest stretch: as many as a page shows with readable letters
PLACE = re.compile(r"(?P<chrom>\S+?):(?P<start>-?[\d,]+)-(?P<end>[\d,]+)(?:\((?P<strand>[+\-.])\))?")


def plot_scores(
    scores: ISMScores,
    which: int | str = 0,
    *,
    target: int | str = 0,
    start: int | None = None,
    end: int | None = None,
    rule: str = "mean4",
    palette: str = "default",
    axes: Sequence[Axes] | None = None,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    limit: float | None = None,
) -> tuple[Axes, Axes]:
    """Draw the logo and heatmap of one sequence of a result.

    Where the differences have no sign (``attributes["signed"]`` is False, as of `jsd`), letters stand upright, as tall
    as their substitutions change the prediction, and the heatmap's colours are one hue from zero on.

    Args:
        scores: the result; only the one sequence is read from disk.
        which: its number, its name, or a place such as `"chr1:1000-1200"` (0-based, half-open): a region of the result
            or a stretch within one, which is then all that is drawn. A number as text is the sequence of that name if
            there is one, else that row.
        target: index or name of the target.
        start, end: the stretch to draw, as positions of the sequence, 0-based and half-open; None for the first and
            last that was mutated.
        rule: how differences become heights, `"mean4"` (as `ISMScores.attributions`) or `"mean3"`.
        palette: colours of the letters, `"default"` or `"colourblind"`.
        axes: two matplotlib axes, for the logo and for the heatmap; None makes a figure for them.
        title: a title over the logo; None writes the sequence's name, its region and the target's name.
        highlight: one or several ranges to bracket, counted like the x axis: in the genome where the result has
            regions, else along the sequence.
        limit: the difference at which the colours end; None takes the largest one drawn.

    Returns:
        The axes of the logo and of the heatmap; `axes[0].figure` is the figure.

    Raises:
        ValueError: if there is no such sequence, target, stretch, rule or palette.
        ImportError: if matplotlib or logomaker is missing.

    Example:
        The second target around a peak::

            logo, heatmap = plot_scores(scores, "chr1:1000-1200", target="K562")
            logo.figure.savefig("peak.png")
    """
    row, left, right = chosen_stretch(scores, which, start, end)
    channel, one = scores.target(target), scores[row : row + 1]
    region = one.regions[0] if one.regions is not None else None
    first = scores.start
    if title is None:
        name, of = (one.names[0] if one.names else ""), scores.targets[channel] * (len(scores.targets) > 1)
        title = region_title(region, before=name, after=of) if region else " · ".join(filter(None, (name, of)))
    return plot_ism(
        np.asarray(one.sequences)[0, left:right],
        np.asarray(one.differences)[0, left - first : right - first, :, channel],
        axes=axes,
        start=left,
        region=region,
        title=title or None,
        highlight=highlight,
        alphabet=scores.alphabet,
        rule=rule,
        palette=palette,
        limit=limit,
        label=_metric(scores.attributes.get("metric")),
        signed=scores.direction > 0,
    )


def chosen_stretch(
    scores: ISMScores, which: int | str, start: int | None, end: int | None, *, name: str = "which"
) -> tuple[int, int, int]:
    """The row, start and end of what to draw, within what was mutated.

    Args:
        scores: the result.
        which, start, end: as for :func:`plot_scores`.
        name: what errors call `which`.

    Raises:
        ValueError: If there is no such sequence or stretch.
    """
    row, stretch = locate(scores, which, name=name)
    first, last = scores.start, scores.start + scores.positions
    left = start if start is not None else max(stretch[0], first) if stretch else first
    right = end if end is not None else min(stretch[1], last) if stretch else last
    if not first <= left < right <= last:
        region = scores.regions[row] if scores.regions is not None else None
        where = f"{first} to {last} of the sequence"
        advice = f"{first} <= start < end <= {last} is accepted"
        if region is not None:
            where += f", {place_of(region, first, last)} in the genome"
            advice += f", or a place within {place_of(region, first, last)} as {name}"
        raise ValueError(f"start={left}, end={right} is no stretch of what was mutated, positions {where}; {advice}.")
    return row, left, right


def strongest_stretch(scores: ISMScores, row: int, target: int | str = 0, *, width: int = WIDTH) -> tuple[int, int]:
    """Where the largest attribution of a sequence is, with what lies around it.

    Args:
        scores: the result; only the one sequence is read.
        row: which sequence.
        target: index or name of the target.
        width: how many positions, fewer where fewer were mutated.

    Returns:
        Start and end, as positions of the sequence.
    """
    heights = np.abs(finite(scores[row : row + 1].attributions(target)[0].sum(axis=-1)))
    width = min(width, len(heights))
    left = min(max(int(heights.argmax()) - width // 2, 0), len(heights) - width)
    return scores.start + left, scores.start + left + width


def place_of(region: Region, start: int, end: int) -> str:
    """The coordinates of a stretch of a sequence, as they can be given for `which`."""
    left = region.end - end if region.strand == "-" else region.start + start
    return f"{region.chrom}:{left}-{left + end - start}"


def locate(scores: ISMScores, which: int | str, *, name: str = "which") -> tuple[int, tuple[int, int] | None]:
    """The row of a sequence, and the stretch of it (start, end) that a place in the genome asks for, if one was given.

    Of several regions that hold a place, that in which most of it was mutated is taken, then the first.

    Raises:
        ValueError: If there is no such sequence, or several have the name.
    """
    count = len(scores)
    if not isinstance(which, str):
        if not -count <= which < count:
            raise ValueError(f"{name} is {which}; the result has {count} sequences, 0 to {count - 1} is accepted.")
        return int(which) % count, None
    regions = list(scores.regions or ())
    for found in (
        [i for i, known in enumerate(scores.names) if known == which],
        [i for i, region in enumerate(regions) if which in (region.name, str(region))],
    ):
        if len(found) > 1:
            raise ValueError(
                f"{name} is {which!r}, the name of {len(found)} sequences: rows {found[:5]}; give the row."
            )
        if found:
            return found[0], None
    if which.isdecimal():
        return locate(scores, int(which), name=name)
    place = PLACE.fullmatch(which)
    if place:
        start, end = (int(place[key].replace(",", "")) for key in ("start", "end"))
        first, last = scores.start, scores.start + scores.positions
        held: list[tuple[int, int, tuple[int, int]]] = []  # minus how much of it was mutated, the row, the stretch
        for i, region in enumerate(regions):
            same = region.chrom == place["chrom"] and place["strand"] in (None, region.strand)
            if same and region.start <= start < end <= region.end:
                left = region.end - end if region.strand == "-" else start - region.start
                right = left + end - start
                held.append((-max(min(right, last) - max(left, first), 0), i, (left, right)))
        if held:
            _, row, stretch = min(held)
            return row, stretch
    known = [*scores.names, *map(str, regions)]
    shown = (
        f" The first are {', '.join(map(repr, known[:3]))}." if known else " This result has no names and no regions."
    )
    raise ValueError(
        f"{name} is {which!r}; a row below {count}, a sequence's name, or a place within one region is accepted.{shown}"
    )


def _metric(name: Any) -> str:
    return "change of the prediction" if name in (None, "subtract") else f"difference ({name})"
