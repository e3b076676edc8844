"""What the registry says of an architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Architecture:
    """A published model, at its full size and small.

    Attributes:
        name: Key in the registry.
        build: Makes the model at its published size.
        small: Makes it with few filters and a short input, all its kinds of stages kept.
        index: Which input is mutated.
        in_speedup: Ideal speed-up of ``build`` over naive ISM, changed inputs times taps, averaged over all positions;
            None where no figure is known.
        local: Substrings of call names. An edit changes a window, at most, of every call of ``small`` whose name
            contains one. Operations of ``keras.ops`` have no names of their own and are not listed.
        dense_from: Name of the first call of which an edit changes everything; on its branch all is computed whole from
            there on. Pooling over all positions, and layers on the vectors that come of it, do not count. None where
            there is no such call.
        note: What is special about it.
        length: Input length for ``small`` where the model leaves it open.
    """

    name: str
    build: Callable[[], keras.Model]
    small: Callable[[], keras.Model]
    index: int = 0
    in_speedup: float | None = None
    local: frozenset[str] = frozenset()
    dense_from: str | None = None
    note: str = ""
    length: int | None = None

    def inputs(self, model: keras.Model, n: int = 2, seed: int = 0) -> list[np.ndarray]:
        """Inputs for a model, in the order of ``model.inputs``: one-hot sequences, and whatever else it takes.

        Channels of the mutated input behind the first four are sparse marks; further inputs are normal.
        """
        rng = np.random.default_rng(seed)
        arrays = []
        for i, tensor in enumerate(model.inputs):
            shape = (n, *(size or self.length for size in tensor.shape[1:]))
            if i != self.index:
                arrays.append(rng.normal(size=shape))
                continue
            bases = np.eye(4)[rng.integers(4, size=shape[:2])]
            arrays.append(np.concatenate([bases, rng.random((*shape[:2], shape[2] - 4)) < 0.3], axis=2))
        return [a.astype(keras.config.floatx()) for a in arrays]


def by_name(*found: Architecture) -> dict[str, Architecture]:
    """A registry of architectures."""
    return {architecture.name: architecture for architecture in found}
