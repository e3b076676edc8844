"""TensorFlow functions, as Keras 2 records them in a model's graph, in ``keras.ops``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

#: Where the classes of Keras 2 live.
ROOTS = ("tf_keras", "tensorflow.python.keras")


def root_of(cls: type) -> str | None:
    """The package that makes a class one of Keras 2."""
    modules = (base.__module__ for base in cls.__mro__)
    return next((root for m in modules for root in ROOTS if m == root or m.startswith(root + ".")), None)


def is_keras2(model: Any) -> bool:
    """Whether a model (or layer) is one of Keras 2; imports nothing."""
    return root_of(type(model)) is not None


class NoCounterpart(Exception):
    """A call must stay in Keras 2; the message says why."""


def dtype_of(tensor: Any) -> str:
    """Name of a tensor's dtype."""
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def hard_sigmoid(x: Any) -> Any:
    """Keras 2's: ``0.2 x + 0.5``, cut to [0, 1]; Keras 3 divides by six."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def is_function(function: Any, module: Any, name: str) -> bool:
    """Whether a function is the one that a module has under a name."""
    return function is getattr(module, name, None)


def symbols(function: Any) -> tuple[str, ...]:
    """The public names that TensorFlow gives a function."""
    try:
        return tuple(getattr(inspect.unwrap(function), "_tf_api_names", ()))
    except ValueError:
        return ()


def symbol_of(layer: Any) -> str | None:
    """What a layer that Keras 2 made of a TensorFlow function stands for; None for other layers."""
    if type(layer).__name__ not in ("TFOpLambda", "SlicingOpLambda", "ClassMethod") or not is_keras2(layer):
        return None
    return str(getattr(layer, "symbol", None) or getattr(layer, "cls_symbol", None) or type(layer).__name__)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor | keras.Variable) or ops.is_tensor(value)


def _alike(x: Any, y: Any) -> tuple[Any, Any]:
    """Two operands, a constant one in the dtype of the other."""
    return _like(x, y), _like(y, x)


def _like(value: Any, other: Any) -> Any:
    if _is_tensor(value) or not _is_tensor(other) or isinstance(value, bool | int | float):
        return value
    array = np.asarray(value, dtype=dtype_of(other))
    return array.item() if array.ndim == 0 else array


def _integer(value: Any) -> Any:
    """An axis or several, as Python numbers."""
    if value is None:
        return None
    array = np.asarray(value)
    return int(array) if array.ndim == 0 else tuple(int(v) for v in array)


def _binary(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: op(*_alike(x, y))


def _unary(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x=None, features=None: op(features if x is None else x)


def _reduce(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda input_tensor, axis=None, keepdims=False: op(
        input_tensor, axis=_integer(axis), keepdims=bool(keepdims)
    )


def _silu(features: Any, beta: float = 1.0) -> Any:
    return ops.silu(features) if beta == 1 else features * ops.sigmoid(beta * features)


def _softmax(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, axis=None: op(logits, axis=-1 if axis is None else _integer(axis))


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    low, high = np.asarray(clip_value_min), np.asarray(clip_value_max)
    if low.ndim or high.ndim:
        raise NoCounterpart("it clips to arrays")
    return ops.clip(t, low.item(), high.item())


def _transpose(a: Any, perm: Any = None, name: Any = None, conjugate: bool = False) -> Any:
    return ops.transpose(a, None if perm is None else _integer(perm))


def _matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    **others: Any,
) -> Any:
    if any(others.values()):
        raise NoCounterpart("a matrix product with special arguments")
    a, b = _alike(a, b)
    return ops.matmul(
        ops.swapaxes(a, -1, -2) if transpose_a or adjoint_a else a,
        ops.swapaxes(b, -1, -2) if transpose_b or adjoint_b else b,
    )


def _split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None) -> Any:
    sizes = np.asarray(num_or_size_splits)
    if sizes.ndim == 0:
        return ops.split(value, int(sizes), axis=axis)
    if (sizes < 0).any():
        sizes = np.where(sizes < 0, value.shape[axis] - sizes[sizes >= 0].sum(), sizes)
    return ops.split(value, [int(i) for i in np.cumsum(sizes)[:-1]], axis=axis)


def _unstack(value: Any, num: Any = None, axis: int = 0) -> list[Any]:
    axis = axis % len(value.shape)
    return [value[(slice(None),) * axis + (i,)] for i in range(value.shape[axis])]


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", name: Any = None, constant_values: Any = 0) -> Any:
    widths = [tuple(int(n) for n in pair) for pair in np.asarray(paddings)]
    mode = mode.lower()
    if mode != "constant":
        return ops.pad(tensor, widths, mode=mode)
    return ops.pad(tensor, widths, mode=mode, constant_values=np.asarray(constant_values).item())


def _gather(
    params: Any, indices: Any, validate_indices: Any = None, axis: Any = None, batch_dims: int = 0, name: Any = None
) -> Any:
    if batch_dims or axis is None:
        raise NoCounterpart("it gathers along the sequences")
    return ops.take(params, np.asarray(indices), axis=_integer(axis))


def _getitem(tensor: Any, slice_spec: Any, var: Any = None) -> Any:
    def part(entry: Any) -> Any:
        if isinstance(entry, dict):  # how Keras 2 records a slice
            return slice(*(None if entry[k] is None else int(entry[k]) for k in ("start", "stop", "step")))
        return entry if entry is None or entry is Ellipsis else int(entry)

    many = isinstance(slice_spec, list | tuple)
    return tensor[tuple(map(part, slice_spec)) if many else part(slice_spec)]


def _cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    if exclusive or reverse:
        raise NoCounterpart("an exclusive or reversed running sum")
    return ops.cumsum(x, axis=_integer(axis))


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    total = ops.sum(ops.square(x), axis=_integer(axis), keepdims=True)
    return x * ops.rsqrt(ops.maximum(total, epsilon))


def _add_all(inputs: Sequence[Any]) -> Any:
    total = inputs[0]
    for x in inputs[1:]:
        total = ops.add(*_alike(total, x))
    return total


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise NoCounterpart("it finds indices")
    return ops.where(condition, *_alike(x, y))


def _einsum(equation: str, *inputs: Any, **others: Any) -> Any:
    if any(others.values()):
        raise NoCounterpart("an einsum with special arguments")
    like = next(x for x in inputs if _is_tensor(x))
    return ops.einsum(equation, *[_like(x, like) for x in inputs])


#: TensorFlow functions by their public name -> what computes the same, with the same arguments.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "reshape": lambda tensor, shape: ops.reshape(tensor, _integer(shape)),
    "transpose": _transpose,
    "compat.v1.transpose": _transpose,
    "concat": lambda values, axis: ops.concatenate(list(values), axis=_integer(axis)),
    "stack": lambda values, axis=0: ops.stack(list(values), axis=_integer(axis)),
    "unstack": _unstack,
    "split": _split,
    "expand_dims": lambda input, axis: ops.expand_dims(input, _integer(axis)),
    "squeeze": lambda input, axis=None: ops.squeeze(input, _integer(axis)),
    "compat.v1.squeeze": lambda input, axis=None, name=None, squeeze_dims=None: ops.squeeze(input, _integer(axis)),
    "cast": lambda x, dtype: ops.cast(x, dtype),
    "pad": lambda tensor, paddings, mode="CONSTANT", constant_values=0: _pad(
        tensor, paddings, mode, None, constant_values
    ),
    "compat.v1.pad": _pad,
    "tile": lambda input, multiples: ops.tile(input, _integer(multiples)),
    "repeat": lambda input, repeats, axis=None: ops.repeat(input, int(repeats), axis=_integer(axis)),
    "reverse": lambda tensor, axis: ops.flip(tensor, axis=_integer(axis)),
    "roll": lambda input, shift, axis: ops.roll(input, _integer(shift), axis=_integer(axis)),
    "gather": _gather,
    "compat.v1.gather": _gather,
    "__operators__.getitem": _getitem,
    "identity": lambda input: input,
    "convert_to_tensor": lambda value, dtype=None, dtype_hint=None: value,
    "stop_gradient": lambda input: input,
    "zeros_like": lambda input, dtype=None: ops.zeros_like(input, dtype=dtype),
    "ones_like": lambda input, dtype=None: ops.ones_like(input, dtype=dtype),
    "where": _where,
    "clip_by_value": _clip,
    "einsum": _einsum,
    "tensordot": lambda a, b, axes: ops.tensordot(*_alike(a, b), axes=axes),
    "linalg.matmul": _matmul,
    "math.l2_normalize": _l2_normalize,
    "math.add_n": _add_all,
    "math.cumsum": _cumsum,
    "math.reciprocal": lambda x: ops.divide(1.0, x),
    "math.squared_difference": lambda x, y: ops.square(ops.subtract(*_alike(x, y))),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=bool(approximate)),
    "nn.silu": _silu,
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=float(alpha)),
    "nn.softmax": _softmax(ops.softmax),
    "nn.log_softmax": _softmax(ops.log_softmax),
}

#: Those whose Keras 3 namesake takes the same one or two tensors, or a tensor and its axes.
_UNARY = (
    "math.abs math.negative math.exp math.expm1 math.log math.log1p math.sqrt math.rsqrt math.square math.sign "
    "math.sin math.cos math.floor math.ceil math.round math.erf math.tanh math.sigmoid math.log_sigmoid math.softplus "
    "math.logical_not nn.relu nn.relu6 nn.elu nn.selu nn.softsign"
)
_BINARY = (
    "__operators__.add math.add math.subtract math.multiply math.divide math.maximum math.minimum math.greater "
    "math.greater_equal math.less math.less_equal math.equal math.not_equal math.logical_and math.logical_or"
)
_REDUCE = "mean sum prod max min std logsumexp any all"
for _make, _symbols_of in ((_unary, _UNARY), (_binary, _BINARY)):
    _named = {s: getattr(ops, s.split(".")[-1], None) for s in _symbols_of.split()}
    FUNCTIONS |= {s: _make(op) for s, op in _named.items() if op is not None}
FUNCTIONS |= {"math.truediv": _binary(ops.divide), "math.pow": _binary(ops.power), "math.floormod": _binary(ops.mod)}
FUNCTIONS |= {f"math.reduce_{n}": _reduce(getattr(ops, n)) for n in _REDUCE.split()}
FUNCTIONS |= {"math.reduce_variance": _reduce(ops.var)}
