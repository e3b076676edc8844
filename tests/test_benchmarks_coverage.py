"""The coverage benchmark on two small architectures: it compares, plans, reports and survives failures. No times."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES
from click.testing import CliRunner
from oracle import predict

from benchmarks import coverage, machine, processes
from benchmarks import report as pages
from fastism.testing import randomize

ROOT = Path(__file__).parents[1]
NAMES = ("bpnet", "legnet")  # never dense, with further inputs; dense from an early call on
BACKEND = keras.backend.backend()
ASSESS = "benchmarks.coverage:assess"
SETTINGS = {"parts": ["exact", "plan"], "seed": 0, "ends": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command's outcome, and the file it wrote."""
    path = tmp_path_factory.mktemp("coverage") / "new" / "coverage.json"
    arguments = [f"--architectures={','.join(NAMES)}", f"--backends={BACKEND}", "--no-measure", "--output", str(path)]
    return CliRunner().invoke(coverage.main, arguments), path


@pytest.fixture
def report(run):
    outcome, path = run
    assert path.is_file(), outcome.output
    return json.loads(path.read_text())


def test_the_file_says_what_was_compared_with_what(run, report):
    outcome, _ = run
    assert outcome.exit_code == 0, outcome.output
    assert [(r["architecture"], r["backend"]) for r in report["results"]] == [(n, BACKEND) for n in NAMES]
    assert report["settings"]["parts"] == ["exact", "plan"]
    assert report["machine"]["cores"] >= 1
    for result in report["results"]:
        exact = result["exact"]
        assert result["versions"]["keras"] == keras.__version__
        assert report["started"] <= exact["date"] <= report["finished"]
        assert exact["error"] is None
        assert exact["exact"] is True
        assert exact["edits"] == 3 * 3 * report["settings"]["ends"]
        assert exact["max_error"] <= exact["tolerance"] * exact["effect"]
        assert exact["error_share"] == pytest.approx(exact["max_error"] / exact["effect"])
        assert "measured" not in result


@pytest.mark.parametrize("name", NAMES)
def test_plans_are_those_of_the_published_size(report, name):
    plan = next(r["plan"] for r in report["results"] if r["architecture"] == name)
    architecture = ARCHITECTURES[name]
    assert plan["error"] is None
    assert plan["length"] == {"bpnet": 2114, "legnet": 230}[name]
    assert plan["ideal_speedup"] == pytest.approx(plan["naive"] / plan["ideal"])
    assert plan["published"] == architecture.in_speedup
    assert plan["of_published"] == pytest.approx(plan["ideal_speedup"] / plan["published"])
    assert 0 < plan["local_share"] <= 1
    dense = plan["first_dense"]
    assert (dense and dense["call"]) == architecture.dense_from
    assert dense is None or dense["reason"]


def test_the_table_has_a_row_for_each_architecture(run, report):
    outcome, path = run
    lines = coverage.table(report).splitlines()
    assert f"keras {keras.__version__}" in lines[0]
    assert f"error, {BACKEND} |" in lines[2]
    assert len(lines) == 4 + len(NAMES)
    assert {line.count("|") for line in lines[2:]} == {10}
    assert lines[4].startswith("| `bpnet` | 2114 | 202 M | ")
    assert "`stage0_gate`: " in lines[5]
    assert lines[5] in outcome.output
    again = CliRunner().invoke(coverage.main, ["--table", "--output", str(path)])
    assert again.exit_code == 0
    assert lines[5] in again.output


def test_the_table_shows_times_failures_and_differences(report):
    changed = copy.deepcopy(report)
    changed["settings"] |= {"parts": ["exact", "plan", "measured"], "positions": 40}
    first, second = changed["results"]
    times = {"error": None, "speedup": 5.0, "ideal_speedup": 8.0, "exact": True, "full_size": False, "device": "cpu"}
    first["measured"] = times
    second["measured"] = {"error": "no | such thing"}
    second["exact"] |= {"exact": False, "error_share": None}
    other = copy.deepcopy(first) | {"backend": "another"}
    other["plan"]["ideal_speedup"] = 1.5
    third = {"architecture": "third", "backend": "another", "versions": {}}
    changed["results"] += [other, third | {"plan": {"error": "skipped: too much"}, "exact": first["exact"]}]
    text = coverage.table(changed)
    bpnet, legnet, last = text.splitlines()[4:7]
    assert "| 5.00x of 8.00x, medium |" in bpnet
    assert "failed: no \\| such thing" in legnet
    assert "not defined (too large)" in legnet
    assert "none (small model) | skipped: too much |" in last
    assert text.splitlines()[-1] == "- `bpnet` on another: ideal 1.50x, first computed whole: none."
    assert "at 40 positions" in text.splitlines()[0]


