"""Models of RNA: SpliceAI and Saluki."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers

from .architecture import Architecture, by_name


def spliceai(
    *,
    length: int | None = 15000,
    filters: int = 32,
    stages: Sequence[tuple[int, int]] = ((11, 1), (11, 4), (21, 10), (41, 25)),
    units: int = 4,
    crop: int = 5000,
) -> keras.Model:
    """SpliceAI-10k: residual units in stages of (kernel, dilation), each of which adds to a skip sum.

    Args:
        length: Of the input; None leaves it open.
        units: Residual units in a stage.
        crop: Positions cut from each end before the output.
    """
    sequence = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(filters, 1, name="conv")(sequence)
    skip = layers.Conv1D(filters, 1, name="skip")(x)
    for i, (kernel, dilation) in enumerate(stages):
        for j in range(units):
            y, prefix = x, f"unit{i * units + j}"
            for k in range(2):
                y = layers.BatchNormalization(name=f"{prefix}_bn{k}")(y)
                y = layers.Activation("relu", name=f"{prefix}_relu{k}")(y)
                y = layers.Conv1D(filters, kernel, dilation_rate=dilation, padding="same", name=f"{prefix}_conv{k}")(y)
            x = layers.Add(name=f"{prefix}_add")([y, x])
        skip = layers.Add(name=f"skip{i}_add")([skip, layers.Conv1D(filters, 1, name=f"skip{i}")(x)])
    skip = layers.Cropping1D((crop, crop), name="crop")(skip)
    outputs = layers.Conv1D(3, 1, activation="softmax", name="outputs")(skip)
    return keras.Model(sequence, outputs, name="spliceai")


def saluki(
    *,
    length: int = 12288,
    channels: int = 6,
    filters: int = 64,
    kernel: int = 5,
    blocks: int = 6,
) -> keras.Model:
    """Saluki: half-life from a transcript's bases, coding frame and splice sites, by a backward GRU."""
    sequence = keras.Input((length, channels), name="sequence")
    x = layers.Conv1D(filters, kernel, name="conv")(sequence)
    for i in range(blocks):
        x = layers.LayerNormalization(name=f"block{i}_ln")(x)
        x = layers.ReLU(name=f"block{i}_relu")(x)
        x = layers.Conv1D(filters, kernel, name=f"block{i}_conv")(x)
        x = layers.Dropout(0.3, name=f"block{i}_dropout")(x)
        x = layers.MaxPooling1D(2, name=f"block{i}_pool")(x)
    x = layers.LayerNormalization(name="last_ln")(x)
    x = layers.ReLU(name="last_relu")(x)
    x = layers.GRU(filters, go_backwards=True, name="gru")(x)
    x = layers.BatchNormalization(name="bn0")(x)
    x = layers.ReLU(name="relu0")(x)
    x = layers.Dense(filters, name="dense")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    return keras.Model(sequence, layers.Dense(1, name="halflife")(x), name="saluki")


_SPLICEAI = dict(filters=4, stages=((3, 1), (3, 2), (5, 2), (5, 3)), crop=104)
_SPLICEAI_LOCAL = frozenset({"conv", "unit", "skip", "crop", "outputs"})

ARCHITECTURES = by_name(
    Architecture(
        "spliceai",
        spliceai,
        partial(spliceai, length=240, **_SPLICEAI),
        in_speedup=5.6,
        local=_SPLICEAI_LOCAL,
        note="never dense; the crop discards most of what is computed",
    ),
    Architecture(
        "spliceai_short",
        partial(spliceai, length=10101),
        partial(spliceai, length=219, **_SPLICEAI),
        in_speedup=4.0,
        local=_SPLICEAI_LOCAL,
        note="few outputs in the centre",
    ),
    Architecture(
        "spliceai_any_length",
        partial(spliceai, length=None),
        partial(spliceai, length=None, **_SPLICEAI),
        local=_SPLICEAI_LOCAL,
        note="the length is unknown when the model is built",
        length=225,
    ),
    Architecture(
        "saluki",
        saluki,
        partial(saluki, length=150, filters=4, blocks=4),
        in_speedup=279,
        local=frozenset({"conv", "block", "last"}),
        dense_from="gru",
        note="six channels, of which an edit may change four; the figure counts a GRU that is resumed at the edit",
    ),
)
