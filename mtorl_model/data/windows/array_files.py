"""Arrays in .npy files, written a few rows at a time and mapped into memory."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class ArrayFiles:
    """Writes arrays to .npy files, a few rows at a time."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._paths = [folder / f"{name}.npy" for name in names]
        self._open = ExitStack()
        self._like: tuple[Array, ...] = ()
        self.rows = 0

    def __enter__(self) -> "ArrayFiles":
        self._files = [self._open.enter_context(path.open("wb")) for path in self._paths]
        return self

    def add(self, arrays: tuple[Array, ...]) -> None:
        """Append the rows of the arrays, which are in the order of the names."""
        for file, array in zip(self._files, arrays, strict=True):
            if not self._like:
                _write_header(file, array, 0)
            file.write(array.tobytes())
        self._like = arrays
        self.rows += len(arrays[0])

    def __exit__(self, *_: object) -> None:
        with self._open:
            for file, array in zip(self._files, self._like, strict=False):
                file.seek(0)
                _write_header(file, array, self.rows)


def _write_header(file: BinaryIO, like: npt.NDArray[Any], rows: int) -> None:
    """Write the .npy header of an array of `rows` rows like those of `like`.

    NumPy pads headers, so that a header with another number of rows has the same length and can replace this one.
    """
    header = {"descr": like.dtype.str, "fortran_order": False, "shape": (rows, *like.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)


def mapped(path: Path) -> Array:
    """The array of a file, read where it is used."""
    array: Array = np.load(path, mmap_mode="r")
    return array
