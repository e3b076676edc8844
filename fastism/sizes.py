"""How much is computed at once: from a budget of memory, and from the processor's cache."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastism import backend
from fastism.plan import DENSE, WINDOW, Plan, Planned, Program

#: Bytes that the largest window tensor of a chunk should stay under, so that a chunk stays in the processor's cache.
CHUNK_BYTES = 3 << 20
#: Shares of the budget for what is cached of the reference sequences, and for the tensors of a chunk.
CACHE_SHARE, CHUNK_SHARE = 0.35, 0.35
#: What ``"auto"`` takes of the free memory, and at most on a CPU, where larger chunks are no faster.
AUTO_SHARE, AUTO_MOST = 0.5, 4 << 30
#: Variants in a chunk: at most, and the fewest that are tried where any number may be chosen.
MOST_VARIANTS, LEAST_VARIANTS = 2048, 6
#: Tensors of a step that lie in memory beside its inputs and outputs, as a multiple of these.
BESIDE = 2
#: What a chunk that runs alone takes more than one of a pair, as a share of the latter.
ALONE = 0.3
#: What a chunk takes more for each variant where it holds half of the fastest number, or half as many again.
HALF_OFF = 0.05

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def budget(memory: Any) -> int | str:
    """Bytes that a user allows, or ``"auto"``.

    Args:
        memory: ``"auto"``, a number of bytes, or a text such as ``"4GB"``, ``"512 MiB"``.

    Raises:
        ValueError: If it is none of these, or less than a megabyte.
    """
    if isinstance(memory, str) and memory.strip().lower() == "auto":
        return "auto"
    number: float | None = None
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?I?)B?\s*", memory.upper())
        if found and found[2] in _UNITS:
            number = float(found[1]) * _UNITS[found[2]]
    elif isinstance(memory, int | float) and not isinstance(memory, bool) and math.isfinite(memory):
        number = float(memory)
    if number is None or number < 10**6:
        raise ValueError(
            f"memory is {memory!r}; 'auto', a number of bytes, or a text such as '4GB' or '512 MiB' is accepted, of at "
            "least 1 MB."
        )
    return int(number)


def automatic() -> int:
    """Half of the memory that is free on the device, and no more than 4 GiB of a computer's own."""
    device = backend.free_device_memory()
    if device is not None:
        return int(AUTO_SHARE * device)
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return AUTO_MOST
    return min(max(int(AUTO_SHARE * free), 64 << 20), AUTO_MOST)


def cached_bytes(plan: Plan) -> int:
    """Bytes that are cached for each reference sequence, or held while it is predicted."""
    held = sum(_bytes(plan, t) for t in plan.taps)
    passing = max((_bytes(plan, t) for s in plan.steps for t in s.wired.outputs), default=0)
    return held + 2 * passing or 1


def whole_bytes(program: Program) -> int:
    """Bytes that predicting a sequence whole takes: three of the largest tensors, since a few live at a time."""
    item = 8 if any(t.dtype == "float64" for t in program.graph.tensors) else 4
    return 3 * item * max(math.prod(shape) for shape in program.shapes.values()) or 1


