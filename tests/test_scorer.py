"""What models are asked for by those that score sequences: which output, how long, which letters."""

from __future__ import annotations

from collections import OrderedDict

import keras
import numpy as np
import pytest
from keras import layers as L

from fastism import NaiveISM
from fastism.metrics import METRICS
from fastism.scorer import Scorer, central
from fastism.testing import randomize
from fastism.variant_scorer import VariantScorer

LENGTH = 24
JIT = keras.backend.backend() == "jax"
OPTIONS = {"test_correctness": False, "jit": JIT}
X = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]


def heads(nest=dict, length=LENGTH):
    """A profile, written first, and a count, which plain dicts sort before it."""
    x = keras.Input((length, 4))
    h = L.Conv1D(6, 5, activation="relu", padding="same")(x)
    profile = L.Conv1D(2, 3, padding="same", activation="softplus")(h)
    count = L.Dense(1)(L.GlobalAveragePooling1D()(h))
    return randomize(keras.Model(x, nest([("profile", profile), ("count", count)])))


class Net(keras.Model):
    """Defines its own call."""

    def __init__(self):
        super().__init__()
        self.conv = L.Conv1D(4, 5, activation="relu", padding="same")
        self.head = L.Conv1D(2, 3, padding="same")

    def call(self, x):
        return self.head(self.conv(x))


def subclassed():
    model = Net()
    model(X)
    return randomize(model)


def averaged(model, key, metric="subtract", rc=False):
    """By naive: the mean over strands of a metric of an output."""
    found = []
    for turn in (False, True)[: 1 + rc]:
        naive = NaiveISM(model).saturate(np.ascontiguousarray(X[:, ::-1, ::-1]) if turn else X)
        before, after = (naive.reference[key], naive.mutant[key]) if key else naive
        if turn and metric == "subtract" and before.ndim == 3:
            before, after = before[:, ::-1], after[..., ::-1, :]
        values = METRICS[metric](before, after)
        found.append(values[:, ::-1, ::-1] if turn else values)
    return np.mean(found, axis=0)


def close(found, want):
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(found, want, atol=2e-3 * np.abs(want).max())


@pytest.mark.parametrize(("nest", "order"), [(dict, ("count", "profile")), (OrderedDict, ("profile", "count"))])
def test_outputs_of_a_dict_are_counted_as_fastism_counts_them(nest, order):
    model = heads(nest)
    profile, count = order.index("profile"), order.index("count")
    for output in (count, count - 2, "count"):
        found = Scorer(model, output=output, rc=True, **OPTIONS)(X)
        close(found.differences, averaged(model, "count", rc=True))
    for output in (profile, "profile"):
        found = Scorer(model, "jsd", output=output, rc=True, **OPTIONS)(X)
        close(found.differences, averaged(model, "profile", "jsd", rc=True))
        with pytest.raises(ValueError, match="targets holds 2; the output has 2"):
            Scorer(model, "jsd", output=output, targets=[2])
    for made in (lambda **o: Scorer(model, "logSUM", **o), lambda **o: VariantScorer(model, ["logSUM"], **o)):
        with pytest.raises(ValueError, match=r"consumes profiles, .*; the output has shape \(1,\)"):
            made(output=count)
        with pytest.raises(ValueError, match=f"has 2 outputs, '{order[0]}', '{order[1]}'; choose one with output="):
            made()
    scores = VariantScorer(model, ["logSUM"], output=profile, rc=True, **OPTIONS)(X, np.roll(X, 1, axis=1))
    assert list(scores) == ["logSUM:0", "logSUM:1"]


def test_a_name_of_several_outputs_is_not_one():
    x = keras.Input((LENGTH, 4))
    a, b = (L.Dense(1)(L.Flatten()(x)) for _ in range(2))
    model = keras.Model(x, {"both": [a, b], "first": a})
    with pytest.raises(ValueError, match="output is 'both', which is 2 outputs .*; an index from 0 to 2 is one"):
        Scorer(model, output="both")


def test_models_that_define_their_own_call_say_what_they_take_and_give():
    model = subclassed()
    assert central(model, 6, None, None) == (9, 15)
    found = Scorer(model, "jsd", rc=True, **OPTIONS)
    assert (found.length, found.chosen.shape) == (LENGTH, (None, LENGTH, 2))
    close(found(X).differences, averaged(model, None, "jsd", rc=True))
    pairs = VariantScorer(model, ["subtract"], targets=[1], rc=True, **OPTIONS)
    with pytest.raises(ValueError, match=r"leaves \(24, 1\) numbers"):
        pairs(X, X)
    with pytest.raises(ValueError, match="targets holds 2; the output has 2"):
        Scorer(model, targets=[2])


