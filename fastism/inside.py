"""Looking inside: layers without a rule that are made of layers and operations that have one.

A layer's ``call`` is run on symbolic tensors of the very shapes that it has in the model, so what comes out is what it
does there. It is trusted only after it has given what the layer itself gives, on numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.calls import Call, Ref
from fastism.errors import ModelError
from fastism.graph import (
    Graph,
    Subclassed,
    Tensor,
    certain,
    check_outputs,
    inside,
    located,
    reached,
    read_model,
    without_singleton,
)
from fastism.plan import WINDOW, Plan

#: Largest difference between a layer and its inside, as a share of the layer's largest output.
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}


#: Values of one sequence from which on a comparison takes one row of numbers instead of twice two, for memory's sake.
LARGE = 1 << 22


class NotOpened(Exception):
    """A call cannot be replaced by what is inside it; the message says why."""


def read(model: Any) -> Graph:
    """The graph of a model; of one that defines its own ``call``, what that does with symbolic tensors.

    Raises:
        ModelError: As :func:`fastism.graph.read_model`, and if the ``call`` cannot be traced.
    """
    try:
        return read_model(model)
    except Subclassed as refused:
        try:
            return _traced(model)
        except NotOpened as reason:
            raise ModelError(f"{refused} (FastISM tried to trace call() itself: {reason}.)") from reason


def _traced(model: Any) -> Graph:
    """The graph of a model whose ``call`` takes one tensor, list or dictionary."""
    structure = _input_structure(model)
    dtype = model.compute_dtype if "float" in str(model.compute_dtype) else keras.config.floatx()
    leaves = [(s.name, tuple(s.shape[1:])) for s in tree.flatten(structure)]
    tensors = [Tensor(i, name, shape, dtype) for i, (name, shape) in enumerate(leaves)]
    try:
        calls, made, outputs, given = inside(
            model,
            (tree.pack_sequence_as(structure, [Ref(t.id) for t in tensors]),),
            {},
            {t.id: t for t in tensors},
            calls=Counter(),
            first=len(tensors),
            prefix="",
        )
    except Exception as error:
        raise NotOpened(f"it failed with {type(error).__name__}: {error}") from error
    if any(not isinstance(o, Ref) for o in outputs):
        raise NotOpened("an output is a constant")
    graph = Graph(
        calls=_numbered(calls),
        tensors=(*tensors, *made),
        inputs=tuple(t.id for t in tensors),
        outputs=tuple(o.id for o in outputs),
        variables=tuple(model.variables),
        input_structure=structure if isinstance(structure, dict | list) else None,
        output_structure=tree.map_structure(lambda _: None, given),
        traced=(model,),
    )
    check_outputs(graph)
    if all(None not in t.shape for t in tensors):
        _verify_model(model, graph)
        return located(certain(graph))
    return graph


def _input_structure(model: Any) -> Any:
    """The symbolic tensor, list or dictionary of them, that the model was built for."""
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    given = getattr(model, "_inputs", None) or getattr(model, "inputs", None)
    if given:
        structure = getattr(model, "_inputs_struct", None)
        if isinstance(structure, dict):
            return structure
        flat = tree.flatten(given)
        return flat if len(flat) > 1 or (shapes and _holds_shapes(shapes[0])) else flat[0]
    if len(shapes) != 1:
        raise NotOpened("it was never called, so the shape of its input is not known; call it once on a batch")
    return _symbols(shapes[0])


def _symbols(shapes: Any, path: tuple[Any, ...] = ()) -> Any:
    """Symbolic tensors for nested shapes with batch axis, named by where they are."""
    if isinstance(shapes, dict):
        return {key: _symbols(shape, (*path, key)) for key, shape in shapes.items()}
    if _holds_shapes(shapes):
        return [_symbols(shape, (*path, i)) for i, shape in enumerate(shapes)]
    keyed = any(isinstance(p, str) for p in path)
    name = "/".join(map(str, path)) if keyed else "_".join(map(str, ("input", *(path or (0,)))))
    return keras.KerasTensor((None, *shapes[1:]), name=name)


def _holds_shapes(shapes: Any) -> bool:
    """Whether this is a sequence of shapes, not one or none: models from files have lists for both."""
    return isinstance(shapes, tuple | list) and any(isinstance(part, tuple | list | dict) for part in shapes)


def _verify_model(model: Any, graph: Graph) -> None:
    rng = np.random.default_rng(0)
    sizes = [(2, *(int(n or 0) for n in graph.shape(t))) for t in graph.inputs]
    arrays = [ops.convert_to_tensor(rng.normal(size=size), dtype="float32") for size in sizes]
    wanted = tree.flatten(model(graph.pack_inputs(arrays), training=False))
    values = dict(zip(graph.inputs, arrays, strict=True))
    for call in graph.calls:
        values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
    for want, out in zip(wanted, graph.outputs, strict=True):
        _same(want, values[out])


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
    while candidates := _closed_gaps(plan, closed):
        try:
            graph, plan = _opened_where_it_helps(graph, candidates[0], make, closed)
        except NotOpened as reason:
            closed[candidates[0].name] = str(reason)
    return make(graph, closed) if closed else plan


def _opened_where_it_helps(graph: Graph, call: Call, make: Any, closed: dict[str, str]) -> tuple[Graph, Plan]:
    """Open a call, and what is in its way inside it, until something there stays local."""
    prefix = f"{call.name}/"
    graph = open_call(graph, call)
    plan = make(graph, closed)
    while not _stays_local(plan, prefix):
        further = [c for c in _closed_gaps(plan, closed) if c.name.startswith(prefix)]
        if not further:
            raise NotOpened("nothing inside it stays local")
        try:
            graph, plan = _opened_where_it_helps(graph, further[0], make, closed)
        except NotOpened as reason:
            closed[further[0].name] = str(reason)
    return graph, plan


def _closed_gaps(plan: Plan, closed: Mapping[str, str]) -> list[Call]:
    """The layers at which windows end for want of a rule, and which were not tried yet."""
    ends = [g.wired.call for g in plan.gaps if g.wired.step is None]
    return [c for c in ends if c.name not in closed and isinstance(c.op, keras.Layer) and not _named(plan, c)]


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
    call = next(c for c in graph.calls if c.name == call.name)  # plans see some calls otherwise
    if any(graph.tensors[t].masked for t in call.inputs):
        raise NotOpened("it receives a Keras mask")
    if any(graph.tensors[t].masked for t in call.outputs):
        raise NotOpened("its output carries a Keras mask")
    if any(graph.tensors[t].moved for t in call.inputs):
        raise NotOpened("the batch is not the first axis of what it receives")
    if "call" in vars(call.op):
        raise NotOpened("its call() was replaced")
    names = Counter(c.name for c in graph.calls)
    known = {t.id: t for t in graph.tensors}
    try:
        calls, tensors, outputs, _ = inside(
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
    result = certain(_spliced(graph, call, calls, tensors, dict(zip(call.outputs, outputs, strict=True))))
    result = located(result, calls)
    if any(result.tensors[t].moved for inner in calls for t in inner.outputs):
        raise NotOpened("its inside moves the batch axis")
    return result


def extended(graph: Graph, function: Callable[..., Any], what: str) -> Graph:
    """The graph with a function of its outputs behind it, whose results are the outputs from then on.

    Args:
        graph: Of a model.
        function: Of the outputs in the model's own structure, written in ``keras.ops``.
        what: Its name in messages.

    Raises:
        TypeError: If it does not run on symbolic tensors.
        ModelError: If a result has not one row for each sequence.
    """
    names = Counter(c.name for c in graph.calls)
    known = {t.id: t for t in graph.tensors}

    def run(*flat):
        return function(graph.restore_outputs(flat))

    try:
        args = tuple(Ref(t) for t in graph.outputs)
        calls, tensors, outputs, given = inside(
            run, args, {}, known, calls=names, first=len(graph.tensors), prefix=f"{what}/"
        )
    except Exception as error:
        raise TypeError(
            f"{what} failed on the model's outputs ({type(error).__name__}: {error}); a function of the outputs, "
            "written in keras.ops so that it can run on the device, is accepted."
        ) from error
    if not outputs or any(not isinstance(o, Ref) for o in outputs):
        raise TypeError(f"{what} gives {given!r}; tensors computed from the model's outputs are accepted.")
    longer = replace(
        graph,
        calls=_numbered([*graph.calls, *calls]),
        tensors=(*graph.tensors, *tensors),
        outputs=tuple(o.id for o in outputs),
        output_structure=without_singleton(given),
        finish=lambda flat: tree.flatten(function(graph.restore_outputs(graph.finish(flat)))),
    )
    check_outputs(longer)
    return located(certain(longer), calls)


def frozen(graph: Graph) -> tuple[Any, ...]:
    """Variables that were turned into constants when insides were traced: a change of these asks for a new trace."""
    arguments = (leaf for c in graph.calls for leaf in tree.flatten((c.args, c.kwargs)))
    if not graph.traced or not any(keras.ops.is_tensor(leaf) for leaf in arguments):
        return ()
    return tuple({id(v): v for layer in graph.traced for v in reached(layer)}.values())


def weights_hash(variables: Sequence[Any]) -> str:
    """A digest of the values of variables."""
    digest = hashlib.sha1(usedforsecurity=False)
    for variable in variables:
        digest.update(np.ascontiguousarray(backend.to_numpy(variable.value)).tobytes())
    return digest.hexdigest()


def _verify(graph: Graph, call: Call, calls: Sequence[Call], outputs: Sequence[Any]) -> None:
    """Raise unless the inside gives what the call gives, on random numbers."""
    if any(None in graph.shape(t) for t in call.inputs):
        raise NotOpened("a length is unknown")
    largest = max(math.prod(int(n or 0) for n in graph.shape(t)) for t in (*call.inputs, *call.outputs))
    for seed in range(2 if largest < LARGE else 1):
        rng = np.random.default_rng(seed)
        given = {}
        for t in call.inputs:
            rows = 2 if largest < LARGE else 1
            shape, dtype = (rows, *(int(n or 0) for n in graph.shape(t))), graph.tensors[t].dtype
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
        traced=(*graph.traced, call.op),
    )


def _numbered(calls: Sequence[Call]) -> tuple[Call, ...]:
    return tuple(replace(c, index=i) for i, c in enumerate(calls))
