"""Rules that users register."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops
from oracle import predict, saturated, share_of_effect

import fastism
from fastism import FastISM, MismatchError, ModelError, register_rule, unregister_rule
from fastism.rules import Lowered, Refuse
from fastism.rules.pointwise import Pointwise
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"
FLOAT = keras.config.floatx()
RNG = np.random.default_rng(0)


class Opaque(L.Layer):
    """A layer that cannot be opened."""

    def __init__(self, kernel=1, stride=1, dilation=1, padding="valid", **kwargs):
        super().__init__(**kwargs)
        self.settings = (kernel, stride, dilation, padding)
        self.kernel, self.stride, self.dilation, self.padding = self.settings
        taps = RNG.normal(size=(kernel, 5, 5)).astype("float32")
        self.taps = [[float(v) for v in row] for row in taps[:, 0]]

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("numbers only")
        return self.compute(x)

    def compute(self, x):
        k, s, d = self.kernel, self.stride, self.dilation
        length = x.shape[1]
        reach = (k - 1) * d
        if self.padding == "same":
            total = max((-(-length // s) - 1) * s + reach + 1 - length, 0)
            before, after = total // 2, total - total // 2
        else:
            before, after = (reach, 0) if self.padding == "causal" else (0, 0)
        # the ends are repeated rather than filled with zeros
        x = ops.concatenate([ops.repeat(x[:, :1], before, axis=1), x, ops.repeat(x[:, -1:], after, axis=1)], axis=1)
        outputs = (x.shape[1] - reach - 1) // s + 1
        total = 0.0
        for j in range(k):
            part = x[:, j * d : j * d + (outputs - 1) * s + 1 : s]
            total = total + ops.tanh(part * ops.convert_to_tensor(self.taps[j], dtype=x.dtype))
        return total

    def compute_output_spec(self, x):
        k, s, d = self.kernel, self.stride, self.dilation
        length = x.shape[1]
        n = -(-length // s) if self.padding in ("same", "causal") else (length - (k - 1) * d - 1) // s + 1
        return keras.KerasTensor((x.shape[0], n, x.shape[2]), x.dtype)


@pytest.fixture(autouse=True)
def forget():
    yield
    for cls in list(fastism.rules.RULES):
        if fastism.rules.RULES[cls].family == "yours":
            unregister_rule(cls)


def model_with(layer, length=41):
    x = keras.Input((length, 4))
    y = L.Conv1D(3, 3)(layer(L.Conv1D(5, 4, padding="same", activation="relu")(x)))
    return randomize(keras.Model(x, y))


def agrees(model):
    length = model.inputs[0].shape[1]
    x = np.eye(4)[RNG.integers(4, size=(2, length))].astype(FLOAT)
    fast = FastISM(model, jit=JIT).saturate(x).mutant
    error, effect = share_of_effect(fast, saturated(model, [x], 0)[0], predict(model, [x])[0])
    return error <= 1e-3 and effect > 1e-6


@pytest.mark.parametrize("length", [40, 41, 43])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"),
    [
        (3, 1, 1, "same"),
        (4, 1, 2, "same"),
        (5, 1, 1, "valid"),
        (3, 1, 3, "causal"),
        (4, 3, 1, "same"),
        (2, 2, 1, "valid"),
    ],
)
def test_a_declared_window(kernel, stride, dilation, padding, length):
    register_rule(
        Opaque, kernel=lambda layer: layer.kernel, stride=lambda layer: layer.stride, dilation=dilation, padding=padding
    )
    model = model_with(Opaque(kernel, stride, dilation, padding, name="it"), length)
    assert agrees(model)
    row = FastISM(model).explain(length // 2).row("it")
    assert row.state == "window"
    assert row.changed < row.length / 2


@pytest.mark.parametrize("length", [5, 7, 9])
def test_a_declared_window_as_wide_as_a_short_sequence(length):
    register_rule(Opaque, kernel=5, padding="same")
    assert agrees(model_with(Opaque(5, 1, 1, "same", name="it"), length))


def test_a_layer_declared_pointwise():
    register_rule(Opaque, pointwise=True)
    model = model_with(Opaque(name="it"))
    assert agrees(model)
    assert FastISM(model).explain().row("it").state == "window"


def test_a_full_rule():
    register_rule(Opaque, lambda call, graph: Lowered([Pointwise(call.op.compute)]))
    assert agrees(model_with(Opaque(name="it")))


@pytest.mark.parametrize(
    "declared", [{"pointwise": True}, {"kernel": 3, "padding": "same"}, {"kernel": 5, "padding": "same", "dilation": 1}]
)
def test_a_wrong_declaration_is_named(declared):
    register_rule(Opaque, **declared)
    with pytest.raises(MismatchError, match=r"The first call that differs is 'it' \(Opaque\)"):
        FastISM(model_with(Opaque(3, 1, 4, "same", name="it")), jit=JIT)


def test_a_declared_stride_that_does_not_fit_is_refused():
    register_rule(Opaque, kernel=2, stride=4)
    row = FastISM(model_with(Opaque(2, 2, name="it")), jit=JIT).explain().row("it")
    assert row.state == "dense"
    assert "does not fit its declared stride" in row.reason


def test_a_rule_is_forgotten():
    register_rule(Opaque, pointwise=True)
    unregister_rule(Opaque)
    assert FastISM(model_with(Opaque(name="it"))).explain().row("it").state == "dense"
    with pytest.raises(KeyError, match="no rule was registered for 'Opaque'"):
        unregister_rule(Opaque)
    with pytest.raises(KeyError, match="no rule was registered for 'Conv1D'"):
        unregister_rule(L.Conv1D)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Opaque(),), {"pointwise": True}, TypeError, "a class of Keras layers .* not an instance"),
        ((int,), {"pointwise": True}, TypeError, "a class of Keras layers"),
        ((Opaque,), {}, ValueError, "exactly one of"),
        ((Opaque,), {"pointwise": True, "kernel": 3}, ValueError, "exactly one of"),
        ((Opaque, 3), {}, TypeError, "rule is 3; a function of"),
    ],
)
def test_misuse(arguments, options, error, message):
    with pytest.raises(error, match=message):
        register_rule(*arguments, **options)


@pytest.mark.parametrize(("option", "value"), [("kernel", 0), ("stride", "2"), ("dilation", -1), ("padding", "full")])
def test_settings_that_make_no_sense(option, value):
    register_rule(Opaque, **{"kernel": 3, option: lambda layer: value})  # known only when a layer comes
    with pytest.raises(ValueError, match=f"{option} of Opaque is {value!r}"):
        FastISM(model_with(Opaque(3, name="it")))


class Halved(L.Layer):
    """Gives another length than it takes; cannot be opened."""

    def __init__(self, how="pool", **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("numbers only")
        return {
            "pool": lambda: ops.maximum(x[:, ::2], x[:, 1::2]),
            "mean": lambda: ops.mean(x, axis=1),
            "skip": lambda: x[:, ::2],
        }[self.how]()

    def compute_output_spec(self, x):
        shape = (x.shape[0], x.shape[2]) if self.how == "mean" else (x.shape[0], x.shape[1] // 2, x.shape[2])
        return keras.KerasTensor(shape, x.dtype)


@pytest.mark.parametrize(
    ("how", "declared"),
    [
        ("pool", {"pointwise": True}),
        ("mean", {"pointwise": True}),
        ("mean", {"kernel": 3}),
        ("skip", {"kernel": 1, "stride": 1}),
    ],
)
def test_a_declaration_of_another_length_is_named(how, declared):
    """The layer itself ran whole, but the one before computed only what the declaration says is read."""
    register_rule(Halved, **declared)
    x = keras.Input((24, 4))
    y = Halved(how, name="it")(L.Conv1D(5, 3, padding="same")(x))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
    with pytest.raises(MismatchError, match=r"differs is 'it' \(Halved\)\. What register_rule was told of it .* wrong"):
        FastISM(model, jit=JIT)
    unregister_rule(Halved)
    assert FastISM(model, jit=JIT).explain().row("it").state == "dense"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            lambda call, graph: None,
            r"rule registered for Opaque gives None for call 'it'; .*Lowered.*unregister_rule\(",
        ),
        (lambda call, graph: [], r"rule registered for Opaque gives \[\] for call 'it'"),
        (lambda call, graph: Lowered([lambda x: x]), "rule registered for Opaque gives Lowered"),
        (lambda call, graph: Lowered(None), "rule registered for Opaque failed on call 'it' .TypeError"),
        (lambda call, graph: 1 / 0, r"rule registered for Opaque failed on call 'it' \(ZeroDivisionError: division"),
        (
            lambda call: None,
            r"rule registered for Opaque failed on call 'it' \(TypeError: .*function of \(call, graph\)",
        ),
    ],
)
def test_a_rule_that_fails(rule, message):
    register_rule(Opaque, rule)
    with pytest.raises(ModelError, match=message):
        FastISM(model_with(Opaque(3, name="it")))


def test_a_rule_that_refuses():
    def refuse(call, graph):
        raise Refuse("not today")

    register_rule(Opaque, refuse)
    row = FastISM(model_with(Opaque(name="it")), jit=JIT).explain().row("it")
    assert (row.state, row.reason) == ("dense", "not today")


@pytest.mark.parametrize("option", ["kernel", "stride", "dilation", "padding"])
def test_a_setting_that_fails(option):
    register_rule(Opaque, **{"kernel": 3, option: lambda layer: layer.nope})
    with pytest.raises(ModelError, match=f"{option}=, a function given to register_rule for Opaque, failed on .*'it'"):
        FastISM(model_with(Opaque(3, name="it")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kernel=0), "kernel of Rescaling is 0"),
        (dict(kernel="three"), "kernel of Rescaling is 'three'"),
        (dict(kernel=3, stride=1.5), "stride of Rescaling is 1.5"),
        (dict(kernel=3, padding="smae"), "padding of Rescaling is 'smae'; 'valid', 'same'"),
        (dict(pointwise=True, stride=2), "together with kernel="),
    ],
)
def test_settings_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        fastism.register_rule(L.Rescaling, **options)
