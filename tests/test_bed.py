"""Regions from files: columns, centres, malformed rows, ends of chromosomes, and an account of every row."""

from __future__ import annotations

import gzip
import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pysam")

import pysam
from hypothesis import given
from hypothesis import strategies as st

from fastism.bed import fit, read_regions, select
from fastism.genome import Genome, UnknownChromosome
from fastism.regions import Region, Report
from fastism.writers import write_regions_bed

PEAK = "chr1\t100\t200\tpeak\t5\t.\t1.5\t-1\t3\t20"  # summit at 120


@pytest.fixture
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{'ACGT' * 250}\n>chr2\n{'A' * 50}\n")  # 1000 and 50 bp
    with Genome(path) as opened:
        yield opened


@pytest.fixture
def bed(tmp_path):
    def write(text: str, name: str = "x.bed") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("row", "strand", "name"),
    [
        ("chr1\t5\t10", ".", ""),
        ("chr1\t5\t10\tpeak", ".", "peak"),
        ("chr1\t5\t10\t.\t0\t-", "-", ""),
        ("chr1\t5\t10\tone two\t0\t+\t5\t10\t0\t1\t5\t0", "+", "one two"),
        ("chr1 5   10 peak 0 -", "-", "peak"),
    ],
)
def test_columns_of_bed(bed, row, strand, name):
    (region,) = read_regions(bed(row + "\n"))
    columns = tuple(row.split("\t") if "\t" in row else row.split())
    assert region == Region("chr1", 5, 10, strand, name, 0, columns)


def test_what_is_no_row_is_passed_over_and_rows_are_counted_without_it(bed):
    text = "\ufeff#comment\nbrowser position chr1\ntrack name=x\tmore\n\nchr1\t1\t2\r\n  \n# more\nchr1\t3\t4"
    path = bed("")
    path.write_text(text, encoding="utf-8")
    assert [(r.start, r.end, r.row) for r in read_regions(path)] == [(1, 2, 0), (3, 4, 1)]
    assert [r.start for r in read_regions(bed("chrom\tstart\tend\nchr1\t1\t2\n"))] == [1]
    assert list(read_regions(bed(""))) == []


@pytest.mark.parametrize("pack", ["gzip", "bgzip"])
def test_compressed_files_whatever_their_name(bed, tmp_path, pack):
    path, packed = bed("chr1\t1\t2\nchr1\t3\t4\n"), tmp_path / "packed"
    if pack == "gzip":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    else:
        pysam.tabix_compress(str(path), str(packed))
    assert [r.start for r in read_regions(packed)] == [1, 3]


def test_truncated_files_are_errors(bed, tmp_path):
    packed = gzip.compress("".join(f"chr1\t{i * 7919 % 99991}\t99999\n" for i in range(20_000)).encode())
    path = tmp_path / "x.bed.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"x\.bed\.gz is truncated or damaged"):
        list(read_regions(path))
    other = tmp_path / "y.bed.gz"
    pysam.tabix_compress(str(bed("chr1\t1\t2\n")), str(other))
    other.write_bytes(other.read_bytes()[:-28])
    with pytest.raises(ValueError, match=r"y\.bed\.gz is truncated"):
        read_regions(other)


def test_the_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("chr1\t1\t2\n"))
    assert [r.start for r in read_regions("-")] == [1]


