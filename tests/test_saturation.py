"""The function for users of PyTorch tools, against one call of the model for each mutant."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism import FastISM, NaiveISM
from fastism.ensemble import Ensemble
from fastism.metrics import METRICS
from fastism.saturation import RawSaturation, saturation_mutagenesis
from fastism.testing import randomize

LENGTH, N = 12, 3


def one_hot(length=LENGTH, seed=0):
    return np.eye(4, dtype=keras.config.floatx())[np.random.default_rng(seed).integers(0, 4, (N, length))]


def model_of(targets=3, length: int | None = LENGTH):
    x = keras.Input((length, 4))
    h = layers.Conv1D(5, 4, padding="same", activation="relu")(x)
    h = layers.Flatten()(h) if length else layers.GlobalAveragePooling1D()(h)
    return randomize(keras.Model(x, layers.Dense(targets)(h)))


def two_headed():
    x = keras.Input((LENGTH, 4))
    h = layers.Conv1D(5, 4, padding="same", activation="relu")(x)
    return randomize(keras.Model(x, [layers.Conv1D(2, 3)(h), layers.Dense(1)(layers.Flatten()(h))]))


def predict(model, *inputs):
    y = model(inputs[0] if len(inputs) == 1 else list(inputs))
    return [np.asarray(ops.convert_to_numpy(t), np.float64) for t in keras.tree.flatten(y)]


def brute_force(model, x, start=0, end=LENGTH, args=()):
    """Each output's reference (N, *output) and mutants (N, P, A, *output), one call of the model for each mutant."""
    before = predict(model, x, *args)
    after = [np.empty((len(x), end - start, 4, *y.shape[1:])) for y in before]
    for n, p, a in np.ndindex(len(x), end - start, 4):
        mutant = x[n : n + 1].copy()
        mutant[0, start + p] = np.eye(4)[a]
        for whole, y in zip(after, predict(model, mutant, *[e[n : n + 1] for e in args]), strict=True):
            whole[n, p, a] = y[0]
    return before, after


def expected_attributions(x, before, after, *, over, hypothetical):
    """Mean-centred differences as loops, ``over`` A or A - 1 letters."""
    found = np.zeros(after.shape)
    for n, p in np.ndindex(after.shape[:2]):
        d = after[n, p] - before[n]
        for a in range(4):
            if hypothetical or x[n, p, a] == 1:
                found[n, p, a] = d[a] - sum(d[b] for b in range(4)) / over
    return found


CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(scope="module")
def example():
    model, x = model_of(), one_hot()
    (before,), (after,) = brute_force(model, x)
    return model, x, before, after


def test_arguments_are_in_the_order_that_users_know():
    named = "model X args start end batch_size target hypothetical raw_outputs dtype device verbose func"
    parameters = inspect.signature(saturation_mutagenesis).parameters
    assert [*parameters][:13] == named.split()
    assert (parameters["start"].default, parameters["end"].default) == (0, -1)
    assert all(p.kind is p.KEYWORD_ONLY for p in [*parameters.values()][13:])


@pytest.mark.parametrize("hypothetical", [False, True])
@pytest.mark.parametrize("rule", ["mean4", "mean3"])
def test_attributions_equal_brute_force(example, hypothetical, rule):
    model, x, before, after = example
    found = saturation_mutagenesis(model, x, target=1, hypothetical=hypothetical, rule=rule)
    over = {"mean4": 4, "mean3": 3}[rule]
    expected = expected_attributions(x, before[:, 1], after[..., 1], over=over, hypothetical=hypothetical)
    assert found.shape == x.shape
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert np.abs(expected).max() > 0.01


