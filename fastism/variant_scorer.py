"""Scores of explicit variants: both alleles in their window, under any number of metrics."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from fastism.chosen import Folds, check_different, check_one_input, check_options, check_same_shape
from fastism.ensemble import Ensemble
from fastism.genome import Genome
from fastism.inputs import as_numbers, read_flag, read_inputs
from fastism.ism import FastISM
from fastism.metrics import METRICS, Metric, get_metric
from fastism.regions import Report
from fastism.scorer import check_length, check_numbers, described, folds_length, only
from fastism.sequences import one_hot
from fastism.vcf import Side, Variant, alleles, read_variants, select_variants

#: What the table of variants has beside the scores.
COLUMNS = ("chrom", "pos", "id", "ref", "alt", "ref_match", "status")


class VariantScorer:
    """Scores pairs of sequences under metrics, by one model or an ensemble.

    Each member of an ensemble (model, strand, shift) is scored by itself, and the scores are averaged.

    Args:
        models: A Keras model, or a list of models (folds), which take and give arrays of the same shapes.
        stats: Names of metrics in :data:`fastism.metrics.METRICS`, or functions; one, or a list. Their names differ
            from each other and from :data:`COLUMNS`.
        output: Which output of a model with several: an index or a name, as ``outputs=`` of
            :class:`~fastism.FastISM` counts and names them.
        targets: Which targets of that output, by index, each once; all by default.
        target_names: Names of those targets, all different; their indices by default.
        rc: Average over both strands.
        shifts: Average over these shifts of the window, in positions.
        strand_pairs: For each chosen target the index of that on the other strand, itself if it has none.
        flip_outputs: Whether the output runs along the sequence, so that it is turned around for the other strand; of
            itself for outputs (O, T).
        length: Of the sequences, for a model that takes any.
        **options: For :class:`~fastism.FastISM`.

    Raises:
        ValueError: If an argument is not accepted.
    """

    def __init__(
        self,
        models: Any,
        stats: Any = ("subtract",),
        *,
        output: int | str | None = None,
        targets: Sequence[int] | None = None,
        target_names: Sequence[str] | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        strand_pairs: Sequence[int] | None = None,
        flip_outputs: bool | None = None,
        length: int | None = None,
        **options: Any,
    ):
        check_options(options)
        listed: Any = [stats] if isinstance(stats, str | Metric) or callable(stats) else stats
        self.metrics = [get_metric(stat) for stat in listed]
        if not self.metrics:
            raise ValueError("stats is empty; at least one metric is accepted.")
        names = [m.name for m in self.metrics]
        check_different(names, "stats", "leave it out, or dataclasses.replace(metric, name=...)")
        for name in names:
            if name in COLUMNS:
                raise ValueError(
                    f"stats holds a metric that is called {name!r}, as a column of the table is ("
                    f"{', '.join(COLUMNS)}); another name is accepted: rename the function, or "
                    "dataclasses.replace(metric, name=...)."
                )
        index = options.get("seq_input_idx", 0)
        folds = Folds.read(models, index, output, targets, target_names)
        check_one_input(folds.models[0], folds.graphs[0], "a VariantScorer")
        self.chosen = folds.chosen[0]
        for metric in self.metrics:
            self.chosen.check(metric)
        self.chosen.check_pairs(strand_pairs)
        self.length = folds_length(folds, length, index)
        reduce, _ = METRICS["subtract"].on_device(self.chosen.targets)  # only what is scored leaves the device
        made = [
            FastISM(m, outputs=c.output, reduce=reduce, **options)
            for m, c in zip(folds.models, folds.chosen, strict=True)
        ]
        self._ensemble = Ensemble(
            made,
            rc=rc,
            shifts=shifts,
            flip_outputs=self.chosen.along if flip_outputs is None else read_flag(flip_outputs, "flip_outputs"),
            strand_pairs=strand_pairs,
        )

    def attributes(self, **more: Any) -> dict[str, Any]:
        """What is done, for a file's metadata."""
        return {
            "stats": {m.name: m.formula for m in self.metrics},
            "options": {m.name: dict(m.options) for m in self.metrics if m.options},
            **described(self._ensemble, self.chosen),
            **more,
        }

    def __call__(self, reference: Any, alternative: Any) -> dict[str, np.ndarray]:
        """Score pairs of sequences.

        Args:
            reference, alternative: (V, L, 4) one-hot.

        Returns:
            (V,) for each metric and target, by the metric's name, with ``:target`` behind it where there are several
            or names were given.

        Raises:
            ValueError: If the sequences do not fit the model, or a metric its outputs.
        """
        totals: dict[str, Any] = {}
        for before, after in self._predicted(*self._read(reference, alternative)):
            for metric in self.metrics:
                values = metric(before, after[:, None])[:, 0]
                check_numbers(values.shape[1:], metric, "variant")
                share = values.reshape(len(values), -1) / len(self._ensemble)
                if metric.name in totals:
                    check_same_shape(totals[metric.name].shape, share.shape)
                totals[metric.name] = totals.get(metric.name, 0.0) + share
        columns: dict[str, np.ndarray] = {}
        for name, values in totals.items():
            if values.shape[1] == 1 and self.chosen.names is None:
                columns[name] = values[:, 0]
            else:
                targets = self.chosen.named(values.shape[1], name)
                columns |= {f"{name}:{target}": values[:, i] for i, target in enumerate(targets)}
        return columns

    def _read(self, reference: Any, alternative: Any) -> tuple[np.ndarray, np.ndarray]:
        """Both as (V, L, A) of the length that is scored."""
        found, first = [], self._ensemble.models[0]
        for x, name in ((reference, "reference"), (alternative, "alternative")):
            try:
                array = as_numbers(x, name)
                (array,) = read_inputs(array, first._graph, first._mutated)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            check_length(array.shape, self.length, name)
            found.append(array)
        before, after = found
        if len(before) != len(after):
            raise ValueError(
                f"There are {len(before)} reference and {len(after)} alternative sequences; one of each for every "
                "variant is accepted."
            )
        return before, after

    def _predicted(self, reference: np.ndarray, alternative: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Predictions (V, *output) of both alleles by each member."""
        members = self._ensemble
        for shift in members.shifts:
            for turn in (False, True)[: 1 + members.rc]:
                pair = [members.seen(x, shift, turn) for x in (reference, alternative)]
                for ism in members.models:
                    before, after = ism.compare(*pair)
                    if turn:
                        before, after = members.back(before), members.back(after)
                    yield only(before), only(after)


def score_variants(
    scorer: VariantScorer,
    genome: str | os.PathLike[str],
    variants: str | os.PathLike[str],
    report: Report,
    *,
    side: Side = "right",
    strict: bool = False,
    batch_size: int = 64,
) -> Iterator[dict[str, Any]]:
    """Score the variants of a file as they come.

    Args:
        scorer: The model or models and the metrics.
        genome: FASTA, plain or bgzipped.
        variants: VCF, BCF, or a table of chrom, pos (1-based), ref, alt and id.
        report: Is told what is left out, and whose reference allele is not the genome's.
        side: Which side of an indel moves, to keep the window's length.
        strict: Raise at the first variant whose reference allele is not the genome's, or that cannot be scored.
        batch_size: Variants that are predicted at once.

    Yields:
        Columns of equal length: ``chrom``, ``pos`` (1-based), ``id``, ``ref``, ``alt``, ``ref_match``, ``status``
        (``"ok"``, or ``"padded"`` where the window runs over an end of the chromosome) and the scores, float32, as the
        writers in :mod:`fastism.writers` take them.

    Raises:
        ValueError: If an argument or the file is not accepted.
    """
    strict = read_flag(strict, "strict")
    try:
        size = 0 if isinstance(batch_size, bool) else operator.index(batch_size)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; a positive integer, of variants at once, is accepted.")
    return _scored(scorer, genome, variants, report, side, strict, size)


def _scored(
    scorer: VariantScorer,
    genome: str | os.PathLike[str],
    variants: str | os.PathLike[str],
    report: Report,
    side: Side,
    strict: bool,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """What :func:`score_variants` yields."""
    with Genome(genome) as opened:
        kept = _kept(scorer, opened, variants, report, side, strict)
        while part := list(islice(kept, batch_size)):
            rows, before, after, states = zip(*part, strict=True)
            yield {
                "chrom": [v.chrom for v in rows],
                "pos": np.array([v.position + 1 for v in rows], dtype=np.int64),
                "id": [v.id for v in rows],
                "ref": [v.ref for v in rows],
                "alt": [v.alt for v in rows],
                "ref_match": np.array([v.ref_match for v in rows], dtype=bool),
                "status": list(states),
                **{name: v.astype(np.float32) for name, v in scorer(one_hot(before), one_hot(after)).items()},
            }


def _kept(
    scorer: VariantScorer, genome: Genome, path: Any, report: Report, side: Side, strict: bool
) -> Iterator[tuple[Variant, str, str, str]]:
    """Variants that can be scored, each with both windows and its status."""
    read = read_variants(path, report=report, strict=strict)
    for variant, window in select_variants(read, scorer.length, genome, report=report, side=side, strict=strict):
        reference, alternative, *_ = alleles(variant, window, genome, side=side)
        yield variant, reference, alternative, "padded" if any(genome.overhang(window)) else "ok"
