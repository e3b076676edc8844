"""Rules that users register for their own layers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import keras

from fastism.calls import Call, Ref
from fastism.errors import ModelError
from fastism.graph import Graph
from fastism.rules.framed import Framed, sliding
from fastism.rules.pointwise import Pointwise
from fastism.rules.registry import RULES, Rule, RuleFn
from fastism.rules.step import Lowered, Refuse, Step

FAMILY = "yours"


def register_rule(
    layer: type,
    rule: RuleFn | None = None,
    *,
    pointwise: bool = False,
    kernel: int | Callable[[Any], int] | None = None,
    stride: int | Callable[[Any], int] = 1,
    dilation: int | Callable[[Any], int] = 1,
    padding: str | int | Callable[[Any], str | int] = "valid",
) -> None:
    """Tell how a layer of your own moves a change, so that it need not be computed whole.

    One of three ways: ``pointwise=True``, ``kernel=...``, or a full ``rule``. Whatever is declared, the self-check of
    :class:`fastism.FastISM` compares with the layer and names it if it is wrong. A FastISM that was made before knows
    nothing of it.

    Args:
        layer: The class; subclasses that override nothing are treated alike.
        rule: A function of ``(call, graph)`` that gives :class:`fastism.rules.Lowered`, the steps of the call, or
            raises :class:`fastism.rules.Refuse` with the reason for which that call is to be computed whole.
        pointwise: Output position i depends on position i of the inputs alone, in the same way for every i.
        kernel: Output position o depends on ``kernel`` input positions only, ``o * stride - padding + k * dilation``,
            in the same way for every o; what it does at the ends of the sequence is its own business. A number, or a
            function of the layer.
        stride, dilation: As of a convolution; numbers, or functions of the layer.
        padding: ``"valid"``, ``"same"``, ``"causal"``, or the number of positions put before the first; or a function
            of the layer.

    Raises:
        TypeError: If ``layer`` is no class of layers or operations.
        ValueError: If not exactly one of the three ways is chosen, or a setting makes no sense.

    Example:
        >>> import keras
        >>> class Squared(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x * x
        >>> register_rule(Squared, pointwise=True)
    """
    if not (isinstance(layer, type) and issubclass(layer, keras.Operation)):
        raise TypeError(f"layer is {layer!r}; a class of Keras layers (or operations) is accepted, not an instance.")
    if (rule is not None) + bool(pointwise) + (kernel is not None) != 1:
        raise ValueError("register_rule takes exactly one of pointwise=True, kernel=... and a rule.")
    if kernel is None and (stride, dilation, padding) != (1, 1, "valid"):
        raise ValueError("stride, dilation and padding are those of a window; give them together with kernel=.")
    if rule is not None:
        if not callable(rule):
            raise TypeError(f"rule is {rule!r}; a function of (call, graph) is accepted.")
        RULES[layer] = Rule(_guarded(layer, rule), FAMILY, "a rule of your own")
    elif pointwise:
        RULES[layer] = Rule(_pointwise, FAMILY, "declared pointwise")
    else:
        known = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
        sliding(layer, 1, **{n: ("valid" if n == "padding" else 1) if callable(v) else v for n, v in known.items()})

        def windowed(call: Call, graph: Graph) -> Lowered:
            if len(call.inputs) != 1 or not call.args or not isinstance(call.args[0], Ref):
                raise Refuse("it is declared to slide, but takes several tensors")
            length = graph.shape(call.inputs[0])[0] or 0
            told = {name: _of_layer(name, setting, call) for name, setting in known.items()}
            slide = sliding(type(call.op), length, **told)
            return Lowered([Framed(lambda x: call.evaluate([x])[0], slide)])

        RULES[layer] = Rule(windowed, FAMILY, "declared to slide along positions")


def unregister_rule(layer: type) -> None:
    """Forget what :func:`register_rule` was told of a class.

    Raises:
        KeyError: If it was told nothing.
    """
    if layer not in RULES or RULES[layer].family != FAMILY:
        raise KeyError(f"no rule was registered for {getattr(layer, '__name__', layer)!r}")
    del RULES[layer]


def _of_layer(name: str, setting: Any, call: Call) -> Any:
    """A setting; where it is a function of the layer, what that gives."""
    if not callable(setting):
        return setting
    try:
        return setting(call.op)
    except Exception as error:  # whatever a user's function raises
        raise ModelError(
            f"{name}=, a function given to register_rule for {call.kind}, failed on layer {call.name!r} "
            f"({type(error).__name__}: {error}); it is called with the layer and gives a number."
        ) from error


def _guarded(layer: type, rule: RuleFn) -> RuleFn:
    """The rule, with errors that say whose it is."""

    def guarded(call: Call, graph: Graph) -> Lowered:
        whose = f"The rule registered for {layer.__name__}"
        remedy = f"Mend it, or have the layer computed whole by fastism.unregister_rule({layer.__name__})."
        try:
            lowered = rule(call, graph)
            steps = [*lowered.steps, *chain(*lowered.branches)] if isinstance(lowered, Lowered) else [None]
        except Refuse:
            raise
        except Exception as error:  # whatever a user's function raises
            raise ModelError(
                f"{whose} failed on call {call.name!r} ({type(error).__name__}: {error}); a function of (call, graph) "
                f"is accepted. {remedy}"
            ) from error
        if not all(isinstance(step, Step) for step in steps):
            raise ModelError(
                f"{whose} gives {lowered!r} for call {call.name!r}; fastism.rules.Lowered, with a list of steps, is "
                f"accepted. {remedy}"
            )
        return lowered

    return guarded


def _pointwise(call: Call, graph: Graph) -> Lowered:
    return Lowered([Pointwise(lambda *values: call.evaluate(values)[0], elementwise=False)])
