"""Factorized Basset: Basset with its wide convolutions split into stacks of narrow ones."""

from __future__ import annotations

import keras
from keras import layers

from fastism.models.basset import dense_head

_STACKS = (  # (name, filters, kernel size) of each convolution, then the pool size
    ((("conv1a", 48, 3), ("conv1b", 64, 3), ("conv1c", 100, 3), ("conv1d", 150, 7), ("conv1e", 300, 7)), 3),
    ((("conv2a", 200, 7), ("conv2b", 200, 3), ("conv2c", 200, 3)), 4),
    ((("conv3", 200, 7),), 4),
)


def factorized_basset_model(
    seqlen: int = 1000, numchars: int = 4, num_outputs: int = 1, name: str = "factorized_basset_model"
) -> keras.Model:
    """Build Factorized Basset, with random weights.

    Every convolution is followed by BatchNorm and ReLU. The stacks see as far as Basset's single convolutions
    do (19, 11 and 7 positions)::

        sequence (1000, 4)
          conv1a 48 x 3, conv1b 64 x 3, conv1c 100 x 3, conv1d 150 x 7, conv1e 300 x 7 -> MaxPool 3 (333, 300)
          conv2a 200 x 7, conv2b 200 x 3, conv2c 200 x 3                               -> MaxPool 4 (83, 200)
          conv3 200 x 7                                                                -> MaxPool 4 (20, 200)
          Flatten                                                                                   (4000,)
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
        Wnuk et al., "Deep learning implicitly handles tissue specific phenomena to predict tumor DNA
        accessibility and immune activity", iScience 20, 119-136 (2019), which improves on Kelley, Snoek and
        Rinn's Basset (2016).

    Example:
        >>> factorized_basset_model(seqlen=100).output_shape
        (None, 1)
    """
    sequence = keras.Input((seqlen, numchars))
    features = sequence
    for stack, pool_size in _STACKS:
        for layer, filters, kernel_size in stack:
            features = layers.Conv1D(filters, kernel_size, padding="same", name=layer)(features)
            features = layers.BatchNormalization()(features)
            features = layers.ReLU()(features)
        features = layers.MaxPooling1D(pool_size)(features)
    return keras.Model(sequence, dense_head(features, num_outputs), name=name)
