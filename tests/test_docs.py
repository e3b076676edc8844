"""The documentation: its Python runs, its generated parts are up to date, its links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path

import keras
import pytest

from fastism.rules import RULES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: In docs/, what follows ``print(...)  # `` is what it prints.
SHOWN = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```python *(?P<how>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def python_blocks(page: Path) -> list[tuple[str, str]]:
    """(where, code) of the blocks that are to be run."""
    text = page.read_text(encoding="utf-8")
    return [
        (f"{page.name}:{text[: m.start()].count(chr(10)) + 1}", m["code"])
        for m in FENCE.finditer(text)
        if "no-run" not in m["how"]
    ]


@pytest.fixture
def own_rules():
    """Rules that a page registers for layers of its own are forgotten afterwards."""
    yield
    for cls in [c for c in RULES if not c.__module__.startswith("keras.")]:
        del RULES[cls]


@pytest.fixture
def with_model(tmp_path, monkeypatch):
    """A folder with the ``model.keras`` that the pages load, as the working directory."""
    sequence = keras.Input((1000, 4))
    h = keras.layers.Conv1D(8, 11, padding="same", activation="relu")(sequence)
    h = keras.layers.MaxPooling1D(5)(h)
    h = keras.layers.Conv1D(8, 5, padding="same", activation="relu")(h)
    h = keras.layers.GlobalAveragePooling1D()(h)
    keras.Model(sequence, keras.layers.Dense(1)(h)).save(tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda p: p.name)
def test_python_blocks_run(page, with_model, own_rules):
    pytest.importorskip("matplotlib")
    pytest.importorskip("logomaker")
    names: dict = {"__name__": "page"}
    for where, code in python_blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, where, "exec"), names)
        lines = iter(printed.getvalue().splitlines())
        for expected in SHOWN.findall(code) if page.parent.name == "docs" else ():
            assert any(line == expected for line in lines), f"{where}: nothing printed is {expected!r}"


@pytest.fixture(scope="module")
def make_pages():
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def generated(page: str, name: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0].strip()


@pytest.mark.parametrize(
    ("page", "name"),
    [("supported-layers.md", "layers"), ("supported-layers.md", "dense"), ("how-it-works.md", "basset")],
)
def test_generated_parts_are_up_to_date(make_pages, page, name):
    assert generated(page, name) == make_pages.PARTS[name](), "run: python docs/make_pages.py"


def test_every_registered_operation_is_listed(make_pages):
    listed = set(re.findall(r"`(\w+)`", generated("supported-layers.md", "operations")))
    assert set(make_pages.operations()) <= listed, "run: python docs/make_pages.py"  # older Keras has fewer


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"
