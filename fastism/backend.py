"""The only file that imports TensorFlow, JAX or torch.

Everything else of the package is written in ``keras.ops`` and NumPy. What differs between the backends is
how a function is compiled, how weights reach a compiled function, and how a tensor becomes a NumPy array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

#: The ways to run a chunk: op by op, as a graph of the backend's own ops, or compiled with XLA.
EAGER, GRAPH, XLA = "eager", "graph", "xla"


def name() -> str:
    """The Keras backend in use: ``"tensorflow"``, ``"jax"`` or ``"torch"``."""
    return keras.backend.backend()


def choose_mode(jit: bool | str, *, wide: bool) -> str:
    """How to run a plan on this backend.

    Args:
        jit: ``"auto"``, True or False, as users pass it.
        wide: Whether wide windows, that is memory traffic, dominate the plan.

    Returns:
        ``"eager"``, ``"graph"`` or ``"xla"``. torch always runs eagerly: compiling takes minutes and gained
        nothing where it was measured. TensorFlow gains from XLA where element-wise passes over wide windows
        dominate, and loses where matrix products do.
    """
    if jit is False or name() == "torch":
        return EAGER
    if name() == "jax":
        return XLA
    return XLA if wide else GRAPH


def compile_function(fn: Callable[..., Any], variables: Sequence[Any], mode: str) -> Callable[..., Any]:
    """Compile ``fn`` of nested tensors for the backend in use.

    Args:
        fn: A function of (nested structures of) tensors, pure but for reading ``variables``.
        variables: The Keras variables that ``fn`` may read; their values at the time of each call are used.
        mode: One of ``"eager"``, ``"graph"``, ``"xla"``.

    Returns:
        A function with the same arguments and results, as tensors of the backend.
    """
    backend = name()
    if backend == "torch":
        return _without_gradients(fn)
    if mode == EAGER:
        return fn
    if backend == "jax":
        import jax

        def stateless(values, *args):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return fn(*args)

        compiled = jax.jit(stateless)
        return lambda *args: compiled([v.value for v in variables], *args)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, jit_compile=mode == XLA, autograph=False, reduce_retracing=False)
    raise RuntimeError(
        f"Keras backend {backend!r} is not supported; set KERAS_BACKEND to 'tensorflow', 'jax' or 'torch' "
        "before importing keras."
    )


def _without_gradients(fn: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def run(*args):
        with torch.no_grad():
            return fn(*args)

    return run


def to_numpy(tensor: Any) -> np.ndarray:
    """A tensor of the backend (on any device, any float type) as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def float64_available() -> bool:
    """Whether the backend keeps float64 as it is (JAX does only with its 64-bit switch on)."""
    if name() != "jax":
        return True
    import jax

    return bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
