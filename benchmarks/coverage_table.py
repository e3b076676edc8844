"""The table of the coverage benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report import days, escaped, joined, markdown, number, short


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
    rows: list[list[str]] = []
    remarks: list[str] = []
    for name, records in by_name.items():
        plans = {b: r["plan"] for b, r in records.items() if "plan" in r}
        cells = [f"`{name}`", *_plan_cells(records)]
        cells += [_error_cell(records.get(b, {}).get("exact")) for b in backends]
        cells += [_speed_cell(records.get(b, {}).get("measured")) for b in backends if timed]
        rows.append(cells)
        remarks += _remarks(name, plans)
    return "\n".join([_caption(report), "", markdown(head, rows, right), *(["", *remarks] if remarks else [])])


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
        f"{number(made['ideal_speedup'])}x",
        "" if published is None else f"{published:g}x",
        "" if published is None else f"{made['of_published']:.2f}",
    ]


def _dense_cell(first: Mapping[str, str] | None) -> str:
    return "none" if first is None else escaped(f"`{first['call']}`: {short(first['reason'])}")


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
    return f"{number(measured['speedup'])}x of {number(measured['ideal_speedup'])}x{size}{wrong}"


def _failed(error: str) -> str:
    return escaped(error if error.startswith("skipped") else f"failed: {error}")


def _remarks(name: str, plans: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each backend whose plan is another than that of the table."""
    made = {b: p for b, p in plans.items() if p["error"] is None}
    if not made:
        return []
    first, *_ = made.values()
    return [
        f"- `{name}` on {backend}: ideal {number(p['ideal_speedup'])}x, first computed whole: "
        f"{_dense_cell(p['first_dense'])}."
        for backend, p in made.items()
        if (p["first_dense"], round(p["ideal_speedup"], 6)) != (first["first_dense"], round(first["ideal_speedup"], 6))
    ]


def _macs(value: float) -> str:
    """A count of multiply-accumulates with a metric prefix."""
    for limit, prefix in ((1e12, "T"), (1e9, "G")):
        if value >= limit:
            return f"{number(value / limit)} {prefix}"
    return f"{number(value / 1e6)} M"


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
    return joined([*parts, days(report, [])])
