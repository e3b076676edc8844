"""The published models at their full width: fast equals naive at both ends, in the middle and at random places."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import tree
from oracle import overwritten, predict, share_of_effect

from fastism import FastISM
from fastism.models.basset import basset_model
from fastism.models.bpnet import bpnet_model
from fastism.models.bpnet_dense import bpnet_dense_model
from fastism.models.factorized_basset import factorized_basset_model
from fastism.testing import randomize

TOLERANCE = 1e-8 if keras.config.floatx() == "float64" else 1e-3

MODELS = {
    "basset_1000": lambda: basset_model(),
    "basset_517": lambda: basset_model(seqlen=517, num_outputs=3),
    "factorized_basset_1000": lambda: factorized_basset_model(),
    "factorized_basset_333": lambda: factorized_basset_model(seqlen=333),
    "bpnet_1000": lambda: bpnet_model(),
    "bpnet_601_two_tasks": lambda: bpnet_model(seqlen=601, num_dilated_convs=7, num_tasks=2),
    "bpnet_dense_1346": lambda: bpnet_dense_model(),
}


@pytest.mark.parametrize("name", MODELS)
def test_published_models(name):
    model = randomize(MODELS[name]())
    rng = np.random.default_rng(5)
    inputs = [rng.normal(size=(1, *t.shape[1:])).astype(keras.config.floatx()) for t in model.inputs]
    length = model.inputs[0].shape[1]
    inputs[0] = np.eye(4)[rng.integers(0, 4, (1, length))].astype(keras.config.floatx())
    positions = np.unique([0, 1, length // 2, length - 2, length - 1, *rng.integers(0, length, 3)])
    ranges = [(int(p), int(p) + 1) for p in positions]
    ism = FastISM(model, change_ranges=ranges)
    letters = np.eye(4, dtype=inputs[0].dtype)
    given = inputs if len(inputs) > 1 else inputs[0]
    fast = [np.stack(y, axis=2) for y in zip(*[tree.flatten(ism(given, a)) for a in letters], strict=True)]
    naive = [
        np.stack(y, axis=2)
        for y in zip(*[overwritten(model, inputs, 0, ranges, a[None]) for a in letters], strict=True)
    ]
    for f, n, reference in zip(fast, naive, predict(model, inputs), strict=True):
        error, effect = share_of_effect(f, n, reference)
        assert effect > 1e-6
        assert error <= TOLERANCE
