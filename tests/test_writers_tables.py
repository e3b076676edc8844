"""Tables of variants as TSV, Parquet and VCF, written as they come and read back by the libraries that people use."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from fastism.regions import Report
from fastism.vcf import read_variants
from fastism.writers import write_parquet, write_tsv, write_vcf

HEADER = ["chrom", "pos", "id", "ref", "alt", "ref_match", "status"]


def batches() -> list[dict]:
    first = {
        "chrom": np.array(["chr1", "chr1", "chr2"]),
        "pos": np.array([10, 10, 7]),
        "id": ["rs1", "rs1", "."],
        "ref": np.array(["A", "A", "GT"], object),
        "alt": ["C", "G", "G"],
        "ref_match": np.array([True, True, False]),
        "status": ["ok", "ok", "ok"],
        "logSUM: t 1": np.array([0.1, -2.5, 1e-7], np.float32),
        "logSED": np.array([1.0, 2.0, 1 / 3]),
    }
    second = {key: values[:1] for key, values in first.items()}
    second |= {"pos": [20], "alt": ["<DEL>"], "ref_match": [None], "status": ["symbolic allele, not scored"]}
    second |= {"logSUM: t 1": np.array([np.nan], np.float32), "logSED": np.array([np.nan])}
    return [first, second]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tsv_is_read_back(tmp_path, name):
    pd = pytest.importorskip("pandas")
    path = write_tsv(tmp_path / name, iter(batches()))
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "rt") as file:
        lines = file.read().splitlines()
    assert lines[0].split("\t") == [*HEADER, "logSUM: t 1", "logSED"]
    assert lines[1].split("\t") == ["chr1", "10", "rs1", "A", "C", "True", "ok", "0.1", "1.0"]
    assert lines[4].split("\t")[5:] == ["NA", "symbolic allele, not scored", "NA", "NA"]
    table = pd.read_csv(path, sep="\t")
    assert list(table["logSUM: t 1"][:3].astype(np.float32)) == [np.float32(0.1), -2.5, np.float32(1e-7)]
    assert table["logSED"][2] == 1 / 3, "floats come back to the last bit"
    assert np.isnan(table["logSED"][3])


def test_tsv_says_on_request_what_was_done(tmp_path):
    pd = pytest.importorskip("pandas")
    path = write_tsv(tmp_path / "a.tsv.gz", batches(), metadata={"metric": "logSUM", "seed": np.int64(3), "by": "é"})
    about = (tmp_path / "a.tsv.gz.json").read_text(encoding="utf-8")
    assert json.loads(about) == {"metric": "logSUM", "seed": 3, "by": "é"}
    assert len(pd.read_csv(path, sep="\t")) == 4
    write_tsv(tmp_path / "b.tsv", batches())
    assert not (tmp_path / "b.tsv.json").exists()


def test_tsv_asks_what_was_done_when_all_is_written(tmp_path):
    seen: list[dict] = []

    def watched():
        for batch in batches():
            seen.append(batch)
            yield batch

    write_tsv(tmp_path / "a.tsv", watched(), metadata=lambda: {"batches": len(seen)})
    assert json.loads((tmp_path / "a.tsv.json").read_text()) == {"batches": 2}

    def broken():
        raise RuntimeError("no counts")

    with pytest.raises(RuntimeError, match="no counts"):
        write_tsv(tmp_path / "b.tsv", batches(), metadata=broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "a.tsv.json"]


def test_parquet_is_read_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_parquet(tmp_path / "a.parquet", iter(batches()), metadata={"seed": np.int64(3)})
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 2, "batches are written as they come"
    assert json.loads(file.schema_arrow.metadata[b"fastism"]) == {"seed": 3}
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == dict(
        zip(
            [*HEADER, "logSUM: t 1", "logSED"],
            "string int64 string string string bool string float double".split(),
            strict=True,
        )
    )
    table = file.read().to_pydict()
    assert table["alt"] == ["C", "G", "G", "<DEL>"]
    assert table["ref_match"] == [True, True, False, None]
    assert table["logSED"] == [1.0, 2.0, 1 / 3, None]


def test_a_table_without_batches_has_its_header(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_tsv(tmp_path / "a.tsv", []).read_text() == "\t".join(HEADER) + "\n"
    path = write_parquet(tmp_path / "a.parquet", iter([]), columns=[*HEADER, "logSUM"])
    table = parquet.read_table(path)
    assert table.num_rows == 0
    assert table.column_names == [*HEADER, "logSUM"]
    empty = [{key: values[:0] for key, values in batches()[0].items()}]
    assert write_tsv(tmp_path / "b.tsv", empty).read_text().count("\n") == 1
    assert parquet.read_table(write_parquet(tmp_path / "b.parquet", empty)).num_rows == 0


@pytest.mark.parametrize("write", [write_tsv, write_parquet])
def test_batches_that_do_not_fit_leave_no_file(tmp_path, write):
    pytest.importorskip("pyarrow")
    first, second = batches()
    with pytest.raises(ValueError, match=r"Batch 1 has the columns chrom; those of the first are accepted, chrom, pos"):
        write(tmp_path / "a", [first, {"chrom": ["chr1"]}])
    with pytest.raises(ValueError, match=r"columns of batch 1 have .*'pos': 2.* columns of one length"):
        write(tmp_path / "a", [first, {**second, "pos": [1, 2]}])

    def broken():
        yield first
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        write(tmp_path / "a", broken())
    assert not list(tmp_path.iterdir())


TEMPLATE = """##fileformat=VCFv4.2
##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">
##INFO=<ID=logSED,Number=1,Type=Integer,Description="somebody else's">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
1\t10\trs1\tA\tC,G\t50\t.\tAF=0.25,0.5
1\t12\t.\tT\t.\t.\tPASS\t.
1\t20\trs1\ta\t<DEL>\t.\tPASS\tlogSED=3
2\t7\t.\tGT\tG\t.\tPASS\t.
MT\t5\t.\tG\tT,C\t.\tPASS\t.
"""


def rows_of_template(*, drop: int = 0) -> list[dict]:
    """What a reader yields for the template: an allele in a row, the genome's names, NaN where there is no score."""
    rows = [
        ("chr1", 10, "rs1", "A", "C", True, "ok", 0.5),
        ("chr1", 10, "rs1", "A", "G", True, "ok", -1.5),
        ("chr1", 20, "rs1", "A", "<DEL>", True, "symbolic allele; not scored", np.nan),
        ("chr2", 7, ".", "GT", "G", False, "ok", 2.0),
        ("chrM", 5, ".", "G", "T", True, "ok", 3.0),
        ("chrM", 5, ".", "G", "C", True, "off the end", np.nan),
    ][: 6 - drop]
    columns = dict(zip([*HEADER, "logSED"], (list(column) for column in zip(*rows, strict=True)), strict=True))
    columns["logSED"] = np.array(columns["logSED"], np.float32)
    columns["2 things"] = columns["logSED"] * 2
    return [{key: values[i : i + 2] for key, values in columns.items()} for i in range(0, len(rows), 2)]


