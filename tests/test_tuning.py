"""The size of chunks is found on the work itself, and never changes what comes out."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers as L

from fastism import FastISM, NaiveISM, backend, chunks
from fastism.compiled import FEW
from fastism.sizes import even
from fastism.testing import randomize
from fastism.tuning import RUN, SAMPLES, Tuner

X = np.eye(4, dtype=keras.config.floatx())[np.random.default_rng(0).integers(0, 4, (3, 60))]


def settle(cost, *, start, least=6, most=512, compiling=0.0, left=10**9, chunks=80, run=1):
    """The sizes that a tuner proposes where a variant in a chunk of a size costs ``cost(size)``.

    In runs, a chunk with one of another size beside it is not noted.
    """
    tuner, seen, proposed = Tuner(start, least, most, run=run), set(), []
    for _ in range(chunks):
        proposed.append(tuner.propose(left))
        *_, before, size, after = [None, None, *proposed] if run > 1 else [None, proposed[-1], None]
        if size is None:
            continue
        fresh = size not in seen
        seen.add(size)
        if fresh or run == 1 or before == size == after:
            tuner.note(size, cost(size) * size + fresh * compiling, fresh=fresh)
    return proposed


@pytest.mark.parametrize(("start", "best"), [(24, 6), (24, 24), (24, 96), (100, 400), (7, 7)])
def test_it_finds_the_fastest_size(start, best):
    proposed = settle(lambda size: 1 + abs(np.log2(size / best)), start=start)
    assert proposed[-1] == best
    assert len(set(proposed)) <= 6


@pytest.mark.parametrize(("start", "best"), [(24, 6), (24, 24), (24, 96)])
def test_it_finds_the_fastest_of_sizes_that_run_in_pairs(start, best):
    proposed = settle(lambda size: 1 + abs(np.log2(size / best)), start=start, run=RUN, chunks=200)
    assert proposed[-1] == best
    turns = [len(list(same)) for size, same in itertools.groupby(proposed) if size != start]
    assert best != start or set(turns) == {RUN}


def test_where_nothing_is_told_the_best_is_taken():
    tuner = Tuner(24, 6, 512)
    for _ in range(SAMPLES):
        tuner.note(tuner.propose(10**9), 1.0)
    assert tuner.propose(10**9) == 12
    assert {tuner.propose(0) for _ in range(10)} == {24}


def test_it_stays_within_its_bounds():
    assert min(settle(lambda size: size, start=48, least=12)) == 12
    assert max(settle(lambda size: 1 / size, start=48, most=150)) == 150


def test_little_better_is_not_better():
    assert settle(lambda size: 1 + 0.02 * np.log2(size), start=48)[-1] == 48


def test_a_busy_moment_hits_both_alike():
    """The machine is half as fast for the first chunks: what is tried later is no better for that."""
    count = itertools.count()
    assert settle(lambda size: 2.0 if next(count) < SAMPLES + 1 else 1.0, start=48)[-1] == 48


def test_a_new_size_is_tried_only_when_compiling_pays():
    patient = settle(lambda size: 0.001 * size, start=24, compiling=100.0, left=200, chunks=3 * SAMPLES)
    assert set(patient) == {24}
    long_work = settle(lambda size: 0.001 * size, start=24, compiling=100.0, left=10**6, chunks=3 * SAMPLES)
    assert 12 in long_work
    much_done = settle(lambda size: 0.001 * size, start=24, compiling=100.0, left=200, chunks=3000)
    assert 12 in much_done


def test_work_done_elsewhere_counts():
    tuner = Tuner(24, 6, 512)
    tuner.note(24, 5.0, fresh=True)
    tuner.note(24, 1.0)
    assert not tuner.earns(0.1, 24, 4)
    tuner.worked(100.0)
    assert not tuner.earns(0.1, 24, 4)
    tuner.worked(100.0)
    assert tuner.earns(0.1, 24, 4)


def test_what_does_not_fit_is_not_tried_again():
    tuner = Tuner(64, 6, 512)
    tuner.limit(32)
    for _ in range(40):
        size = tuner.propose(10**6)
        assert size <= 32
        tuner.note(size, 1.0)  # larger ones would be the better


@pytest.mark.parametrize("jit", ["auto", False])
def test_any_sizes_give_the_same(monkeypatch, jit):
    """Sizes change between the chunks of one call, and with them plans."""
    sizes = itertools.cycle([3, 10, 2, 19, 4])
    used = []

    def propose(self, left):
        used.append(next(sizes))
        return used[-1]

    x = keras.Input((60, 4))
    y = L.MaxPooling1D(3)(L.Conv1D(5, 7, padding="same", activation="relu")(x))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
    want = FastISM(model, test_correctness=False, batch_size=16, jit=False).saturate(X)
    monkeypatch.setattr(Tuner, "propose", propose)
    got = FastISM(model, test_correctness=False, jit=jit).saturate(X)
    np.testing.assert_allclose(got.mutant, want.mutant, atol=1e-5)
    assert len(set(used)) == 5


def test_small_jobs_are_not_compiled_on_tensorflow(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow runs op by op at little cost")
    compiled = []
    compile_function = backend.compile_function
    monkeypatch.setattr(backend, "compile_function", lambda *a: compiled.append(1) or compile_function(*a))
    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(5, 7, activation="relu")(x)))))
    ism = FastISM(model, test_correctness=False)
    few = [ism.saturate(X[:1], 10, 12).mutant]
    assert not compiled
    few += [ism.saturate(X[:1], 10, 12).mutant for _ in range(FEW)]
    assert len(compiled) == 1
    for mutant in few:
        np.testing.assert_allclose(mutant, few[-1], atol=1e-5)


def test_threads_that_fail_at_once_both_fall_back():
    """While one thread tries what does not compile, another has found out and chosen the rest."""
    both = threading.Barrier(2, timeout=20)

    def first(x):
        both.wait()
        raise ValueError("does not compile")

    run = backend._or_else(first, lambda x: x + 1, ValueError)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [1, 2])) == [2, 3]
    assert run(3) == 4


def test_what_the_fallback_raises_is_raised():
    def fails(x):
        raise ValueError(x)

    run = backend._or_else(fails, fails, ValueError)
    for _ in range(2):
        with pytest.raises(ValueError, match="7"):
            run(7)


def test_a_size_is_judged_by_what_a_chunk_held(monkeypatch):
    """A chunk of 4 groups becomes one of 3: 12 variants are as many as some axis is long."""
    if keras.backend.backend() == "torch":
        pytest.skip("on torch a chunk has the size that was asked for")
    noted = []
    clock = itertools.count()
    monkeypatch.setattr(backend, "runs_two_at_once", lambda: False)
    monkeypatch.setattr(chunks.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(Tuner, "propose", lambda self, left: 4)
    monkeypatch.setattr(Tuner, "note", lambda self, size, seconds, *, fresh=False: noted.append((size, seconds)))
    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(12, 7, activation="relu")(x)))))
    ism = FastISM(model, test_correctness=False)
    ism.saturate(X[:1])
    functions = ism._engine.functions
    assert {shape.groups for shape in (*functions.few, *functions.chunks)} == {3}
    assert noted
    for size, seconds in noted:  # whole ticks of the clock for 3 groups, of 4 that were asked for
        assert size == 4
        assert seconds * 3 / 4 == pytest.approx(round(seconds * 3 / 4))
        assert seconds != round(seconds) or round(seconds) % 4 == 0


def test_two_chunks_at_a_time_give_the_same(monkeypatch):
    """Compiled. A chunk whose neighbour is not under way tells nothing of what one of two takes."""
    threads, noted = set(), []
    timed = chunks._timed
    monkeypatch.setattr(chunks, "_timed", lambda *args: threads.add(threading.get_ident()) or (timed(*args)[0], 7.0))
    monkeypatch.setattr(Tuner, "note", lambda self, size, seconds, *, fresh=False: noted.append((seconds, fresh)))
    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(5, 7, activation="relu")(x)))))
    want = FastISM(model, test_correctness=False, jit=keras.backend.backend() == "jax", batch_size=16).saturate(X)
    noted.clear()
    got = FastISM(model, test_correctness=False, batch_size=24, jit=True).saturate(X)  # 180 groups, 8 or so at once
    np.testing.assert_allclose(got.mutant, want.mutant, atol=1e-5)
    if keras.backend.backend() == "torch":
        assert not threads
        return
    assert threads - {threading.get_ident()}
    assert [seconds for seconds, fresh in noted if not fresh] == [7.0 / 2] * (len(noted) - 1)
    assert 180 // 8 - 4 <= len(noted) <= 180 // 8


def test_a_chunk_beside_one_of_another_size_tells_nothing(monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("on torch chunks run one by one")
    sizes, noted = itertools.cycle([4, 8, 8, 8, 8, 4]), []
    timed = chunks._timed
    monkeypatch.setattr(chunks, "_timed", lambda *args: (timed(*args)[0], 7.0))
    monkeypatch.setattr(Tuner, "propose", lambda self, left: next(sizes))
    monkeypatch.setattr(Tuner, "note", lambda self, size, seconds, *, fresh=False: noted.append((size, fresh)))
    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(5, 7, activation="relu")(x)))))
    ism = FastISM(model, test_correctness=False, jit=True)
    ism.saturate(X)
    noted.clear()
    ism.saturate(X)  # all is compiled by now
    assert noted
    assert set(noted) == {(8, False)}


def test_what_is_set_for_one_thread_holds_in_those_that_run_chunks():
    if keras.backend.backend() != "jax":
        pytest.skip("JAX keeps settings for each thread")
    import jax

    with jax.enable_x64(True):
        double = {"dtype": "float64"}
        x = keras.Input((60, 4), **double)
        y = L.Conv1D(5, 7, activation="relu", **double)(x)
        model = randomize(keras.Model(x, L.Dense(2, **double)(L.Flatten(**double)(y))))
        got = FastISM(model, test_correctness=False, batch_size=24).saturate(X)
        want = NaiveISM(model).saturate(X)
    assert got.mutant.dtype == want.mutant.dtype == np.float64
    np.testing.assert_allclose(got.mutant, want.mutant, atol=1e-12)


def test_jax_compiles_anew_for_other_settings_and_places():
    if keras.backend.backend() != "jax":
        pytest.skip("JAX keeps settings for each thread")
    import jax

    seen = []

    def product(a, b):
        seen.append(jax.config.jax_default_matmul_precision)
        return keras.ops.matmul(a, b)

    run, a = backend.compile_function(product, [], backend.XLA), np.ones((4, 4), "float32")
    for precision in (None, "tensorfloat32", "highest"):
        with jax.default_matmul_precision(precision):
            for _ in range(2):
                np.testing.assert_array_equal(run(a, a), a * 4)
                np.testing.assert_array_equal(backend.starting(run, a, a)(), a * 4)
    assert list(dict.fromkeys(seen)) == [None, "tensorfloat32", "highest"]
    before = len(run._compiled)
    placed = jax.device_put(a, jax.devices()[0])
    np.testing.assert_array_equal(backend.starting(run, placed, a)(), a * 4)
    assert len(run._compiled) == before + 1


def test_jax_without_jit():
    if keras.backend.backend() != "jax":
        pytest.skip("of JAX")
    import jax

    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(5, 7, activation="relu")(x)))))
    ism = FastISM(model, test_correctness=False, batch_size=24)
    want = ism.saturate(X[:1], 0, 20)
    with jax.disable_jit():
        for again in (ism, FastISM(model, test_correctness=False, batch_size=24)):
            np.testing.assert_allclose(again.saturate(X[:1], 0, 20).mutant, want.mutant, atol=1e-5)


def test_chunks_run_where_no_thread_starts_any_more(monkeypatch):
    """Once the main thread has ended, `concurrent.futures` refuses all that is submitted."""

    class Ended(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(5, 7, activation="relu")(x)))))
    ism = FastISM(model, test_correctness=False, batch_size=24, jit=True)
    want = ism.saturate(X)
    monkeypatch.setattr(chunks, "_pool", lambda process: Ended(2))
    np.testing.assert_allclose(ism.saturate(X).mutant, want.mutant, atol=1e-6)


def test_threads_are_kept_but_not_those_of_another_process():
    assert chunks._pool(1) is chunks._pool(1)
    assert chunks._pool(1) is not chunks._pool(2)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs one chunk at a time")
def test_after_an_error_nothing_goes_on(monkeypatch):
    """The chunk beside the one that failed has ended when the error comes."""
    x = keras.Input((60, 4))
    model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv1D(5, 7, activation="relu")(x)))))
    ism = FastISM(model, test_correctness=False, batch_size=24, jit=True)
    want = ism.saturate(X).mutant
    begun, ended = [], []

    def timed(run):
        begun.append(1)
        if len(begun) == 2:
            raise KeyError("of a chunk")
        time.sleep(0.05)
        ended.append(1)
        return real(run)

    real = chunks._timed
    monkeypatch.setattr(chunks, "_timed", timed)
    with pytest.raises(KeyError, match="of a chunk"):
        ism.saturate(X)
    assert len(ended) == len(begun) - 1
    monkeypatch.undo()
    np.testing.assert_allclose(ism.saturate(X).mutant, want, atol=1e-6)


@pytest.mark.parametrize("total", [61, 100, 200, 249, 999, 1000, 2114, 16_000])
@pytest.mark.parametrize("wanted", [7, 60, 85])
@pytest.mark.parametrize("two_at_once", [False, True])
def test_the_last_chunk_is_as_full_as_the_others(total, wanted, two_at_once):
    if 4 * wanted > total:
        pytest.skip("few chunks divide as they can")
    count = even(total, wanted, 2048, two_at_once)
    chunks = -(-total // count)
    assert 0.75 * wanted <= count <= 1.25 * wanted
    assert chunks * count - total <= 0.05 * total
    assert not (two_at_once and chunks % 2) or chunks > 8


def test_even_chunks_are_no_larger_than_memory_allows():
    assert even(1000, 85, 2048, True) == 84
    assert even(100, 85, 90, False) <= 90
    assert even(100, 90, 90, True) <= 90
