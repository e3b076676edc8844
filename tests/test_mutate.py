"""Kinds of mutation on models: what every mutated sequence really gives, block by block and pair by pair."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers as L
from oracle import predict, share_of_effect

from fastism import FastISM
from fastism.kinds import Change, changed, random_letters, shuffled
from fastism.mutagenesis import Mutagenesis
from fastism.naive import Saturation
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"
FLOAT = keras.config.floatx()
TOLERANCE = 1e-8 if FLOAT == "float64" else 1e-3
LENGTH = 64


@functools.cache
def model(name):
    x = keras.Input((LENGTH, 4), name="sequence")
    h = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    if name == "pooled":
        h = L.MaxPooling1D(3)(L.Conv1D(5, 4, activation="gelu")(h))
        return randomize(keras.Model(x, L.Dense(2)(L.Flatten()(h))))
    h = L.Add()([h, L.Conv1D(6, 3, dilation_rate=4, padding="same", activation="relu")(h)])
    if name == "profile":
        profile = L.Cropping1D(10)(L.Conv1D(2, 7, padding="same")(h))
        return randomize(keras.Model(x, {"profile": profile, "count": L.Dense(1)(L.GlobalAveragePooling1D()(h))}))
    bias = keras.Input((3,), name="bias")
    h = L.Concatenate()([L.GlobalMaxPooling1D()(h), bias])
    return randomize(keras.Model([bias, x], L.Dense(1)(h)))


@functools.cache
def fast(name, **options):
    index = 1 if name == "two inputs" else 0
    return FastISM(model(name), index, test_correctness=False, jit=JIT, **options)


def one_hot(n=2, length=LENGTH, seed=0):
    return np.eye(4, dtype=FLOAT)[np.random.default_rng(seed).integers(0, 4, (n, length))]


def given(name, n=2):
    x = one_hot(n)
    return [np.random.default_rng(1).normal(size=(n, 3)).astype(FLOAT), x] if name == "two inputs" else x


def outputs(name, x, mutated, owner):
    """Flat outputs of mutated sequences, each with the other inputs of its owner."""
    return predict(model(name), [x[0][owner], mutated] if name == "two inputs" else [mutated])


def agree(name, x, found, mutated, owner):
    """``found`` (flattened over sequences and axes) is what the model gives for ``mutated``."""
    sequences = x[1] if name == "two inputs" else x
    want = outputs(name, x, mutated, owner)
    reference = outputs(name, x, sequences, np.arange(len(sequences)))
    for got, w, r in zip(keras.tree.flatten(found), want, reference, strict=True):
        error, effect = share_of_effect(np.asarray(got).reshape(w.shape), w, r[owner])
        assert effect > 1e-6
        assert error <= TOLERANCE


NAMES = pytest.mark.parametrize("name", ["pooled", "profile", "two inputs"])


@NAMES
def test_scan_writes_every_content_over_every_block(name):
    x = given(name)
    sequences = x[1] if name == "two inputs" else x
    found = fast(name).scan(x, ["TGACTCA", "CCGCGCC"], 3, 60, step=4)
    assert found.kind == "blocks"
    assert found.axes == ("position", "content")
    assert found.width == 7
    assert found.start.tolist() == list(range(3, 54, 4))
    mutated = np.repeat(sequences, len(found.start) * 2, axis=0)
    contents = [np.array([["ACGT".index(c) == i for i in range(4)] for c in t]) for t in ("TGACTCA", "CCGCGCC")]
    for row in range(len(mutated)):
        start = found.start[row // 2 % len(found.start)]
        mutated[row, start : start + 7] = contents[row % 2]
    agree(name, x, found.mutant, mutated, np.repeat([0, 1], len(found.start) * 2))


@NAMES
def test_shuffles_and_random_letters(name):
    x = given(name)
    sequences = x[1] if name == "two inputs" else x
    starts = np.arange(10, 41, 6)
    for found, contents in (
        (
            fast(name).shuffle(x, 10, 10, 50, k=2, replicates=3, step=6, seed=5),
            shuffled(sequences, 0, starts, 10, 2, 3, 5),
        ),
        (
            fast(name).randomize(x, 10, 10, 50, replicates=3, step=6, seed=5, probabilities=[1, 1, 2, 0]),
            random_letters(sequences, 0, starts, 10, np.array([0.25, 0.25, 0.5, 0]), 3, 5),
        ),
    ):
        assert found.start.tolist() == starts.tolist()
        assert found.axes == ("position", "replicate")
        mutated = np.repeat(sequences, len(starts) * 3, axis=0)
        for row in range(len(mutated)):
            p = row // 3 % len(starts)
            mutated[row, starts[p] : starts[p] + 10] = contents[row // 3 // len(starts), p, row % 3]
        agree(name, x, found.mutant, mutated, np.repeat([0, 1], len(starts) * 3))


def test_replicates_are_summed_up():
    found = fast("profile").shuffle(one_hot(1), 8, replicates=4, step=20)
    for output in ("profile", "count"):
        delta = found.mutant[output] - found.reference[output][:, None, None]
        assert np.allclose(found.mean()[output], delta.mean(2), atol=1e-6)
        assert np.allclose(found.spread()[output], delta.std(2), atol=1e-6)


@NAMES
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("flanked", [False, True])
def test_deletions_shift_one_side_and_take_letters_from_the_flank(name, side, flanked):
    x = given(name)
    sequences = x[1] if name == "two inputs" else x
    flank = one_hot(2, 5, seed=9) if flanked else None
    found = fast(name).delete(x, 3, side=side, flank=flank, step=2)
    assert found.kind == "deletions"
    starts = np.arange(0, LENGTH - 2, 2)
    assert found.start.tolist() == starts.tolist()
    mutated = []
    for n, sequence in enumerate(sequences):
        beside = np.zeros((5, 4)) if flank is None else flank[n]
        for s in starts:
            kept = np.delete(sequence, slice(s, s + 3), axis=0)
            mutated.append(np.concatenate([kept, beside[:3]] if side == "right" else [beside[2:], kept]))
    agree(name, x, found.mutant, np.array(mutated, FLOAT), np.repeat([0, 1], len(starts)))


@NAMES
@pytest.mark.parametrize("side", ["left", "right"])
def test_insertions_push_one_side_out(name, side):
    x = given(name)
    sequences = x[1] if name == "two inputs" else x
    found = fast(name).insert(x, "ACC", 1, 62, side=side, step=3)
    starts = np.arange(1, 62, 3)
    assert found.start.tolist() == starts.tolist()
    content = np.eye(4)[[0, 1, 1]]
    mutated = []
    for sequence in sequences:
        for s in starts:
            longer = np.insert(sequence, [s] * 3, content, axis=0)
            mutated.append(longer[:LENGTH] if side == "right" else longer[-LENGTH:])
    agree(name, x, found.mutant, np.array(mutated, FLOAT), np.repeat([0, 1], len(starts)))


@NAMES
def test_variants_of_any_length(name):
    x = given(name)
    sequences = x[1] if name == "two inputs" else x
    changes = [(0, 5, 6, "A"), (1, 5, 6, "C"), (0, 0, 1, "T"), (1, 63, 64, "G"), (0, 20, 24, "ACGT"), (0, 20, 24, "-")]
    changes += [(1, 30, 30, "TT"), (1, 10, 12, "ACGTA"), (0, 60, 64, ""), (0, 7, 8, np.array([[0.5, 0.5, 0, 0]]))]
    found = fast(name).variants(x, changes)
    contents = [np.eye(4)[["ACGT".index(c) for c in t.strip("-")]].reshape(-1, 4) if isinstance(t, str) else t
                for *_, t in changes]  # fmt: skip
    mutated = [
        changed(sequences[s], Change(s, a, b, c), "right", None)
        for (s, a, b, _), c in zip(changes, contents, strict=True)
    ]
    owner = np.array([c[0] for c in changes])
    agree(name, x, found.mutant, np.array(mutated, FLOAT), owner)
    agree(name, x, fast(name).compare([x[0][owner], sequences[owner]] if name == "two inputs" else sequences[owner],
                                      np.array(mutated)).mutant, np.array(mutated, FLOAT), owner)  # fmt: skip
    reference = outputs(name, x, sequences, np.arange(2))
    for got, want in zip(keras.tree.flatten(found.reference), reference, strict=True):
        assert np.allclose(got, want[owner], atol=1e-5)


@NAMES
def test_pairs_are_all_pairs_of_substitutions(name):
    x = given(name)
    sequences = x[1] if name == "two inputs" else x
    found = fast(name).pairs(x, 20, 25)
    mutated, owner = [], []
    for n in range(2):
        for i in range(5):
            for a in range(4):
                for j in range(5):
                    for b in range(4):
                        copy = sequences[n].copy()
                        copy[20 + i] = np.eye(4)[a]
                        copy[20 + j] = np.eye(4)[b]
                        mutated.append(copy)
                        owner.append(n)
    agree(name, x, found.double, np.array(mutated), np.array(owner))
    saturated = fast(name).saturate(x, 20, 25)
    for single, double, interaction, mutant, reference in zip(
        *(keras.tree.flatten(v) for v in (found.single, found.double, found.interaction, *saturated[::-1])), strict=True
    ):
        assert np.allclose(single, mutant, atol=1e-5)
        d = double - reference[:, None, None, None, None]
        s = single - reference[:, None, None]
        want = d - s[:, :, :, None, None] - s[:, None, None]
        want[:, range(5), :, range(5)] = 0
        assert np.allclose(interaction, want, atol=1e-5)
        assert np.abs(interaction).max() > 1e-4
        there = np.nonzero(sequences[0, 20:25])[1]
        assert np.abs(interaction[0, np.arange(5), there]).max() < 1e-5


def test_pairs_with_letters_among_other_channels():
    x = keras.Input((20, 6))
    h = L.GlobalMaxPooling1D()(L.Conv1D(5, 3, activation="relu")(x))
    net = randomize(keras.Model(x, L.Dense(1)(h)))
    tracks = np.random.default_rng(0).normal(size=(1, 20, 2)).astype(FLOAT)
    sequence = np.concatenate([one_hot(1, 20), tracks], axis=2)
    found = FastISM(net, channels=slice(0, 4), test_correctness=False, jit=JIT).pairs(sequence, 4, 7)
    copy = sequence[0].copy()
    copy[4, :4], copy[6, :4] = np.eye(4)[2], np.eye(4)[1]
    assert np.allclose(found.double[0, 0, 2, 2, 1], predict(net, [copy[None]])[0][0], atol=1e-5)
    deleted = FastISM(net, channels=slice(0, 4), test_correctness=False, jit=JIT).delete(sequence, 2)
    copy = sequence[0].copy()
    copy[:, :4] = np.concatenate([copy[:3, :4], copy[5:, :4], np.zeros((2, 4))])
    assert np.allclose(deleted.mutant[0, 3], predict(net, [copy[None]])[0][0], atol=1e-5)


def test_dependency_is_the_largest_difference_at_each_output_position():
    x = one_hot()
    found = fast("profile").dependency(x, 30, 40)
    reference, mutant = fast("profile").saturate(x, 30, 40)
    for output in ("profile", "count"):
        want = np.abs(mutant[output] - reference[output][:, None, None]).max(2)
        assert found[output].shape == want.shape
        assert np.allclose(found[output], want, atol=1e-6)
        assert want.max() > 1e-3


def test_saturation_is_a_mutagenesis_that_unpacks():
    found = fast("pooled").saturate(one_hot(), 5, 9)
    reference, mutant = found
    assert isinstance(found, Mutagenesis)
    assert isinstance(found, Saturation)
    assert found.axes == ("position", "letter")
    assert found.start.tolist() == [5, 6, 7, 8]
    assert (found.differences == mutant - reference[:, None, None]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ism, x: ism.scan(x, np.zeros((3, 5))), r"content has shape \(3, 5\)"),
        (lambda ism, x: ism.scan(x, ["AC", "ACG"]), r"content has texts of \[2, 3\] letters"),
        (lambda ism, x: ism.scan(x, "ACGT", step=0), "step is 0; a positive integer"),
        (lambda ism, x: ism.scan(x, "ACGTACGT", 3, 8), "Blocks of 8 do not fit into positions 3 to 8"),
        (lambda ism, x: ism.shuffle(x, 0), "width is 0; a positive integer"),
        (lambda ism, x: ism.shuffle(x, 5, k=0), "k is 0; a positive integer"),
        (lambda ism, x: ism.shuffle(x, 5, replicates=True), "replicates is True"),
        (lambda ism, x: ism.shuffle(x, 5, seed=-1), "seed is -1; an integer that is not negative"),
        (lambda ism, x: ism.randomize(x, probabilities=[1, 2, 3]), "probabilities are"),
        (lambda ism, x: ism.delete(x, 2, side="up"), "side is 'up'; 'left' or 'right'"),
        (lambda ism, x: ism.delete(x, 3, flank=np.zeros((2, 2, 4))), r"flank has shape \(2, 2, 4\)"),
        (lambda ism, x: ism.variants(x, []), "There are no changes"),
        (lambda ism, x: ism.variants(x, [(0, 1)]), r"changes\[0\] is \(0, 1\)"),
        (lambda ism, x: ism.variants(x, [(2, 0, 1, "A")]), r"changes\[0\] is of sequence 2"),
        (lambda ism, x: ism.insert(x, ["AAA", "CCC"]), r"content holds 2 contents; one, a text or \(W, 4\)"),
        (lambda ism, x: ism.variants(x, [(0, 1, 2, ["AA", "CC"])]), r"content of changes\[0\] holds 2 contents"),
        (lambda ism, x: ism.compare(x, x[:, :5]), "alternatives have shape"),
        (lambda ism, x: ism.compare(x, np.full_like(x, np.nan)), "alternatives hold NaN"),
        (lambda ism, x: ism.pairs(x, 5, 5), "empty or out of range"),
        (lambda ism, x: ism.saturate(x, 0, 5).mean(), "axis is 'replicate'; 'position' or 'letter'"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(fast("pooled"), one_hot())
