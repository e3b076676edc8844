"""Variants: files, alternatives, references that differ, windows, and the two sequences by hand."""

from __future__ import annotations

import gzip
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pysam")

import pysam
from hypothesis import given
from hypothesis import strategies as st

from fastism.genome import Genome, UnknownChromosome
from fastism.regions import Region, Report
from fastism.sequences import reverse_complement
from fastism.vcf import Variant, alleles, check_reference, is_vcf, place, read_variants, select_variants

#            0123456789012345678901234567890123456789
CHR1 = "ACGTACGTTTGGCCAAtgcatgcaACGGTTNNRACGTCCA"
HEAD = "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
DATA = Path(os.environ.get("FASTISM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{CHR1}\n")
    with Genome(path) as opened:
        yield opened


@pytest.fixture
def vcf(tmp_path):
    def write(*rows: str, name: str = "x.vcf", head: str = HEAD) -> Path:
        path = tmp_path / name
        path.write_text(head + "".join("\t".join((*row.split(), *".\t.\t.".split())) + "\n" for row in rows))
        return path

    return write


def shown(variants) -> list[str]:
    return [str(variant) for variant in variants]


def test_rows_of_vcf(vcf):
    rows = list(read_variants(vcf("chr1 5 rs1 A g", "chr1 9 . TT T")))
    assert rows == [Variant("chr1", 4, "A", "G", "rs1", 0), Variant("chr1", 8, "TT", "T", "", 1)]
    assert list(read_variants(vcf())) == []


@pytest.mark.parametrize("kind", ["plain", "bgzip", "bcf"])
def test_vcf_and_bcf_read_alike_and_in_silence(vcf, tmp_path, kind, capfd):
    path = vcf("chr1 5 rs1 A G,T", "chr1 9 . TT T")
    packed = tmp_path / "packed"
    if kind == "plain":
        packed = path
    elif kind == "bgzip":
        pysam.tabix_compress(str(path), str(packed))
    else:
        with pysam.VariantFile(str(path)) as file, pysam.VariantFile(str(packed), "wb", header=file.header) as out:
            for row in file:
                out.write(row)
    capfd.readouterr()
    assert shown(read_variants(packed)) == ["chr1:5:A>G", "chr1:5:A>T", "chr1:9:TT>T"]
    assert capfd.readouterr() == ("", "")


def test_a_header_that_does_not_name_the_chromosome_is_no_matter(vcf, capfd):
    head = HEAD.replace("##contig=<ID=chr1>\n", "")
    assert shown(read_variants(vcf("chr7 5 . A G", head=head))) == ["chr7:5:A>G"]
    assert capfd.readouterr().err == ""
    before = pysam.set_verbosity(3)
    assert before == 3, "the user's own setting is back"


def test_a_site_of_several_alternatives_gives_one_variant_for_each(vcf):
    found = list(read_variants(vcf("chr1 5 a A C,G,AT", "chr1 6 b C T")))
    assert [(str(v), v.id, v.row, v.allele) for v in found] == [
        ("chr1:5:A>C", "a", 0, 0),
        ("chr1:5:A>G", "a", 0, 1),
        ("chr1:5:A>AT", "a", 0, 2),
        ("chr1:6:C>T", "b", 1, 0),
    ]


def test_alleles_without_letters_are_skipped_with_their_reason(vcf):
    report = Report("variants")
    rows = [
        "chr1 5 . A <DEL>,C",
        "chr1 6 . C *,G",
        "chr1 7 . G G]chr2:19],T",
        "chr1 8 . T .",
        "chr1 9 . T <NON_REF>",
        "chr1 9 . T t",
        "chr1 9 . T .A",
        "chr1 9 . T A/C",
    ]
    found = list(read_variants(vcf(*rows), report=report))
    assert [(str(v), v.row, v.allele) for v in found] == [
        ("chr1:5:A>C", 0, 1),
        ("chr1:6:C>G", 1, 1),
        ("chr1:7:G>T", 2, 1),
    ]
    assert report.skipped == {
        "symbolic allele": 2,
        "spanning deletion (*)": 1,
        "breakend": 2,
        "no alternative allele": 1,
        "alternative that is the reference": 1,
        "allele that is no sequence": 1,
    }
    assert (report.rows, report.kept) == (11, 3)
    assert report.examples["symbolic allele"] == ["chr1:5:A><DEL>", "chr1:9:T><NON_REF>"]


def test_iupac_letters_and_empty_alleles(vcf):
    rows = list(read_variants(vcf("chr1 5 . r Y", "chr1 6 . - AC", "chr1 7 . G -")))
    assert [(v.ref, v.alt) for v in rows] == [("R", "Y"), ("", "AC"), ("G", "")]
    assert shown(rows) == ["chr1:5:R>Y", "chr1:6:->AC", "chr1:7:G>-"]


@pytest.mark.parametrize("head", ["", "chr\tpos\tallele1\tallele2\tvariant_id\n", "#chrom\tpos\tref\talt\tid\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_tables(tmp_path, head, packed):
    path = tmp_path / "x.tsv"
    text = (head + "chr1\t5\ta\tG\trs1\n\nchr1\t6\tC\t-\nchr1\t7\t-\tT,A\t.\textra\n").encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    found = list(read_variants(path))
    assert found == [
        Variant("chr1", 4, "A", "G", "rs1", 0),
        Variant("chr1", 5, "C", "", "", 1),
        Variant("chr1", 6, "", "T", "", 2),
        Variant("chr1", 6, "", "A", "", 2, 1),
    ]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv.gz", "x.vcf", "x.vcf.gz"])
def test_the_contents_say_what_a_file_is(tmp_path, name):
    pack = gzip.compress if name.endswith(".gz") else bytes
    path = tmp_path / name
    path.write_bytes(pack(b"chr1\t5\tA\tG\trs1\n"))
    assert not is_vcf(path)
    assert list(read_variants(path)) == [Variant("chr1", 4, "A", "G", "rs1", 0)]
    path.write_bytes(pack(HEAD.encode()))
    assert is_vcf(path)


def test_bcf_is_told_by_its_contents_and_pipes_are_not_read(vcf, tmp_path):
    file = pysam.VariantFile(str(vcf("chr1 5 rs1 A g")))
    with file, pysam.VariantFile(str(tmp_path / "x.tsv"), "wb", header=file.header) as out:
        for record in file:
            out.write(record)
    assert is_vcf(tmp_path / "x.tsv")
    assert not is_vcf("-")
    assert not is_vcf(tmp_path / "none")


@pytest.mark.parametrize("row", ["chr1\t5\tA", "chr1\tfive\tA\tC", "chr1\t-5\tA\tC", "chr1\t5\trs1\tA\tC"])
def test_a_malformed_row_of_a_table_is_an_error_or_counted(tmp_path, row):
    path = tmp_path / "x.tsv"
    path.write_text(f"chr1\t5\tA\tG\n{row}\nchr1\t6\tC\tT\n")
    for extra in ({}, {"report": Report(), "strict": True}):
        with pytest.raises(ValueError, match=r"x\.tsv, line 2: received \['chr1', .*a VCF file, or columns chromosome"):
            list(read_variants(path, **extra))
    report = Report("variants")
    assert [(str(v), v.row) for v in read_variants(path, report=report)] == [("chr1:5:A>G", 0), ("chr1:6:C>T", 2)]
    assert (report.rows, report.kept, report.skipped) == (3, 2, {"malformed row": 1})


def test_a_malformed_row_of_vcf_is_an_error_that_says_where(vcf, capfd):
    variants = read_variants(vcf("chr1 5 . A G", "chr1 x . A G", "chr1 7 . A G"))
    assert str(next(variants)) == "chr1:5:A>G"
    with pytest.raises(ValueError, match=r"x\.vcf: the row behind chr1:5 cannot be read .*CHROM POS ID REF ALT"):
        next(variants)
    assert capfd.readouterr().err == ""


def test_files_of_other_kinds_and_damaged_ones_are_refused(vcf, tmp_path, capfd):
    packed = tmp_path / "x.vcf.gz"
    packed.write_bytes(gzip.compress(vcf("chr1 5 . A G").read_bytes()))
    with pytest.raises(ValueError, match=r"compressed with gzip.*gunzip -c x.vcf.gz \| bgzip"):
        read_variants(packed)
    pysam.tabix_compress(str(vcf("chr1 5 . A G")), str(packed), force=True)
    packed.write_bytes(packed.read_bytes()[:-28])
    with pytest.raises(ValueError, match="truncated"):
        read_variants(packed)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_variants(tmp_path / "nowhere")
    (tmp_path / "y.vcf").write_text("##fileformat=VCFv4.2\nchr1\t5\t.\tA\tC\t.\t.\t.\n")
    with pytest.raises(ValueError, match=r"y\.vcf cannot be read"):
        list(read_variants(tmp_path / "y.vcf"))
    assert capfd.readouterr().err == ""


def test_reading_is_lazy(vcf):
    path = vcf(*(f"chr1 {i + 1} . A G" for i in range(20_000)), "chr1 broken . A G")
    variants = read_variants(path)
    assert [v.position for v in itertools.islice(variants, 3)] == [0, 1, 2]
    variants.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ref", "alt", "kind"),
    [
        ("A", "G", "snv"),
        ("AC", "AT", "snv"),
        ("AC", "GT", "mnv"),
        ("ACG", "TCA", "mnv"),
        ("A", "ATT", "insertion"),
        ("", "T", "insertion"),
        ("CAA", "CAAAA", "insertion"),
        ("ATT", "A", "deletion"),
        ("G", "", "deletion"),
        ("AC", "T", "complex"),
        ("AT", "GCC", "complex"),
    ],
)
def test_kinds(ref, alt, kind):
    assert Variant("chr1", 5, ref, alt).kind == kind


def test_the_reference_is_compared_in_either_case(genome):
    assert check_reference(Variant("chr1", 0, "A", "G"), genome)
    assert check_reference(Variant("chr1", 14, "AATGC", "A"), genome), "the genome has AAtgc"
    assert check_reference(Variant("1", 3, "", "GG"), genome)
    assert not check_reference(Variant("chr1", 0, "C", "G"), genome)
    assert not check_reference(Variant("chr1", 30, "A", "G"), genome), "the genome has an N"
    assert not check_reference(Variant("chr1", 38, "CAN", "C"), genome), "over the chromosome's end"
    with pytest.raises(UnknownChromosome):
        check_reference(Variant("chr9", 0, "A", "G"), genome)


def test_a_mismatch_is_counted_or_with_strict_an_error(genome):
    report = Report()
    check_reference(Variant("chr1", 0, "C", "G"), genome, report=report)
    assert report.flagged == {"reference mismatch": 1}
    with pytest.raises(ValueError, match=r"chr1:1:C>G \(row 0\) has the reference C where .*genome.fa has A"):
        check_reference(Variant("chr1", 0, "C", "G"), genome, strict=True)


def test_the_window_has_the_variant_at_half_its_length(genome):
    for length in (10, 11, 1):
        window = place(Variant("chr1", 20, "T", "A", "rs1", 7), length)
        assert window == Region("chr1", 20 - length // 2, 20 - length // 2 + length, name="rs1", row=7)
        found = alleles(Variant("chr1", 20, "T", "A"), window, genome)
        assert found.ref_span == found.alt_span == (length // 2, length // 2 + 1)
        assert (found.ref[length // 2], found.alt[length // 2]) == ("T", "A")
    assert place(Variant("chr1", 20, "T", "A"), 10, shift=-2).start == 13
    with pytest.raises(ValueError, match="length is 0"):
        place(Variant("chr1", 20, "T", "A"), 0)


@pytest.mark.parametrize(
    ("ref", "alt", "side", "want"),
    [
        # window 6-16 GTTTGGCCAA, the variant at 10
        ("G", "A", "right", ("GTTTGGCCAA", "GTTTAGCCAA", (4, 5), (4, 5))),
        ("GG", "AT", "left", ("GTTTGGCCAA", "GTTTATCCAA", (4, 6), (4, 6))),
        ("G", "GAC", "right", ("GTTTGGCCAA", "GTTTGACGCC", (4, 5), (4, 7))),
        ("G", "GAC", "left", ("GTTTGGCCAA", "TTGACGCCAA", (4, 5), (2, 5))),
        ("GGC", "G", "right", ("GTTTGGCCAA", "GTTTGCAATG", (4, 7), (4, 5))),  # TG are the genome's next two, tg
        ("GGC", "G", "left", ("GTTTGGCCAA", "ACGTTTGCAA", (4, 7), (6, 7))),
        ("", "A", "right", ("GTTTGGCCAA", "GTTTAGGCCA", (4, 4), (4, 5))),
        ("GG", "", "right", ("GTTTGGCCAA", "GTTTCCAATG", (4, 6), (4, 4))),
        ("GG", "", "left", ("GTTTGGCCAA", "ACGTTTCCAA", (4, 6), (6, 6))),
    ],
)
def test_the_two_sequences_by_hand(genome, ref, alt, side, want):
    window = Region("chr1", 6, 16)
    variant = Variant("chr1", 10, ref, alt)
    found = alleles(variant, window, genome, side=side)
    assert found == want
    for text, (start, end), allele in ((found.ref, found.ref_span, ref), (found.alt, found.alt_span, alt)):
        assert text[start:end] == allele
    turned = alleles(variant, Region("chr1", 6, 16, "-"), genome, side=side)
    assert turned[:2] == (reverse_complement(want[0]), reverse_complement(want[1]))
    for text, (start, end), allele in ((turned.ref, turned.ref_span, ref), (turned.alt, turned.alt_span, alt)):
        assert text[start:end] == reverse_complement(allele)


def test_beyond_the_ends_stands_n_and_nowhere_else(genome):
    found = alleles(Variant("chr1", 2, "GTA", "G"), place(Variant("chr1", 2, "GTA", "G"), 10), genome)
    assert found[:2] == ("NNNACGTACG", "NNNACGCGTT")
    found = alleles(Variant("chr1", 36, "TCC", "T"), place(Variant("chr1", 36, "TCC", "T"), 8), genome)
    assert found[:2] == ("RACGTCCA", "RACGTANN")
    found = alleles(Variant("chr1", 36, "TCC", "T"), place(Variant("chr1", 36, "TCC", "T"), 8), genome, side="left")
    assert found[:2] == ("RACGTCCA", "NNRACGTA")


def test_a_mismatch_puts_the_stated_allele_into_the_reference_sequence(genome):
    found = alleles(Variant("chr1", 10, "C", "A"), Region("chr1", 6, 16), genome)
    assert found[:2] == ("GTTTCGCCAA", "GTTTAGCCAA")


def test_alleles_that_do_not_fit_and_other_misuse(genome):
    window = Region("chr1", 6, 16)
    for variant in (
        Variant("chr1", 10, "G", "G" * 7),
        Variant("chr1", 5, "C", "T"),
        Variant("chr1", 16, "T", "A"),
        Variant("chr1", 14, "AAT", "A"),
    ):
        with pytest.raises(ValueError, match=r"does not lie whole within the window chr1:6-16 of 10 bp.*place\("):
            alleles(variant, window, genome)
    assert alleles(Variant("chr1", 10, "G", "G" * 6), window, genome).alt == "GTTTGGGGGG"
    with pytest.raises(ValueError, match="when the left side gives way"):
        alleles(Variant("chr1", 10, "G", "G" * 6), window, genome, side="left")
    assert alleles(Variant("chr1", 10, "G", "G" * 5), window, genome, side="left").alt == "GGGGGGCCAA"
    with pytest.raises(ValueError, match="side is 'both'; 'left' or 'right'"):
        alleles(Variant("chr1", 10, "G", "A"), window, genome, side="both")  # type: ignore[arg-type]


def test_the_chromosome_of_variant_and_window_must_be_one(tmp_path):
    path = tmp_path / "two.fa"
    path.write_text(">chr1\nACGT\n>chr2\nACGT\n")
    with Genome(path) as genome:
        assert alleles(Variant("1", 1, "C", "T"), Region("chr1", 0, 4), genome)[:2] == ("ACGT", "ATGT")
        with pytest.raises(ValueError, match="chr2:2:C>T is not on the chromosome of the window chr1:0-4"):
            alleles(Variant("chr2", 1, "C", "T"), Region("chr1", 0, 4), genome)


def test_one_mismatch_leaves_the_variants_behind_it_alone(vcf, genome):
    good = ["chr1 11 . G A", "chr1 15 . A C", "chr1 17 . T TG"]
    alone = list(select_variants(read_variants(vcf(*good)), 10, genome))
    report = Report("variants")
    rows = ["chr1 11 . C A", good[0], "chr1 12 . TTT T", *good[1:]]
    mixed = list(select_variants(read_variants(vcf(*rows), report=report), 10, genome, report=report))
    assert [variant.ref_match for variant, _ in mixed] == [False, True, False, True, True]
    for (variant, window), (other, as_before) in zip([mixed[1], *mixed[3:]], alone, strict=True):
        assert str(variant) == str(other)
        assert alleles(variant, window, genome) == alleles(other, as_before, genome)
    assert (report.rows, report.kept, report.flagged) == (5, 5, {"reference mismatch": 2})
    with pytest.raises(ValueError, match=r"chr1:11:C>A \(row 0\) has the reference C"):
        list(select_variants(read_variants(vcf(*rows)), 10, genome, strict=True))


ROWS = [
    Variant("chr1", 20, "T", "A"),
    Variant("chr1", 2, "G", "A"),
    Variant("chr1", 38, "C", "A"),
    Variant("chr1", 40, "A", "C"),
    Variant("chr1", -1, "N", "C"),
    Variant("chr9", 20, "A", "C"),
    Variant("chr1", 20, "T", "T" * 9),
    Variant("chr1", 34, "CG", "C"),
    Variant("1", 21, "G", "A"),
]


@pytest.mark.parametrize("edge", ["pad", "drop"])
def test_select_accounts_for_every_variant(genome, edge):
    report = Report("variants")
    kept = list(select_variants(iter(ROWS), 10, genome, edge=edge, report=report))
    assert all(len(window) == 10 for _, window in kept)
    problems = {"outside the chromosome": 2, "unknown chromosome": 1, "alleles too long for the window": 1}
    if edge == "pad":
        assert [v.position for v, _ in kept] == [20, 2, 38, 34, 21]
        assert report.flagged == {"padded with N over the chromosome's end": 2}
        assert report.skipped == problems
    else:
        assert [v.position for v, _ in kept] == [20, 34, 21]
        assert report.skipped == {**problems, "over the chromosome's end": 2}
        assert all(genome.overhang(window) == (0, 0) for _, window in kept)
    assert report.rows == len(ROWS)
    assert report.kept == len(kept)


def test_a_deletion_whose_flank_runs_over_the_end_is_at_the_edge(genome):
    end = len(CHR1)
    variant = Variant("chr1", end - 5, CHR1[-5:-3], CHR1[-5])
    window = place(variant, 10)
    assert genome.overhang(window) == (0, 0), "the window itself ends with the chromosome"
    report = Report()
    assert list(select_variants([variant], 10, genome, edge="drop", report=report)) == []
    assert report.skipped == {"over the chromosome's end": 1}
    assert len(list(select_variants([variant], 10, genome, edge="drop", side="left"))) == 1


def test_select_stops_where_nobody_counts_or_strict_says_so(genome):
    for extra in ({}, {"report": Report(), "strict": True}):
        for variant, error, message in (
            (ROWS[3], ValueError, r"chr1:41:A>C \(row 0\) cannot be used: outside the chromosome"),
            (ROWS[5], UnknownChromosome, "'chr9'"),
            (ROWS[6], ValueError, "alleles too long for the window .*report=Report"),
        ):
            with pytest.raises(error, match=message):
                list(select_variants([variant], 10, genome, **extra))


def test_errors_of_arguments_come_before_the_first_variant(genome):
    with pytest.raises(ValueError, match="length is 0"):
        select_variants([], 0, genome)
    with pytest.raises(ValueError, match="side is 'up'"):
        select_variants([], 10, genome, side="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="edge is 'cut'"):
        select_variants([], 10, genome, edge="cut")  # type: ignore[arg-type]


def test_select_pulls_one_variant_at_a_time(genome):
    pulled = []

    def endless():
        for i in itertools.count():
            pulled.append(i)
            yield Variant("chr1", 20, "T", "A", row=i)

    assert [v.row for v, _ in itertools.islice(select_variants(endless(), 10, genome), 3)] == [0, 1, 2]
    assert pulled == [0, 1, 2]


@given(
    st.integers(0, len(CHR1) - 1),
    st.integers(0, 6),
    st.text("ACGT", max_size=6),
    st.integers(14, 50),
    st.integers(-1, 1),
    st.sampled_from(["left", "right"]),
)
def test_both_sequences_are_stretches_of_the_two_chromosomes(genome, position, width, alt, length, shift, side):
    """Against the plainest way: edit the whole chromosome, then cut out the window."""
    ref = CHR1[position : position + width].upper()
    variant = Variant("chr1", position, ref, alt)
    window = place(variant, length, shift=shift)
    found = alleles(variant, window, genome, side=side)
    pad = "N" * 100
    whole = pad + CHR1.upper() + pad
    edited = pad + CHR1[:position].upper() + alt + CHR1[position + len(ref) :].upper() + pad
    start = window.start + 100 + (len(alt) - len(ref) if side == "left" else 0)
    assert found.ref == whole[window.start + 100 : window.end + 100]
    assert found.alt == edited[start : start + length]


def test_variants_on_hg38():
    path = DATA / "hg38_1m.fa.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {DATA}")
    generator = np.random.default_rng(0)
    with Genome(path) as genome:
        for position in generator.integers(10_000, 990_000, 20):
            ref = genome.text(Region("chr1", int(position), int(position) + 3)).upper()
            variant = Variant("1", int(position), ref, ref[0])
            ((kept, window),) = select_variants([variant], 1000, genome)
            assert kept.ref_match
            found = alleles(kept, window, genome)
            assert len(found.ref) == len(found.alt) == 1000
            assert found.ref == genome.text(window).upper()
            assert found.alt == found.ref[:501] + genome.text(Region("chr1", int(position) + 3, window.end + 2)).upper()
