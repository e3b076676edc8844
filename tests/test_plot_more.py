"""Pictures beyond the logo: dots, profiles, pairs, dependencies, results, comparisons; checked on the axes."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("logomaker")

from matplotlib.figure import Figure
from planted import MOTIF, distances, motif_start, planted_scores

from fastism.plot import (
    PALETTES,
    plot_comparison,
    plot_dependency,
    plot_ism,
    plot_pairs,
    plot_profile,
    plot_profiles,
    plot_scores,
    plot_substitutions,
)
from fastism.plot.result import locate, strongest_stretch
from fastism.regions import Region


def gid(artists, name: str) -> list:
    return [artist for artist in artists if artist.get_gid() == name]


@pytest.fixture(scope="module")
def scores():
    return planted_scores(6, 120, margin=10)


# ---- substitutions


def test_each_substitution_is_a_dot_of_its_letter_at_its_difference():
    from matplotlib.colors import to_hex

    sequence = np.eye(4)[[0, 2, 3]]
    sequence[1] = 0  # an N: all four are substitutions
    differences = np.array([[9.0, 1, 2, 3], [4, 5, 6, 7], [-1, -2, -3, 9]])  # 9 at the own letters is not drawn
    axis = plot_substitutions(sequence, differences, start=50, palette="colourblind")
    found = {letter: gid(axis.collections, f"to {letter}")[0] for letter in "ACGT"}
    dots = {letter: sorted(map(tuple, np.asarray(item.get_offsets()))) for letter, item in found.items()}
    assert dots["A"] == [(51, 4), (52, -1)]
    assert dots["C"] == [(50, 1), (51, 5), (52, -2)]
    assert dots["T"] == [(50, 3), (51, 7)]
    assert to_hex(found["A"].get_facecolor()[0]) == PALETTES["colourblind"]["A"].lower()
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list("ACGT")
    (stems,) = gid(axis.collections, "stems")
    assert [tuple(path.vertices[:, 1]) for path in stems.get_paths()] == [(0, 3), (4, 7), (-3, 0)]


def test_substitutions_of_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"plot_substitutions: received a reference of shape \(3, 4\)"):
        plot_substitutions(np.zeros((3, 4)), np.zeros((3, 4, 1)))


# ---- two profiles


def test_profiles_lie_over_each_other_and_their_difference_below():
    top, below = plot_profiles([1.0, 2, 3], [1.0, 4, 1], start=7, names=("ref", "alt"), highlight=(8, 9, "C>T"))
    (before,), (after,) = gid(top.lines, "reference"), gid(top.lines, "alternative")
    np.testing.assert_array_equal(before.get_xdata(), [7, 8, 9])
    np.testing.assert_array_equal(before.get_ydata(), [1, 2, 3])
    np.testing.assert_array_equal(after.get_ydata(), [1, 4, 1])
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["ref", "alt"]
    heights = np.concatenate([area.get_paths()[0].vertices[:, 1] for area in below.collections])
    assert (heights.min(), heights.max()) == (-2, 2)
    low, high = below.get_ylim()
    assert low == -high
    assert top.get_xlim() == below.get_xlim() == (6.5, 9.5)


def test_profiles_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="profiles of 3 and 2 positions; accepted are two of one length"):
        plot_profiles(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"received alternative of shape \(3, 1\)"):
        plot_profiles(np.zeros(3), np.zeros((3, 1)))


def test_profiles_have_gaps_where_they_are_not_finite():
    before, after = np.arange(5.0), np.arange(5.0)[::-1].copy()
    before[1], after[3] = np.nan, np.inf
    top, below = plot_profiles(before, after)
    (line,) = gid(top.lines, "alternative")
    assert np.isnan(line.get_ydata()).tolist() == [False, False, False, True, False]
    assert below.get_ylim() == (-1.08 * 4, 1.08 * 4)
    assert top.get_ylim()[0] == 0
    top.figure.savefig(io.BytesIO())
    for ax in (plot_profiles(np.full(3, np.nan), np.zeros(3))[0], plot_profile([1.0, np.nan, 3.0])):
        ax.figure.savefig(io.BytesIO())


# ---- pairs


def term(strongest: float, other: float) -> np.ndarray:
    """Interactions (4, 4) of one pair."""
    found = np.zeros((4, 4))
    found[1, 2], found[3, 3] = strongest, other
    return found


@pytest.mark.parametrize(("reduce", "expected"), [("strongest", -4.0), ("mean", (-4.0 + 3.0) / 9), ("norm", 5.0)])
def test_pairs_reduce_letters_to_one_number(reduce, expected):
    terms = np.zeros((3, 4, 3, 4))
    terms[0, :, 2] = term(-4.0, 3.0)  # only one side of the diagonal is filled
    axis = plot_pairs([10, 11, 12], terms, layout="square", reduce=reduce)
    values = np.ma.asarray(axis.images[0].get_array())
    assert values[0, 2] == pytest.approx(expected)
    assert values[2, 0] == pytest.approx(expected)
    assert values[0, 1] == 0
    assert values.mask.diagonal().all()
    low, high = axis.images[0].get_clim()
    assert high == pytest.approx(abs(expected))
    assert low == (0 if reduce == "norm" else -high)


def test_a_triangle_puts_each_pair_between_and_above_its_positions():
    terms = np.zeros((4, 4))
    terms[0, 3] = terms[3, 0] = 2.5
    terms[1, 2] = np.nan  # a pair that was not made
    axis = plot_pairs([5, 6, 7, 8], terms, sequence="ACGT")
    (mesh,) = [item for item in axis.collections if hasattr(item, "get_coordinates")]
    values = np.ma.asarray(mesh.get_array()).reshape(4, 4)
    assert values[0, 3] == 2.5
    assert values.mask[np.tril_indices(4)].all(), "one half is drawn"
    corners = np.asarray(mesh.get_coordinates())
    (edge,) = gid(axis.lines, "edge")
    shown = corners[:-1, 1:][~values.mask]  # upper corners of the cells
    assert shown[:, 1].max() == max(edge.get_ydata()) == 4, "the outline holds the cells"
    assert list(edge.get_xdata()) == [-0.5, 1.5, 3.5]
    centre = corners[0:2, 3:5].reshape(-1, 2).mean(axis=0)
    np.testing.assert_allclose(centre, [1.5, 3.0])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["5", "6", "7", "8"]
    assert "".join(label.get_text() for label in axis.get_xticklabels(minor=True)) == "ACGT"


@pytest.mark.parametrize(
    ("strand", "ticks", "label"),
    [
        ("+", ["1,040", "1,041", "1,045"], "chr1 (bp)"),
        ("-", ["1,059", "1,058", "1,054"], "chr1 (bp, minus strand)"),
    ],
)
def test_pairs_within_a_region_stand_at_its_coordinates(strand, ticks, label):
    axis = plot_pairs([40, 41, 45], np.zeros((3, 3)), region=Region("chr1", 1000, 1100, strand))
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ticks
    assert axis.get_xlabel() == label
    assert plot_pairs([40, 41], np.zeros((2, 2))).get_xlabel() == "position (bp)"
    with pytest.raises(ValueError, match=r"holds 100 positions; 3 positions from 98 on do not lie within it"):
        plot_pairs([98, 100], np.zeros((2, 2)), region=Region("chr1", 1000, 1100, strand))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "circle"}, "layout is 'circle'; 'triangle' or 'square' is accepted"),
        ({"reduce": "sum"}, "reduce is 'sum'; 'strongest', 'mean', 'norm' are accepted"),
        ({"sequence": "ACG"}, "2 positions, interactions of shape .* and 3 letters"),
        ({"interaction": np.zeros((3, 3))}, r"2 positions, interactions of shape \(3, 3\)"),
        ({"interaction": np.zeros((2, 2, 4))}, r"plot_pairs: received values of shape \(2, 2, 4\)"),
    ],
)
def test_pairs_refuse_what_does_not_fit(options, message):
    arguments = {"positions": [1, 2], "interaction": np.zeros((2, 2)), **options}
    with pytest.raises(ValueError, match=message):
        plot_pairs(**arguments)


# ---- dependencies


def test_dependency_map_has_outputs_across_and_mutations_upwards():
    effects = np.zeros((3, 4, 5))
    effects[2, 1, 4], effects[2, 3, 4] = -2.0, 1.0
    axis = plot_dependency(effects, start=102, output_start=100)
    (image,) = axis.images
    assert image.get_array()[2, 4] == -2
    assert axis.get_xlim() == (99.5, 104.5)
    assert axis.get_ylim() == (101.5, 104.5)
    (diagonal,) = gid(axis.lines, "diagonal")
    assert list(diagonal.get_xdata()) == [101.5, 104.5]
    assert image.get_clim() == (-2, 2)


def test_dependency_map_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"plot_dependency: received values of shape \(3,\)"):
        plot_dependency(np.zeros(3))


# ---- one of a result


def heatmap_of(axes) -> np.ndarray:
    return np.asarray(axes[1].images[0].get_array())


def test_a_sequence_is_found_by_row_name_and_region(scores):
    expected = scores.differences[2, :, :, 0].T
    for which in (2, -4, "peak_3", str(scores.regions[2])):
        np.testing.assert_array_equal(heatmap_of(plot_scores(scores, which)), expected)
    logo, heatmap = plot_scores(scores, 2, target="RAD21")
    np.testing.assert_array_equal(heatmap_of((logo, heatmap)), scores.differences[2, :, :, 1].T)
    assert logo.get_title(loc="left") == f"peak_3 · {scores.regions[2]} · RAD21"
    assert "mean4" in logo.get_ylabel()
    assert heatmap.child_axes[0].get_ylabel() == "difference (log2FC)"


def test_a_name_wins_over_a_row(scores):
    named = replace(scores, names=["3", "0", "a", "b", "c", "d"], targets=("1", "0"))
    for which, row in (("3", 0), ("0", 1), ("4", 4), (3, 3)):
        drawn = heatmap_of(plot_scores(named, which, target="1"))
        np.testing.assert_array_equal(drawn, scores.differences[row, :, :, 0].T)
    with pytest.raises(ValueError, match="which is 17; the result has 6 sequences"):
        plot_scores(named, "17")


def test_what_is_not_finite_is_left_blank(scores):
    differences = np.array(scores.differences[:1])
    differences[0, 2:4, :, 0] = np.nan
    logo, heatmap = plot_scores(replace(scores[:1], differences=differences))
    assert np.isfinite(logo.get_ylim()).all()
    assert np.isnan(np.ma.filled(heatmap_of((logo, heatmap)), np.nan)[:, 2:4]).all()
    logo.figure.savefig(io.BytesIO())
    differences[0, 2:4, 1, 0] = np.inf
    both = plot_scores(replace(scores[:1], differences=differences))
    assert np.isnan(np.ma.filled(heatmap_of(both), np.nan)[:, 2:4]).all()
    for start in (None, 12):  # all of them, in letters and with nothing to draw
        differences[...] = np.nan
        axes = plot_scores(replace(scores[:1], differences=differences), start=start)
        axes[0].figure.savefig(io.BytesIO())
    ax = plot_substitutions(scores.sequences[0][:5], np.full((5, 4), np.nan))
    ax.figure.savefig(io.BytesIO())


def test_start_and_end_are_positions_of_the_sequence(scores):
    site = motif_start(scores, 0)
    logo, heatmap = plot_scores(scores, 0, start=site, end=site + len(MOTIF))
    assert "".join(label.get_text() for label in heatmap.get_xticklabels(minor=True)) == MOTIF
    first = scores.regions[0].start + site
    assert logo.get_xlim() == (first - 0.5, first + len(MOTIF) - 0.5)


@pytest.mark.parametrize("row", [0, 2])  # on the plus and on the minus strand
def test_a_place_within_a_region_draws_that_stretch(scores, row):
    region, site = scores.regions[row], motif_start(scores, row)
    start = region.end - site - len(MOTIF) if region.strand == "-" else region.start + site
    _, heatmap = plot_scores(scores, f"{region.chrom}:{start:,}-{start + len(MOTIF):,}")
    assert "".join(label.get_text() for label in heatmap.get_xticklabels(minor=True)) == MOTIF


def test_logo_heights_are_the_attributions_of_the_result(scores):
    logo, _ = plot_scores(scores, 1, rule="mean3")
    top = max(patch.get_path().get_extents().y1 for patch in logo.patches)
    assert top == pytest.approx(scores.attributions(0, rule="mean3")[1].max(), rel=0.02)


def test_a_result_without_regions_or_names_counts_from_zero(scores):
    bare = replace(scores, regions=None, names=(), attributes={})
    logo, heatmap = plot_scores(bare, 0)
    assert logo.get_xlim() == (9.5, 109.5)
    assert heatmap.get_xlabel() == "position (bp)"
    assert logo.get_title(loc="left") == "CTCF"
    with pytest.raises(ValueError, match="no names and no regions"):
        plot_scores(bare, "peak_1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"which": 6}, "which is 6; the result has 6 sequences, 0 to 5 is accepted"),
        ({"which": "peak_9"}, "which is 'peak_9'; .* The first are 'peak_1', 'peak_2', 'peak_3'"),
        ({"which": "chr1:5-9"}, "a place within one region is accepted"),
        (
            {"start": 5},
            r"start=5, end=110 is no stretch of what was mutated, positions 10 to 110 of the sequence, "
            r"chr1:1000010-1000110 in the genome; .* or a place within chr1:1000010-1000110 as which",
        ),
        ({"which": 2, "end": 115}, r"positions 10 to 110 of the sequence, chr3:1010010-1010110 in the genome"),
        ({"target": "MYC"}, "target is 'MYC'"),
    ],
)
def test_what_is_not_there_is_said(scores, arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_scores(scores, **arguments)


def test_a_name_of_several_sequences_asks_for_the_row(scores):
    twice = replace(scores, names=["a", "b", "a", "c", "d", "e"])
    with pytest.raises(ValueError, match=r"'a', the name of 2 sequences: rows \[0, 2\]; give the row"):
        plot_scores(twice, "a")


def test_distances_stand_upright_in_one_hue(scores):
    """What jsd gives has no sign: large is important, whatever the direction."""
    far = distances(scores)
    logo, heatmap = plot_scores(far, 1)
    expected = far.differences[1, ..., 0].sum(-1) / 4  # mean4, turned up
    assert logo.get_ylim()[1] == pytest.approx(1.06 * expected.max(), rel=1e-3)
    assert -0.07 * expected.max() < logo.get_ylim()[0] <= 0, "nothing hangs down"
    (image,) = heatmap.images
    assert image.get_clim() == pytest.approx((0, far.differences[1, ..., 0].max()))
    assert image.get_cmap().name == "Reds"
    assert heatmap.figure.axes[-1].get_ylabel() == "difference (jsd)" or any(
        child.get_ylabel() == "difference (jsd)" for child in heatmap.child_axes
    )
    again, _ = plot_ism(far.sequences[1, 10:110], far.differences[1, ..., 0], rule="mean4", signed=False)
    assert again.get_ylim() == logo.get_ylim()


def test_a_hanging_t_has_its_bar_at_the_end_whatever_the_rounding():
    x = np.eye(4)[[3] * 60]
    logo, _ = plot_ism(x, (1 - x) * np.random.default_rng(0).uniform(5, 10, (60, 1)))
    for corners in (patch.get_path().vertices[:-1] for patch in logo.patches):
        foot, inner, top = np.unique(corners[:, 1].round(6))
        assert inner - foot < top - inner, "no block on a short stem"


def test_a_tall_t_is_no_pin():
    """Its upper bar grows with it only so far, its stem is a third of its width; low ones keep the font's shape."""
    x = np.eye(4)[[3, 3, 3]]
    values = (1 - x) * -np.array([10.0, 0.1, -10])[:, None]
    logo, _ = plot_ism(x, values, start=1_000_000, rule="mean3")  # as tall as the values
    tall, low, hanging = (patch.get_path().vertices[:-1] for patch in logo.patches)  # without the point that closes
    for corners, height in ((tall, 10), (low, 0.1), (hanging, -10)):
        levels = np.unique(corners[:, 1].round(6))
        assert levels[[0, -1]] == pytest.approx(sorted((0, height)), abs=1e-6)
        across = np.unique(corners[:, 0].round(6))
        assert across[2] - across[1] == pytest.approx(0.34 * (across[3] - across[0]), rel=1e-3)
    narrow = Figure(figsize=(6, 3)).subplots(2, 1)
    logo, _ = plot_ism(np.eye(4)[[3] * 80], (1 - np.eye(4)[[3] * 80]) * -10, axes=narrow, rule="mean3")
    levels = np.unique(logo.patches[0].get_path().vertices[:, 1].round(9))
    assert 10 - levels[1] < 1, "less than a tenth of it"


