"""Pictures of a plan: its layers as bars, and its graph. matplotlib and Graphviz are needed only here, when called."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydot

from fastism.explain import Explanation, Row, human
from fastism.plan import DENSE, REFERENCE, WINDOW, Plan

CHANGED, FLANK, SAME, TEXT = "#d62728", "#f2c230", "#e4e7eb", "#333333"
FILL = {WINDOW: "#fde0dd", DENSE: "#d9d9d9", REFERENCE: "#ffffff"}
#: Right edges of the columns of numbers, in lengths of a bar: positions, then the three counts of multiply-accumulates.
POSITIONS, COUNTS = 1.2, {"naive": 1.38, "minimal": 1.55, "this plan": 1.74}
#: Endings that a graph's file may have; all but the first need Graphviz.
GRAPHS = (".dot", ".png", ".svg", ".pdf")


def plot_plan(explanation: Explanation, path: Any, *, title: str = "") -> None:
    """Draw each call's output as a bar: red where it changes, yellow where the next call reads beside that.

    Args:
        explanation: Of one position.
        path: File to write.
        title: Above the picture.

    Raises:
        TypeError: If ``path`` is no file.
        ImportError: If matplotlib is missing.
    """
    if not isinstance(path, str | os.PathLike) and not hasattr(path, "write"):
        second = " A position is the second argument: plot('plan.png', position)." if isinstance(path, int) else ""
        raise TypeError(f"path is {path!r}; a file to write, such as 'plan.png', is accepted.{second}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Drawing a plan needs matplotlib: pip install 'fastism[plot]'.") from error
    at = explanation.position or 0
    edited = (at, at + explanation.width)
    length = explanation.length
    top = Row("input", "", WINDOW, explanation.width, length, edited, 0, None, 0.0, 0.0, 0.0)
    rows = [top, *(r for r in explanation.rows if r.length > 1 or r.naive > 0)]
    figure = Figure(figsize=(12, 1.8 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        readers = [r for r in explanation.rows if row.call in r.reads and r.state == WINDOW and r.source is not None]
        _bar(axes, y, row, readers)
    axes.set(xlim=(-0.42, COUNTS["this plan"] + 0.04), ylim=(len(rows) + 0.6, -1.7), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    style: dict[str, Any] = {"va": "center", "color": TEXT, "fontsize": 9, "fontweight": "bold"}
    axes.text(-0.02, -0.8, "layer", ha="right", **style)
    axes.text(0.5, -0.8, "output positions", ha="center", **style)
    axes.text(COUNTS["this plan"], -1.35, "multiply-accumulates per mutant", ha="right", **style)
    for label, x in {"changed / of": POSITIONS, **COUNTS}.items():
        axes.text(x, -0.8, label, ha="right", **style)
    axes.plot([POSITIONS + 0.06, COUNTS["this plan"]], [len(rows) - 0.4] * 2, color=TEXT, lw=0.8)
    axes.text(POSITIONS, len(rows), "total", ha="right", **style)
    _counts(axes, len(rows), explanation, **style)
    left, right = axes.get_xlim()
    axes.set_title(title, loc="left", x=-left / (right - left), fontsize=12, color=TEXT)  # over the bars' left ends
    _legend(axes)
    figure.savefig(path, dpi=160)


def _bar(axes: Any, y: int, row: Row, readers: Sequence[Row]) -> None:
    height, n = 0.56, max(row.length, 1)
    axes.broken_barh([(0, 1)], (y - height / 2, height), facecolors=SAME, edgecolors="none", zorder=0.8)
    for tick in range(1, 10):
        axes.plot([tick / 10] * 2, [y - height / 2, y + height / 2], color="white", lw=0.6, zorder=0.9)
    if row.span is not None and row.span[1] > row.span[0]:
        reads = [r.source for r in readers if r.source is not None and r.source[1] <= n]
        if reads:
            lo, hi = min(row.span[0], *[lo for lo, _ in reads]), max(row.span[1], *[hi for _, hi in reads])
            axes.broken_barh([(lo / n, (hi - lo) / n)], (y - height / 2, height), facecolors=FLANK)
        width = max(row.span[1] - row.span[0], 0) / n
        axes.broken_barh([(row.span[0] / n, max(width, 0.002))], (y - height / 2, height), facecolors=CHANGED)
    style: dict[str, Any] = {"va": "center", "color": TEXT, "fontsize": 9}
    axes.text(-0.02, y, f"{row.call}  ({row.kind})" if row.kind else row.call, ha="right", **style)
    axes.text(POSITIONS, y, f"{row.changed:,} / {row.length:,}", ha="right", **style)
    if row.naive:
        _counts(axes, y, row, **style)


def _counts(axes: Any, y: int, of: Row | Explanation, **style: Any) -> None:
    for x, count in zip(COUNTS.values(), (of.naive, of.minimal, of.plan), strict=True):
        axes.text(x, y, human(count), ha="right", **style)


def _legend(axes: Any) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=CHANGED, label="changed"),
        Patch(color=FLANK, label="unchanged, read by the next layer"),
        Patch(color=SAME, label="unchanged"),
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=9)


def plot_graph(plan: Plan, explanation: Explanation, path: Any) -> None:
    """Draw the model's calls and tensors with pydot: window blocks red, dense blocks grey, the rest white.

    Args:
        plan: To draw.
        explanation: Of the same plan.
        path: File to write, with one of the endings in :data:`GRAPHS`; .dot is written where there is none.

    Raises:
        TypeError: If ``path`` is no file name.
        ValueError: If it has another ending.
        RuntimeError: If Graphviz is needed and missing.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {path!r}; the name of a file to write, such as 'graph.dot', is accepted.")
    path = Path(path)
    form = path.suffix.lstrip(".").lower() or "dot"
    if f".{form}" not in GRAPHS:
        raise ValueError(
            f"path is {str(path)!r}; the endings {', '.join(GRAPHS)} are accepted (all but {GRAPHS[0]} need Graphviz)."
        )
    if form != "dot" and shutil.which("dot") is None:
        raise RuntimeError(
            f"Writing {path.name} needs Graphviz, whose program 'dot' was not found; install it (conda install "
            f"graphviz, or apt install graphviz), or write {path.with_suffix('.dot').name} instead."
        )
    dot = pydot.Dot("fastism", graph_type="digraph", rankdir="TB")
    dot.set_node_defaults(shape="box", style='"filled,rounded"', fontname="Helvetica", fontsize="10")
    made_by: dict[int, str] = {}
    for tensor in plan.graph.inputs:
        mutated = tensor == plan.program.mutated
        made_by[tensor] = f"t{tensor}"
        label = f"{plan.graph.tensors[tensor].name}\n{plan.graph.shape(tensor)}" + ("\nmutated" if mutated else "")
        fill = FILL[WINDOW] if mutated else FILL[REFERENCE]
        dot.add_node(_node(made_by[tensor], label, fill, shape="ellipse"))
    for call, row in zip(plan.graph.calls, explanation.rows, strict=True):
        label = f"{call.name} ({call.kind})\n{row.state}: {row.changed} of {row.length}"
        label += f"\n{row.reason}" if row.reason else ""
        dot.add_node(_node(f"c{call.index}", label, FILL[row.state]))
        for tensor in call.inputs:
            dot.add_edge(pydot.Edge(made_by[tensor], f"c{call.index}"))
        made_by.update(dict.fromkeys(call.outputs, f"c{call.index}"))
    dot.write(str(path), format="raw" if form == "dot" else form)


def _node(name: str, label: str, fill: str, **more: Any) -> pydot.Node:
    quoted = label.replace("\\", "\\\\").replace('"', "'").replace("\n", "\\n")
    return pydot.Node(name, label=f'"{quoted}"', fillcolor=f'"{fill}"', **more)
