from collections import OrderedDict

import keras
import numpy as np
import pytest
from keras import layers

from fastism.models import basset_model, bpnet_dense_model, bpnet_model, factorized_basset_model
from fastism.naive import NaiveISM
from fastism.testing import assert_matches_naive, randomize


def every_kind():
    sequence = keras.Input((20, 4))
    hidden = layers.Conv1D(8, 3, padding="same")(sequence)
    hidden = layers.PReLU()(layers.BatchNormalization()(hidden))
    hidden = layers.Conv1DTranspose(8, 3, padding="same")(layers.SeparableConv1D(8, 3, padding="same")(hidden))
    hidden = layers.LayerNormalization()(layers.DepthwiseConv1D(3, padding="same")(hidden))
    hidden = layers.Bidirectional(layers.GRU(4, return_sequences=True))(layers.TimeDistributed(layers.Dense(6))(hidden))
    hidden = layers.MultiHeadAttention(2, 3)(hidden, hidden)
    return keras.Model(sequence, layers.Dense(2, activation="sigmoid")(layers.Flatten()(hidden)))


def test_every_weight_is_drawn_and_the_seed_decides():
    model = every_kind()
    fresh = [weight.copy() for weight in model.get_weights()]
    assert randomize(model, seed=3) is model
    first = model.get_weights()
    for weight, before, after in zip(model.weights, fresh, first, strict=True):
        assert np.all(before != after), weight.path
        assert after.std() > 0.01, weight.path
        if "variance" in weight.name:
            assert after.min() > 0
    second, third = randomize(every_kind(), seed=3).get_weights(), randomize(model, seed=4).get_weights()
    for one, same, other in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(one, same)
        assert np.all(one != other)


def test_unbuilt_models_are_refused():
    with pytest.raises(ValueError, match="not built"):
        randomize(keras.Sequential([layers.Dense(2)]))


@pytest.mark.parametrize("model", [None, basset_model, [1.0]])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match=rf"The model is a {type(model).__name__}; a built Keras model is accepted"):
        randomize(model)


@pytest.mark.parametrize(
    "build",
    [
        lambda: basset_model(seqlen=200),
        lambda: factorized_basset_model(seqlen=200),
        lambda: bpnet_model(seqlen=200),
        lambda: bpnet_dense_model(inlen=400, outlen=60, ndl=5),
        every_kind,
    ],
)
def test_activations_stay_of_order_one_and_outputs_react(build):
    model = randomize(build())
    rng = np.random.default_rng(1)
    x = np.eye(4)[rng.integers(4, size=(2, model.inputs[0].shape[1]))]
    inputs = [x, *[rng.normal(size=(2, *tensor.shape[1:])) for tensor in model.inputs[1:]]]
    inner = [layer.output for layer in model.layers if layer.weights]
    activations = keras.Model(model.inputs, inner).predict(inputs, verbose=0)
    for tensor, values in zip(inner, activations, strict=True):
        assert 0.05 < np.sqrt(np.mean(np.square(values))) < 20, tensor.name

    middle = x.shape[1] // 2
    naive = NaiveISM(model, change_ranges=[(middle, middle + 1)])
    pairs = zip(keras.tree.flatten(naive(inputs)), keras.tree.flatten(naive.reference(inputs)), strict=True)
    for mutant, reference in pairs:
        assert np.abs(mutant[:, 0] - reference).max() > 1e-3 * np.abs(reference).max()


class StandIn(NaiveISM):
    """Plays FastISM: the naive answer, plus an offset in one cell."""

    offset = 0.0

    def __init__(self, model, seq_input_idx=0, change_ranges=None, *, test_correctness=True):
        super().__init__(model, seq_input_idx, change_ranges)

    def __call__(self, x, replace_with=0):
        result = super().__call__(x, replace_with)
        keras.tree.flatten(result)[-1][1, -1] += self.offset
        return result


def two_outputs(scale=1.0):
    sequence = keras.Input((12, 4))
    hidden = layers.Conv1D(8, 3, activation="relu")(sequence)
    flat = layers.Rescaling(scale)(layers.Dense(2)(layers.Flatten()(hidden)))
    return randomize(keras.Model(sequence, [layers.GlobalMaxPooling1D()(hidden), flat]))


def sequences():
    return np.eye(4)[np.random.default_rng(0).integers(4, size=(2, 12))]


@pytest.mark.parametrize("settings", [{}, {"saturate": True}, {"change_ranges": [(1, 3), (4, 6)]}])
def test_agreement_is_measured_against_the_effect(monkeypatch, settings):
    monkeypatch.setattr("fastism.ism.FastISM", StandIn)
    agreement = assert_matches_naive(two_outputs(), sequences(), **settings)
    assert agreement.error < 1e-6
    assert agreement.effect > 0.1


@pytest.mark.parametrize("offset", [0.01, np.nan])
def test_one_wrong_cell_is_found(monkeypatch, offset):
    monkeypatch.setattr("fastism.ism.FastISM", StandIn)
    monkeypatch.setattr(StandIn, "offset", offset)
    with pytest.raises(AssertionError, match=r"Output 1 \('rescaling\w*'\): .* sequence 1, place 11"):
        assert_matches_naive(two_outputs(), sequences())
    if np.isfinite(offset):
        assert_matches_naive(two_outputs(), sequences(), rtol=0.1)


def test_an_output_is_named_by_its_key_in_an_ordered_dict(monkeypatch):
    class Shifted(StandIn):
        offset = 0.5

    inner = two_outputs()
    model = keras.Model(inner.inputs, OrderedDict(second=inner.outputs[0], first=inner.outputs[1]))
    monkeypatch.setattr("fastism.ism.FastISM", Shifted)
    with pytest.raises(AssertionError, match="Output 'first': fast and naive"):
        assert_matches_naive(model, sequences())


def test_an_output_that_nothing_changes_is_not_agreement(monkeypatch):
    monkeypatch.setattr("fastism.ism.FastISM", StandIn)
    with pytest.raises(AssertionError, match="no edit changes it"):
        assert_matches_naive(two_outputs(scale=0.0), sequences())
    assert assert_matches_naive(two_outputs(scale=0.0), sequences(), allow_unaffected=True).effect > 0


def test_another_structure_is_not_agreement(monkeypatch):
    class AsTuple(StandIn):
        def __call__(self, x, replace_with=0):
            return tuple(super().__call__(x, replace_with))

    monkeypatch.setattr("fastism.ism.FastISM", AsTuple)
    with pytest.raises(AssertionError, match="mutant predictions have another structure"):
        assert_matches_naive(two_outputs(), sequences())
