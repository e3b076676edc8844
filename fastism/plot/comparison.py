"""Two runs side by side: do two models, two settings or two folds tell the same story?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism.plot.ruler import Ruler
from fastism.plot.style import (
    DOWN,
    FAINT,
    INK,
    Highlight,
    bare,
    bracket,
    finite,
    is_letter,
    new_figure,
    put_title,
)
from fastism.result import ISMScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DOTS = 20_000  # more of them make a file large and the picture no clearer


def plot_comparison(
    scores_a: ISMScores,
    scores_b: ISMScores,
    *,
    which: int | str = 0,
    target: int | str = 0,
    rule: str = "mean4",
    names: tuple[str, str] = ("A", "B"),
    axes: Sequence[Axes] | None = None,
    title: str | None = None,
    highlight: Highlight | Iterable[Highlight] | None = None,
) -> tuple[Axes, Axes, Axes]:
    """Compare two results of the same sequences: all substitutions against each other, and one sequence's attributions.

    The correlation is Pearson's, over every substitution of every sequence, also where the dots are a part of them
    only; both results are read a batch at a time. Where one has other units than the other, it does not change.

    Args:
        scores_a, scores_b: the results, over the same sequences and positions.
        which: the sequence whose attributions are drawn: its number, name or place, as in `plot_scores`.
        target: index or name of the target, in both.
        rule: how differences become attributions, `"mean4"` or `"mean3"`.
        names: what to call the two.
        axes: three matplotlib axes, for the scatter and for the two tracks; None makes a figure for them.
        title: a title over the first track.
        highlight: one or several ranges to bracket over the first track, as in `plot_scores`.

    Returns:
        The axes of the scatter, of the first and of the second track; `axes[0].figure` is the figure.

    Raises:
        ValueError: if the two have other sequences or positions, or there is no such sequence, target or rule.
        ImportError: if matplotlib is missing.

    Example:
        Two folds of a model::

            scatter, first, second = plot_comparison(fold_0, fold_1, names=("fold 0", "fold 1"))
            scatter.figure.savefig("folds.png")
    """
    from fastism.plot.result import locate

    _check_alike(scores_a, scores_b)
    row, _ = locate(scores_a, which)
    dots, correlation, count = _substitutions(scores_a, scores_b, target)
    one_a, one_b = (scores[row : row + 1] for scores in (scores_a, scores_b))
    tracks = [finite(one.attributions(target, rule=rule)[0].sum(-1)) for one in (one_a, one_b)]
    region = one_a.regions[0] if one_a.regions is not None else None
    ruler = Ruler(scores_a.positions, scores_a.start, region)
    ranges = ruler.ranges(highlight)
    scatter, first, second = axes if axes is not None else _three_axes()
    _draw_scatter(scatter, dots, correlation, count, names)
    for axis, values, name in ((first, tracks[0], names[0]), (second, tracks[1], names[1])):
        axis.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
        axis.fill_between(ruler.x, values, 0, color=DOWN, alpha=0.85, linewidth=0, step="mid", zorder=2, gid="track")
        axis.set_ylabel(name, fontsize=9, color=INK)
        axis.set_xlim(*ruler.limits)
        bare(axis, left=True, bottom=axis is second)
    ruler.mark(second)
    bracket(first, ranges)
    put_title(first, title if title is not None else f"attributions ({rule})", ranges)
    return scatter, first, second


def _check_alike(a: ISMScores, b: ISMScores) -> None:
    if (a.sequences.shape, a.positions, a.start) != (b.sequences.shape, b.positions, b.start):
        raise ValueError(
            f"plot_comparison: the first result has sequences {a.sequences.shape} mutated from {a.start} to "
            f"{a.start + a.positions}, the second {b.sequences.shape} from {b.start} to {b.start + b.positions}; two "
            "results of the same sequences and positions are accepted."
        )


def _substitutions(a: ISMScores, b: ISMScores, target: int | str) -> tuple[np.ndarray, float, int]:
    """Dots (M, 2) spread evenly over all substitutions, the correlation over all of them, and how many there are.

    Substitutions without a finite number in both do not count.
    """
    channels = a.target(target), b.target(target)
    every = max(1, -(-len(a) * a.positions * (len(a.alphabet) - 1) // MAX_DOTS))
    dots, count, sums, products = [], 0, np.zeros(2), np.zeros((2, 2))
    for one, other in zip(a.batches(), b.batches(), strict=True):
        if not np.array_equal(one.mutated, other.mutated):
            raise ValueError(
                "plot_comparison: the two results hold different sequences; bring them into one order first."
            )
        changed = ~is_letter(one.mutated)
        both = np.stack(
            [
                np.asarray(s.differences[..., c], np.float64)[changed]
                for s, c in zip((one, other), channels, strict=True)
            ]
        )
        both = both[:, np.isfinite(both).all(axis=0)]
        dots.append(both[:, -count % every :: every])
        count, sums, products = count + both.shape[1], sums + both.sum(1), products + both @ both.T
    spread = products - np.outer(sums, sums) / max(count, 1)
    scale = float(np.sqrt(spread[0, 0] * spread[1, 1]))
    return np.concatenate(dots, axis=1).T, float(spread[0, 1] / scale) if scale > 0 else float("nan"), count


def _draw_scatter(axis: Axes, dots: np.ndarray, correlation: float, count: int, names: tuple[str, str]) -> None:
    low, high = float(dots.min(initial=0)), float(dots.max(initial=0))
    room = 0.05 * ((high - low) or 1.0)
    ends = (low - room, high + room)
    axis.plot(ends, ends, color=FAINT, linewidth=0.8, dashes=(3, 3), zorder=1, gid="diagonal")
    faint = 0.55 if len(dots) < 2000 else 0.25
    axis.scatter(*dots.T, s=5, color=DOWN, alpha=faint, linewidths=0, zorder=2, gid="substitutions", rasterized=True)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    axis.set_xlabel(f"difference, {names[0]}", fontsize=9, color=INK)
    axis.set_ylabel(f"difference, {names[1]}", fontsize=9, color=INK)
    bare(axis, left=True, bottom=True)
    axis.spines["bottom"].set_visible(True)
    shown = "" if len(dots) == count else f"\n{len(dots):,} shown"
    axis.text(
        0.04,
        0.96,
        f"r = {correlation:.3f}\n{count:,} substitutions{shown}",
        transform=axis.transAxes,
        ha="left",
        va="top",
        fontsize=8.5,
        color=INK,
        linespacing=1.5,
    )


def _three_axes() -> tuple[Axes, Axes, Axes]:
    """A square for the scatter on the left, two tracks of one scale on the right."""
    figure: Any = new_figure(11, 3.4)
    found = figure.subplot_mosaic([["scatter", "a"], ["scatter", "b"]], width_ratios=(1, 2.2))
    found["b"].sharex(found["a"])
    return found["scatter"], found["a"], found["b"]
