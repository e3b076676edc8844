"""Write the generated parts of these pages: tables of layers, what goes dense, Basset's plan, and the pictures.

    python docs/make_pages.py            # rewrite the pages and the pictures
    python docs/make_pages.py --check    # say which page is out of date, change nothing

What lies between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` in a page is made here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from fastism import FastISM
from fastism.models.basset import basset_model
from fastism.rules import RULES
from fastism.rules.operations import register_operations

DOCS = Path(__file__).resolve().parent
LENGTH, CHANNELS = 100, 4


def main() -> None:
    """Rewrite, or with ``--check`` compare, and end with 1 if something was out of date."""
    out_of_date = list(stale())
    if "--check" in sys.argv[1:]:
        for page in out_of_date:
            print(f"{page.name} is out of date: python docs/make_pages.py")
        sys.exit(bool(out_of_date))
    for page in out_of_date:
        page.write_text(rewritten(page), encoding="utf-8")
        print(f"wrote {page.name}")
    for name, draw in FIGURES.items():
        try:
            draw(DOCS / "images" / name)
            print(f"drew {name}")
        except (ImportError, FileNotFoundError) as missing:
            print(f"left {name} as it was: {missing}")


def stale() -> Iterator[Path]:
    """The pages whose generated parts are not what they should be."""
    for page in sorted(DOCS.glob("*.md")):
        if page.read_text(encoding="utf-8") != rewritten(page):
            yield page


def rewritten(page: Path) -> str:
    """The text of a page with its generated parts made anew."""
    text = page.read_text(encoding="utf-8")
    for name, make in PARTS.items():
        marked = re.compile(f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if marked.search(text):
            made = make().rstrip("\n")
            text = marked.sub(lambda m, made=made: f"{m[1]}\n{made}\n\n{m[2]}", text)
    return text


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# ------------------------------------------------------------------------------------------ supported layers


def layer_table() -> str:
    """Every Keras layer that has a rule, by family."""
    rows = [
        (f"`{cls.__name__}`", rule.family, rule.note)
        for cls, rule in RULES.items()
        if issubclass(cls, layers.Layer) and cls.__module__.startswith("keras.")
    ]
    return table(("layer", "family", "treated"), sorted(rows, key=lambda row: (row[1], row[0])))


def operation_list() -> str:
    """Every operation of ``keras.ops`` that has a rule."""
    return ", ".join(f"`{name}`" for name in operations()) + "."


def operations() -> list[str]:
    """Names in ``keras.ops`` of the operations that have a rule."""
    register_operations()
    classes = [c for c in RULES if not issubclass(c, layers.Layer) and c.__module__.startswith("keras.")]
    names = (re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower() for cls in classes)
    return sorted({name for name in names if hasattr(ops, name)})


# ------------------------------------------------------------------------------------------ what goes dense


class Sorted(layers.Layer):
    """A layer of somebody's own that takes numbers only."""

    def call(self, inputs: Any) -> Any:
        """Positions in order of their values."""
        if isinstance(inputs, keras.KerasTensor):
            raise TypeError("numbers only")
        return ops.sort(inputs, axis=1)

    def compute_output_spec(self, inputs: Any) -> Any:
        """As the input."""
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def scaled_by_maximum(x: Any) -> Any:
    """An activation function that looks at all positions."""
    return x / ops.max(ops.abs(x), axis=1, keepdims=True)


def one(layer: Any) -> Callable[[Any], Any]:
    return lambda x: layer(x)


def _attention(x: Any) -> Any:
    return layers.MultiHeadAttention(2, 4, name="it")(x, x)


def _masked(x: Any) -> Any:
    return layers.ReLU()(layers.Masking(name="it")(x))


def _after(x: Any) -> Any:
    return layers.Dense(2, name="it")(layers.Softmax(axis=1, name="softmax")(x))


