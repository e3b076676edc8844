"""Keras 2 models (``tf_keras``) as Keras 3 models that compute the same, on the TensorFlow backend.

The Keras 2 graph is walked from the outputs backwards and then run call by call on a few random sequences. Each layer
or TensorFlow function becomes its Keras 3 counterpart, whose result on the same values is compared at once; what has
no counterpart, or gives something else, goes into the Keras 3 model as it is, wrapped in a :class:`Keras2Call`. So the
converted model is right by construction, and the more counterparts there are the faster it can be mutated.

Nothing here imports Keras 2: a Keras 2 model brings its own package. Nothing of that model is modified.
"""

from __future__ import annotations

import importlib
import inspect
import math
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from fastism import backend
from fastism.calls import keras_mask, set_keras_mask
from fastism.errors import ModelError
from fastism.keras2_functions import (
    FUNCTIONS,
    ROOTS,
    NoCounterpart,
    dtype_of,
    hard_sigmoid,
    is_function,
    is_keras2,
    root_of,
    symbol_of,
    symbols,
)

#: Largest difference from the Keras 2 layer, as a share of its largest output, that counts as equal; for the whole
#: model, ten times that.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
HALF = 2e-2
#: Lengths to try where the model does not tell one.
LENGTHS = (64, 512, 4096, 16384)

#: Layers whose Keras 3 namesake takes the same settings and computes the same.
NAMESAKES = frozenset(
    (
        "Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose SeparableConv1D SeparableConv2D "
        "DepthwiseConv1D DepthwiseConv2D Dense EinsumDense BatchNormalization LayerNormalization GroupNormalization "
        "UnitNormalization Activation ReLU LeakyReLU PReLU ELU Softmax Dropout SpatialDropout1D SpatialDropout2D "
        "SpatialDropout3D GaussianDropout GaussianNoise AlphaDropout ActivityRegularization MaxPooling1D MaxPooling2D "
        "MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D GlobalAveragePooling1D "
        "GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D "
        "Cropping1D Cropping2D Cropping3D ZeroPadding1D ZeroPadding2D ZeroPadding3D UpSampling1D UpSampling2D "
        "UpSampling3D Add Subtract Multiply Average Maximum Minimum Concatenate Dot Flatten Reshape Permute "
        "RepeatVector TimeDistributed Bidirectional LSTM GRU SimpleRNN MultiHeadAttention Attention AdditiveAttention "
        "Masking Embedding Identity Rescaling"
    ).split()
)
#: Layers of Keras 2 itself that are opened, as users' own are.
OPENED = frozenset(["Activation", "Lambda", "Normalization", "ThresholdedReLU"])
RECURRENT = frozenset(["LSTM", "GRU", "SimpleRNN"])
#: Settings that have another name in Keras 3.
RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
ANY = object()
#: Settings that Keras 3 lacks, with the value at which they change nothing.
NEUTRAL = {
    "groups": 1,
    "noise_shape": None,
    "time_major": False,
    "softmax_robust_masking": False,
    "implementation": ANY,
    "input_length": ANY,
    "batch_input_shape": ANY,
    "query_shape": ANY,
    "key_shape": ANY,
    "value_shape": ANY,
}
#: Settings that are not carried over: set otherwise, or of no effect at inference.
_SKIPPED = ("name", "trainable", "dtype", "activity_regularizer", "activation", "recurrent_activation", "seed")
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")

#: Activation functions of Keras 2 -> of Keras 3. Not ``hard_sigmoid``, which is another function there.
ACTIVATIONS = {
    name: name for name in "elu exponential gelu linear mish relu selu sigmoid softmax softplus softsign tanh".split()
} | {"swish": "silu", "silu": "silu"}
#: TensorFlow functions, as they are used for ``activation=`` -> activation functions of Keras 3.
TF_ACTIVATIONS = {
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.gelu": "gelu",
    "nn.elu": "elu",
    "nn.selu": "selu",
    "nn.silu": "silu",
    "nn.softmax": "softmax",
    "nn.leaky_relu": "leaky_relu",
    "nn.softsign": "softsign",
    "nn.softplus": "softplus",
    "nn.sigmoid": "sigmoid",
    "nn.tanh": "tanh",
    "math.exp": "exponential",
    "identity": "linear",
}

Key = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Converted:
    """A Keras 2 model and the Keras 3 model that stands for it.

    Attributes:
        model: The Keras 3 model: inputs, outputs, their structure and the names of layers as in Keras 2.
        source: The Keras 2 model.
        unconverted: What runs as Keras 2 code inside ``model``, by name of the layer, with the reason.
    """

    model: keras.Model
    source: Any
    unconverted: dict[str, str]
    _weights: list[tuple[Any, Any]] = field(repr=False)
    _settings: list[tuple[Any, str, Any]] = field(repr=False)

    def sync(self) -> bool:
        """Copy the Keras 2 model's present weights.

        Returns:
            False if a layer's activation function was replaced since; then the model must be converted anew.
        """
        if any(getattr(layer, name) is not value for layer, name, value in self._settings):
            return False
        for ours, theirs in self._weights:
            ours.assign(theirs)
        return True


def convert(model: Any) -> Converted:
    """Make the Keras 3 model that computes what a Keras 2 model does at inference.

    Args:
        model: A functional or built Sequential model of ``tf_keras``. It is not modified.

    Returns:
        The Keras 3 model, with a way to follow weights that change later.

    Raises:
        ModelError: If the backend is not TensorFlow, if the model has no graph, has a call that was recorded with
            ``training=True`` or a stateful layer, or gives another result each time it is called.

    Example:
        >>> converted = convert(tf_keras.models.load_model("model.h5"))  # doctest: +SKIP
        >>> FastISM(converted.model).saturate(x)  # doctest: +SKIP
    """
    if not is_keras2(model):
        raise ModelError(f"The model is a {type(model).__name__}; a model of Keras 2 (tf_keras) is needed.")
    if backend.name() != "tensorflow":
        raise ModelError(
            f"The model is a {type(model).__name__} of Keras 2, which runs on TensorFlow only; the Keras backend is "
            f"{backend.name()!r}. Set KERAS_BACKEND=tensorflow before importing keras, or save the model with "
            "model.save('model.h5') and load that with keras.models.load_model of Keras 3."
        )
    _check_graph(model)
    with _untouched(model):
        return _Converter(model).convert()


