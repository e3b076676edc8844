"""Every published architecture, in small: fast equals naive, and what can stay local does."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES
from architectures.macs import MacCounter
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


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if a.length is None])
def test_ideal_is_no_more_than_pushing_the_change_through_takes(name):
    """Counted by listing the pairs of changed input and kernel tap, on the live graph."""
    architecture = ARCHITECTURES[name]
    model = architecture.small()
    why = FastISM(model, architecture.index, test_correctness=False).explain()
    counter = MacCounter(model, index=architecture.index, falling_off=False, only_needed=True)
    counted = np.mean([counter.count(p).edit for p in range(why.length)])
    assert why.ideal <= 1.03 * counted
    assert why.ideal >= 0.5 * counted, "the count has all of a recurrent layer, and products that no output needs"


#: Models whose full size has to be run once, to look inside attention, and takes gigabytes: see benchmarks.coverage.
LARGE = {"enformer", "enformer_composite", "borzoi"}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="plans are the same on every backend")
@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if a.in_speedup and n not in LARGE])
def test_ideal_speedup_of_the_full_size_is_the_published_one(name):
    architecture = ARCHITECTURES[name]
    why = FastISM(architecture.build(), architecture.index, test_correctness=False).explain()
    assert why.ideal_speedup >= 0.95 * architecture.in_speedup
