"""What each kind of mutation writes into a sequence. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fastism.mutations import Edits

Side = Literal["left", "right"]


def blocks(x: np.ndarray, starts: np.ndarray, contents: np.ndarray) -> Edits:
    """Each of K contents over each of P blocks of one width.

    Args:
        x: (N, L, A) sequences.
        starts: (P,) where blocks begin.
        contents: (K, W, A).

    Returns:
        Edits whose cells index (N, P, K).
    """
    n, p, k = len(x), len(starts), len(contents)
    sequence, place, content = (i.ravel() for i in np.indices((n, p, k)))
    return Edits(sequence, starts[place], content, np.arange(n * p * k), contents.astype(x.dtype))


def replicates(x: np.ndarray, starts: np.ndarray, contents: np.ndarray) -> Edits:
    """Contents of their own for every sequence, block and replicate.

    Args:
        x: (N, L, A) sequences.
        starts: (P,) where blocks begin.
        contents: (N, P, R, W, A).

    Returns:
        Edits whose cells index (N, P, R).
    """
    n, p, r = contents.shape[:3]
    sequence, place, _ = (i.ravel() for i in np.indices((n, p, r)))
    every = np.arange(n * p * r)
    return Edits(sequence, starts[place], every, every, contents.reshape(-1, *contents.shape[3:]))


# ---------------------------------------------------------------------- shuffles and random letters


def shuffled(x: np.ndarray, first: int, starts: np.ndarray, width: int, k: int, count: int, seed: int) -> np.ndarray:
    """Blocks in random order that keeps the number of every k-mer.

    The draws of a block depend on the seed, its sequence and its start alone, so a part of a job is that part of its
    result. Anything that a position may hold is a letter: an N stays an N and moves.

    Args:
        x: (N, L, A) sequences.
        first: Number of the first of them in the whole job.
        starts: (P,) where blocks begin.
        width: W.
        k: 1 keeps single letters, 2 neighbours too.
        count: R shuffles of each block.
        seed: Of the random numbers.

    Returns:
        (N, P, R, W, A).
    """
    out = np.empty((len(x), len(starts), count, width, x.shape[2]), x.dtype)
    for n, sequence in enumerate(x):
        _, letters = np.unique(sequence, axis=0, return_inverse=True)
        letters = letters.reshape(-1)
        for p, start in enumerate(starts):
            rng = np.random.default_rng([seed, first + n, int(start)])
            block = letters[start : start + width]
            for r in range(count):
                order = rng.permutation(width) if k == 1 else euler_shuffle(block, k, rng)
                out[n, p, r] = sequence[start + order]
    return out


def euler_shuffle(letters: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """A new order of a sequence that keeps the number of every k-mer; all such sequences are equally likely.

    A sequence is a walk over its (k-1)-mers. A random tree of last steps, towards the (k-1)-mer at the end, makes any
    order of the other steps a walk over all of them (Altschul and Erickson, 1985; the tree by Wilson's walks, 1996).

    Args:
        letters: (W,) small integers.
        k: At least 2.
        rng: Random numbers.

    Returns:
        (W,) positions of ``letters``, in their new order.
    """
    width = len(letters)
    if width <= k:
        return np.arange(width)
    words = np.lib.stride_tricks.sliding_window_view(letters, k - 1)
    _, node = np.unique(words, axis=0, return_inverse=True)
    node = node.reshape(-1)  # (W - k + 2,) the walk
    steps: list[list[int]] = [[] for _ in range(int(node.max()) + 1)]
    for i, n in enumerate(node[:-1]):
        steps[n].append(i)  # step i leads to node[i + 1], and adds letter i + k - 1
    last = _tree(node, steps, rng)
    queues = []
    for n, own in enumerate(steps):
        rest = [i for i in own if i != last[n]]
        rng.shuffle(rest)
        queues.append([*rest, last[n]] if last[n] >= 0 else rest)
    order, at, used = list(range(k - 1)), int(node[0]), [0] * len(steps)
    for _ in range(len(node) - 1):
        i = queues[at][used[at]]
        used[at] += 1
        order.append(i + k - 1)
        at = int(node[i + 1])
    return np.array(order)


def _tree(node: np.ndarray, steps: Sequence[Sequence[int]], rng: np.random.Generator) -> list[int]:
    """For every (k-1)-mer but the final one its last step, so that all lead to the final one; else -1."""
    root = int(node[-1])
    last, done = [-1] * len(steps), [False] * len(steps)
    done[root] = True
    for begin in range(len(steps)):
        at = begin
        while not done[at]:  # a random walk; steps that are walked again are forgotten
            last[at] = steps[at][int(rng.integers(len(steps[at])))]
            at = int(node[last[at] + 1])
        at = begin
        while not done[at]:
            done[at] = True
            at = int(node[last[at] + 1])
    return last


def random_letters(
    x: np.ndarray, first: int, starts: np.ndarray, width: int, shares: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Blocks of random letters, drawn like :func:`shuffled` draws.

    Args:
        x, first, starts, width, count, seed: As there.
        shares: (A,) how likely each letter is.

    Returns:
        (N, P, R, W, A) one-hot.
    """
    out = np.empty((len(x), len(starts), count, width, x.shape[2]), x.dtype)
    letters = np.eye(x.shape[2], dtype=x.dtype)
    for n in range(len(x)):
        for p, start in enumerate(starts):
            rng = np.random.default_rng([seed, first + n, int(start)])
            out[n, p] = letters[rng.choice(len(shares), size=(count, width), p=shares)]
    return out


# ---------------------------------------------------------------------- changes of length


class Change(NamedTuple):
    """What replaces a stretch of a sequence.

    Attributes:
        sequence: Which sequence.
        start, end: The stretch, 0-based and half-open; empty to insert before ``start``.
        content: (W, A) letters instead; none to delete.
    """

    sequence: int
    start: int
    end: int
    content: np.ndarray


def changed(sequence: np.ndarray, change: Change, side: str, flank: np.ndarray | None) -> np.ndarray:
    """A sequence with a change, as long as before.

    Args:
        sequence: (L, A).
        change: Its sequence number is not looked at.
        side: Which side moves. ``"right"``: what stands left of the change stays where it is; letters come in at the
            right end, or fall off there. ``"left"``: the mirror image.
        flank: (F, A) the letters that follow the sequence on the right, or precede it on the left; None for zeros.

    Returns:
        (L, A).
    """
    length = len(sequence)
    left, right = sequence[: change.start], sequence[change.end :]
    missing = max(0, change.end - change.start - len(change.content))
    if flank is None:
        flank = np.zeros((missing, sequence.shape[1]), sequence.dtype)
    if side == "right":
        return np.concatenate([left, change.content, right, flank[:missing]])[:length]
    return np.concatenate([flank[len(flank) - missing :], left, change.content, right])[-length:]


class Stretch(NamedTuple):
    """Variants that can be treated as edits of one width.

    Attributes:
        rows: (V,) which of the alternatives.
        start: (V,) first edited position.
        contents: (V, W, A) what is written there.
    """

    rows: np.ndarray
    start: np.ndarray
    contents: np.ndarray


def stretches(
    reference: np.ndarray, alternative: np.ndarray, widest: int, few: int = 32
) -> tuple[list[Stretch], np.ndarray]:
    """Sort alternatives by how long the stretch is in which they differ.

    Args:
        reference, alternative: (V, L, A).
        widest: Positions beyond which a sequence is better predicted whole.
        few: Groups of fewer than these join the next wider group, if there is one.

    Returns:
        Groups whose widths are powers of two; and which alternatives are longer than ``widest``. Those that differ
        nowhere are in neither.
    """
    length = reference.shape[1]
    differs = (reference != alternative).any(-1)
    rows = np.flatnonzero(differs.any(-1))
    begin = differs.argmax(-1)[rows]
    end = length - differs[:, ::-1].argmax(-1)[rows]
    width = 1 << np.ceil(np.log2(np.maximum(end - begin, 1))).astype(int)
    whole = width > widest
    found, kept = [], np.zeros(len(rows), dtype=bool)
    sizes = sorted(set(width[~whole].tolist()))
    for size in sizes:
        kept |= width == size
        if kept.sum() < few and size != sizes[-1]:
            continue
        start = np.minimum(begin[kept], length - size)
        at = start[:, None] + np.arange(size)
        found.append(Stretch(rows[kept], start, alternative[rows[kept][:, None], at]))
        kept[:] = False
    return found, rows[whole]


def pieces(count: int, bytes_each: int, most: int = 128 << 20) -> Iterator[slice]:
    """Slices of ``count`` things, each of no more than ``most`` bytes."""
    size = max(1, most // max(bytes_each, 1))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
