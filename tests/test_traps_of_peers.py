"""What has caught tools of this kind before, each from the files of a user to the scores; one test for each."""

from __future__ import annotations

import pickle

import keras
import numpy as np
import pytest
from genomes import LENGTH, save_model, window, write_genome
from keras import layers as L
from oracle import predict, saturated

from fastism import FastISM
from fastism.pipeline import map_regions
from fastism.regions import Report
from fastism.saturation import saturation_mutagenesis
from fastism.scorer import Scorer
from fastism.store import UnfinishedStoreError, open_scores
from fastism.testing import randomize
from fastism.variant_scorer import VariantScorer, score_variants

pytest.importorskip("pysam")
pytest.importorskip("zarr")

JIT = keras.backend.backend() == "jax"


def scorer(model, *args, **options):
    return Scorer(model, *args, test_correctness=False, jit=JIT, **options)


def mapped(folder, text, model, rows, **options):
    """The scores of some regions of a genome with one chromosome."""
    (folder / "one.fa").write_text(f">chr1\n{text}\n")
    (folder / "one.bed").write_text("".join(f"chr1\t{a}\t{b}\tr{a}\t0\t{s}\n" for a, b, s in rows))
    return map_regions(scorer(model), folder / "one.fa", folder / "one.bed", folder / "one.zarr", **options)


def differences(model, x):
    """By brute force, (N, L, 4, T)."""
    return saturated(model, [x], 0)[0] - predict(model, [x])[0][:, None, None]


def letters(count, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


def close(found, want, share=1e-4):
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(found, want, atol=share * np.abs(want).max())


@pytest.mark.parametrize("place", [0, 20, LENGTH - 1], ids=["first", "inside", "last"])
def test_an_n_in_the_window(tmp_path, place):
    """All four letters are edits there; the other positions are what they would be; no attribution is lost to NaN."""
    _, model = save_model(tmp_path)
    text = letters(LENGTH)
    text = text[:place] + "N" + text[place + 1 :]
    scores, report = mapped(tmp_path, text, model, [(0, LENGTH, "+")])
    x = window(text, 0, LENGTH)[None]
    assert not x[0, place].any()
    close(scores.differences[:], differences(model, x))
    assert scores.mask[0].tolist() == [i != place for i in range(LENGTH)]
    assert not scores.attributions(0, hypothetical=True)[0, place].any()
    assert np.isfinite(scores.attributions(0, hypothetical=True)).all()
    assert report.kept == 1


def test_lower_case_is_sequence(tmp_path):
    _, model = save_model(tmp_path)
    text = letters(LENGTH)
    upper, _ = mapped(tmp_path, text, model, [(0, LENGTH, "+")])
    found = upper.differences[:]
    lower, _ = mapped(tmp_path, text.lower(), model, [(0, LENGTH, "+")], overwrite=True)
    assert (lower.differences[:] == found).all()
    assert lower.mask.all()


def test_iupac_letters_are_unknown_and_no_error(tmp_path):
    _, model = save_model(tmp_path)
    text = letters(LENGTH)
    text = "R" + text[1:10] + "yK" + text[12:]
    scores, report = mapped(tmp_path, text, model, [(0, LENGTH, "+")])
    assert np.flatnonzero(~scores.mask[0]).tolist() == [0, 10, 11]
    assert report.kept == 1
    close(scores.differences[:], differences(model, window(text, 0, LENGTH)[None]))


def test_windows_at_the_edges_hold_no_nan(tmp_path):
    _, model = save_model(tmp_path)
    text = letters(60)
    rows = [(0, 10, "+"), (50, 60, "-"), (20, 30, "+")]
    scores, report = mapped(tmp_path, text, model, rows)
    assert report.kept == 3
    for name in ("differences", "reference", "sequences"):
        assert np.isfinite(getattr(scores, name)[:]).all()
    assert np.isfinite(scores.attributions(1, hypothetical=True)).all()
    x = np.stack([window(text, -15, 25), window(text, 35, 75, "-"), window(text, 5, 45)])
    close(scores.differences[:], differences(model, x))


def test_variants_behind_a_reference_mismatch_are_their_own(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    text = texts["chr1"].upper()
    other = dict(zip("ACGT", "CGTA", strict=True))
    good = [(p, text[p - 1], other[text[p - 1]]) for p in (61, 63, 65)]
    wrong = (62, other[text[61]], other[other[text[61]]])

    def run(rows):
        path = tmp_path / "v.tsv"
        path.write_text("".join(f"chr1\t{p}\t{r}\t{a}\t.\n" for p, r, a in rows))
        made = VariantScorer(model, test_correctness=False, jit=JIT)
        report = Report("variants")
        batches = list(score_variants(made, genome, path, report))
        return {k: np.concatenate([np.asarray(b[k]) for b in batches]) for k in batches[0]}, report

    alone, _ = run(good)
    mixed, report = run([wrong, *good])
    assert mixed["ref_match"].tolist() == [False, True, True, True]
    assert "1" in str(report)
    np.testing.assert_allclose(mixed["subtract:0"][1:], alone["subtract:0"], rtol=1e-5, atol=1e-7)


def test_several_outputs_have_their_axes_in_one_order():
    x = keras.Input((LENGTH, 4))
    h = L.Conv1D(5, 3, padding="same", activation="relu")(x)
    model = randomize(keras.Model(x, [L.Dense(3)(L.Flatten()(h)), L.Conv1D(2, 1)(h)]))
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    before, after = saturation_mutagenesis(model, data.transpose(0, 2, 1), raw_outputs=True, batch_size=50)
    assert [y.shape for y in before] == [(2, 3), (2, LENGTH, 2)]
    assert [y.shape for y in after] == [(2, 4, LENGTH, 3), (2, 4, LENGTH, LENGTH, 2)]
    for found, want in zip(after, saturated(model, [data], 0), strict=True):
        np.testing.assert_allclose(found, np.swapaxes(want, 1, 2), atol=1e-4 * np.abs(want).max())


def test_end_of_minus_one_mutates_the_last_position(tmp_path):
    _, model = save_model(tmp_path)
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    found = saturation_mutagenesis(model, data, end=-1, target=0)
    assert found.shape == (1, LENGTH, 4)
    assert found[0, -1].any()


def test_a_state_is_saved_as_bytes(tmp_path):
    _, model = save_model(tmp_path)
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    ism = FastISM(model, test_correctness=False, jit=JIT)
    path = tmp_path / "state.pickle"
    path.write_bytes(pickle.dumps(ism))
    again = pickle.loads(path.read_bytes())
    np.testing.assert_allclose(again.saturate(data).mutant, ism.saturate(data).mutant, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.config.floatx() != "float32", reason="of single precision")
def test_small_differences_of_large_predictions_are_kept(tmp_path):
    """Of an output near 10,000, as of counts, small differences are stored as they are computed."""
    _, model = save_model(tmp_path)
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel * 0.1, bias * 0 + 1e4])
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    found = scorer(model)(data)
    assert found.differences.dtype == np.float32
    fast = FastISM(model, test_correctness=False, jit=JIT).saturate(data)
    want = np.asarray(fast.mutant, "float64") - np.asarray(fast.reference, "float64")[:, None, None]
    assert (found.differences == want.astype("float32")).all()
    assert 0 < np.abs(found.differences).max() < 8
    assert len(np.unique(found.differences)) > 3  # half precision has steps of 8 there


