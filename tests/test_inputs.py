"""The door: every bad input has a clear error, every sensible form is accepted."""

from __future__ import annotations

import collections
import functools

import keras
import numpy as np
import pytest
from keras import layers as L

from fastism import FastISM, ModelError, NaiveISM
from fastism.graph import read_model
from fastism.inputs import check_input_index, read_inputs, read_position, read_positions, read_ranges, read_replacement
from fastism.testing import randomize

LENGTH, A, N = 12, 4, 3
JIT = keras.backend.backend() == "jax"


@functools.cache
def one_input():
    x = L.Input((LENGTH, A), name="dna")
    return randomize(keras.Model(x, L.Conv1D(2, 3, padding="same", activation="relu")(x)))


@functools.cache
def two_inputs():
    vector, x = L.Input((3,), name="vector"), L.Input((LENGTH, A), name="dna")
    y = L.GlobalAveragePooling1D()(L.Conv1D(2, 3)(x))
    return randomize(keras.Model([vector, x], L.Concatenate()([y, vector])))


@functools.cache
def named_inputs():
    vector, x = L.Input((3,), name="v"), L.Input((LENGTH, A), name="d")
    y = L.Concatenate()([L.GlobalMaxPooling1D()(L.Conv1D(2, 3)(x)), vector])
    return randomize(keras.Model({"vector": vector, "dna": x}, y))


@functools.cache
def ism(model=None, **options):
    return FastISM((model or one_input)(), test_correctness=False, jit=JIT, **options)


def sequences(n=N):
    return np.eye(A)[np.random.default_rng(0).integers(0, A, (n, LENGTH))]


def vectors(n=N):
    return np.random.default_rng(1).normal(size=(n, 3))


X = sequences()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[0], ValueError, r"x has shape \(12, 4\); \(N, 12, 4\) is accepted.*pass x\[None\]"),
        (X[..., None], ValueError, r"x has shape \(3, 12, 4, 1\); \(N, 12, 4\) is accepted"),
        (7, ValueError, r"x has shape \(\); \(N, 12, 4\) is accepted"),
        ([], ValueError, r"x has shape \(0,\); \(N, 12, 4\) is accepted"),
        (X[:, :5], ValueError, r"x has shape \(3, 5, 4\).*length is 5 where the model has 12: crop or pad"),
        (X[..., :3], ValueError, r"x has shape \(3, 12, 3\).*alphabet has 3 letters where the model has 4"),
        (X.transpose(0, 2, 1), ValueError, r"x has shape \(3, 4, 12\).*swapped, pass x\.transpose\(0, 2, 1\)"),
        (X.astype(str), TypeError, r"x has dtype <U32; numbers are accepted.*Encode letters first"),
        (X.astype(object), TypeError, r"x has dtype object; numbers are accepted"),
        (X.astype(complex), TypeError, r"x has dtype complex128; numbers are accepted"),
        (["ACGTACGTACGT"], TypeError, r"x has dtype <U12; numbers are accepted.*one_hot"),
        ("ACGTACGTACGT", TypeError, r"x is a str; an array \(N, length, alphabet\).*sequences\.one_hot\(texts\)"),
        (None, TypeError, r"x is a NoneType; an array \(N, length, alphabet\)"),
        ([[1, 2], [3]], TypeError, "x is a list that is no array"),
        (X[:0], ValueError, "x holds no sequence.*at least one"),
        ([X, X], ValueError, r"x is a list of 2, but the model has 1 input \(dna\); pass one array"),
        (list(X), ValueError, r"x is a list of 3 sequences, not stacked; .*\(N, 12, 4\) is accepted: pass np\.stack"),
        ((X[0], X[1, :5]), ValueError, r"x is a tuple of 2 sequences, not stacked"),
        ([X[0]], ValueError, r"x is a list of 1 sequence, not stacked; .*np\.stack\(x\)"),
        (
            {"rna": X},
            ValueError,
            r"keys \['rna'\]; the model's inputs are \['dna'\]. Missing: \['dna'\]; unknown: \['rna'\]",
        ),
    ],
    ids=str,
)
def test_sequences_that_do_not_fit(x, error, message):
    with pytest.raises(error, match=message):
        ism()(x)
    with pytest.raises(error, match=message):
        ism().saturate(x)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow traces what its users call")
