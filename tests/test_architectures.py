"""Every published architecture, in small: fast equals naive, and what can stay local does."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES
from keras import tree
from oracle import overwritten, predict, share_of_effect

from fastism import FastISM
from fastism.testing import randomize

FLOAT64 = keras.config.floatx() == "float64"
JAX = keras.backend.backend() == "jax"
BEHIND = re.compile(r"its input is computed whole|all of it changes; computed from the window alone")
TOLERANCE = 1e-8 if FLOAT64 else 1e-3


def tolerance(model):
    """Share of the effect that passes for rounding; on JAX, Keras computes attention in float32 whatever it gets."""
    attends = any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in model._flatten_layers())
    return max(TOLERANCE, 1e-5) if JAX and attends else TOLERANCE


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fast_equals_naive(name):
    architecture = ARCHITECTURES[name]
    model = randomize(architecture.small())
    arrays = architecture.inputs(model)
    x = arrays[architecture.index]
    length = x.shape[1]
    starts = sorted({0, 1, 2, length // 3, length // 2, length // 2 + 1, length // 2 + 2, length - 2, length - 1})
    ranges = [(s, s + 1) for s in starts]
    content = np.zeros((1, x.shape[2]), x.dtype)
    ism = FastISM(model, architecture.index, change_ranges=ranges, test_correctness=False, jit=JAX)
    fast = [np.asarray(y) for y in tree.flatten(ism(arrays if len(arrays) > 1 else x))]
    naive = overwritten(model, arrays, architecture.index, ranges, content)
    for f, n, reference in zip(fast, naive, predict(model, arrays), strict=True):
        error, effect = share_of_effect(f, n, reference)
        assert effect > 1e-6
        assert error <= tolerance(model), f"{error:.2e} of the effect {effect:.2e}"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_can_stay_local_does(name):
    architecture = ARCHITECTURES[name]
    ism = FastISM(architecture.small(), architecture.index, test_correctness=False)
    explanation = ism.explain(length=architecture.length)
    names = {layer.name for layer in ism.model.layers}
    for part in architecture.local:
        rows = [r for r in explanation.rows if part in r.call and not BEHIND.match(r.reason)]
        assert rows or any(part in name for name in names), f"no call has {part!r} in its name"
        for row in rows:
            assert row.state != "dense" or "from the window alone" in row.reason, f"{row.call}: {row.reason}"
    ends = [r.call for r in explanation.rows if r.state == "dense" and r.reason and not BEHIND.match(r.reason)]
    if architecture.dense_from is None:
        assert ends == []
    else:
        assert all(architecture.dense_from in end for end in ends[:1])
