"""The chunks of a batch of sequences: started, fetched, written. Knows no layer type."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastism import answers, backend
from fastism.compiled import Functions, Shape, Stretch
from fastism.functions import Cache
from fastism.mutations import Edits, Groups
from fastism.sizing import Sizing


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences that are cached at once, and their edits within a stretch.

    Attributes:
        inputs: One array (N, ...) for each of the model's inputs.
        edits, groups: What is changed in the mutated one.
        stretch: Edit starts of the plan that runs them; None for all.
        notes: Whether the time that these take tells how many should be in a chunk.
        cache: What the reference pass left.
        out: The arrays to write into.
        compact: Whether these hold windows only.
    """

    inputs: list[np.ndarray]
    edits: Edits
    groups: Groups
    stretch: Stretch | None
    notes: bool
    cache: Cache
    out: list[np.ndarray]
    compact: bool


@dataclass(frozen=True, eq=False)
class _Sent:
    """A chunk that is under way.

    Attributes:
        shape: Its sizes.
        wanted: How many groups were asked for.
        begin: Its first group.
        edit, start: Which edits it holds, -1 for none, and where they begin.
        answers: Tensors of the backend; where it runs in a thread, their future, and the seconds that it takes there.
        compiled: Whether it ran a function that had been compiled before.
        seconds: What starting it took.
    """

    shape: Shape
    wanted: int
    begin: int
    edit: np.ndarray
    start: np.ndarray
    answers: Any
    compiled: bool
    seconds: float

    @property
    def threaded(self) -> bool:
        """Whether it runs in a thread."""
        return isinstance(self.answers, Future)