def read_vcf(path):
    pysam = pytest.importorskip("pysam")
    with pysam.VariantFile(str(path)) as file:
        return file.header.copy(), [(r.chrom, r.pos, r.id, r.ref, r.alts, dict(r.info)) for r in file]


@pytest.mark.parametrize("ending", ["vcf", "vcf.gz", "bcf"])
def test_vcf_keeps_the_records_of_its_template(tmp_path, ending):
    pytest.importorskip("pysam")
    template = tmp_path / "in.vcf"
    template.write_text(TEMPLATE)
    path = write_vcf(
        tmp_path / f"a.{ending}", iter(rows_of_template()), template=template, metadata={"metric": "logSED", "a b": [1]}
    )
    header, records = read_vcf(path)
    assert [record[:5] for record in records] == [
        ("1", 10, "rs1", "A", ("C", "G")),
        ("1", 12, None, "T", None),
        ("1", 20, "rs1", "a" if ending != "bcf" else records[2][3], ("<DEL>",)),
        ("2", 7, None, "GT", ("G",)),
        ("MT", 5, None, "G", ("T", "C")),
    ]
    info = [record[5] for record in records]
    assert info[0] == {"AF": (0.25, 0.5), "fastism_logSED": (0.5, -1.5), "_2_things": (1.0, -3.0)}
    assert info[1] == {"FASTISM_STATUS": ("no_alternative_allele",), "FASTISM_SKIPPED": True}
    assert info[2]["logSED"] == 3, "a field that the template has stays its own"
    assert info[2]["FASTISM_STATUS"] == ("symbolic_allele_not_scored",)
    assert info[2]["FASTISM_SKIPPED"]
    assert "fastism_logSED" not in info[2]
    assert info[3] == {"fastism_logSED": (2.0,), "_2_things": (4.0,), "FASTISM_REF_MISMATCH": True}
    assert info[4]["fastism_logSED"] == (3.0, None)
    assert info[4]["FASTISM_STATUS"] == ("ok", "off_the_end")
    assert header.info["fastism_logSED"].number == "A"
    assert header.info["fastism_logSED"].type == "Float"
    lines = [str(line).strip() for line in header.records if str(line.key).startswith("fastism")]
    assert lines == ['##fastism_metric="logSED"', "##fastism_a_b=[1]"]


