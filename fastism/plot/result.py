"""The logo and heatmap of one sequence of many, found by its number, its name or its place in the genome."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.logo import plot_ism
from fastism.plot.style import Highlight
from fastism.result import ISMScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    row, stretch = locate(scores, which)
    first, last = scores.start, scores.start + scores.positions
    left = start if start is not None else max(stretch[0], first) if stretch else first
    right = end if end is not None else min(stretch[1], last) if stretch else last
    if not first <= left < right <= last:
        raise ValueError(
            f"start={left}, end={right} is no stretch of what was mutated, positions {first} to {last}; "
            f"{first} <= start < end <= {last} is accepted."
        )
    channel, one = scores.target(target), scores[row : row + 1]
    region = one.regions[0] if one.regions is not None else None
    if title is None:
        parts = [
            one.names[0] if one.names else "",
            str(region or ""),
            scores.targets[channel] * (len(scores.targets) > 1),
        ]
        title = " · ".join(dict.fromkeys(part for part in parts if part))
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
    )


def locate(scores: ISMScores, which: int | str) -> tuple[int, tuple[int, int] | None]:
    """The row of a sequence, and the stretch of it (start, end) that a place in the genome asks for, if one was given.

    Raises:
        ValueError: If there is no such sequence, or several have the name.
    """
    count = len(scores)
    if not isinstance(which, str):
        if not -count <= which < count:
            raise ValueError(f"which is {which}; the result has {count} sequences, 0 to {count - 1} is accepted.")
        return int(which) % count, None
    regions = list(scores.regions or ())
    for found in (
        [i for i, name in enumerate(scores.names) if name == which],
        [i for i, region in enumerate(regions) if which in (region.name, str(region))],
    ):
        if len(found) > 1:
            raise ValueError(f"which is {which!r}, the name of {len(found)} sequences: rows {found[:5]}; give the row.")
        if found:
            return found[0], None
    if which.isdecimal():
        return locate(scores, int(which))
    place = PLACE.fullmatch(which)
    if place:
        start, end = (int(place[key].replace(",", "")) for key in ("start", "end"))
        for i, region in enumerate(regions):
            same = region.chrom == place["chrom"] and place["strand"] in (None, region.strand)
            if same and region.start <= start < end <= region.end:
                back = region.strand == "-"
                return i, (region.end - end, region.end - start) if back else (start - region.start, end - region.start)
    known = [*scores.names, *map(str, regions)]
    shown = (
        f" The first are {', '.join(map(repr, known[:3]))}." if known else " This result has no names and no regions."
    )
    raise ValueError(
        f"which is {which!r}; a row below {count}, a sequence's name, or a place within one region is accepted.{shown}"
    )


def _metric(name: Any) -> str:
    return "change of the prediction" if name in (None, "subtract") else f"difference ({name})"