def test_attributions_are_positive_where_the_letter_is_needed():
    x_in = keras.Input((2, 4))
    model = keras.Model(x_in, layers.Dense(1, use_bias=False)(layers.Flatten()(x_in)))
    model.layers[-1].set_weights([np.array([[0, 4, 0, 0, 0, 0, 1, 3]]).T])
    x = np.eye(4)[[[1, 2]]]  # CG: 4 + 1; any other letter first loses 4; T second gains 2, A and C lose 1
    np.testing.assert_allclose(saturation_mutagenesis(model, x), [[[0, 3, 0, 0], [0, 0, 0, 0]]], atol=1e-6)
    by_three = saturation_mutagenesis(model, x, rule="mean3")
    np.testing.assert_allclose(by_three, [[[0, 4, 0, 0], [0, 0, 0, 0]]], atol=1e-6)
    hypothetical = saturation_mutagenesis(model, x, hypothetical=True)
    np.testing.assert_allclose(hypothetical, [[[-1, 3, -1, -1], [-1, -1, 0, 2]]], atol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "stretch"),
    [
        (0, -1, (0, 12)),
        (0, None, (0, 12)),
        (0, 12, (0, 12)),
        (3, -1, (3, 12)),
        (3, -2, (3, 11)),
        (0, -12, (0, 1)),
        (3, 7, (3, 7)),
        (np.int64(11), None, (11, 12)),
    ],
)
def test_end_of_minus_one_is_the_end_of_the_sequence(example, start, end, stretch):
    model, x, before, after = example
    where = slice(*stretch)
    found = saturation_mutagenesis(model, x, start=start, end=end, target=0)
    expected = expected_attributions(x[:, where], before[:, 0], after[:, where, :, 0], over=4, hypothetical=False)
    assert found.shape == (N, stretch[1] - stretch[0], 4)
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 5), (0, 13), (-1, 5), (3, -13), (0.5, 3), (0, "end")])
def test_stretches_out_of_range(example, start, end):
    with pytest.raises(ValueError, match="start=.*end=.*0 <= start < end <= 12"):
        saturation_mutagenesis(example[0], example[1], start=start, end=end, target=0)


def test_channels_first_comes_back_channels_first(example):
    model, x, before, after = example
    turned = x.transpose(0, 2, 1)
    for options in ({"target": 0}, {"target": [0, 2]}, {"target": 2, "hypothetical": True, "start": 2, "end": 5}):
        found, own = (saturation_mutagenesis(model, s, **options) for s in (turned, x))
        np.testing.assert_array_equal(found, np.swapaxes(own, 1, 2))
    y0, y_hat = saturation_mutagenesis(model, turned, start=2, end=7, raw_outputs=True)
    assert y_hat.shape == (N, 4, 5, 3)
    np.testing.assert_allclose(y_hat, np.swapaxes(after[:, 2:7], 1, 2), **CLOSE)
    np.testing.assert_allclose(y0, before, **CLOSE)


def test_four_by_four_is_refused_until_told():
    model, x = model_of(length=4), one_hot(4)
    with pytest.raises(
        ValueError, match=r"X has shape \(3, 4, 4\), which can be \(N, L, A\) as well as .*layout='NLA'"
    ):
        saturation_mutagenesis(model, x, target=0)
    as_keras = saturation_mutagenesis(model, x, target=0, layout="NLA")
    as_torch = saturation_mutagenesis(model, x.transpose(0, 2, 1), target=0, layout="NAL")
    np.testing.assert_array_equal(as_torch, as_keras.transpose(0, 2, 1))
    with pytest.raises(ValueError, match="layout is 'NCL'; 'NLA'"):
        saturation_mutagenesis(model, x, target=0, layout="NCL")


