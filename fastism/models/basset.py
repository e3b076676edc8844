"""Basset: accessibility of DNA from three convolutions and two fully connected layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def basset_model(
    seqlen: int = 1000, numchars: int = 4, num_outputs: int = 1, name: str = "basset_model"
) -> keras.Model:
    """Build Basset, with random weights.

    Layer sizes are the paper's. Normalisation follows the activation, there is no dropout, and the output is
    linear::

        sequence (1000, 4)
          conv1 300 x 19, relu -> BatchNorm -> MaxPool 3      (333, 300)
          conv2 200 x 11, relu -> BatchNorm -> MaxPool 4      (83, 200)
          conv3 200 x 7,  relu -> BatchNorm -> MaxPool 4      (20, 200)
          Flatten                                             (4000,)
          fc1 1000, relu -> BatchNorm
          fc2 1000, relu -> BatchNorm
          fc3 num_outputs

    Args:
        seqlen: Length of the input in bases, at least 48 (the product of the pool sizes).
        numchars: Alphabet size.
        num_outputs: Number of output units.
        name: Name of the model.

    Returns:
        A model from one-hot sequences ``(N, seqlen, numchars)`` to logits ``(N, num_outputs)``.

    References:
        Kelley, Snoek and Rinn, "Basset: learning the regulatory code of the accessible genome with deep
        convolutional neural networks", Genome Research 26, 990-999 (2016).

    Example:
        >>> basset_model(seqlen=100).output_shape
        (None, 1)
    """
    sequence = keras.Input((seqlen, numchars))
    features = sequence
    for layer, filters, kernel_size, pool_size in (
        ("conv1", 300, 19, 3),
        ("conv2", 200, 11, 4),
        ("conv3", 200, 7, 4),
    ):
        features = layers.Conv1D(filters, kernel_size, padding="same", activation="relu", name=layer)(features)
        features = layers.BatchNormalization()(features)
        features = layers.MaxPooling1D(pool_size)(features)
    return keras.Model(sequence, dense_head(features, num_outputs), name=name)


def dense_head(features: Any, num_outputs: int) -> Any:
    """Build the head that Basset and Factorized Basset share.

    Flatten, two hidden layers of 1000 units with batch normalisation, and a linear output layer.

    Args:
        features: Keras tensor of a feature map, ``(N, T, C)``.
        num_outputs: Units of the output layer.

    Returns:
        Keras tensor of the logits, ``(N, num_outputs)``.
    """
    hidden = layers.Flatten()(features)
    for name in ("fc1", "fc2"):
        hidden = layers.Dense(1000, activation="relu", name=name)(hidden)
        hidden = layers.BatchNormalization()(hidden)
    return layers.Dense(num_outputs, name="fc3")(hidden)