def test_the_standard_input_in_bytes_stays_open(monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"chr1\t1\t2\tp\xe8\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    assert [r.name for r in read_regions("-")] == ["p\ufffd"]
    assert not stdin.buffer.closed


def test_a_name_that_is_no_utf_8_can_be_stored_and_written(bed, tmp_path):
    pytest.importorskip("zarr")
    from fastism.result import ISMScores
    from fastism.store import open_scores, save_scores

    path = bed("")
    path.write_bytes("chr1\t0\t4\tpè\n".encode("latin-1"))
    (region,) = read_regions(path)
    assert (region.name, region.fields[3]) == ("p\ufffd", "p\ufffd")
    x = np.eye(4, dtype=np.int8)[None]
    scores = ISMScores(x, np.zeros((1, 4, 4, 1)), np.zeros((1, 1)), regions=[region], names=[region.name])
    stored = open_scores(save_scores(tmp_path / "a.zarr", scores))
    assert stored.regions is not None
    assert (stored.regions[0], stored.names[0]) == (region, "p\ufffd")
    write_regions_bed(tmp_path / "kept.bed", stored.regions)
    assert (tmp_path / "kept.bed").read_text(encoding="utf-8") == "chr1\t0\t4\tp\ufffd\n"


def test_a_huge_file_is_read_as_far_as_is_asked(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    import threading

    pipe, written = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def endless() -> None:
        try:
            with pipe.open("w") as file:
                for i in itertools.count():
                    file.write(f"chr1\t{i}\t{i + 10}\n")
                    written.append(i)
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=endless)
    writer.start()
    regions = read_regions(pipe, 4)
    assert [r.start for r in itertools.islice(regions, 3)] == [3, 4, 5]
    regions.close()  # type: ignore[attr-defined]
    writer.join(10)
    assert not writer.is_alive(), "the file is closed with the generator"
    assert len(written) < 100_000


def test_every_step_pulls_one_row_at_a_time(genome):
    pulled = []

    def endless():
        for i in itertools.count():
            pulled.append(i)
            yield Region("chr1", i, i + 10)

    assert [r.start for r in itertools.islice(select(endless(), genome), 3)] == [0, 1, 2]
    assert pulled == [0, 1, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("chr1\t5", r"x\.bed, line 2: received 2 columns, 'chr1 5'; a BED row of at least chromosome, start and end"),
        ("chr1\tfive\t10", r"line 2: received \['chr1', 'five', '10'\].*whole numbers"),
        ("chr1\t1e3\t2000", r"line 2: received \['chr1', '1e3', '2000'\].*whole numbers"),
        ("chr1\t1_0\t20", r"line 2: .*whole numbers"),
        ("\t5\t10", r"line 2: received \['', '5', '10'\]"),
        ("chr1\t10\t5", r"line 2: received start 10 and end 5; start < end is accepted, 0-based and half-open"),
        ("chr1\t10\t10", r"line 2: received start 10 and end 10; .* or a length for the window"),
        ("chr1\t5\t10\ta\t0\tx", r"line 2: received the strand 'x' in column 6; '\+', '-' or '\.' is accepted"),
    ],
)
def test_a_malformed_row_is_an_error_or_counted(bed, row, message):
    path = bed(f"chr1\t1\t2\n{row}\nchr1\t3\t4\n")
    with pytest.raises(ValueError, match=message):
        list(read_regions(path))
    report = Report("regions")
    with pytest.raises(ValueError, match=message):
        list(read_regions(path, report=report, strict=True))
    report = Report("regions")
    assert [(r.start, r.row) for r in read_regions(path, report=report)] == [(1, 0), (3, 2)]
    assert (report.rows, report.kept, report.skipped) == (3, 2, {"malformed row": 1})
    assert report.examples["malformed row"] == [f"line 2: {row}"]


def test_errors_of_arguments_come_before_the_first_row(bed, tmp_path, genome):
    path = bed(PEAK)
    with pytest.raises(ValueError, match="length is 0; a number of bp of at least 1"):
        read_regions(path, 0)
    with pytest.raises(ValueError, match="centre is 'left'; 'auto', 'middle' or 'summit'"):
        read_regions(path, 10, centre="left")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"nowhere.bed"):
        read_regions(tmp_path / "nowhere.bed")
    with pytest.raises(ValueError, match="edge is 'cut'; 'pad'"):
        select([], genome, edge="cut")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "end", "length", "window"),
    [
        (100, 200, 10, (145, 155)),  # the middle, 150, is the sixth of ten
        (100, 201, 10, (145, 155)),  # (100 + 201) // 2 = 150
        (100, 200, 11, (145, 156)),  # the sixth of eleven: the middle one
        (100, 200, 1, (150, 151)),
        (100, 101, 1, (100, 101)),
        (0, 10, 20, (-5, 15)),
        (7, 7, 4, (5, 9)),
    ],
)
def test_windows_around_the_middle(start, end, length, window):
    fitted = fit(Region("chr1", start, end, "-", "a", 3, ("x",)), length)
    assert fitted == Region("chr1", *window, "-", "a", 3, ("x",))
    assert fit(fitted, length) == fitted


def test_windows_around_the_summit(bed):
    path = bed(PEAK + "\n")
    assert [(r.start, r.end) for r in read_regions(path)] == [(100, 200)]
    for centre, middle in (("auto", 120), ("summit", 120), ("middle", 150)):
        (region,) = read_regions(path, 2114, centre=centre)
        assert (region.start, region.end) == (middle - 1057, middle + 1057)
        assert region.fields == tuple(PEAK.split("\t"))
        assert fit(region, 10, centre).start == middle - 5, "the summit belongs to the row, not to the window"


@pytest.mark.parametrize("summit", ["-1", "100", "x"])
def test_a_row_without_a_summit(bed, summit):
    path = bed(PEAK.rpartition("\t")[0] + f"\t{summit}\n")
    (region,) = read_regions(path, 10)
    assert region.start == 145, "auto falls back to the middle"
    with pytest.raises(ValueError, match=rf"line 1: The region chr1:100-200 has no summit \('{summit}'\).*'middle'"):
        list(read_regions(path, 10, centre="summit"))
    with pytest.raises(ValueError, match=r"has no summit \(0 columns\)"):
        fit(Region("chr1", 1, 2), 10, "summit")