def most_variants(plan: Plan, memory: int) -> int:
    """Variants whose tensors fit into a chunk's share of a budget of ``memory`` bytes."""
    return max(1, int(CHUNK_SHARE * memory) // variant_bytes(plan))


def chunk_bounds(plan: Plan, memory: int, *, one_by_one: bool) -> tuple[int, int, int]:
    """How many variants to begin with: within the budget and, on a CPU, the processor's cache. Least and most.

    Args:
        plan: Of any edit.
        memory: Bytes that references and chunks may take.
        one_by_one: Whether operations are not compiled.
    """
    together = 2 if not one_by_one and backend.runs_two_at_once() else 1
    most = min(max(most_variants(plan, memory) // together, 1), MOST_VARIANTS)
    start = most
    if not backend.on_gpu():
        # op by op, and on TensorFlow, small chunks lose more in calls than they gain in cache; JAX asks for all its
        # memory at once
        cache = CHUNK_BYTES * (2 if one_by_one or backend.name() == "tensorflow" else 1)
        least = max(24 if one_by_one else 12, worth_sharing(plan))
        start = max(cache // largest_window(plan), least)
    return min(start, most), min(LEAST_VARIANTS, most), most


def even(groups: int, wanted: int, most: int, two_at_once: bool) -> int:
    """How many of ``groups`` make a chunk, about as many as ``wanted``, so that the last is as full as the others.

    Args:
        groups: To be divided, more than ``wanted``.
        wanted: The fastest number in a chunk, for many.
        most: No more than these.
        two_at_once: Whether chunks run in pairs, and an odd one alone.
    """

    def costs(count: int) -> float:
        chunks = -(-groups // count)
        slower = 1 + 2 * HALF_OFF * abs(count / wanted - 1)
        return slower * count * (chunks + ALONE * (chunks % 2 if two_at_once else 0))

    near = range(-(-3 * wanted // 4), min(5 * wanted // 4, max(most, wanted)) + 1)
    return min(near, key=costs)


def unlike_axes(groups: int, members: int, shapes: Iterable[Sequence[int]], most: int | None = None) -> int:
    """A number of groups near ``groups`` for which neither it nor the number of variants is the size of an axis.

    TensorFlow's Keras takes an addend whose only long axis is as long as the channels for a bias.

    Args:
        groups: That are wanted.
        members: Variants in a group.
        shapes: Of the model's tensors.
        most: No more groups than these.
    """
    axes = {n for shape in shapes for n in shape} | {1}
    near = (g for d in range(groups + max(axes)) for g in (groups - d, groups + d) if 0 < g <= (most or g))
    return next((g for g in near if g not in axes - {1} and g * members not in axes), groups)


def variant_bytes(plan: Plan) -> int:
    """Bytes that a mutant takes in the step of a chunk that takes most."""
    return max((_step_bytes(plan, s) for s in plan.steps), default=0) or 1


def _step_bytes(plan: Plan, planned: Planned) -> int:
    if planned.state not in (WINDOW, DENSE):
        return 0
    wired = planned.wired
    size = sum(_bytes(plan, t) if planned.state == DENSE else _state_bytes(plan, t) for t in wired.inputs)
    size += sum(_state_bytes(plan, t) for t in wired.outputs)
    given, step = planned.given, wired.step
    if planned.state == WINDOW and step is not None and given is not None:
        return int((1 + BESIDE) * size + _item(plan) * step.between(given))
    return (1 + BESIDE) * size


def largest_window(plan: Plan) -> int:
    """Bytes of a mutant's largest tensor."""
    outputs = [t for s in plan.steps for t in s.wired.outputs]
    return max((_state_bytes(plan, t) for t in outputs if t in plan.reached), default=4)


def worth_sharing(plan: Plan) -> int:
    """Variants from which on weights that a chunk reads once take less than what is written for each variant."""
    known = ((s.wired.step, s.given) for s in plan.steps if s.state == WINDOW)
    shared = sum(step.shared(given) for step, given in known if step is not None and given is not None)
    each = sum(_state_bytes(plan, t) for s in plan.steps for t in s.wired.outputs)
    return int(_item(plan) * shared / max(each, 1))


def _state_bytes(plan: Plan, tensor: int) -> int:
    span = plan.spans.get(tensor)
    if span is not None:
        return _item(plan) * span.width * math.prod(plan.program.shapes[tensor][1:])
    return _bytes(plan, tensor) if tensor in plan.dense else 0


def _bytes(plan: Plan, tensor: int) -> int:
    return _item(plan) * math.prod(plan.program.shapes[tensor])


def _item(plan: Plan) -> int:
    """Bytes of a value: those of the largest dtype, and no less than 4, in which half precision is often computed."""
    return 8 if any(t.dtype == "float64" for t in plan.graph.tensors) else 4
