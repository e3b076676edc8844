"""The demo, at a small size: it learns the motif, both classes agree, it writes and says what it should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from fastism import demo
from fastism.cli import main

MOTIF = np.array(["ACGT".index(letter) for letter in demo.MOTIF])


class Run(NamedTuple):
    """One run of the command: its exit code, what it printed, and what the demo returned."""

    exit_code: int
    printed: str
    result: demo.DemoResult


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    pytest.importorskip("matplotlib")
    pytest.importorskip("logomaker")
    folder = tmp_path_factory.mktemp("demo") / "new"
    kept = []
    real = demo.run_demo
    options = {"sequences": 2, "length": 200, "epochs": 6, "filters": 24, "training-sequences": 800}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "run_demo", lambda *args, **kwargs: kept.append(real(*args, **kwargs)))
        outcome = CliRunner().invoke(main, ["demo", "-o", str(folder), "--no-progress", *arguments])
    assert outcome.exception is None, outcome.output
    return Run(outcome.exit_code, outcome.output, kept[0])


def test_sequences_hold_the_motif_where_they_say():
    made = demo.make_sequences(400, 150, np.random.default_rng(0))
    assert made.onehot.shape == (400, 150, 4)
    assert made.onehot.dtype == np.float32
    np.testing.assert_array_equal(made.onehot.sum(axis=-1), 1)
    places = made.motif_start[:, None] + np.arange(len(MOTIF))
    planted = made.onehot.argmax(axis=-1)[np.arange(400)[:, None], places]
    agreement = (planted == MOTIF).mean(axis=1)
    assert agreement[made.labels == 1].mean() > 0.9
    assert agreement[made.labels == 0].mean() < 0.5
    composition = [planted[made.labels == label].reshape(-1) for label in (0, 1)]
    counts = [np.bincount(letters, minlength=4) / letters.size for letters in composition]
    np.testing.assert_allclose(counts[0], counts[1], atol=0.03)


def test_sequences_come_from_the_seed():
    first, again, other = (demo.make_sequences(6, 100, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.onehot, again.onehot)
    assert (first.onehot != other.onehot).any()


def test_the_model_learns_and_the_planted_motif_matters_most(run):
    assert run.result.auc > 0.9
    assert len(run.result.recovered) == 2
    assert min(run.result.recovered) > 0.6


def test_both_classes_agree(run):
    assert run.result.effect > 1
    assert run.result.largest_difference <= 1e-3 * run.result.effect


def test_times_are_positive_and_make_the_speed_ups(run):
    naive, fast = run.result.naive, run.result.fast
    assert naive.variants == fast.variants == 2 * 200 * 3
    assert min(naive.first, naive.again, fast.first, fast.again) > 0
    assert run.result.speed_up == pytest.approx(naive.again / fast.again)
    assert run.result.speed_up_first == pytest.approx(naive.first / fast.first)


def test_the_command_reports_what_it_measured(run):
    assert run.exit_code == 0
    assert f"AUC {run.result.auc:.3f}" in run.printed
    assert re.search(rf"NaiveISM .*{run.result.naive.again:.2f}s", run.printed)
    assert re.search(rf"FastISM .*{run.result.fast.again:.2f}s", run.printed)
    assert f"{run.result.speed_up:.1f}x" in run.printed
    assert f"{run.result.largest_difference:.1e}" in run.printed
    assert str(run.result.figure) in run.printed
    assert str(run.result.model) in run.printed


def test_the_picture_is_written_and_is_not_blank(run):
    from matplotlib.image import imread

    pixels = imread(run.result.figure)
    assert run.result.figure.name == "ism.png"
    assert min(pixels.shape[:2]) > 500
    coloured = np.ptp(pixels[..., :3], axis=-1) > 0.3
    assert 0.005 < coloured.mean() < 0.5


def test_the_saved_model_is_the_one_that_was_mapped(run):
    import keras

    model = keras.saving.load_model(run.result.model)
    assert model.input_shape == (None, 200, 4)
    made = demo.make_sequences(100, 200, np.random.default_rng(99))
    scores = model.predict(made.onehot, verbose=0)[:, 0]
    assert np.mean((scores > 0) == made.labels) > 0.8


def test_the_genome_is_one_to_go_on_with(run, monkeypatch):
    """The commands that the demo names run in its folder: peaks are found, and variants within the motif matter."""
    for package in ("zarr", "pysam", "pandas"):
        pytest.importorskip(package)
    monkeypatch.chdir(run.result.genome.parent)
    for line in re.findall(r"^  fastism (ism|variants) (.+)$", run.printed, re.MULTILINE):
        outcome = CliRunner().invoke(main, [line[0], *line[1].split(), "--no-progress"])
        assert outcome.exit_code == 0, outcome.output
        assert "0 skipped" in outcome.output
    from pandas import read_csv

    from fastism.store import open_scores

    scores = open_scores("peaks.zarr")
    assert len(scores) == demo.GENOME_SEQUENCES // 2
    assert scores.mask.all()
    table = read_csv("scores.tsv", sep="\t")
    assert len(table) == 2 * len(scores)
    assert table["ref_match"].all()
    within = table["id"].str.endswith("motif")
    effect = table["subtract"]
    assert effect[within].mean() < -3 * effect[~within].abs().mean()


def test_the_closing_lines_fit_together(run, tmp_path, monkeypatch):
    """The Python lines read the file where `cd` leads; an environment is named only where there is one."""
    lines = [line.strip() for line in demo._report(run.result)]
    assert lines.index(f"cd {run.result.genome.parent}") < lines.index("model = load_model('model.keras')")
    assert (run.result.genome.parent / "model.keras").exists()
    monkeypatch.chdir(tmp_path)
    assert "source .venv/bin/activate" not in demo._report(run.result)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    lines = [line.strip() for line in demo._report(run.result)]
    assert lines.index("source .venv/bin/activate") < lines.index(f"cd {run.result.genome.parent}")


def test_the_area_under_the_curve_counts_ties_half():
    labels = np.array([0, 0, 1, 1])
    assert demo._area_under_curve(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 1.0
    assert demo._area_under_curve(np.array([4.0, 3.0, 2.0, 1.0]), labels) == 0.0
    assert demo._area_under_curve(np.zeros(4), labels) == 0.5


@pytest.mark.parametrize(("name", "value"), [("sequences", 0), ("length", 99), ("epochs", 0)])
def test_numbers_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}: received {value}; accepted"):
        demo.run_demo(tmp_path / "none", **{name: value})
    outcome = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "none"), f"--{name}", str(value)])
    assert outcome.exit_code == 2
    assert not (tmp_path / "none").exists()


def test_without_the_plot_extra_the_command_says_what_to_install(tmp_path, monkeypatch):
    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("fastism.plot.style.import_module", missing)
    outcome = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "none")])
    assert outcome.exit_code == 1
    assert 'pip install "fastism[plot]"' in outcome.output
    assert not (tmp_path / "none").exists()


def test_help_names_the_demo():
    outcome = CliRunner().invoke(main, ["--help"])
    assert outcome.exit_code == 0
    assert "demo" in outcome.output


def test_the_picture_for_the_documentation_is_small():
    picture = Path(__file__).parents[1] / "docs" / "images" / "demo.png"
    assert 20_000 < picture.stat().st_size < 300_000
