"""``keras.ops`` calls as they appear in a model's graph: element by element, along axes, products with constants."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.calls import Call, Ref
from fastism.graph import Graph
from fastism.rules.conv import convolution, depthwise, transposed
from fastism.rules.merge import Combine, Concatenate
from fastism.rules.pointwise import ELEMENTWISE, Affine, Linear, Pointwise, casting
from fastism.rules.pooling import pooling
from fastism.rules.reduce import REDUCERS, Rows
from fastism.rules.registry import RULES, Rule, RuleFn, operation_class
from fastism.rules.select import select
from fastism.rules.step import Lowered, Refuse, Same, Shape, Tensor

FAMILY = "operations"

#: Of one tensor, each number alone. Not those that give infinities, such as log: these have no difference.
UNARY = (
    "relu relu6 sigmoid silu softplus softsign tanh gelu elu selu celu leaky_relu hard_sigmoid hard_silu hard_tanh "
    "hard_shrink soft_shrink tanh_shrink log_sigmoid squareplus sparse_plus sparse_sigmoid threshold exp expm1 sqrt "
    "square abs negative sign sin cos floor ceil round erf exp2 tan arctan sinh cosh arcsinh logical_not stop_gradient "
    "zeros_like ones_like"
)
#: Of two.
BINARY = (
    "add subtract multiply divide true_divide maximum minimum greater greater_equal less less_equal equal not_equal "
    "logical_and logical_or logical_xor"
)
#: Along the axes that their ``axis`` names.
ALONG = (
    "softmax log_softmax sum mean max min amax amin prod var std logsumexp norm normalize argmax argmin cumsum cumprod "
    "sort argsort layer_normalization rms_normalization any all count_nonzero median glu one_hot"
)
#: Those that only move values.
MOVING = "flip roll repeat take tile pad stack transpose swapaxes moveaxis squeeze expand_dims broadcast_to copy"


def _leaves(call: Call) -> list[Any]:
    return tree.flatten((call.args, call.kwargs))


def _refs(call: Call) -> tuple[int, ...]:
    """Tensors among the arguments, in order, one that is given twice counted twice."""
    return tuple(leaf.id for leaf in _leaves(call) if isinstance(leaf, Ref))


def _is_array(leaf: Any) -> bool:
    return not isinstance(leaf, Ref) and hasattr(leaf, "shape") and math.prod(leaf.shape) > 1


def _known(shape: Sequence[int | None]) -> Shape:
    return tuple(int(n or 0) for n in shape)


def _filled(call: Call, run: Callable[..., Tensor], arrays: Sequence[int] = ()) -> Callable[..., Tensor]:
    """``run`` as a function of the call's tensors, then of the array arguments whose numbers are given."""

    def f(*values):
        count = len(_refs(call))
        tensors, given = iter(values[:count]), dict(zip(arrays, values[count:], strict=True))
        numbers = iter(range(len(_leaves(call))))

        def fill(leaf):
            i = next(numbers)
            return next(tensors) if isinstance(leaf, Ref) else given.get(i, leaf)

        args, kwargs = tree.map_structure(fill, (call.args, call.kwargs))
        return run(*args, **kwargs)

    return f


# ------------------------------------------------------------------------------------------ element by element


