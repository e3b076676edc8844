"""What the speed benchmark times: a model, its size, and which of its positions are mutated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


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
        return builder(length=length or self.length, **self.options)

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


_BASENJI = dict(stem=36, tower=(42, 50, 58, 69, 81, 96), filters=48, last=192, targets=(50, 20))
_ENFORMER = dict(
    stem=128,
    tower=(128, 152, 176, 192, 216, 256),
    crop=4,
    blocks=4,
    heads=4,
    key_size=32,
    value_size=64,
    features=48,
    last=512,
    targets=(500,),
)

CASES: Mapping[str, Case] = {
    "basset": Case("Basset", "basset"),
    "basset_2000": Case("Basset, 2000 bp", "basset", 2000),
    "factorized_basset": Case("Factorized Basset", "factorized_basset"),
    "bpnet": Case("BPNet, 9 dilated layers", "bpnet"),
    "chrombpnet": Case("ChromBPNet, 128 filters, 2114 bp", "architecture:chrombpnet", 2114, None, dict(filters=128)),
    "deepstarr": Case("DeepSTARR, 249 bp", "architecture:deepstarr", 249),
    "beluga": Case("DeepSEA-Beluga, 2000 bp", "architecture:beluga", 2000),
    "deeptopic": Case("DeepTopic CNN, 2114 bp", "architecture:deeptopic_cnn", 2114),
    "dilated": Case("Dilated CNN, 128 filters, 2114 bp", "architecture:dilated_cnn", 2114, None, dict(filters=128)),
    "basenji": Case(
        "Basenji2, an eighth of the filters, 131 kb, central 200", "architecture:basenji2", 131072, 200, _BASENJI
    ),
    "spliceai": Case("SpliceAI, 10,101 bp, central 200", "architecture:spliceai_short", 10101, 200),
    "enformer": Case("Enformer, reduced, 4096 bp, central 200", "architecture:enformer", 4096, 200, _ENFORMER),
}
