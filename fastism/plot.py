"""Pictures of mutagenesis maps: a sequence logo above a heatmap, and a profile along the sequence.

The functions draw on matplotlib axes that they are given, or on a figure of their own, and hand the axes
back; they never touch pyplot's current figure and need no display. matplotlib and logomaker come with the
`plot` extra and are imported when a function is first called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.scores import importance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Highlight", "importance", "plot_ism", "plot_profile"]

Highlight = tuple[int, int] | tuple[int, int, str]
"""A range `(start, end)` or `(start, end, label)` to bracket: 0-based, half-open, counted like the x axis."""

LETTER_COLOURS = {"A": "#109648", "C": "#255C99", "G": "#F2A516", "T": "#D62839", "U": "#D62839"}
INK = "#2B2B33"
FAINT = "#B9BCC6"
BAND = "#FFF3D6"
BAR = "#C98500"
MAX_LETTERS = 400  # beyond this a letter is too narrow to read: coloured bars stand in for the logo


def plot_ism(
    reference_onehot: Any,
    differences: Any,
    *,
    axes: Sequence[Axes] | None = None,
    start: int = 0,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    alphabet: str = "ACGT",
    limit: float | None = None,
    label: str = "change of the prediction",
) -> tuple[Axes, Axes]:
    """Draw a mutagenesis map: a logo of the importances above a heatmap of the differences.

    The logo's letters are the sequence's own, as tall as their `importance`; a letter that lowers the
    prediction hangs upside down. The heatmap has one row per letter, in the order of the alphabet from the
    top, red where a substitution raises the prediction, blue where it lowers it, white at zero, and a dot on
    the letter that is there.

    Args:
        reference_onehot: the sequence, shape (L, A), one-hot; a row without a letter (an N) gets no dot.
        differences: mutant - reference, shape (L, A), in units of the prediction; zero on the sequence's own
            letters.
        axes: two matplotlib axes, for the logo and for the heatmap; None makes a figure for them.
        start: the position of the first row on the x axis, in bp.
        title: a title over the logo.
        highlight: one or several ranges to bracket over the logo, `(start, end)` or `(start, end, label)`,
            0-based, half-open, counted like the x axis.
        alphabet: the A letters in the order of the columns.
        limit: the difference at which the colours end, in units of the prediction; None takes the largest
            one.
        label: what a difference is, written beside the colour bar.

    Returns:
        The axes of the logo and of the heatmap; `axes[0].figure` is the figure.

    Raises:
        ValueError: if the shapes or the alphabet do not fit together.
        ImportError: if matplotlib or logomaker is missing.

    Example:
        Save the map of the model's first output for the first sequence::

            result = FastISM(model).saturate(x)
            differences = result.mutant - result.reference[:, None, None]
            logo, heatmap = plot_ism(x[0], differences[0, :, :, 0], highlight=(40, 54, "motif"))
            logo.figure.savefig("ism.png")
    """
    sequence = np.asarray(reference_onehot, dtype=np.float64)
    delta = np.asarray(differences, dtype=np.float64)
    if sequence.ndim != 2 or sequence.shape != delta.shape or sequence.shape[1] != len(alphabet):
        raise ValueError(
            f"plot_ism: received a reference of shape {sequence.shape}, differences of shape {delta.shape} "
            f"and the alphabet {alphabet!r}; accepted are two arrays of shape (L, {len(alphabet)}), one "
            "column per letter. Pick one sequence and one output, for instance differences[0, :, :, 0]."
        )
    logo, heatmap = axes if axes is not None else _two_axes(len(sequence))
    ranges = _as_ranges(highlight)
    _draw_logo(logo, sequence, importance(sequence, delta), start, alphabet)
    _draw_heatmap(heatmap, sequence, delta, start, alphabet, limit, label)
    for axis in (logo, heatmap):
        axis.set_xlim(start - 0.5, start + len(sequence) - 0.5)
    _bracket(logo, ranges)
    _title(logo, title, ranges)
    return logo, heatmap


def plot_profile(
    values: Any,
    *,
    ax: Axes | None = None,
    start: int = 0,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    label: str = "importance",
) -> Axes:
    """Draw one value per position as a filled curve, for instance the importances of a long sequence.

    Args:
        values: one value per position, shape (L,), in units of the prediction.
        ax: the matplotlib axes to draw on; None makes a figure for them.
        start: the position of the first value on the x axis, in bp.
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
    heights = np.asarray(values, dtype=np.float64)
    if heights.ndim != 1:
        raise ValueError(
            f"plot_profile: received values of shape {heights.shape}; accepted is one value per position, "
            "shape (L,). Average or pick along the other axes first."
        )
    axis = _figure(figsize=(9, 2), layout="constrained").add_subplot() if ax is None else ax
    positions = start + np.arange(len(heights))
    axis.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    axis.fill_between(positions, heights, 0, color=INK, alpha=0.18, linewidth=0, step="mid", zorder=2)
    axis.plot(positions, heights, color=INK, linewidth=1, drawstyle="steps-mid", zorder=3)
    axis.set_xlim(start - 0.5, start + len(heights) - 0.5)
    axis.set_ylabel(label, fontsize=9, color=INK)
    _bare(axis, left=True, bottom=True)
    ranges = _as_ranges(highlight)
    _bracket(axis, ranges)
    _title(axis, title, ranges)
    return axis


