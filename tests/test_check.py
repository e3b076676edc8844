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

from fastism import FastISM, MismatchError, ModelError, sizing
from fastism.check import in_pairs, predictor, self_check
from fastism.rules import RULES, Rule
from fastism.rules.conv_steps import Convolve
from fastism.rules.pointwise import Affine
from fastism.rules.pooling import Pool
from fastism.rules.reduce import Rows, SumAll
from fastism.runtime import Runtime
from fastism.stretches import Division
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
    before = step.coefficients
    step.coefficients = lambda: (before()[0] * by, before()[1])


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
    monkeypatch.setattr(Runtime, "keep_inside", lambda self, delta, span, over=False: delta)
    whole = Division(((0, 37),), 1.0)  # where a stretch of its own ends at an end of the sequence, nothing hangs over
    monkeypatch.setattr(sizing, "divide", lambda plan, gain: whole)
    with pytest.raises(MismatchError, match="first call that differs is 'mean'"):  # which adds up what leaked
        FastISM(model, jit=JIT)
    x = np.eye(4)[np.random.default_rng(0).integers(0, 4, (1, 37))].astype(keras.config.floatx())
    fast = FastISM(model, jit=JIT, test_correctness=False).saturate(x).mutant
    naive = saturated(model, [x], 0)
    wrong = np.abs(fast[1] - naive[1]).max((0, 2, 3)) > 1e-4
    assert wrong[0]
    assert wrong[-1]
    assert not wrong[10:-10].any()


def other_head_first():
    x = L.Input((37, 4), name="dna")
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    profile = L.Conv1D(2, 3, name="profile")(y)
    count = L.Dense(2, name="out")(L.Flatten()(L.BatchNormalization(name="norm")(y)))
    return randomize(keras.Model(x, [profile, count]))


def other_output_of_a_call():
    x = L.Input((37, 4), name="dna")
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    last, state, _ = L.LSTM(3, return_state=True, name="memory")(y)
    both = L.Concatenate()([last, L.GlobalMaxPooling1D()(L.BatchNormalization(name="norm")(y))])
    return randomize(keras.Model(x, [state, L.Dense(2, name="out")(both)]))


@pytest.mark.parametrize("model", [other_head_first, other_output_of_a_call])
@pytest.mark.parametrize("taken", [{"outputs": 1}, {"reduce": lambda outputs: outputs[1]}])
def test_the_call_is_named_when_other_outputs_are_not_taken(monkeypatch, model, taken):
    """What only these need has a value but no reader, and cannot be to blame."""
    model = model()
    break_rule(monkeypatch, "norm")
    with pytest.raises(MismatchError, match=r"Fast and naive differ by .* first call that differs is 'norm' \("):
        FastISM(model, jit=JIT, **taken)


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


def test_a_model_that_gives_nan_is_given_back_as_it_is():
    """Where the model gives no number, nor does the fast path; everywhere else both agree."""
    x = L.Input((12, 4), name="dna")
    y = L.Dense(3)(L.Flatten()(L.Conv1D(3, 3)(x)))
    model = randomize(keras.Model(x, ops.log(y)))
    arrays = np.eye(4, dtype=keras.config.floatx())[np.random.default_rng(0).integers(0, 4, (2, 12))]
    with np.errstate(invalid="ignore"):
        naive = saturated(model, [arrays], 0)[0]
        fast = FastISM(model, jit=JIT).saturate(arrays).mutant
    assert 0 < np.isnan(naive).sum() < naive.size
    np.testing.assert_allclose(fast, naive, rtol=1e-3, atol=1e-3)


def test_the_check_can_be_left_out(monkeypatch):
    monkeypatch.setattr("fastism.check.self_check", lambda *a: pytest.fail("was checked"))
    FastISM(small(), test_correctness=False)


