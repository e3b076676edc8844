"""Keras 2 (``tf_keras``) models: the converted model is the model, and mutating it is mutating the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("Keras 2 runs on TensorFlow only", allow_module_level=True)
pytest.importorskip("tf_keras")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tf_keras as k2

from fastism import keras2
from fastism.errors import ModelError
from fastism.ism import FastISM
from fastism.naive import NaiveISM
from fastism.scorer import Scorer, central
from fastism.variant_scorer import VariantScorer

L = k2.layers
LENGTH = 20


@pytest.fixture(autouse=True)
def fresh():
    """No layer names left over from other tests."""
    k2.backend.clear_session()


def randomize(model: Any, seed: int = 0) -> Any:
    """Draw every weight, biases and moving moments too."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape, name = tuple(weight.shape), weight.name
        if "variance" in name or "gamma" in name:
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) < 2 or "bias" in name:
            value = rng.normal(0.0, 0.3, shape)
        else:
            value = rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[:-1])), shape)
        weight.assign(value)
    return model


def sample(model: Any, n: int = 5, seed: int = 1) -> list[np.ndarray]:
    """Inputs of a model in the order of ``model.inputs``: one-hot, normal, or small numbers."""
    rng = np.random.default_rng(seed)
    arrays = []
    for kt in model.inputs:
        shape = (n, *kt.shape[1:])
        if "int" in kt.dtype.name:
            arrays.append(rng.integers(0, 3, shape).astype(kt.dtype.name))
        elif len(shape) == 3:
            arrays.append(np.eye(shape[2], dtype=kt.dtype.name)[rng.integers(0, shape[2], shape[:2])])
        else:
            arrays.append(rng.normal(size=shape).astype(kt.dtype.name))
    return arrays


def structured(model: Any, arrays: list[np.ndarray]) -> Any:
    """Arrays in the structure in which the model takes them."""
    if isinstance(model.input, dict):
        order = {id(kt): a for kt, a in zip(model.inputs, arrays, strict=True)}
        return {key: order[id(kt)] for key, kt in model.input.items()}
    return arrays if len(arrays) > 1 else arrays[0]


def flat(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(o) for o in keras.tree.flatten(outputs)]


def assert_same(found: Any, wanted: Any, rtol: float = 1e-5) -> None:
    found, wanted = flat(found), flat(wanted)
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype
        np.testing.assert_allclose(f, w, rtol=0, atol=rtol * np.abs(w).max())


def assert_converted(model: Any, as_it_is: set[str] | None = None, rtol: float = 1e-5) -> keras2.Converted:
    """Convert a model and compare, also after its weights have changed."""
    randomize(model, 0)
    converted = keras2.convert(model)
    assert set(converted.unconverted) == (as_it_is or set()), converted.unconverted
    given = structured(model, sample(model))
    assert_same(converted.model(given, training=False), model(given, training=False), rtol)
    before = flat(model(given, training=False))
    randomize(model, 1)
    assert converted.sync()
    assert_same(converted.model(given, training=False), model(given, training=False), rtol)
    if model.weights:
        after = flat(model(given, training=False))
        assert any(not np.allclose(a, b) for a, b in zip(before, after, strict=True)), "no weight matters"
    return converted


def assert_saturates(model: Any, converted: keras2.Converted, rtol: float = 1e-3, **kwargs: Any) -> FastISM:
    """Compare saturation mutagenesis with predicting every mutant by the Keras 2 model."""
    arrays = sample(model, n=2, seed=2)
    fast = FastISM(converted.model, test_correctness=False, jit=False, **kwargs)
    given = dict(zip(fast._graph.input_keys, arrays, strict=True)) if fast._graph.input_keys else arrays
    result = fast.saturate(given if len(arrays) > 1 else arrays[0], 3, LENGTH - 5)
    n, length, letters = arrays[0].shape
    mutants = np.repeat(arrays[0][:, None, None], LENGTH - 8, axis=1).repeat(letters, axis=2)
    for p in range(3, LENGTH - 5):
        mutants[:, p - 3, :, p] = np.eye(letters)
    rows = [mutants.reshape(-1, length, letters)]
    rows += [np.repeat(a, (LENGTH - 8) * letters, axis=0) for a in arrays[1:]]
    wanted = flat(model(structured(model, rows), training=False))
    reference = flat(model(structured(model, arrays), training=False))
    for got, want, ref in zip(flat(result.mutant), wanted, reference, strict=True):
        want = want.reshape(n, LENGTH - 8, letters, *ref.shape[1:])
        effect = np.abs(want - ref[:, None, None]).max()
        assert np.abs(got - want).max() <= rtol * effect + 1e-6
    return fast


def chain(*layers: Any) -> Any:
    """A model of layers one after the other, after a convolution."""
    x = k2.Input((LENGTH, 4), name="dna")
    y = L.Conv1D(6, 3, padding="same", name="first")(x)
    for layer in layers:
        y = layer(y)
    return k2.Model(x, y)


# ---------------------------------------------------------------------- single layers