def test_sequences_of_any_length():
    model, x = model_of(1, None), one_hot(9)
    found = saturation_mutagenesis(model, x)
    assert found.shape == (N, 9, 4)
    np.testing.assert_array_equal(saturation_mutagenesis(model, x.transpose(0, 2, 1)), found.transpose(0, 2, 1))
    with pytest.raises(ValueError, match="as well as"):
        saturation_mutagenesis(model, one_hot(4))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (
            (N, 11, 4),
            {},
            r"X has shape \(3, 11, 4\); the model takes \(N, 12, 4\), so this or \(N, 4, 12\) is accepted",
        ),
        ((N, 12, 5), {}, r"X has shape \(3, 12, 5\)"),
        ((N, 12, 4), {"layout": "NAL"}, "With layout='NAL' it is read so"),
        ((12, 4), {}, r"X has shape \(12, 4\).*X\[None\]"),
    ],
)
def test_shapes_that_do_not_fit(example, shape, options, message):
    with pytest.raises(ValueError, match=message):
        saturation_mutagenesis(example[0], np.zeros(shape), target=0, **options)


def test_letters_are_no_numbers(example):
    with pytest.raises(TypeError, match="X has dtype .*Encode letters first"):
        saturation_mutagenesis(example[0], np.full((N, LENGTH, 4), "A"))
    with pytest.raises(TypeError, match="X is a str; an array .*one_hot"):
        saturation_mutagenesis(example[0], "ACGT")


def test_tensors_are_arrays_those_of_torch_on_every_backend(example):
    torch = pytest.importorskip("torch")
    model, x, *_ = example
    want = saturation_mutagenesis(model, x, target=0)
    for given in (keras.ops.convert_to_tensor(x), torch.tensor(x, requires_grad=True)):
        np.testing.assert_allclose(saturation_mutagenesis(model, given, target=0), want, **CLOSE)
        ensemble = Ensemble([model], rc=True)
        np.testing.assert_allclose(ensemble.saturate(given).mutant, ensemble.saturate(x).mutant, **CLOSE)


def test_raw_outputs_are_named_and_unpack(example):
    model, x, before, after = example
    raw = saturation_mutagenesis(model, x, raw_outputs=True)
    assert isinstance(raw, RawSaturation)
    y0, y_hat = raw
    np.testing.assert_allclose(raw.y_hat, after, **CLOSE)
    np.testing.assert_allclose(y0, before, **CLOSE)
    there = x == 1
    np.testing.assert_array_equal(y_hat[there], np.repeat(y0, LENGTH, axis=0), "the identity holds the reference")
    assert saturation_mutagenesis(model, x, raw_outputs=True, target=[2, 0]).y_hat.shape == (N, LENGTH, 4, 2)


@pytest.mark.parametrize("swap", [False, True])
def test_all_outputs_have_their_axes_in_one_order(swap):
    model, x = two_headed(), one_hot()
    before, after = brute_force(model, x, 2, 7)
    given = x.transpose(0, 2, 1) if swap else x
    y0, y_hat = saturation_mutagenesis(model, given, start=2, end=7, raw_outputs=True)
    assert isinstance(y_hat, list)
    for i in range(2):
        np.testing.assert_allclose(y0[i], before[i], **CLOSE)
        np.testing.assert_allclose(y_hat[i], np.swapaxes(after[i], 1, 2) if swap else after[i], **CLOSE)


def test_several_targets_are_never_averaged_silently(example):
    model, x, before, after = example
    with pytest.raises(ValueError, match=r"3 targets, of which none is chosen and .*target=.*average=True"):
        saturation_mutagenesis(model, x)
    each = [expected_attributions(x, before[:, t], after[..., t], over=4, hypothetical=False) for t in range(3)]
    every = saturation_mutagenesis(model, x, target=slice(None))
    np.testing.assert_allclose(every, np.stack(each, axis=-1), **CLOSE)
    some = saturation_mutagenesis(model, x, target=[2, 0])
    np.testing.assert_allclose(some, np.stack([each[2], each[0]], axis=-1), **CLOSE)
    assert saturation_mutagenesis(model, x, target=[1]).shape == (N, LENGTH, 4, 1)


