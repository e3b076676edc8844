"""Which rule treats what, and why one refuses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from fastism import FastISM, UnsupportedLayerError
from fastism.graph import read_model
from fastism.plan import make_plan, write_program
from fastism.rules import RULES, lower
from fastism.rules.operations import register_operations
from fastism.rules.step import Refuse
from fastism.testing import assert_matches_naive, randomize

JIT = keras.backend.backend() == "jax"
LENGTH = 12


def model_of(*layers, shape=(LENGTH, 4)):
    x = y = L.Input(shape)
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


def states(model):
    """State and reason of each call, and which count as gaps, for single edits."""
    graph = read_model(model)
    plan = make_plan(write_program(graph, graph.inputs[0]), 1)
    return {p.wired.call.name: (p.state, p.reason) for p in plan.steps}


def reason(model, name="it"):
    state, why = states(model)[name]
    assert state == "dense"
    return why


def exact(model):
    x = np.eye(4)[np.random.default_rng(0).integers(0, 4, (2, LENGTH))].astype(keras.config.floatx())
    return assert_matches_naive(randomize(model), x, jit=JIT)


# ------------------------------------------------------------------------------------------ who is who


class Renamed(L.Conv1D):
    """Changes nothing that decides what the layer computes."""

    def __init__(self, *args, note="", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note

    def get_config(self):
        return {**super().get_config(), "note": self.note}

    def shout(self):
        return self.note.upper()


class Doubled(L.Conv1D):
    def call(self, x):
        return 2 * super().call(x)


class OwnConvolution(L.Dense):
    def __call__(self, x):
        return super().__call__(ops.roll(x, 1, axis=1))


class Mixin:
    def call(self, x):
        return ops.roll(x, 1, axis=1)


class WithMixin(Mixin, L.ReLU):
    pass


class GrandChild(Doubled):
    pass


def test_a_harmless_subclass_is_treated_as_its_base():
    model = model_of(Renamed(3, 3, name="it"))
    assert states(model)["it"][0] == "window"
    exact(model)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Doubled(3, 3, name="it"), "Doubled is a Conv1D that overrides call"),
        (GrandChild(3, 3, name="it"), "overrides call"),
        (OwnConvolution(3, name="it"), "OwnConvolution is a Dense that overrides __call__"),
        (WithMixin(name="it"), "WithMixin is a ReLU that overrides call"),
    ],
)
def test_a_subclass_that_overrides_call_is_refused(layer, message):
    assert message in reason(model_of(layer))


@pytest.mark.parametrize("layer", [Doubled, GrandChild])
def test_what_is_refused_is_exact(layer):
    exact(model_of(L.Conv1D(3, 3), layer(3, 3), L.GlobalMaxPooling1D()))


def test_a_users_class_of_the_same_name_is_not_mistaken():
    class Dense(L.Layer):
        def call(self, x):
            return ops.cumsum(x, axis=1)

    model = model_of(L.Conv1D(3, 3), Dense(name="it"))
    assert reason(model) == "Dense has no rule"
    exact(model)


def test_an_instance_with_another_call_is_refused():
    layer = L.ReLU(name="it")
    layer.call = lambda x: ops.flip(x, axis=1)
    model = model_of(L.Conv1D(3, 3), layer)
    assert reason(model) == "this ReLU had its call() replaced"
    exact(model)


def test_rules_are_found_by_class_and_described():
    register_operations()
    assert {L.Conv1D, L.Dense, L.MaxPooling1D, L.Add, L.Flatten, L.BatchNormalization} <= set(RULES)
    assert all(isinstance(cls, type) and callable(rule.fn) and rule.family for cls, rule in RULES.items())


# ------------------------------------------------------------------------------------------ why not


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([L.Softmax(axis=1, name="it")], "softmax runs over axis 1, the positions"),
        ([L.Softmax(axis=(1, 2), name="it")], r"softmax runs over axis (1, 2), the positions"),
        ([L.Flatten(), L.Activation("softmax", name="it")], "it mixes the axis along which positions run"),
        ([L.Flatten(), L.Softmax(name="it")], "it mixes the axis along which positions run"),
        ([L.LayerNormalization(axis=1, name="it")], "which includes the positions"),
        ([L.Dense(3, activation=lambda t: ops.flip(t, axis=1), name="it")], "activation '<lambda>' is not known"),
        ([L.Conv1D(3, 3, activation=L.LeakyReLU(), name="it")], "its activation is a layer, LeakyReLU"),
        ([L.Activation(ops.cumsum, name="it")], "activation 'cumsum' is not known to act on each position alone"),
        ([L.Permute((2, 1), name="it")], r"dims=(2, 1) moves the axis of positions"),
        ([L.Reshape((8, 6), name="it")], r"reshaping (12, 4) to (8, 6) does not keep positions together"),
        ([L.LSTM(2, name="it", return_state=True)], "it gives its state too"),
        ([L.GroupNormalization(2, name="it")], "GroupNormalization has no rule"),
    ],
)
def test_reasons(layers, message):
    assert message in reason(model_of(*layers))


@pytest.mark.parametrize("layer", [L.MaxPooling1D, L.AveragePooling1D])
def test_channels_first_pooling_is_refused(layer):
    assert reason(model_of(layer(2, data_format="channels_first", name="it"))) == "its data_format is 'channels_first'"


@pytest.mark.parametrize("layer", [L.GlobalMaxPooling1D, L.GlobalAveragePooling1D])
def test_channels_first_global_pooling_is_refused(layer):
    model = model_of(layer(data_format="channels_first", name="it"))
    assert reason(model) == "its data_format is 'channels_first'"
    exact(model)


def test_channels_first_convolution_is_refused():
    layer = L.Conv1D(3, 3, padding="same", data_format="channels_first", name="it")
    assert reason(model_of(layer)) == "its data_format is 'channels_first'"


def test_a_changed_tensor_that_is_broadcast_is_refused():
    x = L.Input((LENGTH, 4))
    gate = L.Conv1D(4, LENGTH, name="whole")(x)  # (1, 4), which reaches all positions
    model = keras.Model(x, L.Multiply(name="it")([L.Conv1D(4, 3, padding="same")(x), gate]))
    assert states(model)["it"][0] == "dense"
    exact(model)


def test_a_transposed_convolution_along_two_axes_is_refused():
    x = L.Input((LENGTH, 4))
    y = L.Conv2DTranspose(2, 3, name="it")(L.Reshape((LENGTH, 2, 2))(x))
    assert reason(keras.Model(x, y)) == "it convolves along two axes"


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_masks_are_refused_and_exact():
    model = model_of(L.Masking(name="mask"), L.Conv1D(3, 3, name="it"), L.LSTM(2))
    found = states(model)
    assert found["mask"] == ("dense", "Masking has no rule")
    graph = read_model(model)
    with pytest.raises(Refuse, match="it receives a Keras mask, which does not travel with windows"):
        lower(next(c for c in graph.calls if c.name == "it"), graph)
    randomize(model)
    x = np.eye(4)[np.random.default_rng(0).integers(0, 4, (2, LENGTH))].astype(keras.config.floatx())
    x[:, 7] = 0  # a position that the mask hides
    assert_matches_naive(model, x, jit=JIT)


def test_a_mask_given_to_a_layer_is_refused():
    x, flags = L.Input((LENGTH, 4)), L.Input((LENGTH,), dtype="bool")
    y = L.BatchNormalization(name="it")(L.Conv1D(4, 3, padding="same")(x), mask=flags)
    assert reason(keras.Model([x, flags], y)) == "it is called with a mask"


def test_a_length_that_keras_does_not_know_is_found_out():
    x = L.Input((LENGTH, 4))

    class Forgetful(L.Layer):
        def call(self, x):
            return x

        def compute_output_spec(self, x):
            return keras.KerasTensor((x.shape[0], None, x.shape[2]), x.dtype)

    model = keras.Model(x, L.ReLU(name="it")(Forgetful()(x)))
    assert read_model(model).shape(read_model(model).outputs[0]) == (LENGTH, 4)
    assert states(model)["it"][0] == "dense"  # what Forgetful does is not known
    exact(model)


def test_an_array_of_another_length_than_the_positions_is_refused():
    x = L.Input((LENGTH, 4))
    ramp = np.arange(3 * LENGTH, dtype="float32").reshape(3, LENGTH, 1)
    model = keras.Model(x, ops.multiply(L.Conv1D(4, 3, padding="same")(x), ramp[:1]))
    assert states(model)[read_model(model).calls[-1].name][0] == "window"
    exact(model)
    wide = keras.Model(x, L.GlobalMaxPooling1D()(ops.multiply(L.Conv1D(4, LENGTH)(x), ramp[0])))
    why = reason(wide, read_model(wide).calls[-2].name)
    assert why == "it broadcasts a changed tensor along the positions"
    exact(wide)


def test_strict_names_what_was_refused():
    model = model_of(L.Conv1D(3, 3), L.Softmax(axis=1, name="over_positions"), L.LSTM(2, name="memory"))
    with pytest.raises(UnsupportedLayerError, match=r"over_positions \(Softmax\): its softmax runs over axis 1"):
        FastISM(model, strict=True)
