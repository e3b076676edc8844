"""How many variants in a chunk are fastest, found on the chunks of the work itself. Knows no layer type."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

#: Share of the time that another size can be hoped to save; a size that saves less than half of it is not taken.
HOPE = 0.2
#: Chunks of each size that are timed, after a first one that is not.
SAMPLES = 3


class Tuner:
    """Proposes a size for every next chunk, and is told what it took.

    It begins with one size, then tries half of the best and twice the best as long as that is better. A new size costs
    compiling, so it is tried only when the work done so far, or the work left, is long enough to earn that back.

    Args:
        start: Variants in the first chunks.
        least, most: Bounds of the sizes.

    Attributes:
        best: The fastest size so far.
    """

    def __init__(self, start: int, least: int, most: int):
        self.best, self.least, self.most = start, least, most
        self._trial: int | None = None
        self._first: dict[int, float] = {}
        self._times: dict[int, list[float]] = defaultdict(list)
        self._spent = 0.0

    def propose(self, left: int) -> int:
        """The size for the next chunk, where ``left`` variants are still to be done."""
        if self._trial is None and len(self._times[self.best]) >= SAMPLES:
            self._trial = self._next(left)
        return self.best if self._trial is None else self._trial

    def note(self, size: int, variants: int, seconds: float) -> None:
        """A chunk of a size took some time, for as many variants as it held."""
        self._spent += seconds
        if size not in self._first:
            self._first[size] = seconds
            return
        if len(self._times[size]) < SAMPLES:
            self._times[size].append(seconds / max(variants, 1))
        if size == self._trial and len(self._times[size]) >= SAMPLES:
            if self._rate(size) < (1 - HOPE / 2) * self._rate(self.best):
                self.best = size
            self._trial = None

    def limit(self, most: int) -> None:
        """Chunks of more than ``most`` variants do not fit into memory."""
        self.most, self.least = min(self.most, most), min(self.least, most)
        self.best, self._trial = min(self.best, most), None

    def _next(self, left: int) -> int | None:
        """A size to try, if one is left and worth it."""
        known = [s for s, times in self._times.items() if len(times) >= SAMPLES]
        sizes = (max(self.best // 2, self.least), min(self.best * 2, self.most))
        size = next((s for s in sizes if not any(0.75 < s / k < 1.5 for k in known)), None)
        rate = self._rate(self.best)
        compiling = self._first.get(self.best, 0.0) - rate * self.best
        return size if HOPE * max(self._spent, rate * left) > compiling else None

    def _rate(self, size: int) -> float:
        """Seconds for each variant."""
        return median(self._times[size])
