"""The self-check: silent where fast is right, and naming the call where a rule is wrong."""

from __future__ import annotations

import dataclasses
from functools import partial

import keras
import numpy as np
import pytest
import test_exactness
from designs import DESIGNS
from keras import layers as L
from keras import ops
from oracle import predict, saturated

from fastism import FastISM, MismatchError
from fastism.check import self_check
from fastism.rules import RULES, Rule
from fastism.rules.conv import Convolve
from fastism.rules.pointwise import Affine
from fastism.rules.pooling import Pool
from fastism.rules.reduce import Rows, SumAll
from fastism.runtime import Runtime
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"


@pytest.mark.parametrize(
    "name",
    [
        "three_pools",
        "residual_valid_cropped",
        "nested_and_called_twice",
        "second_input_mutated",
        "dict_outputs",
        "recurrent_tail",
        "one_branch_cropped_away",
        "window_grows_over_everything",
        "protein",
    ],
)
def test_good_models_pass_in_silence(name, capsys):
    model = randomize(DESIGNS[name].build())
    ism = FastISM(model, DESIGNS[name].index, jit=JIT)
    assert ism.test_correctness(batch_size=2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("ranges", "content"), [([(0, 3), (20, 23), (34, 37)], np.eye(4)[[0, 3, 1]]), (None, 0)])
def test_ranges_and_replacements_are_compared_too(ranges, content):
    ism = FastISM(randomize(DESIGNS["flatten_dense"].build()), change_ranges=ranges, jit=JIT)
    assert ism.test_correctness(batch_size=2, replace_with=content)
    assert ism.test_correctness(2, content, 1e-6) is True


def test_fresh_weights_pass():
    """As models come from Keras: zero biases, outputs that hardly react."""
    FastISM(DESIGNS["three_pools"].build(), jit=JIT)


# ------------------------------------------------------------------------------------------ wrong rules


def small():
    x = L.Input((37, 4), name="dna")
    y = L.Conv1D(6, 5, padding="same", activation="relu", name="first")(x)
    y = L.BatchNormalization(name="norm")(y)
    y = L.MaxPooling1D(2, name="pool")(y)
    y = L.Conv1D(5, 3, padding="same", activation="relu", name="second")(y)
    mean = L.GlobalAveragePooling1D(name="mean")(y)
    return randomize(keras.Model(x, [L.Dense(2, name="out")(L.Flatten(name="flat")(y)), mean]))


def pad(step):
    step.slide = dataclasses.replace(step.slide, pad=step.slide.pad + 1)


def scale(step, by=0.5):
    before = step.scale
    step.scale = lambda: before() * by


def half_kernel(step):
    before = step.kernel
    step.kernel = lambda: before() * 0.5


def one_too_many(step):
    before = step.run

    def run(at):
        return before(at) * (1 + 1 / at.windows[0].span.length)

    step.run = run


WRONG = {
    "first": (L.Conv1D, Convolve, pad),
    "norm": (L.BatchNormalization, Affine, scale),
    "barely": (L.BatchNormalization, Affine, partial(scale, by=1.01)),
    "pool": (L.MaxPooling1D, Pool, pad),
    "out": (L.Dense, Rows, half_kernel),
    "mean": (L.GlobalAveragePooling1D, SumAll, one_too_many),
}
BLAMED = {"barely": "norm"}


def break_rule(monkeypatch, which):
    layer, step_class, spoil = WRONG[which]
    right = RULES[layer]

    def wrong(call, graph):
        lowered = right.fn(call, graph)
        for step in lowered.steps:
            if isinstance(step, step_class):
                spoil(step)
        return lowered

    monkeypatch.setitem(RULES, layer, Rule(wrong, right.family, right.note))


@pytest.mark.parametrize("which", WRONG)
def test_a_wrong_rule_is_found_and_its_call_named(monkeypatch, which):
    model = small()
    FastISM(model, jit=JIT)
    break_rule(monkeypatch, which)
    name = BLAMED.get(which, which)
    with pytest.raises(MismatchError, match=rf"(?s)Fast and naive differ by .* first call that differs is '{name}' \("):
        FastISM(model, jit=JIT)
    ism = FastISM(model, jit=JIT, test_correctness=False)
    assert ism.test_correctness(batch_size=2) is False


@pytest.mark.parametrize("which", WRONG)
def test_the_oracle_of_the_exactness_tests_finds_it_too(monkeypatch, which):
    model = small()
    x = np.eye(4)[np.random.default_rng(0).integers(0, 4, (2, 37))].astype(keras.config.floatx())
    naive, reference = saturated(model, [x], 0), predict(model, [x])
    compare = partial(test_exactness.check, naive=naive, reference=reference)
    compare(test_exactness.flat(FastISM(model, jit=JIT, test_correctness=False).saturate(x).mutant))
    break_rule(monkeypatch, which)
    answer = FastISM(model, jit=JIT, test_correctness=False).saturate(x)
    with pytest.raises(AssertionError, match="of the effect"):
        compare(test_exactness.flat(answer.mutant))


def test_an_error_at_the_edges_only_is_found(monkeypatch):
    """What hangs over the ends leaks into the next layer: right everywhere but within a kernel of the ends."""
    model = small()
    monkeypatch.setattr(Runtime, "keep_inside", lambda self, delta, span: delta)
    with pytest.raises(MismatchError, match="first call that differs is 'mean'"):  # which adds up what leaked
        FastISM(model, jit=JIT)
    x = np.eye(4)[np.random.default_rng(0).integers(0, 4, (1, 37))].astype(keras.config.floatx())
    fast = FastISM(model, jit=JIT, test_correctness=False).saturate(x).mutant
    naive = saturated(model, [x], 0)
    wrong = np.abs(fast[1] - naive[1]).max((0, 2, 3)) > 1e-4
    assert wrong[0]
    assert wrong[-1]
    assert not wrong[10:-10].any()


def test_the_remedy_in_the_message_works(monkeypatch):
    model = small()
    break_rule(monkeypatch, "pool")
    with pytest.raises(MismatchError, match="Name it in early_stop_layers"):
        FastISM(model, jit=JIT)
    ism = FastISM(model, jit=JIT, early_stop_layers=["pool"])
    assert ism.test_correctness(batch_size=2)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_infinity_within_the_model_is_found_and_the_remedy_works():
    """The model squashes an exp that overflows; inf - inf has no difference to carry to the next layer."""
    x = L.Input((12, 4), name="dna")
    y = ops.exp(1000 * L.Conv1D(3, 3, padding="same")(x))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(ops.sigmoid(L.AveragePooling1D(2)(y))))))
    name = next(layer.name for layer in model.operations if type(layer).__name__ == "Exp")
    with pytest.raises(MismatchError, match=f"differ by nan .* first call that differs is '{name}'"):
        FastISM(model, jit=JIT)
    ism = FastISM(model, jit=JIT, test_correctness=False)
    assert ism.test_correctness(batch_size=2) is False
    assert FastISM(model, jit=JIT, early_stop_layers=[name]).test_correctness(batch_size=2) is True


def test_the_check_can_be_left_out(monkeypatch):
    monkeypatch.setattr("fastism.check.self_check", lambda *a: pytest.fail("was checked"))
    FastISM(small(), test_correctness=False)


def test_the_check_leaves_the_global_random_numbers_alone():
    ism = FastISM(small(), test_correctness=False)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is what must not move)
    self_check(ism._engine, ism.model, 1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
