"""Models from files, whatever saved them, with a clear sentence where one cannot be loaded."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import keras

from fastism import backend
from fastism.errors import ModelError

#: Names of layers and functions in what Keras says of a model that it cannot make, and those that it always knows.
_NAMED = re.compile(
    r"(?:'registered_name': |'class_name': 'function', 'config': |Unknown (?:layer|object|function)[^']*)'([^']+)'"
)
_KNOWN = {"Functional", "Sequential", "function"}


def load_model(
    path: str | os.PathLike[str], *, custom: Mapping[str, Any] | None = None, unsafe_lambda: bool = False
) -> Any:
    """Load a trained model, without its optimiser and losses.

    Args:
        path: A ``.keras`` or ``.h5`` file, or the folder of a SavedModel. What only Keras 2 reads (SavedModels, some
            older ``.h5`` files) is loaded with ``tf_keras``, if that is installed and the backend is TensorFlow.
        custom: Custom layers and functions by name; see :func:`custom_objects`.
        unsafe_lambda: Run Python code that the file holds (``Lambda`` layers). Only for files that you trust.

    Returns:
        A Keras 3 model, or a Keras 2 model; :class:`~fastism.FastISM` takes both.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ModelError: If it cannot be loaded; the message says what to do.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(
            f"There is no model at {file}; a .keras or .h5 file or a SavedModel folder is accepted."
        )
    known = dict(custom or {})
    if file.is_dir():
        if not (file / "saved_model.pb").exists():
            raise ModelError(
                f"{file} is a folder without saved_model.pb; a .keras or .h5 file or a SavedModel is accepted."
            )
        return _keras2(file, known, "a SavedModel")
    if file.suffix.lower() not in (".keras", ".h5", ".hdf5"):
        raise ModelError(
            f"{file.name} ends in {file.suffix!r}; .keras, .h5, .hdf5 and SavedModel folders are accepted."
        )
    if file.suffix.lower() == ".keras" and not is_zipfile(file):
        raise ModelError(
            f"{file} cannot be loaded as a Keras model: it is no complete .keras file, which is a zip archive, but "
            f"{file.stat().st_size:,} bytes as after a copy that was cut short. Copy or save the model again."
        )
    try:
        return keras.models.load_model(file, custom_objects=known, compile=False, safe_mode=not unsafe_lambda)
    except Exception as error:
        if file.suffix.lower() != ".keras" and util.find_spec("tf_keras") and backend.name() == "tensorflow":
            try:
                return _keras2(file, known, "an .h5 file of Keras 2")
            except ModelError:
                pass
        raise ModelError(_why(file, error, unsafe_lambda)) from error


def _keras2(path: Path, custom: Mapping[str, Any], what: str) -> Any:
    if util.find_spec("tf_keras") is None or backend.name() != "tensorflow":
        raise ModelError(
            f"{path} is {what}, which Keras 3 does not read as a model. Install tf_keras (pip install tf_keras), with "
            "KERAS_BACKEND=tensorflow, and it is loaded with that; or save the model again as .keras."
        )
    try:
        return import_module("tf_keras").models.load_model(path, custom_objects=dict(custom), compile=False)
    except Exception as error:
        raise ModelError(_why(path, error, True)) from error


def _why(path: Path, error: Exception, unsafe: bool) -> str:
    """What went wrong, and what to do about it."""
    said = " ".join(str(error).split())
    short = said if len(said) < 400 else said[:400] + " ..."
    low = said.lower()
    if not unsafe and ("lambda" in low or "unsafe" in low or "safe_mode" in low):
        return (
            f"{path} holds Python code (a Lambda layer), which runs when the model is loaded. If you trust the file, "
            f"allow it: --unsafe-lambda, or load_model(..., unsafe_lambda=True). Keras says: {short}"
        )
    if "could not locate" in low or "unknown layer" in low or "custom_objects" in low or "registered" in low:
        needed = sorted({name.rpartition(">")[2] for name in _NAMED.findall(said)} - _KNOWN)
        missing = [name for name in needed if not hasattr(keras.layers, name)]
        which = f" ({', '.join(missing)})" if missing else ""
        return (
            f"{path} holds a layer or function that Keras does not know{which}. Name the code that defines it: "
            f"--custom module:Name, or load_model(..., custom={{'Name': Name}}). Keras says: {short}"
        )
    return f"{path} cannot be loaded as a Keras model: {type(error).__name__}: {short}"


def custom_objects(names: Sequence[str]) -> dict[str, Any]:
    """Custom objects named as ``module:Name``, from the working directory or what is installed.

    Args:
        names: Such as ``("my_layers:AttentionPool", "my_losses:poisson")``.

    Raises:
        ValueError: If a name has another form, or the module has no such name.
        ImportError: If a module cannot be imported.

    Example:
        >>> custom_objects(["collections:OrderedDict"])
        {'OrderedDict': <class 'collections.OrderedDict'>}
    """
    found = {}
    for name in names:
        module, colon, attribute = name.partition(":")
        if not (module and colon and attribute):
            raise ValueError(f"custom is {name!r}; module:Name is accepted, such as my_layers:AttentionPool.")
        here = os.getcwd()
        sys.path.insert(0, here)
        try:
            loaded = import_module(module)
        except ImportError as error:
            raise ImportError(f"custom is {name!r}, but module {module} cannot be imported: {error}.") from error
        finally:
            sys.path.remove(here)
        if not hasattr(loaded, attribute):
            raise ValueError(f"custom is {name!r}, but module {module} has no {attribute}.")
        found[attribute] = getattr(loaded, attribute)
    return found


def model_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a model's file, or of all files of its folder with their names.

    Args:
        path: As for :func:`load_model`.
    """
    file, digest = Path(path), hashlib.sha256()
    for part in sorted(p for p in file.rglob("*") if p.is_file()) if file.is_dir() else [file]:
        if file.is_dir():
            digest.update(part.relative_to(file).as_posix().encode() + b"\0")
        with part.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
