"""NaiveISM against a loop that applies one edit at a time and calls the model on one sequence."""

import keras
import numpy as np
import pytest
from keras import layers

from fastism.naive import NaiveISM, Saturation
from fastism.testing import randomize

L, A, N = 11, 4, 3


def floatx():
    return keras.config.floatx()


def tolerance():
    # in float64, Keras's BatchNormalization computes in float32 except on TensorFlow
    exact = floatx() == "float64" and keras.backend.backend() == "tensorflow"
    return {"rtol": 0, "atol": 1e-10 if exact else 2e-5}


def one_hot(count=N, length=L):
    return np.eye(A, dtype=floatx())[np.random.default_rng(7).integers(A, size=(count, length))]


def soft(count=N, length=L):
    return np.random.default_rng(8).dirichlet(np.ones(A), size=(count, length)).astype(floatx())


def with_unknown():
    x = one_hot()
    x[:, 3:5] = 0
    return x


def extra_input():
    return np.random.default_rng(9).normal(size=(N, 3)).astype(floatx())


def body(sequence):
    hidden = layers.Conv1D(6, 3, padding="same", activation="relu")(sequence)
    return layers.BatchNormalization()(hidden)


def one_output():
    sequence = keras.Input((L, A), name="sequence")
    return randomize(keras.Model(sequence, layers.Dense(2)(layers.Flatten()(body(sequence)))))


def many_outputs(container):
    sequence = keras.Input((L, A))
    hidden = body(sequence)
    local, pooled = layers.Conv1D(2, 3, padding="same")(hidden), layers.GlobalMaxPooling1D()(hidden)
    outputs = {"track": local, "height": pooled} if container is dict else container([local, pooled])
    return randomize(keras.Model(sequence, outputs))


def two_inputs(as_dict=False):
    extra, sequence = keras.Input((3,), name="extra"), keras.Input((L, A), name="sequence")
    output = layers.Dense(2)(layers.Concatenate()([layers.GlobalAveragePooling1D()(body(sequence)), extra]))
    inputs = {"extra": extra, "sequence": sequence} if as_dict else [extra, sequence]
    return randomize(keras.Model(inputs, output))


def call_one(model, x, others=()):
    arguments = [*[other[None] for other in others], x[None]]
    outputs = model(arguments[0] if len(arguments) == 1 else arguments, training=False)
    return [keras.ops.convert_to_numpy(leaf)[0] for leaf in keras.tree.flatten(outputs)]


def brute_force(model, x, edits, others=None):
    """Outputs of one edited sequence after another, as a list of arrays (N, len(edits), *output_shape)."""
    rows = []
    for index, sequence in enumerate(x):
        cells = []
        for start, end, replacement in edits:
            edited = sequence.copy()
            edited[start:end] = replacement
            cells.append(call_one(model, edited, [other[index] for other in others or ()]))
        rows.append(cells)
    return [np.array([[cell[leaf] for cell in cells] for cells in rows]) for leaf in range(len(rows[0][0]))]


@pytest.mark.parametrize("make", [one_hot, soft, with_unknown])
@pytest.mark.parametrize("replace_with", [0, [0, 1, 0, 0], np.array([[0.25, 0.25, 0.25, 0.25]])])
def test_every_position(make, replace_with):
    model, x = one_output(), make()
    actual = NaiveISM(model)(x, replace_with=replace_with)
    (expected,) = brute_force(model, x, [(p, p + 1, replace_with) for p in range(L)])
    assert actual.shape == (N, L, 2)
    assert actual.dtype == floatx()
    np.testing.assert_allclose(actual, expected, **tolerance())


@pytest.mark.parametrize("batch_size", [1, 4, 5, 128])
def test_ranges_in_any_order_and_overlapping(batch_size):
    model, x = one_output(), one_hot()
    ranges = [(6, 9), (0, 3), (2, 5), (L - 3, L)]
    motif = soft(1, 3)[0]
    actual = NaiveISM(model, change_ranges=ranges, batch_size=batch_size)(x, motif)
    (expected,) = brute_force(model, x, [(start, end, motif) for start, end in ranges])
    np.testing.assert_allclose(actual, expected, **tolerance())


