"""The command line, from files to files: every command, its summary, and what it says of bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from genomes import WINDOWS, save_model, window, write_genome, write_regions

from fastism import NaiveISM
from fastism.cli import COMMANDS, main
from fastism.loading import custom_objects
from fastism.regions import Region
from fastism.store import open_scores

pytest.importorskip("zarr")
pytest.importorskip("pysam")


def call(*arguments, code=0):
    outcome = CliRunner().invoke(main, [str(a) for a in arguments])
    assert outcome.exit_code == code, outcome.output
    return outcome.output


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with genome, regions, model, and the result of ``fastism ism``."""
    folder = tmp_path_factory.mktemp("cli")
    genome, texts = write_genome(folder)
    path, model = save_model(folder)
    regions = write_regions(folder)
    said = call("ism", "-m", path, "-g", genome, "-r", regions, "-o", folder / "out.zarr", "--no-progress")
    return folder, texts, model, said


def test_ism_maps_regions_and_accounts_for_all(done):
    folder, texts, model, said = done
    assert "8 regions: 5 kept, 3 skipped" in said
    assert "5 sequences x 40 positions x 2 targets, metric subtract" in said
    scores = open_scores(folder / "out.zarr")
    x = np.stack([window(texts[c], *rest) for c, *rest in WINDOWS])
    naive = NaiveISM(model).saturate(x)
    want = naive.mutant - naive.reference[:, None, None]
    np.testing.assert_allclose(scores.differences[:], want, atol=1e-4 * np.abs(want).max())
    about = scores.attributes
    assert len(about["model_hash"][0]) == 64
    assert about["model"] == ["model.keras"]
    assert about["genome"] == "genome.fa"


def test_ism_does_not_replace_a_result_unasked(done):
    folder, *_ = done
    arguments = ["ism", "-m", folder / "model.keras", "-g", folder / "genome.fa", "-r", folder / "regions.bed"]
    said = call(*arguments, "-o", folder / "out.zarr", code=1)
    assert "is there already" in said
    assert "--resume" in said
    assert "Traceback" not in said


def test_ism_of_the_centre_of_sequences_in_a_fasta_file(done):
    folder, texts, model, _ = done
    (folder / "x.fa").write_text(f">one\n{texts['chr1'][:40]}\n>two\nACGT\n")
    said = call(
        *("ism", "-m", folder / "model.keras", "-f", folder / "x.fa", "-o", folder / "x.zarr"),
        *("-l", 10, "-t", 1, "--target-names", "open", "--rc", "--no-progress"),
    )
    assert "2 sequences: 1 kept, 1 skipped" in said
    scores = open_scores(folder / "x.zarr")
    assert (scores.start, scores.positions, list(scores.targets)) == (15, 10, ["open"])
    x = window(texts["chr1"], 0, 40)[None]
    turned = NaiveISM(model).saturate(np.ascontiguousarray(x[:, ::-1, ::-1]))
    naive = NaiveISM(model).saturate(x)
    delta, other = (n.mutant - n.reference[:, None, None] for n in (naive, turned))
    want = (delta + other[:, ::-1, ::-1])[:, 15:25, :, 1] / 2
    np.testing.assert_allclose(scores.differences[..., 0], want, atol=1e-4 * np.abs(want).max())


def test_nothing_left_has_an_exit_code_of_its_own(done):
    folder, *_ = done
    (folder / "none.bed").write_text("chr9\t0\t40\n")
    said = call(
        *("ism", "-m", folder / "model.keras", "-g", folder / "genome.fa", "-r", folder / "none.bed"),
        *("-o", folder / "none.zarr"),
        code=3,
    )
    assert "1 regions: 0 kept, 1 skipped" in said


