"""Maps of one position against another: how pairs of substitutions interact, and what depends on what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.ruler import Ruler
from fastism.plot.style import FAINT, INK, bare, colour_bar, colour_scale, new_figure, palette_colours, put_title, reach
from fastism.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REDUCTIONS = ("strongest", "mean", "norm")
LAYOUTS = ("triangle", "square")


def plot_pairs(
    positions: Sequence[int] | np.ndarray,
    interaction: Any,
    *,
    ax: Axes | None = None,
    region: Region | None = None,
    sequence: str = "",
    reduce: str = "strongest",
    layout: str = "triangle",
    palette: str = "default",
    title: str | None = None,
    limit: float | None = None,
    label: str = "interaction",
) -> Axes:
    """Draw how pairs of substitutions interact: what both do together beyond the sum of what each does alone.

    The interaction of a pair is d_ij - d_i - d_j: 0 where the two act independently, of the effect's opposite sign
    where one makes the other superfluous.

    Args:
        positions: the P positions, ascending, as the axis shall name them; with a region, how far they are into it.
        interaction: the terms, shape (P, P), or (P, A, P, A) for letter a at position i and letter b at j, as
            `fastism.pairs.Pairs` has them for each sequence and output, with zeros
            (or NaN) at the letters that are there. NaN for pairs that were not made. It may be filled on one side of
            the diagonal or on both.
        ax: the matplotlib axes to draw on; None makes a figure for them.
        region: where the whole sequence comes from: the axis then shows the genome's coordinates.
        sequence: the P letters at the positions, to write beside them; empty for none.
        reduce: from all letters of a pair to one number: the `"strongest"` term with its sign, the `"mean"` over the
            (A - 1)² pairs of substitutions, or the `"norm"`, the root of the sum of squares,
            which has no sign and is drawn in one colour.
        layout: `"triangle"`, standing on its long side so that a pair is the tip over both positions, or `"square"`.
        palette: colours of the letters, `"default"` or `"colourblind"`.
        title: a title over the map.
        limit: the interaction at which the colours end; None takes the largest one.
        label: what is shown, written beside the colour bar.

    Returns:
        The axes; `ax.figure` is the figure.

    Raises:
        ValueError: if shapes do not fit together, the positions do not lie within the region, or an option is unknown.
        ImportError: if matplotlib is missing.

    Example:
        Two positions that only matter together::

            ax = plot_pairs([40, 41], [[0.0, 2.5], [2.5, 0.0]])
            ax.figure.savefig("pairs.png")
    """
    places = np.asarray(positions)
    values = _reduced("plot_pairs", np.asarray(interaction, dtype=np.float64), reduce, letters=(1, 3))
    colours = palette_colours(palette)
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; {' or '.join(map(repr, LAYOUTS))} is accepted.")
    if places.ndim != 1 or values.shape != (len(places),) * 2 or (sequence and len(sequence) != len(places)):
        raise ValueError(
            f"plot_pairs: received {places.size} positions, interactions of shape {np.shape(interaction)} and "
            f"{len(sequence)} letters; accepted are P positions, (P, P) or (P, A, P, A), and P letters or none."
        )
    named = "position (bp)"
    if region is not None and places.size:
        ruler = Ruler(int(places[-1] - places[0]) + 1, int(places[0]), region)
        places, named = ruler.coordinates[places - places[0]], ruler.label
    upper = np.where(np.isnan(values) | (values == 0), values.T, values)  # whichever side of the diagonal is filled
    upper[np.diag_indices(len(places))] = np.nan
    end = reach(upper, limit)
    size = (8.0, 4.6) if layout == "triangle" else (5.4, 4.8)
    axis = new_figure(*size).add_subplot() if ax is None else ax
    image = (_triangle if layout == "triangle" else _square)(axis, upper, **colour_scale(end, signed=reduce != "norm"))
    _name_places(axis, places, sequence, colours, square=layout == "square")
    axis.set_xlabel(named, fontsize=9, color=INK)
    colour_bar(axis, image, label, width=0.011 if layout == "triangle" else 0.025)
    put_title(axis, title)
    return axis


def plot_dependency(
    effects: Any,
    *,
    ax: Axes | None = None,
    start: int = 0,
    output_start: int = 0,
    region: Region | None = None,
    reduce: str = "strongest",
    title: str | None = None,
    limit: float | None = None,
    label: str = "change of the output",
) -> Axes:
    """Draw which output positions depend on which input positions, for models that predict a profile.

    The dashed line runs where the output position is the mutated position itself: what lies beside it reaches from one
    position to another. It is left out where no position is among both.

    Args:
        effects: mutant - reference at every output position, shape (P, O) for P mutated and O output positions, or (P,
            A, O) for each letter, zero at the letters that are there.
        ax: the matplotlib axes to draw on; None makes a figure for them.
        start: the first mutated position, on the y axis; with a region, how far it is into it.
        output_start: the first output position, on the x axis, counted likewise.
        region: where the whole sequence comes from: both axes then show the genome's coordinates.
        reduce: from all letters of a position to one number, as in `plot_pairs`; the mean is over A - 1.
        title: a title over the map.
        limit: the effect at which the colours end; None takes the largest one.
        label: what is shown, written beside the colour bar.

    Returns:
        The axes; `ax.figure` is the figure.

    Raises:
        ValueError: if the shape is another or an option is unknown.
        ImportError: if matplotlib is missing.

    Example:
        100 mutated positions in the middle of 1000 outputs::

            ax = plot_dependency(effects, start=1007, output_start=557)
            ax.figure.savefig("dependency.png")
    """
    given = np.asarray(effects, dtype=np.float64)
    values = _reduced("plot_dependency", given, reduce, letters=(1,))
    rows, columns = Ruler(values.shape[0], start, region), Ruler(values.shape[1], output_start, region)
    axis = new_figure(8.0, 4.2).add_subplot() if ax is None else ax
    end = reach(values, limit)
    image = axis.imshow(
        np.ma.masked_invalid(values),
        **colour_scale(end, signed=reduce != "norm"),
        aspect="auto",
        interpolation="nearest",
        extent=(*columns.limits, *rows.limits),
        origin="lower",
    )
    low, high = max(rows.limits[0], columns.limits[0]), min(rows.limits[1], columns.limits[1])
    if low < high:  # where a position is read above where it is written
        axis.plot([low, high], [low, high], color=FAINT, linewidth=0.8, dashes=(3, 3), gid="diagonal")
    bare(axis, left=True, bottom=True)
    columns.mark(axis, label=f"output position, {columns.label}" if region else "output position (bp)")
    rows.mark(axis, along="y", label="mutated position" + ("" if region else " (bp)"))
    colour_bar(axis, image, label)
    put_title(axis, title)
    return axis


def _reduced(caller: str, values: np.ndarray, reduce: str, *, letters: tuple[int, ...]) -> np.ndarray:
    """Values with the axes of letters, where they have them, brought to one number; NaN where there was none."""
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce is {reduce!r}; {', '.join(map(repr, REDUCTIONS))} are accepted.")
    if values.ndim == 2:
        return values
    if values.ndim != 2 + len(letters):
        raise ValueError(
            f"{caller}: received values of shape {values.shape}; accepted are 2 axes of positions, and "
            f"{len(letters)} of letters as axis {' and '.join(map(str, letters))} or none."
        )
    flat = np.moveaxis(values, letters, range(-len(letters), 0))
    size = flat.shape[-1]
    flat = flat.reshape(*flat.shape[:2], -1)
    none = np.isnan(flat).all(axis=-1)
    flat = np.nan_to_num(flat, nan=0.0)
    if reduce == "strongest":
        found = np.take_along_axis(flat, np.abs(flat).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    elif reduce == "mean":
        found = flat.sum(axis=-1) / (size - 1) ** len(letters)
    else:
        found = np.sqrt((flat**2).sum(axis=-1))
    return np.where(none, np.nan, found)


def _triangle(axis: Axes, values: np.ndarray, **colours: Any) -> Any:
    """The upper half, turned so that pair (i, j) stands over (i + j) / 2, as high as the two are apart."""
    size = len(values)
    corner = np.arange(size + 1) - 0.5
    first, second = np.meshgrid(corner, corner, indexing="ij")
    shown = np.ma.masked_invalid(np.where(np.tri(size, k=0, dtype=bool), np.nan, values))
    mesh = axis.pcolormesh((first + second) / 2, second - first, shown, **colours)
    ends = [-0.5, (size - 1) / 2, size - 0.5]  # along the outer corners of the cells
    axis.plot(ends, [0, size, 0], color=FAINT, linewidth=0.6, clip_on=False, gid="edge")
    axis.set_xlim(-0.7, size - 0.3)
    axis.set_ylim(0, size)
    return mesh


def _square(axis: Axes, values: np.ndarray, **colours: Any) -> Any:
    return axis.imshow(np.ma.masked_invalid(values), interpolation="nearest", aspect="equal", **colours)


def _name_places(axis: Axes, places: np.ndarray, sequence: str, colours: Any, *, square: bool) -> None:
    """Positions along the axes at a readable distance, and the letters that stand there."""
    bare(axis, left=False, bottom=True)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if len(places) / s <= 12)
    shown = [i for i, place in enumerate(places) if place % step == 0] or [0]
    labels = [f"{places[i]:,}" for i in shown]
    axis.set_xticks(shown, labels)
    if square:
        axis.set_yticks(shown, labels, fontsize=8)
    else:
        axis.set_yticks([])
    if sequence and len(sequence) <= 80:
        Ruler(len(sequence)).letters(axis, sequence, colours)
