"""Random models of every rule, random edits, fast against naive: ``python -m tests.fuzz --models 300 --seed 1``.

A model is a :class:`Recipe`: plain numbers and names that :func:`build` turns into the same Keras model every time.
:func:`draw_recipe` composes one from a seed. What fails is shrunk and printed as Python that shows it again:
``from tests.fuzz import *; check(Recipe(...))``.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

if __name__ == "__main__":
    os.environ["FASTISM_TEST_FLOAT"] = "float64"
    import tests.conftest  # noqa: F401  (sets the precision before Keras is used)

import keras
import numpy as np
from keras import layers as L
from keras import ops, tree

from fastism import FastISM, ModelError
from fastism.testing import randomize
from tests import oracle

Tensor = Any
Shape = tuple[int, ...]
Options = dict[str, Any]
Draw = random.Random

BACKEND = keras.backend.backend()
FLOATX = keras.config.floatx()
FLOAT64 = FLOATX == "float64"
TOLERANCE = 1e-8 if FLOAT64 else 1e-3
#: Rounding that is allowed beside that, as a share of the largest output.
ROUNDING = 1e-13 if FLOAT64 else 1e-5
#: Relative noise to which a model's answers must not be more sensitive than they were off.
NOISE = 1e-14 if FLOAT64 else 1e-6


def flag(r: Draw, percent: int) -> bool:
    """True in so many of 100 cases; shrinks to False."""
    return r.randint(1, 100) > 100 - percent


def array(seed: int, shape: Shape, low: float | None = None) -> np.ndarray:
    """Constants: normal, or uniform from ``low`` to ``low + 1``."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) if low is None else rng.uniform(low, low + 1, shape)).astype(FLOATX)


# ------------------------------------------------------------------------------------------ pieces


@dataclass(frozen=True)
class Piece:
    """A kind of step.

    Attributes:
        group: What it is about; groups are drawn first.
        fits: For which shapes, without batch axis.
        draw: Chooses options for a shape.
        make: Gives a layer, or a function of tensors, from ``name=`` and options.
        wild: Whether its values may be large, so that a normalisation should follow.
    """

    group: str
    fits: Callable[[Shape], bool]
    draw: Callable[[Draw, Shape], Options]
    make: Callable[..., Callable[..., Any]]
    wild: bool = False


@dataclass(frozen=True)
class Called:
    """A layer with the way to call it."""

    layer: Any
    call: Callable[..., Any]

    def __call__(self, *tensors):
        return self.call(*tensors)


PIECES: dict[str, Piece] = {}


def no_options(r: Draw, s: Shape) -> Options:
    return {}


def anything(s: Shape) -> bool:
    return len(s) > 0


def of_rank(*ranks: int) -> Callable[[Shape], bool]:
    return lambda s: len(s) in ranks


def line(s: Shape) -> bool:
    """Positions by channels."""
    return len(s) == 2


def plane(s: Shape) -> bool:
    """Positions by a second axis by channels."""
    return len(s) == 3


def several(s: Shape) -> bool:
    """Channels enough that to bring them together gives something."""
    return len(s) in (2, 3) and s[-1] > 1


def never(s: Shape) -> bool:
    """Joins, which are drawn by their own functions."""
    return False


def layer(
    name: str,
    group: str,
    make: Any,
    fits: Callable[[Shape], bool] = line,
    draw: Callable[[Draw, Shape], Options] = no_options,
    wild: bool = False,
) -> None:
    """Register a layer."""
    if make is not None:  # not in every version of Keras
        PIECES[name] = Piece(group, fits, draw, make, wild)


def op(
    name: str,
    group: str,
    fits: Callable[[Shape], bool] = line,
    draw: Callable[[Draw, Shape], Options] = no_options,
    wild: bool = False,
) -> Callable[[Any], Any]:
    """Register a function of tensors and options."""

    def register(f):
        PIECES[name] = Piece(group, fits, draw, lambda name, **options: functools.partial(f, **options), wild)
        return f

    return register


# ---- convolutions

ACTIVATIONS = (
    None,
    *"relu gelu tanh elu selu silu softplus softsign sigmoid leaky_relu softmax log_softmax mish hard_sigmoid celu "
    "relu6 hard_silu hard_tanh tanh_shrink log_sigmoid hard_shrink soft_shrink squareplus sparse_plus sparse_sigmoid "
    "exponential sparsemax".split(),
)


