"""Small models that between them use every rule and option, with what should stay local in each.

Every design is a function of nothing that builds a model. ``LOCAL`` names the calls that must move windows; all other
calls that a mutation reaches must run densely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import layers as L
from keras import ops


@dataclass(frozen=True)
class Design:
    """A model under test.

    Attributes:
        build: Makes the model.
        dense: Names of the calls that are expected to run densely.
        index: Which input is mutated.
        reaches: Whether mutations are expected to change the output at all.
    """

    build: Callable[[], keras.Model]
    dense: frozenset[str] = frozenset()
    index: int = 0
    options: dict = field(default_factory=dict)


DESIGNS: dict[str, Design] = {}


def design(*, dense=(), index=0, **options):
    def register(fn):
        DESIGNS[fn.__name__] = Design(fn, frozenset(dense), index, options)
        return fn

    return register


def _stack(length, *layers, alphabet=4):
    x = y = L.Input((length, alphabet))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


# ---------------------------------------------------------------------------------------------- convolutions


def _conv(length, **kw):
    kw.setdefault("activation", "relu")
    return lambda: _stack(
        length,
        L.Conv1D(6, name="conv", **kw),
        L.Conv1D(3, 3, padding="same", activation="tanh", name="conv2"),
    )


CONVOLUTIONS = {
    "conv_valid": (31, dict(kernel_size=5)),
    "conv_same": (31, dict(kernel_size=5, padding="same")),
    "conv_causal": (29, dict(kernel_size=4, padding="causal")),
    "conv_causal_dilated": (29, dict(kernel_size=3, padding="causal", dilation_rate=3)),
    "conv_even": (30, dict(kernel_size=4, padding="same")),
    "conv_even_dilated": (31, dict(kernel_size=4, padding="same", dilation_rate=3)),
    "conv_dilated_valid": (33, dict(kernel_size=3, dilation_rate=5)),
    "conv_stride2_same": (33, dict(kernel_size=5, strides=2, padding="same")),
    "conv_stride3_same_even": (32, dict(kernel_size=4, strides=3, padding="same")),
    "conv_stride2_valid": (31, dict(kernel_size=4, strides=2)),
    "conv_stride_causal": (31, dict(kernel_size=5, strides=2, padding="causal")),
    "conv_stride_beyond_kernel": (31, dict(kernel_size=2, strides=3)),
    "conv_groups": (30, dict(kernel_size=5, padding="same", groups=2)),
    "conv_groups_stride": (30, dict(kernel_size=5, padding="same", groups=2, strides=2)),
    "conv_kernel1": (20, dict(kernel_size=1)),
    "conv_softmax": (25, dict(kernel_size=3, padding="same", activation="softmax")),
    "conv_no_bias": (25, dict(kernel_size=3, padding="same", use_bias=False)),
}
for _name, (_length, _kw) in CONVOLUTIONS.items():
    DESIGNS[_name] = Design(_conv(_length, **_kw))


@design(dense={"conv"})
def conv_custom_activation():
    """A callable that may mix positions, and does."""
    return _stack(21, L.Conv1D(5, 3, padding="same", activation=lambda t: ops.softmax(t, axis=1), name="conv"))


@design()
def conv_transpose_head():
    """BPNet's profile head."""
    x = L.Input((40, 4))
    y = L.Conv1D(8, 5, padding="same", activation="relu")(x)
    y = L.Reshape((-1, 1, 8))(y)
    y = L.Conv2DTranspose(2, (7, 1), padding="same")(y)
    return keras.Model(x, L.Flatten()(y))


@design()
def conv_transpose_stride():
    """Transposed with a stride and an even kernel, valid."""
    x = L.Input((21, 4))
    y = L.Reshape((-1, 1, 4))(x)
    y = L.Conv2DTranspose(3, (4, 1), strides=(2, 1), padding="valid", activation="relu")(y)
    return keras.Model(x, L.Flatten()(y))


# ---------------------------------------------------------------------------------------------- pooling


