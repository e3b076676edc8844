"""From predictions to numbers that people compare: differences, attributions."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

Rule = Literal["mean4", "mean3"]
#: Names of the rules by which differences become attributions.
RULES: tuple[str, ...] = get_args(Rule)


def has_letter(sequences: Any) -> np.ndarray:
    """Which positions are one-hot: False at an N, whether zeros or equal shares, and at any mixture.

    Args:
        sequences: (..., L, A).

    Returns:
        (..., L) boolean.

    Example:
        >>> has_letter([[0, 1, 0, 0], [0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
        array([ True, False, False])
    """
    x = np.asarray(sequences)
    return ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1)


def attribution(
    sequences: Any, differences: Any, *, rule: str = "mean4", hypothetical: bool = False, mask: Any = None
) -> np.ndarray:
    """Attributions of letters from the differences that substitutions make.

    With ``d_b`` the difference of letter b (0 for the letter that is there) and S the sum of the others, the
    hypothetical attribution of b is ``d_b - S/A`` by ``mean4`` and ``d_b - S/(A-1)`` by ``mean3`` (written for DNA, A =
    4: S/4 as in tangermeme and basenji, S/3 as in AlphaGenome and CREsted). Projected, that is multiplied by the
    sequence, only the letter that is there keeps its value, -S/A or -S/(A-1): positive where the model needs it.

    Args:
        sequences: (..., L, A) one-hot.
        differences: (..., L, A), mutant - reference, 0 at the letters that are there.
        rule: ``"mean4"`` or ``"mean3"``.
        hypothetical: Values for all letters, not only for those that are there.
        mask: (..., L) boolean, the positions that have a letter; those of :func:`has_letter` by default.

    Returns:
        (..., L, A) of the differences' float type. Zeros at positions without a letter, never NaN there.

    Raises:
        ValueError: If the rule is unknown or the shapes differ.

    Example:
        >>> attribution([[0, 1, 0, 0]], [[-3.0, 0.0, -1.0, -2.0]])
        array([[0. , 1.5, 0. , 0. ]])
        >>> attribution([[0, 1, 0, 0]], [[-3.0, 0.0, -1.0, -2.0]], rule="mean3", hypothetical=True)
        array([[-1.,  2.,  1.,  0.]])
    """
    x, delta = np.asarray(sequences), np.asarray(differences)
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; {' or '.join(map(repr, RULES))} is accepted.")
    if x.shape != delta.shape or x.ndim < 2:
        raise ValueError(
            f"The sequences have shape {x.shape} and the differences {delta.shape}; two arrays of one shape (..., L, "
            "A) are accepted. Take one output of the model first, for instance differences[..., 0]."
        )
    if delta.dtype.kind != "f":
        delta = delta.astype(np.float64)
    there = has_letter(x) if mask is None else np.asarray(mask, dtype=bool)
    size = x.shape[-1] if rule == "mean4" else x.shape[-1] - 1
    found = delta - delta.sum(-1, keepdims=True) / size
    return np.where(there[..., None] if hypothetical else there[..., None] & (x == 1), found, np.zeros((), delta.dtype))
