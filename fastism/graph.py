"""Keras model -> :class:`Graph` of :class:`Call` s. Only this file and ``calls.py`` touch Keras's private attributes.

A node of the graph is a *call*, not a layer: a layer or nested model that is called twice gives two calls (or two
copies of its calls). Nested functional and Sequential models are opened in place. The graph is reached backwards
from the model's outputs through each tensor's history, so calls that the same layers have in other models never
appear. Nothing of the user's model is modified, cloned or renamed.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import keras
import keras.src.backend
import numpy as np
from keras import tree
from keras.src.backend.common.variables import AutocastScope
from keras.src.models.functional import Functional

from fastism.calls import PLAIN, Call, Ref, altered, bound, keras_mask, losses_kept, with_parts
from fastism.errors import ModelError


@dataclass(frozen=True)
class Tensor:
    """A value that flows between calls.

    Attributes:
        id: Its index in :attr:`Graph.tensors`.
        name: For messages.
        shape: Without the batch axis; None where Keras does not know it.
        dtype: Keras dtype name.
        masked: Whether Keras attaches a mask to it.
        moved: Whether the batch is not its first axis alone, so that no row of it belongs to one sequence.
        unbatched: Its whole shape, where that does not begin with the axis of the sequences; else None.
    """

    id: int
    name: str
    shape: tuple[int | None, ...]
    dtype: str
    masked: bool = False
    moved: bool = False
    unbatched: tuple[int | None, ...] | None = None


#: Attributes that change by use, not by a user's will.
_CHANGING = frozenset({"built", "training", "compiled", "stop_training"})
#: The most frequent of the types of settings that say all about themselves.
_SIMPLE = frozenset({int, float, str, bool, type(None)})


def _settings(layer: Any) -> tuple[Any, ...]:
    """Attributes that users may set: numbers, texts, functions, arrays and what holds such; and a ``call`` of its own.

    Of a user's own class private ones too, but for those that every layer has.
    """
    found: list[Any] = []
    own, of_every_layer = not _of_keras(type(layer)), _of_every_layer()
    for name, value in vars(layer).items():  # at every call of a FastISM, so quick ways come first
        if (name[:1] == "_" and (not own or name in of_every_layer)) or name in _CHANGING:
            continue
        kind = type(value)
        if kind in _SIMPLE or callable(value) or (kind is tuple and all(type(v) in _SIMPLE for v in value)):
            found.append((name, value))
        else:
            found.append((name, kind, *(_noted(leaf) for leaf in _leaves(value))))
    hidden = ("pool_mode", "lora_enabled", "quantization_mode")
    policy = getattr(getattr(layer, "dtype_policy", None), "name", None)
    return (*found, *(getattr(layer, name, None) for name in hidden), policy, altered(layer))


def _leaves(value: Any) -> list[Any]:
    """What lists, tuples and dicts hold, keys included; a set, or a value alone."""
    if isinstance(value, Mapping):
        value = [item for pair in value.items() for item in pair]
    elif isinstance(value, set | frozenset):
        return [frozenset(value)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list | tuple) else [value]


def _noted(value: Any) -> Any:
    """What tells whether a value has changed; None for what cannot be told."""
    if isinstance(value, (*PLAIN, frozenset)) or callable(value):
        return value
    if not isinstance(value, np.ndarray) and (isinstance(value, keras.Variable) or not keras.ops.is_tensor(value)):
        return None
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value))
    except Exception:  # a tensor that a trace left behind has no value, and says so in ways of its own
        return None
    return (array.shape, str(array.dtype), hashlib.sha1(array.tobytes(), usedforsecurity=False).hexdigest())


@cache
def _of_every_layer() -> frozenset[str]:
    return frozenset(vars(keras.layers.Layer()))


def layers_of(model: Any) -> tuple[Any, ...]:
    """All layers of a model, those inside others too: a Sequential one may come to have others."""
    return tuple(with_parts(model))


def _all_told(part: Any) -> list[Any]:
    """What a layer or operation says of itself: its class, dtype and all public attributes, see :func:`_told`."""
    if not _of_keras(type(part)) or isinstance(part, keras.layers.Lambda) or altered(part):
        return [None]
    public = {k: v for k, v in vars(part).items() if not k.startswith("_")}
    policy = getattr(part, "dtype_policy", None)
    names = (type(part), getattr(policy, "compute_dtype", None), getattr(policy, "variable_dtype", None))
    return [(names, tuple(sorted(public))), *(_told(leaf) for leaf in tree.flatten(list(public.values())))]


def _told(value: Any) -> Any:
    """A number or text, or what it is of Keras's own; None for what does not say all about itself."""
    if isinstance(value, np.generic | np.dtype | slice | type(Ellipsis)):
        return (type(value), str(value))
    if isinstance(value, (*PLAIN, Ref)):
        return (type(value), value)
    if inspect.isroutine(value) or isinstance(value, type):
        return (value,) if _of_keras(value) else None
    if keras.ops.is_tensor(value) and not isinstance(value, keras.Variable):
        return None
    return (type(value),) if _of_keras(type(value)) else None


