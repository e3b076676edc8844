"""bigWig: every base's value from the definition, base by base, whatever the strand, the overlap and the order."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pybigtools = pytest.importorskip("pybigtools")

from fastism.regions import Region  # noqa: E402
from fastism.result import ISMScores  # noqa: E402
from fastism.writers import bigwig, read_chrom_sizes, write_bigwig  # noqa: E402

SIZES = {"chr10": 300, "chr2": 200, "chr1": 120, "chrEmpty": 10}


def scored(regions: list[Region], *, length: int = 7, start: int = 1, positions: int = 5, seed: int = 0) -> ISMScores:
    generator = np.random.default_rng(seed)
    n = len(regions)
    sequences = np.eye(4, dtype=np.int8)[generator.integers(0, 4, (n, length))]
    sequences[generator.random((n, length)) < 0.1] = 0
    differences = (
        generator.normal(size=(n, positions, 4, 2)) * (sequences[:, start : start + positions] == 0)[..., None]
    )
    return ISMScores(sequences, differences, np.zeros((n, 2)), start, ("first", "second"), regions)


def values(path, chrom: str) -> np.ndarray:
    return np.asarray(pybigtools.open(str(path)).values(chrom, fillna=None))


def by_hand(scores: ISMScores, chrom: str, overlap: str, target: int = 0, divide: int = 4) -> np.ndarray:
    """Candidates of every base of a chromosome, and the rule's choice."""
    found = np.full(SIZES[chrom], np.nan)
    for base in range(SIZES[chrom]):
        candidates = []
        for row, region in enumerate(scores.regions or []):
            within = region.end - 1 - base if region.strand == "-" else base - region.start
            mutated = within - scores.start
            if region.chrom != chrom or not 0 <= mutated < scores.positions or not scores.sequences[row, within].any():
                continue
            value = -scores.differences[row, mutated, :, target].sum() / divide
            away = abs(base + 0.5 - (region.start + region.end) / 2)
            candidates.append((value, away, region.start, row))
        if candidates:
            nearest = min(candidates, key=lambda c: c[1:])[0]
            found[base] = {
                "centre": nearest,
                "mean": np.mean([c[0] for c in candidates]),
                "max": max(candidates, key=lambda c: abs(c[0]))[0],
                "first": min(candidates, key=lambda c: c[3])[0],
            }[overlap]
    return found


def test_one_value_a_base_on_both_strands_by_hand(tmp_path):
    """ACG on 10-13, and on 20-23 of the minus strand: its first base, A, is the genome's last."""
    sequences = np.eye(4)[[[0, 1, 2], [0, 1, 2]]]
    differences = np.zeros((2, 3, 4, 1))
    differences[:, 0, 1:, 0] = -4.0  # sum -12: 3 by mean4, 4 by mean3
    differences[:, 1, 0, 0] = 2.0  # -0.5
    regions = [Region("chr1", 10, 13, "+"), Region("chr1", 20, 23, "-")]
    scores = ISMScores(sequences, differences, np.zeros((2, 1)), regions=regions)
    found = values(write_bigwig(tmp_path / "a.bw", scores, {"chr1": 30}), "chr1")
    np.testing.assert_array_equal(found[10:13], [3, -0.5, 0])
    np.testing.assert_array_equal(found[20:23], [0, -0.5, 3])
    assert np.isnan(np.delete(found, [10, 11, 12, 20, 21, 22])).all()
    found = values(write_bigwig(tmp_path / "b.bigWig", scores, {"chr1": 30}, rule="mean3"), "chr1")
    np.testing.assert_allclose(found[10:13], [4, -2 / 3, 0])


