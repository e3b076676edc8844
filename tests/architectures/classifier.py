"""Convolutions, pools and a dense or recurrent end: DeepSTARR, Basset as basenji has it, DeepSEA-Beluga, DanQ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers, ops

from .architecture import Architecture, by_name


def deepstarr(
    *,
    length: int = 249,
    filters: Sequence[int] = (256, 60, 60, 120),
    kernels: Sequence[int] = (7, 3, 5, 3),
    units: int = 256,
) -> keras.Model:
    """DeepSTARR: pools of 2 that drop an odd last position; two outputs."""
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    for i, (width, kernel) in enumerate(zip(filters, kernels, strict=True)):
        x = layers.Conv1D(width, kernel, padding="same", name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"conv{i}_bn")(x)
        x = layers.Activation("relu", name=f"conv{i}_relu")(x)
        x = layers.MaxPooling1D(2, name=f"conv{i}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for i in range(2):
        x = layers.Dense(units, name=f"fc{i}")(x)
        x = layers.BatchNormalization(name=f"fc{i}_bn")(x)
        x = layers.Activation("relu", name=f"fc{i}_relu")(x)
        x = layers.Dropout(0.4, name=f"fc{i}_dropout")(x)
    outputs = [layers.Dense(1, name=name)(x) for name in ("developmental", "housekeeping")]
    return keras.Model(sequence, outputs, name="deepstarr")


def basset_basenji(
    *,
    length: int = 1344,
    stem: int = 288,
    tower: Sequence[int] = (288, 323, 363, 407, 456, 512),
    bottleneck: int = 256,
    units: int = 768,
    targets: int = 164,
) -> keras.Model:
    """Basset in basenji: the map folded into one position, on which Dense looks local but is not."""
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    for i, (width, kernel, pool) in enumerate([(stem, 17, 3), *((width, 5, 2) for width in tower), (bottleneck, 1, 1)]):
        x = ops.gelu(x) if i else x
        x = layers.Conv1D(width, kernel, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"conv{i}_bn")(x)
        if pool > 1:
            x = layers.MaxPooling1D(pool, padding="same", name=f"conv{i}_pool")(x)
    x = ops.gelu(x)
    x = layers.Reshape((1, x.shape[1] * x.shape[2]), name="fold")(x)
    x = layers.Dense(units, use_bias=False, name="fc0")(x)
    x = layers.BatchNormalization(name="fc0_bn")(x)
    x = layers.Dropout(0.2, name="fc0_dropout")(x)
    x = layers.Dense(targets, activation="sigmoid", name="fc1")(ops.gelu(x))
    return keras.Model(sequence, x, name="basset_basenji")


def beluga(
    *,
    length: int = 2000,
    filters: Sequence[int] = (320, 480, 640),
    kernel: int = 8,
    units: int = 2003,
    targets: int = 2002,
) -> keras.Sequential:
    """DeepSEA-Beluga: a Sequential of even, valid convolutions."""
    model = keras.Sequential([keras.Input((length, 4), name="sequence")], name="beluga")
    for i, width in enumerate(filters):
        for j in range(2):
            model.add(layers.Conv1D(width, kernel, name=f"conv{i}{j}"))
            model.add(layers.Activation("relu", name=f"conv{i}{j}_relu"))
        model.add(layers.Dropout(0.2, name=f"conv{i}_dropout"))
        if i < len(filters) - 1:
            model.add(layers.MaxPooling1D(4, name=f"conv{i}_pool"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(units, name="fc0"))
    model.add(layers.Activation("relu", name="fc0_relu"))
    model.add(layers.Dense(targets, name="fc1"))
    model.add(layers.Activation("sigmoid", name="fc1_sigmoid"))
    return model


def danq(
    *,
    length: int = 1000,
    filters: int = 320,
    kernel: int = 26,
    pool: int = 13,
    states: int = 320,
    units: int = 925,
    targets: int = 919,
) -> keras.Model:
    """DanQ: one convolution and pool, a bidirectional LSTM, two dense layers."""
    sequence = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(filters, kernel, activation="relu", name="conv")(sequence)
    x = layers.MaxPooling1D(pool, strides=pool, name="conv_pool")(x)
    x = layers.Dropout(0.2, name="conv_dropout")(x)
    x = layers.Bidirectional(layers.LSTM(states, return_sequences=True), name="bilstm")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(units, activation="relu", name="fc0")(x)
    return keras.Model(sequence, layers.Dense(targets, activation="sigmoid", name="fc1")(x), name="danq")


_CONV = frozenset({"conv"})

ARCHITECTURES = by_name(
    Architecture(
        "deepstarr",
        deepstarr,
        partial(deepstarr, length=61, filters=(6, 4, 4, 5), units=8),
        in_speedup=19.4,
        local=_CONV | {"flatten"},
        dense_from="fc0",
        note="odd lengths before valid pools; two outputs",
    ),
    Architecture(
        "basset_basenji",
        basset_basenji,
        partial(basset_basenji, length=192, stem=8, tower=(6, 6, 8, 8), bottleneck=6, units=16, targets=5),
        in_speedup=20,
        local=_CONV,
        dense_from="fc0",
        note="Reshape to (1, T * C), then Dense on a tensor of rank 3: a window there is one position of one",
    ),
    Architecture(
        "beluga",
        beluga,
        partial(beluga, length=180, filters=(4, 5, 6), kernel=4, units=9, targets=7),
        in_speedup=38,
        local=_CONV | {"flatten"},
        dense_from="fc0",
        note="Sequential; even kernels",
    ),
    Architecture(
        "danq",
        danq,
        partial(danq, length=100, filters=8, kernel=8, states=6, units=12, targets=4),
        local=_CONV,
        dense_from="bilstm",
        note="a pool of 13 that drops the tail",
    ),
)
