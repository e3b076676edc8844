"""The model zoo of CREsted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from .architecture import Architecture, by_name


def _conv(
    x: Any,
    filters: int,
    kernel: int,
    name: str,
    *,
    activation: str = "relu",
    padding: str = "same",
    pool: int = 0,
    pool_padding: str = "same",
    residual: bool = False,
    dropout: float = 0.0,
    **kwargs: Any,
) -> Any:
    """Convolution, normalisation, activation; then residual, pool and dropout if asked for."""
    y = layers.Conv1D(filters, kernel, padding=padding, use_bias=False, name=name, **kwargs)(x)
    y = layers.BatchNormalization(name=f"{name}_bn")(y)
    y = layers.Activation(activation, name=f"{name}_act")(y)
    if residual:
        y = layers.Add(name=f"{name}_add")([x, y])
    if pool:
        y = layers.MaxPooling1D(pool, padding=pool_padding, name=f"{name}_pool")(y)
    return layers.Dropout(dropout, name=f"{name}_dropout")(y) if dropout else y


def _dense(x: Any, units: int, name: str) -> Any:
    x = layers.Dense(units, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.Activation("relu", name=f"{name}_act")(x)
    return layers.Dropout(0.3, name=f"{name}_dropout")(x)


def deeptopic_cnn(
    *,
    length: int = 500,
    filters: Sequence[int] = (1024, 512, 512, 512, 512),
    kernels: Sequence[int] = (17, 11, 11, 5, 2),
    pools: Sequence[int] = (4, 4, 4, 4, 0),
    residual: Sequence[bool] = (False, False, False, True, True),
    units: int = 1024,
    topics: int = 80,
) -> keras.Model:
    """Convolutions with 'same' pools, the last two residual, the very last with an even kernel."""
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    for i, (width, kernel, pool, adds) in enumerate(zip(filters, kernels, pools, residual, strict=True)):
        activation = "relu" if i else "gelu"
        x = _conv(x, width, kernel, f"conv{i}", activation=activation, pool=pool, residual=adds, dropout=0.1)
    x = _dense(layers.Flatten(name="flatten")(x), units, "fc0")
    return keras.Model(sequence, layers.Dense(topics, activation="sigmoid", name="fc1")(x), name="deeptopic_cnn")


def deeptopic_lstm(
    *,
    length: int = 500,
    filters: int = 300,
    kernel: int = 30,
    pool: int = 15,
    stride: int = 5,
    states: int = 128,
    units: int = 256,
    topics: int = 80,
) -> keras.Model:
    """Convolution, overlapping pool, a dense layer at each position, a bidirectional LSTM."""
    sequence = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(filters, kernel, activation="relu", name="conv")(sequence)
    x = layers.MaxPooling1D(pool, strides=stride, name="conv_pool")(x)
    x = layers.Dropout(0.1, name="conv_dropout")(x)
    x = layers.TimeDistributed(layers.Dense(states, activation="relu"), name="each")(x)
    x = layers.Bidirectional(layers.LSTM(states, return_sequences=True), name="bilstm")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(units, activation="relu", name="fc0")(x)
    return keras.Model(sequence, layers.Dense(topics, activation="sigmoid", name="fc1")(x), name="deeptopic_lstm")


def dilated_cnn(
    *,
    length: int = 2114,
    filters: int = 512,
    kernel: int = 5,
    pool: int = 0,
    dilated: int = 8,
    classes: int = 19,
    decoupled: bool = False,
) -> keras.Model:
    """Valid dilated convolutions and the mean over positions; if ``decoupled``, a Dense for every class."""
    sequence = keras.Input((length, 4), name="sequence")
    x = _conv(sequence, filters, kernel, "conv", activation="gelu", pool=pool)
    for i in range(1, dilated + 1):
        y = _conv(x, filters, 3, f"dilated{i}", padding="valid", dilation_rate=2**i)
        x = layers.Cropping1D((x.shape[1] - y.shape[1]) // 2, name=f"crop{i}")(x)
        x = layers.Add(name=f"add{i}")([y, x])
        x = layers.Dropout(0.1, name=f"dropout{i}")(x)
    x = layers.GlobalAveragePooling1D(name="gap")(x)
    if decoupled:
        parts = [layers.Dense(1, activation="softplus", name=f"class{i}")(x) for i in range(classes)]
        x = layers.Concatenate(axis=-1, name="outputs")(parts)
    else:
        x = layers.Dense(classes, activation="softplus", name="outputs")(x)
    return keras.Model(sequence, x, name="dilated_cnn_decoupled" if decoupled else "dilated_cnn")


def simple_convnet(
    *,
    length: int = 500,
    filters: Sequence[int] = (192, 256, 512),
    kernels: Sequence[int] = (13, 7, 7),
    pools: Sequence[int] = (8, 2, 2),
    units: int = 256,
    topics: int = 80,
    flatten: bool = True,
) -> keras.Model:
    """Three valid convolutions, the first with an exponential activation."""
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    for i, (width, kernel, pool) in enumerate(zip(filters, kernels, pools, strict=True)):
        x = _conv(
            x,
            width,
            kernel,
            f"conv{i}",
            activation="swish" if i else "exponential",
            padding="valid",
            pool=pool,
            pool_padding="valid",
            dropout=0.2,
        )
    x = layers.Flatten(name="flatten")(x) if flatten else layers.GlobalAveragePooling1D(name="gap")(x)
    for i in range(2):
        x = _dense(x, units, f"fc{i}")
    return keras.Model(sequence, layers.Dense(topics, activation="sigmoid", name="fc2")(x), name="simple_convnet")


def crested_basenji(
    *,
    length: int = 2114,
    stem: int = 256,
    filters: int = 128,
    dilations: Sequence[int] = (1, 2, 2, 3, 5, 8, 11, 17, 26, 38, 58),
    last: int = 2048,
    classes: int = 19,
) -> keras.Model:
    """A short Basenji: normalisation and gelu on the one-hot sequence itself, every block normalised first."""

    def block(x: Any, width: int, kernel: int, name: str, dilation: int = 1) -> Any:
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.Activation("gelu", name=f"{name}_act")(x)
        return layers.Conv1D(width, kernel, dilation_rate=dilation, padding="same", use_bias=False, name=name)(x)

    sequence = keras.Input((length, 4), name="sequence")
    x = block(sequence, stem, 15, "stem")
    x = layers.MaxPooling1D(2, padding="same", name="stem_pool")(x)
    for i, dilation in enumerate(dilations):
        y = block(x, filters, 3, f"dilated{i}", dilation)
        y = block(y, stem, 1, f"back{i}")
        y = layers.Dropout(0.3, name=f"back{i}_dropout")(y)
        x = layers.Add(name=f"add{i}")([x, y])
    x = block(x, last, 1, "last")
    x = layers.Dropout(0.05, name="last_dropout")(x)
    x = layers.Activation("gelu", name="last_gelu")(x)
    x = layers.GlobalAveragePooling1D(name="gap")(x)
    return keras.Model(
        sequence, layers.Dense(classes, activation="softplus", name="outputs")(x), name="crested_basenji"
    )


def legnet(
    *,
    length: int = 230,
    stem: int = 64,
    stages: Sequence[int] = (80, 96, 112, 128),
    expand: int = 4,
    last: int = 256,
    units: int = 256,
    targets: int = 1,
) -> keras.Model:
    """Inverted bottlenecks with squeeze and excitation: a mean over all positions scales every channel.

    The means are ``keras.ops``; the gate of rank 2 is multiplied with a map of rank 3.
    """
    sequence = keras.Input((length, 4), name="sequence")
    x = _conv(sequence, stem, 5, "stem", activation="swish")
    for i, width in enumerate(stages):
        before, channels = x, x.shape[-1]
        wide = expand * channels
        x = _conv(x, wide, 1, f"stage{i}_wide", activation="swish")
        x = _conv(x, wide, 3, f"stage{i}_depth", activation="swish", groups=wide)
        gate = ops.mean(x, axis=1)
        gate = layers.Dense(channels, activation="swish", name=f"stage{i}_squeeze")(gate)
        gate = layers.Dense(wide, activation="sigmoid", name=f"stage{i}_excite")(gate)
        x = layers.Multiply(name=f"stage{i}_gate")([x, gate])
        x = _conv(x, channels, 1, f"stage{i}_narrow", activation="swish")
        x = layers.Concatenate(name=f"stage{i}_concat")([x, before])
        x = _conv(x, width, 3, f"stage{i}_mix", activation="swish", pool=2, pool_padding="valid")
    x = layers.BatchNormalization(name="last_bn")(x)
    x = ops.mean(layers.Conv1D(last, 1, name="last")(x), axis=1)
    x = layers.Dense(units, use_bias=False, name="fc0")(x)
    x = layers.BatchNormalization(name="fc0_bn")(x)
    x = layers.Activation("swish", name="fc0_act")(x)
    return keras.Model(sequence, layers.Dense(targets, name="outputs")(x), name="legnet")


def tutorial_cnn(
    *, length: int = 2114, filters: Sequence[int] = (128, 256), kernels: Sequence[int] = (15, 7), classes: int = 19
) -> keras.Model:
    """The network of CREsted's tutorial."""
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    for i, (width, kernel, pool) in enumerate(zip(filters, kernels, (8, 4), strict=True)):
        x = layers.Conv1D(width, kernel, padding="same", activation="relu", name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"conv{i}_bn")(x)
        x = layers.MaxPooling1D(pool, name=f"conv{i}_pool")(x)
    x = layers.GlobalAveragePooling1D(name="gap")(x)
    return keras.Model(sequence, layers.Dense(classes, activation="softplus", name="outputs")(x), name="tutorial_cnn")