def _pool(layer, **kw):
    def build():
        x = L.Input((35, 4))
        y = L.Conv1D(6, 4, padding="same", activation="gelu")(x)
        y = layer(name="pool", **kw)(y)
        return keras.Model(x, L.Conv1D(3, 3, padding="same", activation="elu")(y))

    return build


for _kind, _layer in (("max", L.MaxPooling1D), ("average", L.AveragePooling1D)):
    for _label, _kw in {
        "valid": dict(pool_size=3),
        "same": dict(pool_size=4, padding="same"),
        "tail": dict(pool_size=8),
        "overlap": dict(pool_size=5, strides=2),
        "overlap_same": dict(pool_size=5, strides=2, padding="same"),
        "dense_stride1": dict(pool_size=3, strides=1, padding="same"),
        "gaps": dict(pool_size=2, strides=3),
        "gaps_same": dict(pool_size=2, strides=4, padding="same"),
    }.items():
        DESIGNS[f"{_kind}_pool_{_label}"] = Design(_pool(_layer, **_kw))


@design()
def global_max():
    x = L.Input((27, 4))
    y = L.Conv1D(6, 5, padding="same", activation="tanh")(x)
    return keras.Model(x, L.Dense(2)(L.GlobalMaxPooling1D(keepdims=False)(y)))


@design()
def global_pools_keepdims():
    x = L.Input((27, 4))
    y = L.Conv1D(6, 5, activation="tanh")(x)
    a, b = L.GlobalMaxPooling1D(keepdims=True)(y), L.GlobalAveragePooling1D(keepdims=True)(y)
    return keras.Model(x, [a, b])


@design()
def global_max_over_hanging_window():
    """The window hangs over both ends and all activations are negative."""
    x = L.Input((9, 4))
    y = L.Conv1D(5, 7, padding="same", activation="log_softmax")(x)
    return keras.Model(x, L.GlobalMaxPooling1D()(y))


# ---------------------------------------------------------------------------------------------- pointwise


@design()
def activations_along_channels():
    x = y = L.Input((24, 4))
    for name in [
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "silu",
        "sigmoid",
        "hard_sigmoid",
        "tanh",
        "softplus",
        "softsign",
        "exponential",
    ]:
        y = L.Conv1D(4, 2, padding="same", activation=name)(y)
        y = L.BatchNormalization()(y)
    return keras.Model(x, y)


@design()
def activation_layers():
    x = y = L.Input((26, 4))
    for layer in (
        L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.1),
        L.LeakyReLU(),
        L.ELU(),
        L.Activation("softplus"),
        L.Softmax(),
        L.Activation("softmax"),
        L.Activation("log_softmax"),
    ):
        y = layer(L.Conv1D(5, 3, padding="same")(y))
    return keras.Model(x, y)


@design()
def prelu_by_position():
    x = L.Input((23, 4))
    y = L.PReLU(name="alpha_by_position")(L.Conv1D(5, 4, padding="same")(x))
    return keras.Model(x, L.PReLU(shared_axes=[1])(L.Conv1D(3, 3)(y)))


@design()
def normalisations():
    x = L.Input((23, 4))
    y = L.LayerNormalization()(L.Conv1D(5, 4, padding="same")(x))
    y = L.BatchNormalization(axis=1)(L.Conv1D(5, 3, activation="relu")(y))
    y = L.BatchNormalization(scale=False, center=False)(y)
    return keras.Model(x, L.LayerNormalization(epsilon=0.1, center=False)(L.Conv1D(3, 3)(y)))


@design(dense={"ln"})
def layer_norm_over_positions():
    x = L.Input((17, 4))
    y = L.LayerNormalization(axis=(1, 2), name="ln")(L.Conv1D(5, 4, padding="same", name="conv")(x))
    return keras.Model(x, y)


@design(dense={"softmax"})
def softmax_over_positions():
    x = L.Input((17, 4))
    return keras.Model(x, L.Softmax(axis=1, name="softmax")(L.Conv1D(3, 4, padding="same", name="conv")(x)))