#: Layers (or lists of them) that have a counterpart.
LAYERS: dict[str, Callable[[], Any]] = {
    "conv_same": lambda: L.Conv1D(5, 4, padding="same", dilation_rate=2, activation="relu"),
    "conv_valid_strided": lambda: L.Conv1D(5, 4, strides=2, use_bias=False, activation="swish"),
    "conv_causal": lambda: L.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="gelu"),
    "conv_groups": lambda: L.Conv1D(6, 3, groups=3, activation="tanh"),
    "conv_transpose": lambda: L.Conv1DTranspose(5, 4, strides=2, padding="same"),
    "conv_transpose_output_padding": lambda: L.Conv1DTranspose(5, 3, strides=3, output_padding=1, activation="elu"),
    "conv_2d": lambda: [L.Reshape((LENGTH, 1, 6)), L.Conv2D(4, (3, 1), padding="same", activation="selu")],
    "conv_2d_transpose": lambda: [L.Reshape((-1, 1, 6)), L.Conv2DTranspose(2, (5, 1), padding="same"), L.Flatten()],
    "depthwise_2d": lambda: [L.Reshape((LENGTH, 1, 6)), L.DepthwiseConv2D((3, 1), depth_multiplier=2)],
    "separable_2d": lambda: [L.Reshape((LENGTH, 1, 6)), L.SeparableConv2D(4, (3, 1))],
    "separable_same": lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, padding="same", activation="softplus"),
    "separable_causal": lambda: L.SeparableConv1D(5, 3, dilation_rate=2, padding="causal", activation="relu"),
    "depthwise": lambda: L.DepthwiseConv1D(3, depth_multiplier=2, strides=2, padding="same"),
    "dense": lambda: L.Dense(5, activation="sigmoid"),
    "dense_softmax": lambda: L.Dense(5, activation="softmax"),
    "einsum_dense": lambda: L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="exponential"),
    "batch_norm": lambda: L.BatchNormalization(epsilon=0.01),
    "batch_norm_plain": lambda: L.BatchNormalization(scale=False, center=False),
    "batch_norm_positions": lambda: L.BatchNormalization(axis=1),
    "layer_norm": lambda: L.LayerNormalization(epsilon=0.01),
    "layer_norm_two_axes": lambda: L.LayerNormalization(axis=[1, 2], scale=False),
    "group_norm": lambda: L.GroupNormalization(3),
    "unit_norm": lambda: L.UnitNormalization(axis=1),
    "activation": lambda: L.Activation("mish"),
    "activation_hard_sigmoid": lambda: L.Activation("hard_sigmoid"),
    "conv_hard_sigmoid": lambda: L.Conv1D(5, 3, activation="hard_sigmoid"),
    "conv_layer_activation": lambda: L.Conv1D(5, 3, activation=L.LeakyReLU(0.1)),
    "conv_prelu_activation": lambda: L.Conv1D(5, 3, activation=L.PReLU(shared_axes=[1])),
    "conv_tf_activation": lambda: L.Conv1D(5, 3, activation=tf.nn.gelu),
    "dense_tf_exp": lambda: L.Dense(5, activation=tf.exp),
    "relu": lambda: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
    "leaky_relu": lambda: L.LeakyReLU(0.2),
    "prelu": lambda: L.PReLU(),
    "prelu_shared": lambda: L.PReLU(shared_axes=[1]),
    "elu": lambda: L.ELU(0.5),
    "thresholded_relu": lambda: L.ThresholdedReLU(0.3),
    "softmax": lambda: L.Softmax(),
    "softmax_positions": lambda: L.Softmax(axis=1),
    "dropouts": lambda: [L.Dropout(0.5), L.SpatialDropout1D(0.2), L.GaussianDropout(0.2), L.AlphaDropout(0.1)],
    "noise": lambda: [L.GaussianNoise(0.1), L.ActivityRegularization(0.1), L.Identity(), L.Rescaling(2.0, 1.0)],
    "max_pool": lambda: L.MaxPooling1D(3, 2, padding="same"),
    "average_pool": lambda: L.AveragePooling1D(3, 2, padding="same"),
    "max_pool_2d": lambda: [L.Reshape((LENGTH, 1, 6)), L.MaxPooling2D((3, 1)), L.AveragePooling2D((2, 1))],
    "global_average": lambda: L.GlobalAveragePooling1D(),
    "global_max": lambda: L.GlobalMaxPooling1D(keepdims=True),
    "cropping_padding_upsampling": lambda: [L.Cropping1D((2, 3)), L.ZeroPadding1D((1, 0)), L.UpSampling1D(2)],
    "flatten": lambda: [L.Flatten(), L.RepeatVector(3)],
    "reshape_permute": lambda: [L.Reshape((-1, 12)), L.Permute((2, 1))],
    "time_distributed_dense": lambda: L.TimeDistributed(L.Dense(5, activation="relu")),
    "time_distributed_norm": lambda: L.TimeDistributed(L.BatchNormalization()),
    "lstm": lambda: L.LSTM(5, return_sequences=True),
    "lstm_backwards_hard": lambda: L.LSTM(5, go_backwards=True, recurrent_activation="hard_sigmoid", use_bias=False),
    "gru": lambda: L.GRU(5, activation="relu"),
    "gru_reset_before": lambda: L.GRU(5, reset_after=False, go_backwards=True, return_sequences=True),
    "simple_rnn": lambda: L.SimpleRNN(5, unroll=True),
    "bidirectional": lambda: L.Bidirectional(L.LSTM(5, return_sequences=True)),
    "bidirectional_sum": lambda: L.Bidirectional(L.GRU(5, recurrent_activation="hard_sigmoid"), merge_mode="sum"),
    "bidirectional_two": lambda: L.Bidirectional(L.LSTM(5), backward_layer=L.GRU(5, go_backwards=True)),
    "lambda_slice": lambda: L.Lambda(lambda v: v[:, 2:-2, ::2]),
    "lambda_logsumexp": lambda: L.Lambda(lambda v: tf.reduce_logsumexp(v, axis=-1, keepdims=True)),
    "lambda_of_a_function": lambda: L.Lambda(tf.nn.softmax),
    "custom_activation_layer": lambda: L.Activation(lambda v: v * tf.nn.sigmoid(1.702 * v)),
    "normalization": lambda: L.Normalization(mean=0.2, variance=2.0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    made = LAYERS[name]()
    model = chain(*(made if isinstance(made, list) else [made]))
    converted = assert_converted(model)
    if "identity" not in name:
        assert {layer.name for layer in model.layers} <= {op.name for op in converted.model.operations}
    if model.output_shape[1] is not None:
        assert_saturates(model, converted)


#: Layers that stay as they are, with the names under which they are reported.
AS_THEY_ARE: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "locally_connected": (lambda: L.LocallyConnected1D(3, 3, name="stays"), {"stays"}),
    "rnn_of_a_cell": (lambda: L.RNN(L.LSTMCell(4), name="stays"), {"stays"}),
    "conv_custom_activation": (
        lambda: L.Conv1D(5, 3, activation=lambda v: tf.sin(v) + v, name="conv"),
        {"conv_activation"},
    ),
    "recurrent_custom_activation": (lambda: L.SimpleRNN(5, activation=tf.sin, name="stays"), {"stays"}),
    "time_distributed_of_a_model": (
        lambda: L.TimeDistributed(k2.Sequential([k2.Input((6,)), L.Dense(3)]), name="stays"),
        {"stays"},
    ),
    "batch_norm_two_axes": (lambda: L.BatchNormalization(axis=[1, 2], name="stays"), {"stays"}),
    "subclass": (lambda: ReversedConv(5, 3, name="stays"), {"stays"}),
    "own_weights": (lambda: Scale(name="stays"), {"stays"}),
    "python_on_tensors": (lambda: Clamped(name="stays"), {"stays"}),
    "mapped": (lambda: L.Lambda(lambda v: tf.map_fn(lambda row: row * 2.0, v), name="stays"), {"stays"}),
}


