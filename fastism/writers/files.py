"""Files that appear under their name only when they are whole, and libraries that are imported when they are needed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside ``path`` to write to; what is there is moved to ``path`` once all is written.

    When the writing fails, nothing is left. When the process is killed, a file ``.part-...`` is left beside ``path``.
    Either way, what stood under ``path`` before stands there still.

    Args:
        path: The final name. Its ending is kept, for libraries that choose a format by it.

    Yields:
        The name to write to, in the same folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        IsADirectoryError: If ``path`` is a folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic(f"{folder}/scores.tsv") as part:
        ...         count = part.write_text("whole")
        ...     Path(f"{folder}/scores.tsv").read_text()
        'whole'
    """
    final = Path(path)
    if final.is_dir():
        raise IsADirectoryError(f"{final} is a folder; the name of a file is accepted.")
    if not final.parent.is_dir():
        raise FileNotFoundError(f"{final}: the folder {final.parent} does not exist; create it first.")
    part = final.with_name(f".part-{uuid.uuid4().hex[:12]}-{final.name}")
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())  # or the new name might outlive a power cut that the contents do not
        os.replace(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def library(name: str, what: str) -> Any:
    """A module of the ``genome`` extra, imported when it is needed.

    Args:
        name: Its import name.
        what: What needs it, for the message.

    Raises:
        ImportError: If it is missing; the message names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{what}: {name.partition('.')[0]} cannot be imported ({error}). It comes with the genome extra: pip "
            'install "fastism[genome]".'
        ) from error


def plain(value: Any) -> Any:
    """A value as JSON holds it: NumPy numbers and arrays as numbers and lists, tuples as lists, the rest as text.

    Example:
        >>> plain({"shifts": (0, np.int64(1)), "path": Path("model.keras")})
        {'shifts': [0, 1], 'path': 'model.keras'}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def as_json(value: Any) -> str:
    """A value as JSON text on one line."""
    return json.dumps(plain(value), ensure_ascii=False)
