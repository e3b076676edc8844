"""What is made from a model: programs, plans and compiled functions, once for all who ask for the same."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastism import backend, sizes
from fastism.engine import Engine
from fastism.graph import Graph, chosen, located, settled
from fastism.inside import extended, frozen, opened, read, weights_hash
from fastism.plan import make_plan, write_program
from fastism.rules import RULES
from fastism.rules.operations import register_operations


@dataclass(frozen=True)
class Request:
    """What decides how a model is prepared.

    Attributes:
        shapes: Of each input, without batch axis.
        mutated: Id of the mutated input.
        width: Positions in an edit.
        stop: Names of layers from which on everything is computed whole.
        outputs: Which outputs are wanted; None for all.
        reduce: A function of the outputs to put behind the model.
        batch_size, jit, memory: As `Engine` takes them.
    """

    shapes: tuple[tuple[int | None, ...], ...]
    mutated: int
    width: int
    stop: tuple[str, ...] = ()
    outputs: tuple[int, ...] | None = None
    reduce: Callable[..., Any] | None = None
    batch_size: int | str = "auto"
    jit: bool | str = "auto"
    memory: int | str = "auto"


class Prepared:
    """What is made from a model for one request.

    Attributes:
        engine: Runs its plans.
        width: Positions in an edit.
        made_for: The fingerprint of the layers when it was made.
    """

    def __init__(self, engine: Engine, width: int):
        self.engine, self.width = engine, width
        self._constant = frozen(self.graph)
        self.made_for = self.fingerprint()

    @property
    def graph(self) -> Graph:
        """The model's graph, with what was opened, chosen and put behind it."""
        return self.engine.program.graph

    def checking(self) -> Engine:
        """An engine for a handful of edits, in a part of the memory: run op by op, more tensors live at a time."""
        most = sizes.most_variants(self.engine.plan(self.width), self.engine.memory // 4)
        same = {"plans": self.engine.plans, "jit": backend.name() == "jax"}
        return Engine(self.engine.program, batch_size=min(10, most), **same)

    def fingerprint(self) -> tuple[Any, ...]:
        """What decides how the layers compute, and the values of weights that became constants."""
        return (*self.graph.fingerprint(), weights_hash(self._constant))

    @property
    def current(self) -> bool:
        """Whether the layers still compute what they did when this was made."""
        return self.made_for == self.fingerprint()


#: By model, what some `FastISM` of it still holds.
_SHARED: MutableMapping[Any, MutableMapping[Any, Prepared]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def prepare(model: Any, request: Request) -> Prepared:
    """What is made from a model for a request: what another `FastISM` has already, if that is sure to be the same.

    Args:
        model: A Keras 3 model.
        request: Its shapes are known.

    Raises:
        ModelError: If the model cannot be read.
    """
    graph = read(model)
    identity = graph.identity
    if identity is None or request.reduce is not None:  # a user's own code may have changed
        return _made(graph, request)
    register_operations()  # else the table grows with the first plan
    key = (request, identity, tuple(RULES.items()))
    with _LOCK:
        known = _SHARED.setdefault(model, weakref.WeakValueDictionary())
        found = known.get(key)
        if found is None or not found.current:
            found = known[key] = _made(graph, request)
    return found


def _made(graph: Graph, request: Request) -> Prepared:
    if request.outputs is not None:
        graph = chosen(graph, request.outputs)
    if any(None in t.shape for t in graph.tensors):
        graph = located(settled(graph, [tuple(int(n or 0) for n in s) for s in request.shapes]))
    if request.reduce is not None:
        graph = extended(graph, request.reduce, "reduce")

    def plan(opened_graph: Graph, closed: Any):
        return make_plan(write_program(opened_graph, request.mutated, request.stop, closed), request.width)

    options = {"batch_size": request.batch_size, "jit": request.jit, "memory": request.memory}
    return Prepared(Engine(opened(graph, plan).program, **options), request.width)
