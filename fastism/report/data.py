"""What the page knows of each sequence, packed: differences as base64, the rest as JSON that is harmless in HTML."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastism.result import ISMScores

#: Bytes of a number by name of the precision.
PRECISIONS = {"float32": 4, "int16": 2}
STEPS = 32767
BINS = 64  # of the small profile in the list of regions


def strengths(scores: ISMScores, channels: Sequence[int], batch: int) -> np.ndarray:
    """(N, T) the largest absolute attribution of each sequence on each of the targets."""
    found = np.empty((len(scores), len(channels)), np.float32)
    for first, some in enumerate(scores.batches(batch)):
        rows = slice(first * batch, first * batch + len(some))
        for n, channel in enumerate(channels):
            found[rows, n] = np.abs(_profile(some, channel)).max(axis=1, initial=0)
    return found


def encoded(one: ISMScores, channel: int, precision: str) -> tuple[str, float]:
    """The differences (P, A) of one sequence as base64 of little-endian numbers, and what a step of them is worth."""
    delta = np.asarray(one.differences)[0, :, :, channel].astype(np.float64)
    if precision == "float32":
        return base64.b64encode(np.ascontiguousarray(delta, dtype="<f4").tobytes()).decode(), 1.0
    largest = float(np.abs(delta, where=np.isfinite(delta), out=np.zeros(delta.shape)).max(initial=0))
    step = largest / STEPS or 1.0
    whole = np.nan_to_num(np.rint(delta / step), nan=-STEPS - 1, posinf=-STEPS - 1, neginf=-STEPS - 1)
    return base64.b64encode(whole.astype("<i2").tobytes()).decode(), step


def entry(one: ISMScores, row: int, channels: Sequence[int], scales: Sequence[float]) -> dict[str, Any]:
    """What the page says of one sequence before its map is opened."""
    there, letters = one.mask[0], np.asarray(one.mutated)[0].argmax(axis=-1)
    region = one.regions[0] if one.regions is not None else None
    profiles = [_profile(one, channel)[0] for channel in channels]
    name = one.names[0] if one.names else region.name if region is not None else ""
    return {
        "row": row,
        "name": str(name),
        "region": None if region is None else [region.chrom, region.start, region.end, region.strand],
        "letters": "".join(one.alphabet[k] if known else "N" for k, known in zip(letters, there, strict=True)),
        "reference": [float(x) for x in np.asarray(one.reference)[0, list(channels)]],
        "low": [min(float(profile.min()), 0.0) for profile in profiles],
        "high": [max(float(profile.max()), 0.0) for profile in profiles],
        "reach": [_reach(np.asarray(one.differences)[0, :, :, channel]) for channel in channels],
        "scale": list(scales),
        "small": [_small(profile) for profile in profiles],
    }


def as_json(facts: Mapping[str, Any]) -> str:
    """JSON that ends no script element, whatever names it holds; null for what is no finite number."""
    text = json.dumps(_plain(facts), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _profile(some: ISMScores, channel: int) -> np.ndarray:
    """(N, P) attributions by mean4 of the letters that are there; 0 where a model gave no finite number."""
    return np.nan_to_num(some.attributions(channel, rule="mean4").sum(axis=-1), nan=0.0, posinf=0.0, neginf=0.0)


def _reach(delta: np.ndarray) -> float:
    return float(np.abs(np.where(np.isfinite(delta), delta, 0)).max(initial=0))


def _small(profile: np.ndarray) -> str:
    """The profile in few bins, each its strongest value in 127ths of the largest, as base64 of signed bytes."""
    bins = min(BINS, len(profile))
    edges = np.linspace(0, len(profile), bins + 1).astype(int)
    parts = [profile[a:b] for a, b in pairwise(edges)]
    strongest = np.array([part[np.abs(part).argmax()] for part in parts])
    scaled = np.rint(127 * strongest / (np.abs(strongest).max() or 1.0)).astype(np.int8)
    return base64.b64encode(scaled.tobytes()).decode()


def _plain(value: Any) -> Any:
    """What JSON can hold: arrays as lists, numbers that are not finite as null, anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
