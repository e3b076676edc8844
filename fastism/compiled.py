"""What is made once of a program and kept: its plans, and their compiled functions. Knows no layer type."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastism import backend
from fastism.functions import chunk_function, reference_function, whole_function
from fastism.plan import Plan, Program, make_plan

#: ``[first, end)`` edit starts.
Stretch = tuple[int, int]

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


class Plans:
    """The plans of a program.

    Args:
        program: The model in steps.
    """

    def __init__(self, program: Program):
        self.program = program
        self._made: dict[tuple[int, int | None, Stretch | None], Plan] = {}

    def of(self, width: int, reach: int | None = None, stretch: Stretch | None = None) -> Plan:
        """The plan for edits of a width, made once.

        Args:
            width: Positions of an edit.
            reach: Largest distance of the edit starts in a chunk.
            stretch: Edit starts that it is for; all by default.
        """
        key = (width, reach, stretch)
        if key not in self._made:
            whole = reach is None
            made = make_plan(self.program, width, stretch) if whole else self.of(width, None, stretch)
            self._made[key] = made if whole else made.with_reach(reach)
        return self._made[key]

    def of_shape(self, shape: Shape) -> Plan:
        """The plan that chunks of a shape run."""
        return self.of(shape.width, shape.reach, shape.stretch)


class Functions:
    """The functions of plans, compiled once for each shape.

    Args:
        plans: Of the program.
        jit: True, False or ``"auto"``.

    Attributes:
        mode: How they run: ``"eager"`` or ``"xla"``.
        chunks: By shape, what runs its chunks.
        few: How many chunks of a shape ran op by op.
        references: The reference passes, by width and stretches.
    """

    def __init__(self, plans: Plans, jit: bool | str):
        self.plans, self.jit, self.mode = plans, jit, backend.choose_mode(jit)
        self.chunks: dict[Shape, Callable[..., Any]] = {}
        self.few: Counter[Shape] = Counter()
        self.references: dict[tuple[int, tuple[Stretch | None, ...]], Callable[..., Any]] = {}

    def dtypes(self) -> list[str]:
        """Those of the model's inputs."""
        graph = self.plans.program.graph
        return [graph.tensors[t].dtype for t in graph.inputs]

    def reference(self, width: int, stretches: tuple[Stretch | None, ...]) -> Callable[..., Any]:
        """The reference pass of a batch of any number of sequences, for the plans of some stretches."""
        key = (width, stretches)
        if key not in self.references:
            self.references[key] = self._of_any_batch(
                reference_function([self.plans.of(width, None, s) for s in stretches])
            )
        return self.references[key]

    @functools.cached_property
    def whole(self) -> Callable[..., Any]:
        """The model's outputs for any number of sequences."""
        return self._of_any_batch(whole_function(self.plans.program))

    def ready(self, shape: Shape) -> bool:
        """Whether a chunk of a shape runs without anything being compiled."""
        return shape in self.chunks or (self.mode == backend.EAGER and bool(self.chunks))

    def chunk(self, shape: Shape, chunks: int) -> Callable[..., Any]:
        """What runs the next ``chunks`` chunks of a shape: compiled, unless there are and were few on TensorFlow."""
        if shape not in self.chunks:
            fn = chunk_function(self.plans.of_shape(shape), shape.groups, shape.members)
            patient = self.jit == "auto" and self.mode == backend.XLA and backend.name() == "tensorflow"
            if patient and self.few[shape] + chunks <= FEW:
                self.few[shape] += 1
                return fn
            self.chunks[shape] = backend.compile_function(fn, self.plans.program.graph.variables, self.mode)
        return self.chunks[shape]

    def _of_any_batch(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        graph = self.plans.program.graph
        if backend.name() == "tensorflow":  # runs once a batch: not worth the longer compilation of XLA
            return backend.any_batch(fn, [graph.shape(t) for t in graph.inputs], self.dtypes())
        return backend.compile_function(fn, graph.variables, self.mode)