def test_averages_as_tangermeme_makes_them_when_asked(example):
    model, x, before, after = example
    each = [expected_attributions(x, before[:, t], after[..., t], over=4, hypothetical=True) for t in range(3)]
    mean = saturation_mutagenesis(model, x, hypothetical=True, average=True)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), **CLOSE)
    two = saturation_mutagenesis(model, x, target=slice(0, 2), hypothetical=True, average=True)
    np.testing.assert_allclose(two, np.mean(each[:2], axis=0), **CLOSE)


def test_one_target_needs_no_choice():
    model, x = model_of(1), one_hot()
    (before,), (after,) = brute_force(model, x)
    expected = expected_attributions(x, before[:, 0], after[..., 0], over=4, hypothetical=False)
    np.testing.assert_allclose(saturation_mutagenesis(model, x), expected, **CLOSE)


def test_outputs_and_targets_that_are_left_unchosen():
    model, x = two_headed(), one_hot()
    with pytest.raises(ValueError, match=r"2 outputs \[0, 1\]; attributions are of one.*target=\(0, 0\)"):
        saturation_mutagenesis(model, x)
    with pytest.raises(ValueError, match=r"shape \(10, 2\) for each sequence, .*Give func=.*or average=True"):
        saturation_mutagenesis(model, x, target=0)
    with pytest.raises(ValueError, match=r"shape \(10,\) for each sequence"):
        saturation_mutagenesis(model, x, target=(0, 1))
    with pytest.raises(ValueError, match="target is 3, but there are 2 outputs"):
        saturation_mutagenesis(model, x, target=3)
    before, after = brute_force(model, x)
    counts = saturation_mutagenesis(model, x, target=1)
    np.testing.assert_allclose(
        counts, expected_attributions(x, before[1][:, 0], after[1][..., 0], over=4, hypothetical=False), **CLOSE
    )
    mean = saturation_mutagenesis(model, x, target=(0, 1), average=True)
    track_before, track_after = before[0][..., 1].mean(1), after[0][..., 1].mean(-1)
    expected = expected_attributions(x, track_before, track_after, over=4, hypothetical=False)
    np.testing.assert_allclose(mean, expected, **CLOSE)


def test_a_function_of_the_outputs():
    model, x = two_headed(), one_hot()
    before, after = brute_force(model, x)
    found = saturation_mutagenesis(model, x, func=lambda y: ops.logsumexp(y[0], axis=1), target=1)
    sums = [np.log(np.exp(y[0][..., 1]).sum(-1)) for y in (before, after)]
    np.testing.assert_allclose(found, expected_attributions(x, *sums, over=4, hypothetical=False), **CLOSE)
    of_profile = saturation_mutagenesis(model, x, func=METRICS["profile"].reducer(0), hypothetical=True)
    delta = METRICS["profile"](before[0], after[0])
    zero = np.zeros(N)
    np.testing.assert_allclose(of_profile, expected_attributions(x, zero, delta, over=4, hypothetical=True), **CLOSE)
    with pytest.raises(ValueError, match="target is 0, but there is one number for each sequence"):
        saturation_mutagenesis(model, x, func=METRICS["profile"].reducer(0), target=0)
    with pytest.raises(TypeError, match="a function of the model's outputs"):
        saturation_mutagenesis(model, x, func="sum")  # type: ignore[arg-type]


def test_further_inputs():
    sequence, other = keras.Input((LENGTH, 4)), keras.Input((3,))
    h = layers.Concatenate()([layers.Flatten()(layers.Conv1D(3, 3)(sequence)), other])
    model = randomize(keras.Model([sequence, other], layers.Dense(1, activation="tanh")(h)))
    x, extra = one_hot(), np.random.default_rng(4).normal(size=(N, 3)).astype(keras.config.floatx())
    (before,), (after,) = brute_force(model, x, args=(extra,))
    found = saturation_mutagenesis(model, x.transpose(0, 2, 1), (extra,))
    expected = expected_attributions(x, before[:, 0], after[..., 0], over=4, hypothetical=False)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 1), **CLOSE)


