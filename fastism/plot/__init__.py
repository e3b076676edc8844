"""Pictures of mutagenesis: logos, heatmaps, dots, profiles, maps of pairs and of dependencies, comparisons.

The functions draw on matplotlib axes that they are given, or on a figure of their own, and hand the axes
back; they never touch pyplot's current figure and need no display. matplotlib and logomaker come with the
`plot` extra and are imported when a function is first called.

Positions on an x axis are 0-based. With a `region` they are the genome's, and run down from left to right where the
region is on the minus strand, so that the sequence always reads from left to right.
"""

from fastism.plot.comparison import plot_comparison
from fastism.plot.logo import plot_ism
from fastism.plot.maps import plot_dependency, plot_pairs
from fastism.plot.result import plot_scores
from fastism.plot.style import INK as INK
from fastism.plot.style import LETTER_COLOURS, MAX_LETTERS, PALETTES, Highlight
from fastism.plot.style import plotting as _plotting  # noqa: F401  (for the demo, which draws with it, too)
from fastism.plot.tracks import plot_profile, plot_profiles, plot_substitutions
from fastism.scores import importance

__all__ = [
    "LETTER_COLOURS",
    "MAX_LETTERS",
    "PALETTES",
    "Highlight",
    "importance",
    "plot_comparison",
    "plot_dependency",
    "plot_ism",
    "plot_pairs",
    "plot_profile",
    "plot_profiles",
    "plot_scores",
    "plot_substitutions",
]
