"""Scores of explicit variants: both alleles in their window, under any number of metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from fastism.ensemble import moved
from fastism.genome import Genome
from fastism.ism import FastISM
from fastism.metrics import get_metric
from fastism.regions import Report
from fastism.scorer import input_length, metric_target
from fastism.scores import map_outputs
from fastism.sequences import one_hot
from fastism.vcf import Side, Variant, alleles, read_variants, select_variants


class VariantScorer:
    """Scores pairs of sequences under metrics, by one model or an ensemble.

    The predictions of an ensemble's members are averaged, then the metrics are taken.

    Args:
        models: A Keras model, or a list of models (folds).
        stats: Names of metrics in :data:`fastism.metrics.METRICS`, or functions.
        output: Which output of a model with several: an index or a name.
        targets: Which targets of that output, by index; all by default.
        target_names: Names of those targets; their indices by default.
        rc: Average over both strands.
        shifts: Average over these shifts of the window, in positions.
        flip_outputs: Whether outputs run along the sequence, so that they are turned around for the other strand.
        length: Of the sequences, for a model that takes any.
        **options: For :class:`~fastism.FastISM`.

    Raises:
        ValueError: If an argument is not accepted.
    """

    def __init__(
        self,
        models: Any,
        stats: Sequence[Any] = ("subtract",),
        *,
        output: int | str | None = None,
        targets: Sequence[int] | None = None,
        target_names: Sequence[str] | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        flip_outputs: bool = False,
        length: int | None = None,
        **options: Any,
    ):
        self.models = list(models) if isinstance(models, list | tuple) else [models]
        self.metrics = [get_metric(stat) for stat in stats]
        if not self.metrics:
            raise ValueError("stats is empty; at least one metric is accepted.")
        self._target, self._names = metric_target(output, targets), target_names or targets
        self.length = input_length(self.models[0], length, options.get("seq_input_idx", 0))
        self.rc, self.shifts, self.flip_outputs = bool(rc), tuple(shifts), flip_outputs
        self._ism = [FastISM(model, **options) for model in self.models]

    def __call__(self, reference: Any, alternative: Any) -> dict[str, np.ndarray]:
        """Score pairs of sequences.

        Args:
            reference, alternative: (V, L, 4) one-hot.

        Returns:
            (V,) for each metric and target, by the metric's name, with ``:target`` behind it where there are several.

        Raises:
            ValueError: If the sequences do not fit the model, or a metric its outputs.
        """
        before, after = self._predicted(np.asarray(reference), np.asarray(alternative))
        after = map_outputs(lambda y: y[:, None], after)
        columns: dict[str, np.ndarray] = {}
        for metric in self.metrics:
            values = metric(before, after, target=self._target)[:, 0]
            if values.ndim > 2:
                raise ValueError(
                    f"metric {metric.name!r} leaves {values.shape[1:]} numbers for each variant; choose one that sums "
                    "profiles up, such as logSUM, counts, profile or jsd, or one target."
                )
            values = values.reshape(len(values), -1)
            names = [str(n) for n in self._names or range(values.shape[1])]
            if len(names) != values.shape[1]:
                names = [str(n) for n in range(values.shape[1])]
            columns |= {
                metric.name if len(names) == 1 else f"{metric.name}:{n}": values[:, i] for i, n in enumerate(names)
            }
        return columns

    def _predicted(self, reference: np.ndarray, alternative: np.ndarray) -> tuple[Any, Any]:
        """Predictions (V, *output) of both alleles, averaged over the members."""
        found: list[Any] = []
        for ism in self._ism:
            for shift in self.shifts:
                for turn in (False, True)[: 1 + self.rc]:
                    pair = [_seen(x, shift, turn) for x in (reference, alternative)]
                    both = tuple(ism.compare(*pair))
                    found.append(map_outputs(_turned, both) if turn and self.flip_outputs else both)
        if len(found) == 1:
            return found[0]
        parts = [[m[i] for m in found] for i in (0, 1)]
        mean = [map_outputs(lambda *arrays: np.mean(arrays, axis=0, dtype=np.float64), *p) for p in parts]
        return mean[0], mean[1]


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
        (``"ok"``) and the scores, as the writers in :mod:`fastism.writers` take them.

    Raises:
        ValueError: If an argument or the file is not accepted.
    """
    with Genome(genome) as opened:
        kept = _kept(scorer, opened, variants, report, side, strict)
        while part := list(islice(kept, batch_size)):
            rows, before, after = zip(*part, strict=True)
            yield {
                "chrom": [v.chrom for v in rows],
                "pos": np.array([v.position + 1 for v in rows], dtype=np.int64),
                "id": [v.id for v in rows],
                "ref": [v.ref for v in rows],
                "alt": [v.alt for v in rows],
                "ref_match": np.array([v.ref_match for v in rows], dtype=bool),
                "status": ["ok"] * len(part),
                **scorer(one_hot(before), one_hot(after)),
            }


def _kept(
    scorer: VariantScorer, genome: Genome, path: Any, report: Report, side: Side, strict: bool
) -> Iterator[tuple[Variant, str, str]]:
    """Variants that can be scored, each with both windows."""
    read = read_variants(path, report=report, strict=strict)
    for variant, window in select_variants(read, scorer.length, genome, report=report, side=side, strict=strict):
        reference, alternative, *_ = alleles(variant, window, genome, side=side)
        yield variant, reference, alternative


def _seen(x: np.ndarray, shift: int, turn: bool) -> np.ndarray:
    """What a member of the ensemble sees."""
    x = np.stack([moved(s, shift) for s in x]) if shift else x
    return np.ascontiguousarray(x[:, ::-1, ::-1]) if turn else x


def _turned(y: np.ndarray) -> np.ndarray:
    """An output along the sequence, turned around."""
    return y[:, ::-1] if y.ndim > 2 or (y.ndim == 2 and y.shape[1] > 1) else y