def elementwise(call: Call, graph: Graph) -> Lowered:
    """A function of each number alone; arrays among the arguments are read at the window's own positions."""
    refs, out = _refs(call), _known(graph.shape(call.outputs[0]))
    positional, aligned = [], {}
    for i, leaf in enumerate(_leaves(call)):
        if not _is_array(leaf):
            continue
        shape = (1,) * (1 + len(out) - len(leaf.shape)) + tuple(leaf.shape)
        if len(shape) != 1 + len(out) or shape[0] != 1:
            raise Refuse("an array among its arguments has an axis for the batch")
        if not out or shape[1] not in (1, out[0]):
            raise Refuse("an array among its arguments has other positions")
        aligned[i] = functools.partial(_reshaped, leaf, shape[1:] if shape[1] > 1 else shape[2:])
        if shape[1] > 1:
            positional.append(i)
    settings = [v for k, v in vars(call.op).items() if not k.startswith("_")]
    if any(_is_array(v) for v in settings):
        raise Refuse("an array is among its settings")
    kind = type(call.op)
    if kind in _classes("divide true_divide", 2) and len(call.args) > 1 and isinstance(call.args[1], Ref):
        raise Refuse("it divides by activations, and what is infinite has no difference")
    static = {i: a for i, a in aligned.items() if i not in positional}
    f = _aligned(call, static, positional)
    at = [aligned[i] for i in positional]
    shapes = [_known(graph.shape(r)) for r in refs]
    if kind in _classes("add subtract", 2):
        linear = _sum(call, refs, shapes, out)
        if linear is not None:
            return linear
    elif kind in _classes("multiply divide true_divide", 2) and len(refs) == 1 and shapes[0] == out:
        return Lowered([Linear(f, _filled(call, _run_of(call)), positional=at)], inputs=refs)
    return Lowered([Pointwise(f, positional=at, rectifies=kind in _classes("relu", 1))], inputs=refs)


def _reshaped(leaf: Any, shape: Shape) -> Tensor:
    return ops.reshape(ops.convert_to_tensor(leaf), shape)


def _aligned(call: Call, static: dict[int, Callable[[], Tensor]], positional: Sequence[int]) -> Callable[..., Tensor]:
    run = _filled(call, _run_of(call), [*positional, *static])
    return lambda *values: run(*values, *[make() for make in static.values()])


def _run_of(call: Call) -> Callable[..., Tensor]:
    # Keras's own addition may take an addend for a bias where batch and channels are of one size
    return operator.add if type(call.op) in _classes("add", 2) else call.op


def _sum(call: Call, refs: Sequence[int], shapes: Sequence[Shape], out: Shape) -> Lowered | None:
    """Addition and subtraction keep the change as it is; constants drop out."""
    if any(s != out for s in shapes):
        return None
    minus = type(call.op) not in _classes("add", 2)
    signs = [1.0, -1.0 if minus else 1.0]
    arguments = [*call.args, *call.kwargs.values()]
    if len(arguments) != 2:
        return None
    weights = [s for s, a in zip(signs, arguments, strict=True) if isinstance(a, Ref)]
    return Lowered([Combine(weights)], inputs=tuple(refs))


def cast(call: Call, graph: Graph) -> Lowered:
    """A change of dtype; between floats the change is cast as it is."""
    source, target = (graph.tensors[t].dtype for t in (call.inputs[0], call.outputs[0]))
    if source == target:
        return Lowered([Same()])
    if "float" in source and "float" in target:
        return Lowered([casting(target)])
    return Lowered([Pointwise(lambda x: ops.cast(x, target))])


def power(call: Call, graph: Graph) -> Lowered:
    """A positive whole power; others give infinities at 0."""
    exponent = call.args[1] if len(call.args) > 1 else call.kwargs.get("x2")
    number = float(exponent) if isinstance(exponent, int | float | np.number) else -1.0
    if number < 0 or not number.is_integer():
        raise Refuse("its exponent is not a positive whole number, and what is infinite has no difference")
    return elementwise(call, graph)


# ------------------------------------------------------------------------------------------ along axes


