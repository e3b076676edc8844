"""The documentation: its Python runs, its generated parts are up to date, its links lead somewhere, its site builds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import keras
import numpy as np
import pytest

import fastism
from fastism.rules import RULES

ROOT = Path(__file__).parents[1]
API = sorted((ROOT / "docs" / "api").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *API]
#: In docs/, what follows ``print(...)  # `` is what it prints.
SHOWN = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)
#: Modules that nobody calls, or of which ``fastism`` itself gives what is called.
INTERNAL = set(
    "alternatives backend check cli demo draw engine errors formulas functions graph inputs inside ism keras2 "
    "keras2_functions kernels kinds mutate mutations naive plan prepared runtime sizes tuning turned".split()
)
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
def with_files(tmp_path, monkeypatch):
    """A folder with the files that the pages read, as the working directory."""
    sequence = keras.Input((1000, 4))
    h = keras.layers.Conv1D(8, 11, padding="same", activation="relu")(sequence)
    h = keras.layers.MaxPooling1D(5)(h)
    h = keras.layers.Conv1D(8, 5, padding="same", activation="relu")(h)
    h = keras.layers.GlobalAveragePooling1D()(h)
    keras.Model(sequence, keras.layers.Dense(1)(h)).save(tmp_path / "model.keras")
    genome = "".join(np.random.default_rng(0).choice(list("ACGT"), 5000))
    lines = [genome[i : i + 60] for i in range(0, 5000, 60)]
    (tmp_path / "genome.fa").write_text("\n".join([">chr1", *lines, ""]))
    (tmp_path / "peaks.bed").write_text("chr1\t1000\t1200\ta\t0\t+\nchr1\t50\t250\tb\t0\t-\nchr2\t1\t9\n")
    snv, indel = (2000, genome[1999], "ACGT"["CGTA".index(genome[1999])]), (2500, genome[2499:2502], genome[2499])
    rows = ["\t".join(["chr1", str(at), ".", ref, alt, ".", ".", "."]) for at, ref, alt in (snv, indel)]
    head = ["##fileformat=VCFv4.2", "##contig=<ID=chr1,length=5000>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    (tmp_path / "variants.vcf").write_text("\n".join([*head, *rows, ""]))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda p: p.name)
def test_python_blocks_run(page, with_files, own_rules):
    pytest.importorskip("matplotlib")
    pytest.importorskip("logomaker")
    names: dict = {"__name__": "page"}
    for where, code in python_blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, where, "exec"), names)
        lines = iter(printed.getvalue().splitlines())
        for expected in SHOWN.findall(code) if page.parent == ROOT / "docs" else ():
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


# ------------------------------------------------------------------------------------------ the site


def listed() -> set[str]:
    """What the pages of the reference list."""
    blocks = [b for page in API for b in re.findall(r"^```\{reference\}\n(.*?)^```$", page.read_text(), re.M | re.S)]
    return {name for block in blocks for name in block.split()}


def spellings(name: str) -> set[str]:
    """A public name, as the package and as its module has it."""
    module = getattr(getattr(fastism, name), "__module__", "fastism")
    return {f"fastism.{name}", f"{module}.{name}"}


@pytest.mark.parametrize("name", fastism.__all__)
def test_every_public_name_is_listed(name):
    modules = {spelling.rpartition(".")[0] for spelling in spellings(name)} - {"fastism"}
    assert listed() & (spellings(name) | modules)


def test_every_module_is_listed():
    found = {name.split(".")[1] for name in listed()}
    for module in pkgutil.iter_modules(fastism.__path__):
        assert module.name in found | INTERNAL, f"{module.name}: put it on a page of docs/api, or into INTERNAL"


def test_drawn_figures_are_in_the_repository(make_pages):
    for name in make_pages.FIGURES:
        assert (ROOT / "docs" / "images" / name).exists(), "run: python docs/make_pages.py"


class Links(HTMLParser):
    """The anchors of a page, where its links lead, and its pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids.add(told.get("id") or "")
        self.targets += [told[k] for k in ("href", "src") if told.get(k)]


def test_site_builds_without_warnings(tmp_path):
    for package in ("sphinx", "myst_parser", "matplotlib"):
        pytest.importorskip(package)
    site = tmp_path / "site"
    options = ["-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(site)],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    assert "drew plan_basset.png" in built.stdout

    pages = {page: Links(page) for page in site.rglob("*.html")}
    for page, links in pages.items():
        for target in links.targets:
            if "://" in target or target.startswith(("data:", "mailto:")):
                continue
            name, _, anchor = unquote(target).partition("#")
            there = (page.parent / name.partition("?")[0]).resolve() if name else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor and there in pages:
                assert anchor in pages[there].ids, f"{page.name}: {target}"

    documented = {i for page, links in pages.items() if page.parent.name == "api" for i in links.ids}
    assert all(documented & spellings(name) for name in fastism.__all__)
    contents = Links(site / "index.html").targets
    assert {f"{page.stem}.html" for page in PAGES if page.parent == ROOT / "docs"} <= {*contents, "index.html"}
    for page in API:
        assert f"api/{page.stem}.html" in contents, f"no link leads to api/{page.name}"
