"""Check, for any model, that fast in-silico mutagenesis gives what the naive one gives.

Example:
    >>> import keras, numpy as np
    >>> inputs = keras.Input((12, 4))
    >>> hidden = keras.layers.Conv1D(8, 3, activation="relu")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(hidden)))
    >>> x = np.eye(4)[np.random.default_rng(0).integers(4, size=(2, 12))]
    >>> agreement = assert_matches_naive(randomize(model), x)
    >>> agreement.error <= 1e-3 * agreement.effect
    True
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
from keras import layers

from fastism.naive import NaiveISM

_RTOL = {"float64": 1e-8, "float32": 1e-3}
_RTOL_MIXED = 1e-4  # float64 outputs, but Keras promotes float64 with float32 to float32 except on TensorFlow
_RTOL_NARROW = 5e-2
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_WRAPPED = ("layer", "forward_layer", "backward_layer", "cell")  # where wrappers keep the layers they wrap

M = TypeVar("M", bound=keras.Model)


class Agreement(NamedTuple):
    """How far fast and naive predictions are apart, for the output where that share is largest.

    Attributes:
        error: Largest absolute difference between the fast and the naive mutant predictions.
        effect: Largest absolute difference between the naive mutant and the reference predictions.
    """

    error: float
    effect: float


def randomize(model: M, seed: int = 0) -> M:
    """Draw all weights of a model at random, in place.

    Fresh models have zero biases and untrained normalisation, which hide mistakes. Here biases, normalisation
    moments and PReLU slopes vary too, variances are positive, and kernels are scaled so that activations stay
    of order one and outputs react to the input, also in deep and residual stacks. The same seed gives the
    same weights on every backend.

    Args:
        model: A built model.
        seed: Seed of the random numbers.

    Returns:
        The same model.

    Raises:
        TypeError: If it is no Keras model.
        ValueError: If the model has not been built.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((5, 4)), keras.layers.Conv1D(2, 3)])
        >>> bool((randomize(model).get_weights()[1] != 0).all())
        True
    """
    if not isinstance(model, layers.Layer):  # models are layers
        raise TypeError(f"The model is a {type(model).__name__}; a built Keras model is accepted.")
    if not model.built:
        raise ValueError(f"The model {model.name} is not built, so it has no weights; call it on an input first.")
    rng = np.random.default_rng(seed)
    owner = {id(weight): layer for layer in _layers_of(model) for weight in layer.weights}
    for weight in model.weights:
        if "float" in str(weight.dtype):
            name = weight.name.split("/")[-1]
            weight.assign(_draw(rng, name, tuple(weight.shape), owner.get(id(weight))))
    return model


def assert_matches_naive(
    model: Any,
    x: Any,
    *,
    seq_input_idx: int = 0,
    change_ranges: Sequence[tuple[int, int]] | None = None,
    replace_with: Any = 0,
    rtol: float | None = None,
    saturate: bool = False,
    allow_unaffected: bool = False,
    **fast_kwargs: Any,
) -> Agreement:
    """Raise unless `FastISM` and `NaiveISM` agree on a model, measured against the effect of the edits.

    The bound for each output is ``max|fast - naive| <= rtol * max|naive - reference|``: an absolute tolerance
    would pass any answer for a model that hardly reacts. Run `randomize` on untrained models first.

    Args:
        model: The model.
        x: Sequences ``(N, L, A)``, or a list, tuple or dict of inputs.
        seq_input_idx: Which input is mutated.
        change_ranges: Ranges to edit; ``None`` for single positions. Not used with ``saturate``.
        replace_with: What is written there. Not used with ``saturate``.
        rtol: Allowed share of the effect; by default 1e-3 for float32 outputs, 1e-8 for float64 (1e-4 on
            JAX and PyTorch, where Keras's normalisation layers compute in float32), 5e-2 for narrower ones.
        saturate: Compare all substitutions at all positions instead.
        allow_unaffected: Accept outputs that no edit changes, as when one does not depend on the sequence.
        **fast_kwargs: Further arguments of `FastISM`.

    Returns:
        The error and the effect of the output that came closest to its bound.

    Raises:
        AssertionError: If an output disagrees, or if no edit changes it.
    """
    from fastism.ism import FastISM  # the naive side must work without it

    fast_kwargs.setdefault("test_correctness", False)
    naive = NaiveISM(model, seq_input_idx, change_ranges, channels=fast_kwargs.get("channels"))
    fast = FastISM(model, seq_input_idx, change_ranges, **fast_kwargs)
    if saturate:
        (reference, expected), (fast_reference, actual) = naive.saturate(x), fast.saturate(x)
        _assert_same_structure(reference, fast_reference, "reference")
    else:
        reference, expected, actual = naive.reference(x), naive(x, replace_with), fast(x, replace_with)
    _assert_same_structure(expected, actual, "mutant")

    agreements = []
    names = _output_names(model, expected)
    leaves = (keras.tree.flatten(tree) for tree in (reference, expected, actual))
    for name, ref, want, got in zip(names, *leaves, strict=True):
        cells = ref.reshape(ref.shape[0], *[1] * (want.ndim - ref.ndim), *ref.shape[1:])
        agreements.append(_compare(name, cells, want, got, rtol, allow_unaffected))
    return max(agreements, key=lambda agreement: agreement.error / (agreement.effect or 1.0))


def _compare(
    name: str,
    reference: np.ndarray,
    naive: np.ndarray,
    fast: np.ndarray,
    rtol: float | None,
    allow_unaffected: bool,
) -> Agreement:
    """Compare one output; axes are (sequence, place, [letter], *output)."""
    rtol = _default_rtol(naive.dtype.name) if rtol is None else rtol
    difference = np.where(fast == naive, 0.0, np.abs(fast.astype("float64") - naive))
    effect = float(np.abs(naive.astype("float64") - reference).max(initial=0.0))
    error = float(difference.max(initial=0.0))
    if not (error <= rtol * effect and math.isfinite(effect)):  # false for NaN
        at = np.unravel_index(int(np.argmax(difference)), difference.shape)  # NaN counts as the largest
        raise AssertionError(
            f"Output {name}: fast and naive predictions differ by {error:.3g}, more than {rtol:g} of the "
            f"largest effect of an edit, {effect:.3g}. Largest at sequence {at[0]}, place {at[1]} (index "
            f"{tuple(int(i) for i in at)} of {difference.shape}): fast {fast[at]:.9g}, naive {naive[at]:.9g}."
        )
    if effect == 0 and not allow_unaffected:
        raise AssertionError(
            f"Output {name}: no edit changes it, so the comparison shows nothing. Use other sequences or "
            "randomize(model), or pass allow_unaffected=True if the output does not depend on the sequence."
        )
    return Agreement(error, effect)


def _default_rtol(dtype: str) -> float:
    if dtype == "float64" and keras.backend.backend() != "tensorflow":
        return _RTOL_MIXED
    return _RTOL.get(dtype, _RTOL_NARROW)


def _assert_same_structure(naive: Any, fast: Any, what: str) -> None:
    """Raise unless both results are of the same types, keys, shapes and dtypes."""

    def outline(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: outline(value) for name, value in tree.items()}
        if isinstance(tree, (list, tuple)):
            parts = [outline(value) for value in tree]
            return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
        return f"{type(tree).__name__} {tree.shape} {tree.dtype}"

    if outline(naive) != outline(fast):
        raise AssertionError(
            f"The {what} predictions have another structure: fast {outline(fast)}, naive {outline(naive)}."
        )


def _output_names(model: Any, outputs: Any) -> list[str]:
    count = len(keras.tree.flatten(outputs))
    if isinstance(outputs, dict) and len(outputs) == count:
        place = keras.tree.pack_sequence_as(outputs, list(range(count)))  # in the order in which trees are flattened
        return [repr(name) for name in sorted(place, key=place.get)]
    names = list(getattr(model, "output_names", []))
    return [f"{i} ({names[i]!r})" if len(names) == count else str(i) for i in range(count)]


def _layers_of(layer: Any) -> Iterator[layers.Layer]:
    """The layer and the layers inside it, outer ones first."""
    yield layer
    inner = list(getattr(layer, "layers", [])) + [getattr(layer, name, None) for name in _WRAPPED]
    for sublayer in inner:
        if isinstance(sublayer, layers.Layer):
            yield from _layers_of(sublayer)


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...], layer: Any) -> np.ndarray:
    """Random values for a weight, by what its name says it is."""
    if "variance" in name:
        return rng.uniform(0.5, 1.5, shape)
    if "mean" in name or "bias" in name or "beta" in name:
        return rng.normal(0.0, 0.2, shape)
    if "gamma" in name:  # some negative: order-reversing scales are what max pooling must survive
        return rng.uniform(0.6, 1.4, shape) * rng.choice([1.0, 1.0, 1.0, -1.0], shape)
    if "alpha" in name:
        return rng.uniform(0.05, 0.5, shape)
    if "embeddings" in name:
        return rng.normal(0.0, 1.0, shape)
    if len(shape) < 2:  # of a custom layer: a positive value is safe in a root or a logarithm
        return rng.uniform(0.3, 1.0, shape)
    return _draw_kernel(rng, name, shape, layer)


def _draw_kernel(rng: np.random.Generator, name: str, shape: tuple[int, ...], layer: Any) -> np.ndarray:
    """He-scaled values that sum to zero over the inputs of each output.

    Without the zero sum, the positive means that ReLUs leave would grow through a residual stack and drown
    the signal.
    """
    if name.startswith("depthwise"):
        input_axes = tuple(range(len(shape) - 2))
    elif isinstance(layer, _TRANSPOSED):
        input_axes = (*range(len(shape) - 2), len(shape) - 1)
    else:
        input_axes = tuple(range(len(shape) - 1))
    fan_in = math.prod(shape[axis] for axis in input_axes)
    kernel = rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)
    return kernel - kernel.mean(axis=input_axes, keepdims=True) if fan_in >= 8 else kernel
