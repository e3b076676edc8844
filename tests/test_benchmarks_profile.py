"""The profile benchmark on a tiny model, and the traces that it reads: what adds up. No speed is asserted."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import pytest
from click.testing import CliRunner
from keras import layers, ops

from benchmarks import devices, processes, profile, profile_table, report, traces
from benchmarks.cases import CASES, Case
from benchmarks.harness import one_hot
from fastism import FastISM, backend

BACKEND = keras.backend.backend()
KERNELS = ("products", "moves", "passes")


@dataclass(frozen=True)
class Tiny(Case):
    """One convolution, one pool, a sum with what was before it."""

    def build(self, length=None):
        x = keras.Input((length or self.length, 4))
        y = layers.Conv1D(4, 3, padding="same", activation="relu", name="conv")(x)
        y = layers.Add(name="add")([layers.Conv1D(4, 3, padding="same", name="second")(y), y])
        return keras.Model(x, layers.Dense(1, name="last")(layers.Flatten()(layers.MaxPooling1D(2)(y))))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command's outcome, and what it wrote; measured in this process."""
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    known = {"model": "basset", "backend": "jax", "error": "as before", "date": "2026-01-01"}
    report.write_json(path, {"results": [known]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "bpnet", Tiny(CASES["bpnet"].title, "", 30))
        patch.setattr(profile, "fresh", lambda call, _, request, __: processes.function(call)(request))
        arguments = ["bpnet", "--device=cpu", f"--backends={BACKEND}", "--repeats=2", f"--output={path}"]
        outcome = CliRunner().invoke(profile.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    return outcome, json.loads(path.read_text()), path


# ---------------------------------------------------------------------- of a model


def test_the_groups_add_up_to_the_whole(run):
    before, found = run[1]["results"]
    assert before["error"] == "as before"
    assert (found["model"], found["backend"]) == ("bpnet", BACKEND)
    groups = found["groups"]
    assert sum(groups[g] for g in profile_table.GROUPS) == pytest.approx(found["total_s"])
    assert all(groups[g] >= 0 for g in profile_table.GROUPS)
    assert all(groups[g] > 0 for g in ("products", "passes", "calls", "reference"))
    in_chunks = sum(groups[g] for g in (*KERNELS, "calls"))
    assert in_chunks == pytest.approx(found["chunks"] * found["chunk_s"])
    assert groups["reference"] == found["reference_s"]
    assert found["chunks"] * found["variants_in_chunk"] >= found["variants"] == 90
    assert found["matrix_gflops"] > 0


def test_the_operations_of_a_chunk_make_its_groups(run):
    found = run[1]["results"][1]
    operations = found["operations"]
    assert all(op["kind"] in (*KERNELS, "calls", "various") for op in operations)
    assert [op["seconds"] for op in operations[:-1]] == sorted((op["seconds"] for op in operations[:-1]), reverse=True)
    for kind in KERNELS:
        seconds = found["chunks"] * sum(op["seconds"] for op in operations if op["kind"] == kind)
        others = found["chunks"] * sum(op["seconds"] for op in operations if op["kind"] == "various")
        assert seconds <= found["groups"][kind] * (1 + 1e-9)
        assert seconds + others >= found["groups"][kind] * (1 - 1e-9)
    assert sum(op["seconds"] for op in operations) <= found["chunk_s"] * (1 + 1e-9)


def test_the_rate_is_that_of_the_products_that_the_plan_makes():
    ism = FastISM(Tiny("", "", 30).build(), test_correctness=False)
    with profile.calls(ism._engine.functions, "chunk") as chunks:
        ism.saturate(one_hot(1, 30, 0))
    whole = profile.gflop(lambda _: ism._engine.plan(1), chunks)
    variants = sum(call.variants for call in chunks)
    assert variants >= 90
    assert whole * 1e9 == pytest.approx(2 * variants * ism.explain().plan)
    assert profile.gflop(ism._engine.functions.plans.of_shape, chunks) <= whole
    groups = profile.grouped(1.0, 0.1, 0.5, {"dot.1": 0.25}, whole)
    assert groups["products_gflops"] == pytest.approx(4 * whole)


def test_calls_are_noted_while_they_are_watched():
    ism = FastISM(Tiny("", "", 30).build(), test_correctness=False)
    x = one_hot(1, 30, 0)
    with profile.calls(ism._engine.functions, "chunk") as chunks:
        expected = ism.saturate(x).mutant
        count = len(chunks)
        assert sum(call.variants for call in chunks) >= 90
        assert all(call.seconds > 0 for call in chunks)
    assert (ism.saturate(x).mutant == expected).all()
    assert len(chunks) == count
    assert "chunk" not in vars(ism._engine.functions)
    again = [backend.to_numpy(answer) for answer in chunks[0].again()]
    assert again[0].shape[0] == chunks[0].variants


def _call(stretch, seconds, variants=1):
    shape = SimpleNamespace(stretch=stretch, groups=variants, members=1)
    return profile.Call((shape,), lambda: stretch, (), seconds)


def test_each_stretch_counts_by_the_time_of_its_chunks(monkeypatch):
    seen = []

    def shares(again, repeats):
        seen.append((again.__self__, repeats))
        return {"dot": 0.5, "add": 0.25} if again.__self__.run() == (0, 9) else {"dot": 0.1}

    monkeypatch.setattr(traces, "shares", shares)
    chunks = [_call((0, 9), 1.0), _call((9, 12), 10.0), _call((0, 9), 2.0), _call((0, 9), 3.0)]
    assert profile.operations(chunks, 5) == pytest.approx({"dot": 0.5 * 6 + 0.1 * 10, "add": 0.25 * 6})
    assert seen == [(chunks[2], 5), (chunks[1], 5)]


def test_no_share_is_negative():
    groups = profile.grouped(1.0, 0.2, 0.8, {"dot.1": 0.5, "copy.1": 0.2, "add.1": 0.1 + 1e-12, "aten::view": 0.1}, 10)
    assert groups["products_gflops"] == pytest.approx(20)
    assert {name: groups[name] for name in KERNELS} == pytest.approx({"products": 0.5, "moves": 0.2, "passes": 0.1})
    assert groups["calls"] == groups["host"] == 0.0
    assert profile.grouped(1.0, 0.2, 0.8, {"add": 0.5}, 0)["products_gflops"] is None
    assert profile.grouped(1.0, 0.2, 0.7, {"add": 0.5, "aten::view": 0.1}, 0)["calls"] == pytest.approx(0.2)
    assert profile.grouped(1.0, 0.2, 0.7, {"add": 0.5}, 0)["host"] == pytest.approx(0.1)


def test_the_rest_of_a_long_list_is_summed():
    seconds = {"add.1": 0.5, "dot.2": 2.0, "copy.3": 0.25, "gather": 1.0}
    dot, gather, rest = profile.listed(seconds, most=2)
    assert dot == {"name": "dot.2", "seconds": 2.0, "kind": "products"}
    assert gather == {"name": "gather", "seconds": 1.0, "kind": "moves"}
    assert rest == {"name": "2 others", "seconds": 0.75, "kind": "various"}
    assert [op["name"] for op in profile.listed(seconds, most=4)] == ["dot.2", "gather", "add.1", "copy.3"]


def test_the_whole_and_its_calls_are_of_one_turn(monkeypatch):
    """The first turn warms up; of the others one has the least calls, another one the least whole but one."""
    times = {"whole": [1.0, 4.0, 5.0, 4.5], "product": [0.1, 0.5, 0.75, 0.25], "chunk": [1.0, 5.0, 2.0, 3.0]}
    turns = {"chunk": iter([[_call(None, s)] for s in times["chunk"]])}

    def timed(call):
        return None, times["whole" if call is saturate else "product"].pop(0)

    @contextmanager
    def calls(_, maker):
        yield next(turns[maker]) if maker in turns else []

    def saturate():
        pass

    monkeypatch.setattr(profile, "timed", timed)
    monkeypatch.setattr(profile, "calls", calls)
    total, references, chunks, rate = profile.quickest(None, saturate, 3)
    assert (total, references, [call.seconds for call in chunks], rate) == (5.0, [], [2.0], 0.25)


def test_calls_that_overlap_with_the_host_are_cut_to_the_whole(monkeypatch):
    quickest, found = profile.quickest, []

    def overlapping(*args):
        _, references, chunks, rate = quickest(*args)
        found.append(sum(call.seconds for call in (*references, *chunks)) / 2)
        return found[0], references, chunks, rate

    monkeypatch.setattr(profile, "quickest", overlapping)
    monkeypatch.setitem(CASES, "bpnet", Tiny("", "", 30))
    request = {"model": "bpnet", "length": None, "repeats": 1, "seed": 0, "device": "cpu", "tf32": None}
    record = profile.measure(request)
    assert record["total_s"] == found[0]
    assert record["chunks"] * record["chunk_s"] + record["reference_s"] == pytest.approx(found[0])
    assert record["groups"]["host"] == pytest.approx(0)
    assert sum(record["groups"][g] for g in profile_table.GROUPS) == pytest.approx(found[0])


# ---------------------------------------------------------------------- traces


def test_a_product_is_found_in_what_runs():
    matrix = ops.convert_to_tensor(one_hot(1, 512 * 128, 0).reshape(512, 512))

    def power(x):
        for _ in range(8):
            x = ops.matmul(x, x) / 100
        return [x]

    function = backend.compile_function(power, [], backend.choose_mode("auto"))
    devices.wait(function(matrix))
    found = traces.shares(lambda: devices.wait(function(matrix)), 3)
    assert sum(share for name, share in found.items() if traces.kind(name) == "products") > 0.2
    assert sum(found.values()) <= 1 + 1e-9


@pytest.mark.skipif(BACKEND == "torch", reason="torch keeps its trace in memory")
def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(RuntimeError, match="not compiled"):
        traces.shares(lambda: None, 1)
    monkeypatch.setitem(sys.modules, "jax.profiler", None)
    with pytest.raises(RuntimeError, match="jax is not installed"):
        traces.shares(lambda: None, 1)


def test_operations_that_run_at_once_share_the_time():
    events = [("a", 1.0, 4.0), ("b", 2.0, 3.0), ("a", 2.5, 3.0), ("c", 6.0, 6.0), ("b", 5.0, 5.5)]
    found = traces.shared_out(events)
    assert found == pytest.approx({"a": 1 + 0.25 + 0.5 * 2 / 3 + 1, "b": 0.25 + 0.5 / 3 + 0.5})
    assert sum(found.values()) == pytest.approx(3.5)
    assert traces.shared_out([]) == {}


def _event(name, start, duration, **stats):
    return SimpleNamespace(name=name, start_ns=start, duration_ns=duration, stats=list(stats.items()))


def _plane(name, **lines):
    return SimpleNamespace(name=name, lines=[SimpleNamespace(name=n, events=events) for n, events in lines.items()])


def test_only_what_xla_runs_is_taken_from_a_trace():
    python = [_event("$engine.py:1 run", 0, 9e9), _event("ThunkExecutor::Execute", 0, 8e9)]
    pool = [
        _event("dot.1", 1e9, 2e9, hlo_op="dot.1", run_id=3),
        _event("end: dot.1", 3e9, 0),
        _event("while.2", 4e9, 2e9, hlo_op="while.2"),
        _event("add.7", 4e9, 1e9, hlo_op="add.7"),
    ]
    host = _plane("/host:CPU", python=python, tf_XLAEigen=pool)
    assert list(traces.kernels([host])) == [("dot.1", 1, 3), ("add.7", 4, 5)]
    streams = {"Stream #7(Compute)": [_event("sm90_gemm", 1e9, 1e9, hlo_op="dot.1"), _event("Memset", 2e9, 1e9)]}
    device = _plane("/device:GPU:0", **streams, Steps=[_event("0", 0, 9e9)])
    assert list(traces.kernels([host, device])) == [("dot.1", 1, 2), ("Memset", 2, 3)]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "products",
            "dot.1 ynn_fusion.3 MatMul_1.2 add_dot_fusion convolution.4 Conv1D.2 BatchMatMulV2.3 cublas-gemm.1 "
            "aten::mm aten::addmm_ aten::bmm aten::baddbmm aten::mkldnn_convolution",
        ),
        (
            "moves",
            "copy_gather_fusion.2 bitcast_pad_fusion.5 concatenate.5 wrapped_broadcast dynamic-update-slice.1 "
            "wrapped_slice gather_bitcast_fusion transpose.7 aten::index_select aten::copy_ aten::index_fill_ "
            "aten::cat aten::constant_pad_nd aten::fill_",
        ),
        (
            "passes",
            "select_bitcast_fusion subtract_bitcast_fusion.1 convert_fusion compare_convert_fusion.1 fusion.3 "
            "wrapped_reduce-window loop_fusion iota_add_fusion %4 aten::maximum aten::clamp_min_ aten::masked_fill_ "
            "aten::where aten::add_",
        ),
        ("calls", "aten::as_strided aten::slice aten::select aten::view aten::_to_copy aten::empty aten::permute"),
    ],
)
def test_names_say_what_operations_do(kind, names):
    assert {name: traces.kind(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


# ---------------------------------------------------------------------- tables and the command


def test_tables_show_groups_and_operations(run):
    outcome, found, _ = run
    summary = profile_table.summary(found)
    assert "failed: as before" in summary
    assert {line.count("|") for line in summary.splitlines()[2:]} == {12}
    assert "| products | moves | passes | calls | host | reference |" in outcome.output
    largest = found["results"][1]["operations"][0]
    share = f"{100 * largest['seconds'] / found['results'][1]['chunk_s']:.0f} %"
    assert f"| {largest['name']} | {largest['kind']} | {1e3 * largest['seconds']:.2f} | {share} |" in outcome.output


@pytest.mark.parametrize(("rate", "cell"), [(90.0, "90.0"), (190.0, "")])
def test_no_rate_is_shown_where_the_profiler_missed_products(run, rate, cell):
    record = run[1]["results"][1]
    seen = {**record, "matrix_gflops": 100.0, "groups": {**record["groups"], "products_gflops": rate}}
    row = profile_table.summary({"results": [seen]}).splitlines()[-1]
    assert [part.strip() for part in row.split("|")][-3:-1] == [cell, "100"]


def test_the_summary_goes_into_the_page(run, tmp_path, monkeypatch):
    page = tmp_path / "performance.md"
    page.write_text(report.between("profile", ""))
    monkeypatch.setattr(profile, "PERFORMANCE", page)
    outcome = CliRunner().invoke(profile.main, ["--update-docs", "--device=cpu", f"--output={run[2]}"])
    assert outcome.exit_code == 0, outcome.output
    assert page.read_text() == report.between("profile", profile_table.summary(run[1]))


def test_the_documentation_shows_what_the_file_holds():
    path = report.FOLDER / "profile.json"
    if not path.is_file():
        pytest.skip("nothing to compare")
    text = profile_table.summary(json.loads(path.read_text()))
    assert report.between("profile", text) in report.PERFORMANCE.read_text()


@pytest.mark.parametrize("arguments", [[], ["bassett"], ["basset", "--repeats=0"]])
def test_misspelt_arguments_are_refused(arguments):
    assert CliRunner().invoke(profile.main, arguments).exit_code == 2
