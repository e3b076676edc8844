"""The models of ``architectures`` are fit to test with: small, finite, and reacting to their input."""

from __future__ import annotations

import numpy as np
import pytest
from architectures import ARCHITECTURES
from architectures.macs import count_macs
from oracle import predict

from fastism.testing import randomize


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_small_models_are_finite_and_react_to_one_base(name):
    architecture = ARCHITECTURES[name]
    model = randomize(architecture.small())
    inputs = architecture.inputs(model)
    edited = [a.copy() for a in inputs]
    bases = edited[architecture.index][:, inputs[architecture.index].shape[1] // 2, :4]
    bases[:] = np.roll(bases, 1, axis=-1)
    for before, after in zip(predict(model, inputs), predict(model, edited), strict=True):
        assert np.isfinite(before).all()
        assert 1e-2 < np.abs(before).max() < 30
        assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if a.length is None])
def test_small_models_are_small(name):
    architecture = ARCHITECTURES[name]
    macs = count_macs(architecture.small(), 0, index=architecture.index)
    assert 0 < macs.edit < macs.full < 1e6


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if a.dense_from])
def test_the_first_dense_call_exists(name):
    assert ARCHITECTURES[name].dense_from in [layer.name for layer in ARCHITECTURES[name].small().layers]


@pytest.mark.parametrize(
    ("name", "macs"),
    {
        "chrombpnet": 11.7e9,
        "chrombpnet_bias": 448e6,
        "chrombpnet_full": 12.2e9,
        "bpnet": 202e6,
        "bpnet_flatten_counts": 221e6,
        "bpreveal_solo": 322e6,
        "spliceai": 10.4e9,
        "saluki": 523e6,
        "deepstarr": 9.8e6,
        "basset_basenji": 468e6,
        "deeptopic_cnn": 861e6,
        "deeptopic_lstm": 50.7e6,
        "dilated_cnn": 11.7e9,
        "simple_convnet": 44e6,
        "crested_basenji": 2.11e9,
        "legnet": 40.4e6,
        "tutorial_cnn": 76.9e6,
        "basenji2": 117e9,
    }.items(),
)
def test_full_sizes_are_the_published_ones(name, macs):
    assert count_macs(ARCHITECTURES[name].build(), 0).full == pytest.approx(macs, rel=0.012)