def test_calls_within_a_traced_function():
    import tensorflow as tf

    ism = FastISM(one_input())
    x = np.eye(A, dtype="float32")[np.arange(LENGTH) % A][None]
    want = ism.saturate(x).mutant
    for given in (x, tf.constant(x)):
        with pytest.raises(RuntimeError, match=r"tf\.function.*outside"):
            tf.function(lambda x: ism.saturate(x).mutant, autograph=False)(given)
    np.testing.assert_array_equal(ism.saturate(x).mutant, want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad):
    x = sequences()
    x[2, 5, 1] = bad
    with pytest.raises(ValueError, match=r"x holds NaN or infinite .*first at index \(2, 5, 1\)\); finite.*0\.25"):
        ism()(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X, r"x is one ndarray, but the model has 2 inputs \(vector, dna\); pass a list"),
        ([vectors()], r"x is a list of 1, but the model has 2 inputs \(vector, dna\)"),
        ((vectors(), X, X), r"x is a list of 3, but the model has 2 inputs"),
        ([X, vectors()], r"Input 'vector' has shape \(3, 12, 4\); \(N, 3\) is accepted"),
        ([vectors(), X[:2]], r"different numbers of sequences \(vector: 3, dna: 2\); all must have the same.*Repeat"),
        ([vectors()[:, :2], X], r"Input 'vector' has shape \(3, 2\); \(N, 3\) is accepted"),
        ([vectors() * np.nan, X], r"Input 'vector' holds NaN or infinite values"),
        ({"vector": vectors()}, r"\['vector'\].*\['vector', 'dna'\]. Missing: \['dna'\]; unknown: none"),
        ({"vector": vectors(), "dna": X, "more": X}, r"Missing: none; unknown: \['more'\]"),
    ],
)
def test_inputs_that_do_not_fit_several(x, message):
    with pytest.raises(ValueError, match=message):
        ism(two_inputs, seq_input_idx=1)(x)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
def test_keys_are_those_of_the_model():
    arrays = {"dna": X, "vector": vectors()}
    fast = ism(named_inputs, seq_input_idx=named_inputs().inputs.index(dna_input()))
    assert fast(arrays).shape == (N, LENGTH, 5)
    with pytest.raises(ValueError, match=r"keys \['d', 'v'\].*'dna'.*Missing: .*unknown: \['d', 'v'\]"):
        fast({"d": X, "v": vectors()})


def dna_input():
    return next(t for t in named_inputs().inputs if len(t.shape) == 3)


# ------------------------------------------------------------------------------------------ what is accepted


def read(x, model=one_input, seq_input_idx=0):
    graph = read_model(model())
    return read_inputs(x, graph, check_input_index(graph, seq_input_idx))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.astype("float64"),
        lambda x: x.astype("float16"),
        lambda x: x.astype("int64"),
        lambda x: x.astype("uint8"),
        lambda x: x.astype(bool),
        lambda x: x.tolist(),
        lambda x: [x],
        lambda x: (x,),
        lambda x: {"dna": x},
        lambda x: keras.ops.convert_to_tensor(x.astype("float32")),
        lambda x: [keras.ops.convert_to_tensor(x.astype("float32"))],
        lambda x: keras.Variable(x.astype("float32")),
        np.asfortranarray,
        lambda x: x[::-1][::-1],
    ],
)
def test_forms_of_one_input(form):
    (array,) = read(form(X))
    assert array.dtype == keras.config.floatx()
    np.testing.assert_array_equal(array, X)


@pytest.mark.parametrize(
    "form",
    [
        lambda v, x: [v, x],
        lambda v, x: (v, x),
        lambda v, x: {"dna": x, "vector": v},
        lambda v, x: (keras.ops.convert_to_tensor(v), x.astype(bool)),
    ],
)
def test_forms_of_several_inputs(form):
    vector, array = read(form(vectors(), X), two_inputs, seq_input_idx=1)
    np.testing.assert_array_equal(array, X)
    np.testing.assert_allclose(vector, vectors(), rtol=1e-6)


def test_the_form_makes_no_difference_to_the_result():
    want = ism()(X.astype(keras.config.floatx()))
    for form in (X.tolist(), X.astype(bool), (X,), keras.ops.convert_to_tensor(X.astype(keras.config.floatx()))):
        np.testing.assert_array_equal(ism()(form), want)