_CONV = frozenset({"conv"})
_DILATED = frozenset({"conv", "dilated", "crop", "add", "dropout"})
_SMALL_DILATED = dict(length=110, filters=4, dilated=4, classes=3)

ARCHITECTURES = by_name(
    Architecture(
        "deeptopic_cnn",
        deeptopic_cnn,
        partial(deeptopic_cnn, length=290, filters=(6, 4, 4, 4, 4), units=8, topics=5),
        in_speedup=18.6,
        local=_CONV | {"flatten"},
        dense_from="fc0",
        note="'same' pools of values below zero; an even 'same' kernel at the end",
    ),
    Architecture(
        "deeptopic_lstm",
        deeptopic_lstm,
        partial(deeptopic_lstm, length=80, filters=8, kernel=10, states=6, units=12, topics=4),
        in_speedup=3.6,
        local=_CONV | {"each"},
        dense_from="bilstm",
        note="a pool of 15 with stride 5; TimeDistributed; the figure counts an LSTM that is resumed at the edit",
    ),
    Architecture(
        "dilated_cnn",
        dilated_cnn,
        partial(dilated_cnn, **_SMALL_DILATED),
        in_speedup=21.4,
        local=_DILATED,
    ),
    Architecture(
        "dilated_cnn_decoupled",
        partial(dilated_cnn, decoupled=True),
        partial(dilated_cnn, **{**_SMALL_DILATED, "length": 221}, pool=2, decoupled=True),
        in_speedup=21.4,
        local=_DILATED,
        note="many outputs of one unit, concatenated; small: with the optional pool",
    ),
    Architecture(
        "simple_convnet",
        simple_convnet,
        partial(simple_convnet, length=121, filters=(4, 5, 6), kernels=(7, 3, 3), units=6, topics=4),
        in_speedup=10.6,
        local=_CONV | {"flatten"},
        dense_from="fc0",
        note="exponential activation; valid pools that drop the tail",
    ),
    Architecture(
        "crested_basenji",
        crested_basenji,
        partial(crested_basenji, length=101, stem=8, filters=6, dilations=(1, 2, 2, 3), last=12, classes=4),
        in_speedup=7.8,
        local=frozenset({"stem", "dilated", "back", "add", "last"}),
        note="gelu of the normalised one-hot sequence",
    ),
    Architecture(
        "legnet",
        legnet,
        partial(legnet, length=44, stem=3, stages=(4, 3, 4, 5), last=6, units=5, targets=2),
        in_speedup=1.1,
        local=frozenset({"stem", "stage0_wide", "stage0_depth"}),
        dense_from="stage0_gate",
        note="depthwise convolutions; keras.ops.mean; a gate of rank 2; untouched maps concatenated",
    ),
    Architecture(
        "tutorial_cnn",
        tutorial_cnn,
        partial(tutorial_cnn, length=130, filters=(6, 5), classes=3),
        in_speedup=108,
        local=_CONV,
    ),
)
