"""Tables and plot of the scaling benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.report import days, escaped, joined, markdown, number

Report = Mapping[str, Any]
Results = Sequence[Mapping[str, Any]]


def tables(report: Report) -> str:
    """All parts that a file has."""
    return "\n\n".join(text for part in _TABLES if (text := of(part)(report)))


def of(part: str) -> Callable[[Report], str]:
    """A function of a file's content: caption and table of a part, and what failed."""

    def make(report: Report) -> str:
        if part not in report:
            return ""
        results = report[part]["results"]
        good = [r for r in results if r["error"] is None]
        failed = [
            f"- {CASES[r['model']].title} on {r['backend']}{_detail(r)} failed: {escaped(r['error'])}"
            for r in results
            if r["error"] is not None
        ]
        table = _TABLES[part](good)
        return "\n".join([_caption(report[part], good), "", table, *(["", *failed] if failed else [])])

    return make


def for_page(part: str, picture: str) -> Callable[[Report], str]:
    """The same for the documentation, the part on lengths with its plot."""

    def make(report: Report) -> str:
        text = of(part)(report)
        image = f"\n\n![Seconds over sequence length, both logarithmic](images/{picture})"
        return text + image if text and part == "length" else text

    return make


def _detail(result: Mapping[str, Any]) -> str:
    asked = result["request"]
    said = [f"{asked['length']} bp"] if asked.get("length") else []
    said += [asked["budget"]] if "budget" in asked else []
    return "".join(f", {s}" for s in said)


def _caption(part: Report, good: Results) -> str:
    devices = sorted({r["device"] for r in good} - {"cpu"})
    where = ", ".join([*devices, part["machine"]["processor"], f"{part['machine']['cores']} cores"])
    which: dict[str, None] = {}
    for r in good:
        which.update(dict.fromkeys(f"{n} {r['versions'][n]}" for n in ("fastism", r["backend"]) if n in r["versions"]))
    return joined([f"float32; {where}", ", ".join(which), days(part, (r.get("date") for r in good))])


# ---------------------------------------------------------------------- length


def lines(results: Results) -> dict[tuple[str, str, str], dict[int, float]]:
    """Seconds for all positions of a sequence, by length, for each model, backend and side."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for r in results:
        for side, seconds in (("FastISM", r["fast"]["median_s"]), ("naive", r["naive"]["scaled_s"])):
            found.setdefault((r["model"], r["backend"], side), {})[r["length"]] = seconds
    return found


def growth(times: Mapping[int, float]) -> float:
    """The power of the length with which time grows, over the upper half of the lengths."""
    lengths = sorted(times)
    upper = lengths[min(len(lengths) // 2, len(lengths) - 2) :] if len(lengths) > 1 else []
    if not upper:
        return math.nan
    return math.log(times[upper[-1]] / times[upper[0]]) / math.log(upper[-1] / upper[0])


def _length(results: Results) -> str:
    found = lines(results)
    every = sorted({n for times in found.values() for n in times})
    wrong = {(r["model"], r["backend"], r["length"]) for r in results if not r["agrees"]}
    rows = []
    for (model, backend, side), times in found.items():
        cells = [
            (number(times[n]) if n in times else "") + " (wrong)" * (side == "FastISM" and (model, backend, n) in wrong)
            for n in every
        ]
        power = growth(times)
        rows.append([CASES[model].title, backend, side, *cells, "" if math.isnan(power) else f"{power:.2f}"])
    head = ["model", "backend", "s for a sequence of", *(f"{n} bp" for n in every), "growth"]
    return markdown(head, rows, head[3:])


def plot(report: Report, path: Path) -> bool:
    """Draw seconds over length, both on a logarithmic scale, a panel for each model. Gives whether there are any."""
    found = lines([r for r in report.get("length", {"results": []})["results"] if r["error"] is None])
    if not found:
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    models, backends = _unique(k[0] for k in found), _unique(k[1] for k in found)
    figure = Figure(figsize=(4.2 * len(models), 3.6), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for panel, model in zip(panels, models, strict=True):
        for (of_model, backend, side), times in found.items():
            if of_model != model:
                continue
            lengths = sorted(times)
            panel.loglog(
                lengths,
                [times[n] for n in lengths],
                color=f"C{backends.index(backend)}",
                linestyle="-" if side == "FastISM" else "--",
                marker="o",
                markersize=3,
                label=f"{backend}, {side}",
            )
        lengths = sorted({n for k, times in found.items() if k[0] == model for n in times})
        panel.set_xticks(lengths, [str(n) for n in lengths], rotation=45)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_title(CASES[model].title)
        panel.set_xlabel("sequence length, bp")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("s for all substitutions of a sequence")
    panels[0].legend(fontsize="x-small", handlelength=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return True


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# ---------------------------------------------------------------------- number of sequences


def _sequences(results: Results) -> str:
    counts = sorted({c["sequences"] for r in results for c in r["counts"]})
    rows = []
    for r in results:
        each = {c["sequences"]: c["each_s"] for c in r["counts"]}
        cells = [number(each[n]) if n in each else "" for n in counts]
        rows.append([CASES[r["model"]].title, r["backend"], *cells, number(r["ratio"])])
    head = ["model", "backend", *(f"s for each of {n}" for n in counts), "ratio"]
    return markdown(head, rows, head[2:])


# ---------------------------------------------------------------------- memory


def _memory(results: Results) -> str:
    head = [
        "model",
        "backend",
        "budgets",
        "sequences",
        "cache of all at once, MiB",
        "results, MiB",
        "increase, MiB",
        "of the budget",
        "mutants a second",
        "of those with the largest",
    ]
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for r in results:
        alike.setdefault((r["model"], r["backend"], r["over"]), []).append(r)
    return markdown(head, [_memory_row(sorted(same, key=_budget)) for same in alike.values()], head[3:])


def _budget(result: Mapping[str, Any]) -> float:
    return result["budget_mib"]


def _memory_row(same: Results) -> list[str]:
    """One row for all budgets of a model on a backend, from the smallest to the largest."""
    known, largest = [r for r in same if r["increase_mib"] is not None], same[-1]
    return [
        CASES[largest["model"]].title,
        largest["backend"],
        _beside(r["budget"] for r in same),
        _beside(f"{r['sequences']}" for r in same),
        _beside(f"{r['cached_mib']:.0f}" for r in same),
        _beside(f"{r['results_mib']:.0f}" for r in same),
        _beside(f"{r['increase_mib']:.0f}" for r in known),
        _beside(f"{100 * r['of_budget']:.0f} %" for r in known),
        _beside(number(r["per_second"]) for r in same),
        " / ".join(f"{r['per_second'] / largest['per_second']:.2f}" for r in same[:-1]),
    ]


def _beside(cells: Iterable[str]) -> str:
    """What differs by budget, side by side; once where it is the same for all."""
    found = list(cells)
    return " / ".join(found[:1] if len(set(found)) == 1 else found)


_TABLES = {"length": _length, "sequences": _sequences, "memory": _memory}