def test_the_users_array_is_left_alone():
    x = X.astype(keras.config.floatx())
    before = x.copy()
    ism()(x)
    ism().saturate(x)
    np.testing.assert_array_equal(x, before)


# ------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("index", [2, -1, 17])
def test_input_index_out_of_range(index):
    with pytest.raises(ValueError, match=rf"seq_input_idx is {index}, but .* has 2 inputs \(vector, dna\).*0 to 1"):
        FastISM(two_inputs(), index)


@pytest.mark.parametrize("index", ["1", None, 1.0, [1]])
def test_input_index_that_is_no_integer(index):
    with pytest.raises(ValueError, match="seq_input_idx is .*; an integer from 0 to 1 is accepted"):
        FastISM(two_inputs(), index)


def test_a_mutated_input_must_be_a_sequence():
    with pytest.raises(ModelError, match=r"'vector' has shape \(N, 3\).*\(batch, length, alphabet\).*seq_input_idx"):
        FastISM(two_inputs(), 0)


def test_a_model_that_takes_any_length_asks_for_one_where_it_has_to():
    x = L.Input((None, A), name="dna")
    ism = FastISM(keras.Model(x, L.Conv1D(2, 3, padding="same")(x)), jit=JIT)
    assert ism(X).shape == (N, LENGTH, LENGTH, 2)
    with pytest.raises(ValueError, match="takes sequences of any length; say for which with length="):
        ism.explain()
    assert ism.explain(length=30).length == 30


def test_a_sequence_too_short_for_a_model_of_any_length():
    x = L.Input((None, A), name="dna")
    ism = FastISM(keras.Model(x, L.GlobalMaxPooling1D()(L.Conv1D(2, LENGTH + 1)(x))), jit=JIT)
    with pytest.raises(ModelError, match="too short for it. It said: ") as caught:
        ism(X)
    assert "\x1b" not in str(caught.value)


def test_a_mutated_input_of_integers_is_refused_with_its_remedy():
    x = L.Input((LENGTH, A), dtype="int32", name="dna")
    model = keras.Model(x, L.Conv1D(2, 3)(L.Rescaling(1.0)(x)))
    with pytest.raises(ModelError, match=r"Input 'dna' has dtype int32; .* must be of a float type.*Wrap the model"):
        FastISM(model)


def test_an_input_that_no_output_depends_on():
    unused, x = L.Input((LENGTH, A), name="unused"), L.Input((LENGTH, A), name="dna")
    model = keras.Model([unused, x], L.Conv1D(2, 3)(x), name="half")
    with pytest.raises(ModelError, match=r"No output of model 'half' depends on input 'unused'.*seq_input_idx"):
        FastISM(model, 0)
    assert FastISM(model, 1, jit=JIT)([X, X]).shape == (N, LENGTH, LENGTH - 2, 2)


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([], "change_ranges is empty; .*Leave it out to mutate every position"),
        ([(0, 13)], r"change_ranges has \(0, 13\), out of range for length 12"),
        ([(-1, 1)], r"change_ranges has \(-1, 1\), out of range for length 12"),
        ([(0, 2), (3, 3)], r"change_ranges has the empty range \(3, 3\)"),
        ([(4, 2)], r"change_ranges has the empty range \(4, 2\)"),
        ([(0, 1), (2, 4)], r"ranges of unequal widths \[1, 2\].*one FastISM for each width"),
        ("abc", "change_ranges is 'abc'"),
        (3, "change_ranges is 3"),
        ([3], r"change_ranges is \[3\]"),
        ((0, 5), r"change_ranges is \(0, 5\)"),
        ([(1, 2, 3)], r"change_ranges is \[\(1, 2, 3\)\]"),
        ([("a", "b")], "change_ranges is"),
        ([(0.0, 1.0)], "change_ranges is"),
    ],
)
def test_bad_ranges(ranges, message):
    accepted = r".*\(start, end\) pairs of one width, 0-based and half-open, within 0 to 12, is accepted"
    with pytest.raises(ValueError, match=message) as caught:
        FastISM(one_input(), change_ranges=ranges)
    assert caught.match(accepted)