def along(call: Call, graph: Graph) -> Lowered:
    """Operations along axes: of channels, position by position; reductions over positions incrementally."""
    if len(_refs(call)) != 1:
        raise Refuse("it has several changing arguments")
    if backend.name() == "torch" and type(call.op) in _classes("count_nonzero", 1):
        raise Refuse("on torch, Keras gives it transposed")
    shape, out = _known(graph.shape(call.inputs[0])), _known(graph.shape(call.outputs[0]))
    rank = len(shape) + 1
    wanted = vars(call.op).get("axis", call.kwargs.get("axis", -1))
    if wanted is None:
        raise Refuse("it runs over the batch axis too")
    axes = sorted({int(a) % rank for a in (wanted if isinstance(wanted, list | tuple) else [wanted])})
    if axes[0] == 0:
        raise Refuse("it runs over the batch axis")
    if type(call.op) in _classes("one_hot", 1, dtype="int32", settings=(3,)) and rank == 2 and wanted in (-1, 2):
        axes = [2]
    if 1 not in axes:
        f = _filled(call, call.op)
        return Lowered([Pointwise(f, elementwise=False)])
    name = next((n for n in REDUCERS if type(call.op) in _classes(n, 1)), None)
    if name is None or vars(call.op).get("initial") is not None:
        raise Refuse("it runs over the positions")
    rest = tuple(a for a in axes if a > 1)
    if not rest:
        return Lowered([REDUCERS[name](out)])
    function = getattr(ops, "max" if name == "amax" else "min" if name == "amin" else name)
    middle = tuple(1 if i + 1 in rest else n for i, n in enumerate(shape))
    first = Pointwise(lambda x: function(x, axis=rest, keepdims=True), elementwise=False, shape=middle)
    return Lowered([first, REDUCERS[name](out)])


# ------------------------------------------------------------------------------------------ products


def product(call: Call, graph: Graph) -> Lowered:
    """``matmul``, ``dot``, ``tensordot`` with a constant matrix on the right."""
    arguments = [*call.args, *call.kwargs.values()]
    if len(arguments) != 2 or not isinstance(arguments[0], Ref) or isinstance(arguments[1], Ref):
        raise Refuse("it multiplies two tensors that change, or has the constant on the left")
    matrix, shape = arguments[1], _known(graph.shape(call.inputs[0]))
    if len(getattr(matrix, "shape", ())) != 2 or vars(call.op).get("axes", 1) != 1:
        raise Refuse("its constant is not a matrix")
    f = _filled(call, call.op)
    if len(shape) == 1:
        return Lowered([Rows(lambda: ops.convert_to_tensor(matrix), f)])
    return Lowered([Linear(f, macs=math.prod(shape[1:]) * matrix.shape[1])])


def einsum(call: Call, graph: Graph) -> Lowered:
    """``einsum`` in which positions stay positions."""
    operands = list(call.args) or list(call.kwargs.values())
    text = vars(call.op)["subscripts"].replace(" ", "")
    left, _, result = text.partition("->")
    terms = left.split(",")
    if not result or len(terms) != len(operands):
        raise Refuse("its subscripts name no result")
    changing = [t for t, o in zip(terms, operands, strict=True) if isinstance(o, Ref)]
    fixed = [t for t, o in zip(terms, operands, strict=True) if not isinstance(o, Ref)]
    shapes = [_known(graph.shape(o.id)) for o in operands if isinstance(o, Ref)]
    for term, shape in zip(changing, shapes, strict=True):
        if not _positions_stay(term, shape, result, fixed):
            raise Refuse(f"its subscripts {text!r} mix positions")
    f = _filled(call, call.op)
    if len(changing) == 1:
        sizes = {}
        for term, operand in zip(terms, operands, strict=True):
            dims = (None, *graph.shape(operand.id)) if isinstance(operand, Ref) else tuple(operand.shape)
            sizes.update(zip(term, dims, strict=False))
        letters = set("".join(terms)) - set(changing[0][:2]) - {"."}
        return Lowered([Linear(f, macs=math.prod(int(sizes.get(c) or 1) for c in letters))])
    return Lowered([Pointwise(f, elementwise=False)], inputs=tuple(o.id for o in operands if isinstance(o, Ref)))


def _positions_stay(term: str, shape: Shape, result: str, fixed: Sequence[str]) -> bool:
    if term.startswith("...") and result.startswith("..."):
        return len(term) - 3 <= len(shape) - 1 and not any("." in f for f in fixed)
    if "." in term + result or len(term) < 2 or len(set(term)) < len(term):
        return False
    return term[:2] == result[:2] and not any(c in f for f in fixed for c in term[:2])


