"""Ten traps: models whose shapes say one thing while their numbers depend on another.

Each test is named after its trap. All compare with one forward pass for each mutated sequence, at every position, the
ends included, and say which calls must, or must not, be treated as local.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops, tree
from oracle import predict, saturated, share_of_effect

from fastism import FastISM, ModelError
from fastism.testing import randomize

FLOATX = keras.config.floatx()
JAX = keras.backend.backend() == "jax"
TOLERANCE = 1e-8 if FLOATX == "float64" else 1e-3
LENGTH = 24


def one_hot(length=LENGTH, n=2, alphabet=4, seed=0):
    letters = np.random.default_rng(seed).integers(0, alphabet, (n, length))
    x = np.eye(alphabet, dtype=FLOATX)[letters]
    x[0, length // 3] = 0  # an N
    return x


def rows(model, inputs=None, index=0, *, randomised=True, positions=None, **options):
    """Assert that fast equals naive at every position and give what explain says, by call."""
    model = randomize(model) if randomised else model
    inputs = [one_hot(model.inputs[0].shape[1])] if inputs is None else inputs
    ism = FastISM(model, index, test_correctness=False, jit=JAX, **options)
    result = ism.saturate(inputs if len(inputs) > 1 else inputs[0])
    naive, reference = saturated(model, inputs, index), predict(model, inputs)
    effects = []
    for f, n, r in zip(tree.flatten(result.mutant), naive, reference, strict=True):
        assert np.asarray(f).shape == n.shape
        error, effect = share_of_effect(np.asarray(f), n, r)
        effects.append(effect)
        # an output that nothing reaches must be the reference: no effect, no difference
        assert error <= TOLERANCE or np.array_equal(f, n), f"{error:.2e} of the effect {effect:.2e}"
    assert max(effects) > 1e-6
    return {r.call: r for r in ism.explain().rows}


def head(y):
    return L.Dense(2, name="head")(L.Flatten()(y))


def stack(*layers, length=LENGTH):
    x = y = keras.Input((length, 4))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, head(y))


def conv(kernel=3, **options):
    return L.Conv1D(5, kernel, padding="same", activation="relu", **options)


class Spline(L.Layer):
    """A weight of its own for every position and channel."""

    def build(self, shape):
        self.w = self.add_weight(shape=shape[1:], name="w")

    def call(self, x):
        return x * self.w


class ConcatPosition(L.Layer):
    """The distance to the middle as a further channel."""

    def call(self, x):
        n = x.shape[1]
        far = ops.reshape(ops.abs(ops.arange(n, dtype=x.dtype) - n // 2), (1, n, 1))
        return ops.concatenate([x, ops.zeros_like(x[..., :1]) + far], axis=-1)


# ------------------------------------------------------------------------ 1. pointwise, but different everywhere


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.PReLU(name="it"),
        lambda: L.BatchNormalization(axis=1, name="it"),
        lambda: Spline(name="it"),
        lambda: ConcatPosition(name="it"),
    ],
    ids=["prelu", "batch_norm_axis_1", "spline", "concat_position"],
)
def test_1_parameters_of_their_own_position(layer):
    found = rows(stack(conv(), layer(), L.Conv1D(3, 3, name="after")))
    assert found["after"].state == "window"


def test_1_a_fixed_array_is_added():
    x = keras.Input((LENGTH, 4))
    y = conv()(x) + np.random.default_rng(0).normal(size=(LENGTH, 5)).astype(FLOATX)
    found = rows(keras.Model(x, head(conv()(y))))
    assert [r.state for r in found.values()][:3] == ["window"] * 3


def test_1_a_norm_over_positions_is_not_pointwise():
    found = rows(stack(conv(), L.LayerNormalization(axis=(1, 2), name="it"), conv()))
    assert found["it"].state == "dense"


# ------------------------------------------------------------------------ 2. padding that is no zero at the input


class MirroredAverage(L.Layer):
    """A mean of five whose ends mirror the sequence."""

    def call(self, x):
        x = ops.pad(x, [[0, 0], [2, 2], [0, 0]], mode="symmetric")
        return ops.average_pool(x, 5, 1, padding="valid")


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.Dense(5), L.BatchNormalization(), L.Activation("gelu"), L.MaxPooling1D(3, 2, padding="same")],
        lambda: [L.Lambda(lambda x: -1 - ops.abs(x)), L.MaxPooling1D(4, 4, padding="same")],
        lambda: [L.Dense(5), L.AveragePooling1D(4, 3, padding="same")],
        lambda: [L.Dense(5), MirroredAverage()],
        lambda: [L.BatchNormalization(), conv(4)],
        lambda: [L.BatchNormalization(), conv(4, dilation_rate=3)],
        lambda: [L.BatchNormalization(), conv(4, strides=3)],
        lambda: [L.BatchNormalization(), conv(5, strides=2)],
    ],
    ids=["max_same", "max_negative", "average_same", "mirror", "stem", "even_dilated", "stride3", "stride2"],
)
@pytest.mark.parametrize("length", [13, 14])
def test_2_ends(layers, length):
    rows(stack(*layers(), length=length))


# ------------------------------------------------------------------------ 3. branches of different phase and speed


def test_3_branches_of_different_speed():
    x = keras.Input((25, 4))
    stem = conv()(x)
    fast = L.Conv1D(5, 3, strides=2, padding="same", name="strided")(stem)
    slow = L.MaxPooling1D(3, 2, padding="same", name="pooled")(stem)
    met = L.Add(name="met")([fast, slow])
    up = L.UpSampling1D(2, name="up")(met)
    tap = L.Cropping1D((1, 0))(L.ZeroPadding1D((1, 1))(stem))
    found = rows(keras.Model(x, head(L.Concatenate(name="unet")([up, tap]))))
    assert {found[n].state for n in ("strided", "pooled", "met", "up", "unet")} == {"window"}


def test_3_a_skip_from_before_a_valid_convolution_cropped_on_one_side():
    x = keras.Input((LENGTH, 4))
    stem = conv()(x)
    y = L.Conv1D(5, 5, padding="valid", name="valid")(stem)
    found = rows(keras.Model(x, head(L.Add(name="met")([y, L.Cropping1D((4, 0))(stem)]))))
    assert found["met"].state == "window"


# ------------------------------------------------------------------------ 4. one layer, many windows


def test_4_one_layer_at_several_depths_and_strands():
    shared = L.Conv1D(4, 3, padding="same", activation="tanh", name="shared")
    x = keras.Input((LENGTH, 4))
    inner_x = keras.Input((LENGTH // 2, 4))
    inner = keras.Model(inner_x, shared(shared(inner_x)), name="inner")
    forward, reverse = shared(x), shared(ops.flip(x, axis=(1, 2)))
    deep = shared(shared(forward))
    halves = L.Concatenate(axis=1)([inner(x[:, : LENGTH // 2]), inner(x[:, LENGTH // 2 :])])
    twice = L.Add()([deep, deep])
    y = L.Concatenate(name="all")([forward, ops.flip(reverse, axis=1), twice, halves])
    other = keras.Input((50, 4))
    keras.Model(other, shared(L.MaxPooling1D(5)(other)))  # the same layer lives in another model
    found = rows(keras.Model(x, head(y)))
    calls = [r for name, r in found.items() if "shared" in name]
    assert len(calls) == 8
    assert {r.state for r in calls} == {"window"}


# ------------------------------------------------------------------------ 5. a change that vanishes


def test_5_a_branch_that_the_mutation_does_not_reach():
    x = keras.Input((LENGTH, 4))
    y = conv()(x)
    cropped = L.Flatten(name="cropped")(conv()(L.Cropping1D((9, 9))(y)))
    whole = L.Flatten(name="whole")(L.Cropping1D((3, 0))(L.Cropping1D((0, 0))(y)))
    tail = L.Flatten(name="tail")(L.MaxPooling1D(7)(y))  # 24 = 3 * 7 + 3
    sparse = L.Flatten(name="sparse")(L.Conv1D(3, 2, strides=5)(x))
    model = randomize(keras.Model(x, [cropped, whole, tail, sparse]))
    rows(model)
    result = FastISM(model, test_correctness=False, jit=JAX).saturate(one_hot())
    unread = [range(7), range(2), [22, 23], [2, 3, 4]]
    for mutant, reference, positions in zip(result.mutant, result.reference, unread, strict=True):
        for position in positions:
            assert (mutant[:, position] == reference[:, None]).all()


# ------------------------------------------------------------------------ 6. the wrong axis, in an attribute


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Conv1D(5, 3, padding="same", activation=lambda x: ops.softmax(x, axis=1), name="it"),
        lambda: L.Softmax(axis=-2, name="it"),
        lambda: L.GroupNormalization(2, name="it"),
        lambda: L.UnitNormalization(axis=1, name="it"),
    ],
    ids=["activation", "softmax", "group_norm", "unit_norm"],
)
def test_6_mixes_positions(layer):
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(6, 3, padding="same", name="first")(x)
    found = rows(keras.Model(x, head(layer()(y))))
    assert found["first"].state == "window"
    last = [r for name, r in found.items() if name == "it" or name.startswith("it/")]
    assert any(r.state == "dense" for r in last), "positions are mixed"


def test_6_a_mean_of_a_negative_axis_and_a_dense_across_positions():
    x = keras.Input((LENGTH, 4))
    y = conv()(x)
    mean = ops.mean(y, axis=-2)
    across = L.Flatten()(L.Dense(3, name="across")(L.Permute((2, 1))(y)))
    found = rows(keras.Model(x, L.Dense(2)(L.Concatenate()([mean, across]))))
    assert found["across"].state == "dense"


def test_6_pooling_of_channels_within_positions():
    x = keras.Input((LENGTH, 4))
    y = L.Reshape((LENGTH, 3, 2))(L.Conv1D(6, 3, padding="same")(x))
    rows(keras.Model(x, head(L.TimeDistributed(L.GlobalMaxPooling1D())(y))))


def test_6_causal_attention():
    x = keras.Input((8, 4))
    y = L.Conv1D(6, 3, padding="same", name="first")(x)
    y = L.MultiHeadAttention(2, 3, name="it")(y, y, use_causal_mask=True)
    if JAX and FLOATX == "float64":
        pytest.skip("JAX computes attention in float32")
    found = rows(keras.Model(x, head(y)))
    assert found["first"].state == "window"
    assert any(r.state == "dense" for name, r in found.items() if name.startswith("it"))


# ------------------------------------------------------------------------ 7. a global vector that feeds back


@pytest.mark.parametrize("channels", [6, LENGTH], ids=["fewer", "as_many_channels_as_positions"])
def test_7_squeeze_excite(channels):
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(channels, 3, padding="same", activation="swish", name="local")(x)
    gate = L.Dense(channels, activation="sigmoid")(L.Dense(2, activation="swish")(ops.mean(y, axis=1)))
    gated = L.Multiply(name="gated")([y, gate])  # (B, L, C) times (B, C): over the positions
    z = L.Conv1D(4, 3, padding="same", name="after")(gated)
    z = L.Concatenate()([z, y])  # one part whole, one a window
    found = rows(keras.Model(x, head(L.Conv1D(3, 1)(z))))
    assert found["local"].state == "window"
    assert found["gated"].state == "dense"


# ------------------------------------------------------------------------ 8. Flatten and Reshape that keep positions


def test_8_flattened_outputs_are_added():
    x = keras.Input((LENGTH, 4))
    first = L.Flatten(name="first")(L.Conv1D(1, 5, padding="same")(x))
    second = L.Flatten(name="second")(L.Conv1D(1, 3, padding="same")(x))
    found = rows(keras.Model(x, L.Add(name="sum")([first, second])))
    assert {found[n].state for n in ("first", "second", "sum") if n in found} == {"window"}


def test_8_reshaped_there_and_back():
    x = keras.Input((LENGTH, 4))
    y = L.Reshape((LENGTH, 5))(L.Reshape((-1, 1))(conv()(x)))
    found = rows(keras.Model(x, head(L.Conv1D(3, 3, name="after")(y))))
    assert found["after"].state == "window"


def test_8_positions_on_the_second_axis():
    x = keras.Input((LENGTH, 4))
    y = L.Reshape((-1, 1, 6))(L.Conv1D(6, 3, padding="same")(x))
    y = L.Conv2DTranspose(2, (5, 1), padding="same", name="up")(y)
    found = rows(keras.Model(x, L.Reshape((-1, 2))(y)))
    assert found["up"].state == "window"


def test_8_halves_as_an_axis():
    x = keras.Input((LENGTH, 4))
    y = L.Reshape((2, LENGTH // 2, 5))(conv()(x))
    rows(keras.Model(x, L.Concatenate()([head(y[:, 0]), L.GlobalMaxPooling1D()(y[:, 1])])))


def test_8_a_dense_of_rank_3_that_reads_everything():
    x = keras.Input((LENGTH, 4))
    y = L.Dense(3, name="all")(L.Reshape((1, LENGTH * 5))(conv()(x)))
    found = rows(keras.Model(x, L.Flatten()(y)))
    assert found["all"].changed == found["all"].length == 1


# ------------------------------------------------------------------------ 9. several inputs, dynamic things


def test_9_a_track_of_another_length_and_a_dictionary():
    x, track = keras.Input((LENGTH, 4), name="sequence"), keras.Input((10, 2), name="control")
    y = L.Cropping1D(7)(conv()(x))
    joined = L.Concatenate(name="joined")([y, track])
    model = randomize(keras.Model({"sequence": x, "control": track}, {"profile": L.Conv1D(1, 1)(joined), "n": head(y)}))
    arrays = {"sequence": one_hot(), "control": np.random.default_rng(1).normal(size=(2, 10, 2)).astype(FLOATX)}
    order = [arrays[t.name] for t in model.inputs]
    found = rows(model, order, [t.name for t in model.inputs].index("sequence"))
    assert found["joined"].state == "window"


def test_9_six_channels_of_which_four_mutate():
    model = randomize(keras.Model(x := keras.Input((LENGTH, 6)), head(conv()(x))))
    x = np.concatenate([one_hot(), np.random.default_rng(1).normal(size=(2, LENGTH, 2)).astype(FLOATX)], axis=-1)
    result = FastISM(model, channels=(0, 1, 2, 3), test_correctness=False, jit=JAX).saturate(x)
    reference = predict(model, [x])[0]
    for position in (0, 1, LENGTH - 1):
        for letter in range(4):
            mutant = x.copy()
            mutant[:, position, :4] = np.eye(4)[letter]
            want = predict(model, [mutant])[0]
            error, _ = share_of_effect(result.mutant[:, position, letter], want, reference)
            assert error <= TOLERANCE


def test_9_a_tensor_in_a_keyword_argument():
    class Gated(L.Layer):
        def call(self, x, context=None):
            return x if context is None else x * ops.sigmoid(context)

    x = keras.Input((LENGTH, 4))
    y = conv()(x)
    found = rows(keras.Model(x, head(Gated(name="it")(Gated()(y), context=conv()(y)))))
    assert [r.state for name, r in found.items() if name.startswith("it")][-1] == "window"


def test_9_a_mask_that_flips_where_a_base_becomes_zeros():
    x = keras.Input((LENGTH, 4))
    y = L.GlobalAveragePooling1D()(L.Masking()(x))
    z = L.LSTM(3)(L.Masking()(x))
    model = randomize(keras.Model(x, L.Dense(2)(L.Concatenate()([y, z]))))
    rows(model)
    arrays = one_hot()
    fast = FastISM(model, test_correctness=False, jit=JAX)(arrays, replace_with=0)
    for position in (0, 5, LENGTH - 1):
        mutant = arrays.copy()
        mutant[:, position] = 0
        np.testing.assert_allclose(fast[:, position], predict(model, [mutant])[0], rtol=1e-4, atol=1e-5)


def test_9_live_dropout_is_refused():
    x = keras.Input((LENGTH, 4))
    model = keras.Model(x, head(L.Dropout(0.5, name="live")(conv()(x), training=True)))
    with pytest.raises(ModelError, match="live"):
        FastISM(model, test_correctness=False)


def test_9_a_stateful_recurrent_layer_is_exact_or_refused():
    x = keras.Input(batch_shape=(2, 8, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.LSTM(3, stateful=True, name="states")(x))))
    with pytest.raises((ModelError, ValueError), match="state|batch"):
        FastISM(model, test_correctness=False, jit=JAX).saturate(one_hot(8))


def test_9_half_precision_with_a_single_precision_tail():
    if FLOATX == "float64":
        pytest.skip("about half and single precision")
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(8, 5, padding="same", activation="relu", dtype="mixed_float16")(x)
    model = randomize(keras.Model(x, L.Dense(2, dtype="float32")(L.Flatten(dtype="mixed_float16")(y))))
    arrays = one_hot()
    fast = FastISM(model, test_correctness=False, jit=JAX).saturate(arrays)
    (naive,), (reference,) = saturated(model, [arrays], 0), predict(model, [arrays])
    error, effect = share_of_effect(fast.mutant, naive, reference)
    assert fast.mutant.dtype == np.float32
    assert effect > 1e-3
    assert error <= 2e-2  # float16 has 11 bits


# ------------------------------------------------------------------------ 10. disguises


class ReverseComplement(L.Conv1D):
    """Each filter and its reverse complement: a Conv1D by class, another by what it does."""

    def call(self, x):
        y = super().call(x)
        return ops.maximum(y, ops.flip(super().call(ops.flip(x, axis=(1, 2))), axis=1))


class Standardised(L.Conv1D):
    """Weight standardisation."""

    def convolution_op(self, inputs, kernel):
        kernel = kernel - ops.mean(kernel, axis=(0, 1), keepdims=True)
        return super().convolution_op(inputs, kernel)


class Dense(L.Layer):
    """Not a matrix product."""

    def call(self, x):
        return ops.cumsum(x, axis=1)


class Add(L.Layer):
    """Not a sum."""

    def call(self, x):
        return ops.roll(x, 3, axis=1)


class ByLength(L.Layer):
    """Another function for short sequences."""

    def call(self, x):
        return ops.cumsum(x, axis=1) if x.shape[1] >= LENGTH else x


@pytest.mark.parametrize(
    "layer",
    [
        lambda: ReverseComplement(5, 3, padding="same"),
        lambda: Standardised(5, 3, padding="same"),
        lambda: Dense(),
        lambda: Add(),
        lambda: ByLength(),
    ],
    ids=["override_call", "override_convolution_op", "named_dense", "named_add", "by_length"],
)
def test_10_a_layer_is_what_it_does(layer):
    rows(stack(conv(), layer(), conv()))


def test_10_lora():
    layer = L.Dense(5, name="adapted")
    model = randomize(stack(conv(), layer, conv()))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=layer.lora_kernel_b.shape))
    rows(model, randomised=False)


def test_10_a_quantised_layer():
    if FLOATX == "float64":
        pytest.skip("quantisation rounds to single precision")
    model = randomize(stack(conv(), L.Dense(8, name="rounded"), conv()))
    next(layer for layer in model.layers if layer.name == "rounded").quantize("int8")
    found = rows(model, randomised=False)
    assert found["rounded"].state == "dense" or "quantised" not in found["rounded"].reason


def test_10_a_lambda_that_closes_over_a_variable():
    scale = keras.Variable(np.ones((LENGTH, 5), FLOATX))
    model = randomize(stack(conv(), L.Lambda(lambda x: x * scale), conv()))
    ism = FastISM(model, test_correctness=False, jit=JAX)
    ism.saturate(one_hot())
    scale.assign(np.random.default_rng(0).normal(size=(LENGTH, 5)))
    rows(model, randomised=False)


def test_10_weights_that_change_later():
    model = randomize(stack(conv(), L.BatchNormalization(), conv()))
    ism = FastISM(model, test_correctness=False, jit=JAX)
    ism.saturate(one_hot())
    randomize(model, seed=9)
    result = ism.saturate(one_hot())
    (naive,), (reference,) = saturated(model, [one_hot()], 0), predict(model, [one_hot()])
    error, effect = share_of_effect(result.mutant, naive, reference)
    assert effect > 1e-6
    assert error <= TOLERANCE
