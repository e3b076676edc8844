"""How much is computed at once: budgets of memory, and what happens where memory runs out all the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import layers as L

from fastism import FastISM, answers, backend, sizes
from fastism.testing import randomize

JIT = keras.backend.backend() == "jax"


def model(name="three_pools"):
    return randomize(DESIGNS[name].build())


def one_hot(n, length, seed=0):
    letters = np.random.default_rng(seed).integers(0, 4, (n, length))
    return np.eye(4, dtype=keras.config.floatx())[letters]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (10**9, 10**9),
        (2.5e9, 2_500_000_000),
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("512 MiB", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("2000000", 2_000_000),
    ],
)
def test_budgets(given, wanted):
    assert sizes.budget(given) == wanted


@pytest.mark.parametrize("given", ["lots", "4 GX", "-1GB", 0, 10, True, None, float("nan"), float("inf"), [1]])
def test_what_is_no_budget(given):
    with pytest.raises(ValueError, match="memory is .*'4GB'"):
        sizes.budget(given)


def test_automatic_budget():
    assert (64 << 20) <= sizes.automatic() <= max(sizes.AUTO_MOST, backend.free_device_memory() or 0)


def test_a_smaller_budget_makes_smaller_chunks_and_the_same_numbers():
    x = keras.Input((300, 4))
    y = L.Conv1D(64, 9, padding="same", activation="relu")(x)
    y = L.Dense(1)(L.LSTM(3)(L.Attention()([y, y])))  # all of it whole, so that a chunk is large
    net = randomize(keras.Model(x, y))
    small, large = (FastISM(net, test_correctness=False, jit=JIT, memory=m) for m in ("3MB", "500MB"))
    few, many = small.explain(), large.explain()
    assert few.chunk < many.chunk
    assert few.memory <= 3e6
    assert many.memory <= 500e6
    assert f"{few.chunk} mutants at once" in str(few)
    given = one_hot(2, 300)
    np.testing.assert_allclose(
        small.saturate(given, 100, 104).mutant, large.saturate(given, 100, 104).mutant, rtol=1e-3, atol=1e-5
    )


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


def failing(real, most):
    """A chunk function that says that memory ran out, for chunks of more than ``most`` groups."""

    def make(shape, chunks):
        run = real(shape, chunks)

        def chunk(*args):
            if shape.groups > most:
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return run(*args)

        return chunk

    return make


@pytest.mark.parametrize("jit", sorted({JIT, keras.backend.backend() != "torch"}))  # compiled, two run at a time
def test_chunks_are_halved_where_memory_runs_out_and_nothing_is_done_twice(monkeypatch, jit):
    ism = FastISM(model(), test_correctness=False, jit=jit, batch_size=60)
    x = one_hot(2, 101)
    want = ism.saturate(x).mutant
    engine, seen = ism._engine, []
    engine.functions.chunk = failing(engine.functions.chunk, 6)
    write = answers.write

    def counted(plan, found, edit, *rest):
        seen.append((edit >= 0).sum())
        write(plan, found, edit, *rest)

    monkeypatch.setattr(answers, "write", counted)
    again = ism.saturate(x).mutant
    np.testing.assert_allclose(again, want, rtol=1e-4, atol=1e-6)
    assert sum(seen) == 2 * 101 * 3
    assert 0 < engine.sizing.most_variants[1] <= 18
    assert ism.explain().chunk <= 18, "the next call begins with what fitted"


@pytest.mark.parametrize("batch_size", ["auto", 40, 4, 1])
@pytest.mark.parametrize("outputs", [2, 3])  # an axis as long as there are mutants in a group
def test_where_not_even_one_group_fits(outputs, batch_size):
    x = keras.Input((101, 4))
    y = L.Conv1D(5, 3, activation="relu")(x)
    one = randomize(keras.Model(x, L.Dense(outputs)(L.Flatten()(y))))
    ism = FastISM(one, test_correctness=False, jit=JIT, batch_size=batch_size)
    ism._engine.functions.chunk = failing(ism._engine.functions.chunk, 0)
    with pytest.raises(MemoryError, match=r"3 mutants does not fit into memory \(the budget is"):
        ism.saturate(one_hot(1, 101))
    with pytest.raises(MemoryError, match=r"1 mutants does not fit into memory \(the budget is"):
        ism(one_hot(1, 101))


def test_fewer_sequences_where_references_do_not_fit():
    ism = FastISM(model(), test_correctness=False, jit=JIT)
    x = one_hot(5, 101)
    want = ism.saturate(x)
    functions, tried = ism._engine.functions, []
    real = functions.reference

    def reference(*plans):
        def run(inputs):
            tried.append(len(inputs[0]))
            if len(inputs[0]) > 2:
                raise MemoryError
            return real(*plans)(inputs)

        return run

    functions.reference = reference
    got = ism.saturate(x)
    np.testing.assert_allclose(got.mutant, want.mutant, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.reference, want.reference, rtol=1e-4, atol=1e-6)
    assert tried == [8, 4, 2, 2, 2]


def test_other_errors_are_passed_on():
    ism = FastISM(model(), test_correctness=False, jit=JIT)
    ism._engine.functions.chunk = lambda *_: lambda *_: (_ for _ in ()).throw(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        ism.saturate(one_hot(1, 101))


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_about_memory(error, is_memory):
    assert backend.is_out_of_memory(error) is is_memory
