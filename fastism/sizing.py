"""How much is computed at once, chosen as the work goes on and remembered from call to call. Knows no layer type."""

from __future__ import annotations

import numpy as np

from fastism import backend, sizes
from fastism.compiled import Plans, Shape, Stretch
from fastism.mutations import Groups
from fastism.stretches import Division, divide
from fastism.tuning import RUN, Tuner

#: Sequences that are predicted whole at once, at most.
MOST_WHOLE = 64
#: Share of the work that a further stretch must save: where each is compiled, and where none is.
COMPILED_GAIN, EAGER_GAIN = 0.03, 0.01


class Sizing:
    """Chooses how many sequences are cached at once, which stretches are planned apart, and how large chunks are.

    Args:
        plans: Of the program.
        batch_size: Variants in a chunk, or ``"auto"``.
        mode: How chunks run: ``"eager"`` or ``"xla"``.
        memory: Bytes that references and chunks may take.

    Attributes:
        most_sequences, most_variants: How many at once, the latter by width of the edits, are known to fit into memory,
            where more were found not to.
        tuners: What chooses the number of groups in a chunk, by width and members of a group.
    """

    def __init__(self, plans: Plans, *, batch_size: int | str, mode: str, memory: int):
        self.plans, self.batch_size, self.mode, self.memory = plans, batch_size, mode, memory
        self.most_sequences: int | None = None
        self.most_variants: dict[int, int] = {}
        self.tuners: dict[tuple[int, int], Tuner] = {}
        self._even: dict[tuple[int, int, int, Stretch | None, int], int] = {}
        self._divisions: dict[int, Division] = {}
        self._divided: set[int] = set()

    # ------------------------------------------------------------------ sequences

    def sequences_at_once(self, n: int, width: int) -> int:
        """A power of two of sequences whose cached activations fit into the budget."""
        most = max(1, int(sizes.CACHE_SHARE * self.memory) // sizes.cached_bytes(self.plans.of(width)))
        most = min(most, self.most_sequences or most)
        return min(_power_of_two_above(n), _power_of_two_above(most + 1) // 2 if most > 1 else 1)

    def whole_at_once(self, n: int) -> int:
        """A power of two of sequences that are predicted whole."""
        most = max(1, int(sizes.CHUNK_SHARE * self.memory) // sizes.whole_bytes(self.plans.program))
        return min(_power_of_two_above(n), _power_of_two_above(min(most, MOST_WHOLE) + 1) // 2)

    def fewer_sequences(self, count: int, error: Exception) -> int:
        """Half of those that did not fit into memory.

        Raises:
            MemoryError: If there was only one.
            Exception: ``error``, if it says something else.
        """
        if not backend.is_out_of_memory(error):
            raise error
        if count == 1:
            raise MemoryError(self._too_large("Predicting one sequence")) from error
        return count // 2

    def stretches(self, width: int, groups: Groups, left: int) -> tuple[Stretch | None, ...]:
        """The stretches that are planned apart for these edits; None for all of the sequence in one plan.

        Args:
            width, groups: Of the edits.
            left: How many are still to be done, these included.
        """
        eager = self.mode == backend.EAGER
        if not len(groups) or (eager and not backend.in_place()):
            return (None,)
        if width not in self._divisions:
            self._divisions[width] = divide(self.plans.of(width), EAGER_GAIN if eager else COMPILED_GAIN)
        division = self._divisions[width]
        used = sum(len(groups.between(*s)) > 0 for s in division.stretches)
        few = eager and left < used * self.variants_in_chunk(width)  # a further chunk takes longer than it saves
        if len(division.stretches) == 1 or few:
            return (None,)
        if not eager and width not in self._divided:
            tuner = self.tuner(width, groups.members)
            if not tuner.earns(1 - division.share, left // groups.members, used):
                return (None,)
            self._divided.add(width)
        return division.stretches

    # ------------------------------------------------------------------ chunks

    def shape(
        self, groups: Groups, wanted: int, left: int, *, width: int, sequences: int, stretch: Stretch | None
    ) -> Shape:
        """The sizes for chunks of about ``wanted`` groups, where ``left`` of all are still to be done."""
        members, known, program = groups.members, self.most_variants.get(width), self.plans.program
        most = None if known is None else max(1, known // members)
        if self.mode == backend.EAGER and backend.in_place():  # of any size, so all are alike and none is filled up
            count = -(-left // -(-left // min(wanted, most or wanted)))
            return Shape(sequences, count, members, width, None, stretch)
        if self.batch_size == "auto" and wanted < len(groups):
            asked = (sequences, members, width, stretch, wanted)
            if asked not in self._even:  # from then on the same for other edits: each size is compiled
                limit = self.tuner(width, members).most
                self._even[asked] = sizes.even(len(groups), wanted, limit, backend.runs_two_at_once())
            count = min(self._even[asked], most or self._even[asked])
        else:
            count = max(1, min(wanted, _power_of_two_above(max(len(groups), 1))))
        count = sizes.unlike_axes(count, members, program.shapes.values(), most)
        starts = groups.start
        ends = np.minimum(np.arange(len(starts)) + count, len(starts)) - 1  # a chunk may begin anywhere
        spread = int((starts[ends] - starts).max()) if len(starts) else 0
        reach = min(_power_of_two_above(spread + 1), program.shapes[program.mutated][0])
        if spread < count:  # at every position, or nearly
            reach = min(reach, count)
        return Shape(sequences, count, members, width, reach, stretch)

    def variants_in_chunk(self, width: int) -> int:
        """How many variants make a chunk: as many as asked for, or as many as were fastest so far."""
        if self.batch_size != "auto":
            return min(int(self.batch_size), self.most_variants.get(width, int(self.batch_size)))
        members = next((m for w, m in reversed(self.tuners) if w == width), 1)
        return self.tuner(width, members).best * members

    def groups_in_chunk(self, width: int, members: int, left: int) -> int:
        """How many groups the next chunk should have, where ``left`` are to be done that tell what is fastest."""
        if self.batch_size != "auto":
            return max(1, self.variants_in_chunk(width) // members)
        return self.tuner(width, members).propose(left)

    def smaller_chunks(self, shape: Shape, error: Exception) -> None:
        """Take chunks of half the size from now on, after one did not fit into memory.

        Raises:
            MemoryError: If it held a single group.
            Exception: ``error``, if it says something else.
        """
        if not backend.is_out_of_memory(error):
            raise error
        if shape.groups == 1:
            raise MemoryError(self._too_large(f"A chunk of {shape.members} mutants")) from error
        most = shape.groups // 2
        self.most_variants[shape.width] = most * shape.members
        self.tuner(shape.width, shape.members).limit(most)

    def tuner(self, width: int, members: int) -> Tuner:
        """What chooses the number of groups in a chunk."""
        key = (width, members)
        if key not in self.tuners:
            bounds = sizes.chunk_bounds(self.plans.of(width), self.memory, one_by_one=self.mode == backend.EAGER)
            pairs = self.mode == backend.XLA and backend.runs_two_at_once()
            self.tuners[key] = Tuner(*(max(1, size // members) for size in bounds), run=RUN if pairs else 1)
        return self.tuners[key]

    def _too_large(self, what: str) -> str:
        return (
            f"{what} does not fit into memory (the budget is {self.memory / 1e9:.3g} GB). Free memory, use a shorter "
            "sequence, or change fewer positions at once."
        )


def _power_of_two_above(n: int) -> int:
    return 1 << max(0, int(n - 1).bit_length())
