"""Models of long sequences: Basenji2, Akita up to its two-dimensional part, Enformer, Borzoi."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from .architecture import Architecture, by_name
from .custom import (
    AttentionPool1D,
    PointwiseResidual,
    RelativeAttention,
    Scale,
    StochasticReverseComplement,
    StochasticShift,
    SwitchReverse,
    sigmoid_gelu,
)


def _seqnn_block(
    x: Any,
    filters: int,
    kernel: int,
    name: str,
    activation: Callable[[Any], Any],
    *,
    dilation: int = 1,
    pool: int = 1,
    dropout: float = 0.0,
    skip: Any = None,
) -> Any:
    """Basenji's order: activation, convolution, normalisation, dropout, residual, pool."""
    x = layers.Conv1D(filters, kernel, dilation_rate=dilation, padding="same", use_bias=False, name=name)(activation(x))
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    if dropout:
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    if skip is not None:
        x = layers.Add(name=f"{name}_add")([skip, x])
    return layers.MaxPooling1D(pool, padding="same", name=f"{name}_pool")(x) if pool > 1 else x


def _seqnn_dilated(x: Any, filters: int, dilations: Sequence[int], activation: Callable[[Any], Any]) -> Any:
    for i, dilation in enumerate(dilations):
        y = _seqnn_block(x, filters, 3, f"dilated{i}", activation, dilation=dilation)
        x = _seqnn_block(y, x.shape[-1], 1, f"back{i}", activation, dropout=0.3, skip=x)
    return x


# ---------------------------------------------------------------------------------------------------- Basenji2


def basenji2_species(
    *,
    length: int = 131072,
    stem: int = 288,
    tower: Sequence[int] = (339, 399, 470, 554, 652, 768),
    filters: int = 384,
    dilations: Sequence[int] = (1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72),
    crop: int = 64,
    last: int = 1536,
    targets: Sequence[int] = (5313, 1643),
    activation: Callable[[Any], Any] = sigmoid_gelu,
    augment: bool = False,
) -> list[keras.Model]:
    """Basenji2 with a head for each species on a shared trunk, one model object each.

    Args:
        targets: Units of the heads: human, mouse.
        activation: A bare function, so its operations are nodes of the graph; the first sees the one-hot sequence.
        augment: Whether reverse complement and shift by chance are built in, which do nothing at inference.
    """
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    if augment:
        x, reverse = StochasticReverseComplement(name="augment_rc")(x)
        x = StochasticShift(3, name="augment_shift")(x)
    x = _seqnn_block(x, stem, 15, "stem", activation, pool=2)
    for i, width in enumerate(tower):
        x = _seqnn_block(x, width, 5, f"tower{i}", activation, pool=2)
    x = _seqnn_dilated(x, filters, dilations, activation)
    x = layers.Cropping1D(crop, name="crop")(x)
    x = _seqnn_block(x, last, 1, "last", activation, dropout=0.05)
    x = activation(x)
    models = []
    for species, units in zip(("human", "mouse"), targets, strict=True):
        y = layers.Dense(units, activation="softplus", name=f"head_{species}")(x)
        y = SwitchReverse(name=f"{species}_switch")([y, reverse]) if augment else y
        models.append(keras.Model(sequence, y, name=f"basenji2_{species}"))
    return models


def basenji2(*, species: int = 0, **kwargs: Any) -> keras.Model:
    """One of the models of :func:`basenji2_species`; the layers of the other live on in the same graph."""
    return basenji2_species(**kwargs)[species]


def akita_trunk(
    *,
    length: int = 2**20,
    filters: int = 96,
    tower: int = 10,
    dilated_filters: int = 48,
    dilations: Sequence[int] = (1, 2, 3, 5, 9, 16, 29, 50),
    last: int = 64,
) -> keras.Model:
    """Akita's one-dimensional part, before positions are paired."""
    sequence = keras.Input((length, 4), name="sequence")
    x = _seqnn_block(sequence, filters, 11, "stem", keras.activations.relu, pool=2)
    for i in range(tower):
        x = _seqnn_block(x, filters, 5, f"tower{i}", keras.activations.relu, pool=2)
    x = _seqnn_dilated(x, dilated_filters, dilations, keras.activations.relu)
    x = _seqnn_block(x, last, 5, "last", keras.activations.relu)
    return keras.Model(sequence, keras.activations.relu(x), name="akita_trunk")


# --------------------------------------------------------------------------------------- Enformer and Borzoi


def _block(x: Any, filters: int, kernel: int, name: str) -> Any:
    """Normalisation, gelu, convolution."""
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.Activation("gelu", name=f"{name}_gelu")(x)
    return layers.Conv1D(filters, kernel, padding="same", name=name)(x)


def _residual(x: Any, name: str) -> Any:
    return layers.Add(name=f"{name}_add")([x, _block(x, x.shape[-1], 1, name)])


