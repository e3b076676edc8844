"""What is made from a model is made once, and anew as soon as it would be another."""

from __future__ import annotations

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import layers as L
from oracle import share_of_effect

from fastism import FastISM, register_rule, unregister_rule
from fastism.testing import randomize

X = np.eye(4, dtype=keras.config.floatx())[np.random.default_rng(0).integers(0, 4, (2, 30))]


def model(*, layer=None, length: int | None = 30):
    x = keras.Input((length, 4))
    y = L.Conv1D(6, 5, activation="relu", name="conv")(x)
    y = L.BatchNormalization(name="norm")(y)
    y = layer(y) if layer is not None else y
    return randomize(keras.Model(x, L.Dense(2)(L.GlobalAveragePooling1D()(y))))


def fast(model, **options):
    return FastISM(model, test_correctness=False, **options)


def agrees(ism):
    """Fast against the model called on mutants: ``predict`` would keep what it compiled before a change."""
    mutants = np.repeat(X[:1], 30, axis=0)
    mutants[np.arange(30), np.arange(30)] = np.eye(4)[2]
    naive, reference = (keras.ops.convert_to_numpy(ism.model(x, training=False)) for x in (mutants, X[:1]))
    error, effect = share_of_effect(ism.saturate(X[:1]).mutant[0, :, 2], naive, reference)
    return error < 1e-3 and effect > 0


def test_two_instances_share_what_is_compiled():
    one = model()
    first = fast(one)
    assert fast(one)._engine is first._engine
    assert fast(one, change_ranges=[(3, 4)])._engine is first._engine
    others = ({"batch_size": 7}, {"jit": False}, {"memory": "1GB"}, {"change_ranges": [(0, 2)]})
    for options in (*others, {"reduce": keras.ops.abs}, {"early_stop_layers": "conv"}):
        assert fast(one, **options)._engine is not first._engine
    assert fast(model())._engine is not first._engine


def test_a_changed_setting_is_another_model():
    one = model()
    first = fast(one)
    assert agrees(first)
    before = first._engine
    one.get_layer("norm").epsilon = 0.5
    again = fast(one)
    assert again._engine is not before
    assert agrees(again)


def test_changed_weights_are_not():
    one = model()
    first = fast(one)
    first.saturate(X)
    randomize(one, seed=5)
    again = fast(one)
    assert again._engine is first._engine
    assert agrees(again)


class Shifted(L.Layer):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def call(self, x):
        return keras.ops.tanh(x + keras.ops.convert_to_tensor(self.by, x.dtype))


def test_layers_of_a_users_own_are_looked_at_every_time():
    by = np.full(6, 0.3)
    one = model(layer=Shifted(by))
    assert agrees(FastISM(one))
    by += 1.0
    assert agrees(FastISM(one))


def test_another_rule_makes_another_plan():
    class Own(L.Layer):
        def call(self, x):
            return keras.ops.tanh(x)

    one = model(layer=L.Activation(keras.ops.tanh))
    first = fast(one)
    register_rule(Own, pointwise=True)
    try:
        assert fast(one)._engine is not first._engine
    finally:
        unregister_rule(Own)
    assert fast(one)._engine is first._engine


def wrapped():
    x = keras.Input((30, 4))
    y = L.TimeDistributed(L.Dense(5, activation="tanh"), name="wrapped")(x)
    y = L.Bidirectional(L.LSTM(3), name="both")(y)
    return randomize(keras.Model(x, L.Dense(2)(y)))


def set_inside(model):
    model.get_layer("wrapped").layer.activation = keras.activations.relu


def set_deep_inside(model):
    for side in (model.get_layer("both").forward_layer, model.get_layer("both").backward_layer):
        side.cell.activation = keras.activations.sigmoid


@pytest.mark.parametrize("change", [set_inside, set_deep_inside])
def test_activations_of_layers_inside_layers(change):
    one = wrapped()
    first = fast(one)
    assert agrees(first)
    change(one)
    assert agrees(fast(one))


@pytest.mark.parametrize("number", [np.float32(0.7), 0.7, np.float64(0.7)])
def test_a_setting_of_any_kind_of_number(number):
    one = model()
    first = fast(one)
    assert agrees(first)
    one.get_layer("norm").epsilon = number
    assert agrees(fast(one))


def test_a_call_that_was_replaced():
    one = model()
    first = fast(one)
    first.saturate(X[:1])
    conv = one.get_layer("conv")
    conv.call = lambda x, old=conv.call: keras.ops.tanh(old(x))
    assert agrees(fast(one))


def test_an_activation_of_a_users_own_and_what_it_reads():
    size = [1.0]
    one = model(layer=L.Activation(lambda x: keras.ops.tanh(x * size[0]), name="own"))
    first = fast(one)
    assert agrees(first)
    size[0] = 3.0
    assert agrees(fast(one))


