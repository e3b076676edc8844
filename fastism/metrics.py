"""What an edit does, as one number or a few: metrics of a reference and an alternative prediction.

Mutagenesis and variants share them. Each is a :class:`Metric`, called on (reference, alternative) and listed in
:data:`METRICS` under the name that the tool which made it known gave it. With r and a for the two predictions:

===========  ====================================================  ====================  ===============================
name         formula                                               pseudocount           as in
===========  ====================================================  ====================  ===============================
subtract     a - r                                                 none                  gReLU, selene
divide       (a + pseudocount) / (r + pseudocount)                 0                     gReLU
log2FC       log2(a + pseudocount) - log2(r + pseudocount)         0                     gReLU
logit        log(a / (1-a)) - log(r / (1-r)) of probabilities      clipped to 1e-6 from  selene, DeepSEA
                                                                   0 and 1
logfc        (a - r) / log(2) of natural log counts                none; the model's     variant-scorer
counts       a - r of log counts                                   none; the model's     chrombpnet, bpnet
SUM, SED     sum over positions of a - r                           none                  baskerville, borzoi
logSUM       sum over positions of log2(a + p) - log2(r + p)       p = 1 per position    baskerville
logSED       log2(p + sum of a) - log2(p + sum of r)               p = 1 per sum         borzoi
profile      w(a) - w(r), w(z) = sum of softmax(z) * (z - mean z)  none                  chrombpnet, bpnet, BPReveal
jsd          Jensen-Shannon distance, base 2, of softmax(r) and    none                  variant-scorer, SciPy
             softmax(a)
===========  ====================================================  ====================  ===============================

``SUM`` to ``jsd`` consume outputs along the sequence, (O,) or (O, T), and sum over the O positions: give ``SED`` and
``logSED`` the positions of a gene, ``y[..., gene, :]``. ``profile`` takes the T tracks, which should be those of one
task (its two strands), as one distribution with the positions; ``jsd`` compares track by track; ``joint=`` says
otherwise. The softmax in ``profile`` is of the prediction that it weights: nothing is held fixed from reference to
alternative, as attributions by gradients hold the weights. ``jsd`` is the distance, the square root of the divergence,
between 0 and 1.

A metric is signed if it is above its neutral value where the alternative is stronger; all but ``jsd`` are. What equals
the reference gets exactly the neutral value: 0, and 1 for ``divide``. Numbers are added up and given in float64.

Metrics that are the difference of one number for each sequence, f(alternative) - f(reference), can be computed on the
device, as the ``reduce`` of a :class:`~fastism.FastISM`: see :meth:`Metric.reducer`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fastism import formulas
from fastism.scores import is_numbers, map_outputs, select_target

Consumes = Literal["scalar", "profile", "any"]
_CHUNK = 1 << 22  # numbers that are taken as float64 at once


@dataclass(frozen=True)
class Metric:
    """A function of predictions of a sequence and of what it is changed to.

    Attributes:
        name: How it is asked for.
        consumes: ``"scalar"``: each output by itself, whatever its shape, (..., *output) to (..., *output).
            ``"profile"``: outputs along the sequence, (..., O) or (..., O, T), of which the O positions, and for some
            metrics the T tracks, are taken together. ``"any"``: a function of your own.
        signed: Whether its sign says in which direction the prediction moves.
        pairwise: Whether it needs both predictions at once; otherwise it is a difference of a number for each.
        formula: What is computed, with r and a for the reference and the alternative.
        neutral: Its value where nothing changes, and what equals the reference is given; None for a function of your
            own, whose answer stands.
        function: Of float64 arrays (rows, 1, *output) and (rows, K, *output).
        tensors: For metrics that are not pairwise, f in ``keras.ops``: (N, *output) to (N, ...).
        options: Pseudocounts and the like, with their defaults.
        parts: For a metric of profiles that is not pairwise, what of it is computed on the device, in ``keras.ops``,
            and the metric of what comes back; by default all of it, ``tensors``, and the plain difference.
    """

    name: str
    consumes: Consumes
    signed: bool
    pairwise: bool
    formula: str
    function: Callable[..., np.ndarray] = field(repr=False)
    tensors: Callable[..., Any] | None = field(default=None, repr=False)
    neutral: float | None = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Callable[..., Any], Metric] | None = field(default=None, repr=False)

    def __call__(self, reference: Any, alternative: Any, *, target: Any = None, **options: Any) -> np.ndarray:
        """The metric of each alternative.

        Args:
            reference: (N, *output) predictions of the sequences as they are; several outputs as a list or dict.
            alternative: (N, ..., *output) predictions of what they are changed to, such as (N, P, A, *output); several
                outputs likewise.
            target: Which output or targets to take first, as :func:`fastism.scores.select_target` reads it. Of several
                outputs, such as profile and counts, one has to be chosen. An index takes the last axis away, so that a
                profile (O, T) becomes one (O,).
            **options: Those in ``options``, such as ``pseudocount``.

        Returns:
            float64 (N, ..., *rest), such as (N, P, A, T): ``*rest`` is ``*output`` for a metric that consumes scalars,
            and what the metric's formula leaves of it otherwise.

        Raises:
            TypeError: If there is no such option.
            ValueError: If shapes do not fit, or the formula is not defined for the numbers; the message says what is.

        Example:
            >>> reference, alternative = [[1.0, 3.0]], [[[[1.0, 3.0], [3.0, 3.0]]]]      # (N, T), (N, P, A, T)
            >>> METRICS["log2FC"](reference, alternative, pseudocount=1)
            array([[[[0., 0.], [1., 0.]]]])
        """
        settings = self._settings(options)
        before, after = _pair(self, reference, alternative, target)
        rank = after.ndim - before.ndim  # axes between N and the output
        output = before.shape[1:]
        flat = after.reshape(len(after), int(np.prod(after.shape[1 : rank + 1])), *output)
        found = [
            self._chunk(before[i : i + step], flat[i : i + step], settings)
            for step in [max(1, _CHUNK // max(1, int(np.prod(flat.shape[1:]))))]
            for i in range(0, max(len(flat), 1), step)
        ]
        whole = np.concatenate(found)
        return whole.reshape(*after.shape[: rank + 1], *whole.shape[2:])

    def _chunk(self, before: np.ndarray, after: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
        """(rows, *output) and (rows, K, *output) to (rows, K, ...)."""
        r, a = before[:, None].astype(np.float64), after.astype(np.float64)
        try:
            found = np.asarray(self.function(r, a, **settings), dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        if found.shape[:2] != after.shape[:2]:
            raise ValueError(
                f"{self.name} gives shape {found.shape} for a reference {r.shape} and alternatives {a.shape}; a "
                f"number, or an array, for each of {after.shape[:2]} is accepted."
            )
        if self.neutral is None:
            return found
        same = r == a  # sums of equal numbers may round differently in vector units, so what is equal is set
        if self.consumes == "profile":
            same = same.all(axis=tuple(range(2, same.ndim)))
            same = same.reshape(*same.shape, *[1] * (found.ndim - 2))
        return np.where(same, self.neutral, found)

    def reducer(self, target: Any = None, **options: Any) -> Callable[[Any], Any]:
        """The metric's number for each sequence as a function in ``keras.ops``, for ``FastISM(model, reduce=...)``.

        Only these numbers leave the device. The metric is then the plain difference of what comes back,
        :func:`fastism.scores.difference`; it is computed in the model's own precision, and a small difference of large
        sums is less exact than from the whole outputs in float64.

        Args:
            target: Which output or targets to take first: an index, a name of a dict's output, a slice or a list of
                indices, or ``(output, target)``, as in a call.
            **options: As in a call. Whether the formula is defined for the numbers is not checked on the device.

        Raises:
            ValueError: If the metric needs both predictions at once.
            TypeError: If there is no such option.

        Example::

            ism = FastISM(model, reduce=METRICS["logSUM"].reducer())
            differences = difference(*ism.saturate(x))       # (N, P, A, T)
        """
        settings, tensors = self._settings(options), self.tensors
        if tensors is None:
            raise ValueError(
                f"{self.name} is no difference of a number for each sequence, so it cannot be computed on the device; "
                "take the whole outputs and call the metric on them."
            )

        def reduce(outputs: Any) -> Any:
            return tensors(_tensor_target(outputs, target, self.name), **settings)

        return reduce

    def using(self, **options: Any) -> Metric:
        """The same metric with other options, such as ``METRICS["log2FC"].using(pseudocount=1)``.

        Raises:
            TypeError: If there is no such option.
        """
        return replace(self, options=self._settings(options))

    def on_device(self, target: Any = None) -> tuple[Callable[[Any], Any] | None, Metric]:
        """What to compute of the formula on the device, and the metric of what comes back.

        Sums over positions are made on the device, so that no profile leaves it. What has one number for each target is
        computed in float64 on the host, where it is checked.

        Args:
            target: Which targets to take, as a list of indices; all by default.

        Returns:
            For ``FastISM(model, reduce=...)``, None for nothing; and the metric to call on the reference and the
            mutants. Together they give what the metric gives of the whole outputs.
        """
        tensors: Callable[..., Any] | None = None
        rest: Metric = self
        settings: dict[str, Any] = {}
        if self.consumes == "profile" and not self.pairwise and self.tensors is not None:
            tensors, rest = self.parts or (self.tensors, subtract)
            settings = {k: v for k, v in self.options.items() if k not in rest.options}
            rest = rest.using(**{k: v for k, v in self.options.items() if k in rest.options})
        if tensors is None and target is None:
            return None, rest

        def reduce(outputs: Any) -> Any:
            chosen = _tensor_target(outputs, target, self.name)
            if self.consumes == "profile" and (not 2 <= len(chosen.shape) <= 3 or chosen.shape[1] == 1):
                raise ValueError(
                    f"{self.name} consumes profiles, (N, O) or (N, O, T) with O positions; the output has shape "
                    f"{tuple(chosen.shape)}. Choose another output, or another metric."
                )
            return chosen if tensors is None else tensors(chosen, **settings)

        return reduce, rest

    def _settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise TypeError(f"{self.name} has no option {unknown}; {sorted(self.options) or 'none'} is accepted.")
        return {**self.options, **options}


def get_metric(metric: str | Metric | Callable[[np.ndarray, np.ndarray], Any]) -> Metric:
    """A metric by its name, or a function of your own as a metric.

    Args:
        metric: A name in :data:`METRICS`; or a function of two float64 arrays, reference (rows, 1, *output) and
            alternative (rows, K, *output), which broadcast against each other, that gives (rows, K, ...).

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is neither a name nor a function.

    Example:
        >>> largest = get_metric(lambda reference, alternative: abs(alternative - reference).max(-1))
        >>> largest([[1.0, 5.0]], [[[[1.0, 5.0], [0.0, 7.0]]]])
        array([[[0., 2.]]])
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"metric is {metric!r}; a function or a name of {', '.join(METRICS)} is accepted.")
        return METRICS[metric]
    if not callable(metric):
        raise TypeError(f"metric is {metric!r}; a function or a name of {', '.join(METRICS)} is accepted.")
    name = getattr(metric, "__name__", type(metric).__name__)
    told = (inspect.getdoc(metric) or "").partition("\n")[0]
    return Metric(name, "any", True, True, told or "user's own", metric, neutral=None)


