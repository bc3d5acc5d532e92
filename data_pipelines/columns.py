"""Columns: values of samples in files beside a run or beside shards, for selecting or weighting samples later.

    FOLDER/FINGERPRINT/000000000000.safetensors   ids 0 to 1,048,575 of the source with this fingerprint
    FOLDER/FINGERPRINT/000001048576.safetensors   the next ones, and so on

A file holds `id` [n], the ids within the source in ascending order, and each value [n, …] under its name. It omits
samples without values. Files are replaced atomically, so a reader never sees half of one. Several processes may instead
write a part of a column each: the name of a file is then the first id in it. A manifest may say what the values are.

Shape letters: n samples of a file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from xxhash import xxh3_128

from tercet.errors import UserError
from tercet.whole_file import whole_file

COLUMNS = "columns"  # the folder of columns within a run
PIECE = 2**20  # ids of one file
BLOCK = 2**20  # bytes that are hashed at once

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """The values, by name, of the samples with these ids."""

    id_n: NDArray[np.int64]
    values: Values


def write_column(folder: Path, fingerprint: str, column: Column) -> None:
    """Replaces every file that holds one of the ids. So pass all samples of a file's range of ids at once."""
    order = np.argsort(column.id_n, kind="stable")
    piece_n = column.id_n[order] // PIECE
    for piece in np.unique(piece_n).tolist():
        rows = order[piece_n == piece]
        values = {name: value[rows] for name, value in column.values.items()}
        _write_file(_place(folder, fingerprint), piece * PIECE, Column(column.id_n[rows], values))


def write_part(folder: Path, fingerprint: str, column: Column) -> Path:
    """Writes a part of a new column, whose ids ascend, as one file. Parts must not overlap."""
    return _write_file(_place(folder, fingerprint), int(column.id_n[0]), column)


def _write_file(place: Path, first: int, column: Column) -> Path:
    path = place / f"{first:012d}.safetensors"
    with whole_file(path) as draft:
        save_file({"id": column.id_n, **column.values}, draft)
    return path


def column_files(folder: Path, fingerprint: str) -> list[Path]:
    """The files of the column of a source."""
    return sorted(_place(folder, fingerprint).glob("*.safetensors"))


def has_column(folder: Path, fingerprint: str) -> bool:
    return _place(folder, fingerprint).is_dir()


def read_pieces(folder: Path, fingerprint: str) -> Iterator[Column]:
    """The column of a source, one file at a time, in the order of the ids."""
    place = _place(folder, fingerprint)
    if not place.is_dir():
        raise UserError(
            f"{folder} has no values for the source with fingerprint {fingerprint}, so its samples changed. "
            "Compute the values again"
        )
    for path in column_files(folder, fingerprint):
        values = load_file(path)
        yield Column(values.pop("id"), values)


def read_column(folder: Path, fingerprint: str) -> Column:
    """The whole column of a source."""
    pieces = list(read_pieces(folder, fingerprint))
    names = pieces[0].values if pieces else {}
    values = {name: np.concatenate([piece.values[name] for piece in pieces]) for name in names}
    return Column(np.concatenate([piece.id_n for piece in pieces]), values)


def read_values(folder: Path, fingerprint: str, name: str, ids: Sequence[int]) -> dict[int, NDArray[Any]]:
    """A value of these samples by id, read without the rest of the column. Samples without values are missing."""
    found: dict[int, NDArray[Any]] = {}
    for piece in sorted({id // PIECE for id in ids}):
        path = _place(folder, fingerprint) / f"{piece * PIECE:012d}.safetensors"
        if path.is_file():
            with safe_open(path, "numpy") as file:
                values, rows = file.get_slice(name), _rows(file, [id for id in ids if id // PIECE == piece])
                found |= {id: values[row : row + 1][0] for id, row in rows.items()}
    return found


def _rows(file: Any, ids: Sequence[int]) -> dict[int, int]:
    """The row of each sample in a file. If no sample between the first and the last is missing, `id` is not read."""
    known = file.get_slice("id")
    count = known.get_shape()[0]
    first, last = (int(known[at : at + 1][0]) for at in (0, count - 1))
    if last - first == count - 1:
        return {id: id - first for id in ids if first <= id <= last}
    id_n = file.get_tensor("id")
    rows = np.searchsorted(id_n, ids).clip(max=count - 1).tolist()
    return {id: row for id, row in zip(ids, rows, strict=True) if id_n[row] == id}


def column_digest(folder: Path, fingerprint: str) -> str:
    """A hash of the files of the column of a source."""
    state = xxh3_128()
    for path in column_files(folder, fingerprint):
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                state.update(block)
    return state.hexdigest()[:16]


def read_manifest(path: Path, command: str, prefix: str = "") -> Any:
    """The JSON file that says what a folder of columns holds. `command` writes the folder, whose name follows it.
    `prefix`: the beginning of the error."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{prefix}{path.parent} has no {path.name}; write it: {command} {path.parent}") from None


def _place(folder: Path, fingerprint: str) -> Path:
    return folder / fingerprint.replace(" ", "_")