@pytest.mark.parametrize("overlap", ["centre", "mean", "max", "first"])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_overlapping_regions_in_any_order_on_any_strand(tmp_path, overlap, start):
    generator = np.random.default_rng(start)
    regions = [
        Region(["chr1", "chr2", "chr10"][i % 3], int(at), int(at) + 7, "+-."[i % 2])
        for i, at in enumerate(generator.integers(-5, 60, 45))
    ]
    scores = scored(regions, start=start, seed=start)
    path = write_bigwig(tmp_path / "a.bw", scores, SIZES, target="second", overlap=overlap)
    for chrom in ("chr1", "chr2", "chr10"):
        wanted = by_hand(scores, chrom, overlap, target=1)
        found = values(path, chrom)
        assert np.isfinite(wanted).sum() > 20
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_region_whose_centre_is_nearer_gives_the_value(tmp_path):
    regions = [Region("chr1", 14, 21), Region("chr1", 10, 17, "-")]
    scores = scored(regions, start=0, positions=7)
    scores.sequences[:] = np.eye(4)[0]
    scores.differences[:] = np.array([-4.0, -8.0])[:, None, None, None]
    scores.differences[:, :, 0] = 0
    found = values(write_bigwig(tmp_path / "a.bw", scores, SIZES), "chr1")
    # centres at 17.5 and 13.5: base 14 and the middle one, 15, belong to the left region, base 16 to the right one
    np.testing.assert_array_equal(found[10:21], [6] * 6 + [3] * 5)
    np.testing.assert_array_equal(
        values(write_bigwig(tmp_path / "b.bw", scores, SIZES, overlap="center"), "chr1")[10:21], [6] * 6 + [3] * 5
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_regions_as_near_the_leftmost_gives_the_value(tmp_path, order):
    """Base 112 is as far from 110.5 as from 114.5; of the region on the minus strand, less is mutated to the left."""
    regions = [[Region("chr1", 100, 121, "-"), Region("chr1", 104, 125, "+")][i] for i in order]
    scores = scored(regions, length=21, start=0, positions=15)
    scores.sequences[:], scores.differences[:, :, 0] = np.eye(4, dtype=np.int8)[0], 0
    path = write_bigwig(tmp_path / "a.bw", scores, {"chr1": 200})
    want = -scores.differences[order.index(0), 121 - 1 - 112, :, 0].sum() / 4
    assert values(path, "chr1")[112] == pytest.approx(want, rel=1e-6)


def test_overlap_can_be_refused(tmp_path):
    scores = scored([Region("chr1", 10, 17), Region("chr1", 14, 21)], start=0, positions=7)
    scores.sequences[:] = np.eye(4)[0]
    with pytest.raises(ValueError, match=r"Regions overlap at chr1:14-15, which overlap='error' refuses"):
        write_bigwig(tmp_path / "a.bw", scores, SIZES, overlap="error")
    write_bigwig(tmp_path / "b.bw", scores[:1], SIZES, overlap="error")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bw", "b.bw.json"]


def test_positions_off_the_chromosome_have_no_value(tmp_path):
    scores = scored([Region("chr1", -3, 4), Region("chr1", 116, 123, "-"), Region("chr2", 500, 507)])
    scores.sequences[:] = np.eye(4)[1]
    path = write_bigwig(tmp_path / "a.bw", scores, SIZES)
    assert list(np.flatnonzero(np.isfinite(values(path, "chr1")))) == [0, 1, 2, 117, 118, 119]
    assert "chr2" not in pybigtools.open(str(path)).chroms()


def test_positions_without_a_letter_or_a_number_have_no_value(tmp_path):
    scores = scored([Region("chr1", 10, 17)])
    scores.sequences[:] = np.eye(4)[1]
    scores.sequences[0, 3] = 0
    scores.differences[0, 0, 2, 0] = np.nan
    found = values(write_bigwig(tmp_path / "a.bw", scores, SIZES), "chr1")
    assert list(np.flatnonzero(np.isfinite(found))) == [12, 14, 15]


def test_many_regions_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bigwig, "BLOCK", 4)
    monkeypatch.setattr(bigwig, "BLOCKS", 2)
    order = np.random.default_rng(5).permutation(30)
    scores = scored([Region("chr10", 9 * int(i), 9 * int(i) + 7, "+-"[int(i) % 2]) for i in order])
    found = values(write_bigwig(tmp_path / "a.bw", scores, SIZES), "chr10")
    np.testing.assert_allclose(found, by_hand(scores, "chr10", "first"), atol=1e-6)


