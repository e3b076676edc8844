"""What all writers share: scores made ready for a file, where they lie in the genome, and what was done to get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from fastism.regions import Region
from fastism.result import ISMScores
from fastism.scores import RULES, attribution, has_letter
from fastism.writers.files import plain

Orientation = Literal["model", "genome"]
#: ``"model"``: every sequence as the model read it; ``"genome"``: those on the minus strand turned to the plus strand.
ORIENTATIONS: tuple[str, ...] = get_args(Orientation)
FLOATS = ("float32", "float64", "float16")
PAIRS = {"A": "TU", "C": "G", "G": "C", "T": "A", "U": "A"}


def fit(values: Any, dtype: str, what: str) -> np.ndarray:
    """Values as another float type, refused when one is too large for it.

    Args:
        values: Any shape. NaN and infinite values stay what they are.
        dtype: ``"float32"``, ``"float64"`` or ``"float16"``. float16 holds 3 digits, nothing beyond 65504 and nothing
            below 6e-8.
        what: What they are, for the message.

    Raises:
        ValueError: If a finite value does not fit.

    Example:
        >>> fit([0.5, -2.0], "float16", "differences")
        array([ 0.5, -2. ], dtype=float16)
    """
    check_dtype(dtype)
    found = np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        cast = found.astype(dtype)
    lost = np.isfinite(found) & ~np.isfinite(cast)
    if lost.any():
        raise ValueError(
            f"The {what} reach {np.abs(found[lost]).max():.4g}, which {dtype} cannot hold (at most "
            f"{np.finfo(dtype).max:.6g}). Use dtype={'float32' if dtype == 'float16' else 'float64'!r}."
        )
    return cast


def check_dtype(dtype: str) -> None:
    """Refuse what is not the name of a float type."""
    if dtype not in FLOATS:
        raise ValueError(f"dtype is {dtype!r}; {', '.join(map(repr, FLOATS))} are accepted.")


@dataclass(frozen=True)
class Ready:
    """Sequences and their attributions for one target, as files hold them.

    Attributes:
        sequences: (n, L, A) int8, one-hot; zeros at an N or a mixture of letters.
        hypothetical: (n, L, A) float, for all letters; 0, never NaN, wherever ``mask`` is False.
        mask: (n, L) boolean: mutated, a letter there, and every difference a finite number.
        reference: (n,) the metric's value for each sequence as it is.
    """

    sequences: np.ndarray
    hypothetical: np.ndarray
    mask: np.ndarray
    reference: np.ndarray

    @property
    def projected(self) -> np.ndarray:
        """(n, L, A) attributions of the letters that are there, 0 for the others."""
        return np.where(self.sequences == 1, self.hypothetical, np.zeros((), self.hypothetical.dtype))


def ready(
    batch: ISMScores, target: int, rule: str, *, dtype: str = "float32", orientation: str = "model", order: bool = True
) -> Ready:
    """Make a batch ready for a file: one-hot sequences, attributions without NaN, and their mask.

    Args:
        batch: Some sequences, in memory.
        target: Index of the target.
        rule: ``"mean4"`` or ``"mean3"``.
        dtype: Float type of the attributions.
        orientation: ``"model"`` or ``"genome"``.
        order: Put the letters of DNA into the order ACGT, which the formats for motif discovery expect.
    """
    letters = has_letter(batch.sequences)  # (n, L)
    sequences = np.where(letters[..., None], batch.sequences, 0).astype(np.int8)
    stretch = slice(batch.start, batch.start + batch.positions)
    delta = batch.direction * np.asarray(batch.differences[..., target])  # (n, P, A)
    delta = delta.astype(np.result_type(delta.dtype, np.float32))  # float16 would lose digits in the sum over letters
    mask = np.zeros(letters.shape, bool)
    mask[:, stretch] = letters[:, stretch] & np.isfinite(delta).all(-1)
    delta = np.where(mask[:, stretch, None], delta, 0)
    room = np.zeros(sequences.shape, dtype)
    found = attribution(sequences[:, stretch], delta, rule=rule, hypothetical=True, mask=mask[:, stretch])
    room[:, stretch] = fit(found, dtype, "attributions")
    if orientation == "genome":
        minus = minus_strand(batch)
        for array in (sequences, room):
            array[minus] = array[minus][:, ::-1][..., complement(batch.alphabet)]
        mask[minus] = mask[minus][:, ::-1]
    if order:
        columns = acgt(batch.alphabet)
        sequences, room = sequences[..., columns], room[..., columns]
    return Ready(sequences, room, mask, fit(batch.reference[:, target], "float32", "reference predictions"))


def acgt(alphabet: str) -> list[int]:
    """Columns of an alphabet in the order ACGT (ACGU); those of another alphabet as they are.

    Example:
        >>> acgt("TGCA"), acgt("ACDEF")
        ([3, 2, 1, 0], [0, 1, 2, 3, 4])
    """
    letters = alphabet.upper()
    wanted = next((w for w in ("ACGT", "ACGU") if sorted(w) == sorted(letters)), letters)
    return [letters.index(letter) for letter in wanted]


def base_order(alphabet: str) -> str:
    """The letters of an alphabet as :func:`acgt` orders them.

    Example:
        >>> base_order("ACTG")
        'ACGT'
    """
    return "".join(alphabet[i] for i in acgt(alphabet))


def complement(alphabet: str) -> list[int]:
    """For each letter of an alphabet the column of its complement.

    Raises:
        ValueError: If the alphabet is not that of DNA or RNA.

    Example:
        >>> complement("ACGT"), complement("ACTG")
        ([3, 2, 1, 0], [2, 3, 0, 1])
    """
    letters = alphabet.upper()
    columns = [[letters.index(other) for other in PAIRS.get(letter, "") if other in letters] for letter in letters]
    if any(len(found) != 1 for found in columns):
        raise ValueError(
            f"The alphabet {alphabet!r} has no complements; A, C, G and T or U are accepted for sequences on the minus "
            'strand. Use orientation="model".'
        )
    return [found[0] for found in columns]


def minus_strand(batch: ISMScores) -> np.ndarray:
    """(n,) which sequences are reverse complements of the genome."""
    return np.array([region.strand == "-" for region in batch.regions or [Region("", 0, 0)] * len(batch)], bool)


def check(
    scores: ISMScores,
    *,
    rule: str | None = None,
    orientation: str = "model",
    dtype: str = "float32",
    batch_size: int = 1,
) -> None:
    """Refuse what no file could be written of.

    Raises:
        TypeError: If ``scores`` is no :class:`ISMScores`.
        ValueError: If another argument is unknown.
    """
    if not isinstance(scores, ISMScores):
        raise TypeError(
            f"scores is of type {type(scores).__name__}; an ISMScores is accepted, such as of open_scores()."
        )
    if rule is not None and rule not in RULES:
        raise ValueError(f"rule is {rule!r}; {' or '.join(map(repr, RULES))} is accepted.")
    check_dtype(dtype)
    if orientation not in ORIENTATIONS:
        raise ValueError(f"orientation is {orientation!r}; {' or '.join(map(repr, ORIENTATIONS))} is accepted.")
    if orientation == "genome" and scores.regions is None:
        raise ValueError('orientation="genome" needs regions with strands; these scores have none. Use "model".')
    if orientation == "genome":
        complement(scores.alphabet)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a number of sequences of 1 or more is accepted.")


def placed(region: Region, length: int) -> Region:
    """The region itself, if it is as long as its sequence.

    Raises:
        ValueError: If not: its positions could not be told.
    """
    if len(region) != length:
        raise ValueError(
            f"The region {region} has {len(region)} positions and its sequence {length}; regions as long as the "
            "model's input are accepted."
        )
    return region


def mutated_positions(region: Region, scores: ISMScores) -> np.ndarray:
    """(P,) where the mutated positions of a sequence lie on the chromosome, 0-based, in the sequence's order.

    Example:
        >>> one = ISMScores(np.zeros((1, 5, 4)), np.zeros((1, 2, 4, 1)), np.zeros((1, 1)), start=1)
        >>> mutated_positions(Region("chr1", 10, 15), one), mutated_positions(Region("chr1", 10, 15, "-"), one)
        (array([11, 12]), array([13, 12]))
    """
    placed(region, scores.length)
    within = scores.start + np.arange(scores.positions)
    return region.end - 1 - within if region.strand == "-" else region.start + within


def metadata(scores: ISMScores, **more: Any) -> dict[str, Any]:
    """What a file says about how its numbers came about, as JSON can hold it.

    Args:
        scores: Their ``attributes`` are taken over, such as ``formula``, the metric's.
        more: What the writer adds, such as ``axes``. A ``rule`` is written out as ``attribution_formula``.
    """
    from fastism import __version__  # here, because the package imports us first

    asked = dict.fromkeys(("metric", "model", "model_hash", "fastism", "precision", "seed"))
    shape = {"length": scores.length, "start": scores.start, "positions": scores.positions}
    signed = scores.direction > 0
    sign = "d = alternative - reference" if signed else "d has no sign: how far the alternative is from the reference"
    sums = {"mean4": "S/A", "mean3": "S/(A-1)"}.get(more.get("rule", ""))
    rule = f"d - {sums}" if signed else f"{sums} - d"  # of distances, attributions are those of -d
    where = "regions 0-based, half-open; position 0 of a region on the minus strand is at end - 1"
    return plain(
        {
            **asked,
            "written_by": f"fastism {__version__}",
            "targets": list(scores.targets),
            "alphabet": scores.alphabet,
            **shape,
            "sign": sign,
            **({"attribution_formula": f"{rule}, S the sum of d over A letters"} if sums else {}),
            **({"coordinates": where} if scores.regions is not None else {}),
            **scores.attributes,
            **more,
        }
    )


def about_attributions(scores: ISMScores, index: int, rule: str, **more: Any) -> dict[str, Any]:
    """:func:`metadata` of a file of attributions for one target, given by its index."""
    return metadata(scores, target=scores.targets[index], target_index=index, rule=rule, **more)
