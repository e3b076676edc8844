"""Pictures along a sequence: dots of substitutions, one value per position, and two profiles of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.logo import as_pair
from fastism.plot.ruler import Ruler
from fastism.plot.style import (
    BAND,
    DOWN,
    FAINT,
    INK,
    UP,
    Highlight,
    bare,
    bracket,
    finite,
    is_letter,
    letters_of,
    new_figure,
    palette_colours,
    put_title,
    region_title,
    size_in_points,
)
from fastism.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_substitutions(
    reference_onehot: Any,
    differences: Any,
    *,
    ax: Axes | None = None,
    start: int = 0,
    region: Region | None = None,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    alphabet: str = "ACGT",
    palette: str = "default",
    label: str = "change of the prediction",
) -> Axes:
    """Draw each substitution as a dot in the colour of its letter, as high as what it does to the prediction.

    Where a heatmap shows the pattern, this shows the amounts: which substitution of a position is the
    strongest, and whether the three agree.

    Args:
        reference_onehot: the sequence, shape (L, A), one-hot; at a row without a letter (an N) all A letters
            are substitutions.
        differences: mutant - reference, shape (L, A), in units of the prediction. What stands at the
            sequence's own letters is not drawn.
        ax: the matplotlib axes to draw on; None makes a figure for them.
        start, region: what the x axis shows, as in `plot_ism`.
        title: a title over the dots; None writes the region, if there is one, and its name, as `plot_scores` does.
        highlight: one or several ranges to bracket, as in `plot_ism`.
        alphabet: the A letters in the order of the columns.
        palette: colours of the letters, `"default"` or `"colourblind"`.
        label: what a difference is, written along the y axis.

    Returns:
        The axes; `ax.figure` is the figure.

    Raises:
        ValueError: if the shapes or the alphabet do not fit together, or the palette is unknown.
        ImportError: if matplotlib is missing.

    Example:
        The substitutions in a motif::

            ax = plot_substitutions(x[0, 40:54], differences[0, 40:54, :, 0], start=40)
            ax.figure.savefig("substitutions.png")
    """
    sequence, delta = as_pair("plot_substitutions", reference_onehot, differences, alphabet)
    colours, ruler = palette_colours(palette), Ruler(len(sequence), start, region)
    ranges = ruler.ranges(highlight)
    axis = new_figure(min(max(6.0, 0.11 * len(sequence)), 16.0), 2.6).add_subplot() if ax is None else ax
    other = np.where(is_letter(sequence), 0.0, delta)
    axis.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    other = finite(other)
    axis.vlines(ruler.x, other.min(axis=1), other.max(axis=1), color=FAINT, linewidth=0.9, zorder=2, gid="stems")
    dot = min(max(0.55 * size_in_points(axis)[0] / len(sequence), 1.2), 4.6) ** 2  # square points
    for column, letter in enumerate(alphabet):
        changed = ~is_letter(sequence)[:, column]
        axis.scatter(
            ruler.x[changed],
            delta[changed, column],
            s=dot,
            color=colours.get(letter, INK),
            edgecolor="white",
            linewidths=0.4 if dot > 6 else 0,
            label=letter,
            gid=f"to {letter}",
            zorder=3,
        )
    axis.set_ylabel(label, fontsize=9, color=INK)
    bare(axis, left=True, bottom=True)
    ruler.mark(axis)
    ruler.letters(axis, letters_of(sequence, alphabet), colours)
    _legend_above(axis, 5.5 / dot**0.5)
    bracket(axis, ranges)
    if title is None and region is not None:
        title = region_title(region)
    put_title(axis, title, ranges)
    return axis


def plot_profile(
    values: Any,
    *,
    ax: Axes | None = None,
    start: int = 0,
    region: Region | None = None,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    label: str = "importance",
) -> Axes:
    """Draw one value per position as a filled curve, for instance the importances of a long sequence.

    Args:
        values: one value per position, shape (L,), in units of the prediction.
        ax: the matplotlib axes to draw on; None makes a figure for them.
        start: the position of the first value on the x axis, in bp; with a region, how far it is into it.
        region: where the whole sequence comes from, as in `plot_ism`.
        title: a title over the curve.
        highlight: one or several ranges to bracket, as in `plot_ism`.
        label: what a value is, written along the y axis.

    Returns:
        The axes; `ax.figure` is the figure.

    Raises:
        ValueError: if `values` has not one axis.
        ImportError: if matplotlib is missing.

    Example:
        The mean importance of many sequences::

            ax = plot_profile(importance(x, differences).mean(axis=0), label="mean importance")
            ax.figure.savefig("profile.png")
    """
    heights = _one_axis("plot_profile", "values", values)
    ruler = Ruler(len(heights), start, region)
    ranges = ruler.ranges(highlight)
    axis = new_figure(9, 2).add_subplot() if ax is None else ax
    axis.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    axis.fill_between(ruler.x, heights, 0, color=INK, alpha=0.18, linewidth=0, step="mid", zorder=2)
    axis.plot(ruler.x, heights, color=INK, linewidth=1, drawstyle="steps-mid", zorder=3)
    axis.set_ylabel(label, fontsize=9, color=INK)
    bare(axis, left=True, bottom=True)
    ruler.mark(axis, label=None if region is not None else "")
    bracket(axis, ranges)
    put_title(axis, title, ranges)
    return axis


def plot_profiles(
    reference: Any,
    alternative: Any,
    *,
    axes: Sequence[Axes] | None = None,
    start: int = 0,
    region: Region | None = None,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    names: tuple[str, str] = ("reference", "alternative"),
    label: str = "predicted signal",
) -> tuple[Axes, Axes]:
    """Draw the profiles that a model predicts for two alleles over each other, and their difference below.

    Args:
        reference: the profile of the sequence as it is, shape (O,), O output positions; a gap where it is not finite.
        alternative: the profile of the mutant, shape (O,), in the same units.
        axes: two matplotlib axes, for the profiles and for the difference; None makes a figure for them.
        start, region: what the x axis shows, as in `plot_ism`; with a region, `start` is how far the first
            output position is into it, such as 557 for 1000 outputs in the middle of 2114 bp.
        title: a title over the profiles.
        highlight: one or several ranges to bracket, as in `plot_ism`, for instance the variant.
        names: what to call the two.
        label: what a profile is, written along the y axis.

    Returns:
        The axes of the profiles and of the difference; `axes[0].figure` is the figure.

    Raises:
        ValueError: if the profiles have not one axis and one length.
        ImportError: if matplotlib is missing.

    Example:
        A variant at position 1000 of a sequence::

            top, below = plot_profiles(before, after, start=557, highlight=(1000, 1001, "C>T"))
            top.figure.savefig("variant.png")
    """
    before = _one_axis("plot_profiles", "reference", reference)
    after = _one_axis("plot_profiles", "alternative", alternative)
    if before.shape != after.shape:
        raise ValueError(
            f"plot_profiles: received profiles of {len(before)} and {len(after)} positions; accepted are two of one "
            "length. An allele that changes the length needs its profile aligned first."
        )
    ruler = Ruler(len(before), start, region)
    ranges = ruler.ranges(highlight)
    top, below = axes if axes is not None else new_figure(9, 3.6).subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
    top.fill_between(ruler.x, before, 0, color=INK, alpha=0.16, linewidth=0, step="mid", zorder=2)
    style: dict[str, Any] = {"drawstyle": "steps-mid", "zorder": 3}
    top.plot(ruler.x, before, color="#6B6F7B", linewidth=1.1, label=names[0], gid="reference", **style)
    top.plot(ruler.x, after, color=UP, linewidth=1.1, label=names[1], gid="alternative", **style)
    change = after - before
    for sign, colour in ((1, UP), (-1, DOWN)):
        part = np.maximum(sign * change, 0) * sign
        below.fill_between(ruler.x, part, 0, color=colour, alpha=0.75, linewidth=0, step="mid", zorder=2)
    below.axhline(0, color=FAINT, linewidth=0.8, zorder=3)
    largest = float(np.abs(finite(change)).max(initial=0)) or 1.0
    below.set_ylim(-1.08 * largest, 1.08 * largest)
    top.set_ylabel(label, fontsize=9, color=INK)
    below.set_ylabel("difference", fontsize=9, color=INK)
    if not (before < 0).any() and not (after < 0).any():
        top.set_ylim(bottom=0)
    bare(top, left=True)
    bare(below, left=True, bottom=True)
    top.set_xlim(*ruler.limits)
    ruler.mark(below)
    _legend_above(top)
    for left, right, _ in ranges:
        below.axvspan(left, right, color=BAND, linewidth=0, zorder=0)
    bracket(top, ranges)
    put_title(top, title, ranges)
    return top, below


def _legend_above(axis: Axes, marker: float = 1.0) -> None:
    """A legend in one row, at the right end above the axes, where titles do not reach."""
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(labels),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        markerscale=marker,
        handletextpad=0.4,
        columnspacing=1.1,
        borderaxespad=0.1,
        handlelength=1.2,
    )


def _one_axis(caller: str, name: str, values: Any) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise ValueError(
            f"{caller}: received {name} of shape {found.shape}; accepted is one value per position, "
            "shape (L,). Average or pick along the other axes first."
        )
    return np.where(np.isfinite(found), found, np.nan)  # matplotlib leaves gaps at NaN