@design()
def dropouts():
    x = L.Input((25, 4))
    y = L.Dropout(0.5)(L.Conv1D(5, 4, padding="same", activation="relu")(x))
    y = L.SpatialDropout1D(0.3)(L.GaussianNoise(1.0)(y))
    y = L.Dense(4, activation="relu")(L.GaussianDropout(0.5)(y))
    return keras.Model(x, L.AlphaDropout(0.1)(L.Dropout(0.2)(y)))


@design()
def dense_per_position():
    x = L.Input((21, 4))
    y = L.Dense(7, activation="softmax")(L.Conv1D(5, 4, padding="same", activation="relu")(x))
    return keras.Model(x, L.Dense(2, use_bias=False)(y))


# ---------------------------------------------------------------------------------------------- shape


@design()
def flatten_dense():
    x = L.Input((37, 4))
    y = L.MaxPooling1D(3)(L.Conv1D(6, 5, padding="same", activation="relu")(x))
    y = L.BatchNormalization()(L.Flatten()(y))
    y = L.BatchNormalization()(L.Dense(9, activation="relu")(L.Dropout(0.3)(y)))
    return keras.Model(x, L.Dense(2)(y))


@design()
def flatten_long():
    """Long enough that a chunk's rows are a part of the kernel."""
    x = L.Input((301, 4))
    y = L.MaxPooling1D(2)(L.Conv1D(4, 5, padding="same", activation="relu")(x))
    return keras.Model(x, L.Dense(3, activation="tanh")(L.Flatten()(y)))


@design()
def flatten_output():
    x = L.Input((22, 4))
    y = L.Flatten()(L.Conv1D(1, 5, activation="relu")(x))
    z = L.Flatten()(L.Conv1D(1, 5)(x))
    return keras.Model(x, L.Add()([y, z]))


@design()
def flatten_then_pointwise():
    """BatchNormalization and PReLU on a flattened tensor have parameters for each position."""
    x = L.Input((19, 4))
    y = L.Flatten()(L.Conv1D(3, 5, activation="relu")(x))
    y = L.PReLU()(L.BatchNormalization()(y))
    return keras.Model(x, L.Dense(2)(y))


@design(dense={"softmax"})
def softmax_on_flattened():
    x = L.Input((19, 4))
    y = L.Flatten(name="flatten")(L.Conv1D(2, 5, name="conv")(x))
    return keras.Model(x, L.Activation("softmax", name="softmax")(y))


@design()
def reshapes():
    x = L.Input((24, 4))
    y = L.Reshape((12, 8))(L.Conv1D(4, 3, padding="same", activation="relu")(x))  # coarser
    y = L.Conv1D(6, 3, padding="same", activation="relu")(y)
    y = L.Reshape((36, 2))(y)  # finer
    y = L.Conv1D(3, 2, padding="same")(y)
    y = L.Permute((1, 3, 2))(L.Reshape((36, 1, 3))(y))
    return keras.Model(x, L.Reshape((36, 3))(y))


@design(dense={"reshape", "permute"})
def reshapes_that_mix():
    x = L.Input((12, 4))
    y = L.Conv1D(4, 3, padding="same", activation="relu", name="conv")(x)
    a = L.Reshape((16, 3), name="reshape")(y)
    b = L.Permute((2, 1), name="permute")(y)
    return keras.Model(x, [a, b])


@design()
def crops_pads_upsampling():
    x = L.Input((25, 4))
    y = L.Cropping1D((3, 1))(L.Conv1D(5, 4, padding="same", activation="relu")(x))
    y = L.UpSampling1D(3)(L.ZeroPadding1D((2, 5))(y))
    y = L.Cropping1D(0)(L.Conv1D(4, 4, padding="same", activation="relu")(y))
    return keras.Model(x, L.MaxPooling1D(2)(y))


@design()
def one_sided_crop():
    x = L.Input((25, 4))
    y = L.Conv1D(5, 3, activation="relu")(x)
    return keras.Model(x, L.Cropping1D((9, 0))(y))


# ---------------------------------------------------------------------------------------------- merges


