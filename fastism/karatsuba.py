"""Convolution of a window with fewer products: Karatsuba's scheme, along positions and taps.

Take even and odd positions of a window apart, ``x = (e, o)``, and even and odd taps, ``w = (f, h)``. The even outputs
are ``e * f`` and, a step later, ``o * h``; the odd ones are ``e * h + o * f``, which is
``(e + o) * (f + h) - e * f - o * h``. So three convolutions of half the positions with half the taps do what four do.
Each of them can be halved in turn, and each time about a quarter of the products goes.

Its sums have a few more terms, of the same size as the others, so rounding errors are those of such sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from fastism import convolving
from fastism.kernels import Ints, Tensor, place


def counts(width: int, kernel: int, depth: int) -> tuple[int, int, int]:
    """What a convolution halved ``depth`` times takes.

    Returns:
        Pairs of a position and a tap that are multiplied, positions of the input that are copied or added up, and
        positions of the output that are added up once more.
    """
    if depth == 0:
        return width * kernel, 0, 0
    even, odd = counts(-(-width // 2), -(-kernel // 2), depth - 1), counts(width // 2, kernel // 2, depth - 1)
    pairs, inputs, outputs = (2 * a + b for a, b in zip(even, odd, strict=True))
    return pairs, inputs + width + -(-width // 2), outputs + width + kernel - 1


def parts(taps: Tensor, depth: int) -> list[Tensor]:
    """The kernels of the products, in the order in which :func:`spread_by_halves` takes them.

    Args:
        taps: (1, Cin, K, Cout), of at least ``2 ** depth`` taps.
        depth: How often they are halved.

    Returns:
        ``3 ** depth`` of (1, Cin, k, Cout).
    """
    if depth == 0:
        return [taps]
    even, odd = taps[:, :, 0::2], taps[:, :, 1::2]
    both = even + _framed(odd, 0, even.shape[2])
    return [part for half in (even, odd, both) for part in parts(half, depth - 1)]


def spread_by_halves(delta: Tensor, kernels: Sequence[Tensor], kernel: int, offset: Ints | int, width: int) -> Tensor:
    """What :func:`fastism.convolving.spread` gives, without dilation or groups.

    Args:
        delta: (G, M, W, Cin), of at least as many positions as there are halves.
        kernels: As :func:`parts` gives them.
        kernel: Number of taps, K.
        offset, width: As for :func:`fastism.convolving.spread`.

    Returns:
        (G, M, ``width``, Cout).
    """
    return place(_halved(delta, kernels, kernel), offset, width)


def _halved(x: Tensor, kernels: Sequence[Tensor], kernel: int) -> Tensor:
    """(G, M, W + K - 1, Cout)."""
    natural = x.shape[2] + kernel - 1
    if len(kernels) == 1:
        return convolving.spread(x, kernels[0], 1, 0, natural)
    third, most, least = len(kernels) // 3, -(-kernel // 2), kernel // 2
    even, odd = x[:, :, 0::2], x[:, :, 1::2]
    both = even + _framed(odd, 0, even.shape[2])
    y_even = _halved(even, kernels[:third], most)
    y_odd = _halved(odd, kernels[third : 2 * third], least)
    y_both = _halved(both, kernels[2 * third :], most)
    wide = y_both.shape[2]
    first = _framed(y_even, 0, wide + 1) + _framed(y_odd, 1, wide + 1)
    second = _framed(y_both - y_even - _framed(y_odd, 0, wide), 0, wide + 1)
    groups, members, _, channels = first.shape
    y = ops.reshape(ops.stack([first, second], axis=3), (groups, members, 2 * (wide + 1), channels))
    return y[:, :, :natural]


def _framed(x: Tensor, before: int, width: int) -> Tensor:
    """Zeros around axis 2, so that ``width`` positions are there, ``before`` of them in front."""
    after = width - before - x.shape[2]
    return x if before == after == 0 else ops.pad(x, ((0, 0), (0, 0), (before, after), (0, 0)))