class ReversedConv(L.Conv1D):
    """A Conv1D by name of its parent only."""

    def call(self, inputs):
        return super().call(inputs[:, ::-1])


class Scale(L.Layer):
    """Weights of its own."""

    def build(self, input_shape):
        self.scale = self.add_weight("scale", shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * tf.exp(self.scale)


class Clamped(L.Layer):
    """Python control flow on a tensor, which only a graph of TensorFlow can follow."""

    def call(self, inputs):
        if tf.shape(inputs)[1] > 3:  # noqa: SIM108
            out = inputs * 2.0
        else:
            out = inputs
        return out


@pytest.mark.parametrize("name", AS_THEY_ARE)
@pytest.mark.filterwarnings("ignore:.*unsafe:UserWarning")
def test_layers_without_counterpart_stay(name):
    make, reported = AS_THEY_ARE[name]
    model = chain(make())
    converted = assert_converted(model, reported)
    assert_saturates(model, converted)


def test_what_stays_cannot_be_opened():
    converted = keras2.convert(chain(Clamped(name="stays")))
    with pytest.raises(TypeError, match="'stays' runs Keras 2 code"):
        converted.model.get_layer("stays").call([keras.Input((LENGTH, 6))])


def test_a_subclass_named_like_a_known_layer_is_not_taken_for_it():
    class Dense(L.Dense):
        def call(self, inputs):
            return -super().call(inputs)

    model = chain(Dense(3, name="impostor"))
    assert_converted(model, {"impostor"})


# ---------------------------------------------------------------------- TensorFlow functions

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "operators": lambda x: (1.0 - x) * 2.0 / (3.0 + x**2.0) + abs(-x),
    "array_operands": lambda x: x * np.linspace(0, 1, 4).astype("float32") + tf.constant([[1.0], [2.0]])[:1],
    "positional_array": lambda x: x + np.linspace(0, 1, LENGTH * 4, dtype="float32").reshape(LENGTH, 4),
    "gelu": lambda x: tf.nn.gelu(x) + tf.nn.gelu(x, approximate=True),
    "activations": lambda x: tf.nn.relu(x) + tf.sigmoid(x) + tf.nn.silu(x) + tf.tanh(x) + tf.nn.leaky_relu(x, 0.3),
    "more_activations": lambda x: tf.nn.elu(x) + tf.nn.selu(x) + tf.nn.softplus(x) + tf.nn.relu6(x * 9.0),
    "keras_activations": lambda x: sum(
        getattr(k2.activations, n)(x) for n in "gelu relu swish softmax hard_sigmoid softplus exponential mish".split()
    ),
    "softmax": lambda x: tf.nn.softmax(x) + tf.nn.log_softmax(x, axis=1),
    "unary": lambda x: tf.exp(x) + tf.math.log1p(tf.square(x)) + tf.sqrt(tf.abs(x) + 1.0) + tf.math.rsqrt(x**2 + 1.0),
    "more_unary": lambda x: tf.sin(x) + tf.cos(x) + tf.floor(x) + tf.round(x) + tf.sign(x) + tf.math.erf(x),
    "reductions": lambda x: tf.concat(
        [tf.reduce_mean(x, axis=1), tf.reduce_sum(x, 1), tf.reduce_max(x, axis=[1]), tf.math.reduce_std(x, axis=1)], -1
    ),
    "logsumexp": lambda x: tf.reduce_logsumexp(x, axis=-1, keepdims=True) + tf.reduce_min(x, -1, True),
    "backend": lambda x: k2.backend.mean(x, axis=1) + k2.backend.sum(k2.backend.square(x), axis=1),
    "reshape_transpose": lambda x: tf.transpose(tf.reshape(x, (-1, LENGTH // 2, 8)), (0, 2, 1)),
    "reshape_by_shape": lambda x: tf.reshape(x, [tf.shape(x)[0], 4, LENGTH]),
    "reshape_by_stack": lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], tf.shape(x)[1] * 4])),
    "concat_stack": lambda x: tf.concat([tf.stack([x, -x], axis=2)[:, :, 0], x], axis=1),
    "split": lambda x: (
        tf.split(x, 2, axis=-1)[1] * tf.split(x, [1, -1, 1], axis=2)[1] + tf.unstack(x, axis=2)[0][..., None]
    ),
    "expand_squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 2), 2) + tf.squeeze(x[:, :1], axis=[1])[:, None],
    "cast": lambda x: tf.cast(tf.cast(x, "float16"), tf.float32) + tf.cast(x > 0.5, x.dtype),
    "pad_repeat_reverse": lambda x: tf.reverse(tf.repeat(tf.pad(x, [[0, 0], [1, 2], [0, 0]]), 2, axis=1), [1]),
    "pad_symmetric": lambda x: tf.pad(x, [[0, 0], [2, 2], [0, 0]], "SYMMETRIC"),
    "tile_roll": lambda x: tf.roll(tf.tile(x, [1, 2, 1]), 3, axis=1),
    "slices": lambda x: x[:, 3:-2] * x[:, 5:, ::2][:, :, :1] + x[..., 1][:, 3:-2, None] + x[:, None, 4],
    "gather": lambda x: tf.gather(tf.gather(x, [2, 0, 5], axis=1), [3, 1], axis=-1),
    "matmul": lambda x: tf.matmul(x @ tf.eye(4), x, transpose_b=True),
    "einsum": lambda x: tf.einsum("blc,cd->bld", x, tf.ones((4, 2))) + tf.tensordot(x, tf.ones((4, 2)), axes=1),
    "clip_where": lambda x: tf.where((x > 0.2) & (x < 0.8), tf.clip_by_value(x, 0.3, 0.5), tf.maximum(x, 0.1)),
    "others": lambda x: tf.math.l2_normalize(x, -1) + tf.math.squared_difference(x, 1.0) + tf.add_n([x, x]) % 1.0,
    "cumsum": lambda x: tf.cumsum(tf.identity(x), axis=1) + tf.stop_gradient(x) + tf.zeros_like(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    x = k2.Input((LENGTH, 4), name="dna")
    y = FUNCTIONS[name](L.Conv1D(4, 3, padding="same")(x))
    model = k2.Model(x, y)
    converted = assert_converted(model)
    assert_saturates(model, converted)


FUNCTIONS_AS_THEY_ARE: dict[str, Callable[[Any], Any]] = {
    "argmax": lambda x: tf.one_hot(tf.argmax(x, -1), 4),
    "pool": lambda x: tf.nn.max_pool1d(x, 2, 2, "VALID"),
    "conv": lambda x: tf.nn.conv1d(x, tf.ones((3, 4, 2)), 1, "SAME"),
    "broadcast_to_shape": lambda x: tf.broadcast_to(x[:, :1], tf.shape(x)) + x,
    "rows_folded_away": lambda x: tf.reshape(tf.nn.relu(tf.reshape(x, (-1, 4))), (-1, LENGTH, 4)),
    "exclusive": lambda x: tf.cumsum(x, axis=1, exclusive=True),
}


@pytest.mark.parametrize("name", FUNCTIONS_AS_THEY_ARE)
def test_functions_without_counterpart_stay(name):
    x = k2.Input((LENGTH, 4), name="dna")
    model = randomize(k2.Model(x, FUNCTIONS_AS_THEY_ARE[name](L.Conv1D(4, 3, padding="same")(x))))
    converted = keras2.convert(model)
    assert converted.unconverted
    given = sample(model)[0]
    assert_same(converted.model(given), model(given))
    assert_saturates(model, converted)


def test_a_variable_among_the_arguments_is_followed():
    factor = tf.Variable(2.0)
    x = k2.Input((LENGTH, 4))
    model = k2.Model(x, L.Lambda(lambda v: v * factor, name="scaled")(L.Conv1D(4, 3)(x)))
    converted = keras2.convert(randomize(model))
    assert set(converted.unconverted) == {"scaled"}
    factor.assign(-3.0)
    given = sample(model)[0]
    assert_same(converted.model(given), model(given))


# ---------------------------------------------------------------------- graphs


def residual() -> Any:
    x = k2.Input((LENGTH, 4))
    y = L.Conv1D(5, 5, padding="same", activation="relu")(x)
    for i in range(3):
        z = L.Conv1D(5, 3, dilation_rate=2**i, activation="relu")(y)
        y = L.Add()([z, L.Cropping1D(2**i)(y)])
    counts = L.Dense(1, name="counts")(L.GlobalAveragePooling1D()(y))
    return k2.Model(x, [L.Flatten(name="profile")(L.Conv1D(1, 3)(y)), counts])


def shared_layer() -> Any:
    x = k2.Input((LENGTH, 4))
    shared = L.Conv1D(4, 3, padding="same", activation="tanh", name="shared")
    y = L.Subtract()([shared(shared(x)), shared(x[:, ::-1])])
    k2.Model(x, L.Dense(7)(shared(y)))  # a call in another model
    return k2.Model(x, y)


def nested() -> Any:
    inside = k2.Input((None, 4))
    conv = L.Conv1D(4, 3, padding="same", activation="relu", name="conv")(inside)
    inner = k2.Model(inside, [conv, L.GlobalAveragePooling1D()(conv)], name="inner")
    x = k2.Input((LENGTH, 4))
    profile, total = inner(x)
    profile, _ = inner(L.MaxPooling1D(2)(profile))
    head = k2.Sequential([L.Conv1D(2, 3), L.ReLU(), L.Flatten()], name="head")
    return k2.Model(x, L.Concatenate()([head(profile), total]))


def nested_dict() -> Any:
    a, b = k2.Input((LENGTH, 4), name="a"), k2.Input((3,), name="b")
    pooled = L.GlobalMaxPooling1D()(L.Conv1D(4, 3)(a))
    inner = k2.Model({"b": b, "a": a}, {"sum": L.Concatenate()([pooled, b]), "pooled": pooled}, name="inner")
    x, y = k2.Input((LENGTH, 4), name="x"), k2.Input((3,), name="y")
    out = inner({"a": x, "b": y})
    return k2.Model([x, y], [out["sum"], out["pooled"]])


def sequential() -> Any:
    return k2.Sequential(
        [k2.Input((LENGTH, 4)), L.Conv1D(6, 4), L.BatchNormalization(), L.MaxPooling1D(3), L.Flatten(), L.Dense(2)]
    )


def several_inputs() -> Any:
    x, control, counts = k2.Input((LENGTH, 4)), k2.Input((LENGTH - 2, 2)), k2.Input((1,))
    y = L.Concatenate()([L.Conv1D(3, 3)(x), control])
    return k2.Model([x, control, counts], [L.Conv1D(1, 1)(y), L.Concatenate()([L.GlobalAveragePooling1D()(y), counts])])


def dictionaries() -> Any:
    x, ctl = k2.Input((LENGTH, 4), name="dna"), k2.Input((3,), name="ctl")
    pooled = L.GlobalAveragePooling1D()(L.Conv1D(3, 4)(x))
    return k2.Model({"a_dna": x, "z_ctl": ctl}, {"b": L.Dense(2)(L.Concatenate()([pooled, ctl])), "a": pooled})


def embedding() -> Any:
    x, species = k2.Input((LENGTH, 4)), k2.Input((2,), dtype="int32")
    y = L.Flatten()(L.Embedding(3, 2)(species))
    return k2.Model([x, species], L.Dense(3)(L.Concatenate()([L.GlobalMaxPooling1D()(L.Conv1D(4, 3)(x)), y])))


def merges() -> Any:
    x = k2.Input((LENGTH, 4))
    a, b, c = (L.Conv1D(5, 3, padding="same")(x) for _ in range(3))
    gate = L.Dense(5, activation="sigmoid")(L.GlobalAveragePooling1D()(a))
    y = L.Add()([L.Average()([a, b, c]), L.Maximum()([a, b]), L.Minimum()([b, c])])
    return k2.Model(x, L.Dot(axes=2, normalize=True)([L.Multiply()([y, gate]), c]))


def attention() -> Any:
    x = k2.Input((LENGTH, 4))
    y = L.MultiHeadAttention(2, 3, value_dim=2, output_shape=5)(x, L.AveragePooling1D()(x))
    y = L.MultiHeadAttention(2, 3)(query=y, value=y, use_causal_mask=True)
    return k2.Model(x, L.Add()([L.Attention(use_scale=True)([y, y]), L.AdditiveAttention()([y, y])]))


def states() -> Any:
    x = k2.Input((LENGTH, 4))
    y, h, c = L.LSTM(4, return_state=True, return_sequences=True)(x)
    return k2.Model(x, [L.LSTM(4)(y, initial_state=[h, c]), L.Bidirectional(L.GRU(4))(x, initial_state=[h, c])])


def masked() -> Any:
    x, tokens = k2.Input((LENGTH, 4)), k2.Input((6,), dtype="int32")
    y = L.TimeDistributed(L.Dense(4))(L.Masking()(x))
    z = L.GlobalAveragePooling1D()(L.Embedding(3, 4, mask_zero=True)(tokens))
    return k2.Model([x, tokens], [L.LSTM(4)(y), L.Bidirectional(L.LSTM(3, return_sequences=True))(y), z])


def names_with_slashes() -> Any:
    x = k2.Input((LENGTH, 4), name="dna")
    return k2.Model(x, L.Add(name="add")([L.Dense(4, name="block/a")(x), L.Dense(4, name="block_a")(x)]))


def names_of_operations() -> Any:
    x = k2.Input((LENGTH, 4), name="subtract")
    y = L.Conv1D(4, 3, name="add")(x) + 1.0
    return k2.Model(x, L.Dense(4, name="multiply")(y * 2.0 - y))


def output_is_an_input() -> Any:
    x = k2.Input((LENGTH, 4))
    y = L.Conv1D(4, 3)(x)
    return k2.Model(x, [y, L.Flatten()(y), y, L.Dropout(0.1)(x)])


class OnlyTrainsOtherwise(k2.Model):
    """Made of inputs and outputs all the same."""

    def train_step(self, data):
        return {}


def functional_subclass() -> Any:
    x = k2.Input((LENGTH, 4))
    return OnlyTrainsOtherwise(inputs=x, outputs=L.Dense(2)(x))


def headless() -> Any:
    whole = sequential()
    return k2.Model(whole.input, whole.layers[-3].output)


GRAPHS = [
    residual,
    shared_layer,
    nested,
    nested_dict,
    sequential,
    several_inputs,
    dictionaries,
    embedding,
    merges,
    attention,
    states,
    masked,
    names_with_slashes,
    names_of_operations,
    output_is_an_input,
    functional_subclass,
    headless,
]


@pytest.mark.parametrize("build", GRAPHS, ids=lambda b: b.__name__)
def test_graphs(build):
    model = build()
    converted = assert_converted(model)
    assert converted.model.name == model.name
    if not isinstance(model.input, dict):
        assert [kt.name for kt in converted.model.inputs] == [kt.name for kt in model.inputs]
    assert [tuple(kt.shape) for kt in converted.model.outputs] == [tuple(kt.shape) for kt in model.outputs]
    assert_saturates(model, converted)


def test_structure_is_kept():
    model = keras2.convert(dictionaries()).model
    assert sorted(model.input) == ["a_dna", "z_ctl"]
    assert sorted(model.output) == ["a", "b"]


def test_windows_stay_windows():
    """What is converted is not only right but fast: no call is without a rule."""
    x = k2.Input((LENGTH, 4))
    y = L.Conv1D(5, 3, padding="same", activation=L.LeakyReLU(0.1))(x)
    y = L.TimeDistributed(L.Dense(5))(tf.nn.gelu(L.BatchNormalization()(y)))
    y = L.Conv1D(5, 3, padding="causal", activation="hard_sigmoid")(y * 2.0 + 1.0)
    y = L.Lambda(lambda v: tf.nn.relu(v) - v)(StochasticReverse()(y)[0])
    converted = keras2.convert(randomize(k2.Model(x, L.MaxPooling1D(2)(y))))
    assert not converted.unconverted
    FastISM(converted.model, strict=True, jit=False)


# ---------------------------------------------------------------------- opening layers


class StochasticReverse(L.Layer):
    """Gives, besides the sequences, one flag for all of them."""

    def call(self, inputs, training=None):
        if training:
            return inputs[:, ::-1], tf.constant(True)
        return inputs, tf.constant(False)


class SwitchReverse(L.Layer):
    """Takes such a flag."""

    def call(self, inputs):
        y, reverse = inputs
        return k2.backend.switch(reverse, tf.reverse(y, [1]), y)


class Block(L.Layer):
    """Layers inside a layer."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.norm, self.drop = L.BatchNormalization(), L.Dropout(0.5)
        self.conv = L.Conv1D(filters, 3, padding="same", name="conv")

    def call(self, inputs, training=False):
        y = self.conv(tf.nn.gelu(self.norm(inputs, training=training)))
        return inputs + self.drop(y, training=training)


class ChannelScale(L.Layer):
    """Weights of its own, as they are."""

    def build(self, input_shape):
        self.scale = self.add_weight("scale", shape=(input_shape[-1],))
        self.shift = self.add_weight("shift", shape=())

    def call(self, inputs):
        return inputs * self.scale + self.shift


class TiedHead(L.Layer):
    """A layer inside whose weights are also read in another way."""

    def build(self, input_shape):
        self.dense = L.Dense(input_shape[-1])
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs) @ tf.transpose(self.dense.kernel)


def test_layers_are_opened():
    x = k2.Input((LENGTH, 4))
    y, flag = StochasticReverse(name="stochastic")(x)
    y = Block(4, name="second")(Block(4, name="first")(y))
    model = k2.Model(x, SwitchReverse(name="switch")([y, flag]))
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    converted = assert_converted(model)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    assert_saturates(model, converted)
    assert {"conv", "conv_1"} <= {layer.name for layer in converted.model.layers}


def test_a_flag_that_is_not_fixed():
    class Flag(L.Layer):
        def call(self, inputs):
            return inputs, tf.reduce_max(inputs) > 2.0

    x = k2.Input((LENGTH, 4))
    y, flag = Flag(name="flag")(x)
    model = k2.Model(x, SwitchReverse(name="switch")([L.Conv1D(4, 3)(y), flag]))
    assert_saturates(model, assert_converted(model, {"switch"}))


def test_variables_are_followed():
    x = k2.Input((LENGTH, 4))
    y = ChannelScale(name="scale")(L.Conv1D(4, 3)(x))
    model = k2.Model(x, ChannelScale(name="scale_1")(y))
    assert_saturates(model, assert_converted(model))


def test_weights_are_never_taken_for_constants():
    x = k2.Input((LENGTH, 4))
    assert_converted(k2.Model(x, TiedHead(name="tied")(x)), {"tied"})


def test_flag_recomputed_from_a_layer_that_stays():
    class Summed(Scale):
        def call(self, inputs):
            return super().call(inputs), tf.constant([1.0, 2.0])

    x = k2.Input((LENGTH, 4))
    y, pair = Summed(name="summed")(x)
    model = k2.Model(x, L.Lambda(lambda v: v[0] * v[1][1], name="joined")([y, pair]))
    assert_saturates(model, assert_converted(model, {"summed", "joined"}))


# ---------------------------------------------------------------------- dtypes


def test_mixed_precision():
    k2.mixed_precision.set_global_policy("mixed_float16")
    try:
        x = k2.Input((LENGTH, 4))
        y = L.Conv1D(6, 3, activation="gelu")(x)
        y = L.GlobalAveragePooling1D()(L.ReLU()(L.BatchNormalization()(y) + 0.5))
        model = k2.Model(x, L.Activation("linear", dtype="float32")(L.Dense(2)(y)))
    finally:
        k2.mixed_precision.set_global_policy("float32")
    converted = assert_converted(model, rtol=5e-3)
    assert [layer.dtype_policy.name for layer in converted.model.layers[1:3]] == ["mixed_float16"] * 2
    assert converted.model.layers[-1].dtype_policy.name == "float32"


def test_float64():
    x = k2.Input((LENGTH, 4), dtype="float64")
    y = L.Conv1D(6, 3, activation="gelu", dtype="float64")(x)
    y = L.LSTM(3, dtype="float64")(L.LayerNormalization(dtype="float64")(y))
    model = k2.Model(x, L.Dense(2, dtype="float64")(y))
    converted = assert_converted(model, rtol=1e-9)
    assert_saturates(model, converted, rtol=1e-8)


# ---------------------------------------------------------------------- files


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_of_keras_2(tmp_path):
    model = randomize(residual())
    path = str(tmp_path / "model.h5")
    model.save(path)
    given = sample(model)[0]
    wanted = model(given, training=False)
    loaded = k2.models.load_model(path, compile=False)
    assert_same(keras2.convert(loaded).model(given), wanted)
    assert_same(keras.models.load_model(path, compile=False)([given]), wanted)


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_with_functions(tmp_path, ending):
    """Constants come back from a file as lists, functions by name."""
    x = k2.Input((LENGTH, 4))
    y = tf.nn.gelu(L.Conv1D(4, 3)(x)) * np.array([1.0, -1.0, 2.0, 0.5], "float32") + 1.0
    y = tf.pad(tf.cast(y[:, 2:-2], tf.float32), [[0, 0], [1, 0], [0, 0]])
    model = randomize(k2.Model(x, tf.reduce_mean(y, axis=1)))
    path = str(tmp_path / f"model.{ending}")
    model.save(path)
    loaded = k2.models.load_model(path, compile=False)
    converted = assert_converted(loaded)
    assert_saturates(loaded, converted)


# ---------------------------------------------------------------------- following the model


def test_sync_tells_when_settings_have_changed():
    model = chain(L.Dense(3, activation="relu", name="dense"))
    converted = keras2.convert(model)
    assert converted.sync()
    model.get_layer("dense").activation = k2.activations.tanh
    assert not converted.sync()


def test_the_model_is_not_modified():
    model = randomize(nested())
    before = [w.numpy() for w in model.weights]
    names = [layer.name for layer in model._flatten_layers()]
    given = sample(model)[0]
    wanted = model(given)
    keras2.convert(model)
    assert [layer.name for layer in model._flatten_layers()] == names
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert_same(model(given), wanted, rtol=0)


def test_losses_are_left_alone():
    class Regularized(L.Layer):
        def call(self, inputs):
            self.add_loss(tf.reduce_mean(inputs))
            return inputs * 2.0

    x = k2.Input((LENGTH, 4))
    model = randomize(k2.Model(x, Regularized()(L.Dense(3, activity_regularizer="l2")(x))))
    before = [type(loss) for loss in model.losses]
    keras2.convert(model)
    assert [type(loss) for loss in model.losses] == before


def test_random_state_of_python_is_left_alone():
    import random

    model = chain(L.Dropout(0.5), L.LSTM(3))
    random.seed(5)
    state = random.getstate()
    keras2.convert(model)
    assert random.getstate() == state


def test_naive_takes_keras_2_models():
    for build in (residual, dictionaries, several_inputs):
        model = randomize(build())
        arrays = sample(model, n=2)
        ours, naive = NaiveISM(keras2.convert(model).model), NaiveISM(model)
        given = structured(model, arrays)
        assert_same(ours(given), naive(given))
        assert_same(ours.saturate(given, 2, 5).mutant, naive.saturate(given, 2, 5).mutant)


# ---------------------------------------------------------------------- what is refused


def test_which_models_are_of_keras_2():
    class Sub(k2.Model):
        pass

    assert keras2.is_keras2(sequential())
    assert keras2.is_keras2(Sub())
    assert not keras2.is_keras2(keras.Sequential())
    assert not keras2.is_keras2(None)
    with pytest.raises(ModelError, match="is a Sequential; a model of Keras 2"):
        keras2.convert(keras.Sequential())


@pytest.mark.parametrize("how", [{"training": True}, {}])
def test_recorded_training(how):
    x = k2.Input((LENGTH, 4))
    dropout = L.Dropout(0.5, name="live")
    model = k2.Model(x, dropout(x, **how) if how else dropout(x, True))
    with pytest.raises(ModelError, match="Layer 'live' was called with training=True"):
        keras2.convert(model)


def test_recorded_training_inside_a_nested_model():
    inside = k2.Input((LENGTH, 4))
    inner = k2.Model(inside, L.Dropout(0.5, name="live")(inside, training=True))
    x = k2.Input((LENGTH, 4))
    with pytest.raises(ModelError, match="Layer 'live'"):
        keras2.convert(k2.Model(x, inner(x)))


def test_recorded_training_false_is_inference():
    x = k2.Input((LENGTH, 4))
    assert_converted(k2.Model(x, L.Dropout(0.5)(L.BatchNormalization()(x, training=False), False)))


def test_a_stateful_layer():
    model = k2.Sequential([k2.Input((LENGTH, 4), batch_size=3), L.LSTM(3, stateful=True, name="remembers")])
    with pytest.raises(ModelError, match="Layer 'remembers' is stateful"):
        keras2.convert(model)


def test_not_built():
    with pytest.raises(ModelError, match="that is not built"):
        keras2.convert(k2.Sequential([L.Conv1D(3, 3)]))


def test_built_by_a_call():
    model = k2.Sequential([L.Conv1D(3, 3), L.Flatten()])
    model(np.zeros((1, LENGTH, 4), "float32"))
    assert_converted(model)


def test_subclassed():
    class Subclassed(k2.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelError, match="defines its own call"):
        keras2.convert(Subclassed(name="mine"))
    x = k2.Input((LENGTH, 4))
    with pytest.raises(ModelError, match="defines its own call"):
        keras2.convert(Subclassed(x, L.Dense(2)(x)))


def test_random_at_inference():
    x = k2.Input((LENGTH, 4))
    model = k2.Model(x, L.Lambda(lambda v: v + tf.random.normal(tf.shape(v)), name="noisy")(x))
    with pytest.raises(ModelError, match=r"something else each time it is called.*noisy"):
        keras2.convert(model)


def test_an_output_without_rows():
    x = k2.Input((LENGTH, 4))
    with pytest.raises(ModelError, match="no row for each sequence"):
        keras2.convert(k2.Model(x, [L.Dense(2)(x), tf.shape(x)]))


def test_a_sparse_input():
    x = k2.Input((4,), sparse=True)
    with pytest.raises(ModelError, match="ragged or sparse"):
        keras2.convert(k2.Model(x, L.Dense(2)(x)))


def test_another_backend(monkeypatch):
    monkeypatch.setattr(keras2.backend, "name", lambda: "jax")
    with pytest.raises(ModelError, match="the Keras backend is 'jax'"):
        keras2.convert(sequential())


def test_a_counterpart_that_is_wrong_is_not_used(monkeypatch):
    """The check on the sample, layer by layer, is what makes the result right."""
    wrong = keras.layers.ELU
    monkeypatch.setattr(wrong, "call", lambda self, inputs: inputs * 1.001)
    model = chain(L.ELU(name="elu"), L.Dense(3))
    converted = assert_converted(model, {"elu"})
    assert "something else" in converted.unconverted["elu"]


def test_a_model_that_is_wrong_is_not_returned(monkeypatch):
    monkeypatch.setattr(keras2._Converter, "_compare", lambda *args: "")
    monkeypatch.setattr(keras.layers.ELU, "call", lambda self, inputs: inputs * 1.001)
    with pytest.raises(ModelError, match="could not be converted"):
        keras2.convert(chain(L.ELU(), L.Dense(3)))


def test_unknown_lengths():
    x = k2.Input((None, 4))
    model = k2.Model(x, L.GlobalMaxPooling1D()(L.Cropping1D(100)(L.Conv1D(3, 3)(tf.nn.relu(x)))))
    converted = keras2.convert(randomize(model))
    given = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, 300))]
    assert_same(converted.model(given), model(given))
    assert tuple(converted.model.inputs[0].shape) == (None, None, 4)


def test_a_fixed_batch():
    model = randomize(k2.Sequential([k2.Input((LENGTH, 4), batch_size=3), L.Conv1D(3, 3), L.Reshape((-1,))]))
    converted = keras2.convert(model)
    assert converted.model.inputs[0].shape[0] is None
    assert_saturates(k2.Sequential([k2.Input((LENGTH, 4)), *model.layers]), converted)


def test_scorers_take_keras_2_models():
    """An output of a dict goes by the number that it has in results, which is not that of its writing."""
    x = k2.Input((LENGTH, 4))
    h = L.Conv1D(5, 3, padding="same", activation="relu")(x)
    profile, count = L.Conv1D(2, 3, padding="same")(h), L.Dense(1)(L.GlobalAveragePooling1D()(h))
    model = randomize(k2.Model(x, {"profile": profile, "count": count}))
    given = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    assert central(model, 4, None, None) == (8, 12)
    found = Scorer(model, output=0, start=8, end=12)(given)
    naive = NaiveISM(model).saturate(given, 8, 12)
    want = naive.mutant["count"] - naive.reference["count"][:, None, None]
    np.testing.assert_allclose(found.differences, want, atol=1e-4 * np.abs(want).max())
    assert Scorer(model, "profile", output=1).chosen.shape == (None, LENGTH, 2)
    other = np.roll(given, 1, axis=1)
    pair = VariantScorer(model, output=0)(given, other)["subtract"]
    both = [model.predict(z, verbose=0)["count"][:, 0] for z in (given, other)]
    np.testing.assert_allclose(pair, both[1] - both[0], rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"consumes profiles, .*; the output has shape \(1,\)"):
        VariantScorer(model, ["logSUM"], output=0)