def test_export_writes_what_other_tools_read(done):
    h5py, pybigtools = pytest.importorskip("h5py"), pytest.importorskip("pybigtools")
    folder, *_ = done
    (folder / "sizes").write_text("chr1\t400\nchr2\t120\n")
    formats = ["hdf5", "modisco", "chrombpnet", "basenji", "bigwig", "bed", "tsv"]
    said = call(
        "export", folder / "out.zarr", *(p for f in formats for p in ("--format", f)), "-c", folder / "sizes", "-t", 1
    )
    scores = open_scores(folder / "out.zarr")
    want = scores.attributions(1, hypothetical=True, whole=True)
    with h5py.File(folder / "out.h5") as file:
        np.testing.assert_allclose(file["hyp_scores"][:], want, rtol=1e-5, atol=1e-7)
        assert file["coords_chrom"][0] in (b"chr1", "chr1")
    archive = np.load(folder / "out.attr.npz")["arr_0"]
    np.testing.assert_allclose(archive, want.transpose(0, 2, 1), rtol=1e-5, atol=1e-7)
    with pybigtools.open(str(folder / "out.bw")) as file:
        values = np.array(file.values("chr1", 100, 130, fillna=None))
    projected = scores.attributions(1)[0].sum(-1)
    np.testing.assert_allclose(values, projected[:30], rtol=1e-4, atol=1e-6)
    assert len((folder / "out_kept.bed").read_text().splitlines()) == 5
    assert (folder / "out.tsv.gz").stat().st_size > 100
    assert all(f"{name}: " in said for name in formats)
    assert (folder / "regions.bed").read_text().count("\n") == 8
    again = call("export", folder / "out.zarr", "--format", "hdf5", "--format", "tsv", code=1)
    assert "out.h5" in again
    assert "would be replaced; allow it (--overwrite)" in again
    call("export", folder / "out.zarr", "--format", "hdf5", "--overwrite")
    assert "needs --chrom-sizes" in call("export", folder / "out.zarr", "--format", "bigwig", code=2)


def test_plot_and_report(done):
    pytest.importorskip("logomaker")
    folder, *_ = done
    call("plot", folder / "out.zarr", "-i", "minus", "-t", 1, "--start", 5, "--end", 25, "-o", folder / "map.png")
    assert (folder / "map.png").read_bytes()[:4] == b"\x89PNG"
    call("report", folder / "out.zarr", "--title", "five <regions>")
    page = (folder / "out.html").read_text(encoding="utf-8")
    assert "five &lt;regions&gt;" in page
    said = call("plot", folder / "out.zarr", "-i", "nobody", "-o", folder / "b.png", code=1)
    assert "-i/--sequence is 'nobody'" in said


def test_variants_are_written_as_the_ending_says(done):
    pandas, pysam = pytest.importorskip("pandas"), pytest.importorskip("pysam")
    folder, texts, model, _ = done
    one = texts["chr1"].upper()
    other = {c: "ACGT"[("ACGT".index(c) + 1) % 4] for c in "ACGT"}
    lines = [
        "##fileformat=VCFv4.2",
        "##contig=<ID=chr1,length=400>",
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
        f"chr1\t61\tsnv\t{one[60]}\t{other[one[60]]},{other[other[one[60]]]}\t.\t.\t.",
        f"chr1\t301\tins\t{one[300]}\t{one[300]}GG\t.\t.\t.",
        f"chr1\t350\tsymbolic\t{one[349]}\t<DEL>\t.\t.\t.",
    ]
    (folder / "v.vcf").write_text("\n".join(lines) + "\n")
    common = ["variants", "-m", folder / "model.keras", "-g", folder / "genome.fa", "-v", folder / "v.vcf"]
    said = call(*common, "-o", folder / "v.tsv", "--stats", "subtract", "-t", 0, "--no-progress")
    assert "4 variants: 3 kept, 1 skipped" in said
    table = pandas.read_csv(folder / "v.tsv", sep="\t")
    assert table["id"].tolist() == ["snv", "snv", "ins"]
    about = json.loads((folder / "v.tsv.json").read_text())
    assert about["variants"] == "v.vcf"
    assert (about["rows"], sum(about["skipped"].values())) == (4, 1)
    assert about["stats"] == {"subtract": "a - r"}
    assert about["target_indices"] == [0]
    assert table["ref_match"].all()
    x = window(one, 40, 80)[None]
    mutated = x.copy()
    mutated[0, 20] = window(other[one[60]], 0, 1)[0]
    want = (model.predict(mutated, verbose=0) - model.predict(x, verbose=0))[0, 0]
    assert table["subtract"][0] == pytest.approx(want, rel=1e-3, abs=1e-5)
    call(*common, "-o", folder / "scored.vcf", "--no-progress")
    with pysam.VariantFile(str(folder / "scored.vcf")) as file:
        records = list(file)
        assert any(line.key == "fastism_genome" and "genome.fa" in line.value for line in file.header.records)
    assert len(records) == 3
    assert len(records[0].info["subtract_0"]) == 2
    (folder / "t.csv").write_text(f"chr1\t61\t{one[60]}\t{other[one[60]]}\tt\n")
    table = ["variants", "-m", folder / "model.keras", "-g", folder / "genome.fa", "-v", folder / "t.csv"]
    assert "FastISM: 100%" in call(*table, "-o", folder / "t.vcf", "--progress")
    with pysam.VariantFile(str(folder / "t.vcf")) as file:
        assert [(r.chrom, r.pos) for r in file] == [("chr1", 61)]
    assert "would be replaced" in call(*common, "-o", folder / "v.tsv", code=1)
    assert "ends in" in call(*common, "-o", folder / "v.xlsx", code=2)


