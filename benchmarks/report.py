"""The speed benchmark's results as files and as a table."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES

BACKENDS = ("tensorflow", "jax", "torch")
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"

#: Largest max|fast - naive|, as a share of max|naive - reference|, that counts as equal in float32.
TOLERANCE = 1e-3


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    _write_whole(path, json.dumps(content, indent=1) + "\n")


def _write_whole(path: Path, text: str) -> None:
    """Write beside the file, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def table(report: Mapping[str, Any], backends: Sequence[str] = BACKENDS) -> str:
    """The results as a Markdown table, with a line before it that says where they come from.

    Args:
        report: What `measure_all` returns or the JSON file holds.
        backends: Those that are shown.
    """
    known = [*BACKENDS]
    shown = [r for r in report["results"] if r["backend"] in backends or r["backend"] not in known]
    report = {**report, "results": shown}
    head = (
        "model",
        "backend",
        "naive, s",
        "fast, s",
        "speed-up",
        "ideal",
        "reached",
        "error / effect",
        "first result, s",
        "peak memory, MiB",
    )
    lines = [_line(head), _line(["---", "---", *["---:"] * (len(head) - 2)])]
    lines += [_line(_row(result)) for result in report["results"]]
    return "\n".join([_caption(report), "", *lines])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(result: Mapping[str, Any]) -> list[str]:
    title = CASES[result["model"]].title
    if result["error"] is not None:
        said = result["error"].replace("|", "\\|")
        return [title, result["backend"], f"failed: {said}", *[""] * 7]
    fast, naive, memory = result["fast"], result["naive"], result["peak_memory_mib"]["fast"]
    share = result["error_share"]
    wrong = "" if result["agrees"] else " (too large)"
    return [
        title,
        result["backend"],
        f"{_number(naive['scaled_s'])} (batch {naive['batch_size']})",
        _number(fast["median_s"]),
        f"{_number(result['speedup'])}x",
        f"{_number(result['ideal_speedup'])}x",
        f"{100 * result['share_of_ideal']:.0f} %",
        f"{'not defined' if share is None else format(share, '.0e')}{wrong}",
        _number(fast["fresh_s"]),
        "" if memory is None else f"{memory:.0f}",
    ]


def _number(value: float) -> str:
    """Three significant digits, no exponent."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _caption(report: Mapping[str, Any]) -> str:
    settings, computer = report["settings"], report["machine"]
    measured = [r for r in report["results"] if r["error"] is None]
    count, length = settings["sequences"], settings["length"] or 1000
    what = f"All substitutions of {count} sequence{'s' * (count > 1)} of {length} bp"
    if settings["length"] is None:
        what += " where no other length is given"
    sampled = sorted({r["naive"]["measured_variants"] for r in measured})
    if any(r["naive"]["measured_variants"] < r["variants"] for r in measured):
        span = f"{sampled[0]} to {sampled[-1]}" if len(sampled) > 1 else str(sampled[0])
        what += f" (naive: {span} mutants predicted, time scaled)"
    devices = sorted({r["device"] for r in measured} - {"cpu"})
    where = ", ".join([*devices, computer["processor"], f"{computer['cores']} cores"])
    packages = {
        name: v for r in measured for name, v in r["versions"].items() if name in ("fastism", "keras", *BACKENDS)
    }
    which = ", ".join(f"{name} {v}" for name, v in packages.items())
    parts = [f"{what}, float32; {where}", which, (report["finished"] or report["started"])[:10]]
    return "; ".join(part for part in parts if part) + "."


def update_document(path: Path, text: str) -> bool:
    """Put text between the markers of a Markdown file.

    Returns:
        Whether the file exists and has both markers, in order.
    """
    if not path.is_file():
        return False
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return False
    _write_whole(path, f"{before}{begin}\n{text}\n{end}{after}")
    return True
