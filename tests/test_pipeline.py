"""From files to scores: every row accounted for, the same numbers as naive, stores that stop and go on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from genomes import LENGTH, WINDOWS, save_model, window, write_genome, write_regions

from fastism import NaiveISM
from fastism.pipeline import NothingLeft, map_fasta, map_regions
from fastism.scorer import Scorer, central
from fastism.store import UnfinishedStoreError, open_scores

pytest.importorskip("dnaio")
pytest.importorskip("zarr")

JIT = keras.backend.backend() == "jax"


def scorer(model, *args, **options):
    return Scorer(model, *args, test_correctness=False, jit=JIT, **options)


def agrees(scores, model, x, target=slice(None), start=0, end=None):
    naive = NaiveISM(model).saturate(x, start, end)
    want = (naive.mutant - naive.reference[:, None, None])[..., target]
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(scores.differences[:], want, atol=1e-4 * np.abs(want).max())
    np.testing.assert_allclose(scores.reference[:], naive.reference[:, target], rtol=1e-4, atol=1e-5)


def test_regions_are_mapped_as_naive_would_and_all_rows_are_accounted_for(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    scores, report = map_regions(scorer(model), genome, write_regions(tmp_path), tmp_path / "out.zarr")
    assert (report.rows, report.kept, sum(report.skipped.values())) == (8, 5, 3)
    assert len(scores) == 5
    assert [(r.chrom, r.start, r.end, r.strand) for r in scores.regions] == WINDOWS
    assert list(scores.names) == ["plain", "left", "right", "with_n", "minus"]
    x = np.stack([window(texts[c], *rest) for c, *rest in WINDOWS])
    assert (scores.sequences[:] == x).all()
    agrees(scores, model, x)
    assert (~scores.mask[1, :10]).all()
    assert (~scores.mask[3, 15:25]).all()
    assert scores.attributes["metric"] == "subtract"
    hypothetical = scores.attributions(1, hypothetical=True)
    assert np.isfinite(hypothetical).all()
    assert not hypothetical[3, 15:25].any()


def test_regions_over_an_edge_can_be_dropped(tmp_path):
    genome, _ = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    scores, report = map_regions(
        scorer(model, end=3), genome, write_regions(tmp_path), tmp_path / "out.zarr", edge="drop"
    )
    assert list(scores.names) == ["plain", "with_n", "minus"]
    assert report.kept == 3


def test_strict_stops_at_the_first_row_that_cannot_be_read(tmp_path):
    genome, _ = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    with pytest.raises(ValueError, match="chr9"):
        map_regions(scorer(model), genome, write_regions(tmp_path), tmp_path / "out.zarr", strict=True)
    assert not (tmp_path / "out.zarr").exists()


def test_nothing_left_says_why(tmp_path):
    genome, _ = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    (tmp_path / "none.bed").write_text("chr9\t0\t40\n")
    with pytest.raises(NothingLeft, match="No sequence is left") as caught:
        map_regions(scorer(model), genome, tmp_path / "none.bed", tmp_path / "out.zarr")
    assert caught.value.report.rows == 1
    assert not (tmp_path / "out.zarr").exists()


def test_a_fasta_file_of_some_lengths(tmp_path):
    _, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    pieces = {"a": texts["chr1"][:40], "short": "ACGT", "b": texts["chr1"][120:160]}
    (tmp_path / "x.fa").write_text("".join(f">{k}\n{v}\n" for k, v in pieces.items()))
    scores, report = map_fasta(scorer(model, targets=[1]), tmp_path / "x.fa", tmp_path / "out.zarr")
    assert list(scores.names) == ["a", "b"]
    assert scores.targets == ["1"]
    assert (report.rows, report.kept) == (3, 2)
    agrees(scores, model, np.stack([window(texts["chr1"], 0, 40), window(texts["chr1"], 120, 160)]), [1])
    with pytest.raises(ValueError, match="'short' of .* has 4 bp; 40 are accepted"):
        map_fasta(scorer(model), tmp_path / "x.fa", tmp_path / "other.zarr", strict=True)


def test_an_interrupted_store_goes_on_where_it_stopped(tmp_path, monkeypatch):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    regions, out = write_regions(tmp_path), tmp_path / "out.zarr"
    monkeypatch.setattr("fastism.pipeline.MOST_SEQUENCES", 2)
    first = scorer(model)
    calls = []
    real = type(first).__call__

    def failing(self, x, **options):
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, x, **options)

    monkeypatch.setattr(type(first), "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        map_regions(first, genome, regions, out)
    assert calls == [1, 2, 2]
    with pytest.raises(UnfinishedStoreError, match="3 of 5"):
        open_scores(out)
    with pytest.raises(FileExistsError, match="--resume"):
        map_regions(first, genome, regions, out)
    with pytest.raises(ValueError, match="other settings"):
        map_regions(scorer(model, "log2FC"), genome, regions, out, resume=True)
    scores, _ = map_regions(first, genome, regions, out, resume=True)
    assert sum(calls[3:]) == 2
    agrees(scores, model, np.stack([window(texts[c], *rest) for c, *rest in WINDOWS]))
    map_regions(first, genome, regions, out, overwrite=True)


def test_metrics_of_profiles_on_the_device_and_of_pairs_on_the_host(tmp_path):
    _, model = save_model(tmp_path, profile=True)
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    naive = NaiveISM(model).saturate(x, 10, 20)
    tracks = [np.log2(y[0].astype("float64") + 1).sum(-2) for y in (naive.mutant, naive.reference)]
    found = scorer(model, "logSUM", output=0, start=10, end=20)(x)
    want = tracks[0] - tracks[1][:, None, None]
    np.testing.assert_allclose(found.differences, want, atol=1e-3 * np.abs(want).max())
    assert found.targets == ("0", "1")
    jsd = scorer(model, "jsd", output=0, start=10, end=20)(x)
    assert jsd.differences.shape == found.differences.shape
    assert (jsd.differences >= 0).all()
    assert (jsd.differences[np.nonzero(x[:, 10:20])] == 0).all()
    with pytest.raises(ValueError, match=r"leaves \(40, 2\) numbers for each mutant"):
        scorer(model, "subtract", output=0, start=10, end=20)(x)


def test_both_strands_of_two_models_are_averaged(tmp_path):
    models = [save_model(tmp_path, f"{seed}.keras", seed)[1] for seed in (0, 1)]
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    found = scorer(models, rc=True)(x)
    want = np.zeros((2, LENGTH, 4, 2))
    for model in models:
        for turn in (False, True):
            given = x[:, ::-1, ::-1] if turn else x
            naive = NaiveISM(model).saturate(np.ascontiguousarray(given))
            delta = naive.mutant - naive.reference[:, None, None]
            want += (delta[:, ::-1, ::-1] if turn else delta) / 4
    np.testing.assert_allclose(found.differences, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((20, 5, None), "Give either"),
        ((50, None, None), "do not lie within"),
        ((None, 30, 0), "do not lie within"),
    ],
)
def test_stretches_around_the_middle_have_to_fit(tmp_path, arguments, message):
    _, model = save_model(tmp_path)
    with pytest.raises(ValueError, match=message):
        central(model, *arguments)
