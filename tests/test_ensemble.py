"""Averages over models, strands and shifts, against loops that mutate, turn and move whole sequences one by one."""

from __future__ import annotations

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers

from fastism import FastISM, NaiveISM, Saturation
from fastism.ensemble import Ensemble, EnsembleSaturation
from fastism.scores import difference, select_target
from fastism.testing import randomize

LENGTH, N = 13, 2


def sequences(seed=0, length=LENGTH):
    x = np.eye(4, dtype=keras.config.floatx())[np.random.default_rng(seed).integers(0, 4, (N, length))]
    x[1, 4] = 0
    return x


def scalar_model(seed=0, targets=3):
    x = keras.Input((LENGTH, 4))
    h = layers.Conv1D(5, 4, padding="same", activation="relu")(x)
    return randomize(keras.Model(x, layers.Dense(targets)(layers.Flatten()(h))), seed=seed)


def profile_model(seed=0):
    x = keras.Input((LENGTH, 4))
    h = layers.Conv1D(5, 4, padding="same", activation="relu")(x)
    outputs = {"counts": layers.Dense(3)(layers.Flatten()(h)), "profile": layers.Conv1D(2, 3, padding="same")(h)}
    return randomize(keras.Model(x, outputs), seed=seed)


def moved(sequence, shift):
    """One sequence (L, 4), letter by letter."""
    out = np.zeros_like(sequence)
    for p in range(len(sequence)):
        if 0 <= p + shift < len(sequence):
            out[p + shift] = sequence[p]
    return out


def turned(sequence):
    return np.stack([[column[3], column[2], column[1], column[0]] for column in sequence[::-1]])


def by_hand(models, x, start, end, *, rc, shifts, back=lambda y: y):
    """Flat lists over members of references (N, *output) and mutants (N, P, A, *output), with one call a member."""
    variants = []
    for sequence in x:
        variants.append(sequence)
        for p in range(start, end):
            for a in range(4):
                mutant = sequence.copy()
                mutant[p] = np.eye(4)[a]
                variants.append(mutant)
    members = []
    for shift in shifts:
        for strand in (False, True) if rc else (False,):
            seen = np.stack([turned(moved(v, shift)) if strand else moved(v, shift) for v in variants])
            for model in models:
                y = np.asarray(keras.ops.convert_to_numpy(model(seen)), np.float64)
                y = back(y) if strand else y
                y = y.reshape(len(x), 1 + 4 * (end - start), *y.shape[1:])
                members.append((y[:, 0], y[:, 1:].reshape(len(x), end - start, 4, *y.shape[2:])))
    return members


def agree(found, members, ddof=0, seen=True):
    references, mutants = (np.stack(parts) for parts in zip(*members, strict=True))
    deltas = mutants - references[:, :, None, None]
    scale = np.abs(mutants).max()
    close = {"rtol": 0, "atol": 1e-5 * scale}
    np.testing.assert_allclose(found.reference, references.mean(0), **close)
    np.testing.assert_allclose(found.mutant, mutants.mean(0), **close)
    np.testing.assert_allclose(found.spread.reference, references.std(0, ddof=ddof), **close)
    np.testing.assert_allclose(found.spread.mutant, mutants.std(0, ddof=ddof), **close)
    np.testing.assert_allclose(found.difference_spread, deltas.std(0, ddof=ddof), **close)
    assert found.members == len(members)
    assert (np.abs(deltas).max() > 0.01 * scale) == seen


@pytest.mark.parametrize(
    ("rc", "shifts"), [(False, (0,)), (True, (0,)), (False, (0, 1, -1)), (True, (0, 2, -3)), (True, (5,))]
)
@pytest.mark.parametrize("stretch", [(0, LENGTH), (3, 8), (0, 2), (11, 13)])
def test_equals_a_loop_over_members(rc, shifts, stretch):
    models, x = [scalar_model(1), scalar_model(2)], sequences()
    ensemble = Ensemble(models, rc, shifts)
    found = ensemble.saturate(x, *stretch)
    agree(found, by_hand(models, x, *stretch, rc=rc, shifts=shifts), seen=0 in shifts or stretch[0] + 5 < LENGTH)
    assert len(ensemble) == 2 * len(shifts) * (1 + rc)


def test_a_position_that_a_shift_moves_out_changes_nothing_for_that_member():
    x = sequences()
    alone = Ensemble([scalar_model()], shifts=(4,)).saturate(x)
    np.testing.assert_array_equal(difference(*alone)[:, LENGTH - 4 :], 0)
    assert np.abs(difference(*alone)[:, : LENGTH - 4]).max() > 0
    both = Ensemble([scalar_model()], shifts=(0, 4)).saturate(x)
    plain = FastISM(scalar_model()).saturate(x)
    half = difference(*plain)[:, LENGTH - 4 :] / 2
    np.testing.assert_allclose(difference(*both)[:, LENGTH - 4 :], half, atol=1e-5)


