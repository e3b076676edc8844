"""Custom layers of published models, in ``keras.ops`` alone, and the loose functions they use for activations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

_register = keras.saving.register_keras_serializable("fastism_architectures")


def sigmoid_gelu(x: Any) -> Any:
    """Basenji's GELU, ``x * sigmoid(1.702 x)``: three nodes in a graph."""
    return ops.sigmoid(1.702 * x) * x


@_register
class CountsLogSumExp(layers.Layer):
    """``log(exp(a) + exp(b))`` of two positional tensors (BPReveal)."""

    def call(self, first: Any, second: Any) -> Any:
        top = ops.maximum(first, second)
        return top + ops.log(ops.exp(first - top) + ops.exp(second - top))


@_register
class Scale(layers.Layer):
    """A learned factor for each channel, zero at first (basenji)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="scale")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale


@_register
class StochasticReverseComplement(layers.Layer):
    """Reverse complement by a coin flip while training. Gives the sequence and whether it was reversed (basenji)."""

    def __init__(self, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> tuple[Any, Any]:
        if not training:
            return inputs, ops.zeros((), dtype="bool")
        reverse = keras.random.uniform((), seed=self.seed_generator) > 0.5
        return ops.where(reverse, ops.flip(inputs, axis=(1, 2)), inputs), reverse

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@_register
class SwitchReverse(layers.Layer):
    """Turns predictions back: takes ``[predictions, whether reversed]`` (basenji)."""

    def call(self, inputs: list[Any]) -> Any:
        predictions, reverse = inputs
        return ops.where(reverse, ops.flip(predictions, axis=1), predictions)


@_register
class StochasticShift(layers.Layer):
    """A shift by up to ``most`` positions, filled with zeros, while training (basenji)."""

    def __init__(self, most: int = 3, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.most, self.seed = most, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return inputs
        shift = keras.random.randint((), -self.most, self.most + 1, seed=self.seed_generator)
        length = inputs.shape[1]
        come_from = ops.arange(length, dtype="int32") - ops.cast(shift, "int32")
        moved = ops.take(inputs, ops.clip(come_from, 0, length - 1), axis=1)
        inside = ops.logical_and(come_from >= 0, come_from < length)
        return moved * ops.cast(inside, inputs.dtype)[None, :, None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "most": self.most, "seed": self.seed}


@_register
class AttentionPool1D(layers.Layer):
    """A mean of each ``size`` positions with softmax weights, channel by channel, of ``x @ kernel`` (Enformer)."""

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, length, channels = input_shape
        if length is None or length % self.size:
            raise ValueError(f"{self.name}: the length is {length}; a multiple of {self.size} is needed.")
        self.kernel = self.add_weight(shape=(channels, channels), initializer="glorot_uniform", name="kernel")

    def call(self, inputs: Any) -> Any:
        _, length, channels = inputs.shape
        grouped = ops.reshape(inputs, (-1, length // self.size, self.size, channels))
        weights = ops.softmax(ops.matmul(grouped, self.kernel), axis=2)
        return ops.sum(grouped * weights, axis=2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@_register
class RelativeAttention(layers.Layer):
    """Multi-head self-attention whose logits also depend on the distance of two positions (Enformer).

    Args:
        heads: Number of heads.
        key_size, value_size: Features of a head.
        features: Functions of the distance, a multiple of 6.
    """

    def __init__(self, heads: int = 8, key_size: int = 64, value_size: int = 192, features: int = 192, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads, self.key_size, self.value_size, self.features = heads, key_size, value_size, features

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, self.length, channels = input_shape
        if self.length is None:
            raise ValueError(f"{self.name}: the length must be known.")
        keys, values = self.heads * self.key_size, self.heads * self.value_size
        for name, shape in (
            ("query_kernel", (channels, keys)),
            ("key_kernel", (channels, keys)),
            ("value_kernel", (channels, values)),
            ("distance_kernel", (self.features, keys)),
            ("output_kernel", (values, channels)),
        ):
            setattr(self, name, self.add_weight(shape=shape, initializer="glorot_uniform", name=name))
        for name, shape in (
            ("content_bias", (self.heads, 1, self.key_size)),
            ("distance_bias", (self.heads, 1, self.key_size)),
            ("output_bias", (channels,)),
        ):
            setattr(self, name, self.add_weight(shape=shape, initializer="zeros", name=name))
        self.distances = distance_features(self.length, self.features)

    def call(self, inputs: Any) -> Any:
        length = self.length
        query = self._by_head(ops.matmul(inputs, self.query_kernel), self.key_size) * self.key_size**-0.5
        key = self._by_head(ops.matmul(inputs, self.key_kernel), self.key_size)
        value = self._by_head(ops.matmul(inputs, self.value_kernel), self.value_size)
        distances = ops.cast(ops.convert_to_tensor(self.distances), inputs.dtype)
        place = ops.reshape(ops.matmul(distances, self.distance_kernel), (-1, self.heads, self.key_size))
        place = ops.transpose(place, (1, 2, 0))  # (H, K, 2T - 1)
        near = _skewed(ops.matmul(query + self.distance_bias, place), length, self.heads)
        logits = ops.matmul(query + self.content_bias, ops.transpose(key, (0, 1, 3, 2))) + near
        mixed = ops.matmul(ops.softmax(logits, axis=-1), value)  # (N, H, T, value_size)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, length, self.heads * self.value_size))
        return ops.matmul(mixed, self.output_kernel) + self.output_bias

    def _by_head(self, x: Any, size: int) -> Any:
        """(N, T, H * size) -> (N, H, T, size)."""
        return ops.transpose(ops.reshape(x, (-1, self.length, self.heads, size)), (0, 2, 1, 3))

    def get_config(self) -> dict[str, Any]:
        own = dict(heads=self.heads, key_size=self.key_size, value_size=self.value_size, features=self.features)
        return {**super().get_config(), **own}


def _skewed(x: Any, length: int, heads: int) -> Any:
    """(N, H, T, 2T - 1) by distance -> (N, H, T, T) by position: entry (i, j) is x[i, j - i + T - 1]."""
    padded = ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
    line = ops.reshape(padded, (-1, heads, 2 * length * length))
    line = line[:, :, length - 1 : length - 1 + length * (2 * length - 1)]
    return ops.reshape(line, (-1, heads, length, 2 * length - 1))[:, :, :, :length]


def distance_features(length: int, features: int) -> np.ndarray:
    """(2 * length - 1, features) functions of the distances 1 - length .. length - 1.

    A sixth each are exponential decays, steps and gamma densities; the other half is these times the sign.
    """
    count = features // 6
    signed = np.arange(1 - length, length)[:, None]
    distance = np.abs(signed).astype("float64")
    decays = 0.5 ** (distance / 2 ** np.linspace(3, np.log2(max(length, 9)), count))
    steps = distance < 2.0 ** np.arange(1, count + 1) - 1
    mean, deviation = np.linspace(length / count, length, count), length / (2 * count)
    shape, rate = (mean / deviation) ** 2, mean / deviation**2
    logs = (shape - 1) * np.log(np.maximum(distance, 1e-8)) - rate * distance
    densities = np.exp(logs - logs.max(axis=0))
    even = np.concatenate([decays, steps, densities], axis=1)
    return np.concatenate([even, np.sign(signed) * even], axis=1).astype("float32")


@_register
class PointwiseResidual(layers.Layer):
    """``x + Conv1D(gelu(BatchNormalization(x)))`` with kernel 1, as one composite layer (fastISM's notebook)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.normalize = layers.BatchNormalization(name="bn")
        self.convolve = layers.Conv1D(input_shape[-1], 1, padding="same", name="conv")
        self.normalize.build(input_shape)
        self.convolve.build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs + self.convolve(ops.gelu(self.normalize(inputs, training=training)))