def test_the_strongest_stretch_lies_around_the_largest_attribution(scores):
    heights = np.abs(scores.attributions("RAD21")[3].sum(-1))
    start, end = strongest_stretch(scores, 3, "RAD21", width=30)
    assert (end - start, start + 15) == (30, 10 + heights.argmax())
    assert strongest_stretch(scores, 3, width=1000) == (10, 110)
    first = scores.differences.copy()
    first[3, 2] = -100 * (1 - scores.mutated[3, 2])[:, None]
    assert strongest_stretch(replace(scores, differences=first), 3, width=30) == (10, 40), "it ends where positions end"


def test_of_two_regions_that_hold_a_place_the_one_that_was_mutated_there_is_taken(scores):
    regions = [
        Region("chr1", 1000 + 95 * n, 1120 + 95 * n) for n in range(6)
    ]  # the first ends at 1120, mutated to 1110
    near = replace(scores, regions=regions)
    assert locate(near, "chr1:1112-1118")[0] == 1
    assert locate(near, "chr1:1105-1110") == (0, (105, 110))
    assert locate(near, "chr1:1097-1100") == (0, (97, 100))


def test_dots_are_named_by_their_region(scores):
    region = Region("chr2", 0, 50, "-", name="peak")
    x, values = scores.sequences[0][:50], np.zeros((50, 4))
    assert plot_substitutions(x, values, region=region).get_title(loc="left") == "peak · chr2:0-50(-)"
    assert plot_substitutions(x, values, region=region, title="").get_title(loc="left") == ""
    assert plot_substitutions(x, values).get_title(loc="left") == ""