def _transformer(x: Any, attention: Callable[[Any, str], Any], count: int, *, scale: bool = False) -> Any:
    """``count`` times: attention, then a feed-forward pair, each normalised first and added to its input."""

    def add(x: Any, y: Any, name: str) -> Any:
        y = layers.Dropout(0.4, name=f"{name}_dropout")(y)
        y = Scale(name=f"{name}_scale")(y) if scale else y
        return layers.Add(name=f"{name}_add")([x, y])

    channels = x.shape[-1]
    for i in range(count):
        y = layers.LayerNormalization(name=f"block{i}_mha_ln")(x)
        x = add(x, attention(y, f"block{i}_mha"), f"block{i}_mha")
        y = layers.LayerNormalization(name=f"block{i}_ffn_ln")(x)
        y = layers.Dense(2 * channels, name=f"block{i}_ffn0")(y)
        y = layers.Dropout(0.4, name=f"block{i}_ffn_dropout0")(y)
        y = layers.ReLU(name=f"block{i}_ffn_relu")(y)
        x = add(x, layers.Dense(channels, name=f"block{i}_ffn1")(y), f"block{i}_ffn")
    return x


def _heads(x: Any, targets: Sequence[int]) -> list[Any]:
    return [layers.Conv1D(n, 1, activation="softplus", name=f"head{i}")(x) for i, n in enumerate(targets)]


def enformer(
    *,
    length: int = 196608,
    stem: int = 768,
    tower: Sequence[int] = (768, 896, 1024, 1152, 1280, 1536),
    blocks: int = 11,
    heads: int = 8,
    key_size: int = 64,
    value_size: int = 192,
    features: int = 192,
    crop: int = 320,
    last: int = 3072,
    targets: Sequence[int] = (5313,),
) -> keras.Model:
    """Enformer as CREsted has it: attention pools and relative-position attention as custom layers."""
    sequence = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(stem, 15, padding="same", name="stem")(sequence)
    x = AttentionPool1D(2, name="stem_pool")(_residual(x, "stem_pointwise"))
    for i, width in enumerate(tower):
        x = _residual(_block(x, width, 5, f"tower{i}"), f"tower{i}_pointwise")
        x = AttentionPool1D(2, name=f"tower{i}_pool")(x)

    def attention(y: Any, name: str) -> Any:
        return RelativeAttention(heads, key_size, value_size, features, name=name)(y)

    x = _transformer(x, attention, blocks)
    x = layers.Cropping1D(crop, name="crop")(x)
    x = layers.Dropout(0.05, name="last_dropout")(_block(x, last, 1, "last"))
    x = layers.Activation("gelu", name="last_act")(x)
    return keras.Model(sequence, _heads(x, targets), name="enformer")


def enformer_basenji(
    *,
    length: int = 196608,
    stem: int = 512,
    tower: Sequence[int] = (608, 736, 896, 1056, 1280, 1536),
    blocks: int = 8,
    heads: int = 8,
    key_size: int = 64,
    value_size: int = 192,
    crop: int = 320,
    last: int = 3072,
    targets: Sequence[int] = (5313,),
    composite: bool = False,
) -> keras.Model:
    """Enformer as basenji has it: maximum pools, a learned scale before each sum, Keras's own attention.

    ``composite`` makes each pointwise residual one custom layer with its own sub-layers.
    """

    def pointwise(x: Any, name: str) -> Any:
        return PointwiseResidual(name=name)(x) if composite else _residual(x, name)

    sequence = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(stem, 15, padding="same", name="stem")(sequence)
    x = layers.MaxPooling1D(2, padding="same", name="stem_pool")(pointwise(x, "stem_pointwise"))
    for i, width in enumerate(tower):
        x = pointwise(_block(x, width, 5, f"tower{i}"), f"tower{i}_pointwise")
        x = layers.MaxPooling1D(2, padding="same", name=f"tower{i}_pool")(x)

    def attention(y: Any, name: str) -> Any:
        return layers.MultiHeadAttention(heads, key_size, value_dim=value_size, name=name)(y, y)

    x = _transformer(x, attention, blocks, scale=True)
    x = layers.Cropping1D(crop, name="crop")(x)
    x = layers.Dropout(0.05, name="last_dropout")(_block(x, last, 1, "last"))
    x = layers.Activation("gelu", name="last_act")(x)
    return keras.Model(sequence, _heads(x, targets), name="enformer_basenji")


