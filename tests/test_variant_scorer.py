"""Variants from a file: both alleles in their windows, as the model predicts them; what is left out is counted."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from genomes import LENGTH, save_model, window, write_genome
from oracle import predict

from fastism.metrics import METRICS
from fastism.regions import Report
from fastism.variant_scorer import VariantScorer, score_variants

pytest.importorskip("pysam")

JIT = keras.backend.backend() == "jax"


def table(folder, rows):
    path = folder / "variants.tsv"
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def scorer(model, *args, **options):
    return VariantScorer(model, *args, test_correctness=False, jit=JIT, **options)


def test_variants_of_every_kind(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    text = texts["chr1"].upper()
    wrong = "ACGT"[("ACGT".index(text[199]) + 1) % 4]
    other = {c: "ACGT"[("ACGT".index(c) + 2) % 4] for c in "ACGT"}
    rows = [
        ("chr1", 61, text[60], other[text[60]], "snv"),
        ("chr1", 200, wrong, other[wrong], "mismatch"),
        ("chr1", 301, text[300], text[300] + "GGA", "insertion"),
        ("chr1", 321, text[320:324], text[320], "deletion"),
        ("chr7", 10, "A", "C", "nowhere"),
        ("chr1", 62, text[61], other[text[61]], "good again"),
    ]
    report = Report("variants")
    batches = list(score_variants(scorer(model), genome, table(tmp_path, rows), report, batch_size=2))
    assert [len(b["pos"]) for b in batches] == [2, 2, 1]
    joined = {k: np.concatenate([np.asarray(b[k]) for b in batches]) for k in batches[0]}
    assert joined["id"].tolist() == ["snv", "mismatch", "insertion", "deletion", "good again"]
    assert joined["pos"].tolist() == [61, 200, 301, 321, 62]
    assert joined["ref_match"].tolist() == [True, False, True, True, True]
    assert report.rows == 6
    assert report.kept == 5
    half = LENGTH // 2
    pairs = []
    for _, pos, ref, alt, _name in [r for r in rows if r[4] != "nowhere"]:
        start = pos - 1 - half
        reference = text[: pos - 1] + ref + text[pos - 1 + len(ref) :]
        alternative = text[: pos - 1] + alt + text[pos - 1 + len(ref) :]
        pairs.append((window(reference, start, start + LENGTH), window(alternative, start, start + LENGTH)))
    before, after = (predict(model, [np.stack(p)])[0] for p in zip(*pairs, strict=True))
    for target in (0, 1):
        want = (after - before)[:, target]
        np.testing.assert_allclose(joined[f"subtract:{target}"], want, atol=1e-4 * np.abs(want).max())


def test_several_metrics_strands_and_folds(tmp_path):
    models = [save_model(tmp_path, f"{s}.keras", s, profile=True)[1] for s in (0, 1)]
    rng = np.random.default_rng(0)
    x = np.eye(4, dtype="float32")[rng.integers(0, 4, (3, LENGTH))]
    y = x.copy()
    y[:, 20] = np.roll(y[:, 20], 1, axis=-1)
    found = scorer(models, ["logSUM", "jsd"], output=0, rc=True, target_names=["fwd", "rev"])(x, y)
    assert list(found) == ["logSUM:fwd", "logSUM:rev", "jsd:fwd", "jsd:rev"]
    scores = []
    for model in models:
        for turn in (False, True):
            before, after = (
                predict(model, [np.ascontiguousarray(z[:, ::-1, ::-1]) if turn else z])[0].astype("float64")
                for z in (x, y)
            )
            scores.append(np.log2(after + 1).sum(1) - np.log2(before + 1).sum(1))
    want = np.mean(scores, axis=0)
    np.testing.assert_allclose(found["logSUM:fwd"], want[:, 0], atol=1e-3 * np.abs(want).max())
    np.testing.assert_allclose(found["logSUM:rev"], want[:, 1], atol=1e-3 * np.abs(want).max())
    assert (found["jsd:fwd"] > 0).all()


def test_a_window_over_the_end_of_a_chromosome_says_so(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    text = texts["chr2"]
    rows = [("chr2", p, text[p - 1], "ACGT"[("ACGT".index(text[p - 1]) + 1) % 4], f"v{p}") for p in (5, 60, 119)]
    (batch,) = score_variants(scorer(model), genome, table(tmp_path, rows), Report())
    assert batch["status"] == ["padded", "ok", "padded"]
    assert batch["subtract:0"].dtype == np.float32


def moved_by_hand(x, shift):
    room = np.zeros_like(x)
    for i in range(x.shape[1]):
        if 0 <= i - shift < x.shape[1]:
            room[:, i] = x[:, i - shift]
    return room


def test_shifts_move_positions(tmp_path):
    """The sequence moves by a base to the right, and letters stay letters."""
    _, model = save_model(tmp_path)
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (3, LENGTH))]
    y = x.copy()
    y[:, 20] = np.roll(y[:, 20], 1, axis=-1)
    runs = [[predict(model, [moved_by_hand(z, s)])[0] for z in (x, y)] for s in (1, 0, -2)]
    for shifts, pairs in (((1,), runs[:1]), ((1, 0, -2), runs)):
        want = np.mean([after - before for before, after in pairs], axis=0)
        found = scorer(model, shifts=shifts)(x, y)
        np.testing.assert_allclose(found["subtract:0"], want[:, 0], atol=1e-4 * np.abs(want).max())
        np.testing.assert_allclose(found["subtract:1"], want[:, 1], atol=1e-4 * np.abs(want).max())


def test_counts_beside_a_profile_are_not_turned_and_strands_are_exchanged_on_request(tmp_path):
    _, model = save_model(tmp_path, profile=True)
    inner = keras.ops.mean(model.outputs[0], axis=1)
    model = keras.Model(model.input, {"profile": model.outputs[0], "count": inner})
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (3, LENGTH))]
    y = x.copy()
    y[:, 20] = np.roll(y[:, 20], 1, axis=-1)
    runs = {}
    for turn in (False, True):
        pair = [np.ascontiguousarray(z[:, ::-1, ::-1]) if turn else z for z in (x, y)]
        counts = [model.predict(z, verbose=0)["count"] for z in pair]
        runs[turn] = counts[1] - counts[0]
    for pairs, order in ((None, [0, 1]), ((1, 0), [1, 0])):
        want = (runs[False] + runs[True][:, order]) / 2
        found = scorer(model, output="count", rc=True, strand_pairs=pairs)(x, y)
        for t in (0, 1):
            np.testing.assert_allclose(found[f"subtract:{t}"], want[:, t], atol=1e-4 * np.abs(want).max())


def test_names_of_targets_are_kept_or_refused(tmp_path):
    _, model = save_model(tmp_path)
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    assert list(scorer(model, targets=[1], target_names=["liver"])(x, x)) == ["subtract:liver"]
    assert list(scorer(model, targets=[1])(x, x)) == ["subtract"]
    assert list(scorer(model)(x, x)) == ["subtract:0", "subtract:1"]
    with pytest.raises(ValueError, match="There are 1 target names for 2 targets"):
        scorer(model, targets=[0, 1], target_names=["liver"])
    with pytest.raises(ValueError, match="There are 3 target names, but 2 scores"):
        scorer(model, target_names=["a", "b", "c"])(x, x)


def test_a_protein_has_no_other_strand():
    sequence = keras.Input((12, 20))
    model = keras.Model(sequence, keras.layers.Dense(1)(keras.layers.Flatten()(sequence)))
    x = np.eye(20, dtype="float32")[np.random.default_rng(0).integers(0, 20, (2, 12))]
    with pytest.raises(ValueError, match="20 channels and complement is for 4"):
        scorer(model, rc=True)(x, x)


def test_scores_of_metrics_of_one_name_are_not_added_up(tmp_path):
    _, model = save_model(tmp_path)
    few, many = (METRICS["log2FC"].using(pseudocount=p) for p in (50.0, 500.0))
    for stats in (["subtract", "log2FC", "subtract"], [few, many], [lambda r, a: a - r, lambda r, a: a / r]):
        with pytest.raises(ValueError, match=r"stats holds '(subtract|log2FC|<lambda>)' twice; different ones"):
            scorer(model, stats)
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    named = scorer(model, [few, replace(many, name="log2FC500")], targets=[0])(x, np.roll(x, 1, axis=1))
    assert list(named) == ["log2FC", "log2FC500"]
    with pytest.raises(ValueError, match=r"target_names .* holds 'liver' twice; different ones"):
        scorer(model, target_names=["liver", "liver"])


def test_strict_stops_at_a_reference_mismatch(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    wrong = "ACGT"[("ACGT".index(texts["chr1"][199]) + 1) % 4]
    path = table(tmp_path, [("chr1", 200, wrong, "ACGT"[("ACGT".index(wrong) + 1) % 4], "x")])
    with pytest.raises(ValueError, match="chr1"):
        list(score_variants(scorer(model), genome, path, Report(), strict=True))
    with pytest.raises(ValueError, match="stats is empty"):
        scorer(model, [])


def test_one_metric_is_a_list_of_one(tmp_path):
    _, model = save_model(tmp_path)
    for stat in ("subtract", METRICS["subtract"]):
        assert [m.name for m in scorer(model, stat).metrics] == ["subtract"]
    assert [m.name for m in scorer(model, lambda r, a: a - r).metrics] == ["<lambda>"]


@pytest.mark.parametrize("name", ["chrom", "pos", "id", "ref", "alt", "ref_match", "status"])
def test_a_metric_takes_no_name_of_a_column(tmp_path, name):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    with pytest.raises(ValueError, match=f"stats holds a metric that is called '{name}', as a column of the table is"):
        scorer(model, replace(METRICS["subtract"], name=name))
    base = texts["chr1"][60]
    path = table(tmp_path, [("chr1", 61, base, "ACGT"[("ACGT".index(base) + 1) % 4], "v")])
    (batch,) = score_variants(scorer(model, targets=[0]), genome, path, Report())
    assert name in batch


@pytest.mark.parametrize("size", [0, -1, 1.5, "a", True, None])
def test_batches_hold_variants(size):
    with pytest.raises(ValueError, match=f"batch_size is {size!r}; a positive integer"):
        score_variants(None, "none.fa", "none.tsv", Report(), batch_size=size)


def test_strict_is_a_flag():
    with pytest.raises(ValueError, match="strict is 'no'; True or False"):
        score_variants(None, "none.fa", "none.tsv", Report(), strict="no")
