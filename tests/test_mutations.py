"""Which edits are made: none is lost, none is doubled, none does nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastism.mutations import Edits, group, replacements, substitutions


def one_hot(n, length, alphabet=4, seed=0):
    return np.eye(alphabet)[np.random.default_rng(seed).integers(0, alphabet, (n, length))]


def applied(x, edits):
    """The mutated sequence of each edit, and its cell."""
    out = {}
    for sequence, start, content, cell in zip(edits.sequence, edits.start, edits.content, edits.cell, strict=True):
        mutant = x[sequence].copy()
        mutant[start : start + edits.width] = edits.contents[content]
        assert int(cell) not in out, "two edits write into one cell"
        out[int(cell)] = mutant
    return out


@pytest.mark.parametrize("alphabet", [4, 20])
def test_a_one_hot_sequence_has_three_edits_a_position(alphabet):
    x = one_hot(3, 11, alphabet)
    edits = substitutions(x, 0, 11)
    assert len(edits) == 3 * 11 * (alphabet - 1)
    np.testing.assert_array_equal(np.bincount(edits.sequence), [11 * (alphabet - 1)] * 3)
    assert edits.width == 1


def test_an_unknown_or_soft_position_has_an_edit_for_every_letter():
    x = one_hot(1, 10)
    x[0, 3], x[0, 7] = 0, 0.25
    edits = substitutions(x, 0, 10)
    np.testing.assert_array_equal(np.bincount(edits.start), [3, 3, 3, 4, 3, 3, 3, 4, 3, 3])


@pytest.mark.parametrize(("start", "end"), [(0, 9), (2, 7), (8, 9)])
def test_cells_of_substitutions(start, end):
    x = one_hot(2, 9, seed=1)
    x[1, 4] = 0
    edits, wide = substitutions(x, start, end), end - start
    mutants = applied(x, edits)
    for n, p, a in np.ndindex(2, wide, 4):
        want = x[n].copy()
        want[start + p] = np.eye(4)[a]
        cell = int(np.ravel_multi_index((n, p, a), (2, wide, 4)))
        if (want == x[n]).all():
            assert cell not in mutants
        else:
            np.testing.assert_array_equal(mutants.pop(cell), want)
    assert not mutants


@pytest.mark.parametrize("ranges", [[(0, 1), (4, 5)], [(0, 3), (1, 4), (6, 9), (1, 4)], [(0, 9)]])
def test_cells_of_replacements(ranges):
    x = one_hot(3, 9, seed=2)
    width = ranges[0][1] - ranges[0][0]
    content = x[1, ranges[-1][0] : ranges[-1][1]].copy()  # already there once
    edits = replacements(x, ranges, content)
    mutants = applied(x, edits)
    for n, (p, (start, end)) in itertools.product(range(3), enumerate(ranges)):
        want = x[n].copy()
        want[start:end] = content
        cell = n * len(ranges) + p
        if (want == x[n]).all():
            assert cell not in mutants
        else:
            np.testing.assert_array_equal(mutants.pop(cell), want)
    assert not mutants
    assert edits.width == width
    assert len(edits) < 3 * len(ranges), "the one that is there already makes no edit"


def test_zeros_where_there_are_zeros_make_no_edit():
    x = one_hot(1, 6)
    x[0, 2:4] = 0
    edits = replacements(x, [(i, i + 1) for i in range(6)], np.zeros((1, 4)))
    assert edits.start.tolist() == [0, 1, 4, 5]


def test_of_sequences_renumbers_and_keeps_the_cells():
    x = one_hot(5, 6)
    edits = substitutions(x, 1, 4)
    part = edits.of_sequences(2, 4)
    assert set(part.sequence) == {0, 1}
    assert len(part) == 2 * 3 * 3
    whole = applied(x, edits)
    for cell, mutant in applied(x[2:4], part).items():
        np.testing.assert_array_equal(mutant, whole[cell])
    assert sum(len(edits.of_sequences(i, i + 1)) for i in range(5)) == len(edits)


def edits_at(pairs):
    sequence, start = (np.array([p[i] for p in pairs], dtype=np.int64) for i in range(2))
    index = np.arange(len(pairs))
    return Edits(sequence, start, index * 0, index, np.zeros((1, 1, 4)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60))
def test_grouping_loses_and_doubles_nothing(pairs):
    edits = edits_at(pairs)
    groups = group(edits)
    members = groups.edit[groups.edit >= 0]
    assert sorted(members) == list(range(len(pairs)))
    assert (np.diff(groups.start) >= 0).all(), "sorted by start"
    for sequence, start, row in zip(groups.sequence, groups.start, groups.edit, strict=True):
        assert len(row) == groups.members
        real = row[row >= 0]
        assert len(real), "no group is empty"
        assert {pairs[i] for i in real} == {(sequence, start)}


def test_substitutions_group_by_place():
    x = one_hot(3, 7)
    groups = group(substitutions(x, 0, 7))
    assert groups.members == 3
    assert len(groups) == 3 * 7
    assert (groups.edit >= 0).all()
    x[0, 2] = 0  # four edits there: one more group
    groups = group(substitutions(x, 0, 7))
    assert groups.members == 3
    assert len(groups) == 3 * 7 + 1
    assert (groups.edit < 0).sum() == 2


def test_no_edits_group_into_nothing():
    groups = group(edits_at([]))
    assert len(groups) == 0
    assert groups.members >= 1