# ------------------------------------------------------------------------------------------ layers as functions


def _constant(call: Call, position: int, name: str) -> Any:
    value = call.args[position] if len(call.args) > position else call.kwargs.get(name)
    if isinstance(value, Ref):
        raise Refuse(f"its {name} changes")
    return value


def conv(call: Call, graph: Graph) -> Lowered:
    """``conv`` with a constant kernel."""
    kernel = _constant(call, 1, "kernel")
    return Lowered([convolution(call, graph, lambda: ops.convert_to_tensor(kernel), kernel.shape, call.op)])


def depthwise_conv(call: Call, graph: Graph) -> Lowered:
    """``depthwise_conv`` with a constant kernel."""
    kernel = _constant(call, 1, "kernel")
    return Lowered([depthwise(call, graph, lambda: ops.convert_to_tensor(kernel), kernel.shape, call.op)])


def conv_transpose(call: Call, graph: Graph) -> Lowered:
    """``conv_transpose`` with a constant kernel."""
    kernel = _constant(call, 1, "kernel")
    return Lowered([transposed(call, graph, lambda: ops.convert_to_tensor(kernel), kernel.shape, call.op)])


def pool(call: Call, graph: Graph) -> Lowered:
    """``max_pool`` and ``average_pool``."""
    mode = "max" if type(call.op) in _classes("max_pool", 1, settings=(2,)) else "average"
    return Lowered([pooling(call, graph, mode)])


def batch_normalization(call: Call, graph: Graph) -> Lowered:
    """``batch_normalization`` with constant moments."""
    names = ("mean", "variance", "offset", "scale")
    values = {n: _constant(call, i + 1, n) for i, n in enumerate(names)}
    dtype = graph.tensors[call.outputs[0]].dtype  # computed in narrower ones, it would be rounded more than the model's
    rank = len(graph.shape(call.inputs[0])) + 1

    def coefficients():
        given = {n: ops.cast(ops.convert_to_tensor(v), dtype) for n, v in values.items() if v is not None}
        scale = 1.0 / ops.sqrt(given["variance"] + call.op.epsilon) * given.get("scale", 1.0)
        return scale, given.get("offset", 0.0) - given["mean"] * scale

    return Lowered([Affine(coefficients, call.op.axis % rank - 1)])


def concatenate(call: Call, graph: Graph) -> Lowered:
    """``concatenate``: along channels, or along positions."""
    rank = len(graph.shape(call.outputs[0])) + 1
    axis = int(call.op.axis) % rank
    if axis > 1 and all(isinstance(leaf, Ref) for leaf in _leaves(call)):
        return Lowered([Concatenate(axis - 1)], inputs=_refs(call))
    return select(call, graph)


# ------------------------------------------------------------------------------------------ the table


@functools.cache
def _classes(names: str, arity: int, *, dtype: str | None = None, settings: tuple = ()) -> tuple[type, ...]:
    """Classes of the nodes that these functions leave in a graph."""
    found = (
        operation_class(getattr(ops, n), *[(4, 2)] * arity, dtype=dtype, settings=settings)
        for n in names.split()
        if hasattr(ops, n)
    )
    return tuple(dict.fromkeys(c for c in found if c is not None))


