"""From models and a metric to scores of sequences: what the command line and pipelines run for every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fastism import backend
from fastism.ensemble import Ensemble
from fastism.ism import FastISM
from fastism.metrics import Metric, get_metric
from fastism.regions import Region
from fastism.result import ISMScores
from fastism.scores import difference


class Scorer:
    """Scores all substitutions of one-hot sequences under a metric, by one model or an ensemble.

    Args:
        models: A Keras model, or a list of models whose scores are averaged (folds).
        metric: A name in :data:`fastism.metrics.METRICS`, or a function of (reference, alternative).
        output: Which output of a model with several: an index or a name.
        targets: Which targets of that output, by index; all by default.
        target_names: Names of those targets; their indices by default.
        start, end: Stretch of positions to mutate, 0-based and half-open; all by default.
        rc: Average over both strands.
        shifts: Average over these shifts, in positions.
        flip_outputs: Whether the output runs along the sequence, so that it is turned around for the other strand.
        length: Of the sequences, for a model that takes any.
        **options: For :class:`~fastism.FastISM`, such as ``batch_size`` and ``memory``.

    Attributes:
        length: L, of the sequences that it takes.
        start, positions: First mutated position, and how many.
        targets: Names of the targets; None until the first sequences are scored, unless they were given.

    Raises:
        ValueError: If an argument is not accepted.

    Example:
        >>> x = keras.Input((20, 4))
        >>> model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling1D()(
        ...     keras.layers.Conv1D(3, 5)(x))))
        >>> scorer = Scorer(model, targets=[1])
        >>> scores = scorer(np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (3, 20))])
        >>> scores.differences.shape, scores.targets
        ((3, 20, 4, 1), ('1',))
    """

    def __init__(
        self,
        models: Any,
        metric: Any = "subtract",
        *,
        output: int | str | None = None,
        targets: Sequence[int] | None = None,
        target_names: Sequence[str] | None = None,
        start: int = 0,
        end: int | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        flip_outputs: bool = False,
        length: int | None = None,
        **options: Any,
    ):
        self.models = list(models) if isinstance(models, list | tuple) else [models]
        self.metric: Metric = get_metric(metric)
        self._target = metric_target(output, targets)
        self._indices = None if targets is None else [int(t) for t in targets]
        self.targets: tuple[str, ...] | None = None if target_names is None else tuple(map(str, target_names))
        if self._indices is not None and self.targets is None:
            self.targets = tuple(map(str, self._indices))
        self.length = input_length(self.models[0], length, options.get("seq_input_idx", 0))
        from fastism.inputs import read_positions

        self.start, self._end = read_positions(start, end, self.length)
        self.rc, self.shifts = bool(rc), tuple(shifts)
        if not self.metric.pairwise:
            options = {**options, "reduce": self.metric.reducer(self._target)}
        made = [FastISM(model, **options) for model in self.models]
        self._members = made
        alone = len(made) == 1 and not rc and self.shifts == (0,)
        flips = flip_outputs if self.metric.pairwise else False
        self._ism: Any = made[0] if alone else Ensemble(made, rc=rc, shifts=self.shifts, flip_outputs=flips)

    @property
    def positions(self) -> int:
        """P, how many positions are mutated."""
        return self._end - self.start

    @property
    def first(self) -> FastISM:
        """The first model's mutagenesis, for :meth:`~fastism.FastISM.explain`."""
        return self._members[0]

    def __len__(self) -> int:
        """How many predictions are averaged: models times strands times shifts."""
        return len(self.models) * len(self.shifts) * (1 + self.rc)

    def attributes(self, **more: Any) -> dict[str, Any]:
        """What is done, for a file's metadata."""
        from fastism import __version__

        return {
            "metric": self.metric.name,
            "formula": self.metric.formula,
            "fastism": __version__,
            "keras": keras.__version__,
            "backend": backend.name(),
            "precision": keras.config.floatx(),
            "models": [model.name for model in self.models],
            "rc": self.rc,
            "shifts": list(self.shifts),
            "seed": None,
            **more,
        }

    def __call__(
        self,
        x: Any,
        *,
        regions: Sequence[Region] | None = None,
        names: Sequence[str] = (),
        attributes: dict[str, Any] | None = None,
        progress: bool = False,
    ) -> ISMScores:
        """Score all substitutions of some sequences.

        Args:
            x: (N, L, A) sequences.
            regions, names: Of the sequences, kept in the result.
            attributes: Kept in the result; :meth:`attributes` by default.
            progress: Show a progress bar.

        Raises:
            ValueError: If the metric leaves more than one number for each target, as ``subtract`` does of profiles.
        """
        found = self._ism.saturate(x, self.start, self._end, progress)
        if self.metric.pairwise:
            values = self.metric(found.reference, found.mutant, target=self._target)
            reference = np.zeros((len(values), *values.shape[3:]))
        else:
            reference, values = np.asarray(found.reference), np.asarray(difference(*found))
        if values.ndim > 4:
            raise ValueError(
                f"metric {self.metric.name!r} leaves {values.shape[3:]} numbers for each mutant; choose one that sums "
                "profiles up, such as logSUM, counts, profile or jsd, or one target."
            )
        values = values.reshape(*values.shape[:3], -1)
        reference = reference.reshape(len(values), -1)
        targets = self.targets or tuple(map(str, range(values.shape[3])))
        if len(targets) != values.shape[3]:
            if self.targets is not None and values.shape[3] != 1:
                raise ValueError(f"There are {len(targets)} target names, but {values.shape[3]} targets.")
            targets = (self.metric.name,)
        self.targets = targets
        return ISMScores(
            sequences=np.asarray(x),
            differences=values.astype(np.float32),
            reference=reference.astype(np.float32),
            start=self.start,
            targets=targets,
            regions=regions,
            names=names,
            attributes=attributes or self.attributes(),
        )


