"""The documentation: its Python runs, its generated parts are up to date, its links lead somewhere, its site builds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import fastism
from fastism.cli import main
from fastism.rules import RULES

ROOT = Path(__file__).parents[1]
API = sorted((ROOT / "docs" / "api").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *API]
#: In docs/, what follows ``print(...)  # `` is what it prints.
SHOWN = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)
#: Modules that nobody calls, or of which ``fastism`` itself gives what is called.
INTERNAL = {"__main__"} | set(
    "alternatives answers backend calls check chosen chunks cli compiled convolving demo draw engine errors formulas "
    "functions graph identity inplace inputs inside ism karatsuba keras2 keras2_functions kernels kinds mutate "
    "mutations naive plan prepared runtime sizes sizing stretches tuning turned ways".split()
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


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files that the pages read."""
    folder = tmp_path_factory.mktemp("files")
    imported("example_files").write(folder)
    return folder


@pytest.fixture
def with_files(files, tmp_path, monkeypatch):
    """A folder with those files as the working directory."""
    for path in files.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)


def need(text: str) -> None:
    """Skip what needs libraries of the extras that are not installed."""
    for package in ("matplotlib", "logomaker"):
        pytest.importorskip(package)
    if re.search(r"fastism\.(pipeline|writers|vcf)|^fastism ism|map_regions", text, re.MULTILINE):
        for package in ("zarr", "pysam", "pybigtools"):
            pytest.importorskip(package)


# the pictures' page is run where the site is built
@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p) and p.stem != "pictures"], ids=lambda p: p.name)
def test_python_blocks_run(page, with_files, own_rules):
    need(page.read_text(encoding="utf-8"))
    names: dict = {"__name__": "page"}
    for where, code in python_blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, where, "exec"), names)
        lines = iter(printed.getvalue().splitlines())
        for expected in SHOWN.findall(code) if page.parent == ROOT / "docs" else ():
            assert any(line == expected for line in lines), f"{where}: nothing printed is {expected!r}"


def test_the_pairs_of_the_readme_interact(with_files):
    names: dict = {}
    exec(compile(python_blocks(ROOT / "README.md")[0][1], "README.md", "exec"), names)
    assert abs(names["pairs"].interaction).max() > 0.01 * abs(names["reference"]).max() > 0


def commands(page: Path) -> list[str]:
    """The lines of a page for the command `fastism`."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("fastism ")]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_run(page, with_files):
    text = page.read_text(encoding="utf-8")
    need(text)
    said = ""
    for line in commands(page):
        outcome = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        assert outcome.exit_code == 0, f"{page.name}: {line}\n{outcome.output}"
        said += outcome.output
    for block in re.findall(r"^ {3}```text\n(.*?)^ {3}```$", text, re.MULTILINE | re.DOTALL):
        assert textwrap.dedent(block) in said, f"{page.name}: nothing said is {block}"
    for name in re.findall(r"`(peaks\.[\w.]+|peaks_\w+\.bed)`", text):
        assert Path(name).exists(), f"{page.name}: the commands leave no {name}"


def imported(name: str):
    """A program of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


@pytest.fixture(scope="module")
def make_pages():
    return imported("make_pages")


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


def test_the_three_others_of_a_motif_letter_differ_in_the_example():
    """Else the dots of a position coincide, and their picture cannot show what it is for."""
    examples = imported("example_files")
    weights, _ = examples.detectors(np.random.default_rng(1), noise=0.1)
    for at in range(len(examples.MOTIF)):
        assert np.diff(np.sort(weights[at, :, 0])).min() > 0.1


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
    for package in ("sphinx", "myst_parser", "furo", "matplotlib", "logomaker", "zarr", "pysam"):
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
    assert "drew peak.png" in built.stdout
    assert "without pictures" not in built.stdout
    saved = set(re.findall(r'savefig\("([\w.]+)"', (ROOT / "docs" / "pictures.md").read_text()))
    assert {"pairs.png", "alleles.png", "comparison.png"} < saved <= {p.name for p in (site / "_images").iterdir()}

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
