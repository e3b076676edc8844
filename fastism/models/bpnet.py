"""BPNet: base-resolution profiles and counts from dilated residual convolutions."""

from __future__ import annotations

import keras
from keras import layers

_FILTERS = 64


def bpnet_model(
    seqlen: int = 1000,
    numchars: int = 4,
    num_dilated_convs: int = 9,
    num_tasks: int = 1,
    name: str = "bpnet_model",
) -> keras.Model:
    """Build BPNet without control tracks, with random weights.

    The dilation doubles with every residual convolution, so the last feature map sees most of a 1 kb input::

        sequence (1000, 4)
          Conv 64 x 25, relu                       (1000, 64)
          num_dilated_convs times, i = 0, 1, ...:
            +-- Conv 64 x 3, dilation 2**i, relu --+
            +--------------------------------------Add
          for each task:
            Reshape (1000, 1, 64) -> Conv2DTranspose 1 x (25, 1) -> Flatten     profile (1000,)
            GlobalAveragePooling -> Dense 1                                     counts (1,)

    Args:
        seqlen: Length of the input and of the profiles, in bases.
        numchars: Alphabet size.
        num_dilated_convs: Number of residual convolutions.
        num_tasks: Number of pairs of output heads.
        name: Name of the model.

    Returns:
        A model from one-hot sequences ``(N, seqlen, numchars)`` to a list of ``2 * num_tasks`` outputs:
        profile logits ``(N, seqlen)`` and log counts ``(N, 1)`` of the first task, then of the second, and so
        on.

    References:
        Avsec et al., "Base-resolution models of transcription-factor binding reveal soft motif syntax",
        Nature Genetics 53, 354-366 (2021).

    Example:
        >>> bpnet_model(seqlen=50, num_dilated_convs=2, num_tasks=2).output_shape
        [(None, 50), (None, 1), (None, 50), (None, 1)]
    """
    sequence = keras.Input((seqlen, numchars))
    features = layers.Conv1D(_FILTERS, 25, padding="same", activation="relu")(sequence)
    for index in range(num_dilated_convs):
        dilated = layers.Conv1D(_FILTERS, 3, padding="same", dilation_rate=2**index, activation="relu")(features)
        features = layers.Add()([dilated, features])

    outputs = []
    for _ in range(num_tasks):
        columns = layers.Reshape((-1, 1, _FILTERS))(features)  # (N, L, 1, C)
        profile = layers.Conv2DTranspose(1, (25, 1), padding="same")(columns)
        counts = layers.Dense(1)(layers.GlobalAveragePooling1D()(features))
        outputs += [layers.Flatten()(profile), counts]
    return keras.Model(sequence, outputs, name=name)
