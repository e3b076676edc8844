"""The picture that people know: a sequence logo above a heatmap of all substitutions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.ruler import Ruler
from fastism.plot.style import (
    FAINT,
    INK,
    MAX_LETTERS,
    Highlight,
    bare,
    bracket,
    colour_bar,
    colour_scale,
    finite,
    is_letter,
    letters_of,
    new_figure,
    palette_colours,
    plotting,
    put_title,
    reach,
    size_in_points,
)
from fastism.regions import Region
from fastism.scores import attribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_ROOM = 105.0  # points that the logo's label needs in one line


def plot_ism(
    reference_onehot: Any,
    differences: Any,
    *,
    axes: Sequence[Axes] | None = None,
    start: int = 0,
    region: Region | None = None,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
    alphabet: str = "ACGT",
    rule: str = "mean4",
    palette: str = "default",
    limit: float | None = None,
    label: str = "change of the prediction",
    signed: bool = True,
) -> tuple[Axes, Axes]:
    """Draw a mutagenesis map: a logo of the importances above a heatmap of the differences.

    The logo's letters are the sequence's own, as tall as their attribution; a letter that lowers the
    prediction hangs upside down. The heatmap has one row per letter, in the order of the alphabet from the
    top, red where a substitution raises the prediction, blue where it lowers it, white at zero, and a dot on
    the letter that is there. The sequence is written under the heatmap where there is room.

    Args:
        reference_onehot: the sequence, shape (L, A), one-hot; a row without a letter (an N) gets no dot.
        differences: mutant - reference, shape (L, A), in units of the prediction; zero on the sequence's own
            letters. What is not finite is left blank, and so is a letter whose attribution it takes part in.
        axes: two matplotlib axes, for the logo and for the heatmap; None makes a figure for them.
        start: the position of the first row on the x axis, in bp; with a region, how far the first row is
            into it.
        region: where the whole sequence comes from: the x axis then shows the genome's coordinates,
            0-based, running down from left to right on the minus strand.
        title: a title over the logo.
        highlight: one or several ranges to bracket over the logo, `(start, end)` or `(start, end, label)`,
            0-based, half-open, counted like the x axis.
        alphabet: the A letters in the order of the columns.
        rule: how differences become heights, `"mean4"` (-S / A) or `"mean3"` (-S / (A - 1)), see
            `fastism.scores.attribution`.
        palette: colours of the letters, `"default"` or `"colourblind"`; the heatmap's red and blue suit both.
        limit: the difference at which the colours end, in units of the prediction; None takes the largest
            one.
        label: what a difference is, written beside the colour bar.
        signed: whether differences have a sign. False for a metric such as `jsd`, which says how far a substitution
            moves the prediction and not where to: letters then stand upright, as tall as their substitutions matter,
            and the colours are one hue from zero on.

    Returns:
        The axes of the logo and of the heatmap; `axes[0].figure` is the figure.

    Raises:
        ValueError: if the shapes or the alphabet do not fit together, the rows do not lie within the region,
            or the rule or palette is unknown.
        ImportError: if matplotlib or logomaker is missing.

    Example:
        Save the map of the model's first output for the first sequence::

            result = FastISM(model).saturate(x)
            differences = result.mutant - result.reference[:, None, None]
            logo, heatmap = plot_ism(x[0], differences[0, :, :, 0], highlight=(40, 54, "motif"))
            logo.figure.savefig("ism.png")
    """
    sequence, delta = as_pair("plot_ism", reference_onehot, differences, alphabet)
    colours, ruler = palette_colours(palette), Ruler(len(sequence), start, region)
    other = np.where(is_letter(sequence), 0.0, delta)  # whatever stands at the letter in place
    scores = finite(attribution(sequence, other if signed else -other, rule=rule).sum(axis=-1))
    ranges = ruler.ranges(highlight)
    logo, heatmap = axes if axes is not None else two_axes(len(sequence))
    _draw_logo(logo, sequence, scores, ruler, alphabet, colours)
    gap = " " if size_in_points(logo)[1] > LABEL_ROOM else "\n"
    logo.set_ylabel(f"importance{gap}({rule})", fontsize=9, color=INK)
    scale = colour_scale(reach(delta, limit), signed=signed)
    _draw_heatmap(heatmap, sequence, delta, ruler, alphabet, colours, scale, label)
    logo.set_xlim(*ruler.limits)
    bracket(logo, ranges)
    put_title(logo, title, ranges)
    return logo, heatmap


def as_pair(caller: str, reference_onehot: Any, differences: Any, alphabet: str) -> tuple[np.ndarray, np.ndarray]:
    """One sequence and its differences, both (L, A), in float64; NaN for what is not finite.

    Raises:
        ValueError: If the shapes or the alphabet do not fit together.
    """
    sequence = np.asarray(reference_onehot, dtype=np.float64)
    delta = np.asarray(differences, dtype=np.float64)
    if sequence.ndim != 2 or sequence.shape != delta.shape or sequence.shape[1] != len(alphabet):
        raise ValueError(
            f"{caller}: received a reference of shape {sequence.shape}, differences of shape "
            f"{delta.shape} and the alphabet {alphabet!r}; accepted are two arrays of shape (L, {len(alphabet)}), one "
            "column per letter. Pick one sequence and one output, for instance differences[0, :, :, 0]."
        )
    return sequence, np.where(np.isfinite(delta), delta, np.nan)


def two_axes(length: int) -> tuple[Axes, Axes]:
    """A figure of their own for the logo and the heatmap, wide enough for the letters."""
    return tuple(
        new_figure(min(max(6.0, 0.11 * length), 16.0), 3.3).subplots(2, 1, sharex=True, height_ratios=(1.3, 1))
    )


def _draw_logo(
    axis: Axes, sequence: np.ndarray, scores: np.ndarray, ruler: Ruler, alphabet: str, colours: Mapping[str, str]
) -> None:
    """Letters as tall as their importance, or bars where there are too many letters to read."""
    letters, glyphs = is_letter(sequence), []
    axis.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    if not scores.any():
        pass  # logomaker cannot draw letters without height
    elif len(sequence) <= MAX_LETTERS:
        pandas, logomaker = plotting("pandas"), plotting("logomaker")
        table = pandas.DataFrame(np.where(letters, scores[:, None], 0.0), index=ruler.x, columns=list(alphabet))
        scheme = {letter: colours.get(letter, INK) for letter in alphabet}
        logo = logomaker.Logo(table, ax=axis, color_scheme=scheme, show_spines=False, baseline_width=0, zorder=3)
        glyphs = [glyph.patch for glyph in logo.glyph_list if glyph.c == "T" and glyph.patch]
    else:
        for column, letter in enumerate(alphabet):
            own = letters[:, column]
            axis.bar(ruler.x[own], scores[own], width=1, color=colours.get(letter, INK), zorder=3)
    top, bottom = max(float(scores.max(initial=0)), 0.0), min(float(scores.min(initial=0)), 0.0)
    room = 0.06 * ((top - bottom) or 1.0)
    axis.set_ylim(bottom - room, top + room)
    bare(axis, left=True)
    wide, tall = size_in_points(axis)
    _slim(glyphs, 0.4 * wide / len(sequence) / tall * (top - bottom + 2 * room))


def _slim(glyphs: Iterable[Any], most: float) -> None:
    """Give each T a stem as heavy as other letters, and an upper bar that grows so far: a tall one looks like a pin."""
    for patch in glyphs:
        path = patch.get_path()
        corners, drawn = path.vertices, path.codes != path.CLOSEPOLY  # which has a point that means nothing
        x, y = (_levels(corners[drawn, k]) for k in (0, 1))
        if len(x) != 4 or len(y) != 3:  # a font with serifs
            continue
        wide, outer = x[3] - x[0], max(y[0], y[2], key=abs)  # the other end is 0, but for rounding
        for side, level in ((-1, x[1]), (1, x[2])):
            corners[np.abs(corners[:, 0] - level) < 1e-6 * wide, 0] = (x[0] + x[3]) / 2 + side * 0.17 * wide
        if abs(outer - y[1]) > most:
            corners[np.abs(corners[:, 1] - y[1]) < 1e-6 * (y[2] - y[0]), 1] = outer - np.sign(outer) * most


def _levels(values: np.ndarray) -> np.ndarray:
    """What different values there are, up to rounding."""
    found = np.unique(values)
    return found[np.diff(found, prepend=-np.inf) > 1e-6 * np.ptp(found)]


def _draw_heatmap(
    axis: Axes,
    sequence: np.ndarray,
    delta: np.ndarray,
    ruler: Ruler,
    alphabet: str,
    colours: Mapping[str, str],
    scale: Mapping[str, Any],
    label: str,
) -> None:
    """One row per letter, a dot on each letter in place, a colour bar beside."""
    length, size = sequence.shape
    image = axis.imshow(
        delta.T,
        **scale,
        aspect="auto",
        interpolation="nearest",
        extent=(*ruler.limits, size - 0.5, -0.5),
    )
    position, row = np.nonzero(is_letter(sequence))
    axis.scatter(ruler.first + position, row, s=_dot_area(axis, length, size), color=INK, linewidths=0, gid="reference")
    axis.set_yticks(range(size), list(alphabet))
    bare(axis, bottom=True)  # before the letters' own colours, which it would replace
    for tick, letter in zip(axis.get_yticklabels(), alphabet, strict=True):
        tick.set_color(colours.get(letter, INK))
        tick.set_fontweight("bold")
    ruler.mark(axis)
    ruler.letters(axis, letters_of(sequence, alphabet), colours)
    colour_bar(axis, image, label)


def _dot_area(axis: Axes, length: int, size: int) -> float:
    """The area of a reference dot, in square points: it fits its cell and is never large."""
    wide, tall = size_in_points(axis)
    return min(0.5 * wide / length, 0.35 * tall / size, 3.2) ** 2
