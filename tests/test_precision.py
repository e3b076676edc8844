"""Half precision, mixed policies, layers of different dtypes: what the model itself gives, within its own rounding."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import tree
from oracle import predict, saturated

from fastism import FastISM
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"
X = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(4, size=(2, 60))]

pytestmark = pytest.mark.skipif(keras.config.floatx() != "float32", reason="sets its own dtypes")


def pools(policy):
    x = y = keras.Input((60, 4))
    for filters, k, pool in ((12, 9, 3), (10, 5, 2)):
        y = L.Conv1D(filters, k, padding="same", activation="relu", dtype=policy)(y)
        y = L.MaxPooling1D(pool, dtype=policy)(L.BatchNormalization(dtype=policy)(y))
    y = L.Dense(6, activation="gelu", dtype=policy)(L.Flatten(dtype=policy)(y))
    return keras.Model(x, L.Activation("linear", dtype="float32")(L.Dense(2, dtype=policy)(y)))


def residual(policy):
    x = keras.Input((60, 4))
    y = L.Conv1D(8, 7, padding="same", activation="relu", dtype=policy)(x)
    for i in range(3):
        z = L.Conv1D(8, 3, padding="same", dilation_rate=2**i, activation="relu", dtype=policy)(y)
        y = L.LayerNormalization(dtype=policy)(L.Add(dtype=policy)([z, y]))
    profile = L.Conv1D(1, 5, padding="same", dtype=policy)(y)
    return keras.Model(x, [profile, L.Dense(1, dtype=policy)(L.GlobalAveragePooling1D(dtype=policy)(y))])


class Gated(L.Layer):
    """A custom layer with a weight, opened under a policy of its own."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return x * keras.ops.sigmoid(keras.ops.matmul(x, self.kernel))


def islands(policy):
    """Layers of one precision between layers of another."""
    x = keras.Input((60, 4))
    y = L.Conv1D(8, 5, padding="same", activation="relu", dtype="float32")(x)
    y = Gated(dtype=policy)(L.Conv1D(8, 5, padding="same", dtype=policy)(y))
    y = L.Conv1D(6, 3, strides=2, padding="same", dtype="float32")(y)
    y = L.LSTM(4, dtype="float32")(L.SeparableConv1D(6, 3, padding="same", dtype=policy)(y))
    return keras.Model(x, L.Dense(1, dtype="float32")(y))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("build", [pools, residual, islands])
def test_within_the_rounding_of_the_model_itself(build, policy):
    if policy == "float64" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras computes in 32 bits there")
    plain, model = randomize(build("float32")), randomize(build(policy))
    model.set_weights(plain.get_weights())
    ism = FastISM(model, jit=JIT)
    result = ism.saturate(X)
    exact, half, fast = saturated(plain, [X], 0), saturated(model, [X], 0), tree.flatten(result.mutant)
    for e, h, f in zip(exact, half, fast, strict=True):
        assert f.dtype == h.dtype
        e, h, f = (a.astype("float64") for a in (e, h, f))
        rounding = np.abs(h - e).max() + 1e-6 * np.abs(e).max()
        assert np.abs(f - h).max() <= 2 * rounding, "twice what the policy itself costs, at most"
    for got, want in zip(tree.flatten(result.reference), predict(model, [X]), strict=True):
        assert np.abs(got.astype("float64") - want.astype("float64")).max() <= 2e-2 * np.abs(want).max()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_windows_stay_under_a_policy(policy):
    rows = FastISM(residual(policy), test_correctness=False).explain().rows
    assert all(r.state == "window" for r in rows if r.kind in ("Conv1D", "Add", "LayerNormalization"))