def _of_keras(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("keras.")


@dataclass(frozen=True, eq=False)
class Graph:
    """A Keras model as a list of calls in execution order.

    Attributes:
        calls: Only those that some output depends on.
        tensors: All values, by id.
        inputs, outputs: Ids, in the order of ``model.inputs`` and ``model.outputs``.
        variables: Every variable of the model.
        input_structure: In which the model takes its inputs; None for one alone and for a flat list.
        output_structure: In which the outputs are handed back; anything but a list, tuple or dict for one alone.
        traced: Layers whose inside was found by tracing, which turns what is computed from weights into constants.
        finish: What makes the outputs of the model's own, where some were chosen or a function follows them.
    """

    calls: tuple[Call, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[Any, ...]
    input_structure: Any = field(repr=False)
    output_structure: Any = field(repr=False)
    finish: Callable[[list[Any]], list[Any]] = field(default=list, repr=False)
    traced: tuple[Any, ...] = ()

    def shape(self, tensor: int) -> tuple[int | None, ...]:
        """Shape of a tensor without the batch axis."""
        return self.tensors[tensor].shape

    def fingerprint(self) -> tuple[Any, ...]:
        """What users may set on a layer after its call was read, and which decides how it is computed."""
        layers = {id(p): p for layer in (*(c.op for c in self.calls), *self.traced) for p in with_parts(layer)}
        return tuple(_settings(layer) for layer in layers.values())

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What tells whether another reading of a model gave the same; None where not all can be told.

        Keras's own layers compute from variables, settings and the arguments of their calls. What a user wrote, such as
        a layer, an activation or an array among the arguments, may have changed in ways that do not show.
        """
        parts = [part for call in self.calls for part in with_parts(call.op)]
        arguments = [leaf for call in self.calls for leaf in tree.flatten((call.args, call.kwargs))]
        told = [_told(leaf) for leaf in arguments] + [item for part in parts for item in _all_told(part)]
        if self.traced or None in told:
            return None
        calls = tuple((id(c.op), c.name, c.inputs, c.outputs) for c in self.calls)
        return (calls, tuple(id(v) for v in self.variables), tuple(told))

    @property
    def input_keys(self) -> tuple[str, ...] | None:
        """The keys of a model whose inputs are a dictionary, in the order of :attr:`inputs`."""
        if not isinstance(self.input_structure, Mapping):
            return None
        numbered = self.pack_inputs(range(len(self.inputs)))
        return tuple(sorted(numbered, key=numbered.get)) if not _nested(numbered) else None

    def pack_inputs(self, flat: Sequence[Any]) -> Any:
        """Flat inputs in the model's own structure; alone if there is one."""
        if self.input_structure is not None:
            return tree.pack_sequence_as(self.input_structure, list(flat))
        return flat[0] if len(flat) == 1 else list(flat)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The call that makes each output; the tensor's own name where an input is an output."""
        made_by = {t: call.name for call in self.calls for t in call.outputs}
        return tuple(made_by.get(t, self.tensors[t].name) for t in self.outputs)

    def restore_outputs(self, flat: Sequence[Any]) -> Any:
        """Flat outputs in the model's own structure, the entries of a dict in their order; a tuple becomes a list."""
        if not isinstance(self.output_structure, list | tuple | dict):
            return flat[0]
        packed = tree.pack_sequence_as(self.output_structure, list(flat))
        _put_in_order(packed, tree.pack_sequence_as(self.output_structure, list(range(len(flat)))))
        return list(packed) if isinstance(packed, tuple) else packed


def _put_in_order(packed: Any, numbered: Any) -> None:
    """List the entries of dicts as flat outputs are: which of the two orders Keras's trees keep depends on the backend.

    Args:
        packed: Nested outputs, which are changed in place.
        numbered: The same with the number of each.
    """
    parts: list[tuple[Any, Any]] = []
    if isinstance(packed, dict):
        keys = sorted(packed, key=lambda key: min(tree.flatten(numbered[key]), default=0))
        parts = [(packed[key], numbered[key]) for key in keys]
        packed.clear()
        packed.update((key, part) for key, (part, _) in zip(keys, parts, strict=True))
    elif isinstance(packed, list | tuple):
        parts = list(zip(packed, numbered, strict=True))
    for part, numbers in parts:
        _put_in_order(part, numbers)


def without_singleton(structure: Any) -> Any:
    """What a list or tuple of one holds, as Keras hands back the outputs of models made of inputs and outputs."""
    return structure[0] if isinstance(structure, list | tuple) and len(structure) == 1 else structure


def read_model(model: Any) -> Graph:
    """Read the graph of a functional or Sequential Keras 3 model.

    Args:
        model: A built ``keras.Model`` made of inputs and outputs, or a built ``keras.Sequential``.

    Returns:
        Its graph, nested models opened.

    Raises:
        ModelError: If the model is no Keras 3 model, is not built, is subclassed, or has a call that was recorded
            with ``training=True``.
    """
    graph = _Reader().graph(_functional(model))
    check_outputs(graph)
    return graph if any(None in graph.shape(t) for t in graph.inputs) else located(certain(graph))


def chosen(graph: Graph, which: Sequence[int]) -> Graph:
    """The same graph with some of its outputs only, and the calls that these depend on."""
    needed, calls = {graph.outputs[i] for i in which}, []
    for call in reversed(graph.calls):
        if needed & set(call.outputs):
            needed.update(call.inputs)
            calls.append(call)
    return replace(
        graph,
        calls=tuple(replace(c, index=i) for i, c in enumerate(reversed(calls))),
        outputs=tuple(graph.outputs[i] for i in which),
        output_structure=[None] * len(which) if len(which) > 1 else None,
        finish=lambda flat: [flat[i] for i in which],
    )


def check_outputs(graph: Graph) -> None:
    """Raise :class:`ModelError` unless every output has the axis of the sequences."""
    for tensor, name in zip(graph.outputs, graph.output_names, strict=True):
        if graph.tensors[tensor].unbatched is not None:
            raise rowless(name, graph.tensors[tensor].unbatched)


def rowless(name: str, shape: Any) -> ModelError:
    """What to raise for an output that has not one row for each sequence."""
    return ModelError(
        f"Output {name!r} has shape {shape}; every output needs one row for each sequence, (N, ...). Keep the first "
        "axis: take sums and means over the others, such as keras.ops.sum(y, axis=(1, 2))."
    )


def certain(graph: Graph) -> Graph:
    """The graph with shapes and dtypes found by tracing, unless it is plain that what Keras noted is right."""
    plain = all(t.dtype == "float32" and None not in t.shape for t in graph.tensors)
    return graph if plain else settled(graph)


#: Operations that can put the batch elsewhere than on the first axis.
_MOVERS = frozenset(
    ["Reshape", "Transpose", "Swapaxes", "Moveaxis", "Ravel", "Squeeze", "ExpandDims", "GetItem", "Einsum"]
)
#: A number of sequences that is the size of no axis.
_BATCH = 99991


def located(graph: Graph, calls: Sequence[Call] | None = None) -> Graph:
    """The graph with every tensor marked whose first axis is not the batch.

    Only calls that can move the batch are traced, each by itself, on a batch of a peculiar size. Tensors without any
    batch axis, as constants are, have no mark: all sequences share them.

    Args:
        graph: With all shapes known.
        calls: Those to look at; all by default.
    """
    moved: dict[int, tuple[int | None, ...] | None] = {}  # whole shapes for _BATCH sequences; None where not known
    for call in graph.calls if calls is None else calls:
        if not _may_move(call.op) and not any(t in moved for t in call.inputs):
            continue
        if any(None in graph.shape(t) for t in call.inputs):
            continue
        if any(t in moved and moved[t] is None for t in call.inputs):
            moved.update(dict.fromkeys(call.outputs))
            continue
        shapes, rows = _shapes_of(graph, call, {t: moved.get(t) or (_BATCH, *graph.shape(t)) for t in call.inputs})
        for tensor, shape in zip(call.outputs, shapes, strict=False):
            if _moved(shape, rows):
                moved[tensor] = shape if rows == _BATCH else None
    if not moved:
        return graph
    return replace(graph, tensors=tuple(replace(t, moved=t.moved or t.id in moved) for t in graph.tensors))


def _may_move(op: Any) -> bool:
    if not isinstance(op, keras.Layer):
        return type(op).__name__ in _MOVERS
    opaque = isinstance(op, keras.layers.TimeDistributed | keras.layers.Lambda)
    return opaque or not type(op).__module__.startswith(("keras.", "fastism."))


def _shapes_of(
    graph: Graph, call: Call, shapes: Mapping[int, Sequence[int | None]]
) -> tuple[list[tuple[int | None, ...]], int]:
    """The whole shapes of a call's outputs, and for how many sequences; none where the call does not tell.

    Args:
        graph: That the call belongs to.
        call: To be traced.
        shapes: Of its inputs, for ``_BATCH`` sequences.
    """
    dtypes = [graph.tensors[t].dtype for t in call.inputs]

    def run(*values):
        return call.evaluate(values)

    def zeros(rows):
        sizes = ([n // _BATCH * rows if n and n >= _BATCH else n for n in shapes[t]] for t in call.inputs)
        return [keras.ops.zeros(size, dtype=dtype) for size, dtype in zip(sizes, dtypes, strict=True)]

    def on_shapes():
        if keras.backend.backend() != "torch":
            specs = [keras.KerasTensor(shapes[t], dtype=d) for t, d in zip(call.inputs, dtypes, strict=True)]
            return keras.src.backend.compute_output_spec(run, *specs)
        with keras.device("meta"):  # Keras's own tracing would go on to numbers, of all these rows
            return run(*zeros(_BATCH))

    for trace, rows in ((on_shapes, _BATCH), (lambda: run(*zeros(3)), 3)):
        try:
            return [tuple(getattr(y, "shape", ())) for y in trace()], rows
        except Exception:  # whatever a layer does to what is no number, or to a batch of this size
            continue
    return [], _BATCH


def _moved(shape: tuple[int | None, ...], rows: int) -> bool:
    return any(n is not None and n >= rows and n % rows == 0 for n in shape) and shape[0] != rows


def _values(graph: Graph, *inputs: Any) -> dict[int, Any]:
    """All tensors of a graph, from its inputs."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for call in graph.calls:
        values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
    return values


def settled(graph: Graph, shapes: Sequence[tuple[int, ...]] | None = None) -> Graph:
    """The same graph with the shapes and dtypes that its tensors really have.

    What Keras notes when a model is built can be unknown (a length), or wrong (some operations say float32 and give
    float64), so the calls are traced once on abstract inputs.

    Args:
        graph: As read.
        shapes: Of the inputs, without batch axis, where Keras does not know them.

    Raises:
        ModelError: If the model does not run on such inputs.
    """
    sizes = [graph.shape(t) for t in graph.inputs] if shapes is None else list(shapes)
    dtypes = [graph.tensors[t].dtype for t in graph.inputs]

    def run(*inputs):
        values = _values(graph, *inputs)
        return [values[t.id] for t in graph.tensors if t.id in values]

    specs = [keras.KerasTensor((None, *s), dtype=d) for s, d in zip(sizes, dtypes, strict=True)]
    try:
        if keras.backend.backend() == "torch":  # whose abstract tensors take half precision for float32
            found = iter(run(*[keras.ops.zeros((1, *s.shape[1:]), dtype=s.dtype) for s in specs]))
        else:
            found = iter(keras.src.backend.compute_output_spec(run, *specs))
    except Exception as error:
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # without Keras's colours
        raise ModelError(
            f"The model does not run on inputs of shapes {[tuple(s.shape) for s in specs]}; a sequence may be too "
            f"short for it. It said: {said}"
        ) from error
    made = {*graph.inputs, *(t for c in graph.calls for t in c.outputs)}
    tensors = []
    for tensor in graph.tensors:
        spec: Any = next(found) if tensor.id in made else None
        known = hasattr(spec, "shape")
        if not known:
            tensors.append(tensor)
            continue
        dtype = keras.backend.standardize_dtype(spec.dtype)
        tensors.append(replace(tensor, shape=_best(tuple(spec.shape[1:]), tensor.shape), dtype=dtype))
    return replace(graph, tensors=tuple(tensors))


def _best(traced: tuple[int | None, ...], noted: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """A traced shape; what tracing lost (as TensorFlow's median does) as Keras noted it."""
    if len(traced) != len(noted):
        return traced
    return tuple(n if t is None else t for t, n in zip(traced, noted, strict=True))


def _functional(model: Any) -> Functional:
    if isinstance(model, keras.Sequential):
        inner = getattr(model, "_functional", None)
        if inner is None:
            raise ModelError(
                f"Model {model.name!r} is a Sequential that is not built, so its layers have no shapes; a built model "
                "is needed. Add keras.Input((length, alphabet)) as its first layer, or call it once on a batch."
            )
        if type(model).call is not keras.Sequential.call:
            raise Subclassed(_subclassed(model))
        return inner
    if isinstance(model, Functional):
        if type(model).call is not Functional.call:
            raise Subclassed(_subclassed(model))
        return model
    if isinstance(model, keras.Model):
        raise Subclassed(_subclassed(model))
    if type(model).__module__.startswith(("tf_keras", "tensorflow.python.keras")):
        raise ModelError(
            f"The model is a {type(model).__name__} of Keras 2 ({type(model).__module__}); a Keras 3 model is needed. "
            "FastISM takes it as it is; to read its graph, convert it with fastism.keras2.convert(model).model."
        )
    hint = f" Load it first: fastism.load_model({str(model)!r})." if isinstance(model, str | os.PathLike) else ""
    raise ModelError(
        f"The model is a {type(model).__name__}; a keras.Model made of inputs and outputs, or a built "
        f"keras.Sequential, is needed.{hint}"
    )


class Subclassed(ModelError):
    """The model defines its own ``call``, so Keras records no graph."""


def _subclassed(model: Any) -> str:
    return (
        f"Model {model.name!r} is of class {type(model).__name__}, which defines its own call(), so Keras records no "
        "graph of its layers; a model made of inputs and outputs is needed. Build one with x = keras.Input((length, "
        "alphabet)); keras.Model(x, model.call(x)), then check that both give the same predictions."
    )


def inside(
    op: Any, args: Any, kwargs: Any, tensors: Mapping[int, Tensor], *, calls: Counter[str], first: int, prefix: str
) -> tuple[list[Call], list[Tensor], list[Any], Any]:
    """Trace what a layer or function does with symbolic tensors, as calls.

    Args:
        op: A layer, whose ``call`` is traced, or any function.
        args, kwargs: Its arguments, tensors as :class:`Ref`.
        tensors: What these are.
        calls: How often each name is taken; counted on.
        first: Id for the first new tensor.
        prefix: Of the names of the calls.

    Returns:
        The calls, the new tensors, the outputs (a :class:`Ref` for each tensor, else the constant itself), and what the
        layer gave, of which these are the leaves.

    Raises:
        Exception: Whatever the layer raises; many cannot be traced.
    """
    layer = op if isinstance(op, keras.Layer) else None
    refs = {leaf.id: leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, Ref)}
    symbols = {
        i: keras.KerasTensor((None, *tensors[i].shape), dtype=tensors[i].dtype, name=tensors[i].name) for i in refs
    }

    def fill(leaf):
        if not isinstance(leaf, Ref):
            return leaf
        symbol = symbols[leaf.id]
        if layer is not None and layer.autocast and "float" in symbol.dtype and symbol.dtype != layer.compute_dtype:
            return keras.ops.cast(symbol, layer.compute_dtype)
        return symbol

    args, kwargs = tree.map_structure(fill, (args, kwargs))
    if layer is None:
        out = op(*args, **kwargs)
    else:
        if layer._call_has_training_arg:
            kwargs = {**kwargs, "training": False}
        with AutocastScope(layer.compute_dtype if layer.autocast else None), losses_kept(layer):
            out = layer.call(*args, **kwargs)
    outputs = tree.flatten(out)
    reader = _Reader(names=calls, first=first, index=0)
    env = {id(symbol): i for i, symbol in symbols.items()}
    reader.walk([o for o in outputs if isinstance(o, keras.KerasTensor)], env, prefix=prefix)
    return (
        reader.calls,
        reader.tensors,
        [Ref(env[id(o)]) if isinstance(o, keras.KerasTensor) else o for o in outputs],
        out,
    )


class _Reader:
    def __init__(self, names: Counter[str] | None = None, first: int = 0, index: int = 0):
        self.calls: list[Call] = []
        self.tensors: list[Tensor] = []
        self.names: Counter[str] = Counter() if names is None else names
        self.first, self.index = first, index
        self.rows = {None, 1}  # lengths of the axis of sequences

    def graph(self, model: Functional) -> Graph:
        self.rows.update(kt.shape[0] for kt in model.inputs if len(kt.shape))
        env = {id(kt): self._new_tensor(kt) for kt in model.inputs}
        self.walk(model.outputs, env, prefix="")
        struct = model._inputs_struct
        return Graph(
            calls=tuple(self.calls),
            tensors=tuple(self.tensors),
            inputs=tuple(env[id(kt)] for kt in model.inputs),
            outputs=tuple(env[id(kt)] for kt in model.outputs),
            variables=_variables(model, self.calls),
            input_structure=struct if isinstance(struct, dict) or _nested(struct) else None,
            output_structure=without_singleton(model._outputs_struct),
        )

    def _new_tensor(self, kt: Any) -> int:
        masked = keras_mask(kt) is not None
        shape = tuple(kt.shape)
        unbatched = None if shape and shape[0] in self.rows else shape
        tensor = Tensor(self.first + len(self.tensors), kt.name, shape[1:], str(kt.dtype), masked, unbatched=unbatched)
        self.tensors.append(tensor)
        return tensor.id

    def walk(self, outputs: Sequence[Any], env: dict[int, int], prefix: str) -> None:
        """Add the calls that ``outputs`` depend on, in execution order; ``env`` maps id(KerasTensor) to tensor."""
        stack = list(reversed(outputs))
        while stack:
            kt = stack[-1]
            if id(kt) in env:
                stack.pop()
                continue
            history = kt._keras_history
            node = history.operation._inbound_nodes[history.node_index]
            missing = [t for t in node.arguments.keras_tensors if id(t) not in env]
            if missing:
                stack.extend(reversed(missing))
                continue
            if node.is_input:
                raise ModelError(
                    f"Tensor {kt.name!r} is an input that the model does not list among its inputs; every Input that "
                    "the outputs depend on must be in keras.Model(inputs=...)."
                )
            self._add(node, env, prefix)

    def _add(self, node: Any, env: dict[int, int], prefix: str) -> None:
        op = node.operation
        path = prefix + op.name
        if _recorded_training(node):
            raise ModelError(
                f"Layer {path!r} was called with training=True when the model was built, so its output is random or "
                "depends on the batch and in-silico mutagenesis is not defined; build the model without that argument."
            )
        stateful = _stateful(op)
        if stateful is not None:
            where = repr(path) if stateful is op else f"{path!r} holds {stateful.name!r}, which"
            raise ModelError(
                f"Layer {where} is stateful: what it gives for a sequence depends on the batches before, and it takes "
                "batches of one size only. Several sequences in a batch, and the same ones again, would differ; build "
                "the model with stateful=False."
            )
        inner = _opened(op)
        if inner is not None:
            given = tree.flatten(node.arguments.args[0]) if node.arguments.args else []
            if _can_open(inner, given, node):
                inside = {id(i): env[id(g)] for i, g in zip(inner.inputs, given, strict=True)}
                self.walk(inner.outputs, inside, prefix=f"{self._unique(path)}/")
                env.update({id(o): inside[id(i)] for o, i in zip(node.outputs, inner.outputs, strict=True)})
                return
        args, kwargs = tree.map_structure(
            lambda leaf: Ref(env[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf,
            (node.arguments.args, node.arguments.kwargs),
        )
        inputs = tuple(dict.fromkeys(env[id(t)] for t in node.arguments.keras_tensors))
        for out in node.outputs:
            env[id(out)] = self._new_tensor(out)
        outputs = tuple(env[id(out)] for out in node.outputs)
        self.calls.append(Call(self.index + len(self.calls), self._unique(path), op, args, kwargs, inputs, outputs))

    def _unique(self, path: str) -> str:
        self.names[path] += 1
        count = self.names[path]
        return path if count == 1 else f"{path}#{count}"


def _variables(model: Any, calls: Sequence[Call]) -> tuple[Any, ...]:
    """Those of the model, and any that its operations take as arguments or its functions reach outside of it."""
    given = [v for c in calls for v in tree.flatten((c.args, c.kwargs)) if isinstance(v, keras.Variable)]
    outside = [v for c in calls for v in reached(c.op)]
    return tuple({id(v): v for v in [*model.variables, *given, *outside]}.values())


def reached(op: Any) -> list[Any]:
    """The variables of a layer, and those that the function of a Lambda finds where it was defined."""
    own = list(op.variables) if isinstance(op, keras.Layer) else []
    if not isinstance(op, keras.layers.Lambda):
        return own
    try:
        found = inspect.getclosurevars(op.function)
    except (TypeError, ValueError):  # not a Python function
        return own
    outside = [*found.nonlocals.values(), *found.globals.values()]
    return [*own, *(v for v in outside if isinstance(v, keras.Variable))]


def _opened(op: Any) -> Functional | None:
    """The functional model inside ``op`` if it is a model that only runs its graph."""
    if isinstance(op, keras.Sequential) and type(op).call is keras.Sequential.call:
        return getattr(op, "_functional", None)
    if isinstance(op, Functional) and type(op).call is Functional.call:
        return op
    return None


def _can_open(inner: Functional, given: Sequence[Any], node: Any) -> bool:
    """Whether the nested call only hands tensors of the expected shape and dtype to the inner inputs."""
    if len(node.arguments.args) != 1 or len(given) != len(inner.inputs):
        return False
    if any(isinstance(v, keras.KerasTensor) for v in tree.flatten(node.arguments.kwargs)):
        return False
    if _paired_by_name(node.arguments.args[0]) or _paired_by_name(inner._inputs_struct):
        return False  # Keras pairs dictionaries with inputs by name
    return all(
        isinstance(g, keras.KerasTensor) and len(g.shape) == len(i.shape) and g.dtype == i.dtype
        for g, i in zip(given, inner.inputs, strict=True)
    )


def _paired_by_name(struct: Any) -> bool:
    return isinstance(struct, dict) or (isinstance(struct, list | tuple) and any(map(_paired_by_name, struct)))


def _recorded_training(node: Any) -> bool:
    """Whether a call was recorded with training=True that is not the layer's own default, as of image layers."""
    op, arguments = node.operation, node.arguments
    if "training" in arguments.kwargs:
        return bool(arguments.kwargs["training"]) and not _trains_by_default(op)
    return isinstance(op, keras.Layer) and bound(op, arguments.args, arguments.kwargs).get("training") is True


def _trains_by_default(op: Any) -> bool:
    """Whether ``call(training=True)`` is the default; Keras notes that as if the user had asked for it."""
    default = inspect.signature(op.call).parameters.get("training")
    return default is not None and default.default is True


def _stateful(op: Any) -> Any:
    """The layer, of ``op`` and all inside it, that keeps a state from batch to batch; None if there is none."""
    return next((layer for layer in with_parts(op) if getattr(layer, "stateful", False) is True), None)


def _nested(struct: Any) -> bool:
    """Whether a list or dictionary holds others."""
    values = struct.values() if isinstance(struct, dict) else struct if isinstance(struct, list | tuple) else ()
    return any(isinstance(value, dict | list | tuple) for value in values)
