"""Which published architectures `FastISM` covers: exact or not, how much stays local, ideal and measured speed-up.

The architectures are those of ``tests/architectures``. Each backend has a process of its own. ``docs/coverage.md``
holds the table and says how to read it.

Run from the repository root::

    python -m benchmarks.coverage                                # all, write benchmarks/results/coverage.json
    python -m benchmarks.coverage --no-measure --backends jax    # no times: a few minutes for a backend
    python -m benchmarks.coverage --architectures bpnet,legnet --output /tmp/two.json
    python -m benchmarks.coverage --table                        # print the table of an existing file
    python -m benchmarks.coverage --update-docs                  # put that table into the documentation

Letters: N sequences, L input length, A letters, V mutated sequences (one substitution each).
"""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.report import (
    BACKENDS,
    TOLERANCE,
    _line,
    _number,
    _write_whole,
    write_json,
)
from benchmarks.speed import (
    ROOT,
    _compare,
    _device,
    _load,
    _mutants,
    _Naive,
    _now,
    _parse_names,
    _short,
    _timed,
    _versions,
    installed_backends,
    machine,
    peak_memory,
)

RESULTS = ROOT / "benchmarks" / "results" / "coverage.json"
DOCUMENT = ROOT / "docs" / "coverage.md"
BEGIN, END = "<!-- coverage:begin -->", "<!-- coverage:end -->"

#: What the child process runs; the request comes on standard input, answers go line by line into a file.
CHILD = "from benchmarks.coverage import answer; answer()"
#: MiB above which a child leaves the rest to a fresh one: frameworks keep memory that they no longer use.
RENEW = 2000
#: In the reason of a call of which all changes, but which reads a window only.
ALONE = "computed from the window alone"

#: Effects below this share of the output, in float32, are noise.
ROUNDING = 1e-5

#: Input lengths at which models of any length are planned.
LENGTHS = {"spliceai_any_length": 15000}

_BASENJI2 = dict(
    length=16384,
    stem=72,
    tower=(84, 100, 117, 138, 163, 192),
    filters=96,
    dilations=(1, 2, 3, 4, 6, 9),
    crop=8,
    last=384,
    targets=(500, 150),
)
_ATTENTION = dict(blocks=4, heads=4, key_size=32, value_size=64, last=512, targets=(500,))
_ENFORMER = dict(length=4096, stem=128, tower=(128, 152, 176, 192, 216, 256), crop=4, **_ATTENTION)
_DILATED = dict(filters=128)
_SPLICEAI = dict(filters=8)
#: Sizes at which models are timed that take too long at full size, as arguments of ``Architecture.build``.
MEDIUM: Mapping[str, Mapping[str, Any]] = {
    "chrombpnet": _DILATED,
    "chrombpnet_full": dict(filters=128, bias_filters=64),
    "dilated_cnn": _DILATED,
    "dilated_cnn_decoupled": _DILATED,
    "spliceai": _SPLICEAI,
    "spliceai_short": _SPLICEAI,
    "spliceai_any_length": _SPLICEAI,
    "beluga": dict(filters=(128, 192, 256), units=500),
    "crested_basenji": dict(stem=128, filters=64, last=1024),
    "basenji2": _BASENJI2,
    "basenji2_mouse": _BASENJI2,
    "basenji2_augmented": _BASENJI2,
    "akita_trunk": dict(length=16384, tower=8, dilations=(1, 2, 3, 5)),
    "enformer": dict(features=48, **_ENFORMER),
    "enformer_basenji": _ENFORMER,
    "enformer_composite": _ENFORMER,
    "borzoi": dict(
        length=2048,
        stem=128,
        tower=(152, 184, 224, 264, 320, 384),
        features=48,
        crop=20,
        **{**_ATTENTION, "last": 480},
    ),
}


