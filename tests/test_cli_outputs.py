"""The commands that write files from a result: what they take, and what they do not replace."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from planted import planted_scores

from fastism.cli import main
from fastism.regions import Region
from fastism.result import ISMScores
from fastism.store import open_scores, save_scores

pytest.importorskip("zarr")


def call(*arguments, code=0):
    outcome = CliRunner().invoke(main, [str(a) for a in arguments])
    assert outcome.exit_code == code, outcome.output
    return outcome.output


@pytest.fixture
def result(tmp_path):
    """Three targets and sequences of two positions; the names of targets and sequences are numbers of others."""
    delta = np.zeros((3, 2, 4, 3))
    delta[:, 0, 1] = -4 * np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])  # attributions 1 to 9
    x = np.eye(4)[np.zeros((3, 2), int)]
    scores = ISMScores(x, delta, np.zeros((3, 3)), targets=("3", "0", "1"), names=("2", "one", "0"))
    return save_scores(tmp_path / "a.zarr", scores)


def test_targets_are_taken_by_name_before_number(result):
    def exported(*target):
        call("export", result, "--format", "modisco", "--overwrite", *target)
        return np.load(result.with_name("a.attr.npz"))["arr_0"][0, 0, 0]

    assert [exported("-t", name) for name in ("3", "0", "1", "2")] == [1, 2, 3, 3]
    assert exported() == 1, "the first, whatever it is called"
    said = call("export", result, "--format", "tsv", "-t", 7, code=1)
    assert "target is 7; an index below 3 or a name of 3, 0, 1" in said


def test_sequences_are_taken_by_name_before_number(result, tmp_path):
    pytest.importorskip("logomaker")
    seen = []
    for which in ([], ["-i", "2"], ["-i", "0"], ["-i", "1"], ["-i", "one"]):
        call("plot", result, *which, "-t", "1", "-o", tmp_path / "a.svg", "--overwrite")
        seen += re.findall(r"<!-- (\S+) · 1 -->", (tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert seen == ["2", "2", "0", "one", "one"]
    assert "-i/--sequence is 3; the result has 3 sequences" in call(
        "plot", result, "-i", 3, "-o", tmp_path / "b.svg", code=1
    )
    assert not (tmp_path / "b.svg").exists()


def test_a_long_map_is_drawn_where_it_is_strongest(tmp_path):
    pytest.importorskip("logomaker")
    path, picture = save_scores(tmp_path / "long.zarr", planted_scores(4, 400, margin=20)), tmp_path / "a.svg"
    scores = open_scores(path)
    at = 20 + int(np.abs(scores.attributions()[1]).sum(-1).argmax())
    region = scores.regions[1]

    def said(*options):
        return call("plot", path, "-o", picture, "--overwrite", *options)

    assert f"a.svg: peak_2, the strongest 100 of 360 positions {at - 50} to {at + 50} (" in said("-i", 1)
    assert f"({region.chrom}:{region.start + at - 50}-{region.start + at + 50}); --whole shows" in said("-i", "peak_2")
    assert "peak_2, positions 20 to 380 (" in said("-i", 1, "--whole")
    assert "peak_2, positions 30 to 380 (" in said("-i", 1, "--start", 30)
    place = f"{region.chrom}:{region.start + 60}-{region.start + 90}"
    assert f"peak_2, positions 60 to 90 ({place})\n" in said("-i", place)
    call("plot", path, "-o", picture, "--overwrite", "--whole", "--end", 9, code=2)
    assert "as -i/--sequence" in call("plot", path, "-o", picture, "--overwrite", "--start", 5, code=1)


def test_export_does_not_replace_regions_unasked(result, tmp_path):
    assert "a_regions.bed" not in call("export", result, "--format", "modisco")
    regions = [Region("chr1", 10 * i, 10 * i + 2) for i in range(3)]
    scores = ISMScores(np.zeros((3, 2, 4)), np.zeros((3, 2, 4, 1)), np.zeros((3, 1)), regions=regions)
    placed, bed = save_scores(tmp_path / "b.zarr", scores), tmp_path / "b_regions.bed"
    bed.write_text("mine\n")
    said = call("export", placed, "--format", "modisco", code=1)
    assert "b_regions.bed would be replaced; allow it (--overwrite), or choose another name (--output)" in said
    assert bed.read_text() == "mine\n"
    assert f", {bed}" in call("export", placed, "--format", "modisco", "--overwrite")
    assert bed.read_text().count("\n") == 3


@pytest.mark.parametrize(("command", "ending"), [("plot", "png"), ("report", "html")])
def test_plot_and_report_do_not_replace_files_unasked(result, tmp_path, command, ending):
    pytest.importorskip("logomaker")
    path = tmp_path / f"mine.{ending}"
    path.write_text("mine")
    assert f"mine.{ending} would be replaced; allow it (--overwrite)" in call(command, result, "-o", path, code=1)
    assert path.read_text() == "mine"
    call(command, result, "-o", path, "--overwrite")
    assert path.stat().st_size > 1000
    said = call(command, result, "-o", tmp_path / "none" / path.name, code=1)
    assert f"the folder {tmp_path / 'none'} does not exist; create it first" in said
    assert ".part" not in said


def test_the_report_says_which_targets_it_leaves_out(result, monkeypatch):
    assert "strongest" not in call("report", result)
    said = call("report", result, "--max-targets", 2, "--max-sequences", 1, "--overwrite")
    assert "the 1 strongest of 3 sequences; --max-sequences for more or fewer" in said
    assert "the 2 strongest of 3 targets; --max-targets for more or fewer" in said
    monkeypatch.setattr("fastism.report.page.LARGE", 0)
    monkeypatch.setattr("fastism.report.page.FEW", 1)
    assert "the 1 strongest of 3 targets" in call("report", result, "--overwrite")
    assert "targets" not in call("report", result, "--overwrite", "--max-targets", 9)


def test_a_picture_of_another_kind_is_refused_and_leaves_nothing(result, tmp_path):
    pytest.importorskip("logomaker")
    assert "'doc' is not supported" in call("plot", result, "-o", tmp_path / "a.doc", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("module", ["fastism", "fastism.cli"])
def test_the_package_of_the_commands_runs_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: fastism" in done.stdout
