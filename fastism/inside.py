"""Looking inside: layers without a rule that are made of layers and operations that have one.

A layer's ``call`` is run on symbolic tensors of the very shapes that it has in the model, so what comes out is what it
does there. It is trusted only after it has given what the layer itself gives, on numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.graph import Call, Graph, Ref, certain, inside
from fastism.plan import WINDOW, Plan

#: Largest difference between a layer and its inside, as a share of the layer's largest output.
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}


class NotOpened(Exception):
    """A call cannot be replaced by what is inside it; the message says why."""


def opened(graph: Graph, make: Callable[[Graph, Mapping[str, str]], Plan]) -> Plan:
    """Replace calls without a rule by what is inside them, wherever that lets windows go further.

    Args:
        graph: Of a model.
        make: Makes a plan for a graph, given for each call that stays closed the reason.

    Returns:
        The plan for the graph as far as it was opened.
    """
    closed: dict[str, str] = {}
    plan = make(graph, closed)
    while True:
        candidates = [g.wired.call for g in plan.gaps if g.wired.step is None and g.wired.call.name not in closed]
        candidates = [c for c in candidates if isinstance(c.op, keras.Layer) and not _named(plan, c)]
        if not candidates:
            return make(graph, closed) if closed else plan
        call = candidates[0]
        try:
            further = open_call(graph, call)
        except NotOpened as reason:
            closed[call.name] = str(reason)
            continue
        better = make(further, closed)
        if _stays_local(better, f"{call.name}/"):
            graph, plan = further, better
        else:
            closed[call.name] = "nothing inside it stays local"


def _named(plan: Plan, call: Call) -> bool:
    """Whether the user wants this call computed whole."""
    return call.op.name in plan.program.stop or call.name in plan.program.stop


def _stays_local(plan: Plan, prefix: str) -> bool:
    mine = [s for s in plan.steps if s.wired.call.name.startswith(prefix)]
    return not mine or any(s.state == WINDOW for s in mine)


def open_call(graph: Graph, call: Call) -> Graph:
    """The graph with one call replaced by what is inside it.

    Raises:
        NotOpened: If its inside cannot be traced, or does not give what the call gives.
    """
    if any(graph.tensors[t].masked for t in call.inputs):
        raise NotOpened("it receives a Keras mask")
    if "call" in vars(call.op):
        raise NotOpened("its call() was replaced")
    names = Counter(c.name for c in graph.calls)
    known = {t.id: t for t in graph.tensors}
    try:
        calls, tensors, outputs = inside(
            call.op, call.args, call.kwargs, known, calls=names, first=len(graph.tensors), prefix=f"{call.name}/"
        )
    except Exception as error:  # whatever a layer does to symbolic tensors
        raise NotOpened(f"its inside cannot be traced ({type(error).__name__})") from error
    if len(outputs) != len(call.outputs):
        raise NotOpened("its inside gives another number of outputs")
    try:
        _verify(graph, call, calls, outputs)
    except NotOpened:
        raise
    except Exception as error:
        raise NotOpened(f"its inside does not run ({type(error).__name__})") from error
    return certain(_spliced(graph, call, calls, tensors, dict(zip(call.outputs, outputs, strict=True))))


def extended(graph: Graph, function: Callable[..., Any], what: str) -> Graph:
    """The graph with a function of its outputs behind it, whose results are the outputs from then on.

    Args:
        graph: Of a model.
        function: Of the outputs in the model's own structure, written in ``keras.ops``.
        what: Its name in messages.

    Raises:
        TypeError: If it does not run on symbolic tensors.
    """
    names = Counter(c.name for c in graph.calls)
    known = {t.id: t for t in graph.tensors}
    structure: list[Any] = []

    def run(*flat):
        out = function(graph.restore_outputs(flat))
        structure.append(out)
        return tree.flatten(out)

    try:
        args = tuple(Ref(t) for t in graph.outputs)
        calls, tensors, outputs = inside(run, args, {}, known, calls=names, first=len(graph.tensors), prefix=f"{what}/")
    except Exception as error:
        raise TypeError(
            f"{what} failed on the model's outputs ({type(error).__name__}: {error}); a function of the outputs, "
            "written in keras.ops so that it can run on the device, is accepted."
        ) from error
    if not outputs or any(not isinstance(o, Ref) for o in outputs):
        raise TypeError(f"{what} gives {structure[0]!r}; tensors computed from the model's outputs are accepted.")
    return certain(
        replace(
            graph,
            calls=_numbered([*graph.calls, *calls]),
            tensors=(*graph.tensors, *tensors),
            outputs=tuple(o.id for o in outputs),
            output_structure=structure[0],
            finish=lambda flat: tree.flatten(function(graph.restore_outputs(graph.finish(flat)))),
        )
    )


def frozen(graph: Graph) -> tuple[Any, ...]:
    """Variables that were turned into constants when insides were traced: a change of these asks for a new trace."""
    arguments = (leaf for c in graph.calls if "/" in c.name for leaf in tree.flatten((c.args, c.kwargs)))
    if any(keras.ops.is_tensor(leaf) for leaf in arguments):
        return graph.variables
    return ()


def weights_hash(variables: Sequence[Any]) -> str:
    """A digest of the values of variables."""
    digest = hashlib.sha1(usedforsecurity=False)
    for variable in variables:
        digest.update(np.ascontiguousarray(backend.to_numpy(variable.value)).tobytes())
    return digest.hexdigest()


def _verify(graph: Graph, call: Call, calls: Sequence[Call], outputs: Sequence[Any]) -> None:
    """Raise unless the inside gives what the call gives, on random numbers."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        given = {}
        for t in call.inputs:
            shape, dtype = (2, *graph.shape(t)), graph.tensors[t].dtype
            if None in shape:
                raise NotOpened("a length is unknown")
            number = rng.normal(size=shape) if "float" in dtype else rng.integers(0, 2, shape)
            given[t] = ops.convert_to_tensor(number.astype(dtype if dtype != "bfloat16" else "float32"), dtype=dtype)
        wanted = call.evaluate([given[t] for t in call.inputs])
        values = dict(given)
        for inner in calls:
            values.update(zip(inner.outputs, inner.evaluate([values[t] for t in inner.inputs]), strict=True))
        for want, out in zip(wanted, outputs, strict=True):
            got = values[out.id] if isinstance(out, Ref) else out
            _same(want, got)


