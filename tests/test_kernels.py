"""Tensor operations on windows against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from keras import ops

from fastism import backend, convolving, inplace, karatsuba, kernels, ways

G, M = 3, 2


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def tensor(array):
    return ops.convert_to_tensor(np.asarray(array, "int32" if np.asarray(array).dtype.kind == "i" else "float32"))


def numpy(value):
    return ops.convert_to_numpy(value)


def equal(got, want, tolerance=0.0):
    got = numpy(got)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8", "bool"])
def test_what_is_kept_stays_as_it_is(dtype):
    array = np.array([[0, 1, 2], [3, 5, 250]]).astype(dtype)
    if dtype.startswith("float"):
        array[0] = np.nan, -np.inf, -0.0
    for where in ([3], [[-7, 2]], [np.iinfo("int32").min + 1]):
        got = kernels.kept(ops.convert_to_tensor(array, dtype=dtype), tensor(np.array(where, "int32")))
        np.testing.assert_array_equal(numpy(got), array)


# ------------------------------------------------------------------------------------------ gather


@pytest.mark.parametrize("rest", [(5,), (1, 5), ()])
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_gather(width, n, rest):
    """Positions beyond the ends give the nearest end."""
    reference, length = numbers(n, 7, *rest), 7
    sequence, start = np.array([0, n - 1, n // 2]), np.array([-3, 2, 6])
    want = np.zeros((G, 1, width, *rest), "float32")
    for g, w in np.ndindex(G, width):
        want[g, 0, w] = reference[sequence[g], min(max(start[g] + w, 0), length - 1)]
    equal(kernels.gather(tensor(reference), tensor(sequence), tensor(start), width), want)


@pytest.mark.parametrize("unit", [1, 2, 4])
def test_gather_of_rows(unit):
    reference, sequence, start = numbers(4, 16, 3), np.array([1, 3, 0]), np.array([0, 4, 8])
    want = np.stack([reference[q, s : s + 8] for q, s in zip(sequence, start, strict=True)])[:, None]
    equal(kernels.gather(tensor(reference), tensor(sequence), tensor(start), 8, unit), want)


def test_what_all_sequences_share_is_gathered_for_each():
    shared, sequence, start = numbers(1, 9, 2), np.array([5, 0, 2]), np.array([1, 4, 0])
    want = np.stack([shared[0, s : s + 3] for s in start])[:, None]
    equal(kernels.gather(tensor(shared), tensor(sequence), tensor(start), 3), want)


# ------------------------------------------------------------------------------------------ place


def placed(delta, offset, width):
    out = np.zeros((*delta.shape[:2], width, *delta.shape[3:]), delta.dtype)
    for g, w in np.ndindex(delta.shape[0], delta.shape[2]):
        at = int(np.broadcast_to(offset, delta.shape[:1])[g]) + w
        if 0 <= at < width:
            out[g, :, at] = delta[g, :, w]
    return out


@pytest.mark.parametrize("rest", [(4,), (1, 4), ()])
@pytest.mark.parametrize("width", [1, 5, 9])
@pytest.mark.parametrize("offset", [-7, -5, -2, 0, 1, 4, 8, 12])
def test_place_at_one_offset(offset, width, rest):
    """Also where a part, or everything, falls outside the frame."""
    delta = numbers(G, M, 5, *rest)
    equal(kernels.place(tensor(delta), offset, width), placed(delta, offset, width))


@pytest.mark.parametrize("rest", [(4,), (1, 4), ()])
@pytest.mark.parametrize("width", [1, 5, 9])
@pytest.mark.parametrize("offset", [(0, 1, 2), (-5, 0, 9), (-2, -7, 3), (4, 4, 4)])
def test_place_at_an_offset_for_each_group(offset, width, rest):
    delta = numbers(G, M, 5, *rest)
    equal(kernels.place(tensor(delta), tensor(np.array(offset)), width), placed(delta, np.array(offset), width))


@pytest.mark.parametrize("unit", [1, 2, 4])
@pytest.mark.parametrize("offset", [(0, 4, 8), (-4, -8, 12), (0, 0, -4)])
def test_place_in_rows(offset, unit):
    delta = numbers(G, M, 8, 3)
    got = kernels.place(tensor(delta), tensor(np.array(offset)), 12, unit)
    equal(got, placed(delta, np.array(offset), 12))


def test_nothing_is_done_where_nothing_moves():
    delta = tensor(numbers(G, M, 5, 2))
    assert kernels.place(delta, 0, 5) is delta


# ------------------------------------------------------------------------------------------ mask


@pytest.mark.parametrize("rest", [(4,), (1, 4), ()])
def test_mask_zeroes_what_hangs_over_the_ends(rest):
    delta, start, length = numbers(G, M, 6, *rest), np.array([-2, 1, 4]), 7
    want = delta.copy()
    for g, w in np.ndindex(G, 6):
        if not 0 <= start[g] + w < length:
            want[g, :, w] = 0
    equal(kernels.fill_outside(tensor(delta), tensor(start), length, 0), want)
    assert (want[0, :, :2] == 0).all()
    assert (want[1] != 0).all()


@pytest.mark.skipif(not backend.in_place(), reason="only torch writes into its tensors")
@pytest.mark.parametrize("start", [(-2, 1, 4), (4, -9, 9), (0, 1, 1), (-3, -1, -2)])
@pytest.mark.parametrize("rest", [(4,), (1, 4), ()])
def test_mask_written_into_windows_whose_starts_are_known(rest, start):
    """A window between two that hang over, windows that hang over both ends, and ones wholly outside."""
    delta, start = numbers(G, M, 6, *rest), np.array(start)
    for length in (3, 7):
        want = delta.copy()
        for g, w in np.ndindex(G, 6):
            if not 0 <= start[g] + w < length:
                want[g, :, w] = 5
        window = tensor(delta.copy())
        equal(inplace.fill(window, inplace.overhangs(start, 6, length, window), 5), want)


def test_mask_stops_infinities():
    delta = np.full((G, M, 3, 1), np.inf, "float32")
    got = numpy(kernels.fill_outside(tensor(delta), tensor(np.array([-3, -3, 9])), 5, 0))
    assert (got == 0).all()


def test_inside_and_positions():
    start = np.array([-1, 0, 3])
    where = numpy(kernels.positions(tensor(start), 3))
    np.testing.assert_array_equal(where, start[:, None] + np.arange(3))
    ok = numpy(kernels.inside(tensor(start), 3, 4, 5))
    assert ok.shape == (G, 1, 3, 1, 1)
    np.testing.assert_array_equal(ok[:, 0, :, 0, 0], (where >= 0) & (where < 4))


def test_flat_and_unflat():
    window = numbers(G, M, 4, 5)
    flat = kernels.flat(tensor(window))
    equal(flat, window.reshape(G * M, 4, 5))
    equal(kernels.unflat(flat, G, M), window)


def test_matmul():
    delta, matrix = numbers(G, M, 4, 1, 5), numbers(5, 3, seed=1)
    equal(kernels.matmul(tensor(delta), tensor(matrix)), delta @ matrix, 1e-5)


# ------------------------------------------------------------------------------------------ spread


def spread(delta, taps, dilation, offset, width):
    """The definition: every input position goes to every output it reaches."""
    groups, cin, k, cout = taps.shape
    out = np.zeros((*delta.shape[:2], width, groups * cout))
    for g, w, j, q in itertools.product(range(delta.shape[0]), range(delta.shape[2]), range(k), range(groups)):
        at = int(np.broadcast_to(offset, delta.shape[:1])[g]) + w + j * dilation
        if 0 <= at < width:
            channels = slice(q * cout, (q + 1) * cout)
            out[g, :, at, channels] += delta[g, :, w, q * cin : (q + 1) * cin] @ taps[q, :, j]
    return out


OFFSETS = [0, 2, -3, -20, (0, 1, 2), (-4, 0, 7), (3, 3, 3)]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(
    ("w", "k", "cin", "cout", "groups", "dilation"),
    [
        (1, 5, 4, 3, 1, 1),  # a point
        (1, 5, 4, 3, 1, 2),
        (3, 4, 4, 3, 1, 1),  # few values: a band
        (3, 4, 50, 3, 1, 1),  # many values: a product for each tap
        (3, 4, 50, 3, 1, 3),
        (4, 1, 50, 2, 1, 1),
        (3, 3, 2, 3, 2, 1),  # grouped
        (3, 3, 2, 1, 4, 2),
        (1, 3, 2, 2, 3, 1),
    ],
)
def test_spread(w, k, cin, cout, groups, dilation, offset):
    delta, taps = numbers(G, M, w, groups * cin), numbers(groups, cin, k, cout, seed=1)
    given = offset if isinstance(offset, int) else tensor(np.array(offset))
    for width in (2, 6, 12):  # narrow frames drop rows; with 50 channels they take the matrix form
        got = convolving.spread(tensor(delta), tensor(taps), dilation, given, width, groups)
        equal(got, spread(delta, taps, dilation, np.array(offset), width), 1e-4)


@pytest.mark.parametrize("block", [2, 4, 8])
@pytest.mark.parametrize(("w", "k", "dilation"), [(1, 3, 1), (7, 5, 1), (23, 11, 3), (40, 2, 5), (9, 9, 4)])
@pytest.mark.parametrize("moving", [False, True])
def test_products_of_blocks_give_what_products_of_taps_give(w, k, dilation, block, moving):
    rng = np.random.default_rng(w + k)
    delta, taps = rng.normal(size=(3, 2, w, 4)), rng.normal(size=(1, 4, k, 5))
    delta, taps = tensor(delta), tensor(taps)
    offset = tensor(np.array([-2, 0, 3])) if moving else 1
    width = w + (k - 1) * dilation
    want = convolving.spread(delta, taps, dilation, offset, width)
    got = convolving.spread_in_blocks(delta, convolving.band(taps, block), block, k, dilation, offset, width)
    np.testing.assert_allclose(numpy(got), numpy(want), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize(("w", "k", "dilation"), [(1, 3, 1), (7, 5, 1), (23, 11, 3), (40, 2, 5), (9, 9, 4), (6, 1, 1)])
@pytest.mark.parametrize("offset", [1, -7, -30, [-2, 0, 3]])
def test_outputs_by_what_they_read_are_the_same(w, k, dilation, block, offset):
    rng = np.random.default_rng(w + k)
    delta, taps = tensor(rng.normal(size=(3, 2, w, 4))), tensor(rng.normal(size=(1, 4, k, 5)))
    offset = offset if isinstance(offset, int) else tensor(np.array(offset))
    for width in (2, 9, w + (k - 1) * dilation):
        want = convolving.spread(delta, taps, dilation, offset, width)
        matrix = convolving.collected(convolving.band(taps, block), block, k)
        got = convolving.collect_in_blocks(delta, matrix, block, k, dilation, offset, width)
        np.testing.assert_allclose(numpy(got), numpy(want), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("w", "k", "dilation"), [(1, 3, 1), (7, 5, 1), (23, 11, 3), (40, 2, 5)])
@pytest.mark.parametrize("offset", [1, -7, -30, [-2, 0, 3]])
def test_the_library_convolves_as_products_do(w, k, dilation, offset):
    rng = np.random.default_rng(w + k)
    delta, kernel = rng.normal(size=(3, 2, w, 4)), rng.normal(size=(k, 4, 5))
    taps = tensor(kernel[::-1].transpose(1, 0, 2)[None].copy())
    delta, kernel = tensor(delta), tensor(kernel)
    offset = offset if isinstance(offset, int) else tensor(np.array(offset))
    for width in (2, 9, w + (k - 1) * dilation):
        want = convolving.spread(delta, taps, dilation, offset, width)
        got = convolving.convolve(delta, kernel, dilation, offset, width)
        np.testing.assert_allclose(numpy(got), numpy(want), rtol=1e-4, atol=1e-4)


HALVED = [(2, 2), (3, 2), (2, 3), (3, 3), (4, 7), (7, 11), (8, 8), (13, 8), (9, 15), (30, 21)]


@pytest.mark.parametrize(("w", "k", "depth"), [(w, k, d) for w, k in HALVED for d in (1, 2, 3) if 2**d <= min(w, k)])
@pytest.mark.parametrize("offset", [0, -3, [-2, 0, 3]])
def test_halves_give_what_products_of_taps_give(w, k, depth, offset):
    rng = np.random.default_rng(w + k)
    delta, taps = tensor(rng.normal(size=(3, 2, w, 4))), tensor(rng.normal(size=(1, 4, k, 5)))
    offset = offset if isinstance(offset, int) else tensor(np.array(offset))
    parts = karatsuba.parts(taps, depth)
    assert len(parts) == 3**depth
    for width in (2, w + k - 1, w + k + 4):
        want = convolving.spread(delta, taps, 1, offset, width)
        got = karatsuba.spread_by_halves(delta, parts, k, offset, width)
        np.testing.assert_allclose(numpy(got), numpy(want), rtol=1e-4, atol=1e-4)


def test_a_halved_convolution_takes_three_quarters_of_the_products():
    assert karatsuba.counts(8, 8, 0)[0] == 64
    assert [karatsuba.counts(8, 8, depth)[0] for depth in (1, 2, 3)] == [48, 36, 27]
    assert karatsuba.counts(7, 11, 1)[0] == 4 * 6 + 3 * 5 + 4 * 6


def test_blocks_and_the_library_are_for_wide_windows_and_long_kernels():
    way = ways.cheapest
    assert way(2000, 3000, 32, 32, 41, 25) == (ways.SPREAD, 8), "SpliceAI, windows that grow"
    assert way(4000, 4100, 32, 32, 11, 4)[0] == ways.LIBRARY, "SpliceAI, wide windows"
    assert way(1101, 101, 32, 32, 41, 25)[0] != ways.SPREAD, "SpliceAI, of which the ends are cropped"
    assert way(1101, 101, 32, 4, 41, 25)[0] == ways.COLLECT, "the same, with few channels"
    assert way(1040, 1114, 128, 1, 75, 1) == (ways.SPREAD, 4), "ChromBPNet's profile, of one channel"
    assert way(1041, 1115, 128, 1, 75, 1) == (ways.SPREAD, 1), "the same, where blocks of 4 would need a copy"
    assert way(535, 1047, 64, 64, 3, 256) == (ways.SPREAD, 1), "BPNet"


def test_halves_are_for_many_channels_and_several_taps():
    way = ways.cheapest
    assert way(13, 20, 640, 640, 8, 1) == (ways.HALVES, 3), "Beluga"
    assert way(7, 17, 300, 200, 11, 1) == (ways.HALVES, 2), "Basset's second convolution"
    assert way(7, 17, 300, 200, 11, 1, halves=False) == (ways.SPREAD, 1), "the same, where halves may not be taken"
    assert way(7, 14, 64, 64, 8, 1)[0] != ways.HALVES, "few channels: the sums would cost more than the products"
    assert way(4, 8, 256, 60, 3, 1) == (ways.SPREAD, 1), "DeepSTARR's second convolution"
    assert way(1, 11, 300, 200, 11, 1) == (ways.SPREAD, 1), "one position"
    assert way(7, 27, 300, 200, 11, 2)[0] != ways.HALVES, "dilated"