@functools.cache
def register_operations() -> None:
    """Enter the ``keras.ops`` into the table; their classes are found by calling them."""
    x, matrix = (4, 2), np.zeros((2, 3), "float32")
    entries: list[tuple[Callable[..., Any], int, RuleFn, str]] = []
    each = "element by element"
    entries += [(getattr(ops, n), 1, elementwise, each) for n in UNARY.split() if hasattr(ops, n)]
    entries += [(f, 1, elementwise, each) for f in ELEMENTWISE]
    entries += [(getattr(ops, n), 2, elementwise, each) for n in BINARY.split() if hasattr(ops, n)]
    entries += [(lambda a: ops.clip(a, 0, 1), 1, elementwise, each)]
    entries += [(lambda a: ops.where(ops.greater(a, 0), a, a), 1, elementwise, each)]
    entries += [(lambda a: ops.cast(a, "float16"), 1, cast, each), (lambda a: ops.power(a, 2), 1, power, each)]
    channelwise = "along channels, position by position"
    for n in ALONG.split():
        if hasattr(ops, n):
            note = "over positions incrementally; " + channelwise if n in REDUCERS else channelwise
            entries.append((_example(n), 1, along, note))
    moved = "wherever positions stay apart from channels"
    entries += [(_example(n), 1, select, moved) for n in MOVING.split() if hasattr(ops, n)]
    entries += [
        (lambda a: a[:, 1:3], 1, select, moved),
        (lambda a: ops.split(a, 2, axis=1)[0], 1, select, moved),
        (lambda a: ops.unstack(a, axis=1)[0], 1, select, moved),
        (lambda a: ops.reshape(a, (-1, 8)), 1, select, "where positions stay in order"),
        (lambda a: ops.concatenate([a, a]), 1, concatenate, "along channels or positions"),
        (lambda a: ops.matmul(a, matrix), 1, product, "with a constant matrix"),
        (lambda a: ops.dot(a, matrix), 1, product, "with a constant matrix"),
        (lambda a: ops.tensordot(a, matrix, axes=1), 1, product, "with a constant matrix"),
        (lambda a: ops.einsum("abc,cd->abd", a, matrix), 1, einsum, "where positions stay"),
        (lambda a: ops.conv(a, np.zeros((2, 2, 1), "float32")), 1, conv, "with a constant kernel"),
        (
            lambda a: ops.depthwise_conv(a, np.zeros((2, 2, 1), "float32")),
            1,
            depthwise_conv,
            "with a constant kernel",
        ),
        (
            lambda a: ops.conv_transpose(a, np.zeros((2, 1, 2), "float32"), 2),
            1,
            conv_transpose,
            "with a constant kernel",
        ),
        (lambda a: ops.max_pool(a, 2), 1, pool, "any pool size, stride, padding"),
        (lambda a: ops.average_pool(a, 2), 1, pool, "any pool size, stride, padding"),
        (
            lambda a: ops.batch_normalization(a, matrix[:, 0], matrix[:, 0], axis=-1),
            1,
            batch_normalization,
            "with constant moments",
        ),
    ]
    for fn, arity, treat, note in entries:
        for dtype in (None, "int32"):
            cls = operation_class(fn, *[x] * arity, dtype=dtype)
            if cls is not None:
                RULES.setdefault(cls, Rule(treat, FAMILY, note))
                break


def _example(name: str) -> Callable[..., Any]:
    """A call of a function that needs more than a tensor."""
    function = getattr(ops, name)
    extra: dict[str, Callable[[Any], Any]] = {
        "roll": lambda a: function(a, 1, axis=1),
        "repeat": lambda a: function(a, 2, axis=1),
        "take": lambda a: function(a, [0], axis=1),
        "tile": lambda a: function(a, (1, 2, 1)),
        "pad": lambda a: function(a, ((0, 0), (1, 1), (0, 0))),
        "stack": lambda a: function([a, a]),
        "transpose": lambda a: function(a, (0, 2, 1)),
        "swapaxes": lambda a: function(a, 1, 2),
        "moveaxis": lambda a: function(a, 1, 2),
        "squeeze": lambda a: function(ops.expand_dims(a, 1), axis=1),
        "expand_dims": lambda a: function(a, 1),
        "broadcast_to": lambda a: function(a, (2, 4, 2)),
        "flip": lambda a: function(a, axis=1),
        "one_hot": lambda a: function(a, 3),
    }
    found = extra.get(name)
    return function if found is None else found
