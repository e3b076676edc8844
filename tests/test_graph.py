"""Reading models: calls, not layers, in order, without neighbours, and without leaving a trace."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import layers as L
from keras import ops, tree
from oracle import predict

from fastism import FastISM, ModelError
from fastism.calls import Call
from fastism.graph import read_model
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"


def names(model):
    return [call.name for call in read_model(model).calls]


def check_order(graph):
    """Every call comes after what it needs, and every tensor is made once."""
    known = set(graph.inputs)
    for i, call in enumerate(graph.calls):
        assert call.index == i
        assert set(call.inputs) <= known, f"{call.name} runs before its inputs are there"
        assert not set(call.outputs) & known
        known |= set(call.outputs)
    assert set(graph.outputs) <= known
    assert len({call.name for call in graph.calls}) == len(graph.calls), "names are unique"


def run(graph, arrays):
    """The outputs, by evaluating call after call."""
    values = {t: ops.convert_to_tensor(a) for t, a in zip(graph.inputs, arrays, strict=True)}
    for call in graph.calls:
        values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
    return [ops.convert_to_numpy(values[t]) for t in graph.outputs]


def arrays_for(model, n=2):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, *t.shape[1:])).astype(keras.config.floatx()) for t in model.inputs]


@pytest.mark.parametrize(
    "name",
    [
        "sequential",
        "nested_and_called_twice",
        "second_input_mutated",
        "dict_outputs",
        "operations",
        "merges_of_different_windows",
        "attention_and_local_output",
    ],
)
def test_running_the_calls_is_running_the_model(name):
    model = randomize(DESIGNS[name].build())
    graph = read_model(model)
    check_order(graph)
    arrays = arrays_for(model)
    for got, want in zip(run(graph, arrays), predict(model, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for tensor, declared in zip(graph.inputs, model.inputs, strict=True):
        assert graph.shape(tensor) == tuple(declared.shape[1:])
    for tensor, declared in zip(graph.outputs, model.outputs, strict=True):
        assert graph.shape(tensor) == tuple(declared.shape[1:])


@pytest.mark.parametrize("name", DESIGNS)
def test_order_and_names_of_every_design(name):
    check_order(read_model(DESIGNS[name].build()))


def test_functional():
    x = L.Input((9, 4), name="dna")
    y = L.Flatten(name="flat")(L.Conv1D(2, 3, name="conv")(x))
    graph = read_model(keras.Model(x, L.Dense(1, name="out")(y)))
    assert [(c.name, c.kind) for c in graph.calls] == [("conv", "Conv1D"), ("flat", "Flatten"), ("out", "Dense")]
    assert [t.name for t in graph.tensors][graph.inputs[0]] == "dna"
    assert graph.output_names == ("out",)
    assert graph.input_keys is None


def test_a_sequential_built_by_a_call():
    model = keras.Sequential([L.Conv1D(2, 3, name="conv"), L.Flatten(name="flat")])
    model(np.zeros((1, 9, 4)))
    assert names(model) == ["conv", "flat"]


def test_calls_that_no_output_needs_are_left_out():
    x = L.Input((9, 4))
    y = L.Conv1D(2, 3, name="used")(x)
    L.Dense(1, name="unused")(y)
    assert names(keras.Model(x, y)) == ["used"]


def test_a_layer_called_twice_is_two_calls():
    shared = L.Conv1D(4, 3, padding="same", name="shared")
    x = L.Input((9, 4))
    graph = read_model(keras.Model(x, shared(shared(x))))
    assert [c.name for c in graph.calls] == ["shared", "shared#2"]
    assert graph.calls[0].op is graph.calls[1].op
    assert graph.calls[0].outputs == graph.calls[1].inputs


def test_nested_models_are_opened_once_for_every_call():
    inside = L.Input((9, 4))
    inner = keras.Model(inside, L.ReLU(name="relu")(L.Conv1D(4, 3, padding="same", name="conv")(inside)), name="inner")
    outside = L.Input((9, 4))
    outer = keras.Model(outside, inner(inner(outside)), name="outer")
    x = L.Input((9, 4))
    found = names(keras.Model(x, outer(x)))
    assert found == [
        "outer/inner/conv",
        "outer/inner/relu",
        "outer/inner#2/conv",
        "outer/inner#2/relu",
    ]


def test_calls_of_another_model_on_the_same_layers_do_not_appear():
    conv, dense = L.Conv1D(4, 3, padding="same", name="conv"), L.Dense(4, name="dense")
    other = L.Input((30, 4))
    before = keras.Model(other, L.GlobalMaxPooling1D(name="foreign")(dense(conv(dense(other)))))
    x = L.Input((9, 4))
    model = keras.Model(x, dense(conv(x)))
    late = L.Input((20, 4))
    after = keras.Model(late, L.Flatten(name="late")(conv(late)))
    graph = read_model(model)
    assert [c.name for c in graph.calls] == ["conv", "dense"]
    assert [graph.shape(c.outputs[0]) for c in graph.calls] == [(9, 4), (9, 4)]
    assert names(before) == ["dense", "conv", "dense#2", "foreign"]
    assert names(after) == ["conv", "late"]


def test_a_model_cut_out_of_another():
    x = L.Input((20, 4))
    y = L.Conv1D(5, 3, name="first")(x)
    z = L.Conv1D(6, 3, name="second")(y)
    full = keras.Model(x, L.Flatten(name="end")(z))
    head = keras.Model(full.inputs, full.get_layer("second").output)
    assert names(head) == ["first", "second"]


def test_several_inputs_in_their_order():
    a, b = L.Input((9, 4), name="a"), L.Input((9, 4), name="b")
    graph = read_model(keras.Model([b, a], L.Subtract()([a, b])))
    assert [graph.tensors[t].name for t in graph.inputs] == ["b", "a"]
    (call,) = graph.calls
    assert call.inputs == (graph.inputs[1], graph.inputs[0])


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
def test_dict_structures():
    a, b = L.Input((9, 4), name="tensor_a"), L.Input((9, 4), name="tensor_b")
    outputs = {"sum": L.Add(name="add")([a, b]), "difference": L.Subtract(name="sub")([a, b])}
    model = keras.Model({"second": a, "first": b}, outputs)
    graph = read_model(model)
    by_key = dict(zip(graph.input_keys, graph.inputs, strict=True))
    assert graph.tensors[by_key["second"]].name == "tensor_a"
    assert graph.tensors[by_key["first"]].name == "tensor_b"
    arrays = arrays_for(model)
    restored = graph.restore_outputs(run(graph, arrays))
    given = dict(zip(graph.input_keys, arrays, strict=True))
    assert set(restored) == {"sum", "difference"}
    np.testing.assert_allclose(restored["difference"], given["second"] - given["first"], rtol=1e-5)
    np.testing.assert_allclose(restored["sum"], given["second"] + given["first"], rtol=1e-5)


@pytest.mark.parametrize("container", [list, tuple])
def test_outputs_come_as_a_list(container):
    x = L.Input((9, 4))
    graph = read_model(keras.Model(x, container([L.ReLU()(x), L.Flatten()(x)])))
    assert graph.restore_outputs([1, 2]) == [1, 2]
    alone = read_model(keras.Model(x, container([L.ReLU()(x)])))
    assert alone.restore_outputs([1]) == 1


def test_an_input_that_is_an_output():
    x = L.Input((9, 4), name="dna")
    graph = read_model(keras.Model(x, [x, L.ReLU(name="relu")(x)]))
    assert graph.outputs[0] == graph.inputs[0]
    assert graph.output_names == ("dna", "relu")


def test_operations_are_calls():
    x = L.Input((9, 4))
    graph = read_model(keras.Model(x, ops.maximum(ops.exp(x) * 2.0, 1.0 - x)))
    assert [c.kind for c in graph.calls] == ["Exp", "Multiply", "Subtract", "Maximum"]
    check_order(graph)


# ------------------------------------------------------------------------------------------ refused


def test_an_unbuilt_sequential_is_refused():
    model = keras.Sequential([L.Conv1D(2, 3)], name="bare")
    with pytest.raises(ModelError, match=r"'bare' is a Sequential that is not built.*Add keras\.Input"):
        read_model(model)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.conv = L.Conv1D(2, 3)

    def call(self, x):
        return self.conv(x)


class Overridden(keras.Model):
    def call(self, *args, **kwargs):
        return super().call(*args, **kwargs)


class OverriddenSequential(keras.Sequential):
    def call(self, *args, **kwargs):
        return super().call(*args, **kwargs)


def test_a_subclassed_model_is_refused_with_a_remedy_that_works():
    model = Subclassed()
    with pytest.raises(ModelError, match=r"'own' is of class Subclassed, which defines its own call\(\).*keras\.Input"):
        read_model(model)
    x = keras.Input((9, 4))
    assert [c.kind for c in read_model(keras.Model(x, model.call(x))).calls] == ["Conv1D"]


def test_a_functional_model_that_overrides_call_is_refused():
    x = L.Input((9, 4))
    with pytest.raises(ModelError, match="class Overridden, which defines its own call"):
        read_model(Overridden(x, L.ReLU()(x)))
    with pytest.raises(ModelError, match="class OverriddenSequential, which defines its own call"):
        read_model(OverriddenSequential([L.Input((9, 4)), L.ReLU()]))


def test_a_subclassed_model_inside_is_one_call():
    x = L.Input((9, 4))
    assert [c.kind for c in read_model(keras.Model(x, Subclassed()(x))).calls] == ["Subclassed"]


@pytest.mark.parametrize("layer", [L.Dropout(0.5, name="noisy"), L.BatchNormalization(name="noisy")])
def test_training_recorded_in_a_call_is_refused(layer):
    x = L.Input((9, 4))
    with pytest.raises(ModelError, match="Layer 'noisy' was called with training=True.*build the model without"):
        read_model(keras.Model(x, layer(x, training=True)))
    assert len(read_model(keras.Model(x, layer(x, training=False))).calls) == 1


def test_training_recorded_in_a_nested_call_is_refused():
    inner = keras.Sequential([L.Input((9, 4)), L.Dropout(0.5, name="noisy")], name="inner")
    x = L.Input((9, 4))
    with pytest.raises(ModelError, match="'inner' was called with training=True"):
        read_model(keras.Model(x, inner(x, training=True)))
    inside = L.Input((9, 4))
    inner = keras.Model(inside, L.Dropout(0.5, name="noisy")(inside, training=True), name="inner")
    with pytest.raises(ModelError, match="'inner/noisy' was called with training=True"):
        read_model(keras.Model(x, inner(x)))


def test_models_of_keras_2_are_refused_with_a_remedy():
    old = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    with pytest.raises(
        ModelError, match=r"Functional of Keras 2 \(tf_keras.*a Keras 3 model is needed\. FastISM takes it"
    ):
        read_model(old())


@pytest.mark.parametrize(
    "thing", [None, 3, "model.keras", np.zeros(3), lambda x: x, L.Dense(1)], ids=lambda thing: type(thing).__name__
)
def test_things_that_are_no_model_are_refused(thing):
    with pytest.raises(ModelError, match=f"The model is a {type(thing).__name__}; a keras.Model made of inputs"):
        FastISM(thing)


# ------------------------------------------------------------------------------------------ no trace left


@pytest.mark.parametrize(
    "name", ["three_pools", "nested_and_called_twice", "second_input_mutated", "recurrent_tail", "dropouts"]
)
def test_the_model_is_unchanged_after_use(name):
    model = randomize(DESIGNS[name].build())
    arrays = arrays_for(model)

    def state():
        layers = list(model._flatten_layers())
        nodes = [(layer.name, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
        return nodes, json.dumps(model.get_config(), default=str)

    before, weights, answers = state(), [w.copy() for w in model.get_weights()], predict(model, arrays)
    index = DESIGNS[name].index
    ism = FastISM(model, index, jit=JIT)
    given = arrays if len(arrays) > 1 else arrays[0]
    ism(given)
    ism.saturate(given, 0, 2)
    ism.explain()
    assert ism.model is model
    assert state() == before
    for was, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    for was, now in zip(answers, predict(model, arrays), strict=True):
        np.testing.assert_array_equal(was, now)
    assert len(tree.flatten(model.outputs)) == len(answers)


def test_reading_a_model_runs_only_what_may_move_the_batch(monkeypatch):
    """Large models would take long, and much memory, to be traced as a whole."""
    x = keras.Input((12, 4))
    y = L.Conv1D(5, 3)(x)
    y = L.Lambda(lambda t: t * 2, name="unknown")(y)
    model = keras.Model(x, L.Dense(2)(L.Flatten()(y)))
    ran, evaluate = [], Call.evaluate

    def noted(call, values):
        ran.append(call.name)
        return evaluate(call, values)

    monkeypatch.setattr(Call, "evaluate", noted)
    read_model(model)
    assert set(ran) == {"unknown"}


def test_no_loss_is_left_in_the_model():
    x = L.Input((12, 4))
    model = keras.Model(x, L.LSTM(2, activity_regularizer="l2")(x))
    before = len(model.losses)
    FastISM(model, test_correctness=False)(np.eye(4)[np.zeros((2, 12), int)])
    assert len(model.losses) == before == 0