@design()
def residual_dilated():
    x = L.Input((61, 4))
    y = L.Conv1D(6, 7, padding="same", activation="relu")(x)
    for i in range(5):
        z = L.Conv1D(6, 3, padding="same", dilation_rate=2**i, activation="relu")(y)
        y = L.Add()([z, y])
    return keras.Model(x, [L.Conv1D(1, 5, padding="same")(y), L.Dense(1)(L.GlobalAveragePooling1D()(y))])


@design()
def residual_valid_cropped():
    """ChromBPNet in small."""
    x = L.Input((90, 4))
    y = L.Conv1D(6, 7, activation="relu")(x)
    for i in range(1, 4):
        z = L.Conv1D(6, 3, dilation_rate=2**i, activation="relu")(y)
        y = L.Add()([z, L.Cropping1D(2**i)(y)])
    profile = L.Flatten()(L.Cropping1D(2)(L.Conv1D(1, 9)(y)))
    return keras.Model(x, [profile, L.Dense(1)(L.GlobalAveragePooling1D()(y))])


@design()
def merges_of_different_windows():
    x = L.Input((30, 4))
    a = L.Conv1D(5, 7, padding="same", activation="relu")(x)
    b = L.Conv1D(5, 4, padding="causal", activation="tanh")(x)
    c = L.Conv1D(5, 1)(x)
    y = L.Multiply()([L.Maximum()([a, b]), L.Minimum()([b, c])])
    y = L.Subtract()([L.Average()([y, a, c]), b])
    return keras.Model(x, L.Concatenate()([y, L.Add()([y, y]), a]))


@design()
def branches_of_different_speed():
    """Stride against pool, upsampled branch against unpooled tap: windows with different phases."""
    x = L.Input((36, 4))
    fast = L.Conv1D(5, 3, strides=2, padding="same", activation="relu")(x)
    pooled = L.MaxPooling1D(3, strides=2, padding="same")(L.Conv1D(5, 4, padding="same")(x))
    low = L.MaxPooling1D(3)(L.Add()([fast, pooled]))
    up = L.UpSampling1D(3)(L.Conv1D(5, 3, padding="same", activation="relu")(low))
    return keras.Model(x, L.Multiply()([up, fast]))


@design()
def one_branch_cropped_away():
    """Most mutations do not reach the second output at all."""
    x = L.Input((40, 4))
    y = L.Conv1D(5, 3, activation="relu")(x)
    return keras.Model(x, [L.Dense(1)(L.GlobalMaxPooling1D()(y)), L.Cropping1D((15, 15))(y)])


# ---------------------------------------------------------------------------------------------- graphs


@design()
def one_tensor_read_many_times():
    """The step that comes last must not write over what others made of the same memory."""
    x = L.Input((37, 4))
    y = L.Conv1D(6, 5, padding="same")(x)
    same = L.ZeroPadding1D(0)(y)
    twice = L.Add()([y, y])
    scaled = L.BatchNormalization()(y)
    pooled = L.MaxPooling1D(3, 1, padding="same")(y)
    bent = L.ReLU()(y)
    parts = [same, twice, scaled, pooled, bent, L.Add()([same, bent]), L.Subtract()([bent, scaled])]
    y = L.Conv1D(5, 3, activation="relu")(L.Concatenate()(parts))
    return keras.Model(x, [L.GlobalAveragePooling1D()(y), L.Cropping1D(0)(y), L.Dense(2)(L.Flatten()(y))])


@design()
def sequential():
    return keras.Sequential(
        [L.Input((33, 4)), L.Conv1D(5, 4, activation="relu"), L.MaxPooling1D(2), L.Flatten(), L.Dense(3)]
    )


@design()
def nested_and_called_twice():
    shared = L.Conv1D(5, 3, padding="same", activation="relu", name="shared")
    inside = L.Input((30, 5))
    inner = keras.Model(inside, [shared(inside), L.Conv1D(5, 2, padding="same")(inside)], name="inner")
    x = L.Input((30, 4))
    y = L.Conv1D(5, 3, padding="same")(x)
    a, b = inner(y)
    c, d = inner(L.Add()([a, b]))
    tail = keras.Sequential([L.Input((30, 5)), L.Dense(3, activation="relu"), shared_tail()])
    keras.Model(x, shared(y))  # another model on the same layers
    return keras.Model(x, tail(L.Concatenate()([L.Dense(2)(c), L.Dense(3)(d)])))


