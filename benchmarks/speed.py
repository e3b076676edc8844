"""Speed of `FastISM` against the model's own `predict`, on every installed backend.

Each model is timed on each backend in a process of its own. ``docs/performance.md`` says how, and what the
numbers mean.

Run from the repository root::

    python -m benchmarks.speed                  # measure, write benchmarks/results/speed.json, print a table
    python -m benchmarks.speed --quick          # a small setting: does it work?
    python -m benchmarks.speed --table          # print the table of an existing file
    python -m benchmarks.speed --update-docs    # put that table into the documentation

Letters: N sequences, L input length, A alphabet size, V mutated sequences (one substitution each).
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.cases import CASES
from benchmarks.report import (
    BACKENDS,
    TOLERANCE,
    table,
    update_document,
    write_json,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")

MODELS = tuple(CASES)
#: The backends that the README shows.
SHORT = ("tensorflow",)
QUICK = ("basset", "factorized_basset", "bpnet")
PACKAGES = ("keras", "numpy", *BACKENDS, "jaxlib")


#: Positions in a naive batch beyond which no batch size is tried.
BIG = 1 << 22
#: What the child process runs; the request comes on standard input, the answer goes into a file.
CHILD = "from benchmarks.speed import answer; answer()"


# ---------------------------------------------------------------------- in the child: one model, one backend


def answer() -> None:
    """Measure what the JSON on standard input asks for, and write the result where it says."""
    request = json.load(sys.stdin)
    try:
        result = measure(request)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {_short(str(error))}"}
        print(repr(error), file=sys.stderr)
    write_json(Path(request["answer"]), result)


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Time one model on the backend of this process, which must be fresh.

    Args:
        request: ``model``, ``length`` (None for the model's own) and ``sequences``; ``seed`` of the sequences;
            ``repeats``; ``sample``, how many mutants are predicted naively (None for all), and ``naive_seconds``, for
            how long at most; ``naive_batches`` to choose from; ``batch_size``, ``jit`` and ``memory`` of `FastISM`;
            ``spawned``, the value of ``time.perf_counter`` before the process started.

    Returns:
        A record for the JSON file. All times are in seconds, memory is in MiB.
    """
    begun = _now()
    import keras
    import numpy as np

    import fastism
    from fastism import testing

    imported = time.perf_counter() - request["spawned"]
    case = CASES[request["model"]]
    length = request["length"] or case.length
    start, end = case.positions(length)
    x = _one_hot(request["sequences"], length, request["seed"])
    model, build = _timed(lambda: testing.randomize(case.build(length)))
    before = peak_memory()
    options = {"batch_size": request["batch_size"], "jit": request["jit"], "memory": request["memory"]}
    ism, construct = _timed(fastism.FastISM, model, **options)
    saturation, first = _timed(ism.saturate, x, start, end)
    memory = peak_memory()

    cells = np.add(np.argwhere(x[:, start:end] == 0), [0, start, 0])  # (V, 3): sequence, position, letter
    batches = [b for b in request["naive_batches"] if b * length <= BIG] or request["naive_batches"][:1]
    naive = _Naive(model, x, cells, batches, request["sample"], request["naive_seconds"])
    fast_times, naive_times = [], []
    for _ in range(request["repeats"]):
        saturation, seconds = _timed(ism.saturate, x, start, end)
        fast_times.append(seconds)
        predicted, seconds = _timed(naive.predict)
        naive_times.append(seconds)

    scaled = naive.scaled(median(naive_times))
    outputs = _compare(model.output_names, saturation, predicted, naive.cells - [0, start, 0])
    worst = max(outputs, key=lambda o: math.inf if o["share"] is None else o["share"])
    explained = ism.explain()
    speedup = scaled / median(fast_times)
    return {
        "date": begun,
        "load": _load(),
        "device": _device(keras),
        "versions": {"fastism": fastism.__version__, **_versions()},
        "length": length,
        "positions": end - start,
        "variants": len(cells),
        "import_s": imported,
        "build_s": build,
        "fast": {
            "construct_s": construct,
            "first_s": first,
            "fresh_s": imported + construct + first,
            "times_s": fast_times,
            "median_s": median(fast_times),
            "chunk": explained.chunk,
            "mode": explained.mode,
        },
        "naive": {
            "batch_size": naive.batch_size,
            "candidates": naive.candidates,
            "jit_compile": bool(model.jit_compile),
            "measured_variants": len(naive.cells),
            "times_s": naive_times,
            "overhead_s": naive.overhead,
            "scaled_s": scaled,
        },
        "speedup": speedup,
        "ideal_speedup": explained.ideal_speedup,
        "share_of_ideal": speedup / explained.ideal_speedup,
        "outputs": outputs,
        "error": None,
        "max_error": worst["error"],
        "effect": worst["effect"],
        "error_share": worst["share"],
        "tolerance": TOLERANCE,
        "agrees": worst["share"] is not None and worst["share"] <= TOLERANCE,
        "peak_memory_mib": {"model": before, "fast": memory, "fast_and_naive": peak_memory()},
    }


