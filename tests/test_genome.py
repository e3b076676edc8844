"""Reading FASTA: coordinates, strands, ends, names of chromosomes, compression, and where the index goes."""

from __future__ import annotations

import gzip
import logging
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pysam")
pytest.importorskip("dnaio")

import pysam

from fastism import genome as module
from fastism.genome import Genome, UnknownChromosome, compression, read_fasta
from fastism.regions import Region
from fastism.sequences import one_hot

DATA = Path(os.environ.get("FASTISM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CHR1 = "ACGTacgtNNRYACGTTTGA"  # 20 bp
CHR2 = "TTTTT"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """No test touches the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "fastism"


@pytest.fixture
def fasta(tmp_path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1 the first\n{CHR1[:7]}\n{CHR1[7:14]}\n{CHR1[14:]}\n>chr2\n{CHR2}\n")
    return path


@pytest.fixture
def hg38() -> Path:
    path = DATA / "hg38_1m.fa.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {DATA}")
    return path


def bgzip(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    pysam.tabix_compress(str(path), str(packed), force=True)
    return packed


def test_lengths_and_letters_across_lines(fasta):
    with Genome(fasta) as genome:
        assert dict(genome.lengths) == {"chr1": 20, "chr2": 5}
        assert genome.text(Region("chr1", 0, 20)) == CHR1
        assert genome.text(Region("chr1", 5, 16)) == CHR1[5:16]
        assert genome.text(Region("chr1", 3, 3)) == ""
        assert repr(genome).endswith("2 sequences, 25 bp")


def test_bgzip_reads_the_same(fasta):
    with Genome(fasta) as plain, Genome(bgzip(fasta)) as packed:
        assert packed.lengths == plain.lengths
        for region in (Region("chr1", 5, 16), Region("chr2", -2, 7, "-")):
            assert packed.text(region) == plain.text(region)


def test_minus_strand_is_the_reverse_complement(fasta):
    with Genome(fasta) as genome:
        assert genome.text(Region("chr1", 0, 12, "-")) == "RYNNacgtACGT"
        np.testing.assert_array_equal(genome.one_hot(Region("chr1", 16, 20, "-")), one_hot("TCAA"))
        assert genome.text(Region("chr1", 0, 4, ".")) == genome.text(Region("chr1", 0, 4, "+")) == "ACGT"


@pytest.mark.parametrize(
    ("start", "end", "over", "text"),
    [
        (-3, 4, (3, 0), "NNNACGT"),
        (17, 22, (0, 2), "TGANN"),
        (-2, 22, (2, 2), f"NN{CHR1}NN"),
        (-9, -4, (5, 0), "NNNNN"),
        (20, 24, (0, 4), "NNNN"),
        (0, 20, (0, 0), CHR1),
    ],
)
def test_beyond_the_ends_is_n_and_counted(fasta, start, end, over, text):
    with Genome(fasta) as genome:
        assert genome.overhang(Region("chr1", start, end)) == over
        assert genome.text(Region("chr1", start, end)) == text
        x = genome.one_hot(Region("chr1", start, end))
        assert np.isfinite(x).all()
        assert (x[: over[0]] == 0).all()


def test_overhang_on_the_minus_strand_counts_along_the_genome_and_turns_with_the_letters(fasta):
    with Genome(fasta) as genome:
        region = Region("chr1", -3, 4, "-")
        assert genome.overhang(region) == (3, 0)
        assert genome.text(region) == "ACGTNNN"


def test_lower_case_n_and_iupac_letters(fasta):
    with Genome(fasta) as genome:
        x = genome.one_hot(Region("chr1", 0, 12))
        np.testing.assert_array_equal(x[:4], x[4:8])
        np.testing.assert_array_equal(x[8:], np.zeros((4, 4)))
        np.testing.assert_array_equal(genome.one_hot(Region("chr1", 8, 12), unknown=0.25), np.full((4, 4), 0.25))


def test_a_letter_that_is_no_base_is_named_with_its_region(tmp_path):
    path = tmp_path / "gap.fa"
    path.write_text(">chr1\nACGTAC-TAC\n")
    with Genome(path) as genome:
        with pytest.raises(ValueError, match=r"Position 1 of chr1:5-10 \(counted from 0\) is '-'"):
            genome.one_hot([Region("chr1", 0, 5), Region("chr1", 5, 10)])
        with pytest.raises(ValueError, match=r"Position 3 of chr1:5-10\(-\) \(counted from 0\) is '-'"):
            genome.one_hot(Region("chr1", 5, 10, "-"))


def test_a_first_base_n_leaves_the_rest_of_the_window(fasta):
    with Genome(fasta) as genome:
        x = genome.one_hot(Region("chr1", 9, 14))  # NRYAC
        np.testing.assert_array_equal(x.sum(-1), [0, 0, 0, 1, 1])


def test_several_regions_are_a_batch(fasta):
    regions = [Region("chr1", 0, 5), Region("chr2", 2, 7, "-")]
    with Genome(fasta) as genome:
        x = genome.one_hot(iter(regions))
        assert x.shape == (2, 5, 4)
        for row, region in zip(x, regions, strict=True):
            np.testing.assert_array_equal(row, genome.one_hot(region))
        with pytest.raises(ValueError, match=r"chr2:0-4 has 4 positions and chr1:0-5 has 5.*fastism\.bed\.fit"):
            genome.one_hot([Region("chr1", 0, 5), Region("chr2", 0, 4)])


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (("chr1", "chrM"), ("1", "MT", "M", "chrMT", "CHR1"), ("chr1", "chrM", "chrM", "chrM", "chr1")),
        (("1", "MT"), ("chr1", "chrM", "chrMT", "mt"), ("1", "MT", "MT", "MT")),
        (("Chr1", "X"), ("chr1", "1", "chrX"), ("Chr1", "Chr1", "X")),
    ],
)
def test_names_of_chromosomes_are_matched_and_recorded(tmp_path, names, asked, found):
    path = tmp_path / "g.fa"
    path.write_text("".join(f">{name}\nACGT{'ACGT' * i}\n" for i, name in enumerate(names)))
    with Genome(path) as genome:
        assert genome.resolve(names[0]) == names[0]
        assert not genome.resolved, "the genome's own name is nothing to report"
        assert tuple(map(genome.resolve, asked)) == found
        assert dict(genome.resolved) == dict(zip(asked, found, strict=True))
        assert genome.text(Region(asked[0], 0, 2)) == "AC"


def test_a_name_that_is_matched_is_logged_once(fasta, caplog):
    with Genome(fasta) as genome, caplog.at_level(logging.INFO):
        for chrom in ("1", "2", "1", "chr1"):
            genome.length(chrom)
    assert [record.getMessage() for record in caplog.records] == ["genome.fa: chr1 is read for 1, and others alike."]


def test_an_unknown_chromosome_shows_the_names_of_both_sides(fasta):
    with Genome(fasta) as genome, pytest.raises(UnknownChromosome, match=r"'chr7' is not in genome.fa.*chr1, chr2 are"):
        genome.text(Region("chr7", 0, 5))


def test_a_name_that_could_mean_two_is_not_guessed(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(">chr1\nAC\n>CHR1\nGT\n")
    with Genome(path) as genome:
        assert genome.text(Region("CHR1", 0, 2)) == "GT"
        with pytest.raises(UnknownChromosome, match="'1' is not in g.fa, where chr1 and CHR1 could both be meant"):
            genome.resolve("1")


def test_a_region_that_ends_before_it_starts_and_a_closed_genome_are_errors(fasta):
    with Genome(fasta) as genome, pytest.raises(ValueError, match="ends before it starts"):
        genome.text(Region("chr1", 5, 4))
    with pytest.raises(ValueError, match="was closed"):
        genome.text(Region("chr1", 0, 4))
    genome.close()


def test_gzip_is_refused_with_the_word_bgzip(fasta, tmp_path, capfd):
    path = tmp_path / "plain.fa.gz"
    path.write_bytes(gzip.compress(fasta.read_bytes()))
    assert compression(path) == "gzip"
    with pytest.raises(ValueError, match=r"compressed with gzip.*gunzip -c plain.fa.gz \| bgzip >"):
        Genome(path)
    assert capfd.readouterr().err == ""


def test_a_truncated_bgzip_file_is_refused(fasta):
    packed = bgzip(fasta)
    packed.write_bytes(packed.read_bytes()[:-28])
    with pytest.raises(ValueError, match="is truncated: the block that marks the end"):
        Genome(packed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with '>'"),
        ("@read\nACGT\n+\nIIII\n", "does not begin with '>'"),
        ("chr1\t5\t10\n", "does not begin with '>'"),
        (">a\nACGT\nAC\nACGT\n", "cannot be indexed.*lines of one width"),
    ],
)
def test_what_is_no_fasta_is_refused_in_silence(tmp_path, capfd, text, message):
    path = tmp_path / "bad.fa"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.fa {message}"):
        Genome(path)
    assert capfd.readouterr().err == "", "htslib's own messages stay away"
    assert os.listdir(tmp_path) == ["bad.fa"], "nothing is left behind"


@pytest.mark.parametrize("order", ["aab", "aba", "baa", "abcda"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("length", [7, 100_000])
def test_a_chromosome_that_is_there_twice_is_named(tmp_path, capfd, order, packed, length):
    path = tmp_path / "genome.fa"
    record = "ACGTA\n" * (length // 5) + "AC\n"
    path.write_text("".join(f">{name} number {i}\n{record}" for i, name in enumerate(order)))
    if packed:
        pysam.tabix_compress(str(path), f"{path}.gz")
        path = Path(f"{path}.gz")
    for _ in range(2):
        with pytest.raises(ValueError, match="has two sequences named 'a', of which .* Rename or remove one"):
            Genome(path)
    assert capfd.readouterr().err == ""
    if not packed:  # an index that samtools made, with a warning
        pysam.faidx(str(path))
        with pytest.raises(ValueError, match="has two sequences named 'a'"):
            Genome(path)


@pytest.mark.parametrize(
    "text", [">a\nACGT\n\n>b\nAC", ">a\r\nACGT\r\nAC\r\n>b\r\nAC\r\n", ">a\n>b\nACGT\n", ">a x\nACGT\nA\n>b\nA\n\n"]
)
def test_blank_lines_and_empty_sequences_are_no_second_ones(tmp_path, text):
    path = tmp_path / "genome.fa"
    path.write_bytes(text.encode())
    with Genome(path) as genome:
        assert genome.lengths["b"]  # htslib leaves empty ones out


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.fa.*plain or bgzip"):
        Genome(tmp_path / "nowhere.fa")


def test_the_index_is_made_beside_the_file_and_used_again(fasta, cache):
    packed = bgzip(fasta)
    Genome(packed).close()
    names = {"genome.fa", "genome.fa.gz", "genome.fa.gz.fai", "genome.fa.gz.gzi"}
    assert set(os.listdir(packed.parent)) == names
    before = (packed.parent / "genome.fa.gz.fai").stat().st_mtime_ns
    Genome(packed).close()
    assert (packed.parent / "genome.fa.gz.fai").stat().st_mtime_ns == before
    assert not cache.exists()


def test_an_index_older_than_the_file_is_made_anew(fasta):
    Genome(fasta).close()
    fasta.write_text(">chr1\nAC\nGG\n>chr3\nTTT\n")
    later = time.time() + 10
    os.utime(fasta, (later, later))
    with Genome(fasta) as genome:
        assert dict(genome.lengths) == {"chr1": 4, "chr3": 3}
        assert genome.text(Region("chr1", 0, 4)) == "ACGG"


def test_a_file_that_shrank_under_its_index_is_noticed(fasta, capfd):
    Genome(fasta).close()
    fasta.write_text(">chr1 the first\nACGT\n")
    os.utime(fasta, (1, 1))
    with Genome(fasta) as genome, pytest.raises(ValueError, match="changed after the index was made, or is truncated"):
        genome.text(Region("chr1", 0, 20))
    assert capfd.readouterr().err == ""


@pytest.fixture
def locked(fasta):
    fasta.parent.chmod(0o555)
    yield fasta
    fasta.parent.chmod(0o755)


def test_an_unwritable_folder_puts_the_index_into_the_cache(fasta, cache, capfd):
    packed = bgzip(fasta)
    packed.parent.chmod(0o555)
    try:
        for _ in range(2):
            with Genome(packed) as genome:
                assert genome.text(Region("chr1", 0, 4)) == "ACGT"
        assert set(os.listdir(packed.parent)) == {"genome.fa", "genome.fa.gz"}
        assert [name.partition("-")[2] for name in sorted(os.listdir(cache), key=lambda n: n[::-1])] == [
            "genome.fa.gz.fai",
            "genome.fa.gz.gzi",
        ]
        assert capfd.readouterr() == ("", "")
    finally:
        packed.parent.chmod(0o755)


def test_without_a_cache_a_temporary_index_is_removed_again(locked, cache, monkeypatch, tmp_path_factory):
    cache.write_text("a file where the folder should be")
    room = tmp_path_factory.mktemp("room")
    monkeypatch.setattr("tempfile.tempdir", str(room))
    with Genome(locked) as genome:
        assert genome.text(Region("chr2", 0, 3)) == "TTT"
        assert len(os.listdir(room)) == 1
    assert os.listdir(room) == []


def test_a_missing_pysam_names_the_extra(fasta, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysam", None)
    monkeypatch.setitem(sys.modules, "dnaio", None)
    with pytest.raises(ImportError, match=r'pip install "fastism\[genome\]"'):
        Genome(fasta)
    with pytest.raises(ImportError, match=r'dnaio cannot be imported.*pip install "fastism\[genome\]"'):
        read_fasta(fasta)


def test_the_first_million_bases_of_hg38(hg38, capfd):
    before = os.listdir(hg38.parent)
    with Genome(hg38) as genome:
        assert dict(genome.lengths) == {"chr1": 1_000_000}
        assert genome.text(Region("1", 10_000, 10_012)) == "TAACCCTAACCC"
        assert genome.overhang(Region("chr1", 999_990, 1_000_010)) == (0, 10)
        x = genome.one_hot([Region("chr1", 9_990, 10_010), Region("chr1", 10_000, 10_020, "-")])
        np.testing.assert_array_equal(x.sum(-1), [[0] * 10 + [1] * 10, [1] * 20])
        counts = sum(genome.one_hot(Region("chr1", i, i + 100_000)).sum() for i in range(0, 1_000_000, 100_000))
        assert counts == 840_000, "160,000 of them are N"
    assert os.listdir(hg38.parent) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pack", [lambda p: p, bgzip])
def test_read_fasta_gives_names_and_texts_in_order(fasta, pack):
    assert list(read_fasta(pack(fasta))) == [("chr1", CHR1), ("chr2", CHR2)]


def test_read_fasta_takes_gzip_and_an_empty_sequence(tmp_path):
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gzip.compress(b">a\r\nAC\r\n\r\ngt\r\n>b\n>c two words\nN\n"))
    assert list(read_fasta(path)) == [("a", "ACgt"), ("b", ""), ("c", "N")]


def test_read_fasta_streams(tmp_path):
    path = tmp_path / "x.fa"
    path.write_text("".join(f">{i}\nACGT\n" for i in range(100_000)) + "this is no sequence >")
    rows = read_fasta(path)
    assert [next(rows) for _ in range(2)] == [("0", "ACGT"), ("1", "ACGT")]
    rows.close()


def test_read_fasta_refuses_other_files(tmp_path):
    path = tmp_path / "x.fa"
    path.write_text("chr1\t5\t10\n")
    with pytest.raises(ValueError, match=r"line 1.*'>name' before each sequence"):
        list(read_fasta(path))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_fasta(tmp_path / "nowhere")


def test_read_fasta_notices_a_truncated_file(tmp_path):
    path = tmp_path / "x.fa.gz"
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 50_000))
    packed = gzip.compress(f">a\n{letters}\n>b\n{letters}\n".encode())
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="is truncated or damaged"):
        list(read_fasta(path))


def test_read_fasta_reads_the_standard_input(fasta, monkeypatch):
    with fasta.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert [name for name, _ in read_fasta("-")] == ["chr1", "chr2"]


def test_nothing_optional_is_imported_with_the_module():
    assert not {"pysam", "dnaio"} & set(vars(module))