@pytest.mark.parametrize("contig", ["", "##contig=<ID=chr1,length=400>\n"])
def test_a_scored_vcf_says_why_a_row_was_skipped(done, tmp_path, contig):
    import pysam

    folder, texts, *_ = done
    ref = texts["chr1"][60].upper()
    rows = f"chr1\t61\t.\t{ref}\t{ref}G\t.\tlow\tDP=3\nchr1\t900\t.\tA\tG\t.\t.\t.\n"
    rows += f"chr1\t61\t.\tA\tA{'G' * 50}\t.\t.\t.\nchr9\t5\t.\tA\tG,<DEL>\t.\t.\t.\n"
    head = f"##fileformat=VCFv4.2\n{contig}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(head + rows)
    arguments = ["-m", folder / "model.keras", "-g", folder / "genome.fa", "-v", tmp_path / "v.vcf"]
    said = call("variants", *arguments, "-o", tmp_path / "o.vcf", "--no-progress")
    assert "5 variants: 1 kept, 4 skipped" in said
    with pysam.VariantFile(str(tmp_path / "o.vcf")) as file:
        found = [(r.chrom, r.info.get("FASTISM_STATUS")) for r in file]
    assert found == [
        ("chr1", None),
        ("chr1", ("outside_the_chromosome",)),
        ("chr1", ("alleles_too_long_for_the_window",)),
        ("chr9", ("unknown_chromosome", "symbolic_allele")),
    ]


@pytest.mark.parametrize("ending", ["tsv", "parquet", "vcf"])
def test_variants_of_which_none_is_read_leave_no_file(done, tmp_path, ending):
    folder, *_ = done
    arguments = ["variants", "-m", folder / "model.keras", "-g", folder / "genome.fa", "-o", tmp_path / f"s.{ending}"]
    said = call(*arguments, "-v", folder / "regions.bed", "--no-progress", code=3)
    assert "regions.bed is no VCF or BCF, and was read as a table: columns chromosome, position" in said
    assert "skipped, malformed row: 8" in said
    assert not list(tmp_path.iterdir())


def test_results_and_variants_of_another_kind_are_named(done, tmp_path):
    folder, *_ = done
    said = call("plot", folder / "genome.fa", "-o", tmp_path / "x.png", code=1)
    assert "a .zarr folder that 'fastism ism'" in said
    (tmp_path / "v.vcf").write_text("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t5\t.\tA\tG\t.\t.\t.\n")
    arguments = ["-m", folder / "model.keras", "-g", folder / "genome.fa", "-v", tmp_path / "v.vcf"]
    said = call("variants", *arguments, "-o", tmp_path / "o.tsv", "--no-progress", code=1)
    assert "before which a VCF has ##fileformat" in said
    (tmp_path / "n.tsv").write_text("chr1\t155\tA\tG\nchr1\t1\tN\tG\n")
    said = call("variants", *arguments[:-1], tmp_path / "n.tsv", "-o", tmp_path / "o.tsv", "--no-progress")
    assert "flagged, reference mismatch, N in the genome: 1 (chr1:155:A>G)" in said
    assert "flagged, reference mismatch: 1" in said


def test_explain_says_what_it_costs(done):
    folder, *_ = done
    said = call("explain", "-m", folder / "model.keras", "-n", 1000, "-l", 20)
    assert "1000 x 20 positions x 4 letters x 2 numbers" in said
    assert "result  640 kB in float32" in said
    assert "time    about" in said


