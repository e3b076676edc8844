"""BPNet with dense connections: every layer reads the sum of all earlier feature maps."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

_TRACKS = 2  # the two strands
_PROFILE_KERNEL = 75


def bpnet_dense_model(inlen: int = 1346, outlen: int = 1000, filters: int = 32, ndl: int = 6) -> keras.Model:
    """Build a densely connected BPNet with control tracks, with random weights.

    Convolutions are unpadded. Before each dilated layer's output is added, every earlier map is cropped to
    its length; the sum of all of them feeds the next layer::

        sequence (1346, 4)
          1st_conv 21, relu                                     (1326, 32) = map 0
          for i = 0 .. 5:
            map i+1 = conv 3, dilation 2**(i+1), relu, of the sum of maps 0 .. i, cropped to one length
          combined_conv = sum of all maps                       (1074, 32)
            conv 75 -> crop  (1000, 2) --Concatenate control_profile  (1000, 2)-- conv 1 = profile_predictions
            mean over length (32,)     --Concatenate control_logcount (2,)------- dense = logcount_predictions

    Args:
        inlen: Length of the input sequence, in bases.
        outlen: Length of the profiles and of the control profile, in bases.
        filters: Channels of the feature maps.
        ndl: Number of dilated layers.

    Returns:
        A model with the inputs ``sequence (N, inlen, 4)``, ``control_profile (N, outlen, 2)`` and
        ``control_logcount (N, 2)``, of which the first is the one to mutate, and a list of two outputs:
        profile logits ``(N, outlen, 2)`` and log counts ``(N, 2)``.

    Raises:
        ValueError: If the unpadded layers leave fewer than ``outlen`` positions of ``inlen``, or ``ndl`` is
            below 1.

    References:
        Avsec et al., "Base-resolution models of transcription-factor binding reveal soft motif syntax",
        Nature Genetics 53, 354-366 (2021), for the architecture that this one varies.

    Example:
        >>> bpnet_dense_model(inlen=200, outlen=50, ndl=2).output_shape
        [(None, 50, 2), (None, 2)]
    """
    if ndl < 1:
        raise ValueError(f"ndl is {ndl}; at least one dilated layer is needed.")
    # 1st_conv takes 20 positions, dilated layer i 2 * 2**(i+1), the profile convolution 74
    surplus = inlen - 20 - sum(2 ** (i + 2) for i in range(ndl)) - (_PROFILE_KERNEL - 1) - outlen
    if surplus < 0:
        raise ValueError(
            f"inlen={inlen} with ndl={ndl} leaves {outlen + surplus} profile positions; outlen={outlen} "
            f"needs inlen of at least {inlen - surplus}."
        )
    sequence = keras.Input((inlen, 4), name="sequence")
    control_profile = keras.Input((outlen, _TRACKS), name="control_profile")
    control_logcount = keras.Input((_TRACKS,), name="control_logcount")

    combined = _densely_connected(sequence, filters, ndl)
    profile = layers.Conv1D(_TRACKS, _PROFILE_KERNEL, name="profile_out_prebias")(combined)
    crop = (surplus // 2, surplus - surplus // 2)
    profile = layers.Cropping1D(crop, name="prof_out_crop2match_output")(profile)
    profile = layers.Concatenate(name="concat_with_bias_prof")([profile, control_profile])
    profile = layers.Conv1D(_TRACKS, 1, name="profile_predictions")(profile)

    counts = layers.GlobalAveragePooling1D(name="gap")(combined)
    counts = layers.Concatenate(name="concat_with_bias_cnts")([counts, control_logcount])
    counts = layers.Dense(_TRACKS, name="logcount_predictions")(counts)
    return keras.Model([sequence, control_profile, control_logcount], [profile, counts], name="bpnet_dense_model")


def _densely_connected(sequence: Any, filters: int, ndl: int) -> Any:
    """Sum of the maps of the first convolution and of all dilated layers, ``(N, T, filters)``."""
    combined = layers.Conv1D(filters, 21, activation="relu", name="1st_conv")(sequence)
    maps = {"1stconv": combined}
    for index in range(ndl):
        dilation = 2 ** (index + 1)
        layer = f"{index}_dilconv"
        dilated = layers.Conv1D(filters, 3, dilation_rate=dilation, activation="relu", name=layer)(combined)
        maps = {
            name: layers.Cropping1D(dilation, name=f"{name}-crop_{index + 1}th_dconv")(earlier)
            for name, earlier in maps.items()
        }
        maps[layer] = dilated
        combined = layers.Add(name="combined_conv" if index == ndl - 1 else None)(list(maps.values()))
    return combined
