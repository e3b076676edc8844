"""Exceptions that users may want to catch."""

from __future__ import annotations


class ModelError(ValueError):
    """The model is of a kind for which in-silico mutagenesis cannot be set up; the message says what to do."""


class UnsupportedLayerError(ModelError):
    """``strict=True`` and some call has no rule; the message lists every such call with the reason."""


class MismatchError(ValueError):
    """The self-check found that fast and naive differ; the message names the first call that does."""