def test_bench_says_how_fast_and_how_exact(done):
    folder, *_ = done
    said = call("bench", "-m", folder / "model.keras", "--repeats", 1, "--sample", 30)
    assert "speed-up" in said
    assert "of the largest effect" in said


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_with_an_example(command):
    said = call(command, "--help")
    assert "Usage:" in said
    assert command == "demo" or f"fastism {command}" in said


def test_the_list_of_commands():
    said = call("--help")
    assert all(name in said for name in COMMANDS)
    assert "No such command 'isn'" in call("isn", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-g", "genome.fa"], "Give either --genome and --regions, or --fasta."),
        (["-f", "genome.fa", "-g", "genome.fa"], "Give either --genome and --regions, or --fasta."),
        (["-f", "genome.fa", "--metric", "nothing"], "metric is 'nothing'"),
        (["-f", "genome.fa", "-t", "one"], "integers separated by commas"),
        (["-f", "genome.fa", "-t", "7"], "7"),
        (["-f", "genome.fa", "-l", "41"], "do not lie within sequences of 40"),
        (["-f", "genome.fa", "--custom", "nothing"], "module:Name is accepted"),
        (["-f", "genome.fa", "--custom", "no_such_module:X"], "cannot be imported"),
    ],
)
def test_bad_arguments_are_a_sentence(done, monkeypatch, arguments, message):
    folder, *_ = done
    monkeypatch.chdir(folder)
    outcome = CliRunner().invoke(main, ["ism", "-m", "model.keras", "-o", "never.zarr", *arguments])
    assert outcome.exit_code in (1, 2)
    assert message in outcome.output
    assert "Traceback" not in outcome.output
    assert not (folder / "never.zarr").exists()


def test_files_of_another_kind_are_told_apart(done):
    folder, *_ = done
    (folder / "sites.bed").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    common = ["ism", "-m", folder / "model.keras", "-g", folder / "genome.fa"]
    said = call(*common, "-r", folder / "sites.bed", "-o", folder / "never.zarr", code=2)
    assert "holds variants; fastism variants -v takes it" in said
    assert "does not end in .zarr" in call(*common, "-r", folder / "regions.bed", "-o", folder / "a.zip", code=2)
    assert not (folder / "a.zip").exists()


def test_rows_that_are_left_out_are_shown_as_the_file_has_them(done):
    assert "(chr9 0 10 nowhere)" in done[3]


def test_distances_have_importance_upwards_in_every_file(done):
    """jsd is never negative, and what changes it most is what matters most."""
    folder, *_ = done
    save_model(folder, "two.keras", profile=True)
    (folder / "z.fa").write_text(">one\n" + "ACGTTGCAAC" * 4 + "\n")
    call(
        *("ism", "-m", folder / "two.keras", "-f", folder / "z.fa", "-o", folder / "jsd.zarr", "--head", 0),
        *("--metric", "jsd", "--no-progress"),
    )
    scores = open_scores(folder / "jsd.zarr")
    assert (scores.differences[:] >= 0).all()
    found = scores.attributions(0).sum(-1)
    want = scores.differences[..., 0].mean(-1)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)
    call("export", folder / "jsd.zarr", "--format", "modisco")
    written = np.load(folder / "jsd.attr.npz")["arr_0"] * np.load(folder / "jsd.ohe.npz")["arr_0"]
    np.testing.assert_allclose(written.sum(1), want, rtol=1e-4, atol=1e-6)


def test_pseudocounts_and_heads(done):
    folder, *_ = done
    save_model(folder, "two.keras", profile=True)
    common = ["ism", "-m", folder / "two.keras", "-f", folder / "genome.fa", "-o", folder / "two.zarr"]
    assert "choose one with output= (--head)" in call(*common, code=1)
    assert "--pseudocount does not go with jsd" in call(*common, "--metric", "jsd", "--pseudocount", 1, code=2)
    (folder / "y.fa").write_text(">one\n" + "ACGT" * 10 + "\n")
    common = ["ism", "-m", folder / "two.keras", "-f", folder / "y.fa", "-l", 2, "--no-progress", "--head", "0"]
    for pseudocount, name in ((1, "a.zarr"), (100, "b.zarr")):
        call(*common, "--metric", "logSED", "--pseudocount", pseudocount, "-o", folder / name)
    one, other = (np.abs(open_scores(folder / name).differences[:]).max() for name in ("a.zarr", "b.zarr"))
    assert one > 1.5 * other > 0