def as_keras3(model: Any) -> Any:
    """The model, or where it is one of Keras 2 the Keras 3 model that stands for it.

    Raises:
        ModelError: As :func:`convert`.
    """
    return convert(model).model if is_keras2(model) else model


# ---------------------------------------------------------------------- reading Keras 2


def _base(model: Any, name: str) -> Any:
    """The Keras 2 base class of that name."""
    return next((c for c in type(model).__mro__ if c.__name__ == name and c.__module__.startswith(ROOTS)), None)


def _runs_its_graph(model: Any) -> bool:
    """Whether a model only runs the graph of calls that it was made of."""
    bases = [b for b in (_base(model, "Functional"), _base(model, "Sequential")) if b is not None]
    return bool(bases) and any(type(model).call is b.call for b in bases) and bool(getattr(model, "outputs", None))


def _check_graph(model: Any) -> None:
    if not hasattr(model, "predict"):
        raise ModelError(f"The model is a {type(model).__name__} of Keras 2, not a model; wrap it in tf_keras.Model.")
    if _base(model, "Sequential") is not None and not getattr(model, "outputs", None):
        raise ModelError(
            f"Model {model.name!r} is a Sequential of Keras 2 that is not built, so its layers have no shapes; a built "
            "model is needed. Add tf_keras.Input((length, alphabet)) as its first layer, or call it once on a batch."
        )
    if not _runs_its_graph(model):
        raise ModelError(
            f"Model {model.name!r} is of class {type(model).__name__}, which defines its own call(), so Keras 2 "
            "records no graph of its layers; a model made of inputs and outputs is needed. Build one with x = "
            "tf_keras.Input((length, alphabet)); tf_keras.Model(x, model.call(x)), then compare the predictions."
        )
    for kt in model.inputs:
        if "Ragged" in type(kt).__name__ or "Sparse" in type(kt).__name__:
            raise ModelError(f"Input {kt.name!r} of model {model.name!r} is ragged or sparse; a dense one is needed.")


def _is_symbolic(leaf: Any) -> bool:
    return hasattr(leaf, "_keras_history")


def _key(kt: Any) -> Key:
    history = kt._keras_history
    return id(history.layer), history.node_index, history.tensor_index


def _maker(kt: Any) -> Any:
    """The recorded call (Keras 2's Node) that a tensor comes from."""
    return kt._keras_history.layer.inbound_nodes[kt._keras_history.node_index]


def _arguments(node: Any) -> list[Any]:
    """A call's arguments, flat."""
    return tree.flatten((tuple(node.call_args), dict(node.call_kwargs)))


def _given(node: Any) -> list[Any]:
    """The symbolic tensors among a call's arguments."""
    return [leaf for leaf in _arguments(node) if _is_symbolic(leaf)]


def _is_array(leaf: Any) -> bool:
    """Whether an argument is a constant tensor or array with axes, not a variable."""
    variable = _is_symbolic(leaf) or hasattr(leaf, "assign")
    return not variable and hasattr(leaf, "dtype") and len(getattr(leaf, "shape", ())) > 0


def _is_plain(function: Any, depth: int = 3) -> bool:
    """Whether a function reads nothing but its arguments, modules, functions and fixed numbers."""
    if isinstance(function, types.BuiltinFunctionType | types.ModuleType | type):
        return True
    if not inspect.isfunction(function) or depth == 0:
        return False
    if function.__module__.startswith(("tensorflow.", "keras.", *(f"{root}." for root in ROOTS))):
        return True
    read = inspect.getclosurevars(function)
    values = [*read.nonlocals.values(), *read.globals.values(), *(function.__defaults__ or ())]
    fixed = str | bytes | bool | int | float | complex | np.generic | np.ndarray | None
    return all(isinstance(leaf, fixed) or _is_plain(leaf, depth - 1) for v in values for leaf in tree.flatten(v))


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Take back what calls note on the layers of a model: nodes and losses."""
    names = ("_inbound_nodes", "_outbound_nodes", "_losses", "_eager_losses")
    noted = [(layer, n, list(getattr(layer, n, ()))) for layer in model._flatten_layers() for n in names]
    try:
        yield
    finally:
        for layer, name, before in noted:
            now = getattr(layer, name, before)
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                now[:] = before


def _ordered(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The calls that ``outputs`` depend on, in execution order."""
    known = {_key(kt) for kt in inputs}
    ordered: list[Any] = []
    done: set[int] = set()
    stack = list(reversed(outputs))
    while stack:
        kt = stack[-1]
        node = _maker(kt)
        if _key(kt) in known or id(node) in done:
            stack.pop()
            continue
        if node.is_input:
            raise ModelError(
                f"Tensor {kt.name!r} is an input that the model does not list among its inputs; every Input that the "
                "outputs depend on must be in tf_keras.Model(inputs=...)."
            )
        missing = [t for t in _given(node) if _key(t) not in known and id(_maker(t)) not in done]
        if missing:
            stack.extend(reversed(missing))
        else:
            done.add(id(node))
            ordered.append(node)
    return ordered


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _all_layers(layer)


def _structured(struct: Any, fill: Callable[[Any], Any]) -> Any:
    """The same structure in plain lists, tuples and dicts, with ``fill`` of each leaf."""
    if isinstance(struct, dict):
        return {k: _structured(v, fill) for k, v in struct.items()}
    if isinstance(struct, list | tuple):
        parts = [_structured(v, fill) for v in struct]
        return tuple(parts) if isinstance(struct, tuple) else parts
    return fill(struct)


def _run(node: Any, value: Callable[[Any], Any], run: Callable[..., Any] | None = None) -> list[Any]:
    """Run a recorded call at inference, on ``value`` of each symbolic tensor; its outputs, flat."""
    args, kwargs = tree.map_structure(
        lambda leaf: value(leaf) if _is_symbolic(leaf) else leaf, (tuple(node.call_args), dict(node.call_kwargs))
    )
    layer = node.layer
    if _takes_training(layer):
        args, kwargs = _without_training(layer, args, kwargs)
        kwargs["training"] = False
    return tree.flatten((run or layer)(*args, **kwargs))


def _takes_training(layer: Any) -> bool:
    expects = getattr(layer, "_expects_training_arg", None)
    return "training" in inspect.signature(layer.call).parameters if expects is None else bool(expects)


