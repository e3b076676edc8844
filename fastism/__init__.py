"""fastism: fast, exact in-silico saturation mutagenesis of Keras sequence models."""

from fastism.errors import MismatchError, ModelError, UnsupportedLayerError
from fastism.ism import CompactSaturation, FastISM
from fastism.naive import NaiveISM, Saturation
from fastism.rules import register_rule, unregister_rule

__version__ = "1.0.0"

__all__ = [
    "CompactSaturation",
    "FastISM",
    "MismatchError",
    "ModelError",
    "NaiveISM",
    "Saturation",
    "UnsupportedLayerError",
    "__version__",
    "register_rule",
    "unregister_rule",
]
