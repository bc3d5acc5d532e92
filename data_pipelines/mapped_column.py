"""Reads a value of some samples of a source from the files of its column, and leaves the others on the disk.

The files are mapped into memory, so the system keeps what is read often and drops the rest. In a file whose ids
have no gaps, the row of a sample follows from the first id, and the other ids are not read.

Shape letters: n samples to read, m samples of a file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.columns import column_files
from tercet.errors import UserError

TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}  # of safetensors, by their names


@dataclass(frozen=True)
class MappedFile:
    """The ids of a file, ascending, and a value of each. `dense`: no id between the first and the last is missing."""

    id_m: NDArray[np.int64]
    value_m: NDArray[Any]
    first: int
    last: int

    @property
    def dense(self) -> bool:
        return self.last - self.first == len(self.id_m) - 1


class MappedColumn:
    """The value `name` of the samples of one source. Another process that gets it opens the files again."""

    def __init__(self, folder: Path, fingerprint: str, name: str) -> None:
        self._opened = (folder, fingerprint, name)
        files = [_mapped(path, name) for path in column_files(folder, fingerprint)]
        self._files = sorted((file for file in files if file is not None), key=lambda file: file.first)
        if not self._files:
            raise UserError(f"{folder} has no values `{name}` for the source with fingerprint {fingerprint}")
        self._first_f = np.array([file.first for file in self._files])
        self.shape: tuple[int, ...] = self._files[0].value_m.shape[1:]
        self.dtype = self._files[0].value_m.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedColumn, self._opened

    def __len__(self) -> int:
        return sum(len(file.id_m) for file in self._files)

    def rows(self, id_n: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The values of these samples, in any order, and which of them have one. The others get zeros."""
        value_n = np.zeros((len(id_n), *self.shape), dtype=self._files[0].value_m.dtype)
        return value_n, self.read(id_n, value_n)

    def read(
        self, id_n: NDArray[np.int64], value_n: NDArray[Any], at_n: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Writes the values of these samples into `value_n`, and returns which of them have one. The rows of the others
        do not change. `at_n`: writes one entry of each value, the one at this place of its first axis."""
        has_n = np.zeros(len(id_n), dtype=bool)
        file_n = np.searchsorted(self._first_f, id_n, side="right") - 1
        for index in np.unique(file_n[file_n >= 0]).tolist():
            file, at_k = self._files[index], np.flatnonzero(file_n == index)
            row_k, has_k = _rows(file, id_n[at_k])
            order_k = np.argsort(row_k[has_k])  # so that the disk reads forwards
            at_k, row_k = at_k[has_k][order_k], row_k[has_k][order_k]
            value_n[at_k] = file.value_m[row_k] if at_n is None else file.value_m[row_k, at_n[at_k]]
            has_n[at_k] = True
        return has_n


def _rows(file: MappedFile, id_k: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The row of each sample in a file, and whether it is there."""
    if file.dense:
        return id_k - file.first, id_k <= file.last
    row_k = np.searchsorted(file.id_m, id_k).clip(max=len(file.id_m) - 1)
    return row_k, file.id_m[row_k] == id_k


def _mapped(path: Path, name: str) -> MappedFile | None:
    """None if the file lacks the value, or holds no samples."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    if name not in header or not header["id"]["shape"][0]:
        return None
    id_m, value_m = (_array(path, header[key], 8 + size) for key in ("id", name))
    return MappedFile(id_m, value_m, int(id_m[0]), int(id_m[-1]))


def _array(path: Path, about: dict[str, Any], start: int) -> NDArray[Any]:
    begin = start + about["data_offsets"][0]
    return np.memmap(path, TYPES[about["dtype"]], "r", begin, tuple(about["shape"]))
