"""What the command lines of the benchmarks share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import devices
from benchmarks.machine import BACKENDS, installed_backends
from benchmarks.report import FOLDER, update_document

Table = Callable[[Mapping[str, Any]], str]


def parse_names(accepted: Sequence[str]) -> Callable[..., list[str] | None]:
    """A callback for names separated by commas."""

    def parse(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
        names = None if value is None else [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names or [] if name not in accepted]
        if unknown or names == []:
            raise click.BadParameter(f"{value!r} received; accepted, separated by commas: {', '.join(accepted)}.")
        return names

    return parse


def parse_numbers(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    """A callback for positive numbers separated by commas."""
    if not all(v.strip().isdecimal() and int(v) > 0 for v in value.split(",")):
        raise click.BadParameter(f"{value!r} received; positive numbers separated by commas are accepted.")
    return [int(v) for v in value.split(",")]


def models(accepted: Sequence[str]) -> Callable[..., Any]:
    """The option ``--models``."""
    return click.option(
        "--models", callback=parse_names(accepted), help=f"Separated by commas, of {', '.join(accepted)}; all."
    )


backends = click.option(
    "--backends", callback=parse_names(BACKENDS), help="Separated by commas; all that are installed."
)


device = click.option(
    "--device",
    type=click.Choice([devices.CPU, devices.GPU]),
    callback=lambda _, __, value: devices.choose(value),
    help="The GPU if there is one, else the processor.",
)


def files(name: str) -> Callable[..., Any]:
    """The options ``--output``, ``--table`` and ``--update-docs`` of the benchmark of this name."""
    help_ = f"JSON file; benchmarks/results/{name}.json, {name}_gpu.json on a GPU."
    shared = (
        click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help=help_),
        click.option("--table", "only_table", is_flag=True, help="Measure nothing; print the table of a file."),
        click.option("--update-docs", is_flag=True, help="Measure nothing; put that table into the documentation."),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(shared):
            command = option(command)
        return command

    return decorate


def chosen_backends(names: Sequence[str] | None) -> list[str]:
    """Those asked for, or all that are installed."""
    found = list(names or installed_backends())
    if not found:
        raise click.ClickException(f"None of {', '.join(BACKENDS)} is installed.")
    return found


def place(options: Mapping[str, Any], name: str) -> Path:
    """The JSON file of the benchmark of this name: what ``--output`` says, or that of the device."""
    on_gpu = options.get("device") == devices.GPU
    return options["output"] or FOLDER / f"{name}{'_gpu' * on_gpu}.json"


def shown(options: Mapping[str, Any], path: Path, table: Table, places: Mapping[tuple[Path, str], Table]) -> bool:
    """Do what ``--table`` and ``--update-docs`` ask for.

    Args:
        options: Those of the command.
        path: JSON file.
        table: What is printed of it.
        places: Document and marker, and what is put there. Of a GPU, markers end on ``-gpu``.

    Returns:
        Whether anything was asked for.
    """
    if not (options["only_table"] or options["update_docs"]):
        return False
    report = read(path)
    click.echo(table(report))
    if options["update_docs"]:
        for (document, name), make in places.items():
            name += "-gpu" * (options.get("device") == devices.GPU)
            done = update_document(document, name, make(report))
            said = "updated" if done else "left alone, it has no markers"
            click.echo(f"{document}, {name}: {said}", err=True)
    return True


def read(path: Path) -> dict[str, Any]:
    """A report, or a message that there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.ClickException(
            f"{path} does not exist; measure first, or name another file with --output."
        ) from None