def test_vcf_of_an_earlier_run_gets_the_new_scores(tmp_path):
    pytest.importorskip("pysam")
    (tmp_path / "in.vcf").write_text(TEMPLATE)
    about = {"metric": "logSED", "seed": 1}
    once = write_vcf(tmp_path / "a.vcf", rows_of_template(), template=tmp_path / "in.vcf", metadata=about)
    changed = [{**b, "logSED": b["logSED"] + 1, "status": ["ok"] * len(b["status"])} for b in rows_of_template()]
    header, records = read_vcf(write_vcf(tmp_path / "b.vcf", changed, template=once, metadata={"metric": "jsd"}))
    lines = [str(line).strip() for line in header.records if str(line.key).startswith("fastism")]
    assert lines == ['##fastism_metric="jsd"']
    assert records[0][5]["fastism_logSED"] == (1.5, -0.5)
    assert "FASTISM_SKIPPED" not in records[2][5]


def test_vcf_rows_that_the_template_lacks_are_refused(tmp_path):
    pytest.importorskip("pysam")
    template = tmp_path / "in.vcf"
    template.write_text(TEMPLATE)
    rows = rows_of_template()
    with pytest.raises(ValueError, match=r"variant chr1:10 A>C is not in .*in\.vcf, or not in its order"):
        write_vcf(tmp_path / "a.vcf", [rows[1], rows[0], rows[2]], template=template)
    assert [path.name for path in tmp_path.iterdir()] == ["in.vcf"]
    _, records = read_vcf(write_vcf(tmp_path / "a.vcf", rows_of_template(drop=2), template=template))
    assert records[4][5]["FASTISM_STATUS"] == ("not_scored", "not_scored"), "records without rows are kept"


