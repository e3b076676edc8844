"""Writing the page: which sequences it holds, and how template, style, script and data become one file."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastism.plot.style import PALETTES
from fastism.report.data import PRECISIONS, as_json, encoded, entry, strengths
from fastism.result import ISMScores
from fastism.scores import RULES
from fastism.writers.files import atomic

SCRIPTS = ("draw.js", "figure.js", "regions.js", "app.js")  # one program, in the order in which it is read
BATCH = 64
LARGE, FEW = 20.0, 50  # of a page above so many 10^6 bytes, so many targets are enough


@dataclass(frozen=True)
class ReportSummary:
    """What a report holds.

    Attributes:
        path: The page.
        shown: How many sequences it shows.
        total: How many the result has.
        size: Bytes of the page.
        targets: How many targets it shows.
        asked: How many it was asked to show: all of the result, or those that were named.
    """

    path: Path
    shown: int
    total: int
    size: int
    targets: int = 1
    asked: int = 1

    def __str__(self) -> str:
        part = "" if self.shown == self.total else " with the largest attributions"
        few = "" if self.targets == self.asked else f", the {self.targets:,} strongest of {self.asked:,} targets"
        return f"{self.path}: {self.shown:,} of {self.total:,} sequences{part}{few}, {self.size / 1e6:.1f} MB"


def write_report(
    path: str | os.PathLike[str],
    scores: ISMScores,
    *,
    title: str | None = None,
    targets: Sequence[int | str] | None = None,
    max_sequences: int = 500,
    max_targets: int | None = None,
    max_megabytes: float = 200.0,
    precision: str = "float32",
    rule: str = "mean4",
    palette: str = "default",
) -> ReportSummary:
    """Write one self-contained HTML page with the logo and heatmap of every sequence.

    The page needs no network, loads nothing and sends nothing: it can be opened from disk or sent by mail. It has a
    list of the sequences to search and sort, maps to zoom, pan and read with the mouse or the keyboard, and pictures to
    save. It opens on the strongest target. The result is read twice, a batch at a time, so it need not fit into memory.

    Differences without a sign (``attributes["signed"]`` is False, as of `jsd`) are shown as how much the prediction
    changes: letters upright, colours of one hue.

    Args:
        path: the file to write; one that is there is replaced when the new one is complete.
        scores: the result.
        title: the page's heading; None names the model, if the result does.
        targets: the targets to show, by index or name; None for all.
        max_sequences: the most sequences to show. Of more, those with the largest attributions on any of the targets
            are taken, and the page says so.
        max_targets: the most targets to show. Of more, those with the largest attributions on any of the sequences are
            taken, and the page says so. None takes all, but 50 where all of the result's would make a page of more than
            20 MB and no `targets` are given.
        max_megabytes: the largest page to write, in 10^6 bytes.
        precision: how differences are stored, `"float32"`, or `"int16"` for half the size: whole steps of 1 / 32767 of
            a map's largest difference. The page says which.
        rule: the attributions shown first, `"mean4"` or `"mean3"`; the page has both.
        palette: colours of the letters shown first, `"default"` or `"colourblind"`; the page has both.

    Returns:
        What the page holds.

    Raises:
        ValueError: if there is no such target, rule, palette or precision, the result is empty or the page would be too
            large; nothing is written then.
        FileNotFoundError: if the folder does not exist.

    Example:
        ::

            print(write_report("report.html", scores, targets=["K562"], max_sequences=200))
    """
    options = {"rule": rule, "palette": palette, "precision": precision}
    _check_names(options)
    channels = list(range(len(scores.targets))) if targets is None else [scores.target(t) for t in targets]
    _check_counts(scores, len(channels), max_sequences, max_targets)
    strong, asked = strengths(scores, channels, BATCH), len(channels)
    if max_targets is None:
        large = targets is None and _megabytes(min(len(scores), max_sequences), scores, asked, precision) > LARGE
        max_targets = FEW if large else asked
    chosen = _largest(strong.max(axis=0), max_targets)
    channels, strong = [channels[n] for n in chosen], strong[:, chosen]
    kept = _largest(strong.max(axis=1), max_sequences)
    _check_size(len(kept), scores, channels, precision, max_megabytes)
    facts = {
        **_facts(scores, channels),
        **options,
        "title": title if title is not None else _heading(scores),
        "asked": asked,
        "opened": int(strong[kept].max(axis=0).argmax()),
    }
    path = Path(path)
    with atomic(path) as draft:
        with open(draft, "w", encoding="utf-8", newline="\n") as page:
            _write(page, scores, channels, kept, facts)
        size = draft.stat().st_size
    return ReportSummary(path, len(kept), len(scores), size, len(channels), asked)


def _check_names(given: Mapping[str, str]) -> None:
    """Refuse a rule, palette or precision that there is not."""
    accepted = {"rule": RULES, "palette": PALETTES, "precision": PRECISIONS}
    for name, value in given.items():
        if value not in accepted[name]:
            raise ValueError(f"{name} is {value!r}; {' or '.join(map(repr, accepted[name]))} is accepted.")


def _check_counts(scores: ISMScores, targets: int, max_sequences: int, max_targets: int | None) -> None:
    """Refuse what leaves nothing to show."""
    if max_targets is not None and max_targets < 1:
        raise ValueError(f"max_targets is {max_targets}; 1 or more is accepted, or None for as many as fit.")
    if max_sequences < 1 or not len(scores) or not targets or not scores.positions:
        raise ValueError(
            f"A report of {len(scores)} sequences with {scores.positions} positions, {targets} targets and "
            f"max_sequences={max_sequences} shows nothing; at least one of each is accepted."
        )


def _facts(scores: ISMScores, channels: Sequence[int]) -> dict[str, Any]:
    """What the page says of the result as a whole, with these of its targets."""
    return {
        "alphabet": scores.alphabet,
        "start": scores.start,
        "length": scores.length,
        "positions": scores.positions,
        "targets": [str(scores.targets[channel]) for channel in channels],
        "nameless": list(scores.targets) == ["0"],
        "signed": scores.direction > 0,
        "total": len(scores),
        "palettes": PALETTES,
        "attributes": dict(scores.attributes),
    }


def _largest(effects: np.ndarray, count: int) -> list[int]:
    """Rows of the largest effects, in the order of the result."""
    return sorted(np.argsort(-effects, kind="stable")[:count].tolist())


def _check_size(count: int, scores: ISMScores, channels: Sequence[int], precision: str, most: float) -> None:
    needed = _megabytes(count, scores, len(channels), precision)
    if needed > most:
        fitting = int(count * most / needed)
        ways = [f"max_sequences={fitting}"] * (fitting > 0) + ["precision='int16'"] * (precision == "float32")
        raise ValueError(
            f"The page would hold {needed:,.1f} MB for {count:,} sequences of {scores.positions:,} positions and "
            f"{len(channels)} targets; max_megabytes={most:g} is accepted. Take "
            f"{', '.join([*ways, 'fewer targets'])} or a larger max_megabytes (browsers manage a few hundred)."
        )


def _megabytes(count: int, scores: ISMScores, targets: int, precision: str) -> float:
    numbers = count * scores.positions * len(scores.alphabet) * targets
    return numbers * PRECISIONS[precision] * 4 / 3 / 1e6  # base64 writes three bytes as four letters


def _heading(scores: ISMScores) -> str:
    model = scores.attributes.get("model")
    return f"In-silico mutagenesis of {model}" if isinstance(model, str) and model else "In-silico mutagenesis"


def _write(page: IO[str], scores: ISMScores, channels: Sequence[int], kept: Sequence[int], facts: dict) -> None:
    """The page in order: template, the data of each sequence, then what is known of all of them, then the program."""
    style, program = _asset("style.css"), "".join(_asset(name) for name in SCRIPTS)
    program = f'"use strict";\n(() => {{\n{program}}})();\n'
    policy = (
        f"default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(program)}'"
    )
    before, after = _asset("page.html").split("<!-- data -->")
    for key, value in (("title", html.escape(facts["title"])), ("policy", policy), ("style", style)):
        before = before.replace(f"<!-- {key} -->", value)
    page.write(before)
    entries = []
    for index, (row, one) in enumerate(_rows(scores, kept)):
        maps = [encoded(one, channel, facts["precision"]) for channel in channels]
        for target, (text, _) in enumerate(maps):
            page.write(f'<script type="text/plain" id="map-{index}-{target}">{text}</script>\n')
        entries.append(entry(one, row, channels, [scale for _, scale in maps]))
    facts = {**facts, "sequences": entries}
    page.write(f'<script type="application/json" id="facts">{as_json(facts)}</script>\n')
    page.write(after.replace("<!-- program -->", program))


def _rows(scores: ISMScores, kept: Sequence[int]) -> Iterator[tuple[int, ISMScores]]:
    """The kept sequences one by one, read a batch at a time."""
    wanted = iter(kept)
    row = next(wanted, None)
    for first in range(0, len(scores), BATCH):
        if row is None:
            return
        if row >= first + BATCH:
            continue
        batch = scores[first : first + BATCH]
        while row is not None and row < first + BATCH:
            yield row, batch[row - first : row - first + 1]
            row = next(wanted, None)


def _asset(name: str) -> str:
    return files("fastism.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a page's policy calls this inline script or style: nothing else may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