@pytest.mark.parametrize("hypothetical", [False, True])
def test_an_n_gets_zeros(example, hypothetical):
    model, x, *_ = example
    unknown = x.copy()
    unknown[:, 0], unknown[:, 5] = 0, 0.25
    found = saturation_mutagenesis(model, unknown, target=0, hypothetical=hypothetical)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, [0, 5]], 0)
    assert np.abs(found[:, 1:5]).max() > 0


def test_one_sequence_and_integers(example):
    model, x, *_ = example
    whole = saturation_mutagenesis(model, x, target=0)
    np.testing.assert_allclose(saturation_mutagenesis(model, x[:1].astype(np.int8), target=0), whole[:1], **CLOSE)
    np.testing.assert_allclose(saturation_mutagenesis(model, x, batch_size=5, target=0), whole, **CLOSE)


def test_torch_tensors(example):
    torch = pytest.importorskip("torch")
    model, x, *_ = example
    tensor = torch.tensor(x.transpose(0, 2, 1), dtype=torch.float32, requires_grad=True)
    found = saturation_mutagenesis(model, tensor, None, 0, -1, 32, 0, dtype=torch.float32 if not_64() else None)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, saturation_mutagenesis(model, x, target=0).transpose(0, 2, 1), **CLOSE)


def not_64():
    return keras.config.floatx() == "float32"


def test_backend_tensors(example):
    model, x, *_ = example
    found = saturation_mutagenesis(model, ops.convert_to_tensor(x), target=0)
    np.testing.assert_array_equal(found, saturation_mutagenesis(model, x, target=0))


def test_dtype_and_device_are_keras_own(example):
    model, x, *_ = example
    saturation_mutagenesis(model, x, target=0, dtype=keras.config.floatx(), device=None)
    saturation_mutagenesis(model, x, target=0, dtype=np.dtype(keras.config.floatx()).type)
    with pytest.raises(ValueError, match="dtype is 'float16', but the model computes in float.*set_dtype_policy"):
        saturation_mutagenesis(model, x, target=0, dtype="float16")
    with pytest.raises(ValueError, match="device is 'cuda'; None is accepted"):
        saturation_mutagenesis(model, x, target=0, device="cuda")


def test_what_was_made_before_is_used_again(example):
    model, x, *_ = example
    whole = saturation_mutagenesis(model, x, target=0)
    for ism in (FastISM(model), NaiveISM(model), Ensemble([model])):
        np.testing.assert_allclose(saturation_mutagenesis(ism, x, target=0), whole, **CLOSE)
        with pytest.raises(ValueError, match="batch_size is for making a FastISM, but a .* was given"):
            saturation_mutagenesis(ism, x, target=0, batch_size=8)
        with pytest.raises(ValueError, match="func is for making a FastISM.*reduce="):
            saturation_mutagenesis(ism, x, target=0, func=lambda y: y)


def test_the_model_is_not_changed(example):
    model, x, *_ = example
    given, weights = x.copy(), [np.array(w) for w in model.get_weights()]
    flags = [(layer.name, layer.trainable) for layer in model.layers]
    before = predict(model, x)[0]
    saturation_mutagenesis(model, x, target=0)
    np.testing.assert_array_equal(x, given)
    assert flags == [(layer.name, layer.trainable) for layer in model.layers]
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(predict(model, x)[0], before)


def test_progress_is_off_unless_asked(example, capsys):
    model, x, *_ = example
    saturation_mutagenesis(model, x, target=0)
    assert capsys.readouterr().err == ""
    saturation_mutagenesis(model, x, target=0, verbose=True)
    assert "variants" in capsys.readouterr().err


def test_rules_and_models_that_are_not_there(example):
    with pytest.raises(ValueError, match="rule is 'mean'; 'mean4' or 'mean3'"):
        saturation_mutagenesis(example[0], example[1], rule="mean")
    with pytest.raises(ValueError, match="a Sequential, says of its first input nothing; a built Keras model"):
        saturation_mutagenesis(keras.Sequential([layers.Dense(1)]), example[1])
