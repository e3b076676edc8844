"""From predictions to numbers that people compare: differences, attributions by named rules, the choice of targets.

With f_b the prediction with letter b written at a position and f the reference's, ``d_b = f_b - f``, which is 0 for the
letter that is there, and S the sum of ``d_b`` over the other letters. What published tools report of these, for DNA:

================================================  ==================  =====================  ========================
rule                                              at another letter   at the letter there    function
================================================  ==================  =====================  ========================
difference (CREsted mutagenesis, gReLU subtract)  d_b                 0                      :func:`difference`
log-ratio (gReLU log2FC)                          log2(f_b / f)       0                      :func:`log_ratio`
mean4 hypothetical (tangermeme, basenji)          d_b - S/4           -S/4                   :func:`mean4`
mean4 projected (tangermeme, borzoi, gReLU)       0                   -S/4                   :func:`mean4`
mean3 hypothetical                                d_b - S/3           -S/3                   :func:`mean3`
mean3 projected (CREsted, AlphaGenome, BPReveal)  0                   -S/3                   :func:`mean3`
norm (yuzu)                                       norm of d_b         0                      :func:`norm2`
zeroing (captum)                                  0                   f - f_zeroed           :func:`zeroing`
================================================  ==================  =====================  ========================

A difference is negative where the model needs the letter that is there, an attribution positive; the norm has no sign.
AlphaGenome without multiplication by the sequence has d_b at the other letters and -S/3 at the one that is there:
mean3 projected plus the differences.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from fastism.formulas import log2fc

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


def difference(reference: Any, mutant: Any) -> Any:
    """Mutant - reference: negative where a substitution lowers the prediction.

    Args:
        reference: (N, *output) predictions of the sequences as they are; or a list or dict of such arrays.
        mutant: (N, P, A, *output), or with other axes between; nested likewise. A result of ``saturate`` unpacks into
            these two.

    Returns:
        The shape of ``mutant``; float32 from float16 and float32, so that half precision neither overflows nor rounds
        small differences away once more, else float64.

    Raises:
        ValueError: If the shapes do not fit together.

    Example:
        >>> difference([[2.0]], [[[[2.0], [3.0]]]])
        array([[[[0.], [1.]]]])
    """
    return map_outputs(lambda f, b: np.subtract(b, f, dtype=b.dtype), *_aligned(reference, mutant))


def log_ratio(reference: Any, mutant: Any, *, pseudocount: float = 0.0) -> Any:
    """log2((mutant + pseudocount) / (reference + pseudocount)): 1 where a substitution doubles the prediction.

    Args:
        reference: (N, *output), as for :func:`difference`; positive once the pseudocount is added.
        mutant: (N, P, A, *output).
        pseudocount: Added to both, in units of the prediction; none by default.

    Returns:
        float64, the shape of ``mutant``.

    Raises:
        ValueError: If a prediction is not positive, or the shapes do not fit together.

    Example:
        >>> log_ratio([[2.0]], [[[[2.0], [8.0], [0.5]]]])
        array([[[[ 0.], [ 2.], [-2.]]]])
    """

    def ratio(f: np.ndarray, b: np.ndarray) -> np.ndarray:
        return log2fc(f.astype(np.float64), b.astype(np.float64), pseudocount)

    return map_outputs(ratio, *_aligned(reference, mutant))


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


def mean4(sequences: Any, differences: Any, *, hypothetical: bool = False, mask: Any = None) -> np.ndarray:
    """:func:`attribution` by the rule ``mean4``: -S/4 at the letter that is there, d_b - S/4 at the others.

    Projected (the default) as tangermeme and borzoi report it, hypothetical as TF-MoDISco reads it.

    Example:
        >>> mean4([[0, 1, 0, 0]], [[-3.0, 0.0, -1.0, -2.0]], hypothetical=True)
        array([[-1.5,  1.5,  0.5, -0.5]])
    """
    return attribution(sequences, differences, rule="mean4", hypothetical=hypothetical, mask=mask)


def mean3(sequences: Any, differences: Any, *, hypothetical: bool = False, mask: Any = None) -> np.ndarray:
    """:func:`attribution` by the rule ``mean3``: -S/3 at the letter that is there, 4/3 of ``mean4`` for DNA.

    Projected (the default) as CREsted's letters, AlphaGenome and BPReveal report it.

    Example:
        >>> mean3([[0, 1, 0, 0]], [[-3.0, 0.0, -1.0, -2.0]])
        array([[0., 2., 0., 0.]])
    """
    return attribution(sequences, differences, rule="mean3", hypothetical=hypothetical, mask=mask)


def importance(reference_onehot: Any, differences: Any, *, rule: str = "mean4") -> np.ndarray:
    """How much each position's letter matters: its attribution, one number for each position.

    With d = mutant - reference and S the sum of d over the other letters, the value is -S / A by `mean4` (-S / 4 for
    DNA) and -S / (A - 1) by `mean3`, minus the mean effect of replacing the letter, which is 4/3 of it for DNA. It is
    positive where the model needs the letter that is there.

    Args:
        reference_onehot: the sequence, shape (L, A) or (N, L, A), one-hot.
        differences: mutant - reference for every letter at every position, same shape, in units of the
            prediction.
        rule: `"mean4"` or `"mean3"`, as in `attribution`.

    Returns:
        The importances, shape (L,) or (N, L), float64. A position that is not one-hot (an N) gets 0.

    Raises:
        ValueError: if the two shapes differ or are not those of sequences, or the rule is unknown.

    Example:
        >>> importance([[0, 1, 0, 0]], [[-3.0, 0.0, -1.0, -2.0]])
        array([1.5])
    """
    sequence = np.asarray(reference_onehot, dtype=np.float64)
    delta = np.asarray(differences, dtype=np.float64)
    if sequence.ndim not in (2, 3) or sequence.shape != delta.shape or sequence.shape[-1] < 2:
        raise ValueError(
            f"importance: received a reference of shape {sequence.shape} and differences of shape "
            f"{delta.shape}; accepted are two arrays of one shape, (L, A) or (N, L, A). Take one output of "
            "the model first, for instance differences[..., 0]."
        )
    other = np.where(sequence == 1, 0.0, delta)  # whatever stands at the letter in place
    return attribution(sequence, other, rule=rule).sum(axis=-1)


def norm2(differences: Any) -> np.ndarray:
    """How far each substitution moves all outputs together, the Euclidean norm of d_b: yuzu's score, without a sign.

    Args:
        differences: (N, P, A, *output).

    Returns:
        (N, P, A) float64, not negative; 0 at the letters that are there.

    Raises:
        ValueError: If there are fewer than three axes.

    Example:
        >>> norm2([[[[0.0, 0.0], [3.0, -4.0]]]])
        array([[[0., 5.]]])
    """
    delta = np.asarray(differences)
    if delta.ndim < 3:
        raise ValueError(f"norm2: the differences have shape {delta.shape}; (N, P, A, *output) is accepted.")
    return np.linalg.norm(delta.reshape(*delta.shape[:3], -1).astype(np.float64), axis=-1)


def zeroing(reference: Any, zeroed: Any, sequences: Any = None) -> Any:
    """What is lost when a position is set to zeros, f - f_zeroed: captum's ablation, positive where it is needed.

    Args:
        reference: (N, *output) predictions of the sequences as they are; or a list or dict of such arrays.
        zeroed: (N, P, *output) as calling a :class:`~fastism.FastISM` on the sequences gives it; nested likewise.
        sequences: (N, P, A) the positions that were zeroed; if given, the values are put at their letters.

    Returns:
        (N, P, *output), or with ``sequences`` (N, P, A, *output), zeros at the letters that are not there and at an N.

    Raises:
        ValueError: If the shapes do not fit together.

    Example:
        >>> zeroing([5.0], [[3.0, 6.0]])
        array([[ 2., -1.]])
        >>> zeroing([5.0], [[3.0, 6.0]], [[[0, 1, 0, 0], [1, 0, 0, 0]]])
        array([[[ 0.,  2.,  0.,  0.], [-1.,  0.,  0.,  0.]]])
    """
    lost = map_outputs(lambda f, b: np.subtract(f, b, dtype=b.dtype), *_aligned(reference, zeroed))
    return lost if sequences is None else map_outputs(lambda values: _at_letters(values, sequences), lost)


def _at_letters(values: np.ndarray, sequences: Any) -> np.ndarray:
    """(N, P, *output) put at the letters of (N, P, A)."""
    x = np.asarray(sequences)
    if x.ndim != 3 or x.shape[:2] != values.shape[:2]:
        raise ValueError(
            f"sequences have shape {x.shape} for values of shape {values.shape}; (N, P, A) is accepted, the stretch "
            "that was mutated."
        )
    there = (x == 1) & has_letter(x)[..., None]
    there = there.reshape(*there.shape, *[1] * (values.ndim - 2))
    return np.where(there, values[:, :, None], np.zeros((), values.dtype))


def map_outputs(function: Callable[..., Any], *outputs: Any) -> Any:
    """Call a function on each output of a model: on arrays as they are, on lists and dicts of arrays one by one."""
    first = outputs[0]
    if isinstance(first, Mapping):
        return {key: map_outputs(function, *(o[key] for o in outputs)) for key in first}
    if isinstance(first, (list, tuple)) and not is_numbers(first):
        return [map_outputs(function, *parts) for parts in zip(*outputs, strict=True)]
    return function(*outputs)


def is_numbers(nested: Any) -> bool:
    """Whether nested lists are one array written out, rather than a list of outputs."""
    while isinstance(nested, (list, tuple)) and len(nested):
        nested = nested[0]
    return isinstance(nested, (int, float, np.number))


def select_target(outputs: Any, target: Any = None, names: Sequence[str] | None = None) -> Any:
    """Some targets of a model's outputs. Nothing is averaged: what is not chosen is left out, what is stays apart.

    Args:
        outputs: An array (..., T), whose last axis is chosen from; or a list or dict of a model's several outputs,
            among which is chosen; or a result of ``saturate``, for which both parts are treated alike.
        target: An index (negatives count from the end) or name gives that target without its axis; a slice, or a list
            of indices and names, keeps the axis. None, and an empty list, are all. Of a list or dict of outputs, a
            tuple ``(output, target)`` chooses an output, and then a target of it.
        names: Of the T targets, or of the outputs of a list; the keys of a dict are its names. Of the targets after
            an output where ``target`` is such a tuple.

    Returns:
        A view or copy of the array, or the chosen part of the list or dict.

    Raises:
        ValueError: If a target is not there, or a name is needed and not known.
        TypeError: If ``target`` is none of these.

    Example:
        >>> y = np.array([[1.0, 2.0, 3.0]])
        >>> select_target(y, -1), select_target(y, [0, 2]), select_target(y, "K562", ["GM12878", "K562", "HepG2"])
        (array([3.]), array([[1., 3.]]), array([2.]))
        >>> select_target({"profile": np.zeros((1, 50)), "counts": y}, ("counts", 1))
        array([2.])
    """
    if hasattr(outputs, "select_target"):
        return outputs.select_target(target, names)
    fields = getattr(outputs, "_fields", ())
    if "window" in fields:
        raise ValueError("The outputs are compact windows, of which targets cannot be chosen; pass result.expanded().")
    if fields:
        return type(outputs)(*[select_target(part, target, names) for part in outputs])
    several = isinstance(outputs, (Mapping, list, tuple)) and not is_numbers(outputs)
    if several and isinstance(target, tuple) and len(target) == 2:
        if isinstance(target[0], (slice, list, tuple)) or target[0] is None:
            raise ValueError(
                f"target is {target!r}; (output, target) with one output, an index or a name, is accepted."
            )
        return select_target(select_target(outputs, target[0]), target[1], names)
    if isinstance(outputs, Mapping):
        keys, values = [str(key) for key in outputs], list(outputs.values())
        found = _chosen(target, len(keys), keys, "outputs")
        return values[found] if isinstance(found, int) else {list(outputs)[i]: values[i] for i in found}
    if several:
        found = _chosen(target, len(outputs), names, "outputs")
        return outputs[found] if isinstance(found, int) else [outputs[i] for i in found]
    array = np.asarray(outputs)
    if array.ndim == 0:
        raise ValueError(
            "The outputs are a single number; an array (..., T), or a list or dict of arrays, is accepted."
        )
    found = _chosen(target, array.shape[-1], names, "targets")
    return array if target is None else array[..., found]


def _chosen(target: Any, size: int, names: Sequence[str] | None, what: str) -> int | list[int]:
    """An index, or several."""
    known = None if names is None else [str(name) for name in names]
    if known is not None and len(known) != size:
        raise ValueError(f"There are {len(known)} names for {size} {what}; one for each is accepted.")
    if target is None or (isinstance(target, (list, tuple)) and not target):
        return list(range(size))
    if isinstance(target, slice):
        found = list(range(size))[target]
        if not found:
            raise ValueError(f"target is {target!r}, which holds none of {size} {what}; give one that holds some.")
        return found
    if isinstance(target, (list, tuple, np.ndarray)) and np.ndim(target) == 1:
        return [_one(t.item() if isinstance(t, np.generic) else t, size, known, what) for t in target]
    return _one(target, size, known, what)


def _one(target: Any, size: int, names: list[str] | None, what: str) -> int:
    shown = "" if names is None else " or a name of " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    accepted = f"an index below {size}{shown}, a slice or a list of these is accepted"
    if isinstance(target, str):
        if names is None:
            raise ValueError(f"target is {target!r}, but the {what} have no names; pass names=, or an index.")
        if names.count(target) != 1:
            why = "is the name of several" if target in names else "is the name of none"
            raise ValueError(f"target {target!r} {why} of the {what}; {accepted}.")
        return names.index(target)
    try:
        index = None if isinstance(target, (bool, np.bool_)) else operator.index(target)
    except TypeError:
        index = None
    if index is None:
        raise TypeError(f"target is {target!r}; {accepted}.")
    if not -size <= index < size:
        raise ValueError(f"target is {index}, but there are {size} {what}; {accepted}.")
    return index % size


def _aligned(reference: Any, mutant: Any) -> tuple[Any, Any]:
    """Both as arrays of at least float32, the reference with axes of size 1 where the mutant has positions."""

    def reference_for(f: Any, b: Any) -> np.ndarray:
        f, b = np.asarray(f), np.asarray(b)
        rank = b.ndim - f.ndim
        if rank < 0 or f.ndim < 1 or f.shape[0] != b.shape[0] or f.shape[1:] != b.shape[rank + 1 :]:
            raise ValueError(
                f"The reference has shape {f.shape} and the mutants {b.shape}; (N, *output) and (N, P, A, *output) are "
                "accepted."
            )
        return f.reshape(f.shape[0], *[1] * rank, *f.shape[1:]).astype(_float(b), copy=False)

    def widened(b: Any) -> np.ndarray:
        return np.asarray(b).astype(_float(np.asarray(b)), copy=False)

    return map_outputs(reference_for, reference, mutant), map_outputs(widened, mutant)


def _float(array: np.ndarray) -> np.dtype:
    small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return np.dtype(np.float32 if small or array.dtype.name == "bfloat16" else np.float64)
