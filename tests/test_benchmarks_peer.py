"""The comparison with the published package: what it prints, and how failures are told. No speed is asserted."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import peer

FAKE = """
import json, sys
import numpy as np
request = json.load(sys.stdin)
with np.load(request["given"]) as given:
    n, length = given["x"].shape[:2]
np.savez(request["outputs"], np.load({answers!r}))
json.dump({{"times_s": [2.0, 6.0, 4.0]}}, open(request["answer"], "w"))
"""


def test_times_count_for_one_sequence_and_answers_are_compared(tmp_path, monkeypatch):
    """With the other package played by a script that gives our own answers, one of them moved."""
    from fastism import FastISM, testing

    x = peer.one_hot(2, 60, 0)
    case = peer.CASES["basset"]
    monkeypatch.setitem(peer.CASES, "basset", dataclasses.replace(case, length=60))
    model = testing.randomize(peer.CASES["basset"].build())
    saturation = FastISM(model, test_correctness=False, jit=keras.backend.backend() == "jax").saturate(x)
    answers = saturation.mutant[:, :, 0].copy()
    effect = np.abs(answers - saturation.reference[:, None]).max()
    answers[0, 3] += 0.5 * effect
    np.save(tmp_path / "answers.npy", answers)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "peer_child.py").write_text(FAKE.format(answers=str(tmp_path / "answers.npy")))
    monkeypatch.setattr(peer, "ROOT", tmp_path)
    found = peer.compare(Path(sys.executable), "basset", 2, 1, 100)
    assert found["peer_s"] == 3 * 4.0 / 2
    assert found["ratio"] == pytest.approx(found["peer_s"] / found["fast_s"])
    assert found["difference_share"] == pytest.approx(0.5, rel=1e-3)


def test_a_failure_is_a_row(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "peer_child.py").write_text("raise SystemExit('no such package')")
    monkeypatch.setattr(peer, "ROOT", tmp_path)
    monkeypatch.setattr(peer, "python_in", lambda *_: Path(sys.executable))
    output = tmp_path / "peer.json"
    outcome = CliRunner().invoke(peer.main, ["--models=bpnet", "--batches=1", f"--output={output}"])
    assert outcome.exit_code == 1
    assert "| BPNet, 9 dilated layers | 1 | failed: no such package |" in outcome.output
    (result,) = json.loads(output.read_text())["results"]
    assert result["error"] == "no such package"


@pytest.mark.parametrize("arguments", [["--models=bassett"], ["--batches=0"], ["--batches=1,x"]])
def test_misspelt_options_are_refused(arguments):
    assert CliRunner().invoke(peer.main, arguments).exit_code == 2
