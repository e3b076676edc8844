"""The result that plots, writers and reports share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastism.ism import CompactSaturation
from fastism.mutagenesis import Mutagenesis
from fastism.naive import Saturation
from fastism.pairs import Pairs
from fastism.regions import Region
from fastism.result import ISMScores
from fastism.saturation import RawSaturation


@pytest.fixture
def scores() -> ISMScores:
    """Three sequences of 5, positions 1 to 4 mutated, 2 targets; the middle one has an N at position 2."""
    generator = np.random.default_rng(0)
    x = np.eye(4)[generator.integers(0, 4, (3, 5))]
    x[1, 2] = 0
    delta = generator.normal(size=(3, 3, 4, 2)).astype(np.float32)
    delta[x[:, 1:4] == 1] = 0
    regions = [Region("chr1", 10 * i, 10 * i + 5, row=i) for i in range(3)]
    return ISMScores(
        x,
        delta,
        np.arange(6.0).reshape(3, 2),
        1,
        ("a", "b"),
        regions,
        ("x", "y", "z"),
        attributes={"metric": "subtract"},
    )


class OnDisk:
    """Takes slices and single rows only, as some stores do."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape = array, array.shape

    def __getitem__(self, key):
        if isinstance(key, (list, np.ndarray)):
            raise TypeError("slices and integers only")
        return self.array[key]


def test_sizes(scores):
    assert (len(scores), scores.length, scores.positions) == (3, 5, 3)
    np.testing.assert_array_equal(scores.mutated, scores.sequences[:, 1:4])
    np.testing.assert_array_equal(scores.mask, [[True] * 3, [True, False, True], [True] * 3])


def test_attributions_of_a_target_by_hand():
    x = np.array([[[0, 1, 0, 0]]], float)
    scores = ISMScores(x, np.array([[[[-3.0], [0.0], [-1.0], [-2.0]]]]), np.zeros((1, 1)))
    np.testing.assert_array_equal(scores.attributions(), [[[0, 1.5, 0, 0]]])
    np.testing.assert_array_equal(scores.attributions(rule="mean3"), [[[0, 2, 0, 0]]])
    np.testing.assert_array_equal(scores.attributions(hypothetical=True), [[[-1.5, 1.5, 0.5, -0.5]]])


def test_attributions_of_the_whole_sequence_are_zero_where_nothing_was_mutated(scores):
    part, whole = scores.attributions("b"), scores.attributions("b", whole=True)
    assert whole.shape == (3, 5, 4)
    np.testing.assert_array_equal(whole[:, 1:4], part)
    np.testing.assert_array_equal(whole[:, [0, 4]], 0)
    np.testing.assert_array_equal(scores.attributions("b", hypothetical=True)[1, 1], 0)


@pytest.mark.parametrize(("target", "index"), [(0, 0), (1, 1), (-1, 1), ("a", 0), ("b", 1)])
def test_targets_by_index_and_name(scores, target, index):
    assert scores.target(target) == index


def test_a_name_wins_over_an_index(scores):
    named = replace(scores, targets=("1", "b"))
    assert (named.target("1"), named.target(1), named.target("0")) == (0, 1, 0)


@pytest.mark.parametrize("target", [2, -3, "c", "2"])
def test_targets_that_are_not_there(scores, target):
    with pytest.raises(ValueError, match=r"target is .*; an index below 2 or a name of a, b is accepted"):
        scores.target(target)


@pytest.mark.parametrize("rows", [[2, 0], np.array([True, False, True]), slice(None, None, 2), slice(-2, None), []])
@pytest.mark.parametrize("wrap", [np.asarray, OnDisk])
def test_rows_are_read_from_memory_and_disk(scores, rows, wrap):
    stored = replace(scores, **{k: wrap(getattr(scores, k)) for k in ("sequences", "differences", "reference")})
    chosen, expected = stored[rows], np.arange(3)[rows if len(np.atleast_1d(rows)) else slice(0)]
    assert len(chosen) == len(expected)
    np.testing.assert_array_equal(chosen.differences, scores.differences[expected])
    assert [r.row for r in chosen.regions or ()] == list(expected)
    assert list(chosen.names) == [scores.names[i] for i in expected]
    assert chosen.start == 1
    assert chosen.attributes == {"metric": "subtract"}


