"""Digests that tell models and functions apart, so that an interrupted run goes on with what it was begun with."""

from __future__ import annotations

import functools
import hashlib
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastism.graph import Graph
from fastism.metrics import METRICS, Metric

#: How deep values are looked into, and where code lies that goes by its name: Python's own and installed packages.
_DEPTH, _INSTALLED = 8, tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))


def weights_digest(model: Any) -> str:
    """Half of the SHA-256 of a model's weights, which tells folds and trainings apart."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:32]


def architecture_digest(graph: Graph) -> str:
    """Half of a SHA-256 of how a model computes: its calls, their settings, and what flows between them.

    Names, which Keras counts up within a session, do not count.
    """
    calls = [(call.kind, _settings(call.op), call.args, call.kwargs, call.inputs, call.outputs) for call in graph.calls]
    tensors = [(t.shape, t.dtype, t.masked) for t in graph.tensors]
    return _digest((calls, tensors, graph.inputs, graph.outputs))


def metric_digest(metric: Metric) -> str | None:
    """Half of a SHA-256 of a user's metric: its code with the constants, defaults, and values that it refers to.

    Of what says nothing of itself, such as a compiled function, the type's name is taken. None for this package's own.
    """
    own = METRICS.get(metric.name)
    if own is not None and (own.function, own.tensors, own.parts) == (metric.function, metric.tensors, metric.parts):
        return None
    functions = [
        _function_parts(f) if isinstance(f, types.FunctionType) else f for f in (metric.function, metric.tensors)
    ]
    return _digest((metric.consumes, metric.neutral, functions, metric.parts))


def _settings(op: Any) -> Any:
    """What a layer says of itself, without its name; of an operation, its plain attributes."""
    try:
        config = dict(op.get_config())
    except (NotImplementedError, TypeError, ValueError, AttributeError):  # a user's layer, or an operation
        config = {key: value for key, value in vars(op).items() if not key.startswith("_")}
        config = {key: value for key, value in config.items() if isinstance(value, int | float | str | tuple | list)}
    return _nameless(config)


def _nameless(value: Any) -> Any:
    """A layer's settings without names, those of layers inside it included."""
    if isinstance(value, Mapping):
        return {key: _nameless(part) for key, part in value.items() if key not in ("name", "trainable")}
    return [_nameless(part) for part in value] if isinstance(value, list | tuple) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(_told(value, _DEPTH, ())).encode()).hexdigest()[:32]


def _told(value: Any, depth: int, inside: tuple[int, ...]) -> Any:
    """A value as nested tuples and texts that are the same in another process."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return (type(value).__name__, repr(value))
    if id(value) in inside or not depth:
        return type(value).__qualname__

    def told(part: Any) -> Any:
        return _told(part, depth - 1, (*inside, id(value)))

    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return (array.dtype.str, array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
    if isinstance(value, Mapping):
        return ("mapping", *((told(key), told(part)) for key, part in value.items()))
    if isinstance(value, set | frozenset):
        return ("set", *sorted((told(part) for part in value), key=repr))
    if isinstance(value, list | tuple):
        return ("sequence", *map(told, value))
    if isinstance(value, functools.partial):
        return ("partial", told(value.func), told(value.args), told(value.keywords))
    if isinstance(value, types.MethodType):
        return ("method", told(value.__func__), told(value.__self__))
    if isinstance(value, types.CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars)
        return ("code", value.co_code.hex(), told(value.co_consts), told(names))
    if isinstance(value, types.FunctionType):
        known = value.__code__.co_filename.startswith(_INSTALLED) or str(value.__module__).startswith("fastism.")
        return (value.__module__, value.__qualname__) if known else ("function", *map(told, _function_parts(value)))
    if isinstance(value, types.ModuleType | type | types.BuiltinFunctionType):
        return (type(value).__name__, getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__))
    kind = (type(value).__module__, type(value).__qualname__)
    if hasattr(value, "get_weights"):
        return (*kind, weights_digest(value))
    if kind[0].partition(".")[0] in ("keras", "torch", "tensorflow", "jax", "jaxlib"):
        return kind  # leads to all of a framework
    calls = next((vars(base)["__call__"] for base in type(value).__mro__ if "__call__" in vars(base)), None)
    return (*kind, told(calls) if isinstance(calls, types.FunctionType) else "", told(getattr(value, "__dict__", None)))


def _function_parts(function: types.FunctionType) -> tuple[Any, ...]:
    """What decides what a function gives: its code, defaults, and what it finds around it."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    found = {name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__}
    return (function.__code__, function.__defaults__, function.__kwdefaults__, cells, found)


def _names(code: types.CodeType) -> list[str]:
    """Names that code, or a function within it, may look up."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return list(dict.fromkeys([*code.co_names, *inner]))
