"""A file beside the data with more keys of `.json` for its samples, such as wrong captions that were made later.

    {"key": "000000017", "negatives": [{"kind": "swap_nouns", "text": "…"}], "rewrites": ["…"]}

Each line is an object with the `key` of a sample; not every sample needs one. Only the place of each line is in memory,
16 bytes and a hash of the key, so that a large file costs little in every process that reads it.

Shape letters: n lines.
"""

import json
import os
from collections.abc import Iterator
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

KEY = "key"


@dataclass(frozen=True)
class Sidecar:
    """Where the line of each key is. Small to send to other processes, and safe for threads."""

    paths: tuple[str, ...]
    hash_n: NDArray[np.uint64]  # of the keys, ascending
    place_n: NDArray[np.int64]  # `[n, 3]`: the file, the first byte, the number of bytes

    def __len__(self) -> int:
        return len(self.hash_n)

    def __contains__(self, key: str) -> bool:
        return self._row(key) is not None

    def __call__(self, key: str) -> dict[str, object]:
        """The keys of a sample; none if it has no line."""
        row = self._row(key)
        return {} if row is None else self._line(row)

    @property
    def some_key(self) -> str:
        """The key of one line, for messages."""
        return str(json.loads(self._bytes(0))[KEY])

    def _row(self, key: str) -> int | None:
        hashed = xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))
        row = int(np.searchsorted(self.hash_n, np.uint64(hashed)))
        return row if row < len(self) and int(self.hash_n[row]) == hashed else None

    def _line(self, row: int) -> dict[str, object]:
        try:
            found: dict[str, object] = json.loads(self._bytes(row))
        except ValueError as error:
            raise BadSample("sidecar: changed while it was read") from error
        return {name: value for name, value in found.items() if name != KEY}

    def _bytes(self, row: int) -> bytes:
        file, start, size = self.place_n[row].tolist()
        return os.pread(_opened(self.paths[file], os.getpid()), size, start)


class MetaReader:
    """Reads the keys of `.json` of a sample, and those of a sidecar over them."""

    def __init__(self, sidecar: str | None) -> None:
        self._sidecar = open_sidecar(sidecar) if sidecar else None

    def __call__(self, key: str, files: Files) -> dict[str, object]:
        meta = decode_meta(files["json"]) if "json" in files else {}
        return meta if self._sidecar is None else meta | self._sidecar(key)


def sidecar_files(path: str) -> tuple[str, ...]:
    """The file itself, or the JSONL files of a folder."""
    found = sorted(map(str, Path(path).glob("*.jsonl"))) if os.path.isdir(path) else [path] * os.path.isfile(path)
    if not found:
        raise UserError(f"sidecar: {path} is not a JSONL file or a folder of them; correct the path")
    return tuple(found)


def open_sidecar(path: str) -> Sidecar:
    """Reads the keys of all lines, once in a process as long as the files do not change."""
    paths = sidecar_files(path)
    return _indexed(paths, tuple((os.path.getsize(one), os.stat(one).st_mtime_ns) for one in paths))


@lru_cache
def _indexed(paths: tuple[str, ...], state: tuple[tuple[int, int], ...]) -> Sidecar:
    hashes, places = [], []
    for file, path in enumerate(paths):
        for key, start, size in _lines(path):
            hashes.append(xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")))
            places.append((file, start, size))
    hash_n, place_n = np.array(hashes, dtype=np.uint64), np.array(places, dtype=np.int64).reshape(-1, 3)
    order_n = np.argsort(hash_n, kind="stable")
    sidecar = Sidecar(paths, hash_n[order_n], place_n[order_n])
    twice = np.flatnonzero(sidecar.hash_n[1:] == sidecar.hash_n[:-1])
    if len(twice):
        key = json.loads(sidecar._bytes(int(twice[0])))[KEY]
        raise UserError(f"sidecar: {paths[0]} has two lines for the key `{key}`; keep one line for each sample")
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
def _opened(path: str, process: int) -> int:
    """One descriptor for all threads of a process; `pread` moves no position that they would share."""
    return os.open(path, os.O_RDONLY)
