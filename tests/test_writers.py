"""Files for motif discovery, and frames: each value where its format wants it, none that a flip leaves alike."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

import fastism
from fastism.metrics import METRICS
from fastism.regions import Region
from fastism.result import ISMScores
from fastism.writers import (
    long_table,
    to_anndata,
    to_pandas,
    to_xarray,
    write_basenji,
    write_hdf5,
    write_npz,
    write_regions_bed,
)
from fastism.writers import values as prepared
from fastism.writers.files import atomic

READS = ("AACGTNC", "GGNTTAC", "TTACAGT")
START, P, TARGETS = 1, 5, ("first", "second")


def hot(read: str, alphabet: str = "ACGT") -> np.ndarray:
    return np.array([[letter == other for other in alphabet] for letter in read], np.int8)


def example(reads: tuple[str, ...] = READS, *, alphabet: str = "ACGT") -> ISMScores:
    """Each difference tells by its digits where it is: sequence.position letter target, and it is 0 at the reference.

    The letters' digits are those of the order ACGT, whatever the alphabet: the same numbers in another order.
    """
    sequences = np.stack([hot(read, alphabet) for read in reads])
    n = len(reads)
    digits = np.zeros((n, P, 4, 2))
    for i in range(n):
        for p in range(P):
            for a, letter in enumerate(alphabet):
                for t in range(2):
                    digits[i, p, a, t] = 10 * (i + 1) + p + "ACGT".index(letter) / 8 + 64 * t
    digits[sequences[:, START : START + P] == 1] = 0
    regions = [Region("chr1", 100, 107, "+", "one"), Region("chr2", 50, 57, "-", "two"), Region("chrX", -2, 5, ".")]
    about = {"metric": "subtract", "model_hash": "abc123", "precision": "float32", "seed": 7, "model": "a.keras"}
    reference = np.arange(2 * n).reshape(n, 2) + 0.5
    return ISMScores(sequences, digits, reference, START, TARGETS, regions[:n], alphabet=alphabet, attributes=about)


def expected_hypothetical(scores: ISMScores, target: int, divide: int) -> np.ndarray:
    """(N, L, A) from the definition, letter by letter."""
    found = np.zeros((len(scores), scores.length, 4), np.float32)
    for i in range(len(scores)):
        for p in range(scores.positions):
            if scores.sequences[i, START + p].sum() == 1:
                delta = scores.differences[i, p, :, target]
                for a in range(4):
                    found[i, START + p, a] = delta[a] - sum(delta) / divide
    return found


@pytest.mark.parametrize(("rule", "divide"), [("mean4", 4), ("mean3", 3)])
def test_hdf5_has_the_names_axes_and_values_of_bpnet(tmp_path, rule, divide):
    scores = example()
    path = write_hdf5(tmp_path / "a.h5", scores, target="second", rule=rule, batch_size=2)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["hyp_scores"], expected_hypothetical(scores, 1, divide))
        np.testing.assert_array_equal(file["input_seqs"], scores.sequences)
        np.testing.assert_array_equal(file["input_predictions"], [1.5, 3.5, 5.5])
        assert file["hyp_scores"].dtype == np.float32
        assert file["input_seqs"].dtype == np.int8
        assert list(file["coords_chrom"].asstr()) == ["chr1", "chr2", "chrX"]
        assert list(file["coords_start"]) == [100, 50, -2]
        assert list(file["coords_end"]) == [107, 57, 5]
        assert list(file["coords_strand"].asstr()) == ["+", "-", "."]
        assert [file[name].compression for name in ("hyp_scores", "input_seqs")] == ["gzip", "gzip"]
        assert "raw" not in file


def test_hypothetical_attributions_computed_by_hand(tmp_path):
    scores = example()
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores)) as file:
        # sequence 0, position 2 of it is C, mutated position 1: d = 11, 0, 11.25, 11.375, of sum 33.625
        np.testing.assert_allclose(file["hyp_scores"][0, 2], [2.59375, -8.40625, 2.84375, 2.96875])


def test_hdf5_has_the_paths_and_axes_of_chrombpnet(tmp_path):
    scores = example()
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores, layout="chrombpnet", compression=None)) as file:
        hypothetical = expected_hypothetical(scores, 0, 4)
        np.testing.assert_array_equal(file["shap/seq"], hypothetical.transpose(0, 2, 1))
        np.testing.assert_array_equal(file["raw/seq"], scores.sequences.transpose(0, 2, 1))
        np.testing.assert_array_equal(file["projected_shap/seq"], (hypothetical * scores.sequences).transpose(0, 2, 1))
        assert file["raw/seq"].dtype == np.int8
        assert file["shap/seq"].compression is None
        assert "hyp_scores" not in file
    with h5py.File(write_hdf5(tmp_path / "b.h5", scores, layout="both")) as file:
        np.testing.assert_array_equal(file["shap/seq"][:].transpose(0, 2, 1), file["hyp_scores"])


def test_hdf5_numbers_chromosomes_for_bpreveal(tmp_path):
    scores = example()
    scores = replace(scores, regions=[Region("chr9", 0, 7), Region("chr1", 0, 7), Region("chr9", 7, 14)])
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores, layout="bpreveal", batch_size=1)) as file:
        assert list(file["coords_chrom"]) == [0, 1, 0]
        assert list(file["chrom_names"].asstr()) == ["chr9", "chr1"]
        assert file["input_seqs"].dtype == np.uint8


def test_files_say_what_was_done(tmp_path):
    scores = example()
    scores = replace(scores, attributes={**scores.attributes, "formula": "a - r", "signed": True})
    path = write_hdf5(tmp_path / "a.h5", scores, target=1, rule="mean3")
    with h5py.File(path) as file:
        about = json.loads(file.attrs["metadata"])
        assert file.attrs["rule"] == "mean3"
        assert file.attrs["model_hash"] == "abc123"
    assert about["formula"] == "a - r", "the metric's, beside the attribution rule's"
    assert about["attribution_formula"] == "d - S/(A-1), S the sum of d over A letters"
    assert about["sign"] == "d = alternative - reference"
    assert about["written_by"] == f"fastism {fastism.__version__}"
    wanted = dict(metric="subtract", target="second", base_order="ACGT", precision="float32", seed=7, start=1, length=7)
    assert {key: about[key] for key in wanted} == wanted
    assert "axes" in about
    assert "0-based" in about["coordinates"]


@pytest.mark.parametrize(("rule", "formula", "divide"), [("mean4", "S/A - d", 4), ("mean3", "S/(A-1) - d", 3)])
def test_files_of_distances_say_that_these_have_no_sign(tmp_path, rule, formula, divide):
    scores = replace(example(), attributes={"metric": "jsd", "formula": METRICS["jsd"].formula, "signed": False})
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores, rule=rule)) as file:
        about, found = json.loads(file.attrs["metadata"]), file["hyp_scores"][0, START]
    assert about["sign"] == "d has no sign: how far the alternative is from the reference"
    assert about["formula"] == METRICS["jsd"].formula
    assert about["attribution_formula"] == f"{formula}, S the sum of d over A letters"
    d = scores.differences[0, 0, :, 0]
    np.testing.assert_allclose(found, d.sum() / divide - d, rtol=1e-6)


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    scores = replace(example(), attributes={})
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores)) as file:
        about = json.loads(file.attrs["metadata"])
    assert about["seed"] is None
    assert about["model_hash"] is None


def test_a_position_without_a_letter_is_masked_and_0(tmp_path):
    with h5py.File(write_hdf5(tmp_path / "a.h5", example())) as file:
        mask = file["mask"][:]
        assert mask.dtype == bool
        assert not file["hyp_scores"][:][~mask].any()
        assert not file["input_seqs"][0, 5].any()
    shown = ["".join("x" if m else "." for m in row) for row in mask]
    assert shown == [".xxxx..", ".x.xxx.", ".xxxxx."]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_nan_gets_into_hypothetical_scores(tmp_path, bad):
    scores = example()
    scores.differences[2, 3, 0, 0] = bad
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores, layout="both")) as file:
        assert np.isfinite(file["hyp_scores"]).all()
        assert np.isfinite(file["shap/seq"]).all()
        assert not file["hyp_scores"][2, START + 3].any()
        assert list(file["mask"][2]) == [False, True, True, True, False, True, False]
    _, attributions = write_npz(tmp_path / "b", scores)
    assert np.isfinite(np.load(attributions)["arr_0"]).all()
    with h5py.File(write_basenji(tmp_path / "c.h5", scores)) as file:
        assert np.isfinite(file["subtract"]).all()
        assert list(file["mask"][2]) == [True, True, True, False, True]


def test_mixtures_of_letters_count_as_none(tmp_path):
    scores = example()
    soft = scores.sequences.astype(np.float32)
    soft[0, 5] = 0.25
    soft[1, 1] = [0.5, 0.5, 0, 0]
    with h5py.File(write_hdf5(tmp_path / "a.h5", replace(scores, sequences=soft))) as file:
        assert not file["input_seqs"][0, 5].any()
        assert not file["input_seqs"][1, 1].any()
        assert not file["mask"][1, 1]


def test_rows_on_the_minus_strand_are_turned_on_request(tmp_path):
    scores = example()
    with (
        h5py.File(write_hdf5(tmp_path / "a.h5", scores)) as model,
        h5py.File(write_hdf5(tmp_path / "b.h5", scores, orientation="genome")) as genome,
    ):
        for name in ("hyp_scores", "input_seqs", "mask"):
            np.testing.assert_array_equal(genome[name][[0, 2]], model[name][[0, 2]])
        for name in ("hyp_scores", "input_seqs"):
            np.testing.assert_array_equal(genome[name][1], model[name][1][::-1, ::-1])
        np.testing.assert_array_equal(genome["input_seqs"][1], hot("GTAANCC"))
        np.testing.assert_array_equal(genome["mask"][1], model["mask"][1][::-1])
        assert genome.attrs["orientation"] == "genome"
    pairs = [np.load(write_npz(tmp_path / o, scores, orientation=o)[1])["arr_0"] for o in ("model", "genome")]
    np.testing.assert_array_equal(pairs[1][1], pairs[0][1, ::-1, ::-1])


@pytest.mark.parametrize("orientation", ["model", "genome"])
def test_letters_are_written_in_the_order_acgt(tmp_path, orientation):
    """A model that reads A, C, T, G leaves the files that one of A, C, G, T leaves."""
    usual, other = example(), example(alphabet="ACTG")
    files = [
        write_hdf5(tmp_path / f"{s.alphabet}.h5", s, layout="both", orientation=orientation) for s in (usual, other)
    ]
    with h5py.File(files[0]) as a, h5py.File(files[1]) as b:
        for name in ("hyp_scores", "input_seqs", "shap/seq", "raw/seq", "projected_shap/seq"):
            np.testing.assert_array_equal(a[name], b[name])
        assert b.attrs["base_order"] == "ACGT"
        assert b.attrs["alphabet"] == "ACTG"
    with (
        h5py.File(write_basenji(tmp_path / "c.h5", usual)) as a,
        h5py.File(write_basenji(tmp_path / "d.h5", other)) as b,
    ):
        for name in ("seqs", "subtract"):
            np.testing.assert_array_equal(a[name], b[name])


def test_npz_pair_has_bases_before_positions(tmp_path):
    scores = example()
    onehot, attributions = write_npz(tmp_path / "ctcf", scores, target=1, batch_size=2)
    assert (onehot.name, attributions.name) == ("ctcf.ohe.npz", "ctcf.attr.npz")
    with np.load(onehot) as a, np.load(attributions) as b:
        np.testing.assert_array_equal(a["arr_0"], scores.sequences.transpose(0, 2, 1))
        np.testing.assert_array_equal(b["arr_0"], expected_hypothetical(scores, 1, 4).transpose(0, 2, 1))
        assert b["arr_0"].dtype == np.float32
        np.testing.assert_array_equal(b["mask"][1], [False, True, False, True, True, True, False])
        assert list(b["chrom"]) == ["chr1", "chr2", "chrX"]
        assert list(b["start"]) == [100, 50, -2]
        assert list(b["strand"]) == ["+", "-", "."]
        assert json.loads(str(b["metadata"]))["rule"] == "mean4"
    assert (tmp_path / "ctcf_regions.bed").read_text().startswith("chr1\t100\t107\tone\t0\t+\n")


def test_npz_pair_in_the_spelling_of_crested(tmp_path):
    scores = example()
    plain = write_npz(tmp_path / "plain", scores)
    paths = write_npz(tmp_path / "B_cell", scores, spelling="crested", compress=True)
    assert [path.name for path in paths] == ["B_cell_oh.npz", "B_cell_contrib.npz"]
    for a, b in zip(plain, paths, strict=True):
        np.testing.assert_array_equal(np.load(a)["arr_0"], np.load(b)["arr_0"])


def test_basenji_has_differences_of_the_mutated_stretch_and_where_it_lies(tmp_path):
    scores = example()
    path = write_basenji(
        tmp_path / "scores.h5", {"logSUM": scores, "logSED": replace(scores, differences=-scores.differences)}
    )
    with h5py.File(path) as file:
        letters = scores.sequences[:, START : START + P].sum(-1) == 1
        wanted = np.where(letters[..., None, None], scores.differences, 0)
        np.testing.assert_array_equal(file["logSUM"], wanted.astype(np.float32))
        np.testing.assert_array_equal(file["logSED"], -wanted.astype(np.float32))
        assert file["logSUM"].shape == (3, P, 4, 2)
        np.testing.assert_array_equal(file["seqs"], scores.sequences[:, START : START + P] == 1)
        assert file["seqs"].dtype == bool
        assert list(file["chr"].asstr()) == ["chr1", "chr2", "chrX"]
        # positions 1 to 6 of 7: from the other end on the minus strand, 56 - 5 to 56
        assert list(zip(file["start"], file["end"], strict=True)) == [(101, 106), (51, 56), (-1, 4)]
        assert list(file["strand"].asstr()) == ["+", "-", "+"]
        assert list(file["targets"].asstr()) == list(TARGETS)
        assert json.loads(file.attrs["stats"])["logSED"]["stat"] == "logSED"


def test_basenji_stretch_on_the_minus_strand_when_it_is_not_in_the_middle(tmp_path):
    scores = example()
    scores = replace(scores, differences=scores.differences[:, :2])
    with h5py.File(write_basenji(tmp_path / "scores.h5", scores)) as file:
        assert list(zip(file["start"], file["end"], strict=True)) == [(101, 103), (54, 56), (-1, 1)]


def test_basenji_without_regions_counts_within_named_sequences(tmp_path):
    scores = replace(example(), regions=None, names=("a", "b", "c"))
    with h5py.File(write_basenji(tmp_path / "scores.h5", scores)) as file:
        assert list(file["chr"].asstr()) == ["a", "b", "c"]
        assert list(file["start"]) == [1, 1, 1]


def test_basenji_refuses_stats_that_do_not_belong_together(tmp_path):
    scores = example()
    with pytest.raises(ValueError, match=r"stats differ in sequences.*a: 3 sequences.*b: 2 sequences"):
        write_basenji(tmp_path / "a.h5", {"a": scores, "b": scores[:2]})
    with pytest.raises(ValueError, match="'b' are of other sequences"):
        write_basenji(tmp_path / "a.h5", {"a": scores, "b": replace(scores, sequences=scores.sequences[::-1])})
    with pytest.raises(ValueError, match="stat is 'seqs'; a name without"):
        write_basenji(tmp_path / "a.h5", scores, stat="seqs")
    with pytest.raises(ValueError, match="name no metric; give stat"):
        write_basenji(tmp_path / "a.h5", replace(scores, attributes={}))
    with pytest.raises(ValueError, match="empty mapping"):
        write_basenji(tmp_path / "a.h5", {})
    assert not list(tmp_path.iterdir())


def test_sequences_without_regions_have_names(tmp_path):
    scores = replace(example(), regions=None, names=("a", "b", "c"))
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores)) as file:
        assert list(file["descriptions"].asstr()) == ["a", "b", "c"]
        assert "coords_chrom" not in file
    write_npz(tmp_path / "b", scores)
    assert list(np.load(tmp_path / "b.attr.npz")["names"]) == ["a", "b", "c"]
    assert not list(tmp_path.glob("*.bed"))


def test_no_sequences_leave_datasets_of_no_rows(tmp_path):
    scores = example()[:0]
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores, layout="both")) as file:
        assert file["hyp_scores"].shape == (0, 7, 4)
        assert file["shap/seq"].shape == (0, 4, 7)
        assert file["coords_chrom"].shape == (0,)
    with h5py.File(write_basenji(tmp_path / "b.h5", scores)) as file:
        assert file["subtract"].shape == (0, P, 4, 2)
    assert np.load(write_npz(tmp_path / "c", scores)[1])["arr_0"].shape == (0, 4, 7)
    assert (tmp_path / "a_regions.bed").read_text() == ""


def test_no_sequences_make_frames_of_no_rows():
    for name in ("xarray", "anndata", "pandas"):
        pytest.importorskip(name)
    scores = example()[:0]
    assert to_xarray(scores).sizes["sequence"] == 0
    assert to_anndata(scores).shape == (0, 20)
    assert to_pandas(scores).shape == (0, 9)


def test_float16_on_request_only_and_where_it_fits(tmp_path):
    scores = example()
    with h5py.File(write_hdf5(tmp_path / "a.h5", scores, dtype="float16")) as file:
        assert file["hyp_scores"].dtype == np.float16
    large = replace(scores, differences=scores.differences * 1e5)
    with pytest.raises(ValueError, match=r"attributions reach .* float16 cannot hold \(at most 65504\)"):
        write_hdf5(tmp_path / "b.h5", large, dtype="float16")
    with pytest.raises(ValueError, match="float16 cannot hold"):
        write_npz(tmp_path / "b", large, dtype="float16")
    with pytest.raises(ValueError, match="float16 cannot hold"):
        write_basenji(tmp_path / "b.h5", large, dtype="float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a_regions.bed"]


def test_differences_stored_as_float16_are_summed_in_float32(tmp_path):
    scores = example()
    half = replace(scores, differences=np.where(scores.differences == 0, 0, 40000).astype(np.float16))
    with h5py.File(write_hdf5(tmp_path / "a.h5", half)) as file:
        assert file["mask"][0, 2]
        np.testing.assert_allclose(file["hyp_scores"][0, 2], [10000, -30000, 10000, 10000], rtol=1e-3)


class Stopped(BaseException):
    """As a person's Ctrl-C: no Exception."""


