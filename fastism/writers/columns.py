"""Arrays on disk, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

BLOCK = 4096  # rows of a column that are read, and stored, together


class LazyRows(Sequence[Any]):
    """Rows of columns on disk, read in blocks when they are asked for."""

    def __init__(self, size: int, columns: Sequence[Any], make: Callable[..., Any]) -> None:
        self.size, self.columns, self.make = size, columns, make
        self.first, self.block = -1, []

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(self.size)[index]]
        row = range(self.size)[index]
        first = row - row % BLOCK
        if first != self.first:
            last = min(first + BLOCK, self.size)
            self.block = [
                self.make(*row) for row in zip(*(np.asarray(c[first:last]).tolist() for c in self.columns), strict=True)
            ]
            self.first = first
        return self.block[row - first]


class Checked:
    """An array of Zarr, of which a chunk that cannot be read is named with its store."""

    def __init__(self, array: Any, what: str) -> None:
        self._array, self._what = array, what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_array", "_what"):  # a copy that is still empty
            raise AttributeError(name)
        return getattr(self._array, name)

    def __len__(self) -> int:
        return self._array.shape[0]

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._array[key]
        except RuntimeError as error:  # of the codec
            raise ValueError(
                f"A chunk of {self._what} is broken, as after a copy that was cut short ({error}); copy or score it "
                "again."
            ) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


class FirstRows:
    """The first rows of an array that may have more, which do not count."""

    def __init__(self, array: Any, size: int) -> None:
        self.array, self.shape, self.dtype = array, (size, *array.shape[1:]), array.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        rows = range(self.shape[0])[first]
        if isinstance(rows, int):
            return np.asarray(self.array[(rows, *rest)])
        return np.asarray(self.array[(slice(rows.start, max(rows.stop, 0), rows.step), *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)