def test_what_was_done_stands_beside(tmp_path):
    path = write_bigwig(tmp_path / "a.bw", scored([Region("chr1", 10, 17)]), SIZES, rule="mean3", target=1)
    about = json.loads((tmp_path / "a.bw.json").read_text())
    assert (about["rule"], about["overlap"], about["target"]) == ("mean3", "centre", "second")
    assert path.name == "a.bw"


def test_sizes_come_from_a_file(tmp_path):
    index = tmp_path / "genome.fa.fai"
    index.write_text("chr1\t120\t6\t60\t61\n\nchr2\t200\t130\t60\t61\n")
    assert read_chrom_sizes(index) == {"chr1": 120, "chr2": 200}
    write_bigwig(tmp_path / "a.bw", scored([Region("chr2", 10, 17)]), index)
    assert pybigtools.open(str(tmp_path / "a.bw")).chroms()["chr2"] == 200
    index.write_text("chr1 120\nchr2 many\n")
    with pytest.raises(ValueError, match=r"line 2: 'chr2 many'; a chromosome and its length"):
        read_chrom_sizes(index)


def test_what_cannot_be_written_is_refused(tmp_path):
    scores = scored([Region("chr1", 10, 17)])
    with pytest.raises(ValueError, match=r"overlap is 'sum'; 'centre', 'mean', 'max', 'first', 'error' are accepted"):
        write_bigwig(tmp_path / "a.bw", scores, SIZES, overlap="sum")
    with pytest.raises(ValueError, match=r"no length for chr1; it has 1, 2, \.\.\..*'chr1' is not '1'"):
        write_bigwig(tmp_path / "a.bw", scores, {"1": 120, "2": 200})
    with pytest.raises(ValueError, match="no regions, which a bigWig needs"):
        write_bigwig(tmp_path / "a.bw", replace(scores, regions=None), SIZES)
    with pytest.raises(ValueError, match="region chr1:10-18 has 8 positions and its sequence 7"):
        write_bigwig(tmp_path / "a.bw", replace(scores, regions=[Region("chr1", 10, 18)]), SIZES)
    for nothing in (scores[:0], scored([Region("chr1", 119, 126)])):
        with pytest.raises(ValueError, match="no value to write, and a bigWig cannot be empty"):
            write_bigwig(tmp_path / "a.bw", nothing, SIZES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [1, 30])
def test_an_error_while_writing_is_not_swallowed(tmp_path, monkeypatch, rows):
    """pybigtools prints what its iterator raises and returns as if the file were whole."""
    monkeypatch.setattr(bigwig, "BLOCK", 1)
    scores = scored([Region("chr1", i, i + 7) for i in range(rows)])

    class Failing:
        shape = scores.differences.shape

        def __getitem__(self, rows_):
            if rows_.start >= rows - 1:
                raise KeyboardInterrupt
            return scores.differences[rows_]

    with pytest.raises(KeyboardInterrupt):
        write_bigwig(tmp_path / "a.bw", replace(scores, differences=Failing()), SIZES)
    assert not list(tmp_path.iterdir())


def test_a_failure_of_the_library_is_not_swallowed(tmp_path, monkeypatch):
    scores = scored([Region("chr1", 10, 17)])
    monkeypatch.setattr(bigwig._Window, "flush", lambda self, end: iter([("chr1", 10, 12, 1.0), ("chr1", 11, 13, 2.0)]))
    with pytest.raises(OSError, match="wrote no readable bigWig"):
        write_bigwig(tmp_path / "a.bw", scores, SIZES)
    assert not list(tmp_path.iterdir())
