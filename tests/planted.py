"""Results as a good model leaves them, without a model: random sequences, a planted motif, plausible differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastism.regions import Region
from fastism.result import ISMScores

MOTIF = "CCACCAGGGGGCGC"
WEIGHTS = np.array([0.3, 0.9, 0.5, 1.3, 1.6, 0.4, 1.2, 1.5, 0.8, 1.6, 1.7, 0.6, 1.4, 0.5])  # what each letter is worth
LETTERS = "ACGT"


def planted_scores(
    count: int = 12, length: int = 300, *, targets: int = 2, seed: int = 0, margin: int = 0, noise: float = 0.05
) -> ISMScores:
    """A result over `count` sequences, each with the motif once; mutated but for `margin` positions at both ends.

    Every third region is on the minus strand, every fifth sequence has a run of N, and the later a sequence the weaker
    its motif. The targets after the first see the same motif more weakly, and noise of their own.
    """
    generator = np.random.default_rng(seed)
    letters = generator.integers(0, 4, (count, length))
    sequences = np.eye(4, dtype=np.float32)[letters]
    places = generator.integers(margin + 5, length - margin - len(MOTIF) - 5, count)
    differences = np.zeros((count, length, 4, targets), np.float32)
    for n, place in enumerate(places):
        strength = 1.5 / (1 + 0.15 * n)
        site = slice(place, place + len(MOTIF))
        sequences[n, site] = np.eye(4)[[LETTERS.index(letter) for letter in MOTIF]]
        near = np.exp(-0.5 * ((np.arange(length) - place - len(MOTIF) / 2) / 25) ** 2)  # what is near matters a little
        for t in range(targets):
            share = strength / (1 + t)
            effect = generator.normal(0, noise * (1 + 3 * near[:, None]) * share, (length, 4))
            effect[site] -= share * WEIGHTS[:, None] * generator.uniform(0.6, 1.1, (len(MOTIF), 4))
            differences[n, :, :, t] = effect
        if n % 5 == 4:
            sequences[n, margin + 2 : margin + 8] = 0
            differences[n, margin + 2 : margin + 8] = 0
    differences[sequences == 1] = 0
    regions = [
        Region(f"chr{1 + n % 4}", 1_000_000 + 5_000 * n, 1_000_000 + 5_000 * n + length, "-" if n % 3 == 2 else "+")
        for n in range(count)
    ]
    return ISMScores(
        sequences=sequences,
        differences=differences[:, margin : length - margin],
        reference=generator.normal(2, 1, (count, targets)).astype(np.float32),
        start=margin,
        targets=["CTCF", "RAD21", "SMC3", "YY1"][:targets],
        regions=regions,
        names=[f"peak_{n + 1}" for n in range(count)],
        attributes={
            "metric": "log2FC",
            "pseudocount": 1.0,
            "model": "ctcf.keras",
            "model_hash": "sha256:9f2c1ab0",
            "fastism": "1.0.0",
            "precision": "float32",
            "seed": 0,
            "ensemble": ["fold 0", "fold 1"],
        },
    )


def distances(scores: ISMScores) -> ISMScores:
    """The same result as a metric without a sign leaves it: how far each substitution moves the prediction."""
    attributes = {**scores.attributes, "metric": "jsd", "signed": False}
    return replace(scores, differences=np.abs(scores.differences), attributes=attributes)


def motif_start(scores: ISMScores, row: int) -> int:
    """Where the motif stands in a sequence."""
    spelt = "".join(LETTERS[int(x.argmax())] if x.any() else "N" for x in np.asarray(scores.sequences[row]))
    return spelt.index(MOTIF)