def test_large_values_are_refused_in_half_precision_and_not_made_infinite(tmp_path):
    from fastism.store import save_scores

    _, model = save_model(tmp_path)
    dense = model.layers[-1]
    dense.set_weights([w * 1e7 for w in dense.get_weights()])
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    scores = scorer(model)(data)
    assert np.abs(scores.differences).max() > 65504
    with pytest.raises(ValueError, match="float16"):
        save_scores(tmp_path / "half.zarr", scores, dtype="float16")
    save_scores(tmp_path / "single.zarr", scores)
    assert (open_scores(tmp_path / "single.zarr").differences[:] == scores.differences).all()


@pytest.mark.skipif(keras.config.floatx() != "float32", reason="of single precision")
def test_products_are_not_rounded_to_fewer_digits(tmp_path):
    """Within single precision of the same model in double precision; TF32 would be off by a thousand times that."""
    _, model = save_model(tmp_path)
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    kernel, bias = model.layers[1].get_weights()
    dense, offset = model.layers[-1].get_weights()

    def by_hand(x):
        padded = np.pad(x.astype("float64"), ((0, 0), (2, 2), (0, 0)))
        taps = [padded[:, k : k + LENGTH] @ kernel[k].astype("float64") for k in range(5)]
        hidden = np.maximum(sum(taps) + bias, 0).reshape(len(x), LENGTH // 4, 4, -1).max(2)
        return hidden.reshape(len(x), -1) @ dense.astype("float64") + offset

    found = FastISM(model, test_correctness=False, jit=JIT).saturate(data)
    want = by_hand(data)
    np.testing.assert_allclose(found.reference, want, atol=1e-5 * np.abs(want).max())
    for letter in range(4):
        mutated = data.copy()
        mutated[:, 7] = np.eye(4)[letter]
        want = by_hand(mutated)
        np.testing.assert_allclose(found.mutant[:, 7, letter], want, atol=1e-5 * np.abs(want).max())


def test_an_error_midway_is_raised_and_the_file_is_not_taken_for_whole(tmp_path, monkeypatch):
    _, model = save_model(tmp_path)
    made = scorer(model)
    real, calls = Scorer.__call__, []

    def failing(self, x, **options):
        calls.append(len(x))
        if len(calls) == 2:
            raise RuntimeError("the device is lost")
        return real(self, x, **options)

    monkeypatch.setattr(Scorer, "__call__", failing)
    (tmp_path / "one.fa").write_text(f">chr1\n{letters(80)}\n")
    (tmp_path / "one.bed").write_text("chr1\t0\t40\nchr1\t40\t80\n")
    with pytest.raises(RuntimeError, match="the device is lost"):
        map_regions(made, tmp_path / "one.fa", tmp_path / "one.bed", tmp_path / "one.zarr")
    with pytest.raises(UnfinishedStoreError, match="1 of 2"):
        open_scores(tmp_path / "one.zarr")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_sequence_is_a_batch(tmp_path, count):
    _, model = save_model(tmp_path)
    data = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (count, LENGTH))]
    ism = FastISM(model, test_correctness=False, jit=JIT)
    close(ism.saturate(data).mutant, saturated(model, [data], 0)[0])
    assert ism(data).shape == (count, LENGTH, 2)