class _Naive:
    """The model's own `predict` on mutated copies, at the fastest of several batch sizes, compiled and warm.

    Making the copies is not timed.

    Args:
        model: The model.
        x: (N, L, A) sequences.
        cells: (V, 3) sequence, position and letter of every mutant.
        batches: Batch sizes to choose from.
        sample: How many mutants are predicted, rounded up to full batches; None for all.
        seconds: How long one run over the sample may take, about; fewer mutants are predicted if need be.
    """

    def __init__(
        self, model: Any, x: Any, cells: Any, batches: Sequence[int], sample: int | None, seconds: float | None = None
    ):
        self._model, self._total = model, len(cells)
        self.candidates: list[dict[str, Any]] = []
        for batch in sorted(batches):
            probe = _mutants(x, _spread(cells, min(4 * batch, max(batches))))
            _, first = _timed(self._run, probe[:batch], batch)
            self._warm(probe, batch)
            _, taken = _timed(self._run, probe, batch)
            rate = taken / len(probe)
            self.candidates.append({"batch_size": batch, "first_s": first, "seconds_per_variant": rate})
            if rate > 1.3 * min(c["seconds_per_variant"] for c in self.candidates):
                break  # larger ones do no better
        best = min(self.candidates, key=lambda c: c["seconds_per_variant"])
        self.batch_size = int(best["batch_size"])
        if sample is not None and seconds is not None:
            sample = min(sample, math.ceil(seconds / best["seconds_per_variant"]))
        wanted = self._total if sample is None else math.ceil(sample / self.batch_size) * self.batch_size
        self.cells = _spread(cells, wanted)
        self._mutants = _mutants(x, self.cells)
        self._warm(self._mutants, self.batch_size)
        self._run(self._mutants[:1], 1)
        self.overhead = median(_timed(self._run, self._mutants[:1], 1)[1] for _ in range(3))

    def predict(self) -> Any:
        """Predict the sample."""
        return self._run(self._mutants, self.batch_size)

    def scaled(self, seconds: float) -> float:
        """Time for all mutants, from that for the sample: what a call costs by itself counts once."""
        each = max(seconds - self.overhead, 0) / len(self.cells)
        return seconds + each * (self._total - len(self.cells))

    def _run(self, mutants: Any, batch: int) -> Any:
        return self._model.predict(mutants, batch_size=batch, verbose=0)

    def _warm(self, mutants: Any, batch: int) -> None:
        """Compile for a last batch that is not full, so that no timed run does."""
        if len(mutants) % batch:
            self._run(mutants[-(len(mutants) % batch) :], batch)


def _compare(names: Sequence[str], saturation: Any, predicted: Any, cells: Any) -> list[dict[str, Any]]:
    """Error and effect of each output, over the mutants that were predicted naively."""
    import numpy as np

    leaves = [[t] if isinstance(t, np.ndarray) else list(t) for t in (*saturation, predicted)]
    found = []
    for name, reference, mutant, naive in zip(names, *leaves, strict=True):
        naive = naive.astype("float64")
        error = float(np.abs(mutant[tuple(cells.T)] - naive).max())
        effect = float(np.abs(naive - reference[cells[:, 0]]).max())
        share = error / effect if effect else math.nan
        numbers = {"error": error, "effect": effect, "share": share}
        found.append({"output": name, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}})
    return found


