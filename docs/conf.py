"""How Sphinx builds these pages: `make docs`.

The pages are plain Markdown that reads as well in a repository browser. Some things are made while they are read: the
contents, from the links of the index pages; the reference, from the names that a ```` ```{reference} ```` block lists;
the help of commands, from those in a ```` ```{command} ```` block; a list of the notebooks in a folder, for a
```` ```{notebooks} ```` block; and pictures.md is run, and what its lines save is shown below them. The pictures that
:mod:`make_pages` draws are drawn anew into the site.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sphinx import addnodes
from sphinx.util import logging

logger = logging.getLogger(__name__)
DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fastism  # noqa: E402  (reads the environment)

project = "fastism"
author = copyright = "The fastism developers"
version = release = fastism.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # what docstrings have in single backticks
myst_heading_anchors = 4  # page.md#a-heading, as repository browsers name it

napoleon_numpy_docstring = False
napoleon_use_ivar = True  # documents attributes once, also where they are properties
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "special-members": "__call__",
}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

html_title = f"fastism {release}"
html_theme = "furo" if find_spec("furo") else "alabaster"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_copy_source = False
if html_theme == "furo":
    html_theme_options = {
        "light_css_variables": {"color-brand-primary": "#0b5c8a", "color-brand-content": "#0b6ba0"},
        "dark_css_variables": {"color-brand-primary": "#7cc4f0", "color-brand-content": "#7cc4f0"},
    }

LINK = re.compile(r"\]\((?!\.\.)([\w./-]+)\.md\)")
BLOCK = re.compile(r"^```\{(reference|command|notebooks)\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"savefig\(\"([\w.]+)\"")
MADE = DOCS / "_build" / "pictures"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("env-get-outdated", lambda *_: ["pictures"])  # what is made from it may have been removed
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", escape)
    app.connect("autodoc-skip-member", skip)
    app.connect("object-description-transform", shorten)
    app.connect("build-finished", draw)


def read(app: Any, page: str, source: list[str]) -> None:
    """Add to a page what is made while it is read."""
    if page in ("index", "api/index"):
        source[0] += "\n\n" + "\n\n".join(contents(source[0]))
    if page == "pictures":
        source[0] = pictures(source[0])
    made = {"reference": reference, "command": commands, "notebooks": notebooks}
    source[0] = BLOCK.sub(lambda m: "\n\n".join(part for n in m[2].split() for part in made[m[1]](n)), source[0])


def contents(text: str) -> Iterator[str]:
    """A hidden table of contents for each part of an index page that links to pages, named like the part."""
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        if pages := LINK.findall(part):
            name = part.partition("\n")[0].lstrip("# ")
            yield "\n".join(["```{toctree}", ":hidden:", f":caption: {name}", "", *pages, "```"])


def reference(name: str) -> Iterator[str]:
    """What is shown for a module, class, function or method."""
    kind = resolve(name)[1]
    if not kind:
        logger.warning("a page of api/ lists %s, which does not exist", name)
        return
    if kind == "module":
        yield f"## {name}"
    yield f"```{{eval-rst}}\n.. auto{kind}:: {name}\n```"


def resolve(name: str) -> tuple[Any, str]:
    """The object of a dotted name, and what it is: module, class, method, function or data; empty if there is none."""
    parent, _, last = name.rpartition(".")
    owner = resolve(parent)[0] if parent else None
    if parent and owner is None:
        return None, ""
    if hasattr(owner, last) and not inspect.ismodule(getattr(owner, last)):
        found = getattr(owner, last)
        if inspect.isclass(found):
            return found, "class"
        if inspect.isfunction(found):
            return found, "method" if inspect.isclass(owner) else "function"
        return found, "data"
    path = owner.__path__ if hasattr(owner, "__path__") else None
    return (import_module(name), "module") if PathFinder.find_spec(name, path) else (None, "")


def commands(name: str) -> Iterator[str]:
    """The help of a command and of the commands below it, as the terminal shows it."""
    import click

    main = import_module(f"{name}.cli").main

    def helped(command: click.Command, words: list[str], above: click.Context | None) -> Iterator[str]:
        settings = {"parent": above, "info_name": words[-1], "terminal_width": 80, **command.context_settings}
        context = click.Context(command, **settings)
        yield f"## {' '.join(words)}"
        yield f"```text\n{command.get_help(context)}\n```"
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                yield from helped(command.get_command(context, below), [*words, below], context)

    yield from helped(main, [name], None)


def notebooks(folder: str) -> Iterator[str]:
    """A link to each notebook of a folder, by its heading, with the first sentence below it."""
    for path in sorted((DOCS / folder).glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        yield f"- [{title[1] if title else path.stem}]({folder}/{path.name})"


def pictures(text: str) -> str:
    """Run the lines of a page in a folder with the files that they read, and show below them what they save."""
    import example_files

    names: dict[str, Any] = {}

    def shown(block: re.Match[str]) -> str:
        exec(compile(block[1], "pictures.md", "exec"), names)
        saved = SAVED.findall(block[1])
        return "\n\n".join([block[0], *(f"![{name.split('.')[0]}](_build/pictures/{name})" for name in saved)])

    MADE.mkdir(parents=True, exist_ok=True)
    before = os.getcwd()
    try:
        example_files.write(MADE)
        os.chdir(MADE)
        return CODE.sub(shown, text)
    except ImportError as error:
        logger.info("pictures.md is left without pictures: %s", error)
        return text
    finally:
        os.chdir(before)


def escape(app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Keep the star of shapes such as (N, *output), outside of literals, from beginning an emphasis."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [re.sub(r"(?<=, )\*(?=(?:output|axes|rest))", r"\*", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def skip(app: Any, what: str, name: str, member: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples: their class says what they are."""
    return True if type(member).__name__ == "_tuplegetter" else None


def shorten(app: Any, domain: str, kind: str, content: Any) -> None:
    """Leave out values of constants that do not fit on a line."""
    for value in list(content.parent.findall(addnodes.desc_annotation)) if kind in ("data", "attribute") else ():
        if len(value.astext()) > 80 and value.astext().startswith(" = "):
            value.parent.remove(value)


def draw(app: Any, error: Exception | None) -> None:
    """Draw the pictures anew, in place of the copies in the repository."""
    folder = Path(app.outdir) / "_images"
    if error is None and folder.is_dir():
        from make_pages import FIGURES

        for name, make in FIGURES.items():
            try:
                make(folder / name)
                logger.info("drew %s", name)
            except (ImportError, FileNotFoundError) as missing:
                logger.info("left %s as it was: %s", name, missing)
