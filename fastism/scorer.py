"""From models and a metric to scores of sequences: what the command line and pipelines run for every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from fastism import backend
from fastism.chosen import Chosen, Folds, check_one_input, check_options, check_same_shape, graph_of
from fastism.ensemble import Ensemble
from fastism.graph import Graph
from fastism.identity import architecture_digest, metric_digest, weights_digest
from fastism.inputs import check_input_index, read_flag, read_inputs, read_length, read_positions
from fastism.ism import FastISM
from fastism.metrics import Metric, get_metric
from fastism.regions import Region
from fastism.result import ISMScores
from fastism.sequences import PROTEIN, one_hot


class Scorer:
    """Scores all substitutions of one-hot sequences under a metric, by one model or an ensemble.

    Each member of an ensemble (model, strand, shift) is scored by itself, and the scores are averaged.

    Args:
        models: A Keras model, or a list of models whose scores are averaged (folds), which take and give arrays of the
            same shapes.
        metric: A name in :data:`fastism.metrics.METRICS`, or a function of (reference, alternative).
        output: Which output of a model with several: an index or a name, as ``outputs=`` of
            :class:`~fastism.FastISM` counts and names them.
        targets: Which targets of that output, by index, each once; all by default.
        target_names: Names of those targets, all different; their indices by default.
        start, end: Stretch of positions to mutate, 0-based and half-open; all by default.
        rc: Average over both strands.
        shifts: Average over these shifts, in positions.
        strand_pairs: For each chosen target the index of that on the other strand, itself if it has none; such as
            (1, 0) for a profile of two strands.
        flip_outputs: Whether the output runs along the sequence, so that it is turned around for the other strand; of
            itself for outputs (O, T). What sums over positions does not need it.
        length: Of the sequences, for a model that takes any.
        alphabet: The letters in the order of the channels; ACGT for 4 channels and
            :data:`fastism.sequences.PROTEIN` for 20 by default.
        **options: For :class:`~fastism.FastISM`, such as ``batch_size`` and ``memory``.

    Attributes:
        length: L, of the sequences that it takes.
        start, positions: First mutated position, and how many.
        alphabet: The letters.
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
        strand_pairs: Sequence[int] | None = None,
        flip_outputs: bool | None = None,
        length: int | None = None,
        alphabet: str | None = None,
        **options: Any,
    ):
        check_options(options)
        self.metric: Metric = get_metric(metric)
        index = options.get("seq_input_idx", 0)
        folds = Folds.read(models, index, output, targets, target_names)
        self.chosen = folds.chosen[0]
        self.chosen.check(self.metric)
        self.chosen.check_pairs(strand_pairs)
        self.targets: tuple[str, ...] | None = self.chosen.names
        self.length = folds_length(folds, length, index)
        self.alphabet = letters(folds.graphs[0], alphabet, index)
        self.start, self._end = read_positions(start, end, self.length)
        reduce, self._host = self.metric.on_device(self.chosen.targets)
        made = [
            FastISM(m, outputs=c.output, reduce=reduce, **options)
            for m, c in zip(folds.models, folds.chosen, strict=True)
        ]
        self._members = made
        summed = self._host is not self.metric
        flips = (self.chosen.along if flip_outputs is None else read_flag(flip_outputs, "flip_outputs")) and not summed
        self._ensemble = Ensemble(
            made,
            rc=rc,
            shifts=shifts,
            flip_outputs=flips,
            strand_pairs=strand_pairs,
            seq_input=index,
        )

    @property
    def positions(self) -> int:
        """P, how many positions are mutated."""
        return self._end - self.start

    @property
    def first(self) -> FastISM:
        """The first model's mutagenesis, for :meth:`~fastism.FastISM.explain`."""
        return self._members[0]

    def __len__(self) -> int:
        """How many scores are averaged: models times strands times shifts."""
        return len(self._ensemble)

    def attributes(self, **more: Any) -> dict[str, Any]:
        """What is done, for a file's metadata, and to know whether an interrupted run may go on."""
        neutral = self._host.neutral
        return {
            "metric": self.metric.name,
            "formula": f"{self.metric.formula} - {neutral:g}" if neutral else self.metric.formula,
            "metric_digest": metric_digest(self.metric),
            "options": dict(self.metric.options),
            "signed": self.metric.signed,
            **described(self._ensemble, self.chosen),
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
            ValueError: If the metric leaves more than one number for each target, as ``subtract`` does of profiles, or
                none, as ``log2FC`` does of negative predictions.
        """
        if not isinstance(attributes, Mapping | None):
            raise TypeError(f"attributes is {attributes!r}; a dict is accepted.")
        x, progress = self._read(x), read_flag(progress, "progress")
        reference: Any = 0.0
        values: Any = None
        for before, after in self._ensemble.members(x, self.start, self._end, progress):
            before, after = only(before), only(after)
            scores = self._host(before, after)
            scores -= self._host.neutral or 0
            scores /= len(self)
            if values is not None:
                check_same_shape(values.shape, scores.shape)
            values = scores if values is None else np.add(values, scores, out=values)
            kept = before if before.size * self.positions * after.shape[2] == scores.size else np.zeros(len(before))
            reference = reference + kept.astype(np.float64) / len(self)
        self._check(values)
        values = values.reshape(*values.shape[:3], -1)
        reference = np.broadcast_to(reference.reshape(len(values), -1), (len(values), values.shape[3]))
        self.targets = self.chosen.named(values.shape[3], self.metric.name)
        return ISMScores(
            sequences=np.asarray(self._ensemble.sequence(x)),
            differences=values.astype(np.float32),
            reference=reference.astype(np.float32),
            start=self.start,
            targets=self.targets,
            regions=regions,
            names=names,
            alphabet=self.alphabet,
            attributes=attributes or self.attributes(),
        )

    def check_one_input(self, what: str) -> None:
        """Refuse models of several inputs, for what knows of sequences only: see :mod:`fastism.chosen`."""
        check_one_input(self.first.model, self.first._graph, what)

    def _read(self, x: Any) -> Any:
        """Sequences of the length that is scored, or a list of all inputs."""
        graph, mutated = self.first._graph, self.first._mutated
        arrays = read_inputs(x, graph, mutated)
        check_length(arrays[graph.inputs.index(mutated)].shape, self.length, "x")
        return arrays if len(arrays) > 1 else arrays[0]

    def _check(self, values: np.ndarray) -> None:
        """Refuse scores that are more than a number for each target, or none."""
        check_numbers(values.shape[3:], self.metric, "mutant")
        lost = int(np.isnan(values).sum())
        if lost:
            raise ValueError(
                f"metric {self.metric.name!r} ({self.metric.formula}) is not a number for {lost} of {values.size} "
                "scores: the predictions are outside of what it takes, such as negative counts, or NaN themselves. "
                "'subtract' takes any prediction."
            )


def check_length(shape: tuple[int, ...], length: int, name: str) -> None:
    """Refuse sequences of another length than that which is scored.

    Raises:
        ValueError: If they are.
    """
    if shape[1] != length:
        raise ValueError(
            f"{name} has shape {shape}, sequences of length {shape[1]}; those of {length} are accepted, for which this "
            "was made. Crop or pad them, or make another with length=."
        )


def check_numbers(left: tuple[int, ...], metric: Metric, scored: str) -> None:
    """Refuse what a metric leaves of an output if that is more than a number for each target.

    Args:
        left: Its shape.
        metric: The metric.
        scored: Of what it is, for the message.

    Raises:
        ValueError: If it is more.
    """
    if len(left) > 1:
        raise ValueError(
            f"metric {metric.name!r} leaves {left} numbers for each {scored}; choose one that sums profiles up, such "
            "as logSUM, counts, profile or jsd, or one target."
        )


def only(outputs: Any) -> np.ndarray:
    """The array of the output that was chosen.

    Raises:
        ValueError: If there are several.
    """
    leaves = keras.tree.flatten(outputs)
    if len(leaves) != 1:
        raise ValueError(f"The model has {len(leaves)} outputs; choose one with output= (--head), an index or a name.")
    return np.asarray(leaves[0])


def described(ensemble: Ensemble, chosen: Chosen) -> dict[str, Any]:
    """Versions, models, and what of them is scored, for a file's metadata."""
    from fastism import __version__

    models = [ism.model for ism in ensemble.models]
    kinds = {str(getattr(layer, "compute_dtype", "")) for model in models for layer in model.layers} - {""}
    return {
        "fastism": __version__,
        "keras": keras.__version__,
        "backend": backend.name(),
        "precision": ", ".join(sorted(kinds)) or keras.config.floatx(),
        "models": [model.name for model in models],
        "weights": [weights_digest(model) for model in models],
        "architecture": [architecture_digest(ism._graph) for ism in ensemble.models],
        "output": chosen.output,
        "target_indices": chosen.targets,
        "rc": ensemble.rc,
        "shifts": list(ensemble.shifts),
        "strand_pairs": ensemble.strand_pairs,
        "flip_outputs": ensemble.flip_outputs,
        "seed": None,
    }


def input_length(graph: Graph, length: int | None, index: int = 0) -> int:
    """L, that of the model's input or as given.

    Raises:
        ValueError: If it is given though the model says another, or not given though the model takes any.
    """
    own = graph.shape(check_input_index(graph, index))[0]
    if own is None:
        return read_length(length)
    if length is not None and own != length:
        raise ValueError(f"length is {length}, but the model takes sequences of {own}; leave it out.")
    return own


def folds_length(folds: Folds, length: int | None, index: int = 0) -> int:
    """L, that of the input of all models; see :func:`input_length`."""
    own = (g for g in folds.graphs if g.shape(check_input_index(g, index))[0] is not None)
    return input_length(next(own, folds.graphs[0]), length, index)


def letters(graph: Graph, alphabet: str | None, index: int = 0) -> str:
    """The letters of a model's channels, as given or by their number.

    Raises:
        ValueError: If there is no letter for each channel.
    """
    count = graph.shape(check_input_index(graph, index))[1]
    found = {20: PROTEIN}.get(count or 4, "ACGT") if alphabet is None else alphabet
    if not isinstance(found, str):
        raise TypeError(f"alphabet is {found!r}; a text of different capital letters such as 'ACGT' is accepted.")
    one_hot("", alphabet=found)  # refuses letters that it cannot read
    if len(found) != count:
        raise ValueError(
            f"The model has {count} channels and the alphabet is {found!r}; give alphabet=, a letter for each channel."
        )
    return found


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
    size = input_length(graph_of(model), length)
    if mutated is not None and (up is not None or down is not None):
        raise ValueError("Give either how many central positions are mutated, or how many up- and downstream.")
    if mutated is None and up is None and down is None:
        return 0, size
    before, after = (mutated // 2, mutated - mutated // 2) if mutated is not None else (up or 0, down or 0)
    start, end = size // 2 - before, size // 2 + after
    if not before + after:
        raise ValueError(
            "No position is mutated: 0 up- and 0 downstream of the middle (-u, -d); at least one of them has to be "
            "positive."
        )
    if not 0 <= start < end <= size:
        raise ValueError(f"Positions {start} to {end} around the middle do not lie within sequences of {size}.")
    return start, end
