"""How large a chunk is fastest, found on the chunks of the work itself. Knows no layer type."""

from __future__ import annotations

import threading
from collections import defaultdict

#: Share of the time that another size can be hoped to save, and that it must save to be taken.
HOPE = 0.1
#: Chunks of each size that are timed.
SAMPLES = 5
#: Chunks of one size in turn where two run at a time: the first and the last have one of another size beside them.
RUN = 5


class Tuner:
    """Proposes a size for every next chunk, and is told what it took.

    It begins with one size, then tries half of the best and twice the best as long as that is better. A new size costs
    compiling, so it is tried only when the work done so far, or the work left, is long enough to earn that back. It
    takes turns with the best so far, so that a busy moment hits both alike. Sizes and work are counted in the same
    unit, groups of variants.

    Args:
        start: Size of the first chunks.
        least, most: Bounds of the sizes.
        run: Chunks of one size before it is the other's turn.

    Attributes:
        best: The fastest size so far.
    """

    def __init__(self, start: int, least: int, most: int, *, run: int = 1):
        self.best, self.least, self.most = start, least, most
        self._trial: int | None = None
        self._run, self._turn = run, 0
        self._compiling = 0.0
        self._times: dict[int, list[float]] = defaultdict(list)
        self._spent = 0.0
        self._lock = threading.Lock()

    def propose(self, left: int) -> int:
        """The size for the next chunk, where ``left`` is still to be done; 0 where nothing is told of what it takes."""
        with self._lock:
            if self._trial is None and len(self._times[self.best]) >= SAMPLES:
                self._trial, self._turn = self._next(left), 0
                if self._trial is not None:
                    self._times[self.best].clear()
            if self._trial is None or left <= 0:
                return self.best
            self._turn += 1
            return self.best if (self._turn - 1) // self._run % 2 else self._trial

    def note(self, size: int, seconds: float, *, fresh: bool = False) -> None:
        """A chunk of a size took some time; if it was ``fresh``, with compiling."""
        with self._lock:
            if fresh:
                self._compiling = max(self._compiling, seconds)
                return
            self._spent += seconds
            if len(self._times[size]) < SAMPLES:
                self._times[size].append(seconds / size)
            trial, best = self._trial, self.best
            if trial is not None and min(len(self._times[trial]), len(self._times[best])) >= SAMPLES:
                if self._rate(trial) < (1 - HOPE) * self._rate(best):
                    self.best = trial
                self._trial = None

    def earns(self, saved: float, left: int, compiled: int) -> bool:
        """Whether saving a share of the time of the work done so far, or left, pays for compiling so many functions."""
        with self._lock:
            work = max(self._spent, self._rate(self.best) * left)
            return self._spent > 0 and saved * work > compiled * self._compiling

    def worked(self, seconds: float) -> None:
        """Count work that was not noted chunk by chunk: what costs compiling is worth it from then on, or sooner."""
        with self._lock:
            self._spent += seconds

    def limit(self, most: int) -> None:
        """Chunks of more than ``most`` do not fit into memory."""
        with self._lock:
            self.most, self.least = min(self.most, most), min(self.least, most)
            self.best, self._trial = min(self.best, most), None

    def _next(self, left: int) -> int | None:
        """A size to try, if one is left and worth it."""
        known = [s for s, times in self._times.items() if len(times) >= SAMPLES]
        sizes = (max(self.best // 2, self.least), min(self.best * 2, self.most))
        size = next((s for s in sizes if not any(0.75 < s / k < 1.5 for k in known)), None)
        each = -(-SAMPLES // max(self._run - 2, 1)) * self._run
        if size is None or left <= each * (size + self.best):
            return None
        return size if HOPE * max(self._spent, self._rate(self.best) * left) > self._compiling else None

    def _rate(self, size: int) -> float:
        """Seconds for each group, at best: what else a machine does makes a chunk slower, never quicker."""
        return min(self._times[size], default=0.0)
