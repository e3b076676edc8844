"""Stretches of a sequence that are planned apart. Near its ends, and near what is cropped, a change reaches less.

All edits of a plan share the widest window, so in one plan for the whole sequence those near its ends cost as much as
those in the middle. Knows no layer type.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fastism.plan import DENSE, WINDOW, Plan
from fastism.rules.step import Cost
from fastism.window import Ints

#: Places between which stretches may end, and most stretches.
PLACES, MOST = 64, 8
#: Multiply-accumulates that take as long as a value that is written, and read again.
PASSES = 30.0


@dataclass(frozen=True)
class Division:
    """A sequence divided into stretches.

    Attributes:
        stretches: ``(first, end)`` edit starts of each.
        share: Work that is left, as a share of that of one plan for all.
    """

    stretches: tuple[tuple[int, int], ...]
    share: float


def divide(plan: Plan, gain: float) -> Division:
    """The stretches that save most work, as many as save at least ``gain`` of it each.

    Args:
        plan: For the whole sequence.
        gain: A share of the work.
    """
    work = _work(plan)
    edges = np.unique(np.linspace(0, len(work), PLACES + 1).astype(int))
    highest = np.maximum.reduceat(work, edges[:-1])
    first = plan.stretch[0]
    best = [Division((plan.stretch,), 1.0)]
    total = work.max() * len(work)
    if not total > 0:  # nothing is left to do
        return best[0]
    for ends, cost in _cheapest(highest, np.diff(edges)):
        bounds = [0, *[int(edges[e]) for e in ends]]
        stretches = tuple((first + a, first + b) for a, b in pairwise(bounds))
        best.append(Division(stretches, float(cost / total)))
    count = len(best) - 1
    while count > 1 and best[1].share - best[count].share < gain * (count - 1):
        count -= 1
    return best[count] if count > 1 else best[0]


def _cheapest(highest: Ints, sizes: Ints) -> list[tuple[list[int], float]]:
    """For 1, 2, 3, ... intervals of places: where each ends, and the least sum of size times largest work."""
    n = len(highest)
    before = np.concatenate([[0], np.cumsum(sizes)])
    cost = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        cost[i, i + 1 :] = np.maximum.accumulate(highest[i:]) * (before[i + 1 :] - before[i])
    least, ends = cost[0].copy(), [[j] for j in range(n + 1)]
    found = [(ends[n], float(least[n]))]
    for _ in range(1, min(MOST, n)):
        through = least[:, None] + cost  # (i, j): the last interval is [i, j)
        last = through.argmin(axis=0)
        ends = [[*ends[last[j]], j] for j in range(n + 1)]
        least = through[last, np.arange(n + 1)]
        found.append((ends[n], float(least[n])))
    return found


def _work(plan: Plan) -> Ints:
    """(S,) about what an edit at each start takes: products, and values written."""
    program, total = plan.program, np.zeros(plan.stretch[1] - plan.stretch[0])
    for planned in plan.steps:
        step, given = planned.wired.step, planned.given
        cost = step.cost(program.given(planned.wired)) if step is not None else Cost()
        values = PASSES * sum(float(np.prod(program.shapes[t])) for t in planned.wired.outputs)
        if planned.state == WINDOW and step is not None and given is not None and planned.local is not None:
            work = step.work(given)
            if work is None:
                total += cost.per_input * np.max([s.changed() for s in given.windows], axis=0)
            else:
                total += np.mean(work)  # of a recurrent layer, which no plan makes less
            span = planned.local.span
            total += values if span is None else values / span.length * span.changed()
        elif planned.state == DENSE:
            total += cost.full + values
    return total
