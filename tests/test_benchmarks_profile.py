"""The profile benchmark on a tiny model: steps, their work, what adds up. No speed is asserted."""

from __future__ import annotations

import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from benchmarks import processes, profile, profile_table, report
from benchmarks.cases import CASES, Case
from benchmarks.harness import one_hot
from fastism import FastISM, backend

BACKEND = keras.backend.backend()


@dataclass(frozen=True)
class Tiny(Case):
    """One convolution, one pool, a sum with what was before it."""

    def build(self, length=None):
        x = keras.Input((length or self.length, 4))
        y = layers.Conv1D(4, 3, padding="same", activation="relu", name="conv")(x)
        y = layers.Add(name="add")([layers.Conv1D(4, 3, padding="same", name="second")(y), y])
        return keras.Model(x, layers.Dense(1, name="last")(layers.Flatten()(layers.MaxPooling1D(2)(y))))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command's outcome, and what it wrote; measured in this process."""
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    known = {"model": "basset", "backend": "jax", "error": "as before", "date": "2026-01-01"}
    report.write_json(path, {"results": [known]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "bpnet", Tiny(CASES["bpnet"].title, "", 30))
        patch.setattr(profile, "fresh", lambda call, _, request, __: processes.function(call)(request))
        arguments = ["bpnet", "--device=cpu", f"--backends={BACKEND}", "--repeats=2", f"--output={path}"]
        outcome = CliRunner().invoke(profile.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    return outcome, json.loads(path.read_text()), path


def test_the_groups_add_up_to_the_whole(run):
    _, report, _ = run
    before, found = report["results"]
    assert before["error"] == "as before"
    assert (found["model"], found["backend"]) == ("bpnet", BACKEND)
    groups = found["groups"]
    assert sum(groups[g] for g in profile_table.GROUPS) == pytest.approx(found["total_s"])
    assert groups["products"] + groups["passes"] == pytest.approx(found["chunks"] * found["chunk_s"])
    assert found["chunks"] * found["variants_in_chunk"] >= found["variants"] == 90
    assert found["matrix_gflops"] > 0


def test_each_step_has_its_time_and_its_work(run):
    steps = run[1]["results"][1]["steps"]
    assert [s["call"] for s in steps if s["gflop"]] == ["conv", "second", "last"]
    assert [s["window"] for s in steps if s["call"] == "second"] == [5]
    assert sum(s["adds_s"] for s in steps) == pytest.approx(steps[-1]["up_to_s"])
    work = sum(s["gflop"] for s in steps) / run[1]["results"][1]["variants_in_chunk"] * 1e9 / 2
    ism = FastISM(Tiny("", "", 30).build(), test_correctness=False)
    assert work == pytest.approx(ism.explain().plan)


def test_the_last_cut_gives_what_the_chunk_gives():
    ism = FastISM(Tiny("", "", 30).build(), test_correctness=False)
    x = one_hot(1, 30, 0)
    with profile._calls(ism._engine, "_chunk_function") as chunks:
        ism.saturate(x)
    assert "_chunk_function" not in vars(ism._engine)
    (plan, shape, *_), run, args = chunks[0]
    parts = profile.cuts(ism._engine, plan, shape, args)
    (answer,) = (backend.to_numpy(a) for a in run(*args))
    last = [backend.to_numpy(a) for a in parts[-1][1]()]
    assert any(np.allclose(a.reshape(-1), answer.reshape(-1)) for a in last)


def test_tables_show_groups_and_steps(run):
    outcome, found, _ = run
    summary = profile_table.summary(found)
    assert "failed: as before" in summary
    assert {line.count("|") for line in summary.splitlines()[2:]} == {10}
    assert "| second | Convolve | window | 5 | 30 x 4 |" in outcome.output
    assert "GFLOP/s of a matrix product" in outcome.output


def test_the_summary_goes_into_the_page(run, tmp_path, monkeypatch):
    page = tmp_path / "performance.md"
    page.write_text(report.between("profile", ""))
    monkeypatch.setattr(profile, "PERFORMANCE", page)
    outcome = CliRunner().invoke(profile.main, ["--update-docs", "--device=cpu", f"--output={run[2]}"])
    assert outcome.exit_code == 0, outcome.output
    assert page.read_text() == report.between("profile", profile_table.summary(run[1]))


def test_the_documentation_shows_what_the_file_holds():
    path = report.FOLDER / "profile.json"
    if not path.is_file():
        pytest.skip("nothing to compare")
    text = profile_table.summary(json.loads(path.read_text()))
    assert report.between("profile", text) in report.PERFORMANCE.read_text()


@pytest.mark.parametrize("arguments", [[], ["bassett"], ["basset", "--repeats=0"]])
def test_misspelt_arguments_are_refused(arguments):
    assert CliRunner().invoke(profile.main, arguments).exit_code == 2


def test_passes_of_a_long_plan_are_timed_together():
    ism = FastISM(Tiny("tiny", "", 30).build(), test_correctness=False)
    plan = ism._engine.plan(1)
    each, together = profile.runs(plan), profile.runs(plan, long=3)
    assert [k for numbers in together for k in numbers] == [k for numbers in each for k in numbers]
    assert all(len(numbers) == 1 for numbers in each)
    kinds = [[plan.steps[k].wired.call.name for k in numbers] for numbers in together]
    assert kinds[1:3] == [["conv"], ["second"]]  # after the product of "conv" comes its activation
    rows = profile.by_step(plan, 10, [[plan.steps[k] for k in numbers] for numbers in together], range(len(together)))
    assert sum(row["gflop"] for row in rows) > 0
    assert rows[3]["call"].startswith("add ... flatten")