def test_the_check_leaves_the_global_random_numbers_alone():
    ism = FastISM(small(), test_correctness=False)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is what must not move)
    self_check(ism._engine, ism.model, 1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# ------------------------------------------------------------------------ models for which it is not defined


class Live(L.Layer):
    """Random at inference."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = L.Dropout(0.5)

    def call(self, x):
        return self.drop(x, training=True)


class Counter(L.Layer):
    def build(self, shape):
        self.n = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.n.assign_add(1.0)
        return x * self.n


class Seeded(L.Layer):
    """The same random numbers at each call, others for each row."""

    def call(self, x):
        return keras.random.dropout(x, 0.5, seed=3)


def headed(layer):
    x = L.Input((12, 4), name="dna")
    y = layer(L.Conv1D(3, 3, name="conv")(x))
    return randomize(keras.Model(x, L.Dense(2, name="out")(L.Flatten()(y)), name="odd"))


@pytest.mark.parametrize("stop", [None, ["live"]])
def test_a_model_that_is_random_is_refused(stop):
    message = r"Model 'odd' gives other numbers each time .*output 'out'\)\. .*not defined\. .* is 'live' \(Live\)\.$"
    with pytest.raises(ModelError, match=message):
        FastISM(headed(Live(name="live")), early_stop_layers=stop, jit=JIT)


@pytest.mark.skipif(JIT, reason="jax compiles: what a layer assigns is lost")
def test_a_model_that_counts_its_calls_is_refused():
    with pytest.raises(ModelError, match="Model 'odd' gives other numbers each time it is called on the same sequence"):
        FastISM(headed(Counter()), jit=JIT)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (lambda x: x - ops.mean(x, axis=0, keepdims=True), "mean"),
        (lambda x: ops.flip(x, axis=None), "flip"),
        (lambda x: ops.softmax(x, axis=0), "softmax"),
        (Seeded(name="seeded"), "seeded"),
    ],
)
def test_a_model_that_mixes_the_batch_is_refused(layer, name):
    message = rf"gives other numbers for a sequence when another is in its batch: it mixes .* first call .* is '{name}"
    with pytest.raises(ModelError, match=message):
        FastISM(headed(layer), jit=JIT)


def test_a_reduce_that_mixes_the_batch_is_refused():
    with pytest.raises(ModelError, match="it mixes the sequences of a batch .* in output 'reduce/add"):
        FastISM(small(), jit=JIT, outputs=0, reduce=lambda y: y + ops.mean(y, axis=0, keepdims=True))


def test_numbers_that_are_not_finite_are_no_mixing():
    x = L.Input((12, 4), name="dna")
    FastISM(keras.Model(x, ops.max(ops.log(x), axis=2)), jit=JIT)


@pytest.mark.parametrize("function", [ops.sum, partial(ops.mean, axis=0), partial(ops.max, axis=(0, 2))])
def test_an_output_without_rows_is_named(function):
    x = L.Input((12, 4))
    with pytest.raises(
        ModelError, match=r"Output '\w+' has shape \(.*\); every output needs one row for each sequence"
    ):
        FastISM(keras.Model(x, [L.Conv1D(3, 3)(x), function(L.ReLU()(x))]), test_correctness=False)
    with pytest.raises(ModelError, match=r"Output 'reduce/\w+' has shape \(.*\); every output needs one row for each"):
        FastISM(small(), outputs=0, reduce=lambda y: function(ops.expand_dims(y, 2)), test_correctness=False)


def test_an_output_whose_first_axis_is_another_is_found():
    """Of unknown length, as the batch is."""
    x = L.Input((None, 4))
    ism = FastISM(keras.Model(x, ops.sum(x, axis=0)), jit=JIT)
    with pytest.raises(ModelError, match=r"has shape \(9, 4\) for 2 sequences; every output needs one row"):
        ism(np.eye(4)[np.zeros((2, 9), int)])


def test_the_model_is_asked_about_two_sequences_at_most():
    """A long model's activations of all mutants at once would not fit into the budget."""
    rows = []

    class Watched(L.Layer):
        def call(self, x):
            rows.append(x.shape[0])
            return x

    x = keras.Input((37, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(Watched()(L.Conv1D(3, 5)(x))))))
    ism = FastISM(model, early_stop_layers=["watched"], test_correctness=False)
    rows.clear()
    ask = predictor(model, ism._graph)
    found = in_pairs(ask, [np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (5, 37))]])
    assert found[0].shape == (5, 2)
    assert set(rows) <= {2, None}


@pytest.mark.parametrize(("memory", "variants"), [("4GB", 10), ("1MB", 3)])
def test_the_check_keeps_to_the_budget(memory, variants):
    x = keras.Input((300, 4))
    y = L.Conv1D(64, 9, padding="same", activation="relu")(x)
    y = L.Conv1D(64, 21, padding="same", activation="relu")(y)
    ism = FastISM(randomize(keras.Model(x, L.GlobalMaxPooling1D()(y))), memory=memory, test_correctness=False)
    (prepared,) = ism._prepared.values()
    assert prepared.checking().sizing.batch_size <= variants
    assert prepared.checking().plans is prepared.engine.plans, "else a long sequence's are held twice"
    assert (prepared.checking().sizing.batch_size == 10) == (memory == "4GB")


def test_random_numbers_that_go_on_are_found_out():
    """Also where the state of the random numbers is an argument of what is compiled."""

    class Noisy(L.Layer):
        def __init__(self):
            super().__init__(name="noisy")
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, x):
            return x + keras.random.normal((1, *x.shape[1:]), seed=self.seeds)

    x = keras.Input((37, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(Noisy()(L.Conv1D(3, 5)(x))))))
    with pytest.raises(ModelError, match="each time it is called"):
        FastISM(model, early_stop_layers=["noisy"])
