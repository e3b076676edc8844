"""Measures in processes of their own, each with its backend; a failure is an answer."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import devices
from benchmarks.machine import now, peak_memory, resident_memory, versions
from benchmarks.report import ROOT, short, write_json

#: What a child process runs; the request comes on standard input, answers go into a file.
ONE = "from benchmarks.processes import answer; answer()"
MANY = "from benchmarks.processes import answer_all; answer_all()"
#: MiB above which a child leaves further jobs to a fresh one: frameworks keep memory that they no longer use.
RENEW = 2000


def environment(backend: str, device: str | None = None) -> dict[str, str]:
    """Variables of a child process, from which GPUs are hidden where the device is the processor."""
    hidden = devices.HIDDEN if device == devices.CPU else {}
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "KERAS_BACKEND": backend, **hidden}


def function(path: str) -> Callable[..., Any]:
    """What is written as ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


# ---------------------------------------------------------------------- one request


def fresh(path: str, backend: str, request: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
    """Call a function in a new process on a backend.

    Args:
        path: The function, as ``module:name``; it takes the request and gives a record for a JSON file.
        backend: For ``KERAS_BACKEND``.
        request: For JSON; ``spawned``, the value of ``time.perf_counter`` before the process starts, is added.
            GPUs are hidden if its ``device`` is ``"cpu"``.
        timeout: Seconds after which the process is ended.

    Returns:
        The record; one with ``error`` alone if there is none, for whatever reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        answered = Path(folder) / "answer.json"
        asked = {**request, "call": path, "answer": str(answered), "spawned": time.perf_counter()}
        try:
            done = subprocess.run(
                [sys.executable, "-c", ONE],
                input=json.dumps(asked),
                cwd=ROOT,
                env=environment(backend, request.get("device")),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not finished after {timeout:g} s"}
        if answered.exists():
            return json.loads(answered.read_text(encoding="utf-8"))
    return {"error": f"ended with code {done.returncode}: {last_line(done.stderr)}"}


def answer() -> None:
    """In the child: call what the JSON on standard input asks for, and write the result where it says."""
    request = json.load(sys.stdin)
    try:
        result = function(request["call"])(request)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {short(str(error))}"}
        print(repr(error), file=sys.stderr)
    write_json(Path(request["answer"]), result)


def last_line(said: str) -> str:
    """The end of what a process said, for a message."""
    lines = said.strip().splitlines()
    return short(lines[-1]) if lines else "no message"


# ---------------------------------------------------------------------- many jobs, watched


def run_jobs(
    path: str,
    backend: str,
    jobs: Sequence[tuple[str, str]],
    settings: Mapping[str, Any],
    *,
    memory: float = math.inf,
    timeout: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """Do jobs in a process of their own on a backend. A job that ends it is a failure; a fresh process does the rest.

    Args:
        path: The function that does a job, as ``module:name``; it takes the job and the settings.
        backend: For ``KERAS_BACKEND``.
        jobs: What and which part of each.
        settings: For all.
        memory: MiB at which a job is ended.
        timeout: Seconds after which a job is ended.

    Yields:
        The answer to each job, in order.
    """
    left = list(jobs)
    while left:
        child, done = _Child(path, backend, left, settings), 0
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


def answer_all() -> None:
    """In the child: do the jobs in turn, and append a line for each to the file that the request names."""
    request = json.load(sys.stdin)
    call = function(request["call"])
    with open(request["answer"], "a", encoding="utf-8") as file:
        for job in request["jobs"]:
            file.write(json.dumps(do(call, job, request["settings"])) + "\n")
            file.flush()
            if (resident_memory() or 0) > RENEW:
                return


def do(call: Callable[..., Any], job: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """One job; ``error`` says what failed, None if nothing did."""
    begun, clock = now(), time.perf_counter()
    try:
        found = {"error": None, **call(*job, settings)}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {short(str(error))}"}
    seconds = time.perf_counter() - clock
    return {**found, "date": begun, "seconds": seconds, "peak_memory_mib": peak_memory(), "versions": versions()}


class _Child:
    """A process that does jobs, watched from outside.

    Attributes:
        failure: Why it ended before its time; None if it did not.
    """

    def __init__(self, path: str, backend: str, jobs: Sequence[tuple[str, str]], settings: Mapping[str, Any]):
        self.failure: str | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._answers, self._said = Path(self._folder.name) / "answers", Path(self._folder.name) / "said"
        self._answers.touch()
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", MANY],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=ROOT,
                env=environment(backend),
            )
        request = {"call": path, "jobs": list(jobs), "settings": dict(settings), "answer": str(self._answers)}
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
            said = self._said.read_text(encoding="utf-8", errors="replace")
            self.failure = f"ended with code {self._process.returncode}: {last_line(said)}"

    def close(self) -> None:
        """End the process, if it has not."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._folder.cleanup()
