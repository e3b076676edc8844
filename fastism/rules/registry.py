"""Which rule treats which class of layer or operation: one table, filled by the files of this package.

A rule takes a :class:`~fastism.graph.Call` and its graph and gives the chain of steps that the call amounts to, or
raises :class:`~fastism.rules.step.Refuse` with the reason. Dispatch is by class object, never by name, and a subclass
counts only if it changes nothing that decides what the layer computes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastism.calls import Call, altered
from fastism.graph import Graph
from fastism.rules.step import Lowered, Refuse

RuleFn = Callable[[Call, Graph], Lowered]


@dataclass(frozen=True)
class Rule:
    """A registered rule, with the line that the documentation shows for it."""

    fn: RuleFn
    family: str
    note: str


RULES: dict[type, Rule] = {}

#: What a subclass may define without changing what the layer computes at inference.
_HARMLESS = frozenset(
    [
        "__init__",
        "__new__",
        "__module__",
        "__doc__",
        "__qualname__",
        "__dict__",
        "__weakref__",
        "__annotations__",
        "__firstlineno__",
        "__static_attributes__",
        "__parameters__",
        "__orig_bases__",
        "__abstractmethods__",
        "_abc_impl",
        "__repr__",
        "__annotate_func__",
        "get_config",
        "from_config",
        "build",
        "compute_output_shape",
        "compute_output_spec",
        "__annotations_cache__",
        "_api_export_path",
        "_api_export_symbol_id",
    ]
)


def rule(*classes: type, family: str, note: str = "") -> Callable[[RuleFn], RuleFn]:
    """Register a function as the rule of some classes."""

    def register(fn: RuleFn) -> RuleFn:
        for cls in classes:
            RULES[cls] = Rule(fn, family, note)
        return fn

    return register


def operation_class(
    fn: Callable[..., Any], *shapes: tuple[int, ...], dtype: str | None = None, settings: tuple[Any, ...] = ()
) -> type | None:
    """The class of the node that a ``keras.ops`` function leaves in a graph; None if it leaves none."""
    import keras

    try:
        out = fn(*[keras.KerasTensor((None, *shape), dtype=dtype or "float32") for shape in shapes], *settings)
        return type(out._keras_history.operation)
    except (AttributeError, TypeError, ValueError):
        return None


def checked(call: Call, graph: Graph) -> Rule:
    """The rule that treats a call.

    Raises:
        Refuse: If there is none, or the call is one that no rule treats, with the reason.
    """
    found = _find(call.op)
    if found is None:
        raise Refuse(f"{call.kind} has no rule")
    for tensor in (*call.inputs, *call.outputs):
        if None in graph.shape(tensor):
            raise Refuse("a length is unknown when the model is built")
        if 0 in graph.shape(tensor):
            raise Refuse("one of its tensors is empty")
        if graph.tensors[tensor].moved:
            raise Refuse("one of its tensors has the batch on another axis than the first")
    if any(graph.tensors[t].masked for t in call.inputs):
        raise Refuse("it receives a Keras mask, which does not travel with windows")
    if _mask_argument(call) is not None:
        raise Refuse("it is called with a mask")
    return found


def _mask_argument(call: Call) -> Any:
    """What the call gives as ``mask``, by name or by position."""
    try:
        bound = inspect.signature(call.op.call).bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):
        return call.kwargs.get("mask")
    return bound.arguments.get("mask")


def _find(op: Any) -> Rule | None:
    cls = type(op)
    if why := altered(op):
        raise Refuse(f"this {cls.__name__} {why}")
    for base in cls.__mro__:
        if base in RULES:
            return RULES[base]
        changed = set(vars(base)) - _HARMLESS
        known = next((b for b in cls.__mro__ if b in RULES), None)
        overrides = sorted(n for n in changed if known is not None and hasattr(known, n))
        if known is not None and overrides:
            raise Refuse(f"{cls.__name__} is a {known.__name__} that overrides {', '.join(overrides)}")
    return None
