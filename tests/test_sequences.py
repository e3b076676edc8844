"""Text to arrays and back: letters, letters that are not known, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastism.sequences import PROTEIN, decode, one_hot, reverse_complement


def test_each_base_has_its_column_in_the_order_acgt():
    np.testing.assert_array_equal(one_hot("ACGT"), np.eye(4))
    assert one_hot("ACGT").dtype == np.float32


def test_lower_case_is_equal_to_upper_case():
    np.testing.assert_array_equal(one_hot("acgtun"), one_hot("ACGTUN"))


def test_u_is_t_and_t_is_u():
    np.testing.assert_array_equal(one_hot("ACGU"), np.eye(4))
    np.testing.assert_array_equal(one_hot("ACGT", alphabet="ACGU"), np.eye(4))


@pytest.mark.parametrize("letter", "NRYSWKMBDHVnryswkmbdhv")
@pytest.mark.parametrize("unknown", [0.0, 0.25])
def test_iupac_letters_are_rows_of_unknown(letter, unknown):
    x = one_hot(f"A{letter}T", unknown=unknown)
    np.testing.assert_array_equal(x[1], [unknown] * 4)
    np.testing.assert_array_equal(x[[0, 2]], np.eye(4)[[0, 3]])
    assert decode(x) == "ANT"


@pytest.mark.parametrize("text", ["NACGT", "ACNGT", "NNNNN"])
def test_an_n_first_or_inside_leaves_the_other_letters_alone(text):
    x = one_hot(text)
    for row, letter in zip(x, text, strict=True):
        assert row.tolist() == [float(letter == base) for base in "ACGT"]


def test_several_texts_make_a_batch():
    x = one_hot(["AC", "gn"])
    assert x.shape == (2, 2, 4)
    np.testing.assert_array_equal(x[0], one_hot("AC"))
    np.testing.assert_array_equal(x[1], one_hot("GN"))
    np.testing.assert_array_equal(one_hot(iter(["AC", "gn"])), x)
    assert one_hot(["AC"]).shape == (1, 2, 4)
    assert one_hot([]).shape == (0, 0, 4)
    assert one_hot("").shape == (0, 4)


@pytest.mark.parametrize(("text", "position", "shown"), [("AC-G", 2, "'-'"), ("*ACG", 0, "'*'"), ("ACéG", 2, "'é'")])
def test_another_character_is_named_with_its_position(text, position, shown):
    with pytest.raises(ValueError, match=rf"Position {position} \(counted from 0\) is .* ACGT are accepted") as caught:
        one_hot(text)
    assert shown in str(caught.value)


def test_another_character_is_named_with_its_sequence():
    with pytest.raises(ValueError, match=r"Position 1 of second \(counted from 0\) is '-'"):
        one_hot(["AA", "C-"], names=["first", "second"])
    with pytest.raises(ValueError, match=r"Position 1 of sequence 1 \(counted from 0\) is '-'"):
        one_hot(["AA", "C-"], names=["first", ""])
    for names in ("alone", ["alone"]):
        with pytest.raises(ValueError, match="Position 0 of alone "):
            one_hot("-A", names=names)
    with pytest.raises(ValueError, match="There are 1 names for 2 sequences; one for each is accepted"):
        one_hot(["AA", "CC"], names=["first"])


def test_a_character_beyond_latin_1_is_refused_at_its_place():
    with pytest.raises(ValueError, match="Position 1 of sequence 1 .* is '→'"):
        one_hot(["AAA", "A→C"])


def test_texts_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="Sequence 1 has 2 letters and sequence 0 has 3.*Cut or pad"):
        one_hot(["ACG", "AC"])


def test_a_type_that_cannot_hold_unknown_is_refused():
    with pytest.raises(ValueError, match=r"unknown=0.25 cannot be held by int8"):
        one_hot("ACN", unknown=0.25, dtype=np.int8)
    assert one_hot("ACN", dtype=np.int8).dtype == np.int8
    assert one_hot("N", unknown=0.25, dtype=np.float16).tolist() == [[0.25] * 4]


def test_proteins():
    np.testing.assert_array_equal(one_hot(PROTEIN, alphabet=PROTEIN), np.eye(20))
    x = one_hot("MkXB", alphabet=PROTEIN)
    np.testing.assert_array_equal(x.sum(-1), [1, 1, 0, 0])
    assert decode(x, alphabet=PROTEIN) == "MKXX"
    assert decode(one_hot("RYN", alphabet=PROTEIN), alphabet=PROTEIN) == "RYN", "these are amino acids here"
    with pytest.raises(ValueError, match=r"Position 1 .* is '\*'; ACDEFGHIKLMNPQRSTVWY are .* BJOUXZ as letters"):
        one_hot("M*", alphabet=PROTEIN)


def test_a_letter_of_the_alphabet_has_a_column_of_its_own():
    assert one_hot("N-", alphabet="ACGTN-").argmax(-1).tolist() == [4, 5]


@pytest.mark.parametrize("alphabet", ["", "AACG", "acgt", "ACGÄ"])
def test_an_alphabet_of_other_things_is_refused(alphabet):
    with pytest.raises(ValueError, match="alphabet is .*; different capital letters"):
        one_hot("A", alphabet=alphabet)


def test_decode_gives_one_text_or_a_list():
    assert decode(np.eye(4)) == "ACGT"
    assert decode(np.stack([np.eye(4), np.eye(4)[::-1]])) == ["ACGT", "TGCA"]
    assert decode([[0, 1, 0, 0], [0, 0.9, 0.1, 0], [1, 1, 0, 0]]) == "CNN"


def test_decode_refuses_letters_before_positions():
    with pytest.raises(ValueError, match=r"x has shape \(4, 10\).*swapaxes"):
        decode(np.zeros((4, 10)))


@given(st.text("ACGTN"))
def test_decode_is_the_opposite_of_one_hot(text):
    assert decode(one_hot(text)) == text
    assert decode(one_hot(text.lower(), unknown=0.25)) == text


@given(st.text("ACGTNacgtn"))
def test_reverse_complement_of_text_and_array_agree(text):
    np.testing.assert_array_equal(reverse_complement(one_hot(text)), one_hot(reverse_complement(text)))
    assert reverse_complement(reverse_complement(text)) == text


def test_reverse_complement_of_text_by_hand():
    assert reverse_complement("AACGTn-") == "-nACGTT"
    assert reverse_complement("RYSWKMBDHVN"[::-1]) == "YRSWMKVHDBN"
    assert reverse_complement("AACU") == "AGUU"


def test_reverse_complement_of_arrays_of_any_rank_and_order_of_bases():
    x = one_hot(["AACG", "TTNC"])
    np.testing.assert_array_equal(reverse_complement(x), one_hot(["CGTT", "GNAA"]))
    np.testing.assert_array_equal(reverse_complement(x[None]), one_hot(["CGTT", "GNAA"])[None])
    other = one_hot("AACG", alphabet="AGCT")
    assert decode(reverse_complement(other, alphabet="AGCT"), alphabet="AGCT") == "CGTT"
    mixed = one_hot("AACG", alphabet="ATCG")
    assert decode(reverse_complement(mixed, alphabet="ATCG"), alphabet="ATCG") == "CGTT"


def test_reverse_complement_refuses_what_has_no_bases():
    with pytest.raises(ValueError, match=r"x has shape \(4, 10\).*\(\.\.\., L, 4\)"):
        reverse_complement(np.zeros((4, 10)))
    with pytest.raises(ValueError, match="four bases, in any order"):
        reverse_complement(np.zeros((3, 20)), alphabet=PROTEIN)
