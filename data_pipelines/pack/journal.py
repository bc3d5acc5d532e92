"""A log of the finished shards: after a kill, packing resumes with the others."""

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tercet.data_pipelines.manifests.entry import LeftOut
from tercet.whole_file import sync, write_whole

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
        # without the half line that a kill may have left at its end
        write_whole(path, b"".join(map(_line, self.packed.values())))

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
    sync(path.parent)
    return size, digest.hexdigest()


def _line(packed: Packed) -> bytes:
    return json.dumps(packed._asdict(), ensure_ascii=False).encode() + b"\n"
