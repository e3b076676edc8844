"""Models that once gave wrong numbers or obscure errors."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from fastism import FastISM, ModelError, NaiveISM
from fastism.rules.registry import Refuse
from fastism.testing import assert_matches_naive, randomize

JAX = keras.backend.backend() == "jax"
FLOAT64 = keras.config.floatx() == "float64"
RTOL = 1e-8 if FLOAT64 else 1e-3


def one_hot(n, length, alphabet=4, seed=0):
    return np.eye(alphabet)[np.random.default_rng(seed).integers(0, alphabet, (n, length))].astype(
        keras.config.floatx()
    )


def matches(model, x, **options):
    assert_matches_naive(randomize(model), x, rtol=RTOL, allow_unaffected=True, **options)
    return assert_matches_naive(model, x, rtol=RTOL, saturate=True, **options)


@pytest.mark.parametrize(("channels", "n", "batch_size"), [(64, 2, "auto"), (64, 2, 64), (3, 1, 3), (8, 3, 8)])
def test_addend_as_long_as_the_channels(channels, n, batch_size):
    """TensorFlow's Keras takes it for a bias if the batch has as many rows as there are channels."""
    x = keras.Input((32, 4))
    y = ops.tanh(L.Dense(channels)(x) + L.Dense(1)(x))
    matches(keras.Model(x, L.Dense(2)(L.Flatten()(y))), one_hot(n, 32), batch_size=batch_size)


@pytest.mark.parametrize("channels", [2, 8, 16])
def test_addend_as_long_as_the_channels_in_a_dense_block(channels):
    x = keras.Input((2, 4))
    y = L.LSTM(channels)(x)
    matches(keras.Model(x, L.Add()([y, L.Dense(1)(y)])), one_hot(8, 2), batch_size=channels)


def test_mask_of_an_input_that_is_not_mutated():
    x, tokens = keras.Input((12, 4)), keras.Input((8,), dtype="int32")
    y = L.Attention()([L.Dense(4)(x), L.Embedding(5, 4, mask_zero=True)(tokens)])
    z = np.random.default_rng(3).integers(1, 5, (2, 8)).astype("int32")
    z[:, 5:] = 0
    matches(keras.Model([x, tokens], y), [one_hot(2, 12), z])


@pytest.mark.parametrize("merge", [L.Multiply, L.Add, L.Concatenate])
def test_masks_on_both_sides_of_a_merge(merge):
    x, z = keras.Input((12, 4)), keras.Input((12, 4))
    y = L.GlobalAveragePooling1D()(merge()([L.Masking()(x), L.Masking()(z)]))
    first, second = one_hot(2, 12), np.random.default_rng(1).normal(size=(2, 12, 4)).astype(keras.config.floatx())
    first[:, 9:], second[:, 7:] = 0, 0
    matches(keras.Model([x, z], y), [first, second])


@pytest.mark.parametrize("by_name", [True, False])
def test_constant_mask_by_name_or_position(by_name):
    x = keras.Input((12, 4))
    y = L.Conv1D(3, 3, padding="same")(x)
    mask = np.arange(12)[None] < 5
    pool = L.GlobalAveragePooling1D()
    model = keras.Model(x, pool(y, mask=mask) if by_name else pool(y, mask))
    matches(model, one_hot(1, 12))


@keras.saving.register_keras_serializable("fastism-tests")
class Positions(L.Layer):
    """Gives its weights, one row for all sequences."""

    def build(self, shape):
        self.w = self.add_weight(shape=shape[1:], name="w")

    def call(self, x):
        return self.w[None]


def test_reference_without_a_batch_axis():
    x, z = keras.Input((12, 4)), keras.Input((12, 4))
    y = L.Add()([L.LSTM(4, return_sequences=True)(x), Positions()(z)])
    model = keras.Model([x, z], L.Dense(2)(L.Flatten()(y)))
    matches(model, [one_hot(3, 12), one_hot(3, 12, seed=1)])


