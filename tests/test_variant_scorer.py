"""Variants from a file: both alleles in their windows, as the model predicts them; what is left out is counted."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from genomes import LENGTH, save_model, window, write_genome
from oracle import predict

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
    found = scorer(models, ["logSUM", "jsd"], output=0, rc=True, flip_outputs=True, target_names=["fwd", "rev"])(x, y)
    assert list(found) == ["logSUM:fwd", "logSUM:rev", "jsd:fwd", "jsd:rev"]
    mean = []
    for z in (x, y):
        runs = [predict(m, [z])[0] for m in models]
        runs += [predict(m, [np.ascontiguousarray(z[:, ::-1, ::-1])])[0][:, ::-1] for m in models]
        mean.append(np.mean(runs, axis=0, dtype="float64"))
    want = np.log2(mean[1] + 1).sum(1) - np.log2(mean[0] + 1).sum(1)
    np.testing.assert_allclose(found["logSUM:fwd"], want[:, 0], atol=1e-3 * np.abs(want).max())
    np.testing.assert_allclose(found["logSUM:rev"], want[:, 1], atol=1e-3 * np.abs(want).max())
    assert (found["jsd:fwd"] > 0).all()


def test_strict_stops_at_a_reference_mismatch(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    wrong = "ACGT"[("ACGT".index(texts["chr1"][199]) + 1) % 4]
    path = table(tmp_path, [("chr1", 200, wrong, "ACGT"[("ACGT".index(wrong) + 1) % 4], "x")])
    with pytest.raises(ValueError, match="chr1"):
        list(score_variants(scorer(model), genome, path, Report(), strict=True))
    with pytest.raises(ValueError, match="stats is empty"):
        scorer(model, [])
