"""Differences, attributions by each published rule, and the choice of targets, against numbers computed by hand."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastism
from fastism import CompactSaturation, Saturation, report, writers
from fastism import plot as plots
from fastism import scores as formulas
from fastism.result import ISMScores
from fastism.scores import (
    RULES,
    attribution,
    difference,
    has_letter,
    importance,
    log_ratio,
    mean3,
    mean4,
    norm2,
    select_target,
    zeroing,
)

# One sequence, CG. The reference predicts 8. At C: A gives 2, G 4, T 16; at G: A gives 8, C 10, T 9.
X = np.array([[[0, 1, 0, 0], [0, 0, 1, 0]]], dtype=float)
REFERENCE = np.array([[8.0]])
MUTANT = np.array([[[[2.0], [8.0], [4.0], [16.0]], [[8.0], [10.0], [8.0], [9.0]]]])
D = np.array([[[-6.0, 0.0, -4.0, 8.0], [0.0, 2.0, 0.0, 1.0]]])  # S = -2 and 3


def test_differences_are_alternative_minus_reference():
    np.testing.assert_array_equal(difference(REFERENCE, MUTANT)[..., 0], D)
    assert difference(REFERENCE, MUTANT)[0, 0, 0, 0] == -6, "negative where the letter that is there is needed"
    np.testing.assert_array_equal(difference(*Saturation(REFERENCE, MUTANT))[..., 0], D)


def test_log_ratios_are_of_alternative_to_reference():
    found = log_ratio(REFERENCE, MUTANT)[0, 0, :, 0]
    np.testing.assert_allclose(found, [-2, 0, -1, 1], atol=1e-12)
    with_one = log_ratio([[7.0]], [[[[7.0], [0.0], [1.0], [15.0]]]], pseudocount=1)[0, 0, :, 0]
    np.testing.assert_allclose(with_one, [0, -3, -2, 1], atol=1e-12)


def test_log_ratio_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="lowest prediction plus the pseudocount 0 is -1; positive .* pseudocount"):
        log_ratio([[1.0]], [[[[-1.0]]]])
    with pytest.raises(ValueError, match="lowest prediction plus the pseudocount 0.5 is 0"):
        log_ratio([[-0.5]], [[[[1.0]]]], pseudocount=0.5)


def test_log_ratio_neither_cancels_nor_loses_what_is_far():
    tiny = np.float64(1) + 2.0**-40
    assert log_ratio([[1.0]], [[[[tiny]]]]).item() == pytest.approx(2.0**-40 / np.log(2), rel=1e-9)
    assert log_ratio([[1.0]], [[[[2.0**-900]]]]).item() == -900
    assert log_ratio([[2.0**-900]], [[[[2.0**900]]]]).item() == 1800


# each row of the table of published formulas: rule, options, the values at C and at G
LITERAL = {
    "tangermeme hypothetical": (mean4, {"hypothetical": True}, [[-5.5, 0.5, -3.5, 8.5], [-0.75, 1.25, -0.75, 0.25]]),
    "tangermeme default": (mean4, {}, [[0, 0.5, 0, 0], [0, 0, -0.75, 0]]),
    "mean3 hypothetical": (mean3, {"hypothetical": True}, [[-16 / 3, 2 / 3, -10 / 3, 26 / 3], [-1, 1, -1, 0]]),
    "CREsted letters": (mean3, {}, [[0, 2 / 3, 0, 0], [0, 0, -1, 0]]),
}


@pytest.mark.parametrize("tool", LITERAL)
def test_attributions_by_each_rule(tool):
    rule, options, expected = LITERAL[tool]
    np.testing.assert_allclose(rule(X, D, **options), [expected], atol=1e-12)
    np.testing.assert_array_equal(rule(X, D, **options), attribution(X, D, rule=rule.__name__, **options))
    assert rule.__name__ in RULES


def test_alphagenome_without_multiplication_is_mean3_and_the_differences():
    np.testing.assert_allclose(mean3(X, D) + D, [[[-6, 2 / 3, -4, 8], [0, 2, -1, 1]]], atol=1e-12)


def test_grelu_modisco_is_mean3_of_log_ratios():
    found = mean3(X[:, :1], log_ratio(REFERENCE, MUTANT)[:, :1, :, 0])
    np.testing.assert_allclose(found, [[[0, 2 / 3, 0, 0]]], atol=1e-12)  # -(-2 - 1 + 1)/3


def test_the_two_families_differ_by_four_thirds():
    np.testing.assert_allclose(mean3(X, D), 4 / 3 * mean4(X, D))


def test_projected_is_hypothetical_times_the_sequence():
    for rule in (mean3, mean4):
        np.testing.assert_array_equal(rule(X, D), X * rule(X, D, hypothetical=True))


def test_importance_is_the_attribution_of_the_letter_and_can_be_had_from_plot():
    np.testing.assert_allclose(importance(X, D), [[0.5, -0.75]])
    np.testing.assert_allclose(importance(X, D, rule="mean3"), mean3(X, D).sum(-1))
    assert plots.importance is importance
    with pytest.raises(ValueError, match=r"\(1, 2, 4\).*\(1, 2, 4, 1\).*one output"):
        importance(X, D[..., None])


def test_one_rule_is_the_default_of_all_that_take_one():
    """Else one motif has two heights, 4/3 of each other, in two pictures of one result."""
    everything = [f for module in (fastism, formulas, plots, report, writers) for f in vars(module).values()]
    functions = {f for f in (*everything, ISMScores.attributions) if inspect.isfunction(f)}
    defaults = {
        f.__name__: parameters["rule"].default
        for f in functions
        if "rule" in (parameters := inspect.signature(f).parameters)
    }
    assert {"attribution", "importance", "plot_ism", "plot_scores", "write_report", "write_hdf5"} < set(defaults)
    assert set(defaults.values()) <= {"mean4", None}  # None: no attributions unless asked for


def test_norm_over_outputs_is_unsigned_and_zero_at_the_reference():
    deltas = np.stack([D, 2 * D, -2 * D], axis=-1)  # |d| times sqrt(1 + 4 + 4)
    np.testing.assert_allclose(norm2(deltas), 3 * np.abs(D))
    np.testing.assert_allclose(norm2(D), np.abs(D))
    with pytest.raises(ValueError, match=r"norm2: the differences have shape \(2, 4\)"):
        norm2(D[0])


def test_zeroing_is_reference_minus_zeroed_at_the_letter():
    zeroed = np.array([[[5.0], [8.5]]])  # (N, P, T)
    np.testing.assert_array_equal(zeroing(REFERENCE, zeroed), [[[3.0], [-0.5]]])
    at = zeroing(REFERENCE, zeroed, X)
    assert at.shape == (1, 2, 4, 1)
    np.testing.assert_array_equal(at[..., 0], [[[0, 3, 0, 0], [0, 0, -0.5, 0]]])
    unknown = X.copy()
    unknown[0, 0] = 0.25
    np.testing.assert_array_equal(zeroing(REFERENCE, zeroed, unknown)[0, 0], 0)
    with pytest.raises(ValueError, match=r"sequences have shape \(1, 1, 4\)"):
        zeroing(REFERENCE, zeroed, X[:, :1])


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [1, 1, 0, 0]])
def test_an_n_in_the_window_or_first_gets_zeros_and_never_nan(row):
    for position in (0, 1):
        x, delta = X.copy(), D.copy()
        x[0, position] = row
        delta[0, position] = np.nan
        assert not has_letter(x)[0, position]
        for rule in (mean3, mean4):
            for hypothetical in (False, True):
                found = rule(x, delta, hypothetical=hypothetical)
                np.testing.assert_array_equal(found[0, position], 0)
                np.testing.assert_array_equal(
                    found[0, 1 - position], rule(X, D, hypothetical=hypothetical)[0, 1 - position]
                )
        assert importance(x, delta)[0, position] == 0


def test_rule_and_shapes_are_checked():
    with pytest.raises(ValueError, match="rule is 'mean5'; 'mean4' or 'mean3' is accepted"):
        attribution(X, D, rule="mean5")
    with pytest.raises(ValueError, match=r"\(1, 2, 4\).*\(1, 2, 4, 1\).*one output"):
        mean4(X, D[..., None])


def test_half_precision_neither_overflows_nor_loses_small_differences():
    big = difference(np.float16([[-6e4]]), np.float16([[[[6e4]]]]))
    assert big.dtype == np.float32
    assert big.item() == pytest.approx(1.2e5, rel=1e-3)
    f, b = np.float32(1000), np.nextafter(np.float32(1000), np.float32(2000))
    assert difference(f[None, None], b[None, None, None, None]).item() == float(b) - float(f) > 0
    assert difference([[1]], [[[[2]]]]).dtype == np.float64
    found = attribution(np.eye(4)[None, :1], np.float16([[[0, 1, 2, 3]]]))
    np.testing.assert_array_equal(found, [[[-1.5, 0, 0, 0]]])


def test_differences_of_several_outputs_keep_their_nesting_and_axes():
    outputs = [np.zeros((1, 5, 2)), {"counts": np.ones((1, 1))}]
    mutants = [np.ones((1, 3, 4, 5, 2)), {"counts": np.full((1, 3, 4, 1), 3.0)}]
    found = difference(outputs, mutants)
    assert found[0].shape == (1, 3, 4, 5, 2)
    np.testing.assert_array_equal(found[1]["counts"], np.full((1, 3, 4, 1), 2.0))


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (1, 3, 4, 2), (1,)])
def test_differences_refuse_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"reference has shape \(1, 1\).*\(N, \*output\) and \(N, P, A, \*output\)"):
        difference(np.zeros((1, 1)), np.zeros(shape))


Y = np.arange(12.0).reshape(2, 2, 3)
NAMES = ["GM12878", "K562", "HepG2"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, Y),
        ([], Y),
        (1, Y[..., 1]),
        (np.int64(1), Y[..., 1]),
        (-1, Y[..., 2]),
        ("K562", Y[..., 1]),
        (slice(1, None), Y[..., 1:]),
        (slice(None), Y),
        ([2, 0], Y[..., [2, 0]]),
        ((0, -1), Y[..., [0, 2]]),
        (np.array([0, 2]), Y[..., [0, 2]]),
        (["HepG2", 0], Y[..., [2, 0]]),
    ],
)
def test_targets_of_an_array(target, expected):
    np.testing.assert_array_equal(select_target(Y, target, NAMES), expected)


def test_targets_are_never_averaged():
    assert select_target(Y, None).shape == Y.shape
    assert select_target(Y, slice(0, 2)).shape == (2, 2, 2)
    assert select_target(Y, [1]).shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("target", "names", "error", "message"),
    [
        (3, None, ValueError, "target is 3, but there are 3 targets; an index below 3, a slice or a list"),
        (-4, None, ValueError, "target is -4"),
        ("MCF7", NAMES, ValueError, "'MCF7' is the name of none of the targets; an index below 3 or a name of GM12878"),
        ("a", ["a", "a", "b"], ValueError, "'a' is the name of several of the targets"),
        ("K562", None, ValueError, "targets have no names; pass names="),
        ("K562", ["K562"], ValueError, "There are 1 names for 3 targets"),
        (slice(5, 9), None, ValueError, "holds none of 3 targets"),
        (True, None, TypeError, "target is True"),
        (np.bool_(True), None, TypeError, "target is"),
        (1.0, None, TypeError, r"target is 1.0; an index below 3"),
        ([0, 7], None, ValueError, "target is 7"),
        ([[0]], None, TypeError, "target is"),
    ],
)
def test_targets_that_are_not_there(target, names, error, message):
    with pytest.raises(error, match=message):
        select_target(Y, target, names)


def test_a_number_has_no_targets():
    with pytest.raises(ValueError, match="single number"):
        select_target(np.float64(3), 0)


OUTPUTS = {"profile": np.zeros((2, 50)), "counts": np.arange(6.0).reshape(2, 3)}


def test_targets_of_several_outputs_choose_an_output_first():
    assert select_target(OUTPUTS, "profile") is OUTPUTS["profile"]
    assert select_target(OUTPUTS, 1) is OUTPUTS["counts"]
    assert list(select_target(OUTPUTS, ["counts"])) == ["counts"]
    assert list(select_target(OUTPUTS)) == ["profile", "counts"]
    np.testing.assert_array_equal(select_target(OUTPUTS, ("counts", -1)), [2, 5])
    np.testing.assert_array_equal(select_target(OUTPUTS, ("counts", "K562"), NAMES), [1, 4])
    listed = list(OUTPUTS.values())
    assert select_target(listed, -1) is listed[1]
    assert select_target(listed, "counts", ["profile", "counts"]) is listed[1]
    assert select_target(listed, slice(1, 2)) == [listed[1]]
    np.testing.assert_array_equal(select_target(listed, (1, [0, 2])), [[0, 2], [3, 5]])


def test_outputs_that_are_not_there():
    with pytest.raises(ValueError, match="'tracks' is the name of none of the outputs; .* a name of profile, counts"):
        select_target(OUTPUTS, "tracks")
    with pytest.raises(ValueError, match="there are 2 outputs"):
        select_target(list(OUTPUTS.values()), 2)
    with pytest.raises(ValueError, match=r"\(output, target\) with one output"):
        select_target(OUTPUTS, (slice(None), 1))


def test_targets_of_a_result_are_those_of_both_its_parts():
    result = Saturation(OUTPUTS, {k: np.stack([v] * 4, 1)[:, None] for k, v in OUTPUTS.items()})
    chosen = select_target(result, ("counts", 1))
    assert isinstance(chosen, Saturation)
    assert chosen.reference.shape == (2,)
    assert chosen.mutant.shape == (2, 1, 4)
    with pytest.raises(ValueError, match=r"compact windows.*result.expanded\(\)"):
        select_target(CompactSaturation(Y, Y, Y), 0)