def shared_tail():
    return L.Conv1D(2, 3, padding="same")


@design(index=1)
def second_input_mutated():
    """A control track added along the positions, a vector joined at the end."""
    track, vector, x = L.Input((26, 2)), L.Input((3,)), L.Input((26, 4))
    y = L.Conv1D(5, 4, padding="same", activation="relu")(x)
    y = L.Concatenate()([y, track])
    y = L.Conv1D(4, 3, padding="same", activation="relu")(y)
    y = L.Multiply()([y, L.Dense(4)(track)])
    z = L.Concatenate()([L.GlobalAveragePooling1D()(y), vector])
    return keras.Model([track, x, vector], [L.Add()([L.Dense(2)(y), track]), L.Dense(1)(z)])


@design()
def dict_outputs():
    x = L.Input((20, 4), name="dna")
    y = L.Conv1D(5, 4, padding="same", activation="relu")(x)
    return keras.Model({"dna": x}, {"profile": L.Conv1D(1, 3)(y), "count": L.Dense(1)(L.GlobalMaxPooling1D()(y))})


@design()
def operations():
    """``keras.ops`` as nodes of the graph."""
    x = L.Input((22, 4))
    y = L.Conv1D(5, 4, padding="same")(x)
    y = ops.relu(y) * 2.0 + ops.gelu(y) - 0.5
    y = keras.activations.silu(1.0 - L.Conv1D(5, 2, padding="same")(y))
    return keras.Model(x, ops.maximum(y, ops.square(y)) / 3.0)


@design()
def recurrent_tail():
    x = L.Input((18, 4))
    y = L.MaxPooling1D(2, name="pool")(L.Conv1D(5, 4, padding="same", activation="relu", name="conv")(x))
    return keras.Model(x, L.Dense(2, name="dense")(L.LSTM(4, name="lstm")(y)))


@design(dense={"attention"})
def attention_and_local_output():
    """One output stays local while the other goes dense."""
    x = L.Input((16, 4))
    y = L.Conv1D(6, 3, padding="same", activation="relu", name="conv")(x)
    z = L.Attention(name="attention")([y, y])
    return keras.Model(x, [L.Dense(2, name="local")(y), L.Dense(1, name="after")(L.Add(name="add")([y, z]))])


@design()
def protein():
    x = L.Input((20, 20))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    return keras.Model(x, L.Dense(2)(L.Flatten()(y)))


@design()
def window_grows_over_everything():
    x = y = L.Input((21, 4))
    for _ in range(4):
        y = L.Conv1D(5, 7, padding="same", activation="relu")(y)
    return keras.Model(x, y)


@design(dense=["few_outputs"])
def window_dearer_than_the_layer():
    """A kernel nearly as long as what it slides over: its change has more products than its outputs have."""
    x = keras.Input((40, 4))
    y = L.Conv1D(6, 21, padding="same", activation="relu", dilation_rate=2, name="wide")(x)
    y = L.Conv1D(5, 37, activation="tanh", name="few_outputs")(y)
    return keras.Model(x, L.GlobalAveragePooling1D()(L.Conv1D(3, 2)(y)))


@design()
def three_pools():
    """Basset in small, lengths that no pool divides."""
    x = y = L.Input((101, 4))
    for filters, k, pool in ((8, 9, 3), (7, 5, 4), (6, 3, 2)):
        y = L.Conv1D(filters, k, padding="same", activation="relu")(y)
        y = L.MaxPooling1D(pool)(L.BatchNormalization()(y))
    return keras.Model(x, L.Dense(2)(L.Dense(6, activation="relu")(L.Flatten()(y))))


# ---------------------------------------------------------------------------------------------- more layers

