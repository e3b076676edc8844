"""Tables of the profile benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cases import CASES
from benchmarks.report import days, escaped, joined, markdown, number

#: What takes the time of a `saturate`, of which the first four are in chunks.
GROUPS = ("products", "moves", "passes", "calls", "host", "reference")
#: Operations in a table.
SHOWN = 15
#: A rate in products of so many times that of a matrix product shows that the profiler did not see all products.
TOO_QUICK = 1.5


def tables(report: Mapping[str, Any]) -> str:
    """The summary, and for each model the operations that take most."""
    return "\n\n".join([summary(report), *(_operations(r) for r in report["results"] if r["error"] is None)])


def summary(report: Mapping[str, Any]) -> str:
    """A row for each model and backend: what takes which share of a `saturate`."""
    head = ["model", "backend", "s", *GROUPS, "GFLOP/s in products", "GFLOP/s of a matrix product"]
    rows = [_row(r) for r in report["results"]]
    good = [r for r in report["results"] if r["error"] is None]
    return "\n".join([_caption(good), "", markdown(head, rows, head[2:])])


def _row(r: Mapping[str, Any]) -> list[str]:
    title = CASES[r["model"]].title
    if r["error"] is not None:
        return [title, r["backend"], f"failed: {escaped(r['error'])}", *[""] * (len(GROUPS) + 2)]
    groups, rate = r["groups"], r["groups"]["products_gflops"]
    if rate is not None and rate > TOO_QUICK * r["matrix_gflops"]:
        rate = None
    shares = [f"{100 * groups[name] / r['total_s']:.0f} %" for name in GROUPS]
    reached = "" if rate is None else number(rate)
    return [title, r["backend"], number(r["total_s"]), *shares, reached, number(r["matrix_gflops"])]


def _caption(good: list[Mapping[str, Any]]) -> str:
    where = {f"{r['machine']['processor']}, {r['machine']['cores']} cores": None for r in good}
    devices = sorted({r["device"] for r in good} - {"cpu"})
    which: dict[str, None] = {}
    for r in good:
        which.update(dict.fromkeys(f"{n} {r['versions'][n]}" for n in ("fastism", r["backend"]) if n in r["versions"]))
    dates = days({"finished": None, "started": ""}, (r["date"] for r in good))
    place = ", ".join([*devices, *where])
    return joined([f"All substitutions of one sequence, float32{place and f'; {place}'}", ", ".join(which), dates])


def _operations(r: Mapping[str, Any]) -> str:
    head = ("operation", "kind", "ms", "share")
    rows = [
        (op["name"], op["kind"], f"{1e3 * op['seconds']:.2f}", f"{100 * op['seconds'] / r['chunk_s']:.0f} %")
        for op in r["operations"][:SHOWN]
    ]
    title = (
        f"{CASES[r['model']].title}, {r['backend']} ({r['mode']}): {r['chunks']} chunks of up to "
        f"{r['variants_in_chunk']} mutants, {1e3 * r['chunk_s']:.2f} ms each; "
        f"reference {1e3 * r['reference_s']:.2f} ms"
    )
    return f"{title}\n\n{markdown(head, rows, head[2:])}"
