"""The vocabulary in which rules speak: a call becomes a chain of steps, each of which can move a window."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastism import kernels
from fastism.runtime import Runtime, Window, change_dtype
from fastism.window import Ints, Span

Tensor = Any
Shape = tuple[int, ...]

#: What a step gives: the change, the mutant's value in the window, or the mutant's whole tensor.
DELTA, VALUE, WHOLE = "delta", "value", "whole"


class Refuse(Exception):
    """A rule cannot treat this configuration or window; the message is the reason shown to users."""


@dataclass(frozen=True, eq=False)
class Given:
    """What is known of a step's inputs when a plan is made.

    Attributes:
        inputs: Tensor ids.
        output: Tensor id.
        shapes: Of the inputs, without batch axis.
        out_shape: Of the output.
        dtype: Of the output.
        spans: Span of each input; None where the input is the reference's.
        native: ``"delta"`` or ``"value"``, the form each window comes in; None where it is the reference's.
        align: ``(stride, pad)`` of a strided layer that reads the output next, or None.
        reach: Largest distance of the edit starts in one chunk; the input's length in ``place``, before there is one.
        need: ``(start, end)`` of the output positions that anything reads.
    """

    inputs: tuple[int, ...]
    output: int
    shapes: tuple[Shape, ...]
    out_shape: Shape
    dtype: str
    spans: tuple[Span | None, ...]
    native: tuple[str | None, ...]
    align: tuple[int, int] | None
    reach: int
    need: tuple[int, int] | None = None

    @property
    def windows(self) -> list[Span]:
        """The spans of those inputs that change."""
        return [s for s in self.spans if s is not None]


@dataclass(frozen=True, eq=False)
class Local:
    """How a step will run on windows.

    Attributes:
        span: Span of its output; None where ``gives`` is ``"whole"``.
        uses: The form it wants of each input, None where the input is the reference's.
        gives: Form of its output.
        frames: Further spans whose starts it needs while it runs.
        taps: Tensors whose whole reference it needs.
    """

    span: Span | None
    uses: tuple[str | None, ...]
    gives: str
    frames: tuple[Span, ...] = ()
    taps: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class At:
    """What a step sees when it runs on windows."""

    runtime: Runtime
    given: Given
    local: Local
    windows: tuple[Window | None, ...]
    prepared: Mapping[str, Tensor]

    @property
    def window(self) -> Window:
        """The window of a step's single input."""
        window = self.windows[0]
        if window is None:
            raise RuntimeError("a step with one input runs only where that input is a window")
        return window

    def out(self, *, fresh: bool = False, **forms: Tensor) -> Window:
        """The output window, from ``delta=`` or ``value=`` and ``reference=``.

        ``fresh`` says that the step made ``delta`` or ``value``: they share no memory with an input, a weight or what
        is cached, so a later step may write over them.
        """
        if self.local.span is None:
            raise RuntimeError("a step that gives a whole tensor has no output window")
        dtype = self.given.dtype
        change = change_dtype(dtype)
        cast = {form: kernels.cast(tensor, change if form == "delta" else dtype) for form, tensor in forms.items()}
        return Window(self.runtime, self.given.output, self.local.span, fresh=fresh, **cast)


