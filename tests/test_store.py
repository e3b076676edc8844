"""The working store: what is written is read back, what is cut short is not taken for whole."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from fastism import store as module
from fastism.regions import Region
from fastism.result import ISMScores
from fastism.store import Store, UnfinishedStoreError, open_scores, save_scores

zarr = pytest.importorskip("zarr")

N, L, P, START, TARGETS = 7, 9, 5, 2, ("first", "second", "third")


def example(n: int = N, *, regions: bool = True, names: bool = True, soft: bool = False) -> ISMScores:
    generator = np.random.default_rng(3)
    sequences = np.eye(4, dtype=np.int8)[generator.integers(0, 4, (n, L))]
    sequences[:, 4] = 0
    differences = generator.normal(size=(n, P, 4, 3)).astype(np.float32)
    where = [
        Region("chr1", 100 * i - 3, 100 * i - 3 + L, "+-."[i % 3], f"peak{i}", i, ("chr1", str(i), "é"))
        for i in range(n)
    ]
    return ISMScores(
        sequences * 0.5 if soft else sequences,
        differences,
        generator.normal(size=(n, 3)).astype(np.float32),
        start=START,
        targets=TARGETS,
        regions=where if regions else None,
        names=[f"sequence {i}" for i in range(n)] if names else (),
        attributes={"metric": "subtract", "model_hash": "abc", "seed": 1, "shifts": (0, 1)},
    )


def made_for(scores: ISMScores, **changed):
    settings = dict(
        sequences=len(scores),
        length=scores.length,
        positions=scores.positions,
        targets=scores.targets,
        start=scores.start,
        alphabet=scores.alphabet,
        attributes=scores.attributes,
    )
    return {**settings, **changed}


def assert_equal(found: ISMScores, wanted: ISMScores) -> None:
    np.testing.assert_array_equal(found.sequences[:], wanted.sequences)
    np.testing.assert_array_equal(found.differences[:], wanted.differences)
    np.testing.assert_array_equal(found.reference[:], wanted.reference)
    assert (found.start, tuple(found.targets), found.alphabet) == (wanted.start, tuple(wanted.targets), wanted.alphabet)
    assert (found.regions is None) == (wanted.regions is None)
    if wanted.regions is not None:
        assert list(found.regions) == list(wanted.regions)
    assert list(found.names) == list(wanted.names)


@pytest.mark.parametrize("size", [1, 3, N])
def test_what_is_written_in_batches_is_read_back(tmp_path, size):
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    for batch in scores.batches(size):
        store.append(batch)
    assert (store.complete, len(store), store.expected, store.finished) == (N, N, N, False)
    store.finish()
    found = open_scores(tmp_path / "a.zarr")
    assert_equal(found, scores)
    assert found.attributes == {"metric": "subtract", "model_hash": "abc", "seed": 1, "shifts": [0, 1]}
    assert found.sequences.dtype == np.int8
    assert found.differences.dtype == np.float32
    assert not isinstance(found.differences, np.ndarray), "arrays stay on disk"
    assert found.regions[-1] == scores.regions[-1]
    assert found.regions[1:3] == scores.regions[1:3]
    with pytest.raises(IndexError):
        found.regions[N]
    assert_equal(found[[5, 0]], scores[[5, 0]])
    assert [len(batch) for batch in found.batches(4)] == [4, 3]


def test_zarr_alone_reads_it_with_named_axes(tmp_path):
    scores = example()
    save_scores(tmp_path / "a.zarr", scores)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    assert group.metadata.zarr_format == 3
    assert group["differences"].metadata.dimension_names == ("sequence", "position", "letter", "target")
    assert group["sequences"].metadata.dimension_names == ("sequence", "base", "letter")
    np.testing.assert_array_equal(group["differences"][3, 1], scores.differences[3, 1])
    assert list(group["regions/strand"][:3]) == ["+", "-", "."]
    assert group["regions/start"][0] == -3, "a window over the chromosome's start"


@pytest.mark.parametrize(("regions", "names"), [(False, False), (True, False), (False, True)])
def test_regions_and_names_are_optional(tmp_path, regions, names):
    scores = example(regions=regions, names=names)
    assert_equal(open_scores(save_scores(tmp_path / "a.zarr", scores, batch_size=2)), scores)


def test_a_store_of_no_sequences_is_read_back(tmp_path):
    found = open_scores(save_scores(tmp_path / "a.zarr", example(0, regions=False, names=False)))
    assert found.sequences.shape == (0, L, 4)
    assert found.differences.shape == (0, P, 4, 3)
    assert list(found.batches()) == []


def test_an_empty_batch_changes_nothing(tmp_path):
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    store.append(scores[:0])
    store.append(scores)
    store.finish()
    assert_equal(open_scores(store.path), scores)


def test_a_store_whose_size_is_not_known_beforehand(tmp_path):
    scores = example()
    with Store.create(tmp_path / "a.zarr", **made_for(scores, sequences=None)) as store:
        store.append(scores[:5])
        assert Store.resume(store.path, **made_for(scores, sequences=None)).complete == 5
    assert_equal(open_scores(store.path), scores[:5])
    assert Store.resume(store.path, **made_for(scores, sequences=None)).finished


def test_soft_sequences_are_kept_on_request_only(tmp_path):
    soft = example(soft=True)
    store = Store.create(tmp_path / "hard.zarr", **made_for(soft))
    with pytest.raises(ValueError, match=r"not one-hot .* keeps int8; create it with soft=True"):
        store.append(soft)
    assert store.complete == 0
    assert_equal(open_scores(save_scores(tmp_path / "soft.zarr", soft)), soft)
    assert open_scores(tmp_path / "soft.zarr").sequences.dtype == np.float32


def test_float16_is_refused_where_a_value_does_not_fit(tmp_path):
    scores = example()
    scores.differences[6, 0, 0, 0] = -70000.0
    store = Store.create(tmp_path / "a.zarr", **made_for(scores, dtype="float16"))
    store.append(scores[:4])
    with pytest.raises(ValueError, match=r"differences reach 7e\+04, which float16 cannot hold .*Use dtype='float32'"):
        store.append(scores[4:])
    assert store.complete == 4
    found = open_scores(store.path, partial=True)
    np.testing.assert_allclose(found.differences[:], scores.differences[:4], rtol=1e-3)
    assert found.differences.dtype == np.float16
    with pytest.raises(ValueError, match=r"dtype is 'int8'; 'float32', 'float64', 'float16' are accepted"):
        Store.create(tmp_path / "b.zarr", **made_for(scores, dtype="int8"))


def test_float32_is_refused_where_a_value_does_not_fit(tmp_path):
    scores = example()
    wide = replace(scores, differences=scores.differences.astype(np.float64))
    wide.differences[0, 0, 0, 0] = 1e300
    with pytest.raises(ValueError, match=r"float32 cannot hold .* Use dtype='float64'"):
        save_scores(tmp_path / "a.zarr", wide)


def test_an_unfinished_store_is_not_taken_for_whole(tmp_path):
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    with pytest.raises(UnfinishedStoreError, match=r"0 of 7 sequences.*--resume"):
        open_scores(store.path)
    with pytest.raises(UnfinishedStoreError, match="no sequences yet"):
        open_scores(store.path, partial=True)
    store.append(scores[:3])
    with pytest.raises(
        UnfinishedStoreError, match=r"not finished: it holds 3 of 7 .*--resume.*Store\.resume.*partial=True"
    ):
        open_scores(store.path)
    assert_equal(open_scores(store.path, partial=True), scores[:3])
    with pytest.raises(ValueError, match=r"holds 3 of 7 sequences; append the rest before finish"):
        store.finish()
    with pytest.raises(RuntimeError, match="stop"), Store.resume(store.path):
        raise RuntimeError("stop")  # leaving by an error does not finish
    with pytest.raises(UnfinishedStoreError):
        open_scores(store.path)


def test_resume_goes_on_behind_the_last_batch_that_counts(tmp_path):
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    store.append(scores[:3])
    resumed = Store.resume(store.path, **made_for(scores))
    assert resumed.complete == 3
    resumed.append(scores[3:5])
    resumed = Store.resume(store.path)
    resumed.append(scores[5:])
    resumed.finish()
    assert_equal(open_scores(store.path), scores)
    again = Store.resume(store.path, **made_for(scores))
    assert again.finished
    assert again.complete == N
    with pytest.raises(ValueError, match="is finished"):
        again.append(scores[:1])


@pytest.mark.parametrize("survivors", range(1, 12))
def test_a_batch_cut_short_does_not_count(tmp_path, monkeypatch, survivors):
    """Whatever number of arrays the second batch has reached, the first counts alone and the rest is written anew."""
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    store.append(scores[:3])
    whole, written = Store._columns, []

    def cut_short(self, batch):
        for name, values in whole(self, batch):
            if len(written) == survivors:
                raise KeyboardInterrupt
            written.append(name)
            yield name, values + 1 if values.dtype.kind == "f" else values

    def stop(self, **changed):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_columns", cut_short)
        patched.setattr(Store, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            store.append(scores[3:6])
    assert_equal(open_scores(store.path, partial=True), scores[:3])
    resumed = Store.resume(store.path)
    assert resumed.complete == 3
    for batch in scores[3:].batches(2):
        resumed.append(batch)
    resumed.finish()
    assert_equal(open_scores(store.path), scores)


def test_resume_refuses_other_settings_and_lists_them(tmp_path):
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    other = {**scores.attributes, "model_hash": "xyz", "seed": 2}
    with pytest.raises(ValueError, match=r"other settings: .*model_hash was 'abc', is 'xyz'; seed was 1, is 2\."):
        Store.resume(store.path, attributes=other)
    assert Store.resume(store.path, attributes=other, ignore=["model_hash", "seed"]).complete == 0
    with pytest.raises(ValueError, match=r"targets was \['first', 'second', 'third'\], is \['first'\]"):
        Store.resume(store.path, targets=("first",))
    with pytest.raises(ValueError, match=r"sequences was 7, is 8.*date was None, is 'today'"):
        Store.resume(store.path, sequences=8, attributes={**scores.attributes, "date": "today"})
    with pytest.raises(TypeError, match=r"got size; attributes, sequences,"):
        Store.resume(store.path, size=3)
    with pytest.raises(FileNotFoundError, match=r"is no store of scores"):
        Store.resume(tmp_path / "none.zarr")


def test_a_batch_that_does_not_fit_is_refused(tmp_path):
    scores = example()
    store = Store.create(tmp_path / "a.zarr", **made_for(scores, sequences=4))
    with pytest.raises(ValueError, match=r"targets is \['0', '1', '2'\], not \['first'"):
        store.append(replace(scores, targets=("0", "1", "2")))
    with pytest.raises(ValueError, match=r"start is 1, not 2"):
        store.append(replace(scores, start=1))
    with pytest.raises(ValueError, match=r"room for 4 sequences, of which 0 are there; a batch of 5"):
        store.append(scores[:5])
    with pytest.raises(TypeError, match="batch is of type ndarray"):
        store.append(scores.differences)
    store.append(scores[:2])
    with pytest.raises(ValueError, match=r"regions is False, not True; names is False, not True"):
        store.append(replace(scores[2:4], regions=None, names=()))
    assert store.complete == 2


def test_text_that_no_file_holds_is_refused_before_anything_is_written(tmp_path):
    scores = example(2)
    store = Store.create(tmp_path / "a.zarr", **made_for(scores))
    with pytest.raises(ValueError, match=r"names holds 'p\\udce8', which is no valid Unicode"):
        store.append(replace(scores, names=["p", "p\udce8"]))
    assert (store.complete, list(store._group)) == (0, [])
    store.append(scores)


def test_only_a_store_is_replaced(tmp_path):
    scores = example()
    path = save_scores(tmp_path / "a.zarr", scores)
    with pytest.raises(FileExistsError, match=r"exists \(finished\).*resume.*overwrite=True"):
        save_scores(path, scores)
    save_scores(path, scores[:2], overwrite=True)
    assert_equal(open_scores(path), scores[:2])
    Store.create(path, **made_for(scores), overwrite=True)
    with pytest.raises(FileExistsError, match=r"unfinished, with 0 sequences"):
        save_scores(path, scores)
    precious = tmp_path / "results"
    precious.mkdir()
    (precious / "thesis.txt").write_text("all of it")
    with pytest.raises(FileExistsError, match="is no store of scores, so it is not replaced"):
        save_scores(precious, scores, overwrite=True)
    zarr.create_group(str(tmp_path / "other.zarr"))
    with pytest.raises(FileExistsError, match="is no store of scores"):
        save_scores(tmp_path / "other.zarr", scores, overwrite=True)
    with pytest.raises(ValueError, match="not of fastism"):
        open_scores(tmp_path / "other.zarr")
    (tmp_path / "empty.zarr").mkdir()
    save_scores(tmp_path / "empty.zarr", scores)


def test_a_store_that_lost_a_file_is_refused(tmp_path):
    scores = example()
    scores.differences[:] = 0  # Zarr itself reads a missing chunk as the fill value
    for lost, name in (
        ("differences/c", "differences"),
        ("regions/chrom/c", "regions/chrom"),
        ("sequences", "sequences"),
    ):
        path = save_scores(tmp_path / f"{name.replace('/', '_')}.zarr", scores)
        open_scores(path)
        shutil.rmtree(path / lost)
        with pytest.raises(ValueError, match=rf"lacks a part of {name}, as after a copy that was cut short"):
            open_scores(path)


def test_a_broken_file_is_named_with_its_store(tmp_path):
    path = save_scores(tmp_path / "a.zarr", example())
    chunk = path / "differences" / "c" / "0" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    for size in (0, len(whole) // 2):
        chunk.write_bytes(whole[:size])
        scores = open_scores(path)
        for read in (lambda s: s.differences[:], lambda s: s[0], lambda s: np.asarray(s.differences)):
            with pytest.raises(ValueError, match=r"chunk of differences of .*a\.zarr is broken, .* copy or score"):
                read(scores)
    chunk.write_bytes(whole)
    assert_equal(open_scores(path), example())
    for name in ("differences/zarr.json", "regions/chrom/zarr.json", "zarr.json"):
        file = path / name
        whole = file.read_text()
        for size in (0, len(whole) // 2):
            file.write_text(whole[:size])
            with pytest.raises(ValueError, match=rf"a\.zarr/{name} is broken, as after a copy .*; copy or score"):
                open_scores(path)
        file.write_text(whole)


def test_what_a_killed_process_leaves_beside_the_chunks_does_not_count_as_one(tmp_path):
    path = save_scores(tmp_path / "a.zarr", example())
    for name in ("differences", "regions/chrom"):
        (path / name / "c" / "0123456789abcdef.partial").write_bytes(b"half")
    assert_equal(open_scores(path), example())
    chunk = path / "reference" / "c" / "0" / "0"
    chunk.rename(chunk.with_name("0.0123456789abcdef.partial"))
    with pytest.raises(ValueError, match="lacks a part of reference"):
        open_scores(path)


def test_another_format_is_refused(tmp_path):
    path = save_scores(tmp_path / "a.zarr", example())
    group = zarr.open_group(str(path), mode="r+")
    group.attrs["fastism"] = {**group.attrs["fastism"], "format": 99}
    with pytest.raises(ValueError, match="is of format 99; this version reads 1"):
        open_scores(path)


def test_a_stretch_outside_the_sequence_is_refused(tmp_path):
    with pytest.raises(ValueError, match="5 positions from 6 on do not lie within sequences of 9"):
        Store.create(tmp_path / "a.zarr", **made_for(example(), start=6))


def test_chunks_hold_whole_sequences_until_one_is_too_large():
    assert module._chunks(np.empty((1, 1000, 4, 2), np.float32)) == (64, 1000, 4, 2)
    assert module._chunks(np.empty((1, 1000, 4, 100), np.float32)) == (2, 1000, 4, 100)
    one, positions, letters, targets = module._chunks(np.empty((1, 10000, 4, 5000), np.float32))
    assert (one, positions, letters) == (1, 10000, 4)
    assert targets * positions * letters * 4 <= 1 << 26


def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch):
    from fastism.writers import files

    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(files, "import_module", missing)
    with pytest.raises(ImportError, match=r'Store: zarr.*pip install "fastism\[genome\]"'):
        save_scores(tmp_path / "a.zarr", example())


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_process_leaves_a_store_to_resume_and_no_file_that_looks_whole(tmp_path):
    script = """
        import os, signal, sys
        sys.path[:0] = sys.argv[2:]
        from test_store import example, made_for
        from fastism.store import Store
        from fastism.writers import write_hdf5, write_npz, write_tsv

        folder, scores = sys.argv[1], example()
        store = Store.create(f"{folder}/a.zarr", **made_for(scores))
        store.append(scores[:3])
        whole = Store._columns
        def cut(self, batch):
            yield from list(whole(self, batch))[:2]
            write_tsv(f"{folder}/a.tsv", deadly(f"{folder}/a.tsv"))
        def deadly(path):
            yield {"chrom": ["chr1"] * 100000}
            os.kill(os.getpid(), signal.SIGKILL)
        Store._columns = cut
        store.append(scores[3:])
    """
    from pathlib import Path

    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(here), str(here.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "a.tsv").exists()
    assert [p.name.startswith(".part-") for p in tmp_path.iterdir() if p.name != "a.zarr"] == [True]
    store = Store.resume(tmp_path / "a.zarr", **made_for(example()))
    assert store.complete == 3
    store.append(example()[3:])
    store.finish()
    assert_equal(open_scores(store.path), example())