@pytest.mark.parametrize("make", [one_hot, soft, with_unknown])
def test_saturate(make):
    model, x = one_output(), make()
    result = NaiveISM(model).saturate(x, start=2, end=9)
    assert isinstance(result, Saturation)
    edits = [(p, p + 1, letter) for p in range(2, 9) for letter in np.eye(A)]
    (expected,) = brute_force(model, x, edits)
    assert result.reference.shape == (N, 2)
    assert result.mutant.shape == (N, 7, A, 2)
    np.testing.assert_allclose(result.mutant.reshape(expected.shape), expected, **tolerance())
    own = (x[:, 2:9, None, :] == np.eye(A)).all(-1)
    stands = np.broadcast_to(result.reference[:, None, None], result.mutant.shape)
    np.testing.assert_array_equal(result.mutant[own], stands[own])
    np.testing.assert_array_equal(result.differences, result.mutant - stands)
    np.testing.assert_allclose(result.reference, NaiveISM(model).reference(x), **tolerance())


def test_edits_that_change_nothing_are_the_reference_and_are_not_predicted(monkeypatch):
    model, x = one_output(), one_hot()
    naive = NaiveISM(model, batch_size=1)
    reference = naive.reference(x)
    seen = []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda rows, **kwargs: seen.append(len(rows)) or predict(rows, **kwargs))
    result = naive(x, replace_with=[0, 1, 0, 0])
    unchanged = x[:, :, 1] == 1
    np.testing.assert_array_equal(result[unchanged], np.repeat(reference[:, None], L, axis=1)[unchanged])
    assert sum(seen) == N + np.count_nonzero(~unchanged)


def test_small_chunks_give_the_same(monkeypatch):
    model, x = one_output(), one_hot()
    whole = NaiveISM(model).saturate(x)
    monkeypatch.setattr("fastism.naive._CHUNK_BYTES", 1)
    pieces = NaiveISM(model, batch_size=7).saturate(x, progress=True)
    np.testing.assert_allclose(pieces.mutant, whole.mutant, **tolerance())
    np.testing.assert_allclose(pieces.reference, whole.reference, **tolerance())


@pytest.mark.parametrize(("container", "returned"), [(list, list), (tuple, list), (dict, dict)])
def test_several_outputs(container, returned):
    model, x = many_outputs(container), one_hot()
    edits = [(p, p + 1, 0) for p in range(L)]
    actual = NaiveISM(model)(x)
    saturation = NaiveISM(model).saturate(x)
    assert type(actual) is type(saturation.mutant) is type(saturation.reference) is returned
    if container is dict:
        assert set(actual) == {"track", "height"}
        assert actual["track"].shape == (N, L, L, 2)
        assert saturation.mutant["height"].shape == (N, L, A, 6)
    for one, expected in zip(keras.tree.flatten(actual), brute_force(model, x, edits), strict=True):
        np.testing.assert_allclose(one, expected, **tolerance())


def test_several_inputs_in_every_form():
    x, extra = one_hot(), extra_input()
    model = two_inputs()
    (expected,) = brute_force(model, x, [(p, p + 1, 0) for p in range(L)], others=[extra])
    naive = NaiveISM(model, seq_input_idx=1)
    for given in ([extra, x], (extra, x), {"sequence": x, "extra": extra}):
        np.testing.assert_allclose(naive(given), expected, **tolerance())
    tensors = [keras.ops.convert_to_tensor(extra), keras.ops.convert_to_tensor(x)]
    np.testing.assert_allclose(naive(tensors), expected, **tolerance())


