"""Other packages, in virtual environments of their own: made on the first run, asked through files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import devices
from benchmarks.processes import last_line


def python_in(folder: Path, *installs: Sequence[str]) -> Path:
    """The Python of a virtual environment, made if it is not there; packages are installed in these steps."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / ".done").exists():
        click.echo(f"Making {folder} with {', '.join(p for packages in installs for p in packages)} ...", err=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages in installs:
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        (folder / ".done").touch()
    return python


def ask(python: Path, script: Path, request: Mapping[str, Any], folder: Path, timeout: float) -> dict[str, Any]:
    """Run a script that reads a request as JSON and writes its answer into the folder, without a GPU.

    Raises:
        RuntimeError: If it fails, with the last that it said.
        subprocess.TimeoutExpired: If it takes longer than ``timeout`` seconds.
    """
    unset = ("PYTHONPATH", "KERAS_BACKEND")
    asked = {**request, "outputs": str(folder / "outputs.npz"), "answer": str(folder / "answer.json")}
    done = subprocess.run(
        [str(python), "-I", str(script)],  # -I: no module beside the script may stand for one of Python's own
        input=json.dumps(asked),
        cwd=folder,  # not the repository, whose own package may have the same name
        env={**{k: v for k, v in os.environ.items() if k not in unset}, **devices.HIDDEN},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(last_line(done.stderr) if done.stderr.strip() else f"ended with code {done.returncode}")
    return json.loads((folder / "answer.json").read_text(encoding="utf-8"))
