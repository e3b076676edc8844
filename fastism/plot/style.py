"""What the pictures share: colours, frames, brackets, colour bars, and the import of what they are drawn with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Highlight = tuple[int, int] | tuple[int, int, str]
"""A range `(start, end)` or `(start, end, label)` to bracket: 0-based, half-open, counted like the x axis."""

LETTER_COLOURS = {"A": "#109648", "C": "#255C99", "G": "#F2A516", "T": "#D62839", "U": "#D62839"}
#: Colours of letters by name of the palette; "colourblind" takes those of Wong, Nature Methods 8, 441 (2011).
PALETTES: dict[str, dict[str, str]] = {
    "default": LETTER_COLOURS,
    "colourblind": {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00", "U": "#D55E00"},
}
INK = "#2B2B33"
FAINT = "#B9BCC6"
BAND = "#FFF3D6"
BAR = "#C98500"
UP, DOWN = "#C0392B", "#2166AC"
DIVERGING = "RdBu_r"  # red above zero, blue below; these two are told apart with any kind of colour vision
SEQUENTIAL = "Reds"  # for what has no sign
MAX_LETTERS = 400  # beyond this a letter is too narrow to read: coloured bars stand in for the logo


def palette_colours(palette: str) -> Mapping[str, str]:
    """The letters' colours.

    Raises:
        ValueError: If no palette has that name.
    """
    if palette not in PALETTES:
        raise ValueError(f"palette is {palette!r}; {' or '.join(map(repr, PALETTES))} is accepted.")
    return PALETTES[palette]


def is_letter(sequence: np.ndarray) -> np.ndarray:
    """Where a row is one-hot, its letter: boolean, the shape of the sequence."""
    one_hot = ((sequence == 0) | (sequence == 1)).all(axis=-1) & (sequence.sum(axis=-1) == 1)
    return (sequence == 1) & one_hot[..., None]


def letters_of(sequence: np.ndarray, alphabet: str) -> list[str]:
    """The letters of a sequence (L, A), N where there is none."""
    there = is_letter(sequence)
    return [alphabet[int(row.argmax())] if row.any() else "N" for row in there]


def bracket(axis: Axes, ranges: Sequence[tuple[float, float, str]]) -> None:
    """A pale band behind each range of x, and over it a bracket with its label."""
    across = axis.get_xaxis_transform()  # x in bp, y as a share of the axes' height
    point = 1 / size_in_points(axis)[1]
    low, high = 1 + 2 * point, 1 + 7 * point
    for left, right, label in ranges:
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


def region_title(region: Region, *, before: str = "", after: str = "") -> str:
    """What is drawn, as a title: a name, the place, and what else there is to say; nothing twice."""
    parts = dict.fromkeys((before or region.name, str(region), after))
    return " · ".join(part for part in parts if part)


def put_title(axis: Axes, title: str | None, ranges: Sequence[tuple[float, float, str]] = ()) -> None:
    """A title on the left, above the brackets and their labels."""
    if title:
        pad = 24 if any(text for *_, text in ranges) else 12 if ranges else 6
        axis.set_title(title, loc="left", fontsize=10, color=INK, pad=pad)


def bare(axis: Axes, *, left: bool = False, bottom: bool = False) -> None:
    """Keep only the frame lines and ticks that carry something."""
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(side == "left" and left)
        axis.spines[side].set_color(FAINT)
    axis.tick_params(axis="both", labelsize=8, labelcolor=INK, color=FAINT, length=3, width=0.8)
    axis.tick_params(axis="x", bottom=bottom, labelbottom=bottom)
    if not bottom:
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    if not left:
        axis.tick_params(axis="y", length=0)
        for letter in axis.get_yticklabels():
            letter.set_fontsize(8)


def colour_bar(axis: Axes, image: Any, label: str, *, width: float = 0.011) -> Any:
    """A slim colour bar on the right of the axes, as tall as they are."""
    beside = axis.inset_axes((1 + width, 0, width, 1))
    bar = axis.get_figure().colorbar(image, cax=beside)  # type: ignore[union-attr]
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, colors=INK)
    bar.set_label(label, fontsize=8, color=INK)
    return bar


def finite(values: np.ndarray) -> np.ndarray:
    """The values, with 0 where there is no finite one: what has no height is not drawn."""
    return np.where(np.isfinite(values), values, 0.0)


def colour_scale(end: float, *, signed: bool) -> dict[str, Any]:
    """Two colours about zero, or one from zero on for what has no sign."""
    return {"cmap": DIVERGING, "vmin": -end, "vmax": end} if signed else {"cmap": SEQUENTIAL, "vmin": 0, "vmax": end}


def reach(values: np.ndarray, limit: float | None) -> float:
    """Where colours end: the limit, or the largest finite value; never 0."""
    found = float(np.abs(values, where=np.isfinite(values), out=np.zeros(values.shape)).max(initial=0))
    return (limit if limit is not None else found) or 1.0


def size_in_points(axis: Axes) -> tuple[float, float]:
    """The width and height of axes, in points; before a layout engine has moved them, roughly."""
    box, inches = axis.get_position(), axis.get_figure(root=True).get_size_inches()  # type: ignore[union-attr]
    return 72 * box.width * inches[0], 72 * box.height * inches[1]


def as_ranges(highlight: Highlight | Iterable[Highlight] | None) -> list[tuple[int, int, str]]:
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


def new_figure(width: float, height: float) -> Any:
    """A figure outside pyplot's list of figures: it draws without a display and is freed like any object."""
    return plotting("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def plotting(module: str) -> Any:
    """A module of the `plot` extra, imported when it is needed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"fastism.plot: {module.partition('.')[0]} cannot be imported ({error}). "
            'The pictures need the plot extra: pip install "fastism[plot]".'
        ) from error