LAYERS = {
    "separable": (30, lambda: L.SeparableConv1D(6, 5, padding="same", depth_multiplier=2, activation="relu")),
    "separable_stride": (31, lambda: L.SeparableConv1D(6, 4, strides=3, padding="same", activation="tanh")),
    "separable_dilated": (31, lambda: L.SeparableConv1D(6, 4, dilation_rate=3, padding="same")),
    "depthwise": (30, lambda: L.DepthwiseConv1D(5, padding="same", depth_multiplier=2, activation="relu")),
    "depthwise_stride": (31, lambda: L.DepthwiseConv1D(4, strides=2)),
    "depthwise_dilated": (31, lambda: L.DepthwiseConv1D(3, dilation_rate=4, padding="same")),
    "transpose_same": (15, lambda: L.Conv1DTranspose(5, 4, strides=2, padding="same", activation="relu")),
    "transpose_valid": (15, lambda: L.Conv1DTranspose(5, 5, strides=3)),
    "transpose_sparse": (15, lambda: L.Conv1DTranspose(5, 2, strides=3)),
    "transpose_stride1": (15, lambda: L.Conv1DTranspose(5, 4, padding="same")),
    "einsum_dense": (20, lambda: L.EinsumDense("btc,cd->btd", output_shape=(None, 5), bias_axes="d")),
    "einsum_dense_ellipsis": (20, lambda: L.EinsumDense("...c,cd->...d", output_shape=5, activation="relu")),
    "time_distributed": (20, lambda: L.TimeDistributed(L.Dense(5, activation="tanh"))),
    "unit_normalization": (20, lambda: L.UnitNormalization()),
    "rescaling": (20, lambda: L.Rescaling(0.5, offset=0.1)),
}
for _version, _layer, _make in (
    ("rms", "RMSNormalization", lambda: L.RMSNormalization()),
    ("adaptive_max", "AdaptiveMaxPooling1D", lambda: L.AdaptiveMaxPooling1D(7)),
    ("adaptive_average", "AdaptiveAveragePooling1D", lambda: L.AdaptiveAveragePooling1D(9)),
):
    if hasattr(L, _layer) and (_version, keras.backend.backend()) != ("adaptive_max", "jax"):  # Keras gives NaN there
        LAYERS[_version] = (30, _make)


def _one_layer(length, make):
    def build():
        x = L.Input((length, 4))
        y = make()(L.Conv1D(6, 3, padding="same", activation="gelu")(x))
        return keras.Model(x, L.Conv1D(3, 3, padding="same", activation="softplus")(y))

    return build


for _name, (_length, _make) in LAYERS.items():
    DESIGNS[_name] = Design(_one_layer(_length, _make))


@design()
def two_dimensional():
    """2-D layers along an axis of positions."""
    x = L.Input((41, 4))
    y = L.Reshape((41, 4, 1))(x)
    y = L.Conv2D(6, (5, 4), activation="relu")(y)  # the kernel spans the alphabet
    y = L.MaxPooling2D((2, 1))(y)
    y = L.DepthwiseConv2D((3, 1), padding="same")(y)
    y = L.Conv2D(5, (3, 3), padding="same", activation="relu")(y)  # one row of the kernel counts
    y = L.SeparableConv2D(4, (2, 1), padding="same")(y)
    y = L.ZeroPadding2D(((1, 2), (0, 0)))(L.Cropping2D(((1, 0), (0, 0)))(y))
    y = L.AveragePooling2D((3, 1), strides=(2, 1), padding="valid")(L.UpSampling2D((2, 1))(y))
    return keras.Model(x, [L.Flatten()(y), L.GlobalMaxPooling2D()(y), L.GlobalAveragePooling2D()(y)])