def registry() -> Mapping[str, Any]:
    """The architectures of the tests, by name. Imports Keras."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    from architectures import ARCHITECTURES  # pyright: ignore[reportMissingImports]

    return ARCHITECTURES


# ---------------------------------------------------------------------- in the child: one backend


def answer() -> None:
    """Do the jobs in the JSON on standard input in turn, and append a line for each to the file that it names."""
    request = json.load(sys.stdin)
    with open(request["answer"], "a", encoding="utf-8") as file:
        for name, part in request["jobs"]:
            file.write(json.dumps(do(name, part, request["settings"])) + "\n")
            file.flush()
            if (resident_memory() or 0) > RENEW:
                return


def do(name: str, part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One part, of ``PARTS``, for an architecture; ``error`` says what failed, None if nothing did."""
    import keras

    begun, clock = _now(), time.perf_counter()
    try:
        found = {"error": None, **PARTS[part](registry()[name], settings)}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {_short(str(error))}"}
    finally:
        keras.backend.clear_session()
        gc.collect()
    seconds = time.perf_counter() - clock
    return {**found, "date": begun, "seconds": seconds, "peak_memory_mib": peak_memory(), "versions": _versions()}


def check(architecture: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The small model against plain calls of itself: every substitution at both ends and in the middle."""
    import numpy as np
    from oracle import predict  # pyright: ignore[reportMissingImports]

    from fastism import testing

    model = testing.randomize(architecture.small())
    whole = Whole(model, architecture, settings["seed"])
    length, each = whole.bases.shape[1], settings["ends"]
    starts = sorted({0, (length - each) // 2, length - each})
    ism = whole.fast()
    found = [ism.saturate(whole.given, start, start + each) for start in starts]
    mutant = [np.concatenate(parts, axis=1) for parts in zip(*[_leaves(s.mutant) for s in found], strict=True)]
    positions = np.concatenate([np.arange(start, start + each) for start in starts])
    cells = _cells(whole.bases, positions)
    predicted = predict(model, whole.inputs(_mutants(whole.bases, cells)))
    cells[:, 1] = np.searchsorted(positions, cells[:, 1])  # where a position is among those that were mutated
    explained = ism.explain(length=architecture.length)
    return {
        "length": length,
        "edits": len(cells),
        "mode": explained.mode,
        "ideal_speedup": explained.ideal_speedup,
        "local_share": local_share(explained.rows),
        "first_dense": first_dense(explained.rows),
        **_agreement((_leaves(found[0].reference), mutant), predicted, cells),
    }


def plan(architecture: Any, _: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan of the full-size model says. The model is never run."""
    from fastism import FastISM

    model = architecture.build()
    ism = FastISM(model, architecture.index, test_correctness=False)
    explained = ism.explain(length=LENGTHS.get(architecture.name))
    published = architecture.in_speedup
    return {
        "length": explained.length,
        "naive": explained.naive,
        "ideal": explained.ideal,
        "ideal_speedup": explained.ideal_speedup,
        "published": published,
        "of_published": None if published is None else explained.ideal_speedup / published,
        "local_share": local_share(explained.rows),
        "first_dense": first_dense(explained.rows),
    }


def measure(architecture: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Time ``saturate`` over the central positions of one sequence against the model's own `predict`."""
    import keras

    from fastism import testing

    changed = MEDIUM.get(architecture.name, {})
    model = testing.randomize(architecture.build(**changed))
    whole = Whole(model, architecture, settings["seed"], LENGTHS.get(architecture.name))
    length = whole.bases.shape[1]
    start = max(0, (length - settings["positions"]) // 2)
    end = min(length, start + settings["positions"])
    ism, construct = _timed(whole.fast)
    _, first = _timed(ism.saturate, whole.given, start, end)
    cells = _cells(whole.bases, range(start, end))
    naive = _Naive(whole, whole.bases, cells, settings["naive_batches"], None)
    fast_times, naive_times = [], []
    for _ in range(settings["repeats"]):
        saturation, seconds = _timed(ism.saturate, whole.given, start, end)
        fast_times.append(seconds)
        predicted, seconds = _timed(naive.predict)
        naive_times.append(seconds)
    explained = ism.explain(length=length)
    return {
        "full_size": not changed,
        "changed": dict(changed),
        "length": length,
        "variants": len(cells),
        "device": _device(keras),
        "load": _load(),
        "naive_macs": explained.naive,
        "ideal_speedup": explained.ideal_speedup,
        "chunk": explained.chunk,
        "mode": explained.mode,
        "construct_s": construct,
        "first_s": first,
        "fast_s": fast_times,
        "naive_s": naive_times,
        "naive_batch_size": naive.batch_size,
        "speedup": median(naive_times) / median(fast_times),
        **_agreement(saturation, predicted, cells - [0, start, 0]),
    }


PARTS = {"exact": check, "plan": plan, "measured": measure}


class Whole:
    """A model as a function of its bases alone: further inputs, and further channels of that input, stay as they are.

    Attributes:
        bases: (1, L, 4) one-hot sequence.
        given: What the unmutated model takes.

    Args:
        model: The model.
        architecture: Where it comes from.
        seed: Of its inputs.
        length: For a model that takes any; that of the architecture by default.
    """

    def __init__(self, model: Any, architecture: Any, seed: int, length: int | None = None):
        from dataclasses import replace

        self._model, self._index = model, architecture.index
        sized = architecture if length is None else replace(architecture, length=length)
        self._arrays = sized.inputs(model, 1, seed)
        mutated = self._arrays[self._index]
        self.bases, self._marks = mutated[..., :4], mutated[..., 4:]
        self.given = self._arrays if len(self._arrays) > 1 else self._arrays[0]

    def fast(self) -> Any:
        """A `FastISM` that mutates the bases; it is not checked against the model yet."""
        from fastism import FastISM

        channels = slice(4) if self._marks.shape[2] else None
        return FastISM(self._model, self._index, channels=channels, test_correctness=False)

    def inputs(self, bases: Any) -> list[Any]:
        """All inputs of the model for bases (V, L, 4)."""
        import numpy as np

        arrays = [np.repeat(a, len(bases), axis=0) for a in self._arrays]
        arrays[self._index] = np.concatenate([bases, arrays[self._index][..., 4:]], axis=2)
        return arrays

    def predict(self, bases: Any, **options: Any) -> Any:
        """The model's own `predict`."""
        arrays = self.inputs(bases)
        return self._model.predict(arrays if len(arrays) > 1 else arrays[0], **options)


def local_share(rows: Iterable[Any]) -> float:
    """Share of a model's multiply-accumulates in calls of which windows are computed, or which need one alone."""
    rows = list(rows)
    every = math.fsum(r.naive for r in rows)
    local = math.fsum(r.naive for r in rows if r.state == "window" or ALONE in r.reason)
    return local / every if every else math.nan


def first_dense(rows: Iterable[Any]) -> dict[str, str] | None:
    """The first call that is computed whole for every mutant, and why; None if there is none.

    Calls that read no window, such as what follows a mean over all positions, count from 1 % of the work on.
    """
    rows = list(rows)
    much = 0.01 * math.fsum(r.naive for r in rows)
    windows = {"input", *(r.call for r in rows if r.state == "window")}
    for row in rows:
        if row.state == "dense" and ALONE not in row.reason and (windows & set(row.reads) or row.naive > much > 0):
            return {"call": row.call, "kind": row.kind, "reason": row.reason}
    return None


def _agreement(saturation: Any, predicted: Any, cells: Any) -> dict[str, Any]:
    """Error and effect of the worst output, and whether it is exact to rounding.

    That is not known, None, where the effect itself is lost in rounding.
    """
    import numpy as np

    sizes = [float(np.abs(y).max()) for y in _leaves(predicted)]
    outputs = _compare([str(i) for i in range(len(sizes))], saturation, predicted, cells)
    lost = {o["output"] for o, size in zip(outputs, sizes, strict=True) if _within(ROUNDING * size, o)}
    telling = [o for o in outputs if o["output"] not in lost]
    worst = max(telling or outputs, key=lambda o: math.inf if o["share"] is None else o["share"])
    return {
        "max_error": worst["error"],
        "effect": worst["effect"],
        "error_share": worst["share"],
        "tolerance": TOLERANCE,
        "exact": (worst["share"] is not None and worst["share"] <= TOLERANCE) if telling else None,
    }


def _within(limit: float, output: Mapping[str, Any]) -> bool:
    """Whether both error and effect of an output are numbers below a limit."""
    return all(output[k] is not None and output[k] <= limit for k in ("error", "effect"))


def _cells(bases: Any, positions: Any) -> Any:
    """(V, 3) sequence, position and letter of every substitution at these positions."""
    import numpy as np

    cells = np.argwhere(bases == 0)
    return cells[np.isin(cells[:, 1], positions)]


def _leaves(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def resident_memory(process: int | str = "self") -> float | None:
    """MiB that a process holds; None where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


# ---------------------------------------------------------------------- in the parent


def run_jobs(
    backend: str,
    jobs: Sequence[tuple[str, str]],
    settings: Mapping[str, Any],
    *,
    memory: float = math.inf,
    timeout: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """Do jobs in a process of their own on a backend. A job that ends it is a failure; a fresh process does the rest.

    Args:
        backend: For ``KERAS_BACKEND``.
        jobs: Architecture and part of each.
        settings: For the parts.
        memory: MiB at which a job is ended.
        timeout: Seconds after which a job is ended.

    Yields:
        The answer to each job, in order.
    """
    left = list(jobs)
    while left:
        child, done = _Child(backend, left, settings), 0
        try:
            for found in child.answers(memory, timeout):
                done += 1
                yield found
        finally:
            child.close()
        if child.failure is not None or not done:
            yield {"error": child.failure or "no answer"}
            done += 1
        left = left[done:]


class _Child:
    """A process that does jobs, watched from outside.

    Attributes:
        failure: Why it ended before its time; None if it did not.
    """

    def __init__(self, backend: str, jobs: Sequence[tuple[str, str]], settings: Mapping[str, Any]):
        self.failure: str | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._answers, self._said = Path(self._folder.name) / "answers", Path(self._folder.name) / "said"
        self._answers.touch()
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "KERAS_BACKEND": backend}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=ROOT,
                env=environment,
            )
        request = {"jobs": list(jobs), "settings": dict(settings), "answer": str(self._answers)}
        if self._process.stdin is not None:
            with self._process.stdin as stdin:
                stdin.write(json.dumps(request).encode())

    def answers(self, memory: float, timeout: float) -> Iterator[dict[str, Any]]:
        """Answers as they come, until the process ends, or is ended because a job takes too much."""
        count, since = 0, time.monotonic()
        while True:
            ended = self._process.poll() is not None
            lines = self._answers.read_text(encoding="utf-8").split("\n")[:-1]
            for line in lines[count:]:
                count, since = count + 1, time.monotonic()
                yield json.loads(line)
            if ended:
                break
            if (resident_memory(self._process.pid) or 0) > memory:
                self.failure = f"skipped: needs more than {memory / 2**10:.3g} GiB"
            elif time.monotonic() - since > timeout:
                self.failure = f"not finished after {timeout:g} s"
            if self.failure is not None:
                return
            time.sleep(0.1)
        if self._process.returncode:
            said = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = _short(said[-1]) if said else "no message"
            self.failure = f"ended with code {self._process.returncode}: {last}"

    def close(self) -> None:
        """End the process, if it has not."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def cover(
    architectures: Sequence[str],
    backends: Iterable[str],
    settings: Mapping[str, Any],
    *,
    memory: float = math.inf,
    timeout: float = math.inf,
    output: Path | None = None,
) -> dict[str, Any]:
    """Assess architectures on backends.

    Args:
        architectures, backends: Names.
        settings: ``parts`` of ``PARTS``; ``seed``, ``ends``, ``positions``, ``repeats`` and ``naive_batches``.
        memory: MiB at which a job is ended.
        timeout: Seconds after which a job is ended.
        output: JSON file that is written anew after every job, so that an interrupted run leaves what it has.

    Returns:
        What the JSON file holds: ``machine``, ``settings`` and ``results``, one for each architecture and backend.
    """
    results: list[dict[str, Any]] = []
    report = {"machine": machine(), "settings": dict(settings), "started": _now(), "finished": None, "results": results}
    jobs = [(name, part) for name in architectures for part in settings["parts"]]
    for backend in backends:
        records = {name: {"architecture": name, "backend": backend, "versions": {}} for name in architectures}
        results += records.values()
        for (name, part), found in zip(
            jobs, run_jobs(backend, jobs, settings, memory=memory, timeout=timeout), strict=True
        ):
            records[name]["versions"] = found.pop("versions", records[name]["versions"])
            records[name][part] = found
            seconds = f" ({found['seconds']:.0f} s)" if "seconds" in found else ""
            click.echo(f"{backend}, {name}, {part}: {found['error'] or 'done'}{seconds}", err=True)
            report["finished"] = _now()
            if output is not None:
                write_json(output, report)
    return report


# ---------------------------------------------------------------------- the table


def table(report: Mapping[str, Any]) -> str:
    """The results as Markdown: a line on where they come from, a table, and where backends differ.

    Args:
        report: What `cover` returns or the JSON file holds.
    """
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    for result in report["results"]:
        by_name.setdefault(result["architecture"], {})[result["backend"]] = result
    backends = list(dict.fromkeys(r["backend"] for r in report["results"]))
    timed = "measured" in report["settings"]["parts"]
    head = ["architecture", "input", "MACs", "local", "first computed whole", "ideal", "published", "ratio"]
    head += [f"error, {b}" for b in backends]
    head += [f"measured, {b}" for b in backends if timed]
    right = {"input", "MACs", "local", "ideal", "published", "ratio"}
    lines = [_line(head), _line("---:" if h in right else "---" for h in head)]
    remarks: list[str] = []
    for name, records in by_name.items():
        plans = {b: r["plan"] for b, r in records.items() if "plan" in r}
        cells = [f"`{name}`", *_plan_cells(records)]
        cells += [_error_cell(records.get(b, {}).get("exact")) for b in backends]
        cells += [_speed_cell(records.get(b, {}).get("measured")) for b in backends if timed]
        lines.append(_line(cells))
        remarks += _remarks(name, plans)
    return "\n".join([_caption(report), "", *lines, *(["", *remarks] if remarks else [])])


def _plan_cells(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the plan of the full-size model says on the first backend that made one."""
    plans = [r["plan"] for r in records.values() if "plan" in r]
    made = next((p for p in plans if p["error"] is None), None)
    if made is None:
        small = next((r["exact"] for r in records.values() if r.get("exact", {"error": ""})["error"] is None), None)
        dense = "" if small is None else f"{_dense_cell(small['first_dense'])} (small model)"
        return ["", "", "", dense, _failed(plans[0]["error"]) if plans else "", "", ""]
    published = made["published"]
    return [
        f"{made['length']}",
        _macs(made["naive"]),
        f"{100 * made['local_share']:.3g} %",
        _dense_cell(made["first_dense"]),
        f"{_number(made['ideal_speedup'])}x",
        "" if published is None else f"{published:g}x",
        "" if published is None else f"{made['of_published']:.2f}",
    ]


def _dense_cell(first: Mapping[str, str] | None) -> str:
    return "none" if first is None else _escaped(f"`{first['call']}`: {_short(first['reason'])}")


def _error_cell(exact: Mapping[str, Any] | None) -> str:
    if exact is None:
        return ""
    if exact["error"] is not None:
        return _failed(exact["error"])
    share = "not defined" if exact["error_share"] is None else format(exact["error_share"], ".0e")
    return share + {True: "", False: " (too large)", None: " (no effect)"}[exact["exact"]]


def _speed_cell(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return ""
    if measured["error"] is not None:
        return _failed(measured["error"])
    size = "" if measured["full_size"] else ", medium"
    wrong = " (wrong)" if measured["exact"] is False else ""
    return f"{_number(measured['speedup'])}x of {_number(measured['ideal_speedup'])}x{size}{wrong}"


def _failed(error: str) -> str:
    return _escaped(error if error.startswith("skipped") else f"failed: {error}")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _remarks(name: str, plans: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each backend whose plan is another than that of the table."""
    made = {b: p for b, p in plans.items() if p["error"] is None}
    if not made:
        return []
    first, *_ = made.values()
    return [
        f"- `{name}` on {backend}: ideal {_number(p['ideal_speedup'])}x, first computed whole: "
        f"{_dense_cell(p['first_dense'])}."
        for backend, p in made.items()
        if (p["first_dense"], round(p["ideal_speedup"], 6)) != (first["first_dense"], round(first["ideal_speedup"], 6))
    ]


def _macs(value: float) -> str:
    """A count of multiply-accumulates with a metric prefix."""
    for limit, prefix in ((1e12, "T"), (1e9, "G")):
        if value >= limit:
            return f"{_number(value / limit)} {prefix}"
    return f"{_number(value / 1e6)} M"


def _caption(report: Mapping[str, Any]) -> str:
    computer, settings = report["machine"], report["settings"]
    versions = {n: v for r in report["results"] for n, v in r["versions"].items() if n in ("fastism", "keras")}
    for result in report["results"]:
        backend = result["backend"]
        versions.update({backend: result["versions"][backend]} if backend in result["versions"] else {})
    parts = [", ".join(f"{name} {v}" for name, v in versions.items())]
    if "measured" in settings["parts"]:
        devices = sorted({r["measured"]["device"] for r in report["results"] if "device" in r.get("measured", {})})
        where = ", ".join([*(d for d in devices if d != "cpu"), computer["processor"], f"{computer['cores']} cores"])
        parts = [f"Measured: all substitutions at {settings['positions']} positions, float32; {where}", *parts]
    return "; ".join(part for part in [*parts, (report["finished"] or report["started"])[:10]] if part) + "."


def update_page(path: Path, text: str) -> bool:
    """Put text between the markers of a Markdown file. Gives whether the file exists and has both, in order."""
    if not path.is_file():
        return False
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        _write_whole(path, f"{before}{begin}\n{text}\n{end}{after}")
    return bool(begin and end)


# ---------------------------------------------------------------------- command line


@click.command()
@click.option("--architectures", help="Separated by commas; all.")
@click.option("--backends", callback=_parse_names(BACKENDS), help="Separated by commas; all that are installed.")
@click.option("--measure/--no-measure", "timed", default=True, help="Time each architecture; yes.")
@click.option("--positions", default=40, type=click.IntRange(1), help="Central positions to time; 40.")
@click.option("--repeats", default=3, type=click.IntRange(1), help="Of the fast and the naive run, in turns; 3.")
@click.option("--memory", default=6.0, type=click.FloatRange(0), help="GiB above which a model is skipped; 6.")
@click.option("--timeout", default=900.0, type=click.FloatRange(1), help="Seconds for a part of an architecture; 900.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file; benchmarks/results/coverage.json."
)
@click.option("--table", "only_table", is_flag=True, help="Assess nothing; print the table of an existing file.")
@click.option("--update-docs", is_flag=True, help="Assess nothing; put that table into the documentation.")
def main(**options: Any) -> None:
    """Say which published architectures FastISM covers, and what it saves, on every installed backend."""
    output = options["output"] or RESULTS
    if options["only_table"] or options["update_docs"]:
        _show(output, update_docs=options["update_docs"])
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    backends = options["backends"] or installed_backends()
    if not backends:
        raise click.ClickException(f"None of {', '.join(BACKENDS)} is installed.")
    os.environ.setdefault("KERAS_BACKEND", backends[0])
    names = list(registry())
    chosen = _parse_names(names)(click.get_current_context(), None, options["architectures"]) or names
    settings = {
        "parts": ["exact", "plan", *(["measured"] if options["timed"] else [])],
        "seed": 0,
        "ends": 3,
        "positions": options["positions"],
        "repeats": options["repeats"],
        "naive_batches": [8, 32, 120],
    }
    report = cover(
        chosen, backends, settings, memory=options["memory"] * 2**10, timeout=options["timeout"], output=output
    )
    click.echo(table(report))
    bad = [r for r in report["results"] for p in ("exact", "measured") if p in r and not _is_good(r[p], p)]
    if bad:
        raise click.ClickException(f"{len(bad)} comparisons failed or disagreed; see the table.")


def _is_good(found: Mapping[str, Any], part: str) -> bool:
    """Whether a comparison was made and did not disagree; only where times count may it show nothing."""
    return found["error"] is None and (found["exact"] is True or (part == "measured" and found["exact"] is None))


def _show(path: Path, *, update_docs: bool) -> None:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.ClickException(
            f"{path} does not exist; run without this option first, or name another file with --output."
        ) from None
    text = table(report)
    click.echo(text)
    if update_docs:
        done = update_page(DOCUMENT, text)
        click.echo(f"{DOCUMENT}: {'updated' if done else 'left alone, it has no markers'}", err=True)


if __name__ == "__main__":
    main()