def test_ten_is_the_number_of_columns_of_a_narrowpeak_row(bed):
    (region,) = read_regions(bed("chr1\t100\t200\ta\t0\t+\t100\t200\t0\t1\t100\t0\n"), 10)
    assert region.start == 145, "the tenth column of BED12 counts blocks"


def regions() -> list[Region]:
    return [
        Region("chr1", 0, 20, name="whole"),
        Region("chr1", -5, 15, name="left"),
        Region("chr1", 990, 1010, "-", name="right"),
        Region("chr1", 1000, 1020, name="outside"),
        Region("chr9", 0, 20, name="unknown"),
        Region("1", 10, 30, name="renamed"),
        Region("chr2", -10, 60, name="both"),
    ]


@pytest.mark.parametrize(("edge", "kept"), [("pad", "whole left right renamed both"), ("drop", "whole renamed")])
def test_select_accounts_for_every_region(genome, edge, kept):
    report = Report("regions")
    assert [r.name for r in select(regions(), genome, edge=edge, report=report)] == kept.split()
    assert (report.rows, report.kept) == (7, len(kept.split()))
    over = {"over the chromosome's end": 3} if edge == "drop" else {}
    assert report.skipped == {"outside the chromosome": 1, "unknown chromosome": 1, **over}
    assert report.flagged == ({} if over else {"padded with N over the chromosome's end": 3})
    assert report.examples["unknown chromosome"] == ["chr9:0-20"]
    assert dict(genome.resolved) == {"1": "chr1"}


def test_select_stops_where_nobody_counts_or_strict_says_so(genome):
    for extra in ({}, {"report": Report(), "strict": True}):
        with pytest.raises(UnknownChromosome, match="'chr9'"):
            list(select(regions()[4:], genome, **extra))
        with pytest.raises(ValueError, match="chr1:1000-1020 lies outside its chromosome, which has 1000 positions"):
            list(select(regions()[3:], genome, **extra))


def test_one_report_for_reader_and_select(bed, genome):
    text = "chr1\t0\t20\nchr1\tx\t20\nchr7\t0\t20\n" + "chr1\t0\t2\n" * 4 + "chr2\t900\t901\nchr1\t9\t8\n"
    for hold in (iter, list):  # whether rows come one by one or were read before
        report = Report("regions")
        rows = hold(read_regions(bed(text), 10, report=report))
        kept = list(select(rows, genome, report=report, edge="drop"))
        assert len(kept) == 1
        assert report.rows == 9
        assert report.kept == 1
        assert str(report).splitlines()[0] == "9 regions: 1 kept, 8 skipped"
        assert set(report.skipped.items()) == {
            ("malformed row", 2),
            ("unknown chromosome", 1),
            ("over the chromosome's end", 4),
            ("outside the chromosome", 1),
        }
        shown = "chr1 0 2, chr1 0 2, chr1 0 2, ..."
        assert f"  skipped, over the chromosome's end: 4 ({shown})" in str(report).splitlines()


def test_rows_are_written_as_they_were_read(bed, tmp_path, genome):
    text = f"{PEAK}\nchr9\t1\t2\ta\t0\t.\t0\t0\t0\t0\n{PEAK.replace('peak', 'ä')}\n"
    path = bed("")
    path.write_bytes(text.encode("utf-8"))
    kept = select(read_regions(path, 64), genome, report=Report())
    out = tmp_path / "kept.narrowPeak"
    assert write_regions_bed(out, kept) == out
    assert out.read_bytes().splitlines() == [path.read_bytes().splitlines()[i] for i in (0, 2)]
    assert sorted(os.listdir(tmp_path)) == ["kept.narrowPeak", "x.bed"]


def test_writing_compresses_by_name_and_leaves_nothing_half_done(tmp_path):
    path = tmp_path / "x.bed.gz"
    write_regions_bed(path, [Region("chr1", 1, 2)])
    assert gzip.decompress(path.read_bytes()) == b"chr1\t1\t2\t.\t0\t.\n"

    def failing():
        yield Region("chr1", 5, 6)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_regions_bed(path, failing())
    assert [r.start for r in read_regions(path)] == [1], "the file that was there is whole"
    assert os.listdir(tmp_path) == ["x.bed.gz"]


@given(st.integers(0, 10**6), st.integers(1, 5000), st.integers(1, 3000))
def test_a_window_has_its_length_and_the_middle_at_half_of_it(start, width, length):
    region = fit(Region("chr1", start, start + width), length)
    assert len(region) == length
    assert region.start + length // 2 == (start + start + width) // 2