@design()
def positions_on_the_second_axis():
    """A sequence as an image of height 1, as the first models on 2-D layers had it."""
    x = keras.Input((40, 4))
    y = L.Reshape((1, 40, 4))(x)
    y = L.Conv2D(6, (1, 5), padding="same", activation="relu", name="conv")(y)
    y = L.MaxPooling2D((1, 2), name="pool")(L.BatchNormalization(name="norm")(y))
    z = L.DepthwiseConv2D((1, 3), padding="same", name="depthwise")(y)
    y = L.Add(name="sum")([y, z])
    y = L.SeparableConv2D(5, (1, 4), padding="same", dilation_rate=(1, 2), activation="gelu", name="separable")(y)
    y = L.AveragePooling2D((1, 3), (1, 2), name="average")(L.Concatenate(name="joined")([y, z]))
    y = L.Conv2DTranspose(4, (1, 4), strides=(1, 2), padding="same", name="transposed")(y)
    y = L.Dense(5, name="each")(ops.relu(y) * 2)
    flat = L.Flatten(name="flat")(y)
    outputs = [L.GlobalAveragePooling2D(name="mean")(y), L.Dense(2, name="dense")(flat), ops.squeeze(y, axis=1)[:, 3:9]]
    return keras.Model(x, outputs)


@design(dense=["settings", "norm"])
def second_axis_where_rules_end():
    x = keras.Input((20, 4))
    y = L.Conv2D(6, (1, 3), padding="same")(ops.expand_dims(x, 1))
    y = L.Conv2D(3, (1, 1))(L.PReLU(name="settings")(y))
    z = L.UnitNormalization(axis=2, name="norm")(L.Conv2D(3, (1, 3), padding="same")(x[:, None]))
    return keras.Model(x, [y, L.Flatten()(z)])


@design()
def strands_joined_along_positions():
    """Forward and reverse complement through one layer, side by side along the positions."""
    x = L.Input((23, 4))
    conv = L.Conv1D(5, 4, padding="same", activation="relu")
    y = L.Concatenate(axis=1)([conv(x), conv(ops.flip(x, axis=(1, 2)))])
    return keras.Model(x, L.Conv1D(3, 3, padding="same")(y))


@design()
def slices():
    x = L.Input((40, 4))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    a, b, c = y[:, 3:-4], y[:, :30:2], ops.flip(y, axis=1)[:, 14:35:3]
    d = L.Dense(3)(y[:, 7])
    e = y[..., 1:4][:, None, :, :][:, 0]
    return keras.Model(x, [L.Conv1D(3, 3)(a), L.Conv1D(3, 3)(b), L.Dense(2)(c), d, e, y[..., 2]])


@design()
def moved():
    x = L.Input((24, 4))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    y = ops.roll(y, 3, axis=1)
    y = ops.pad(y, ((0, 0), (2, 1), (0, 1)), constant_values=0.3)
    y = ops.repeat(y, 2, axis=1)
    y = ops.take(y, [5, 3, 3, 30, 22, 40, 41, 42, 0, 11], axis=1)
    a, b = ops.split(y, 2, axis=1)
    c, d = ops.split(y, [3], axis=2)
    z = ops.concatenate([ops.stack([a, b], axis=3)[..., 0], ops.flip(b, axis=1)], axis=1)
    z = ops.squeeze(ops.expand_dims(ops.transpose(ops.expand_dims(z, 3), (0, 1, 3, 2)), 1), 1)
    return keras.Model(x, [ops.reshape(z, (-1, 10, 7)), ops.tile(c, (1, 2, 1)), d])


@design()
def reductions():
    x = L.Input((24, 4))
    y = L.Conv1D(6, 5, padding="same", activation="tanh")(x)
    out = [
        ops.mean(y, axis=1),
        ops.sum(y, axis=1, keepdims=True),
        ops.max(y, axis=1),
        ops.min(y, axis=-2),
        ops.logsumexp(y, axis=1),
        ops.logsumexp(y, axis=[1, 2]),
        ops.mean(y, axis=(1, 2), keepdims=True),
        ops.sum(y, axis=-1),
        ops.max(y, axis=2, keepdims=True),
    ]
    return keras.Model(x, [L.Dense(2)(out[0]), *out])


@design()
def constants_by_position():
    x = L.Input((24, 4))
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    rng = np.random.default_rng(1)
    floats = keras.config.floatx()
    y = y + rng.normal(size=(24, 6)).astype(floats)
    y = y * rng.normal(size=(1, 24, 1)).astype(floats)
    y = ops.subtract(rng.normal(size=(6,)).astype(floats), ops.maximum(y, rng.normal(size=(24, 6)).astype(floats)))
    y = y * keras.Variable(rng.normal(size=(6,)), dtype=floats) / rng.uniform(1, 2, size=(24, 6)).astype(floats)
    return keras.Model(x, L.Conv1D(3, 3)(y))


