"""What the benchmarks time: a model, its size, and which of its positions are mutated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import ROOT


@dataclass(frozen=True)
class Case:
    """A model to time.

    Attributes:
        title: For tables.
        source: Name in `fastism.models` without its ``_model``, or ``"architecture:"`` and a name in
            ``tests/architectures``.
        length: Of the input, in bp.
        central: How many central positions are mutated; None for all.
        options: Further arguments of the builder.
    """

    title: str
    source: str
    length: int = 1000
    central: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, length: int | None = None) -> Any:
        """The Keras model, of another length if one is given."""
        kind, _, name = self.source.rpartition(":")
        if not kind:
            from fastism import models

            return getattr(models, f"{name}_model")(seqlen=length or self.length)
        builder: Callable[..., Any] = architectures()[name].build
        return builder(**{**self.options, "length": length or self.length})

    def positions(self, length: int) -> tuple[int, int]:
        """``(start, end)`` of the positions that are mutated."""
        width = min(self.central or length, length)
        start = (length - width) // 2
        return start, start + width


def architectures() -> Mapping[str, Any]:
    """The published architectures of the tests, by name. Imports Keras."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    from architectures import ARCHITECTURES  # pyright: ignore[reportMissingImports]

    return ARCHITECTURES


_ATTENTION = dict(blocks=4, heads=4, key_size=32, value_size=64, last=512, targets=(500,))
_ENFORMER = dict(length=4096, stem=128, tower=(128, 152, 176, 192, 216, 256), crop=4, **_ATTENTION)
_QUARTER = dict(stem=72, tower=(84, 100, 117, 138, 163, 192), filters=96, last=384)
_EIGHTH = dict(stem=36, tower=(42, 50, 58, 69, 81, 96), filters=48, last=192, targets=(50, 20))
_BASENJI2 = dict(length=16384, dilations=(1, 2, 3, 4, 6, 9), crop=8, targets=(500, 150), **_QUARTER)
_WIDE = dict(filters=128)
_SPLICEAI = dict(filters=8)
#: Sizes at which architectures of the tests are timed that take too long at full size, as arguments of their ``build``.
MEDIUM: Mapping[str, Mapping[str, Any]] = {
    "chrombpnet": _WIDE,
    "chrombpnet_full": dict(filters=128, bias_filters=64),
    "dilated_cnn": _WIDE,
    "dilated_cnn_decoupled": _WIDE,
    "spliceai": _SPLICEAI,
    "spliceai_short": _SPLICEAI,
    "spliceai_any_length": _SPLICEAI,
    "beluga": dict(filters=(128, 192, 256), units=500),
    "crested_basenji": dict(stem=128, filters=64, last=1024),
    "basenji2": _BASENJI2,
    "basenji2_mouse": _BASENJI2,
    "basenji2_augmented": _BASENJI2,
    "akita_trunk": dict(length=16384, tower=8, dilations=(1, 2, 3, 5)),
    "enformer": dict(features=48, **_ENFORMER),
    "enformer_basenji": _ENFORMER,
    "enformer_composite": _ENFORMER,
    "borzoi": dict(
        length=2048,
        stem=128,
        tower=(152, 184, 224, 264, 320, 384),
        features=48,
        crop=20,
        **{**_ATTENTION, "last": 480},
    ),
}

CASES: Mapping[str, Case] = {
    "basset": Case("Basset", "basset"),
    "basset_2000": Case("Basset, 2000 bp", "basset", 2000),
    "factorized_basset": Case("Factorized Basset", "factorized_basset"),
    "bpnet": Case("BPNet, 9 dilated layers", "bpnet"),
    "chrombpnet": Case("ChromBPNet, 128 filters, 2114 bp", "architecture:chrombpnet", 2114, None, _WIDE),
    "deepstarr": Case("DeepSTARR, 249 bp", "architecture:deepstarr", 249),
    "beluga": Case("DeepSEA-Beluga, 2000 bp", "architecture:beluga", 2000),
    "deeptopic": Case("DeepTopic CNN, 2114 bp", "architecture:deeptopic_cnn", 2114),
    "dilated": Case("Dilated CNN, 128 filters, 2114 bp", "architecture:dilated_cnn", 2114, None, _WIDE),
    "basenji": Case(
        "Basenji2, an eighth of the filters, 131 kb, central 200",
        "architecture:basenji2",
        131072,
        200,
        _EIGHTH,
    ),
    "spliceai": Case("SpliceAI, 10,101 bp, central 200", "architecture:spliceai_short", 10101, 200),
    "enformer": Case("Enformer, reduced, 4096 bp, central 200", "architecture:enformer", 4096, 200, MEDIUM["enformer"]),
}