def test_the_heads_of_a_dict_are_counted_with_sorted_keys(done):
    folder, *_ = done
    _, model = save_model(folder, profile=True)
    profile, count = model.outputs
    keras.Model(model.input, {"profile": profile, "count": count}).save(folder / "dict.keras")
    (folder / "d.fa").write_text(">one\n" + "ACGT" * 10 + "\n")
    common = ["ism", "-m", folder / "dict.keras", "-f", folder / "d.fa", "-l", 2, "--no-progress"]
    call(*common, "--head", 0, "--rc", "--metric", "counts", "-o", folder / "count.zarr")
    assert len(open_scores(folder / "count.zarr").targets) == 1
    call(*common, "--head", 1, "--rc", "--metric", "logSUM", "-o", folder / "sums.zarr")
    assert len(open_scores(folder / "sums.zarr").targets) == 2
    said = call(*common, "--head", 0, "--metric", "logSUM", "-o", folder / "never.zarr", code=1)
    assert "the output has shape (1,)" in said


def test_a_model_that_defines_its_own_call(done, monkeypatch):
    folder, *_ = done
    (folder / "own_net.py").write_text(
        """
import keras

class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = keras.layers.Conv1D(4, 5)
        self.head = keras.layers.Dense(2)

    def call(self, inputs):
        sequence, other = inputs
        return self.head(keras.ops.max(self.conv(sequence), axis=1)) + other
"""
    )
    monkeypatch.chdir(folder)
    made = custom_objects(["own_net:Net"])["Net"]()
    made([np.zeros((1, 40, 4)), np.zeros((1, 2))])
    made.save("net.keras")
    custom = ["-m", "net.keras", "--custom", "own_net:Net"]
    assert "1 x 20 positions x 4 letters x 2 numbers" in call("explain", *custom, "-l", 20)
    assert "speed-up" in call("bench", *custom, "--repeats", 1, "-l", 20)


def test_a_fault_of_our_own_is_no_traceback_either(done, monkeypatch):
    folder, *_ = done

    def fail(*arguments, **options):
        raise KeyError(4)

    monkeypatch.setattr("fastism.cli.shared.load", fail)
    said = call("explain", "-m", folder / "model.keras", code=1)
    assert "unexpected KeyError: 4. Please report it" in said


def test_native_log_lines_are_kept_off_the_screen():
    """What native code writes to standard error is filtered; errors of it, and Python's own output, are not."""
    code = """
import os, sys, time
from fastism.cli.quiet import keep_quiet
keep_quiet()
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
os.write(2, b"I0000 00:00:1795442143.667079   19809 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"E0000 00:00:1795442145.334482   19809 cuda_platform.cc:52] failed call to cuInit: UNKNOWN\\n")
os.write(2, b"F0000 00:00:1795442145.334482   19809 tensor.cc:1] Check failed\\n")
os.write(2, b"half a line ")
os.write(2, b"and the rest\\n")
time.sleep(0.3)
print("of Python", file=sys.stderr)
"""
    for variable, seen in (("", False), ("1", True)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "FASTISM_TRACEBACK": variable},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("oneDNN" in done.stderr) is seen
        assert ("absl" in done.stderr) is seen
        for kept in ("Check failed", "half a line and the rest", "of Python"):
            assert kept in done.stderr


def test_models_that_cannot_be_loaded(done):
    folder, *_ = done
    x = keras.Input((40, 4))
    keras.Model(x, keras.layers.Lambda(lambda y: y * 2)(x)).save(folder / "lambda.keras")
    said = call("explain", "-m", folder / "lambda.keras", code=1)
    assert "--unsafe-lambda" in said
    (folder / "bad.keras").write_text("no model")
    assert "cannot be loaded as a Keras model" in call("explain", "-m", folder / "bad.keras", code=1)
    (folder / "model.pt").write_text("torch")
    assert ".keras, .h5, .hdf5 and SavedModel" in call("explain", "-m", folder / "model.pt", code=1)
    assert str(Region("chr1", 0, 1)) == "chr1:0-1"
