"""fastism: fast, exact in-silico saturation mutagenesis of Keras sequence models."""

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
