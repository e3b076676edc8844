"""fastism: fast, exact in-silico saturation mutagenesis of Keras sequence models."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastism.ensemble import Ensemble
    from fastism.errors import MismatchError, ModelError, UnsupportedLayerError
    from fastism.ism import CompactSaturation, FastISM
    from fastism.loading import load_model
    from fastism.mutagenesis import Mutagenesis
    from fastism.naive import NaiveISM, Saturation
    from fastism.pairs import Pairs
    from fastism.pipeline import map_fasta, map_regions
    from fastism.regions import Region, Report
    from fastism.result import ISMScores
    from fastism.rules import register_rule, unregister_rule
    from fastism.saturation import saturation_mutagenesis
    from fastism.scorer import Scorer
    from fastism.store import open_scores, save_scores
    from fastism.variant_scorer import VariantScorer, score_variants

__version__ = "1.0.0"

__all__ = [
    "CompactSaturation",
    "Ensemble",
    "FastISM",
    "ISMScores",
    "MismatchError",
    "ModelError",
    "Mutagenesis",
    "NaiveISM",
    "Pairs",
    "Region",
    "Report",
    "Saturation",
    "Scorer",
    "UnsupportedLayerError",
    "VariantScorer",
    "__version__",
    "load_model",
    "map_fasta",
    "map_regions",
    "open_scores",
    "register_rule",
    "saturation_mutagenesis",
    "save_scores",
    "score_variants",
    "unregister_rule",
]

#: Name -> module that defines it. Imported when it is first asked for: the frameworks take seconds to load, which
#: ``fastism --help`` need not wait for.
_DEFINED_IN = {
    "CompactSaturation": "ism",
    "Ensemble": "ensemble",
    "FastISM": "ism",
    "ISMScores": "result",
    "load_model": "loading",
    "map_fasta": "pipeline",
    "map_regions": "pipeline",
    "MismatchError": "errors",
    "ModelError": "errors",
    "Mutagenesis": "mutagenesis",
    "NaiveISM": "naive",
    "open_scores": "store",
    "Pairs": "pairs",
    "Region": "regions",
    "register_rule": "rules",
    "Report": "regions",
    "Saturation": "naive",
    "saturation_mutagenesis": "saturation",
    "save_scores": "store",
    "score_variants": "variant_scorer",
    "Scorer": "scorer",
    "unregister_rule": "rules",
    "UnsupportedLayerError": "errors",
    "VariantScorer": "variant_scorer",
}


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        found = getattr(import_module(f"fastism.{_DEFINED_IN[name]}"), name)
    elif not name.startswith("_") and find_spec(f"fastism.{name}"):
        return import_module(f"fastism.{name}")
    else:
        raise AttributeError(f"module 'fastism' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
