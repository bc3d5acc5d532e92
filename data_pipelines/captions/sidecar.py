"""A file beside the data with more keys of `.json` for its samples, such as wrong captions that were made later.

    {"key": "000000017", "negatives": [{"kind": "swap_nouns", "text": "…"}], "rewrites": ["…"]}

Each line is an object with the `key` of a sample; not every sample needs one. Of several files, each may have a line
for a sample: the keys of the last file lie over those of the others. Only the place of each line and a hash of its key
are in memory, 32 bytes, so that a large file costs little in every process that reads it.

Shape letters: n lines.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.source import Files
from tercet.errors import UserError
from tercet.whole_file import whole_file

KEY, CLASS = "key", "cls"
Row = dict[str, object]  # a line: the key of a sample, and more keys


@dataclass(frozen=True)
class Sidecar:
    """Where the line of each key is. Small to send to other processes, and safe for threads."""

    paths: tuple[str, ...]
    states: tuple[tuple[int, int], ...]  # of the files: their sizes and times
    hash_n: NDArray[np.uint64]  # of the keys, ascending
    place_n: NDArray[np.int64]  # `[n, 3]`: the file, the first byte, the number of bytes

    def __len__(self) -> int:
        return len(self.hash_n)

    def __contains__(self, key: str) -> bool:
        return len(self._rows(key)) > 0

    def __call__(self, key: str) -> dict[str, object]:
        """The keys of a sample; none if it has no line."""
        found: dict[str, object] = {}
        for row in self._rows(key):
            found |= self._line(row)
        return found

    @property
    def some_key(self) -> str:
        """The key of one line, for messages."""
        return str(json.loads(self._bytes(0))[KEY])

    def _rows(self, key: str) -> range:
        hashed = np.uint64(xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")))
        first, last = (int(np.searchsorted(self.hash_n, hashed, side)) for side in ("left", "right"))
        return range(first, last)

    def _line(self, row: int) -> dict[str, object]:
        try:
            found: dict[str, object] = json.loads(self._bytes(row))
        except ValueError as error:
            raise BadSample("sidecar: changed while it was read") from error
        return {name: value for name, value in found.items() if name != KEY}

    def _bytes(self, row: int) -> bytes:
        file, start, size = self.place_n[row].tolist()
        return os.pread(_opened(self.paths[file], self.states[file], os.getpid()), size, start)


class MetaReader:
    """Reads the keys of `.json` of a sample, and those of a sidecar over them. What `.cls` holds is the key `label`."""

    def __init__(self, sidecar: str | None) -> None:
        self._sidecar = open_sidecar(sidecar) if sidecar else None

    def __call__(self, key: str, files: Files) -> dict[str, object]:
        meta: dict[str, object] = {"label": _number_or_name(files[CLASS])} if CLASS in files else {}
        meta |= decode_meta(files["json"]) if "json" in files else {}
        return meta if self._sidecar is None else meta | self._sidecar(key)


def _number_or_name(data: bytes) -> int | str:
    """A class as webdataset writes it."""
    text = data.decode("utf-8", "replace").strip()
    return int(text) if text.isdecimal() else text


def sidecar_files(path: str) -> tuple[str, ...]:
    """The file itself, or the JSONL files of a folder."""
    found = sorted(map(str, Path(path).glob("*.jsonl"))) if os.path.isdir(path) else [path] * os.path.isfile(path)
    if not found:
        raise UserError(f"sidecar: {path} is not a JSONL file or a folder of them; correct the path")
    return tuple(found)


def open_sidecar(path: str) -> Sidecar:
    """Reads the keys of all lines, once in a process as long as the files do not change."""
    return _indexed(*_states(path))


def sidecar_state(path: str | None) -> str:
    """Differs when a file was replaced under the same name. Empty without a sidecar."""
    return "" if path is None else json.dumps(_states(path))


def _states(path: str) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    paths = sidecar_files(path)
    return paths, tuple((os.path.getsize(one), os.stat(one).st_mtime_ns) for one in paths)


@lru_cache
def _indexed(paths: tuple[str, ...], states: tuple[tuple[int, int], ...]) -> Sidecar:
    hashes, places = [], []
    for file, path in enumerate(paths):
        for key, start, size in _lines(path):
            hashes.append(xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")))
            places.append((file, start, size))
    hash_n, place_n = np.array(hashes, dtype=np.uint64), np.array(places, dtype=np.int64).reshape(-1, 3)
    order_n = np.argsort(hash_n, kind="stable")
    sidecar = Sidecar(paths, states, hash_n[order_n], place_n[order_n])
    same_file_n = sidecar.place_n[1:, 0] == sidecar.place_n[:-1, 0]
    twice = np.flatnonzero((sidecar.hash_n[1:] == sidecar.hash_n[:-1]) & same_file_n)
    if len(twice):
        key, path = json.loads(sidecar._bytes(int(twice[0])))[KEY], paths[sidecar.place_n[twice[0], 0]]
        raise UserError(f"sidecar: {path} has two lines for the key `{key}`; keep one line for each sample")
    return sidecar


def _lines(path: str) -> Iterator[tuple[str, int, int]]:
    """The key, the first byte and the number of bytes of each line."""
    start = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _key(path, number, line), start, len(line)
            start += len(line)


def _key(path: str, number: int, line: bytes) -> str:
    try:
        key = json.loads(line)[KEY]
    except (ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str):
        raise UserError(f'sidecar: line {number} of {path} is not an object with the "key" of a sample; correct it')
    return key


@lru_cache
def _opened(path: str, state: tuple[int, int], process: int) -> int:
    """One descriptor for all threads of a process; `pread` moves no position that they would share. A file that was
    replaced is opened again."""
    return os.open(path, os.O_RDONLY)


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes the sidecar, which gets its name only when it is complete. Returns the number of lines."""
    count = 0
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", errors="backslashreplace") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
