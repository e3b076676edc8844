"""Chooses the float precision of a test run; quiet logs."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FLOAT = os.environ.get("FASTISM_TEST_FLOAT", "float32")
if FLOAT == "float64":
    os.environ.setdefault("JAX_ENABLE_X64", "1")

import keras  # noqa: E402  (reads the environment)

keras.config.set_floatx(FLOAT)
if FLOAT == "float64":
    # On JAX and torch, Keras lets no operation promote to more than 32 bits: BatchNormalization and matmul of float64
    # tensors compute in float32 there. Lifted here, so that an error of the algorithm cannot hide behind rounding.
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

if keras.backend.backend() == "jax":
    import itertools

    import jax
    import numpy as np
    import pytest

    def plain_numbers(self, shape, dtype=None):
        """Instead of random numbers of each initialiser's own kind, each compiled anew for every shape."""
        fans = sum(shape[-2:]) * int(np.prod(shape[:-2])) if shape else 1
        numbers = np.random.default_rng(0).normal(size=shape) * np.sqrt(2 / fans)
        return keras.ops.convert_to_tensor(numbers, dtype=dtype or FLOAT)

    for kind in (keras.initializers.GlorotUniform, keras.initializers.Orthogonal, keras.initializers.RandomUniform):
        kind.__call__ = plain_numbers

    _tests = itertools.count(1)

    @pytest.fixture(autouse=True)
    def forget_compiled_functions():
        """Now and then, so that two thousand tests fit into memory."""
        yield
        if next(_tests) % 40 == 0:
            jax.clear_caches()
