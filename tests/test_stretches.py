"""Stretches that are planned apart: all of a sequence, in order, and narrower windows where changes reach less."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import layers as L

from fastism import FastISM, sizing
from fastism.plan import make_plan
from fastism.rules.reduce import Extreme
from fastism.stretches import MOST, Division, _cheapest, divide
from fastism.testing import randomize
from fastism.tuning import Tuner


def valid_stack(length=120, dilations=(1, 2, 4, 8)):
    """Valid convolutions: a change near an end reaches less."""
    x = y = L.Input((length, 4))
    for dilation in dilations:
        y = L.Conv1D(5, 3, dilation_rate=dilation, activation="relu")(y)
    return randomize(keras.Model(x, L.Dense(1)(L.GlobalAveragePooling1D()(y))))


def plan_of(model):
    return FastISM(model, test_correctness=False)._engine.plan(1)


def work(plan):
    """Multiply-accumulates for an edit, with windows as wide as the plan has them."""
    steps = [s for s in plan.steps if s.given is not None and s.wired.step is not None]
    return sum(s.wired.step.cost(s.given).per_input * max(w.width for w in s.given.windows) for s in steps)


def test_stretches_are_all_of_the_sequence_in_order():
    plan = plan_of(valid_stack())
    division = divide(plan, 0.01)
    assert 1 < len(division.stretches) <= MOST
    ends = list(itertools.chain.from_iterable(division.stretches))
    assert (ends[0], ends[-1]) == plan.stretch == (0, 120)
    assert ends[1:-1:2] == ends[2::2]


def test_a_plan_for_a_stretch_has_narrower_windows_and_less_work():
    plan = plan_of(valid_stack())
    division = divide(plan, 0.01)
    parts = [make_plan(plan.program, 1, stretch) for stretch in division.stretches]
    for part in parts:
        assert len(part.slot_table[0]) == part.stretch[1] - part.stretch[0]
        assert all(part.spans[t].width <= plan.spans[t].width for t in part.spans)
    share = sum(work(p) * (p.stretch[1] - p.stretch[0]) for p in parts) / (120 * work(plan))
    assert share < 0.97
    assert max(work(parts[0]), work(parts[-1])) < 0.8 * work(plan)


def test_where_every_edit_takes_the_same_there_is_one_stretch():
    x = L.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(1)(L.Flatten()(L.Conv1D(3, 1)(x)))))
    division = divide(plan_of(model), 0.01)
    assert (division.stretches, division.share) == (((0, 60),), 1.0)


def test_a_stretch_must_save_its_share():
    plan = plan_of(valid_stack())
    counts = [len(divide(plan, gain).stretches) for gain in (0.001, 0.01, 0.03, 0.1, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 1


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others compile each stretch; see test_tuning.py")
@pytest.mark.parametrize(("batch_size", "divided"), [(10, True), (200, False)])
def test_each_stretch_fills_a_chunk(batch_size, divided):
    ism = FastISM(valid_stack(), test_correctness=False, batch_size=batch_size)
    ism.saturate(np.eye(4)[np.random.default_rng(0).integers(0, 4, (1, 120))])
    assert ({shape.stretch for shape in ism._engine.functions.chunks} != {None}) == divided


def in_three(plan, gain):
    first, end = plan.stretch
    return Division(((first, 40), (40, 80), (80, end)), 0.5)


def test_one_reference_pass_serves_all_stretches(monkeypatch):
    """Whichever hold edits; and what does not depend on the windows is prepared once."""
    monkeypatch.setattr(sizing, "divide", in_three)
    monkeypatch.setattr(Tuner, "earns", lambda *_: True)
    prepared, real = [], Extreme.prepare
    monkeypatch.setattr(Extreme, "prepare", lambda self, *args: prepared.append(self) or real(self, *args))
    x = y = L.Input((120, 4))
    y = L.Conv1D(5, 3, activation="relu")(y)
    model = randomize(keras.Model(x, L.Dense(1)(L.GlobalMaxPooling1D()(y))))
    ism = FastISM(model, test_correctness=False, batch_size=10, jit=keras.backend.backend() != "torch")
    given = np.eye(4)[np.random.default_rng(0).integers(0, 4, (1, 120))]
    whole = ism.saturate(given).mutant
    ends = [ism.saturate(given, 0, 20).mutant, ism.saturate(given, 100, 120).mutant]
    np.testing.assert_allclose(np.concatenate(ends, axis=1), whole[:, [*range(20), *range(100, 120)]], rtol=1e-5)
    assert len(ism._engine.functions.references) == 1
    assert {shape.stretch for shape in ism._engine.functions.chunks} == {(0, 40), (40, 80), (80, 120)}
    assert len(prepared) == (3 if keras.backend.backend() == "torch" else 1), "in each call, or where it is compiled"


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled")
def test_work_in_chunks_of_a_given_size_counts_as_work_done():
    """Else stretches would never repay their compiling."""
    ism = FastISM(valid_stack(), test_correctness=False, batch_size=12, jit=True)
    ism.saturate(np.eye(4)[np.random.default_rng(0).integers(0, 4, (1, 120))])
    (tuner,) = ism._engine.sizing.tuners.values()
    assert tuner.earns(1.0, 0, 0)
    assert ism.explain().chunk == 12


def test_a_recurrent_layer_takes_as_much_in_every_stretch():
    x = y = L.Input((120, 4))
    for dilation in (1, 2, 4, 8):
        y = L.Conv1D(5, 3, dilation_rate=dilation)(y)
    pooled, recurrent = (keras.Model(x, L.Dense(1)(last(y))) for last in (L.GlobalAveragePooling1D(), L.LSTM(30)))
    shares = [divide(plan_of(model), 0.001).share for model in (pooled, recurrent)]
    assert shares[0] < shares[1] <= 1


def test_nothing_to_do_is_not_divided():
    x = keras.Input((60, 4))
    plan = plan_of(keras.Model(x, L.Dropout(0.1)(x)))
    assert divide(plan, 0.01).stretches == ((0, 60),)


@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_intervals_are_found(seed):
    """Against trying all."""
    rng = np.random.default_rng(seed)
    highest, sizes = rng.integers(1, 9, 7).astype(float), rng.integers(1, 4, 7)

    def cost(bounds):
        return sum(sizes[a:b].sum() * highest[a:b].max() for a, b in itertools.pairwise(bounds))

    for count, (ends, least) in enumerate(_cheapest(highest, sizes), start=1):
        every = [(0, *inner, 7) for k in range(count) for inner in itertools.combinations(range(1, 7), k)]
        assert least == pytest.approx(min(map(cost, every)))
        assert cost([0, *ends]) == pytest.approx(least)