def test_model_that_takes_a_dict():
    x, extra = one_hot(), extra_input()
    model = two_inputs(as_dict=True)
    index = [tensor.name for tensor in model.inputs].index("sequence")
    by_list = two_inputs()
    by_list.set_weights(model.get_weights())
    expected = NaiveISM(by_list, seq_input_idx=1)([extra, x])
    naive = NaiveISM(model, seq_input_idx=index)
    np.testing.assert_allclose(naive({"sequence": x, "extra": extra}), expected, **tolerance())
    np.testing.assert_allclose(naive([extra, x] if index else [x, extra]), expected, **tolerance())


def test_one_input_as_array_list_dict_or_other_dtype():
    model, x = one_output(), one_hot()
    naive = NaiveISM(model)
    expected = naive(x)
    for given in (
        [x],
        {"sequence": x},
        x.astype("float64"),
        x.astype("float16"),
        x.astype(int),
        x.astype(bool),
    ):
        np.testing.assert_array_equal(naive(given), expected)


def test_sequential_and_fixed_batch_and_any_length():
    x = one_hot()
    sequential = randomize(keras.Sequential([keras.Input((None, A)), layers.Conv1D(2, 3), layers.GlobalMaxPooling1D()]))
    (expected,) = brute_force(sequential, x, [(p, p + 1, 0) for p in range(L)])
    np.testing.assert_allclose(NaiveISM(sequential)(x), expected, **tolerance())

    sequence = keras.Input((L, A), batch_size=4)
    fixed = keras.Model(sequence, layers.GlobalMaxPooling1D()(layers.Conv1D(2, 3)(sequence)))
    fixed.set_weights(sequential.get_weights())
    np.testing.assert_allclose(NaiveISM(fixed)(x), expected, **tolerance())


def test_integer_input():
    sequence = keras.Input((L, A), dtype="int32")
    model = randomize(keras.Model(sequence, layers.Dense(2)(layers.Flatten()(layers.Rescaling(1.0)(sequence)))))
    x = one_hot()
    (expected,) = brute_force(model, x, [(p, p + 1, [1, 0, 0, 0]) for p in range(L)])
    np.testing.assert_allclose(NaiveISM(model)(x, [1, 0, 0, 0]), expected, **tolerance())
    with pytest.raises(ValueError, match="whole numbers"):
        NaiveISM(model)(soft())
    with pytest.raises(ValueError, match="replace_with has values"):
        NaiveISM(model)(x, [0.25] * 4)


def test_model_and_input_are_left_alone():
    model, x = one_output(), one_hot()
    before, kept = [weight.copy() for weight in model.get_weights()], x.copy()
    NaiveISM(model).saturate(x)
    np.testing.assert_array_equal(x, kept)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"seq_input_idx": 1}, r"seq_input_idx is 1; the model has 1 input"),
        ({"seq_input_idx": -1}, r"seq_input_idx is -1"),
        ({"seq_input_idx": "a"}, r"seq_input_idx is 'a'; the model has 1 input"),
        ({"change_ranges": []}, r"change_ranges is empty"),
        ({"change_ranges": [(0, 2), (3, 6)]}, r"widths \[2, 3\]"),
        ({"change_ranges": [(0, L + 1)]}, r"\(0, 12\); half-open ranges with 0 <= start < end <= 11"),
        ({"change_ranges": [(-1, 2)]}, r"\(-1, 2\)"),
        ({"change_ranges": [(4, 4)]}, r"\(4, 4\)"),
        ({"change_ranges": (0, 3)}, r"change_ranges is \(0, 3\); .*For one range wrap it in a list: \[\(0, 3\)\]\."),
        ({"change_ranges": 3}, r"change_ranges is 3; a list of \(start, end\) pairs of integers is accepted\.$"),
        ({"change_ranges": [(0, 3, 6)]}, r"change_ranges is \[\(0, 3, 6\)\]; a list of \(start, end\) pairs"),
        ({"batch_size": 0}, r"batch_size is 0"),
        ({"batch_size": "auto"}, r"batch_size is 'auto'; .*at least 1.* leave it out for 128"),
        ({"batch_size": None}, r"batch_size is None; .*at least 1\.$"),
        ({"batch_size": 2.5}, r"batch_size is 2\.5"),
        ({"batch_size": True}, r"batch_size is True"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NaiveISM(one_output(), **kwargs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"shape \(11, 4\); \(N, 11, 4\) is accepted. Add the batch axis"),
        (lambda x: x[:, :-1], r"length 10, but the model takes length 11"),
        (lambda x: x[:, :, :-1], r"alphabet 3, but the model takes alphabet 4"),
        (lambda x: x[:0], r"which is empty"),
        (lambda x: [x, x], r"2 input array\(s\) were given, but the model has 1"),
        (list, r"x is a list of 3 sequence\(s\), not stacked; .*pass np\.stack\(x\)"),
        (lambda x: x.tolist(), r"x is a list of 3 sequence\(s\), not stacked"),
        (lambda x: (x[0],), r"x is a tuple of 1 sequence\(s\), not stacked"),
        (lambda x: [[[0, 1], [2]], x[0]], r"2 input array\(s\) were given, but the model has 1"),
        (lambda x: {"other": x}, r"named \['other'\]; the model takes a dict with the names \['sequence'\]"),
        (lambda x: np.where(np.arange(L)[:, None] == 5, np.nan, x), r"hold NaN, first at \(0, 5, 0\)"),
    ],
)
def test_bad_sequences(change, message):
    with pytest.raises(ValueError, match=message):
        NaiveISM(one_output())(change(one_hot()))


