"""Saturation mutagenesis as one function, with the arguments that users of PyTorch tools know."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastism.inputs import as_numbers
from fastism.naive import shapes_shown
from fastism.scores import RULES, attribution, difference, map_outputs, select_target

_HOW = (
    "Give target=: an index or name for one; a slice or list for several, which are kept apart along a last axis "
    "(slice(None) for all); or average=True for their mean"
)


class RawSaturation(NamedTuple):
    """Predictions before and after each substitution; unpacks as ``y0, y_hat``.

    Attributes:
        y0: (N, *output) predictions of the sequences as they are.
        y_hat: (N, P, A, *output) with each letter at each position if the sequences are (N, L, A); (N, A, P, *output)
            if they are (N, A, L). The cell of a letter that is there holds ``y0``.

    Each is a list or dict for a model with several outputs; all are in the same order of axes.
    """

    y0: Any
    y_hat: Any

    def __repr__(self) -> str:
        return shapes_shown(self)


def saturation_mutagenesis(
    model: Any,
    X: Any,
    args: Sequence[Any] | None = None,
    start: int = 0,
    end: int | None = -1,
    batch_size: int | str = "auto",
    target: Any = None,
    hypothetical: bool = False,
    raw_outputs: bool = False,
    dtype: Any = None,
    device: Any = None,
    verbose: bool = False,
    func: Callable[..., Any] | None = None,
    *,
    rule: str = "mean4",
    average: bool = False,
    layout: str | None = None,
) -> np.ndarray | RawSaturation:
    """Attributions of each letter from predictions of all single substitutions, or these predictions.

    The arguments are those of tangermeme's function of this name, in its order; its default, ``mean4``, is this one's.
    What differs: several targets are not averaged unless ``average`` says so, positions without a letter (N) get 0
    also in hypothetical attributions, and NumPy arrays come back. The model is not changed.

    Args:
        model: A built Keras model; or an object that has ``saturate``, such as a :class:`~fastism.FastISM` that is used
            again or an :class:`~fastism.ensemble.Ensemble`.
        X: (N, L, A) one-hot sequences, or (N, A, L) as PyTorch models take them; the model's input tells which. What
            comes back has the same order of axes.
        args: The model's further inputs after the sequence, a row for each sequence.
        start: First mutated position, 0-based.
        end: Position after the last one. Negative ones count such that -1, as well as None, is the end of the sequence
            itself: its last position is mutated. This is tangermeme's rule and not that of Python's slices; -2 leaves
            the last position out.
        batch_size: Mutated sequences that are computed at once; chosen for the computer by default.
        target: Which of the model's targets: index, name, slice or list, as :func:`fastism.scores.select_target` reads
            it; for a model with several outputs ``(output, target)``. May be left out where there is one target. It
            chooses among the last axis of outputs, and applies to raw outputs too.
        hypothetical: Values for all letters, not only for those that are there.
        raw_outputs: Give the predictions instead of attributions.
        dtype: None, or the name of the type that the model computes in anyway.
        device: None: Keras's choice, an accelerator if there is one.
        verbose: Show a progress bar.
        func: A function of the model's outputs, in ``keras.ops``, whose result takes their place: for instance
            ``lambda y: y[0]`` or a :meth:`fastism.metrics.Metric.reducer`.
        rule: ``"mean4"`` or ``"mean3"``, as :func:`fastism.scores.attribution` defines them.
        average: Average over all targets and positions of output that are left when ``target`` has chosen.
        layout: ``"NLA"`` or ``"NAL"``, the order of the axes of ``X``, where the shape does not tell.

    Returns:
        (N, P, A) or (N, A, P) attributions, with a last axis T for several targets that are kept apart: float32, or
        float64 for a model in float64; positive where the model needs the letter. Or :class:`RawSaturation`.

    Raises:
        ValueError: If an argument is out of range, the order of axes ambiguous, or several targets left unchosen.
        TypeError: If ``X`` is not numeric, or ``func`` no function of tensors.

    Example:
        >>> import keras
        >>> inputs = keras.Input((30, 4))
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
        >>> X = np.eye(4)[np.random.default_rng(0).integers(0, 4, (3, 30))]
        >>> saturation_mutagenesis(model, X, target=0).shape
        (3, 30, 4)
        >>> y0, y_hat = saturation_mutagenesis(model, X.transpose(0, 2, 1), start=10, end=20, raw_outputs=True)
        >>> y_hat.shape
        (3, 4, 10, 2)
    """
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; {' or '.join(map(repr, RULES))} is accepted.")
    network = getattr(model, "model", model) if hasattr(model, "saturate") else model
    _check_device(network, dtype, device)
    sequences = as_numbers(X, "X")
    swapped = _is_channels_first(sequences, network, layout)
    x = np.ascontiguousarray(sequences.transpose(0, 2, 1)) if swapped else sequences
    first, last = _interval(start, end, x.shape[1])
    ism = _mutagenesis(model, batch_size, func)
    result = ism.saturate([x, *args] if args else x, first, last, bool(verbose))
    reference, mutant, inner = _chosen(result, target)
    if raw_outputs:
        return RawSaturation(reference, map_outputs(_swap, mutant) if swapped else mutant)
    delta = _one_output(difference(reference, mutant), inner, average)
    found = _attributions(x[:, first:last], delta, rule, hypothetical)
    return _swap(found) if swapped else found


def _swap(array: np.ndarray) -> np.ndarray:
    return np.swapaxes(array, 1, 2)


def _chosen(result: Any, target: Any) -> tuple[Any, Any, Any]:
    """Reference and mutant of the chosen targets, and what was chosen of the last axis of an output."""
    several = isinstance(result.reference, (dict, list))
    inner = target
    if several:
        inner = target[1] if isinstance(target, tuple) and len(target) == 2 else None
    elif target is not None and result.reference.ndim < 2:
        raise ValueError(f"target is {target!r}, but there is one number for each sequence; leave target out.")
    return select_target(result.reference, target), select_target(result.mutant, target), inner


def _one_output(delta: Any, inner: Any, average: bool) -> np.ndarray:
    """(N, P, A), or (N, P, A, T) where several targets were asked for."""
    if isinstance(delta, (dict, list)):
        names = list(delta) if isinstance(delta, dict) else list(range(len(delta)))
        raise ValueError(
            f"The model has {len(delta)} outputs {names}; attributions are of one. Give target=, such as "
            f"target=({names[0]!r}, 0) for an output and a target of it, or raw_outputs=True for all."
        )
    cells, output = delta.shape[:3], delta.shape[3:]
    if average:
        return delta.reshape(*cells, -1).mean(-1, dtype=np.float64).astype(delta.dtype)
    kept = output[-1:] if isinstance(inner, (slice, list, tuple, np.ndarray)) and len(output) else ()
    left = output[: len(output) - len(kept)]
    if int(np.prod(left)) == 1:
        return delta.reshape(*cells, *kept)
    if inner is None and len(output) == 1:
        raise ValueError(
            f"The model has {output[0]} targets, of which none is chosen and which are not averaged. {_HOW}."
        )
    raise ValueError(
        f"What is left of an output has the shape {output} for each sequence, which is more than its targets. Give "
        "func=, a function that makes one number of it for each target, such as METRICS['profile'].reducer() of "
        "fastism.metrics; or average=True for the mean of all."
    )


def _attributions(x: np.ndarray, delta: np.ndarray, rule: str, hypothetical: bool) -> np.ndarray:
    options: dict[str, Any] = {"rule": rule, "hypothetical": hypothetical}
    if delta.ndim == 3:
        return attribution(x, delta, **options)
    return np.stack([attribution(x, delta[..., t], **options) for t in range(delta.shape[3])], axis=-1)


def _mutagenesis(model: Any, batch_size: Any, func: Any) -> Any:
    """An object with ``saturate``."""
    if hasattr(model, "saturate"):
        if func is not None or batch_size != "auto":
            given = "func" if func is not None else "batch_size"
            raise ValueError(
                f"{given} is for making a FastISM, but a {type(model).__name__} was given; pass "
                f"{'reduce' if func is not None else 'batch_size'}= when making it, or pass the model."
            )
        return model
    from fastism.ism import FastISM

    return FastISM(model, batch_size=batch_size, reduce=func)


def _is_channels_first(x: np.ndarray, network: Any, layout: str | None) -> bool:
    """Whether sequences are (N, A, L), by the model's input, which is (L, A)."""
    if layout not in (None, "NLA", "NAL"):
        raise ValueError(f"layout is {layout!r}; 'NLA' for (N, L, A) or 'NAL' for (N, A, L) is accepted.")
    if x.ndim != 3:
        hint = " For one sequence pass X[None]." if x.ndim == 2 else ""
        raise ValueError(f"X has shape {x.shape}; (N, L, A) or (N, A, L) is accepted.{hint}")
    length, size = _input_shape(network)
    last = x.shape[2] == size and length in (None, x.shape[1])
    first = x.shape[1] == size and length in (None, x.shape[2])
    if layout is None and last and first:
        raise ValueError(
            f"X has shape {x.shape}, which can be (N, L, A) as well as (N, A, L); say which with layout='NLA' or "
            "layout='NAL'."
        )
    fits = last or first if layout is None else last if layout == "NLA" else first
    if not fits:
        long = "L" if length is None else length
        said = "" if layout is None else f" With layout={layout!r} it is read so."
        raise ValueError(
            f"X has shape {x.shape}; the model takes (N, {long}, {size}), so this or (N, {size}, {long}) is accepted."
            f"{said}"
        )
    return layout == "NAL" or (layout is None and first)


