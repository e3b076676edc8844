"""The speed benchmark, at a tiny size: it measures, compares, reports and survives failures. No speed is asserted."""

from __future__ import annotations

import copy
import json
import math
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import harness, machine
from benchmarks import report as pages
from benchmarks import speed as speed_module
from benchmarks.machine import forget_peak, peak_memory

ROOT = Path(__file__).parents[1]
LENGTH = 40  # too short for Basset, whose pools need 48: the one run that fails


@pytest.fixture(scope="module")
def speed():
    return speed_module


@pytest.fixture(scope="module")
def run(speed, tmp_path_factory):
    """The command's outcome, and the file it wrote."""
    path = tmp_path_factory.mktemp("speed") / "new" / "speed.json"
    backend = keras.backend.backend()
    arguments = ["--quick", "--device=cpu", f"--length={LENGTH}", "--models=basset,bpnet", f"--backends={backend}"]
    outcome = CliRunner().invoke(speed.main, [*arguments, "--output", str(path)])
    return outcome, path


@pytest.fixture
def report(run):
    outcome, path = run
    assert path.is_file(), outcome.output
    return json.loads(path.read_text())


@pytest.fixture
def measured(report):
    assert report["results"][1]["error"] is None
    return report["results"][1]


def test_fast_and_naive_agree(measured):
    assert [o["output"] for o in measured["outputs"]] == ["flatten", "dense"]
    for output in measured["outputs"]:
        assert output["effect"] > 0.01
        assert output["error"] <= harness.TOLERANCE * output["effect"]
        assert output["share"] == pytest.approx(output["error"] / output["effect"])
    assert measured["agrees"] is True
    assert measured["error_share"] == max(o["share"] for o in measured["outputs"])


def test_the_file_says_what_was_measured_on_what(report, measured):
    assert (measured["model"], measured["backend"]) == ("bpnet", keras.backend.backend())
    assert measured["variants"] == 3 * LENGTH
    assert measured["naive"]["measured_variants"] == 64
    assert measured["versions"]["keras"] == keras.__version__
    assert {"fastism", "numpy"} <= measured["versions"].keys()
    assert report["settings"]["length"] == LENGTH
    assert report["machine"]["cores"] >= 1
    assert report["started"] <= measured["date"] <= report["finished"]
    assert measured["peak_memory_mib"]["fast"] <= measured["peak_memory_mib"]["fast_and_naive"]


def test_times_add_up(measured):
    fast, naive = measured["fast"], measured["naive"]
    assert min(measured["import_s"], measured["build_s"], *fast["times_s"], *naive["times_s"]) > 0
    assert fast["fresh_s"] == pytest.approx(measured["import_s"] + fast["construct_s"] + fast["first_s"])
    assert naive["times_s"][0] <= naive["scaled_s"] <= naive["times_s"][0] * measured["variants"] / 64
    assert measured["speedup"] == pytest.approx(naive["scaled_s"] / fast["median_s"])
    assert measured["share_of_ideal"] == pytest.approx(measured["speedup"] / measured["ideal_speedup"])
    assert measured["ideal_speedup"] > 1


def test_a_model_that_fails_does_not_stop_the_next(run, report):
    outcome, _ = run
    assert [r["model"] for r in report["results"]] == ["basset", "bpnet"]
    assert report["results"][0]["error"]
    assert outcome.exit_code == 1
    assert "1 of 2 runs failed" in outcome.output


def test_the_table_has_a_row_for_each_run(speed, run, report):
    outcome, path = run
    lines = speed.table(report).splitlines()
    assert "40 bp" in lines[0]
    assert len(lines) == 6
    assert {line.count("|") for line in lines[2:]} == {11}
    assert "failed: " in lines[4]
    assert re.search(r"BPNet.*\| [\d.]+ \(batch 32\) \| [\d.]+ \| [\d.]+x \|", lines[5])
    assert lines[5] in outcome.output
    again = CliRunner().invoke(speed.main, ["--table", "--output", str(path)])
    assert again.exit_code == 0
    assert lines[5] in again.output


def test_rates_are_those_of_the_multiply_accumulates_that_count(speed, report, measured):
    lines = speed.rates(report).splitlines()
    assert len(lines) == 3, "the run that failed has no rate"
    title, naive, fast = lines[2].strip("| ").split(" | ")
    assert title.startswith("BPNet")
    operations = 2 * measured["naive_macs"] * measured["variants"]
    assert float(naive) == pytest.approx(operations / measured["naive"]["scaled_s"] / 1e9, abs=0.5)
    share = measured["share_of_ideal"]
    assert float(fast) == pytest.approx(operations / measured["naive"]["scaled_s"] * share / 1e9, abs=0.5)