class Step:
    """One primitive with a map of positions. Subclasses say how a window moves and what the change becomes."""

    #: Whether the step does nothing at inference.
    alias = False
    #: Whether what it prepares is the same whatever windows there are.
    prepares_by_shape = False
    #: Shape of what it gives, without batch axis, where a chain goes on and it is not that of the call.
    shape: Shape | None = None

    def evaluate(self, *values: Tensor) -> Tensor:
        """Full tensors in, full tensor out; only asked of steps in chains of more than one."""
        raise Refuse("this step is not evaluated on its own")

    def prepare(self, tap: Callable[[int], Tensor], given: Given) -> dict[str, Tensor]:
        """What :meth:`run` needs of weights and references, computed once for each batch of sequences."""
        return {}

    def prepared_for(self, given: Given) -> Hashable:
        """What :meth:`prepare` makes depends on this beside weights, references and shapes.

        Plans for stretches of a sequence share what is prepared where it is equal. By default each has its own, but
        where :attr:`prepares_by_shape` is true.
        """
        return None if self.prepares_by_shape else given

    def place(self, given: Given) -> Local:
        """Decide the output window, or raise :class:`Refuse`."""
        raise NotImplementedError

    def run(self, at: At) -> Any:
        """The output window, or for ``gives="whole"`` the whole mutant tensor (V, ...)."""
        raise NotImplementedError

    def wants(self) -> tuple[int, int] | None:
        """``(stride, pad)`` of the grid on which a strided step reads its input."""
        return None

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        """The input positions that output positions ``[lo, hi)`` are computed from."""
        return lo, hi

    def reads(self, index: int, lo: int, hi: int, given: Given) -> tuple[int, int]:
        """The positions of input ``index`` that the output positions ``[lo, hi)`` are computed from, in this tensor.

        Args:
            index: Which input.
            lo, hi: Output positions.
            given: Shapes only; spans are not known yet.
        """
        shape, out = given.shapes[index], given.out_shape
        length = shape[0] if shape else 1
        if not self.keeps_positions(given) or (length == 1 and (not out or out[0] != 1)):
            return 0, length
        first, end = self.backward(np.asarray([lo]), np.asarray([hi]), given)
        return max(int(first[0]), 0), min(int(end[0]), length)

    def keeps_positions(self, given: Given) -> bool:
        """Whether :meth:`backward` says which positions an output reads; if not, it reads all."""
        return bool(given.out_shape)

    def cost(self, given: Given) -> Cost:
        """Multiply-accumulates; none unless a subclass says so."""
        return Cost()

    def work(self, given: Given) -> Ints | None:
        """(S,) multiply-accumulates for every place of the edit, where they are no multiple of what changes."""
        return None

    def between(self, given: Given) -> float:
        """Values of a variant that lie in memory between a product and the sum of what it gave."""
        return 0.0

    def shared(self, given: Given) -> float:
        """Values of its weights that a chunk reads however few variants it holds, where they are many."""
        return 0.0

    def readers(self, given: Given) -> Ints | None:
        """(L,) how many outputs that anything needs read each input position, where that is known.

        A convolution sends an input near the ends, or near what nothing reads, to fewer outputs than it has taps.
        """
        return None


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of a step for one sequence.

    Attributes:
        full: For the whole layer.
        per_output: For each output position.
        per_input: For each changed input position, when only the change is pushed through.
        per_pair: For each changed input position and each output that reads it; see :meth:`Step.readers`.
    """

    full: float = 0.0
    per_output: float = 0.0
    per_input: float = 0.0
    per_pair: float = 0.0


@dataclass(frozen=True, eq=False)
class Lowered:
    """A call as a chain of steps: the first takes ``inputs``, each other takes what the one before gives.

    Attributes:
        steps: The chain.
        inputs: The tensors that the first step takes; those of the call by default.
        branches: One chain for each output, for a call with several.
    """

    steps: Sequence[Step]
    inputs: tuple[int, ...] | None = None
    branches: Sequence[Sequence[Step]] = ()


@dataclass(frozen=True, eq=False)
class Same(Step):
    """Identity at inference (dropout, noise, linear activation): its output is its input, so it never runs."""

    alias = True

    def evaluate(self, *values: Tensor) -> Tensor:
        return values[0]


def only(spans: Sequence[Span | None]) -> Span:
    """The span of a step's single input."""
    span = spans[0]
    if span is None:
        raise Refuse("its input is not a window")
    return span


def channels(shape: Shape) -> int:
    """Size of the last axis."""
    return shape[-1]


def per_position(shape: Shape) -> int:
    """Values at one position: the product of all axes but the first."""
    return int(np.prod(shape[1:], dtype=np.int64))
