"""Text to one-hot arrays and back, and reverse complements of either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np

from fastism.scores import has_letter

#: Amino acids, the alphabet of protein models, in alphabetical order of their letters.
PROTEIN = "ACDEFGHIKLMNPQRSTVWY"

_AMBIGUOUS_BASES = "NRYSWKMBDHV"
_AMBIGUOUS_AMINO_ACIDS = "BJOUXZ"
_INVALID, _UNKNOWN = -2, -1
_COMPLEMENT = dict(zip("ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN", strict=True))
_TO_DNA = str.maketrans({**_COMPLEMENT, **{k.lower(): v.lower() for k, v in _COMPLEMENT.items()}})
_TO_RNA = {**_TO_DNA, ord("A"): "U", ord("a"): "u"}


def one_hot(
    sequences: str | Iterable[str],
    *,
    alphabet: str = "ACGT",
    unknown: float = 0.0,
    dtype: Any = np.float32,
    names: str | Sequence[str] | None = None,
) -> np.ndarray:
    """One-hot encode a sequence, or several of one length.

    Upper and lower case are equal. With bases for an alphabet, U and T are equal, and N and the other letters that
    IUPAC defines for "one of several bases" (R, Y, S, W, K, M, B, D, H, V) become rows of ``unknown``; with amino
    acids, those are B, J, O, U, X and Z. A letter that the alphabet holds itself always has a column of its own.

    Args:
        sequences: A text, or several.
        alphabet: The A letters in the order of the columns: ``"ACGT"``, :data:`PROTEIN`, or letters of your own.
        unknown: What stands in all columns where the letter is not known: 0, or 0.25 for equal shares of four.
        dtype: NumPy type of the array.
        names: What an error calls the text, or each of several texts. Where there is no name, texts are counted.

    Returns:
        (L, A) for one text, (N, L, A) for several.

    Raises:
        ValueError: If a text holds another character, lengths differ, or ``dtype`` cannot hold ``unknown``.

    Example:
        >>> one_hot("aCN")
        array([[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 0., 0.]], dtype=float32)
        >>> one_hot(["AC", "GT"]).shape
        (2, 2, 4)
    """
    codes, letters, dtype = _codes(alphabet), len(alphabet), np.dtype(dtype)
    rows = np.zeros((letters + 2, letters), dtype)  # the last two, reached as -1 and -2: unknown, and invalid
    rows[:letters] = np.eye(letters)
    rows[_UNKNOWN] = unknown
    if not np.allclose(rows[_UNKNOWN].astype(float), unknown, atol=1e-3):
        raise ValueError(f"unknown={unknown!r} cannot be held by {dtype}; give dtype='float32', or unknown=0.")
    if isinstance(sequences, str):
        name = names if isinstance(names, str) else next(iter(names or ()), "")
        return rows[_read(sequences, codes, alphabet, f" of {name}" if name else "")]
    texts = list(sequences)
    called = [names] if isinstance(names, str) else list(names or ())
    if called and len(called) != len(texts):
        raise ValueError(f"There are {len(called)} names for {len(texts)} sequences; one for each is accepted.")
    length = len(texts[0]) if texts else 0
    found = np.empty((len(texts), length, letters), dtype)
    for i, text in enumerate(texts):
        if len(text) != length:
            raise ValueError(
                f"Sequence {i} has {len(text)} letters and sequence 0 has {length}; sequences of one length are "
                "accepted. Cut or pad them to one length, or encode them one at a time."
            )
        name = called[i] if called and called[i] else f"sequence {i}"
        found[i] = rows[_read(text, codes, alphabet, f" of {name}")]
    return found


def decode(x: Any, *, alphabet: str = "ACGT") -> Any:
    """The text of a one-hot array: the opposite of :func:`one_hot`.

    Args:
        x: (L, A), or (N, L, A).
        alphabet: The A letters in the order of the columns.

    Returns:
        A text, or a list of N. Where a row is not one-hot it has N (X, where the alphabet is not one of bases).

    Raises:
        ValueError: If the shape does not fit the alphabet.

    Example:
        >>> decode([[0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]])
        'TN'
    """
    array = np.asarray(x)
    _codes(alphabet)
    if array.ndim not in (2, 3) or array.shape[-1] != len(alphabet):
        raise ValueError(
            f"x has shape {array.shape}; (L, {len(alphabet)}) or (N, L, {len(alphabet)}) is accepted for the alphabet "
            f"{alphabet!r}. Sequences with letters before positions need np.swapaxes(x, -1, -2) first."
        )
    letters = np.frombuffer((alphabet + ("N" if _of_bases(alphabet) else "X")).encode("ascii"), np.uint8)
    text = letters[np.where(has_letter(array), array.argmax(-1), len(alphabet))]
    return text.tobytes().decode("ascii") if array.ndim == 2 else [row.tobytes().decode("ascii") for row in text]


@overload
def reverse_complement(x: str, *, alphabet: str = ...) -> str: ...
@overload
def reverse_complement(x: Any, *, alphabet: str = ...) -> Any: ...
def reverse_complement(x: Any, *, alphabet: str = "ACGT") -> Any:
    """The other strand, read in its own direction.

    Args:
        x: A text, or an array (..., L, 4) of anything that belongs to bases: one-hot, differences, attributions. In a
            text the case is kept, IUPAC letters become those of the complement, other characters stay as they are;
            the complement of A is U where the text has a U and no T.
        alphabet: For an array, the four bases in the order of the columns.

    Returns:
        A text, or a view of the array in which positions and bases are turned round.

    Raises:
        ValueError: If the array's last axis is not the alphabet, or the alphabet is not four bases.

    Example:
        >>> reverse_complement("AACgn")
        'ncGTT'
        >>> decode(reverse_complement(one_hot("AACG")))
        'CGTT'
    """
    if isinstance(x, str):
        letters = set(x.upper())
        return x.translate(_TO_RNA if "U" in letters and "T" not in letters else _TO_DNA)[::-1]
    array = np.asarray(x)
    if sorted(alphabet.replace("U", "T")) != list("ACGT"):
        raise ValueError(f"alphabet is {alphabet!r}; the four bases, in any order, are accepted: others do not pair.")
    if array.ndim < 2 or array.shape[-1] != 4:
        raise ValueError(f"x has shape {array.shape}; a text or an array (..., L, 4) is accepted.")
    bases = alphabet.replace("U", "T")
    if bases[::-1].translate(_TO_DNA) == bases:  # as in ACGT, the pairs mirror each other: a view will do
        return array[..., ::-1, ::-1]
    return array[..., ::-1, :][..., [bases.index(_COMPLEMENT[base]) for base in bases]]


def _of_bases(alphabet: str) -> bool:
    return set(alphabet) <= set("ACGTU" + _AMBIGUOUS_BASES + "-.*")


def _codes(alphabet: str) -> np.ndarray:
    """(256,) the column of each character, or -1 for one that is known to be unknown, or -2."""
    if not alphabet or len(set(alphabet)) != len(alphabet) or not alphabet.isascii() or alphabet != alphabet.upper():
        raise ValueError(f"alphabet is {alphabet!r}; different capital letters such as 'ACGT' are accepted.")
    meaning = {}
    if _of_bases(alphabet):
        meaning.update(dict.fromkeys(_AMBIGUOUS_BASES, _UNKNOWN))
        if "T" in alphabet or "U" in alphabet:
            meaning.update(dict.fromkeys("TU", alphabet.index("T" if "T" in alphabet else "U")))
    else:
        meaning.update(dict.fromkeys(_AMBIGUOUS_AMINO_ACIDS, _UNKNOWN))
    meaning.update({letter: i for i, letter in enumerate(alphabet)})
    codes = np.full(256, _INVALID)
    for letter, code in meaning.items():
        codes[[ord(letter), ord(letter.lower())]] = code
    return codes


def _read(text: str, codes: np.ndarray, alphabet: str, where: str) -> np.ndarray:
    """(L,) the column of each character of a text."""
    # one byte for each character, so that positions stay; a character beyond Latin-1 becomes "?", which is invalid
    found = codes[np.frombuffer(text.encode("latin-1", "replace"), np.uint8)]
    wrong = np.flatnonzero(found == _INVALID)
    if len(wrong):
        first = int(wrong[0])
        also = "".join(chr(i) for i in np.flatnonzero(codes == _UNKNOWN) if chr(i).isupper())
        raise ValueError(
            f"Position {first}{where} (counted from 0) is {text[first]!r}; {alphabet} are accepted"
            + (f", and {also} as letters that are not known" if also else "")
            + ", in either case. Remove or replace other characters, such as gaps, first."
        )
    return found