def test_nested_model_called_with_a_dict_by_name():
    p, q = keras.Input((12, 4), name="b"), keras.Input((12, 4), name="a")
    inner = keras.Model([p, q], L.Subtract()([p, q * 3]))
    x, y = keras.Input((12, 4)), keras.Input((12, 4))
    model = keras.Model([x, y], inner({"a": x, "b": y}))
    matches(model, [one_hot(2, 12), one_hot(2, 12, seed=1)])


def test_layers_changed_after_construction_are_respected():
    x = keras.Input((12, 4))
    model = randomize(keras.Model(x, L.Conv1D(3, 3, activation="relu", name="conv")(x)))
    ism, sequences = FastISM(model), one_hot(2, 12)
    ism(sequences)
    model.get_layer("conv").activation = keras.activations.tanh
    np.testing.assert_allclose(ism(sequences), NaiveISM(model)(sequences), atol=1e-5)


def test_clip_with_arrays_for_bounds():
    x = keras.Input((12, 4))
    y = L.Conv1D(3, 3, padding="same")(x)
    y = ops.clip(y, np.linspace(-1, 0, 12)[:, None].astype("float32"), np.ones((12, 1), "float32"))
    matches(keras.Model(x, L.Conv1D(2, 3)(y)), one_hot(2, 12))


def test_infinite_activations():
    """log(0) on the way: what is infinite has no difference, so such operations run whole."""
    x = keras.Input((12, 4))
    y = ops.log(ops.relu(L.Conv1D(3, 3, padding="same")(x)))
    y = ops.maximum(L.MaxPooling1D(3, 1, padding="same")(y), -5.0)
    matches(keras.Model(x, ops.exp(y)), one_hot(2, 12))


def test_global_data_format_does_not_matter():
    x = keras.Input((30, 4))
    y = L.Conv1D(4, 3, strides=2, groups=2, data_format="channels_last", activation="relu")(x)
    model = keras.Model(x, L.Dense(2)(L.Flatten(data_format="channels_last")(y)))
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        matches(model, one_hot(2, 30))
    finally:
        keras.config.set_image_data_format(before)


def test_pool_whose_mode_was_changed():
    class Other(L.MaxPooling1D):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.pool_mode = "average"

    x = keras.Input((12, 4))
    matches(keras.Model(x, Other(2)(L.Conv1D(3, 3)(x))), one_hot(2, 12))


def test_unsigned_input_is_refused():
    x = keras.Input((12, 4), dtype="uint8")
    model = keras.Model(x, L.Conv1D(3, 3)(ops.cast(x, "float32")))
    with pytest.raises(ModelError, match="has dtype uint8; the mutated input must be of a float type"):
        FastISM(model)


@pytest.mark.skipif(FLOAT64, reason="the policy is the precision")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision_runs(policy):
    """Within the rounding of the policy itself."""
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input((24, 4), dtype="float32")
        y = L.BatchNormalization()(L.Conv1D(6, 5, padding="same", activation="relu")(x))
        y = L.Add()([L.MaxPooling1D(2, padding="same")(y), L.AveragePooling1D(2)(y)])
        y = L.PReLU()(L.Conv1D(4, 3, activation="relu")(y))
        model = randomize(keras.Model(x, L.Dense(2, dtype="float32")(L.Flatten()(y))))
    finally:
        keras.config.set_dtype_policy("float32")
    ism, naive, sequences = FastISM(model), NaiveISM(model), one_hot(2, 24)
    fast, slow, reference = ism(sequences), naive(sequences), naive.reference(sequences)
    assert np.isfinite(fast).all()
    assert np.abs(fast - slow).max() <= 0.1 * np.abs(slow - reference[:, None]).max()


def test_refusals_are_exceptions_of_the_rules_only():
    assert not issubclass(Refuse, ModelError)