def test_vcf_says_why_alleles_without_rows_cannot_be_scored(tmp_path):
    pytest.importorskip("pysam")
    head = "##fileformat=VCFv4.2\n##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    alleles = ["A\t<DEL>,*", "A\tA[1:5[,C", "A\tAU", "U\tG"]
    rows = "".join(f"1\t{i + 10}\t.\t{pair}\t.\t.\t.\n" for i, pair in enumerate(alleles))
    (tmp_path / "in.vcf").write_text(head + rows)
    report = Report("variants")
    found = list(read_variants(tmp_path / "in.vcf", report=report))
    assert [str(v) for v in found] == ["1:11:A>C", "1:12:A>AT", "1:13:T>G"]
    columns = {
        "chrom": [v.chrom for v in found],
        "pos": [v.position + 1 for v in found],
        "id": [v.id for v in found],
        "ref": [v.ref for v in found],
        "alt": [v.alt for v in found],
        "ref_match": [True] * 3,
        "status": ["ok"] * 3,
        "score": np.arange(3.0),
    }
    _, records = read_vcf(write_vcf(tmp_path / "a.vcf", [columns], template=tmp_path / "in.vcf"))
    assert records[0][5]["FASTISM_STATUS"] == ("symbolic_allele", "spanning_deletion_(*)")
    assert records[1][5]["FASTISM_STATUS"] == ("breakend", "ok")
    assert [record[5].get("score") for record in records] == [None, (None, 0.0), (1.0,), (2.0,)], "U is T"


@pytest.mark.parametrize("ending", ["vcf", "vcf.gz", "bcf"])
def test_vcf_declares_what_its_template_only_uses(tmp_path, ending):
    pysam = pytest.importorskip("pysam")
    head = "##fileformat=VCFv4.2\n##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tme\n"
    rows = "1\t5\t.\tA\tG\t.\tlow\tDP=3;SOMATIC;L=1,2;score=7\tGT:GQ\t0/1:9\n2\t7\t.\tC\tT\t.\tPASS\t.\tGT\t1/1\n"
    (tmp_path / "in.vcf").write_text(head + rows)
    row = {"chrom": ["1"], "pos": [5], "id": [""], "ref": ["A"], "alt": ["G"], "ref_match": [True], "status": ["ok"]}
    path = write_vcf(tmp_path / f"a.{ending}", [{**row, "score": np.array([0.5])}], template=tmp_path / "in.vcf")
    with pysam.VariantFile(str(path)) as file:
        one, two = [str(record).strip().split("\t") for record in file]
        assert file.header.info["DP"].description == "Not declared in the file that fastism read"
    assert one[6:] == ["low", "DP=3;SOMATIC;L=1,2;score=7;fastism_score=0.5", "GT:GQ", "0/1:9"]
    assert two[:2] == ["2", "7"]
    assert two[7] == "FASTISM_STATUS=not_scored;FASTISM_SKIPPED"


@pytest.mark.parametrize("ending", ["vcf", "vcf.gz", "bcf"])
def test_vcf_is_written_in_silence(tmp_path, ending, capfd):
    pysam = pytest.importorskip("pysam")
    template = tmp_path / "in.vcf"
    template.write_text(TEMPLATE)
    if ending == "vcf.gz":  # without an index
        pysam.tabix_compress(str(template), str(tmp_path / "in.vcf.gz"))
        template = tmp_path / "in.vcf.gz"
    write_vcf(tmp_path / f"a.{ending}", rows_of_template(), template=template)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_vcf_without_a_template(tmp_path):
    pytest.importorskip("pysam")
    path = write_vcf(tmp_path / "a.vcf", batches(), contigs={"chr1": 1000, "chr2": None})
    header, records = read_vcf(path)
    assert header.contigs["chr1"].length == 1000
    assert [record[:5] for record in records] == [
        ("chr1", 10, "rs1", "A", ("C",)),
        ("chr1", 10, "rs1", "A", ("G",)),
        ("chr2", 7, None, "GT", ("G",)),
        ("chr1", 20, "rs1", "A", ("<DEL>",)),
    ]
    assert records[0][5] == {"logSUM__t_1": (pytest.approx(0.1),), "logSED": (1.0,)}
    assert records[2][5]["FASTISM_REF_MISMATCH"]
    assert records[3][5]["FASTISM_STATUS"] == ("symbolic_allele_not_scored",)
    assert "FASTISM_REF_MISMATCH" not in records[3][5], "None: the genome was not read"


def test_vcf_columns_of_names_that_become_alike(tmp_path):
    pytest.importorskip("pysam")
    (one, _) = batches()
    rows = {key: values for key, values in one.items() if key in HEADER}
    rows |= {"a b": np.arange(3.0), "a_b": np.arange(3.0) + 10, "a-b": np.arange(3.0) + 20}
    _, records = read_vcf(write_vcf(tmp_path / "a.vcf", [rows], contigs={"chr1": None, "chr2": None}))
    assert records[1][5] == {"a_b": (1.0,), "a_b_2": (11.0,), "a_b_3": (21.0,)}


def test_vcf_without_rows(tmp_path):
    pytest.importorskip("pysam")
    template = tmp_path / "in.vcf"
    template.write_text(TEMPLATE)
    assert len(read_vcf(write_vcf(tmp_path / "a.vcf", [], template=template))[1]) == 5
    assert read_vcf(write_vcf(tmp_path / "b.vcf", [], contigs={"chr1": 5}))[1] == []


def test_vcf_refuses_what_it_cannot_hold(tmp_path):
    pytest.importorskip("pysam")
    first, _ = batches()
    with pytest.raises(ValueError, match=r"ends in '.txt'; .vcf, .vcf.gz and .bcf are accepted"):
        write_vcf(tmp_path / "a.txt", [first], contigs={})
    with pytest.raises(ValueError, match="needs template, the VCF that was read, or contigs"):
        write_vcf(tmp_path / "a.vcf", [first])
    with pytest.raises(ValueError, match=r"Chromosome 'chr1' is not among the contigs \(1, "):
        write_vcf(tmp_path / "a.vcf", [first], contigs={"1": 1000})
    for allele in ("", "-", None):
        with pytest.raises(ValueError, match=r"chr1:10 has the alleles 'A' and .*, which a VCF cannot hold"):
            write_vcf(tmp_path / "a.vcf", [{**first, "alt": [allele] * 3}], contigs={"chr1": None})
    with pytest.raises(ValueError, match=r"batches lack ref_match, status; chrom, pos, id,"):
        write_vcf(tmp_path / "a.vcf", [{key: first[key] for key in HEADER[:5]}], contigs={})
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch):
    from fastism.writers import files

    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(files, "import_module", missing)
    with pytest.raises(ImportError, match=r'write_parquet: pyarrow .*pip install "fastism\[genome\]"'):
        write_parquet(tmp_path / "a.parquet", batches())
    with pytest.raises(ImportError, match=r"write_vcf: pysam"):
        write_vcf(tmp_path / "a.vcf", batches(), contigs={})
