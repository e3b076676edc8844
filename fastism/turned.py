"""Tensors (1, L, C), whose positions run along their second axis, seen as (L, 1, C).

Some models hold a sequence as an image of height 1. Rules look for positions on the first axis, so the graph that a
plan is made of has such tensors turned, and a call that touches one turns what goes in and what comes out. Nothing is
moved in memory: one of the two axes has size 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from keras import ops

from fastism.calls import Call
from fastism.graph import Graph


@dataclass(frozen=True, eq=False)
class TurnedCall(Call):
    """A call some of whose tensors are turned.

    Attributes:
        turned: Ids of these.
    """

    turned: frozenset[int] = frozenset()

    def evaluate(self, values: Sequence[Any]) -> list[Any]:
        """Run the call on full tensors, those that are turned given as (B, L, 1, C), and as such given back."""
        given = [exchanged(v) if t in self.turned else v for t, v in zip(self.inputs, values, strict=True)]
        made = super().evaluate(given)
        return [exchanged(y) if t in self.turned else y for t, y in zip(self.outputs, made, strict=True)]


def exchanged(x: Any) -> Any:
    """(B, 1, L, C) as (B, L, 1, C), and the other way round."""
    return ops.swapaxes(x, 1, 2)


def turned(graph: Graph) -> Graph:
    """The graph with its tensors (1, L, C) turned, but for its inputs and outputs; the same one if it has none."""
    ends = {*graph.inputs, *graph.outputs}
    turn = frozenset(t.id for t in graph.tensors if t.id not in ends and _lies(t.shape) and not t.masked)
    if not turn:
        return graph
    tensors = [replace(t, shape=(t.shape[1], 1, t.shape[2])) if t.id in turn else t for t in graph.tensors]
    return replace(graph, tensors=tuple(tensors), calls=tuple(_seen(c, turn) for c in graph.calls))


def _lies(shape: tuple[int | None, ...]) -> bool:
    return len(shape) == 3 and shape[0] == 1 and (shape[1] or 0) > 1


def _seen(call: Call, turn: frozenset[int]) -> Call:
    if not turn.intersection((*call.inputs, *call.outputs)):
        return call
    return TurnedCall(**{f.name: getattr(call, f.name) for f in fields(call)}, turned=turn)