def metric_target(output: int | str | None, targets: Sequence[int] | None) -> Any:
    """As metrics take it."""
    chosen = None if targets is None else [int(t) for t in targets]
    if output is None:
        return chosen
    return output if chosen is None else (output, chosen)


def input_length(model: Any, length: int | None, index: int) -> int:
    """L, that of the model's input or as given."""
    own = model.inputs[index].shape[1] if getattr(model, "inputs", None) else None
    if own is None and length is None:
        raise ValueError(f"Model {model.name!r} takes sequences of any length; say which with length=.")
    if own is not None and length is not None and own != length:
        raise ValueError(f"length is {length}, but model {model.name!r} takes sequences of {own}.")
    return int(own or 0) if length is None else int(length)


def central(
    model: Any, mutated: int | None, up: int | None, down: int | None, length: int | None = None
) -> tuple[int, int]:
    """First position, and that behind the last, of a stretch around the middle of a model's input.

    Args:
        model: A Keras model.
        mutated: How many positions, half of them on each side; all by default.
        up, down: Or how many before, and from, the middle; what is not given of the two is 0.
        length: Of the sequences, for a model that takes any.

    Raises:
        ValueError: If both forms are given, or more positions than there are.

    Example:
        >>> model = keras.Sequential([keras.Input((100, 4)), keras.layers.Flatten()])
        >>> central(model, 20, None, None), central(model, None, 5, None)
        ((40, 60), (45, 50))
    """
    size = input_length(model, length, 0)
    if mutated is not None and (up is not None or down is not None):
        raise ValueError("Give either how many central positions are mutated, or how many up- and downstream.")
    if mutated is None and up is None and down is None:
        return 0, size
    before, after = (mutated // 2, mutated - mutated // 2) if mutated is not None else (up or 0, down or 0)
    start, end = size // 2 - before, size // 2 + after
    if not 0 <= start < end <= size:
        raise ValueError(f"Positions {start} to {end} around the middle do not lie within sequences of {size}.")
    return start, end