@pytest.mark.parametrize("wrap", [np.asarray, OnDisk])
@pytest.mark.parametrize("row", [1, -2, np.int64(1)])
def test_a_row_number_gives_a_result_of_one_sequence(scores, row, wrap):
    stored = replace(scores, **{k: wrap(getattr(scores, k)) for k in ("sequences", "differences", "reference")})
    one = stored[row]
    np.testing.assert_array_equal(one.differences, scores.differences[1:2])
    assert ([r.row for r in one.regions or ()], list(one.names)) == ([1], ["y"])


def test_iteration_gives_each_sequence(scores):
    assert [one.names[0] for one in scores] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (3, IndexError, "There is no row 3; the result has 3 sequences"),
        ([0, -4], IndexError, "There is no row -4"),
        ([True, False], ValueError, "There are 2 booleans for 3 sequences; one for each"),
        (np.ones(4, bool), ValueError, "There are 4 booleans for 3 sequences"),
        (True, TypeError, "rows are True; a row number, a slice, row numbers or 3 booleans"),
        (0.5, TypeError, r"rows are 0\.5"),
        ("x", TypeError, "rows are 'x'"),
        ([[0]], TypeError, r"rows are \[\[0\]\]"),
    ],
)
def test_rows_that_are_not_there_are_refused(scores, rows, error, message):
    with pytest.raises(error, match=message):
        scores[rows]


def test_batches_hold_each_sequence_once(scores):
    parts = list(scores.batches(2))
    assert [len(part) for part in parts] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([part.sequences for part in parts]), scores.sequences)


def test_regions_and_names_may_be_unknown(scores):
    bare = replace(scores, regions=None, names=())
    assert bare[:1].regions is None
    assert len(bare[[0]].names) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": np.zeros((3, 5))}, r"sequences \(N, L, A\) has shape \(3, 5\); 3 axes"),
        ({"differences": np.zeros((3, 3, 4))}, r"differences \(N, P, A, T\) has shape \(3, 3, 4\)"),
        ({"reference": np.zeros(3)}, r"reference \(N, T\) has shape \(3,\)"),
        ({"reference": np.zeros((3, 1))}, "do not fit together"),
        ({"alphabet": "ACG"}, "'ACG' do not fit together"),
        ({"start": 3}, "3 positions from 3 on do not lie within sequences of 5"),
        ({"start": -1}, "do not lie within"),
        ({"targets": ("a",)}, "There are 1 targets; 2 are accepted"),
        ({"names": ("x",)}, "There are 1 names; 3 are accepted"),
        ({"regions": []}, "There are 0 regions; 3 are accepted"),
    ],
)
def test_parts_that_do_not_fit(scores, change, message):
    with pytest.raises(ValueError, match=message):
        replace(scores, **change)


def test_predictions_are_shown_by_their_shapes():
    y, mutant = np.zeros((2, 1)), np.zeros((2, 500, 4, 1))
    for kind in (Saturation, RawSaturation):
        first, second = kind._fields
        assert repr(kind(y, mutant)) == f"{kind.__name__}({first} (2, 1), {second} (2, 500, 4, 1))"
    found = Mutagenesis({"a": y}, {"a": mutant}, "shuffles")
    assert repr(found) == "Mutagenesis(shuffles, reference {'a': (2, 1)}, mutant {'a': (2, 500, 4, 1)})"
    assert found == (found.reference, found.mutant)
    assert found._fields == ("reference", "mutant")
    assert repr(Pairs([y], [mutant], [y])) == "Pairs(reference [(2, 1)], single [(2, 500, 4, 1)], double [(2, 1)])"
    compact = CompactSaturation(y, mutant, np.zeros(500))
    assert repr(compact) == "CompactSaturation(reference (2, 1), window (2, 500, 4, 1), start (500,))"
