"""Which numbers of one model, or of several that are averaged, are scored."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastism import keras2
from fastism.graph import Graph
from fastism.inputs import check_input_index, output_names, read_outputs
from fastism.inside import read
from fastism.metrics import Metric


class Chosen(NamedTuple):
    """Which numbers of a model are scored.

    Attributes:
        output: The output, for ``FastISM(model, outputs=...)``; None for a model's only one.
        targets: Indices of targets; None for all.
        names: Names of the targets; None for their indices.
        shape: Of the output, with None for the sequences and for what the model does not say.
    """

    output: int | str | None
    targets: list[int] | None
    names: tuple[str, ...] | None
    shape: tuple[Any, ...]

    @property
    def along(self) -> bool:
        """Whether the output has positions and targets, (O, T)."""
        return len(self.shape) == 3

    def check(self, metric: Metric) -> None:
        """Refuse a metric of profiles for another output.

        Raises:
            ValueError: If it is one.
        """
        if metric.consumes == "profile" and (len(self.shape) not in (2, 3) or self.shape[1] == 1):
            raise ValueError(
                f"metric {metric.name!r} consumes profiles, (O,) or (O, T) with O positions; the output has shape "
                f"{self.shape[1:]}. Choose another output, or another metric."
            )

    def check_pairs(self, pairs: Sequence[int] | None) -> None:
        """Refuse pairs of targets for another number of targets: a metric may leave none to count.

        Raises:
            ValueError: If they are.
        """
        own = self.shape[-1] if len(self.shape) > 1 else 1
        count = own if self.targets is None else len(self.targets)
        if pairs is not None and count is not None and len(pairs) != count:
            raise ValueError(
                f"strand_pairs (--strand-pairs) is {list(pairs)}, but {count} target{'s are' * (count != 1) or ' is'} "
                "scored; the index of one of these is accepted for each, its own where it has no partner."
            )

    @classmethod
    def read(
        cls,
        model: Any,
        graph: Graph,
        output: int | str | None,
        targets: Sequence[int] | None,
        names: Sequence[str] | None,
    ) -> Chosen:
        """Check what a caller asks for.

        Raises:
            ValueError: If an output has to be chosen, or is not there, or a target is not, or is there twice, or names
                do not fit.
            TypeError: If targets are no indices, or names no list.
        """
        which = _one_output(model, graph, output)
        shape = (None, *graph.shape(graph.outputs[which]))
        indices, told = _read_targets(targets, shape[-1]), _read_names(names)
        if told is not None and indices is not None and len(told) != len(indices):
            raise ValueError(
                f"There are {len(told)} target names for {len(indices)} targets; one for each is accepted."
            )
        return cls(output if len(graph.outputs) > 1 else None, indices, told, shape)

    def named(self, count: int, metric: str) -> tuple[str, ...]:
        """Names for so many scores of a sequence.

        Raises:
            ValueError: If names were given, but for another number.
        """
        if self.names is not None:
            if len(self.names) != count:
                raise ValueError(
                    f"There are {len(self.names)} target names, but {count} {'score' if count == 1 else 'scores'} for "
                    "each mutant; one name for each is accepted."
                )
            return self.names
        if self.targets is not None and len(self.targets) == count:
            return tuple(map(str, self.targets))
        return (metric,) if count == 1 and self.targets else tuple(map(str, range(count)))


def _read_targets(targets: Any, size: int | None) -> list[int] | None:
    """Indices of targets, each once; None for all, as an empty list. One index stands for a list of one."""
    try:
        listed = [targets] if not isinstance(targets, Iterable) else list(targets)
        if isinstance(targets, str | bytes | Mapping) or any(isinstance(t, bool | np.bool_) for t in listed):
            raise TypeError
        indices = None if targets is None else [operator.index(t) for t in listed]
    except TypeError:
        raise TypeError(
            f"targets is {targets!r}; a list of indices such as [0, 2] is accepted, or None for all. Names go into "
            "target_names=."
        ) from None
    wrong = [t for t in indices or [] if size is not None and not -size <= t < size]
    if wrong:
        raise ValueError(f"targets holds {wrong[0]}; the output has {size}, counted from 0.")
    check_different([t % size if size else t for t in indices or []], "targets", "give each target once")
    return indices or None


def _read_names(names: Any) -> tuple[str, ...] | None:
    """Names of targets, all different."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable | None):
        raise TypeError(f"target_names is {names!r}; a list of names is accepted, for one target a list of one.")
    told = None if names is None else tuple(map(str, names))
    check_different(told or (), "target_names (--target-names)", "give each a name of its own")
    return told


def check_different(values: Sequence[Any], what: str, remedy: str) -> None:
    """Refuse names or indices of which one stands for two: columns of scores go by them.

    Raises:
        ValueError: If there is one.
    """
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"{what} holds {twice[0]!r} twice; different ones are accepted: {remedy}.")