def _pair(metric: Metric, reference: Any, alternative: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """The chosen output's arrays (N, *output) and (N, ..., *output)."""
    if isinstance(reference, (Mapping, list, tuple)) and not is_numbers(reference):
        reference, alternative = (select_target(part, target) for part in (reference, alternative))
        if isinstance(reference, (Mapping, list, tuple)):
            if len(reference) != 1:
                raise ValueError(
                    f"{metric.name}: there are {len(reference)} outputs; choose one with target=, an index or name, or "
                    "(output, target) for one of its targets."
                )
            first = next(iter(reference)) if isinstance(reference, Mapping) else 0
            reference, alternative = reference[first], alternative[first]
    else:
        reference, alternative = np.asarray(reference), np.asarray(alternative)
        if target is not None and reference.ndim < 2:
            raise ValueError(
                f"{metric.name}: the reference has shape {reference.shape}, so there is no target to choose."
            )
        reference, alternative = (select_target(part, target) for part in (reference, alternative))
    before, after = np.asarray(reference), np.asarray(alternative)
    rank = after.ndim - before.ndim
    if rank < 0 or before.ndim < 1 or len(before) != len(after) or before.shape[1:] != after.shape[rank + 1 :]:
        raise ValueError(
            f"{metric.name}: the reference has shape {before.shape} and the alternatives {after.shape}; (N, *output) "
            "and (N, ..., *output), such as (N, P, A, *output), are accepted."
        )
    if metric.consumes == "profile" and (before.ndim not in (2, 3) or before.shape[1] == 1):
        raise ValueError(
            f"{metric.name}: the reference has shape {before.shape}; it consumes profiles, (N, O) or (N, O, T) with O "
            "positions. Choose another output with target=, or another metric."
        )
    return before, after


def _tensor_target(outputs: Any, target: Any, name: str) -> Any:
    """The chosen tensor of a model's outputs, as :func:`select_target` chooses of arrays."""
    if isinstance(outputs, (Mapping, list, tuple)):
        inner = None
        if isinstance(target, tuple) and len(target) == 2:
            target, inner = target
        one = len(outputs) == 1 and target is None
        picked = select_target(_Numbered.like(outputs), 0 if one else target)
        if not isinstance(picked, _Numbered):
            raise ValueError(
                f"{name}: the model has {len(outputs)} outputs; choose one with target=, an index or name, or (output, "
                "target) for one of its targets."
            )
        return _tensor_target(picked.tensor, inner, name)
    if target is None:
        return outputs
    from keras import ops

    found = select_target(np.arange(int(outputs.shape[-1])), target)
    return outputs[..., int(found)] if np.ndim(found) == 0 else ops.take(outputs, [int(i) for i in found], axis=-1)


@dataclass(frozen=True)
class _Numbered:
    """A tensor that NumPy leaves alone while outputs are chosen among."""

    tensor: Any

    @staticmethod
    def like(outputs: Any) -> Any:
        return map_outputs(_Numbered, outputs)


_TRACKS = "over the positions"
subtract = Metric("subtract", "scalar", True, False, "a - r", formulas.subtract, formulas.identity_tensors)
divide = Metric(
    "divide",
    "scalar",
    True,
    True,
    "(a + pseudocount) / (r + pseudocount)",
    formulas.divide,
    neutral=1.0,
    options={"pseudocount": 0.0},
)
log2FC = Metric(
    "log2FC",
    "scalar",
    True,
    False,
    "log2(a + pseudocount) - log2(r + pseudocount)",
    formulas.log2fc,
    formulas.log2_tensors,
    options={"pseudocount": 0.0},
)
logit = Metric(
    "logit",
    "scalar",
    True,
    False,
    "log(a / (1 - a)) - log(r / (1 - r)), both kept clip away from 0 and 1",
    formulas.logit,
    formulas.logit_tensors,
    options={"clip": 1e-6},
)
logfc = Metric(
    "logfc", "scalar", True, False, "(a - r) / log(2) of natural log counts", formulas.logfc, formulas.logfc_tensors
)
counts = Metric("counts", "scalar", True, False, "a - r of log counts", formulas.subtract, formulas.identity_tensors)
SUM = Metric("SUM", "profile", True, False, f"sum of (a - r) {_TRACKS}", formulas.sum_difference, formulas.sum_tensors)
SED = replace(SUM, name="SED")
logSUM = Metric(
    "logSUM",
    "profile",
    True,
    False,
    f"sum of (log2(a + pseudocount) - log2(r + pseudocount)) {_TRACKS}",
    formulas.log_sum,
    formulas.log_sum_tensors,
    options={"pseudocount": 1.0},
)
logSED = Metric(
    "logSED",
    "profile",
    True,
    False,
    f"log2(pseudocount + sum of a) - log2(pseudocount + sum of r), sums {_TRACKS}",
    formulas.log_sed,
    formulas.log_sed_tensors,
    options={"pseudocount": 1.0},
    parts=(formulas.sum_tensors, log2FC),
)
profile = Metric(
    "profile",
    "profile",
    True,
    False,
    f"w(a) - w(r), w(z) = sum of softmax(z) * (z - mean z) {_TRACKS} (and tracks, if joint)",
    formulas.profile,
    formulas.profile_tensors,
    options={"joint": True},
)
jsd = Metric(
    "jsd",
    "profile",
    False,
    True,
    f"Jensen-Shannon distance, base 2, of softmax(r) and softmax(a) {_TRACKS} (and tracks, if joint)",
    formulas.jsd,
    options={"joint": False},
)

#: The metrics by name.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (subtract, divide, log2FC, logit, logfc, counts, SUM, SED, logSUM, logSED, profile, jsd)
}
