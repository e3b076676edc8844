"""What each kind of mutation writes: shuffles keep k-mers, lengths stay, stretches are found."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from fastism.kinds import Change, blocks, changed, euler_shuffle, pieces, random_letters, shuffled, stretches


def one_hot(length, n=2, seed=0):
    return np.eye(4)[np.random.default_rng(seed).integers(0, 4, (n, length))]


def words(letters, k):
    return Counter(tuple(letters[i : i + k]) for i in range(len(letters) - k + 1))


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("width", [1, 2, 5, 30, 200])
@pytest.mark.parametrize("letters", [1, 2, 4])
def test_euler_shuffle_keeps_kmers_and_ends(k, width, letters):
    rng = np.random.default_rng(width + k)
    text = rng.integers(0, letters, width)
    for _ in range(5):
        order = euler_shuffle(text, k, rng)
        assert sorted(order) == list(range(width))
        assert words(text[order], k) == words(text, k)
        assert (text[order][: k - 1] == text[: k - 1]).all()


def test_euler_shuffle_reaches_every_arrangement_equally_often():
    text = np.array([0, 1, 0, 2, 0, 0, 1, 0])
    wanted = {p for p in set(permutations(text.tolist())) if words(p, 2) == words(text.tolist(), 2)}
    rng = np.random.default_rng(0)
    found = Counter(tuple(text[euler_shuffle(text, 2, rng)].tolist()) for _ in range(6000))
    assert set(found) == wanted
    assert len(wanted) > 5
    expected = 6000 / len(wanted)
    assert all(abs(count - expected) < 6 * expected**0.5 for count in found.values())


def test_shuffles_depend_on_seed_sequence_and_start_alone():
    x = one_hot(40)
    whole = shuffled(x, 0, np.arange(0, 31), 10, 1, 3, seed=1)
    assert (shuffled(x[1:], 1, np.arange(5, 9), 10, 1, 3, seed=1) == whole[1:, 5:9]).all()
    assert (shuffled(x, 0, np.arange(0, 31), 10, 1, 3, seed=2) != whole).any()
    for p in range(31):
        assert (whole[:, p].sum(2) == x[:, None, p : p + 10].sum(2)).all()


def test_a_position_without_a_letter_moves_as_it_is():
    x = one_hot(12, n=1)
    x[0, 3], x[0, 7] = 0, 0.25
    found = shuffled(x, 0, np.array([0]), 12, 2, 4, seed=0)[0, 0]
    assert (np.sort(found.sum(-1), axis=1) == np.sort(x[0].sum(-1))).all()
    assert ((found == 0.25).all(-1).sum(-1) == 1).all()


def test_random_letters_follow_their_probabilities():
    found = random_letters(one_hot(50), 0, np.arange(50), 1, np.array([0.5, 0.5, 0.0, 0.0]), 40, seed=3)
    assert found.shape == (2, 50, 40, 1, 4)
    assert (found.sum(-1) == 1).all()
    assert found[..., 2:].sum() == 0
    assert abs(found[..., 0].mean() - 0.5) < 0.03


def test_blocks_go_through_contents_fastest():
    edits = blocks(one_hot(9), np.array([0, 4]), np.stack([one_hot(3)[0], one_hot(3)[1]]))
    assert edits.sequence.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert edits.start.tolist() == [0, 0, 4, 4] * 2
    assert edits.content.tolist() == [0, 1] * 4
    assert edits.cell.tolist() == list(range(8))


def text(x):
    return "".join("ACGTN"[row.argmax() if row.any() else 4] for row in x)


def letters(string):
    return np.array([[c == b for b in "ACGT"] for c in string], dtype=float).reshape(-1, 4)


@pytest.mark.parametrize(
    ("change", "side", "flank", "wanted"),
    [
        ((2, 4, ""), "right", None, "AAGGTTNN"),
        ((2, 4, ""), "right", "CAT", "AAGGTTCA"),
        ((2, 4, ""), "left", "CAT", "ATAAGGTT"),
        ((2, 4, ""), "left", None, "NNAAGGTT"),
        ((2, 2, "TGT"), "right", None, "AATGTCCG"),
        ((2, 2, "TGT"), "left", None, "GTCCGGTT"),
        ((8, 8, "G"), "right", None, "AACCGGTT"),
        ((0, 0, "G"), "left", None, "AACCGGTT"),
        ((7, 8, "G"), "right", None, "AACCGGTG"),
        ((2, 4, "GGG"), "right", None, "AAGGGGGT"),
        ((2, 4, "T"), "right", "A", "AATGGTTA"),
        ((0, 8, ""), "right", None, "NNNNNNNN"),
    ],
)
def test_a_change_of_length_keeps_the_other_side(change, side, flank, wanted):
    start, end, content = change
    beside = None if flank is None else letters(flank)
    found = changed(letters("AACCGGTT"), Change(0, start, end, letters(content)), side, beside)
    assert text(found) == wanted


def test_stretches_cover_every_difference_in_powers_of_two():
    rng = np.random.default_rng(0)
    reference = one_hot(64, n=200)
    other = reference.copy()
    for i in range(1, 200):
        start = rng.integers(0, 64)
        other[i, start : start + rng.integers(1, 20)] = one_hot(1)[0, 0]
    groups, whole = stretches(reference, other, widest=8, few=5)
    rebuilt = reference.copy()
    rebuilt[whole] = other[whole]
    for group in groups:
        width = group.contents.shape[1]
        assert width in (1, 2, 4, 8)
        rebuilt[group.rows[:, None], group.start[:, None] + np.arange(width)] = group.contents
    assert (rebuilt == other).all()
    rows = np.concatenate([*(g.rows for g in groups), whole])
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows) == set(np.flatnonzero((reference != other).any((1, 2))))


def test_small_groups_join_the_next_wider_one():
    reference = np.zeros((4, 32, 4))
    other = reference.copy()
    other[0, 3], other[1, 31], other[2, 4:8], other[3, 20:26] = 1, 1, 1, 1
    groups, whole = stretches(reference, other, widest=8, few=3)
    assert [g.contents.shape for g in groups] == [(3, 4, 4), (1, 8, 4)]
    assert groups[0].start.tolist() == [3, 28, 4]
    assert len(whole) == 0


def test_pieces_cover_everything():
    assert list(pieces(5, 10, most=25)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(pieces(2, 100, most=25)) == [slice(0, 1), slice(1, 2)]
