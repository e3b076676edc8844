"""The tables of the speed benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import CASES
from benchmarks.machine import BACKENDS
from benchmarks.report import days, escaped, joined, markdown, number


def table(report: Mapping[str, Any], backends: Sequence[str] = BACKENDS) -> str:
    """The results as a Markdown table, with a line before it that says where they come from.

    Args:
        report: What `measure_all` returns or the JSON file holds.
        backends: Those that are shown.
    """
    shown = [r for r in report["results"] if r["backend"] in backends or r["backend"] not in BACKENDS]
    report = {**report, "results": shown}
    on_device = any(_device_memory(r) is not None for r in shown)
    head = [
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
        *(["device memory, MiB"] if on_device else []),
    ]
    rows = [_row(result, on_device) for result in shown]
    return "\n".join([_caption(report), "", markdown(head, rows, head[2:])])


def rates(report: Mapping[str, Any]) -> str:
    """How many multiply-accumulates both sides do in a second, counted as two operations each, as a Markdown table.

    Of `FastISM` those count that a mutation needs, so that its rate beside that of naive is what is reached of the
    ideal.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for result in report["results"]:
        if result["error"] is None and "naive_macs" in result:
            operations = 2e-9 * result["naive_macs"] * result["variants"]
            naive, fast = result["naive"]["scaled_s"], result["fast"]["median_s"] * result["ideal_speedup"]
            which = label(result["backend"], result.get("tf32"))
            found.setdefault(result["model"], {})[which] = operations / naive, operations / fast
    backends = list(dict.fromkeys(which for row in found.values() for which in row))
    head = ("model", *(f"{side}, {which}" for side in ("naive", "fast") for which in backends))
    rows = [
        (CASES[model].title, *(f"{row[which][i]:.0f}" if which in row else "" for i in (0, 1) for which in backends))
        for model, row in found.items()
    ]
    return markdown(head, rows, head[1:])


def label(backend: str, tf32: bool | None) -> str:
    """A backend and how it multiplies, in words."""
    return f"{backend}, TF32" if tf32 else backend


def _device_memory(result: Mapping[str, Any]) -> float | None:
    return result.get("peak_device_memory_mib", {}).get("fast")


def _row(result: Mapping[str, Any], on_device: bool) -> list[str]:
    title, which = CASES[result["model"]].title, label(result["backend"], result.get("tf32"))
    if result["error"] is not None:
        return [title, which, f"failed: {escaped(result['error'])}", *[""] * (7 + on_device)]
    fast, naive, memory = result["fast"], result["naive"], result["peak_memory_mib"]["fast"]
    share = result["error_share"]
    wrong = "" if result["agrees"] else " (too large)"
    return [
        title,
        which,
        f"{number(naive['scaled_s'])} (batch {naive['batch_size']})",
        number(fast["median_s"]),
        f"{number(result['speedup'])}x",
        f"{number(result['ideal_speedup'])}x",
        f"{100 * result['share_of_ideal']:.0f} %",
        f"{'not defined' if share is None else format(share, '.0e')}{wrong}",
        number(fast["fresh_s"]),
        *("" if m is None else f"{m:.0f}" for m in [memory, *([_device_memory(result)] if on_device else [])]),
    ]


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
    which = ", ".join(f"{name} {' and '.join(v)}" for name, v in _versions(measured).items())
    loose = sorted({r["tolerance"] for r in measured if r.get("tf32")})
    how = (
        f"float32 (rows with TF32: an error of up to {loose[-1]:g} of the effect counts as equal)"
        if loose
        else "float32"
    )
    return joined([f"{what}, {how}; {where}", which, days(report, (r.get("date") for r in measured))])


def _versions(results: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Those that took part; several where measurements were made at several times."""
    found: dict[str, list[str]] = {}
    for result in results:
        for name, version in result["versions"].items():
            if name in ("fastism", "keras", *BACKENDS) and version not in found.setdefault(name, []):
                found[name].append(version)
    return found
