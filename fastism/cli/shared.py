"""What the commands share: options, models, errors, summaries."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

#: Exit code where no row was left, beside 0 and click's own: 1 for errors and 2 for wrong usage.
NOTHING_DONE = 3

Decorator = Callable[[Any], Any]


class Command(click.Command):
    """A command whose foreseeable errors are a sentence, not a traceback; ``FASTISM_TRACEBACK=1`` shows it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn errors that users can mend into click's."""
        try:
            return super().invoke(ctx)
        except (ImportError, OSError, ValueError, TypeError, MemoryError, RuntimeError) as error:
            if isinstance(error, click.exceptions.Exit) or os.environ.get("FASTISM_TRACEBACK"):
                raise
            raise click.ClickException(str(error) or type(error).__name__) from error
        except (LookupError, AttributeError, ArithmeticError, AssertionError) as error:  # ours, not the user's
            if os.environ.get("FASTISM_TRACEBACK"):
                raise
            raise click.ClickException(
                f"unexpected {type(error).__name__}: {error}. Please report it, with what FASTISM_TRACEBACK=1 shows."
            ) from error


def options(*decorators: Decorator) -> Decorator:
    """Several decorators as one, the first on top."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def numbers(_: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """A callback for integers separated by commas."""
    if value is None:
        return None
    try:
        return [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} received; integers separated by commas are accepted.") from None


def names(_: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """A callback for words separated by commas."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


model = options(
    click.option(
        "-m",
        "--model",
        "models",
        required=True,
        multiple=True,
        type=click.Path(exists=True),
        help="A .keras or .h5 file or a SavedModel; again for each fold, to average.",
    ),
    click.option("--custom", multiple=True, metavar="MODULE:NAME", help="A custom layer or function of the model."),
    click.option("--unsafe-lambda", is_flag=True, help="Allow Python code in the model file. Only if you trust it."),
)

outputs = options(
    click.option("--head", help="Which output of a model with several, by index or name."),
    click.option("-t", "--targets", callback=numbers, help="Indices of targets, separated by commas; all."),
    click.option("--target-names", callback=names, help="Their names, separated by commas."),
    click.option("--pseudocount", type=float, help="Of log2FC, divide, logSUM and logSED; their own by default."),
)

running = options(
    click.option("-bs", "--batch-size", default=None, type=click.IntRange(1), help="Mutants at once; automatic."),
    click.option("--memory", default="auto", help='What it may take, such as "4GB"; automatic.'),
    click.option("--progress/--no-progress", default=True, help="Show progress bars.  [default: progress]"),
)

ensemble = options(
    click.option("--rc", is_flag=True, help="Average over both strands."),
    click.option("--shifts", default="0", callback=numbers, help="Average over these shifts, such as 0,1,-1.  [0]"),
    click.option(
        "--strand-pairs",
        callback=numbers,
        help="With --rc: for each target that on the other strand, such as 1,0 for a profile of two strands.",
    ),
)


def load(models: Sequence[str], custom: Sequence[str], unsafe_lambda: bool) -> list[Any]:
    """The models, loaded."""
    from fastism.loading import custom_objects, load_model

    objects = custom_objects(custom)
    return [load_model(path, custom=objects, unsafe_lambda=unsafe_lambda) for path in models]


def head(value: str | None) -> int | str | None:
    """An output given as index or name."""
    return int(value) if value is not None and value.lstrip("-").isdecimal() else value


def metrics(names: Sequence[str], pseudocount: float | None) -> list[Any]:
    """The metrics of these names, with a pseudocount."""
    from fastism.metrics import get_metric

    found = [get_metric(name) for name in names]
    if pseudocount is None:
        return found
    if not any("pseudocount" in m.options for m in found):
        raise click.UsageError(f"--pseudocount does not go with {', '.join(names)}, which has none.")
    return [m.using(pseudocount=pseudocount) if "pseudocount" in m.options else m for m in found]


def engine_options(batch_size: int | None, memory: str) -> dict[str, Any]:
    """As FastISM takes them."""
    return {"batch_size": batch_size or "auto", "memory": memory}


def example(ism: Any, length: int) -> tuple[Any, int]:
    """A random sequence of this length with what else the model takes, as FastISM takes them; and A, its letters."""
    from fastism.check import random_inputs

    graph = ism._at(ism._graph, length=length).graph
    arrays = random_inputs(graph, graph.inputs[0], 1, 0)
    return arrays if len(arrays) > 1 else arrays[0], arrays[0].shape[2]


def hashes(models: Sequence[str]) -> dict[str, Any]:
    """Which models, for a file's metadata."""
    from fastism.loading import model_hash

    return {"model": [Path(m).name for m in models], "model_hash": [model_hash(m) for m in models]}


def size(count: float) -> str:
    """Bytes, as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds, as people read them."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