def test_results_are_measured_anew_in_an_existing_file(speed, report, tmp_path, monkeypatch):
    """With `measure_fresh` played by a copy of what is there."""
    path = tmp_path / "speed.json"
    pages.write_json(path, report)
    backend = keras.backend.backend()
    asked = []

    def measure(name, request, timeout):
        asked.append((request["model"], name, request["naive_seconds"]))
        return {**report["results"][1], "backend": name, "date": "2100-01-02T00:00:00+00:00", "speedup": 123.0}

    monkeypatch.setattr(speed, "measure_fresh", measure)
    arguments = ["--quick", "--device=cpu", "--merge", f"--length={LENGTH}", "--models=bpnet", f"--output={path}"]
    other = next(b for b in machine.BACKENDS if b != backend)
    outcome = CliRunner().invoke(speed.main, [*arguments, f"--backends={backend},{other}", "--naive-seconds=1.5"])
    assert outcome.exit_code == 0, outcome.output
    assert asked == [("bpnet", backend, 1.5), ("bpnet", other, 1.5)]
    merged = json.loads(path.read_text())
    assert merged["started"] == report["started"]
    assert merged["results"][0] == report["results"][0]
    new = {r["backend"]: r for r in merged["results"][1:]}
    assert [b for b in machine.BACKENDS if b in new] == list(new)
    assert {r["speedup"] for r in new.values()} == {123.0}
    assert "; 2100-01-02." in outcome.output
    refused = CliRunner().invoke(speed.main, [*arguments, "--length=50"])
    assert refused.exit_code == 1
    assert "length is 40, not 50" in refused.output
    assert json.loads(path.read_text()) == merged


def test_a_merge_into_nothing_writes_a_file(speed, report, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "measure_fresh", lambda name, *_: {**report["results"][1], "backend": name})
    path = tmp_path / "speed.json"
    outcome = CliRunner().invoke(
        speed.main, ["--quick", "--device=cpu", "--merge", "--models=bpnet", f"--output={path}"]
    )
    assert outcome.exit_code == 0, outcome.output
    assert {r["model"] for r in json.loads(path.read_text())["results"]} == {"bpnet"}


def test_the_table_marks_a_disagreement(speed, report):
    wrong = copy.deepcopy(report)
    wrong["results"][1].update(agrees=False, error_share=None)
    assert "not defined (too large)" in speed.table(wrong)


def test_a_wrong_answer_is_noticed():
    reference, mutant = np.zeros((1, 2)), np.arange(24.0).reshape(1, 3, 4, 2)
    cells = np.array([[0, 0, 1], [0, 2, 3]])
    right = mutant[0, [0, 2], [1, 3]]
    (same,) = harness.compare(["y"], (reference, mutant), right, cells)
    (off,) = harness.compare(["y"], (reference, mutant), np.add(right, [[0, 0], [0, 2]]), cells)
    (broken,) = harness.compare(["y"], (reference, mutant * math.nan), right, cells)
    assert (same["error"], same["effect"], same["share"]) == (0, 23, 0)
    assert (off["error"], off["effect"]) == (2, 25)
    assert broken["share"] is None


class Compiling:
    """A stand-in that compiles one more function in each of its first runs, or runs some without compiling."""

    def __init__(self, compiles, uncompiled=0):
        self._engine = self.functions = self
        self.chunks, self.few = {}, {}
        self.compiles, self.uncompiled, self.runs = compiles, uncompiled, 0

    def saturate(self):
        self.runs += 1
        if self.runs <= self.uncompiled:
            self.few["shape"] = self.runs
        elif self.runs <= self.uncompiled + self.compiles:
            self.chunks[self.runs] = None


@pytest.mark.parametrize(("compiles", "uncompiled"), [(0, 0), (1, 4), (3, 0)])
def test_it_settles_after_the_last_function_is_compiled(compiles, uncompiled):
    ism = Compiling(compiles, uncompiled)
    harness.settle(ism)
    assert ism.runs == compiles + uncompiled + 3


def test_settling_ends():
    ism = Compiling(10**6)
    harness.settle(ism)
    assert ism.runs == harness.MOST_RUNS


@pytest.mark.parametrize(
    ("repeats", "seconds", "turns"), [(3, 0, 3), (3, 25, 5), (1, 9, 2), (3, 1e9, harness.MOST_TURNS), (30, 0, 30)]
)
def test_quick_runs_take_more_turns(monkeypatch, repeats, seconds, turns):
    clock, order = [0.0], []

    def run(name, took):
        clock[0] += took
        order.append(name)
        return len(order)

    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    fast, naive = harness.in_turns(lambda: run("fast", 1.0), lambda: run("naive", 4.0), repeats, seconds)
    assert order == ["fast", "naive"] * turns
    assert fast == (2 * turns - 1, [1.0] * turns)
    assert naive == (2 * turns, [4.0] * turns)