def _draw_logo(axis: Axes, sequence: np.ndarray, scores: np.ndarray, start: int, alphabet: str) -> None:
    """Letters as tall as their importance, or bars where there are too many letters to read."""
    positions = start + np.arange(len(sequence))
    letters = _is_letter(sequence)
    axis.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    if not scores.any():
        pass  # logomaker cannot draw letters without height
    elif len(sequence) <= MAX_LETTERS:
        pandas, logomaker = _plotting("pandas"), _plotting("logomaker")
        table = pandas.DataFrame(np.where(letters, scores[:, None], 0.0), index=positions, columns=list(alphabet))
        colours = {letter: LETTER_COLOURS.get(letter, INK) for letter in alphabet}
        logomaker.Logo(table, ax=axis, color_scheme=colours, show_spines=False, baseline_width=0, zorder=3)
    else:
        for column, letter in enumerate(alphabet):
            own = letters[:, column]
            axis.bar(positions[own], scores[own], width=1, color=LETTER_COLOURS.get(letter, INK), zorder=3)
    top, bottom = max(float(scores.max(initial=0)), 0.0), min(float(scores.min(initial=0)), 0.0)
    room = 0.06 * ((top - bottom) or 1.0)
    axis.set_ylim(bottom - room, top + room)
    axis.set_ylabel("importance", fontsize=9, color=INK)
    _bare(axis, left=True)


def _draw_heatmap(
    axis: Axes,
    sequence: np.ndarray,
    delta: np.ndarray,
    start: int,
    alphabet: str,
    limit: float | None,
    label: str,
) -> None:
    """One row per letter, red and blue about zero, a dot on each letter in place, a colour bar beside."""
    length, size = sequence.shape
    reach = limit if limit is not None else float(np.abs(delta).max(initial=0))
    image = axis.imshow(
        delta.T,
        cmap="RdBu_r",
        vmin=-(reach or 1.0),
        vmax=reach or 1.0,
        aspect="auto",
        interpolation="nearest",
        extent=(start - 0.5, start + length - 0.5, size - 0.5, -0.5),
    )
    position, row = np.nonzero(_is_letter(sequence))
    axis.scatter(start + position, row, s=_dot_area(axis, length, size), color=INK, linewidths=0, gid="reference")
    axis.set_yticks(range(size), list(alphabet))
    for tick, letter in zip(axis.get_yticklabels(), alphabet, strict=True):
        tick.set_color(LETTER_COLOURS.get(letter, INK))
        tick.set_fontweight("bold")
    axis.set_xlabel("position (bp)", fontsize=9, color=INK)
    _bare(axis, bottom=True)
    beside = axis.inset_axes((1.012, 0, 0.011, 1))
    bar = axis.get_figure().colorbar(image, cax=beside)  # type: ignore[union-attr]
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, colors=INK)
    bar.set_label(label, fontsize=8, color=INK)