def _one_hot(count: int, length: int, seed: int) -> Any:
    import numpy as np

    letters = np.random.default_rng(seed).integers(0, 4, (count, length))
    return np.eye(4, dtype="float32")[letters]


def _spread(cells: Any, count: int) -> Any:
    """About evenly spaced ``count`` of the cells, or all of them."""
    import numpy as np

    count = min(count, len(cells))
    return cells[np.arange(count) * len(cells) // count]


def _mutants(x: Any, cells: Any) -> Any:
    """(V, L, A) a mutated copy of its sequence for each cell."""
    import numpy as np

    sequence, position, letter = cells.T
    copies = x[sequence]
    copies[np.arange(len(cells)), position] = np.eye(x.shape[2], dtype=x.dtype)[letter]
    return copies


def _timed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = call(*args, **kwargs)
    return result, time.perf_counter() - begun


def peak_memory() -> float | None:
    """Most memory this process has held so far, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _device(keras: Any) -> str:
    backend = keras.backend.backend()
    if backend == "torch":
        torch = sys.modules["torch"]
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    if backend == "jax":
        device = sys.modules["jax"].devices()[0]
        return device.device_kind if device.platform != "cpu" else "cpu"
    config = sys.modules["tensorflow"].config
    gpus = config.list_physical_devices("GPU")
    return config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


# ---------------------------------------------------------------------- in the parent: which runs, what machine


def measure_fresh(backend: str, request: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
    """Run `measure` in a new process on a backend. A failure comes back as a record with its ``error``.

    Args:
        backend: For ``KERAS_BACKEND``.
        request: As for `measure`, without ``spawned``.
        timeout: Seconds after which the process is ended.
    """
    record = {"model": request["model"], "backend": backend}
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "KERAS_BACKEND": backend}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        asked = json.dumps({**request, "answer": str(path), "spawned": time.perf_counter()})
        try:
            done = subprocess.run(
                [sys.executable, "-c", CHILD],
                input=asked,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return {**record, "error": f"not finished after {timeout:g} s"}
        if path.exists():
            return {**record, **json.loads(path.read_text(encoding="utf-8"))}
    said = done.stderr.strip().splitlines()
    return {**record, "error": f"ended with code {done.returncode}: {_short(said[-1]) if said else 'no message'}"}


def measure_all(
    models: Iterable[str],
    backends: Iterable[str],
    settings: Mapping[str, Any],
    *,
    timeout: float | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Measure every model on every backend, one process after the other.

    Args:
        models, backends: Names.
        settings: As for `measure`, without ``model`` and ``spawned``.
        timeout: Seconds for each process.
        output: JSON file that is written anew after every process, so that an interrupted run leaves what it has.

    Returns:
        What the JSON file holds: ``machine``, ``settings`` and ``results``.
    """
    results: list[dict[str, Any]] = []
    report = {"machine": machine(), "settings": dict(settings), "started": _now(), "finished": None, "results": results}
    backends = list(backends)
    for model in models:
        for backend in backends:
            click.echo(f"{model}, {backend} ...", err=True, nl=False)
            begun = time.perf_counter()
            results.append(measure_fresh(backend, {**settings, "model": model}, timeout))
            click.echo(f" {results[-1]['error'] or 'done'} ({time.perf_counter() - begun:.0f} s)", err=True)
            report["finished"] = _now()
            if output is not None:
                write_json(output, report)
    return report


def machine() -> dict[str, Any]:
    """The computer: system, processor, cores this process may use, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores,
        "memory_mib": _memory(),
        "python": platform.python_version(),
        "load": _load(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    except (AttributeError, ValueError, OSError):
        return None


def _load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes: whether something else was running."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def _versions() -> dict[str, str]:
    """Versions of the packages that matter and are installed."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _short(text: str) -> str:
    """A message on one line of a table, without the codes that colour it."""
    return textwrap.shorten(re.sub(r"\x1b\[[\d;]*m", "", text), 160, placeholder=" ...")


# ---------------------------------------------------------------------- command line


def installed_backends() -> list[str]:
    """The backends whose package can be found."""
    return [name for name in BACKENDS if find_spec(name) is not None]


def _parse_batch(_: click.Context, __: click.Parameter, value: str) -> int | str:
    if value == "auto" or (value.isdecimal() and int(value) > 0):
        return value if value == "auto" else int(value)
    raise click.BadParameter(f"{value!r} is neither 'auto' nor a positive number.")


def _parse_names(accepted: Sequence[str]) -> Callable[..., list[str] | None]:
    def parse(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
        names = None if value is None else [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names or [] if name not in accepted]
        if unknown or names == []:
            raise click.BadParameter(f"{value!r} received; accepted, separated by commas: {', '.join(accepted)}.")
        return names

    return parse


@click.command()
@click.option("--models", callback=_parse_names(MODELS), help=f"Separated by commas, of {', '.join(MODELS)}; all.")
@click.option("--backends", callback=_parse_names(BACKENDS), help="Separated by commas; all that are installed.")
@click.option("--length", type=click.IntRange(1), help="Of a sequence, in bp; each model's own.")
@click.option("--sequences", default=1, type=click.IntRange(1), help="How many are mutated in one call; 1.")
@click.option("--repeats", type=click.IntRange(1), help="Of the fast and the naive run, in turns; 3.")
@click.option("--sample", type=click.IntRange(1), help="Mutants predicted naively, their time is scaled; 1024.")
@click.option("--full", is_flag=True, help="Predict all mutants naively.")
@click.option("--batch-size", default="auto", callback=_parse_batch, help="Of FastISM; auto.")
@click.option("--jit", default="auto", type=click.Choice(["auto", "true", "false"]), help="Of FastISM; auto.")
@click.option("--memory", default="auto", help="Budget of FastISM, such as 1GB; auto.")
@click.option("--quick", is_flag=True, help="Does it work? 200 bp, 1 repeat, 64 mutants; no file but --output.")
@click.option("--timeout", default=3600.0, type=click.FloatRange(1), help="Seconds for a model on a backend; 3600.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file; benchmarks/results/speed.json."
)
@click.option("--table", "only_table", is_flag=True, help="Measure nothing; print the table of an existing file.")
@click.option("--update-docs", is_flag=True, help="Measure nothing; put that table into the documentation.")
def main(**options: Any) -> None:
    """Time FastISM against the model's own predict, on every installed backend."""
    output = options["output"] or RESULTS
    if options["only_table"] or options["update_docs"]:
        _show(output, update_docs=options["update_docs"])
        return
    quick = options["quick"]
    defaults = {"length": 200, "repeats": 1, "sample": 64} if quick else {"length": None, "repeats": 3, "sample": 1024}
    chosen = {name: options[name] or value for name, value in defaults.items()}
    settings = {
        **chosen,
        "sample": None if options["full"] else chosen["sample"],
        "sequences": options["sequences"],
        "seed": 0,
        "naive_batches": [32] if quick else [8, 32, 128, 512],
        "naive_seconds": 30,
        "batch_size": options["batch_size"],
        "memory": options["memory"],
        "jit": {"auto": "auto", "true": True, "false": False}[options["jit"]],
    }
    backends = options["backends"] or installed_backends()
    if not backends:
        raise click.ClickException(f"None of {', '.join(BACKENDS)} is installed.")
    keep = options["output"] if quick else output
    models = options["models"] or (QUICK if quick else MODELS)
    report = measure_all(models, backends, settings, timeout=options["timeout"], output=keep)
    click.echo(table(report))
    bad = [r for r in report["results"] if r["error"] is not None or not r["agrees"]]
    if bad:
        raise click.ClickException(f"{len(bad)} of {len(report['results'])} runs failed or disagreed; see the table.")


def _show(path: Path, *, update_docs: bool) -> None:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.ClickException(
            f"{path} does not exist; measure first, or name another file with --output."
        ) from None
    text = table(report)
    click.echo(text)
    if update_docs:
        for document in DOCUMENTS:
            short = table(report, SHORT) if document.name == "README.md" else text
            done = update_document(document, short)
            click.echo(f"{document}: {'updated' if done else 'left alone, it has no markers'}", err=True)


if __name__ == "__main__":
    main()