# ---- two results


def test_comparison_gives_the_correlation_over_all_substitutions(scores):
    noise = np.random.default_rng(1).normal(0, 0.1, scores.differences.shape)
    noise[scores.mutated == 1] = 0
    other = replace(scores, differences=scores.differences * 2 + noise)
    scatter, first, second = plot_comparison(scores, other, which="peak_2", names=("one", "two"))
    changed = scores.mutated != 1
    expected = np.corrcoef(scores.differences[..., 0][changed], other.differences[..., 0][changed])[0, 1]
    (text,) = scatter.texts
    assert text.get_text() == f"r = {expected:.3f}\n{changed.sum():,} substitutions"
    (dots,) = gid(scatter.collections, "substitutions")
    assert len(dots.get_offsets()) == changed.sum()
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("difference, one", "difference, two")
    assert (first.get_ylabel(), second.get_ylabel()) == ("one", "two")
    for axis, result in ((first, scores), (second, other)):
        (track,) = gid(axis.collections, "track")
        top = max(path.vertices[:, 1].max() for path in track.get_paths())
        assert top == pytest.approx(result.attributions()[1].max())


def test_comparison_leaves_out_what_is_not_finite(scores):
    some = scores[:1]
    broken = np.array(some.differences)
    broken[0, 3, :, 0] = np.nan, np.inf, np.nan, np.nan
    scatter, first, _ = plot_comparison(some, replace(some, differences=broken))
    assert f"r = 1.000\n{99 * 3} substitutions" in [text.get_text() for text in scatter.texts]
    first.figure.savefig(io.BytesIO())
    broken[...] = np.nan
    scatter, *_ = plot_comparison(some, replace(some, differences=broken))
    assert "r = nan\n0 substitutions" in [text.get_text() for text in scatter.texts]
    scatter.figure.savefig(io.BytesIO())


