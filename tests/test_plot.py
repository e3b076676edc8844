"""The pictures: what is drawn where, checked on the axes themselves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("logomaker")

from matplotlib.figure import Figure

from fastism import plot
from fastism.plot import importance, plot_ism, plot_profile
from fastism.regions import Region

LENGTH = 12


@pytest.fixture
def example() -> tuple[np.ndarray, np.ndarray]:
    """A sequence (12, 4) whose position 5 is an N and whose position 3 matters most, and its differences."""
    generator = np.random.default_rng(0)
    sequence = np.eye(4)[generator.integers(0, 4, LENGTH)]
    sequence[5] = 0
    differences = generator.normal(size=(LENGTH, 4)) * 0.1
    differences[3] = -2.0
    differences[sequence == 1] = 0
    return sequence, differences


def gid(artists: list, name: str) -> list:
    return [artist for artist in artists if artist.get_gid() == name]


def test_importance_is_minus_a_quarter_of_the_sum_over_the_other_letters(example):
    sequence, differences = example
    scores = importance(sequence, differences)
    assert scores.shape == (LENGTH,)
    assert scores[3] == pytest.approx(1.5)
    for position in set(range(LENGTH)) - {5}:
        assert scores[position] == pytest.approx(-differences[position].sum() / 4)
    assert scores[5] == 0, "a position without a letter has no importance"


def test_importance_ignores_what_stands_at_the_own_letter():
    assert importance([[0, 0, 1, 0]], [[1.0, 1.0, 99.0, 1.0]])[0] == pytest.approx(-0.75)


def test_importance_of_a_batch_is_that_of_its_sequences(example):
    sequence, differences = example
    batch = importance(np.stack([sequence] * 2), np.stack([differences, -differences]))
    np.testing.assert_array_equal(batch[0], importance(sequence, differences))
    np.testing.assert_array_equal(batch[1], importance(sequence, -differences))


def test_importance_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(5, 4\).*\(5, 4, 1\).*one output"):
        importance(np.zeros((5, 4)), np.zeros((5, 4, 1)))


def test_heatmap_has_a_dot_on_each_reference_cell_and_only_there(example):
    sequence, differences = example
    _, heatmap = plot_ism(sequence, differences, start=100)
    (dots,) = gid(heatmap.collections, "reference")
    expected = {(100 + position, row) for position, row in zip(*np.nonzero(sequence), strict=True)}
    assert {tuple(offset) for offset in np.asarray(dots.get_offsets()).astype(int)} == expected
    assert len(expected) == LENGTH - 1, "the N has no dot"


def test_heatmap_rows_are_the_alphabet_from_the_top(example):
    _, heatmap = plot_ism(*example)
    assert [label.get_text() for label in heatmap.get_yticklabels()] == list("ACGT")
    bottom, top = heatmap.get_ylim()
    assert top < heatmap.get_yticks()[0] < heatmap.get_yticks()[-1] < bottom
    (image,) = heatmap.images
    np.testing.assert_array_equal(np.asarray(image.get_array()), example[1].T)


def test_colours_are_symmetric_about_zero_and_red_is_up(example):
    sequence, differences = example
    (image,) = plot_ism(sequence, differences)[1].images
    assert image.get_clim() == (-2.0, 2.0)
    red, _, blue, _ = image.to_rgba(2.0)
    assert red > blue
    (image,) = plot_ism(sequence, differences, limit=5.0)[1].images
    assert image.get_clim() == (-5.0, 5.0)


def test_a_map_without_any_effect_is_drawn(tmp_path):
    logo, _ = plot_ism(np.eye(4), np.zeros((4, 4)))
    logo.figure.savefig(tmp_path / "flat.png")


def test_logo_letters_are_as_tall_as_the_importance(example):
    sequence, differences = example
    logo, _ = plot_ism(sequence, differences, start=100)
    boxes = [patch.get_path().get_extents() for patch in logo.patches]
    tallest = max(boxes, key=lambda box: box.height)
    assert tallest.height == pytest.approx(1.5, rel=0.02)
    assert 102.5 < tallest.x0 < tallest.x1 < 103.5
    scores = importance(sequence, differences)
    assert (min(box.y0 for box in boxes) < 0) == bool((scores < 0).any())


@pytest.mark.parametrize("height", [3, 12])
def test_the_label_of_the_logo_is_no_longer_than_its_axis(example, height):
    from matplotlib.figure import Figure

    logo, _ = plot_ism(*example, axes=Figure(figsize=(6, height)).subplots(2, 1))
    logo.figure.draw_without_rendering()
    label, axis = logo.yaxis.label.get_window_extent(), logo.get_window_extent()
    assert axis.y0 <= label.y0 < label.y1 <= axis.y1
    assert logo.get_ylabel().split() == ["importance", "(mean4)"]


def test_a_sequence_too_long_for_letters_gets_bars():
    length = plot.MAX_LETTERS + 1
    sequence = np.eye(4)[np.arange(length) % 4]
    logo, _ = plot_ism(sequence, np.where(sequence == 1, 0.0, -1.0))
    assert sum(len(bars) for bars in logo.containers) == length


@pytest.mark.parametrize(
    ("highlight", "spans"),
    [
        (None, []),
        ([], []),
        ((102, 105), [(101.5, 104.5)]),
        ((102, 105, "motif"), [(101.5, 104.5)]),
        ([(102, 105, "motif"), (107, 108)], [(101.5, 104.5), (106.5, 107.5)]),
    ],
)
def test_highlights_are_bracketed_over_the_logo(example, highlight, spans):
    logo, heatmap = plot_ism(*example, start=100, highlight=highlight, title="one")
    brackets = gid(logo.lines, "highlight")
    assert [(line.get_xdata()[0], line.get_xdata()[-1]) for line in brackets] == spans
    labels = [text.get_text() for text in logo.texts]
    assert labels == (["motif"] if "motif" in str(highlight) else [])
    assert not gid(heatmap.lines, "highlight")


@pytest.mark.parametrize("highlight", [(5, 5), (7, 3, "back"), (1, 2, "a", "b"), [(1,)]])
def test_a_highlight_that_is_no_range_is_refused(example, highlight):
    with pytest.raises(ValueError, match="half-open"):
        plot_ism(*example, highlight=highlight)


def test_axes_go_in_and_come_out(example):
    figure = Figure()
    axes = figure.subplots(2, 1)
    logo, heatmap = plot_ism(*example, axes=axes, start=7)
    assert logo is axes[0]
    assert heatmap is axes[1]
    assert logo.get_xlim() == heatmap.get_xlim() == (6.5, 18.5)


def test_pyplot_keeps_no_figure(example):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    plot_ism(*example)
    plot_profile(np.zeros(5))
    assert pyplot.get_fignums() == before


def test_other_alphabets(example):
    generator = np.random.default_rng(1)
    sequence = np.eye(20)[generator.integers(0, 20, 9)]
    letters = "ACDEFGHIKLMNPQRSTVWY"
    _, heatmap = plot_ism(sequence, -(1 - sequence), alphabet=letters)
    assert [label.get_text() for label in heatmap.get_yticklabels()] == list(letters)


@pytest.mark.parametrize(
    ("reference", "differences", "alphabet"),
    [
        (np.zeros((5, 4)), np.zeros((6, 4)), "ACGT"),
        (np.zeros((2, 5, 4)), np.zeros((2, 5, 4)), "ACGT"),
        (np.zeros((5, 4)), np.zeros((5, 4)), "ACGTN"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(reference, differences, alphabet):
    with pytest.raises(ValueError, match=r"plot_ism: received .* accepted are"):
        plot_ism(reference, differences, alphabet=alphabet)


def test_profile_draws_each_value_at_its_position():
    ax = plot_profile([0.0, 3.0, 1.0], start=10, highlight=(11, 12, "here"), title="profile")
    (curve,) = [line for line in ax.lines if len(line.get_xdata()) == 3]
    np.testing.assert_array_equal(curve.get_xdata(), [10, 11, 12])
    np.testing.assert_array_equal(curve.get_ydata(), [0, 3, 1])
    assert len(gid(ax.lines, "highlight")) == 1
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        plot_profile(np.zeros((2, 3)))


def test_a_missing_package_is_named_with_its_remedy(example, monkeypatch):
    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("fastism.plot.style.import_module", missing)
    with pytest.raises(ImportError, match=r'matplotlib.*pip install "fastism\[plot\]"'):
        plot_ism(*example)
    with pytest.raises(ImportError, match=r'logomaker|pandas.*pip install "fastism\[plot\]"'):
        plot_ism(*example, axes=Figure().subplots(2, 1))


def test_the_rule_is_named_and_mean4_is_three_quarters_of_mean3(example):
    def tallest(rule: str) -> float:
        logo, _ = plot_ism(*example, rule=rule)
        assert rule in logo.get_ylabel()
        return max(patch.get_path().get_extents().height for patch in logo.patches)

    assert tallest("mean4") == pytest.approx(0.75 * tallest("mean3"))
    with pytest.raises(ValueError, match="rule is 'mean5'; 'mean3' or 'mean4'|rule is 'mean5'; 'mean4' or 'mean3'"):
        plot_ism(*example, rule="mean5")


@pytest.mark.parametrize("palette", ["default", "colourblind"])
def test_letters_have_the_colours_of_the_palette(example, palette):
    from matplotlib.colors import to_hex

    logo, heatmap = plot_ism(*example, palette=palette)
    expected = {plot.PALETTES[palette][letter].lower() for letter in "ACGT"}
    assert {to_hex(patch.get_facecolor()) for patch in logo.patches if patch.get_path().vertices.size > 10} <= expected
    assert [to_hex(label.get_color()) for label in heatmap.get_yticklabels()] == [
        plot.PALETTES[palette][letter].lower() for letter in "ACGT"
    ]


def test_an_unknown_palette_is_refused(example):
    with pytest.raises(ValueError, match="palette is 'rainbow'; 'default' or 'colourblind' is accepted"):
        plot_ism(*example, palette="rainbow")


def test_the_sequence_is_written_under_the_heatmap_where_there_is_room(example):
    sequence, differences = example
    _, heatmap = plot_ism(sequence, differences, start=100)
    letters = "".join(label.get_text() for label in heatmap.get_xticklabels(minor=True))
    spelt = "".join("ACGT"[int(row.argmax())] if row.any() else "N" for row in sequence)
    assert letters == spelt
    assert spelt[5] == "N"
    assert list(heatmap.xaxis.get_minorticklocs()) == list(range(100, 112))
    narrow = Figure(figsize=(1, 2)).subplots(2, 1)
    _, crowded = plot_ism(sequence, differences, axes=narrow)
    assert not crowded.get_xticklabels(minor=True)


def shown(axis) -> dict[float, str]:
    """What the axis says where, within its limits."""
    axis.figure.canvas.draw()
    low, high = axis.get_xlim()
    places, labels = axis.get_xticks(), [label.get_text() for label in axis.get_xticklabels()]
    return {place: label for place, label in zip(places, labels, strict=True) if low <= place <= high}


def test_a_region_on_the_plus_strand_shows_its_coordinates(example):
    region = Region("chr2", 5000, 5100, "+")
    logo, heatmap = plot_ism(*example, region=region, start=20, highlight=(5022, 5025))
    assert logo.get_xlim() == (5019.5, 5031.5)
    assert heatmap.get_xlabel() == "chr2 (bp)"
    assert all(int(label.replace(",", "")) == place for place, label in shown(heatmap).items())
    (line,) = gid(logo.lines, "highlight")
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (5021.5, 5024.5)


def test_a_region_on_the_minus_strand_runs_down_and_keeps_the_sequence_readable(example):
    region = Region("chr2", 5000, 5100, "-")  # position 20 of the sequence is 5100 - 1 - 20 = 5079
    logo, heatmap = plot_ism(*example, region=region, start=20, highlight=(5077, 5080, "first three"))
    left, right = heatmap.get_xlim()
    assert left < right, "letters would be mirrored on an inverted axis"
    assert heatmap.get_xlabel() == "chr2 (bp, minus strand)"
    ticks = shown(heatmap)
    assert ticks
    assert all(int(label.replace(",", "")) == 5079 - (place - (left + 0.5)) for place, label in ticks.items())
    (line,) = gid(logo.lines, "highlight")
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (left, left + 3)


def test_rows_outside_the_region_are_refused(example):
    with pytest.raises(ValueError, match=r"chr1:0-10 holds 10 positions; 12 positions from 0 on do not lie within it"):
        plot_ism(*example, region=Region("chr1", 0, 10))


def test_profile_takes_a_region():
    assert plot_profile(np.arange(5.0), region=Region("chrX", 10, 15)).get_xlim() == (9.5, 14.5)
