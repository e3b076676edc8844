"""What users call: the published interface, shapes and types, and what must not change the numbers."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import layers as L
from keras import tree
from oracle import overwritten, predict, share_of_effect

import fastism
from fastism import FastISM, NaiveISM, Saturation, UnsupportedLayerError
from fastism.plan import WINDOW
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"
FLOAT = keras.config.floatx()
TOLERANCE = 1e-8 if FLOAT == "float64" else 1e-3


@functools.cache
def design(name):
    return randomize(DESIGNS[name].build())


@functools.cache
def fast(name, **options):
    return FastISM(design(name), DESIGNS[name].index, test_correctness=False, **{"jit": JIT, **options})


def one_hot(length, n=3, alphabet=4, seed=0):
    return np.eye(alphabet, dtype=FLOAT)[np.random.default_rng(seed).integers(0, alphabet, (n, length))]


def inputs_of(name, n=3):
    """As users pass them."""
    model, index = design(name), DESIGNS[name].index
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=(n, *t.shape[1:])).astype(FLOAT) for t in model.inputs]
    arrays[index] = one_hot(*model.inputs[index].shape[1:2], n, model.inputs[index].shape[2])
    return arrays if len(arrays) > 1 else arrays[0]


def flat(value):
    return [np.asarray(a) for a in tree.flatten(value)]


def agree(got, want, reference, tolerance=TOLERANCE):
    for g, w, r in zip(flat(got), flat(want), flat(reference), strict=True):
        assert g.shape == w.shape
        error, effect = share_of_effect(g, w, r)
        assert effect > 1e-6
        assert error <= tolerance


SEVERAL = ["three_pools", "residual_valid_cropped", "second_input_mutated", "dict_outputs", "recurrent_tail"]


# ------------------------------------------------------------------------------------------ as in version 0.5


def test_the_signature_of_version_0_5():
    parameters = list(inspect.signature(FastISM).parameters.values())
    assert [(p.name, p.default) for p in parameters[:6]] == [
        ("model", inspect.Parameter.empty),
        ("seq_input_idx", 0),
        ("change_ranges", None),
        ("early_stop_layers", None),
        ("test_correctness", True),
        ("batch_size", "auto"),
    ]
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == [
        "batch_size",
        "jit",
        "memory",
        "strict",
        "channels",
        "outputs",
        "reduce",
    ]
    call = inspect.signature(FastISM.__call__).parameters
    assert [(n, p.default) for n, p in call.items()][2:] == [("replace_with", 0), ("inp_batch", None)]
    test = inspect.signature(FastISM.test_correctness).parameters
    assert [(n, p.default) for n, p in test.items()][1:] == [("batch_size", 10), ("replace_with", 0), ("atol", 1e-6)]
    assert list(inspect.signature(NaiveISM).parameters)[:3] == ["model", "seq_input_idx", "change_ranges"]


def test_code_written_for_version_0_5_runs():
    from fastism.models.basset import basset_model
    from fastism.models.bpnet import bpnet_model
    from fastism.models.factorized_basset import factorized_basset_model

    assert callable(factorized_basset_model)
    model = basset_model(seqlen=100)
    fast_ism_model = FastISM(
        model, seq_input_idx=0, change_ranges=None, early_stop_layers=None, test_correctness=True, jit=JIT
    )
    x = keras.ops.convert_to_tensor(one_hot(100, 2))
    assert fast_ism_model(x).shape == (2, 100, 1)
    assert fast_ism_model(x, replace_with=[0, 0, 1, 0]).shape == (2, 100, 1)
    assert fast_ism_model.test_correctness(batch_size=2, replace_with=0, atol=1e-6) is True

    ranges = [(i, i + 3) for i in range(0, 30, 10)]
    ranged = FastISM(bpnet_model(seqlen=60, num_dilated_convs=2), change_ranges=ranges, jit=JIT)
    rows = [[0, 0, 0, 1], [1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]
    profile, counts = ranged(one_hot(60, 2), replace_with=rows)
    assert profile.shape == (2, 3, 60)
    assert counts.shape == (2, 3, 1)
    assert ranged.test_correctness(batch_size=2, replace_with=rows)

    naive = NaiveISM(ranged.model, seq_input_idx=0, change_ranges=ranges)
    x = one_hot(60, 2)
    for f, n in zip(ranged(x, replace_with=rows), naive(x, replace_with=rows), strict=True):
        np.testing.assert_allclose(f, n, atol=1e-5)


def test_what_the_package_offers():
    for name in fastism.__all__:
        assert hasattr(fastism, name)
    assert {"FastISM", "NaiveISM", "Saturation", "UnsupportedLayerError", "MismatchError"} <= set(fastism.__all__)
    assert {"Scorer", "map_regions", "open_scores", "load_model", "saturation_mutagenesis"} <= set(fastism.__all__)
    assert set(fastism.__all__) == {"__version__", *fastism._DEFINED_IN} <= set(dir(fastism))
    assert fastism.scores is importlib.import_module("fastism.scores")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fastism.nothing
    assert issubclass(UnsupportedLayerError, ValueError)


def test_importing_the_package_imports_no_framework():
    code = "import fastism, sys; fastism.__version__; print([m for m in ('keras', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------ shapes and types


def test_one_output_is_an_array():
    answer = fast("three_pools")(inputs_of("three_pools"))
    assert type(answer) is np.ndarray
    assert answer.dtype == FLOAT
    assert answer.shape == (3, 101, 2)
    result = fast("three_pools").saturate(inputs_of("three_pools"))
    assert isinstance(result, Saturation)
    assert result._fields == ("reference", "mutant")
    assert result.reference.shape == (3, 2)
    assert result.mutant.shape == (3, 101, 4, 2)


def test_several_outputs_are_a_list():
    answer = fast("residual_valid_cropped")(inputs_of("residual_valid_cropped"))
    assert type(answer) is list
    model = design("residual_valid_cropped")
    assert [a.shape for a in answer] == [(3, 90, *t.shape[1:]) for t in model.outputs]
    reference, mutant = fast("residual_valid_cropped").saturate(inputs_of("residual_valid_cropped"), 3, 5)
    assert type(reference) is type(mutant) is list
    assert [a.shape for a in mutant] == [(3, 2, 4, *t.shape[1:]) for t in model.outputs]


def test_dict_outputs_are_a_dict():
    x = inputs_of("dict_outputs")
    answer = fast("dict_outputs")(x)
    assert {k: v.shape for k, v in answer.items()} == {"profile": (3, 20, 18, 1), "count": (3, 20, 1)}
    reference, mutant = fast("dict_outputs").saturate(x)
    assert {k: v.shape for k, v in reference.items()} == {"profile": (3, 18, 1), "count": (3, 1)}
    assert {k: v.shape for k, v in mutant.items()} == {"profile": (3, 20, 4, 18, 1), "count": (3, 20, 4, 1)}
    np.testing.assert_array_equal(fast("dict_outputs")({"dna": x})["count"], answer["count"])


def test_any_alphabet():
    result = fast("protein").saturate(inputs_of("protein"), 0, 3)
    assert result.mutant.shape == (3, 3, 20, 2)


# ------------------------------------------------------------------------------------------ the same as naive


@pytest.mark.parametrize("name", SEVERAL)
def test_naive_gives_the_same(name):
    x = inputs_of(name, 2)
    naive = NaiveISM(design(name), DESIGNS[name].index)
    reference = naive.reference(x)
    agree(fast(name)(x), naive(x), reference)
    wanted, got = naive.saturate(x, 4, 9), fast(name).saturate(x, 4, 9)
    agree(got.mutant, wanted.mutant, reference)
    for g, w in zip(flat(got.reference), flat(wanted.reference), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
    assert type(fast(name)(x)) is type(naive(x))


def test_inputs_are_taken_in_the_order_of_the_model():
    track, x, vector = inputs_of("second_input_mutated")
    answer = fast("second_input_mutated")([track, x, vector])
    model = design("second_input_mutated")
    by_name = dict(zip([t.name for t in model.inputs], (track, x, vector), strict=True))
    for a, b in zip(answer, fast("second_input_mutated")(by_name), strict=True):
        np.testing.assert_array_equal(a, b)
    naive = overwritten(model, [track, x, vector], 1, [(p, p + 1) for p in range(26)], np.zeros((1, 4), FLOAT))
    agree(answer, naive, predict(model, [track, x, vector]))


# ------------------------------------------------------------------------------------------ metamorphic


def test_a_model_without_a_local_path_still_works():
    x = L.Input((9, 4))
    model = randomize(keras.Model(x, L.GRU(2)(x)))
    arrays = one_hot(9)
    naive = NaiveISM(model)
    agree(FastISM(model, jit=JIT)(arrays), naive(arrays), naive.reference(arrays))


@pytest.mark.parametrize("name", SEVERAL)
def test_writing_what_is_there_gives_the_reference_bit_for_bit(name):
    model, index = design(name), DESIGNS[name].index
    length, alphabet = model.inputs[index].shape[1:]
    given = inputs_of(name, 1)
    x = given[index] if isinstance(given, list) else given
    width = 3
    for start in (0, 5, length - width):
        ism = FastISM(model, index, change_ranges=[(start, start + width)], test_correctness=False, jit=JIT)
        reference = flat(ism.saturate(given, 0, 1).reference)
        same = flat(ism(given, replace_with=x[0, start : start + width]))
        for s, r in zip(same, reference, strict=True):
            np.testing.assert_array_equal(s[:, 0], r)
    assert alphabet == x.shape[2]


@pytest.mark.parametrize("name", SEVERAL)
def test_the_letter_that_is_there_is_the_reference_bit_for_bit(name):
    given, index = inputs_of(name), DESIGNS[name].index
    x = given[index] if isinstance(given, list) else given
    reference, mutant = fast(name).saturate(given)
    there = x.astype(bool)
    for r, m in zip(flat(reference), flat(mutant), strict=True):
        cells = np.broadcast_to(r[:, None, None], m.shape)
        np.testing.assert_array_equal(m[there], cells[there])
        assert (m[~there] != cells[~there]).any()


@pytest.mark.parametrize("name", ["three_pools", "residual_valid_cropped", "recurrent_tail"])
def test_chunks_make_no_difference(name):
    x = inputs_of(name, 2)
    want = fast(name).saturate(x, 5, 17)
    for batch_size in (1, 10, 1000) if not JIT else (10,):
        got = fast(name, batch_size=batch_size).saturate(x, 5, 17)
        agree(got.mutant, want.mutant, want.reference, TOLERANCE / 10)


@pytest.mark.parametrize("name", ["three_pools", "residual_valid_cropped", "recurrent_tail"])
def test_neighbours_in_the_batch_make_no_difference(name):
    x = inputs_of(name)
    want = fast(name)(x)
    reference = predict(design(name), [x])
    for order in ([2, 0, 1], [1]):
        agree(fast(name)(x[order]), [w[order] for w in flat(want)], [r[order] for r in reference], TOLERANCE / 10)


def test_more_sequences_than_are_cached_at_once(monkeypatch):
    x = inputs_of("three_pools", 5)
    want = fast("three_pools")(x)
    few = FastISM(design("three_pools"), test_correctness=False, jit=JIT, memory=10**6)
    monkeypatch.setattr("fastism.sizes.CACHE_SHARE", 0.0)
    assert few._engine.sizing.sequences_at_once(5, 1) == 1
    agree(few(x), want, predict(design("three_pools"), [x]), TOLERANCE / 10)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(("start", "end"), [(0, 4), (7, 8), (-3, None)])
def test_a_stretch_is_a_slice_of_the_whole(name, start, end):
    x = inputs_of(name)
    whole, part = fast(name).saturate(x), fast(name).saturate(x, start, end)
    agree(part.mutant, [m[:, start:end] for m in flat(whole.mutant)], whole.reference, TOLERANCE / 10)


def test_ranges_in_any_order_are_single_positions_rearranged():
    x = inputs_of("three_pools")
    order = [50, 3, 100, 3, 0]
    ism = FastISM(design("three_pools"), change_ranges=[(p, p + 1) for p in order], test_correctness=False, jit=JIT)
    whole = fast("three_pools")(x)
    agree(ism(x), whole[:, order], predict(design("three_pools"), [x]), TOLERANCE / 10)


def test_a_second_call_with_another_number_of_sequences():
    model = design("three_pools")
    ism = FastISM(model, test_correctness=False, jit=JIT)
    x = one_hot(101, 4, seed=5)
    ranges = [(p, p + 1) for p in range(101)]
    for n in (2, 1, 4, 2):
        naive = overwritten(model, [x[:n]], 0, ranges, np.zeros((1, 4), FLOAT))
        agree(ism(x[:n]), naive, predict(model, [x[:n]]))


def test_the_same_call_gives_the_same_bits():
    x = inputs_of("residual_valid_cropped")
    ism = fast("residual_valid_cropped")
    for one, two in zip(ism(x), ism(x), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("jit", [JIT, "auto"])
def test_weights_that_change_later_are_respected(jit):
    model = randomize(DESIGNS["three_pools"].build(), seed=1)
    ism = FastISM(model, test_correctness=False, jit=jit)
    x, ranges = one_hot(101, 2), [(p, p + 1) for p in range(101)]
    first = ism(x)
    randomize(model, seed=2)
    second = ism(x)
    assert np.abs(first - second).max() > 0.01
    agree(second, overwritten(model, [x], 0, ranges, np.zeros((1, 4), FLOAT)), predict(model, [x]))


# ------------------------------------------------------------------------------------------ copies, and as text


def pickled(ism):
    return pickle.loads(pickle.dumps(ism))


@pytest.mark.parametrize("again", [pickled, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("name", SEVERAL)
def test_a_copy_gives_the_same(name, again):
    x = inputs_of(name, 2)
    want = fast(name)(x)  # used before it is copied, so that there is something compiled
    twin = again(fast(name))
    for a, b in zip(flat(twin(x)), flat(want), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(flat(twin.saturate(x, 2, 6)), flat(fast(name).saturate(x, 2, 6)), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(flat(fast(name)(x)), flat(want), strict=True):
        np.testing.assert_array_equal(a, b)
    assert type(twin(x)) is type(want)


@pytest.mark.parametrize("jit", [JIT, "auto"])
def test_a_pickle_keeps_the_options(jit):
    stop = [layer.name for layer in design("three_pools").layers if isinstance(layer, L.MaxPooling1D)][-1:]
    ranges = [(0, 3), (50, 53), (98, 101)]
    ism = FastISM(design("three_pools"), 0, ranges, stop, test_correctness=False, batch_size=5, jit=jit)
    x, motif = one_hot(101, 2), np.eye(4)[[0, 3, 1]]
    want = ism(x, motif)
    twin = pickled(ism)
    np.testing.assert_array_equal(twin(x, motif), want)
    assert str(twin.explain()) == str(ism.explain())
    assert repr(twin).split("(101")[1] == repr(ism).split("(101")[1]  # Keras renames inputs that have no name
    assert twin.test_correctness(1, motif)


def test_a_deep_copy_has_a_model_of_its_own():
    ism = FastISM(randomize(DESIGNS["three_pools"].build(), seed=1), test_correctness=False, jit=JIT)
    x = one_hot(101, 2)
    before = ism(x)
    twin, sharing = copy.deepcopy(ism), copy.copy(ism)
    assert twin.model is not ism.model
    assert sharing.model is ism.model
    randomize(twin.model, seed=2)
    np.testing.assert_array_equal(ism(x), before)
    np.testing.assert_array_equal(sharing(x), before)
    agree(twin(x), NaiveISM(twin.model)(x), predict(twin.model, [x]))
    assert np.abs(twin(x) - before).max() > 0.01


def test_it_says_what_it_is_in_one_line():
    x = L.Input((40, 4), name="dna")
    model = keras.Model(x, L.Conv1D(2, 3)(x), name="small")
    where = keras.backend.backend()
    compiled = "eager" if where == "torch" else "xla"
    assert repr(FastISM(model, test_correctness=False)) == (
        f"<FastISM of model 'small': input 'dna' (40, 4), 40 ranges of width 1, {where} ({compiled})>"
    )
    one = FastISM(model, change_ranges=[(3, 8)], test_correctness=False, jit=False)
    assert repr(one) == f"<FastISM of model 'small': input 'dna' (40, 4), 1 range of width 5, {where} (eager)>"


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize("stop", ["max_pooling", ["dense"], ("batch_normalization", "max_pooling")])
def test_early_stop_gives_the_same(stop):
    x = L.Input((40, 4))
    y = L.Conv1D(5, 5, padding="same", activation="relu", name="conv")(x)
    y = L.MaxPooling1D(2, name="max_pooling")(L.BatchNormalization(name="batch_normalization")(y))
    model = randomize(keras.Model(x, L.Dense(2, name="dense")(L.Flatten(name="flatten")(y))))
    arrays = one_hot(40)
    ism = FastISM(model, early_stop_layers=stop, jit=JIT)
    plain = FastISM(model, jit=JIT)
    agree(ism(arrays), plain(arrays), predict(model, [arrays]))
    for name in [stop] if isinstance(stop, str) else stop:
        row = ism.explain().row(name)
        assert (row.state, row.reason) == ("dense", "named in early_stop_layers") or "computed whole" in row.reason
    assert plain.explain().row("max_pooling").state == "window"
    assert ism.explain().plan > plain.explain().plan


def test_strict_lists_every_call_without_a_rule():
    x = L.Input((20, 4))
    y = L.Conv1D(4, 3, padding="same", name="conv")(x)
    outputs = [
        L.GroupNormalization(2, name="groups")(y),
        L.Softmax(axis=1, name="over_positions")(y),
        L.LSTM(2, name="memory", return_state=True)(y)[0],
    ]
    model = keras.Model(x, outputs, name="mixed")
    with pytest.raises(UnsupportedLayerError) as caught:
        FastISM(model, strict=True)
    assert caught.match(r"Model 'mixed' has 3 call\(s\) that would be computed whole")
    assert caught.match(r"groups \(GroupNormalization\): GroupNormalization has no rule")
    assert caught.match(r"memory \(LSTM\): it gives its state too")
    assert caught.match(r"over_positions \(Softmax\): its softmax runs over axis 1")
    assert "conv" not in str(caught.value)


@pytest.mark.parametrize("name", ["three_pools", "residual_valid_cropped", "global_max", "operations"])
def test_strict_lets_supported_models_pass(name):
    ism = FastISM(design(name), strict=True, test_correctness=False)
    assert not ism._engine.plan(1).gaps
    assert any(p.state == WINDOW for p in ism._engine.plan(1).steps)


def test_an_output_that_a_mutation_does_not_reach_is_the_reference_bit_for_bit():
    x = inputs_of("one_branch_cropped_away")
    reference, mutant = fast("one_branch_cropped_away").saturate(x)
    cropped = mutant[1]  # (N, P, A, T, C): positions 15 to 23 of a valid convolution of width 3
    reached = np.zeros(40, bool)
    reached[15:25] = True
    want = np.broadcast_to(reference[1][:, None, None], cropped.shape)
    np.testing.assert_array_equal(cropped[:, ~reached], want[:, ~reached])
    for p in np.flatnonzero(reached):
        assert (cropped[:, p] != want[:, p]).any(), p
    beyond = np.abs(np.arange(15, 23)[:, None] + 1 - np.arange(40)) > 1  # (T, P): outputs that do not read p
    for t, p in zip(*np.nonzero(beyond), strict=True):
        np.testing.assert_array_equal(cropped[:, p, :, t], want[:, p, :, t])


def test_progress_goes_to_stderr_when_asked(capsys):
    x = inputs_of("three_pools", 1)
    fast("three_pools").saturate(x)
    assert capsys.readouterr() == ("", "")
    fast("three_pools").saturate(x, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "303/303" in err, "101 positions, 3 other letters each"
    assert "variants" in err


def test_tiny_inputs_and_edits_as_wide_as_the_input():
    x = L.Input((5, 4))
    model = randomize(keras.Model(x, L.Conv1D(3, 3, padding="same", activation="tanh")(x)))
    arrays = one_hot(5)
    ism = FastISM(model, change_ranges=[(0, 5)], jit=JIT)
    naive = overwritten(model, [arrays], 0, [(0, 5)], np.zeros((5, 4), FLOAT))
    agree(ism(arrays), naive, predict(model, [arrays]))
    x = L.Input((1, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(3, 3, padding="same")(x)))))
    arrays = one_hot(1)
    agree(FastISM(model, jit=JIT)(arrays), NaiveISM(model)(arrays), predict(model, [arrays]))