def test_the_length_is_the_models_own_or_has_to_be_given():
    model = heads(length=None)
    with pytest.raises(ValueError, match=r"any length; say for which with length= \(--sequence-length\)"):
        Scorer(model, output="count")
    with pytest.raises(ValueError, match="length is 0; a positive integer is accepted"):
        central(model, 5, None, None, 0)
    assert central(model, 4, None, None, LENGTH) == (10, 14)
    close(Scorer(model, output="count", length=LENGTH, **OPTIONS)(X).differences, averaged(model, "count"))
    with pytest.raises(ValueError, match="length is 9, but the model takes sequences of 24; leave it out"):
        VariantScorer(heads(), output="count", length=9)


def test_pairs_of_strands_are_taken_by_metrics_that_join_the_tracks():
    model = heads()
    options = {"output": "profile", "rc": True, "start": 9, "end": 15, **OPTIONS}
    plain, paired = (Scorer(model, "profile", strand_pairs=p, **options)(X) for p in (None, (1, 0)))
    assert plain.differences.shape == (2, 6, 4, 1)
    np.testing.assert_allclose(paired.differences, plain.differences, rtol=1e-4, atol=1e-6)
    close(paired.differences[..., 0], averaged(model, "profile", "profile", rc=True)[:, 9:15])
    other = np.roll(X, 1, axis=1)
    plain, paired = (
        VariantScorer(model, ["profile"], strand_pairs=p, output=1, rc=True, **OPTIONS)(X, other)
        for p in (None, (1, 0))
    )
    np.testing.assert_allclose(paired["profile"], plain["profile"], rtol=1e-4, atol=1e-6)
    assert Scorer(model, "logSUM", strand_pairs=(1, 0), **options)(X).differences.shape[-1] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "profile", "strand_pairs": (1, 0, 2)}, r"is \[1, 0, 2\], but 2 targets are scored"),
        ({"output": "profile", "strand_pairs": (1, 0), "targets": [1]}, r"is \[1, 0\], but 1 target is scored"),
        ({"output": "count", "strand_pairs": (1, 0)}, r"is \[1, 0\], but 1 target is scored"),
    ],
)
def test_pairs_of_strands_are_for_the_targets_that_are_scored(options, message):
    for kind in (Scorer, VariantScorer):
        with pytest.raises(ValueError, match=rf"strand_pairs \(--strand-pairs\) {message}"):
            kind(heads(), rc=True, **options)


def dense(targets=2, length=LENGTH, name=None, seed=0):
    x = keras.Input((length, 4))
    h = L.GlobalMaxPooling1D()(L.Conv1D(4, 5, activation="relu")(x))
    return randomize(keras.Model(x, L.Dense(targets)(h), name=name), seed=seed)


def test_models_of_different_shapes_are_not_averaged():
    for kind in (Scorer, VariantScorer):
        for sizes in ((2, 1), (1, 2), (3, 2)):
            folds = [dense(n, name=f"m{n}") for n in sizes]
            message = (
                rf"give outputs of different shapes: \({sizes[0]},\) \(model 0, 'm{sizes[0]}'\) and \({sizes[1]},\)"
            )
            with pytest.raises(ValueError, match=message):
                kind(folds)
        with pytest.raises(ValueError, match=r"take sequences of different shapes: \(24, 4\) .* and \(30, 4\)"):
            kind([dense(), dense(length=30)])
        with pytest.raises(ValueError, match="models is empty; a Keras model, or a list of at least one"):
            kind([])


def test_a_model_of_any_length_is_averaged_with_one_of_a_length():
    folds = [dense(length=None), dense(seed=1)]
    scorer = Scorer(folds, **OPTIONS)
    assert scorer.length == LENGTH
    close(scorer(X).differences, np.mean([averaged(m, None) for m in folds], axis=0))


def test_shapes_that_models_do_not_say_are_compared_when_they_come():
    from fastism.chosen import check_same_shape

    with pytest.raises(ValueError, match=r"scores of different shapes, \(2, 60, 4, 2\) and \(2, 60, 4, 1\)"):
        check_same_shape((2, 60, 4, 2), (2, 60, 4, 1))