def _bracket(axis: Axes, ranges: Sequence[tuple[int, int, str]]) -> None:
    """A pale band behind each range, and over it a bracket with its label."""
    across = axis.get_xaxis_transform()  # x in bp, y as a share of the axes' height
    point = 1 / _size_in_points(axis)[1]
    low, high = 1 + 2 * point, 1 + 7 * point
    for start, end, label in ranges:
        left, right = start - 0.5, end - 0.5
        axis.axvspan(left, right, color=BAND, linewidth=0, zorder=0)
        axis.plot(
            [left, left, right, right],
            [low, high, high, low],
            color=BAR,
            linewidth=1.4,
            solid_joinstyle="miter",
            transform=across,
            clip_on=False,
            gid="highlight",
        )
        if label:
            axis.annotate(
                label,
                ((left + right) / 2, high),
                xycoords=across,
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8.5,
                color=BAR,
                fontweight="bold",
                annotation_clip=False,
            )


def _title(axis: Axes, title: str | None, ranges: Sequence[tuple[int, int, str]]) -> None:
    """A title on the left, above the brackets and their labels."""
    if title:
        pad = 24 if any(text for *_, text in ranges) else 12 if ranges else 6
        axis.set_title(title, loc="left", fontsize=10, color=INK, pad=pad)


def _bare(axis: Axes, *, left: bool = False, bottom: bool = False) -> None:
    """Keep only the frame lines and ticks that carry something."""
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(side == "left" and left)
        axis.spines[side].set_color(FAINT)
    axis.tick_params(axis="both", labelsize=8, labelcolor=INK, color=FAINT, length=3, width=0.8)
    axis.tick_params(axis="x", bottom=bottom, labelbottom=bottom)
    if not left:
        axis.tick_params(axis="y", length=0)
        for letter in axis.get_yticklabels():
            letter.set_fontsize(8)


def _dot_area(axis: Axes, length: int, size: int) -> float:
    """The area of a reference dot, in square points: it fits its cell and is never large."""
    wide, tall = _size_in_points(axis)
    return min(0.5 * wide / length, 0.35 * tall / size, 3.2) ** 2


def _size_in_points(axis: Axes) -> tuple[float, float]:
    """The width and height of axes, in points; before a layout engine has moved them, roughly."""
    box, inches = axis.get_position(), axis.get_figure(root=True).get_size_inches()  # type: ignore[union-attr]
    return 72 * box.width * inches[0], 72 * box.height * inches[1]


def _two_axes(length: int) -> tuple[Axes, Axes]:
    """A figure of their own for the logo and the heatmap, wide enough for the letters."""
    figure = _figure(figsize=(min(max(6.0, 0.11 * length), 16.0), 3.2), layout="constrained")
    return tuple(figure.subplots(2, 1, sharex=True, height_ratios=(1.3, 1)))


def _as_ranges(highlight: Highlight | Iterable[Highlight] | None) -> list[tuple[int, int, str]]:
    """One range, several, or none, as a list of (start, end, label)."""
    if highlight is None:
        return []
    given: list[Any] = list(highlight)
    several = given if not given or isinstance(given[0], (tuple, list)) else [tuple(given)]
    ranges = []
    for one in several:
        if len(one) not in (2, 3) or not one[0] < one[1]:
            raise ValueError(
                f"highlight: received {one!r}; accepted are (start, end) and (start, end, label) with start "
                "< end, 0-based and half-open, or a list of them."
            )
        ranges.append((int(one[0]), int(one[1]), str(one[2]) if len(one) == 3 else ""))
    return ranges


def _is_letter(sequence: np.ndarray) -> np.ndarray:
    """Where a row is one-hot, its letter: boolean, the shape of the sequence."""
    one_hot = ((sequence == 0) | (sequence == 1)).all(axis=-1) & (sequence.sum(axis=-1) == 1)
    return (sequence == 1) & one_hot[..., None]


def _figure(**options: Any) -> Any:
    """A figure outside pyplot's list of figures: it draws without a display and is freed like any object."""
    return _plotting("matplotlib.figure").Figure(**options)


def _plotting(module: str) -> Any:
    """A module of the `plot` extra, imported when it is needed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"fastism.plot: {module.partition('.')[0]} cannot be imported ({error}). "
            'The pictures need the plot extra: pip install "fastism[plot]".'
        ) from error