class Chunks:
    """Runs the edits of a batch in chunks; two at a time where that is quicker.

    A chunk that does not fit into memory is begun anew in smaller ones.

    Args:
        functions: What runs a chunk.
        sizing: Says how large chunks are, and is told what they take.
        batch: Whose edits are run.
        progress: Called with the number of variants done since the last call.
    """

    def __init__(
        self, functions: Functions, sizing: Sizing, batch: Batch, progress: Callable[[int], Any] | None = None
    ):
        self.functions, self.plans, self.sizing = functions, functions.plans, sizing
        self.batch, self.progress = batch, progress
        self._begin = 0  # the first group that was not sent
        self._shapes: dict[int, Shape] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._clock, self._before = 0.0, 0

    def run(self) -> None:
        """Run all; where calls return at once, each is under way while the one before is fetched and written."""
        together = self.functions.mode == backend.XLA and backend.runs_two_at_once()
        ahead, self._clock = together or backend.is_asynchronous(), time.perf_counter()
        self._pool, pending, sent = _pool(os.getpid()) if together else None, None, None
        try:
            while self._begin < len(self.batch.groups) or pending is not None:
                sent = self._send(first=pending is None)
                due = pending if ahead else sent
                if due is not None and not self._receive(due, sent):
                    sent = None
                pending = sent if ahead else None
        finally:  # where that failed, nothing goes on behind the back of who is told
            wait(chunk.answers for chunk in (pending, sent) if chunk is not None and chunk.threaded)

    def _send(self, *, first: bool) -> _Sent | None:
        """Start the next chunk; None where none is left, or it does not fit into memory.

        Args:
            first: Whether no other is under way.
        """
        batch, left = self.batch, len(self.batch.groups) - self._begin
        if left <= 0:
            return None
        width, members = batch.edits.width, batch.groups.members
        wanted = self.sizing.groups_in_chunk(width, members, left if batch.notes else 0)
        shape = self._shape(wanted, left)
        alone = first and shape.groups >= left
        try:
            sent = self._started(shape, wanted, None if alone else self._pool)
        except Exception as error:
            self._smaller(shape, error)
            return None
        self._begin += shape.groups
        return sent

    def _receive(self, chunk: _Sent, latest: _Sent | None) -> bool:
        """Fetch and write a chunk, and say what it took; where it did not fit into memory, all from it on is undone.

        Args:
            chunk: The first of those under way.
            latest: The one that was just sent, if any.
        """
        beside = latest is not None and latest.threaded
        try:
            done, took = self._received(chunk)
        except Exception as error:
            self._smaller(chunk.shape, error)
            if latest is not None and beside:
                latest.answers.exception()  # wait until it lets go of its memory
            self._begin = chunk.begin
            return False
        now = time.perf_counter()
        seconds = now - self._clock
        if took is not None:  # of two at a time, each takes twice as long, and more beside one that fills the cache
            alike = latest is not None and self._before == chunk.wanted == latest.wanted
            seconds = took / 2 if beside and alike else None
        self._note(chunk, seconds)
        self._clock, self._before = now, chunk.wanted
        if self.progress is not None:
            self.progress(done)
        return True

    def _shape(self, wanted: int, left: int) -> Shape:
        batch, known = self.batch, left if self.functions.mode == backend.EAGER else wanted
        if known not in self._shapes:
            same = {"width": batch.edits.width, "sequences": len(batch.inputs[0]), "stretch": batch.stretch}
            self._shapes[known] = self.sizing.shape(batch.groups, wanted, left, **same)
        return self._shapes[known]

    def _smaller(self, shape: Shape, error: Exception) -> None:
        self.sizing.smaller_chunks(shape, error)
        self._shapes.clear()

    def _note(self, chunk: _Sent, seconds: float | None) -> None:
        """Tell what a chunk took, if that is known, and it was neither mostly filling nor much smaller than asked."""
        shape, size = chunk.shape, chunk.shape.groups
        if not self.batch.notes or seconds is None or size > len(self.batch.groups) or 2 * size < chunk.wanted:
            return
        seconds = (seconds if chunk.compiled else chunk.seconds) * chunk.wanted / size
        self.sizing.tuner(shape.width, shape.members).note(chunk.wanted, seconds, fresh=not chunk.compiled)

    def _started(self, shape: Shape, wanted: int, pool: ThreadPoolExecutor | None) -> _Sent:
        """Start a chunk with the next groups, in a thread if there is a pool and it is compiled."""
        clock, batch, begin = time.perf_counter(), self.batch, self._begin
        groups, program = batch.groups, self.plans.program
        compiled = self.functions.ready(shape)
        run = self.functions.chunk(shape, -(-(len(groups) - begin) // shape.groups))
        rows = np.minimum(np.arange(begin, begin + shape.groups), len(groups) - 1)
        edit = np.where((np.arange(begin, begin + shape.groups) < len(groups))[:, None], groups.edit[rows], -1)
        sequence, start = groups.sequence[rows], groups.start[rows]
        mutated = batch.inputs[program.graph.inputs.index(program.mutated)]
        delta = answers.deltas(mutated, batch.edits, sequence, start, edit)
        cache, slots = batch.cache, self.plans.of_shape(shape).slots(start)
        given = cache.taps, cache.masks, cache.prepared, sequence.astype(np.int32), slots, delta
        found = _submitted(pool if compiled else None, run, *given)
        return _Sent(shape, wanted, begin, edit, start, found, compiled, time.perf_counter() - clock)

    def _received(self, sent: _Sent) -> tuple[int, float | None]:
        """Wait for a chunk and write its results: how many variants it held, and what it took if in a thread."""
        found, took = sent.answers.result() if sent.threaded else (sent.answers, None)
        found = [backend.to_numpy(a) for a in found]
        origins = functools.partial(answers.window, self.plans.of(sent.shape.width)) if self.batch.compact else None
        plan = self.plans.of_shape(sent.shape)
        answers.write(plan, found, sent.edit, sent.start, self.batch.edits, self.batch.out, origins)
        return int((sent.edit >= 0).sum()), took


@functools.lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads for two chunks, kept from call to call: to start them takes as long as a small chunk.

    Args:
        process: Its number; a process that was forked has none of the other's threads.
    """
    return ThreadPoolExecutor(2, thread_name_prefix="fastism")


def _submitted(pool: ThreadPoolExecutor | None, run: Callable[..., Any], *args: Any) -> Any:
    """What ``run`` gives; where there is a pool, its future, unless Python is ending and starts no more threads."""
    if pool is None:
        return run(*args)
    begin = backend.starting(run, *args)
    try:
        return pool.submit(_timed, begin)
    except RuntimeError:
        return begin()


def _timed(run: Callable[[], Any]) -> tuple[list[np.ndarray], float]:
    """What a chunk gives, and the seconds that it took."""
    clock = time.perf_counter()
    return [backend.to_numpy(a) for a in run()], time.perf_counter() - clock