@design()
def operations_of_channels():
    x = L.Input((24, 4))
    floats = keras.config.floatx()
    rng = np.random.default_rng(1)
    y = L.Conv1D(6, 5, padding="same", activation="relu")(x)
    y = ops.matmul(y, rng.normal(size=(6, 5)).astype(floats))
    y = ops.softmax(ops.einsum("blc,cd->bld", y, rng.normal(size=(5, 6)).astype(floats)), axis=-1)
    y = ops.where(y > 0.1, y, 0.5 * y) + ops.cast(ops.greater(y, 0.2), floats)
    y = ops.conv(y, rng.normal(size=(3, 6, 4)).astype(floats), padding="same")
    y = ops.gelu(ops.max_pool(y, 2, 2)) - ops.average_pool(y, 2, 2)
    y = ops.cumsum(y, axis=-1) / 2.0
    return keras.Model(x, [y, ops.einsum("blc,blc->bl", y, y), ops.var(y, axis=-1)])


@design()
def squeeze_excite():
    """A global gate times a local map, beside the local map."""
    x = L.Input((21, 4))
    y = L.Conv1D(5, 4, padding="same", activation="relu")(x)
    gate = L.Dense(5, activation="sigmoid")(L.Dense(3, activation="silu")(ops.mean(y, axis=1)))
    z = L.Multiply()([y, gate])
    return keras.Model(x, L.Conv1D(3, 3, padding="same")(L.Concatenate()([z, y])))


@design()
def deep_crop():
    """SpliceAI in small: what the crop discards need not be computed."""
    x = L.Input((120, 4))
    y = skip = L.Conv1D(5, 1)(x)
    for k, d in ((5, 1), (7, 3)):
        z = L.Activation("relu")(L.BatchNormalization()(y))
        z = L.Activation("relu")(L.Conv1D(5, k, dilation_rate=d, padding="same")(z))
        y = L.Add()([y, L.Conv1D(5, k, dilation_rate=d, padding="same")(z)])
        skip = L.Add()([skip, L.Conv1D(5, 1)(y)])
    return keras.Model(x, L.Conv1D(3, 1, activation="softmax")(L.Cropping1D((50, 45))(skip)))


@design()
def strided_and_cropped():
    x = L.Input((121, 4))
    y = L.MaxPooling1D(2)(L.Conv1D(6, 7, padding="same", activation="relu")(x))
    y = L.Conv1D(6, 5, strides=2, padding="same", activation="relu")(y)
    y = L.Conv1D(6, 5, dilation_rate=3, padding="same", activation="relu")(y)
    return keras.Model(x, L.Cropping1D((11, 13))(y))


def _recurrent(make):
    def build():
        x = L.Input((26, 4))
        y = L.MaxPooling1D(2)(L.Conv1D(5, 4, padding="same", activation="relu")(x))
        return keras.Model(x, L.Dense(2)(make()(y)))

    return build


for _name, _make in {
    "lstm_sequences": lambda: L.LSTM(4, return_sequences=True),
    "lstm_backwards": lambda: L.LSTM(4, go_backwards=True, recurrent_activation="tanh"),
    "gru_backwards_sequences": lambda: L.GRU(4, go_backwards=True, return_sequences=True),
    "gru_before": lambda: L.GRU(4, reset_after=False, use_bias=False),
    "simple_rnn": lambda: L.SimpleRNN(4, dropout=0.2, recurrent_dropout=0.2),
    "bidirectional": lambda: L.Bidirectional(L.LSTM(4)),
    "bidirectional_sequences": lambda: L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode="ave"),
    "bidirectional_product": lambda: L.Bidirectional(L.SimpleRNN(4, return_sequences=True), merge_mode="mul"),
}.items():
    DESIGNS[_name] = Design(_recurrent(_make))