@pytest.mark.parametrize("ranges", [(0, 3), [0, 3], np.array([0, 3])])
def test_a_single_range_is_to_be_wrapped(ranges):
    with pytest.raises(ValueError, match=r"change_ranges is .*For one range wrap it in a list: \[\(0, 3\)\]\."):
        FastISM(one_input(), change_ranges=ranges)
    with pytest.raises(ValueError, match=r"change_ranges is \(0, 3, 6\); .* is accepted\.$"):
        FastISM(one_input(), change_ranges=(0, 3, 6))


@pytest.mark.parametrize(
    "ranges", [[(0, 12)], [(0, 3), (1, 4), (0, 3)], np.array([[0, 2], [10, 12]]), iter([(0, 1)]), ([0, 5],)]
)
def test_good_ranges(ranges):
    pairs = read_ranges(ranges, LENGTH)
    assert pairs
    assert all(isinstance(s, int) and 0 <= s < e <= LENGTH for s, e in pairs)


def test_no_ranges_are_all_positions():
    assert read_ranges(None, 3) == [(0, 1), (1, 2), (2, 3)]


def test_overlapping_ranges_are_mutated_each_on_its_own():
    fast = FastISM(one_input(), change_ranges=[(2, 5), (3, 6), (2, 5)], test_correctness=False, jit=JIT)
    answer = fast(X)
    assert answer.shape == (N, 3, LENGTH, 2)
    np.testing.assert_array_equal(answer[:, 0], answer[:, 2])
    for p, start in enumerate((2, 3)):
        mutant = X.copy()
        mutant[:, start : start + 3] = 0
        np.testing.assert_allclose(answer[:, p], one_input().predict(mutant, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    ("replacement", "width", "error", "message"),
    [
        ([1, 0, 0], 1, ValueError, r"has shape \(3,\), but the ranges are 1 wide and the alphabet has 4"),
        ([[1, 0, 0, 0]] * 2, 1, ValueError, r"has shape \(2, 4\), but the ranges are 1 wide"),
        ([[1, 0, 0, 0]] * 2, 3, ValueError, r"has shape \(2, 4\), but the ranges are 3 wide"),
        ([1, 0, 0, 0], 3, ValueError, r"has shape \(4,\).*np\.tile\(row, \(3, 1\)\)"),
        (np.zeros((1, 3, 4)), 3, ValueError, r"has shape \(1, 3, 4\)"),
        ([np.nan, 0, 0, 0], 1, ValueError, "holds NaN or infinite values"),
        ([np.inf, 0, 0, 0], 1, ValueError, "holds NaN or infinite values"),
        (1, 1, ValueError, "is the number 1"),
        (0.25, 1, ValueError, r"is the number 0\.25"),
        ("A", 1, TypeError, "is 'A'.*Encode the letter as a one-hot row"),
        (b"A", 1, TypeError, "is b'A'"),
        (["A", "C", "G", "T"], 1, TypeError, "has dtype <U1"),
        (None, 1, TypeError, "has dtype object"),
        ([[1, 2], [3]], 1, ValueError, r"is \[\[1, 2\], \[3\]\]"),
    ],
)
def test_bad_replacements(replacement, width, error, message):
    accepted = r"(?s)0 for all zeros, or numbers of shape .* are accepted"
    fast = ism(change_ranges=((0, width), (5, 5 + width)))
    with pytest.raises(error, match=f"replace_with {message}") as caught:
        fast(X, replace_with=replacement)
    assert caught.match(accepted)


@pytest.mark.parametrize(
    ("replacement", "width", "want"),
    [
        (0, 1, np.zeros((1, 4))),
        (0.0, 3, np.zeros((3, 4))),
        (np.float32(0), 2, np.zeros((2, 4))),
        ([0, 1, 0, 0], 1, [[0, 1, 0, 0]]),
        ((0, 1, 0, 0), 1, [[0, 1, 0, 0]]),
        (np.array([False, True, False, False]), 1, [[0, 1, 0, 0]]),
        ([[0.25] * 4], 1, [[0.25] * 4]),
        (np.eye(4)[:2], 2, np.eye(4)[:2]),
    ],
)
def test_good_replacements(replacement, width, want):
    got = read_replacement(replacement, width, 4, "float32")
    assert got.shape == (width, 4)
    assert got.dtype == "float32"
    np.testing.assert_array_equal(got, want)


def test_a_replacement_may_be_a_tensor():
    row = keras.ops.convert_to_tensor(np.eye(4, dtype="float32")[2])
    np.testing.assert_array_equal(read_replacement(row, 1, 4, "float32"), np.eye(4)[2:3])


@pytest.mark.parametrize("names", [["conv9"], "conv9", [3]])
def test_unknown_layers(names):
    with pytest.raises(ValueError, match=r"early_stop_layers names \[.*\], which the model does not have.*conv1d"):
        FastISM(one_input(), early_stop_layers=names)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "many", True, None, np.array([1, 2])])
