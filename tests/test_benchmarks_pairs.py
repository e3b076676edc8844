"""The timing of pairs: every pair once, compared with the model's own predictions. No speed is asserted."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import pairs


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setitem(pairs.CASES, "basset", dataclasses.replace(pairs.CASES["basset"], length=60))
    return {"model": "basset", "window": 3, "repeats": 1, "naive_seconds": 60.0, "seed": 0}


def test_every_pair_once(asked):
    found = pairs.measure(asked)
    assert found["error"] is None
    assert found["pairs"] == 3 * 3 * 3  # three pairs of positions, three letters at both
    assert found["sample"] == 27
    assert found["speedup"] == pytest.approx(found["naive_s"] / found["fast_s"])
    row = {**found, "model": "basset", "backend": "jax"}
    assert f"| jax | 27 | {found['naive_s']:.3g} (batch" in pairs.table({"results": [row]})


def test_a_wrong_pair_is_an_error(asked, monkeypatch):
    from fastism import FastISM

    real = FastISM.pairs

    def wrong(self, *arguments, **options):
        found = real(self, *arguments, **options)
        return found._replace(double=found.double + 1)

    monkeypatch.setattr(FastISM, "pairs", wrong)
    found = pairs.measure(asked)
    assert "of the effect" in found["error"]
    row = {**found, "model": "basset", "backend": "torch"}
    assert found["error"] in pairs.table({"results": [row]})
