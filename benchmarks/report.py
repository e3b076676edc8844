"""Results as files, and as parts of Markdown pages."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
PERFORMANCE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
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


def between(name: str, text: str) -> str:
    """A part of a page, with the markers around it."""
    lines = (f"<!-- {name}:begin -->", text, f"<!-- {name}:end -->")
    return "\n".join(line for line in lines if line)


def update_document(path: Path, name: str, text: str) -> bool:
    """Put text between the markers ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` of a Markdown file.

    Returns:
        Whether the file exists and has both markers, in order.
    """
    if not path.is_file():
        return False
    old = path.read_text(encoding="utf-8")
    marked = re.compile(f"<!-- {re.escape(name)}:begin -->.*?<!-- {re.escape(name)}:end -->", re.DOTALL)
    new, count = marked.subn(lambda _: between(name, text), old, count=1)
    if count and new != old:
        write_whole(path, new)
    return bool(count)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str]) -> str:
    """A Markdown table; columns named in ``right`` are aligned to the right."""
    aligned = set(right)
    return "\n".join(map(_line, [head, ["---:" if h in aligned else "---" for h in head], *rows]))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float) -> str:
    """Three significant digits, no exponent."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def short(text: str) -> str:
    """A message on one line of a table, without the codes that colour it."""
    return textwrap.shorten(re.sub(r"\x1b\[[\d;]*m", "", text), 160, placeholder=" ...")


def days(report: Mapping[str, Any], dates: Iterable[str | None]) -> str:
    """The day or days of the measurements; of the report where no measurement has a date."""
    found = sorted({date[:10] for date in dates if date})
    if not found:
        return str(report["finished"] or report["started"])[:10]
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def joined(parts: Iterable[str]) -> str:
    """The line over a table, of what is known."""
    return "; ".join(part for part in parts if part) + "."
