"""The comparison with tangermeme: networks that are the same, what is compared and shown. No speed is asserted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from benchmarks import peer_torch, processes, report
from benchmarks.cases import CASES, Case
from benchmarks.harness import one_hot
from fastism.testing import randomize

BACKEND = keras.backend.backend()
TIMES = {"batch_size": 32, "times_s": [6.0], "median_s": 6.0, "tried_s": {}, "not_fast": None}


@dataclass(frozen=True)
class Tiny(Case):
    """One convolution."""

    def build(self, length=None):
        x = keras.Input((length or self.length, 4))
        return keras.Model(x, layers.Dense(2)(layers.Flatten()(layers.Conv1D(3, 3)(x))))


@pytest.mark.parametrize("name", peer_torch.MODELS)
def test_the_networks_are_the_same(name):
    torch = pytest.importorskip("torch")
    from benchmarks import peer_torch_child

    model = randomize(CASES[name].build(100))
    weights = peer_torch_child.Weights(model.get_weights())
    network = peer_torch_child.MODELS[name](weights).eval()
    weights.end()
    x = one_hot(2, 100, 0)
    with torch.no_grad():
        found = network(torch.from_numpy(x.transpose(0, 2, 1).copy()))
    found = found if isinstance(found, tuple) else [found]
    wanted = model.predict(x, verbose=0)
    for mine, theirs in zip(wanted if isinstance(wanted, list) else [wanted], found, strict=True):
        np.testing.assert_allclose(theirs.numpy(), mine, atol=1e-4 * np.abs(mine).max())


@pytest.fixture
def played(monkeypatch):
    """FastISM in this process, and tangermeme played by its answers, one of them moved."""

    def ask(python, script, request, folder, timeout):
        assert script.is_file()
        with np.load(folder / f"{BACKEND}.npz") as file:
            arrays = dict(file)
        effect = np.abs(arrays["m0"] - arrays["r0"][:, None, None]).max()
        arrays["m0"][0, 3, 1] += 0.5 * effect
        np.savez(folder / "outputs.npz", **arrays)
        return {"plain": TIMES, "fast": TIMES | {"not_fast": "too small"}, "tangermeme": "1", "torch": "2"}

    monkeypatch.setitem(CASES, "basset", Tiny(CASES["basset"].title, "", 20))
    monkeypatch.setattr(peer_torch, "fresh", lambda call, _, request, __: processes.function(call)(request))
    monkeypatch.setattr(peer_torch, "python_in", lambda *_: Path("python"))
    monkeypatch.setattr(peer_torch, "BACKENDS", (BACKEND,))
    monkeypatch.setattr(peer_torch, "ask", ask)


def test_times_count_for_one_sequence_and_answers_are_compared(played, tmp_path):
    path = tmp_path / "peer_torch.json"
    arguments = ["--models=basset", "--sequences=2", "--repeats=1", f"--output={path}"]
    outcome = CliRunner().invoke(peer_torch.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    (found,) = json.loads(path.read_text())["results"]
    mine = found["ours"][BACKEND]
    assert mine["difference_share"] == pytest.approx(0.5, rel=1e-3)
    assert mine["ratio"] == pytest.approx(6 / mine["median_s"])
    assert f"| {CASES['basset'].title} | 2 | 3.00 (batch 32) | not taken | {BACKEND} | " in outcome.output
    page = tmp_path / "performance.md"
    page.write_text(report.between(peer_torch.MARKER, ""))
    assert report.update_document(page, peer_torch.MARKER, peer_torch.table(json.loads(path.read_text())))


def test_a_failure_is_a_row(played, tmp_path, monkeypatch):
    monkeypatch.setattr(peer_torch, "fresh", lambda *_: {"error": "no | such thing"})
    outcome = CliRunner().invoke(peer_torch.main, ["--models=basset", f"--output={tmp_path / 'peer_torch.json'}"])
    assert outcome.exit_code == 1
    assert f"failed: FastISM on {BACKEND}: no \\| such thing" in outcome.output


def test_the_documentation_shows_what_the_file_holds():
    path = report.FOLDER / "peer_torch.json"
    if not path.is_file():
        pytest.skip("nothing to compare")
    text = peer_torch.table(json.loads(path.read_text()))
    assert report.between(peer_torch.MARKER, text) in report.PERFORMANCE.read_text()


@pytest.mark.parametrize("arguments", [["--models=enformer"], ["--batches=0"], ["--backends=jax"]])
def test_misspelt_options_are_refused(arguments):
    assert CliRunner().invoke(peer_torch.main, arguments).exit_code == 2