def test_mutants_are_one_substitution_each():
    x = harness.one_hot(2, 30, 0)
    cells = np.argwhere(x == 0)
    assert len(cells) == 2 * 30 * 3
    chosen = harness.spread(cells, 7)
    assert len(np.unique(chosen, axis=0)) == 7
    assert set(chosen[:, 0]) == {0, 1}
    for mutant, (sequence, position, letter) in zip(harness.mutants(x, chosen), chosen, strict=True):
        assert np.flatnonzero((mutant != x[sequence]).any(-1)).tolist() == [position]
        assert mutant[position].tolist() == np.eye(4)[letter].tolist()
    assert (x.sum(-1) == 1).all()


def test_a_backend_that_cannot_start_is_a_row(speed):
    result = speed.measure_fresh("nonsense", {"model": "bpnet"})
    assert (result["model"], result["backend"]) == ("bpnet", "nonsense")
    assert "nonsense" in result["error"]


def test_a_run_that_takes_too_long_is_a_row(speed):
    assert "not finished after 0.01 s" in speed.measure_fresh("nonsense", {"model": "bpnet"}, timeout=0.01)["error"]


def test_documents_are_rewritten_between_the_markers_only(tmp_path):
    document, plain = tmp_path / "with.md", tmp_path / "without.md"
    other = pages.between("slow", "kept")
    document.write_text(f"before\n{pages.between('speed', 'old')}\nafter\n{other}\n")
    plain.write_text("nothing\n")
    for text in ("new", r"newer \1"):
        assert pages.update_document(document, "speed", text)
    assert document.read_text() == f"before\n{pages.between('speed', text)}\nafter\n{other}\n"
    assert not pages.update_document(plain, "speed", "new")
    assert not pages.update_document(tmp_path / "missing.md", "speed", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["with.md", "without.md"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "speed.json"
    pages.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        pages.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("arguments", [["--models=bpnte"], ["--backends=numpy"], ["--batch-size=0"], ["--models="]])
def test_misspelt_options_are_refused(speed, arguments):
    assert CliRunner().invoke(speed.main, arguments).exit_code == 2


def test_without_a_file_there_is_no_table(speed, tmp_path):
    outcome = CliRunner().invoke(speed.main, ["--table", "--output", str(tmp_path / "none.json")])
    assert outcome.exit_code == 1
    assert "measure first" in outcome.output


@pytest.mark.parametrize("name", ["docs/performance.md", "README.md"])
def test_documents_show_what_the_file_holds(speed, name):
    document = ROOT / name
    if not (speed.RESULTS.is_file() and document.is_file()):
        pytest.skip("nothing to compare")
    report = json.loads(speed.RESULTS.read_text(encoding="utf-8"))
    text = speed.table(report, speed.SHORT) if name == "README.md" else speed.table(report)
    assert pages.between("speed", text) in document.read_text(encoding="utf-8")


def test_another_computer_has_a_table_of_its_own(speed, report, tmp_path, monkeypatch):
    page, file = tmp_path / "performance.md", tmp_path / "speed_slow.json"
    page.write_text(pages.between("speed", "as it is") + pages.between("speed-slow", ""))
    file.write_text(json.dumps(report))
    monkeypatch.setattr(speed, "PERFORMANCE", page)
    monkeypatch.setattr(speed, "README", page)
    outcome = CliRunner().invoke(speed.main, ["--update-docs", "--device=cpu", f"--output={file}"])
    assert outcome.exit_code == 0, outcome.output
    assert page.read_text() == pages.between("speed", "as it is") + pages.between("speed-slow", speed.table(report))


@pytest.mark.parametrize("file", sorted(pages.FOLDER.glob("speed_*.json")), ids=lambda path: path.stem)
def test_documentation_shows_what_other_computers_gave(speed, file):
    text = speed.table(json.loads(file.read_text(encoding="utf-8")))
    assert pages.between(file.stem.replace("_", "-"), text) in pages.PERFORMANCE.read_text(encoding="utf-8")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not forget a peak")
def test_a_peak_is_forgotten():
    """Else what making a model took would count as what FastISM takes of a budget."""
    large = np.ones(30_000_000)
    before = peak_memory()
    del large
    forget_peak()
    after = peak_memory()
    assert before is not None
    assert after is not None
    assert before - after > 100
