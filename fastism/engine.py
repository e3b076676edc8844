"""Runs a plan: reference cache, chunks of variants, results. Knows no layer type."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from fastism import answers, backend, sizes
from fastism.functions import Cache, caches_of, chunk_function, reference_function, whole_function
from fastism.mutations import Edits, Groups, group
from fastism.plan import Plan, Program, make_plan
from fastism.stretches import Division, divide
from fastism.tuning import Tuner

Tensor = Any
Stretch = tuple[int, int]

#: Sequences that are predicted whole at once, at most.
MOST_WHOLE = 64
#: Share of the work that a further stretch must save: where each is compiled, and where none is.
COMPILED_GAIN, EAGER_GAIN = 0.03, 0.01
#: Chunks that TensorFlow runs op by op sooner than it compiles them.
FEW = 4


@dataclass(frozen=True)
class Shape:
    """What a chunk function is made for, compiled for these sizes.

    Attributes:
        sequences: In the cache.
        groups, members: G and M.
        width: Positions of an edit.
        reach: Largest distance of edit starts; None where it does not matter, since nothing is compiled.
        stretch: Edit starts of the plan; None for all.
    """

    sequences: int
    groups: int
    members: int
    width: int
    reach: int | None
    stretch: Stretch | None


@dataclass(frozen=True, eq=False)
class _Batch:
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


class Engine:
    """Runs edits of sequences through a model by windows of change.

    Args:
        program: The model in steps.
        batch_size: Variants in a chunk, or ``"auto"``.
        jit: True, False or ``"auto"``.
        memory: Bytes that references and chunks may take, or ``"auto"``.

    Attributes:
        most_sequences, most_variants: How many at once are known to fit into memory, where more were found not to.
    """

    def __init__(
        self,
        program: Program,
        *,
        batch_size: int | str = "auto",
        jit: bool | str = "auto",
        memory: int | str = "auto",
    ):
        self.program, self.batch_size, self.jit = program, batch_size, jit
        self.memory = sizes.automatic() if memory == "auto" else int(memory)
        self.most_sequences: int | None = None
        self.most_variants: dict[int, int] = {}
        self._tuners: dict[tuple[int, int], Tuner] = {}
        self._few: Counter[Shape] = Counter()
        self._even: dict[tuple[int, int, int, Stretch | None, int], int] = {}
        self._plans: dict[tuple[int, int | None, Stretch | None], Plan] = {}
        self._divisions: dict[int, Division] = {}
        self._divided: set[int] = set()
        self._chunks: dict[Shape, Callable[..., Any]] = {}
        self._references: dict[tuple[int, tuple[Stretch | None, ...]], Callable[..., Any]] = {}

    def plan(self, width: int, reach: int | None = None, stretch: Stretch | None = None) -> Plan:
        """The plan for edits of a width, made once.

        Args:
            width: Positions of an edit.
            reach: Largest distance of the edit starts in a chunk.
            stretch: Edit starts that it is for; all by default.
        """
        key = (width, reach, stretch)
        if key not in self._plans:
            whole = reach is None
            made = make_plan(self.program, width, stretch) if whole else self.plan(width, None, stretch)
            self._plans[key] = made if whole else made.with_reach(reach)
        return self._plans[key]

    def run(
        self,
        inputs: Sequence[np.ndarray],
        edits: Edits,
        results: Callable[[int, list[np.ndarray]], list[np.ndarray]],
        progress: Callable[[int], Any] | None = None,
        *,
        compact: bool = False,
    ) -> None:
        """Predict every edit.

        Args:
            inputs: One array (N, ...) for each of the model's inputs.
            edits: What is changed in the mutated one.
            results: Called with the number of sequences done and the reference outputs (n, *output) of the next n;
                gives the arrays, (cells, *output) over all sequences, already holding the reference, to write into.
            progress: Called with the number of variants done since the last call.
            compact: The arrays hold windows of :meth:`window` only, for outputs of which a window changes.
        """
        n, first = len(inputs[0]), 0
        while first < n:
            count = self._sequences_at_once(n, edits.width)
            end = min(first + count, n)
            part = edits.of_sequences(first, end)
            taken = [_padded(x[first:end], count) for x in inputs]
            groups = group(part)
            stretches = self._stretches(edits.width, groups, int((edits.sequence >= first).sum()))
            try:
                kept, references = self._cached(taken, edits.width, stretches)
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                if count == 1:
                    raise MemoryError(_too_large("Predicting one sequence", self.memory)) from error
                self.most_sequences = count // 2
                continue
            out = results(first, [backend.to_numpy(r)[: end - first] for r in references])
            within = [groups if s is None else groups.between(*s) for s in stretches]
            most = max(map(len, within))
            caches = caches_of(kept, [self.plan(edits.width, None, s) for s in stretches])
            for stretch, some, cache in zip(stretches, within, caches, strict=True):
                if len(some):
                    batch = _Batch(taken, part, some, stretch, len(some) == most, cache, out, compact)
                    self._run_batch(batch, progress)
            first = end

    def predict(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs (N, *output) for sequences as they are, computed whole.

        Args:
            inputs: One array (N, ...) for each of the model's inputs.
        """
        n, first, found = len(inputs[0]), 0, []
        most = max(1, int(sizes.CHUNK_SHARE * self.memory) // sizes.whole_bytes(self.program))
        count = min(_power_of_two_above(n), _power_of_two_above(min(most, MOST_WHOLE) + 1) // 2)
        while first < n:
            end = min(first + count, n)
            tensors = [
                ops.convert_to_tensor(_padded(x[first:end], count), dtype=d)
                for x, d in zip(inputs, self._dtypes(), strict=True)
            ]
            try:
                outputs = [backend.to_numpy(o)[: end - first] for o in self._whole(tensors)]
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                if count == 1:
                    raise MemoryError(_too_large("Predicting one sequence", self.memory)) from error
                count //= 2
                continue
            found.append(outputs)
            first = end
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _cached(
        self, inputs: Sequence[np.ndarray], width: int, stretches: tuple[Stretch | None, ...]
    ) -> tuple[Any, Any]:
        """(what is kept for the plans of some stretches, reference outputs) of a batch of sequences."""
        tensors = [ops.convert_to_tensor(x, dtype=d) for x, d in zip(inputs, self._dtypes(), strict=True)]
        return self._reference_function(width, stretches)(tensors)

    def _run_batch(self, batch: _Batch, progress: Callable[[int], Any] | None) -> None:
        """Run all chunks, two at a time where that is quicker."""
        together = self.mode == backend.XLA and backend.runs_two_at_once()
        with ThreadPoolExecutor(2) if together else contextlib.nullcontext() as pool:
            self._run_chunks(batch, progress, pool)

    def _run_chunks(
        self, batch: _Batch, progress: Callable[[int], Any] | None, pool: ThreadPoolExecutor | None
    ) -> None:
        """Run all chunks; where calls return at once, each is under way while the one before is fetched and written."""
        groups, width, begin, pending = batch.groups, batch.edits.width, 0, None
        ahead, clock = pool is not None or backend.is_asynchronous(), time.perf_counter()
        shapes = dict[int, Shape]()
        while begin < len(groups) or pending is not None:
            sent = None
            if begin < len(groups):
                left = len(groups) - begin
                wanted = self._groups_in_chunk(width, groups.members, left if batch.notes else 0)
                known = left if self.mode == backend.EAGER else wanted
                if known not in shapes:
                    shapes[known] = self._shape(batch, wanted, left)
                shape = shapes[known]
                alone = pending is None and shape.groups >= left
                try:
                    sent = self._sent(batch, shape, begin, wanted, None if alone else pool)
                except Exception as error:
                    self._back_off(shape, error)
                    shapes.clear()
                else:
                    begin += shape.groups
            for chunk in [pending] if ahead else [sent]:
                if chunk is None:
                    continue
                try:
                    done, took = self._received(batch, chunk)
                except Exception as error:
                    self._back_off(chunk.shape, error)
                    shapes.clear()
                    if sent is not None and isinstance(sent.answers, Future):
                        sent.answers.exception()  # wait until it lets go of its memory
                    begin, sent = chunk.begin, None
                    break
                now = time.perf_counter()
                seconds = now - clock
                if took is not None:  # of two at a time, each takes twice as long
                    beside = sent is not None and isinstance(sent.answers, Future)
                    seconds = took / 2 if beside else None
                if batch.notes and seconds is not None and chunk.shape.groups <= len(groups):  # else mostly filling
                    self._note(chunk, seconds)
                clock = now
                if progress is not None:
                    progress(done)
            pending = sent if ahead else None

    def _note(self, chunk: _Sent, seconds: float) -> None:
        """Tell the tuner what a chunk took, if it was about as large as was asked for."""
        shape, size = chunk.shape, chunk.shape.groups
        if 2 * size < chunk.wanted:
            return
        seconds = (seconds if chunk.compiled else chunk.seconds) * chunk.wanted / size
        self._tuner(shape.width, shape.members).note(chunk.wanted, seconds, fresh=not chunk.compiled)

    def _sent(
        self, batch: _Batch, shape: Shape, begin: int, wanted: int, pool: ThreadPoolExecutor | None = None
    ) -> _Sent:
        """Start the chunk that begins with group ``begin``, in a thread if there is a pool and it is compiled."""
        clock = time.perf_counter()
        groups, plan = batch.groups, self.plan(shape.width, shape.reach, shape.stretch)
        compiled = shape in self._chunks or (self.mode == backend.EAGER and bool(self._chunks))
        run = self._chunk_function(plan, shape, -(-(len(groups) - begin) // shape.groups))
        rows = np.minimum(np.arange(begin, begin + shape.groups), len(groups) - 1)
        edit = np.where((np.arange(begin, begin + shape.groups) < len(groups))[:, None], groups.edit[rows], -1)
        sequence, start = groups.sequence[rows], groups.start[rows]
        mutated = batch.inputs[self.program.graph.inputs.index(self.program.mutated)]
        delta = answers.deltas(mutated, batch.edits, sequence, start, edit)
        cache = batch.cache
        given = cache.taps, cache.masks, cache.prepared, sequence.astype(np.int32), plan.slots(start), delta
        found = _submitted(pool if compiled else None, run, *given)
        return _Sent(shape, wanted, begin, edit, start, found, compiled, time.perf_counter() - clock)

    def _received(self, batch: _Batch, sent: _Sent) -> tuple[int, float | None]:
        """Wait for a chunk and write its results: how many variants it held, and what it took if in a thread."""
        found, took = sent.answers.result() if isinstance(sent.answers, Future) else (sent.answers, None)
        found = [backend.to_numpy(a) for a in found]
        shape, origins = sent.shape, None
        if batch.compact:
            origins = functools.partial(self.window, shape.width)
        plan = self.plan(shape.width, shape.reach, shape.stretch)
        answers.write(plan, found, sent.edit, sent.start, batch.edits, batch.out, origins)
        return int((sent.edit >= 0).sum()), took

    def _back_off(self, shape: Shape, error: Exception) -> None:
        """Take chunks of half the size after one did not fit into memory, and pass on any other error."""
        if not backend.is_out_of_memory(error):
            raise error
        if shape.groups == 1:
            raise MemoryError(_too_large(f"A chunk of {shape.members} mutants", self.memory)) from error
        most = shape.groups // 2
        self.most_variants[shape.width] = most * shape.members
        self._tuner(shape.width, shape.members).limit(most)

    def _dtypes(self) -> list[str]:
        graph = self.program.graph
        return [graph.tensors[t].dtype for t in graph.inputs]

    # ------------------------------------------------------------------ sizes

    def _sequences_at_once(self, n: int, width: int) -> int:
        """A power of two of sequences whose cached activations fit into the budget."""
        most = max(1, int(sizes.CACHE_SHARE * self.memory) // sizes.cached_bytes(self.plan(width)))
        most = min(most, self.most_sequences or most)
        return min(_power_of_two_above(n), _power_of_two_above(most + 1) // 2 if most > 1 else 1)

    def _stretches(self, width: int, groups: Groups, left: int) -> tuple[Stretch | None, ...]:
        """The stretches that are planned apart for these edits; None for all of the sequence in one plan.

        Args:
            width, groups: Of the edits.
            left: How many are still to be done, these included.
        """
        eager = self.mode == backend.EAGER
        if not len(groups) or (eager and not backend.in_place()):
            return (None,)
        if width not in self._divisions:
            self._divisions[width] = divide(self.plan(width), EAGER_GAIN if eager else COMPILED_GAIN)
        division = self._divisions[width]
        used = sum(len(groups.between(*s)) > 0 for s in division.stretches)
        few = eager and left < used * self.variants_in_chunk(width)  # a further chunk takes longer than it saves
        if len(division.stretches) == 1 or few:
            return (None,)
        if not eager and width not in self._divided:
            tuner = self._tuner(width, groups.members)
            if not tuner.earns(1 - division.share, left // groups.members, used):
                return (None,)
            self._divided.add(width)
        return division.stretches

    def _shape(self, batch: _Batch, wanted: int, left: int) -> Shape:
        """The sizes for chunks of about ``wanted`` groups, where ``left`` are still to be done."""
        groups, width, sequences = batch.groups, batch.edits.width, len(batch.inputs[0])
        members, known = groups.members, self.most_variants.get(width)
        most = None if known is None else max(1, known // members)
        if self.mode == backend.EAGER and backend.in_place():  # of any size, so all are alike and none is filled up
            count = -(-left // -(-left // min(wanted, most or wanted)))
            return Shape(sequences, count, members, width, None, batch.stretch)
        if self.batch_size == "auto" and wanted < len(groups):
            asked = (sequences, members, width, batch.stretch, wanted)
            if asked not in self._even:  # from then on the same for other edits: each size is compiled
                limit = self._tuner(width, members).most
                self._even[asked] = sizes.even(len(groups), wanted, limit, backend.runs_two_at_once())
            count = min(self._even[asked], most or self._even[asked])
        else:
            count = max(1, min(wanted, _power_of_two_above(max(len(groups), 1))))
        count = sizes.unlike_axes(count, members, self.program.shapes.values(), most)
        starts = groups.start
        ends = np.minimum(np.arange(len(starts)) + count, len(starts)) - 1  # a chunk may begin anywhere
        spread = int((starts[ends] - starts).max()) if len(starts) else 0
        reach = min(_power_of_two_above(spread + 1), self.program.shapes[self.program.mutated][0])
        if spread < count:  # at every position, or nearly
            reach = min(reach, count)
        return Shape(sequences, count, members, width, reach, batch.stretch)

    def variants_in_chunk(self, width: int) -> int:
        """How many variants make a chunk: as many as asked for, or as many as were fastest so far."""
        if self.batch_size != "auto":
            return min(int(self.batch_size), self.most_variants.get(width, int(self.batch_size)))
        members = next((m for w, m in reversed(self._tuners) if w == width), 1)
        return self._tuner(width, members).best * members

    def _groups_in_chunk(self, width: int, members: int, left: int) -> int:
        """How many groups the next chunk should have, where ``left`` are to be done that tell what is fastest."""
        if self.batch_size != "auto":
            return max(1, self.variants_in_chunk(width) // members)
        return self._tuner(width, members).propose(left)

    def _tuner(self, width: int, members: int) -> Tuner:
        """What chooses the number of groups in a chunk."""
        key = (width, members)
        if key not in self._tuners:
            bounds = sizes.chunk_bounds(self.plan(width), self.memory, one_by_one=self.mode == backend.EAGER)
            self._tuners[key] = Tuner(*(max(1, size // members) for size in bounds))
        return self._tuners[key]

    @property
    def mode(self) -> str:
        """How chunks run: ``"eager"`` or ``"xla"``."""
        return backend.choose_mode(self.jit)

    # ------------------------------------------------------------------ compiled functions

    def _reference_function(self, width: int, stretches: tuple[Stretch | None, ...]) -> Callable[..., Any]:
        """The reference pass of a batch of any number of sequences, for the plans of some stretches."""
        key = (width, stretches)
        if key not in self._references:
            fn, graph = reference_function([self.plan(width, None, s) for s in stretches]), self.program.graph
            if backend.name() == "tensorflow":  # runs once a batch: not worth the longer compilation of XLA
                shapes = [graph.shape(t) for t in graph.inputs]
                self._references[key] = backend.any_batch(fn, shapes, self._dtypes())
            else:
                self._references[key] = backend.compile_function(fn, graph.variables, self.mode)
        return self._references[key]

    @functools.cached_property
    def _whole(self) -> Callable[..., Any]:
        """The model's outputs for any number of sequences."""
        fn, graph = whole_function(self.program), self.program.graph
        if backend.name() == "tensorflow":
            return backend.any_batch(fn, [graph.shape(t) for t in graph.inputs], self._dtypes())
        return backend.compile_function(fn, graph.variables, self.mode)

    def _chunk_function(self, plan: Plan, shape: Shape, chunks: int) -> Callable[..., Any]:
        """What runs the next ``chunks`` chunks of a shape: compiled, unless there are and were few on TensorFlow."""
        if shape not in self._chunks:
            fn = chunk_function(plan, shape.groups, shape.members)
            patient = self.jit == "auto" and self.mode == backend.XLA and backend.name() == "tensorflow"
            if patient and self._few[shape] + chunks <= FEW:
                self._few[shape] += 1
                return fn
            self._chunks[shape] = backend.compile_function(fn, self.program.graph.variables, self.mode)
        return self._chunks[shape]

    # ------------------------------------------------------------------ results

    def window(self, width: int, output: int) -> tuple[np.ndarray, int] | None:
        """For every place of an edit, where the window of output number ``output`` begins, and its positions.

        None where the whole output changes. The window lies within the output.
        """
        plan, tensor = self.plan(width), self.program.outputs[output]
        if tensor not in plan.spans:
            return None
        span = plan.spans[tensor]
        size = min(span.width, span.length)
        return np.clip(span.start, 0, span.length - size).astype(np.int64), size


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


def _padded(x: np.ndarray, n: int) -> np.ndarray:
    """``x`` with its last row repeated up to ``n`` rows."""
    return x if len(x) == n else np.concatenate([x, np.repeat(x[-1:], n - len(x), axis=0)])


def _too_large(what: str, memory: int) -> str:
    return (
        f"{what} does not fit into memory (the budget is {memory / 1e9:.3g} GB). Free memory, use a shorter sequence, "
        "or change fewer positions at once."
    )


def _power_of_two_above(n: int) -> int:
    return 1 << max(0, int(n - 1).bit_length())