def _input_shape(network: Any) -> tuple[int | None, int]:
    """(L, A) of the model's first input; for an ensemble, of its first model."""
    while getattr(network, "models", None) and not getattr(network, "inputs", None):
        network = network.models[0]
        network = getattr(network, "model", network)
    declared = getattr(network, "inputs", None)
    shape = tuple(declared[0].shape) if declared else ()
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(
            f"The model, a {type(network).__name__}, says of its first input {shape or 'nothing'}; a built Keras model "
            "whose first input is (length, alphabet) is accepted."
        )
    return shape[1], int(shape[2])


def _interval(start: Any, end: Any, length: int) -> tuple[int, int]:
    """``[start, end)``, with -1 and None for the end of the sequence itself."""
    try:
        first, stop = operator.index(start), -1 if end is None else operator.index(end)
    except TypeError:
        raise ValueError(f"start={start!r}, end={end!r} are not integers; 0 <= start < end <= {length} is.") from None
    last = stop + length + 1 if stop < 0 else stop
    if not 0 <= first < last <= length:
        raise ValueError(
            f"start={start}, end={end} is empty or out of range for sequences of length {length}; 0 <= start < end <= "
            f"{length} is accepted, or end=-1 or None for {length}."
        )
    return first, last


def _check_device(network: Any, dtype: Any, device: Any) -> None:
    if device is not None:
        raise ValueError(
            f"device is {device!r}; None is accepted: a Keras model computes where Keras put it, on an accelerator if "
            "there is one. Hide the accelerator (CUDA_VISIBLE_DEVICES='') before Python starts to compute on the CPU."
        )
    own = str(getattr(network, "compute_dtype", "float32"))
    name = np.dtype(dtype).name if isinstance(dtype, type) else str(getattr(dtype, "name", dtype))
    if dtype is not None and name.removeprefix("torch.") != own:
        raise ValueError(
            f"dtype is {dtype!r}, but the model computes in {own}; None or {own!r} is accepted. Set the model's own "
            "type when it is built or loaded, with keras.config.set_dtype_policy. X can be of any type."
        )
