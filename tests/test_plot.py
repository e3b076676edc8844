"""The pictures: what is drawn where, checked on the axes themselves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("logomaker")

from matplotlib.figure import Figure

from fastism import plot
from fastism.plot import importance, plot_ism, plot_profile

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


def test_importance_is_minus_a_third_of_the_sum_over_the_other_letters(example):
    sequence, differences = example
    scores = importance(sequence, differences)
    assert scores.shape == (LENGTH,)
    assert scores[3] == pytest.approx(2.0)
    for position in set(range(LENGTH)) - {5}:
        assert scores[position] == pytest.approx(-differences[position].sum() / 3)
    assert scores[5] == 0, "a position without a letter has no importance"


def test_importance_ignores_what_stands_at_the_own_letter():
    assert importance([[0, 0, 1, 0]], [[1.0, 1.0, 99.0, 1.0]])[0] == pytest.approx(-1.0)


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
    assert tallest.height == pytest.approx(2.0, rel=0.02)
    assert 102.5 < tallest.x0 < tallest.x1 < 103.5
    scores = importance(sequence, differences)
    assert (min(box.y0 for box in boxes) < 0) == bool((scores < 0).any())


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
