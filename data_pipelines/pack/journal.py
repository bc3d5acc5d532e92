"""A log of the finished shards: after a kill, packing resumes with the others."""

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tercet.data_pipelines.manifests.entry import LeftOut

AT_ONCE = 2**20


class Packed(NamedTuple):
    """A finished shard and the rows that it had to leave out; one whose rows were all left out is no file."""

    shard: int
    name: str
    samples: int
    bytes: int
    sha256: str
    left_out: tuple[LeftOut, ...]


class Journal:
    """A line of JSON for each finished shard, on disk before the next shard is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packed = {packed.shard: packed for packed in self._finished()}
        draft = path.with_name(path.name + ".tmp")
        draft.write_bytes(b"".join(map(_line, self.packed.values())))
        os.replace(draft, path)  # without the half line that a kill may have left at its end

    def append(self, packed: Packed) -> None:
        with self.path.open("ab") as lines:
            lines.write(_line(packed))
            lines.flush()
            os.fsync(lines.fileno())
        self.packed[packed.shard] = packed

    def _finished(self) -> Iterator[Packed]:
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        for line in lines:
            if line.endswith(b"\n"):
                fields = json.loads(line)
                packed = Packed(**{**fields, "left_out": tuple(LeftOut(*row) for row in fields["left_out"])})
                file = self.path.parent / packed.name
                if not packed.samples or (file.is_file() and file.stat().st_size == packed.bytes):
                    yield packed


def seal(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file that is on disk once this returns."""
    digest = sha256()
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while block := file.read(AT_ONCE):
            digest.update(block)
        size = file.tell()
    sync_folder(path.parent)
    return size, digest.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Writes the file atomically: it gets its name only when it is complete."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _line(packed: Packed) -> bytes:
    return json.dumps(packed._asdict(), ensure_ascii=False).encode() + b"\n"
