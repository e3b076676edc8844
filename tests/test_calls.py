"""A call run without what Keras does around it gives what Keras gives, and what Keras has to do there is left to it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from fastism import FastISM, NaiveISM, backend, calls
from fastism.calls import Call, Ref
from fastism.graph import read_model
from fastism.testing import randomize

FLOAT = keras.config.floatx()
#: Of each class at least one, with the number of its inputs.
BARE = {
    "conv": (lambda: L.Conv1D(5, 3, activation="relu"), 1),
    "conv_same_dilated": (lambda: L.Conv1D(5, 3, padding="same", dilation_rate=2), 1),
    "conv_2d": (lambda: keras.Sequential([L.Reshape((12, 1, 6)), L.Conv2D(4, (3, 1))]), 1),
    "depthwise": (lambda: L.DepthwiseConv1D(3), 1),
    "separable": (lambda: L.SeparableConv1D(5, 3), 1),
    "dense": (lambda: L.Dense(5, activation="gelu"), 1),
    "batch_normalization": (lambda: L.BatchNormalization(), 1),
    "layer_normalization": (lambda: L.LayerNormalization(), 1),
    "dropout": (lambda: L.Dropout(0.5), 1),
    "spatial_dropout": (lambda: L.SpatialDropout1D(0.5), 1),
    "activation": (lambda: L.Activation("softmax"), 1),
    "relu": (lambda: L.ReLU(max_value=1.0), 1),
    "leaky_relu": (lambda: L.LeakyReLU(0.2), 1),
    "prelu": (lambda: L.PReLU(), 1),
    "elu": (lambda: L.ELU(), 1),
    "max_pool": (lambda: L.MaxPooling1D(3, padding="same"), 1),
    "average_pool": (lambda: L.AveragePooling1D(2), 1),
    "global_max": (lambda: L.GlobalMaxPooling1D(keepdims=True), 1),
    "global_average": (lambda: L.GlobalAveragePooling1D(), 1),
    "upsampling": (lambda: L.UpSampling1D(2), 1),
    "flatten": (lambda: L.Flatten(), 1),
    "reshape": (lambda: L.Reshape((6, 12)), 1),
    "permute": (lambda: L.Permute((2, 1)), 1),
    "cropping": (lambda: L.Cropping1D((1, 2)), 1),
    "zero_padding": (lambda: L.ZeroPadding1D(2), 1),
    "add": (lambda: L.Add(), 3),
    "subtract": (lambda: L.Subtract(), 2),
    "multiply": (lambda: L.Multiply(), 2),
    "average": (lambda: L.Average(), 3),
    "maximum": (lambda: L.Maximum(), 2),
    "concatenate": (lambda: L.Concatenate(), 3),
}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(FLOAT)


def model_of(layer, inputs=1):
    given = [keras.Input((12, 6)) for _ in range(inputs)]
    return randomize(keras.Model(given, layer(given if inputs > 1 else given[0])))


@pytest.fixture
def around(monkeypatch):
    """The layers that Keras was asked to call."""
    asked = []
    real = keras.Layer.__call__
    monkeypatch.setattr(keras.Layer, "__call__", lambda self, *a, **k: asked.append(self) or real(self, *a, **k))
    return asked


@pytest.mark.parametrize("name", BARE)
def test_a_bare_call_gives_what_keras_gives(name, around):
    make, count = BARE[name]
    model = model_of(make(), count)
    arrays = [numbers(3, 12, 6, seed=i) for i in range(count)]
    want = model.predict(arrays if count > 1 else arrays[0], verbose=0)
    around.clear()
    graph = read_model(model)
    values = dict(zip(graph.inputs, map(keras.ops.convert_to_tensor, arrays), strict=True))
    for call in graph.calls:
        values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
    assert not around
    np.testing.assert_allclose(backend.to_numpy(values[graph.outputs[0]]), want, rtol=1e-5, atol=1e-6)


def evaluated(layer, x, **kwargs):
    call = Call(0, layer.name, layer, (Ref(0),), kwargs, (0,), (1,))
    return call.evaluate([x])[0]


class Doubled(L.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def own_call():
    layer = L.Dense(5)
    layer.build((None, 12, 6))
    layer.call = lambda inputs, training=None: inputs + 1
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: Doubled(5),
        own_call,
        lambda: L.Dense(5, activity_regularizer="l2"),
        lambda: L.Dense(5, dtype="mixed_float16"),
        lambda: L.Dense(5, dtype="float16"),
        lambda: L.Lambda(lambda x: x + 1),
        lambda: L.Masking(),
    ],
)
def test_what_keras_has_to_do_is_left_to_it(make, around):
    layer = make()
    x = keras.ops.convert_to_tensor(numbers(3, 12, 6))
    want = backend.to_numpy(layer(x)).astype("float64")
    around.clear()
    got = backend.to_numpy(evaluated(layer, x)).astype("float64")
    assert layer in around
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert not layer._losses or layer.activity_regularizer is not None


def test_a_mask_is_seen(around):
    layer, x = L.GlobalAveragePooling1D(), keras.ops.convert_to_tensor(numbers(2, 12, 6))
    plain = backend.to_numpy(evaluated(layer, x))
    assert not around
    mask = np.arange(12) < np.array([[4], [9]])
    calls.set_keras_mask(x, keras.ops.convert_to_tensor(mask))
    got = backend.to_numpy(evaluated(layer, x))
    assert layer in around
    want = (numbers(2, 12, 6) * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert np.abs(plain - want).max() > 1e-3


def test_an_autocast_scope_is_kept_to(around):
    layer, x = L.Dense(5), keras.ops.convert_to_tensor(numbers(2, 12, 6))
    layer.build((None, 12, 6))
    with keras.src.backend.common.variables.AutocastScope("float16"):
        evaluated(layer, x)
    assert layer in around


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch's own")
@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hook_of_torch_is_called(hook):
    layer, x, called = L.Dense(5), keras.ops.convert_to_tensor(numbers(2, 12, 6)), []
    layer.build((None, 12, 6))
    getattr(layer, hook)(lambda *_: called.append(1))
    evaluated(layer, x)
    assert called


def test_quantised_weights_are_used(around):
    layer, x = L.Dense(5), keras.ops.convert_to_tensor(numbers(2, 12, 6))
    layer.build((None, 12, 6))
    layer.quantize("int8")
    want = backend.to_numpy(layer(x))
    around.clear()
    np.testing.assert_array_equal(backend.to_numpy(evaluated(layer, x)), want)
    assert layer in around


def test_training_is_never_on():
    """Recorded or not, and a mask of None among the arguments."""
    layer, x = L.BatchNormalization(), keras.ops.convert_to_tensor(numbers(2, 12, 6))
    layer.build((None, 12, 6))
    before = [v.numpy().copy() if hasattr(v, "numpy") else np.array(v) for v in layer.get_weights()]
    outputs = [evaluated(layer, x, **kwargs) for kwargs in ({}, {"mask": None}, {"training": False})]
    for y in outputs:
        np.testing.assert_allclose(backend.to_numpy(y), numbers(2, 12, 6) / np.sqrt(1.001), rtol=1e-5)
    for now, was in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


def test_keras_calls_no_layer_in_a_plain_model(around):
    """Neither for references nor for what is computed whole."""
    x = keras.Input((40, 4))
    y = L.MaxPooling1D(2)(L.BatchNormalization()(L.Conv1D(6, 5, activation="relu")(x)))
    y = L.Dropout(0.2)(L.Dense(8, activation="relu")(L.Flatten()(y)))
    model = randomize(keras.Model(x, L.Dense(1)(L.BatchNormalization()(y))))
    ism = FastISM(model, test_correctness=False)
    around.clear()
    ism.saturate(np.eye(4, dtype=FLOAT)[np.random.default_rng(0).integers(0, 4, (1, 40))])
    assert not around


class Doubling(keras.DTypePolicy):
    """Casts, and doubles what it casts."""

    def convert_input(self, x, autocast, dtype):
        x = super().convert_input(x, autocast, dtype)
        return 2 * x if keras.ops.is_tensor(x) else x


def replaced_forward(layer):
    before = layer.forward
    layer.forward = lambda *args, **kwargs: 2 * before(*args, **kwargs)


def own_policy(layer):
    layer.dtype_policy = Doubling(FLOAT)


def unused_bias(layer):
    layer.use_bias = False  # Keras's Dense asks for the bias itself


ALTERED = {
    "forward": replaced_forward,
    "hook": lambda layer: layer.register_forward_hook(lambda _, inputs, y: 1.5 * y),
    "pre_hook": lambda layer: layer.register_forward_pre_hook(lambda _, inputs: tuple(1.5 * x for x in inputs)),
    "own_policy": own_policy,
    "unused_bias": unused_bias,
}


@pytest.mark.parametrize("where", ["conv", "norm", "first", "norm2", "last"])
@pytest.mark.parametrize("how", ALTERED)
def test_a_layer_that_was_altered_computes_what_it_now_does(how, where):
    if how in ("forward", "hook", "pre_hook") and keras.backend.backend() != "torch":
        pytest.skip("torch's own")
    x = keras.Input((30, 4))
    y = L.BatchNormalization(name="norm")(L.Conv1D(8, 5, padding="same", activation="relu", name="conv")(x))
    y = L.Dense(8, activation="relu", name="first")(L.Flatten()(L.MaxPooling1D(2)(y)))
    model = randomize(keras.Model(x, L.Dense(2, name="last")(L.BatchNormalization(name="norm2")(y))))
    sequences = np.eye(4, dtype=FLOAT)[np.random.default_rng(0).integers(0, 4, (1, 30))]
    ism = FastISM(model, test_correctness=False)
    before = ism.saturate(sequences).mutant
    layer = model.get_layer(where)
    if how == "unused_bias" and not isinstance(layer, L.Dense):
        pytest.skip("of Dense")
    ALTERED[how](layer)
    model.make_predict_function(force=True)  # Keras itself would go on as before
    want = NaiveISM(model).saturate(sequences).mutant
    for fast in (ism, FastISM(model, test_correctness=False)):
        error = np.abs(fast.saturate(sequences).mutant - want).max()
        assert error <= 1e-4 * np.abs(want - want.mean((1, 2), keepdims=True)).max()
    assert (np.abs(want - before).max() > 1e-3) == (how != "unused_bias")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch's own")
def test_hooks_of_all_modules():
    from torch.nn.modules import module

    x = keras.Input((30, 4))
    y = L.Dense(8, activation="relu")(L.Flatten()(L.Conv1D(8, 5, activation="relu")(x)))
    model = randomize(keras.Model(x, L.Dense(2, name="last")(y)))
    sequences = np.eye(4, dtype=FLOAT)[np.random.default_rng(0).integers(0, 4, (1, 30))]
    ism = FastISM(model, test_correctness=False)
    before = ism.saturate(sequences).mutant
    hook = module.register_module_forward_hook(lambda layer, _, y: 1.5 * y if isinstance(layer, L.Dense) else y)
    try:
        want = NaiveISM(model).saturate(sequences).mutant
        np.testing.assert_allclose(ism.saturate(sequences).mutant, want, rtol=1e-4, atol=1e-5)
        assert {row.state for row in ism.explain().rows if "dense" in row.kind.lower()} == {"dense"}
    finally:
        hook.remove()
    assert np.abs(want - before).max() > 1e-3
    np.testing.assert_allclose(ism.saturate(sequences).mutant, before, rtol=1e-4, atol=1e-5)


def test_a_bias_that_was_taken_away():
    x = keras.Input((30, 4))
    model = randomize(keras.Model(x, L.Dense(2, name="last")(L.Flatten()(L.Conv1D(8, 5, activation="relu")(x)))))
    sequences = np.eye(4, dtype=FLOAT)[np.random.default_rng(0).integers(0, 4, (1, 30))]
    ism = FastISM(model, test_correctness=False)
    before = ism.saturate(sequences)
    model.get_layer("last").bias = None
    model.make_predict_function(force=True)
    after = ism.saturate(sequences)
    assert np.abs(after.reference - before.reference).max() > 1e-3
    np.testing.assert_allclose(after.mutant, NaiveISM(model).saturate(sequences).mutant, rtol=1e-4, atol=1e-5)


def test_the_self_check_leaves_no_losses():
    x = keras.Input((30, 4))
    y = L.Conv1D(8, 5, activation="relu", activity_regularizer="l2")(x)
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
    before = len(model.losses)
    FastISM(model)
    assert len(model.losses) == before
