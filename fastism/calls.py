"""One call of a layer or operation of a Keras model: what it is given, and how it is run on tensors.

Only this file and ``graph.py`` touch Keras's private attributes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import keras.src.backend
import numpy as np
from keras import layers, tree
from keras.src.backend.common.variables import get_autocast_scope

from fastism import backend

try:
    from keras.src.backend.common import masking
except ImportError:  # Keras before 3.6
    masking = None

#: Types of settings that say all about themselves.
PLAIN = (int, float, str, bool, type(None), np.generic)

#: Layers, themselves and not what derives from them, for which Keras has nothing to do around ``call`` where the
#: inputs have the layer's dtype and no mask.
_BARE = frozenset(
    {
        *(layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.SeparableConv1D, layers.Dense),
        *(layers.BatchNormalization, layers.LayerNormalization, layers.Dropout, layers.SpatialDropout1D),
        *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU),
        *(layers.MaxPooling1D, layers.AveragePooling1D, layers.MaxPooling2D, layers.AveragePooling2D),
        *(layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D, layers.UpSampling1D),
        *(layers.Flatten, layers.Reshape, layers.Permute, layers.Cropping1D, layers.ZeroPadding1D),
        *(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Concatenate),
    }
)


@dataclass(frozen=True)
class Ref:
    """Stands for tensor ``id`` in the recorded arguments of a call."""

    id: int


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or ``keras.ops`` operation.

    Attributes:
        index: Position in execution order.
        name: Path of the operation, with ``#2`` for its second call and so on; unique in a graph.
        op: The Keras layer or operation itself.
        args, kwargs: As recorded, tensors replaced by :class:`Ref`.
        inputs: Ids of the tensors among the arguments, in order of appearance.
        outputs: Ids of the tensors that come out.
    """

    index: int
    name: str
    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def kind(self) -> str:
        """Class name of the operation."""
        return type(self.op).__name__

    def evaluate(self, values: Sequence[Any]) -> list[Any]:
        """Run the call on full tensors, given in the order of :attr:`inputs`."""
        given = dict(zip(self.inputs, values, strict=True))
        args, kwargs = _filled(self.args, given), {key: _filled(value, given) for key, value in self.kwargs.items()}
        if len(args) == 1 and kwargs.get("mask") is None and _is_bare(self.op, values):
            training = {"training": False} if _has_training(type(self.op)) else {}
            return [self.op.call(*args, **{**training, **kwargs})]
        if _takes_training(self.op) and "training" not in bound(self.op, args, {}):
            kwargs = {**kwargs, "training": False}
        with losses_kept(self.op):
            return tree.flatten(self.op(*args, **kwargs))


def _filled(value: Any, given: Mapping[int, Any]) -> Any:
    """An argument with its tensors in place. By hand where that is easy: Keras's way takes longer than small layers."""
    kind = type(value)
    if kind is Ref:
        return given[value.id]
    if kind is list or kind is tuple:
        return kind(_filled(v, given) for v in value)
    if isinstance(value, PLAIN):
        return value
    return tree.map_structure(lambda leaf: given[leaf.id] if isinstance(leaf, Ref) else leaf, value)


def _is_bare(op: Any, values: Sequence[Any]) -> bool:
    """Whether calling a layer comes to running its ``call``: nothing is cast, masked, hooked, quantised or noted.

    What Keras does around it takes longer than a small layer does, where no compiler leaves only what is computed.
    """
    if type(op) not in _BARE or not op.built or altered(op) or op.activity_regularizer is not None:
        return False
    if getattr(op, "quantization_mode", None) or getattr(op, "_remat_mode", None) or get_autocast_scope() is not None:
        return False
    dtype = op.compute_dtype
    return dtype == op.variable_dtype == op.input_dtype and all(
        keras.ops.is_tensor(v) and _dtype_name(v.dtype) == dtype and keras_mask(v) is None for v in values
    )


def altered(op: Any) -> str:
    """Why the class of a layer or operation does not tell what it computes; empty if it does."""
    own = vars(op)
    for method in ("call", "forward"):
        if method in own:
            return f"had its {method}() replaced"
    if own.get("_forward_hooks") or own.get("_forward_pre_hooks"):
        return "has hooks of torch"
    if backend.hooks_every_module():
        return "has hooks of torch, which are registered for all modules"
    policy = getattr(op, "dtype_policy", None)
    if policy is not None and not type(policy).__module__.startswith("keras."):
        return f"has a dtype policy of its own kind, {type(policy).__name__}"
    return ""


@functools.cache
def _dtype_name(dtype: Any) -> str:
    return keras.backend.standardize_dtype(dtype)


@functools.cache
def _has_training(kind: type) -> bool:
    return "training" in inspect.signature(kind.call).parameters


def _takes_training(op: Any) -> bool:
    """Whether a functional model, which predicts with training=False, tells this to the layer."""
    told = getattr(op, "_call_context_args", None)
    return bool(getattr(op, "_call_has_training_arg", False)) if told is None else "training" in told


def bound(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call by name; none where they do not fit."""
    if len(args) < 2 and not kwargs:
        return {}
    try:
        return inspect.signature(op.call).bind(*args, **kwargs).arguments
    except TypeError:
        return {}


@contextmanager
def losses_kept(op: Any) -> Iterator[None]:
    """Leave no loss behind: a layer with an activity regulariser notes one at every call."""
    held = with_parts(op) if isinstance(op, keras.Layer) else []
    before = [(layer, list(layer._losses)) for layer in held]
    try:
        yield
    finally:
        for layer, losses in before:
            layer._losses[:] = losses


def with_parts(op: Any) -> list[Any]:
    """A layer with the layers inside; an operation alone."""
    return op._flatten_layers() if isinstance(op, keras.Layer) else [op]


def keras_mask(tensor: Any) -> Any:
    """The mask that Keras has attached to a tensor of the backend, or None."""
    return masking.get_keras_mask(tensor) if masking else getattr(tensor, "_keras_mask", None)


def set_keras_mask(tensor: Any, mask: Any) -> None:
    """Attach a mask to a tensor of the backend, as a layer that makes one would."""
    if masking:
        masking.set_keras_mask(tensor, mask)  # knows where to keep it for tensors that take no attributes
    else:
        tensor._keras_mask = mask
