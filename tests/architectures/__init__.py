"""Sequence models of the literature, written for these tests: full size and small."""

from . import classifier, crested, long_range, profile, transcript
from .architecture import Architecture

#: By name; see :class:`Architecture`.
ARCHITECTURES: dict[str, Architecture] = {
    **profile.ARCHITECTURES,
    **transcript.ARCHITECTURES,
    **classifier.ARCHITECTURES,
    **crested.ARCHITECTURES,
    **long_range.ARCHITECTURES,
}

__all__ = ["ARCHITECTURES", "Architecture"]
