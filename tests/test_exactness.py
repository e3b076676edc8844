"""Fast equals naive: every design, position, letter, range width, batch and chunk size."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import tree
from oracle import overwritten, predict, saturated, share_of_effect

from fastism import FastISM, karatsuba, sizing, ways
from fastism.stretches import Division
from fastism.testing import randomize
from fastism.tuning import Tuner

FLOAT64 = keras.config.floatx() == "float64"
JIT = keras.backend.backend() == "jax"  # op by op, JAX would compile every single op
TOLERANCE = 1e-8 if FLOAT64 else 1e-3


def make(name, n=3, seed=0):
    """(model, inputs): weights randomised, sequences one-hot with an N (zeros) and a soft column."""
    design = DESIGNS[name]
    model = randomize(design.build(), seed=seed)
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(n, *t.shape[1:])).astype(keras.config.floatx()) for t in model.inputs]
    _, length, alphabet = inputs[design.index].shape
    x = np.eye(alphabet)[rng.integers(0, alphabet, (n, length))]
    x[0, length // 3] = 0
    x[-1, length // 2] = 1 / alphabet
    inputs[design.index] = x.astype(keras.config.floatx())
    return model, inputs


def flat(y):
    return [np.asarray(a) for a in tree.flatten(y)]


def check(fast, naive, reference):
    errors = [share_of_effect(f, n, r) for f, n, r in zip(fast, naive, reference, strict=True)]
    assert max(effect for _, effect in errors) > 1e-6
    for f, n, (error, effect) in zip(fast, naive, errors, strict=True):
        assert f.shape == n.shape
        assert error <= TOLERANCE, f"{error:.2e} of the effect {effect:.2e}"


@pytest.mark.parametrize("name", DESIGNS)
def test_saturation(name):
    model, inputs = make(name)
    ism = FastISM(model, DESIGNS[name].index, test_correctness=False, jit=JIT)
    result = ism.saturate(inputs if len(inputs) > 1 else inputs[0])
    reference = predict(model, inputs)
    check(flat(result.mutant), saturated(model, inputs, DESIGNS[name].index), reference)
    for got, want in zip(flat(result.reference), reference, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="on torch no convolution is halved")
@pytest.mark.parametrize(
    "name",
    "conv_causal conv_even residual_valid_cropped window_grows_over_everything three_pools second_input_mutated "
    "transpose_valid deep_crop nested_and_called_twice activation_layers".split(),
)
def test_saturation_with_all_convolutions_halved(name, monkeypatch):
    taken = []
    halved = karatsuba.spread_by_halves
    monkeypatch.setattr(karatsuba, "spread_by_halves", lambda *args: taken.append(1) or halved(*args))
    for cost in ("PRODUCT", "LIBRARY_PRODUCT"):
        monkeypatch.setattr(ways, cost, 100.0)  # as if nothing else took time
    test_saturation(name)
    assert taken


@pytest.mark.parametrize("name", DESIGNS)
def test_which_calls_stay_local(name):
    model, _ = make(name)
    ism = FastISM(model, DESIGNS[name].index, test_correctness=False, jit=JIT, batch_size=5)
    gaps = {g.wired.call.name.partition("/")[0] for g in ism._engine.plan(1).gaps}
    uneven = {"pool"} if (keras.backend.backend(), name) == ("torch", "average_pool_same") else set()
    assert gaps == DESIGNS[name].dense | uneven  # where torch's own result is not an average of what exists


#: Designs to plan in stretches: some on the backends that compile each, all on torch.
IN_STRETCHES = [
    "three_pools",
    "residual_dilated",
    "residual_valid_cropped",
    "deep_crop",
    "strided_and_cropped",
    "branches_of_different_speed",
    "one_branch_cropped_away",
    "conv_stride3_same_even",
    "average_pool_overlap_same",
    "prelu_by_position",
    "global_max",
    "reshapes",
    "moved",
    "slices",
    "bidirectional_sequences",
    "one_tensor_read_many_times",
    "window_grows_over_everything",
]


@pytest.mark.parametrize("name", sorted(DESIGNS) if keras.backend.backend() == "torch" else IN_STRETCHES)
def test_saturation_in_stretches(name, monkeypatch):
    """Plans for stretches of a sequence give what one plan gives, each for its own edits."""

    def divide(plan, gain):
        first, end = plan.stretch
        bounds = [first, first + 2, first + (end - first) // 3, end - 5, end]
        return Division(tuple(itertools.pairwise(bounds)), 0.5)

    monkeypatch.setattr(sizing, "divide", divide)
    monkeypatch.setattr(Tuner, "earns", lambda *_: True)
    model, inputs = make(name, n=2)
    compiled = keras.backend.backend() != "torch"
    ism = FastISM(model, DESIGNS[name].index, test_correctness=False, jit=compiled, batch_size=30)
    result = ism.saturate(inputs if len(inputs) > 1 else inputs[0])
    check(flat(result.mutant), saturated(model, inputs, DESIGNS[name].index), predict(model, inputs))
    stretches = {shape.stretch for shape in ism._engine.functions.chunks}
    assert len(stretches) == 4 or name not in IN_STRETCHES


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize(
    "name",
    [
        "three_pools",
        "residual_valid_cropped",
        "branches_of_different_speed",
        "conv_stride3_same_even",
        "average_pool_overlap_same",
        "second_input_mutated",
        "flatten_then_pointwise",
        "reshapes",
    ],
)
def test_ranges_of_every_width(name, width):
    model, inputs = make(name, n=2, seed=width)
    index = DESIGNS[name].index
    length, alphabet = inputs[index].shape[1:]
    ranges = [(s, s + width) for s in (0, 1, length // 2, length // 2 + 1, length - width - 1, length - width)]
    content = np.random.default_rng(width).random((width, alphabet)).astype(inputs[index].dtype)
    ism = FastISM(model, index, change_ranges=ranges, test_correctness=False, jit=JIT)
    fast = ism(inputs if len(inputs) > 1 else inputs[0], replace_with=content)
    check(flat(fast), overwritten(model, inputs, index, ranges, content), predict(model, inputs))


@pytest.mark.parametrize("content", [0, [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.25] * 4])
@pytest.mark.parametrize("name", ["three_pools", "residual_dilated", "prelu_by_position", "global_max"])
def test_zeros_and_each_letter_at_every_position(name, content):
    model, inputs = make(name)
    x = inputs[0]
    ranges = [(i, i + 1) for i in range(x.shape[1])]
    row = np.zeros(4) if content == 0 else np.array(content)
    fast = FastISM(model, test_correctness=False, jit=JIT)(x, replace_with=content)
    check(flat(fast), overwritten(model, inputs, 0, ranges, row[None]), predict(model, inputs))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("name", ["three_pools", "residual_dilated", "flatten_long"])
def test_batches_and_chunks(name, batch_size, n):
    model, inputs = make(name, n=n)
    ism = FastISM(model, test_correctness=False, jit=JIT, batch_size=batch_size)
    length = inputs[0].shape[1]
    got = ism.saturate(inputs[0], start=length // 2 - 8, end=length // 2 + 8)
    whole = saturated(model, inputs, 0) if length < 120 else None
    if whole is None:
        middle = [(p, p + 1) for p in range(length // 2 - 8, length // 2 + 8)]
        naive = [
            np.stack(r, axis=2)
            for r in zip(*[overwritten(model, inputs, 0, middle, a[None]) for a in np.eye(4)], strict=True)
        ]
    else:
        naive = [w[:, length // 2 - 8 : length // 2 + 8] for w in whole]
    check(flat(got.mutant), naive, predict(model, inputs))


@pytest.mark.parametrize(
    "name",
    [
        "three_pools",
        "residual_valid_cropped",
        "second_input_mutated",
        "recurrent_tail",
        "bidirectional_sequences",
        "two_dimensional",
        "slices",
        "moved",
        "deep_crop",
        "global_max",
        "branches_of_different_speed",
        "conv_groups",
        "dict_outputs",
    ],
)
def test_compiled(name):
    """The same through the backend's compiler."""
    model, inputs = make(name)
    ism = FastISM(model, DESIGNS[name].index, test_correctness=False, jit=True, batch_size=60)
    result = ism.saturate(inputs if len(inputs) > 1 else inputs[0])
    check(flat(result.mutant), saturated(model, inputs, DESIGNS[name].index), predict(model, inputs))