def borzoi(
    *,
    length: int = 524288,
    stem: int = 512,
    tower: Sequence[int] = (608, 736, 896, 1056, 1280, 1536),
    blocks: int = 8,
    heads: int = 8,
    key_size: int = 64,
    value_size: int = 192,
    features: int = 192,
    crop: int = 5120,
    last: int = 1920,
    targets: Sequence[int] = (7611,),
) -> keras.Model:
    """Borzoi: the last two tower blocks are tapped before their pools and added back after upsampling."""
    sequence = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(stem, 15, padding="same", name="stem")(sequence)
    x = layers.MaxPooling1D(2, padding="same", name="stem_pool")(x)
    taps = []
    for i, width in enumerate(tower):
        x = _block(x, width, 5, f"tower{i}")
        taps.append(x)
        x = layers.MaxPooling1D(2, padding="same", name=f"tower{i}_pool")(x)
    width = tower[-1]
    skips = [_block(tap, width, 1, f"tap{i}") for i, tap in enumerate(taps[-2:])]

    def attention(y: Any, name: str) -> Any:
        return RelativeAttention(heads, key_size, value_size, features, name=name)(y)

    x = _transformer(x, attention, blocks)
    for i, skip in enumerate(reversed(skips)):
        x = layers.UpSampling1D(2, name=f"up{i}")(_block(x, width, 1, f"up{i}_conv"))
        x = layers.Add(name=f"up{i}_add")([x, skip])
        x = layers.SeparableConv1D(width, 3, padding="same", name=f"up{i}_separable")(x)
    x = layers.Cropping1D(crop, name="crop")(x)
    x = layers.Dropout(0.1, name="last_dropout")(_block(x, last, 1, "last"))
    x = layers.Activation("gelu", name="last_act")(x)
    return keras.Model(sequence, _heads(x, targets), name="borzoi")


# --------------------------------------------------------------------------------------------------- registry

_BASENJI2 = dict(length=256, stem=8, tower=(6, 6, 8), filters=4, dilations=(1, 2, 3), crop=2, last=12, targets=(5, 4))
_BASENJI2_LOCAL = frozenset({"stem", "tower", "dilated", "back", "crop", "last", "head"})
_ATTENTION = dict(blocks=2, heads=2, key_size=4, value_size=4)
_TOWER_LOCAL = frozenset({"stem", "tower", "block0_mha_ln"})

ARCHITECTURES = by_name(
    Architecture(
        "basenji2",
        basenji2,
        partial(basenji2, **_BASENJI2),
        in_speedup=26.6,
        local=_BASENJI2_LOCAL,
        note="activation as operations, the first on the one-hot sequence; never dense",
    ),
    Architecture(
        "basenji2_mouse",
        partial(basenji2, species=1, activation=ops.gelu),
        partial(basenji2, species=1, activation=ops.gelu, **_BASENJI2),
        local=_BASENJI2_LOCAL,
        note="shares its trunk with another model; keras.ops.gelu",
    ),
    Architecture(
        "basenji2_augmented",
        partial(basenji2, augment=True),
        partial(basenji2, augment=True, **_BASENJI2),
        local=_BASENJI2_LOCAL | {"augment"},
        dense_from="human_switch",
        note="custom layers that do nothing at inference, one with a scalar boolean as second output; in truth local "
        "to the end, but SwitchReverse selects by a tensor",
    ),
    Architecture(
        "akita_trunk",
        akita_trunk,
        partial(akita_trunk, length=256, filters=4, tower=3, dilated_filters=3, dilations=(1, 2, 3), last=5),
        local=frozenset({"stem", "tower", "dilated", "back", "last"}),
        note="keras.activations.relu as operations",
    ),
    Architecture(
        "enformer",
        enformer,
        partial(enformer, length=128, stem=4, tower=(6, 8), features=12, crop=3, last=10, targets=(4, 3), **_ATTENTION),
        in_speedup=4.7,
        local=_TOWER_LOCAL,
        dense_from="block0_mha",
        note="attention pools are windows inside a custom layer; two heads",
    ),
    Architecture(
        "enformer_basenji",
        enformer_basenji,
        partial(enformer_basenji, length=128, stem=4, tower=(6, 8), crop=3, last=10, targets=(4,), **_ATTENTION),
        in_speedup=3.6,
        local=_TOWER_LOCAL,
        dense_from="block0_mha",
        note="MultiHeadAttention takes one tensor twice",
    ),
    Architecture(
        "enformer_composite",
        partial(enformer_basenji, composite=True),
        partial(
            enformer_basenji,
            length=128,
            stem=4,
            tower=(6, 8),
            crop=3,
            last=10,
            targets=(4,),
            composite=True,
            **_ATTENTION,
        ),
        in_speedup=3.6,
        local=_TOWER_LOCAL,
        dense_from="block0_mha",
        note="pointwise residuals are composite layers",
    ),
    Architecture(
        "borzoi",
        borzoi,
        partial(borzoi, length=192, stem=4, tower=(4, 6, 8), features=12, crop=10, last=7, targets=(4,), **_ATTENTION),
        in_speedup=2.3,
        local=_TOWER_LOCAL | {"tap"},
        dense_from="block0_mha",
        note="local taps are added to a dense map; separable convolutions",
    ),
)