class Stopping:
    """An array that cannot be read to its end."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape

    def __getitem__(self, rows):
        if isinstance(rows, slice) and (rows.stop or 0) > 1:
            raise Stopped
        return self.array[rows]


@pytest.mark.parametrize("write", [write_hdf5, write_npz, write_basenji])
def test_a_writer_that_is_stopped_leaves_what_was_there(tmp_path, write):
    scores = example()
    write(tmp_path / "a.h5", scores)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    stopping = replace(scores, differences=Stopping(scores.differences))
    with pytest.raises(Stopped):
        write(tmp_path / "a.h5", stopping, batch_size=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_without_a_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .*none does not exist; create it first"):
        write_hdf5(tmp_path / "none" / "a.h5", example())
    with pytest.raises(IsADirectoryError, match="is a folder; the name of a file"), atomic(tmp_path):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "mean5"}, r"rule is 'mean5'; 'mean4' or 'mean3' is accepted"),
        ({"layout": "deepdish"}, r"layout is 'deepdish'; 'bpnet', 'chrombpnet', 'both', 'bpreveal' are accepted"),
        ({"orientation": "minus"}, r"orientation is 'minus'; 'model' or 'genome'"),
        ({"dtype": "int8"}, r"dtype is 'int8'; 'float32', 'float64', 'float16'"),
        ({"compression": "blosc"}, r"compression is 'blosc'; 'gzip' or None"),
        ({"target": "third"}, r"target is 'third'; .*first, second"),
        ({"target": 2}, r"target is 2; an index below 2"),
        ({"batch_size": 0}, r"batch_size is 0; a number of sequences of 1 or more"),
    ],
)
def test_arguments_that_are_not_accepted_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_hdf5(tmp_path / "a.h5", example(), **arguments)
    if not {"layout", "compression"} & set(arguments):
        with pytest.raises(ValueError, match=message):
            write_npz(tmp_path / "a", example(), **arguments)
    assert not list(tmp_path.iterdir())


def test_scores_that_do_not_suit_the_arguments_are_refused(tmp_path):
    scores = example()
    with pytest.raises(TypeError, match=r"scores is of type ndarray; an ISMScores"):
        write_hdf5(tmp_path / "a.h5", scores.differences)
    with pytest.raises(ValueError, match=r'orientation="genome" needs regions'):
        write_hdf5(tmp_path / "a.h5", replace(scores, regions=None), orientation="genome")
    with pytest.raises(ValueError, match=r"region chr1:0-9 has 9 positions and its sequence 7"):
        write_hdf5(tmp_path / "a.h5", replace(scores, regions=[Region("chr1", 0, 9)] * 3))
    with pytest.raises(ValueError, match=r"'ABCD' has no complements"):
        write_hdf5(tmp_path / "a.h5", replace(scores, alphabet="ABCD"), orientation="genome")
    with pytest.raises(ValueError, match=r"spelling is 'npz'; 'tangermeme' or 'crested'"):
        write_npz(tmp_path / "a", scores, spelling="npz")
    assert not list(tmp_path.iterdir())


def test_letters_of_rna_and_other_alphabets():
    assert prepared.acgt("UGCA") == [3, 2, 1, 0]
    assert prepared.complement("acgu") == [3, 2, 1, 0]
    assert prepared.acgt("ACDEFGHIKLMNPQRSTVWY") == list(range(20))


def test_regions_keep_the_columns_they_were_read_with(tmp_path):
    peak = Region("chr1", 0, 7, ".", "p", 0, ("chr1", "2", "5", "p", "1000", ".", "9.5", "3", "2", "1"))
    scores = replace(example(), regions=[peak, Region("chr2", -3, 4, "-"), Region("chr2", 9, 16, "+", "third")])
    path = write_regions_bed(tmp_path / "kept.bed", scores)
    assert path.read_text().splitlines() == [
        "chr1\t2\t5\tp\t1000\t.\t9.5\t3\t2\t1",
        "chr2\t0\t4\t.\t0\t-",
        "chr2\t9\t16\tthird\t0\t+",
    ]


def test_regions_as_narrowpeak_give_the_windows_by_their_centres(tmp_path):
    regions = [Region("chr1", 100, 107, fields=("chr1", "0", "9")), Region("chr2", -3, 4, "-")]
    rows = write_regions_bed(tmp_path / "kept.narrowPeak", regions, narrowpeak=True).read_text().splitlines()
    assert rows[0].split("\t") == ["chr1", "100", "107", ".", "0", ".", "0", "-1", "-1", "3"]
    for row, region in zip(rows, regions, strict=True):
        columns = row.split("\t")
        assert int(columns[1]) + int(columns[9]) - 7 // 2 == region.start
    with pytest.raises(ValueError, match="no regions, so there is no BED"):
        write_regions_bed(tmp_path / "none.bed", replace(example(), regions=None))


def test_xarray_is_indexed_by_position_letter_and_target():
    pytest.importorskip("xarray")
    scores = example()
    data = to_xarray(scores, rule="mean3")
    assert float(data.differences.sel(sequence=0, position=2, letter="G", target="second")) == 10 + 1 + 2 / 8 + 64
    assert data.differences.dims == ("sequence", "position", "letter", "target")
    np.testing.assert_array_equal(data.sequences.sel(base=data.position), scores.mutated)
    np.testing.assert_array_equal(data.mask, scores.mask)
    wanted = expected_hypothetical(scores, 1, 3)[:, START : START + P]
    np.testing.assert_allclose(data.hypothetical.sel(target="second"), wanted, rtol=1e-6)
    assert list(data.chrom.values) == ["chr1", "chr2", "chrX"]
    assert data.attrs["metric"] == "subtract"
    assert "hypothetical" not in to_xarray(scores)


def test_anndata_has_a_sequence_in_a_row_and_a_substitution_in_a_column(tmp_path):
    anndata = pytest.importorskip("anndata")
    scores = example()
    data = to_anndata(scores, target="second")
    assert data.shape == (3, P * 4)
    assert data[:, "2:G"].X[0, 0] == 10 + 1 + 2 / 8 + 64
    wanted = expected_hypothetical(scores, 1, 4)
    np.testing.assert_allclose(data.layers["hypothetical"].reshape(3, P, 4), wanted[:, START : START + P], rtol=1e-6)
    np.testing.assert_allclose(data.layers["projected"], data.layers["hypothetical"] * scores.mutated.reshape(3, -1))
    np.testing.assert_array_equal(data.obsm["reference"], scores.reference)
    assert list(data.obs["strand"]) == ["+", "-", "."]
    assert json.loads(data.uns["fastism"])["target"] == "second"
    data.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "a.h5ad").X, data.X)


def test_long_table_has_a_row_for_each_substitution():
    pytest.importorskip("pandas")
    scores = example()
    table = to_pandas(scores)
    assert list(table) == "sequence chrom pos strand position ref alt target difference".split()
    assert len(table) == (4 + 4 + 5) * 3 * 2, "no rows at an N, none for the reference letter"
    row = table[(table.sequence == "one") & (table.position == 2) & (table.alt == "G") & (table.target == "second")]
    assert row.iloc[0].to_dict() == {
        "sequence": "one", "chrom": "chr1", "pos": 103, "strand": "+", "position": 2, "ref": "C", "alt": "G",
        "target": "second", "difference": 75.25,
    }  # fmt: skip
    assert (table[table.sequence == "2"].chrom == "chrX").all(), "a region without a name goes by its number"


def test_long_table_on_the_minus_strand():
    pytest.importorskip("pandas")
    scores = example()
    model, genome = (to_pandas(scores, orientation=o).query("chrom == 'chr2'") for o in ("model", "genome"))
    # GGNTTAC on the minus strand of 50-57 is GTAANCC on the plus strand: base 1 of the read is at 0-based 55, a C
    first = genome[(genome.position == 1) & (genome.alt == "A") & (genome.target == "first")].iloc[0]
    assert (first.pos, first.ref, first.difference) == (56, "C", 20 + 0 + 3 / 8), "alt A is the read's T"
    np.testing.assert_array_equal(model.pos, genome.pos)
    np.testing.assert_array_equal(model.difference, genome.difference)
    turned = dict(zip("ACGT", "TGCA", strict=True))
    assert [turned[letter] for letter in model.ref] == list(genome.ref)
    for row in genome.itertuples():
        assert "GTAANCC"[row.pos - 51] == row.ref


def test_long_table_comes_in_batches():
    scores = replace(example(), regions=None)
    batches = list(long_table(scores, batch_size=2))
    assert len(batches) == 2
    assert list(batches[0]) == ["sequence", "position", "ref", "alt", "target", "difference"]
    assert set(batches[1]["sequence"]) == {"2"}


def test_scores_on_disk_leave_the_same_files(tmp_path):
    pytest.importorskip("zarr")
    from fastism.store import open_scores, save_scores

    scores = replace(example(), differences=example().differences.astype(np.float32))
    stored = open_scores(save_scores(tmp_path / "a.zarr", scores))
    for name, one in (("memory", scores), ("disk", stored)):
        write_hdf5(tmp_path / f"{name}.h5", one, layout="both", batch_size=2)
    with h5py.File(tmp_path / "memory.h5") as a, h5py.File(tmp_path / "disk.h5") as b:
        assert set(a) == set(b)
        for path in ("hyp_scores", "input_seqs", "coords_chrom", "coords_start", "shap/seq", "mask"):
            np.testing.assert_array_equal(a[path], b[path])
    assert (tmp_path / "memory_regions.bed").read_text() == (tmp_path / "disk_regions.bed").read_text()


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    from fastism.writers import files

    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(files, "import_module", missing)
    for make in (to_xarray, to_anndata, to_pandas):
        with pytest.raises(ImportError, match=rf'{make.__name__}: .*pip install "fastism\[genome\]"'):
            make(example())