def test_comparison_draws_a_part_of_many_dots_and_says_so(scores, monkeypatch):
    monkeypatch.setattr("fastism.plot.comparison.MAX_DOTS", 100)
    scatter, *_ = plot_comparison(scores, scores)
    (dots,) = gid(scatter.collections, "substitutions")
    assert 50 < len(dots.get_offsets()) <= 101
    assert "r = 1.000" in scatter.texts[0].get_text()
    assert f"{len(dots.get_offsets())} shown" in scatter.texts[0].get_text()


def test_comparison_refuses_other_sequences(scores):
    with pytest.raises(ValueError, match=r"the second \(5, 120, 4\) from 10 to 110; two results of the same"):
        plot_comparison(scores, scores[:5])
    with pytest.raises(ValueError, match="hold different sequences"):
        plot_comparison(scores, scores[[1, 0, 2, 3, 4, 5]])


def test_axes_go_in_and_come_out_and_pyplot_keeps_nothing(scores):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    one, two, three = Figure().subplots(3, 1)
    assert plot_substitutions(scores.sequences[0], np.zeros((120, 4)), ax=one) is one
    assert plot_pairs([1, 2], np.zeros((2, 2)), ax=two) is two
    assert plot_dependency(np.zeros((2, 3)), ax=three, region=Region("chr1", 0, 5)) is three
    for drawn, axes in (
        (plot_profiles([1.0, 2], [2.0, 1], axes=(one, two)), (one, two)),
        (plot_scores(scores, axes=(one, two)), (one, two)),
        (plot_comparison(scores, scores, axes=(one, two, three)), (one, two, three)),
    ):
        assert drawn == axes
    assert pyplot.get_fignums() == before