def _same(want: Any, got: Any) -> None:
    a, b = (backend.to_numpy(v) if hasattr(v, "shape") else np.asarray(v) for v in (want, got))
    if a.shape != b.shape or a.dtype != b.dtype:
        raise NotOpened("its inside gives another shape or dtype than the layer")
    a, b = a.astype("float64"), b.astype("float64")
    size = float(np.abs(a).max(initial=1e-30))
    if not np.abs(a - b).max(initial=0.0) <= TOLERANCE.get(str(getattr(want, "dtype", "")), 2e-5) * size:
        raise NotOpened("its inside does not give what the layer gives")


def _spliced(graph: Graph, call: Call, calls, tensors, becomes: Mapping[int, Any]) -> Graph:
    def renamed(leaf):
        return becomes.get(leaf.id, leaf) if isinstance(leaf, Ref) else leaf

    result: list[Call] = []
    for old in graph.calls:
        if old is call:
            result.extend(calls)
            continue
        if not set(old.inputs) & set(becomes):
            result.append(old)
            continue
        args, kwargs = tree.map_structure(renamed, (old.args, old.kwargs))
        inputs = dict.fromkeys(leaf.id for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, Ref))
        result.append(replace(old, args=args, kwargs=kwargs, inputs=tuple(inputs)))
    ends = [becomes.get(t, Ref(t)) for t in graph.outputs]
    if any(not isinstance(e, Ref) for e in ends):
        raise NotOpened("an output of the model is a constant inside it")
    return replace(
        graph,
        calls=_numbered(result),
        tensors=(*graph.tensors, *tensors),
        outputs=tuple(e.id for e in ends),
    )


def _numbered(calls: Sequence[Call]) -> tuple[Call, ...]:
    return tuple(replace(c, index=i) for i, c in enumerate(calls))
