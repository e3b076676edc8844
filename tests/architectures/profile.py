"""Base-resolution profiles and counts from dilated residual convolutions: ChromBPNet, BPNet, BPReveal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from .architecture import Architecture, by_name
from .custom import CountsLogSumExp


def _trunk(x: Any, filters: int, kernel: int, dilated: int) -> Any:
    """Valid convolutions: ``conv``, then ``dilated1``, ... with dilations 2, 4, ... and a residual cropped to match."""
    x = layers.Conv1D(filters, kernel, activation="relu", name="conv")(x)
    for i in range(1, dilated + 1):
        y = layers.Conv1D(filters, 3, dilation_rate=2**i, activation="relu", name=f"dilated{i}")(x)
        x = layers.Cropping1D((x.shape[1] - y.shape[1]) // 2, name=f"crop{i}")(x)
        x = layers.Add(name=f"add{i}")([y, x])
    return x


# ------------------------------------------------------------------------------------------------- ChromBPNet


def chrombpnet(
    *,
    length: int = 2114,
    out_length: int = 1000,
    filters: int = 512,
    kernel: int = 21,
    profile_kernel: int = 75,
    dilated: int = 8,
    name: str = "chrombpnet",
) -> keras.Model:
    """Trunk, profile logits ``(N, out_length)`` and log count ``(N, 1)``; the bias model has other sizes only."""
    sequence = keras.Input((length, 4), name="sequence")
    x = _trunk(sequence, filters, kernel, dilated)
    profile = layers.Conv1D(1, profile_kernel, name="profile_conv")(x)
    profile = layers.Cropping1D((profile.shape[1] - out_length) // 2, name="profile_crop")(profile)
    profile = layers.Flatten(name="profile")(profile)
    count = layers.Dense(1, name="count")(layers.GlobalAveragePooling1D(name="gap")(x))
    return keras.Model(sequence, [profile, count], name=name)


def chrombpnet_bias(*, filters: int = 128, dilated: int = 4, **kwargs: Any) -> keras.Model:
    """The bias model: shallower, so that its profile is cropped."""
    return chrombpnet(filters=filters, dilated=dilated, name="bias", **kwargs)


def chrombpnet_full(
    *, filters: int = 512, dilated: int = 8, bias_filters: int = 128, bias_dilated: int = 4, **kwargs: Any
) -> keras.Model:
    """Bias and accessibility models nested in one: profiles added, counts added in linear space."""
    bias = chrombpnet_bias(filters=bias_filters, dilated=bias_dilated, **kwargs)
    accessibility = chrombpnet(filters=filters, dilated=dilated, name="accessibility", **kwargs)
    sequence = keras.Input(bias.input_shape[1:], name="sequence")
    bias_profile, bias_count = bias(sequence)
    profile, count = accessibility(sequence)
    profile = layers.Add(name="profile_sum")([profile, bias_profile])
    counts = layers.Concatenate(axis=-1, name="counts")([count, bias_count])
    return keras.Model(sequence, [profile, ops.logsumexp(counts, axis=-1, keepdims=True)], name="chrombpnet_full")


# ------------------------------------------------------------------------------------------------------ BPNet


class ProfileModel(keras.Model):
    """A functional model whose class has a constructor of its own, as in bpnet."""

    def __init__(self, tasks: Sequence[tuple[int, int]], **kwargs: Any):
        super().__init__(**kwargs)
        self.tasks = tuple(tasks)


def bpnet(
    *,
    length: int = 2114,
    out_length: int = 1000,
    tasks: Sequence[tuple[int, int]] = ((2, 2),),
    filters: int = 64,
    kernels: Sequence[int] = (21,),
    profile_kernel: int = 75,
    dilated: int = 8,
    padding: str = "valid",
    relu_first: bool = True,
    hidden_counts: Sequence[int] = (),
    custom_class: bool = False,
) -> keras.Model:
    """BPNet with control tracks.

    Args:
        tasks: Tracks and control tracks of each task. A task with controls has two further inputs: ``(out_length,
            controls)`` beside its profile, ``(controls,)`` log counts beside its counts.
        kernels: Of the convolutions before the dilated ones.
        relu_first: Whether the residual branch is convolution of relu rather than relu of convolution.
        hidden_counts: Units of layers from all positions to the counts; if empty, the mean over positions is taken.
        custom_class: Whether the model is of a subclass of ``keras.Model``.
    """
    sequence = keras.Input((length, 4), name="sequence")
    x = sequence
    for i, kernel in enumerate(kernels):
        activation = None if i == len(kernels) - 1 and relu_first else "relu"
        x = layers.Conv1D(filters, kernel, padding=padding, activation=activation, name=f"conv{i}")(x)
    for i in range(1, dilated + 1):
        y = layers.ReLU(name=f"relu{i}")(x) if relu_first else x
        y = layers.Conv1D(filters, 3, dilation_rate=2**i, padding=padding, name=f"dilated{i}")(y)
        if not relu_first:
            y = layers.ReLU(name=f"relu{i}")(y)
        if padding == "valid":
            x = layers.Cropping1D((x.shape[1] - y.shape[1]) // 2, name=f"crop{i}")(x)
        x = layers.Add(name=f"add{i}")([y, x])
    if relu_first:
        x = layers.ReLU(name="relu_last")(x)

    total = sum(tracks for tracks, _ in tasks)
    profile = layers.Conv1D(total, profile_kernel, padding=padding, name="profile_conv")(x)
    profile = layers.Cropping1D((profile.shape[1] - out_length) // 2, name="profile_crop")(profile)
    if hidden_counts:
        counts = layers.Flatten(name="flatten")(x)
        for i, units in enumerate(hidden_counts):
            counts = layers.Dropout(0.2, name=f"counts_dropout{i}")(counts)
            counts = layers.Dense(units, name=f"counts_hidden{i}")(counts)
            counts = layers.LeakyReLU(name=f"counts_relu{i}")(counts)
    else:
        counts = layers.GlobalAveragePooling1D(name="gap")(x)
    counts = layers.Dense(total, name="counts_dense")(counts)

    inputs, profiles, logcounts, first = [sequence], [], [], 0
    for i, (tracks, controls) in enumerate(tasks):
        own_profile, own_counts = profile[:, :, first : first + tracks], counts[:, first : first + tracks]
        first += tracks
        if controls:
            profile_bias = keras.Input((out_length, controls), name=f"profile_bias{i}")
            counts_bias = keras.Input((controls,), name=f"counts_bias{i}")
            inputs += [profile_bias, counts_bias]
            both = layers.Concatenate(name=f"profile_concat{i}")([own_profile, profile_bias])
            own_profile = layers.Conv1D(tracks, 1, name=f"profile_mix{i}")(both)
            both = [own_counts, ops.logsumexp(counts_bias, axis=-1, keepdims=True)]
            own_counts = layers.Dense(tracks, name=f"counts_mix{i}")(layers.Concatenate(name=f"counts_concat{i}")(both))
        profiles.append(own_profile)
        logcounts.append(own_counts)
    if len(tasks) > 1:
        profiles = [layers.Concatenate(name="profiles")(profiles)]
        logcounts = [layers.Concatenate(name="logcounts")(logcounts)]
    outputs = [*profiles, *logcounts]
    if custom_class:
        return ProfileModel(tasks, inputs=inputs, outputs=outputs, name="bpnet")
    return keras.Model(inputs, outputs, name="bpnet")


# --------------------------------------------------------------------------------------------------- BPReveal


def bpreveal_solo(
    *,
    length: int = 3092,
    heads: Sequence[int] = (2, 2, 2, 2),
    filters: int = 64,
    kernel: int = 25,
    profile_kernel: int = 25,
    dilated: int = 9,
    name: str = "solo",
) -> keras.Model:
    """All profiles ``(N, T, tracks)``, then all log counts ``(N, 1)``; ``heads`` are the numbers of tracks."""
    sequence = keras.Input((length, 4), name=f"{name}_sequence")
    x = _trunk(sequence, filters, kernel, dilated)
    profiles, counts = [], []
    for i, tracks in enumerate(heads):
        profiles.append(layers.Conv1D(tracks, profile_kernel, name=f"profile{i}")(x))
        counts.append(layers.Dense(1, name=f"count{i}")(layers.GlobalAveragePooling1D(name=f"gap{i}")(x)))
    return keras.Model(sequence, [*profiles, *counts], name=name)


def bpreveal_transformation(
    *, kinds: Sequence[str] = ("linear", "sigmoid", "relu"), name: str = "transformation", **kwargs: Any
) -> keras.Model:
    """A solo model with every output passed through learned scalar functions, whose values are added."""
    solo = bpreveal_solo(**kwargs)
    outputs = []
    for i, output in enumerate(solo.outputs):
        terms = []
        for kind in kinds:
            term = _regression(output, f"output{i}_{kind}_in")
            if kind != "linear":
                term = layers.Activation(kind, name=f"output{i}_{kind}")(term)
                term = _regression(term, f"output{i}_{kind}_out")
            terms.append(term)
        outputs.append(layers.Add(name=f"output{i}_sum")(terms) if len(terms) > 1 else terms[0])
    return keras.Model(solo.inputs, outputs, name=name)


def _regression(x: Any, name: str) -> Any:
    """``a x + b`` with two scalars, by a convolution over all values in one line."""
    line = layers.Reshape((-1, 1), name=f"{name}_unfold")(x)
    line = layers.Conv1D(1, 1, name=name)(line)
    return layers.Reshape(x.shape[1:], name=f"{name}_fold")(line)


def bpreveal_combined(
    *,
    length: int = 3092,
    heads: Sequence[int] = (2, 2, 2, 2),
    filters: int = 64,
    dilated: int = 9,
    bias_filters: int = 64,
    bias_dilated: int = 9,
    **kwargs: Any,
) -> keras.Model:
    """A residual model extended by a nested bias model, which sees the sequence cropped to the length it needs."""
    residual = bpreveal_solo(length=length, heads=heads, filters=filters, dilated=dilated, name="residual", **kwargs)
    crop = sum(2**i for i in range(bias_dilated + 1, dilated + 1))
    bias = bpreveal_transformation(
        kinds=("linear",),
        name="bias",
        length=length - 2 * crop,
        heads=heads,
        filters=bias_filters,
        dilated=bias_dilated,
        **kwargs,
    )
    cropped = layers.Cropping1D(crop, name="sequence_crop")(residual.inputs[0])
    biases = bias([cropped])
    profiles, counts = [], []
    for i in range(len(heads)):
        pair = [residual.outputs[i], biases[i]]
        profiles.append(layers.Add(name=f"profile_sum{i}")(pair))
        own, of_bias = residual.outputs[len(heads) + i], biases[len(heads) + i]
        counts.append(CountsLogSumExp(name=f"count_sum{i}")(own, of_bias))
    return keras.Model(residual.inputs, [*profiles, *counts], name="combined")


# --------------------------------------------------------------------------------------------------- registry

_TRUNK = frozenset({"conv", "dilated", "crop", "add"})
_CHROMBPNET = dict(length=120, out_length=46, kernel=7, profile_kernel=9)
_BPNET = dict(
    length=120, out_length=46, tasks=((2, 2), (1, 0), (2, 1)), filters=4, kernels=(7,), profile_kernel=9, dilated=4
)
_BPREVEAL = dict(length=110, heads=(2, 1), filters=4, kernel=7, profile_kernel=5, dilated=4)
_FIVE_TASKS = ((1, 1),) * 5
_BPNET_LOCAL = frozenset({"conv0", "dilated", "crop", "add", "relu", "profile"})

ARCHITECTURES = by_name(
    Architecture(
        "chrombpnet",
        chrombpnet,
        partial(chrombpnet, filters=4, dilated=4, **_CHROMBPNET),
        in_speedup=18.1,
        local=_TRUNK | {"profile"},
        note="crop of 0; an output that is Flatten of (T, 1)",
    ),
    Architecture(
        "chrombpnet_bias",
        chrombpnet_bias,
        partial(chrombpnet_bias, filters=4, dilated=2, **_CHROMBPNET),
        in_speedup=65,
        local=_TRUNK | {"profile"},
        note="edits near the ends are cropped out of the profile",
    ),
    Architecture(
        "chrombpnet_full",
        chrombpnet_full,
        partial(chrombpnet_full, filters=4, dilated=4, bias_filters=3, bias_dilated=2, **_CHROMBPNET),
        in_speedup=18.6,
        local=_TRUNK | {"profile"},
        note="two nested models of two outputs; Add of flattened profiles; logsumexp of counts",
    ),
    Architecture(
        "bpnet",
        bpnet,
        partial(bpnet, **_BPNET),
        in_speedup=13.9,
        local=_BPNET_LOCAL,
        note="control inputs; slices of channels",
    ),
    Architecture(
        "bpnet_flatten_counts",
        partial(bpnet, tasks=_FIVE_TASKS, hidden_counts=(64,)),
        partial(bpnet, hidden_counts=(5, 4), **_BPNET),
        in_speedup=9.3,
        local=_BPNET_LOCAL | {"flatten", "counts_dropout0"},
        dense_from="counts_hidden0",
        note="the counts branch alone becomes dense",
    ),
    Architecture(
        "bpnet_same",
        partial(bpnet, length=1000, padding="same", relu_first=False, kernels=(21, 11), custom_class=True),
        partial(
            bpnet, **{**_BPNET, "kernels": (7, 5), "length": 46}, padding="same", relu_first=False, custom_class=True
        ),
        local=_BPNET_LOCAL | {"conv1"},
        note="'same' padding, residual after the activation, two first convolutions, a subclass of Model",
    ),
    Architecture(
        "bpreveal_solo",
        bpreveal_solo,
        partial(bpreveal_solo, **_BPREVEAL),
        in_speedup=13.2,
        local=_TRUNK | {"profile"},
        note="all profiles, then all counts",
    ),
    Architecture(
        "bpreveal_transformation",
        bpreveal_transformation,
        partial(bpreveal_transformation, **_BPREVEAL),
        local=_TRUNK | {"profile", "output0_", "output1_"},
        note="positions and tracks folded into one axis and back",
    ),
    Architecture(
        "bpreveal_combined",
        partial(bpreveal_combined, bias_dilated=8),
        partial(bpreveal_combined, **_BPREVEAL, bias_filters=3, bias_dilated=3),
        local=_TRUNK | {"profile", "bias/output0_", "bias/output1_"},
        note="the input cropped before a nested model that takes a list of one; a layer of two tensors",
    ),
    Architecture(
        "bpreveal_combined_uncropped",
        bpreveal_combined,
        partial(bpreveal_combined, **_BPREVEAL, bias_filters=3, bias_dilated=4),
        local=_TRUNK | {"profile", "bias/output0_", "bias/output1_"},
        note="the same with a crop of 0 on the input",
    ),
)
