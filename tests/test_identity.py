"""Digests of functions: the same for what computes the same, others where a constant or helper is another."""

from __future__ import annotations

import functools
import types

import keras
import numpy as np
from keras import layers as L

from fastism.identity import architecture_digest, metric_digest
from fastism.inside import read
from fastism.metrics import METRICS, get_metric


def made(text, **around):
    """The function ``metric`` of a text."""
    room = {"np": np, "__name__": "own", **around}
    exec(text, room)
    return room["metric"]


def digest(function):
    return metric_digest(get_metric(function))


PLAIN = "def metric(r, a):\n    return a - r\n"


def test_metrics_of_this_package_go_by_their_names():
    assert {metric_digest(m) for m in METRICS.values()} == {None}
    assert metric_digest(METRICS["log2FC"].using(pseudocount=3)) is None


def test_a_function_is_told_by_its_code_constants_defaults_and_what_it_refers_to():
    texts = [
        (PLAIN, {}),
        ("def metric(r, a):\n    return r - a\n", {}),
        ("def metric(r, a):\n    return 2 * (a - r)\n", {}),
        ("def metric(r, a, scale=1.0):\n    return scale * (a - r)\n", {}),
        ("def metric(r, a, scale=2.0):\n    return scale * (a - r)\n", {}),
        ("def metric(r, a):\n    return (a - r) * weights\n", {"weights": np.ones(2)}),
        ("def metric(r, a):\n    return (a - r) * weights\n", {"weights": np.zeros(2)}),
        ("def metric(r, a):\n    return (lambda: scale)() * (a - r)\n", {"scale": 1}),
        ("def metric(r, a):\n    return (lambda: scale)() * (a - r)\n", {"scale": 2}),
        ("def metric(r, a):\n    return helper(a - r)\n", {"helper": lambda x: x}),
        ("def metric(r, a):\n    return helper(a - r)\n", {"helper": lambda x: -x}),
    ]
    found = [digest(made(text, **around)) for text, around in texts]
    assert len(set(found)) == len(texts)
    assert found == [digest(made("\n\n" + text, **around)) for text, around in texts], "lines do not count"


class Weighted:
    """A metric that is an object."""

    def __init__(self, weight):
        self.weight, self.me = weight, self

    def __call__(self, r, a):
        return self.weight * (a - r)


def test_objects_are_told_by_what_they_hold():
    assert digest(Weighted(1)) == digest(Weighted(1)) != digest(Weighted(2))
    partial = [functools.partial(made("def metric(r, a, s):\n    return s * (a - r)"), s=s) for s in (1, 1, 2)]
    assert digest(partial[0]) == digest(partial[1]) != digest(partial[2])
    assert digest(types.MethodType(Weighted.__call__, Weighted(1))) != digest(Weighted(2).__call__)


def test_names_that_keras_counts_up_are_no_part_of_an_architecture():
    def digest(activation):
        x = keras.Input((20, 4))
        y = L.Bidirectional(L.LSTM(3, activation=activation))(L.TimeDistributed(L.Dense(4))(x))
        return architecture_digest(read(keras.Model(x, L.Dense(1)(y))))

    assert digest("tanh") == digest("tanh")
    assert digest("tanh") != digest("relu")
