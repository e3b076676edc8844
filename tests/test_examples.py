"""The examples: their parts and the notebooks on made-up data, and the script where the real peaks are at hand."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")
pytest.importorskip("logomaker")
pytest.importorskip("dnaio")

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"FASTISM_PEAKS": "40", "FASTISM_TRAINING": "4000"}


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


def test_labels_of_the_panels_stand_at_one_x(ctcf):
    starts = [40, 43, 50]
    onehot = sequences_with(ctcf, "CCACCAGGGGGCGC", starts)
    differences = (onehot - 1) * np.array([1, 10, 100])[:, None, None]  # ticks as wide as "1" and as "100"
    finding = ctcf.find_importance(onehot, -differences.sum(axis=-1) / 4)
    figure = ctcf.draw(finding, ctcf.Peaks(onehot, np.array(["a", "b", "c"])), differences)
    figure.draw_without_rendering()
    labels = [axes.yaxis.label.get_window_extent() for axes in figure.axes if axes.get_ylabel()]
    assert len(labels) == 4
    assert np.ptp([label.x1 for label in labels]) < 1


def test_without_the_data_the_example_says_so_and_succeeds(ctcf, tmp_path):
    outcome = CliRunner().invoke(ctcf.main, ["--data", str(tmp_path)])
    assert outcome.exit_code == 0
    assert outcome.output.startswith("skipped: ")
    assert "ctcf_peaks.fa.gz" in outcome.output
    assert "FASTISM_DATA" in outcome.output


@pytest.fixture
def own_process(monkeypatch):
    """What a process of its own needs: this checkout, installed or not, and no threads that wait for one another."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # small models gain nothing from more


def test_the_example_finds_the_core_in_real_peaks(data, own_process, monkeypatch, tmp_path):
    picture = tmp_path / "ctcf.png"
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, str(EXAMPLES / "ctcf.py"), "--data", str(data), "--output", str(picture)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "mapped 40 CTCF peaks" in outcome.stdout
    assert "Mean importance is highest around" in outcome.stdout
    assert picture.stat().st_size > 50_000


def test_made_up_peaks_take_the_place_of_real_ones(ctcf, tmp_path):
    assert ctcf.missing(tmp_path) == list(ctcf.FILES)
    assert ctcf.plant(tmp_path, 60) == tmp_path
    assert ctcf.missing(tmp_path) == []
    planted, others = (ctcf.read_peaks(tmp_path / name) for name in ctcf.FILES)
    assert planted.onehot.shape == others.onehot.shape == (60, 100, 4)
    starts, agreement = ctcf.find_cores(planted.onehot)
    assert (agreement == len(ctcf.CORE)).all()
    assert 35 < np.median(starts) < 52
    assert np.mean(ctcf.find_cores(others.onehot)[1] >= ctcf.CLEAR) < 0.2
    training, held_out = ctcf.split(planted)
    assert (len(training.names), len(held_out.names)) == (48, 12)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_is_stored_without_outputs(name):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_what_the_notebooks_link_to_is_there():
    nbformat = pytest.importorskip("nbformat")
    for path in EXAMPLES.glob("*.ipynb"):
        text = "\n".join(
            cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
        )
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
        assert [link for link in links if not (EXAMPLES / link).exists()] == [], path.name


@pytest.fixture
def run_notebook(own_process, monkeypatch):
    """Runs a notebook with settings; returns the text that it wrote, and how many pictures."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")

    def run(name: str, **settings: str) -> tuple[str, int]:
        for key, value in settings.items():
            monkeypatch.setenv(key, value)
        notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
        )
        client.execute()
        shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        texts = [o.text if o.output_type == "stream" else o.data.get("text/plain", "") for o in shown]
        return "".join(texts), sum("image/png" in output.get("data", {}) for output in shown)

    return run


def test_the_notebook_of_ctcf_runs_without_data(run_notebook, tmp_path):
    text, pictures = run_notebook("ctcf", **SMALL, FASTISM_DATA=str(tmp_path))
    assert f"There are no peaks in {tmp_path}: made-up ones take their place." in text
    assert "peaks have a clear core" in text
    assert pictures == 1


def test_the_notebook_of_basset_runs(run_notebook):
    text, pictures = run_notebook("naive_versus_fast", FASTISM_POSITIONS="40")
    assert "FastISM: " in text
    assert "s for 120 mutants" in text
    assert pictures == 2


def test_the_notebook_of_profiles_runs(run_notebook):
    text, pictures = run_notebook("profiles_and_counts", FASTISM_TRAINING="800")
    assert "lies in the motif: {'counts': True, 'profile': True, 'jsd': True}" in text
    assert pictures == 6


def test_the_notebook_of_variants_runs(run_notebook):
    for library in ("pyfaidx", "pysam", "pandas", "pyarrow"):
        pytest.importorskip(library)
    text, pictures = run_notebook("variants")
    assert "9 variants: 8 kept, 1 skipped" in text
    assert "subtract=1;FASTISM_REF_MISMATCH" in text
    assert "both: +1, interaction +1" in text
    assert pictures == 2


def test_the_notebook_of_modisco_runs_without_data_and_without_modisco(run_notebook, monkeypatch, tmp_path):
    pytest.importorskip("h5py")
    folders = os.environ["PATH"].split(os.pathsep)
    without = [folder for folder in folders if not (Path(folder) / "modisco").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(without))
    text, pictures = run_notebook("modisco", FASTISM_PEAKS="40", FASTISM_TRAINING="2000", FASTISM_DATA=str(tmp_path))
    assert "hyp_scores         (80, 100, 4)   float32" in text
    assert "modisco-lite is not installed" in text
    assert "There are no patterns to show" in text
    assert pictures == 1


def test_the_notebook_of_an_own_layer_runs(run_notebook):
    text, pictures = run_notebook("custom_layer", FASTISM_LENGTH="150")
    assert "Smooth has no rule" in text
    assert "declared to slide along positions" in text
    assert pictures == 1