@pytest.mark.parametrize("norm", [L.BatchNormalization, L.LayerNormalization])
def test_normalisation_after_maximum_pooling_at_the_ends(norm):
    """Outputs of the pool that are not there held the lowest number, of which a normalisation made NaN."""
    x = keras.Input((20, 4))
    y = norm()(L.MaxPooling1D(2)(L.Conv1D(5, 5, padding="same")(x)))
    matches(keras.Model(x, L.Conv1D(3, 3)(y)), [one_hot(2, 20)])


def test_a_final_cast_is_kept():
    """A linear activation of another dtype does nothing but cast; it was taken for nothing at all."""
    x = keras.Input((20, 4))
    y = L.Conv1D(5, 5, padding="same", dtype="mixed_float16")(x)
    model = randomize(keras.Model(x, L.Activation("linear", dtype="float32")(y)))
    assert FastISM(model)(one_hot(1, 20).astype("float32")).dtype == "float32"


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_mask_that_attention_takes_off_its_input(value):
    x, z = keras.Input((12, 4)), keras.Input((12, 3))
    y = L.MultiHeadAttention(2, 3)(L.Conv1D(5, 3)(x), L.Masking(value)(z))
    second = np.random.default_rng(1).normal(size=(2, 12, 3)).astype(keras.config.floatx())
    second[0, 5:] = value
    if JAX and FLOAT64:
        pytest.skip("JAX computes attention in float32")
    matches(keras.Model([x, z], y), [one_hot(2, 12), second])


@pytest.mark.parametrize(
    "layer",
    [lambda: L.TimeDistributed(L.Dense(3)), lambda: L.TimeDistributed(L.Conv1D(3, 3))],
    ids=["dense", "conv"],
)
def test_the_batch_beside_an_axis_of_size_one(layer):
    """Read as the batch, the other axis mixed the sequences on torch."""
    x = keras.Input((12, 4))
    y = layer()(L.Reshape((1, 12, 4))(x))
    matches(keras.Model(x, L.Dense(2)(L.Flatten()(y))), one_hot(2, 12))


def test_time_before_the_batch():
    x = keras.Input((12, 4))
    y = ops.transpose(L.Conv1D(5, 3, padding="same")(x), (1, 0, 2))
    matches(keras.Model(x, L.Dense(2)(ops.concatenate([y[3], ops.mean(y, axis=0)], axis=-1))), one_hot(2, 12))


def test_positions_in_the_batch():
    """Of the mutated input and of another one."""
    x, z = keras.Input((12, 4)), keras.Input((12, 4))
    folded = [ops.reshape(L.Dense(3)(ops.reshape(t, (-1, 4))), (-1, 12, 3)) for t in (x, z)]
    y = L.Conv1D(3, 3, padding="same")(x)
    matches(keras.Model([x, z], L.Add()([*folded, y])), [one_hot(2, 12), one_hot(2, 12, seed=5)])


def lying(x, length=12):
    return L.Reshape((1, length, 4))(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: L.ReLU()(y),
        lambda y: L.BatchNormalization()(y),
        lambda y: L.Identity()(y),
        lambda y: L.Concatenate()([y, y]),
        lambda y: y * 2,
        lambda y: ops.sum(ops.square(L.Dense(3)(y)), axis=-1),
        lambda y: ops.max(L.Conv2D(5, (1, 3), padding="same")(y), axis=-1),
        lambda y: y * ops.transpose(y, (0, 2, 1, 3)),
    ],
    ids=["relu", "norm", "identity", "joined", "twice", "sum", "max", "crossed"],
)
def test_positions_on_the_second_axis_of_an_output(make):
    x = keras.Input((12, 4))
    matches(keras.Model(x, make(lying(x))), one_hot(2, 12))