def test_bad_batch_size(batch_size):
    with pytest.raises(ValueError, match=r"batch_size is .*; 'auto' or a positive integer is accepted"):
        FastISM(one_input(), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "a", "auto", True, None])
def test_bad_number_of_sequences_to_compare(batch_size):
    with pytest.raises(ValueError, match=r"batch_size is .*; a positive integer, of random sequences, is accepted"):
        ism().test_correctness(batch_size=batch_size)


@pytest.mark.parametrize("jit", ["yes", 1, 0, None])
def test_bad_jit(jit):
    with pytest.raises(ValueError, match="jit is .*; 'auto', True or False is accepted"):
        FastISM(one_input(), jit=jit)


@pytest.mark.parametrize(
    ("start", "end"), [(5, 5), (7, 3), (-1, 3), (0, 13), (12, None), (-13, None), (0, 0), ("a", None), (0, 2.5)]
)
def test_bad_stretches(start, end):
    with pytest.raises(ValueError, match=r"start=.*, end=.* (is empty or out of range|are not int.*); 0 <= start <"):
        ism().saturate(X, start, end)


@pytest.mark.parametrize(
    ("start", "end", "want"), [(0, None, (0, 12)), (-3, None, (9, 12)), (np.int64(2), 5, (2, 5)), (-4, -2, (8, 10))]
)
def test_good_stretches(start, end, want):
    assert read_positions(start, end, LENGTH) == want


@pytest.mark.parametrize("position", [12, -13, "a", 1.5])
def test_bad_position(position):
    with pytest.raises(ValueError, match="position is .*; an integer from 0 to 11 is accepted"):
        ism().explain(position)


def test_good_positions():
    assert [read_position(p, 11) for p in (0, 11, -1, np.int32(4))] == [0, 11, 11, 4]


@pytest.mark.parametrize("names", [3, [["conv"]]])
def test_layers_that_are_no_names(names):
    with pytest.raises(ValueError, match="early_stop_layers names"):
        FastISM(one_input(), early_stop_layers=names)


# ------------------------------------------------------------------------------------------ dtypes and structures


@functools.cache
def typed_inputs():
    x, number, flag = L.Input((LENGTH, A), name="dna"), L.Input((3,), dtype="int32"), L.Input((3,), dtype="bool")
    parts = [L.Flatten()(L.Conv1D(2, 3)(x)), *(keras.ops.cast(t, x.dtype) for t in (number, flag))]
    return randomize(keras.Model([x, number, flag], L.Concatenate()(parts)))


WHOLE, FLAGS = np.array([[3, 1, 2]] * N), np.array([[0, 1, 1]] * N)


@pytest.mark.parametrize(
    ("number", "flag", "message"),
    [
        (
            WHOLE + 0.5,
            FLAGS,
            r"dtype int32 cannot hold \(first 3.5 at index \(0, 0\)\); give whole numbers in its range",
        ),
        (np.where(WHOLE > 2, np.nan, WHOLE), FLAGS, r"dtype int32 cannot hold \(first nan at index"),
        (WHOLE * 2**40, FLAGS, r"dtype int32 cannot hold \(first 3298534883328 at"),
        (WHOLE, FLAGS * 0.5, r"dtype bool cannot hold \(first 0.5 at index \(0, 1\)\)"),
        (WHOLE, FLAGS * 7, r"dtype bool cannot hold \(first 7 at index"),
    ],
)
def test_numbers_that_an_input_cannot_hold(number, flag, message):
    with pytest.raises(ValueError, match=message):
        ism(typed_inputs)([X, number, flag])
    with pytest.raises(ValueError, match="cannot hold; give whole numbers in its range"):
        NaiveISM(typed_inputs())([X, number, flag])


def test_whole_numbers_of_another_dtype_are_accepted():
    want = ism(typed_inputs)([X, WHOLE.astype("int32"), FLAGS.astype(bool)])
    for number, flag in ((WHOLE.astype(float), FLAGS), (WHOLE.astype("uint8"), FLAGS.astype(float))):
        np.testing.assert_array_equal(ism(typed_inputs)([X, number, flag]), want)