def graph_of(model: Any) -> Graph:
    """What a model takes and gives, whatever it is made with.

    Raises:
        ModelError: If it is of a kind that cannot be treated.
    """
    return read(keras2.as_keras3(model))


def _one_output(model: Any, graph: Graph, output: int | str | None) -> int:
    """The number of the output that is scored."""
    count, names = len(graph.outputs), ", ".join(map(repr, output_names(graph, model)))
    if output is None and count > 1:
        raise ValueError(
            f"Model {model.name!r} has {count} outputs, {names}; choose one with output= (--head), an index or a name."
        )
    try:
        found = read_outputs(0 if output is None else output, graph, model) or ()
    except ValueError:
        raise ValueError(
            f"output is {output!r}, but model {model.name!r} has {names}; a name or an index from 0 to {count - 1} is "
            "accepted."
        ) from None
    if len(found) != 1:
        raise ValueError(
            f"output is {output!r}, which is {len(found)} outputs of model {model.name!r}; an index from 0 to "
            f"{count - 1} is one."
        )
    return found[0]


class Folds(NamedTuple):
    """Models whose scores are averaged, which take and give arrays of the same shapes.

    Attributes:
        models: At least one.
        graphs: What each takes and gives.
        chosen: Which numbers of each are scored.
    """

    models: list[Any]
    graphs: list[Graph]
    chosen: list[Chosen]

    @classmethod
    def read(
        cls,
        models: Any,
        index: Any,
        output: int | str | None,
        targets: Sequence[int] | None,
        names: Sequence[str] | None,
    ) -> Folds:
        """Check that models can be averaged, before anything is compiled.

        Args:
            models: A model, or a list of models.
            index: Which input is the sequence.
            output, targets, names: As for :meth:`Chosen.read`.

        Raises:
            ValueError: If there is no model, or they take or give arrays of different shapes; or as for
                :meth:`Chosen.read`.
        """
        listed = list(models) if isinstance(models, list | tuple) else [models]
        if not listed:
            raise ValueError("models is empty; a Keras model, or a list of at least one, is accepted.")
        graphs = [graph_of(model) for model in listed]
        chosen = [Chosen.read(m, g, output, targets, names) for m, g in zip(listed, graphs, strict=True)]
        taken = [graph.shape(check_input_index(graph, index)) for graph in graphs]
        counts = [(len(graph.inputs),) for graph in graphs]
        for what, shapes in (
            ("take different numbers of inputs", counts),
            ("take sequences of different shapes", taken),
            ("give outputs of different shapes", [one.shape[1:] for one in chosen]),
        ):
            _check_alike(listed, shapes, what)
        return cls(listed, graphs, chosen)


def check_one_input(model: Any, graph: Graph, what: str) -> None:
    """Refuse a model that takes more than the sequence.

    Args:
        model: The model.
        graph: What it takes.
        what: What takes sequences only, for the message.

    Raises:
        ValueError: If it does.
    """
    count = len(graph.inputs)
    if count > 1:
        raise ValueError(
            f"Model {model.name!r} takes {count} inputs; {what} takes models of the sequence alone. Pass all inputs to "
            "a FastISM (saturate, variants, compare) and what it gives to a metric of fastism.metrics, or to a Scorer, "
            "which takes lists of arrays."
        )


def _check_alike(models: Sequence[Any], shapes: Sequence[tuple[int | None, ...]], what: str) -> None:
    """Refuse shapes of which two differ in more than what one of them leaves open."""
    for i, shape in enumerate(shapes):
        for j, other in enumerate(shapes[:i]):
            pairs = zip(shape, other, strict=False)
            if len(shape) != len(other) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
                raise ValueError(
                    f"The models {what}: {other} (model {j}, {models[j].name!r}) and {shape} "
                    f"(model {i}, {models[i].name!r}); models with equal ones are averaged. Score each by itself."
                )


#: What a scorer sets itself among the options of a FastISM, and what to say instead.
_OWN = {
    "change_ranges": "start= and end= of a Scorer choose the positions",
    "outputs": "output= chooses the one that is scored",
    "reduce": "the metric says what becomes of the output",
}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a FastISM that a scorer sets itself.

    Raises:
        TypeError: If there is one.
    """
    for name in options:
        if name in _OWN:
            raise TypeError(f"{name}= is not accepted here: {_OWN[name]}. For more, use a FastISM.")


def check_same_shape(before: tuple[int, ...], now: tuple[int, ...]) -> None:
    """Refuse scores of a member that are not as many as those of the others: NumPy would repeat the fewer.

    Raises:
        ValueError: If they are not.
    """
    if before != now:
        raise ValueError(
            f"The models give scores of different shapes, {before} and {now}; equal ones are averaged. Score each "
            "model by itself."
        )
