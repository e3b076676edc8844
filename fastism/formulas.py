"""The formulas of the metrics: on NumPy arrays of reference and alternative, and in keras.ops on one prediction.

In NumPy ``r`` is (rows, 1, *output) and ``a`` (rows, K, *output), both float64; positions are axis 2. Nearly equal
predictions are subtracted before they are added up or put into a logarithm, since one letter of a long sequence changes
little. In ``keras.ops``, which is imported when a function is first called, ``y`` is (N, *output).
"""

from __future__ import annotations

from typing import Any

import numpy as np

_LN2 = float(np.log(2))


def log2_ratio(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """log2(after / before) of positive float64: exactly 0 for equals, and without cancellation near them."""
    near = np.abs(after - before) <= 0.5 * before
    change = np.where(near, (after - before) / np.where(near, before, 1.0), 0.0)
    return np.where(near, np.log1p(change) / _LN2, np.log2(after) - np.log2(before))


def subtract(r: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Alternative - reference."""
    return a - r


def divide(r: np.ndarray, a: np.ndarray, pseudocount: float) -> np.ndarray:
    """(a + pseudocount) / (r + pseudocount)."""
    if (r + pseudocount == 0).any():
        raise ValueError(
            f"a reference plus the pseudocount {pseudocount:g} is 0, by which nothing can be divided; give another "
            "pseudocount."
        )
    return (a + pseudocount) / (r + pseudocount)


def log2fc(r: np.ndarray, a: np.ndarray, pseudocount: float) -> np.ndarray:
    """log2(a + pseudocount) - log2(r + pseudocount)."""
    return log2_ratio(positive(r, pseudocount), positive(a, pseudocount))


def logit(r: np.ndarray, a: np.ndarray, clip: float) -> np.ndarray:
    """Difference of log odds of probabilities, which are kept ``clip`` away from 0 and 1."""
    return _log_odds(a, clip) - _log_odds(r, clip)


def logfc(r: np.ndarray, a: np.ndarray) -> np.ndarray:
    """log2 fold change of counts whose natural logarithms r and a are."""
    return (a - r) / _LN2


def sum_difference(r: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The differences, added up over positions."""
    return (a - r).sum(axis=2)


def log_sum(r: np.ndarray, a: np.ndarray, pseudocount: float) -> np.ndarray:
    """log2(a + pseudocount) - log2(r + pseudocount), added up over positions."""
    return log2_ratio(positive(r, pseudocount), positive(a, pseudocount)).sum(axis=2)


def log_sed(r: np.ndarray, a: np.ndarray, pseudocount: float) -> np.ndarray:
    """log2(pseudocount + sum of a) - log2(pseudocount + sum of r), sums over positions."""
    return log2_ratio(positive(r.sum(axis=2), pseudocount), positive(a.sum(axis=2), pseudocount))


def profile(r: np.ndarray, a: np.ndarray, joint: bool) -> np.ndarray:
    """Difference of the logits' mean under their own softmax, less their plain mean."""
    return _weighted_logits(a, joint) - _weighted_logits(r, joint)


def jsd(r: np.ndarray, a: np.ndarray, joint: bool) -> np.ndarray:
    """The square root of half the sum of m h, m = (p + q)/2, h = (1+d) log(1+d) + (1-d) log(1-d), d = (q - p)/(q + p).

    In bits, so over log 2. With x = log q - log p, d is tanh(x/2) and h = d x + log(1 - d^2): no difference of nearly
    equal numbers, as in the usual sum of p log(p/m) and q log(q/m), of which a small change leaves little.
    """
    log_p, log_q = (_log_softmax(_tracks(z, joint)) for z in (r, a))
    x = np.abs(log_q - log_p)
    d = np.tanh(x / 2)
    far = x > 1
    near = d * x + np.log1p(-(np.where(far, 0.0, d) ** 2))
    h = np.where(far, x * (d - 1) + 2 * _LN2 - 2 * np.log1p(np.exp(-x)), near)
    divergence = ((np.exp(log_p) + np.exp(log_q)) / 4 * h).sum(axis=2) / _LN2
    return np.sqrt(np.clip(divergence, 0.0, 1.0))


def positive(values: np.ndarray, pseudocount: float) -> np.ndarray:
    """The values plus the pseudocount, above 0."""
    lowest = values.min(initial=np.inf) + pseudocount
    if not lowest > 0:
        raise ValueError(
            f"the lowest prediction plus the pseudocount {pseudocount:g} is {lowest:g}; positive numbers are accepted. "
            "Give a larger pseudocount, or 'subtract' for predictions that can be negative."
        )
    return values + pseudocount


def _log_odds(p: np.ndarray, clip: float) -> np.ndarray:
    if not 0 < clip < 0.5:
        raise ValueError(f"clip is {clip!r}; a number above 0 and below 0.5 is accepted.")
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(
            f"predictions range from {p.min():g} to {p.max():g}; probabilities are accepted. If the model gives logits "
            "already, 'subtract' is their difference."
        )
    kept = np.clip(p, clip, 1 - clip)
    return np.log(kept) - np.log1p(-kept)


def _tracks(z: np.ndarray, joint: bool) -> np.ndarray:
    """(rows, K, O, T) with the tracks in a row along the positions, if they are taken together."""
    return z.reshape(*z.shape[:2], -1) if joint and z.ndim > 3 else z


def _log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - z.max(axis=2, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))


def _weighted_logits(z: np.ndarray, joint: bool) -> np.ndarray:
    z = _tracks(z, joint)
    return (np.exp(_log_softmax(z)) * (z - z.mean(axis=2, keepdims=True))).sum(axis=2)


# the same for one prediction, in keras.ops, imported when first needed


def identity_tensors(y: Any) -> Any:
    """The prediction itself."""
    from keras import ops

    return ops.multiply(y, 1)  # what is put behind a model has to be an operation


def logfc_tensors(y: Any) -> Any:
    """Of :func:`logfc`."""
    from keras import ops

    return ops.multiply(y, 1 / _LN2)


def log2_tensors(y: Any, pseudocount: float) -> Any:
    """Of :func:`log2fc`."""
    from keras import ops

    return ops.multiply(ops.log(ops.add(y, pseudocount)), 1 / _LN2)


def logit_tensors(y: Any, clip: float) -> Any:
    """Of :func:`logit`; NaN for what is no probability, since nothing can be raised on the device."""
    from keras import ops

    p = ops.clip(y, clip, 1 - clip)
    odds = ops.subtract(ops.log(p), ops.log1p(ops.negative(p)))
    return ops.where(ops.logical_and(ops.greater_equal(y, 0), ops.less_equal(y, 1)), odds, float("nan"))


def sum_tensors(y: Any) -> Any:
    """Of :func:`sum_difference`."""
    from keras import ops

    return ops.sum(y, axis=1)


def log_sum_tensors(y: Any, pseudocount: float) -> Any:
    """Of :func:`log_sum`."""
    return sum_tensors(log2_tensors(y, pseudocount))


def log_sed_tensors(y: Any, pseudocount: float) -> Any:
    """Of :func:`log_sed`."""
    return log2_tensors(sum_tensors(y), pseudocount)


def profile_tensors(z: Any, joint: bool) -> Any:
    """Of :func:`profile`."""
    from keras import ops

    axes = tuple(range(1, len(z.shape))) if joint else (1,)
    weights = ops.exp(ops.subtract(z, ops.logsumexp(z, axis=axes, keepdims=True)))
    return ops.sum(ops.multiply(weights, ops.subtract(z, ops.mean(z, axis=axes, keepdims=True))), axis=axes)
