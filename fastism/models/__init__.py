"""Published sequence models, untrained, as Keras 3 models: for tests, benchmarks and examples."""

from __future__ import annotations

from fastism.models.basset import basset_model
from fastism.models.bpnet import bpnet_model
from fastism.models.bpnet_dense import bpnet_dense_model
from fastism.models.factorized_basset import factorized_basset_model

__all__ = ["basset_model", "bpnet_dense_model", "bpnet_model", "factorized_basset_model"]
