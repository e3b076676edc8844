"""What the mutated sequences really give: one full forward pass for each. Shares no code with the fast path."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops, tree


def predict(model, inputs, batch=512):
    """Flat list of outputs (n, ...) of ``model`` called as it is on a flat list of arrays."""
    parts = []
    for i in range(0, len(inputs[0]), batch):
        chunk = [a[i : i + batch] for a in inputs]
        y = _run(model, chunk)
        parts.append([np.asarray(ops.convert_to_numpy(t)) for t in tree.flatten(y)])
    return [np.concatenate(p) for p in zip(*parts, strict=True)]


def _run(model, chunk):
    if keras.backend.backend() == "jax":  # every operation would be compiled by itself, for every number of rows
        rows, whole = len(chunk[0]), 1 << (len(chunk[0]) - 1).bit_length()
        padded = [np.concatenate([a, np.repeat(a[-1:], max(whole, 16) - rows, axis=0)]) for a in chunk]
        try:
            return tree.map_structure(lambda y: y[:rows], model.predict_on_batch(_structured(model, padded)))
        except Exception:  # not all that runs compiles
            pass
    return model(_structured(model, chunk), training=False)


def _structured(model, arrays):
    """Arrays in the order of ``model.inputs``, as the model takes them."""
    if isinstance(model, keras.Sequential):
        return arrays[0]
    return tree.pack_sequence_as(model.input, arrays)


def overwritten(model, inputs, index, ranges, content):
    """(N, P, ...) outputs with ``content`` (W, A) written into each range, one copy of the sequence each."""
    n = len(inputs[index])
    copies = [np.repeat(a, len(ranges), axis=0) for a in inputs]
    mutated = copies[index].copy()
    for i in range(n):
        for p, (start, end) in enumerate(ranges):
            mutated[i * len(ranges) + p, start:end] = content
    copies[index] = mutated
    return [y.reshape(n, len(ranges), *y.shape[1:]) for y in predict(model, copies)]


def saturated(model, inputs, index):
    """(N, L, A, ...) outputs with every letter at every position."""
    _, length, alphabet = inputs[index].shape
    results = [
        overwritten(model, inputs, index, [(p, p + 1) for p in range(length)], letter[None])
        for letter in np.eye(alphabet, dtype=inputs[index].dtype)
    ]
    return [np.stack(r, axis=2) for r in zip(*results, strict=True)]


def share_of_effect(fast, naive, reference):
    """max|fast - naive| / max|naive - reference|, and the effect itself."""
    expand = reference.reshape(reference.shape[0], *[1] * (naive.ndim - reference.ndim), *reference.shape[1:])
    effect = float(np.abs(naive - expand).max())
    return float(np.abs(fast - naive).max()) / max(effect, 1e-300), effect