def activation_of(r: Draw, units: int) -> str | None:
    """Of one unit, not those that give the same whatever it is."""
    names = ACTIVATIONS if units > 1 else [a for a in ACTIVATIONS if a is None or "max" not in a]
    return r.choice(names)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def draw_slide(r: Draw, length: int, paddings: Sequence[str], most: int = 7) -> Options:
    """Kernel, stride or dilation, padding."""
    k, stride, dilation = r.randint(1, most), 1, 1
    kind = r.choice(["plain", "plain", "plain", "strided", "dilated"])
    if kind == "strided":
        stride = r.randint(2, 4)
    elif kind == "dilated":
        dilation = r.randint(2, 5)
    padding = r.choice(paddings)
    if padding == "valid":
        k = min(k, length)
        dilation = min(dilation, max((length - 1) // max(k - 1, 1), 1))
    return dict(kernel_size=k, strides=stride, dilation_rate=dilation, padding=padding)


def draw_conv(r: Draw, s: Shape) -> Options:
    options = draw_slide(r, s[0], ["same", "valid", "causal"])
    groups = r.choice([1, 1, 1, *divisors(s[-1])])
    groups = groups if groups <= 8 else 1
    filters = groups * r.randint(1 if groups > 1 or flag(r, 10) else 2, max(8 // groups, 2))
    return dict(
        filters=filters,
        **options,
        groups=groups,
        activation=activation_of(r, filters),
        use_bias=not flag(r, 25),
    )


def draw_depthwise(r: Draw, s: Shape) -> Options:
    options = draw_slide(r, s[0], ["same", "valid"])
    return dict(**options, depth_multiplier=r.randint(1, 3), activation=r.choice(ACTIVATIONS))


def draw_transposed(r: Draw, s: Shape) -> Options:
    options = dict(
        filters=r.randint(1, 6),
        kernel_size=r.randint(1, 6),
        strides=r.randint(1, 3),
        padding=r.choice(["same", "valid"]),
        activation=r.choice(ACTIVATIONS),
    )
    if flag(r, 8):
        options["output_padding"] = r.randint(0, max(options["strides"] - 1, 0))
    if flag(r, 8) and options["strides"] == 1:
        options["dilation_rate"] = 2
    return options


def short(s: Shape, most: int = 40, ranks: Sequence[int] = (2,)) -> bool:
    return len(s) in ranks and s[0] <= most


layer("conv", "conv", L.Conv1D, draw=draw_conv)
layer("depthwise", "conv", L.DepthwiseConv1D, draw=draw_depthwise)
layer(
    "separable",
    "conv",
    L.SeparableConv1D,
    draw=lambda r, s: dict(filters=r.randint(1, 8), **draw_depthwise(r, s), use_bias=not flag(r, 25)),
)
layer("transposed", "conv", L.Conv1DTranspose, short, draw_transposed)


def draw_dense(r: Draw, s: Shape) -> Options:
    units = r.randint(1, 9)
    return dict(units=units, activation=activation_of(r, units), use_bias=not flag(r, 25))


layer("dense", "conv", L.Dense, of_rank(1, 2, 3), draw_dense)


def draw_einsum_dense(r: Draw, s: Shape) -> Options:
    d, e = r.randint(1, 7), r.randint(1, 3)
    length = r.choice([None, s[0]])
    return r.choice(
        [
            dict(equation="btc,cd->btd", output_shape=(length, d), bias_axes="d", gives=(s[0], d)),
            dict(equation="...c,cd->...d", output_shape=(d,), bias_axes="d", gives=(s[0], d)),
            dict(equation="btc,cd->btd", output_shape=(length, d), gives=(s[0], d)),
            dict(equation="btc,cde->btde", output_shape=(length, d, e), bias_axes="e", gives=(s[0], d, e)),
            dict(equation="btc,cd->btd", output_shape=(s[0], d), bias_axes="td", gives=(s[0], d)),
            dict(equation="abc,cd->abd", output_shape=(length, d), activation="relu", gives=(s[0], d)),
            dict(equation="btc,td->bdc", output_shape=(d, s[1]), bias_axes="c", gives=(d, s[1])),
        ]
    )


def draw_einsum_dense_plane(r: Draw, s: Shape) -> Options:
    length = r.choice([None, s[0]])
    return r.choice(
        [
            dict(equation="bthc,hcd->btd", output_shape=(length, 4), bias_axes="d", gives=(s[0], 4)),
            dict(equation="bthc,cd->bthd", output_shape=(length, s[1], 3), bias_axes="hd", gives=(*s[:2], 3)),
            dict(equation="...hc,hcd->...d", output_shape=(5,), gives=(s[0], 5)),
        ]
    )


def einsum_dense(name, gives, **options):
    """With a length that Keras may not know."""
    inner = L.EinsumDense(name=name, **options)
    return Called(inner, lambda x: L.Reshape(gives)(inner(x)))


layer("einsum_dense", "conv", einsum_dense, line, draw_einsum_dense)
layer("einsum_dense_plane", "plane", einsum_dense, plane, draw_einsum_dense_plane)


@op("conv_op", "conv", draw=lambda r, s: dict(seed=r.randint(0, 9), **draw_slide(r, s[0], ["same", "valid"], 5)))
def conv_op(x, seed, kernel_size, strides, dilation_rate, padding):
    kernel = array(seed, (kernel_size, x.shape[-1], 4)) / math.sqrt(kernel_size * x.shape[-1])
    return ops.conv(x, kernel, strides=strides, padding=padding, dilation_rate=dilation_rate)


@op("depthwise_op", "conv", draw=lambda r, s: dict(seed=r.randint(0, 9), **draw_slide(r, s[0], ["same", "valid"], 5)))
def depthwise_op(x, seed, kernel_size, strides, dilation_rate, padding):
    kernel = array(seed, (kernel_size, x.shape[-1], 2)) / math.sqrt(kernel_size)
    return ops.depthwise_conv(x, kernel, strides=strides, padding=padding, dilation_rate=dilation_rate)


@op("product_op", "conv", draw=lambda r, s: dict(seed=r.randint(0, 9), kind=r.choice("matmul dot tensordot".split())))
def product_op(x, seed, kind):
    matrix = array(seed, (x.shape[-1], 5)) / math.sqrt(x.shape[-1])
    return ops.tensordot(x, matrix, axes=1) if kind == "tensordot" else getattr(ops, kind)(x, matrix)


@op("product_of_a_vector", "conv", of_rank(1), lambda r, s: dict(seed=r.randint(0, 9)))
def product_of_a_vector(x, seed):
    return ops.matmul(x, array(seed, (x.shape[-1], 3)) / math.sqrt(x.shape[-1]))


@op(
    "einsum_op",
    "conv",
    draw=lambda r, s: dict(
        seed=r.randint(0, 9), subscripts=r.choice(["blc,cd->bld", "blc,c->bl", "blc,ld->bcd", "...c,cd->...d"])
    ),
)
def einsum_op(x, seed, subscripts):
    sizes = dict(l=x.shape[1], c=x.shape[2], d=3)
    term = subscripts.split("->")[0].split(",")[1]
    return ops.einsum(subscripts, x, array(seed, tuple(sizes[t] for t in term)) / math.sqrt(sizes[term[0]]))


# ---- pooling


def draw_pool(r: Draw, s: Shape) -> Options:
    padding, size = r.choice(["valid", "same"]), r.randint(1, 6)
    strides = r.choice([None, r.randint(1, 5)])
    return dict(pool_size=min(size, s[0]), strides=strides, padding=padding)


layer("max_pool", "pool", L.MaxPooling1D, draw=draw_pool)
layer("average_pool", "pool", L.AveragePooling1D, draw=draw_pool)
for _kind in ("Max", "Average"):
    layer(
        f"adaptive_{_kind.lower()}",
        "pool",
        getattr(L, f"Adaptive{_kind}Pooling1D", None),
        draw=lambda r, s: dict(output_size=r.randint(min(2, s[0]), s[0])),
    )


@op("pool_op", "pool", draw=lambda r, s: dict(kind=r.choice(["max", "average"]), **draw_pool(r, s)))
def pool_op(x, kind, **options):
    return getattr(ops, f"{kind}_pool")(x, **options)


# ---- element by element

UNARY = (
    "relu relu6 sigmoid silu softplus softsign tanh gelu elu selu celu leaky_relu hard_sigmoid hard_silu hard_tanh "
    "hard_shrink soft_shrink tanh_shrink log_sigmoid squareplus sparse_plus sparse_sigmoid abs negative sin cos erf "
    "arctan arcsinh stop_gradient copy square"
).split()
BOUNDED = "exp expm1 tan sinh cosh arcsin log1p reciprocal rsqrt".split() + ["exp2"] * (BACKEND != "tensorflow")
STEPPED = "sign floor ceil round".split()


@op("unary", "point", anything, lambda r, s: dict(f=r.choice(UNARY)), wild=True)
def unary(x, f):
    return getattr(ops, f)(x)


@op("bounded", "point", anything, lambda r, s: dict(f=r.choice(BOUNDED)))
def bounded(x, f):
    """Functions that are large, infinite or undefined far from zero."""
    x = ops.tanh(x) * 0.8
    return getattr(ops, f)(x + 1.5 if f in ("rsqrt", "reciprocal") else x)


@op("stepped", "point", anything, lambda r, s: dict(f=r.choice(STEPPED), offset=r.randint(1, 9)))
def stepped(x, f, offset):
    """With jumps at places where no value lies by construction."""
    return 0.4 * getattr(ops, f)(2.0 * x - 0.1237 * offset) + 0.2 * x


@op("sqrt", "point", anything)
def sqrt(x):
    return ops.sqrt(ops.square(x) + 0.3)


@op("power", "point", anything, lambda r, s: dict(exponent=r.choice([1, 2, 3, 2.0])), wild=True)
def power(x, exponent):
    return ops.power(x, exponent)


@op("one_over", "point", anything)
def one_over(x):
    return ops.divide(1.0, 1.0 + ops.square(x))


@op("filled", "point", anything, lambda r, s: dict(f=r.choice(["zeros_like", "ones_like"])))
def filled(x, f):
    return 0.5 * x + getattr(ops, f)(x)


layer("activation", "point", L.Activation, of_rank(2, 3), lambda r, s: dict(activation=r.choice(ACTIVATIONS[1:])))
layer("activation_of_a_vector", "point", L.Activation, of_rank(1), lambda r, s: dict(activation=r.choice(ACTIVATIONS)))
layer(
    "relu",
    "point",
    L.ReLU,
    anything,
    lambda r, s: r.choice([{}, dict(max_value=1.0, negative_slope=0.1, threshold=0.1), dict(max_value=2.0)]),
)
layer("leaky", "point", L.LeakyReLU, anything)
layer("elu", "point", L.ELU, anything)
layer(
    "prelu",
    "point",
    L.PReLU,
    of_rank(1, 2, 3),
    lambda r, s: r.choice([{}, dict(shared_axes=[1])] if len(s) == 2 else [{}]),
)
layer("softmax", "point", L.Softmax, of_rank(1, 2, 3), lambda r, s: dict(axis=r.choice([-1, -1, -1, len(s), 1])))
layer("rescaling", "point", L.Rescaling, anything, lambda r, s: dict(scale=r.choice([0.5, -1.5]), offset=0.1))
for _name, _options in dict(
    Dropout=dict(rate=0.5), GaussianDropout=dict(rate=0.5), GaussianNoise=dict(stddev=1.0), AlphaDropout=dict(rate=0.1)
).items():
    layer(_name.lower(), "idle", getattr(L, _name), anything, lambda r, s, o=_options: dict(o))
layer("identity", "idle", L.Identity, anything)
layer("regularization", "idle", L.ActivityRegularization, anything)
layer("spatial_dropout", "idle", L.SpatialDropout1D, line, lambda r, s: dict(rate=0.3))
layer("spatial_dropout_2d", "idle", L.SpatialDropout2D, plane, lambda r, s: dict(rate=0.3))


@op(
    "scalar",
    "point",
    anything,
    lambda r, s: dict(f=r.choice("add subtract multiply divide maximum minimum true_divide".split()), left=flag(r, 30)),
)
def scalar(x, f, left):
    if f in ("divide", "true_divide"):
        return getattr(ops, f)(x, 1.7)
    return getattr(ops, f)(0.4, x) if left else getattr(ops, f)(x, 0.4)


@op("arithmetic", "point", anything, lambda r, s: dict(kind=r.randint(0, 3)))
def arithmetic(x, kind):
    return [lambda: 1.0 - x, lambda: x * x * 0.5, lambda: -x + x / 2.0, lambda: abs(x) - 0.3][kind]()


@op(
    "constant",
    "point",
    of_rank(1, 2, 3),
    lambda r, s: dict(
        f=r.choice("add subtract multiply maximum minimum divide".split()),
        seed=r.randint(0, 9),
        kind=r.choice(["all", "positions", "channels", "batch", "one", "ones"]),
        left=flag(r, 30),
        variable=flag(r, 15),
    ),
)
def constant(x, f, seed, kind, left, variable):
    """With an array that may have an axis of positions."""
    shape = tuple(x.shape[1:])
    shape = {
        "all": shape,
        "positions": (shape[0], *[1] * (len(shape) - 1)),
        "channels": shape[-1:],
        "batch": (1, *shape),
        "one": (1,),
        "ones": (1,) * (1 + len(shape)),
    }[kind]
    value = array(seed, shape, 1.0 if f == "divide" else None)
    value = keras.Variable(value, dtype=FLOATX) if variable else value
    return getattr(ops, f)(value, x) if left and f != "divide" else getattr(ops, f)(x, value)


@op("clip", "point", anything, lambda r, s: dict(arrays=flag(r, 30)))
def clip(x, arrays):
    return ops.clip(x, array(1, x.shape[1:], -1.5), array(2, x.shape[1:], 0.5)) if arrays else ops.clip(x, -0.7, 0.9)


COMPARISONS = "greater greater_equal less less_equal not_equal equal".split()


@op(
    "logic",
    "point",
    anything,
    lambda r, s: dict(
        f=r.choice(COMPARISONS), g=r.choice(COMPARISONS[:4]), h=r.choice("logical_and logical_or logical_xor".split())
    ),
)
def logic(x, f, g, h):
    a, b = getattr(ops, f)(x, 0.1371), ops.logical_not(getattr(ops, g)(x, 0.7713))
    return ops.cast(getattr(ops, h)(a, b), FLOATX) + 0.3 * x


@op("where", "point", anything, lambda r, s: dict(kind=r.randint(0, 2)))
def where(x, kind):
    test = ops.greater(x, 0.0713)
    return [lambda: ops.where(test, x, 0.5 * x), lambda: ops.where(test, x, 0.2), lambda: ops.where(test, 0.1, x)][
        kind
    ]()


@op("to_integers", "point", anything)
def to_integers(x):
    return ops.cast(ops.cast(3.0 * x + 0.377, "int32"), FLOATX) * 0.3 + 0.2 * x


# ---- along channels

KEPT = "softmax log_softmax normalize cumsum sort cumprod layer_normalization rms_normalization".split()
REDUCED = "sum mean max min amax amin prod var std logsumexp norm median".split()


@op("along", "along", several, lambda r, s: dict(f=r.choice([f for f in KEPT if hasattr(ops, f)])))
def along(x, f):
    if f in ("layer_normalization", "rms_normalization"):
        return getattr(ops, f)(x, axis=-1)
    return getattr(ops, f)(x + 0.01 if f == "normalize" else x, axis=-1)


@op(
    "reduce_channels",
    "along",
    of_rank(2, 3),
    lambda r, s: dict(f=r.choice(REDUCED), axis=r.choice([-1, len(s)]), keepdims=not flag(r, 30)),
)
def reduce_channels(x, f, axis, keepdims):
    return getattr(ops, f)(x, axis=axis, keepdims=keepdims)


@op("index", "along", several, lambda r, s: dict(f=r.choice(["argmax", "argmin", "argsort"])))
def index(x, f):
    """Ties broken by an offset."""
    ramp = np.linspace(0.0, 0.0371, x.shape[-1]).astype(FLOATX)
    kept = {} if f == "argsort" else dict(keepdims=True)
    return ops.cast(getattr(ops, f)(x + ramp, axis=-1, **kept), FLOATX) * 0.2 + 0.1 * x


@op("one_hot", "along", several)
def one_hot(x):
    ramp = np.linspace(0.0, 0.0371, x.shape[-1]).astype(FLOATX)
    return ops.one_hot(ops.argmax(x + ramp, axis=-1), x.shape[-1], dtype=FLOATX) + 0.2 * x


LOGICAL = ["any", "all"] + ["count_nonzero"] * (BACKEND != "torch")  # where Keras transposes what it gives


@op("logical_reduction", "along", draw=lambda r, s: dict(f=r.choice(LOGICAL)))
def logical_reduction(x, f):
    test = ops.greater(x, 0.0713)
    test = ops.cast(test, "int32") if f == "count_nonzero" else test
    return ops.cast(ops.expand_dims(getattr(ops, f)(test, axis=-1), -1), FLOATX) + 0.1 * x


@op("glu", "along", lambda s: line(s) and s[1] % 2 == 0)
def glu(x):
    return ops.glu(x, axis=-1)


# ---- normalisation

layer(
    "batch_norm",
    "norm",
    L.BatchNormalization,
    of_rank(1, 2, 3),
    lambda r, s: dict(axis=r.choice([-1, -1, 1]), scale=not flag(r, 20), center=not flag(r, 20)),
)
layer(
    "layer_norm",
    "norm",
    L.LayerNormalization,
    several,
    lambda r, s: dict(axis=r.choice([-1] * 6 + [len(s), 1, [1, len(s)]]), center=not flag(r, 20)),
)
layer("unit_norm", "norm", L.UnitNormalization, several)
layer("rms_norm", "norm", getattr(L, "RMSNormalization", None), several)
layer(
    "group_norm",
    "whole",
    L.GroupNormalization,
    draw=lambda r, s: dict(groups=r.choice([d for d in divisors(s[1]) if d < s[1]] or [1])),
)


@op("batch_norm_op", "norm", of_rank(2, 3), lambda r, s: dict(seed=r.randint(0, 9), axis=r.choice([-1, 1])))
def batch_norm_op(x, seed, axis):
    n = x.shape[axis]
    moments = (array(seed, (n,)) * 0.2, array(seed + 1, (n,), 0.5))
    return ops.batch_normalization(x, *moments, axis=axis, offset=array(seed + 2, (n,)), scale=array(seed, (n,), 0.5))


# ---- shape


def draw_cut(r: Draw, length: int, most: int = 9) -> tuple[int, int]:
    left = r.randint(0, min(most, length - 1))
    return left, r.randint(0, min(most, length - 1 - left))


def draw_reshape(r: Draw, s: Shape) -> Options:
    total = math.prod(s)
    first = r.choice([d for d in divisors(total) if d <= 120])
    return dict(target_shape=r.choice([(first, total // first), (-1, total // first), (first, 1, total // first)]))


def draw_regroup(r: Draw, s: Shape) -> Options:
    """Positions joined into coarser ones or split into finer ones."""
    if flag(r, 50):
        k = r.choice(divisors(s[1]))
        return dict(target_shape=(s[0] * k, s[1] // k))
    k = r.choice([d for d in divisors(s[0]) if d <= 4])
    return dict(target_shape=(s[0] // k, s[1] * k))


layer("crop", "shape", L.Cropping1D, draw=lambda r, s: dict(cropping=draw_cut(r, s[0])))
layer("zero_pad", "shape", L.ZeroPadding1D, draw=lambda r, s: dict(padding=(r.randint(0, 5), r.randint(0, 5))))
layer("upsample", "shape", L.UpSampling1D, short, lambda r, s: dict(size=r.randint(1, 4)))
layer("flatten", "flat", L.Flatten, of_rank(2, 3))
layer("reshape", "whole", L.Reshape, of_rank(2, 3), draw_reshape)
layer("regroup", "shape", L.Reshape, line, draw_regroup)
layer("to_plane", "plane", L.Reshape, line, lambda r, s: dict(target_shape=r.choice([(-1, 1, s[1]), (*s, 1)])))
layer("to_line", "plane", L.Reshape, plane, lambda r, s: dict(target_shape=(s[0], s[1] * s[2])))
layer("permute", "whole", L.Permute, line, lambda r, s: dict(dims=r.choice([(1, 2), (2, 1)])))
layer(
    "permute_plane",
    "plane",
    L.Permute,
    plane,
    lambda r, s: dict(dims=r.choice([(1, 3, 2), (1, 2, 3), (2, 1, 3), (3, 2, 1)])),
)
layer("unflatten", "flat", L.Reshape, of_rank(1), lambda r, s: dict(target_shape=r.choice([(-1, 1), (1, -1)])))
layer(
    "repeat_vector", "flat", L.RepeatVector, lambda s: len(s) == 1 and s[0] < 20, lambda r, s: dict(n=r.randint(1, 9))
)

# ---- moving values


def draw_slice(r: Draw, n: int) -> tuple[int | None, int | None, int | None]:
    left, right = draw_cut(r, n)
    step = r.choice([None, None, 1, 2, 3])
    if flag(r, 15) and BACKEND != "torch":  # which has no negative steps
        return None, None, -(step or 1)
    return left or None, r.choice([n - right, -right]) if right else None, step


@op(
    "slice",
    "move",
    of_rank(1, 2, 3),
    lambda r, s: dict(
        slices=tuple(draw_slice(r, n) if i == 0 or flag(r, 20) else (None,) * 3 for i, n in enumerate(s))
    ),
)
def slice_(x, slices):
    return x[(slice(None), *[slice(*s) for s in slices])]


@op("one_position", "flat", of_rank(2, 3), lambda r, s: dict(position=r.randint(-1, s[0] - 1)))
def one_position(x, position):
    return x[:, position]


@op("one_channel", "move", of_rank(2, 3), lambda r, s: dict(channel=r.randint(0, s[-1] - 1)))
def one_channel(x, channel):
    return x[..., channel]


@op("axis_in_and_out", "move", line, lambda r, s: dict(axis=r.choice([1, 2, 3])))
def axis_in_and_out(x, axis):
    y = ops.expand_dims(x, axis)
    return ops.squeeze(y * 0.5, axis)


@op("flip", "move", of_rank(1, 2, 3), lambda r, s: dict(axis=r.choice([1, len(s), tuple(range(1, len(s) + 1))])))
def flip(x, axis):
    return ops.flip(x, axis=axis)


@op("roll", "move", of_rank(1, 2, 3), lambda r, s: dict(shift=r.randint(-9, 9), axis=r.choice([1, len(s)])))
def roll(x, shift, axis):
    return ops.roll(x, shift, axis=axis)


@op(
    "pad",
    "move",
    of_rank(2, 3),
    lambda r, s: dict(
        widths=tuple((r.randint(0, 4), r.randint(0, 4)) if i == 0 or flag(r, 30) else (0, 0) for i in range(len(s))),
        mode=r.choice(["constant", "constant", "reflect", "symmetric"]),
        value=r.choice([0.0, 0.3]),
    ),
)
def pad(x, widths, mode, value):
    given = dict(constant_values=value) if mode == "constant" else {}
    return ops.pad(x, ((0, 0), *widths), mode=mode, **given)


@op("repeat", "move", short, lambda r, s: dict(repeats=r.randint(1, 3), axis=r.choice([1, 1, 2])))
def repeat(x, repeats, axis):
    return ops.repeat(x, repeats, axis=axis)


def draw_take(r: Draw, s: Shape) -> Options:
    axis = r.choice([1, 1, len(s)])
    return dict(indices=[r.randint(0, s[axis - 1] - 1) for _ in range(r.randint(1, 9))], axis=axis)


@op("take", "move", of_rank(1, 2, 3), draw_take)
def take(x, indices, axis):
    return ops.take(x, indices, axis=axis)


@op("tile", "move", short, lambda r, s: dict(repeats=(1, r.randint(1, 3), r.randint(1, 2))))
def tile(x, repeats):
    return ops.tile(x, repeats)


@op(
    "transpose",
    "whole",
    of_rank(2, 3),
    lambda r, s: dict(
        kind=r.choice(["transpose", "swapaxes", "moveaxis"]),
        axes=r.choice([(1, 2), (1, 3), (2, 3)][:: 1 if s[2:] else 3]),
    ),
)
def transpose(x, kind, axes):
    if kind != "transpose":
        return getattr(ops, kind)(x, *axes)
    order = list(range(len(x.shape)))
    order[axes[0]], order[axes[1]] = axes[1], axes[0]
    return ops.transpose(x, order)


@op("reshape_op", "move", of_rank(2, 3), lambda r, s: draw_regroup(r, s) if line(s) else draw_reshape(r, s))
def reshape_op(x, target_shape):
    known = math.prod(x.shape[1:])
    return ops.reshape(x, (-1, *[known // -math.prod(target_shape) if n < 0 else n for n in target_shape]))


def draw_split(r: Draw, s: Shape) -> Options:
    axis = r.choice([1, len(s)])
    n = s[axis - 1]
    if flag(r, 50) and n > 1:
        return dict(parts=sorted({r.randint(1, n - 1) for _ in range(r.randint(1, 2))}), axis=axis)
    return dict(parts=r.choice([d for d in divisors(n) if d <= 4]), axis=axis)


@op("split", "move", of_rank(2, 3), draw_split)
def split(x, parts, axis):
    return ops.split(x, parts, axis=axis)


@op("unstack", "move", lambda s: len(s) == 2 and min(s) <= 6, lambda r, s: dict(axis=1 if s[0] <= s[1] else 2))
def unstack(x, axis):
    return ops.unstack(x, axis=axis)


# ---- over positions

layer("global_max", "reduce", L.GlobalMaxPooling1D, draw=lambda r, s: dict(keepdims=flag(r, 30)))
layer("global_average", "reduce", L.GlobalAveragePooling1D, draw=lambda r, s: dict(keepdims=flag(r, 30)))
layer("global_max_2d", "reduce", L.GlobalMaxPooling2D, plane, lambda r, s: dict(keepdims=flag(r, 30)))
layer("global_average_2d", "reduce", L.GlobalAveragePooling2D, plane, lambda r, s: dict(keepdims=flag(r, 30)))


@op(
    "over_positions",
    "reduce",
    of_rank(2, 3),
    lambda r, s: dict(
        f=r.choice("mean sum max min logsumexp amax amin var prod argmax".split()),
        axis=r.choice([1, -len(s), (1, len(s)), (1,)]),
        keepdims=flag(r, 30),
    ),
)
def over_positions(x, f, axis, keepdims):
    if f == "argmax":
        ramp = np.linspace(0.0, 0.0371, math.prod(x.shape[1:])).astype(FLOATX)
        y = ops.argmax(x + ramp.reshape(x.shape[1:]), axis=1, keepdims=keepdims)
        return ops.cast(y, FLOATX) * 0.05
    return getattr(ops, f)(ops.tanh(x) if f == "prod" else x, axis=axis, keepdims=keepdims)


@op(
    "along_positions",
    "whole",
    of_rank(2, 3),
    lambda r, s: dict(f=r.choice("softmax cumsum sort normalize log_softmax".split())),
)
def along_positions(x, f):
    return getattr(ops, f)(x + 0.01 if f == "normalize" else x, axis=1)


# ---- a second axis


def small(s: Shape) -> bool:
    return plane(s) and s[0] <= 40 and math.prod(s) <= 600


def draw_conv_2d(r: Draw, s: Shape) -> Options:
    o = draw_slide(r, s[0], ["same", "valid"])
    wide = r.choice([1, 3, 2] if o["padding"] == "same" else [1, s[1]])
    return dict(
        kernel_size=(o["kernel_size"], wide),
        strides=(o["strides"], o["strides"] if s[1] == 1 and o["strides"] > 1 and flag(r, 30) else 1),
        dilation_rate=(o["dilation_rate"], 1),
        padding=o["padding"],
        activation=r.choice(ACTIVATIONS[:12]),
    )


def draw_depthwise_2d(r: Draw, s: Shape) -> Options:
    o = draw_conv_2d(r, s)
    return {**o, "strides": (o["strides"][0],) * 2}  # TensorFlow has no others


layer("conv_2d", "plane", L.Conv2D, plane, lambda r, s: dict(filters=r.randint(1, 6), **draw_conv_2d(r, s)))
layer("depthwise_2d", "plane", L.DepthwiseConv2D, plane, draw_depthwise_2d)
layer(
    "separable_2d",
    "plane",
    L.SeparableConv2D,
    plane,
    lambda r, s: dict(filters=r.randint(1, 6), **draw_depthwise_2d(r, s)),
)
layer(
    "transposed_2d",
    "plane",
    L.Conv2DTranspose,
    small,
    lambda r, s: dict(
        filters=r.randint(1, 5),
        kernel_size=(r.randint(1, 6), r.choice([1, 1, 3])),
        strides=(r.randint(1, 3), 1),
        padding=r.choice(["same", "valid"]),
    ),
)


def draw_pool_2d(r: Draw, s: Shape) -> Options:
    o = draw_pool(r, s)
    strides = None if o["strides"] is None else (o["strides"], 1)
    return dict(pool_size=(o["pool_size"], r.choice([1, s[1]])), strides=strides, padding=o["padding"])


layer("max_pool_2d", "plane", L.MaxPooling2D, plane, draw_pool_2d)
layer("average_pool_2d", "plane", L.AveragePooling2D, plane, draw_pool_2d)
layer("crop_2d", "plane", L.Cropping2D, plane, lambda r, s: dict(cropping=(draw_cut(r, s[0], 5), draw_cut(r, s[1], 1))))
layer(
    "zero_pad_2d",
    "plane",
    L.ZeroPadding2D,
    plane,
    lambda r, s: dict(padding=((r.randint(0, 4), r.randint(0, 4)), r.choice([(0, 0), (0, 1)]))),
)
layer("upsample_2d", "plane", L.UpSampling2D, small, lambda r, s: dict(size=(r.randint(1, 3), r.choice([1, 1, 2]))))


def time_distributed(name, inner, units):
    make = dict(
        dense=lambda: L.Dense(units, activation="tanh"),
        conv=lambda: L.Conv1D(units, 2, padding="same", activation="relu"),
        pool=lambda: L.GlobalMaxPooling1D(),
        flatten=lambda: L.Flatten(),
        norm=lambda: L.LayerNormalization(),
    )
    return L.TimeDistributed(make[inner](), name=name)


layer(
    "time_distributed",
    "conv",
    time_distributed,
    of_rank(2, 3),
    lambda r, s: dict(
        inner=r.choice(["dense", "norm"][: s[-1]] if line(s) else "dense conv pool flatten norm".split()),
        units=r.randint(1, 5),
    ),
)

# ---- what has no rule


def bidirectional(name, cell, units, return_sequences):
    return L.Bidirectional(getattr(L, cell)(units, return_sequences=return_sequences), name=name)


def self_attention(name, kind, heads, causal):
    inner = dict(
        multi=lambda: L.MultiHeadAttention(heads, 3, name=name),
        grouped=lambda: L.GroupQueryAttention(3, 2 * heads, heads, name=name),
        plain=lambda: L.Attention(name=name, use_scale=True),
        additive=lambda: L.AdditiveAttention(name=name),
    )[kind]()
    if kind in ("plain", "additive"):
        return Called(inner, lambda x: inner([x, x], use_causal_mask=causal))
    return Called(inner, lambda x: inner(x, x, use_causal_mask=causal))


def recurrent(name, cell, units, return_sequences):
    return getattr(L, cell)(units, return_sequences=return_sequences, name=name)


def draw_recurrent(r: Draw, s: Shape) -> Options:
    return dict(
        cell=r.choice("SimpleRNN GRU LSTM".split()),
        units=r.randint(1, 3),
        return_sequences=flag(r, 50),
    )


layer("recurrent", "whole", recurrent, lambda s: short(s, 30), draw_recurrent)
layer("bidirectional", "whole", bidirectional, lambda s: short(s, 20), draw_recurrent)
layer(
    "attention",
    "whole",
    self_attention,
    lambda s: short(s, 60),
    lambda r, s: dict(
        kind=r.choice("multi multi grouped plain additive".split()), heads=r.randint(1, 2), causal=flag(r, 20)
    ),
)
layer("masking", "whole", L.Masking, line)
layer("layer_norm_of_all", "whole", L.LayerNormalization, line, lambda r, s: dict(axis=[1, 2]))


@op("embedding", "whole", line)
def embedding(x):
    codes = ops.argmax(x + np.linspace(0.0, 0.0371, x.shape[-1]).astype(FLOATX), axis=-1)
    return ops.take(array(3, (x.shape[-1], 4)), codes, axis=0)


@op("cross_product", "whole", lambda s: short(s, 40))
def cross_product(x):
    return ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))) * 0.3), x)


@op(
    "no_rule",
    "whole",
    anything,
    lambda r, s: dict(f=r.choice("log1p sinc isfinite nan_to_num trunc heaviside".split())),
)
def no_rule(x, f):
    y = {"log1p": lambda: ops.log1p(ops.square(x)), "trunc": lambda: ops.trunc(3.0 * x + 0.377)}
    if f == "heaviside":
        return ops.heaviside(x - 0.0713, np.full((1,), 0.5, FLOATX)) + 0.2 * x
    return ops.cast(y.get(f, lambda: getattr(ops, f)(x))(), FLOATX) + 0.2 * x


# ---- custom layers, which are looked into


class Custom(L.Layer):
    """Layers of users: other layers, weights and operations inside."""

    def __init__(self, kind: str, units: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.units = kind, units

    def build(self, shape):
        self.conv = L.Conv1D(self.units, 3, padding="same", activation="relu")
        self.dense = L.Dense(shape[-1], activation="sigmoid")
        self.norm = L.LayerNormalization()
        self.table = self.add_weight(shape=(1, *shape[1:]), name="table_by_position")
        for inner in (self.conv, self.dense, self.norm):
            inner.build(shape)

    def call(self, x, training=None):
        return getattr(self, self.kind)(x)

    def residual(self, x):
        y = self.conv(self.norm(x))
        return ops.concatenate([x, ops.gelu(y)], axis=-1)

    def gated(self, x):
        return x * self.dense(x) + self.table

    def both_strands(self, x):
        return 0.5 * (self.conv(x) + ops.flip(self.conv(ops.flip(x, axis=1)), axis=1))

    def shifted(self, x):
        return ops.concatenate([ops.pad(x[:, 2:], ((0, 0), (0, 2), (0, 0))), x], axis=-1)

    def attention_pool(self, x):
        t, c = x.shape[1] // 2, x.shape[2]
        y = ops.reshape(x[:, : 2 * t], (-1, t, 2, c))
        return ops.sum(y * ops.softmax(y, axis=2), axis=2)

    def local_and_pooled(self, x):
        return self.conv(x), ops.mean(x, axis=1)

    def gate_of_mean(self, x):
        return x * ops.expand_dims(self.dense(ops.mean(x, axis=1)), 1)

    def mixing(self, x):
        return x + ops.softmax(self.conv(x)[..., :1], axis=1)


CUSTOM = "residual gated both_strands shifted attention_pool local_and_pooled gate_of_mean mixing".split()
layer(
    "custom",
    "custom",
    Custom,
    lambda s: line(s) and s[0] > 1,
    lambda r, s: dict(kind=r.choice(CUSTOM), units=r.randint(1, 5)),
)


def lambda_layer(name, kind):
    f = dict(
        square=lambda x: ops.square(x) * 0.5,
        flipped=lambda x: ops.flip(x, axis=1),
        centred=lambda x: x - ops.mean(x, axis=1, keepdims=True),
    )[kind]
    return L.Lambda(f, name=name)


layer("lambda", "custom", lambda_layer, line, lambda r, s: dict(kind=r.choice("square flipped centred".split())))

# ---- joins, drawn by join() below

MERGES = "Add Subtract Multiply Average Maximum Minimum".split()


def merge(name, kind, **options):
    inner = getattr(L, kind)(name=name, **options)
    return Called(inner, lambda *x: inner(list(x)))


def joined(name, f, **options):
    several = f in ("concatenate", "stack")
    return lambda *x: getattr(ops, f)(*([list(x)] if several else x), **options)


layer("merge", "join", merge, never)
layer("joined", "join", joined, never)


@op("einsum_pair", "join", never)
def einsum_pair(x, y, subscripts):
    return ops.einsum(subscripts, x, y)


@op("where_pair", "join", never)
def where_pair(x, y):
    return ops.where(ops.greater(x, 0.0713), x, y)


@op("attend", "join", never)
def attend(x, y):
    return ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(y, (0, 2, 1))) * 0.3), y)


def cross_attention(name, heads):
    inner = L.MultiHeadAttention(heads, 3, name=name)
    return Called(inner, inner)


layer("cross_attention", "join", cross_attention, never)


# ------------------------------------------------------------------------------------------ recipes


@dataclass(frozen=True)
class Step:
    """A piece, the numbers of the values that it takes (inputs first, then outputs of steps in order), its options."""

    piece: str
    takes: tuple[int, ...]
    options: Options

    def __repr__(self) -> str:
        return f"Step({self.piece!r}, {self.takes!r}, {self.options!r})"


@dataclass(frozen=True)
class Edit:
    """What is asked of FastISM.

    Attributes:
        n: Sequences.
        ranges: What is overwritten; for a saturation, single positions in a row.
        content: ``"letters"`` for a saturation, ``"zeros"``, ``"letter"``, ``"soft"`` or ``"random"``.
        batch_size: Variants in a chunk.
        channels: Letters among the channels.
        stop: Numbers of steps whose layers are named in ``early_stop_layers``.
        outputs: Which outputs, None for all.
        reduce: Name of a function of the outputs, None for none.
        explain: Whether to ask for an explanation, too.
    """

    n: int
    ranges: tuple[tuple[int, int], ...]
    content: str
    batch_size: int | str = "auto"
    channels: tuple[int, ...] | None = None
    stop: tuple[int, ...] = ()
    outputs: tuple[int, ...] | int | None = None
    reduce: str | None = None
    explain: bool = False


@dataclass(frozen=True)
class Recipe:
    """A model and a question.

    Attributes:
        inputs: Shapes without batch axis.
        mutated: Which of them.
        steps: In order.
        outputs: Numbers of values.
        packed: ``"list"`` or ``"dict"``.
        edit: The question.
        seed: Of weights and sequences.
    """

    inputs: tuple[Shape, ...]
    mutated: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    packed: str
    edit: Edit
    seed: int = field(default=0)

    def __str__(self) -> str:
        """As Python, one step a line."""
        first = len(self.inputs)
        lines = [f"        {s!r},{'  # ' + str(first + i)}" for i, s in enumerate(self.steps)]
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "steps"}
        return "\n".join(
            ["Recipe(", "    steps=(", *lines, "    ),", *[f"    {k}={v!r}," for k, v in rest.items()], ")"]
        )


#: Largest number of values, and of positions, that a tensor may have.
MOST_VALUES, MOST_POSITIONS = 1600, 140


class Builder:
    """Turns steps into tensors, one by one.

    Args:
        inputs: Symbolic tensors.
        prefix: Of the names of layers.
    """

    def __init__(self, inputs: Sequence[Any], prefix: str = ""):
        self.prefix = prefix
        self.values = list(inputs)
        self.steps: list[Step] = []
        self.made: list[Any] = []
        self.gives: list[list[int]] = []
        self.depends = [True] * len(self.values)
        self.used: set[int] = set()

    def shape(self, i: int) -> Shape:
        return tuple(self.values[i].shape[1:])

    def add(self, piece: str, takes: Sequence[int], **options: Any) -> list[int]:
        """Append a step; gives the numbers of its values.

        Raises:
            Exception: If Keras refuses it, or its result is too large.
        """
        step = Step(piece, tuple(takes), options)
        made = self.again(options["step"]) if piece == "again" else make(step, self.name(len(self.steps), piece))
        out = made(*[self.values[i] for i in takes])
        out = list(out) if isinstance(out, list | tuple) else [out]
        for y in out:
            shape = tuple(y.shape[1:])
            if None in shape or not 0 < math.prod(shape) <= MOST_VALUES or shape[:1] > (MOST_POSITIONS,) < shape[1:]:
                raise ValueError(f"{piece} gives a tensor of shape {shape}")
        self.steps.append(step)
        self.made.append(made)
        self.used.update(takes)
        self.values.extend(out)
        self.depends.extend([any(self.depends[i] for i in takes)] * len(out))
        self.gives.append(list(range(len(self.values) - len(out), len(self.values))))
        return self.gives[-1]

    def again(self, step: int) -> Any:
        return self.made[step]

    def name(self, i: int, piece: str) -> str:
        return f"{self.prefix}s{i}_{piece}"


def make(step: Step, name: str) -> Any:
    make = nested if step.piece == "nested" else PIECES[step.piece].make
    return make(name=name, **step.options)


def nested(name: str, shape: Shape, steps: Sequence[Step], outputs: Sequence[int], sequential: bool) -> Any:
    """A model inside the model."""
    builder = Builder([L.Input(shape)], prefix=f"{name}_")
    for step in steps:
        builder.add(step.piece, step.takes, **step.options)
    if sequential:
        return keras.Sequential([L.Input(shape), *builder.made], name=name)
    out = [builder.values[i] for i in outputs]
    return keras.Model(builder.values[0], out if len(out) > 1 else out[0], name=name)


def built(recipe: Recipe) -> Builder:
    """All steps of a recipe."""
    builder = Builder([L.Input(shape, name=f"in{i}") for i, shape in enumerate(recipe.inputs)])
    for step in recipe.steps:
        builder.add(step.piece, step.takes, **step.options)
    return builder


def build(recipe: Recipe) -> keras.Model:
    """The model of a recipe."""
    builder = built(recipe)
    inputs = builder.values[: len(recipe.inputs)]
    outputs = [builder.values[i] for i in recipe.outputs]
    if recipe.packed == "dict":
        return keras.Model(inputs, dict(zip("profile count extra more".split(), outputs, strict=False)))
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


# ------------------------------------------------------------------------------------------ drawing

#: How often pieces of a group are drawn; an axis beside the positions is worked on while it is there.
GROUPS = dict(
    conv=8, point=8, pool=4, norm=3, shape=4, move=6, along=3, join=8, gate=1, again=2, nested=1, custom=2, plane=2,
    idle=1, reduce=1, flat=1, whole=1,
)  # fmt: skip
GROUPS_OF_PLANES = {**GROUPS, "plane": 40, "whole": 2}
#: How often Keras refused a piece as drawn.
REFUSED: Counter[str] = Counter()


def grow(r: Draw, b: Builder, depth: int = 0) -> None:
    """Append a step or a few to a random value, most often the last."""
    last = len(b.values) - 1
    i = r.randint(0, last) if flag(r, 20) or not b.shape(last) else last
    shape = b.shape(i)
    by_group: dict[str, list[str]] = {}
    for name, piece in PIECES.items():
        if piece.fits(shape):
            by_group.setdefault(piece.group, []).append(name)
    special = {"join": join, "gate": gate, "again": again, "nested": nest}
    known = [g for g in GROUPS if g in by_group or (g in special and not (depth and g == "nested"))]
    weights = GROUPS_OF_PLANES if plane(shape) else GROUPS
    group = r.choice([g for g in known for _ in range(weights[g])])
    if group in special:
        special[group](r, b, i)
        return
    name = r.choice(by_group[group])
    try_add(r, b, name, i)


def try_add(r: Draw, b: Builder, name: str, i: int) -> int | None:
    """Draw a piece and add it, and perhaps a normalisation; the number of its value, None if Keras refuses."""
    out = put(b, name, [i], **PIECES[name].draw(r, b.shape(i)))
    if not out:
        return None
    shape = b.shape(out[-1])
    if PIECES[name].wild and flag(r, 70):
        calm = r.choice(["tanh", "layer_norm"]) if len(shape) > 1 and shape[-1] > 1 else "tanh"
        out = put(b, "unary", out[-1:], f="tanh") if calm == "tanh" else put(b, calm, out[-1:], axis=-1)
    return out[-1] if out else None


def put(b: Builder, name: str, takes: Sequence[int], **options: Any) -> list[int]:
    """Add a piece as given; nothing if Keras refuses."""
    try:
        return b.add(name, takes, **options)
    except Exception:  # whatever Keras says to options that do not fit
        REFUSED[name] += 1
        return []


def same_length(r: Draw, b: Builder, j: int, length: int) -> int | None:
    """Value ``j`` cut, padded or repeated to a number of positions."""
    (n, *_), out = b.shape(j), [j]
    if n > length:
        left = r.randint(0, n - length)
        kind = r.choice(["crop", "slice", "take"])
        if kind == "crop":
            out = put(b, "crop", [j], cropping=(left, n - length - left))
        elif kind == "slice":
            out = put(b, "slice", [j], slices=((left, left + length, None),))
        else:
            out = put(b, "take", [j], indices=[(left + i) % n for i in range(length)], axis=1)
    elif n < length:
        left = r.randint(0, length - n)
        kind = r.choice(["zero_pad", "pad"] + ["upsample"] * (length % n == 0))
        if kind == "upsample":
            out = put(b, "upsample", [j], size=length // n)
        elif kind == "zero_pad":
            out = put(b, "zero_pad", [j], padding=(left, length - n - left))
        else:
            out = put(b, "pad", [j], widths=((left, length - n - left), (0, 0)), mode="constant", value=0.3)
    return out[-1] if out else None


def same_channels(r: Draw, b: Builder, j: int, n: int) -> int | None:
    """Value ``j`` brought to a number of channels."""
    if b.shape(j)[-1] == n:
        return j
    out = put(b, "dense", [j], units=n, activation=r.choice(ACTIVATIONS[:4]))
    return out[-1] if out else None


def merge_kind(r: Draw, i: int, j: int) -> str:
    """Not the difference of a value and itself."""
    return r.choice([m for m in MERGES if i != j or m != "Subtract"])


def join(r: Draw, b: Builder, i: int) -> None:
    """Value ``i`` with another, brought to its length and channels."""
    rank = len(b.shape(i))
    if rank not in (1, 2, 3):
        return
    others = [k for k in range(len(b.values)) if len(b.shape(k)) == rank]
    j = r.choice(others[::-1])
    if rank == 3:
        if b.shape(i)[:2] == b.shape(j)[:2]:
            k = same_channels(r, b, j, b.shape(i)[-1])
            if k is not None:
                put(b, "merge", [i, k], kind=merge_kind(r, i, k))
        return
    kind = r.choice("merge merge merge concat ops concat_positions einsum where stack attend three broadcast".split())
    if rank == 1:
        if kind in ("concat", "concat_positions", "attend", "stack"):
            put(b, "merge", [i, j], kind="Concatenate", axis=r.choice([-1, 1]))
            return
        k = same_channels(r, b, j, b.shape(i)[-1])
        if k is not None:
            put(b, "merge", [i, k], kind=merge_kind(r, i, k))
        return
    if kind == "attend":
        k = same_channels(r, b, j, b.shape(i)[1])
        if k is not None and max(b.shape(i)[0], b.shape(k)[0]) <= 60:
            if flag(r, 60):
                put(b, "cross_attention", [i, k], heads=r.randint(1, 2))
            else:
                put(b, "attend", [i, k])
        return
    if kind == "concat_positions":
        k = same_channels(r, b, j, b.shape(i)[1])
        if k is not None:
            pair = [i, k][:: r.choice([1, -1])]
            if flag(r, 50):
                put(b, "merge", pair, kind="Concatenate", axis=1)
            else:
                put(b, "joined", pair, f="concatenate", axis=1)
        return
    k = same_length(r, b, j, b.shape(i)[0])
    if k is None:
        return
    if kind == "concat":
        pair = [i, k][:: r.choice([1, -1])]
        if flag(r, 70):
            put(b, "merge", pair, kind="Concatenate", axis=-1)
        else:
            put(b, "joined", pair, f="concatenate", axis=r.choice([-1, 2]))
        return
    if kind == "broadcast":  # one channel against several
        put_one = put(b, "dense", [k], units=1, activation="tanh")
        if put_one:
            pair = [i, put_one[-1]][:: r.choice([1, -1])]
            put(b, "merge", pair, kind=r.choice(MERGES))
        return
    k = same_channels(r, b, k, b.shape(i)[1])
    if k is None:
        return
    if kind == "merge":
        put(b, "merge", [i, k], kind=merge_kind(r, i, k))
    elif kind == "three":
        h = r.choice([i, k])
        put(b, "merge", [i, k, h], kind=r.choice([m for m in MERGES if m != "Subtract"]))
    elif kind == "ops":
        put(b, "joined", [i, k], f=merge_kind(r, i, k).lower().replace("average", "add"))
    elif kind == "einsum":
        put(b, "einsum_pair", [i, k], subscripts=r.choice(["blc,blc->blc", "blc,blc->bl", "blc,bld->bcd"]))
    elif kind == "where":
        put(b, "where_pair", [i, k])
    else:
        out = put(b, "joined", [i, k], f="stack", axis=r.choice([1, 2, 3, -1]))
        if out and len(b.shape(out[0])) == 3:
            s = b.shape(out[0])
            put(b, "reshape_op", out, target_shape=(s[0], s[1] * s[2]))


def gate(r: Draw, b: Builder, i: int) -> None:
    """A map times (or plus, or beside) something made of all its positions."""
    shape = b.shape(i)
    if len(shape) != 2:
        if shape:
            try_add(r, b, "dense" if len(shape) != 3 else "to_line", i)
        return
    kind = r.choice(["global_average", "global_max", "mean", "logsumexp", "max"])
    kept = flag(r, 50)
    if kind.startswith("global"):
        out = put(b, kind, [i], keepdims=kept)
    else:
        out = put(b, "over_positions", [i], f=kind, axis=1, keepdims=kept)
    out = out and put(b, "dense", out, units=r.randint(1, 4), activation="silu")
    out = out and put(b, "dense", out, units=shape[1], activation="sigmoid")
    if out and not kept and flag(r, 50):
        out = put(b, "unflatten", out, target_shape=(1, -1))
    if out and len(b.shape(out[0])) == 2 and flag(r, 30):
        out = put(b, "upsample", out, size=shape[0])
    if out:
        put(b, "merge", [i, out[0]], kind=r.choice(["Multiply", "Multiply", "Add", "Maximum"]))


def again(r: Draw, b: Builder, i: int) -> None:
    """A layer that was called before, called once more."""
    shape, fit = b.shape(i), []
    for k, step in enumerate(b.steps):
        if len(step.takes) != 1 or not isinstance(b.made[k], L.Layer | Called) or step.piece == "again":
            continue
        before = b.shape(step.takes[0])
        alike = step.piece in ("conv", "dense", "separable", "max_pool", "batch_norm", "layer_norm") and line(shape)
        if before == shape or (alike and line(before) and before[1] == shape[1]):
            fit.append(k)
    if fit:
        put(b, "again", [i], step=r.choice(fit))
    else:
        try_add(r, b, "dense", i)


def nest(r: Draw, b: Builder, i: int) -> None:
    """A model inside, sometimes called twice."""
    shape = b.shape(i)
    inner = Builder([L.Input(shape)])
    for _ in range(r.randint(1, 4)):
        grow(r, inner, depth=1)
    if not inner.steps:
        return
    chain = all(s.takes == (k,) for k, s in enumerate(inner.steps)) and len(inner.values) == len(inner.steps) + 1
    layers = chain and all(isinstance(m, L.Layer) for m in inner.made)
    outputs = [len(inner.values) - 1]
    if not layers and flag(r, 40) and len(inner.values) > 2:
        outputs.append(r.randint(1, len(inner.values) - 2))
    sequential = layers and flag(r, 50)
    put(b, "nested", [i], shape=shape, steps=tuple(inner.steps), outputs=tuple(outputs), sequential=sequential)
    if b.steps and b.steps[-1].piece == "nested" and flag(r, 40) and b.shape(len(b.values) - 1) == shape:
        put(b, "again", [len(b.values) - 1], step=len(b.steps) - 1)


def draw_recipe(r: Draw) -> Recipe:
    """A random model and what to ask of it."""
    length = r.randint(12, 60)
    alphabet = r.choice([4] * 8 + [6, 20])
    shapes: list[Shape] = [(length, alphabet)]
    mutated = 0
    if flag(r, 20):
        shapes.append(r.choice([(length, 2), (3,), (length, alphabet)]))
        if flag(r, 50):
            shapes, mutated = shapes[::-1], 1
    b = Builder([L.Input(s) for s in shapes])
    b.depends = [i == mutated for i in range(len(shapes))]
    if flag(r, 85):
        try_add(r, b, "conv", mutated)
    most = r.randint(1, 11)
    for _ in range(most):
        grow(r, b)
    if flag(r, 35):
        finish(r, b)
    if not any(b.depends[len(shapes) :]):
        try_add(r, b, "conv", mutated)
    outputs = draw_outputs(r, b, len(shapes), mutated)
    steps, outputs, _ = living(b, len(shapes), outputs)
    packed = "dict" if flag(r, 15) and len(outputs) <= 4 else "list"
    edit = draw_edit(r, steps, length, alphabet, outputs)
    return Recipe(tuple(shapes), mutated, tuple(steps), outputs, packed, edit, r.randint(0, 999))


def living(b: Builder, first: int, outputs: Sequence[int]) -> tuple[list[Step], tuple[int, ...], list[int]]:
    """The steps that outputs depend on, and those whose layers these call again; outputs renumbered; which steps."""
    needed, kept = set(outputs), []
    for k in reversed(range(len(b.steps))):
        if needed & set(b.gives[k]) or k in kept:
            kept.append(k)
            needed.update(b.steps[k].takes)
            if b.steps[k].piece == "again":
                kept_layer = b.steps[k].options["step"]
                needed.update(b.gives[kept_layer])
    kept = sorted(set(kept))
    value = {i: i for i in range(first)}
    for k in kept:
        value.update({i: len(value) + n for n, i in enumerate(b.gives[k])})
    steps = []
    for k in kept:
        step = b.steps[k]
        options = {**step.options, "step": kept.index(step.options["step"])} if step.piece == "again" else step.options
        steps.append(Step(step.piece, tuple(value[i] for i in step.takes), options))
    return steps, tuple(value[i] for i in outputs), kept


def finish(r: Draw, b: Builder) -> None:
    """A usual head."""
    i = len(b.values) - 1
    if len(b.shape(i)) > 1:
        out = put(b, r.choice(["flatten", "global_max", "global_average"]) if line(b.shape(i)) else "flatten", [i])
        i = out[-1] if out else i
    put(b, "dense", [i], units=r.randint(1, 3))


def draw_outputs(r: Draw, b: Builder, first: int, mutated: int) -> tuple[int, ...]:
    """The last values that nothing takes, and sometimes one that something takes."""
    ends = [i for i in range(first, len(b.values)) if i not in b.used]
    ends = [i for i in ends if b.depends[i]][-r.randint(1, 3) :] + [i for i in ends if not b.depends[i]][:1]
    if flag(r, 20) and len(b.values) > first:
        ends.append(r.randint(first, len(b.values) - 1))
    ends = list(dict.fromkeys(ends))
    if not any(b.depends[i] for i in ends):
        ends.append(max(i for i in range(len(b.values)) if b.depends[i]))
    if flag(r, 3):
        ends.append(mutated)
    return tuple(dict.fromkeys(ends))


def draw_edit(r: Draw, steps: Sequence[Step], length: int, alphabet: int, outputs: Sequence[int]) -> Edit:
    n = r.randint(1, 3)
    if flag(r, 50):
        content, size = "letters", min(length, r.randint(1, 20))
        first = r.choice([0, length - size, r.randint(0, length - size)])
        ranges = [(p, p + 1) for p in range(first, first + size)]
    else:
        content = r.choice("zeros letter soft random".split())
        width = r.choice([1, 2, 3, 4, 5, 6, 7, length // 2, length])
        starts = {r.choice([0, length - width, r.randint(0, length - width)]) for _ in range(r.randint(1, 7))}
        ranges = [(s, s + width) for s in sorted(starts)]
    channels = None
    if alphabet > 4 or flag(r, 8):
        channels = tuple(sorted(r.sample(range(alphabet), min(4, alphabet - 1)))) if flag(r, 70) else None
    stop = (r.randint(0, len(steps) - 1),) if steps and flag(r, 15) else ()
    which: tuple[int, ...] | int | None = None
    if flag(r, 15):
        which = r.choice([0, tuple(range(len(outputs)))[::-1], (len(outputs) - 1,), len(outputs) - 1])
    return Edit(
        n=n,
        ranges=tuple(ranges),
        content=content,
        batch_size=r.choice(["auto", r.randint(1, 17)]),
        channels=channels,
        stop=stop,
        outputs=which,
        reduce=r.choice(list(REDUCES)) if flag(r, 12) else None,
        explain=flag(r, 10),
    )


# ------------------------------------------------------------------------------------------ comparing


def _flat(y: Tensor) -> Tensor:
    return ops.reshape(y, (-1, math.prod(y.shape[1:])))


REDUCES: dict[str, Callable[[Any], Any]] = {
    "sum": lambda y: ops.sum(_flat(tree.flatten(y)[0]), axis=1),
    "dict": lambda y: {"most": ops.max(_flat(tree.flatten(y)[-1]), axis=-1), "all": tree.flatten(y)[0] * 0.5},
    "share": lambda y: [ops.softmax(_flat(t), axis=-1) for t in tree.flatten(y)],
    "norm": lambda y: ops.mean(ops.square(_flat(tree.flatten(y)[0])), axis=-1, keepdims=True),
}


class Padded:
    """A model as :mod:`oracle` calls it, always on batches of one prime size.

    TensorFlow's Keras takes an addend for a bias where a batch has as many rows as there are channels, and JAX compiles
    once for each size.
    """

    ROWS = 257

    def __init__(self, model: Any):
        self.model, self.input = model, model.input
        self.run = lambda x: tree.flatten(model(x, training=False))
        if BACKEND == "jax":
            import jax

            self.run = jax.jit(self.run)

    def __call__(self, x, training=False):
        rows = len(tree.flatten(x)[0])
        padded = tree.map_structure(lambda a: np.concatenate([a, np.repeat(a[-1:], self.ROWS - rows, axis=0)]), x)
        return [np.asarray(ops.convert_to_numpy(y))[:rows] for y in self.run(padded)]


def naive(model: Padded, inputs: Sequence[np.ndarray], recipe: Recipe, edits: Sequence[Any]) -> list[np.ndarray]:
    """(N, edits, ...) outputs with each content written into each range."""
    n, index, channels = recipe.edit.n, recipe.mutated, recipe.edit.channels
    copies = [np.repeat(a, len(edits), axis=0) for a in inputs]
    letters = slice(None) if channels is None else list(channels)
    for i in range(n):
        for e, (start, end, content) in enumerate(edits):
            copies[index][i * len(edits) + e][start:end, letters] = content
    return asked(oracle.predict(model, copies, batch=model.ROWS), model.model, recipe)


def asked(flat: list[np.ndarray], model: keras.Model, recipe: Recipe) -> list[np.ndarray]:
    """Of all outputs those that are wanted, reduced if asked for."""
    edit = recipe.edit
    which = range(len(flat)) if edit.outputs is None else edit.outputs
    chosen = [flat[i] for i in ((which,) if isinstance(which, int) else which)]
    if edit.reduce is None:
        return chosen
    tensors = [ops.convert_to_tensor(y) for y in chosen]
    packed = tensors if len(tensors) > 1 else tensors[0]
    if edit.outputs is None and recipe.packed == "dict":
        packed = tree.pack_sequence_as(model.output, tensors)
    return [np.asarray(ops.convert_to_numpy(y)) for y in tree.flatten(REDUCES[edit.reduce](packed))]


def sequences(recipe: Recipe) -> list[np.ndarray]:
    """Inputs: one-hot sequences with an N (zeros) and a soft column, normal values in all others."""
    rng = np.random.default_rng(recipe.seed)
    n = recipe.edit.n
    inputs = [rng.normal(size=(n, *s)) for s in recipe.inputs]
    length, alphabet = recipe.inputs[recipe.mutated]
    x = np.eye(alphabet)[rng.integers(0, alphabet, (n, length))]
    x[0, length // 3] = 0
    x[-1, length // 2] = 1 / alphabet
    if recipe.edit.channels is not None:  # the others carry a track
        rest = np.setdiff1d(np.arange(alphabet), recipe.edit.channels)
        x[..., rest] = rng.normal(size=(n, length, len(rest)))
    inputs[recipe.mutated] = x
    return [a.astype(FLOATX) for a in inputs]


def contents(recipe: Recipe) -> list[Any]:
    """``(start, end, content)`` of every edit."""
    edit, rng = recipe.edit, np.random.default_rng(recipe.seed + 1)
    alphabet = recipe.inputs[recipe.mutated][1] if edit.channels is None else len(edit.channels)
    if edit.content == "letters":
        letters = np.eye(alphabet, dtype=FLOATX)
        return [(s, e, letters[a][None]) for s, e in edit.ranges for a in range(alphabet)]
    width = edit.ranges[0][1] - edit.ranges[0][0]
    content = {
        "zeros": lambda: np.zeros((width, alphabet)),
        "letter": lambda: np.eye(alphabet)[rng.integers(0, alphabet, width)],
        "soft": lambda: np.full((width, alphabet), 1 / alphabet),
        "random": lambda: rng.normal(size=(width, alphabet)) * rng.integers(0, 2, (width, 1)),
    }[edit.content]()
    return [(s, e, content.astype(FLOATX)) for s, e in edit.ranges]


def fast(model: keras.Model, inputs: list[np.ndarray], recipe: Recipe, jit: bool) -> tuple[FastISM, list[np.ndarray]]:
    """What FastISM gives, as (N, edits, ...)."""
    edit = recipe.edit
    saturating = edit.content == "letters"
    named = {one.name for one in model.layers if not isinstance(one, keras.Model)}
    stop = [f"s{k}_{recipe.steps[k].piece}" for k in edit.stop]
    ism = FastISM(
        model,
        recipe.mutated,
        None if saturating else list(edit.ranges),
        early_stop_layers=[name for name in stop if name in named] or None,
        test_correctness=False,
        batch_size=edit.batch_size,
        jit=jit,
        channels=None if edit.channels is None else list(edit.channels),
        outputs=list(edit.outputs) if isinstance(edit.outputs, tuple) else edit.outputs,
        reduce=None if edit.reduce is None else REDUCES[edit.reduce],
    )
    given = inputs if len(inputs) > 1 else inputs[0]
    if saturating:
        got = ism.saturate(given, edit.ranges[0][0], edit.ranges[-1][1])
        return ism, [np.asarray(y).reshape(y.shape[0], -1, *y.shape[3:]) for y in tree.flatten(got.mutant)]
    content = contents(recipe)[0][2]
    return ism, [np.asarray(y) for y in tree.flatten(ism(given, 0 if edit.content == "zeros" else content))]


def allowed(steps: Sequence[Step], effect: float, size: float) -> float:
    """Error that passes for rounding; JAX computes attention in float32 whatever it is given."""
    inner = (s for step in steps for s in (step, *step.options.get("steps", ())))
    if BACKEND == "jax" and any(s.piece in ("attention", "cross_attention") for s in inner):
        return 1e-3 * effect + 1e-5 * size
    return TOLERANCE * effect + ROUNDING * size


class Mismatch(AssertionError):
    """Fast and naive differ."""


#: How often each class of call moved a window, ran whole, or was not reached, by (class, state).
STATES: Counter[tuple[str, str]] = Counter()


def check(recipe: Recipe, jit: bool | None = None) -> str:
    """Compare fast with naive.

    Args:
        recipe: Of the model and the question.
        jit: Whether to compile; by default on JAX only.

    Returns:
        Empty if they agree, else why there was nothing to compare.

    Raises:
        Mismatch: If they differ by more than rounding.
    """
    keras.utils.clear_session(free_memory=False)
    model = randomize(build(recipe), seed=recipe.seed)
    inputs, whole = sequences(recipe), Padded(model)
    for _ in range(2):
        edits = contents(recipe)
        try:
            want = naive(whole, inputs, recipe, edits)
            reference = asked(oracle.predict(whole, inputs, batch=whole.ROWS), model, recipe)
        except Exception:  # of Keras: an operation that it records but cannot run
            return "does not run"
        if not all(np.isfinite(y).all() for y in (*want, *reference)):
            return "not finite"
        want = [y.reshape(recipe.edit.n, len(edits), *y.shape[1:]) for y in want]
        effects = [oracle.share_of_effect(w, w, r)[1] for w, r in zip(want, reference, strict=True)]
        if max(effects) >= 1e-9:
            break
        everywhere = tuple((p, p + 1) for p in range(recipe.inputs[recipe.mutated][0]))
        recipe = replace(recipe, edit=replace(recipe.edit, ranges=everywhere, content="letters"))
    else:
        return "no effect"
    try:
        ism, got = fast(model, inputs, recipe, BACKEND == "jax" if jit is None else jit)
    except ModelError:
        if predicts(model, inputs):
            raise
        return "does not predict"
    if recipe.edit.explain:
        str(ism.explain())
    for planned in ism._engine.plan(ism._width).steps:
        STATES[type(planned.wired.call.op).__name__, planned.state] += 1
    for i, (g, w, effect) in enumerate(zip(got, want, effects, strict=True)):
        if g.shape != w.shape:
            raise Mismatch(f"output {i}: shape {g.shape}, not {w.shape}")
        error = float(np.abs(g - w).max())
        if error <= allowed(recipe.steps, effect, float(np.abs(w).max())):
            continue
        if np.isfinite(error) and sensitive(model, inputs, recipe, edits, want, i, error):
            return "ill-conditioned"
        raise Mismatch(f"output {i}: {error:.2e} apart, where the largest effect is {effect:.2e}")
    return ""


def predicts(model: keras.Model, inputs: list[np.ndarray]) -> bool:
    """Whether Keras itself can run the model other than step by step."""
    try:
        model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    except Exception:
        return False
    return True


def sensitive(
    model: keras.Model,
    inputs: Sequence[np.ndarray],
    recipe: Recipe,
    edits: Sequence[Any],
    want: Sequence[np.ndarray],
    which: int,
    error: float,
) -> bool:
    """Whether noise far below the tolerance, on inputs and weights, moves an output by a tenth of the error."""
    rng = np.random.default_rng(0)
    before = model.get_weights()

    def noisy(a: np.ndarray) -> np.ndarray:
        return (a + NOISE * rng.normal(size=a.shape) * (1 + np.abs(a))).astype(a.dtype) if a.dtype.kind == "f" else a

    try:
        model.set_weights([noisy(w) for w in before])
        moved = naive(Padded(model), [noisy(a) for a in inputs], recipe, [(s, e, noisy(c)) for s, e, c in edits])
    finally:
        model.set_weights(before)
    difference = float(np.abs(moved[which].reshape(want[which].shape) - want[which]).max())
    return not difference <= 0.1 * error


# ------------------------------------------------------------------------------------------ shrinking


def shrink(recipe: Recipe, error: Exception, jit: bool | None = None, seconds: float = 120) -> tuple[Recipe, str]:
    """A simpler recipe that fails with the same kind of exception, and its message."""
    kind, message, end = type(error), f"{type(error).__name__}: {error}", time.monotonic() + seconds
    found = True
    while found:
        found = False
        for candidate in simpler(recipe):
            if time.monotonic() > end:
                break
            try:
                candidate = tidy(candidate)
            except Exception:  # it no longer fits together
                continue
            if candidate == recipe:
                continue
            try:
                check(candidate, jit)
            except Exception as again:
                if type(again) is kind:
                    recipe, message, found = candidate, f"{kind.__name__}: {again}", True
                    break
    return recipe, message


def tidy(recipe: Recipe) -> Recipe:
    """The same without steps that no output depends on."""
    b = built(recipe)
    steps, outputs, kept = living(b, len(recipe.inputs), recipe.outputs)
    stop = tuple(kept.index(k) for k in recipe.edit.stop if k in kept)
    return replace(recipe, steps=tuple(steps), outputs=outputs, edit=replace(recipe.edit, stop=stop))


def simpler(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes that ask for a little less."""
    for output in recipe.outputs if len(recipe.outputs) > 1 else ():
        yield replace(recipe, outputs=(output,), edit=replace(recipe.edit, outputs=None))
    for step in reversed(recipe.steps):
        for taken in step.takes if not recipe.edit.outputs else ():
            yield replace(recipe, outputs=(taken,))
    for k in reversed(range(len(recipe.steps))):
        yield from without(recipe, k)
    edit = recipe.edit
    plain = dict(outputs=None, reduce=None, stop=(), explain=False, channels=None, batch_size="auto", n=1)
    for name, value in plain.items():
        if getattr(edit, name) != value:
            yield replace(recipe, edit=replace(edit, **{name: value}))
    if len(edit.ranges) > 1:
        for half in (edit.ranges[: len(edit.ranges) // 2], edit.ranges[len(edit.ranges) // 2 :]):
            yield replace(recipe, edit=replace(edit, ranges=half))
    if recipe.packed != "list":
        yield replace(recipe, packed="list")
    if len(recipe.inputs) > 1 and not any(1 - recipe.mutated in s.takes for s in recipe.steps):
        yield alone(recipe)
    for k, step in enumerate(recipe.steps):
        for options in plainer(step.options):
            yield replace(recipe, steps=(*recipe.steps[:k], replace(step, options=options), *recipe.steps[k + 1 :]))


def without(recipe: Recipe, k: int) -> Iterator[Recipe]:
    """The recipe without a step, one of whose inputs takes its place."""
    gives = built(recipe).gives[k]
    for instead in dict.fromkeys(recipe.steps[k].takes):
        value = dict.fromkeys(gives, instead)

        def new(i: int, value: dict[int, int] = value) -> int:
            return value[i] if i in value else i - len(gives) * (i > gives[-1])

        steps = []
        for n, step in enumerate(recipe.steps):
            options = step.options
            if step.piece == "again" and n > k:
                if options["step"] == k:
                    return
                options = {**options, "step": options["step"] - (options["step"] > k)}
            if n != k:
                steps.append(Step(step.piece, tuple(new(i) for i in step.takes), options))
        stop = tuple(n - (n > k) for n in recipe.edit.stop if n != k)
        outputs = tuple(dict.fromkeys(new(i) for i in recipe.outputs))
        wanted = recipe.edit.outputs if len(outputs) == len(recipe.outputs) else None
        yield replace(recipe, steps=tuple(steps), outputs=outputs, edit=replace(recipe.edit, stop=stop, outputs=wanted))


def alone(recipe: Recipe) -> Recipe:
    """The recipe without the input that is not mutated."""
    gone = 1 - recipe.mutated
    steps = tuple(replace(s, takes=tuple(i - (i > gone) for i in s.takes)) for s in recipe.steps)
    outputs = tuple(i - (i > gone) for i in recipe.outputs)
    return replace(recipe, inputs=(recipe.inputs[recipe.mutated],), mutated=0, steps=steps, outputs=outputs)


def plainer(options: Options) -> Iterator[Options]:
    """Options left out, numbers made smaller, steps inside left out."""
    for name, value in options.items():
        rest = {k: v for k, v in options.items() if k != name}
        if name == "steps":
            outputs = options["outputs"]
            for k in reversed(range(len(value))):
                inner = Recipe((options["shape"],), 0, value, outputs, "list", Edit(1, ((0, 1),), "zeros"))
                for less in without(inner, k):
                    yield {**options, "steps": less.steps, "outputs": less.outputs, "sequential": False}
        elif name in ("activation", "use_bias", "groups", "dilation_rate", "strides", "padding", "output_padding"):
            yield rest
        if type(value) is int and value > 1 and name != "step":
            yield {**rest, name: 1}
            yield {**rest, name: value // 2}


# ------------------------------------------------------------------------------------------ command line


@dataclass
class Tally:
    """What a run has seen."""

    models: int = 0
    begin: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)
    skipped: Counter[str] = field(default_factory=Counter)
    pieces: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Recipe, str]] = field(default_factory=list)

    def skip(self, why: str) -> None:
        if why:
            self.skipped[why] += 1

    def add(self, recipe: Recipe) -> None:
        self.models += 1
        for step in recipe.steps:
            self.pieces[label(step)] += 1
            for inner in step.options.get("steps", ()):
                self.pieces[label(inner)] += 1
        edit = recipe.edit
        self.edits[edit.content] += 1
        for name in ("channels", "stop", "outputs", "reduce"):
            self.edits[name] += getattr(edit, name) not in (None, ())
        self.edits["several inputs"] += len(recipe.inputs) > 1
        self.edits["several outputs"] += len(recipe.outputs) > 1
        self.edits["dict"] += recipe.packed == "dict"
        if time.monotonic() - self.said > 15:
            self.said = time.monotonic()
            say(self.line())

    def line(self) -> str:
        seconds = time.monotonic() - self.begin
        kinds = len({p.split(":")[0] for p in self.pieces})
        return (
            f"{self.models} models in {seconds:.0f} s ({self.models / max(seconds, 1e-9):.2f}/s), "
            f"{kinds} of {len(PIECES) + 2} pieces, {len(self.failures)} failures, skipped {dict(self.skipped)}"
        )


def label(step: Step) -> str:
    """A piece, with its variant where it has several."""
    variant = next((step.options[k] for k in ("f", "cell", "kind", "inner") if k in step.options), None)
    return step.piece if variant is None else f"{step.piece}:{variant}"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-seconds", type=float, default=math.inf)
    parser.add_argument("--jit", choices=["auto", "yes", "no"], default="auto")
    parser.add_argument("--max-failures", type=int, default=20)
    options = parser.parse_args()
    jit = {"auto": None, "yes": True, "no": False}[options.jit]
    tally = Tally()
    say(f"{BACKEND}, {FLOATX}, tolerance {TOLERANCE:g} of the effect, seeds from {options.seed}")
    for seed in range(options.seed, options.seed + options.models):
        if time.monotonic() - tally.begin > options.max_seconds or len(tally.failures) >= options.max_failures:
            break
        recipe = draw_recipe(random.Random(seed))
        tally.add(recipe)
        try:
            tally.skip(check(recipe, jit))
        except Exception as error:
            say(f"seed {seed}: {type(error).__name__}: {error}; shrinking")
            smaller, message = shrink(recipe, error, jit)
            tally.failures.append((seed, smaller, message))
            say(f"{message}\n{smaller}")
    say(f"\n{tally.line()}")
    say("edits: " + ", ".join(f"{k} {n}" for k, n in sorted(tally.edits.items())))
    say("pieces: " + ", ".join(f"{k} {n}" for k, n in sorted(tally.pieces.items())))
    say("refused by Keras: " + ", ".join(f"{k} {n}" for k, n in sorted(REFUSED.items())))
    say("\nclass of call: moved windows / ran whole / not reached")
    for name in sorted({name for name, _ in STATES}):
        say(f"  {name}: " + " / ".join(str(STATES[name, state]) for state in ("window", "dense", "reference")))
    never_drawn = sorted({*PIECES, "again", "nested"} - {p.split(":")[0] for p in tally.pieces})
    if never_drawn:
        say("never drawn: " + ", ".join(never_drawn))
    for seed, recipe, message in tally.failures:
        say(f"\nseed {seed}: {message}\n{recipe}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
