"""What is made from a model is made once, and anew as soon as it would be another."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import layers as L
from oracle import share_of_effect

from fastism import FastISM, prepared, register_rule, unregister_rule
from fastism.testing import randomize

X = np.eye(4, dtype=keras.config.floatx())[np.random.default_rng(0).integers(0, 4, (2, 30))]


def model(*, layer=None, length: int | None = 30):
    x = keras.Input((length, 4))
    y = L.Conv1D(6, 5, activation="relu", name="conv")(x)
    y = L.BatchNormalization(name="norm")(y)
    y = layer(y) if layer is not None else y
    return randomize(keras.Model(x, L.Dense(2)(L.GlobalAveragePooling1D()(y))))


def engine(model, **options):
    return FastISM(model, test_correctness=False, **options)._engine


def agrees(ism):
    """Fast against the model called on mutants: ``predict`` would keep what it compiled before a change."""
    mutants = np.repeat(X[:1], 30, axis=0)
    mutants[np.arange(30), np.arange(30)] = np.eye(4)[2]
    naive, reference = (keras.ops.convert_to_numpy(ism.model(x, training=False)) for x in (mutants, X[:1]))
    error, effect = share_of_effect(ism.saturate(X[:1]).mutant[0, :, 2], naive, reference)
    return error < 1e-3 and effect > 0


def test_two_instances_share_what_is_compiled():
    one = model()
    first = engine(one)
    assert engine(one) is first
    assert engine(one, change_ranges=[(3, 4)]) is first
    others = ({"batch_size": 7}, {"jit": False}, {"memory": "1GB"}, {"change_ranges": [(0, 2)]})
    for options in (*others, {"reduce": keras.ops.abs}, {"early_stop_layers": "conv"}):
        assert engine(one, **options) is not first
    assert engine(model()) is not first


def test_a_changed_setting_is_another_model():
    one = model()
    first = FastISM(one, test_correctness=False)
    assert agrees(first)
    one.get_layer("norm").epsilon = 0.5
    again = FastISM(one, test_correctness=False)
    assert again._engine is not first._engine
    assert agrees(again)


def test_changed_weights_are_not():
    one = model()
    first = FastISM(one, test_correctness=False)
    first.saturate(X)
    randomize(one, seed=5)
    again = FastISM(one, test_correctness=False)
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
    first = engine(one)
    register_rule(Own, pointwise=True)
    try:
        assert engine(one) is not first
    finally:
        unregister_rule(Own)
    assert engine(one) is first


def test_few_requests_are_kept_for_a_model():
    one = model(length=None)
    ism = FastISM(one)
    for n in range(20, 20 + 2 * prepared.KEPT):
        ism.explain(length=n)
    assert len(prepared._SHARED[one]) == prepared.KEPT


@pytest.mark.parametrize("name", ["small_basset", *list(DESIGNS)[:6]])
def test_a_model_that_is_let_go_goes(name):
    one = model() if name == "small_basset" else DESIGNS[name].build()
    ism = FastISM(one, test_correctness=False)
    ism.explain()
    seen = weakref.ref(one)
    del one, ism
    gc.collect()
    assert seen() is None