def test_positions_on_the_second_axis_beside_another_input():
    x, z = keras.Input((12, 4)), keras.Input((1, 12, 4))
    second = np.random.default_rng(1).normal(size=(2, 1, 12, 4)).astype(keras.config.floatx())
    y = L.Conv2D(4, (1, 3), padding="same")(lying(x))
    matches(keras.Model([x, z], L.Flatten()(L.Multiply()([y, z]))), [one_hot(2, 12), second])


@pytest.mark.parametrize("layer", [L.Conv2D, L.SeparableConv2D], ids=["conv", "separable"])
def test_no_tap_meets_the_second_axis(layer):
    """An even, dilated kernel steps over an axis of size 1."""
    x = keras.Input((12, 4))
    y = layer(3, 2, dilation_rate=2, padding="same")(L.Reshape((12, 1, 4))(x))
    matches(keras.Model(x, L.Concatenate()([L.Flatten()(y), L.Flatten()(x)])), one_hot(2, 12))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32"])
def test_moves_of_numbers_that_are_no_floats(dtype):
    x = keras.Input((12, 4))
    y = ops.cast(L.Conv1D(3, 3, padding="same")(x) * 3, "int32")
    y = ops.greater(y, 0) if dtype == "bool" else ops.cast(ops.abs(y), dtype)
    y = ops.concatenate([ops.flip(y, axis=1), y], axis=-1)[:, 2:9]
    matches(keras.Model(x, ops.cast(y, keras.config.floatx())), one_hot(2, 12))


@pytest.mark.parametrize(
    "make", [lambda y: ops.max(y, axis=1), lambda y: ops.subtract(y, ops.flip(y, axis=1))], ids=["max", "subtract"]
)
def test_arithmetic_of_integers(make):
    x = keras.Input((12, 4))
    y = make(ops.cast(L.Conv1D(3, 3, padding="same")(x) * 9, "int32"))
    matches(keras.Model(x, ops.cast(y, keras.config.floatx())), one_hot(2, 12))


class Renamed(L.GRU):
    """Overrides nothing."""


def test_a_recurrent_layer_of_another_name():
    x = keras.Input((12, 4))
    matches(keras.Model(x, Renamed(3)(x)), one_hot(2, 12))


def test_einsum_of_a_diagonal():
    x = keras.Input((4, 4))
    matches(keras.Model(x, ops.einsum("abb->ab", x)), one_hot(2, 4))


def test_a_variable_outside_of_a_lambda_changes():
    scale = keras.Variable(np.float32(1))
    x = keras.Input((12, 4))
    model = randomize(keras.Model(x, L.Lambda(lambda v: ops.relu(v * ops.cast(scale, v.dtype)))(L.Conv1D(3, 3)(x))))
    ism = FastISM(model, test_correctness=False)
    ism.saturate(one_hot(2, 12))
    scale.assign(5.0)
    want = model.predict(one_hot(2, 12), verbose=0)
    np.testing.assert_allclose(ism.saturate(one_hot(2, 12)).reference, want, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.CenterCrop(3, 3),
        lambda: L.Resizing(6, 4),
        lambda: L.RandomFlip("horizontal"),
        lambda: L.RandomContrast(0.3),
        lambda: L.RandomTranslation(0.3, 0.3),
    ],
)
def test_image_layers(layer):
    """Keras notes their default, training=True, as if they had been called with it, but predicts without."""
    x = keras.Input((12, 4))
    y = layer()(L.Reshape((12, 4, 1))(x))
    matches(keras.Model(x, L.Dense(2)(L.Flatten()(y))), one_hot(2, 12))


class Wrapped(L.Layer):
    """Tells nothing of training to what is inside it."""

    def __init__(self):
        super().__init__()
        self.flip = L.RandomFlip("vertical")

    def call(self, x):
        return self.flip(x)


def test_a_layer_that_trains_by_default_inside_another():
    x = keras.Input((12, 4))
    y = Wrapped()(L.Reshape((12, 4, 1))(x))
    matches(keras.Model(x, L.Dense(2)(L.Flatten()(y))), one_hot(2, 12))


