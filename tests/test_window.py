"""Geometry against brute force: which outputs really read which inputs."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as L

from fastism.rules.reduce import chunk_width
from fastism.window import (
    WHOLE,
    Identity,
    Slide,
    Span,
    Spread,
    clip,
    constant,
    edit_span,
    frame,
    grain,
    same_padding,
    through,
    union,
)

FAR = 40  # more than any output index of the small cases here


def slides():
    """Every kernel, stride, dilation and pad in a small range, negative pads (crops) included."""
    for k, s, d, pad in itertools.product((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3), (-2, 0, 1, 3)):
        yield Slide(k, s, d, pad)


def taps(slide, o):
    """The inputs that output ``o`` reads, by definition."""
    return [o * slide.stride - slide.pad + j * slide.dilation for j in range(slide.kernel)]


def lands(spread, i):
    """The outputs that input ``i`` goes to, by definition."""
    return [i * spread.stride - spread.crop + j * spread.dilation for j in range(spread.kernel)]


def hull(values):
    return (min(values), max(values) + 1) if values else None


def interval(pair):
    lo, hi = (int(v) for v in pair)
    return (lo, hi) if hi > lo else None


def ask(question, lo, hi):
    return interval(question(np.array(lo), np.array(hi)))


@pytest.mark.parametrize("slide", list(slides()), ids=str)
def test_forward_of_a_slide_is_the_outputs_that_read_a_changed_input(slide):
    for lo, width in itertools.product(range(9), range(1, 6)):
        changed = set(range(lo, lo + width))
        want = hull([o for o in range(-FAR, FAR) if changed & set(taps(slide, o))])
        got = ask(slide.forward, lo, lo + width)
        if slide.stride == 1 or slide.dilation == 1:  # what layers allow: exact
            assert got == want
        elif want is not None:  # both at once: a bound
            assert got is not None
            assert got[0] <= want[0]
            assert want[1] <= got[1]


@pytest.mark.parametrize("slide", list(slides()), ids=str)
def test_backward_of_a_slide_is_the_inputs_that_are_read(slide):
    for lo, width in itertools.product(range(-3, 5), range(1, 5)):
        want = hull([i for o in range(lo, lo + width) for i in taps(slide, o)])
        assert ask(slide.backward, lo, lo + width) == want


@pytest.mark.parametrize("slide", list(slides()), ids=str)
def test_spread_is_the_slide_turned_round(slide):
    spread = Spread(slide.kernel, slide.stride, slide.dilation, slide.pad)
    for lo, width in itertools.product(range(5), range(1, 5)):
        changed = range(lo, lo + width)
        assert ask(spread.forward, lo, lo + width) == hull([o for i in changed for o in lands(spread, i)])
        wanted = set(changed)
        made_of = hull([i for i in range(-FAR, FAR) if wanted & set(lands(spread, i))])
        if slide.stride == 1 or slide.dilation == 1:
            assert ask(spread.backward, lo, lo + width) == made_of


def test_empty_intervals_read_and_reach_nothing():
    nowhere = np.array([0, 3, 7])
    for geometry in (Slide(3, 2, 1, 1), Spread(4, 2), Identity()):
        lo, hi = geometry.backward(nowhere, nowhere)
        if not isinstance(geometry, Spread):
            assert np.array_equal(lo, hi)
    gap = Slide(kernel=1, stride=3)
    lo, hi = gap.forward(np.arange(7), np.arange(7) + 1)
    np.testing.assert_array_equal(hi - lo, [1, 0, 0, 1, 0, 0, 1])


# ------------------------------------------------------------------------------------------ what Keras does


@pytest.mark.parametrize("length", [5, 8, 9])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)])
def test_same_padding_of_convolution(length, stride, dilation):
    """Every impulse through a kernel of distinct numbers shows which tap read it."""
    for kernel in (1, 2, 3, 4, 5):
        layer = L.Conv1D(1, kernel, strides=stride, dilation_rate=dilation, padding="same", use_bias=False)
        layer.build((None, length, 1))
        layer.kernel.assign(np.arange(1.0, kernel + 1)[:, None, None])
        answer = keras.ops.convert_to_numpy(layer(np.eye(length)[..., None]))[..., 0]  # (input, output)
        slide = Slide(kernel, stride, dilation, same_padding(length, kernel, stride, dilation))
        want = np.zeros_like(answer)
        for o in range(answer.shape[1]):
            for j, i in enumerate(taps(slide, o)):
                if 0 <= i < length:
                    want[i, o] = j + 1
        np.testing.assert_allclose(answer, want, atol=1e-5, err_msg=f"kernel {kernel}")


@pytest.mark.parametrize("length", [5, 8, 9, 10])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_same_padding_of_pooling(length, stride):
    for size in (1, 2, 3, 4, 5):
        layer = L.MaxPooling1D(size, strides=stride, padding="same")
        answer = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(np.eye(length)[..., None])))[..., 0]
        slide = Slide(size, stride, 1, same_padding(length, size, stride))
        want = [[float(i in taps(slide, o)) for o in range(answer.shape[1])] for i in range(length)]
        np.testing.assert_allclose(answer, want, err_msg=f"pool {size}")


# ------------------------------------------------------------------------------------------ spans


def check_span(span, truth, exact=True):
    """``truth`` is the set of positions that change, for every edit start."""
    assert len(span.start) == len(span.lo) == len(span.hi) == len(truth)
    assert span.width >= 1
    for start, lo, hi, positions in zip(span.start, span.lo, span.hi, truth, strict=True):
        assert 0 <= lo <= hi <= span.length
        if positions:
            assert lo <= min(positions)
            assert max(positions) < hi
        if exact:
            assert interval((lo, hi)) == hull(positions)
        if hi > lo:
            assert start <= lo
            assert hi <= start + span.width
    np.testing.assert_array_equal(span.changed(), span.hi - span.lo)
    hangs = any(s < 0 or s + span.width > span.length for s in span.start)
    assert span.hangs == hangs


def out_length(geometry, length):
    if isinstance(geometry, Spread):
        return max(max(lands(geometry, length - 1)) + 1 - max(geometry.crop, 0), 1)
    return max((length + 2 * geometry.pad - geometry.reach - 1) // geometry.stride + 1, 0)


def push(geometry, truth, length):
    """The positions of the output that change, by definition."""
    if isinstance(geometry, Spread):
        return [{o for i in p for o in lands(geometry, i) if 0 <= o < length} for p in truth]
    return [{o for o in range(length) if p & set(taps(geometry, o))} for p in truth]


contiguous = st.builds(Slide, st.integers(1, 5), st.integers(1, 4), st.just(1), st.integers(-2, 3)) | st.builds(
    lambda s, more, c: Spread(s + more, s, 1, c), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)
)
with_holes = (
    contiguous
    | st.builds(Slide, st.integers(1, 4), st.just(1), st.integers(1, 4), st.integers(-2, 4))
    | st.builds(Spread, st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2))
)


def chain(geometries, length, width, aligns):
    """(span, truth) pairs along a chain of layers, as long as something is left."""
    span = edit_span(length, width)
    truth = [set(range(s, s + width)) for s in range(length - width + 1)]
    yield span, truth, None
    for geometry, align in zip(geometries, aligns, strict=False):
        length = out_length(geometry, span.length)
        if not 1 <= length <= 60:
            return
        span, truth = through(geometry, span, length, align=align), push(geometry, truth, length)
        yield span, truth, align


grids = st.none() | st.integers(2, 4).flatmap(lambda s: st.tuples(st.just(s), st.integers(0, s - 1)))


@settings(max_examples=150, deadline=None)
@given(st.lists(contiguous, max_size=4), st.integers(6, 18), st.integers(1, 4), st.lists(grids, min_size=4))
def test_windows_hold_exactly_what_changes(geometries, length, width, aligns):
    for span, truth, align in chain(geometries, length, width, aligns):
        check_span(span, truth, exact=True)
        if align is not None:
            stride, pad = align
            assert not ((span.start + pad) % stride).any()
            assert span.width % stride == 0
        elif span.width >= WHOLE * span.length:
            assert span.width == span.length
            assert not span.start.any()


@settings(max_examples=150, deadline=None)
@given(st.lists(with_holes, max_size=4), st.integers(6, 18), st.integers(1, 4), st.lists(grids, min_size=4))
def test_windows_hold_what_changes_where_layers_leave_holes(geometries, length, width, aligns):
    for span, truth, _ in chain(geometries, length, width, aligns):
        check_span(span, truth, exact=False)


@pytest.mark.parametrize(
    ("geometry", "length", "out", "reached"),
    [
        (Slide(2, 3), 8, 2, [1, 1, 0, 1, 1, 0, 0, 0]),  # stride beyond the kernel, and a tail no output reads
        (Slide(1, pad=-2), 8, 5, [0, 0, 1, 1, 1, 1, 1, 0]),  # cropped by 2 and 1
        (Slide(3, 3), 8, 2, [1, 1, 1, 1, 1, 1, 0, 0]),  # a pool that drops the tail
        (Slide(1, pad=2), 4, 9, [1, 1, 1, 1]),  # zero padding
    ],
)
def test_edits_that_reach_nothing(geometry, length, out, reached):
    span = through(geometry, edit_span(length, 1), out)
    np.testing.assert_array_equal(span.changed(), reached)
    assert (span.lo <= span.hi).all()
    again = through(Slide(3, pad=1), span, out)
    assert ((again.changed() > 0) == np.array(reached, bool)).all(), "nothing stays nothing"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(contiguous, max_size=2), min_size=1, max_size=3), st.integers(8, 16), st.integers(1, 3))
def test_union_holds_every_branch(branches, length, width):
    ends = [list(chain(b, length, width, [None] * 4))[-1] for b in branches]
    same = [(s, t) for s, t, _ in ends if s.length == ends[0][0].length]
    joined = union([s for s, _ in same])
    truth = [set().union(*parts) for parts in zip(*[t for _, t in same], strict=True)]
    check_span(joined, truth, exact=True)
    for span, _ in same:
        inside = (joined.start <= np.maximum(span.start, 0)) & (
            joined.start + joined.width >= np.minimum(span.start + span.width, span.length)
        )
        assert inside.all(), "the parts' own windows fit, so that nothing they carry is cut"


def test_union_of_one_is_that_one():
    span = edit_span(9, 2)
    assert union([span]) is span


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7])
def test_alignment(stride, pad, width):
    start = np.arange(20)
    span = frame(start, start + width, start, start + width, 40, align=(stride, pad))
    assert not ((span.start + pad) % stride).any()
    assert span.width % stride == 0
    assert (span.start <= start).all()
    assert (span.start + span.width >= start + width).all()
    assert span.width <= width + 2 * stride - 2, "no wider than the worst phase needs"


def test_a_window_clearly_wider_than_the_tensor_becomes_the_tensor():
    start = np.array([-2, 0, 3])
    span = frame(start, start + 8, np.zeros(3, int), np.full(3, 6), 6)
    assert not span.hangs
    assert (span.width, span.start.tolist()) == (6, [0, 0, 0])
    a_little = frame(start, start + 7, np.zeros(3, int), np.full(3, 6), 6)
    assert (a_little.width, a_little.start.tolist()) == (7, [-2, 0, 3]), "which keeps its distance from others"


def test_what_no_window_needs_is_cut_from_all():
    """Near an end: windows keep their distances, and lose what lies beyond it for every edit."""
    start = np.array([-9, -8, -7])
    span = frame(start, start + 12, np.zeros(3, int), np.array([3, 4, 5]), 40)
    assert (span.width, span.start.tolist()) == (5, [-2, -1, 0])
    span = frame(start + 38, start + 50, start + 38, np.full(3, 40), 40)
    assert (span.width, span.start.tolist()) == (11, [29, 30, 31])


def test_clip():
    lo, hi = clip(
        np.array([-3, 2, 8, 4, -5]),
        np.array([2, 9, 12, 6, -2]),
        empty=np.array([False, False, False, True, False]),
        length=7,
    )
    assert [interval(p) for p in zip(lo, hi, strict=True)] == [(0, 2), (2, 7), None, None, None]


def test_constant_and_grain():
    b = edit_span(8, 3)
    assert constant(np.array([3, 3])) == 3
    assert constant(np.array([3, 4])) is None
    assert constant(np.array([], int)) is None
    assert grain(np.array([4, -8, 0]), 12) == 4
    assert grain(np.array([0, 0]), 0) == 1
    assert b.changed().tolist() == [3] * 6


@pytest.mark.parametrize("reach", [1, 5, 40])
def test_the_frame_of_a_chunk_is_as_wide_as_its_windows_need(reach):
    """Also near the ends, where windows begin before the first position or end behind the last."""
    start = np.clip(np.arange(100) * 3 // 6 - 8, -7, 36) * 2
    span = Span(start, 16, np.maximum(start, 0), np.minimum(start + 16, 80), 80)
    apart = max(int(abs(start[i] - start[j])) for i in range(100) for j in range(i, min(i + reach + 1, 100)))
    assert start.min() < 0 < 80 < start.max() + 16
    assert chunk_width(span, reach) == 16 + apart
