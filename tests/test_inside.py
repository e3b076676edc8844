"""Looking inside layers and models; models of any length; some channels, some outputs, functions of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops, tree
from oracle import overwritten, predict, saturated, share_of_effect

from fastism import FastISM, MismatchError, ModelError, NaiveISM
from fastism.testing import assert_matches_naive, randomize

JIT = keras.backend.backend() == "jax"
FLOAT = keras.config.floatx()
LENGTH = 40
RNG = np.random.default_rng(0)
X = np.eye(4)[RNG.integers(4, size=(2, LENGTH))].astype(FLOAT)


def agree(fast, naive, reference, tolerance=1e-3):
    for f, n, r in zip(*[tree.flatten(t) for t in (fast, naive, reference)], strict=True):
        error, effect = share_of_effect(np.asarray(f), n, r)
        assert effect > 1e-6
        assert error <= tolerance


def exact(model, x=X, **options):
    """FastISM of a model, after it agreed with brute force."""
    randomize(model)
    ism = FastISM(model, test_correctness=False, jit=JIT, **options)
    agree(ism.saturate(x).mutant, saturated(model, [x], 0), predict(model, [x]))
    return ism


def states(ism, **where):
    return {row.call: row.state for row in ism.explain(**where).rows}


class AttentionPool(L.Layer):
    """Two positions to one, by weights that depend on them; uses a value computed from a weight."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        _, length, channels = x.shape
        pairs = ops.reshape(x, (-1, length // 2, 2, channels))
        weights = ops.softmax(ops.matmul(pairs, ops.transpose(self.kernel)), axis=2)
        return ops.sum(pairs * weights, axis=2)


class Residual(L.Layer):
    """A layer made of layers."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.norm = L.BatchNormalization()
        self.conv = L.Conv1D(filters, 3, padding="same")
        self.drop = L.Dropout(0.3)

    def call(self, x, training=False):
        return x + self.drop(self.conv(ops.gelu(self.norm(x, training=training))), training=training)


def stack(*layers, length=LENGTH):
    x = y = keras.Input((length, 4))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


# ------------------------------------------------------------------------------------------ layers


def test_a_layer_made_of_layers_is_opened():
    ism = exact(stack(L.Conv1D(6, 5, padding="same"), Residual(6, name="block"), L.Conv1D(2, 3)))
    found = states(ism)
    assert len([c for c in found if c.startswith("block/")]) > 3
    assert set(found.values()) == {"window"}


def test_a_layer_that_is_called_twice_is_opened_twice():
    block = Residual(6, name="block")
    ism = exact(stack(L.Conv1D(6, 5, padding="same"), block, block))
    assert len([c for c in states(ism) if c.startswith("block#2/")]) > 2


def test_a_layer_inside_a_layer_is_opened():
    class Outer(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = AttentionPool(name="inner")

        def call(self, x):
            return ops.relu(self.inner(x)) + 0.5

    ism = exact(stack(L.Conv1D(6, 5, padding="same"), Outer(name="outer"), L.Flatten(), L.Dense(2)))
    assert (
        states(ism)["outer/inner/softmax" if "outer/inner/softmax" in states(ism) else _find(ism, "softmax")]
        == "window"
    )


def _find(ism, part):
    return next(c for c in states(ism) if part in c)


def test_weights_that_became_constants_are_respected_when_they_change():
    model = stack(L.Conv1D(6, 5, padding="same"), AttentionPool(name="pool"), L.Flatten(), L.Dense(2))
    ism = exact(model)
    assert set(states(ism).values()) <= {"window", "dense"}
    before = ism(X)
    model.get_layer("pool").kernel.assign(model.get_layer("pool").kernel * 2.0)
    after = ism(X)
    assert np.abs(after - before).max() > 1e-4
    ranges = [(i, i + 1) for i in range(LENGTH)]
    agree(after, overwritten(model, [X], 0, ranges, np.zeros((1, 4), FLOAT)), predict(model, [X]))


def test_a_lambda_of_operations_is_opened():
    ism = exact(stack(L.Conv1D(6, 5), L.Lambda(lambda t: t * ops.sigmoid(1.7 * t)), L.GlobalAveragePooling1D()))
    assert all(s == "window" for c, s in states(ism).items() if "lambda" in c)


def test_attention_is_opened_up_to_its_projections():
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(8, 5, padding="same")(x)
    ism = exact(keras.Model(x, L.Dense(2)(L.MultiHeadAttention(2, 4, name="mha")(y, y))))
    found = states(ism)
    assert [found[f"mha/{n}"] for n in ("query", "key", "value")] == ["window"] * 3
    assert found["mha/attention_output"] == "dense"


class Deceitful(L.Layer):
    """Does something else to symbolic tensors than to numbers."""

    def call(self, x):
        return ops.relu(x) if isinstance(x, keras.KerasTensor) else ops.flip(ops.relu(x), axis=1)


class NumbersOnly(L.Layer):
    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise ValueError("numbers only")
        return ops.relu(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Deceitful(name="it"), "Deceitful has no rule; its inside does not give what the layer gives"),
        (NumbersOnly(name="it"), "NumbersOnly has no rule; its inside cannot be traced (ValueError)"),
        (L.GroupNormalization(2, name="it"), "GroupNormalization has no rule; its inside does not run ("),
    ],
)
def test_what_stays_closed_says_why_and_is_exact(layer, reason):
    ism = exact(stack(L.Conv1D(6, 5), layer, L.GlobalMaxPooling1D()))
    assert ism.explain().row("it").reason.startswith(reason)


def test_early_stop_layers_are_not_opened():
    ism = exact(stack(L.Conv1D(6, 5, padding="same"), Residual(6, name="block")), early_stop_layers=["block"])
    assert states(ism)["block"] == "dense"


# ------------------------------------------------------------------------------------------ subclassed models


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = L.Conv1D(6, 5, padding="same"), L.Conv1D(6, 3, padding="same")
        self.drop, self.head = L.Dropout(0.5), L.Dense(2)

    def call(self, x, training=False):
        y = self.first(x)
        y = self.drop(ops.relu(y + self.second(y)), training=training)
        return self.head(ops.mean(y, axis=1)), ops.sum(y, axis=-1)


def test_a_subclassed_model_that_was_called_is_traced():
    model = Subclassed()
    model(X)
    randomize(model)
    ism = FastISM(model, jit=JIT)
    fast, naive = ism(X), NaiveISM(model)(X)
    agree(fast, naive, NaiveISM(model).reference(X))
    assert "window" in states(ism).values()


def test_a_subclassed_model_that_was_never_called_says_so():
    with pytest.raises(ModelError, match="Subclassed, which defines its own call.*call it once on a batch"):
        FastISM(Subclassed())


def test_a_subclassed_model_that_cannot_be_traced_says_why():
    class Odd(keras.Model):
        def call(self, x):
            return ops.convert_to_tensor(np.asarray(ops.convert_to_numpy(x)).sum(axis=1))

    model = Odd()
    model.build((None, LENGTH, 4))
    model._build_shapes_dict = {"x": (None, LENGTH, 4)}
    with pytest.raises(ModelError, match="FastISM tried to trace call\\(\\) itself: it failed with"):
        FastISM(model)


class Beside(keras.Model):
    """Of a sequence, or of a sequence and a number for each of two outputs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv, self.head = L.Conv1D(6, 5), L.Dense(2)

    def call(self, inputs):
        x, other = inputs if isinstance(inputs, list | tuple) else (inputs, 0)
        return self.head(ops.max(self.conv(x), axis=1)) + other


@pytest.mark.parametrize("x", [X, [X, np.ones((2, 2), FLOAT)]], ids=["one", "list"])
def test_a_subclassed_model_from_a_file(tmp_path, x):
    """In which the shapes that it was called with are lists, as lists of shapes are."""
    model = Beside()
    model(x)
    randomize(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Beside": Beside})
    assert_matches_naive(loaded, x, jit=JIT)
    agree(FastISM(loaded, jit=JIT)(x), NaiveISM(model)(x), NaiveISM(model).reference(x))


class Heads(keras.Model):
    """A model whose ``call`` nests its outputs as it is told."""

    def __init__(self, nest):
        super().__init__()
        self.conv, self.head, self.nest = L.Conv1D(3, 5, padding="same"), L.Dense(2), nest

    def call(self, x):
        profile = self.conv(x)
        return self.nest(profile, self.head(ops.mean(profile, axis=1)))


class Pair(NamedTuple):
    profile: Any
    count: Any


def heads(nest):
    model = Heads(nest)
    model(X)
    return randomize(model)


def functional(nest):
    x = keras.Input((LENGTH, 4))
    profile = L.Conv1D(3, 5, padding="same")(x)
    return randomize(keras.Model(x, nest(profile, L.Dense(2)(ops.mean(profile, axis=1)))))


NESTS = {
    "dict": lambda p, c: {"profile": p, "count": c},
    "ordered": lambda p, c: OrderedDict(profile=p, count=c),
    "list": lambda p, c: [p, c],
    "tuple": lambda p, c: (p, c),
    "list in dict": lambda p, c: {"profile": p, "both": [2 * p, {"z": c, "a": -c}]},
    "tuple in list": lambda p, c: [(p, c), -c],
    "named tuple in dict": lambda p, c: {"heads": Pair(p, c)},
    "dict of one": lambda p, c: {"count": c},
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("make", [heads, functional])
def test_results_are_nested_as_the_outputs(make, nest):
    """Of a model with its own ``call`` as of one made of inputs and outputs; an outer tuple becomes a list."""
    model = make(NESTS[nest])
    ism, predicted = FastISM(model, jit=JIT), model.predict(X, verbose=0)
    wanted = list(predicted) if isinstance(predicted, tuple) else predicted
    result, called = ism.saturate(X, 0, 3), ism(X)
    for found in (result.reference, result.mutant, called, ism.saturate(X, 0, 3, compact=True).expanded().mutant):
        tree.assert_same_structure(found, wanted)
    assert_matches_naive(model, X, jit=JIT)
    assert_matches_naive(model, X, jit=JIT, saturate=True)
    for number, (mutant, reference) in enumerate(
        zip(tree.flatten(result.mutant), tree.flatten(predicted), strict=True)
    ):
        one = FastISM(model, outputs=number, jit=JIT).saturate(X, 0, 3)
        np.testing.assert_allclose(one.reference, reference, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.mutant, mutant, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [heads, functional])
def test_a_list_of_one_is_as_keras_hands_it_back(make):
    model = make(lambda p, c: [c])
    assert isinstance(FastISM(model, jit=JIT)(X), list) == isinstance(model.predict(X, verbose=0), list)
    assert_matches_naive(model, X, jit=JIT)


@pytest.mark.parametrize("make", [heads, functional])
@pytest.mark.parametrize("nest", ["dict", "ordered"])
def test_outputs_of_a_dict_go_by_key(make, nest):
    model = make(NESTS[nest])
    naive = NaiveISM(model).saturate(X, 0, 3).mutant
    order = ["count", "profile"] if nest == "dict" else ["profile", "count"]  # on every backend
    assert list(naive) == list(FastISM(model, jit=JIT)(X)) == order
    for i, key in enumerate(order):
        for options in ({"outputs": key}, {"outputs": i}, {"reduce": lambda y, key=key: y[key]}):
            fast = FastISM(model, jit=JIT, **options).saturate(X, 0, 3).mutant
            np.testing.assert_allclose(fast, naive[key], rtol=1e-4, atol=1e-5)
    both = FastISM(model, outputs=["profile", "count"], jit=JIT).saturate(X, 0, 3).mutant
    assert [b.shape for b in both] == [naive["profile"].shape, naive["count"].shape]
    with pytest.raises(
        ValueError, match="outputs names 'other'; an index from 0 to 1, a name of .*'count'.*is accepted"
    ):
        FastISM(model, outputs="other")


def test_a_call_of_its_own_does_not_take_the_names_of_the_outputs_it_was_built_with():
    class Swapped(keras.Model):
        def call(self, x):
            profile, count = super().call(x)
            return {"a": count, "b": profile}

    inner = two_headed()
    model = Swapped(inner.inputs[0], inner.outputs)
    model(X)
    naive = NaiveISM(model).saturate(X, 0, 3).mutant
    for name in ("count", "profile"):  # of which the calls are named in the other order
        key = {"count": "a", "profile": "b"}[name]
        fast = FastISM(model, outputs=name, jit=JIT).saturate(X, 0, 3).mutant
        np.testing.assert_allclose(fast, naive[key], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------ any length


def test_a_model_of_any_length_takes_sequences_of_several():
    block = Residual(6, name="block")
    model = stack(L.Conv1D(6, 5, padding="same"), block, L.MaxPooling1D(2), L.Conv1D(3, 3), length=None)
    randomize(model)
    ism = FastISM(model, jit=JIT)
    for length in (LENGTH, 27, LENGTH):
        x = X[:, :length]
        agree(ism.saturate(x).mutant, saturated(model, [x], 0), predict(model, [x]))
        assert set(states(ism, length=length).values()) == {"window"}


def test_ranges_of_a_model_of_any_length_are_checked_against_each():
    model = randomize(stack(L.Conv1D(6, 5, padding="same"), L.GlobalMaxPooling1D(), length=None))
    ism = FastISM(model, change_ranges=[(2, 5), (30, 33)], jit=JIT)
    assert ism(X).shape == (2, 2, 6)
    with pytest.raises(ValueError, match=r"\(30, 33\), out of range for length 20"):
        ism(X[:, :20])


# ------------------------------------------------------------------------------------------ outputs and channels


def two_headed():
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    profile = L.Conv1D(3, 3, padding="same", name="profile")(y)
    count = L.Dense(1, name="count")(L.LSTM(4, name="memory")(y))
    return randomize(keras.Model(x, [profile, count]))


@pytest.mark.parametrize(("which", "kept"), [(0, [0]), ("count", [1]), ([1, 0], [1, 0]), ([-1], [1])])
def test_some_outputs(which, kept):
    model = two_headed()
    ism = FastISM(model, outputs=which, jit=JIT)
    naive, reference = saturated(model, [X], 0), predict(model, [X])
    agree(ism.saturate(X).mutant, [naive[i] for i in kept], [reference[i] for i in kept])
    assert ("memory" in states(ism)) == (1 in kept), "what only other outputs need is not computed"


@pytest.mark.parametrize("which", ["other", 2, [], [0, 0], [0.5]])
def test_outputs_that_are_not_there(which):
    with pytest.raises(ValueError, match="outputs .*; an index from 0 to 1, a name of"):
        FastISM(two_headed(), outputs=which)


def test_a_function_of_the_outputs_becomes_part_of_the_model():
    model = two_headed()

    def log_total(outputs):
        profile, count = outputs
        return {"total": ops.logsumexp(profile, axis=1), "count": count}

    ism = FastISM(model, reduce=log_total, jit=JIT)
    fast = ism.saturate(X).mutant
    profile, count = saturated(model, [X], 0)
    assert fast["total"].shape == (2, LENGTH, 4, 3)
    np.testing.assert_allclose(fast["total"], np.log(np.exp(profile).sum(3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fast["count"], count, rtol=1e-4, atol=1e-5)
    assert "window alone" in next(r.reason for r in ism.explain().rows if r.kind == "Logsumexp")


def test_reduce_and_outputs_together():
    model = two_headed()
    ism = FastISM(model, outputs="profile", reduce=lambda p: ops.mean(p, axis=(1, 2)), jit=JIT)
    np.testing.assert_allclose(ism(X), NaiveISM(model)(X)[0].mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("reduce", "error"),
    [
        ("sum", r"reduce is 'sum'; a function of the model's outputs"),
        (lambda y: np.sum(np.asarray(y)), "reduce failed on the model's outputs"),
        (lambda y: 3.0, "reduce gives 3.0; tensors computed from the model's outputs"),
    ],
)
def test_what_is_no_function_of_the_outputs(reduce, error):
    with pytest.raises(TypeError, match=error):
        FastISM(two_headed(), reduce=reduce)


@pytest.mark.parametrize("channels", [[0, 1, 2, 3], slice(1, 5), [5, 0, 2]])
def test_some_channels(channels):
    x = y = keras.Input((LENGTH, 6))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(y)
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
    data = np.concatenate([X, RNG.normal(size=(2, LENGTH, 2)).astype(FLOAT)], axis=2)
    fast, naive = (kind(model, channels=channels) for kind in (FastISM, NaiveISM))
    a, b = fast.saturate(data), naive.saturate(data)
    assert a.mutant.shape == b.mutant.shape
    reference = predict(model, [data])[0]
    agree(a.mutant, [b.mutant], [reference])
    agree(fast(data), [naive(data)], [reference])
    # the other channels keep their values
    listed = list(range(6))[channels] if isinstance(channels, slice) else channels
    by_hand = data.copy()
    by_hand[:, 7, listed] = np.eye(len(listed))[1]
    np.testing.assert_allclose(a.mutant[:, 7, 1], predict(model, [by_hand])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [[], [0, 0], [6], ["a"], 3])
def test_channels_that_are_not_there(channels):
    x = keras.Input((LENGTH, 6))
    model = keras.Model(x, L.Conv1D(2, 3)(x))
    for kind in (FastISM, NaiveISM):
        with pytest.raises(ValueError, match="channels is .*a slice or a list of different numbers"):
            kind(model, channels=channels)


# ------------------------------------------------------------------------------------------ compact results


def test_compact_results_hold_what_changes():
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    profile = L.Conv1D(2, 3)(L.Cropping1D((9, 4))(y))
    model = randomize(keras.Model(x, {"profile": profile, "count": L.Dense(1)(L.GlobalMaxPooling1D()(y))}))
    ism = FastISM(model, jit=JIT)
    small, whole = ism.saturate(X, 3, 35, compact=True), ism.saturate(X, 3, 35)
    assert small.window["profile"].shape == (2, 32, 4, 7, 2)
    assert small.start["profile"].shape == (32,)
    assert small.window["count"].shape == (2, 32, 4, 1)
    for name in ("profile", "count"):
        np.testing.assert_array_equal(small.reference[name], whole.reference[name])
        np.testing.assert_array_equal(small.expanded().mutant[name], whole.mutant[name])


def test_compact_results_of_a_window_that_is_everything():
    model = randomize(stack(L.Conv1D(3, 45, padding="same"), L.Conv1D(2, 45, padding="same")))
    ism = FastISM(model, jit=JIT)
    small = ism.saturate(X, compact=True)
    np.testing.assert_array_equal(small.expanded().mutant, ism.saturate(X).mutant)


def test_a_plan_that_failed_its_check_is_not_kept(monkeypatch):
    """It was, and a second call gave what it computed."""
    x = keras.Input((None, 4))
    ism = FastISM(randomize(keras.Model(x, L.GlobalMaxPooling1D()(L.Conv1D(3, 3)(x)))))

    def fails(*_, **__):
        raise MismatchError("differs")

    monkeypatch.setattr("fastism.check.self_check", fails)
    for _ in range(2):
        with pytest.raises(MismatchError, match="differs"):
            ism.saturate(X)