def test_arrays_among_the_arguments_of_an_operation():
    factor = np.linspace(0.5, 2, 6).astype(keras.config.floatx())
    x = keras.Input((30, 4))
    y = L.Conv1D(6, 5, activation="relu")(x) * factor
    one = randomize(keras.Model(x, L.Dense(2)(L.GlobalAveragePooling1D()(y))))
    first = fast(one)
    assert agrees(first)
    factor[:3] = -7
    assert agrees(fast(one))


def test_what_reduce_reads():
    task = 0

    def pick(outputs):
        return outputs[:, task]

    one = model()
    whole = fast(one).saturate(X).mutant
    kept = []
    for task in (0, 1):
        kept.append(fast(one, reduce=pick))
        np.testing.assert_allclose(kept[-1].saturate(X).mutant, whole[..., task], rtol=1e-4, atol=1e-6)


def test_it_goes_with_the_last_that_uses_it():
    one = model()
    first, second = (fast(one) for _ in range(2))
    seen = weakref.ref(first._engine)
    del first
    gc.collect()
    assert seen() is second._engine
    del second
    gc.collect()
    assert seen() is None


def test_two_threads_and_one_model():
    one, answers, problems = model(), {}, []
    want = fast(one).saturate(X).mutant

    def work(i):
        try:
            ism = fast(one)
            answers[i] = [ism.saturate(X).mutant for _ in range(4)]
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    for mutant in (m for each in answers.values() for m in each):
        np.testing.assert_allclose(mutant, want, rtol=1e-4, atol=1e-6)


class Gain(L.Layer):
    """Multiplies by what it holds: not as weights, but as users keep constants."""

    def __init__(self):
        super().__init__(name="own")
        self.array = np.ones(6, "float32")
        self.tensor = keras.ops.ones(6)
        self.by_name = {"first": [1.0, 2.0], "second": np.ones(6, "float32")}
        self._hidden = 1.0

    def call(self, x):
        x = x * keras.ops.convert_to_tensor(self.array) * keras.ops.convert_to_tensor(self.by_name["second"])
        return x * self.tensor * self.by_name["first"][1] * self._hidden


CHANGES = {
    "array": (Gain, {"array": np.arange(6, dtype="float32")}),
    "tensor": (Gain, {"tensor": keras.ops.arange(6, dtype="float32")}),
    "number in a dict": (Gain, {"by_name": {"first": [1.0, 5.0], "second": np.ones(6, "float32")}}),
    "array in a dict": (Gain, {"by_name": {"first": [1.0, 2.0], "second": np.arange(6, dtype="float32")}}),
    "hidden": (Gain, {"_hidden": 3.0}),
    "dilation": (lambda: L.Conv1D(6, 3, padding="same", name="own"), {"dilation_rate": (2,)}),
    "padding": (lambda: L.Conv1D(6, 3, padding="same", name="own"), {"padding": "causal"}),
    "axis": (lambda: L.UnitNormalization(name="own"), {"axis": 1}),
    "function": (lambda: L.Lambda(lambda y: y * 2, name="own"), {"function": keras.ops.tanh}),
    "call": (lambda: L.Dense(6, name="own"), {"call": lambda y, training=None: keras.ops.tanh(y)}),
    "slope": (lambda: L.LeakyReLU(name="own"), {"negative_slope": 0.9}),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_layer_that_changes_under_a_fastism(kind):
    make, change = CHANGES[kind]
    one = model(layer=make())
    ism = fast(one)
    assert agrees(ism)
    for name, value in change.items():
        setattr(one.get_layer("own"), name, value)
    assert agrees(ism)


def test_a_sequential_that_gets_other_layers():
    layers = [keras.Input((30, 4)), L.Conv1D(8, 5, activation="relu"), L.GlobalMaxPooling1D(), L.Dense(2)]
    one = randomize(keras.Sequential(layers))
    ism = fast(one)
    assert agrees(ism)
    one.pop()
    assert agrees(ism)
    one.add(L.Dense(3, activation="tanh"))
    assert agrees(ism)


def test_using_a_model_is_no_change():
    one = model()
    ism = fast(one)
    ism.saturate(X)
    before = ism._engine
    one.predict(X, verbose=0)
    one.compile(loss="mse")
    one.fit(X, np.zeros((2, 2)), verbose=0)
    assert ism._engine is before
    assert agrees(ism)


def test_using_a_layer_of_ones_own_is_no_change():
    one = model(layer=Gain())
    ism = fast(one)
    before = ism._engine
    ism.saturate(X)
    one.predict(X, verbose=0)
    assert ism._engine is before


@pytest.mark.parametrize("name", ["plain", *list(DESIGNS)[:6]])
def test_a_model_that_is_let_go_goes(name):
    one = model() if name == "plain" else DESIGNS[name].build()
    ism = fast(one)
    ism.saturate(X[:1]) if name == "plain" else ism.explain()
    seen = weakref.ref(one)
    del one, ism
    gc.collect()
    assert seen() is None