def test_what_is_local_is_told_from_what_is_not():
    def row(call, state, reason="", naive=1.0, reads=()):
        return SimpleNamespace(call=call, kind="Any", state=state, reason=reason, naive=naive, reads=reads)

    rows = [
        row("conv", "window", naive=500, reads=("input",)),
        row("gap", "dense", f"all of it changes; {coverage.ALONE}", naive=100, reads=("conv",)),
        row("gate", "dense", "its input is computed whole (gap)", naive=2, reads=("gap",)),
    ]
    assert coverage.first_dense(rows) is None
    assert coverage.local_share(rows) == pytest.approx(600 / 602)
    scale = row("scale", "dense", "its input is computed whole (gate)", reads=("gate", "conv"))
    large = row("large", "dense", "its input is computed whole (gap)", naive=100, reads=("gap",))
    first = [coverage.first_dense([*rows, *more]) for more in ((scale, large), (large,))]
    assert [f and f["call"] for f in first] == ["scale", "large"]


def test_marks_and_further_inputs_stay_as_they_are():
    for name, others in (("saluki", 0), ("bpnet", 4)):
        architecture = ARCHITECTURES[name]
        whole = coverage.Whole(randomize(architecture.small()), architecture, 0)
        bases = np.repeat(np.roll(whole.bases, 1, axis=1), 2, axis=0)
        arrays = whole.inputs(bases)
        given = whole.given if others else [whole.given]
        assert len(arrays) == 1 + others
        assert (arrays[0][..., :4] == bases).all()
        assert (arrays[0][..., 4:] == given[0][..., 4:]).all()
        assert all((a == g).all() for a, g in zip(arrays[1:], given[1:], strict=True))


def test_a_wrong_answer_is_noticed(monkeypatch):
    def off(model, arrays):
        return [y + 0.1 * np.abs(y).max() for y in predict(model, arrays)]

    monkeypatch.setattr("oracle.predict", off)
    assert coverage.check(ARCHITECTURES["deepstarr"], SETTINGS)["exact"] is False


def test_an_effect_lost_in_rounding_shows_nothing():
    reference, mutant = np.ones((1, 1)), np.ones((1, 1, 4, 1))
    cells = np.array([[0, 0, 1]])
    found = coverage._agreement((reference, mutant), np.full((1, 1), 1 + 1e-6), cells)
    assert found["exact"] is None
    assert not coverage._is_good({"error": None, **found}, "exact")
    assert coverage._is_good({"error": None, **found}, "measured")
    assert coverage._agreement((reference, mutant + 0.1), np.full((1, 1), 1 + 1e-6), cells)["exact"] is False
    assert coverage._agreement((reference, mutant), np.full((1, 1), 2.0), cells)["exact"] is False


def test_a_job_that_takes_too_much_is_skipped_alone():
    jobs = [("deepstarr", "plan"), ("tutorial_cnn", "plan")]
    found = list(processes.run_jobs(ASSESS, BACKEND, jobs, SETTINGS, timeout=0.01))
    assert [f["error"] for f in found] == ["not finished after 0.01 s"] * 2
    if machine.resident_memory() is not None:
        found = list(processes.run_jobs(ASSESS, BACKEND, jobs[:1], SETTINGS, memory=1))
        assert [f["error"] for f in found] == ["skipped: needs more than 0.000977 GiB"]


def test_a_backend_that_cannot_start_is_a_failure_of_each_job():
    found = list(processes.run_jobs(ASSESS, "nonsense", [("deepstarr", "plan")], SETTINGS))
    assert len(found) == 1
    assert "nonsense" in found[0]["error"]


def test_a_job_that_fails_says_why():
    assert "KeyError" in processes.do(coverage.assess, ("no such architecture", "plan"), SETTINGS)["error"]


def test_models_of_medium_size_are_smaller():
    assert coverage.MEDIUM.keys() <= ARCHITECTURES.keys()
    build = ARCHITECTURES["chrombpnet"].build
    assert build(**coverage.MEDIUM["chrombpnet"]).count_params() < build().count_params() / 10


@pytest.mark.parametrize("arguments", [["--architectures=bpnte"], ["--backends=numpy"], ["--architectures="]])
def test_misspelt_options_are_refused(arguments):
    assert CliRunner().invoke(coverage.main, arguments).exit_code == 2


def test_the_page_shows_what_the_file_holds():
    if not coverage.RESULTS.is_file():
        pytest.skip("nothing to compare")
    text = coverage.table(json.loads(coverage.RESULTS.read_text(encoding="utf-8")))
    assert pages.between(coverage.MARKER, text) in coverage.DOCUMENT.read_text(encoding="utf-8")
