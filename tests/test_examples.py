"""The examples: their parts on made-up data, and the whole of them where the real peaks are at hand."""

from __future__ import annotations

import gzip
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")
pytest.importorskip("logomaker")
pytest.importorskip("dnaio")

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"FASTISM_PEAKS": "40", "FASTISM_TRAINING": "6000"}


@pytest.fixture(scope="module")
def ctcf():
    spec = importlib.util.spec_from_file_location("ctcf_example", EXAMPLES / "ctcf.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def data(ctcf) -> Path:
    folder = Path(os.environ.get("FASTISM_DATA", ctcf.DATA)).resolve()
    if not all((folder / name).is_file() for name in ctcf.FILES):
        pytest.skip(f"the peaks are not in {folder}")
    return folder


def sequences_with(ctcf, core: str, starts: list[int], length: int = 100) -> np.ndarray:
    """Sequences of A and T, one-hot, each with the core at its start."""
    letters = np.random.default_rng(0).choice([0, 3], size=(len(starts), length))
    for row, start in zip(letters, starts, strict=True):
        row[start : start + len(core)] = ["ACGT".index(letter) for letter in core]
    return np.eye(4, dtype=np.float32)[letters]


def test_reading_takes_either_case_and_leaves_an_n_empty(ctcf, tmp_path):
    path = tmp_path / "peaks.fa.gz"
    with gzip.open(path, "wt") as file:
        file.write(">chr1:0-5 one\nACGTN\n>chr8:5-10\nac\ngtn\n")
    peaks = ctcf.read_peaks(path)
    assert peaks.names.tolist() == ["chr1:0-5", "chr8:5-10"]
    np.testing.assert_array_equal(peaks.onehot[0], np.eye(5, 4))
    np.testing.assert_array_equal(peaks.onehot[1], np.eye(5, 4))


def test_whole_chromosomes_are_held_out(ctcf):
    names = np.array(["chr1:1-2", "chr8:1-2", "chr2:1-2", "chr9:1-2", "chr18:1-2"])
    training, held_out = ctcf.split(ctcf.Peaks(np.zeros((5, 2, 4)), names), limit=2)
    assert training.names.tolist() == ["chr1:1-2", "chr2:1-2"]
    assert held_out.names.tolist() == ["chr8:1-2", "chr9:1-2"]


@pytest.mark.parametrize("core", ["CCACCAGGGGGCGC", "CCGCGAGGTGGCAG", "GCGCCCCCTGGTGG"])
def test_the_core_is_found_on_either_strand(ctcf, core):
    starts = [0, 33, 86]
    found, agreement = ctcf.find_cores(sequences_with(ctcf, core, starts))
    assert found.tolist() == starts
    assert agreement.tolist() == [14, 14, 14]


def test_the_check_passes_on_the_core_and_fails_elsewhere(ctcf):
    starts = [40, 45, 50, 43]
    onehot = sequences_with(ctcf, "CCACCAGGGGGCGC", starts)
    on_core = np.zeros((4, 100))
    for row, start in zip(on_core, starts, strict=True):
        row[start : start + 14] = 1
    finding = ctcf.find_importance(onehot, on_core + 0.01)
    assert ctcf.check(finding) == []
    assert finding.inside == pytest.approx(1.01)
    assert finding.outside == pytest.approx(0.01)
    assert finding.hits == 1
    assert 45 <= finding.summit <= 57

    assert ctcf.check(ctcf.find_importance(onehot, np.ones((4, 100)))), "flat importance must not pass"
    assert ctcf.check(ctcf.find_importance(onehot, -on_core)), "the wrong sign must not pass"
    moved = ctcf.check(ctcf.find_importance(onehot, np.roll(on_core, 40, axis=1)))
    assert any("middle" in problem for problem in moved)
    assert any("inside" in problem or "core matters" in problem for problem in moved)


def test_without_the_data_the_example_says_so_and_succeeds(ctcf, tmp_path):
    outcome = CliRunner().invoke(ctcf.main, ["--data", str(tmp_path)])
    assert outcome.exit_code == 0
    assert outcome.output.startswith("skipped: ")
    assert "ctcf_peaks.fa.gz" in outcome.output
    assert "FASTISM_DATA" in outcome.output


def test_the_example_finds_the_core_in_real_peaks(ctcf, data, tmp_path):
    picture = tmp_path / "ctcf.png"
    arguments = ["--data", str(data), "--output", str(picture)]
    outcome = CliRunner().invoke(ctcf.main, arguments, env=SMALL)
    assert outcome.exit_code == 0, outcome.output
    assert "mapped 40 CTCF peaks" in outcome.output
    assert "Mean importance is highest around" in outcome.output
    assert picture.stat().st_size > 50_000


def test_the_notebook_is_stored_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "ctcf.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_the_notebook_runs(data, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name, value in {**SMALL, "FASTISM_DATA": str(data)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent), prepend=os.pathsep)  # this checkout, installed or not
    notebook = nbformat.read(EXAMPLES / "ctcf.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    )
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("peaks have a clear core" in output.get("text", "") for output in shown)