def test_reverse_complement_by_hand():
    """A model that counts A at position 0 alone: turned, it counts T at the last position."""
    x_in = keras.Input((3, 4))
    model = keras.Model(x_in, layers.Dense(1, use_bias=False)(layers.Flatten()(x_in)))
    weights = np.zeros((12, 1))
    weights[0] = 2.0
    model.layers[-1].set_weights([weights])
    x = np.eye(4)[[[0, 1, 3]]]  # ACT; its reverse complement is AGT
    found = difference(*Ensemble([model], rc=True).saturate(x))[0, ..., 0]
    np.testing.assert_array_equal(found[0], [0, -1, -1, -1])
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_array_equal(found[2], [-1, -1, -1, 0])


def test_profiles_are_turned_back_where_asked():
    models, x = [profile_model(1), profile_model(2)], sequences()
    found = Ensemble(models, rc=True, flip_outputs=["profile"]).saturate(x, 2, 9)
    assert isinstance(found, EnsembleSaturation)
    track = [keras.Model(m.input, m.output["profile"]) for m in models]
    agree(select_target(found, "profile"), by_hand(track, x, 2, 9, rc=True, shifts=(0,), back=lambda y: y[:, ::-1]))
    total = [keras.Model(m.input, m.output["counts"]) for m in models]
    agree(select_target(found, "counts"), by_hand(total, x, 2, 9, rc=True, shifts=(0,)))
    plain = Ensemble(track, rc=True).saturate(x, 2, 9)
    agree(plain, by_hand(track, x, 2, 9, rc=True, shifts=(0,)))
    agree(
        Ensemble(track, rc=True, flip_outputs=True).saturate(x, 2, 9),
        by_hand(track, x, 2, 9, rc=True, shifts=(0,), back=lambda y: y[:, ::-1]),
    )


