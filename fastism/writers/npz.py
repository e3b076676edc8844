"""The pair of npz files, sequences and attributions, that modisco-lite, FiNeMo and CREsted read."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastism.result import ISMScores
from fastism.writers.bed import stage_regions
from fastism.writers.files import as_json, atomic
from fastism.writers.values import about_attributions, base_order, check, placed, ready


def write_npz(
    prefix: str | os.PathLike[str],
    scores: ISMScores,
    *,
    target: int | str = 0,
    rule: str = "mean4",
    spelling: str = "tangermeme",
    orientation: str = "model",
    dtype: str = "float32",
    compress: bool = False,
    batch_size: int = 64,
) -> tuple[Path, Path]:
    """Write the one-hot sequences and the hypothetical attributions for one target as two npz files.

    ``modisco motifs -s PREFIX.ohe.npz -a PREFIX.attr.npz`` reads them.

    Args:
        prefix: What the names begin with; a folder and the target's name where ``spelling`` is ``"crested"``.
            ``{prefix}_regions.bed`` with the rows is written beside them where the scores have regions.
        scores: Scores of N sequences, in memory or on disk.
        target: Index or name.
        rule: ``"mean4"`` or ``"mean3"``, see :func:`fastism.scores.attribution`.
        spelling: ``"tangermeme"`` (also bpnet-lite's): ``{prefix}.ohe.npz`` and ``{prefix}.attr.npz``; or
            ``"crested"``: ``{prefix}_oh.npz`` and ``{prefix}_contrib.npz``.
        orientation: ``"model"``: as the model read them; ``"genome"``: rows on the minus strand turned to the plus one.
        dtype: ``"float32"``, ``"float64"``, or ``"float16"``, which is refused where a value does not fit.
        compress: Deflate the arrays; slower, and smaller by far for the sequences.
        batch_size: Sequences in memory at a time.

    Returns:
        The two paths. Both have ``arr_0`` (N, 4, L), the letters of DNA in the order ACGT: int8 one-hot, and float. The
        second has ``mask`` (N, L) too, False where there is no score and ``arr_0`` is 0, and where there are regions
        ``chrom``, ``start``, ``end``, ``strand``; both have ``metadata``, JSON text.

    Raises:
        ValueError: If an argument is unknown, or a value does not fit ``dtype``.
    """
    check(scores, rule=rule, orientation=orientation, dtype=dtype, batch_size=batch_size)
    index = scores.target(target)
    endings = {"tangermeme": (".ohe.npz", ".attr.npz"), "crested": ("_oh.npz", "_contrib.npz")}
    if spelling not in endings:
        raise ValueError(f"spelling is {spelling!r}; {' or '.join(map(repr, endings))} is accepted.")
    onehot, attributions = (Path(f"{os.fspath(prefix)}{ending}") for ending in endings[spelling])
    about = about_attributions(
        scores,
        index,
        rule,
        orientation=orientation,
        base_order=base_order(scores.alphabet),
        axes="arr_0 (sequence, base, position); mask (sequence, position)",
        stored=dtype,
    )
    n, length, letters = scores.sequences.shape
    with ExitStack() as stack:
        stage_regions(stack, f"{os.fspath(prefix)}_regions.bed", scores)
        mask = stack.enter_context(tempfile.TemporaryFile())  # an archive takes one array at a time
        archives = [stack.enter_context(_archive(path, compress)) for path in (onehot, attributions)]
        with (
            _array(archives[0], "arr_0", (n, letters, length), "int8") as first,
            _array(archives[1], "arr_0", (n, letters, length), dtype) as second,
        ):
            for batch in scores.batches(batch_size):
                found = ready(batch, index, rule, dtype=dtype, orientation=orientation)
                first.write(found.sequences.transpose(0, 2, 1).tobytes())
                second.write(found.hypothetical.transpose(0, 2, 1).tobytes())
                mask.write(found.mask.tobytes())
        mask.seek(0)
        with _array(archives[1], "mask", (n, length), "bool") as file:
            shutil.copyfileobj(mask, file)
        for archive in archives:
            for name, column in {**_columns(scores), "metadata": np.array(as_json(about))}.items():
                with _array(archive, name, column.shape, column.dtype) as file:
                    file.write(column.tobytes())
    return onehot, attributions


@contextmanager
def _archive(path: Path, compress: bool) -> Iterator[zipfile.ZipFile]:
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with atomic(path) as part, zipfile.ZipFile(part, "w", kind) as archive:
        yield archive


@contextmanager
def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: Any) -> Iterator[IO[bytes]]:
    """A member whose header is written; its values follow in C order, a few rows at a time."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(int(n) for n in shape)}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _columns(scores: ISMScores) -> dict[str, np.ndarray]:
    if scores.regions is None:
        return {"names": np.array(list(scores.names), "U")} if scores.names else {}
    regions = [placed(region, scores.length) for region in scores.regions]
    return {
        "chrom": np.array([region.chrom for region in regions], "U"),
        "start": np.array([region.start for region in regions], np.int64),
        "end": np.array([region.end for region in regions], np.int64),
        "strand": np.array([region.strand for region in regions], "U1"),
    }