@pytest.mark.skipif(keras.config.floatx() == "float64", reason="holds the number")
def test_numbers_too_large_for_the_precision():
    with pytest.raises(ValueError, match=r"x has values that .* float32 cannot hold .*1e\+300.*numbers up to 3.4e\+38"):
        ism()(X * 1e300)
    with pytest.raises(ValueError, match="replace_with has values that the model's input dtype float32 cannot hold"):
        ism()(X, [1e300, 0, 0, 0])


@functools.cache
def nested_inputs():
    x, b, c = L.Input((LENGTH, A), name="z"), L.Input((3,), name="b"), L.Input((2,), name="c")
    y = L.Concatenate()([L.GlobalMaxPooling1D()(L.Conv1D(2, 3)(x)), b, c])
    return randomize(keras.Model({"s": x, "g": [b, c]}, y))


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
def test_inputs_nested_as_the_model_nests_them():
    b, c = vectors(), vectors()[:, :2]
    fast, naive = FastISM(nested_inputs(), 2, jit=JIT), NaiveISM(nested_inputs(), 2)
    want = naive([b, c, X])
    for form in ([b, c, X], {"g": [b, c], "s": X}, {"s": X, "g": (b, c.tolist())}, {"b": b, "c": c, "z": X}):
        np.testing.assert_allclose(fast(form), want, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(naive(form), want)
    assert fast.test_correctness(batch_size=2)
    for form in ({"g": b, "s": X}, {"g": [b], "s": X}, {"s": X}, X, [b, X]):
        with pytest.raises(ValueError, match=r"own form {.*'g': \['b', 'c'\].*} is accepted, too"):
            fast(form)
        with pytest.raises(ValueError, match="input"):
            naive(form)


# ------------------------------------------------------------------------------------------ outputs by name


def several_outputs(make):
    x = L.Input((LENGTH, A))
    return randomize(keras.Model(x, make(*[L.Conv1D(n, 3, name=f"conv{n}")(x) for n in (2, 3, 5)])))


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda p, q, r: collections.OrderedDict([("z", p), ("a", q), ("m", r)]), {"z": [2], "a": [3], "m": [5]}),
        (lambda p, q, r: {"z": p, "a": q, "m": r}, {"z": [2], "a": [3], "m": [5]}),
        (lambda p, q, r: {"b": p, "a": [q, r]}, {"b": [2], "a": [3, 5], "conv3": [3]}),
        (lambda p, q, r: {"b": p, "a": {"y": q, "x": r}}, {"b": [2], "a": [5, 3]}),
    ],
)
def test_the_name_of_an_output_gives_that_output(make, sizes):
    model = several_outputs(make)
    for name, want in sizes.items():
        found = FastISM(model, outputs=name, jit=JIT)(X)
        assert [f.shape[-1] for f in (found if isinstance(found, list) else [found])] == want
    first, last = list(sizes)[:2]
    assert [f.shape[-1] for f in FastISM(model, outputs=[last, first], jit=JIT)(X)] == sizes[last] + sizes[first]


# ------------------------------------------------------------------------------------------ flags and generators


@pytest.mark.parametrize("option", ["strict", "test_correctness", "jit"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_flag_that_is_none(option, value):
    with pytest.raises(ValueError, match=rf"{option} is {value!r}; .*True or False is accepted"):
        FastISM(one_input(), **{option: value})


@pytest.mark.parametrize("option", ["compact", "progress"])
def test_a_flag_of_saturate_that_is_none(option):
    with pytest.raises(ValueError, match=f"{option} is 'no'; True or False is accepted"):
        ism().saturate(X, **{option: "no"})


def test_flags_of_numpy_are_accepted():
    FastISM(one_input(), test_correctness=np.False_, strict=np.True_, jit=np.False_).saturate(X, compact=np.True_)


def test_ranges_may_come_from_a_generator():
    found = FastISM(one_input(), change_ranges=((i, i + 2) for i in range(3)), test_correctness=False, jit=JIT)
    assert found(X).shape[:2] == found(X).shape[:2] == (N, 3)
    assert NaiveISM(one_input(), change_ranges=((i, i + 2) for i in range(3)))(X).shape[:2] == (N, 3)