def test_strand_pairs_are_exchanged_on_the_other_strand():
    models, x = [profile_model(1)], sequences()
    track = [keras.Model(m.input, m.output["profile"]) for m in models]
    found = Ensemble(track, rc=True, flip_outputs=True, strand_pairs=(1, 0)).saturate(x, 2, 5)
    agree(found, by_hand(track, x, 2, 5, rc=True, shifts=(0,), back=lambda y: y[:, ::-1, ::-1]))
    three = Ensemble([scalar_model()], rc=True, strand_pairs=(1, 0, 2)).saturate(x, 2, 5)
    agree(three, by_hand([scalar_model()], x, 2, 5, rc=True, shifts=(0,), back=lambda y: y[:, [1, 0, 2]]))
    with pytest.raises(ValueError, match="strand_pairs is for 2 targets, but no output"):
        Ensemble([scalar_model()], rc=True, strand_pairs=(1, 0)).saturate(x)
    total = [keras.Model(m.input, keras.ops.sum(m.output["profile"], axis=(1, 2))) for m in models]
    agree(
        Ensemble(total, rc=True, strand_pairs=(1, 0)).saturate(x, 2, 5),
        by_hand(total, x, 2, 5, rc=True, shifts=(0,)),
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_spread_says_what_it_divides_by(ddof):
    models, x = [scalar_model(s) for s in range(3)], sequences()
    found = Ensemble(models, ddof=ddof).saturate(x, 0, 4)
    agree(found, by_hand(models, x, 0, 4, rc=False, shifts=(0,)), ddof=ddof)


def test_one_member_has_no_spread_and_is_itself():
    model, x = scalar_model(), sequences()
    found = Ensemble([NaiveISM(model)]).saturate(x)
    reference, mutant = found  # unpacks like any Saturation
    expected = NaiveISM(model).saturate(x)
    np.testing.assert_array_equal(reference, expected.reference)
    np.testing.assert_array_equal(mutant, expected.mutant)
    np.testing.assert_array_equal(found.spread.mutant, 0)
    np.testing.assert_array_equal(found.difference_spread, 0)
    assert isinstance(found, Saturation)
    assert mutant.dtype == np.float64
    there = x == 1
    np.testing.assert_array_equal(difference(*found)[there], 0)


def test_an_offset_between_models_is_no_spread_of_differences():
    class Fixed:
        def __init__(self, offset):
            self.offset = offset

        def saturate(self, x, start=0, end=None, progress=False):
            y = np.arange(4.0).reshape(1, 1, 4, 1) + self.offset
            return Saturation(np.full((1, 1), self.offset), np.repeat(y, end - start, axis=1))

    found = Ensemble([Fixed(0.0), Fixed(1000.0)]).saturate(np.zeros((1, 6, 4)))
    np.testing.assert_array_equal(found.spread.mutant, 500)
    np.testing.assert_array_equal(found.difference_spread, 0)


def test_other_inputs_stay_as_they_are():
    sequence, other = keras.Input((LENGTH, 4), name="sequence"), keras.Input((3,), name="other")
    h = layers.Concatenate()([layers.Flatten()(layers.Conv1D(3, 3)(sequence)), other])
    model = randomize(keras.Model([other, sequence], layers.Dense(2)(h)))
    x, extra = sequences(), np.random.default_rng(5).normal(size=(N, 3))
    found = Ensemble([FastISM(model, seq_input_idx=1)], rc=True, seq_input=1).saturate([extra, x])
    back = NaiveISM(model, seq_input_idx=1).saturate([extra, np.stack([turned(s) for s in x])])
    plain = NaiveISM(model, seq_input_idx=1).saturate([extra, x])
    np.testing.assert_allclose(found.reference, (plain.reference + back.reference) / 2, atol=1e-5)
    np.testing.assert_allclose(found.mutant, (plain.mutant + back.mutant[:, ::-1, ::-1]) / 2, atol=1e-5)
    named = Ensemble([FastISM(model, seq_input_idx=1)], rc=True, seq_input="sequence")
    same = named.saturate({"other": extra, "sequence": x})
    np.testing.assert_array_equal(same.mutant, found.mutant)
    with pytest.raises(ValueError, match=r"seq_input is 2; x holds \[0, 1\]"):
        Ensemble([FastISM(model, seq_input_idx=1)], seq_input=2).saturate([extra, x])


def test_channels_beside_the_letters_are_turned_with_them():
    x_in = keras.Input((LENGTH, 5))
    model = randomize(keras.Model(x_in, layers.Dense(2)(layers.Flatten()(layers.Conv1D(3, 3)(x_in)))))
    x = np.concatenate([sequences(), np.random.default_rng(3).normal(size=(N, LENGTH, 1))], axis=2)
    ism = FastISM(model, channels=slice(0, 4))
    found = Ensemble([ism], rc=True, complement=(3, 2, 1, 0, 4)).saturate(x, 3, 6)
    plain, back = ism.saturate(x, 3, 6), ism.saturate(x[:, ::-1][..., [3, 2, 1, 0, 4]], LENGTH - 6, LENGTH - 3)
    np.testing.assert_allclose(found.mutant, (plain.mutant + back.mutant[:, ::-1, ::-1]) / 2, atol=1e-5)
    with pytest.raises(ValueError, match="The sequences have 5 channels and complement is for 4; give complement="):
        Ensemble([ism], rc=True).saturate(x)


def test_models_are_not_changed_and_results_can_be_kept(tmp_path):
    model, x = scalar_model(), sequences()
    before = [np.array(w) for w in model.get_weights()]
    given = x.copy()
    found = Ensemble([model], rc=True, shifts=(0, 1)).saturate(x, -4)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(x, given)
    assert found.mutant.shape == (N, 4, 4, 3)
    for kept in (pickle.loads(pickle.dumps(found)), copy.copy(found)):
        np.testing.assert_array_equal(kept.mutant, found.mutant)
        np.testing.assert_array_equal(kept.difference_spread, found.difference_spread)
        assert kept.members == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": []}, r"models is \[\]; a list of at least one model"),
        ({"shifts": ()}, r"shifts is \(\); a list of different integers"),
        ({"shifts": (0, 0)}, r"shifts is \(0, 0\)"),
        ({"shifts": 1}, "shifts is 1"),
        ({"ddof": 1}, "ddof is 1, but there is one member only"),
        ({"ddof": 2}, "ddof is 2; 0 or 1 is accepted"),
        ({"complement": (1, 2, 0)}, r"complement is \[1, 2, 0\]; each index with its partner's"),
        ({"strand_pairs": (0, 0)}, r"strand_pairs is \[0, 0\]"),
        ({"batch_size": 4}, r"\['batch_size'\] are for making a FastISM; a NaiveISM was given"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**{"models": [NaiveISM(scalar_model())], **arguments})


def test_what_does_not_fit_is_said_when_it_shows():
    x = sequences()
    with pytest.raises(ValueError, match="shifts holds 13, which moves sequences of 13 out of sight"):
        Ensemble([scalar_model()], shifts=(0, 13)).saturate(x)
    with pytest.raises(ValueError, match="outputs of different shapes"):
        Ensemble([scalar_model(), scalar_model(targets=2)]).saturate(x, 0, 2)
    with pytest.raises(ValueError, match="start=5, end=5 is empty"):
        Ensemble([scalar_model()]).saturate(x, 5, 5)
    with pytest.raises(ValueError, match=r"The sequences have shape \(13, 4\)"):
        Ensemble([scalar_model()]).saturate(x[0])
    with pytest.raises(ValueError, match="flip_outputs is .*, but the models have one output"):
        Ensemble([scalar_model()], rc=True, flip_outputs=["profile"]).saturate(x, 0, 2)
    with pytest.raises(ValueError, match=r"flip_outputs holds 'track'; the outputs are \['counts', 'profile'\]"):
        Ensemble([profile_model()], rc=True, flip_outputs=["track"]).saturate(x, 0, 2)