@pytest.mark.parametrize("layer", [L.LSTM(3, stateful=True, name="states"), L.Bidirectional(L.GRU(3, stateful=True))])
def test_a_stateful_layer_is_refused(layer):
    x = keras.Input(batch_shape=(2, 8, 4))
    with pytest.raises(ModelError, match=r"Layer '.*' is stateful: .* build the model with stateful=False"):
        FastISM(keras.Model(x, L.Dense(2)(layer(x))), test_correctness=False)
    inner = keras.Sequential([keras.Input(batch_shape=(2, 8, 4)), L.LSTM(3, stateful=True, name="inside")])
    with pytest.raises(ModelError, match=r"holds 'inside', which is stateful"):
        FastISM(keras.Model(x, inner(x)), test_correctness=False)


class OfDict(keras.Model):
    """Takes a dictionary, with a list in it."""

    def __init__(self):
        super().__init__()
        self.conv, self.dense = L.Conv1D(3, 3), L.Dense(3)

    def call(self, inputs):
        return self.dense(ops.max(ops.relu(self.conv(inputs["seq"])), 1)) + inputs["more"][0] * inputs["more"][1]


def test_a_model_of_ones_own_that_takes_a_dictionary():
    model, x = OfDict(), one_hot(2, 12).astype("float32")
    given = {"seq": x, "more": [x[:, 0, :3], x[:, 1, :3] + 0.5]}
    model(given)
    randomize(model)
    fast, naive = FastISM(model, 2), NaiveISM(model, 2)
    assert [fast._graph.tensors[t].name for t in fast._graph.inputs] == ["more/0", "more/1", "seq"]
    np.testing.assert_allclose(fast(given), naive(given), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fast([*given["more"], x]), naive(given), rtol=1e-4, atol=1e-5)
    assert fast.test_correctness(batch_size=2)


@pytest.mark.parametrize("batch_size", [60, 200, 300])
def test_windows_that_do_not_follow_the_order_of_the_edits(batch_size):
    """Rolled positions before a dense layer over all of them: a chunk's windows lie at both ends."""
    x = keras.Input((200, 4))
    model = keras.Model(x, L.Dense(2)(L.Flatten()(ops.roll(x, 100, axis=1))))
    matches(model, one_hot(1, 200), batch_size=batch_size)


def test_a_sum_of_a_change_of_one_channel_and_many_channels():
    """What broadcasts is one value in many places, into which nothing can be written."""
    x, z = keras.Input((60, 4)), keras.Input((60, 8))
    y = L.BatchNormalization()(L.Add()([L.Conv1D(1, 3, padding="same")(x), z]))
    model = keras.Model([x, z], L.Dense(1)(L.GlobalAveragePooling1D()(L.Activation("relu")(y))))
    matches(model, [one_hot(2, 60), np.random.default_rng(0).normal(size=(2, 60, 8)).astype(keras.config.floatx())])


@pytest.mark.skipif(FLOAT64, reason="of float16")
@pytest.mark.parametrize(("pool", "setting"), [("MaxPooling1D", 3), ("AdaptiveMaxPooling1D", 17)])
def test_relu_of_another_precision_before_a_pool(pool, setting):
    if not hasattr(L, pool):
        pytest.skip("not in this Keras")
    x = keras.Input((60, 4))
    y = L.ReLU(dtype="float32")(L.Conv1D(8, 5, padding="same", dtype="mixed_float16")(x))
    model = randomize(keras.Model(x, L.Dense(1)(L.GlobalAveragePooling1D()(getattr(L, pool)(setting)(y)))))
    x = one_hot(2, 60)
    fast, naive = FastISM(model).saturate(x), NaiveISM(model).saturate(x)
    assert np.abs(fast.mutant - naive.mutant).max() < 2e-3 * np.abs(naive.mutant - naive.reference[:, None, None]).max()