@pytest.mark.parametrize(
    ("ranges", "replace_with", "message"),
    [
        (None, 1, r"shape \(\); 0, or an array of shape \(1, 4\) or \(4,\), is accepted"),
        (None, [0, 1, 0], r"shape \(3,\)"),
        (None, [[0, 1, 0, 0]] * 2, r"shape \(2, 4\)"),
        (
            [(0, 2)],
            [0, 1, 0, 0],
            r"shape \(4,\); 0, or an array of shape \(2, 4\), is accepted for ranges of width 2",
        ),
        (None, [np.nan, 0, 0, 0], r"replace_with holds NaN"),
    ],
)
def test_bad_replacement(ranges, replace_with, message):
    with pytest.raises(ValueError, match=message):
        NaiveISM(one_output(), change_ranges=ranges)(one_hot(), replace_with)


@pytest.mark.parametrize(
    ("start", "end"), [(-1, 3), (3, 3), (4, 2), (0, L + 1), ("a", 3), (0, "a"), (0, 2.5), (None, 3)]
)
def test_bad_interval(start, end):
    with pytest.raises(ValueError, match=f"start={start!r}, end={end!r} is not an interval.* give integers 0 <= start"):
        NaiveISM(one_output()).saturate(one_hot(), start, end)


def test_letters_are_refused():
    with pytest.raises(TypeError, match="One-hot encode"):
        NaiveISM(one_output())(np.array(["ACGT"]))


def test_ranges_are_checked_when_the_length_is_known():
    sequence = keras.Input((None, A))
    naive = NaiveISM(keras.Model(sequence, layers.GlobalMaxPooling1D()(sequence)), change_ranges=[(10, 14)])
    with pytest.raises(ValueError, match=r"\(10, 14\)"):
        naive(one_hot())


def test_rows_must_match():
    with pytest.raises(ValueError, match=r"Input 0 has shape \(2, 3\), but there are 3 sequences"):
        NaiveISM(two_inputs(), seq_input_idx=1)([np.zeros((2, 3)), one_hot()])


def test_only_sequences_are_mutated():
    with pytest.raises(ValueError, match="Input 0 of the model has shape"):
        NaiveISM(two_inputs(), seq_input_idx=0)


def test_a_model_without_symbolic_inputs_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="Subclassed without symbolic inputs"):
        NaiveISM(Subclassed())
