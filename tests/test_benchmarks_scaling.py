"""The scaling benchmark on a tiny model: what it measures, keeps and shows. No speed is asserted."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass

import keras
import pytest
from click.testing import CliRunner
from keras import layers

from benchmarks import processes, report, scaling, scaling_table
from benchmarks.cases import CASES, Case

BACKEND = keras.backend.backend()


@dataclass(frozen=True)
class Tiny(Case):
    """One convolution, one pool."""

    def build(self, length=None):
        x = keras.Input((length or self.length, 4))
        y = layers.MaxPooling1D(2)(layers.Conv1D(4, 3, activation="relu")(x))
        return keras.Model(x, layers.Dense(1)(layers.Flatten()(y)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command's outcome, and what it wrote; measured in this process, all parts."""
    path = tmp_path_factory.mktemp("scaling") / "new" / "scaling.json"

    def here(call, backend, request, timeout):
        assert (backend, timeout) == (BACKEND, 3600)
        return processes.function(call)({**request, "spawned": 0})

    arguments = "--models=bpnet --device=cpu --lengths=20,40 --counts=1,3 --budgets=1MB,2MB --positions=5 --length=30"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "bpnet", Tiny(CASES["bpnet"].title, "", 30))
        patch.setattr(scaling, "fresh", here)
        common = [*arguments.split(), f"--backends={BACKEND}", "--repeats=2", "--over", f"--output={path}"]
        outcome = CliRunner().invoke(scaling.main, [*common, "--naive-seconds=0.1"])
    assert outcome.exit_code == 0, outcome.output
    return outcome, path


@pytest.fixture
def found(run):
    return json.loads(run[1].read_text())


def test_all_lengths_are_measured_fast_and_naively(found):
    results = found["length"]["results"]
    assert [(r["model"], r["backend"], r["length"]) for r in results] == [("bpnet", BACKEND, n) for n in (20, 40)]
    assert all(r["agrees"] and r["positions"] == r["length"] for r in results)
    lines = scaling_table.lines(results)
    assert lines["bpnet", BACKEND, "naive"] == {r["length"]: r["naive"]["scaled_s"] for r in results}


def test_times_count_for_each_sequence(found):
    (result,) = found["sequences"]["results"]
    assert [c["sequences"] for c in result["counts"]] == [1, 3]
    one, three = (c["each_s"] for c in result["counts"])
    assert three == pytest.approx(sum(result["counts"][1]["times_s"]) / 2 / 3)
    assert result["ratio"] == pytest.approx(one / three)


def test_memory_is_set_against_the_budget(found):
    results = found["memory"]["results"]
    assert [(r["budget"], r["over"]) for r in results] == [(b, o) for o in (False, True) for b in ("1MB", "2MB")]
    for r in results:
        assert r["sequences"] == 1 or r["cached_mib"] > r["budget_mib"]
        assert r["positions"] == (2 if r["over"] else 5)
        assert r["results_mib"] == pytest.approx(4 * r["sequences"] * (1 + 4 * r["positions"]) / 2**20)
        assert r["per_second"] > 0
        if r["increase_mib"] is not None:
            assert 0 <= r["increase_mib"] <= max(r["peak_mib"] - r["resident_before_mib"], 0)
            assert r["of_budget"] == pytest.approx(r["increase_mib"] / r["budget_mib"])


def test_growth_is_a_power_of_the_length():
    assert scaling_table.growth({10: 1.0, 20: 7.0, 40: 28.0, 80: 112.0}) == pytest.approx(2)
    assert scaling_table.growth({10: 1.0, 20: 2.0}) == pytest.approx(1)
    assert scaling_table.growth({10: 1.0}) != scaling_table.growth({10: 1.0})


def test_tables_show_what_was_measured_and_what_failed(run, found):
    text = scaling_table.tables(found)
    assert text in run[0].output
    assert f"| {BACKEND} | FastISM | " in text
    rows = [line.split(" | ") for line in text.splitlines() if " | 1MB / 2MB | " in line]
    small, large = (r["per_second"] for r in found["memory"]["results"][:2])
    assert len(rows) == 2
    assert [rows[0][3], rows[0][-1]] == ["1", f"{small / large:.2f} |"]
    (again,) = [r for r in found["length"]["results"] if r["length"] == 40]
    changed = copy.deepcopy(found)
    changed["length"]["results"] = [again | {"agrees": False}, again | {"error": "no | such", "backend": "jax"}]
    shown = scaling_table.of("length")(changed)
    assert " (wrong) |" in shown
    assert shown.endswith("on jax, 40 bp failed: no \\| such")
    assert scaling_table.of("memory")({}) == ""


def test_one_part_leaves_the_others(run, found, tmp_path, monkeypatch):
    path = tmp_path / "scaling.json"
    report.write_json(path, found)
    monkeypatch.setattr(scaling, "fresh", lambda *_: {"error": "not today"})
    arguments = ["--parts=sequences", "--models=bpnet", f"--backends={BACKEND}", f"--output={path}"]
    outcome = CliRunner().invoke(scaling.main, [*arguments, "--device=cpu"])
    assert outcome.exit_code == 1
    assert "1 measurements failed" in outcome.output
    changed = json.loads(path.read_text())
    assert [r["error"] for r in changed["sequences"]["results"]] == ["not today"]
    assert {p: changed[p] for p in ("length", "memory")} == {p: found[p] for p in ("length", "memory")}


def test_the_page_gets_tables_and_a_plot(run, found, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    page, plot = tmp_path / "performance.md", tmp_path / "images" / "scaling_length.png"
    page.write_text("\n".join(report.between(f"scaling-{part}", "") for part in scaling.PARTS))
    monkeypatch.setattr(scaling, "PERFORMANCE", page)
    monkeypatch.setattr(scaling, "PLOT", plot)
    outcome = CliRunner().invoke(scaling.main, ["--update-docs", "--device=cpu", f"--output={run[1]}"])
    assert outcome.exit_code == 0, outcome.output
    for part in scaling.PARTS:
        text = scaling_table.for_page(part, plot.name)(found)
        assert report.between(f"scaling-{part}", text) in page.read_text()
    assert "(images/scaling_length.png)" in page.read_text()
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_documentation_shows_what_the_file_holds():
    path = report.FOLDER / "scaling.json"
    if not path.is_file():
        pytest.skip("nothing to compare")
    content, page = json.loads(path.read_text()), report.PERFORMANCE.read_text()
    for part in scaling.PARTS:
        text = scaling_table.for_page(part, scaling.PLOT.name)(content)
        assert report.between(f"scaling-{part}", text) in page
    assert scaling.PLOT.is_file() or "length" not in content


@pytest.mark.parametrize("arguments", [["--parts=speed"], ["--lengths=0"], ["--counts=one"], ["--models=bassett"]])
def test_misspelt_options_are_refused(arguments):
    assert CliRunner().invoke(scaling.main, arguments).exit_code == 2