@pytest.mark.parametrize("kind", [Scorer, VariantScorer])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rc": "False"}, ValueError, "rc is 'False'; True or False"),
        ({"flip_outputs": "no"}, ValueError, "flip_outputs is 'no'; True or False"),
        ({"targets": [1.7]}, TypeError, r"targets is \[1.7\]; a list of indices"),
        ({"targets": [True]}, TypeError, r"targets is \[True\]; a list of indices"),
        ({"targets": "10"}, TypeError, "targets is '10'; a list of indices"),
        ({"targets": [None]}, TypeError, r"targets is \[None\]; a list of indices"),
        ({"targets": slice(0, 1)}, TypeError, r"targets is slice\(0, 1, None\); a list of indices"),
        ({"targets": [0, 0]}, ValueError, "targets holds 0 twice"),
        ({"targets": [1, -1]}, ValueError, "targets holds 1 twice"),
        ({"target_names": ["a", "a"]}, ValueError, "target_names .* holds 'a' twice; different ones"),
        ({"target_names": "ab"}, TypeError, "target_names is 'ab'; a list of names"),
        ({"change_ranges": [(0, 2)]}, TypeError, "change_ranges= is not accepted here: start= and end="),
        ({"reduce": len}, TypeError, "reduce= is not accepted here: the metric"),
        ({"outputs": 0}, TypeError, "outputs= is not accepted here: output= chooses"),
    ],
)
def test_what_is_asked_for_is_checked_at_the_door(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(dense(), **options)


def test_one_target_is_a_list_of_one():
    scorer = Scorer(dense(), targets=np.int64(1), **OPTIONS)
    close(scorer(X).differences, averaged(dense(), None)[..., 1:])


@pytest.mark.parametrize("alphabet", ["AAAA", "acgt", 4])
def test_an_alphabet_is_a_text_of_different_capitals(alphabet):
    with pytest.raises((ValueError, TypeError), match=f"alphabet is {alphabet!r}; .*different capital letters"):
        Scorer(dense(), alphabet=alphabet)


def test_sequences_are_of_the_length_that_is_scored():
    scorer, pairs = (kind(dense(length=None), length=LENGTH, **OPTIONS) for kind in (Scorer, VariantScorer))
    with pytest.raises(ValueError, match=r"x has shape \(2, 20, 4\), sequences of length 20; those of 24"):
        scorer(X[:, :20])
    with pytest.raises(ValueError, match="alternative has shape .* sequences of length 20; those of 24"):
        pairs(X, X[:, :20])
    with pytest.raises(ValueError, match=r"x has shape \(2, 20, 4\); .*the length is 20 where the model has 24"):
        Scorer(dense(), **OPTIONS)(X[:, :20])
    with pytest.raises(TypeError, match=r"attributes is \[1\]; a dict"):
        scorer(X, attributes=[1])


def test_pairs_are_arrays_of_equally_many_sequences():
    pairs = VariantScorer(dense(), **OPTIONS)
    with pytest.raises(TypeError, match="reference is a str; an array"):
        pairs("ACGT", X)
    with pytest.raises(TypeError, match="alternative is a NoneType; an array"):
        pairs(X, None)
    with pytest.raises(ValueError, match="2 reference and 1 alternative sequences; one of each"):
        pairs(X, X[:1])


def test_models_of_several_inputs_take_dicts_and_no_variants():
    cell, seq = keras.Input((3,), name="cell"), keras.Input((LENGTH, 4), name="seq")
    h = L.GlobalMaxPooling1D()(L.Conv1D(4, 5)(seq))
    model = randomize(keras.Model({"cell": cell, "seq": seq}, L.Dense(2)(L.Concatenate()([h, cell]))))
    scorer = Scorer(model, seq_input_idx=1, rc=True, **OPTIONS)
    other = np.ones((2, 3), "float32")
    found = scorer({"seq": X, "cell": other})
    assert found.differences.shape == (2, LENGTH, 4, 2)
    np.testing.assert_array_equal(found.differences, scorer([other, X]).differences)
    with pytest.raises(ValueError, match="takes 2 inputs; a VariantScorer takes models of the sequence alone. Pass"):
        VariantScorer(model, seq_input_idx=1)