#: Situation, layers that make it, what to do.
CASES: tuple[tuple[str, Callable[[Any], Any], str], ...] = (
    ("a layer that mixes all positions", _attention, "nothing: everything changes"),
    (
        "a layer of your own that cannot be opened",
        one(Sorted(name="it")),
        "write it in `keras.ops`, or [register a rule](your-own-layers.md)",
    ),
    (
        "an activation function of your own",
        one(layers.Conv1D(8, 5, activation=scaled_by_maximum, name="it")),
        "write an element-wise one with `keras.ops`, applied to the layer's output",
    ),
    (
        "a softmax over positions",
        one(layers.Softmax(axis=1, name="it")),
        "end the model before it and apply it to the results",
    ),
    (
        "a normalisation over positions",
        one(layers.LayerNormalization(axis=1, name="it")),
        "normalise over channels, if you are free to train again",
    ),
    (
        "a reshape that mixes positions",
        one(layers.Reshape((8, LENGTH * CHANNELS // 8 // 5, 5), name="it")),
        "split or join whole positions only",
    ),
    ("positions no longer the first axis", one(layers.Permute((2, 1), name="it")), "keep (length, channels)"),
    ("a Keras mask", _masked, "leave `Masking` out where no later layer uses the mask"),
    ("whatever follows a dense layer", _after, "look at the first dense row above it"),
)


def dense_table() -> str:
    """What goes dense: for each case, the reason that ``explain`` gives for a small model."""
    rows = []
    for situation, build, remedy in CASES:
        x = keras.Input((LENGTH, CHANNELS))
        explanation = FastISM(keras.Model(x, build(x)), test_correctness=False).explain()
        dense = [row for row in explanation.rows if row.state == "dense" and row.reason]
        chosen = next((row for row in dense if row.call == "it"), dense[0])
        rows.append((situation, f"`{chosen.kind}`: {chosen.reason}", remedy))
    return table(("the model has", "`explain` says", "to keep it local"), rows)


# ------------------------------------------------------------------------------------------ Basset


def basset() -> FastISM:
    """The plan of Basset; layer names are counted from the start, whatever was built before."""
    keras.utils.clear_session(free_memory=False)
    return FastISM(basset_model(), test_correctness=False)


def basset_plan() -> str:
    """The table of ``explain(500)``, without its last line, which depends on the backend."""
    lines = str(basset().explain(500)).splitlines()
    lines = [line for line in lines if "mutants at once" not in line]
    return "\n".join(["```text", *lines, "```"])


# ------------------------------------------------------------------------------------------ a result


@cache
def result() -> Any:
    """The map of the files that the pages read, in memory."""
    sys.path.insert(0, str(DOCS))
    import example_files

    from fastism.pipeline import map_regions
    from fastism.scorer import Scorer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        example_files.write(folder)
        scorer = Scorer(keras.models.load_model(folder / "model.keras"), start=400, end=600)
        return map_regions(scorer, folder / "genome.fa", folder / "peaks.bed", folder / "peaks.zarr")[0][:]


def peak(path: Path) -> None:
    """The map of the quickstart."""
    from fastism.plot import plot_scores

    logo, _ = plot_scores(result(), 0, start=475, end=545)
    logo.figure.savefig(path, dpi=150)


def report(path: Path) -> None:
    """The report of that result, as Chromium shows it."""
    from fastism.report import write_report

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise FileNotFoundError("there is no Chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        page, shot = Path(name) / "report.html", Path(name) / "report.png"
        write_report(page, result())
        flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --window-size=1536,960"
        flags += " --force-device-scale-factor=0.8333"  # 1280 pixels wide, with room for both motifs
        options = [*flags.split(), f"--user-data-dir={name}/profile", f"--screenshot={shot}"]
        subprocess.run([chromium, *options, page.as_uri()], check=True, capture_output=True, timeout=60)
        shutil.copyfile(shot, path)


#: What is made of each part that a page marks.
PARTS = {
    "layers": layer_table,
    "operations": operation_list,
    "dense": dense_table,
    "basset": basset_plan,
}

#: Pictures in images/, and how each is drawn into a file. `make docs` draws them anew into the site.
FIGURES: dict[str, Callable[[Path], object]] = {
    "plan_basset.png": lambda path: basset().plot(path, position=500),
    "peak.png": peak,
    "report.png": report,
}

if __name__ == "__main__":
    main()