def _training_position(layer: Any) -> int | None:
    """Where ``training`` stands among the positional arguments of a layer's call."""
    try:
        names = list(inspect.signature(layer.call).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("training") if "training" in names else None


def _without_training(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    position = _training_position(layer)
    if position is not None and position < len(args):
        names = list(inspect.signature(layer.call).parameters)
        kwargs = {**dict(zip(names[position:], args[position:], strict=False)), **kwargs}
        args = args[:position]
    return args, {k: v for k, v in kwargs.items() if k != "training"}


def _check_inference(node: Any) -> None:
    layer = node.layer
    if not _takes_training(layer):
        return
    recorded = node.call_kwargs.get("training")
    position = _training_position(layer)
    if recorded is None and position is not None and position < len(node.call_args):
        recorded = node.call_args[position]
    if recorded is not None and (_is_symbolic(recorded) or (recorded is not False and recorded != 0)):
        raise ModelError(
            f"Layer {layer.name!r} was called with training=True when the model was built, so its output is random or "
            "depends on the batch and in-silico mutagenesis is not defined; build the model without that argument."
        )


# ---------------------------------------------------------------------- what has no counterpart


class Keras2Call(keras.Layer):
    """A call of a Keras 2 layer or a TensorFlow function, run as it is.

    Args:
        run: Function of a list of tensors that gives a list of tensors.
        spec: The (shape without batch, dtype, masked) of each of these; found by tracing ``run`` if None.
        name: Name of the layer.
    """

    def __init__(self, run: Callable[[list[Any]], list[Any]], spec: Sequence[tuple] | None, *, name: str):
        super().__init__(name=name, autocast=False, dtype="float32")
        self.supports_masking = True  # Keras 2 sees and sets masks itself
        self._convert_input_args = False
        self._run, self._specified = run, (None if spec is None else lambda: list(spec))

    def call(self, tensors):
        """Run it."""
        if any(isinstance(t, keras.KerasTensor) for t in tensors):
            raise TypeError(f"{self.name!r} runs Keras 2 code, which takes no symbolic tensors of Keras 3.")
        outputs, masks = backend.with_autograph(self._masked)(list(tensors), [keras_mask(t) for t in tensors])
        for output, mask in zip(outputs, masks, strict=True):
            if mask is not None:
                set_keras_mask(output, mask)
        return outputs[0] if len(outputs) == 1 else outputs

    def _masked(self, tensors, masks):
        for tensor, mask in zip(tensors, masks, strict=True):
            if mask is not None:
                set_keras_mask(tensor, mask)
        outputs = self._run(list(tensors))
        return outputs, [keras_mask(output) for output in outputs]

    def compute_output_spec(self, tensors):
        """As recorded in the Keras 2 model."""
        if self._specified is None:
            return super().compute_output_spec(tensors)
        outputs = [keras.KerasTensor((None, *shape), dtype) for shape, dtype, _ in self._specified()]
        return outputs[0] if len(outputs) == 1 else outputs

    def compute_mask(self, inputs, previous_mask):
        """Where Keras 2 attaches a mask to the output, say so to those who read the graph."""
        if self._specified is None or not isinstance(tree.flatten(inputs)[0], keras.KerasTensor):
            return None
        return [keras.KerasTensor((None, *s[:1]), "bool") if masked else None for s, _, masked in self._specified()]


# ---------------------------------------------------------------------- converting


_FIXED = object()


@dataclass
class _Value:
    """A tensor of the Keras 2 graph.

    Attributes:
        symbolic: Its Keras 3 tensor; None if it has no row for each sequence, so that those who read it make it anew.
        value: What it is on the random sequences; dropped after its last use.
        fixed: Whether it is the same for all sequences.
    """

    symbolic: Any
    value: Any
    fixed: bool = False


@dataclass
class _Part:
    """What a Keras 2 layer becomes.

    Attributes:
        apply: Function of (first argument, **others), for tensors and symbolic ones.
        head: The Keras 3 layer that takes the arguments.
        layers: (Keras 3, Keras 2) layers whose weights are the same, not yet copied.
    """

    apply: Callable[..., Any]
    head: Any
    layers: list[tuple[Any, Any]] = field(default_factory=list)


class _Converter:
    def __init__(self, model: Any):
        self.model = model
        root = str(root_of(type(model)))
        self.package = importlib.import_module(root)
        layers = importlib.import_module(f"{root}.layers")
        self.theirs = importlib.import_module(f"{root}.activations")
        self.namesakes = {getattr(layers, n): n for n in NAMESAKES if hasattr(layers, n) and hasattr(keras.layers, n)}
        self.functions = [
            (getattr(self.theirs, n), getattr(keras.activations, ours))
            for n, ours in ACTIVATIONS.items()
            if hasattr(self.theirs, n) and hasattr(keras.activations, ours)
        ]
        self.alive: list[Any] = []  # what the ids below are of
        self.parts: dict[int, _Part | str] = {}
        self.models: dict[tuple, keras.Model] = {}
        self.variables: dict[int, keras.Variable] = {}
        self.weights: list[tuple[Any, Any]] = []
        self.settings: list[tuple[Any, str, Any]] = []
        self.unconverted: dict[str, str] = {}
        self.opening: list[Any] = []
        self.reserved = {layer.name for layer in _all_layers(model)}
        self.generated: set[str] = set()
        self.taken: list[set[str]] = [set()]  # in the model at hand, and in those around it
        self.static = all(None not in kt.shape[1:] for kt in model.inputs)
        self.half = False
        self.rows = self._rows()

    def convert(self) -> Converted:
        model = self.model
        values, expected = self._sample()
        names = self._input_names()
        self.taken[-1] |= set(names)
        symbolic = [
            keras.Input(kt.shape[1:], dtype=dtype_of(kt), name=name)
            for kt, name in zip(model.inputs, names, strict=True)
        ]
        found, _ = self._replay(model.inputs, model.outputs, symbolic, values)
        for kt, made in zip(model.outputs, found, strict=True):
            if made is None:
                raise ModelError(
                    f"Output {kt.name!r} of model {model.name!r} has shape {tuple(kt.shape)} and no row for each "
                    "sequence; build a model without it."
                )
        of_input, of_output = (
            dict(zip(map(id, kts), made, strict=True))
            for kts, made in ((model.inputs, symbolic), (model.outputs, found))
        )
        made = keras.Model(
            _structured(model.input, lambda kt: of_input[id(kt)]),
            _structured(model.output, lambda kt: of_output[id(kt)]),
            name=_clean(model.name),
        )
        self._check_whole(made, values, expected)
        return Converted(made, model, self.unconverted, self.weights, self.settings)

    # ------------------------------------------------------------------ sample sequences

    def _rows(self) -> int:
        """How many sequences to try: not the size of any axis, so that the axis of sequences can be told."""
        fixed = {int(kt.shape[0]) for kt in self.model.inputs if kt.shape[0] is not None}
        if len(fixed) == 1:
            return fixed.pop()
        sizes: set[Any] = set()
        models = [self.model, *(m for m in _all_layers(self.model) if _runs_its_graph(m))]
        for kt in (kt for m in models for node in _ordered(m.inputs, m.outputs) for kt in tree.flatten(node.outputs)):
            sizes.update(getattr(kt, "shape", None) or ())
        return next(n for n in range(2, len(sizes) + 3) if n not in sizes)

    def _sample(self) -> tuple[list[Any], list[Any]]:
        """Random inputs, and what the Keras 2 model gives for them."""
        lengths = (1,) if self.static else LENGTHS
        for length in lengths:
            arrays = [_random(kt, self.rows, length) for kt in self.model.inputs]
            values = [
                ops.convert_to_tensor(a, dtype=dtype_of(kt)) for a, kt in zip(arrays, self.model.inputs, strict=True)
            ]
            try:
                return values, self._call_source(values)
            except Exception as error:
                if length == lengths[-1]:
                    raise ModelError(
                        f"Model {self.model.name!r} of Keras 2 does not run on {self.rows} random sequences "
                        f"({type(error).__name__}: {_first_line(error)}); model.predict must work."
                    ) from error
        raise AssertionError  # unreachable: the last length returns or raises

    def _call_source(self, values: Sequence[Any]) -> list[Any]:
        by_id = dict(zip(map(id, self.model.inputs), values, strict=True))
        return tree.flatten(self.model(_structured(self.model.input, lambda kt: by_id[id(kt)]), training=False))

    # ------------------------------------------------------------------ one model, call by call

    def _replay(
        self, inputs: Sequence[Any], outputs: Sequence[Any], symbolic: Sequence[Any], values: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Run a Keras 2 graph on values while building it from Keras 3 tensors.

        Returns:
            For each output its Keras 3 tensor (None where it has no row for each sequence), and its value.
        """
        env = {_key(kt): _Value(s, v) for kt, s, v in zip(inputs, symbolic, values, strict=True)}
        nodes = _ordered(inputs, outputs)
        uses = Counter(_key(kt) for node in nodes for kt in _given(node))
        uses.update(_key(kt) for kt in outputs)
        for node in nodes:
            self._add(node, env)
            for kt in _given(node):
                uses[_key(kt)] -= 1
                if uses[_key(kt)] == 0:
                    env[_key(kt)].value = None
        found = [env[_key(kt)] for kt in outputs]
        return [f.symbolic for f in found], [f.value for f in found]

    def _add(self, node: Any, env: dict[Key, _Value]) -> None:
        """Run one call, and put what it becomes into the graph."""
        _check_inference(node)
        keys = [_key(kt) for kt in tree.flatten(node.outputs)]
        values = _run(node, lambda kt: env[_key(kt)].value)
        if len(values) != len(keys):
            raise ModelError(f"Layer {node.layer.name!r} gives {len(values)} tensors; {len(keys)} were recorded.")
        self.half |= any("float16" in str(getattr(v, "dtype", "")) for v in values)
        kept = [i for i, v in enumerate(values) if _has_rows(v, self.rows)]
        symbolic: list[Any] = [None] * len(keys)
        if kept:
            try:
                symbolic = self._counterpart(node, env, values)
                if any(symbolic[i] is None or symbolic[i] is _FIXED for i in kept):
                    raise NoCounterpart("it gives something else when it is opened")
                symbolic = [s if i in kept or s is _FIXED else None for i, s in enumerate(symbolic)]
            except NoCounterpart as reason:
                self.unconverted[node.layer.name] = str(reason)
                symbolic = [None] * len(keys)
                for i, tensor in zip(kept, self._as_it_is(node, env, values, kept), strict=True):
                    symbolic[i] = tensor
        for key, tensor, value in zip(keys, symbolic, values, strict=True):
            env[key] = _Value(None, value, True) if tensor is _FIXED else _Value(tensor, value)

    def _as_it_is(self, node: Any, env: dict[Key, _Value], values: list[Any], kept: list[int]) -> list[Any]:
        """Wrap a call of Keras 2, with the calls before it that have no rows of their own."""
        keys = _carried(node, env)
        if not keys:
            raise ModelError(f"Layer {node.layer.name!r} depends on no input of the model.")

        def run(tensors: list[Any]) -> list[Any]:
            outputs = _run(node, _Recompute(dict(zip(keys, tensors, strict=True))))
            return [outputs[i] for i in kept]

        shapes = [tuple(kt.shape[1:]) for kt in tree.flatten(node.outputs)] if not self.static else []
        spec = [
            (
                shapes[i] if shapes else tuple(values[i].shape[1:]),
                dtype_of(values[i]),
                keras_mask(values[i]) is not None,
            )
            for i in kept
        ]
        layer = Keras2Call(run, spec, name=self._name(node.layer))
        return tree.flatten(layer([env[k].symbolic for k in keys]))

    def _counterpart(self, node: Any, env: dict[Key, _Value], values: list[Any]) -> list[Any]:
        """The Keras 3 tensors for a call's outputs; they are checked to be right on the sample."""
        layer = node.layer
        if _runs_its_graph(layer):
            return self._nested(node, env, values)
        if not self._is_known(layer):
            return self._opened(node, env, values)
        apply, arguments = self._function(node, values) if symbol_of(layer) else self._layer(node)
        given = [env[_key(kt)].symbolic for kt in tree.flatten(arguments) if _is_symbolic(kt)]
        if any(kt is None for kt in given):
            raise NoCounterpart("it takes a tensor that has no row for each sequence")

        def fill(which: str) -> tuple[tuple, dict]:
            return tree.map_structure(
                lambda leaf: getattr(env[_key(leaf)], which) if _is_symbolic(leaf) else leaf, arguments
            )

        def ours() -> list[Any]:
            args, kwargs = fill("value")
            return tree.flatten(apply(*args, **kwargs))

        try:
            args, kwargs = fill("symbolic")
            made = tree.flatten(apply(*args, **kwargs))
            self._name_operations(made, given, self.opening[0] if self.opening else layer)
            part = self.parts.get(id(layer))
            if isinstance(part, _Part):
                self._copy_weights(part)
            _check_spec(made, values)
            reason = self._difference(ours, values, lambda: _run(node, lambda kt: env[_key(kt)].value))
        except (NoCounterpart, ModelError):
            raise
        except Exception as error:
            raise NoCounterpart(f"Keras 3 does not take it: {type(error).__name__}: {_first_line(error)}") from error
        if reason:
            raise NoCounterpart(reason)
        return made

    def _is_known(self, layer: Any) -> bool:
        """Whether there is a counterpart for a layer by its class (and function)."""
        if self.namesakes.get(type(layer)) == "Activation":
            function = layer.activation
            known = self._activation(function) is not None or is_keras2(function)
            return known or is_function(function, self.theirs, "hard_sigmoid")
        return bool(symbol_of(layer)) or type(layer) in self.namesakes

    def _opened(self, node: Any, env: dict[Key, _Value], values: list[Any]) -> list[Any]:
        """A layer of unknown class, a Lambda among them: run its Python on symbolic tensors and convert what it calls.

        That is refused where a weight, or what was computed from one, would be taken for a constant.
        """
        layer, before = node.layer, dict(self.unconverted)
        kind = f"{type(layer).__name__} has no counterpart"
        fixed = {_key(kt): env[_key(kt)].value for kt in _given(node) if env[_key(kt)].fixed}
        given = [kt for key, kt in {_key(kt): kt for kt in _given(node)}.items() if key not in fixed]
        outer = [env[_key(kt)] for kt in given]
        shut = type(layer).__module__.startswith(f"{self.package.__name__}.") and type(layer).__name__ not in OPENED
        if shut or not self.static or any(o.symbolic is None or keras_mask(o.value) is not None for o in outer):
            raise NoCounterpart(kind)
        for function in (getattr(layer, "function", None), getattr(layer, "activation", None)):
            if function is not None and not _is_plain(function):
                raise NoCounterpart(f"{kind}, and its function reads more than its arguments")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                inner = [
                    self.package.Input(o.value.shape[1:], dtype=o.value.dtype, name=f"opened_{i}")
                    for i, o in enumerate(outer)
                ]
                by_key = fixed | {_key(kt): i for kt, i in zip(given, inner, strict=True)}
                outputs = _run(node, lambda kt: by_key[_key(kt)], run=layer.call)
                rows = [i for i, kt in enumerate(outputs) if _is_symbolic(kt)]
                if len(outputs) != len(values) or not rows:
                    raise NoCounterpart(kind)
                through = [outputs[i] for i in rows]
                if any(_is_array(leaf) for n in _ordered(inner, through) for leaf in _arguments(n) if layer.weights):
                    raise NoCounterpart(f"{kind}, and it computes with arrays that may come from its weights")
                self.opening.append(layer)
                try:
                    made, found = self._replay(inner, through, [o.symbolic for o in outer], [o.value for o in outer])
                finally:
                    self.opening.pop()
        except (NoCounterpart, ModelError):
            raise
        except Exception as error:
            reason = f"it cannot be opened: {type(error).__name__}: {_first_line(error)}"
            raise NoCounterpart(f"{kind}, and {reason}") from error
        inside = [f"{name}: {why}" for name, why in self.unconverted.items() if name not in before]
        self.unconverted = before
        if inside:
            raise NoCounterpart(f"{kind}, nor has what it calls ({inside[0]})")
        if not {id(w) for w in layer.weights} <= {id(w) for _, w in self.weights}:
            raise NoCounterpart(f"{kind}, and it has weights of its own")
        reason = self._compare(found, [values[i] for i in rows])
        if reason:
            raise NoCounterpart(f"{kind}, and opened it gives something else")
        all_made: list[Any] = [_FIXED] * len(values)
        for i, kt in zip(rows, made, strict=True):
            all_made[i] = kt
        return all_made

    def _nested(self, node: Any, env: dict[Key, _Value], values: list[Any]) -> list[Any]:
        """A nested model: converted once for each shape of its inputs, then called."""
        inner = node.layer
        others = [*node.call_args[1:], *(v for k, v in node.call_kwargs.items() if k != "training")]
        if not node.call_args or any(v is not None and v is not False for v in others):
            raise NoCounterpart("a nested model with more than one argument")
        given = [env[_key(kt)] if _is_symbolic(kt) else None for kt in _flat_inputs(inner, node.call_args[0])]
        outer = [g.symbolic for g in given if g is not None]
        fits = len(outer) == len(given) == len(inner.inputs) and all(
            len(o.shape) == len(kt.shape) and str(o.dtype) == dtype_of(kt) and keras_mask(o) is None
            for o, kt in zip(outer, inner.inputs, strict=True)
        )
        if not fits:
            raise NoCounterpart("a nested model whose inputs are masked, constant, or of another rank or dtype")
        key = (id(inner), *(tuple(o.shape) for o in outer))
        if key not in self.models:
            inputs = [
                keras.Input(o.shape[1:], dtype=o.dtype, name=_clean(kt.name))
                for o, kt in zip(outer, inner.inputs, strict=True)
            ]
            self.alive.append(inner)
            self.taken.append({kt.name for kt in inputs})
            try:
                values_in = [g.value for g in given if g is not None]
                outputs, _ = self._replay(inner.inputs, inner.outputs, inputs, values_in)
            finally:
                self.taken.pop()
            if any(kt is None for kt in outputs):
                raise NoCounterpart("a nested model with an output that has no row for each sequence")
            self.models[key] = keras.Model(_alone(inputs), _alone(outputs), name=self._name(inner))
        made = tree.flatten(self.models[key](_alone(outer)))
        _check_spec(made, values)
        return made

    # ------------------------------------------------------------------ TensorFlow functions

    def _function(self, node: Any, values: list[Any]) -> tuple[Callable[..., Any], tuple]:
        symbol = symbol_of(node.layer)
        apply = FUNCTIONS.get(str(symbol))
        if apply is None:
            raise NoCounterpart(f"tf.{symbol} has no counterpart")
        args = tuple(_structured(a, self._constant) for a in node.call_args)
        kwargs = {k: _structured(v, self._constant) for k, v in node.call_kwargs.items()}
        kwargs.pop("name", None)
        if symbol == "reshape" and (self.static or any(_is_symbolic(leaf) for leaf in tree.flatten(args[1:]))):
            if not self.static:
                raise NoCounterpart("the new shape depends on a length that is not known")
            args, kwargs = args[:1], {"shape": (-1, *values[0].shape[1:])}
        return apply, (args, kwargs)

    def _constant(self, leaf: Any) -> Any:
        """A recorded argument as Keras 3 takes it: a variable as one that follows it; symbolic tensors stay."""
        if _is_symbolic(leaf):
            return leaf
        if hasattr(leaf, "assign"):
            if id(leaf) not in self.variables:
                self.alive.append(leaf)
                value = keras.Variable(leaf.numpy(), dtype=dtype_of(leaf), trainable=False)
                self.variables[id(leaf)] = value
                self.weights.append((value, leaf))
            return self.variables[id(leaf)]
        if hasattr(leaf, "as_numpy_dtype"):
            return leaf.name
        return leaf.numpy() if hasattr(leaf, "numpy") else leaf

    # ------------------------------------------------------------------ layers

    def _layer(self, node: Any) -> tuple[Callable[..., Any], tuple]:
        part = self._part(node.layer)
        bound = inspect.signature(node.layer.call).bind(*node.call_args, **node.call_kwargs).arguments
        (_, first), *others = bound.items()
        rest = {}
        for name, value in others:
            rest.update(value if name == "kwargs" else {name: value})
        rest = {k: v for k, v in rest.items() if v is not None and k != "training"}
        if self.namesakes.get(type(node.layer)) in {*RECURRENT, "Bidirectional"} and isinstance(first, list | tuple):
            first, rest["initial_state"] = first[0], list(first[1:])
        accepted = inspect.signature(part.head.call).parameters if part.head is not None else {}
        if not set(rest) <= set(accepted):
            raise NoCounterpart(f"it is called with {', '.join(sorted(set(rest) - set(accepted)))}")
        return part.apply, ((first,), rest)

    def _part(self, layer: Any) -> _Part:
        if id(layer) not in self.parts:
            self.alive.append(layer)
            try:
                self.parts[id(layer)] = self._make_part(layer)
            except NoCounterpart as reason:
                self.parts[id(layer)] = str(reason)
        part = self.parts[id(layer)]
        if isinstance(part, str):
            raise NoCounterpart(part)
        return part

    def _make_part(self, layer: Any) -> _Part:
        kind = self.namesakes.get(type(layer))
        if kind is None:
            raise NoCounterpart(f"{type(layer).__name__} has no counterpart")
        if "call" in vars(layer):
            raise NoCounterpart("its call() was replaced")
        if kind == "Activation":
            return self._followed(None, layer)
        if kind == "TimeDistributed":
            return self._time_distributed(layer)
        if kind == "Bidirectional":
            return self._bidirectional(layer)
        return self._namesake(layer, kind, self._name(layer))

    def _namesake(self, layer: Any, kind: str, name: str) -> _Part:
        settings = _settings(layer, kind) | {"name": name, "dtype": layer.dtype_policy.name}
        if settings.get("stateful"):
            raise ModelError(
                f"Layer {layer.name!r} is stateful: what it gives depends on the batches before; rebuild the model "
                "with stateful=False."
            )
        pad = 0
        if kind == "SeparableConv1D" and settings["padding"] == "causal":  # Keras 3 lacks it
            settings["padding"] = "valid"
            pad = settings["dilation_rate"][0] * (settings["kernel_size"][0] - 1)
        for attribute in ("activation", "recurrent_activation"):
            if kind in RECURRENT and hasattr(layer, attribute):
                settings[attribute] = self._recurrent_activation(layer, attribute)
        head = getattr(keras.layers, kind)(**settings)
        if kind in RECURRENT or not hasattr(layer, "activation"):
            return _Part(head, head, [(head, layer)])
        if not pad:
            return self._followed(head, layer)
        padding = keras.layers.ZeroPadding1D((pad, 0), name=self._new_name(f"{name}_padding"), dtype=settings["dtype"])
        rest = self._followed(head, layer)
        return _Part(lambda x: rest.apply(padding(x)), padding, rest.layers)

    def _followed(self, head: Any | None, layer: Any) -> _Part:
        """A linear layer (or nothing) and the activation function of ``layer``."""
        function = layer.activation
        self.settings.append((layer, "activation", function))
        layers = [] if head is None else [(head, layer)]
        ours = self._activation(function)
        if ours is not None and head is None:
            alone: Any = keras.layers.Activation(ours, name=self._name(layer), dtype=layer.dtype_policy.name)
            return _Part(alone, alone)
        if ours is not None and head is not None:
            head.activation = ours
            return _Part(head, head, layers)
        if is_function(function, self.theirs, "hard_sigmoid"):
            follow: Callable[..., Any] = hard_sigmoid
        elif is_keras2(function):
            try:
                part = self._part(function)
                follow, layers = part.apply, layers + part.layers
            except NoCounterpart as reason:
                if head is None:
                    raise
                follow = self._activation_as_it_is(layer, function, str(reason))
        elif head is None:
            raise NoCounterpart("its function has no counterpart")
        else:
            follow = self._activation_as_it_is(layer, function, "this activation function has no counterpart")
        if head is None:
            return _Part(follow, None, layers)
        return _Part(lambda x: follow(head(x)), head, layers)

    def _activation_as_it_is(self, layer: Any, function: Callable[..., Any], reason: str) -> Callable[..., Any]:
        name = self._new_name(f"{layer.name}_activation")
        self.unconverted[name] = reason
        call = Keras2Call(lambda tensors: [function(*tensors)], None, name=name)
        return lambda x: call([x])

    def _activation(self, function: Any) -> Any:
        """The Keras 3 activation function that is the same, or None."""
        if function is None:
            return keras.activations.linear
        ours = next((ours for theirs, ours in self.functions if theirs is function), None)
        if ours is None and inspect.isfunction(function):
            name = next((TF_ACTIVATIONS[s] for s in symbols(function) if s in TF_ACTIVATIONS), "")
            ours = getattr(keras.activations, name, None)
        return ours

    def _recurrent_activation(self, layer: Any, attribute: str) -> Any:
        function = getattr(layer, attribute)
        self.settings.append((layer, attribute, function))
        if is_function(function, self.theirs, "hard_sigmoid"):
            return hard_sigmoid
        ours = self._activation(function)
        if ours is None:
            raise NoCounterpart(f"its {attribute.replace('_', ' ')} has no counterpart")
        return ours

    def _time_distributed(self, layer: Any) -> _Part:
        inner, kind = layer.layer, self.namesakes.get(type(layer.layer))
        if kind is None or kind in ("TimeDistributed", "Bidirectional"):
            raise NoCounterpart(f"it wraps a {type(inner).__name__}")
        if kind == "Dense":  # takes any rank by itself
            return self._namesake(inner, kind, self._name(layer))
        part = self._part(inner)
        if part.apply is not part.head:
            raise NoCounterpart(f"its {kind} has no single counterpart")
        head = keras.layers.TimeDistributed(part.head, name=self._name(layer), dtype=layer.dtype_policy.name)
        return _Part(head, head, [(head, layer)])

    def _bidirectional(self, layer: Any) -> _Part:
        both = [layer.forward_layer, layer.backward_layer]
        if any(self.namesakes.get(type(x)) not in RECURRENT for x in both):
            raise NoCounterpart("it wraps a layer that has no counterpart")
        forward, backward = (self._namesake(x, self.namesakes[type(x)], self._name(x)).head for x in both)
        kept = {a: getattr(forward.cell, a) for a in ("activation", "recurrent_activation") if hasattr(forward.cell, a)}
        for a in kept:  # Keras 3 copies the forward layer by its settings, which functions of ours are not among
            setattr(forward.cell, a, keras.activations.tanh)
        head = keras.layers.Bidirectional(
            forward,
            merge_mode=layer.merge_mode,
            backward_layer=backward,
            name=self._name(layer),
            dtype=layer.dtype_policy.name,
        )
        for a, function in kept.items():
            setattr(head.forward_layer.cell, a, function)
        return _Part(head, head, [(head, layer)])

    def _copy_weights(self, part: _Part) -> None:
        while part.layers:
            ours, layer = part.layers[-1]
            others = {id(w) for w in getattr(getattr(layer, "activation", None), "weights", ())}
            theirs = [w for w in layer.weights if id(w) not in others]
            pairs = list(zip(ours.weights, theirs, strict=False))
            if len(ours.weights) != len(theirs) or any(tuple(a.shape) != tuple(b.shape) for a, b in pairs):
                raise NoCounterpart("its weights are others than in Keras 3")
            for a, b in pairs:
                a.assign(b)
            self.weights += pairs
            part.layers.pop()

    # ------------------------------------------------------------------ names

    def _name(self, layer: Any) -> str:
        """The layer's own name where it is still free, else one like it."""
        name = _clean(layer.name)
        inside = bool(self.opening) and layer is not self.opening[0]
        new = inside or name != layer.name  # a name that Keras 2 did not keep unique
        if name in (self.reserved | self.generated if new else self.taken[-1]):
            return self._new_name(name)
        self.taken[-1].add(name)
        if new:
            self.generated.add(name)
        return name

    def _input_names(self) -> list[str]:
        """Names of the model's inputs: their own, or their keys in a dict, which Keras 3 wants to be the same."""
        own = [_clean(kt.name) for kt in self.model.inputs]
        if not isinstance(self.model.input, dict):
            return own
        key_of = {id(kt): _clean(str(key)) for key, kt in self.model.input.items()}
        keys = [key_of.get(id(kt), name) for kt, name in zip(self.model.inputs, own, strict=True)]
        clash = set(keys) & (self.reserved - {kt.name for kt in self.model.inputs})
        return own if clash or len(set(keys)) < len(keys) else keys

    def _new_name(self, wanted: str) -> str:
        wanted, i = _clean(wanted), 0
        while (name := f"{wanted}_{i}" if i else wanted) in self.generated | self.reserved:
            i += 1
        self.generated.add(name)
        return name

    def _name_operations(self, made: list[Any], given: list[Any], layer: Any) -> None:
        """Name the ``keras.ops`` calls between two sets of tensors after the layer, so that no names clash."""
        seen = {id(kt) for kt in given}
        stack, named = list(made), set()
        while stack:
            kt = stack.pop()
            if id(kt) in seen or not isinstance(kt, keras.KerasTensor):
                continue
            seen.add(id(kt))
            operation = kt._keras_history.operation
            stack.extend(operation._inbound_nodes[kt._keras_history.node_index].arguments.keras_tensors)
            if not isinstance(operation, keras.Layer) and id(operation) not in named:
                named.add(id(operation))
                operation.name = self._name(layer)

    # ------------------------------------------------------------------ comparing

    def _difference(self, ours: Callable[[], list], values: list[Any], theirs: Callable[[], list]) -> str:
        """What is wrong with ``ours``, or nothing; where it differs, both are run again on the processor.

        GPUs may round float32 products to ten bits, and differently in both.
        """
        found = self._compare(ours(), values)
        if found:
            with keras.device("cpu:0"):
                found = self._compare(ours(), theirs())
        return found

    def _compare(self, ours: list[Any], theirs: list[Any]) -> str:
        if len(ours) != len(theirs):
            return f"Keras 3 gives {len(ours)} tensors instead of {len(theirs)}"
        for a, b in zip(ours, theirs, strict=True):
            masks = keras_mask(a), keras_mask(b)
            if (masks[0] is None) != (masks[1] is None):
                return "Keras 3 masks its output otherwise"
            if masks[0] is not None and not np.array_equal(backend.to_numpy(masks[0]), backend.to_numpy(masks[1])):
                return "Keras 3 masks its output otherwise"
            error = _error(backend.to_numpy(a), backend.to_numpy(b))
            if not error <= _tolerance(dtype_of(b)):
                return f"Keras 3 computes something else: {error:.2g} of the largest output"
        return ""

    def _check_whole(self, made: keras.Model, values: list[Any], expected: list[Any]) -> None:
        """Raise unless the converted model gives what the Keras 2 model gives."""
        by_id = dict(zip(map(id, self.model.inputs), values, strict=True))

        def ours() -> list[Any]:
            return tree.flatten(made(_structured(self.model.input, lambda kt: by_id[id(kt)]), training=False))

        def errors(found: list[Any], wanted: list[Any]) -> list[float]:
            pairs = zip(found, wanted, strict=True)
            return [_error(backend.to_numpy(a), backend.to_numpy(b)) for a, b in pairs]

        allowed = [10 * (HALF / 4 if self.half else _tolerance(dtype_of(e))) for e in expected]
        found = errors(ours(), expected)
        if any(not e <= a for e, a in zip(found, allowed, strict=True)):
            with keras.device("cpu:0"):
                wanted = self._call_source(values)
                found, again = errors(ours(), wanted), errors(self._call_source(values), wanted)
            if any(not e <= a for e, a in zip(found, allowed, strict=True)):
                why = (
                    "It gives something else each time it is called; take out what is random at inference."
                    if any(not e <= a for e, a in zip(again, allowed, strict=True))
                    else "Please report the model. Meanwhile save it with model.save('model.h5') and load that with "
                    "keras.models.load_model of Keras 3."
                )
                raise ModelError(
                    f"Model {self.model.name!r} of Keras 2 could not be converted: its Keras 3 model differs by up to "
                    f"{max(found):.2g} of the largest output. {why} Layers that ran as Keras 2 code: "
                    f"{', '.join(self.unconverted) or 'none'}."
                )


class _Recompute:
    """Values of symbolic tensors, those that are not given made from those that are."""

    def __init__(self, given: dict[Key, Any]):
        self.given = given

    def __call__(self, kt: Any) -> Any:
        key = _key(kt)
        if key not in self.given:
            node = _maker(kt)
            for out, value in zip(tree.flatten(node.outputs), _run(node, self), strict=True):
                self.given.setdefault(_key(out), value)
        return self.given[key]


def _carried(node: Any, env: dict[Key, _Value]) -> list[Key]:
    """The nearest tensors before a call that the Keras 3 graph carries and that it can be computed from."""
    found: dict[Key, None] = {}
    stack = list(reversed(_given(node)))
    while stack:
        kt = stack.pop()
        if env[_key(kt)].symbolic is not None:
            found[_key(kt)] = None
        else:
            stack.extend(reversed(_given(_maker(kt))))
    return list(found)


def _flat_inputs(inner: Any, given: Any) -> list[Any]:
    """What is given to a nested model, in the order of its inputs."""
    if not isinstance(given, dict):
        return tree.flatten(given)
    struct = inner.input
    names = sorted(struct) if isinstance(struct, dict) else [kt._keras_history.layer.name for kt in inner.inputs]
    return [given[n] for n in names] if set(names) <= set(given) else []


def _settings(layer: Any, kind: str) -> dict[str, Any]:
    """The settings of a Keras 2 layer as arguments of its Keras 3 namesake."""
    accepted = set(inspect.signature(getattr(keras.layers, kind).__init__).parameters)
    accepted |= {"zero_output_for_mask"} if kind in RECURRENT else set()
    settings: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a lambda is unsafe to load: it is not
        config = layer.get_config()
    for name, value in config.items():
        if name in _SKIPPED or name.endswith(_OF_TRAINING):
            continue
        ours = RENAMED.get(kind, {}).get(name, name)
        if ours in accepted:
            settings[ours] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        elif name not in NEUTRAL or (NEUTRAL[name] is not ANY and NEUTRAL[name] != value):
            raise NoCounterpart(f"Keras 3 has no {name}={value!r}")
    if kind in ("BatchNormalization", "LayerNormalization") and isinstance(settings["axis"], list | tuple):
        axes = list(settings["axis"])
        if kind == "BatchNormalization" and len(axes) > 1:
            raise NoCounterpart(f"Keras 3 has no axis={axes}")
        settings["axis"] = axes[0] if len(axes) == 1 else axes
    settings |= {name: "zeros" for name in accepted if name.endswith("_initializer")}  # weights are copied anyway
    return settings | ({"seed": 0} if "seed" in accepted else {})


def _check_spec(made: list[Any], values: list[Any]) -> None:
    """Raise if symbolic tensors are not of the kind of the values."""
    if len(made) != len(values):
        raise NoCounterpart(f"Keras 3 gives {len(made)} tensors instead of {len(values)}")
    for kt, value in zip(made, values, strict=True):
        same = len(kt.shape) == len(value.shape) and all(
            a is None or a == b for a, b in zip(kt.shape[1:], value.shape[1:], strict=True)
        )
        if not same or str(kt.dtype) != dtype_of(value):
            raise NoCounterpart(
                f"Keras 3 gives {kt.dtype} {tuple(kt.shape[1:])} instead of {dtype_of(value)} {tuple(value.shape[1:])}"
            )
        if (keras_mask(kt) is None) != (keras_mask(value) is None):
            raise NoCounterpart("Keras 3 masks its output otherwise")


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference as a share of the largest number; infinite if they are not of one kind."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return math.inf
    if ours.dtype.kind in "biu":
        return 0.0 if np.array_equal(ours, theirs) else math.inf
    a, b = ours.astype("float64"), theirs.astype("float64")
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return math.inf
    a, b = a[finite], b[finite]
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))


def _tolerance(dtype: str) -> float:
    return TOLERANCE.get(dtype, HALF)


def _random(kt: Any, rows: int, length: int) -> np.ndarray:
    """One-hot sequences, normal numbers, or zeros and ones."""
    rng = np.random.default_rng(0)
    shape = (rows, *(length if n is None else int(n) for n in kt.shape[1:]))
    if "float" not in dtype_of(kt):
        return rng.integers(0, 2, shape)
    if len(shape) == 3 and shape[2] > 1:
        return np.eye(shape[2])[rng.integers(0, shape[2], shape[:2])]
    return rng.normal(size=shape)


def _has_rows(value: Any, rows: int) -> bool:
    """Whether a value is a dense tensor with a row for each sequence."""
    dense = ops.is_tensor(value) and not any(hasattr(value, a) for a in ("flat_values", "indices"))
    return dense and len(value.shape) > 0 and value.shape[0] == rows


def _clean(name: str) -> str:
    """A name that Keras 3 takes."""
    return name.replace("/", "_")


def _alone(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _first_line(error: Exception) -> str:
    return next((line.strip()[:160] for line in str(error).splitlines() if line.strip()), "")
