"""Metrics against numbers computed by hand, against SciPy, and at the ends of what floats hold."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from fastism import FastISM, NaiveISM
from fastism.metrics import METRICS, Metric, counts, get_metric, jsd, log2FC, logSED, logSUM, profile
from fastism.scores import difference
from fastism.testing import randomize

LOG2_3 = 1.584962500721156
LN2, LN3 = 0.6931471805599453, 1.0986122886681098

# name, reference (*output), alternative (*output), expected: computed by hand
BY_HAND = [
    ("subtract", [2.0, 8.0], [5.0, 6.0], [3.0, -2.0]),
    ("divide", [2.0, 8.0], [5.0, 6.0], [2.5, 0.75]),
    ("log2FC", [2.0, 8.0], [8.0, 2.0], [2.0, -2.0]),
    ("logit", [0.5, 0.8], [0.75, 0.5], [LN3, -2 * LN2]),  # log(3) - 0, 0 - log(4)
    ("logfc", [0.0, LN2], [LN2, -LN2], [1.0, -2.0]),
    ("counts", [1.0], [3.5], [2.5]),
    ("SUM", [1.0, 2.0, 3.0], [2.0, 2.0, 5.0], 3.0),
    ("SED", [1.0, 2.0, 3.0], [2.0, 2.0, 5.0], 3.0),
    ("logSUM", [0.0, 1.0, 3.0], [1.0, 7.0, 0.0], 1.0),  # 1 + 2 - 2
    ("logSED", [0.0, 1.0, 0.0], [3.0, 1.0, 3.0], 2.0),  # log2(8) - log2(2)
    ("logSED", [0.0, 2.0], [0.0, 0.0], -LOG2_3),
    # softmax(0, log 3) = 1/4, 3/4, mean log(3)/2: w = -log(3)/8 + 3 log(3)/8 = log(3)/4; of equal logits 0
    ("profile", [0.0, 0.0], [0.0, LN3], LN3 / 4),
    ("profile", [0.0, LN3], [5.0, 5.0], -LN3 / 4),
    # p = (1/2, 1/2), q = (1/4, 3/4), m = (3/8, 5/8)
    (
        "jsd",
        [0.0, 0.0],
        [0.0, LN3],
        np.sqrt(0.5 * (0.5 * np.log2(4 / 3) + 0.5 * np.log2(0.8) + 0.25 * np.log2(2 / 3) + 0.75 * np.log2(1.2))),
    ),
    ("jsd", [0.0, 0.0], [0.0, LN3], 0.2208958),
    ("jsd", [0.0, -1e4], [-1e4, 0.0], 1.0),
]


@pytest.mark.parametrize(("name", "reference", "alternative", "expected"), BY_HAND)
def test_by_hand(name, reference, alternative, expected):
    found = METRICS[name]([reference], [[[alternative]]])
    np.testing.assert_allclose(found[0, 0, 0], expected, rtol=1e-6, atol=1e-12)
    assert found.dtype == np.float64
    np.testing.assert_allclose(METRICS[name]([reference], [alternative])[0], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "reference", "alternative", "expected"),
    [
        ("divide", {"pseudocount": 1}, [0.0], [3.0], [4.0]),
        ("log2FC", {"pseudocount": 1}, [0.0], [3.0], [2.0]),
        ("logSUM", {"pseudocount": 2}, [0.0, 6.0], [6.0, 0.0], 0.0),
        ("logSUM", {"pseudocount": 0.5}, [0.5, 0.5], [1.5, 1.5], 2.0),
        ("logSED", {"pseudocount": 2}, [1.0, 1.0], [7.0, 7.0], 2.0),
        ("logit", {"clip": 0.25}, [0.5], [1.0], [LN3]),
    ],
)
def test_pseudocounts_are_arguments(name, options, reference, alternative, expected):
    found = METRICS[name]([reference], [[[alternative]]], **options)[0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_pseudocounts_and_their_defaults_are_told():
    assert METRICS["logSUM"].options == {"pseudocount": 1.0}
    assert METRICS["log2FC"].options == {"pseudocount": 0.0}
    with pytest.raises(TypeError, match=r"logSUM has no option \['pseudo'\]; \['pseudocount'\] is accepted"):
        logSUM([[1.0, 1.0]], [[1.0, 1.0]], pseudo=1)
    with pytest.raises(TypeError, match="counts has no option .*; none is accepted"):
        counts([[1.0]], [[1.0]], pseudocount=1)


def positive(generator, *shape):
    return generator.uniform(0.05, 0.95, shape).astype(np.float32)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("output", [(7,), (7, 3)])
def test_shapes_and_agreement_with_one_at_a_time(name, output):
    generator = np.random.default_rng(0)
    reference, alternative = positive(generator, 2, *output), positive(generator, 2, 3, 4, *output)
    found = METRICS[name](reference, alternative)
    rest = output if METRICS[name].consumes == "scalar" else () if name == "profile" else output[1:]
    assert found.shape == (2, 3, 4, *rest)
    for n, p, a in np.ndindex(2, 3, 4):
        alone = METRICS[name](reference[n][None], alternative[n, p, a][None])[0]
        np.testing.assert_allclose(found[n, p, a], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("output", [(1001,), (37, 3)])
def test_what_equals_the_reference_gets_exactly_the_neutral_value(name, output):
    generator = np.random.default_rng(1)
    reference = positive(generator, 2, *output)
    alternative = np.broadcast_to(reference[:, None, None], (2, 5, 4, *output))
    np.testing.assert_array_equal(METRICS[name](reference, alternative), 1.0 if name == "divide" else 0.0)
    assert METRICS[name].neutral == (1.0 if name == "divide" else 0.0)


@pytest.mark.parametrize("name", METRICS)
def test_signed_metrics_rise_where_the_alternative_is_stronger(name):
    reference, stronger = np.array([[0.2, 0.3, 0.2]]), np.array([[0.3, 0.9, 0.3]])
    up, down = METRICS[name](reference, stronger), METRICS[name](stronger, reference)
    neutral = METRICS[name].neutral
    assert (up > neutral).all()
    assert (down < neutral).all() == METRICS[name].signed
    assert METRICS[name].signed == (name != "jsd")


def test_jsd_is_scipys_distance_in_base_2():
    distance = pytest.importorskip("scipy.spatial.distance")
    special = pytest.importorskip("scipy.special")
    generator = np.random.default_rng(2)
    reference, alternative = generator.normal(size=(3, 200)) * 3, generator.normal(size=(3, 200)) * 3
    expected = distance.jensenshannon(special.softmax(reference, 1), special.softmax(alternative, 1), base=2, axis=1)
    np.testing.assert_allclose(jsd(reference, alternative), expected, rtol=1e-10)


def test_jsd_of_tracks_each_or_together():
    generator = np.random.default_rng(3)
    reference, alternative = generator.normal(size=(2, 9, 2)), generator.normal(size=(2, 9, 2))
    each = jsd(reference, alternative)
    assert each.shape == (2, 2)
    np.testing.assert_allclose(each[:, 1], jsd(reference[..., 1], alternative[..., 1]), rtol=1e-12)
    together = jsd(reference, alternative, joint=True)
    np.testing.assert_allclose(together, jsd(reference.reshape(2, 18), alternative.reshape(2, 18)), rtol=1e-12)


def test_jsd_lies_between_0_and_1_and_keeps_tiny_differences():
    generator = np.random.default_rng(4)
    for scale in (1e-6, 1, 50, 1e5):
        r, a = generator.normal(size=(5, 300)) * scale, generator.normal(size=(5, 300)) * scale
        found = jsd(r, a)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert (found <= 1).all()
    one = np.zeros((1, 1000))
    other = one.copy()
    other[0, 0] = 1e-7  # to first order the divergence is the variance of the change / 8, in bits
    expected = np.sqrt(1e-14 * (0.001 - 0.001**2) / 8 / LN2)
    assert jsd(one, other)[0] == pytest.approx(expected, rel=1e-5)


def test_profile_takes_positions_and_tracks_together_unless_told():
    generator = np.random.default_rng(5)
    reference, alternative = generator.normal(size=(2, 9, 2)), generator.normal(size=(2, 9, 2))
    flat = profile(reference.reshape(2, 18), alternative.reshape(2, 18))
    np.testing.assert_allclose(profile(reference, alternative), flat, rtol=1e-12)
    each = profile(reference, alternative, joint=False)
    np.testing.assert_allclose(each[:, 0], profile(reference[..., 0], alternative[..., 0]), rtol=1e-12)


def test_large_logits_do_not_overflow_and_a_constant_changes_nothing():
    generator = np.random.default_rng(6)
    r, a = generator.normal(size=(1, 50)), generator.normal(size=(1, 50))
    for metric in (profile, jsd):
        np.testing.assert_allclose(metric(r + 1e4, a - 1e4), metric(r, a), rtol=1e-8)
        assert np.isfinite(metric(np.float32(r * 1e4), np.float32(a * 1e4))).all()


def test_zero_profiles():
    zero, one = np.zeros((1, 20)), np.eye(1, 20)
    for name in ("SUM", "logSUM", "logSED", "profile", "jsd"):
        assert METRICS[name](zero, zero)[0] == 0
        assert METRICS[name](zero, one)[0] > 0


def test_half_precision_predictions_neither_overflow_nor_lose_small_differences():
    big = np.full((1, 1000), 6e4, np.float16)
    assert METRICS["SUM"](big, np.zeros_like(big))[0] == pytest.approx(-6e7, rel=1e-3)
    assert logSED(big, np.zeros_like(big))[0] == pytest.approx(-np.log2(6e7), rel=1e-3)
    many = np.full((1, 100_000), 100, np.float32)
    moved = many.copy()
    moved[0, 7] += 2.0**-10
    assert METRICS["SUM"](many, moved)[0] == 2.0**-10, "summed after the subtraction, in float64"
    expected = 2.0**-10 / 101 / LN2
    assert logSUM(many, moved)[0] == pytest.approx(expected, rel=1e-4)
    assert logSED(many, moved)[0] == pytest.approx(2.0**-10 / (1e7 + 1) / LN2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "reference", "message"),
    [
        ("divide", [[0.0]], "divide: a reference plus the pseudocount 0 is 0.*give another pseudocount"),
        ("log2FC", [[-1.0]], "log2FC: the lowest prediction plus the pseudocount 0 is -1; positive"),
        ("logSUM", [[-1.0, 1.0]], "logSUM: the lowest prediction plus the pseudocount 1 is 0"),
        ("logSED", [[-3.0, 1.0]], "logSED: the lowest prediction plus the pseudocount 1 is -1"),
        ("logit", [[1.5]], "logit: predictions range from 1.5 to 1.5; probabilities are accepted.*logits already"),
    ],
)
def test_numbers_for_which_a_formula_is_not_defined(name, reference, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name](reference, [np.abs(reference[0]) * 0 + 0.5])


def test_probabilities_of_0_and_1_are_clipped():
    assert METRICS["logit"]([[0.0]], [[1.0]]).item() == pytest.approx(2 * np.log((1 - 1e-6) / 1e-6))
    with pytest.raises(ValueError, match="clip is 0.5; a number above 0 and below 0.5"):
        METRICS["logit"]([[0.5]], [[0.6]], clip=0.5)


@pytest.mark.parametrize(
    ("name", "reference", "alternative", "message"),
    [
        (
            "subtract",
            (2, 3),
            (3, 4, 4, 3),
            r"subtract: the reference has shape \(2, 3\) and the alternatives \(3, 4, 4, 3\)",
        ),
        ("subtract", (2, 3), (2, 4, 4, 1), "such as"),
        (
            "logSUM",
            (2,),
            (2, 5, 4),
            r"logSUM: the reference has shape \(2,\); it consumes profiles, \(N, O\) or \(N, O, T\)",
        ),
        ("jsd", (2, 3, 4, 5), (2, 3, 4, 5), "it consumes profiles"),
    ],
)
def test_shapes_that_do_not_fit(name, reference, alternative, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name](np.ones(reference), np.ones(alternative))


def test_targets_are_chosen_first():
    generator = np.random.default_rng(7)
    reference = {"profile": positive(generator, 2, 9, 3), "counts": positive(generator, 2, 1)}
    alternative = {"profile": positive(generator, 2, 5, 4, 9, 3), "counts": positive(generator, 2, 5, 4, 1)}
    np.testing.assert_array_equal(
        logSUM(reference, alternative, target=("profile", 1)),
        logSUM(reference["profile"][..., 1], alternative["profile"][..., 1]),
    )
    assert jsd(reference, alternative, target="profile").shape == (2, 5, 4, 3)
    assert counts(reference, alternative, target="counts").shape == (2, 5, 4, 1)
    listed = [list(part.values()) for part in (reference, alternative)]
    assert profile(*listed, target=0).shape == (2, 5, 4)
    assert profile([listed[0][0]], [listed[1][0]]).shape == (2, 5, 4), "the only output needs no choice"
    assert logSUM(reference["profile"], alternative["profile"], target=[0, 2]).shape == (2, 5, 4, 2)
    with pytest.raises(ValueError, match="jsd: there are 2 outputs; choose one with target="):
        jsd(reference, alternative)


def test_functions_of_your_own():
    def largest(reference, alternative):
        """The largest change."""
        return np.abs(alternative - reference).max(-1)

    metric = get_metric(largest)
    assert (metric.name, metric.formula) == ("largest", "The largest change.")
    reference, alternative = np.zeros((2, 3)), np.arange(24.0).reshape(2, 4, 1, 3)
    found = metric(reference, alternative)
    np.testing.assert_array_equal(found[0, :, 0], [2, 5, 8, 11])
    assert found.shape == (2, 4, 1)
    with pytest.raises(ValueError, match=r"<lambda> gives shape \(\).*a number, or an array, for each of"):
        get_metric(lambda r, a: a.sum())(reference, alternative)
    with pytest.raises(ValueError, match="largest is no difference of a number for each sequence"):
        metric.reducer()


def test_metrics_by_name():
    assert get_metric("jsd") is jsd
    assert get_metric(jsd) is jsd
    assert isinstance(METRICS["logit"], Metric)
    with pytest.raises(ValueError, match="metric is 'SAD'; a function or a name of subtract, divide"):
        get_metric("SAD")
    with pytest.raises(TypeError, match="metric is 3"):
        get_metric(3)  # type: ignore[arg-type]


def test_chunks_change_nothing(monkeypatch):
    generator = np.random.default_rng(8)
    reference, alternative = positive(generator, 7, 5), positive(generator, 7, 3, 4, 5)
    whole = {name: metric(reference, alternative) for name, metric in METRICS.items()}
    monkeypatch.setattr("fastism.metrics._CHUNK", 150)
    for name, metric in METRICS.items():
        np.testing.assert_array_equal(metric(reference, alternative), whole[name])


def test_no_sequences_and_no_variants():
    assert log2FC(np.ones((0, 3)), np.ones((0, 2, 4, 3))).shape == (0, 2, 4, 3)
    assert logSUM(np.ones((2, 3, 5)), np.ones((2, 0, 4, 3, 5))).shape == (2, 0, 4, 5)


LENGTH = 24


def heads():
    x = keras.Input((LENGTH, 4))
    h = layers.Conv1D(6, 5, padding="same", activation="relu")(x)
    tracks = layers.Conv1D(2, 3, activation="sigmoid")(h)
    total = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling1D()(h))
    return randomize(keras.Model(x, {"profile": tracks, "counts": total}))


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, "profile") for name, m in METRICS.items() if not m.pairwise]
    + [("counts", "counts"), ("logSUM", ("profile", 1)), ("log2FC", ("profile", [1, 0])), ("profile", ("profile", 0))],
)
def test_on_the_device_they_are_what_they_are_on_whole_outputs(name, target):
    model = heads()
    x = np.eye(4, dtype="float32")[np.random.default_rng(9).integers(0, 4, (2, LENGTH))]
    fast = difference(*FastISM(model, reduce=METRICS[name].reducer(target)).saturate(x, 8, 12))
    reference, mutant = NaiveISM(model).saturate(x, 8, 12)
    expected = METRICS[name](reference, mutant, target=target)
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(fast, expected, atol=2e-4 * np.abs(expected).max() + 2e-6)
    there = x[:, 8:12] == 1
    np.testing.assert_array_equal(fast[there], 0)


OF_YOUR_OWN = Metric("largest", "profile", True, False, "by hand", lambda r, a: (a - r).max(axis=2))


@pytest.mark.parametrize(
    "metric",
    [
        *(METRICS[name] for name in ("SED", "logSUM", "logSED", "profile")),
        logSED.using(pseudocount=5.0),
        replace(logSED, name="under another name", options={"pseudocount": 3.0}),
        OF_YOUR_OWN,
    ],
    ids=lambda metric: f"{metric.name} {dict(metric.options)}",
)
def test_the_part_on_the_device_and_the_rest_are_the_metric(metric):
    rng = np.random.default_rng(0)
    before, after = (rng.uniform(0.1, 2.0, (3, 6, 2)).astype("float32") for _ in range(2))
    reduce, rest = metric.on_device()
    if reduce is None:
        assert rest is metric is OF_YOUR_OWN
        return
    parts = [keras.ops.convert_to_numpy(reduce(keras.ops.convert_to_tensor(y))) for y in (before, after)]
    assert parts[0].shape == ((3,) if metric.name == "profile" else (3, 2))
    if metric.function is logSED.function:  # the logarithm is taken on the host, in float64
        np.testing.assert_allclose(parts[0], before.sum(axis=1), rtol=1e-5)
        assert rest.options == metric.options
    np.testing.assert_allclose(rest(*parts), metric(before, after), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_computed_on_the_device():
    for name in ("divide", "jsd"):
        with pytest.raises(ValueError, match=f"{name} is no difference of a number for each sequence"):
            METRICS[name].reducer()
    with pytest.raises(TypeError, match="profile has no option"):
        profile.reducer(pseudocount=1)
    with pytest.raises(ValueError, match="profile: the model has 2 outputs; choose one with target="):
        profile.reducer()([np.zeros((1, 3)), np.zeros((1, 1))])
