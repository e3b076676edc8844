"""From files to scores: every row accounted for, the same numbers as naive, stores that stop and go on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from genomes import LENGTH, WINDOWS, save_model, window, write_genome, write_regions

from fastism import NaiveISM, pipeline
from fastism.metrics import METRICS
from fastism.pipeline import NothingLeft, map_fasta, map_regions
from fastism.scorer import Scorer, central
from fastism.scores import attribution
from fastism.sequences import PROTEIN, one_hot
from fastism.store import UnfinishedStoreError, open_scores
from fastism.testing import randomize

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


def test_unknown_letters_are_flagged(tmp_path):
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    text = texts["chr1"][:200] + "N" * 60 + texts["chr1"][260:]
    genome.write_text(f">chr1\n{text}\n")
    rows = ["200\t260\tall", "140\t170\tsome", "0\t20\tpadded", "20\t60\tnone"]
    (tmp_path / "r.bed").write_text("".join(f"chr1\t{row}\n" for row in rows))
    (tmp_path / "x.fa").write_text(f">all\n{'N' * 40}\n>some\n{text[190:230]}\n>none\n{text[:40]}\n")
    scores, report = map_regions(scorer(model, end=3), genome, tmp_path / "r.bed", tmp_path / "r.zarr")
    unknown = {"unknown letters (N) only": 1, "some unknown letters (N)": 1}
    assert report.flagged == {"padded with N over the chromosome's end": 1, **unknown}
    assert report.examples["unknown letters (N) only"] == ["chr1 200 260 all"]
    assert report.kept == len(scores) == 4
    assert not scores.mask[0].any()
    _, report = map_fasta(scorer(model, end=3), tmp_path / "x.fa", tmp_path / "x.zarr")
    assert report.flagged == unknown
    assert report.examples["some unknown letters (N)"] == ["some"]


def test_characters_that_are_no_letters_leave_one_sequence_out(tmp_path):
    _, model = save_model(tmp_path)
    (tmp_path / "x.fa").write_text(">a\n" + "ACGT" * 10 + "\n>gap\n" + "AC-T" * 10 + "\n>b\n" + "TTGA" * 10 + "\n")
    scores, report = map_fasta(scorer(model, end=1), tmp_path / "x.fa", tmp_path / "out.zarr")
    assert list(scores.names) == ["a", "b"]
    assert report.skipped == {"holds what is no letter": 1}
    with pytest.raises(ValueError, match="of gap .*'-'"):
        map_fasta(scorer(model, end=1), tmp_path / "x.fa", tmp_path / "other.zarr", strict=True)


def test_proteins_have_letters_of_their_own(tmp_path):
    sequence = keras.Input((12, 20))
    h = keras.layers.Conv1D(4, 3, activation="relu")(sequence)
    model = randomize(keras.Model(sequence, keras.layers.Dense(1)(keras.layers.Flatten()(h))))
    (tmp_path / "p.fa").write_text(">p\nMKLVWXACDEFG\n")
    scores, _ = map_fasta(scorer(model), tmp_path / "p.fa", tmp_path / "p.zarr")
    assert scores.alphabet == PROTEIN
    x = one_hot(["MKLVWXACDEFG"], alphabet=PROTEIN)
    agrees(scores, model, x)
    assert np.flatnonzero(~scores.mask[0]).tolist() == [5]
    genome, _ = write_genome(tmp_path)
    with pytest.raises(ValueError, match="a genome is read as ACGT"):
        map_regions(scorer(model), genome, write_regions(tmp_path), tmp_path / "out.zarr")
    with pytest.raises(ValueError, match="has 20 channels and the alphabet is 'ACGT'"):
        scorer(model, alphabet="ACGT")


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


def scaled(factor):
    def own(reference, alternative):
        return factor * (alternative - reference)

    return own


def test_a_run_goes_on_with_its_own_metric_strands_and_architecture_only(tmp_path, monkeypatch):
    _, model = save_model(tmp_path)
    (tmp_path / "x.fa").write_text("".join(f">{i}\n{'ACGT' * 10}\n" for i in range(2)))
    monkeypatch.setattr("fastism.pipeline.MOST_SEQUENCES", 1)
    real = Scorer.__call__

    def begin(scorer, out):
        calls = []

        def failing(self, x, **options):
            calls.append(x)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(self, x, **options)

        with monkeypatch.context() as patched:
            patched.setattr(Scorer, "__call__", failing)
            with pytest.raises(KeyboardInterrupt):
                map_fasta(scorer, tmp_path / "x.fa", out)

    def go_on(scorer, out):
        return map_fasta(scorer, tmp_path / "x.fa", out, resume=True)

    begin(scorer(model, scaled(1), end=2), tmp_path / "metric.zarr")
    for other in (scaled(2), lambda reference, alternative: alternative - reference):
        other.__name__ = "own"
        with pytest.raises(ValueError, match="other settings: metric_digest was"):
            go_on(scorer(model, other, end=2), tmp_path / "metric.zarr")
    go_on(scorer(model, scaled(1), end=2), tmp_path / "metric.zarr")

    begin(scorer(model, end=2, rc=True), tmp_path / "strands.zarr")
    with pytest.raises(ValueError, match="other settings: flip_outputs was False, is True"):
        go_on(scorer(model, end=2, rc=True, flip_outputs=True), tmp_path / "strands.zarr")

    def pooled(kind):
        x = keras.Input((LENGTH, 4))
        y = keras.layers.Dense(1)(kind()(keras.layers.Conv1D(4, 5)(x)))
        return randomize(keras.Model(x, y, name="pooled"))

    begin(scorer(pooled(keras.layers.GlobalMaxPooling1D), end=2), tmp_path / "pooled.zarr")
    with pytest.raises(ValueError, match="other settings: architecture was"):
        go_on(scorer(pooled(keras.layers.GlobalAveragePooling1D), end=2), tmp_path / "pooled.zarr")
    go_on(scorer(pooled(keras.layers.GlobalMaxPooling1D), end=2), tmp_path / "pooled.zarr")


@pytest.mark.parametrize("source", ["regions", "fasta"])
def test_every_row_is_read_once_to_count_and_once_to_score_however_small_the_batches(tmp_path, monkeypatch, source):
    """Nor is a row encoded more often; a run that goes on passes over the rows it has once."""
    genome, texts = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    starts = [0, 40, 160, 200, 240]
    (tmp_path / "r.bed").write_text("".join(f"chr1\t{a}\t{a + 40}\tr{a}\n" for a in starts))
    (tmp_path / "x.fa").write_text("".join(f">r{a}\n{texts['chr1'][a : a + 40]}\n" for a in starts))
    seen = {"read": [], "encoded": [], "scored": []}

    def watch(name, key):
        real = getattr(pipeline, name)

        def watched(*args, **options):
            for row in real(*args, **options):
                seen["read"].append(key(row))
                yield row

        monkeypatch.setattr(pipeline, name, watched)

    watch("read_regions", lambda region: region.name)
    watch("read_fasta", lambda row: row[0])
    hot, real, of_genome = pipeline.one_hot, Scorer.__call__, pipeline.Genome.one_hot

    def reading(self, regions, **options):
        seen["encoded"] += regions if isinstance(regions, list) else [regions]
        return of_genome(self, regions, **options)

    monkeypatch.setattr(pipeline.Genome, "one_hot", reading)

    def encoding(text, **options):
        seen["encoded"] += [text] if text else []
        return hot(text, **options)

    def scoring(self, x, **options):
        seen["scored"].append(len(x))
        if len(seen["scored"]) == 4:
            raise KeyboardInterrupt
        return real(self, x, **options)

    monkeypatch.setattr(pipeline, "one_hot", encoding)
    monkeypatch.setattr(Scorer, "__call__", scoring)
    monkeypatch.setattr(pipeline, "MOST_SEQUENCES", 1)
    one, out = scorer(model, end=2), tmp_path / "out.zarr"

    def run(**options):
        if source == "regions":
            return map_regions(one, genome, tmp_path / "r.bed", out, **options)[0]
        return map_fasta(one, tmp_path / "x.fa", out, **options)[0]

    names = [f"r{a}" for a in starts]
    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen["read"] == names + names[:4]
    seen["read"].clear()
    seen["encoded"].clear()
    scores = run(resume=True)
    assert seen["read"] == names + names
    left = 2 if source == "regions" else len(names)  # a genome is read for what is left, a FASTA file passed over
    assert len(seen["encoded"]) == len(names) + left
    assert seen["scored"] == [1] * 6
    assert list(scores.names) == names
    assert (scores.sequences[:] == np.stack([window(texts["chr1"], a, a + 40) for a in starts])).all()
    seen["read"].clear()
    run(resume=True)
    assert seen["read"] == names, "a run that is finished only counts"


def test_a_value_at_n_that_cannot_be_is_no_fault_of_the_sequences(tmp_path):
    _, model = save_model(tmp_path)
    (tmp_path / "x.fa").write_text(">a\n" + "ACGT" * 10 + "\n")
    with pytest.raises(ValueError, match="unknown is nan; 0 or 0.25 is accepted"):
        map_fasta(scorer(model), tmp_path / "x.fa", tmp_path / "out.zarr", unknown=float("nan"))


def test_settings_are_refused_before_files_are_read(tmp_path):
    _, model = save_model(tmp_path)
    x = keras.Input((LENGTH, 4))
    both = keras.Model([x, cell := keras.Input((3,))], keras.layers.Concatenate()([keras.layers.Flatten()(x), cell]))
    nothing = ("none.fa", "none.bed", tmp_path / "out.zarr")
    one = scorer(model)
    for unknown in (0.5, -1, "0", None, True):
        with pytest.raises(ValueError, match=rf"unknown is {unknown!r}; 0 or 0.25 is accepted"):
            map_regions(one, *nothing, unknown=unknown)
    for flag in ("strict", "resume", "overwrite", "progress"):
        with pytest.raises(ValueError, match=f"{flag} is 'no'; True or False is accepted"):
            map_fasta(one, *nothing[1:], **{flag: "no"})
    with pytest.raises(TypeError, match=r"attributes is \[1\]; a dict"):
        map_regions(one, *nothing, attributes=[1])
    with pytest.raises(ValueError, match="takes 2 inputs; a map of regions .* Scorer, which takes lists"):
        map_regions(scorer(both), *nothing)


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


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("metric", "profile", "message"),
    [
        ("log2FC", False, "log2FC: the lowest prediction plus the pseudocount 0 is -.* 'subtract' for predictions"),
        ("logit", False, "logit: predictions range from -.* probabilities are accepted"),
        ("logSUM", True, "metric 'logSUM' .* is not a number for .* 'subtract' takes any"),
        ("logSED", True, "logSED|log2FC: the lowest prediction plus the pseudocount 1 is -"),
    ],
)
def test_metrics_that_the_predictions_do_not_suit_are_an_error(tmp_path, metric, profile, message):
    _, model = save_model(tmp_path, profile=profile)
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    if profile:  # below -1, where a pseudocount of 1 does not help
        inner = keras.Model(model.input, keras.layers.Rescaling(-100.0)(model.outputs[0]))
        model = inner
    with pytest.raises(ValueError, match=message):
        Scorer(model, metric, jit=JIT)(x)


SCORED = ["subtract", "divide", "log2FC", "logfc", "SUM", "logSUM", "logSED", "profile", "jsd"]


@pytest.mark.parametrize("rc", [False, True], ids=["one strand", "both strands"])
@pytest.mark.parametrize("metric", SCORED)
def test_every_metric_is_that_of_whole_outputs_averaged_over_members(tmp_path, metric, rc):
    """Whatever is computed on the device; targets of the other strand are where they were, and so are counts."""
    models = [save_model(tmp_path, f"{seed}.keras", seed, profile=True)[1] for seed in (0, 1)]
    counts = metric in SCORED[:4]
    if counts:  # positive ones, of two targets
        models = [
            keras.Model(m.input, {"profile": m.outputs[0], "count": keras.ops.mean(m.outputs[0], axis=1)})
            for m in models
        ]
    head = "count" if counts else 0
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    found = scorer(models, metric, output=head, start=10, end=20, rc=rc)(x)
    want = []
    for model in models:
        for turn in (False, True)[: 1 + rc]:
            naive = NaiveISM(model).saturate(np.ascontiguousarray(x[:, ::-1, ::-1]) if turn else x)
            values = METRICS[metric](naive.reference[head], naive.mutant[head])
            want.append((values[:, ::-1, ::-1] if turn else values)[:, 10:20])
    want = np.mean(want, axis=0).reshape(found.differences.shape)
    want = want - (METRICS[metric].neutral or 0)
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(found.differences, want, atol=2e-3 * np.abs(want).max())
    assert not found.differences[np.nonzero(x[:, 10:20])].any()
    if metric == "divide":
        assert found.attributes["formula"].endswith(" - 1")
        close = attribution(x[:, 10:20], want[..., 0], rule="mean3")
        np.testing.assert_allclose(found.attributions(0, rule="mean3"), close, atol=2e-3 * np.abs(want).max())


def test_an_output_has_to_be_chosen_where_there_are_several_and_only_there(tmp_path):
    _, several = save_model(tmp_path, profile=True)
    _, one = save_model(tmp_path)
    with pytest.raises(ValueError, match=r"has 2 outputs, .*; choose one with output= \(--head\)"):
        scorer(several)
    with pytest.raises(ValueError, match=r"output is 'nope', but model .* has .*; a name or an index from 0 to 1"):
        scorer(several, output="nope")
    with pytest.raises(ValueError, match="output is 1, but model .* has "):
        scorer(one, output=1)
    with pytest.raises(ValueError, match="targets holds 5; the output has 2"):
        scorer(one, targets=[0, 5])
    with pytest.raises(ValueError, match="There are 1 target names for 2 targets"):
        scorer(one, targets=[0, 1], target_names=["liver"])
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    with pytest.raises(ValueError, match="There are 3 target names, but 2 scores"):
        scorer(one, target_names=["a", "b", "c"], end=2)(x)
    whole, first = scorer(one, end=2)(x), scorer(one, end=2, output=0, targets=[1])(x)
    np.testing.assert_allclose(first.differences[..., 0], whole.differences[..., 1], atol=1e-6)
    assert first.targets == ("1",)
    with pytest.raises(ValueError, match="consumes profiles"):
        scorer(several, "logSUM", output=1)


@pytest.mark.parametrize("change", ["rows", "head", "centre", "weights", "unknown"])
def test_a_run_does_not_go_on_with_another_job(tmp_path, monkeypatch, change):
    """Rows in another order, another output, other windows, other weights under the same name: none may be mixed."""
    genome, _ = write_genome(tmp_path)
    _, model = save_model(tmp_path, profile=True)
    summits = "".join(f"chr1\t{a}\t{a + 60}\tr{a}\t0\t+\t0\t0\t0\t5\n" for a in (10, 60, 200))
    (tmp_path / "r.narrowPeak").write_text(summits)
    arguments = [genome, tmp_path / "r.narrowPeak", tmp_path / "out.zarr"]
    monkeypatch.setattr("fastism.pipeline.MOST_SEQUENCES", 1)
    first, real = scorer(model, output=1, end=2), Scorer.__call__
    calls = []

    def failing(self, x, **options):
        calls.append(len(x))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, x, **options)

    monkeypatch.setattr(Scorer, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        map_regions(first, *arguments)
    monkeypatch.setattr(Scorer, "__call__", real)
    options, other = {}, first
    if change == "rows":
        (tmp_path / "r.narrowPeak").write_text("".join(reversed(summits.splitlines(keepends=True))))
    elif change == "head":
        other = scorer(model, "logSUM", output=0, end=2)
    elif change == "weights":
        model.set_weights([w * 1.5 for w in model.get_weights()])
        other = scorer(model, output=1, end=2)
    else:
        options = {"centre": {"centre": "middle"}, "unknown": {"unknown": 0.25}}[change]
    with pytest.raises(ValueError, match="was begun with other settings"):
        map_regions(other, *arguments, resume=True, **options)


def test_pipes_are_refused_and_rows_without_a_name_have_their_place(tmp_path):
    import os

    genome, _ = write_genome(tmp_path)
    _, model = save_model(tmp_path)
    os.mkfifo(tmp_path / "pipe.bed")
    with pytest.raises(ValueError, match="is no regular file; it is read twice"):
        map_regions(scorer(model), genome, tmp_path / "pipe.bed", tmp_path / "out.zarr")
    (tmp_path / "some.bed").write_text("chr1\t0\t40\tx\nchr1\t50\t90\t.\n")
    scores, _ = map_regions(scorer(model, end=1), genome, tmp_path / "some.bed", tmp_path / "out.zarr")
    assert list(scores.names) == ["x", "chr1:50-90"]


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
        ((None, 0, None), "No position is mutated: 0 up- and 0 downstream"),
    ],
)
def test_stretches_around_the_middle_have_to_fit(tmp_path, arguments, message):
    _, model = save_model(tmp_path)
    with pytest.raises(ValueError, match=message):
        central(model, *arguments)
